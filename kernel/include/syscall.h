/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SYSCALL_H
#define KERNEL_SYSCALL_H

#include <stddef.h>
#include <stdint.h>

#include "abi_errno.h"

/*
 * System calls.
 *
 * Each call is `int64_t sys_<name>(const struct syscall_args *args)`: it answers a
 * value or a negated error number.  The prototypes all come from syscall_list.h;
 * kernel/arch/<arch>/syscall_table.c gives them that architecture's numbers.
 * arg[] are the raw registers: a call truncates what Linux takes as 32 bits itself.
 */

struct trap_frame;

struct syscall_args {
    uint64_t arg[6];
};

typedef int64_t (*syscall_fn)(const struct syscall_args *args);

#define SYSCALL(name) int64_t sys_##name(const struct syscall_args *args);
#include "syscall_list.h"
#undef SYSCALL

/** One architecture's table: NULL where Linux has a call that we do not, or no call at all. */
extern const syscall_fn syscall_table[];
extern const uint32_t syscall_table_count;

/** The user register frame of the current thread's system call or trap. */
struct trap_frame *syscall_frame(void);

#endif
