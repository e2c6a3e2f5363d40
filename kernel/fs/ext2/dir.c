/* SPDX-License-Identifier: MIT */
/*
 * Directories: entries in blocks, and the tree of names in memory.
 *
 *      inode | record bytes | name bytes, type | name ...      the record may be longer than its name
 *
 * A directory that a walk goes through for the first time is read whole, every inode that it names too, and
 * stays in the tree until the file system is unmounted.  From then on look-ups and listings need
 * no disk; changes are made on the disk first (that may fail), then in the tree (that cannot).
 *
 * No record is believed before it is known to lie within its block and to be long enough.  A directory
 * that two names lead to would make the tree a graph: the second is left out and the file system
 * marked as damaged, as with entries that lead to no inode.
 *
 * Locks: L for loading, outside T; T for everything else.
 */
#include <quire/assert.h>

#include "ext2.h"

enum { ENTRY_HEADER = 8 };

/* A record in its block. */
struct record {
    uint32_t block, offset; /* where */
    struct ext2_entry_disk head;
    char name[NAME_MAX + 1];
};

static uint32_t
record_need(size_t name_bytes)
{
    return (uint32_t)(ENTRY_HEADER + name_bytes + 3) & ~3u;
}

static uint8_t
type_of(uint32_t mode)
{
    static const uint8_t types[16] = {
        [S_IFREG >> 12] = 1, [S_IFDIR >> 12] = 2,  [S_IFCHR >> 12] = 3, [S_IFBLK >> 12] = 4,
        [S_IFIFO >> 12] = 5, [S_IFSOCK >> 12] = 6, [S_IFLNK >> 12] = 7,
    };

    return types[mode >> 12 & 15];
}

/* The record at @offset of @block. @return 0, -EUCLEAN, -EIO */
static int64_t
record_read(struct ext2 *fs, uint32_t block, uint32_t offset, struct record *out)
{
    int64_t error = ext2_meta_read(fs, block, offset, &out->head, ENTRY_HEADER);

    if (error != 0) {
        return error;
    }
    uint32_t bytes = out->head.record_bytes;
    if (bytes < ENTRY_HEADER + 4u || bytes % 4 != 0 || bytes > fs->block_bytes - offset ||
        bytes < record_need(out->head.name_bytes)) {
        ext2_damaged(fs, "an entry of a directory does not fit its block", block);
        return -EUCLEAN;
    }
    out->block = block;
    out->offset = offset;
    out->name[out->head.name_bytes] = '\0';
    return ext2_meta_read(fs, block, offset + ENTRY_HEADER, out->name, out->head.name_bytes);
}

static int64_t
head_write(struct ext2 *fs, const struct record *record)
{
    return ext2_meta_write(fs, record->block, record->offset, &record->head, ENTRY_HEADER);
}

/* What a walk over records does with each; a value other than 0 ends the walk. */
typedef int64_t (*record_fn)(void *context, struct record *record, const struct record *before);

/* @before: the record in front of it in the same block, or NULL. */
static int64_t
records_each(struct ext2_inode *node, record_fn fn, void *context)
{
    struct ext2 *fs = node->fs;
    uint64_t blocks = atomic_load(&node->inode->size) >> fs->block_shift;
    struct record *records = kmem_alloc(2 * sizeof *records);
    int64_t result = 0;

    if (records == NULL) {
        return -ENOMEM;
    }
    for (uint64_t index = 0; index < blocks && result == 0;) {
        struct ext2_place place;
        unsigned current = 0;

        result = ext2_map(node, index, EXT2_LOOK, &place);
        if (result != 0 || place.block == 0) {
            index += place.run; /* a hole has no entries */
            continue;
        }
        for (uint32_t offset = 0; offset < fs->block_bytes && result == 0;) {
            struct record *record = &records[current];

            result = record_read(fs, place.block, offset, record);
            if (result == 0) {
                result = fn(context, record, offset == 0 ? NULL : &records[1 - current]);
                offset += record->head.record_bytes;
                current = 1 - current;
            }
        }
        index++;
    }
    kmem_free(records);
    return result;
}

/* ---- loading ---------------------------------------------------------------------------------- */

struct load {
    struct ext2 *fs;
    struct dentry *directory;
    struct qr_list found; /* struct dentry, by siblings */
};

static bool
is_dots(const struct record *record)
{
    return strcmp(record->name, ".") == 0 || strcmp(record->name, "..") == 0;
}

