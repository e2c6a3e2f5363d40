/* SPDX-License-Identifier: MIT */
/*
 * A walk over all of a tree as a sequence of events.  The place is a path with
 * one index a level, so each step is bounded by one table and nothing recurses.
 * Speed does not matter here: the format's functions are called, not inlined.
 */
#include "table/scan.h"

static void
scan_enter(struct table_scan *scan, qr_pa pa, uintptr_t base, unsigned level)
{
    scan->event = SCAN_ENTER;
    scan->level = level;
    scan->va = base;
    scan->frame = qr_frame_find(scan->tables->frames, qr_pa_to_pfn(pa));
    scan->path[level].frame = scan->frame;
    scan->path[level].pa = pa;
    scan->path[level].base = base;
    scan->path[level].index = 0;
    scan->path[level].left = scan->counted ? table_live(scan->frame) : SIZE_MAX;
}

void
qr_scan_start(struct table_scan *scan, const struct qr_tables *tables, enum scan_trust trust)
{
    scan->tables = tables;
    scan->started = false;
    scan->counted = trust == SCAN_COUNTED;
}

/* How many entries of a table at @level belong to this tree. */
static size_t
scan_limit(const struct table_scan *scan, unsigned level)
{
    walk_format f = scan->tables->format->traits;
    size_t count = (size_t)1 << f->index_bits(f, level);

    if (!scan->tables->upper_shared || level + 1 < f->info.levels)
        return count;
    return walk_index(f, scan->tables->lower_end - 1, level) + 1;
}

uintptr_t
qr_scan_root_base(const struct qr_tables *tables, size_t index)
{
    walk_format f = tables->format->traits;
    unsigned level = f->info.levels - 1;
    uintptr_t low = (uintptr_t)index << f->shift(f, level);

    if (f->info.roots == QR_ROOTS_FLAT || (tables->lower_end != 0 && low < tables->lower_end))
        return low;
    return low | walk_upper_bits(f);
}

/* Move to the next entry of the current table that is not empty. */
static bool
scan_find_entry(struct table_scan *scan, size_t *out_index)
{
    walk_format f = scan->tables->format->traits;
    unsigned level = scan->level;
    size_t limit = scan_limit(scan, level);
    size_t index = scan->path[level].index;

    if (scan->path[level].left-- == 0)
        return false;
    void *table = qr_port_window_open(scan->path[level].pa);

    if (f->entry_bytes == 8) {
        while (index < limit && (scan->pte = pte_load_8(table, index)) == 0)
            index++;
    } else {
        while (index < limit && (scan->pte = pte_load_4(table, index)) == 0)
            index++;
    }
    qr_port_window_close(table);
    scan->path[level].index = index + 1;
    *out_index = index;
    return index < limit;
}

static uintptr_t
scan_address(const struct table_scan *scan, size_t index)
{
    walk_format f = scan->tables->format->traits;

    if (scan->level + 1 == f->info.levels)
        return qr_scan_root_base(scan->tables, index);
    return scan->path[scan->level].base + ((uintptr_t)index << f->shift(f, scan->level));
}

bool
qr_scan_next(struct table_scan *scan)
{
    walk_format f = scan->tables->format->traits;
    size_t index;

    if (!scan->started) {
        scan->started = true;
        scan_enter(scan, scan->tables->root_pa, 0, f->info.levels - 1);
        return true;
    }
    if (scan->event == SCAN_LEAVE && ++scan->level == f->info.levels)
        return false;
    scan->frame = scan->path[scan->level].frame;
    if (!scan_find_entry(scan, &index)) {
        scan->event = SCAN_LEAVE;
        scan->va = scan->path[scan->level].base;
        return true;
    }
    scan->va = scan_address(scan, index);
    if (f->kind(f, scan->pte, scan->level) == PTE_TABLE) {
        scan_enter(scan, f->read_table(f, scan->pte, scan->level), scan->va, scan->level - 1);
        return true;
    }
    scan->event = SCAN_ENTRY;
    return true;
}
