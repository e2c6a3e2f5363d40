/* SPDX-License-Identifier: MIT */
/*
 * Signal frames exactly as Linux lays them out on i386, because C libraries,
 * unwinders and debuggers know this layout:
 *
 *      sp + 0      return address: the restorer, or our code at mm->sigreturn
 *      sp + 4      number
 *                  SA_SIGINFO: pointers to siginfo and ucontext, and both
 *                  else: sigcontext, room that is not used, the rest of the mask
 *                  ... padding ...
 *                  112 bytes: registers as FNSAVE leaves them
 *      aligned 64  the state of FXSAVE or XSAVE, where the CPU has them; for XSAVE its size and
 *                  features stand in reserved words, a second magic number follows it
 *
 * At the handler's entry sp + 4 is a multiple of 16, as after a call.
 */
#include "abi.h"

#include <quire/assert.h>

#include <kstring.h>

#include "../../proc/proc_private.h"
#include "arch_abi.h"
#include "cpu.h"
#include "proc.h"

#define FP_XSTATE_MAGIC1 0x46505853u
#define FP_XSTATE_MAGIC2 0x46505845u
#define UC_FP_XSTATE     1u

#define FPU_BYTES_LIMIT    4096u
#define FXSAVE_BYTES       512u
#define FXSAVE_REGISTERS   32u
#define SW_RESERVED_OFFSET 464u

#define SYSCALL_SIGRETURN 119u

/** struct _fpstate up to where FXSAVE's part begins. */
struct fpstate {
    uint32_t control, status, tag, ip, cs, data, ds;
    uint8_t registers[8][10];
    uint16_t status_again;
    uint16_t magic; /* 0xffff: nothing follows */
};

struct sigcontext {
    uint16_t gs, gs_high, fs, fs_high, es, es_high, ds, ds_high;
    uint32_t edi, esi, ebp, esp, ebx, edx, ecx, eax, trapno, err, eip;
    uint16_t cs, cs_high;
    uint32_t eflags, esp_at_signal;
    uint16_t ss, ss_high;
    uint32_t fpstate, oldmask, cr2;
};

struct sigframe {
    uint32_t return_address, number;
    struct sigcontext context;
    uint8_t unused[624];
    uint32_t mask_high;
    uint8_t code[8];
};

struct ucontext {
    uint32_t flags, link;
    uint32_t stack_base, stack_flags, stack_size;
    struct sigcontext mcontext;
    signal_set mask;
};

struct rt_sigframe {
    uint32_t return_address, number, info_at, context_at;
    struct abi_siginfo info;
    struct ucontext context;
    uint8_t code[8];
};

struct fpx_sw_bytes {
    uint32_t magic1;
    uint32_t extended_size;
    uint64_t xfeatures;
    uint32_t xstate_size;
    uint32_t padding[7];
};

_Static_assert(sizeof(struct fpstate) == 112, "Linux ABI");
_Static_assert(sizeof(struct sigcontext) == 88, "Linux ABI");
_Static_assert(sizeof(struct ucontext) == 116, "Linux ABI: the kernel's sigset is 8 bytes");
_Static_assert(sizeof(struct sigframe) == 732, "Linux ABI");
_Static_assert(sizeof(struct fpx_sw_bytes) == 48, "Linux ABI");

static const uint8_t sigreturn_code[] = {
    0x58,                   /* popl %eax: the number */
    0xb8, 0x77, 0,    0, 0, /* movl $119, %eax: sigreturn */
    0xcd, 0x80,             /* int $0x80 */
    0xb8, 0xad, 0,    0, 0, /* movl $173, %eax: rt_sigreturn */
    0xcd, 0x80, 0x90,       /* int $0x80 */
};

#define RT_SIGRETURN_OFFSET 8u

const void *
arch_sigreturn_code(size_t *out_bytes)
{
    *out_bytes = sizeof sigreturn_code;
    return sigreturn_code;
}

/* Bytes of the floating-point part on the user's stack after the first 112. */
static size_t
extended_bytes(void)
{
    if (!cpu_features.fxsr)
        return 0;
    return arch_fpu_bytes() + (cpu_features.xsave ? sizeof(uint32_t) : 0);
}

size_t
arch_signal_frame_bytes(void)
{
    size_t frame = sizeof(struct sigframe);

    return (frame + sizeof(struct fpstate) + extended_bytes() + 63 + 16 + 15) & ~(size_t)15;
}

/* ---- FXSAVE's registers and FNSAVE's ------------------------------------------------------ */

/** The start of an FXSAVE image, in 32-bit mode. */
struct fxsave {
    uint16_t control, status;
    uint8_t tag, reserved;
    uint16_t opcode;
    uint32_t ip;
    uint16_t cs, pad0;
    uint32_t data;
    uint16_t ds, pad1;
};

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

