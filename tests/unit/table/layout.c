/* SPDX-License-Identifier: MIT */
/*
 * Sources: Intel SDM volume 3, chapter 4 (figures 4-4, 4-7 and 4-11); Arm ARM, chapter D8.3;
 * RISC-V privileged architecture, chapters on Sv32 to Sv57, Svpbmt and Svnapot.
 */
#include "tests/unit/table/layout.h"

#include <string.h>

#include "harness.h"

/* ---- What bits say ------------------------------------------------------------- */

static uint64_t
constant(const struct facts *facts, unsigned arg)
{
    (void)facts;
    return arg;
}

/* The address from bit @arg up. */
static uint64_t
address(const struct facts *facts, unsigned arg)
{
    return facts->leaf.pa.v >> arg;
}

static uint64_t
not_address(const struct facts *facts, unsigned arg)
{
    return ~facts->leaf.pa.v >> arg;
}

static uint64_t
ones(const struct facts *facts, unsigned arg)
{
    (void)facts, (void)arg;
    return ~(uint64_t)0;
}

static uint64_t
if_prot(const struct facts *facts, unsigned arg)
{
    return (facts->leaf.prot & arg) != 0;
}

static uint64_t
unless_prot(const struct facts *facts, unsigned arg)
{
    return (facts->leaf.prot & arg) == 0;
}

static uint64_t
if_flag(const struct facts *facts, unsigned arg)
{
    return (facts->leaf.flags & arg) != 0;
}

static uint64_t
if_grouped(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return facts->grouped;
}

static uint64_t
key(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return facts->leaf.pkey;
}

static uint64_t
all_prot(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return facts->leaf.prot;
}

static uint64_t
all_flags(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return facts->leaf.flags;
}

static uint64_t
cache(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return facts->leaf.cache;
}

/* Bit C of @arg: set for cacheability C. */
static uint64_t
if_cache(const struct facts *facts, unsigned arg)
{
    return arg >> facts->leaf.cache & 1;
}

static uint64_t
unless_cache(const struct facts *facts, unsigned arg)
{
    return ~arg >> facts->leaf.cache & 1;
}

static uint64_t
mark_kind(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return facts->mark.kind;
}

static uint64_t
mark_value(const struct facts *facts, unsigned arg)
{
    return facts->mark.value >> arg;
}

static uint64_t
not_mark_value(const struct facts *facts, unsigned arg)
{
    return ~facts->mark.value >> arg;
}

/* ---- Building ---------------------------------------------------------------------- */

static void
add(struct layout *layout, struct field field)
{
    ASSERT_LT(layout->count, QR_ARRAY_COUNT(layout->fields));
    layout->fields[layout->count++] = field;
}

static void
bits(struct layout *layout, unsigned high, unsigned low, const char *name, const char *meaning,
     uint64_t (*value)(const struct facts *, unsigned), unsigned arg)
{
    add(layout, (struct field){high, low, name, meaning, value, arg});
}

static void
bit(struct layout *layout, unsigned at, const char *name, const char *meaning,
    uint64_t (*value)(const struct facts *, unsigned), unsigned arg)
{
    bits(layout, at, at, name, meaning, value, arg);
}

/* ---- x86 ----------------------------------------------------------------------------- */

#define CACHE_BIT(c) (1u << QR_CACHE_##c)

static void
x86_address(walk_format f, unsigned level, bool none, struct layout *layout)
{
    uint64_t (*value)(const struct facts *, unsigned) = none ? not_address : address;
    const char *name = none ? "~address" : "address";
    unsigned shift = f->shift(f, level);

    if (f->entry_bytes == 8) {
        bits(layout, 51, shift, name, "", value, shift);
        if (none && shift > 13)
            bits(layout, shift - 1, 13, "~", "", ones, 13);
    } else if (level == 0) {
        bits(layout, 31, 12, name, "", value, 12);
    } else {
        bits(layout, 31, 22, name, "", value, 22);
        if (none)
            bit(layout, 21, "~", "", ones, 21);
        bits(layout, 20, 13, name, "", value, 32);
    }
}

