/* SPDX-License-Identifier: MIT */
/*
 * The test harness.
 *
 *     TEST(frame, an_order_too_large_is_refused)
 *     {
 *         EXPECT_STATUS(qr_frame_alloc(...), QR_ERR_INVALID);
 *     }
 *
 * A TEST registers itself in a linker section, so that a file is a test as soon
 * as it is linked.  EXPECT_ records a failure and goes on; ASSERT_ ends the
 * test.  Both print the two values, the file and the line.
 *
 * This header and harness.c need no libc: the same tests run in a process
 * (hosted.c is their main) and inside the reference kernel, which fills in
 * struct test_host and calls test_run_all().
 */
#ifndef QUIRE_TEST_HARNESS_H
#define QUIRE_TEST_HARNESS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum test_kind {
    TEST_PLAIN,
    TEST_THREADED, /* starts threads of its own: also run under the thread sanitizer */
};

struct test_case {
    const char *suite;
    const char *name;
    void (*run)(void);
    enum test_kind kind;
};

enum test_death {
    TEST_DEATH_CHILD,
    TEST_DEATH_PARENT,
    TEST_DEATH_UNSEEN,
};

/** What the harness needs from where it runs. */
struct test_host {
    /** Print @length bytes. */
    void (*write)(const char *text, size_t length);

    /** Run @body; return false when end() was called inside it. */
    bool (*guard)(void (*body)(void));

    /** Leave the innermost guard().  Never returns. */
    void (*end)(void);

    /**
     * Begin a death test.  Hosted: fork; the child comes back with
     * TEST_DEATH_CHILD; the parent waits, stores what the child said, and comes
     * back with TEST_DEATH_PARENT.  NULL where that cannot be done: death tests
     * are then passed over.
     */
    enum test_death (*death_begin)(char *said, size_t said_bytes, bool *out_died);

    /** The child of a death test is still alive: end it.  Never returns. */
    void (*death_survived)(void);

    uint64_t seed;
};

/** What to run: tests whose "suite.name" contains @filter (NULL: all). */
struct test_selection {
    const char *filter;
    bool threaded_only;
};

struct test_totals {
    unsigned passed;
    unsigned failed;
    unsigned skipped;
};

/** Run the selected tests on @host, one line each, then the closing line. */
struct test_totals test_run_all(const struct test_host *host, struct test_selection selection);

/** The pieces of test_run_all(), for a host that drives them itself. */
void test_use_host(const struct test_host *host);
size_t test_count(void);
const struct test_case *test_at(size_t index);
bool test_selected(const struct test_case *test, struct test_selection selection);
void test_run_one(const struct test_case *test, struct test_totals *totals);
void test_print_totals(const struct test_totals *totals);

/** The seed of this run: the same seed gives the same test. */
uint64_t test_seed(void);

/** The next number of the sequence that starts at @state (any value will do). */
uint64_t test_random(uint64_t *state);

/** Print to the host: %s %c %d %u %x %lld %llu %llx %zu %p only. */
__attribute__((format(printf, 1, 2))) void test_print(const char *format, ...);

/* ---- TEST ------------------------------------------------------------- */

#define TEST_REGISTER(suite_, name_, kind_)                                                    \
    static void test_body_##suite_##_##name_(void);                                            \
    static const struct test_case test_case_##suite_##_##name_ = {                             \
        #suite_, #name_, test_body_##suite_##_##name_, kind_};                                 \
    __attribute__((section("quire_tests"),                                                     \
                   used)) static const struct test_case *const test_entry_##suite_##_##name_ = \
        &test_case_##suite_##_##name_;                                                         \
    static void test_body_##suite_##_##name_(void)

#define TEST(suite, name)         TEST_REGISTER(suite, name, TEST_PLAIN)
#define TEST_THREADS(suite, name) TEST_REGISTER(suite, name, TEST_THREADED)

/** End this test, neither passed nor failed; @why is printed. */
#define TEST_SKIP(why) test_skip(why)

/* ---- EXPECT and ASSERT ------------------------------------------------ */

#define EXPECT_TRUE(x)  TEST_CHECK_TRUE(x, true, false)
#define ASSERT_TRUE(x)  TEST_CHECK_TRUE(x, true, true)
#define EXPECT_FALSE(x) TEST_CHECK_TRUE(x, false, false)
#define ASSERT_FALSE(x) TEST_CHECK_TRUE(x, false, true)

#define EXPECT_EQ(a, b) TEST_COMPARE(a, ==, b, false)
#define ASSERT_EQ(a, b) TEST_COMPARE(a, ==, b, true)
#define EXPECT_NE(a, b) TEST_COMPARE(a, !=, b, false)
#define ASSERT_NE(a, b) TEST_COMPARE(a, !=, b, true)
#define EXPECT_LT(a, b) TEST_COMPARE(a, <, b, false)
#define ASSERT_LT(a, b) TEST_COMPARE(a, <, b, true)
#define EXPECT_LE(a, b) TEST_COMPARE(a, <=, b, false)
#define ASSERT_LE(a, b) TEST_COMPARE(a, <=, b, true)
#define EXPECT_GT(a, b) TEST_COMPARE(a, >, b, false)
#define ASSERT_GT(a, b) TEST_COMPARE(a, >, b, true)
#define EXPECT_GE(a, b) TEST_COMPARE(a, >=, b, false)
#define ASSERT_GE(a, b) TEST_COMPARE(a, >=, b, true)

