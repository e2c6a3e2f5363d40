/* SPDX-License-Identifier: MIT */
/*
 * The tlb layer, one decision at a time, on the hosted machine's CPUs: who is
 * told of what, what is flushed, and what a switch keeps.  (Interleavings are
 * the business of tests/unit/sim and of tests/models.)
 */
#include "harness.h"
#include "sim.h"
#include "tlb/tlb.h"

#include <string.h>

#define CPUS 4
#define RW   (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)

struct space {
    struct qr_tables tables;
    struct qr_tlb_space tlb;
};

struct world {
    struct sim *sim;
    struct space spaces[12];
    unsigned space_count;
};

static struct space *
world_space(struct world *w)
{
    struct space *space = &w->spaces[w->space_count++];

    ASSERT_STATUS(qr_tables_init(&space->tables, sim_format(w->sim), sim_frames(w->sim),
                                 sim_epoch(w->sim), NULL),
                  QR_OK);
    qr_tlb_space_init(&space->tlb, sim_tlb(w->sim), &space->tables);
    return space;
}

static void
world_boot(struct world *w, unsigned asids)
{
    struct sim_options options = {.cpus = CPUS, .asids = asids, .features = SIM_KERNEL_HALF};

    memset(w, 0, sizeof(*w));
    w->sim = sim_boot_tables(options);
}

static void
world_end(struct world *w)
{
    sim_enter(w->sim, 0);
    for (unsigned i = 0; i < w->space_count; i++) {
        struct space *space = &w->spaces[i];
        struct qr_tlb_batch batch;
        struct qr_va_range all = {qr_va_of(0), sim_page(1000)};
        struct qr_cursor c;

        /* The leaves name no frame of ours, so nothing is handed over. */
        qr_tlb_batch_init(&batch, &space->tlb);
        qr_cursor_open(&c, &space->tables, all, &batch);
        struct qr_entry entry;
        while (qr_cursor_find(&c, all.start, &entry))
            (void)qr_cursor_unmap(&c, entry.start);
        qr_cursor_close(&c);
        qr_tlb_batch_finish(&batch);
        for (unsigned cpu = 0; cpu < CPUS; cpu++) {
            sim_enter(w->sim, cpu);
            qr_tlb_enter_lazy();
        }
        sim_enter(w->sim, 0);
        qr_tlb_space_fini(&space->tlb);
        qr_tables_fini(&space->tables);
    }
    sim_shutdown(w->sim);
}

static long
count(struct world *w, enum qr_counter which)
{
    return qr_counter_read(qr_frames_counters(sim_frames(w->sim)), which);
}

static void
run_on(struct world *w, struct space *space, unsigned cpu)
{
    sim_enter(w->sim, cpu);
    qr_tlb_switch(&space->tlb);
}

/* Map pages [first, last) of @space to some memory, and let CPU @cpu touch them. */
static void
map_pages(struct world *w, struct space *space, size_t first, size_t last)
{
    struct qr_va_range range = {sim_page(first), sim_page(last)};
    struct qr_cursor c;

    qr_cursor_open(&c, &space->tables, range, NULL);
    for (size_t page = first; page < last; page++) {
        struct qr_leaf leaf = {.pa = qr_frame_pa(sim_frames(w->sim), space->tables.root),
                               .prot = RW};

        ASSERT_STATUS(qr_cursor_prepare(&c, sim_page(page), 0), QR_OK);
        qr_cursor_map(&c, sim_page(page), &leaf);
    }
    qr_cursor_close(&c);
}

static void
ignore(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
}

static void
unmap_pages(struct space *space, size_t first, size_t last)
{
    struct qr_va_range range = {sim_page(first), sim_page(last)};
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&c, &space->tables, range, &batch);
    qr_cursor_unmap_range(&c, range, ignore, NULL);
    qr_cursor_close(&c);
    qr_tlb_batch_finish(&batch);
}

static bool
touch(struct world *w, unsigned cpu, size_t page)
{
    struct sim_access access = {sim_page(page), QR_ACCESS_READ, SIM_USER};
    unsigned code;
    qr_pa pa;

    sim_enter(w->sim, cpu);
    return sim_translate(access, &pa, &code);
}

