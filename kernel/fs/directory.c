/* SPDX-License-Identifier: MIT */
/*
 * Reading directories.
 *
 * Positions: 0 is ".", 1 is "..", then the cookies of linked children, then, from LIST_GENERATED
 * on, whatever a generated directory lists.  Entries are packed into a kernel buffer under the
 * tree lock and copied out after it is released, so that a page fault never waits inside it.
 */

#include "fs.h"

enum { LIST_BUFFER_BYTES = 16384, DIRENT_HEADER_BYTES = 19 };

/* One getdents64 entry up to its name. */
struct dirent64 {
    uint64_t inode;
    int64_t next;
    uint16_t record_bytes;
    uint8_t type;
} __attribute__((packed));

struct packer {
    struct directory_emit emit; /* first */
    char *buffer;
    size_t capacity;
    size_t used;
    uint64_t position; /* of the next entry that did not fit */
    bool full;
};

static bool
packer_entry(struct directory_emit *emit, const char *name, size_t length, uint64_t ino,
             uint32_t mode, uint64_t next_position)
{
    struct packer *packer = (struct packer *)emit;
    size_t bytes = (DIRENT_HEADER_BYTES + length + 1 + 7) & ~(size_t)7;

    if (packer->full || bytes > packer->capacity - packer->used) {
        packer->full = true;
        return false;
    }
    struct dirent64 entry = {.inode = ino,
                             .next = (int64_t)next_position,
                             .record_bytes = (uint16_t)bytes,
                             .type = (uint8_t)((mode & S_IFMT) >> 12)};
    char *at = packer->buffer + packer->used;
    memset(at, 0, bytes);
    memcpy(at, &entry, DIRENT_HEADER_BYTES);
    memcpy(at + DIRENT_HEADER_BYTES, name, length);
    packer->used += bytes;
    packer->position = next_position;
    return true;
}

static struct dentry *
parent_shown(struct dentry *directory)
{
    if (directory->parent == directory && directory->superblock->covered != NULL) {
        return directory->superblock->covered->parent;
    }
    return directory->parent;
}

/* T held for reading. */
static void
directory_pack(struct dentry *directory, uint64_t position, struct packer *packer)
{
    struct directory_emit *emit = &packer->emit;

    if (position == 0) {
        packer_entry(emit, ".", 1, directory->inode->number, S_IFDIR, 1);
        position = 1;
    }
    if (position == 1) {
        packer_entry(emit, "..", 2, parent_shown(directory)->inode->number, S_IFDIR, 2);
    }
    if (position < LIST_GENERATED || directory->inode->ops->list == NULL) {
        qr_list_for_each(node, &directory->children)
        {
            struct dentry *child = qr_list_entry(node, struct dentry, siblings);

            if (child->cookie >= position &&
                !emit->entry(emit, child->name, child->name_length, child->inode->number,
                             child->inode->mode, child->cookie + 1)) {
                return;
            }
        }
    }
    if (directory->inode->ops->list != NULL && !packer->full) {
        directory->inode->ops->list(directory,
                                    position < LIST_GENERATED ? LIST_GENERATED : position, emit);
    }
}

int64_t
directory_read(struct file *file, struct io *io)
{
    size_t capacity = io->left < LIST_BUFFER_BYTES ? io->left : LIST_BUFFER_BYTES;
    struct packer packer = {
        .emit = {.entry = packer_entry}, .capacity = capacity, .position = file->position};
    int64_t result;

    if (capacity == 0) {
        return -EINVAL;
    }
    packer.buffer = kmem_alloc(capacity);
    if (packer.buffer == NULL) {
        return -ENOMEM;
    }
    int64_t loaded = dentry_load(file->dentry);
    if (loaded != 0) {
        kmem_free(packer.buffer);
        return loaded;
    }
    tree_lock_read();
    bool removed = !file->dentry->linked && !file->dentry->generated;
    if (!removed) {
        directory_pack(file->dentry, file->position, &packer);
    }
    tree_unlock_read();
    if (removed) {
        result = -ENOENT;
    } else if (packer.used == 0 && packer.full) {
        result = -EINVAL; /* not even one entry fits */
    } else if (io_put(io, packer.buffer, packer.used) < packer.used) {
        result = -EFAULT;
    } else {
        file->position = packer.position;
        result = (int64_t)packer.used;
    }
    kmem_free(packer.buffer);
    return result;
}

static int64_t
directory_seek(struct file *file, int64_t offset, int whence)
{
    if (whence != SEEK_SET && whence != SEEK_CUR) {
        return -EINVAL;
    }
    return seek_plain(file, offset, whence, 0);
}

static int64_t
directory_read_bytes(struct file *file, struct io *io, uint64_t *position)
{
    (void)file;
    (void)io;
    (void)position;
    return -EISDIR;
}

static int64_t
directory_sync(struct file *file, uint64_t first, uint64_t last, enum file_sync how)
{
    struct superblock *superblock = file->inode->superblock;

    (void)first;
    (void)last;
    (void)how;
    return superblock->type->sync == NULL ? 0 : superblock->type->sync(superblock);
}

const struct file_ops directory_file_ops = {
    .name = "directory",
    .read = directory_read_bytes,
    .seek = directory_seek,
    .read_directory = directory_read,
    .sync = directory_sync,
};
