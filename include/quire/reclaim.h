/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_RECLAIM_H
#define QUIRE_RECLAIM_H

/**
 * @file
 * Moving frames that are in use: migration of single frames, compaction of a
 * zone, and emptying a range that is to be removed.
 */

#ifndef __cplusplus
#include <quire/space.h>

/**
 * Move what @p frame holds into @p target (type KERNEL, one reference, the caller's) and
 * every use of it along.  Movable are private frames with one mapping and pages of objects.
 * Context: thread; waits for no page and takes no space lock.
 * @return QR_OK: @p frame is free; QR_ERR_BUSY it cannot be moved now: @p target is the caller's
 *         still
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

/** Let removal of memory move frames away: installs the evacuation hook of @p vm's frames. */
void qr_reclaim_attach(struct qr_vm *vm);

#endif
#endif
