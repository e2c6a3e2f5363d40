/* SPDX-License-Identifier: MIT */
/*
 * Classes of bugs that shipped in production kernels, each with the sequence that
 * showed it.  Threads run under seeded schedules; the hosted machine fails a test
 * by itself where a TLB entry is used after its right has gone.
 *
 * Names begin with the class; the kernel bug it is known by stands beside it.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/listener.h>

#include <string.h>

#include "sim.h"
#include "space/region.h"

enum { FILE_PAGES = 4, ROUNDS = 40 };

struct scene {
    struct sim *sim;
    struct qr_space *space;
    struct qr_object *object;
    unsigned wrong;
    unsigned useful; /* rounds in which the race could have happened */
    uint64_t random;
};

static struct sim_options
options(uint64_t seed)
{
    return (struct sim_options){.seed = test_seed() + seed, .cpus = 3, .features = SIM_NO_VALIDATE};
}

static uint64_t *
frame_words(struct scene *scene, struct qr_frame *frame)
{
    return sim_ram(scene->sim, qr_frame_pa(sim_frames(scene->sim), frame));
}

static void
frame_put(struct scene *scene, struct qr_frame *frame)
{
    qr_frame_put(sim_frames(scene->sim), frame);
}

/* An object of shared memory whose page i holds 1000 + i. */
static void
scene_boot(struct scene *scene, uint64_t seed)
{
    *scene = (struct scene){.sim = sim_boot(options(seed)), .random = seed};
    scene->space = sim_space(scene->sim);
    ASSERT_EQ(qr_object_create(sim_objects(scene->sim), &qr_pager_memory, NULL,
                               FILE_PAGES << QR_PAGE_SHIFT, &scene->object),
              QR_OK);
    for (size_t i = 0; i < FILE_PAGES; i++) {
        struct qr_frame *frame;

        ASSERT_EQ(qr_object_get_page(scene->object, i, QR_PAGE_FILL, &frame), QR_OK);
        *frame_words(scene, frame) = 1000 + i;
        frame_put(scene, frame);
    }
}

static void
expect_file_unchanged(struct scene *scene)
{
    for (size_t i = 0; i < FILE_PAGES; i++) {
        struct qr_frame *frame;

        ASSERT_EQ(qr_object_get_page(scene->object, i, QR_PAGE_FILL, &frame), QR_OK);
        EXPECT_EQ(*frame_words(scene, frame), 1000 + i);
        frame_put(scene, frame);
    }
}

static void
scene_end(struct scene *scene)
{
    EXPECT_EQ(scene->wrong, 0);
    sim_validate(scene->sim);
    ASSERT_EQ(qr_space_unmap(scene->space, sim_page(0), 4096 << QR_PAGE_SHIFT), QR_OK);
    qr_object_put(scene->object);
    sim_shutdown(scene->sim);
}

static enum qr_status
advise(struct scene *scene, size_t page, size_t pages, enum qr_advice advice)
{
    return qr_space_advise(scene->space, sim_page(page), pages << QR_PAGE_SHIFT, advice);
}

static void
body_dont_need(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++)
        EXPECT_EQ(advise(scene, 0, FILE_PAGES, QR_ADVICE_DONT_NEED), QR_OK);
}

/* ---- A write never reaches what it was to be copied from ------------------------- */

static void
body_poke(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct qr_frame *frame;

        ASSERT_EQ(qr_space_get_frame(scene->space, sim_page(i % FILE_PAGES), QR_ACCESS_WRITE, true,
                                     &frame),
                  QR_OK);
        sim_preempt();
        *frame_words(scene, frame) = 666;
        frame_put(scene, frame);
        scene->useful++;
    }
}

/* Dirty COW, CVE-2016-5195: a debugger's write against MADV_DONTNEED; and, with shared memory
 * behind the mapping, CVE-2022-2590. */
