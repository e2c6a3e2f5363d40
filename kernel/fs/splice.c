/* SPDX-License-Identifier: MIT */
/*
 * splice, tee and vmsplice: bytes between pipes, files and memory, by reference where that can be.
 *
 *   memory -> pipe     vmsplice   the pages themselves
 *   file   -> pipe     splice     the pages of a file in memory; others are read into a page
 *   pipe   -> pipe     splice     slots move; a part of one gains a reference
 *   pipe   -> pipe     tee        every slot gains a reference
 *   pipe   -> file     splice     written from the pages, which a file in memory copies
 *   pipe   -> memory   vmsplice   copied, as by readv()
 *
 * What several have is only read: a pipe goes on writing only in pages that a write of its own began.  A
 * page that was given away may still change under its owner's hands, as in Linux.  A frame in a
 * pipe holds a reference, so whoever breaks copy-on-write does not take it over.
 *
 * Locks: the pipe's over a transfer to or from a file, as over read() and write(); of two pipes both,
 * the one at the lower address first.  Nothing waits for a pipe with a pipe's lock held.
 */

#include <quire/assert.h>
#include <quire/space.h>

#include "fd_table.h"
#include "fs.h"
#include "memory.h"
#include "pipefs.h"
#include "proc.h"
#include "syscall.h"

enum { SPLICE_NONBLOCK = 2, SPLICE_FLAGS = 15, IOV_LIMIT = 1024 };

#define RW_LIMIT ((size_t)0x7ffff000)

static enum pipe_wait
wait_of(uint32_t flags, const struct file *file)
{
    return (flags & SPLICE_NONBLOCK) || (atomic_load(&file->flags) & O_NONBLOCK) ? PIPE_NONBLOCK
                                                                                 : PIPE_BLOCK;
}

static void
woken(struct wait_queue *queue, int64_t moved)
{
    if (moved > 0) {
        wait_wake_all(queue);
    }
}

/* ---- file to pipe ----------------------------------------------------------------------- */

/* A page of the file's memory, by reference. @return bytes, 0 at the end, -errno */
static int64_t
slot_from_object(struct file *file, uint64_t position, size_t want, struct pipe_slot *out)
{
    uint64_t size = atomic_load(&file->inode->size);
    uint32_t offset = (uint32_t)(position % FS_PAGE_BYTES);

    if (position >= size) {
        return 0;
    }
    if (want > FS_PAGE_BYTES - offset) {
        want = FS_PAGE_BYTES - offset;
    }
    if (want > size - position) {
        want = (size_t)(size - position);
    }
    size_t index = (size_t)(position / FS_PAGE_BYTES), present;
    enum qr_status status = QR_OK;

    if (qr_object_next_present(file->inode->object, index, &present) && present == index) {
        status = qr_object_get_page(file->inode->object, index, QR_PAGE_FILL, &out->frame);
    } else { /* a hole stays one */
        out->frame = qr_frame_alloc(memory.frames, QR_ALLOC_ZERO);
        status = out->frame == NULL ? QR_ERR_NO_MEMORY : QR_OK;
    }
    if (status != QR_OK) {
        return status == QR_ERR_RANGE ? 0 : errno_of(status);
    }
    out->offset = offset;
    out->length = (uint32_t)want;
    out->own = false;
    return (int64_t)want;
}

/* A page of ours, read into. */
static int64_t
slot_from_read(struct file *file, uint64_t *position, size_t want, struct pipe_slot *out)
{
    struct qr_frame *frame = qr_frame_alloc(memory.frames, 0);
    struct io io;

    if (frame == NULL) {
        return -ENOMEM;
    }
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
    io_init_kernel(&io, window, want < FS_PAGE_BYTES ? want : FS_PAGE_BYTES);
    int64_t got = file->ops->read(file, &io, position);
    qr_port_window_close(window);
    if (got <= 0) {
        qr_frame_put(memory.frames, frame);
        return got;
    }
    *out = (struct pipe_slot){.frame = frame, .length = (uint32_t)got, .own = true};
    return got;
}

