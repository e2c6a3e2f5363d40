/* SPDX-License-Identifier: MIT */
/*
 * Files: stat, statfs, record locks and directory entries in their 32-bit forms, and
 * 64-bit positions that come in two registers.
 */
#include "abi.h"

#include "../../fs/abi_stat.h"
#include "io.h"

/* ---- stat -------------------------------------------------------------------------- */

/** struct stat64; on i386 64-bit numbers align to four. */
struct stat64_user {
    uint64_t dev;
    uint32_t pad0, short_ino;
    uint32_t mode, nlink, uid, gid;
    uint64_t rdev;
    uint32_t pad1;
    int64_t size;
    uint32_t blksize;
    uint64_t blocks;
    struct abi_time32 accessed, modified, changed;
    uint64_t ino;
};

_Static_assert(sizeof(struct stat64_user) == 96, "Linux ABI");

/** struct stat, of before large files. */
struct stat_user {
    uint32_t dev, ino;
    uint16_t mode, nlink, uid, gid;
    uint32_t rdev, size, blksize, blocks;
    struct abi_time32 accessed, modified, changed;
    uint32_t unused[2];
};

_Static_assert(sizeof(struct stat_user) == 64, "Linux ABI");

static struct abi_time32
narrow_time(struct timespec time)
{
    return (struct abi_time32){(int32_t)time.seconds, (int32_t)time.nanoseconds};
}

static int64_t
stat64_write(uint64_t address, const struct abi_stat *from)
{
    struct stat64_user user = {
        .dev = from->st_dev,
        .short_ino = (uint32_t)from->st_ino,
        .mode = from->st_mode,
        .nlink = (uint32_t)from->st_nlink,
        .uid = from->st_uid,
        .gid = from->st_gid,
        .rdev = from->st_rdev,
        .size = from->st_size,
        .blksize = (uint32_t)from->st_blksize,
        .blocks = (uint64_t)from->st_blocks,
        .accessed = narrow_time(from->st_atim),
        .modified = narrow_time(from->st_mtim),
        .changed = narrow_time(from->st_ctim),
        .ino = from->st_ino,
    };

    return user_write(address, &user, sizeof user);
}

static uint16_t
short_id(uint32_t id)
{
    return id > UINT16_MAX ? 65534 : (uint16_t)id;
}

static int64_t
stat_write(uint64_t address, const struct abi_stat *from)
{
    struct stat_user user = {
        .dev = (uint32_t)from->st_dev,
        .ino = (uint32_t)from->st_ino,
        .mode = (uint16_t)from->st_mode,
        .nlink = (uint16_t)from->st_nlink,
        .uid = short_id(from->st_uid),
        .gid = short_id(from->st_gid),
        .rdev = (uint32_t)from->st_rdev,
        .size = (uint32_t)from->st_size,
        .blksize = (uint32_t)from->st_blksize,
        .blocks = (uint32_t)from->st_blocks,
        .accessed = narrow_time(from->st_atim),
        .modified = narrow_time(from->st_mtim),
        .changed = narrow_time(from->st_ctim),
    };

    if (from->st_size > INT32_MAX || from->st_ino > UINT32_MAX || from->st_nlink > UINT16_MAX)
        return -EOVERFLOW;
    return user_write(address, &user, sizeof user);
}

/* @call writes a native stat where argument @n points. */
static int64_t
stat_call(syscall_fn call, const struct syscall_args *args, unsigned n,
          int64_t (*write)(uint64_t, const struct abi_stat *))
{
    struct abi_stat stat;
    struct syscall_args native = *args;
    int64_t result;

    native.arg[n] = exchange_address(&stat);
    result = exchange_call(call, &native, &stat, sizeof stat);
    return result == 0 ? write(args->arg[n], &stat) : result;
}

int64_t
abi_stat(const struct syscall_args *args)
{
    return stat_call(sys_stat, args, 1, stat_write);
}

int64_t
abi_lstat(const struct syscall_args *args)
{
    return stat_call(sys_lstat, args, 1, stat_write);
}

int64_t
abi_fstat(const struct syscall_args *args)
{
    return stat_call(sys_fstat, args, 1, stat_write);
}

int64_t
abi_stat64(const struct syscall_args *args)
{
    return stat_call(sys_stat, args, 1, stat64_write);
}

int64_t
abi_lstat64(const struct syscall_args *args)
{
    return stat_call(sys_lstat, args, 1, stat64_write);
}

