/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_EPOCH_H
#define QUIRE_EPOCH_H

/**
 * @file
 * Epoch-based reclamation: memory that lock-free readers may still see is
 * retired, and released once every CPU has left the epochs in which it could
 * have been found (Fraser, "Practical lock-freedom", 2004).
 *
 * A reader section runs with interrupts off and never waits, so an epoch is
 * short.  A CPU inside a section must not run the poll hook of a spin loop
 * before it has revalidated what it read; taking a lock found through a
 * lock-free walk is allowed because lock words are type-stable.
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
    _Atomic uint64_t current; /* starts at 1 */
    struct qr_spin lock;      /* guards the queue */
    struct qr_epoch_node *head, *tail; /* oldest first */
    struct qr_epoch_cpu cpus[CONFIG_MAX_CPUS];
};

void qr_epoch_init(struct qr_epoch *epoch);

/** Open a reader section: what it finds is not released before the section closes. */
struct qr_cpu *qr_epoch_enter(struct qr_epoch *epoch);
void qr_epoch_leave(struct qr_epoch *epoch, struct qr_cpu *cpu);

/** Release @p node once no reader can see it; the node is unreachable already. */
void qr_epoch_retire(struct qr_epoch *epoch, struct qr_epoch_node *node,
                     void (*release)(struct qr_epoch_node *node));

/**
 * Release what has become safe.  Called by retire too; a host calls it from its
 * tick so that nothing waits for the next retirement.
 * @return whether anything is still queued
 */
bool qr_epoch_collect(struct qr_epoch *epoch);

#endif
#endif
