/* SPDX-License-Identifier: MIT */
/*
 * Who can give memory back: a list of shrinkers, which reclaim asks in turn.
 *
 * Twice: first for a share each, which says how anonymous memory and pages of files weigh against each
 * other (swappiness); then, where that was too little, for all that is missing.  Swappiness 0 so takes
 * anonymous memory only after files have nothing left, and 200 the other way round.
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

void
qr_vm_set_swappiness(struct qr_vm *vm, unsigned swappiness)
{
    atomic_store_explicit(&vm->swappiness,
                          swappiness < QR_SWAPPINESS_MAX ? swappiness : QR_SWAPPINESS_MAX,
                          memory_order_relaxed);
}

unsigned
qr_vm_swappiness(const struct qr_vm *vm)
{
    return atomic_load_explicit(&vm->swappiness, memory_order_relaxed);
}

/* Of @pages, what @shrinker is asked for before the others were asked for theirs. */
static size_t
share_of(const struct qr_shrinker *shrinker, size_t pages, unsigned swappiness)
{
    size_t anon = pages / QR_SWAPPINESS_MAX * swappiness +
                  pages % QR_SWAPPINESS_MAX * swappiness / QR_SWAPPINESS_MAX;

    switch (shrinker->kind) {
    case QR_SHRINKER_ANON:
        return anon;
    case QR_SHRINKER_FILE:
        return pages - anon;
    case QR_SHRINKER_OTHER:
        break;
    }
    return pages;
}

static size_t
ask(struct qr_vm *vm, const struct qr_shrinker *shrinker, const struct qr_reclaim_request *request)
{
    size_t freed = shrinker->shrink(shrinker->context, request);

    if (shrinker->kind != QR_SHRINKER_OTHER)
        qr_counter_add(vm->counters,
                       request->background ? QR_EVENT_RECLAIM_BEHIND : QR_EVENT_RECLAIM_DIRECT,
                       (long)freed);
    if (shrinker->kind == QR_SHRINKER_ANON)
        qr_counter_add(vm->counters, QR_EVENT_RECLAIM_ANON, (long)freed);
    else if (shrinker->kind == QR_SHRINKER_FILE)
        qr_counter_add(vm->counters, QR_EVENT_RECLAIM_FILE, (long)freed);
    return freed;
}

size_t
qr_reclaim(struct qr_vm *vm, const struct qr_reclaim_request *request)
{
    unsigned swappiness = qr_vm_swappiness(vm);
    size_t freed = 0;

    for (int round = 0; round < 2; round++) {
        qr_list_for_each(link, &vm->shrinkers)
        {
            const struct qr_shrinker *shrinker = qr_list_entry(link, struct qr_shrinker, link);
            struct qr_reclaim_request rest = *request;

            if (freed >= request->pages)
                return freed;
            rest.first_round = round == 0;
            rest.pages = request->pages - freed;
            if (rest.first_round)
                rest.pages =
                    qr_min_size(rest.pages, share_of(shrinker, request->pages, swappiness));
            if (rest.pages != 0)
                freed += ask(vm, shrinker, &rest);
        }
    }
    return freed;
}
