/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_TEXT_H
#define KERNEL_FS_TEXT_H

#include <quire/writer.h>

#include "fs.h"

struct mm;
struct process;
struct thread;
struct qr_report;

/** What a generated file is about: nothing for the machine, or a process and perhaps a thread. */
struct text_target {
    struct process *process; /* alive while the call runs; NULL: the machine */
    struct thread *thread;   /* for /proc/PID/task/TID */
    struct mm *mm;           /* of a node that inspects: what there was at open; NULL: gone */
    const struct mm *held;   /* that, gone or not; NULL: a zombie's */
    const struct inode *inode;
};

/** A generated file: one row in a table. */
struct text_node {
    const char *name;
    uint32_t mode; /* permissions; with a type for links and directories, else a file */
    void (*show)(const struct text_target *target, struct qr_writer *writer);
    /** Instead of show, for long texts about memory: adds what lies from @from on, as much as fits of whole
     *  lines, and moves @from behind it. @return whether there is more; if nothing fitted, for a larger one */
    bool (*show_from)(const struct text_target *target, qr_va *from, struct qr_buffer_writer *out);
    /** Takes a terminated text of @length bytes. @return 0, or how much of it was taken; -errno */
    int64_t (*store)(const struct text_target *target, const char *text, size_t length);
    const struct file_ops *ops;         /* instead of show: a file of its own kind */
    int64_t (*open)(struct file *file); /* of that kind: sets its context. @return 0 or -errno */
    const struct inode_ops *inode_ops;  /* instead of the plain ones: links, directories */
    bool inspects;                      /* opened only by who may look into the process's memory */
    bool only_first;                    /* what is not written at the start is taken and ignored */
    bool of_descriptor;                 /* key_more is a descriptor's number, not a thread's */
};

/** A writer into memory that grows. Nothing else knows its length limit. */
struct text_writer {
    struct qr_writer writer; /* first */
    char *data;
    size_t length, capacity;
    int64_t error; /* 0, or -errno: the text is not complete */
};

void text_writer_init(struct text_writer *text);
void text_writer_free(struct text_writer *text);
/** What is shown is not complete, and reading it is @error; @writer is a show function's. */
void text_writer_fail(struct qr_writer *writer, int64_t error);

/** Inode for @node; NULL without memory. */
struct inode *text_inode_create(struct superblock *superblock, const struct text_node *node);
/** Add one node below @directory; its inode's key_more is @key. T held for writing. */
bool text_node_add(struct dentry *directory, const char *name, const struct text_node *node,
                   uint64_t key);
/** Add nodes below @directory. T held for writing. @return false without memory */
bool text_nodes_add(struct dentry *directory, const struct text_node *nodes, size_t count);
/** A directory below @directory, or NULL. T held for writing. */
struct dentry *text_directory_add(struct dentry *directory, const char *name);
/** The directory at @names below @root, made as needed, or NULL. T held for writing. */
struct dentry *text_path_add(struct dentry *root, const char *const *names, size_t count);
/** A file system of generated files: its root alone. @return 0 or -ENOMEM */
int64_t text_filesystem_create(const struct superblock_type *type, const struct inode_ops *root_ops,
                               struct superblock **out);

/** The inode ops of plain generated files, and the file ops behind `show`. */
extern const struct inode_ops text_inode_ops;
extern const struct file_ops text_file_ops;
/** The memory that the process of @inode has now, for mm_release(); NULL for a zombie. @return 0 or -errno */
int64_t text_memory_hold(const struct inode *inode, struct mm **out_mm);
/** Cutting a generated file off changes nothing. */
int64_t text_truncate(struct file *file, uint64_t size);

/** What the reports of the library are about, in this kernel. */
const struct qr_report *kernel_report(void);

/** Decimal number at @text. @return bytes used, 0 where there is none or it is too large */
size_t decimal_parse(const char *text, size_t length, uint64_t *out);
/** The text is one up to @most, perhaps with a line end. @return 0 or -EINVAL */
int64_t text_number(const char *text, size_t length, uint64_t most, uint64_t *out);

#endif
