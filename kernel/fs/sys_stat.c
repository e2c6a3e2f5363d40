/* SPDX-License-Identifier: MIT */
/*
 * System calls that read and change attributes.
 */

#include "abi_stat.h"
#include "fs.h"
#include "hugetlb.h"
#include "proc.h"
#include "syscall.h"
#include "tmpfs.h"

_Static_assert(sizeof(struct abi_statx) == 256, "struct statx");
_Static_assert(sizeof(struct abi_statfs) == 120, "struct statfs");

/* Linux's 64-bit device number: the low byte of the minor, the major, the rest of the minor. */
static uint64_t
device_encode(uint32_t device)
{
    uint32_t major = DEV_MAJOR(device), minor = DEV_MINOR(device);

    return (minor & 0xffu) | (uint64_t)major << 8 | (uint64_t)(minor & ~0xffu) << 12;
}

static uint64_t
blocks_of(const struct inode *inode)
{
    if (inode->ops->blocks != NULL) {
        return inode->ops->blocks((struct inode *)(uintptr_t)inode);
    }
    return tmpfs_has_seals(inode) ? tmpfs_inode_pages(inode) * (FS_PAGE_BYTES / 512) : 0;
}

static uint32_t
block_bytes_of(const struct inode *inode)
{
    uint64_t huge = hugetlb_inode_page_bytes(inode);

    return huge != 0 ? (uint32_t)huge : FS_PAGE_BYTES;
}

static uint64_t
size_of(const struct inode *inode)
{
    bool is_stored = inode->superblock->type->needs_device;

    return S_ISTYPE(inode->mode, S_IFDIR) && !is_stored ? 0 : atomic_load(&inode->size);
}

static void
inode_refresh(struct inode *inode)
{
    if (inode->ops->refresh != NULL) {
        inode->ops->refresh(inode);
    }
}

static int64_t
stat_write(struct inode *inode, uint64_t user)
{
    inode_refresh(inode);
    struct abi_stat stat = {
        .st_dev = device_encode(inode->superblock->device),
        .st_ino = inode->number,
        .st_nlink = inode->links,
        .st_mode = inode->mode,
        .st_uid = inode->uid,
        .st_gid = inode->gid,
        .st_rdev = device_encode(inode->rdev),
        .st_size = (int64_t)size_of(inode),
        .st_blksize = block_bytes_of(inode),
        .st_blocks = (int64_t)blocks_of(inode),
        .st_atim = inode->accessed,
        .st_mtim = inode->modified,
        .st_ctim = inode->changed,
    };
    return user_write(user, &stat, sizeof stat);
}

static int64_t
stat_path(int dirfd, uint64_t user_path, uint32_t at_flags, uint64_t user_stat)
{
    struct dentry *dentry;
    int64_t error = path_lookup_user(dirfd, user_path, at_flags, &dentry);

    if (error == 0) {
        error = stat_write(dentry->inode, user_stat);
        dentry_put(dentry);
    }
    return error;
}

int64_t
sys_stat(const struct syscall_args *args)
{
    return stat_path(AT_FDCWD, args->arg[0], 0, args->arg[1]);
}

int64_t
sys_lstat(const struct syscall_args *args)
{
    return stat_path(AT_FDCWD, args->arg[0], AT_SYMLINK_NOFOLLOW, args->arg[1]);
}

int64_t
sys_fstat(const struct syscall_args *args)
{
    struct file *file = file_get_any((int32_t)args->arg[0]);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t error = stat_write(file->inode, args->arg[1]);
    file_put(file);
    return error;
}

int64_t
sys_newfstatat(const struct syscall_args *args)
{
    uint32_t at_flags = (uint32_t)args->arg[3];

    if (at_flags & ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)) {
        return -EINVAL;
    }
    return stat_path((int32_t)args->arg[0], args->arg[1], at_flags, args->arg[2]);
}

/* ---- statx ---------------------------------------------------------------------------- */

enum { STATX_BASIC_STATS = 0x7ff, STATX_RESERVED = 0x80000000u, AT_STATX_SYNC_TYPE = 0x6000 };

static struct abi_statx_timestamp
statx_time(struct timespec time)
{
    return (struct abi_statx_timestamp){.seconds = time.seconds,
                                        .nanoseconds = (uint32_t)time.nanoseconds};
}

static int64_t
statx_write(struct inode *inode, uint64_t user)
{
    inode_refresh(inode);
    struct abi_statx statx = {
        .mask = STATX_BASIC_STATS,
        .blksize = block_bytes_of(inode),
        .nlink = inode->links,
        .uid = inode->uid,
        .gid = inode->gid,
        .mode = (uint16_t)inode->mode,
        .ino = inode->number,
        .size = size_of(inode),
        .blocks = blocks_of(inode),
        .atime = statx_time(inode->accessed),
        .ctime = statx_time(inode->changed),
        .mtime = statx_time(inode->modified),
        .rdev_major = DEV_MAJOR(inode->rdev),
        .rdev_minor = DEV_MINOR(inode->rdev),
        .dev_major = DEV_MAJOR(inode->superblock->device),
        .dev_minor = DEV_MINOR(inode->superblock->device),
    };
    return user_write(user, &statx, sizeof statx);
}

