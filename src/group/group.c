/* SPDX-License-Identifier: MIT */
/*
 * Groups: a tree of counters with limits.
 *
 *        top     usage >= sum of the groups below
 *       /   \
 *      a     b   usage = own pages + pages below + credit on some CPU
 *     / \
 *    c   d
 *
 * Who is charged: a frame carries the number of its group in its flags word from the moment it is
 * charged until it is free, whoever maps it meanwhile, wherever its contents go.  frame_settle(), through
 * which every free passes, takes the charge back; so forks, moves between spaces, truncation,
 * failed faults and the ends of processes need no bookkeeping at all, and a group that has lost its
 * last member still answers for what it left behind (pages of shared files).
 *
 * Credit: a charge of one page would touch a counter in every ancestor.  Instead each CPU has one word
 * that says "so many pages of group N are charged and not used"; a charge takes from it and an
 * uncharge puts there.  The word changes by compare-and-swap, so any CPU may empty any other's:
 * a charge that meets a limit takes all credit back and tries once more, hence a limit is never
 * refused for pages that nobody uses, and never passed.  What is shown as usage has the credit
 * subtracted.
 *
 * The kernel's own memory for members is charged in two ways: a whole frame as any other frame, marked
 * ACCOUNTED; smaller pieces by the byte, into one count a group whose pages, rounded up, are charged.  Who
 * changes that count takes the pages that it grows by before, and gives those that it shrinks by after, so the
 * pages never fall short.  The piece says itself whom it is charged to (struct qr_charge).
 *
 * Life: structures come from a cache and are given back at the end of the machine alone; a number keeps
 * its structure.  One without references and without usage is taken for the next group.  A parent's
 * usage contains its children's, so a chain of parents that an uncharge walks stays what it is until
 * that is done: children are left before parents, and the parent is read before the child is left.
 *
 * Invariants: 1 a group's usage is at least the sum of its children's; 2 at rest, what it has
 * beyond them is what frames carry its number plus credit plus the pages of its bytes; 3 a group in use has a parent in use.
 *
 * Locks: G for which groups are in use.  Counters have none.
 */
#include "group.h"

#include <quire/port.h>
#include <quire/writer.h>

/* ---- Instance -------------------------------------------------------------------- */

size_t
qr_groups_size(unsigned cpu_count)
{
    return sizeof(struct qr_groups) + cpu_count * sizeof(((struct qr_groups *)NULL)->cpu[0]);
}

static struct qr_group *
group_of(struct qr_groups *groups, uint32_t number)
{
    return atomic_load_explicit(&groups->by_number[number], memory_order_acquire);
}

static void group_give(struct qr_group *group, size_t pages);

/* A frame that was charged is free: the frame layer's hook. */
static void
group_frame_freed(void *context, unsigned number, uint32_t flags, size_t pages)
{
    struct qr_group *group = group_of(context, number);

    if ((flags & 0xff) == QR_FRAME_OBJECT)
        atomic_fetch_sub_explicit((flags & QR_FRAME_SHMEM) != 0 ? &group->shmem : &group->file,
                                  (long)pages, memory_order_relaxed);
    else if ((flags & 0xff) == QR_FRAME_KERNEL && (flags & QR_FRAME_ACCOUNTED) != 0)
        atomic_fetch_sub_explicit(&group->kernel, (long)pages, memory_order_relaxed);
    group_give(group, pages);
}

enum qr_status
qr_groups_init(struct qr_groups *groups, struct qr_frames *frames, struct qr_heap *heap,
               unsigned cpu_count)
{
    const struct qr_cache_config config = {
        .name = "group",
        .object_bytes = sizeof(struct qr_group),
    };
    enum qr_status status = qr_cache_create(heap, &config, &groups->cache);

    if (status != QR_OK)
        return status;
    groups->frames = frames;
    groups->cpu_count = cpu_count;
    qr_spin_init(&groups->lock, QR_RANK_REGISTRY);
    qr_frames_set_uncharge(frames, group_frame_freed, groups);
    return QR_OK;
}