/* One slot's worth. Pipe locked, with a free slot. */
static int64_t
fill_slot(struct pipe *pipe, struct file *file, uint64_t *position, size_t want)
{
    struct pipe_slot slot;
    int64_t got;

    if (file->ops == &tmpfs_file_ops && file->inode->object != NULL) {
        got = slot_from_object(file, *position, want, &slot);
        *position += got > 0 ? (uint64_t)got : 0;
    } else if (S_ISTYPE(file->inode->mode, S_IFDIR)) {
        got = -EINVAL;
    } else {
        got = slot_from_read(file, position, want, &slot);
    }
    if (got > 0) {
        pipe_push(pipe, slot);
    }
    return got;
}

static int64_t
splice_to_pipe(struct file *file, uint64_t *position, struct pipe *pipe, size_t bytes,
               enum pipe_wait wait)
{
    int64_t got = pipe_wait_slot(pipe, wait);
    size_t total = 0;

    if (got < 0) {
        return got;
    }
    qr_mutex_lock(&pipe->lock);
    while (total < bytes && pipe_has_free_slot(pipe) && !(total > 0 && signal_is_pending())) {
        got = fill_slot(pipe, file, position, bytes - total);
        if (got <= 0) {
            break;
        }
        total += (size_t)got;
        if (file->mode & FILE_STREAM) {
            break; /* the next read may have to wait */
        }
    }
    qr_mutex_unlock(&pipe->lock);
    woken(&pipe->readable, (int64_t)total);
    if (total == 0 && got > 0) {
        return -EAGAIN; /* another writer was faster */
    }
    return total > 0 ? (int64_t)total : got;
}

/* ---- pipe to file --------------------------------------------------------------------------- */

/* Write the bytes of a slot, of which the file may take less. Pipe locked. */
static int64_t
write_slot(const struct pipe_slot *slot, size_t want, struct file *file, uint64_t *position)
{
    bool high = qr_frame_is_high(memory.frames, slot->frame);
    char bounce[256];
    struct io io;

    want = want < slot->length ? want : slot->length;
    if (high && want > sizeof bounce) {
        want = sizeof bounce;
    }
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, slot->frame));
    if (high) {
        memcpy(bounce, window + slot->offset, want);
        qr_port_window_close(window);
    }
    io_init_kernel(&io, high ? bounce : window + slot->offset, want);
    int64_t done = file->ops->write(file, &io, position);
    if (!high) {
        qr_port_window_close(window);
    }
    return done;
}

static int64_t
splice_from_pipe(struct pipe *pipe, struct file *file, uint64_t *position, size_t bytes,
                 enum pipe_wait wait)
{
    size_t total = 0;
    int64_t done = 1;

    /* Until all is moved: what is there first, then what writers bring. */
    while (total < bytes && done > 0) {
        done = pipe_wait_data(pipe, total > 0 ? PIPE_NONBLOCK : wait);
        if (done <= 0) {
            break;
        }
        qr_mutex_lock(&pipe->lock);
        size_t before = total;
        while (total < bytes && pipe_slots_used(pipe) > 0 && done > 0) {
            done = write_slot(pipe_slot_at(pipe, 0), bytes - total, file, position);
            if (done > 0) {
                pipe_consume(pipe, (uint32_t)done);
                total += (size_t)done;
            }
        }
        qr_mutex_unlock(&pipe->lock);
        woken(&pipe->writable, (int64_t)(total - before));
    }
    return total > 0 ? (int64_t)total : done;
}

/* ---- pipe to pipe ------------------------------------------------------------------------------ */

static void
lock_both(struct pipe *a, struct pipe *b)
{
    qr_mutex_lock((uintptr_t)a < (uintptr_t)b ? &a->lock : &b->lock);
    qr_mutex_lock((uintptr_t)a < (uintptr_t)b ? &b->lock : &a->lock);
}

static void
unlock_both(struct pipe *a, struct pipe *b)
{
    qr_mutex_unlock(&a->lock);
    qr_mutex_unlock(&b->lock);
}

/* The first @bytes of a slot for a second pipe. */
static struct pipe_slot
slot_share(const struct pipe_slot *slot, size_t bytes)
{
    struct pipe_slot part = {.frame = slot->frame,
                             .offset = slot->offset,
                             .length = bytes < slot->length ? (uint32_t)bytes : slot->length};

    qr_frame_get(part.frame);
    return part;
}

