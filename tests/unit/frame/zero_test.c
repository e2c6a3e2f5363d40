/* SPDX-License-Identifier: MIT */
/*
 * The zeroing policy of this build: what a frame holds when it comes, and when it
 * has gone.  The configurations that clear always are built and run by tools/run-tests.
 */
#include <string.h>

#include "harness.h"
#include "tests/unit/frame/test_port.h"

#define DIRT 0xa5

/* What every byte of @count frames holds; -1: not all the same. */
static int
contents(struct qr_frames *frames, struct qr_frame *frame, size_t count)
{
    int byte = -2;

    for (size_t i = 0; i < count; i++) {
        unsigned char *page = qr_port_window_open(qr_frame_pa(frames, frame + i));

        for (size_t at = 0; at < QR_PAGE_SIZE; at++) {
            if (byte == -2)
                byte = page[at];
            if (page[at] != byte)
                byte = -1;
        }
        qr_port_window_close(page);
    }
    return byte;
}

static void
soil(struct qr_frames *frames, struct qr_frame *frame, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        unsigned char *page = qr_port_window_open(qr_frame_pa(frames, frame + i));

        memset(page, DIRT, QR_PAGE_SIZE);
        qr_port_window_close(page);
    }
}

/* The byte at @offset of the block @head, which becomes @byte. */
static unsigned char
exchange(struct qr_frames *frames, struct qr_frame *head, size_t offset, unsigned char byte)
{
    unsigned char *at = qr_port_window_open(qr_pa_of(qr_frame_pa(frames, head).v + offset));
    unsigned char old = *at;

    *at = byte;
    qr_port_window_close(at);
    return old;
}

enum how { ONE, MOVABLE, BLOCK, LARGE, MANY, CONTIGUOUS, HOW_COUNT };

static struct qr_frame *
take(struct qr_frames *frames, enum how how, unsigned flags, size_t *out_count)
{
    struct qr_contiguous_request request = {.count = 5, .alloc_flags = flags};
    struct qr_frame *frame = NULL;

    *out_count = 1;
    switch (how) {
    case MOVABLE:
        return qr_frame_alloc(frames, flags | QR_ALLOC_MOVABLE);
    case BLOCK:
        *out_count = 8;
        return qr_frame_alloc_block(frames, 3, flags);
    case LARGE:
        *out_count = 512;
        return qr_frame_alloc_block(frames, 9, flags);
    case MANY:
        (void)qr_frame_alloc_many(frames, 1, &frame, flags);
        return frame;
    case CONTIGUOUS:
        *out_count = 5;
        return qr_frame_alloc_contiguous(frames, &request);
    default:
        return qr_frame_alloc(frames, flags);
    }
}

static void
give(struct qr_frames *frames, enum how how, struct qr_frame *frame, size_t count)
{
    for (size_t i = 0; i < (how == CONTIGUOUS ? count : 1); i++)
        qr_frame_free(frames, frame + i);
}

TEST(zero, frames_hold_what_the_policy_says)
{
    struct machine *machine =
        machine_boot((struct machine_options){.start = 16 * MIB, .bytes = 16 * MIB, .cpus = 1});

    for (enum how how = ONE; how < HOW_COUNT; how++) {
        size_t count;
        struct qr_frame *frame = take(machine->frames, how, 0, &count);

        ASSERT_NOT_NULL(frame);
        soil(machine->frames, frame, count);
        give(machine->frames, how, frame, count);
#if defined(CONFIG_ZERO_ON_FREE) && !defined(CONFIG_MEMORY_DEBUGGING)
        EXPECT_EQ(contents(machine->frames, frame, count), 0);
#endif
        frame = take(machine->frames, how, QR_ALLOC_ZERO, &count);
        ASSERT_NOT_NULL(frame);
        EXPECT_EQ(contents(machine->frames, frame, count), 0);
        soil(machine->frames, frame, count);
        give(machine->frames, how, frame, count);
        frame = take(machine->frames, how, 0, &count);
        ASSERT_NOT_NULL(frame);
#if defined(CONFIG_ZERO_ON_ALLOC)
        EXPECT_EQ(contents(machine->frames, frame, count), 0);
#elif !defined(CONFIG_ZERO_ON_FREE)
        /* Nobody asked: the last in, first out, comes as it went, or poisoned. */
        if (how == ONE)
            EXPECT_NE(contents(machine->frames, frame, count), 0);
#endif
        give(machine->frames, how, frame, count);
    }
    machine_shutdown(machine);
}

/* A block larger than a section, whose descriptors lie in two places. */
TEST(zero, blocks_of_several_sections_are_cleared_whole)
{
    enum { ORDER = 28 - QR_PAGE_SHIFT, LOOKS = 8 };
    struct machine *machine =
        machine_boot((struct machine_options){.start = 256 * MIB, .bytes = 768 * MIB, .cpus = 1});
    struct qr_frame *blocks[2];

    for (size_t i = 0; i < 2; i++) {
        blocks[i] = qr_frame_alloc_block(machine->frames, ORDER, 0);
        ASSERT_NOT_NULL(blocks[i]);
        for (size_t look = 0; look < LOOKS; look++)
            (void)exchange(machine->frames, blocks[i], look * 32 * MIB + look, DIRT);
    }
    for (size_t i = 0; i < 2; i++)
        qr_frame_free(machine->frames, blocks[i]);
    struct qr_frame *frame = qr_frame_alloc_block(machine->frames, ORDER, QR_ALLOC_ZERO);

    ASSERT_NOT_NULL(frame);
    for (size_t look = 0; look < LOOKS; look++)
        EXPECT_EQ(exchange(machine->frames, frame, look * 32 * MIB + look, 0), 0);
    qr_frame_free(machine->frames, frame);
    machine_shutdown(machine);
}
