/* SPDX-License-Identifier: MIT */
/* The one checked way from (address, length) to a range, at every edge. */
#include <quire/list.h>
#include <quire/status.h>
#include <quire/types.h>

#include "harness.h"

#define LIMIT ((uintptr_t)1 << (sizeof(uintptr_t) * 8 - 17)) /* 47 of 64 bits */

TEST(types, a_range_is_made_only_from_sound_numbers)
{
    static const struct {
        uintptr_t start;
        size_t bytes;
        bool fine;
        uintptr_t end;
    } rows[] = {
        {0, 1, true, 0x1000},
        {0, 0x1000, true, 0x1000},
        {0x1000, 0x1001, true, 0x3000},
        {LIMIT - 0x1000, 0x1000, true, LIMIT},
        {0, LIMIT, true, LIMIT},
        {0, 0, false, 0},
        {1, 0x1000, false, 0},
        {LIMIT - 0x1000, 0x1001, false, 0},
        {LIMIT, 1, false, 0},
        {0, LIMIT + 1, false, 0},
        {0x1000, SIZE_MAX, false, 0},
        {0x1000, SIZE_MAX - 0xfff, false, 0},
        {UINTPTR_MAX - 0xfff, 0x1000, false, 0},
        {UINTPTR_MAX - 0xfff, 0x2000, false, 0},
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct qr_va_range range = {{7}, {7}};

        EXPECT_EQ(qr_va_range_make(rows[i].start, rows[i].bytes, LIMIT, &range), rows[i].fine);
        EXPECT_EQ(range.start.v, rows[i].fine ? rows[i].start : 7);
        EXPECT_EQ(range.end.v, rows[i].fine ? rows[i].end : 7);
    }
}

TEST(types, every_status_has_a_name_of_its_own)
{
    for (unsigned a = QR_OK; a <= QR_ERR_UNSUPPORTED; a++) {
        EXPECT_TRUE(qr_status_name((enum qr_status)a)[0] != 'U' || a == QR_ERR_UNSUPPORTED);
        for (unsigned b = QR_OK; b < a; b++)
            EXPECT_TRUE(qr_status_name((enum qr_status)a) != qr_status_name((enum qr_status)b));
    }
}

TEST(list, nodes_keep_their_order)
{
    struct qr_list list, nodes[4];
    unsigned seen = 0;

    qr_list_init(&list);
    EXPECT_NULL(qr_list_pop_front(&list));
    for (unsigned i = 1; i < 4; i++)
        qr_list_push_back(&list, &nodes[i]);
    qr_list_push_front(&list, &nodes[0]);
    qr_list_for_each(node, &list) EXPECT_TRUE(node == &nodes[seen++]);
    qr_list_for_each_safe(node, &list)
    {
        if (node == &nodes[1] || node == &nodes[2])
            qr_list_remove(node);
    }
    EXPECT_TRUE(qr_list_pop_front(&list) == &nodes[0]);
    EXPECT_TRUE(qr_list_pop_front(&list) == &nodes[3]);
    EXPECT_TRUE(qr_list_is_empty(&list));
}
