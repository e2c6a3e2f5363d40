/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_IO_H
#define KERNEL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A cursor over the memory that a read fills or a write drains: one or more
 * pieces, in user space or in the kernel.  Every file operation moves its bytes
 * through one of these, so that no file kind ever sees a user pointer.
 *
 * The cursor lives on the caller's stack and is used by one thread only.
 */

/** One piece; the layout of Linux's struct iovec on 64-bit. */
struct io_piece {
    uintptr_t base;
    size_t length;
};

enum io_memory {
    IO_KERNEL, /**< `base` is a kernel pointer */
    IO_USER    /**< `base` is an untrusted user address: only the copy helpers touch it */
};

struct io {
    const struct io_piece *pieces; /**< current piece; kernel memory always */
    size_t piece_offset;           /**< bytes of the current piece already used */
    size_t left;                   /**< bytes left over all pieces */
    enum io_memory memory;
    struct io_piece single; /**< storage for the common case of one piece */
};

/** Prepare @io over one user range. Nothing is checked: a bad range faults on the copy. */
static inline void
io_init_user(struct io *io, uint64_t address, size_t length)
{
    io->single.base = (uintptr_t)address;
    io->single.length = length;
    io->pieces = &io->single;
    io->piece_offset = 0;
    io->left = length;
    io->memory = IO_USER;
}

/** Prepare @io over one kernel buffer. */
void io_init_kernel(struct io *io, void *buffer, size_t length);

/** Prepare @io over @total bytes of @pieces (user addresses), which stays alive during the use. */
void io_init_pieces(struct io *io, const struct io_piece *pieces, size_t total);

/**
 * Copy @n bytes at @source to where a read wants them, and advance.
 *
 * @return bytes moved: min(@n, io->left), or less when user memory faulted.
 *         At least one byte moves if at least one could.
 * Context: thread; may fault and sleep for IO_USER. Holds no spin lock.
 */
size_t io_put(struct io *io, const void *source, size_t n);

/** Copy up to @n bytes from where a write has them to @destination, and advance. As io_put(). */
size_t io_take(struct io *io, void *destination, size_t n);

/** Write up to @n zero bytes to where a read wants them. As io_put(). */
size_t io_put_zeros(struct io *io, size_t n);

/** How many of the next @n bytes that a write has can be read: brought in, and not moved. As io_put(). */
size_t io_ready(const struct io *io, size_t n);

/** Step over @n <= io->left bytes without touching them. */
void io_skip(struct io *io, size_t n);

#endif
