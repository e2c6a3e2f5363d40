/* SPDX-License-Identifier: MIT */
/*
 * Every bit of every entry, written down from the manuals as data.  layout_test.c compares the
 * formats with it bit by bit, and writes it into the pages of docs/formats/.
 */
#ifndef TABLE_LAYOUT_H
#define TABLE_LAYOUT_H

#include "table/scan.h"

enum shape {
    SHAPE_PAGE,
    SHAPE_LARGE,
    SHAPE_TABLE,
    SHAPE_ROOT, /* a table entry of a root that has its own */
    SHAPE_NONE,
    SHAPE_LARGE_NONE,
    SHAPE_MARK,
    SHAPES
};

/* What an entry is to say. */
struct facts {
    walk_format f;
    unsigned level;
    struct qr_leaf leaf; /* of a table: pa alone */
    struct qr_mark mark;
    bool grouped;
};

/* Bits @high to @low of an entry. */
struct field {
    unsigned high, low;
    const char *name; /* NULL: zero */
    const char *meaning;
    uint64_t (*value)(const struct facts *facts, unsigned arg);
    unsigned arg;
};

struct layout {
    struct field fields[24];
    unsigned count;
};

/* The name of the shape in the documentation. */
const char *layout_shape_name(enum shape shape);
/* Whether the format has entries of this shape at @level. */
bool layout_exists(walk_format f, enum shape shape, unsigned level);
void layout_of(walk_format f, enum shape shape, unsigned level, struct layout *out_layout);
/* The entry that says @facts, by the layout. */
qr_pte layout_entry(const struct layout *layout, const struct facts *facts);
/* Whether this field holds the address, or has the place that others need for it. */
bool field_is_address(const struct field *field);

#endif
