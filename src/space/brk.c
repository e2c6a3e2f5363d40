/* SPDX-License-Identifier: MIT */
/*
 * The program break, exactly as Linux's brk: it answers with the break as it is
 * afterwards, moved or not; the caller compares.  The break itself is a byte
 * address; the region behind it ends at the page above.
 */
#include "region.h"

/* Can the heap reach up to @end?  A page and the guard gaps above must stay free. */
static bool
brk_has_room(const struct qr_space *space, const struct qr_region *above, struct qr_va_range grown)
{
    if (grown.end.v > space->layout.user_end.v || grown.start.v < space->layout.user_start.v)
        return false;
    return above == NULL || grown.end.v + QR_PAGE_SIZE <= qr_region_floor(above);
}

static bool
brk_grow(struct qr_change *change, struct qr_va_range grown)
{
    struct qr_space *space = change->space;
    struct qr_region like = {
        .space = space,
        .start = grown.start,
        .end = grown.end,
        .prot = QR_PROT_READ | QR_PROT_WRITE,
        .max_prot = QR_PROT_RWX,
        .flags = QR_REGION_ACCOUNTED | space->default_lock_flags,
    };
    size_t pages = qr_va_range_pages(grown);
    struct qr_neighbours neighbours = qr_space_neighbours(space, grown.start);

    if (!brk_has_room(space, neighbours.high, grown) ||
        !qr_count_may_grow(space, like.prot, like.flags, pages) ||
        !qr_count_may_commit(space, like.flags, pages) ||
        (space->default_lock_flags != 0 && !qr_count_may_lock(space, pages)) ||
        space->counts.region_count > qr_vm_max_regions(space->vm) ||
        qr_change_reserve(change, qr_map_needs(neighbours, &like)) != QR_OK)
        return false;
    (void)qr_map_commit(change, neighbours, &like);
    return true;
}

/* As in Linux, a heap of which the program itself has unmapped this end stays as long as it was. */
static bool
brk_shrink(struct qr_change *change, struct qr_va_range dropped)
{
    const struct qr_region *region = qr_space_find(change->space, dropped.start);

    if (region == NULL || region->start.v >= dropped.end.v)
        return false;
    if (qr_unmap_prepare(change, dropped) != QR_OK)
        return false;
    qr_unmap_commit(change, dropped);
    return true;
}

/* S.  @return whether the break may stand at @new_end; *out_grown is what was added */
static bool
brk_move(struct qr_change *change, qr_va new_end, struct qr_va_range *out_grown)
{
    struct qr_space *space = change->space;
    uintptr_t old_page = qr_va_page_up(space->brk_end.v);
    uintptr_t new_page = qr_va_page_up(new_end.v);

    if (new_end.v < space->brk_start.v || new_page < new_end.v ||
        new_end.v - space->brk_start.v > qr_space_limits(space)->data)
        return false;
    if (new_page < old_page)
        return brk_shrink(change, qr_range_of(new_page, old_page));
    if (new_page == old_page)
        return true;
    *out_grown = qr_range_of(old_page, new_page);
    return brk_grow(change, *out_grown);
}

qr_va
qr_space_brk(struct qr_space *space, qr_va new_end)
{
    struct qr_va_range grown = {qr_va_of(0), qr_va_of(0)};
    struct qr_change change;

    qr_change_begin(&change, space);
    qr_rw_write_lock(&space->lock);
    bool moved = brk_move(&change, new_end, &grown);
    bool populate = qr_region_wants_pages(space->default_lock_flags);

    if (moved)
        space->brk_end = new_end;
    qr_va now = space->brk_end;
    qr_rw_write_unlock(&space->lock);
    qr_change_end(&change);
    if (moved && populate && grown.end.v != 0)
        (void)!qr_space_populate_mapped(space, grown, QR_POPULATE_STOP);
    return now;
}
