/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_WAIT_H
#define KERNEL_WAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/list.h>
#include <quire/lock.h>

/*
 * Sleeping and waking.
 *
 * A thread that waits puts an entry on a queue, declares itself asleep, checks
 * its condition once more, and only then gives the CPU away; a waker makes the
 * condition true first and then wakes the queue.  In that order no wake-up is
 * lost.  WAIT_EVENT() writes the loop.
 *
 * Deadlines are absolute, in nanoseconds of the monotonic clock; WAIT_FOREVER
 * means none.
 */

struct thread;

#define WAIT_FOREVER UINT64_MAX

struct wait_queue {
    struct qr_spin lock;
    struct qr_list entries; /* lock */
};

struct wait_entry;

/**
 * What a wake does to an entry, called with the queue's lock held.
 * @return whether it counts as one of the waiters to be woken
 */
typedef bool (*wait_wake_fn)(struct wait_entry *entry, uint32_t events);

struct wait_entry {
    struct qr_list link;      /* queue's lock; points to itself while on no queue */
    struct wait_queue *queue; /* constant while on a queue */
    struct thread *thread;    /* whom the default wake function wakes */
    wait_wake_fn wake;        /* NULL: wake `thread` */
    bool exclusive;           /* a wake of n stops after n of these */
};

enum wait_mode {
    WAIT_INTERRUPTIBLE,   /**< a pending signal ends the wait */
    WAIT_UNINTERRUPTIBLE, /**< nothing but the event (or the deadline) ends it */
    WAIT_KILLABLE         /**< only a fatal signal ends it */
};

#define WAIT_QUEUE_INIT(name)                                                       \
    {                                                                               \
        .lock = QR_SPIN_INIT(QR_RANK_NONE), .entries = QR_LIST_INIT((name).entries) \
    }

void wait_queue_init(struct wait_queue *queue);

/** An entry of the current thread (or of @wake), on no queue yet. */
void wait_entry_init(struct wait_entry *entry, wait_wake_fn wake);

/** Put @entry on @queue. It must stay alive until wait_remove(). Any context. */
void wait_add(struct wait_queue *queue, struct wait_entry *entry);

/** Take @entry off its queue; harmless when it is on none. Any context. */
void wait_remove(struct wait_entry *entry);

/** Declare the current thread asleep: from now on a wake makes wait_sleep() return at once. */
void wait_begin(enum wait_mode mode);

/** Back to running without having slept. */
void wait_end(void);

/**
 * Give the CPU away until woken, interrupted as wait_begin() chose, or @deadline.
 * @return 0 when woken (or for no reason); -ERESTARTSYS: a signal is pending; -ETIMEDOUT
 * Context: thread, interrupts on, no spin lock held
 */
int64_t wait_sleep(uint64_t deadline);

/** Wake up to @count exclusive waiters, and every other one before them. Any context. */
void wait_wake(struct wait_queue *queue, uint32_t events, unsigned count);

/** Wake everybody. Any context, spin locks may be held. */
void wait_wake_all(struct wait_queue *queue);
void wait_wake_all_events(struct wait_queue *queue, uint32_t events);

/** Whether anybody waits; a hint unless the caller's lock orders it with wait_add(). */
bool wait_queue_is_active(const struct wait_queue *queue);

/*
 * Wait on @queue until @condition holds.  The condition is evaluated without
 * any lock, several times, by a thread that may already be marked asleep: it
 * must not sleep itself (take spin locks inside if need be).
 * Leaves 0, -ERESTARTSYS or -ETIMEDOUT in @result; 0 wins when the condition holds.
 */
#define WAIT_EVENT_UNTIL(result, queue, condition, mode, deadline) \
    do {                                                           \
        struct wait_entry wait_entry_;                             \
        (result) = 0;                                              \
        if (condition)                                             \
            break;                                                 \
        wait_entry_init(&wait_entry_, NULL);                       \
        wait_add((queue), &wait_entry_);                           \
        for (;;) {                                                 \
            wait_begin(mode);                                      \
            if (condition) {                                       \
                (result) = 0;                                      \
                break;                                             \
            }                                                      \
            if ((result) != 0)                                     \
                break;                                             \
            (result) = wait_sleep(deadline);                       \
        }                                                          \
        wait_end();                                                \
        wait_remove(&wait_entry_);                                 \
    } while (0)

#define WAIT_EVENT(result, queue, condition) \
    WAIT_EVENT_UNTIL(result, queue, condition, WAIT_INTERRUPTIBLE, WAIT_FOREVER)

/** Sleep until @deadline whatever happens in between but signals. As wait_sleep(). */
int64_t wait_until(uint64_t deadline);

/*
 * Sleeping mutual exclusion for threads: struct qr_mutex and qr_rwlock of the library, which
 * sleep through qr_port_wait() and qr_port_wake(); wait.c implements these two.
 */

/** Before the first contended lock: proc_init() calls it. */
void wait_init(void);

#endif
