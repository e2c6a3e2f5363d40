/* SPDX-License-Identifier: MIT */
/*
 * Into the kernel and out again.
 *
 * Every way in ends with a complete struct trap_frame: at the top of the thread's
 * kernel stack where user code was interrupted, below whatever is on it where the
 * kernel was.  In the kernel tp points to the CPU's block and sscratch is zero; in
 * user mode sscratch holds that pointer, and tp is the program's.  So one exchange
 * of the two tells where a trap came from.
 *
 * Every way out to user mode looks at thread->arch.work and cpu->need_resched with
 * interrupts off, so that nothing is missed.  After a system call the callee-saved
 * registers hold the program's values still; what replaces all registers (exec,
 * sigreturn) changes frame.cause and thereby has all of them loaded.
 *
 * A store-conditional of user code must not pair with a load-reserved from before
 * the trap: each way out makes one of its own first.
 */
#include <asm.h>

.macro SAVE_CALLER_SAVED
    sd ra, FRAME_X(1)(sp)
    sd gp, FRAME_X(3)(sp)
    sd t0, FRAME_X(5)(sp)
    sd t1, FRAME_X(6)(sp)
    sd t2, FRAME_X(7)(sp)
    sd a0, FRAME_X(10)(sp)
    sd a1, FRAME_X(11)(sp)
    sd a2, FRAME_X(12)(sp)
    sd a3, FRAME_X(13)(sp)
    sd a4, FRAME_X(14)(sp)
    sd a5, FRAME_X(15)(sp)
    sd a6, FRAME_X(16)(sp)
    sd a7, FRAME_X(17)(sp)
    sd t3, FRAME_X(28)(sp)
    sd t4, FRAME_X(29)(sp)
    sd t5, FRAME_X(30)(sp)
    sd t6, FRAME_X(31)(sp)
.endm

.macro SAVE_CALLEE_SAVED
    sd s0, FRAME_X(8)(sp)
    sd s1, FRAME_X(9)(sp)
    sd s2, FRAME_X(18)(sp)
    sd s3, FRAME_X(19)(sp)
    sd s4, FRAME_X(20)(sp)
    sd s5, FRAME_X(21)(sp)
    sd s6, FRAME_X(22)(sp)
    sd s7, FRAME_X(23)(sp)
    sd s8, FRAME_X(24)(sp)
    sd s9, FRAME_X(25)(sp)
    sd s10, FRAME_X(26)(sp)
    sd s11, FRAME_X(27)(sp)
.endm

/* All but sp, tp. */
.macro LOAD_CALLER_SAVED
    ld ra, FRAME_X(1)(sp)
    ld gp, FRAME_X(3)(sp)
    ld t0, FRAME_X(5)(sp)
    ld t1, FRAME_X(6)(sp)
    ld t2, FRAME_X(7)(sp)
    ld a0, FRAME_X(10)(sp)
    ld a1, FRAME_X(11)(sp)
    ld a2, FRAME_X(12)(sp)
    ld a3, FRAME_X(13)(sp)
    ld a4, FRAME_X(14)(sp)
    ld a5, FRAME_X(15)(sp)
    ld a6, FRAME_X(16)(sp)
    ld a7, FRAME_X(17)(sp)
    ld t3, FRAME_X(28)(sp)
    ld t4, FRAME_X(29)(sp)
    ld t5, FRAME_X(30)(sp)
    ld t6, FRAME_X(31)(sp)
.endm

.macro LOAD_CALLEE_SAVED
    ld s0, FRAME_X(8)(sp)
    ld s1, FRAME_X(9)(sp)
    ld s2, FRAME_X(18)(sp)
    ld s3, FRAME_X(19)(sp)
    ld s4, FRAME_X(20)(sp)
    ld s5, FRAME_X(21)(sp)
    ld s6, FRAME_X(22)(sp)
    ld s7, FRAME_X(23)(sp)
    ld s8, FRAME_X(24)(sp)
    ld s9, FRAME_X(25)(sp)
    ld s10, FRAME_X(26)(sp)
    ld s11, FRAME_X(27)(sp)
