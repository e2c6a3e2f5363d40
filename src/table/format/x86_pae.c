/* SPDX-License-Identifier: MIT */
/*
 * 32-bit x86 with physical address extension: x86-64's entries without keys, under a root of
 * four entries, one for each GiB.
 *
 *              63 62..52 51............12 11..9 8..5 4   3   2..1 0
 * root entry   0  0      address          -     0    PCD PWT 0    1     (bits 8..5, 2, 1 are reserved)
 *
 * The processor reads the root's entries when CR3 is loaded, and not again.  So
 * all four are there from the start (root_is_loaded) and stay for as long as the root.
 * The root itself lies below 4 GiB, because CR3 has 32 bits; other tables may lie anywhere.
 */
#include "table/format/x86.h"

static const struct format_traits x86_pae_traits = {
    .info = {.name = "x86_pae",
             .levels = 3,
             .page_shift = 12,
             .leaf_levels = 3,
             .va_bits = 32,
             .pa_bits = 52,
             .mark_bits = 40,
             .prot_mask = FORMAT_PROT,
             .cache_mask = (1 << QR_CACHE_COUNT) - 1,
             .roots = QR_ROOTS_FLAT,
             .no_execute = true,
             .hardware_access_dirty = true},
    .entry_bytes = 8,
    .root_is_loaded = true,
    X86_FUNCTIONS,
};

WALK_INSTANTIATE(x86_pae, x86_pae_traits)
