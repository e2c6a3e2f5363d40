/* SPDX-License-Identifier: MIT */
/*
 * Atomic operations on 64 bits, which gcc calls by name where it may not use
 * the floating-point registers: page-table entries with PAE, counters.
 *
 * All of them are CMPXCHG8B loops, which every CPU since the Pentium has.  A load
 * is one, too: exchanging a value for itself reads all eight bytes at once.  It
 * writes, so the variable must not lie in read-only memory.
 */
#include <stdbool.h>
#include <stdint.h>

static inline uint64_t
swap(volatile uint64_t *at, uint64_t expected, uint64_t desired)
{
    __asm__ volatile("lock cmpxchg8b %1"
                     : "+A"(expected), "+m"(*at)
                     : "b"((uint32_t)desired), "c"((uint32_t)(desired >> 32))
                     : "memory", "cc");
    return expected;
}

/* The compiler knows these names as built-in functions with types of its own. */
#define NAMED(name) __asm__("__atomic_" #name "_8")

uint64_t atomic64_load(volatile uint64_t *at, int order) NAMED(load);
void atomic64_store(volatile uint64_t *at, uint64_t value, int order) NAMED(store);
uint64_t atomic64_exchange(volatile uint64_t *at, uint64_t value, int order) NAMED(exchange);
bool atomic64_compare_exchange(volatile uint64_t *at, uint64_t *expected, uint64_t desired,
                               int success, int failure) NAMED(compare_exchange);

uint64_t
atomic64_load(volatile uint64_t *at, int order)
{
    (void)order;
    return swap(at, 0, 0);
}

uint64_t
atomic64_exchange(volatile uint64_t *at, uint64_t value, int order)
{
    uint64_t old = *at; /* torn or not: a guess */
    uint64_t seen;

    (void)order;
    while ((seen = swap(at, old, value)) != old)
        old = seen;
    return old;
}

void
atomic64_store(volatile uint64_t *at, uint64_t value, int order)
{
    (void)atomic64_exchange(at, value, order);
}

bool
atomic64_compare_exchange(volatile uint64_t *at, uint64_t *expected, uint64_t desired, int success,
                          int failure)
{
    uint64_t wanted = *expected;

    (void)success;
    (void)failure;
    *expected = swap(at, wanted, desired);
    return *expected == wanted;
}

#define DEFINE_FETCH(name, expression)                                               \
    uint64_t atomic64_fetch_##name(volatile uint64_t *at, uint64_t value, int order) \
        NAMED(fetch_##name);                                                         \
    uint64_t atomic64_fetch_##name(volatile uint64_t *at, uint64_t value, int order) \
    {                                                                                \
        uint64_t old = *at;                                                          \
        uint64_t seen;                                                               \
                                                                                     \
        (void)order;                                                                 \
        while ((seen = swap(at, old, expression)) != old)                            \
            old = seen;                                                              \
        return old;                                                                  \
    }

DEFINE_FETCH(add, (old + value))
DEFINE_FETCH(sub, (old - value))
DEFINE_FETCH(and, (old & value))
DEFINE_FETCH(or, (old | value))
DEFINE_FETCH(xor, (old ^ value))
