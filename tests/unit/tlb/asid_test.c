/* SPDX-License-Identifier: MIT */
/*
 * Identifiers and broadcast flushes (src/tlb/asid.c): who gets which number, what
 * a roll-over carries, how far flushes go, and, under every seed, that with so few
 * numbers that they roll over all the time nobody uses what another space left
 * behind or what was unmapped.
 */
#include "harness.h"
#include "sim.h"
#include "tlb/tlb.h"

#include <string.h>

/* Fewer numbers are not used at all: a CPU may hold on to two. */
enum { CPUS = 3, FEWEST = 2 * CPUS + 1, SPACES = 12, PAGES = 4 };

#ifdef QUIRE_CAMPAIGN /* the core is interleaved at every atomic operation */
#define SEEDS 5000
#else
#define SEEDS 300
#endif

struct place {
    struct qr_tables tables;
    struct qr_tlb_space space;
};

struct world {
    struct sim *sim;
    struct place places[SPACES];
    unsigned wrong;
};

static void
world_boot(struct world *w, struct sim_options options)
{
    memset(w, 0, sizeof(*w));
    options.cpus = CPUS;
    w->sim = sim_boot_tables(options);
    for (unsigned i = 0; i < SPACES; i++) {
        struct place *place = &w->places[i];

        ASSERT_STATUS(qr_tables_init(&place->tables, sim_format(w->sim), sim_frames(w->sim),
                                     sim_epoch(w->sim), NULL),
                      QR_OK);
        qr_tlb_space_init(&place->space, sim_tlb(w->sim), &place->tables);
    }
}

static struct qr_va_range
pages_range(size_t first, size_t last)
{
    return (struct qr_va_range){sim_page(first), sim_page(last)};
}

/* Every page of every space holds the two numbers. */
static uint64_t
content(const struct world *w, const struct place *place, size_t page)
{
    return (uint64_t)(place - w->places) * 1000 + page;
}

static void
map_page(struct world *w, struct place *place, size_t page)
{
    struct qr_frame *frame = qr_frame_alloc(sim_frames(w->sim), QR_ALLOC_ZERO);
    struct qr_leaf leaf = {.prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER};
    uint64_t value = content(w, place, page);
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    if (frame == NULL)
        return;
    leaf.pa = qr_frame_pa(sim_frames(w->sim), frame);
    memcpy(sim_ram(w->sim, leaf.pa), &value, sizeof(value));
    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&c, &place->tables, pages_range(page, page + 1), &batch);
    if (qr_cursor_query(&c, sim_page(page)).kind == QR_ENTRY_NONE &&
        qr_cursor_prepare(&c, sim_page(page), 0) == QR_OK) {
        qr_cursor_map(&c, sim_page(page), &leaf);
        frame = NULL;
    }
    qr_cursor_close(&c);
    qr_tlb_batch_finish(&batch);
    if (frame != NULL)
        qr_frame_put(sim_frames(w->sim), frame);
}

static void
give_to_batch(void *context, const struct qr_entry *entry)
{
    struct qr_cursor *c = context;

    if (entry->kind == QR_ENTRY_LEAF)
        qr_tlb_batch_add_frame(c->batch,
                               qr_frame_of(c->tables->frames, qr_pa_to_pfn(entry->leaf.pa)));
}

static void
unmap_pages(struct place *place, size_t first, size_t last)
{
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&c, &place->tables, pages_range(first, last), &batch);
    qr_cursor_unmap_range(&c, c.range, give_to_batch, &c);
    qr_cursor_close(&c);
    qr_tlb_batch_finish(&batch);
}

static void
world_end(struct world *w)
{
    for (unsigned cpu = CPUS; cpu-- > 0;) {
        sim_enter(w->sim, cpu);
        qr_tlb_enter_lazy();
    }
    for (unsigned i = 0; i < SPACES; i++) {
        struct place *place = &w->places[i];

        unmap_pages(place, 0, PAGES);
        qr_tlb_space_fini(&place->space);
        qr_tables_fini(&place->tables);
    }
    sim_shutdown(w->sim);
}

static void
run_on(struct world *w, unsigned place, unsigned cpu)
{
    sim_enter(w->sim, cpu);
    qr_tlb_switch(&w->places[place].space);
}

static unsigned
number(struct world *w, unsigned place)
{
    return qr_asid_of(&w->places[place].space);
}

