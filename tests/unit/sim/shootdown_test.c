/* SPDX-License-Identifier: MIT */
/*
 * The tlb layer under the oracle: threads change one small range of a space
 * while others use it, under every seed.  Each page holds its own number, so a
 * frame that is reused while somebody still sees it shows as a wrong number,
 * too.  Then the tests' own test: drop any one flush, or any one interrupt, and
 * somebody must notice.
 */
#include "harness.h"
#include "sim.h"

#include <quire/tlb.h>

#include <stdio.h>
#include <string.h>

enum { PAGES = 6, ROUNDS = 20 };

#ifdef QUIRE_CAMPAIGN /* the core is interleaved at every atomic operation */
#define SEEDS 5000
#else
#define SEEDS 400
#endif

struct place {
    struct qr_tables tables;
    struct qr_tlb_space space;
};

/* What one thread works on. */
struct worker {
    struct world *world;
    struct place *place;
};

struct world {
    struct sim *sim;
    struct place places[2];
    struct worker workers[2];
    unsigned rounds;
    unsigned wrong;
    unsigned seen; /* successful reads */
};

static struct sim_options
world_options(uint64_t seed)
{
    static const unsigned more[] = {3, 1, 0, 2}; /* 0: identifiers are not used */
    unsigned cpus = 2 + (unsigned)(seed % 11 % 3);

    return (struct sim_options){
        .cpus = cpus,
        .seed = seed,
        .mmu = sim_mmu_by_seed(seed),
        .asids = 2 * cpus + more[seed / 3 % 4],
        .features = ((seed & 1) != 0 ? SIM_SPECULATE : 0u) |
                    ((seed & 6) == 6 ? SIM_LEAF_FLUSH : 0u) |
                    (seed / 12 % 3 == 1 ? SIM_BROADCAST : 0u),
    };
}

static void
place_create(struct world *world, struct place *place)
{
    enum qr_status status = qr_tables_init(&place->tables, sim_format(world->sim),
                                           sim_frames(world->sim), sim_epoch(world->sim), NULL);

    ASSERT_EQ(status, QR_OK);
    qr_tlb_space_init(&place->space, sim_tlb(world->sim), &place->tables);
}

static void
world_boot(struct world *world, struct sim_options options)
{
    memset(world, 0, sizeof(*world));
    world->sim = sim_boot_tables(options);
    sim_set_preemption(world->sim, 2u << (options.seed / 7 % 5));
    world->rounds = ROUNDS;
    for (unsigned i = 0; i < 2; i++) {
        place_create(world, &world->places[i]);
        world->workers[i] = (struct worker){world, &world->places[i]};
    }
}

static struct qr_va_range
pages_range(size_t first, size_t last)
{
    return (struct qr_va_range){sim_page(first), sim_page(last)};
}

static void
give_to_batch(void *context, const struct qr_entry *entry)
{
    struct qr_cursor *cursor = context;
    struct qr_frames *frames = cursor->tables->frames;

    if (entry->kind == QR_ENTRY_LEAF)
        qr_tlb_batch_add_frame(cursor->batch, qr_frame_of(frames, qr_pa_to_pfn(entry->leaf.pa)));
}

/* When it returns nobody can use the range, whoever took its pages out. */
static void
place_unmap(struct worker *worker, size_t first, size_t last)
{
    struct place *place = worker->place;
    struct sim_flush promise = {
        .root = place->tables.root_pa, .range_count = 1, .ranges = {pages_range(first, last)}};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&cursor, &place->tables, pages_range(first, last), &batch);
    qr_cursor_unmap_range(&cursor, cursor.range, give_to_batch, &cursor);
    sim_flush_begin(worker->world->sim, &promise);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    sim_flush_end(worker->world->sim, &promise);
}

