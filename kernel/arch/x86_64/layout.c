/* SPDX-License-Identifier: MIT */
/*
 * What platform.h asks for that depends on the address layout.
 */
#include <platform.h>

#include "cpu.h"

const struct qr_format *
platform_format(void)
{
    return cr4_read() & CR4_LA57 ? &qr_format_x86_64_la57 : &qr_format_x86_64;
}

uint64_t
platform_physical_limit(void)
{
    uint64_t limit = (uint64_t)1 << cpu_features.physical_bits;

    return limit < DIRECT_MAP_BYTES ? limit : DIRECT_MAP_BYTES;
}

uintptr_t
platform_user_window(void)
{
    return USER_WINDOW_END;
}

unsigned
platform_leaf_shift_max(void)
{
    return cpu_features.gib_pages ? 30 : 21;
}

unsigned
platform_asid_count(void)
{
    return cpu_features.pcid ? 4096 : 1;
}

struct qr_va_range
platform_area(enum kernel_area area)
{
    static const uint64_t base[KERNEL_AREA_COUNT] = {
        [KERNEL_AREA_HEAP] = HEAP_BASE,
        [KERNEL_AREA_STACKS] = STACKS_BASE,
        [KERNEL_AREA_DEVICES] = DEVICES_BASE,
    };

    return (struct qr_va_range){qr_va_of(base[area]), qr_va_of(base[area] + AREA_BYTES)};
}
