/* SPDX-License-Identifier: MIT */
/*
 * The part of the harness that needs no libc: the list of tests, the run of
 * one, the words of a failure.
 *
 * The linker gathers one pointer a test between __start_quire_tests and
 * __stop_quire_tests.  All state is that of the one run that a program makes;
 * failures may come from several threads, so the counter is atomic.
 */
#include "harness.h"

#include <stdarg.h>
#include <stdatomic.h>

/* Weak: a program may hold no test at all. */
extern const struct test_case *const __start_quire_tests[] __attribute__((weak));
extern const struct test_case *const __stop_quire_tests[] __attribute__((weak));

static const struct test_host *test_host;
static atomic_uint test_failures; /* of the test that runs now */
static bool test_skipped;

static char death_said[4096];
static bool death_died;

/* ---- printing ---------------------------------------------------------- */

static size_t
text_length(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0') {
        length++;
    }
    return length;
}

static bool
text_equal(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool
text_contains(const char *text, const char *part)
{
    size_t length = text_length(part);

    for (; *text != '\0' || length == 0; text++) {
        size_t i = 0;

        while (i < length && text[i] == part[i]) {
            i++;
        }
        if (i == length) {
            return true;
        }
    }
    return false;
}

/* One line of output is gathered here, so that threads do not mix words. */
struct text_line {
    char text[512];
    size_t length;
};

static void
line_flush(struct text_line *line)
{
    if (test_host != NULL && line->length > 0) {
        test_host->write(line->text, line->length);
    }
    line->length = 0;
}

static void
line_put(struct text_line *line, char c)
{
    if (line->length == sizeof(line->text)) {
        line_flush(line);
    }
    line->text[line->length++] = c;
}

static void
line_put_text(struct text_line *line, const char *text)
{
    for (; *text != '\0'; text++) {
        line_put(line, *text);
    }
}

static void
line_put_number(struct text_line *line, unsigned long long value, unsigned base)
{
    char digits[24];
    unsigned count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    while (count > 0) {
        line_put(line, digits[--count]);
    }
}

static void
line_put_signed(struct text_line *line, long long value)
{
    if (value < 0) {
        line_put(line, '-');
        line_put_number(line, 0ULL - (unsigned long long)value, 10);
    } else {
        line_put_number(line, (unsigned long long)value, 10);
    }
}

/* The integer that a conversion with @longs letters `l` (3: `z`) takes. */
static unsigned long long
argument_unsigned(va_list *arguments, unsigned longs)
{
    switch (longs) {
    case 0:
        return va_arg(*arguments, unsigned);
    case 1:
        return va_arg(*arguments, unsigned long);
    case 3:
        return va_arg(*arguments, size_t);
    default:
        return va_arg(*arguments, unsigned long long);
    }
}

static long long
argument_signed(va_list *arguments, unsigned longs)
{
    switch (longs) {
    case 0:
        return va_arg(*arguments, int);
    case 1:
        return va_arg(*arguments, long);
    default:
        return va_arg(*arguments, long long);
    }
}

static const char *
line_put_conversion(struct text_line *line, const char *at, va_list *arguments)
{
    unsigned longs = 0;

    for (; *at == 'l'; at++) {
        longs++;
    }
    if (*at == 'z') {
        longs = 3;
        at++;
    }
    switch (*at) {
    case 's': {
        const char *text = va_arg(*arguments, const char *);
        line_put_text(line, text != NULL ? text : "(null)");
        break;
    }
    case 'c':
        line_put(line, (char)va_arg(*arguments, int));
        break;
    case 'd':
        line_put_signed(line, argument_signed(arguments, longs));
        break;
    case 'u':
        line_put_number(line, argument_unsigned(arguments, longs), 10);
        break;
    case 'x':
        line_put_number(line, argument_unsigned(arguments, longs), 16);
        break;
    case 'p':
        line_put_text(line, "0x");
        line_put_number(line, (uintptr_t)va_arg(*arguments, void *), 16);
        break;
    default:
        line_put(line, *at);
        break;
    }
    return at;
}

void
test_print(const char *format, ...)
{
    struct text_line line = {.length = 0};
    va_list arguments;

    va_start(arguments, format);
    for (; *format != '\0'; format++) {
        if (*format == '%' && format[1] != '\0') {
            format = line_put_conversion(&line, format + 1, &arguments);
        } else {
            line_put(&line, *format);
        }
    }
    va_end(arguments);
    line_flush(&line);
}

/* ---- failures ---------------------------------------------------------- */

void
test_fail_begin(const char *file, int line)
{
    test_print("  %s:%d: ", file, line);
}

void
test_fail_end(bool fatal)
{
    test_print("\n");
    atomic_fetch_add(&test_failures, 1);
    if (fatal) {
        test_host->end();
    }
}

static void
print_value(struct test_value value)
{
    unsigned long long number = 0;
    unsigned bits = (unsigned)value.size * 8;
    struct text_line line = {.length = 0};

    if (value.size > sizeof(number)) {
        test_print("(%zu bytes)", value.size);
        return;
    }
    __builtin_memcpy(&number, value.bytes, value.size);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    number >>= 64 - bits;
#endif
    if (value.is_signed && bits < 64 && (number >> (bits - 1) & 1) != 0) {
        number |= ~0ULL << bits;
    }
    if (value.is_signed) {
        line_put_signed(&line, (long long)number);
    } else {
        line_put_number(&line, number, 10);
    }
    if (number > 9 && !(value.is_signed && (long long)number < 0)) {
        line_put_text(&line, " (0x");
        line_put_number(&line, number, 16);
        line_put(&line, ')');
    }
    line_flush(&line);
}

void
test_fail_compare(const char *a, const char *op, const char *b, struct test_value value_a,
                  struct test_value value_b, bool fatal, const char *file, int line)
{
    test_fail_begin(file, line);
    test_print("wanted %s %s %s, got ", a, op, b);
    print_value(value_a);
    test_print(" and ");
    print_value(value_b);
    test_fail_end(fatal);
}

void
test_fail_truth(const char *expression, bool wanted, bool fatal, const char *file, int line)
{
    test_fail_begin(file, line);
    test_print("wanted %s to be %s", expression, wanted ? "true" : "false");
    test_fail_end(fatal);
}

void
test_check_string(const char *a, const char *b, const char *text_a, const char *text_b, bool fatal,
                  const char *file, int line)
{
    if (a == b || (a != NULL && b != NULL && text_equal(a, b))) {
        return;
    }
    test_fail_begin(file, line);
    test_print("wanted %s to be %s, got\n    \"%s\" and\n    \"%s\"", text_a, text_b,
               a != NULL ? a : "(null)", b != NULL ? b : "(null)");
    test_fail_end(fatal);
}

void
test_check_contains(const char *a, const char *b, const char *text_a, bool fatal, const char *file,
                    int line)
{
    if (a != NULL && text_contains(a, b)) {
        return;
    }
    test_fail_begin(file, line);
    test_print("wanted %s to contain \"%s\", got\n    \"%s\"", text_a, b, a != NULL ? a : "(null)");
    test_fail_end(fatal);
}

void
test_check_memory(const void *a, const void *b, size_t bytes, const char *text_a,
                  const char *text_b, bool fatal, const char *file, int line)
{
    const unsigned char *bytes_a = a;
    const unsigned char *bytes_b = b;

    for (size_t i = 0; i < bytes; i++) {
        if (bytes_a[i] != bytes_b[i]) {
            test_fail_begin(file, line);
            test_print("%s and %s differ at byte %zu of %zu: 0x%x and 0x%x", text_a, text_b, i,
                       bytes, bytes_a[i], bytes_b[i]);
            test_fail_end(fatal);
            return;
        }
    }
}

void
test_skip(const char *why)
{
    test_print("  skipped: %s\n", why);
    test_skipped = true;
    test_host->end();
}

/* ---- death tests ------------------------------------------------------- */

enum test_death
test_death_begin(void)
{
    if (test_host->death_begin == NULL) {
        return TEST_DEATH_UNSEEN;
    }
    death_said[0] = '\0';
    return test_host->death_begin(death_said, sizeof(death_said), &death_died);
}

void
test_death_survived(void)
{
    test_host->death_survived();
}

void
test_death_check(const char *statement, const char *said, const char *file, int line)
{
    if (death_died && text_contains(death_said, said)) {
        return;
    }
    test_fail_begin(file, line);
    test_print("wanted %s to panic with \"%s\"; it %s and said\n    \"%s\"", statement, said,
               death_died ? "died" : "lived", death_said);
    test_fail_end(false);
}

/* ---- the run ----------------------------------------------------------- */

void
test_use_host(const struct test_host *host)
{
    test_host = host;
}

size_t
test_count(void)
{
    /* As integers: the two symbols are one array that only the linker knows. */
    uintptr_t bytes = (uintptr_t)__stop_quire_tests - (uintptr_t)__start_quire_tests;

    return bytes / sizeof(__start_quire_tests[0]);
}

const struct test_case *
test_at(size_t index)
{
    return __start_quire_tests[index];
}

/* Whether "suite.name" contains @filter, without a buffer for the whole. */
static bool
name_matches(const struct test_case *test, const char *filter)
{
    char full[256];
    size_t length = 0;
    const char *parts[] = {test->suite, ".", test->name};

    for (size_t i = 0; i < 3; i++) {
        for (const char *at = parts[i]; *at != '\0' && length + 1 < sizeof(full); at++) {
            full[length++] = *at;
        }
    }
    full[length] = '\0';
    return text_contains(full, filter);
}

bool
test_selected(const struct test_case *test, struct test_selection selection)
{
    if (selection.threaded_only && test->kind != TEST_THREADED) {
        return false;
    }
    return selection.filter == NULL || name_matches(test, selection.filter);
}

void
test_run_one(const struct test_case *test, struct test_totals *totals)
{
    atomic_store(&test_failures, 0);
    test_skipped = false;
    (void)test_host->guard(test->run);

    if (atomic_load(&test_failures) > 0) {
        totals->failed++;
        test_print("FAIL %s.%s (seed %llu)\n", test->suite, test->name,
                   (unsigned long long)test_host->seed);
    } else if (test_skipped) {
        totals->skipped++;
        test_print("skip %s.%s\n", test->suite, test->name);
    } else {
        totals->passed++;
        test_print("ok   %s.%s\n", test->suite, test->name);
    }
}

void
test_print_totals(const struct test_totals *totals)
{
    if (totals->skipped > 0) {
        test_print("%u skipped\n", totals->skipped);
    }
    test_print("%u passed, %u failed\n", totals->passed, totals->failed);
}

struct test_totals
test_run_all(const struct test_host *host, struct test_selection selection)
{
    struct test_totals totals = {0, 0, 0};

    test_use_host(host);
    for (size_t i = 0; i < test_count(); i++) {
        if (test_selected(test_at(i), selection)) {
            test_run_one(test_at(i), &totals);
        }
    }
    test_print_totals(&totals);
    return totals;
}

uint64_t
test_seed(void)
{
    return test_host->seed;
}

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators". */
uint64_t
test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ULL);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}