TEST(tlb, nobody_is_interrupted_for_a_space_that_only_this_cpu_runs)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 1);
    map_pages(&w, space, 0, 3);
    EXPECT_TRUE(touch(&w, 1, 1));
    unmap_pages(space, 0, 3);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 0);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), 3);
    EXPECT_FALSE(sim_tlb_has(sim_page(1)));
    world_end(&w);
}

TEST(tlb, only_cpus_that_run_the_space_are_told)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w), *other = world_space(&w);

    run_on(&w, space, 1);
    run_on(&w, other, 2);
    run_on(&w, space, 3);
    map_pages(&w, space, 0, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    EXPECT_TRUE(touch(&w, 3, 0));
    sim_enter(w.sim, 0);
    unmap_pages(space, 0, 1);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 2);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), 2);
    EXPECT_FALSE(touch(&w, 1, 0));
    EXPECT_FALSE(touch(&w, 3, 0));
    world_end(&w);
}

TEST(tlb, a_lazy_cpu_is_left_alone_and_catches_up)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 1);
    map_pages(&w, space, 0, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    qr_tlb_enter_lazy();
    sim_enter(w.sim, 0);
    unmap_pages(space, 0, 1);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 0);
    sim_enter(w.sim, 1);
    EXPECT_TRUE(sim_tlb_has(sim_page(0)));
    qr_tlb_leave_lazy();
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 1);

    /* Nothing missed: nothing to do. */
    qr_tlb_enter_lazy();
    qr_tlb_leave_lazy();
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 1);
    world_end(&w);
}

TEST(tlb, a_lazy_cpu_is_told_when_tables_are_freed)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 1);
    map_pages(&w, space, 0, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    qr_tlb_enter_lazy();
    sim_enter(w.sim, 0);
    unmap_pages(space, 0, 512);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 0);
    world_end(&w);
}

TEST(tlb, a_table_is_flushed_with_its_last_page_or_by_an_address_of_its_own)
{
    struct world w;
    struct qr_va_range range = {sim_page(0), sim_page(512)};
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 0);
    map_pages(&w, space, 3, 5);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&c, &space->tables, range, &batch);
    qr_cursor_unmap_range(&c, range, ignore, NULL);
    qr_cursor_close(&c);
    EXPECT_EQ(batch.table_count, 1);
    EXPECT_EQ(batch.run_count, 1);
    EXPECT_EQ(batch.page_count, 2);
    qr_tlb_batch_finish(&batch);

    /* Emptied before, and flushed: only the table is left to go. */
    map_pages(&w, space, 3, 4);
    unmap_pages(space, 3, 4);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&c, &space->tables, range, &batch);
    qr_cursor_unmap_range(&c, range, ignore, NULL);
    qr_cursor_close(&c);
    EXPECT_EQ(batch.table_count, 1);
    EXPECT_EQ(batch.run_count, 1);
    EXPECT_EQ(batch.runs[0].start.v, sim_page(0).v);
    EXPECT_EQ(batch.runs[0].last.v, sim_page(512).v - 1);
    qr_tlb_batch_finish(&batch);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 0);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), 4);
    world_end(&w);
}

TEST(tlb, many_pages_cost_one_flush_of_the_space)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 0);
    map_pages(&w, space, 0, QR_BATCH_PAGES + 2);
    unmap_pages(space, 0, QR_BATCH_PAGES);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), QR_BATCH_PAGES);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 0);
    map_pages(&w, space, 0, QR_BATCH_PAGES);
    unmap_pages(space, 0, QR_BATCH_PAGES + 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), QR_BATCH_PAGES);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 1);
    world_end(&w);
}

TEST(tlb, the_mode_follows_from_what_was_noted)
{
    struct qr_tlb_space user = {.global = false}, kernel = {.global = true};
    struct qr_tlb_batch b = {.space = &user};

    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_NOTHING);
    EXPECT_EQ(qr_tlb_choose(&b, true), TLB_NOTHING);
    b.gaps = true;
    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_NOTHING);
    EXPECT_EQ(qr_tlb_choose(&b, true), TLB_SPACE);
    b.gaps = false;
    b.page_count = 1;
    EXPECT_EQ(qr_tlb_choose(&b, true), TLB_PAGES);
    b.whole = true;
    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_SPACE);
    b.space = &kernel;
    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_ALL);
    b.whole = false;
    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_PAGES);
    b.tables_freed = true; /* their pages' flush drops walk caches, too */
    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_PAGES);
    b = (struct qr_tlb_batch){.space = &user, .naive = true, .registered = true, .page_count = 1};
    EXPECT_EQ(qr_tlb_choose(&b, false), TLB_ALL);
}

