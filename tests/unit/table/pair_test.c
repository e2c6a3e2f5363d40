/* SPDX-License-Identifier: MIT */
/*
 * Copying a range into another tree and moving a range within one, over every
 * format, against what stood there before: random leaves and marks, every way in
 * which the two places can share tables, and memory that runs out at each table.
 */
#include <stdlib.h>

#include "tests/unit/table/rig.h"

#define PAGES 1300 /* parts of three or four tables of 512, two of 1024 */
#define RW    (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)
#define RO    (QR_PROT_READ | QR_PROT_USER)

struct pair {
    struct rig *rig;
    uint64_t random;
    uintptr_t from, to;
    struct qr_entry before[PAGES];
    unsigned calls[PAGES]; /* of the callback */
    bool flushed[PAGES];
};

static bool
refuse_nth(void *context)
{
    unsigned *left = context;

    return (*left)-- == 0;
}

static uintptr_t
page_at(const struct pair *pair, uintptr_t base, size_t i)
{
    return base + i * pair->rig->page;
}

/* Leaves of both rights, marks and holes in the first @pages pages. */
static void
fill(struct pair *pair, size_t pages)
{
    struct rig *rig = pair->rig;
    struct qr_cursor c;
    struct qr_va_range range = rig_range(pair->from, PAGES * rig->page);

    qr_cursor_open(&c, &rig->tables, range, &rig->batch);
    for (size_t i = 0; i < pages; i++) {
        qr_va va = qr_va_of(page_at(pair, pair->from, i));
        unsigned kind = (unsigned)(test_random(&pair->random) % 8);
        struct qr_leaf leaf = rig_leaf((i + 7) * rig->page, kind < 4 ? RW : RO, 0);
        struct qr_mark mark = {QR_MARK_SWAP, i};

        if (kind < 6) {
            ASSERT_STATUS(qr_cursor_prepare(&c, va, 0), QR_OK);
            qr_cursor_map(&c, va, &leaf);
        } else if (kind == 6) {
            ASSERT_STATUS(qr_cursor_prepare(&c, va, 0), QR_OK);
            qr_cursor_mark(&c, va, 0, mark);
        }
    }
    qr_cursor_close(&c);
    rig->batch.flush(&rig->batch);
    for (size_t i = 0; i < PAGES; i++) {
        pair->before[i] = rig_query(rig, page_at(pair, pair->from, i));
        pair->calls[i] = 0;
        pair->flushed[i] = false;
    }
}

static void
note_flush(struct rig *rig, qr_va start, qr_va last)
{
    struct pair *pair = rig->context;

    for (size_t i = 0; i < PAGES; i++) {
        uintptr_t va = page_at(pair, pair->from, i);

        pair->flushed[i] |= va >= start.v && va <= last.v;
    }
}

static bool
same_entry(const struct qr_entry *a, const struct qr_entry *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == QR_ENTRY_LEAF)
        return a->leaf.pa.v == b->leaf.pa.v && a->leaf.prot == b->leaf.prot &&
               a->leaf.flags == b->leaf.flags && a->leaf.cache == b->leaf.cache;
    return a->kind == QR_ENTRY_NONE ||
           (a->mark.kind == b->mark.kind && a->mark.value == b->mark.value);
}

/* More than PAGES pages, in whole tables. */
static uintptr_t
far(const struct pair *pair)
{
    uintptr_t table = rig_size(pair->rig, 1);

    return (PAGES * pair->rig->page / table + 4) * table;
}

/* ---- Move ------------------------------------------------------------------------ */

static void
moved(void *context, const struct qr_entry *entry, qr_va to)
{
    struct pair *pair = context;
    size_t i = (to.v - pair->to) / pair->rig->page;

    ASSERT_LT(i, PAGES);
    EXPECT_EQ(entry->start.v, page_at(pair, pair->from, i));
    EXPECT_TRUE(same_entry(entry, &pair->before[i]));
    pair->calls[i]++;
}

