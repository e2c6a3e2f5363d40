/* SPDX-License-Identifier: MIT */
#include "harness.h"

#include <quire/fault.h>

#include "sim.h"

/*
 * page     0    1    2    3
 * before [ W    W    W    W ]
 * after  [ W ][ R    R ][ W ]
 *
 * A middle split needs two descriptors.  Refuse each in turn: the call must
 * then fail whole, leaving the one region it found.
 */
TEST(space, protect_in_the_middle_is_all_or_nothing)
{
    unsigned refusal = 0;
    enum qr_status status;

    do {
        struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});

        ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
        sim_refuse_next(sim, &refusal);
        status = sim_protect(sim, 1, 3, SIM_R);
        sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
        EXPECT_STR(sim_layout(sim), status == QR_OK ? "[W][RR][W]" : "[WWWW]");
        sim_validate(sim);
        sim_shutdown(sim);
    } while (status == QR_ERR_NO_MEMORY);
    EXPECT_EQ(status, QR_OK);
}

TEST(fault, untouched_memory_is_zero_and_keeps_what_is_written)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});

    ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
    EXPECT_EQ(sim_read(sim, 1), 0);
    sim_write(sim, 1, 42);
    sim_write(sim, 2, 43);
    EXPECT_EQ(sim_read(sim, 1), 42);
    EXPECT_EQ(sim_read(sim, 2), 43);
    EXPECT_EQ(sim_touch(sim, 4, QR_ACCESS_READ), SIM_SEGV_MAPERR);
    sim_validate(sim);
    sim_shutdown(sim);
}

TEST(fault, fork_shares_until_one_side_writes)
{
    struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
    struct qr_space *parent = sim_space(sim);

    ASSERT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
    sim_write(sim, 0, 1);
    sim_write(sim, 1, 2);
    struct qr_space *child = sim_fork(sim);

    ASSERT_TRUE(child != NULL);
    sim_write(sim, 0, 10);
    sim_validate(sim);
    sim_use(sim, child);
    EXPECT_EQ(sim_read(sim, 0), 1);
    EXPECT_EQ(sim_read(sim, 1), 2);
    sim_write(sim, 1, 20);
    EXPECT_EQ(sim_read(sim, 1), 20);
    sim_validate(sim);
    sim_use(sim, parent);
    EXPECT_EQ(sim_read(sim, 0), 10);
    EXPECT_EQ(sim_read(sim, 1), 2);
    sim_space_destroy(sim, child);
    sim_validate(sim);
    sim_shutdown(sim);
}