int64_t
abi_fstat64(const struct syscall_args *args)
{
    return stat_call(sys_fstat, args, 1, stat64_write);
}

int64_t
abi_fstatat64(const struct syscall_args *args)
{
    return stat_call(sys_newfstatat, args, 2, stat64_write);
}

/* ---- statfs ------------------------------------------------------------------------- */

struct statfs_user {
    uint32_t type, bsize, blocks, bfree, bavail, files, ffree;
    int32_t fsid[2];
    uint32_t namelen, frsize, flags, spare[4];
};

struct __attribute__((packed, aligned(4))) statfs64_user {
    uint32_t type, bsize;
    uint64_t blocks, bfree, bavail, files, ffree;
    int32_t fsid[2];
    uint32_t namelen, frsize, flags, spare[4];
};

_Static_assert(sizeof(struct statfs_user) == 64, "Linux ABI");
_Static_assert(sizeof(struct statfs64_user) == 84, "Linux ABI");

static int64_t
statfs_read(syscall_fn call, const struct syscall_args *args, struct abi_statfs *out)
{
    struct syscall_args native = {{args->arg[0], exchange_address(out)}};

    return exchange_call(call, &native, out, sizeof *out);
}

static int64_t
statfs_call(syscall_fn call, const struct syscall_args *args)
{
    struct abi_statfs from;
    struct statfs_user user;
    int64_t result = statfs_read(call, args, &from);

    if (result != 0)
        return result;
    if ((from.f_blocks | from.f_bfree | from.f_files | from.f_ffree) > UINT32_MAX)
        return -EOVERFLOW;
    user = (struct statfs_user){
        .type = (uint32_t)from.f_type,
        .bsize = (uint32_t)from.f_bsize,
        .blocks = (uint32_t)from.f_blocks,
        .bfree = (uint32_t)from.f_bfree,
        .bavail = (uint32_t)from.f_bavail,
        .files = (uint32_t)from.f_files,
        .ffree = (uint32_t)from.f_ffree,
        .fsid = {from.f_fsid[0], from.f_fsid[1]},
        .namelen = (uint32_t)from.f_namelen,
        .frsize = (uint32_t)from.f_frsize,
        .flags = (uint32_t)from.f_flags,
    };
    return user_write(args->arg[1], &user, sizeof user);
}

/* The second argument is the size of the program's structure. */
static int64_t
statfs64_call(syscall_fn call, const struct syscall_args *args)
{
    struct abi_statfs from;
    struct statfs64_user user;
    int64_t result;

    if (args->arg[1] != sizeof user && args->arg[1] != sizeof user + 4)
        return -EINVAL;
    result = statfs_read(call, args, &from);
    if (result != 0)
        return result;
    user = (struct statfs64_user){
        .type = (uint32_t)from.f_type,
        .bsize = (uint32_t)from.f_bsize,
        .blocks = from.f_blocks,
        .bfree = from.f_bfree,
        .bavail = from.f_bavail,
        .files = from.f_files,
        .ffree = from.f_ffree,
        .fsid = {from.f_fsid[0], from.f_fsid[1]},
        .namelen = (uint32_t)from.f_namelen,
        .frsize = (uint32_t)from.f_frsize,
        .flags = (uint32_t)from.f_flags,
    };
    return user_write(args->arg[2], &user, sizeof user);
}

int64_t
abi_statfs(const struct syscall_args *args)
{
    return statfs_call(sys_statfs, args);
}

int64_t
abi_fstatfs(const struct syscall_args *args)
{
    return statfs_call(sys_fstatfs, args);
}

int64_t
abi_statfs64(const struct syscall_args *args)
{
    return statfs64_call(sys_statfs, args);
}

int64_t
abi_fstatfs64(const struct syscall_args *args)
{
    return statfs64_call(sys_fstatfs, args);
}

/* ---- Positions and lengths ------------------------------------------------------------ */

static uint64_t
sign_extend(uint64_t word)
{
    return (uint64_t)(int64_t)(int32_t)word;
}

int64_t
abi_lseek(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], sign_extend(args->arg[1]), args->arg[2]}};
    int64_t result = sys_lseek(&native);

    return result > INT32_MAX ? -EOVERFLOW : result;
}

