/* SPDX-License-Identifier: MIT */
/*
 * Huge pages by name: pools, promises, mappings, copy-on-write, truncation, and that no
 * refused allocation leaves anything behind.
 */
#include "hugetlb_rig.h"

/* ---- Every size of every format ------------------------------------------------- */

TEST(hugetlb, every_format_maps_its_sizes)
{
    sim_for_each_mmu(mmu)
    {
        struct rig rig;

        /* All sizes, whichever kind the pool is that this begins with. */
        if (!rig_boot_on(&rig, mmu, LEAF, 4) && !rig_boot_on(&rig, mmu, GROUP, 4))
            continue;
        for (unsigned i = 0; i < qr_hugetlb_count(rig.huge); i++) {
            struct qr_space_counts counts;
            uint64_t value = 0;

            rig.pool = qr_hugetlb_at(rig.huge, i);
            rig.bytes = qr_hugetlb_pool_bytes(rig.pool);
            qr_hugetlb_pool_resize(rig.pool, -1, 4);
            expect_pool(&rig, 4, 4, 0, 0);
            ASSERT_EQ(map(&rig, 0, 3, 0), QR_OK);
            expect_pool(&rig, 4, 4, 3, 0);
            EXPECT_EQ(store(&rig, 1, 7), SIM_OK);
            expect_pool(&rig, 4, 3, 2, 0);
            EXPECT_EQ(sim_load(qr_va_of(va_of(&rig, 2).v - 8), &value, 8), SIM_OK);
            EXPECT_EQ(value, 0u);
            EXPECT_EQ(load(&rig, 1), 7u);
            EXPECT_EQ(mapped_shift(&rig, 1), qr_hugetlb_pool_shift(rig.pool));
            qr_space_counts(sim_space(rig.sim), &counts);
            EXPECT_EQ(counts.hugetlb_pages, rig.bytes >> QR_PAGE_SHIFT);
            EXPECT_EQ(counts.resident_anon + counts.resident_shmem, 0u);
            sim_validate(rig.sim);
            EXPECT_STATUS(unmap(&rig, 0, 3), QR_OK);
            expect_pool(&rig, 4, 4, 0, 0);
        }
        rig_shutdown(&rig);
    }
}

/* ---- Promises -------------------------------------------------------------------- */

BOTH(what_is_promised_is_refused_to_others)
{
    struct rig rig;

    if (!rig_boot(&rig, kind, 4))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&rig, 0, 3, 0), QR_OK);
    EXPECT_STATUS(map(&rig, 8, 2, 0), QR_ERR_NO_MEMORY);
    ASSERT_EQ(map(&rig, 8, 2, QR_REGION_NO_RESERVE), QR_OK);
    EXPECT_EQ(store(&rig, 8, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 9, 1), SIM_BUS_ADRERR); /* the rest is promised */
    for (size_t page = 0; page < 3; page++)
        EXPECT_EQ(store(&rig, page, page), SIM_OK);
    expect_pool(&rig, 4, 0, 0, 0);
    EXPECT_STATUS(unmap(&rig, 1, 2), QR_OK);
    EXPECT_EQ(store(&rig, 9, 1), SIM_OK);
    sim_validate(rig.sim);
    rig_shutdown(&rig);
}

