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

    return (struct timespec){.seconds = (int64_t)(now / 1000000000u),
                             .nanoseconds = (int64_t)(now % 1000000000u)};
}

struct inode *
inode_create(struct superblock *superblock, const struct inode_ops *ops, uint32_t mode)
{
    struct inode *inode = kmem_charged_zalloc(sizeof *inode);

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
    superblock_inode_gone(inode->superblock);
    kmem_charged_free(inode);
}

void
inode_touch(struct inode *inode, bool modified)
{
    struct timespec now = time_now();

    atomic_store_explicit(&inode->dirty, true, memory_order_relaxed);
    inode->changed = now;
    if (modified) {
        inode->modified = now;
    }
}

/* ---- writing against executing -------------------------------------------------------- */

/* One step away from zero on one side, refused while the count is on the other. */
static int64_t
write_count_step(struct inode *inode, int32_t step)
{
    int32_t count = atomic_load(&inode->write_count);

    do {
        if ((step > 0 && count < 0) || (step < 0 && count > 0)) {
            return -ETXTBSY;
        }
    } while (!atomic_compare_exchange_weak(&inode->write_count, &count, count + step));
    return 0;
}

int64_t
inode_begin_write(struct inode *inode)
{
    return write_count_step(inode, 1);
}

void
inode_end_write(struct inode *inode)
{
    atomic_fetch_sub(&inode->write_count, 1);
}

int64_t
inode_begin_exec(struct inode *inode)
{
    return write_count_step(inode, -1);
}

void
inode_end_exec(struct inode *inode)
{
    atomic_fetch_add(&inode->write_count, 1);
}

/* ---- permissions -------------------------------------------------------------------- */

static bool
mode_allows(const struct inode *inode, unsigned wish, uint32_t uid, uint32_t gid)
{
    unsigned shift = uid == inode->uid ? 6 : gid == inode->gid ? 3 : 0;

    return (inode->mode >> shift & wish) == wish;
}

/* What CAP_DAC_OVERRIDE allows: all, but to execute what nobody may. */
static bool
override_allows(const struct inode *inode, unsigned wish)
{
    bool anybody_executes = (inode->mode & 0111u) != 0 || S_ISTYPE(inode->mode, S_IFDIR);

    return !inode->binds_root && (!(wish & ACCESS_EXECUTE) || anybody_executes);
}

bool
inode_allows_user(const struct inode *inode, unsigned wish, uint32_t uid, uint32_t gid)
{
    if (uid == 0 && !inode->binds_root) {
        return override_allows(inode, wish);
    }
    return mode_allows(inode, wish, uid, gid);
}

uint32_t
process_fsuid_or_boot(void)
{
    return thread_current() == NULL ? 0 : process_fsuid();
}

uint32_t
process_fsgid_or_boot(void)
{
    return thread_current() == NULL ? 0 : process_fsgid();
}

bool
inode_allows(const struct inode *inode, unsigned wish)
{
    enum { CAP_DAC_OVERRIDE = 1 };
    bool overrides = thread_current() == NULL || process_has_capability(CAP_DAC_OVERRIDE);

    return (inode->ops->allows != NULL && inode->ops->allows(inode, wish)) ||
           mode_allows(inode, wish, process_fsuid_or_boot(), process_fsgid_or_boot()) ||
           (overrides && override_allows(inode, wish));
}
