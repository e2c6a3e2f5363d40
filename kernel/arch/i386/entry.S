/* SPDX-License-Identifier: MIT */
/*
 * Into the kernel and out again.
 *
 * Every way in is a gate that turns interrupts off, and every frame has the same
 * form: the user's segment registers are saved and the kernel's loaded, from
 * kernel mode too, so that it does not matter what an interrupt found in them.
 * FS points to the CPU's block; GS is null in the kernel.
 *
 * On the way out a segment register may not load any more (a program deleted its
 * thread descriptor): the fix-up puts a null selector in its place.  The return
 * itself cannot fault: CS and SS are ours, whatever the user had, and an address
 * in the kernel half becomes the user's page fault.
 *
 * A double fault is a task of its own with its own stack (descriptors.c).
 */
#include <asm.h>

/* Push what the CPU or the stub has not: gs downwards in struct trap_frame. */
.macro PUSH_REGISTERS
    pushl %gs
    pushl %fs
    pushl %es
    pushl %ds
    pushl %eax
    pushl %ebp
    pushl %edi
    pushl %esi
    pushl %edx
    pushl %ecx
    pushl %ebx
.endm

.macro POP_GENERAL
    popl %ebx
    popl %ecx
    popl %edx
    popl %esi
    popl %edi
    popl %ebp
    popl %eax
.endm

.macro LOAD_SEGMENTS
    movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl $KERNEL_CPU, %eax
    movl %eax, %fs
    xorl %eax, %eax
    movl %eax, %gs
.endm

/* A fault at label `from` continues at `to`. */
.macro FIXUP from, to
    .pushsection qr_extable, "a"
    .align 4
    .long \from - .
    .long \to - .
    .popsection
.endm

/* Pop a segment register; null where that faults. */
.macro POP_SEGMENT register
.Lpop\@:
    popl %\register
    .pushsection .text.fixup, "ax"
.Lnull\@:
    movl $0, %ss:(%esp)
    jmp .Lpop\@
    .popsection
    FIXUP .Lpop\@, .Lnull\@
.endm

    .text

/* ---- System calls ----------------------------------------------------------- */

    .globl int80_entry
    .align 16
int80_entry:
    pushl %eax                  /* code: the number */
    pushl $SYSCALL_VECTOR
    PUSH_REGISTERS
    LOAD_SEGMENTS
    cld
    movl $USER_DS, FRAME_SS(%esp)
    cmpb $0, qr_x86_smap
    je 1f
    clac
1:  sti
    pushl %esp
    call syscall_dispatch
    addl $4, %esp
    jmp return_to_user

/* ---- Exceptions and interrupts ------------------------------------------------ */

    .align 16
interrupt_common:
    PUSH_REGISTERS
    LOAD_SEGMENTS
    cld
    cmpb $0, qr_x86_smap
    je 1f
    clac
1:  testb $3, FRAME_CS(%esp)
    jz interrupt_from_kernel
    movl $USER_DS, FRAME_SS(%esp)
    pushl %esp
    call trap_dispatch
    addl $4, %esp

/* The frame at %esp is the user's. */
    .globl return_to_user
return_to_user:
    cli
    movl %fs:CPU_CURRENT, %eax
    movl THREAD_WORK(%eax), %eax
    orl %fs:CPU_NEED_RESCHED, %eax
    jz 2f
    pushl %esp
    call trap_return_work
    addl $4, %esp
2:  POP_GENERAL
    POP_SEGMENT ds
    POP_SEGMENT es
    POP_SEGMENT fs
    POP_SEGMENT gs
    addl $8, %esp
    iretl

interrupt_from_kernel:
    pushl %esp
    call trap_dispatch
    addl $4, %esp
    POP_GENERAL
    POP_SEGMENT ds
    POP_SEGMENT es
    POP_SEGMENT fs
    POP_SEGMENT gs
    addl $8, %esp
    iretl

/* One stub a vector: push an error code where the CPU does not, and the vector. */
    .set vector, 0
    .align 16
stubs:
.rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21 \
          || vector == 29 || vector == 30)
    pushl $0
    .endif
    pushl $vector
    jmp interrupt_common
    .set vector, vector + 1
.endr

    .section .rodata
    .globl vector_stubs
    .align 4
vector_stubs:
    .set vector, 0
.rept 256
    .if vector == VECTOR_INT80
    .long int80_entry
    .else
    .long stubs + 16 * vector
    .endif
    .set vector, vector + 1
.endr

    .text
/* The double fault task begins here, with the segments that its TSS names. */
    .globl double_fault_entry
double_fault_entry:
    cld
    xorl %ebp, %ebp
    call double_fault
    ud2

/* ---- Threads ------------------------------------------------------------------ */

/* void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp) */
    .globl switch_stacks
switch_stacks:
    movl 4(%esp), %eax
    movl 8(%esp), %edx
    pushl %ebp
    pushl %ebx
    pushl %esi
    pushl %edi
    movl %esp, (%eax)
    movl %edx, %esp
    popl %edi
    popl %esi
    popl %ebx
    popl %ebp
    ret

/* First code of a thread: switch_stacks() "returns" here.  ebx: function, esi: argument. */
    .globl thread_start_kernel
thread_start_kernel:
    call sched_switched
    sti
    pushl %esi
    call *%ebx
    ud2

    .globl thread_start_user
thread_start_user:
    call sched_switched
    jmp return_to_user

/* void enter_user(struct trap_frame *frame): the frame is at the top of the stack. */
    .globl enter_user
enter_user:
    cli
    movl 4(%esp), %esp
    xorl %ebp, %ebp
    jmp return_to_user

    .section .note.GNU-stack, "", @progbits
