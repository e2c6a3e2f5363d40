/* SPDX-License-Identifier: MIT */
/*
 * System calls that move bytes.
 *
 * Each checks its descriptor, its mode and its numbers here, so that the operations of a file
 * kind see only sound arguments: a cursor of at most RW_LIMIT bytes and a position that cannot
 * overflow.  The position of a seekable file is locked for the length of a read or write, as POSIX
 * wants for threads that share one.
 */

#include <quire/assert.h>

#include "fd_table.h"
#include "fs.h"
#include "proc.h"
#include "syscall.h"
#include "vector.h"

/* ---- one transfer ------------------------------------------------------------------- */

enum direction { READING, WRITING };

/* The descriptor's file, fit for @direction. @return 0 or -EBADF, -EISDIR, -EINVAL */
static inline int64_t
file_for(int fd, enum direction direction, struct file **out)
{
    struct file *file = file_get(fd);

    if (file == NULL) {
        return -EBADF;
    }
    uint32_t needed = direction == READING ? FILE_READ : FILE_WRITE;
    bool has_op = direction == READING ? file->ops->read != NULL : file->ops->write != NULL;
    if (!(file->mode & needed) || !has_op) {
        int64_t error = file->mode & needed ? -EINVAL : -EBADF;

        file_put(file);
        return error;
    }
    *out = file;
    return 0;
}

static inline int64_t
transfer_at(struct file *file, enum direction direction, struct io *io, uint64_t *position)
{
    if (position != NULL && io->left > INT64_MAX - *position) {
        return -EINVAL;
    }
    struct io_usage *used = &thread_current()->io;

    if (direction == READING) {
        int64_t result = file->ops->read(file, io, position);

        used->read_calls++;
        used->read_chars += result > 0 ? (uint64_t)result : 0;
        return result;
    }
    int64_t result = file->ops->write(file, io, position);

    used->write_calls++;
    used->written_chars += result > 0 ? (uint64_t)result : 0;
    return result;
}

/* At the file's own position. */
static inline int64_t
transfer(struct file *file, enum direction direction, struct io *io)
{
    if (file->mode & FILE_STREAM) {
        return transfer_at(file, direction, io, NULL);
    }
    qr_mutex_lock(&file->position_lock);
    int64_t result = transfer_at(file, direction, io, &file->position);
    qr_mutex_unlock(&file->position_lock);
    return result;
}

static int64_t
rw_call(const struct syscall_args *args, enum direction direction)
{
    struct file *file;
    struct io io;
    size_t bytes = (size_t)args->arg[2];
    int64_t result = file_for((int32_t)args->arg[0], direction, &file);

    if (result != 0) {
        return result;
    }
    if (!is_user_range(args->arg[1], bytes)) {
        result = -EFAULT;
    } else {
        io_init_user(&io, args->arg[1], bytes < RW_LIMIT ? bytes : RW_LIMIT);
        result = transfer(file, direction, &io);
    }
    file_put(file);
    return result;
}

int64_t
sys_read(const struct syscall_args *args)
{
    return rw_call(args, READING);
}

int64_t
sys_write(const struct syscall_args *args)
{
    return rw_call(args, WRITING);
}

static int64_t
prw_call(const struct syscall_args *args, enum direction direction)
{
    struct file *file;
    struct io io;
    size_t bytes = (size_t)args->arg[2];
    uint64_t position = args->arg[3];
    int64_t result;

    if ((int64_t)position < 0) {
        return -EINVAL;
    }
    result = file_for((int32_t)args->arg[0], direction, &file);
    if (result != 0) {
        return result;
    }
    if (file->mode & FILE_STREAM) {
        result = -ESPIPE;
    } else if (!is_user_range(args->arg[1], bytes)) {
        result = -EFAULT;
    } else {
        io_init_user(&io, args->arg[1], bytes < RW_LIMIT ? bytes : RW_LIMIT);
        result = transfer_at(file, direction, &io, &position);
    }
    file_put(file);
    return result;
}

