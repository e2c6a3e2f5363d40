/* SPDX-License-Identifier: MIT */
/*
 * System calls that make, copy, change and close descriptors.
 */

#include "fd_table.h"
#include "flock.h"
#include "fs.h"
#include "pipe.h"
#include "pipefs.h"
#include "proc.h"
#include "syscall.h"
#include "tmpfs.h"

/* ---- open ------------------------------------------------------------------------- */

#define OPEN_FLAGS_KNOWN                                                                   \
    (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_SYNC |  \
     O_ASYNC | O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | \
     O_PATH | O_TMPFILE)

/* The descriptor comes first: EMFILE before anything is made. */
static int64_t
open_into_descriptor(int dirfd, const char *path, uint32_t flags, uint32_t mode)
{
    struct file *file;
    int fd = fd_reserve(0);

    if (fd < 0) {
        return fd;
    }
    int64_t error = vfs_open_path_at(dirfd, path, flags | O_LARGEFILE, mode, &file);
    if (error != 0) {
        fd_unreserve(fd);
        return error;
    }
    tty_opened(file, flags);
    fd_fill(fd, file, (flags & O_CLOEXEC) != 0);
    return fd;
}

static int64_t
open_call(int dirfd, uint64_t user_path, uint32_t flags, uint32_t mode)
{
    char *path;
    bool unnamed = (flags & O_TMPFILE) == O_TMPFILE;

    flags &= OPEN_FLAGS_KNOWN;
    if (unnamed && !(flags & (O_WRONLY | O_RDWR))) {
        return -EINVAL;
    }
    if ((flags & O_TMPFILE & ~O_DIRECTORY) && !unnamed) {
        return -EINVAL;
    }
    if ((flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY) && !unnamed) {
        return -EINVAL;
    }
    int64_t error = path_from_user(user_path, &path);
    if (error != 0) {
        return error;
    }
    int64_t fd = open_into_descriptor(dirfd, path, flags, mode);
    path_free(path);
    return fd;
}

int64_t
sys_open(const struct syscall_args *args)
{
    return open_call(AT_FDCWD, args->arg[0], (uint32_t)args->arg[1], (uint32_t)args->arg[2]);
}

int64_t
sys_openat(const struct syscall_args *args)
{
    return open_call((int32_t)args->arg[0], args->arg[1], (uint32_t)args->arg[2],
                     (uint32_t)args->arg[3]);
}

int64_t
sys_creat(const struct syscall_args *args)
{
    return open_call(AT_FDCWD, args->arg[0], O_CREAT | O_WRONLY | O_TRUNC, (uint32_t)args->arg[1]);
}

/* openat2(): strict about flags, and without the RESOLVE_* restrictions. */
int64_t
sys_openat2(const struct syscall_args *args)
{
    uint64_t how[3];

    if (args->arg[3] < sizeof how) {
        return -EINVAL;
    }
    if (args->arg[3] > FS_PAGE_BYTES) {
        return -E2BIG;
    }
    if (user_read(how, args->arg[2], sizeof how) != 0) {
        return -EFAULT;
    }
    if ((how[0] & ~(uint64_t)OPEN_FLAGS_KNOWN) || how[1] > 07777 ||
        (how[1] != 0 && !(how[0] & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))))) {
        return -EINVAL;
    }
    if (how[2] != 0) {
        return -EINVAL;
    }
    return open_call((int32_t)args->arg[0], args->arg[1], (uint32_t)how[0], (uint32_t)how[1]);
}

int64_t
vfs_open_console(void)
{
    struct file *file;
    int64_t error = vfs_open_path("/dev/console", O_RDWR, 0, &file);

    if (error != 0) {
        return error;
    }
    for (int fd = 0; error == 0 && fd < 3; fd++) {
        int got = fd_install(file, fd, false);

        error = got < 0 ? got : 0;
    }
    file_put(file);
    return error;
}

/* ---- close ---------------------------------------------------------------------------- */

int64_t
sys_close(const struct syscall_args *args)
{
    return fd_close((int32_t)args->arg[0]);
}

enum { CLOSE_RANGE_UNSHARE = 2, CLOSE_RANGE_CLOEXEC = 4 };

int64_t
sys_close_range(const struct syscall_args *args)
{
    uint32_t first = (uint32_t)args->arg[0], last = (uint32_t)args->arg[1];
    uint32_t flags = (uint32_t)args->arg[2];
    struct fd_table *table = thread_current()->files;

    if (first > last || (flags & ~(uint32_t)CLOSE_RANGE_CLOEXEC)) {
        return -EINVAL; /* CLOSE_RANGE_UNSHARE too: not offered */
    }
    if (first >= FD_LIMIT) {
        return 0;
    }
    for (int fd = fd_table_next(table, (int)first); fd >= 0 && (uint32_t)fd <= last;
         fd = fd_table_next(table, fd + 1)) {
        if (flags & CLOSE_RANGE_CLOEXEC) {
            fd_set_cloexec(fd, true);
        } else {
            fd_close(fd);
        }
    }
    return 0;
}

