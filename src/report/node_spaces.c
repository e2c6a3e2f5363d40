/* SPDX-License-Identifier: MIT */
/*
 * What no frame tells of itself, by node or by group: locked and huge pages.  The spaces' tables are walked
 * for them, but only where there are any.
 */
#include "report_internal.h"

/* Whose pages. */
struct wanted {
    int node;                     /* -1: any node's */
    const struct qr_group *group; /* charged to it or below; NULL: to whomever */
};

static bool
is_wanted(const struct qr_report *report, const struct wanted *wanted, const struct qr_frame *frame)
{
    if (wanted->node >= 0 &&
        qr_frames_zone_node(report->frames, frame->zone) != (unsigned)wanted->node)
        return false;
    return wanted->group == NULL ||
           qr_group_is_within(qr_group_of_frame(report->groups, frame), wanted->group);
}

/* Pages of @region that are mapped, and of them those by large leaves. */
static void
region_use(const struct qr_report *report, const struct qr_region *region,
           const struct wanted *wanted, struct node_gauges *gauges)
{
    struct qr_tables *tables = &region->space->tables;
    struct qr_entry entry;
    qr_va at = region->start;

    while (at.v < region->end.v && qr_tables_next(tables, at, &entry) &&
           entry.start.v < region->end.v) {
        size_t bytes = (size_t)1 << qr_format_shift(tables->format, entry.level);
        const struct qr_frame *frame =
            entry.kind == QR_ENTRY_LEAF ? qr_frame_find(report->frames, qr_pa_to_pfn(entry.leaf.pa))
                                        : NULL;

        at = qr_va_of(entry.start.v + bytes);
        if (frame == NULL || !is_wanted(report, wanted, frame))
            continue;
        if ((region->flags & QR_REGION_LOCKED) != 0)
            gauges->locked += bytes / QR_PAGE_SIZE;
        if (entry.level > 0 && qr_frame_is_private(frame))
            gauges->huge += bytes / QR_PAGE_SIZE;
        if (entry.level > 0 && qr_frame_type(frame) == QR_FRAME_OBJECT)
            gauges->huge_mapped += bytes / QR_PAGE_SIZE;
    }
}

static void
spaces_use(const struct qr_report *report, const struct wanted *wanted, struct node_gauges *gauges)
{
    bool huge = gauge(report, QR_PAGES_HUGE_ANON) != 0 || gauge(report, QR_PAGES_THP_MAPS) != 0;
    struct qr_space *space = NULL;

    if (report->vm == NULL || (!huge && gauge(report, QR_PAGES_LOCKED) == 0))
        return;
    while ((space = qr_space_next(report->vm, space)) != NULL) {
        qr_rw_read_lock(&space->lock);
        for (struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
             region = qr_region_next(region)) {
            if (huge || (region->flags & QR_REGION_LOCKED) != 0)
                region_use(report, region, wanted, gauges);
        }
        qr_rw_read_unlock(&space->lock);
    }
}

void
qr_report_spaces_use(const struct qr_report *report, unsigned node, struct node_gauges *gauges)
{
    const struct wanted wanted = {.node = (int)node};

    spaces_use(report, &wanted, gauges);
}

void
qr_report_group_use(const struct qr_report *report, const struct qr_group *group, int node,
                    struct qr_report_group_use *out_use)
{
    const struct wanted wanted = {.node = node, .group = group};
    struct node_gauges gauges = {.locked = 0};

    if (group == NULL || report->groups != NULL)
        spaces_use(report, &wanted, &gauges);
    *out_use = (struct qr_report_group_use){.locked = gauges.locked, .huge = gauges.huge};
}