TEST(invariants, dirty_cow)
{
    for (uint64_t seed = 0; seed < sim_seeds(20); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        ASSERT_EQ(sim_map_private(scene.sim, 0, FILE_PAGES, SIM_R, scene.object, 0), QR_OK);
        sim_spawn(scene.sim, SIM_ANY_CPU, "poke", body_poke, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "forget", body_dont_need, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        EXPECT_EQ(scene.useful, ROUNDS);
        expect_file_unchanged(&scene);
        scene_end(&scene);
    }
}

/*
 * Shared memory's Dirty COW, CVE-2022-2590: a page that was mapped by who answers faults is the
 * object's still, and a forced write breaks away from it like from any other.
 */
struct answered {
    struct scene scene;
    struct qr_listener listener;
};

static void
body_supply(void *context)
{
    struct answered *answered = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t page = i % FILE_PAGES;

        EXPECT_EQ(advise(&answered->scene, page, 1, QR_ADVICE_DONT_NEED), QR_OK);
        sim_preempt();
        (void)!qr_space_fill_cached(answered->scene.space, sim_page(page), 0);
    }
}

/* Nobody answers the faults themselves: they fail at once. */
static void
body_poke_supplied(void *context)
{
    struct answered *answered = context;
    struct scene *scene = &answered->scene;

    for (unsigned i = 0; i < 4 * ROUNDS; i++) {
        struct qr_frame *frame;

        if (qr_space_get_frame(scene->space, sim_page(i % FILE_PAGES), QR_ACCESS_WRITE, true,
                               &frame) != QR_OK)
            continue;
        sim_preempt();
        *frame_words(scene, frame) = 666;
        frame_put(scene, frame);
        scene->useful++;
    }
}

static void
listener_gone(struct qr_listener *listener)
{
    (void)listener;
}

TEST(invariants, a_supplied_page_is_not_ones_own)
{
    static const struct qr_listener_ops ops = {.destroy = listener_gone};
    unsigned useful = 0;

    for (uint64_t seed = 0; seed < sim_seeds(20); seed++) {
        struct answered answered;
        struct scene *scene = &answered.scene;

        scene_boot(scene, seed);
        qr_listener_init(&answered.listener, &ops, QR_LISTENER_NO_WAIT);
        ASSERT_EQ(sim_map_private(scene->sim, 0, FILE_PAGES, seed % 2 != 0 ? SIM_W : SIM_R,
                                  scene->object, 0),
                  QR_OK);
        ASSERT_EQ(qr_space_watch(scene->space, sim_page(0), FILE_PAGES << QR_PAGE_SHIFT,
                                 &answered.listener, QR_WATCH_MISSING | QR_WATCH_MINOR),
                  QR_OK);
        sim_spawn(scene->sim, SIM_ANY_CPU, "supply", body_supply, &answered);
        sim_spawn(scene->sim, SIM_ANY_CPU, "poke", body_poke_supplied, &answered);
        sim_run(scene->sim, SIM_RUN_SEEDED);
        expect_file_unchanged(scene);
        useful += scene->useful;
        qr_space_unwatch_all(scene->space, &answered.listener);
        qr_listener_put(&answered.listener);
        scene_end(scene);
    }
    EXPECT_GT(useful, 0);
}

/* Huge Dirty COW, CVE-2017-1000405: what was only read is never taken for one's own. */
TEST(invariants, the_frame_of_zeroes_is_never_written)
{
    struct scene scene;
    struct qr_frame *frame;

    scene_boot(&scene, 0);
    ASSERT_EQ(sim_map(scene.sim, 0, 2, SIM_R), QR_OK);
    EXPECT_EQ(sim_read(scene.sim, 0), 0);
    for (int i = 0; i < 2; i++) {
        ASSERT_EQ(qr_space_get_frame(scene.space, sim_page(0), QR_ACCESS_WRITE, true, &frame),
                  QR_OK);
        EXPECT_EQ(qr_frame_type(frame), QR_FRAME_ANON);
        *frame_words(&scene, frame) = 666;
        frame_put(&scene, frame);
    }
    EXPECT_EQ(sim_read(scene.sim, 0), 666);
    EXPECT_EQ(sim_read(scene.sim, 1), 0);
    EXPECT_EQ(*frame_words(&scene, sim_vm(scene.sim)->zero), 0);
    scene_end(&scene);
}

/* COW can break either way, CVE-2020-29374: a pin made by the child keeps the parent off. */
TEST(invariants, a_pinned_frame_is_not_taken_over)
{
    struct scene scene;
    struct qr_frame *pinned;

    scene_boot(&scene, 0);
    ASSERT_EQ(sim_map(scene.sim, 0, 1, SIM_W), QR_OK);
    sim_write(scene.sim, 0, 1);
    struct qr_space *child = sim_fork(scene.sim);

    ASSERT_EQ(qr_space_get_frame(child, sim_page(0), QR_ACCESS_READ, false, &pinned), QR_OK);
    ASSERT_EQ(qr_space_unmap(child, sim_page(0), QR_PAGE_SIZE), QR_OK);
    sim_write(scene.sim, 0, 42);
    EXPECT_EQ(*frame_words(&scene, pinned), 1);
    frame_put(&scene, pinned);
    sim_space_destroy(scene.sim, child);
    EXPECT_EQ(sim_read(scene.sim, 0), 42);
    scene_end(&scene);
}

