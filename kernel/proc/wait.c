/* SPDX-License-Identifier: MIT */
/*
 * Wait queues, timed sleeps, and waiting on a word.
 *
 * wait.h tells the protocol.  Nothing here needs memory: entries and timers
 * live on the stack of the thread that waits.
 *
 * Locks: a queue's lock is held while entries are woken, so a run queue's lock
 * is taken inside it; never the other way round.
 */
#include "proc.h"
#include "sched_private.h"

#include <quire/assert.h>
#include <quire/port.h>

#include "abi_errno.h"

void
wait_queue_init(struct wait_queue *queue)
{
    qr_spin_init(&queue->lock, QR_RANK_NONE);
    qr_list_init(&queue->entries);
}

void
wait_entry_init(struct wait_entry *entry, wait_wake_fn wake)
{
    qr_list_init(&entry->link);
    entry->queue = NULL;
    entry->thread = thread_current();
    entry->wake = wake;
    entry->exclusive = false;
}

void
wait_add(struct wait_queue *queue, struct wait_entry *entry)
{
    qr_spin_lock(&queue->lock);
    qr_assert(entry->queue == NULL);
    entry->queue = queue;
    qr_list_push_back(&queue->entries, &entry->link);
    qr_spin_unlock(&queue->lock);
    /* The entry is visible before the caller looks at its condition: see wait_wake_all_events(). */
    atomic_thread_fence(memory_order_seq_cst);
}

void
wait_remove(struct wait_entry *entry)
{
    struct wait_queue *queue = entry->queue;

    if (queue == NULL)
        return;
    qr_spin_lock(&queue->lock);
    qr_list_remove(&entry->link);
    entry->queue = NULL;
    qr_spin_unlock(&queue->lock);
}

void
wait_begin(enum wait_mode mode)
{
    static const enum thread_state states[] = {
        [WAIT_INTERRUPTIBLE] = THREAD_INTERRUPTIBLE,
        [WAIT_UNINTERRUPTIBLE] = THREAD_UNINTERRUPTIBLE,
        [WAIT_KILLABLE] = THREAD_KILLABLE,
    };

    /* The state is visible before the condition is looked at, however that is read. */
    atomic_store_explicit(&thread_current()->state, states[mode], memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

void
wait_end(void)
{
    atomic_store_explicit(&thread_current()->state, THREAD_RUNNABLE, memory_order_relaxed);
}

struct sleep_timer {
    struct timer timer;
    struct thread *thread;
    atomic_bool expired;
};

static void
sleep_timer_expire(struct timer *timer)
{
    struct sleep_timer *sleeper = qr_container_of(timer, struct sleep_timer, timer);

    atomic_store(&sleeper->expired, true);
    (void)sched_wake(sleeper->thread, SCHED_WAKE_NORMAL);
}

static bool
sleep_is_interrupted(uint32_t state)
{
    if (state == THREAD_INTERRUPTIBLE)
        return signal_is_pending();
    if (state == THREAD_KILLABLE)
        return signal_is_fatal_pending();
    return false;
}

int64_t
wait_sleep(uint64_t deadline)
{
    struct thread *thread = thread_current();
    uint32_t state = atomic_load_explicit(&thread->state, memory_order_relaxed);
    bool expired = false;

    if (deadline == WAIT_FOREVER) {
        sched_switch();
    } else {
        struct sleep_timer sleeper = {.thread = thread};

        timer_init(&sleeper.timer, sleep_timer_expire);
        timer_arm(&sleeper.timer, deadline);
        sched_switch();
        (void)timer_cancel(&sleeper.timer);
        expired = atomic_load(&sleeper.expired);
    }
    wait_end();
    if (state != THREAD_RUNNABLE && sleep_is_interrupted(state))
        return -ERESTARTSYS;
    return expired ? -ETIMEDOUT : 0;
}

void
wait_wake(struct wait_queue *queue, uint32_t events, unsigned count)
{
    unsigned woken = 0;

    qr_spin_lock(&queue->lock);
    qr_list_for_each_safe(link, &queue->entries)
    {
        struct wait_entry *entry = qr_list_entry(link, struct wait_entry, link);
        bool counts = entry->wake != NULL ? entry->wake(entry, events)
                                          : sched_wake(entry->thread, SCHED_WAKE_NORMAL);

        if (counts && entry->exclusive && ++woken == count)
            break;
    }
    qr_spin_unlock(&queue->lock);
}

void
wait_wake_all(struct wait_queue *queue)
{
    wait_wake_all_events(queue, UINT32_MAX);
}

void
wait_wake_all_events(struct wait_queue *queue, uint32_t events)
{
    /* The caller's change of the condition comes before the look at the queue. */
    atomic_thread_fence(memory_order_seq_cst);
    if (wait_queue_is_active(queue))
        wait_wake(queue, events, UINT32_MAX);
}

bool
wait_queue_is_active(const struct wait_queue *queue)
{
    return __atomic_load_n(&queue->entries.next, __ATOMIC_RELAXED) != &queue->entries;
}

int64_t
wait_until(uint64_t deadline)
{
    int64_t result;

    do {
        wait_begin(WAIT_INTERRUPTIBLE);
        result = wait_sleep(deadline);
    } while (result == 0);
    return result;
}

void
sched_sleep_until(uint64_t deadline)
{
    int64_t result;

    do {
        wait_begin(WAIT_UNINTERRUPTIBLE);
        result = wait_sleep(deadline);
    } while (result == 0);
}

/* ---- waiting on a word: the library's port ------------------------------------------------------------- */

enum { WORD_BUCKETS = 64 };

static struct wait_queue word_buckets[WORD_BUCKETS];

struct word_waiter {
    struct wait_entry entry;
    const volatile void *word;
};

static struct wait_queue *
word_bucket(const volatile void *word)
{
    uintptr_t hash = (uintptr_t)word / sizeof(uint32_t);

    return &word_buckets[(hash ^ (hash >> 6) ^ (hash >> 12)) % WORD_BUCKETS];
}

void
wait_init(void)
{
    for (unsigned i = 0; i < WORD_BUCKETS; i++)
        wait_queue_init(&word_buckets[i]);
}

void
qr_port_wait(_Atomic uint32_t *word, uint32_t expected)
{
    struct wait_queue *bucket = word_bucket(word);
    struct word_waiter waiter;

    wait_entry_init(&waiter.entry, NULL);
    waiter.word = word;
    wait_add(bucket, &waiter.entry);
    wait_begin(WAIT_UNINTERRUPTIBLE);
    if (atomic_load(word) == expected)
        (void)wait_sleep(WAIT_FOREVER);
    wait_end();
    wait_remove(&waiter.entry);
}

void
qr_port_wake(_Atomic uint32_t *word, uint32_t count)
{
    struct wait_queue *bucket = word_bucket(word);

    atomic_thread_fence(memory_order_seq_cst);
    if (!wait_queue_is_active(bucket))
        return;
    qr_spin_lock(&bucket->lock);
    qr_list_for_each_safe(link, &bucket->entries)
    {
        struct word_waiter *waiter = qr_list_entry(link, struct word_waiter, entry.link);

        if (count == 0)
            break;
        if (waiter->word == word && sched_wake(waiter->entry.thread, SCHED_WAKE_NORMAL))
            count--;
    }
    qr_spin_unlock(&bucket->lock);
}
