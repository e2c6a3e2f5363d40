/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_HUGETLB_H
#define KERNEL_HUGETLB_H

/*
 * Huge pages by name: the kernel's pools, the command line's words for them, and
 * files whose pages are huge.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** statfs() of their files. */
enum { HUGETLBFS_MAGIC = 0x958458f6u };

struct dentry;
struct file;
struct inode;
struct qr_hugetlb_pool;
struct qr_writer;
struct superblock;

/** Make a pool of each size that the CPUs have; once, when memory works. */
void hugetlb_init(void);

/** Fill the pools as `default_hugepagesz=`, `hugepagesz=` and `hugepages=` say; boot CPU. */
void hugetlb_fill(void);

/**
 * The pool that flags name by log2 of its page size in six bits at bit 26 (MAP_HUGE_SHIFT,
 * MFD_HUGE_SHIFT, SHM_HUGE_SHIFT); 0 names the default.  NULL: there is none.
 */
struct qr_hugetlb_pool *hugetlb_pool_of_flags(uint32_t flags);

/** The pool behind a file of huge pages; NULL for any other file. */
struct qr_hugetlb_pool *hugetlb_pool_of_file(const struct file *file);

/** @p bytes in whole pages of @p pool; 0 where that wraps. */
uint64_t hugetlb_round_up(const struct qr_hugetlb_pool *pool, uint64_t bytes);

/**
 * A file without a name of @p bytes, whole pages of @p pool; for its owner it is @p label.
 * The caller's reference. @return 0 or -ENOMEM
 */
int64_t hugetlb_file_create(const char *label, struct qr_hugetlb_pool *pool, uint64_t bytes,
                            struct file **out_file);

/** Whose members may make shared memory of huge pages without CAP_IPC_LOCK: vm.hugetlb_shm_group. */
extern atomic_uint hugetlb_shm_group;

/** An empty file without a name, for a file system; takes no reference. NULL without memory. */
struct inode *hugetlb_inode_create(struct superblock *superblock, struct qr_hugetlb_pool *pool,
                                   uint32_t mode, uint64_t bytes);

/* ---- A mounted hugetlbfs (superblock.huge) ------------------------------------- */

struct hugetlbfs_mount;

/** Of its statfs(); zeroes: no limit. */
struct hugetlbfs_usage {
    uint64_t page_bytes, pages, free_pages, inodes, free_inodes;
};

/** Whether nr_inodes= lets one more inode be; any other file system lets it. */
bool hugetlbfs_has_room(const struct superblock *superblock);
/** A regular file of the mount. NULL without memory */
struct inode *hugetlbfs_file_inode(struct superblock *superblock, uint32_t mode);
void hugetlbfs_usage(const struct superblock *superblock, struct hugetlbfs_usage *out);
/** As the words behind "rw" in /proc/mounts. */
void hugetlbfs_options_write(const struct superblock *superblock, struct qr_writer *writer);
/** The superblock's last inode is gone; NULL is none. */
void hugetlbfs_mount_free(struct hugetlbfs_mount *mount);

/** Bytes of one page of @p inode's: st_blksize; 0 where its pages are not huge. */
uint64_t hugetlb_inode_page_bytes(const struct inode *inode);

/** /sys/kernel/mm/hugepages, below @p root. @return false without memory */
bool hugetlb_nodes_add(struct dentry *root);
/** nodeN/hugepages, below @p directory. @return false without memory */
bool hugetlb_node_nodes_add(struct dentry *directory, unsigned node);

/** /proc/sys/vm/nr_hugepages and its like, in @vm. @return false without memory */
bool hugetlb_sysctls_add(struct dentry *vm);

#endif