/* fd, offset high, offset low, where the result goes, whence */
int64_t
abi_llseek(const struct syscall_args *args)
{
    struct syscall_args native = {
        {args->arg[0], args->arg[1] << 32 | (uint32_t)args->arg[2], args->arg[4]}};
    int64_t result = sys_lseek(&native);

    return result < 0 ? result : user_write_u64(args->arg[3], (uint64_t)result);
}

int64_t
abi_truncate(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], sign_extend(args->arg[1])}};

    return sys_truncate(&native);
}

int64_t
abi_ftruncate(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], sign_extend(args->arg[1])}};

    return sys_ftruncate(&native);
}

int64_t
abi_truncate64(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], abi_pair(args, 1)}};

    return sys_truncate(&native);
}

int64_t
abi_ftruncate64(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], abi_pair(args, 1)}};

    return sys_ftruncate(&native);
}

/* fd, buffer or vector, count, and a position in two registers; then flags. */
static int64_t
positioned(syscall_fn call, const struct syscall_args *args)
{
    struct syscall_args native = {
        {args->arg[0], args->arg[1], args->arg[2], abi_pair(args, 3), 0, args->arg[5]}};

    return call != NULL ? call(&native) : -ENOSYS;
}

int64_t
abi_pread64(const struct syscall_args *args)
{
    return positioned(sys_pread64, args);
}

int64_t
abi_pwrite64(const struct syscall_args *args)
{
    return positioned(sys_pwrite64, args);
}

int64_t
abi_preadv(const struct syscall_args *args)
{
    return positioned(sys_preadv, args);
}

int64_t
abi_pwritev(const struct syscall_args *args)
{
    return positioned(sys_pwritev, args);
}

int64_t
abi_preadv2(const struct syscall_args *args)
{
    return positioned(sys_preadv2, args);
}

int64_t
abi_pwritev2(const struct syscall_args *args)
{
    return positioned(sys_pwritev2, args);
}

int64_t
abi_readahead(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], abi_pair(args, 1), args->arg[3]}};

    return sys_readahead(&native);
}

int64_t
abi_fadvise64(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], abi_pair(args, 1), args->arg[3], args->arg[4]}};

    return sys_fadvise64(&native);
}

int64_t
abi_fadvise64_64(const struct syscall_args *args)
{
    struct syscall_args native = {
        {args->arg[0], abi_pair(args, 1), abi_pair(args, 3), args->arg[5]}};

    return sys_fadvise64(&native);
}

int64_t
abi_fallocate(const struct syscall_args *args)
{
    struct syscall_args native = {
        {args->arg[0], args->arg[1], abi_pair(args, 2), abi_pair(args, 4)}};

    return sys_fallocate(&native);
}

int64_t
abi_sync_file_range(const struct syscall_args *args)
{
    struct syscall_args native = {
        {args->arg[0], abi_pair(args, 1), abi_pair(args, 3), args->arg[5]}};

    return sys_sync_file_range(&native);
}

int64_t
abi_sendfile(const struct syscall_args *args)
{
    struct syscall_args native = *args;
    uint32_t user;
    uint64_t position;
    int64_t result;

    if (args->arg[2] == 0)
        return sys_sendfile(args);
    if (user_read_u32(&user, args->arg[2]) != 0)
        return -EFAULT;
    position = sign_extend(user);
    native.arg[2] = exchange_address(&position);
    result = exchange_call(sys_sendfile, &native, &position, sizeof position);
    if (result >= 0 && user_write_u32(args->arg[2], (uint32_t)position) != 0)
        return -EFAULT;
    return result;
}

/* ---- fcntl ------------------------------------------------------------------------------ */

enum { F_GETLK = 5, F_SETLK = 6, F_SETLKW = 7, F_GETLK64 = 12, F_SETLKW64 = 14 };

struct flock_user {
    int16_t type, whence;
    int32_t start, length, pid;
};

/** struct flock64, which is the kernel's: on i386 64-bit numbers align to four. */
struct flock_native {
    int16_t type, whence;
    int64_t start, length;
    int32_t pid;
};

_Static_assert(sizeof(struct flock_native) == 24, "Linux ABI");

