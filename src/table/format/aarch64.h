/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_FORMAT_AARCH64_H
#define QUIRE_TABLE_FORMAT_AARCH64_H

/*
 * AArch64 stage 1 (VMSAv8-64): granules of 4, 16 and 64 KiB, 39 to 52 bits.
 *
 *       63..59 58 57 56 55 54  53  52   51  50 49..12           11 10 9 8 7 6 5 4..2 1 0
 * page  0      0  S2 S1 SD UXN PXN CONT DBM GP address          nG AF SH  AP  0 attr 1 1
 * block 0      0  S2 S1 SD UXN PXN CONT DBM GP address          nG AF SH  AP  0 attr 0 1
 * table 0      0  0  0  0  0   0   0    0   0  address          0  0  0   0   0 0    1 1
 * none  0      1  S2 S1 SD UXN PXN 0    0   GP address          nG AF SH  AP  0 attr . 0
 * mark  0      0  0  0  0  0   0   0    value (51..12)          0  0  0   0   0 kind (4..1) 0
 *
 * Where the address's high bits are: bits 47..12 hold it as it is.  With 64 KiB pages bits 15..12
 * are free, and hold bits 51..48 (LPA).  With 52 bits and smaller pages (LPA2) bits 49..12 hold
 * it as it is and bits 9..8 bits 51..50; TCR then says how memory is shared, for all of it.
 *
 * AP[1] (bit 6) is USER, AP[2] (bit 7) forbids writing.  DBM says that the leaf is writable, and
 * AP[2] that it is clean: where hardware manages dirty state it clears AP[2] at the first
 * write, elsewhere that write faults and the handler sets the dirty flag; the entries are
 * the same.  A leaf that lost WRITE while dirty remembers that in SD.  AF is the accessed flag,
 * in the same two ways.
 *
 * Users' pages are never executable for the kernel (PXN) and the kernel's never for users (UXN).
 * attr is an index into MAIR_EL1, which holds QR_AARCH64_MAIR.  Table entries restrict nothing.
 *
 * A live entry is never replaced by one that maps other memory, or a table: break, flush, make.
 * CPUs with FEAT_BBM at level 2 allow the table where it means the same (split_live).  Whether
 * memory has tags counts as a right, not as another memory type, and may change in place.
 *
 * CONT says that this entry and its neighbours, an aligned group, differ in nothing but consecutive
 * addresses.
 */
#include "table/walk.h"

#define PTE_VALID   ((qr_pte)1 << 0)
#define PTE_PAGE    ((qr_pte)1 << 1) /* page or table, not block */
#define PTE_ATTR    ((qr_pte)7 << 2)
#define PTE_USER    ((qr_pte)1 << 6)
#define PTE_CLEAN   ((qr_pte)1 << 7) /* AP[2]: hardware may not write now */
#define PTE_SHARED  ((qr_pte)3 << 8) /* inner shareable */
#define PTE_AF      ((qr_pte)1 << 10)
#define PTE_NG      ((qr_pte)1 << 11)
#define PTE_GUARDED ((qr_pte)1 << 50)
#define PTE_DBM     ((qr_pte)1 << 51)
#define PTE_CONT    ((qr_pte)1 << 52)
#define PTE_PXN     ((qr_pte)1 << 53)
#define PTE_UXN     ((qr_pte)1 << 54)
#define PTE_SD      ((qr_pte)1 << 55) /* dirty, not writable */
#define PTE_S1      ((qr_pte)1 << 56)
#define PTE_S2      ((qr_pte)1 << 57)
#define PTE_NO      ((qr_pte)1 << 58) /* only where VALID is clear: a leaf without rights */

#define ATTR_SHIFT  2
#define ATTR_TAGGED ((qr_pte)4 << ATTR_SHIFT)

#define MARK_SHIFT 1 /* of the kind */
#define MARK_FIELD ((qr_pte)0x000ffffffffff000)

#define ANY_RIGHT (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)

/* ---- Addresses ----------------------------------------------------------------- */

static QR_ALWAYS_INLINE bool
a64_is_lpa2(walk_format f)
{
    return f->info.pa_bits == 52 && f->info.page_shift < 16;
}

static QR_ALWAYS_INLINE qr_pte
a64_address_mask(walk_format f)
{
    qr_pte page = ((qr_pte)1 << f->info.page_shift) - 1;

    if (a64_is_lpa2(f))
        return (0x0003ffffffffffff & ~page) | PTE_SHARED;
    return (0x0000ffffffffffff & ~page) | (f->info.pa_bits == 52 ? 0xf000 : 0);
}

