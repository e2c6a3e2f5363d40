/* SPDX-License-Identifier: MIT */
#ifndef QR_RECLAIM_MIGRATE_H
#define QR_RECLAIM_MIGRATE_H

#include <quire/reclaim.h>

/* As qr_frame_migrate() for a frame that is known to be mapped at @va of @space. */
QR_MUST_USE enum qr_status qr_page_migrate(struct qr_space *space, qr_va va, struct qr_frame *frame,
                                           struct qr_frame *target);

#endif
