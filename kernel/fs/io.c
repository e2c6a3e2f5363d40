/* SPDX-License-Identifier: MIT */
/*
 * The cursor that every read and write moves through.
 *
 * One rule keeps partial copies honest: what the cursor reports as moved was moved, and a
 * short count means that user memory faulted, never "try again".  Callers stop at a short
 * count; with zero bytes moved in all they answer EFAULT.  Nobody loops on zero progress.
 */

#include "io.h"

#include <quire/assert.h>
#include <quire/user.h>

#include "kstring.h"
#include "mm.h"

void
io_init_kernel(struct io *io, void *buffer, size_t length)
{
    io_init_user(io, (uintptr_t)buffer, length);
    io->memory = IO_KERNEL;
}

void
io_init_pieces(struct io *io, const struct io_piece *pieces, size_t total)
{
    io->pieces = pieces;
    io->piece_offset = 0;
    io->left = total;
    io->memory = IO_USER;
}

void
io_skip(struct io *io, size_t n)
{
    qr_assert(n <= io->left);
    io->left -= n;
    while (n > 0) {
        size_t in_piece = io->pieces->length - io->piece_offset;

        if (n < in_piece) {
            io->piece_offset += n;
            return;
        }
        n -= in_piece;
        io->pieces++;
        io->piece_offset = 0;
    }
}

enum io_direction { IO_PUT, IO_TAKE, IO_ZERO };

/*
 * A user range that starts below the end of user memory and runs past it is refused whole by the
 * plain copies; the partial ones move what lies below.  Rare, so the plain copy goes first.
 */
static inline size_t
user_put(uintptr_t at, const void *kernel, size_t n)
{
    size_t failed = qr_copy_to_user(qr_va_of(at), kernel, n);

    return qr_likely(failed < n) ? n - failed : user_write_partial(at, kernel, n);
}

static inline size_t
user_take(uintptr_t at, void *kernel, size_t n)
{
    size_t failed = qr_copy_from_user(kernel, qr_va_of(at), n);

    return qr_likely(failed < n) ? n - failed : user_read_partial(kernel, at, n);
}

/* Move @n bytes between one piece's memory and the kernel. */
static inline size_t
piece_move(enum io_memory memory, uintptr_t at, void *kernel, size_t n, enum io_direction direction)
{
    if (memory == IO_USER) {
        switch (direction) {
        case IO_PUT:
            return user_put(at, kernel, n);
        case IO_TAKE:
            return user_take(at, kernel, n);
        case IO_ZERO:
            return user_clear_partial(at, n);
        }
    }
    switch (direction) {
    case IO_PUT:
        memcpy((void *)at, kernel, n);
        break;
    case IO_TAKE:
        memcpy(kernel, (void *)at, n);
        break;
    case IO_ZERO:
        memset((void *)at, 0, n);
        break;
    }
    return n;
}

static QR_ALWAYS_INLINE size_t
io_move(struct io *io, void *kernel, size_t n, enum io_direction direction)
{
    size_t moved = 0;

    if (n > io->left) {
        n = io->left;
    }
    if (n == 0) {
        return 0;
    }
    /* Nearly every call: all within the current piece, which may then be used up. */
    if (qr_likely(n <= io->pieces->length - io->piece_offset)) {
        moved = piece_move(io->memory, io->pieces->base + io->piece_offset, kernel, n, direction);
        io->piece_offset += moved;
        io->left -= moved;
        return moved;
    }
    while (moved < n) {
        size_t in_piece = io->pieces->length - io->piece_offset;
        size_t want = n - moved < in_piece ? n - moved : in_piece;

        if (want == 0) {
            io->pieces++;
            io->piece_offset = 0;
            continue;
        }
        size_t done = piece_move(io->memory, io->pieces->base + io->piece_offset,
                                 kernel == NULL ? NULL : (char *)kernel + moved, want, direction);
        io_skip(io, done);
        moved += done;
        if (done < want) {
            break;
        }
    }
    return moved;
}

size_t
io_put(struct io *io, const void *source, size_t n)
{
    return io_move(io, (void *)(uintptr_t)source, n, IO_PUT);
}

size_t
io_take(struct io *io, void *destination, size_t n)
{
    return io_move(io, destination, n, IO_TAKE);
}

size_t
io_put_zeros(struct io *io, size_t n)
{
    return io_move(io, NULL, n, IO_ZERO);
}

/* One byte of each page, or piece, is taken from a copy of the cursor. */
size_t
io_ready(const struct io *io, size_t n)
{
    struct io ahead = *io;
    size_t ready = 0;
    char byte;

    n = n < io->left ? n : io->left;
    while (ready < n && io_take(&ahead, &byte, 1) == 1) {
        size_t in_piece = ahead.pieces->length - ahead.piece_offset;
        size_t in_page = -(ahead.pieces->base + ahead.piece_offset) & QR_PAGE_MASK;
        size_t rest = in_page < in_piece ? in_page : in_piece;

        rest = rest < n - ready - 1 ? rest : n - ready - 1;
        io_skip(&ahead, rest);
        ready += 1 + rest;
    }
    return ready;
}
