/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID: generated directories.
 *
 * Nothing in here exists before somebody looks it up, and nothing keeps a process alive: an inode
 * remembers numbers (`key`: process, `key_more`: thread or descriptor), and each use looks the
 * process up again.  A process that is gone answers ESRCH, or ENOENT for its directory.
 *
 *      /proc/PID            process_nodes, fd, task
 *      /proc/PID/fd         one link for each open descriptor
 *      /proc/PID/fdinfo     one file for each
 *      /proc/PID/task       one directory for each thread, with process_nodes again
 */

#include "proc_pid.h"

#include <quire/report.h>

#include "arch.h"
#include "fd_table.h"
#include "memory.h"
#include "merge.h"
#include "proc.h"
#include "text.h"
#include "tty.h"

enum { FD_INODES = 512, FDINFO_INODES = 1 << 15 };

/* In 32 bits, or readdir() of a 32-bit program fails; the last descriptors share numbers. */
uint64_t
proc_pid_inode_number(int32_t id, uint32_t which)
{
    QR_STATIC_ASSERT(PID_LIMIT <= 1 << 15, "the number of a process has 15 bits here");
    return (uint32_t)1 << 31 | (uint32_t)id << 16 | (which & 0xffff);
}

/* ---- links that lead to things --------------------------------------------------------------- */

enum link_kind { LINK_CWD, LINK_ROOT };

/* The process that a link is about, for who may look into it.  @return 0, -ENOENT, -EACCES */
static int64_t
link_process(const struct inode *inode, struct process **out)
{
    struct process *process = process_find((int32_t)inode->key);

    if (process == NULL) {
        return -ENOENT;
    }
    if (!process_may_look(process)) {
        process_put(process);
        return -EACCES;
    }
    *out = process;
    return 0;
}

static int64_t
place_follow(struct inode *inode, enum link_kind kind, struct dentry **out)
{
    struct dentry *root, *current;
    struct process *process;
    int64_t error = link_process(inode, &process);

    if (error != 0) {
        return error;
    }
    struct fs_context *fs = process_fs(process);
    process_put(process);
    if (fs == NULL) {
        return -ENOENT;
    }
    fs_context_get(fs, &root, &current);
    fs_context_put(fs);
    *out = kind == LINK_ROOT ? root : current;
    dentry_put(kind == LINK_ROOT ? current : root);
    return 0;
}

static int64_t
cwd_follow(struct inode *inode, struct dentry **out)
{
    return place_follow(inode, LINK_CWD, out);
}

static int64_t
root_follow(struct inode *inode, struct dentry **out)
{
    return place_follow(inode, LINK_ROOT, out);
}

static int64_t
file_follow(struct file *file, struct dentry **out)
{
    *out = file->dentry;
    dentry_ref(*out);
    file_put(file);
    return 0;
}

/* With a reference. */
static int64_t
exe_file(const struct inode *inode, struct file **out)
{
    struct process *process;
    int64_t error = link_process(inode, &process);

    if (error != 0) {
        return error;
    }
    struct mm *mm = mm_of_process(process);
    process_put(process);
    *out = mm == NULL ? NULL : mm->exe;
    if (*out != NULL) {
        file_ref(*out);
    }
    if (mm != NULL) {
        mm_put(mm);
    }
    return *out == NULL ? -ENOENT : 0;
}

static int64_t
exe_follow(struct inode *inode, struct dentry **out)
{
    struct file *file;
    int64_t error = exe_file(inode, &file);

    return error != 0 ? error : file_follow(file, out);
}

static int64_t
descriptor_file(const struct inode *inode, struct file **out)
{
    struct process *process;
    int64_t error = link_process(inode, &process);

    if (error != 0) {
        return error;
    }
    struct fd_table *files = process_files(process);
    process_put(process);
    *out = NULL;
    if (files != NULL) {
        *out = fd_table_get(files, (int)inode->key_more);
        fd_table_put(files);
    }
    return *out == NULL ? -ENOENT : 0;
}

static int64_t
descriptor_follow(struct inode *inode, struct dentry **out)
{
    struct file *file;
    int64_t error = descriptor_file(inode, &file);

    return error != 0 ? error : file_follow(file, out);
}

/* Text of a link to @file; drops the reference. */
static int64_t
file_link_text(struct file *file, char *buffer, size_t size)
{
    char *path = kmem_alloc(PATH_MAX);
    int64_t result = -ENOMEM;

    if (path != NULL) {
        const char *text = file_path(file, path, PATH_MAX);
        size_t length = strlen(text);

        length = length < size ? length : size;
        memcpy(buffer, text, length);
        result = (int64_t)length;
        kmem_free(path);
    }
    file_put(file);
    return result;
}

