/* SPDX-License-Identifier: MIT */
/*
 * Pipes and fifos: a ring of slots between readers and writers.
 *
 * A slot is a stretch of bytes in one page:
 *
 *      tail                          head       counters run freely; slot_count is a power of two
 *       v                             v
 *   [ ..xxx ][ xxxxx ][ xx | free ][  --  ]...
 *     page A   page B   page C
 *
 * A write fills up the last page that a write began, then takes pages of its own.  Splicing adds
 * pages that belong to others as well (splice.c): nobody writes to those through the pipe.  A slot is
 * free again when its last byte is taken; one empty page is kept, so that small messages use the
 * same, warm one for ever.
 *
 * A write of PIPE_BUF bytes or less waits until all of it fits, hence is never mixed with
 * others'; a longer one goes in as room appears.  Bytes are copied first and published after, so
 * a fault in the middle leaves the ring with the exact prefix.
 *
 * Lock: pipe->lock (sleeping) for the ring, held over user copies.  Sleepers evaluate used, room,
 * readers and writers without it: each is one atomic word, written before the wake.
 * inode->lock guards inode->pipe and the life of the pipe.
 */

#include "pipe.h"

#include <quire/assert.h>
#include <quire/frame.h>

#include "fs.h"
#include "memory.h"
#include "pipefs.h"
#include "proc.h"
#include "refuse.h"

static const struct file_ops pipe_file_ops;

/* ---- life ------------------------------------------------------------------------ */

static uint32_t
slots_for(uint32_t capacity)
{
    return capacity < FS_PAGE_BYTES ? 1 : capacity / FS_PAGE_BYTES;
}

/* What a write can add: free slots, and the rest of the last page if it is one to go on with. */
static void
room_update(struct pipe *pipe)
{
    uint32_t used = pipe_slots_used(pipe);
    uint32_t room = (pipe->slot_count - used) * FS_PAGE_BYTES;

    if (used > 0) {
        const struct pipe_slot *last = pipe_slot_at(pipe, used - 1);

        room += last->own ? FS_PAGE_BYTES - last->offset - last->length : 0;
    }
    atomic_store(&pipe->room, room);
}

static struct pipe *
pipe_new(void)
{
    struct pipe *pipe = kmem_charged_zalloc(sizeof *pipe);

    if (pipe == NULL) {
        return NULL;
    }
    pipe->capacity = PIPE_DEFAULT_BYTES;
    pipe->slot_count = slots_for(PIPE_DEFAULT_BYTES);
    pipe->slots = kmem_charged_calloc(pipe->slot_count, sizeof *pipe->slots);
    if (pipe->slots == NULL) {
        kmem_charged_free(pipe);
        return NULL;
    }
    room_update(pipe);
    wait_queue_init(&pipe->readable);
    wait_queue_init(&pipe->writable);
    wait_queue_init(&pipe->opened);
    return pipe;
}

static void
pipe_free(struct pipe *pipe)
{
    while (pipe_slots_used(pipe) > 0) {
        qr_frame_put(memory.frames, pipe_pop(pipe).frame);
    }
    if (pipe->spare != NULL) {
        qr_frame_put(memory.frames, pipe->spare);
    }
    kmem_charged_free(pipe->slots);
    kmem_charged_free(pipe);
}

struct pipe *
pipe_of(const struct file *file)
{
    return file->ops == &pipe_file_ops ? file->context : NULL;
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
        pipe_free(pipe);
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
    return atomic_load(&pipe->used);
}

static uint32_t
pipe_room(const struct pipe *pipe)
{
    return atomic_load(&pipe->room);
}

void
pipe_push(struct pipe *pipe, struct pipe_slot slot)
{
    qr_assert(pipe_has_free_slot(pipe) && slot.length > 0);
    *pipe_slot_at(pipe, pipe_slots_used(pipe)) = slot;
    pipe->head++;
    atomic_fetch_add(&pipe->used, slot.length);
    room_update(pipe);
}

struct pipe_slot
pipe_pop(struct pipe *pipe)
{
    struct pipe_slot slot = *pipe_slot_at(pipe, 0);

    pipe->tail++;
    atomic_fetch_sub(&pipe->used, slot.length);
    room_update(pipe);
    return slot;
}

