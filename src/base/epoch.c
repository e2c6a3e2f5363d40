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
 * The order of memory.  A reader R and a retirer W of the pointer p (a table entry):
 *
 *   R   r = current; seen = r; FENCE; q = p          q may be the old object
 *   W   p = NULL; e = current++; FENCE; s = seen     s decides whether it goes
 *
 * Wrong is that R finds the old object while W reads a slot that does not hold it off (0, or
 * more than e).  Store buffering: with a full fence on either side, W sees R's slot or R
 * sees that p is NULL; that is all that a stale `seen` can do.  A slot of more than e means
 * that R read `current` after W's addition, and its fence makes that a synchronisation:
 * W's addition is a release, so R sees NULL.  Sequentially consistent accesses alone would
 * not do, because p is read with acquire only: AArch64 may take LDAPR past STLR.
 * A slot that went back to 0 was stored with release and is loaded with acquire: what
 * R read, it has read.
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

uint64_t
qr_epoch_oldest(struct qr_epoch *epoch)
{
    uint64_t oldest = atomic_load_explicit(&epoch->current, memory_order_relaxed);

    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < CONFIG_MAX_CPUS; i++) {
        uint64_t seen = atomic_load_explicit(&epoch->cpus[i].seen, memory_order_acquire);

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
    uint64_t oldest = qr_epoch_oldest(epoch);

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
    node->epoch = atomic_fetch_add_explicit(&epoch->current, 1, memory_order_acq_rel);
    if (epoch->tail != NULL)
        epoch->tail->next = node;
    else
        epoch->head = node;
    epoch->tail = node;
    qr_spin_unlock(&epoch->lock);
    (void)qr_epoch_collect(epoch);
}
