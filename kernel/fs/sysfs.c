/* SPDX-License-Identifier: MIT */
/*
 * /sys: nodes of memory, processors and the terminal; debugfs with the `memory` node.
 *
 * /sys/kernel/debug/memory takes commands and gives their result, on the console at once and to
 * whoever reads the node next:
 *
 *      mem               one screen about the whole machine
 *      dump_pt ADDRESS   the table entries that decide about an address of the writer's space
 *      dump_pt           all mappings of the writer's space
 *      dump_pt kernel    all mappings of the kernel
 *      validate          check every structure of the library
 *      help              this list
 *
 * /sys/kernel/debug/extfrag has Linux's two figures of how fragmented each zone is.
 *
 * /sys/kernel/debug/heap says what the kernel heap has given out, by call site and backtrace since
 * tracking was turned on (in builds with memory debugging, always).  A number written to it turns the
 * heap's run-time checks on and off (enum qr_heap_switch): 16 is tracking.
 */

#include <quire/report.h>

#include "arch.h"
#include "dax.h"
#include "disk_nodes.h"
#include "huge.h"
#include "hugetlb.h"
#include "memory.h"
#include "merge.h"
#include "node_access.h"
#include "proc.h"
#include "text.h"

enum { SYSFS_MAGIC = 0x62656572, DEBUGFS_MAGIC = 0x64626720, NODES_MAX = 64 };

/* ---- /sys/devices/system/node ------------------------------------------------------------- */

unsigned
sysfs_node_count(void)
{
    unsigned count = 1;

    for (unsigned i = 0; i < qr_frames_zone_count(memory.frames); i++) {
        struct qr_zone_stats stats;

        qr_frames_zone_stats(memory.frames, i, &stats);
        if (stats.present > 0 && stats.node >= count && stats.node < NODES_MAX) {
            count = stats.node + 1;
        }
    }
    return count;
}

static void
range_write(struct qr_writer *writer, unsigned count)
{
    if (count == 1) {
        qr_writer_printf(writer, "0\n");
    } else {
        qr_writer_printf(writer, "0-%u\n", count - 1);
    }
}

static void
show_nodes(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    range_write(writer, sysfs_node_count());
}

static void
show_node_meminfo(const struct text_target *target, struct qr_writer *writer)
{
    qr_report_node_meminfo(kernel_report(), (unsigned)target->inode->key_more, writer);
}

static void
show_node_vmstat(const struct text_target *target, struct qr_writer *writer)
{
    qr_report_node_vmstat(kernel_report(), (unsigned)target->inode->key_more, writer);
}

static void
show_numastat(const struct text_target *target, struct qr_writer *writer)
{
    qr_report_numastat(kernel_report(), (unsigned)target->inode->key_more, writer);
}

static void
show_distance(const struct text_target *target, struct qr_writer *writer)
{
    for (unsigned to = 0; to < sysfs_node_count(); to++) {
        qr_writer_printf(writer, "%s%u", to == 0 ? "" : " ",
                         memory_distance((unsigned)target->inode->key_more, to));
    }
    qr_writer_printf(writer, "\n");
}

static void
show_cpus(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    range_write(writer, cpu_count());
}

static void
show_one(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "1\n");
}

/* The numbers below @count that @has says yes to, as ranges: "0-3,6". */
static void
list_write(struct qr_writer *writer, unsigned count, bool (*has)(unsigned number, unsigned of),
           unsigned of)
{
    const char *comma = "";

    for (unsigned i = 0; i < count; i++) {
        unsigned first = i;

        if (!has(i, of)) {
            continue;
        }
        while (i + 1 < count && has(i + 1, of)) {
            i++;
        }
        qr_writer_printf(writer, "%s%u", comma, first);
        if (i > first) {
            qr_writer_printf(writer, "-%u", i);
        }
        comma = ",";
    }
    qr_writer_printf(writer, "\n");
}

static bool
cpu_is_on(unsigned cpu, unsigned node)
{
    return cpu_of(cpu)->quire.node == node;
}

static void
show_cpulist(const struct text_target *target, struct qr_writer *writer)
{
    list_write(writer, cpu_count(), cpu_is_on, (unsigned)target->inode->key_more);
}

/* As libnuma reads them: groups of 32 CPUs in hexadecimal, the last CPUs first. */
static void
show_cpumap(const struct text_target *target, struct qr_writer *writer)
{
    unsigned node = (unsigned)target->inode->key_more, count = cpu_count();

    for (unsigned group = (count + 31) / 32; group-- > 0;) {
        unsigned in_group = count - group * 32 < 32 ? count - group * 32 : 32;
        uint32_t word = 0;

        for (unsigned i = 0; i < in_group; i++) {
            word |= (uint32_t)(cpu_of(group * 32 + i)->quire.node == node) << i;
        }
        qr_writer_printf(writer, "%0*x%c", (int)(in_group + 3) / 4, word, group > 0 ? ',' : '\n');
    }
}

