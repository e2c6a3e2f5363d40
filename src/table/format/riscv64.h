/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TABLE_FORMAT_RISCV64_H
#define QUIRE_TABLE_FORMAT_RISCV64_H

/*
 * RISC-V 64: Sv39, Sv48 and Sv57, leaves at every level.
 *
 *       63 62..61 60..54 53................10  9  8 7 6 5 4 3 2 1 0
 * leaf  N  PBMT   0      address (55..12)     S2 S1 D A G U X W R 1
 * table 0  0      0      address (55..12)     0  0  0 0 0 0 0 0 0 1
 * none  N  PBMT   0      address (55..12)     S2 S1 D A G U 0 0 1 0
 * mark  0  0      0      value                0  0  0 0 kind(5..2) 0 0
 *
 * A present entry with R, W and X clear is a table.  W without R is reserved, so WRITE grants
 * READ; X alone means execute-only.  A leaf without any right is not present, and its bit 1
 * tells it from a mark.
 *
 * A and D are set by hardware (Svadu) or by the handler of the fault that hardware raises
 * (Svade); the entries are the same.
 *
 * PBMT (Svpbmt): 0 as the platform says, 1 uncached memory, 2 device.  There is no write-through;
 * it becomes uncached memory.  A CPU without the extension raises faults for 1 and 2; in its
 * formats (riscv64_basic.c) everything is as the platform says.
 *
 * N (Svnapot): this entry and 15 neighbours, an aligned group, are all the same and map 64 KiB;
 * bits 13 to 10 are 1000.
 */
#include "table/walk.h"

#define PTE_V     ((qr_pte)1 << 0)
#define PTE_R     ((qr_pte)1 << 1)
#define PTE_W     ((qr_pte)1 << 2)
#define PTE_X     ((qr_pte)1 << 3)
#define PTE_U     ((qr_pte)1 << 4)
#define PTE_G     ((qr_pte)1 << 5)
#define PTE_A     ((qr_pte)1 << 6)
#define PTE_D     ((qr_pte)1 << 7)
#define PTE_S1    ((qr_pte)1 << 8)
#define PTE_S2    ((qr_pte)1 << 9)
#define PTE_FIELD ((qr_pte)0x003ffffffffffc00) /* bits 10 to 53 */
#define PTE_N     ((qr_pte)1 << 63)
#define PTE_NC    ((qr_pte)1 << 61)
#define PTE_IO    ((qr_pte)2 << 61)
#define PTE_NO    PTE_R /* only where V is clear: a leaf without rights */

#define FIELD_SHIFT 10
#define MARK_SHIFT  2 /* of the kind */

static QR_ALWAYS_INLINE enum pte_kind
rv_kind(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    if ((pte & PTE_V) != 0)
        return (pte & (PTE_R | PTE_W | PTE_X)) != 0 ? PTE_LEAF : PTE_TABLE;
    if (pte == 0)
        return PTE_EMPTY;
    return (pte & PTE_NO) != 0 ? PTE_LEAF : PTE_MARK;
}

static QR_ALWAYS_INLINE bool
rv_present(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    return (pte & PTE_V) != 0;
}

static QR_ALWAYS_INLINE qr_pte
rv_put_address(qr_pa pa)
{
    qr_debug_assert(pa.v >> 56 == 0);
    return pa.v >> (12 - FIELD_SHIFT);
}

static QR_ALWAYS_INLINE uint64_t
rv_address_change(walk_format f, qr_pte difference, unsigned level)
{
    (void)f, (void)level;
    return (difference & PTE_FIELD) << (12 - FIELD_SHIFT);
}

static QR_ALWAYS_INLINE qr_pte
rv_attribute_mask(walk_format f, unsigned level)
{
    (void)f, (void)level;
    return ~PTE_FIELD;
}

static QR_ALWAYS_INLINE qr_pte
rv_make_table(walk_format f, qr_pa pa, unsigned level)
{
    (void)f, (void)level;
    return rv_put_address(pa) | PTE_V;
}

