/* SPDX-License-Identifier: MIT */
/*
 * The harness tests itself: what has to pass passes, and what has to fail is
 * seen to fail, by running it in a child and reading what it printed.
 */
#include "harness.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct bits {
    unsigned low : 3;
};

TEST(harness, values_of_every_kind_compare)
{
    struct bits bits = {.low = 5};
    const char *none = NULL;
    const unsigned char byte = 255;
    size_t size = 7;

    EXPECT_EQ(bits.low, 5);
    EXPECT_EQ(byte, 255);
    EXPECT_EQ(size, 7);
    EXPECT_NE(size, 8);
    EXPECT_LT(-1, 0);
    EXPECT_GE(UINT64_MAX, 1);
    EXPECT_NULL(none);
    EXPECT_NOT_NULL(&size);
    EXPECT_STR("page", "page");
    EXPECT_CONTAINS("a page of bytes", "page");
    EXPECT_MEM("abc", "abd", 2);
    EXPECT_TRUE(size == 7);
    EXPECT_FALSE(size == 8);
}

TEST(harness, a_panic_is_seen_with_its_words)
{
    EXPECT_PANIC((fprintf(stderr, "out of pages\n"), abort()), "out of pages");
}

/* Ends with the status of a panic exactly when the statement failed its check. */
#define FAILS_WITH(statement, words) \
    EXPECT_PANIC(                    \
        {                            \
            statement;               \
            fflush(stdout);          \
            abort();                 \
        },                           \
        words)

TEST(harness, failures_print_both_values)
{
    FAILS_WITH(EXPECT_EQ(1 + 1, 3), "wanted 1 + 1 == 3, got 2 and 3");
    FAILS_WITH(EXPECT_EQ(-1, 255), "got -1 and 255 (0xff)");
    FAILS_WITH(EXPECT_TRUE(1 > 2), "wanted 1 > 2 to be true");
    FAILS_WITH(EXPECT_STR("a", "b"), "\"a\" and");
    FAILS_WITH(EXPECT_CONTAINS("abc", "x"), "to contain \"x\"");
    FAILS_WITH(EXPECT_MEM("abc", "abd", 3), "differ at byte 2 of 3");
    FAILS_WITH(EXPECT_NULL("x"), "harness_test.c:");
}

TEST(harness, a_death_test_sees_survival_and_wrong_words)
{
    FAILS_WITH(EXPECT_PANIC((void)0, ""), "it lived");
    FAILS_WITH(EXPECT_PANIC(abort(), "never said"), "it died");
}

static void *
add_up(void *argument)
{
    unsigned *sum = argument;

    for (unsigned i = 0; i < 1000; i++) {
        __atomic_fetch_add(sum, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

TEST_THREADS(harness, threads_run_under_the_harness)
{
    pthread_t threads[2];
    unsigned sum = 0;

    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(pthread_create(&threads[i], NULL, add_up, &sum), 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        ASSERT_EQ(pthread_join(threads[i], NULL), 0);
    }
    EXPECT_EQ(sum, 2000);
}

TEST(harness, one_seed_gives_one_sequence)
{
    uint64_t a = test_seed();
    uint64_t b = test_seed();

    EXPECT_EQ(test_random(&a), test_random(&b));
    EXPECT_NE(test_random(&a), test_random(&a));
}
