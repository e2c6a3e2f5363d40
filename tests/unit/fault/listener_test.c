/* SPDX-License-Identifier: MIT */
/*
 * Faults that a listener answers: threads that touch watched pages and one that fills them, under
 * every seed; and what becomes of who waits when region, listener or both go away.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/listener.h>

#include <string.h>

#include "sim.h"
#include "space/vm.h"

enum { PAGES = 12, THREADS = 3 };

struct world;

struct toucher {
    struct world *world;
    uint64_t random;
    unsigned touched;
};

struct world {
    struct sim *sim;
    struct qr_space *space;
    struct qr_object *object; /* NULL: anonymous memory */
    struct qr_listener listener;
    _Atomic uint32_t news; /* counts notifications and ends: what the monitor sleeps on */
    _Atomic unsigned running;
    _Atomic unsigned destroyed;
    unsigned kinds, rounds;
    unsigned events[3];            /* by kind: missing, write, minor */
    _Atomic unsigned guard[PAGES]; /* odd: no store may succeed meanwhile; objects only */
    _Atomic unsigned wrong;
    struct toucher touchers[THREADS];
    uint64_t random; /* the monitor's */
};

static struct world *
world_of(struct qr_listener *listener)
{
    return qr_container_of(listener, struct world, listener);
}

static void
notify(struct qr_listener *listener, struct qr_waiter *waiter)
{
    struct world *world = world_of(listener);

    waiter->tag = 4711;
    atomic_fetch_add(&world->news, 1);
    qr_port_wake(&world->news, 1);
}

static void
destroyed(struct qr_listener *listener)
{
    atomic_fetch_add(&world_of(listener)->destroyed, 1);
}

static const struct qr_listener_ops ops = {.notify = notify, .destroy = destroyed};

static uint64_t
mark_of(size_t page)
{
    return 0xabc0000 + page;
}

/* A frame as the monitor fills it. */
static struct qr_frame *
filled_frame(struct world *world, size_t page)
{
    struct qr_frames *frames = sim_frames(world->sim);
    struct qr_frame *frame = qr_frame_alloc(frames, QR_ALLOC_ZERO);
    uint64_t mark = mark_of(page);

    if (frame == NULL)
        return NULL;
    char *window = qr_port_window_open(qr_frame_pa(frames, frame));
    memcpy(window, &mark, sizeof(mark));
    qr_port_window_close(window);
    return frame;
}

static size_t
page_of(qr_va va)
{
    return (va.v - sim_page(0).v) >> QR_PAGE_SHIFT;
}

/* ---- Touching ------------------------------------------------------------------------ */

static void
touch(struct toucher *t)
{
    struct world *world = t->world;
    size_t page = test_random(&t->random) % PAGES;
    uint64_t value = 0;

    if (test_random(&t->random) % 2 == 0) {
        if (sim_load(sim_page(page), &value, sizeof(value)) != SIM_OK || value != mark_of(page))
            atomic_fetch_add(&world->wrong, 1);
    } else {
        qr_va at = qr_va_of(sim_page(page).v + 8 + 8 * (size_t)(t - world->touchers));

        unsigned before = atomic_load(&world->guard[page]);

        value = 1;
        if (sim_store(at, &value, sizeof(value)) != SIM_OK)
            atomic_fetch_add(&world->wrong, 1);
        if (before % 2 != 0 && atomic_load(&world->guard[page]) == before)
            atomic_fetch_add(&world->wrong, 1);
    }
    t->touched++;
}

static void
toucher_body(void *context)
{
    struct toucher *t = context;
    struct world *world = t->world;

    for (unsigned i = 0; i < world->rounds; i++)
        touch(t);
    atomic_fetch_sub(&world->running, 1);
    atomic_fetch_add(&world->news, 1);
    qr_port_wake(&world->news, 1);
}

/* ---- Answering --------------------------------------------------------------------------- */