static bool
node_has_cpus(unsigned node, unsigned unused)
{
    (void)unused;
    for (unsigned i = 0; i < cpu_count(); i++) {
        if (cpu_is_on(i, node)) {
            return true;
        }
    }
    return false;
}

static void
show_nodes_with_cpus(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    list_write(writer, sysfs_node_count(), node_has_cpus, 0);
}

static void
show_none(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "\n");
}

/* ---- /sys/kernel/mm/mempolicy ---------------------------------------------------------------- */

static void
show_weight(const struct text_target *target, struct qr_writer *writer)
{
    qr_writer_printf(writer, "%u\n", mm_node_weight((unsigned)target->inode->key_more));
}

/* 1 to 255; an empty line is the default. */
static int64_t
store_weight(const struct text_target *target, const char *text, size_t length)
{
    uint64_t weight = 1;

    if (length > 0 && text[0] != '\n' &&
        (decimal_parse(text, length, &weight) == 0 || weight == 0 || weight > 255)) {
        return -EINVAL;
    }
    mm_set_node_weight((unsigned)target->inode->key_more, (unsigned)weight);
    return 0;
}

static const struct text_node node_nodes[] = {
    {.name = "online", .mode = 0444, .show = show_nodes},
    {.name = "possible", .mode = 0444, .show = show_nodes},
    {.name = "has_memory", .mode = 0444, .show = show_nodes},
    {.name = "has_normal_memory", .mode = 0444, .show = show_nodes},
    {.name = "has_cpu", .mode = 0444, .show = show_nodes_with_cpus},
    {.name = "has_generic_initiator", .mode = 0444, .show = show_none},
};

static const struct text_node cpu_nodes[] = {
    {.name = "online", .mode = 0444, .show = show_cpus},
    {.name = "possible", .mode = 0444, .show = show_cpus},
    {.name = "present", .mode = 0444, .show = show_cpus},
};

/* What each node says of itself. */
static const struct text_node own_nodes[] = {
    {.name = "meminfo", .mode = 0444, .show = show_node_meminfo},
    {.name = "numastat", .mode = 0444, .show = show_numastat},
    {.name = "vmstat", .mode = 0444, .show = show_node_vmstat},
    {.name = "distance", .mode = 0444, .show = show_distance},
    {.name = "cpulist", .mode = 0444, .show = show_cpulist},
    {.name = "cpumap", .mode = 0444, .show = show_cpumap},
};

static bool
weights_add(struct dentry *directory)
{
    static const struct text_node weight = {
        .mode = 0644, .show = show_weight, .store = store_weight};
    char name[16];

    for (unsigned i = 0; i < sysfs_node_count(); i++) {
        snprintf(name, sizeof name, "node%u", i);
        if (!text_node_add(directory, name, &weight, i)) {
            return false;
        }
    }
    return true;
}

static bool
node_directories_add(struct dentry *parent)
{
    char name[16];

    for (unsigned i = 0; i < sysfs_node_count(); i++) {
        snprintf(name, sizeof name, "node%u", i);
        struct dentry *directory = text_directory_add(parent, name);

        for (size_t f = 0; f < QR_ARRAY_COUNT(own_nodes); f++) {
            if (directory == NULL ||
                !text_node_add(directory, own_nodes[f].name, &own_nodes[f], i)) {
                return false;
            }
        }
        if (!hugetlb_node_nodes_add(directory, i)) {
            return false;
        }
    }
    return node_access_add(parent, sysfs_node_count());
}

static bool
cpu_directories_add(struct dentry *parent)
{
    static const struct text_node online = {.name = "online", .mode = 0444, .show = show_one};
    char name[16];

    for (unsigned i = 0; i < cpu_count(); i++) {
        snprintf(name, sizeof name, "cpu%u", i);
        struct dentry *directory = text_directory_add(parent, name);

        if (directory == NULL || !text_nodes_add(directory, &online, 1)) {
            return false;
        }
    }
    return true;
}

/* ---- the rest of /sys ------------------------------------------------------------------------ */

static void
show_console(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "ttyS0\n");
}

static const struct text_node console_nodes[] = {
    {.name = "active", .mode = 0444, .show = show_console},
};

