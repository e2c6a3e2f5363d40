/* SPDX-License-Identifier: MIT */
/*
 * The global invariants find what they are there for: each test breaks one thing
 * behind the library's back and wants it named.
 */
#include "harness.h"
#include "sim.h"

#include <quire/space.h>
#include <quire/tlb.h>

#include <string.h>

static struct sim *
boot(void)
{
    struct sim *sim = sim_boot((struct sim_options){.features = SIM_NO_VALIDATE});

    EXPECT_EQ(sim_map(sim, 0, 4, SIM_W), QR_OK);
    for (size_t page = 0; page < 3; page++)
        sim_write(sim, page, page);
    sim_validate(sim);
    return sim;
}

static void
with_cursor(struct sim *sim, size_t page, void (*change)(struct qr_cursor *cursor, qr_va va))
{
    struct qr_space *space = sim_space(sim);
    struct qr_va_range range = {sim_page(page), sim_page(page + 1)};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&cursor, &space->tables, range, &batch);
    change(&cursor, range.start);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
}

static struct qr_frame *
frame_behind(struct sim *sim, size_t page)
{
    struct sim_mapping mapping = sim_walk(sim, sim_space(sim)->tables.root_pa, sim_page(page));

    return qr_frame_of(sim_frames(sim), qr_pa_to_pfn(mapping.pa));
}

static void
make_writable(struct qr_cursor *cursor, qr_va va)
{
    qr_cursor_update(cursor, va, SIM_W | QR_PROT_USER, 0, 0);
}

static void
break_cow(struct sim *sim)
{
    (void)sim_fork(sim);
    with_cursor(sim, 1, make_writable);
}

static void
map_somewhere(struct qr_cursor *cursor, qr_va va)
{
    struct qr_leaf leaf = {.prot = QR_PROT_READ | QR_PROT_USER};

    leaf.pa = qr_frame_pa(cursor->tables->frames,
                          qr_frame_alloc(cursor->tables->frames, QR_ALLOC_ATOMIC));
    EXPECT_EQ(qr_cursor_prepare(cursor, va, 0), QR_OK);
    qr_cursor_map(cursor, va, &leaf);
}

static void
break_region(struct sim *sim)
{
    with_cursor(sim, 9, map_somewhere);
}

static void
break_type(struct sim *sim)
{
    with_cursor(sim, 3, map_somewhere);
}

static void
break_rights(struct sim *sim)
{
    EXPECT_EQ(sim_protect(sim, 0, 4, SIM_R), QR_OK);
    with_cursor(sim, 1, make_writable);
}

static void
break_reference(struct sim *sim)
{
    atomic_fetch_sub(&frame_behind(sim, 1)->maps, 1);
}

static void
break_free(struct sim *sim)
{
    qr_frame_put(sim_frames(sim), frame_behind(sim, 1));
}

static void
break_resident(struct sim *sim)
{
    atomic_fetch_add(&sim_space(sim)->resident[0], 1);
}

static void
break_tables(struct sim *sim)
{
    struct qr_frame *frame = qr_frame_alloc(sim_frames(sim), 0);

    qr_frame_set_type(frame, QR_FRAME_TABLE);
}

static void
break_region_extent(struct sim *sim)
{
    qr_space_find(sim_space(sim), sim_page(0))->end.v += QR_PAGE_SIZE;
}

static void
break_region_order(struct sim *sim)
{
    EXPECT_EQ(sim_protect(sim, 2, 3, SIM_R), QR_OK);
    qr_space_find(sim_space(sim), sim_page(2))->start.v -= QR_PAGE_SIZE;
}

static void
unmap_entry(struct qr_cursor *cursor, qr_va va)
{
    (void)qr_cursor_unmap(cursor, va);
}

static void
break_entry(struct sim *sim)
{
    with_cursor(sim, 1, unmap_entry);
}

static void
break_zero_page(struct sim *sim)
{
    (void)sim_read(sim, 3);
    with_cursor(sim, 3, make_writable);
}

static void
break_object(struct sim *sim)
{
    struct qr_object *object;

    EXPECT_EQ(qr_object_create(sim_objects(sim), &qr_pager_memory, NULL, 8 * QR_PAGE_SIZE, &object),
              QR_OK);
    EXPECT_EQ(sim_map_object(sim, 20, 4, SIM_W, object, 0), QR_OK);
    sim_write(sim, 21, 1);
    qr_space_find(sim_space(sim), sim_page(20))->object_page = 1;
}