static void
answer_missing(struct world *world, qr_va page)
{
    struct qr_frame *frame = filled_frame(world, page_of(page));
    unsigned flags = (world->kinds & QR_WATCH_WRITE) != 0 && test_random(&world->random) % 2 != 0
                         ? QR_FILL_WRITE_PROTECT
                         : 0;
    enum qr_status status = qr_space_fill(world->space, page, frame, flags);

    if (status != QR_OK) { /* several threads wait for one page: the first event filled it */
        EXPECT_EQ(status, QR_ERR_EXISTS);
        qr_frame_put(sim_frames(world->sim), frame);
    }
}

static void
answer(struct world *world, const struct qr_watch_event *event)
{
    qr_va page = qr_va_of(qr_va_page_down(event->va.v));
    enum qr_status status;

    EXPECT_EQ(event->tag, 4711);
    if (atomic_load(&world->guard[page_of(page)]) % 2 != 0)
        atomic_fetch_add(&world->guard[page_of(page)], 1);
    switch (event->kind) {
    case QR_WATCH_MISSING:
        world->events[0]++;
        answer_missing(world, page);
        break;
    case QR_WATCH_WRITE:
        world->events[1]++;
        EXPECT_TRUE((event->access & QR_ACCESS_WRITE) != 0);
        EXPECT_EQ(qr_space_write_protect(world->space, page, QR_PAGE_SIZE, false), QR_OK);
        break;
    case QR_WATCH_MINOR:
        world->events[2]++;
        status = qr_space_fill_cached(world->space, page, 0);
        EXPECT_TRUE(status == QR_OK || status == QR_ERR_EXISTS);
        break;
    }
    qr_listener_wake(&world->listener, page, qr_va_of(page.v + QR_PAGE_SIZE));
}

/* Now and then, protect a page again or take it away. */
static void
disturb(struct world *world)
{
    size_t number = test_random(&world->random) % PAGES;
    qr_va page = sim_page(number);

    if ((world->kinds & QR_WATCH_WRITE) != 0) {
        EXPECT_EQ(qr_space_write_protect(world->space, page, QR_PAGE_SIZE, true), QR_OK);
        if (world->object != NULL && atomic_load(&world->guard[number]) % 2 == 0)
            atomic_fetch_add(&world->guard[number], 1);
    } else if ((world->kinds & QR_WATCH_MISSING) != 0)
        EXPECT_EQ(qr_space_advise(world->space, page, QR_PAGE_SIZE,
                                  world->object == NULL ? QR_ADVICE_DONT_NEED : QR_ADVICE_REMOVE),
                  QR_OK);
    else
        EXPECT_EQ(qr_space_advise(world->space, page, QR_PAGE_SIZE, QR_ADVICE_DONT_NEED), QR_OK);
}

static void
monitor_body(void *context)
{
    struct world *world = context;
    struct qr_watch_event event;

    for (;;) {
        uint32_t seen = atomic_load(&world->news);

        if (qr_listener_take(&world->listener, &event)) {
            EXPECT_TRUE(qr_listener_count(&world->listener) >= 1); /* it still waits */
            answer(world, &event);
            if (test_random(&world->random) % 3 == 0)
                disturb(world);
        } else if (atomic_load(&world->running) == 0) {
            return;
        } else {
            qr_port_wait(&world->news, seen);
        }
    }
}

/* ---- Worlds ---------------------------------------------------------------------------------- */

