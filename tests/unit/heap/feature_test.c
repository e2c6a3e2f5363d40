/* SPDX-License-Identifier: MIT */
/*
 * What the heap offers beyond alloc and free: bulk calls, pools, the large-object back
 * ends, compaction, growing magazines, memory nodes, isolation, colouring, random order, the
 * figures, and the switches of debug builds.
 */
#include "rig.h"

#include <quire/writer.h>

#include "heap/heap.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- bulk ------------------------------------------------------------------- */

static int
by_address(const void *a, const void *b)
{
    uintptr_t left = (uintptr_t) * (void *const *)a, right = (uintptr_t) * (void *const *)b;

    return left < right ? -1 : left > right;
}

/* All there, all different, each as far from the next as it is long. */
static void
expect_apart(void **blocks, size_t count, size_t bytes)
{
    qsort(blocks, count, sizeof(*blocks), by_address);
    for (size_t i = 0; i < count; i++) {
        ASSERT_TRUE(blocks[i] != NULL);
        memset(blocks[i], (int)i, bytes);
        if (i > 0)
            EXPECT_GE((uintptr_t)blocks[i] - (uintptr_t)blocks[i - 1], bytes);
    }
}

TEST(heap_bulk, blocks_are_apart_and_all_come_back)
{
    struct bench bench = heap_boot(64 * MIB, 2);
    void *blocks[600];

    for (size_t bytes = 8; bytes < 40000; bytes = bytes * 3 + 5) {
        size_t count = bytes > 3000 ? 50 : 600;

        ASSERT_EQ(qr_kmalloc_bulk(bench.heap, bytes, count, blocks, QR_ALLOC_ZERO), count);
        for (size_t i = 0; i < count; i++)
            EXPECT_EQ(((char *)blocks[i])[bytes - 1], 0);
        expect_apart(blocks, count, bytes);
        machine_enter(bench.machine, (unsigned)(bytes % 2));
        qr_kfree_bulk(bench.heap, count, blocks);
        heap_check(&bench);
    }
    heap_shutdown(&bench, 0);
}

TEST(heap_bulk, a_mixture_is_freed_in_one_call)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    uint64_t random = test_seed();
    void *blocks[500];

    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 500; i++) {
            size_t bytes = 1 + test_random(&random) % (i % 20 == 0 ? 60000 : 1500);

            blocks[i] = i % 50 == 7 ? NULL : qr_kmalloc(bench.heap, bytes, 0);
        }
        qr_kfree_bulk(bench.heap, 500, blocks);
        heap_check(&bench);
    }
    heap_shutdown(&bench, 0);
}

TEST(heap_bulk, objects_of_a_cache)
{
    struct bench bench = heap_boot(4 * MIB, 1);
    struct qr_cache *cache = NULL;
    const struct qr_cache_config config = {.name = "bulk", .object_bytes = 1000};
    static void *objects[5000];

    ASSERT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_OK);
    size_t got = qr_cache_alloc_bulk(cache, 5000, objects, QR_ALLOC_NO_REPORT);

    EXPECT_GT(got, 2000); /* as many as there is memory for */
    EXPECT_LT(got, 5000);
    expect_apart(objects, got, 1000);
    qr_cache_free_bulk(cache, got, objects);
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

TEST(heap_bulk, sized_frees_know_every_size)
{
    struct bench bench = heap_boot(64 * MIB, 1);

    for (size_t bytes = 1; bytes < 60000; bytes += bytes / 7 + 1) {
        void *block = qr_kmalloc(bench.heap, bytes, 0);

        qr_kfree_sized(bench.heap, block, bytes);
    }
    qr_kfree_sized(bench.heap, NULL, 5);
    heap_shutdown(&bench, 0);
}

/* ---- pools -------------------------------------------------------------------- */

TEST(heap_pool, the_reserve_is_there_when_memory_is_not)
{
    struct bench bench = heap_boot(4 * MIB, 1);
    struct qr_cache *cache = NULL;
    struct qr_pool *pool = NULL;
    const struct qr_cache_config config = {.name = "pooled", .object_bytes = 500};
    void *mine[16];
    void **chain = NULL, **block;

    ASSERT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_OK);
    ASSERT_EQ(qr_pool_create(cache, 16, &pool), QR_OK);
    for (size_t bytes = 4096; bytes >= 8; bytes /= 2) {
        while ((block = qr_kmalloc(bench.heap, bytes, QR_ALLOC_NO_REPORT)) != NULL) {
            *block = chain;
            chain = block;
        }
    }
    while ((block = qr_cache_alloc(cache, QR_ALLOC_NO_REPORT)) != NULL) {
        *block = chain;
        chain = block;
    }
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 16; i++) {
            mine[i] = qr_pool_alloc(pool, QR_ALLOC_ZERO);
            ASSERT_TRUE(mine[i] != NULL);
            EXPECT_EQ(((char *)mine[i])[499], 0);
            memset(mine[i], 0xee, 500);
        }
        EXPECT_NULL(qr_pool_alloc(pool, 0));
        EXPECT_EQ(qr_pool_reserve(pool), 0);
        for (unsigned i = 0; i < 16; i++)
            qr_pool_free(pool, mine[i]);
        EXPECT_EQ(qr_pool_reserve(pool), 16);
    }
    while ((block = chain) != NULL) {
        chain = *block;
        qr_kfree(bench.heap, block);
    }
    qr_pool_destroy(pool);
    EXPECT_EQ(qr_pool_create(cache, 0, &pool), QR_ERR_INVALID);
    EXPECT_EQ(qr_pool_create(cache, SIZE_MAX / 4, &pool), QR_ERR_INVALID);
    EXPECT_EQ(qr_pool_create(cache, 100000, &pool), QR_ERR_NO_MEMORY);
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

