/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TLB_H
#define QUIRE_TLB_H

/**
 * @file
 * Keeping TLBs honest: flush batches, shootdown across CPUs, address-space
 * identifiers and lazy switching.
 *
 * The rule that everything rests on: an entry is taken out of the table, then
 * every CPU that may hold it has flushed it, and only then is its frame (or
 * table) given back.  The batch owns frames and tables in between.
 */

#ifndef __cplusplus
#include <quire/table.h>

struct qr_tlb; /* one machine's shootdown state; src/tlb/tlb.h */

size_t qr_tlb_size(unsigned cpu_count);
/** @p asid_count: identifiers that the hardware offers a CPU; 1 where it has none. */
void qr_tlb_init(struct qr_tlb *tlb, struct qr_frames *frames, unsigned cpu_count,
                 unsigned asid_count);
/** This CPU takes part from now on; called on the CPU itself. */
void qr_tlb_cpu_online(struct qr_tlb *tlb);

/** The TLB side of one address space.  Embedded in its owner. */
struct qr_tlb_space {
    struct qr_tlb *tlb;               /* fixed; NULL: never active on any CPU */
    struct qr_tables *tables;         /* fixed */
    uint64_t id;                      /* fixed; never reused (64 bits) */
    _Atomic uint64_t generation;      /* grows with each change that needs a flush */
    struct qr_cpu_set active;         /* CPUs that may hold entries and must be told */
    bool global;                      /* fixed; the kernel's own: entries are global */
};

void qr_tlb_space_init(struct qr_tlb_space *space, struct qr_tlb *tlb, struct qr_tables *tables);
/** No CPU runs it any more; every trace of it is flushed or will be before its id's reuse. */
void qr_tlb_space_fini(struct qr_tlb_space *space);

/** Run @p next on this CPU from now on.  Interrupts off. */
void qr_tlb_switch(struct qr_tlb_space *next);
/** This CPU runs a kernel thread on a borrowed space: it need not be told of user changes. */
void qr_tlb_enter_lazy(void);
/** Leave lazy mode without a switch: catches up with what was missed. */
void qr_tlb_leave_lazy(void);

/** Frames and page tables a batch can own before it flushes by itself. */
#define QR_BATCH_FRAMES 128
/** Up to so many pages are flushed one by one; beyond, the whole space (see docs/tlb.md). */
#define QR_BATCH_PAGES 32

struct qr_tlb_batch {
    struct qr_tlb_space *space;
    qr_va pages[QR_BATCH_PAGES]; /* single pages, while they are few */
    unsigned page_count;
    bool whole;                  /* too many: all of the space */
    bool tables_freed;           /* walk caches too; lazy CPUs must be told */
    bool global;                 /* kernel mappings: global entries too */
    struct qr_va_range span;     /* what all notes cover together */
    unsigned stride_shift;       /* smallest entry noted */
    struct qr_frame *frames[QR_BATCH_FRAMES];
    unsigned frame_count;
    struct qr_frame *tables[QR_BATCH_FRAMES / 4];
    unsigned table_count;
};

/** Start an empty batch; it lives on its caller's stack. */
void qr_tlb_batch_init(struct qr_tlb_batch *batch, struct qr_tlb_space *space);
/** An entry at @p va of size 1 << @p shift was taken out or lost rights. */
void qr_tlb_batch_note(struct qr_tlb_batch *batch, qr_va va, unsigned shift);
/** The batch takes over the caller's reference to @p frame; when full it flushes by itself. */
void qr_tlb_batch_add_frame(struct qr_tlb_batch *batch, struct qr_frame *frame);
/** The batch takes over an unlinked page table. */
void qr_tlb_batch_add_table(struct qr_tlb_batch *batch, struct qr_frame *table);
/**
 * Flush what was noted on every CPU that may hold it, then drop the references.
 * On return no CPU can use a translation that was noted here, nor one that a
 * concurrent batch of the same space had taken out before.  The batch is empty again.
 * Context: any, locks up to QR_RANK_TABLE may be held; spins, serving requests of others.
 */
void qr_tlb_batch_finish(struct qr_tlb_batch *batch);

/** What the host calls when the interrupt of qr_port_ipi() arrives.  Interrupts off. */
void qr_tlb_interrupt(void);

/** The naive mode, for comparison: every note is a full flush on every CPU. */
void qr_tlb_set_naive(struct qr_tlb *tlb, bool naive);

#endif
#endif