static long
count(struct world *w, enum qr_counter which)
{
    return qr_counter_read(qr_frames_counters(sim_frames(w->sim)), which);
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

/* ---- Numbers ------------------------------------------------------------------- */

TEST(asid, a_space_has_one_number_on_every_cpu_from_its_first_run_on)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = 8});
    EXPECT_EQ(number(&w, 0), 0);
    run_on(&w, 0, 0);
    run_on(&w, 1, 1);
    run_on(&w, 0, 2);
    EXPECT_EQ(number(&w, 0), 1);
    EXPECT_EQ(number(&w, 1), 2);
    for (unsigned cpu = 0; cpu < CPUS; cpu += 2)
        EXPECT_EQ(sim_tlb(w.sim)->cpus[cpu].asid, 1);
    world_end(&w);
}

/* Numbers 1 to 6: spaces 0 to 5 have them when space 6 wants one. */
static void
use_all_numbers(struct world *w, unsigned cpu)
{
    for (unsigned place = 3; place < 6; place++)
        run_on(w, place, cpu);
    EXPECT_EQ(number(w, 5), 6);
    EXPECT_EQ(count(w, QR_EVENT_ASID_ROUND), 0);
}

TEST(asid, a_roll_over_carries_the_numbers_of_spaces_that_are_loaded)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = FEWEST});
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        run_on(&w, cpu, cpu);
    sim_enter(w.sim, 0);
    qr_tlb_enter_lazy(); /* still loaded */
    use_all_numbers(&w, 2);
    uint64_t old = w.places[3].space.context;

    run_on(&w, 6, 2); /* where 5 was loaded, with number 6 */
    EXPECT_EQ(count(&w, QR_EVENT_ASID_ROUND), 1);
    EXPECT_EQ(number(&w, 0), 1);
    EXPECT_EQ(number(&w, 1), 2);
    EXPECT_EQ(number(&w, 5), 6);
    EXPECT_EQ(number(&w, 6), 3);
    EXPECT_EQ(w.places[3].space.context, old); /* of the round before: worth nothing */
    for (unsigned place = 0; place < 2; place++)
        EXPECT_EQ(w.places[place].space.context >> TLB_NUMBER_BITS, old / 65536 + 1);

    /* They go on under it, and come back to it without another. */
    qr_tlb_switch(sim_tlb(w.sim)->kernel);
    run_on(&w, 1, 1);
    qr_tlb_switch(sim_tlb(w.sim)->kernel);
    run_on(&w, 1, 1);
    EXPECT_EQ(number(&w, 1), 2);
    run_on(&w, 3, 2);
    EXPECT_EQ(number(&w, 3), 4);
    EXPECT_EQ(count(&w, QR_EVENT_ASID_ROUND), 1);
    world_end(&w);
}

/* Whoever had been carried may lose its number in the next round, like anybody else. */
TEST(asid, numbers_roll_over_again_and_again)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = FEWEST});
    for (unsigned i = 0; i < SPACES; i++)
        map_page(&w, &w.places[i], i % PAGES);
    run_on(&w, 0, 0);
    for (unsigned i = 0; i < 20 * SPACES; i++) {
        unsigned place = 1 + i % (SPACES - 1);

        run_on(&w, place, 1);
        for (size_t page = 0; page < PAGES; page++)
            EXPECT_EQ(touch(&w, 1, page), page == place % PAGES);
        EXPECT_TRUE(touch(&w, 0, 0));
        EXPECT_FALSE(touch(&w, 0, 1));
        EXPECT_EQ(number(&w, 0), 1);
        EXPECT_NE(number(&w, place), 1);
    }
    EXPECT_LE(20 * SPACES / 6, count(&w, QR_EVENT_ASID_ROUND));
    world_end(&w);
}

