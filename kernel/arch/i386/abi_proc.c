/* SPDX-License-Identifier: MIT */
/*
 * Processes and memory: rusage, limits, sysinfo, mmap, identities of 16 bits.
 */
#include "abi.h"

#include "signal.h"

/* ---- Waiting and usage ---------------------------------------------------------------- */

int64_t
abi_rusage_write(uint64_t address, const struct abi_rusage_native *from)
{
    struct abi_rusage user = {
        .user = {(int32_t)from->user.seconds, (int32_t)from->user.fraction},
        .system = {(int32_t)from->system.seconds, (int32_t)from->system.fraction},
    };

    for (unsigned i = 0; i < 14; i++)
        user.words[i] = (int32_t)from->words[i];
    return user_write(address, &user, sizeof user);
}

int64_t
abi_getrusage(const struct syscall_args *args)
{
    struct abi_rusage_native usage;
    struct syscall_args native = {{args->arg[0], exchange_address(&usage)}};
    int64_t result = exchange_call(sys_getrusage, &native, &usage, sizeof usage);

    return result == 0 ? abi_rusage_write(args->arg[1], &usage) : result;
}

int64_t
abi_waitpid(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], args->arg[1], args->arg[2]}};

    return sys_wait4(&native);
}

int64_t
abi_wait4(const struct syscall_args *args)
{
    struct abi_rusage_native usage;
    struct syscall_args native = *args;
    int64_t result;

    if (args->arg[3] == 0)
        return sys_wait4(args);
    native.arg[3] = exchange_address(&usage);
    result = exchange_call(sys_wait4, &native, &usage, sizeof usage);
    if (result > 0 && abi_rusage_write(args->arg[3], &usage) != 0)
        return -EFAULT;
    return result;
}

int64_t
abi_waitid(const struct syscall_args *args)
{
    struct {
        struct signal_info info;
        struct abi_rusage_native usage;
    } block = {0};
    struct abi_siginfo user;
    struct syscall_args native = *args;
    int64_t result;

    native.arg[2] = exchange_address(&block.info);
    native.arg[4] = args->arg[4] != 0 ? exchange_address(&block.usage) : 0;
    result = exchange_call(sys_waitid, &native, &block, sizeof block);
    if (result != 0)
        return result;
    if (args->arg[4] != 0 && block.info.number != 0 &&
        abi_rusage_write(args->arg[4], &block.usage) != 0)
        return -EFAULT;
    if (args->arg[2] == 0)
        return 0;
    abi_siginfo_of(&block.info, &user);
    /* As the native call: the fields up to the status, nothing beyond. */
    return user_write(args->arg[2], &user, offsetof(struct abi_siginfo, child.user_ticks));
}

/* ---- Limits --------------------------------------------------------------------------- */

#define INFINITY_32  UINT32_MAX
#define INFINITY_OLD INT32_MAX

static int64_t
limit_read(const struct syscall_args *args, uint32_t infinity)
{
    uint64_t limit[2];
    uint32_t user[2];
    struct syscall_args native = {{args->arg[0], exchange_address(limit)}};
    int64_t result = exchange_call(sys_getrlimit, &native, limit, sizeof limit);

    if (result != 0)
        return result;
    for (unsigned i = 0; i < 2; i++)
        user[i] = limit[i] > infinity ? infinity : (uint32_t)limit[i];
    return user_write(args->arg[1], user, sizeof user);
}

int64_t
abi_getrlimit(const struct syscall_args *args)
{
    return limit_read(args, INFINITY_32);
}

int64_t
abi_old_getrlimit(const struct syscall_args *args)
{
    return limit_read(args, INFINITY_OLD);
}

int64_t
abi_setrlimit(const struct syscall_args *args)
{
    uint64_t limit[2];
    uint32_t user[2];
    struct syscall_args native = {{args->arg[0], exchange_address(limit)}};

    if (user_read(user, args->arg[1], sizeof user) != 0)
        return -EFAULT;
    for (unsigned i = 0; i < 2; i++)
        limit[i] = user[i] == INFINITY_32 ? UINT64_MAX : user[i];
    return exchange_call(sys_setrlimit, &native, limit, sizeof limit);
}

int64_t
abi_nice(const struct syscall_args *args)
{
    struct syscall_args self = {{0, 0}};
    int64_t now = 20 - sys_getpriority(&self); /* it answers 20 - nice */
    int64_t nice = now + (int32_t)args->arg[0];

    nice = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    self.arg[2] = (uint64_t)nice;
    int64_t result = sys_setpriority(&self);

    return result == -EACCES ? -EPERM : result;
}

/* ---- sysinfo ----------------------------------------------------------------------------- */

struct sysinfo_native {
    int64_t uptime;
    uint64_t words[9]; /* loads, memory and swap */
    uint16_t processes, pad;
    uint32_t pad2;
    uint64_t high[2];
    uint32_t unit, pad3;
};

struct sysinfo_user {
    int32_t uptime;
    uint32_t words[9];
    uint16_t processes, pad;
    uint32_t high[2];
    uint32_t unit;
    uint8_t unused[8];
};

_Static_assert(sizeof(struct sysinfo_user) == 64, "Linux ABI");

