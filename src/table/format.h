/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_FORMAT_H
#define QUIRE_TABLE_FORMAT_H

/*
 * What the walker knows of a page-table format, and nothing else.
 *
 * A format is a `struct format_traits`: numbers and small pure functions on one
 * entry.  walk_*.h are the walker; a format's file instantiates it once with its
 * traits as a constant, so that the compiler folds every call below into the
 * code.  The instances' entry points stand in `struct qr_format`, which the
 * tables carry: one indirect call an operation, and many formats in one process.
 *
 * Rules for every format: an entry of all zero bits is empty; entries are 4 or
 * 8 bytes, are written once and whole; functions are total over what the walker
 * can have written, whatever accessed and dirty bits hardware added.
 */

#include <quire/batch.h>
#include <quire/table.h>

typedef uint64_t qr_pte;

enum pte_kind {
    PTE_EMPTY,
    PTE_TABLE,
    PTE_LEAF, /* with rights, or without any (QR_PROT_NONE) */
    PTE_MARK,
};

struct format_traits;
typedef const struct format_traits *walk_format;

struct format_traits {
    struct qr_format_info info;
    unsigned entry_bytes;   /* 4 or 8 */
    bool break_before_make; /* a live entry may not be replaced by another live one */
    bool split_live;        /* ... but by a table that means the same; read at run time */
    bool dirty_is_a_right;  /* protect() depends on the dirty bit, which hardware may set */
    bool root_is_loaded;    /* the CPU reads the root once: its entries are all made with it */
    unsigned options;       /* of the format's own functions */

    unsigned (*shift)(walk_format f, unsigned level); /* log2 of the bytes that an entry maps */
    unsigned (*index_bits)(walk_format f, unsigned level); /* log2 of the entries of a table */

    enum pte_kind (*kind)(walk_format f, qr_pte pte, unsigned level);
    bool (*present)(walk_format f, qr_pte pte,
                    unsigned level); /* of a leaf: hardware may have cached it */

    qr_pte (*make_table)(walk_format f, qr_pa pa, unsigned level);
    qr_pa (*read_table)(walk_format f, qr_pte pte, unsigned level);

    qr_pte (*make_leaf)(walk_format f, const struct qr_leaf *leaf, unsigned level);
    struct qr_leaf (*read_leaf)(walk_format f, qr_pte pte, unsigned level);

    /*
     * All bits of a leaf but those that hold the address; never all zero in an entry that is not
     * empty.  Two leaves that agree in these differ in their address alone, every function here
     * XORs both with the same value, and address_change() turns the XOR of both into that of
     * their addresses.
     */
    qr_pte (*attribute_mask)(walk_format f, unsigned level);
    uint64_t (*address_change)(walk_format f, qr_pte difference, unsigned level);

    qr_pte (*make_mark)(walk_format f, struct qr_mark mark, unsigned level);
    struct qr_mark (*read_mark)(walk_format f, qr_pte pte, unsigned level);

    /* A leaf with other rights; everything else as it was. */
    qr_pte (*protect)(walk_format f, qr_pte pte, unsigned level, unsigned prot, uint8_t pkey);
    bool (*writable)(walk_format f, qr_pte pte, unsigned level);
    /* A leaf with other flags (enum qr_leaf_flag). */
    qr_pte (*flag)(walk_format f, qr_pte pte, unsigned level, unsigned set_flags,
                   unsigned clear_flags);
    /*
     * Groups: aligned runs of 1 << info.group_bits[level] leaves that say of each other that they
     * differ in consecutive addresses alone.  grouped() is false for anything else; group() makes
     * a member of a plain leaf, ungroup() the plain leaf of the member at @index of its table.
     * NULL where a format has no groups.
     */
    bool (*grouped)(walk_format f, qr_pte pte);
    qr_pte (*group)(walk_format f, qr_pte pte);
    qr_pte (*ungroup)(walk_format f, qr_pte pte, size_t index);

    /* Hardware that cached @old could allow what @new does not, or miss setting a flag. */
    bool (*stricter)(walk_format f, qr_pte old, qr_pte new, unsigned level);
};

/* What every hardware can express of enum qr_prot. */
#define FORMAT_PROT (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC | QR_PROT_USER | QR_PROT_GLOBAL)

/*
 * shift and index_bits of a format whose tables are as large as a page, but for the root,
 * which has what is left of the address.
 */
static QR_ALWAYS_INLINE unsigned
format_step(walk_format f)
{
    return f->info.page_shift - (f->entry_bytes == 4 ? 2 : 3);
}

static QR_ALWAYS_INLINE unsigned
format_shift(walk_format f, unsigned level)
{
    return f->info.page_shift + format_step(f) * level;
}

static QR_ALWAYS_INLINE unsigned
format_index_bits(walk_format f, unsigned level)
{
    unsigned root_bits = f->info.va_bits - format_shift(f, f->info.levels - 1);

    return level + 1 < f->info.levels || root_bits == format_step(f) ? format_step(f) : root_bits;
}

/* The walker's instance for one format. */
struct qr_format {
    const struct format_traits *traits;
    void (*open)(struct qr_cursor *cursor, struct qr_tables *tables, struct qr_va_range range,
                 struct qr_tlb_batch *batch);
    struct qr_entry (*query)(struct qr_cursor *cursor, qr_va va);
    bool (*find)(struct qr_cursor *cursor, qr_va from, struct qr_entry *out_entry);
    enum qr_status (*prepare)(struct qr_cursor *cursor, qr_va va, unsigned level);
    void (*map)(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf);
    void (*mark)(struct qr_cursor *cursor, qr_va va, unsigned level, struct qr_mark mark);
    struct qr_entry (*unmap)(struct qr_cursor *cursor, qr_va va);
    struct qr_entry (*replace)(struct qr_cursor *cursor, qr_va va, const struct qr_leaf *leaf);
    void (*update)(struct qr_cursor *cursor, qr_va va, unsigned prot, unsigned set_flags,
                   unsigned clear_flags);
    enum qr_status (*split)(struct qr_cursor *cursor, qr_va va);
    void (*unmap_range)(struct qr_cursor *cursor, struct qr_va_range range, qr_unmap_fn fn,
                        void *context);
    void (*protect_range)(struct qr_cursor *cursor, struct qr_va_range range, unsigned prot,
                          uint8_t pkey, qr_may_write_fn may_write, void *context);
    enum qr_status (*copy_range)(struct qr_cursor *from, struct qr_cursor *to,
                                 struct qr_va_range range, const struct qr_copy_ops *ops,
                                 void *context);
    enum qr_status (*move_prepare)(struct qr_tables *tables, struct qr_va_range range, qr_va to);
    void (*move)(struct qr_tables *tables, struct qr_va_range range, qr_va to,
                 struct qr_tlb_batch *batch, qr_move_fn fn, void *context);
};

#endif
