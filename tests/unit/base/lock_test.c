/* SPDX-License-Identifier: MIT */
/* Locks, epochs and counters on the hosted machine: under seeds, and under real threads. */
#include <quire/counter.h>
#include <quire/epoch.h>
#include <quire/lock.h>

#include "harness.h"
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define CPUS   4
#define ROUNDS 200

struct shared {
    struct sim *sim;
    struct qr_spin spin;
    _Atomic uint32_t word;
    struct qr_mutex mutex;
    struct qr_rwlock rw;
    unsigned count; /* guarded by the lock under test */
    unsigned pair[2];
};

static void
spin_body(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_spin_lock(&shared->spin);
        unsigned seen = shared->count;
        sim_preempt();
        shared->count = seen + 1;
        qr_spin_unlock(&shared->spin);
        if (qr_spin_try_lock(&shared->spin)) {
            shared->count++;
            shared->count--;
            qr_spin_unlock(&shared->spin);
        }
    }
}

static void
bit_body(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_bit_lock(&shared->word, 4, QR_RANK_LEAF);
        unsigned seen = shared->count;
        sim_preempt();
        shared->count = seen + 1;
        qr_bit_unlock(&shared->word, 4, QR_RANK_LEAF);
    }
}

static void
mutex_body(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_mutex_lock(&shared->mutex);
        unsigned seen = shared->count;
        sim_preempt();
        shared->count = seen + 1;
        qr_mutex_unlock(&shared->mutex);
    }
}

static void
writer_body(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_rw_write_lock(&shared->rw);
        shared->pair[0]++;
        sim_preempt();
        shared->pair[1]++;
        shared->count++;
        if (i % 3 == 0) {
            qr_rw_downgrade(&shared->rw);
            EXPECT_EQ(shared->pair[0], shared->pair[1]);
            qr_rw_read_unlock(&shared->rw);
        } else {
            qr_rw_write_unlock(&shared->rw);
        }
    }
}

static void
reader_body(void *context)
{
    struct shared *shared = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_rw_read_lock(&shared->rw);
        unsigned first = shared->pair[0];
        sim_preempt();
        EXPECT_EQ(first, shared->pair[1]);
        qr_rw_read_unlock(&shared->rw);
    }
}

static unsigned
run(sim_body body, sim_body other, enum sim_run_mode mode, uint64_t seed)
{
    struct shared shared = {
        .sim = sim_boot_ram((struct sim_options){.cpus = CPUS, .seed = seed}),
        .spin = QR_SPIN_INIT(QR_RANK_LEAF),
    };

    for (unsigned i = 0; i < CPUS; i++)
        sim_spawn(shared.sim, mode == SIM_RUN_THREADS ? i : SIM_ANY_CPU, "body",
                  i & 1 ? other : body, &shared);
    sim_run(shared.sim, mode);
    EXPECT_FALSE(qr_spin_is_locked(&shared.spin));
    EXPECT_FALSE(qr_rw_is_locked(&shared.rw));
    sim_shutdown(shared.sim);
    return shared.count;
}

TEST_THREADS(lock, spin_excludes_under_threads)
{
    EXPECT_EQ(run(spin_body, spin_body, SIM_RUN_THREADS, test_seed()), CPUS * ROUNDS);
}

TEST_THREADS(lock, bit_excludes_under_threads)
{
    EXPECT_EQ(run(bit_body, bit_body, SIM_RUN_THREADS, test_seed()), CPUS * ROUNDS);
}

TEST_THREADS(lock, mutex_excludes_under_threads)
{
    EXPECT_EQ(run(mutex_body, mutex_body, SIM_RUN_THREADS, test_seed()), CPUS * ROUNDS);
}

TEST_THREADS(lock, readers_see_whole_writes_under_threads)
{
    EXPECT_EQ(run(writer_body, reader_body, SIM_RUN_THREADS, test_seed()), CPUS / 2 * ROUNDS);
}

TEST(lock, every_kind_excludes_under_seeded_schedules)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + 10; seed++) {
        EXPECT_EQ(run(spin_body, spin_body, SIM_RUN_SEEDED, seed), CPUS * ROUNDS);
        EXPECT_EQ(run(bit_body, bit_body, SIM_RUN_SEEDED, seed), CPUS * ROUNDS);
        EXPECT_EQ(run(mutex_body, mutex_body, SIM_RUN_SEEDED, seed), CPUS * ROUNDS);
        EXPECT_EQ(run(writer_body, reader_body, SIM_RUN_SEEDED, seed), CPUS / 2 * ROUNDS);
    }
}

TEST(lock, interrupts_come_back_in_any_order_of_release)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 1});
    struct qr_spin a = QR_SPIN_INIT(QR_RANK_NONE);
    struct qr_spin b = QR_SPIN_INIT(QR_RANK_NONE);
    struct qr_cpu *cpu = qr_port_this_cpu();

    qr_spin_lock(&a);
    qr_spin_lock(&b);
    qr_spin_unlock(&a);
    EXPECT_EQ(cpu->irq_depth, 1u);
    qr_spin_unlock(&b);
    EXPECT_EQ(cpu->irq_depth, 0u);
    sim_shutdown(sim);
}

