/* SPDX-License-Identifier: MIT */
/*
 * /proc/buddyinfo, /proc/pagetypeinfo, /proc/zoneinfo and /proc/iomem.
 *
 * Linux's tables have eleven orders (0 to 10); ours go further, so a larger free
 * block is shown as the order-10 blocks that it consists of.
 */
#include <limits.h>

#include "report_internal.h"

#define LINUX_ORDERS 11u

static const char *
zone_name(enum qr_zone_kind kind)
{
    switch (kind) {
    case QR_ZONE_DMA:
        return "DMA";
    case QR_ZONE_NORMAL:
        return "Normal";
    case QR_ZONE_HIGH:
        return "HighMem";
    case QR_ZONE_COUNT:
        break;
    }
    return "?";
}

/* Free blocks per order with everything above order 10 folded into it. */
static void
linux_orders(const struct qr_zone_stats *zone, unsigned long *out_blocks)
{
    for (unsigned order = 0; order < LINUX_ORDERS; order++)
        out_blocks[order] = (unsigned long)zone->free_blocks[order];
    for (unsigned order = LINUX_ORDERS; order <= QR_ORDER_MAX; order++)
        out_blocks[LINUX_ORDERS - 1] += (unsigned long)zone->free_blocks[order]
                                        << (order - (LINUX_ORDERS - 1));
}

static void
write_orders(struct qr_writer *writer, const struct qr_zone_stats *zone)
{
    unsigned long blocks[LINUX_ORDERS];

    linux_orders(zone, blocks);
    for (unsigned order = 0; order < LINUX_ORDERS; order++)
        qr_writer_printf(writer, "%6lu ", blocks[order]);
    qr_writer_printf(writer, "\n");
}

void
qr_report_buddyinfo(const struct qr_report *report, struct qr_writer *writer)
{
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        if (zone.managed == 0)
            continue;
        qr_writer_printf(writer, "Node %u, zone %8s ", zone.node, zone_name(zone.kind));
        write_orders(writer, &zone);
    }
}

static const char *const migrate_types[] = {
    "Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate",
};
enum { UNMOVABLE, MOVABLE };

/* Whole free blocks have no users: they are listed with the movable ones, where most will go. */
static void
write_migrate_types(struct qr_writer *writer, const struct qr_zone_stats *zone)
{
    for (size_t type = 0; type < QR_ARRAY_COUNT(migrate_types); type++) {
        struct qr_zone_stats part = {.kind = zone->kind};

        for (unsigned order = 0; order < QR_ARRAY_COUNT(part.free_blocks); order++) {
            size_t movable = order >= 9 ? zone->free_blocks[order] : zone->free_movable[order];

            part.free_blocks[order] = type == MOVABLE     ? movable
                                      : type == UNMOVABLE ? zone->free_blocks[order] - movable
                                                          : 0;
        }
        qr_writer_printf(writer, "Node %4u, zone %8s, type %12s ", zone->node,
                         zone_name(zone->kind), migrate_types[type]);
        write_orders(writer, &part);
    }
}

static void
write_block_counts(struct qr_writer *writer, const struct qr_zone_stats *zone)
{
    size_t whole = (zone->spanned + 511) / 512;
    size_t fixed = zone->blocks_fixed < whole ? zone->blocks_fixed : whole;

    qr_writer_printf(writer, "Node %u, zone %8s ", zone->node, zone_name(zone->kind));
    for (size_t type = 0; type < QR_ARRAY_COUNT(migrate_types); type++)
        qr_writer_printf(writer, "%12zu ",
                         type == UNMOVABLE ? fixed
                         : type == MOVABLE ? whole - fixed
                                           : 0);
    qr_writer_printf(writer, "\n");
}

/* Call @write for every zone that has memory. */
static void
each_zone(const struct qr_report *report, struct qr_writer *writer,
          void (*write)(struct qr_writer *writer, const struct qr_zone_stats *zone))
{
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        if (zone.managed != 0)
            write(writer, &zone);
    }
}

void
qr_report_pagetypeinfo(const struct qr_report *report, struct qr_writer *writer)
{
    qr_writer_printf(writer, "Page block order: 9\nPages per block:  512\n\n");
    qr_writer_printf(writer, "%-43s ", "Free pages count per migrate type at order");
    for (unsigned order = 0; order < LINUX_ORDERS; order++)
        qr_writer_printf(writer, "%6u ", order);
    qr_writer_printf(writer, "\n");
    each_zone(report, writer, write_migrate_types);
    qr_writer_printf(writer, "\n%-23s", "Number of blocks type ");
    for (size_t type = 0; type < QR_ARRAY_COUNT(migrate_types); type++)
        qr_writer_printf(writer, "%12s ", migrate_types[type]);
    qr_writer_printf(writer, "\n");
    each_zone(report, writer, write_block_counts);
}

static void
write_extfrag(struct qr_writer *writer, const struct qr_zone_stats *zone)
{
    qr_writer_printf(writer, "Node %d, zone %8s ", (int)zone->node, zone_name(zone->kind));
    for (unsigned order = 0; order < LINUX_ORDERS; order++) {
        int index = qr_zone_fragmentation(zone, order);

        qr_writer_printf(writer, "%s%d.%03d ", index < 0 ? "-" : "",
                         (index < 0 ? -index : index) / 1000, (index < 0 ? -index : index) % 1000);
    }
    qr_writer_printf(writer, "\n");
}