static void
x86_leaf(walk_format f, unsigned level, bool none, struct layout *layout)
{
    if (f->info.no_execute)
        bit(layout, 63, "NX", "not EXEC", unless_prot, QR_PROT_EXEC);
    if (f->info.protection_keys)
        bits(layout, 62, 59, "key", "protection key", key, 0);
    x86_address(f, level, none, layout);
    if (level > 0 && none)
        bit(layout, 12, "~PAT", "0: write-combining", unless_cache, CACHE_BIT(WRITE_COMBINING));
    else if (level > 0)
        bit(layout, 12, "PAT", "write-combining", if_cache, CACHE_BIT(WRITE_COMBINING));
    if (none)
        bit(layout, 11, "NO", "tells a leaf from a mark", constant, 1);
    bit(layout, 10, "S2", "SOFT_2", if_flag, QR_LEAF_SOFT_2);
    bit(layout, 9, "S1", "SOFT_1", if_flag, QR_LEAF_SOFT_1);
    bit(layout, 8, "G", "GLOBAL", if_prot, QR_PROT_GLOBAL);
    if (level > 0)
        bit(layout, 7, "PS", "a leaf, not a table", constant, 1);
    else
        bit(layout, 7, "PAT", "write-combining", if_cache, CACHE_BIT(WRITE_COMBINING));
    bit(layout, 6, "D", "DIRTY", if_flag, QR_LEAF_DIRTY);
    bit(layout, 5, "A", "ACCESSED", if_flag, QR_LEAF_ACCESSED);
    bit(layout, 4, "PCD", "write-combining or uncached", if_cache,
        CACHE_BIT(WRITE_COMBINING) | CACHE_BIT(UNCACHED));
    bit(layout, 3, "PWT", "write-through or uncached", if_cache,
        CACHE_BIT(WRITE_THROUGH) | CACHE_BIT(UNCACHED));
    bit(layout, 2, "US", "USER", if_prot, QR_PROT_USER);
    if (!none) {
        bit(layout, 1, "RW", "WRITE", if_prot, QR_PROT_WRITE);
        bit(layout, 0, "P", "present", constant, 1);
    }
}

static void
x86_table(walk_format f, unsigned level, struct layout *layout)
{
    bits(layout, f->entry_bytes == 8 ? 51 : 31, 12, "address", "", address, 12);
    if (!layout_exists(f, SHAPE_ROOT, level)) {
        bit(layout, 5, "A", "set from the start", constant, 1);
        bit(layout, 2, "US", "left to the leaf", constant, 1);
        bit(layout, 1, "RW", "left to the leaf", constant, 1);
    }
    bit(layout, 0, "P", "present", constant, 1);
}

static void
x86_layout(walk_format f, enum shape shape, unsigned level, struct layout *layout)
{
    switch (shape) {
    case SHAPE_ROOT:
    case SHAPE_TABLE:
        x86_table(f, level, layout);
        break;
    case SHAPE_MARK:
        if (f->entry_bytes == 8) {
            bits(layout, 51, 12, "~value", "", not_mark_value, 0);
            bits(layout, 4, 1, "kind", "enum qr_mark_kind", mark_kind, 0);
        } else {
            bits(layout, 31, 12, "~value", "bits 19 to 0", not_mark_value, 0);
            bits(layout, 10, 4, "value", "bits 26 to 20", mark_value, 20);
            bits(layout, 3, 1, "kind", "enum qr_mark_kind", mark_kind, 0);
        }
        break;
    default:
        x86_leaf(f, level, shape == SHAPE_NONE || shape == SHAPE_LARGE_NONE, layout);
        break;
    }
}

/* ---- AArch64 ------------------------------------------------------------------------- */

static void
a64_address(walk_format f, unsigned shift, struct layout *layout)
{
    bool wide = f->info.pa_bits == 52;

    if (!wide) {
        bits(layout, 47, shift, "address", "", address, shift);
    } else if (f->info.page_shift == 16) {
        bits(layout, 47, shift, "address", "", address, shift);
        bits(layout, 15, 12, "address", "", address, 48);
    } else {
        bits(layout, 49, shift, "address", "", address, shift);
        bits(layout, 9, 8, "address", "", address, 50);
    }
}

static uint64_t
inner_shareable(const struct facts *facts, unsigned arg)
{
    (void)facts, (void)arg;
    return 3;
}

static uint64_t
a64_attr(const struct facts *facts, unsigned arg)
{
    bool tagged = (facts->leaf.prot & QR_PROT_TAGGED) != 0;

    (void)arg;
    return facts->leaf.cache == QR_CACHE_WRITE_BACK && tagged ? 4 : facts->leaf.cache;
}

static bool
is_writable_dirty(const struct facts *facts, unsigned prot, unsigned flags)
{
    return (facts->leaf.prot & QR_PROT_WRITE) == prot &&
           (facts->leaf.flags & QR_LEAF_DIRTY) == flags;
}

static uint64_t
a64_ap2(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return !is_writable_dirty(facts, QR_PROT_WRITE, QR_LEAF_DIRTY);
}

static uint64_t
a64_sd(const struct facts *facts, unsigned arg)
{
    (void)arg;
    return is_writable_dirty(facts, 0, QR_LEAF_DIRTY);
}

/* Set unless EXEC and USER are just as @arg says. */
static uint64_t
a64_xn(const struct facts *facts, unsigned arg)
{
    return (facts->leaf.prot & (QR_PROT_EXEC | QR_PROT_USER)) != arg;
}

