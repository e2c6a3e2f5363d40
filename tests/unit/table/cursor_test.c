/* SPDX-License-Identifier: MIT */
/*
 * The cursor, one operation at a time, over every format.
 */
#include "tests/unit/table/rig.h"

#define RW   (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)
#define RO   (QR_PROT_READ | QR_PROT_USER)
#define NONE QR_PROT_USER

/* An address under entry 1 of every table above level 0, page 3. */
static uintptr_t
somewhere(const struct rig *rig)
{
    uintptr_t va = 3 * rig->page;

    for (unsigned level = 1; level < rig->f->info.levels; level++)
        va += rig_size(rig, level);
    return va;
}

TEST(cursor, an_empty_tree_answers_none_from_the_root)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        struct qr_entry entry = rig_query(rig, somewhere(rig));

        EXPECT_EQ(entry.kind, QR_ENTRY_NONE);
        EXPECT_EQ(entry.level, rig->f->info.levels - 1 - rig->f->root_is_loaded);
        EXPECT_EQ(entry.start.v, somewhere(rig) & ~(rig_size(rig, entry.level) - 1));
        rig_shutdown(rig);
    }
}

TEST(cursor, what_is_mapped_at_each_level_is_found_and_freed)
{
    EVERY_FORMAT(format)
    {
        for (unsigned level = 0; level < format->traits->info.levels; level++) {
            if ((format->traits->info.leaf_levels >> level & 1) == 0)
                continue;
            struct rig *rig = rig_boot(format, 1);
            uintptr_t size = rig_size(rig, level);
            uintptr_t va = somewhere(rig) & ~(size - 1);

            ASSERT_STATUS(rig_map(rig, va, rig_leaf(5 * size, RW, level)), QR_OK);
            EXPECT_EQ(rig->tables.table_count, rig_tables(rig, level));

            struct qr_entry entry = rig_query(rig, va + size - rig->page);

            EXPECT_EQ(entry.kind, QR_ENTRY_LEAF);
            EXPECT_EQ(entry.level, level);
            EXPECT_EQ(entry.start.v, va);
            EXPECT_EQ(entry.leaf.pa.v, 5 * size);
            EXPECT_EQ(entry.leaf.prot, rig_granted(rig->f, RW));
            EXPECT_EQ(rig_query(rig, va - rig->page).kind, QR_ENTRY_NONE);
            rig_validate(rig);

            /* Seen from the top, every table but the root goes. */
            rig_unmap_all(rig);
            EXPECT_EQ(rig->tables.table_count, rig->base_tables);
            rig_shutdown(rig);
        }
    }
}

TEST(cursor, prepare_refuses_what_stands_in_the_way)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t big = rig_size(rig, 1);
        uintptr_t va = somewhere(rig) & ~(big - 1);

        ASSERT_STATUS(rig_map(rig, va, rig_leaf(big, RW, 1)), QR_OK);
        EXPECT_STATUS(rig_map(rig, va, rig_leaf(1 * rig->page, RW, 0)), QR_ERR_EXISTS);
        rig_unmap(rig, rig_range(va, big));
        ASSERT_STATUS(rig_map(rig, va, rig_leaf(1 * rig->page, RW, 0)), QR_OK);
        EXPECT_STATUS(rig_map(rig, va, rig_leaf(big, RW, 1)), QR_ERR_EXISTS);
        EXPECT_EQ(rig_query(rig, va).leaf.pa.v, 1 * rig->page);
        rig_unmap(rig, rig_range(va, big));
        rig_shutdown(rig);
    }
}

/*
 * A cursor on part of a table leaves the table when it becomes empty.  A large
 * leaf can take its place; the batch gets the table.
 */