/* MacDirtyCow, CVE-2022-46689: the mapping is replaced between the check and the write. */
static void
body_write_checked(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct qr_frame *frame;

        if (qr_space_get_frame(scene->space, sim_page(0), QR_ACCESS_WRITE, false, &frame) != QR_OK)
            continue;
        *frame_words(scene, frame) = 666;
        frame_put(scene, frame);
        scene->useful++;
    }
}

static void
body_replace(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        ASSERT_EQ(sim_map(scene->sim, 0, 1, SIM_W), QR_OK);
        sim_preempt();
        ASSERT_EQ(sim_map_private(scene->sim, 0, 1, SIM_R, scene->object, 0), QR_OK);
        uint64_t value = 0;

        EXPECT_EQ(sim_load(sim_page(0), &value, sizeof(value)), SIM_OK);
        scene->wrong += value != 1000;
    }
}

TEST(invariants, rights_are_checked_again_after_each_wait)
{
    unsigned useful = 0;

    for (uint64_t seed = 0; seed < sim_seeds(20); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        sim_spawn(scene.sim, SIM_ANY_CPU, "write", body_write_checked, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "replace", body_replace, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        expect_file_unchanged(&scene);
        useful += scene.useful;
        scene_end(&scene);
    }
    EXPECT_GT(useful, 0);
}

/* FreeBSD's shadow chains, CVE-2021-29626: no entry outlives its frame's reference. */
TEST(invariants, generations_let_go_of_shared_pages)
{
    struct scene scene;

    scene_boot(&scene, 0);
    ASSERT_EQ(sim_map_private(scene.sim, 0, 2, SIM_W, scene.object, 0), QR_OK);
    sim_write(scene.sim, 0, 1);
    struct qr_space *child = sim_fork(scene.sim);

    sim_use(scene.sim, child);
    struct qr_space *grandchild = sim_fork(scene.sim);

    sim_write(scene.sim, 0, 2);
    qr_object_set_bytes(scene.object, QR_PAGE_SIZE);
    sim_use(scene.sim, scene.space);
    sim_space_destroy(scene.sim, child);
    sim_use(scene.sim, grandchild);
    EXPECT_EQ(sim_read(scene.sim, 0), 1);
    EXPECT_EQ(sim_touch(scene.sim, 1, QR_ACCESS_READ), SIM_BUS_ADRERR);
    sim_use(scene.sim, scene.space);
    EXPECT_EQ(sim_read(scene.sim, 0), 1);
    sim_space_destroy(scene.sim, grandchild);
    scene_end(&scene);
}

/* ---- Translations go before frames do -------------------------------------------------- */

static void
body_store_anywhere(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t value = 7;
        size_t page = test_random(&scene->random) % (4 * FILE_PAGES);

        scene->useful += sim_store(sim_page(page), &value, sizeof(value)) == SIM_OK;
    }
}

static void
body_move(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t from = (i % 2) * 2 * FILE_PAGES;
        struct qr_remap_request request = {
            .old_start = sim_page(from),
            .old_bytes = FILE_PAGES << QR_PAGE_SHIFT,
            .new_bytes = FILE_PAGES << QR_PAGE_SHIFT,
            .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
            .new_start = sim_page(2 * FILE_PAGES - from),
        };
        qr_va va;

        EXPECT_EQ(qr_space_remap(scene->space, &request, &va), QR_OK);
        uint64_t value;

        EXPECT_EQ(sim_load(sim_page(from), &value, sizeof(value)), SIM_SEGV_MAPERR);
    }
}

/* After the size was cut, no page behind it is mapped anywhere. */
static void
body_truncate(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_object_set_bytes(scene->object, QR_PAGE_SIZE);
        sim_preempt();
        qr_object_set_bytes(scene->object, FILE_PAGES << QR_PAGE_SHIFT);
    }
}