/* Splits, holes and DONT_NEED move promises about; none is lost or made. */
BOTH(promises_follow_their_regions)
{
    struct rig rig;

    if (!rig_boot(&rig, kind, 8))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&rig, 0, 6, 0), QR_OK);
    EXPECT_EQ(store(&rig, 0, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 3, 4), SIM_OK);
    expect_pool(&rig, 8, 6, 4, 0);
    EXPECT_STATUS(qr_space_protect(sim_space(rig.sim), va_of(&rig, 2), 2 * rig.bytes, SIM_R, -1),
                  QR_OK);
    expect_pool(&rig, 8, 6, 4, 0);
    EXPECT_STATUS(
        qr_space_advise(sim_space(rig.sim), va_of(&rig, 3), rig.bytes, QR_ADVICE_DONT_NEED), QR_OK);
    expect_pool(&rig, 8, 7, 5, 0);
    EXPECT_EQ(load(&rig, 3), 0u);
    EXPECT_STATUS(unmap(&rig, 1, 3), QR_OK); /* two promises go */
    expect_pool(&rig, 8, 6, 2, 0);
    EXPECT_STATUS(qr_space_protect(sim_space(rig.sim), va_of(&rig, 3), 3 * rig.bytes, SIM_W, -1),
                  QR_OK);
    expect_pool(&rig, 8, 6, 2, 0);
    EXPECT_EQ(store(&rig, 4, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 5, 1), SIM_OK);
    expect_pool(&rig, 8, 4, 0, 0);
    sim_validate(rig.sim);
    EXPECT_STATUS(unmap(&rig, 0, 6), QR_OK);
    expect_pool(&rig, 8, 8, 0, 0);
    rig_shutdown(&rig);
}

/* What is promised to a shared object outlives its mappings. */
BOTH(shared_promises_belong_to_the_object)
{
    struct rig rig;
    struct qr_object *object;

    if (!rig_boot(&rig, kind, 4))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(qr_object_create_hugetlb(sim_objects(rig.sim), rig.pool, 3 * rig.bytes, &object),
              QR_OK);
    ASSERT_EQ(map_object(&rig, 0, 3, object, QR_REGION_SHARED), QR_OK);
    ASSERT_EQ(map_object(&rig, 8, 3, object, QR_REGION_SHARED), QR_OK); /* the same three */
    expect_pool(&rig, 4, 4, 3, 0);
    EXPECT_EQ(store(&rig, 1, 5), SIM_OK);
    EXPECT_EQ(load(&rig, 9), 5u);
    expect_pool(&rig, 4, 3, 2, 0);
    EXPECT_STATUS(unmap(&rig, 0, 3), QR_OK);
    EXPECT_STATUS(unmap(&rig, 8, 11), QR_OK);
    expect_pool(&rig, 4, 3, 2, 0);
    qr_object_set_bytes(object, 2 * rig.bytes);
    expect_pool(&rig, 4, 3, 1, 0);
    qr_object_punch(object, 0, 2 * rig.bytes >> QR_PAGE_SHIFT);
    expect_pool(&rig, 4, 4, 1, 0);
    qr_object_put(object);
    expect_pool(&rig, 4, 4, 0, 0);
    rig_shutdown(&rig);
}

BOTH(surplus_pages_come_and_go)
{
    struct rig rig;

    if (!rig_boot(&rig, kind, 1))
        TEST_SKIP("no small huge page");
    qr_hugetlb_pool_set_overcommit(rig.pool, 2);
    EXPECT_STATUS(map(&rig, 0, 4, 0), QR_ERR_NO_MEMORY);
    expect_pool(&rig, 1, 1, 0, 0);
    ASSERT_EQ(map(&rig, 0, 3, 0), QR_OK);
    expect_pool(&rig, 3, 3, 3, 2);
    EXPECT_EQ(store(&rig, 2, 1), SIM_OK);
    EXPECT_STATUS(unmap(&rig, 0, 2), QR_OK);
    expect_pool(&rig, 1, 0, 0, 0);
    EXPECT_STATUS(unmap(&rig, 2, 3), QR_OK);
    expect_pool(&rig, 1, 1, 0, 0);
    /* A smaller pool: what is in use becomes surplus, and goes when it is given up. */
    ASSERT_EQ(map(&rig, 0, 1, 0), QR_OK);
    EXPECT_EQ(store(&rig, 0, 1), SIM_OK);
    qr_hugetlb_pool_resize(rig.pool, -1, 0);
    expect_pool(&rig, 1, 0, 0, 1);
    EXPECT_STATUS(unmap(&rig, 0, 1), QR_OK);
    expect_pool(&rig, 0, 0, 0, 0);
    rig_shutdown(&rig);
}