/* A page of the pipe's own that nobody else has either is kept for the next write. */
static void
page_release(struct pipe *pipe, const struct pipe_slot *slot)
{
    if (slot->own && pipe->spare == NULL &&
        atomic_load_explicit(&slot->frame->refs, memory_order_acquire) == 1) {
        pipe->spare = slot->frame;
    } else {
        qr_frame_put(memory.frames, slot->frame);
    }
}

void
pipe_consume(struct pipe *pipe, uint32_t bytes)
{
    struct pipe_slot *slot = pipe_slot_at(pipe, 0);

    qr_assert(bytes <= slot->length);
    slot->offset += bytes;
    slot->length -= bytes;
    atomic_fetch_sub(&pipe->used, bytes);
    if (slot->length == 0) {
        struct pipe_slot empty = pipe_pop(pipe);

        page_release(pipe, &empty);
    }
}

/* Bytes that go through the stack at once, from a frame without a permanent window. */
enum { BOUNCE_BYTES = 256 };

static size_t
high_frame_put_io(struct qr_frame *frame, uint32_t offset, size_t bytes, struct io *io)
{
    char bounce[BOUNCE_BYTES];
    size_t done = 0, moved = 0, piece = 0;

    while (done < bytes && moved == piece) {
        piece = bytes - done < sizeof bounce ? bytes - done : sizeof bounce;
        char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
        memcpy(bounce, window + offset + done, piece);
        qr_port_window_close(window);
        moved = io_put(io, bounce, piece);
        done += moved;
    }
    return done;
}

size_t
frame_put_io(struct qr_frame *frame, uint32_t offset, size_t bytes, struct io *io)
{
    if (qr_unlikely(qr_frame_is_high(memory.frames, frame))) {
        return high_frame_put_io(frame, offset, bytes, io);
    }
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
    size_t done = io_put(io, window + offset, bytes);
    qr_port_window_close(window);
    return done;
}

/* Move what is there to the reader. Lock held. @return bytes; short only on a fault */
static inline size_t
ring_take(struct pipe *pipe, struct io *io)
{
    size_t total = 0;

    while (pipe_slots_used(pipe) > 0 && io->left > 0) {
        const struct pipe_slot *slot = pipe_slot_at(pipe, 0);
        uint32_t want = slot->length < io->left ? slot->length : (uint32_t)io->left;

        if (frame_put_io(slot->frame, slot->offset, want, io) < want) {
            break; /* what was not moved whole stays, as in Linux */
        }
        pipe_consume(pipe, want);
        total += want;
    }
    return total;
}

static struct qr_frame *
page_take(struct pipe *pipe)
{
    struct qr_frame *frame = pipe->spare;

    pipe->spare = NULL;
    if (frame == NULL) {
        frame = kmem_charged_frame(); /* its window stays open */
    }
    return frame;
}

/* Copy up to @limit bytes into @frame at @offset; all that fit or, as in Linux, none. */
static size_t
page_fill(struct qr_frame *frame, uint32_t offset, size_t limit, struct io *io)
{
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
    size_t want = limit < FS_PAGE_BYTES - offset ? limit : FS_PAGE_BYTES - offset;
    size_t done = io_take(io, window + offset, want);

    qr_port_window_close(window);
    return done < want ? 0 : done;
}

/* Go on in the last page, if a write began it and there is room. @return whether it could */
static bool
ring_append(struct pipe *pipe, struct io *io, size_t limit, size_t *out_done)
{
    uint32_t used = pipe_slots_used(pipe);

    if (used == 0) {
        return false;
    }
    struct pipe_slot *last = pipe_slot_at(pipe, used - 1);
    uint32_t end = last->offset + last->length;
    if (!last->own || end == FS_PAGE_BYTES) {
        return false;
    }
    *out_done = page_fill(last->frame, end, limit, io);
    last->length += (uint32_t)*out_done;
    atomic_fetch_add(&pipe->used, (uint32_t)*out_done);
    room_update(pipe);
    return true;
}

/* Move up to @limit bytes, for which there is room, from the writer into the ring. Lock held.
 * @return bytes; fewer than asked on a fault or without memory: *out_error says which */
