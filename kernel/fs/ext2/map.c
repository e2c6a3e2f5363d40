/* SPDX-License-Identifier: MIT */
/*
 * Where the blocks of a file are.
 *
 *      pointers[0..11]   the first blocks
 *      pointers[12]      a block of pointers
 *      pointers[13]      a block of pointers to such
 *      pointers[14]      one more
 *
 * A pointer is 0 for a hole, of one block or of all that would hang below.  One that leads outside the
 * file system or into its bitmaps and tables is refused (EUCLEAN).  Depth is bounded by the format,
 * so pointers in a circle end; cutting stops at the first block that is free already, so it
 * frees no more than there is.
 *
 * Lock: B; A inside.  The blocks of pointers are metadata (meta.c).
 */
#include "ext2.h"

/* The way to a block: which pointer at each level. */
struct path {
    unsigned depth; /* blocks of pointers on the way: 0 to 3 */
    uint32_t slots[EXT2_DEPTH_MAX + 1];
};

/* Blocks below one pointer with @levels blocks of pointers on the way. */
static uint64_t
span_of(const struct ext2 *fs, unsigned levels)
{
    uint64_t span = 1;

    for (unsigned i = 0; i < levels; i++) {
        span *= fs->pointers_per_block;
    }
    return span;
}

uint64_t
ext2_map_limit(const struct ext2 *fs)
{
    return EXT2_DIRECT + span_of(fs, 1) + span_of(fs, 2) + span_of(fs, 3);
}

/* @return false: no pointer reaches so far */
static bool
path_find(const struct ext2 *fs, uint64_t index, struct path *path)
{
    if (index < EXT2_DIRECT) {
        *path = (struct path){.depth = 0, .slots = {(uint32_t)index}};
        return true;
    }
    index -= EXT2_DIRECT;
    for (unsigned depth = 1; depth <= EXT2_DEPTH_MAX; depth++) {
        if (index < span_of(fs, depth)) {
            *path = (struct path){.depth = depth, .slots = {EXT2_DIRECT + depth - 1}};
            for (unsigned level = depth; level > 0; level--) {
                path->slots[level] = (uint32_t)(index % fs->pointers_per_block);
                index /= fs->pointers_per_block;
            }
            return true;
        }
        index -= span_of(fs, depth);
    }
    return false;
}

static int64_t
pointer_read(struct ext2_inode *node, uint32_t parent, uint32_t slot, uint32_t *out)
{
    int64_t error = 0;

    if (parent == 0) {
        *out = node->pointers[slot];
    } else {
        error = ext2_meta_read(node->fs, parent, slot * 4, out, 4);
    }
    if (error == 0 && *out != 0 && !ext2_block_is_plain(node->fs, *out)) {
        ext2_damaged(node->fs, "a pointer leads out of the file system", *out);
        error = -EUCLEAN;
    }
    return error;
}

static int64_t
pointer_write(struct ext2_inode *node, uint32_t parent, uint32_t slot, uint32_t value)
{
    atomic_store(&node->inode->dirty, true);
    if (parent != 0) {
        return ext2_meta_write(node->fs, parent, slot * 4, &value, 4);
    }
    node->pointers[slot] = value;
    return 0;
}

/* A new block for pointer @slot of @parent; cleared where it will hold pointers. */
static int64_t
pointer_make(struct ext2_inode *node, uint32_t parent, uint32_t slot, bool is_leaf, uint32_t *out)
{
    uint32_t block;
    int64_t error = ext2_block_alloc(node->fs, node->goal, &block);

    if (error != 0) {
        return error;
    }
    if (!is_leaf) {
        error = ext2_meta_clear(node->fs, block);
    }
    if (error == 0) {
        error = pointer_write(node, parent, slot, block);
    }
    if (error != 0) {
        (void)ext2_block_free(node->fs, block);
        return error;
    }
    node->goal = block + 1;
    node->sectors += node->fs->block_bytes >> SECTOR_SHIFT;
    *out = block;
    return 0;
}

/* B held. */
static int64_t
map_locked(struct ext2_inode *node, const struct path *path, uint64_t index,
           enum ext2_map_mode mode, struct ext2_place *out)
{
    uint32_t parent = 0;

    *out = (struct ext2_place){.run = 1};
    for (unsigned level = 0; level <= path->depth; level++) {
        uint32_t block;
        int64_t error = pointer_read(node, parent, path->slots[level], &block);

        if (error == 0 && block == 0 && mode == EXT2_LOOK) {
            uint64_t span = span_of(node->fs, path->depth - level);
            uint64_t from = path->depth == 0 ? 0 : index - EXT2_DIRECT;

            for (unsigned i = 1; i < path->depth; i++) {
                from -= span_of(node->fs, i);
            }
            uint64_t run = span - from % span;
            out->run = run < UINT32_MAX ? (uint32_t)run : UINT32_MAX;
            return 0;
        }
        if (error == 0 && block == 0) {
            bool is_leaf = level == path->depth;

            error = pointer_make(node, parent, path->slots[level], is_leaf, &block);
            out->made = is_leaf;
        }
        if (error != 0) {
            return error;
        }
        parent = block;
    }
    out->block = parent;
    return 0;
}

