/* SPDX-License-Identifier: MIT */
/*
 * Is a tree of tables what it should be?  Meant for quiet trees: it takes no
 * locks, so that it can run where a violation was just met.
 *
 *  1 every linked table has a descriptor of type TABLE, owned by this tree
 *  2 it says the level and first address where the table stands
 *  3 it is not dead, and not locked
 *  4 it counts its entries that are not empty
 *  5 every leaf stands at a level where the format has leaves, and is aligned
 *  6 every entry decodes and encodes to itself: no reserved or unknown bit is set
 *  7 the members of a group are all there and differ in consecutive addresses alone
 *  8 the tree knows how many tables it has
 */
#include <quire/writer.h>

#include "table/scan.h"

struct validation {
    struct table_scan scan;
    uint32_t live[QR_LEVELS_MAX];
    size_t table_count;
};

static const char *
check_table(const struct validation *v)
{
    const struct table_scan *scan = &v->scan;
    const struct qr_frame *frame = scan->frame;

    if (frame == NULL || qr_frame_type(frame) != QR_FRAME_TABLE)
        return "a linked table whose frame is none";
    if (atomic_load_explicit(&frame->owner, memory_order_relaxed) != scan->tables)
        return "a table of another tree";
    if (atomic_load_explicit(&frame->index, memory_order_relaxed) != (scan->va | scan->level))
        return "a table that stands at another place than it says";
    if (table_has_flag(frame, QR_FRAME_TABLE_DEAD))
        return "a dead table that is linked";
    if (table_has_flag(frame, QR_FRAME_TABLE_LOCK))
        return "a locked table";
    return NULL;
}

static const char *
check_leaf(walk_format f, qr_pte pte, unsigned level)
{
    struct qr_leaf leaf = f->read_leaf(f, pte, level);

    if ((f->info.leaf_levels >> level & 1) == 0)
        return "a leaf at a level that has none";
    if ((leaf.pa.v & walk_entry_mask(f, level)) != 0)
        return "a misaligned leaf";
    return f->make_leaf(f, &leaf, level) == pte ? NULL : "a leaf with unknown bits";
}

static const char *
check_entry(const struct table_scan *scan)
{
    walk_format f = scan->tables->format->traits;
    unsigned level = scan->level;
    qr_pte pte = scan->pte;

    if (walk_is_grouped(f, pte)) {
        const char *broken = qr_group_check(scan->tables, scan->path[level].pa, scan->va, level);

        if (broken != NULL)
            return broken;
        pte = f->ungroup(f, pte, walk_index(f, scan->va, level));
    }
    if (f->kind(f, pte, level) == PTE_LEAF)
        return check_leaf(f, pte, level);

    struct qr_mark mark = f->read_mark(f, pte, level);

    if (mark.kind == QR_MARK_NONE || mark.kind >= QR_MARK_KIND_COUNT)
        return "a mark of no kind";
    return f->make_mark(f, mark, level) == pte ? NULL : "a mark with unknown bits";
}

static const char *
validate_step(struct validation *v)
{
    struct table_scan *scan = &v->scan;
    walk_format f = scan->tables->format->traits;

    switch (scan->event) {
    case SCAN_ENTER:
        v->table_count++;
        v->live[scan->level] = 0;
        if (scan->level + 1 < f->info.levels)
            v->live[scan->level + 1]++;
        return check_table(v);
    case SCAN_ENTRY:
        v->live[scan->level]++;
        return check_entry(scan);
    case SCAN_LEAVE:
        return table_live(scan->frame) == v->live[scan->level] ? NULL : "a table that counts wrong";
    }
    return NULL;
}

bool
qr_tables_validate(struct qr_tables *tables, char *out_message, size_t bytes)
{
    struct validation v = {.table_count = 0};
    const char *broken = NULL;

    qr_scan_start(&v.scan, tables, SCAN_EVERYTHING);
    while (broken == NULL && qr_scan_next(&v.scan))
        broken = validate_step(&v);
    if (broken != NULL) {
        (void)qr_format(out_message, bytes, "page tables: %s (level %u, address %p, entry 0x%llx)",
                        broken, v.scan.level, (void *)v.scan.va, (unsigned long long)v.scan.pte);
        return false;
    }
    if (v.table_count != atomic_load_explicit(&tables->table_count, memory_order_relaxed)) {
        (void)qr_format(out_message, bytes, "page tables: %zu linked, %zu counted", v.table_count,
                        atomic_load_explicit(&tables->table_count, memory_order_relaxed));
        return false;
    }
    return true;
}
