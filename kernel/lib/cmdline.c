/* SPDX-License-Identifier: MIT */
/*
 * Options on the kernel command line: words `name` or `name=value`, separated by
 * spaces; double quotes keep spaces together and are removed.  A word `--` ends
 * the options; the rest is for init.
 */
#include <boot.h>
#include <kstring.h>

/** The end of the word at @p text, quoted spaces included. */
static const char *
word_end(const char *text)
{
    bool quoted = false;

    for (; *text != '\0' && (quoted || *text != ' '); text++)
        quoted ^= *text == '"';
    return text;
}

static const char *
skip_spaces(const char *text)
{
    while (*text == ' ')
        text++;
    return text;
}

static bool
word_is_separator(const char *word, const char *end)
{
    return end - word == 2 && word[0] == '-' && word[1] == '-';
}

static void
copy_unquoted(char *out, size_t size, const char *from, const char *end)
{
    size_t used = 0;

    for (; from < end && used + 1 < size; from++) {
        if (*from != '"')
            out[used++] = *from;
    }
    if (size > 0)
        out[used] = '\0';
}

bool
boot_option(const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    const char *word = skip_spaces(boot_info.cmdline);

    while (*word != '\0') {
        const char *end = word_end(word);
        const char *value = word + (*word == '"') + length; /* GRUB quotes the whole word */

        if (word_is_separator(word, end))
            return false;
        if (value <= end && strncmp(value - length, name, length) == 0 &&
            (value == end || *value == '=')) {
            copy_unquoted(out, size, value + (value < end), end);
            return true;
        }
        word = skip_spaces(end);
    }
    return false;
}

const char *
boot_arguments(void)
{
    const char *word = skip_spaces(boot_info.cmdline);

    while (*word != '\0') {
        const char *end = word_end(word);

        if (word_is_separator(word, end))
            return skip_spaces(end);
        word = skip_spaces(end);
    }
    return word;
}
