/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/numa_maps (Linux: fs/proc/task_mmu.c and mpol_to_str() for the layout): each region
 * with its policy, and the pages of it that are mapped, by node.
 *
 * Nothing here is on an inactive list, so `active=` is never printed: all pages are.
 */
#include "report_internal.h"

#include <quire/policy.h>

/* ---- the policy ------------------------------------------------------------- */

/* 0-2,5 */
static void
write_nodes(struct qr_writer *writer, const struct qr_node_set *set)
{
    const char *separator = ":";

    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        unsigned last = node;

        if (!qr_node_set_has(set, node))
            continue;
        while (qr_node_set_has(set, last + 1))
            last++;
        qr_writer_printf(writer, last > node ? "%s%u-%u" : "%s%u", separator, node, last);
        separator = ",";
        node = last;
    }
}

static void
write_policy(struct qr_writer *writer, const struct qr_mempolicy *policy)
{
    static const char *const names[QR_POLICY_COUNT] = {
        [QR_POLICY_DEFAULT] = "default",
        [QR_POLICY_LOCAL] = "local",
        [QR_POLICY_PREFERRED] = "prefer",
        [QR_POLICY_PREFERRED_MANY] = "prefer (many)",
        [QR_POLICY_BIND] = "bind",
        [QR_POLICY_INTERLEAVE] = "interleave",
        [QR_POLICY_WEIGHTED] = "weighted interleave",
    };
    static const char *const namings[] = {
        [QR_NODES_ALLOWED] = "",
        [QR_NODES_STATIC] = "static",
        [QR_NODES_RELATIVE] = "relative",
    };

    if (policy == NULL) {
        qr_writer_printf(writer, "default");
        return;
    }
    qr_writer_printf(writer, "%s", names[policy->policy.mode]);
    bool both = policy->naming != QR_NODES_ALLOWED && policy->balance;

    if (policy->naming != QR_NODES_ALLOWED || policy->balance)
        qr_writer_printf(writer, "=%s%s%s", namings[policy->naming], both ? "|" : "",
                         policy->balance ? "balancing" : "");
    write_nodes(writer, &policy->policy.nodes);
}

/* What faults of @region follow, with a reference. */
static struct qr_mempolicy *
region_policy(const struct qr_region *region, struct qr_mempolicy *thread)
{
    struct qr_mempolicy *policy = region->policy;

    if (region->object != NULL && qr_object_is_memory(region->object))
        return qr_object_get_policy(region->object, region->object_page);
    policy = policy == NULL ? thread : policy;
    qr_mempolicy_get(policy);
    return policy;
}

/* ---- the name ------------------------------------------------------------------ */

/* Writes on, with blanks and the like as octal numbers. */
struct escape_writer {
    struct qr_writer writer;
    struct qr_writer *to;
};

static void
escape_emit(struct qr_writer *base, const char *text, size_t bytes)
{
    struct escape_writer *writer = qr_container_of(base, struct escape_writer, writer);

    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];

        if (c == ' ' || c == '\t' || c == '\n' || c == '=')
            qr_writer_printf(writer->to, "\\%03o", (unsigned)c);
        else
            writer->to->emit(writer->to, &text[i], 1);
    }
}

static void
write_name(const struct qr_report *report, const struct qr_region *region, struct qr_writer *writer)
{
    struct escape_writer escape = {.writer = {escape_emit}, .to = writer};
    struct qr_report_file file;

    if (region->file != NULL && report->describe_file != NULL) {
        qr_writer_printf(writer, " file=");
        report->describe_file(region->file, &file, &escape.writer);
    } else if (region->object != NULL && qr_object_is_memory(region->object)) {
        qr_writer_printf(writer, " file=/dev/zero\\040(deleted)");
    } else if (region_is_heap(region)) {
        qr_writer_printf(writer, " heap");
    } else if ((region->flags & QR_REGION_STACK) != 0) {
        qr_writer_printf(writer, " stack");
    }
}

/* ---- the pages -------------------------------------------------------------------- */

struct numa_usage {
    size_t pages, anon, dirty, writeback, active;
    size_t node[CONFIG_MAX_NODES];
    uint32_t most_maps;
};

static bool
is_anon(const struct qr_frame *frame, uint32_t flags)
{
    return qr_frame_is_private(frame) ||
           (qr_frame_type(frame) == QR_FRAME_HUGE && (flags & QR_FRAME_SHMEM) == 0);
}

