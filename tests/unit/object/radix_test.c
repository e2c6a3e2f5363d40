/* SPDX-License-Identifier: MIT */
/* The page index against a bitmap of a sparse universe of indices. */
#include "../../../src/object/radix.h"

#include "harness.h"
#include "sim.h"

/* Indices on both sides of every change of height. */
static const size_t places[] = {
    0,
    1,
    62,
    63,
    64,
    65,
    127,
    128,
    4095,
    4096,
    4097,
    262143,
    262144,
    (size_t)1 << 24,
    ((size_t)1 << 30) - 1,
    (size_t)1 << 30,
    (size_t)1 << 42,
    ((size_t)1 << 51) - 1,
};
#define PLACES (sizeof(places) / sizeof(places[0]))

static struct qr_cache *
node_cache(struct sim *sim)
{
    const struct qr_cache_config config = {.name = "nodes",
                                           .object_bytes = sizeof(struct radix_node)};
    struct qr_cache *cache = NULL;

    EXPECT_STATUS(qr_cache_create(sim_heap(sim), &config, &cache), QR_OK);
    return cache;
}

static void
insert(struct radix *radix, size_t index, void *item, struct qr_cache *nodes)
{
    struct radix_spares spares = {.count = 0};

    ASSERT_TRUE(qr_radix_spares_fill(&spares, qr_radix_nodes_needed(radix, index), nodes, 0));
    qr_radix_insert(radix, index, item, &spares);
    qr_radix_spares_release(&spares, nodes);
}

static void
check(const struct radix *radix, const bool *present)
{
    size_t index = 0;

    for (size_t i = 0; i < PLACES; i++) {
        ASSERT_TRUE(qr_radix_get(radix, places[i]) == (present[i] ? &places[i] : NULL));
        if (!present[i])
            continue;
        ASSERT_TRUE(qr_radix_next(radix, &index) == &places[i]);
        ASSERT_EQ(index, places[i]);
        index++;
    }
    ASSERT_NULL(qr_radix_next(radix, &index));
}

TEST(radix, random_changes_match_a_model)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.frames = 2048});
    struct qr_cache *nodes = node_cache(sim);
    struct radix radix = {.root = NULL, .levels = 0};
    bool present[PLACES] = {false};
    uint64_t random = test_seed();

    for (unsigned step = 0; step < 5000; step++) {
        size_t i = test_random(&random) % PLACES;

        if (present[i])
            ASSERT_TRUE(qr_radix_remove(&radix, places[i], nodes) == &places[i]);
        else
            insert(&radix, places[i], (void *)&places[i], nodes);
        present[i] = !present[i];
        check(&radix, present);
    }
    for (size_t i = 0; i < PLACES; i++)
        (void)qr_radix_remove(&radix, places[i], nodes);
    EXPECT_NULL(radix.root);
    EXPECT_EQ(qr_cache_destroy(nodes), 0u);
    sim_shutdown(sim);
}