TEST(asid, where_hardware_broadcasts_each_cpu_flushes_once_a_round)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = FEWEST, .features = SIM_BROADCAST});
    map_page(&w, &w.places[1], 0);
    map_page(&w, &w.places[3], 0);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        run_on(&w, cpu, cpu);
    use_all_numbers(&w, 1); /* CPU 1 has been in 3 */
    run_on(&w, 3, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    run_on(&w, 1, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    run_on(&w, 6, 2);
    EXPECT_EQ(count(&w, QR_EVENT_ASID_ROUND), 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_ALL), 1);
    sim_enter(w.sim, 1);
    EXPECT_TRUE(sim_tlb_has(sim_page(0))); /* 1 was carried over */
    EXPECT_EQ(number(&w, 6), 4);
    run_on(&w, 6, 1); /* 3 had left a page under that number */
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_ALL), 2);
    EXPECT_FALSE(touch(&w, 1, 0));
    run_on(&w, 3, 1);
    run_on(&w, 6, 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_ALL), 2);
    world_end(&w);
}

/* What it left in TLBs is in nobody's way before the next round. */
TEST(asid, the_number_of_a_space_that_ends_is_free_in_the_next_round)
{
    struct world w;
    struct qr_tlb *tlb;

    world_boot(&w, (struct sim_options){.asids = FEWEST});
    tlb = sim_tlb(w.sim);
    run_on(&w, 0, 0);
    qr_tlb_switch(tlb->kernel);
    qr_tlb_space_fini(&w.places[0].space);
    qr_tlb_space_init(&w.places[0].space, tlb, &w.places[0].tables);
    for (unsigned i = 1; i < 7; i++) {
        run_on(&w, i, 0);
        EXPECT_EQ(number(&w, i), i < 6 ? i + 1 : 1);
    }
    world_end(&w);
}

TEST(asid, with_no_more_than_two_numbers_a_cpu_none_are_used)
{
    static const unsigned kinds[] = {0, SIM_BROADCAST};

    for (unsigned kind = 0; kind < 2; kind++) {
        struct world w;

        world_boot(&w, (struct sim_options){.asids = FEWEST - 1, .features = kinds[kind]});
        map_page(&w, &w.places[0], 0);
        for (unsigned i = 0; i < 3; i++)
            run_on(&w, i, i);
        EXPECT_EQ(number(&w, 0), 0);
        EXPECT_TRUE(touch(&w, 0, 0));
        EXPECT_FALSE(touch(&w, 1, 0));
        run_on(&w, 0, 1);
        EXPECT_TRUE(touch(&w, 1, 0));
        run_on(&w, 1, 1);
        EXPECT_FALSE(touch(&w, 1, 0));
        run_on(&w, 0, 1);
        EXPECT_TRUE(touch(&w, 1, 0));
        unmap_pages(&w.places[0], 0, 1);
        EXPECT_FALSE(touch(&w, 0, 0));
        EXPECT_FALSE(touch(&w, 1, 0));
        EXPECT_EQ(count(&w, QR_EVENT_SWITCH_NO_FLUSH), 0);
        world_end(&w);
    }
}

/* ---- Many ------------------------------------------------------------------------- */

enum { MANY = 300 };

/* How many of MANY spaces in turn, on one CPU that knows all, are entered without a flush. */
static long
turns_without_flush(unsigned asids, unsigned features)
{
    static struct place places[MANY];
    struct sim *sim = sim_boot_tables(
        (struct sim_options){.cpus = 2, .frames = 2048, .asids = asids, .features = features});
    const struct qr_counters *counters = qr_frames_counters(sim_frames(sim));
    long before = 0;

    for (unsigned i = 0; i < MANY; i++) {
        ASSERT_STATUS(qr_tables_init(&places[i].tables, sim_format(sim), sim_frames(sim),
                                     sim_epoch(sim), NULL),
                      QR_OK);
        qr_tlb_space_init(&places[i].space, sim_tlb(sim), &places[i].tables);
    }
    for (unsigned turn = 0; turn < 2; turn++) {
        before = qr_counter_read(counters, QR_EVENT_SWITCH_NO_FLUSH);
        for (unsigned i = 0; i < MANY; i++)
            qr_tlb_switch(&places[i].space);
    }
    long kept = qr_counter_read(counters, QR_EVENT_SWITCH_NO_FLUSH) - before;

    qr_tlb_enter_lazy();
    for (unsigned i = 0; i < MANY; i++) {
        qr_tlb_space_fini(&places[i].space);
        qr_tables_fini(&places[i].tables);
    }
    sim_shutdown(sim);
    return kept;
}