static bool
group_is_idle(const struct qr_group *group)
{
    return atomic_load_explicit(&group->users, memory_order_acquire) == 0 &&
           atomic_load_explicit(&group->usage, memory_order_acquire) == 0 &&
           atomic_load_explicit(&group->swap, memory_order_acquire) == 0;
}

size_t
qr_groups_fini(struct qr_groups *groups)
{
    size_t leaked = 0;

    qr_groups_drain(groups);
    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        struct qr_group *group = group_of(groups, number);

        leaked += group != NULL && !group_is_idle(group);
    }
    if (leaked != 0)
        return leaked;
    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        if (group_of(groups, number) != NULL)
            qr_cache_free(groups->cache, group_of(groups, number));
    }
    qr_frames_set_uncharge(groups->frames, NULL, NULL);
    (void)qr_cache_destroy(groups->cache);
    return 0;
}

void
qr_groups_set_ops(struct qr_groups *groups, const struct qr_group_ops *ops, void *context)
{
    groups->ops = *ops;
    groups->ops_context = context;
}

/* ---- Life --------------------------------------------------------------------------- */

static void
group_start(struct qr_group *group, struct qr_group *parent, void *host)
{
    group->parent = parent;
    group->host = host;
    atomic_store_explicit(&group->peak, 0, memory_order_relaxed);
    atomic_store_explicit(&group->swap_peak, 0, memory_order_relaxed);
    atomic_store_explicit(&group->swap_max, QR_GROUP_UNLIMITED, memory_order_relaxed);
    atomic_store_explicit(&group->swap_high, QR_GROUP_UNLIMITED, memory_order_relaxed);
    atomic_store_explicit(&group->file, 0, memory_order_relaxed);
    atomic_store_explicit(&group->shmem, 0, memory_order_relaxed);
    atomic_store_explicit(&group->kernel, 0, memory_order_relaxed);
    for (int which = 0; which < QR_GROUP_LIMITS; which++)
        atomic_store_explicit(&group->limit[which], which >= QR_GROUP_HIGH ? QR_GROUP_UNLIMITED : 0,
                              memory_order_relaxed);
    for (int event = 0; event < QR_GROUP_EVENTS; event++) {
        atomic_store_explicit(&group->local[event], 0, memory_order_relaxed);
        atomic_store_explicit(&group->below[event], 0, memory_order_relaxed);
    }
    for (int stat = 0; stat < QR_GROUP_STATS; stat++)
        atomic_store_explicit(&group->stat[stat], 0, memory_order_relaxed);
    atomic_store_explicit(&group->clock, 0, memory_order_relaxed);
    if (parent != NULL)
        qr_group_get(parent);
    atomic_store_explicit(&group->users, 1, memory_order_release);
}

/* An idle structure, or (@fresh, which is used up) a place for a new one.  G. */
static struct qr_group *
group_take_place(struct qr_groups *groups, struct qr_group **io_fresh)
{
    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        struct qr_group *group = group_of(groups, number);

        if (group != NULL && group_is_idle(group))
            return group;
        if (group != NULL)
            continue;
        group = *io_fresh;
        *io_fresh = NULL;
        if (group != NULL) {
            *group = (struct qr_group){.machine = groups, .number = number};
            atomic_store_explicit(&groups->by_number[number], group, memory_order_release);
        }
        return group;
    }
    return NULL;
}

enum qr_status
qr_group_create(struct qr_groups *groups, struct qr_group *parent, void *host,
                struct qr_group **out_group)
{
    struct qr_group *fresh = qr_cache_alloc(groups->cache, 0);

    if (fresh == NULL)
        return QR_ERR_NO_MEMORY;
    qr_groups_drain(groups); /* what is idle but for credit is idle */
    qr_spin_lock(&groups->lock);
    struct qr_group *group = group_take_place(groups, &fresh);