static void
world_begin(struct world *world, struct sim_options options, bool object, unsigned kinds)
{
    memset(world, 0, sizeof(*world));
    world->sim = sim_boot(options);
    world->kinds = kinds;
    world->random = options.seed + 5;
    world->space = sim_space_create(world->sim);
    sim_use(world->sim, world->space);
    if (object) {
        ASSERT_EQ(qr_object_create(sim_objects(world->sim), &qr_pager_memory, NULL,
                                   PAGES << QR_PAGE_SHIFT, &world->object),
                  QR_OK);
        ASSERT_EQ(sim_map_object(world->sim, 0, PAGES, SIM_W, world->object, 0), QR_OK);
    } else {
        ASSERT_EQ(sim_map(world->sim, 0, PAGES, SIM_W), QR_OK);
    }
    qr_listener_init(&world->listener, &ops, 0);
    ASSERT_EQ(
        qr_space_watch(world->space, sim_page(0), PAGES << QR_PAGE_SHIFT, &world->listener, kinds),
        QR_OK);
}

/* Every page is there, marked, before anybody touches it. */
static void
world_prefill(struct world *world)
{
    for (size_t page = 0; page < PAGES; page++) {
        struct qr_frame *frame = filled_frame(world, page);

        if (world->object != NULL) {
            ASSERT_EQ(qr_object_add_page(world->object, page, frame), QR_OK);
            qr_frame_put(sim_frames(world->sim), frame);
        } else {
            ASSERT_EQ(qr_space_fill(world->space, sim_page(page), frame, 0), QR_OK);
        }
    }
}

static void
world_run(struct world *world, unsigned rounds, uint64_t seed)
{
    world->rounds = rounds;
    atomic_store(&world->running, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        world->touchers[i] = (struct toucher){world, seed * 31 + i, 0};
        sim_spawn(world->sim, SIM_ANY_CPU, "toucher", toucher_body, &world->touchers[i]);
    }
    sim_spawn(world->sim, SIM_ANY_CPU, "monitor", monitor_body, world);
    sim_run(world->sim, SIM_RUN_SEEDED);
    EXPECT_EQ(atomic_load(&world->wrong), 0);
    EXPECT_FALSE(qr_listener_has_events(&world->listener));
    EXPECT_EQ(qr_listener_count(&world->listener), 0u);
}

static void
world_end(struct world *world)
{
    sim_validate(world->sim);
    qr_listener_close(&world->listener);
    qr_space_unwatch_all(world->space, &world->listener);
    EXPECT_EQ(atomic_load(&world->destroyed), 0);
    qr_listener_put(&world->listener);
    EXPECT_EQ(atomic_load(&world->destroyed), 1);
    sim_validate(world->sim);
    sim_space_destroy(world->sim, world->space);
    if (world->object != NULL)
        qr_object_put(world->object);
    sim_shutdown(world->sim);
}

static struct sim_options
options_of(uint64_t seed)
{
    return (struct sim_options){
        .seed = seed, .cpus = 2 + (unsigned)(seed % 3), .features = SIM_NO_VALIDATE};
}

TEST(listener, threads_wait_until_pages_are_filled)
{
    uint64_t seeds = sim_seeds(24);

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;
        struct world world;

        world_begin(&world, options_of(seed), seed % 2 != 0, QR_WATCH_MISSING);
        world_run(&world, 40, seed);
        EXPECT_GT(world.events[0], PAGES / 2);
        EXPECT_EQ(world.events[1] + world.events[2], 0);
        world_end(&world);
    }
}

TEST(listener, writers_wait_until_pages_may_be_written)
{
    uint64_t seeds = sim_seeds(24);

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;
        bool object = seed % 2 != 0;
        struct world world;

        world_begin(&world, options_of(seed), object, QR_WATCH_MISSING | QR_WATCH_WRITE);
        world_run(&world, 40, seed);
        EXPECT_GT(world.events[1], 0);
        world_end(&world);
    }
}

TEST(listener, minor_faults_wait_for_the_page_that_is_there)
{
    uint64_t seeds = sim_seeds(16);

    for (uint64_t i = 0; i < seeds; i++) {
        uint64_t seed = test_seed() + i;
        struct world world;

        world_begin(&world, options_of(seed), true, QR_WATCH_MINOR);
        world_prefill(&world);
        world_run(&world, 40, seed);
        EXPECT_GT(world.events[2], PAGES / 2);
        world_end(&world);
    }
}

