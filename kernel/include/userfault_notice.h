/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_USERFAULT_NOTICE_H
#define KERNEL_USERFAULT_NOTICE_H

#include <stdint.h>

#include <quire/list.h>

/*
 * Calls that change memory tell the userfaultfds that watch it, and wait until that was read.
 * Nothing here costs more than a look at one counter while nobody asks for events.
 */

struct file_ops;
struct mm;

/** vm.unprivileged_userfaultfd: not 0: whoever asks may have faults of the kernel told, too. */
uint64_t userfault_unprivileged(void);
void userfault_set_unprivileged(uint64_t value);

/** /dev/userfaultfd. */
extern const struct file_ops userfault_device_ops;

/** Who is to be told: list of struct notice. */
struct userfault_notices {
    struct qr_list list;
};

/** Before memory is unmapped: find who is to know. @return 0 or -ENOMEM */
int64_t userfault_unmap_prepare(struct mm *mm, uint64_t start, uint64_t bytes,
                                struct userfault_notices *out);
/** It is; or, with @p done false, it was not. */
void userfault_unmap_finish(struct userfault_notices *notices, bool done);
/** Pages are going to be dropped by madvise: tell first. @return 0 or -ENOMEM */
int64_t userfault_remove(struct mm *mm, uint64_t start, uint64_t bytes);
/** Memory was moved. */
void userfault_remap(struct mm *mm, uint64_t from, uint64_t to, uint64_t bytes);
/** @p child is a copy of @p parent that does not run yet. @return 0 or -ENOMEM */
int64_t userfault_fork(struct mm *parent, struct mm *child);

#endif
