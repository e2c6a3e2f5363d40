/* SPDX-License-Identifier: MIT */
/*
 * /proc/slabinfo (version 2.1), and the overview that
 * `echo mem > /sys/kernel/debug/memory` prints.
 */
#include "report_internal.h"

void
qr_report_slabinfo(const struct qr_report *report, struct qr_writer *writer)
{
    struct qr_cache_stats cache;

    qr_writer_printf(writer,
                     "slabinfo - version: 2.1\n"
                     "# name            <active_objs> <num_objs> <objsize> <objperslab> "
                     "<pagesperslab> : tunables <limit> <batchcount> <sharedfactor> : slabdata "
                     "<active_slabs> <num_slabs> <sharedavail>\n");
    for (size_t i = 0; qr_heap_cache_stats(report->heap, i, &cache); i++)
        qr_writer_printf(writer,
                         "%-17s %6zu %6zu %6zu %4zu %4zu : tunables %4u %4u %4u : slabdata "
                         "%6zu %6zu %6u\n",
                         cache.name, cache.active_objects, cache.total_objects, cache.object_bytes,
                         cache.objects_per_slab, cache.slab_frames, cache.magazine_objects,
                         cache.magazine_objects / 2, 0u, cache.active_slabs, cache.slabs, 0u);
}

void
qr_report_overview(const struct qr_report *report, struct qr_writer *writer)
{
    struct qr_frames_stats frames;

    qr_frames_stats(report->frames, &frames);
    qr_writer_printf(writer,
                     "memory: %lu kB usable, %lu kB free, %lu kB peak use, %lu kB reserved, "
                     "%zu bytes of allocator metadata\n",
                     pages_to_kb(frames.total), pages_to_kb(frames.free),
                     pages_to_kb(frames.peak_used), pages_to_kb(frames.reserved),
                     frames.metadata_bytes);
    qr_writer_printf(
        writer,
        "users:  anonymous %lu kB, page cache %lu kB, shared %lu kB, tables %lu kB, "
        "slab %lu kB, vmalloc %lu kB\n",
        pages_to_kb(gauge(report, QR_PAGES_ANON)), pages_to_kb(gauge(report, QR_PAGES_FILE)),
        pages_to_kb(gauge(report, QR_PAGES_SHMEM)), pages_to_kb(gauge(report, QR_PAGES_TABLE)),
        pages_to_kb(gauge(report, QR_PAGES_SLAB)), pages_to_kb(gauge(report, QR_PAGES_VMALLOC)));
    qr_writer_printf(writer, "free blocks by order (0 to 10):\n");
    qr_report_buddyinfo(report, writer);
    if (report->heap != NULL) {
        struct qr_heap_stats heap;

        qr_heap_stats(report->heap, &heap);
        qr_writer_printf(writer,
                         "heap: %zu frames, %zu bytes in use, %zu large blocks of %zu "
                         "bytes\n",
                         heap.frames, heap.active_bytes, heap.large_blocks, heap.large_bytes);
    }
    qr_writer_printf(writer,
                     "events: %zu faults (%zu major), %zu copies on write, %zu taken over, "
                     "%zu forks, %zu shootdown interrupts\n",
                     gauge(report, QR_EVENT_FAULT), gauge(report, QR_EVENT_MAJOR_FAULT),
                     gauge(report, QR_EVENT_COW), gauge(report, QR_EVENT_COW_REUSE),
                     gauge(report, QR_EVENT_FORK), gauge(report, QR_EVENT_IPI));
}
