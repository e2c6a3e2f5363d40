/* SPDX-License-Identifier: MIT */
/*
 * /proc: the machine's nodes and the numbered directories.
 *
 * To add a node: write its function and add a row to machine_nodes or, for /proc/PID, to
 * process_nodes in proc_pid.c.
 */

#include "procfs.h"

#include <quire/report.h>

#include "arch.h"
#include "block.h"
#include "boot.h"
#include "cgroupfs.h"
#include "disk_nodes.h"
#include "hugetlb.h"
#include "memory.h"
#include "proc.h"
#include "proc_ipc.h"
#include "proc_net.h"
#include "proc_pid.h"
#include "proc_vm.h"
#include "swap.h"
#include "text.h"
#include "tmpfs.h"
#include "writeback.h"

enum { PROC_MAGIC = 0x9fa0 };

/* ---- memory ------------------------------------------------------------------------ */

#define REPORT_NODE(name)                                                               \
    static void show_##name(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                   \
        (void)target;                                                                   \
        qr_report_##name(kernel_report(), writer);                                      \
    }

REPORT_NODE(meminfo)
REPORT_NODE(vmstat)
REPORT_NODE(buddyinfo)
REPORT_NODE(pagetypeinfo)
REPORT_NODE(zoneinfo)
REPORT_NODE(slabinfo)
REPORT_NODE(vmallocinfo)
REPORT_NODE(iomem)

/* ---- processors and time --------------------------------------------------------------- */

static void
show_cpuinfo(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    for (unsigned i = 0; i < cpu_count(); i++) {
        qr_writer_printf(writer, "processor\t: %u\nmodel name\t: %s\n", i, arch_cpu_name());
        qr_writer_printf(writer, "flags\t\t: %s\n\n", arch_cpu_flags());
    }
}

enum { USER_HZ = 100 };

static unsigned long
ticks_of(uint64_t ns)
{
    return (unsigned long)(ns / (1000000000u / USER_HZ));
}

static void
show_stat(const struct text_target *target, struct qr_writer *writer)
{
    uint64_t busy = 0, idle = 0;
    uint64_t boot = (clock_realtime_ns() - clock_monotonic_ns()) / 1000000000u;

    (void)target;
    for (unsigned i = 0; i < cpu_count(); i++) {
        busy += sched_busy_ns(i);
        idle += sched_idle_ns(i);
    }
    qr_writer_printf(writer, "cpu  %lu 0 0 %lu 0 0 0 0 0 0\n", ticks_of(busy), ticks_of(idle));
    for (unsigned i = 0; i < cpu_count(); i++) {
        qr_writer_printf(writer, "cpu%u %lu 0 0 %lu 0 0 0 0 0 0\n", i, ticks_of(sched_busy_ns(i)),
                         ticks_of(sched_idle_ns(i)));
    }
    qr_writer_printf(writer,
                     "intr 0\nctxt %lu\nbtime %lu\nprocesses %lu\nprocs_running %u\n"
                     "procs_blocked 0\n",
                     (unsigned long)sched_switch_count(), (unsigned long)boot,
                     (unsigned long)process_fork_count(), sched_running_count());
}

static void
show_uptime(const struct text_target *target, struct qr_writer *writer)
{
    unsigned long up = ticks_of(clock_monotonic_ns());
    uint64_t idle_ns = 0;

    (void)target;
    for (unsigned i = 0; i < cpu_count(); i++) {
        idle_ns += sched_idle_ns(i);
    }
    unsigned long idle = ticks_of(idle_ns);
    qr_writer_printf(writer, "%lu.%02lu %lu.%02lu\n", up / USER_HZ, up % USER_HZ, idle / USER_HZ,
                     idle % USER_HZ);
}

static void
show_loadavg(const struct text_target *target, struct qr_writer *writer)
{
    uint32_t loads[3];

    (void)target;
    sched_load_averages(loads);
    for (unsigned i = 0; i < 3; i++) {
        uint32_t hundredths = (uint32_t)(((uint64_t)loads[i] * 100 + 32768) >> 16);

        qr_writer_printf(writer, "%u.%02u ", hundredths / 100, hundredths % 100);
    }
    qr_writer_printf(writer, "%u/%u %d\n", sched_running_count(), thread_count(),
                     process_last_id());
}

/* ---- the kernel -------------------------------------------------------------------------- */

static void
show_version(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "Linux version " KERNEL_RELEASE " (quire) (" __VERSION__ ") #1 SMP\n");
}

static void
show_cmdline(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%s\n", boot_info.cmdline);
}

static void
show_cgroups(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t%u\t1\n",
                     cgroup_count());
}

static void
show_swaps(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    swaps_write(writer);
}

static void
show_filesystems(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    filesystems_write(writer);
}