int64_t
sys_statx(const struct syscall_args *args)
{
    struct dentry *dentry;
    uint32_t at_flags = (uint32_t)args->arg[2];

    if (((uint32_t)args->arg[3] & STATX_RESERVED) ||
        (at_flags &
         ~(AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | (uint32_t)AT_STATX_SYNC_TYPE)) ||
        (at_flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE) {
        return -EINVAL;
    }
    int64_t error = path_lookup_user((int32_t)args->arg[0], args->arg[1], at_flags, &dentry);
    if (error == 0) {
        error = statx_write(dentry->inode, args->arg[4]);
        dentry_put(dentry);
    }
    return error;
}

/* ---- access ---------------------------------------------------------------------------- */

static int64_t
access_call(int dirfd, uint64_t user_path, uint32_t wish, uint32_t at_flags)
{
    const struct credentials *who = &process_current()->credentials;
    struct dentry *dentry;

    if (wish > 7 || (at_flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))) {
        return -EINVAL;
    }
    int64_t error = path_lookup_user(dirfd, user_path, at_flags, &dentry);
    if (error != 0) {
        return error;
    }
    struct inode *inode = dentry->inode;
    bool effective = (at_flags & AT_EACCESS) != 0;
    if (!inode_allows_user(inode, wish, effective ? who->fsuid : who->uid,
                           effective ? who->fsgid : who->gid)) {
        error = -EACCES;
    } else if ((wish & ACCESS_WRITE) && superblock_is_read_only(inode->superblock) &&
               (S_ISTYPE(inode->mode, S_IFREG) || S_ISTYPE(inode->mode, S_IFDIR))) {
        error = -EROFS;
    } else if ((wish & ACCESS_EXECUTE) && (inode->superblock->mount_flags & MS_NOEXEC) &&
               S_ISTYPE(inode->mode, S_IFREG)) {
        error = -EACCES;
    }
    dentry_put(dentry);
    return error;
}

int64_t
sys_access(const struct syscall_args *args)
{
    return access_call(AT_FDCWD, args->arg[0], (uint32_t)args->arg[1], 0);
}

int64_t
sys_faccessat(const struct syscall_args *args)
{
    return access_call((int32_t)args->arg[0], args->arg[1], (uint32_t)args->arg[2], 0);
}

int64_t
sys_faccessat2(const struct syscall_args *args)
{
    return access_call((int32_t)args->arg[0], args->arg[1], (uint32_t)args->arg[2],
                       (uint32_t)args->arg[3]);
}

/* ---- changing attributes ------------------------------------------------------------------ */

/* A change applied to an inode; runs with I held. */
struct change {
    int64_t (*apply)(struct inode *inode, const struct change *change);
    uint32_t mode, uid, gid;
    struct timespec times[2]; /* access, modification */
};

static int64_t
change_inode(struct inode *inode, const struct change *change)
{
    if (superblock_is_read_only(inode->superblock)) {
        return -EROFS;
    }
    qr_mutex_lock(&inode->lock);
    int64_t error = change->apply(inode, change);
    if (error == 0) {
        inode_touch(inode, false);
    }
    qr_mutex_unlock(&inode->lock);
    return error;
}

static int64_t
change_path(int dirfd, uint64_t user_path, uint32_t at_flags, const struct change *change)
{
    struct dentry *dentry;
    int64_t error = path_lookup_user(dirfd, user_path, at_flags, &dentry);

    if (error == 0) {
        error = change_inode(dentry->inode, change);
        dentry_put(dentry);
    }
    return error;
}

static int64_t
change_descriptor(int fd, const struct change *change)
{
    struct file *file = file_get(fd);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t error = change_inode(file->inode, change);
    file_put(file);
    return error;
}

static bool
is_owner(const struct inode *inode)
{
    uint32_t uid = process_fsuid();

    return uid == 0 || uid == inode->uid;
}

static int64_t
mode_apply(struct inode *inode, const struct change *change)
{
    if (!is_owner(inode)) {
        return -EPERM;
    }
    if (S_ISTYPE(inode->mode, S_IFLNK)) {
        return -EOPNOTSUPP;
    }
    if (!tmpfs_may_change_mode(inode, change->mode)) {
        return -EPERM;
    }
    inode->mode = (inode->mode & S_IFMT) | (change->mode & 07777u);
    return 0;
}

