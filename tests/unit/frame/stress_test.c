/* SPDX-License-Identifier: MIT */
/*
 * Real threads, each a CPU: frames taken on one CPU are freed on another, while lanes are
 * drained and statistics read.  A frame that two threads own at once shows in its
 * stamp; the thread sanitizer sees the rest.
 */
#include "harness.h"
#include "test_port.h"

#include <pthread.h>
#include <stdlib.h>

enum { THREADS = 4, MAILBOXES = 64, HELD = 700 };

struct stress {
    struct machine *machine;
    struct qr_frame *_Atomic mail[MAILBOXES]; /* frames on their way to another thread */
    _Atomic unsigned wrong;
    unsigned steps;
    bool scarce;
};

struct worker {
    struct stress *stress;
    unsigned cpu;
    uint64_t random;
    struct qr_frame *held[HELD];
    unsigned count;
};

static uint64_t *
stamp_of(struct worker *worker, struct qr_frame *frame)
{
    return qr_port_window_open(qr_frame_pa(worker->stress->machine->frames, frame));
}

static void
stamp_set(struct worker *worker, struct qr_frame *frame)
{
    *stamp_of(worker, frame) = (uintptr_t)frame;
}

static void
stamp_check(struct worker *worker, struct qr_frame *frame)
{
    if (*stamp_of(worker, frame) != (uintptr_t)frame)
        atomic_fetch_add(&worker->stress->wrong, 1);
    *stamp_of(worker, frame) = 0;
}

static void
worker_take(struct worker *worker, struct qr_frame *frame)
{
    stamp_set(worker, frame);
    worker->held[worker->count++] = frame;
}

static void
worker_alloc(struct worker *worker)
{
    struct qr_frames *frames = worker->stress->machine->frames;
    struct qr_frame *many[16];
    struct qr_frame *frame;
    uint64_t what = test_random(&worker->random) % 40;

    if (what == 0) {
        size_t got = qr_frame_alloc_many(frames, 16, many, QR_ALLOC_NO_REPORT);

        for (size_t i = 0; i < got; i++)
            worker_take(worker, many[i]);
        return;
    }
    unsigned order = what < 4 ? (unsigned)(test_random(&worker->random) % 10) : 0;

    frame = qr_frame_alloc_block(frames, order, QR_ALLOC_NO_REPORT);
    if (frame != NULL)
        worker_take(worker, frame);
}

static void
worker_free(struct worker *worker)
{
    struct qr_frames *frames = worker->stress->machine->frames;
    unsigned at = (unsigned)(test_random(&worker->random) % worker->count);
    struct qr_frame *frame = worker->held[at];

    worker->held[at] = worker->held[--worker->count];
    if (test_random(&worker->random) % 3 != 0) {
        stamp_check(worker, frame);
        qr_frame_put(frames, frame);
        return;
    }
    /* Give it to whoever comes by, and free what lay there. */
    frame = atomic_exchange(&worker->stress->mail[test_random(&worker->random) % MAILBOXES], frame);
    if (frame != NULL) {
        stamp_check(worker, frame);
        qr_frame_free(frames, frame);
    }
}

static void *
worker_run(void *argument)
{
    struct worker *worker = argument;
    struct stress *stress = worker->stress;
    struct qr_frames_stats stats;

    machine_enter(stress->machine, worker->cpu);
    for (unsigned i = 0; i < stress->steps; i++) {
        bool grow = worker->count + 16 < HELD &&
                    (worker->count == 0 || test_random(&worker->random) % 100 < 52);

        grow ? worker_alloc(worker) : worker_free(worker);
        if (i % 5000 == worker->cpu * 1000)
            qr_frames_drain(stress->machine->frames);
        if (i % 3000 == 0)
            qr_frames_stats(stress->machine->frames, &stats);
    }
    while (worker->count > 0)
        worker_free(worker);
    return NULL;
}

static void
stress_run(uint64_t bytes, unsigned steps)
{
    struct stress stress = {.steps = steps};
    struct worker *workers = calloc(THREADS, sizeof(*workers));
    pthread_t threads[THREADS];

    stress.machine =
        machine_boot((struct machine_options){.start = 4 * MIB, .bytes = bytes, .cpus = THREADS});
    size_t free_at_start = machine_free_frames(stress.machine);

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.stress = &stress, .cpu = i, .random = test_seed() + i};
        ASSERT_EQ(pthread_create(&threads[i], NULL, worker_run, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < MAILBOXES; i++) {
        if (stress.mail[i] != NULL)
            qr_frame_free(stress.machine->frames, stress.mail[i]);
    }
    EXPECT_EQ(atomic_load(&stress.wrong), 0);
    EXPECT_EQ(machine_free_frames(stress.machine), free_at_start);
    VALIDATE(stress.machine);
    qr_frames_drain(stress.machine->frames);
    VALIDATE(stress.machine);
    free(workers);
    machine_shutdown(stress.machine);
}

#if defined(CONFIG_MEMORY_DEBUGGING) || defined(__SANITIZE_THREAD__)
enum { STEPS = 15000 };
#else
enum { STEPS = 150000 };
#endif

TEST_THREADS(frame_stress, plenty_of_memory)
{
    stress_run(256 * MIB, STEPS);
}

/* Every request meets an empty zone, so lanes are drained by others all the time. */
TEST_THREADS(frame_stress, memory_is_short)
{
    stress_run(5 * MIB, STEPS);
}

/* References come and go while look-ups race with the last put. */
struct lookup {
    struct machine *machine;
    struct qr_frame *_Atomic shared;
    _Atomic bool stop;
    _Atomic unsigned found;
};

static void *
lookup_run(void *argument)
{
    struct lookup *lookup = argument;

    machine_enter(lookup->machine, 1);
    while (!atomic_load(&lookup->stop)) {
        struct qr_frame *frame = atomic_load(&lookup->shared);

        if (frame == NULL || !qr_frame_try_get(frame))
            continue;
        atomic_fetch_add(&lookup->found, 1);
        qr_frame_put(lookup->machine->frames, frame);
    }
    return NULL;
}

TEST_THREADS(frame_stress, lookups_race_with_the_last_put)
{
    struct lookup lookup = {.machine = machine_boot((struct machine_options){
                                .start = 4 * MIB, .bytes = 4 * MIB, .cpus = 2})};
    size_t free_at_start = machine_free_frames(lookup.machine);
    pthread_t thread;

    ASSERT_EQ(pthread_create(&thread, NULL, lookup_run, &lookup), 0);
    for (unsigned i = 0; i < STEPS || atomic_load(&lookup.found) < 100; i++) {
        struct qr_frame *frame = qr_frame_alloc(lookup.machine->frames, 0);

        atomic_store(&lookup.shared, frame);
        atomic_store(&lookup.shared, NULL);
        qr_frame_put(lookup.machine->frames, frame);
    }
    atomic_store(&lookup.stop, true);
    ASSERT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(machine_free_frames(lookup.machine), free_at_start);
    VALIDATE(lookup.machine);
    machine_shutdown(lookup.machine);
}