/* ---- large back ends ------------------------------------------------------------ */

static char *
pages(struct bench *bench, size_t count)
{
    char *block = qr_kmalloc(bench->heap, count * QR_PAGE_SIZE, 0);

    ASSERT_TRUE(block != NULL);
    return block;
}

/*
 * | a 10 | b 20 | c 10 | d 12 | e ...     b and d become free; a request for 11 goes to
 *                                         b (first fit) or d (best fit)
 */
static void
fit_choice(enum qr_large_kind kind)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    char *a, *b, *c, *d, *e, *f;

    qr_heap_large_select(bench.heap, kind);
    a = pages(&bench, 10), b = pages(&bench, 20), c = pages(&bench, 10);
    d = pages(&bench, 12), e = pages(&bench, 10);
    EXPECT_TRUE(b == a + 10 * QR_PAGE_SIZE && d == c + 10 * QR_PAGE_SIZE);
    qr_kfree(bench.heap, b);
    qr_kfree(bench.heap, d);
    heap_check(&bench);
    f = pages(&bench, 11);
    EXPECT_TRUE(f == (kind == QR_LARGE_FIRST_FIT ? b : d));
    heap_check(&bench);
    qr_kfree(bench.heap, f);
    /* c between the two free runs: all three become one. */
    qr_kfree(bench.heap, c);
    heap_check(&bench);
    f = pages(&bench, 42);
    EXPECT_TRUE(f == b);
    qr_kfree(bench.heap, f);
    qr_kfree(bench.heap, a);
    qr_kfree(bench.heap, e);
    heap_shutdown(&bench, 0);
}

TEST(heap_large, first_fit_takes_the_lowest)
{
    fit_choice(QR_LARGE_FIRST_FIT);
}

TEST(heap_large, best_fit_takes_the_shortest)
{
    fit_choice(QR_LARGE_BEST_FIT);
}

/* Blocks of every back end at once: each goes back to where it came from. */
TEST(heap_large, churn_over_all_back_ends)
{
    struct bench bench = heap_boot(128 * MIB, 2);
    uint64_t random = test_seed();
    struct {
        unsigned char *block;
        size_t bytes;
        unsigned char fill;
    } live[120] = {0};

    for (unsigned i = 0; i < 6000; i++) {
        unsigned slot = (unsigned)(test_random(&random) % 120);

        qr_heap_large_select(bench.heap, (enum qr_large_kind)(test_random(&random) % 3));
        if (live[slot].block != NULL && i % 5 == 0) {
            size_t bytes = 16385 + test_random(&random) % 900000;
            unsigned char *moved = qr_krealloc(bench.heap, live[slot].block, bytes, 0);

            ASSERT_TRUE(moved != NULL);
            if (bytes > live[slot].bytes)
                memset(moved + live[slot].bytes, live[slot].fill, bytes - live[slot].bytes);
            live[slot].block = moved;
            live[slot].bytes = bytes;
        } else if (live[slot].block != NULL) {
            for (size_t b = 0; b < live[slot].bytes; b += 509)
                ASSERT_EQ(live[slot].block[b], live[slot].fill);
            qr_kfree(bench.heap, live[slot].block);
            live[slot].block = NULL;
        } else {
            live[slot].bytes = 16385 + test_random(&random) % 600000;
            live[slot].fill = (unsigned char)i;
            live[slot].block = qr_kmalloc(bench.heap, live[slot].bytes, QR_ALLOC_ZERO);
            ASSERT_TRUE(live[slot].block != NULL);
            EXPECT_EQ(live[slot].block[live[slot].bytes - 1], 0);
            memset(live[slot].block, live[slot].fill, live[slot].bytes);
        }
        if (i % 200 == 0)
            heap_check(&bench);
    }
    for (unsigned i = 0; i < 120; i++)
        qr_kfree(bench.heap, live[i].block);
    heap_shutdown(&bench, 0);
}

/* ---- compaction --------------------------------------------------------------------- */

enum { NODES = 4000 };

struct node {
    unsigned number;
    char padding[60];
};

struct owner {
    struct node *node[NODES]; /* who points at whom */
    bool stubborn;
    unsigned moved;
};

/* A node is known where the owner's table says so. */
static bool
node_move(void *context, void *from, void *to)
{
    struct owner *owner = context;
    unsigned number = ((struct node *)from)->number;

    if (owner->stubborn || number >= NODES || owner->node[number] != from)
        return false;
    *(struct node *)to = *(struct node *)from;
    owner->node[number] = to;
    owner->moved++;
    return true;
}

