/* SPDX-License-Identifier: MIT */
/*
 * Persistent memory as files (Linux's device DAX): /dev/dax0.0 is the first range of it, /dev/dax1.0
 * the next.
 *
 * A range is what the machine's memory map calls persistent (ACPI's NFIT, type 7 of the loader's
 * map, memmap= on the command line), cut to whole pages.  It has no frames: nothing is ever
 * allocated from it, and no page cache stands between it and a mapping.  A shared mapping maps the
 * range itself, so a store is in the memory once the CPU's cache has written it back, and there is
 * nothing for msync() to do: that is what MAP_SYNC asks for.  There is no read() and no write(), and no private
 * mapping, whose copies would be of frames.
 *
 * Each device is one object, made when it is first mapped and kept, so that all mappings are of the same
 * thing (futexes go by it).
 */
#include "dax.h"

#include <quire/object.h>

#include "fs.h"
#include "kstring.h"
#include "memory.h"
#include "printk.h"
#include "text.h"

enum { DAX_MOST = 8 };

static struct qr_mutex lock;
static struct qr_object *objects[DAX_MOST]; /* lock */

/* The range of device @index, in whole pages. @return whether there is one */
static bool
dax_range(size_t index, struct qr_memory_range *out)
{
    size_t found = 0;

    for (size_t i = 0; found < DAX_MOST && qr_frames_map_entry(memory.frames, i, out); i++) {
        out->range.start.v = (out->range.start.v + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;
        out->range.end.v &= ~(uint64_t)QR_PAGE_MASK;
        if (out->kind == QR_MEMORY_PERSISTENT && out->range.start.v < out->range.end.v &&
            found++ == index)
            return true;
    }
    return false;
}

static uint64_t
dax_bytes(const struct qr_memory_range *entry)
{
    return entry->range.end.v - entry->range.start.v;
}

size_t
dax_count(void)
{
    struct qr_memory_range entry;
    size_t count = 0;

    while (dax_range(count, &entry))
        count++;
    return count;
}

void
dax_name(size_t index, char out[DAX_NAME_BYTES])
{
    snprintf(out, DAX_NAME_BYTES, "dax%zu.0", index);
}

/* The object of device @index, with a reference for the caller. */
static int64_t
dax_object(size_t index, struct qr_object **out)
{
    struct qr_memory_range entry;
    enum qr_status status = QR_OK;

    if (!dax_range(index, &entry))
        return -ENXIO;
    qr_mutex_lock(&lock);
    if (objects[index] == NULL)
        status = qr_object_create_device(memory.objects, entry.range.start, dax_bytes(&entry),
                                         QR_CACHE_WRITE_BACK, &objects[index]);
    if (status == QR_OK) {
        qr_object_get(objects[index]);
        *out = objects[index];
    }
    qr_mutex_unlock(&lock);
    return status == QR_OK ? 0 : -ENOMEM;
}

static int64_t
dax_mmap_object(struct file *file, uint32_t prot, bool shared, struct file_mapping *out)
{
    (void)prot;
    if (!shared)
        return -EINVAL;
    out->kind = FILE_MAPPING_OBJECT;
    return dax_object(DEV_MINOR(file->inode->rdev), &out->object);
}

static int64_t
dax_seek(struct file *file, int64_t offset, int whence)
{
    (void)whence;
    (void)offset;
    return (int64_t)file->position;
}

const struct file_ops dax_ops = {
    .name = "dax", .seek = dax_seek, .mmap_object = dax_mmap_object, .syncs_mappings = true};

/* ---- /sys ------------------------------------------------------------------------------- */

static void
show_size(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_memory_range entry;

    if (dax_range((size_t)target->inode->key_more, &entry))
        qr_writer_printf(writer, "%llu\n", (unsigned long long)dax_bytes(&entry));
}

static void
show_resource(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_memory_range entry;

    if (dax_range((size_t)target->inode->key_more, &entry))
        qr_writer_printf(writer, "0x%llx\n", (unsigned long long)entry.range.start.v);
}

static void
show_align(const struct text_target *target, struct qr_writer *writer)
{
    (void)target;
    qr_writer_printf(writer, "%lu\n", (unsigned long)QR_PAGE_SIZE);
}

static void
show_numa_node(const struct text_target *target, struct qr_writer *writer)
{
    struct qr_memory_range entry;

    if (dax_range((size_t)target->inode->key_more, &entry))
        qr_writer_printf(writer, "%u\n", entry.node);
}

static const struct text_node dax_nodes[] = {
    {.name = "size", .mode = 0444, .show = show_size},
    {.name = "resource", .mode = 0400, .show = show_resource},
    {.name = "align", .mode = 0444, .show = show_align},
    {.name = "numa_node", .mode = 0444, .show = show_numa_node},
};

static bool
dax_directory_add(struct dentry *parent, const char *name, size_t index)
{
    struct dentry *directory = text_directory_add(parent, name);

    for (size_t i = 0; i < QR_ARRAY_COUNT(dax_nodes); i++) {
        if (directory == NULL || !text_node_add(directory, dax_nodes[i].name, &dax_nodes[i], index))
            return false;
    }
    return true;
}

bool
dax_nodes_add(struct dentry *root)
{
    static const char *const bus_path[] = {"bus", "dax", "devices"};
    static const char *const number_path[] = {"dev", "char"};
    size_t count = dax_count();
    struct dentry *bus = count == 0 ? NULL : text_path_add(root, bus_path, 3);
    struct dentry *numbers = count == 0 ? NULL : text_path_add(root, number_path, 2);

    for (size_t i = 0; i < count; i++) {
        char name[DAX_NAME_BYTES], number[DAX_NAME_BYTES];

        dax_name(i, name);
        snprintf(number, sizeof number, "%d:%zu", DAX_MAJOR, i);
        if (bus == NULL || numbers == NULL || !dax_directory_add(bus, name, i) ||
            !dax_directory_add(numbers, number, i))
            return false;
    }
    return true;
}
