/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_MERGE_H
#define QUIRE_MERGE_H

/**
 * @file
 * Merging of equal pages: private pages of equal contents share one frame until one of them is
 * written, as Linux's KSM.  With CONFIG_MERGE.
 *
 * Pages of regions that QR_ADVICE_MERGEABLE was given for are looked at by a scan that the host
 * runs in the background, some at a time.  A page that is the same twice in a row and equal to
 * another becomes one with it: both entries name one frame of type QR_FRAME_MERGED, read-only, which
 * nobody ever writes.  A store copies it, as after a fork.
 */

#ifndef __cplusplus
#include <quire/space.h>

struct qr_merge; /* one machine's; src/reclaim/merge.h */

/** All at once; a set that qr_merge_configure() refuses changes nothing. */
struct qr_merge_settings {
    unsigned max_sharing; /**< entries that merging gives one frame at most; at least 2 */
    bool across_nodes;    /**< frames of different memory nodes may become one */
    bool use_zero_pages;  /**< pages that are zero show the frame of zeroes instead */
};

/** Where the pages are.  Those that were merged are counted as they stand, the others as last seen. */
struct qr_merge_stats {
    size_t shared;         /**< merged frames that are mapped */
    size_t sharing;        /**< entries that map them, beyond one each: what is saved */
    size_t unshared;       /**< pages that nothing was equal to */
    size_t changing;       /**< pages that were looked at once, or were different the last time */
    size_t full_scans;     /**< times that every space was looked at */
    size_t copies, chains; /**< merged frames whose contents others have too, since a frame may have
                                max_sharing entries; how many different contents these have */
};

/**
 * Be ready to merge pages of @p vm's spaces; nothing is looked at yet.  Takes over the frames' hook
 * for merged ones.  Settings: 256, true, false, as Linux's.  Context: thread, at most once a machine.
 */
QR_MUST_USE enum qr_status qr_merge_create(struct qr_vm *vm, struct qr_merge **out_merge);
/** Nothing is merged any more: no space is left.  @return merged frames that there still are; if
 *  any, nothing happened */
size_t qr_merge_destroy(struct qr_merge *merge);

/**
 * Look at the next @p pages pages that are in memory, and merge.  Each page costs 64 bytes while it
 * is looked at and not merged, and each merged frame 48.  A page with any reference beside its one entry
 * (a pin, a fork) stays as it is; without memory pages are passed over.
 * Context: thread; takes space locks for reading.  Only one of scan, undo and configure at a time.
 * @return how many were there: fewer than @p pages at the end of a round
 */
size_t qr_merge_scan(struct qr_merge *merge, size_t pages);

/** Whether some space has, or had, a mergeable region: else a scan finds nothing.  Context: thread. */
bool qr_merge_wanted(struct qr_merge *merge);

/** Pages of @p space that scans know and have not merged.  Context: as qr_merge_scan(). */
size_t qr_merge_seen_pages(const struct qr_merge *merge, const struct qr_space *space);

/**
 * Give every merged page a frame of its own, and forget all that was seen.  Regions stay mergeable.
 * Context: as qr_merge_scan().
 * @return QR_ERR_NO_MEMORY some have one: try again
 */
QR_MUST_USE enum qr_status qr_merge_undo(struct qr_merge *merge);

/**
 * @return QR_ERR_INVALID max_sharing is below 2; QR_ERR_BUSY it, or across_nodes, would change while
 *         pages are merged
 */
QR_MUST_USE enum qr_status qr_merge_configure(struct qr_merge *merge,
                                              const struct qr_merge_settings *settings);
struct qr_merge_settings qr_merge_settings(const struct qr_merge *merge);
/** Context: any. */
void qr_merge_stats(struct qr_merge *merge, struct qr_merge_stats *out_stats);
/** The index and what was seen; the machine is at rest. */
bool qr_merge_validate(struct qr_merge *merge, char *out_message, size_t bytes);

#endif
#endif