int64_t
sys_chmod(const struct syscall_args *args)
{
    struct change change = {.apply = mode_apply, .mode = (uint32_t)args->arg[1]};

    return change_path(AT_FDCWD, args->arg[0], 0, &change);
}

int64_t
sys_fchmod(const struct syscall_args *args)
{
    struct change change = {.apply = mode_apply, .mode = (uint32_t)args->arg[1]};

    return change_descriptor((int32_t)args->arg[0], &change);
}

int64_t
sys_fchmodat(const struct syscall_args *args)
{
    struct change change = {.apply = mode_apply, .mode = (uint32_t)args->arg[2]};

    return change_path((int32_t)args->arg[0], args->arg[1], 0, &change);
}

/* -1 leaves an identity alone. A change of owner drops the set-id bits of programs. */
static int64_t
owner_apply(struct inode *inode, const struct change *change)
{
    bool keeps_owner = change->uid == UINT32_MAX || change->uid == inode->uid;
    bool keeps_group =
        change->gid == UINT32_MAX || change->gid == inode->gid || change->gid == process_fsgid();

    if (process_fsuid() != 0 && !(keeps_owner && keeps_group && is_owner(inode))) {
        return -EPERM;
    }
    inode->uid = change->uid == UINT32_MAX ? inode->uid : change->uid;
    inode->gid = change->gid == UINT32_MAX ? inode->gid : change->gid;
    if (!S_ISTYPE(inode->mode, S_IFDIR)) {
        inode->mode &= ~S_ISUID;
        inode->mode &= inode->mode & 010u ? ~S_ISGID : ~0u;
    }
    return 0;
}

int64_t
sys_chown(const struct syscall_args *args)
{
    struct change change = {
        .apply = owner_apply, .uid = (uint32_t)args->arg[1], .gid = (uint32_t)args->arg[2]};

    return change_path(AT_FDCWD, args->arg[0], 0, &change);
}

int64_t
sys_lchown(const struct syscall_args *args)
{
    struct change change = {
        .apply = owner_apply, .uid = (uint32_t)args->arg[1], .gid = (uint32_t)args->arg[2]};

    return change_path(AT_FDCWD, args->arg[0], AT_SYMLINK_NOFOLLOW, &change);
}

int64_t
sys_fchown(const struct syscall_args *args)
{
    struct change change = {
        .apply = owner_apply, .uid = (uint32_t)args->arg[1], .gid = (uint32_t)args->arg[2]};

    return change_descriptor((int32_t)args->arg[0], &change);
}

int64_t
sys_fchownat(const struct syscall_args *args)
{
    struct change change = {
        .apply = owner_apply, .uid = (uint32_t)args->arg[2], .gid = (uint32_t)args->arg[3]};
    uint32_t at_flags = (uint32_t)args->arg[4];

    if (at_flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) {
        return -EINVAL;
    }
    return change_path((int32_t)args->arg[0], args->arg[1], at_flags, &change);
}

/* ---- times ------------------------------------------------------------------------------------ */

enum { UTIME_NOW = 0x3fffffff, UTIME_OMIT = 0x3ffffffe };

static int64_t
times_apply(struct inode *inode, const struct change *change)
{
    struct timespec *stamps[2] = {&inode->accessed, &inode->modified};

    if (!is_owner(inode) && !inode_allows(inode, ACCESS_WRITE)) {
        return -EACCES;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (change->times[i].nanoseconds == UTIME_NOW) {
            *stamps[i] = time_now();
        } else if (change->times[i].nanoseconds != UTIME_OMIT) {
            *stamps[i] = change->times[i];
        }
    }
    return 0;
}

static bool
nanoseconds_are_valid(int64_t ns)
{
    return (ns >= 0 && ns < 1000000000) || ns == UTIME_NOW || ns == UTIME_OMIT;
}

int64_t
sys_utimensat(const struct syscall_args *args)
{
    struct change change = {.apply = times_apply};
    uint32_t at_flags = (uint32_t)args->arg[3];

    change.times[0].nanoseconds = change.times[1].nanoseconds = UTIME_NOW;
    if (args->arg[2] != 0) {
        if (user_read(change.times, args->arg[2], sizeof change.times) != 0) {
            return -EFAULT;
        }
        for (unsigned i = 0; i < 2; i++) { /* a long: on 32 bits the rest is padding */
            change.times[i].nanoseconds = (intptr_t)change.times[i].nanoseconds;
        }
        if (!nanoseconds_are_valid(change.times[0].nanoseconds) ||
            !nanoseconds_are_valid(change.times[1].nanoseconds)) {
            return -EINVAL;
        }
    }
    if (at_flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) {
        return -EINVAL;
    }
    if (args->arg[1] == 0) {
        return at_flags & AT_SYMLINK_NOFOLLOW ? -EINVAL
                                              : change_descriptor((int32_t)args->arg[0], &change);
    }
    return change_path((int32_t)args->arg[0], args->arg[1], at_flags, &change);
}