/* Both locked. */
static size_t
move_slots(struct pipe *from, struct pipe *to, size_t bytes)
{
    size_t total = 0;

    while (total < bytes && pipe_slots_used(from) > 0 && pipe_has_free_slot(to)) {
        struct pipe_slot *slot = pipe_slot_at(from, 0), part;

        if (slot->length <= bytes - total) {
            part = pipe_pop(from);
        } else {
            part = slot_share(slot, bytes - total);
            slot->own = false; /* two have the page now */
            pipe_consume(from, part.length);
        }
        pipe_push(to, part);
        total += part.length;
    }
    return total;
}

static size_t
share_slots(struct pipe *from, struct pipe *to, size_t bytes)
{
    size_t total = 0;

    for (uint32_t i = 0; total < bytes && i < pipe_slots_used(from) && pipe_has_free_slot(to);
         i++) {
        struct pipe_slot part = slot_share(pipe_slot_at(from, i), bytes - total);

        pipe_push(to, part);
        total += part.length;
    }
    return total;
}

typedef size_t (*between_fn)(struct pipe *from, struct pipe *to, size_t bytes);

/* Wait for bytes here and a slot there, until both are seen at once. */
static int64_t
between_pipes(struct pipe *from, struct pipe *to, size_t bytes, enum pipe_wait wait,
              between_fn move)
{
    for (;;) {
        int64_t result = pipe_wait_data(from, wait);

        if (result <= 0) {
            return result;
        }
        result = pipe_wait_slot(to, wait);
        if (result < 0) {
            return result;
        }
        lock_both(from, to);
        size_t moved = move(from, to, bytes);
        unlock_both(from, to);
        if (moved > 0) {
            wait_wake_all(&to->readable);
            wait_wake_all(&from->writable);
            return (int64_t)moved;
        }
        if (wait == PIPE_NONBLOCK) {
            return -EAGAIN;
        }
    }
}

/* ---- splice() ------------------------------------------------------------------------------------ */

struct splice_side {
    struct file *file;
    struct pipe *pipe; /* NULL: no pipe */
    uint64_t user;     /* where the caller keeps the position; 0: the file's own */
    uint64_t position; /* its value */
};

static int64_t
side_open(struct splice_side *side, int fd, uint32_t mode, uint64_t user)
{
    side->file = file_get(fd);
    side->user = user;
    if (side->file == NULL) {
        return -EBADF;
    }
    side->pipe = pipe_of(side->file);
    return side->file->mode & mode ? 0 : -EBADF;
}

static void
side_close(const struct splice_side *side)
{
    if (side->file != NULL) {
        file_put(side->file);
    }
}

/* The position of a side that is no pipe. @return 0 or -errno */
static int64_t
side_seek(struct splice_side *side)
{
    if (side->user == 0) {
        return 0;
    }
    if (side->pipe != NULL || (side->file->mode & FILE_STREAM)) {
        return -ESPIPE;
    }
    if (user_read_u64(&side->position, side->user) != 0) {
        return -EFAULT;
    }
    return (int64_t)side->position < 0 ? -EINVAL : 0;
}

static int64_t
move_file(const struct splice_side *from, const struct splice_side *to, uint64_t *position,
          size_t bytes, uint32_t flags)
{
    if (from->pipe != NULL) {
        return splice_from_pipe(from->pipe, to->file, position, bytes, wait_of(flags, from->file));
    }
    return splice_to_pipe(from->file, position, to->pipe, bytes, wait_of(flags, to->file));
}

/* One side is a pipe and the other, @file, is not. */
static int64_t
splice_file(const struct splice_side *from, const struct splice_side *to, struct splice_side *file,
            size_t bytes, uint32_t flags)
{
    bool own = file->user == 0 && !(file->file->mode & FILE_STREAM);
    uint64_t position = file->position;
    int64_t result;

    if (own) {
        qr_mutex_lock(&file->file->position_lock);
        position = file->file->position;
    }
    if (bytes > INT64_MAX - position) {
        bytes = (size_t)(INT64_MAX - position);
    }
    result = move_file(from, to, file->file->mode & FILE_STREAM ? NULL : &position, bytes, flags);
    if (own) {
        file->file->position = position;
        qr_mutex_unlock(&file->file->position_lock);
    }
    if (result > 0 && file->user != 0 && user_write_u64(file->user, position) != 0) {
        return -EFAULT;
    }
    return result;
}