TEST(asid, three_hundred_spaces_in_turn_keep_their_entries)
{
    EXPECT_EQ(turns_without_flush(256, 0), 0); /* 8 bits: never the same number twice */
    EXPECT_EQ(turns_without_flush(4096, 0), MANY);
    EXPECT_EQ(turns_without_flush(65536, 0), MANY);
    EXPECT_EQ(turns_without_flush(65536, SIM_BROADCAST), MANY);
}

TEST(asid, every_number_of_the_hardware_is_given_out_before_they_roll_over)
{
    static const unsigned widths[] = {256, 4096, 65536};

    for (unsigned i = 0; i < QR_ARRAY_COUNT(widths); i++) {
        struct world w;

        world_boot(&w, (struct sim_options){.asids = widths[i]});
        struct qr_tlb *tlb = sim_tlb(w.sim);
        struct qr_tlb_space *space = &w.places[0].space;

        sim_enter(w.sim, 0);
        for (unsigned n = 1; n < widths[i]; n++) {
            qr_tlb_switch(space);
            ASSERT_EQ(qr_asid_of(space), n);
            qr_tlb_switch(tlb->kernel);
            qr_tlb_space_fini(space);
            qr_tlb_space_init(space, tlb, &w.places[0].tables);
        }
        EXPECT_EQ(count(&w, QR_EVENT_ASID_ROUND), 0);
        qr_tlb_switch(space);
        EXPECT_EQ(count(&w, QR_EVENT_ASID_ROUND), 1);
        EXPECT_EQ(qr_asid_of(space), 1);
        world_end(&w);
    }
}

/* ---- Broadcast ------------------------------------------------------------------ */

TEST(asid, hardware_that_broadcasts_needs_no_interrupts)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = 16, .features = SIM_BROADCAST});
    map_page(&w, &w.places[0], 0);
    map_page(&w, &w.places[0], 1);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        run_on(&w, 0, cpu);
        EXPECT_TRUE(touch(&w, cpu, 0));
    }
    sim_enter(w.sim, 2);
    qr_tlb_enter_lazy();
    sim_enter(w.sim, 0);
    unmap_pages(&w.places[0], 0, 1);
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE), 1);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        sim_enter(w.sim, cpu);
        EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    }
    /* The lazy CPU has missed nothing; the table is freed without asking it. */
    qr_tlb_leave_lazy();
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_SPACE), 0);
    EXPECT_TRUE(touch(&w, 2, 1));
    qr_tlb_enter_lazy();
    sim_enter(w.sim, 0);
    unmap_pages(&w.places[0], 0, 512);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 0);
    world_end(&w);
}

TEST(asid, a_flush_goes_no_further_than_the_space_has_been)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = 16, .features = SIM_BROADCAST});
    run_on(&w, 0, 0);
    run_on(&w, 1, 1);
    map_page(&w, &w.places[1], 0);
    EXPECT_TRUE(touch(&w, 1, 0));

    /* An entry that a local flush must miss, and a broadcast not: planted under 0's number. */
    w.places[1].space.context = w.places[0].space.context;
    sim_tlb(w.sim)->cpus[1].asid = 1;
    qr_arch_root_switch(w.places[0].tables.root_pa, 1, true);
    map_page(&w, &w.places[0], 0);
    EXPECT_TRUE(touch(&w, 1, 0));
    sim_enter(w.sim, 0);
    EXPECT_TRUE(touch(&w, 0, 0));
    w.places[1].space.context++;
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &w.places[0].space);
    qr_tlb_batch_note(&batch, sim_page(0), 12);
    qr_tlb_batch_finish(&batch);
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    sim_enter(w.sim, 1);
    EXPECT_TRUE(sim_tlb_has(sim_page(0)));
    qr_cpu_set_add(&w.places[0].space.held, 1);
    sim_enter(w.sim, 0);
    qr_tlb_batch_init(&batch, &w.places[0].space);
    qr_tlb_batch_note(&batch, sim_page(0), 12);
    qr_tlb_batch_finish(&batch);
    sim_enter(w.sim, 1);
    EXPECT_FALSE(sim_tlb_has(sim_page(0)));
    qr_arch_root_switch(w.places[1].tables.root_pa, 2, false);
    sim_tlb(w.sim)->cpus[1].asid = 2;
    world_end(&w);
}

