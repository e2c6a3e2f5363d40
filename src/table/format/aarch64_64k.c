/* SPDX-License-Identifier: MIT */
/*
 * AArch64: 64 KiB pages, blocks of 512 MiB, with 52 bits also of 4 TiB.  Groups have 32 entries.
 */
#include "table/format/aarch64.h"

A64_FORMAT(aarch64_64k, 16, 3, 48, 48, 3, 5, 5, 0)
A64_FORMAT(aarch64_64k_42, 16, 2, 42, 48, 3, 5, 5, 0)
A64_FORMAT(aarch64_64k_52, 16, 3, 52, 52, 7, 5, 5, 0)
