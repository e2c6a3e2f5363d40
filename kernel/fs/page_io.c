/* SPDX-License-Identifier: MIT */
/*
 * From pages to requests.
 *
 * A page_io counts its requests and its own beginning; who brings the count to zero ends the
 * pages, usually the interrupt of the last request.  One request that failed fails all the pages
 * of the batch: a page that was read well is read again by itself when somebody wants it.
 *
 * Without memory the page_io stands on its caller's stack and page_io_end() waits.
 */
#include "page_io.h"

#include <quire/assert.h>

#include "kstring.h"
#include "memory.h"
#include "mm.h"

struct page_io {
    struct disk *disk;
    struct qr_object *object;
    struct block_request *request; /* being filled; NULL: none */
    uint64_t next_sector;          /* behind what is in it */
    _Atomic uint32_t pending;      /* requests under way, and one until page_io_end() */
    _Atomic uint32_t over;         /* on_stack: the pages have ended */
    atomic_bool failed;
    bool on_stack;
    enum block_op op;
    size_t count;
    struct qr_frame *frames[QR_PAGER_BATCH];
};
_Static_assert(sizeof(struct page_io) <= sizeof(struct page_io_storage), "page_io.h");

struct page_io *
page_io_begin(struct disk *disk, struct qr_object *object, enum block_op op,
              struct qr_frame *const *frames, size_t count, struct page_io_storage *storage)
{
    struct page_io *io = kmem_zalloc(sizeof *io);
    bool on_stack = io == NULL;

    qr_assert(count <= QR_PAGER_BATCH);
    if (on_stack) {
        io = (struct page_io *)storage;
        memset(io, 0, sizeof *io);
    }
    io->disk = disk;
    io->object = object;
    io->op = op;
    io->on_stack = on_stack;
    io->count = count;
    atomic_init(&io->pending, 1);
    memcpy(io->frames, frames, count * sizeof *frames);
    return io;
}

/* One of what was pending is over. */
static void
page_io_drop(struct page_io *io)
{
    if (atomic_fetch_sub(&io->pending, 1) != 1)
        return;
    enum qr_status status = atomic_load(&io->failed) ? QR_ERR_IO : QR_OK;

    for (size_t i = 0; i < io->count; i++) {
        if (io->op == BLOCK_READ)
            qr_object_read_done(io->object, io->frames[i], status);
        else
            qr_object_write_done(io->object, io->frames[i], status);
    }
    if (io->on_stack) {
        _Atomic uint32_t *over = &io->over;

        atomic_store(over, 1); /* only the address is used from here on */
        qr_port_wake(over, UINT32_MAX);
    } else {
        kmem_free(io);
    }
}

static void
request_done(struct block_request *request)
{
    struct page_io *io = request->context;

    if (request->status != 0)
        atomic_store(&io->failed, true);
    block_request_put(request);
    page_io_drop(io);
}

static void
request_submit(struct page_io *io)
{
    struct block_request *request = io->request;

    io->request = NULL;
    if (request != NULL)
        disk_submit(io->disk, request);
}

static void
request_begin(struct page_io *io, uint64_t sector)
{
    struct block_request *request = block_request_get();

    request->op = io->op;
    request->sector = sector;
    request->done = request_done;
    request->context = io;
    atomic_fetch_add(&io->pending, 1);
    io->request = request;
}

void
page_io_add(struct page_io *io, size_t page, size_t offset, size_t bytes, uint64_t sector)
{
    qr_pa pa = qr_pa_of(qr_frame_pa(memory.frames, io->frames[page]).v + offset);
    struct block_request *request = io->request;

    if (request != NULL &&
        (sector != io->next_sector || request->segment_count == io->disk->segments_max)) {
        request_submit(io);
        request = NULL;
    }
    if (request == NULL) {
        request_begin(io, sector);
        request = io->request;
    }
    struct block_segment *last =
        request->segment_count == 0 ? NULL : &request->segments[request->segment_count - 1];

    if (last != NULL && last->pa.v + last->bytes == pa.v) {
        last->bytes += (uint32_t)bytes;
    } else {
        request->segments[request->segment_count++] = (struct block_segment){pa, (uint32_t)bytes};
    }
    io->next_sector = sector + (bytes >> SECTOR_SHIFT);
}

void
page_io_clear(struct page_io *io, size_t page, size_t offset, size_t bytes)
{
    char *window = qr_port_window_open(qr_frame_pa(memory.frames, io->frames[page]));

    memset(window + offset, 0, bytes);
    qr_port_window_close(window);
}

void
page_io_fail(struct page_io *io)
{
    atomic_store(&io->failed, true);
}

void
page_io_end(struct page_io *io)
{
    bool on_stack = io->on_stack;

    request_submit(io);
    page_io_drop(io);
    while (on_stack && atomic_load(&io->over) == 0)
        qr_port_wait(&io->over, 0);
}
