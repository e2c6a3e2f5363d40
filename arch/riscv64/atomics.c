/* SPDX-License-Identifier: MIT */
/*
 * Atomic operations on bytes and half words, which gcc 12 calls by these names: the
 * A extension has words alone.  Each works on the aligned word around its operand and
 * leaves the rest of it as it is, in the strongest order whatever was asked for.
 */
#include <stdbool.h>
#include <stdint.h>

/** The word around a part, and where in it the part stands. */
struct part {
    uint32_t *word;
    unsigned shift;
    uint32_t mask;
};

static inline __attribute__((always_inline)) struct part
part_of(volatile void *at, uint32_t ones)
{
    uintptr_t address = (uintptr_t)at;
    unsigned shift = (unsigned)(address & 3) * 8;

    return (struct part){(uint32_t *)(address & ~(uintptr_t)3), shift, ones << shift};
}

/** Put @p value in the place of @p old's part; false where the word has changed since. */
static inline __attribute__((always_inline)) bool
part_replace(const struct part *part, uint32_t *old, uint32_t value)
{
    uint32_t new = (*old & ~part->mask) | (value << part->shift & part->mask);

    return __atomic_compare_exchange_n(part->word, old, new, true, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

static inline __attribute__((always_inline)) uint32_t
part_exchange(struct part part, uint32_t value)
{
    uint32_t old = __atomic_load_n(part.word, __ATOMIC_RELAXED);

    while (!part_replace(&part, &old, value))
        ;
    return (old & part.mask) >> part.shift;
}

static inline __attribute__((always_inline)) uint32_t
part_add(struct part part, uint32_t value)
{
    uint32_t old = __atomic_load_n(part.word, __ATOMIC_RELAXED);

    while (!part_replace(&part, &old, (old >> part.shift) + value))
        ;
    return (old & part.mask) >> part.shift;
}

/** @return what stood there; the exchange took place where it is @p expected */
static inline __attribute__((always_inline)) uint32_t
part_compare_exchange(struct part part, uint32_t expected, uint32_t desired)
{
    uint32_t old = __atomic_load_n(part.word, __ATOMIC_SEQ_CST);

    while ((old & part.mask) >> part.shift == expected && !part_replace(&part, &old, desired))
        ;
    return (old & part.mask) >> part.shift;
}

/* gcc knows functions of these names, with prototypes that it does not tell: hence the labels. */

#define DEFINE_PART_ATOMICS(bytes, type, ones)                                              \
    type qr_riscv_exchange_##bytes(volatile void *at, type value,                           \
                                   int order) __asm__("__atomic_exchange_" #bytes);         \
    type qr_riscv_exchange_##bytes(volatile void *at, type value, int order)                \
    {                                                                                       \
        (void)order;                                                                        \
        return (type)part_exchange(part_of(at, ones), value);                               \
    }                                                                                       \
    type qr_riscv_fetch_add_##bytes(volatile void *at, type value,                          \
                                    int order) __asm__("__atomic_fetch_add_" #bytes);       \
    type qr_riscv_fetch_add_##bytes(volatile void *at, type value, int order)               \
    {                                                                                       \
        (void)order;                                                                        \
        return (type)part_add(part_of(at, ones), value);                                    \
    }                                                                                       \
    bool qr_riscv_compare_exchange_##bytes(                                                 \
        volatile void *at, type *expected, type desired, int success,                       \
        int failure) __asm__("__atomic_compare_exchange_" #bytes);                          \
    bool qr_riscv_compare_exchange_##bytes(volatile void *at, type *expected, type desired, \
                                           int success, int failure)                        \
    {                                                                                       \
        type wanted = *expected;                                                            \
                                                                                            \
        (void)success;                                                                      \
        (void)failure;                                                                      \
        *expected = (type)part_compare_exchange(part_of(at, ones), wanted, desired);        \
        return *expected == wanted;                                                         \
    }

DEFINE_PART_ATOMICS(1, uint8_t, 0xffu)
DEFINE_PART_ATOMICS(2, uint16_t, 0xffffu)
