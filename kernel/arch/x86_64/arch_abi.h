/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_64_ARCH_ABI_H
#define KERNEL_X86_64_ARCH_ABI_H

/*
 * What programs see of the architecture, for kernel/proc.
 */

#define ARCH_ELF_MACHINE     62 /* EM_X86_64 */
#define ARCH_PLATFORM        "x86_64"
#define ARCH_SYSCALL_RESTART 219 /* restart_syscall */

#endif