static void
move_and_check(struct pair *pair, size_t filled, size_t pages)
{
    struct rig *rig = pair->rig;
    struct qr_va_range range = rig_range(pair->from, pages * rig->page);

    fill(pair, filled);
    rig->flushed = note_flush;
    rig->context = pair;
    ASSERT_STATUS(qr_tables_move_prepare(&rig->tables, range, qr_va_of(pair->to)), QR_OK);
    rig_validate(rig);
    qr_tables_move(&rig->tables, range, qr_va_of(pair->to), &rig->batch, moved, pair);
    rig->batch.flush(&rig->batch);
    rig->flushed = NULL;
    rig_validate(rig);
    for (size_t i = 0; i < filled; i++) {
        struct qr_entry old = rig_query(rig, page_at(pair, pair->from, i));
        struct qr_entry none = {.kind = QR_ENTRY_NONE};

        EXPECT_TRUE(same_entry(&old, i < pages ? &none : &pair->before[i]));
        if (i < pages) {
            struct qr_entry now = rig_query(rig, page_at(pair, pair->to, i));

            EXPECT_TRUE(same_entry(&now, &pair->before[i]));
            EXPECT_EQ(pair->calls[i], (unsigned)(pair->before[i].kind != QR_ENTRY_NONE));
            if (pair->before[i].kind == QR_ENTRY_LEAF)
                EXPECT_TRUE(pair->flushed[i]);
        }
    }
    rig_unmap_all(rig);
}

TEST(pair, a_move_takes_everything_along)
{
    EVERY_FORMAT(format)
    {
        struct pair *pair = calloc(1, sizeof(*pair));
        struct rig *rig = pair->rig = rig_boot(format, 1);
        pair->random = test_seed();
        /* within tables, across their borders, the same offset or another, up and down, far away */
        pair->from = 2 * far(pair) - 300 * rig->page;
        pair->to = pair->from + PAGES * rig->page;
        move_and_check(pair, PAGES, PAGES);
        pair->to = pair->from - PAGES * rig->page;
        move_and_check(pair, PAGES, PAGES);
        pair->to = pair->from + far(pair);
        move_and_check(pair, PAGES, PAGES - 1);
        pair->to = pair->from + far(pair) + 17 * rig->page;
        move_and_check(pair, PAGES, 600);
        pair->from = 2 * far(pair);
        pair->to = pair->from + far(pair);
        move_and_check(pair, PAGES, 1);
        pair->to = pair->from + 20 * rig->page;
        move_and_check(pair, 20, 20);
        pair->to = rig->tables.lower_end - far(pair);
        move_and_check(pair, PAGES, 200);
        rig_shutdown(rig);
        free(pair);
    }
}

TEST(pair, a_move_that_cannot_be_prepared_changes_nothing)
{
    EVERY_FORMAT(format)
    {
        struct pair *pair = calloc(1, sizeof(*pair));
        struct rig *rig = pair->rig = rig_boot(format, 1);
        struct qr_va_range range;
        unsigned refused = 0;

        pair->random = test_seed();
        pair->from = 2 * far(pair) - 300 * rig->page;
        pair->to = rig->tables.lower_end - far(pair);
        range = rig_range(pair->from, PAGES * rig->page);
        fill(pair, PAGES);
        for (enum qr_status status = QR_ERR_NO_MEMORY; status != QR_OK; refused++) {
            unsigned left = refused;

            qr_frames_set_refusal(rig->machine->frames, refuse_nth, &left);
            status = qr_tables_move_prepare(&rig->tables, range, qr_va_of(pair->to));
            qr_frames_set_refusal(rig->machine->frames, NULL, NULL);
            rig_validate(rig);
            for (size_t i = 0; i < PAGES; i++) {
                struct qr_entry now = rig_query(rig, page_at(pair, pair->from, i));

                EXPECT_TRUE(same_entry(&now, &pair->before[i]));
            }
            rig_unmap(rig, rig_range(pair->to, PAGES * rig->page));
        }
        EXPECT_GT(refused, 1u);
        rig_unmap_all(rig);
        rig_shutdown(rig);
        free(pair);
    }
}

/* ---- Copy ------------------------------------------------------------------------ */

static bool
wanted(void *context, const struct qr_entry *entry)
{
    const struct pair *pair = context;

    return (entry->start.v - pair->from) / pair->rig->page % 5 != 0;
}

static void
copied(void *context, const struct qr_entry *entry)
{
    struct pair *pair = context;

    pair->calls[(entry->start.v - pair->from) / pair->rig->page]++;
}

