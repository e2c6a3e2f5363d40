/* SPDX-License-Identifier: MIT */
/*
 * Promised memory: what counts, what is refused, and that a refused call leaves
 * no trace.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/object.h>

#include "sim.h"

#include "space/region.h"

#define RW    (QR_PROT_READ | QR_PROT_WRITE)
#define LIMIT 100 /* pages */

struct world {
    struct sim *sim;
    struct qr_space *space;
    long before; /* promised already */
};

static struct world
boot(enum qr_overcommit overcommit)
{
    struct world world = {.sim = sim_boot((struct sim_options){.seed = test_seed()})};
    struct qr_commit_policy policy = {.overcommit = overcommit};

    world.space = sim_space(world.sim);
    world.before = qr_counter_read(world.space->vm->counters, QR_PAGES_COMMITTED);
    policy.limit_bytes = ((size_t)world.before + LIMIT) << QR_PAGE_SHIFT;
    qr_vm_set_commit_policy(world.space->vm, &policy);
    return world;
}

static long
promised(const struct world *world)
{
    return qr_counter_read(world->space->vm->counters, QR_PAGES_COMMITTED) - world->before;
}

static enum qr_status
map(struct world *world, size_t pages, unsigned prot, unsigned flags, qr_va *out_va)
{
    const struct qr_map_request request = {
        .bytes = pages << QR_PAGE_SHIFT, .prot = prot, .region_flags = flags};

    return qr_space_map(world->space, &request, out_va);
}

TEST(commit, what_promises_memory)
{
    static const struct {
        enum qr_overcommit overcommit;
        unsigned prot, flags;
        long promise;
    } rows[] = {
        {QR_OVERCOMMIT_GUESS, RW, 0, 10},
        {QR_OVERCOMMIT_GUESS, QR_PROT_READ, 0, 0},
        {QR_OVERCOMMIT_GUESS, RW, QR_REGION_NO_RESERVE, 0},
        {QR_OVERCOMMIT_GUESS, RW, QR_REGION_SHARED, 10},
        {QR_OVERCOMMIT_GUESS, QR_PROT_READ, QR_REGION_SHARED, 10},
        {QR_OVERCOMMIT_GUESS, RW, QR_REGION_SHARED | QR_REGION_NO_RESERVE, 0},
        {QR_OVERCOMMIT_ALWAYS, RW, QR_REGION_NO_RESERVE, 0},
        {QR_OVERCOMMIT_NEVER, RW, QR_REGION_NO_RESERVE, 10},
        {QR_OVERCOMMIT_NEVER, RW, QR_REGION_SHARED | QR_REGION_NO_RESERVE, 10},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        struct world world = boot(rows[i].overcommit);
        qr_va va;

        ASSERT_STATUS(map(&world, 10, rows[i].prot, rows[i].flags, &va), QR_OK);
        EXPECT_EQ(promised(&world), rows[i].promise);
        sim_validate(world.sim);
        ASSERT_STATUS(qr_space_unmap(world.space, va, 10 << QR_PAGE_SHIFT), QR_OK);
        EXPECT_EQ(promised(&world), 0);
        sim_shutdown(world.sim);
    }
}

TEST(commit, never_refuses_what_would_pass_the_limit)
{
    for (unsigned shared = 0; shared < 2; shared++) {
        struct world world = boot(QR_OVERCOMMIT_NEVER);
        unsigned flags = shared ? QR_REGION_SHARED : 0;
        size_t room = LIMIT - world.space->counts.virtual_pages / 32;
        qr_va va, other;

        EXPECT_STATUS(map(&world, room + 1, RW, flags, &va), QR_ERR_NO_MEMORY);
        EXPECT_EQ(promised(&world), 0);
        ASSERT_STATUS(map(&world, 60, RW, flags, &va), QR_OK);
        EXPECT_STATUS(map(&world, 50, RW, flags, &other), QR_ERR_NO_MEMORY);
        EXPECT_STATUS(map(&world, 50, QR_PROT_READ, 0, &other), QR_OK);
        EXPECT_EQ(promised(&world), 60);
        sim_validate(world.sim);
        sim_shutdown(world.sim);
    }
}