static int64_t
exe_read_link(struct inode *inode, char *buffer, size_t size)
{
    struct file *file;
    int64_t error = exe_file(inode, &file);

    return error != 0 ? error : file_link_text(file, buffer, size);
}

static int64_t
descriptor_read_link(struct inode *inode, char *buffer, size_t size)
{
    struct file *file;
    int64_t error = descriptor_file(inode, &file);

    return error != 0 ? error : file_link_text(file, buffer, size);
}

static int64_t
place_read_link(struct inode *inode, enum link_kind kind, char *buffer, size_t size)
{
    struct dentry *dentry;
    int64_t error = place_follow(inode, kind, &dentry);

    if (error != 0) {
        return error;
    }
    char *path = kmem_alloc(PATH_MAX);
    if (path == NULL) {
        dentry_put(dentry);
        return -ENOMEM;
    }
    bool reachable;
    struct dentry *root = current_root();
    tree_lock_read();
    const char *text = dentry_path(dentry, root, path, PATH_MAX, &reachable);
    tree_unlock_read();
    dentry_put(root);
    dentry_put(dentry);
    if (text == NULL) {
        error = -ENAMETOOLONG;
    } else {
        size_t length = strlen(text);

        length = length < size ? length : size;
        memcpy(buffer, text, length);
        error = (int64_t)length;
    }
    kmem_free(path);
    return error;
}

static int64_t
cwd_read_link(struct inode *inode, char *buffer, size_t size)
{
    return place_read_link(inode, LINK_CWD, buffer, size);
}

static int64_t
root_read_link(struct inode *inode, char *buffer, size_t size)
{
    return place_read_link(inode, LINK_ROOT, buffer, size);
}

static const struct inode_ops cwd_ops = {.follow = cwd_follow, .read_link = cwd_read_link};
static const struct inode_ops root_ops = {.follow = root_follow, .read_link = root_read_link};
static const struct inode_ops exe_ops = {.follow = exe_follow, .read_link = exe_read_link};
static const struct inode_ops descriptor_ops = {.follow = descriptor_follow,
                                                .read_link = descriptor_read_link};

/* ---- directories -------------------------------------------------------------------------------- */

static const struct inode_ops fd_directory_ops;
static const struct inode_ops fdinfo_directory_ops;
static const struct inode_ops task_directory_ops;
static const struct inode_ops process_directory_ops;

static const struct text_node process_nodes[] = {
    {.name = "maps", .mode = 0444, .show_from = proc_show_maps, .inspects = true},
    {.name = "smaps", .mode = 0444, .show_from = proc_show_smaps, .inspects = true},
    {.name = "smaps_rollup", .mode = 0444, .show = proc_show_smaps_rollup, .inspects = true},
    {.name = "numa_maps", .mode = 0444, .show_from = proc_show_numa_maps, .inspects = true},
    {.name = "statm", .mode = 0444, .show = proc_show_statm},
    {.name = "status", .mode = 0444, .show = proc_show_status},
    {.name = "stat", .mode = 0444, .show = proc_show_stat},
    {.name = "cmdline", .mode = 0444, .show = proc_show_cmdline},
    {.name = "comm", .mode = 0444, .show = proc_show_comm},
    {.name = "environ", .mode = 0400, .show = proc_show_environ, .inspects = true},
    {.name = "auxv", .mode = 0400, .show = proc_show_auxv, .inspects = true},
    {.name = "limits", .mode = 0444, .show = proc_show_limits},
    {.name = "io", .mode = 0400, .show = proc_show_io, .inspects = true},
    {.name = "cgroup", .mode = 0444, .show = proc_show_cgroup},
#ifdef CONFIG_MERGE
    {.name = "ksm_merging_pages", .mode = 0400, .show = proc_show_ksm_merging_pages},
    {.name = "ksm_stat", .mode = 0400, .show = proc_show_ksm_stat},
#endif
    {.name = "coredump_filter",
     .mode = 0644,
     .show = proc_show_coredump_filter,
     .store = proc_store_coredump_filter},
    {.name = "oom_score", .mode = 0444, .show = proc_show_oom_score},
    {.name = "oom_score_adj",
     .mode = 0644,
     .show = proc_show_oom_score_adj,
     .store = proc_store_oom_score_adj},
    {.name = "mounts", .mode = 0444, .show = proc_show_mounts},
    {.name = "mountinfo", .mode = 0444, .show = proc_show_mountinfo},
    {.name = "clear_refs", .mode = 0200, .store = proc_store_clear_refs},
    {.name = "pagemap",
     .mode = 0400,
     .ops = &proc_pagemap_ops,
     .open = proc_memory_open,
     .inspects = true},
    {.name = "mem", .mode = 0600, .ops = &proc_mem_ops, .open = proc_memory_open, .inspects = true},
    {.name = "fail-nth", .mode = 0600, .ops = &proc_fail_nth_ops},
    {.name = "exe", .mode = S_IFLNK | 0777, .inode_ops = &exe_ops},
    {.name = "cwd", .mode = S_IFLNK | 0777, .inode_ops = &cwd_ops},
    {.name = "root", .mode = S_IFLNK | 0777, .inode_ops = &root_ops},
    {.name = "fd", .mode = S_IFDIR | 0500, .inode_ops = &fd_directory_ops},
    {.name = "fdinfo", .mode = S_IFDIR | 0555, .inode_ops = &fdinfo_directory_ops},
    {.name = "task", .mode = S_IFDIR | 0555, .inode_ops = &task_directory_ops}, /* last */
};

