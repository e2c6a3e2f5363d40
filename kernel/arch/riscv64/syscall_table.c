/* SPDX-License-Identifier: MIT */
/*
 * Linux's system-call numbers on RISC-V: the generic ones, and one of its own.
 */
#define ARCH_SYSCALL_ROWS [259] = sys_riscv_flush_icache,

#include "syscall.h"

int64_t sys_riscv_flush_icache(const struct syscall_args *args);

#include "abi/generic_syscalls.h"
