/* SPDX-License-Identifier: MIT */
/*
 * The contents of frames.  Every access goes through a window: the direct map on 64-bit
 * hosts, where opening one is an addition and closing it nothing.
 */
#include "frames.h"

void
qr_frame_clear(struct qr_frames *frames, struct qr_frame *frame)
{
    void *page = qr_port_window_open(qr_frame_pa(frames, frame));

    __builtin_memset(page, 0, QR_PAGE_SIZE);
    qr_port_window_close(page);
}

void
qr_frame_copy(struct qr_frames *frames, struct qr_frame *to, struct qr_frame *from)
{
    void *target = qr_port_window_open(qr_frame_pa(frames, to));
    void *source = qr_port_window_open(qr_frame_pa(frames, from));

    __builtin_memcpy(target, source, QR_PAGE_SIZE);
    qr_port_window_close(source);
    qr_port_window_close(target);
}

bool
qr_frame_is_high(const struct qr_frames *frames, const struct qr_frame *frame)
{
    return frames->direct_limit != 0 && qr_frame_pa(frames, frame).v >= frames->direct_limit;
}