/* ---- Where calls may cut --------------------------------------------------------------- */

BOTH(calls_cut_between_pages_alone)
{
    struct rig rig;
    struct qr_space *space;
    qr_va va;

    if (!rig_boot(&rig, kind, 4))
        TEST_SKIP("no small huge page");
    space = sim_space(rig.sim);
    ASSERT_EQ(map(&rig, 0, 3, 0), QR_OK);
    EXPECT_EQ(store(&rig, 1, 1), SIM_OK);
    va = va_of(&rig, 1);
    EXPECT_STATUS(qr_space_unmap(space, va, QR_PAGE_SIZE), QR_ERR_INVALID);
    EXPECT_STATUS(qr_space_unmap(space, qr_va_of(va.v + QR_PAGE_SIZE), 2 * rig.bytes),
                  QR_ERR_INVALID);
    EXPECT_STATUS(qr_space_protect(space, va, QR_PAGE_SIZE, SIM_R, -1), QR_ERR_INVALID);
    EXPECT_STATUS(
        qr_space_advise(space, qr_va_of(va.v + QR_PAGE_SIZE), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED),
        QR_ERR_INVALID);
    EXPECT_STATUS(qr_space_advise(space, va, QR_PAGE_SIZE, QR_ADVICE_DONT_NEED), QR_OK);
    EXPECT_EQ(load(&rig, 1), 1u); /* less than a page is none */
    EXPECT_STATUS(qr_space_lock_pages(space, va, QR_PAGE_SIZE, QR_LOCK_NOW), QR_OK);
    EXPECT_EQ(space->counts.locked_pages, 0u);

    struct qr_remap_request request = {
        .old_start = va, .old_bytes = rig.bytes, .new_bytes = 2 * rig.bytes, .flags = 1};

    EXPECT_STATUS(qr_space_remap(space, &request, &va), QR_ERR_INVALID);
    request.new_bytes = rig.bytes;
    request.flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED;
    request.new_start = qr_va_of(va_of(&rig, 6).v + QR_PAGE_SIZE);
    EXPECT_STATUS(qr_space_remap(space, &request, &va), QR_ERR_INVALID);
    request.new_start = va_of(&rig, 6);
    EXPECT_STATUS(qr_space_remap(space, &request, &va), QR_OK);
    EXPECT_EQ(load(&rig, 6), 1u);
    EXPECT_EQ(sim_touch(rig.sim, 0, QR_ACCESS_READ), SIM_SEGV_MAPERR);
    expect_pool(&rig, 4, 3, 2, 0);
    sim_validate(rig.sim);
    rig_shutdown(&rig);
}

/* ---- Fork ---------------------------------------------------------------------------------- */

BOTH(fork_copies_on_write_while_there_are_pages)
{
    struct rig rig;
    struct qr_space *parent, *child;

    if (!rig_boot(&rig, kind, 3))
        TEST_SKIP("no small huge page");
    parent = sim_space(rig.sim);
    ASSERT_EQ(map(&rig, 0, 2, 0), QR_OK);
    EXPECT_EQ(store(&rig, 0, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 1, 2), SIM_OK);
    ASSERT_EQ(qr_space_fork(parent, &child), QR_OK);
    sim_validate(rig.sim);

    sim_use(rig.sim, child);
    EXPECT_EQ(load(&rig, 0), 1u);
    EXPECT_EQ(store(&rig, 0, 10), SIM_OK); /* the third page */
    EXPECT_EQ(store(&rig, 1, 20), SIM_BUS_ADRERR);
    EXPECT_EQ(load(&rig, 1), 2u);
    sim_validate(rig.sim);

    sim_use(rig.sim, parent);
    EXPECT_EQ(load(&rig, 0), 1u);
    EXPECT_EQ(store(&rig, 0, 11), SIM_OK); /* nobody else has it any more */
    EXPECT_EQ(store(&rig, 1, 21), SIM_OK); /* nor this one: the child has lost it */
    sim_validate(rig.sim);

    sim_use(rig.sim, child);
    EXPECT_EQ(load(&rig, 0), 10u);
    EXPECT_EQ(sim_touch(rig.sim, (va_of(&rig, 1).v - SIM_BASE) >> QR_PAGE_SHIFT, QR_ACCESS_READ),
              SIM_BUS_IO);
    sim_use(rig.sim, parent);
    sim_space_destroy(rig.sim, child);
    EXPECT_EQ(load(&rig, 0), 11u);
    EXPECT_EQ(load(&rig, 1), 21u);
    expect_pool(&rig, 3, 1, 0, 0);
    rig_shutdown(&rig);
}

