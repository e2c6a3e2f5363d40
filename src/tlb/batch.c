/* SPDX-License-Identifier: MIT */
/*
 * Finishing a batch: flush, then release.
 *
 * Order of everything: entries were taken out under table locks; then all CPUs
 * flush; then frames lose the batch's reference, and tables go to
 * qr_tables_retire(), which also waits for walkers.
 *
 * What others took out.  Suppose A unmaps a page, and before A has flushed, B
 * is asked to unmap the same page, finds nothing, and returns: a third thread
 * still reads the page though B's caller was told that it is gone.  So a batch
 * that holds notes is counted in space->pending, from before the lock of the
 * first changed table is released until its flush is done.  B saw the empty
 * entry under that lock, so it sees A counted, unless A has finished.  Then B
 * flushes the whole space itself.  It cannot wait for A instead: A may be
 * waiting for a table lock that B holds.
 *
 * A flush of our own covers every address that we noted, whoever changed it
 * before us.  So this matters only where a cursor looked at addresses without
 * noting them (batch->gaps): ranges, and single pages where nothing was found.
 * A single-page change, the common fault, never pays for somebody else's batch.
 */
#include <quire/assert.h>

#include "table/tables.h"
#include "tlb/tlb.h"

enum tlb_mode
qr_tlb_choose(const struct qr_tlb_batch *batch, bool others_pending)
{
    enum tlb_mode most = batch->space->global ? TLB_ALL : TLB_SPACE;

    if (batch->naive)
        return batch->registered ? TLB_ALL : TLB_NOTHING;
    if (batch->whole || (batch->gaps && others_pending))
        return most;
    return batch->page_count > 0 ? TLB_PAGES : TLB_NOTHING;
}

static void
batch_reset(struct qr_tlb_batch *batch)
{
    batch->run_count = 0;
    batch->page_count = 0;
    batch->frame_count = 0;
    batch->table_count = 0;
    batch->block_count = 0;
    batch->whole = false;
    batch->tables_freed = false;
    batch->registered = false;
}

static void
batch_release(struct qr_tlb_batch *batch)
{
    struct qr_tables *tables = batch->space->tables;

    for (unsigned i = 0; i < batch->frame_count; i++)
        qr_frame_put(tables->frames, batch->frames[i]);
    for (unsigned i = 0; i < batch->block_count; i++)
        qr_frame_put_run(tables->frames, batch->blocks[i].head, batch->blocks[i].pages);
    if (batch->table_count > 0)
        qr_tables_retire(tables, batch->tables, batch->table_count);
}

static QR_NOINLINE void
batch_tell(const struct qr_tlb *tlb, tlb_observe_fn observe, const struct qr_tlb_batch *batch)
{
    const struct qr_tlb_flush flush = {.space = batch->space,
                                       .runs = batch->runs,
                                       .run_count = batch->run_count,
                                       .whole = batch->whole,
                                       .registered = batch->registered,
                                       .tables = batch->tables,
                                       .table_count = batch->table_count};

    observe(tlb->observer.context, &flush);
}

static void
batch_shoot(struct qr_tlb *tlb, struct qr_tlb_batch *batch, enum tlb_mode mode)
{
    struct tlb_change change = {.space = batch->space,
                                .mode = mode,
                                .tables_freed = batch->tables_freed,
                                .runs = batch->runs,
                                .run_count = batch->run_count,
                                .page_count = batch->page_count};

    if (qr_unlikely(tlb->observer.begin != NULL))
        batch_tell(tlb, tlb->observer.begin, batch);
    qr_tlb_shoot(tlb, &change);
    if (qr_unlikely(tlb->observer.end != NULL))
        batch_tell(tlb, tlb->observer.end, batch);
}

/* Flush and release all that was collected; the batch goes on. */
static void
batch_flush(struct qr_tlb_batch *batch)
{
    struct qr_tlb_space *space = batch->space;
    unsigned mine = batch->registered;
    bool others = atomic_load(&space->pending) > mine;
    enum tlb_mode mode = qr_tlb_choose(batch, others);

    if (mode != TLB_NOTHING && space->tlb != NULL)
        batch_shoot(space->tlb, batch, mode);
    if (batch->registered)
        atomic_fetch_sub(&space->pending, 1);
    batch_release(batch);
    batch_reset(batch);
}

void
qr_tlb_batch_init(struct qr_tlb_batch *batch, struct qr_tlb_space *space)
{
    batch->space = space;
    batch->flush = batch_flush;
    batch->gaps = false;
    batch->naive =
        space->tlb != NULL && atomic_load_explicit(&space->tlb->naive, memory_order_relaxed);
    batch_reset(batch);
}

void
qr_tlb_batch_forget(struct qr_tlb_batch *batch)
{
    if (batch->registered)
        atomic_fetch_sub(&batch->space->pending, 1);
    batch_reset(batch);
    batch->gaps = false;
}

void
qr_tlb_batch_cover(struct qr_tlb_batch *batch)
{
    batch->gaps = true;
}

void
qr_tlb_batch_finish(struct qr_tlb_batch *batch)
{
    batch_flush(batch);
    batch->gaps = false;
}