TEST(heap_compaction, sparse_slabs_are_emptied)
{
    struct bench bench = heap_boot(64 * MIB, 2);
    static struct owner owner;
    struct qr_cache *cache = NULL;
    struct qr_cache_config config = {.name = "nodes",
                                     .object_bytes = sizeof(struct node),
                                     .move = node_move,
                                     .move_context = &owner};
    struct qr_cache_stats stats;
    uint64_t random = test_seed();
    size_t index = 0;

    memset(&owner, 0, sizeof(owner));
    ASSERT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_OK);
    for (unsigned i = 0; i < NODES; i++) {
        owner.node[i] = qr_cache_alloc(cache, 0);
        owner.node[i]->number = i;
    }
    for (unsigned i = 0; i < NODES; i++) {
        if (test_random(&random) % 10 != 0) {
            qr_cache_free(cache, owner.node[i]);
            owner.node[i] = NULL;
        }
    }
    while (qr_heap_cache_stats(bench.heap, index, &stats) && strcmp(stats.name, "nodes") != 0)
        index++;
    (void)qr_cache_reap(cache);
    ASSERT_TRUE(qr_heap_cache_stats(bench.heap, index, &stats));
    size_t before = stats.frames;

    EXPECT_GT(stats.fragmentation, 700);
    owner.stubborn = true;
    EXPECT_EQ(qr_cache_compact(cache), 0);
    heap_check(&bench);
    owner.stubborn = false;
    size_t freed = qr_cache_compact(cache);

    heap_check(&bench);
    ASSERT_TRUE(qr_heap_cache_stats(bench.heap, index, &stats));
    EXPECT_GT(owner.moved, 100);
    EXPECT_EQ(stats.frames + freed, before);
    EXPECT_LT(stats.frames, before / 4);
    EXPECT_LT(stats.fragmentation, 600);
    for (unsigned i = 0; i < NODES; i++) {
        if (owner.node[i] == NULL)
            continue;
        EXPECT_EQ(owner.node[i]->number, i);
        qr_cache_free(cache, owner.node[i]);
    }
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

/* ---- magazines, nodes ------------------------------------------------------------------ */

static unsigned
magazine_objects(struct bench *bench, const char *name)
{
    struct qr_cache_stats stats;

    for (size_t i = 0; qr_heap_cache_stats(bench->heap, i, &stats); i++) {
        if (strcmp(stats.name, name) == 0)
            return stats.magazine_objects;
    }
    return 0;
}

TEST(heap_magazines, they_grow_with_traffic_and_shrink_when_reaped)
{
    struct bench bench = heap_boot(1 * GIB, 1);
    static void *blocks[3000];
    unsigned start = magazine_objects(&bench, "kmalloc-64");

    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 3000; i++)
            blocks[i] = qr_kmalloc(bench.heap, 64, 0);
        for (unsigned i = 0; i < 3000; i++)
            qr_kfree(bench.heap, blocks[i]);
    }
    EXPECT_GT(magazine_objects(&bench, "kmalloc-64"), 2 * start);
    heap_check(&bench);
    (void)qr_heap_reap(bench.heap);
    EXPECT_EQ(magazine_objects(&bench, "kmalloc-64"), start);
    heap_shutdown(&bench, 0);
}

/*
 * An interrupt in the middle of a pop, as the handler sees it: the lane is held and its
 * holder will not go on.  Allocations, frees, drains and figures go on without it.
 */
struct rival {
    struct machine *machine;
    struct qr_spin *lock;
    _Atomic bool has_it, stop;
};

/* Has the lock most of the time, a millisecond at a time. */
static void *
rival_run(void *argument)
{
    struct rival *rival = argument;

    machine_enter(rival->machine, 1);
    while (!atomic_load(&rival->stop)) {
        qr_spin_lock(rival->lock);
        atomic_store(&rival->has_it, true);
        usleep(1000);
        atomic_store(&rival->has_it, false);
        qr_spin_unlock(rival->lock);
        usleep(10);
    }
    return NULL;
}

/* A visit to a depot that somebody else is in counts sixteen times. */
TEST(heap_magazines, they_grow_sooner_under_contention)
{
    struct bench bench = heap_boot(256 * MIB, 2);
    struct qr_cache *class = &bench.heap->classes[QR_KMALLOC_CLASS(64)];
    struct rival rival = {.machine = bench.machine, .lock = &class->nodes[0].lock};
    unsigned contended = 0;
    pthread_t thread;

    qr_kfree(bench.heap, qr_kmalloc(bench.heap, 64, 0)); /* this CPU has lanes */
    (void)qr_cache_reap(class);
    ASSERT_EQ(pthread_create(&thread, NULL, rival_run, &rival), 0);
    for (unsigned attempt = 0; attempt < 10000 && contended == 0; attempt++) {
        struct heap_lane *lane = bench.heap->free_lanes[0] + QR_KMALLOC_CLASS(64);
        void *block;

        while (!atomic_load(&rival.has_it))
            sched_yield();
        block = qr_kmalloc(bench.heap, 64, 0); /* nothing in the lane: one visit */
        contended += lane->visits >= 16;
        qr_kfree(bench.heap, block);
        if (contended == 0)
            (void)qr_cache_reap(class); /* and its count begins anew */
    }
    EXPECT_EQ(contended, 1);
    atomic_store(&rival.stop, true);
    ASSERT_EQ(pthread_join(thread, NULL), 0);
    machine_enter(bench.machine, 0);
    heap_shutdown(&bench, 0);
}

