/* SPDX-License-Identifier: MIT */
/*
 * Every format's encoding, exhaustively over what it can hold, and the x86-64
 * bits against numbers written down from the manuals, not computed.
 */
#include "tests/unit/table/rig.h"

#define ANY_RIGHT (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)

/* What a format makes of @prot: x86 has no way to withhold reading alone. */
static unsigned
granted(walk_format f, unsigned prot)
{
    bool x86 = f->info.name[0] == 'x';

    return x86 && (prot & ANY_RIGHT) != 0 ? prot | QR_PROT_READ : prot;
}

static bool
has_leaf(walk_format f, unsigned level)
{
    return (f->info.leaf_levels >> level & 1) != 0;
}

static void
check_round_trip(walk_format f, struct qr_leaf leaf)
{
    qr_pte pte = f->make_leaf(&leaf, leaf.level);
    struct qr_leaf back = f->read_leaf(pte, leaf.level);

    ASSERT_EQ(f->kind(pte, leaf.level), PTE_LEAF);
    ASSERT_EQ(f->present(pte, leaf.level), (leaf.prot & ANY_RIGHT) != 0);
    ASSERT_EQ(back.pa.v, leaf.pa.v);
    ASSERT_EQ(back.prot, granted(f, leaf.prot));
    ASSERT_EQ(back.flags, leaf.flags);
    ASSERT_EQ(back.cache, leaf.cache);
    ASSERT_EQ(back.pkey, leaf.pkey);
    ASSERT_EQ(back.level, leaf.level);
    ASSERT_EQ(f->writable(pte, leaf.level), (leaf.prot & QR_PROT_WRITE) != 0);
    struct qr_leaf other = leaf;

    other.pa.v ^= (uint64_t)3 << 40;
    qr_pte difference = pte ^ f->make_leaf(&other, leaf.level);

    ASSERT_EQ(difference & f->attribute_mask(leaf.level), 0);
    ASSERT_EQ(f->address_change(difference, leaf.level), (uint64_t)3 << 40);
    ASSERT_NE(pte & f->attribute_mask(leaf.level), 0);
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
            for (unsigned mix = 0; mix < 32 * 16 * QR_CACHE_COUNT * 16; mix++) {
                unsigned bit = f->shift(level) + mix % (52 - f->shift(level));
                struct qr_leaf leaf = {.pa = {(uint64_t)1 << bit},
                                       .prot = mix & 31,
                                       .flags = mix >> 5 & 15,
                                       .level = (uint8_t)level,
                                       .cache = (uint8_t)(mix >> 9 & 3),
                                       .pkey = (uint8_t)(mix >> 11 & 15)};

                check_round_trip(f, leaf);
            }
        }
    }
}

TEST(format, protect_and_flag_change_what_they_say_and_nothing_else)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned level = 0; level < 3; level++) {
            for (unsigned mix = 0; mix < 32 * 32 * 16; mix++) {
                unsigned before = mix & 31, after = mix >> 5 & 31, flags = mix >> 10 & 15;
                struct qr_leaf leaf = {.pa = {(uint64_t)0xabc << f->shift(2)},
                                       .prot = before,
                                       .flags = flags,
                                       .level = (uint8_t)level,
                                       .cache = QR_CACHE_UNCACHED,
                                       .pkey = 9};
                qr_pte old = f->make_leaf(&leaf, level);
                qr_pte new = f->protect(old, level, after, 6);

                leaf.prot = after;
                leaf.pkey = 6;
                ASSERT_EQ(new, f->make_leaf(&leaf, level));
                for (unsigned set = 0; set < 16; set++) {
                    struct qr_leaf other = leaf;

                    other.flags = (flags & ~(unsigned)QR_LEAF_ACCESSED) | set;
                    ASSERT_EQ(f->flag(new, level, set, QR_LEAF_ACCESSED),
                              f->make_leaf(&other, level));
                }
            }
        }
    }
}