/* ---- Going away ---------------------------------------------------------------------------------- */

enum leave { LEAVE_UNMAP, LEAVE_UNWATCH, LEAVE_CLOSE, LEAVE_REMAP, LEAVE_COUNT };

struct going {
    struct world world;
    enum leave how;
    enum sim_signal result[THREADS];
    _Atomic unsigned next;
};

static void
waiting_body(void *context)
{
    struct going *going = context;
    unsigned own = atomic_fetch_add(&going->next, 1);
    uint64_t value = 1;

    going->result[own] = sim_store(sim_page(own), &value, sizeof(value));
}

static void
leaving_body(void *context)
{
    struct going *going = context;
    struct world *world = &going->world;
    struct qr_remap_request remap = {.old_start = sim_page(0),
                                     .old_bytes = PAGES << QR_PAGE_SHIFT,
                                     .new_bytes = PAGES << QR_PAGE_SHIFT,
                                     .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                     .new_start = sim_page(100)};
    qr_va va;

    while (atomic_load(&world->news) < 2)
        qr_port_wait(&world->news, atomic_load(&world->news));
    switch (going->how) {
    case LEAVE_UNMAP:
        EXPECT_EQ(qr_space_unmap(world->space, sim_page(0), PAGES << QR_PAGE_SHIFT), QR_OK);
        break;
    case LEAVE_UNWATCH:
        EXPECT_EQ(
            qr_space_unwatch(world->space, sim_page(0), PAGES << QR_PAGE_SHIFT, &world->listener),
            QR_OK);
        break;
    case LEAVE_REMAP:
        EXPECT_EQ(qr_space_remap(world->space, &remap, &va), QR_OK);
        break;
    default:
        qr_listener_close(&world->listener);
        qr_space_unwatch_all(world->space, &world->listener);
        break;
    }
}

TEST(listener, nobody_waits_for_what_is_gone)
{
    uint64_t seeds = sim_seeds(12);

    for (uint64_t i = 0; i < seeds * LEAVE_COUNT; i++) {
        uint64_t seed = test_seed() + i;
        struct going going = {.how = (enum leave)(i % LEAVE_COUNT)};
        bool gone = going.how == LEAVE_UNMAP || going.how == LEAVE_REMAP;

        world_begin(&going.world, options_of(seed), seed % 3 == 0,
                    QR_WATCH_MISSING | QR_WATCH_WRITE);
        if (seed % 2 == 0) { /* pages that may not be written, instead of none */
            world_prefill(&going.world);
            EXPECT_EQ(qr_space_write_protect(going.world.space, sim_page(0), PAGES << QR_PAGE_SHIFT,
                                             true),
                      QR_OK);
        }
        for (unsigned k = 0; k < THREADS; k++)
            sim_spawn(going.world.sim, SIM_ANY_CPU, "waiting", waiting_body, &going);
        sim_spawn(going.world.sim, SIM_ANY_CPU, "leaving", leaving_body, &going);
        sim_run(going.world.sim, SIM_RUN_SEEDED);
        for (unsigned k = 0; k < THREADS; k++)
            EXPECT_EQ(going.result[k], gone ? SIM_SEGV_MAPERR : SIM_OK);
        world_end(&going.world);
    }
}

/* ---- Answers that must be refused ---------------------------------------------------------------- */

