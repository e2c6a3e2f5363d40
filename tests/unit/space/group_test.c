/* SPDX-License-Identifier: MIT */
/*
 * Groups: exact at their limits, whoever holds credit, and nothing lost on any path.
 */
#include "group_rig.h"

static bool
charges(struct qr_group *group, size_t pages)
{
    return qr_group_charge(group, pages) == QR_OK;
}

/* ---- Counters ------------------------------------------------------------------- */

TEST(group, a_limit_is_reached_exactly_and_never_passed)
{
    struct rig rig;

    rig_boot(&rig, (struct sim_options){.frames = 256});
    for (size_t max = 0; max < 100; max++) {
        struct qr_group *top = make(&rig, NULL, max), *low = make(&rig, top, max + 7);
        size_t got = 0;

        while (charges(low, 1))
            got++;
        EXPECT_EQ(got, max);
        EXPECT_EQ(qr_group_usage(top), max);
        EXPECT_EQ(qr_group_usage(low), max);
        EXPECT_TRUE(qr_group_full(low, 1) == top);
        for (; got > 0; got--)
            qr_group_uncharge(low, 1);
        EXPECT_EQ(qr_group_usage(top), 0u);
        qr_group_put(low);
        qr_group_put(top);
    }
    rig_end(&rig);
}

TEST(group, credit_of_a_cpu_is_not_lost_to_others)
{
    struct rig rig;

    rig_boot(&rig, (struct sim_options){.frames = 256, .cpus = 4});
    struct qr_group *a = make(&rig, NULL, 40), *b = make(&rig, NULL, 40);

    for (unsigned cpu = 0; cpu < 4; cpu++) {
        sim_enter(rig.sim, cpu);
        EXPECT_TRUE(charges(cpu % 2 != 0 ? a : b, 1)); /* 31 more are held on this CPU */
    }
    sim_enter(rig.sim, 0);
    EXPECT_EQ(qr_group_usage(a), 2u);
    EXPECT_TRUE(charges(a, 38));
    EXPECT_FALSE(charges(a, 1));
    EXPECT_TRUE(charges(b, 38));
    EXPECT_FALSE(charges(b, 1));
    EXPECT_EQ(qr_group_usage(a), 40u);
    for (unsigned i = 0; i < 40; i++) {
        qr_group_uncharge(a, 1);
        qr_group_uncharge(b, 1);
    }
    EXPECT_EQ(qr_group_usage(a), 0u);
    EXPECT_EQ(qr_group_usage(b), 0u);
    EXPECT_GE(qr_group_peak(a), 40u);
    qr_group_put(a);
    qr_group_put(b);
    rig_end(&rig);
}

TEST(group, numbers_come_back_when_the_last_page_is_gone)
{
    struct rig rig;
    struct qr_group *all[200];

    rig_boot(&rig, (struct sim_options){.frames = 2048});
    for (unsigned round = 0; round < 12; round++) {
        struct qr_group *top = make(&rig, NULL, QR_GROUP_UNLIMITED);

        for (unsigned i = 0; i < QR_ARRAY_COUNT(all); i++) {
            all[i] = make(&rig, i % 3 == 0 ? top : all[i - 1], QR_GROUP_UNLIMITED);
            EXPECT_TRUE(charges(all[i], i % 5));
        }
        qr_group_put(top);
        for (unsigned i = 0; i < QR_ARRAY_COUNT(all); i++)
            qr_group_put(all[i]);
        for (unsigned i = 0; i < QR_ARRAY_COUNT(all); i++)
            qr_group_uncharge(all[i], i % 5); /* whose structure is still its own */
        EXPECT_EQ(qr_group_usage(top), 0u);
    }
    rig_end(&rig);
}

TEST(group, there_is_an_end_to_numbers)
{
    struct rig rig;
    static struct qr_group *all[QR_GROUPS_MAX];
    struct qr_group *one_more;

    rig_boot(&rig, (struct sim_options){.frames = 4096});
    for (unsigned i = 0; i < QR_GROUPS_MAX; i++)
        all[i] = make(&rig, NULL, 1);
    EXPECT_EQ(qr_group_create(rig.groups, NULL, NULL, &one_more), QR_ERR_LIMIT);
    qr_group_put(all[77]);
    EXPECT_EQ(qr_group_create(rig.groups, all[3], NULL, &all[77]), QR_OK);
    for (unsigned i = 0; i < QR_GROUPS_MAX; i++)
        qr_group_put(all[i]);
    rig_end(&rig);
}