static bool
sys_tree_add(struct dentry *root)
{
    static const char *const node_path[] = {"devices", "system", "node"};
    static const char *const cpu_path[] = {"devices", "system", "cpu"};
    static const char *const console_path[] = {"class", "tty", "console"};
    static const char *const weight_path[] = {"kernel", "mm", "mempolicy", "weighted_interleave"};
    static const char *const debug_path[] = {"kernel", "debug"};
    static const char *const cgroup_path[] = {"fs", "cgroup"};
    static const char *const block_path[] = {"block"};
    struct dentry *node = text_path_add(root, node_path, 3);
    struct dentry *cpu = text_path_add(root, cpu_path, 3);
    struct dentry *console = text_path_add(root, console_path, 3);
    struct dentry *weights = text_path_add(root, weight_path, 4);
    struct dentry *block = text_path_add(root, block_path, 1);

    return node != NULL && cpu != NULL && console != NULL && weights != NULL &&
           weights_add(weights) && huge_nodes_add(root) && merge_nodes_add(root) &&
           text_path_add(root, debug_path, 2) != NULL && block != NULL && disk_nodes_add(block) &&
           text_path_add(root, cgroup_path, 2) != NULL &&
           text_nodes_add(node, node_nodes, QR_ARRAY_COUNT(node_nodes)) &&
           node_directories_add(node) &&
           text_nodes_add(cpu, cpu_nodes, QR_ARRAY_COUNT(cpu_nodes)) && cpu_directories_add(cpu) &&
           text_nodes_add(console, console_nodes, QR_ARRAY_COUNT(console_nodes)) &&
           hugetlb_nodes_add(root) && dax_nodes_add(root);
}

/* A file system whose whole tree @fill adds. */
static int64_t
tree_mount(const struct superblock_type *type, bool (*fill)(struct dentry *root),
           struct superblock **out)
{
    struct superblock *superblock;
    int64_t error = text_filesystem_create(type, &text_inode_ops, &superblock);

    if (error != 0) {
        return error;
    }
    tree_lock_write();
    bool done = fill(superblock->root);
    if (!done) {
        superblock_destroy(superblock);
    }
    tree_unlock_write();
    if (!done) {
        return -ENOMEM;
    }
    *out = superblock;
    return 0;
}

static int64_t
sysfs_mount(const struct superblock_type *type, const char *options, struct superblock **out)
{
    (void)options;
    return tree_mount(type, sys_tree_add, out);
}

const struct superblock_type sysfs_type = {
    .name = "sysfs", .magic = SYSFS_MAGIC, .single = true, .create = sysfs_mount};

/* ---- /sys/kernel/debug/memory ------------------------------------------------------------------ */

/* The result of the last command: one for the machine. */
static struct {
    struct qr_mutex lock;
    struct text_writer text; /* lock */
} last_result;

static void
run_validate(struct qr_writer *writer)
{
    char message[160];
    const struct {
        const char *name;
        bool sound;
    } checks[] = {
        {"frames", qr_frames_validate(memory.frames, message, sizeof message)},
        {"heap", qr_heap_validate(memory.heap, message, sizeof message)},
        {"objects", qr_objects_validate(memory.objects, message, sizeof message)},
        {"vm", qr_vm_validate(memory.vm, message, sizeof message)},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(checks); i++) {
        qr_writer_printf(writer, "%-8s %s\n", checks[i].name, checks[i].sound ? "sound" : "BROKEN");
        if (!checks[i].sound) {
            qr_writer_printf(writer, "last message: %s\n", message);
        }
    }
}

/* "0x1f" or "31". @return whether all of @text is a number */
static bool
address_parse(const char *text, uint64_t *out)
{
    unsigned base = 10;
    uint64_t value = 0;

    if (text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        base = 16;
        text += 2;
    }
    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        unsigned c = (uint8_t)*text;
        unsigned digit = c >= '0' && c <= '9'   ? c - '0'
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                : 16;

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

static int64_t
run_dump_tables(const char *argument, struct qr_writer *writer)
{
    struct mm *mm = mm_of_process(process_current());
    uint64_t address = 0;
    int64_t error = 0;

    if (mm == NULL) {
        return -ESRCH;
    }
    if (*argument == '\0') {
        qr_report_tables(&mm->space->tables, writer);
    } else if (strcmp(argument, "kernel") == 0) {
        qr_report_tables(&memory.kernel_tables, writer);
    } else if (address_parse(argument, &address)) {
        qr_report_table_walk(mm->space, qr_va_of((uintptr_t)address), writer);
    } else {
        error = -EINVAL;
    }
    mm_put(mm);
    return error;
}

static int64_t
run_command(const char *command, struct qr_writer *writer)
{
    if (strcmp(command, "mem") == 0) {
        qr_report_overview(kernel_report(), writer);
    } else if (strcmp(command, "validate") == 0) {
        run_validate(writer);
    } else if (strcmp(command, "dump_pt") == 0) {
        return run_dump_tables("", writer);
    } else if (strncmp(command, "dump_pt ", 8) == 0) {
        return run_dump_tables(command + 8, writer);
    } else if (strcmp(command, "help") == 0) {
        qr_writer_printf(writer, "mem\ndump_pt [ADDRESS|kernel]\nvalidate\nhelp\n");
    } else {
        return -EINVAL;
    }
    return 0;
}

/* The terminal wants a carriage return before each line feed. */
static void
console_write_text(const char *text, size_t length)
{
    size_t start = 0;

    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n') {
            console_write(text + start, i - start);
            console_write("\r\n", 2);
            start = i + 1;
        }
    }
    console_write(text + start, length - start);
}

