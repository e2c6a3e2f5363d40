/* SPDX-License-Identifier: MIT */
#ifndef SIM_MMU_X86_H
#define SIM_MMU_X86_H

/**
 * @file
 * What the x86 formats have in common: rights, error codes, memory types.
 */

#include "mmu.h"

unsigned mmu_x86_rights(bool write, bool user, bool exec);
uint8_t mmu_x86_cache(uint64_t raw, bool pat);
unsigned mmu_x86_code(const struct mmu_state *state, const struct sim_access *access,
                      unsigned cause);
unsigned mmu_x86_check(const struct mmu_state *state, const struct sim_access *access,
                       unsigned rights, uint8_t pkey);

#endif
