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
 *   7 a frame of the swap cache has one more, too, and nobody may write it;
 *   8 every table frame belongs to some tree, and the counter agrees.
 */
#include "machine.h"

#include <quire/tlb.h>

#include "space/vm.h"

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

static bool
is_huge_zero(struct qr_vm *vm, qr_pa pa)
{
    uint64_t zero = atomic_load(&vm->huge_zero_pa);

    return zero != HUGE_ZERO_NONE && pa.v - zero < vm->huge_bytes;
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
    if ((region->prot & QR_PROT_EXEC) == 0 && (rwx & QR_PROT_EXEC) != 0 && sim_can_forbid_exec(sim))
        sim_fail("page %#llx is executable and its region is not", at);
    if (region->object != NULL && qr_object_is_device(region->object))
        return;
    if (frame == NULL)
        sim_fail("page %#llx maps %#llx, where there is no frame", at,
                 (unsigned long long)mapping->pa.v);
    if (frame == census->vm->zero || is_huge_zero(census->vm, mapping->pa)) {
        if ((rwx & QR_PROT_WRITE) != 0)
            sim_fail("page %#llx may write the frame of zeroes", at);
        return;
    }
    if (qr_frame_is_private(frame))
        return;
    if (qr_frame_type(frame) == QR_FRAME_HUGE && (region->flags & QR_REGION_HUGETLB) != 0)
        return; /* the library's own validator knows whose it is */
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

/* At rest nobody reads a retired table any more: let them go first. */
static size_t
tables_owned(struct qr_tables *tables)
{
    (void)qr_tables_collect(tables);
    return atomic_load(&tables->table_count);
}

static void
space_census(struct census *census, struct qr_space *space)
{
    struct sim_mapping mapping;
    uintptr_t va = 0;

    while (
        mmu_next_leaf(census->sim, space->tables.root_pa, &va, census->sim->user_end, &mapping)) {
        struct sim_mapping page = mapping;
        uintptr_t end = va + ((uintptr_t)1 << mapping.shift);

        /* Each page of a larger one has to be right by itself. */
        for (; va < end; va += QR_PAGE_SIZE, page.pa.v += QR_PAGE_SIZE) {
            leaf_check(census, space, va, &page);
            count_mapping(census, &page);
        }
    }
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
    case QR_FRAME_MERGED:
        if (census->writable[index] > 0)
            sim_fail("frame %#zx is merged and somebody may write it", pfn);
        if (mapped > maps || maps > refs)
            sim_fail("merged frame %#zx: %u entries, maps %u, references %u", pfn, mapped, maps,
                     refs);
        break;
    case QR_FRAME_SWAP:
        if (census->writable[index] > 0)
            sim_fail("frame %#zx is in the swap cache and somebody may write it", pfn);
        if (mapped > maps || maps >= refs)
            sim_fail("frame %#zx of the swap cache: %u entries, maps %u, references %u", pfn,
                     mapped, maps, refs);
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
    owned = tables_owned(sim->kernel_tables);
    qr_list_for_each(link, &sim->vm->all)
    {
        struct qr_space *space = qr_space_of_link(link);

        space_census(&census, space);
        owned += tables_owned(&space->tables);
    }
    found = frames_check(&census);
    if (found != owned)
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