/*
 * A unmaps a page and has not flushed yet.  B is asked to unmap it too, finds
 * nothing, and returns: from then on CPU 1 must not see it (invariants 10, 11).
 */
TEST(tlb, who_finds_an_entry_gone_flushes_what_the_other_has_not)
{
    struct world w;
    struct qr_tlb_batch a;
    struct qr_cursor c;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    map_pages(&w, space, 0, 1);
    run_on(&w, space, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    sim_enter(w.sim, 0);
    qr_tlb_batch_init(&a, &space->tlb);
    qr_cursor_open(&c, &space->tables, (struct qr_va_range){sim_page(0), sim_page(1)}, &a);
    (void)qr_cursor_unmap(&c, sim_page(0));
    qr_cursor_close(&c);

    sim_enter(w.sim, 2);
    unmap_pages(space, 0, 1);
    sim_enter(w.sim, 1);
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));

    /* A page that B does find is flushed by itself alone, whoever else is pending. */
    map_pages(&w, space, 1, 2);
    EXPECT_TRUE(touch(&w, 1, 1));
    long spaces = count(&w, QR_EVENT_FLUSH_SPACE);
    sim_enter(w.sim, 2);
    unmap_pages(space, 1, 2);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), spaces);
    sim_enter(w.sim, 1);
    EXPECT_FALSE(sim_tlb_has(sim_page(1)));

    sim_enter(w.sim, 0);
    qr_tlb_batch_finish(&a);
    EXPECT_EQ(space->tlb.pending, 0);
    unmap_pages(space, 0, 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), spaces);
    world_end(&w);
}

TEST(tlb, cover_counts_as_having_looked)
{
    struct world w;
    struct qr_tlb_batch a, b;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 0);
    qr_tlb_batch_init(&a, &space->tlb);
    qr_tlb_batch_note(&a, sim_page(0), QR_PAGE_SHIFT);
    qr_tlb_batch_init(&b, &space->tlb);
    qr_tlb_batch_finish(&b);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 0);
    qr_tlb_batch_cover(&b);
    qr_tlb_batch_finish(&b);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 1);
    qr_tlb_batch_finish(&a);
    world_end(&w);
}

TEST(tlb, a_cpu_that_missed_one_change_flushes_everything)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    map_pages(&w, space, 0, 2);
    run_on(&w, space, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    qr_tlb_enter_lazy();
    sim_enter(w.sim, 0);
    unmap_pages(space, 0, 1);
    sim_enter(w.sim, 1);
    /* Not lazy any more by its own word, but it has not compared yet: two behind at the next. */
    atomic_store(&sim_tlb(w.sim)->cpus[1].lazy, false);
    sim_enter(w.sim, 0);
    unmap_pages(space, 1, 2);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), 0);
    world_end(&w);
}

/*
 * A counter that comes round hides what happened in between (CVE-2018-17182, in another counter): 2^32
 * changes later, a CPU that was away knows that its entries are old.
 */
TEST(tlb, changes_do_not_wrap)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w), *other = world_space(&w);

    map_pages(&w, space, 0, 1);
    run_on(&w, space, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    run_on(&w, other, 1);
    sim_enter(w.sim, 0);
    unmap_pages(space, 0, 1);
    atomic_fetch_add(&space->tlb.generation, ((uint64_t)1 << 32) - 1);
    run_on(&w, space, 1);
    EXPECT_FALSE(touch(&w, 1, 0));
    world_end(&w);
}

TEST(tlb, returning_to_a_space_keeps_its_entries)
{
    struct world w;

    world_boot(&w, 16);
    struct space *a = world_space(&w), *b = world_space(&w);

    map_pages(&w, a, 0, 1);
    run_on(&w, a, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    run_on(&w, b, 1);
    EXPECT_FALSE(touch(&w, 1, 0));
    run_on(&w, a, 1);
    EXPECT_TRUE(sim_tlb_has(sim_page(0)));
    EXPECT_EQ(count(&w, QR_EVENT_SWITCH), 3);
    EXPECT_EQ(count(&w, QR_EVENT_SWITCH_NO_FLUSH), 1);

    /* A change while the CPU was away: the switch drops what was kept. */
    run_on(&w, b, 1);
    EXPECT_EQ(count(&w, QR_EVENT_SWITCH_NO_FLUSH), 2);
    sim_enter(w.sim, 0);
    unmap_pages(a, 0, 1);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 0);
    run_on(&w, a, 1);
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    EXPECT_EQ(count(&w, QR_EVENT_SWITCH_NO_FLUSH), 2);
    world_end(&w);
}

