/* SPDX-License-Identifier: MIT */
#ifndef QR_RECLAIM_MIGRATE_H
#define QR_RECLAIM_MIGRATE_H

#include <quire/reclaim.h>

/* As qr_frame_migrate() for a frame that is known to be mapped at @va of @space, whose lock the
 * caller does not hold. */
QR_MUST_USE enum qr_status qr_page_migrate(struct qr_space *space, qr_va va, struct qr_frame *frame,
                                           struct qr_frame *target);

/* The same, but @frame is then the caller's, with its one reference. */
QR_MUST_USE enum qr_status qr_page_replace(struct qr_space *space, qr_va va, struct qr_frame *frame,
                                           struct qr_frame *target);

/*
 * The entry at @va of @region, which has @frame alone, becomes a mark of poison.  @frame is then
 * the caller's.  @return QR_ERR_BUSY it is not alone, or not a private page
 */
QR_MUST_USE enum qr_status qr_page_poison(const struct qr_region *region, qr_va va,
                                          struct qr_frame *frame);

/*
 * The same for a page that several spaces have at @va since a fork, in each of them.  Nothing is locked,
 * or spaces for reading.  @return QR_ERR_BUSY one of them has moved it, or somebody reads it: mostly before
 * anything has changed.  Who comes while entries are taken out makes it late: entries found until then are poisoned,
 * as Linux leaves them where a failed page turns out to be held by somebody.  @frame is not the caller's then
 */
QR_MUST_USE enum qr_status qr_page_poison_shared(struct qr_vm *vm, qr_va va,
                                                 struct qr_frame *frame);

/* Where nothing stands at @va: who touches it is told that it is poisoned.  Nothing is locked. */
void qr_page_mark_poison(struct qr_space *space, qr_va va);

/* Most pages that move together: no more than 64 KiB are copied while their table is locked. */
#define QR_MOVE_RUN (QR_PAGE_SIZE > 32768 ? 1u : 65536u / QR_PAGE_SIZE)

struct qr_move {
    struct qr_frame *frame, *target;
    bool moved;
};

/*
 * As qr_frame_migrate() for @count frames, all of which are believed to be @moves[0].frame's
 * owner's alone, in neighbouring pages of one run of QR_MOVE_RUN: they are flushed together.  Says
 * of each whether it moved; of the others nothing changed.  @return how many
 */
unsigned qr_pages_migrate(struct qr_vm *vm, struct qr_move *moves, unsigned count);

#endif
