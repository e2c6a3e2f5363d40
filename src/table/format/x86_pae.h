/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_FORMAT_X86_PAE_H
#define QUIRE_TABLE_FORMAT_X86_PAE_H

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

#define X86_PAE_TRAITS(name_, no_execute_)                       \
    {                                                            \
        .info = {.name = name_,                                  \
                 .levels = 3,                                    \
                 .page_shift = 12,                               \
                 .leaf_levels = 3,                               \
                 .va_bits = 32,                                  \
                 .pa_bits = 52,                                  \
                 .mark_bits = 40,                                \
                 .prot_mask = FORMAT_PROT,                       \
                 .cache_mask = (1 << QR_CACHE_COUNT) - 1,        \
                 .roots = QR_ROOTS_FLAT,                         \
                 .no_execute = no_execute_,                      \
                 .hardware_access_dirty = true},                 \
        .entry_bytes = 8, .root_is_loaded = true, X86_FUNCTIONS, \
    }

#endif
