/* SPDX-License-Identifier: MIT */
/*
 * Epoch-based reclamation.
 *
 * A global number `current` grows.  A CPU that enters a section writes the
 * number it sees into its slot, and 0 when it leaves.  What is retired while
 * `current` is e became unreachable before; a section that could have found it
 * has written a number <= e.  So once every slot is 0 or > e, it can go.
 *
 *   slots      0   7   8            current 8
 *   queue      [5] [6] [7] [8]      5 and 6 can go, 7 waits for the CPU at 7
 *
 * The write into the slot and the reads that follow must not be reordered, nor
 * the retirer's unlinking and its reading of the slots: both sides use a
 * sequentially consistent fence (the store-buffer litmus test).
 *
 * Invariants: 1 the queue is ordered by epoch, oldest first; 2 slots are 0 or
 * <= current; 3 release functions run with no lock of this file held.
 */
#include <quire/assert.h>
#include <quire/epoch.h>

void
qr_epoch_init(struct qr_epoch *epoch)
{
    atomic_init(&epoch->current, 1);
    qr_spin_init(&epoch->lock, QR_RANK_LEAF);
    epoch->head = NULL;
    epoch->tail = NULL;
    for (unsigned i = 0; i < CONFIG_MAX_CPUS; i++) {
        atomic_init(&epoch->cpus[i].seen, 0);
        epoch->cpus[i].depth = 0;
    }
}

/* The oldest epoch that some section may still be in. */
static uint64_t
epoch_oldest(struct qr_epoch *epoch)
{
    uint64_t oldest = atomic_load_explicit(&epoch->current, memory_order_seq_cst);

    for (unsigned i = 0; i < CONFIG_MAX_CPUS; i++) {
        uint64_t seen = atomic_load_explicit(&epoch->cpus[i].seen, memory_order_seq_cst);

        if (seen != 0 && seen < oldest)
            oldest = seen;
    }
    return oldest;
}

static struct qr_epoch_node *
epoch_take_ready(struct qr_epoch *epoch)
{
    struct qr_epoch_node *ready = epoch->head;
    struct qr_epoch_node *last = NULL;
    uint64_t oldest = epoch_oldest(epoch);

    for (struct qr_epoch_node *node = ready; node != NULL && node->epoch < oldest;
         node = node->next)
        last = node;
    if (last == NULL)
        return NULL;
    epoch->head = last->next;
    if (epoch->head == NULL)
        epoch->tail = NULL;
    last->next = NULL;
    return ready;
}

bool
qr_epoch_collect(struct qr_epoch *epoch)
{
    qr_spin_lock(&epoch->lock);
    struct qr_epoch_node *ready = epoch_take_ready(epoch);
    bool waiting = epoch->head != NULL;
    qr_spin_unlock(&epoch->lock);

    while (ready != NULL) {
        struct qr_epoch_node *next = ready->next;

        ready->release(ready);
        ready = next;
    }
    return waiting;
}

void
qr_epoch_retire(struct qr_epoch *epoch, struct qr_epoch_node *node,
                void (*release)(struct qr_epoch_node *node))
{
    node->release = release;
    node->next = NULL;
    qr_spin_lock(&epoch->lock);
    node->epoch = atomic_fetch_add_explicit(&epoch->current, 1, memory_order_seq_cst);
    if (epoch->tail != NULL)
        epoch->tail->next = node;
    else
        epoch->head = node;
    epoch->tail = node;
    qr_spin_unlock(&epoch->lock);
    (void)qr_epoch_collect(epoch);
}
