/* SPDX-License-Identifier: MIT */
/*
 * Futexes: waiting on a word of user memory.
 *
 * Waiters hang in a hash table by key.  A private key is (address space,
 * address); a shared one names the memory itself: (object, page, offset) for
 * mappings of objects, or the address space for private memory.  The bucket's
 * lock makes "look at the word and go to sleep" one step as seen by a waker.
 *
 * The word is read with the bucket unlocked only to fault its page in; under
 * the lock it is read without sleeping, and if that fails the whole attempt
 * starts over after faulting the page in again.
 *
 * Locks: bucket locks (two for requeue, lower address first), then the run
 * queue's.
 */
#include "proc_private.h"

#include <quire/assert.h>
#include <quire/space.h>
#include <quire/user.h>

#include "abi_errno.h"
#include "sched_private.h"
#include "syscall.h"

enum {
    FUTEX_WAIT,
    FUTEX_WAKE,
    FUTEX_FD,
    FUTEX_REQUEUE,
    FUTEX_CMP_REQUEUE,
    FUTEX_WAKE_OP,
    FUTEX_LOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_TRYLOCK_PI,
    FUTEX_WAIT_BITSET,
    FUTEX_WAKE_BITSET
};
#define FUTEX_PRIVATE_FLAG     128u
#define FUTEX_CLOCK_REALTIME   256u
#define FUTEX_BITSET_MATCH_ANY UINT32_MAX
#define FUTEX_WAITERS          0x80000000u
#define FUTEX_OWNER_DIED       0x40000000u
#define FUTEX_TID_MASK         0x3fffffffu

enum { BUCKETS = 256, ROBUST_LIMIT = 2048 };

struct futex_key {
    const void *owner; /* struct mm or struct qr_object */
    uint64_t place;    /* address, or offset in the object */
};

struct futex_waiter {
    struct qr_list link;                 /* bucket; points to itself once woken */
    struct futex_key key;                /* bucket */
    struct futex_bucket *_Atomic bucket; /* bucket; NULL once woken */
    struct thread *thread;
    uint32_t bitset;
};

struct futex_bucket {
    struct qr_spin lock;
    struct qr_list waiters;
} QR_CACHE_ALIGNED;

static struct futex_bucket buckets[BUCKETS];

void
futex_init(void)
{
    for (unsigned i = 0; i < BUCKETS; i++) {
        qr_spin_init(&buckets[i].lock, QR_RANK_NONE);
        qr_list_init(&buckets[i].waiters);
    }
}

static struct futex_bucket *
bucket_of(const struct futex_key *key)
{
    uint64_t hash = ((uintptr_t)key->owner >> 4) ^ (key->place >> 2);

    hash *= 0x9e3779b97f4a7c15u;
    return &buckets[hash >> 56];
}

static bool
key_equals(const struct futex_key *a, const struct futex_key *b)
{
    return a->owner == b->owner && a->place == b->place;
}

/* Name the word at @address. @return 0, -EINVAL (misaligned), -EFAULT */
static int64_t
key_make(struct futex_key *key, uint64_t address, bool shared)
{
    struct mm *mm = process_current()->mm;

    if (address % sizeof(uint32_t) != 0)
        return -EINVAL;
    if (address >= mm_user_limit())
        return -EFAULT;
    key->owner = mm;
    key->place = address;
    if (shared)
        return mm_shared_place(mm, address, &key->owner, &key->place);
    return 0;
}

/* ---- the table ------------------------------------------------------------- */

static void
wake_waiter(struct futex_waiter *waiter)
{
    struct thread *thread = waiter->thread;

    thread_ref(thread);
    qr_list_remove(&waiter->link);
    atomic_store(&waiter->bucket, NULL); /* from here on the waiter may return */
    (void)sched_wake(thread, SCHED_WAKE_NORMAL);
    thread_put(thread);
}

/* Wake up to @count waiters on @key. Bucket locked. */
static unsigned
wake_matching(struct futex_bucket *bucket, const struct futex_key *key, unsigned count,
              uint32_t bitset)
{
    unsigned woken = 0;

    qr_list_for_each_safe(link, &bucket->waiters)
    {
        struct futex_waiter *waiter = qr_list_entry(link, struct futex_waiter, link);

        if (woken == count)
            break;
        if (!key_equals(&waiter->key, key) || (waiter->bitset & bitset) == 0)
            continue;
        wake_waiter(waiter);
        woken++;
    }
    return woken;
}

/* Take @waiter out unless it was woken. @return whether it was woken */
static bool
waiter_leave(struct futex_waiter *waiter)
{
    for (;;) {
        struct futex_bucket *bucket = atomic_load(&waiter->bucket);

        if (bucket == NULL)
            return true;
        qr_spin_lock(&bucket->lock);
        if (atomic_load(&waiter->bucket) == bucket) {
            qr_list_remove(&waiter->link);
            atomic_store(&waiter->bucket, NULL);
            qr_spin_unlock(&bucket->lock);
            return false;
        }
        qr_spin_unlock(&bucket->lock); /* requeued meanwhile */
    }
}

