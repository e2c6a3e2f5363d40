/* SPDX-License-Identifier: MIT */
/*
 * The shrinker of lazily freed memory: goes through the spaces that have any.
 *
 * Spaces of groups that are below their `min` are left alone, those below `low` too unless nothing
 * else is found.  It waits for no space's lock.
 */
#include "protection.h"

/* At least so many pages go at a time, so that looking for them is worth it. */
#define LAZY_BATCH 256u

static size_t
lazy_pass(struct qr_vm *vm, const struct qr_reclaim_request *request, enum qr_group_limit heeded)
{
    struct qr_space *space = NULL;
    size_t freed = 0;

    while ((space = qr_space_next(vm, space)) != NULL) {
        struct qr_reclaim_request rest = *request;

        if (freed >= request->pages) {
            qr_space_put(space);
            break;
        }
        rest.pages = request->pages - freed;
        if (atomic_load_explicit(&space->lazy, memory_order_relaxed) != 0 &&
            !space_is_protected(space, request, QR_GROUP_MIN) &&
            (heeded != QR_GROUP_LOW || !space_is_protected(space, request, QR_GROUP_LOW))) {
            size_t found = qr_space_discard(space, &rest);

            if (found > 0 && heeded != QR_GROUP_LOW)
                space_note_low(space, request);
            freed += found;
        }
    }
    return freed;
}

static size_t
lazy_shrink(void *context, const struct qr_reclaim_request *request)
{
    struct qr_vm *vm = context;
    struct qr_reclaim_request wanted = *request;
    size_t freed;

    if (!wanted.first_round && wanted.pages < LAZY_BATCH)
        wanted.pages = LAZY_BATCH;
    freed = lazy_pass(vm, &wanted, QR_GROUP_LOW);
    return freed != 0 ? freed : lazy_pass(vm, &wanted, QR_GROUP_MIN);
}

void
qr_lazy_attach(struct qr_vm *vm)
{
    vm->lazy_shrinker.name = "lazy";
    vm->lazy_shrinker.kind = QR_SHRINKER_ANON;
    vm->lazy_shrinker.shrink = lazy_shrink;
    vm->lazy_shrinker.context = vm;
    qr_reclaim_add(vm, &vm->lazy_shrinker);
}
