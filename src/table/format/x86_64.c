/* SPDX-License-Identifier: MIT */
/*
 * x86-64 page tables, 4 levels and 5 (LA57); x86.h has the entries.
 *
 * A key (bits 62..59) is a user key (PKU) or a supervisor key (PKS) by the leaf's own
 * US bit; hardware looks at it only where CR4 turns them on.
 */
#include "table/format/x86.h"

#define X86_64_TRAITS(name_, levels_)                     \
    {                                                     \
        .info = {.name = name_,                           \
                 .levels = levels_,                       \
                 .page_shift = 12,                        \
                 .leaf_levels = 7,                        \
                 .va_bits = 12 + 9 * levels_,             \
                 .pa_bits = 52,                           \
                 .mark_bits = 40,                         \
                 .prot_mask = FORMAT_PROT,                \
                 .cache_mask = (1 << QR_CACHE_COUNT) - 1, \
                 .no_execute = true,                      \
                 .protection_keys = true,                 \
                 .hardware_access_dirty = true},          \
        .entry_bytes = 8, X86_FUNCTIONS                   \
    }

static const struct format_traits x86_64_traits = X86_64_TRAITS("x86_64", 4);
static const struct format_traits x86_64_la57_traits = X86_64_TRAITS("x86_64_la57", 5);

WALK_INSTANTIATE(x86_64, x86_64_traits)
WALK_INSTANTIATE(x86_64_la57, x86_64_la57_traits)
