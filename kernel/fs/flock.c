/* SPDX-License-Identifier: MIT */
/*
 * Advisory locks: whole files by flock(), ranges of bytes by fcntl().
 *
 * Each inode with locks has a list of ranges with an owner: a file for flock() and F_OFD_*, a
 * descriptor table for F_SETLK (a process, as POSIX says).  Setting a lock first cuts the owner's
 * own ranges open where the new one lies:
 *
 *      owner has   [ read          ]
 *      sets             [ write ]
 *      result      [ r ][ write ][r]
 *
 * which needs two new ranges at most; they are allocated before anything changes.
 *
 * Waiting locks are not searched for cycles: EDEADLK is never answered.
 *
 * Lock: one spin lock for all lists.
 */

#include "flock.h"

#include "fs.h"
#include "proc.h"
#include "syscall.h"

enum lock_kind { KIND_FLOCK, KIND_RECORD };
enum { LOCK_SH = 1, LOCK_EX = 2, LOCK_NB = 4, LOCK_UN = 8, LOCK_MAND = 32 };

struct range {
    struct qr_list link;
    enum lock_kind kind;
    const void *owner;
    int32_t pid;
    int type;            /* F_RDLCK, F_WRLCK; F_UNLCK in a request */
    uint64_t start, end; /* inclusive end */
};

struct flock_state {
    struct qr_list ranges;
    struct wait_queue wait;
};

static struct qr_spin flock_lock;

/* ---- pure parts, under the lock ------------------------------------------------------ */

static bool
overlaps(const struct range *a, const struct range *b)
{
    return a->start <= b->end && b->start <= a->end;
}

static struct range *
conflict_find(struct flock_state *state, const struct range *wanted)
{
    if (wanted->type == F_UNLCK) {
        return NULL;
    }
    qr_list_for_each(node, &state->ranges)
    {
        struct range *range = qr_list_entry(node, struct range, link);

        if (range->kind == wanted->kind && range->owner != wanted->owner &&
            overlaps(range, wanted) && (range->type == F_WRLCK || wanted->type == F_WRLCK)) {
            return range;
        }
    }
    return NULL;
}

/* Cut @hole out of the owner's ranges; @spare serves a split and is NULL once used. */
static void
ranges_cut(struct flock_state *state, const struct range *hole, struct range **spare,
           struct qr_list *out_freed)
{
    qr_list_for_each_safe(node, &state->ranges)
    {
        struct range *range = qr_list_entry(node, struct range, link);

        if (range->kind != hole->kind || range->owner != hole->owner || !overlaps(range, hole)) {
            continue;
        }
        bool left = range->start<hole->start, right = range->end> hole->end;
        if (left && right) {
            struct range *rest = *spare;

            *spare = NULL;
            *rest = *range;
            rest->start = hole->end + 1;
            range->end = hole->start - 1;
            qr_list_push_back(&state->ranges, &rest->link);
            return; /* ranges of one owner do not overlap: no other is touched */
        }
        if (left) {
            range->end = hole->start - 1;
        } else if (right) {
            range->start = hole->end + 1;
        } else {
            qr_list_remove(&range->link);
            qr_list_push_back(out_freed, &range->link);
        }
    }
}

static void
ranges_free(struct qr_list *list)
{
    struct qr_list *node;

    while ((node = qr_list_pop_front(list)) != NULL) {
        kmem_charged_free(qr_list_entry(node, struct range, link));
    }
}

/* ---- setting ----------------------------------------------------------------------------- */

static struct flock_state *
state_get(struct inode *inode)
{
    struct flock_state *fresh = NULL;

    if (inode->locks == NULL) {
        fresh = kmem_charged_zalloc(sizeof *fresh);
        if (fresh == NULL) {
            return NULL;
        }
        qr_list_init(&fresh->ranges);
        wait_queue_init(&fresh->wait);
    }
    qr_spin_lock(&flock_lock);
    if (inode->locks == NULL) {
        inode->locks = fresh;
        fresh = NULL;
    }
    qr_spin_unlock(&flock_lock);
    kmem_charged_free(fresh);
    return inode->locks;
}

/* Try once. @return 0 or -EAGAIN; on success the spares that were used are NULL */
static int64_t
range_try(struct flock_state *state, const struct range *wanted, struct range *spares[2],
          struct qr_list *out_freed)
{
    int64_t result = 0;

    qr_spin_lock(&flock_lock);
    if (conflict_find(state, wanted) != NULL) {
        result = -EAGAIN;
    } else {
        ranges_cut(state, wanted, &spares[0], out_freed);
        if (wanted->type != F_UNLCK) {
            *spares[1] = *wanted;
            qr_list_push_back(&state->ranges, &spares[1]->link);
            spares[1] = NULL;
        }
    }
    qr_spin_unlock(&flock_lock);
    return result;
}

static bool
range_is_free(struct flock_state *state, const struct range *wanted)
{
    qr_spin_lock(&flock_lock);
    bool is_free = conflict_find(state, wanted) == NULL;
    qr_spin_unlock(&flock_lock);
    return is_free;
}

static int64_t
range_set(struct inode *inode, const struct range *wanted, bool wait)
{
    struct flock_state *state = state_get(inode);
    struct range *spares[2] = {kmem_charged_zalloc(sizeof(struct range)),
                               kmem_charged_zalloc(sizeof(struct range))};
    struct qr_list freed;
    int64_t result = -ENOLCK;

    qr_list_init(&freed);
    if (state != NULL && spares[0] != NULL && spares[1] != NULL) {
        for (;;) {
            result = range_try(state, wanted, spares, &freed);
            if (result != -EAGAIN || !wait) {
                break;
            }
            WAIT_EVENT(result, &state->wait, range_is_free(state, wanted));
            if (result != 0) {
                break;
            }
        }
        if (result == 0) {
            wait_wake_all(&state->wait);
        }
    }
    ranges_free(&freed);
    kmem_charged_free(spares[0]);
    kmem_charged_free(spares[1]);
    return result;
}

