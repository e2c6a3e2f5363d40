/* SPDX-License-Identifier: MIT */
/* Frames: each is given once, whole, aligned, with the contents that were asked for. */
#include "contract.h"

enum { MANY = 96 };

CONTRACT(frame, single_frames_are_distinct_and_found_by_number)
{
    struct qr_frame *frames[MANY];

    for (size_t i = 0; i < MANY; i++) {
        frames[i] = qr_frame_alloc(machine->frames, 0);
        ASSERT_NOT_NULL(frames[i]);
        EXPECT_EQ(atomic_load(&frames[i]->refs), 1);
        EXPECT_TRUE(qr_frame_find(machine->frames, qr_frame_pfn(machine->frames, frames[i])) ==
                    frames[i]);
        contract_frame_fill(machine, frames[i], i);
    }
    for (size_t i = 0; i < MANY; i++) {
        EXPECT_TRUE(contract_frame_holds(machine, frames[i], i));
        qr_frame_free(machine->frames, frames[i]);
    }
}

CONTRACT(frame, a_cleared_frame_is_clear_whoever_had_it_before)
{
    struct qr_frame *frames[MANY];

    for (size_t i = 0; i < MANY; i++) {
        frames[i] = qr_frame_alloc(machine->frames, 0);
        ASSERT_NOT_NULL(frames[i]);
        contract_frame_fill(machine, frames[i], i + 1);
    }
    qr_frame_free_many(machine->frames, MANY, frames);
    for (size_t i = 0; i < MANY; i++) {
        frames[i] = qr_frame_alloc(machine->frames, QR_ALLOC_ZERO);
        ASSERT_NOT_NULL(frames[i]);
        EXPECT_TRUE(contract_frame_is_zero(machine, frames[i]));
    }
    qr_frame_free_many(machine->frames, MANY, frames);
}

CONTRACT(frame, blocks_are_aligned_to_their_size)
{
    for (unsigned order = 0; order <= 8; order++) {
        struct qr_frame *head = qr_frame_alloc_block(machine->frames, order, 0);

        ASSERT_NOT_NULL(head);
        EXPECT_EQ(qr_frame_pfn(machine->frames, head).v & (((size_t)1 << order) - 1), 0);
        qr_frame_free(machine->frames, head);
    }
}

CONTRACT(frame, a_split_block_is_freed_frame_by_frame)
{
    struct qr_frame *head = qr_frame_alloc_block(machine->frames, 3, 0);
    size_t first;

    ASSERT_NOT_NULL(head);
    first = qr_frame_pfn(machine->frames, head).v;
    qr_frame_split_block(machine->frames, head);
    for (size_t i = 8; i-- > 0;) {
        struct qr_frame *frame = qr_frame_of(machine->frames, qr_pfn_of(first + i));

        EXPECT_EQ(atomic_load(&frame->refs), 1);
        qr_frame_put(machine->frames, frame);
    }
}

CONTRACT(frame, a_contiguous_run_lies_side_by_side)
{
    struct qr_contiguous_request request = {.count = 37, .align_frames = 4};
    struct qr_frame *first = qr_frame_alloc_contiguous(machine->frames, &request);
    size_t start;

    ASSERT_NOT_NULL(first);
    start = qr_frame_pfn(machine->frames, first).v;
    EXPECT_EQ(start % 4, 0);
    for (size_t i = 0; i < request.count; i++) {
        contract_frame_fill(machine, qr_frame_of(machine->frames, qr_pfn_of(start + i)), i);
    }
    for (size_t i = 0; i < request.count; i++) {
        struct qr_frame *frame = qr_frame_of(machine->frames, qr_pfn_of(start + i));

        EXPECT_TRUE(contract_frame_holds(machine, frame, i));
        qr_frame_free(machine->frames, frame);
    }
}

CONTRACT(frame, the_last_reference_frees)
{
    struct qr_frame *frame = qr_frame_alloc(machine->frames, 0);

    ASSERT_NOT_NULL(frame);
    qr_frame_get(frame);
    qr_frame_put(machine->frames, frame);
    EXPECT_EQ(atomic_load(&frame->refs), 1);
    EXPECT_TRUE(qr_frame_try_get(frame));
    qr_frame_put(machine->frames, frame);
    qr_frame_put(machine->frames, frame);
    EXPECT_FALSE(qr_frame_try_get(frame));
}

/* Blocks of random orders come and go; no two live ones may ever share a byte. */
CONTRACT(frame, live_blocks_never_overlap)
{
    enum { SLOTS = 24, STEPS = 600 };
    struct qr_frame *held[SLOTS] = {NULL};
    uint64_t seeds[SLOTS] = {0};
    unsigned orders[SLOTS] = {0};
    uint64_t random = test_seed();

    for (size_t step = 0; step < STEPS + SLOTS; step++) {
        size_t i = step < STEPS ? test_random(&random) % SLOTS : step - STEPS;

        if (held[i] != NULL) {
            size_t start = qr_frame_pfn(machine->frames, held[i]).v;

            for (size_t k = 0; k < (size_t)1 << orders[i]; k++) {
                struct qr_frame *frame = qr_frame_of(machine->frames, qr_pfn_of(start + k));

                ASSERT_TRUE(contract_frame_holds(machine, frame, seeds[i] + k));
            }
            qr_frame_free(machine->frames, held[i]);
            held[i] = NULL;
        } else if (step < STEPS) {
            orders[i] = (unsigned)(test_random(&random) % 4);
            seeds[i] = test_random(&random);
            held[i] = qr_frame_alloc_block(machine->frames, orders[i], 0);
            ASSERT_NOT_NULL(held[i]);
            size_t start = qr_frame_pfn(machine->frames, held[i]).v;

            for (size_t k = 0; k < (size_t)1 << orders[i]; k++) {
                struct qr_frame *frame = qr_frame_of(machine->frames, qr_pfn_of(start + k));

                contract_frame_fill(machine, frame, seeds[i] + k);
            }
        }
    }
}