static const struct {
    const char *name;
    void (*run)(struct sim *sim);
    const char *said;
} breaks[] = {
    {"copy-on-write", break_cow, "frame"},
    {"a page outside every region", break_region, "region"},
    {"a page of another kind", break_type, "frame of type"},
    {"a right that the region lacks", break_rights, "rights"},
    {"a mapping that is not counted", break_reference, "frame"},
    {"a frame that is free", break_free, "fr"},
    {"a resident page too many", break_resident, "resident"},
    {"a table of nobody", break_tables, "tables"},
    {"a region too long", break_region_extent, "spaces"},
    {"regions that overlap", break_region_order, "spaces"},
    {"an entry that went", break_entry, "spaces"},
    {"a writable zero page", break_zero_page, "zero"},
    {"another page of the object", break_object, "mapping differ"},
};

static void
break_one(void *context)
{
    struct sim *sim = boot();

    breaks[*(size_t *)context].run(sim);
    sim_validate(sim);
}

TEST(validate, every_invariant_is_found_broken)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(breaks); i++) {
        char message[400] = "";

        if (!sim_catch(break_one, &i, message, sizeof(message)))
            TEST_FAIL("%s: not found", breaks[i].name);
        else if (strstr(message, breaks[i].said) == NULL)
            TEST_FAIL("%s: \"%s\"", breaks[i].name, message);
    }
}

TEST(validate, the_state_hash_sees_contents_and_rights_but_not_how_they_are_kept)
{
    struct sim *sim = boot();
    uint64_t hash = sim_state_hash(sim);
    uint64_t other;

    (void)sim_read(sim, 3); /* the zero page: no difference */
    EXPECT_EQ(sim_state_hash(sim), hash);
    sim_write(sim, 3, 0); /* a page of zeroes: no difference */
    EXPECT_EQ(sim_state_hash(sim), hash);
    sim_write(sim, 3, 1);
    other = sim_state_hash(sim);
    EXPECT_NE(other, hash);
    sim_write(sim, 3, 0);
    EXPECT_EQ(sim_state_hash(sim), hash);
    EXPECT_EQ(sim_protect(sim, 1, 2, SIM_R), QR_OK);
    EXPECT_NE(sim_state_hash(sim), hash);
    EXPECT_EQ(sim_protect(sim, 1, 2, SIM_W), QR_OK);
    EXPECT_EQ(sim_state_hash(sim), hash);
    sim_shutdown(sim);
}

TEST(validate, usage_is_what_is_in_use)
{
    struct sim *sim = boot();
    struct sim_usage before;
    struct qr_frame *frame;
    void *block;

    qr_kfree(sim_heap(sim), qr_kmalloc(sim_heap(sim), 100, 0)); /* makes its magazine */
    before = sim_usage(sim);
    frame = qr_frame_alloc(sim_frames(sim), 0);
    block = qr_kmalloc(sim_heap(sim), 100, 0);
    EXPECT_EQ(sim_usage(sim).frames, before.frames + 1);
    EXPECT_GE(sim_usage(sim).heap_bytes, before.heap_bytes + 100);
    qr_kfree(sim_heap(sim), block);
    qr_frame_put(sim_frames(sim), frame);
    EXPECT_EQ(sim_usage(sim).frames, before.frames);
    EXPECT_EQ(sim_usage(sim).heap_bytes, before.heap_bytes);
    sim_shutdown(sim);
}

static void
leak_a_frame(void *context)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 512});

    (void)context;
    (void)qr_frame_alloc(sim_frames(sim), 0);
    sim_shutdown(sim);
}

static void
leak_a_block(void *context)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 512});

    (void)context;
    (void)qr_kmalloc(sim_heap(sim), 24, 0);
    sim_shutdown(sim);
}

static void
leak_a_space(void *context)
{
    struct sim *sim = sim_boot((struct sim_options){.frames = 512});

    (void)context;
    (void)sim_space_create(sim);
    sim_shutdown(sim);
}

TEST(validate, shutdown_finds_leaks)
{
    char message[300];

    ASSERT_TRUE(sim_catch(leak_a_frame, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "frames were in use before");
    ASSERT_TRUE(sim_catch(leak_a_block, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "heap objects leaked");
    ASSERT_TRUE(sim_catch(leak_a_space, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "spaces leaked");
}
