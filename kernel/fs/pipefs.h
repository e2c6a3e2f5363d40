/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_FS_PIPEFS_H
#define KERNEL_FS_PIPEFS_H

#include "fs.h"
#include "proc.h"

struct qr_frame;

/** A stretch of bytes in one page: the pipe's own, or one that others have, too. */
struct pipe_slot {
    struct qr_frame *frame;  /* one reference */
    uint32_t offset, length; /* what is still to be read; never nothing */
    bool own;                /* made by a write: the next may go on behind its bytes */
};

/** See pipe.c. */
struct pipe {
    struct qr_mutex lock;
    struct pipe_slot *slots; /* lock */
    uint32_t slot_count;     /* lock; a power of two */
    uint32_t capacity;       /* lock: in bytes, as programs see it */
    uint32_t head, tail;     /* lock: slots, run freely */
    _Atomic uint32_t used;   /* bytes to be read; lock to write */
    _Atomic uint32_t room;   /* bytes that writes can add; lock to write */
    struct qr_frame *spare;  /* lock: an own page that is empty, for the next write */
    struct wait_queue readable, writable, opened;
    _Atomic uint32_t readers, writers;
    _Atomic uint32_t reader_opens, writer_opens; /* ever: what a fifo's open() waits for */
    uint32_t users;                              /* inode->lock: files and opens in progress */
};

/** The pipe behind @file, or NULL. */
struct pipe *pipe_of(const struct file *file);

/** F_GETPIPE_SZ. -EBADF for what is no pipe */
int64_t pipe_get_size(struct file *file);
/** F_SETPIPE_SZ. @return the new size; -EINVAL, -EPERM (too large), -EBUSY (holds more), -ENOMEM */
int64_t pipe_set_size(struct file *file, uint64_t bytes);

enum pipe_wait { PIPE_BLOCK, PIPE_NONBLOCK };

/** Wait until there are bytes. @return 1; 0 at the end; -EAGAIN, -ERESTARTSYS */
int64_t pipe_wait_data(struct pipe *pipe, enum pipe_wait wait);
/** Wait until a slot is free. @return 0; -EPIPE (with SIGPIPE), -EAGAIN, -ERESTARTSYS */
int64_t pipe_wait_slot(struct pipe *pipe, enum pipe_wait wait);

/* With the lock held; the caller wakes `readable` or `writable` after it. */

static inline uint32_t
pipe_slots_used(const struct pipe *pipe)
{
    return pipe->head - pipe->tail;
}

static inline bool
pipe_has_free_slot(const struct pipe *pipe)
{
    return pipe_slots_used(pipe) < pipe->slot_count;
}

/** The @n-th slot from the oldest. */
static inline struct pipe_slot *
pipe_slot_at(const struct pipe *pipe, uint32_t n)
{
    return &pipe->slots[(pipe->tail + n) & (pipe->slot_count - 1)];
}

/** Add @slot, whose reference the pipe takes over, to a pipe with a free one. */
void pipe_push(struct pipe *pipe, struct pipe_slot slot);
/** The oldest @bytes, within the oldest slot, are gone. */
void pipe_consume(struct pipe *pipe, uint32_t bytes);
/** Take the oldest slot out whole, with its reference. */
struct pipe_slot pipe_pop(struct pipe *pipe);

/** Copy bytes of a frame to where a read wants them. @return bytes; short on a fault */
size_t frame_put_io(struct qr_frame *frame, uint32_t offset, size_t bytes, struct io *io);

#endif
