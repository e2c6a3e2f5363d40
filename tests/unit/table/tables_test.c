/* SPDX-License-Identifier: MIT */
/*
 * Trees: birth, sharing of the kernel's half, adoption, death, and what the
 * validator finds.
 */
#include "tests/unit/table/rig.h"

#define RW (QR_PROT_READ | QR_PROT_WRITE)

/* The first address of the upper half. */
static uintptr_t
upper(const struct rig *rig)
{
    const struct qr_format_info *info = &rig->f->info;

    if (info->roots == QR_ROOTS_FLAT)
        return (uintptr_t)3 << 30;
    return -((uintptr_t)1 << (info->va_bits - (info->roots == QR_ROOTS_SIGNED)));
}

static size_t
root_entries(const struct rig *rig)
{
    return (size_t)1 << rig->f->index_bits(rig->f, rig->f->info.levels - 1);
}

/* Top-level entries of the upper half that users' roots share. */
static size_t
shared_entries(const struct rig *rig)
{
    if (rig->f->info.roots == QR_ROOTS_TWO)
        return 0;
    return root_entries(rig) / (rig->f->info.roots == QR_ROOTS_FLAT ? 4 : 2);
}

/* Tables of a tree whose upper half is filled. */
static size_t
filled_tables(const struct rig *rig)
{
    return rig->base_tables > 1 ? rig->base_tables : 1 + shared_entries(rig);
}

TEST(tables, spaces_share_the_upper_half)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        struct qr_tables space;
        unsigned entry_index = shared_entries(rig) > 5 ? 5 : 0;
        uintptr_t va = upper(rig) + entry_index * rig_size(rig, rig->f->info.levels - 1);

        ASSERT_STATUS(qr_tables_fill_upper_half(&rig->tables), QR_OK);
        EXPECT_EQ(rig->tables.table_count, filled_tables(rig));
        rig_validate(rig);
        ASSERT_STATUS(
            qr_tables_init(&space, format, rig->machine->frames, rig->epoch, &rig->tables), QR_OK);

        /* What the kernel maps later is seen through the space's root. */
        ASSERT_STATUS(rig_map(rig, va, rig_leaf(1 * rig->page, RW, 0)), QR_OK);
        void *root = qr_port_window_open(space.root_pa);
        void *kernel_root = qr_port_window_open(rig->tables.root_pa);
        size_t index = walk_index(rig->f, va, rig->f->info.levels - 1);
        EXPECT_NE(pte_load(rig->f, kernel_root, index), 0);
        EXPECT_EQ(pte_load(rig->f, root, index),
                  shared_entries(rig) > 0 ? pte_load(rig->f, kernel_root, index) : 0);
        EXPECT_EQ(pte_load(rig->f, root, 0) != 0, rig->f->root_is_loaded);
        struct qr_entry entry;
        EXPECT_FALSE(qr_tables_next(&space, qr_va_of(0), &entry));
        EXPECT_TRUE(qr_tables_next(&rig->tables, qr_va_of(0), &entry));
        EXPECT_EQ(entry.start.v, va);

        qr_tables_fini(&space);
        EXPECT_EQ(rig_query(rig, va).kind, QR_ENTRY_LEAF);
        rig_unmap(rig, rig_range(va, rig->page));
        rig_shutdown(rig);
    }
}

TEST(tables, tables_of_the_shared_half_stay_when_they_are_empty)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t span = rig_size(rig, rig->f->info.levels - 1);

        ASSERT_STATUS(qr_tables_fill_upper_half(&rig->tables), QR_OK);
        size_t count = rig->tables.table_count;
        ASSERT_STATUS(rig_map(rig, upper(rig) + (shared_entries(rig) > 1 ? span : 0),
                              rig_leaf(rig->page, RW, 0)),
                      QR_OK);
        EXPECT_EQ(rig->tables.table_count,
                  count + rig->f->info.levels - 1 - (shared_entries(rig) > 0));
        rig_unmap(rig, rig_range(upper(rig), shared_entries(rig) > 4 ? 4 * span : span));
        EXPECT_EQ(rig->tables.table_count, count);
        rig_shutdown(rig);
    }
}

TEST(tables, init_without_memory_leaves_nothing)
{
    struct rig *rig = rig_boot(&qr_format_x86_64, 1);
    static struct qr_frame *taken[16384];
    struct qr_tables space;
    size_t count = 0;

    while ((taken[count] = qr_frame_alloc(rig->machine->frames,
                                          QR_ALLOC_RECLAIMER | QR_ALLOC_NO_REPORT)) != NULL)
        count++;
    EXPECT_STATUS(qr_tables_init(&space, rig->format, rig->machine->frames, rig->epoch, NULL),
                  QR_ERR_NO_MEMORY);
    EXPECT_STATUS(qr_tables_fill_upper_half(&rig->tables), QR_ERR_NO_MEMORY);
    rig_validate(rig);
    qr_frame_free_many(rig->machine->frames, count, taken);
    rig_shutdown(rig);
}

