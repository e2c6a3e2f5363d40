/* SPDX-License-Identifier: MIT */
/*
 * What a tracer sees of a thread: struct user_pt_regs, the vector registers, the thread pointer
 * and the number of the system call.
 *
 * Stepping is the CPU's: MDSCR_EL1.SS, which the switch to the thread sets, lets one instruction
 * of user mode complete where PSTATE.SS is set.
 */
#include "cpu.h"

#include <kstring.h>
#include <trace.h>

enum { GENERAL_BYTES = 34 * 8, FLOAT_BYTES = 528 };
_Static_assert(offsetof(struct trap_frame, syscall) == GENERAL_BYTES, "x0 to x30, sp, pc, pstate");
_Static_assert(FLOAT_BYTES == FPU_BYTES, "v0 to v31, fpsr, fpcr, padding");

size_t
arch_trace_bytes(unsigned note)
{
    switch (note) {
    case NOTE_GENERAL:
        return GENERAL_BYTES;
    case NOTE_FLOAT:
        return FLOAT_BYTES;
    case NOTE_ARM_TLS:
        return 8;
    case NOTE_ARM_SYSCALL:
        return 4;
    default:
        return 0;
    }
}

void
arch_trace_get(struct arch_thread *thread, unsigned note, void *image)
{
    const struct trap_frame *frame = arch_user_frame(thread);
    uint64_t pstate = frame->pstate & ~PSTATE_SS;
    uint32_t number = (uint32_t)frame->syscall;

    switch (note) {
    case NOTE_GENERAL:
        memcpy(image, frame, GENERAL_BYTES - 8);
        memcpy((char *)image + GENERAL_BYTES - 8, &pstate, 8);
        break;
    case NOTE_FLOAT:
        memcpy(image, thread->fpu, FLOAT_BYTES);
        break;
    case NOTE_ARM_TLS:
        memcpy(image, &thread->tls, 8);
        break;
    default:
        memcpy(image, &number, 4);
        break;
    }
}

static void
general_set(struct arch_thread *thread, const void *image)
{
    struct trap_frame *frame = arch_user_frame(thread);
    uint64_t number = frame->syscall, x0 = frame->x[0];

    memcpy(frame, image, GENERAL_BYTES);
    frame_sanitize(frame);
    frame->syscall = number;
    if (frame->x[0] != x0)
        frame->orig_x0 = frame->x[0]; /* before a call: its first argument */
    if (thread->flags & THREAD_STEPPED)
        frame->pstate |= PSTATE_SS;
}

bool
arch_trace_set(struct arch_thread *thread, unsigned note, const void *image)
{
    int32_t number;

    switch (note) {
    case NOTE_GENERAL:
        general_set(thread, image);
        return true;
    case NOTE_FLOAT:
        if (!fpu_image_is_valid(image))
            return false;
        memcpy(thread->fpu, image, FLOAT_BYTES);
        return true;
    case NOTE_ARM_TLS:
        memcpy(&thread->tls, image, 8);
        return true;
    default:
        memcpy(&number, image, 4);
        arch_user_frame(thread)->syscall = number < 0 ? NO_SYSCALL : (uint64_t)number;
        return true;
    }
}

bool
arch_trace_step(struct arch_thread *thread, bool on)
{
    struct trap_frame *frame = arch_user_frame(thread);

    frame->pstate = on ? frame->pstate | PSTATE_SS : frame->pstate & ~PSTATE_SS;
    thread->flags = on ? thread->flags | THREAD_STEPPED : thread->flags & ~THREAD_STEPPED;
    if (thread == (struct arch_thread *)thread_current())
        step_switch(thread);
    return true;
}

size_t
arch_trace_user_bytes(void)
{
    return 0;
}

bool
arch_trace_request(unsigned request, unsigned *out_note, bool *out_set)
{
    (void)request;
    (void)out_note;
    (void)out_set;
    return false;
}

uint32_t
arch_trace_audit(void)
{
    return 0xc00000b7; /* AUDIT_ARCH_AARCH64 */
}
