/* SPDX-License-Identifier: MIT */
/* One node's share: nodeN/meminfo (drivers/base/node.c), and the gauges that zoneinfo shows of it. */
#include "report_internal.h"

/* Free and present frames of one node, over its zones. */
static void
node_frames(const struct qr_report *report, unsigned node, size_t *out_managed, size_t *out_free)
{
    *out_managed = 0;
    *out_free = 0;
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        if (zone.node != node)
            continue;
        *out_managed += zone.managed;
        *out_free += zone.free;
    }
}

static void
node_line(struct qr_writer *writer, unsigned node, const char *name, size_t pages)
{
    char label[24];

    qr_format(label, sizeof(label), "%s:", name);
    qr_writer_printf(writer, "Node %u %-15s %8lu kB\n", node, label, pages_to_kb(pages));
}

static bool
is_only_node(const struct qr_report *report)
{
    unsigned nodes = 0;

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++)
        nodes += qr_frames_node_exists(report->frames, node);
    return nodes <= 1;
}

void
qr_report_node_gauges(const struct qr_report *report, unsigned node, struct node_gauges *out_gauges)
{
    bool first = node == 0;
    struct node_gauges gauges = {.anon = 0};
    struct qr_node_use use;

    if (!is_only_node(report)) {
        qr_frames_node_use(report->frames, node, &use);
        gauges.anon = use.type[QR_FRAME_ANON] + use.type[QR_FRAME_MERGED] + use.swap_mapped;
        gauges.tables =
            first ? user_tables(report, use.type[QR_FRAME_TABLE]) : use.type[QR_FRAME_TABLE];
        gauges.slab = use.type[QR_FRAME_SLAB];
        gauges.file = use.file;
        gauges.shmem = use.shmem;
        gauges.huge_shmem = huge_to_pages(report, use.blocks);
        gauges.mapped = use.mapped;
        gauges.dirty = use.dirty;
        gauges.writeback = use.writeback;
        gauges.stacks = use.stacks;
        gauges.active_file = use.active;
        qr_report_spaces_use(report, node, &gauges);
    } else if (first) {
        gauges.anon = gauge(report, QR_PAGES_ANON);
        gauges.tables = user_tables(report, gauge(report, QR_PAGES_TABLE));
        gauges.slab = gauge(report, QR_PAGES_SLAB);
        gauges.file = gauge(report, QR_PAGES_FILE);
        gauges.shmem = gauge(report, QR_PAGES_SHMEM);
        gauges.mapped = gauge(report, QR_PAGES_MAPPED);
        gauges.dirty = gauge(report, QR_PAGES_DIRTY);
        gauges.writeback = gauge(report, QR_PAGES_WRITEBACK);
        gauges.locked = gauge(report, QR_PAGES_LOCKED);
        gauges.huge = gauge(report, QR_PAGES_HUGE_ANON);
        gauges.huge_shmem = gauge(report, QR_PAGES_THP_SHMEM);
        gauges.huge_mapped = gauge(report, QR_PAGES_THP_MAPS);
        gauges.stacks = gauge(report, QR_PAGES_STACK);
        gauges.active_file = active_of(report, gauges.file);
    }
    *out_gauges = gauges;
}

void
qr_report_node_meminfo(const struct qr_report *report, unsigned node, struct qr_writer *writer)
{
    struct qr_hugetlb_stats huge = hugetlb_stats(report, (int)node);
    struct node_gauges use;
    size_t managed;
    size_t free;

    node_frames(report, node, &managed, &free);
    qr_report_node_gauges(report, node, &use);
    node_line(writer, node, "MemTotal", managed);
    node_line(writer, node, "MemFree", free);
    node_line(writer, node, "MemUsed", managed - free);
    node_line(writer, node, "SwapCached", 0);
    node_line(writer, node, "Active", use.anon + use.shmem + use.active_file);
    node_line(writer, node, "Inactive", use.file - use.active_file);
    node_line(writer, node, "Active(anon)", use.anon + use.shmem);
    node_line(writer, node, "Inactive(anon)", 0);
    node_line(writer, node, "Active(file)", use.active_file);
    node_line(writer, node, "Inactive(file)", use.file - use.active_file);
    node_line(writer, node, "Unevictable", use.locked);
    node_line(writer, node, "Mlocked", use.locked);
    node_line(writer, node, "Dirty", use.dirty);
    node_line(writer, node, "Writeback", use.writeback);
    node_line(writer, node, "FilePages", use.file + use.shmem);
    node_line(writer, node, "Mapped", use.mapped);
    node_line(writer, node, "AnonPages", use.anon);
    node_line(writer, node, "Shmem", use.shmem);
    node_line(writer, node, "KernelStack", use.stacks);
    node_line(writer, node, "PageTables", use.tables);
    node_line(writer, node, "SecPageTables", 0);
    node_line(writer, node, "NFS_Unstable", 0);
    node_line(writer, node, "Bounce", 0);
    node_line(writer, node, "WritebackTmp", 0);
    node_line(writer, node, "KReclaimable", 0);
    node_line(writer, node, "Slab", use.slab);
    node_line(writer, node, "SReclaimable", 0);
    node_line(writer, node, "SUnreclaim", use.slab);
    node_line(writer, node, "AnonHugePages", use.huge);
    node_line(writer, node, "ShmemHugePages", use.huge_shmem);
    node_line(writer, node, "ShmemPmdMapped", use.huge_mapped);
    node_line(writer, node, "FileHugePages", 0);
    node_line(writer, node, "FilePmdMapped", 0);
    qr_writer_printf(writer, "Node %u HugePages_Total: %5zu\n", node, huge.total);
    qr_writer_printf(writer, "Node %u HugePages_Free:  %5zu\n", node, huge.free);
    qr_writer_printf(writer, "Node %u HugePages_Surp:  %5zu\n", node, huge.surplus);
}
