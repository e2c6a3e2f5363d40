/* SPDX-License-Identifier: MIT */
/*
 * Groups of leaves that the TLB may keep as one entry: AArch64's contiguous hint and RISC-V's
 * Svnapot.
 */
#include "tests/unit/table/rig.h"

#define RW (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)
#define RO (QR_PROT_READ | QR_PROT_USER)

/* Run the body once for each format and level that has groups. */
#define EVERY_GROUP(format, level)                                         \
    EVERY_FORMAT(format)                                                   \
    for (unsigned level = 0; level < format->traits->info.levels; level++) \
        if (format->traits->info.group_bits[level] != 0)

struct group {
    struct rig *rig;
    uintptr_t va, size; /* of the group */
    uintptr_t part;     /* bytes of a member */
    struct qr_leaf leaf;
    unsigned level;
};

static void
group_boot(struct group *g, const struct qr_format *format, unsigned level)
{
    g->rig = rig_boot(format, 1);
    g->level = level;
    g->part = rig_size(g->rig, level);
    g->size = g->part << format->traits->info.group_bits[level];
    g->va = g->size;
    g->leaf = rig_leaf(3 * g->size, RW, level);
}

/* One cursor on pages around the group. */
static void
group_open(struct group *g, struct qr_cursor *c)
{
    qr_cursor_open(c, &g->rig->tables, rig_range(g->va, g->size), &g->rig->batch);
}

static void
group_map(struct group *g)
{
    struct qr_cursor c;

    group_open(g, &c);
    ASSERT_STATUS(qr_cursor_prepare(&c, qr_va_of(g->va), g->level), QR_OK);
    qr_cursor_map_group(&c, qr_va_of(g->va), &g->leaf);
    EXPECT_EQ(g->rig->batch.page_count + g->rig->flushes, 0);
    qr_cursor_close(&c);
    rig_validate(g->rig);
}

static void
group_shutdown(struct group *g)
{
    rig_unmap_all(g->rig);
    rig_shutdown(g->rig);
}

static void *
group_table(struct group *g, struct qr_cursor *c, size_t *out_first)
{
    (void)qr_cursor_query(c, qr_va_of(g->va));
    *out_first = walk_index(g->rig->f, g->va, g->level);
    return qr_port_window_open(c->pa[g->level]);
}

/* How many of its entries say that they belong to a group. */
static size_t
group_members(struct group *g)
{
    struct qr_cursor c;
    size_t first, count = 0;

    group_open(g, &c);
    void *table = group_table(g, &c, &first);
    for (size_t i = first; i < first + g->size / g->part; i++)
        count += g->rig->f->grouped(g->rig->f, pte_load(g->rig->f, table, i));
    qr_cursor_close(&c);
    return count;
}

static void
expect_leaves(struct group *g, unsigned prot, unsigned flags)
{
    struct qr_entry entry;
    uintptr_t at = g->va;

    for (; at < g->va + g->size; at += g->part) {
        entry = rig_query(g->rig, at);
        ASSERT_EQ(entry.kind, QR_ENTRY_LEAF);
        ASSERT_EQ(entry.level, g->level);
        ASSERT_EQ(entry.leaf.pa.v, g->leaf.pa.v + (at - g->va));
        ASSERT_EQ(entry.leaf.prot, prot);
        ASSERT_EQ(entry.leaf.flags, flags);
        ASSERT_TRUE(qr_tables_next(&g->rig->tables, qr_va_of(at), &entry));
        ASSERT_EQ(entry.start.v, at);
        ASSERT_EQ(entry.leaf.pa.v, g->leaf.pa.v + (at - g->va));
        ASSERT_EQ(entry.leaf.flags, flags);
    }
}

TEST(group, its_members_are_found_like_any_leaf)
{
    EVERY_GROUP(format, level)
    {
        struct group g;

        group_boot(&g, format, level);
        group_map(&g);
        EXPECT_EQ(group_members(&g), g.size / g.part);
        expect_leaves(&g, RW, 0);
        EXPECT_EQ(rig_query(g.rig, g.va - g.part).kind, QR_ENTRY_NONE);
        EXPECT_EQ(rig_query(g.rig, g.va + g.size).kind, QR_ENTRY_NONE);
        group_shutdown(&g);
    }
}