/* CVE-2018-18281: mremap flushes after it let go; CVE-2022-41222: truncation misses what moves. */
TEST(invariants, moving_against_truncation)
{
    for (uint64_t seed = 0; seed < sim_seeds(30); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        ASSERT_EQ(seed % 2 != 0 ? sim_map_object(scene.sim, 0, FILE_PAGES, SIM_W, scene.object, 0)
                                : sim_map_private(scene.sim, 0, FILE_PAGES, SIM_W, scene.object, 0),
                  QR_OK);
        sim_spawn(scene.sim, SIM_ANY_CPU, "move", body_move, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "store", body_store_anywhere, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "truncate", body_truncate, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        scene_end(&scene);
    }
}

static void
body_forget_and_look(void *context)
{
    struct scene *scene = context;
    uint64_t mark = test_random(&scene->random) | 1;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t value = mark + 2 * i;

        EXPECT_EQ(sim_store(sim_page(0), &value, sizeof(value)), SIM_OK);
        EXPECT_EQ(advise(scene, 0, 1, QR_ADVICE_DONT_NEED), QR_OK);
        EXPECT_EQ(sim_load(sim_page(0), &value, sizeof(value)), SIM_OK);
        scene->wrong += value == mark + 2 * i;
    }
}

/* 99baac21e458: who finds the entry gone already must wait for the other's flush. */
TEST(invariants, gone_means_gone_for_every_cpu)
{
    for (uint64_t seed = 0; seed < sim_seeds(30); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        ASSERT_EQ(sim_map(scene.sim, 0, 1, SIM_W), QR_OK);
        for (int i = 0; i < 3; i++)
            sim_spawn(scene.sim, SIM_ANY_CPU, "forget", body_forget_and_look, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        scene_end(&scene);
    }
}

static void
body_protect_and_try(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t value = 1;

        EXPECT_EQ(qr_space_protect(scene->space, sim_page(0), QR_PAGE_SIZE, SIM_R, -1), QR_OK);
        EXPECT_EQ(sim_store(sim_page(0), &value, sizeof(value)), SIM_SEGV_ACCERR);
        EXPECT_EQ(qr_space_protect(scene->space, sim_page(0), QR_PAGE_SIZE, SIM_W, -1), QR_OK);
        EXPECT_EQ(sim_store(sim_page(0), &value, sizeof(value)), SIM_OK);
    }
}

static void
body_dont_need_one(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++)
        EXPECT_EQ(advise(scene, 0, 1, QR_ADVICE_DONT_NEED), QR_OK);
}

