/* SPDX-License-Identifier: MIT */
/*
 * What a tracer sees of a thread: struct user_regs_struct and the images of FXSAVE and XSAVE.
 * The older form of the floating-point registers (PTRACE_GETFPREGS) is not offered.
 */
#include "cpu.h"

#include <kstring.h>
#include <trace.h>

/** Linux's user_regs_struct: as struct trap_frame, but for the vector. */
struct user_regs {
    uint32_t ebx, ecx, edx, esi, edi, ebp, eax;
    uint32_t ds, es, fs, gs;
    uint32_t orig_eax;
    uint32_t eip, cs, eflags, esp, ss;
};
_Static_assert(sizeof(struct user_regs) == 17 * 4, "Linux ABI");

enum { USER_BYTES = 284 }; /* struct user, to the end of the debug registers */

static void
general_get(struct arch_thread *thread, struct user_regs *regs)
{
    const struct trap_frame *frame = arch_user_frame(thread);

    memcpy(regs, frame, offsetof(struct user_regs, orig_eax));
    regs->orig_eax = frame_is_syscall(frame) ? frame->code : UINT32_MAX;
    memcpy(&regs->eip, &frame->eip, sizeof *regs - offsetof(struct user_regs, eip));
    if (thread->flags & THREAD_STEPPED)
        regs->eflags &= ~(uint32_t)RFLAGS_TF;
}

static bool
general_set(struct arch_thread *thread, const struct user_regs *regs)
{
    struct trap_frame *frame = arch_user_frame(thread);
    bool call = frame_is_syscall(frame) && (int32_t)regs->orig_eax >= -1;

    memcpy(frame, regs, offsetof(struct user_regs, orig_eax));
    memcpy(&frame->eip, &regs->eip, sizeof *regs - offsetof(struct user_regs, eip));
    frame_sanitize(frame);
    if (thread->flags & THREAD_STEPPED)
        frame->eflags |= RFLAGS_TF;
    if (call) {
        frame->vector = VECTOR_SYSCALL;
        frame->code = regs->orig_eax;
    }
    return true;
}

size_t
arch_trace_bytes(unsigned note)
{
    if (note == NOTE_GENERAL)
        return sizeof(struct user_regs);
    return note == NOTE_FLOAT ? 0 : fpu_note_bytes(note);
}

void
arch_trace_get(struct arch_thread *thread, unsigned note, void *image)
{
    if (note == NOTE_GENERAL)
        general_get(thread, image);
    else
        fpu_note_get(thread->fpu, note, image);
}

bool
arch_trace_set(struct arch_thread *thread, unsigned note, const void *image)
{
    return note == NOTE_GENERAL ? general_set(thread, image)
                                : fpu_note_set(thread->fpu, note, image);
}

bool
arch_trace_step(struct arch_thread *thread, bool on)
{
    struct trap_frame *frame = arch_user_frame(thread);

    frame->eflags = on ? frame->eflags | RFLAGS_TF : frame->eflags & ~(uint32_t)RFLAGS_TF;
    thread->flags = on ? thread->flags | THREAD_STEPPED : thread->flags & ~THREAD_STEPPED;
    return true;
}

size_t
arch_trace_user_bytes(void)
{
    return USER_BYTES;
}

bool
arch_trace_request(unsigned request, unsigned *out_note, bool *out_set)
{
    enum { GETREGS = 12, SETREGS = 13, GETFPXREGS = 18, SETFPXREGS = 19 };

    if (request != GETREGS && request != SETREGS &&
        ((request != GETFPXREGS && request != SETFPXREGS) || fpu_note_bytes(NOTE_X86_FXSAVE) == 0))
        return false;
    *out_note = request <= SETREGS ? NOTE_GENERAL : NOTE_X86_FXSAVE;
    *out_set = request == SETREGS || request == SETFPXREGS;
    return true;
}

uint32_t
arch_trace_audit(void)
{
    return 0x40000003; /* AUDIT_ARCH_I386 */
}