.endm

/* pc, status, cause, value.  User access and floating point end here until the way out. */
.macro SAVE_CONTROL
    li t0, SSTATUS_SUM | SSTATUS_FS
    csrr t1, sepc
    csrrc t2, sstatus, t0
    csrr t3, scause
    csrr t4, stval
    sd t1, FRAME_PC(sp)
    sd t2, FRAME_STATUS(sp)
    sd t3, FRAME_CAUSE(sp)
    sd t4, FRAME_VALUE(sp)
.endm

.macro LOAD_CONTROL
    ld t0, FRAME_STATUS(sp)
    ld t1, FRAME_PC(sp)
    addi t3, sp, FRAME_PC
    sc.d zero, t1, (t3)         /* ends any reservation; stores what stands there, or nothing */
    csrw sstatus, t0
    csrw sepc, t1
.endm

    .text

    .globl trap_entry
    .balign 4
trap_entry:
    csrrw tp, sscratch, tp
    bnez tp, from_user

/* ---- From the kernel --------------------------------------------------------- */

    csrrw tp, sscratch, zero
    sd t0, CPU_SCRATCH(tp)
    ld t0, CPU_STACK_LOW(tp)
    addi sp, sp, -FRAME_BYTES
    bltu sp, t0, overflow
    ld t0, CPU_SCRATCH(tp)
    SAVE_CALLER_SAVED
    SAVE_CALLEE_SAVED
    addi t0, sp, FRAME_BYTES
    sd t0, FRAME_X(2)(sp)
    sd tp, FRAME_X(4)(sp)
    SAVE_CONTROL
    mv a0, sp
    call trap_dispatch
    LOAD_CONTROL
    LOAD_CALLEE_SAVED
    LOAD_CALLER_SAVED
    addi sp, sp, FRAME_BYTES
    sret

/*
 * The trap found no room on its stack: report it on a stack of its own.  The first
 * CPU gets it, any other waits to be stopped.
 */
overflow:
    la t0, overflow_taken
    addi sp, sp, FRAME_BYTES
    amoswap.w t0, sp, (t0)      /* any stack pointer is not zero */
1:  bnez t0, 1b
    mv t0, sp
    la sp, overflow_stack_top - FRAME_BYTES
    sd t0, FRAME_X(2)(sp)
    ld t0, CPU_SCRATCH(tp)
    SAVE_CALLER_SAVED
    SAVE_CALLEE_SAVED
    sd tp, FRAME_X(4)(sp)
    SAVE_CONTROL
    mv a0, sp
    call trap_overflow
    unimp

/* ---- From user mode ------------------------------------------------------------ */

from_user:
    sd sp, CPU_SCRATCH(tp)
    ld sp, CPU_KERNEL_SP(tp)
    addi sp, sp, -FRAME_BYTES
    SAVE_CALLER_SAVED
    SAVE_CALLEE_SAVED
    ld t0, CPU_SCRATCH(tp)
    csrrw t1, sscratch, zero
    sd t0, FRAME_X(2)(sp)
    sd t1, FRAME_X(4)(sp)
    SAVE_CONTROL
    li t0, CAUSE_USER_ECALL
    mv s0, zero                 /* ends the chain of frames */
    bne t3, t0, 1f

    addi t1, t1, 4              /* over the ecall: SAVE_CONTROL left sepc in t1 */
    sd t1, FRAME_PC(sp)
    sd a0, FRAME_A0(sp)
    mv a0, sp
    csrsi sstatus, SSTATUS_SIE
    call syscall_dispatch
    csrci sstatus, SSTATUS_SIE
    ld t0, CPU_CURRENT(tp)
    lw t0, THREAD_WORK(t0)
    lw t1, CPU_NEED_RESCHED(tp)
    or t0, t0, t1
    bnez t0, return_to_user
    ld t0, FRAME_CAUSE(sp)
    li t1, CAUSE_USER_ECALL
    bne t0, t1, return_to_user
    ld s0, FRAME_X(8)(sp)
    j leave

