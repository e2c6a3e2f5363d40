/* SPDX-License-Identifier: MIT */
/*
 * What a tracer sees of a thread: struct user_regs_struct and the images of FXSAVE and XSAVE.
 *
 * A frame of a system call is left by SYSRET, which brings neither rcx nor r11 back; a tracer that
 * changes what SYSRET could not restore makes it an ordinary frame.
 */
#include "cpu.h"

#include <kstring.h>
#include <trace.h>

/** Linux's user_regs_struct. */
struct user_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    uint64_t rax, rcx, rdx, rsi, rdi, orig_rax;
    uint64_t rip, cs, rflags, rsp, ss;
    uint64_t fs_base, gs_base, ds, es, fs, gs;
};
_Static_assert(sizeof(struct user_regs) == 27 * 8, "Linux ABI");

enum { USER_BYTES = 912 }; /* struct user, to the end of the debug registers */

static void
general_get(struct arch_thread *thread, struct user_regs *regs)
{
    const struct trap_frame *frame = arch_user_frame(thread);

    memset(regs, 0, sizeof *regs);
    memcpy(regs, frame, offsetof(struct user_regs, orig_rax)); /* in the same order */
    regs->orig_rax = frame_is_syscall(frame) ? frame->code : UINT64_MAX;
    regs->rip = frame->rip;
    regs->cs = frame->cs;
    regs->rflags = frame->rflags & ~(thread->flags & THREAD_STEPPED ? (uint64_t)RFLAGS_TF : 0);
    regs->rsp = frame->rsp;
    regs->ss = frame->ss;
    regs->fs_base = thread->fs_base;
    regs->gs_base = thread->gs_base;
}

static bool
general_set(struct arch_thread *thread, const struct user_regs *regs)
{
    struct trap_frame *frame = arch_user_frame(thread);
    bool call = frame_is_syscall(frame) && (int64_t)regs->orig_rax >= -1;
    uint64_t limit = (uint64_t)1 << 47;

    if (regs->fs_base >= limit || regs->gs_base >= limit)
        return false;
    memcpy(frame, regs, offsetof(struct user_regs, orig_rax));
    frame->rip = regs->rip;
    frame->rsp = regs->rsp;
    frame->rflags = regs->rflags;
    frame_sanitize(frame);
    if (thread->flags & THREAD_STEPPED)
        frame->rflags |= RFLAGS_TF;
    if (call && frame->rcx == frame->rip && frame->r11 == frame->rflags) {
        frame->vector = VECTOR_SYSCALL;
        frame->code = regs->orig_rax;
    }
    thread->fs_base = regs->fs_base;
    thread->gs_base = regs->gs_base;
    return true;
}

size_t
arch_trace_bytes(unsigned note)
{
    return note == NOTE_GENERAL ? sizeof(struct user_regs) : fpu_note_bytes(note);
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

    frame->rflags = on ? frame->rflags | RFLAGS_TF : frame->rflags & ~(uint64_t)RFLAGS_TF;
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
    enum { GETREGS = 12, SETREGS, GETFPREGS, SETFPREGS };

    if (request < GETREGS || request > SETFPREGS)
        return false;
    *out_note = request < GETFPREGS ? NOTE_GENERAL : NOTE_FLOAT;
    *out_set = request == SETREGS || request == SETFPREGS;
    return true;
}

uint32_t
arch_trace_audit(void)
{
    return 0xc000003e; /* AUDIT_ARCH_X86_64 */
}