    if (group != NULL)
        group_start(group, parent, host);
    qr_spin_unlock(&groups->lock);
    if (fresh != NULL)
        qr_cache_free(groups->cache, fresh);
    if (group == NULL)
        return QR_ERR_LIMIT;
    *out_group = group;
    return QR_OK;
}

void
qr_group_get(struct qr_group *group)
{
    uint32_t before = atomic_fetch_add_explicit(&group->users, 1, memory_order_relaxed);

    qr_assert(before != 0);
}

bool
qr_group_try_get(struct qr_group *group)
{
    uint32_t users = atomic_load_explicit(&group->users, memory_order_relaxed);

    while (users != 0 &&
           !atomic_compare_exchange_weak_explicit(&group->users, &users, users + 1,
                                                  memory_order_acquire, memory_order_relaxed)) {
    }
    return users != 0;
}

/* The structure stays one of groups, and a group that is still named after the reference was taken is the
 * right one. */
struct qr_group *
qr_group_get_current(struct qr_group *_Atomic *place)
{
    struct qr_group *group;

    while ((group = atomic_load_explicit(place, memory_order_acquire)) != NULL) {
        if (!qr_group_try_get(group))
            continue;
        if (group == atomic_load_explicit(place, memory_order_acquire))
            break;
        qr_group_put(group);
    }
    return group;
}

void
qr_group_put(struct qr_group *group)
{
    while (group != NULL) {
        struct qr_group *parent = group->parent;
        uint32_t before = atomic_fetch_sub_explicit(&group->users, 1, memory_order_acq_rel);

        qr_assert(before != 0);
        if (before != 1)
            return;
        group = parent; /* whom the last reference held */
    }
}

struct qr_group *
qr_group_parent(const struct qr_group *group)
{
    return group->parent;
}

void *
qr_group_host(const struct qr_group *group)
{
    return group->host;
}

void
qr_group_set_host(struct qr_group *group, void *host)
{
    group->host = host;
}

bool
qr_group_is_within(const struct qr_group *group, const struct qr_group *ancestor)
{
    while (group != NULL && group != ancestor)
        group = group->parent;
    return group != NULL;
}

/* ---- Counting ------------------------------------------------------------------------ */