int64_t
sys_pread64(const struct syscall_args *args)
{
    return prw_call(args, READING);
}

int64_t
sys_pwrite64(const struct syscall_args *args)
{
    return prw_call(args, WRITING);
}

/* ---- vectors --------------------------------------------------------------------------- */

void
vector_free(struct vector *vector)
{
    if (vector->pieces != vector->few) {
        kmem_free(vector->pieces);
    }
}

int64_t
vector_read(struct vector *vector, uint64_t user, uint64_t count)
{
    if (count > IOV_LIMIT) {
        return -EINVAL;
    }
    vector->pieces = vector->few;
    if (count > IOV_INLINE) {
        vector->pieces = kmem_calloc((size_t)count, sizeof *vector->pieces);
        if (vector->pieces == NULL) {
            return -ENOMEM;
        }
    }
    int64_t error = user_read(vector->pieces, user, (size_t)count * sizeof *vector->pieces);
    vector->total = 0;
    for (size_t i = 0; error == 0 && i < count; i++) {
        if ((intptr_t)vector->pieces[i].length < 0) {
            error = -EINVAL;
        } else if (!is_user_range(vector->pieces[i].base, vector->pieces[i].length)) {
            error = -EFAULT;
        } else if (vector->pieces[i].length > RW_LIMIT - vector->total) {
            vector->pieces[i].length = RW_LIMIT - vector->total;
        }
        vector->total += error == 0 ? vector->pieces[i].length : 0;
    }
    if (error != 0) {
        vector_free(vector);
    }
    return error;
}

/* @param position  NULL: the file's own */
static int64_t
vector_call(const struct syscall_args *args, enum direction direction, uint64_t *position)
{
    struct file *file;
    struct vector vector;
    struct io io;
    int64_t result = file_for((int32_t)args->arg[0], direction, &file);

    if (result != 0) {
        return result;
    }
    if (position != NULL && (file->mode & FILE_STREAM)) {
        file_put(file);
        return -ESPIPE;
    }
    result = vector_read(&vector, args->arg[1], args->arg[2]);
    if (result == 0) {
        io_init_pieces(&io, vector.pieces, vector.total);
        result = vector.total == 0  ? 0 /* nobody is asked, not even a directory */
                 : position == NULL ? transfer(file, direction, &io)
                                    : transfer_at(file, direction, &io, position);
        vector_free(&vector);
    }
    file_put(file);
    return result;
}

int64_t
sys_readv(const struct syscall_args *args)
{
    return vector_call(args, READING, NULL);
}

int64_t
sys_writev(const struct syscall_args *args)
{
    return vector_call(args, WRITING, NULL);
}

static int64_t
vector_call_at(const struct syscall_args *args, enum direction direction)
{
    uint64_t position = args->arg[3];

    return (int64_t)position < 0 ? -EINVAL : vector_call(args, direction, &position);
}

int64_t
sys_preadv(const struct syscall_args *args)
{
    return vector_call_at(args, READING);
}

int64_t
sys_pwritev(const struct syscall_args *args)
{
    return vector_call_at(args, WRITING);
}

static int64_t
vector_call_flags(const struct syscall_args *args, enum direction direction)
{
    if ((uint32_t)args->arg[5] != 0) {
        return -EOPNOTSUPP;
    }
    return (int64_t)args->arg[3] == -1 ? vector_call(args, direction, NULL)
                                       : vector_call_at(args, direction);
}

int64_t
sys_preadv2(const struct syscall_args *args)
{
    return vector_call_flags(args, READING);
}

int64_t
sys_pwritev2(const struct syscall_args *args)
{
    return vector_call_flags(args, WRITING);
}

/* ---- positions ---------------------------------------------------------------------------- */

