/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_TMPFS_H
#define KERNEL_FS_TMPFS_H

#include "fs.h"

/* What tmpfs offers beyond the tables of operations. */

#define F_SEAL_SEAL         0x01u
#define F_SEAL_SHRINK       0x02u
#define F_SEAL_GROW         0x04u
#define F_SEAL_WRITE        0x08u
#define F_SEAL_FUTURE_WRITE 0x10u
#define F_SEAL_EXEC         0x20u
#define F_SEALS_ALL         0x3fu

#define MFD_CLOEXEC       1u
#define MFD_ALLOW_SEALING 2u
#define MFD_HUGETLB       4u
#define MFD_NOEXEC_SEAL   8u
#define MFD_EXEC          16u
#define MFD_HUGE_SIZE     (63u << 26)

/** Open @inode, which has no name, as @label for its owner; takes over the caller's reference. */
int64_t nameless_open(struct inode *inode, const char *label, struct file **out_file);
/** Build an empty file system of @type, for those made of tmpfs inodes. */
int64_t tmpfs_create(const struct superblock_type *type, const char *options,
                     struct superblock **out);
/** Whether it is a file of memory, of ordinary or huge pages. */
bool tmpfs_has_seals(const struct inode *inode);
/** F_ADD_SEALS; may sleep. @return 0, -EINVAL, -EPERM (sealed), -EBUSY (mapped for writing, or somebody
 *  refers to a page of it, who could write it) */
int64_t tmpfs_seal(struct inode *inode, uint32_t seals);
/** Whether the seals let the mode become @mode. */
bool tmpfs_may_change_mode(const struct inode *inode, uint32_t mode);
/** Whether the seals let a file of @old bytes become one of @bytes. I held. */
bool tmpfs_may_resize(const struct inode *inode, uint64_t old, uint64_t bytes);
/**
 * Clear [start, end), a part of one page of the file's object, within the size; a hole stays one.
 * I held. @return 0 or -errno
 */
int64_t tmpfs_clear_bytes(struct inode *inode, uint64_t start, uint64_t end);
/** Frames that a regular file holds: st_blocks. */
uint64_t tmpfs_inode_pages(const struct inode *inode);
/** Frames of the machine, and free ones: statfs and size=50%. */
uint64_t fs_total_pages(void);
uint64_t fs_free_pages(void);

#endif
