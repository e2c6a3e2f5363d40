/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CHECK_H
#define TESTS_USER_CHECK_H

/*
 * For the test programs of this folder: plain C for Linux, static, which run on
 * the reference kernel and, to see that the expectation itself is right, on Linux.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_failures;
static int check_count;

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        check_count++;                                                                    \
        if (!(condition)) {                                                               \
            check_failures++;                                                             \
            printf("FAIL %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
        }                                                                                 \
    } while (0)

#define CHECK_EQ(a, b)                                                                         \
    do {                                                                                       \
        long check_a_ = (long)(a), check_b_ = (long)(b);                                       \
                                                                                               \
        check_count++;                                                                         \
        if (check_a_ != check_b_) {                                                            \
            check_failures++;                                                                  \
            printf("FAIL %s:%d: %s is %ld, expected %ld (errno %d)\n", __FILE__, __LINE__, #a, \
                   check_a_, check_b_, errno);                                                 \
        }                                                                                      \
    } while (0)

/* The call fails with exactly this error. */
#define CHECK_ERRNO(call, expected)                                                                \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long check_r_ = (long)(call);                                                              \
                                                                                                   \
        check_count++;                                                                             \
        if (check_r_ != -1 || errno != (expected)) {                                               \
            check_failures++;                                                                      \
            printf("FAIL %s:%d: %s is %ld with errno %d, expected errno %d\n", __FILE__, __LINE__, \
                   #call, check_r_, errno, (expected));                                            \
        }                                                                                          \
    } while (0)

static inline int
check_done(const char *name)
{
    printf("%s: %d checks, %d failures\n", name, check_count, check_failures);
    fflush(stdout);
    return check_failures == 0 ? 0 : 1;
}

#endif
