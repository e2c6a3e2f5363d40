/* SPDX-License-Identifier: MIT */
/*
 * AArch64: 16 KiB pages, blocks of 32 MiB, with 52 bits also of 64 GiB.  Groups have 128 pages or 32
 * blocks.
 */
#include "table/format/aarch64.h"

A64_FORMAT(aarch64_16k, 14, 3, 47, 48, 3, 7, 5, 0)
A64_FORMAT(aarch64_16k_48, 14, 4, 48, 48, 3, 7, 5, 0)
A64_FORMAT(aarch64_16k_52, 14, 4, 52, 52, 7, 7, 5, 0)
