/* SPDX-License-Identifier: MIT */
/*
 * The page lock: a bit in the frame's flags, slept on through the port with the
 * whole word as the futex.  Other bits may change meanwhile; that only makes a
 * sleep return early, and the loop looks again.
 */
#include "objects.h"

#include <quire/assert.h>

bool
qr_page_try_lock(struct qr_frame *frame)
{
    uint32_t before =
        atomic_fetch_or_explicit(&frame->flags, QR_FRAME_LOCKED, memory_order_acquire);

    return (before & QR_FRAME_LOCKED) == 0;
}

void
qr_page_lock(struct qr_frame *frame)
{
    while (!qr_page_try_lock(frame)) {
        uint32_t flags =
            atomic_fetch_or_explicit(&frame->flags, QR_FRAME_WAITED, memory_order_relaxed) |
            QR_FRAME_WAITED;

        if ((flags & QR_FRAME_LOCKED) != 0)
            qr_port_wait(&frame->flags, flags);
    }
}

void
qr_page_unlock(struct qr_frame *frame)
{
    uint32_t before = atomic_fetch_and_explicit(
        &frame->flags, ~(uint32_t)(QR_FRAME_LOCKED | QR_FRAME_WAITED), memory_order_release);

    qr_assert((before & QR_FRAME_LOCKED) != 0);
    if ((before & QR_FRAME_WAITED) != 0)
        qr_port_wake(&frame->flags, UINT32_MAX);
}
