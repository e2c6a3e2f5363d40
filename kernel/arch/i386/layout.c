/* SPDX-License-Identifier: MIT */
/*
 * What platform.h asks for that depends on the address layout.
 */
#include <platform.h>

#include "cpu.h"

/* 32-bit CPUs with PAE address 64 GiB; descriptors of more would not fit the direct map. */
#define PAE_BITS 36u

uintptr_t
platform_user_window(void)
{
    return USER_LIMIT;
}

const struct qr_format *
platform_format(void)
{
    if (!cpu_features.pae)
        return &qr_format_x86_32;
    return cpu_features.nx ? &qr_format_x86_pae : &qr_format_x86_pae_basic;
}

uint64_t
platform_physical_limit(void)
{
    unsigned bits = cpu_features.pae ? PAE_BITS : 32;

    return (uint64_t)1 << (bits < cpu_features.physical_bits ? bits : cpu_features.physical_bits);
}

uint64_t
platform_direct_limit(void)
{
    return DIRECT_MAP_BYTES;
}

unsigned
platform_asid_count(void)
{
    return 1;
}

struct qr_va_range
platform_area(enum kernel_area area)
{
    static const struct {
        uint32_t start, end;
    } areas[KERNEL_AREA_COUNT] = {
        [KERNEL_AREA_HEAP] = {HEAP_BASE, STACKS_BASE},
        [KERNEL_AREA_STACKS] = {STACKS_BASE, DEVICES_BASE},
        [KERNEL_AREA_DEVICES] = {DEVICES_BASE, DEVICES_END},
    };

    return (struct qr_va_range){qr_va_of(areas[area].start), qr_va_of(areas[area].end)};
}
