/* SPDX-License-Identifier: MIT */
/*
 * 32-bit x86 without physical address extension: a directory of 1024 entries over tables of
 * 1024 entries, 4 bytes each.  x86.h has the entries; these differ from it:
 *
 *      31............22 21 20............13 12  11 10..8    7    6..0
 * 4K   address (31..12)                         -  S2 S1 G  PAT  as in x86.h
 * 4M   address (31..22)  0  address (39..32) PAT -  S2 S1 G  1    as in x86.h      (PSE-36)
 * mark ~value (19..0)                           0  value (26..20) in 10..4, kind in 3..1
 *
 * There is no bit that forbids execution: what can be read can be executed.
 */
#include "table/format/x86.h"

static const struct format_traits x86_32_traits = {
    .info = {.name = "x86_32",
             .levels = 2,
             .page_shift = 12,
             .leaf_levels = 3,
             .va_bits = 32,
             .pa_bits = 32,
             .mark_bits = 27,
             .prot_mask = FORMAT_PROT,
             .cache_mask = (1 << QR_CACHE_COUNT) - 1,
             .roots = QR_ROOTS_FLAT,
             .hardware_access_dirty = true},
    .entry_bytes = 4,
    X86_FUNCTIONS,
};

WALK_INSTANTIATE(x86_32, x86_32_traits)