TEST(asid, where_hardware_broadcasts_the_end_of_a_space_still_interrupts)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = 16, .features = SIM_BROADCAST});
    run_on(&w, 0, 1);
    qr_tlb_enter_lazy();
    sim_enter(w.sim, 0);
    qr_tlb_space_fini(&w.places[0].space);
    EXPECT_EQ(count(&w, QR_EVENT_IPI), 1);
    EXPECT_NULL(sim_tlb(w.sim)->cpus[1].loaded);
    qr_tlb_space_init(&w.places[0].space, sim_tlb(w.sim), &w.places[0].tables);
    world_end(&w);
}

/* A process that ends: one interrupt to who borrows its space, and no flush after that. */
TEST(asid, an_unloaded_space_is_taken_apart_without_a_flush)
{
    static const unsigned kinds[] = {0, SIM_BROADCAST};

    for (unsigned i = 0; i < 2; i++) {
        struct world w;

        world_boot(&w, (struct sim_options){.asids = 16, .features = kinds[i]});
        for (size_t page = 0; page < PAGES; page++)
            map_page(&w, &w.places[0], page);
        for (unsigned cpu = 0; cpu < 2; cpu++) {
            run_on(&w, 0, cpu);
            EXPECT_TRUE(touch(&w, cpu, 1));
            qr_tlb_enter_lazy();
        }
        qr_tlb_space_unload(&w.places[0].space);
        EXPECT_EQ(count(&w, QR_EVENT_IPI), 1);
        unmap_pages(&w.places[0], 0, PAGES);
        EXPECT_EQ(count(&w, QR_EVENT_IPI), 1);
        EXPECT_EQ(count(&w, QR_EVENT_FLUSH_PAGE) + count(&w, QR_EVENT_FLUSH_SPACE), 0);
        world_end(&w);
    }
}

/* ---- What was not there ----------------------------------------------------------- */

TEST(asid, cpus_that_remember_nothing_are_told_of_kernel_mappings)
{
    static const uintptr_t at = 0xffff800000005000;
    struct world w;
    struct qr_va_range page = {qr_va_of(at), qr_va_of(at + QR_PAGE_SIZE)};
    struct sim_access access = {qr_va_of(at), QR_ACCESS_READ, SIM_KERNEL};
    struct qr_leaf leaf = {.prot = QR_PROT_READ | QR_PROT_GLOBAL};
    struct qr_cursor c;
    unsigned code;
    qr_pa pa;

    world_boot(&w, (struct sim_options){.features = SIM_KERNEL_HALF | SIM_CACHE_INVALID});
    struct qr_tables *kernel = sim_kernel_tables(w.sim);

    leaf.pa = qr_frame_pa(sim_frames(w.sim), kernel->root);
    for (unsigned cpu = CPUS; cpu-- > 0;) {
        sim_enter(w.sim, cpu);
        EXPECT_FALSE(sim_translate(access, &pa, &code));
    }
    qr_cursor_open(&c, kernel, page, NULL);
    ASSERT_STATUS(qr_cursor_prepare(&c, page.start, 0), QR_OK);
    qr_cursor_map(&c, page.start, &leaf);
    qr_cursor_close(&c);
    qr_tlb_publish(sim_tlb(w.sim)->kernel);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        sim_enter(w.sim, cpu);
        EXPECT_TRUE(sim_translate(access, &pa, &code));
    }
    EXPECT_EQ(count(&w, QR_EVENT_FLUSH_ALL), CPUS);

    sim_enter(w.sim, 0);
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, sim_tlb(w.sim)->kernel);
    qr_cursor_open(&c, kernel, page, &batch);
    (void)qr_cursor_unmap(&c, page.start);
    qr_cursor_close(&c);
    qr_tlb_batch_finish(&batch);
    world_end(&w);
}

/* ---- A space that ends under somebody who leaves it ---------------------------------- */

/*
 *   CPU 0, lazy in `ends`         CPU 1                     CPU 2
 *   switch to `next`:                                       holds the lock of numbers
 *     wants a number, waits
 *     ... is evicted       <---   `ends` ends, its memory   lets go
 *     goes on                     is somebody else's now
 */
struct ending {
    struct world w;
    struct qr_tlb_space *ends, *next;
    bool lazy, locked, switching;
    bool evicted; /* while it waited */
};

static void
wait_for(const bool *flag)
{
    while (!*flag)
        sim_poll();
}

