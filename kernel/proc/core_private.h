/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROC_CORE_PRIVATE_H
#define KERNEL_PROC_CORE_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core.h"

/*
 * What the three files about core files share.
 */

struct file;

/**
 * The name of the running process's core file by core_pattern, for signal @p number.
 * @return 0; -ENAMETOOLONG: it does not fit into @p size bytes
 */
int64_t core_name(char *out, size_t size, int number);

/**
 * Write the running process to @p file, at most @p limit bytes of it: less where that is reached, the
 * file takes no more, or SIGKILL comes.  Its other threads have stopped (thread->in_core).
 * @return false: no memory, nothing was written
 */
bool core_write(struct file *file, uint64_t limit, const struct signal_info *info);

#endif
