/* SPDX-License-Identifier: MIT */
/*
 * One flush for the batches of several spaces.
 *
 * Reclaim takes a run of a file's pages out of everybody who maps them; write-back
 * makes them read-only.  A shootdown for each page and each space would interrupt
 * the same CPUs again and again.  So each space's batch is added to a gathering,
 * and one shootdown is for all (shoot.c):
 *
 *   space A   take out 1 2 3 --+
 *   space B   take out 1 2 3 --+--> flush --> drop A's, B's, C's references --> free, write
 *   space C   take out   2 3 --+
 *
 * The invariant: between the change of an entry and the end of finish() its frame
 * keeps the reference that the entry had, and its contents are not taken for final.
 * Whoever adds batches keeps the frame's place meanwhile as well: an object's page stays
 * locked and in its index, so that a fault that comes in between finds the same
 * frame again.  A fault that puts another frame in its place (a private copy) flushes the
 * address first: it sees the space's flush pending (src/fault/object.c).
 *
 * A space in the gathering counts as one pending batch, from before the first added
 * batch would have been struck off: whoever finds an entry gone still flushes for
 * himself (batch.c).  What a batch looked at without noting it, and others have not
 * flushed, is settled when it is added: then all of the space is flushed.
 *
 * The spaces stay because of what the caller holds: the object's mapping lock, without which no
 * region that maps it goes.  With more than QR_GATHER_SPACES the gathering flushes
 * in between, which is correct at any moment.
 */
#include <quire/assert.h>

#include "tlb/tlb.h"

void
qr_tlb_gather_init(struct qr_tlb_gather *gather)
{
    gather->space_count = 0;
    gather->frame_count = 0;
}

/* ---- Adding ------------------------------------------------------------------- */

static struct qr_tlb_owed *
gather_find(struct qr_tlb_gather *gather, const struct qr_tlb_space *space)
{
    for (unsigned i = gather->space_count; i-- > 0;) {
        if (gather->spaces[i].space == space)
            return &gather->spaces[i];
    }
    return NULL;
}

/* A place for @space, which becomes one pending batch more. */
static struct qr_tlb_owed *
gather_new(struct qr_tlb_gather *gather, struct qr_tlb_space *space)
{
    if (gather->space_count == QR_GATHER_SPACES)
        qr_tlb_gather_finish(gather);
    struct qr_tlb_owed *owed = &gather->spaces[gather->space_count++];

    owed->space = space;
    owed->run_count = 0;
    owed->page_count = 0;
    owed->whole = false;
    atomic_fetch_add(&space->pending, 1);
    return owed;
}

static void
owed_add_run(struct qr_tlb_owed *owed, const struct qr_flush_run *run)
{
    unsigned pages = (unsigned)((run->last.v - run->start.v) >> run->shift) + 1;
    struct qr_flush_run *last = owed->run_count == 0 ? NULL : &owed->runs[owed->run_count - 1];

    if (pages > QR_BATCH_PAGES - owed->page_count) {
        owed->whole = true;
    } else if (last != NULL && last->last.v + 1 == run->start.v && last->shift == run->shift) {
        last->last = run->last;
        owed->page_count += pages;
    } else if (owed->run_count == QR_GATHER_RUNS) {
        owed->whole = true;
    } else {
        owed->runs[owed->run_count++] = *run;
        owed->page_count += pages;
    }
}

static void
owed_add_notes(struct qr_tlb_owed *owed, const struct qr_tlb_batch *batch)
{
    owed->whole = owed->whole || batch->whole;
    for (unsigned i = 0; i < batch->run_count && !owed->whole; i++)
        owed_add_run(owed, &batch->runs[i]);
    if (owed->whole)
        owed->run_count = 0;
}

/* One reference to @frame, whose flush is owed.  Frames come in the same order from every space. */
static void
gather_own(struct qr_tlb_gather *gather, struct qr_frame *frame)
{
    for (unsigned i = gather->frame_count; i-- > 0;) {
        if (gather->frames[i].frame == frame) {
            gather->frames[i].refs++;
            return;
        }
    }
    if (gather->frame_count == QR_GATHER_FRAMES)
        qr_tlb_gather_finish(gather);
    gather->frames[gather->frame_count].frame = frame;
    gather->frames[gather->frame_count++].refs = 1;
}

void
qr_tlb_gather_add(struct qr_tlb_gather *gather, struct qr_tlb_batch *batch)
{
    struct qr_tlb_space *space = batch->space;

    qr_assert(!space->global);
    if (space->tlb == NULL || batch->naive || batch->tables_freed || batch->block_count > 0) {
        qr_tlb_batch_finish(batch);
        return;
    }
    struct qr_tlb_owed *owed = gather_find(gather, space);
    unsigned ours = (owed != NULL) + batch->registered;
    bool others = batch->gaps && atomic_load(&space->pending) > ours;

    if (batch->registered || others) {
        if (owed == NULL)
            owed = gather_new(gather, space);
        owed_add_notes(owed, batch);
        owed->whole = owed->whole || others;
    }
    gather->owner = space->tables->frames;
    for (unsigned i = 0; i < batch->frame_count; i++)
        gather_own(gather, batch->frames[i]);
    qr_tlb_batch_forget(batch);
}

/* ---- Flushing ------------------------------------------------------------------- */

static void
owed_tell(const struct qr_tlb *tlb, tlb_observe_fn observe, const struct qr_tlb_owed *owed)
{
    const struct qr_tlb_flush flush = {.space = owed->space,
                                       .runs = owed->runs,
                                       .run_count = owed->run_count,
                                       .whole = owed->whole,
                                       .registered = true};

    if (observe != NULL)
        observe(tlb->observer.context, &flush);
}

static struct tlb_change
owed_change(const struct qr_tlb_owed *owed)
{
    return (struct tlb_change){.space = owed->space,
                               .mode = owed->whole ? TLB_SPACE : TLB_PAGES,
                               .runs = owed->runs,
                               .run_count = owed->run_count,
                               .page_count = owed->page_count};
}

static void
gather_flush(struct qr_tlb_gather *gather)
{
    struct qr_tlb *tlb = gather->spaces[0].space->tlb;
    struct tlb_change changes[QR_GATHER_SPACES];

    for (unsigned i = 0; i < gather->space_count; i++) {
        qr_assert(gather->spaces[i].space->tlb == tlb);
        changes[i] = owed_change(&gather->spaces[i]);
        owed_tell(tlb, tlb->observer.begin, &gather->spaces[i]);
    }
    qr_tlb_shoot_many(tlb, changes, gather->space_count);
    for (unsigned i = 0; i < gather->space_count; i++) {
        owed_tell(tlb, tlb->observer.end, &gather->spaces[i]);
        atomic_fetch_sub(&gather->spaces[i].space->pending, 1);
    }
}

void
qr_tlb_gather_finish(struct qr_tlb_gather *gather)
{
    if (gather->space_count > 0)
        gather_flush(gather);
    for (unsigned i = 0; i < gather->frame_count; i++) {
        for (size_t refs = gather->frames[i].refs; refs > 0; refs--)
            qr_frame_put(gather->owner, gather->frames[i].frame);
    }
    qr_tlb_gather_init(gather);
}
