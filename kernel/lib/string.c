/* SPDX-License-Identifier: MIT */
/*
 * The string functions of C, plain.  Copies and fills go by machine words, which
 * is what an emulated and a real CPU both do well; an architecture may bring its own
 * in the place of the weak ones (AArch64).
 */
#include <stdbool.h>
#include <stdint.h>

#include <kstring.h>

#if defined(__x86_64__)

void *
memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    void *d = to;
    size_t words = bytes / 8;

    __asm__ volatile("rep movsq" : "+D"(d), "+S"(from), "+c"(words) : : "memory");
    bytes &= 7;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

void *
memset(void *to, int value, size_t bytes)
{
    void *d = to;
    size_t words = bytes / 8;
    uint64_t pattern = (uint8_t)value * 0x0101010101010101u;

    __asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
    bytes &= 7;
    __asm__ volatile("rep stosb" : "+D"(d), "+c"(bytes) : "a"(pattern) : "memory");
    return to;
}

#else

/* May alias anything; used where both sides are aligned alike. */
typedef uintptr_t __attribute__((may_alias)) any_word;

__attribute__((weak)) void *
memcpy(void *restrict to, const void *restrict from, size_t bytes)
{
    uint8_t *d = to;
    const uint8_t *s = from;

    if (((uintptr_t)d - (uintptr_t)s) % sizeof(any_word) == 0) {
        for (; bytes > 0 && (uintptr_t)d % sizeof(any_word) != 0; bytes--)
            *d++ = *s++;
        for (; bytes >= 8 * sizeof(any_word); bytes -= 8 * sizeof(any_word)) {
            any_word *w = (any_word *)d;
            const any_word *v = (const any_word *)s;
            any_word a = v[0], b = v[1], c = v[2], e = v[3];
            any_word f = v[4], g = v[5], h = v[6], i = v[7];

            w[0] = a, w[1] = b, w[2] = c, w[3] = e;
            w[4] = f, w[5] = g, w[6] = h, w[7] = i;
            d += 8 * sizeof(any_word);
            s += 8 * sizeof(any_word);
        }
        for (; bytes >= sizeof(any_word); bytes -= sizeof(any_word)) {
            *(any_word *)d = *(const any_word *)s;
            d += sizeof(any_word);
            s += sizeof(any_word);
        }
    }
    while (bytes-- > 0)
        *d++ = *s++;
    return to;
}

__attribute__((weak)) void *
memset(void *to, int value, size_t bytes)
{
    uint8_t *d = to;
    uintptr_t pattern = (uint8_t)value * (UINTPTR_MAX / 255);

    for (; bytes > 0 && (uintptr_t)d % sizeof(any_word) != 0; bytes--)
        *d++ = (uint8_t)value;
    for (; bytes >= 8 * sizeof(any_word); bytes -= 8 * sizeof(any_word)) {
        any_word *w = (any_word *)d;

        w[0] = w[1] = w[2] = w[3] = pattern;
        w[4] = w[5] = w[6] = w[7] = pattern;
        d += 8 * sizeof(any_word);
    }
    for (; bytes >= sizeof(any_word); bytes -= sizeof(any_word)) {
        *(any_word *)d = pattern;
        d += sizeof(any_word);
    }
    while (bytes-- > 0)
        *d++ = (uint8_t)value;
    return to;
}

#endif

void *
memmove(void *to, const void *from, size_t bytes)
{
    uint8_t *d = to;
    const uint8_t *s = from;

    if ((uintptr_t)d - (uintptr_t)s >= bytes)
        return memcpy(to, from, bytes);
    while (bytes-- > 0)
        d[bytes] = s[bytes];
    return to;
}

int
memcmp(const void *a, const void *b, size_t bytes)
{
    const uint8_t *x = a;
    const uint8_t *y = b;

    for (size_t i = 0; i < bytes; i++) {
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

void *
memchr(const void *bytes, int value, size_t count)
{
    const uint8_t *b = bytes;

    for (size_t i = 0; i < count; i++) {
        if (b[i] == (uint8_t)value)
            return (void *)(uintptr_t)(b + i);
    }
    return NULL;
}

size_t
strlen(const char *text)
{
    size_t length = 0;

    while (text[length] != '\0')
        length++;
    return length;
}

size_t
strnlen(const char *text, size_t limit)
{
    size_t length = 0;

    while (length < limit && text[length] != '\0')
        length++;
    return length;
}

int
strcmp(const char *a, const char *b)
{
    return strncmp(a, b, SIZE_MAX);
}

int
strncmp(const char *a, const char *b, size_t limit)
{
    for (size_t i = 0; i < limit; i++) {
        uint8_t x = (uint8_t)a[i];
        uint8_t y = (uint8_t)b[i];

        if (x != y)
            return x < y ? -1 : 1;
        if (x == '\0')
            return 0;
    }
    return 0;
}

char *
strchr(const char *text, int c)
{
    for (;; text++) {
        if (*text == (char)c)
            return (char *)(uintptr_t)text;
        if (*text == '\0')
            return NULL;
    }
}

char *
strrchr(const char *text, int c)
{
    const char *found = NULL;

    for (;; text++) {
        if (*text == (char)c)
            found = text;
        if (*text == '\0')
            return (char *)(uintptr_t)found;
    }
}

char *
strstr(const char *text, const char *part)
{
    size_t length = strlen(part);

    for (; *text != '\0' || length == 0; text++) {
        if (strncmp(text, part, length) == 0)
            return (char *)(uintptr_t)text;
    }
    return NULL;
}

size_t
strlcpy(char *to, const char *from, size_t size)
{
    size_t length = strlen(from);

    if (size > 0) {
        size_t copied = length < size ? length : size - 1;

        memcpy(to, from, copied);
        to[copied] = '\0';
    }
    return length;
}
