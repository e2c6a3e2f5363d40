/* SPDX-License-Identifier: MIT */
/*
 * Every format's encoding, exhaustively over what it can hold, and the x86-64
 * bits against numbers written down from the manuals, not computed.
 */
#include "tests/unit/table/rig.h"

#define ANY_RIGHT (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)

/* Rights in numbers: every combination of enum qr_prot is one below this. */
#define PROTS (QR_PROT_TAGGED << 1)

/* Every address that a leaf at @level can hold. */
static uint64_t
address_bits(walk_format f, unsigned level)
{
    return f->address_change(f, ~f->attribute_mask(f, level), level) &
           ~(((uint64_t)1 << f->shift(f, level)) - 1);
}

/* One of these addresses with a single bit. */
static uint64_t
one_address(walk_format f, unsigned level, unsigned nth)
{
    uint64_t bits = address_bits(f, level);

    for (nth %= (unsigned)__builtin_popcountll(bits); nth > 0; nth--)
        bits &= bits - 1;
    return bits & -bits;
}

static bool
has_leaf(walk_format f, unsigned level)
{
    return (f->info.leaf_levels >> level & 1) != 0;
}

/* Only memory that is cached in full has tags. */
static unsigned
leaf_granted(walk_format f, const struct qr_leaf *leaf)
{
    unsigned prot = rig_granted(f, leaf->prot);

    return leaf->cache == QR_CACHE_WRITE_BACK ? prot : prot & ~(unsigned)QR_PROT_TAGGED;
}

static void
check_round_trip(walk_format f, struct qr_leaf leaf, uint64_t flip)
{
    qr_pte pte = f->make_leaf(f, &leaf, leaf.level);
    struct qr_leaf back = f->read_leaf(f, pte, leaf.level);
    struct qr_leaf other = leaf;

    ASSERT_EQ(f->kind(f, pte, leaf.level), PTE_LEAF);
    ASSERT_EQ(f->present(f, pte, leaf.level), (leaf.prot & ANY_RIGHT) != 0);
    ASSERT_EQ(back.pa.v, leaf.pa.v);
    ASSERT_EQ(back.prot, leaf_granted(f, &leaf));
    ASSERT_EQ(back.flags, leaf.flags);
    ASSERT_EQ(back.cache, rig_cache(f, leaf.cache));
    ASSERT_EQ(back.pkey, rig_key(f, leaf.pkey));
    ASSERT_EQ(back.level, leaf.level);
    ASSERT_EQ(f->make_leaf(f, &back, leaf.level), pte);
    ASSERT_EQ(f->writable(f, pte, leaf.level), (leaf.prot & QR_PROT_WRITE) != 0);

    other.pa.v ^= flip;
    qr_pte difference = pte ^ f->make_leaf(f, &other, leaf.level);

    ASSERT_EQ(difference & f->attribute_mask(f, leaf.level), 0);
    ASSERT_EQ(f->address_change(f, difference, leaf.level), flip);
    ASSERT_NE(pte & f->attribute_mask(f, leaf.level), 0);
}

TEST(format, every_leaf_comes_back_as_it_went_in)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned level = 0; level < f->info.levels; level++) {
            if (!has_leaf(f, level))
                continue;
            /* Every combination of rights, flags, cache and key; the address a bit at a time. */
            for (unsigned mix = 0; mix < PROTS * 16 * QR_CACHE_COUNT * 16; mix++) {
                struct qr_leaf leaf = {.pa = {one_address(f, level, mix)},
                                       .prot = mix % PROTS,
                                       .flags = mix / PROTS & 15,
                                       .level = (uint8_t)level,
                                       .cache = (uint8_t)(mix / PROTS >> 4 & 3),
                                       .pkey = (uint8_t)(mix / PROTS >> 6 & 15)};

                check_round_trip(f, leaf, one_address(f, level, mix / 3));
            }
        }
    }
}

static void
check_changes(walk_format f, const struct qr_leaf *before, unsigned prot)
{
    unsigned level = before->level;
    struct qr_leaf after = *before;
    qr_pte pte = f->protect(f, f->make_leaf(f, before, level), level, prot, 6);

    after.prot = prot;
    after.pkey = 6;
    ASSERT_EQ(pte, f->make_leaf(f, &after, level));
    for (unsigned set = 0; set < 16; set++) {
        unsigned clear = (set * 5 + prot) & 15;
        struct qr_leaf other = after;

        other.flags = (before->flags & ~clear) | set;
        ASSERT_EQ(f->flag(f, pte, level, set, clear), f->make_leaf(f, &other, level));
    }
}

