/* SPDX-License-Identifier: MIT */
/*
 * The functions that gcc calls on RISC-V, against plain loops, and the atomic
 * operations on parts of words against neighbours that change at the same time.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "harness.h"

int __clzdi2(uint64_t value);
int __ctzdi2(uint64_t value);
int __ffsdi2(uint64_t value);
int __popcountdi2(uint64_t value);
uint32_t __bswapsi2(uint32_t value);
uint64_t __bswapdi2(uint64_t value);

uint8_t qr_riscv_exchange_1(volatile void *at, uint8_t value,
                            int order) __asm__("__atomic_exchange_1");
uint16_t qr_riscv_exchange_2(volatile void *at, uint16_t value,
                             int order) __asm__("__atomic_exchange_2");
uint8_t qr_riscv_fetch_add_1(volatile void *at, uint8_t value,
                             int order) __asm__("__atomic_fetch_add_1");
uint16_t qr_riscv_fetch_add_2(volatile void *at, uint16_t value,
                              int order) __asm__("__atomic_fetch_add_2");
bool qr_riscv_compare_exchange_2(volatile void *at, uint16_t *expected, uint16_t desired,
                                 int success, int failure) __asm__("__atomic_compare_exchange_2");

static void
check_bits(uint64_t value)
{
    int first = -1, last = -1, count = 0;

    for (int i = 0; i < 64; i++) {
        if (value >> i & 1) {
            first = first < 0 ? i : first;
            last = i;
            count++;
        }
    }
    EXPECT_EQ(__popcountdi2(value), count);
    EXPECT_EQ(__ffsdi2(value), first + 1);
    if (value != 0) {
        EXPECT_EQ(__ctzdi2(value), first);
        EXPECT_EQ(__clzdi2(value), 63 - last);
    }
}

TEST(builtins, bits_are_counted_and_found)
{
    uint64_t value = 0x9e3779b97f4a7c15u;

    check_bits(0);
    check_bits(UINT64_MAX);
    for (int i = 0; i < 64; i++) {
        for (int j = 0; j < 64; j++)
            check_bits((uint64_t)1 << i | (uint64_t)1 << j);
        check_bits(value >> i);
        check_bits(value << i);
    }
}

TEST(builtins, bytes_are_swapped)
{
    EXPECT_EQ(__bswapsi2(0x01020304u), 0x04030201u);
    EXPECT_EQ(__bswapdi2(0x0102030405060708u), 0x0807060504030201u);
}

TEST(atomics, a_part_of_a_word_changes_alone)
{
    union {
        uint8_t bytes[4];
        uint16_t halves[2];
    } word = {.bytes = {1, 2, 3, 4}};
    uint16_t expected = 0x0605;

    EXPECT_EQ(qr_riscv_exchange_1(&word.bytes[1], 9, 0), 2);
    EXPECT_EQ(qr_riscv_fetch_add_1(&word.bytes[3], 255, 0), 4);
    EXPECT_TRUE(word.bytes[0] == 1 && word.bytes[1] == 9 && word.bytes[2] == 3);
    EXPECT_EQ(word.bytes[3], 3);
    EXPECT_EQ(qr_riscv_exchange_2(&word.halves[1], 0x0605, 0), 0x0303);
    EXPECT_EQ(qr_riscv_fetch_add_2(&word.halves[0], 0xffff, 0), 0x0901);
    EXPECT_EQ(word.halves[0], 0x0900);
    EXPECT_TRUE(qr_riscv_compare_exchange_2(&word.halves[1], &expected, 7, 0, 0));
    EXPECT_EQ(word.halves[1], 7);
    EXPECT_TRUE(!qr_riscv_compare_exchange_2(&word.halves[1], &expected, 8, 0, 0));
    EXPECT_EQ(expected, 7);
    EXPECT_EQ(word.halves[0], 0x0900);
}

#define ROUNDS 50000

static uint16_t shared[2] __attribute__((aligned(4)));

static void *
count_up(void *half)
{
    for (int i = 0; i < ROUNDS; i++)
        (void)qr_riscv_fetch_add_2(half, 1, 0);
    return NULL;
}

TEST(atomics, nothing_is_lost_between_neighbours)
{
    pthread_t threads[4];

    shared[0] = shared[1] = 0;
    for (int i = 0; i < 4; i++)
        ASSERT_TRUE(pthread_create(&threads[i], NULL, count_up, &shared[i % 2]) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    EXPECT_EQ(shared[0], (uint16_t)(2 * ROUNDS));
    EXPECT_EQ(shared[1], (uint16_t)(2 * ROUNDS));
}
