/* SPDX-License-Identifier: MIT */
/*
 * What a tracer sees of a thread: struct user_regs_struct and the floating-point registers.
 * The CPU cannot step: debuggers put breakpoints.
 */
#include "cpu.h"

#include <kstring.h>
#include <trace.h>

enum { GENERAL_BYTES = 32 * 8 };
_Static_assert(offsetof(struct trap_frame, status) == GENERAL_BYTES, "pc, x1 to x31");

size_t
arch_trace_bytes(unsigned note)
{
    if (note == NOTE_GENERAL)
        return GENERAL_BYTES;
    return note == NOTE_FLOAT ? sizeof(struct fpu_state) : 0;
}

void
arch_trace_get(struct arch_thread *thread, unsigned note, void *image)
{
    if (note == NOTE_GENERAL)
        memcpy(image, arch_user_frame(thread), GENERAL_BYTES);
    else
        memcpy(image, thread->fpu, sizeof *thread->fpu);
}

bool
arch_trace_set(struct arch_thread *thread, unsigned note, const void *image)
{
    struct trap_frame *frame = arch_user_frame(thread);
    uint64_t a0 = frame->a[0];

    if (note == NOTE_GENERAL) {
        memcpy(frame, image, GENERAL_BYTES);
        if (frame->a[0] != a0)
            frame->call_a0 = frame->a[0]; /* before a call: its first argument */
        return true;
    }
    memcpy(thread->fpu, image, sizeof *thread->fpu);
    thread->fpu->fcsr &= FCSR_MASK;
    frame->status &= ~(uint64_t)SSTATUS_FS; /* loaded at the next use */
    return true;
}

bool
arch_trace_step(struct arch_thread *thread, bool on)
{
    (void)thread;
    return !on;
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
    return 0xc00000f3; /* AUDIT_ARCH_RISCV64 */
}