/* As in meminfo: all but pages of files, and of these those that reclaim saves. */
static bool
is_active(const struct qr_frame *frame, uint32_t flags)
{
    return qr_frame_type(frame) != QR_FRAME_OBJECT ||
           (flags & (QR_FRAME_SHMEM | QR_FRAME_ACTIVE)) != 0;
}

static void
numa_add_leaf(struct numa_usage *usage, struct qr_frames *frames, const struct qr_leaf *leaf,
              size_t pages)
{
    const struct qr_frame *frame = qr_frame_find(frames, qr_pa_to_pfn(leaf->pa));

    if (frame == NULL || (!qr_frame_is_private(frame) && qr_frame_type(frame) != QR_FRAME_OBJECT &&
                          qr_frame_type(frame) != QR_FRAME_HUGE))
        return;
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);
    bool dirty = (leaf->flags & QR_LEAF_DIRTY) != 0 || frame_is_dirty(frame, flags);

    usage->pages += pages;
    usage->node[qr_frames_zone_node(frames, frame->zone)] += pages;
    usage->anon += is_anon(frame, flags) ? pages : 0;
    usage->dirty += dirty ? pages : 0;
    usage->active += is_active(frame, flags) ? pages : 0;
    usage->writeback += (flags & QR_FRAME_WRITEBACK) != 0 ? pages : 0;
    usage->most_maps = maps > usage->most_maps ? maps : usage->most_maps;
}

static void
numa_of_region(const struct qr_region *region, struct numa_usage *out_usage)
{
    struct qr_tables *tables = &region->space->tables;
    size_t page = qr_report_page_bytes(region);
    struct qr_entry entry;
    qr_va at = region->start;

    *out_usage = (struct numa_usage){.pages = 0};
    while (at.v < region->end.v && qr_tables_next(tables, at, &entry) &&
           entry.start.v < region->end.v) {
        size_t bytes = (size_t)1 << qr_format_shift(tables->format, entry.level);

        if (page > QR_PAGE_SIZE) /* counted by its size, as in Linux; it may take several leaves */
            bytes = page;
        if (entry.kind == QR_ENTRY_LEAF)
            numa_add_leaf(out_usage, tables->frames, &entry.leaf, bytes / page);
        at = qr_va_of(entry.start.v + bytes);
    }
    if ((region->flags & QR_REGION_LOCKED) != 0)
        out_usage->active = out_usage->pages;
}

static void
write_numa_usage(struct qr_writer *writer, const struct numa_usage *usage, size_t page_bytes)
{
    if (usage->pages == 0)
        return;
    if (usage->anon != 0)
        qr_writer_printf(writer, " anon=%zu", usage->anon);
    if (usage->dirty != 0)
        qr_writer_printf(writer, " dirty=%zu", usage->dirty);
    if (usage->pages != usage->anon && usage->pages != usage->dirty)
        qr_writer_printf(writer, " mapped=%zu", usage->pages);
    if (usage->most_maps > 1)
        qr_writer_printf(writer, " mapmax=%u", usage->most_maps);
    if (usage->active < usage->pages) /* never of huge page pools */
        qr_writer_printf(writer, " active=%zu", usage->active);
    if (usage->writeback != 0)
        qr_writer_printf(writer, " writeback=%zu", usage->writeback);
    for (unsigned node = 0; node < CONFIG_MAX_NODES; node++) {
        if (usage->node[node] != 0)
            qr_writer_printf(writer, " N%u=%zu", node, usage->node[node]);
    }
    qr_writer_printf(writer, " kernelpagesize_kB=%zu", page_bytes >> 10);
}

static void
write_numa_region(const struct qr_report *report, const struct qr_region *region, void *thread,
                  struct qr_writer *writer)
{
    struct qr_mempolicy *policy = region_policy(region, thread);
    struct numa_usage usage;

    qr_writer_printf(writer, "%08lx ", (unsigned long)region->start.v);
    write_policy(writer, policy);
    qr_mempolicy_put(policy);
    write_name(report, region, writer);
    if ((region->flags & QR_REGION_HUGETLB) != 0)
        qr_writer_printf(writer, " huge");
    numa_of_region(region, &usage);
    write_numa_usage(writer, &usage, qr_report_page_bytes(region));
    qr_writer_printf(writer, "\n");
}

bool
qr_report_numa_maps(const struct qr_report *report, struct qr_space *space,
                    struct qr_mempolicy *thread, qr_va *from, struct qr_buffer_writer *out)
{
    return qr_report_regions(report, space, from, write_numa_region, thread, out);
}