static void
place_map(struct worker *worker, size_t page)
{
    struct world *world = worker->world;
    struct place *place = worker->place;
    struct qr_frame *frame = qr_frame_alloc(sim_frames(world->sim), QR_ALLOC_ZERO);
    struct qr_leaf leaf = {.prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    if (frame == NULL)
        return;
    leaf.pa = qr_frame_pa(sim_frames(world->sim), frame);
    memcpy(sim_ram(world->sim, leaf.pa), &page, sizeof(page));
    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&cursor, &place->tables, pages_range(page, page + 1), &batch);
    if (qr_cursor_query(&cursor, sim_page(page)).kind == QR_ENTRY_NONE &&
        qr_cursor_prepare(&cursor, sim_page(page), 0) == QR_OK) {
        qr_cursor_map(&cursor, sim_page(page), &leaf);
        frame = NULL;
    }
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    if (frame != NULL)
        qr_frame_put(sim_frames(world->sim), frame);
}

static void
place_protect(struct worker *worker, size_t first, size_t last)
{
    struct place *place = worker->place;
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    qr_tlb_batch_init(&batch, &place->space);
    qr_cursor_open(&cursor, &place->tables, pages_range(first, last), &batch);
    qr_cursor_protect_range(&cursor, cursor.range, QR_PROT_READ | QR_PROT_USER, 0, NULL, NULL);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
}

static void
place_change(struct worker *worker)
{
    struct world *world = worker->world;
    size_t first = (size_t)(sim_random(world->sim) % PAGES);
    size_t last = first + 1 + (size_t)(sim_random(world->sim) % (PAGES - first));

    switch (sim_random(world->sim) % 8) {
    case 0:
        place_unmap(worker, 0, PAGES); /* the tables go, too */
        break;
    case 1:
        place_unmap(worker, first, last);
        break;
    case 2:
        place_protect(worker, first, last);
        break;
    default:
        place_map(worker, first);
        break;
    }
}

static void
world_use(struct world *world)
{
    size_t page = (size_t)(sim_random(world->sim) % PAGES);
    size_t value = page;

    if (sim_random(world->sim) % 2 == 0) {
        (void)sim_store(sim_page(page), &value, sizeof(value));
    } else if (sim_load(sim_page(page), &value, sizeof(value)) == SIM_OK) {
        world->wrong += value != page;
        world->seen++;
    }
}

static void
changer(void *context)
{
    struct worker *worker = context;

    for (unsigned i = 0; i < worker->world->rounds; i++)
        place_change(worker);
}

static void
user(void *context)
{
    struct worker *worker = context;

    for (unsigned i = 0; i < 6 * worker->world->rounds; i++)
        world_use(worker->world);
}

static void
kernel_thread(void *context)
{
    struct worker *worker = context;

    for (unsigned i = 0; i < 20 * worker->world->rounds; i++)
        sim_poll();
}

static void
place_destroy(struct worker *worker)
{
    place_unmap(worker, 0, PAGES);
    qr_tlb_space_fini(&worker->place->space);
    qr_tables_fini(&worker->place->tables);
}

/* A short-lived process, again and again: its tables go while others still borrow them. */
static void
guest(void *context)
{
    struct worker *worker = context;
    struct world *world = worker->world;

    for (unsigned i = 0; i < 3; i++) {
        struct place place;
        struct worker inside = {world, &place};

        place_create(world, &place);
        sim_use_tables(world->sim, &place.space);
        for (unsigned use = 0; use < PAGES; use++) {
            place_map(&inside, use);
            world_use(world);
        }
        sim_use_tables(world->sim, &worker->place->space);
        place_destroy(&inside);
    }
}

static void
world_stop(struct world *world)
{
    sim_enter(world->sim, 0);
    for (unsigned i = 0; i < 2; i++) {
        sim_unload(world->sim, &world->places[i].space);
        place_destroy(&world->workers[i]);
    }
    sim_shutdown(world->sim);
}

static void
world_enter(struct world *world, unsigned place)
{
    for (unsigned i = sim_cpu_count(world->sim); i-- > 0;) {
        sim_enter(world->sim, i);
        sim_use_tables(world->sim, &world->places[place].space);
    }
}

/* Who takes part: few threads meet often, many meet in more ways. */
enum crew { TWO_CHANGERS, LAZY, TWO_SPACES, EVERYBODY, CREWS };

static void
spawn(struct world *world, unsigned place, const char *name, sim_body body)
{
    sim_enter(world->sim, 0);
    sim_use_tables(world->sim, &world->places[place].space);
    sim_spawn(world->sim, SIM_ANY_CPU, name, body, &world->workers[place]);
}