static int64_t
splice_sides(struct splice_side *from, struct splice_side *to, size_t bytes, uint32_t flags)
{
    int64_t result = side_seek(from);

    if (from->pipe == NULL && to->pipe == NULL) {
        return -EINVAL;
    }
    if (result == 0) {
        result = side_seek(to);
    }
    if (result != 0) {
        return result;
    }
    if (from->pipe != NULL && to->pipe != NULL) {
        bool nonblock = wait_of(flags, from->file) == PIPE_NONBLOCK ||
                        wait_of(flags, to->file) == PIPE_NONBLOCK;

        if (from->pipe == to->pipe) {
            return -EINVAL;
        }
        return between_pipes(from->pipe, to->pipe, bytes, nonblock ? PIPE_NONBLOCK : PIPE_BLOCK,
                             move_slots);
    }
    if (to->pipe == NULL) {
        if ((atomic_load(&to->file->flags) & O_APPEND) || to->file->ops->write == NULL) {
            return -EINVAL;
        }
        return splice_file(from, to, to, bytes, flags);
    }
    if (from->file->ops->read == NULL) {
        return -EINVAL;
    }
    return splice_file(from, to, from, bytes, flags);
}

int64_t
sys_splice(const struct syscall_args *args)
{
    struct splice_side from = {0}, to = {0};
    size_t bytes = (size_t)args->arg[4] < RW_LIMIT ? (size_t)args->arg[4] : RW_LIMIT;
    uint32_t flags = (uint32_t)args->arg[5];

    if (bytes == 0) {
        return 0;
    }
    if (flags & ~(uint32_t)SPLICE_FLAGS) {
        return -EINVAL;
    }
    int64_t result = side_open(&from, (int32_t)args->arg[0], FILE_READ, args->arg[1]);
    if (result == 0) {
        result = side_open(&to, (int32_t)args->arg[2], FILE_WRITE, args->arg[3]);
    }
    if (result == 0) {
        result = splice_sides(&from, &to, bytes, flags);
    }
    side_close(&from);
    side_close(&to);
    return result;
}

/* ---- tee() ------------------------------------------------------------------------------------------- */

static int64_t
tee_sides(const struct splice_side *from, const struct splice_side *to, size_t bytes,
          uint32_t flags)
{
    bool nonblock =
        wait_of(flags, from->file) == PIPE_NONBLOCK || wait_of(flags, to->file) == PIPE_NONBLOCK;

    if (from->pipe == NULL || to->pipe == NULL || from->pipe == to->pipe) {
        return -EINVAL;
    }
    return between_pipes(from->pipe, to->pipe, bytes, nonblock ? PIPE_NONBLOCK : PIPE_BLOCK,
                         share_slots);
}

int64_t
sys_tee(const struct syscall_args *args)
{
    struct splice_side from = {0}, to = {0};
    size_t bytes = (size_t)args->arg[2] < RW_LIMIT ? (size_t)args->arg[2] : RW_LIMIT;
    uint32_t flags = (uint32_t)args->arg[3];

    if (flags & ~(uint32_t)SPLICE_FLAGS) {
        return -EINVAL;
    }
    if (bytes == 0) {
        return 0;
    }
    int64_t result = side_open(&from, (int32_t)args->arg[0], FILE_READ, 0);
    if (result == 0) {
        result = side_open(&to, (int32_t)args->arg[1], FILE_WRITE, 0);
    }
    if (result == 0) {
        result = tee_sides(&from, &to, bytes, flags);
    }
    side_close(&from);
    side_close(&to);
    return result;
}

/* ---- vmsplice() ------------------------------------------------------------------------------------------ */

/* May the running thread read at @address, as far as protection keys go?  A copy would find out. */
static bool
key_allows(uint64_t address)
{
    struct mm *mm = process_current()->mm;

    if (__atomic_load_n(&mm->keys, __ATOMIC_RELAXED) <= 1) /* key 0 alone */
        return true;
    return (arch_pkey_rights(mm_key_at(mm, address)) & 1) == 0; /* PKEY_DISABLE_ACCESS */
}

/* The page at @address by reference, up to @want bytes of it. */
static int64_t
slot_from_memory(uint64_t address, size_t want, struct pipe_slot *out)
{
    uint32_t offset = (uint32_t)(address % FS_PAGE_BYTES);

    if (address >= mm_user_limit() || !key_allows(address) ||
        qr_space_get_frame(thread_current()->space, qr_va_of((uintptr_t)(address - offset)),
                           QR_ACCESS_READ, false, &out->frame) != QR_OK) {
        return -EFAULT;
    }
    if (want > FS_PAGE_BYTES - offset) {
        want = FS_PAGE_BYTES - offset;
    }
    out->offset = offset;
    out->length = (uint32_t)want;
    out->own = false;
    return (int64_t)want;
}

