/* SPDX-License-Identifier: MIT */
/*
 * Groups whose memory is in swap: who is charged when it comes back, and limits that are never passed, however
 * much goes out and in.
 */
#include "group_rig.h"

#include <quire/reclaim.h>
#include <quire/shrink.h>

#include "swap/swap.h"

enum { PAGES = 8, DISK = 600 };

static void
swap_boot(struct rig *rig, struct sim_options options)
{
    rig_boot(rig, options);
    sim_swap(rig->sim)->config.groups = rig->groups;
    qr_swap_attach(sim_vm(rig->sim));
    (void)sim_swap_on(rig->sim, DISK, 0);
}

/* Everything that can: a look forgets who used what, one takes entries, one the pages that two spaces had. */
static void
swap_all(struct rig *rig)
{
    for (int look = 0; look < 3; look++)
        (void)sim_swap_out(rig->sim, SIZE_MAX);
}

static void
read_all(struct rig *rig)
{
    for (size_t page = 0; page < PAGES; page++)
        EXPECT_EQ(sim_read(rig->sim, page), page + 1);
}

/* ---- Who is charged ------------------------------------------------------------------ */

/* Pages that @owner was charged for, and a child that is in @other. */
struct scene {
    struct rig rig;
    struct qr_group *owner, *other;
    struct qr_space *child;
    struct qr_object *object; /* where the pages are, or NULL: private memory */
};

static void
scene_begin(struct scene *scene, bool charged, bool shared)
{
    struct rig *rig = &scene->rig;

    *scene = (struct scene){.object = NULL};
    swap_boot(rig, (struct sim_options){.frames = 1024});
    scene->owner = make(rig, NULL, QR_GROUP_UNLIMITED);
    scene->other = make(rig, NULL, QR_GROUP_UNLIMITED);
    if (shared) {
        ASSERT_EQ(qr_object_create(sim_objects(rig->sim), &qr_pager_memory, NULL,
                                   (uint64_t)PAGES << QR_PAGE_SHIFT, &scene->object),
                  QR_OK);
        ASSERT_EQ(sim_map_object(rig->sim, 0, PAGES, SIM_W, scene->object, 0), QR_OK);
    } else {
        ASSERT_EQ(sim_map(rig->sim, 0, PAGES, SIM_W), QR_OK);
    }
    thread_group = charged ? scene->owner : NULL;
    qr_space_set_group(rig->space, thread_group);
    for (size_t page = 0; page < PAGES; page++)
        sim_write(rig->sim, page, page + 1);
    scene->child = sim_fork(rig->sim);
    qr_space_set_group(scene->child, scene->other);
    EXPECT_EQ(user_pages(scene->owner), charged ? PAGES : 0u);
    swap_all(rig);
    EXPECT_EQ(user_pages(scene->owner), 0u);
    EXPECT_EQ(qr_group_swap(scene->owner), charged ? PAGES : 0u);
    thread_group = scene->other;
    sim_use(rig->sim, scene->child);
}

static void
scene_end(struct scene *scene)
{
    struct rig *rig = &scene->rig;

    rig_validate(rig);
    sim_use(rig->sim, rig->space);
    sim_space_destroy(rig->sim, scene->child);
    ASSERT_EQ(sim_unmap(rig->sim, 0, PAGES), QR_OK);
    if (scene->object != NULL)
        qr_object_put(scene->object);
    EXPECT_EQ(user_pages(scene->other), 0u);
    EXPECT_EQ(qr_group_swap(scene->other), 0u);
    qr_space_set_group(rig->space, NULL);
    if (scene->owner != NULL)
        qr_group_put(scene->owner);
    qr_group_put(scene->other);
    rig_end(rig);
}

TEST(group_swap, who_was_charged_for_a_page_is_when_it_comes_back)
{
    for (int shared = 0; shared < 2; shared++) {
        struct scene scene;

        scene_begin(&scene, true, shared != 0);
        read_all(&scene.rig);
        EXPECT_EQ(user_pages(scene.owner), (size_t)PAGES);
        EXPECT_EQ(user_pages(scene.other), 0u);
        swap_all(&scene.rig);
        EXPECT_EQ(qr_group_swap(scene.owner), (size_t)PAGES);
        EXPECT_EQ(qr_group_swap(scene.other), 0u);
        scene_end(&scene);
    }
}

TEST(group_swap, what_was_charged_to_nobody_stays_nobodys)
{
    for (int shared = 0; shared < 2; shared++) {
        struct scene scene;

        scene_begin(&scene, false, shared != 0);
        read_all(&scene.rig);
        EXPECT_EQ(user_pages(scene.other), 0u);
        swap_all(&scene.rig);
        EXPECT_EQ(qr_group_swap(scene.other), 0u);
        scene_end(&scene);
    }
}

TEST(group_swap, who_needs_a_page_is_charged_where_its_group_is_full_or_gone)
{
    for (int which = 0; which < 4; which++) {
        struct scene scene;
        bool gone = which % 2 != 0;

        scene_begin(&scene, true, which / 2 != 0);
        if (gone) {
            qr_space_set_group(scene.rig.space, NULL);
            qr_group_put(scene.owner);
        } else {
            qr_group_set_limit(scene.owner, QR_GROUP_MAX, 0);
            qr_groups_drain(scene.rig.groups);
        }
        read_all(&scene.rig);
        EXPECT_EQ(user_pages(scene.owner), 0u);
        EXPECT_EQ(user_pages(scene.other), (size_t)PAGES);
        if (gone)
            scene.owner = NULL;
        scene_end(&scene);
    }
}

