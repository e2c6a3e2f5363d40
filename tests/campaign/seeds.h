/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CAMPAIGN_SEEDS_H
#define TESTS_CAMPAIGN_SEEDS_H

#include "harness.h"
#include "sim.h"

/*
 * Call @one with @run under @seeds seeds, from the test's own on; *@seed, which lies in what @run
 * points to, is the present one.  @return false after the first that failed, which fails the test
 */
static inline bool
under_seeds(uint64_t seeds, void (*one)(void *run), void *run, uint64_t *seed)
{
    for (*seed = test_seed(); *seed < test_seed() + seeds; ++*seed) {
        char message[400];

        if (sim_catch(one, run, message, sizeof(message))) {
            TEST_FAIL("seed %llu: %s", (unsigned long long)*seed, message);
            return false;
        }
    }
    return true;
}

#endif