static void
write_unusable(struct qr_writer *writer, const struct qr_zone_stats *zone)
{
    qr_writer_printf(writer, "Node %d, zone %8s ", (int)zone->node, zone_name(zone->kind));
    for (unsigned order = 0; order < LINUX_ORDERS; order++) {
        unsigned index = qr_zone_unusable(zone, order);

        qr_writer_printf(writer, "%u.%03u ", index / 1000, index % 1000);
    }
    qr_writer_printf(writer, "\n");
}

void
qr_report_extfrag_index(const struct qr_report *report, struct qr_writer *writer)
{
    each_zone(report, writer, write_extfrag);
}

void
qr_report_unusable_index(const struct qr_report *report, struct qr_writer *writer)
{
    each_zone(report, writer, write_unusable);
}

static void
write_zone_pages(struct qr_writer *writer, const struct qr_zone_stats *zone)
{
    qr_writer_printf(writer,
                     "  pages free     %zu\n"
                     "        boost    0\n"
                     "        min      %zu\n"
                     "        low      %zu\n"
                     "        high     %zu\n"
                     "        spanned  %zu\n"
                     "        present  %zu\n"
                     "        managed  %zu\n"
                     "        cma      0\n"
                     "        protection: (",
                     zone->free, zone->watermark_min, zone->watermark_low, zone->watermark_high,
                     zone->spanned, zone->present, zone->managed);
    for (unsigned kind = 0; kind < QR_ZONE_COUNT; kind++)
        qr_writer_printf(writer, "%s%zu", kind == 0 ? "" : ", ", zone->protection[kind]);
    qr_writer_printf(writer, ")\n");
}

/*
 * Linux counts these for each zone.  We count where frames were wanted for each node: that is
 * shown with the node's first zone, so that sums are right; the rest is 0.
 */
static void
write_zone_counters(const struct qr_report *report, const struct qr_zone_stats *zone, bool first,
                    struct qr_writer *writer)
{
    static const char *const names[] = {
        "nr_zone_inactive_anon",
        "nr_zone_active_anon",
        "nr_zone_inactive_file",
        "nr_zone_active_file",
        "nr_zone_unevictable",
        "nr_zone_write_pending",
        "nr_mlock",
        "nr_bounce",
        "nr_zspages",
        "nr_free_cma",
    };
    static const char *const events[QR_NUMA_EVENTS] = {
        "numa_hit", "numa_miss", "numa_foreign", "numa_interleave", "numa_local", "numa_other",
    };
    struct qr_node_stats node;

    qr_frames_node_stats(report->frames, zone->node, &node);
    qr_writer_printf(writer, "      nr_free_pages %zu\n", zone->free);
    for (size_t i = 0; i < QR_ARRAY_COUNT(names); i++)
        qr_writer_printf(writer, "      %-12s 0\n", names[i]);
    for (unsigned event = 0; event < QR_NUMA_EVENTS; event++)
        qr_writer_printf(writer, "      %-12s %zu\n", events[event], first ? node.event[event] : 0);
}

static void
write_page_sets(const struct qr_report *report, unsigned index, struct qr_writer *writer)
{
    qr_writer_printf(writer, "  pagesets\n");
    for (unsigned cpu = 0; cpu < qr_frames_cpu_count(report->frames); cpu++) {
        struct qr_cpu_frames_stats stats;

        qr_frames_cpu_stats(report->frames, index, cpu, &stats);
        qr_writer_printf(writer,
                         "    cpu: %u\n"
                         "              count: %zu\n"
                         "              high:  %zu\n"
                         "              batch: %zu\n"
                         "  vm stats threshold: 0\n",
                         cpu, stats.cached, stats.capacity, stats.refill);
    }
}

void
qr_report_zoneinfo(const struct qr_report *report, struct qr_writer *writer)
{
    unsigned last_node = UINT_MAX;

    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        if (zone.present == 0)
            continue;
        qr_writer_printf(writer, "Node %u, zone %8s\n", zone.node, zone_name(zone.kind));
        bool first = zone.node != last_node;

        if (first)
            qr_report_node_stats(report, zone.node, writer);
        last_node = zone.node;
        write_zone_pages(writer, &zone);
        write_zone_counters(report, &zone, first, writer);
        write_page_sets(report, i, writer);
        qr_writer_printf(writer,
                         "  node_unreclaimable:  0\n"
                         "  start_pfn:           %zu\n",
                         zone.start_pfn);
    }
}

static const char *
memory_kind_name(enum qr_memory_kind kind)
{
    switch (kind) {
    case QR_MEMORY_USABLE:
        return "System RAM";
    case QR_MEMORY_RESERVED:
        return "Reserved";
    case QR_MEMORY_ACPI:
        return "ACPI Tables";
    case QR_MEMORY_MMIO:
        return "Device registers";
    case QR_MEMORY_KERNEL:
        return "Kernel image";
    case QR_MEMORY_BOOT:
        return "Boot allocation";
    case QR_MEMORY_PERSISTENT:
        return "Persistent Memory";
    case QR_MEMORY_BAD:
        return "Unusable memory";
    }
    return "?";
}

void
qr_report_iomem(const struct qr_report *report, struct qr_writer *writer)
{
    struct qr_memory_range entry;

    for (size_t i = 0; qr_frames_map_entry(report->frames, i, &entry); i++)
        qr_writer_printf(writer, "%08llx-%08llx : %s\n", (unsigned long long)entry.range.start.v,
                         (unsigned long long)entry.range.end.v - 1,
                         entry.description != NULL ? entry.description
                                                   : memory_kind_name(entry.kind));
}