static size_t
reap_for_frames(void *context, size_t frames_wanted, unsigned alloc_flags)
{
    struct bench *bench = context;

    (void)frames_wanted, (void)alloc_flags;
    return qr_heap_reap(bench->heap);
}

/* All frames that there are.  @return how many */
static size_t
frames_exhaust(struct bench *bench)
{
    static struct qr_frame *frames[8192];
    size_t count = 0;

    while (count < 8192 &&
           (frames[count] = qr_frame_alloc(bench->machine->frames, QR_ALLOC_NO_REPORT)) != NULL)
        count++;
    for (size_t i = 0; i < count; i++)
        qr_frame_free(bench->machine->frames, frames[i]);
    return count;
}

/* What caches keep for later goes to whoever needs a frame, by the frame layer's own hook. */
TEST(heap_magazines, the_reclaim_hook_gets_what_is_kept)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    static void *blocks[500];
    struct qr_heap_stats stats;
    size_t without, kept;

    for (size_t bytes = 8; bytes <= 4096; bytes *= 2) {
        for (unsigned i = 0; i < 500; i++)
            blocks[i] = qr_kmalloc(bench.heap, bytes, 0);
        for (unsigned i = 0; i < 500; i++)
            qr_kfree(bench.heap, blocks[i]);
    }
    qr_heap_stats(bench.heap, &stats);
    kept = stats.frames;
    without = frames_exhaust(&bench);
    qr_frames_set_reclaim(bench.machine->frames, reap_for_frames, &bench);
    EXPECT_GE(frames_exhaust(&bench), without + 10);
    qr_heap_stats(bench.heap, &stats);
    EXPECT_LE(stats.frames + 10, kept);
    qr_frames_set_reclaim(bench.machine->frames, NULL, NULL);
    heap_shutdown(&bench, 0);
}

TEST(heap_magazines, a_lane_that_is_held_is_passed_over)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    void *first = qr_kmalloc(bench.heap, 64, 0);
    void *blocks[300];
    struct heap_lane *lane = bench.heap->free_lanes[0] + QR_KMALLOC_CLASS(64);
    uintptr_t top = atomic_exchange(&lane->top, 0);

    ASSERT_NE(top, 0);
    for (unsigned i = 0; i < 300; i++) {
        blocks[i] = qr_kmalloc(bench.heap, 64, 0);
        ASSERT_TRUE(blocks[i] != NULL);
    }
    qr_kfree(bench.heap, first);
    qr_kfree_bulk(bench.heap, 100, blocks);
    for (unsigned i = 100; i < 300; i++)
        qr_kfree(bench.heap, blocks[i]);
    (void)qr_heap_reap(bench.heap);
    EXPECT_EQ(qr_kmalloc_bulk(bench.heap, 64, 100, blocks, 0), 100);
    qr_kfree_bulk(bench.heap, 100, blocks);
    atomic_store(&lane->top, top);
    heap_shutdown(&bench, 0);
}

static unsigned
node_of(const void *pointer)
{
    return qr_port_direct_pa(pointer).v < 128 * MIB ? 0 : 1;
}

TEST(heap_nodes, memory_is_local_and_goes_home)
{
    struct qr_memory_range map[] = {RANGE(64 * MIB, 128 * MIB, QR_MEMORY_USABLE, "node 0"),
                                    RANGE(128 * MIB, 192 * MIB, QR_MEMORY_USABLE, "node 1")};
    struct bench bench;
    struct qr_cache *cache = NULL;
    const struct qr_cache_config config = {.name = "local", .object_bytes = 72};
    static void *blocks[2][2000];
    char message[200] = "";

    map[1].node = 1;
    bench.machine = machine_boot(
        (struct machine_options){.map = map, .map_count = 2, .cpus = 2, .node_count = 2});
    bench.machine->cpus[1].node = 1;
    bench.heap = aligned_alloc(QR_CACHE_LINE, qr_heap_size(2));
    memset(bench.heap, 0, qr_heap_size(2));
    size_t free_before = machine_free_frames(bench.machine);

    ASSERT_EQ(qr_heap_init(bench.heap, bench.machine->frames, 2), QR_OK);
    ASSERT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_OK);
    for (unsigned round = 0; round < 10; round++) {
        for (unsigned node = 0; node < 2; node++) {
            machine_enter(bench.machine, node);
            for (unsigned i = 0; i < 2000; i++) {
                blocks[node][i] =
                    i % 2 == 0 ? qr_kmalloc(bench.heap, 300, 0) : qr_cache_alloc(cache, 0);
                ASSERT_EQ(node_of(blocks[node][i]), node);
            }
        }
        /* Each frees what the other allocated. */
        for (unsigned node = 0; node < 2; node++) {
            machine_enter(bench.machine, 1 - node);
            for (unsigned i = 0; i < 2000; i++) {
                if (i % 2 == 0)
                    qr_kfree(bench.heap, blocks[node][i]);
                else
                    qr_cache_free(cache, blocks[node][i]);
            }
        }
        if (!qr_heap_validate(bench.heap, message, sizeof(message)))
            EXPECT_STR(message, "");
    }
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    EXPECT_EQ(qr_heap_fini(bench.heap), 0);
    EXPECT_EQ(machine_free_frames(bench.machine), free_before);
    free(bench.heap);
    machine_shutdown(bench.machine);
}

