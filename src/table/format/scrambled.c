/* SPDX-License-Identifier: MIT */
/*
 * A format that no hardware has, for tests: every level is encoded differently
 * and its tables have odd sizes, so that a walker which hands a function the
 * wrong level, index or shift fails at once instead of working by accident.
 *
 *   level   0    1    2    3 (root)
 *   bits    5    9    3    6          35 address bits, sign-extended
 *
 * An entry is one of these words, rotated left by 7 * level + 3 and XORed with
 * 0x9e3779b97f4a7c15 * (level + 1); an entry of all zero bits is empty.
 *
 *      63....57  56......17  16..13  12 11  10..7  6....2  1 0
 *      check     address     key     cache  flags  prot    tag     (address: pa / 4096)
 *      check     value       kind    0      0      0       tag     (a mark)
 *
 * tag: 1 leaf, 2 table, 3 mark.  prot and flags are the numbers of enum qr_prot
 * and enum qr_leaf_flag.  check is 85 + level; a word without it is a mistake.
 * Hardware of this format would treat a leaf without READ, WRITE and EXEC as
 * not present, and WRITE or EXEC without READ as what they say.
 */
#include <quire/assert.h>

#include "table/walk.h"

#define TAG_LEAF    1u
#define TAG_TABLE   2u
#define TAG_MARK    3u
#define PROT_SHIFT  2
#define FLAG_SHIFT  7
#define CACHE_SHIFT 11
#define KEY_SHIFT   13
#define FIELD_SHIFT 17
#define FIELD_MASK  ((qr_pte)0xffffffffff)
#define CHECK_SHIFT 57
#define RIGHTS      ((qr_pte)31 << PROT_SHIFT | (qr_pte)15 << KEY_SHIFT)

#define ANY_RIGHT (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)

static QR_ALWAYS_INLINE unsigned
scrambled_shift(walk_format f, unsigned level)
{
    static const unsigned char shift[] = {12, 17, 26, 29};

    (void)f;
    return shift[level];
}

static QR_ALWAYS_INLINE unsigned
scrambled_index_bits(walk_format f, unsigned level)
{
    static const unsigned char bits[] = {5, 9, 3, 6};

    (void)f;
    return bits[level];
}

static QR_ALWAYS_INLINE qr_pte
scrambled_encode(qr_pte plain, unsigned level)
{
    unsigned turn = 7 * level + 3;
    qr_pte word = plain | (qr_pte)(85 + level) << CHECK_SHIFT;

    word = (word << turn | word >> (64 - turn)) ^ (qr_pte)0x9e3779b97f4a7c15 * (level + 1);
    qr_assert(word != 0);
    return word;
}

static QR_ALWAYS_INLINE qr_pte
scrambled_decode(qr_pte word, unsigned level)
{
    unsigned turn = 7 * level + 3;

    word ^= (qr_pte)0x9e3779b97f4a7c15 * (level + 1);
    word = word >> turn | word << (64 - turn);
    qr_assert(word >> CHECK_SHIFT == 85 + level);
    return word & (((qr_pte)1 << CHECK_SHIFT) - 1);
}

static QR_ALWAYS_INLINE qr_pte
scrambled_word(unsigned tag, uint64_t field)
{
    return tag | (field & FIELD_MASK) << FIELD_SHIFT;
}

static QR_ALWAYS_INLINE uint64_t
scrambled_field(qr_pte plain)
{
    return plain >> FIELD_SHIFT & FIELD_MASK;
}

static QR_ALWAYS_INLINE enum pte_kind
scrambled_kind(walk_format f, qr_pte pte, unsigned level)
{
    (void)f;
    if (pte == 0)
        return PTE_EMPTY;
    switch (scrambled_decode(pte, level) & 3) {
    case TAG_LEAF:
        return PTE_LEAF;
    case TAG_TABLE:
        return PTE_TABLE;
    default:
        return PTE_MARK;
    }
}

static QR_ALWAYS_INLINE bool
scrambled_present(walk_format f, qr_pte pte, unsigned level)
{
    (void)f;
    return (scrambled_decode(pte, level) >> PROT_SHIFT & ANY_RIGHT) != 0;
}

static QR_ALWAYS_INLINE qr_pte
scrambled_make_table(walk_format f, qr_pa pa, unsigned level)
{
    (void)f;
    return scrambled_encode(scrambled_word(TAG_TABLE, pa.v >> 12), level);
}

static QR_ALWAYS_INLINE qr_pa
scrambled_read_table(walk_format f, qr_pte pte, unsigned level)
{
    (void)f;
    return qr_pa_of(scrambled_field(scrambled_decode(pte, level)) << 12);
}

static QR_ALWAYS_INLINE qr_pte
scrambled_make_leaf(walk_format f, const struct qr_leaf *leaf, unsigned level)
{
    qr_pte plain = scrambled_word(TAG_LEAF, leaf->pa.v >> 12);

    (void)f;
    plain |= (qr_pte)(leaf->prot & 31) << PROT_SHIFT | (qr_pte)(leaf->flags & 15) << FLAG_SHIFT;
    plain |= (qr_pte)(leaf->cache & 3) << CACHE_SHIFT | (qr_pte)(leaf->pkey & 15) << KEY_SHIFT;
    return scrambled_encode(plain, level);
}