/* ---- dup -------------------------------------------------------------------------------- */

static int64_t
dup_at_least(int fd, int minimum, bool close_on_exec)
{
    struct file *file = file_get_any(fd);

    if (file == NULL) {
        return -EBADF;
    }
    int copy = fd_install(file, minimum, close_on_exec);
    file_put(file);
    return copy;
}

static int64_t
dup_onto(int fd, int target, bool close_on_exec)
{
    struct file *file = file_get_any(fd);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t result = fd == target ? target : fd_replace(target, file, close_on_exec);
    file_put(file);
    return result;
}

int64_t
sys_dup(const struct syscall_args *args)
{
    return dup_at_least((int32_t)args->arg[0], 0, false);
}

int64_t
sys_dup2(const struct syscall_args *args)
{
    return dup_onto((int32_t)args->arg[0], (int32_t)args->arg[1], false);
}

int64_t
sys_dup3(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[2];

    if ((flags & ~(uint32_t)O_CLOEXEC) || (int32_t)args->arg[0] == (int32_t)args->arg[1]) {
        return -EINVAL;
    }
    return dup_onto((int32_t)args->arg[0], (int32_t)args->arg[1], (flags & O_CLOEXEC) != 0);
}

/* ---- fcntl --------------------------------------------------------------------------------- */

enum {
    F_DUPFD = 0,
    F_GETFD = 1,
    F_SETFD = 2,
    F_GETFL = 3,
    F_SETFL = 4,
    F_GETLK = 5,
    F_SETLK = 6,
    F_SETLKW = 7,
    F_SETOWN = 8,
    F_GETOWN = 9,
    F_OFD_GETLK = 36,
    F_OFD_SETLK = 37,
    F_OFD_SETLKW = 38,
    F_DUPFD_CLOEXEC = 1030,
    F_SETPIPE_SZ = 1031,
    F_GETPIPE_SZ = 1032,
    F_ADD_SEALS = 1033,
    F_GET_SEALS = 1034,
    FD_CLOEXEC = 1,
};

#define FLAGS_CHANGEABLE (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

static void
flags_change(struct file *file, uint32_t mask, uint32_t value)
{
    uint32_t old = atomic_load(&file->flags);

    while (!atomic_compare_exchange_weak(&file->flags, &old, (old & ~mask) | (value & mask))) {
    }
}

static int64_t
record_call(struct file *file, int command, uint64_t user)
{
    struct record_lock lock;
    enum record_owner owner = command >= F_OFD_GETLK ? OWNER_FILE : OWNER_PROCESS;

    if (user_read(&lock, user, sizeof lock) != 0) {
        return -EFAULT;
    }
    if (owner == OWNER_FILE && lock.pid != 0) {
        return -EINVAL;
    }
    if (command == F_GETLK || command == F_OFD_GETLK) {
        int64_t error = record_lock_test(file, &lock, owner);

        return error != 0 ? error : user_write(user, &lock, sizeof lock);
    }
    return record_lock_set(file, &lock, owner, command == F_SETLKW || command == F_OFD_SETLKW);
}

static int64_t
fcntl_file(struct file *file, int command, uint64_t argument)
{
    switch (command) {
    case F_GETFL:
        return (int64_t)atomic_load(&file->flags);
    case F_SETFL:
        flags_change(file, FLAGS_CHANGEABLE, (uint32_t)argument);
        return 0;
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
        return record_call(file, command, argument);
    case F_SETOWN:
    case F_GETOWN:
        return 0; /* nothing here raises SIGIO */
    case F_SETPIPE_SZ:
        return pipe_set_size(file, argument);
    case F_GETPIPE_SZ:
        return pipe_get_size(file);
    case F_ADD_SEALS:
        return file->mode & FILE_WRITE ? tmpfs_seal(file->inode, (uint32_t)argument) : -EPERM;
    case F_GET_SEALS:
        return tmpfs_has_seals(file->inode) ? (int64_t)file->inode->seals : -EINVAL;
    default:
        return -EINVAL;
    }
}

