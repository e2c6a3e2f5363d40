/* SPDX-License-Identifier: MIT */
#include "table/decide.h"

#include "harness.h"

TEST(decide, prepare_by_what_stands_where)
{
    static const struct {
        enum pte_kind kind;
        unsigned level, wanted;
        enum prepare_step step;
    } cases[] = {
        {PTE_EMPTY, 0, 0, PREPARE_DONE},      {PTE_LEAF, 0, 0, PREPARE_DONE},
        {PTE_MARK, 0, 0, PREPARE_DONE},       {PTE_TABLE, 1, 1, PREPARE_DROP_TABLE},
        {PTE_EMPTY, 1, 0, PREPARE_BUILD},     {PTE_EMPTY, 3, 1, PREPARE_BUILD},
        {PTE_LEAF, 1, 0, PREPARE_IN_THE_WAY}, {PTE_MARK, 2, 0, PREPARE_IN_THE_WAY},
        {PTE_LEAF, 2, 2, PREPARE_DONE},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(cases); i++)
        EXPECT_EQ(decide_prepare(cases[i].kind, cases[i].level, cases[i].wanted), cases[i].step);
}

TEST(decide, cover_at_every_edge)
{
    struct qr_va_range range = {{0x3000}, {0x9000}};

    EXPECT_EQ(decide_cover(range, qr_va_of(0x3000), 12), COVER_WHOLE);
    EXPECT_EQ(decide_cover(range, qr_va_of(0x8000), 12), COVER_WHOLE);
    EXPECT_EQ(decide_cover(range, qr_va_of(0x3000), 13), COVER_PART);
    EXPECT_EQ(decide_cover(range, qr_va_of(0x5000), 13), COVER_WHOLE);
    EXPECT_EQ(decide_cover(range, qr_va_of(0x8000), 13), COVER_PART);
    EXPECT_EQ(decide_cover(range, qr_va_of(0x5000), 14), COVER_WHOLE);
    EXPECT_EQ(decide_cover(range, qr_va_of(0x5000), 20), COVER_PART);
}

TEST(decide, write_is_never_gained_without_leave)
{
    unsigned rw = QR_PROT_READ | QR_PROT_WRITE;

    EXPECT_EQ(decide_protect(rw, true, false), rw);
    EXPECT_EQ(decide_protect(rw, false, true), rw);
    EXPECT_EQ(decide_protect(rw, false, false), QR_PROT_READ);
    EXPECT_EQ(decide_protect(QR_PROT_READ, true, true), QR_PROT_READ);
}

TEST(decide, marks_that_count_pages_are_split_by_pages)
{
    struct qr_mark swap = {QR_MARK_SWAP, 100};
    struct qr_mark guard = {QR_MARK_GUARD, 100};

    EXPECT_EQ(decide_split_mark(swap, 3, 512).value, 1636);
    EXPECT_EQ(decide_split_mark(guard, 3, 512).value, 100);
}