/* ---- Limits --------------------------------------------------------------------------------- */

/* Two spaces in a group; pages of each: SHARED that both have, then as many of its own. */
enum { MAX = 60, SHARED = 64, ALL = 2 * SHARED, THREADS = 3 };

struct world {
    struct rig rig;
    struct qr_group *group;
    struct qr_object *object;
    struct qr_space *space[2];
    unsigned rounds;
    _Atomic unsigned passed, lost; /* times that the limit was seen passed, that a word was wrong */
};

struct thread {
    struct world *world;
    unsigned index;
    uint64_t random;
    uint64_t word[ALL]; /* that it wrote last to each page */
};

/* What a kernel does about a group that is full. */
static bool
reclaim_in(void *context, struct qr_group *full, size_t pages)
{
    struct world *world = context;
    const struct qr_reclaim_request request = {.pages = pages, .group = full};

    sim_preempt();
    return qr_reclaim(sim_vm(world->rig.sim), &request) >= pages;
}

/* Each has words of its own in all pages. */
static void
thread_act(struct thread *thread)
{
    struct world *world = thread->world;
    size_t page = test_random(&thread->random) % ALL;
    qr_va at = qr_va_of(sim_page(page).v + sizeof(uint64_t) * (thread->index + 1));
    uint64_t word = 0;

    if (sim_load(at, &word, sizeof(word)) == SIM_OK && word != thread->word[page])
        atomic_fetch_add(&world->lost, 1);
    word = thread->random;
    if (word % 2 == 0 && sim_store(at, &word, sizeof(word)) == SIM_OK)
        thread->word[page] = word;
    if (qr_group_usage(world->group) > MAX)
        atomic_fetch_add(&world->passed, 1);
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
world_begin(struct world *world, struct sim_options options)
{
    struct rig *rig = &world->rig;

    swap_boot(rig, options);
    world->group = make(rig, NULL, QR_GROUP_UNLIMITED);
    ASSERT_EQ(qr_object_create(sim_objects(rig->sim), &qr_pager_memory, NULL,
                               (uint64_t)SHARED << QR_PAGE_SHIFT, &world->object),
              QR_OK);
    for (int i = 0; i < 2; i++) {
        world->space[i] = sim_space_create(rig->sim);
        qr_space_set_group(world->space[i], world->group);
        sim_use(rig->sim, world->space[i]);
        ASSERT_EQ(sim_map_object(rig->sim, 0, SHARED, SIM_W, world->object, 0), QR_OK);
        ASSERT_EQ(sim_map(rig->sim, SHARED, SHARED, SIM_W), QR_OK);
    }
    sim_use(rig->sim, rig->space);
    thread_group = world->group;
    qr_group_set_limit(world->group, QR_GROUP_MAX, MAX);
}

static void
world_end(struct world *world)
{
    struct rig *rig = &world->rig;

    rig_validate(rig);
    sim_use(rig->sim, rig->space);
    for (int i = 0; i < 2; i++)
        sim_space_destroy(rig->sim, world->space[i]);
    qr_object_put(world->object);
    EXPECT_EQ(user_pages(world->group), 0u);
    EXPECT_EQ(qr_group_swap(world->group), 0u);
    qr_group_put(world->group);
    rig_end(rig);
}

static void
world_run(uint64_t seed, enum sim_run_mode mode, unsigned rounds)
{
    const struct qr_group_ops ops = {.make_room = reclaim_in};
    struct world world = {.rounds = rounds};
    struct thread threads[THREADS];
    struct sim_options options = {.frames = 2048, .cpus = THREADS, .features = SIM_NO_VALIDATE};

    if (mode == SIM_RUN_THREADS) /* host threads own their TLBs */
        options.features |= SIM_NO_BROADCAST;
    world_begin(&world, options);
    qr_groups_set_ops(world.rig.groups, &ops, &world);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.world = &world, .index = i, .random = seed + i};
        sim_spawn(world.rig.sim, i, "user", thread_main, &threads[i]);
    }
    sim_run(world.rig.sim, mode);
    EXPECT_EQ(world.passed, 0u);
    EXPECT_EQ(world.lost, 0u);
    EXPECT_TRUE(qr_counter_read(qr_frames_counters(sim_frames(world.rig.sim)), QR_EVENT_SWAP_OUT) >
                MAX);
    EXPECT_TRUE(qr_group_peak(world.group) <= MAX);
    world_end(&world);
}

TEST(group_swap, no_limit_is_passed_under_any_schedule)
{
    uint64_t seeds = sim_seeds(12);

    for (uint64_t seed = 0; seed < seeds; seed++)
        world_run(test_seed() + seed * 100, SIM_RUN_SEEDED, 150);
}

TEST_THREADS(group_swap, no_limit_is_passed_on_real_threads)
{
    world_run(test_seed(), SIM_RUN_THREADS, 1500);
}
