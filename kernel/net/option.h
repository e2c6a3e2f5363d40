/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_NET_OPTION_H
#define KERNEL_NET_OPTION_H

#include <stdint.h>

struct socket;

/** setsockopt() with @bytes at @user. */
int64_t option_set(struct socket *socket, uint32_t level, uint32_t name, uint64_t user,
                   int32_t bytes);
/** getsockopt(); @user_bytes names the length, in and out. */
int64_t option_get(struct socket *socket, uint32_t level, uint32_t name, uint64_t user,
                   uint64_t user_bytes);

#endif
