/* SPDX-License-Identifier: MIT */
/*
 * /proc/sys/vm: numbers that act, and two nodes that do something when they are written.
 *
 * A number is a row with its limits and two functions; what is not a number within them is EINVAL and
 * changes nothing.  As on Linux a write takes the first number of its text and the blanks behind it, says
 * how much that was, and what is written anywhere but at the start is ignored (sysctl_writes_strict).  There is no
 * node for what nothing reads.
 */
#include "proc_vm.h"

#include <quire/reclaim.h>
#include <quire/shrink.h>

#include "hugetlb.h"
#include "memory.h"
#include "oom.h"
#include "text.h"
#include "userfault_notice.h"

/* ---- numbers ------------------------------------------------------------------------- */

enum { NUMBER_DIGITS_MAX = 21 }; /* with its sign and base */

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

static size_t
blanks_skip(const char *text, size_t length, size_t at)
{
    while (at < length && is_blank(text[at]))
        at++;
    return at;
}

static unsigned
digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return (unsigned)(c - '0');
    c |= 'a' - 'A';
    return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

size_t
proc_digits_parse(const char *text, size_t length, uint64_t most, uint64_t *out)
{
    size_t at = 0, first;
    uint64_t value = 0;
    unsigned base = 10;

    if (length > 0 && text[0] == '0') {
        bool hex = length > 2 && (text[1] | ('a' - 'A')) == 'x' && digit_of(text[2]) < 16;

        base = hex ? 16 : 8;
        at = hex ? 2 : 0;
    }
    for (first = at; at < length && digit_of(text[at]) < base; at++) {
        if (value > (UINT64_MAX - 15) / base || value * base + digit_of(text[at]) > most)
            return 0;
        value = value * base + digit_of(text[at]);
    }
    *out = value;
    return at == first ? 0 : at;
}

int64_t
proc_number_parse(const char *text, size_t length, uint64_t least, uint64_t most, uint64_t *out)
{
    size_t start = blanks_skip(text, length, 0), at = start, used;
    bool negative = at < length && text[at] == '-';
    uint64_t value;

    at += negative;
    used = proc_digits_parse(text + at, length - at, most, &value);
    at += used;
    if (used == 0 || at - start > NUMBER_DIGITS_MAX || (at < length && !is_blank(text[at])) ||
        value < least || (negative && value != 0))
        return -EINVAL;
    *out = value;
    return (int64_t)blanks_skip(text, length, at);
}

void
proc_number_show(const struct text_target *target, struct qr_writer *writer)
{
    const struct proc_number *number = target->inode->node;

    qr_writer_printf(writer, "%llu\n", (unsigned long long)number->get());
}

int64_t
proc_number_store(const struct text_target *target, const char *text, size_t length)
{
    const struct proc_number *number = target->inode->node;
    uint64_t value;
    int64_t used = proc_number_parse(text, length, number->least, number->most, &value);

    if (length == 0)
        return 0;
    if (used > 0)
        number->set(value);
    return used;
}

bool
proc_numbers_add(struct dentry *directory, const struct proc_number *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!text_node_add(directory, rows[i].node.name, &rows[i].node, 0))
            return false;
    }
    return true;
}

/* ---- promised memory ------------------------------------------------------------------ */

#define COMMIT_NUMBER(name, expression, change)                          \
    static uint64_t get_##name(void)                                     \
    {                                                                    \
        struct qr_commit_policy policy = qr_vm_commit_policy(memory.vm); \
                                                                         \
        return (expression);                                             \
    }                                                                    \
    static void set_##name(uint64_t value)                               \
    {                                                                    \
        struct qr_commit_policy policy = qr_vm_commit_policy(memory.vm); \
                                                                         \
        change;                                                          \
        qr_vm_set_commit_policy(memory.vm, &policy);                     \
    }

COMMIT_NUMBER(overcommit, policy.overcommit, policy.overcommit = (enum qr_overcommit)value)
/* Of ratio and size, the one written last decides: the other reads as 0. */
COMMIT_NUMBER(ratio, policy.ratio, policy.ratio = (unsigned)value; policy.limit_bytes = 0)
COMMIT_NUMBER(kbytes, policy.limit_bytes >> 10, policy.limit_bytes = (size_t)value << 10;
              policy.ratio = 0)
COMMIT_NUMBER(user_reserve, policy.user_reserve_bytes >> 10,
              policy.user_reserve_bytes = (size_t)value << 10)
COMMIT_NUMBER(admin_reserve, policy.admin_reserve_bytes >> 10,
              policy.admin_reserve_bytes = (size_t)value << 10)