TEST(cursor, an_empty_table_gives_way_to_a_large_leaf)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t big = rig_size(rig, 1);
        uintptr_t va = somewhere(rig) & ~(big - 1);

        ASSERT_STATUS(rig_map(rig, va, rig_leaf(1 * rig->page, RW, 0)), QR_OK);
        size_t tables = rig->tables.table_count;
        rig_unmap(rig, rig_range(va, rig->page));
        EXPECT_EQ(rig->tables.table_count, tables);
        ASSERT_STATUS(rig_map(rig, va, rig_leaf(big, RW, 1)), QR_OK);
        EXPECT_EQ(rig->tables.table_count, tables - 1);
        EXPECT_EQ(rig_query(rig, va + rig->page).level, 1);
        rig_unmap(rig, rig_range(va, big));
        rig_shutdown(rig);
    }
}

static bool
refuse_nth(void *context)
{
    unsigned *left = context;

    return --*left == 0;
}

TEST(cursor, prepare_without_memory_changes_nothing)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t va = somewhere(rig);
        size_t free_frames = machine_free_frames(rig->machine);
        enum qr_status status = QR_ERR_NO_MEMORY;
        unsigned nth = 0;

        while (status == QR_ERR_NO_MEMORY) {
            unsigned left = ++nth;

            qr_frames_set_refusal(rig->machine->frames, refuse_nth, &left);
            status = rig_map(rig, va, rig_leaf(1 * rig->page, RW, 0));
            qr_frames_set_refusal(rig->machine->frames, NULL, NULL);
            if (status == QR_OK)
                break;
            EXPECT_EQ(rig->tables.table_count, rig->base_tables);
            EXPECT_EQ(rig_query(rig, va).kind, QR_ENTRY_NONE);
            EXPECT_EQ(machine_free_frames(rig->machine), free_frames);
            rig_validate(rig);
        }
        EXPECT_STATUS(status, QR_OK);
        EXPECT_EQ(nth, rig_tables(rig, 0) - rig->base_tables + 1);
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}

TEST(cursor, split_without_memory_changes_nothing)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t size = rig_size(rig, 1);
        unsigned left = 1;
        struct qr_cursor c;

        ASSERT_STATUS(rig_map(rig, size, rig_leaf(size, RW, 1)), QR_OK);
        qr_frames_set_refusal(rig->machine->frames, refuse_nth, &left);
        qr_cursor_open(&c, &rig->tables, rig_range(size, size), &rig->batch);
        EXPECT_STATUS(qr_cursor_split(&c, qr_va_of(size)), QR_ERR_NO_MEMORY);
        EXPECT_EQ(qr_cursor_query(&c, qr_va_of(size)).level, 1);
        qr_cursor_close(&c);
        qr_frames_set_refusal(rig->machine->frames, NULL, NULL);
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}

TEST(cursor, marks_keep_kind_and_value_and_give_way_to_leaves)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t va = somewhere(rig);
        struct qr_mark swap = {QR_MARK_SWAP, 0x2345678};
        struct qr_leaf leaf = rig_leaf(7 * rig->page, RW, 0);
        struct qr_cursor c;

        qr_cursor_open(&c, &rig->tables, rig_range(va, rig->page), NULL);
        ASSERT_STATUS(qr_cursor_prepare(&c, qr_va_of(va), 0), QR_OK);
        qr_cursor_mark(&c, qr_va_of(va), 0, swap);
        struct qr_entry entry = qr_cursor_query(&c, qr_va_of(va));
        EXPECT_EQ(entry.kind, QR_ENTRY_MARK);
        EXPECT_EQ(entry.mark.kind, QR_MARK_SWAP);
        EXPECT_EQ(entry.mark.value, swap.value);
        ASSERT_STATUS(qr_cursor_prepare(&c, qr_va_of(va), 0), QR_OK);
        qr_cursor_map(&c, qr_va_of(va), &leaf);
        EXPECT_EQ(qr_cursor_query(&c, qr_va_of(va)).kind, QR_ENTRY_LEAF);
        qr_cursor_close(&c);
        rig_validate(rig);
        rig_unmap(rig, rig_range(va, rig->page));
        rig_shutdown(rig);
    }
}

