/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_POLL_H
#define KERNEL_FS_POLL_H

#include <stdint.h>

struct file;
struct poll_table;

/** What holds for @file now; files that never wait are always ready. */
uint32_t file_poll(struct file *file, struct poll_table *table);
/** Now plus @ns, no later than WAIT_FOREVER. */
uint64_t deadline_after(uint64_t ns);
/** From a user's timespec: NULL is WAIT_FOREVER, zero is 0. @return 0, -EFAULT, -EINVAL */
int64_t deadline_from_timespec(uint64_t user, uint64_t *out_deadline);

#endif
