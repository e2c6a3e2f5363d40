/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_RECLAIM_H
#define QUIRE_RECLAIM_H

/**
 * @file
 * Moving frames that are in use: migration of single frames, compaction of a
 * zone, and emptying a range that is to be removed.
 */

#ifndef __cplusplus
#include <quire/shrink.h>
#include <quire/space.h>

/**
 * Move what @p frame holds into @p target (type KERNEL, one reference, the caller's) and
 * every use of it along.  Movable are pages of objects, and private frames that stand in the same
 * page of every space that maps them: all but those that mremap moved after a fork.
 * Context: thread; waits for no page and takes no space lock, but may end spaces: hold none.
 * @return QR_OK: @p frame is free; QR_ERR_BUSY it cannot be moved now: @p target is the caller's
 *         still; QR_ERR_AGAIN some spaces have @p target now and others @p frame: neither is the
 *         caller's
 */
QR_MUST_USE enum qr_status qr_frame_migrate(struct qr_vm *vm, struct qr_frame *frame,
                                            struct qr_frame *target);

/** Pages of a range that are to be on other nodes. */
struct qr_move_request {
    qr_va start;
    size_t bytes;
    struct qr_node_set from; /**< pages of these nodes alone */
    struct qr_policy *to;    /**< where they go; NULL: near this CPU */
    bool shared;             /**< those of objects that others map too */
};
struct qr_move_result {
    size_t moved, failed; /**< pages */
    size_t no_memory;     /**< of the failed ones: for want of a frame */
    size_t shared;        /**< left alone, as others map them, too */
};
/** What cannot be moved now stays.  Takes the space's lock for reading.  Context: thread. */
void qr_space_move_pages(struct qr_space *space, const struct qr_move_request *request,
                         struct qr_move_result *out_result);
/**
 * The node of the page at @p va.
 * @return QR_ERR_FAULT not mapped, or nobody's page (the zero page, a device); QR_ERR_NOT_FOUND
 *         not in memory
 */
QR_MUST_USE enum qr_status qr_space_page_node(struct qr_space *space, qr_va va, unsigned *out_node);

enum qr_retire {
    QR_RETIRE_KEEP, /**< the contents move */
    QR_RETIRE_LOSE, /**< the contents are lost: who touches the page gets QR_FAULT_POISON */
};
/**
 * Never use the frame behind the page at @p va again.  Faults the page in.  Context: thread.
 * @return QR_ERR_BUSY it is shared, an object's (LOSE), or in use: nothing changed;
 *         QR_ERR_FAULT not mapped; QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_space_retire_page(struct qr_space *space, qr_va va,
                                                enum qr_retire how);

struct qr_compact_request {
    int node;       /**< -1: all */
    unsigned order; /**< stop when a run of 2^order is free; 0: as much as can be had */
    /** Blocks of which fewer frames are free are left alone (1..512): the dearest ones. */
    unsigned min_free;
};

struct qr_compact_result {
    size_t blocks;       /**< looked at */
    size_t made;         /**< free and whole now */
    size_t moved, stuck; /**< frames */
};

/**
 * Empty blocks of movable frames, the emptiest first, into others, so that they become free
 * runs.  Context: thread.
 */
void qr_compact(struct qr_vm *vm, const struct qr_compact_request *request,
                struct qr_compact_result *out_result);

/* ---- Collapse ------------------------------------------------------------ */

/** What a block of small pages must be like to become a huge page. */
struct qr_collapse_limits {
    size_t max_none;            /**< pages that are not there, or zero (Linux's max_ptes_none) */
    size_t max_shared;          /**< pages that other spaces map too (max_ptes_shared) */
    size_t max_swapped;         /**< pages that are swapped out (max_ptes_swap) */
    enum qr_huge_effort effort; /**< to find frames */
    enum qr_huge_reason reason; /**< ASKED: what the policy says does not matter */
};

/**
 * Make huge pages of all whole blocks in the range that have a page, as MADV_COLLAPSE:
 * the policy's mode does not matter, QR_ADVICE_NO_HUGE and qr_space_set_huge_disabled() do.
 *
 * Locks: takes the space's, for writing.  Context: thread; may reclaim.
 * Pages that are swapped out come back for it.
 * @return QR_OK all of them are huge now; QR_ERR_INVALID some block has no page, or one that cannot be read, or a
 *         region may not have huge pages; QR_ERR_AGAIN somebody holds a page of some block; QR_ERR_NO_MEMORY
 *         no frames, or, in the end, a hole; QR_ERR_RANGE misaligned or wrapping
 */
QR_MUST_USE enum qr_status qr_space_collapse(struct qr_space *space, qr_va start, size_t bytes);

/** Where a background scan stands.  All zero but the limits: at the start. */
struct qr_collapse_scan {
    struct qr_collapse_limits limits;
    uint64_t space_id; /* space and address to go on with */
    qr_va at;
    size_t collapsed;  /**< blocks so far */
    size_t full_scans; /**< times that every space was looked at */
};

/**
 * Look at the next @p pages pages of blocks that could be huge, and collapse those within the
 * limits.  One scan at a time.  Context: thread; takes space locks, for writing where it collapses.
 */
void qr_collapse_scan(struct qr_vm *vm, struct qr_collapse_scan *scan, size_t pages);

/** Let removal of memory move frames away: installs the evacuation hook of @p vm's frames. */
void qr_reclaim_attach(struct qr_vm *vm);

#endif
#endif
