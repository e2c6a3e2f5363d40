/* SPDX-License-Identifier: MIT */
/*
 * Inodes: things that names lead to.
 *
 * An inode lives as long as somebody refers to it: a dentry, hence an open file.  `links` counts
 * names and is what stat() shows; it does not keep the inode alive by itself, since every name
 * is a dentry in memory that holds a reference.
 */

#include <quire/assert.h>

#include "arch.h"
#include "fs.h"
#include "proc.h"

struct timespec
time_now(void)
{
    uint64_t now = clock_realtime_ns();

    return (struct timespec){ .seconds = (int64_t)(now / 1000000000u),
                              .nanoseconds = (int64_t)(now % 1000000000u) };
}

struct inode *
inode_create(struct superblock *superblock, const struct inode_ops *ops, uint32_t mode)
{
    struct inode *inode = kmem_zalloc(sizeof *inode);

    if (inode == NULL) {
        return NULL;
    }
    atomic_init(&inode->refs, 1);
    inode->superblock = superblock;
    inode->number = atomic_fetch_add(&superblock->next_inode, 1);
    inode->ops = ops;
    inode->mode = mode;
    inode->links = S_ISTYPE(mode, S_IFDIR) ? 2 : 1;
    inode->accessed = inode->modified = inode->changed = time_now();
    atomic_fetch_add(&superblock->inodes, 1);
    return inode;
}

void
inode_ref(struct inode *inode)
{
    unsigned before = atomic_fetch_add_explicit(&inode->refs, 1, memory_order_relaxed);

    qr_assert(before > 0);
}

void
inode_put(struct inode *inode)
{
    if (atomic_fetch_sub(&inode->refs, 1) != 1) {
        return;
    }
    flock_inode_evicted(inode);
    if (inode->ops->evict != NULL) {
        inode->ops->evict(inode);
    }
    atomic_fetch_sub(&inode->superblock->inodes, 1);
    kmem_free(inode);
}

void
inode_touch(struct inode *inode, bool modified)
{
    struct timespec now = time_now();

    inode->changed = now;
    if (modified) {
        inode->modified = now;
    }
}
