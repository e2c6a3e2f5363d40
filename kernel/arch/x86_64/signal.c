/* SPDX-License-Identifier: MIT */
/*
 * Signal frames exactly as Linux lays them out on x86-64, because C libraries,
 * unwinders and debuggers know this layout:
 *
 *      sp + 0      return address: the restorer
 *      sp + 8      ucontext
 *                  siginfo
 *                  ... padding ...
 *      aligned 64  floating-point state; for XSAVE its size and features stand in
 *                  the legacy area's reserved words, a second magic number follows it
 *
 * At the handler's entry sp + 8 is a multiple of 16, as after a call.
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

#define FP_XSTATE_MAGIC1     0x46505853u
#define FP_XSTATE_MAGIC2     0x46505845u
#define UC_FP_XSTATE         1u
#define UC_SIGCONTEXT_SS     2u
#define UC_STRICT_RESTORE_SS 4u

#define RED_ZONE_BYTES     128u
#define FPU_BYTES_LIMIT    4096u
#define FXSAVE_BYTES       512u
#define SW_RESERVED_OFFSET 464u

struct sigcontext {
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
    uint16_t cs, gs, fs, ss;
    uint64_t err, trapno, oldmask, cr2;
    uint64_t fpstate;
    uint64_t reserved[8];
};

struct ucontext {
    uint64_t flags;
    uint64_t link;
    struct signal_stack stack;
    struct sigcontext mcontext;
    signal_set mask;
};

struct rt_sigframe {
    uint64_t return_address;
    struct ucontext context;
    struct signal_info info;
};

struct fpx_sw_bytes {
    uint32_t magic1;
    uint32_t extended_size;
    uint64_t xfeatures;
    uint32_t xstate_size;
    uint32_t padding[7];
};

_Static_assert(sizeof(struct sigcontext) == 256, "Linux ABI");
_Static_assert(sizeof(struct ucontext) == 304, "Linux ABI: the kernel's sigset is 8 bytes");
_Static_assert(sizeof(struct signal_info) == 128, "Linux ABI");
_Static_assert(sizeof(struct fpx_sw_bytes) == 48, "Linux ABI");

/* Bytes of the floating-point part on the user's stack. */
static size_t
fpu_frame_bytes(void)
{
    return arch_fpu_bytes() + (cpu_features.xsave ? sizeof(uint32_t) : 0);
}

size_t
arch_signal_frame_bytes(void)
{
    /* Linux: the frame, the state, and room to align both. */
    return (sizeof(struct rt_sigframe) + fpu_frame_bytes() + 63 + 16 + 15) & ~(size_t)15;
}

/* ---- floating-point state --------------------------------------------------------- */

/* Separate functions: the image is large, and nothing else of the frame needs it on the stack. */
static QR_NOINLINE int64_t
fpu_push(uint64_t address)
{
    _Alignas(64) uint8_t image[FPU_BYTES_LIMIT + sizeof(uint32_t)];
    size_t bytes = arch_fpu_bytes();

    qr_assert(bytes <= FPU_BYTES_LIMIT);
    memset(image, 0, bytes); /* the CPU leaves reserved words and gaps as they are */
    arch_fpu_save(image);
    if (cpu_features.xsave) {
        struct fpx_sw_bytes sw = {
            .magic1 = FP_XSTATE_MAGIC1,
            .extended_size = (uint32_t)(bytes + sizeof(uint32_t)),
            .xfeatures = cpu_features.xcr0,
            .xstate_size = (uint32_t)bytes,
        };
        uint32_t magic2 = FP_XSTATE_MAGIC2;

        memcpy(image + SW_RESERVED_OFFSET, &sw, sizeof(sw));
        memcpy(image + bytes, &magic2, sizeof(magic2));
        bytes += sizeof(magic2);
    }
    return user_write(address, image, bytes);
}

/* Is this an XSAVE image of our own making? Otherwise only the legacy part counts. */
static bool
is_extended(const uint8_t *image, uint64_t address)
{
    struct fpx_sw_bytes sw;
    uint32_t magic2;

    if (!cpu_features.xsave)
        return false;
    memcpy(&sw, image + SW_RESERVED_OFFSET, sizeof(sw));
    return sw.magic1 == FP_XSTATE_MAGIC1 && sw.xstate_size == arch_fpu_bytes() &&
           sw.extended_size == arch_fpu_bytes() + sizeof(uint32_t) &&
           user_read_u32(&magic2, address + sw.xstate_size) == 0 && magic2 == FP_XSTATE_MAGIC2;
}

static QR_NOINLINE int64_t
fpu_pop(uint64_t address)
{
    _Alignas(64) uint8_t image[FPU_BYTES_LIMIT];
    uint64_t legacy_features = 3;
    bool loaded;

    if (address == 0) {
        arch_fpu_reset(); /* the handler asked for the initial state */
        return 0;
    }
    if (user_read(image, address, FXSAVE_BYTES) != 0)
        return -EFAULT;
    if (is_extended(image, address)) {
        if (user_read(image, address, arch_fpu_bytes()) != 0)
            return -EFAULT;
    } else if (cpu_features.xsave) {
        memset(image + FXSAVE_BYTES, 0, arch_fpu_bytes() - FXSAVE_BYTES);
        memcpy(image + FXSAVE_BYTES, &legacy_features, sizeof(legacy_features));
        if (cpu_features.pku) /* a legacy image says nothing of it */
            fpu_image_set_pkru(image, pkru_read());
    }
    uintptr_t flags = irq_save();
    loaded = arch_fpu_load(image);
    irq_restore(flags);
    return loaded ? 0 : -EFAULT;
}

