/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_EPOCH_H
#define QUIRE_EPOCH_H

/**
 * @file
 * Epoch-based reclamation: memory that lock-free readers may still see is
 * retired, and released once every CPU has left the epochs in which it could
 * have been found (Fraser, "Practical lock-freedom", 2004).
 *
 * A reader section runs with interrupts off and waits for nothing but spin locks, so
 * an epoch is short.  A lock word found by a lock-free walk may be taken inside the
 * section: until the section ends, what it belongs to is not given to anybody else.
 * Whoever waits for a lock serves shootdown requests meanwhile, here too; an
 * acknowledgement says that entries were flushed, and nothing about sections.
 */

#ifndef __cplusplus
#include <quire/lock.h>

struct qr_epoch_cpu {
    _Atomic uint64_t seen; /* epoch of the running section; 0 outside one */
    unsigned depth;        /* nesting; this CPU alone */
} QR_CACHE_ALIGNED;

/** Embedded in whatever is retired. */
struct qr_epoch_node {
    struct qr_epoch_node *next;
    uint64_t epoch;
    void (*release)(struct qr_epoch_node *node);
};

struct qr_epoch {
    _Atomic uint64_t current;          /* starts at 1 */
    struct qr_spin lock;               /* guards the queue */
    struct qr_epoch_node *head, *tail; /* oldest first */
    struct qr_epoch_cpu cpus[CONFIG_MAX_CPUS];
};

void qr_epoch_init(struct qr_epoch *epoch);

/*
 * Say in which epoch a section begins, before it reads anything.  The fence, not the order of
 * the store, keeps the reads behind it: on AArch64 and RISC-V a load passes an earlier store of
 * any order unless it is sequentially consistent itself (src/base/epoch.c has the argument).
 */
static inline void
qr_epoch_announce(struct qr_epoch *epoch, struct qr_epoch_cpu *slot)
{
    uint64_t current = atomic_load_explicit(&epoch->current, memory_order_relaxed);

    atomic_store_explicit(&slot->seen, current, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

/** Open a reader section: what it finds is not released before the section closes. */
static inline struct qr_cpu *
qr_epoch_enter(struct qr_epoch *epoch)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct qr_epoch_cpu *slot = &epoch->cpus[cpu->index];

    if (qr_likely(slot->depth++ == 0))
        qr_epoch_announce(epoch, slot);
    return cpu;
}

/** Close the section that qr_epoch_enter() opened on @p cpu. */
static inline void
qr_epoch_leave(struct qr_epoch *epoch, struct qr_cpu *cpu)
{
    struct qr_epoch_cpu *slot = &epoch->cpus[cpu->index];

    if (qr_likely(--slot->depth == 0))
        atomic_store_explicit(&slot->seen, 0, memory_order_release);
    qr_cpu_leave(cpu);
}

/**
 * A short section on @p cpu, whose interrupts are off already.  Nothing else may
 * open a section before qr_epoch_end().
 * @return whether this is the outermost section, which qr_epoch_end() wants to know
 */
static inline bool
qr_epoch_begin(struct qr_epoch *epoch, struct qr_cpu *cpu)
{
    struct qr_epoch_cpu *slot = &epoch->cpus[cpu->index];
    bool outermost = slot->depth == 0;

    if (qr_likely(outermost))
        qr_epoch_announce(epoch, slot);
    return outermost;
}

static inline void
qr_epoch_end(struct qr_epoch *epoch, struct qr_cpu *cpu, bool outermost)
{
    if (qr_likely(outermost))
        atomic_store_explicit(&epoch->cpus[cpu->index].seen, 0, memory_order_release);
}

/** Release @p node once no reader can see it; the node is unreachable already. */
void qr_epoch_retire(struct qr_epoch *epoch, struct qr_epoch_node *node,
                     void (*release)(struct qr_epoch_node *node));

/**
 * The oldest epoch that some section may still be in: what was retired in an earlier one, and
 * made unreachable before this call, nobody can see.
 */
uint64_t qr_epoch_oldest(struct qr_epoch *epoch);

/**
 * Release what has become safe.  Called by retire too; a host calls it from its
 * tick so that nothing waits for the next retirement.
 * @return whether anything is still queued
 */
bool qr_epoch_collect(struct qr_epoch *epoch);

#endif
#endif
