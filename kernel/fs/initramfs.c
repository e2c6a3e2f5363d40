/* SPDX-License-Identifier: MIT */
/*
 * Start-up: the root, the archive that came with the kernel, and the usual mounts.
 *
 * The archive is unpacked by the same calls that programs use, so nothing in it can do more than
 * a program could: "../.." stays below the root, long names are refused, a full memory ends it.
 * A member that cannot be made is reported and skipped; damage to the archive ends the unpacking
 * and keeps what was good.
 *
 * Hard links: members with the same inode number and more than one link are one file; its bytes
 * come with the last of them.  The names seen so far are kept in a list that lives as long as the
 * unpacking.
 */

#include <quire/assert.h>
#include <quire/frame.h>

#include "cpio.h"
#include "fs.h"
#include "memory.h"
#include "tmpfs.h"

struct superblock *anonymous_superblock;
struct dentry *fs_root;

uint64_t
fs_total_pages(void)
{
    struct qr_frames_stats stats;

    qr_frames_stats(memory.frames, &stats);
    return stats.total;
}

uint64_t
fs_free_pages(void)
{
    struct qr_frames_stats stats;

    qr_frames_stats(memory.frames, &stats);
    return stats.free;
}

/* ---- unpacking ---------------------------------------------------------------------- */

/* A file with several names of which one was made. */
struct linked_file {
    struct linked_file *next;
    uint32_t ids[3];
    struct inode *inode; /* one reference */
};

struct unpack {
    struct linked_file *linked;
    char *target; /* PATH_MAX bytes: text of a symbolic link */
    unsigned made;
    unsigned failed;
};

/* Archives name members "./bin/sh", "bin/sh" or "/bin/sh". "" is the root itself. */
static const char *
member_path(const char *name)
{
    for (;;) {
        if (name[0] == '/') {
            name++;
        } else if (name[0] == '.' && (name[1] == '/' || name[1] == '\0')) {
            name++;
        } else {
            return name;
        }
    }
}

/* Directories that the archive did not list: mkdir -p of all but the last component. */
static void
parents_make(const char *path)
{
    char *copy = dentry_name_copy(path, strlen(path));

    if (copy == NULL) {
        return;
    }
    for (char *at = strchr(copy, '/'); at != NULL; at = strchr(at + 1, '/')) {
        *at = '\0';
        name_create(AT_FDCWD, copy, S_IFDIR | 0755u, 0);
        *at = '/';
    }
    kmem_charged_free(copy);
}

static struct linked_file *
linked_find(struct unpack *unpack, const struct cpio_entry *entry)
{
    for (struct linked_file *file = unpack->linked; file != NULL; file = file->next) {
        if (file->ids[0] == entry->inode && file->ids[1] == entry->device_major &&
            file->ids[2] == entry->device_minor) {
            return file;
        }
    }
    return NULL;
}

static int64_t
linked_remember(struct unpack *unpack, const struct cpio_entry *entry, struct inode *inode)
{
    struct linked_file *file = kmem_zalloc(sizeof *file);

    if (file == NULL) {
        return -ENOMEM;
    }
    inode_ref(inode);
    file->inode = inode;
    file->ids[0] = entry->inode;
    file->ids[1] = entry->device_major;
    file->ids[2] = entry->device_minor;
    file->next = unpack->linked;
    unpack->linked = file;
    return 0;
}

static void
attributes_set(struct inode *inode, const struct cpio_entry *entry)
{
    inode->mode = (inode->mode & S_IFMT) | (entry->mode & 07777u);
    inode->uid = entry->uid;
    inode->gid = entry->gid;
    inode->modified = inode->accessed = (struct timespec){.seconds = entry->mtime};
}

static int64_t
member_file(struct unpack *unpack, const char *path, const struct cpio_entry *entry)
{
    struct linked_file *linked = entry->links > 1 ? linked_find(unpack, entry) : NULL;
    struct file *file;

    name_remove(AT_FDCWD, path, false);
    if (linked != NULL) {
        int64_t error = name_link(linked->inode, AT_FDCWD, path);

        if (error != 0) {
            return error;
        }
    }
    int64_t error = vfs_open_path(path, O_WRONLY | O_CREAT, 0600, &file);
    if (error != 0) {
        return error;
    }
    if (entry->data_bytes > 0) {
        int64_t put = file_write_at(file, entry->data, entry->data_bytes, 0);

        error = put < 0 ? put : (uint32_t)put < entry->data_bytes ? -ENOSPC : 0;
    }
    attributes_set(file->inode, entry);
    if (error == 0 && entry->links > 1 && linked == NULL) {
        error = linked_remember(unpack, entry, file->inode);
    }
    file_put(file);
    return error;
}

