/* SPDX-License-Identifier: MIT */
/*
 * RISC-V 64 with Svpbmt.
 */
#include "table/format/riscv64.h"

RV_FORMAT(riscv64_sv39, 3, RV_CACHES)
RV_FORMAT(riscv64_sv48, 4, RV_CACHES)
RV_FORMAT(riscv64_sv57, 5, RV_CACHES)
