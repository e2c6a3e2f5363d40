/* SPDX-License-Identifier: MIT */
/*
 * Target T6: programs and the kernel use memory, a great many times, through TLBs and
 * walk caches that lose nothing by themselves and fill speculatively, while mappings
 * of every kind come and go: on every format, with ASIDs that run out, broadcast flushes
 * and others, global entries, large ones, and large ones that are split.
 *
 *   SIM_ACCESSES=100000000 build/hosted/test_campaign --limit 0 accesses.
 *
 * Each of the threads owns some pages of its process, some blocks of the kernel's range and
 * one large page there, and keeps in mind what it wrote; the tables are shared.  A stale entry
 * shows to the oracle, or as what somebody else wrote.
 */
#include "harness.h"
#include "sim.h"

#include <quire/heap.h>
#include <quire/space.h>
#include <quire/tlb.h>
#include <quire/vmalloc.h>

#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, PAGES = 12, BLOCK_PAGES = 35, ROUNDS = 150, LOADS = 60 };

struct world {
    struct sim *sim;
    struct qr_vmalloc *area;
    struct qr_tlb_space *kernel;
    uint64_t large_first; /* where the kernel's large pages stand */
    unsigned large_shift; /* 0: the format has none */
};

struct thread {
    struct world *world;
    size_t first; /* of its pages */
    uint64_t random;
    uint64_t wrote[PAGES]; /* 0: clear or unmapped */
    bool mapped[PAGES];
    uint64_t next; /* what it writes */
};

static size_t
pick(struct thread *t, size_t below)
{
    return test_random(&t->random) % below;
}

/* ---- A program's memory ---------------------------------------------------------- */

static void
user_load(struct thread *t)
{
    size_t page = pick(t, PAGES);
    uint64_t value = 0;
    enum sim_signal signal = sim_load(sim_page(t->first + page), &value, sizeof(value));

    if (!t->mapped[page] && signal == SIM_OK)
        sim_fail("page %zu is not mapped and can be read", t->first + page);
    if (t->mapped[page] && signal == SIM_OK && value != t->wrote[page])
        sim_fail("page %zu holds %llx instead of %llx", t->first + page, (unsigned long long)value,
                 (unsigned long long)t->wrote[page]);
}

static void
user_store(struct thread *t)
{
    size_t page = pick(t, PAGES);
    uint64_t value = t->next++;

    if (sim_store(sim_page(t->first + page), &value, sizeof(value)) == SIM_OK)
        t->wrote[page] = value;
}

static void
user_map(struct thread *t)
{
    size_t page = pick(t, PAGES - 2), count = 1 + pick(t, 3);
    struct qr_map_request request = {.hint = sim_page(t->first + page),
                                     .bytes = count << QR_PAGE_SHIFT,
                                     .prot = SIM_W,
                                     .flags = QR_MAP_FIXED,
                                     .region_flags = pick(t, 4) == 0 ? QR_REGION_SHARED : 0};
    qr_va va;

    if (qr_space_map(sim_space(t->world->sim), &request, &va) != QR_OK)
        return;
    for (size_t i = page; i < page + count; i++) {
        t->mapped[i] = true;
        t->wrote[i] = 0;
    }
}

static void
user_unmap(struct thread *t)
{
    size_t page = pick(t, PAGES - 2), count = 1 + pick(t, 3);

    if (qr_space_unmap(sim_space(t->world->sim), sim_page(t->first + page),
                       count << QR_PAGE_SHIFT) != QR_OK)
        return;
    for (size_t i = page; i < page + count; i++) {
        t->mapped[i] = false;
        t->wrote[i] = 0;
    }
}

static void
user_protect(struct thread *t)
{
    static const unsigned prots[] = {SIM_W, SIM_R, SIM_W};

    (void)!qr_space_protect(sim_space(t->world->sim), sim_page(t->first + pick(t, PAGES)),
                            QR_PAGE_SIZE, prots[pick(t, 3)], -1);
}

static void
user_fork(struct thread *t)
{
    struct qr_space *child;

    if (qr_space_fork(sim_space(t->world->sim), &child) == QR_OK)
        qr_space_put(child);
}

/* ---- The kernel's ------------------------------------------------------------------ */

