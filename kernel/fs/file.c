/* SPDX-License-Identifier: MIT */
/*
 * Open files: life, and use from inside the kernel.
 */

#include <quire/assert.h>

#include "disk_file.h"
#include "fs.h"
#include "proc.h"
#include "tmpfs.h"

int64_t
errno_of(enum qr_status status)
{
    switch (status) {
    case QR_OK:
        return 0;
    case QR_ERR_NO_MEMORY:
        return -ENOMEM;
    case QR_ERR_RANGE:
    case QR_ERR_INVALID:
        return -EINVAL;
    case QR_ERR_EXISTS:
        return -EEXIST;
    case QR_ERR_NOT_FOUND:
        return -ENOENT;
    case QR_ERR_ACCESS:
        return -EACCES;
    case QR_ERR_LIMIT:
        return -ENOMEM;
    case QR_ERR_BUSY:
        return -EBUSY;
    case QR_ERR_AGAIN:
        return -EAGAIN;
    case QR_ERR_FAULT:
        return -EFAULT;
    case QR_ERR_IO:
        return -EIO;
    case QR_ERR_INTERRUPTED:
        return -EINTR;
    case QR_ERR_UNSUPPORTED:
        return -EOPNOTSUPP;
    case QR_ERR_SEALED:
        return -EPERM;
    }
    return -EIO;
}

/* ---- life ---------------------------------------------------------------------- */

/* What F_GETFL shows: creation flags are gone. */
#define FLAGS_KEPT (~(uint32_t)(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC))

static uint32_t
mode_of_flags(uint32_t flags)
{
    if (flags & O_PATH) {
        return FILE_PATH_ONLY;
    }
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return FILE_READ;
    case O_WRONLY:
        return FILE_WRITE;
    default:
        return FILE_READ | FILE_WRITE;
    }
}

static atomic_uint open_files; /* structures in the heap: for the leak check, too */

_Atomic uint64_t file_max = INT64_MAX;
_Atomic uint64_t file_nr_open = FD_LIMIT;

unsigned
file_count(void)
{
    return atomic_load(&open_files);
}

static bool
exceeds_file_max(uint64_t open)
{
    enum { CAP_SYS_ADMIN = 21 };

    return open >= atomic_load(&file_max) && !process_has_capability(CAP_SYS_ADMIN);
}

bool
file_is_last(void)
{
    return exceeds_file_max(file_count());
}

/* A blank one. @return 0, -ENOMEM, -ENFILE */
static int64_t
file_alloc(struct file **out)
{
    struct file *file;

    if (exceeds_file_max(atomic_fetch_add(&open_files, 1))) {
        atomic_fetch_sub(&open_files, 1);
        return -ENFILE;
    }
    file = kmem_charged_zalloc(sizeof *file);
    if (file == NULL) {
        atomic_fetch_sub(&open_files, 1);
        return -ENOMEM;
    }
    *out = file;
    return 0;
}

static void
file_free(struct file *file)
{
    atomic_fetch_sub(&open_files, 1);
    kmem_charged_free(file);
}

/* Make a blank file one of @dentry. Cannot fail. */
static void
file_attach(struct file *file, struct dentry *dentry, uint32_t flags)
{
    dentry_ref(dentry);
    inode_ref(dentry->inode);
    atomic_fetch_add(&dentry->superblock->files, 1);
    atomic_init(&file->refs, 1);
    atomic_init(&file->flags, flags & FLAGS_KEPT);
    file->mode = mode_of_flags(flags);
    file->dentry = dentry;
    file->inode = dentry->inode;
    file->ops = &path_only_file_ops;
}

int64_t
file_create(struct dentry *dentry, uint32_t flags, struct file **out)
{
    int64_t error = file_alloc(out);

    if (error == 0) {
        file_attach(*out, dentry, flags);
    }
    return error;
}

int64_t
file_create_anonymous(const char *name, const struct file_ops *ops, uint32_t flags, void *context,
                      struct file **out)
{
    static const struct inode_ops plain_ops = {.open = NULL};
    struct inode *inode = inode_create(anonymous_superblock, &plain_ops, 0600);

    if (inode == NULL) {
        return -ENOMEM;
    }
    struct dentry *dentry = dentry_create_anonymous(anonymous_superblock, name, inode);
    if (dentry == NULL) {
        inode_put(inode);
        return -ENOMEM;
    }
    int64_t error = file_create(dentry, flags, out);
    dentry_put(dentry);
    if (error == 0) {
        (*out)->ops = ops;
        (*out)->context = context;
        (*out)->mode |= FILE_STREAM;
    }
    return error;
}