/* ---- spaces and reclaim ------------------------------------------------------------------ */

static uint64_t
get_max_map_count(void)
{
    return qr_vm_max_regions(memory.vm);
}

static void
set_max_map_count(uint64_t value)
{
    qr_vm_set_max_regions(memory.vm, (size_t)value);
}

/* What was written; a floor that a kernel is built with is not left. */
static _Atomic uint64_t mmap_min_addr = CONFIG_USER_START;

static uint64_t
get_mmap_min_addr(void)
{
    return atomic_load(&mmap_min_addr);
}

static void
set_mmap_min_addr(uint64_t value)
{
    atomic_store(&mmap_min_addr, value);
    qr_vm_set_floor(memory.vm, qr_va_of((uintptr_t)value));
}

static uint64_t
get_swappiness(void)
{
    return qr_vm_swappiness(memory.vm);
}

static void
set_swappiness(uint64_t value)
{
    qr_vm_set_swappiness(memory.vm, (unsigned)value);
}

static uint64_t
get_min_free(void)
{
    return (uint64_t)qr_frames_min_free(memory.frames) * (FS_PAGE_BYTES / 1024);
}

static void
set_min_free(uint64_t value)
{
    qr_frames_set_min_free(memory.frames, (size_t)(value / (FS_PAGE_BYTES / 1024)));
}

#define KBYTES_MOST (SIZE_MAX >> 10)

#define get_unprivileged_userfaultfd userfault_unprivileged
#define set_unprivileged_userfaultfd userfault_set_unprivileged

static const struct proc_number numbers[] = {
    PROC_NUMBER("overcommit_memory", 0, QR_OVERCOMMIT_NEVER, overcommit),
    PROC_NUMBER("overcommit_ratio", 0, INT32_MAX, ratio),
    PROC_NUMBER("overcommit_kbytes", 0, KBYTES_MOST, kbytes),
    PROC_NUMBER("user_reserve_kbytes", 0, KBYTES_MOST, user_reserve),
    PROC_NUMBER("admin_reserve_kbytes", 0, KBYTES_MOST, admin_reserve),
    PROC_NUMBER("max_map_count", 0, INT32_MAX, max_map_count),
    PROC_NUMBER("mmap_min_addr", 0, INTPTR_MAX, mmap_min_addr),
    PROC_NUMBER("swappiness", 0, QR_SWAPPINESS_MAX, swappiness),
    PROC_NUMBER("min_free_kbytes", 0, INT32_MAX, min_free),
    PROC_NUMBER("unprivileged_userfaultfd", 0, 1, unprivileged_userfaultfd),
};

/* ---- nodes that act at once -------------------------------------------------------------- */

/* 1 and 3 drop clean pages of files on disks, 2 and 3 empty slabs; 4 would say no more of it. */
static int64_t
store_drop_caches(const struct text_target *target, const char *text, size_t length)
{
    uint64_t what;
    int64_t used = proc_number_parse(text, length, 1, 4, &what);

    (void)target;
    if (used > 0 && (what & 1) != 0) {
        (void)qr_objects_shrink(memory.objects, SIZE_MAX, QR_SHRINK_UNMAPPED, NULL);
        qr_counter_add(qr_frames_counters(memory.frames), QR_EVENT_DROP_CACHE, 1);
    }
    if (used > 0 && (what & 2) != 0) {
        qr_counter_add(qr_frames_counters(memory.frames), QR_EVENT_DROP_SLAB, 1);
        (void)memory_give_back_idle();
        qr_frames_drain(memory.frames);
    }
    return used;
}

/* Whatever is written: make as many large free blocks as there is free memory for. */
static int64_t
store_compact_memory(const struct text_target *target, const char *text, size_t length)
{
    const struct qr_compact_request request = {.node = -1, .min_free = 1};
    struct qr_compact_result result;

    (void)target;
    (void)text;
    (void)length;
    qr_compact(memory.vm, &request, &result);
    return 0;
}

/* mlock() keeps pages in memory, not in their frames. */
static void
show_compact_unevictable(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "1\n");
}

static const struct text_node actions[] = {
    {.name = "compact_memory", .mode = 0200, .store = store_compact_memory},
    {.name = "compact_unevictable_allowed", .mode = 0444, .show = show_compact_unevictable},
    {.name = "drop_caches", .mode = 0200, .store = store_drop_caches, .only_first = true},
};

bool
proc_vm_add(struct dentry *vm)
{
    return proc_numbers_add(vm, numbers, QR_ARRAY_COUNT(numbers)) &&
           text_nodes_add(vm, actions, QR_ARRAY_COUNT(actions));
}
