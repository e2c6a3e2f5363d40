/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_FORMAT_X86_H
#define QUIRE_TABLE_FORMAT_X86_H

/*
 * The entries of all three x86 formats.  Their low twelve bits agree; what differs follows from
 * the traits: the width of an entry, and whether it has keys and the no-execute bit.
 *
 *              63 62..59 58..52 51............12 11 10  9  8  7   6  5  4   3   2  1  0
 * 4K           NX  key    0     address          -  S2 S1  G  PAT D  A PCD PWT US RW 1
 * 2M, 1G       NX  key    0     address      PAT -  S2 S1  G  1   D  A PCD PWT US RW 1   (PAT is bit 12)
 * table        -   -      0     address          -  -  -   -  0   -  A  0   0  1  1  1
 * none         NX  key    0     ~address         1  S2 S1  G  .   D  A PCD PWT US 0  0
 * mark         0   0      0     ~value           0  0  0   0  0   0  0 [kind ]       0   (kind in bits 4..1)
 *
 * "none" is a leaf without any right (QR_PROT_NONE).  Hardware has no such
 * thing; clearing US alone would still let the kernel's copies through.  So the
 * entry is not present, and bit 11 tells it from a mark.
 *
 * A processor with the L1 terminal fault reads through the address bits of
 * entries that are not present.  So those bits hold complements: swap slots and
 * frame numbers are small, their complements name addresses with all the high
 * bits set, where no cacheable memory is.  (Without PAE there are too few bits
 * for that: memory just below 4 GiB would be named, if a machine had any.)
 *
 * Cache attributes go through the PAT register, which the kernel sets to QR_X86_PAT:
 * slots 0 to 3 are as at power-on and slot 6 is write-combining.  Power-on has
 * uncached there, so that forgetting to set it is slow, not wrong.
 *
 * Table entries grant everything and leave the decision to the leaf; their
 * accessed bit is set from the start, so hardware never writes to them.
 */
#include "table/walk.h"

#define PTE_P   ((qr_pte)1 << 0)
#define PTE_RW  ((qr_pte)1 << 1)
#define PTE_US  ((qr_pte)1 << 2)
#define PTE_PWT ((qr_pte)1 << 3)
#define PTE_PCD ((qr_pte)1 << 4)
#define PTE_A   ((qr_pte)1 << 5)
#define PTE_D   ((qr_pte)1 << 6)
#define PTE_PS  ((qr_pte)1 << 7) /* large leaf; at level 0 the PAT bit */
#define PTE_G   ((qr_pte)1 << 8)
#define PTE_S1  ((qr_pte)1 << 9)
#define PTE_S2  ((qr_pte)1 << 10)
#define PTE_NO  ((qr_pte)1 << 11) /* only where P is clear: a leaf without rights */
#define PTE_NX  ((qr_pte)1 << 63) /* of wide entries */

#define PTE_PAT_LARGE ((qr_pte)1 << 12)
#define PTE_KEY_SHIFT 59
#define PTE_KEY       ((qr_pte)15 << PTE_KEY_SHIFT)
#define MARK_SHIFT    1 /* of the kind */

static QR_ALWAYS_INLINE bool
x86_is_wide(walk_format f)
{
    return f->entry_bytes == 8;
}

/* The bits of an address or of a mark's value. */
static QR_ALWAYS_INLINE qr_pte
x86_field(walk_format f)
{
    return x86_is_wide(f) ? (qr_pte)0x000ffffffffff000 : (qr_pte)0xfffff000;
}

static QR_ALWAYS_INLINE enum pte_kind
x86_kind(walk_format f, qr_pte pte, unsigned level)
{
    (void)f;
    if ((pte & PTE_P) != 0)
        return level == 0 || (pte & PTE_PS) != 0 ? PTE_LEAF : PTE_TABLE;
    if (pte == 0)
        return PTE_EMPTY;
    return (pte & PTE_NO) != 0 ? PTE_LEAF : PTE_MARK;
}

static QR_ALWAYS_INLINE bool
x86_present(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    return (pte & PTE_P) != 0;
}

static QR_ALWAYS_INLINE qr_pte
x86_make_table(walk_format f, qr_pa pa, unsigned level)
{
    qr_debug_assert((pa.v & ~x86_field(f)) == 0);
    /* The four entries of PAE's root have no rights and no accessed bit: all that is reserved. */
    if (f->root_is_loaded && level + 1 == f->info.levels)
        return pa.v | PTE_P;
    return pa.v | PTE_A | PTE_US | PTE_RW | PTE_P;
}

static QR_ALWAYS_INLINE qr_pa
x86_read_table(walk_format f, qr_pte pte, unsigned level)
{
    (void)level;
    return qr_pa_of(pte & x86_field(f));
}

/* A present leaf from either kind of leaf, and back. */
static QR_ALWAYS_INLINE qr_pte
x86_show(walk_format f, qr_pte pte)
{
    return (pte & PTE_P) != 0 ? pte : (pte ^ x86_field(f) ^ PTE_NO) | PTE_P;
}

