/* SPDX-License-Identifier: MIT */
/*
 * Linux's system-call numbers on AArch64: the generic ones.
 */
#include "abi/generic_syscalls.h"