static int64_t
member_symlink(struct unpack *unpack, const char *path, const struct cpio_entry *entry)
{
    if (entry->data_bytes == 0 || entry->data_bytes >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(unpack->target, entry->data, entry->data_bytes);
    unpack->target[entry->data_bytes] = '\0';
    name_remove(AT_FDCWD, path, false);
    return name_symlink(unpack->target, AT_FDCWD, path);
}

/* Make a directory or a node; one that is there already gets the member's attributes. */
static int64_t
member_node(const char *path, const struct cpio_entry *entry)
{
    struct dentry *dentry;
    bool is_directory = S_ISTYPE(entry->mode, S_IFDIR);
    int64_t error = 0;

    if (path[0] != '\0') {
        error = name_create(AT_FDCWD, path, entry->mode & (S_IFMT | 07777u),
                            MAKE_DEV(entry->rdev_major & 0xfffu, entry->rdev_minor & 0xfffffu));
    }
    if (error == -EEXIST && is_directory) {
        error = 0;
    }
    if (error == 0) {
        error = path_lookup(AT_FDCWD, path[0] == '\0' ? "/" : path, LINKS_KEEP, &dentry);
    }
    if (error == 0) {
        if ((dentry->inode->mode & S_IFMT) == (entry->mode & S_IFMT)) {
            attributes_set(dentry->inode, entry);
        }
        dentry_put(dentry);
    }
    return error;
}

static int64_t
member_make(struct unpack *unpack, const char *path, const struct cpio_entry *entry)
{
    switch (entry->mode & S_IFMT) {
    case S_IFREG:
        return member_file(unpack, path, entry);
    case S_IFLNK:
        return member_symlink(unpack, path, entry);
    case S_IFDIR:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return member_node(path, entry);
    default:
        return -EINVAL;
    }
}

static void
member_unpack(struct unpack *unpack, const struct cpio_entry *entry)
{
    const char *path = member_path(entry->name);
    int64_t error = member_make(unpack, path, entry);

    if (error == -ENOENT) {
        parents_make(path);
        error = member_make(unpack, path, entry);
    }
    if (error == 0) {
        unpack->made++;
    } else {
        unpack->failed++;
        if (unpack->failed <= 10) {
            printk("initramfs: %s: error %d\n", path, (int)-error);
        }
    }
}

static void
linked_forget(struct unpack *unpack)
{
    while (unpack->linked != NULL) {
        struct linked_file *file = unpack->linked;

        unpack->linked = file->next;
        inode_put(file->inode);
        kmem_free(file);
    }
}

static void
archive_unpack(const void *archive, size_t bytes)
{
    struct unpack unpack = {.target = kmem_alloc(PATH_MAX)};
    struct cpio_reader reader;
    struct cpio_entry entry;
    enum cpio_result result;

    if (unpack.target == NULL) {
        return;
    }
    cpio_init(&reader, archive, bytes);
    do {
        result = cpio_next(&reader, &entry);
        if (result == CPIO_ENTRY) {
            member_unpack(&unpack, &entry);
        } else {
            linked_forget(&unpack);
        }
    } while (result == CPIO_ENTRY || result == CPIO_MARK);
    if (result == CPIO_DAMAGED) {
        printk("initramfs: damaged at byte %lu of %lu; the rest is ignored\n",
               (unsigned long)reader.at, (unsigned long)bytes);
    }
    if (unpack.failed > 0) {
        printk("initramfs: %u members could not be unpacked\n", unpack.failed);
    }
    kmem_free(unpack.target);
}

/* ---- mounts ----------------------------------------------------------------------------- */

/* Mount @type on @path unless the archive has put something into that directory. */
static void
mount_default(const char *path, const struct superblock_type *type)
{
    struct superblock *superblock;
    struct dentry *at;

    name_create(AT_FDCWD, path, S_IFDIR | 0755u, 0);
    if (path_lookup(AT_FDCWD, path, LINKS_KEEP, &at) != 0) {
        return;
    }
    if (dentry_is_directory(at) && at->mounted == NULL &&
        type->create(type, "", &superblock) == 0) {
        tree_lock_write();
        mount_attach(superblock, at);
        tree_unlock_write();
    }
    dentry_put(at);
}

void
fs_init(const void *archive, size_t bytes)
{
    struct superblock *root;

    if (tmpfs_create(&rootfs_type, "", &root) != 0) {
        panic("no memory for the root file system");
    }
    anonymous_superblock = superblock_create(&tmpfs_type);
    if (anonymous_superblock == NULL) {
        panic("no memory for the root file system");
    }
    mount_first(root);
    if (archive != NULL && bytes > 0) {
        archive_unpack(archive, bytes);
    }
    mount_default("dev", &devtmpfs_type);
    mount_default("proc", &procfs_type);
    mount_default("sys", &sysfs_type);
    mount_default("sys/kernel/debug", &debugfs_type);
    name_create(AT_FDCWD, "tmp", S_IFDIR | 01777u, 0);
}
