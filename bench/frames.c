/* SPDX-License-Identifier: MIT */
/*
 * The frame allocator's hot paths, one row a run:  frames ROW quire|list|buddy GIB [CPUS]
 *
 * bench/frames-heap runs every row, under callgrind too, which counts the instructions of the
 * measured_ function alone, and prints the table.  Peers: a linked list of free frames,
 * the floor of what any allocator costs, and a textbook buddy; neither has a lock or a check.
 */
#include "frames_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct qr_frames *frames;
static void **held;
static size_t held_count;
static uint64_t started;

/* The loop around an operation is not what is measured. */
#define UNROLLED _Pragma("GCC unroll 8")

enum { BURST = 1024, BURSTS = 100 };

static unsigned cpu_count = 4;

static void
measure_start(void)
{
    started = bench_now_ns();
}

static void
measure_end(uint64_t operations)
{
    uint64_t ns = bench_now_ns() - started;

    bench_operations(operations);
    printf("PICOSECONDS %llu\n", (unsigned long long)(ns * 1000 / operations));
}

/* ---- the list ------------------------------------------------------------- */

struct list_frame {
    struct list_frame *next;
};
static struct list_frame *list_free, *list_frames;

static __attribute__((noinline)) void *
list_alloc(void)
{
    struct list_frame *frame = list_free;

    if (frame != NULL)
        list_free = frame->next;
    return frame;
}

static __attribute__((noinline)) void
list_give(void *frame)
{
    ((struct list_frame *)frame)->next = list_free;
    list_free = frame;
}

/* ---- the buddy ------------------------------------------------------------- */

/* The textbook: free lists by order, a field that says which buddy is free. */
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
buddy_give(struct buddy_node *node, int order)
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

/* ---- measured loops, the same for each ---------------------------------------- */