static bool
refuse_nth(void *context)
{
    unsigned *left = context;

    return (*left)-- == 0;
}

TEST(tables, init_refused_at_each_table_leaves_nothing)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        size_t free_frames = machine_free_frames(rig->machine);
        enum qr_status status = QR_ERR_NO_MEMORY;
        unsigned refused = 0;
        struct qr_tables space;

        for (; status != QR_OK; refused++) {
            unsigned left = refused;

            qr_frames_set_refusal(rig->machine->frames, refuse_nth, &left);
            status = qr_tables_init(&space, format, rig->machine->frames, rig->epoch, NULL);
            qr_frames_set_refusal(rig->machine->frames, NULL, NULL);
            if (status != QR_OK)
                EXPECT_EQ(machine_free_frames(rig->machine), free_frames);
        }
        EXPECT_EQ(refused, rig->base_tables + 1);
        qr_tables_fini(&space);
        EXPECT_EQ(machine_free_frames(rig->machine), free_frames);
        rig_shutdown(rig);
    }
}

/* Of a flat format, the kernel's part starts where the kernel says. */
TEST(tables, a_flat_format_is_split_where_it_is_told)
{
    static const uintptr_t splits[] = {(uintptr_t)1 << 30, (uintptr_t)2 << 30, (uintptr_t)3 << 30};

    EVERY_FORMAT(format)
    {
        if (format->traits->info.roots != QR_ROOTS_FLAT)
            continue;
        for (size_t i = 0; i < QR_ARRAY_COUNT(splits); i++) {
            struct rig *rig = rig_boot(format, 1);
            uintptr_t top = rig_size(rig, rig->f->info.levels - 1);
            struct qr_tables space;
            struct qr_entry entry;

            qr_tables_set_split(&rig->tables, qr_va_of(splits[i]));
            ASSERT_STATUS(qr_tables_fill_upper_half(&rig->tables), QR_OK);
            ASSERT_STATUS(rig_map(rig, splits[i], rig_leaf(rig->page, RW, 0)), QR_OK);
            ASSERT_STATUS(
                qr_tables_init(&space, format, rig->machine->frames, rig->epoch, &rig->tables),
                QR_OK);
            void *root = qr_port_window_open(space.root_pa);
            void *kernel = qr_port_window_open(rig->tables.root_pa);
            for (uintptr_t va = 0; va < (uintptr_t)4 << 30; va += top) {
                size_t index = walk_index(rig->f, va, rig->f->info.levels - 1);

                EXPECT_EQ(pte_load(rig->f, root, index) == pte_load(rig->f, kernel, index),
                          va >= splits[i] || !rig->f->root_is_loaded);
            }
            EXPECT_FALSE(qr_tables_next(&space, qr_va_of(0), &entry));
            EXPECT_TRUE(qr_tables_next(&rig->tables, qr_va_of(0), &entry));
            EXPECT_EQ(entry.start.v, splits[i]);
            qr_tables_fini(&space);
            rig_unmap(rig, rig_range(splits[i], rig->page));
            rig_shutdown(rig);
        }
    }
}

TEST(tables, next_walks_both_halves_in_order)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        unsigned high = rig->f->info.levels > 2 && !rig->f->root_is_loaded ? 2 : 1;
        uintptr_t up = rig->f->info.roots == QR_ROOTS_TWO ? 0 : upper(rig);
        uintptr_t at[] = {0, rig->page, rig_size(rig, high) * 2, up + rig_size(rig, high) * 3,
                          up + rig_size(rig, high) * 3 + rig_size(rig, 1) * 7};
        struct qr_entry entry;
        uintptr_t from = 0;

        for (size_t i = 0; i < QR_ARRAY_COUNT(at); i++)
            ASSERT_STATUS(rig_map(rig, at[i], rig_leaf(1 * rig->page * i, RW, 0)), QR_OK);
        for (size_t i = 0; i < QR_ARRAY_COUNT(at); i++) {
            ASSERT_TRUE(qr_tables_next(&rig->tables, qr_va_of(from), &entry));
            EXPECT_EQ(entry.start.v, at[i]);
            EXPECT_EQ(entry.leaf.pa.v, 1 * rig->page * i);
            from = entry.start.v + rig->page;
        }
        EXPECT_FALSE(qr_tables_next(&rig->tables, qr_va_of(from), &entry));
        for (size_t i = 0; i < QR_ARRAY_COUNT(at); i++)
            rig_unmap(rig, rig_range(at[i], rig->page));
        rig_shutdown(rig);
    }
}

