/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_I386_ABI_H
#define KERNEL_I386_ABI_H

/**
 * @file
 * Where 32-bit programs' structures become the kernel's own, and back.
 *
 * The calls in kernel/fs, kernel/proc and kernel/mm know one layout of each
 * structure, that of 64-bit Linux.  Where a 32-bit program's differs, its system
 * call is a function of this folder: it converts into a block on its stack, makes
 * the common call with the block's address in place of the program's, and converts
 * what came out.
 *
 * The block's address has bit 32 set, which no register of a program has, so the
 * user copies can tell (kernel/mm/user.c); what it names counts only inside the
 * block of the running call.
 */

#include <arch.h>

#include "abi_errno.h"
#include "mm.h"
#include "syscall.h"

struct exchange {
    void *block;
    size_t bytes;
};

/** The address of something in the block, for a system call's argument. */
static inline uint64_t
exchange_address(const void *pointer)
{
    return (uint64_t)1 << 32 | (uintptr_t)pointer;
}

/** @p call with @p args, which may name addresses in @p block. */
int64_t exchange_call(syscall_fn call, const struct syscall_args *args, void *block, size_t bytes);

/** Two registers as the one 64-bit argument that they carry. */
static inline uint64_t
abi_pair(const struct syscall_args *args, unsigned low)
{
    return (uint32_t)args->arg[low] | args->arg[low + 1] << 32;
}

/** struct timespec, timeval and their like with a time of 32 bits. */
struct abi_time32 {
    int32_t seconds, fraction;
};

/** As the common calls have it. */
struct abi_time {
    int64_t seconds, fraction;
};

int64_t abi_times_read(struct abi_time *out, uint64_t address, unsigned count);
int64_t abi_times_write(uint64_t address, const struct abi_time *times, unsigned count);

/** What of siginfo_t differs, both ways; see signal_info_of(). */
struct abi_siginfo {
    int32_t number, error, code;
    union {
        struct {
            int32_t pid;
            uint32_t uid, value;
        } sent;
        struct {
            int32_t id, overrun;
            uint32_t value;
        } timer;
        struct {
            int32_t pid;
            uint32_t uid;
            int32_t status, user_ticks, system_ticks;
        } child;
        struct {
            uint32_t address;
            int16_t address_lsb, pad;
            uint32_t lower, upper;
        } fault;
        uint32_t words[29];
    };
};

_Static_assert(sizeof(struct abi_siginfo) == 128, "Linux ABI");

struct signal_info;
void abi_siginfo_of(const struct signal_info *info, struct abi_siginfo *out);
void signal_info_of(const struct abi_siginfo *user, struct signal_info *out);

struct abi_rusage {
    struct abi_time32 user, system;
    int32_t words[14];
};

struct abi_rusage_native {
    struct abi_time user, system;
    int64_t words[14];
};

int64_t abi_rusage_write(uint64_t address, const struct abi_rusage_native *from);

/* ---- The calls ------------------------------------------------------------------- */

#define ABI_CALL(name) int64_t abi_##name(const struct syscall_args *args);
#include "abi_list.h"
#undef ABI_CALL

#endif
