/* SPDX-License-Identifier: MIT */
/*
 * Compaction: large free runs out of movable frames.
 *
 * The blocks of 512 frames whose users are movable are taken in turn, those with the most
 * free frames first, because they cost least:
 *
 *   isolate the block          nothing is allocated from it any more
 *   migrate each used frame    its target comes from the fullest blocks, as for any request;
 *                              neighbours of one space together, because that is one flush
 *   give the block back        whole, where nothing was left: it joins the buddy
 *
 * Each pass goes once over a zone, the next one with a lower threshold.  A block that keeps a
 * frame which cannot move (pinned, under I/O) is given back as it is.  A pass ends
 * when the zone has too little free memory outside the block to take its frames in, or
 * when the run that was asked for is there.
 *
 * Removal of memory uses the same migration, block by block, through a hook.
 */
#include "migrate.h"

#include "space/vm.h"

/* Thresholds of one call: blocks with at least so many free frames. */
static const unsigned passes[] = {448, 384, 320, 256, 192, 128, 64, 24, 8, 1};

/* A frame for what @frame holds, on the same node where there is one. */
static struct qr_frame *
target_alloc(struct qr_vm *vm, unsigned node)
{
    return qr_frame_alloc_on(vm->config.frames, node, 0,
                             QR_ALLOC_MOVABLE | QR_ALLOC_HIGH | QR_ALLOC_ATOMIC |
                                 QR_ALLOC_NO_REPORT);
}

static bool
frame_is_candidate(const struct qr_frame *frame)
{
    enum qr_frame_type type = qr_frame_type(frame);

    return (type == QR_FRAME_ANON || type == QR_FRAME_OBJECT || type == QR_FRAME_SWAP) &&
           atomic_load_explicit(&frame->refs, memory_order_relaxed) != 0;
}

/* ---- Neighbours ---------------------------------------------------------------- */

/* Does @frame seem to be in page @page of @owner, and nowhere else? */
static bool
frame_is_at(const struct qr_frame *frame, const void *owner, uintptr_t page)
{
    return qr_frame_type(frame) == QR_FRAME_ANON &&
           atomic_load_explicit(&frame->refs, memory_order_relaxed) == 1 &&
           atomic_load_explicit(&frame->maps, memory_order_relaxed) == 1 &&
           atomic_load_explicit(&frame->owner, memory_order_relaxed) == owner &&
           atomic_load_explicit(&frame->index, memory_order_relaxed) == page;
}

/* From frame @at of the block on: those that lie side by side in one space, too.  @return how many */
static unsigned
run_find(struct qr_vm *vm, const struct qr_isolated *isolated, size_t at, struct qr_move *moves)
{
    const void *owner = NULL;
    uintptr_t page = 0;
    unsigned count = 0;

    for (; count < QR_MOVE_RUN && at + count < isolated->count; count++) {
        struct qr_frame *frame =
            qr_frame_find(vm->config.frames, qr_pfn_of(isolated->first.v + at + count));

        if (frame == NULL)
            break;
        if (count == 0) {
            owner = atomic_load_explicit(&frame->owner, memory_order_relaxed);
            page = atomic_load_explicit(&frame->index, memory_order_relaxed);
        }
        if (!frame_is_at(frame, owner, page + count) ||
            (page + count) / QR_MOVE_RUN != page / QR_MOVE_RUN)
            break;
        moves[count].frame = frame;
    }
    return count;
}

/* Move as many of the run as there is memory for; who does not move is tried by itself later. */
static void
run_move(struct qr_vm *vm, unsigned node, struct qr_move *moves, unsigned count,
         struct qr_compact_result *result)
{
    unsigned got = 0;

    while (got < count && (moves[got].target = target_alloc(vm, node)) != NULL)
        got++;
    if (got > 0)
        result->moved += qr_pages_migrate(vm, moves, got);
    for (unsigned i = 0; i < got; i++) {
        if (!moves[i].moved)
            qr_frame_put(vm->config.frames, moves[i].target);
    }
}

/* Move everything off an isolated block that can be moved; false: no memory to move it to. */
static bool
block_empty(struct qr_vm *vm, const struct qr_isolated *isolated, unsigned node,
            struct qr_compact_result *result)
{
    struct qr_move moves[QR_MOVE_RUN];
    struct qr_frame *target = NULL;
    size_t tried = 0;

