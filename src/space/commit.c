/* SPDX-License-Identifier: MIT */
/*
 * Promised memory: may a mapping be made whose pages would have to come from
 * memory or swap?
 *
 * What is promised is counted where regions are (count.c), in one machine-wide
 * gauge; here is only the decision.  It looks before the count goes up, so
 * two calls at the same time may both pass a limit that has room for one.  As in
 * Linux the limit is a policy, not a safeguard: running out is an ordinary outcome.
 *
 * With QR_OVERCOMMIT_NEVER a process leaves 1/32 of its own size, or the user reserve if that is
 * less, for whoever has to end it; and who is not an administrator leaves the reserve of those.
 */
#include "region.h"

void
qr_vm_set_commit_policy(struct qr_vm *vm, const struct qr_commit_policy *policy)
{
    atomic_store_explicit(&vm->overcommit, policy->overcommit, memory_order_relaxed);
    atomic_store_explicit(&vm->commit_ratio, policy->ratio, memory_order_relaxed);
    atomic_store_explicit(&vm->commit_limit_bytes, policy->limit_bytes, memory_order_relaxed);
    atomic_store_explicit(&vm->user_reserve, policy->user_reserve_bytes, memory_order_relaxed);
    atomic_store_explicit(&vm->admin_reserve, policy->admin_reserve_bytes, memory_order_relaxed);
}

struct qr_commit_policy
qr_vm_commit_policy(const struct qr_vm *vm)
{
    return (struct qr_commit_policy){
        .overcommit = qr_vm_overcommit(vm),
        .ratio = atomic_load_explicit(&vm->commit_ratio, memory_order_relaxed),
        .limit_bytes = atomic_load_explicit(&vm->commit_limit_bytes, memory_order_relaxed),
        .user_reserve_bytes = atomic_load_explicit(&vm->user_reserve, memory_order_relaxed),
        .admin_reserve_bytes = atomic_load_explicit(&vm->admin_reserve, memory_order_relaxed),
    };
}

static size_t
memory_pages(const struct qr_vm *vm)
{
    const struct qr_frames *frames = vm->config.frames;
    size_t pages = 0;

    for (unsigned i = 0; i < qr_frames_zone_count(frames); i++)
        pages += qr_frames_zone_managed(frames, i);
    return pages;
}

static size_t
swap_pages(const struct qr_vm *vm)
{
    struct qr_swap_stats stats;

    if (vm->config.swap == NULL || !qr_swap_is_active(vm->config.swap))
        return 0;
    qr_swap_stats(vm->config.swap, &stats);
    return stats.pages;
}

size_t
qr_vm_commit_limit(const struct qr_vm *vm)
{
    struct qr_commit_policy policy = qr_vm_commit_policy(vm);

    if (policy.limit_bytes != 0)
        return (policy.limit_bytes >> QR_PAGE_SHIFT) + swap_pages(vm);
    /* In two steps: the product of a large ratio and a large memory need not fit. */
    size_t pages = memory_pages(vm), huge = (size_t)qr_counter_read(vm->counters, QR_PAGES_HUGETLB);

    pages -= qr_min_size(pages, huge);
    return pages / 100 * policy.ratio + pages % 100 * policy.ratio / 100 + swap_pages(vm);
}

static bool
fits_limit(const struct qr_vm *vm, size_t reserve, size_t pages)
{
    size_t limit = qr_vm_commit_limit(vm);
    size_t promised = (size_t)qr_counter_read(vm->counters, QR_PAGES_COMMITTED);

    limit -= qr_min_size(limit, reserve);
    return promised <= limit && pages <= limit - promised;
}

static bool
commit_allows(const struct qr_vm *vm, size_t reserve, size_t pages)
{
    switch (qr_vm_overcommit(vm)) {
    case QR_OVERCOMMIT_ALWAYS:
        return true;
    case QR_OVERCOMMIT_NEVER:
        return fits_limit(vm, reserve, pages);
    default:
        return pages <= memory_pages(vm) || pages - memory_pages(vm) <= swap_pages(vm);
    }
}

/* What stays for others, where the limit is hard. */
static size_t
commit_reserve(const struct qr_space *space)
{
    struct qr_commit_policy policy = qr_vm_commit_policy(space->vm);
    size_t reserve =
        qr_min_size(space->counts.virtual_pages / 32, policy.user_reserve_bytes >> QR_PAGE_SHIFT);

    if (!qr_space_limits(space)->administrator)
        reserve += policy.admin_reserve_bytes >> QR_PAGE_SHIFT;
    return reserve;
}

bool
qr_commit_allows(const struct qr_space *space, size_t pages)
{
    bool hard = qr_vm_overcommit(space->vm) == QR_OVERCOMMIT_NEVER;

    return commit_allows(space->vm, hard ? commit_reserve(space) : 0, pages);
}

bool
qr_vm_may_promise(const struct qr_vm *vm, size_t pages)
{
    return commit_allows(vm, 0, pages);
}

/* As pages of files come: only a hard limit is worth a look each time. */
bool
qr_commit_allows_page(void *vm, size_t pages)
{
    return qr_vm_overcommit(vm) != QR_OVERCOMMIT_NEVER || fits_limit(vm, 0, pages);
}

void
qr_vm_set_max_regions(struct qr_vm *vm, size_t max_regions)
{
    atomic_store_explicit(&vm->max_regions, max_regions, memory_order_relaxed);
}

size_t
qr_vm_max_regions(const struct qr_vm *vm)
{
    return atomic_load_explicit(&vm->max_regions, memory_order_relaxed);
}
