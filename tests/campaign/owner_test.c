/* SPDX-License-Identifier: MIT */
/*
 * Memory keeps what was written to it, whatever goes on around.
 *
 * Each thread owns a few pages among those of the others, in the same page
 * tables.  It alone maps, writes and protects them, and remembers each value.
 * Meanwhile all of them fork, copy, populate, lock, advise and are refused
 * memory as the seed says.  A value that a thread reads from its own page and
 * did not write, in its own process or in a child that it has just forked, is a
 * failure; so is anything that the machine finds by itself.
 */
#include "harness.h"
#include "seeds.h"
#include "sim.h"

#include <quire/reclaim.h>
#include <quire/space.h>
#include <quire/user.h>

#include <string.h>

enum { THREADS = 4, OWN = 3, ROUNDS = 40 };

enum own_state { NOTHING, READ_ONLY, WRITABLE };

struct owner {
    struct sim *sim;
    struct qr_space *space;
    size_t first; /* pages first, first + THREADS, ... are ours */
    enum own_state state[OWN];
    bool shared[OWN];
    uint64_t value[OWN];
    uint64_t next;
    unsigned checks;
};

static size_t
pick(struct owner *owner, size_t below)
{
    return (size_t)(sim_random(owner->sim) % below);
}

static size_t
page_of(const struct owner *owner, size_t i)
{
    return owner->first + i * THREADS;
}

static void
own_map(struct owner *owner, size_t i)
{
    struct qr_map_request request = {
        .hint = sim_page(page_of(owner, i)),
        .bytes = QR_PAGE_SIZE,
        .prot = SIM_W,
        .flags = QR_MAP_FIXED | (pick(owner, 4) == 0 ? (unsigned)QR_MAP_POPULATE : 0u),
        .region_flags = pick(owner, 3) == 0 ? QR_REGION_SHARED : 0u,
    };
    qr_va va;

    if (qr_space_map(owner->space, &request, &va) != QR_OK)
        return;
    owner->state[i] = WRITABLE;
    owner->shared[i] = (request.region_flags & QR_REGION_SHARED) != 0;
    owner->value[i] = 0;
}

static void
own_write(struct owner *owner, size_t i)
{
    uint64_t value = ++owner->next;
    bool copy = pick(owner, 2) == 0;
    bool done;

    if (copy)
        done = qr_copy_to_user(sim_page(page_of(owner, i)), &value, sizeof(value)) == 0;
    else
        done = sim_store(sim_page(page_of(owner, i)), &value, sizeof(value)) == SIM_OK;
    if (done && owner->state[i] != WRITABLE)
        sim_fail("page %zu was written although its protection forbids it", page_of(owner, i));
    if (done)
        owner->value[i] = value;
}

static void
own_read(struct owner *owner, size_t i)
{
    uint64_t value = 0;

    if (sim_load(sim_page(page_of(owner, i)), &value, sizeof(value)) != SIM_OK)
        return;
    if (owner->state[i] == NOTHING)
        sim_fail("page %zu was read although nothing is there", page_of(owner, i));
    if (value != owner->value[i])
        sim_fail("page %zu holds %#llx; %#llx was written", page_of(owner, i),
                 (unsigned long long)value, (unsigned long long)owner->value[i]);
    owner->checks++;
}

static void
own_protect(struct owner *owner, size_t i)
{
    bool writable = pick(owner, 2) == 0;
    enum qr_status status = qr_space_protect(owner->space, sim_page(page_of(owner, i)),
                                             QR_PAGE_SIZE, writable ? SIM_W : SIM_R, -1);

    if (status == QR_OK)
        owner->state[i] = writable ? WRITABLE : READ_ONLY;
}

static void
own_unmap(struct owner *owner, size_t i)
{
    if (qr_space_unmap(owner->space, sim_page(page_of(owner, i)), QR_PAGE_SIZE) == QR_OK)
        owner->state[i] = NOTHING;
}

/* What one side writes to private memory after a fork, the other does not see. */
static void
child_write(struct owner *owner, size_t i)
{
    uint64_t junk = UINT64_MAX, back = 0;
    qr_va va = sim_page(page_of(owner, i));

    if (owner->state[i] != WRITABLE || owner->shared[i])
        return;
    if (sim_store(va, &junk, sizeof(junk)) == SIM_OK &&
        sim_load(va, &back, sizeof(back)) == SIM_OK && back != junk)
        sim_fail("the child wrote page %zu and reads %#llx", page_of(owner, i),
                 (unsigned long long)back);
}

/* The child is a copy of this moment, for our own pages: only we change them. */
static void
own_fork(struct owner *owner, size_t i)
{
    struct owner copy = *owner;
    struct qr_space *child;

    if (qr_space_fork(owner->space, &child) != QR_OK)
        return;
    copy.space = child;
    if (pick(owner, 2) == 0) {
        own_write(owner, i);
        if (owner->shared[i])
            copy.value[i] = owner->value[i];
    }
    sim_use(owner->sim, child);
    for (size_t page = 0; page < OWN; page++)
        own_read(&copy, page);
    if (pick(owner, 2) == 0)
        child_write(&copy, i);
    sim_use(owner->sim, owner->space);
    own_read(owner, i);
    qr_space_put(child);
}

