/* SPDX-License-Identifier: MIT */
/*
 * The files memory.* of a control group, as Linux documents them.
 *
 * Sizes are bytes, rounded down to pages; "max" is no limit.
 */
#include "cgroupfs.h"

#include "memory.h"
#include "proc.h"

/* A show function for the library's group; without one there is no text. */
#define SHOW(name)                                                                      \
    static void write_##name(struct cgroup *cgroup, struct qr_group *group,             \
                             struct qr_writer *writer);                                 \
    static void show_##name(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                   \
        struct cgroup *cgroup = cgroup_of_inode(target->inode);                         \
        struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);       \
                                                                                        \
        if (group != NULL) {                                                            \
            write_##name(cgroup, group, writer);                                        \
        }                                                                               \
        qr_group_put(group);                                                            \
        cgroup_put(cgroup);                                                             \
    }                                                                                   \
    static void write_##name(struct cgroup *cgroup, struct qr_group *group,             \
                             struct qr_writer *writer)

static void
pages_write(struct qr_writer *writer, uint64_t pages)
{
    if (pages >= SIZE_MAX) {
        qr_writer_printf(writer, "max\n");
    } else {
        qr_writer_printf(writer, "%llu\n", (unsigned long long)pages * FS_PAGE_BYTES);
    }
}

SHOW(current)
{
    (void)cgroup;
    pages_write(writer, qr_group_usage(group));
}

SHOW(peak)
{
    (void)cgroup;
    pages_write(writer, qr_group_peak(group));
}

SHOW(min)
{
    (void)cgroup;
    pages_write(writer, qr_group_limit(group, QR_GROUP_MIN));
}

SHOW(low)
{
    (void)cgroup;
    pages_write(writer, qr_group_limit(group, QR_GROUP_LOW));
}

SHOW(high)
{
    (void)cgroup;
    pages_write(writer, qr_group_limit(group, QR_GROUP_HIGH));
}

SHOW(max)
{
    (void)cgroup;
    pages_write(writer, qr_group_limit(group, QR_GROUP_MAX));
}

SHOW(oom_group)
{
    (void)group;
    qr_writer_printf(writer, "%d\n", atomic_load(&cgroup->kill_all));
}

static void
events_write(const struct qr_group *group, struct qr_writer *writer, int first, int end, bool below)
{
    static const char *const names[QR_GROUP_EVENTS] = {
        [QR_GROUP_EVENT_LOW] = "low",           [QR_GROUP_EVENT_HIGH] = "high",
        [QR_GROUP_EVENT_MAX] = "max",           [QR_GROUP_EVENT_OOM] = "oom",
        [QR_GROUP_EVENT_OOM_KILL] = "oom_kill", [QR_GROUP_EVENT_OOM_GROUP_KILL] = "oom_group_kill",
        [QR_GROUP_EVENT_SWAP_HIGH] = "high",    [QR_GROUP_EVENT_SWAP_MAX] = "max",
        [QR_GROUP_EVENT_SWAP_FAIL] = "fail",
    };

    for (int event = first; event < end; event++) {
        qr_writer_printf(writer, "%s %lu\n", names[event],
                         qr_group_events(group, (enum qr_group_event)event, below));
    }
}

SHOW(events)
{
    (void)cgroup;
    events_write(group, writer, 0, QR_GROUP_EVENT_SWAP_HIGH, true);
}

SHOW(events_local)
{
    (void)cgroup;
    events_write(group, writer, 0, QR_GROUP_EVENT_SWAP_HIGH, false);
}

#define BYTES(pages) ((unsigned long long)(pages)*FS_PAGE_BYTES)
#define STAT(name)   qr_group_stat(group, QR_GROUP_STAT_##name)

/*
 * Linux's lines in Linux's order; what is not counted is there with 0.  Gauges beside the first ones are
 * counted frame by frame as the file is read, so that nobody pays for them who only uses memory.
 */
