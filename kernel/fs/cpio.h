/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_CPIO_H
#define KERNEL_FS_CPIO_H

#include <stddef.h>
#include <stdint.h>

/** Where the reader stands in an archive that it does not own and never writes. */
struct cpio_reader {
    const uint8_t *data;
    size_t bytes;
    size_t at;
};

/** One member. The pointers go into the archive. */
struct cpio_entry {
    const char *name; /**< terminated, at most CPIO_NAME_MAX bytes, not empty */
    size_t name_bytes;
    const uint8_t *data;
    uint32_t data_bytes;
    uint32_t inode;
    uint32_t mode; /**< as st_mode */
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
    uint32_t mtime;
    uint32_t device_major,
        device_minor; /**< of the file system: hard links are equal in all three */
    uint32_t rdev_major, rdev_minor;
};

enum { CPIO_NAME_MAX = 4095 };

enum cpio_result {
    CPIO_ENTRY,  /**< *out_entry holds the next member */
    CPIO_MARK,   /**< end of one archive; another may follow */
    CPIO_END,    /**< no bytes left */
    CPIO_DAMAGED /**< not an archive from here on; the reader does not move any more */
};

void cpio_init(struct cpio_reader *reader, const void *data, size_t bytes);

/** Read the next member header. Never reads outside [data, data + bytes). */
enum cpio_result cpio_next(struct cpio_reader *reader, struct cpio_entry *out_entry);

#endif