/* ---- hardening, colours, figures ------------------------------------------------------- */

TEST(heap_hardening, caches_share_no_page)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    struct qr_cache *cache[2] = {NULL};
    static void *objects[2][500];
    const struct qr_cache_config config = {.name = "twin", .object_bytes = 64};

    for (unsigned c = 0; c < 2; c++) {
        ASSERT_EQ(qr_cache_create(bench.heap, &config, &cache[c]), QR_OK);
        ASSERT_EQ(qr_cache_alloc_bulk(cache[c], 500, objects[c], 0), 500);
    }
    for (unsigned i = 0; i < 500; i++) {
        for (unsigned j = 0; j < 500; j++) {
            if (((uintptr_t)objects[0][i] ^ (uintptr_t)objects[1][j]) < QR_PAGE_SIZE)
                TEST_FAIL("objects of two caches on one page: %p %p", objects[0][i], objects[1][j]);
        }
    }
    for (unsigned c = 0; c < 2; c++) {
        qr_cache_free_bulk(cache[c], 500, objects[c]);
        EXPECT_EQ(qr_cache_destroy(cache[c]), 0);
    }
    heap_shutdown(&bench, 0);
}

/* How many of 400 objects of a fresh cache lie right behind or before the one before them. */
static unsigned
neighbours(struct bench *bench)
{
    struct qr_cache *cache = NULL;
    const struct qr_cache_config config = {.name = "order", .object_bytes = 64};
    static void *objects[400];
    unsigned count = 0;

    ASSERT_EQ(qr_cache_create(bench->heap, &config, &cache), QR_OK);
    for (unsigned i = 0; i < 400; i++) {
        objects[i] = qr_cache_alloc(cache, 0);
        if (i > 0) {
            size_t distance = (uintptr_t)objects[i] > (uintptr_t)objects[i - 1]
                                  ? (uintptr_t)objects[i] - (uintptr_t)objects[i - 1]
                                  : (uintptr_t)objects[i - 1] - (uintptr_t)objects[i];

            count += distance == cache->stride;
        }
    }
    qr_cache_free_bulk(cache, 400, objects);
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    return count;
}

TEST(heap_hardening, objects_leave_a_slab_in_random_order)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    unsigned start = qr_heap_debug_get(bench.heap);

    (void)qr_heap_debug(bench.heap, start & ~(unsigned)QR_HEAP_RANDOM_ORDER);
    EXPECT_GT(neighbours(&bench), 300);
    EXPECT_TRUE((qr_heap_debug(bench.heap, start | QR_HEAP_RANDOM_ORDER) & QR_HEAP_RANDOM_ORDER) !=
                0);
    EXPECT_LT(neighbours(&bench), 60);
    heap_shutdown(&bench, 0);
}

TEST(heap_hardening, a_free_object_holds_no_pointer)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    uintptr_t *blocks[200];
    char *low = bench.machine->ram, *high = low + bench.machine->ram_bytes;

    for (unsigned i = 0; i < 200; i++) {
        blocks[i] = qr_kmalloc(bench.heap, 128, 0);
        memset(blocks[i], 0, 128);
    }
    for (unsigned i = 0; i < 200; i++)
        qr_kfree(bench.heap, blocks[i]);
    for (unsigned i = 0; i < 200; i++) {
        for (unsigned w = 0; w < 128 / sizeof(uintptr_t); w++)
            EXPECT_FALSE(blocks[i][w] >= (uintptr_t)low && blocks[i][w] < (uintptr_t)high);
    }
    heap_shutdown(&bench, 0);
}

/* Slabs of 3 objects of 1200 bytes have room to start at different lines. */
TEST(heap, slabs_start_at_different_lines)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    struct qr_cache *cache = NULL;
    const struct qr_cache_config config = {.name = "coloured", .object_bytes = 1200};
    static void *objects[300];
    uint64_t lines = 0;

    ASSERT_EQ(qr_cache_create(bench.heap, &config, &cache), QR_OK);
    ASSERT_GT(cache->colour_count, 1);
    ASSERT_EQ(qr_cache_alloc_bulk(cache, 300, objects, 0), 300);
    for (unsigned i = 0; i < 300; i++) {
        struct slab *slab = qr_slab_find(bench.heap, objects[i]);

        lines |= (uint64_t)1 << ((uintptr_t)slab->base & QR_PAGE_MASK) / QR_CACHE_LINE;
    }
    EXPECT_GE((unsigned)__builtin_popcountll(lines),
              cache->colour_count < 20 ? cache->colour_count : 20);
    qr_cache_free_bulk(cache, 300, objects);
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

TEST(heap, fragmentation_is_what_nobody_uses)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    static void *blocks[4096];
    struct qr_heap_stats full, sparse;

    for (unsigned i = 0; i < 4096; i++)
        blocks[i] = qr_kmalloc(bench.heap, 4096, 0);
    qr_heap_stats(bench.heap, &full);
    for (unsigned i = 0; i < 4096; i++) {
        if (i % 8 != 0)
            qr_kfree(bench.heap, blocks[i]);
    }
    qr_heap_stats(bench.heap, &sparse);
