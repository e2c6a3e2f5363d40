/* SPDX-License-Identifier: MIT */
/*
 * Sockets of 32-bit programs: socketcall(), through which C libraries make every such call,
 * and the one time that has 32 bits.  Messages have the kernel's own layout here.
 */
#include "abi.h"

enum { SOCKETCALL_FIRST = 1, SOCKETCALL_LAST = 20 };

static const struct {
    syscall_fn call;
    unsigned words;
} socketcalls[] = {
    [1] = {sys_socket, 3},      [2] = {sys_bind, 3},        [3] = {sys_connect, 3},
    [4] = {sys_listen, 2},      [5] = {sys_accept, 3},      [6] = {sys_getsockname, 3},
    [7] = {sys_getpeername, 3}, [8] = {sys_socketpair, 4},  [9] = {sys_sendto, 4},
    [10] = {sys_recvfrom, 4},   [11] = {sys_sendto, 6},     [12] = {sys_recvfrom, 6},
    [13] = {sys_shutdown, 2},   [14] = {sys_setsockopt, 5}, [15] = {sys_getsockopt, 5},
    [16] = {sys_sendmsg, 3},    [17] = {sys_recvmsg, 3},    [18] = {sys_accept4, 4},
    [19] = {abi_recvmmsg, 5},   [20] = {sys_sendmmsg, 4},
};

int64_t
abi_socketcall(const struct syscall_args *args)
{
    uint32_t number = (uint32_t)args->arg[0], words[6];
    struct syscall_args native = {{0}};

    if (number < SOCKETCALL_FIRST || number > SOCKETCALL_LAST)
        return -EINVAL;
    if (user_read(words, args->arg[1], socketcalls[number].words * sizeof(*words)) != 0)
        return -EFAULT;
    for (unsigned i = 0; i < socketcalls[number].words; i++)
        native.arg[i] = words[i];
    return socketcalls[number].call(&native);
}

/* The time limit, read before the messages come; nothing is written back. */
int64_t
abi_recvmmsg(const struct syscall_args *args)
{
    struct syscall_args native = *args;
    struct abi_time limit;

    if (args->arg[4] == 0)
        return sys_recvmmsg(args);
    if (abi_times_read(&limit, args->arg[4], 1) != 0)
        return -EFAULT;
    native.arg[4] = exchange_address(&limit);
    return exchange_call(sys_recvmmsg, &native, &limit, sizeof(limit));
}
