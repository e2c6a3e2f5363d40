/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PROC_PID_H
#define KERNEL_FS_PROC_PID_H

#include "fs.h"
#include "text.h"

/** The directory of process @id, generated below @directory. @return 0, -ENOENT, -ENOMEM */
int64_t proc_pid_lookup(struct dentry *directory, const char *name, size_t length, int32_t id,
                        struct dentry **out);

/** Inode number of the @which-th thing of a process; 0 is its directory. */
uint64_t proc_pid_inode_number(int32_t id, uint32_t which);

/* Contents, in proc_text.c. */

bool proc_show_maps(const struct text_target *target, qr_va *from, struct qr_buffer_writer *out);
bool proc_show_smaps(const struct text_target *target, qr_va *from, struct qr_buffer_writer *out);
bool proc_show_numa_maps(const struct text_target *target, qr_va *from,
                         struct qr_buffer_writer *out);
void proc_show_smaps_rollup(const struct text_target *target, struct qr_writer *writer);
void proc_show_statm(const struct text_target *target, struct qr_writer *writer);
void proc_show_status(const struct text_target *target, struct qr_writer *writer);
void proc_show_stat(const struct text_target *target, struct qr_writer *writer);
void proc_show_cmdline(const struct text_target *target, struct qr_writer *writer);
void proc_show_comm(const struct text_target *target, struct qr_writer *writer);
void proc_show_environ(const struct text_target *target, struct qr_writer *writer);
void proc_show_auxv(const struct text_target *target, struct qr_writer *writer);
void proc_show_limits(const struct text_target *target, struct qr_writer *writer);
void proc_show_io(const struct text_target *target, struct qr_writer *writer);
void proc_show_mounts(const struct text_target *target, struct qr_writer *writer);
void proc_show_mountinfo(const struct text_target *target, struct qr_writer *writer);
void proc_show_fdinfo(const struct text_target *target, struct qr_writer *writer);
void proc_show_cgroup(const struct text_target *target, struct qr_writer *writer);
void proc_show_coredump_filter(const struct text_target *target, struct qr_writer *writer);
int64_t proc_store_coredump_filter(const struct text_target *target, const char *text,
                                   size_t length);
void proc_show_oom_score(const struct text_target *target, struct qr_writer *writer);
void proc_show_oom_score_adj(const struct text_target *target, struct qr_writer *writer);
int64_t proc_store_oom_score_adj(const struct text_target *target, const char *text, size_t length);
int64_t proc_store_clear_refs(const struct text_target *target, const char *text, size_t length);
extern const struct file_ops proc_pagemap_ops;
extern const struct file_ops proc_frame_counts_ops, proc_frame_flags_ops; /* of the machine */
extern const struct file_ops proc_mem_ops;
extern const struct file_ops proc_fail_nth_ops;

/** lseek() in a file as long as an address space: from the start or from here. */
int64_t proc_seek_wide(struct file *file, int64_t offset, int whence);

/* mem and pagemap are about the memory that the process had when they were opened. */
int64_t proc_memory_open(struct file *file);
void proc_memory_release(struct file *file);
/** That memory with a reference; NULL: nobody has it any more. */
struct mm *proc_memory_of(const struct file *file);
/** Might who opened it know the numbers of frames? */
bool proc_memory_shows_frames(const struct file *file);

#endif
