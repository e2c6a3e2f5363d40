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
 */
#include <quire/assert.h>
#include <quire/batch.h>

static void
batch_register(struct qr_tlb_batch *batch)
{
    if (batch->registered)
        return;
    batch->registered = true;
    atomic_fetch_add_explicit(&batch->space->pending, 1, memory_order_relaxed);
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
    qr_assert(qr_frame_type(table) == QR_FRAME_TABLE);
    batch_register(batch);
    if (batch->table_count == QR_BATCH_TABLES)
        batch->flush(batch);
    batch_register(batch);
    batch->tables[batch->table_count++] = table;
    batch->tables_freed = true;
}