TEST(format, protect_and_flag_change_what_they_say_and_nothing_else)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned level = 0; level < f->info.levels; level++) {
            if (!has_leaf(f, level))
                continue;
            for (unsigned mix = 0; mix < PROTS * PROTS; mix++) {
                struct qr_leaf leaf = {.pa = {address_bits(f, level)},
                                       .prot = mix % PROTS,
                                       .flags = (mix / 3) & 15,
                                       .level = (uint8_t)level,
                                       .cache = mix % 5 < 3 ? (uint8_t)(mix % 5) : 0,
                                       .pkey = 9};

                check_changes(f, &leaf, mix / PROTS);
            }
        }
    }
}

/* Whether @after withholds what @before gave, beyond a bit of enum qr_prot that is gone. */
static bool
loses_by_gain(walk_format f, unsigned before, unsigned after)
{
    bool becomes_user = (after & ~before & QR_PROT_USER) != 0;

    if (((before ^ after) & (QR_PROT_GUARDED | QR_PROT_TAGGED)) != 0)
        return true;
    /* The kernel does not execute what users may; on RISC-V it does not touch it at all. */
    if (f->info.name[0] == 'a')
        return becomes_user && (before & QR_PROT_EXEC) != 0;
    return f->info.name[0] == 'r' && becomes_user;
}

/* A flush is needed exactly where an old translation allows or hides something. */
TEST(format, stricter_is_what_hardware_could_still_use)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned mix = 0; mix < PROTS * PROTS * 4 * 4; mix++) {
            unsigned before = rig_granted(f, mix % PROTS);
            unsigned after = rig_granted(f, mix / PROTS % PROTS);
            unsigned old_flags = mix / PROTS / PROTS & 3, new_flags = mix / PROTS / PROTS >> 2;
            struct qr_leaf leaf = {.pa = {address_bits(f, 0)}, .prot = before, .flags = old_flags};
            qr_pte old = f->make_leaf(f, &leaf, 0);

            leaf.prot = after;
            leaf.flags = new_flags;

            bool cached = (before & ANY_RIGHT) != 0;
            bool less = (before & ~after) != 0 || (old_flags & ~new_flags) != 0 ||
                        loses_by_gain(f, before, after);

            ASSERT_EQ(f->stricter(f, old, f->make_leaf(f, &leaf, 0), 0), cached && less);
        }
    }
}

TEST(format, another_key_is_stricter)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;
        struct qr_leaf leaf = {.pa = {address_bits(f, 0)}, .prot = QR_PROT_READ, .pkey = 1};
        qr_pte old = f->make_leaf(f, &leaf, 0);

        leaf.pkey = 2;
        EXPECT_EQ(f->stricter(f, old, f->make_leaf(f, &leaf, 0), 0), f->info.protection_keys);
    }
}

TEST(format, marks_and_tables_come_back_and_are_told_apart)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned level = 0; level < f->info.levels; level++) {
            for (unsigned kind = 1; kind < QR_MARK_KIND_COUNT; kind++) {
                for (unsigned bit = 0; bit <= f->info.mark_bits; bit++) {
                    uint64_t value = ((uint64_t)1 << bit) - 1; /* 0, 1, 3, ... all ones */
                    struct qr_mark mark = {(enum qr_mark_kind)kind, value};
                    qr_pte pte = f->make_mark(f, mark, level);

                    ASSERT_EQ(f->kind(f, pte, level), PTE_MARK);
                    ASSERT_NE(pte & f->attribute_mask(f, level), 0);
                    ASSERT_EQ(f->read_mark(f, pte, level).kind, mark.kind);
                    ASSERT_EQ(f->read_mark(f, pte, level).value, value);
                }
            }
            if (level == 0)
                continue;
            for (unsigned nth = 0; nth < f->info.pa_bits - f->info.page_shift; nth++) {
                uint64_t pa = (uint64_t)1 << (f->info.page_shift + nth);
                qr_pte pte = f->make_table(f, qr_pa_of(pa), level);

                ASSERT_EQ(f->kind(f, pte, level), PTE_TABLE);
                ASSERT_EQ(f->read_table(f, pte, level).v, pa);
            }
        }
    }
}

TEST(format, zero_is_empty_and_nothing_else_is)
{
    EVERY_FORMAT(format)
    {
        for (unsigned level = 0; level < format->traits->info.levels; level++)
            EXPECT_EQ(format->traits->kind(format->traits, 0, level), PTE_EMPTY);
    }
}

/* The scrambled format is there to catch this. */
TEST(format, the_scrambled_format_notices_a_wrong_level)
{
    walk_format f = qr_format_scrambled.traits;
    struct qr_leaf leaf = {.pa = {0x1000}, .prot = QR_PROT_READ};
    qr_pte pte = f->make_leaf(f, &leaf, 0);

    EXPECT_PANIC(f->read_leaf(f, pte, 1), "CHECK_SHIFT");
    EXPECT_PANIC(f->kind(f, pte, 2), "CHECK_SHIFT");
}

