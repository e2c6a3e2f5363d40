/* SPDX-License-Identifier: MIT */
/*
 * What happens at the limits of a group.
 *
 *   max    who needs a page first reclaims in the group, then has one of its members killed and
 *          waits for its memory; nobody outside is touched.  With nobody to kill a system call fails with
 *          ENOMEM, and a program's access is repeated until there is room, or a signal
 *   high   who has charged pages sleeps on the way to user mode, the longer the further the group is
 *          above; the formula is Linux's.  memory.swap.high adds to the sleep: nothing is reclaimed for
 *          it, so that somebody outside has the time to do something about such a group
 *
 * A library group's host is its struct cgroup while it is one's; who was given a group by a hook
 * looks for that under `hosts`, since the cgroup may go while the group is still charged.
 */
#include "cgroup.h"

#include <quire/reclaim.h>
#include <quire/space.h>

#include "abi_errno.h"
#include "arch.h"
#include "memory.h"
#include "oom.h"
#include "proc.h"
#include "psi.h"

enum {
    ENFORCE_ROUNDS = 16,     /* tries to reclaim before somebody is killed */
    RECLAIM_BATCH = 32,      /* pages at least that one charge reclaims */
    FULL_WAIT_MS = 10,       /* before an access is repeated that has nobody to kill for it */
    THROTTLE_MAX_MS = 2000,  /* one sleep */
    THROTTLE_MIN_MS = 10,    /* less is not worth it */
    THROTTLE_PRECISION = 20, /* Linux's MEMCG_DELAY_PRECISION_SHIFT, */
    THROTTLE_SCALING = 14,   /* MEMCG_DELAY_SCALING_SHIFT, */
    THROTTLE_BATCH = 64,     /* MEMCG_CHARGE_BATCH */
};

static struct qr_spin hosts = QR_SPIN_INIT(QR_RANK_NONE);

void
group_set_host(struct qr_group *group, struct cgroup *cgroup)
{
    qr_spin_lock(&hosts);
    qr_group_set_host(group, cgroup);
    qr_spin_unlock(&hosts);
}

/* With a reference; NULL: it is nobody's any more. */
static struct cgroup *
group_host_get(const struct qr_group *group)
{
    struct cgroup *cgroup;

    qr_spin_lock(&hosts);
    cgroup = qr_group_host(group);
    if (cgroup != NULL)
        cgroup_ref(cgroup);
    qr_spin_unlock(&hosts);
    return cgroup;
}

/* ---- Reclaim ----------------------------------------------------------------------- */

size_t
group_reclaim(struct qr_group *group, size_t pages)
{
    const struct qr_reclaim_request request = {.pages = pages, .group = group};
    struct psi_stall stall;
    size_t freed;

    psi_stall_begin(&stall);
    freed = qr_reclaim(memory.vm, &request);
    psi_stall_end(&stall);
    return freed;
}

/* The hook of a charge that failed. */
static bool
make_room(void *context, struct qr_group *full, size_t pages)
{
    struct cgroup *cgroup;
    bool again;

    (void)context;
    if (signal_is_fatal_pending())
        return false; /* it goes, and its memory with it */
    if (group_reclaim(full, pages > RECLAIM_BATCH ? pages : RECLAIM_BATCH) >= pages)
        return true;
    cgroup = group_host_get(full);
    if (cgroup == NULL)
        return true; /* its limit went with it */
    qr_group_count(full, QR_GROUP_EVENT_OOM);
    again = oom_make_room_in(cgroup, qr_group_limit(full, QR_GROUP_MAX));
    thread_current()->group_was_full = !again;
    cgroup_put(cgroup);
    return again;
}

void
group_wait_for_room(void)
{
    wait_begin(WAIT_INTERRUPTIBLE);
    (void)wait_sleep(clock_monotonic_ns() + (uint64_t)FULL_WAIT_MS * 1000000);
    wait_end();
}

/* ---- memory.high, memory.swap.high ------------------------------------------------------------- */

/* From any context: the sleep comes before user mode. */
static void
over_high(void *context, struct qr_group *group, size_t pages)
{
    struct thread *thread = thread_current();

    (void)context;
    (void)group;
    if (thread->process == NULL)
        return;
    thread->over_high_pages += (uint32_t)pages;
    atomic_fetch_or(&thread->arch.work, WORK_THROTTLE);
}

/* How far above, as a fraction of the limit, in 1 / 2^THROTTLE_PRECISION. */
static uint64_t
overage(size_t usage, size_t high)
{
    uint64_t limit = high > 0 ? high : 1;

    return usage <= high ? 0 : ((uint64_t)(usage - high) << THROTTLE_PRECISION) / limit;
}

