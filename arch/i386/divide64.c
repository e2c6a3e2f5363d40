/* SPDX-License-Identifier: MIT */
/*
 * Division of 64 bits, which both compilers call by name on 32-bit CPUs, so that
 * the kernel needs no 32-bit libgcc beside a 64-bit compiler.
 *
 * A divisor of 32 bits, the common case, takes two DIV instructions, as by hand.
 * A larger one makes the quotient fit 32 bits: scale both until the divisor does
 * too, divide once, and the estimate is at most one too large.
 */
#include <stdint.h>

uint64_t __udivdi3(uint64_t a, uint64_t b);
uint64_t __umoddi3(uint64_t a, uint64_t b);
int64_t __divdi3(int64_t a, int64_t b);
int64_t __moddi3(int64_t a, int64_t b);
uint64_t __udivmoddi4(uint64_t a, uint64_t b, uint64_t *out_rest);
int64_t __divmoddi4(int64_t a, int64_t b, int64_t *out_rest);

/* high:low / by, where high < by. */
static inline uint32_t
divide_step(uint32_t high, uint32_t low, uint32_t by, uint32_t *out_rest)
{
    uint32_t quotient;

    __asm__("divl %4" : "=a"(quotient), "=d"(*out_rest) : "0"(low), "1"(high), "r"(by) : "cc");
    return quotient;
}

static uint64_t
divide_narrow(uint64_t a, uint32_t b, uint64_t *out_rest)
{
    uint32_t rest = 0;
    uint32_t high = divide_step(0, (uint32_t)(a >> 32), b, &rest);
    uint32_t low = divide_step(rest, (uint32_t)a, b, &rest);

    *out_rest = rest;
    return (uint64_t)high << 32 | low;
}

static uint64_t
divide_wide(uint64_t a, uint64_t b, uint64_t *out_rest)
{
    /* Half of a, over what remains of b when its top bit comes to stand at bit 31. */
    unsigned shift = 32 - (unsigned)__builtin_clz((uint32_t)(b >> 32));
    uint64_t half = a >> 1;
    uint32_t rest;
    uint64_t quotient =
        divide_step((uint32_t)(half >> 32), (uint32_t)half, (uint32_t)(b >> shift), &rest);

    quotient >>= shift - 1;
    if (quotient != 0)
        quotient--;
    if (a - quotient * b >= b)
        quotient++;
    *out_rest = a - quotient * b;
    return quotient;
}

uint64_t
__udivmoddi4(uint64_t a, uint64_t b, uint64_t *out_rest)
{
    uint64_t rest;
    uint64_t quotient =
        b >> 32 == 0 ? divide_narrow(a, (uint32_t)b, &rest) : divide_wide(a, b, &rest);

    if (out_rest)
        *out_rest = rest;
    return quotient;
}

static inline uint64_t
magnitude(int64_t v)
{
    return v < 0 ? -(uint64_t)v : (uint64_t)v;
}

int64_t
__divmoddi4(int64_t a, int64_t b, int64_t *out_rest)
{
    uint64_t rest;
    uint64_t quotient = __udivmoddi4(magnitude(a), magnitude(b), &rest);

    if (out_rest)
        *out_rest = (int64_t)(a < 0 ? -rest : rest);
    return (int64_t)((a < 0) != (b < 0) ? -quotient : quotient);
}

uint64_t
__udivdi3(uint64_t a, uint64_t b)
{
    return __udivmoddi4(a, b, 0);
}

uint64_t
__umoddi3(uint64_t a, uint64_t b)
{
    uint64_t rest;

    (void)__udivmoddi4(a, b, &rest);
    return rest;
}

int64_t
__divdi3(int64_t a, int64_t b)
{
    return __divmoddi4(a, b, 0);
}

int64_t
__moddi3(int64_t a, int64_t b)
{
    int64_t rest;

    (void)__divmoddi4(a, b, &rest);
    return rest;
}
