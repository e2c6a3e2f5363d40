/* SPDX-License-Identifier: MIT */
/*
 * Spin locks.
 *
 * A ticket lock: fair, two 16-bit counters, one atomic addition to enter.  All
 * waiting goes through qr_cpu_relax(), which serves shootdown requests of other
 * CPUs, so a CPU that waits here with interrupts off never holds up one that
 * waits for its acknowledgement.
 *
 * Debug builds keep the ranks of the locks that a CPU holds and insist that they
 * grow.  The stack of ranks is this CPU's alone, interrupts off, so it needs no
 * lock.  Locks are released in any order: the rank is removed where it stands.
 */
#include <quire/assert.h>
#include <quire/lock.h>

#ifdef CONFIG_MEMORY_DEBUGGING

static bool
rank_nests(unsigned rank)
{
    return rank == QR_RANK_HOST || rank == QR_RANK_TABLE;
}

void
qr_rank_push(struct qr_cpu *cpu, unsigned rank)
{
    if (rank == QR_RANK_NONE)
        return;
    for (unsigned i = 0; i < cpu->held_count; i++) {
        unsigned held = cpu->held_ranks[i];

        if (held > rank || (held == rank && !rank_nests(rank)))
            qr_panic("lock order: rank %u taken while rank %u is held; take the lower rank first",
                     rank, held);
    }
    qr_assert(cpu->held_count < QR_LOCKS_HELD_MAX);
    cpu->held_ranks[cpu->held_count++] = (unsigned char)rank;
}

void
qr_rank_pop(struct qr_cpu *cpu, unsigned rank)
{
    if (rank == QR_RANK_NONE)
        return;
    for (unsigned i = cpu->held_count; i > 0; i--) {
        if (cpu->held_ranks[i - 1] != rank)
            continue;
        for (unsigned j = i; j < cpu->held_count; j++)
            cpu->held_ranks[j - 1] = cpu->held_ranks[j];
        cpu->held_count--;
        return;
    }
    qr_panic("unlock of rank %u, which CPU %u does not hold", rank, cpu->index);
}

#endif

void
qr_spin_init(struct qr_spin *lock, enum qr_lock_rank rank)
{
    atomic_init(&lock->next, 0);
    atomic_init(&lock->serving, 0);
    lock->rank = (uint8_t)rank;
}

void
qr_spin_lock(struct qr_spin *lock)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    qr_rank_push(cpu, lock->rank);
    uint16_t ticket = atomic_fetch_add_explicit(&lock->next, 1, memory_order_relaxed);

    while (atomic_load_explicit(&lock->serving, memory_order_acquire) != ticket)
        qr_cpu_relax(cpu);
}

bool
qr_spin_try_lock(struct qr_spin *lock)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    uint16_t serving = atomic_load_explicit(&lock->serving, memory_order_acquire);
    uint16_t ticket = serving;

    if (!atomic_compare_exchange_strong_explicit(&lock->next, &ticket, (uint16_t)(serving + 1),
                                                 memory_order_acquire, memory_order_relaxed)) {
        qr_cpu_leave(cpu);
        return false;
    }
    qr_rank_push(cpu, lock->rank);
    return true;
}

void
qr_spin_unlock(struct qr_spin *lock)
{
    struct qr_cpu *cpu = qr_port_this_cpu();
    uint16_t serving = atomic_load_explicit(&lock->serving, memory_order_relaxed);

    qr_debug_assert(qr_spin_is_locked(lock));
    qr_rank_pop(cpu, lock->rank);
    atomic_store_explicit(&lock->serving, (uint16_t)(serving + 1), memory_order_release);
    qr_cpu_leave(cpu);
}

bool
qr_spin_is_locked(const struct qr_spin *lock)
{
    return atomic_load_explicit(&lock->serving, memory_order_relaxed) !=
           atomic_load_explicit(&lock->next, memory_order_relaxed);
}

void
qr_bit_lock_wait(_Atomic uint32_t *word, uint32_t bit, struct qr_cpu *cpu)
{
    do {
        while ((atomic_load_explicit(word, memory_order_relaxed) & bit) != 0)
            qr_cpu_relax(cpu);
    } while ((atomic_fetch_or_explicit(word, bit, memory_order_acquire) & bit) != 0);
}