/* The kernel reads or writes one word of its own half, through this CPU's TLB. */
static void
kernel_access(struct world *world, uint64_t at, unsigned access, uint64_t *word)
{
    struct sim_access wanted = {
        .va = qr_va_of((uintptr_t)at), .access = access, .mode = SIM_KERNEL};
    unsigned code;
    qr_pa pa;

    if (!sim_translate(wanted, &pa, &code))
        sim_fail("the kernel faults at %#llx (code %#x)", (unsigned long long)at, code);
    if (access == QR_ACCESS_WRITE)
        *(uint64_t *)sim_ram(world->sim, pa) = *word;
    else
        *word = *(uint64_t *)sim_ram(world->sim, pa);
}

static void
kernel_check(struct thread *t, uint64_t at)
{
    uint64_t word = t->next++, found = 0;

    kernel_access(t->world, at, QR_ACCESS_WRITE, &word);
    kernel_access(t->world, at, QR_ACCESS_READ, &found);
    if (found != word)
        sim_fail("the kernel wrote %llx to %#llx and reads %llx", (unsigned long long)word,
                 (unsigned long long)at, (unsigned long long)found);
}

static void
kernel_block(struct thread *t)
{
    char *block = qr_vmalloc(t->world->area, BLOCK_PAGES << QR_PAGE_SHIFT, 0, "campaign");

    if (block == NULL)
        return;
    for (size_t i = 0; i < 6; i++)
        kernel_check(t, (uintptr_t)block + (pick(t, BLOCK_PAGES) << QR_PAGE_SHIFT));
    qr_vfree(t->world->area, block);
}

static void
forget_leaf(void *context, const struct qr_entry *entry)
{
    (void)context;
    (void)entry; /* the frames go afterwards, all together */
}

static void
kernel_large(struct thread *t)
{
    struct world *world = t->world;
    unsigned shift = world->large_shift;
    struct qr_frames *frames = sim_frames(world->sim);
    struct qr_frame *block =
        shift == 0 ? NULL : qr_frame_alloc_block(frames, shift - QR_PAGE_SHIFT, QR_ALLOC_NO_REPORT);
    uint64_t start = world->large_first + ((t->first / PAGES) << shift);
    struct qr_va_range range = {qr_va_of(start), qr_va_of(start + (1ull << shift))};
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;

    if (block == NULL)
        return;
    struct qr_leaf leaf = {.pa = qr_frame_pa(frames, block),
                           .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_GLOBAL,
                           .flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY,
                           .level = 1};

    qr_tlb_batch_init(&batch, world->kernel);
    qr_cursor_open(&cursor, world->kernel->tables, range, &batch);
    bool mapped = qr_cursor_prepare(&cursor, range.start, 1) == QR_OK;

    if (mapped)
        qr_cursor_map(&cursor, range.start, &leaf);
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    for (size_t i = 0; mapped && i < 8; i++)
        kernel_check(t, start + (pick(t, 1ull << (shift - 3)) << 3));
    bool split = mapped && pick(t, 2) == 0;

    if (split) {
        qr_frame_split_block(frames, block);
        qr_tlb_batch_init(&batch, world->kernel);
        qr_cursor_open(&cursor, world->kernel->tables, range, &batch);
        (void)!qr_cursor_split(&cursor, range.start);
        qr_cursor_close(&cursor);
        qr_tlb_batch_finish(&batch);
        for (size_t i = 0; i < 8; i++)
            kernel_check(t, start + (pick(t, 1ull << (shift - 3)) << 3));
    }
    qr_tlb_batch_init(&batch, world->kernel);
    if (mapped) {
        qr_cursor_open(&cursor, world->kernel->tables, range, &batch);
        qr_cursor_unmap_range(&cursor, range, forget_leaf, NULL);
        qr_cursor_close(&cursor);
    }
    size_t first = qr_frame_pfn(frames, block).v;

    for (size_t i = 0; i < (split ? (size_t)1 << (shift - QR_PAGE_SHIFT) : 1); i++)
        qr_tlb_batch_add_frame(&batch, qr_frame_of(frames, qr_pfn_of(first + i)));
    qr_tlb_batch_finish(&batch);
}

/* ---- Running ----------------------------------------------------------------------- */

static void
thread_body(void *context)
{
    static void (*const acts[])(struct thread *) = {
        user_store, user_store,   user_map,  user_store,   user_store,   user_map,    user_map,
        user_unmap, user_protect, user_fork, kernel_block, kernel_block, kernel_large};
    struct thread *t = context;

    for (size_t i = 0; i < PAGES; i++)
        user_map(t);
    for (unsigned round = 0; round < ROUNDS; round++) {
        acts[pick(t, QR_ARRAY_COUNT(acts))](t);
        for (unsigned i = 0; i < LOADS; i++)
            user_load(t);
    }
}

