/* SPDX-License-Identifier: MIT */
/*
 * Filling a flush batch.
 *
 * Notes are kept as runs of neighbouring entries of one size, because changes
 * come that way.  Past QR_BATCH_RUNS runs or QR_BATCH_PAGES entries the batch
 * stops remembering: one flush of the whole space is then cheaper than the
 * list.  A batch that holds notes is registered with its space (see tlb.c);
 * registration happens at the first note, under the lock of the table that
 * changed.
 *
 * A table that goes is noted as an entry of its parent: what hardware remembers of
 * the way to it is found under any address that it covered.  Where the last note
 * is such an address, as after unmapping what the table held, it does for both.
 */
#include <quire/assert.h>

#include "table/tables.h"

static void
batch_register(struct qr_tlb_batch *batch)
{
    if (batch->registered)
        return;
    batch->registered = true;
    atomic_fetch_add_explicit(&batch->space->pending, 1, memory_order_relaxed);
}

static bool
batch_covers(const struct qr_tlb_batch *batch, uintptr_t base, unsigned shift)
{
    if (batch->whole || batch->run_count == 0)
        return batch->whole;
    return (batch->runs[batch->run_count - 1].last.v ^ base) >> shift == 0;
}

static void
batch_append(struct qr_tlb_batch *batch, qr_va va, unsigned shift)
{
    if (batch->run_count == QR_BATCH_RUNS || batch->page_count == QR_BATCH_PAGES) {
        batch->whole = true;
        batch->run_count = 0;
        return;
    }
    struct qr_flush_run *run = &batch->runs[batch->run_count++];

    run->start = va;
    run->last = qr_va_of(va.v + (((uintptr_t)1 << shift) - 1));
    run->shift = shift;
    batch->page_count++;
}

void
qr_tlb_batch_note_run(struct qr_tlb_batch *batch, qr_va va, unsigned shift)
{
    qr_assert((va.v & (((uintptr_t)1 << shift) - 1)) == 0);
    batch_register(batch);
    if (!batch->whole)
        batch_append(batch, va, shift);
    if (batch->naive)
        batch->flush(batch);
}

void
qr_tlb_batch_add_table(struct qr_tlb_batch *batch, struct qr_frame *table)
{
    uintptr_t place = atomic_load_explicit(&table->index, memory_order_relaxed);
    uintptr_t base = place & ~(uintptr_t)QR_PAGE_MASK;
    unsigned level = (unsigned)(place & QR_PAGE_MASK);
    unsigned shift = qr_format_shift(batch->space->tables->format, level + 1);

    qr_assert(qr_frame_type(table) == QR_FRAME_TABLE);
    if (batch->table_count == QR_BATCH_TABLES)
        batch->flush(batch);
    batch_register(batch);
    if (!batch_covers(batch, base, shift))
        batch_append(batch, qr_va_of(base), shift);
    batch->tables[batch->table_count++] = table;
    batch->tables_freed = true;
}