static QR_ALWAYS_INLINE qr_pa
rv_read_table(walk_format f, qr_pte pte, unsigned level)
{
    return qr_pa_of(rv_address_change(f, pte, level));
}

static QR_ALWAYS_INLINE qr_pte
rv_make_mark(walk_format f, struct qr_mark mark, unsigned level)
{
    (void)f, (void)level;
    return (mark.value << FIELD_SHIFT & PTE_FIELD) | (qr_pte)mark.kind << MARK_SHIFT;
}

static QR_ALWAYS_INLINE struct qr_mark
rv_read_mark(walk_format f, qr_pte pte, unsigned level)
{
    struct qr_mark mark;

    (void)f, (void)level;
    mark.kind = (enum qr_mark_kind)(pte >> MARK_SHIFT & 15);
    mark.value = (pte & PTE_FIELD) >> FIELD_SHIFT;
    return mark;
}

static QR_ALWAYS_INLINE qr_pte
rv_rights(unsigned prot)
{
    qr_pte bits = prot;
    qr_pte rights = (bits & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)) << 1;

    rights |= rights != 0 ? PTE_V : PTE_NO;
    rights |= (rights & PTE_W) >> 1; /* R */
    return rights | (bits & (QR_PROT_USER | QR_PROT_GLOBAL)) << 1;
}
QR_STATIC_ASSERT(QR_PROT_READ << 1 == PTE_R && QR_PROT_WRITE << 1 == PTE_W &&
                     QR_PROT_EXEC << 1 == PTE_X && QR_PROT_USER << 1 == PTE_U &&
                     QR_PROT_GLOBAL << 1 == PTE_G,
                 "rv_rights() and rv_read_leaf() shift the bits into their places");

static QR_ALWAYS_INLINE qr_pte
rv_protect(walk_format f, qr_pte pte, unsigned level, unsigned prot, uint8_t pkey)
{
    (void)f, (void)level, (void)pkey;
    return (pte & ~(PTE_V | PTE_R | PTE_W | PTE_X | PTE_U | PTE_G)) | rv_rights(prot);
}

static QR_ALWAYS_INLINE qr_pte
rv_cache(walk_format f, unsigned cache)
{
    if (f->info.cache_mask == 1 << QR_CACHE_WRITE_BACK || cache == QR_CACHE_WRITE_BACK)
        return 0;
    return cache == QR_CACHE_UNCACHED ? PTE_IO : PTE_NC;
}

static QR_ALWAYS_INLINE uint8_t
rv_read_cache(qr_pte pte)
{
    if ((pte & PTE_IO) != 0)
        return QR_CACHE_UNCACHED;
    return (pte & PTE_NC) != 0 ? QR_CACHE_WRITE_COMBINING : QR_CACHE_WRITE_BACK;
}

static QR_ALWAYS_INLINE qr_pte
rv_make_leaf(walk_format f, const struct qr_leaf *leaf, unsigned level)
{
    qr_pte flags = (qr_pte)(leaf->flags & 15) << 6;

    (void)level;
    return rv_put_address(leaf->pa) | rv_cache(f, leaf->cache) | flags | rv_rights(leaf->prot);
}
QR_STATIC_ASSERT(QR_LEAF_ACCESSED << 6 == PTE_A && QR_LEAF_DIRTY << 6 == PTE_D &&
                     QR_LEAF_SOFT_1 << 6 == PTE_S1 && QR_LEAF_SOFT_2 << 6 == PTE_S2,
                 "flags are shifted into their places");

static QR_ALWAYS_INLINE struct qr_leaf
rv_read_leaf(walk_format f, qr_pte pte, unsigned level)
{
    struct qr_leaf leaf;

    leaf.pa = qr_pa_of(rv_address_change(f, pte, level));
    leaf.prot = (unsigned)(pte >> 1) & (QR_PROT_USER | QR_PROT_GLOBAL);
    if ((pte & PTE_V) != 0)
        leaf.prot |= (unsigned)(pte >> 1) & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC);
    leaf.flags = (unsigned)(pte >> 6) & 15;
    leaf.level = (uint8_t)level;
    leaf.cache = rv_read_cache(pte);
    leaf.pkey = 0;
    return leaf;
}

