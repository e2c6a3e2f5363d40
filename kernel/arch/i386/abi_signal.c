/* SPDX-License-Identifier: MIT */
/*
 * Signals: siginfo_t, sigaction and the alternate stack in their 32-bit forms, and
 * the calls of before real-time signals, whose sets have 32 bits.
 */
#include "abi.h"

#include "arch_sigaction.h"
#include "core.h"
#include "signal.h"

/* ---- siginfo_t --------------------------------------------------------------------------- */

enum info_form { INFO_SENT, INFO_TIMER, INFO_CHILD, INFO_FAULT };

/* Which member of the union counts. */
static enum info_form
info_form(int number, int code)
{
    if (code == SI_TIMER)
        return INFO_TIMER;
    if (code <= 0)
        return INFO_SENT;
    switch (number) {
    case SIGCHLD:
        return INFO_CHILD;
    case SIGSEGV:
    case SIGBUS:
    case SIGILL:
    case SIGFPE:
    case SIGTRAP:
        return INFO_FAULT;
    default:
        return INFO_SENT;
    }
}

void
abi_siginfo_of(const struct signal_info *info, struct abi_siginfo *out)
{
    *out = (struct abi_siginfo){
        .number = info->number, .error = info->error, .code = info->code, .words = {0}};
    switch (info_form(info->number, info->code)) {
    case INFO_SENT:
        out->sent.pid = info->sent.pid;
        out->sent.uid = info->sent.uid;
        out->sent.value = (uint32_t)info->sent.value;
        break;
    case INFO_TIMER:
        out->timer.id = info->timer.id;
        out->timer.overrun = info->timer.overrun;
        out->timer.value = (uint32_t)info->timer.value;
        break;
    case INFO_CHILD:
        out->child.pid = info->child.pid;
        out->child.uid = info->child.uid;
        out->child.status = info->child.status;
        out->child.user_ticks = (int32_t)info->child.user_ticks;
        out->child.system_ticks = (int32_t)info->child.system_ticks;
        break;
    case INFO_FAULT:
        out->fault.address = (uint32_t)info->fault.address;
        out->fault.address_lsb = info->fault.address_lsb;
        out->fault.lower = (uint32_t)info->fault.lower;
        out->fault.upper = (uint32_t)info->fault.upper;
        break;
    }
}

/* What a program queues is always of the form of a sent signal. */
void
signal_info_of(const struct abi_siginfo *user, struct signal_info *out)
{
    *out = (struct signal_info){.number = user->number, .error = user->error, .code = user->code};
    out->sent.pid = user->sent.pid;
    out->sent.uid = user->sent.uid;
    out->sent.value = user->sent.value;
}

static int64_t
queue_info(syscall_fn call, const struct syscall_args *args, unsigned n)
{
    struct abi_siginfo user;
    struct signal_info info;
    struct syscall_args native = *args;

    if (user_read(&user, args->arg[n], sizeof user) != 0)
        return -EFAULT;
    signal_info_of(&user, &info);
    native.arg[n] = exchange_address(&info);
    return exchange_call(call, &native, &info, sizeof info);
}

int64_t
abi_rt_sigqueueinfo(const struct syscall_args *args)
{
    return queue_info(sys_rt_sigqueueinfo, args, 2);
}

int64_t
abi_rt_tgsigqueueinfo(const struct syscall_args *args)
{
    return queue_info(sys_rt_tgsigqueueinfo, args, 3);
}

/* Those with a siginfo_t; all other requests have words and sets of registers. */
enum { REQUEST_GETSIGINFO = 0x4202, REQUEST_SETSIGINFO = 0x4203, REQUEST_PEEKSIGINFO = 0x4209 };

struct peek_block {
    struct {
        uint64_t first;
        uint32_t flags;
        int32_t count;
    } peek;
    struct signal_info info;
};

/* Signal by signal, since each has to be converted. */
static int64_t
peek_signals(const struct syscall_args *args)
{
    struct peek_block block;
    struct abi_siginfo user;
    struct syscall_args native = *args;
    int32_t done = 0, count;

    if (user_read(&block.peek, args->arg[2], sizeof block.peek) != 0 || block.peek.count <= 0)
        return sys_ptrace(args);
    count = block.peek.count;
    block.peek.count = 1;
    native.arg[2] = exchange_address(&block.peek);
    native.arg[3] = exchange_address(&block.info);
    while (done < count) {
        int64_t result = exchange_call(sys_ptrace, &native, &block, sizeof block);

        if (result == 1) {
            abi_siginfo_of(&block.info, &user);
            if (user_write(args->arg[3] + (uint64_t)done * sizeof user, &user, sizeof user) != 0)
                result = -EFAULT;
        }
        if (result != 1)
            return done > 0 ? done : result;
        done++;
        if (++block.peek.first == 0 || signal_is_pending())
            break;
    }
    return done;
}

