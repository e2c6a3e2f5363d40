/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_I386_ARCH_ABI_H
#define KERNEL_I386_ARCH_ABI_H

/*
 * What programs see of the architecture, for kernel/proc.
 */

#define ARCH_ELF_MACHINE     3 /* EM_386 */
#define ARCH_PLATFORM        "i686"
#define ARCH_SYSCALL_RESTART 0 /* restart_syscall */

#endif