/* Protection, growth, and fork promise too; a refused call changes nothing. */
TEST(commit, every_way_to_promise_more_is_refused)
{
    struct world world = boot(QR_OVERCOMMIT_NEVER);
    struct qr_space *child;
    qr_va va, read_only;

    ASSERT_STATUS(map(&world, 60, RW, 0, &va), QR_OK);
    ASSERT_STATUS(map(&world, 60, QR_PROT_READ, 0, &read_only), QR_OK);
    EXPECT_STATUS(qr_space_protect(world.space, read_only, 60 << QR_PAGE_SHIFT, RW, -1),
                  QR_ERR_NO_MEMORY);
    EXPECT_STATUS(qr_space_protect(world.space, read_only, 10 << QR_PAGE_SHIFT, RW, -1), QR_OK);
    EXPECT_EQ(promised(&world), 70);
    const struct qr_remap_request grow = {.old_start = va,
                                          .old_bytes = 60 << QR_PAGE_SHIFT,
                                          .new_bytes = 95 << QR_PAGE_SHIFT,
                                          .flags = QR_REMAP_MAY_MOVE};
    qr_va moved;

    EXPECT_STATUS(qr_space_remap(world.space, &grow, &moved), QR_ERR_NO_MEMORY);
    EXPECT_STATUS(qr_space_fork(world.space, &child), QR_ERR_NO_MEMORY);
    EXPECT_EQ(promised(&world), 70);
    sim_validate(world.sim);

    /* The others let the same calls pass. */
    const struct qr_commit_policy always = {.overcommit = QR_OVERCOMMIT_ALWAYS, .ratio = 50};

    qr_vm_set_commit_policy(world.space->vm, &always);
    EXPECT_STATUS(qr_space_remap(world.space, &grow, &moved), QR_OK);
    ASSERT_STATUS(qr_space_fork(world.space, &child), QR_OK);
    EXPECT_EQ(promised(&world), 2 * 105);
    qr_space_put(child);
    EXPECT_EQ(promised(&world), 105);
    sim_shutdown(world.sim);
}

TEST(commit, guessing_refuses_only_more_than_there_is)
{
    struct world world = boot(QR_OVERCOMMIT_GUESS);
    struct qr_frames_stats stats;
    qr_va va;

    qr_frames_stats(sim_frames(world.sim), &stats);
    EXPECT_STATUS(map(&world, stats.total * 4, RW, 0, &va), QR_ERR_NO_MEMORY);
    EXPECT_STATUS(map(&world, stats.total * 4, RW, QR_REGION_NO_RESERVE, &va), QR_OK);
    EXPECT_STATUS(map(&world, stats.total / 2, RW, 0, &va), QR_OK);
    EXPECT_STATUS(map(&world, stats.total / 2, RW, 0, &va), QR_OK);
    EXPECT_STATUS(map(&world, stats.total / 2, RW, 0, &va), QR_OK);
    sim_shutdown(world.sim);
}

TEST(commit, the_limit_is_a_part_of_memory_or_a_size)
{
    struct world world = boot(QR_OVERCOMMIT_NEVER);
    struct qr_vm *vm = world.space->vm;
    struct qr_commit_policy policy = {.overcommit = QR_OVERCOMMIT_NEVER, .ratio = 100};
    size_t all;

    EXPECT_EQ(qr_vm_commit_limit(vm), (size_t)world.before + LIMIT);
    qr_vm_set_commit_policy(vm, &policy);
    all = qr_vm_commit_limit(vm);
    EXPECT_GT(all, 0u);
    policy.ratio = 25;
    qr_vm_set_commit_policy(vm, &policy);
    EXPECT_EQ(qr_vm_commit_limit(vm), all / 100 * 25 + all % 100 * 25 / 100);
    EXPECT_EQ(qr_vm_commit_policy(vm).ratio, 25u);
    sim_shutdown(world.sim);
}