/* Whatever happens to a page happens to all of it: it is one entry for the TLB afterwards, too. */
BOTH(a_page_stays_one_entry)
{
    struct rig rig;
    struct qr_space *parent, *child;

    if (!rig_boot(&rig, kind, 4))
        TEST_SKIP("no small huge page");
    unsigned shift = qr_hugetlb_pool_shift(rig.pool);

    parent = sim_space(rig.sim);
    ASSERT_EQ(map(&rig, 0, 2, 0), QR_OK);
    EXPECT_EQ(store(&rig, 0, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 1, 2), SIM_OK);
    EXPECT_STATUS(qr_space_protect(parent, va_of(&rig, 0), rig.bytes, SIM_R, -1), QR_OK);
    EXPECT_EQ(mapped_shift(&rig, 0), shift);
    EXPECT_EQ(store(&rig, 0, 1), SIM_SEGV_ACCERR);
    EXPECT_STATUS(qr_space_protect(parent, va_of(&rig, 0), rig.bytes, 0, -1), QR_OK);
    EXPECT_EQ(store(&rig, 0, 1), SIM_SEGV_ACCERR);
    EXPECT_STATUS(qr_space_protect(parent, va_of(&rig, 0), rig.bytes, SIM_W, -1), QR_OK);
    EXPECT_EQ(load(&rig, 0), 1u);
    EXPECT_EQ(mapped_shift(&rig, 0), shift);
    ASSERT_EQ(qr_space_fork(parent, &child), QR_OK);
    EXPECT_EQ(mapped_shift(&rig, 1), shift);
    EXPECT_EQ(store(&rig, 1, 3), SIM_OK); /* a copy */
    EXPECT_EQ(mapped_shift(&rig, 1), shift);
    sim_use(rig.sim, child);
    EXPECT_EQ(mapped_shift(&rig, 0), shift);
    EXPECT_EQ(load(&rig, 1), 2u);
    EXPECT_EQ(store(&rig, 1, 4), SIM_OK); /* taken over */
    EXPECT_EQ(mapped_shift(&rig, 1), shift);
    sim_validate(rig.sim);
    sim_use(rig.sim, parent);
    sim_space_destroy(rig.sim, child);
    EXPECT_EQ(load(&rig, 1), 3u);
    rig_shutdown(&rig);
}

/* A private mapping of an object: reads see the object, the first write makes a copy. */
BOTH(private_mappings_copy_the_objects_page)
{
    struct rig rig;
    struct qr_object *object;

    if (!rig_boot(&rig, kind, 4))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(qr_object_create_hugetlb(sim_objects(rig.sim), rig.pool, rig.bytes, &object), QR_OK);
    ASSERT_EQ(map_object(&rig, 0, 1, object, QR_REGION_SHARED), QR_OK);
    ASSERT_EQ(map_object(&rig, 4, 1, object, 0), QR_OK);
    EXPECT_EQ(store(&rig, 0, 5), SIM_OK);
    EXPECT_EQ(load(&rig, 4), 5u);
    expect_pool(&rig, 4, 3, 1, 0);
    EXPECT_EQ(store(&rig, 4, 6), SIM_OK);
    expect_pool(&rig, 4, 2, 0, 0);
    EXPECT_EQ(load(&rig, 0), 5u);
    sim_validate(rig.sim);

    /* Truncation takes both, and the object's end is where accesses end. */
    qr_object_set_bytes(object, 0);
    EXPECT_EQ(store(&rig, 0, 1), SIM_BUS_ADRERR);
    EXPECT_EQ(store(&rig, 4, 1), SIM_BUS_ADRERR);
    sim_validate(rig.sim);
    qr_object_put(object);
    rig_shutdown(&rig);
}