/* Push one slot, waiting for room. @return 0 or -errno; the slot's reference is gone then */
static int64_t
push_waiting(struct pipe *pipe, const struct pipe_slot *slot, enum pipe_wait wait)
{
    for (;;) {
        int64_t error = pipe_wait_slot(pipe, wait);
        bool pushed = false;

        if (error == 0) {
            qr_mutex_lock(&pipe->lock);
            pushed = pipe_has_free_slot(pipe);
            if (pushed) {
                pipe_push(pipe, *slot);
            }
            qr_mutex_unlock(&pipe->lock);
        }
        if (pushed) {
            wait_wake_all(&pipe->readable);
            return 0;
        }
        if (error != 0) {
            qr_frame_put(memory.frames, slot->frame);
            return error;
        }
    }
}

static int64_t
memory_to_pipe(struct pipe *pipe, const struct io_piece *pieces, size_t count, enum pipe_wait wait)
{
    size_t total = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t done = 0; done < pieces[i].length;) {
            struct pipe_slot slot;
            int64_t got = slot_from_memory(pieces[i].base + done, pieces[i].length - done, &slot);
            /* What there is goes first; only an empty-handed caller waits. */
            int64_t error =
                got < 0 ? got : push_waiting(pipe, &slot, total > 0 ? PIPE_NONBLOCK : wait);

            if (error != 0) {
                return total > 0 ? (int64_t)total : error;
            }
            done += (size_t)got;
            total += (size_t)got;
        }
    }
    return (int64_t)total;
}

/* The caller's pieces, copied once; freed by kmem_free(). */
static bool
is_user_piece(const struct io_piece *piece)
{
    uint64_t limit = mm_user_limit();

    return piece->length <= limit && piece->base <= limit - piece->length;
}

static int64_t
pieces_read(uint64_t user, uint64_t count, struct io_piece **out, size_t *out_total)
{
    *out = NULL;
    *out_total = 0;
    if (count > IOV_LIMIT) {
        return -EINVAL;
    }
    if (count == 0) {
        return 0;
    }
    struct io_piece *pieces = kmem_calloc((size_t)count, sizeof *pieces);
    if (pieces == NULL) {
        return -ENOMEM;
    }
    int64_t error = user_read(pieces, user, (size_t)count * sizeof *pieces);
    for (size_t i = 0; error == 0 && i < count; i++) {
        if ((intptr_t)pieces[i].length < 0) {
            error = -EINVAL;
        } else if (!is_user_piece(&pieces[i])) {
            error = -EFAULT;
        } else if (pieces[i].length > RW_LIMIT - *out_total) {
            pieces[i].length = RW_LIMIT - *out_total;
        }
        *out_total += error == 0 ? pieces[i].length : 0;
    }
    if (error != 0) {
        kmem_free(pieces);
        return error;
    }
    *out = pieces;
    return 0;
}

int64_t
sys_vmsplice(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[3];
    struct io_piece *pieces;
    size_t total;

    if (flags & ~(uint32_t)SPLICE_FLAGS) {
        return -EINVAL;
    }
    struct file *file = file_get((int32_t)args->arg[0]);
    if (file == NULL) {
        return -EBADF;
    }
    struct pipe *pipe = pipe_of(file);
    int64_t result =
        pipe == NULL ? -EBADF : pieces_read(args->arg[1], args->arg[2], &pieces, &total);
    if (result == 0) {
        if (total > 0 && (file->mode & FILE_WRITE)) {
            result = memory_to_pipe(pipe, pieces, (size_t)args->arg[2], wait_of(flags, file));
        } else if (total > 0) {
            struct io io;

            io_init_pieces(&io, pieces, total);
            result = flags & SPLICE_NONBLOCK ? pipe_wait_data(pipe, PIPE_NONBLOCK) : 1;
            result = result > 0 ? file->ops->read(file, &io, NULL) : result;
        }
        kmem_free(pieces);
    }
    file_put(file);
    return result;
}
