/* SPDX-License-Identifier: MIT */
/*
 * System V shared memory of 32-bit programs: ipc(), through which their C libraries
 * make every such call, and the structures of shmctl().
 *
 * Of the structures only those with 32-bit users and groups are known (IPC_64), which is what
 * every C library of this century asks for.
 */
#include "abi.h"

/* What ipc() is asked for, in the low half of its first argument. */
enum { IPC_SHMAT = 21, IPC_SHMDT = 22, IPC_SHMGET = 23, IPC_SHMCTL = 24 };

/* shmctl's commands that pass a structure. */
enum { SET = 1, STAT = 2, INFO = 3, STAT_INDEX = 13, USAGE = 14, STAT_ANY = 15 };

#define IPC_64 0x100u

struct status32 {
    int32_t key;
    uint32_t uid, gid, cuid, cgid;
    uint16_t mode, pad1, sequence, pad2;
    uint32_t unused[2];
    uint32_t bytes;
    uint32_t attach_time[2], detach_time[2], change_time[2]; /* low, high */
    int32_t creator, last_pid;
    uint32_t attached;
    uint32_t unused_too[2];
};
_Static_assert(sizeof(struct status32) == 84, "Linux ABI");

/* As sys_shmctl() has it. */
struct status64 {
    int32_t key;
    uint32_t uid, gid, cuid, cgid, mode;
    uint16_t sequence, pad[3];
    uint64_t unused[2];
    uint64_t bytes;
    uint64_t attach_time, detach_time, change_time;
    int32_t creator, last_pid;
    uint64_t attached;
    uint64_t unused_too[2];
};
_Static_assert(sizeof(struct status64) == 112, "Linux ABI");

static void
time_split(uint32_t out[2], uint64_t time)
{
    out[0] = (uint32_t)time;
    out[1] = (uint32_t)(time >> 32);
}

static int64_t
call_status(const struct syscall_args *args)
{
    struct status64 status = {0};
    struct syscall_args native = *args;

    native.arg[2] = exchange_address(&status);
    int64_t result = exchange_call(sys_shmctl, &native, &status, sizeof(status));
    struct status32 narrow = {
        .key = status.key,
        .uid = status.uid,
        .gid = status.gid,
        .cuid = status.cuid,
        .cgid = status.cgid,
        .mode = (uint16_t)status.mode,
        .sequence = status.sequence,
        .bytes = (uint32_t)status.bytes,
        .creator = status.creator,
        .last_pid = status.last_pid,
        .attached = (uint32_t)status.attached,
    };
    if (result < 0)
        return result;
    time_split(narrow.attach_time, status.attach_time);
    time_split(narrow.detach_time, status.detach_time);
    time_split(narrow.change_time, status.change_time);
    return user_write(args->arg[2], &narrow, sizeof(narrow)) != 0 ? -EFAULT : result;
}

static int64_t
call_set(const struct syscall_args *args)
{
    struct status64 status = {0};
    struct status32 narrow;
    struct syscall_args native = *args;

    if (user_read(&narrow, args->arg[2], sizeof(narrow)) != 0)
        return -EFAULT;
    status.uid = narrow.uid;
    status.gid = narrow.gid;
    status.mode = narrow.mode;
    native.arg[2] = exchange_address(&status);
    return exchange_call(sys_shmctl, &native, &status, sizeof(status));
}

/* The two structures that are nothing but numbers: @count of them, after as many bytes. */
static int64_t
call_numbers(const struct syscall_args *args, unsigned count)
{
    uint64_t numbers[9];
    uint32_t narrow[9];
    struct syscall_args native = *args;

    native.arg[2] = exchange_address(numbers);
    int64_t result = exchange_call(sys_shmctl, &native, numbers, count * sizeof(*numbers));
    if (result < 0)
        return result;
    for (unsigned i = 0; i < count; i++)
        narrow[i] = (uint32_t)numbers[i];
    return user_write(args->arg[2], narrow, count * sizeof(*narrow)) != 0 ? -EFAULT : result;
}

int64_t
abi_shmctl(const struct syscall_args *args)
{
    switch ((int32_t)args->arg[1]) {
    case STAT:
    case STAT_INDEX:
    case STAT_ANY:
        return call_status(args);
    case SET:
        return call_set(args);
    case INFO:
        return call_numbers(args, 9);
    case USAGE:
        return call_numbers(args, 6);
    default:
        return sys_shmctl(args);
    }
}

static int64_t
ipc_shmat(const struct syscall_args *args)
{
    const struct syscall_args native = {{args->arg[1], args->arg[4], args->arg[2]}};
    int64_t result = sys_shmat(&native);
    bool failed = result < 0 && result >= -4095;

    if (failed)
        return result;
    return user_write_u32(args->arg[3], (uint32_t)result);
}

int64_t
abi_ipc(const struct syscall_args *args)
{
    uint32_t version = (uint32_t)args->arg[0] >> 16;
    struct syscall_args native = {{args->arg[1], args->arg[2], args->arg[3]}};

    switch (args->arg[0] & 0xffff) {
    case IPC_SHMAT:
        return version == 1 ? -EINVAL : ipc_shmat(args);
    case IPC_SHMDT:
        native.arg[0] = args->arg[4];
        return sys_shmdt(&native);
    case IPC_SHMGET:
        return sys_shmget(&native);
    case IPC_SHMCTL:
        native.arg[1] = (uint32_t)args->arg[2] & ~IPC_64;
        native.arg[2] = args->arg[4];
        return abi_shmctl(&native);
    default:
        return -ENOSYS; /* messages and semaphores */
    }
}