TEST(listener, registering_checks_every_region_first)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *space = sim_space(sim);
    struct world first = {.sim = sim}, second = {.sim = sim};
    size_t bytes = 8 << QR_PAGE_SHIFT;

    qr_listener_init(&first.listener, &ops, 0);
    qr_listener_init(&second.listener, &ops, 0);
    EXPECT_EQ(qr_space_watch(space, sim_page(0), bytes, &first.listener, QR_WATCH_MISSING),
              QR_ERR_NOT_FOUND);
    ASSERT_EQ(sim_map(sim, 0, 2, SIM_W), QR_OK);
    ASSERT_EQ(sim_map(sim, 4, 4, SIM_W), QR_OK);
    EXPECT_EQ(
        qr_space_watch(space, sim_page(2), 2 << QR_PAGE_SHIFT, &first.listener, QR_WATCH_MISSING),
        QR_ERR_INVALID);
    EXPECT_EQ(qr_space_watch(space, sim_page(0), bytes, &first.listener, QR_WATCH_MINOR),
              QR_ERR_INVALID);
    EXPECT_EQ(
        qr_space_watch(space, sim_page(6), 1 << QR_PAGE_SHIFT, &second.listener, QR_WATCH_MISSING),
        QR_OK);
    EXPECT_STR(sim_layout(sim), "[WW]..[WW][W][W]");
    EXPECT_EQ(qr_space_watch(space, sim_page(0), bytes, &first.listener, QR_WATCH_MISSING),
              QR_ERR_BUSY);
    EXPECT_STR(sim_layout(sim), "[WW]..[WW][W][W]");
    EXPECT_EQ(qr_space_unwatch(space, sim_page(0), bytes, &first.listener), QR_ERR_INVALID);
    EXPECT_STR(sim_layout(sim), "[WW]..[WW][W][W]");
    EXPECT_EQ(qr_space_unwatch(space, sim_page(0), bytes, &second.listener), QR_OK); /* holes */
    EXPECT_STR(sim_layout(sim), "[WW]..[WWWW]");
    EXPECT_EQ(qr_space_watch(space, sim_page(0), bytes, &first.listener,
                             QR_WATCH_MISSING | QR_WATCH_WRITE),
              QR_OK);
    EXPECT_EQ(qr_space_write_protect(space, sim_page(1), bytes, true), QR_OK); /* holes are fine */
    EXPECT_EQ(qr_space_write_protect(space, sim_page(2), 2 << QR_PAGE_SHIFT, true),
              QR_ERR_NOT_FOUND);
    EXPECT_EQ(qr_space_unwatch(space, sim_page(5), 2 << QR_PAGE_SHIFT, &first.listener), QR_OK);
    EXPECT_STR(sim_layout(sim), "[WW]..[W][WW][W]");
    EXPECT_EQ(qr_space_unwatch(space, sim_page(4), 1 << QR_PAGE_SHIFT, &first.listener),
              QR_OK); /* joins above */
    EXPECT_STR(sim_layout(sim), "[WW]..[WWW][W]");
    sim_validate(sim);
    EXPECT_EQ(sim_unmap(sim, 0, 8), QR_OK);
    qr_listener_put(&first.listener);
    qr_listener_put(&second.listener);
    EXPECT_EQ(atomic_load(&first.destroyed) + atomic_load(&second.destroyed), 2);
    sim_shutdown(sim);
}

TEST(listener, options_make_faults_fail_at_once)
{
    struct world world;
    uint64_t value = 0;

    world_begin(&world, (struct sim_options){.seed = test_seed(), .cpus = 1}, false,
                QR_WATCH_MISSING);
    atomic_store(&world.listener.options, QR_LISTENER_NO_WAIT);
    EXPECT_EQ(sim_load(sim_page(0), &value, sizeof(value)), SIM_BUS_ADRERR);
    EXPECT_EQ(sim_store(sim_page(1), &value, sizeof(value)), SIM_BUS_ADRERR);
    atomic_store(&world.listener.options, QR_LISTENER_USER_ONLY);
    struct qr_frame *frame;
    EXPECT_EQ(qr_space_get_frame(world.space, sim_page(0), QR_ACCESS_READ, false, &frame),
              QR_ERR_FAULT);
    EXPECT_FALSE(qr_listener_has_events(&world.listener));
    world_end(&world);
}