static void
world_run(struct world *world, enum crew crew)
{
    spawn(world, 0, "changer", changer);
    spawn(world, 0, "user", user);
    if (crew == TWO_CHANGERS || crew == EVERYBODY)
        spawn(world, 0, "second changer", changer);
    if (crew == LAZY || crew == EVERYBODY)
        sim_spawn_kernel(world->sim, SIM_ANY_CPU, "kernel thread", kernel_thread,
                         &world->workers[0]);
    if (crew == TWO_SPACES || crew == EVERYBODY) {
        spawn(world, 1, "user elsewhere", user);
        spawn(world, 1, "changer elsewhere", changer);
    }
    if (crew == EVERYBODY)
        spawn(world, 1, "guest", guest);
    sim_run(world->sim, SIM_RUN_SEEDED);
}

static void
one_seed(void *context)
{
    uint64_t seed = *(uint64_t *)context;
    struct world world;

    world_boot(&world, world_options(seed));
    world_run(&world, (enum crew)(seed / 5 % CREWS));
    EXPECT_EQ(world.wrong, 0);
    world_stop(&world);
}

TEST(shootdown, no_stale_hit_under_any_seed)
{
    for (uint64_t seed = test_seed(); seed < test_seed() + sim_seeds(SEEDS); seed++) {
        char message[400] = "";

        if (sim_catch(one_seed, &seed, message, sizeof(message)))
            TEST_FAIL("seed %llu: %s", (unsigned long long)seed, message);
        if (message[0] != '\0')
            break;
    }
}

TEST_THREADS(shootdown, host_threads_agree)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct sim_options options = world_options(seed);
        struct world world;

        options.cpus = 4;
        options.features = (options.features & ~(unsigned)SIM_BROADCAST) | SIM_NO_BROADCAST;
        world_boot(&world, options);
        world.rounds = 60;
        spawn(&world, 0, "changer", changer);
        spawn(&world, 0, "user", user);
        spawn(&world, 0, "second changer", changer);
        sim_run(world.sim, SIM_RUN_THREADS);
        EXPECT_EQ(world.wrong, 0);
        world_stop(&world);
    }
}

/* ---- Mutations --------------------------------------------------------------------- */

struct mutation {
    uint64_t seed;
    uint64_t flush, ipi; /* the n-th that is lost; 0: none */
    bool happened;
    unsigned wrong;
};

/* Every CPU uses every page after every change: what one forgets to flush is used. */
static void
one_mutant(void *context)
{
    struct mutation *mutation = context;
    struct sim_options options = world_options(mutation->seed);
    struct world world;

    options.cpus = 2;
    options.features = 0;
    world_boot(&world, options);
    world_enter(&world, 0);
    sim_drop_flush(world.sim, mutation->flush);
    for (unsigned i = 0; i < 40; i++) {
        sim_enter(world.sim, i % 2);
        place_change(&world.workers[0]);
        for (unsigned cpu = 0; cpu < 2; cpu++) {
            sim_enter(world.sim, cpu);
            for (size_t page = 0; page < PAGES; page++) {
                (void)sim_store(sim_page(page), &page, sizeof(page));
                mutation->happened |= sim_stats(world.sim).flushes_dropped != 0;
            }
        }
    }
    mutation->wrong = world.wrong;
    world_stop(&world);
}

TEST(shootdown, every_flush_that_is_dropped_is_missed)
{
    unsigned dropped = 0;

    for (uint64_t seed = 0; seed < 12; seed++) {
        for (uint64_t nth = 1; nth < 1000; nth++) {
            struct mutation mutation = {.seed = seed, .flush = nth};
            char message[400] = "";
            bool caught = sim_catch(one_mutant, &mutation, message, sizeof(message));

            if (!caught && !mutation.happened)
                break; /* there are no more flushes to drop */
            dropped++;
            ASSERT_TRUE(caught);
            ASSERT_CONTAINS(message, "stale TLB");
        }
    }
    EXPECT_GT(dropped, 100);
}
