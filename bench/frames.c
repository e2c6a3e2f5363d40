/* SPDX-License-Identifier: MIT */
/*
 * The frame allocator's hot paths, one row a run:  frames ROW GIB
 *
 * bench/frames-heap runs every row under callgrind, which counts the instructions of the
 * measured_ function alone, and prints the table.  Peers: a linked list of free frames,
 * the floor of what any allocator costs, and a textbook buddy.
 */
#include "frames_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct qr_frames *frames;
static struct qr_frame **held;
static size_t held_count;

/* The loop around an operation is not what is measured. */
#define UNROLLED _Pragma("GCC unroll 8")

enum { BURST = 1024 };

/* ---- rows ---------------------------------------------------------------- */

MEASURED(lifo)(unsigned order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        qr_frame_free(frames, qr_frame_alloc_block(frames, order, 0));
}

static void
row_lifo(unsigned order)
{
    qr_frame_free(frames, qr_frame_alloc_block(frames, order, 0));
    measured_lifo(order, 100000);
    bench_operations(200000);
}

MEASURED(lifo_single)(size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        qr_frame_free(frames, qr_frame_alloc(frames, 0));
}

MEASURED(fill)(size_t count)
{
    struct qr_frames *machine = frames;
    struct qr_frame **out = held;

    UNROLLED
    for (size_t i = 0; i < count; i++)
        out[i] = qr_frame_alloc(machine, 0);
}

MEASURED(free_all)(size_t count)
{
    struct qr_frames *machine = frames;
    struct qr_frame **list = held;

    UNROLLED
    for (size_t i = 0; i < count; i++)
        qr_frame_free(machine, list[i]);
}

MEASURED(fill_many)(size_t count)
{
    for (size_t i = 0; i < count; i += 64)
        (void)qr_frame_alloc_many(frames, 64, held + i, 0);
}

MEASURED(free_many)(size_t count)
{
    for (size_t i = 0; i < count; i += 64)
        qr_frame_free_many(frames, 64, held + i);
}

/* Free and allocate bursts of random frames: the stack alone cannot serve that. */
MEASURED(churn)(size_t bursts, const uint32_t *victims)
{
    for (size_t b = 0; b < bursts; b++) {
        const uint32_t *at = victims + b * BURST;

        UNROLLED
        for (size_t i = 0; i < BURST; i++)
            qr_frame_free(frames, held[at[i]]);
        UNROLLED
        for (size_t i = 0; i < BURST; i++)
            held[at[i]] = qr_frame_alloc(frames, 0);
    }
}

static void
shuffle(void)
{
    for (size_t i = held_count; i > 1; i--) {
        size_t j = bench_random() % i;
        struct qr_frame *frame = held[i - 1];

        held[i - 1] = held[j];
        held[j] = frame;
    }
}

/* All memory allocated, then single frames freed at random until @permille remain in use. */
static void
occupy(size_t total, unsigned permille)
{
    struct qr_frames_stats stats;

    qr_frames_stats(frames, &stats); /* of what can be allocated at all */
    size_t keep = stats.total / 1000 * permille;

    while (held_count < total &&
           (held[held_count] = qr_frame_alloc(frames, QR_ALLOC_NO_REPORT)) != NULL)
        held_count++;
    shuffle();
    while (held_count > keep)
        qr_frame_free(frames, held[--held_count]);
}

static void
row_churn(size_t total, unsigned permille)
{
    enum { BURSTS = 200 };
    uint32_t *victims = malloc(BURSTS * BURST * sizeof(*victims));

    occupy(total, permille);
    /* Distinct within a burst: a run of consecutive places in a shuffled list. */
    for (size_t b = 0; b < BURSTS; b++) {
        size_t start = bench_random() % (held_count - BURST);

        for (size_t i = 0; i < BURST; i++)
            victims[b * BURST + i] = (uint32_t)(start + i);
    }
    measured_churn(BURSTS / 2, victims + BURSTS / 2 * BURST);
    bench_operations((uint64_t)BURSTS / 2 * BURST * 2);
}