TEST(group, events_are_counted_where_they_happen_and_above)
{
    struct rig rig;

    rig_boot(&rig, (struct sim_options){.frames = 256});
    struct qr_group *top = make(&rig, NULL, 1), *low = make(&rig, top, 9);

    EXPECT_FALSE(qr_group_make_room(low, 2)); /* nobody is there to make any */
    EXPECT_EQ(qr_group_events(top, QR_GROUP_EVENT_MAX, false), 1u);
    EXPECT_EQ(qr_group_events(low, QR_GROUP_EVENT_MAX, true), 0u);
    qr_group_count(low, QR_GROUP_EVENT_OOM);
    EXPECT_EQ(qr_group_events(top, QR_GROUP_EVENT_OOM, true), 1u);
    EXPECT_EQ(qr_group_events(top, QR_GROUP_EVENT_OOM, false), 0u);
    qr_group_put(low);
    qr_group_put(top);
    rig_end(&rig);
}

/* ---- Pages -------------------------------------------------------------------------- */

TEST(group, a_page_is_charged_once_to_who_wrote_first)
{
    struct rig rig;

    rig_boot(&rig, (struct sim_options){.frames = 1024});
    struct qr_group *group = make(&rig, NULL, QR_GROUP_UNLIMITED);
    struct qr_group *other = make(&rig, NULL, QR_GROUP_UNLIMITED);

    qr_space_set_group(sim_space(rig.sim), group);
    ASSERT_EQ(sim_map(rig.sim, 0, 8, SIM_W), QR_OK);
    EXPECT_EQ(sim_read(rig.sim, 0), 0u); /* the page of zeroes is nobody's */
    EXPECT_EQ(user_pages(group), 0u);
    for (size_t page = 0; page < 8; page++)
        sim_write(rig.sim, page, page + 1);
    EXPECT_EQ(user_pages(group), 8u);

    struct qr_space *child = sim_fork(rig.sim);

    EXPECT_EQ(user_pages(group), 8u);
    qr_space_set_group(child, other); /* what it has stays where it was charged */
    EXPECT_EQ(user_pages(other), 0u);
    struct qr_space *parent = sim_space(rig.sim);

    sim_use(rig.sim, child);
    for (size_t page = 0; page < 3; page++)
        sim_write(rig.sim, page, 9);
    EXPECT_EQ(user_pages(group), 8u);
    EXPECT_EQ(user_pages(other), 3u);
    rig_validate(&rig);
    sim_use(rig.sim, parent);
    ASSERT_EQ(sim_unmap(rig.sim, 0, 8), QR_OK);
    EXPECT_EQ(user_pages(group), 5u); /* the child has these still */
    sim_space_destroy(rig.sim, child);
    EXPECT_EQ(user_pages(group), 0u);
    EXPECT_EQ(user_pages(other), 0u);
    qr_space_set_group(parent, NULL);
    qr_group_put(group);
    qr_group_put(other);
    rig_end(&rig);
}

TEST(group, pages_of_objects_stay_charged_when_their_group_is_removed)
{
    struct rig rig;
    struct qr_object *object;
    struct qr_group_pages pages;
    struct qr_node_use use;

    rig_boot(&rig, (struct sim_options){.frames = 1024});
    struct qr_group *top = make(&rig, NULL, QR_GROUP_UNLIMITED);
    struct qr_group *group = make(&rig, top, QR_GROUP_UNLIMITED);

    ASSERT_EQ(
        qr_object_create(sim_objects(rig.sim), &qr_pager_memory, NULL, 8 << QR_PAGE_SHIFT, &object),
        QR_OK);
    ASSERT_EQ(sim_map_object(rig.sim, 0, 8, SIM_W, object, 0), QR_OK);
    thread_group = group;
    for (size_t page = 0; page < 5; page++)
        sim_write(rig.sim, page, 1);
    thread_group = NULL;
    sim_write(rig.sim, 5, 1); /* by nobody who is charged */
    qr_group_pages(top, &pages);
    EXPECT_EQ(pages.shmem, 5u);
    EXPECT_EQ(pages.anon, 0u);
    for (int node = -1; node <= 1; node++) {
        qr_group_use(top, node, &use);
        EXPECT_EQ(use.shmem, node == 1 ? 0u : 5u);
    }
    qr_group_put(group);
    EXPECT_EQ(qr_group_usage(top), 5u);
    struct qr_group *other = make(&rig, NULL, 1);

    EXPECT_TRUE(other != group); /* its place is not free yet */
    qr_group_put(other);
    qr_object_punch(object, 0, 2);
    EXPECT_EQ(qr_group_usage(top), 3u);
    rig_validate(&rig);
    ASSERT_EQ(sim_unmap(rig.sim, 0, 8), QR_OK);
    qr_object_put(object);
    EXPECT_EQ(qr_group_usage(top), 0u);
    qr_group_pages(top, &pages);
    EXPECT_EQ(pages.shmem, 0u);
    qr_group_put(top);
    other = make(&rig, NULL, 1);
    EXPECT_TRUE(other == top || other == group); /* now it is */
    qr_group_put(other);
    rig_end(&rig);
}

