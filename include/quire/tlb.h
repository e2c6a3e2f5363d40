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
#include <quire/batch.h>
#include <quire/table.h>

struct qr_tlb; /* one machine's shootdown state; src/tlb/tlb.h */

/**
 * @p asid_count: identifiers that the hardware offers a CPU, at most 65,536; 1 where it has none.
 * All are used; where there are not more than two for each CPU, none.
 */
size_t qr_tlb_size(unsigned cpu_count, unsigned asid_count);
void qr_tlb_init(struct qr_tlb *tlb, struct qr_frames *frames, unsigned cpu_count,
                 unsigned asid_count);
/** The space of the kernel's tables: where a CPU goes when the user space it borrows dies. */
void qr_tlb_set_kernel(struct qr_tlb *tlb, struct qr_tlb_space *kernel);
/** This CPU takes part from now on, on the kernel's tables; called on the CPU itself. */
void qr_tlb_cpu_online(struct qr_tlb *tlb);

void qr_tlb_space_init(struct qr_tlb_space *space, struct qr_tlb *tlb, struct qr_tables *tables);
/**
 * Nobody will run user code in it again: CPUs that still borrow it go to the kernel's tables, and
 * what is taken out of it from now on costs no flush.  Context: as qr_tlb_batch_finish().
 */
void qr_tlb_space_unload(struct qr_tlb_space *space);
/** No CPU runs it any more; every trace of it is flushed or will be before its id's reuse. */
void qr_tlb_space_fini(struct qr_tlb_space *space);

/** Run @p next on this CPU from now on.  Interrupts off. */
void qr_tlb_switch(struct qr_tlb_space *next);
/** This CPU runs a kernel thread on a borrowed space: it need not be told of user changes. */
void qr_tlb_enter_lazy(void);
/** Leave lazy mode without a switch: catches up with what was missed. */
void qr_tlb_leave_lazy(void);

/** Start an empty batch; it lives on its caller's stack. */
void qr_tlb_batch_init(struct qr_tlb_batch *batch, struct qr_tlb_space *space);
/*
 * Noting changes and handing over frames and tables: qr_tlb_batch_note(),
 * qr_tlb_batch_add_frame(), qr_tlb_batch_add_table() in quire/batch.h.
 */

/**
 * Somebody else may have taken out translations of addresses that the caller is about to call
 * unmapped, without a cursor of this batch having looked: qr_tlb_batch_finish() then waits for them too.
 */
void qr_tlb_batch_cover(struct qr_tlb_batch *batch);

/**
 * Flush what was noted on every CPU that may hold it, then drop the references.
 * On return no CPU can use a translation that was noted here, nor one that a
 * concurrent batch of the same space had taken out before.  The batch is empty again.
 * Context: any, locks up to QR_RANK_TABLE may be held; spins, serving requests of others.
 */
void qr_tlb_batch_finish(struct qr_tlb_batch *batch);

/** Spaces that a gathering has room for; with more it flushes in between. */
#define QR_GATHER_SPACES 8
/** Runs of neighbouring pages that it remembers of each; with more, all of the space is flushed. */
#define QR_GATHER_RUNS 4
/** Frames that it can own, each with any number of references. */
#define QR_GATHER_FRAMES 32

/** What one space has to forget. */
struct qr_tlb_owed {
    struct qr_tlb_space *space;
    struct qr_flush_run runs[QR_GATHER_RUNS];
    unsigned run_count;
    unsigned page_count; /**< entries in all runs */
    bool whole;
};

/**
 * The batches of several spaces, flushed together: each CPU concerned is interrupted once,
 * however many of them there are.  For whoever takes the same pages out of many spaces (reclaim,
 * write-back, truncation).  Lives on its user's stack.
 */
struct qr_tlb_gather {
    struct qr_frames *owner; /**< of the frames */
    unsigned space_count;
    unsigned frame_count;
    struct qr_tlb_owed spaces[QR_GATHER_SPACES];
    struct {
        struct qr_frame *frame;
        size_t refs;
    } frames[QR_GATHER_FRAMES];
};

void qr_tlb_gather_init(struct qr_tlb_gather *gather);

/**
 * In the place of qr_tlb_batch_finish(): what @p batch noted and owns is the gathering's now, the
 * batch is empty again, and the flush is still to come.  A batch that took page tables out is
 * finished at once, and where the gathering is full it is.  Until qr_tlb_gather_finish() the
 * caller sees to it that none of the spaces ends, and calls no address unmapped and no page clean.
 * Context: as qr_tlb_batch_finish().
 */
void qr_tlb_gather_add(struct qr_tlb_gather *gather, struct qr_tlb_batch *batch);

/** What qr_tlb_batch_finish() promises, for all batches that were added.  Empty again. */
void qr_tlb_gather_finish(struct qr_tlb_gather *gather);

/**
 * Entries of the kernel's half, in the tables of @p kernel, were made valid: hardware on every
 * CPU finds them from now on.  Of a user's half nobody is told: who faults on an entry that is
 * there flushes it.  Context: as qr_tlb_batch_finish().
 */
void qr_tlb_publish(struct qr_tlb_space *kernel);

/** What the host calls when the interrupt of qr_port_ipi() arrives.  Interrupts off. */
void qr_tlb_interrupt(void);

/** A flush of one space that is under way. */
struct qr_tlb_flush {
    const struct qr_tlb_space *space;
    const struct qr_flush_run *runs; /**< the same array from begin to end */
    unsigned run_count;
    bool whole;
    bool registered; /**< counted in the space's pending batches */
    struct qr_frame *const *tables;
    unsigned table_count;
};

/**
 * For tests and traces: told when a flush begins, before the first flush
 * instruction, and when every CPU has forgotten what it names, before frames and
 * tables are released.  NULL members and NULL observer: nothing.
 */
struct qr_tlb_observer {
    void *context;
    void (*begin)(void *context, const struct qr_tlb_flush *flush);
    void (*end)(void *context, const struct qr_tlb_flush *flush);
};
void qr_tlb_set_observer(struct qr_tlb *tlb, const struct qr_tlb_observer *observer);

/** The naive mode, for comparison: every note is a full flush on every CPU. */
void qr_tlb_set_naive(struct qr_tlb *tlb, bool naive);

#endif
#endif
