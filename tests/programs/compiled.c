/* SPDX-License-Identifier: MIT */
/* Compiled on the reference kernel, and run there: blocks of many sizes, checked before they go. */
typedef unsigned long size_t;
extern void *malloc(size_t bytes);
extern void *realloc(void *block, size_t bytes);
extern void free(void *block);
extern int printf(const char *format, ...);

enum { SLOTS = 2000, ROUNDS = 200000 };

static struct {
    unsigned char *bytes;
    size_t size;
    unsigned char mark;
} slots[SLOTS];

static unsigned long long state = 1;

static unsigned long
next(unsigned long limit)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (unsigned long)((state >> 33) % limit);
}

static int
is_intact(unsigned i)
{
    return slots[i].size == 0 || (slots[i].bytes[0] == slots[i].mark &&
                                  slots[i].bytes[slots[i].size - 1] == slots[i].mark);
}

int
main(void)
{
    unsigned long broken = 0, total = 0;

    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned i = (unsigned)next(SLOTS);

        broken += !is_intact(i);
        if (next(4) == 0) {
            free(slots[i].bytes);
            slots[i].bytes = 0;
            slots[i].size = 0;
            continue;
        }
        slots[i].size = 1 + next(next(50) == 0 ? 200000 : 2000);
        slots[i].bytes = realloc(slots[i].bytes, slots[i].size);
        slots[i].mark = (unsigned char)round;
        slots[i].bytes[0] = slots[i].bytes[slots[i].size - 1] = slots[i].mark;
        total += slots[i].size;
    }
    printf("compiled: %lu bytes, %lu broken\n", total, broken);
    return broken != 0;
}