static void
note_pages(void *context, struct qr_group *group, size_t pages)
{
    size_t *noted = context;

    (void)group;
    *noted += pages;
}

/* Who charges is told while its group, or one above, is over its high limit: of memory, or of swap. */
TEST(group, over_a_high_limit_each_charge_is_told)
{
    const struct qr_group_ops ops = {.over_high = note_pages};
    size_t noted = 0;
    struct rig rig;

    rig_boot(&rig, (struct sim_options){.frames = 256});
    qr_groups_set_ops(rig.groups, &ops, &noted);
    struct qr_group *top = make(&rig, NULL, 1000), *low = make(&rig, top, 1000);

    EXPECT_EQ(qr_group_swap_high(top), (size_t)QR_GROUP_UNLIMITED);
    ASSERT_TRUE(qr_group_charge_swap(rig.groups, qr_group_number(low)));
    ASSERT_TRUE(qr_group_charge_swap(rig.groups, qr_group_number(low)));
    ASSERT_TRUE(charges(low, 200));
    EXPECT_EQ(noted, 0u);
    qr_group_set_swap_high(top, 2);
    ASSERT_TRUE(charges(low, 200));
    EXPECT_EQ(noted, 0u);
    qr_group_set_swap_high(top, 1);
    ASSERT_TRUE(charges(low, 200));
    EXPECT_EQ(noted, 200u);
    qr_group_uncharge_swap(rig.groups, qr_group_number(low));
    ASSERT_TRUE(charges(low, 200));
    EXPECT_EQ(noted, 200u);
    qr_group_set_limit(low, QR_GROUP_HIGH, 900);
    ASSERT_TRUE(charges(low, 200));
    EXPECT_EQ(noted, 400u);
    qr_group_uncharge(low, 1000);
    qr_group_uncharge_swap(rig.groups, qr_group_number(low));
    qr_group_put(low);
    qr_group_put(top);
    rig_end(&rig);
}

static bool
unmap_first(void *context, struct qr_group *full, size_t pages)
{
    struct rig *rig = context;

    (void)pages;
    EXPECT_EQ(qr_group_usage(full), qr_group_limit(full, QR_GROUP_MAX));
    return qr_space_advise(sim_space(rig->sim), sim_page(0), 2 << QR_PAGE_SHIFT,
                           QR_ADVICE_DONT_NEED) == QR_OK;
}

TEST(group, a_fault_at_the_limit_asks_for_room_and_goes_on)
{
    const struct qr_group_ops ops = {.make_room = unmap_first};
    struct rig rig;

    rig_boot(&rig, (struct sim_options){.frames = 1024});
    struct qr_group *group = make(&rig, NULL, 4);

    ASSERT_EQ(sim_map(rig.sim, 0, 8, SIM_W), QR_OK);
    sim_write(rig.sim, 7, 1); /* brings the tables, for which nobody is charged yet */
    qr_space_set_group(sim_space(rig.sim), group);
    for (size_t page = 0; page < 4; page++)
        sim_write(rig.sim, page, 1);
    EXPECT_EQ(sim_touch(rig.sim, 4, QR_ACCESS_WRITE), SIM_OOM);
    EXPECT_EQ(qr_group_usage(group), 4u);
    rig_validate(&rig);
    qr_groups_set_ops(rig.groups, &ops, &rig);
    sim_write(rig.sim, 4, 1);
    EXPECT_EQ(qr_group_usage(group), 3u);
    EXPECT_EQ(qr_group_events(group, QR_GROUP_EVENT_MAX, true), 2u);
    ASSERT_EQ(sim_unmap(rig.sim, 2, 8), QR_OK);
    qr_space_set_group(sim_space(rig.sim), NULL);
    qr_group_put(group);
    rig_end(&rig);
}

