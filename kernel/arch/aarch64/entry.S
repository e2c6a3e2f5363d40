/* SPDX-License-Identifier: MIT */
/*
 * Into the kernel and out again.
 *
 * Every way in ends with a complete struct trap_frame on the kernel stack and a
 * call into C.  SP_EL1 of a thread in user mode is its stack_top, so the frame
 * of an entry from there is the user frame.  Every way out to user mode looks at
 * thread->arch.work and cpu->need_resched with interrupts off, so that nothing is
 * missed.
 *
 * A kernel stack that overflows faults while a frame is being pushed, which
 * faults again.  So an exception of the kernel itself first asks the MMU whether
 * the stack can be written, and goes on on the CPU's emergency stack where not.
 * Its one scratch register is TPIDRRO_EL0, which users read as zero.
 */
#include <asm.h>

.macro PUSH_REGISTERS
    stp x0, x1, [sp, #0]
    stp x2, x3, [sp, #16]
    stp x4, x5, [sp, #32]
    stp x6, x7, [sp, #48]
    stp x8, x9, [sp, #64]
    stp x10, x11, [sp, #80]
    stp x12, x13, [sp, #96]
    stp x14, x15, [sp, #112]
    stp x16, x17, [sp, #128]
    stp x18, x19, [sp, #144]
    stp x20, x21, [sp, #160]
    stp x22, x23, [sp, #176]
    stp x24, x25, [sp, #192]
    stp x26, x27, [sp, #208]
    stp x28, x29, [sp, #224]
.endm

.macro POP_REGISTERS
    ldp x2, x3, [sp, #16]
    ldp x4, x5, [sp, #32]
    ldp x6, x7, [sp, #48]
    ldp x8, x9, [sp, #64]
    ldp x10, x11, [sp, #80]
    ldp x12, x13, [sp, #96]
    ldp x14, x15, [sp, #112]
    ldp x16, x17, [sp, #128]
    ldp x18, x19, [sp, #144]
    ldp x20, x21, [sp, #160]
    ldp x22, x23, [sp, #176]
    ldp x24, x25, [sp, #192]
    ldp x26, x27, [sp, #208]
    ldp x28, x29, [sp, #224]
.endm

/* The rest of the frame of an entry from user mode; x21: pstate. */
.macro PUSH_USER_STATE
    mrs x20, sp_el0
    mrs x21, elr_el1
    mrs x22, spsr_el1
    stp x30, x20, [sp, #FRAME_X30]
    stp x21, x22, [sp, #FRAME_PC]
    mov x29, xzr                /* the chain of frames ends here */
.endm

/* ... of an entry from the kernel itself. */
.macro PUSH_KERNEL_STATE
    add x20, sp, #FRAME_BYTES
    mrs x21, elr_el1
    mrs x22, spsr_el1
    stp x30, x20, [sp, #FRAME_X30]
    stp x21, x22, [sp, #FRAME_PC]
    mov x23, #-1                /* NO_SYSCALL */
    mrs x24, esr_el1
    mrs x25, far_el1
    stp x23, x24, [sp, #FRAME_SYSCALL]
    stp x0, x25, [sp, #FRAME_ORIG_X0]
.endm

/* ---- Vectors ----------------------------------------------------------------- */

.macro VECTOR target
    .balign 128
    b \target
.endm

    .text
    .globl exception_vectors
    .balign 2048
exception_vectors:
    VECTOR bad_stack_pointer    /* from EL1 with SP_EL0: never used */
    VECTOR bad_stack_pointer
    VECTOR bad_stack_pointer
    VECTOR bad_stack_pointer
    VECTOR kernel_sync
    VECTOR kernel_irq
    VECTOR kernel_fiq
    VECTOR kernel_serror
    VECTOR user_sync
    VECTOR user_irq
    VECTOR user_fiq
    VECTOR user_serror
    VECTOR user_sync            /* 32-bit user code: never entered */
    VECTOR user_irq
    VECTOR user_fiq
    VECTOR user_serror

/* ---- From user mode ------------------------------------------------------------- */

user_sync:
    sub sp, sp, #FRAME_BYTES
    PUSH_REGISTERS
    PUSH_USER_STATE
    mrs x24, esr_el1
    lsr w25, w24, #26
    cmp w25, #0x15              /* SVC */
    b.ne 1f
    mov w23, w8
    stp x23, x24, [sp, #FRAME_SYSCALL]
    str x0, [sp, #FRAME_ORIG_X0]
    mov x0, sp
    msr daifclr, #2
    bl syscall_dispatch
    msr daifset, #2
    b return_to_user
1:  mov x23, #-1
    mrs x25, far_el1
    stp x23, x24, [sp, #FRAME_SYSCALL]
    stp x0, x25, [sp, #FRAME_ORIG_X0]
    mov x0, sp
    bl trap_user
    b return_to_user

user_irq:
    sub sp, sp, #FRAME_BYTES
    PUSH_REGISTERS
    PUSH_USER_STATE
    mov x23, #-1
    stp x23, xzr, [sp, #FRAME_SYSCALL]
    mov x0, sp
    bl trap_interrupt

/* Interrupts are off or may be turned off; the frame at sp is the user's. */
    .globl return_to_user
return_to_user:
    msr daifset, #2
    mrs x19, tpidr_el1
    ldr x20, [x19, #CPU_CURRENT]
    ldr w20, [x20, #THREAD_WORK]
    ldr w21, [x19, #CPU_NEED_RESCHED]
    orr w20, w20, w21
    cbnz w20, 2f
1:  ldp x30, x20, [sp, #FRAME_X30]
    ldp x21, x22, [sp, #FRAME_PC]
    msr sp_el0, x20
    msr elr_el1, x21
    msr spsr_el1, x22
    POP_REGISTERS
    ldp x0, x1, [sp]
    add sp, sp, #FRAME_BYTES
    eret
2:  mov x0, sp
    bl trap_return_work
    b 1b

/* ---- From the kernel itself -------------------------------------------------------- */

kernel_sync:
    msr tpidrro_el0, x0
    sub x0, sp, #FRAME_BYTES
    at s1e1w, x0
    isb
    mrs x0, par_el1
    tbnz w0, #0, kernel_overflow
    mrs x0, tpidrro_el0
    msr tpidrro_el0, xzr
    sub sp, sp, #FRAME_BYTES
    PUSH_REGISTERS
    PUSH_KERNEL_STATE
    mov x0, sp
    bl trap_kernel
return_to_kernel:
    ldr x30, [sp, #FRAME_X30]
    ldp x21, x22, [sp, #FRAME_PC]
    msr elr_el1, x21
    msr spsr_el1, x22
    POP_REGISTERS
    ldp x0, x1, [sp]
    add sp, sp, #FRAME_BYTES
    eret

kernel_irq:
    sub sp, sp, #FRAME_BYTES
    PUSH_REGISTERS
    PUSH_KERNEL_STATE
    mov x0, sp
    bl trap_interrupt
    b return_to_kernel

/* x0 is in TPIDRRO_EL0, the stack pointer is of no use: keep it for the report. */
kernel_overflow:
    mov x0, sp
    msr sp_el0, x0
    mrs x0, tpidr_el1
    ldr x0, [x0, #CPU_EMERGENCY]
    mov sp, x0
    mrs x0, tpidrro_el0
    sub sp, sp, #FRAME_BYTES
    PUSH_REGISTERS
    PUSH_KERNEL_STATE
    mrs x20, sp_el0
    str x20, [sp, #FRAME_SP]
    mov x0, sp
    bl trap_stack_overflow
    brk #0

/* What should not arrive ends the machine. */
.macro FATAL name, state, number
\name:
    sub sp, sp, #FRAME_BYTES
    PUSH_REGISTERS
    \state
    mov x23, #-1
    mrs x24, esr_el1
    stp x23, x24, [sp, #FRAME_SYSCALL]
    mov x0, sp
    mov x1, #\number
    bl trap_fatal
    brk #0
.endm

    FATAL bad_stack_pointer, PUSH_KERNEL_STATE, 0
    FATAL kernel_fiq, PUSH_KERNEL_STATE, 1
    FATAL kernel_serror, PUSH_KERNEL_STATE, 2
    FATAL user_fiq, PUSH_USER_STATE, 1
    FATAL user_serror, PUSH_USER_STATE, 2

/* ---- Threads ------------------------------------------------------------------ */

/* void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp) */
    .globl switch_stacks
switch_stacks:
    sub sp, sp, #96
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    add sp, sp, #96
    ret

/* First code of a thread: switch_stacks() "returns" here.  x19: function, x20: argument. */
    .globl thread_start_kernel
thread_start_kernel:
    bl sched_switched
    msr daifclr, #2
    mov x0, x20
    blr x19
    brk #0

    .globl thread_start_user
thread_start_user:
    bl sched_switched
    b return_to_user

/* void enter_user(struct trap_frame *frame): the frame is at the top of the stack. */
    .globl enter_user
enter_user:
    msr daifset, #2
    mov sp, x0
    mov x29, xzr
    b return_to_user

/* ---- Floating-point registers: no other file of the kernel touches them ----------- */

/* void fpu_save(void *image) */
    .globl fpu_save
fpu_save:
    stp q0, q1, [x0, #0]
    stp q2, q3, [x0, #32]
    stp q4, q5, [x0, #64]
    stp q6, q7, [x0, #96]
    stp q8, q9, [x0, #128]
    stp q10, q11, [x0, #160]
    stp q12, q13, [x0, #192]
    stp q14, q15, [x0, #224]
    stp q16, q17, [x0, #256]
    stp q18, q19, [x0, #288]
    stp q20, q21, [x0, #320]
    stp q22, q23, [x0, #352]
    stp q24, q25, [x0, #384]
    stp q26, q27, [x0, #416]
    stp q28, q29, [x0, #448]
    stp q30, q31, [x0, #480]
    mrs x1, fpsr
    mrs x2, fpcr
    str w1, [x0, #FPU_FPSR]
    str w2, [x0, #FPU_FPCR]
    ret

/* void fpu_restore(const void *image) */
    .globl fpu_restore
fpu_restore:
    ldp q0, q1, [x0, #0]
    ldp q2, q3, [x0, #32]
    ldp q4, q5, [x0, #64]
    ldp q6, q7, [x0, #96]
    ldp q8, q9, [x0, #128]
    ldp q10, q11, [x0, #160]
    ldp q12, q13, [x0, #192]
    ldp q14, q15, [x0, #224]
    ldp q16, q17, [x0, #256]
    ldp q18, q19, [x0, #288]
    ldp q20, q21, [x0, #320]
    ldp q22, q23, [x0, #352]
    ldp q24, q25, [x0, #384]
    ldp q26, q27, [x0, #416]
    ldp q28, q29, [x0, #448]
    ldp q30, q31, [x0, #480]
    ldr w1, [x0, #FPU_FPSR]
    ldr w2, [x0, #FPU_FPCR]
    msr fpsr, x1
    msr fpcr, x2
    ret

    .section .note.GNU-stack, "", @progbits
