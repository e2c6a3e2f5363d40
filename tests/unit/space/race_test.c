/* SPDX-License-Identifier: MIT */
/*
 * Threads of two processes at once: they map, unmap, protect, move, fork,
 * truncate and touch the same few pages, under every seed and under real threads.
 *
 * What is written bears the mark of its process.  A load must find nothing or
 * the own mark: a frame that went to somebody else while a CPU could still reach
 * it shows as a wrong mark (or to the hosted machine as a stale hit).  Afterwards
 * every invariant must hold and nothing may be lost.
 */
#include "harness.h"

#include <quire/fault.h>

#include <string.h>

#include "sim.h"
#include "space/vm.h"

enum { PAGES = 24, OBJECT_PAGES = 6, THREADS = 4 };

struct world;

struct thread {
    struct world *world;
    uint64_t mark; /* of its process */
    uint64_t random;
    uint64_t loads, stores; /* that succeeded */
};

struct world {
    struct sim *sim;
    struct qr_space *spaces[2];
    struct qr_object *objects[2]; /* one a process: marks differ */
    struct thread threads[THREADS];
    unsigned rounds;
    _Atomic unsigned wrong;
};

static size_t
pick(struct thread *t, size_t below)
{
    return test_random(&t->random) % below;
}

static void
act_load(struct thread *t)
{
    uint64_t value = 0;

    if (sim_load(sim_page(pick(t, PAGES)), &value, sizeof(value)) != SIM_OK)
        return;
    t->loads++;
    if (value != 0 && value >> 32 != t->mark)
        atomic_fetch_add(&t->world->wrong, 1);
}

static void
act_store(struct thread *t)
{
    uint64_t value = t->mark << 32 | pick(t, 1 << 20);

    if (sim_store(sim_page(pick(t, PAGES)), &value, sizeof(value)) == SIM_OK)
        t->stores++;
}

static struct qr_space *
space_of(struct thread *t)
{
    return t->world->spaces[t->mark - 1];
}

static struct qr_object *
object_of(struct thread *t)
{
    return t->world->objects[t->mark - 1];
}

static void
act_map(struct thread *t)
{
    struct qr_map_request request = {.hint = sim_page(pick(t, PAGES - 4)),
                                     .bytes = (1 + pick(t, 4)) << QR_PAGE_SHIFT,
                                     .prot = pick(t, 4) != 0 ? SIM_W : SIM_R,
                                     .flags = QR_MAP_FIXED};
    qr_va va;

    if (pick(t, 2) != 0) {
        request.object = object_of(t);
        request.object_offset = pick(t, 4) << QR_PAGE_SHIFT;
        request.region_flags = pick(t, 2) != 0 ? QR_REGION_SHARED : 0;
    }
    (void)!qr_space_map(space_of(t), &request, &va);
}

static void
act_unmap(struct thread *t)
{
    (void)!qr_space_unmap(space_of(t), sim_page(pick(t, PAGES - 4)),
                          (1 + pick(t, 3)) << QR_PAGE_SHIFT);
}

static void
act_protect(struct thread *t)
{
    static const unsigned prots[] = {SIM_W, SIM_R, SIM_N, SIM_W};

    (void)!qr_space_protect(space_of(t), sim_page(pick(t, PAGES - 4)),
                            (1 + pick(t, 4)) << QR_PAGE_SHIFT, prots[pick(t, 4)], -1);
}

static void
act_advise(struct thread *t)
{
    static const enum qr_advice advice[] = {QR_ADVICE_DONT_NEED, QR_ADVICE_RANDOM, QR_ADVICE_NORMAL,
                                            QR_ADVICE_REMOVE};

    (void)!qr_space_advise(space_of(t), sim_page(pick(t, PAGES - 4)),
                           (1 + pick(t, 4)) << QR_PAGE_SHIFT, advice[pick(t, 4)]);
}

static void
act_remap(struct thread *t)
{
    size_t bytes = (1 + pick(t, 3)) << QR_PAGE_SHIFT;
    struct qr_remap_request request = {.old_start = sim_page(pick(t, PAGES - 4)),
                                       .old_bytes = bytes,
                                       .new_bytes = bytes,
                                       .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                       .new_start = sim_page(pick(t, PAGES - 4))};
    qr_va va;

    (void)!qr_space_remap(space_of(t), &request, &va);
}