1:  mv a0, sp
    call trap_dispatch

/* The frame at sp is the user's. */
    .globl return_to_user
return_to_user:
    csrci sstatus, SSTATUS_SIE
    ld t0, CPU_CURRENT(tp)
    lw t0, THREAD_WORK(t0)
    lw t1, CPU_NEED_RESCHED(tp)
    or t0, t0, t1
    beqz t0, 1f
    mv a0, sp
    call trap_return_work
1:  LOAD_CALLEE_SAVED
leave:
    LOAD_CONTROL
    csrw sscratch, tp
    LOAD_CALLER_SAVED
    ld tp, FRAME_X(4)(sp)
    ld sp, FRAME_X(2)(sp)
    sret

/* ---- Threads ------------------------------------------------------------------ */

/* void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp) */
    .globl switch_stacks
    .type switch_stacks, @function
switch_stacks:
    addi sp, sp, -112
    sd ra, 0(sp)
    sd s0, 8(sp)
    sd s1, 16(sp)
    sd s2, 24(sp)
    sd s3, 32(sp)
    sd s4, 40(sp)
    sd s5, 48(sp)
    sd s6, 56(sp)
    sd s7, 64(sp)
    sd s8, 72(sp)
    sd s9, 80(sp)
    sd s10, 88(sp)
    sd s11, 96(sp)
    sd sp, (a0)
    mv sp, a1
    ld ra, 0(sp)
    ld s0, 8(sp)
    ld s1, 16(sp)
    ld s2, 24(sp)
    ld s3, 32(sp)
    ld s4, 40(sp)
    ld s5, 48(sp)
    ld s6, 56(sp)
    ld s7, 64(sp)
    ld s8, 72(sp)
    ld s9, 80(sp)
    ld s10, 88(sp)
    ld s11, 96(sp)
    addi sp, sp, 112
    ret

/* First code of a thread: switch_stacks() "returns" here.  s1: function, s2: argument. */
    .globl thread_start_kernel
thread_start_kernel:
    call sched_switched
    csrsi sstatus, SSTATUS_SIE
    mv a0, s2
    jalr s1
    unimp

    .globl thread_start_user
thread_start_user:
    call sched_switched
    j return_to_user

/* void enter_user(struct trap_frame *frame): the frame is at the top of the stack. */
    .globl enter_user
enter_user:
    csrci sstatus, SSTATUS_SIE
    mv sp, a0
    mv s0, zero
    j return_to_user

/* ---- Floating point -------------------------------------------------------------- */

    .option push
    .option arch, +d

/* void fpu_registers_save(struct fpu_state *), void fpu_registers_load(const struct fpu_state *) */
    .globl fpu_registers_save, fpu_registers_load
fpu_registers_save:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, \
            24, 25, 26, 27, 28, 29, 30, 31
    fsd f\n, 8 * \n(a0)
    .endr
    frcsr t0
    sw t0, 256(a0)
    ret

fpu_registers_load:
    .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, \
            24, 25, 26, 27, 28, 29, 30, 31
    fld f\n, 8 * \n(a0)
    .endr
    lw t0, 256(a0)
    fscsr t0
    ret
    .option pop

/* ---- Semihosting ----------------------------------------------------------------- */

/* uintptr_t semihost_call(uintptr_t operation, uintptr_t argument): the three in one page. */
    .globl semihost_call
    .balign 16
semihost_call:
    .option push
    .option norvc
    slli zero, zero, 0x1f
    ebreak
    srai zero, zero, 7
    .option pop
    ret

/* ---- Code for programs -------------------------------------------------------------- */

    .section .rodata
    .globl sigreturn_code, sigreturn_code_end
    .balign 4
sigreturn_code:
    .option push
    .option norvc
    li a7, 139                  /* rt_sigreturn */
    ecall
    .option pop
sigreturn_code_end:

    .data
    .balign 4
overflow_taken:
    .word 0

    .bss
    .balign 16
    .skip 4096
overflow_stack_top:

    .section .note.GNU-stack, "", @progbits
