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

/* ---- memory.stat, memory.numa_stat -------------------------------------------------------- */

#define BYTES(pages) ((unsigned long long)(pages)*FS_PAGE_BYTES)
#define STAT(name)   figures->stat[QR_GROUP_STAT_##name]

/* What a group and those below it have, or the machine has. */
struct figures {
    struct qr_group_pages pages;
    struct qr_node_use use; /* of its types: tables and swap */
    struct qr_report_group_use spaces;
    unsigned long stat[QR_GROUP_STATS];
};

static void
group_figures(const struct qr_group *group, struct figures *figures)
{
    qr_group_pages(group, &figures->pages);
    qr_group_use(group, -1, &figures->use);
    qr_report_group_use(kernel_report(), group, -1, &figures->spaces);
    for (int stat = 0; stat < QR_GROUP_STATS; stat++) {
        figures->stat[stat] = qr_group_stat(group, (enum qr_group_stat)stat);
    }
}

static size_t
machine_count(enum qr_counter which)
{
    long value = qr_counter_read(qr_frames_counters(memory.frames), which);

    return value < 0 ? 0 : (size_t)value;
}

/* Tables of users, as /proc/meminfo counts them, where @tables are all. */
static size_t
user_tables(size_t tables)
{
    size_t kernel = atomic_load(&memory.kernel_tables.table_count);

    return tables > kernel ? tables - kernel : 0;
}

/* The root is charged nothing: it has what the whole machine has, whoever is charged for it. */
static void
machine_figures(struct figures *figures)
{
    static const enum qr_counter counters[QR_GROUP_STATS] = {
        [QR_GROUP_STAT_FAULT] = QR_EVENT_FAULT,
        [QR_GROUP_STAT_MAJOR_FAULT] = QR_EVENT_MAJOR_FAULT,
        [QR_GROUP_STAT_REFAULT] = QR_EVENT_REFAULT_FILE,
        [QR_GROUP_STAT_ACTIVATE] = QR_EVENT_ACTIVATE_FILE,
        [QR_GROUP_STAT_RESTORE] = QR_EVENT_RESTORE_FILE,
        [QR_GROUP_STAT_SCAN_BEHIND] = QR_EVENT_SCAN_BEHIND,
        [QR_GROUP_STAT_SCAN_DIRECT] = QR_EVENT_SCAN_DIRECT,
        [QR_GROUP_STAT_STEAL_BEHIND] = QR_EVENT_RECLAIM_BEHIND,
        [QR_GROUP_STAT_STEAL_DIRECT] = QR_EVENT_RECLAIM_DIRECT,
        [QR_GROUP_STAT_REFILL] = QR_EVENT_REFILL,
        [QR_GROUP_STAT_LAZY_FREE] = QR_EVENT_LAZY_FREE,
        [QR_GROUP_STAT_LAZY_FREED] = QR_EVENT_LAZY_FREED,
        [QR_GROUP_STAT_THP_FAULT] = QR_EVENT_THP_FAULT,
        [QR_GROUP_STAT_THP_COLLAPSE] = QR_EVENT_THP_COLLAPSE,
    };
    size_t tables = user_tables(machine_count(QR_PAGES_TABLE));
    size_t slab = machine_count(QR_PAGES_SLAB), stacks = machine_count(QR_PAGES_STACK);
    size_t huge = qr_vm_huge_bytes(memory.vm) / FS_PAGE_BYTES;

    figures->pages = (struct qr_group_pages){
        .anon = machine_count(QR_PAGES_ANON),
        .file = machine_count(QR_PAGES_FILE),
        .shmem = machine_count(QR_PAGES_SHMEM),
        .kernel = tables + slab + stacks,
        .bytes = {[QR_GROUP_SLAB] = slab * FS_PAGE_BYTES,
                  [QR_GROUP_STACK] = stacks * FS_PAGE_BYTES,
                  [QR_GROUP_VMALLOC] = machine_count(QR_PAGES_VMALLOC) * FS_PAGE_BYTES}};
    figures->use = (struct qr_node_use){
        .type = {[QR_FRAME_TABLE] = tables, [QR_FRAME_SWAP] = machine_count(QR_PAGES_SWAP_CACHED)},
        .mapped = machine_count(QR_PAGES_MAPPED),
        .dirty = machine_count(QR_PAGES_DIRTY),
        .writeback = machine_count(QR_PAGES_WRITEBACK),
        .active = machine_count(QR_PAGES_ACTIVE_FILE),
        .blocks = huge == 0 ? 0 : machine_count(QR_PAGES_THP_SHMEM) / huge};
    figures->spaces = (struct qr_report_group_use){.locked = machine_count(QR_PAGES_LOCKED),
                                                   .huge = machine_count(QR_PAGES_HUGE_ANON)};
    for (int stat = 0; stat < QR_GROUP_STATS; stat++) {
        figures->stat[stat] = machine_count(counters[stat]);
    }
}

