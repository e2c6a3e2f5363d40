/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_CPU_H
#define QUIRE_CPU_H

#include <stdatomic.h>

#include <quire/types.h>

/**
 * @file
 * What the library keeps for each CPU, and sets of CPUs.
 */

#ifndef __cplusplus

/** How many locks one CPU may hold at once; checked in debug builds. */
#define QR_LOCKS_HELD_MAX 16

/**
 * The library's block of one CPU.  The host allocates it, zeroed, sets @p index
 * and @p node before the CPU calls anything else, and returns it from
 * qr_port_this_cpu().  Every other field belongs to the library.
 */
struct qr_cpu {
    unsigned index; /**< 0 .. CONFIG_MAX_CPUS - 1; dense */
    unsigned node;  /**< NUMA node; 0 where there is one */

    /* Written by this CPU alone, interrupts off. */
    unsigned irq_depth;  /**< nesting of qr_cpu_enter() */
    uintptr_t irq_state; /**< interrupt state before the outermost enter */

    /** Where the frame layer keeps this CPU's frames, from its instance; 0 until first used. */
    size_t frame_lanes;

    /** Runs what other CPUs ask of this one while it spins; set by the tlb layer. */
    void (*poll)(struct qr_cpu *cpu);
    void *poll_context;

#ifdef CONFIG_MEMORY_DEBUGGING
    unsigned held_count;
    unsigned char held_ranks[QR_LOCKS_HELD_MAX];
#endif
} QR_CACHE_ALIGNED;

#define QR_CPU_WORDS ((CONFIG_MAX_CPUS + 63) / 64)

/** A set of CPU indices; bits change atomically, reads are a snapshot. */
struct qr_cpu_set {
    _Atomic uint64_t bits[QR_CPU_WORDS];
};

static inline void
qr_cpu_set_add(struct qr_cpu_set *set, unsigned cpu)
{
    atomic_fetch_or(&set->bits[cpu / 64], (uint64_t)1 << (cpu % 64));
}

static inline void
qr_cpu_set_remove(struct qr_cpu_set *set, unsigned cpu)
{
    atomic_fetch_and(&set->bits[cpu / 64], ~((uint64_t)1 << (cpu % 64)));
}

static inline bool
qr_cpu_set_has(const struct qr_cpu_set *set, unsigned cpu)
{
    return (atomic_load(&set->bits[cpu / 64]) >> (cpu % 64)) & 1;
}

#endif
#endif
