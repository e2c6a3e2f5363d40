/* SPDX-License-Identifier: MIT */
/*
 * RISC-V 64 without Svpbmt: what is cached how, the platform alone decides.
 */
#include "table/format/riscv64.h"

RV_FORMAT(riscv64_sv39_basic, 3, 1 << QR_CACHE_WRITE_BACK)
RV_FORMAT(riscv64_sv48_basic, 4, 1 << QR_CACHE_WRITE_BACK)
RV_FORMAT(riscv64_sv57_basic, 5, 1 << QR_CACHE_WRITE_BACK)
