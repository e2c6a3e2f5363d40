/* SPDX-License-Identifier: MIT */
/*
 * The global invariants (target T5), checked when the machine is at rest.
 *
 * First every layer's own validator.  Then, from what the hardware sees in the
 * tables and nothing that the library says about them:
 *
 *   1 a page that a user can reach lies in a region, with no right that the
 *     region lacks, and is open to users;
 *   2 its frame is private memory, or belongs to the region's object at that
 *     page, or is the frame of zeroes, which nobody may write;
 *   3 private memory that somebody may write is mapped once;
 *   4 nothing is mapped past the end of an object;
 *   5 a frame of private memory has as many references as entries map it, but
 *     for entries without rights, which hardware does not see;
 *   6 a frame of an object has one more: the object's own;
 *   7 every table frame belongs to some tree, and the counter agrees.
 */
#include "machine.h"

#include <quire/tlb.h>

#include "space/vm.h"

#include <string.h>

enum { MESSAGE_BYTES = 300 };

static void
layers_validate(struct sim *sim)
{
    char message[MESSAGE_BYTES];

    if (sim->frames != NULL && !qr_frames_validate(sim->frames, message, sizeof(message)))
        sim_fail("frames: %s", message);
    if (sim->heap != NULL && !qr_heap_validate(sim->heap, message, sizeof(message)))
        sim_fail("heap: %s", message);
    if (sim->kernel_tables != NULL &&
        !qr_tables_validate(sim->kernel_tables, message, sizeof(message)))
        sim_fail("kernel tables: %s", message);
    if (sim->objects != NULL && !qr_objects_validate(sim->objects, message, sizeof(message)))
        sim_fail("objects: %s", message);
    if (sim->vm != NULL && !qr_vm_validate(sim->vm, message, sizeof(message)))
        sim_fail("spaces: %s", message);
}

/* ---- What the hardware sees ------------------------------------------------------ */

/* How often each frame is mapped, by frame number from `first` on. */
struct census {
    struct sim *sim;
    struct qr_vm *vm;
    size_t first, count;
    uint32_t *mapped;
    uint32_t *writable;
};

static void
count_mapping(struct census *census, const struct sim_mapping *mapping)
{
    size_t index = qr_pa_to_pfn(mapping->pa).v - census->first;

    if (index >= census->count)
        return;
    census->mapped[index]++;
    census->writable[index] += (mapping->prot & QR_PROT_WRITE) != 0;
}

static void
leaf_check(struct census *census, struct qr_space *space, uintptr_t va,
           const struct sim_mapping *mapping)
{
    struct sim *sim = census->sim;
    unsigned rwx = mapping->prot & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC);
    struct qr_region *region = qr_space_find(space, qr_va_of(va));
    struct qr_frame *frame = qr_frame_find(sim->frames, qr_pa_to_pfn(mapping->pa));
    unsigned long long at = va;

    if (region == NULL || region->start.v > va)
        sim_fail("page %#llx is mapped and lies in no region", at);
    if ((mapping->prot & QR_PROT_USER) == 0)
        sim_fail("page %#llx of a region is closed to users", at);
    /* Hardware grants read with write, and execute where it has no such bit. */
    if ((region->prot & QR_PROT_WRITE) == 0 && (rwx & QR_PROT_WRITE) != 0)
        sim_fail("page %#llx is writable and its region is not", at);
    if ((region->prot & QR_PROT_EXEC) == 0 && (rwx & QR_PROT_EXEC) != 0 &&
        (sim->options.features & SIM_NO_NX) == 0)
        sim_fail("page %#llx is executable and its region is not", at);
    if (region->object != NULL && qr_object_is_device(region->object))
        return;
    if (frame == NULL)
        sim_fail("page %#llx maps %#llx, where there is no frame", at,
                 (unsigned long long)mapping->pa.v);
    if (frame == census->vm->zero) {
        if ((rwx & QR_PROT_WRITE) != 0)
            sim_fail("page %#llx may write the frame of zeroes", at);
        return;
    }
    if (qr_frame_type(frame) == QR_FRAME_ANON)
        return;
    if (qr_frame_type(frame) != QR_FRAME_OBJECT || region->object == NULL)
        sim_fail("page %#llx maps a frame of type %u", at, (unsigned)qr_frame_type(frame));

    size_t page = region->object_page + ((va - region->start.v) >> QR_PAGE_SHIFT);

    if (atomic_load(&frame->owner) != region->object || atomic_load(&frame->index) != page)
        sim_fail("page %#llx maps another page than page %zu of its object", at, page);
    if (page >= (qr_object_bytes(region->object) + QR_PAGE_MASK) >> QR_PAGE_SHIFT)
        sim_fail("page %#llx is mapped past the end of its object", at);
    if ((region->flags & QR_REGION_SHARED) == 0 && (rwx & QR_PROT_WRITE) != 0)
        sim_fail("page %#llx of a private mapping may write the object's frame", at);
}