static void
show_devices(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer,
                     "Character devices:\n  1 mem\n  4 ttyS\n  5 /dev/tty\n"
                     "  5 /dev/console\n\nBlock devices:\n%3u virtblk\n",
                     DISK_MAJOR);
}

/* ---- links ----------------------------------------------------------------------------------- */

static int64_t
self_read_link(struct inode *inode, char *buffer, size_t size)
{
    struct process *process = process_current();
    char text[16];

    (void)inode;
    if (process == NULL) {
        return -ENOENT;
    }
    int length = snprintf(text, sizeof text, "%d", process->id);
    size_t bytes = (size_t)length < size ? (size_t)length : size;
    memcpy(buffer, text, bytes);
    return (int64_t)bytes;
}

static int64_t
thread_self_read_link(struct inode *inode, char *buffer, size_t size)
{
    struct process *process = process_current();
    char text[40];

    (void)inode;
    if (process == NULL) {
        return -ENOENT;
    }
    int length = snprintf(text, sizeof text, "%d/task/%d", process->id, thread_current()->tid);
    size_t bytes = (size_t)length < size ? (size_t)length : size;
    memcpy(buffer, text, bytes);
    return (int64_t)bytes;
}

static int64_t
mounts_read_link(struct inode *inode, char *buffer, size_t size)
{
    static const char target[] = "self/mounts";
    size_t bytes = sizeof target - 1 < size ? sizeof target - 1 : size;

    (void)inode;
    memcpy(buffer, target, bytes);
    return (int64_t)bytes;
}

static const struct inode_ops self_ops = {.read_link = self_read_link};
static const struct inode_ops thread_self_ops = {.read_link = thread_self_read_link};
static const struct inode_ops mounts_ops = {.read_link = mounts_read_link};

static const struct text_node machine_nodes[] = {
    {.name = "meminfo", .mode = 0444, .show = show_meminfo},
    {.name = "vmstat", .mode = 0444, .show = show_vmstat},
    {.name = "buddyinfo", .mode = 0444, .show = show_buddyinfo},
    {.name = "pagetypeinfo", .mode = 0400, .show = show_pagetypeinfo},
    {.name = "zoneinfo", .mode = 0444, .show = show_zoneinfo},
    {.name = "slabinfo", .mode = 0400, .show = show_slabinfo},
    {.name = "vmallocinfo", .mode = 0400, .show = show_vmallocinfo},
    {.name = "iomem", .mode = 0400, .show = show_iomem},
    {.name = "kpagecount", .mode = 0400, .ops = &proc_frame_counts_ops},
    {.name = "kpageflags", .mode = 0400, .ops = &proc_frame_flags_ops},
    {.name = "cpuinfo", .mode = 0444, .show = show_cpuinfo},
    {.name = "stat", .mode = 0444, .show = show_stat},
    {.name = "uptime", .mode = 0444, .show = show_uptime},
    {.name = "loadavg", .mode = 0444, .show = show_loadavg},
    {.name = "version", .mode = 0444, .show = show_version},
    {.name = "cmdline", .mode = 0444, .show = show_cmdline},
    {.name = "cgroups", .mode = 0444, .show = show_cgroups},
    {.name = "swaps", .mode = 0444, .show = show_swaps},
    {.name = "filesystems", .mode = 0444, .show = show_filesystems},
    {.name = "devices", .mode = 0444, .show = show_devices},
    {.name = "partitions", .mode = 0444, .show = show_partitions},
    {.name = "diskstats", .mode = 0444, .show = show_diskstats},
    {.name = "self", .mode = S_IFLNK | 0777, .inode_ops = &self_ops},
    {.name = "thread-self", .mode = S_IFLNK | 0777, .inode_ops = &thread_self_ops},
    {.name = "mounts", .mode = S_IFLNK | 0777, .inode_ops = &mounts_ops},
};

/* ---- /proc/sys ------------------------------------------------------------------------------------ */

#define CONSTANT_NODE(name, text)                                                       \
    static void show_##name(const struct text_target *target, struct qr_writer *writer) \
    {                                                                                   \
        (void)target;                                                                   \
        qr_writer_printf(writer, "%s\n", text);                                         \
    }

CONSTANT_NODE(ostype, "Linux")
CONSTANT_NODE(osrelease, KERNEL_RELEASE)
CONSTANT_NODE(sys_version, "#1 SMP")
CONSTANT_NODE(pid_max, "32768")
CONSTANT_NODE(threads_max, "8192")
CONSTANT_NODE(randomize, "2")
CONSTANT_NODE(ngroups_max, "65536")
CONSTANT_NODE(cap_last_cap, "40")

