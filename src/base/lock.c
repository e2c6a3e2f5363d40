/* SPDX-License-Identifier: MIT */
/*
 * Spin locks.
 *
 * One byte that is taken by an exchange.  Who comes when it is free has it: there
 * is no queue, on purpose.  In a virtual machine with more CPUs than the host runs
 * at a time, a queue hands the lock to a CPU that is not running, and everybody
 * waits for the host's scheduler at each step (docs/decisions/0005-unfair-locks.md).
 * Sections are short, so nobody is passed over for long.
 *
 * All waiting goes through qr_cpu_relax(), which serves shootdown requests of other
 * CPUs, so a CPU that waits here with interrupts off never holds up one that
 * waits for its acknowledgement.  Waiters only read until the byte is free.
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
    atomic_init(&lock->held, false);
    lock->rank = (uint8_t)rank;
}

void
qr_spin_lock(struct qr_spin *lock)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    qr_rank_push(cpu, lock->rank);
    while (qr_unlikely(atomic_exchange_explicit(&lock->held, true, memory_order_acquire))) {
        while (atomic_load_explicit(&lock->held, memory_order_relaxed))
            qr_cpu_relax(cpu);
    }
}

bool
qr_spin_try_lock(struct qr_spin *lock)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    if (atomic_load_explicit(&lock->held, memory_order_relaxed) ||
        atomic_exchange_explicit(&lock->held, true, memory_order_acquire)) {
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

    qr_debug_assert(qr_spin_is_locked(lock));
    qr_rank_pop(cpu, lock->rank);
    atomic_store_explicit(&lock->held, false, memory_order_release);
    qr_cpu_leave(cpu);
}

bool
qr_spin_is_locked(const struct qr_spin *lock)
{
    return atomic_load_explicit(&lock->held, memory_order_relaxed);
}

void
qr_bit_lock_wait(_Atomic uint32_t *word, uint32_t bit, struct qr_cpu *cpu)
{
    do {
        while ((atomic_load_explicit(word, memory_order_relaxed) & bit) != 0)
            qr_cpu_relax(cpu);
    } while ((atomic_fetch_or_explicit(word, bit, memory_order_acquire) & bit) != 0);
}