int64_t
sys_lseek(const struct syscall_args *args)
{
    struct file *file = file_get((int32_t)args->arg[0]);
    int64_t result;

    if (file == NULL) {
        return -EBADF;
    }
    if (file->ops->seek == NULL) {
        result = -ESPIPE;
    } else {
        qr_mutex_lock(&file->position_lock);
        result = file->ops->seek(file, (int64_t)args->arg[1], (int32_t)args->arg[2]);
        qr_mutex_unlock(&file->position_lock);
    }
    file_put(file);
    return result;
}

/* ---- size ------------------------------------------------------------------------------------ */

/* May @inode become @bytes long?  RLIMIT_FSIZE is for what grows. */
static int64_t
size_check(const struct inode *inode, uint64_t bytes)
{
    if ((int64_t)bytes < 0) {
        return -EINVAL;
    }
    if (bytes > atomic_load(&inode->size) && bytes > process_limit(RLIMIT_FSIZE)) {
        signal_raise(SIGXFSZ);
        return -EFBIG;
    }
    return 0;
}

int64_t
sys_truncate(const struct syscall_args *args)
{
    struct dentry *dentry;
    int64_t error;

    if ((int64_t)args->arg[1] < 0) {
        return -EINVAL;
    }
    error = path_lookup_user(AT_FDCWD, args->arg[0], 0, &dentry);
    if (error != 0) {
        return error;
    }
    struct inode *inode = dentry->inode;
    if (S_ISTYPE(inode->mode, S_IFDIR)) {
        error = -EISDIR;
    } else if (inode->ops->truncate == NULL) {
        error = -EINVAL;
    } else if (superblock_is_read_only(inode->superblock)) {
        error = -EROFS;
    } else if (!inode_allows(inode, ACCESS_WRITE)) {
        error = -EACCES;
    } else {
        error = size_check(inode, args->arg[1]);
    }
    if (error == 0) {
        error = inode_begin_write(inode);
    }
    if (error == 0) {
        error = inode->ops->truncate(inode, args->arg[1]);
        inode_end_write(inode);
    }
    dentry_put(dentry);
    return error;
}

int64_t
sys_ftruncate(const struct syscall_args *args)
{
    struct file *file;
    int64_t error;

    if ((int64_t)args->arg[1] < 0) {
        return -EINVAL;
    }
    file = file_get((int32_t)args->arg[0]);
    if (file == NULL) {
        return -EBADF;
    }
    if (!(file->mode & FILE_WRITE) || file->ops->truncate == NULL) {
        error = -EINVAL;
    } else {
        error = size_check(file->inode, args->arg[1]);
    }
    if (error == 0) {
        error = file->ops->truncate(file, args->arg[1]);
    }
    file_put(file);
    return error;
}

/* As fallocate(2) has them; whether a file system can do it is its own matter. */
enum {
    FALLOC_KEEP_SIZE = 1,
    FALLOC_PUNCH_HOLE = 2,
    FALLOC_COLLAPSE_RANGE = 8,
    FALLOC_ZERO_RANGE = 0x10,
    FALLOC_INSERT_RANGE = 0x20,
    FALLOC_UNSHARE_RANGE = 0x40,
    FALLOC_BOTH = FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE,
    FALLOC_KNOWN = 0x7b,
};

/* Do the bits of @mode go together? */
static int64_t
fallocate_mode_check(uint32_t mode)
{
    if ((mode & ~(uint32_t)FALLOC_KNOWN) || (mode & FALLOC_BOTH) == FALLOC_BOTH ||
        (mode & (FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE)) == FALLOC_PUNCH_HOLE) {
        return -EOPNOTSUPP;
    }
    if (((mode & FALLOC_COLLAPSE_RANGE) && mode != FALLOC_COLLAPSE_RANGE) ||
        ((mode & FALLOC_INSERT_RANGE) && mode != FALLOC_INSERT_RANGE) ||
        ((mode & FALLOC_UNSHARE_RANGE) &&
         (mode & ~(uint32_t)(FALLOC_UNSHARE_RANGE | FALLOC_KEEP_SIZE)))) {
        return -EINVAL;
    }
    return 0;
}

