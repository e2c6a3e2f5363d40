/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_VFS_H
#define KERNEL_VFS_H

#include <stddef.h>
#include <stdint.h>

#include "file.h"

/*
 * Names: start-up, paths, and what a process knows about them (root, current
 * directory, file mode mask).  The structures behind it are private to kernel/fs.
 */

struct dentry;

enum {
    PATH_MAX = 4096,  /**< bytes of a path, its terminator included */
    NAME_MAX = 255,   /**< bytes of one component */
    SYMLINK_MAX = 40, /**< symbolic links followed in one walk: ELOOP beyond */
    AT_FDCWD = -100
};

/**
 * Build the root file system: tmpfs at /, the archive unpacked into it, /dev, /proc and /sys
 * mounted unless the archive brought something else there.
 *
 * @param archive  a cpio "newc" archive, possibly several concatenated; may be NULL.
 *                Hostile or truncated input is reported on the console and what was good stays.
 * Panics only where there is not even memory for the root.
 */
void fs_init(const void *archive, size_t bytes);

/** The machine stops: what is mounted from disks is brought in order and becomes read-only. */
void vfs_close_disks(void);

/* ---- what a process holds ----------------------------------------------- */

/** Root, current directory, umask: shared by CLONE_FS. */
struct fs_context;

/** The first one: "/", "/", 022. NULL without memory. */
struct fs_context *fs_context_create(void);
void fs_context_ref(struct fs_context *context);
void fs_context_put(struct fs_context *context);
/** A copy for fork(). NULL without memory. */
struct fs_context *fs_context_clone(struct fs_context *context);

/* ---- paths from inside the kernel ------------------------------------------ */

/**
 * Open a path held in kernel memory, relative to the current process's root and directory
 * (the global root when there is no current process).
 *
 * @param flags  O_*; @param mode for O_CREAT, umask applied
 * @param out_file  one reference; untouched on failure
 * @return 0 or -errno
 */
int64_t vfs_open_path(const char *path, uint32_t flags, uint32_t mode, struct file **out_file);

/** The same, relative to directory @dirfd; for execveat with AT_EMPTY_PATH pass "". */
int64_t vfs_open_path_at(int dirfd, const char *path, uint32_t flags, uint32_t mode,
                         struct file **out_file);

/**
 * Open a file for execution: regular, some execute bit set, not on a noexec mount.
 * @return 0; -ENOENT, -ENOTDIR, -EACCES, -ELOOP, -ENAMETOOLONG, -ENOMEM …
 */
int64_t vfs_open_exec(int dirfd, const char *path, uint32_t at_flags, struct file **out_file);

/**
 * Copy a path argument from user space into a PATH_MAX buffer obtained from the heap.
 * Free it with path_free(). @return 0; -EFAULT, -ENAMETOOLONG, -ENOMEM (and -ENOENT if empty)
 */
int64_t path_from_user(uint64_t user_path, char **out_path);
void path_free(char *path);

/**
 * A new, empty, regular file at @path for a core file, in place of whatever file or link had that name.
 * @return 0 or -errno; -EPERM: it is not ours alone
 */
int64_t vfs_create_core(const char *path, struct file **out_file);

/** An anonymous file in memory: memfd_create(). */
int64_t vfs_create_memfd(const char *name, uint32_t flags, struct file **out_file);
/** Another one, of @bytes: its inode has its object.  @label is its path in /proc/PID/maps. */
int64_t vfs_create_memory_file(const char *label, uint64_t bytes, struct file **out_file);

/** Open /dev/console three times as descriptors 0, 1, 2 of the current process (for init). */
int64_t vfs_open_console(void);

#endif