/* Add @pages to a count with a limit, and note the most that it ever was. */
static QR_ALWAYS_INLINE bool
limited_add(_Atomic size_t *count, _Atomic size_t *most, const _Atomic size_t *max, size_t pages)
{
    size_t limit = atomic_load_explicit(max, memory_order_relaxed);
    size_t usage = atomic_load_explicit(count, memory_order_relaxed);

    do {
        if (usage > limit || pages > limit - usage)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(count, &usage, usage + pages,
                                                    memory_order_relaxed, memory_order_relaxed));
    size_t peak = atomic_load_explicit(most, memory_order_relaxed);

    while (usage + pages > peak &&
           !atomic_compare_exchange_weak_explicit(most, &peak, usage + pages, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
    return true;
}

static bool
counter_add(struct qr_group *group, size_t pages)
{
    return limited_add(&group->usage, &group->peak, &group->limit[QR_GROUP_MAX], pages);
}

/* Take @pages back from @group and its ancestors below @end. */
static void
counters_sub(struct qr_group *group, const struct qr_group *end, size_t pages)
{
    while (group != end) {
        struct qr_group *parent = group->parent; /* before the group can be another one */
        size_t before = atomic_fetch_sub_explicit(&group->usage, pages, memory_order_release);

        qr_assert(before >= pages);
        group = parent;
    }
}

/* @return NULL where all took @pages; else who would not, and nobody did */
static struct qr_group *
counters_add(struct qr_group *group, size_t pages)
{
    for (struct qr_group *at = group; at != NULL; at = at->parent) {
        if (!counter_add(at, pages)) {
            counters_sub(group, at, pages);
            return at;
        }
    }
    return NULL;
}

/* ---- Credit ---------------------------------------------------------------------------- */

static _Atomic uint32_t *
credit_here(struct qr_groups *groups)
{
    return &groups->cpu[qr_port_this_cpu()->index].credit;
}

static void
credit_return(struct qr_groups *groups, uint32_t credit)
{
    if ((credit & CREDIT_PAGES) != 0)
        counters_sub(group_of(groups, credit >> CREDIT_BITS), NULL, credit & CREDIT_PAGES);
}

void
qr_groups_drain(struct qr_groups *groups)
{
    for (unsigned cpu = 0; cpu < groups->cpu_count; cpu++) {
        if (atomic_load_explicit(&groups->cpu[cpu].credit, memory_order_relaxed) != 0)
            credit_return(groups, atomic_exchange_explicit(&groups->cpu[cpu].credit, 0,
                                                           memory_order_acq_rel));
    }
}

/* Pages, charged already, that nobody uses any more, or not yet. */
static void
group_give(struct qr_group *group, size_t pages)
{
    _Atomic uint32_t *here = credit_here(group->machine);
    uint32_t credit = atomic_load_explicit(here, memory_order_relaxed);
    uint32_t next;
    size_t held;

    do {
        bool same = credit >> CREDIT_BITS == group->number;

        held = pages + (same ? credit & CREDIT_PAGES : 0);
        if (held > QR_GROUP_CREDIT) {
            if (!same || (credit & CREDIT_PAGES) <= CHARGE_BATCH) {
                counters_sub(group, NULL, pages);
                return;
            }
            next = group->number << CREDIT_BITS | CHARGE_BATCH;
        } else {
            next = group->number << CREDIT_BITS | (uint32_t)held;
        }
    } while (!atomic_compare_exchange_weak_explicit(here, &credit, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
    if (credit >> CREDIT_BITS != group->number)
        credit_return(group->machine, credit);
    else if (held > QR_GROUP_CREDIT)
        counters_sub(group, NULL, held - CHARGE_BATCH);
}

/* From this CPU's credit alone. */
static inline bool
credit_take(struct qr_group *group, size_t pages)
{
    _Atomic uint32_t *here = credit_here(group->machine);
    uint32_t credit = atomic_load_explicit(here, memory_order_relaxed);

    while (credit >> CREDIT_BITS == group->number && (credit & CREDIT_PAGES) >= pages) {
        if (atomic_compare_exchange_weak_explicit(here, &credit, credit - (uint32_t)pages,
                                                  memory_order_acq_rel, memory_order_relaxed))
            return true;
    }
    return false;
}

/* ---- Charging ----------------------------------------------------------------------------- */

struct qr_group *
qr_group_over_high(const struct qr_group *group, size_t *out_pages)
{
    struct qr_group *worst = NULL;

    *out_pages = 0;
    for (; group != NULL; group = group->parent) {
        size_t high = atomic_load_explicit(&group->limit[QR_GROUP_HIGH], memory_order_relaxed);
        size_t usage = atomic_load_explicit(&group->usage, memory_order_relaxed);

        if (usage > high && usage - high > *out_pages) {
            *out_pages = usage - high;
            worst = (struct qr_group *)group;
        }
    }
    return worst;
}

static bool
is_over_swap_high(const struct qr_group *group)
{
    while (group != NULL && qr_group_swap(group) <= qr_group_swap_high(group))
        group = group->parent;
    return group != NULL;
}

static QR_NOINLINE enum qr_status
charge_slow(struct qr_group *group, size_t pages)
{
    struct qr_groups *groups = group->machine;
    size_t batch = pages > CHARGE_BATCH ? pages : CHARGE_BATCH;
    size_t over;

    if (counters_add(group, batch) != NULL) {
        qr_groups_drain(groups);
        batch = pages;
        if (counters_add(group, pages) != NULL)
            return QR_ERR_LIMIT;
    }
    if (batch > pages)
        group_give(group, batch - pages);
    if (groups->ops.over_high != NULL &&
        (qr_group_over_high(group, &over) != NULL || is_over_swap_high(group)))
        groups->ops.over_high(groups->ops_context, group, batch);
    return QR_OK;
}

enum qr_status
qr_group_charge(struct qr_group *group, size_t pages)
{
    return qr_likely(credit_take(group, pages)) ? QR_OK : charge_slow(group, pages);
}

void
qr_group_uncharge(struct qr_group *group, size_t pages)
{
    group_give(group, pages);
}

enum qr_status
qr_group_charge_frame(struct qr_group *group, struct qr_frame *frame)
{
    if (qr_unlikely(qr_frame_group(frame) != 0))
        return QR_OK; /* in an attempt before this one */
    enum qr_status status = qr_group_charge(group, 1);

    if (qr_likely(status == QR_OK))
        qr_frame_set_group(frame, group->number);
    return status;
}

enum qr_status
qr_group_charge_run(struct qr_group *group, struct qr_frames *frames, struct qr_frame *first,
                    size_t count)
{
    qr_pfn pfn = qr_frame_pfn(frames, first);
    enum qr_status status = qr_group_charge(group, count);

    for (size_t i = 0; status == QR_OK && i < count; i++)
        qr_frame_set_group(qr_frame_of(frames, qr_pfn_of(pfn.v + i)), group->number);
    return status;
}

enum qr_status
qr_group_charge_kernel(struct qr_group *group, struct qr_frame *frame, size_t pages)
{
    enum qr_status status = qr_group_charge(group, pages);

    qr_assert(qr_frame_group(frame) == 0);
    if (qr_unlikely(status != QR_OK))
        return status;
    qr_frame_set_group(frame, group->number);
    atomic_fetch_or_explicit(&frame->flags, QR_FRAME_ACCOUNTED, memory_order_relaxed);
    atomic_fetch_add_explicit(&group->kernel, (long)pages, memory_order_relaxed);
    return QR_OK;
}

static size_t
pages_of(size_t bytes)
{
    return (bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT;
}

enum qr_status
qr_charge_take(struct qr_group *group, enum qr_group_kind kind, size_t bytes,
               struct qr_charge *out_charge)
{
    size_t before = atomic_load_explicit(&group->bytes, memory_order_relaxed);
    size_t held = 0, needed;

    do {
        needed = pages_of(before + bytes) - pages_of(before);
        if (needed > held && qr_group_charge(group, needed - held) != QR_OK) {
            if (held > 0)
                group_give(group, held);
            return QR_ERR_LIMIT;
        }
        held = needed > held ? needed : held;
    } while (!atomic_compare_exchange_weak_explicit(&group->bytes, &before, before + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    if (held > needed)
        group_give(group, held - needed);
    atomic_fetch_add_explicit(&group->kind[kind], bytes, memory_order_relaxed);
    *out_charge = (struct qr_charge){
        .bytes = (uint32_t)bytes, .group = (uint16_t)group->number, .kind = (uint8_t)kind};
    return QR_OK;
}

/* While pages of it are charged, the structure stays this group's. */
void
qr_charge_drop_slowly(struct qr_groups *groups, struct qr_charge *charge)
{
    size_t bytes = charge->bytes;
    struct qr_group *group = group_of(groups, charge->group);

    atomic_fetch_sub_explicit(&group->kind[charge->kind], bytes, memory_order_relaxed);
    size_t before = atomic_fetch_sub_explicit(&group->bytes, bytes, memory_order_relaxed);
    size_t pages = pages_of(before) - pages_of(before - bytes);

    qr_assert(before >= bytes);
    if (pages > 0)
        group_give(group, pages);
    *charge = (struct qr_charge){0};
}

void
qr_group_note_object(struct qr_groups *groups, const struct qr_frame *frame, bool shared)
{
    struct qr_group *group = qr_group_of_frame(groups, frame);

    if (group != NULL)
        atomic_fetch_add_explicit(shared ? &group->shmem : &group->file, 1, memory_order_relaxed);
}

void
qr_group_forget_object(struct qr_groups *groups, const struct qr_frame *frame)
{
    struct qr_group *group = qr_group_of_frame(groups, frame);

    if (group != NULL)
        atomic_fetch_sub_explicit(&group->shmem, 1, memory_order_relaxed);
}

void
qr_group_move_frame(struct qr_frame *from, struct qr_frame *to)
{
    unsigned number = qr_frame_group(from);

    if (number == 0)
        return;
    qr_assert(qr_frame_group(to) == 0);
    atomic_fetch_or_explicit(&to->flags, number << QR_FRAME_GROUP_SHIFT, memory_order_relaxed);
    to->kept |= QR_FRAME_CHARGED;
    atomic_fetch_and_explicit(&from->flags, ((uint32_t)1 << QR_FRAME_GROUP_SHIFT) - 1,
                              memory_order_relaxed);
    from->kept &= (uint8_t)~QR_FRAME_CHARGED;
}

/* ---- Swap ------------------------------------------------------------------------------------ */

/* As counters_sub(). */
static void
swap_sub(struct qr_group *group, const struct qr_group *end)
{
    while (group != end) {
        struct qr_group *parent = group->parent;
        size_t before = atomic_fetch_sub_explicit(&group->swap, 1, memory_order_release);

        qr_assert(before != 0);
        group = parent;
    }
}

bool
qr_group_charge_swap(struct qr_groups *groups, unsigned number)
{
    struct qr_group *group = group_of(groups, number);

    for (struct qr_group *at = group; at != NULL; at = at->parent) {
        if (!limited_add(&at->swap, &at->swap_peak, &at->swap_max, 1)) {
            swap_sub(group, at);
            qr_group_count(at, QR_GROUP_EVENT_SWAP_MAX);
            qr_group_count(at, QR_GROUP_EVENT_SWAP_FAIL);
            return false;
        }
    }
    return true;
}

void
qr_group_uncharge_swap(struct qr_groups *groups, unsigned number)
{
    swap_sub(group_of(groups, number), NULL);
}

size_t
qr_group_swap(const struct qr_group *group)
{
    return atomic_load_explicit(&group->swap, memory_order_relaxed);
}

size_t
qr_group_swap_peak(const struct qr_group *group)
{
    return atomic_load_explicit(&group->swap_peak, memory_order_relaxed);
}

void
qr_group_set_swap_max(struct qr_group *group, size_t pages)
{
    atomic_store_explicit(&group->swap_max, pages, memory_order_relaxed);
}

size_t
qr_group_swap_max(const struct qr_group *group)
{
    return atomic_load_explicit(&group->swap_max, memory_order_relaxed);
}

void
qr_group_set_swap_high(struct qr_group *group, size_t pages)
{
    atomic_store_explicit(&group->swap_high, pages, memory_order_relaxed);
}

size_t
qr_group_swap_high(const struct qr_group *group)
{
    return atomic_load_explicit(&group->swap_high, memory_order_relaxed);
}

size_t
qr_group_swap_room(const struct qr_group *group)
{
    size_t room = QR_GROUP_UNLIMITED;

    for (; group != NULL; group = group->parent) {
        size_t max = qr_group_swap_max(group);
        size_t used = qr_group_swap(group);
        size_t here = used > max ? 0 : max - used;

        room = here < room ? here : room;
    }
    return room;
}

/* ---- At the limits --------------------------------------------------------------------------- */

struct qr_group *
qr_group_full(struct qr_group *group, size_t pages)
{
    qr_groups_drain(group->machine);
    for (; group != NULL; group = group->parent) {
        size_t limit = atomic_load_explicit(&group->limit[QR_GROUP_MAX], memory_order_relaxed);
        size_t usage = atomic_load_explicit(&group->usage, memory_order_relaxed);

        if (usage > limit || pages > limit - usage)
            break;
    }
    return group;
}

bool
qr_group_make_room(struct qr_group *group, size_t pages)
{
    struct qr_groups *groups = group->machine;
    struct qr_group *full = qr_group_full(group, pages);

    if (full == NULL)
        return true;
    qr_group_count(full, QR_GROUP_EVENT_MAX);
    return groups->ops.make_room != NULL && groups->ops.make_room(groups->ops_context, full, pages);
}

bool
qr_group_is_protected(const struct qr_group *group, enum qr_group_limit which,
                      const struct qr_group *root)
{
    const struct qr_group *at = group;

    /* A parent's protection bounds what its children have. */
    for (; at != NULL && at != root; at = at->parent) {
        size_t limit = qr_group_limit(at, which);

        if (limit == 0 || qr_group_usage(at) > limit)
            return false;
    }
    return group != NULL && group != root;
}

void
qr_group_set_limit(struct qr_group *group, enum qr_group_limit which, size_t pages)
{
    atomic_store_explicit(&group->limit[which], pages, memory_order_relaxed);
}

size_t
qr_group_limit(const struct qr_group *group, enum qr_group_limit which)
{
    return atomic_load_explicit(&group->limit[which], memory_order_relaxed);
}

/* ---- Figures ------------------------------------------------------------------------------------ */

size_t
qr_group_usage(const struct qr_group *group)
{
    struct qr_groups *groups = group->machine;
    size_t usage = atomic_load_explicit(&group->usage, memory_order_relaxed);
    size_t ahead = 0;

    for (unsigned cpu = 0; cpu < groups->cpu_count; cpu++) {
        uint32_t credit = atomic_load_explicit(&groups->cpu[cpu].credit, memory_order_relaxed);

        if ((credit & CREDIT_PAGES) != 0 &&
            qr_group_is_within(group_of(groups, credit >> CREDIT_BITS), group))
            ahead += credit & CREDIT_PAGES;
    }
    return usage > ahead ? usage - ahead : 0;
}

size_t
qr_group_peak(const struct qr_group *group)
{
    return atomic_load_explicit(&group->peak, memory_order_relaxed);
}

void
qr_group_reset_peak(struct qr_group *group)
{
    atomic_store_explicit(&group->peak, qr_group_usage(group), memory_order_relaxed);
}

void
qr_group_pages(const struct qr_group *group, struct qr_group_pages *out_pages)
{
    struct qr_groups *groups = group->machine;
    size_t usage = qr_group_usage(group);
    long file = 0, shmem = 0, kernel = 0;

    *out_pages = (struct qr_group_pages){0};

    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        const struct qr_group *other = group_of(groups, number);

        if (other == NULL)
            break;
        if (group_is_idle(other) || !qr_group_is_within(other, group))
            continue;
        file += atomic_load_explicit(&other->file, memory_order_relaxed);
        shmem += atomic_load_explicit(&other->shmem, memory_order_relaxed);
        kernel += atomic_load_explicit(&other->kernel, memory_order_relaxed);
        kernel += (long)pages_of(atomic_load_explicit(&other->bytes, memory_order_relaxed));
        for (int kind = 0; kind < QR_GROUP_KINDS; kind++)
            out_pages->bytes[kind] +=
                atomic_load_explicit(&other->kind[kind], memory_order_relaxed);
    }
    out_pages->file = file < 0 ? 0 : (size_t)file;
    out_pages->shmem = shmem < 0 ? 0 : (size_t)shmem;
    out_pages->kernel = kernel < 0 ? 0 : (size_t)kernel;
    size_t others = out_pages->file + out_pages->shmem + out_pages->kernel;

    out_pages->anon = usage > others ? usage - others : 0;
}

void
qr_group_count(struct qr_group *group, enum qr_group_event event)
{
    struct qr_groups *groups = group->machine;

    atomic_fetch_add_explicit(&group->local[event], 1, memory_order_relaxed);
    for (struct qr_group *at = group; at != NULL; at = at->parent)
        atomic_fetch_add_explicit(&at->below[event], 1, memory_order_relaxed);
    if (groups->ops.event != NULL)
        groups->ops.event(groups->ops_context, group, event);
}

unsigned long
qr_group_events(const struct qr_group *group, enum qr_group_event event, bool below)
{
    return atomic_load_explicit(below ? &group->below[event] : &group->local[event],
                                memory_order_relaxed);
}

void
qr_group_add_stat(struct qr_group *group, enum qr_group_stat stat, unsigned long count)
{
    for (; group != NULL; group = group->parent)
        atomic_fetch_add_explicit(&group->stat[stat], count, memory_order_relaxed);
}

unsigned long
qr_group_stat(const struct qr_group *group, enum qr_group_stat stat)
{
    return atomic_load_explicit(&group->stat[stat], memory_order_relaxed);
}

void
qr_group_use(const struct qr_group *group, int node, struct qr_node_use *out_use)
{
    struct qr_groups *groups = group->machine;
    uint32_t numbers[QR_GROUPS_MAX / 32 + 1] = {0};

    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        const struct qr_group *other = group_of(groups, number);

        if (other == NULL)
            break;
        if (!group_is_idle(other) && qr_group_is_within(other, group))
            numbers[number / 32] |= (uint32_t)1 << number % 32;
    }
    qr_frames_charged_use(groups->frames, numbers, node, out_use);
}

void
qr_group_tick(struct qr_group *group)
{
    for (; group != NULL; group = group->parent)
        atomic_fetch_add_explicit(&group->clock, 1, memory_order_relaxed);
}

size_t
qr_group_clock(const struct qr_group *group)
{
    return atomic_load_explicit(&group->clock, memory_order_relaxed);
}

unsigned
qr_group_number(const struct qr_group *group)
{
    return group->number;
}

struct qr_group *
qr_group_of_number(struct qr_groups *groups, unsigned number)
{
    return number == 0 ? NULL : group_of(groups, number);
}

struct qr_group *
qr_group_of_frame(struct qr_groups *groups, const struct qr_frame *frame)
{
    unsigned number = qr_frame_group(frame);

    return number == 0 ? NULL : group_of(groups, number);
}

/* ---- Validation ------------------------------------------------------------------------------------ */

/* What @group should count: its frames, the credit on it, and what its children count. */
static size_t
group_expected(struct qr_groups *groups, const struct qr_group *group)
{
    size_t pages = qr_frames_group_use(groups->frames, group->number) +
                   pages_of(atomic_load_explicit(&group->bytes, memory_order_relaxed));

    for (unsigned cpu = 0; cpu < groups->cpu_count; cpu++) {
        uint32_t credit = atomic_load_explicit(&groups->cpu[cpu].credit, memory_order_relaxed);

        if (credit >> CREDIT_BITS == group->number)
            pages += credit & CREDIT_PAGES;
    }
    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        const struct qr_group *child = group_of(groups, number);

        if (child != NULL && !group_is_idle(child) && child->parent == group)
            pages += atomic_load_explicit(&child->usage, memory_order_relaxed);
    }
    return pages;
}

bool
qr_groups_validate(struct qr_groups *groups, char *out_message, size_t bytes)
{
    for (uint32_t number = 1; number <= QR_GROUPS_MAX; number++) {
        const struct qr_group *group = group_of(groups, number);

        if (group == NULL || group_is_idle(group))
            continue;
        size_t usage = atomic_load_explicit(&group->usage, memory_order_relaxed);
        size_t expected = group_expected(groups, group);

        if (usage != expected) {
            (void)qr_format(out_message, bytes, "group %u is charged %zu pages and should be %zu",
                            (unsigned)number, usage, expected);
            return false;
        }
        if (group->parent != NULL && group_is_idle(group->parent)) {
            (void)qr_format(out_message, bytes, "group %u is below one that is not in use",
                            (unsigned)number);
            return false;
        }
    }
    return true;
}
