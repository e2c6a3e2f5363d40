/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_NET_SYS_SOCKET_H
#define KERNEL_NET_SYS_SOCKET_H

#include <stdint.h>

struct address;
struct file;
struct socket;

/* What the system calls of sockets share. */

/** The socket behind @fd, kept by the file's reference. @return 0, -EBADF, -ENOTSOCK */
int64_t socket_get(int fd, struct file **out_file, struct socket **out);
/** A program's address. @return 0, -EINVAL, -EFAULT */
int64_t address_read(struct address *out, uint64_t user, int32_t bytes);
/** Cut to the room that @user_bytes names, and the whole length put there. */
int64_t address_write(const struct address *address, uint64_t user, uint64_t user_bytes);

#endif
