/* SPDX-License-Identifier: MIT */
/*
 * A part of a pool for several objects (a mounted hugetlbfs).
 *
 * It bounds how many pages its objects have, promised ones included, and may have a minimum that
 * is promised to it as long as it lives:
 *
 *   pool      [ ............ reserved ............ | free for all ]
 *   budget      [ used by objects | promised ]
 *                <------- minimum ----------->   used + promised >= minimum
 *                <------------- limit ------------------->   used <= limit
 *
 * An object takes a place before it fills it and gives it back once the place is empty; of what is
 * taken, the part below the minimum is promised already.  A place that is given back with its
 * promise restores the minimum for sure.  Where there is only a page, somebody else may be
 * faster; then the next place that is given back makes up for it.
 *
 * Lock: B, a spin lock, for the numbers; the pool's own come before or after it.
 */
#include "hugetlb.h"

#include <quire/assert.h>

struct qr_hugetlb_budget {
    struct qr_heap *heap;         /* fixed */
    struct qr_hugetlb_pool *pool; /* fixed */
    size_t limit, minimum;        /* fixed */
    _Atomic uint32_t refs;
    struct qr_spin lock;   /* B */
    size_t used, promised; /* B */
};

enum qr_status
qr_hugetlb_budget_create(struct qr_heap *heap, struct qr_hugetlb_pool *pool, size_t limit,
                         size_t minimum, struct qr_hugetlb_budget **out_budget)
{
    struct qr_hugetlb_budget *budget = qr_kmalloc(heap, sizeof(*budget), QR_ALLOC_ZERO);

    qr_assert(minimum <= limit);
    if (budget == NULL)
        return QR_ERR_NO_MEMORY;
    if (minimum > 0 && qr_hugetlb_reserve(pool, minimum) != QR_OK) {
        qr_kfree(heap, budget);
        return QR_ERR_NO_MEMORY;
    }
    budget->heap = heap;
    budget->pool = pool;
    budget->limit = limit;
    budget->minimum = minimum;
    budget->promised = minimum;
    atomic_init(&budget->refs, 1);
    qr_spin_init(&budget->lock, QR_RANK_REGISTRY);
    *out_budget = budget;
    return QR_OK;
}

void
qr_hugetlb_budget_get(struct qr_hugetlb_budget *budget)
{
    atomic_fetch_add_explicit(&budget->refs, 1, memory_order_relaxed);
}

void
qr_hugetlb_budget_put(struct qr_hugetlb_budget *budget)
{
    if (budget == NULL || atomic_fetch_sub_explicit(&budget->refs, 1, memory_order_acq_rel) != 1)
        return;
    qr_assert(budget->used == 0);
    qr_hugetlb_unreserve(budget->pool, budget->promised);
    qr_kfree(budget->heap, budget);
}

size_t
qr_hugetlb_budget_used(struct qr_hugetlb_budget *budget)
{
    qr_spin_lock(&budget->lock);
    size_t used = budget->used;
    qr_spin_unlock(&budget->lock);
    return used;
}

bool
qr_hugetlb_budget_take(struct qr_hugetlb_budget *budget, size_t places, size_t *out_promised)
{
    *out_promised = 0;
    if (budget == NULL)
        return true;
    qr_spin_lock(&budget->lock);
    bool fits = places <= budget->limit - budget->used;

    if (fits) {
        *out_promised = budget->promised < places ? budget->promised : places;
        budget->promised -= *out_promised;
        budget->used += places;
    }
    qr_spin_unlock(&budget->lock);
    return fits;
}

/* B held.  What is missing to the minimum. */
static size_t
budget_missing(const struct qr_hugetlb_budget *budget)
{
    size_t have = budget->used + budget->promised;

    return have < budget->minimum ? budget->minimum - have : 0;
}

/* Keep as many of @promises as are missing.  @return the others */
static size_t
budget_keep(struct qr_hugetlb_budget *budget, size_t promises)
{
    qr_spin_lock(&budget->lock);
    size_t missing = budget_missing(budget);
    size_t kept = missing < promises ? missing : promises;

    budget->promised += kept;
    qr_spin_unlock(&budget->lock);
    return promises - kept;
}

void
qr_hugetlb_budget_give(struct qr_hugetlb_budget *budget, struct qr_hugetlb_pool *pool,
                       size_t places, size_t promises)
{
    if (budget == NULL) {
        qr_hugetlb_unreserve(pool, promises);
        return;
    }
    qr_spin_lock(&budget->lock);
    qr_assert(budget->used >= places);
    budget->used -= places;
    qr_spin_unlock(&budget->lock);
    qr_hugetlb_unreserve(pool, budget_keep(budget, promises));

    qr_spin_lock(&budget->lock);
    size_t missing = budget_missing(budget);
    qr_spin_unlock(&budget->lock);
    if (missing > 0 && qr_hugetlb_reserve(pool, missing) == QR_OK)
        qr_hugetlb_unreserve(pool, budget_keep(budget, missing));
}