/* Hardware sets a bit where it likes; it was the page that is asked about, for all we know. */
TEST(group, what_hardware_noted_of_one_holds_for_all)
{
    EVERY_GROUP(format, level)
    {
        struct group g;
        struct qr_cursor c;
        size_t first, member;

        group_boot(&g, format, level);
        group_map(&g);
        member = g.size / g.part - 2;
        group_open(&g, &c);
        void *table = group_table(&g, &c, &first);
        qr_pte pte = pte_load(g.rig->f, table, first + member);
        pte = g.rig->f->flag(g.rig->f, pte, level, QR_LEAF_ACCESSED | QR_LEAF_DIRTY, 0);
        pte_store(g.rig->f, table, first + member, pte);
        qr_cursor_close(&c);
        expect_leaves(&g, RW, QR_LEAF_ACCESSED | QR_LEAF_DIRTY);

        /* ... and stays so when the group is gone. */
        group_open(&g, &c);
        struct qr_entry old = qr_cursor_unmap(&c, qr_va_of(g.va));
        EXPECT_EQ(old.leaf.flags, QR_LEAF_ACCESSED | QR_LEAF_DIRTY);
        EXPECT_EQ(qr_cursor_query(&c, qr_va_of(g.va + g.part)).leaf.flags,
                  QR_LEAF_ACCESSED | QR_LEAF_DIRTY);
        qr_cursor_close(&c);
        group_shutdown(&g);
    }
}

struct watch {
    struct group *group;
    uintptr_t flushed; /* bytes */
};

/* While the flush goes on nothing stands there. */
static void
watch_flush(struct rig *rig, qr_va start, qr_va last)
{
    struct watch *watch = rig->context;
    struct group *g = watch->group;
    qr_pa table = rig->tables.root_pa;

    for (unsigned level = rig->f->info.levels - 1; level > g->level; level--) {
        void *entries = qr_port_window_open(table);

        table = rig->f->read_table(
            rig->f, pte_load(rig->f, entries, walk_index(rig->f, g->va, level)), level);
    }
    void *entries = qr_port_window_open(table);
    size_t first = walk_index(rig->f, g->va, g->level);

    if (watch->flushed == 0) {
        for (size_t i = first; i < first + g->size / g->part; i++)
            EXPECT_EQ(pte_load(rig->f, entries, i), 0);
    }
    if (last.v == UINTPTR_MAX)
        watch->flushed = g->size; /* too many for a list: everything */
    else
        watch->flushed += last.v - start.v + 1;
}

enum change {
    CHANGE_UNMAP,
    CHANGE_REPLACE,
    CHANGE_UPDATE,
    CHANGE_PROTECT,
    CHANGE_TAKE,
    CHANGES,
};

/* Change the member at @at. */
static void
change_member(struct group *g, enum change change, uintptr_t at)
{
    struct qr_va_range range = rig_range(at, g->part);
    struct qr_leaf other = rig_leaf(g->size, RW, g->level);
    struct qr_cursor c;

    qr_cursor_open(&c, &g->rig->tables, range, &g->rig->batch);
    switch (change) {
    case CHANGE_UNMAP:
        (void)qr_cursor_unmap(&c, range.start);
        break;
    case CHANGE_REPLACE:
        (void)qr_cursor_replace(&c, range.start, &other);
        break;
    case CHANGE_UPDATE:
        qr_cursor_update(&c, range.start, RO, QR_LEAF_SOFT_1, 0);
        break;
    case CHANGE_PROTECT:
        qr_cursor_protect_range(&c, range, RO, 0, NULL, NULL);
        break;
    case CHANGE_TAKE:
        qr_cursor_unmap_range(&c, range, rig_ignore, NULL);
        break;
    case CHANGES:
        break;
    }
    qr_cursor_close(&c);
    g->rig->batch.flush(&g->rig->batch);
}

TEST(group, the_first_change_of_one_breaks_it_before_anything_is_made)
{
    EVERY_GROUP(format, level)
    {
        for (enum change change = 0; change < CHANGES; change++) {
            struct group g;
            struct watch watch = {&g, 0};

            group_boot(&g, format, level);
            group_map(&g);
            g.rig->flushed = watch_flush;
            g.rig->context = &watch;
            change_member(&g, change, g.va + 5 * g.part);
            g.rig->flushed = NULL;
            EXPECT_GE(watch.flushed, g.size);
            EXPECT_EQ(group_members(&g), 0);
            rig_validate(g.rig);
            for (uintptr_t at = g.va; at < g.va + g.size; at += g.part) {
                if (at == g.va + 5 * g.part)
                    continue;
                ASSERT_EQ(rig_query(g.rig, at).leaf.pa.v, g.leaf.pa.v + (at - g.va));
                ASSERT_EQ(rig_query(g.rig, at).leaf.prot, RW);
            }
            group_shutdown(&g);
        }
    }
}

