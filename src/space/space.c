/* SPDX-License-Identifier: MIT */
/*
 * The life of an address space.
 *
 * A space is created empty, shared by counting users, and destroyed by whoever
 * puts the last one: at that moment nobody else can reach it, so it is taken
 * apart without contention, and freed exactly once (invariants 25).  The
 * machine's list holds no reference; it is for reports, validators and what runs in the background.
 * A fork is in it once it is whole: its regions are made without its lock.
 */
#include "region.h"

/* Times that a call asks for room in its group before it fails. */
enum { ROOM_ATTEMPTS = 12 };

void
qr_space_publish(struct qr_space *space)
{
    struct qr_vm *vm = space->vm;

    qr_spin_lock(&vm->lock);
    qr_list_push_back(&vm->all, &space->link);
    vm->space_count++;
    qr_spin_unlock(&vm->lock);
}

static void
space_unregister(struct qr_space *space)
{
    struct qr_vm *vm = space->vm;

    qr_spin_lock(&vm->lock);
    if (!qr_list_is_empty(&space->link)) {
        qr_list_remove(&space->link);
        vm->space_count--;
    }
    qr_spin_unlock(&vm->lock);
}

enum qr_status
qr_space_make(struct qr_vm *vm, struct qr_space **out_space)
{
    struct qr_space *space = qr_cache_alloc(vm->spaces, 0);

    if (space == NULL)
        return QR_ERR_NO_MEMORY;
    *space = (struct qr_space){.vm = vm, .layout = vm->config.layout};
    atomic_init(&space->users, 1);
    qr_list_init(&space->link);
    qr_regions_init(&space->regions);
    space->limits = (struct qr_space_limits){
        .address_space = SIZE_MAX, .data = SIZE_MAX, .stack = SIZE_MAX, .locked = SIZE_MAX};

    enum qr_status status = qr_tables_init(&space->tables, vm->config.format, vm->config.frames,
                                           vm->config.epoch, vm->config.kernel_tables);

    if (status != QR_OK) {
        qr_cache_free(vm->spaces, space);
        return status;
    }
    space->tables.group = &space->group;
    qr_tlb_space_init(&space->tlb, vm->config.tlb, &space->tables);
    qr_place_init(space);
    *out_space = space;
    return QR_OK;
}

enum qr_status
qr_space_create(struct qr_vm *vm, struct qr_space **out_space)
{
    enum qr_status status = qr_space_make(vm, out_space);

    if (status == QR_OK)
        qr_space_publish(*out_space);
    return status;
}

void
qr_space_get(struct qr_space *space)
{
    uint32_t before = atomic_fetch_add_explicit(&space->users, 1, memory_order_relaxed);

    qr_assert(before != 0);
}

/* Take every region apart.  S for writing, or nobody else has the space. */
static void
space_drop_regions(struct qr_space *space, struct qr_change *change)
{
    struct qr_tlb_batch batch;
    struct qr_region *region;

    qr_tlb_batch_init(&batch, &space->tlb);
    for (region = qr_region_of(qr_tree_first(&space->regions)); region != NULL;
         region = qr_region_next(region))
        qr_zap_surely(region, qr_region_range(region), &batch);
    qr_tlb_batch_finish(&batch);
    while ((region = qr_region_of(space->regions.root)) != NULL)
        qr_region_drop(change, region);
}

/* S for writing, which is given back. */
static void
space_clear_locked(struct qr_space *space)
{
    struct qr_change change;

    qr_change_begin(&change, space);
    space_drop_regions(space, &change);
    space->brk_start = space->brk_end = qr_va_of(0);
    space->default_lock_flags = 0;
    space->sealed = false;
    qr_space_set_mergeable(space, false);
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
}

void
qr_space_clear(struct qr_space *space)
{
    qr_rw_write_lock(&space->lock);
    space_clear_locked(space);
}

bool
qr_space_try_clear(struct qr_space *space)
{
    if (!qr_rw_try_write_lock(&space->lock))
        return false;
    space_clear_locked(space);
    return true;
}

void
qr_space_put(struct qr_space *space)
{
    struct qr_vm *vm = space->vm;
    uint32_t before = atomic_fetch_sub_explicit(&space->users, 1, memory_order_acq_rel);

    qr_assert(before != 0);
    if (before != 1)
        return;
    qr_tlb_space_unload(&space->tlb); /* before the flushes that it saves */
    if (space->regions.root != NULL)
        qr_space_clear(space);
    space_unregister(space);
    qr_tlb_space_fini(&space->tlb);
    qr_tables_fini(&space->tables);
    qr_group_put(atomic_load_explicit(&space->group, memory_order_relaxed));
    qr_charge_drop(vm->config.groups, &space->charge);
    qr_cache_free(vm->spaces, space);
}

void
qr_space_end(struct qr_space *space)
{
    qr_tlb_space_unload(&space->tlb);
    qr_space_clear(space);
    qr_space_put(space);
}

