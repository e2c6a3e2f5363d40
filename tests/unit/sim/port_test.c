/* SPDX-License-Identifier: MIT */
/*
 * The port of the hosted machine: memory, windows, interrupts, refusal, and that
 * machines do not see each other.
 */
#include "harness.h"
#include "sim.h"

#include <quire/heap.h>
#include <quire/lock.h>

#include <string.h>

static const struct sim_bank far_banks[] = {
    {.start = 1 << 20, .bytes = 15 << 20},
    {.start = 1ull << 32, .bytes = 64 << 20, .node = 1},
    {.start = 1ull << 40, .bytes = 32 << 20, .node = 2, .kind = QR_MEMORY_PERSISTENT},
};

TEST(port, banks_are_where_they_are_and_nowhere_else)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.banks = far_banks, .bank_count = 3});
    const struct qr_memory_range *map;

    ASSERT_EQ(sim_memory_map(sim, &map), 3);
    EXPECT_EQ(map[1].range.start.v, 1ull << 32);
    EXPECT_EQ(map[2].kind, QR_MEMORY_PERSISTENT);
    EXPECT_EQ(map[2].node, 2);
    for (size_t i = 0; i < 3; i++) {
        qr_pa last = qr_pa_of(far_banks[i].start + far_banks[i].bytes - 8);
        void *window = qr_port_window_open(last);

        memcpy(window, "12345678", 8);
        EXPECT_EQ(qr_port_direct_pa(window).v, last.v);
        EXPECT_MEM(sim_ram(sim, last), "12345678", 8);
        qr_port_window_close(window);
    }
    EXPECT_PANIC(qr_port_window_open(qr_pa_of(0)), "where there is no RAM");
    EXPECT_PANIC(qr_port_window_open(qr_pa_of(16 << 20)), "where there is no RAM");
    EXPECT_PANIC(qr_port_window_open(qr_pa_of(1ull << 50)), "where there is no RAM");
    sim_shutdown(sim);
}

TEST(port, a_terabyte_boots_and_costs_what_it_touches)
{
    static const struct sim_bank bank = {.start = 16 << 20, .bytes = 1ull << 40};
    struct sim *sim = sim_boot_frames(
        (struct sim_options){.banks = &bank,
                             .bank_count = 1,
                             .features = SIM_NO_VALIDATE}); /* of 8 GiB of descriptors */
    struct qr_frames_stats stats;
    struct qr_frame *frame = qr_frame_alloc(sim_frames(sim), QR_ALLOC_ZERO);

    ASSERT_NOT_NULL(frame);
    qr_frames_stats(sim_frames(sim), &stats);
    EXPECT_GT(stats.total, (size_t)250 << 20);
    qr_frame_put(sim_frames(sim), frame);
    sim_shutdown(sim);
}

TEST(port, high_memory_has_four_windows_in_order)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.direct_limit = 20 << 20, .frames = 4096});
    void *low = qr_port_window_open(qr_pa_of(16 << 20));
    void *high[4];

    EXPECT_EQ(low, qr_port_window_open(qr_pa_of(16 << 20)));
    for (unsigned i = 0; i < 4; i++)
        high[i] = qr_port_window_open(qr_pa_of((20u << 20) + i * 4096));
    EXPECT_PANIC(qr_port_window_open(qr_pa_of(21 << 20)), "fifth window");
    EXPECT_PANIC(qr_port_window_close(high[2]), "reverse");
    EXPECT_PANIC(qr_port_direct_pa(high[0]), "not in the direct map");
    for (unsigned i = 4; i-- > 0;)
        qr_port_window_close(high[i]);
    qr_port_window_close(low);
    sim_shutdown(sim);
}

TEST(port, machines_do_not_see_each_other)
{
    struct sim *sims[50];

    for (size_t i = 0; i < 50; i++) {
        sims[i] = sim_boot_frames((struct sim_options){.frames = 64 + i, .cpus = 1 + i % 4});
        EXPECT_EQ(sim_cpu_count(sims[i]), 1 + i % 4);
    }
    for (size_t i = 0; i < 50; i++) {
        sim_enter(sims[i], 0);
        struct qr_frame *frame = qr_frame_alloc(sim_frames(sims[i]), 0);

        EXPECT_NOT_NULL(frame);
        EXPECT_EQ(sim_here(), sims[i]);
        qr_frame_put(sim_frames(sims[i]), frame);
    }
    for (size_t i = 0; i < 50; i++)
        sim_shutdown(sims[i]);
}