static void
leaver(void *context)
{
    struct ending *e = context;

    qr_tlb_switch(e->ends);
    qr_tlb_enter_lazy();
    e->lazy = true;
    wait_for(&e->locked);
    e->switching = true;
    qr_tlb_switch(e->next);
    EXPECT_EQ((void *)sim_tlb(e->w.sim)->cpus[0].loaded, (void *)e->next);
    qr_tlb_switch(sim_tlb(e->w.sim)->kernel);
}

static void
ender(void *context)
{
    struct ending *e = context;

    wait_for(&e->switching);
    qr_tlb_space_fini(e->ends);
    memset(e->ends, 0xff, sizeof(*e->ends));
}

static void
holder(void *context)
{
    struct ending *e = context;
    struct qr_tlb *tlb = sim_tlb(e->w.sim);

    wait_for(&e->lazy);
    qr_spin_lock(&tlb->asid_lock);
    e->locked = true;
    for (unsigned i = 0; i < 1000 && tlb->cpus[0].loaded == e->ends; i++)
        sim_poll();
    e->evicted = tlb->cpus[0].loaded != e->ends;
    qr_spin_unlock(&tlb->asid_lock);
}

static void
one_ending(void *context)
{
    uint64_t seed = *(uint64_t *)context;
    struct ending e = {.lazy = false};
    const uint8_t *bytes;

    world_boot(&e.w, (struct sim_options){.seed = seed,
                                          .asids = FEWEST + (unsigned)(seed % 2),
                                          .features = seed % 3 == 0 ? SIM_BROADCAST : 0});
    e.ends = &e.w.places[0].space;
    e.next = &e.w.places[1].space;
    for (unsigned i = 2; i < SPACES; i++) { /* all numbers have been given out */
        run_on(&e.w, i, 1);
        qr_tlb_switch(sim_tlb(e.w.sim)->kernel);
    }
    sim_enter(e.w.sim, 0);
    sim_spawn_kernel(e.w.sim, 0, "leaver", leaver, &e);
    sim_spawn_kernel(e.w.sim, 1, "ender", ender, &e);
    sim_spawn_kernel(e.w.sim, 2, "holder", holder, &e);
    sim_run(e.w.sim, SIM_RUN_SEEDED);
    EXPECT_TRUE(e.evicted);
    bytes = (const uint8_t *)e.ends;
    for (size_t i = 0; i < sizeof(*e.ends); i++)
        ASSERT_EQ(bytes[i], 0xff);
    qr_tlb_space_init(e.ends, sim_tlb(e.w.sim), &e.w.places[0].tables);
    world_end(&e.w);
}

TEST(asid, a_space_may_end_while_a_cpu_that_leaves_it_waits_for_a_number)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + sim_seeds(SEEDS / 5); seed++) {
        char message[400] = "";

        if (sim_catch(one_ending, &seed, message, sizeof(message)))
            TEST_FAIL("seed %llu: %s", (unsigned long long)seed, message);
        if (message[0] != '\0')
            break;
    }
}

/* ---- Under every seed -------------------------------------------------------------- */

static void
visitor_use(struct world *w, const struct place *place)
{
    for (unsigned i = 0; i < 3; i++) {
        size_t page = (size_t)(sim_random(w->sim) % PAGES);
        uint64_t value;

        if (sim_load(sim_page(page), &value, sizeof(value)) == SIM_OK)
            w->wrong += value != content(w, place, page);
    }
}

/* Goes from space to space, uses each, and changes any of them, the one it is in or not. */
static void
visitor(void *context)
{
    struct world *w = context;

    for (unsigned i = 0; i < 40; i++) {
        struct place *place = &w->places[sim_random(w->sim) % SPACES];
        struct place *changed = &w->places[sim_random(w->sim) % SPACES];
        size_t page = (size_t)(sim_random(w->sim) % PAGES);

        sim_use_tables(w->sim, &place->space);
        visitor_use(w, place);
        if (sim_random(w->sim) % 4 == 0)
            unmap_pages(changed, page, page + 1);
        else
            map_page(w, changed, page);
        visitor_use(w, place);
    }
}

static void
kernel_thread(void *context)
{
    struct world *w = context;

    for (unsigned i = 0; i < 100; i++) {
        unmap_pages(&w->places[sim_random(w->sim) % SPACES], 0, PAGES);
        for (unsigned pause = 0; pause < 5; pause++)
            sim_poll();
    }
}

