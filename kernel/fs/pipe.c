/* SPDX-License-Identifier: MIT */
/*
 * Pipes and fifos: a ring of bytes between readers and writers.
 *
 * The ring is cut into pages that are allocated when bytes first reach them:
 *
 *      tail                      head           counters run freely; capacity is a power of two
 *       v                         v
 *   [ chunk 0 ][ chunk 1 ][ chunk 2 ][  --  ]...
 *
 * When the last byte is taken, both counters go back to zero and every chunk but the first is
 * freed: small messages use the same, warm page for ever, and an idle pipe holds one page.
 *
 * A write of PIPE_BUF bytes or less waits until all of it fits, hence is never mixed with
 * others'; a longer one goes in as room appears.  Bytes are copied first and published after, so
 * a fault in the middle leaves the ring with the exact prefix.
 *
 * Lock: pipe->lock (sleeping) for ring and counters, held over user copies.  Sleepers evaluate
 * head, tail, readers and writers without it: each is one atomic word, written before the wake.
 * inode->lock guards inode->pipe and the life of the pipe.
 */

#include "pipe.h"

#include <quire/assert.h>

#include "fs.h"
#include "pipefs.h"
#include "proc.h"

struct pipe {
    struct qr_mutex lock;
    _Atomic uint32_t head, tail;
    uint32_t capacity;
    uint8_t **chunks;
    struct wait_queue readable, writable, opened;
    _Atomic uint32_t readers, writers;
    _Atomic uint32_t reader_opens, writer_opens; /* ever: what a fifo's open() waits for */
    uint32_t users;                              /* inode->lock: files and opens in progress */
};

static const struct file_ops pipe_file_ops;

/* ---- life ------------------------------------------------------------------------ */

static struct pipe *
pipe_new(void)
{
    struct pipe *pipe = kmem_zalloc(sizeof *pipe);

    if (pipe == NULL) {
        return NULL;
    }
    pipe->capacity = PIPE_DEFAULT_BYTES;
    pipe->chunks = kmem_calloc(PIPE_DEFAULT_BYTES / FS_PAGE_BYTES, sizeof *pipe->chunks);
    if (pipe->chunks == NULL) {
        kmem_free(pipe);
        return NULL;
    }
    wait_queue_init(&pipe->readable);
    wait_queue_init(&pipe->writable);
    wait_queue_init(&pipe->opened);
    return pipe;
}

static void
chunks_free(struct pipe *pipe, uint32_t from)
{
    for (uint32_t i = from; i < pipe->capacity / FS_PAGE_BYTES; i++) {
        kmem_free(pipe->chunks[i]);
        pipe->chunks[i] = NULL;
    }
}

/* The pipe of an inode, made if need be, with one more user. NULL without memory. */
static struct pipe *
pipe_enter(struct inode *inode)
{
    qr_mutex_lock(&inode->lock);
    if (inode->pipe == NULL) {
        inode->pipe = pipe_new();
    }
    struct pipe *pipe = inode->pipe;
    if (pipe != NULL) {
        pipe->users++;
    }
    qr_mutex_unlock(&inode->lock);
    return pipe;
}

static void
pipe_leave(struct inode *inode)
{
    struct pipe *pipe = inode->pipe;

    qr_mutex_lock(&inode->lock);
    bool last = --pipe->users == 0;
    if (last) {
        inode->pipe = NULL;
    }
    qr_mutex_unlock(&inode->lock);
    if (last) {
        chunks_free(pipe, 0);
        kmem_free(pipe->chunks);
        kmem_free(pipe);
    }
}

static void
ends_add(struct pipe *pipe, uint32_t mode)
{
    if (mode & FILE_READ) {
        atomic_fetch_add(&pipe->readers, 1);
        atomic_fetch_add(&pipe->reader_opens, 1);
    }
    if (mode & FILE_WRITE) {
        atomic_fetch_add(&pipe->writers, 1);
        atomic_fetch_add(&pipe->writer_opens, 1);
    }
}

static void
ends_remove(struct pipe *pipe, uint32_t mode)
{
    if (mode & FILE_READ) {
        atomic_fetch_sub(&pipe->readers, 1);
    }
    if (mode & FILE_WRITE) {
        atomic_fetch_sub(&pipe->writers, 1);
    }
    wait_wake_all(&pipe->readable);
    wait_wake_all(&pipe->writable);
}

static void
pipe_release(struct file *file)
{
    ends_remove(file->context, file->mode);
    pipe_leave(file->inode);
}

/* ---- the ring ------------------------------------------------------------------------ */