static QR_ALWAYS_INLINE qr_pte
x86_hide(walk_format f, qr_pte pte)
{
    return (pte & ~(PTE_P | PTE_RW)) ^ x86_field(f) ^ PTE_NO;
}

static QR_ALWAYS_INLINE qr_pte
x86_rights(walk_format f, unsigned prot, uint8_t pkey)
{
    qr_pte bits = prot;
    qr_pte rights =
        (bits & QR_PROT_WRITE) | (bits & QR_PROT_USER) >> 1 | (bits & QR_PROT_GLOBAL) << 4;

    if (f->info.no_execute)
        rights |= (~bits & QR_PROT_EXEC) << 61;
    if (f->info.protection_keys)
        rights |= (qr_pte)(pkey & 15) << PTE_KEY_SHIFT;
    return rights;
}
QR_STATIC_ASSERT(QR_PROT_WRITE == PTE_RW && QR_PROT_USER == PTE_US << 1 &&
                     (qr_pte)QR_PROT_GLOBAL << 4 == PTE_G && (qr_pte)QR_PROT_EXEC << 61 == PTE_NX,
                 "x86_rights() shifts the bits into their places");

static QR_ALWAYS_INLINE qr_pte
x86_pat_bit(unsigned level)
{
    return level == 0 ? PTE_PS : PTE_PAT_LARGE;
}

static QR_ALWAYS_INLINE qr_pte
x86_cache(unsigned cache, unsigned level)
{
    if (qr_likely(cache == QR_CACHE_WRITE_BACK))
        return 0; /* slot 0 */
    switch (cache) {
    case QR_CACHE_WRITE_THROUGH:
        return PTE_PWT; /* slot 1 */
    case QR_CACHE_UNCACHED:
        return PTE_PCD | PTE_PWT; /* slot 3 */
    case QR_CACHE_WRITE_COMBINING:
        return x86_pat_bit(level) | PTE_PCD; /* slot 6 */
    default:
        return 0;
    }
}

static QR_ALWAYS_INLINE uint8_t
x86_read_cache(qr_pte pte, unsigned level)
{
    if (qr_likely((pte & (PTE_PCD | PTE_PWT)) == 0))
        return QR_CACHE_WRITE_BACK;
    if ((pte & x86_pat_bit(level)) != 0)
        return QR_CACHE_WRITE_COMBINING;
    return (pte & PTE_PCD) != 0 ? QR_CACHE_UNCACHED : QR_CACHE_WRITE_THROUGH;
}

static QR_ALWAYS_INLINE qr_pte
x86_flag_bits(unsigned flags)
{
    qr_pte bits = flags;

    return (bits & (QR_LEAF_ACCESSED | QR_LEAF_DIRTY)) << 5 |
           (bits & (QR_LEAF_SOFT_1 | QR_LEAF_SOFT_2)) << 7;
}
QR_STATIC_ASSERT(QR_LEAF_ACCESSED << 5 == PTE_A && QR_LEAF_DIRTY << 5 == PTE_D &&
                     QR_LEAF_SOFT_1 << 7 == PTE_S1 && QR_LEAF_SOFT_2 << 7 == PTE_S2,
                 "x86_flag_bits() and x86_read_leaf() shift the bits into their places");

/*
 * Addresses.  A wide entry holds them as they are.  A narrow one has bits 32 to 39 of a 4 MiB
 * page's address in its bits 13 to 20 (PSE-36), and no more than 32 bits elsewhere.
 */
#define NARROW_LARGE ((qr_pte)0xffc00000)
#define NARROW_HIGH  ((qr_pte)0x001fe000)

static QR_ALWAYS_INLINE qr_pte
x86_address_mask(walk_format f, unsigned level)
{
    if (level == 0)
        return x86_field(f);
    return x86_is_wide(f) ? x86_field(f) & ~PTE_PAT_LARGE : NARROW_LARGE | NARROW_HIGH;
}

static QR_ALWAYS_INLINE uint64_t
x86_address_change(walk_format f, qr_pte difference, unsigned level)
{
    if (x86_is_wide(f) || level == 0)
        return difference;
    return (difference & NARROW_LARGE) | (difference & NARROW_HIGH) << 19;
}

static QR_ALWAYS_INLINE qr_pte
x86_put_address(walk_format f, qr_pa pa, unsigned level)
{
    qr_debug_assert(pa.v >> (level == 0 ? f->info.pa_bits : 52) == 0);
    if (x86_is_wide(f) || level == 0)
        return pa.v;
    return (pa.v & NARROW_LARGE) | (pa.v >> 19 & NARROW_HIGH);
}

static QR_ALWAYS_INLINE qr_pte
x86_attribute_mask(walk_format f, unsigned level)
{
    return ~x86_address_mask(f, level);
}