/* Nobody knows how large a file in memory gets: its pages are promised as they come. */
TEST(commit, pages_of_a_file_in_memory_are_promised_one_by_one)
{
    struct world world = boot(QR_OVERCOMMIT_NEVER);
    struct qr_object *object;
    struct qr_frame *frame;

    ASSERT_STATUS(qr_object_create(sim_objects(world.sim), &qr_pager_memory, NULL,
                                   2 * LIMIT << QR_PAGE_SHIFT, &object),
                  QR_OK);
    EXPECT_EQ(promised(&world), 0);
    for (size_t i = 0; i < LIMIT; i++) {
        ASSERT_STATUS(qr_object_get_page(object, i, QR_PAGE_FILL, &frame), QR_OK);
        qr_frame_put(sim_frames(world.sim), frame);
    }
    EXPECT_EQ(promised(&world), LIMIT);
    EXPECT_STATUS(qr_object_get_page(object, LIMIT, QR_PAGE_FILL, &frame), QR_ERR_LIMIT);
    ASSERT_STATUS(sim_map_object(world.sim, 0, 2 * LIMIT, SIM_W, object, 0), QR_OK);
    EXPECT_EQ(sim_touch(world.sim, LIMIT, QR_ACCESS_READ), SIM_BUS_ADRERR);
    EXPECT_EQ(sim_touch(world.sim, 3, QR_ACCESS_READ), SIM_OK);
    qr_object_punch(object, 0, 10);
    EXPECT_EQ(promised(&world), LIMIT - 10);
    EXPECT_EQ(sim_touch(world.sim, LIMIT, QR_ACCESS_WRITE), SIM_OK);
    qr_object_set_bytes(object, 0);
    EXPECT_EQ(promised(&world), 0);
    EXPECT_STATUS(sim_unmap(world.sim, 0, 2 * LIMIT), QR_OK);
    qr_object_put(object);
    sim_shutdown(world.sim);
}

/* The administrators' reserve, and what a space leaves of its own size. */
TEST(commit, reserves_are_left)
{
    struct world world = boot(QR_OVERCOMMIT_NEVER);
    struct qr_commit_policy policy = qr_vm_commit_policy(world.space->vm);
    qr_va va;

    policy.admin_reserve_bytes = (size_t)10 << QR_PAGE_SHIFT;
    qr_vm_set_commit_policy(world.space->vm, &policy);
    EXPECT_EQ(map(&world, LIMIT - 9, RW, 0, &va), QR_ERR_NO_MEMORY);
    ASSERT_EQ(map(&world, LIMIT - 10, RW, 0, &va), QR_OK);
    world.space->limits.administrator = true;
    ASSERT_EQ(map(&world, 10, RW, 0, &va), QR_OK);
    EXPECT_EQ(promised(&world), LIMIT);
    qr_space_clear(world.space);

    /* 640 pages of address space: 20 of them, or as many as the user reserve says. */
    ASSERT_EQ(map(&world, 640, QR_PROT_NONE, 0, &va), QR_OK);
    policy.user_reserve_bytes = (size_t)5 << QR_PAGE_SHIFT;
    qr_vm_set_commit_policy(world.space->vm, &policy);
    EXPECT_EQ(map(&world, LIMIT - 4, RW, 0, &va), QR_ERR_NO_MEMORY);
    policy.user_reserve_bytes = SIZE_MAX;
    qr_vm_set_commit_policy(world.space->vm, &policy);
    EXPECT_EQ(map(&world, LIMIT - 19, RW, 0, &va), QR_ERR_NO_MEMORY);
    EXPECT_EQ(map(&world, LIMIT - 20, RW, 0, &va), QR_OK);
    sim_validate(world.sim);
    sim_shutdown(world.sim);
}