TEST(port, equal_seeds_see_equal_machines)
{
    uint64_t bytes[2], clocks[2];

    for (unsigned i = 0; i < 2; i++) {
        struct sim *sim = sim_boot_ram((struct sim_options){.seed = 99});

        (void)qr_port_clock_ns();
        clocks[i] = qr_port_clock_ns();
        qr_port_random(&bytes[i], sizeof(bytes[i]));
        sim_shutdown(sim);
    }
    EXPECT_EQ(bytes[0], bytes[1]);
    EXPECT_EQ(clocks[0], clocks[1]);
}

/* ---- Interrupts ------------------------------------------------------------------- */

static void
send(unsigned to)
{
    struct qr_cpu_set set = {{0}};

    qr_cpu_set_add(&set, to);
    qr_port_ipi(&set);
}

TEST(port, interrupts_wait_until_they_are_on)
{
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 2});
    uintptr_t state = qr_port_irq_save();

    send(0);
    send(1);
    EXPECT_EQ(sim_stats(sim).ipis_taken, 0);
    qr_port_relax(); /* the idle CPU takes its own; this one has them off */
    EXPECT_EQ(sim_stats(sim).ipis_taken, 1);
    qr_port_irq_restore(state);
    EXPECT_EQ(sim_stats(sim).ipis_taken, 2);
    sim_drop_ipi(sim, 2);
    send(0);
    send(0);
    send(0);
    sim_poll();
    EXPECT_EQ(sim_stats(sim).ipis_sent, 5);
    EXPECT_EQ(sim_stats(sim).ipis_taken, 3); /* two arrived together, one was lost */
    sim_shutdown(sim);
}

static void
sleep_with_a_lock(void *context)
{
    struct qr_spin lock = QR_SPIN_INIT(QR_RANK_LEAF);
    _Atomic uint32_t word = 1;

    (void)context;
    (void)sim_boot_ram((struct sim_options){.cpus = 1});
    qr_spin_lock(&lock);
    qr_port_wait(&word, 1);
}

static void
leave_with_a_lock(void *context)
{
    struct qr_spin lock = QR_SPIN_INIT(QR_RANK_LEAF);
    struct sim *sim = sim_boot_ram((struct sim_options){.cpus = 2});

    (void)context;
    qr_spin_lock(&lock);
    sim_enter(sim, 1);
}

static void
sleep_alone(void *context)
{
    _Atomic uint32_t word = 1;

    (void)context;
    (void)sim_boot_ram((struct sim_options){.cpus = 1});
    qr_port_wait(&word, 1);
}

TEST(port, mistakes_with_interrupts_and_sleep_are_named)
{
    char message[200];

    ASSERT_TRUE(sim_catch(sleep_with_a_lock, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "sleeps with its interrupts off");
    ASSERT_TRUE(sim_catch(leave_with_a_lock, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "a lock is still held");
    ASSERT_TRUE(sim_catch(sleep_alone, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "a deadlock");
}

/* ---- Refusal ------------------------------------------------------------------------ */

static unsigned
allocations_that_fail(struct sim *sim, unsigned count)
{
    unsigned failed = 0;

    for (unsigned i = 0; i < count; i++) {
        struct qr_frame *frame = qr_frame_alloc(sim_frames(sim), QR_ALLOC_NO_REPORT);

        if (frame == NULL)
            failed |= 1u << i;
        else
            qr_frame_put(sim_frames(sim), frame);
    }
    return failed;
}

TEST(port, the_nth_allocation_is_refused)
{
    struct sim *sim = sim_boot_heap((struct sim_options){.seed = 4});
    unsigned refusal = 0;

    sim_refuse_nth(sim, 3, SIM_REFUSE_ONCE);
    EXPECT_EQ(allocations_that_fail(sim, 6), 4);
    EXPECT_EQ(sim_refused(sim), 1);
    EXPECT_EQ(sim_asked(sim), 6);
    sim_refuse_nth(sim, 3, SIM_REFUSE_FROM_THEN_ON);
    EXPECT_EQ(allocations_that_fail(sim, 6), 60);
    EXPECT_EQ(sim_refused(sim), 4);
    sim_refuse_next(sim, &refusal);
    EXPECT_EQ(allocations_that_fail(sim, 3), 1);
    sim_refuse_next(sim, &refusal);
    EXPECT_EQ(allocations_that_fail(sim, 3), 2);
    sim_refuse_randomly(sim, 2);
    EXPECT_NE(allocations_that_fail(sim, 30), 0);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
    EXPECT_EQ(allocations_that_fail(sim, 30), 0);
#ifdef CONFIG_MEMORY_DEBUGGING
    qr_kfree(sim_heap(sim), qr_kmalloc(sim_heap(sim), 64, 0));
    sim_refuse_nth(sim, 1, SIM_REFUSE_ONCE);
    EXPECT_NULL(qr_kmalloc(sim_heap(sim), 64, 0)); /* though the slab has room */
#endif
    sim_shutdown(sim);
}