/* A thread's directory has all of them but `task`. */
static size_t
process_node_count(const struct inode *inode)
{
    return QR_ARRAY_COUNT(process_nodes) - (inode->key_more != 0);
}

/* The process's user; root where that may not look into it, but for directories that all may read. */
static void
inode_set_owner(struct inode *inode, struct process *process)
{
    struct mm *mm = mm_of_process(process);
    bool may = mm == NULL || mm->dumpable || (inode->mode & 07777) == 0555;

    inode->uid = may ? process->credentials.euid : 0;
    inode->gid = may ? process->credentials.egid : 0;
    if (mm != NULL) {
        mm_put(mm);
    }
}

/* A generated child. */
static int64_t
child_make(struct dentry *directory, const char *name, size_t length, const struct text_node *node,
           uint64_t key, uint64_t key_more, uint64_t number, struct dentry **out)
{
    struct inode *inode = text_inode_create(directory->superblock, node);

    if (inode == NULL) {
        return -ENOMEM;
    }
    struct process *process = process_find((int32_t)key);
    if (process != NULL) {
        inode_set_owner(inode, process);
        process_put(process);
    }
    inode->key = key;
    inode->key_more = key_more;
    inode->number = number;
    struct dentry *dentry = dentry_create(directory, name, length, inode);
    inode_put(inode);
    if (dentry == NULL) {
        return -ENOMEM;
    }
    dentry->generated = true;
    *out = dentry;
    return 0;
}

static bool
process_exists(int32_t id)
{
    struct process *process = process_find(id);

    if (process == NULL) {
        return false;
    }
    process_put(process);
    return true;
}

static int64_t
process_lookup(struct dentry *directory, const char *name, size_t length, struct dentry **out)
{
    struct inode *inode = directory->inode;

    if (!process_exists((int32_t)inode->key)) {
        return -ENOENT;
    }
    for (unsigned i = 0; i < process_node_count(inode); i++) {
        const struct text_node *node = &process_nodes[i];

        if (strlen(node->name) == length && memcmp(node->name, name, length) == 0) {
            return child_make(directory, name, length, node, inode->key, inode->key_more,
                              inode->number + i + 1, out);
        }
    }
    return -ENOENT;
}

static void
process_list(struct dentry *directory, uint64_t position, struct directory_emit *emit)
{
    for (uint64_t i = position - LIST_GENERATED; i < process_node_count(directory->inode); i++) {
        const struct text_node *node = &process_nodes[i];

        if (!emit->entry(emit, node->name, strlen(node->name), directory->inode->number + i + 1,
                         node->mode & S_IFMT ? node->mode : S_IFREG, LIST_GENERATED + i + 1)) {
            return;
        }
    }
}

static const struct inode_ops process_directory_ops = {.lookup = process_lookup,
                                                       .list = process_list};

int64_t
proc_pid_lookup(struct dentry *directory, const char *name, size_t length, int32_t id,
                struct dentry **out)
{
    static const struct text_node node = {.mode = S_IFDIR | 0555,
                                          .inode_ops = &process_directory_ops};

    if (!process_exists(id)) {
        return -ENOENT;
    }
    return child_make(directory, name, length, &node, (uint64_t)id, 0, proc_pid_inode_number(id, 0),
                      out);
}

/* ---- /proc/PID/fd, /proc/PID/fdinfo ------------------------------------------------------------------ */

static struct fd_table *
inode_files(const struct inode *inode)
{
    struct process *process = process_find((int32_t)inode->key);
    struct fd_table *files = process == NULL ? NULL : process_files(process);

    if (process != NULL) {
        process_put(process);
    }
    return files;
}

