/* SPDX-License-Identifier: MIT */
/*
 * Pages to other nodes: what mbind, move_pages and migrate_pages do to memory that is in use.
 *
 * The walk goes over the table entries of a range under the space's lock for reading, and
 * asks for each frame by itself: one that is on a wrong node gets a frame under the new policy, and
 * what migrates a frame for compaction migrates it here (migrate.c), with the lock let go: it may
 * end another space.  Faults go on meanwhile.  Pages of a pool of huge pages stay where they are.
 */
#include "migrate.h"

#include <quire/assert.h>

#include "space/region.h"

struct place {
    struct qr_space *space;
    const struct qr_move_request *request;
    struct qr_move_result *result;
};

/* Is the frame one that the request moves, wherever it is mapped? */
static bool
place_wants(const struct place *place, struct qr_frame *frame)
{
    const struct qr_vm *vm = place->space->vm;

    return qr_node_set_has(&place->request->from,
                           qr_frames_zone_node(vm->config.frames, frame->zone));
}

static void
place_frame(const struct place *place, qr_va va, struct qr_frame *frame, bool whole)
{
    struct qr_vm *vm = place->space->vm;

    if (!place_wants(place, frame))
        return;
    if (!place->request->shared && atomic_load_explicit(&frame->maps, memory_order_relaxed) > 1) {
        place->result->shared++;
        return;
    }
    if (whole) {
        place->result->failed++;
        return;
    }
    /* No reclaim: a lock is held. */
    struct qr_frame *target = qr_frame_alloc_policy(
        vm->config.frames, place->request->to, va.v >> QR_PAGE_SHIFT, 0,
        QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT | QR_ALLOC_MOVABLE | QR_ALLOC_HIGH);

    enum qr_status status = QR_ERR_NO_MEMORY;

    if (target != NULL) {
        qr_rw_read_unlock(&place->space->lock);
        status = qr_page_migrate(place->space, va, frame, target);
        qr_rw_read_lock(&place->space->lock);
    }
    if (status == QR_ERR_BUSY)
        qr_frame_put(vm->config.frames, target);
    place->result->moved += status == QR_OK;
    place->result->failed += status != QR_OK;
    place->result->no_memory += target == NULL;
}

/* Is the large leaf one page, of a pool of huge pages?  Other large leaves are many frames. */
static bool
entry_is_whole(const struct qr_space *space, const struct qr_entry *entry)
{
    const struct qr_region *region =
        qr_likely(entry->level == 0) ? NULL : qr_space_find(space, entry->start);

    return region != NULL && qr_region_is_hugetlb(region);
}

/* The page's frame at @va, which @entry maps; NULL: nobody's page (zeroes, a device). */
static struct qr_frame *
entry_frame(const struct qr_space *space, const struct qr_entry *entry, qr_va va)
{
    if (entry->kind != QR_ENTRY_LEAF || qr_leaf_is_zero(space->vm, &entry->leaf))
        return NULL;
    uintptr_t offset = entry_is_whole(space, entry) ? 0 : va.v - entry->start.v;
    struct qr_frame *frame =
        qr_frame_find(space->vm->config.frames, qr_pa_to_pfn(qr_pa_of(entry->leaf.pa.v + offset)));

    if (frame == NULL || (!qr_frame_is_private(frame) && qr_frame_type(frame) != QR_FRAME_OBJECT))
        return NULL;
    return frame;
}

void
qr_space_move_pages(struct qr_space *space, const struct qr_move_request *request,
                    struct qr_move_result *out_result)
{
    struct place place = {space, request, out_result};
    struct qr_entry entry;
    qr_va at = request->start;
    uintptr_t end = request->start.v + request->bytes;

    *out_result = (struct qr_move_result){.moved = 0};
    qr_rw_read_lock(&space->lock);
    if (end > space->layout.user_end.v || end < at.v)
        end = space->layout.user_end.v;
    while (at.v < end && qr_tables_next(&space->tables, at, &entry) && entry.start.v < end) {
        at = entry.start.v > at.v ? entry.start : at;
        struct qr_frame *frame = entry_frame(space, &entry, at);

        if (frame != NULL)
            place_frame(&place, at, frame, entry_is_whole(space, &entry));
        at = qr_va_of(at.v + QR_PAGE_SIZE);
    }
    qr_rw_read_unlock(&space->lock);
}

enum qr_status
qr_space_page_node(struct qr_space *space, qr_va va, unsigned *out_node)
{
    enum qr_status status = QR_ERR_FAULT;
    struct qr_entry entry;

    va = qr_va_of(va.v & ~(uintptr_t)QR_PAGE_MASK);
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);

    if (region != NULL && region->start.v <= va.v) {
        status = QR_ERR_NOT_FOUND;
        if (qr_tables_next(&space->tables, va, &entry) && entry.start.v <= va.v &&
            entry.kind == QR_ENTRY_LEAF) {
            const struct qr_frame *frame = entry_frame(space, &entry, va);

            status = frame == NULL ? QR_ERR_FAULT : QR_OK;
            if (frame != NULL)
                *out_node = qr_frames_zone_node(space->vm->config.frames, frame->zone);
        }
    }
    qr_rw_read_unlock(&space->lock);
    return status;
}