/* FXSAVE keeps only whether a register is empty: look at its contents, as FNSAVE does. */
static uint32_t
register_tag(const uint8_t *bytes)
{
    uint64_t significand;
    uint16_t exponent;

    memcpy(&significand, bytes, sizeof significand);
    memcpy(&exponent, bytes + 8, sizeof exponent);
    exponent &= 0x7fff;
    if (exponent == 0x7fff)
        return TAG_SPECIAL;
    if (exponent == 0)
        return significand == 0 ? TAG_ZERO : TAG_SPECIAL;
    return significand >> 63 ? TAG_VALID : TAG_SPECIAL;
}

static void
fpstate_of(const uint8_t *image, struct fpstate *out)
{
    struct fxsave fx;
    unsigned top;

    memcpy(&fx, image, sizeof fx);
    top = fx.status >> 11 & 7;
    *out = (struct fpstate){
        .control = fx.control | 0xffff0000u,
        .status = fx.status | 0xffff0000u,
        .tag = 0xffff0000u,
        .ip = fx.ip,
        .cs = fx.cs | (uint32_t)fx.opcode << 16,
        .data = fx.data,
        .ds = fx.ds | 0xffff0000u,
        .status_again = fx.status,
    };
    for (unsigned i = 0; i < 8; i++)
        memcpy(out->registers[i], image + FXSAVE_REGISTERS + i * 16, 10);
    /* The tags stand by register, the registers by distance from the top of the stack. */
    for (unsigned i = 0; i < 8; i++) {
        uint32_t tag =
            fx.tag >> i & 1 ? register_tag(out->registers[(i - top) & 7]) : (uint32_t)TAG_EMPTY;

        out->tag |= tag << i * 2;
    }
}

static void
fpstate_into(const struct fpstate *from, uint8_t *image)
{
    struct fxsave fx;

    memcpy(&fx, image, sizeof fx);
    fx.control = (uint16_t)from->control;
    fx.status = (uint16_t)from->status;
    fx.tag = 0;
    for (unsigned i = 0; i < 8; i++)
        fx.tag |= (uint8_t)((from->tag >> i * 2 & 3) != TAG_EMPTY) << i;
    fx.opcode = (uint16_t)(from->cs >> 16);
    fx.ip = from->ip;
    fx.cs = (uint16_t)from->cs;
    fx.data = from->data;
    fx.ds = (uint16_t)from->ds;
    memcpy(image, &fx, sizeof fx);
    for (unsigned i = 0; i < 8; i++)
        memcpy(image + FXSAVE_REGISTERS + i * 16, from->registers[i], 10);
}

/* ---- floating-point state ------------------------------------------------------------------- */

static void
mark_extended(uint8_t *image, size_t bytes)
{
    struct fpx_sw_bytes sw = {
        .magic1 = FP_XSTATE_MAGIC1,
        .extended_size = (uint32_t)(sizeof(struct fpstate) + bytes + sizeof(uint32_t)),
        .xfeatures = cpu_features.xcr0,
        .xstate_size = (uint32_t)bytes,
    };
    uint32_t magic2 = FP_XSTATE_MAGIC2;

    memcpy(image + SW_RESERVED_OFFSET, &sw, sizeof sw);
    memcpy(image + bytes, &magic2, sizeof magic2);
}

/* Separate functions: the image is large, and nothing else of the frame needs it on the stack. */
static QR_NOINLINE int64_t
fpu_push(uint64_t address)
{
    _Alignas(64) uint8_t image[FPU_BYTES_LIMIT + sizeof(uint32_t)];
    struct fpstate legacy = {.magic = 0xffff};
    size_t bytes = arch_fpu_bytes();

    qr_assert(bytes <= FPU_BYTES_LIMIT);
    memset(image, 0, bytes); /* the CPU leaves reserved words and gaps as they are */
    arch_fpu_save(image);
    if (!cpu_features.fxsr) {
        memcpy(&legacy, image, bytes);
        legacy.status_again = (uint16_t)legacy.status;
        return user_write(address, &legacy, sizeof legacy);
    }
    fpstate_of(image, &legacy);
    if (cpu_features.xsave)
        mark_extended(image, bytes);
    if (user_write(address, &legacy, sizeof legacy) != 0)
        return -EFAULT;
    return user_write(address + sizeof legacy, image, extended_bytes());
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
           user_read_u32(&magic2, address + sw.xstate_size) == 0 && magic2 == FP_XSTATE_MAGIC2;
}

static int64_t
extended_read(uint8_t *image, uint64_t address)
{
    uint64_t legacy_features = 3;

    if (user_read(image, address, FXSAVE_BYTES) != 0)
        return -EFAULT;
    if (is_extended(image, address))
        return user_read(image, address, arch_fpu_bytes());
    if (cpu_features.xsave) {
        memset(image + FXSAVE_BYTES, 0, arch_fpu_bytes() - FXSAVE_BYTES);
        memcpy(image + FXSAVE_BYTES, &legacy_features, sizeof legacy_features);
    }
    return 0;
}