MEASURED(fail)(unsigned order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        (void)qr_frame_alloc_block(frames, order, QR_ALLOC_NO_REPORT);
}

static void
row_fail(size_t total, unsigned order)
{
    while (held_count < total &&
           (held[held_count] = qr_frame_alloc(frames, QR_ALLOC_NO_REPORT)) != NULL)
        held_count++;
    (void)qr_frame_alloc_block(frames, order, QR_ALLOC_NO_REPORT);
    measured_fail(order, 10000);
    bench_operations(10000);
}

MEASURED(boot)(uint64_t bytes)
{
    frames = bench_boot(bytes, 4);
}

/* ---- peers --------------------------------------------------------------- */

/* The floor: a list of free frames, no lock, no check. */
static struct list_frame {
    struct list_frame *next;
} * list_free;

MEASURED(list_lifo)(size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++) {
        struct list_frame *frame = list_free;

        list_free = frame->next;
        __asm__ volatile("" : : "r"(frame) : "memory");
        frame->next = list_free;
        list_free = frame;
    }
}

/* The textbook: free lists by order, a bit that says which buddy is free, no lock. */
enum { BUDDY_ORDERS = 19 };
static struct buddy_node {
    struct buddy_node *next, *prev;
    int order; /* -1: not the head of a free block */
} * buddy_nodes, buddy_heads[BUDDY_ORDERS];

static void
buddy_list(struct buddy_node *node, int order)
{
    node->order = order;
    node->next = buddy_heads[order].next;
    node->prev = &buddy_heads[order];
    node->next->prev = node;
    node->prev->next = node;
}

static void
buddy_unlist(struct buddy_node *node)
{
    node->order = -1;
    node->next->prev = node->prev;
    node->prev->next = node->next;
}

static __attribute__((noinline)) struct buddy_node *
buddy_alloc(int want)
{
    int order = want;

    while (order < BUDDY_ORDERS && buddy_heads[order].next == &buddy_heads[order])
        order++;
    if (order == BUDDY_ORDERS)
        return NULL;
    struct buddy_node *node = buddy_heads[order].next;

    buddy_unlist(node);
    while (order > want) {
        order--;
        buddy_list(node + ((size_t)1 << order), order);
    }
    return node;
}

static __attribute__((noinline)) void
buddy_free(struct buddy_node *node, int order)
{
    size_t index = (size_t)(node - buddy_nodes);

    for (; order < BUDDY_ORDERS - 1; order++) {
        struct buddy_node *other = &buddy_nodes[index ^ (size_t)1 << order];

        if (other->order != order)
            break;
        buddy_unlist(other);
        index &= ~((size_t)1 << order);
    }
    buddy_list(&buddy_nodes[index], order);
}

static void
buddy_boot(size_t total)
{
    buddy_nodes = malloc((total + ((size_t)1 << (BUDDY_ORDERS - 1))) * sizeof(*buddy_nodes));
    for (int order = 0; order < BUDDY_ORDERS; order++)
        buddy_heads[order].next = buddy_heads[order].prev = &buddy_heads[order];
    for (size_t i = 0; i < total; i++)
        buddy_nodes[i].order = -1;
    for (size_t i = 0; i < total; i += (size_t)1 << (BUDDY_ORDERS - 1))
        buddy_list(&buddy_nodes[i], BUDDY_ORDERS - 1);
}

MEASURED(buddy_lifo)(int order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        buddy_free(buddy_alloc(order), order);
}

MEASURED(buddy_fill)(size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        held[i] = (struct qr_frame *)buddy_alloc(0);
}

MEASURED(buddy_free_all)(size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        buddy_free((struct buddy_node *)held[i], 0);
}

/* ---- which row ----------------------------------------------------------- */

