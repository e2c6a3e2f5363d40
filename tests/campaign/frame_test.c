/* SPDX-License-Identifier: MIT */
/*
 * The frame allocator under every interleaving that the seeds name: each atomic operation is a
 * point where another thread, of the same CPU too, may go on.  What is lock-free in src/frame,
 * and which of the steps below meets it:
 *
 *   a lane's top, taken by exchange     pop and push of single frames, of both classes; runs kept and
 *                                       taken; refill and spill, which hold the lane; drain and
 *                                       figures, which hold other CPUs' lanes; opening and closing
 *   reference counts                    look-ups that race with the last put; free by compare-and-swap
 *   sections, their state and blocks    look-ups of frames that nobody has had, while sections of a
 *                                       bank are opened and descriptors written
 *   free, floors, pressed, woken        requests beside each other in memory that is nearly full
 *   used and its peak                   compared by the validator in the end
 *   a policy's turn                     interleaving without an index
 *
 * A byte a frame says who has it.  After each seed nothing may be lost, and the validator looks.
 */
#include "harness.h"
#include "seeds.h"
#include "sim.h"

#include <quire/frame.h>

#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, HELD = 24, STEPS = 80, MAIL = 6, MANY = 20 };

struct market {
    struct sim *sim;
    struct qr_frames *frames;
    unsigned char *owner; /* by frame number less `first`; 0: nobody */
    size_t first, count;
    struct qr_policy policy;
    struct qr_frame *mail[MAIL];
    bool lookups; /* then everybody puts, because a look-up may hold a reference */
    unsigned largest;
    uint64_t taken;
};

struct trader {
    struct market *market;
    unsigned char number;
    struct qr_frame *held[HELD];
};

static size_t
pick(struct market *market, size_t below)
{
    return (size_t)(sim_random(market->sim) % below);
}

static void
own(struct market *market, const struct qr_frame *frame, unsigned order, unsigned char from,
    unsigned char to)
{
    size_t pfn = qr_frame_pfn(market->frames, frame).v;

    for (size_t i = 0; i < (size_t)1 << order; i++) {
        unsigned char *owner = &market->owner[pfn - market->first + i];

        if (*owner != from)
            sim_fail("frame %#zx of %u is taken by %u, but %u has it", pfn + i, from, to, *owner);
        *owner = to;
    }
    market->taken += to != 0;
}

/* How large a held block is: as its descriptor says, which its holder may read. */
static unsigned
order_of(const struct qr_frame *frame)
{
    return frame->kept & 0x1f;
}

static void
give_back(struct market *market, struct qr_frame *frame, unsigned char number)
{
    if (frame == NULL)
        return;
    own(market, frame, order_of(frame), number, 0);
    if (market->lookups || pick(market, 3) == 0)
        qr_frame_put(market->frames, frame);
    else
        qr_frame_free(market->frames, frame);
}

static void
trade(struct trader *trader, unsigned order)
{
    struct market *market = trader->market;
    struct qr_frame **slot = &trader->held[pick(market, HELD)];
    /* The bare flags take the shortest ways. */
    static const unsigned flags_of[] = {0, QR_ALLOC_MOVABLE, QR_ALLOC_NO_REPORT,
                                        QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE};
    unsigned flags = flags_of[pick(market, 4)];

    give_back(market, *slot, trader->number);
    *slot = NULL;
    struct qr_frame *frame =
        pick(market, 6) == 0
            ? qr_frame_alloc_policy(market->frames, &market->policy, QR_POLICY_NEXT, order, flags)
            : qr_frame_alloc_block(market->frames, order, flags);

    if (frame != NULL)
        own(market, frame, order, 0, trader->number);
    *slot = frame;
}

/* A frame changes its owner, and most often its CPU. */
static void
post(struct trader *trader)
{
    struct market *market = trader->market;
    struct qr_frame **slot = &trader->held[pick(market, HELD)];
    size_t box = pick(market, MAIL);
    struct qr_frame *other = market->mail[box];

    if (*slot == NULL)
        return;
    own(market, *slot, order_of(*slot), trader->number, 99);
    market->mail[box] = *slot;
    *slot = NULL;
    give_back(market, other, 99);
}

static void
many(struct trader *trader)
{
    struct market *market = trader->market;
    struct qr_frame *frames[MANY];
    size_t got = qr_frame_alloc_many(market->frames, 1 + pick(market, MANY), frames,
                                     QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE);

    for (size_t i = 0; i < got; i++)
        own(market, frames[i], 0, 0, trader->number);
    sim_preempt();
    for (size_t i = 0; i < got; i++)
        own(market, frames[i], 0, trader->number, 0);
    if (!market->lookups) {
        qr_frame_free_many(market->frames, got, frames);
        return;
    }
    for (size_t i = 0; i < got; i++)
        qr_frame_put(market->frames, frames[i]);
}