static QR_NOINLINE int64_t
fpu_pop(uint64_t address)
{
    _Alignas(64) uint8_t image[FPU_BYTES_LIMIT];
    struct fpstate legacy;
    uint64_t features;
    bool loaded;

    if (address == 0) {
        arch_fpu_reset(); /* the handler asked for the initial state */
        return 0;
    }
    if (user_read(&legacy, address, sizeof legacy) != 0)
        return -EFAULT;
    if (!cpu_features.fxsr) {
        memcpy(image, &legacy, arch_fpu_bytes());
    } else {
        if (extended_read(image, address + sizeof legacy) != 0)
            return -EFAULT;
        fpstate_into(&legacy, image);
        if (cpu_features.xsave) { /* what was put in is to be loaded */
            memcpy(&features, image + FXSAVE_BYTES, sizeof features);
            features |= 1;
            memcpy(image + FXSAVE_BYTES, &features, sizeof features);
        }
    }
    uintptr_t flags = irq_save();
    loaded = arch_fpu_load(image);
    irq_restore(flags);
    return loaded ? 0 : -EFAULT;
}

/* ---- in --------------------------------------------------------------------------------------- */

static struct sigcontext
context_of(const struct trap_frame *from, signal_set mask, uint64_t fpstate)
{
    struct sigcontext to = {
        .gs = (uint16_t)from->gs,
        .fs = (uint16_t)from->fs,
        .es = (uint16_t)from->es,
        .ds = (uint16_t)from->ds,
        .edi = from->edi,
        .esi = from->esi,
        .ebp = from->ebp,
        .esp = from->esp,
        .ebx = from->ebx,
        .edx = from->edx,
        .ecx = from->ecx,
        .eax = from->eax,
        .eip = from->eip,
        .cs = (uint16_t)from->cs,
        .eflags = from->eflags,
        .esp_at_signal = from->esp,
        .ss = (uint16_t)from->ss,
        .fpstate = (uint32_t)fpstate,
        .oldmask = (uint32_t)mask,
    };

    if (from->vector < 32) {
        to.err = from->code;
        to.trapno = from->vector;
        to.cr2 = (uint32_t)thread_current()->fault_address;
    }
    return to;
}

/* Where the frame goes; false where the alternate stack would overflow. */
static bool
choose_stack(const struct trap_frame *frame, uint64_t action_flags, uint64_t *out_sp)
{
    struct thread *thread = thread_current();
    const struct signal_stack *stack = &thread->altstack;
    bool on_stack = signal_on_altstack(thread, frame->esp);
    uint64_t sp = frame->esp;

    if ((action_flags & SA_ONSTACK) && stack->size != 0 && !on_stack) {
        sp = stack->base + stack->size;
        on_stack = true;
    }
    *out_sp = sp;
    return (!on_stack || sp - stack->base >= arch_signal_frame_bytes()) &&
           sp > arch_signal_frame_bytes();
}

static int64_t
push_old(uint64_t at, int number, uint32_t restorer, const struct sigcontext *context,
         signal_set mask)
{
    struct sigframe out = {
        .return_address = restorer,
        .number = (uint32_t)number,
        .context = *context,
        .mask_high = (uint32_t)(mask >> 32),
    };

    memcpy(out.code, sigreturn_code, sizeof out.code); /* debuggers know frames by it */
    return user_write(at, &out, sizeof out);
}

static int64_t
push_rt(uint64_t at, uint32_t restorer, const struct sigcontext *context, signal_set mask,
        const struct signal_info *info)
{
    const struct signal_stack *stack = &thread_current()->altstack;
    struct rt_sigframe out = {
        .return_address = restorer,
        .number = (uint32_t)info->number,
        .info_at = (uint32_t)(at + offsetof(struct rt_sigframe, info)),
        .context_at = (uint32_t)(at + offsetof(struct rt_sigframe, context)),
        .context = {.flags = cpu_features.xsave ? UC_FP_XSTATE : 0,
                    .stack_base = (uint32_t)stack->base,
                    .stack_flags = stack->flags,
                    .stack_size = (uint32_t)stack->size,
                    .mcontext = *context,
                    .mask = mask},
    };

    abi_siginfo_of(info, &out.info);
    memcpy(out.code, sigreturn_code + RT_SIGRETURN_OFFSET, sizeof out.code);
    return user_write(at, &out, sizeof out);
}

/* What the handler returns to. */
static uint32_t
restorer_of(const struct signal_action *action, bool rt)
{
    if (action->flags & SA_RESTORER)
        return (uint32_t)action->restorer;
    return (uint32_t)process_current()->mm->sigreturn + (rt ? RT_SIGRETURN_OFFSET : 0);
}