/* Each allocation refused in turn, on every path that charges. */
TEST(group, nothing_stays_charged_where_memory_is_refused)
{
    for (unsigned refusal = 1; refusal < 60; refusal++) {
        struct rig rig;
        struct qr_object *object;
        struct qr_space *child = NULL;

        rig_boot(&rig, (struct sim_options){.frames = 1024});
        struct qr_group *group = make(&rig, NULL, QR_GROUP_UNLIMITED);

        qr_space_set_group(sim_space(rig.sim), group);
        thread_group = group;
        ASSERT_EQ(qr_object_create(sim_objects(rig.sim), &qr_pager_memory, NULL,
                                   (size_t)100 << QR_PAGE_SHIFT, &object),
                  QR_OK);
        ASSERT_EQ(sim_map(rig.sim, 0, 8, SIM_W), QR_OK);
        ASSERT_EQ(sim_map_object(rig.sim, 16, 8, SIM_W, object, 70), QR_OK);
        ASSERT_EQ(sim_map_private(rig.sim, 32, 8, SIM_W, object, 70), QR_OK);
        sim_refuse_nth(rig.sim, refusal,
                       refusal % 2 != 0 ? SIM_REFUSE_ONCE : SIM_REFUSE_FROM_THEN_ON);
        for (size_t page = 0; page < 40; page += 5)
            (void)sim_touch(rig.sim, page, QR_ACCESS_WRITE);
        if (qr_space_fork(sim_space(rig.sim), &child) != QR_OK)
            child = NULL;
        for (size_t page = 0; page < 40; page += 3)
            (void)sim_touch(rig.sim, page, QR_ACCESS_WRITE);
        sim_refuse_nth(rig.sim, 0, SIM_REFUSE_ONCE);
        rig_validate(&rig);
        if (child != NULL)
            sim_space_destroy(rig.sim, child);
        ASSERT_EQ(sim_unmap(rig.sim, 0, 40), QR_OK);
        qr_object_put(object);
        EXPECT_EQ(user_pages(group), 0u);
        qr_space_set_group(sim_space(rig.sim), NULL);
        thread_group = NULL;
        qr_group_put(group);
        rig_end(&rig);
    }
}

/* ---- The kernel's own ---------------------------------------------------------------- */

