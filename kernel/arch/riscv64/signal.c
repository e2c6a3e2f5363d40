/* SPDX-License-Identifier: MIT */
/*
 * Signal frames exactly as Linux lays them out on RISC-V, because C libraries,
 * unwinders and debuggers know this layout:
 *
 *      sp + 0      siginfo
 *      sp + 128    ucontext: flags, link, stack, mask, room for a longer mask,
 *                  32 integer registers (pc first), floating-point state
 *
 * sp is a multiple of 16.  Programs bring no restorer: the handler's return address
 * is that of sigreturn_code, which exec has mapped.
 */
#include <arch.h>

#include <kstring.h>

#include "abi_errno.h"
#include "arch_abi.h"
#include "cpu.h"
#include "mm.h"
#include "proc.h"
#include "../../proc/proc_private.h"

struct sigcontext {
    uint64_t registers[32]; /* as struct trap_frame begins */
    struct fpu_state fpu;
    uint64_t fpu_rest[33]; /* of the union with quad precision; its last words are zero */
} __attribute__((aligned(16)));

struct ucontext {
    uint64_t flags;
    uint64_t link;
    struct signal_stack stack;
    signal_set mask;
    uint8_t mask_rest[120];
    struct sigcontext mcontext;
};

struct rt_sigframe {
    struct signal_info info;
    struct ucontext context;
};

_Static_assert(sizeof(struct fpu_state) == 264, "Linux ABI");
_Static_assert(sizeof(struct sigcontext) == 784, "Linux ABI");
_Static_assert(offsetof(struct ucontext, mcontext) == 176, "Linux ABI");
_Static_assert(sizeof(struct rt_sigframe) == 1088, "Linux ABI");
_Static_assert(offsetof(struct trap_frame, status) == sizeof(uint64_t[32]), "registers[]");

extern const char sigreturn_code[], sigreturn_code_end[];

const void *
arch_sigreturn_code(size_t *out_bytes)
{
    *out_bytes = (size_t)(sigreturn_code_end - sigreturn_code);
    return sigreturn_code;
}

size_t
arch_signal_frame_bytes(void)
{
    return sizeof(struct rt_sigframe) + 16;
}

/* ---- in --------------------------------------------------------------------------------- */

/* Where the frame goes; false where the alternate stack would overflow. */
static bool
choose_stack(const struct trap_frame *frame, uint64_t action_flags, uint64_t *out_at)
{
    struct thread *thread = thread_current();
    const struct signal_stack *stack = &thread->altstack;
    bool on_stack = signal_on_altstack(thread, frame->sp);
    uint64_t sp = frame->sp;

    if ((action_flags & SA_ONSTACK) && stack->size != 0 && !on_stack) {
        sp = stack->base + stack->size;
        on_stack = true;
    }
    *out_at = (sp - sizeof(struct rt_sigframe)) & ~(uint64_t)15;
    return !on_stack || sp - stack->base >= arch_signal_frame_bytes();
}

int64_t
arch_signal_push(struct trap_frame *frame, int number, const struct signal_action *action,
                 const struct signal_info *info, signal_set mask)
{
    struct thread *thread = thread_current();
    struct rt_sigframe out = {0};
    uint64_t at;

    if (!choose_stack(frame, action->flags, &at))
        return -EFAULT;
    out.info = *info;
    out.context.stack = thread->altstack;
    out.context.mask = mask;
    memcpy(out.context.mcontext.registers, frame, sizeof(out.context.mcontext.registers));
    arch_fpu_save(&out.context.mcontext.fpu);
    if (user_write(at, &out, sizeof(out)) != 0)
        return -EFAULT;
    if (thread->altstack.flags & SS_AUTODISARM)
        thread->altstack = (struct signal_stack){.flags = SS_DISABLE};

    frame->ra = thread->process->mm->sigreturn;
    frame->sp = at;
    frame->pc = action->handler;
    frame->a[0] = (uint64_t)number;
    frame->a[1] = at + offsetof(struct rt_sigframe, info);
    frame->a[2] = at + offsetof(struct rt_sigframe, context);
    frame->cause = 0;
    return 0;
}

/* ---- out -------------------------------------------------------------------------------- */

/* The stack as the frame remembers it; nonsense in there is ignored, as by Linux. */
static void
restore_altstack(struct thread *thread, const struct signal_stack *stack)
{
    uint32_t mode = stack->flags & ~SS_AUTODISARM;

    if (mode == SS_DISABLE)
        thread->altstack = (struct signal_stack){.flags = stack->flags};
    else if ((mode == 0 || mode == SS_ONSTACK) && stack->size >= 2048)
        thread->altstack = *stack;
}

int64_t
arch_signal_pop(struct trap_frame *frame, signal_set *out_mask)
{
    struct ucontext context;

    if (user_read(&context, frame->sp + offsetof(struct rt_sigframe, context), sizeof(context)) !=
            0 ||
        !arch_fpu_load(&context.mcontext.fpu))
        return -EFAULT;
    memcpy(frame, context.mcontext.registers, sizeof(context.mcontext.registers));
    frame_sanitize(frame);
    restore_altstack(thread_current(), &context.stack);
    *out_mask = context.mask;
    return 0;
}

void
arch_restart_block(struct trap_frame *frame)
{
    frame->a[7] = ARCH_SYSCALL_RESTART;
    frame_restart_syscall(frame);
}
