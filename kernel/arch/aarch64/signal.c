/* SPDX-License-Identifier: MIT */
/*
 * Signal frames exactly as Linux lays them out on AArch64, because C libraries,
 * unwinders and debuggers know this layout:
 *
 *      sp          siginfo
 *                  ucontext; its mcontext ends in 4096 bytes of records:
 *                      floating-point registers, then the syndrome of a fault,
 *                      then one of size 0
 *      sp + 4688   the interrupted x29 and pc: the handler's caller, for unwinders
 *
 * The handler returns through x30 to the restorer, or to the code that exec mapped.
 */
#include <arch.h>

#include <quire/assert.h>

#include <kstring.h>

#include "abi_errno.h"
#include "arch_abi.h"
#include "cpu.h"
#include "mm.h"
#include "proc.h"
#include "../../proc/proc_private.h"

#define FPSIMD_MAGIC 0x46508001u
#define ESR_MAGIC    0x45535201u

#define RECORDS_BYTES 4096u
#define RECORDS_MAX   64u

struct record {
    uint32_t magic;
    uint32_t bytes; /* with this header; 0 and 0 end the list */
};

struct fpsimd_record {
    struct record head;
    uint32_t fpsr, fpcr;
    uint8_t registers[512];
};

struct esr_record {
    struct record head;
    uint64_t esr;
};

struct sigcontext {
    uint64_t fault_address;
    uint64_t x[31];
    uint64_t sp, pc, pstate;
    uint64_t pad; /* the records are aligned to 16 */
};

struct ucontext {
    uint64_t flags;
    uint64_t link;
    struct signal_stack stack;
    signal_set mask;
    uint8_t unused[120]; /* room for 1024 signals */
    uint64_t pad;
    struct sigcontext mcontext;
};

/** The part that is always written; the records follow it. */
struct rt_sigframe {
    struct signal_info info;
    struct ucontext context;
};

struct frame_link {
    uint64_t fp, lr;
};

#define FRAME_TOTAL_BYTES (sizeof(struct rt_sigframe) + RECORDS_BYTES)

_Static_assert(offsetof(struct ucontext, mcontext) == 176, "Linux ABI");
_Static_assert(sizeof(struct sigcontext) == 288, "Linux ABI");
_Static_assert(sizeof(struct fpsimd_record) == 528, "Linux ABI");
_Static_assert(FRAME_TOTAL_BYTES == 4688, "Linux ABI");

size_t
arch_signal_frame_bytes(void)
{
    /* The frame, the link, and room to align. */
    return FRAME_TOTAL_BYTES + sizeof(struct frame_link) + 16;
}

/** What programs without a restorer return to: mov x8, #139; svc #0. */
static const uint32_t sigreturn_code[] = {0xd2801168, 0xd4000001};

const void *
arch_sigreturn_code(size_t *out_bytes)
{
    *out_bytes = sizeof sigreturn_code;
    return sigreturn_code;
}

/* ---- in --------------------------------------------------------------------------------- */

/* A separate function: the image is large, and nothing else of the frame needs it on the stack. */
static QR_NOINLINE int64_t
records_push(uint64_t at, const struct trap_frame *frame)
{
    _Alignas(16) uint8_t image[FPU_BYTES];
    struct fpsimd_record fpsimd = {.head = {FPSIMD_MAGIC, sizeof fpsimd}};
    struct {
        struct esr_record esr;
        struct record end;
    } rest = {.esr = {{ESR_MAGIC, sizeof(struct esr_record)}, frame->esr}};
    bool fault = thread_current()->fault_address != 0 && !frame_is_syscall(frame);

    arch_fpu_save(image);
    memcpy(fpsimd.registers, image, sizeof fpsimd.registers);
    memcpy(&fpsimd.fpsr, image + FPU_FPSR, 4);
    memcpy(&fpsimd.fpcr, image + FPU_FPCR, 4);
    if (user_write(at, &fpsimd, sizeof fpsimd) != 0)
        return -EFAULT;
    at += sizeof fpsimd;
    return fault ? user_write(at, &rest, sizeof rest) : user_write(at, &rest.end, sizeof rest.end);
}

static void
context_save(struct sigcontext *to, const struct trap_frame *from)
{
    memcpy(to->x, from->x, sizeof to->x);
    to->sp = from->sp;
    to->pc = from->pc;
    to->pstate = from->pstate;
    to->fault_address = thread_current()->fault_address;
}