#define PEER(NAME, ALLOC, ONE, GIVE)                                \
    MEASURED(NAME##_lifo)(struct qr_frames * machine, size_t count) \
    {                                                               \
        (void)machine;                                              \
        UNROLLED                                                    \
        for (size_t i = 0; i < count; i++)                          \
            GIVE(ALLOC);                                            \
    }                                                               \
    MEASURED(NAME##_fill)(struct qr_frames * machine, size_t count) \
    {                                                               \
        void **out = held;                                          \
                                                                    \
        (void)machine;                                              \
        UNROLLED                                                    \
        for (size_t i = 0; i < count; i++)                          \
            out[i] = ALLOC;                                         \
    }                                                               \
    MEASURED(NAME##_free)(struct qr_frames * machine, size_t count) \
    {                                                               \
        void **list = held;                                         \
                                                                    \
        (void)machine;                                              \
        UNROLLED                                                    \
        for (size_t i = 0; i < count; i++)                          \
            GIVE(list[i]);                                          \
    }                                                               \
    MEASURED(NAME##_burst)(struct qr_frames * machine, void **at)   \
    {                                                               \
        (void)machine;                                              \
        UNROLLED                                                    \
        for (size_t i = 0; i < BURST; i++)                          \
            GIVE(at[i]);                                            \
        UNROLLED                                                    \
        for (size_t i = 0; i < BURST; i++)                          \
            at[i] = ALLOC;                                          \
    }                                                               \
    static void *NAME##_one(void)                                   \
    {                                                               \
        struct qr_frames *machine = frames;                         \
                                                                    \
        (void)machine;                                              \
        return ONE;                                                 \
    }                                                               \
    static void NAME##_back(void *frame)                            \
    {                                                               \
        struct qr_frames *machine = frames;                         \
                                                                    \
        (void)machine;                                              \
        GIVE(frame);                                                \
    }

#define QUIRE_GIVE(frame) qr_frame_free(machine, frame)
PEER(quire, qr_frame_alloc(machine, 0), qr_frame_alloc(machine, QR_ALLOC_NO_REPORT), QUIRE_GIVE)
PEER(movable, qr_frame_alloc(machine, QR_ALLOC_MOVABLE),
     qr_frame_alloc(machine, QR_ALLOC_MOVABLE | QR_ALLOC_NO_REPORT), QUIRE_GIVE)
#define LIST_GIVE(frame) list_give(frame)
PEER(list, list_alloc(), list_alloc(), LIST_GIVE)
#define BUDDY_GIVE(frame) buddy_give((struct buddy_node *)(frame), 0)
PEER(buddy, buddy_alloc(0), buddy_alloc(0), BUDDY_GIVE)

struct peer {
    const char *name;
    void (*lifo)(struct qr_frames *machine, size_t count);
    void (*fill)(struct qr_frames *machine, size_t count);
    void (*free)(struct qr_frames *machine, size_t count);
    void (*burst)(struct qr_frames *machine, void **at);
    void *(*one)(void);
    void (*back)(void *frame);
};
#define PEER_ROW(NAME)                                                                 \
    {                                                                                  \
#NAME, measured_##NAME##_lifo, measured_##NAME##_fill, measured_##NAME##_free, \
            measured_##NAME##_burst, NAME##_one, NAME##_back                           \
    }
static const struct peer peers[] = {PEER_ROW(quire), PEER_ROW(movable), PEER_ROW(list),
                                    PEER_ROW(buddy)};

/* Quire's own: whole blocks, batches, requests that fail. */

MEASURED(quire_lifo_order)(struct qr_frames *machine, unsigned order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        qr_frame_free(machine, qr_frame_alloc_block(machine, order, 0));
}

MEASURED(quire_fill_many)(struct qr_frames *machine, size_t count)
{
    for (size_t i = 0; i < count; i += 64)
        (void)qr_frame_alloc_many(machine, 64, (struct qr_frame **)held + i, 0);
}

MEASURED(quire_free_many)(struct qr_frames *machine, size_t count)
{
    for (size_t i = 0; i < count; i += 64)
        qr_frame_free_many(machine, 64, (struct qr_frame **)held + i);
}

MEASURED(quire_fail)(struct qr_frames *machine, unsigned order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        (void)qr_frame_alloc_block(machine, order, QR_ALLOC_NO_REPORT);
}

MEASURED(buddy_lifo_order)(int order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        buddy_give(buddy_alloc(order), order);
}

MEASURED(buddy_fail)(int order, size_t count)
{
    UNROLLED
    for (size_t i = 0; i < count; i++)
        (void)buddy_alloc(order);
}

MEASURED(boot)(uint64_t bytes)
{
    frames = bench_boot(bytes, 4);
}

/* ---- set-up -------------------------------------------------------------------- */

static void
peer_boot(const char *name, size_t total)
{
    if (strcmp(name, "list") == 0) {
        list_frames = malloc(total * sizeof(*list_frames));
        for (size_t i = total; i-- > 0;)
            list_give(&list_frames[i]);
    } else if (strcmp(name, "buddy") == 0) {
        size_t largest = (size_t)1 << (BUDDY_ORDERS - 1);

        buddy_nodes = malloc((total + largest) * sizeof(*buddy_nodes));
        for (int order = 0; order < BUDDY_ORDERS; order++)
            buddy_heads[order].next = buddy_heads[order].prev = &buddy_heads[order];
        for (size_t i = 0; i < total + largest; i++)
            buddy_nodes[i].order = -1;
        for (size_t i = 0; i + largest <= total; i += largest)
            buddy_list(&buddy_nodes[i], BUDDY_ORDERS - 1);
    } else {
        frames = bench_boot(total * QR_PAGE_SIZE, cpu_count);
    }
}

static void
take_all(const struct peer *peer, size_t total)
{
    while (held_count < total && (held[held_count] = peer->one()) != NULL)
        held_count++;
}

static void
shuffle(void)
{
    for (size_t i = held_count; i > 1; i--) {
        size_t j = bench_random() % i;
        void *frame = held[i - 1];

        held[i - 1] = held[j];
        held[j] = frame;
    }
}

/* All memory allocated, then single frames freed at random until @permille remain in use. */
static void
row_churn(const struct peer *peer, size_t total, unsigned permille)
{
    struct qr_frames_stats stats = {.total = total};
    size_t keep;

    take_all(peer, total);
    shuffle();
    if (frames != NULL)
        qr_frames_stats(frames, &stats); /* of what can be allocated at all */
    keep = stats.total / 1000 * permille;
    while (held_count > keep)
        peer->back(held[--held_count]);
    /* A run of neighbours in a shuffled list: distinct, and random frames. */
    for (size_t b = 0; b < BURSTS; b++)
        peer->burst(frames, held + bench_random() % (held_count - BURST));
    measure_start();
    for (size_t b = 0; b < BURSTS; b++)
        peer->burst(frames, held + bench_random() % (held_count - BURST));
    measure_end((uint64_t)BURSTS * BURST * 2);
    bench_operations((uint64_t)BURSTS * BURST * 4); /* for callgrind, which sees all bursts */
}

static int
row_run(const char *row, const struct peer *peer, size_t total)
{
    size_t some = total / 2 & ~(size_t)63;
    bool quire = frames != NULL;

    if (strcmp(row, "lifo") == 0) {
        peer->back(peer->one());
        measure_start();
        peer->lifo(frames, 100000);
        measure_end(200000);
    } else if (strcmp(row, "first_fill") == 0) {
        measure_start();
        peer->fill(frames, some);
        measure_end(some);
    } else if (strcmp(row, "fill") == 0) { /* descriptors written before */
        take_all(peer, total);
        while (held_count > 0)
            peer->back(held[--held_count]);
        measure_start();
        peer->fill(frames, some);
        measure_end(some);
    } else if (strcmp(row, "free") == 0 || strcmp(row, "free_random") == 0) {
        take_all(peer, some);
        if (strcmp(row, "free") != 0)
            shuffle();
        measure_start();
        peer->free(frames, some);
        measure_end(some);
    } else if (strncmp(row, "churn_", 6) == 0) {
        row_churn(peer, total, (unsigned)atoi(row + 6));
    } else if (strncmp(row, "lifo_", 5) == 0) {
        int order = atoi(row + 5);

        if (quire)
            qr_frame_free(frames, qr_frame_alloc_block(frames, (unsigned)order, 0));
        measure_start();
        if (quire)
            measured_quire_lifo_order(frames, (unsigned)order, 100000);
        else
            measured_buddy_lifo_order(order, 100000);
        measure_end(200000);
    } else if (strncmp(row, "fail_", 5) == 0) {
        int order = atoi(row + 5);

        if (quire) {
            while (held_count < total &&
                   (held[held_count] = qr_frame_alloc(frames, QR_ALLOC_NO_REPORT)) != NULL)
                held_count++;
            (void)qr_frame_alloc_block(frames, (unsigned)order, QR_ALLOC_NO_REPORT);
        } else {
            take_all(peer, total);
        }
        measure_start();
        if (quire)
            measured_quire_fail(frames, (unsigned)order, 10000);
        else
            measured_buddy_fail(order, 10000);
        measure_end(10000);
    } else if (strcmp(row, "fill_many") == 0 && quire) {
        take_all(peer, total);
        while (held_count > 0)
            peer->back(held[--held_count]);
        measure_start();
        measured_quire_fill_many(frames, some);
        measure_end(some);
    } else if (strcmp(row, "free_many") == 0 && quire) {
        measured_quire_fill_many(frames, 0);
        for (size_t i = 0; i < some; i += 64)
            (void)qr_frame_alloc_many(frames, 64, (struct qr_frame **)held + i, 0);
        measure_start();
        measured_quire_free_many(frames, some);
        measure_end(some);
    } else {
        return 1;
    }
    return 0;
}

/* Bytes of metadata a frame, descriptors aside, in thousandths. */
static void
row_metadata(void)
{
    struct qr_frames_stats stats;

    qr_frames_stats(frames, &stats);
    printf("MILLIBYTES %llu\n",
           (unsigned long long)((stats.metadata_bytes -
                                 (stats.total + stats.reserved) * sizeof(struct qr_frame)) *
                                1000 / (stats.total + stats.reserved)));
}

int
main(int argc, char **argv)
{
    const char *row = argc > 1 ? argv[1] : "";
    const char *name = argc > 2 ? argv[2] : "quire";
    uint64_t bytes = (argc > 3 ? strtoull(argv[3], NULL, 0) : 4) * BENCH_GIB;
    size_t total = bytes / QR_PAGE_SIZE;

    if (strcmp(row, "boot") == 0) {
        measure_start();
        measured_boot(bytes);
        measure_end(1);
        return 0;
    }
    cpu_count = argc > 4 ? (unsigned)atoi(argv[4]) : cpu_count;
    held = calloc(total, sizeof(*held));
    peer_boot(name, total);
    if (strcmp(row, "metadata") == 0) {
        row_metadata();
        return 0;
    }
    for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++) {
        if (strcmp(peers[i].name, name) == 0 && row_run(row, &peers[i], total) == 0)
            return 0;
    }
    fprintf(stderr, "no such row: %s %s\n", row, name);
    return 1;
}
