/* SPDX-License-Identifier: MIT */
/*
 * The memory devices, and devtmpfs, which gives every device its name.
 *
 * Adding a device: one table of operations and one row in `devices`.  Disks (drivers/disk.c) and
 * persistent memory (dax.c) are as many as the machine has.
 */

#include "arch.h"
#include "block.h"
#include "dax.h"
#include "fs.h"
#include "proc.h"
#include "tmpfs.h"
#include "userfault_notice.h"

enum { MEMORY_MAJOR = 1, TTY_MAJOR = 4, TTY_AUX_MAJOR = 5, MISC_MAJOR = 10, SERIAL_MINOR = 64 };

static int64_t
null_read(struct file *file, struct io *io, uint64_t *position)
{
    (void)file;
    (void)io;
    (void)position;
    return 0;
}

static int64_t
null_write(struct file *file, struct io *io, uint64_t *position)
{
    int64_t bytes = (int64_t)io->left;

    (void)file;
    (void)position;
    io_skip(io, io->left);
    return bytes;
}

/* Memory devices have no position: seeking succeeds and leads to 0. */
static int64_t
null_seek(struct file *file, int64_t offset, int whence)
{
    (void)offset;
    (void)whence;
    file->position = 0;
    return 0;
}

enum { DEVICE_CHUNK = 65536 };

static int64_t
zero_read(struct file *file, struct io *io, uint64_t *position)
{
    size_t total = 0;

    (void)file;
    (void)position;
    while (io->left > 0 && !(total > 0 && signal_is_pending())) {
        size_t want = io->left < DEVICE_CHUNK ? io->left : DEVICE_CHUNK;
        size_t done = io_put_zeros(io, want);

        total += done;
        if (done < want) {
            return total > 0 ? (int64_t)total : -EFAULT;
        }
        sched_relax();
    }
    return (int64_t)total;
}

static int64_t
zero_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    (void)file;
    (void)prot;
    (void)shared;
    *out = (struct file_mapping){.kind = FILE_MAPPING_ANONYMOUS};
    return 0;
}

static int64_t
full_write(struct file *file, struct io *io, uint64_t *position)
{
    (void)file;
    (void)position;
    return io->left == 0 ? 0 : -ENOSPC;
}

static int64_t
random_read(struct file *file, struct io *io, uint64_t *position)
{
    uint64_t words[32];
    size_t total = 0;

    (void)file;
    (void)position;
    while (io->left > 0 && !(total > 0 && signal_is_pending())) {
        size_t want = io->left < sizeof words ? io->left : sizeof words;

        qr_port_random(words, want);
        size_t done = io_put(io, words, want);
        total += done;
        if (done < want) {
            return total > 0 ? (int64_t)total : -EFAULT;
        }
        sched_relax();
    }
    return (int64_t)total;
}

/* One write, one line in the kernel's log. */
static int64_t
kmsg_write(struct file *file, struct io *io, uint64_t *position)
{
    char line[512];
    int64_t bytes = (int64_t)io->left;
    size_t got = io_take(io, line, sizeof line - 1);

    (void)file;
    (void)position;
    if (got == 0 && bytes > 0) {
        return -EFAULT;
    }
    while (got > 0 && line[got - 1] == '\n') {
        got--;
    }
    line[got] = '\0';
    printk("%s\n", line);
    io_skip(io, io->left);
    return bytes;
}

/* Those without it are ready, too, but no set of epoll takes them. */
static uint32_t
always_ready(struct file *file, struct poll_table *table)
{
    (void)file;
    (void)table;
    return POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
}

static const struct file_ops null_ops = {
    .name = "null", .read = null_read, .write = null_write, .seek = null_seek};
static const struct file_ops zero_ops = {.name = "zero",
                                         .read = zero_read,
                                         .write = null_write,
                                         .seek = null_seek,
                                         .mmap_object = zero_mmap_object};
static const struct file_ops full_ops = {
    .name = "full", .read = zero_read, .write = full_write, .seek = null_seek};
static const struct file_ops random_ops = {.name = "random",
                                           .read = random_read,
                                           .write = null_write,
                                           .seek = null_seek,
                                           .poll = always_ready};
static const struct file_ops kmsg_ops = {
    .name = "kmsg", .write = kmsg_write, .seek = null_seek, .poll = always_ready};

