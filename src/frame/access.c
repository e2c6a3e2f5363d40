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

#define HASH_LANES 4

static inline uint64_t
hash_mix(uint64_t lane, uint64_t word)
{
    lane = (lane ^ word) * 0x9e3779b97f4a7c15u;
    return lane << 29 | lane >> 35;
}

/*
 * Independent lanes, so that one multiplication need not wait for the one before it.  Each step
 * is one-to-one: pages that differ in one word never have the same number.
 */
uint64_t
qr_frame_hash(struct qr_frames *frames, const struct qr_frame *frame)
{
    void *page = qr_port_window_open(qr_frame_pa(frames, frame));
    _Atomic uintptr_t *word = page;
    uint64_t lane[HASH_LANES] = {1, 2, 3, 4};
    uint64_t hash = 0;

    for (size_t i = 0; i < QR_PAGE_SIZE / sizeof(*word); i += HASH_LANES) {
        for (unsigned j = 0; j < HASH_LANES; j++)
            lane[j] = hash_mix(lane[j], atomic_load_explicit(&word[i + j], memory_order_relaxed));
    }
    qr_port_window_close(page);
    for (unsigned j = 0; j < HASH_LANES; j++)
        hash = hash_mix(hash, lane[j]);
    return hash ^ hash >> 32;
}

bool
qr_frame_equal(struct qr_frames *frames, const struct qr_frame *a, const struct qr_frame *b)
{
    void *left = qr_port_window_open(qr_frame_pa(frames, a));
    void *right = qr_port_window_open(qr_frame_pa(frames, b));
    const uintptr_t *l = left, *r = right;
    size_t i = 0;

    while (i < QR_PAGE_SIZE / sizeof(*l) && l[i] == r[i])
        i++;
    qr_port_window_close(right);
    qr_port_window_close(left);
    return i == QR_PAGE_SIZE / sizeof(*l);
}

bool
qr_frame_is_high(const struct qr_frames *frames, const struct qr_frame *frame)
{
    return frames->direct_limit != 0 && qr_frame_pa(frames, frame).v >= frames->direct_limit;
}