static QR_ALWAYS_INLINE bool
rv_writable(walk_format f, qr_pte pte, unsigned level)
{
    (void)f, (void)level;
    return (pte & PTE_W) != 0;
}

static QR_ALWAYS_INLINE qr_pte
rv_flag(walk_format f, qr_pte pte, unsigned level, unsigned set_flags, unsigned clear_flags)
{
    (void)f, (void)level;
    return (pte & ~((qr_pte)(clear_flags & 15) << 6)) | (qr_pte)(set_flags & 15) << 6;
}

/* USER grants the user and takes from the kernel. */
static QR_ALWAYS_INLINE bool
rv_stricter(walk_format f, qr_pte old, qr_pte new, unsigned level)
{
    qr_pte lost = old & ~new &(PTE_V | PTE_R | PTE_W | PTE_X | PTE_G | PTE_A | PTE_D);

    (void)f, (void)level;
    return (old & PTE_V) != 0 && (lost | ((old ^ new) & PTE_U)) != 0;
}

static QR_ALWAYS_INLINE bool
rv_grouped(walk_format f, qr_pte pte)
{
    (void)f;
    return (pte & PTE_N) != 0;
}

/* Where a member has its place in the group, it has the group's size. */
#define GROUP_PLACE ((qr_pte)15 << FIELD_SHIFT)
#define GROUP_SIZE  ((qr_pte)8 << FIELD_SHIFT)

static QR_ALWAYS_INLINE qr_pte
rv_group(walk_format f, qr_pte pte)
{
    (void)f;
    return (pte & ~GROUP_PLACE) | GROUP_SIZE | PTE_N;
}

static QR_ALWAYS_INLINE qr_pte
rv_ungroup(walk_format f, qr_pte pte, size_t index)
{
    (void)f;
    return (pte & ~(GROUP_PLACE | PTE_N)) | (qr_pte)(index & 15) << FIELD_SHIFT;
}

#define RV_CACHES \
    (1 << QR_CACHE_WRITE_BACK | 1 << QR_CACHE_WRITE_COMBINING | 1 << QR_CACHE_UNCACHED)

#define RV_TRAITS(name_, levels_, caches_)                                                         \
    {                                                                                              \
        .info = {.name = name_,                                                                    \
                 .levels = levels_,                                                                \
                 .page_shift = 12,                                                                 \
                 .leaf_levels = (1 << levels_) - 1,                                                \
                 .va_bits = 12 + 9 * levels_,                                                      \
                 .pa_bits = 56,                                                                    \
                 .mark_bits = 44,                                                                  \
                 .prot_mask = FORMAT_PROT,                                                         \
                 .cache_mask = caches_,                                                            \
                 .group_bits = {4},                                                                \
                 .no_execute = true},                                                              \
        .entry_bytes = 8, .shift = format_shift, .index_bits = format_index_bits, .kind = rv_kind, \
        .present = rv_present, .make_table = rv_make_table, .read_table = rv_read_table,           \
        .make_leaf = rv_make_leaf, .read_leaf = rv_read_leaf, .attribute_mask = rv_attribute_mask, \
        .address_change = rv_address_change, .make_mark = rv_make_mark, .read_mark = rv_read_mark, \
        .protect = rv_protect, .writable = rv_writable, .flag = rv_flag, .stricter = rv_stricter,  \
        .grouped = rv_grouped, .group = rv_group, .ungroup = rv_ungroup,                           \
    }

#define RV_FORMAT(name, levels, caches)                                                 \
    static const struct format_traits name##_traits = RV_TRAITS(#name, levels, caches); \
    WALK_INSTANTIATE(name, name##_traits)

#endif
