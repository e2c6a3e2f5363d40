/* SPDX-License-Identifier: MIT */
/*
 * Who can give memory back: a list of shrinkers, which reclaim asks in turn.
 *
 * The list is written at start-up, before anybody reclaims, and read without a lock.  A shrinker
 * does a bounded amount of work for what it is asked and may be called by several threads at once.
 */
#include "space/vm.h"

#include <quire/reclaim.h>

void
qr_reclaim_add(struct qr_vm *vm, struct qr_shrinker *shrinker)
{
    qr_list_push_back(&vm->shrinkers, &shrinker->link);
}

size_t
qr_reclaim(struct qr_vm *vm, const struct qr_reclaim_request *request)
{
    size_t freed = 0;

    qr_list_for_each(link, &vm->shrinkers)
    {
        const struct qr_shrinker *shrinker = qr_list_entry(link, struct qr_shrinker, link);
        struct qr_reclaim_request rest = *request;

        if (freed >= request->pages)
            break;
        rest.pages = request->pages - freed;
        freed += shrinker->shrink(shrinker->context, &rest);
    }
    return freed;
}