    for (size_t i = 0; i < isolated->count; i++) {
        unsigned run = i < tried ? 0 : run_find(vm, isolated, i, moves);

        tried = qr_max_size(tried, i + run);
        if (run > 1)
            run_move(vm, node, moves, run, result);
        struct qr_frame *frame = qr_frame_find(vm->config.frames, qr_pfn_of(isolated->first.v + i));

        if (frame == NULL || !frame_is_candidate(frame))
            continue;
        if (target == NULL)
            target = target_alloc(vm, node);
        if (target == NULL)
            return false;
        enum qr_status status = qr_frame_migrate(vm, frame, target);

        result->moved += status == QR_OK;
        result->stuck += status != QR_OK;
        if (status != QR_ERR_BUSY)
            target = NULL;
    }
    if (target != NULL)
        qr_frame_put(vm->config.frames, target);
    return true;
}

static bool
zone_has_run(struct qr_frames *frames, unsigned zone, unsigned order)
{
    struct qr_zone_stats stats;

    qr_frames_zone_stats(frames, zone, &stats);
    for (unsigned o = order; o < QR_ARRAY_COUNT(stats.free_blocks); o++) {
        if (stats.free_blocks[o] != 0)
            return true;
    }
    return false;
}

/* One pass; false: no use going on with this zone. */
static bool
zone_pass(struct qr_vm *vm, unsigned zone, unsigned node, unsigned min_free, unsigned order,
          struct qr_compact_result *result)
{
    struct qr_frames *frames = vm->config.frames;
    struct qr_isolated isolated;
    size_t cursor = 0;

    while (qr_frames_isolate_next(frames, zone, &cursor, min_free, &isolated)) {
        size_t before = result->made;
        bool room = block_empty(vm, &isolated, node, result);

        result->blocks++;
        result->made += qr_frames_unisolate(frames, &isolated);
        if (!room || (order != 0 && result->made != before && zone_has_run(frames, zone, order)))
            return false;
    }
    return true;
}

static void
zone_compact(struct qr_vm *vm, unsigned zone, unsigned node,
             const struct qr_compact_request *request, struct qr_compact_result *result)
{
    if (request->order != 0 && zone_has_run(vm->config.frames, zone, request->order))
        return;
    for (size_t i = 0; i < QR_ARRAY_COUNT(passes); i++) {
        if (passes[i] < request->min_free ||
            !zone_pass(vm, zone, node, passes[i], request->order, result))
            return;
    }
}

void
qr_compact(struct qr_vm *vm, const struct qr_compact_request *request,
           struct qr_compact_result *out_result)
{
    struct qr_frames *frames = vm->config.frames;
    struct qr_compact_result result = {.blocks = 0};

    qr_counter_add(vm->counters, QR_EVENT_COMPACT, 1);
    qr_frames_drain(frames); /* frames on a CPU's stack would keep their blocks from being whole */
    for (unsigned zone = 0; zone < qr_frames_zone_count(frames); zone++) {
        unsigned node = qr_frames_zone_node(frames, zone);

        if (qr_frames_zone_managed(frames, zone) != 0 &&
            (request->node < 0 || (unsigned)request->node == node))
            zone_compact(vm, zone, node, request, &result);
    }
    qr_frames_drain(frames);
    qr_counter_add(vm->counters, QR_EVENT_COMPACT_BLOCK, (long)result.made);
    *out_result = result;
}

/* ---- Removal of memory --------------------------------------------------------- */

static void
evacuate(void *context, const struct qr_isolated *isolated)
{
    struct qr_vm *vm = context;
    struct qr_compact_result result = {.blocks = 0};
    struct qr_frame *frame = qr_frame_find(vm->config.frames, isolated->first);

    if (frame != NULL)
        (void)block_empty(vm, isolated, qr_frames_zone_node(vm->config.frames, frame->zone),
                          &result);
}

void
qr_reclaim_attach(struct qr_vm *vm)
{
    qr_frames_set_evacuate(vm->config.frames, evacuate, vm);
}