static void
one_seed(void *context)
{
    uint64_t seed = *(uint64_t *)context;
    struct world w;
    struct sim_options options = {
        .seed = seed,
        .mmu = sim_mmu_by_seed(seed),
        .asids = FEWEST - 1 + (unsigned)(seed / 3 % 4), /* the first: none */
        .features = ((seed & 1) != 0 ? SIM_SPECULATE : 0u) | (seed % 3 != 0 ? SIM_BROADCAST : 0u),
    };

    world_boot(&w, options);
    sim_set_preemption(w.sim, 2u << (seed / 7 % 5));
    sim_enter(w.sim, 0);
    for (unsigned i = 0; i < CPUS + 1; i++) {
        sim_use_tables(w.sim, &w.places[i].space);
        sim_spawn(w.sim, SIM_ANY_CPU, "visitor", visitor, &w);
    }
    sim_spawn_kernel(w.sim, SIM_ANY_CPU, "kernel thread", kernel_thread, &w);
    sim_run(w.sim, SIM_RUN_SEEDED);
    EXPECT_EQ(w.wrong, 0);
    world_end(&w);
}

TEST(asid, numbers_that_change_hands_all_the_time_are_right_under_any_seed)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + sim_seeds(SEEDS); seed++) {
        char message[400] = "";

        if (sim_catch(one_seed, &seed, message, sizeof(message)))
            TEST_FAIL("seed %llu: %s", (unsigned long long)seed, message);
        if (message[0] != '\0')
            break;
    }
}

/* ---- A space that runs here and there while numbers roll over --------------------------- */

static void
resident(void *context)
{
    struct world *w = context;

    for (unsigned i = 0; i < 60; i++)
        visitor_use(w, &w->places[0]);
}

/* In the space itself, or from wherever it is. */
static void
unmapper(void *context)
{
    struct world *w = context;

    for (unsigned i = 0; i < 40; i++) {
        size_t page = (size_t)(sim_random(w->sim) % PAGES);

        if (sim_random(w->sim) % 2 == 0)
            unmap_pages(&w->places[0], page, page + 1 + (size_t)(sim_random(w->sim) % 2));
        else
            map_page(w, &w->places[0], page);
    }
}

static void
roller(void *context)
{
    struct world *w = context;

    for (unsigned i = 0; i < 6 * SPACES; i++) {
        struct place *place = &w->places[1 + i % (SPACES - 1)];

        map_page(w, place, i % PAGES);
        sim_use_tables(w->sim, &place->space);
        visitor_use(w, place);
    }
}

static void
one_seed_of_rounds(void *context)
{
    uint64_t seed = *(uint64_t *)context;
    struct world w;

    world_boot(&w, (struct sim_options){
                       .seed = seed,
                       .mmu = sim_mmu_by_seed(seed),
                       .asids = FEWEST + (unsigned)(seed / 3 % 3),
                       .features = ((seed & 1) != 0 ? SIM_SPECULATE : 0u) |
                                   (seed % 3 != 0 ? SIM_BROADCAST : 0u),
                   });
    sim_set_preemption(w.sim, 2u << (seed / 7 % 5));
    sim_enter(w.sim, 0);
    sim_use_tables(w.sim, &w.places[0].space);
    sim_spawn(w.sim, 0, "resident", resident, &w);
    sim_spawn(w.sim, 1, "resident", resident, &w);
    sim_spawn(w.sim, SIM_ANY_CPU, "unmapper", unmapper, &w);
    sim_use_tables(w.sim, &w.places[1].space);
    sim_spawn(w.sim, SIM_ANY_CPU, "roller", roller, &w);
    sim_run(w.sim, SIM_RUN_SEEDED);
    EXPECT_EQ(w.wrong, 0);
    if (sim_tlb(w.sim)->tagged)
        EXPECT_LE(4, count(&w, QR_EVENT_ASID_ROUND));
    world_end(&w);
}

TEST(asid, a_space_is_unmapped_on_several_cpus_while_numbers_roll_over)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + sim_seeds(SEEDS); seed++) {
        char message[400] = "";

        if (sim_catch(one_seed_of_rounds, &seed, message, sizeof(message)))
            TEST_FAIL("seed %llu: %s", (unsigned long long)seed, message);
        if (message[0] != '\0')
            break;
    }
}
