/* SPDX-License-Identifier: MIT */
/*
 * What /proc and /sys say about disks.
 */

#include "disk_nodes.h"

#include "block.h"

/* A row of /proc/diskstats from its fourth column on; times are not taken. */
static void
stat_write(struct qr_writer *writer, struct disk *disk)
{
    qr_writer_printf(writer, "%llu 0 %llu 0 %llu 0 %llu 0 %u 0 0 0 0 0 0 %llu 0\n",
                     (unsigned long long)atomic_load(&disk->requests[BLOCK_READ]),
                     (unsigned long long)atomic_load(&disk->sectors_moved[BLOCK_READ]),
                     (unsigned long long)atomic_load(&disk->requests[BLOCK_WRITE]),
                     (unsigned long long)atomic_load(&disk->sectors_moved[BLOCK_WRITE]),
                     atomic_load(&disk->in_flight),
                     (unsigned long long)atomic_load(&disk->requests[BLOCK_FLUSH]));
}

void
show_partitions(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "major minor  #blocks  name\n\n");
    for (size_t i = 0; disk_at(i) != NULL; i++) {
        struct disk *disk = disk_at(i);

        qr_writer_printf(writer, "%4u  %7u %10llu %s\n", DEV_MAJOR(disk->rdev),
                         DEV_MINOR(disk->rdev), (unsigned long long)disk->sectors / 2, disk->name);
    }
}

void
show_diskstats(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    for (size_t i = 0; disk_at(i) != NULL; i++) {
        struct disk *disk = disk_at(i);

        qr_writer_printf(writer, "%4u %7u %s ", DEV_MAJOR(disk->rdev), DEV_MINOR(disk->rdev),
                         disk->name);
        stat_write(writer, disk);
    }
}

/* ---- /sys/block/vda ------------------------------------------------------------------------ */

static struct disk *
disk_of_target(const struct text_target *target)
{
    return disk_at((size_t)target->inode->key_more);
}

static void
show_size(const struct text_target *target, struct qr_writer *writer)
{
    qr_writer_printf(writer, "%llu\n", (unsigned long long)disk_of_target(target)->sectors);
}

static void
show_read_only(const struct text_target *target, struct qr_writer *writer)
{
    qr_writer_printf(writer, "%u\n", disk_of_target(target)->read_only);
}

static void
show_number(const struct text_target *target, struct qr_writer *writer)
{
    uint32_t rdev = disk_of_target(target)->rdev;

    qr_writer_printf(writer, "%u:%u\n", DEV_MAJOR(rdev), DEV_MINOR(rdev));
}

static void
show_stat(const struct text_target *target, struct qr_writer *writer)
{
    stat_write(writer, disk_of_target(target));
}

static void
show_sector_bytes(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%u\n", SECTOR_BYTES);
}

static const struct text_node disk_nodes[] = {
    {.name = "size", .mode = 0444, .show = show_size},
    {.name = "ro", .mode = 0444, .show = show_read_only},
    {.name = "dev", .mode = 0444, .show = show_number},
    {.name = "stat", .mode = 0444, .show = show_stat},
};

static const struct text_node queue_nodes[] = {
    {.name = "logical_block_size", .mode = 0444, .show = show_sector_bytes},
};

bool
disk_nodes_add(struct dentry *block)
{
    for (size_t i = 0; disk_at(i) != NULL; i++) {
        struct dentry *directory = text_directory_add(block, disk_at(i)->name);
        struct dentry *queue = directory == NULL ? NULL : text_directory_add(directory, "queue");
        bool done = queue != NULL && text_nodes_add(queue, queue_nodes, 1);

        for (size_t k = 0; done && k < QR_ARRAY_COUNT(disk_nodes); k++) {
            done = text_node_add(directory, disk_nodes[k].name, &disk_nodes[k], i);
        }
        if (!done) {
            return false;
        }
    }
    return true;
}