/* What files of other kinds than regular ones say. */
static int64_t
fallocate_missing(const struct inode *inode)
{
    return S_ISTYPE(inode->mode, S_IFIFO)   ? -ESPIPE
           : S_ISTYPE(inode->mode, S_IFDIR) ? -EISDIR
                                            : -ENODEV;
}

static int64_t
file_allocate(struct file *file, uint32_t mode, int64_t offset, int64_t length)
{
    int64_t error = offset < 0 || length <= 0 ? -EINVAL : fallocate_mode_check(mode), end;

    if (error != 0)
        return error;
    if (!(file->mode & FILE_WRITE))
        return -EBADF;
    if (atomic_load(&file->inode->swapped_to))
        return -ETXTBSY;
    if (file->ops->allocate == NULL && !S_ISTYPE(file->inode->mode, S_IFREG))
        return fallocate_missing(file->inode);
    if (__builtin_add_overflow(offset, length, &end))
        return -EFBIG;
    if (file->ops->allocate == NULL)
        return -EOPNOTSUPP;
    if ((mode & ~(uint32_t)FALLOC_KEEP_SIZE) == 0)
        error = size_check(file->inode, (uint64_t)end);
    return error != 0 ? error : file->ops->allocate(file, mode, (uint64_t)offset, (uint64_t)length);
}

int64_t
sys_fallocate(const struct syscall_args *args)
{
    struct file *file = file_get((int32_t)args->arg[0]);

    if (file == NULL)
        return -EBADF;
    int64_t error =
        file_allocate(file, (uint32_t)args->arg[1], (int64_t)args->arg[2], (int64_t)args->arg[3]);

    file_put(file);
    return error;
}

/* ---- from file to file -------------------------------------------------------------------------- */

enum { COPY_CHUNK = 65536 };

/* One side of a copy: a file, and a position of the caller's or NULL for the file's own. */
struct copy_side {
    struct file *file;
    uint64_t *position;
};

static int64_t
side_transfer(const struct copy_side *side, enum direction direction, void *buffer, size_t bytes)
{
    struct io io;

    io_init_kernel(&io, buffer, bytes);
    return side->position == NULL ? transfer(side->file, direction, &io)
                                  : transfer_at(side->file, direction, &io, side->position);
}

/* What was read but not written goes back, where the source has positions. */
static void
side_unread(const struct copy_side *side, size_t bytes)
{
    if (side->position != NULL) {
        *side->position -= bytes;
    } else if (!(side->file->mode & FILE_STREAM)) {
        qr_mutex_lock(&side->file->position_lock);
        side->file->position -= bytes;
        qr_mutex_unlock(&side->file->position_lock);
    }
}

/* Write all of @bytes. @return how many, or -errno when none */
static int64_t
side_write_all(const struct copy_side *side, char *buffer, size_t bytes)
{
    size_t done = 0;

    while (done < bytes) {
        int64_t put = side_transfer(side, WRITING, buffer + done, bytes - done);

        if (put <= 0) {
            return done > 0 ? (int64_t)done : put;
        }
        done += (size_t)put;
    }
    return (int64_t)done;
}

static int64_t
copy_bytes(const struct copy_side *from, const struct copy_side *to, size_t bytes)
{
    char *buffer = kmem_alloc(COPY_CHUNK);
    int64_t result = 0;
    size_t total = 0;

    if (buffer == NULL) {
        return -ENOMEM;
    }
    while (total < bytes && !(total > 0 && signal_is_pending())) {
        size_t want = bytes - total < COPY_CHUNK ? bytes - total : COPY_CHUNK;
        int64_t got = side_transfer(from, READING, buffer, want);

        if (got <= 0) {
            result = got;
            break;
        }
        int64_t put = side_write_all(to, buffer, (size_t)got);
        if (put < got) {
            side_unread(from, (size_t)(got - (put > 0 ? put : 0)));
            result = put < 0 ? put : 0;
            total += put > 0 ? (size_t)put : 0;
            break;
        }
        total += (size_t)got;
        if ((size_t)got < want && (from->file->mode & FILE_STREAM)) {
            break; /* what a pipe held */
        }
        sched_relax();
    }
    kmem_free(buffer);
    return total > 0 ? (int64_t)total : result;
}