/*
 * Linux's lines in Linux's order; what is not counted is there with 0.  Gauges beside the first ones are
 * counted frame by frame as the file is read, so that nobody pays for them who only uses memory.
 */
static void
figures_write(const struct figures *figures, struct qr_writer *writer)
{
    const struct qr_group_pages *pages = &figures->pages;
    const struct qr_node_use *use = &figures->use;
    size_t active = use->active < pages->file ? use->active : pages->file;
    const size_t *bytes = pages->bytes;
    size_t sockets = qr_va_page_up(bytes[QR_GROUP_SOCKETS]) / FS_PAGE_BYTES;
    size_t shmem_thp = use->blocks * (qr_vm_huge_bytes(memory.vm) / FS_PAGE_BYTES);
    const struct {
        const char *name;
        unsigned long long value;
    } lines[] = {
        {"anon", BYTES(pages->anon)},
        {"file", BYTES(pages->file + pages->shmem)},
        {"kernel", BYTES(pages->kernel > sockets ? pages->kernel - sockets : 0)},
        {"kernel_stack", bytes[QR_GROUP_STACK]},
        {"pagetables", BYTES(use->type[QR_FRAME_TABLE])},
        {"sec_pagetables", 0},
        {"percpu", 0},
        {"sock", BYTES(sockets)},
        {"vmalloc", bytes[QR_GROUP_VMALLOC]},
        {"shmem", BYTES(pages->shmem)},
        {"file_mapped", BYTES(use->mapped)},
        {"file_dirty", BYTES(use->dirty)},
        {"file_writeback", BYTES(use->writeback)},
        {"swapcached", BYTES(use->type[QR_FRAME_SWAP])},
        {"anon_thp", BYTES(figures->spaces.huge)},
        {"file_thp", 0},
        {"shmem_thp", BYTES(shmem_thp)},
        {"inactive_anon", 0},
        {"active_anon", BYTES(pages->anon + pages->shmem)},
        {"inactive_file", BYTES(pages->file - active)},
        {"active_file", BYTES(active)},
        {"unevictable", BYTES(figures->spaces.locked)},
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

static void
show_stat(const struct text_target *target, struct qr_writer *writer)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);
    struct figures figures;

    if (group != NULL) {
        group_figures(group, &figures);
        figures_write(&figures, writer);
    } else if (cgroup == cgroup_root()) {
        machine_figures(&figures);
        figures_write(&figures, writer);
    }
    qr_group_put(group);
    cgroup_put(cgroup);
}

/* What one node has of it. */
struct share {
    struct qr_node_use use;
    struct qr_report_group_use spaces;
    size_t stack_bytes, slab_bytes;
};

/*
 * A group is charged for slabs and stacks by the byte, wherever these lie: all of them stand under the first
 * node.  The kernel's own tables, which count for nobody, are there as well.
 */
static void
share_of_node(const struct qr_group *group, unsigned node, bool first, struct share *share)
{
    struct qr_group_pages pages = {.bytes = {0}};

    qr_report_group_use(kernel_report(), group, (int)node, &share->spaces);
    if (group == NULL) {
        qr_frames_node_use(memory.frames, node, &share->use);
        share->stack_bytes = share->use.stacks * FS_PAGE_BYTES;
        share->slab_bytes = share->use.type[QR_FRAME_SLAB] * FS_PAGE_BYTES;
        if (first) {
            share->use.type[QR_FRAME_TABLE] = user_tables(share->use.type[QR_FRAME_TABLE]);
        }
        return;
    }
    qr_group_use(group, (int)node, &share->use);
    if (first) {
        qr_group_pages(group, &pages);
    }
    share->stack_bytes = pages.bytes[QR_GROUP_STACK];
    share->slab_bytes = pages.bytes[QR_GROUP_SLAB];
}

/* The rows of memory.stat that Linux counts by node; what has no case here is not counted, and 0. */
enum numa_row {
    ROW_ANON,
    ROW_FILE,
    ROW_STACK,
    ROW_TABLES,
    ROW_SECOND_TABLES,
    ROW_SHMEM,
    ROW_MAPPED,
    ROW_DIRTY,
    ROW_WRITEBACK,
    ROW_SWAP_CACHED,
    ROW_ANON_THP,
    ROW_FILE_THP,
    ROW_SHMEM_THP,
    ROW_INACTIVE_ANON,
    ROW_ACTIVE_ANON,
    ROW_INACTIVE_FILE,
    ROW_ACTIVE_FILE,
    ROW_UNEVICTABLE,
    ROW_SLAB_RECLAIMABLE,
    ROW_SLAB_UNRECLAIMABLE,
};