#ifndef CONFIG_MEMORY_DEBUGGING /* red zones take their share */
    EXPECT_LT(full.fragmentation, 100);
#endif
    EXPECT_GT(sparse.fragmentation, full.fragmentation + 200);
    for (unsigned i = 0; i < 4096; i += 8)
        qr_kfree(bench.heap, blocks[i]);
    heap_shutdown(&bench, 0);
}

/* ---- guarded objects ---------------------------------------------------------------------- */

static unsigned protects;

static void
count_protect(void *context, void *page, bool accessible)
{
    (void)context;
    protects++;
    ASSERT_EQ(mprotect(page, QR_PAGE_SIZE, accessible ? PROT_READ | PROT_WRITE : PROT_NONE), 0);
}

TEST(heap_guard, samples_are_taken_and_behave_as_blocks)
{
    struct bench bench = heap_boot(64 * MIB, 1);
    struct qr_guard_config config = {.slots = 20, .interval = 3, .protect = count_protect};
    static char *blocks[2000];
    uint64_t random = test_seed();

    ASSERT_EQ(qr_guard_start(bench.heap, &config), QR_OK);
    for (unsigned round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 2000; i++) {
            size_t bytes = 1 + test_random(&random) % 3000;

            blocks[i] = qr_kmalloc(bench.heap, bytes, i % 2 == 0 ? QR_ALLOC_ZERO : 0);
            ASSERT_TRUE(blocks[i] != NULL);
            EXPECT_GE(qr_ksize(bench.heap, blocks[i]), bytes);
            if (i % 2 == 0)
                EXPECT_EQ(blocks[i][bytes - 1], 0);
            memset(blocks[i], 0x77, bytes);
        }
        for (unsigned i = 0; i < 2000; i++) {
            if (i % 5 == 0) {
                blocks[i] = qr_krealloc(bench.heap, blocks[i], 3500, 0);
                EXPECT_EQ(blocks[i][0], 0x77);
            }
            qr_kfree(bench.heap, blocks[i]);
        }
    }
    EXPECT_GT(qr_guard_samples(bench.heap), 100);
    size_t samples = qr_guard_samples(bench.heap);

    qr_guard_stop(bench.heap);
    for (unsigned i = 0; i < 2000; i++)
        blocks[i] = qr_kmalloc(bench.heap, 700, 0);
    EXPECT_EQ(qr_guard_samples(bench.heap), samples);
    for (unsigned i = 0; i < 2000; i++)
        qr_kfree(bench.heap, blocks[i]);
    heap_shutdown(&bench, 0); /* all pages accessible again: the machine's validator reads them */
}

TEST(heap_guard, a_pool_that_makes_no_sense_is_refused)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    struct qr_guard_config config = {.slots = 0, .interval = 3, .protect = count_protect};

    EXPECT_EQ(qr_guard_start(bench.heap, &config), QR_ERR_INVALID);
    config.slots = 65000;
    EXPECT_EQ(qr_guard_start(bench.heap, &config), QR_ERR_NO_MEMORY);
    config.slots = 4;
    config.pool = (void *)0x1008;
    EXPECT_EQ(qr_guard_start(bench.heap, &config), QR_ERR_INVALID);
    config.pool = NULL;
    config.protect = NULL;
    EXPECT_EQ(qr_guard_start(bench.heap, &config), QR_ERR_INVALID);
    heap_shutdown(&bench, 0);
}

/* As a kernel uses it: pages outside of the direct map, and a sample when its clock says so. */
TEST(heap_guard, the_host_lends_the_pages_and_says_when)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    char *pool =
        mmap(NULL, 9 * QR_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct qr_guard_config config = {.slots = 4, .protect = count_protect, .pool = pool};
    char *plain, *sampled;

    ASSERT_EQ(qr_guard_start(bench.heap, &config), QR_OK);
    plain = qr_kmalloc_flags(bench.heap, 700, 0);
    for (unsigned round = 0; round < 20; round++) {
        qr_guard_due(bench.heap);
        sampled = qr_kcalloc(bench.heap, 1, 1500, 0);
        EXPECT_TRUE(sampled > pool && sampled < pool + 9 * QR_PAGE_SIZE);
        EXPECT_EQ(qr_ksize(bench.heap, sampled), 1500);
        EXPECT_EQ(qr_guard_samples(bench.heap), round + 1);
        EXPECT_TRUE(plain < pool || plain >= pool + 9 * QR_PAGE_SIZE);
        qr_kfree(bench.heap, plain);
        plain = qr_kmalloc_flags(bench.heap, 700, 0); /* not due */
        sampled = qr_krealloc(bench.heap, sampled, 1501, 0);
        EXPECT_TRUE(sampled < pool || sampled >= pool + 9 * QR_PAGE_SIZE);
        qr_kfree(bench.heap, sampled);
    }
    qr_kfree(bench.heap, plain);
    heap_shutdown(&bench, 0);
    memset(pool, 0, 9 * QR_PAGE_SIZE); /* all of it can be touched again */
    munmap(pool, 9 * QR_PAGE_SIZE);
}

/* ---- switches of debug builds ------------------------------------------------------------ */

#ifdef CONFIG_MEMORY_DEBUGGING

