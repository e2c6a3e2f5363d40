/* SPDX-License-Identifier: MIT */
/*
 * Page tables as text: what decides about one address, and whole trees with
 * equal neighbours joined into runs.
 */
#include "report_internal.h"

static void
write_rights(struct qr_writer *writer, const struct qr_leaf *leaf)
{
    static const char *const cache_names[QR_CACHE_COUNT] = {"wb", "wt", "wc", "uc"};

    qr_writer_printf(writer, "%c%c%c%c%c %c%c %s key %u", leaf->prot & QR_PROT_READ ? 'r' : '-',
                     leaf->prot & QR_PROT_WRITE ? 'w' : '-', leaf->prot & QR_PROT_EXEC ? 'x' : '-',
                     leaf->prot & QR_PROT_USER ? 'u' : 'k', leaf->prot & QR_PROT_GLOBAL ? 'g' : '-',
                     leaf->flags & QR_LEAF_ACCESSED ? 'a' : '-',
                     leaf->flags & QR_LEAF_DIRTY ? 'd' : '-',
                     leaf->cache < QR_CACHE_COUNT ? cache_names[leaf->cache] : "?", leaf->pkey);
}

static const char *
mark_name(enum qr_mark_kind kind)
{
    switch (kind) {
    case QR_MARK_NONE:
        return "none";
    case QR_MARK_GUARD:
        return "guard";
    case QR_MARK_SWAP:
        return "swap";
    case QR_MARK_MIGRATING:
        return "migrating";
    case QR_MARK_POISON:
        return "poison";
    case QR_MARK_WRITE_PROTECT:
        return "write-protect";
    case QR_MARK_KIND_COUNT:
        break;
    }
    return "?";
}

static void
write_frame(struct qr_frames *frames, qr_pa pa, struct qr_writer *writer)
{
    static const char *const type_names[QR_FRAME_TYPE_COUNT] = {
        "no memory", "reserved",  "free",   "kernel",     "slab", "large",
        "table",     "anonymous", "object", "swap cache", "huge", "merged",
    };
    struct qr_frame *frame = qr_frame_find(frames, qr_pa_to_pfn(pa));

    if (frame == NULL) {
        qr_writer_printf(writer, "  frame: not memory\n");
        return;
    }
    enum qr_frame_type type = qr_frame_type(frame);

    qr_writer_printf(writer, "  frame: %s, %u references, %u mappings\n",
                     type < QR_FRAME_TYPE_COUNT ? type_names[type] : "?",
                     (unsigned)atomic_load_explicit(&frame->refs, memory_order_relaxed),
                     (unsigned)atomic_load_explicit(&frame->maps, memory_order_relaxed));
}

/* Whether the TLB may keep @entry together with its neighbours. */
static bool
entry_is_grouped(struct qr_tables *tables, const struct qr_entry *entry)
{
    struct qr_format_info info;
    struct qr_va_range page = {entry->start, qr_va_of(entry->start.v + QR_PAGE_SIZE)};
    struct qr_cursor cursor;

    qr_format_info(tables->format, &info);
    if (entry->kind != QR_ENTRY_LEAF || info.group_bits[entry->level] == 0)
        return false;
    qr_cursor_open(&cursor, tables, page, NULL);
    bool grouped = qr_cursor_is_grouped(&cursor, page.start);
    qr_cursor_close(&cursor);
    return grouped;
}

void
qr_report_table_walk(struct qr_space *space, qr_va va, struct qr_writer *writer)
{
    struct qr_format_info info;
    struct qr_va_range page = {qr_va_of(qr_va_page_down(va.v)),
                               qr_va_of(qr_va_page_down(va.v) + QR_PAGE_SIZE)};
    struct qr_cursor cursor;

    qr_format_info(space->tables.format, &info);
    if (va.v >= space->layout.user_end.v) {
        qr_writer_printf(writer, "0x%lx: not a user address\n", (unsigned long)va.v);
        return;
    }
    qr_cursor_open(&cursor, &space->tables, page, NULL);
    struct qr_entry entry = qr_cursor_query(&cursor, page.start);
    qr_cursor_close(&cursor);

    qr_writer_printf(writer, "0x%lx (%s, %u levels): ", (unsigned long)va.v, info.name,
                     info.levels);
    if (entry.kind == QR_ENTRY_NONE) {
        qr_writer_printf(writer, "nothing at level %u\n", entry.level);
    } else if (entry.kind == QR_ENTRY_MARK) {
        qr_writer_printf(writer, "mark %s 0x%llx at level %u\n", mark_name(entry.mark.kind),
                         (unsigned long long)entry.mark.value, entry.level);
    } else {
        qr_writer_printf(writer, "leaf at level %u -> 0x%llx ", entry.level,
                         (unsigned long long)entry.leaf.pa.v);
        write_rights(writer, &entry.leaf);
        qr_writer_printf(writer, "%s\n", entry_is_grouped(&space->tables, &entry) ? " group" : "");
        write_frame(space->tables.frames, entry.leaf.pa, writer);
    }
}

/* Neighbours that differ in consecutive addresses alone. */
struct run {
    struct qr_entry first;
    bool grouped;
    qr_va end;
};

/* Does @entry continue @run? */
static bool
run_continues(const struct run *run, const struct qr_entry *entry, bool grouped)
{
    const struct qr_entry *first = &run->first;

    if (entry->kind != first->kind || entry->start.v != run->end.v ||
        entry->level != first->level || grouped != run->grouped)
        return false;
    if (entry->kind == QR_ENTRY_MARK)
        return entry->mark.kind == first->mark.kind;
    return entry->leaf.prot == first->leaf.prot && entry->leaf.flags == first->leaf.flags &&
           entry->leaf.cache == first->leaf.cache && entry->leaf.pkey == first->leaf.pkey &&
           entry->leaf.pa.v - first->leaf.pa.v == entry->start.v - first->start.v;
}

static void
write_run(const struct run *run, struct qr_writer *writer)
{
    const struct qr_entry *first = &run->first;

    if (first->kind == QR_ENTRY_NONE)
        return;
    qr_writer_printf(writer, "%016lx-%016lx L%u ", (unsigned long)first->start.v,
                     (unsigned long)run->end.v, first->level);
    if (first->kind == QR_ENTRY_MARK) {
        qr_writer_printf(writer, "mark %s\n", mark_name(first->mark.kind));
        return;
    }
    qr_writer_printf(writer, "%012llx ", (unsigned long long)first->leaf.pa.v);
    write_rights(writer, &first->leaf);
    qr_writer_printf(writer, "%s\n", run->grouped ? " group" : "");
}

void
qr_report_tables(struct qr_tables *tables, struct qr_writer *writer)
{
    struct run run = {.first.kind = QR_ENTRY_NONE, .end = qr_va_of(0)};
    struct qr_entry entry;

    while (qr_tables_next(tables, run.end, &entry)) {
        bool grouped = entry_is_grouped(tables, &entry);

        if (!run_continues(&run, &entry, grouped)) {
            write_run(&run, writer);
            run.first = entry;
            run.grouped = grouped;
        }
        run.end = qr_va_of(entry.start.v +
                           ((uintptr_t)1 << qr_format_shift(tables->format, entry.level)));
        if (run.end.v == 0)
            break;
    }
    write_run(&run, writer);
}
