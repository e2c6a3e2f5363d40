/* SPDX-License-Identifier: MIT */
/*
 * The table of instructions that may fault on user memory, and where to go on.
 *
 * usercopy.S writes an entry for each; both fields are relative to themselves, so
 * the table is constant and the same wherever the kernel is loaded.  It has a
 * handful of entries and is searched only for faults that could not be resolved.
 */
#include "quire_aarch64.h"

struct fixup_entry {
    int32_t from;
    int32_t to;
};

extern const struct fixup_entry __start_qr_extable[];
extern const struct fixup_entry __stop_qr_extable[];

uintptr_t
qr_aarch64_fixup(uintptr_t ip)
{
    for (const struct fixup_entry *entry = __start_qr_extable; entry < __stop_qr_extable; entry++) {
        if ((uintptr_t)&entry->from + (uintptr_t)(intptr_t)entry->from == ip)
            return (uintptr_t)&entry->to + (uintptr_t)(intptr_t)entry->to;
    }
    return 0;
}