struct seen {
    struct group *group;
    uintptr_t next;
};

static void
see(void *context, const struct qr_entry *entry)
{
    struct seen *seen = context;
    struct group *g = seen->group;

    ASSERT_EQ(entry->start.v, seen->next);
    ASSERT_EQ(entry->leaf.pa.v, g->leaf.pa.v + (seen->next - g->va));
    seen->next += g->part;
}

TEST(group, unmap_range_tells_of_each_member)
{
    EVERY_GROUP(format, level)
    {
        struct group g;
        struct seen seen;
        struct qr_cursor c;

        group_boot(&g, format, level);
        seen.group = &g;
        seen.next = g.va;
        group_map(&g);
        group_open(&g, &c);
        qr_cursor_unmap_range(&c, rig_range(g.va, g.size), see, &seen);
        qr_cursor_close(&c);
        g.rig->batch.flush(&g.rig->batch);
        EXPECT_EQ(seen.next, g.va + g.size);
        group_shutdown(&g);
    }
}

static void
note_flags(void *context, const struct qr_entry *entry)
{
    *(unsigned *)context &= entry->leaf.flags;
}

/* The last member carries what hardware noted; all the same nothing is flushed before the batch is. */
TEST(group, one_that_goes_as_a_whole_is_not_broken_up)
{
    EVERY_GROUP(format, level)
    {
        struct group g;
        struct watch watch = {&g, 1};
        struct qr_cursor c;
        unsigned flags = ~0u;
        size_t first;

        group_boot(&g, format, level);
        group_map(&g);
        group_open(&g, &c);
        void *table = group_table(&g, &c, &first);
        size_t last = first + g.size / g.part - 1;
        qr_pte pte = pte_load(g.rig->f, table, last);
        pte_store(g.rig->f, table, last, g.rig->f->flag(g.rig->f, pte, level, QR_LEAF_DIRTY, 0));
        EXPECT_TRUE(qr_cursor_is_grouped(&c, qr_va_of(g.va + g.part)));
        g.rig->flushed = watch_flush;
        g.rig->context = &watch;
        qr_cursor_unmap_range(&c, rig_range(g.va, g.size), note_flags, &flags);
        EXPECT_EQ(watch.flushed, 1u);
        EXPECT_EQ(flags, QR_LEAF_DIRTY);
        EXPECT_FALSE(qr_cursor_is_grouped(&c, qr_va_of(g.va + g.part)));
        qr_cursor_close(&c);
        g.rig->batch.flush(&g.rig->batch);
        EXPECT_GE(watch.flushed, g.size);
        g.rig->flushed = NULL;
        rig_validate(g.rig);
        group_shutdown(&g);
    }
}

/* A range that begins or ends inside the group leaves the others where they are. */
TEST(group, a_part_of_one_goes_alone)
{
    EVERY_GROUP(format, level)
    {
        for (unsigned end = 0; end < 2; end++) {
            struct group g;
            struct qr_cursor c;

            group_boot(&g, format, level);
            group_map(&g);
            uintptr_t cut = 3 * g.part;
            group_open(&g, &c);
            qr_cursor_unmap_range(&c,
                                  end ? rig_range(g.va + cut, g.size - cut) : rig_range(g.va, cut),
                                  rig_ignore, NULL);
            EXPECT_EQ(qr_cursor_query(&c, qr_va_of(g.va)).kind,
                      end ? QR_ENTRY_LEAF : QR_ENTRY_NONE);
            EXPECT_EQ(qr_cursor_query(&c, qr_va_of(g.va + cut)).kind,
                      end ? QR_ENTRY_NONE : QR_ENTRY_LEAF);
            qr_cursor_close(&c);
            g.rig->batch.flush(&g.rig->batch);
            EXPECT_EQ(group_members(&g), 0);
            rig_validate(g.rig);
            group_shutdown(&g);
        }
    }
}