TEST(heap_switches, quarantine_keeps_a_block_from_use)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    void *first = qr_kmalloc(bench.heap, 64, 0);
    unsigned again = 0;

    (void)qr_heap_debug(bench.heap, QR_HEAP_POISON | QR_HEAP_QUARANTINE);
    qr_kfree(bench.heap, first);
    for (unsigned i = 0; i < QUARANTINE_SLOTS - 1; i++) {
        void *block = qr_kmalloc(bench.heap, 64, 0);

        EXPECT_TRUE(block != first);
        qr_kfree(bench.heap, block);
    }
    (void)qr_heap_debug(bench.heap, QR_HEAP_POISON);
    for (unsigned i = 0; i < 400; i++)
        again += qr_kmalloc(bench.heap, 64, 0) == first;
    EXPECT_EQ(again, 1);
    heap_check(&bench);
    heap_shutdown(&bench, 400);
}

/* What is switched off is not checked, also for what was filled before. */
TEST(heap_switches, fills_can_be_turned_off_and_on)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    char *blocks[200];

    for (unsigned round = 0; round < 8; round++) {
        (void)qr_heap_debug(bench.heap, round % 4 < 2 ? QR_HEAP_POISON | QR_HEAP_RED_ZONES : 0);
        for (unsigned i = 0; i < 200; i++)
            blocks[i] = qr_kmalloc(bench.heap, 60, 0);
        for (unsigned i = 0; i < 200; i++) {
            if (round % 4 >= 2)
                blocks[i][61] = 1; /* past the end, and nobody looks */
            qr_kfree(bench.heap, blocks[i]);
        }
        heap_check(&bench);
    }
    heap_shutdown(&bench, 0);
}
#endif

/* ---- tracking: every kind of build -------------------------------------------------------- */

static unsigned asked; /* how deep */

static unsigned
fake_backtrace(void *context, uintptr_t *out, unsigned count)
{
    (void)context;
    asked = count;
    out[0] = 0x1010, out[1] = 0x2020, out[2] = 0x3030;
    return 3;
}

static void
fake_symbol(void *context, uintptr_t pc, struct qr_writer *writer)
{
    (void)context;
    if (pc >= 0x1000 && pc < 0x4000)
        qr_writer_printf(writer, "%s+0x%lx",
                         pc < 0x2000   ? "inner"
                         : pc < 0x3000 ? "middle"
                                       : "outer",
                         (unsigned long)pc & 0xff);
}

static const struct qr_trace_ops fake_ops = {.backtrace = fake_backtrace, .symbol = fake_symbol};

static const char *
leaks(struct bench *bench)
{
    static char text[2000];
    struct qr_buffer_writer writer;

    qr_buffer_writer_init(&writer, text, sizeof(text));
    qr_heap_report_leaks(bench->heap, &writer.writer);
    return text;
}

TEST(heap_track, leaks_come_with_their_backtrace)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    void *small, *large[3];
    const char *text;

    qr_heap_trace(bench.heap, &fake_ops);
    EXPECT_EQ(qr_heap_debug(bench.heap, QR_HEAP_TRACK), QR_HEAP_TRACK);
    small = qr_kmalloc(bench.heap, 40, 0);
    for (unsigned i = 0; i < 3; i++)
        large[i] = qr_kmalloc(bench.heap, 1024, 0);
    text = leaks(&bench);
    EXPECT_GE(asked, CONFIG_HEAP_TRACE_DEPTH);
    EXPECT_CONTAINS(text, "3 objects, 3072 bytes, allocated at 0x");
    EXPECT_CONTAINS(text, "    0x1010 inner+0x10\n    0x2020 middle+0x20\n    0x3030 outer+0x30\n");
    EXPECT_CONTAINS(text, "1 objects, 40 bytes");
    EXPECT_TRUE(strstr(text, "3072 bytes") < strstr(text, "1 objects, 40 bytes"));
    qr_kfree(bench.heap, small);
    for (unsigned i = 0; i < 3; i++)
        qr_kfree(bench.heap, large[i]);
    EXPECT_TRUE(strstr(leaks(&bench), "allocated at") == NULL);
    heap_shutdown(&bench, 0);
}

/* The host's backtrace begins inside the heap: what is shown begins with the caller's caller. */
TEST(heap_track, a_backtrace_begins_at_the_call_site)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    struct qr_trace_ops ops = fake_ops;
    const char *text;
    void *block;

    ops.depth = 1;
    qr_heap_trace(bench.heap, &ops);
    ASSERT_EQ(qr_heap_debug(bench.heap, QR_HEAP_TRACK), QR_HEAP_TRACK);
    block = qr_kmalloc_sited(bench.heap, 100, 0, 0x1010);
    text = leaks(&bench);
    EXPECT_CONTAINS(text, "1 objects, 100 bytes, allocated at 0x1010 inner+0x10\n"
                          "    0x2020 middle+0x20\n");
    EXPECT_TRUE(strstr(text, "outer") == NULL); /* deeper than was asked for */
    qr_kfree(bench.heap, block);
    heap_shutdown(&bench, 0);
}

