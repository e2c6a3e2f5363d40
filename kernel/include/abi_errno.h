/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ABI_ERRNO_H
#define KERNEL_ABI_ERRNO_H

/*
 * Linux's error numbers (asm-generic), the same on all four architectures.
 * Kernel functions return them negated.
 */

#define EPERM        1
#define ENOENT       2
#define ESRCH        3
#define EINTR        4
#define EIO          5
#define ENXIO        6
#define E2BIG        7
#define ENOEXEC      8
#define EBADF        9
#define ECHILD       10
#define EAGAIN       11
#define ENOMEM       12
#define EACCES       13
#define EFAULT       14
#define ENOTBLK      15
#define EBUSY        16
#define EEXIST       17
#define EXDEV        18
#define ENODEV       19
#define ENOTDIR      20
#define EISDIR       21
#define EINVAL       22
#define ENFILE       23
#define EMFILE       24
#define ENOTTY       25
#define ETXTBSY      26
#define EFBIG        27
#define ENOSPC       28
#define ESPIPE       29
#define EROFS        30
#define EMLINK       31
#define EPIPE        32
#define EDOM         33
#define ERANGE       34
#define EDEADLK      35
#define ENAMETOOLONG 36
#define ENOLCK       37
#define ENOSYS       38
#define ENOTEMPTY    39
#define ELOOP        40
#define EWOULDBLOCK  EAGAIN
#define EIDRM        43
#define ENODATA      61
#define ETIME        62
#define EOVERFLOW    75
#define ELIBBAD      80
#define EILSEQ       84
#define ENOTSOCK     88
#define EOPNOTSUPP   95
#define EAFNOSUPPORT 97
#define ETIMEDOUT    110
#define EALREADY     114
#define EINPROGRESS  115
#define EUCLEAN      117
#define ECANCELED    125
#define EHWPOISON    133

/* Of sockets. */
#define EDESTADDRREQ    89
#define EMSGSIZE        90
#define EPROTOTYPE      91
#define ENOPROTOOPT     92
#define EPROTONOSUPPORT 93
#define ESOCKTNOSUPPORT 94
#define EADDRINUSE      98
#define EADDRNOTAVAIL   99
#define ENETUNREACH     101
#define ECONNABORTED    103
#define ECONNRESET      104
#define ENOBUFS         105
#define EISCONN         106
#define ENOTCONN        107
#define ETOOMANYREFS    109
#define ECONNREFUSED    111

/*
 * Never seen by a program: the call was interrupted by a signal before it did anything and is to
 * be started again once the signal is handled (SA_RESTART, or a default action that does not end
 * the process); otherwise the system-call exit turns it into EINTR.  The values are Linux's.
 */
#define ERESTARTSYS           512
#define ERESTARTNOINTR        513
#define ERESTARTNOHAND        514
#define ERESTART_RESTARTBLOCK 516

#endif
