/* SPDX-License-Identifier: MIT */
/*
 * The machine's huge page pools and how the command line fills them.
 *
 *      default_hugepagesz=1G            the size that is meant where none is named
 *      hugepagesz=2M hugepages=64       so many of that size
 *      hugepages=0:16,1:48              of the default size (or the one named before), by node
 *
 * Filling comes at the end of memory_init(), while memory is still whole.
 */
#include "hugetlb.h"

#include <quire/hugetlb.h>

#include "boot.h"
#include "file.h"
#include "kstring.h"
#include "memory.h"
#include "printk.h"

/* For where every CPU takes all leaves of the format. */
__attribute__((weak)) unsigned
platform_leaf_shift_max(void)
{
    return 30;
}

void
hugetlb_init(void)
{
    memory.hugetlb =
        qr_kmalloc_aligned(memory.heap, qr_hugetlb_size(), QR_CACHE_LINE, QR_ALLOC_ZERO);
    if (memory.hugetlb == NULL)
        panic("memory: no room for the huge page pools");
    qr_hugetlb_init(memory.hugetlb, memory.frames);
    qr_hugetlb_add_all(memory.hugetlb, platform_format(), platform_leaf_shift_max());
    if (platform_groups())
        qr_hugetlb_add_groups(memory.hugetlb, platform_format(), platform_leaf_shift_max());
}

struct qr_hugetlb_pool *
hugetlb_pool_of_flags(uint32_t flags)
{
    return qr_hugetlb_find(memory.hugetlb, flags >> 26 & 63);
}

uint64_t
hugetlb_round_up(const struct qr_hugetlb_pool *pool, uint64_t bytes)
{
    uint64_t mask = ((uint64_t)1 << qr_hugetlb_pool_shift(pool)) - 1;

    return (bytes + mask) & ~mask;
}

/* ---- The command line ------------------------------------------------------------ */

/* Digits at *@text, behind which it points then. */
static uint64_t
take_number(const char **text)
{
    uint64_t value = 0;

    for (; **text >= '0' && **text <= '9'; (*text)++) {
        if (value < UINT64_MAX / 16)
            value = value * 10 + (uint64_t)(**text - '0');
    }
    return value;
}

/* "2M", "1G", "64K": log2; 0 where it is no power of two. */
static unsigned
size_shift(const char *text)
{
    uint64_t bytes = take_number(&text);
    unsigned unit = *text == 'k' || *text == 'K'   ? 10
                    : *text == 'm' || *text == 'M' ? 20
                    : *text == 'g' || *text == 'G' ? 30
                                                   : 0;

    if (bytes == 0 || (bytes & (bytes - 1)) != 0 || bytes >> (63 - unit) != 0)
        return 0;
    return (unsigned)__builtin_ctzll(bytes) + unit;
}

/* "64", or by node "0:16,1:48". */
static void
fill_pool(struct qr_hugetlb_pool *pool, const char *text)
{
    do {
        uint64_t number = take_number(&text);
        int node = -1;

        if (*text == ':') {
            text++;
            node = number < CONFIG_MAX_NODES ? (int)number : CONFIG_MAX_NODES;
            number = take_number(&text);
        }
        qr_hugetlb_pool_resize(pool, node, number > SIZE_MAX ? SIZE_MAX : (size_t)number);
    } while (*text++ == ',');
}

/* The value behind @name= where the word at @text is that option; NULL: it is another. */
static const char *
option_value(const char *text, const char *name)
{
    size_t length = strlen(name);

    return strncmp(text, name, length) == 0 && text[length] == '=' ? text + length + 1 : NULL;
}

static void
fill_by_word(const char *word, struct qr_hugetlb_pool **pool)
{
    const char *value;

    if ((value = option_value(word, "hugepagesz")) != NULL) {
        unsigned shift = size_shift(value);

        *pool = shift == 0 ? NULL : qr_hugetlb_find(memory.hugetlb, shift);
        if (*pool == NULL)
            printk("hugepagesz: there are no pages of that size\n");
    } else if ((value = option_value(word, "hugepages")) != NULL && *pool != NULL) {
        struct qr_hugetlb_stats stats;

        fill_pool(*pool, value);
        qr_hugetlb_pool_stats(*pool, -1, &stats);
        printk("memory: %zu huge pages of %zu KiB\n", stats.total,
               qr_hugetlb_pool_bytes(*pool) >> 10);
    }
}

void
hugetlb_fill(void)
{
    char word[16];

    if (boot_option("default_hugepagesz", word, sizeof(word)) && size_shift(word) != 0 &&
        !qr_hugetlb_set_default(memory.hugetlb, size_shift(word)))
        printk("default_hugepagesz: there are no pages of that size\n");

    struct qr_hugetlb_pool *pool = qr_hugetlb_find(memory.hugetlb, 0);
    const char *end = boot_arguments();

    for (const char *at = boot_info.cmdline; at < end && *at != '\0'; at++) {
        if (*at != ' ' && (at == boot_info.cmdline || at[-1] == ' '))
            fill_by_word(at, &pool);
    }
}
