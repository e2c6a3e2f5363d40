/* SPDX-License-Identifier: MIT */
/*
 * Swap areas, and which of their slots are free.
 *
 * Slots lie in clusters of 256.  Each area fills one cluster from its start to its end before it goes on to an
 * empty one, so what is put out together lies together, and can be written and read in one request.  Where no cluster is
 * empty the next one with a free slot is taken.
 *
 *   cluster   0             1             2             3
 *           [ h x x x x x x|x x x x . . . |. . . . . . .|x . x . . . . ]      h: the header
 *                                  ^ next: goes on here, then in 2, then in 3
 *
 * A slot is given out by the area of the highest priority that has one; among equals by the one whose turn
 * lies longest ago, and a turn lasts a cluster.
 *
 * The structures of areas are never given back, only their slots: a number that somebody still has in his hand
 * finds either the slot or nothing.
 *
 * Locks: A of one area at a time, below tables' locks.  Nothing is allocated under it.
 */
#include "swap.h"

#include <limits.h>

size_t
qr_swap_size(void)
{
    return sizeof(struct qr_swap);
}

void
qr_swap_init(struct qr_swap *swap, const struct qr_swap_config *config)
{
    swap->config = *config;
    swap->counters = qr_frames_counters(config->frames);
    for (unsigned i = 0; i < QR_SWAP_AREAS; i++)
        qr_spin_init(&swap->areas[i].lock, QR_RANK_SWAP);
}

size_t
qr_swap_fini(struct qr_swap *swap)
{
    return atomic_load_explicit(&swap->area_count, memory_order_relaxed);
}

bool
qr_swap_is_active(const struct qr_swap *swap)
{
    return atomic_load_explicit(&swap->area_count, memory_order_relaxed) != 0;
}

/* ---- Coming and going --------------------------------------------------------- */

static void
clusters_free(struct qr_swap *swap, struct cluster *clusters, size_t count)
{
    for (size_t i = 0; i < count; i++)
        qr_kfree(swap->config.heap, clusters[i].slots);
    qr_kfree(swap->config.heap, clusters);
}

static struct cluster *
clusters_alloc(struct qr_swap *swap, size_t count)
{
    struct qr_heap *heap = swap->config.heap;
    struct cluster *clusters = qr_kcalloc(heap, count, sizeof(*clusters), QR_ALLOC_NO_REPORT);

    for (size_t i = 0; clusters != NULL && i < count; i++) {
        clusters[i].slots = qr_kcalloc(heap, CLUSTER, sizeof(struct slot), QR_ALLOC_NO_REPORT);
        if (clusters[i].slots == NULL) {
            clusters_free(swap, clusters, i);
            return NULL;
        }
    }
    return clusters;
}

/* As many pages as slots can name, with a bit to spare beside them for who keeps one in a word (objects do). */
static size_t
pages_limit(const struct qr_swap *swap, size_t pages)
{
    unsigned bits = swap->config.slot_bits;
    unsigned host = (unsigned)(sizeof(uintptr_t) * CHAR_BIT);
    size_t most;

    if (bits == 0 || bits > host - 1)
        bits = host - 1;
    most = (SIZE_MAX >> (host - bits)) >> QR_SWAP_AREAS_LOG;
    return pages < most ? pages : most;
}

/* Never to be given out.  A, or nobody knows the area yet. */
static void
page_exclude(struct area *area, size_t page)
{
    struct slot *slot = slot_at(area, page);

    if ((slot->state & SLOT_BAD) != 0)
        return;
    slot->state = SLOT_BAD;
    area->clusters[page >> CLUSTER_LOG].used++;
    area->usable--;
}

static void
pages_exclude(struct area *area, const struct qr_swap_area_config *config)
{
    size_t end = area->cluster_count << CLUSTER_LOG;

    area->usable = end;
    page_exclude(area, 0);
    for (size_t page = area->pages; page < end; page++)
        page_exclude(area, page);
    for (size_t i = 0; i < config->bad_count; i++) {
        if (config->bad[i] < area->pages)
            page_exclude(area, config->bad[i]);
    }
}

static struct area *
area_take_place(struct qr_swap *swap)
{
    for (unsigned i = 0; i < QR_SWAP_AREAS; i++) {
        if (!swap->areas[i].in_use)
            return &swap->areas[i];
    }
    return NULL;
}