TEST(tlb, without_identifiers_every_switch_flushes)
{
    struct world w;

    world_boot(&w, 1);
    struct space *a = world_space(&w), *b = world_space(&w);

    map_pages(&w, a, 0, 1);
    run_on(&w, a, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    run_on(&w, b, 1);
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    run_on(&w, a, 1);
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    qr_tlb_switch(sim_tlb(w.sim)->kernel);
    run_on(&w, a, 1);
    EXPECT_EQ(count(&w, QR_EVENT_SWITCH_NO_FLUSH), 0);
    world_end(&w);
}

TEST(tlb, identities_are_never_given_out_twice)
{
    struct world w;
    struct qr_tlb_space space;
    uint64_t last = 0;

    world_boot(&w, 2);
    for (unsigned i = 0; i < 100; i++) {
        qr_tlb_space_init(&space, sim_tlb(w.sim), sim_kernel_tables(w.sim));
        EXPECT_LT(last, space.id);
        last = space.id;
        qr_tlb_space_fini(&space);
    }
    world_end(&w);
}

TEST(tlb, a_space_that_ends_sends_lazy_cpus_away)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);
    struct qr_tlb *tlb = sim_tlb(w.sim);

    run_on(&w, space, 1);
    qr_tlb_enter_lazy();
    run_on(&w, space, 2);
    qr_tlb_enter_lazy();
    run_on(&w, space, 0);
    qr_tlb_space_fini(&space->tlb);
    for (unsigned cpu = 0; cpu < 3; cpu++)
        EXPECT_NULL(tlb->cpus[cpu].loaded);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 2);
    qr_tlb_space_init(&space->tlb, tlb, &space->tables);
    world_end(&w);
}

static void
end_a_running_space(void *context)
{
    struct world w;

    (void)context;
    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 1);
    sim_enter(w.sim, 0);
    qr_tlb_space_fini(&space->tlb);
}

TEST(tlb, ending_a_space_that_still_runs_is_an_error)
{
    char message[300] = "";

    EXPECT_TRUE(sim_catch(end_a_running_space, NULL, message, sizeof(message)));
    EXPECT_CONTAINS(message, "lazy");
}

TEST(tlb, kernel_mappings_concern_every_cpu)
{
    struct world w;

    world_boot(&w, 16);
    struct qr_tlb *tlb = sim_tlb(w.sim);
    struct qr_tlb_batch batch;

    sim_enter(w.sim, 2);
    qr_tlb_batch_init(&batch, tlb->kernel);
    qr_tlb_batch_note(&batch, qr_va_of((uintptr_t)0xffff800000000000), QR_PAGE_SHIFT);
    qr_tlb_batch_finish(&batch);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), CPUS - 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), CPUS);
    qr_tlb_batch_init(&batch, tlb->kernel);
    for (unsigned i = 0; i <= QR_BATCH_PAGES; i++)
        qr_tlb_batch_note(&batch, qr_va_of((uintptr_t)0xffff800000000000 + 4096 * i), 12);
    qr_tlb_batch_finish(&batch);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_ALL), CPUS);
    world_end(&w);
}

TEST(tlb, naive_mode_flushes_everything_everywhere_at_each_note)
{
    struct world w;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 0);
    map_pages(&w, space, 0, 3);
    qr_tlb_set_naive(sim_tlb(w.sim), true);
    unmap_pages(space, 0, 3);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_ALL), 3 * CPUS);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 3 * (CPUS - 1));
    qr_tlb_set_naive(sim_tlb(w.sim), false);
    world_end(&w);
}

/* Frames and tables stay with the batch until it has flushed. */
TEST(tlb, frames_are_given_back_after_the_flush)
{
    struct world w;
    struct qr_tlb_batch batch;

    world_boot(&w, 16);
    struct space *space = world_space(&w);
    struct qr_frame *frame = qr_frame_alloc(sim_frames(w.sim), 0);

    qr_frame_get(frame);
    qr_tlb_batch_init(&batch, &space->tlb);
    qr_tlb_batch_add_frame(&batch, frame);
    EXPECT_EQ(frame->refs, 2);
    qr_tlb_batch_finish(&batch);
    EXPECT_EQ(frame->refs, 1);
    qr_frame_put(sim_frames(w.sim), frame);
    world_end(&w);
}

