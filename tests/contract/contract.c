/* SPDX-License-Identifier: MIT */
/*
 * What surrounds each contract test: the count of free frames before and after,
 * with every cache drained and every deferred release done, and the validators.
 */
#include "contract.h"

/* Let every deferred release happen. */
static void
settle(const struct contract_machine *machine)
{
    enum { TRIES = 1000 };

    for (size_t i = 0; i < TRIES && machine->epoch != NULL; i++) {
        if (!qr_epoch_collect(machine->epoch)) {
            break;
        }
    }
}

/* Frames that nobody but the heap's own stock holds. */
static size_t
idle_frames(const struct contract_machine *machine)
{
    struct qr_frames_stats stats;
    struct qr_heap_stats heap;

    settle(machine);
    qr_frames_drain(machine->frames);
    qr_frames_stats(machine->frames, &stats);
    qr_heap_stats(machine->heap, &heap);
    return stats.free + heap.frames;
}

static bool
begins_with(const char *text, const char *start)
{
    while (*start != '\0' && *text == *start) {
        text++;
        start++;
    }
    return *start == '\0';
}

/* Objects in use, but for the caches in which the heap keeps its own books. */
static size_t
heap_objects(const struct contract_machine *machine)
{
    struct qr_cache_stats stats;
    size_t objects = 0;

    for (size_t i = 0; qr_heap_cache_stats(machine->heap, i, &stats); i++) {
        if (!begins_with(stats.name, "slab-records") && !begins_with(stats.name, "magazine")) {
            objects += stats.active_objects;
        }
    }
    return objects;
}

static void
expect_valid(const struct contract_machine *machine)
{
    char message[256] = "";

    if (!qr_frames_validate(machine->frames, message, sizeof(message))) {
        TEST_FAIL("frames: %s", message);
    }
    if (!qr_heap_validate(machine->heap, message, sizeof(message))) {
        TEST_FAIL("heap: %s", message);
    }
    if (machine->vm != NULL && !qr_vm_validate(machine->vm, message, sizeof(message))) {
        TEST_FAIL("spaces: %s", message);
    }
}

void
contract_run(void (*body)(const struct contract_machine *machine))
{
    const struct contract_machine *machine = contract_machine_begin();

    size_t frames_before = idle_frames(machine);
    size_t objects_before = heap_objects(machine);

    body(machine);
    expect_valid(machine);
    EXPECT_EQ(idle_frames(machine), frames_before);
    EXPECT_EQ(heap_objects(machine), objects_before);
    contract_machine_end();
}

/* ---- Contents of frames -------------------------------------------------- */

enum { WORDS = QR_PAGE_SIZE / sizeof(uint64_t) };

void
contract_frame_fill(const struct contract_machine *machine, struct qr_frame *frame, uint64_t seed)
{
    uint64_t *words = qr_port_window_open(qr_frame_pa(machine->frames, frame));

    for (size_t i = 0; i < WORDS; i++) {
        words[i] = test_random(&seed);
    }
    qr_port_window_close(words);
}

bool
contract_frame_holds(const struct contract_machine *machine, struct qr_frame *frame, uint64_t seed)
{
    uint64_t *words = qr_port_window_open(qr_frame_pa(machine->frames, frame));
    bool same = true;

    for (size_t i = 0; i < WORDS && same; i++) {
        same = words[i] == test_random(&seed);
    }
    qr_port_window_close(words);
    return same;
}

bool
contract_frame_is_zero(const struct contract_machine *machine, struct qr_frame *frame)
{
    uint64_t *words = qr_port_window_open(qr_frame_pa(machine->frames, frame));
    uint64_t any = 0;

    for (size_t i = 0; i < WORDS; i++) {
        any |= words[i];
    }
    qr_port_window_close(words);
    return any == 0;
}