static uint32_t
pipe_used(const struct pipe *pipe)
{
    return atomic_load(&pipe->head) - atomic_load(&pipe->tail);
}

static uint32_t
pipe_room(const struct pipe *pipe)
{
    return pipe->capacity - pipe_used(pipe);
}

/* The run of bytes at ring position @at: within one chunk, at most @want. */
static uint32_t
run_at(const struct pipe *pipe, uint32_t at, uint32_t want, uint32_t *out_chunk,
       uint32_t *out_offset)
{
    uint32_t in_ring = at & (pipe->capacity - 1);

    *out_chunk = in_ring / FS_PAGE_BYTES;
    *out_offset = in_ring % FS_PAGE_BYTES;
    uint32_t run = FS_PAGE_BYTES - *out_offset;
    return run < want ? run : want;
}

/* Move what is there to the reader. Lock held. @return bytes; short only on a fault */
static inline size_t
ring_take(struct pipe *pipe, struct io *io)
{
    size_t total = 0;

    for (uint32_t used = pipe_used(pipe); used > 0 && io->left > 0;) {
        uint32_t chunk, offset;
        uint32_t tail = atomic_load(&pipe->tail);
        uint32_t want =
            run_at(pipe, tail, used < io->left ? used : (uint32_t)io->left, &chunk, &offset);
        size_t done = io_put(io, pipe->chunks[chunk] + offset, want);

        atomic_store(&pipe->tail, tail + (uint32_t)done);
        used -= (uint32_t)done;
        total += done;
        if (done < want) {
            break;
        }
    }
    if (pipe_used(pipe) == 0 && atomic_load(&pipe->tail) >= FS_PAGE_BYTES) {
        atomic_store(&pipe->tail, 0);
        atomic_store(&pipe->head, 0);
        chunks_free(pipe, 1);
    }
    return total;
}

/* Move up to @limit bytes from the writer into the ring. Lock held.
 * @return bytes; fewer than asked on a fault or without memory: *out_error says which */
static inline size_t
ring_put(struct pipe *pipe, struct io *io, size_t limit, int64_t *out_error)
{
    size_t total = 0;

    *out_error = 0;
    while (total < limit) {
        uint32_t chunk, offset;
        uint32_t head = atomic_load(&pipe->head);
        uint32_t want = run_at(pipe, head, (uint32_t)(limit - total), &chunk, &offset);

        if (pipe->chunks[chunk] == NULL) {
            pipe->chunks[chunk] = kmem_alloc(FS_PAGE_BYTES);
            if (pipe->chunks[chunk] == NULL) {
                *out_error = -ENOMEM;
                break;
            }
        }
        size_t done = io_take(io, pipe->chunks[chunk] + offset, want);
        atomic_store(&pipe->head, head + (uint32_t)done);
        total += done;
        if (done < want) {
            *out_error = -EFAULT;
            break;
        }
    }
    return total;
}

/* ---- read and write ------------------------------------------------------------------------ */

static bool
may_block(const struct file *file)
{
    return !(atomic_load(&file->flags) & O_NONBLOCK);
}

/* Take what is there. @return bytes, -EFAULT, or 0 when another reader was faster */
static inline int64_t
take_locked(struct pipe *pipe, struct io *io)
{
    qr_mutex_lock(&pipe->lock);
    bool empty = pipe_used(pipe) == 0;
    size_t done = ring_take(pipe, io);
    qr_mutex_unlock(&pipe->lock);
    if (done == 0) {
        return empty ? 0 : -EFAULT;
    }
    wait_wake_all(&pipe->writable);
    return (int64_t)done;
}

static int64_t
pipe_read(struct file *file, struct io *io, uint64_t *position)
{
    struct pipe *pipe = file->context;
    int64_t error;

    (void)position;
    if (io->left == 0) {
        return 0;
    }
    for (;;) {
        /* In this order: a writer that wrote and left is not taken for the end. */
        bool ended = atomic_load(&pipe->writers) == 0;

        if (pipe_used(pipe) > 0) {
            int64_t result = take_locked(pipe, io);

            if (result != 0) {
                return result;
            }
        } else if (ended) {
            return 0;
        } else if (!may_block(file)) {
            return -EAGAIN;
        } else {
            WAIT_EVENT(error, &pipe->readable,
                       pipe_used(pipe) > 0 || atomic_load(&pipe->writers) == 0);
            if (error != 0) {
                return error;
            }
        }
    }
}

/* Room that lets a write of @left bytes go on. */
static uint32_t
room_needed(size_t left, bool atomic)
{
    return atomic ? (uint32_t)left : 1;
}

static int64_t
write_broken(size_t total)
{
    signal_raise(SIGPIPE);
    return total > 0 ? (int64_t)total : -EPIPE;
}