int64_t
ext2_map(struct ext2_inode *node, uint64_t index, enum ext2_map_mode mode,
         struct ext2_place *out_place)
{
    struct path path;

    if (!path_find(node->fs, index, &path)) {
        return -EFBIG;
    }
    qr_mutex_lock(&node->map_lock);
    int64_t error = map_locked(node, &path, index, mode, out_place);
    qr_mutex_unlock(&node->map_lock);
    return error;
}

/* ---- cutting ---------------------------------------------------------------------------------- */

/* One block of pointers on the way down. */
struct cut_level {
    uint32_t block, slot;
    bool whole; /* nothing before was left out: the block goes too */
};

static bool
block_release(struct ext2_inode *node, uint32_t block)
{
    uint32_t sectors = node->fs->block_bytes >> SECTOR_SHIFT;

    if (!S_ISTYPE(node->inode->mode, S_IFREG)) {
        ext2_meta_forget(node->fs, block); /* its contents are metadata */
    }
    if (!ext2_block_free(node->fs, block)) {
        return false;
    }
    node->sectors -= node->sectors < sectors ? node->sectors : sectors;
    return true;
}

/* Free what hangs below @top, which has @depth levels, from block @from of it on. B held.
 * @return false where it had to stop; else *@out_gone: @top itself went too */
static bool
branch_cut(struct ext2_inode *node, uint32_t top, unsigned depth, uint64_t from, bool *out_gone)
{
    struct ext2 *fs = node->fs;
    struct cut_level levels[EXT2_DEPTH_MAX];
    unsigned level = 0; /* levels[0] is @top */

    levels[0] = (struct cut_level){
        .block = top, .whole = from == 0, .slot = (uint32_t)(from / span_of(fs, depth - 1))};
    from %= span_of(fs, depth - 1);
    for (;;) {
        struct cut_level *at = &levels[level];
        uint32_t block = 0;

        if (at->slot == fs->pointers_per_block) {
            bool whole = at->whole;

            if (whole) {
                ext2_meta_forget(fs, at->block);
                if (!block_release(node, at->block)) {
                    return false;
                }
            }
            if (level == 0) {
                *out_gone = whole;
                return true;
            }
            at = &levels[--level];
            if (whole && !at->whole && pointer_write(node, at->block, at->slot, 0) != 0) {
                return false;
            }
            at->slot++;
            continue;
        }
        if (pointer_read(node, at->block, at->slot, &block) != 0) {
            return false;
        }
        unsigned below = depth - 1 - level; /* levels under the pointer */
        if (block != 0 && below > 0) {
            uint64_t span = span_of(fs, below - 1);

            levels[++level] = (struct cut_level){
                .block = block, .slot = (uint32_t)(from / span), .whole = from == 0};
            from %= span;
            continue;
        }
        if (block != 0) {
            if ((!at->whole && pointer_write(node, at->block, at->slot, 0) != 0) ||
                !block_release(node, block)) {
                return false;
            }
        }
        from = 0;
        at->slot++;
    }
}

/* B held. */
static bool
cut_locked(struct ext2_inode *node, uint64_t index)
{
    struct ext2 *fs = node->fs;
    uint64_t start = EXT2_DIRECT; /* of the tree under pointers[11 + depth] */

    for (uint64_t i = index; i < EXT2_DIRECT; i++) {
        uint32_t block = node->pointers[i];

        node->pointers[i] = 0;
        if (block != 0 && !block_release(node, block)) {
            return false;
        }
    }
    for (unsigned depth = 1; depth <= EXT2_DEPTH_MAX; start += span_of(fs, depth), depth++) {
        uint32_t *pointer = &node->pointers[EXT2_DIRECT + depth - 1];
        bool gone = false;

        if (*pointer == 0 || index >= start + span_of(fs, depth)) {
            continue;
        }
        if (!ext2_block_is_plain(fs, *pointer)) {
            ext2_damaged(fs, "a pointer leads out of the file system", *pointer);
            return false;
        }
        if (!branch_cut(node, *pointer, depth, index > start ? index - start : 0, &gone)) {
            return false;
        }
        if (gone) {
            *pointer = 0;
        }
    }
    return true;
}

void
ext2_map_cut(struct ext2_inode *node, uint64_t index)
{
    qr_mutex_lock(&node->map_lock);
    (void)cut_locked(node, index); /* where it stops, the file system is marked as damaged */
    atomic_store(&node->inode->dirty, true);
    qr_mutex_unlock(&node->map_lock);
}