static void
own_advise(struct owner *owner, size_t i)
{
    static const enum qr_advice advice[] = {QR_ADVICE_POPULATE_READ, QR_ADVICE_POPULATE_WRITE,
                                            QR_ADVICE_RANDOM, QR_ADVICE_NORMAL};

    (void)!qr_space_advise(owner->space, sim_page(page_of(owner, i)), QR_PAGE_SIZE,
                           advice[pick(owner, QR_ARRAY_COUNT(advice))]);
}

static void
own_lock(struct owner *owner, size_t i)
{
    static const enum qr_lock_mode modes[] = {QR_UNLOCK, QR_LOCK_NOW, QR_LOCK_ON_FAULT};

    (void)!qr_space_lock_pages(owner->space, sim_page(page_of(owner, i)), QR_PAGE_SIZE,
                               modes[pick(owner, 3)]);
}

/* There and back: what is in the page travels with it. */
static void
own_move(struct owner *owner, size_t i)
{
    size_t away = 500 + page_of(owner, i);
    struct qr_remap_request request = {
        .old_start = sim_page(page_of(owner, i)),
        .old_bytes = QR_PAGE_SIZE,
        .new_bytes = QR_PAGE_SIZE,
        .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
        .new_start = sim_page(away),
    };
    qr_va va;

    if (owner->state[i] == NOTHING || qr_space_remap(owner->space, &request, &va) != QR_OK)
        return;
    request.new_start = request.old_start;
    request.old_start = sim_page(away);
    for (unsigned tries = 0; qr_space_remap(owner->space, &request, &va) != QR_OK; tries++) {
        if (tries == 1000)
            sim_fail("page %zu never comes back", page_of(owner, i));
    }
}

/* Anybody's page gets another frame, in every space that shares it. */
static void
any_migrate(struct owner *owner, size_t i)
{
    struct qr_frames *frames = sim_frames(owner->sim);
    qr_va va = sim_page(pick(owner, THREADS) + i * THREADS);
    struct qr_frame *frame, *target;

    if (qr_space_get_frame(owner->space, va, QR_ACCESS_READ, false, &frame) != QR_OK)
        return;
    qr_frame_put(frames, frame);
    target = qr_frame_alloc(frames, QR_ALLOC_MOVABLE | QR_ALLOC_NO_REPORT);
    if (target != NULL && qr_frame_migrate(sim_vm(owner->sim), frame, target) == QR_ERR_BUSY)
        qr_frame_put(frames, target);
}

static void (*const acts[])(struct owner *owner, size_t i) = {
    own_map,     own_write, own_write, own_write, own_read,   own_read, own_read,    own_read,
    own_protect, own_unmap, own_fork,  own_move,  own_advise, own_lock, any_migrate, any_migrate,
};

static void
owner_body(void *context)
{
    struct owner *owner = context;

    for (unsigned round = 0; round < ROUNDS; round++)
        acts[pick(owner, QR_ARRAY_COUNT(acts))](owner, pick(owner, OWN));
}

struct run {
    uint64_t seed;
    uint64_t checks; /* over all seeds */
};

static void
one_seed(void *context)
{
    struct run *run = context;
    uint64_t seed = run->seed;
    struct owner owners[THREADS];
    struct sim *sim = sim_boot((struct sim_options){
        .cpus = 2 + (unsigned)(seed % 3),
        .asids = seed % 2 == 0 ? 0 : 5 + 2 * (unsigned)(seed % 3), /* enough, or just so */
        .mmu = sim_mmu_by_seed(seed / 2),
        .features = SIM_NO_VALIDATE | (seed % 4 < 2 ? (unsigned)SIM_SPECULATE : 0u),
        .seed = seed,
    });

    sim_set_preemption(sim, 2u << (seed / 3 % 5));
    for (size_t i = 0; i < THREADS; i++) {
        owners[i] = (struct owner){.sim = sim, .space = sim_space(sim), .first = i};
        sim_spawn(sim, SIM_ANY_CPU, "owner", owner_body, &owners[i]);
    }
    if (seed % 7 > 3)
        sim_refuse_randomly(sim, 12);
    sim_run(sim, SIM_RUN_SEEDED);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
    sim_validate(sim);
    for (size_t i = 0; i < THREADS; i++)
        run->checks += owners[i].checks;
    sim_shutdown(sim);
}

TEST(owner, memory_keeps_what_was_written_under_every_seed)
{
    uint64_t seeds = sim_seeds(400);
    struct run run = {0};

    if (under_seeds(seeds, one_seed, &run, &run.seed))
        EXPECT_GT(run.checks, 5 * seeds);
}