TEST(group, a_member_above_level_0_is_split_alone)
{
    EVERY_GROUP(format, level)
    {
        struct group g;
        struct qr_cursor c;

        if (level == 0)
            continue;
        group_boot(&g, format, level);
        group_map(&g);
        group_open(&g, &c);
        ASSERT_STATUS(qr_cursor_split(&c, qr_va_of(g.va + g.part)), QR_OK);
        EXPECT_EQ(qr_cursor_query(&c, qr_va_of(g.va)).level, level);
        struct qr_entry entry = qr_cursor_query(&c, qr_va_of(g.va + g.part + g.rig->page));
        EXPECT_EQ(entry.level, level - 1);
        qr_cursor_close(&c);
        rig_validate(g.rig);
        group_shutdown(&g);
    }
}

TEST(group, the_validator_misses_none)
{
    EVERY_GROUP(format, level)
    {
        struct group g;
        struct qr_cursor c;
        char message[200] = "";
        size_t first;

        group_boot(&g, format, level);
        walk_format f = g.rig->f;
        group_map(&g);
        group_open(&g, &c);
        void *table = group_table(&g, &c, &first);
        qr_cursor_close(&c);

        qr_pte pte = pte_load(f, table, first + 3);
        struct qr_leaf other = g.leaf;

        pte_store(f, table, first + 3, f->ungroup(f, pte, first + 3));
        EXPECT_FALSE(qr_tables_validate(&g.rig->tables, message, sizeof(message)));
        EXPECT_CONTAINS(message, "unlike its group");
        other.pa.v += g.size;
        pte_store(f, table, first + 3, f->group(f, f->make_leaf(f, &other, level)));
        EXPECT_FALSE(qr_tables_validate(&g.rig->tables, message, sizeof(message)));
        EXPECT_CONTAINS(message, "unlike its group");
        pte_store(f, table, first + 3, pte);
        rig_validate(g.rig);
        group_shutdown(&g);
    }
}

/* What belongs together changes together: the group is one before and afterwards. */
TEST(group, it_changes_as_one)
{
    EVERY_GROUP(format, level)
    {
        struct group g;
        struct qr_cursor c;

        group_boot(&g, format, level);
        group_map(&g);
        struct qr_leaf leaf = g.leaf;

        leaf.prot = RO;
        leaf.flags = QR_LEAF_ACCESSED;
        group_open(&g, &c);
        qr_cursor_change_group(&c, qr_va_of(g.va), &leaf);
        size_t flushes = g.rig->flushes;
        qr_cursor_change_group(&c, qr_va_of(g.va), &leaf);
        qr_cursor_close(&c);
        EXPECT_EQ(flushes, 1u);
        EXPECT_EQ(g.rig->flushes, flushes); /* it was so already */
        EXPECT_EQ(group_members(&g), g.size / g.part);
        expect_leaves(&g, RO, QR_LEAF_ACCESSED);

        /* A member on its own breaks the group up; the next change makes it one again. */
        group_open(&g, &c);
        qr_cursor_update(&c, qr_va_of(g.va + g.part), RO, QR_LEAF_DIRTY, 0);
        qr_cursor_close(&c);
        EXPECT_EQ(group_members(&g), 0u);
        leaf.prot = RW;
        group_open(&g, &c);
        qr_cursor_change_group(&c, qr_va_of(g.va), &leaf);
        qr_cursor_close(&c);
        EXPECT_EQ(group_members(&g), g.size / g.part);
        expect_leaves(&g, RW, QR_LEAF_ACCESSED | QR_LEAF_DIRTY);

        /* Without rights they are plain, and nobody may have them cached. */
        leaf.prot = QR_PROT_USER;
        group_open(&g, &c);
        qr_cursor_change_group(&c, qr_va_of(g.va), &leaf);
        qr_cursor_close(&c);
        EXPECT_EQ(group_members(&g), 0u);
        rig_validate(g.rig);
        group_shutdown(&g);
    }
}

TEST(group, it_is_taken_out_as_one)
{
    EVERY_GROUP(format, level)
    {
        for (unsigned broken = 0; broken < 2; broken++) {
            struct group g;
            struct qr_cursor c;

            group_boot(&g, format, level);
            group_map(&g);
            group_open(&g, &c);
            if (broken)
                qr_cursor_update(&c, qr_va_of(g.va + g.part), RO, QR_LEAF_DIRTY, 0);
            struct qr_entry entry = qr_cursor_unmap_group(&c, qr_va_of(g.va), level);

            EXPECT_EQ(qr_cursor_unmap_group(&c, qr_va_of(g.va), level).kind, QR_ENTRY_NONE);
            qr_cursor_close(&c);
            EXPECT_EQ(entry.kind, QR_ENTRY_LEAF);
            EXPECT_EQ(entry.leaf.pa.v, g.leaf.pa.v);
            EXPECT_EQ(entry.leaf.flags, broken ? QR_LEAF_DIRTY : 0u);
            EXPECT_EQ(entry.start.v, g.va);
            EXPECT_TRUE(g.rig->batch.page_count > 0 || g.rig->batch.whole);
            rig_validate(g.rig);
            group_shutdown(&g);
        }
    }
}

