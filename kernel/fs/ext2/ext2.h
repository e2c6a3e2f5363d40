/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_EXT2_EXT2_H
#define KERNEL_FS_EXT2_EXT2_H

/**
 * @file
 * ext2: the format on the disk, and what the files of this folder share.  super.c has the theory.
 */

#include "block.h"
#include "../fs.h"

/* ---- On the disk (little-endian, as every CPU here is) --------------------------------------- */

enum {
    EXT2_MAGIC = 0xef53,
    EXT2_ROOT = 2,        /* inode number */
    EXT2_FIRST_FREE = 11, /* first inode number that is not reserved, in revision 0 */
    EXT2_DIRECT = 12,
    EXT2_POINTERS = 15,
    EXT2_DEPTH_MAX = 3,
    EXT2_LINK_INLINE = 60, /* bytes of a symbolic link that fit into the inode */
    EXT2_STATE_CLEAN = 1,
    EXT2_STATE_ERRORS = 2,
    EXT2_FEATURE_FILETYPE = 0x2,   /* incompatible */
    EXT2_FEATURE_SPARSE = 0x1,     /* read-only compatible, like the next */
    EXT2_FEATURE_LARGE_FILE = 0x2, /* */
    EXT2_FLAG_INDEX = 0x1000,      /* inode: a directory with a hash tree */
};

struct ext2_super_disk {
    uint32_t inodes, blocks, reserved_blocks, free_blocks, free_inodes, first_block, log_block,
        log_fragment, blocks_per_group, fragments_per_group, inodes_per_group, mounted, written;
    uint16_t mounts, mounts_max, magic, state, errors, minor_revision;
    uint32_t checked, check_interval, creator, revision;
    uint16_t reserved_uid, reserved_gid;
    uint32_t first_inode;
    uint16_t inode_bytes, group;
    uint32_t compatible, incompatible, read_only_compatible;
};

struct ext2_group_disk {
    uint32_t block_bitmap, inode_bitmap, inode_table;
    uint16_t free_blocks, free_inodes, directories, padding;
    uint32_t reserved[3];
};
_Static_assert(sizeof(struct ext2_group_disk) == 32, "ext2");

struct ext2_inode_disk {
    uint16_t mode, uid;
    uint32_t size, accessed, changed, modified, deleted;
    uint16_t gid, links;
    uint32_t sectors, flags, version;
    uint32_t pointers[EXT2_POINTERS];
    uint32_t generation, file_acl, size_high, fragment;
    uint16_t fragment_size, uid_high, gid_high, padding;
    uint32_t reserved;
};
_Static_assert(sizeof(struct ext2_inode_disk) == 128, "ext2");

struct ext2_entry_disk {
    uint32_t inode;
    uint16_t record_bytes;
    uint8_t name_bytes, type; /* the name follows */
};

/* ---- In memory ------------------------------------------------------------------------------- */

enum { EXT2_BUCKETS = 256 };

struct ext2 {
    struct disk *disk;             /* constant */
    struct superblock *superblock; /* constant */
    struct qr_object *meta;        /* constant: page i begins with block i; see meta.c */
    uint32_t block_bytes, block_shift, pointers_per_block;       /* constant */
    uint32_t blocks, first_block, blocks_per_group;              /* constant */
    uint32_t inodes, first_inode, inodes_per_group, inode_bytes; /* constant */
    uint32_t group_count;                                        /* constant */
    bool was_clean;                                              /* constant */
    uint32_t reserved_blocks;                                    /* constant */
    struct qr_mutex alloc_lock;                                  /* A */
    struct ext2_group_disk *groups;                              /* A; places are constant */
    uint32_t free_blocks, free_inodes;                           /* A */
    uint8_t *bitmap;                                             /* A: one block, for searching */
    bool counts_dirty;                                           /* A */
    struct qr_spin table_lock;                                   /* H */
    struct qr_list table[EXT2_BUCKETS];                          /* H: struct ext2_inode */
};

struct ext2_inode {
    struct ext2 *fs;                      /* constant */
    struct inode *inode;                  /* constant: this one's other half */
    struct qr_list bucket;                /* H */
    struct qr_mutex map_lock;             /* B */
    struct qr_mutex load_lock;            /* L */
    uint32_t pointers[EXT2_POINTERS];     /* B */
    uint32_t sectors;                     /* B: units of 512 bytes, pointers' blocks included */
    uint32_t flags, generation, file_acl; /* I */
    uint32_t goal;                        /* B: near which block to look for the next */
    bool has_name;                        /* T: a directory that a name leads to */
};

static inline struct ext2_inode *
ext2_of(const struct inode *inode)
{
    return inode->data;
}

static inline struct ext2 *
ext2_fs_of(const struct inode *inode)
{
    return ext2_of(inode)->fs;
}

