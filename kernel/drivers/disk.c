/* SPDX-License-Identifier: MIT */
/*
 * Disks and requests, whatever the driver.
 *
 * A request is memory of its owner's; done() is called exactly once for each, from wherever its
 * end became known.  Bounds are checked here, so that a driver sees only sectors that exist.
 *
 * One request is kept in reserve: cleaning pages must go on without memory, since memory may
 * be what it brings.  Who finds neither memory nor the reserve waits for the reserve, whose
 * user waits for the disk alone.
 */
#include <block.h>

#include <quire/assert.h>
#include <quire/object.h>

#include "abi_errno.h"
#include "kstring.h"
#include "memory.h"
#include "mm.h"
#include "printk.h"
#include "proc.h"

static struct disk *disks[DISKS_MAX];
static size_t disk_count;

static struct block_request reserve;
static _Atomic uint32_t reserve_taken;

struct disk *
disk_at(size_t index)
{
    return index < disk_count ? disks[index] : NULL;
}

struct disk *
disk_of_number(uint32_t rdev)
{
    for (size_t i = 0; i < disk_count; i++) {
        if (disks[i]->rdev == rdev)
            return disks[i];
    }
    return NULL;
}

bool
disk_add(struct disk *disk)
{
    if (disk_count == DISKS_MAX || disk_cache_create(disk) != QR_OK)
        return false;
    snprintf(disk->name, sizeof disk->name, "vd%c", (char)('a' + disk_count));
    disk->rdev = MAKE_DISK_NUMBER(disk_count);
    disks[disk_count++] = disk;
    return true;
}

/* ---- Requests ----------------------------------------------------------------------- */

struct block_request *
block_request_get(void)
{
    struct block_request *request = kmem_zalloc(sizeof *request);

    if (request != NULL)
        return request;
    while (atomic_exchange(&reserve_taken, 1) != 0)
        qr_port_wait(&reserve_taken, 1);
    memset(&reserve, 0, sizeof reserve);
    return &reserve;
}

void
block_request_put(struct block_request *request)
{
    if (request != &reserve) {
        kmem_free(request);
        return;
    }
    atomic_store(&reserve_taken, 0);
    qr_port_wake(&reserve_taken, UINT32_MAX);
}

/** Whether the disk has these sectors, and enough memory was named for whole ones. */
static bool
request_is_sound(const struct disk *disk, const struct block_request *request)
{
    uint64_t bytes = block_request_bytes(request);

    if (request->op == BLOCK_FLUSH)
        return true;
    if (request->op == BLOCK_WRITE && disk->read_only)
        return false;
    for (unsigned i = 0; i < request->segment_count; i++) {
        if (request->segments[i].bytes % SECTOR_BYTES != 0)
            return false;
    }
    return bytes > 0 && request->sector < disk->sectors &&
           bytes >> SECTOR_SHIFT <= disk->sectors - request->sector;
}

void
disk_submit(struct disk *disk, struct block_request *request)
{
    qr_assert(request->segment_count <= disk->segments_max);
    if (!request_is_sound(disk, request)) {
        request->status = -EIO;
        request->done(request);
        return;
    }
    if (request->op == BLOCK_READ)
        thread_current()->io.read_bytes += block_request_bytes(request);
    atomic_fetch_add(&disk->in_flight, 1);
    disk->ops->submit(disk, request);
}

void
disk_complete(struct disk *disk, struct block_request *request, int64_t status)
{
    uint64_t bytes = block_request_bytes(request);

    if (status == 0) {
        atomic_fetch_add(&disk->requests[request->op], 1);
        atomic_fetch_add(&disk->sectors_moved[request->op], bytes >> SECTOR_SHIFT);
    }
    if (status == 0 && request->op != BLOCK_FLUSH)
        qr_counter_add(qr_frames_counters(memory.frames),
                       request->op == BLOCK_READ ? QR_EVENT_DISK_IN : QR_EVENT_DISK_OUT,
                       (long)(bytes >> 10));
    atomic_fetch_sub(&disk->in_flight, 1);
    request->status = status;
    request->done(request);
}

static void
waited_done(struct block_request *request)
{
    _Atomic uint32_t *over = request->context;

    atomic_store(over,
                 1); /* from here on the waiter's stack may be gone: only its address is used */
    qr_port_wake(over, UINT32_MAX);
}

int64_t
disk_run(struct disk *disk, struct block_request *request)
{
    _Atomic uint32_t over = 0;

    request->done = waited_done;
    request->context = &over;
    disk_submit(disk, request);
    while (atomic_load(&over) == 0)
        qr_port_wait(&over, 0);
    return request->status;
}

int64_t
disk_flush(struct disk *disk)
{
    struct block_request *request = block_request_get();

    request->op = BLOCK_FLUSH;
    int64_t status = disk_run(disk, request);
    block_request_put(request);
    return status;
}