static int64_t
store_memory(const struct text_target *target, const char *text, size_t length)
{
    struct text_writer result;
    char command[64];

    (void)target;
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == ' ')) {
        length--;
    }
    if (length == 0 || length >= sizeof command) {
        return -EINVAL;
    }
    memcpy(command, text, length);
    command[length] = '\0';
    text_writer_init(&result);
    int64_t error = run_command(command, &result.writer);
    if (error == 0) {
        error = result.error;
    }
    if (error != 0) {
        text_writer_free(&result);
        return error;
    }
    console_write_text(result.data, result.length);
    qr_mutex_lock(&last_result.lock);
    text_writer_free(&last_result.text);
    last_result.text = result;
    qr_mutex_unlock(&last_result.lock);
    return 0;
}

static void
show_memory(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_mutex_lock(&last_result.lock);
    if (last_result.text.data == NULL) {
        qr_writer_printf(writer, "write `help` for the commands\n");
    } else {
        writer->emit(writer, last_result.text.data, last_result.text.length);
    }
    qr_mutex_unlock(&last_result.lock);
}

/* What the kernel heap has given out, by call site, and its switches. */
static void
show_heap(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_heap_stats stats;

    (void)target;
    qr_heap_stats(memory.heap, &stats);
    qr_writer_printf(writer, "%zu frames, %zu bytes in use, fragmentation %u.%u %%, switches %u\n",
                     stats.frames, stats.active_bytes, stats.fragmentation / 10,
                     stats.fragmentation % 10, qr_heap_debug_get(memory.heap));
    qr_writer_printf(writer, "%zu guarded blocks so far\n", qr_guard_samples(memory.heap));
    qr_heap_report_leaks(memory.heap, writer);
}

/* A number: enum qr_heap_switch. */
static int64_t
store_heap(const struct text_target *target, const char *text, size_t length)
{
    unsigned switches = 0;
    size_t digits = 0;

    (void)target;
    for (; digits < length && text[digits] >= '0' && text[digits] <= '9'; digits++) {
        switches = switches * 10 + (unsigned)(text[digits] - '0');
    }
    if (digits == 0 || digits > 3 || (digits < length && text[digits] != '\n')) {
        return -EINVAL;
    }
    (void)qr_heap_debug(memory.heap, switches);
    return 0;
}

static const struct text_node debug_nodes[] = {
    {.name = "memory", .mode = 0600, .show = show_memory, .store = store_memory},
    {.name = "heap", .mode = 0600, .show = show_heap, .store = store_heap},
};

static void
show_extfrag(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_report_extfrag_index(kernel_report(), writer);
}

static void
show_unusable(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_report_unusable_index(kernel_report(), writer);
}

static const struct text_node extfrag_nodes[] = {
    {.name = "extfrag_index", .mode = 0444, .show = show_extfrag},
    {.name = "unusable_index", .mode = 0444, .show = show_unusable},
};

static bool
debug_tree_add(struct dentry *root)
{
    struct dentry *extfrag = text_directory_add(root, "extfrag");

    return extfrag != NULL &&
           text_nodes_add(extfrag, extfrag_nodes, QR_ARRAY_COUNT(extfrag_nodes)) &&
           text_nodes_add(root, debug_nodes, QR_ARRAY_COUNT(debug_nodes));
}

static int64_t
debugfs_mount(const struct superblock_type *type, const char *options, struct superblock **out)
{
    (void)options;
    return tree_mount(type, debug_tree_add, out);
}

const struct superblock_type debugfs_type = {
    .name = "debugfs", .magic = DEBUGFS_MAGIC, .single = true, .create = debugfs_mount};