/* A flush is needed exactly where an old translation allows or hides something. */
TEST(format, stricter_is_what_hardware_could_still_use)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;

        for (unsigned mix = 0; mix < 32 * 32 * 4 * 4; mix++) {
            unsigned before = granted(f, mix & 31), after = granted(f, mix >> 5 & 31);
            unsigned old_flags = mix >> 10 & 3, new_flags = mix >> 12 & 3;
            struct qr_leaf leaf = {.pa = {0x1000}, .prot = before, .flags = old_flags};
            qr_pte old = f->make_leaf(&leaf, 0);

            leaf.prot = after;
            leaf.flags = new_flags;

            bool cached = (before & ANY_RIGHT) != 0;
            bool less = (before & ~after) != 0 || (old_flags & ~new_flags) != 0;

            ASSERT_EQ(f->stricter(old, f->make_leaf(&leaf, 0), 0), cached && less);
        }
    }
}

TEST(format, another_key_is_stricter)
{
    EVERY_FORMAT(format)
    {
        walk_format f = format->traits;
        struct qr_leaf leaf = {.pa = {0x1000}, .prot = QR_PROT_READ, .pkey = 1};
        qr_pte old = f->make_leaf(&leaf, 0);

        leaf.pkey = 2;
        EXPECT_TRUE(f->stricter(old, f->make_leaf(&leaf, 0), 0));
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
                    qr_pte pte = f->make_mark(mark, level);

                    ASSERT_EQ(f->kind(pte, level), PTE_MARK);
                    ASSERT_NE(pte & f->attribute_mask(level), 0);
                    ASSERT_EQ(f->read_mark(pte, level).kind, mark.kind);
                    ASSERT_EQ(f->read_mark(pte, level).value, value);
                }
            }
            if (level == 0)
                continue;
            for (unsigned bit = 12; bit < 52; bit++) {
                qr_pte pte = f->make_table(qr_pa_of((uint64_t)1 << bit), level);

                ASSERT_EQ(f->kind(pte, level), PTE_TABLE);
                ASSERT_EQ(f->read_table(pte, level).v, (uint64_t)1 << bit);
            }
        }
    }
}

TEST(format, zero_is_empty_and_nothing_else_is)
{
    EVERY_FORMAT(format)
    {
        for (unsigned level = 0; level < format->traits->info.levels; level++)
            EXPECT_EQ(format->traits->kind(0, level), PTE_EMPTY);
    }
}

/* The scrambled format is there to catch this. */
TEST(format, the_scrambled_format_notices_a_wrong_level)
{
    walk_format f = qr_format_scrambled.traits;
    struct qr_leaf leaf = {.pa = {0x1000}, .prot = QR_PROT_READ};
    qr_pte pte = f->make_leaf(&leaf, 0);

    EXPECT_PANIC(f->read_leaf(pte, 1), "CHECK_SHIFT");
    EXPECT_PANIC(f->kind(pte, 2), "CHECK_SHIFT");
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
        EXPECT_EQ(f->make_leaf(&cases[i].leaf, cases[i].leaf.level), cases[i].pte);
    EXPECT_EQ(f->make_table(qr_pa_of(0x7000), 1), 0x7027);
}

/* What is not present must name memory that cannot be in a cache (L1 terminal fault). */
TEST(format, x86_64_hides_addresses_of_entries_that_are_not_present)
{
    walk_format f = qr_format_x86_64.traits;

    for (unsigned bit = 0; bit < 30; bit++) {
        struct qr_leaf none = {.pa = {(uint64_t)0x1000 << bit & ~0xfffull}, .prot = QR_PROT_USER};
        struct qr_mark mark = {QR_MARK_SWAP, (uint64_t)1 << bit};
        uint64_t high = (uint64_t)0xff << 44; /* bits 44 to 51: above any memory here */

        EXPECT_EQ(f->make_leaf(&none, 0) & (high | 1), high);
        EXPECT_EQ(f->make_mark(mark, 0) & (high | 1), high);
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
        uint64_t reserved = (((uint64_t)1 << f->shift(level)) - 1) & ~(uint64_t)0x1fff;

        EXPECT_EQ(f->make_leaf(&leaf, level) & reserved, 0);
    }
    for (unsigned level = 1; level < 5; level++)
        EXPECT_EQ(f->make_table(qr_pa_of(0xffffffffff000), level) & 0xfff0000000000180, 0);
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
            bits += format->traits->index_bits(level);
            EXPECT_LE(((size_t)format->traits->entry_bytes << format->traits->index_bits(level)),
                      QR_PAGE_SIZE);
        }
        EXPECT_EQ(bits, info.va_bits);
    }
}