int64_t
sys_fcntl(const struct syscall_args *args)
{
    int fd = (int32_t)args->arg[0];
    int command = (int32_t)args->arg[1];
    uint64_t argument = args->arg[2];
    int64_t result;

    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        if ((int32_t)argument < 0) {
            return fd_get_cloexec(fd) < 0 ? -EBADF : -EINVAL;
        }
        result = dup_at_least(fd, (int32_t)argument, command == F_DUPFD_CLOEXEC);
        return result;
    case F_GETFD:
        return fd_get_cloexec(fd);
    case F_SETFD:
        return fd_set_cloexec(fd, (argument & FD_CLOEXEC) != 0);
    default:
        break;
    }
    struct file *file = file_get_any(fd);
    if (file == NULL) {
        return -EBADF;
    }
    result = (file->mode & FILE_PATH_ONLY) && command != F_GETFL
                 ? -EBADF
                 : fcntl_file(file, command, argument);
    file_put(file);
    return result;
}

/* ---- ioctl ---------------------------------------------------------------------------------- */

enum {
    FIONBIO = 0x5421,
    FIONCLEX = 0x5450,
    FIOCLEX = 0x5451,
    FIOASYNC = 0x5452,
    FIONREAD = 0x541b
};

static int64_t
ioctl_flag(struct file *file, uint32_t flag, uint64_t user)
{
    uint32_t on;

    if (user_read_u32(&on, user) != 0) {
        return -EFAULT;
    }
    flags_change(file, flag, on != 0 ? flag : 0);
    return 0;
}

static int64_t
ioctl_file(struct file *file, uint32_t command, uint64_t argument)
{
    if (command == FIONBIO) {
        return ioctl_flag(file, O_NONBLOCK, argument);
    }
    if (command == FIOASYNC) {
        return ioctl_flag(file, O_ASYNC, argument);
    }
    if (command == FIONREAD && S_ISTYPE(file->inode->mode, S_IFREG)) {
        uint64_t size = file_size(file);

        return user_write_u32(argument,
                              file->position < size ? (uint32_t)(size - file->position) : 0);
    }
    return file->ops->ioctl == NULL ? -ENOTTY : file->ops->ioctl(file, command, argument);
}

int64_t
sys_ioctl(const struct syscall_args *args)
{
    int fd = (int32_t)args->arg[0];
    uint32_t command = (uint32_t)args->arg[1];

    if (command == FIOCLEX || command == FIONCLEX) {
        return fd_set_cloexec(fd, command == FIOCLEX);
    }
    struct file *file = file_get(fd);
    if (file == NULL) {
        return -EBADF;
    }
    int64_t result = ioctl_file(file, command, args->arg[2]);
    file_put(file);
    return result;
}

/* ---- pipes and memory files ------------------------------------------------------------------ */

/* Two descriptors that the user is told before they exist: nothing is left on a fault. */
static int64_t
pipe_into_descriptors(uint64_t user, uint32_t flags)
{
    struct file *ends[2];
    int32_t fds[2];
    int64_t error = pipe_create(flags & O_NONBLOCK, ends);

    if (error != 0) {
        return error;
    }
    fds[0] = fd_reserve(0);
    fds[1] = fds[0] < 0 ? fds[0] : fd_reserve(0);
    if (fds[1] < 0) {
        error = fds[1];
    } else {
        error = user_write(user, fds, sizeof fds);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (error == 0) {
            fd_fill(fds[i], ends[i], (flags & O_CLOEXEC) != 0);
            continue;
        }
        if (fds[i] >= 0) {
            fd_unreserve(fds[i]);
        }
        file_put(ends[i]);
    }
    return error;
}

int64_t
sys_pipe(const struct syscall_args *args)
{
    return pipe_into_descriptors(args->arg[0], 0);
}

int64_t
sys_pipe2(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[1];

    if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK)) {
        return -EINVAL;
    }
    return pipe_into_descriptors(args->arg[0], flags);
}

int64_t
sys_memfd_create(const struct syscall_args *args)
{
    char name[NAME_MAX - 5];
    uint32_t flags = (uint32_t)args->arg[1];
    struct file *file;

    if ((flags & ~(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_NOEXEC_SEAL | MFD_EXEC |
                   (flags & MFD_HUGETLB ? MFD_HUGE_SIZE : 0))) ||
        (flags & (MFD_NOEXEC_SEAL | MFD_EXEC)) == (MFD_NOEXEC_SEAL | MFD_EXEC)) {
        return -EINVAL;
    }
    int64_t length = user_read_string(name, args->arg[0], sizeof name);
    if (length < 0) {
        return length == -ENAMETOOLONG ? -EINVAL : length;
    }
    int64_t error = vfs_create_memfd(name, flags, &file);
    if (error != 0) {
        return error;
    }
    int fd = fd_install(file, 0, (flags & MFD_CLOEXEC) != 0);
    file_put(file);
    return fd;
}
