/* SPDX-License-Identifier: MIT */
/*
 * Virtio block devices: /dev/vda and on.
 *
 * Each request is a chain of a header, its memory and a status byte.  Up to SLOTS of them are with
 * the device at once; others wait in a list, in order.  The interrupt (and, once a second, the
 * watching thread, for an interrupt that got lost) takes back what is done.
 *
 * The device is not trusted.  An answer to what was not asked, a length that does not cover what
 * was read, a status that does not exist, or no answer for DEADLINE_NS end its use: it is reset,
 * which takes the ring and all memory away from it, every request ends with EIO, and so does
 * every later one.  Against a device that ignores even the reset only an IOMMU would help.
 *
 * Lock: B the device's spin lock: ring, slots, list.  done() is called without it.
 */
#include <block.h>
#include <interrupt.h>
#include <memory.h>

#include <quire/assert.h>

#include "abi_errno.h"
#include "kstring.h"
#include "mm.h"
#include "printk.h"
#include "sched.h"
#include "virtio.h"

#define FEATURE_SEG_MAX ((uint64_t)1 << 2)
#define FEATURE_RO      ((uint64_t)1 << 5)
#define FEATURE_FLUSH   ((uint64_t)1 << 9)

enum { CONFIG_CAPACITY = 0, CONFIG_SEG_MAX = 12 };
enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4 };
enum { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPPORTED = 2, STATUS_NONE = 0xff };

enum { SLOTS = 64, RESET_ROUNDS = 100000 };

#define DEADLINE_NS ((uint64_t)30 * 1000000000)
#define WATCH_NS    ((uint64_t)1000000000)

struct header {
    uint32_t type, reserved;
    uint64_t sector;
};

/* Shared with the device, behind the ring. */
struct slot_memory {
    struct header headers[SLOTS];
    uint8_t statuses[SLOTS];
};

struct slot {
    struct block_request *request; /* B; NULL: free */
};

struct virtio_blk {
    struct disk disk; /* first */
    struct virtio_device device;
    struct qr_spin lock;
    bool has_flush;             /* constant */
    bool dead;                  /* B */
    struct vring ring;          /* B */
    struct slot slots[SLOTS];   /* B */
    struct qr_list waiting;     /* B: requests without a slot */
    struct slot_memory *memory; /* B */
    qr_pa memory_pa;            /* constant */
};

static struct virtio_blk *devices[DISKS_MAX];

static struct virtio_blk *
blk_of(struct disk *disk)
{
    return (struct virtio_blk *)disk;
}

uint64_t
virtio_config(struct virtio_device *device, unsigned offset, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)device->transport->config(device, offset + i) << (8 * i);
    return value;
}

/* ---- Starting ------------------------------------------------------------------------ */

static unsigned
slot_find(const struct virtio_blk *blk)
{
    unsigned slot = 0;

    while (slot < SLOTS && blk->slots[slot].request != NULL)
        slot++;
    return slot;
}

static const uint32_t type_of[] = {
    [BLOCK_READ] = TYPE_IN, [BLOCK_WRITE] = TYPE_OUT, [BLOCK_FLUSH] = TYPE_FLUSH};

/** Give @p request to the device.  B.  @return false where there is no room now */
static bool
request_start(struct virtio_blk *blk, struct block_request *request)
{
    struct vring_piece pieces[BLOCK_SEGMENTS + 2];
    unsigned slot = slot_find(blk);
    unsigned count = 0;

    if (slot == SLOTS)
        return false;
    pieces[count++] = (struct vring_piece){
        qr_pa_of(blk->memory_pa.v + offsetof(struct slot_memory, headers[slot])),
        sizeof(struct header), false};
    for (unsigned i = 0; i < request->segment_count; i++)
        pieces[count++] = (struct vring_piece){request->segments[i].pa, request->segments[i].bytes,
                                               request->op == BLOCK_READ};
    pieces[count++] = (struct vring_piece){
        qr_pa_of(blk->memory_pa.v + offsetof(struct slot_memory, statuses[slot])), 1, true};
    blk->memory->headers[slot] = (struct header){
        .type = type_of[request->op],
        .sector = request->op == BLOCK_FLUSH ? 0 : request->sector,
    };
    blk->memory->statuses[slot] = STATUS_NONE;
    if (!vring_add(&blk->ring, pieces, count, &blk->slots[slot]))
        return false;
    blk->slots[slot].request = request;
    request->deadline = clock_monotonic_ns() + DEADLINE_NS;
    return true;
}

/** Start what waits, as far as there is room.  B. */
static void
start_waiting(struct virtio_blk *blk)
{
    bool started = false;

    while (!blk->dead && !qr_list_is_empty(&blk->waiting)) {
        struct block_request *request =
            qr_list_entry(blk->waiting.next, struct block_request, link);

        if (!request_start(blk, request))
            break;
        qr_list_remove(&request->link);
        started = true;
    }
    if (started)
        blk->device.transport->notify(&blk->device);
}

