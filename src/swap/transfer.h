/* SPDX-License-Identifier: MIT */
#ifndef QR_SWAP_TRANSFER_H
#define QR_SWAP_TRANSFER_H

/* What moves frames into the cache and out of it; cache.c. */

#include "swap.h"

/* @frame, of type SWAP, is @page's: the cache has a reference of the caller's from now on.  A. */
void qr_slot_cache(struct qr_swap *swap, struct area *area, size_t page, struct qr_frame *frame);
/* It is so no more, and the reference is the caller's.  No I/O is under way.  A. */
struct qr_frame *qr_slot_uncache(struct qr_swap *swap, struct area *area, struct slot *slot);
/* Nobody names @page: free it, unless I/O is under way, whose end does that.
 * @return its frame, whose reference is the caller's, or NULL.  A. */
struct qr_frame *qr_slot_drop_unused(struct qr_swap *swap, struct area *area, size_t page);

#endif