int64_t
abi_ptrace(const struct syscall_args *args)
{
    struct abi_siginfo user;
    struct signal_info info;
    struct syscall_args native = *args;
    int64_t result;

    if (args->arg[0] == REQUEST_SETSIGINFO)
        return queue_info(sys_ptrace, args, 3);
    if (args->arg[0] == REQUEST_PEEKSIGINFO)
        return peek_signals(args);
    if (args->arg[0] != REQUEST_GETSIGINFO)
        return sys_ptrace(args);
    native.arg[3] = exchange_address(&info);
    result = exchange_call(sys_ptrace, &native, &info, sizeof info);
    if (result != 0)
        return result;
    abi_siginfo_of(&info, &user);
    return user_write(args->arg[3], &user, sizeof user);
}

struct wait_block {
    struct signal_info info;
    struct abi_time time;
};

static int64_t
wait_for_signal(const struct syscall_args *args, struct wait_block *block)
{
    struct abi_siginfo user;
    struct syscall_args native = *args;
    int64_t result;

    native.arg[1] = exchange_address(&block->info);
    native.arg[2] = args->arg[2] != 0 ? exchange_address(&block->time) : 0;
    result = exchange_call(sys_rt_sigtimedwait, &native, block, sizeof *block);
    if (result <= 0 || args->arg[1] == 0)
        return result;
    abi_siginfo_of(&block->info, &user);
    return user_write(args->arg[1], &user, sizeof user) == 0 ? result : -EFAULT;
}

int64_t
abi_rt_sigtimedwait(const struct syscall_args *args)
{
    struct wait_block block;

    if (args->arg[2] != 0 && abi_times_read(&block.time, args->arg[2], 1) != 0)
        return -EFAULT;
    return wait_for_signal(args, &block);
}

int64_t
abi_rt_sigtimedwait_time64(const struct syscall_args *args)
{
    struct wait_block block;

    if (args->arg[2] != 0 && user_read(&block.time, args->arg[2], sizeof block.time) != 0)
        return -EFAULT;
    return wait_for_signal(args, &block);
}

/* ---- Actions -------------------------------------------------------------------------------- */

struct sigaction_user {
    uint32_t handler, flags, restorer;
    signal_set mask;
};

struct old_sigaction_user {
    uint32_t handler, mask, flags, restorer;
};

_Static_assert(sizeof(struct sigaction_user) == 20, "Linux ABI");

struct action_block {
    struct abi_sigaction new, old;
};

/* With @block->new filled in where argument 1 is there; fills in block->old. */
static int64_t
action_call(const struct syscall_args *args, struct action_block *block)
{
    struct syscall_args native = {{args->arg[0], args->arg[1] ? exchange_address(&block->new) : 0,
                                   args->arg[2] ? exchange_address(&block->old) : 0,
                                   sizeof(signal_set)}};

    return exchange_call(sys_rt_sigaction, &native, block, sizeof *block);
}

int64_t
abi_rt_sigaction(const struct syscall_args *args)
{
    struct sigaction_user user;
    struct action_block block;
    int64_t result;

    if (args->arg[3] != sizeof(signal_set))
        return -EINVAL;
    if (args->arg[1] != 0) {
        if (user_read(&user, args->arg[1], sizeof user) != 0)
            return -EFAULT;
        block.new = (struct abi_sigaction){user.handler, user.flags, user.restorer, user.mask};
    }
    result = action_call(args, &block);
    if (result != 0 || args->arg[2] == 0)
        return result;
    user = (struct sigaction_user){(uint32_t)block.old.handler, (uint32_t)block.old.flags,
                                   (uint32_t)block.old.restorer, block.old.mask};
    return user_write(args->arg[2], &user, sizeof user);
}

int64_t
abi_sigaction(const struct syscall_args *args)
{
    struct old_sigaction_user user;
    struct action_block block;
    int64_t result;

    if (args->arg[1] != 0) {
        if (user_read(&user, args->arg[1], sizeof user) != 0)
            return -EFAULT;
        block.new = (struct abi_sigaction){user.handler, user.flags, user.restorer, user.mask};
    }
    result = action_call(args, &block);
    if (result != 0 || args->arg[2] == 0)
        return result;
    user = (struct old_sigaction_user){(uint32_t)block.old.handler, (uint32_t)block.old.mask,
                                       (uint32_t)block.old.flags, (uint32_t)block.old.restorer};
    return user_write(args->arg[2], &user, sizeof user);
}

