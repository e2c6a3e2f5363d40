/* SPDX-License-Identifier: MIT */
/*
 * Disks to swap to: memory of the host, with points where others run, and failures that the seed picks.
 */
#include "boot.h"

#include <string.h>

#include "space/vm.h"

struct sim_disk {
    struct sim_disk *next;
    struct sim *sim;
    unsigned area;
    size_t pages;
    int priority;
    unsigned char *bytes;
    unsigned fail_reads, fail_writes; /* one in so many; 0: none */
    atomic_ullong random;
    atomic_ullong reads, writes, pages_read, pages_written, failed;
};

static bool
disk_fails(struct sim_disk *disk, unsigned one_in)
{
    uint64_t state = atomic_fetch_add(&disk->random, 0x9e3779b97f4a7c15ull);

    if (one_in == 0 || random_next(&state) % one_in != 0)
        return false;
    atomic_fetch_add(&disk->failed, 1);
    return true;
}

/* Byte by byte, since a host may run in between. */
static enum qr_status
disk_read(void *context, size_t page, struct qr_frame *const *frames, size_t count)
{
    struct sim_disk *disk = context;
    enum qr_status status = QR_OK;

    atomic_fetch_add(&disk->reads, 1);
    for (size_t i = 0; i < count; i++) {
        sim_preempt();
        if (page + i >= disk->pages)
            sim_fail("page %zu is read, beyond the disk's %zu", page + i, disk->pages);
        if (disk_fails(disk, disk->fail_reads))
            status = QR_ERR_IO;
        else
            memcpy(sim_ram(disk->sim, qr_frame_pa(disk->sim->frames, frames[i])),
                   disk->bytes + ((page + i) << QR_PAGE_SHIFT), QR_PAGE_SIZE);
        sim_preempt();
    }
    atomic_fetch_add(&disk->pages_read, count);
    return status;
}

/* Half a page at a time: whoever writes the frame meanwhile, or reads the slot, is found out. */
static enum qr_status
disk_write(void *context, size_t page, struct qr_frame *const *frames, size_t count)
{
    struct sim_disk *disk = context;
    enum qr_status status = QR_OK;

    atomic_fetch_add(&disk->writes, 1);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *from = sim_ram(disk->sim, qr_frame_pa(disk->sim->frames, frames[i]));
        unsigned char *to = disk->bytes + ((page + i) << QR_PAGE_SHIFT);

        if (page + i == 0 || page + i >= disk->pages)
            sim_fail("page %zu of a disk of %zu is written", page + i, disk->pages);
        sim_preempt();
        if (disk_fails(disk, disk->fail_writes)) {
            memset(to, 0xdb, QR_PAGE_SIZE);
            status = QR_ERR_IO;
            continue;
        }
        memcpy(to, from, QR_PAGE_SIZE / 2);
        sim_preempt();
        memcpy(to + QR_PAGE_SIZE / 2, from + QR_PAGE_SIZE / 2, QR_PAGE_SIZE / 2);
    }
    atomic_fetch_add(&disk->pages_written, count);
    return status;
}

void
sim_swap_again(struct sim_disk *disk)
{
    static const struct qr_swap_ops ops = {.read = disk_read, .write = disk_write};
    const struct qr_swap_area_config config = {
        .pages = disk->pages, .priority = disk->priority, .ops = &ops, .context = disk};
    enum qr_status status = qr_swap_add(disk->sim->swap, &config, &disk->area);

    if (status != QR_OK)
        sim_fail("no swap area: %s", qr_status_name(status));
}

struct sim_disk *
sim_swap_on(struct sim *sim, size_t pages, int priority)
{
    struct sim_disk *disk = sim_host_alloc(sizeof(*disk));

    disk->sim = sim;
    disk->pages = pages;
    disk->priority = priority;
    disk->bytes = sim_host_alloc(pages << QR_PAGE_SHIFT);
    memset(disk->bytes, 0xdd, pages << QR_PAGE_SHIFT); /* nobody is to read what nobody wrote */
    atomic_init(&disk->random, sim_random(sim));
    disk->next = sim->disks;
    sim->disks = disk;
    sim_swap_again(disk);
    return disk;
}

void
sim_swap_stop(struct sim *sim)
{
    for (unsigned i = 0; i < QR_SWAP_AREAS; i++) {
        struct qr_swap_area_stats stats;

        qr_swap_area_stats(sim->swap, i, &stats);
        if (!stats.in_use)
            continue;
        qr_swap_set_closed(sim->swap, i, true);
        if (qr_swap_remove(sim->swap, i) != QR_OK)
            sim_fail("%zu pages of swap area %u leaked", stats.used, i);
    }
    while (sim->disks != NULL) {
        struct sim_disk *disk = sim->disks;

        sim->disks = disk->next;
        sim_host_free(disk->bytes);
        sim_host_free(disk);
    }
    sim_host_free(sim->swap);
    sim->swap = NULL;
}

unsigned
sim_disk_area(const struct sim_disk *disk)
{
    return disk->area;
}

void
sim_disk_set_failing(struct sim_disk *disk, unsigned reads_one_in, unsigned writes_one_in)
{
    disk->fail_reads = reads_one_in;
    disk->fail_writes = writes_one_in;
}

struct sim_disk_stats
sim_disk_stats(const struct sim_disk *disk)
{
    return (struct sim_disk_stats){
        .reads = atomic_load(&disk->reads),
        .writes = atomic_load(&disk->writes),
        .pages_read = atomic_load(&disk->pages_read),
        .pages_written = atomic_load(&disk->pages_written),
        .failed = atomic_load(&disk->failed),
    };
}

struct qr_swap *
sim_swap(struct sim *sim)
{
    return sim->swap;
}