/* ---- Pins --------------------------------------------------------------------------------------- */

/* A part that somebody still reads keeps its page from being given to others. */
BOTH(a_pinned_page_comes_back_later)
{
    struct rig rig;
    struct qr_frame *frame;

    if (!rig_boot(&rig, kind, 1))
        TEST_SKIP("no small huge page");
    ASSERT_EQ(map(&rig, 0, 1, 0), QR_OK);
    EXPECT_EQ(store(&rig, 0, 9), SIM_OK);
    ASSERT_EQ(qr_space_get_frame(sim_space(rig.sim), qr_va_of(va_of(&rig, 0).v + QR_PAGE_SIZE),
                                 QR_ACCESS_READ, false, &frame),
              QR_OK);
    EXPECT_STATUS(unmap(&rig, 0, 1), QR_OK);
    expect_pool(&rig, 1, 0, 0, 0);
    EXPECT_STATUS(map(&rig, 0, 1, 0), QR_ERR_NO_MEMORY);
    qr_frame_put(sim_frames(rig.sim), frame);
    expect_pool(&rig, 1, 1, 0, 0);
    ASSERT_EQ(map(&rig, 0, 1, 0), QR_OK);
    EXPECT_EQ(load(&rig, 0), 0u);
    rig_shutdown(&rig);
}

/* ---- Nodes --------------------------------------------------------------------------------------------- */

/* A region that is bound to a node takes that node's pages, and no others. */
BOTH(pages_come_from_the_nodes_of_the_policy)
{
    const struct sim_bank banks[] = {
        {.start = (uint64_t)16 << 20, .bytes = (uint64_t)304 << 20},
        {.start = (uint64_t)1 << 30, .bytes = (uint64_t)304 << 20, .node = 1},
    };
    struct sim_options options = {.banks = banks, .bank_count = 2, .features = SIM_NO_VALIDATE};
    struct qr_node_set second = {{0}};
    struct qr_hugetlb_stats stats;
    struct qr_policy bind;
    struct rig rig;

    options.seed = test_seed();
    options.mmu = mmu_for(kind);
    rig.sim = sim_boot(options);
    if (!rig_fill(&rig, kind, 0))
        TEST_SKIP("no small huge page");
    qr_hugetlb_pool_resize(rig.pool, 0, 3);
    qr_hugetlb_pool_resize(rig.pool, 1, 2);
    expect_pool(&rig, 5, 5, 0, 0);
    qr_node_set_add(&second, 1);
    ASSERT_EQ(qr_policy_init(&bind, sim_frames(rig.sim), QR_POLICY_BIND, &second, NULL), QR_OK);
    struct qr_mempolicy *policy =
        qr_mempolicy_create(sim_heap(rig.sim), &bind, QR_NODES_ALLOWED, &second);

    ASSERT_EQ(map(&rig, 0, 3, 0), QR_OK);
    ASSERT_EQ(
        qr_space_set_policy(sim_space(rig.sim), va_of(&rig, 0), 3 * rig.bytes, policy, &second, 0),
        QR_OK);
    qr_mempolicy_put(policy);
    EXPECT_EQ(store(&rig, 0, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 1, 1), SIM_OK);
    EXPECT_EQ(store(&rig, 2, 1), SIM_BUS_ADRERR);
    qr_hugetlb_pool_stats(rig.pool, 1, &stats);
    EXPECT_EQ(stats.free, 0u);
    expect_pool(&rig, 5, 3, 1, 0);
    ASSERT_EQ(map(&rig, 8, 2, 0), QR_OK); /* nearest: the first node */
    EXPECT_EQ(store(&rig, 8, 1), SIM_OK);
    qr_hugetlb_pool_stats(rig.pool, 0, &stats);
    EXPECT_EQ(stats.free, 2u);
    sim_validate(rig.sim);
    rig_shutdown(&rig);
}

