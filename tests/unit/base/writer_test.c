/* SPDX-License-Identifier: MIT */
/* The formatter against the C library's, over every flag, width and precision. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <quire/writer.h>

#include "harness.h"

static const char *const flags[] = {"", "-", "0", "-0"};
static const char *const widths[] = {"", "1", "5", "20"};
static const char *const precisions[] = {"", ".0", ".3", ".12"};

/* gcc cannot check a format that is put together; both formatters get the same one. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat"

#define COMPARE(length, kind, value)                                                               \
    for (unsigned f = 0; f < 4; f++)                                                               \
        for (unsigned w = 0; w < 4; w++)                                                           \
            for (unsigned p = 0; p < 4; p++) {                                                     \
                char format[32], expected[64], actual[64];                                         \
                snprintf(format, sizeof(format), "<%%%s%s%s" length kind ">", flags[f], widths[w], \
                         precisions[p]);                                                           \
                int bytes = snprintf(expected, sizeof(expected), format, value);                   \
                EXPECT_EQ(qr_format(actual, sizeof(actual), format, value), (size_t)bytes);        \
                EXPECT_STR(actual, expected);                                                      \
            }

TEST(writer, numbers_match_printf)
{
    static const long long values[] = {0, 1, -1, 7, -42, 255, 65536, INT_MIN, INT_MAX};

    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        COMPARE("", "d", (int)values[i]);
        COMPARE("", "i", (int)values[i]);
        COMPARE("", "u", (unsigned)values[i]);
        COMPARE("", "x", (unsigned)values[i]);
        COMPARE("", "X", (unsigned)values[i]);
        COMPARE("hh", "d", (signed char)values[i]);
        COMPARE("h", "u", (unsigned short)values[i]);
        COMPARE("l", "d", (long)values[i]);
        COMPARE("ll", "x", (unsigned long long)values[i]);
        COMPARE("z", "u", (size_t)values[i]);
    }
    COMPARE("ll", "d", LLONG_MIN);
    COMPARE("ll", "u", ULLONG_MAX);
}

TEST(writer, strings_match_printf)
{
    COMPARE("", "s", "");
    COMPARE("", "s", "quire");
    COMPARE("", "s", "a longer text than any precision here");
}

TEST(writer, stars_characters_and_percent)
{
    char text[64];

    qr_format(text, sizeof(text), "%*d|%-*d|%.*s|%c|%%|%p", 4, 7, 4, 7, 2, "abc", 'x',
              (void *)0x1f);
    EXPECT_STR(text, "   7|7   |ab|x|%|0x1f");
}

TEST(writer, unknown_conversions_are_copied)
{
    char text[64];
    const char *format = "a %q b %";

    qr_format(text, sizeof(text), format);
    EXPECT_STR(text, "a %q b %");
}

TEST(writer, a_full_buffer_is_terminated_and_counted)
{
    char text[4];

    EXPECT_EQ(qr_format(text, sizeof(text), "%s", "abcdef"), 6u);
    EXPECT_STR(text, "abc");
    EXPECT_EQ(qr_format(text, 1, "%d", 12345), 5u);
    EXPECT_STR(text, "");
}

TEST(writer, a_null_string_is_named)
{
    char text[16];
    const char *volatile nothing = NULL; /* volatile: the compiler would see it and refuse */

    qr_format(text, sizeof(text), "%s", nothing);
    EXPECT_STR(text, "(null)");
}
