/* SPDX-License-Identifier: MIT */
/*
 * The functions that gcc calls for what RV64IMAC has no instruction for.  Debian's
 * libgcc is built for the floating-point calling convention and does not link.
 */
#include <stdint.h>

int __clzdi2(uint64_t value);
int __ctzdi2(uint64_t value);
int __ffsdi2(uint64_t value);
int __popcountdi2(uint64_t value);
uint32_t __bswapsi2(uint32_t value);
uint64_t __bswapdi2(uint64_t value);

/** As libgcc: undefined for 0. */
int
__clzdi2(uint64_t value)
{
    int zeros = 0;

    for (int half = 32; half > 0; half >>= 1) {
        if (value >> (64 - half) == 0) {
            zeros += half;
            value <<= half;
        }
    }
    return zeros;
}

/** As libgcc: undefined for 0. */
int
__ctzdi2(uint64_t value)
{
    int zeros = 0;

    for (int half = 32; half > 0; half >>= 1) {
        if (value << (64 - half) == 0) {
            zeros += half;
            value >>= half;
        }
    }
    return zeros;
}

int
__ffsdi2(uint64_t value)
{
    return value == 0 ? 0 : __ctzdi2(value) + 1;
}

int
__popcountdi2(uint64_t value)
{
    value -= value >> 1 & 0x5555555555555555u;
    value = (value & 0x3333333333333333u) + (value >> 2 & 0x3333333333333333u);
    value = (value + (value >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)(value * 0x0101010101010101u >> 56);
}

uint32_t
__bswapsi2(uint32_t value)
{
    return value << 24 | (value & 0xff00) << 8 | (value >> 8 & 0xff00) | value >> 24;
}

uint64_t
__bswapdi2(uint64_t value)
{
    return (uint64_t)__bswapsi2((uint32_t)value) << 32 | __bswapsi2((uint32_t)(value >> 32));
}
