/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of shared memory: blocks of frames in the object, large leaves in whatever maps it.
 * Run on every MMU; what the oracle of the hosted machine finds stale fails the test.
 */
#include "huge_scene.h"

struct shared {
    struct scene scene;
    struct qr_object *object; /* of three huge pages */
};

static bool
shared_boot(struct shared *shared, struct sim_options options)
{
    if (!scene_boot_with(&shared->scene, options))
        return false;
    ASSERT_EQ(qr_object_create(sim_objects(shared->scene.sim), &qr_pager_memory, NULL,
                               3 * shared->scene.pages << QR_PAGE_SHIFT, &shared->object),
              QR_OK);
    return true;
}

/* ... mapped at its start; every fault may make a huge page. */
static bool
shared_begin(struct shared *shared, enum sim_mmu mmu)
{
    if (!shared_boot(shared, (struct sim_options){.mmu = mmu, .seed = test_seed()}))
        return false;
    qr_object_set_huge(shared->object, QR_SHARED_HUGE_ALWAYS);
    ASSERT_EQ(
        sim_map_object(shared->scene.sim, 0, 3 * shared->scene.pages, SIM_W, shared->object, 0),
        QR_OK);
    return true;
}

static void
shared_end(struct shared *shared)
{
    sim_validate(shared->scene.sim);
    EXPECT_EQ(sim_unmap(shared->scene.sim, 0, 3 * shared->scene.pages), QR_OK);
    qr_object_put(shared->object);
    EXPECT_EQ(counter(&shared->scene, QR_PAGES_THP_SHMEM), 0);
    EXPECT_EQ(counter(&shared->scene, QR_PAGES_THP_MAPS), 0);
    EXPECT_EQ(counter(&shared->scene, QR_PAGES_SHMEM), 0);
    EXPECT_EQ(counter(&shared->scene, QR_PAGES_MAPPED), 0);
    scene_end(&shared->scene);
}

static void
fill(struct shared *shared, size_t first, size_t last)
{
    for (size_t page = first; page < last; page++)
        sim_write(shared->scene.sim, page, page + 1);
}

static void
expect(struct shared *shared, size_t first, size_t last)
{
    for (size_t page = first; page < last; page++)
        EXPECT_EQ(sim_read(shared->scene.sim, page), page + 1);
}

/* Machine-wide pages in huge pages of shared memory, and those that large leaves map. */
static void
expect_huge(struct shared *shared, size_t blocks, size_t leaves)
{
    long pages = (long)shared->scene.pages;

    EXPECT_EQ(counter(&shared->scene, QR_PAGES_THP_SHMEM), (long)blocks * pages);
    EXPECT_EQ(counter(&shared->scene, QR_PAGES_THP_MAPS), (long)leaves * pages);
}

TEST(huge_shared, a_fault_makes_one_and_everybody_maps_it)
{
    sim_for_each_mmu(mmu)
    {
        struct shared shared;
        struct qr_space_counts counts;

        if (!shared_begin(&shared, mmu))
            continue;
        struct scene *scene = &shared.scene;
        size_t n = scene->pages;

        EXPECT_EQ(sim_read(scene->sim, 5), 0);
        fill(&shared, 0, 2 * n);
        expect_huge(&shared, 2, 2);
        EXPECT_EQ(counter(scene, QR_EVENT_THP_SHARED), 2);
        EXPECT_EQ(counter(scene, QR_EVENT_THP_SHARED_MAP), 2);
        EXPECT_EQ(level_of(scene->space, n), 1);
        EXPECT_EQ(level_of(scene->space, 2 * n), -1);
        EXPECT_EQ(qr_object_resident(shared.object), 2 * n);
        qr_space_counts(scene->space, &counts);
        EXPECT_EQ(counts.resident_shmem, 2 * n);
        sim_validate(scene->sim);

        /* Another space, another place: aligned alike, and not. */
        struct qr_space *other = sim_space_create(scene->sim);

        sim_use(scene->sim, other);
        ASSERT_EQ(sim_map_object(scene->sim, n, 2 * n, SIM_W, shared.object, 0), QR_OK);
        ASSERT_EQ(sim_map_object(scene->sim, 4 * n + 1, 2 * n, SIM_R, shared.object, 0), QR_OK);
        EXPECT_EQ(sim_read(scene->sim, n + 7), 8);
        EXPECT_EQ(sim_read(scene->sim, 4 * n + 1 + n), n + 1);
        EXPECT_EQ(level_of(other, n), 1);
        EXPECT_EQ(level_of(other, 4 * n + 1 + n), 0);
        sim_write(scene->sim, n + 7, 77);
        expect_huge(&shared, 2, 3);
        sim_validate(scene->sim);
        sim_use(scene->sim, scene->space);
        EXPECT_EQ(sim_read(scene->sim, 7), 77);
        sim_space_destroy(scene->sim, other);
        expect_huge(&shared, 2, 2);
        shared_end(&shared);
    }
}

