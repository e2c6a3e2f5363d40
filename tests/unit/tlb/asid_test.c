/* SPDX-License-Identifier: MIT */
/*
 * Identifiers and broadcast flushes (src/tlb/asid.c): who gets which number, how
 * far flushes go, and, under every seed, that with far too few numbers nobody
 * uses what another space left behind or what was unmapped.
 */
#include "harness.h"
#include "sim.h"
#include "tlb/tlb.h"

#include <string.h>

enum { CPUS = 3, SPACES = 5, PAGES = 4 };

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

TEST(asid, a_number_is_taken_only_from_a_space_that_runs_nowhere)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = 4});
    run_on(&w, 0, 0);
    qr_tlb_enter_lazy(); /* still loaded */
    run_on(&w, 1, 1);
    run_on(&w, 2, 2);
    run_on(&w, 3, 2); /* 2 was loaded while 3 looked for a number: all were in use */
    EXPECT_EQ(number(&w, 0), 1);
    EXPECT_EQ(number(&w, 1), 2);
    EXPECT_EQ(number(&w, 2), 3);
    EXPECT_EQ(number(&w, 3), 3);
    run_on(&w, 4, 2);
    EXPECT_EQ(number(&w, 4), 3);
    qr_tlb_switch(sim_tlb(w.sim)->kernel);
    run_on(&w, 1, 1);
    qr_tlb_switch(sim_tlb(w.sim)->kernel);
    run_on(&w, 3, 2);
    EXPECT_EQ(number(&w, 0), 1);
    EXPECT_EQ(number(&w, 1), 2);
    world_end(&w);
}

TEST(asid, a_space_that_ends_gives_its_number_back)
{
    struct world w;
    struct qr_tlb *tlb;

    world_boot(&w, (struct sim_options){.asids = 8});
    tlb = sim_tlb(w.sim);
    run_on(&w, 0, 0);
    EXPECT_EQ((void *)tlb->owner[1], (void *)&w.places[0].space);
    qr_tlb_switch(tlb->kernel);
    qr_tlb_space_fini(&w.places[0].space);
    EXPECT_NULL(tlb->owner[1]);
    qr_tlb_space_init(&w.places[0].space, tlb, &w.places[0].tables);
    world_end(&w);
}

/* Two spaces share the only number: each CPU drops what the other one left. */
TEST(asid, with_one_number_spaces_share_it)
{
    struct world w;

    world_boot(&w, (struct sim_options){.asids = 2});
    map_page(&w, &w.places[0], 0);
    for (unsigned i = 0; i < 3; i++)
        run_on(&w, i, i);
    EXPECT_EQ(number(&w, 0), 1);
    EXPECT_EQ(number(&w, 2), 1);
    EXPECT_TRUE(touch(&w, 0, 0));
    EXPECT_FALSE(touch(&w, 1, 0));
    run_on(&w, 0, 1);
    EXPECT_TRUE(touch(&w, 1, 0));
    run_on(&w, 1, 1);
    EXPECT_FALSE(touch(&w, 1, 0));
    world_end(&w);
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
    w.places[1].space.asid = number(&w, 0);
    sim_tlb(w.sim)->cpus[1].asid = 1;
    qr_arch_root_switch(w.places[0].tables.root_pa, 1, true);
    map_page(&w, &w.places[0], 0);
    EXPECT_TRUE(touch(&w, 1, 0));
    sim_enter(w.sim, 0);
    EXPECT_TRUE(touch(&w, 0, 0));
    w.places[1].space.asid = 2;
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
                                          .asids = 2 + (unsigned)(seed % 2),
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
        .asids = 2 + (unsigned)(seed / 3 % 4),
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
