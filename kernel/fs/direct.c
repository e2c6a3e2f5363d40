/* SPDX-License-Identifier: MIT */
/*
 * O_DIRECT: between user memory and the disk, past the page cache.
 *
 * User pages are held by reference for the length of one request, so that they stay where they are
 * while the disk reads or writes them; a request takes as many as it has room for and as lie
 * together on the disk.
 *
 * The page cache stays true: pages over the same bytes are written before, and taken out of
 * every mapping and dropped after a write.  Who stores through a mapping at the same time gets
 * one or the other, as on Linux.
 */
#include <quire/assert.h>

#include "disk_file.h"
#include "memory.h"
#include "proc.h"

static size_t
smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One request and the user frames under it. */
struct pinned {
    struct qr_frame *frames[BLOCK_SEGMENTS];
    unsigned count;
};

static void
pinned_release(struct pinned *pinned, enum block_op op)
{
    for (unsigned i = 0; i < pinned->count; i++) {
        struct qr_frame *frame = pinned->frames[i];
        struct qr_object *object = qr_frame_type(frame) == QR_FRAME_OBJECT
                                       ? qr_objects_find(memory.objects, atomic_load(&frame->owner))
                                       : NULL;

        if (object != NULL) {
            if (op == BLOCK_READ)
                qr_object_mark_dirty(object, frame);
            qr_object_put(object);
        }
        qr_frame_put(memory.frames, frame);
    }
    pinned->count = 0;
}

/* The next piece of user memory, within one page.  @return 0, -EINVAL or -EFAULT */
static int64_t
pin_next(struct pinned *pinned, struct block_request *request, const struct io_piece *piece,
         size_t offset, size_t bytes)
{
    uintptr_t at = piece->base + offset;
    size_t within = at & QR_PAGE_MASK;
    unsigned access = request->op == BLOCK_READ ? QR_ACCESS_WRITE : QR_ACCESS_READ;
    struct qr_frame *frame = NULL;

    if (at >= mm_user_limit() || qr_space_get_frame(thread_current()->space, qr_va_of(at - within),
                                                    access, false, &frame) != QR_OK)
        return -EFAULT;
    pinned->frames[pinned->count++] = frame;
    request->segments[request->segment_count++] = (struct block_segment){
        qr_pa_of(qr_frame_pa(memory.frames, frame).v + within), (uint32_t)bytes};
    return 0;
}

/* Fill @request from @io, @bytes at most.  @return bytes, or an error where there are none */
static int64_t
pin_some(struct pinned *pinned, struct block_request *request, unsigned segments,
         const struct io *io, size_t bytes)
{
    const struct io_piece *piece = io->pieces;
    size_t offset = io->piece_offset;
    size_t done = 0;

    while (done < bytes && request->segment_count < segments) {
        if (offset == piece->length) {
            piece++;
            offset = 0;
            continue;
        }
        size_t in_page = QR_PAGE_SIZE - ((piece->base + offset) & QR_PAGE_MASK);
        size_t part = smaller(smaller(piece->length - offset, in_page), bytes - done);
        int64_t error = pin_next(pinned, request, piece, offset, part);

        if (error != 0)
            return done > 0 ? (int64_t)done : error;
        offset += part;
        done += part;
    }
    return (int64_t)done;
}

/* Addresses and lengths of every piece, as far as @bytes reach. */
static bool
pieces_are_aligned(const struct io *io, size_t bytes)
{
    const struct io_piece *piece = io->pieces;
    size_t offset = io->piece_offset;

    while (bytes > 0) {
        size_t part = smaller(piece->length - offset, bytes);

        if (part > 0 && (((piece->base + offset) | part) & (SECTOR_BYTES - 1)) != 0)
            return false;
        bytes -= part;
        piece++;
        offset = 0;
    }
    return true;
}

bool
direct_is_aligned(const struct io *io, uint64_t offset, size_t bytes)
{
    return io->memory == IO_USER && ((offset | bytes) & (SECTOR_BYTES - 1)) == 0 &&
           pieces_are_aligned(io, bytes);
}

static int64_t
move_some(const struct direct_target *target, enum block_op op, struct io *io, uint64_t offset,
          size_t bytes)
{
    struct pinned pinned = {.count = 0};
    uint64_t sector;
    size_t part;
    int64_t result =
        target->find(target->context, offset, bytes, op == BLOCK_WRITE, &sector, &part);

    if (result != 0)
        return result;
    if (sector == UINT64_MAX) {
        size_t done = io_put_zeros(io, part);

        return done > 0 ? (int64_t)done : -EFAULT;
    }
    struct block_request *request = block_request_get();

    request->op = op;
    request->sector = sector;
    result = pin_some(&pinned, request, target->disk->segments_max, io, part);
    if (result > 0) {
        int64_t error = disk_run(target->disk, request);

        result = error != 0 ? error : result;
    }
    pinned_release(&pinned, op);
    block_request_put(request);
    if (result > 0)
        io_skip(io, (size_t)result);
    if (result > 0 && op == BLOCK_WRITE)
        thread_current()->io.written_bytes += (uint64_t)result;
    return result;
}

int64_t
direct_transfer(const struct direct_target *target, enum block_op op, struct io *io,
                uint64_t offset, size_t bytes)
{
    size_t first = (size_t)(offset >> QR_PAGE_SHIFT);
    size_t last = (size_t)((offset + bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT);
    size_t total = 0;

    if (!direct_is_aligned(io, offset, bytes))
        return -EINVAL;
    int64_t result = errno_of(qr_object_sync(target->object, first, last));

    while (result >= 0 && total < bytes) {
        result = move_some(target, op, io, offset + total, bytes - total);
        if (result > 0)
            total += (size_t)result;
    }
    if (op == BLOCK_WRITE)
        qr_object_invalidate(target->object, first, last);
    return total > 0 ? (int64_t)total : result;
}