/* Boot code's tables: made by hand, in frames that have descriptors but no meaning. */
static qr_pa
build_by_hand(struct rig *rig, uintptr_t va)
{
    walk_format f = rig->f;
    qr_pa below = {0};

    for (unsigned level = 0; level < f->info.levels; level++) {
        struct qr_frame *frame = qr_frame_alloc_block(
            rig->machine->frames, rig->f->info.page_shift - QR_PAGE_SHIFT, QR_ALLOC_ZERO);
        qr_pa pa = qr_frame_pa(rig->machine->frames, frame);
        struct qr_leaf leaf = rig_leaf(5 * rig->page, RW, 0);
        void *table = qr_port_window_open(pa);

        pte_store(f, table, walk_index(f, va, level),
                  level == 0 ? f->make_leaf(f, &leaf, 0) : f->make_table(f, below, level));
        below = pa;
    }
    return below;
}

TEST(tables, a_tree_of_boot_code_is_adopted)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 1);
        uintptr_t va = upper(rig) + rig_size(rig, 1) * 3 + 2 * rig->page;
        qr_pa root = build_by_hand(rig, va);
        struct qr_tables mine = rig->tables;
        char message[200] = "";

        ASSERT_STATUS(qr_tables_adopt(&rig->tables, format, rig->machine->frames, rig->epoch, root),
                      QR_OK);
        EXPECT_EQ(rig->tables.table_count, rig->f->info.levels);
        EXPECT_TRUE(qr_tables_validate(&rig->tables, message, sizeof(message)));
        EXPECT_STR(message, "");
        EXPECT_EQ(rig_query(rig, va).leaf.pa.v, 5 * rig->page);
        ASSERT_STATUS(rig_map(rig, va + rig->page, rig_leaf(6 * rig->page, RW, 0)), QR_OK);
        /* They stay even when they are empty: the frames are boot code's. */
        rig_unmap(rig, rig_range(upper(rig), (rig->f->info.levels > 2 ? rig_size(rig, 2)
                                                                      : 4 * rig_size(rig, 1))));
        EXPECT_EQ(rig->tables.table_count, rig->f->info.levels);
        EXPECT_TRUE(qr_tables_validate(&rig->tables, message, sizeof(message)));
        qr_tables_fini(&rig->tables);
        rig->tables = mine;
        rig_shutdown(rig);
    }
}

TEST(tables, the_validator_finds_each_kind_of_damage)
{
    struct rig *rig = rig_boot(&qr_format_x86_64, 1);
    struct qr_frame *root = rig->tables.root;
    char message[200];
    struct qr_cursor c;

    ASSERT_STATUS(rig_map(rig, 0x5000, rig_leaf(0x7000, RW, 0)), QR_OK);
    qr_cursor_open(&c, &rig->tables, rig_range(0x5000, QR_PAGE_SIZE), NULL);
    struct qr_frame *leaf_table = c.path[0];
    uint64_t *entries = qr_port_window_open(c.pa[0]);
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "locked table");
    qr_cursor_close(&c);

    table_live_add(leaf_table, 1);
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "counts wrong");
    table_live_add(leaf_table, -1);

    atomic_fetch_add(&leaf_table->index, 0x200000);
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "another place");
    atomic_fetch_sub(&leaf_table->index, 0x200000);

    atomic_store(&leaf_table->owner, rig);
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "another tree");
    atomic_store(&leaf_table->owner, &rig->tables);

    entries[5] |= (uint64_t)1 << 52;
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "unknown bits");
    entries[5] &= ~((uint64_t)1 << 52);

    atomic_fetch_add(&rig->tables.table_count, 1);
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "4 linked, 5 counted");
    atomic_fetch_sub(&rig->tables.table_count, 1);

    qr_frame_set_type(leaf_table, QR_FRAME_ANON);
    EXPECT_FALSE(qr_tables_validate(&rig->tables, message, sizeof(message)));
    EXPECT_CONTAINS(message, "frame is none");
    qr_frame_set_type(leaf_table, QR_FRAME_TABLE);

    EXPECT_EQ(table_live(root), 1);
    rig_unmap(rig, rig_range(0x5000, QR_PAGE_SIZE));
    rig_shutdown(rig);
}

/* A walker that entered its section before the unlinking keeps the table from reuse. */
TEST(tables, a_retired_table_waits_for_walkers)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 2);
        uintptr_t span = rig_size(rig, 1);
        size_t free_before;

        ASSERT_STATUS(rig_map(rig, span, rig_leaf(1 * rig->page, RW, 0)), QR_OK);
        free_before = machine_free_frames(rig->machine);
        machine_enter(rig->machine, 1);
        struct qr_cpu *reader = qr_epoch_enter(rig->epoch);

        machine_enter(rig->machine, 0);
        rig_unmap(rig, rig_range(span, span));
        EXPECT_EQ(machine_free_frames(rig->machine), free_before);
        EXPECT_TRUE(qr_tables_collect(&rig->tables));

        machine_enter(rig->machine, 1);
        qr_epoch_leave(rig->epoch, reader);
        machine_enter(rig->machine, 0);
        EXPECT_FALSE(qr_tables_collect(&rig->tables));
        EXPECT_EQ(machine_free_frames(rig->machine), free_before + rig->page / QR_PAGE_SIZE);
        rig_shutdown(rig);
    }
}