TEST(cursor, unmap_and_replace_return_what_hardware_noted)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t va = somewhere(rig);
        struct qr_leaf used = rig_leaf(7 * rig->page, RW, 0);
        struct qr_leaf next = rig_leaf(9 * rig->page, RO, 0);
        struct qr_cursor c;

        used.flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY | QR_LEAF_SOFT_2;
        ASSERT_STATUS(rig_map(rig, va, used), QR_OK);
        qr_cursor_open(&c, &rig->tables, rig_range(va, rig->page), &rig->batch);
        struct qr_entry old = qr_cursor_replace(&c, qr_va_of(va), &next);
        EXPECT_EQ(old.leaf.pa.v, 7 * rig->page);
        EXPECT_EQ(old.leaf.flags, used.flags);
        EXPECT_TRUE(rig->f->break_before_make || rig->batch.page_count == 1);
        old = qr_cursor_unmap(&c, qr_va_of(va));
        EXPECT_EQ(old.leaf.pa.v, 9 * rig->page);
        EXPECT_EQ(old.leaf.flags, 0);
        EXPECT_EQ(qr_cursor_query(&c, qr_va_of(va)).kind, QR_ENTRY_NONE);
        qr_cursor_close(&c);
        rig->batch.flush(&rig->batch);
        rig_shutdown(rig);
    }
}

/* What must be flushed is noted, and what need not is not. */
TEST(cursor, update_notes_a_flush_where_hardware_could_know_better)
{
    static const struct {
        unsigned before_prot, before_flags, prot, set, clear, notes;
    } cases[] = {
        {RO, 0, RW, 0, 0, 0},
        {RW, 0, RO, 0, 0, 1},
        {RW, 0, RW | QR_PROT_EXEC, 0, 0, 0},
        {RW | QR_PROT_EXEC, 0, RW, 0, 0, 1},
        {RW, 0, NONE, 0, 0, 1},
        {NONE, 0, RW, 0, 0, 0},
        {NONE, QR_LEAF_DIRTY, NONE, 0, QR_LEAF_DIRTY, 0},
        {RW, QR_LEAF_DIRTY, RW, 0, QR_LEAF_DIRTY, 1},
        {RW, QR_LEAF_ACCESSED, RW, 0, QR_LEAF_ACCESSED, 1},
        {RW, 0, RW, QR_LEAF_DIRTY, QR_LEAF_ACCESSED, 0},
        {RW, QR_LEAF_SOFT_1, RW, 0, QR_LEAF_SOFT_1, 0},
        {RW, 0, QR_PROT_READ | QR_PROT_WRITE, 0, 0, 1},
    };

    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t va = somewhere(rig);

        for (size_t i = 0; i < QR_ARRAY_COUNT(cases); i++) {
            struct qr_leaf leaf = rig_leaf(7 * rig->page, cases[i].before_prot, 0);
            bool same = cases[i].clear == 0 && rig_granted(rig->f, cases[i].before_prot) ==
                                                   rig_granted(rig->f, cases[i].prot);
            struct qr_cursor c;

            leaf.flags = cases[i].before_flags;
            leaf.pkey = 7;
            ASSERT_STATUS(rig_map(rig, va, leaf), QR_OK);
            qr_cursor_open(&c, &rig->tables, rig_range(va, rig->page), &rig->batch);
            qr_cursor_update(&c, qr_va_of(va), cases[i].prot, cases[i].set, cases[i].clear);
            struct qr_entry entry = qr_cursor_query(&c, qr_va_of(va));
            EXPECT_EQ(rig->batch.page_count, same ? 0 : cases[i].notes);
            EXPECT_EQ(entry.leaf.prot, rig_granted(rig->f, cases[i].prot));
            EXPECT_EQ(entry.leaf.flags, (cases[i].before_flags & ~cases[i].clear) | cases[i].set);
            EXPECT_EQ(entry.leaf.pkey, rig_key(rig->f, 7));
            EXPECT_EQ(entry.leaf.pa.v, 7 * rig->page);
            qr_cursor_close(&c);
            rig->batch.flush(&rig->batch);
            rig_unmap(rig, rig_range(va, rig->page));
        }
        rig_shutdown(rig);
    }
}