/* ---- in --------------------------------------------------------------------------------- */

static void
context_save(struct sigcontext *to, const struct trap_frame *from, signal_set mask)
{
    *to = (struct sigcontext){
        .r8 = from->r8,
        .r9 = from->r9,
        .r10 = from->r10,
        .r11 = from->r11,
        .r12 = from->r12,
        .r13 = from->r13,
        .r14 = from->r14,
        .r15 = from->r15,
        .rdi = from->rdi,
        .rsi = from->rsi,
        .rbp = from->rbp,
        .rbx = from->rbx,
        .rdx = from->rdx,
        .rax = from->rax,
        .rcx = from->rcx,
        .rsp = from->rsp,
        .rip = from->rip,
        .rflags = from->rflags,
        .cs = (uint16_t)from->cs,
        .ss = (uint16_t)from->ss,
        .oldmask = mask,
    };
    if (from->vector < 32) {
        to->err = from->code;
        to->trapno = from->vector;
        to->cr2 = thread_current()->fault_address;
    }
}

/* Where the frame goes; false where the alternate stack would overflow. */
static bool
choose_stack(const struct trap_frame *frame, uint64_t action_flags, uint64_t *out_sp)
{
    struct thread *thread = thread_current();
    const struct signal_stack *stack = &thread->altstack;
    bool on_stack = signal_on_altstack(thread, frame->rsp);
    uint64_t sp = frame->rsp - RED_ZONE_BYTES;

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
    struct rt_sigframe out = {0};
    uint64_t sp, fpstate, at;

    /* Without a restorer there is nothing to return to. */
    if (!(action->flags & SA_RESTORER) || !choose_stack(frame, action->flags, &sp))
        return -EFAULT;
    fpstate = (sp - fpu_frame_bytes()) & ~(uint64_t)63;
    at = ((fpstate - sizeof(out)) & ~(uint64_t)15) - 8;

    out.return_address = action->restorer;
    out.context.flags =
        UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | (cpu_features.xsave ? UC_FP_XSTATE : 0);
    out.context.stack = thread->altstack;
    context_save(&out.context.mcontext, frame, mask);
    out.context.mcontext.fpstate = fpstate;
    out.context.mask = mask;
    out.info = *info;
    if (fpu_push(fpstate) != 0 || user_write(at, &out, sizeof(out)) != 0)
        return -EFAULT;
    arch_fpu_reset(); /* as Linux: the handler starts with the initial state */
    if (thread->altstack.flags & SS_AUTODISARM)
        thread->altstack = (struct signal_stack){.flags = SS_DISABLE};

    frame->rdi = (uint64_t)number;
    frame->rsi = at + offsetof(struct rt_sigframe, info);
    frame->rdx = at + offsetof(struct rt_sigframe, context);
    frame->rax = 0;
    frame->rsp = at;
    frame->rip = action->handler;
    frame->rflags &= ~(uint64_t)(1 << 8 | 1 << 10 | 1 << 16); /* TF, DF, RF */
    frame->vector = 0;
    frame->cs = USER_CS;
    frame->ss = USER_DS;
    return 0;
}

const void *
arch_sigreturn_code(size_t *out_bytes)
{
    *out_bytes = 0;
    return NULL;
}

/* ---- out -------------------------------------------------------------------------------- */

static void
context_load(struct trap_frame *to, const struct sigcontext *from)
{
    to->r8 = from->r8;
    to->r9 = from->r9;
    to->r10 = from->r10;
    to->r11 = from->r11;
    to->r12 = from->r12;
    to->r13 = from->r13;
    to->r14 = from->r14;
    to->r15 = from->r15;
    to->rdi = from->rdi;
    to->rsi = from->rsi;
    to->rbp = from->rbp;
    to->rbx = from->rbx;
    to->rdx = from->rdx;
    to->rax = from->rax;
    to->rcx = from->rcx;
    to->rsp = from->rsp;
    to->rip = from->rip;
    to->rflags = from->rflags;
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
    uint64_t at = frame->rsp - 8; /* the restorer has popped the return address */

    if (user_read(&context, at + offsetof(struct rt_sigframe, context), sizeof(context)) != 0)
        return -EFAULT;
    if (fpu_pop(context.mcontext.fpstate) != 0)
        return -EFAULT;
    context_load(frame, &context.mcontext);
    restore_altstack(thread_current(), &context.stack);
    *out_mask = context.mask;
    return 0;
}

void
arch_restart_block(struct trap_frame *frame)
{
    frame->code = ARCH_SYSCALL_RESTART;
    frame_restart_syscall(frame);
}
