/* SPDX-License-Identifier: MIT */
#include "harness.h"
#include "sim.h"

#include <quire/tlb.h>

TEST(boot, tables_come_and_go)
{
    sim_for_each_mmu(mmu)
    {
        struct sim *sim =
            sim_boot_tables((struct sim_options){.cpus = 4, .mmu = (enum sim_mmu)mmu});

        EXPECT_NOT_NULL(sim_kernel_tables(sim));
        sim_shutdown(sim);
    }
}