/* Each call that reaches into one lets the leaf go; the object keeps its pages. */
TEST(huge_shared, what_reaches_into_a_leaf_loses_nothing)
{
    sim_for_each_mmu(mmu)
    {
        struct shared shared;

        if (!shared_begin(&shared, mmu))
            continue;
        struct scene *scene = &shared.scene;
        size_t n = scene->pages;

        fill(&shared, 0, 3 * n);
        ASSERT_EQ(sim_protect(scene->sim, 3, 5, SIM_R), QR_OK);
        EXPECT_EQ(sim_touch(scene->sim, 3, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
        sim_write(scene->sim, 5, 6);
        EXPECT_EQ(level_of(scene->space, 5), 0);
        expect(&shared, 0, n);
        expect_huge(&shared, 3, 2);
        sim_validate(scene->sim);
        ASSERT_EQ(sim_protect(scene->sim, 3, 5, SIM_W), QR_OK);
        /* The block is whole, its leaves are small: the next fault sets a large one for them. */
        EXPECT_EQ(sim_read(scene->sim, 3), 4);
        ASSERT_EQ(advise(scene, 7, 8, QR_ADVICE_DONT_NEED), QR_OK);
        EXPECT_EQ(level_of(scene->space, 6), 0);
        EXPECT_EQ(sim_read(scene->sim, 7), 8);
        EXPECT_EQ(level_of(scene->space, 6), 1);
        expect(&shared, 0, n);
        sim_validate(scene->sim);

        /* Rights of a whole one change in its leaf. */
        ASSERT_EQ(sim_protect(scene->sim, n, 2 * n, SIM_R), QR_OK);
        EXPECT_EQ(level_of(scene->space, n), 1);
        EXPECT_EQ(sim_touch(scene->sim, n, QR_ACCESS_WRITE), SIM_SEGV_ACCERR);
        ASSERT_EQ(sim_protect(scene->sim, n, 2 * n, SIM_W), QR_OK);
        sim_write(scene->sim, n, n + 1);
        EXPECT_EQ(level_of(scene->space, n), 1);

        /* Dropped by one, kept by the object; the next touch of a whole block is huge again. */
        ASSERT_EQ(advise(scene, 2 * n - 1, 2 * n + 1, QR_ADVICE_DONT_NEED), QR_OK);
        expect(&shared, n, 3 * n);
        EXPECT_EQ(level_of(scene->space, n), 1);
        EXPECT_EQ(level_of(scene->space, 2 * n), 1);
        ASSERT_EQ(sim_unmap(scene->sim, n, n + 1), QR_OK);
        expect(&shared, n + 1, 3 * n);
        EXPECT_EQ(level_of(scene->space, n + 1), 0);
        expect_huge(&shared, 3, 2);
        shared_end(&shared);
    }
}

TEST(huge_shared, truncation_and_holes_break_one)
{
    sim_for_each_mmu(mmu)
    {
        struct shared shared;

        if (!shared_begin(&shared, mmu))
            continue;
        struct scene *scene = &shared.scene;
        size_t n = scene->pages;

        fill(&shared, 0, 3 * n);
        qr_object_punch(shared.object, n + 1, n + 3);
        expect_huge(&shared, 2, 2);
        EXPECT_EQ(sim_read(scene->sim, n + 1), 0);
        EXPECT_EQ(level_of(scene->space, n + 1), 0);
        expect(&shared, 0, n + 1);
        expect(&shared, n + 3, 3 * n);
        sim_validate(scene->sim);
        qr_object_set_bytes(shared.object, (2 * n + 5) << QR_PAGE_SHIFT);
        expect_huge(&shared, 1, 1);
        EXPECT_EQ(sim_touch(scene->sim, 2 * n + 5, QR_ACCESS_READ), SIM_BUS_ADRERR);
        expect(&shared, 2 * n, 2 * n + 5);
        /* No huge page reaches past the end, and one that went whole comes whole again. */
        qr_object_punch(shared.object, 0, 3 * n);
        sim_write(scene->sim, 2 * n, 1);
        EXPECT_EQ(level_of(scene->space, 2 * n), 0);
        sim_write(scene->sim, n, 1);
        EXPECT_EQ(level_of(scene->space, n), 1);
        expect_huge(&shared, 1, 1);
        shared_end(&shared);
    }
}

TEST(huge_shared, a_page_that_moves_breaks_one)
{
    struct shared shared;

    ASSERT_TRUE(shared_begin(&shared, SIM_MMU_DEFAULT));
    struct scene *scene = &shared.scene;
    struct qr_frame *frame, *target;

    fill(&shared, 0, scene->pages);
    ASSERT_EQ(qr_object_get_page(shared.object, 9, QR_PAGE_CACHED, &frame), QR_OK);
    qr_frame_put(sim_frames(scene->sim), frame);
    target = qr_frame_alloc(sim_frames(scene->sim), QR_ALLOC_MOVABLE);
    ASSERT_NOT_NULL(target);
    ASSERT_EQ(qr_object_move_page(shared.object, 9, frame, target), QR_OK);
    qr_frame_put(sim_frames(scene->sim), frame);
    expect_huge(&shared, 0, 0);
    expect(&shared, 0, scene->pages);
    EXPECT_EQ(level_of(scene->space, 0), 0);
    /* Asked for, it is put together again. */
    ASSERT_EQ(collapse(scene, 0, scene->pages), QR_OK);
    EXPECT_EQ(level_of(scene->space, 0), 1);
    expect_huge(&shared, 1, 1);
    expect(&shared, 0, scene->pages);
    shared_end(&shared);
}

/* Small pages, some of them absent, mapped by two spaces. */
TEST(huge_shared, collapse_joins_small_pages_for_all)
{
    sim_for_each_mmu(mmu)
    {
        struct shared shared;

        if (!shared_begin(&shared, mmu))
            continue;
        struct scene *scene = &shared.scene;
        size_t n = scene->pages;
        struct qr_space *other = sim_space_create(scene->sim);

        qr_object_set_huge(shared.object, QR_SHARED_HUGE_NEVER);
        for (size_t page = 0; page < n; page += 3)
            sim_write(scene->sim, page, page + 1);
        sim_use(scene->sim, other);
        ASSERT_EQ(sim_map_object(scene->sim, n, n, SIM_W, shared.object, 0), QR_OK);
        EXPECT_EQ(sim_read(scene->sim, n), 1);
        EXPECT_EQ(level_of(other, n), 0);
        expect_huge(&shared, 0, 0);

        ASSERT_EQ(collapse(scene, 0, n), QR_OK);
        EXPECT_EQ(counter(scene, QR_EVENT_THP_COLLAPSE), 1);
        EXPECT_EQ(level_of(scene->space, 0), 1);
        for (size_t page = 0; page < n; page++)
            EXPECT_EQ(sim_read(scene->sim, n + page), page % 3 == 0 ? page + 1 : 0);
        EXPECT_EQ(level_of(other, n), 1);
        expect_huge(&shared, 1, 2);
        sim_validate(scene->sim);
        ASSERT_EQ(collapse(scene, 0, n), QR_OK); /* it is one already */
        EXPECT_EQ(counter(scene, QR_EVENT_THP_COLLAPSE), 1);
        sim_use(scene->sim, scene->space);
        sim_space_destroy(scene->sim, other);
        shared_end(&shared);
    }
}

TEST(huge_shared, what_collapse_leaves_alone)
{
    struct shared shared;
    struct qr_frame *pinned;

    ASSERT_TRUE(shared_begin(&shared, SIM_MMU_DEFAULT));
    struct scene *scene = &shared.scene;
    size_t n = scene->pages;

    qr_object_set_huge(shared.object, QR_SHARED_HUGE_NEVER);
    for (size_t page = 0; page < n; page += 2)
        sim_write(scene->sim, page, page + 1);
    ASSERT_EQ(qr_space_get_frame(scene->space, sim_page(4), QR_ACCESS_READ, false, &pinned), QR_OK);
    EXPECT_EQ(collapse(scene, 0, n), QR_ERR_AGAIN);
    qr_frame_put(sim_frames(scene->sim), pinned);
    EXPECT_EQ(sim_read(scene->sim, 2), 3);
    EXPECT_EQ(sim_read(scene->sim, 4), 5);
    sim_validate(scene->sim);
    EXPECT_EQ(collapse(scene, n, 2 * n), QR_ERR_INVALID); /* no page at all */
    qr_objects_set_huge(sim_objects(scene->sim), QR_SHARED_HUGE_DENY);
    EXPECT_EQ(collapse(scene, 0, n), QR_ERR_INVALID);
    qr_objects_set_huge(sim_objects(scene->sim), QR_SHARED_HUGE_NEVER);
    ASSERT_EQ(advise(scene, 0, n, QR_ADVICE_NO_HUGE), QR_OK);
    EXPECT_EQ(collapse(scene, 0, n), QR_ERR_INVALID);
    ASSERT_EQ(advise(scene, 0, n, QR_ADVICE_HUGE), QR_OK);
    EXPECT_EQ(collapse(scene, 0, n), QR_OK);
    expect_huge(&shared, 1, 1);
    shared_end(&shared);
}

TEST(huge_shared, who_gets_them)
{
    struct shared shared;

    ASSERT_TRUE(shared_boot(&shared, (struct sim_options){.seed = test_seed()}));
    struct scene *scene = &shared.scene;
    struct qr_objects *objects = sim_objects(scene->sim);
    size_t n = scene->pages;

    ASSERT_EQ(sim_map_object(scene->sim, 0, 3 * n, SIM_W, shared.object, 0), QR_OK);
    sim_write(scene->sim, 0, 1);
    EXPECT_EQ(level_of(scene->space, 0), 0); /* never is the default */
    qr_objects_set_huge(objects, QR_SHARED_HUGE_ADVISED);
    ASSERT_EQ(advise(scene, 2 * n, 3 * n, QR_ADVICE_HUGE), QR_OK);
    sim_write(scene->sim, n, 1);
    sim_write(scene->sim, 2 * n, 1);
    EXPECT_EQ(level_of(scene->space, n), 0);
    EXPECT_EQ(level_of(scene->space, 2 * n), 1);
    qr_object_punch(shared.object, 0, 3 * n);
    qr_objects_set_huge(objects, QR_SHARED_HUGE_ALWAYS);
    ASSERT_EQ(advise(scene, n, 2 * n, QR_ADVICE_NO_HUGE), QR_OK);
    sim_write(scene->sim, 0, 1);
    sim_write(scene->sim, n, 1);
    EXPECT_EQ(level_of(scene->space, 0), 1);
    EXPECT_EQ(level_of(scene->space, n), 0);
    qr_object_punch(shared.object, 0, 3 * n);
    qr_objects_set_huge(objects, QR_SHARED_HUGE_DENY);
    qr_object_set_huge(shared.object, QR_SHARED_HUGE_ALWAYS);
    sim_write(scene->sim, 0, 1);
    EXPECT_EQ(level_of(scene->space, 0), 0);
    qr_object_punch(shared.object, 0, 3 * n);
    qr_objects_set_huge(objects, QR_SHARED_HUGE_FORCE);
    qr_object_set_huge(shared.object, QR_SHARED_HUGE_NEVER);
    sim_write(scene->sim, 0, 1);
    EXPECT_EQ(level_of(scene->space, 0), 1);
    shared_end(&shared);
}

TEST(huge_shared, the_background_scan_collapses_it)
{
    struct shared shared;
    struct qr_collapse_scan scan = {.limits = {.max_none = SIZE_MAX}};

    ASSERT_TRUE(shared_begin(&shared, SIM_MMU_DEFAULT));
    struct scene *scene = &shared.scene;

    qr_object_set_huge(shared.object, QR_SHARED_HUGE_NEVER);
    fill(&shared, 1, scene->pages + 2);
    qr_collapse_scan(sim_vm(scene->sim), &scan, SIZE_MAX);
    EXPECT_EQ(scan.collapsed, 0);
    qr_object_set_huge(shared.object, QR_SHARED_HUGE_ALWAYS);
    scan.limits.max_none = 1;
    qr_collapse_scan(sim_vm(scene->sim), &scan, SIZE_MAX);
    EXPECT_EQ(scan.collapsed, 1); /* of the second only two pages are there */
    expect_huge(&shared, 1, 0);
    expect(&shared, 1, scene->pages + 2);
    expect_huge(&shared, 1, 1);
    shared_end(&shared);
}

/* Where nobody says the place, it suits; a hint is taken as it is. */
TEST(huge_shared, a_mapping_is_placed_for_them)
{
    struct shared shared;
    struct qr_map_request request = {.prot = SIM_W, .region_flags = QR_REGION_SHARED};
    qr_va va;

    ASSERT_TRUE(shared_begin(&shared, SIM_MMU_DEFAULT));
    struct scene *scene = &shared.scene;
    size_t huge = scene->pages << QR_PAGE_SHIFT;

    request.object = shared.object;
    request.bytes = 2 * huge;
    for (int i = 0; i < 3; i++) {
        ASSERT_EQ(qr_space_map(scene->space, &request, &va), QR_OK);
        EXPECT_EQ(va.v & (huge - 1), 0);
    }
    request.hint = qr_va_of(va.v - 8 * huge - QR_PAGE_SIZE);
    ASSERT_EQ(qr_space_map(scene->space, &request, &va), QR_OK);
    EXPECT_EQ(va.v, request.hint.v);
    qr_space_clear(scene->space);
    ASSERT_EQ(sim_map_object(scene->sim, 0, 3 * scene->pages, SIM_W, shared.object, 0), QR_OK);
    shared_end(&shared);
}

/* Stores are noticed after the tables were told to forget them. */
TEST(huge_shared, soft_dirty_is_of_the_whole_leaf)
{
    struct shared shared;

    ASSERT_TRUE(shared_begin(&shared, SIM_MMU_DEFAULT));
    fill(&shared, 0, shared.scene.pages);
    qr_space_track_writes(shared.scene.space);
    expect(&shared, 0, shared.scene.pages);
    sim_write(shared.scene.sim, 3, 9);
    EXPECT_EQ(sim_read(shared.scene.sim, 3), 9);
    EXPECT_EQ(level_of(shared.scene.space, 3), 1);
    /* One that comes new is not writable before its first store. */
    EXPECT_EQ(sim_read(shared.scene.sim, shared.scene.pages), 0);
    sim_write(shared.scene.sim, shared.scene.pages, 4);
    EXPECT_EQ(level_of(shared.scene.space, shared.scene.pages), 1);
    shared_end(&shared);
}

/* Without memory for a huge page, a small one; without any, nothing is half done. */
TEST(huge_shared, every_allocation_refused)
{
    struct shared shared;
    unsigned refusal = 0;
    enum qr_status status;

    ASSERT_TRUE(shared_begin(&shared, SIM_MMU_DEFAULT));
    struct scene *scene = &shared.scene;
    size_t n = scene->pages;
    enum sim_signal signal;

    do {
        qr_object_punch(shared.object, 0, 3 * n);
        ASSERT_EQ(advise(scene, 0, 3 * n, QR_ADVICE_DONT_NEED), QR_OK);
        sim_refuse_next(scene->sim, &refusal);
        signal = sim_touch(scene->sim, 5, QR_ACCESS_WRITE);
        sim_refuse_nth(scene->sim, 0, SIM_REFUSE_ONCE);
        EXPECT_TRUE(signal == SIM_OK || signal == SIM_OOM);
        sim_validate(scene->sim);
    } while (level_of(scene->space, 5) != 1);
    EXPECT_TRUE(refusal > 1);

    qr_object_punch(shared.object, 0, 3 * n);
    qr_object_set_huge(shared.object, QR_SHARED_HUGE_NEVER);
    refusal = 0;
    for (size_t page = 0; page < n; page += 3)
        sim_write(scene->sim, page, page + 1);
    do {
        sim_refuse_next(scene->sim, &refusal);
        status = collapse(scene, 0, n);
        sim_refuse_nth(scene->sim, 0, SIM_REFUSE_ONCE);
        for (size_t page = 0; page < n; page += 3)
            EXPECT_EQ(sim_read(scene->sim, page), page + 1);
        sim_validate(scene->sim);
    } while (status != QR_OK);
    EXPECT_TRUE(refusal > 1);
    shared_end(&shared);
}

/* ---- Threads ---------------------------------------------------------------------------- */

#define THREADS 3
#define ROUNDS  24

struct racer {
    struct shared *shared;
    uint64_t random;
    size_t which;
};

static void
race_change(struct racer *racer)
{
    struct scene *scene = &racer->shared->scene;
    size_t n = scene->pages, at = test_random(&racer->random) % (3 * n);

    switch (test_random(&racer->random) % 5) {
    case 0:
        qr_object_punch(racer->shared->object, at / n * n, at / n * n + n);
        break;
    case 1:
        qr_object_punch(racer->shared->object, at, at + 1);
        break;
    case 2:
        (void)collapse(scene, at / n * n, at / n * n + n);
        break;
    case 3:
        (void)advise(scene, at, at + 1, QR_ADVICE_DONT_NEED);
        break;
    default:
        qr_object_set_bytes(racer->shared->object, (2 * n + at % n) << QR_PAGE_SHIFT);
        qr_object_set_bytes(racer->shared->object, 3 * n << QR_PAGE_SHIFT);
        break;
    }
}

/* Every thread has words of its own in all pages: what it reads is its own word, or a hole. */
static void
race_body(void *context)
{
    struct racer *racer = context;
    size_t n = racer->shared->scene.pages;

    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t page = test_random(&racer->random) % (3 * n);
        qr_va va = qr_va_of(sim_page(page).v + 8 * racer->which);
        uint64_t value = page * THREADS + racer->which + 1, seen = 0;

        if (test_random(&racer->random) % 4 == 0)
            race_change(racer);
        if (sim_store(va, &value, sizeof(value)) == SIM_OK &&
            sim_load(va, &seen, sizeof(seen)) == SIM_OK)
            EXPECT_TRUE(seen == 0 || seen == value);
    }
}

TEST(huge_shared, threads_fault_punch_and_collapse)
{
    uint64_t seeds = sim_seeds(10);

    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct shared shared;
        struct racer racers[THREADS];

        if (!shared_boot(&shared, (struct sim_options){
                                      .mmu = sim_mmu_by_seed(seed), .seed = seed, .cpus = 3}))
            continue;
        struct scene *scene = &shared.scene;

        qr_object_set_huge(shared.object, QR_SHARED_HUGE_ALWAYS);
        ASSERT_EQ(sim_map_object(scene->sim, 0, 3 * scene->pages, SIM_W, shared.object, 0), QR_OK);
        for (size_t i = 0; i < THREADS; i++) {
            racers[i] = (struct racer){&shared, seed * 7 + i, i};
            sim_spawn(scene->sim, SIM_ANY_CPU, "racer", race_body, &racers[i]);
        }
        sim_run(scene->sim, SIM_RUN_SEEDED);
        shared_end(&shared);
    }
}

