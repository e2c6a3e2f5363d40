/* SPDX-License-Identifier: MIT */
/*
 * Where things go.
 *
 *   floor                                                                 user_end
 *   |  program  brk-> ...  <-mmap | random |    stack gap    | stack |
 *                              mmap_base                   stack_top
 *
 * Mappings are placed below mmap_base, the highest address first, so that they
 * grow towards the break; should that fill up, from the floor upwards.  What lies
 * above stack_top is for those who ask by a hint there: programs may count on pointers
 * of fewer bits than the hardware has.  The
 * distance from the stack's top to mmap_base keeps the stack's growth, its
 * randomisation and its guard gap free.
 *
 * A hint is taken where the range is free, guard gaps respected (invariants 17);
 * FIXED is taken anywhere in the user half: its caller knows.
 */
#include "region.h"

/* Low mappings go to [1 GiB, 2 GiB) first, as Linux's MAP_32BIT does. */
#define LOW_PREFERRED ((uintptr_t)1 << 30)
#define LOW_END       ((uintptr_t)1 << 31)

static bool
is_random(const struct qr_vm *vm)
{
#ifdef CONFIG_ASLR
    return vm->config.randomise;
#else
    (void)vm;
    return false;
#endif
}

static size_t
random_pages(const struct qr_vm *vm, unsigned bits)
{
    uint64_t value = 0;

    if (!is_random(vm) || bits == 0)
        return 0;
    qr_port_random(&value, sizeof(value));
    return (size_t)(value & (((uint64_t)1 << bits) - 1));
}

/* @at - @bytes, but not below @floor. */
static uintptr_t
lower_by(uintptr_t at, size_t bytes, uintptr_t floor)
{
    return at - floor > bytes ? at - bytes : floor;
}

void
qr_place_init(struct qr_space *space)
{
    const struct qr_layout *layout = &space->layout;
    const struct qr_vm *vm = space->vm;
    uintptr_t top = layout->stack_top.v;
    /* Randomisation may take at most half of the user half away, however small that is. */
    uintptr_t floor = layout->user_start.v + ((top - layout->user_start.v) >> 1);
    size_t pad = is_random(vm) && layout->stack_random_bits > 0
                     ? (size_t)1 << (layout->stack_random_bits + QR_PAGE_SHIFT)
                     : 0;
    uintptr_t stack =
        lower_by(top, random_pages(vm, layout->stack_random_bits) << QR_PAGE_SHIFT, floor);
    uintptr_t base = lower_by(top, layout->stack_gap_bytes, floor);

    base = lower_by(base, pad + qr_vm_guard_bytes(vm), floor);
    base = lower_by(base, random_pages(vm, layout->mmap_random_bits) << QR_PAGE_SHIFT, floor);
    space->stack_top = qr_va_of(qr_va_page_down(stack));
    space->mmap_base = qr_va_of(qr_va_page_down(base));
}

void
qr_space_set_brk(struct qr_space *space, qr_va start)
{
    const struct qr_vm *vm = space->vm;
    uintptr_t origin = qr_va_page_up(start.v);

    origin += random_pages(vm, space->layout.brk_random_bits) << QR_PAGE_SHIFT;
    qr_rw_write_lock(&space->lock);
    space->brk_start = qr_va_of(origin);
    space->brk_end = space->brk_start;
    qr_rw_write_unlock(&space->lock);
}

/* Is [start, start + bytes) free, guard gaps of stacks above it included? */
static bool
place_is_free(const struct qr_space *space, uintptr_t start, size_t bytes)
{
    const struct qr_region *above = qr_space_find(space, qr_va_of(start));

    return above == NULL || start + bytes <= qr_region_floor(above);
}

static bool
place_is_inside(const struct qr_space *space, uintptr_t start, size_t bytes)
{
    const struct qr_layout *layout = &space->layout;

    return start >= qr_space_floor(space).v && bytes <= layout->user_end.v &&
           start <= layout->user_end.v - bytes;
}

