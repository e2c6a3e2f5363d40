/* SPDX-License-Identifier: MIT */
/*
 * Threads: switching, floating-point state.
 *
 *      guard | stack, grows down ...  | user frame | fpu | guard
 *                                     stack_top ---^
 *
 * The kernel itself uses no floating-point registers.  They are saved and
 * restored at each switch between threads that have a user mode.
 */
#include "cpu.h"

#include <kstring.h>
#include <signal.h>
#include <thread_start.h>

#define PSTATE_USER 0xf1001000u /* NZCV, DIT, SSBS: what user code may choose */

/* FPCR: rounding, modes and traps that exist; the rest is zero. */
#define FPCR_USER 0x07f79f00u

/* ---- Floating-point state -------------------------------------------------------- */

size_t
arch_fpu_bytes(void)
{
    return FPU_BYTES;
}

void
arch_fpu_save(void *image)
{
    fpu_save(image);
    memset((char *)image + FPU_FPCR + 4, 0, FPU_BYTES - FPU_FPCR - 4);
}

bool
fpu_image_is_valid(const void *image)
{
    uint32_t fpcr;

    memcpy(&fpcr, (const char *)image + FPU_FPCR, sizeof fpcr);
    return (fpcr & ~FPCR_USER) == 0;
}

bool
arch_fpu_load(const void *image)
{
    if (!fpu_image_is_valid(image))
        return false;
    fpu_restore(image);
    return true;
}

void
arch_fpu_reset(void)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    memset(thread->fpu, 0, FPU_BYTES);
    fpu_restore(thread->fpu);
    irq_restore(state);
}

int
frame_float_code(const struct trap_frame *frame)
{
    uint64_t syndrome = frame->esr;

    if (!(syndrome & (uint64_t)1 << 23)) /* the flags do not tell */
        return 0;
    if (syndrome & 0x01)
        return FPE_FLTINV;
    if (syndrome & 0x02)
        return FPE_FLTDIV;
    if (syndrome & 0x04)
        return FPE_FLTOVF;
    if (syndrome & 0x88)
        return FPE_FLTUND;
    if (syndrome & 0x10)
        return FPE_FLTRES;
    return 0;
}

/* ---- Threads ---------------------------------------------------------------------- */

bool
arch_thread_create(struct arch_thread *thread)
{
    uintptr_t stack = stack_alloc();
    uintptr_t fpu;

    if (stack == 0)
        return false;
    fpu = stack + KERNEL_STACK_BYTES - FPU_BYTES;
    *thread = (struct arch_thread){
        .stack = stack,
        .stack_top = fpu,
        .fpu = (void *)fpu,
    };
    memset(thread->fpu, 0, FPU_BYTES);
    return true;
}
_Static_assert(FPU_BYTES % 16 == 0, "stack_top is the user frame's end, and SP is aligned");

/** What switch_stacks() takes up again: x19 to x30. */
struct switch_frame {
    uintptr_t x19, x20, x21, x22, x23, x24, x25, x26, x27, x28, x29, x30;
};

void
thread_prepare(struct arch_thread *thread, void (*start)(void), uintptr_t first, uintptr_t second)
{
    struct switch_frame *frame = (struct switch_frame *)arch_user_frame(thread) - 1;

    *frame = (struct switch_frame){.x19 = first, .x20 = second, .x30 = (uintptr_t)start};
    thread->sp = (uintptr_t)frame;
}

void
frame_init_user(struct trap_frame *frame, uintptr_t ip, uintptr_t sp)
{
    *frame = (struct trap_frame){.pc = ip, .sp = sp, .syscall = NO_SYSCALL};
}

void
frame_sanitize(struct trap_frame *frame)
{
    frame->pstate &= PSTATE_USER;
    frame->syscall = NO_SYSCALL;
}

void
arch_context_switch(struct arch_thread *previous, struct arch_thread *next)
{
    if (previous->fpu) {
        fpu_save(previous->fpu);
        previous->tls = REGISTER_READ(tpidr_el0);
    }
    if (next->fpu) {
        fpu_restore(next->fpu);
        REGISTER_WRITE(tpidr_el0, next->tls);
    }
    if ((previous->flags ^ next->flags) & THREAD_STEPPED)
        step_switch(next);
    switch_stacks(&previous->sp, next->sp);
}

void
arch_thread_fork(struct arch_thread *child)
{
    uintptr_t state = irq_save();

    child->tls = REGISTER_READ(tpidr_el0);
    fpu_save(child->fpu);
    irq_restore(state);
}

void
arch_thread_save(struct arch_thread *thread)
{
    uintptr_t state = irq_save();

    fpu_save(thread->fpu);
    thread->tls = REGISTER_READ(tpidr_el0);
    irq_restore(state);
}

void
arch_thread_reset(struct arch_thread *thread)
{
    arch_fpu_reset();
    arch_thread_set_tls(thread, 0);
}

void
arch_thread_set_tls(struct arch_thread *thread, uintptr_t base)
{
    uintptr_t state = irq_save();

    thread->tls = base;
    if (thread == (struct arch_thread *)thread_current())
        REGISTER_WRITE(tpidr_el0, base);
    irq_restore(state);
}
