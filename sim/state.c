/* SPDX-License-Identifier: MIT */
/*
 * A hash of what user programs can see, so that a test can say: nothing changed.
 */
#include "machine.h"

#include <quire/tlb.h>

#include "space/vm.h"

#include <string.h>

static uint64_t
hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;

    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ at[i]) * 0x100000001b3ull;
    return hash;
}

static uint64_t
hash_page(struct sim *sim, uint64_t hash, qr_pa pa)
{
    static const unsigned char zeros[4096];
    const unsigned char *page = sim_ram(sim, pa);

    /* A page of zeroes and no page look the same. */
    for (size_t at = 0; at < QR_PAGE_SIZE; at += sizeof(zeros)) {
        if (memcmp(page + at, zeros, sizeof(zeros)) != 0)
            return hash_bytes(hash, page, QR_PAGE_SIZE);
    }
    return hash;
}

static uint64_t
hash_object_page(struct sim *sim, uint64_t hash, struct qr_object *object, size_t page)
{
    struct qr_frame *frame;

    if (qr_object_is_device(object) ||
        qr_object_get_page(object, page, QR_PAGE_CACHED, &frame) != QR_OK)
        return hash;
    hash = hash_page(sim, hash, qr_frame_pa(sim->frames, frame));
    qr_frame_put(sim->frames, frame);
    return hash;
}

static uint64_t
hash_region(struct sim *sim, uint64_t hash, struct qr_space *space, struct qr_region *region)
{
    uintptr_t words[4] = {region->start.v, region->end.v, region->prot, region->flags};

    hash = hash_bytes(hash, words, sizeof(words));
    for (uintptr_t va = region->start.v; va < region->end.v; va += QR_PAGE_SIZE) {
        struct qr_va_range range = {qr_va_of(va), qr_va_of(va + QR_PAGE_SIZE)};
        struct qr_cursor cursor;
        struct qr_entry entry;

        qr_cursor_open(&cursor, &space->tables, range, NULL);
        entry = qr_cursor_query(&cursor, range.start);
        qr_cursor_close(&cursor);
        hash = hash_bytes(hash, &va, sizeof(va));
        if (entry.kind == QR_ENTRY_LEAF)
            hash = hash_page(sim, hash, qr_pa_of(entry.leaf.pa.v + (va - entry.start.v)));
        else if (region->object != NULL)
            hash =
                hash_object_page(sim, hash, region->object,
                                 region->object_page + ((va - region->start.v) >> QR_PAGE_SHIFT));
    }
    return hash;
}

uint64_t
sim_state_hash(struct sim *sim)
{
    uint64_t hash = 0xcbf29ce484222325ull;

    qr_list_for_each(link, &sim->vm->all)
    {
        struct qr_space *space = qr_space_of_link(link);

        for (struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
             region = qr_region_next(region))
            hash = hash_region(sim, hash, space, region);
        hash = hash_bytes(hash, &space->brk_end, sizeof(space->brk_end));
    }
    return hash;
}