TEST(cursor, a_split_leaf_means_the_same)
{
    EVERY_FORMAT(format)
    {
        for (unsigned level = 1; level < format->traits->info.levels; level++) {
            if ((format->traits->info.leaf_levels >> level & 1) == 0)
                continue;
            struct rig *rig = rig_boot(format, 1);
            uintptr_t size = rig_size(rig, level);
            uintptr_t part = rig_size(rig, level - 1);
            uintptr_t va = somewhere(rig) & ~(size - 1);
            struct qr_leaf leaf = rig_leaf(3 * size, RW, level);
            struct qr_cursor c;

            leaf.flags = QR_LEAF_DIRTY | QR_LEAF_SOFT_1;
            leaf.cache = QR_CACHE_WRITE_COMBINING;
            leaf.pkey = 3;
            ASSERT_STATUS(rig_map(rig, va, leaf), QR_OK);
            qr_cursor_open(&c, &rig->tables, rig_range(va, size), &rig->batch);
            ASSERT_STATUS(qr_cursor_split(&c, qr_va_of(va + part)), QR_OK);
            for (uintptr_t at = 0; at < size; at += part) {
                struct qr_entry entry = qr_cursor_query(&c, qr_va_of(va + at));

                ASSERT_EQ(entry.level, level - 1);
                ASSERT_EQ(entry.leaf.pa.v, leaf.pa.v + at);
                ASSERT_EQ(entry.leaf.prot, rig_granted(rig->f, leaf.prot));
                ASSERT_EQ(entry.leaf.flags, leaf.flags);
                ASSERT_EQ(entry.leaf.cache, rig_cache(rig->f, leaf.cache));
                ASSERT_EQ(entry.leaf.pkey, rig_key(rig->f, leaf.pkey));
            }
            bool breaks = rig->f->break_before_make && !rig->f->split_live;

            EXPECT_EQ(rig->batch.page_count + rig->flushes,
                      breaks ? rig->flushes : 1 + rig->flushes);
            qr_cursor_close(&c);
            rig_validate(rig);
            rig_unmap(rig, rig_range(va, size));
            rig_shutdown(rig);
        }
    }
}

TEST(cursor, a_split_mark_counts_on_where_its_value_counts_pages)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t size = rig_size(rig, 1);
        uintptr_t va = somewhere(rig) & ~(size - 1);
        struct qr_mark swap = {QR_MARK_SWAP, 1000};
        struct qr_cursor c;

        qr_cursor_open(&c, &rig->tables, rig_range(va, size), &rig->batch);
        ASSERT_STATUS(qr_cursor_prepare(&c, qr_va_of(va), 1), QR_OK);
        qr_cursor_mark(&c, qr_va_of(va), 1, swap);
        ASSERT_STATUS(qr_cursor_split(&c, qr_va_of(va)), QR_OK);
        EXPECT_EQ(rig->batch.page_count, 0);
        EXPECT_EQ(qr_cursor_query(&c, qr_va_of(va + 5 * rig->page)).mark.value, 1005);
        qr_cursor_close(&c);
        rig_unmap(rig, rig_range(va, size));
        rig_shutdown(rig);
    }
}

struct seen {
    unsigned count;
    uintptr_t last;
};

static void
see(void *context, const struct qr_entry *entry)
{
    struct seen *seen = context;

    EXPECT_TRUE(seen->count == 0 || entry->start.v > seen->last);
    seen->count++;
    seen->last = entry->start.v;
}