/* Where the frame goes; false where the alternate stack would overflow. */
static bool
choose_stack(const struct trap_frame *frame, uint64_t action_flags, uint64_t *out_sp)
{
    struct thread *thread = thread_current();
    const struct signal_stack *stack = &thread->altstack;
    bool on_stack = signal_on_altstack(thread, frame->sp);
    uint64_t sp = frame->sp;

    if ((action_flags & SA_ONSTACK) && stack->size != 0 && !on_stack) {
        sp = stack->base + stack->size;
        on_stack = true;
    }
    *out_sp = sp;
    return !on_stack || sp - stack->base >= arch_signal_frame_bytes();
}

int64_t
arch_signal_push(struct trap_frame *frame, int number, const struct signal_action *action,
                 const struct signal_info *info, signal_set mask)
{
    struct thread *thread = thread_current();
    struct frame_link link = {frame->x[29], frame->pc};
    struct rt_sigframe out = {0};
    uint64_t sp, at;

    if (!choose_stack(frame, action->flags, &sp))
        return -EFAULT;
    sp = (sp & ~(uint64_t)15) - sizeof link;
    at = sp - FRAME_TOTAL_BYTES;
    out.info = *info;
    out.context.stack = thread->altstack;
    out.context.mask = mask;
    context_save(&out.context.mcontext, frame);
    if (user_write(sp, &link, sizeof link) != 0 || user_write(at, &out, sizeof out) != 0 ||
        records_push(at + sizeof out, frame) != 0)
        return -EFAULT;
    if (thread->altstack.flags & SS_AUTODISARM)
        thread->altstack = (struct signal_stack){.flags = SS_DISABLE};

    frame->x[0] = (uint64_t)number;
    frame->x[1] = at + offsetof(struct rt_sigframe, info);
    frame->x[2] = at + offsetof(struct rt_sigframe, context);
    frame->x[29] = sp;
    frame->x[30] = action->flags & SA_RESTORER ? action->restorer : thread->process->mm->sigreturn;
    frame->sp = at;
    frame->pc = action->handler;
    frame_sanitize(frame);
    return 0;
}

/* ---- out -------------------------------------------------------------------------------- */

static int64_t
fpsimd_pop(uint64_t at)
{
    _Alignas(16) uint8_t image[FPU_BYTES] = {0};
    struct fpsimd_record fpsimd;
    uintptr_t flags;
    bool loaded;

    if (user_read(&fpsimd, at, sizeof fpsimd) != 0 || fpsimd.head.bytes != sizeof fpsimd)
        return -EFAULT;
    memcpy(image, fpsimd.registers, sizeof fpsimd.registers);
    memcpy(image + FPU_FPSR, &fpsimd.fpsr, 4);
    memcpy(image + FPU_FPCR, &fpsimd.fpcr, 4);
    flags = irq_save();
    loaded = arch_fpu_load(image);
    irq_restore(flags);
    return loaded ? 0 : -EFAULT;
}

/* The floating-point registers are the one record that has to be there. */
static QR_NOINLINE int64_t
records_pop(uint64_t at)
{
    uint64_t end = at + RECORDS_BYTES;

    for (unsigned i = 0; i < RECORDS_MAX && end - at >= sizeof(struct record); i++) {
        struct record record;

        if (user_read(&record, at, sizeof record) != 0)
            return -EFAULT;
        if (record.magic == FPSIMD_MAGIC)
            return fpsimd_pop(at);
        if (record.bytes < sizeof record || record.bytes % 16 != 0 || record.bytes > end - at)
            return -EFAULT;
        at += record.bytes;
    }
    return -EFAULT;
}

static void
context_load(struct trap_frame *to, const struct sigcontext *from)
{
    memcpy(to->x, from->x, sizeof to->x);
    to->sp = from->sp;
    to->pc = from->pc;
    to->pstate = from->pstate;
    frame_sanitize(to);
}

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
    uint64_t at = frame->sp;

    if ((at & 15) != 0 ||
        user_read(&context, at + offsetof(struct rt_sigframe, context), sizeof(context)) != 0 ||
        records_pop(at + sizeof(struct rt_sigframe)) != 0)
        return -EFAULT;
    context_load(frame, &context.mcontext);
    restore_altstack(thread_current(), &context.stack);
    *out_mask = context.mask;
    return 0;
}

void
arch_restart_block(struct trap_frame *frame)
{
    frame_restart_syscall(frame);
    frame->x[8] = ARCH_SYSCALL_RESTART;
}