static int64_t
pipe_write(struct file *file, struct io *io, uint64_t *position)
{
    struct pipe *pipe = file->context;
    bool atomic = io->left <= PIPE_BUF;
    size_t total = 0;
    int64_t error = 0;

    (void)position;
    if (io->left == 0) {
        return 0;
    }
    for (;;) {
        qr_mutex_lock(&pipe->lock);
        if (atomic_load(&pipe->readers) == 0) {
            qr_mutex_unlock(&pipe->lock);
            return write_broken(total);
        }
        uint32_t room = pipe_room(pipe);
        if (room >= room_needed(io->left, atomic)) {
            total += ring_put(pipe, io, room < io->left ? room : io->left, &error);
        }
        qr_mutex_unlock(&pipe->lock);
        wait_wake_all(&pipe->readable);
        if (error != 0 || io->left == 0) {
            return total > 0 ? (int64_t)total : error;
        }
        if (!may_block(file)) {
            return total > 0 ? (int64_t)total : -EAGAIN;
        }
        WAIT_EVENT(error, &pipe->writable,
                   pipe_room(pipe) >= room_needed(io->left, atomic) ||
                       atomic_load(&pipe->readers) == 0);
        if (error != 0) {
            return total > 0 ? (int64_t)total : error;
        }
    }
}

static uint32_t
pipe_poll(struct file *file, struct poll_table *table)
{
    struct pipe *pipe = file->context;
    uint32_t events = 0;

    if (file->mode & FILE_READ) {
        poll_register(table, &pipe->readable);
        events |= pipe_used(pipe) > 0 ? POLLIN | POLLRDNORM : 0;
        events |=
            atomic_load(&pipe->writers) == 0 && atomic_load(&pipe->writer_opens) > 0 ? POLLHUP : 0;
    }
    if (file->mode & FILE_WRITE) {
        poll_register(table, &pipe->writable);
        events |= pipe_room(pipe) >= PIPE_BUF ? POLLOUT | POLLWRNORM : 0;
        events |= atomic_load(&pipe->readers) == 0 ? POLLERR : 0;
    }
    return events;
}

enum { FIONREAD = 0x541b };

static int64_t
pipe_ioctl(struct file *file, uint32_t command, uint64_t argument)
{
    struct pipe *pipe = file->context;

    if (command == FIONREAD) {
        return user_write_u32(argument, pipe_used(pipe));
    }
    return -ENOTTY;
}

static const struct file_ops pipe_file_ops = {
    .name = "pipe",
    .read = pipe_read,
    .write = pipe_write,
    .ioctl = pipe_ioctl,
    .poll = pipe_poll,
    .release = pipe_release,
};

/* ---- size ------------------------------------------------------------------------------------ */

int64_t
pipe_get_size(struct file *file)
{
    struct pipe *pipe = file->context;

    return file->ops == &pipe_file_ops ? (int64_t)pipe->capacity : -EBADF;
}

static uint32_t
capacity_round(uint64_t bytes)
{
    uint32_t capacity = FS_PAGE_BYTES;

    while (capacity < bytes && capacity < PIPE_MAX_BYTES) {
        capacity *= 2;
    }
    return capacity;
}

/* Swap the ring's content into @fresh, which has room. Lock held on both. */
static int64_t
ring_move(struct pipe *pipe, struct pipe *fresh)
{
    while (pipe_used(pipe) > 0) {
        uint32_t chunk, offset;
        uint32_t tail = atomic_load(&pipe->tail);
        uint32_t run = run_at(pipe, tail, pipe_used(pipe), &chunk, &offset);
        struct io io;
        int64_t error;

        io_init_kernel(&io, pipe->chunks[chunk] + offset, run);
        ring_put(fresh, &io, run, &error);
        if (error != 0) {
            return error;
        }
        atomic_store(&pipe->tail, tail + run);
    }
    return 0;
}

static int64_t
resize_locked(struct pipe *pipe, uint32_t capacity)
{
    struct pipe fresh = {.capacity = capacity};
    uint32_t old_tail = atomic_load(&pipe->tail);

    if (pipe_used(pipe) > capacity) {
        return -EBUSY;
    }
    fresh.chunks = kmem_calloc(capacity / FS_PAGE_BYTES, sizeof *fresh.chunks);
    if (fresh.chunks == NULL) {
        return -ENOMEM;
    }
    int64_t error = ring_move(pipe, &fresh);
    if (error != 0) {
        atomic_store(&pipe->tail, old_tail); /* the old chunks still hold every byte */
        chunks_free(&fresh, 0);
        kmem_free(fresh.chunks);
        return error;
    }
    chunks_free(pipe, 0);
    kmem_free(pipe->chunks);
    pipe->chunks = fresh.chunks;
    pipe->capacity = capacity;
    atomic_store(&pipe->tail, atomic_load(&fresh.tail));
    atomic_store(&pipe->head, atomic_load(&fresh.head));
    return capacity;
}