TEST(cursor, unmap_range_tells_of_each_entry_once_and_in_order)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t step = rig_size(rig, 1) + rig->page;
        uintptr_t va = (rig->f->info.levels > 2 ? rig_size(rig, 2) : 4 * step) - 4 * step;
        struct seen seen = {0, 0};
        struct qr_cursor c;

        va &= ~(rig->page - 1);
        for (unsigned i = 0; i < 8; i++)
            ASSERT_STATUS(rig_map(rig, va + i * step, rig_leaf(1 * rig->page * i, RW, 0)), QR_OK);
        qr_cursor_open(&c, &rig->tables, rig_range(va + step, 6 * step), &rig->batch);
        qr_cursor_unmap_range(&c, rig_range(va + step, 6 * step), see, &seen);
        qr_cursor_close(&c);
        rig->batch.flush(&rig->batch);
        EXPECT_EQ(seen.count, 6);
        EXPECT_EQ(rig_query(rig, va).kind, QR_ENTRY_LEAF);
        EXPECT_EQ(rig_query(rig, va + step).kind, QR_ENTRY_NONE);
        EXPECT_EQ(rig_query(rig, va + 7 * step).kind, QR_ENTRY_LEAF);
        rig_validate(rig);
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}

/* The batch keeps each frame until its flush, however often it flushes by itself. */
static void
hand_over(void *context, const struct qr_entry *entry)
{
    struct rig *rig = context;
    struct qr_frame *frame = qr_frame_of(rig->machine->frames, qr_pa_to_pfn(entry->leaf.pa));

    EXPECT_EQ(atomic_load(&frame->refs), 1);
    qr_tlb_batch_add_frame(&rig->batch, frame);
}

TEST(cursor, unmap_range_hands_frames_to_the_batch)
{
    enum { PAGES = 3 * QR_BATCH_FRAMES + 1 };

    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        struct qr_va_range range = rig_range(somewhere(rig), PAGES * rig->page);
        struct qr_cursor c;

        for (unsigned i = 0; i < PAGES; i++) {
            struct qr_frame *frame = qr_frame_alloc_block(
                rig->machine->frames, rig->f->info.page_shift - QR_PAGE_SHIFT, 0);
            uint64_t pa = qr_frame_pa(rig->machine->frames, frame).v;

            ASSERT_STATUS(rig_map(rig, range.start.v + i * rig->page, rig_leaf(pa, RW, 0)), QR_OK);
        }
        rig->flushes = 0;
        qr_cursor_open(&c, &rig->tables, range, &rig->batch);
        qr_cursor_unmap_range(&c, range, hand_over, rig);
        qr_cursor_close(&c);
        EXPECT_EQ(rig->flushes, 3);
        rig->batch.flush(&rig->batch);
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}

static bool
only_even_pages(void *context, const struct qr_entry *entry)
{
    const struct rig *rig = context;

    return entry->start.v / rig->page % 2 == 0;
}

TEST(cursor, protect_range_gives_write_only_where_it_may)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t at = 256 * rig->page;
        struct qr_va_range range = rig_range(at, 4 * rig->page);
        struct qr_cursor c;

        for (unsigned i = 0; i < 4; i++)
            ASSERT_STATUS(rig_map(rig, range.start.v + i * rig->page,
                                  rig_leaf(1 * rig->page * i, i < 2 ? RO : RW, 0)),
                          QR_OK);
        qr_cursor_open(&c, &rig->tables, range, &rig->batch);
        qr_cursor_protect_range(&c, range, RW, 5, only_even_pages, rig);
        qr_cursor_close(&c);
        rig->batch.flush(&rig->batch);
        EXPECT_EQ(rig_query(rig, at + 0 * rig->page).leaf.prot, rig_granted(rig->f, RW));
        EXPECT_EQ(rig_query(rig, at + 1 * rig->page).leaf.prot, rig_granted(rig->f, RO));
        EXPECT_EQ(rig_query(rig, at + 2 * rig->page).leaf.prot, rig_granted(rig->f, RW));
        EXPECT_EQ(rig_query(rig, at + 3 * rig->page).leaf.prot, rig_granted(rig->f, RW));
        EXPECT_EQ(rig_query(rig, at + 3 * rig->page).leaf.pkey, rig_key(rig->f, 5));
        qr_cursor_open(&c, &rig->tables, range, &rig->batch);
        qr_cursor_protect_range(&c, range, NONE, 0, NULL, NULL);
        EXPECT_EQ(rig->batch.page_count, 4);
        qr_cursor_close(&c);
        rig->batch.flush(&rig->batch);
        EXPECT_EQ(rig_query(rig, at + 2 * rig->page).leaf.prot, rig_granted(rig->f, NONE));
        EXPECT_EQ(rig_query(rig, at + 2 * rig->page).leaf.pa.v, 2 * rig->page);
        rig_unmap(rig, range);
        rig_shutdown(rig);
    }
}