static void
a64_leaf(walk_format f, unsigned level, bool none, struct layout *layout)
{
    if (none)
        bit(layout, 58, "NO", "tells a leaf from a mark", constant, 1);
    bit(layout, 57, "S2", "SOFT_2", if_flag, QR_LEAF_SOFT_2);
    bit(layout, 56, "S1", "SOFT_1", if_flag, QR_LEAF_SOFT_1);
    bit(layout, 55, "SD", "DIRTY, but not WRITE", a64_sd, 0);
    bit(layout, 54, "UXN", "not EXEC of USER", a64_xn, QR_PROT_EXEC | QR_PROT_USER);
    bit(layout, 53, "PXN", "not EXEC of the kernel", a64_xn, QR_PROT_EXEC);
    if (!none) {
        bit(layout, 52, "CONT", "member of a group", if_grouped, 0);
        bit(layout, 51, "DBM", "WRITE", if_prot, QR_PROT_WRITE);
    }
    bit(layout, 50, "GP", "GUARDED", if_prot, QR_PROT_GUARDED);
    a64_address(f, f->shift(f, level), layout);
    bit(layout, 11, "nG", "not GLOBAL", unless_prot, QR_PROT_GLOBAL);
    bit(layout, 10, "AF", "ACCESSED", if_flag, QR_LEAF_ACCESSED);
    if (f->info.pa_bits < 52 || f->info.page_shift == 16)
        bits(layout, 9, 8, "SH", "", inner_shareable, 0);
    bit(layout, 7, "AP[2]", "not both WRITE and DIRTY", a64_ap2, 0);
    bit(layout, 6, "AP[1]", "USER", if_prot, QR_PROT_USER);
    bits(layout, 4, 2, "attr", "0 to 3: enum qr_cacheability; 4: TAGGED", a64_attr, 0);
    if (level == 0)
        bit(layout, 1, "page", "a page, not a block", constant, 1);
    if (!none)
        bit(layout, 0, "valid", "present", constant, 1);
}

static void
a64_layout(walk_format f, enum shape shape, unsigned level, struct layout *layout)
{
    switch (shape) {
    case SHAPE_ROOT:
    case SHAPE_TABLE:
        a64_address(f, f->info.page_shift, layout);
        bit(layout, 1, "page", "a table, not a block", constant, 1);
        bit(layout, 0, "valid", "present", constant, 1);
        break;
    case SHAPE_MARK:
        bits(layout, 51, 12, "value", "", mark_value, 0);
        bits(layout, 4, 1, "kind", "enum qr_mark_kind", mark_kind, 0);
        break;
    default:
        a64_leaf(f, level, shape == SHAPE_NONE || shape == SHAPE_LARGE_NONE, layout);
        break;
    }
}

/* ---- RISC-V ----------------------------------------------------------------------------- */

static uint64_t
rv_pbmt(const struct facts *facts, unsigned arg)
{
    static const unsigned char type[QR_CACHE_COUNT] = {
        [QR_CACHE_WRITE_THROUGH] = 1, [QR_CACHE_WRITE_COMBINING] = 1, [QR_CACHE_UNCACHED] = 2};

    (void)arg;
    return type[facts->leaf.cache];
}

/* The low four bits of the page number: a group says its size there. */
static uint64_t
rv_place(const struct facts *facts, unsigned arg)
{
    return facts->grouped ? 8 : facts->leaf.pa.v >> arg;
}

static void
rv_leaf(walk_format f, unsigned level, bool none, struct layout *layout)
{
    unsigned shift = f->shift(f, level);

    if (level == 0 && !none)
        bit(layout, 63, "N", "member of a group (Svnapot)", if_grouped, 0);
    if (f->info.cache_mask != CACHE_BIT(WRITE_BACK))
        bits(layout, 62, 61, "PBMT", "1: uncached memory; 2: device (Svpbmt)", rv_pbmt, 0);
    if (level == 0) {
        bits(layout, 53, 14, "address", "", address, 16);
        bits(layout, 13, 10, "address", "bits 15 to 12; 1000 in a group", rv_place, 12);
    } else {
        bits(layout, 53, shift - 2, "address", "", address, shift);
    }
    bit(layout, 9, "S2", "SOFT_2", if_flag, QR_LEAF_SOFT_2);
    bit(layout, 8, "S1", "SOFT_1", if_flag, QR_LEAF_SOFT_1);
    bit(layout, 7, "D", "DIRTY", if_flag, QR_LEAF_DIRTY);
    bit(layout, 6, "A", "ACCESSED", if_flag, QR_LEAF_ACCESSED);
    bit(layout, 5, "G", "GLOBAL", if_prot, QR_PROT_GLOBAL);
    bit(layout, 4, "U", "USER", if_prot, QR_PROT_USER);
    if (none) {
        bit(layout, 1, "NO", "tells a leaf from a mark", constant, 1);
        return;
    }
    bit(layout, 3, "X", "EXEC", if_prot, QR_PROT_EXEC);
    bit(layout, 2, "W", "WRITE", if_prot, QR_PROT_WRITE);
    bit(layout, 1, "R", "READ or WRITE", if_prot, QR_PROT_READ | QR_PROT_WRITE);
    bit(layout, 0, "V", "present", constant, 1);
}