/* Each way to allocate and to free, by each switch: what is live is counted, to the byte. */
TEST(heap_track, every_way_in_and_out_is_seen)
{
    struct bench bench = heap_boot(64 * MIB, 2);
    const struct qr_cache_config config = {.name = "tracked", .object_bytes = 300};
    struct qr_heap *heap = bench.heap;
    struct qr_cache *cache;
    void *before = qr_kmalloc(heap, 64, 0);
    void *blocks[40], *objects[40];

    ASSERT_EQ(qr_cache_create(heap, &config, &cache), QR_OK);
    for (unsigned round = 0; round < 3; round++) {
        void *plain, *zeroed, *sized, *moved, *large, *object, *aligned;
        size_t bytes = 100 + round;
        const char *text;

        ASSERT_EQ(qr_heap_debug(heap, QR_HEAP_TRACK), QR_HEAP_TRACK);
        plain = qr_kmalloc(heap, bytes, 0);
        zeroed = qr_kcalloc(heap, 2, 50, 0);
        sized = qr_kmalloc(heap, 80, 0);
        moved = qr_krealloc(heap, qr_kmalloc(heap, 9, 0), 9000, 0);
        large = qr_krealloc(heap, qr_kmalloc(heap, 100000, 0), 70000, 0);
        aligned = qr_kmalloc_aligned(heap, 50000, 65536, 0);
        object = qr_cache_alloc(cache, 0);
        EXPECT_EQ(qr_kmalloc_bulk(heap, 200, 40, blocks, 0), 40);
        EXPECT_EQ(qr_cache_alloc_bulk(cache, 40, objects, 0), 40);
        text = leaks(&bench);
        EXPECT_CONTAINS(text, "1 objects, 70000 bytes, allocated at");
        EXPECT_CONTAINS(text, "1 objects, 50000 bytes, allocated at");
        EXPECT_CONTAINS(text, "1 objects, 9000 bytes, allocated at");
        EXPECT_CONTAINS(text, "40 objects, 8000 bytes, allocated at");
        EXPECT_CONTAINS(text, "40 objects, 12000 bytes, allocated at");
        EXPECT_CONTAINS(text, "1 objects, 300 bytes, allocated at");
        EXPECT_CONTAINS(text, "1 objects, 80 bytes, allocated at");
        EXPECT_TRUE(strstr(text, " 9 bytes") == NULL && strstr(text, "100000") == NULL);
        qr_kfree(heap, plain);
        qr_kfree(heap, zeroed);
        qr_kfree_sized(heap, sized, 80);
        qr_kfree(heap, moved);
        qr_kfree(heap, large);
        qr_kfree(heap, aligned);
        qr_cache_free(cache, object);
        qr_kfree_bulk(heap, 40, blocks);
        qr_cache_free_bulk(cache, 40, objects);
        qr_kfree(heap, before); /* of an earlier time: nobody misses it */
        EXPECT_TRUE(strstr(leaks(&bench), "70000") == NULL);
        EXPECT_TRUE(strstr(leaks(&bench), "40 objects") == NULL);
        heap_check(&bench);
        EXPECT_EQ(qr_heap_debug(heap, 0), 0);
        before = qr_kmalloc(heap, 64, 0);
        machine_enter(bench.machine, round % 2);
    }
    qr_kfree(heap, before);
    EXPECT_EQ(qr_cache_destroy(cache), 0);
    heap_shutdown(&bench, 0);
}

#ifndef CONFIG_MEMORY_DEBUGGING
/* The fast path's magazines are gone while it is on and come back. */
TEST(heap_track, lanes_stay_closed_as_long_as_it_is_on)
{
    struct bench bench = heap_boot(16 * MIB, 1);
    struct qr_cache *class = &bench.heap->classes[QR_KMALLOC_CLASS(64)];
    void *blocks[100];

    for (unsigned on = 0; on < 4; on++) {
        (void)qr_heap_debug(bench.heap, on % 2 == 0 ? 0 : QR_HEAP_TRACK);
        for (unsigned i = 0; i < 100; i++)
            blocks[i] = qr_kmalloc(bench.heap, 64, 0);
        for (unsigned i = 0; i < 100; i++)
            qr_kfree(bench.heap, blocks[i]);
        if (on % 2 == 0)
            EXPECT_GT(qr_heap_lanes_count(class), 0);
        else
            EXPECT_EQ(qr_heap_lanes_count(class), 0);
    }
    heap_shutdown(&bench, 0);
}

/* More blocks than the table has room for: said, and the rest stays right. */
TEST(heap_track, a_full_table_says_what_it_missed)
{
    enum { BLOCKS = 8000 };
    struct bench bench = heap_boot(16 * MIB, 1);
    static void *blocks[BLOCKS];
    uint64_t random = test_seed();

    ASSERT_EQ(qr_heap_debug(bench.heap, QR_HEAP_TRACK), QR_HEAP_TRACK);
    for (unsigned i = 0; i < BLOCKS; i++)
        blocks[i] = qr_kmalloc_sited(bench.heap, 16, 0, 0x1234);
    EXPECT_CONTAINS(leaks(&bench), "allocations found no room in the table");
    for (unsigned i = BLOCKS; i > 0; i--) {
        unsigned which = (unsigned)(test_random(&random) % i);

        qr_kfree(bench.heap, blocks[which]);
        blocks[which] = blocks[i - 1];
    }
    EXPECT_TRUE(strstr(leaks(&bench), "allocated at") == NULL);
    heap_shutdown(&bench, 0);
}
#endif