/* ---- Budgets ----------------------------------------------------------------------------------- */

/* A part of the pool: a limit for its objects together, and a minimum that nobody else gets. */
BOTH(a_budget_has_a_limit_and_a_minimum)
{
    struct rig rig;
    struct qr_hugetlb_budget *budget, *none;
    struct qr_object *object, *other;

    if (!rig_boot(&rig, kind, 6))
        TEST_SKIP("no small huge page");
    EXPECT_STATUS(qr_hugetlb_budget_create(sim_heap(rig.sim), rig.pool, 9, 7, &none),
                  QR_ERR_NO_MEMORY);
    ASSERT_EQ(qr_hugetlb_budget_create(sim_heap(rig.sim), rig.pool, 4, 2, &budget), QR_OK);
    expect_pool(&rig, 6, 6, 2, 0);
    EXPECT_STATUS(map(&rig, 32, 5, 0), QR_ERR_NO_MEMORY);
    ASSERT_EQ(qr_object_create_hugetlb(sim_objects(rig.sim), rig.pool, 8 * rig.bytes, &object),
              QR_OK);
    ASSERT_EQ(qr_object_create_hugetlb(sim_objects(rig.sim), rig.pool, 8 * rig.bytes, &other),
              QR_OK);
    qr_object_hugetlb_set_budget(object, budget);
    qr_object_hugetlb_set_budget(other, budget);
    ASSERT_EQ(map_object(&rig, 0, 3, object, QR_REGION_SHARED), QR_OK);
    EXPECT_EQ(qr_hugetlb_budget_used(budget), 3u);
    expect_pool(&rig, 6, 6, 3, 0); /* two of them from the minimum */
    EXPECT_STATUS(map_object(&rig, 8, 2, other, QR_REGION_SHARED), QR_ERR_NO_MEMORY);
    ASSERT_EQ(map_object(&rig, 8, 2, other, QR_REGION_SHARED | QR_REGION_NO_RESERVE), QR_OK);
    EXPECT_EQ(store(&rig, 8, 5), SIM_OK);
    EXPECT_EQ(store(&rig, 9, 5), SIM_BUS_ADRERR); /* over the limit, though the pool has pages */
    EXPECT_EQ(store(&rig, 0, 6), SIM_OK);
    EXPECT_EQ(store(&rig, 0, 7), SIM_OK);
    expect_pool(&rig, 6, 4, 2, 0);
    sim_validate(rig.sim);

    /* What goes leaves the minimum behind: promises first, then pages. */
    qr_object_set_bytes(object, rig.bytes);
    EXPECT_EQ(qr_hugetlb_budget_used(budget), 2u);
    expect_pool(&rig, 6, 4, 0, 0);
    qr_object_punch(object, 0, rig.bytes >> QR_PAGE_SHIFT);
    EXPECT_EQ(qr_hugetlb_budget_used(budget), 1u);
    expect_pool(&rig, 6, 5, 1, 0);
    EXPECT_EQ(store(&rig, 0, 8), SIM_OK);
    expect_pool(&rig, 6, 4, 0, 0);
    EXPECT_STATUS(unmap(&rig, 0, 16), QR_OK);
    qr_object_put(object);
    qr_object_put(other);
    EXPECT_EQ(qr_hugetlb_budget_used(budget), 0u);
    expect_pool(&rig, 6, 6, 2, 0);
    qr_hugetlb_budget_put(budget);
    expect_pool(&rig, 6, 6, 0, 0);
    rig_shutdown(&rig);
}

/* ---- Refusal ---------------------------------------------------------------------------------------- */