static enum qr_status
place_fixed(const struct qr_space *space, const struct qr_map_request *request, size_t bytes,
            qr_va *out_start)
{
    uintptr_t start = request->hint.v;
    const struct qr_region *above;

    if ((start & QR_PAGE_MASK) != 0 || !place_is_inside(space, start, bytes))
        return QR_ERR_RANGE;
    above = qr_space_find(space, request->hint);
    if ((request->flags & QR_MAP_FIXED_NOREPLACE) != 0 && above != NULL &&
        above->start.v < start + bytes)
        return QR_ERR_EXISTS;
    *out_start = request->hint;
    return QR_OK;
}

static bool
place_hint(const struct qr_space *space, const struct qr_map_request *request, size_t bytes,
           qr_va *out_start)
{
    uintptr_t start = qr_va_page_down(request->hint.v);
    size_t align = qr_max_size(request->align_bytes, QR_PAGE_SIZE);

    if (request->hint.v == 0)
        return false;
    if (start < qr_vm_floor(space->vm).v)
        start = qr_vm_floor(space->vm).v;
    if (start < space->layout.stack_top.v && bytes > space->layout.stack_top.v - start)
        return false;
    if ((start & (align - 1)) != 0 || !place_is_inside(space, start, bytes) ||
        !place_is_free(space, start, bytes))
        return false;
    if ((request->flags & QR_MAP_LOW) != 0 && start + bytes > LOW_END)
        return false;
    *out_start = qr_va_of(start);
    return true;
}

/* Any free place that suits; the windows are tried in this order. */
static bool
place_anywhere(const struct qr_space *space, const struct qr_map_request *request, size_t bytes,
               qr_va *out_start)
{
    const struct qr_layout *layout = &space->layout;
    bool above = layout->stack_top.v < layout->user_end.v && request->hint.v > layout->stack_top.v;
    uintptr_t lowest = qr_max_size(qr_vm_floor(space->vm).v, QR_PAGE_SIZE); /* never NULL */
    struct qr_gap_request gap = {
        .bytes = bytes,
        .align = qr_max_size(request->align_bytes, QR_PAGE_SIZE),
        .low = lowest,
        .high = above ? layout->user_end.v : layout->stack_top.v,
        .bottom_up = true,
    };
    uintptr_t high = gap.high;

    if ((request->flags & QR_MAP_LOW) != 0) {
        gap.high = qr_min_size(gap.high, LOW_END);
        gap.low = qr_max_size(gap.low, LOW_PREFERRED);
        if (qr_gap_find(&space->regions, &gap, out_start))
            return true;
        gap.low = lowest;
        return qr_gap_find(&space->regions, &gap, out_start);
    }
    if ((request->flags & QR_MAP_BOTTOM_UP) == 0) {
        gap.bottom_up = false;
        gap.high = above ? high : space->mmap_base.v;
        if (qr_gap_find(&space->regions, &gap, out_start))
            return true;
        gap.bottom_up = true;
        gap.high = high;
    }
    return qr_gap_find(&space->regions, &gap, out_start);
}

enum qr_status
qr_place_find(const struct qr_space *space, const struct qr_map_request *request, size_t bytes,
              qr_va *out_start)
{
    size_t guard = 0;
    qr_va start;

    if ((request->flags & (QR_MAP_FIXED | QR_MAP_FIXED_NOREPLACE)) != 0)
        return place_fixed(space, request, bytes, out_start);
    if (place_hint(space, request, bytes, out_start))
        return QR_OK;
    /* Room for a stack is room for its guard gap too. */
    if ((request->region_flags & QR_REGION_GROWS_DOWN) != 0)
        guard = qr_vm_guard_bytes(space->vm);
    if (bytes + guard < bytes || !place_anywhere(space, request, bytes + guard, &start))
        return QR_ERR_NO_MEMORY;
    *out_start = qr_va_of(start.v + guard);
    return QR_OK;
}