SHOW(stat)
{
    struct qr_group_pages pages;
    struct qr_node_use use;
    struct qr_report_group_use spaces;

    (void)cgroup;
    qr_group_pages(group, &pages);
    qr_group_use(group, &use);
    qr_report_group_use(kernel_report(), group, &spaces);
    size_t active = use.active < pages.file ? use.active : pages.file;
    const size_t *bytes = pages.bytes;
    size_t sockets = qr_va_page_up(bytes[QR_GROUP_SOCKETS]) / FS_PAGE_BYTES;
    size_t shmem_thp = use.blocks * (qr_vm_huge_bytes(memory.vm) / FS_PAGE_BYTES);
    const struct {
        const char *name;
        unsigned long long value;
    } lines[] = {
        {"anon", BYTES(pages.anon)},
        {"file", BYTES(pages.file + pages.shmem)},
        {"kernel", BYTES(pages.kernel > sockets ? pages.kernel - sockets : 0)},
        {"kernel_stack", bytes[QR_GROUP_STACK]},
        {"pagetables", BYTES(use.type[QR_FRAME_TABLE])},
        {"sec_pagetables", 0},
        {"percpu", 0},
        {"sock", BYTES(sockets)},
        {"vmalloc", bytes[QR_GROUP_VMALLOC]},
        {"shmem", BYTES(pages.shmem)},
        {"file_mapped", BYTES(use.mapped)},
        {"file_dirty", BYTES(use.dirty)},
        {"file_writeback", BYTES(use.writeback)},
        {"swapcached", BYTES(use.type[QR_FRAME_SWAP])},
        {"anon_thp", BYTES(spaces.huge)},
        {"file_thp", 0},
        {"shmem_thp", BYTES(shmem_thp)},
        {"inactive_anon", 0},
        {"active_anon", BYTES(pages.anon + pages.shmem)},
        {"inactive_file", BYTES(pages.file - active)},
        {"active_file", BYTES(active)},
        {"unevictable", BYTES(spaces.locked)},
        {"slab_reclaimable", 0},
        {"slab_unreclaimable", bytes[QR_GROUP_SLAB]},
        {"slab", bytes[QR_GROUP_SLAB]},
        {"workingset_refault_anon", 0},
        {"workingset_refault_file", STAT(REFAULT)},
        {"workingset_activate_anon", 0},
        {"workingset_activate_file", STAT(ACTIVATE)},
        {"workingset_restore_anon", 0},
        {"workingset_restore_file", STAT(RESTORE)},
        {"workingset_nodereclaim", 0},
        {"pgscan", STAT(SCAN_BEHIND) + STAT(SCAN_DIRECT)},
        {"pgsteal", STAT(STEAL_BEHIND) + STAT(STEAL_DIRECT)},
        {"pgscan_kswapd", STAT(SCAN_BEHIND)},
        {"pgscan_direct", STAT(SCAN_DIRECT)},
        {"pgsteal_kswapd", STAT(STEAL_BEHIND)},
        {"pgsteal_direct", STAT(STEAL_DIRECT)},
        {"pgfault", STAT(FAULT)},
        {"pgmajfault", STAT(MAJOR_FAULT)},
        {"pgrefill", STAT(REFILL)},
        {"pgactivate", 0},
        {"pgdeactivate", STAT(REFILL)},
        {"pglazyfree", STAT(LAZY_FREE)},
        {"pglazyfreed", STAT(LAZY_FREED)},
        {"thp_fault_alloc", STAT(THP_FAULT)},
        {"thp_collapse_alloc", STAT(THP_COLLAPSE)},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(lines); i++) {
        qr_writer_printf(writer, "%s %llu\n", lines[i].name, lines[i].value);
    }
}

SHOW(swap_current)
{
    (void)cgroup;
    qr_writer_printf(writer, "%llu\n", (unsigned long long)qr_group_swap(group) * FS_PAGE_BYTES);
}

SHOW(swap_max)
{
    (void)cgroup;
    pages_write(writer, qr_group_swap_max(group));
}

SHOW(swap_high)
{
    (void)cgroup;
    pages_write(writer, qr_group_swap_high(group));
}

SHOW(swap_events)
{
    (void)cgroup;
    events_write(group, writer, QR_GROUP_EVENT_SWAP_HIGH, QR_GROUP_EVENTS, true);
}

/* ---- Writing ------------------------------------------------------------------------------ */

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n';
}

/* log2 of what a size's suffix multiplies with; -1: there is none. */
static int
suffix_shift(char c)
{
    static const char suffixes[] = "KMGTPE";
    const char *at = strchr(suffixes, c & ~0x20);

    return c == '\0' || at == NULL || *at == '\0' ? -1 : 10 * (int)(at - suffixes + 1);
}

/* More than there can be is no limit, as in Linux. */
#define PAGES_MOST \
    (sizeof(size_t) == 4 ? (uint64_t)SIZE_MAX / 2 : (uint64_t)INT64_MAX / FS_PAGE_BYTES)

/* Decimal, or hexadecimal with 0x, in 64 bits. @return bytes used, 0 where there is none */
static size_t
size_parse(const char *text, size_t length, uint64_t *out)
{
    unsigned base = length > 2 && text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10;
    size_t first = base == 16 ? 2 : 0, at = first;

    for (*out = 0; at < length; at++) {
        char c = text[at] >= 'A' && text[at] <= 'F' ? (char)(text[at] | 0x20) : text[at];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : base;

        if (digit >= base) {
            break;
        }
        if (__builtin_mul_overflow(*out, (uint64_t)base, out) ||
            __builtin_add_overflow(*out, (uint64_t)digit, out)) {
            return 0;
        }
    }
    return at > first ? at : 0;
}

/* "max", or bytes with a suffix, alone but for blanks. @return 0, -EINVAL */
static int64_t
pages_parse(const char *text, size_t length, size_t *out)
{
    uint64_t bytes;
    size_t used;

    while (length > 0 && is_blank(text[length - 1])) {
        length--;
    }
    while (length > 0 && is_blank(*text)) {
        text++;
        length--;
    }
    if (length == 3 && memcmp(text, "max", 3) == 0) {
        *out = QR_GROUP_UNLIMITED;
        return 0;
    }
    used = size_parse(text, length, &bytes);
    int shift = used < length ? suffix_shift(text[used]) : 0;

    if (used == 0 || shift < 0 || length - used > 1 || (shift != 0 && bytes >> (64 - shift) != 0)) {
        return -EINVAL;
    }
    bytes = (bytes << shift) / FS_PAGE_BYTES;
    *out = bytes < PAGES_MOST ? (size_t)bytes : QR_GROUP_UNLIMITED;
    return 0;
}