/* ---- flock ----------------------------------------------------------------------------------- */

int64_t
sys_flock(const struct syscall_args *args)
{
    int operation = (int32_t)args->arg[1];
    struct range wanted = {.kind = KIND_FLOCK, .end = INT64_MAX};
    struct file *file = file_get((int32_t)args->arg[0]);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t result = 0;
    if (operation & LOCK_MAND) {
        file_put(file);
        return 0; /* a mandatory lock: Linux stopped offering them and says yes */
    }
    switch (operation & ~LOCK_NB) {
    case LOCK_SH:
        wanted.type = F_RDLCK;
        break;
    case LOCK_EX:
        wanted.type = F_WRLCK;
        break;
    case LOCK_UN:
        wanted.type = F_UNLCK;
        break;
    default:
        result = -EINVAL;
    }
    wanted.owner = file;
    if (result == 0) {
        result = range_set(file->inode, &wanted, !(operation & LOCK_NB));
    }
    file_put(file);
    return result;
}

/* ---- records ----------------------------------------------------------------------------------- */

static int64_t
range_from_record(struct file *file, const struct record_lock *lock, enum record_owner owner,
                  struct range *out)
{
    int64_t base = 0, start;

    if (lock->whence == SEEK_CUR) {
        base = (int64_t)file->position;
    } else if (lock->whence == SEEK_END) {
        base = (int64_t)file_size(file);
    } else if (lock->whence != SEEK_SET) {
        return -EINVAL;
    }
    if (__builtin_add_overflow(base, lock->start, &start)) {
        return -EOVERFLOW;
    }
    int64_t end = INT64_MAX;
    if (lock->length > 0) {
        if (__builtin_add_overflow(start, lock->length - 1, &end)) {
            return -EOVERFLOW;
        }
    } else if (lock->length < 0) {
        end = start - 1;
        if (__builtin_add_overflow(start, lock->length, &start)) {
            return -EINVAL;
        }
    }
    if (start < 0) {
        return -EINVAL;
    }
    *out = (struct range){
        .kind = KIND_RECORD,
        .owner = owner == OWNER_FILE ? (const void *)file : (const void *)thread_current()->files,
        .pid = owner == OWNER_FILE ? -1 : process_current()->id,
        .type = lock->type,
        .start = (uint64_t)start,
        .end = (uint64_t)end,
    };
    return 0;
}

int64_t
record_lock_set(struct file *file, const struct record_lock *lock, enum record_owner owner,
                bool wait)
{
    struct range wanted;

    if (lock->type != F_RDLCK && lock->type != F_WRLCK && lock->type != F_UNLCK) {
        return -EINVAL;
    }
    if ((lock->type == F_RDLCK && !(file->mode & FILE_READ)) ||
        (lock->type == F_WRLCK && !(file->mode & FILE_WRITE))) {
        return -EBADF;
    }
    int64_t error = range_from_record(file, lock, owner, &wanted);
    return error != 0 ? error : range_set(file->inode, &wanted, wait);
}

int64_t
record_lock_test(struct file *file, struct record_lock *lock, enum record_owner owner)
{
    struct range wanted;

    if (lock->type != F_RDLCK && lock->type != F_WRLCK) {
        return -EINVAL;
    }
    int64_t error = range_from_record(file, lock, owner, &wanted);
    if (error != 0) {
        return error;
    }
    struct flock_state *state = state_get(file->inode);
    if (state == NULL) {
        return -ENOLCK;
    }
    qr_spin_lock(&flock_lock);
    const struct range *range = conflict_find(state, &wanted);
    if (range == NULL) {
        lock->type = F_UNLCK;
    } else {
        lock->type = (int16_t)range->type;
        lock->whence = SEEK_SET;
        lock->start = (int64_t)range->start;
        lock->length = range->end == INT64_MAX ? 0 : (int64_t)(range->end - range->start) + 1;
        lock->pid = range->pid;
    }
    qr_spin_unlock(&flock_lock);
    return 0;
}

/* ---- ends ---------------------------------------------------------------------------------------- */

static void
owner_gone(struct inode *inode, const void *owner)
{
    struct flock_state *state = inode->locks;
    struct qr_list freed;

    if (state == NULL || qr_list_is_empty(&state->ranges)) {
        return;
    }
    qr_list_init(&freed);
    qr_spin_lock(&flock_lock);
    qr_list_for_each_safe(node, &state->ranges)
    {
        struct range *range = qr_list_entry(node, struct range, link);

        if (range->owner == owner) {
            qr_list_remove(node);
            qr_list_push_back(&freed, node);
        }
    }
    qr_spin_unlock(&flock_lock);
    if (!qr_list_is_empty(&freed)) {
        ranges_free(&freed);
        wait_wake_all(&state->wait);
    }
}

void
flock_file_closed(struct file *file)
{
    owner_gone(file->inode, file);
}

void
flock_table_closed(struct fd_table *table, struct inode *inode)
{
    owner_gone(inode, table);
}

void
flock_inode_evicted(struct inode *inode)
{
    if (inode->locks != NULL) {
        /* Left over only when one thread locked what another closed. */
        ranges_free(&inode->locks->ranges);
        kmem_charged_free(inode->locks);
    }
}