enum qr_status
qr_swap_add(struct qr_swap *swap, const struct qr_swap_area_config *config, unsigned *out_area)
{
    struct area *area = area_take_place(swap);
    size_t pages = pages_limit(swap, config->pages);
    size_t count = pages / CLUSTER + (pages % CLUSTER != 0);

    if (area == NULL)
        return QR_ERR_LIMIT;
    if (pages < 2)
        return QR_ERR_INVALID;
    struct cluster *clusters = clusters_alloc(swap, count);

    if (clusters == NULL)
        return QR_ERR_NO_MEMORY;
    qr_spin_lock(&area->lock);
    area->pages = pages;
    area->clusters = clusters;
    area->cluster_count = count;
    area->used = area->cached = 0;
    area->next = area->hand = 0;
    area->ops = config->ops;
    area->context = config->context;
    pages_exclude(area, config);
    bool usable = area->usable != 0;

    if (usable) {
        atomic_store_explicit(&area->priority, config->priority, memory_order_relaxed);
        atomic_store_explicit(&area->free, area->usable, memory_order_relaxed);
        area->in_use = true;
        atomic_store_explicit(&area->open, true, memory_order_relaxed);
        atomic_fetch_add_explicit(&swap->area_count, 1, memory_order_relaxed);
    }
    qr_spin_unlock(&area->lock);
    if (!usable) {
        clusters_free(swap, clusters, count);
        return QR_ERR_INVALID;
    }
    *out_area = (unsigned)(area - swap->areas);
    return QR_OK;
}

void
qr_swap_set_closed(struct qr_swap *swap, unsigned number, bool closed)
{
    struct area *area = &swap->areas[number];

    qr_spin_lock(&area->lock);
    atomic_store_explicit(&area->open, area->in_use && !closed, memory_order_relaxed);
    qr_spin_unlock(&area->lock);
}

enum qr_status
qr_swap_remove(struct qr_swap *swap, unsigned number)
{
    struct area *area = &swap->areas[number];

    qr_spin_lock(&area->lock);
    qr_assert(area->in_use && !atomic_load_explicit(&area->open, memory_order_relaxed));
    if (area->used != 0) {
        qr_spin_unlock(&area->lock);
        return QR_ERR_BUSY;
    }
    struct cluster *clusters = area->clusters;
    size_t count = area->cluster_count;

    area->in_use = false;
    area->clusters = NULL;
    atomic_store_explicit(&area->free, 0, memory_order_relaxed);
    atomic_fetch_sub_explicit(&swap->area_count, 1, memory_order_relaxed);
    qr_spin_unlock(&area->lock);
    clusters_free(swap, clusters, count);
    return QR_OK;
}

/* ---- Slots ---------------------------------------------------------------------- */

/* A cluster without used slots, or else one with a free one, from @area->next's on.  A. */
static size_t
cluster_find(const struct area *area, size_t from)
{
    size_t some = SIZE_MAX;

    for (size_t i = 0; i < area->cluster_count; i++) {
        size_t at = (from + i) % area->cluster_count;

        if (area->clusters[at].used == 0)
            return at;
        if (some == SIZE_MAX && area->clusters[at].used < CLUSTER)
            some = at;
    }
    return some;
}

static bool
slot_is_free(const struct slot *slot)
{
    return slot->users == 0 && slot->frame == NULL && (slot->state & SLOT_BAD) == 0;
}

/* A free page in the rest of the cluster of @page.  SIZE_MAX: none.  A. */
static size_t
cluster_search(const struct area *area, size_t page)
{
    do {
        if (slot_is_free(slot_at(area, page)))
            return page;
        page++;
    } while (page % CLUSTER != 0);
    return SIZE_MAX;
}

/* SIZE_MAX: none is free.  A. */
static size_t
area_find(struct qr_swap *swap, struct area *area)
{
    size_t page = SIZE_MAX;

    if (atomic_load_explicit(&area->free, memory_order_relaxed) == 0)
        return SIZE_MAX;
    if (area->next % CLUSTER != 0)
        page = cluster_search(area, area->next);
    if (page == SIZE_MAX) {
        size_t at = cluster_find(area, area->next >> CLUSTER_LOG);

        atomic_store_explicit(&area->turn_at,
                              atomic_fetch_add_explicit(&swap->turns, 1, memory_order_relaxed) + 1,
                              memory_order_relaxed);
        page = at == SIZE_MAX ? SIZE_MAX : cluster_search(area, at << CLUSTER_LOG);
    }
    if (page != SIZE_MAX)
        area->next = page + 1 < area->cluster_count << CLUSTER_LOG ? page + 1 : 0;
    return page;
}