/* 3ea277194daa: rights that went are gone, whoever took the entry out before. */
TEST(invariants, protection_waits_for_pending_flushes)
{
    for (uint64_t seed = 0; seed < sim_seeds(20); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        ASSERT_EQ(sim_map(scene.sim, 0, 1, SIM_W), QR_OK);
        sim_spawn(scene.sim, SIM_ANY_CPU, "protect", body_protect_and_try, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "forget", body_dont_need_one, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        scene_end(&scene);
    }
}

/*
 * Two threads write to a page that is still shared with a child; a third has the
 * old frame in its TLB.  Once a writer has said so elsewhere, its word is seen:
 * nobody may write to the copy while somebody can still read the original.
 */
static void
body_copy(void *context)
{
    uint64_t value = 1;

    (void)context;
    EXPECT_EQ(sim_store(sim_page(0), &value, sizeof(value)), SIM_OK);
}

static void
body_write_and_tell(void *context)
{
    uint64_t value = 2;

    (void)context;
    EXPECT_EQ(sim_store(qr_va_of(sim_page(0).v + 8), &value, sizeof(value)), SIM_OK);
    EXPECT_EQ(sim_store(sim_page(1), &value, sizeof(value)), SIM_OK);
}

static void
body_hear_and_look(void *context)
{
    struct scene *scene = context;
    uint64_t value = 0;
    uint64_t told = 0;

    for (unsigned i = 0; i < 2000 && told == 0; i++) {
        EXPECT_EQ(sim_load(qr_va_of(sim_page(0).v + 8), &value, sizeof(value)), SIM_OK);
        EXPECT_EQ(sim_load(sim_page(1), &told, sizeof(told)), SIM_OK);
        sim_preempt();
    }
    EXPECT_EQ(sim_load(qr_va_of(sim_page(0).v + 8), &value, sizeof(value)), SIM_OK);
    scene->useful += told != 0;
    scene->wrong += told != 0 && value != 2;
}

TEST(invariants, a_copy_is_written_when_nobody_reads_the_original)
{
    unsigned useful = 0;

    for (uint64_t seed = 0; seed < sim_seeds(100); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        sim_set_preemption(scene.sim, 2);
        ASSERT_EQ(sim_map(scene.sim, 0, 2, SIM_W), QR_OK);
        sim_write(scene.sim, 0, 5);
        struct qr_space *child = sim_fork(scene.sim);

        sim_write(scene.sim, 1, 0);
        sim_spawn(scene.sim, 0, "copy", body_copy, &scene);
        sim_spawn(scene.sim, 1, "write", body_write_and_tell, &scene);
        sim_spawn(scene.sim, 2, "look", body_hear_and_look, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        useful += scene.useful;
        sim_space_destroy(scene.sim, child);
        scene_end(&scene);
    }
    EXPECT_GT(useful, 0);
}

/* ---- Stacks ---------------------------------------------------------------------------- */

static void
map_stack(struct scene *scene, size_t page)
{
    struct qr_map_request request = {.hint = sim_page(page),
                                     .bytes = QR_PAGE_SIZE,
                                     .prot = SIM_W,
                                     .flags = QR_MAP_FIXED,
                                     .region_flags = QR_REGION_GROWS_DOWN};
    qr_va va;

    ASSERT_EQ(qr_space_map(scene->space, &request, &va), QR_OK);
}

/* Stack clash, CVE-2017-1000364: a fault before contact, by growth and by placement. */
TEST(invariants, stack_clash)
{
    struct scene scene;
    struct qr_map_request request = {.bytes = QR_PAGE_SIZE, .prot = SIM_W};
    qr_va va;

    scene_boot(&scene, 0);
    sim_vm(scene.sim)->config.stack_guard_pages = 8;
    ASSERT_EQ(sim_map(scene.sim, 100, 1, SIM_W), QR_OK);
    map_stack(&scene, 120);
    EXPECT_EQ(sim_touch(scene.sim, 109, QR_ACCESS_WRITE), SIM_OK);
    EXPECT_EQ(sim_touch(scene.sim, 108, QR_ACCESS_WRITE), SIM_SEGV_MAPERR);
    EXPECT_EQ(sim_touch(scene.sim, 101, QR_ACCESS_WRITE), SIM_SEGV_MAPERR);
    EXPECT_EQ(sim_read(scene.sim, 100), 0);
    request.hint = sim_page(102);
    ASSERT_EQ(qr_space_map(scene.space, &request, &va), QR_OK);
    EXPECT_NE(va.v, sim_page(102).v);
    /* Every page between two stacks is asked for: none within the gap is given. */
    request.hint = qr_va_of(0);
    request.flags = QR_MAP_BOTTOM_UP;
    for (int i = 0; i < 200; i++) {
        ASSERT_EQ(qr_space_map(scene.space, &request, &va), QR_OK);
        EXPECT_FALSE(va.v > sim_page(100).v && va.v < sim_page(109).v);
    }
    /* A region without rights is somebody's own guard: growth may come up to it. */
    ASSERT_EQ(sim_protect(scene.sim, 100, 101, SIM_N), QR_OK);
    EXPECT_EQ(sim_touch(scene.sim, 101, QR_ACCESS_WRITE), SIM_OK);
    sim_validate(scene.sim);
    ASSERT_EQ(qr_space_unmap(scene.space, scene.space->layout.user_start,
                             SIM_BASE - scene.space->layout.user_start.v),
              QR_OK);
    scene_end(&scene);
}

/* CVE-2019-9213: growth knows the floor that mmap knows. */
TEST(invariants, no_growth_below_the_floor)
{
    struct scene scene;
    struct qr_map_request request = {.bytes = QR_PAGE_SIZE,
                                     .prot = SIM_W,
                                     .flags = QR_MAP_FIXED,
                                     .region_flags = QR_REGION_GROWS_DOWN};
    struct qr_frame *frame;
    qr_va va;

    scene_boot(&scene, 0);
    uintptr_t floor = scene.space->layout.user_start.v;

    request.hint = qr_va_of(floor + QR_PAGE_SIZE);
    ASSERT_EQ(qr_space_map(scene.space, &request, &va), QR_OK);
    EXPECT_EQ(qr_space_get_frame(scene.space, qr_va_of(floor - 1), QR_ACCESS_WRITE, true, &frame),
              QR_ERR_FAULT);
    EXPECT_EQ(qr_space_get_frame(scene.space, qr_va_of(0), QR_ACCESS_READ, true, &frame),
              QR_ERR_FAULT);
    ASSERT_EQ(qr_space_get_frame(scene.space, qr_va_of(floor), QR_ACCESS_WRITE, true, &frame),
              QR_OK);
    frame_put(&scene, frame);
    sim_validate(scene.sim);
    ASSERT_EQ(qr_space_unmap(scene.space, qr_va_of(floor), 2 * QR_PAGE_SIZE), QR_OK);
    scene_end(&scene);
}

static void
body_grow(void *context)
{
    (void)context;
    for (size_t page = 4000; page > 3800; page -= 5)
        EXPECT_EQ(sim_touch(((struct scene *)context)->sim, page, QR_ACCESS_WRITE), SIM_OK);
}

static void
body_walk(void *context)
{
    struct scene *scene = context;
    uint8_t map[8];

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct qr_map_request request = {.bytes = QR_PAGE_SIZE, .prot = SIM_W};
        qr_va va;

        EXPECT_EQ(qr_space_resident(scene->space, sim_page(0), 8, map), QR_OK);
        ASSERT_EQ(qr_space_map(scene->space, &request, &va), QR_OK);
        ASSERT_EQ(qr_space_unmap(scene->space, va, QR_PAGE_SIZE), QR_OK);
    }
}

/* StackRot, CVE-2023-3269: the index changes under the lock for writing alone. */
TEST(invariants, stack_growth_against_walks)
{
    for (uint64_t seed = 0; seed < sim_seeds(20); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        ASSERT_EQ(sim_map(scene.sim, 0, 8, SIM_W), QR_OK);
        map_stack(&scene, 4000);
        sim_spawn(scene.sim, SIM_ANY_CPU, "grow", body_grow, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "grow", body_grow, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "walk", body_walk, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        scene_end(&scene);
    }
}

/* ---- Objects' ends ------------------------------------------------------------------------ */

static void
body_truncate_and_look(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t value = 0;

        qr_object_set_bytes(scene->object, QR_PAGE_SIZE);
        EXPECT_EQ(sim_load(sim_page(1), &value, sizeof(value)), SIM_BUS_ADRERR);
        EXPECT_EQ(sim_store(sim_page(2), &value, sizeof(value)), SIM_BUS_ADRERR);
        qr_object_set_bytes(scene->object, FILE_PAGES << QR_PAGE_SHIFT);
        EXPECT_EQ(sim_load(sim_page(1), &value, sizeof(value)), SIM_OK);
        scene->wrong += value > 1;
    }
}

static void
body_touch_file(void *context)
{
    struct scene *scene = context;

    for (unsigned i = 0; i < 2 * ROUNDS; i++) {
        uint64_t value = 1;
        qr_va va = sim_page(test_random(&scene->random) % FILE_PAGES);

        if (i % 2 != 0)
            (void)sim_store(va, &value, sizeof(value));
        else
            (void)sim_load(va, &value, sizeof(value));
    }
}

/* Truncation races: no page past the end stays or becomes mapped, copies included. */
TEST(invariants, truncation_against_faults)
{
    for (uint64_t seed = 0; seed < sim_seeds(30); seed++) {
        struct scene scene;

        scene_boot(&scene, seed);
        ASSERT_EQ(seed % 2 != 0 ? sim_map_object(scene.sim, 0, FILE_PAGES, SIM_W, scene.object, 0)
                                : sim_map_private(scene.sim, 0, FILE_PAGES, SIM_W, scene.object, 0),
                  QR_OK);
        sim_spawn(scene.sim, SIM_ANY_CPU, "truncate", body_truncate_and_look, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "touch", body_touch_file, &scene);
        sim_spawn(scene.sim, SIM_ANY_CPU, "touch", body_touch_file, &scene);
        sim_run(scene.sim, SIM_RUN_SEEDED);
        scene_end(&scene);
    }
}

/* ---- Bounds ---------------------------------------------------------------------------------- */

/* CVE-2004-0077: the region limit met in the middle of mremap. */
TEST(invariants, the_region_limit_inside_remap)
{
    struct scene scene;
    struct qr_remap_request request = {.old_start = sim_page(1),
                                       .old_bytes = QR_PAGE_SIZE,
                                       .new_bytes = QR_PAGE_SIZE,
                                       .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                       .new_start = sim_page(9)};
    qr_va va;

    scene_boot(&scene, 0);
    ASSERT_EQ(sim_map(scene.sim, 0, 3, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(scene.sim, 8, 3, SIM_R), QR_OK);
    sim_write(scene.sim, 1, 5);
    qr_vm_set_max_regions(sim_vm(scene.sim), 4);
    EXPECT_EQ(qr_space_remap(scene.space, &request, &va), QR_ERR_NO_MEMORY);
    EXPECT_STR(sim_layout(scene.sim), "[WWW].....[RRR]");
    EXPECT_EQ(sim_read(scene.sim, 1), 5);
    qr_vm_set_max_regions(sim_vm(scene.sim), 5);
    EXPECT_EQ(qr_space_remap(scene.space, &request, &va), QR_OK);
    EXPECT_STR(sim_layout(scene.sim), "[W].[W].....[R][W][R]");
    EXPECT_EQ(sim_read(scene.sim, 9), 5);
    scene_end(&scene);
}

static void
body_put(void *context)
{
    struct scene *scene = context;
    struct qr_space *space = scene->space;

    for (unsigned i = 0; i < 4; i++) {
        EXPECT_EQ(qr_space_populate(space, sim_page(i), QR_PAGE_SIZE, true), QR_OK);
        sim_preempt();
    }
    qr_space_put(space);
}

/* Exit against users (CVE-2019-11599): the last user frees the space, and only that one. */
TEST(invariants, a_space_is_freed_once)
{
    for (uint64_t seed = 0; seed < sim_seeds(10); seed++) {
        struct scene scene;
        struct qr_space *first;

        scene_boot(&scene, seed);
        first = scene.space;
        ASSERT_EQ(sim_map(scene.sim, 0, 4, SIM_W), QR_OK);
        scene.space = sim_fork(scene.sim);
        ASSERT_TRUE(scene.space != NULL);
        for (int i = 0; i < 3; i++) {
            if (i > 0)
                qr_space_get(scene.space);
            sim_spawn(scene.sim, SIM_ANY_CPU, "user", body_put, &scene);
        }
        sim_run(scene.sim, SIM_RUN_SEEDED);
        EXPECT_EQ(sim_vm(scene.sim)->space_count, 1);
        scene.space = first;
        scene_end(&scene);
    }
}

/* What a process left behind is read by nobody. */
TEST(invariants, recycled_frames_are_clean)
{
    struct scene scene;

    scene_boot(&scene, 0);
    for (unsigned round = 0; round < 4; round++) {
        struct qr_space *other = sim_space_create(scene.sim);

        sim_use(scene.sim, other);
        ASSERT_EQ(round % 2 != 0 ? sim_map_shared(scene.sim, 0, 300, SIM_W)
                                 : sim_map(scene.sim, 0, 300, SIM_W),
                  QR_OK);
        for (size_t i = 0; i < 300; i++) {
            uint64_t words[QR_PAGE_SIZE / 8];

            ASSERT_EQ(sim_load(sim_page(i), words, sizeof(words)), SIM_OK);
            for (size_t k = 0; k < QR_ARRAY_COUNT(words); k++)
                scene.wrong += words[k] != 0;
            memset(words, 0xee, sizeof(words));
            ASSERT_EQ(sim_store(sim_page(i), words, sizeof(words)), SIM_OK);
        }
        sim_use(scene.sim, scene.space);
        sim_space_destroy(scene.sim, other);
    }
    scene_end(&scene);
}

/* Everything that a process can have is bounded, and comes back when it goes. */
TEST(invariants, splits_without_end_are_refused)
{
    struct scene scene;
    enum qr_status status = QR_OK;
    size_t regions = 0;

    scene_boot(&scene, 0);
    qr_vm_set_max_regions(sim_vm(scene.sim), 200);
    ASSERT_EQ(sim_map(scene.sim, 0, 1000, SIM_W), QR_OK);
    for (size_t page = 1; page < 999 && status == QR_OK; page += 2) {
        status = qr_space_protect(scene.space, sim_page(page), QR_PAGE_SIZE, SIM_R, -1);
        regions = scene.space->counts.region_count;
    }
    EXPECT_EQ(status, QR_ERR_NO_MEMORY);
    EXPECT_LE(regions, 200);
    scene_end(&scene);
}
