/* SPDX-License-Identifier: MIT */
/*
 * swapon(2) and swapoff(2): disks with the header that mkswap writes.
 *
 *   page 0   1024 bytes for a boot loader | version, last page, bad pages | ... | "SWAPSPACE2"
 *   page 1.. what is swapped out: the page of slot i is at byte i * page size
 *
 * A request stands on its maker's stack: swapping out must not need memory.  While a disk is swapped to it counts as
 * held, so nothing is mounted from it.  What the page cache has of it is written before the header is read.
 *
 * Nothing that the header says is believed beyond the disk's own size.
 */
#include <swap.h>

#include <quire/reclaim.h>

#include "abi_errno.h"
#include "block.h"
#include "memory.h"
#include "mm.h"
#include "proc.h"
#include "signal.h"
#include "syscall.h"
#include "../fs/disk_file.h"
#include "../fs/fs.h"

enum {
    SWAP_FLAG_PREFER = 0x8000,
    SWAP_FLAG_PRIORITY = 0x7fff,
    SWAP_FLAG_DISCARD = 0x10000, /* and the next two: disks here know no discard */
    SWAP_FLAG_DISCARD_ONCE = 0x20000,
    SWAP_FLAG_DISCARD_PAGES = 0x40000,
    SWAP_FLAGS = SWAP_FLAG_PREFER | SWAP_FLAG_PRIORITY | SWAP_FLAG_DISCARD |
                 SWAP_FLAG_DISCARD_ONCE | SWAP_FLAG_DISCARD_PAGES,
    CAP_SYS_ADMIN = 21,
    MAGIC_BYTES = 10,
    HEADER_OFFSET = 1024,
};

struct swap_header {
    uint32_t version, last_page, bad_count;
    uint8_t uuid[16], label[16];
    uint32_t padding[117];
    uint32_t bad[];
};
_Static_assert(offsetof(struct swap_header, bad) == 512, "mkswap");

#define BAD_MAX \
    ((QR_PAGE_SIZE - MAGIC_BYTES - HEADER_OFFSET - offsetof(struct swap_header, bad)) / 4)

/* L: areas that disks have. */
static struct qr_mutex swap_lock;
static struct disk *swap_disks[QR_SWAP_AREAS];
static int least_priority;

/* ---- Transfers ------------------------------------------------------------------------- */

static enum qr_status
transfer(struct disk *disk, enum block_op op, size_t page, struct qr_frame *const *frames,
         size_t count)
{
    struct block_request request;
    int64_t error = 0;

    for (size_t i = 0; i < count && error == 0;) {
        request = (struct block_request){
            .op = op, .sector = (uint64_t)(page + i) << (QR_PAGE_SHIFT - SECTOR_SHIFT)};
        for (; i < count && request.segment_count < disk->segments_max; i++)
            request.segments[request.segment_count++] =
                (struct block_segment){qr_frame_pa(memory.frames, frames[i]), QR_PAGE_SIZE};
        error = disk_run(disk, &request);
    }
    return error == 0 ? QR_OK : QR_ERR_IO;
}

static enum qr_status
swap_read(void *context, size_t page, struct qr_frame *const *frames, size_t count)
{
    return transfer(context, BLOCK_READ, page, frames, count);
}

static enum qr_status
swap_write(void *context, size_t page, struct qr_frame *const *frames, size_t count)
{
    return transfer(context, BLOCK_WRITE, page, frames, count);
}

static const struct qr_swap_ops swap_ops = {.read = swap_read, .write = swap_write};

/* ---- The header -------------------------------------------------------------------------- */

/* @window: page 0.  Fills @out; its bad pages go to @bad, which has room for BAD_MAX. */
static bool
header_parse(const struct disk *disk, const char *window, struct qr_swap_area_config *out,
             size_t *bad)
{
    const struct swap_header *header = (const struct swap_header *)(window + HEADER_OFFSET);
    uint64_t disk_pages = disk_bytes(disk) >> QR_PAGE_SHIFT;

    if (memcmp(window + QR_PAGE_SIZE - MAGIC_BYTES, "SWAPSPACE2", MAGIC_BYTES) != 0 ||
        header->version != 1 || header->last_page == 0 || header->last_page >= disk_pages ||
        header->bad_count > BAD_MAX)
        return false;
    for (uint32_t i = 0; i < header->bad_count; i++) {
        bad[i] = header->bad[i];
        if (bad[i] == 0 || bad[i] > header->last_page)
            return false;
    }
    out->pages = (size_t)header->last_page + 1;
    out->bad = bad;
    out->bad_count = header->bad_count;
    return true;
}

