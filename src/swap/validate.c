/* SPDX-License-Identifier: MIT */
/*
 * Is every slot what it should be?  The machine is at rest.
 *
 *   1 a slot is free, bad, or has users or a frame; counts say how many of each
 *   2 a frame in the cache is of type SWAP, names its slot, and has a reference more than it has entries
 *   3 no I/O is under way
 *   4 what nobody names is clean, and mapped: a copy that saves a write
 */
#include "swap.h"

#include <quire/writer.h>

uint32_t
qr_swap_recount(struct qr_swap *swap, qr_slot number, int delta)
{
    struct slot *slot;
    struct area *area = area_lock(swap, number, &slot);
    uint32_t before = slot == NULL ? 0 : slot->users;

    if (slot != NULL)
        slot->users += (uint32_t)delta;
    qr_spin_unlock(&area->lock);
    return before;
}

size_t
qr_swap_users(struct qr_swap *swap)
{
    size_t users = 0;

    for (unsigned i = 0; i < QR_SWAP_AREAS; i++) {
        struct area *area = &swap->areas[i];

        qr_spin_lock(&area->lock);
        for (size_t page = 0; area->in_use && page < area->pages; page++)
            users += slot_at(area, page)->users;
        qr_spin_unlock(&area->lock);
    }
    return users;
}

struct sums {
    size_t used, cached, usable;
};

static const char *
slot_check(const struct qr_swap *swap, const struct area *area, size_t page, struct sums *sums)
{
    const struct slot *slot = slot_at(area, page);
    const struct qr_frame *frame = slot->frame;
    bool used = slot->users != 0 || frame != NULL;

    sums->used += used;
    sums->cached += frame != NULL;
    sums->usable += used || (slot->state & SLOT_BAD) == 0;
    if ((slot->state & (SLOT_READING | SLOT_WRITING)) != 0)
        return "is being read or written";
    if (!used)
        return (slot->state & ~SLOT_BAD) != 0 || slot->group != 0 ? "is free and remembers a use"
                                                                  : NULL;
    if (frame == NULL)
        return (slot->state & SLOT_WRITTEN) == 0 ? "has its page nowhere" : NULL;
    if (slot->users == 0 && ((slot->state & SLOT_WRITTEN) == 0 || atomic_load(&frame->maps) == 0))
        return "has a page that is of no use to anybody";
    if (qr_frame_type(frame) != QR_FRAME_SWAP ||
        atomic_load(&frame->index) != slot_number(swap, area, page).v)
        return "has a frame that does not know of it";
    if (atomic_load(&frame->refs) < atomic_load(&frame->maps) + 1)
        return "has a frame with too few references";
    return NULL;
}

static const char *
area_check(const struct qr_swap *swap, const struct area *area, size_t *out_page)
{
    struct sums sums = {.used = 0};

    for (size_t cluster = 0; cluster < area->cluster_count; cluster++) {
        size_t taken = 0;

        for (size_t i = 0; i < CLUSTER; i++) {
            size_t page = (cluster << CLUSTER_LOG) + i;
            const struct slot *slot = slot_at(area, page);
            const char *wrong = slot_check(swap, area, page, &sums);

            *out_page = page;
            if (wrong != NULL)
                return wrong;
            taken += slot->users != 0 || slot->frame != NULL || (slot->state & SLOT_BAD) != 0;
        }
        if (taken != area->clusters[cluster].used)
            return "ends a cluster that counts its slots wrongly";
    }
    if (sums.used != area->used || sums.cached != area->cached || sums.usable != area->usable ||
        atomic_load(&area->free) != area->usable - area->used)
        return "ends an area that counts its slots wrongly";
    return NULL;
}

bool
qr_swap_validate(struct qr_swap *swap, char *out_message, size_t bytes)
{
    for (unsigned i = 0; i < QR_SWAP_AREAS; i++) {
        struct area *area = &swap->areas[i];
        const char *wrong = NULL;
        size_t page = 0;

        qr_spin_lock(&area->lock);
        if (area->in_use)
            wrong = area_check(swap, area, &page);
        qr_spin_unlock(&area->lock);
        if (wrong != NULL) {
            (void)qr_format(out_message, bytes, "page %zu of swap area %u %s", page, i, wrong);
            return false;
        }
    }
    return true;
}
