/* SPDX-License-Identifier: MIT */
/*
 * swapon(2) and swapoff(2): disks and files with the header that mkswap writes.
 *
 *   page 0   1024 bytes for a boot loader | version, last page, bad pages | ... | "SWAPSPACE2"
 *   page 1.. what is swapped out
 *
 * What is swapped to is open for writing, so its file system cannot be unmounted.  A disk counts as held, so nothing is
 * mounted from it.  Of a file no block is to move: while its inode is marked, it is neither written nor
 * cut nor removed (ETXTBSY, EPERM), as on Linux.  The mark comes first, then whoever is writing is waited for, then what
 * the page cache has is written, and only then it is looked up where the pages lie (swap_area.c).
 *
 * Nothing that the header says is believed beyond the size of what it is on.
 */
#include <swap.h>

#include <quire/reclaim.h>

#include "abi_errno.h"
#include "block.h"
#include "memory.h"
#include "mm.h"
#include "proc.h"
#include "signal.h"
#include "swap_area.h"
#include "syscall.h"

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

/* L: what each area is kept in. */
static struct qr_mutex swap_lock;
static struct swap_area *areas[QR_SWAP_AREAS];
static int least_priority;

/* ---- The header -------------------------------------------------------------------------- */

/* @bytes: page 0.  Fills @out; its bad pages go to @bad, which has room for BAD_MAX. */
static bool
header_parse(const struct file *file, const char *bytes, struct qr_swap_area_config *out,
             size_t *bad)
{
    const struct swap_header *header = (const struct swap_header *)(bytes + HEADER_OFFSET);

    if (memcmp(bytes + QR_PAGE_SIZE - MAGIC_BYTES, "SWAPSPACE2", MAGIC_BYTES) != 0 ||
        header->version != 1 || header->last_page == 0 || header->last_page >= out->pages ||
        header->bad_count > BAD_MAX || (header->bad_count != 0 && file_is_regular(file)))
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

static int64_t
header_read(struct file *file, char *bytes, struct qr_swap_area_config *out, size_t *bad)
{
    int64_t got = file_read_at(file, bytes, QR_PAGE_SIZE, 0);

    if (got < 0)
        return got;
    return got == QR_PAGE_SIZE && header_parse(file, bytes, out, bad) ? 0 : -EINVAL;
}

/* ---- What is swapped to ------------------------------------------------------------------- */

static bool
is_disk(const struct file *file)
{
    return S_ISTYPE(file->inode->mode, S_IFBLK);
}

/* Let nobody change the contents of a file, or its name, but us. */
static int64_t
inode_claim(struct file *file)
{
    struct inode *inode = file->inode;
    int64_t error = 0;

    tree_lock_read();
    if (!file->dentry->linked)
        error = -ENOENT;
    else if (!file_is_regular(file) || file->ops->place == NULL)
        error = -EINVAL;
    else if (atomic_exchange(&inode->swapped_to, true))
        error = -EBUSY;
    tree_unlock_read();
    if (error == 0) {
        qr_mutex_lock(&inode->lock); /* who saw it unmarked is done */
        qr_mutex_unlock(&inode->lock);
    }
    return error;
}

static int64_t
file_claim(struct file *file)
{
    struct direct_target target;

    if (!is_disk(file))
        return inode_claim(file);
    file->ops->place(file, &target);
    return atomic_exchange(&target.disk->holders, 1) != 0 ? -EBUSY : 0;
}

/* What was read of it meanwhile is not what swap leaves there. */
static void
pages_forget(struct file *file)
{
    struct qr_object *object = file_cached_object(file);

    if (object != NULL) {
        (void)qr_object_drop_clean(object);
        qr_object_put(object);
    }
}

static void
file_release(struct file *file)
{
    struct direct_target target;

    pages_forget(file);
    file->ops->place(file, &target);
    if (is_disk(file))
        atomic_store(&target.disk->holders, 0);
    else
        atomic_store(&file->inode->swapped_to, false);
}

/* Do both name one thing? */
static bool
is_same(const struct file *one, const struct file *other)
{
    return one->inode == other->inode ||
           (is_disk(one) && is_disk(other) && one->context == other->context);
}

/* ---- Beginning ------------------------------------------------------------------------------ */

static int64_t
area_add(struct file *file, struct qr_swap_area_config *config)
{
    struct swap_area *area;
    int64_t error = swap_area_create(file, config->pages, &area);
    unsigned number;

    if (error != 0)
        return error;
    config->pages = area->pages;
    config->ops = &swap_area_ops;
    config->context = area;
    switch (qr_swap_add(memory.swap, config, &number)) {
    case QR_OK:
        areas[number] = area;
        return 0;
    case QR_ERR_NO_MEMORY:
        error = -ENOMEM;
        break;
    case QR_ERR_LIMIT:
        error = -EPERM;
        break;
    default:
        error = -EINVAL;
    }
    swap_area_destroy(area);
    return error;
}

static uint64_t
bytes_of(struct file *file)
{
    struct direct_target target;

    file->ops->place(file, &target);
    return is_disk(file) ? disk_bytes(target.disk) : file_size(file);
}

/* Swap to @file, which is claimed; its reference becomes the area's.  L. */
static int64_t
swap_begin(struct file *file, int priority)
{
    uint64_t pages = bytes_of(file) >> QR_PAGE_SHIFT;
    struct qr_swap_area_config config = {.priority = priority,
                                         .pages = pages < SIZE_MAX ? (size_t)pages : SIZE_MAX};
    char *header = kvmem_zalloc(QR_PAGE_SIZE);
    size_t *bad = kmem_alloc(BAD_MAX * sizeof *bad);
    int64_t error = header == NULL || bad == NULL ? -ENOMEM : 0;

    if (error == 0)
        error = file_sync(file, 0, UINT64_MAX, FILE_SYNC_ALL);
    if (error == 0)
        error = header_read(file, header, &config, bad);
    pages_forget(file);
    if (error == 0)
        error = area_add(file, &config);
    kvmem_free(header);
    kmem_free(bad);
    return error;
}

/* ---- The calls ---------------------------------------------------------------------------- */

static int64_t
file_open_user(uint64_t user_path, struct file **out)
{
    char *path;
    int64_t error = path_from_user(user_path, &path);

    if (error != 0)
        return error;
    error = vfs_open_path(path, O_RDWR | O_LARGEFILE, 0, out);
    path_free(path);
    return error;
}

static int64_t
swap_on(struct file *file, uint32_t flags)
{
    int64_t error = file_claim(file);

    if (error != 0)
        return error;
    qr_mutex_lock(&swap_lock);
    int priority =
        flags & SWAP_FLAG_PREFER ? (int)(flags & SWAP_FLAG_PRIORITY) : -2 - least_priority;

    error = swap_begin(file, priority);
    least_priority += error == 0 && !(flags & SWAP_FLAG_PREFER);
    qr_mutex_unlock(&swap_lock);
    if (error != 0)
        file_release(file);
    return error;
}

int64_t
sys_swapon(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[1];
    struct file *file;
    int64_t error;

    if (flags & ~(uint32_t)SWAP_FLAGS)
        return -EINVAL;
    if (!process_has_capability(CAP_SYS_ADMIN))
        return -EPERM;
    error = file_open_user(args->arg[0], &file);
    if (error != 0)
        return error;
    error = swap_on(file, flags);
    if (error != 0)
        file_put(file);
    return error;
}

/* L. @return whose file is to be put */
static enum qr_status
swap_end(unsigned number, bool (*stop)(void), struct file **out)
{
    struct swap_area *area = areas[number];
    enum qr_status status = qr_swap_off(memory.vm, number, stop);

    if (status != QR_OK)
        return status;
    areas[number] = NULL;
    *out = area->file;
    swap_area_destroy(area);
    file_release(*out);
    return QR_OK;
}

static enum qr_status
swap_off(const struct file *file, struct file **out)
{
    enum qr_status status = QR_ERR_INVALID;

    qr_mutex_lock(&swap_lock);
    for (unsigned number = 0; number < QR_SWAP_AREAS; number++) {
        if (areas[number] != NULL && is_same(areas[number]->file, file)) {
            status = swap_end(number, signal_is_fatal_pending, out);
            break;
        }
    }
    qr_mutex_unlock(&swap_lock);
    return status;
}

int64_t
sys_swapoff(const struct syscall_args *args)
{
    struct file *file, *swapped;

    if (!process_has_capability(CAP_SYS_ADMIN))
        return -EPERM;
    int64_t error = file_open_user(args->arg[0], &file);

    if (error != 0)
        return error;
    enum qr_status status = swap_off(file, &swapped);

    file_put(file);
    if (status == QR_OK)
        file_put(swapped);
    return status == QR_ERR_INTERRUPTED ? -EINTR : errno_of(status);
}

void
swaps_end(void)
{
    for (unsigned number = 0; number < QR_SWAP_AREAS; number++) {
        struct file *file = NULL;

        qr_mutex_lock(&swap_lock);
        if (areas[number] != NULL && swap_end(number, NULL, &file) != QR_OK)
            printk("swap: what area %u has does not fit into memory\n", number);
        qr_mutex_unlock(&swap_lock);
        if (file != NULL)
            file_put(file);
    }
}

/* ---- /proc/swaps --------------------------------------------------------------------------- */

static void
row_write(struct qr_writer *writer, const char *path, const struct swap_area *area,
          const struct qr_swap_area_stats *stats)
{
    const unsigned kilobytes = QR_PAGE_SIZE >> 10;
    size_t size = stats->pages * kilobytes, used = stats->used * kilobytes;
    size_t length = octal_write(writer, path);

    qr_writer_printf(writer, "%*s%s\t%zu\t%s%zu\t%s%d\n", length < 40 ? (int)(40 - length) : 1, "",
                     is_disk(area->file) ? "partition" : "file\t", size,
                     size < 10000000 ? "\t" : "", used, used < 10000000 ? "\t" : "",
                     stats->priority);
}

void
swaps_write(struct qr_writer *writer)
{
    char *buffer = kmem_alloc(PATH_MAX);

    qr_mutex_lock(&swap_lock);
    for (unsigned number = 0; number < QR_SWAP_AREAS && buffer != NULL; number++) {
        struct qr_swap_area_stats stats;

        if (areas[number] == NULL)
            continue;
        qr_swap_area_stats(memory.swap, number, &stats);
        row_write(writer, file_path(areas[number]->file, buffer, PATH_MAX), areas[number], &stats);
    }
    qr_mutex_unlock(&swap_lock);
    kmem_free(buffer);
}
