/* SPDX-License-Identifier: MIT */
/*
 * AArch64: 4 KiB pages, blocks of 2 MiB and 1 GiB, with 52 bits also of 512 GiB.  Groups have 16 entries.
 */
#include "table/format/aarch64.h"

A64_FORMAT(aarch64_4k, 12, 4, 48, 48, 7, 4, 4, 4)
A64_FORMAT(aarch64_4k_39, 12, 3, 39, 48, 7, 4, 4, 4)
A64_FORMAT(aarch64_4k_52, 12, 5, 52, 52, 15, 4, 4, 4)