static int
peer_row(const char *row, size_t total)
{
    static struct list_frame frame;

    if (strcmp(row, "list_lifo") == 0) {
        list_free = &frame;
        measured_list_lifo(100000);
        bench_operations(200000);
        return 0;
    }
    buddy_boot(total);
    if (strcmp(row, "buddy_lifo") == 0 || strcmp(row, "buddy_lifo_9") == 0) {
        measured_buddy_lifo(row[10] == '_' ? 9 : 0, 100000);
        bench_operations(200000);
    } else if (strcmp(row, "buddy_fill") == 0) {
        measured_buddy_fill(total);
        bench_operations(total);
    } else if (strcmp(row, "buddy_free") == 0) {
        for (size_t i = 0; i < total; i++)
            held[i] = (struct qr_frame *)buddy_alloc(0);
        measured_buddy_free_all(total);
        bench_operations(total);
    } else {
        return 1;
    }
    return 0;
}

int
main(int argc, char **argv)
{
    const char *row = argc > 1 ? argv[1] : "";
    uint64_t bytes = (argc > 2 ? strtoull(argv[2], NULL, 0) : 4) * BENCH_GIB;
    size_t total = bytes / QR_PAGE_SIZE;
    size_t some = total / 2 & ~(size_t)63;
    uint64_t start;

    held = calloc(total, sizeof(*held));
    if (strcmp(row, "boot") == 0) {
        start = bench_now_ns();
        measured_boot(bytes);
        fprintf(stderr, "boot of %llu GiB: %llu us\n", (unsigned long long)(bytes / BENCH_GIB),
                (unsigned long long)(bench_now_ns() - start) / 1000);
        bench_operations(1);
        return 0;
    }
    if (strncmp(row, "list_", 5) == 0 || strncmp(row, "buddy_", 6) == 0)
        return peer_row(row, total);

    frames = bench_boot(bytes, 4);
    if (strcmp(row, "lifo") == 0) {
        qr_frame_free(frames, qr_frame_alloc(frames, 0));
        measured_lifo_single(100000);
        bench_operations(200000);
    } else if (strncmp(row, "lifo_", 5) == 0) {
        row_lifo((unsigned)atoi(row + 5));
    } else if (strcmp(row, "fill") == 0) {
        measured_fill(some);
        bench_operations(some);
    } else if (strcmp(row, "refill") == 0) { /* descriptors written before */
        while (held_count < total &&
               (held[held_count] = qr_frame_alloc(frames, QR_ALLOC_NO_REPORT)) != NULL)
            held_count++;
        while (held_count > 0)
            qr_frame_free(frames, held[--held_count]);
        measured_fill(some);
        bench_operations(some);
    } else if (strcmp(row, "free") == 0) {
        for (size_t i = 0; i < some; i++)
            held[i] = qr_frame_alloc(frames, 0);
        measured_free_all(some);
        bench_operations(some);
    } else if (strcmp(row, "free_random") == 0) {
        for (held_count = 0; held_count < some; held_count++)
            held[held_count] = qr_frame_alloc(frames, 0);
        shuffle();
        measured_free_all(some);
        bench_operations(some);
    } else if (strcmp(row, "fill_many") == 0) {
        for (size_t i = 0; i < some; i++)
            held[i] = qr_frame_alloc(frames, 0);
        qr_frame_free_many(frames, some, held);
        measured_fill_many(some);
        bench_operations(some);
    } else if (strcmp(row, "free_many") == 0) {
        for (size_t i = 0; i < some; i += 64)
            (void)qr_frame_alloc_many(frames, 64, held + i, 0);
        measured_free_many(some);
        bench_operations(some);
    } else if (strncmp(row, "churn_", 6) == 0) {
        row_churn(total, (unsigned)atoi(row + 6));
    } else if (strncmp(row, "fail_", 5) == 0) {
        row_fail(total, (unsigned)atoi(row + 5));
    } else {
        fprintf(stderr, "no such row: %s\n", row);
        return 1;
    }
    return 0;
}