static void
buckets_lock(struct futex_bucket *a, struct futex_bucket *b)
{
    qr_spin_lock(a < b ? &a->lock : &b->lock);
    if (a != b)
        qr_spin_lock(a < b ? &b->lock : &a->lock);
}

static void
buckets_unlock(struct futex_bucket *a, struct futex_bucket *b)
{
    qr_spin_unlock(&a->lock);
    if (a != b)
        qr_spin_unlock(&b->lock);
}

/* ---- operations --------------------------------------------------------------- */

struct futex_request {
    uint64_t address, address2;
    uint32_t value, value2, value3;
    uint64_t deadline; /* monotonic; WAIT_FOREVER */
    bool shared, realtime;
};

/*
 * Queue @waiter if the word still holds the expected value.  Interrupts are off
 * under the bucket's lock, so reading the word cannot sleep: it fails instead.
 */
static int64_t
wait_setup(struct futex_waiter *waiter, const struct futex_request *request)
{
    for (;;) {
        struct futex_bucket *bucket = bucket_of(&waiter->key);
        uint32_t value;
        int64_t error;

        qr_spin_lock(&bucket->lock);
        error = user_read_u32_nofault(&value, request->address);
        if (error == 0 && value == request->value) {
            atomic_store(&waiter->bucket, bucket);
            qr_list_push_back(&bucket->waiters, &waiter->link);
            wait_begin(WAIT_INTERRUPTIBLE);
        }
        qr_spin_unlock(&bucket->lock);
        if (error == 0)
            return value == request->value ? 0 : -EAGAIN;
        if (user_read_u32(&value, request->address) != 0)
            return -EFAULT;
    }
}

static int64_t
futex_wait(const struct futex_request *request, uint32_t bitset)
{
    struct futex_waiter waiter = {.thread = thread_current(), .bitset = bitset};
    int64_t result;

    if (bitset == 0)
        return -EINVAL;
    result = key_make(&waiter.key, request->address, request->shared);
    if (result != 0)
        return result;
    qr_list_init(&waiter.link);
    result = wait_setup(&waiter, request);
    if (result != 0)
        return result;
    for (;;) {
        if (atomic_load(&waiter.bucket) == NULL) {
            wait_end();
            return 0;
        }
        result = wait_sleep(request->deadline);
        if (result != 0)
            break;
        wait_begin(WAIT_INTERRUPTIBLE); /* woken, or for no reason: look again */
    }
    return waiter_leave(&waiter) ? 0 : result;
}

static int64_t
restart_futex_wait(struct thread *thread)
{
    struct futex_request request = {
        .address = thread->restart_args[0],
        .value = (uint32_t)thread->restart_args[1],
        .deadline = thread->restart_args[2],
        .shared = thread->restart_args[3] != 0,
    };
    int64_t result = futex_wait(&request, (uint32_t)thread->restart_args[4]);

    if (result != -ERESTARTSYS)
        return result;
    thread->restart = restart_futex_wait;
    return -ERESTART_RESTARTBLOCK;
}

/* A wait with a time limit continues with what is left of it after a signal. */
static int64_t
futex_wait_restartable(const struct futex_request *request, uint32_t bitset)
{
    struct thread *thread = thread_current();
    int64_t result = futex_wait(request, bitset);

    if (result != -ERESTARTSYS || request->deadline == WAIT_FOREVER)
        return result;
    thread->restart = restart_futex_wait;
    thread->restart_args[0] = request->address;
    thread->restart_args[1] = request->value;
    thread->restart_args[2] = request->deadline;
    thread->restart_args[3] = request->shared;
    thread->restart_args[4] = bitset;
    return -ERESTART_RESTARTBLOCK;
}

static int64_t
futex_wake(const struct futex_request *request, uint32_t bitset)
{
    struct futex_key key;
    struct futex_bucket *bucket;
    int64_t result;

    if (bitset == 0)
        return -EINVAL;
    result = key_make(&key, request->address, request->shared);
    if (result != 0)
        return result;
    bucket = bucket_of(&key);
    qr_spin_lock(&bucket->lock);
    /* Linux wakes one even where asked for none. */
    result = wake_matching(bucket, &key, request->value == 0 ? 1 : request->value, bitset);
    qr_spin_unlock(&bucket->lock);
    return result;
}

/* Move up to @count waiters from @from to @key in @to. Both locked. */
static unsigned
requeue_matching(struct futex_bucket *from, const struct futex_key *old_key,
                 struct futex_bucket *to, const struct futex_key *key, unsigned count)
{
    unsigned moved = 0;

