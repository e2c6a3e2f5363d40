/* SPDX-License-Identifier: MIT */
/*
 * Linux's system-call numbers on AArch64: the generic ones, and one that newer
 * architectures do without.
 */
#define ARCH_SYSCALL_ROWS [38] = sys_renameat,

#include "abi/generic_syscalls.h"
