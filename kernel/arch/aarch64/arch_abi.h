/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_AARCH64_ARCH_ABI_H
#define KERNEL_AARCH64_ARCH_ABI_H

/*
 * What programs see of the architecture, for kernel/proc and kernel/fs.
 */

#define ARCH_ELF_MACHINE     183 /* EM_AARCH64 */
#define ARCH_PLATFORM        "aarch64"
#define ARCH_SYSCALL_RESTART 128 /* restart_syscall */

/* Which arguments of clone() these are. */
#define ARCH_CLONE_TLS       3
#define ARCH_CLONE_CHILD_TID 4

#define ARCH_EPOLL_EVENT_ATTRIBUTE

/* The four flags of open() on which architectures differ. */
#define O_DIRECT    00200000
#define O_LARGEFILE 00400000
#define O_DIRECTORY 00040000
#define O_NOFOLLOW  00100000

/** User and group numbers in the notes of core files. */
#define ARCH_CORE_ID uint32_t

#endif
