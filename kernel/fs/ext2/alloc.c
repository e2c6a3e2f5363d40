/* SPDX-License-Identifier: MIT */
/*
 * Which blocks and inodes are free.
 *
 * A group's bitmap is searched from the goal on, then the other groups in turn.  Descriptors are
 * kept in memory and stored with each change; the totals are stored by sync.
 *
 * The bitmaps are not believed blindly: a block that is free by its bitmap but lies where a bitmap
 * or a table is, a bitmap without a free bit where the descriptor counts some, and a block that is
 * freed twice mark the file system as damaged.
 *
 * Lock: A, over reading and changing a bitmap.
 */
#include "ext2.h"
#include "proc.h"

static uint32_t
group_first_block(const struct ext2 *fs, uint32_t group)
{
    return fs->first_block + group * fs->blocks_per_group;
}

static uint32_t
group_blocks(const struct ext2 *fs, uint32_t group)
{
    uint32_t left = fs->blocks - group_first_block(fs, group);

    return left < fs->blocks_per_group ? left : fs->blocks_per_group;
}

static uint32_t
table_blocks(const struct ext2 *fs)
{
    uint64_t bytes = (uint64_t)fs->inodes_per_group * fs->inode_bytes;

    return (uint32_t)((bytes + fs->block_bytes - 1) >> fs->block_shift);
}

bool
ext2_block_is_plain(const struct ext2 *fs, uint32_t block)
{
    if (block <= fs->first_block || block >= fs->blocks) {
        return false;
    }
    const struct ext2_group_disk *group =
        &fs->groups[(block - fs->first_block) / fs->blocks_per_group];

    return block != group->block_bitmap && block != group->inode_bitmap &&
           block - group->inode_table >= table_blocks(fs);
}

/* A: store descriptor @group. */
static int64_t
group_store(struct ext2 *fs, uint32_t group)
{
    uint32_t per_block = fs->block_bytes / sizeof *fs->groups;

    fs->counts_dirty = true;
    return ext2_meta_write(fs, fs->first_block + 1 + group / per_block,
                           group % per_block * (uint32_t)sizeof *fs->groups, &fs->groups[group],
                           sizeof *fs->groups);
}

/* The first clear bit of @count at or after @from; @count where there is none. */
static uint32_t
bit_find(const uint8_t *bitmap, uint32_t from, uint32_t count)
{
    while (from < count && (bitmap[from / 8] >> from % 8 & 1)) {
        from += from % 8 == 0 && bitmap[from / 8] == 0xff ? 8 : 1;
    }
    return from < count ? from : count;
}

/* A: take a clear bit of @bitmap_block. @return 0; -ENOSPC: there is none; -EIO … */
static int64_t
bit_take(struct ext2 *fs, uint32_t bitmap_block, uint32_t from, uint32_t count, uint32_t *out_bit)
{
    int64_t error = ext2_meta_read(fs, bitmap_block, 0, fs->bitmap, fs->block_bytes);

    if (error != 0) {
        return error;
    }
    uint32_t bit = bit_find(fs->bitmap, from, count);
    if (bit == count) {
        bit = bit_find(fs->bitmap, 0, from);
        if (bit == from) {
            return -ENOSPC;
        }
    }
    uint8_t byte = (uint8_t)(fs->bitmap[bit / 8] | 1u << bit % 8);
    *out_bit = bit;
    return ext2_meta_write(fs, bitmap_block, bit / 8, &byte, 1);
}

/* A: clear a bit. @return whether it was set */
static bool
bit_clear(struct ext2 *fs, uint32_t bitmap_block, uint32_t bit)
{
    uint8_t byte = 0;

    if (ext2_meta_read(fs, bitmap_block, bit / 8, &byte, 1) != 0 || !(byte >> bit % 8 & 1)) {
        return false;
    }
    byte &= (uint8_t) ~(1u << bit % 8);
    return ext2_meta_write(fs, bitmap_block, bit / 8, &byte, 1) == 0;
}

/* ---- blocks ------------------------------------------------------------------------------- */

/* A: a block of @group, from bit @from on. */
static int64_t
block_take(struct ext2 *fs, uint32_t group, uint32_t from, uint32_t *out_block)
{
    struct ext2_group_disk *descriptor = &fs->groups[group];
    uint32_t bit;

    if (descriptor->free_blocks == 0) {
        return -ENOSPC;
    }
    int64_t error = bit_take(fs, descriptor->block_bitmap, from, group_blocks(fs, group), &bit);
    if (error == -ENOSPC) {
        ext2_damaged(fs, "the bitmap of a group has fewer free blocks than it counts", group);
        return -EUCLEAN;
    }
    if (error != 0) {
        return error;
    }
    uint32_t block = group_first_block(fs, group) + bit;
    if (!ext2_block_is_plain(fs, block)) {
        ext2_damaged(fs, "a block of the file system itself is called free", block);
        return -EUCLEAN;
    }
    descriptor->free_blocks--;
    fs->free_blocks--;
    *out_block = block;
    return group_store(fs, group);
}

