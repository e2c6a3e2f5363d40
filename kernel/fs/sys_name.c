/* SPDX-License-Identifier: MIT */
/*
 * System calls about names: making, removing, moving, listing, and where a process stands.
 */

#include "fs.h"
#include "proc.h"
#include "syscall.h"

/* ---- making ------------------------------------------------------------------------ */

static int64_t
make_call(int dirfd, uint64_t user_path, uint32_t mode, uint32_t rdev)
{
    char *path;
    int64_t error = path_from_user(user_path, &path);

    if (error != 0) {
        return error;
    }
    error = name_create(dirfd, path, mode & (S_IFMT | (07777u & ~current_umask())), rdev);
    path_free(path);
    return error;
}

int64_t
sys_mkdir(const struct syscall_args *args)
{
    return make_call(AT_FDCWD, args->arg[0], S_IFDIR | ((uint32_t)args->arg[1] & 01777u), 0);
}

int64_t
sys_mkdirat(const struct syscall_args *args)
{
    return make_call((int32_t)args->arg[0], args->arg[1],
                     S_IFDIR | ((uint32_t)args->arg[2] & 01777u), 0);
}

static int64_t
mknod_call(int dirfd, uint64_t user_path, uint32_t mode, uint32_t device)
{
    uint32_t major = device >> 8 & 0xfffu;
    uint32_t minor = (device & 0xffu) | (device >> 12 & 0xfff00u);

    switch (mode & S_IFMT) {
    case 0:
        mode |= S_IFREG;
        break;
    case S_IFCHR:
    case S_IFBLK:
        if (process_fsuid() != 0) {
            return -EPERM;
        }
        break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
        break;
    case S_IFDIR:
        return -EPERM;
    default:
        return -EINVAL;
    }
    return make_call(dirfd, user_path, mode, MAKE_DEV(major, minor));
}

int64_t
sys_mknod(const struct syscall_args *args)
{
    return mknod_call(AT_FDCWD, args->arg[0], (uint32_t)args->arg[1] & 0xffffu,
                      (uint32_t)args->arg[2]);
}

int64_t
sys_mknodat(const struct syscall_args *args)
{
    return mknod_call((int32_t)args->arg[0], args->arg[1], (uint32_t)args->arg[2] & 0xffffu,
                      (uint32_t)args->arg[3]);
}

/* ---- two paths ------------------------------------------------------------------------ */

struct two_paths {
    char *first, *second;
};

static int64_t
two_paths_read(struct two_paths *paths, uint64_t user_first, uint64_t user_second)
{
    int64_t error = path_from_user(user_first, &paths->first);

    if (error != 0) {
        return error;
    }
    error = path_from_user(user_second, &paths->second);
    if (error != 0) {
        path_free(paths->first);
    }
    return error;
}

static void
two_paths_free(struct two_paths *paths)
{
    path_free(paths->first);
    path_free(paths->second);
}

static int64_t
symlink_call(uint64_t user_target, int dirfd, uint64_t user_path)
{
    struct two_paths paths;
    int64_t error = two_paths_read(&paths, user_target, user_path);

    if (error != 0) {
        return error;
    }
    error = name_symlink(paths.first, dirfd, paths.second);
    two_paths_free(&paths);
    return error;
}

int64_t
sys_symlink(const struct syscall_args *args)
{
    return symlink_call(args->arg[0], AT_FDCWD, args->arg[1]);
}

int64_t
sys_symlinkat(const struct syscall_args *args)
{
    return symlink_call(args->arg[0], (int32_t)args->arg[1], args->arg[2]);
}

static int64_t
link_call(int old_dirfd, uint64_t user_old, int new_dirfd, uint64_t user_new, uint32_t at_flags)
{
    struct dentry *dentry;
    char *path;

    if (at_flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) {
        return -EINVAL;
    }
    uint32_t lookup =
        (at_flags & AT_EMPTY_PATH) | (at_flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW);
    int64_t error = path_lookup_user(old_dirfd, user_old, lookup, &dentry);
    if (error != 0) {
        return error;
    }
    error = path_from_user(user_new, &path);
    if (error == 0) {
        error = name_link(dentry->inode, new_dirfd, path);
        path_free(path);
    }
    dentry_put(dentry);
    return error;
}

int64_t
sys_link(const struct syscall_args *args)
{
    return link_call(AT_FDCWD, args->arg[0], AT_FDCWD, args->arg[1], 0);
}

int64_t
sys_linkat(const struct syscall_args *args)
{
    return link_call((int32_t)args->arg[0], args->arg[1], (int32_t)args->arg[2], args->arg[3],
                     (uint32_t)args->arg[4]);
}

static int64_t
rename_call(int old_dirfd, uint64_t user_old, int new_dirfd, uint64_t user_new, uint32_t flags)
{
    struct two_paths paths;
    int64_t error = two_paths_read(&paths, user_old, user_new);

    if (error != 0) {
        return error;
    }
    error = name_rename(old_dirfd, paths.first, new_dirfd, paths.second, flags);
    two_paths_free(&paths);
    return error;
}

int64_t
sys_rename(const struct syscall_args *args)
{
    return rename_call(AT_FDCWD, args->arg[0], AT_FDCWD, args->arg[1], 0);
}

int64_t
sys_renameat(const struct syscall_args *args)
{
    return rename_call((int32_t)args->arg[0], args->arg[1], (int32_t)args->arg[2], args->arg[3], 0);
}

int64_t
sys_renameat2(const struct syscall_args *args)
{
    return rename_call((int32_t)args->arg[0], args->arg[1], (int32_t)args->arg[2], args->arg[3],
                       (uint32_t)args->arg[4]);
}