/* The best open area that has a free slot and is not in @tried. */
static struct area *
area_pick(struct qr_swap *swap, uint32_t tried)
{
    uint32_t now = atomic_load_explicit(&swap->turns, memory_order_relaxed);
    struct area *best = NULL;
    uint32_t best_age = 0;
    int best_priority = 0;

    for (unsigned i = 0; i < QR_SWAP_AREAS; i++) {
        struct area *area = &swap->areas[i];
        int priority = atomic_load_explicit(&area->priority, memory_order_relaxed);
        uint32_t age = now - atomic_load_explicit(&area->turn_at, memory_order_relaxed);

        if ((tried >> i & 1) != 0 || !atomic_load_explicit(&area->open, memory_order_relaxed) ||
            atomic_load_explicit(&area->free, memory_order_relaxed) == 0)
            continue;
        if (best == NULL || priority > best_priority ||
            (priority == best_priority && age > best_age)) {
            best = area;
            best_priority = priority;
            best_age = age;
        }
    }
    return best;
}

static void
slot_use(struct area *area, size_t page, unsigned group)
{
    *slot_at(area, page) = (struct slot){.users = 1, .group = (uint16_t)group};
    area->clusters[page >> CLUSTER_LOG].used++;
    area->used++;
    atomic_fetch_sub_explicit(&area->free, 1, memory_order_relaxed);
}

enum qr_status
qr_slot_alloc(struct qr_swap *swap, const struct qr_frame *frame, struct area **out_area,
              size_t *out_page)
{
    unsigned group = qr_frame_group(frame);
    struct area *area;
    uint32_t tried = 0;

    QR_STATIC_ASSERT(QR_SWAP_AREAS <= 32, "they are bits of a word");
    if (group != 0 && !qr_group_charge_swap(swap->config.groups, group))
        return QR_ERR_LIMIT;
    while ((area = area_pick(swap, tried)) != NULL) {
        qr_spin_lock(&area->lock);
        if (atomic_load_explicit(&area->open, memory_order_relaxed)) {
            size_t page = area_find(swap, area);

            if (page != SIZE_MAX) {
                slot_use(area, page, group);
                *out_area = area;
                *out_page = page;
                return QR_OK;
            }
        }
        qr_spin_unlock(&area->lock);
        tried |= (uint32_t)1 << (area - swap->areas);
    }
    if (group != 0)
        qr_group_uncharge_swap(swap->config.groups, group);
    return QR_ERR_NO_MEMORY;
}

void
qr_slot_free(struct qr_swap *swap, struct area *area, size_t page)
{
    struct slot *slot = slot_at(area, page);
    bool bad = (slot->state & SLOT_BAD) != 0;

    qr_assert(slot->users == 0 && slot->frame == NULL &&
              (slot->state & (SLOT_READING | SLOT_WRITING)) == 0);
    if (slot->group != 0)
        qr_group_uncharge_swap(swap->config.groups, slot->group);
    *slot = (struct slot){.state = bad ? SLOT_BAD : 0};
    area->used--;
    if (bad) {
        area->usable--; /* its cluster counts it as used for ever */
        return;
    }
    area->clusters[page >> CLUSTER_LOG].used--;
    atomic_fetch_add_explicit(&area->free, 1, memory_order_relaxed);
}

/* ---- Figures ---------------------------------------------------------------------- */

void
qr_swap_area_stats(struct qr_swap *swap, unsigned number, struct qr_swap_area_stats *out_stats)
{
    struct area *area = &swap->areas[number];

    qr_spin_lock(&area->lock);
    *out_stats = (struct qr_swap_area_stats){.in_use = area->in_use};
    if (area->in_use) {
        out_stats->closed = !atomic_load_explicit(&area->open, memory_order_relaxed);
        out_stats->priority = atomic_load_explicit(&area->priority, memory_order_relaxed);
        out_stats->pages = area->usable;
        out_stats->used = area->used;
        out_stats->cached = area->cached;
    }
    qr_spin_unlock(&area->lock);
}

void
qr_swap_stats(struct qr_swap *swap, struct qr_swap_stats *out_stats)
{
    *out_stats = (struct qr_swap_stats){.pages = 0};
    for (unsigned i = 0; i < QR_SWAP_AREAS && qr_swap_is_active(swap); i++) {
        struct qr_swap_area_stats stats;

        qr_swap_area_stats(swap, i, &stats);
        out_stats->pages += stats.closed ? stats.used : stats.pages;
        out_stats->used += stats.used;
        out_stats->cached += stats.cached;
    }
}
