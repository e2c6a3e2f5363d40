/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_BATCH_H
#define QUIRE_BATCH_H

/**
 * @file
 * The flush batch: what a change of page tables took out of the hardware's
 * sight, and the frames and tables that nobody may reuse until every CPU has
 * forgotten them.  The table layer fills it; the tlb layer flushes it.
 */

#ifndef __cplusplus
#include <quire/arch.h>
#include <quire/frame.h>

struct qr_tlb;
struct qr_tables;

/** The TLB side of one address space.  Embedded in its owner. */
struct qr_tlb_space {
    struct qr_tlb *tlb;          /* fixed; NULL: never active on any CPU */
    struct qr_tables *tables;    /* fixed */
    uint64_t id;                 /* fixed; never reused (64 bits) */
    _Atomic uint64_t generation; /* grows with each change of which no hardware tells the CPUs */
    _Atomic uint64_t context;    /* its identifier; 0: never had one (src/tlb/asid.c) */
    _Atomic uint32_t pending;    /* batches that hold notes which nobody flushed yet */
    struct qr_cpu_set active;    /* CPUs that have it loaded and must be told */
    struct qr_cpu_set held;      /* where hardware broadcasts: CPUs that may hold entries */
    bool global;                 /* fixed; the kernel's own: entries are global */
};

/** Frames that a batch can own before it flushes by itself. */
#define QR_BATCH_FRAMES 128
/** Page tables that it can own. */
#define QR_BATCH_TABLES 32
/** Runs of frames (of large leaves) that it can own. */
#define QR_BATCH_BLOCKS 8
/** Runs of neighbouring pages that it remembers; with more, all of the space is flushed. */
#define QR_BATCH_RUNS 8
/** Up to so many pages are flushed one by one; beyond, the whole space (see docs/tlb.md). */
#define QR_BATCH_PAGES 32

struct qr_tlb_batch {
    struct qr_tlb_space *space;
    /** Flushes and releases everything noted so far; set by qr_tlb_batch_init(). */
    void (*flush)(struct qr_tlb_batch *batch);
    struct qr_flush_run runs[QR_BATCH_RUNS];
    unsigned run_count;
    unsigned page_count; /**< entries in all runs */
    unsigned frame_count;
    unsigned table_count;
    unsigned block_count;
    bool whole;        /**< too many: all of the space */
    bool naive;        /**< flush at every note (see qr_tlb_set_naive()) */
    bool tables_freed; /**< walk caches too; lazy CPUs must be told */
    bool gaps;         /**< looked at addresses without noting them: others' flushes matter */
    bool registered;   /**< counted in the space's pending batches */
    struct qr_frame *frames[QR_BATCH_FRAMES];
    struct qr_frame *tables[QR_BATCH_TABLES];
    struct {
        struct qr_frame *head;
        size_t pages;
    } blocks[QR_BATCH_BLOCKS];
};

/** The slow way of qr_tlb_batch_note(): no neighbour of the last note. */
void qr_tlb_batch_note_run(struct qr_tlb_batch *batch, qr_va va, unsigned shift);

/**
 * An entry at @p va of size 1 << @p shift was taken out or lost rights.  Called under the
 * lock of its table, after the change and before the lock is released: whoever then finds
 * the entry changed also finds this batch pending.
 */
static inline void
qr_tlb_batch_note(struct qr_tlb_batch *batch, qr_va va, unsigned shift)
{
    unsigned last = batch->run_count - 1; /* wraps where there is none */

    if (batch->whole)
        return;
    if (qr_likely(last < QR_BATCH_RUNS) && batch->runs[last].last.v + 1 == va.v &&
        batch->runs[last].shift == shift && batch->page_count < QR_BATCH_PAGES) {
        batch->runs[last].last.v += (uintptr_t)1 << shift;
        batch->page_count++;
        return;
    }
    qr_tlb_batch_note_run(batch, va, shift);
}

/** The same for @p count entries that lie side by side. */
static inline void
qr_tlb_batch_note_pages(struct qr_tlb_batch *batch, qr_va va, unsigned shift, size_t count)
{
    struct qr_flush_run *run;

    qr_tlb_batch_note(batch, va, shift);
    if (!batch->whole && !batch->naive && batch->run_count > 0 &&
        count <= QR_BATCH_PAGES - batch->page_count) {
        run = &batch->runs[batch->run_count - 1];
        run->last.v += (uintptr_t)(count - 1) << shift;
        batch->page_count += (unsigned)(count - 1);
        return;
    }
    for (size_t i = 1; i < count && !batch->whole; i++)
        qr_tlb_batch_note(batch, qr_va_of(va.v + (i << shift)), shift);
}

/** The batch takes over the caller's reference to @p frame; when full it flushes by itself. */
static inline void
qr_tlb_batch_add_frame(struct qr_tlb_batch *batch, struct qr_frame *frame)
{
    if (qr_unlikely(batch->frame_count == QR_BATCH_FRAMES))
        batch->flush(batch);
    batch->frames[batch->frame_count++] = frame;
}

/** The same for one reference to each of @p pages frames that lie side by side. */
static inline void
qr_tlb_batch_add_block(struct qr_tlb_batch *batch, struct qr_frame *head, size_t pages)
{
    if (qr_unlikely(batch->block_count == QR_BATCH_BLOCKS))
        batch->flush(batch);
    batch->blocks[batch->block_count].head = head;
    batch->blocks[batch->block_count++].pages = pages;
}

/** The batch takes over a page table that was unlinked and marked dead. */
void qr_tlb_batch_add_table(struct qr_tlb_batch *batch, struct qr_frame *table);

#endif
#endif