#ifdef CONFIG_MEMORY_DEBUGGING
TEST(lock, a_wrong_order_is_named)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 1});
    struct qr_spin low = QR_SPIN_INIT(QR_RANK_OBJECT);
    struct qr_spin high = QR_SPIN_INIT(QR_RANK_ZONE);

    qr_spin_lock(&high);
    EXPECT_PANIC(qr_spin_lock(&low), "lock order");
    EXPECT_PANIC(qr_spin_unlock(&low), "qr_spin_is_locked");
    qr_spin_unlock(&high);
    sim_shutdown(sim);
}
#endif

/* ---- Epochs --------------------------------------------------------------- */

struct cell {
    struct qr_epoch_node node;
    _Atomic unsigned alive;
};

struct epoch_test {
    struct qr_epoch epoch;
    struct cell cells[CPUS * ROUNDS];
    struct cell *_Atomic current;
    _Atomic unsigned next;
    _Atomic unsigned released;
};

static struct epoch_test *epoch_test;

static void
cell_release(struct qr_epoch_node *node)
{
    struct cell *cell = qr_container_of(node, struct cell, node);

    atomic_store(&cell->alive, 0);
    atomic_fetch_add(&epoch_test->released, 1);
}

static void
epoch_reader(void *context)
{
    struct epoch_test *test = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct qr_cpu *cpu = qr_epoch_enter(&test->epoch);
        struct cell *cell = atomic_load(&test->current);

        for (unsigned look = 0; look < 3; look++) {
            EXPECT_EQ(atomic_load(&cell->alive), 1u);
            sim_preempt();
        }
        qr_epoch_leave(&test->epoch, cpu);
    }
}

static void
epoch_writer(void *context)
{
    struct epoch_test *test = context;

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct cell *fresh = &test->cells[atomic_fetch_add(&test->next, 1)];

        atomic_store(&fresh->alive, 1);
        struct cell *old = atomic_exchange(&test->current, fresh);

        qr_epoch_retire(&test->epoch, &old->node, cell_release);
    }
}

static void
epoch_run(enum sim_run_mode mode, uint64_t seed)
{
    static struct epoch_test test;
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = CPUS, .seed = seed});

    epoch_test = &test;
    qr_epoch_init(&test.epoch);
    atomic_store(&test.next, 1);
    atomic_store(&test.released, 0);
    atomic_store(&test.cells[0].alive, 1);
    atomic_store(&test.current, &test.cells[0]);
    for (unsigned i = 0; i < CPUS; i++)
        sim_spawn(sim, i, "epoch", i & 1 ? epoch_writer : epoch_reader, &test);
    sim_run(sim, mode);
    EXPECT_FALSE(qr_epoch_collect(&test.epoch));
    EXPECT_EQ(atomic_load(&test.released), CPUS / 2 * ROUNDS);
    sim_shutdown(sim);
}

TEST_THREADS(epoch, a_reader_never_sees_a_released_cell_under_threads)
{
    epoch_run(SIM_RUN_THREADS, test_seed());
}

TEST(epoch, a_reader_never_sees_a_released_cell_under_seeds)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + 20; seed++)
        epoch_run(SIM_RUN_SEEDED, seed);
}

TEST(epoch, an_open_section_holds_back)
{
    static struct epoch_test test;
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 2});

    epoch_test = &test;
    qr_epoch_init(&test.epoch);
    atomic_store(&test.released, 0);
    struct qr_cpu *cpu = qr_epoch_enter(&test.epoch);

    qr_epoch_retire(&test.epoch, &test.cells[0].node, cell_release);
    EXPECT_TRUE(qr_epoch_collect(&test.epoch));
    EXPECT_EQ(atomic_load(&test.released), 0u);
    qr_epoch_leave(&test.epoch, cpu);
    EXPECT_FALSE(qr_epoch_collect(&test.epoch));
    EXPECT_EQ(atomic_load(&test.released), 1u);
    sim_shutdown(sim);
}

/* ---- Counters ------------------------------------------------------------- */

static struct qr_counters *counters;

static void
count_body(void *context)
{
    (void)context;
    for (unsigned i = 0; i < ROUNDS; i++) {
        qr_counter_add(counters, QR_EVENT_ALLOC, 2);
        qr_counter_add(counters, QR_PAGES_ANON, i & 1 ? -1 : 1);
    }
}

TEST_THREADS(counter, sums_are_exact_at_rest)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = CPUS});

    counters = aligned_alloc(QR_CACHE_LINE, qr_counters_size(CPUS));
    memset(counters, 0, qr_counters_size(CPUS));
    qr_counters_init(counters, CPUS);
    for (unsigned i = 0; i < CPUS; i++)
        sim_spawn(sim, i, "count", count_body, NULL);
    sim_run(sim, SIM_RUN_THREADS);
    EXPECT_EQ(qr_counter_read(counters, QR_EVENT_ALLOC), (long)(2 * CPUS * ROUNDS));
    EXPECT_EQ(qr_counter_read(counters, QR_PAGES_ANON), 0l);
    free(counters);
    sim_shutdown(sim);
}