int64_t
abi_sysinfo(const struct syscall_args *args)
{
    struct sysinfo_native info;
    struct sysinfo_user user = {0};
    struct syscall_args native = {{exchange_address(&info)}};
    int64_t result = exchange_call(sys_sysinfo, &native, &info, sizeof info);
    unsigned shift = 0;

    if (result != 0)
        return result;
    /* As Linux: in larger units where the memory does not fit 32 bits (loads stand before). */
    while ((info.words[3] >> shift) > UINT32_MAX || (info.words[7] >> shift) > UINT32_MAX)
        shift += 12;
    user.uptime = (int32_t)info.uptime;
    for (unsigned i = 0; i < 9; i++)
        user.words[i] = (uint32_t)(i < 3 ? info.words[i] : info.words[i] >> shift);
    user.processes = info.processes;
    for (unsigned i = 0; i < 2; i++)
        user.high[i] = (uint32_t)(info.high[i] >> shift);
    user.unit = info.unit << shift;
    return user_write(args->arg[0], &user, sizeof user);
}

/* ---- Memory ------------------------------------------------------------------------------- */

int64_t
abi_mmap2(const struct syscall_args *args)
{
    struct syscall_args native = *args;

    native.arg[5] = args->arg[5] << 12; /* pages of 4096 bytes on every architecture */
    return sys_mmap(&native);
}

int64_t
abi_old_mmap(const struct syscall_args *args)
{
    uint32_t words[6];
    struct syscall_args native;

    if (user_read(words, args->arg[0], sizeof words) != 0)
        return -EFAULT;
    for (unsigned i = 0; i < 6; i++)
        native.arg[i] = words[i];
    return words[5] & QR_PAGE_MASK ? -EINVAL : sys_mmap(&native);
}

/* ---- Identities of 16 bits ------------------------------------------------------------------- */

#define ID_OVERFLOW 65534u

static uint64_t
wide_id(uint64_t id)
{
    return (uint16_t)id == UINT16_MAX ? UINT32_MAX : (uint16_t)id;
}

static int64_t
short_id(int64_t id)
{
    return id > UINT16_MAX ? ID_OVERFLOW : id;
}

/* The arguments [first, 6) are identities. */
static int64_t
with_ids(syscall_fn call, const struct syscall_args *args, unsigned first)
{
    struct syscall_args native = *args;

    for (unsigned i = first; i < 3; i++)
        native.arg[i] = wide_id(args->arg[i]);
    return call(&native);
}

#define DEFINE_WITH_IDS(name, first)                        \
    int64_t abi_##name##16(const struct syscall_args *args) \
    {                                                       \
        return with_ids(sys_##name, args, first);           \
    }

DEFINE_WITH_IDS(chown, 1)
DEFINE_WITH_IDS(lchown, 1)
DEFINE_WITH_IDS(fchown, 1)
DEFINE_WITH_IDS(setuid, 0)
DEFINE_WITH_IDS(setgid, 0)
DEFINE_WITH_IDS(setreuid, 0)
DEFINE_WITH_IDS(setregid, 0)
DEFINE_WITH_IDS(setresuid, 0)
DEFINE_WITH_IDS(setresgid, 0)
DEFINE_WITH_IDS(setfsuid, 0)
DEFINE_WITH_IDS(setfsgid, 0)

#define DEFINE_GET_ID(name)                                 \
    int64_t abi_##name##16(const struct syscall_args *args) \
    {                                                       \
        return short_id(sys_##name(args));                  \
    }

DEFINE_GET_ID(getuid)
DEFINE_GET_ID(geteuid)
DEFINE_GET_ID(getgid)
DEFINE_GET_ID(getegid)

static int64_t
get_three(syscall_fn call, const struct syscall_args *args)
{
    uint32_t ids[3];
    struct syscall_args native = {
        {exchange_address(&ids[0]), exchange_address(&ids[1]), exchange_address(&ids[2])}};
    int64_t result = exchange_call(call, &native, ids, sizeof ids);

    for (unsigned i = 0; i < 3 && result == 0; i++) {
        uint16_t id = (uint16_t)short_id(ids[i]);

        result = user_write(args->arg[i], &id, sizeof id);
    }
    return result;
}

int64_t
abi_getresuid16(const struct syscall_args *args)
{
    return get_three(sys_getresuid, args);
}

int64_t
abi_getresgid16(const struct syscall_args *args)
{
    return get_three(sys_getresgid, args);
}

enum { GROUPS_MAX = 65536, GROUPS_PIECE = 32 };

int64_t
abi_getgroups16(const struct syscall_args *args)
{
    uint32_t groups[GROUPS_PIECE];
    struct syscall_args native = {{args->arg[0], exchange_address(groups)}};
    struct syscall_args ask = {{0}};
    int64_t count = sys_getgroups(&ask);

    if (args->arg[0] == 0 || count < 0)
        return count;
    if (count > GROUPS_PIECE)
        return -EINVAL; /* more than the kernel keeps */
    count = exchange_call(sys_getgroups, &native, groups, sizeof groups);
    for (int64_t i = 0; i < count; i++) {
        uint16_t id = (uint16_t)short_id(groups[i]);

        if (user_write(args->arg[1] + (uint64_t)i * sizeof id, &id, sizeof id) != 0)
            return -EFAULT;
    }
    return count;
}

int64_t
abi_setgroups16(const struct syscall_args *args)
{
    uint32_t groups[GROUPS_PIECE];
    struct syscall_args native = {{args->arg[0], exchange_address(groups)}};

    if (args->arg[0] > GROUPS_PIECE)
        return -EINVAL;
    for (uint64_t i = 0; i < args->arg[0]; i++) {
        uint16_t id;

        if (user_read(&id, args->arg[1] + i * sizeof id, sizeof id) != 0)
            return -EFAULT;
        groups[i] = id;
    }
    return exchange_call(sys_setgroups, &native, groups, sizeof groups);
}