static void
world_boot(struct world *world, uint64_t seed)
{
    static const unsigned more[] = {3, 1, 2, 0}; /* 0: identifiers are not used */
    unsigned cpus = 2 + (unsigned)(seed % 3);
    struct qr_format_info info;
    uintptr_t start;

    world->sim = sim_boot(
        (struct sim_options){.frames = 8192,
                             .cpus = cpus,
                             .seed = seed,
                             .mmu = sim_mmu_by_seed(seed),
                             .asids = 2 * cpus + more[seed / 5 % 4],
                             .features = SIM_NO_VALIDATE | SIM_SPECULATE | SIM_KERNEL_HALF |
                                         (seed / 7 % 3 == 0 ? (unsigned)SIM_NO_BROADCAST : 0u) |
                                         (seed / 11 % 4 == 0 ? (unsigned)SIM_NO_AD : 0u)});
    start = sim_kernel_start(world->sim).v + (64u << 20);
    qr_format_info(sim_format(world->sim), &info);
    world->kernel = sim_kernel_space(world->sim);
    world->large_shift =
        (info.leaf_levels & 2) != 0 ? qr_format_shift(sim_format(world->sim), 1) : 0;
    world->large_first = (start + (64u << 20)) & ~((1ull << world->large_shift) - 1);
    world->area = qr_kcalloc(sim_heap(world->sim), 1, qr_vmalloc_size(), 0);
    const struct qr_vmalloc_config config = {
        .name = "area",
        .frames = sim_frames(world->sim),
        .heap = sim_heap(world->sim),
        .kernel = world->kernel,
        .range = {qr_va_of(start), qr_va_of(start + (256 << QR_PAGE_SHIFT))},
        .groups = true,
    };

    ASSERT_STATUS(qr_vmalloc_init(world->area, &config), QR_OK);
    sim_set_preemption(world->sim, 16u << (seed / 3 % 4));
}

struct run {
    uint64_t seed;
    struct sim_stats sum;
};

static void
stats_add(struct sim_stats *sum, struct sim_stats one)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)&one;

    for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
        to[i] += from[i];
}

static void
one_seed(void *context)
{
    struct run *run = context;
    struct thread threads[THREADS];
    struct qr_space *second, *first;
    struct world world;

    world_boot(&world, run->seed);
    first = sim_space(world.sim);
    second = sim_space_create(world.sim);
    for (size_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){.world = &world,
                                     .first = i * PAGES,
                                     .random = run->seed * 31 + i,
                                     .next = (i + 1) << 32};
        sim_use(world.sim, i % 2 == 0 ? first : second);
        sim_spawn(world.sim, SIM_ANY_CPU, "user", thread_body, &threads[i]);
    }
    sim_run(world.sim, SIM_RUN_SEEDED);
    sim_use(world.sim, first);
    sim_validate(world.sim);
    stats_add(&run->sum, sim_stats(world.sim));
    sim_space_destroy(world.sim, second);
    EXPECT_EQ(qr_vmalloc_fini(world.area), 0u);
    qr_kfree(sim_heap(world.sim), world.area);
    sim_shutdown(world.sim);
}

static uint64_t
accesses_wanted(void)
{
    const char *text = getenv("SIM_ACCESSES");

    return text != NULL ? strtoull(text, NULL, 0) : 1000000;
}

TEST(accesses, no_entry_is_used_after_its_flush)
{
    uint64_t wanted = accesses_wanted();
    struct run run = {.seed = test_seed()};

    for (; run.sum.accesses < wanted; run.seed++) {
        char message[400];

        if (sim_catch(one_seed, &run, message, sizeof(message))) {
            TEST_FAIL("seed %llu (%s): %s", (unsigned long long)run.seed,
                      sim_mmu_name(sim_mmu_by_seed(run.seed)), message);
            return;
        }
    }
    test_print(
        "     %llu accesses under %llu seeds: %llu hits, %llu of them stale with their flush "
        "pending;\n     %llu speculative fills, %llu faults, %llu flushes, %llu switches, "
        "%llu interrupts\n",
        (unsigned long long)run.sum.accesses, (unsigned long long)(run.seed - test_seed()),
        (unsigned long long)run.sum.tlb_hits, (unsigned long long)run.sum.stale_hits,
        (unsigned long long)run.sum.speculative_fills, (unsigned long long)run.sum.faults,
        (unsigned long long)(run.sum.flush_page + run.sum.flush_asid + run.sum.flush_all),
        (unsigned long long)run.sum.root_switches, (unsigned long long)run.sum.ipis_sent);
    EXPECT_GT(run.sum.tlb_hits, wanted / 4);
}