static inline uint64_t
ext2_sector(const struct ext2 *fs, uint32_t block)
{
    return (uint64_t)block << (fs->block_shift - SECTOR_SHIFT);
}

/* ---- super.c ------------------------------------------------------------------------------- */

/** Something on the disk makes no sense, or could not be written: nothing is changed from now on. */
void ext2_damaged(struct ext2 *fs, const char *what, uint32_t number);

/* ---- meta.c: blocks that are not file contents ----------------------------------------------- */

QR_MUST_USE int64_t ext2_meta_create(struct ext2 *fs);
/** @p bytes from byte @p offset on of @p block. @return 0, -EIO, -ENOMEM */
QR_MUST_USE int64_t ext2_meta_read(struct ext2 *fs, uint32_t block, uint32_t offset, void *to,
                                   size_t bytes);
QR_MUST_USE int64_t ext2_meta_write(struct ext2 *fs, uint32_t block, uint32_t offset,
                                    const void *from, size_t bytes);
/** All of it is zero now. */
QR_MUST_USE int64_t ext2_meta_clear(struct ext2 *fs, uint32_t block);
/** The block is used for something else now: forget what is known of it. */
void ext2_meta_forget(struct ext2 *fs, uint32_t block);

/* ---- alloc.c ------------------------------------------------------------------------------- */

/** Whether @p block may hold contents or pointers: it exists and is no bitmap or table. */
bool ext2_block_is_plain(const struct ext2 *fs, uint32_t block);
/** A block near @p goal. @return 0, -ENOSPC, -EIO, -EUCLEAN */
QR_MUST_USE int64_t ext2_block_alloc(struct ext2 *fs, uint32_t goal, uint32_t *out_block);
/** @return false: it was free already; the file system is marked damaged */
bool ext2_block_free(struct ext2 *fs, uint32_t block);
/** A number for an inode near that of its directory. */
QR_MUST_USE int64_t ext2_number_alloc(struct ext2 *fs, uint32_t directory, bool is_directory,
                                      uint32_t *out_number);
void ext2_number_free(struct ext2 *fs, uint32_t number, bool was_directory);
/** Store counts that changed. */
QR_MUST_USE int64_t ext2_counts_store(struct ext2 *fs);

/* ---- map.c: where the blocks of a file are --------------------------------------------------- */

enum ext2_map_mode { EXT2_LOOK, EXT2_MAKE };

struct ext2_place {
    uint32_t block; /**< 0: a hole */
    uint32_t run;   /**< of a hole: at least so many blocks of it follow, this one included */
    bool made;      /**< the block is new: what is on the disk there is nobody's */
};

/** Block @p index of a file. @return 0, -ENOSPC, -EIO, -EUCLEAN, -EFBIG */
QR_MUST_USE int64_t ext2_map(struct ext2_inode *node, uint64_t index, enum ext2_map_mode mode,
                             struct ext2_place *out_place);
/** Give back all blocks from @p index on. */
void ext2_map_cut(struct ext2_inode *node, uint64_t index);
/** One past the highest block index that pointers reach. */
uint64_t ext2_map_limit(const struct ext2 *fs);

/* ---- inode.c ------------------------------------------------------------------------------- */

/** Inode @p number, read if need be, with a reference. @return 0, -EUCLEAN, -EIO, -ENOMEM */
QR_MUST_USE int64_t ext2_inode_get(struct ext2 *fs, uint32_t number, struct inode **out);
/** A new one below @p directory. As name_ops.make. */
int64_t ext2_inode_make(struct inode *directory, uint32_t mode, uint32_t rdev, const char *target,
                        struct inode **out);
/** Store it in the inode table. @return 0 or -errno */
QR_MUST_USE int64_t ext2_inode_store(struct inode *inode);
/** Call @p fn for every inode in memory, each held meanwhile; goes on after errors. */
int64_t ext2_each_inode(struct ext2 *fs, int64_t (*fn)(struct inode *inode));

/* ---- dir.c --------------------------------------------------------------------------------- */

extern const struct name_ops ext2_name_ops;
/** Give a new directory its first block. */
QR_MUST_USE int64_t ext2_directory_begin(struct ext2_inode *node, uint32_t parent);

/* ---- file.c -------------------------------------------------------------------------------- */

extern const struct file_ops ext2_file_ops;
int64_t ext2_file_open(struct inode *inode, struct file *file);
int64_t ext2_truncate(struct inode *inode, uint64_t bytes);
/** Start to write, or write, the contents of an inode. */
int64_t ext2_contents_sync(struct inode *inode);
/** The object behind @p inode, made if need be; NULL without memory. */
struct qr_object *ext2_object(struct inode *inode);
uint64_t ext2_size_limit(const struct ext2 *fs);

#endif
