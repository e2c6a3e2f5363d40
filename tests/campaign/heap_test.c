/* SPDX-License-Identifier: MIT */
/*
 * The heap's lanes and depots under every interleaving that the seeds name: each atomic operation
 * is a point where another thread, of the same CPU too, may go on.  So pops and pushes stop in
 * the middle, and others meet the lane held; drains and figures pass by; objects travel
 * between CPUs; frames are refused.
 *
 * Each block carries its owner's number and must still do so when it is freed; after each seed
 * the heap's validator looks, and the machine counts what was not given back.
 */
#include "harness.h"
#include "seeds.h"
#include "sim.h"

#include <quire/heap.h>

#include <string.h>

enum { THREADS = 4, HELD = 12, STEPS = 60, MAIL = 6 };

struct trader {
    struct sim *sim;
    struct qr_cache *cache;
    uint64_t number;
    uint64_t **mail; /* shared: taken and left by exchange */
    uint64_t *held[HELD];
    bool of_cache[HELD];
    unsigned checks;
};

static size_t
pick(struct trader *trader, size_t below)
{
    return (size_t)(sim_random(trader->sim) % below);
}

static const size_t sizes[] = {24, 64, 100, 1000, 5000};

static void
give_back(struct trader *trader, uint64_t *block, bool of_cache, uint64_t number)
{
    if (block == NULL)
        return;
    if (block[1] != number || block[0] != (uint64_t)(uintptr_t)block)
        sim_fail("block %p of %llu was written by somebody else", (void *)block,
                 (unsigned long long)number);
    trader->checks++;
    if (of_cache)
        qr_cache_free(trader->cache, block);
    else
        qr_kfree(sim_heap(trader->sim), block);
}

static void
trade(struct trader *trader)
{
    struct qr_heap *heap = sim_heap(trader->sim);
    size_t slot = pick(trader, HELD);
    bool of_cache = pick(trader, 3) == 0;
    uint64_t *block;

    give_back(trader, trader->held[slot], trader->of_cache[slot], trader->number);
    block = of_cache ? qr_cache_alloc(trader->cache, QR_ALLOC_NO_REPORT)
                     : qr_kmalloc(heap, sizes[pick(trader, 5)], QR_ALLOC_NO_REPORT);
    trader->held[slot] = block;
    trader->of_cache[slot] = of_cache;
    if (block != NULL) {
        block[0] = (uint64_t)(uintptr_t)block;
        block[1] = trader->number;
    }
}

/* A kmalloc block changes its owner; the mailbox' own number stands in it. */
static void
post(struct trader *trader)
{
    size_t slot = pick(trader, HELD);
    uint64_t *block = trader->held[slot];

    if (block == NULL || trader->of_cache[slot])
        return;
    trader->held[slot] = NULL;
    block[1] = 99;
    block = __atomic_exchange_n(&trader->mail[pick(trader, MAIL)], block, __ATOMIC_ACQ_REL);
    give_back(trader, block, false, 99);
}

static void
bulk(struct trader *trader)
{
    struct qr_heap *heap = sim_heap(trader->sim);
    bool of_cache = pick(trader, 2) == 0;
    void *blocks[20];
    size_t got = of_cache ? qr_cache_alloc_bulk(trader->cache, 20, blocks, QR_ALLOC_NO_REPORT)
                          : qr_kmalloc_bulk(heap, 64, 20, blocks, QR_ALLOC_NO_REPORT);

    for (size_t i = 0; i < got; i++)
        memcpy(blocks[i], &blocks[i], sizeof(blocks[i]));
    sim_preempt();
    for (size_t i = 0; i < got; i++) {
        if (memcmp(blocks[i], &blocks[i], sizeof(blocks[i])) != 0)
            sim_fail("a block of a bulk was given out twice");
    }
    if (of_cache)
        qr_cache_free_bulk(trader->cache, got, blocks);
    else
        qr_kfree_bulk(heap, got, blocks);
}

static void
trader_body(void *argument)
{
    struct trader *trader = argument;
    struct qr_heap_stats stats;

    for (unsigned i = 0; i < STEPS; i++) {
        switch (pick(trader, 24)) {
        case 0:
            (void)qr_heap_reap(sim_heap(trader->sim));
            break;
        case 1:
            (void)qr_cache_reap(trader->cache);
            break;
        case 2:
            qr_heap_stats(sim_heap(trader->sim), &stats);
            break;
        case 3:
        case 4:
            bulk(trader);
            break;
        case 5:
        case 6:
        case 7:
            post(trader);
            break;
        case 8: /* lanes close for all, and open again one by one */
            if (trader->number == 1)
                (void)qr_heap_debug(sim_heap(trader->sim), pick(trader, 2) * QR_HEAP_TRACK);
            break;
        default:
            trade(trader);
        }
    }
    for (size_t i = 0; i < HELD; i++)
        give_back(trader, trader->held[i], trader->of_cache[i], trader->number);
}

struct run {
    uint64_t seed;
    uint64_t checks; /* over all seeds */
};

static void
one_seed(void *context)
{
    struct run *run = context;
    uint64_t seed = run->seed;
    struct sim *sim = sim_boot_heap((struct sim_options){
        .cpus = 1 + (unsigned)(seed % 3), .seed = seed, .features = SIM_NO_VALIDATE});
    const struct qr_cache_config config = {.name = "traded", .object_bytes = 72};
    struct qr_cache *cache = NULL;
    uint64_t *mail[MAIL] = {NULL};
    struct trader traders[THREADS];
    char message[200];

    if (qr_cache_create(sim_heap(sim), &config, &cache) != QR_OK)
        sim_fail("no cache");
    sim_set_preemption(sim, 2u << (seed / 3 % 5));
    for (size_t i = 0; i < THREADS; i++) {
        traders[i] = (struct trader){.sim = sim, .cache = cache, .number = i + 1, .mail = mail};
        sim_spawn_kernel(sim, SIM_ANY_CPU, "trader", trader_body, &traders[i]);
    }
    if (seed % 5 > 2)
        sim_refuse_randomly(sim, 12);
    sim_run(sim, SIM_RUN_SEEDED);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
    for (size_t i = 0; i < MAIL; i++)
        give_back(&traders[0], mail[i], false, 99);
    for (size_t i = 0; i < THREADS; i++)
        run->checks += traders[i].checks;
    if (!qr_heap_validate(sim_heap(sim), message, sizeof(message)))
        sim_fail("heap: %s", message);
    if (qr_cache_destroy(cache) != 0)
        sim_fail("objects are left");
    sim_shutdown(sim);
}

TEST(heap, blocks_have_one_owner_whatever_the_order)
{
    uint64_t seeds = sim_seeds(300);
    struct run run = {0};

    if (under_seeds(seeds, one_seed, &run, &run.seed))
        EXPECT_GT(run.checks, 50 * seeds);
}