void
file_ref(struct file *file)
{
    unsigned before = atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);

    qr_assert(before > 0);
}

void
file_put(struct file *file)
{
    if (atomic_fetch_sub(&file->refs, 1) != 1) {
        return;
    }
    epoll_file_closed(file);
    flock_file_closed(file);
    if (file->ops->release != NULL) {
        file->ops->release(file);
    }
    if (file->mode & FILE_COUNTED) {
        inode_end_write(file->inode);
    } else if (file->mode & FILE_EXEC) {
        inode_end_exec(file->inode);
    }
    atomic_fetch_sub(&file->dentry->superblock->files, 1);
    inode_put(file->inode);
    dentry_put(file->dentry);
    file_free(file);
}

/* ---- opening --------------------------------------------------------------------- */

static unsigned
access_wish(uint32_t flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return ACCESS_READ;
    case O_WRONLY:
        return ACCESS_WRITE;
    default:
        return ACCESS_READ | ACCESS_WRITE;
    }
}

static int64_t
regular_bind(struct file *file)
{
    struct inode *inode = file->inode;

    if (file->mode & FILE_WRITE) {
        int64_t error = inode_begin_write(inode);

        if (error != 0) {
            return error;
        }
        file->mode |= FILE_COUNTED;
    }
    file->ops = inode->file_ops;
    return inode->ops->open == NULL ? 0 : inode->ops->open(inode, file);
}

/* Give a new file the operations of its kind. */
static int64_t
file_bind(struct file *file)
{
    struct inode *inode = file->inode;

    switch (inode->mode & S_IFMT) {
    case S_IFREG:
        return regular_bind(file);
    case S_IFDIR:
        file->ops = &directory_file_ops;
        return 0;
    case S_IFCHR:
        if (inode->superblock->mount_flags & MS_NODEV) {
            return -EACCES;
        }
        return device_open(inode, file);
    case S_IFBLK:
        return inode->superblock->mount_flags & MS_NODEV ? -EACCES : disk_open(inode, file);
    case S_IFIFO:
        return fifo_open(inode, file);
    case S_IFLNK:
        return -ELOOP;
    default:
        return inode->ops->open == NULL ? -ENXIO : inode->ops->open(inode, file);
    }
}

/* What may not be opened this way, whatever its kind does. */
static int64_t
open_check(const struct inode *inode, uint32_t flags)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);

    if (S_ISTYPE(inode->mode, S_IFDIR) && writes) {
        return -EISDIR;
    }
    if (superblock_is_read_only(inode->superblock) && writes &&
        (S_ISTYPE(inode->mode, S_IFREG) || S_ISTYPE(inode->mode, S_IFDIR))) {
        return -EROFS;
    }
    return inode_allows(inode, access_wish(flags)) ? 0 : -EACCES;
}

/* Open the thing at @dentry as @file, which is blank; it is gone after an error. */
static int64_t
open_as(struct file *file, struct dentry *dentry, uint32_t flags)
{
    file_attach(file, dentry, flags);
    if (flags & O_PATH) {
        return 0;
    }
    int64_t error = file_bind(file);
    if (error != 0) {
        file->ops = &path_only_file_ops;
        file_put(file);
    }
    return error;
}

static int64_t
open_dentry(struct dentry *dentry, uint32_t flags, struct file **out)
{
    struct file *file;
    int64_t error = file_alloc(&file);

    if (error == 0) {
        error = open_as(file, dentry, flags);
    }
    if (error == 0) {
        *out = file;
    }
    return error;
}

/* Empty what was opened with O_TRUNC; the file is gone after an error. */
static int64_t
open_truncate(struct file *file)
{
    if (!S_ISTYPE(file->inode->mode, S_IFREG) || file->ops->truncate == NULL) {
        return 0;
    }
    int64_t error = file->ops->truncate(file, 0);
    if (error != 0) {
        file_put(file);
    }
    return error;
}

int64_t
vfs_open_path_at(int dirfd, const char *path, uint32_t flags, uint32_t mode, struct file **out_file)
{
    struct dentry *dentry;
    bool created;

    if (flags & O_PATH) {
        flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    }
    /* Before anything is made: without memory for the file there is to be no name either. */
    struct file *file;
    int64_t error = file_alloc(&file);
    if (error != 0) {
        return error;
    }
    error = name_open(dirfd, path, flags, mode & 07777u & ~current_umask(), &dentry, &created);
    if (error != 0) {
        file_free(file);
        return error;
    }
    /* Who makes a file may write to it, whatever mode it got. */
    if (!created && !(flags & O_PATH)) {
        error = open_check(dentry->inode, flags);
    }
    if (error != 0) {
        file_free(file);
    } else {
        error = open_as(file, dentry, flags);
    }
    if (error == 0 && (flags & O_TRUNC) && !created) {
        error = open_truncate(file);
    }
    dentry_put(dentry);
    if (error == 0) {
        *out_file = file;
    }
    return error;
}

