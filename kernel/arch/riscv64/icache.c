/* SPDX-License-Identifier: MIT */
/*
 * riscv_flush_icache: a program has written code and wants every hart to see it.
 *
 * Other harts of the process are told through the firmware; the address range is
 * not used, as by Linux.
 */
#include <arch.h>

#include <sbi.h>

#include "abi_errno.h"
#include "syscall.h"

#define FLUSH_LOCAL 1u

int64_t sys_riscv_flush_icache(const struct syscall_args *args);

int64_t
sys_riscv_flush_icache(const struct syscall_args *args)
{
    if (args->arg[2] & ~(uint64_t)FLUSH_LOCAL)
        return -EINVAL;
    /* "Local" means this thread, which may move: all harts in either case. */
    __asm__ volatile("fence rw, rw; fence.i" : : : "memory");
    if (cpu_count() > 1)
        sbi_remote_fence_i();
    return 0;
}