/* signal(): once, without a mask; the old handler is the answer. */
int64_t
abi_signal(const struct syscall_args *args)
{
    struct action_block block = {
        .new = {.handler = args->arg[1], .flags = SA_RESETHAND | SA_NODEFER}};
    struct syscall_args native = {{args->arg[0], 1, 1}};
    int64_t result = action_call(&native, &block);

    return result == 0 ? (int64_t)block.old.handler : result;
}

/* ---- Alternate stack -------------------------------------------------------------------------- */

struct signal_stack_user {
    uint32_t base, flags, size;
};

int64_t
abi_sigaltstack(const struct syscall_args *args)
{
    struct {
        struct signal_stack new, old;
    } block;
    struct signal_stack_user user;
    struct syscall_args native = {{args->arg[0] ? exchange_address(&block.new) : 0,
                                   args->arg[1] ? exchange_address(&block.old) : 0}};
    int64_t result;

    if (args->arg[0] != 0) {
        if (user_read(&user, args->arg[0], sizeof user) != 0)
            return -EFAULT;
        block.new =
            (struct signal_stack){.base = user.base, .flags = user.flags, .size = user.size};
    }
    result = exchange_call(sys_sigaltstack, &native, &block, sizeof block);
    if (result != 0 || args->arg[1] == 0)
        return result;
    user = (struct signal_stack_user){(uint32_t)block.old.base, block.old.flags,
                                      (uint32_t)block.old.size};
    return user_write(args->arg[1], &user, sizeof user);
}

/* ---- Sets of 32 signals ------------------------------------------------------------------------- */

struct set_block {
    signal_set new, old;
};

static int64_t
procmask(uint64_t how, uint64_t has_new, struct set_block *block)
{
    struct syscall_args native = {{how, has_new ? exchange_address(&block->new) : 0,
                                   exchange_address(&block->old), sizeof(signal_set)}};

    return exchange_call(sys_rt_sigprocmask, &native, block, sizeof *block);
}

enum { SIG_BLOCK = 0, SIG_UNBLOCK = 1, SIG_SETMASK = 2 };

/* Setting the mask leaves the upper 32 signals as they are. */
static int64_t
set_low_mask(uint32_t mask, struct set_block *block)
{
    int64_t result = procmask(SIG_SETMASK, 0, block);

    if (result != 0)
        return result;
    block->new = (block->old & ~(signal_set)UINT32_MAX) | mask;
    return procmask(SIG_SETMASK, 1, block);
}

int64_t
abi_sigprocmask(const struct syscall_args *args)
{
    struct set_block block = {0};
    uint32_t mask = 0;
    int64_t result;

    if (args->arg[1] != 0 && user_read_u32(&mask, args->arg[1]) != 0)
        return -EFAULT;
    block.new = mask;
    if (args->arg[1] != 0 && args->arg[0] == SIG_SETMASK)
        result = set_low_mask(mask, &block);
    else
        result = procmask(args->arg[0], args->arg[1], &block);
    if (result != 0 || args->arg[2] == 0)
        return result;
    return user_write_u32(args->arg[2], (uint32_t)block.old);
}

int64_t
abi_sgetmask(const struct syscall_args *args)
{
    struct set_block block = {0};
    int64_t result = procmask(SIG_BLOCK, 0, &block);

    (void)args;
    return result == 0 ? (int64_t)(uint32_t)block.old : result;
}

int64_t
abi_ssetmask(const struct syscall_args *args)
{
    struct set_block block = {0};
    int64_t result = set_low_mask((uint32_t)args->arg[0], &block);

    return result == 0 ? (int64_t)(uint32_t)block.old : result;
}

int64_t
abi_sigpending(const struct syscall_args *args)
{
    signal_set set = 0;
    struct syscall_args native = {{exchange_address(&set), sizeof set}};
    int64_t result = exchange_call(sys_rt_sigpending, &native, &set, sizeof set);

    return result == 0 ? user_write_u32(args->arg[0], (uint32_t)set) : result;
}

/* The first two arguments have had no meaning for a long time. */
int64_t
abi_sigsuspend(const struct syscall_args *args)
{
    signal_set set = (uint32_t)args->arg[2];
    struct syscall_args native = {{exchange_address(&set), sizeof set}};

    return exchange_call(sys_rt_sigsuspend, &native, &set, sizeof set);
}

void
arch_core_info(const struct signal_info *info, void *out)
{
    abi_siginfo_of(info, out);
}