static QR_ALWAYS_INLINE uint64_t
a64_address(walk_format f, qr_pte pte)
{
    qr_pte page = ((qr_pte)1 << f->info.page_shift) - 1;
    uint64_t pa = pte & a64_address_mask(f) & ~page;

    if (a64_is_lpa2(f))
        return pa | (pte & PTE_SHARED) << 42;
    return f->info.pa_bits == 52 ? pa | (pte & 0xf000) << 36 : pa;
}

static QR_ALWAYS_INLINE qr_pte
a64_put_address(walk_format f, qr_pa pa)
{
    qr_debug_assert(pa.v >> f->info.pa_bits == 0);
    if (a64_is_lpa2(f))
        return (pa.v & 0x0003ffffffffffff) | (pa.v >> 42 & PTE_SHARED);
    return (pa.v & 0x0000ffffffffffff) | (pa.v >> 36 & 0xf000);
}

static QR_ALWAYS_INLINE qr_pte
a64_attribute_mask(walk_format f, unsigned level)
{
    (void)level;
    return ~a64_address_mask(f);
}

static QR_ALWAYS_INLINE uint64_t
a64_address_change(walk_format f, qr_pte difference, unsigned level)
{
    (void)level;
    return a64_address(f, difference);
}

/* ---- Kinds ----------------------------------------------------------------------- */

static QR_ALWAYS_INLINE enum pte_kind
a64_kind(walk_format f, qr_pte pte, unsigned level)
{
    (void)f;
    if ((pte & PTE_VALID) != 0)
        return level > 0 && (pte & PTE_PAGE) != 0 ? PTE_TABLE : PTE_LEAF;
    if (pte == 0)
        return PTE_EMPTY;
    return (pte & PTE_NO) != 0 ? PTE_LEAF : PTE_MARK;
}

static QR_ALWAYS_INLINE bool
a64_present(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    return (pte & PTE_VALID) != 0;
}

static QR_ALWAYS_INLINE qr_pte
a64_make_table(walk_format f, qr_pa pa, unsigned level)
{
    (void)level;
    return a64_put_address(f, pa) | PTE_PAGE | PTE_VALID;
}

static QR_ALWAYS_INLINE qr_pa
a64_read_table(walk_format f, qr_pte pte, unsigned level)
{
    (void)level;
    return qr_pa_of(a64_address(f, pte));
}

static QR_ALWAYS_INLINE qr_pte
a64_make_mark(walk_format f, struct qr_mark mark, unsigned level)
{
    (void)f, (void)level;
    return (mark.value << 12 & MARK_FIELD) | (qr_pte)mark.kind << MARK_SHIFT;
}

static QR_ALWAYS_INLINE struct qr_mark
a64_read_mark(walk_format f, qr_pte pte, unsigned level)
{
    struct qr_mark mark;

    (void)f, (void)level;
    mark.kind = (enum qr_mark_kind)(pte >> MARK_SHIFT & 15);
    mark.value = (pte & MARK_FIELD) >> 12;
    return mark;
}

/* ---- Leaves ---------------------------------------------------------------------- */

static QR_ALWAYS_INLINE bool
a64_writable(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    return (pte & PTE_DBM) != 0;
}

static QR_ALWAYS_INLINE bool
a64_is_dirty(qr_pte pte)
{
    return (pte & PTE_SD) != 0 || (pte & PTE_CLEAN) == 0;
}

/* Dirty is: may be written now, or SD where it may not be written at all. */
static QR_ALWAYS_INLINE qr_pte
a64_set_dirty(qr_pte pte, bool dirty)
{
    pte = (pte & ~PTE_SD) | PTE_CLEAN;
    if (dirty)
        pte ^= (pte & PTE_DBM) != 0 ? PTE_CLEAN : PTE_SD;
    return pte;
}

static QR_ALWAYS_INLINE qr_pte
a64_rights(unsigned prot)
{
    bool user = (prot & QR_PROT_USER) != 0;
    bool exec = (prot & QR_PROT_EXEC) != 0;
    qr_pte bits = (prot & ANY_RIGHT) != 0 ? PTE_VALID : PTE_NO;

    bits |= (prot & QR_PROT_WRITE) != 0 ? PTE_DBM : 0;
    bits |= user ? PTE_USER : 0;
    bits |= exec && user ? 0 : PTE_UXN;
    bits |= exec && !user ? 0 : PTE_PXN;
    bits |= (prot & QR_PROT_GLOBAL) != 0 ? 0 : PTE_NG;
    bits |= (prot & QR_PROT_GUARDED) != 0 ? PTE_GUARDED : 0;
    return bits;
}