    qr_list_for_each_safe(link, &from->waiters)
    {
        struct futex_waiter *waiter = qr_list_entry(link, struct futex_waiter, link);

        if (moved == count)
            break;
        if (!key_equals(&waiter->key, old_key))
            continue;
        moved++;
        waiter->key = *key;
        if (from == to)
            continue;
        qr_list_remove(link);
        qr_list_push_back(&to->waiters, link);
        atomic_store(&waiter->bucket, to);
    }
    return moved;
}

static int64_t
futex_requeue(const struct futex_request *request, bool compare)
{
    struct futex_key key1, key2;
    int64_t result = key_make(&key1, request->address, request->shared);

    if ((int32_t)request->value < 0 || (int32_t)request->value2 < 0)
        return -EINVAL;
    if (result == 0)
        result = key_make(&key2, request->address2, request->shared);
    if (result != 0)
        return result;
    struct futex_bucket *from = bucket_of(&key1), *to = bucket_of(&key2);

    for (;;) {
        uint32_t value = request->value3;
        int64_t error = 0;

        buckets_lock(from, to);
        if (compare)
            error = user_read_u32_nofault(&value, request->address);
        if (error == 0 && value == request->value3) {
            unsigned woken = wake_matching(from, &key1, request->value, FUTEX_BITSET_MATCH_ANY);

            result = woken;
            if (!key_equals(&key1, &key2))
                result += requeue_matching(from, &key1, to, &key2, request->value2);
        } else {
            result = -EAGAIN;
        }
        buckets_unlock(from, to);
        if (error == 0)
            return result;
        if (user_read_u32(&value, request->address) != 0)
            return -EFAULT;
    }
}

/* The new value that FUTEX_WAKE_OP asks for. @return whether the operation exists */
static bool
wake_op_apply(uint32_t encoded, uint32_t old, uint32_t *out_new)
{
    uint32_t argument = (uint32_t)((int32_t)(encoded << 8) >> 20);

    if (encoded & 0x80000000u)
        argument = 1u << (argument & 31);
    switch (encoded >> 28 & 7) {
    case 0:
        *out_new = argument;
        return true;
    case 1:
        *out_new = old + argument;
        return true;
    case 2:
        *out_new = old | argument;
        return true;
    case 3:
        *out_new = old & ~argument;
        return true;
    case 4:
        *out_new = old ^ argument;
        return true;
    default:
        return false;
    }
}

static bool
wake_op_compare(uint32_t encoded, uint32_t old, bool *out_holds)
{
    int32_t argument = (int32_t)(encoded << 20) >> 20, value = (int32_t)old;

    switch (encoded >> 24 & 15) {
    case 0:
        *out_holds = value == argument;
        return true;
    case 1:
        *out_holds = value != argument;
        return true;
    case 2:
        *out_holds = value < argument;
        return true;
    case 3:
        *out_holds = value <= argument;
        return true;
    case 4:
        *out_holds = value > argument;
        return true;
    case 5:
        *out_holds = value >= argument;
        return true;
    default:
        return false;
    }
}

/* Change the second word in one atomic step. */
static int64_t
wake_op_store(uint64_t address, uint32_t encoded, uint32_t *out_old)
{
    uint32_t old, seen, value;

    if (user_read_u32(&old, address) != 0)
        return -EFAULT;
    for (;;) {
        if (!wake_op_apply(encoded, old, &value))
            return -ENOSYS;
        if (qr_cas_user_u32(qr_va_of(address), old, value, &seen) != QR_OK)
            return -EFAULT;
        if (seen == old)
            break;
        old = seen;
        sched_relax();
        if (signal_is_fatal_pending())
            return -ERESTARTNOINTR;
    }
    *out_old = old;
    return 0;
}

/*
 * The word is changed before the buckets are locked.  That is enough: a waiter
 * on it that queues in between has seen the new value.
 */
static int64_t
futex_wake_op(const struct futex_request *request)
{
    struct futex_key key1, key2;
    int64_t result = key_make(&key1, request->address, request->shared);
    uint32_t old;
    bool holds;

    if (result == 0)
        result = key_make(&key2, request->address2, request->shared);
    if (result == 0)
        result = wake_op_store(request->address2, request->value3, &old);
    if (result != 0)
        return result;
    if (!wake_op_compare(request->value3, old, &holds))
        return -ENOSYS;
    struct futex_bucket *first = bucket_of(&key1), *second = bucket_of(&key2);

    buckets_lock(first, second);
    result = wake_matching(first, &key1, request->value, FUTEX_BITSET_MATCH_ANY);
    if (holds)
        result += wake_matching(second, &key2, request->value2, FUTEX_BITSET_MATCH_ANY);
    buckets_unlock(first, second);
    return result;
}

/* ---- system calls ----------------------------------------------------------------- */