static QR_ALWAYS_INLINE qr_pte
x86_protect(walk_format f, qr_pte pte, unsigned level, unsigned prot, uint8_t pkey)
{
    qr_pte rights = PTE_RW | PTE_US | PTE_G | (f->info.no_execute ? PTE_NX : 0) |
                    (f->info.protection_keys ? PTE_KEY : 0);

    (void)level;
    pte = (x86_show(f, pte) & ~rights) | x86_rights(f, prot, pkey);
    if (qr_unlikely((prot & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)) == 0))
        return x86_hide(f, pte);
    return pte;
}

static QR_ALWAYS_INLINE qr_pte
x86_make_leaf(walk_format f, const struct qr_leaf *leaf, unsigned level)
{
    qr_pte pte = x86_put_address(f, leaf->pa, level) | PTE_P | (level > 0 ? PTE_PS : 0);

    pte |= x86_cache(leaf->cache, level) | x86_flag_bits(leaf->flags);
    return x86_protect(f, pte, level, leaf->prot, leaf->pkey);
}

static QR_ALWAYS_INLINE unsigned
x86_read_prot(walk_format f, qr_pte pte)
{
    unsigned prot = (pte & PTE_US) != 0 ? QR_PROT_USER : 0;

    prot |= (pte & PTE_G) != 0 ? QR_PROT_GLOBAL : 0;
    if ((pte & PTE_P) == 0)
        return prot;
    prot |= QR_PROT_READ;
    prot |= (pte & PTE_RW) != 0 ? QR_PROT_WRITE : 0;
    prot |= f->info.no_execute && (pte & PTE_NX) != 0 ? 0 : QR_PROT_EXEC;
    return prot;
}

static QR_ALWAYS_INLINE struct qr_leaf
x86_read_leaf(walk_format f, qr_pte pte, unsigned level)
{
    struct qr_leaf leaf;

    leaf.prot = x86_read_prot(f, pte);
    leaf.pa = qr_pa_of(x86_address_change(f, x86_show(f, pte) & x86_address_mask(f, level), level));
    leaf.flags = (unsigned)((pte & (PTE_A | PTE_D)) >> 5);
    leaf.flags |= (unsigned)((pte & (PTE_S1 | PTE_S2)) >> 7);
    leaf.level = (uint8_t)level;
    leaf.cache = x86_read_cache(x86_show(f, pte), level);
    leaf.pkey = f->info.protection_keys ? (uint8_t)((pte & PTE_KEY) >> PTE_KEY_SHIFT) : 0;
    return leaf;
}

/* A narrow entry keeps the upper seven bits of a mark's value in bits 10 to 4. */
#define NARROW_VALUE ((qr_pte)0x7f0)

static QR_ALWAYS_INLINE qr_pte
x86_make_mark(walk_format f, struct qr_mark mark, unsigned level)
{
    qr_pte pte = (~(mark.value << 12) & x86_field(f)) | (qr_pte)mark.kind << MARK_SHIFT;

    (void)level;
    return x86_is_wide(f) ? pte : pte | (mark.value >> 16 & NARROW_VALUE);
}

static QR_ALWAYS_INLINE struct qr_mark
x86_read_mark(walk_format f, qr_pte pte, unsigned level)
{
    struct qr_mark mark;

    (void)level;
    mark.kind = (enum qr_mark_kind)((pte >> MARK_SHIFT) & (x86_is_wide(f) ? 15 : 7));
    mark.value = (~pte & x86_field(f)) >> 12;
    if (!x86_is_wide(f))
        mark.value |= (pte & NARROW_VALUE) << 16;
    return mark;
}
QR_STATIC_ASSERT(QR_MARK_KIND_COUNT <= 8, "a narrow entry has three bits for the kind");

static QR_ALWAYS_INLINE bool
x86_writable(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    return (pte & PTE_RW) != 0;
}

static QR_ALWAYS_INLINE qr_pte
x86_flag(walk_format f, qr_pte pte, unsigned level, unsigned set_flags, unsigned clear_flags)
{
    (void)f, (void)level;
    return (pte & ~x86_flag_bits(clear_flags)) | x86_flag_bits(set_flags);
}

static QR_ALWAYS_INLINE bool
x86_stricter(walk_format f, qr_pte old, qr_pte new, unsigned level)
{
    qr_pte lost = old & ~new &(PTE_P | PTE_RW | PTE_US | PTE_G | PTE_A | PTE_D);
    qr_pte forbidden = new & ~old &(f->info.no_execute ? PTE_NX : 0);
    qr_pte key = (old ^ new) & (f->info.protection_keys ? PTE_KEY : 0);

    (void)level;
    return (old & PTE_P) != 0 && (lost | forbidden | key) != 0;
}

#define X86_FUNCTIONS                                                                             \
    .shift = format_shift, .index_bits = format_index_bits, .kind = x86_kind,                     \
    .present = x86_present, .make_table = x86_make_table, .read_table = x86_read_table,           \
    .make_leaf = x86_make_leaf, .read_leaf = x86_read_leaf, .attribute_mask = x86_attribute_mask, \
    .address_change = x86_address_change, .make_mark = x86_make_mark, .read_mark = x86_read_mark, \
    .protect = x86_protect, .writable = x86_writable, .flag = x86_flag, .stricter = x86_stricter

#endif