static int64_t
block_alloc_locked(struct ext2 *fs, uint32_t goal, uint32_t *out_block)
{
    bool may_use_all = process_fsuid_or_boot() == 0;

    if (fs->free_blocks == 0 || (!may_use_all && fs->free_blocks <= fs->reserved_blocks)) {
        return -ENOSPC;
    }
    if (goal < fs->first_block || goal >= fs->blocks) {
        goal = fs->first_block;
    }
    uint32_t first = (goal - fs->first_block) / fs->blocks_per_group;
    uint32_t from = (goal - fs->first_block) % fs->blocks_per_group;
    for (uint32_t i = 0; i < fs->group_count; i++) {
        uint32_t group = (first + i) % fs->group_count;
        int64_t error = block_take(fs, group, i == 0 ? from : 0, out_block);

        if (error != -ENOSPC) {
            return error;
        }
    }
    return -ENOSPC;
}

int64_t
ext2_block_alloc(struct ext2 *fs, uint32_t goal, uint32_t *out_block)
{
    if (superblock_is_read_only(fs->superblock)) {
        return -EROFS;
    }
    qr_mutex_lock(&fs->alloc_lock);
    int64_t error = block_alloc_locked(fs, goal, out_block);
    qr_mutex_unlock(&fs->alloc_lock);
    return error;
}

bool
ext2_block_free(struct ext2 *fs, uint32_t block)
{
    uint32_t group = (block - fs->first_block) / fs->blocks_per_group;
    bool was_used = false;

    qr_mutex_lock(&fs->alloc_lock);
    if (ext2_block_is_plain(fs, block) &&
        bit_clear(fs, fs->groups[group].block_bitmap,
                  (block - fs->first_block) % fs->blocks_per_group)) {
        fs->groups[group].free_blocks++;
        fs->free_blocks++;
        was_used = group_store(fs, group) == 0;
    }
    qr_mutex_unlock(&fs->alloc_lock);
    if (!was_used) {
        ext2_damaged(fs, "a block is freed that is not in use", block);
    }
    return was_used;
}

/* ---- inodes ------------------------------------------------------------------------------- */

/* A: a number of @group. */
static int64_t
number_take(struct ext2 *fs, uint32_t group, bool is_directory, uint32_t *out_number)
{
    struct ext2_group_disk *descriptor = &fs->groups[group];
    uint32_t bit;

    if (descriptor->free_inodes == 0) {
        return -ENOSPC;
    }
    int64_t error = bit_take(fs, descriptor->inode_bitmap, 0, fs->inodes_per_group, &bit);
    if (error == -ENOSPC) {
        ext2_damaged(fs, "the bitmap of a group has fewer free inodes than it counts", group);
        return -EUCLEAN;
    }
    if (error != 0) {
        return error;
    }
    uint32_t number = group * fs->inodes_per_group + bit + 1;
    if (number < fs->first_inode || number > fs->inodes) {
        ext2_damaged(fs, "a reserved inode is called free", number);
        return -EUCLEAN;
    }
    descriptor->free_inodes--;
    descriptor->directories = (uint16_t)(descriptor->directories + is_directory);
    fs->free_inodes--;
    *out_number = number;
    return group_store(fs, group);
}

int64_t
ext2_number_alloc(struct ext2 *fs, uint32_t directory, bool is_directory, uint32_t *out_number)
{
    uint32_t first = (directory - 1) / fs->inodes_per_group;
    int64_t error = -ENOSPC;

    if (superblock_is_read_only(fs->superblock)) {
        return -EROFS;
    }
    qr_mutex_lock(&fs->alloc_lock);
    for (uint32_t i = 0; i < fs->group_count && error == -ENOSPC; i++) {
        error = number_take(fs, (first + i) % fs->group_count, is_directory, out_number);
    }
    qr_mutex_unlock(&fs->alloc_lock);
    return error;
}

void
ext2_number_free(struct ext2 *fs, uint32_t number, bool was_directory)
{
    uint32_t group = (number - 1) / fs->inodes_per_group;
    bool done = false;

    qr_mutex_lock(&fs->alloc_lock);
    struct ext2_group_disk *descriptor = &fs->groups[group];
    if (bit_clear(fs, descriptor->inode_bitmap, (number - 1) % fs->inodes_per_group)) {
        descriptor->free_inodes++;
        fs->free_inodes++;
        if (was_directory && descriptor->directories > 0) {
            descriptor->directories--;
        }
        done = group_store(fs, group) == 0;
    }
    qr_mutex_unlock(&fs->alloc_lock);
    if (!done) {
        ext2_damaged(fs, "an inode is freed that is not in use", number);
    }
}

/* ---- totals ------------------------------------------------------------------------------- */

int64_t
ext2_counts_store(struct ext2 *fs)
{
    uint32_t block = fs->block_bytes == 1024 ? 1 : 0;
    uint32_t offset = fs->block_bytes == 1024 ? 0 : 1024;
    int64_t error = 0;

    qr_mutex_lock(&fs->alloc_lock);
    if (fs->counts_dirty) {
        const uint32_t counts[2] = {fs->free_blocks, fs->free_inodes};

        error = ext2_meta_write(fs, block,
                                offset + (uint32_t)offsetof(struct ext2_super_disk, free_blocks),
                                counts, sizeof counts);
        fs->counts_dirty = error != 0;
    }
    qr_mutex_unlock(&fs->alloc_lock);
    return error;
}