static int64_t
read_deadline(struct futex_request *request, unsigned operation, uint64_t address)
{
    if (address == 0)
        return 0;
    if (operation == FUTEX_WAIT)
        return deadline_from_user(address, &request->deadline);
    return deadline_from_user_absolute(address, request->realtime, &request->deadline);
}

int64_t
sys_futex(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[1];
    unsigned operation = flags & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
    struct futex_request request = {
        .address = args->arg[0],
        .address2 = args->arg[4],
        .value = (uint32_t)args->arg[2],
        .value2 = (uint32_t)args->arg[3],
        .value3 = (uint32_t)args->arg[5],
        .deadline = WAIT_FOREVER,
        .shared = !(flags & FUTEX_PRIVATE_FLAG),
        .realtime = (flags & FUTEX_CLOCK_REALTIME) != 0,
    };
    int64_t error;

    if (request.realtime && operation != FUTEX_WAIT_BITSET)
        return -ENOSYS;
    switch (operation) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
        error = read_deadline(&request, operation, args->arg[3]);
        if (error != 0)
            return error;
        return futex_wait_restartable(&request, operation == FUTEX_WAIT ? FUTEX_BITSET_MATCH_ANY
                                                                        : request.value3);
    case FUTEX_WAKE:
        return futex_wake(&request, FUTEX_BITSET_MATCH_ANY);
    case FUTEX_WAKE_BITSET:
        return futex_wake(&request, request.value3);
    case FUTEX_REQUEUE:
        return futex_requeue(&request, false);
    case FUTEX_CMP_REQUEUE:
        return futex_requeue(&request, true);
    case FUTEX_WAKE_OP:
        return futex_wake_op(&request);
    default:
        return -ENOSYS;
    }
}

void
futex_wake_address(uint64_t address, unsigned count)
{
    struct futex_request request = {.address = address, .value = count, .shared = true};
    struct futex_request private_request = {.address = address, .value = count};

    (void)futex_wake(&private_request, FUTEX_BITSET_MATCH_ANY);
    (void)futex_wake(&request, FUTEX_BITSET_MATCH_ANY);
}

/* ---- robust lists: locks whose holder ended ---------------------------------------- */

int64_t
sys_set_robust_list(const struct syscall_args *args)
{
    if (args->arg[1] != 3 * sizeof(uintptr_t))
        return -EINVAL;
    thread_current()->robust_list = args->arg[0];
    return 0;
}

int64_t
sys_get_robust_list(const struct syscall_args *args)
{
    int32_t tid = (int32_t)args->arg[0];
    uint64_t head = thread_current()->robust_list;

    if (tid != 0) {
        struct thread *thread = thread_find(tid);

        if (thread == NULL)
            return -ESRCH;
        head = thread->robust_list;
        thread_put(thread);
    }
    if (user_write_word(args->arg[2], 3 * sizeof(uintptr_t)) != 0 ||
        user_write_word(args->arg[1], head) != 0)
        return -EFAULT;
    return 0;
}

/* Mark one lock of the dead thread and wake who waits for it. @return whether to go on */
static bool
robust_release(struct thread *thread, uint64_t address, bool pending)
{
    uint32_t value, seen, dead;

    if (address % sizeof(uint32_t) != 0 || user_read_u32(&value, address) != 0)
        return false;
    if (pending && value == 0) {
        futex_wake_address(address, 1);
        return true;
    }
    for (unsigned tries = 0; tries < ROBUST_LIMIT; tries++) {
        if ((value & FUTEX_TID_MASK) != (uint32_t)thread->tid)
            return true;
        dead = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
        if (qr_cas_user_u32(qr_va_of(address), value, dead, &seen) != QR_OK)
            return false;
        if (seen == value) {
            if (value & FUTEX_WAITERS)
                futex_wake_address(address, 1);
            return true;
        }
        value = seen;
    }
    return true;
}

void
futex_exit_robust_list(struct thread *thread)
{
    const size_t word = sizeof(uintptr_t);
    uint64_t head = thread->robust_list, entry, next = 0, offset, pending;

    if (user_read_word(&entry, head) != 0 || user_read_word(&offset, head + word) != 0 ||
        user_read_word(&pending, head + 2 * word) != 0)
        return;
    offset = (uint64_t)(intptr_t)offset; /* a long */
    for (unsigned count = 0; count < ROBUST_LIMIT && (entry & ~1ull) != head; count++) {
        bool readable = user_read_word(&next, entry & ~1ull) == 0;

        if ((entry & ~1ull) != (pending & ~1ull) &&
            !robust_release(thread, (entry & ~1ull) + offset, false))
            return;
        if (!readable)
            return;
        entry = next;
    }
    if ((pending & ~1ull) != 0)
        (void)robust_release(thread, (pending & ~1ull) + offset, true);
}
