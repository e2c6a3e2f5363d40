/* SPDX-License-Identifier: MIT */
/* The contract tests' machine, hosted: one of the simulator's, new for each test. */
#include "contract.h"

#include "sim.h"

static struct sim *sim;
static struct contract_machine machine;

const struct contract_machine *
contract_machine_begin(void)
{
    sim = sim_boot((struct sim_options){.frames = 4096, .cpus = 2, .seed = test_seed()});
    machine = (struct contract_machine){
        .frames = sim_frames(sim),
        .heap = sim_heap(sim),
        .vm = sim_vm(sim),
        .epoch = sim_epoch(sim),
    };
    return &machine;
}

void
contract_machine_end(void)
{
    sim_shutdown(sim);
}
