/* SPDX-License-Identifier: MIT */
/*
 * The scheduler of the hosted machine: seeds name interleavings, locks exclude
 * under every seed, races are found, deadlocks and livelocks are named.
 */
#include "harness.h"
#include "sim.h"

#include <quire/lock.h>

#include <string.h>

struct shared {
    struct sim *sim;
    struct qr_spin spin;
    struct qr_mutex mutex;
    struct qr_rwlock rwlock;
    unsigned counter;
    unsigned lost;
    bool use_spin, use_mutex;
};

/* A read, a pause and a write: loses updates unless something excludes the others. */
static void
count_slowly(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < 20; i++) {
        if (shared->use_spin)
            qr_spin_lock(&shared->spin);
        if (shared->use_mutex)
            qr_mutex_lock(&shared->mutex);
        unsigned seen = shared->counter;

        sim_preempt();
        shared->counter = seen + 1;
        if (shared->use_mutex)
            qr_mutex_unlock(&shared->mutex);
        if (shared->use_spin)
            qr_spin_unlock(&shared->spin);
    }
}

static uint64_t
run_counters(struct shared *shared, uint64_t seed, unsigned threads, unsigned cpus)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = cpus, .seed = seed});
    uint64_t hash;

    shared->sim = sim;
    shared->counter = 0;
    memset(&shared->spin, 0, sizeof(shared->spin));
    memset(&shared->mutex, 0, sizeof(shared->mutex));
    for (unsigned i = 0; i < threads; i++)
        sim_spawn(sim, SIM_ANY_CPU, "counter", count_slowly, shared);
    sim_run(sim, SIM_RUN_SEEDED);
    hash = sim_schedule_hash(sim);
    sim_shutdown(sim);
    return hash;
}

TEST(sched, a_race_is_found_and_locks_close_it)
{
    unsigned found = 0;

    for (uint64_t seed = 0; seed < 50; seed++) {
        struct shared none = {.use_spin = false};
        struct shared spin = {.use_spin = true};
        struct shared mutex = {.use_mutex = true};

        run_counters(&none, seed, 4, 3);
        run_counters(&spin, seed, 4, 3);
        run_counters(&mutex, seed, 4, 3);
        found += none.counter != 80;
        EXPECT_EQ(spin.counter, 80);
        EXPECT_EQ(mutex.counter, 80);
    }
    EXPECT_GT(found, 45);
}

TEST(sched, a_seed_names_one_interleaving)
{
    struct shared a = {.use_mutex = true}, b = {.use_mutex = true};
    unsigned different = 0;

    for (uint64_t seed = 0; seed < 20; seed++) {
        uint64_t hash = run_counters(&a, seed, 3, 2);

        EXPECT_EQ(hash, run_counters(&b, seed, 3, 2));
        different += hash != run_counters(&b, seed + 1, 3, 2);
    }
    EXPECT_EQ(different, 20);
}

static void
take_twice(void *context)
{
    struct shared *shared = context;

    qr_mutex_lock(&shared->mutex);
    qr_mutex_lock(&shared->mutex);
}

static void
boot_and_take_twice(void *context)
{
    struct shared *shared = context;
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 2, .seed = 3});

    sim_spawn(sim, SIM_ANY_CPU, "greedy", take_twice, shared);
    sim_run(sim, SIM_RUN_SEEDED);
}

TEST(sched, a_deadlock_is_named)
{
    struct shared shared = {.counter = 0};
    char message[256];

    ASSERT_TRUE(sim_catch(boot_and_take_twice, &shared, message, sizeof(message)));
    EXPECT_STR(message, "a deadlock: no thread can run; greedy waits");
}

static void
spin_for_ever(void *context)
{
    struct shared *shared = context;

    qr_spin_lock(&shared->spin);
    qr_spin_lock(&shared->spin);
}

static void
boot_and_spin(void *context)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 2, .seed = 3});

    sim_spawn(sim, 1, "spinner", spin_for_ever, context);
    sim_run(sim, SIM_RUN_SEEDED);
}

TEST(sched, a_livelock_is_named)
{
    struct shared shared = {.counter = 0};
    char message[256];

    ASSERT_TRUE(sim_catch(boot_and_spin, &shared, message, sizeof(message)));
    EXPECT_STR(message, "a livelock: nothing but spinning; spinner spins");
}

TEST(sched, a_panic_ends_the_test_with_its_words)
{
    EXPECT_PANIC(qr_port_panic("words"), "words");
}

static void
read_and_write(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < 10; i++) {
        qr_rw_write_lock(&shared->rwlock);
        unsigned seen = shared->counter++;

        sim_preempt();
        shared->lost += shared->counter != seen + 1;
        qr_rw_downgrade(&shared->rwlock);
        sim_preempt();
        shared->lost += shared->counter != seen + 1;
        qr_rw_read_unlock(&shared->rwlock);
        qr_rw_read_lock(&shared->rwlock);
        seen = shared->counter;
        sim_preempt();
        shared->lost += shared->counter != seen;
        qr_rw_read_unlock(&shared->rwlock);
    }
}

TEST(sched, reader_writer_locks_hold_under_every_seed)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct shared shared = {.counter = 0};
        struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 3, .seed = seed});

        for (unsigned i = 0; i < 5; i++)
            sim_spawn(sim, SIM_ANY_CPU, "reader and writer", read_and_write, &shared);
        sim_run(sim, SIM_RUN_SEEDED);
        EXPECT_EQ(shared.counter, 50);
        EXPECT_EQ(shared.lost, 0);
        sim_shutdown(sim);
    }
}

TEST_THREADS(sched, locks_hold_under_host_threads)
{
    struct shared shared = {.use_spin = true};
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 4});

    for (unsigned i = 0; i < 4; i++)
        sim_spawn(sim, i, "counter", count_slowly, &shared);
    sim_run(sim, SIM_RUN_THREADS);
    EXPECT_EQ(shared.counter, 80);
    shared = (struct shared){.counter = 0};
    for (unsigned i = 0; i < 4; i++)
        sim_spawn(sim, i, "reader and writer", read_and_write, &shared);
    sim_run(sim, SIM_RUN_THREADS);
    EXPECT_EQ(shared.counter, 40);
    EXPECT_EQ(shared.lost, 0);
    sim_shutdown(sim);
}