static enum qr_status
copy(struct pair *pair, struct qr_tables *child)
{
    static const struct qr_copy_ops ops = {.wanted = wanted, .copied = copied};
    struct rig *rig = pair->rig;
    struct qr_va_range range = rig_range(pair->from, PAGES * rig->page);
    struct qr_cursor from, to;

    qr_cursor_open(&from, &rig->tables, range, &rig->batch);
    qr_cursor_open(&to, child, range, NULL);
    enum qr_status status = qr_cursor_copy_range(&from, &to, range, &ops, pair);
    qr_cursor_close(&to);
    qr_cursor_close(&from);
    rig->batch.flush(&rig->batch);
    return status;
}

/* What stands at page @i of @tables. */
static struct qr_entry
query_in(struct pair *pair, struct qr_tables *tables, size_t i)
{
    struct qr_cursor c;
    uintptr_t va = page_at(pair, pair->from, i);

    qr_cursor_open(&c, tables, rig_range(va, pair->rig->page), NULL);
    struct qr_entry entry = qr_cursor_query(&c, qr_va_of(va));
    qr_cursor_close(&c);
    return entry;
}

static void
check_copied(struct pair *pair, struct qr_tables *child, size_t i)
{
    struct rig *rig = pair->rig;
    const struct qr_entry *before = &pair->before[i];
    struct qr_entry expected = *before;
    struct qr_entry parents = rig_query(rig, page_at(pair, pair->from, i));
    struct qr_entry childs = query_in(pair, child, i);
    struct qr_entry none = {.kind = QR_ENTRY_NONE};

    if (pair->calls[i] == 0) {
        EXPECT_TRUE(same_entry(&parents, before));
        EXPECT_TRUE(same_entry(&childs, &none));
        return;
    }
    EXPECT_EQ(pair->calls[i], 1u);
    if (expected.kind == QR_ENTRY_LEAF && (expected.leaf.prot & QR_PROT_WRITE) != 0) {
        expected.leaf.prot = rig_granted(rig->f, RO);
        EXPECT_TRUE(pair->flushed[i]);
    }
    EXPECT_TRUE(same_entry(&parents, &expected));
    EXPECT_TRUE(same_entry(&childs, &expected));
}

/* Empty the child: its entries are gone with its frame counts, which the test does not keep. */
static void
child_end(struct pair *pair, struct qr_tables *child)
{
    struct rig *rig = pair->rig;
    struct qr_va_range range = rig_range(pair->from, PAGES * rig->page);
    struct qr_cursor c;

    qr_cursor_open(&c, child, range, &rig->batch);
    qr_cursor_unmap_range(&c, range, rig_ignore, NULL);
    qr_cursor_close(&c);
    rig->batch.flush(&rig->batch);
    qr_tables_fini(child);
}

TEST(pair, a_copy_shares_what_is_wanted_up_to_where_memory_ends)
{
    EVERY_FORMAT(format)
    {
        struct pair *pair = calloc(1, sizeof(*pair));
        struct rig *rig = pair->rig = rig_boot(format, 1);
        enum qr_status status = QR_ERR_NO_MEMORY;

        pair->random = test_seed();
        pair->from = 2 * far(pair) - 300 * rig->page;
        rig->flushed = note_flush;
        rig->context = pair;
        for (unsigned refused = 0; status != QR_OK; refused++) {
            unsigned left = refused;
            struct qr_tables child;
            size_t last = PAGES;

            fill(pair, PAGES);
            ASSERT_STATUS(qr_tables_init(&child, format, rig->machine->frames, rig->epoch, NULL),
                          QR_OK);
            qr_frames_set_refusal(rig->machine->frames, refuse_nth, &left);
            status = copy(pair, &child);
            qr_frames_set_refusal(rig->machine->frames, NULL, NULL);
            rig_validate(rig);
            for (size_t i = 0; i < PAGES; i++) {
                bool due = pair->before[i].kind != QR_ENTRY_NONE && i % 5 != 0;

                check_copied(pair, &child, i);
                if (due && pair->calls[i] == 0 && last == PAGES)
                    last = i; /* from here on nothing is copied */
                EXPECT_EQ(pair->calls[i], (unsigned)(due && i < last));
            }
            EXPECT_EQ(last == PAGES, status == QR_OK);
            child_end(pair, &child);
            rig_unmap_all(rig);
        }
        rig->flushed = NULL;
        rig_shutdown(rig);
        free(pair);
    }
}
