/* SPDX-License-Identifier: MIT */
/*
 * /proc/sys/fs: how many files the machine and a process may have open.
 *
 * As on Linux, at first a tenth of the memory may go into open files, 1 KiB each.
 */
#include "memory.h"
#include "proc_vm.h"

#define FILE_MAX_LEAST 8192u /* that a small machine has */

static uint64_t
get_file_max(void)
{
    return atomic_load(&file_max);
}

static void
set_file_max(uint64_t value)
{
    atomic_store(&file_max, value);
}

static uint64_t
get_nr_open(void)
{
    return atomic_load(&file_nr_open);
}

static void
set_nr_open(uint64_t value)
{
    atomic_store(&file_nr_open, value);
}

static const struct proc_number numbers[] = {
    PROC_NUMBER("file-max", 0, INT64_MAX, file_max),
    PROC_NUMBER("nr_open", 8 * sizeof(long), FD_LIMIT, nr_open),
};

static void
show_file_nr(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%u\t0\t%llu\n", file_count(), (unsigned long long)get_file_max());
}

static void
show_pipe_max_size(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "1048576\n");
}

static const struct text_node nodes[] = {
    {.name = "file-nr", .mode = 0444, .show = show_file_nr},
    {.name = "pipe-max-size", .mode = 0444, .show = show_pipe_max_size},
};

bool
proc_fs_add(struct dentry *fs)
{
    struct qr_frames_stats frames;
    uint64_t files;

    qr_frames_stats(memory.frames, &frames);
    files = (uint64_t)frames.free * (FS_PAGE_BYTES / 1024) / 10;
    set_file_max(files > FILE_MAX_LEAST ? files : FILE_MAX_LEAST);
    return proc_numbers_add(fs, numbers, QR_ARRAY_COUNT(numbers)) &&
           text_nodes_add(fs, nodes, QR_ARRAY_COUNT(nodes));
}
