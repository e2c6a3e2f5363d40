/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_I386_ARCH_ABI_H
#define KERNEL_I386_ARCH_ABI_H

/*
 * What programs see of the architecture, for kernel/proc.
 */

#define ARCH_ELF_MACHINE     3 /* EM_386 */
#define ARCH_PLATFORM        "i686"
#define ARCH_SYSCALL_RESTART 0 /* restart_syscall */

/* Which arguments of clone() these are. */
#define ARCH_CLONE_CHILD_TID 4
#define ARCH_CLONE_TLS       3

/* As on x86-64, struct epoll_event has no padding. */
#define ARCH_EPOLL_EVENT_ATTRIBUTE __attribute__((packed))

/* The four flags of open() on which architectures differ. */
#define O_DIRECT    00040000
#define O_LARGEFILE 00100000
#define O_DIRECTORY 00200000
#define O_NOFOLLOW  00400000

/** User and group numbers in the notes of core files. */
#define ARCH_CORE_ID uint16_t

#endif