static inline size_t
ring_put(struct pipe *pipe, struct io *io, size_t limit, int64_t *out_error)
{
    size_t total = 0, done;

    *out_error = 0;
    while (total < limit && *out_error == 0) {
        size_t want = limit - total;

        if (!ring_append(pipe, io, want, &done)) {
            struct pipe_slot slot = {.frame = page_take(pipe), .own = true};

            if (slot.frame == NULL) {
                *out_error = -ENOMEM;
                break;
            }
            done = page_fill(slot.frame, 0, want, io);
            slot.length = (uint32_t)done;
            if (done > 0) {
                pipe_push(pipe, slot);
            } else {
                page_release(pipe, &slot);
            }
        }
        total += done;
        if (done == 0) {
            *out_error = -EFAULT;
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

int64_t
pipe_wait_data(struct pipe *pipe, enum pipe_wait wait)
{
    int64_t error;

    for (;;) {
        bool ended = atomic_load(&pipe->writers) == 0; /* first: see pipe_read() */

        if (pipe_used(pipe) > 0) {
            return 1;
        }
        if (ended) {
            return 0;
        }
        if (wait == PIPE_NONBLOCK) {
            return -EAGAIN;
        }
        WAIT_EVENT(error, &pipe->readable, pipe_used(pipe) > 0 || atomic_load(&pipe->writers) == 0);
        if (error != 0) {
            return error;
        }
    }
}

int64_t
pipe_wait_slot(struct pipe *pipe, enum pipe_wait wait)
{
    int64_t error;

    for (;;) {
        if (atomic_load(&pipe->readers) == 0) {
            return write_broken(0);
        }
        if (pipe_room(pipe) >= FS_PAGE_BYTES) {
            return 0;
        }
        if (wait == PIPE_NONBLOCK) {
            return -EAGAIN;
        }
        WAIT_EVENT(error, &pipe->writable,
                   pipe_room(pipe) >= FS_PAGE_BYTES || atomic_load(&pipe->readers) == 0);
        if (error != 0) {
            return error;
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

static int64_t
resize_locked(struct pipe *pipe, uint32_t capacity)
{
    uint32_t count = slots_for(capacity), used = pipe_slots_used(pipe);

    if (used > count) {
        return -EBUSY;
    }
    struct pipe_slot *slots = kmem_charged_calloc(count, sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < used; i++) {
        slots[i] = *pipe_slot_at(pipe, i);
    }
    kmem_charged_free(pipe->slots);
    pipe->slots = slots;
    pipe->slot_count = count;
    pipe->capacity = capacity;
    pipe->tail = 0;
    pipe->head = used;
    room_update(pipe);
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
    /*
     * Before this end is seen, and in this order: a partner that was there may be through and gone as soon as
     * it sees us; one that comes later changes the number of opens.
     */
    uint32_t reader_opens = atomic_load(&pipe->reader_opens);
    uint32_t writer_opens = atomic_load(&pipe->writer_opens);
    bool has_reader = atomic_load(&pipe->readers) > 0;
    bool has_writer = atomic_load(&pipe->writers) > 0;
    uint32_t mode = file->mode;

    if (mode == FILE_WRITE && is_fifo && !block && !has_reader) {
        pipe_leave(inode);
        return -ENXIO;
    }
    ends_add(pipe, mode);
    wait_wake_all(&pipe->opened);
    if (mode == FILE_READ && block && !has_writer) {
        error = open_wait(pipe, &pipe->writers, &pipe->writer_opens, writer_opens);
    } else if (mode == FILE_WRITE && block && !has_reader) {
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

static int64_t
end_create(struct dentry *dentry, struct pipe *pipe, uint32_t flags, struct file **out)
{
    int64_t error = file_create(dentry, flags, out);

    if (error == 0) {
        pipe_bind(*out, pipe);
        ends_add(pipe, (*out)->mode);
        pipe->users++; /* nobody else knows the inode yet */
    }
    return error;
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
    int64_t error = -ENOMEM;
    if (pipe != NULL) {
        error = end_create(dentry, pipe, O_RDONLY | flags, &ends[0]);
        if (error == 0) {
            error = end_create(dentry, pipe, O_WRONLY | flags, &ends[1]);
        }
        pipe_leave(inode);
    }
    dentry_put(dentry);
    if (error != 0) {
        if (ends[0] != NULL) {
            file_put(ends[0]);
        }
        return error;
    }
    out_ends[0] = ends[0];
    out_ends[1] = ends[1];
    return 0;
}