static int64_t
limit_store(const struct text_target *target, const char *text, size_t length,
            enum qr_group_limit which)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);
    size_t pages;
    int64_t error = group == NULL ? -ENODEV : pages_parse(text, length, &pages);

    if (error == 0) {
        qr_group_set_limit(group, which, pages);
        if (which >= QR_GROUP_HIGH) {
            error = cgroup_enforce(cgroup, which);
        }
    }
    qr_group_put(group);
    cgroup_put(cgroup);
    return error == -EINTR ? 0 : error; /* the limit stands */
}

static int64_t
store_min(const struct text_target *target, const char *text, size_t length)
{
    return limit_store(target, text, length, QR_GROUP_MIN);
}

static int64_t
store_low(const struct text_target *target, const char *text, size_t length)
{
    return limit_store(target, text, length, QR_GROUP_LOW);
}

static int64_t
store_high(const struct text_target *target, const char *text, size_t length)
{
    return limit_store(target, text, length, QR_GROUP_HIGH);
}

static int64_t
store_max(const struct text_target *target, const char *text, size_t length)
{
    return limit_store(target, text, length, QR_GROUP_MAX);
}

static int64_t
store_oom_group(const struct text_target *target, const char *text, size_t length)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    bool valid = length > 0 && (text[0] == '0' || text[0] == '1') &&
                 (length == 1 || (length == 2 && is_blank(text[1])));

    if (cgroup == NULL) {
        return -ENODEV;
    }
    if (valid) {
        atomic_store(&cgroup->kill_all, text[0] == '1');
    }
    cgroup_put(cgroup);
    return valid ? 0 : -EINVAL;
}

static int64_t
swap_store(const struct text_target *target, const char *text, size_t length,
           void (*set)(struct qr_group *group, size_t pages))
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);
    size_t pages;
    int64_t error = group == NULL ? -ENODEV : pages_parse(text, length, &pages);

    if (error == 0) {
        set(group, pages);
    }
    qr_group_put(group);
    cgroup_put(cgroup);
    return error;
}

static int64_t
store_swap_max(const struct text_target *target, const char *text, size_t length)
{
    return swap_store(target, text, length, qr_group_set_swap_max);
}

static int64_t
store_swap_high(const struct text_target *target, const char *text, size_t length)
{
    return swap_store(target, text, length, qr_group_set_swap_high);
}

static int64_t
store_reclaim(const struct text_target *target, const char *text, size_t length)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);
    size_t pages;
    int64_t error = group == NULL ? -ENODEV : pages_parse(text, length, &pages);

    if (error == 0 && group_reclaim(group, pages) < pages) {
        error = -EAGAIN;
    }
    qr_group_put(group);
    cgroup_put(cgroup);
    return error;
}

const struct cgroup_node cgroup_memory_nodes[] = {
    {{.name = "memory.current", .mode = 0444, .show = show_current}, NODE_MEMORY},
    {{.name = "memory.peak", .mode = 0444, .show = show_peak}, NODE_MEMORY},
    {{.name = "memory.min", .mode = 0644, .show = show_min, .store = store_min}, NODE_MEMORY},
    {{.name = "memory.low", .mode = 0644, .show = show_low, .store = store_low}, NODE_MEMORY},
    {{.name = "memory.high", .mode = 0644, .show = show_high, .store = store_high}, NODE_MEMORY},
    {{.name = "memory.max", .mode = 0644, .show = show_max, .store = store_max}, NODE_MEMORY},
    {{.name = "memory.events",
      .mode = 0444,
      .show = show_events,
      .inode_ops = &cgroup_events_inode_ops},
     NODE_MEMORY},
    {{.name = "memory.events.local",
      .mode = 0444,
      .show = show_events_local,
      .inode_ops = &cgroup_events_inode_ops},
     NODE_MEMORY},
    {{.name = "memory.stat", .mode = 0444, .show = show_stat}, NODE_MEMORY},
    {{.name = "memory.oom.group", .mode = 0644, .show = show_oom_group, .store = store_oom_group},
     NODE_MEMORY},
    {{.name = "memory.reclaim", .mode = 0200, .store = store_reclaim}, NODE_MEMORY},
    {{.name = "memory.swap.current", .mode = 0444, .show = show_swap_current}, NODE_MEMORY},
    {{.name = "memory.swap.max", .mode = 0644, .show = show_swap_max, .store = store_swap_max},
     NODE_MEMORY},
    {{.name = "memory.swap.high", .mode = 0644, .show = show_swap_high, .store = store_swap_high},
     NODE_MEMORY},
    {{.name = "memory.swap.events", .mode = 0444, .show = show_swap_events}, NODE_MEMORY},
};
const size_t cgroup_memory_node_count = QR_ARRAY_COUNT(cgroup_memory_nodes);