static int64_t
descriptor_lookup(struct dentry *directory, const char *name, size_t length,
                  const struct text_node *node, uint32_t inodes, struct dentry **out)
{
    uint64_t fd;

    if (decimal_parse(name, length, &fd) != length || fd >= FD_LIMIT) {
        return -ENOENT;
    }
    struct fd_table *files = inode_files(directory->inode);
    if (files == NULL) {
        return -ENOENT;
    }
    bool is_open = fd_table_next(files, (int)fd) == (int)fd;
    fd_table_put(files);
    if (!is_open) {
        return -ENOENT;
    }
    return child_make(directory, name, length, node, directory->inode->key, fd,
                      proc_pid_inode_number((int32_t)directory->inode->key, inodes + (uint32_t)fd),
                      out);
}

static int64_t
fd_lookup(struct dentry *directory, const char *name, size_t length, struct dentry **out)
{
    static const struct text_node node = {.mode = S_IFLNK | 0700, .inode_ops = &descriptor_ops};

    return descriptor_lookup(directory, name, length, &node, FD_INODES, out);
}

static int64_t
fdinfo_lookup(struct dentry *directory, const char *name, size_t length, struct dentry **out)
{
    static const struct text_node node = {
        .mode = 0444, .show = proc_show_fdinfo, .inspects = true, .of_descriptor = true};

    return descriptor_lookup(directory, name, length, &node, FDINFO_INODES, out);
}

static void
descriptor_list(struct dentry *directory, uint64_t position, struct directory_emit *emit,
                uint32_t inodes, uint32_t type)
{
    struct fd_table *files = inode_files(directory->inode);
    char name[16];

    if (files == NULL) {
        return;
    }
    int fd = fd_table_next(files, (int)(position - LIST_GENERATED));
    while (fd >= 0) {
        int length = snprintf(name, sizeof name, "%d", fd);

        if (!emit->entry(
                emit, name, (size_t)length,
                proc_pid_inode_number((int32_t)directory->inode->key, inodes + (uint32_t)fd), type,
                LIST_GENERATED + (uint64_t)fd + 1)) {
            break;
        }
        fd = fd_table_next(files, fd + 1);
    }
    fd_table_put(files);
}

static void
fd_list(struct dentry *directory, uint64_t position, struct directory_emit *emit)
{
    descriptor_list(directory, position, emit, FD_INODES, S_IFLNK);
}

static void
fdinfo_list(struct dentry *directory, uint64_t position, struct directory_emit *emit)
{
    struct process *process;

    if (link_process(directory->inode, &process) == 0) {
        descriptor_list(directory, position, emit, FDINFO_INODES, S_IFREG);
        process_put(process);
    }
}

static const struct inode_ops fdinfo_directory_ops = {.lookup = fdinfo_lookup, .list = fdinfo_list};

/* One's own descriptors, even where memory may not be dumped and the files are user 0's. */
static bool
fd_allows(const struct inode *inode, unsigned wish)
{
    const struct process *process = process_current();

    (void)wish;
    return process != NULL && inode->key == (uint64_t)process->id;
}

static const struct inode_ops fd_directory_ops = {
    .lookup = fd_lookup, .list = fd_list, .allows = fd_allows};

/* ---- /proc/PID/task ------------------------------------------------------------------------------------ */

static int64_t
task_lookup(struct dentry *directory, const char *name, size_t length, struct dentry **out)
{
    static const struct text_node node = {.mode = S_IFDIR | 0555,
                                          .inode_ops = &process_directory_ops};
    uint64_t key = directory->inode->key, tid;

    if (decimal_parse(name, length, &tid) != length || tid >= PID_LIMIT) {
        return -ENOENT;
    }
    struct thread *thread = thread_find((int32_t)tid);
    if (thread == NULL) {
        return -ENOENT;
    }
    bool belongs = thread->process != NULL && (uint64_t)thread->process->id == key;
    thread_put(thread);
    if (!belongs) {
        return -ENOENT;
    }
    return child_make(directory, name, length, &node, key, tid,
                      proc_pid_inode_number((int32_t)tid, 256), out);
}

static void
task_list(struct dentry *directory, uint64_t position, struct directory_emit *emit)
{
    struct process *process = process_find((int32_t)directory->inode->key);
    int32_t from = (int32_t)(position - LIST_GENERATED);
    char name[16];

    if (process == NULL) {
        return;
    }
    for (unsigned i = 0; i < THREADS_LIMIT; i++) {
        struct thread *thread = thread_next(process, from);

        if (thread == NULL) {
            break;
        }
        int32_t tid = thread->tid;
        thread_put(thread);
        int length = snprintf(name, sizeof name, "%d", tid);
        if (!emit->entry(emit, name, (size_t)length, proc_pid_inode_number(tid, 256), S_IFDIR,
                         LIST_GENERATED + (uint64_t)tid + 1)) {
            break;
        }
        from = tid + 1;
    }
    process_put(process);
}

static const struct inode_ops task_directory_ops = {.lookup = task_lookup, .list = task_list};