static void
everything_once(struct rig *rig)
{
    struct qr_object *object = NULL;
    struct qr_space *child = NULL;
    struct qr_space *parent = sim_space(rig->sim);
    bool made = qr_object_create_hugetlb(sim_objects(rig->sim), rig->pool, 3 * rig->bytes,
                                         &object) == QR_OK;
    struct qr_hugetlb_budget *budget = NULL;

    if (qr_hugetlb_budget_create(sim_heap(rig->sim), rig->pool, 4, 1, &budget) == QR_OK && made)
        qr_object_hugetlb_set_budget(object, budget);

    (void)!map(rig, 0, 3, 0);
    if (made)
        (void)!map_object(rig, 8, 3, object, QR_REGION_SHARED);
    for (size_t page = 0; page < 2; page++) {
        (void)store(rig, page, page);
        (void)store(rig, 8 + page, page);
    }
    (void)!qr_space_fork(parent, &child);
    (void)store(rig, 0, 3);
    if (child != NULL) {
        sim_use(rig->sim, child);
        (void)store(rig, 1, 4);
        sim_use(rig->sim, parent);
    }
    (void)!qr_space_protect(parent, va_of(rig, 1), rig->bytes, SIM_R, -1);
    sim_validate(rig->sim);
    if (child != NULL)
        sim_space_destroy(rig->sim, child);
    if (made) {
        qr_object_punch(object, 0, rig->bytes >> QR_PAGE_SHIFT);
        qr_object_put(object);
    }
    sim_validate(rig->sim);
    (void)!unmap(rig, 0, 16);
    qr_space_clear(parent);
    qr_hugetlb_budget_put(budget);
}

BOTH(refused_allocations_leave_nothing_behind)
{
    for (uint64_t n = 1; n <= 60; n++) {
        struct rig rig;

        if (!rig_boot(&rig, kind, 10))
            TEST_SKIP("no small huge page");
        sim_refuse_nth(rig.sim, n, n % 2 == 0 ? SIM_REFUSE_ONCE : SIM_REFUSE_FROM_THEN_ON);
        everything_once(&rig);
        sim_refuse_nth(rig.sim, 0, SIM_REFUSE_ONCE);
        expect_pool(&rig, 10, 10, 0, 0);
        rig_shutdown(&rig);
    }
}

/* ---- Races -------------------------------------------------------------------------------------------- */

struct race {
    struct rig *rig;
    struct qr_object *object;
    size_t base;
};

/* Touches its pages; with as many pages as the pool has, none of these may fail. */
static void
race_touch(void *context)
{
    const struct race *race = context;

    for (size_t page = 0; page < 3; page++) {
        uint64_t value = page;

        EXPECT_EQ(sim_store(va_of(race->rig, race->base + page), &value, 1), SIM_OK);
    }
}

BOTH(threads_that_fault_the_last_page_do_not_fail)
{
    for (uint64_t seed = 0; seed < sim_seeds(20); seed++) {
        const struct sim_bank bank = {.start = (uint64_t)16 << 20, .bytes = (uint64_t)640 << 20};
        struct sim_options options = {.banks = &bank, .bank_count = 1, .cpus = 3};
        struct rig rig;
        struct race races[3];

        options.seed = test_seed() + seed;
        options.mmu = mmu_for(kind);
        rig.sim = sim_boot(options);
        if (!rig_fill(&rig, kind, 3))
            TEST_SKIP("no small huge page");
        ASSERT_EQ(map(&rig, 0, 3, seed % 2 == 0 ? 0 : QR_REGION_SHARED), QR_OK);
        for (unsigned i = 0; i < 3; i++) {
            races[i] = (struct race){.rig = &rig};
            sim_spawn(rig.sim, SIM_ANY_CPU, "touch", race_touch, &races[i]);
        }
        sim_run(rig.sim, SIM_RUN_SEEDED);
        expect_pool(&rig, 3, 0, 0, 0);
        sim_validate(rig.sim);
        rig_shutdown(&rig);
    }
}