/* Seconds and microseconds, or now. */
static int64_t
timevals_call(int dirfd, uint64_t user_path, uint64_t user_times)
{
    struct change change = {.apply = times_apply};

    change.times[0].nanoseconds = change.times[1].nanoseconds = UTIME_NOW;
    if (user_times != 0) {
        if (user_read(change.times, user_times, sizeof change.times) != 0) {
            return -EFAULT;
        }
        for (unsigned i = 0; i < 2; i++) {
            if (change.times[i].nanoseconds < 0 || change.times[i].nanoseconds >= 1000000) {
                return -EINVAL;
            }
            change.times[i].nanoseconds *= 1000;
        }
    }
    if (user_path == 0 && dirfd != AT_FDCWD) {
        return change_descriptor(dirfd, &change);
    }
    return change_path(dirfd, user_path, 0, &change);
}

int64_t
sys_utimes(const struct syscall_args *args)
{
    return timevals_call(AT_FDCWD, args->arg[0], args->arg[1]);
}

int64_t
sys_futimesat(const struct syscall_args *args)
{
    return timevals_call((int32_t)args->arg[0], args->arg[1], args->arg[2]);
}

int64_t
sys_utime(const struct syscall_args *args)
{
    struct change change = {.apply = times_apply};
    int64_t seconds[2];

    change.times[0].nanoseconds = change.times[1].nanoseconds = UTIME_NOW;
    if (args->arg[1] != 0) {
        if (user_read(seconds, args->arg[1], sizeof seconds) != 0) {
            return -EFAULT;
        }
        change.times[0] = (struct timespec){.seconds = seconds[0]};
        change.times[1] = (struct timespec){.seconds = seconds[1]};
    }
    return change_path(AT_FDCWD, args->arg[0], 0, &change);
}

/* ---- file systems ------------------------------------------------------------------------------- */

enum { ST_VALID = 0x20 };

static int64_t
statfs_write(const struct inode *inode, uint64_t user)
{
    struct superblock *superblock = inode->superblock;
    bool is_huge = hugetlb_inode_page_bytes(inode) != 0; /* memfd_create() can make one, too */
    struct abi_statfs statfs = {
        .f_type = is_huge ? HUGETLBFS_MAGIC : superblock->type->magic,
        .f_bsize = block_bytes_of(inode),
        .f_fsid = {(int32_t)superblock->device, 0},
        .f_namelen = NAME_MAX,
        .f_frsize = block_bytes_of(inode),
        .f_flags = (int64_t)(superblock->mount_flags & 0xfu) | ST_VALID,
    };
    if (superblock->huge != NULL) {
        struct hugetlbfs_usage usage;

        hugetlbfs_usage(superblock, &usage);
        statfs.f_bsize = statfs.f_frsize = (int64_t)usage.page_bytes;
        statfs.f_blocks = usage.pages;
        statfs.f_bfree = statfs.f_bavail = usage.free_pages;
        statfs.f_files = usage.inodes;
        statfs.f_ffree = usage.free_inodes;
    } else if (superblock->type->room != NULL) {
        struct superblock_room room;

        superblock->type->room(superblock, &room);
        statfs.f_bsize = statfs.f_frsize = (int64_t)room.block_bytes;
        statfs.f_blocks = room.blocks;
        statfs.f_bfree = room.free;
        statfs.f_bavail = room.available;
        statfs.f_files = room.files;
        statfs.f_ffree = room.free_files;
    } else if (superblock->type->writable_tree) {
        int64_t used = atomic_load(&superblock->pages);
        uint64_t taken = used > 0 ? (uint64_t)used : 0;
        uint64_t spare = fs_free_pages();
        uint64_t limit = superblock->page_limit;

        statfs.f_blocks = limit != 0 ? limit : taken + spare;
        statfs.f_bfree = limit == 0 ? spare : limit > taken ? limit - taken : 0;
        statfs.f_bavail = statfs.f_bfree;
        statfs.f_files = (uint64_t)atomic_load(&superblock->inodes) + spare;
        statfs.f_ffree = spare;
    }
    return user_write(user, &statfs, sizeof statfs);
}

int64_t
sys_statfs(const struct syscall_args *args)
{
    struct dentry *dentry;
    int64_t error = path_lookup_user(AT_FDCWD, args->arg[0], 0, &dentry);

    if (error == 0) {
        error = statfs_write(dentry->inode, args->arg[1]);
        dentry_put(dentry);
    }
    return error;
}

int64_t
sys_fstatfs(const struct syscall_args *args)
{
    struct file *file = file_get_any((int32_t)args->arg[0]);

    if (file == NULL) {
        return -EBADF;
    }
    int64_t error = statfs_write(file->inode, args->arg[1]);
    file_put(file);
    return error;
}
