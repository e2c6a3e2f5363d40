/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_FLOCK_H
#define KERNEL_FS_FLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct file;

enum { F_RDLCK = 0, F_WRLCK = 1, F_UNLCK = 2 };

/** The struct flock of 64-bit Linux. */
struct record_lock {
    int16_t type;
    int16_t whence;
    int64_t start;
    int64_t length;
    int32_t pid;
};

enum record_owner { OWNER_PROCESS, OWNER_FILE };

/** F_SETLK, F_SETLKW (@wait), and their F_OFD_ twins. @return 0, -EAGAIN, -EINVAL, -ENOLCK … */
int64_t record_lock_set(struct file *file, const struct record_lock *lock, enum record_owner owner,
                        bool wait);
/** F_GETLK: *lock becomes what stands in the way, or F_UNLCK. */
int64_t record_lock_test(struct file *file, struct record_lock *lock, enum record_owner owner);

#endif