/* Any frame of the machine: it has an owner, or it cannot be had. */
static void
look_up(struct market *market)
{
    qr_pfn pfn = qr_pfn_of(market->first + pick(market, market->count));
    struct qr_frame *frame = qr_frame_find(market->frames, pfn);

    if (!market->lookups || frame == NULL || !qr_frame_try_get(frame))
        return;
    if (qr_frame_type(frame) != QR_FRAME_KERNEL)
        sim_fail("frame %#zx could be taken, but is of type %d", pfn.v, (int)qr_frame_type(frame));
    sim_preempt();
    qr_frame_put(market->frames, frame);
}

static void
isolate(struct market *market)
{
    struct qr_isolated isolated;
    size_t cursor = 0;

    for (unsigned zone = 0; zone < qr_frames_zone_count(market->frames); zone++) {
        if (!qr_frames_isolate_next(market->frames, zone, &cursor, 1, &isolated))
            continue;
        sim_preempt();
        (void)qr_frames_unisolate(market->frames, &isolated);
        return;
    }
}

static void
trader_body(void *context)
{
    struct trader *trader = context;
    struct market *market = trader->market;
    struct qr_frames_stats stats;
    struct qr_node_stats node;

    look_up(market); /* all of them at once, in memory that nobody has had */
    for (unsigned i = 0; i < STEPS; i++) {
        switch (pick(market, 32)) {
        case 0:
            qr_frames_drain(market->frames);
            break;
        case 1:
            qr_frames_stats(market->frames, &stats);
            break;
        case 2:
            qr_frames_node_stats(market->frames, 0, &node);
            break;
        case 3:
            isolate(market);
            break;
        case 4:
        case 5:
            many(trader);
            break;
        case 6:
        case 7:
        case 8:
            look_up(market);
            break;
        case 9:
        case 10:
        case 11:
        case 12:
            post(trader);
            break;
        case 13:
        case 14:
        case 15:
        case 16:
            trade(trader, 1 + (unsigned)pick(market, market->largest));
            break;
        default:
            trade(trader, 0);
        }
    }
    for (size_t i = 0; i < HELD; i++)
        give_back(market, trader->held[i], trader->number);
}

struct run {
    uint64_t seed;
    uint64_t taken; /* over all seeds */
};

/* 24 frames, where lanes may keep nothing; 600, where they are small; 9 blocks; a bank of 3 sections and more. */
static const size_t sizes[] = {24, 600, 9 * 512, 300 * 512};

static void
one_seed(void *context)
{
    struct run *run = context;
    uint64_t seed = run->seed;
    size_t count = sizes[seed / 2 % 4];
    struct sim *sim = sim_boot_frames((struct sim_options){.frames = count,
                                                           .cpus = 1 + (unsigned)(seed % 3),
                                                           .seed = seed,
                                                           .features = SIM_NO_VALIDATE});
    struct market market = {
        .sim = sim,
        .frames = sim_frames(sim),
        .first = (16u << 20) / QR_PAGE_SIZE,
        .count = count,
        .lookups = seed / 8 % 2 != 0,
        .largest = count > 1000 ? 9 : 3,
    };
    struct qr_node_set nodes = {{0}};
    struct qr_frames_stats before, after;
    struct trader traders[THREADS];
    char message[200];

    market.owner = calloc(1, count);
    qr_node_set_add(&nodes, 0);
    if (qr_policy_init(&market.policy, market.frames, QR_POLICY_INTERLEAVE, &nodes, NULL) != QR_OK)
        sim_fail("no policy");
    qr_frames_stats(market.frames, &before);
    sim_set_preemption(sim, 2u << (seed / 3 % 5));
    for (size_t i = 0; i < THREADS; i++) {
        traders[i] = (struct trader){.market = &market, .number = (unsigned char)(i + 1)};
        sim_spawn_kernel(sim, SIM_ANY_CPU, "trader", trader_body, &traders[i]);
    }
    if (seed % 7 == 6)
        sim_refuse_randomly(sim, 12);
    sim_run(sim, SIM_RUN_SEEDED);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
    for (size_t i = 0; i < MAIL; i++)
        give_back(&market, market.mail[i], 99);
    if (!qr_frames_validate(market.frames, message, sizeof(message)))
        sim_fail("frames: %s", message);
    qr_frames_stats(market.frames, &after);
    if (after.free != before.free)
        sim_fail("%zu frames were free, %zu are", before.free, after.free);
    free(market.owner);
    run->taken += market.taken;
    sim_shutdown(sim);
}

TEST(frames, have_one_owner_under_every_seed)
{
    uint64_t seeds = sim_seeds(200);
    struct run run = {0};

    if (under_seeds(seeds, one_seed, &run, &run.seed))
        EXPECT_GT(run.taken, 50 * seeds);
}