int64_t
vfs_open_path(const char *path, uint32_t flags, uint32_t mode, struct file **out_file)
{
    return vfs_open_path_at(AT_FDCWD, path, flags, mode, out_file);
}

/* The old name goes rather than the old contents: somebody else may have those by another name. */
int64_t
vfs_create_core(const char *path, struct file **out_file)
{
    const uint32_t flags = O_CREAT | O_EXCL | O_RDWR | O_NOFOLLOW | O_LARGEFILE;
    struct file *file;

    (void)name_remove(AT_FDCWD, path, false);
    int64_t error = vfs_open_path(path, flags, 0600, &file);
    if (error != 0) {
        return error;
    }
    const struct inode *inode = file->inode;
    if (!S_ISTYPE(inode->mode, S_IFREG) || inode->links != 1 || inode->uid != process_fsuid() ||
        (inode->mode & 0677) != 0600 || file->ops->write == NULL) {
        file_put(file);
        return -EPERM;
    }
    *out_file = file;
    return 0;
}

static int64_t
open_executable(struct dentry *dentry, struct file **out_file)
{
    struct file *file;
    int64_t error = inode_begin_exec(dentry->inode);

    if (error != 0) {
        return error;
    }
    error = open_dentry(dentry, O_RDONLY, &file);
    if (error != 0) {
        inode_end_exec(dentry->inode);
        return error;
    }
    file->mode |= FILE_EXEC;
    *out_file = file;
    return 0;
}

int64_t
vfs_open_exec(int dirfd, const char *path, uint32_t at_flags, struct file **out_file)
{
    struct dentry *dentry = NULL;
    int64_t error;

    if (path[0] == '\0' && (at_flags & AT_EMPTY_PATH)) {
        struct file *named = file_get_any(dirfd);

        if (named == NULL) {
            return -EBADF;
        }
        dentry = named->dentry;
        dentry_ref(dentry);
        file_put(named);
        error = 0;
    } else {
        error = path_lookup(dirfd, path, at_flags & AT_SYMLINK_NOFOLLOW ? LINKS_KEEP : LINKS_FOLLOW,
                            &dentry);
    }
    if (error != 0) {
        return error;
    }
    struct inode *inode = dentry->inode;
    if (S_ISTYPE(inode->mode, S_IFLNK)) {
        error = -ELOOP;
    } else if (!S_ISTYPE(inode->mode, S_IFREG) || !inode_allows(inode, ACCESS_EXECUTE) ||
               (inode->superblock->mount_flags & MS_NOEXEC)) {
        error = -EACCES;
    } else {
        error = open_executable(dentry, out_file);
    }
    dentry_put(dentry);
    return error;
}

/* ---- use from the kernel ------------------------------------------------------------- */

int64_t
file_read_at(struct file *file, void *buffer, size_t n, uint64_t offset)
{
    struct io io;
    uint64_t position = offset;

    if (file->ops->read == NULL) {
        return -EINVAL;
    }
    io_init_kernel(&io, buffer, n);
    while (io.left > 0) {
        int64_t got = file->ops->read(file, &io, &position);

        if (got < 0) {
            return position > offset ? (int64_t)(position - offset) : got;
        }
        if (got == 0) {
            break;
        }
    }
    return (int64_t)(n - io.left);
}

int64_t
file_write_at(struct file *file, const void *buffer, size_t n, uint64_t offset)
{
    struct io io;
    uint64_t position = offset;

    if (file->ops->write == NULL) {
        return -EINVAL;
    }
    io_init_kernel(&io, (void *)(uintptr_t)buffer, n);
    while (io.left > 0) {
        int64_t put = file->ops->write(file, &io, &position);

        if (put <= 0) {
            return n > io.left ? (int64_t)(n - io.left) : put;
        }
    }
    return (int64_t)n;
}

uint64_t
file_size(const struct file *file)
{
    return S_ISTYPE(file->inode->mode, S_IFREG) ? atomic_load(&file->inode->size) : 0;
}

bool
file_is_nameless(const struct file *file)
{
    return file->inode->links == 0;
}

bool
file_is_regular(const struct file *file)
{
    return S_ISTYPE(file->inode->mode, S_IFREG);
}