/* As swap_begin(), with what the header needs. */
static int64_t
header_use(struct disk *disk, int priority, struct qr_frame *frame, size_t *bad, unsigned *out_area)
{
    struct qr_swap_area_config config = {.priority = priority, .ops = &swap_ops, .context = disk};

    if (disk_bytes(disk) < 2 * QR_PAGE_SIZE)
        return -EINVAL;
    if (transfer(disk, BLOCK_READ, 0, &frame, 1) != QR_OK)
        return -EIO;
    const char *window = qr_port_window_open(qr_frame_pa(memory.frames, frame));
    bool valid = header_parse(disk, window, &config, bad);

    qr_port_window_close((void *)window);
    if (!valid)
        return -EINVAL;
    switch (qr_swap_add(memory.swap, &config, out_area)) {
    case QR_OK:
        return 0;
    case QR_ERR_NO_MEMORY:
        return -ENOMEM;
    case QR_ERR_LIMIT:
        return -EPERM;
    default:
        return -EINVAL;
    }
}

/* Swap to @disk, which is held.  L. */
static int64_t
swap_begin(struct disk *disk, int priority)
{
    int64_t error = disk_object_sync(disk, disk->object, 0, SIZE_MAX);
    struct qr_frame *frame = qr_frame_alloc(memory.frames, 0);
    size_t *bad = kmem_alloc(BAD_MAX * sizeof *bad);
    unsigned area = 0;

    qr_object_drop_clean(disk->object);
    if (frame == NULL || bad == NULL)
        error = -ENOMEM;
    if (error == 0)
        error = header_use(disk, priority, frame, bad, &area);
    if (frame != NULL)
        qr_frame_put(memory.frames, frame);
    kmem_free(bad);
    if (error == 0)
        swap_disks[area] = disk;
    return error;
}

/* ---- The calls ---------------------------------------------------------------------------- */

/* The disk that @user_path names.  @return 0 or an error; -EINVAL: it names something else */
static int64_t
disk_lookup(uint64_t user_path, struct disk **out)
{
    struct dentry *at = NULL;
    int64_t error = path_lookup_user(AT_FDCWD, user_path, 0, &at);

    if (error != 0)
        return error;
    *out = (at->inode->mode & S_IFMT) == S_IFBLK ? disk_of_number(at->inode->rdev) : NULL;
    dentry_put(at);
    return *out == NULL ? -EINVAL : 0;
}

int64_t
sys_swapon(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[1];
    struct disk *disk;
    int64_t error;

    if (flags & ~(uint32_t)SWAP_FLAGS)
        return -EINVAL;
    if (!process_has_capability(CAP_SYS_ADMIN))
        return -EPERM;
    error = disk_lookup(args->arg[0], &disk);
    if (error != 0)
        return error;
    if (disk->read_only)
        return -EROFS;
    if (atomic_exchange(&disk->holders, 1) != 0)
        return -EBUSY;
    qr_mutex_lock(&swap_lock);
    int priority =
        flags & SWAP_FLAG_PREFER ? (int)(flags & SWAP_FLAG_PRIORITY) : -2 - least_priority;

    error = swap_begin(disk, priority);
    least_priority += error == 0 && !(flags & SWAP_FLAG_PREFER);
    qr_mutex_unlock(&swap_lock);
    if (error != 0)
        atomic_store(&disk->holders, 0);
    return error;
}

int64_t
sys_swapoff(const struct syscall_args *args)
{
    enum qr_status status = QR_ERR_INVALID;
    struct disk *disk;

    if (!process_has_capability(CAP_SYS_ADMIN))
        return -EPERM;
    int64_t error = disk_lookup(args->arg[0], &disk);

    if (error != 0)
        return error;
    qr_mutex_lock(&swap_lock);
    for (unsigned area = 0; area < QR_SWAP_AREAS; area++) {
        if (swap_disks[area] != disk)
            continue;
        status = qr_swap_off(memory.vm, area, signal_is_fatal_pending);
        if (status == QR_OK) {
            swap_disks[area] = NULL;
            atomic_store(&disk->holders, 0);
        }
        break;
    }
    qr_mutex_unlock(&swap_lock);
    return status == QR_ERR_INTERRUPTED ? -EINTR : errno_of(status);
}

/* ---- /proc/swaps --------------------------------------------------------------------------- */

void
swaps_write(struct qr_writer *writer)
{
    const unsigned kilobytes = QR_PAGE_SIZE >> 10;

    qr_mutex_lock(&swap_lock);
    for (unsigned area = 0; area < QR_SWAP_AREAS; area++) {
        struct qr_swap_area_stats stats;
        char name[24];

        if (swap_disks[area] == NULL)
            continue;
        qr_swap_area_stats(memory.swap, area, &stats);
        snprintf(name, sizeof name, "/dev/%s", swap_disks[area]->name);
        size_t size = stats.pages * kilobytes, used = stats.used * kilobytes;

        qr_writer_printf(writer, "%-40spartition\t%zu\t%s%zu\t%s%d\n", name, size,
                         size < 10000000 ? "\t" : "", used, used < 10000000 ? "\t" : "",
                         stats.priority);
    }
    qr_mutex_unlock(&swap_lock);
}