/* A position given by pointer: read it, and where the file cannot seek refuse it. */
static int64_t
position_read(struct copy_side *side, uint64_t user, uint64_t *storage)
{
    side->position = NULL;
    if (user == 0) {
        return 0;
    }
    if (side->file->mode & FILE_STREAM) {
        return -ESPIPE;
    }
    if (user_read_u64(storage, user) != 0) {
        return -EFAULT;
    }
    side->position = storage;
    return (int64_t)*storage < 0 ? -EINVAL : 0;
}

struct copy_request {
    int from, to;
    uint64_t from_position, to_position; /* user pointers */
    size_t bytes;
};

static int64_t
copy_between(const struct copy_request *request, struct copy_side *from, struct copy_side *to)
{
    uint64_t positions[2];
    int64_t result = position_read(from, request->from_position, &positions[0]);

    if (result == 0) {
        result = position_read(to, request->to_position, &positions[1]);
    }
    if (result != 0) {
        return result;
    }
    result = copy_bytes(from, to, request->bytes < RW_LIMIT ? request->bytes : RW_LIMIT);
    if (result >= 0 && from->position != NULL &&
        user_write_u64(request->from_position, positions[0]) != 0) {
        result = -EFAULT;
    }
    if (result >= 0 && to->position != NULL &&
        user_write_u64(request->to_position, positions[1]) != 0) {
        result = -EFAULT;
    }
    return result;
}

static int64_t
copy_call(const struct copy_request *request, int64_t (*check)(struct file *from, struct file *to))
{
    struct copy_side from = {NULL, NULL}, to = {NULL, NULL};
    int64_t result = file_for(request->from, READING, &from.file);

    if (result == 0) {
        result = file_for(request->to, WRITING, &to.file);
        if (result == 0) {
            result = check(from.file, to.file);
            if (result == 0) {
                result = copy_between(request, &from, &to);
            }
            file_put(to.file);
        }
        file_put(from.file);
    }
    return result;
}

static int64_t
check_sendfile(struct file *from, struct file *to)
{
    if (from->mode & FILE_STREAM) {
        return -EINVAL;
    }
    return atomic_load(&to->flags) & O_APPEND ? -EINVAL : 0;
}

int64_t
sys_sendfile(const struct syscall_args *args)
{
    struct copy_request request = {.from = (int32_t)args->arg[1],
                                   .to = (int32_t)args->arg[0],
                                   .from_position = args->arg[2],
                                   .bytes = (size_t)args->arg[3]};

    return copy_call(&request, check_sendfile);
}

static int64_t
check_copy_range(struct file *from, struct file *to)
{
    if (S_ISTYPE(from->inode->mode, S_IFDIR) || S_ISTYPE(to->inode->mode, S_IFDIR)) {
        return -EISDIR;
    }
    if (!S_ISTYPE(from->inode->mode, S_IFREG) || !S_ISTYPE(to->inode->mode, S_IFREG)) {
        return -EINVAL;
    }
    if (atomic_load(&to->flags) & O_APPEND) {
        return -EBADF;
    }
    if (atomic_load(&from->inode->swapped_to) || atomic_load(&to->inode->swapped_to)) {
        return -ETXTBSY;
    }
    /* Copies within one file could overlap: programs fall back to read and write. */
    return from->inode == to->inode ? -EOPNOTSUPP : 0;
}

int64_t
sys_copy_file_range(const struct syscall_args *args)
{
    struct copy_request request = {.from = (int32_t)args->arg[0],
                                   .from_position = args->arg[1],
                                   .to = (int32_t)args->arg[2],
                                   .to_position = args->arg[3],
                                   .bytes = (size_t)args->arg[4]};

    return (uint32_t)args->arg[5] != 0 ? -EINVAL : copy_call(&request, check_copy_range);
}
