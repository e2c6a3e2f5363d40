/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FILE_H
#define KERNEL_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/lock.h>

#include "arch_abi.h"
#include "io.h"

/*
 * Open files and the tables that number them.
 *
 * A `struct file` is one open(): flags, position, a table of operations.  It is
 * reference-counted: each descriptor holds one, a system call in progress holds
 * one, a mapping of the file holds one.  A `struct fd_table` maps descriptors to
 * files; CLONE_FILES shares it, fork copies it.
 *
 * All functions that can fail return a negative Linux error number (abi_errno.h).
 */

struct inode;
struct dentry;
struct direct_target;
struct poll_table;
struct qr_object;
struct fd_table;
struct qr_writer;

/* Open flags: the x86-64 (asm-generic) values. */
#define O_ACCMODE  00000003
#define O_RDONLY   00000000
#define O_WRONLY   00000001
#define O_RDWR     00000002
#define O_CREAT    00000100
#define O_EXCL     00000200
#define O_NOCTTY   00000400
#define O_TRUNC    00001000
#define O_APPEND   00002000
#define O_NONBLOCK 00004000
#define O_DSYNC    00010000
#define O_ASYNC    00020000
#define O_NOATIME  01000000
#define O_CLOEXEC  02000000
#define O_SYNC     (04000000 | O_DSYNC)
#define O_PATH     010000000
#define O_TMPFILE  (020000000 | O_DIRECTORY)

struct file;

/** How mmap() gets at a file's memory; filled by file_mmap_object(). */
enum file_mapping_kind {
    FILE_MAPPING_OBJECT,   /**< map `object`: the page cache of the file */
    FILE_MAPPING_ANONYMOUS /**< /dev/zero: treat as MAP_ANONYMOUS with the same sharing */
};

struct file_mapping {
    enum file_mapping_kind kind;
    struct qr_object *object; /**< one reference, the caller's; NULL for FILE_MAPPING_ANONYMOUS */
    bool read_only;           /**< shared, and never to become writable (mprotect: EACCES) */
    bool no_execute;          /**< mounted so: never to become executable (mprotect: EACCES) */
};

enum file_sync {
    FILE_SYNC_DATA, /**< fdatasync(): times may stay behind */
    FILE_SYNC_ALL
};

/**
 * What one kind of file can do. A NULL entry answers with the error that Linux
 * gives for it. `position` is NULL for files that have none (FILE_STREAM).
 * All run in a thread, may sleep, and hold no lock of the file but the position lock.
 */
struct file_ops {
    const char *name;
    /** Fill @io from @position on; advance both. @return bytes, 0 at the end, or -errno. */
    int64_t (*read)(struct file *file, struct io *io, uint64_t *position);
    /** Drain @io to @position on (the end for O_APPEND); advance both. @return bytes or -errno. */
    int64_t (*write)(struct file *file, struct io *io, uint64_t *position);
    int64_t (*seek)(struct file *file, int64_t offset, int whence);
    /** Emit directory entries from file->position on. @return bytes, 0 at the end, or -errno. */
    int64_t (*read_directory)(struct file *file, struct io *io);
    int64_t (*ioctl)(struct file *file, uint32_t command, uint64_t argument);
    /** @return POLL* bits that hold now; registers on its wait queues when @table is not NULL. */
    uint32_t (*poll)(struct file *file, struct poll_table *table);
    int64_t (*truncate)(struct file *file, uint64_t size);
    int64_t (*allocate)(struct file *file, uint32_t mode, uint64_t offset, uint64_t length);
    int64_t (*mmap_object)(struct file *file, uint32_t prot, bool shared, struct file_mapping *out);
    /** A store through a shared mapping is where the file is kept: MAP_SYNC. */
    bool syncs_mappings;
    /**
     * Have bytes [first, last) on stable storage, and what it takes to find them.  NULL: there is
     * none.  @return 0 or -errno; a write that failed is reported once by each descriptor
     */
    int64_t (*sync)(struct file *file, uint64_t first, uint64_t last, enum file_sync how);
    /** The pages of it that are in memory; NULL: those of the inode. */
    struct qr_object *(*cached)(struct file *file);
    /** A region of the file came; its space is locked, so nothing may sleep long or map. */
    void (*mapped)(struct file *file);
    /** One went; no lock is held. */
    void (*unmapped)(struct file *file);
    /** Where its bytes lie on a disk (disk_file.h).  NULL: on none. */
    void (*place)(struct file *file, struct direct_target *out);
    /** Its own lines of /proc/PID/fdinfo; NULL: none. */
    void (*describe)(struct file *file, struct qr_writer *writer);
    /** Last reference gone: free `context`. Cannot fail. */
    void (*release)(struct file *file);
};

enum file_mode {
    FILE_READ = 1,      /**< opened for reading */
    FILE_WRITE = 2,     /**< opened for writing */
    FILE_STREAM = 4,    /**< no position: seek and pread answer ESPIPE */
    FILE_PATH_ONLY = 8, /**< O_PATH: names an inode, no I/O */
    FILE_EXEC = 16,     /**< opened for execution: the inode refuses writers */
    FILE_COUNTED = 32   /**< counts as a writer of its inode */
};

