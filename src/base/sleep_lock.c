/* SPDX-License-Identifier: MIT */
/*
 * Sleeping locks over qr_port_wait/qr_port_wake, in the manner of a futex: the
 * word alone says whether anybody must be woken, so the uncontended paths are
 * one atomic operation and never call the host.
 *
 * Mutex (Drepper, "Futexes are tricky", the third one): 0 free, 1 held,
 * 2 held and somebody may sleep.  Who had to wait takes the lock as 2, since it
 * cannot know whether others still sleep.
 *
 * Reader-writer lock: `state` counts readers or holds RW_WRITER; RW_WAITING asks
 * whoever makes the lock free to wake all sleepers.  `waiters` counts writers
 * that want it; while there are any, new readers queue up behind them.
 */
#include <quire/assert.h>
#include <quire/lock.h>

#define RW_WRITER  0x80000000u
#define RW_WAITING 0x40000000u
#define RW_READERS 0x3fffffffu

/* Even where the lock is free: another time it is not. */
static inline void
assert_may_sleep(void)
{
#ifdef CONFIG_MEMORY_DEBUGGING
    struct qr_cpu *cpu = qr_cpu_enter();
    bool holds_nothing = cpu->irq_depth == 1;

    qr_cpu_leave(cpu);
    qr_assert(holds_nothing); /* a sleeping lock is not taken under a spin lock */
#endif
}

void
qr_mutex_lock(struct qr_mutex *mutex)
{
    uint32_t state = 0;

    assert_may_sleep();
    if (atomic_compare_exchange_strong_explicit(&mutex->state, &state, 1, memory_order_acquire,
                                                memory_order_relaxed))
        return;
    while (atomic_exchange_explicit(&mutex->state, 2, memory_order_acquire) != 0)
        qr_port_wait(&mutex->state, 2);
}

bool
qr_mutex_try_lock(struct qr_mutex *mutex)
{
    uint32_t state = 0;

    return atomic_compare_exchange_strong_explicit(&mutex->state, &state, 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

void
qr_mutex_unlock(struct qr_mutex *mutex)
{
    uint32_t state = atomic_exchange_explicit(&mutex->state, 0, memory_order_release);

    qr_assert(state != 0 && "unlock of a mutex that nobody holds");
    if (state == 2)
        qr_port_wake(&mutex->state, 1);
}

/* Ask to be woken and sleep while @state, seen a moment ago, still stands. */
static void
rw_sleep(struct qr_rwlock *lock, uint32_t state)
{
    uint32_t waiting = state | RW_WAITING;

    if (state == waiting ||
        atomic_compare_exchange_strong_explicit(&lock->state, &state, waiting, memory_order_relaxed,
                                                memory_order_relaxed))
        qr_port_wait(&lock->state, waiting);
}

static bool
rw_may_read(const struct qr_rwlock *lock, uint32_t state)
{
    if ((state & RW_WRITER) != 0)
        return false;
    /* Let writers go first, but never wait for one on a free lock: nobody would wake us. */
    return (state & RW_READERS) == 0 ||
           atomic_load_explicit(&lock->waiters, memory_order_relaxed) == 0;
}

bool
qr_rw_try_read_lock(struct qr_rwlock *lock)
{
    uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

    while (rw_may_read(lock, state)) {
        if (atomic_compare_exchange_weak_explicit(&lock->state, &state, state + 1,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    }
    return false;
}

void
qr_rw_read_lock(struct qr_rwlock *lock)
{
    assert_may_sleep();
    while (!qr_rw_try_read_lock(lock)) {
        uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

        if (!rw_may_read(lock, state))
            rw_sleep(lock, state);
    }
}

/* The lock has become free or shareable: let every sleeper look again. */
static void
rw_wake(struct qr_rwlock *lock)
{
    qr_port_wake(&lock->state, UINT32_MAX);
}

void
qr_rw_read_unlock(struct qr_rwlock *lock)
{
    uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);
    uint32_t next;

    do {
        qr_assert((state & RW_READERS) != 0);
        next = state - 1;
        if ((next & RW_READERS) == 0)
            next &= ~RW_WAITING;
    } while (!atomic_compare_exchange_weak_explicit(&lock->state, &state, next,
                                                    memory_order_release, memory_order_relaxed));
    if ((state & RW_WAITING) != 0 && (next & RW_WAITING) == 0)
        rw_wake(lock);
}

static bool
rw_try_write(struct qr_rwlock *lock)
{
    uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

    while ((state & ~RW_WAITING) == 0) {
        if (atomic_compare_exchange_weak_explicit(&lock->state, &state, state | RW_WRITER,
                                                  memory_order_acquire, memory_order_relaxed))
            return true;
    }
    return false;
}

void
qr_rw_write_lock(struct qr_rwlock *lock)
{
    assert_may_sleep();
    if (rw_try_write(lock))
        return;
    atomic_fetch_add_explicit(&lock->waiters, 1, memory_order_relaxed);
    while (!rw_try_write(lock)) {
        uint32_t state = atomic_load_explicit(&lock->state, memory_order_relaxed);

        if ((state & ~RW_WAITING) != 0)
            rw_sleep(lock, state);
    }
    atomic_fetch_sub_explicit(&lock->waiters, 1, memory_order_relaxed);
}

bool
qr_rw_try_write_lock(struct qr_rwlock *lock)
{
    return rw_try_write(lock);
}

void
qr_rw_write_unlock(struct qr_rwlock *lock)
{
    uint32_t state = atomic_exchange_explicit(&lock->state, 0, memory_order_release);

    qr_assert((state & RW_WRITER) != 0 && "unlock of a lock that no writer holds");
    if ((state & RW_WAITING) != 0)
        rw_wake(lock);
}

void
qr_rw_downgrade(struct qr_rwlock *lock)
{
    uint32_t state = atomic_exchange_explicit(&lock->state, 1, memory_order_release);

    qr_assert((state & RW_WRITER) != 0);
    if ((state & RW_WAITING) != 0)
        rw_wake(lock);
}

bool
qr_rw_is_write_locked(const struct qr_rwlock *lock)
{
    return (atomic_load_explicit(&lock->state, memory_order_relaxed) & RW_WRITER) != 0;
}

bool
qr_rw_is_locked(const struct qr_rwlock *lock)
{
    return (atomic_load_explicit(&lock->state, memory_order_relaxed) & ~RW_WAITING) != 0;
}