static void
rv_layout(walk_format f, enum shape shape, unsigned level, struct layout *layout)
{
    switch (shape) {
    case SHAPE_ROOT:
    case SHAPE_TABLE:
        bits(layout, 53, 10, "address", "", address, 12);
        bit(layout, 0, "V", "present", constant, 1);
        break;
    case SHAPE_MARK:
        bits(layout, 53, 10, "value", "", mark_value, 0);
        bits(layout, 5, 2, "kind", "enum qr_mark_kind", mark_kind, 0);
        break;
    default:
        rv_leaf(f, level, shape == SHAPE_NONE || shape == SHAPE_LARGE_NONE, layout);
        break;
    }
}

/* ---- Scrambled ---------------------------------------------------------------------------- */

/* The word before it is scrambled. */
static void
scrambled_layout(walk_format f, enum shape shape, unsigned level, struct layout *layout)
{
    unsigned tag = shape == SHAPE_TABLE ? 2 : shape == SHAPE_MARK ? 3 : 1;
    bool leaf = tag == 1;
    unsigned shift = leaf ? f->shift(f, level) : 12;

    bits(layout, 63, 57, "check", "85 + level", constant, 85 + level);
    if (shape == SHAPE_MARK)
        bits(layout, 56, 17, "value", "", mark_value, 0);
    else
        bits(layout, 56, 17 + shift - 12, "address", "", address, shift);
    if (shape == SHAPE_MARK)
        bits(layout, 16, 13, "kind", "enum qr_mark_kind", mark_kind, 0);
    if (leaf) {
        bits(layout, 16, 13, "key", "protection key", key, 0);
        bits(layout, 12, 11, "cache", "enum qr_cacheability", cache, 0);
        bits(layout, 10, 7, "flags", "enum qr_leaf_flag", all_flags, 0);
        bits(layout, 6, 2, "prot", "enum qr_prot", all_prot, 0);
    }
    bits(layout, 1, 0, "tag", "1: leaf; 2: table; 3: mark", constant, tag);
}

static qr_pte
scramble(qr_pte word, unsigned level)
{
    unsigned turn = 7 * level + 3;

    return (word << turn | word >> (64 - turn)) ^ (qr_pte)0x9e3779b97f4a7c15 * (level + 1);
}

/* ---- All of them ------------------------------------------------------------------------- */

const char *
layout_shape_name(enum shape shape)
{
    static const char *const names[SHAPES] = {
        "page", "large", "table", "root", "page without rights", "large without rights", "mark",
    };

    return names[shape];
}

bool
field_is_address(const struct field *field)
{
    return field->value == address || field->value == not_address || field->value == ones ||
           field->value == rv_place || field->value == inner_shareable;
}

bool
layout_exists(walk_format f, enum shape shape, unsigned level)
{
    bool leaf = (f->info.leaf_levels >> level & 1) != 0;

    switch (shape) {
    case SHAPE_PAGE:
    case SHAPE_NONE:
        return level == 0;
    case SHAPE_LARGE:
    case SHAPE_LARGE_NONE:
        return level > 0 && leaf;
    case SHAPE_ROOT:
        return strncmp(f->info.name, "x86_pae", 7) == 0 && level == 2;
    case SHAPE_TABLE:
        return level > 0 && !layout_exists(f, SHAPE_ROOT, level);
    default:
        return leaf;
    }
}

void
layout_of(walk_format f, enum shape shape, unsigned level, struct layout *out_layout)
{
    out_layout->count = 0;
    switch (f->info.name[0]) {
    case 'x':
        x86_layout(f, shape, level, out_layout);
        break;
    case 'a':
        a64_layout(f, shape, level, out_layout);
        break;
    case 'r':
        rv_layout(f, shape, level, out_layout);
        break;
    default:
        scrambled_layout(f, shape, level, out_layout);
        break;
    }
}

qr_pte
layout_entry(const struct layout *layout, const struct facts *facts)
{
    qr_pte entry = 0, used = 0;

    for (unsigned i = 0; i < layout->count; i++) {
        const struct field *field = &layout->fields[i];
        unsigned width = field->high - field->low + 1;
        qr_pte mask = ((width < 64 ? (qr_pte)1 << width : 0) - 1) << field->low;

        ASSERT_EQ(used & mask, 0);
        used |= mask;
        entry |= field->value(facts, field->arg) << field->low & mask;
    }
    return facts->f->info.name[0] == 's' ? scramble(entry, facts->level) : entry;
}