static void
nobody_listens(struct qr_listener *listener, struct qr_waiter *waiter)
{
    (void)listener, (void)waiter;
}

static void
ended(struct qr_listener *listener)
{
    (void)listener;
}

/* What a debugger or a checkpoint has protected from writes stays so for each page, also while it is away. */
TEST(huge_shared, pages_that_were_protected_are_so_when_they_come_back)
{
    static const struct qr_listener_ops ops = {.notify = nobody_listens, .destroy = ended};

    sim_for_each_mmu(mmu)
    {
        struct shared shared;
        struct qr_listener listener;
        struct qr_entry entry;

        if (!shared_begin(&shared, mmu))
            continue;
        struct scene *scene = &shared.scene;
        size_t n = scene->pages, bytes = 3 * n << QR_PAGE_SHIFT;

        qr_listener_init(&listener, &ops, 0);
        fill(&shared, 0, 2 * n);
        EXPECT_EQ(level_of(scene->space, n), 1);
        ASSERT_EQ(qr_space_watch(scene->space, sim_page(0), bytes, &listener, QR_WATCH_WRITE),
                  QR_OK);
        ASSERT_EQ(qr_space_write_protect(scene->space, sim_page(0), n << QR_PAGE_SHIFT, true),
                  QR_OK);
        EXPECT_EQ(
            qr_space_advise(scene->space, sim_page(0), 2 * n << QR_PAGE_SHIFT, QR_ADVICE_DONT_NEED),
            QR_OK);
        for (size_t page = 0; page < 2 * n; page++) {
            bool found = qr_tables_next(&scene->space->tables, sim_page(page), &entry) &&
                         entry.start.v == sim_page(page).v && entry.kind == QR_ENTRY_MARK &&
                         entry.mark.kind == QR_MARK_WRITE_PROTECT;

            EXPECT_EQ(found, page < n);
        }
        expect(&shared, 0, 2 * n);
        EXPECT_EQ(qr_space_unwatch(scene->space, sim_page(0), bytes, &listener), QR_OK);
        fill(&shared, 0, n);
        shared_end(&shared);
        qr_listener_put(&listener);
    }
}

/* ---- Swap --------------------------------------------------------------------------- */

static size_t
swapped(struct shared *shared)
{
    return qr_object_swapped(shared->object);
}

TEST(huge_shared, one_that_goes_to_swap_comes_back_small_and_is_collapsed_again)
{
    struct shared shared;

    if (!shared_begin(&shared, SIM_MMU_DEFAULT))
        return;
    struct scene *scene = &shared.scene;
    size_t n = scene->pages;

    (void)sim_swap_on(scene->sim, 2 * n, 0);
    fill(&shared, 0, n);
    expect_huge(&shared, 1, 1);
    (void)sim_swap_out(scene->sim, SIZE_MAX);
    (void)sim_swap_out(scene->sim, SIZE_MAX);
    EXPECT_EQ(swapped(&shared), n);
    expect_huge(&shared, 0, 0);
    expect(&shared, 0, n / 2);
    sim_validate(scene->sim);
    ASSERT_EQ(qr_space_collapse(scene->space, sim_page(0), n << QR_PAGE_SHIFT), QR_OK);
    EXPECT_EQ(swapped(&shared), 0u);
    expect_huge(&shared, 1, 1);
    expect(&shared, 0, n);
    shared_end(&shared);
}