/* ---- Several spaces at once ---------------------------------------------------------- */

/* As unmap_pages(), but the flush is @gather's to do. */
static void
unmap_later(struct space *space, size_t first, size_t last, struct qr_tlb_gather *gather)
{
    struct qr_va_range range = {sim_page(first), sim_page(last)};
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    qr_tlb_batch_init(&batch, &space->tlb);
    qr_cursor_open(&c, &space->tables, range, &batch);
    for (size_t page = first; page < last; page++)
        (void)qr_cursor_unmap(&c, sim_page(page));
    qr_cursor_close(&c);
    qr_tlb_gather_add(gather, &batch);
    EXPECT_EQ(batch.registered, false);
}

TEST(tlb, a_gathering_interrupts_each_cpu_once)
{
    struct world w;
    struct space *spaces[3];
    struct qr_tlb_gather gather;

    world_boot(&w, 16);
    for (unsigned i = 0; i < 3; i++) {
        spaces[i] = world_space(&w);
        run_on(&w, spaces[i], i + 1);
        map_pages(&w, spaces[i], 0, 8);
        for (size_t page = 0; page < 8; page++)
            EXPECT_TRUE(touch(&w, i + 1, page));
    }
    sim_enter(w.sim, 0);
    qr_tlb_gather_init(&gather);
    for (unsigned i = 0; i < 3; i++) {
        unmap_later(spaces[i], 0, 2, &gather);
        unmap_later(spaces[i], 2, 4, &gather); /* the same run goes on */
        EXPECT_EQ(atomic_load(&spaces[i]->tlb.pending), 1u);
        EXPECT_EQ(gather.spaces[i].run_count, 1u);
        EXPECT_EQ(gather.spaces[i].page_count, 4u);
    }
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 0);
    qr_tlb_gather_finish(&gather);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), qr_arch_flush_broadcasts() ? 0 : 3);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 0);
    EXPECT_EQ(gather.space_count, 0u);
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_EQ(atomic_load(&spaces[i]->tlb.pending), 0u);
        EXPECT_FALSE(touch(&w, i + 1, 0));
        EXPECT_FALSE(touch(&w, i + 1, 3));
        EXPECT_TRUE(touch(&w, i + 1, 4));
    }
    world_end(&w);
}

TEST(tlb, a_gathering_that_is_full_flushes_and_goes_on)
{
    struct world w;
    struct qr_tlb_gather gather;

    world_boot(&w, 32);
    qr_tlb_gather_init(&gather);
    for (unsigned i = 0; i < QR_GATHER_SPACES + 1; i++) {
        struct space *space = world_space(&w);

        run_on(&w, space, 1);
        map_pages(&w, space, 0, 1);
        EXPECT_TRUE(touch(&w, 1, 0));
        sim_enter(w.sim, 0);
        unmap_later(space, 0, 1, &gather);
    }
    EXPECT_EQ(gather.space_count, 1u);
    qr_tlb_gather_finish(&gather);
    for (unsigned i = 0; i < QR_GATHER_SPACES + 1; i++) {
        run_on(&w, &w.spaces[i], 1);
        EXPECT_FALSE(touch(&w, 1, 0));
    }
    world_end(&w);
}