static QR_ALWAYS_INLINE qr_pte
scrambled_attribute_mask(walk_format f, unsigned level)
{
    unsigned turn = 7 * level + 3;
    qr_pte address = FIELD_MASK << FIELD_SHIFT;

    (void)f;
    return ~(address << turn | address >> (64 - turn));
}

static QR_ALWAYS_INLINE uint64_t
scrambled_address_change(walk_format f, qr_pte difference, unsigned level)
{
    unsigned turn = 7 * level + 3;

    (void)f;
    return scrambled_field(difference >> turn | difference << (64 - turn)) << 12;
}

static QR_ALWAYS_INLINE struct qr_leaf
scrambled_read_leaf(walk_format f, qr_pte pte, unsigned level)
{
    qr_pte plain = scrambled_decode(pte, level);
    struct qr_leaf leaf;

    (void)f;
    leaf.pa = qr_pa_of(scrambled_field(plain) << 12);
    leaf.prot = (unsigned)(plain >> PROT_SHIFT & 31);
    leaf.flags = (unsigned)(plain >> FLAG_SHIFT & 15);
    leaf.level = (uint8_t)level;
    leaf.cache = (uint8_t)(plain >> CACHE_SHIFT & 3);
    leaf.pkey = (uint8_t)(plain >> KEY_SHIFT & 15);
    return leaf;
}

static QR_ALWAYS_INLINE qr_pte
scrambled_make_mark(walk_format f, struct qr_mark mark, unsigned level)
{
    qr_pte plain = scrambled_word(TAG_MARK, mark.value) | (qr_pte)mark.kind << KEY_SHIFT;

    (void)f;
    return scrambled_encode(plain, level);
}

static QR_ALWAYS_INLINE struct qr_mark
scrambled_read_mark(walk_format f, qr_pte pte, unsigned level)
{
    qr_pte plain = scrambled_decode(pte, level);
    struct qr_mark mark;

    (void)f;
    mark.kind = (enum qr_mark_kind)(plain >> KEY_SHIFT & 15);
    mark.value = scrambled_field(plain);
    return mark;
}

static QR_ALWAYS_INLINE qr_pte
scrambled_protect(walk_format f, qr_pte pte, unsigned level, unsigned prot, uint8_t pkey)
{
    qr_pte plain = scrambled_decode(pte, level) & ~RIGHTS;

    (void)f;
    plain |= (qr_pte)(prot & 31) << PROT_SHIFT | (qr_pte)(pkey & 15) << KEY_SHIFT;
    return scrambled_encode(plain, level);
}

static QR_ALWAYS_INLINE bool
scrambled_writable(walk_format f, qr_pte pte, unsigned level)
{
    (void)f;
    return (scrambled_decode(pte, level) >> PROT_SHIFT & QR_PROT_WRITE) != 0;
}

static QR_ALWAYS_INLINE qr_pte
scrambled_flag(walk_format f, qr_pte pte, unsigned level, unsigned set_flags, unsigned clear_flags)
{
    qr_pte plain = scrambled_decode(pte, level) & ~((qr_pte)(clear_flags & 15) << FLAG_SHIFT);

    (void)f;
    return scrambled_encode(plain | (qr_pte)(set_flags & 15) << FLAG_SHIFT, level);
}

static QR_ALWAYS_INLINE bool
scrambled_stricter(walk_format f, qr_pte old, qr_pte new, unsigned level)
{
    qr_pte before = scrambled_decode(old, level);
    qr_pte after = scrambled_decode(new, level);
    qr_pte may_shrink = (qr_pte)31 << PROT_SHIFT | (qr_pte)3 << FLAG_SHIFT;

    (void)f;
    return (before >> PROT_SHIFT & ANY_RIGHT) != 0 &&
           ((before & ~after & may_shrink) | ((before ^ after) & (qr_pte)15 << KEY_SHIFT)) != 0;
}

static const struct format_traits scrambled_traits = {
    .info = {.name = "scrambled",
             .levels = 4,
             .page_shift = 12,
             .leaf_levels = 7,
             .va_bits = 35,
             .pa_bits = 52,
             .mark_bits = 40,
             .prot_mask = FORMAT_PROT,
             .cache_mask = (1 << QR_CACHE_COUNT) - 1,
             .no_execute = true,
             .protection_keys = true,
             .hardware_access_dirty = true},
    .entry_bytes = 8,
    .break_before_make = true,
    .shift = scrambled_shift,
    .index_bits = scrambled_index_bits,
    .kind = scrambled_kind,
    .present = scrambled_present,
    .make_table = scrambled_make_table,
    .read_table = scrambled_read_table,
    .make_leaf = scrambled_make_leaf,
    .read_leaf = scrambled_read_leaf,
    .attribute_mask = scrambled_attribute_mask,
    .address_change = scrambled_address_change,
    .make_mark = scrambled_make_mark,
    .read_mark = scrambled_read_mark,
    .protect = scrambled_protect,
    .writable = scrambled_writable,
    .flag = scrambled_flag,
    .stricter = scrambled_stricter,
};

WALK_INSTANTIATE(scrambled, scrambled_traits)
