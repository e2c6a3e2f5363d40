/* SPDX-License-Identifier: MIT */
/*
 * An architecture's own memcpy() and memset() (kernel/arch/<arch>/string.S), compiled
 * in under the names kernel_memcpy and kernel_memset: every length and alignment
 * around their steps, with a margin that must stay as it was.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

void *kernel_memcpy(void *to, const void *from, size_t bytes);
void *kernel_memset(void *to, int value, size_t bytes);

#define ROOM   4096u
#define MARGIN 128u

static uint8_t from[ROOM], to[ROOM], expected[ROOM];
static unsigned wrong;

static void
fill(unsigned seed)
{
    for (unsigned i = 0; i < ROOM; i++) {
        from[i] = (uint8_t)(i * 7 + seed);
        to[i] = expected[i] = (uint8_t)(i * 3 + 1);
    }
}

static void
compare(const char *what, size_t bytes, size_t skew)
{
    if (memcmp(to, expected, ROOM) == 0 || wrong++ > 5)
        return;
    printf("FAIL %s of %zu bytes at %zu\n", what, bytes, skew);
}

static void
copies(void)
{
    for (size_t bytes = 0; bytes < 400; bytes++) {
        for (size_t skew = 0; skew < 17; skew++) {
            size_t source = bytes * 5 % 16;

            fill((unsigned)bytes);
            for (size_t i = 0; i < bytes; i++)
                expected[MARGIN + skew + i] = from[source + i];
            wrong += kernel_memcpy(to + MARGIN + skew, from + source, bytes) != to + MARGIN + skew;
            compare("copy", bytes, skew);
        }
    }
}

/* memmove() relies on it: a target below its source, overlapping. */
static void
moves_down(void)
{
    for (size_t bytes = 0; bytes < 300; bytes++) {
        for (size_t distance = 1; distance < 100; distance += 9) {
            fill(0);
            for (size_t i = 0; i < bytes; i++)
                expected[MARGIN + i] = expected[MARGIN + distance + i];
            kernel_memcpy(to + MARGIN, to + MARGIN + distance, bytes);
            compare("move", bytes, distance);
        }
    }
}

static void
fills(int value)
{
    for (size_t bytes = 0; bytes < 3000; bytes += bytes < 300 ? 1 : 37) {
        for (size_t skew = 0; skew < 70; skew += 3) {
            fill(0);
            for (size_t i = 0; i < bytes; i++)
                expected[MARGIN + skew + i] = (uint8_t)value;
            wrong += kernel_memset(to + MARGIN + skew, value, bytes) != to + MARGIN + skew;
            compare(value ? "fill" : "clearing", bytes, skew);
        }
    }
}

int
main(void)
{
    copies();
    moves_down();
    fills(0);
    fills(0x1a5);
    printf("strings: %u wrong\n", wrong);
    return wrong != 0;
}
