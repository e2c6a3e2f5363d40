/* SPDX-License-Identifier: MIT */
/*
 * The shrinker that swaps out, and the end of a swap area.
 *
 * A clock whose hand goes through all spaces, and through each from where it stopped (src/space/swap.c).  Its first
 * look at a page that is in use takes the accessed flag, its second takes the page.  Shared memory is a clock for each
 * object (src/object/shrink.c), and gives what its part of all the memory of programs is.  Before it moves, the swap
 * cache is asked for pages that nobody maps: what was read ahead in vain, and what others took out last.  A request
 * goes round twice at most.
 *
 * Spaces of groups that are below their `min` are left alone, those below `low` in the first round.  For a group
 * only spaces of its members are looked at.
 */
#include "protection.h"

/* At least so many pages go at a time, so that looking for them is worth it. */
#define SWAP_PAGES QR_SWAP_BATCH

struct pass {
    struct qr_vm *vm;
    const struct qr_reclaim_request *request;
    enum qr_group_limit heeded;
    size_t freed;
    bool full; /* there are no slots left */
};

static bool
pass_is_done(const struct pass *pass)
{
    return pass->full || pass->freed >= pass->request->pages;
}

static bool
pass_wants(const struct pass *pass, struct qr_space *space)
{
    const struct qr_reclaim_request *request = pass->request;
    struct qr_group *group = qr_space_group_get(space);
    bool within = request->group == NULL || qr_group_is_within(group, request->group);

    qr_group_put(group);
    return within &&
           atomic_load_explicit(&space->resident[QR_RESIDENT_ANON], memory_order_relaxed) > 0 &&
           !space_is_protected(space, request, QR_GROUP_MIN) &&
           (pass->heeded != QR_GROUP_LOW || !space_is_protected(space, request, QR_GROUP_LOW));
}

static void
pass_space(struct pass *pass, struct qr_space *space)
{
    struct qr_reclaim_request rest = *pass->request;
    struct qr_swap_scan scan = {.request = &rest};
    size_t before = pass->freed;

    do {
        rest.pages = pass->request->pages - pass->freed;
        qr_space_swap_scan(space, &scan);
        pass->freed += qr_swap_write(pass->vm->config.swap, scan.slots, scan.count);
        pass->full = scan.full;
    } while (!scan.ended && !pass_is_done(pass));
    if (pass->freed > before && pass->heeded != QR_GROUP_LOW)
        space_note_low(space, pass->request);
    /* The hand stays on a space that it has not seen all of. */
    atomic_store_explicit(&pass->vm->swap_space, space->tlb.id - !scan.ended, memory_order_relaxed);
}

/* Spaces whose ids are above @low and not above @high. */
static void
pass_spaces(struct pass *pass, uint64_t low, uint64_t high)
{
    struct qr_space *space = NULL;

    while ((space = qr_space_next(pass->vm, space)) != NULL) {
        if (pass_is_done(pass)) {
            qr_space_put(space);
            break;
        }
        if (space->tlb.id > low && space->tlb.id <= high && pass_wants(pass, space))
            pass_space(pass, space);
    }
}

/* Of @pages, what shared memory is asked for before spaces are. */
static size_t
share_of_objects(const struct pass *pass, size_t pages)
{
    struct qr_group_pages use = {.anon = 0};
    struct qr_counters *counters = pass->vm->counters;

    if (pass->request->group != NULL) {
        qr_group_pages(pass->request->group, &use);
    } else {
        use.anon = (size_t)qr_counter_read(counters, QR_PAGES_ANON);
        use.shmem = (size_t)qr_counter_read(counters, QR_PAGES_SHMEM);
    }
    if (pages > SIZE_MAX >> 16) /* all that there is */
        return pages;
    return use.shmem == 0 ? 0 : (size_t)((uint64_t)pages * use.shmem / (use.anon + use.shmem)) + 1;
}

static void
pass_objects(struct pass *pass, size_t pages)
{
    if (pages != 0 && !pass_is_done(pass))
        pass->freed += qr_objects_swap_out(pass->vm->config.objects, pages, pass->request->group,
                                           pass->heeded, &pass->full);
}

static size_t
swap_shrink(void *context, const struct qr_reclaim_request *request)
{
    struct qr_vm *vm = context;
    struct qr_reclaim_request wanted = *request;
    struct pass pass = {.vm = vm, .request = &wanted};

    if (!qr_swap_is_active(vm->config.swap))
        return 0;
    if (!wanted.first_round && wanted.pages < SWAP_PAGES)
        wanted.pages = SWAP_PAGES;
    pass.freed = qr_swap_trim(vm->config.swap, wanted.pages, wanted.group);
    for (int round = 0; round < 2 && !pass_is_done(&pass); round++) {
        uint64_t hand = atomic_load_explicit(&vm->swap_space, memory_order_relaxed);

        pass.heeded = round == 0 ? QR_GROUP_LOW : QR_GROUP_MIN;
        pass_objects(&pass, share_of_objects(&pass, wanted.pages - pass.freed));
        if (!pass_is_done(&pass))
            pass_spaces(&pass, hand, UINT64_MAX);
        if (!pass_is_done(&pass))
            pass_spaces(&pass, 0, hand);
        if (!pass_is_done(&pass))
            pass_objects(&pass, wanted.pages - pass.freed);
    }
    return pass.freed;
}

void
qr_swap_attach(struct qr_vm *vm)
{
    qr_assert(vm->config.swap != NULL);
    vm->swap_shrinker.name = "swap";
    vm->swap_shrinker.kind = QR_SHRINKER_ANON;
    vm->swap_shrinker.shrink = swap_shrink;
    vm->swap_shrinker.context = vm;
    qr_reclaim_add(vm, &vm->swap_shrinker);
}

/* ---- The end of an area ---------------------------------------------------------- */

static enum qr_status
bring_back(struct qr_vm *vm, unsigned area, bool (*stop)(void))
{
    enum qr_status status = qr_objects_swap_in(vm->config.objects, area, stop);
    struct qr_space *space = NULL;

    while (status == QR_OK && (space = qr_space_next(vm, space)) != NULL) {
        status = qr_space_swap_in(space, area);
        if (status == QR_OK && stop != NULL && stop())
            status = QR_ERR_INTERRUPTED;
    }
    if (space != NULL)
        qr_space_put(space);
    return status;
}

enum qr_status
qr_swap_off(struct qr_vm *vm, unsigned area, bool (*stop)(void))
{
    struct qr_swap *swap = vm->config.swap;
    enum qr_status status;

    qr_swap_set_closed(swap, area, true);
    do { /* again for what forks copied behind us, and for spaces that are ending */
        status = bring_back(vm, area, stop);
        if (status != QR_OK) {
            qr_swap_set_closed(swap, area, false);
            return status;
        }
        qr_swap_settle(swap, area);
        status = qr_swap_remove(swap, area);
    } while (status == QR_ERR_BUSY);
    return status;
}
