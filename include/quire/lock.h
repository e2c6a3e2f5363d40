/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_LOCK_H
#define QUIRE_LOCK_H

/**
 * @file
 * The library's locks: spin locks for any context, sleeping locks for threads.
 *
 * Holding any spin lock keeps interrupts off on this CPU.  The nesting is
 * counted per CPU (qr_cpu_enter/qr_cpu_leave), so locks may be released in any
 * order.  A CPU that waits for a spin lock serves other CPUs' shootdown
 * requests meanwhile: two CPUs never wait for each other that way.
 */

#ifndef __cplusplus
#include <quire/port.h>

/**
 * The order in which locks are taken: a CPU that holds rank r takes only ranks
 * greater than r, except where a rank says that it nests within itself.
 * Checked at run time under CONFIG_MEMORY_DEBUGGING.
 */
enum qr_lock_rank {
    QR_RANK_NONE = 0, /**< unranked: never checked (host kernels' own locks) */
    QR_RANK_HOST,     /**< host kernel locks held while calling the library; nests */
    QR_RANK_SPACE,    /**< sleeping: a space's regions */
    QR_RANK_OBJECT,   /**< an object's pages and mappings */
    QR_RANK_TABLE,    /**< a page table; nests, parent before child */
    QR_RANK_TLB,      /**< shootdown and ASID state */
    QR_RANK_SWAP,     /**< the slots of a swap area */
    QR_RANK_REGISTRY, /**< lists of all spaces, objects */
    QR_RANK_HEAP,     /**< a heap's list of caches; held while they are reaped */
    QR_RANK_SLAB,     /**< a slab cache */
    QR_RANK_ZONE,     /**< a zone's free frames */
    QR_RANK_LEAF,     /**< takes nothing further */
};

/** Turn interrupts off, counted; returns the CPU, which is now stable. */
static inline struct qr_cpu *
qr_cpu_enter(void)
{
    uintptr_t state = qr_port_irq_save();
    struct qr_cpu *cpu = qr_port_this_cpu();

    if (cpu->irq_depth++ == 0)
        cpu->irq_state = state;
    return cpu;
}

/** Undo one qr_cpu_enter() on the same CPU. */
static inline void
qr_cpu_leave(struct qr_cpu *cpu)
{
    if (--cpu->irq_depth == 0)
        qr_port_irq_restore(cpu->irq_state);
}

/** One turn of a wait loop with interrupts off: serve others, then pause. */
static inline void
qr_cpu_relax(struct qr_cpu *cpu)
{
    if (cpu->poll != NULL)
        cpu->poll(cpu);
    qr_port_relax();
}

/** A spin lock, not fair.  All zero is an unlocked lock of no rank. */
struct qr_spin {
    _Atomic bool held;
    uint8_t rank;
};

#define QR_SPIN_INIT(r)       \
    {                         \
        .rank = (uint8_t)(r), \
    }

void qr_spin_init(struct qr_spin *lock, enum qr_lock_rank rank);

/** Take @p lock, interrupts off until qr_spin_unlock().  Any context; not recursive. */
void qr_spin_lock(struct qr_spin *lock);
QR_MUST_USE bool qr_spin_try_lock(struct qr_spin *lock);
void qr_spin_unlock(struct qr_spin *lock);

/** Whether somebody holds it: for assertions. */
bool qr_spin_is_locked(const struct qr_spin *lock);

/**
 * A spin lock that is one bit of a word which holds other data too (page-table
 * descriptors).  The same interrupt rule and polling as qr_spin_lock().
 */
static inline void qr_bit_lock(_Atomic uint32_t *word, uint32_t bit, enum qr_lock_rank rank);
static inline void qr_bit_unlock(_Atomic uint32_t *word, uint32_t bit, enum qr_lock_rank rank);

/** As qr_bit_lock(), by a CPU that has done qr_cpu_enter(), which passes over to the lock. */
static inline void qr_bit_lock_entered(_Atomic uint32_t *word, uint32_t bit, enum qr_lock_rank rank,
                                       struct qr_cpu *cpu);

/** The slow half: somebody else holds it. */
void qr_bit_lock_wait(_Atomic uint32_t *word, uint32_t bit, struct qr_cpu *cpu);

/** Debug builds: note that @p cpu takes or releases a lock of @p rank. */
#ifdef CONFIG_MEMORY_DEBUGGING
void qr_rank_push(struct qr_cpu *cpu, unsigned rank);
void qr_rank_pop(struct qr_cpu *cpu, unsigned rank);
#else
static inline void
qr_rank_push(struct qr_cpu *cpu, unsigned rank)
{
    (void)cpu, (void)rank;
}

static inline void
qr_rank_pop(struct qr_cpu *cpu, unsigned rank)
{
    (void)cpu, (void)rank;
}
#endif

static inline void
qr_bit_lock_entered(_Atomic uint32_t *word, uint32_t bit, enum qr_lock_rank rank,
                    struct qr_cpu *cpu)
{
    qr_rank_push(cpu, rank);
    if (qr_unlikely((atomic_fetch_or_explicit(word, bit, memory_order_acquire) & bit) != 0))
        qr_bit_lock_wait(word, bit, cpu);
}

static inline void
qr_bit_lock(_Atomic uint32_t *word, uint32_t bit, enum qr_lock_rank rank)
{
    qr_bit_lock_entered(word, bit, rank, qr_cpu_enter());
}

static inline void
qr_bit_unlock(_Atomic uint32_t *word, uint32_t bit, enum qr_lock_rank rank)
{
    struct qr_cpu *cpu = qr_port_this_cpu();

    qr_rank_pop(cpu, rank);
    atomic_fetch_and_explicit(word, ~bit, memory_order_release);
    qr_cpu_leave(cpu);
}

/** A sleeping mutual exclusion lock; all zero is unlocked.  Threads only, interrupts on. */
struct qr_mutex {
    _Atomic uint32_t state; /* 0 free, 1 held, 2 held with waiters */
};

void qr_mutex_lock(struct qr_mutex *mutex);
QR_MUST_USE bool qr_mutex_try_lock(struct qr_mutex *mutex);
void qr_mutex_unlock(struct qr_mutex *mutex);

/**
 * A sleeping reader-writer lock; all zero is unlocked.  A waiting writer keeps
 * new readers out, so a thread never takes it for reading twice.
 */
struct qr_rwlock {
    _Atomic uint32_t state;   /* readers, or QR_RW_WRITER; QR_RW_WAITING */
    _Atomic uint32_t waiters; /* writers that wait */
};

void qr_rw_read_lock(struct qr_rwlock *lock);
QR_MUST_USE bool qr_rw_try_read_lock(struct qr_rwlock *lock);
void qr_rw_read_unlock(struct qr_rwlock *lock);
void qr_rw_write_lock(struct qr_rwlock *lock);
QR_MUST_USE bool qr_rw_try_write_lock(struct qr_rwlock *lock);
void qr_rw_write_unlock(struct qr_rwlock *lock);
/** From writer to reader without letting another writer in between. */
void qr_rw_downgrade(struct qr_rwlock *lock);
bool qr_rw_is_write_locked(const struct qr_rwlock *lock);
bool qr_rw_is_locked(const struct qr_rwlock *lock);

#endif
#endif