bool
qr_space_try_get(struct qr_space *space)
{
    uint32_t users = atomic_load_explicit(&space->users, memory_order_relaxed);

    while (users != 0 &&
           !atomic_compare_exchange_weak_explicit(&space->users, &users, users + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
    return users != 0;
}

struct qr_space *
qr_space_next(struct qr_vm *vm, struct qr_space *previous)
{
    struct qr_space *next = NULL;

    qr_spin_lock(&vm->lock);
    /* Who has references stays in the list. */
    struct qr_list *link = previous == NULL ? vm->all.next : previous->link.next;

    for (; link != &vm->all && next == NULL; link = link->next) {
        if (qr_space_try_get(qr_space_of_link(link)))
            next = qr_space_of_link(link);
    }
    qr_spin_unlock(&vm->lock);
    if (previous != NULL)
        qr_space_put(previous);
    return next;
}

/* The living space with the lowest id above @id, with a reference; or NULL. */
static struct qr_space *
space_after(struct qr_vm *vm, uint64_t id)
{
    struct qr_space *found = NULL;

    qr_spin_lock(&vm->lock);
    qr_list_for_each(link, &vm->all)
    {
        struct qr_space *space = qr_space_of_link(link);

        if (space->tlb.id > id && (found == NULL || space->tlb.id < found->tlb.id) &&
            atomic_load_explicit(&space->users, memory_order_relaxed) != 0)
            found = space;
    }
    if (found != NULL && !qr_space_try_get(found))
        found = NULL;
    qr_spin_unlock(&vm->lock);
    return found;
}

struct qr_space *
qr_space_scan(struct qr_vm *vm, uint64_t *io_id, qr_va *io_at)
{
    struct qr_space *space = space_after(vm, *io_id - (io_at->v != 0));

    if (space == NULL)
        return NULL;
    if (space->tlb.id != *io_id)
        *io_at = qr_va_of(0);
    *io_id = space->tlb.id;
    return space;
}

struct qr_space *
qr_space_by_id(struct qr_vm *vm, uint64_t id)
{
    struct qr_space *space = space_after(vm, id - 1);

    if (space != NULL && space->tlb.id != id) {
        qr_space_put(space);
        space = NULL;
    }
    return space;
}

void
qr_space_set_group(struct qr_space *space, struct qr_group *group)
{
    struct qr_group *before;

    if (group != NULL)
        qr_group_get(group);
    qr_rw_write_lock(&space->lock);
    before = atomic_exchange_explicit(&space->group, group, memory_order_acq_rel);
    qr_rw_write_unlock(&space->lock);
    qr_group_put(before);
}

struct qr_group *
qr_space_group_get(struct qr_space *space)
{
    return qr_group_get_current(&space->group);
}

bool
qr_space_charge(struct qr_space *space, size_t bytes, struct qr_charge *out_charge)
{
    struct qr_group *group = qr_space_group_get(space);
    bool charged =
        group == NULL || qr_charge_take(group, QR_GROUP_SLAB, bytes, out_charge) == QR_OK;

    qr_group_put(group);
    if (!charged)
        qr_space_refused(space);
    return charged;
}

enum qr_status
qr_space_charge_own(struct qr_space *space)
{
    enum qr_status status = qr_tables_charge_root(&space->tables);

    if (status == QR_OK && space->charge.group == 0 &&
        !qr_space_charge(space, sizeof(*space), &space->charge))
        status = QR_ERR_LIMIT;
    return status;
}

/* Has @flag been set since this was asked last? */
static bool
was_set(_Atomic bool *flag)
{
    return atomic_load_explicit(flag, memory_order_relaxed) &&
           atomic_exchange_explicit(flag, false, memory_order_relaxed);
}

bool
qr_space_was_refused(struct qr_space *space)
{
    return was_set(&space->tables.refused);
}

void
qr_space_pass_refusals(struct qr_space *from, struct qr_space *to)
{
    if (was_set(&from->tables.refused))
        qr_space_refused(to);
    if (was_set(&from->tables.starved))
        atomic_store_explicit(&to->tables.starved, true, memory_order_relaxed);
}

static bool
room_in_group(struct qr_space *space, size_t pages)
{
    struct qr_group *group = qr_space_group_get(space);
    bool made = group != NULL && qr_group_make_room(group, pages);

    qr_group_put(group);
    return made;
}

/* A table is wanted with locks held, so nothing is reclaimed for it. For these frames it is. */
static bool
room_in_machine(struct qr_frames *frames, size_t count)
{
    struct qr_frame *first = NULL, *frame;
    size_t left = count;

    while (left > 0 && (frame = qr_frame_alloc(frames, QR_ALLOC_NO_REPORT)) != NULL) {
        atomic_store_explicit(&frame->owner, first, memory_order_relaxed);
        first = frame;
        left--;
    }
    while (first != NULL) {
        frame = first;
        first = atomic_load_explicit(&frame->owner, memory_order_relaxed);
        atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
        qr_frame_put(frames, frame);
    }
    return left == 0;
}

bool
qr_space_make_room(struct qr_space *space, unsigned attempt)
{
    bool refused = qr_space_was_refused(space), starved = was_set(&space->tables.starved);
    /* What a failed attempt had is free again: ask for more each time. */
    size_t pages = (size_t)1 << attempt;

    if (attempt >= ROOM_ATTEMPTS)
        return false;
    if (refused)
        return room_in_group(space, pages);
    return starved && room_in_machine(space->tables.frames, pages);
}

void
qr_space_add_stat_slowly(struct qr_space *space, enum qr_group_stat stat, size_t count)
{
    struct qr_group *group = qr_space_group_get(space);

    qr_group_add_stat(group, stat, count);
    qr_group_put(group);
}

void
qr_space_switch(struct qr_space *space)
{
    if (space == NULL)
        qr_tlb_enter_lazy();
    else
        qr_tlb_switch(&space->tlb);
}