static int64_t
load_record(void *context, struct record *record, const struct record *before)
{
    struct load *load = context;
    struct inode *inode;
    size_t length = record->head.name_bytes;

    (void)before;
    if (record->head.inode == 0 || is_dots(record)) {
        return 0;
    }
    int64_t error = ext2_inode_get(load->fs, record->head.inode, &inode);
    if (error == -EUCLEAN || length == 0 || strlen(record->name) != length ||
        memchr(record->name, '/', length) != NULL) {
        if (error == 0) {
            inode_put(inode);
        }
        ext2_damaged(load->fs, "an entry leads to no inode", record->head.inode);
        return 0;
    }
    if (error != 0) {
        return error;
    }
    struct dentry *child = dentry_create(load->directory, record->name, length, inode);
    inode_put(inode);
    if (child == NULL) {
        return -ENOMEM;
    }
    child->unloaded = dentry_is_directory(child);
    qr_list_push_back(&load->found, &child->siblings);
    return 0;
}

/* Whether it may be linked: no second name of that kind, no second way to a directory. T held. */
static bool
may_link(struct load *load, struct dentry *child)
{
    struct dentry *twin = dentry_child(load->directory, child->name, child->name_length);
    struct ext2_inode *node = ext2_of(child->inode);
    bool ok = twin == NULL && !(dentry_is_directory(child) && node->has_name);

    if (twin != NULL) {
        dentry_put(twin);
    }
    if (!ok) {
        ext2_damaged(load->fs, "a name stands twice, or a directory has two",
                     (uint32_t)child->inode->number);
    } else if (dentry_is_directory(child)) {
        node->has_name = true;
    }
    return ok;
}

/* Link what was found, or drop it. */
static void
load_finish(struct load *load, bool link)
{
    tree_lock_write();
    while (!qr_list_is_empty(&load->found)) {
        struct dentry *child = qr_list_entry(load->found.next, struct dentry, siblings);

        qr_list_remove(&child->siblings);
        if (link && may_link(load, child)) {
            dentry_link(child);
        }
        dentry_put(child);
    }
    if (link) {
        load->directory->unloaded = false;
    }
    tree_unlock_write();
}

static int64_t
ext2_load(struct dentry *directory)
{
    struct ext2_inode *node = ext2_of(directory->inode);
    struct load load = {.fs = node->fs, .directory = directory};
    int64_t error = 0;

    qr_list_init(&load.found);
    qr_mutex_lock(&node->load_lock);
    if (directory->unloaded) {
        error = records_each(node, load_record, &load);
        load_finish(&load, error == 0);
    }
    qr_mutex_unlock(&node->load_lock);
    return error;
}

/* ---- changing --------------------------------------------------------------------------------- */

struct change {
    struct ext2 *fs;
    const char *name;
    size_t length;
    uint32_t inode; /* to enter */
    uint8_t type;
};

static bool
is_named(const struct record *record, const struct change *change)
{
    return record->head.inode != 0 && record->head.name_bytes == change->length &&
           memcmp(record->name, change->name, change->length) == 0;
}

enum { RECORD_DONE = 1 };

/* Have an entry of that name lead elsewhere. */
static int64_t
change_replace(void *context, struct record *record, const struct record *before)
{
    struct change *change = context;

    (void)before;
    if (!is_named(record, change)) {
        return 0;
    }
    record->head.inode = change->inode;
    record->head.type = change->type;
    int64_t error = head_write(change->fs, record);
    return error != 0 ? error : RECORD_DONE;
}

/* Write the change's entry at @offset of @block, in @bytes. */
static int64_t
entry_write(struct change *change, uint32_t block, uint32_t offset, uint32_t bytes)
{
    struct record record = {
        .block = block,
        .offset = offset,
        .head = {.inode = change->inode,
                 .record_bytes = (uint16_t)bytes,
                 .name_bytes = (uint8_t)change->length,
                 .type = change->type},
    };
    int64_t error =
        ext2_meta_write(change->fs, block, offset + ENTRY_HEADER, change->name, change->length);

    return error != 0 ? error : head_write(change->fs, &record);
}

/* Put the entry where a record is free or longer than it need be. */
static int64_t
change_add(void *context, struct record *record, const struct record *before)
{
    struct change *change = context;
    uint32_t need = record_need(change->length);
    uint32_t used = record->head.inode == 0 ? 0 : record_need(record->head.name_bytes);
    uint32_t bytes = record->head.record_bytes;

    (void)before;
    if (bytes - used < need) {
        return 0;
    }
    int64_t error = entry_write(change, record->block, record->offset + used, bytes - used);
    if (error == 0 && used > 0) {
        record->head.record_bytes = (uint16_t)used;
        error = head_write(change->fs, record);
    }
    return error != 0 ? error : RECORD_DONE;
}