struct device {
    const char *name;
    uint32_t rdev;
    uint32_t mode;
    const struct file_ops *ops; /* NULL: a terminal, see tty.c */
};

static const struct device devices[] = {
    {"null", MAKE_DEV(MEMORY_MAJOR, 3), 0666, &null_ops},
    {"zero", MAKE_DEV(MEMORY_MAJOR, 5), 0666, &zero_ops},
    {"full", MAKE_DEV(MEMORY_MAJOR, 7), 0666, &full_ops},
    {"random", MAKE_DEV(MEMORY_MAJOR, 8), 0666, &random_ops},
    {"urandom", MAKE_DEV(MEMORY_MAJOR, 9), 0666, &random_ops},
    {"userfaultfd", MAKE_DEV(MISC_MAJOR, 126), 0600, &userfault_device_ops},
    {"kmsg", MAKE_DEV(MEMORY_MAJOR, 11), 0644, &kmsg_ops},
    {"tty", MAKE_DEV(TTY_AUX_MAJOR, 0), 0666, NULL},
    {"console", MAKE_DEV(TTY_AUX_MAJOR, 1), 0600, NULL},
    {"ttyS0", MAKE_DEV(TTY_MAJOR, SERIAL_MINOR), 0660, NULL},
};

int64_t
device_open(struct inode *inode, struct file *file)
{
    if (DEV_MAJOR(inode->rdev) == DAX_MAJOR && DEV_MINOR(inode->rdev) < dax_count()) {
        file->ops = &dax_ops;
        return 0;
    }
    for (size_t i = 0; i < QR_ARRAY_COUNT(devices); i++) {
        if (devices[i].rdev != inode->rdev) {
            continue;
        }
        if (devices[i].ops == NULL) {
            return tty_open(inode, file);
        }
        file->ops = devices[i].ops;
        return 0;
    }
    return -ENXIO;
}

/* ---- devtmpfs ------------------------------------------------------------------------- */

static const struct {
    const char *name, *target;
} device_links[] = {
    {"fd", "/proc/self/fd"},
    {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"},
};

static bool
node_add(struct dentry *root, const char *name, uint32_t mode, uint32_t rdev, const char *target)
{
    struct inode *inode = tmpfs_inode_create(root->superblock, mode, rdev);

    if (inode == NULL) {
        return false;
    }
    if (target != NULL) {
        inode->target = dentry_name_copy(target, strlen(target));
        inode->size = strlen(target);
    }
    bool done = (target == NULL || inode->target != NULL) && tree_add(root, name, inode) != NULL;
    inode_put(inode);
    return done;
}

static int64_t
devtmpfs_create(const struct superblock_type *type, const char *options, struct superblock **out)
{
    struct superblock *superblock;
    int64_t error = tmpfs_create(type, options, &superblock);
    bool done = true;

    if (error != 0) {
        return error;
    }
    tree_lock_write();
    for (size_t i = 0; done && i < QR_ARRAY_COUNT(devices); i++) {
        done = node_add(superblock->root, devices[i].name, S_IFCHR | devices[i].mode,
                        devices[i].rdev, NULL);
    }
    for (size_t i = 0; done && i < QR_ARRAY_COUNT(device_links); i++) {
        done = node_add(superblock->root, device_links[i].name, S_IFLNK | 0777u, 0,
                        device_links[i].target);
    }
    for (size_t i = 0; done && disk_at(i) != NULL; i++) {
        done =
            node_add(superblock->root, disk_at(i)->name, S_IFBLK | 0660u, disk_at(i)->rdev, NULL);
    }
    for (size_t i = 0; done && i < dax_count(); i++) {
        char name[DAX_NAME_BYTES];

        dax_name(i, name);
        done = node_add(superblock->root, name, S_IFCHR | 0600u, MAKE_DEV(DAX_MAJOR, i), NULL);
    }
    done = done && node_add(superblock->root, "shm", S_IFDIR | 01777u, 0, NULL);
    done = done && node_add(superblock->root, "pts", S_IFDIR | 0755u, 0, NULL);
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

const struct superblock_type devtmpfs_type = {.name = "devtmpfs",
                                              .magic = 0x01021994,
                                              .writable_tree = true,
                                              .single = true,
                                              .create = devtmpfs_create};