static void
show_boot_id(const struct text_target *target, struct qr_writer *writer)
{
    static _Atomic uint64_t id[2];

    (void)target;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t expected = 0;

        atomic_compare_exchange_strong(&id[i], &expected, arch_random() | 1);
    }
    uint64_t a = atomic_load(&id[0]), b = atomic_load(&id[1]);
    qr_writer_printf(writer, "%08x-%04x-4%03x-%04x-%04x%08x\n", (unsigned)(a >> 32),
                     (unsigned)(a >> 16) & 0xffffu, (unsigned)a & 0xfffu,
                     ((unsigned)(b >> 48) & 0x3fffu) | 0x8000u, (unsigned)(b >> 32) & 0xffffu,
                     (unsigned)b);
}

static const struct text_node kernel_nodes[] = {
    {.name = "ostype", .mode = 0444, .show = show_ostype},
    {.name = "osrelease", .mode = 0444, .show = show_osrelease},
    {.name = "version", .mode = 0444, .show = show_sys_version},
    {.name = "pid_max", .mode = 0444, .show = show_pid_max},
    {.name = "threads-max", .mode = 0444, .show = show_threads_max},
    {.name = "randomize_va_space", .mode = 0444, .show = show_randomize},
    {.name = "ngroups_max", .mode = 0444, .show = show_ngroups_max},
    {.name = "cap_last_cap", .mode = 0444, .show = show_cap_last_cap},
};

static const struct text_node pressure_nodes[] = {
    {.name = "memory", .mode = 0644, .inode_ops = &pressure_inode_ops},
};

static const struct text_node random_nodes[] = {
    {.name = "boot_id", .mode = 0444, .show = show_boot_id},
};

/* ---- the root ----------------------------------------------------------------------------------------- */

static int64_t
root_lookup(struct dentry *directory, const char *name, size_t length, struct dentry **out)
{
    uint64_t id;

    if (length > 9 || name[0] == '0' || decimal_parse(name, length, &id) != length) {
        return -ENOENT;
    }
    return proc_pid_lookup(directory, name, length, (int32_t)id, out);
}

static void
root_list(struct dentry *directory, uint64_t position, struct directory_emit *emit)
{
    int32_t from = (int32_t)(position - LIST_GENERATED);
    char name[16];

    (void)directory;
    for (unsigned i = 0; i < PID_LIMIT; i++) {
        struct process *process = process_next(from);

        if (process == NULL) {
            return;
        }
        int32_t id = process->id;
        process_put(process);
        int length = snprintf(name, sizeof name, "%d", id);
        if (!emit->entry(emit, name, (size_t)length, proc_pid_inode_number(id, 0), S_IFDIR,
                         LIST_GENERATED + (uint64_t)id + 1)) {
            return;
        }
        from = id + 1;
    }
}

static const struct inode_ops root_ops = {.lookup = root_lookup, .list = root_list};

static bool
subtree_add(struct dentry *parent, const char *name, const struct text_node *nodes, size_t count)
{
    struct dentry *directory = text_directory_add(parent, name);

    return directory != NULL && text_nodes_add(directory, nodes, count);
}

static bool
sys_tree_add(struct dentry *root)
{
    struct dentry *sys = text_directory_add(root, "sys");

    if (sys != NULL) {
        sys->inode->binds_root = true; /* and so do those below */
    }
    struct dentry *kernel = sys == NULL ? NULL : text_directory_add(sys, "kernel");
    struct dentry *vm = sys == NULL ? NULL : text_directory_add(sys, "vm");
    struct dentry *fs = sys == NULL ? NULL : text_directory_add(sys, "fs");

    return kernel != NULL && text_nodes_add(kernel, kernel_nodes, QR_ARRAY_COUNT(kernel_nodes)) &&
           proc_core_add(kernel) && proc_ipc_add(root, kernel) && proc_net_add(root) &&
           subtree_add(root, "pressure", pressure_nodes, QR_ARRAY_COUNT(pressure_nodes)) &&
           subtree_add(kernel, "random", random_nodes, QR_ARRAY_COUNT(random_nodes)) &&
           vm != NULL && proc_vm_add(vm) &&
           text_nodes_add(vm, writeback_nodes, QR_ARRAY_COUNT(writeback_nodes)) &&
           hugetlb_sysctls_add(vm) && fs != NULL && proc_fs_add(fs);
}

static int64_t
procfs_mount(const struct superblock_type *type, const char *options, struct superblock **out)
{
    struct superblock *superblock;
    int64_t error = text_filesystem_create(type, &root_ops, &superblock);

    (void)options;
    if (error != 0) {
        return error;
    }
    tree_lock_write();
    bool done = text_nodes_add(superblock->root, machine_nodes, QR_ARRAY_COUNT(machine_nodes)) &&
                sys_tree_add(superblock->root);
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

const struct superblock_type procfs_type = {
    .name = "proc", .magic = PROC_MAGIC, .single = true, .create = procfs_mount};