static uint64_t
worst_overage(const struct qr_group *group)
{
    uint64_t worst = 0;

    for (; group != NULL; group = qr_group_parent(group)) {
        uint64_t one = overage(qr_group_usage(group), qr_group_limit(group, QR_GROUP_HIGH));

        if (one > worst)
            worst = one;
    }
    return worst;
}

/* The same of swap; every group that is above is told. */
static uint64_t
worst_swap_overage(struct qr_group *group)
{
    uint64_t worst = 0;

    for (; group != NULL; group = qr_group_parent(group)) {
        uint64_t one = overage(qr_group_swap(group), qr_group_swap_high(group));

        if (one != 0)
            qr_group_count(group, QR_GROUP_EVENT_SWAP_HIGH);
        if (one > worst)
            worst = one;
    }
    return worst;
}

static uint64_t
throttle_ms(uint64_t over, unsigned pages)
{
    uint64_t ms;

    if (over >= 1u << (THROTTLE_PRECISION + 1))
        return THROTTLE_MAX_MS;
    ms = (over * over >> THROTTLE_PRECISION) * 1000 >> THROTTLE_SCALING;
    ms = ms * pages / THROTTLE_BATCH;
    return ms > THROTTLE_MAX_MS ? THROTTLE_MAX_MS : ms;
}

void
cgroup_throttle(void)
{
    struct thread *thread = thread_current();
    unsigned pages = thread->over_high_pages;
    struct qr_group *group = qr_space_group_get(thread->space), *high;
    size_t over;

    thread->over_high_pages = 0;
    if (group == NULL)
        return;
    high = qr_group_over_high(group, &over);
    if (high != NULL) {
        qr_group_count(high, QR_GROUP_EVENT_HIGH);
        (void)group_reclaim(high, pages);
    }
    uint64_t ms =
        throttle_ms(worst_overage(group), pages) + throttle_ms(worst_swap_overage(group), pages);

    qr_group_put(group);
    if (ms > THROTTLE_MAX_MS)
        ms = THROTTLE_MAX_MS;
    if (ms > THROTTLE_MIN_MS) {
        struct psi_stall stall;

        psi_stall_begin(&stall);
        wait_begin(WAIT_KILLABLE);
        (void)wait_sleep(clock_monotonic_ns() + ms * 1000000);
        wait_end();
        psi_stall_end(&stall);
    }
}

/* ---- A limit was lowered --------------------------------------------------------------------- */

static bool
is_above(struct qr_group *group, enum qr_group_limit which)
{
    return qr_group_usage(group) > qr_group_limit(group, which);
}

static int64_t
enforce(struct cgroup *cgroup, struct qr_group *group, enum qr_group_limit which)
{
    for (unsigned round = 0; is_above(group, which); round++) {
        size_t over = qr_group_usage(group) - qr_group_limit(group, which);

        if (signal_is_pending())
            return -EINTR;
        if (group_reclaim(group, over) > 0 && round < ENFORCE_ROUNDS)
            continue;
        if (which == QR_GROUP_HIGH)
            break;
        qr_group_count(group, QR_GROUP_EVENT_OOM);
        if (!oom_make_room_in(cgroup, qr_group_limit(group, which)))
            break;
    }
    return 0;
}

int64_t
cgroup_enforce(struct cgroup *cgroup, enum qr_group_limit which)
{
    struct qr_group *group = group_of_cgroup(cgroup);
    int64_t error = group == NULL ? -ENODEV : enforce(cgroup, group, which);

    qr_group_put(group);
    return error;
}

/* ---- Hooks --------------------------------------------------------------------------------------- */

static void
event(void *context, struct qr_group *group, enum qr_group_event which)
{
    struct cgroup *cgroup;

    (void)context;
    (void)which;
    qr_spin_lock(&hosts);
    cgroup = qr_group_host(group);
    if (cgroup != NULL)
        cgroup_changed(cgroup, CGROUP_MEMORY_EVENTS_LOCAL);
    for (; group != NULL; group = qr_group_parent(group)) {
        cgroup = qr_group_host(group);
        if (cgroup != NULL)
            cgroup_changed(cgroup, CGROUP_MEMORY_EVENTS);
    }
    qr_spin_unlock(&hosts);
}

void
group_init(void)
{
    static const struct qr_group_ops ops = {
        .make_room = make_room, .over_high = over_high, .event = event};

    qr_groups_set_ops(memory.groups, &ops, NULL);
}

void
cgroup_count_fault(struct qr_space *space, bool major)
{
    struct qr_group *group = qr_space_group_get(space);

    qr_group_add_stat(group, QR_GROUP_STAT_FAULT, 1);
    if (major)
        qr_group_add_stat(group, QR_GROUP_STAT_MAJOR_FAULT, 1);
    qr_group_put(group);
}