TEST(tlb, a_gathering_flushes_all_of_a_space_for_many_runs_and_for_what_others_took_out)
{
    struct world w;
    struct qr_tlb_gather gather;
    struct qr_tlb_batch other, looked;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    run_on(&w, space, 1);
    map_pages(&w, space, 0, 2 * QR_GATHER_RUNS + 4);
    for (size_t page = 0; page < 2 * QR_GATHER_RUNS + 4; page++)
        EXPECT_TRUE(touch(&w, 1, page));
    qr_tlb_gather_init(&gather);
    for (size_t run = 0; run < QR_GATHER_RUNS; run++)
        unmap_later(space, 2 * run, 2 * run + 1, &gather);
    EXPECT_FALSE(gather.spaces[0].whole);
    unmap_later(space, (size_t)2 * QR_GATHER_RUNS, 2 * QR_GATHER_RUNS + 1, &gather);
    EXPECT_TRUE(gather.spaces[0].whole);
    qr_tlb_gather_finish(&gather);

    qr_tlb_batch_init(&other, &space->tlb);
    qr_tlb_batch_note(&other, sim_page(1), QR_PAGE_SHIFT);
    qr_tlb_batch_init(&looked, &space->tlb);
    qr_tlb_batch_cover(&looked);
    qr_tlb_gather_add(&gather, &looked);
    EXPECT_TRUE(gather.space_count == 1 && gather.spaces[0].whole);
    qr_tlb_gather_finish(&gather);
    EXPECT_EQ(atomic_load(&space->tlb.pending), 1u);
    qr_tlb_batch_finish(&other);
    qr_tlb_batch_cover(&looked);
    qr_tlb_gather_add(&gather, &looked);
    EXPECT_EQ(gather.space_count, 0u); /* nobody has anything pending */
    world_end(&w);
}

TEST(tlb, a_gathering_keeps_frames_until_it_has_flushed)
{
    struct world w;
    struct qr_tlb_gather gather;
    struct qr_tlb_batch batch;
    struct qr_frame *frames[QR_GATHER_FRAMES + 1];

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    qr_tlb_gather_init(&gather);
    qr_tlb_batch_init(&batch, &space->tlb);
    for (unsigned i = 0; i < QR_GATHER_FRAMES; i++) {
        frames[i] = qr_frame_alloc(sim_frames(w.sim), 0);
        qr_frame_get(frames[i]);
        qr_tlb_batch_add_frame(&batch, frames[i]);
    }
    qr_tlb_gather_add(&gather, &batch);
    for (unsigned i = 0; i < QR_GATHER_FRAMES; i++)
        qr_tlb_batch_add_frame(&batch, frames[i]); /* as another space would */
    qr_tlb_gather_add(&gather, &batch);
    EXPECT_EQ(gather.frame_count, QR_GATHER_FRAMES);
    EXPECT_EQ(atomic_load(&frames[0]->refs), 2u);
    frames[QR_GATHER_FRAMES] = qr_frame_alloc(sim_frames(w.sim), 0);
    qr_tlb_batch_add_frame(&batch, frames[QR_GATHER_FRAMES]);
    qr_tlb_gather_add(&gather, &batch); /* full: the others go */
    EXPECT_EQ(gather.frame_count, 1u);
    EXPECT_EQ(qr_frame_type(frames[0]), QR_FRAME_FREE);
    EXPECT_EQ(atomic_load(&frames[QR_GATHER_FRAMES]->refs), 1u);
    qr_tlb_gather_finish(&gather);
    EXPECT_EQ(qr_frame_type(frames[QR_GATHER_FRAMES]), QR_FRAME_FREE);
    world_end(&w);
}

TEST(tlb, notes_become_runs_and_then_the_whole_space)
{
    struct world w;
    struct qr_tlb_batch b;

    world_boot(&w, 16);
    struct space *space = world_space(&w);

    qr_tlb_batch_init(&b, &space->tlb);
    for (unsigned i = 0; i < 4; i++)
        qr_tlb_batch_note(&b, sim_page(i), QR_PAGE_SHIFT);
    EXPECT_EQ(b.run_count, 1);
    EXPECT_EQ(b.runs[0].last.v, sim_page(4).v - 1);
    qr_tlb_batch_note(&b, qr_va_of(0x40000000), 21);
    EXPECT_EQ(b.run_count, 2);
    EXPECT_EQ(b.page_count, 5);
    qr_tlb_batch_note(&b, qr_va_of(0x40200000), QR_PAGE_SHIFT); /* a neighbour, not its like */
    EXPECT_EQ(b.run_count, 3);
    for (unsigned i = 0; i < QR_BATCH_RUNS - 3; i++)
        qr_tlb_batch_note(&b, sim_page(100 + 2 * i), QR_PAGE_SHIFT);
    EXPECT_FALSE(b.whole);
    qr_tlb_batch_note(&b, sim_page(200), QR_PAGE_SHIFT);
    EXPECT_TRUE(b.whole);
    EXPECT_EQ(space->tlb.pending, 1);
    qr_tlb_batch_finish(&b);
    EXPECT_EQ(space->tlb.pending, 0);
    EXPECT_FALSE(b.whole);
    world_end(&w);
}