static int64_t
record_lock_call(const struct syscall_args *args)
{
    struct flock_user user;
    struct flock_native lock;
    struct syscall_args native = *args;
    int64_t result;

    if (user_read(&user, args->arg[2], sizeof user) != 0)
        return -EFAULT;
    lock = (struct flock_native){user.type, user.whence, user.start, user.length, user.pid};
    native.arg[2] = exchange_address(&lock);
    result = exchange_call(sys_fcntl, &native, &lock, sizeof lock);
    if (result != 0 || (uint32_t)args->arg[1] != F_GETLK)
        return result;
    if (lock.start > INT32_MAX || lock.length > INT32_MAX)
        return -EOVERFLOW;
    user = (struct flock_user){lock.type, lock.whence, (int32_t)lock.start, (int32_t)lock.length,
                               lock.pid};
    return user_write(args->arg[2], &user, sizeof user);
}

int64_t
abi_fcntl64(const struct syscall_args *args)
{
    struct syscall_args native = *args;
    uint32_t command = (uint32_t)args->arg[1];

    if (command >= F_GETLK && command <= F_SETLKW)
        return record_lock_call(args);
    if (command >= F_GETLK64 && command <= F_SETLKW64)
        native.arg[1] = command - F_GETLK64 + F_GETLK;
    return sys_fcntl(&native);
}

int64_t
abi_fcntl(const struct syscall_args *args)
{
    uint32_t command = (uint32_t)args->arg[1];

    return command >= F_GETLK64 && command <= F_SETLKW64 ? -EINVAL : abi_fcntl64(args);
}

/* ---- Directories -------------------------------------------------------------------------- */

enum { DIRENTS_BYTES_MAX = 8192, DIRENT64_HEADER = 19, DIRENT_HEADER = 10 };

struct __attribute__((packed)) dirent64 {
    uint64_t inode;
    int64_t next;
    uint16_t bytes;
    uint8_t type;
    char name[];
};

struct __attribute__((packed)) dirent {
    uint32_t inode, next;
    uint16_t bytes;
    char name[];
};

/**
 * Rewrite @bytes of getdents64 entries in place as getdents ones, which are shorter:
 * the same but for smaller numbers and the type as the last byte.
 */
static int64_t
dirents_narrow(char *buffer, size_t bytes)
{
    size_t from = 0;
    size_t to = 0;

    while (from < bytes) {
        const struct dirent64 *entry = (const struct dirent64 *)(buffer + from);
        struct dirent *out = (struct dirent *)(buffer + to);
        size_t record = entry->bytes;
        size_t name_bytes = strlen(entry->name) + 1;
        uint8_t type = entry->type;
        uint32_t inode = (uint32_t)entry->inode;
        uint32_t next = (uint32_t)entry->next;

        if (entry->inode > UINT32_MAX) /* a position is cut short, as by Linux */
            return to != 0 ? (int64_t)to : -EOVERFLOW;
        memmove(out->name, entry->name, name_bytes);
        out->inode = inode;
        out->next = next;
        out->bytes = (uint16_t)((DIRENT_HEADER + name_bytes + 1 + 3) & ~(size_t)3);
        memset(out->name + name_bytes, 0, out->bytes - DIRENT_HEADER - name_bytes);
        buffer[to + out->bytes - 1] = (char)type;
        to += out->bytes;
        from += record;
    }
    return (int64_t)to;
}

static int64_t
entries_read(int fd, char *buffer, size_t bytes)
{
    struct file *file = file_get(fd);
    struct io io;
    int64_t result = -ENOTDIR;

    if (file == NULL)
        return -EBADF;
    if (file->ops->read_directory != NULL) {
        io_init_kernel(&io, buffer, bytes);
        qr_mutex_lock(&file->position_lock);
        result = file->ops->read_directory(file, &io);
        qr_mutex_unlock(&file->position_lock);
    }
    file_put(file);
    return result;
}

int64_t
abi_getdents(const struct syscall_args *args)
{
    size_t bytes = (uint32_t)args->arg[2];
    char *buffer;
    int64_t result;

    bytes = bytes < DIRENTS_BYTES_MAX ? bytes : DIRENTS_BYTES_MAX;
    buffer = kmem_alloc(bytes == 0 ? 1 : bytes);
    if (buffer == NULL)
        return -ENOMEM;
    result = entries_read((int32_t)args->arg[0], buffer, bytes);
    if (result > 0)
        result = dirents_narrow(buffer, (size_t)result);
    if (result > 0 && user_write(args->arg[1], buffer, (size_t)result) != 0)
        result = -EFAULT;
    kmem_free(buffer);
    return result;
}

int64_t
abi_umount(const struct syscall_args *args)
{
    struct syscall_args native = {{args->arg[0], 0}};

    return sys_umount2(&native);
}
