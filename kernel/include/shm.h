/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SHM_H
#define KERNEL_SHM_H

#include <stdbool.h>
#include <stdint.h>

/*
 * System V shared memory: what the rest of the kernel may ask of it.
 */

struct file;
struct qr_writer;

enum shm_limit {
    SHM_LIMIT_BYTES, /**< shmmax: of one segment */
    SHM_LIMIT_PAGES, /**< shmall: of all together */
    SHM_LIMIT_COUNT, /**< shmmni: segments */
};

uint64_t shm_limit(enum shm_limit which);
/** Segments that exist stay. @return 0 or -EINVAL */
int64_t shm_set_limit(enum shm_limit which, uint64_t value);

/** kernel.shm_rmid_forced: segments whose maker has ended go when nobody has them attached. */
uint64_t shm_is_forced(void);
void shm_set_forced(uint64_t value);
/** kernel.shm_next_id: the identifier that the next segment gets, if its place is free; -1: none is wanted. */
int32_t shm_next_id(void);
void shm_set_next_id(uint64_t value);
/** Process @id has ended, its memory and files with it.  May sleep. */
void shm_process_ended(int32_t id);
/** The machine stops: all segments go. */
void shm_end(void);

/** Whether @file is a segment's. */
bool shm_is_file(const struct file *file);

/** Whether the segment of @file, a segment's, ends with so many of the regions that show it. */
bool shm_ends_with(const struct file *file, unsigned regions);

/** The rows of /proc/sysvipc/shm. */
void shm_write_table(struct qr_writer *writer);

#endif