/* Intel SDM volume 3, tables 4-15 to 4-20: bit by bit. */
TEST(format, x86_64_leaves_have_the_bits_of_the_manual)
{
    walk_format f = qr_format_x86_64.traits;
    static const struct {
        struct qr_leaf leaf;
        uint64_t pte;
    } cases[] = {
        {{.pa = {0x12345000}, .prot = QR_PROT_READ}, 0x8000000012345001},
        {{.pa = {0x12345000}, .prot = QR_PROT_READ | QR_PROT_EXEC}, 0x12345001},
        {{.pa = {0x12345000}, .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC}, 0x12345003},
        {{.pa = {0x12345000}, .prot = QR_PROT_READ | QR_PROT_EXEC | QR_PROT_USER}, 0x12345005},
        {{.pa = {0x12345000}, .prot = QR_PROT_READ | QR_PROT_EXEC | QR_PROT_GLOBAL}, 0x12345101},
        {{.pa = {0x12345000}, .prot = QR_PROT_EXEC, .flags = QR_LEAF_ACCESSED}, 0x12345021},
        {{.pa = {0x12345000}, .prot = QR_PROT_EXEC, .flags = QR_LEAF_DIRTY}, 0x12345041},
        {{.pa = {0x12345000}, .prot = QR_PROT_EXEC, .pkey = 15}, 0x7800000012345001},
        {{.pa = {0x12345000}, .prot = QR_PROT_EXEC, .cache = QR_CACHE_UNCACHED}, 0x12345019},
        {{.pa = {0x12345000}, .prot = QR_PROT_EXEC, .cache = QR_CACHE_WRITE_THROUGH}, 0x12345009},
        {{.pa = {0x12345000}, .prot = QR_PROT_EXEC, .cache = QR_CACHE_WRITE_COMBINING}, 0x12345091},
        {{.pa = {0x12200000}, .prot = QR_PROT_EXEC, .level = 1}, 0x12200081},
        {{.pa = {0x12200000}, .prot = QR_PROT_EXEC, .level = 1, .cache = QR_CACHE_WRITE_COMBINING},
         0x12201091},
        {{.pa = {0x40000000}, .prot = QR_PROT_EXEC, .level = 2}, 0x40000081},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(cases); i++)
        EXPECT_EQ(f->make_leaf(f, &cases[i].leaf, cases[i].leaf.level), cases[i].pte);
    EXPECT_EQ(f->make_table(f, qr_pa_of(0x7000), 1), 0x7027);
}

/* What is not present must name memory that cannot be in a cache (L1 terminal fault). */
TEST(format, x86_64_hides_addresses_of_entries_that_are_not_present)
{
    walk_format f = qr_format_x86_64.traits;

    for (unsigned bit = 0; bit < 30; bit++) {
        struct qr_leaf none = {.pa = {(uint64_t)0x1000 << bit & ~0xfffull}, .prot = QR_PROT_USER};
        struct qr_mark mark = {QR_MARK_SWAP, (uint64_t)1 << bit};
        uint64_t high = (uint64_t)0xff << 44; /* bits 44 to 51: above any memory here */

        EXPECT_EQ(f->make_leaf(f, &none, 0) & (high | 1), high);
        EXPECT_EQ(f->make_mark(f, mark, 0) & (high | 1), high);
    }
}

/* Reserved bits: 7 and 8 of tables; of large leaves all address bits below their size but PAT. */
TEST(format, x86_64_sets_no_reserved_bit)
{
    walk_format f = qr_format_x86_64_la57.traits;

    for (unsigned level = 1; level < 3; level++) {
        struct qr_leaf leaf = {.pa = {0},
                               .prot = 31,
                               .flags = 15,
                               .level = (uint8_t)level,
                               .cache = QR_CACHE_WRITE_COMBINING,
                               .pkey = 15};
        uint64_t reserved = (((uint64_t)1 << f->shift(f, level)) - 1) & ~(uint64_t)0x1fff;

        EXPECT_EQ(f->make_leaf(f, &leaf, level) & reserved, 0);
    }
    for (unsigned level = 1; level < 5; level++)
        EXPECT_EQ(f->make_table(f, qr_pa_of(0xffffffffff000), level) & 0xfff0000000000180, 0);
}

TEST(format, info_says_what_the_functions_do)
{
    EVERY_FORMAT(format)
    {
        struct qr_format_info info;
        unsigned bits;

        qr_format_info(format, &info);
        bits = info.page_shift;
        for (unsigned level = 0; level < info.levels; level++) {
            EXPECT_EQ(qr_format_shift(format, level), bits);
            bits += format->traits->index_bits(format->traits, level);
            EXPECT_LE((size_t)format->traits->entry_bytes
                          << format->traits->index_bits(format->traits, level),
                      (size_t)1 << info.page_shift);
        }
        EXPECT_EQ(bits, info.va_bits);
    }
}