static void
act_fork(struct thread *t)
{
    struct qr_space *child;

    if (qr_space_fork(space_of(t), &child) == QR_OK)
        qr_space_put(child);
}

static void
act_truncate(struct thread *t)
{
    qr_object_set_bytes(object_of(t), (uint64_t)pick(t, OBJECT_PAGES) << QR_PAGE_SHIFT);
}

/* As a debugger: what is read must be the process's own, whatever happens to the page meanwhile. */
static void
act_peek(struct thread *t)
{
    struct qr_frames *frames = sim_frames(t->world->sim);
    struct qr_frame *frame;

    if (qr_space_get_frame(space_of(t), sim_page(pick(t, PAGES)),
                           pick(t, 2) != 0 ? QR_ACCESS_WRITE : QR_ACCESS_READ, true,
                           &frame) != QR_OK)
        return;
    qr_frame_put(frames, frame);
}

typedef void (*act_fn)(struct thread *t);

static const act_fn acts[] = {
    act_load,  act_load,    act_load,   act_store,   act_store, act_store, act_map,      act_map,
    act_unmap, act_protect, act_advise, act_protect, act_remap, act_fork,  act_truncate, act_peek,
};

static void
thread_body(void *context)
{
    struct thread *t = context;

    for (unsigned i = 0; i < t->world->rounds; i++)
        acts[pick(t, sizeof(acts) / sizeof(acts[0]))](t);
}

static void
world_run(struct sim_options options, enum sim_run_mode mode, unsigned rounds)
{
    struct world world = {.rounds = rounds};

    if (mode == SIM_RUN_THREADS) /* host threads own their TLBs */
        options.features |= SIM_NO_BROADCAST;
    world.sim = sim_boot(options);
    struct qr_space *first = sim_space(world.sim);
    uint64_t loads = 0, stores = 0;

    for (size_t k = 0; k < 2; k++) {
        world.spaces[k] = sim_space_create(world.sim);
        ASSERT_EQ(qr_object_create(sim_objects(world.sim), &qr_pager_memory, NULL,
                                   OBJECT_PAGES << QR_PAGE_SHIFT, &world.objects[k]),
                  QR_OK);
        sim_use(world.sim, world.spaces[k]);
        ASSERT_EQ(sim_map(world.sim, 0, PAGES, SIM_W), QR_OK);
    }
    for (size_t i = 0; i < THREADS; i++) {
        struct thread *t = &world.threads[i];

        *t = (struct thread){&world, 1 + i / 2, options.seed * 31 + i, 0, 0};
        sim_use(world.sim, world.spaces[i / 2]);
        sim_spawn(world.sim, mode == SIM_RUN_THREADS ? (unsigned)i : SIM_ANY_CPU, "worker",
                  thread_body, t);
    }
    sim_run(world.sim, mode);
    sim_use(world.sim, first);
    EXPECT_EQ(atomic_load(&world.wrong), 0);
    sim_validate(world.sim);
    for (size_t i = 0; i < THREADS; i++) {
        loads += world.threads[i].loads;
        stores += world.threads[i].stores;
    }
    EXPECT_GT(loads + stores, rounds / 8);
    for (size_t k = 0; k < 2; k++) {
        sim_space_destroy(world.sim, world.spaces[k]);
        qr_object_put(world.objects[k]);
    }
    sim_shutdown(world.sim);
}

TEST(space, threads_agree_under_every_seed)
{
    uint64_t seeds = sim_seeds(40);

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;

        world_run((struct sim_options){.seed = seed,
                                       .cpus = 2 + (unsigned)(seed % 3),
                                       .asids = seed % 2 != 0 ? 5 + 2 * (unsigned)(seed % 3) : 0,
                                       .features = SIM_NO_VALIDATE |
                                                   (seed % 4 == 0 ? (unsigned)SIM_SPECULATE : 0)},
                  SIM_RUN_SEEDED, 60);
    }
}

TEST_THREADS(space, threads_agree_under_real_threads)
{
    world_run(
        (struct sim_options){.seed = test_seed(), .cpus = THREADS, .features = SIM_NO_VALIDATE},
        SIM_RUN_THREADS, 3000);
}