/* A copy made by fork and a region that moved have no listener, nor what it had protected. */
TEST(listener, copies_and_moved_pages_are_not_watched)
{
    struct world world;

    world_begin(&world, (struct sim_options){.seed = test_seed(), .cpus = 1}, false,
                QR_WATCH_MISSING | QR_WATCH_WRITE);
    world_prefill(&world);
    EXPECT_EQ(qr_space_write_protect(world.space, sim_page(0), PAGES << QR_PAGE_SHIFT, true),
              QR_OK);
    struct qr_space *child = sim_fork(world.sim);
    ASSERT_TRUE(child != NULL);
    sim_use(world.sim, child);
    EXPECT_EQ(sim_read(world.sim, 3), mark_of(3));
    sim_write(world.sim, 3, 7);
    sim_unmap(world.sim, 4, 5);
    sim_map(world.sim, 4, 1, SIM_W);
    sim_write(world.sim, 4, 7);
    sim_use(world.sim, world.space);
    EXPECT_EQ(sim_read(world.sim, 3), mark_of(3));
    sim_space_destroy(world.sim, child);
    struct qr_remap_request remap = {.old_start = sim_page(0),
                                     .old_bytes = 2 << QR_PAGE_SHIFT,
                                     .new_bytes = 2 << QR_PAGE_SHIFT,
                                     .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                     .new_start = sim_page(20)};
    qr_va va;
    ASSERT_EQ(qr_space_remap(world.space, &remap, &va), QR_OK);
    sim_write(world.sim, 20, 9);
    EXPECT_EQ(sim_read(world.sim, 21), mark_of(1));
    sim_validate(world.sim);
    world_end(&world);
}

/* Refuse each allocation in turn: then nothing has changed, and nothing is lost. */
static void
fill_refused(bool object)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct world world;

        world_begin(&world, (struct sim_options){.seed = test_seed(), .cpus = 1}, object,
                    QR_WATCH_MISSING | QR_WATCH_WRITE);
        struct qr_frame *frame = filled_frame(&world, 2);
        sim_refuse_nth(world.sim, ++refusal, SIM_REFUSE_FROM_THEN_ON);
        status = qr_space_fill(world.space, sim_page(2), frame, 0);
        sim_refuse_nth(world.sim, 0, SIM_REFUSE_ONCE);
        if (status == QR_OK) {
            EXPECT_EQ(sim_read(world.sim, 2), mark_of(2));
        } else {
            EXPECT_EQ(status, QR_ERR_NO_MEMORY);
            if (object)
                EXPECT_EQ(qr_object_resident(world.object), 0);
            qr_frame_put(sim_frames(world.sim), frame);
        }
        world_end(&world);
    } while (status != QR_OK && refusal < 50);
    EXPECT_EQ(status, QR_OK);
}

TEST(listener, filling_is_all_or_nothing)
{
    fill_refused(false);
    fill_refused(true);
}

TEST(listener, zero_pages)
{
    for (int object = 0; object < 2; object++) {
        struct world world;

        world_begin(&world, (struct sim_options){.seed = test_seed(), .cpus = 1}, object != 0,
                    QR_WATCH_MISSING);
        EXPECT_EQ(qr_space_fill_zero(world.space, sim_page(1)), QR_OK);
        EXPECT_EQ(qr_space_fill_zero(world.space, sim_page(1)), QR_ERR_EXISTS);
        EXPECT_EQ(qr_space_fill_zero(world.space, sim_page(PAGES)), QR_ERR_NOT_FOUND);
        EXPECT_EQ(sim_read(world.sim, 1), 0);
        sim_write(world.sim, 1, 3); /* a write to it is nothing that this listener is told of */
        EXPECT_EQ(sim_read(world.sim, 1), 3);
        EXPECT_EQ(qr_space_fill_cached(world.space, sim_page(2), 0),
                  object != 0 ? QR_ERR_FAULT : QR_ERR_INVALID);
        world_end(&world);
    }
}