int64_t
pipe_set_size(struct file *file, uint64_t bytes)
{
    struct pipe *pipe = file->context;

    if (file->ops != &pipe_file_ops) {
        return -EBADF;
    }
    if (bytes > (uint64_t)1 << 31) {
        return -EINVAL;
    }
    if (bytes > PIPE_MAX_BYTES) {
        return -EPERM;
    }
    qr_mutex_lock(&pipe->lock);
    int64_t result = resize_locked(pipe, capacity_round(bytes));
    qr_mutex_unlock(&pipe->lock);
    wait_wake_all(&pipe->writable);
    return result;
}

/* ---- making -------------------------------------------------------------------------------------- */

static void
pipe_bind(struct file *file, struct pipe *pipe)
{
    file->ops = &pipe_file_ops;
    file->context = pipe;
    file->mode |= FILE_STREAM;
}

/* Wait until the other end was opened since @seen. */
static int64_t
open_wait(struct pipe *pipe, _Atomic uint32_t *ends, _Atomic uint32_t *opens, uint32_t seen)
{
    int64_t error;

    WAIT_EVENT(error, &pipe->opened, atomic_load(ends) > 0 || atomic_load(opens) != seen);
    return error;
}

int64_t
fifo_open(struct inode *inode, struct file *file)
{
    struct pipe *pipe = pipe_enter(inode);
    /* A pipe opened by its name in /proc/PID/fd is there already: nobody waits for a partner. */
    bool is_fifo = inode->superblock != anonymous_superblock;
    bool block = may_block(file) && is_fifo;
    int64_t error = 0;

    if (pipe == NULL) {
        return -ENOMEM;
    }
    uint32_t reader_opens = atomic_load(&pipe->reader_opens);
    uint32_t writer_opens = atomic_load(&pipe->writer_opens);
    uint32_t mode = file->mode;

    if (mode == FILE_WRITE && is_fifo && !block && atomic_load(&pipe->readers) == 0) {
        pipe_leave(inode);
        return -ENXIO;
    }
    ends_add(pipe, mode);
    wait_wake_all(&pipe->opened);
    if (mode == FILE_READ && block) {
        error = open_wait(pipe, &pipe->writers, &pipe->writer_opens, writer_opens);
    } else if (mode == FILE_WRITE && block) {
        error = open_wait(pipe, &pipe->readers, &pipe->reader_opens, reader_opens);
    }
    if (error != 0) {
        ends_remove(pipe, mode);
        pipe_leave(inode);
        return error;
    }
    pipe_bind(file, pipe);
    return 0;
}

static struct file *
end_create(struct dentry *dentry, struct pipe *pipe, uint32_t flags)
{
    struct file *file = file_create(dentry, flags);

    if (file != NULL) {
        pipe_bind(file, pipe);
        ends_add(pipe, file->mode);
        pipe->users++; /* nobody else knows the inode yet */
    }
    return file;
}

int64_t
pipe_create(uint32_t flags, struct file *out_ends[2])
{
    static const struct inode_ops pipe_inode_ops = {.open = NULL};
    char name[32];
    struct inode *inode = inode_create(anonymous_superblock, &pipe_inode_ops, S_IFIFO | 0600u);

    if (inode == NULL) {
        return -ENOMEM;
    }
    snprintf(name, sizeof name, "pipe:[%lu]", (unsigned long)inode->number);
    struct dentry *dentry = dentry_create_anonymous(anonymous_superblock, name, inode);
    if (dentry == NULL) {
        inode_put(inode);
        return -ENOMEM;
    }
    struct pipe *pipe = pipe_enter(inode);
    struct file *ends[2] = {NULL, NULL};
    if (pipe != NULL) {
        ends[0] = end_create(dentry, pipe, O_RDONLY | flags);
        ends[1] = end_create(dentry, pipe, O_WRONLY | flags);
        pipe_leave(inode);
    }
    dentry_put(dentry);
    if (ends[0] == NULL || ends[1] == NULL) {
        if (ends[0] != NULL) {
            file_put(ends[0]);
        }
        if (ends[1] != NULL) {
            file_put(ends[1]);
        }
        return -ENOMEM;
    }
    out_ends[0] = ends[0];
    out_ends[1] = ends[1];
    return 0;
}
