/* SPDX-License-Identifier: MIT */
#include "machine.h"
#include "mmu.h"
const struct mmu_ops mmu_scrambled = {.name = "scrambled"};