static void
blk_submit(struct disk *disk, struct block_request *request)
{
    struct virtio_blk *blk = blk_of(disk);
    bool dead, needless;

    qr_spin_lock(&blk->lock);
    dead = blk->dead;
    needless = request->op == BLOCK_FLUSH && !blk->has_flush; /* it writes through */
    if (!dead && !needless) {
        qr_list_push_back(&blk->waiting, &request->link);
        start_waiting(blk);
    }
    qr_spin_unlock(&blk->lock);
    if (dead || needless)
        disk_complete(disk, request, dead ? -EIO : 0);
}

static const struct disk_ops blk_ops = {.submit = blk_submit};

/* ---- Answers ---------------------------------------------------------------------------- */

/**
 * Whether the device did what it says.  @p written counts what it wrote: all that was read, and
 * the status; devices that count more or less generously on errors are believed about errors.
 */
static int64_t
answer_check(const struct virtio_blk *blk, unsigned slot, uint32_t written)
{
    const struct block_request *request = blk->slots[slot].request;
    uint8_t status = *(volatile uint8_t *)&blk->memory->statuses[slot];

    if (status != STATUS_OK)
        return -EIO;
    if (request->op == BLOCK_READ && written < block_request_bytes(request) + 1)
        return -EIO;
    return 0;
}

/** Take one request back.  B.  @return NULL: no more, or the device is mad (@p out_broken) */
static struct block_request *
answer_take(struct virtio_blk *blk, int64_t *out_status, bool *out_broken)
{
    void *cookie;
    uint32_t written;
    enum vring_answer answer = vring_take(&blk->ring, &cookie, &written);

    *out_broken = answer == VRING_BROKEN;
    if (answer != VRING_TAKEN)
        return NULL;
    struct slot *slot = cookie;
    struct block_request *request = slot->request;

    *out_status = answer_check(blk, (unsigned)(slot - blk->slots), written);
    slot->request = NULL;
    return request;
}

/** End the use of a device: every request that it has or that waits fails. */
static void
blk_kill(struct virtio_blk *blk, const char *why)
{
    struct qr_list failed;
    struct slot *slot;

    qr_list_init(&failed);
    qr_spin_lock(&blk->lock);
    if (!blk->dead) {
        printk("%s: %s; it is not used any more\n", blk->disk.name, why);
        blk->dead = true;
        blk->device.transport->set_status(&blk->device, 0);
        for (int i = 0; i < RESET_ROUNDS && blk->device.transport->status(&blk->device) != 0; i++)
            cpu_relax();
        while ((slot = vring_abandon(&blk->ring)) != NULL) {
            qr_list_push_back(&failed, &slot->request->link);
            slot->request = NULL;
        }
        while (!qr_list_is_empty(&blk->waiting)) {
            struct qr_list *link = blk->waiting.next;

            qr_list_remove(link);
            qr_list_push_back(&failed, link);
        }
    }
    qr_spin_unlock(&blk->lock);
    while (!qr_list_is_empty(&failed)) {
        struct block_request *request = qr_list_entry(failed.next, struct block_request, link);

        qr_list_remove(&request->link);
        disk_complete(&blk->disk, request, -EIO);
    }
}

/** Finish whatever the device is done with. */
static void
blk_harvest(struct virtio_blk *blk)
{
    bool broken = false;

    for (;;) {
        struct block_request *request = NULL;
        int64_t status = -EIO;

        qr_spin_lock(&blk->lock);
        if (!blk->dead)
            request = answer_take(blk, &status, &broken);
        if (request != NULL)
            start_waiting(blk);
        qr_spin_unlock(&blk->lock);
        if (request == NULL)
            break;
        disk_complete(&blk->disk, request, status);
    }
    if (broken)
        blk_kill(blk, "it answered what it was not asked");
}

static void
blk_interrupt(void *context)
{
    struct virtio_blk *blk = context;

    blk->device.transport->acknowledge(&blk->device);
    blk_harvest(blk);
}

/* ---- Watching -------------------------------------------------------------------------- */

static bool
has_overdue(struct virtio_blk *blk, uint64_t now)
{
    bool overdue = false;

    qr_spin_lock(&blk->lock);
    for (unsigned i = 0; i < SLOTS; i++)
        overdue |= blk->slots[i].request != NULL && blk->slots[i].request->deadline < now;
    qr_spin_unlock(&blk->lock);
    return overdue;
}

static void
watch_main(void *argument)
{
    (void)argument;
    for (;;) {
        sched_sleep_until(clock_monotonic_ns() + WATCH_NS);
        for (unsigned i = 0; i < DISKS_MAX && devices[i] != NULL; i++) {
            blk_harvest(devices[i]);
            if (has_overdue(devices[i], clock_monotonic_ns()))
                blk_kill(devices[i], "it does not answer");
        }
    }
}