#define EXPECT_NULL(p)     EXPECT_EQ((const void *)(p), (const void *)0)
#define ASSERT_NULL(p)     ASSERT_EQ((const void *)(p), (const void *)0)
#define EXPECT_NOT_NULL(p) EXPECT_NE((const void *)(p), (const void *)0)
#define ASSERT_NOT_NULL(p) ASSERT_NE((const void *)(p), (const void *)0)

/** The status of a must-use call: EXPECT_STATUS(qr_x(...), QR_OK). */
#define EXPECT_STATUS(call, status) EXPECT_EQ(call, status)
#define ASSERT_STATUS(call, status) ASSERT_EQ(call, status)

#define EXPECT_STR(a, b) test_check_string(a, b, #a, #b, false, __FILE__, __LINE__)
#define ASSERT_STR(a, b) test_check_string(a, b, #a, #b, true, __FILE__, __LINE__)

/** The text @a contains @b. */
#define EXPECT_CONTAINS(a, b) test_check_contains(a, b, #a, false, __FILE__, __LINE__)
#define ASSERT_CONTAINS(a, b) test_check_contains(a, b, #a, true, __FILE__, __LINE__)

#define EXPECT_MEM(a, b, bytes) test_check_memory(a, b, bytes, #a, #b, false, __FILE__, __LINE__)
#define ASSERT_MEM(a, b, bytes) test_check_memory(a, b, bytes, #a, #b, true, __FILE__, __LINE__)

/** Fail with a message of printf's form (see test_print). */
#define TEST_FAIL(...)                       \
    do {                                     \
        test_fail_begin(__FILE__, __LINE__); \
        test_print(__VA_ARGS__);             \
        test_fail_end(false);                \
    } while (0)

/**
 * @statement panics (or fails an assertion) and says something that contains
 * @said.  It runs in a child process: nothing it changes is seen afterwards.
 * It may use file-scope names and those of the enclosing test by value only.
 */
#define EXPECT_PANIC(statement, said)                               \
    do {                                                            \
        switch (test_death_begin()) {                               \
        case TEST_DEATH_CHILD:                                      \
            statement;                                              \
            test_death_survived();                                  \
            break;                                                  \
        case TEST_DEATH_PARENT:                                     \
            test_death_check(#statement, said, __FILE__, __LINE__); \
            break;                                                  \
        case TEST_DEATH_UNSEEN:                                     \
            break;                                                  \
        }                                                           \
    } while (0)

/* ---- what the macros stand on ------------------------------------------ */

/* The type of @x as a value: an array becomes a pointer, a bit-field its type. */
#define TEST_TYPE(x) __typeof__(((void)0, (x)))

#define TEST_SIGNED(x)               \
    _Generic((x), signed char        \
             : true, short           \
             : true, int             \
             : true, long            \
             : true, long long       \
             : true, char            \
             : CHAR_MIN < 0, default \
             : false)

#define TEST_VALUE(x) ((struct test_value){&(x), sizeof(x), TEST_SIGNED(x)})

#define TEST_COMPARE(a, op, b, fatal)                                                       \
    do {                                                                                    \
        TEST_TYPE(a) test_a_ = (a);                                                         \
        TEST_TYPE(b) test_b_ = (b);                                                         \
        if (!(test_a_ op test_b_)) {                                                        \
            test_fail_compare(#a, #op, #b, TEST_VALUE(test_a_), TEST_VALUE(test_b_), fatal, \
                              __FILE__, __LINE__);                                          \
        }                                                                                   \
    } while (0)

#define TEST_CHECK_TRUE(x, wanted, fatal)                           \
    do {                                                            \
        if (((x) ? true : false) != (wanted)) {                     \
            test_fail_truth(#x, wanted, fatal, __FILE__, __LINE__); \
        }                                                           \
    } while (0)

struct test_value {
    const void *bytes;
    size_t size;
    bool is_signed;
};

void test_fail_compare(const char *a, const char *op, const char *b, struct test_value value_a,
                       struct test_value value_b, bool fatal, const char *file, int line);
void test_fail_truth(const char *expression, bool wanted, bool fatal, const char *file, int line);
void test_check_string(const char *a, const char *b, const char *text_a, const char *text_b,
                       bool fatal, const char *file, int line);
void test_check_contains(const char *a, const char *b, const char *text_a, bool fatal,
                         const char *file, int line);
void test_check_memory(const void *a, const void *b, size_t bytes, const char *text_a,
                       const char *text_b, bool fatal, const char *file, int line);
void test_fail_begin(const char *file, int line);
void test_fail_end(bool fatal);
void test_skip(const char *why);
enum test_death test_death_begin(void);
void test_death_survived(void);
void test_death_check(const char *statement, const char *said, const char *file, int line);

#endif