/* Write-back memory is tagged or not; other memory cannot be. */
static QR_ALWAYS_INLINE qr_pte
a64_tag(qr_pte pte, unsigned prot)
{
    qr_pte attr = pte & PTE_ATTR;

    if (attr != 0 && attr != ATTR_TAGGED)
        return pte;
    return (pte & ~PTE_ATTR) | ((prot & QR_PROT_TAGGED) != 0 ? ATTR_TAGGED : 0);
}

static QR_ALWAYS_INLINE qr_pte
a64_protect(walk_format f, qr_pte pte, unsigned level, unsigned prot, uint8_t pkey)
{
    qr_pte rights =
        PTE_VALID | PTE_NO | PTE_DBM | PTE_USER | PTE_UXN | PTE_PXN | PTE_NG | PTE_GUARDED;
    bool dirty = a64_is_dirty(pte);

    (void)f, (void)level, (void)pkey;
    pte = (a64_tag(pte, prot) & ~rights) | a64_rights(prot);
    return a64_set_dirty(pte, dirty);
}

static QR_ALWAYS_INLINE qr_pte
a64_flag(walk_format f, qr_pte pte, unsigned level, unsigned set_flags, unsigned clear_flags)
{
    qr_pte clear = ((clear_flags & QR_LEAF_ACCESSED) != 0 ? PTE_AF : 0) |
                   ((clear_flags & QR_LEAF_SOFT_1) != 0 ? PTE_S1 : 0) |
                   ((clear_flags & QR_LEAF_SOFT_2) != 0 ? PTE_S2 : 0);
    qr_pte set = ((set_flags & QR_LEAF_ACCESSED) != 0 ? PTE_AF : 0) |
                 ((set_flags & QR_LEAF_SOFT_1) != 0 ? PTE_S1 : 0) |
                 ((set_flags & QR_LEAF_SOFT_2) != 0 ? PTE_S2 : 0);
    bool dirty = a64_is_dirty(pte);

    (void)f, (void)level;
    dirty = (dirty && (clear_flags & QR_LEAF_DIRTY) == 0) || (set_flags & QR_LEAF_DIRTY) != 0;
    return a64_set_dirty((pte & ~clear) | set, dirty);
}

static QR_ALWAYS_INLINE qr_pte
a64_make_leaf(walk_format f, const struct qr_leaf *leaf, unsigned level)
{
    qr_pte pte = a64_put_address(f, leaf->pa) | (level == 0 ? PTE_PAGE : 0) | PTE_CLEAN;

    if (!a64_is_lpa2(f))
        pte |= PTE_SHARED;
    pte |= (qr_pte)(leaf->cache & 3) << ATTR_SHIFT;
    pte = a64_flag(f, pte, level, leaf->flags, 0);
    return a64_protect(f, pte, level, leaf->prot, 0);
}

static QR_ALWAYS_INLINE unsigned
a64_read_prot(qr_pte pte)
{
    unsigned prot = (pte & PTE_USER) != 0 ? QR_PROT_USER : 0;

    prot |= (pte & PTE_NG) != 0 ? 0 : QR_PROT_GLOBAL;
    prot |= (pte & PTE_GUARDED) != 0 ? QR_PROT_GUARDED : 0;
    prot |= (pte & PTE_ATTR) == ATTR_TAGGED ? QR_PROT_TAGGED : 0;
    if ((pte & PTE_VALID) == 0)
        return prot;
    prot |= QR_PROT_READ;
    prot |= (pte & PTE_DBM) != 0 ? QR_PROT_WRITE : 0;
    prot |= (pte & (PTE_UXN | PTE_PXN)) != (PTE_UXN | PTE_PXN) ? QR_PROT_EXEC : 0;
    return prot;
}