void
disks_start(void)
{
    if (devices[0] != NULL && kernel_thread_start("kdiskd", watch_main, NULL) == NULL)
        panic("no memory for the thread that watches disks");
}

/* ---- Finding ------------------------------------------------------------------------------ */

static bool
device_negotiate(struct virtio_blk *blk)
{
    const struct virtio_transport *transport = blk->device.transport;
    struct virtio_device *device = &blk->device;
    uint64_t wanted = VIRTIO_F_VERSION_1 | FEATURE_SEG_MAX | FEATURE_RO | FEATURE_FLUSH;

    transport->set_status(device, 0);
    for (int i = 0; i < RESET_ROUNDS && transport->status(device) != 0; i++)
        cpu_relax();
    transport->set_status(device, VIRTIO_ACKNOWLEDGE);
    transport->set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    wanted &= transport->features(device);
    if (!(wanted & VIRTIO_F_VERSION_1))
        return false;
    transport->accept(device, wanted);
    transport->set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    if (!(transport->status(device) & VIRTIO_FEATURES_OK))
        return false;
    blk->has_flush = (wanted & FEATURE_FLUSH) != 0;
    blk->disk.read_only = (wanted & FEATURE_RO) != 0;
    blk->disk.segments_max = BLOCK_SEGMENTS;
    if (wanted & FEATURE_SEG_MAX) {
        uint64_t segments = virtio_config(device, CONFIG_SEG_MAX, 4);

        if (segments < blk->disk.segments_max)
            blk->disk.segments_max = (unsigned)segments;
    }
    blk->disk.sectors = virtio_config(device, CONFIG_CAPACITY, 8);
    return blk->disk.segments_max > 0 && blk->disk.sectors <= (uint64_t)INT64_MAX / SECTOR_BYTES;
}

static unsigned
order_of(size_t bytes)
{
    unsigned order = 0;

    while (((size_t)QR_PAGE_SIZE << order) < bytes)
        order++;
    return order;
}

/** Memory for ring and slots, and the ring shown to the device. */
static bool
queue_make(struct virtio_blk *blk)
{
    unsigned size = blk->device.transport->queue_size_max(&blk->device);
    struct vring_place place;

    if (size > VRING_SIZE_MAX)
        size = VRING_SIZE_MAX;
    while ((size & (size - 1)) != 0)
        size &= size - 1;
    if (size < 4)
        return false;
    if (blk->disk.segments_max > size - 2)
        blk->disk.segments_max = size - 2;
    unsigned order = order_of(vring_bytes(size) + sizeof(struct slot_memory));
    struct qr_frame *frame = qr_frame_alloc_block(memory.frames, order, QR_ALLOC_ZERO);

    if (frame == NULL)
        return false;
    qr_pa pa = qr_frame_pa(memory.frames, frame);

    vring_init(&blk->ring, direct_map(pa.v), size);
    blk->memory = (void *)((char *)direct_map(pa.v) + vring_bytes(size));
    blk->memory_pa = qr_pa_of(pa.v + vring_bytes(size));
    vring_place_of(&blk->ring, pa, &place);
    /* A device that fails here may have seen the place: the memory stays its own. */
    return blk->device.transport->queue_start(&blk->device, &place);
}

static bool
blk_set_up(struct virtio_blk *blk)
{
    struct virtio_device *device = &blk->device;

    if (!device_negotiate(blk) || !queue_make(blk) || !disk_add(&blk->disk)) {
        device->transport->set_status(device, VIRTIO_FAILED);
        printk("virtio: a disk by %s that this kernel cannot use\n", device->transport->name);
        return false;
    }
    device->transport->set_status(device, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK |
                                              VIRTIO_DRIVER_OK);
    printk("%s: virtio by %s, %llu KiB%s\n", blk->disk.name, device->transport->name,
           (unsigned long long)blk->disk.sectors / 2, blk->disk.read_only ? ", read only" : "");
    return true;
}

bool
virtio_blk_add(struct virtio_device *device)
{
    unsigned index = 0;

    while (index < DISKS_MAX && devices[index] != NULL)
        index++;
    struct virtio_blk *blk = index < DISKS_MAX ? kmem_zalloc(sizeof *blk) : NULL;

    if (blk == NULL)
        return false;
    blk->device = *device;
    blk->disk.ops = &blk_ops;
    qr_spin_init(&blk->lock, QR_RANK_NONE);
    qr_list_init(&blk->waiting);
    if (!interrupt_attach(device->interrupt, blk_interrupt, blk)) {
        kmem_free(blk);
        return false;
    }
    /* A device that was shown to interrupt_attach() stays; one that failed is dead. */
    if (!blk_set_up(blk)) {
        blk->dead = true;
        return true;
    }
    devices[index] = blk;
    return true;
}
