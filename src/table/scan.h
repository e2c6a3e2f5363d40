/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_SCAN_H
#define QUIRE_TABLE_SCAN_H

/*
 * Every table and entry of a tree, in order and without recursion: for what
 * looks at all of a tree (adopt, fini, validate).  Takes no lock.
 */

#include "table/walk.h"

enum scan_event {
    SCAN_ENTER, /* a table: frame, level, va = its first address */
    SCAN_ENTRY, /* a leaf or mark in table `frame`: level, va, pte */
    SCAN_LEAVE, /* the table again, after everything below it */
};

struct table_scan {
    const struct qr_tables *tables;
    enum scan_event event;
    struct qr_frame *frame; /* NULL on ENTER where the address has no descriptor */
    unsigned level;
    uintptr_t va;
    qr_pte pte;

    /* The path to where the scan stands. */
    bool started;
    bool counted; /* fixed */
    struct {
        struct qr_frame *frame;
        qr_pa pa;
        uintptr_t base;
        size_t index; /* next entry to look at */
        size_t left;  /* entries still to be met; SIZE_MAX: unknown */
    } path[QR_LEVELS_MAX];
};

enum scan_trust {
    SCAN_EVERYTHING, /* look at every entry */
    SCAN_COUNTED,    /* leave a table after as many entries as its descriptor says it has */
};

void qr_scan_start(struct table_scan *scan, const struct qr_tables *tables, enum scan_trust trust);
/* The next event; false at the end. */
bool qr_scan_next(struct table_scan *scan);

/* On ENTER and LEAVE below the root: the table above. */
static inline struct qr_frame *
scan_parent(const struct table_scan *scan)
{
    return scan->path[scan->level + 1].frame;
}

/* The first address under entry @index of the root. */
uintptr_t qr_scan_root_base(const struct qr_tables *tables, size_t index);

#endif
