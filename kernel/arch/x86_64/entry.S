/* SPDX-License-Identifier: MIT */
/*
 * Into the kernel and out again.
 *
 * Every way in ends with a complete struct trap_frame at the top of the
 * thread's kernel stack and a call into C; GS points to the CPU's block from
 * the `swapgs` on.  Every way out to user mode looks at thread->arch.work and
 * cpu->need_resched with interrupts off, so that nothing is missed.
 *
 * SYSRET faults in kernel mode, on the user's stack, when the return address is
 * not canonical (Intel).  So a frame leaves by SYSRET only where a system call
 * made it and its rip lies in the lower 47 bits; all others leave by IRETQ.  That
 * faults in kernel mode too, with the user's GS, so return_to_user has had
 * trap_return_work() refuse a rip outside the user half before.  What
 * replaces all registers (exec, sigreturn) changes frame.vector and thereby
 * leaves by IRETQ.
 */
#include <asm.h>
#include <quire/config.h>

/* Where the CPU arrives by SYSCALL, a gate or an indirect branch (CET). */
.macro LANDING_PAD
#ifdef CONFIG_BRANCH_TRACKING
    endbr64
#endif
.endm

/* Push what the CPU or the stub has not: rdi downwards in struct trap_frame. */
.macro PUSH_REGISTERS
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rax
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

.macro POP_CALLER_SAVED
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
.endm

.macro POP_REGISTERS
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    POP_CALLER_SAVED
.endm

    .text

/* ---- System calls ----------------------------------------------------------- */

    .globl syscall_entry
    .align 64
syscall_entry:
    LANDING_PAD
    swapgs
    movq %rsp, %gs:CPU_USER_SP
    movq %gs:CPU_KERNEL_SP, %rsp
    pushq $USER_DS
    pushq %gs:CPU_USER_SP
    pushq %r11                  /* rflags */
    pushq $USER_CS
    pushq %rcx                  /* rip */
    pushq %rax                  /* code: the number */
    pushq $SYSCALL_VECTOR
    PUSH_REGISTERS
    movq %rsp, %rdi
    sti
    call syscall_dispatch
    cli
    movq %gs:CPU_CURRENT, %rax
    movl THREAD_WORK(%rax), %eax
    orl %gs:CPU_NEED_RESCHED, %eax
    jnz return_to_user
syscall_leave:
    cmpq $SYSCALL_VECTOR, FRAME_VECTOR(%rsp)
    jne return_to_user
    movq FRAME_RIP(%rsp), %rcx
    movq %rcx, %rax
    shrq $47, %rax
    jnz return_to_user
    movq FRAME_RFLAGS(%rsp), %r11
    testl $0x10100, %r11d       /* RF, TF: SYSRET would drop or take them too early */
    jnz iret_to_user
    addq $48, %rsp              /* the callee-saved ones hold their values still */
    popq %r10                   /* r11's place */
    popq %r10
    popq %r9
    popq %r8
    popq %rax
    popq %rdx                   /* rcx's place */
    popq %rdx
    popq %rsi
    popq %rdi
    movq 40(%rsp), %rsp         /* over vector, code, rip, cs, rflags */
    swapgs
    sysretq

/* 32-bit code has no system calls here: behave as for a number that does not exist. */
    .globl syscall_entry32
syscall_entry32:
    LANDING_PAD
    movl $-38, %eax
    sysretl

/* ---- Exceptions and interrupts ------------------------------------------------ */

    .align 16
interrupt_common:
    cld
    testb $3, FRAME_CS - FRAME_VECTOR(%rsp)
    jz interrupt_from_kernel
    swapgs
    PUSH_REGISTERS
    cmpb $0, qr_x86_smap(%rip)
    je 1f
    clac
1:  movq %rsp, %rdi
    call trap_dispatch

/* Interrupts are off; the frame at %rsp is the user's. */
    .globl return_to_user
return_to_user:
    cli
    movq %gs:CPU_CURRENT, %rax
    movl THREAD_WORK(%rax), %eax
    orl %gs:CPU_NEED_RESCHED, %eax
    jnz 2f
    movq FRAME_RIP(%rsp), %rax
    shrq $47, %rax
    jz iret_to_user
2:  movq %rsp, %rdi
    call trap_return_work
iret_to_user:
    POP_REGISTERS
    addq $16, %rsp
    swapgs
    iretq

interrupt_from_kernel:
    PUSH_REGISTERS
    cmpb $0, qr_x86_smap(%rip)
    je 1f
    clac
1:  movq %rsp, %rdi
    call trap_dispatch
    POP_REGISTERS
    addq $16, %rsp
    iretq

/*
 * Exceptions with a stack of their own (NMI, double fault, machine check, debug)
 * arrive at any instruction of the kernel, also between `swapgs` and the rest:
 * GS is the kernel's where it points into `cpus`.  From user mode there is
 * nothing special: they go on on the thread's own stack.
 */
paranoid_common:
    cld
    PUSH_REGISTERS
    testb $3, FRAME_CS(%rsp)
    jnz paranoid_from_user
    xorl %ebx, %ebx
    movl $0xc0000101, %ecx      /* MSR_GS_BASE */
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    subq $cpus, %rax
    cmpq cpus_bytes(%rip), %rax
    jb 1f
    swapgs
    incl %ebx
1:  cmpb $0, qr_x86_smap(%rip)
    je 2f
    clac
2:  movq %rsp, %rdi
    call trap_dispatch
    testl %ebx, %ebx
    jz 3f
    swapgs
3:  POP_REGISTERS
    addq $16, %rsp
    iretq

paranoid_from_user:
    swapgs
    cmpb $0, qr_x86_smap(%rip)
    je 1f
    clac
1:  movq %rsp, %rsi
    movq %gs:CPU_KERNEL_SP, %rsp
    subq $FRAME_BYTES, %rsp
    movq %rsp, %rdi
    movl $FRAME_BYTES / 8, %ecx
    rep movsq
    movq %rsp, %rdi
    call trap_dispatch
    jmp return_to_user

/* One stub a vector: push an error code where the CPU does not, and the vector. */
    .set vector, 0
    .align 16
stubs:
.rept 256
    .balign 16
    LANDING_PAD
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 \
          || vector == 29 || vector == 30)
    pushq $0
    .endif
    pushq $vector
    .if vector == VECTOR_NMI || vector == VECTOR_DOUBLE_FAULT || vector == VECTOR_DEBUG \
        || vector == VECTOR_MACHINE_CHECK
    jmp paranoid_common
    .else
    jmp interrupt_common
    .endif
    .set vector, vector + 1
.endr

    .section .rodata
    .globl vector_stubs
    .align 8
vector_stubs:
    .set vector, 0
.rept 256
    .quad stubs + 16 * vector
    .set vector, vector + 1
.endr

/* ---- Threads ------------------------------------------------------------------ */

    .text
/* void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp) */
    .globl switch_stacks
switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret

/* First code of a thread: switch_stacks() "returns" here.  rbx: function, r12: argument. */
    .globl thread_start_kernel
thread_start_kernel:
    call sched_switched
    sti
    movq %r12, %rdi
    call *%rbx
    ud2

    .globl thread_start_user
thread_start_user:
    call sched_switched
    jmp return_to_user

/* void enter_user(struct trap_frame *frame): the frame is at the top of the stack. */
    .globl enter_user
enter_user:
    cli
    movq %rdi, %rsp
    xorl %ebp, %ebp
    jmp return_to_user

    .section .note.GNU-stack, "", @progbits