static const char *const numa_rows[] = {
    [ROW_ANON] = "anon",
    [ROW_FILE] = "file",
    [ROW_STACK] = "kernel_stack",
    [ROW_TABLES] = "pagetables",
    [ROW_SECOND_TABLES] = "sec_pagetables",
    [ROW_SHMEM] = "shmem",
    [ROW_MAPPED] = "file_mapped",
    [ROW_DIRTY] = "file_dirty",
    [ROW_WRITEBACK] = "file_writeback",
    [ROW_SWAP_CACHED] = "swapcached",
    [ROW_ANON_THP] = "anon_thp",
    [ROW_FILE_THP] = "file_thp",
    [ROW_SHMEM_THP] = "shmem_thp",
    [ROW_INACTIVE_ANON] = "inactive_anon",
    [ROW_ACTIVE_ANON] = "active_anon",
    [ROW_INACTIVE_FILE] = "inactive_file",
    [ROW_ACTIVE_FILE] = "active_file",
    [ROW_UNEVICTABLE] = "unevictable",
    [ROW_SLAB_RECLAIMABLE] = "slab_reclaimable",
    [ROW_SLAB_UNRECLAIMABLE] = "slab_unreclaimable",
    "workingset_refault_anon",
    "workingset_refault_file",
    "workingset_activate_anon",
    "workingset_activate_file",
    "workingset_restore_anon",
    "workingset_restore_file",
    "workingset_nodereclaim",
};

static unsigned long long
share_bytes(const struct share *share, unsigned row)
{
    const struct qr_node_use *use = &share->use;
    size_t active = use->active < use->file ? use->active : use->file;
    size_t anon = use->type[QR_FRAME_ANON] + use->type[QR_FRAME_MERGED] + use->swap_mapped;

    switch (row) {
    case ROW_ANON:
        return BYTES(anon);
    case ROW_FILE:
        return BYTES(use->file + use->shmem);
    case ROW_STACK:
        return share->stack_bytes;
    case ROW_TABLES:
        return BYTES(use->type[QR_FRAME_TABLE]);
    case ROW_SHMEM:
        return BYTES(use->shmem);
    case ROW_MAPPED:
        return BYTES(use->mapped);
    case ROW_DIRTY:
        return BYTES(use->dirty);
    case ROW_WRITEBACK:
        return BYTES(use->writeback);
    case ROW_SWAP_CACHED:
        return BYTES(use->type[QR_FRAME_SWAP]);
    case ROW_ANON_THP:
        return BYTES(share->spaces.huge);
    case ROW_SHMEM_THP:
        return (unsigned long long)use->blocks * qr_vm_huge_bytes(memory.vm);
    case ROW_ACTIVE_ANON:
        return BYTES(anon + use->shmem);
    case ROW_INACTIVE_FILE:
        return BYTES(use->file - active);
    case ROW_ACTIVE_FILE:
        return BYTES(active);
    case ROW_UNEVICTABLE:
        return BYTES(share->spaces.locked);
    case ROW_SLAB_UNRECLAIMABLE:
        return share->slab_bytes;
    default:
        return 0;
    }
}

/* Of a group, or (NULL) of the machine. */
static void
numa_stat_write(const struct qr_group *group, struct qr_writer *writer)
{
    struct share *shares = kmem_calloc(CONFIG_MAX_NODES, sizeof *shares);
    bool first = true;

    if (shares == NULL) {
        text_writer_fail(writer, -ENOMEM);
        return;
    }
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (qr_frames_node_exists(memory.frames, node)) {
            share_of_node(group, node, first, &shares[node]);
            first = false;
        }
    }
    for (unsigned row = 0; row < QR_ARRAY_COUNT(numa_rows); row++) {
        qr_writer_printf(writer, "%s", numa_rows[row]);
        for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
            if (qr_frames_node_exists(memory.frames, node)) {
                qr_writer_printf(writer, " N%u=%llu", node, share_bytes(&shares[node], row));
            }
        }
        qr_writer_printf(writer, "\n");
    }
    kmem_free(shares);
}

static void
show_numa_stat(const struct text_target *target, struct qr_writer *writer)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);

    if (group != NULL || cgroup == cgroup_root()) {
        numa_stat_write(group, writer);
    }
    qr_group_put(group);
    cgroup_put(cgroup);
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

/* @unlimited, or bytes with a suffix, alone but for blanks. @return 0, -EINVAL */
static int64_t
pages_parse(const char *text, size_t length, const char *unlimited, size_t *out)
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
    if (length == strlen(unlimited) && memcmp(text, unlimited, length) == 0) {
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
    int64_t error = group == NULL ? -ENODEV : pages_parse(text, length, "max", &pages);

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
    int64_t error = group == NULL ? -ENODEV : pages_parse(text, length, "max", &pages);

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

/* As in Linux, "max" is not known here, and nothing at all means everything. */
static int64_t
store_reclaim(const struct text_target *target, const char *text, size_t length)
{
    struct cgroup *cgroup = cgroup_of_inode(target->inode);
    struct qr_group *group = cgroup == NULL ? NULL : group_of_cgroup(cgroup);
    size_t pages;
    int64_t error = group == NULL ? -ENODEV : pages_parse(text, length, "", &pages);

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
    {{.name = "memory.stat", .mode = 0444, .show = show_stat}, NODE_USE},
    {{.name = "memory.numa_stat", .mode = 0444, .show = show_numa_stat}, NODE_USE},
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