static QR_ALWAYS_INLINE struct qr_leaf
a64_read_leaf(walk_format f, qr_pte pte, unsigned level)
{
    unsigned attr = (unsigned)((pte & PTE_ATTR) >> ATTR_SHIFT);
    struct qr_leaf leaf;

    leaf.pa = qr_pa_of(a64_address(f, pte));
    leaf.prot = a64_read_prot(pte);
    leaf.flags = (pte & PTE_AF) != 0 ? QR_LEAF_ACCESSED : 0;
    leaf.flags |= a64_is_dirty(pte) ? QR_LEAF_DIRTY : 0;
    leaf.flags |= (pte & PTE_S1) != 0 ? QR_LEAF_SOFT_1 : 0;
    leaf.flags |= (pte & PTE_S2) != 0 ? QR_LEAF_SOFT_2 : 0;
    leaf.level = (uint8_t)level;
    leaf.cache = (uint8_t)(attr & 3);
    leaf.pkey = 0;
    return leaf;
}
QR_STATIC_ASSERT(QR_CACHE_WRITE_BACK == 0 && QR_CACHE_UNCACHED == 3 && QR_CACHE_COUNT == 4,
                 "the first four fields of QR_AARCH64_MAIR are in the order of the enum");

static QR_ALWAYS_INLINE bool
a64_stricter(walk_format f, qr_pte old, qr_pte new, unsigned level)
{
    qr_pte lost = old & ~new &(PTE_VALID | PTE_DBM | PTE_USER | PTE_AF);
    qr_pte gained = new & ~old &(PTE_UXN | PTE_PXN | PTE_NG);
    qr_pte other = (old ^ new) & (PTE_ATTR | PTE_GUARDED);

    (void)f, (void)level;
    return (old & PTE_VALID) != 0 &&
           ((lost | gained | other) != 0 || (a64_is_dirty(old) && !a64_is_dirty(new)));
}

/* ---- Groups ---------------------------------------------------------------------- */

static QR_ALWAYS_INLINE bool
a64_grouped(walk_format f, qr_pte pte)
{
    (void)f;
    return (pte & (PTE_CONT | PTE_VALID)) == (PTE_CONT | PTE_VALID);
}

static QR_ALWAYS_INLINE qr_pte
a64_group(walk_format f, qr_pte pte)
{
    (void)f;
    return pte | PTE_CONT;
}

static QR_ALWAYS_INLINE qr_pte
a64_ungroup(walk_format f, qr_pte pte, size_t index)
{
    (void)f, (void)index;
    return pte & ~PTE_CONT;
}

/*
 * name, granule (log2), levels, address bits, physical bits, levels with leaves, and the log2 of
 * a group's entries at levels 0, 1 and 2.
 */
#define A64_TRAITS(name_, split_live_, page_shift_, levels_, va_, pa_, leaves_, g0_, g1_, g2_) \
    {                                                                                          \
        .info = {.name = name_,                                                                \
                 .levels = levels_,                                                            \
                 .page_shift = page_shift_,                                                    \
                 .leaf_levels = leaves_,                                                       \
                 .va_bits = va_,                                                               \
                 .pa_bits = pa_,                                                               \
                 .mark_bits = 40,                                                              \
                 .prot_mask = FORMAT_PROT | QR_PROT_GUARDED | QR_PROT_TAGGED,                  \
                 .cache_mask = (1 << QR_CACHE_COUNT) - 1,                                      \
                 .group_bits = {g0_, g1_, g2_},                                                \
                 .roots = QR_ROOTS_TWO,                                                        \
                 .no_execute = true},                                                          \
        .entry_bytes = 8, .break_before_make = true, .split_live = split_live_,                \
        .dirty_is_a_right = true, .shift = format_shift, .index_bits = format_index_bits,      \
        .kind = a64_kind, .present = a64_present, .make_table = a64_make_table,                \
        .read_table = a64_read_table, .make_leaf = a64_make_leaf, .read_leaf = a64_read_leaf,  \
        .attribute_mask = a64_attribute_mask, .address_change = a64_address_change,            \
        .make_mark = a64_make_mark, .read_mark = a64_read_mark, .protect = a64_protect,        \
        .writable = a64_writable, .flag = a64_flag, .stricter = a64_stricter,                  \
        .grouped = a64_grouped, .group = a64_group, .ungroup = a64_ungroup,                    \
    }

/* A format, and the one for CPUs that split live leaves; the code is the same. */
#define A64_FORMAT(name, ...)                                                                \
    static const struct format_traits name##_traits = A64_TRAITS(#name, false, __VA_ARGS__); \
    static const struct format_traits name##_bbm2_traits =                                   \
        A64_TRAITS(#name "_bbm2", true, __VA_ARGS__);                                        \
    WALK_INSTANTIATE(name, name##_traits)                                                    \
    WALK_VARIANT(name##_bbm2, name, name##_bbm2_traits)

#endif