int64_t
arch_signal_push(struct trap_frame *frame, int number, const struct signal_action *action,
                 const struct signal_info *info, signal_set mask)
{
    struct thread *thread = thread_current();
    bool rt = (action->flags & SA_SIGINFO) != 0;
    size_t bytes = rt ? sizeof(struct rt_sigframe) : sizeof(struct sigframe);
    struct sigcontext context;
    uint64_t sp, fpstate, at;
    int64_t error;

    if (!choose_stack(frame, action->flags, &sp))
        return -EFAULT;
    fpstate = ((sp - extended_bytes()) & ~(uint64_t)63) - sizeof(struct fpstate);
    at = ((fpstate - bytes + 4) & ~(uint64_t)15) - 4;
    context = context_of(frame, mask, fpstate);
    error = rt ? push_rt(at, restorer_of(action, rt), &context, mask, info)
               : push_old(at, number, restorer_of(action, rt), &context, mask);
    if (error != 0 || fpu_push(fpstate) != 0)
        return -EFAULT;
    arch_fpu_reset(); /* as Linux: the handler starts with the initial state */
    if (thread->altstack.flags & SS_AUTODISARM)
        thread->altstack = (struct signal_stack){.flags = SS_DISABLE};

    frame->eax = (uint32_t)number;
    frame->edx = rt ? (uint32_t)(at + offsetof(struct rt_sigframe, info)) : 0;
    frame->ecx = rt ? (uint32_t)(at + offsetof(struct rt_sigframe, context)) : 0;
    frame->esp = (uint32_t)at;
    frame->eip = (uint32_t)action->handler;
    frame->eflags &= ~(uint32_t)(1 << 8 | 1 << 10 | 1 << 16); /* TF, DF, RF */
    frame->vector = 0;
    frame->cs = USER_CS;
    frame->ds = frame->es = frame->ss = USER_DS;
    return 0;
}

/* ---- out -------------------------------------------------------------------------------------- */

static void
context_load(struct trap_frame *to, const struct sigcontext *from)
{
    to->gs = from->gs;
    to->fs = from->fs;
    to->es = from->es;
    to->ds = from->ds;
    to->edi = from->edi;
    to->esi = from->esi;
    to->ebp = from->ebp;
    to->esp = from->esp;
    to->ebx = from->ebx;
    to->edx = from->edx;
    to->ecx = from->ecx;
    to->eax = from->eax;
    to->eip = from->eip;
    to->eflags = from->eflags;
    frame_sanitize(to);
}

/* The stack as the frame remembers it; nonsense in there is ignored, as by Linux. */
static void
restore_altstack(struct thread *thread, const struct ucontext *from)
{
    struct signal_stack stack = {
        .base = from->stack_base, .flags = from->stack_flags, .size = from->stack_size};
    uint32_t mode = stack.flags & ~SS_AUTODISARM;

    if (mode == SS_DISABLE)
        thread->altstack = (struct signal_stack){.flags = stack.flags};
    else if ((mode == 0 || mode == SS_ONSTACK) && stack.size >= 2048)
        thread->altstack = stack;
}

/* The restorer has popped the return address and the number. */
static int64_t
pop_old(struct trap_frame *frame, signal_set *out_mask)
{
    uint64_t at = frame->esp - 8;
    struct sigcontext context;
    uint32_t mask_high;

    if (user_read(&context, at + offsetof(struct sigframe, context), sizeof context) != 0 ||
        user_read_u32(&mask_high, at + offsetof(struct sigframe, mask_high)) != 0 ||
        fpu_pop(context.fpstate) != 0)
        return -EFAULT;
    *out_mask = (signal_set)mask_high << 32 | context.oldmask;
    context_load(frame, &context);
    return 0;
}

int64_t
arch_signal_pop(struct trap_frame *frame, signal_set *out_mask)
{
    struct ucontext context;
    uint64_t at = frame->esp - 4; /* the handler has popped the return address */

    if (frame->code == SYSCALL_SIGRETURN)
        return pop_old(frame, out_mask);
    if (user_read(&context, at + offsetof(struct rt_sigframe, context), sizeof context) != 0 ||
        fpu_pop(context.mcontext.fpstate) != 0)
        return -EFAULT;
    context_load(frame, &context.mcontext);
    restore_altstack(thread_current(), &context);
    *out_mask = context.mask;
    return 0;
}

int64_t
abi_sigreturn(const struct syscall_args *args)
{
    return sys_rt_sigreturn(args); /* which asks arch_signal_pop() */
}

void
arch_restart_block(struct trap_frame *frame)
{
    frame->code = ARCH_SYSCALL_RESTART;
    frame_restart_syscall(frame);
}