bool
file_is_sealed(const struct file *file)
{
    return tmpfs_has_seals(file->inode) &&
           (file->inode->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;
}

enum { PROT_WRITE = 2, PROT_EXEC = 4 };

int64_t
file_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    bool no_execute = (file->inode->superblock->mount_flags & MS_NOEXEC) != 0;

    if (file->mode & FILE_PATH_ONLY) {
        return -EBADF;
    }
    if (!(file->mode & FILE_READ)) {
        return -EACCES;
    }
    if (shared && (prot & PROT_WRITE) && !(file->mode & FILE_WRITE)) {
        return -EACCES;
    }
    if (shared && (prot & PROT_WRITE) && atomic_load(&file->inode->swapped_to)) {
        return -ETXTBSY;
    }
    if (no_execute && (prot & PROT_EXEC)) {
        return -EPERM;
    }
    if (file->ops->mmap_object == NULL) {
        return -ENODEV;
    }
    int64_t error = file->ops->mmap_object(file, prot, shared, out);

    out->no_execute = no_execute;
    return error;
}

int64_t
file_sync(struct file *file, uint64_t first, uint64_t last, enum file_sync how)
{
    uint32_t type = file->inode->mode & S_IFMT;

    if (file->ops->sync != NULL) {
        return file->ops->sync(file, first, last, how);
    }
    return type == S_IFREG || type == S_IFDIR ? 0 : -EINVAL;
}

struct qr_object *
file_cached_object(struct file *file)
{
    struct inode *inode = file->inode;
    struct qr_object *object = NULL;

    if (file->ops->cached != NULL) {
        object = file->ops->cached(file);
    } else if (S_ISTYPE(inode->mode, S_IFREG)) {
        object = atomic_load((_Atomic(struct qr_object *) *)&inode->object); /* stays with it */
    }

    if (object != NULL) {
        qr_object_get(object);
    }
    return object;
}

void
file_identity(const struct file *file, uint32_t *out_major, uint32_t *out_minor,
              uint64_t *out_inode)
{
    *out_major = DEV_MAJOR(file->inode->superblock->device);
    *out_minor = DEV_MINOR(file->inode->superblock->device);
    *out_inode = file->inode->number;
}

/* Append to a terminated text at the very start of @buffer; both fit by the caller's check. */
static const char *
text_with_suffix(char *buffer, size_t size, const char *text, const char *suffix)
{
    size_t length = strlen(text);

    if (length + strlen(suffix) + 1 > size) {
        return text;
    }
    memmove(buffer, text, length + 1);
    strlcpy(buffer + length, suffix, size - length);
    return buffer;
}

const char *
file_path(const struct file *file, char *buffer, size_t size)
{
    struct dentry *dentry = file->dentry;
    bool reachable;

    if (dentry->parent == dentry && dentry->superblock == anonymous_superblock) {
        strlcpy(buffer, dentry->name, size);
        return buffer;
    }
    struct dentry *root = current_root();
    tree_lock_read();
    const char *path = dentry_path(dentry, root, buffer, size, &reachable);
    bool deleted = !dentry->linked && !dentry->generated && dentry->parent != dentry;
    tree_unlock_read();
    dentry_put(root);
    if (path == NULL) {
        strlcpy(buffer, "(unreachable)", size);
        return buffer;
    }
    return deleted ? text_with_suffix(buffer, size, path, " (deleted)") : path;
}

int64_t
seek_plain(struct file *file, int64_t offset, int whence, uint64_t size)
{
    int64_t base;

    switch (whence) {
    case SEEK_SET:
        base = 0;
        break;
    case SEEK_CUR:
        base = (int64_t)file->position;
        break;
    case SEEK_END:
        base = (int64_t)size;
        break;
    case SEEK_DATA:
        if (offset < 0 || (uint64_t)offset >= size) {
            return -ENXIO;
        }
        base = 0;
        break;
    case SEEK_HOLE:
        if (offset < 0 || (uint64_t)offset >= size) {
            return -ENXIO;
        }
        base = 0;
        offset = (int64_t)size;
        break;
    default:
        return -EINVAL;
    }
    int64_t position;
    if (__builtin_add_overflow(base, offset, &position) || position < 0) {
        return -EINVAL;
    }
    file->position = (uint64_t)position;
    return position;
}

bool
file_could_be_written(const struct file *file)
{
    return process_fsuid() == file->inode->uid || inode_allows(file->inode, ACCESS_WRITE);
}

const struct file_ops path_only_file_ops = {.name = "path"};
