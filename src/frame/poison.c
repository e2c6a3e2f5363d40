/* SPDX-License-Identifier: MIT */
/*
 * Poison: under CONFIG_MEMORY_DEBUGGING a freed frame is filled with a pattern that is
 * checked before the frame is given out again, so that a write through a stale pointer is
 * found, with its place and value.  Frames that were never freed carry none: filling
 * all memory at start would cost a machine with much of it seconds.
 */
#include "frames.h"

#define POISON 0x5fee1dead5fee1deull

void
qr_poison_set(struct qr_frames *frames, struct qr_frame *head, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct qr_frame *frame = qr_frame_nth(frames, head, i);
        uint64_t *words = qr_port_window_open(qr_frame_pa(frames, frame));

        for (size_t w = 0; w < QR_PAGE_SIZE / sizeof(*words); w++)
            words[w] = POISON;
        qr_port_window_close(words);
        atomic_fetch_or_explicit(&frame->flags, FRAME_POISONED, memory_order_relaxed);
    }
}

/* The first word that is not the pattern, or SIZE_MAX. */
static size_t
poison_broken(struct qr_frames *frames, struct qr_frame *frame, uint64_t *out_word)
{
    uint64_t *words = qr_port_window_open(qr_frame_pa(frames, frame));
    size_t broken = SIZE_MAX;

    for (size_t w = 0; w < QR_PAGE_SIZE / sizeof(*words) && broken == SIZE_MAX; w++) {
        if (words[w] != POISON) {
            broken = w * sizeof(*words);
            *out_word = words[w];
        }
    }
    qr_port_window_close(words);
    return broken;
}

bool
qr_poison_intact(struct qr_frames *frames, struct qr_frame *frame)
{
    uint64_t word;

    return (atomic_load_explicit(&frame->flags, memory_order_relaxed) & FRAME_POISONED) == 0 ||
           poison_broken(frames, frame, &word) == SIZE_MAX;
}

void
qr_poison_check(struct qr_frames *frames, struct qr_frame *head, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct qr_frame *frame = qr_frame_nth(frames, head, i);
        uint64_t word = 0;
        size_t at;

        if ((atomic_load_explicit(&frame->flags, memory_order_relaxed) & FRAME_POISONED) == 0)
            continue;
        at = poison_broken(frames, frame, &word);
        if (at != SIZE_MAX)
            qr_panic(
                "frame 0x%zx was written to while it was free: offset 0x%zx holds 0x%llx; look "
                "for a mapping or pointer that outlived its frame",
                qr_frame_pfn(frames, frame).v, at, (unsigned long long)word);
        atomic_store_explicit(&frame->flags, QR_FRAME_FREE, memory_order_relaxed);
    }
}