TEST(group, bytes_are_charged_as_the_pages_that_they_fill)
{
    enum { PIECES = 300 };
    static struct qr_charge piece[PIECES];
    uint64_t random = test_seed();
    struct rig rig;
    size_t bytes = 0;

    rig_boot(&rig, (struct sim_options){.frames = 256});
    struct qr_group *top = make(&rig, NULL, 20), *group = make(&rig, top, QR_GROUP_UNLIMITED);

    for (unsigned round = 0; round < 5000; round++) {
        struct qr_charge *at = &piece[test_random(&random) % PIECES];
        size_t more = 1 + test_random(&random) % (QR_PAGE_SIZE / 4);
        size_t pages = (bytes + more + QR_PAGE_MASK) >> QR_PAGE_SHIFT;

        if (at->group != 0) {
            bytes -= at->bytes;
            qr_charge_drop(rig.groups, at);
            EXPECT_EQ(at->group, 0u);
        } else {
            enum qr_status status = qr_charge_take(group, QR_GROUP_SLAB, more, at);

            EXPECT_EQ(status, pages <= 20 ? QR_OK : QR_ERR_LIMIT);
            bytes += status == QR_OK ? more : 0;
            EXPECT_EQ(at->bytes, status == QR_OK ? more : 0);
        }
        EXPECT_EQ(qr_group_usage(top), (bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT);
    }
    struct qr_group_pages pages;

    qr_group_pages(top, &pages);
    EXPECT_EQ(pages.bytes[QR_GROUP_SLAB], bytes);
    EXPECT_EQ(pages.anon, 0u);
    rig_validate(&rig);
    for (unsigned i = 0; i < PIECES; i++)
        qr_charge_drop(rig.groups, &piece[i]);
    EXPECT_EQ(qr_group_usage(top), 0u);
    qr_group_put(group);
    qr_group_put(top);
    rig_end(&rig);
}

TEST(group, tables_and_regions_are_charged_and_never_pass_the_limit)
{
    for (size_t max = 0; max < 60; max++) {
        struct rig rig;
        struct qr_space *child = NULL;

        rig_boot(&rig, (struct sim_options){.frames = 2048});
        struct qr_group *group = make(&rig, NULL, max);
        size_t mapped = 0;

        qr_space_set_group(sim_space(rig.sim), group);
        while (mapped < 40 && sim_map(rig.sim, mapped * 600, 1, SIM_W) == QR_OK &&
               sim_touch(rig.sim, mapped * 600, QR_ACCESS_WRITE) == SIM_OK)
            mapped++;
        EXPECT_TRUE(max > 0 || mapped == 0);
        EXPECT_TRUE(mapped < 40 || user_pages(group) == 40);
        EXPECT_EQ(qr_space_fork(sim_space(rig.sim), &child) == QR_OK, child != NULL);
        EXPECT_LE(qr_group_usage(group), max);
        /* Nobody is there to make any; where a fork failed that wanted more than a page, there may be some. */
        EXPECT_TRUE(!qr_space_make_room(sim_space(rig.sim), 0) || qr_group_usage(group) < max);
        rig_validate(&rig);
        if (child != NULL)
            sim_space_destroy(rig.sim, child);
        qr_space_clear(sim_space(rig.sim));
        EXPECT_EQ(user_pages(group), 0u);
        qr_space_set_group(sim_space(rig.sim), NULL);
        qr_group_put(group);
        rig_end(&rig);
    }
}

/* ---- Threads --------------------------------------------------------------------------- */

enum { THREADS = 4, PAGES = 24, MAX = 48 };

struct world {
    struct rig rig;
    struct qr_group *top, *group[2];
    struct qr_space *space[2];
    _Atomic unsigned passed; /* times that a limit was seen passed */
    unsigned rounds;
};

struct thread {
    struct world *world;
    unsigned index;
    uint64_t random;
};

static void
thread_act(struct thread *thread)
{
    struct world *world = thread->world;
    struct qr_space *space = world->space[thread->index % 2];
    size_t page = test_random(&thread->random) % (PAGES - 4);
    uint64_t value = 1;

    switch (test_random(&thread->random) % 8) {
    case 0:
        (void)!qr_space_advise(space, sim_page(page), 4 << QR_PAGE_SHIFT, QR_ADVICE_DONT_NEED);
        break;
    case 1:
        qr_space_set_group(space, world->group[test_random(&thread->random) % 2]);
        break;
    case 2: {
        struct qr_space *child;

        if (test_random(&thread->random) % 4 == 0 && qr_space_fork(space, &child) == QR_OK)
            sim_space_destroy(world->rig.sim, child);
        break;
    }
    default:
        (void)sim_store(sim_page(page), &value, sizeof(value));
        break;
    }
    for (int i = 0; i < 2; i++) {
        if (qr_group_usage(world->group[i]) > MAX || qr_group_usage(world->top) > MAX + MAX / 2)
            atomic_fetch_add(&world->passed, 1);
    }
}

static void
thread_main(void *context)
{
    struct thread *thread = context;
    struct world *world = thread->world;

    sim_use(world->rig.sim, world->space[thread->index % 2]);
    for (unsigned i = 0; i < world->rounds; i++)
        thread_act(thread);
    sim_use(world->rig.sim, NULL);
}

static void
world_run(uint64_t seed, enum sim_run_mode mode, unsigned rounds)
{
    struct world world = {.rounds = rounds};
    struct thread threads[THREADS];

    struct sim_options options = {.frames = 2048, .cpus = THREADS};

    if (mode == SIM_RUN_THREADS) /* host threads own their TLBs */
        options.features |= SIM_NO_BROADCAST;
    rig_boot(&world.rig, options);
    world.top = make(&world.rig, NULL, MAX + MAX / 2);
    for (int i = 0; i < 2; i++) {
        world.group[i] = make(&world.rig, world.top, MAX);
        world.space[i] = sim_space_create(world.rig.sim);
        struct qr_map_request request = {.hint = sim_page(0),
                                         .bytes = PAGES << QR_PAGE_SHIFT,
                                         .prot = SIM_W,
                                         .flags = QR_MAP_FIXED};
        qr_va va;

        ASSERT_EQ(qr_space_map(world.space[i], &request, &va), QR_OK);
        qr_space_set_group(world.space[i], world.group[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.world = &world, .index = i, .random = seed + i};
        sim_spawn(world.rig.sim, i, "charger", thread_main, &threads[i]);
    }
    sim_run(world.rig.sim, mode);
    EXPECT_EQ(world.passed, 0u);
    rig_validate(&world.rig);
    for (int i = 0; i < 2; i++)
        sim_space_destroy(world.rig.sim, world.space[i]);
    EXPECT_EQ(qr_group_usage(world.top), 0u);
    for (int i = 0; i < 2; i++)
        qr_group_put(world.group[i]);
    qr_group_put(world.top);
    rig_end(&world.rig);
}

TEST(group, charges_and_limits_race_under_every_schedule)
{
    uint64_t seeds = sim_seeds(20);

    for (uint64_t seed = 0; seed < seeds; seed++)
        world_run(test_seed() + seed * 100, SIM_RUN_SEEDED, 60);
}

TEST_THREADS(group, charges_and_limits_race_on_real_threads)
{
    world_run(test_seed(), SIM_RUN_THREADS, 400);
}