/* ---- removing ---------------------------------------------------------------------------- */

static int64_t
remove_call(int dirfd, uint64_t user_path, bool directory)
{
    char *path;
    int64_t error = path_from_user(user_path, &path);

    if (error != 0) {
        return error;
    }
    error = name_remove(dirfd, path, directory);
    path_free(path);
    return error;
}

int64_t
sys_unlink(const struct syscall_args *args)
{
    return remove_call(AT_FDCWD, args->arg[0], false);
}

int64_t
sys_rmdir(const struct syscall_args *args)
{
    return remove_call(AT_FDCWD, args->arg[0], true);
}

int64_t
sys_unlinkat(const struct syscall_args *args)
{
    uint32_t at_flags = (uint32_t)args->arg[2];

    if (at_flags & ~AT_REMOVEDIR) {
        return -EINVAL;
    }
    return remove_call((int32_t)args->arg[0], args->arg[1], (at_flags & AT_REMOVEDIR) != 0);
}

/* ---- reading links and directories --------------------------------------------------------- */

static int64_t
readlink_dentry(struct dentry *dentry, uint64_t user_buffer, size_t size)
{
    struct inode *inode = dentry->inode;

    if (!S_ISTYPE(inode->mode, S_IFLNK) || inode->ops->read_link == NULL) {
        return -EINVAL;
    }
    char *text = kmem_alloc(PATH_MAX);
    if (text == NULL) {
        return -ENOMEM;
    }
    int64_t length = inode->ops->read_link(inode, text, size < PATH_MAX ? size : PATH_MAX);
    if (length > 0 && user_write(user_buffer, text, (size_t)length) != 0) {
        length = -EFAULT;
    }
    kmem_free(text);
    return length;
}

static int64_t
readlink_call(int dirfd, uint64_t user_path, uint64_t user_buffer, int32_t size)
{
    struct dentry *dentry;

    if (size <= 0) {
        return -EINVAL;
    }
    int64_t error =
        path_lookup_user(dirfd, user_path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &dentry);
    if (error == 0) {
        error = readlink_dentry(dentry, user_buffer, (size_t)size);
        dentry_put(dentry);
    }
    return error;
}

int64_t
sys_readlink(const struct syscall_args *args)
{
    return readlink_call(AT_FDCWD, args->arg[0], args->arg[1], (int32_t)args->arg[2]);
}

int64_t
sys_readlinkat(const struct syscall_args *args)
{
    return readlink_call((int32_t)args->arg[0], args->arg[1], args->arg[2], (int32_t)args->arg[3]);
}

int64_t
sys_getdents64(const struct syscall_args *args)
{
    struct file *file = file_get((int32_t)args->arg[0]);
    struct io io;
    int64_t result;

    if (file == NULL) {
        return -EBADF;
    }
    if (file->ops->read_directory == NULL) {
        result = -ENOTDIR;
    } else {
        io_init_user(&io, args->arg[1], (uint32_t)args->arg[2]);
        qr_mutex_lock(&file->position_lock);
        result = file->ops->read_directory(file, &io);
        qr_mutex_unlock(&file->position_lock);
    }
    file_put(file);
    return result;
}

/* ---- where a process stands ------------------------------------------------------------------- */

int64_t
sys_getcwd(const struct syscall_args *args)
{
    char *buffer = kmem_alloc(PATH_MAX);
    size_t size = (size_t)args->arg[1];
    bool reachable = false;
    int64_t result;

    if (buffer == NULL) {
        return -ENOMEM;
    }
    struct dentry *root, *current;
    fs_context_get(thread_current()->fs, &root, &current);
    tree_lock_read();
    bool exists = current->linked || current->generated || current->parent == current;
    const char *path = dentry_path(current, root, buffer, PATH_MAX, &reachable);
    tree_unlock_read();
    dentry_put(root);
    dentry_put(current);
    if (!exists) {
        result = -ENOENT;
    } else if (path == NULL) {
        result = -ENAMETOOLONG;
    } else {
        size_t length = strlen(path) + 1;

        result = length > size                                 ? -ERANGE
                 : user_write(args->arg[0], path, length) != 0 ? -EFAULT
                                                               : (int64_t)length;
    }
    kmem_free(buffer);
    return result;
}

static int64_t
place_set(struct dentry *dentry, enum fs_place place)
{
    if (!dentry_is_directory(dentry)) {
        return -ENOTDIR;
    }
    if (!inode_allows(dentry->inode, ACCESS_EXECUTE)) {
        return -EACCES;
    }
    fs_context_set(thread_current()->fs, place, dentry);
    return 0;
}

static int64_t
place_call(uint64_t user_path, enum fs_place place)
{
    struct dentry *dentry;
    int64_t error = path_lookup_user(AT_FDCWD, user_path, 0, &dentry);

    if (error == 0) {
        error = place_set(dentry, place);
        dentry_put(dentry);
    }
    return error;
}

int64_t
sys_chdir(const struct syscall_args *args)
{
    return place_call(args->arg[0], FS_CURRENT);
}

int64_t
sys_fchdir(const struct syscall_args *args)
{
    struct file *file = file_get_any((int32_t)args->arg[0]);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t error = place_set(file->dentry, FS_CURRENT);
    file_put(file);
    return error;
}

enum { CAP_SYS_CHROOT = 18 };

int64_t
sys_chroot(const struct syscall_args *args)
{
    return process_has_capability(CAP_SYS_CHROOT) ? place_call(args->arg[0], FS_ROOT) : -EPERM;
}

int64_t
sys_umask(const struct syscall_args *args)
{
    return fs_context_set_umask(thread_current()->fs, (uint32_t)args->arg[0]);
}