static size_t
space_census(struct census *census, struct qr_space *space)
{
    struct sim_mapping mapping;
    uintptr_t va = 0;

    while (mmu_next_leaf(census->sim, space->tables.root_pa, &va, census->sim->user_end,
                         &mapping)) {
        leaf_check(census, space, va, &mapping);
        count_mapping(census, &mapping);
        va += (uintptr_t)1 << mapping.shift;
    }
    return atomic_load(&space->tables.table_count);
}

static void
frame_check(struct census *census, struct qr_frame *frame, size_t index)
{
    uint32_t refs = atomic_load(&frame->refs);
    uint32_t maps = atomic_load(&frame->maps);
    uint32_t mapped = census->mapped[index];
    size_t pfn = census->first + index;

    switch (qr_frame_type(frame)) {
    case QR_FRAME_ANON:
        if (census->writable[index] > 0 && mapped > 1)
            sim_fail("frame %#zx is mapped %u times and somebody may write it", pfn, mapped);
        if (mapped > maps || maps > refs)
            sim_fail("private frame %#zx: %u entries, maps %u, references %u", pfn, mapped, maps,
                     refs);
        break;
    case QR_FRAME_OBJECT:
        if (mapped > maps || maps >= refs)
            sim_fail("object frame %#zx: %u entries, maps %u, references %u", pfn, mapped, maps,
                     refs);
        break;
    default:
        break;
    }
}

static size_t
frames_check(struct census *census)
{
    size_t tables = 0;

    for (size_t index = 0; index < census->count; index++) {
        struct qr_frame *frame =
            qr_frame_find(census->sim->frames, qr_pfn_of(census->first + index));

        if (frame == NULL)
            continue;
        tables += qr_frame_type(frame) == QR_FRAME_TABLE;
        frame_check(census, frame, index);
    }
    return tables;
}

static void
spaces_validate(struct sim *sim)
{
    struct census census = {.sim = sim, .vm = sim->vm, .first = SIZE_MAX};
    size_t end = 0, owned, found;

    for (size_t i = 0; i < sim->options.bank_count; i++) {
        size_t first = (size_t)(sim->banks[i].start >> QR_PAGE_SHIFT);
        size_t last = first + (size_t)(sim->banks[i].bytes >> QR_PAGE_SHIFT);

        census.first = first < census.first ? first : census.first;
        end = last > end ? last : end;
    }
    census.count = end - census.first;
    census.mapped = sim_host_alloc(census.count * sizeof(uint32_t));
    census.writable = sim_host_alloc(census.count * sizeof(uint32_t));
    owned = atomic_load(&sim->kernel_tables->table_count);
    qr_list_for_each (link, &sim->vm->all)
        owned += space_census(&census, qr_space_of_link(link));
    found = frames_check(&census);
    if (found < owned)
        sim_fail("the trees count %zu tables, and %zu frames are tables", owned, found);
    sim_host_free(census.mapped);
    sim_host_free(census.writable);
}

void
sim_validate(struct sim *sim)
{
    layers_validate(sim);
    if (sim->vm != NULL)
        spaces_validate(sim);
}

/* ---- Usage and state ----------------------------------------------------------------- */

struct sim_usage
sim_usage(struct sim *sim)
{
    struct sim_usage usage = {.frames = 0};
    struct qr_frames_stats frames;
    struct qr_heap_stats heap;

    memset(&heap, 0, sizeof(heap));
    if (sim->heap != NULL)
        qr_heap_stats(sim->heap, &heap);
    qr_frames_drain(sim->frames);
    qr_frames_stats(sim->frames, &frames);
    usage.frames = frames.total - frames.free - heap.frames;
    usage.heap_bytes = heap.active_bytes;
    return usage;
}

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
            hash = hash_page(sim, hash,
                             qr_pa_of(entry.leaf.pa.v + (va - entry.start.v)));
        else if (region->object != NULL)
            hash = hash_object_page(sim, hash, region->object,
                                    region->object_page +
                                        ((va - region->start.v) >> QR_PAGE_SHIFT));
    }
    return hash;
}

uint64_t
sim_state_hash(struct sim *sim)
{
    uint64_t hash = 0xcbf29ce484222325ull;

    qr_list_for_each (link, &sim->vm->all) {
        struct qr_space *space = qr_space_of_link(link);

        for (struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
             region = qr_region_next(region))
            hash = hash_region(sim, hash, space, region);
        hash = hash_bytes(hash, &space->brk_end, sizeof(space->brk_end));
    }
    return hash;
}
