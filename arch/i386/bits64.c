/* SPDX-License-Identifier: MIT */
/*
 * Counting bits of 64-bit words, which gcc calls by name.
 */
#include <stdint.h>

int __ctzdi2(uint64_t v);
int __clzdi2(uint64_t v);
int __popcountdi2(uint64_t v);

/* Undefined for zero, as the built-in functions are. */
int
__ctzdi2(uint64_t v)
{
    uint32_t low = (uint32_t)v;

    return low != 0 ? __builtin_ctz(low) : 32 + __builtin_ctz((uint32_t)(v >> 32));
}

int
__clzdi2(uint64_t v)
{
    uint32_t high = (uint32_t)(v >> 32);

    return high != 0 ? __builtin_clz(high) : 32 + __builtin_clz((uint32_t)v);
}

int
__popcountdi2(uint64_t v)
{
    int count = 0;

    for (; v != 0; v &= v - 1)
        count++;
    return count;
}