struct broken {
    struct qr_cursor *cursor;
    unsigned flushes;
};

/* What stands in the tables while the flush goes on. */
static void
look_during_flush(struct rig *rig, qr_va start, qr_va last)
{
    struct broken *broken = rig->context;
    const struct qr_cursor *c = broken->cursor;
    void *table = qr_port_window_open(c->pa[c->level]);

    (void)last;
    EXPECT_EQ(pte_load(rig->f, table, walk_index(rig->f, start.v, c->level)), 0);
    broken->flushes++;
}

TEST(cursor, break_before_make_flushes_while_nothing_stands_there)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t size = rig_size(rig, 1);
        struct qr_leaf next = rig_leaf(3 * size, RW, 1);
        struct qr_cursor c;
        struct broken broken = {&c, 0};

        if (rig->f->break_before_make) {
            ASSERT_STATUS(rig_map(rig, size, rig_leaf(2 * size, RW, 1)), QR_OK);
            rig->flushed = look_during_flush;
            rig->context = &broken;
            qr_cursor_open(&c, &rig->tables, rig_range(size, size), &rig->batch);
            (void)qr_cursor_replace(&c, qr_va_of(size), &next);
            EXPECT_EQ(broken.flushes, 1);
            EXPECT_EQ(qr_cursor_query(&c, qr_va_of(size)).leaf.pa.v, 3 * size);
            ASSERT_STATUS(qr_cursor_split(&c, qr_va_of(size)), QR_OK);
            EXPECT_EQ(broken.flushes, rig->f->split_live ? 1 : 2);
            EXPECT_EQ(qr_cursor_query(&c, qr_va_of(size)).leaf.pa.v, 3 * size);
            qr_cursor_close(&c);
            rig->flushed = NULL;
            rig_unmap(rig, rig_range(size, size));
        }
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}

TEST(cursor, misuse_is_named)
{
    struct rig *rig = rig_boot(&qr_format_x86_64, 1);
    struct qr_leaf leaf = rig_leaf(0x1000, RW, 0);
    struct qr_cursor c;

    ASSERT_STATUS(rig_map(rig, 0x5000, leaf), QR_OK);
    EXPECT_PANIC(rig_map(rig, 0x5000, leaf), "PTE_MARK");
    EXPECT_PANIC(qr_cursor_open(&c, &rig->tables, rig_range(0x5000, 0), NULL), "first <= last");
    EXPECT_PANIC(qr_cursor_open(&c, &rig->tables, rig_range(0x5001, 4096), NULL),
                 "walk_entry_mask");
#ifdef CONFIG_MEMORY_DEBUGGING
    EXPECT_PANIC(qr_cursor_open(&c, &rig->tables, rig_range((uintptr_t)1 << 47, rig->page), NULL),
                 "canonical");
#endif
    EXPECT_PANIC(qr_tables_fini(&rig->tables), "unmap everything first");
    rig_unmap(rig, rig_range(0x5000, 0x1000));
    rig_shutdown(rig);
}