/* The record before takes the space over; the first of a block becomes free. */
static int64_t
change_remove(void *context, struct record *record, const struct record *before)
{
    struct change *change = context;

    if (!is_named(record, change)) {
        return 0;
    }
    if (before == NULL) {
        record->head.inode = 0;
    } else {
        uint32_t bytes = record->head.record_bytes;

        *record = *before;
        record->head.record_bytes = (uint16_t)(record->head.record_bytes + bytes);
    }
    int64_t error = head_write(change->fs, record);
    return error != 0 ? error : RECORD_DONE;
}

/* One more block, with one record that is the change's. */
static int64_t
block_append(struct ext2_inode *node, struct change *change)
{
    uint64_t size = atomic_load(&node->inode->size);
    struct ext2_place place;
    int64_t error = size > INT32_MAX - node->fs->block_bytes
                        ? -ENOSPC
                        : ext2_map(node, size >> node->fs->block_shift, EXT2_MAKE, &place);

    if (error == 0) {
        error = ext2_meta_clear(node->fs, place.block);
    }
    if (error == 0) {
        error = entry_write(change, place.block, 0, node->fs->block_bytes);
    }
    if (error == 0) {
        atomic_store(&node->inode->size, size + node->fs->block_bytes);
    }
    return error;
}

/* The hash tree of an indexed directory is not kept: it is a plain one from now on, as with Linux's. */
static void
index_drop(struct ext2_inode *node)
{
    if (node->flags & EXT2_FLAG_INDEX) {
        node->flags &= ~(uint32_t)EXT2_FLAG_INDEX;
        atomic_store(&node->inode->dirty, true);
    }
}

static int64_t
ext2_enter(struct inode *directory, const char *name, size_t length, struct inode *inode)
{
    struct ext2_inode *node = ext2_of(directory);
    struct change change = {
        .fs = node->fs,
        .name = name,
        .length = length,
        .inode = (uint32_t)inode->number,
        .type = type_of(inode->mode),
    };
    int64_t result = records_each(node, change_replace, &change);

    index_drop(node);
    if (result == 0) {
        result = records_each(node, change_add, &change);
    }
    if (result == 0) {
        result = block_append(node, &change);
    }
    if (result >= 0 && S_ISTYPE(inode->mode, S_IFDIR)) {
        ext2_of(inode)->has_name = true;
    }
    return result > 0 ? 0 : result;
}

static int64_t
ext2_leave(struct inode *directory, const char *name, size_t length)
{
    struct ext2_inode *node = ext2_of(directory);
    struct change change = {.fs = node->fs, .name = name, .length = length};
    int64_t result = records_each(node, change_remove, &change);

    index_drop(node);
    if (result == 0) {
        ext2_damaged(node->fs, "an entry that was there is gone", (uint32_t)directory->number);
    }
    return result > 0 ? 0 : result < 0 ? result : -EUCLEAN;
}

static int64_t
ext2_reparent(struct inode *inode, struct inode *parent)
{
    struct ext2_inode *node = ext2_of(inode);
    struct change change = {.fs = node->fs,
                            .name = "..",
                            .length = 2,
                            .inode = (uint32_t)parent->number,
                            .type = type_of(S_IFDIR)};
    int64_t result = records_each(node, change_replace, &change);

    return result > 0 ? 0 : result < 0 ? result : -EUCLEAN;
}

int64_t
ext2_directory_begin(struct ext2_inode *node, uint32_t parent)
{
    struct ext2 *fs = node->fs;
    struct change dot = {.fs = fs,
                         .name = ".",
                         .length = 1,
                         .inode = (uint32_t)node->inode->number,
                         .type = type_of(S_IFDIR)};
    struct change dots = {
        .fs = fs, .name = "..", .length = 2, .inode = parent, .type = type_of(S_IFDIR)};
    int64_t error = block_append(node, &dot);

    if (error != 0) {
        return error;
    }
    error = records_each(node, change_add, &dots);
    return error == RECORD_DONE ? 0 : error;
}

const struct name_ops ext2_name_ops = {
    .load = ext2_load,
    .make = ext2_inode_make,
    .enter = ext2_enter,
    .leave = ext2_leave,
    .reparent = ext2_reparent,
};