struct file {
    atomic_uint refs;
    atomic_uint flags; /**< O_APPEND, O_NONBLOCK, … as F_GETFL shows them, with the access mode */
    uint32_t mode;     /**< enum file_mode; constant after open */
    const struct file_ops *ops;
    struct inode *inode;           /**< one reference; never NULL */
    struct dentry *dentry;         /**< one reference; never NULL: where it was opened */
    void *context;                 /**< the kind's own */
    void *watchers;                /**< epoll items, under epoll's lock */
    _Atomic uint32_t write_errors; /**< of the file's object, when last looked at */
    uint64_t position;             /**< P */
    struct qr_mutex position_lock; /**< P: held during read, write, seek, getdents */
};

/* ---- references ------------------------------------------------------- */

/** Add a reference to a file that the caller already may use. */
void file_ref(struct file *file);

/** Open files that exist: for the leak check. */
unsigned file_count(void);
/** Sockets that exist: the same. */
unsigned socket_count(void);
/** A descriptor of a socket was closed: sockets that only messages in each other's queues refer to
 *  now are closed, too.  May sleep. */
void socket_collect(void);

/** Drop one; the last closes the file (may sleep). */
void file_put(struct file *file);

/**
 * The file behind a descriptor of the current process, with a reference.
 * @return NULL when there is none (EBADF). O_PATH files are returned by file_get_any() only.
 */
struct file *file_get(int fd);
struct file *file_get_any(int fd);

/* ---- use from the kernel ---------------------------------------------- */

/**
 * Read from @file at @offset into kernel memory, looping over short counts.
 * @return bytes (short only at the end of the file) or -errno.
 */
int64_t file_read_at(struct file *file, void *buffer, size_t n, uint64_t offset);

/** Write kernel memory to @file at @offset. @return bytes or -errno. */
int64_t file_write_at(struct file *file, const void *buffer, size_t n, uint64_t offset);

/** Is it a regular file, whose offsets have an end? */
bool file_is_regular(const struct file *file);

/** Has the last of its names been removed, or had it never one? */
bool file_is_nameless(const struct file *file);

/** Are pages of it kept from being dropped, by F_SEAL_WRITE or F_SEAL_FUTURE_WRITE? */
bool file_is_sealed(const struct file *file);

/** Are fs.file-max open, and the process is not privileged? */
bool file_is_last(void);

/** Size in bytes of a regular file; 0 for others. */
uint64_t file_size(const struct file *file);

/**
 * What mmap() should map. Checks the open mode against @prot (PROT_* of Linux), the mount and seals.
 * @return 0; -EACCES, -EPERM (mounted not to execute; sealed), -ENODEV for files that cannot be
 * mapped, -ENOMEM
 */
int64_t file_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out);

/** fsync() and its family for bytes [first, last). @return 0, -EINVAL (no such thing), -EIO … */
int64_t file_sync(struct file *file, uint64_t first, uint64_t last, enum file_sync how);

/** The pages of @file that are in memory, with a reference; NULL: it has none. */
struct qr_object *file_cached_object(struct file *file);

/** Device number and inode number, as /proc/PID/maps prints them. */
void file_identity(const struct file *file, uint32_t *out_major, uint32_t *out_minor,
                   uint64_t *out_inode);

/**
 * The path of an open file, terminated, " (deleted)" appended when it has no name any more.
 * @return a pointer into @buffer; at worst "(unreachable)"
 */
const char *file_path(const struct file *file, char *buffer, size_t size);

/* ---- descriptor tables ------------------------------------------------- */

/** Might the current process open the file for writing, however it was opened?  Or its owner's. */
bool file_could_be_written(const struct file *file);

/** fs.file-max: how many files may be open, but for CAP_SYS_ADMIN; fs.nr_open: descriptors of a process. */
extern _Atomic uint64_t file_max, file_nr_open;

enum { FD_LIMIT = 1048576 }; /**< what fs.nr_open can be at most, and is at first */

/** An empty table with one reference, or NULL without memory. */
struct fd_table *fd_table_create(void);

/** One more user (CLONE_FILES). */
void fd_table_ref(struct fd_table *table);

/** Whether anybody but the caller holds a reference: exec() then works on a copy. */
bool fd_table_is_shared(struct fd_table *table);

/** One user less; the last closes every file. May sleep. */
void fd_table_put(struct fd_table *table);

/** A copy for fork(); every file gains a reference. NULL without memory. */
struct fd_table *fd_table_clone(struct fd_table *table);

/** exec(): close what is marked O_CLOEXEC. The table must not be shared (unshare it first). */
void fd_table_close_on_exec(struct fd_table *table);

/** Number of open descriptors (for /proc and leak checks). */
size_t fd_table_count(struct fd_table *table);

/** The file behind @fd in @table with a reference, or NULL. */
struct file *fd_table_get(struct fd_table *table, int fd);

/** First descriptor >= @from in use, or -1. */
int fd_table_next(struct fd_table *table, int from);

/**
 * Give @file the lowest free descriptor >= @minimum in the current process.
 * Takes its own reference. @return the descriptor, -EMFILE, -EINVAL (minimum), -ENOMEM
 */
int fd_install(struct file *file, int minimum, bool close_on_exec);

/** Close one descriptor of the current process. @return 0 or -EBADF */
int fd_close(int fd);

#endif
