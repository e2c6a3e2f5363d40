/* SPDX-License-Identifier: MIT */
/*
 * /proc/buddyinfo, /proc/pagetypeinfo, /proc/zoneinfo and /proc/iomem.
 *
 * Linux's tables have eleven orders (0 to 10); ours go further, so a larger free
 * block is shown as the order-10 blocks that it consists of.
 */
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

/* Blocks are not grouped by mobility yet: every free block is Movable, as on a fresh Linux. */
void
qr_report_pagetypeinfo(const struct qr_report *report, struct qr_writer *writer)
{
    qr_writer_printf(writer, "Page block order: 9\nPages per block:  512\n\n");
    qr_writer_printf(writer, "%-43s ", "Free pages count per migrate type at order");
    for (unsigned order = 0; order < LINUX_ORDERS; order++)
        qr_writer_printf(writer, "%6u ", order);
    qr_writer_printf(writer, "\n");
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        if (zone.managed == 0)
            continue;
        qr_writer_printf(writer, "Node %4u, zone %8s, type %12s ", zone.node, zone_name(zone.kind),
                         "Movable");
        write_orders(writer, &zone);
    }
    qr_writer_printf(writer, "\n%-23s%12s \n", "Number of blocks type ", "Movable");
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        if (zone.managed != 0)
            qr_writer_printf(writer, "Node %u, zone %8s %12zu \n", zone.node, zone_name(zone.kind),
                             (zone.spanned + 511) / 512);
    }
}

void
qr_report_zoneinfo(const struct qr_report *report, struct qr_writer *writer)
{
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        qr_writer_printf(writer,
                         "Node %u, zone %8s\n"
                         "  pages free     %zu\n"
                         "        boost    0\n"
                         "        min      %zu\n"
                         "        low      %zu\n"
                         "        high     %zu\n"
                         "        spanned  %zu\n"
                         "        present  %zu\n"
                         "        managed  %zu\n"
                         "        cma      0\n"
                         "      nr_free_pages %zu\n"
                         "  pagesets\n"
                         "              cached: %zu\n"
                         "  node_unreclaimable:  0\n"
                         "  start_pfn:           %zu\n",
                         zone.node, zone_name(zone.kind), zone.free, zone.watermark_min,
                         zone.watermark_low, zone.watermark_high, zone.spanned, zone.present,
                         zone.managed, zone.free, zone.cached, zone.start_pfn);
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