TEST(group, misuse_is_named)
{
    struct rig *rig = rig_boot(&qr_format_riscv64_sv39, 1);
    struct qr_leaf leaf = rig_leaf(0x20000, RW, 0);
    struct qr_cursor c;

    qr_cursor_open(&c, &rig->tables, rig_range(0x10000, 0x10000), &rig->batch);
    ASSERT_STATUS(qr_cursor_prepare(&c, qr_va_of(0x10000), 0), QR_OK);
    EXPECT_PANIC(qr_cursor_map_group(&c, qr_va_of(0x11000), &leaf), "pa.v");
    leaf.pa.v += 0x1000;
    EXPECT_PANIC(qr_cursor_map_group(&c, qr_va_of(0x10000), &leaf), "pa.v");
    leaf = rig_leaf(0x200000, RW, 1);
    EXPECT_PANIC(qr_cursor_map_group(&c, qr_va_of(0x10000), &leaf), "group_bits");
    qr_cursor_close(&c);
    rig_unmap_all(rig);
    rig_shutdown(rig);
}

static void
moved(void *context, const struct qr_entry *entry, qr_va to)
{
    (void)context, (void)entry, (void)to;
}

/* A group that is moved to where its addresses do not fit a group is plain leaves there. */
TEST(group, moved_members_are_plain)
{
    EVERY_FORMAT(format)
    {
        struct group g;

        if (format->traits->info.group_bits[0] == 0)
            continue;
        group_boot(&g, format, 0);
        group_map(&g);
        struct qr_va_range range = rig_range(g.va, g.size);
        qr_va to = qr_va_of(3 * g.size + g.part);

        ASSERT_STATUS(qr_tables_move_prepare(&g.rig->tables, range, to), QR_OK);
        qr_tables_move(&g.rig->tables, range, to, &g.rig->batch, moved, NULL);
        g.rig->batch.flush(&g.rig->batch);
        rig_validate(g.rig);
        for (uintptr_t i = 0; i < g.size; i += g.part) {
            EXPECT_EQ(rig_query(g.rig, g.va + i).kind, QR_ENTRY_NONE);
            EXPECT_EQ(rig_query(g.rig, to.v + i).leaf.pa.v, g.leaf.pa.v + i);
        }
        group_shutdown(&g);
    }
}

static bool
every_entry(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
    return true;
}

static void
copied(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
}

/* Fork takes WRITE from both sides, which is a change of each member. */
TEST(group, copied_members_are_plain_on_both_sides)
{
    static const struct qr_copy_ops ops = {.wanted = every_entry, .copied = copied};

    EVERY_GROUP(format, level)
    {
        struct group g;
        struct qr_tables child;
        struct qr_cursor from, to;

        group_boot(&g, format, level);
        group_map(&g);
        ASSERT_STATUS(qr_tables_init(&child, format, g.rig->machine->frames, g.rig->epoch, NULL),
                      QR_OK);
        group_open(&g, &from);
        qr_cursor_open(&to, &child, rig_range(g.va, g.size), NULL);
        ASSERT_STATUS(qr_cursor_copy_range(&from, &to, rig_range(g.va, g.size), &ops, NULL), QR_OK);
        EXPECT_EQ(qr_cursor_query(&to, qr_va_of(g.va + g.part)).leaf.pa.v, g.leaf.pa.v + g.part);
        qr_cursor_close(&to);
        qr_cursor_close(&from);
        EXPECT_EQ(group_members(&g), 0);
        expect_leaves(&g, RO, 0);
        qr_cursor_open(&to, &child, rig_range(g.va, g.size), &g.rig->batch);
        qr_cursor_unmap_range(&to, rig_range(g.va, g.size), rig_ignore, NULL);
        qr_cursor_close(&to);
        g.rig->batch.flush(&g.rig->batch);
        qr_tables_fini(&child);
        group_shutdown(&g);
    }
}
