/* SPDX-License-Identifier: MIT */
/*
 * A pool of huge pages of one size.
 *
 * A page is a block of the frame allocator, split into its frames; the pool holds
 * a reference to each of them as long as it has the page, so what takes and drops
 * references to a part (a debugger's read, a pipe) needs to know nothing of huge
 * pages.  Uses of the page as a whole are counted apart, in the second frame:
 *
 *   frame 0    owner, index: the object and its page, or the space that last mapped it
 *              maps: table entries, for reports;  flags: BLOCK, and SHMEM while it is an object's
 *   frame 1    maps: uses (entries, the object's own, faults in flight)
 *              owner: next of the list that a page without uses is on
 *   frame n    type HUGE, one reference of the pool's
 *
 * The last use gives the page back.  Where somebody still holds a part, it waits
 * on the pinned list, where every later look at the pool finds it again.
 *
 *      total = in use + free + pinned          reserved <= free
 *
 * A promise (reservation) is a number: so many of the free pages are not for
 * others.  It turns into a page without failing, and a page that its owner lets go
 * of turns back into a promise in the same step.
 *
 * Surplus pages come when a promise or a fault wants more than the pool has and
 * the administrator allows it, and when the pool is made smaller than what is in
 * use.  They go back to the frame allocator as soon as nobody uses them.
 *
 * Locks: G sleeps and covers the slow work; P is a spin lock for the counts and
 * lists.  Frames are taken and given back outside P.
 */
#include "hugetlb.h"

#include <quire/assert.h>

/* ---- The page as a whole ---------------------------------------------------- */

/* Both lie in one section: their descriptors are neighbours. */
static struct qr_frame *
page_info(struct qr_frame *head)
{
    return head + 1;
}

struct qr_frame *
qr_hugetlb_part(const struct qr_hugetlb_pool *pool, const struct qr_frame *head, size_t offset)
{
    return qr_frame_of(pool->frames, qr_pfn_of(qr_frame_pfn(pool->frames, head).v + offset));
}

/* Does somebody hold a reference beside the pool's? */
static bool
page_is_pinned(const struct qr_hugetlb_pool *pool, const struct qr_frame *head)
{
    for (size_t i = 0; i < hugetlb_frames(pool); i++) {
        const struct qr_frame *frame = qr_hugetlb_part(pool, head, i);

        if (atomic_load_explicit(&frame->refs, memory_order_acquire) != 1)
            return true;
    }
    return false;
}

bool
qr_hugetlb_page_is_exclusive(const struct qr_hugetlb_pool *pool, const struct qr_frame *head)
{
    const struct qr_frame *info = head + 1;

    return atomic_load_explicit(&info->maps, memory_order_acquire) == 1 &&
           !page_is_pinned(pool, head);
}

void
qr_hugetlb_page_clear(const struct qr_hugetlb_pool *pool, struct qr_frame *head)
{
    for (size_t i = 0; i < hugetlb_frames(pool); i++)
        qr_frame_clear(pool->frames, qr_hugetlb_part(pool, head, i));
}

void
qr_hugetlb_page_copy(const struct qr_hugetlb_pool *pool, struct qr_frame *to, struct qr_frame *from)
{
    for (size_t i = 0; i < hugetlb_frames(pool); i++)
        qr_frame_copy(pool->frames, qr_hugetlb_part(pool, to, i), qr_hugetlb_part(pool, from, i));
}

bool
qr_hugetlb_page_fill(const struct qr_hugetlb_pool *pool, struct qr_frame *head,
                     const struct qr_page_source *source)
{
    if (source == NULL) {
        qr_hugetlb_page_clear(pool, head);
        return true;
    }
    for (size_t i = 0; i < hugetlb_frames(pool); i++)
        if (!source->copy(source, i << QR_PAGE_SHIFT, qr_hugetlb_part(pool, head, i)))
            return false;
    return true;
}

static unsigned
page_node(const struct qr_hugetlb_pool *pool, const struct qr_frame *head)
{
    return qr_frames_zone_node(pool->frames, head->zone);
}

/* ---- From and to the frame allocator ------------------------------------------ */

#define GIVE_BACK_FRAMES 64

static void
page_release(struct qr_hugetlb_pool *pool, struct qr_frame *head)
{
    size_t first = qr_frame_pfn(pool->frames, head).v;
    struct qr_frame *list[GIVE_BACK_FRAMES];
    size_t count = 0;

    atomic_fetch_and_explicit(&head->flags, ~(uint32_t)QR_FRAME_BLOCK, memory_order_relaxed);
    for (size_t i = 0; i < hugetlb_frames(pool); i++) {
        struct qr_frame *frame = qr_frame_of(pool->frames, qr_pfn_of(first + i));

        atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
        atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
        list[count++] = frame;
        if (count == GIVE_BACK_FRAMES) {
            qr_frame_free_many(pool->frames, count, list);
            count = 0;
        }
    }
    if (count > 0)
        qr_frame_free_many(pool->frames, count, list);
}

#define PAGE_ALLOC_FLAGS (QR_ALLOC_HIGH | QR_ALLOC_NO_REPORT)

/* A block on @node alone. */
static struct qr_frame *
block_on(struct qr_hugetlb_pool *pool, unsigned node)
{
    struct qr_frame *head = qr_frame_alloc_on(pool->frames, node, pool->order, PAGE_ALLOC_FLAGS);

    if (head == NULL || page_node(pool, head) == node)
        return head;
    qr_frame_free(pool->frames, head);
    return NULL;
}

/* The block @head becomes a page; NULL: there was none. */
static struct qr_frame *
page_obtain(struct qr_hugetlb_pool *pool, struct qr_frame *head)
{
    qr_counter_add(qr_frames_counters(pool->frames),
                   head != NULL ? QR_EVENT_HUGE_ALLOC : QR_EVENT_HUGE_ALLOC_FAIL, 1);
    if (head == NULL)
        return NULL;
    qr_frame_set_type(head, QR_FRAME_HUGE);
    qr_frame_split_block(pool->frames, head);
    atomic_fetch_or_explicit(&head->flags, QR_FRAME_BLOCK, memory_order_relaxed);
    for (unsigned i = 0; i < 2; i++) {
        atomic_store_explicit(&head[i].owner, NULL, memory_order_relaxed);
        atomic_store_explicit(&head[i].maps, 0, memory_order_relaxed);
    }
    return head;
}

/* ---- Lists and counts; P held --------------------------------------------------- */

static void
list_push(struct qr_frame **list, struct qr_frame *head)
{
    atomic_store_explicit(&page_info(head)->owner, *list, memory_order_relaxed);
    *list = head;
}

static struct qr_frame *
list_pop(struct qr_frame **list)
{
    struct qr_frame *head = *list;

    if (head != NULL)
        *list = atomic_load_explicit(&page_info(head)->owner, memory_order_relaxed);
    return head;
}

static void
pool_add_free(struct qr_hugetlb_pool *pool, struct qr_frame *head)
{
    struct huge_node *node = &pool->nodes[page_node(pool, head)];

    list_push(&node->list, head);
    node->free++;
    pool->free++;
}

/* The free page nearest to where @place wants it; NULL: none where it may be. */
static struct qr_frame *
pool_take_free(struct qr_hugetlb_pool *pool, struct hugetlb_place place)
{
    unsigned node = qr_port_this_cpu()->node;
    bool bound = place.policy != NULL && place.policy->mode == QR_POLICY_BIND;

    if (place.policy != NULL)
        node = qr_policy_node(pool->frames, place.policy, node, place.index);
    for (unsigned rank = 0; rank < CONFIG_MAX_NODES; rank++) {
        unsigned near = qr_frames_node_near(pool->frames, node, rank);
        struct huge_node *at = &pool->nodes[near];
        bool allowed = !bound || qr_node_set_has(&place.policy->nodes, near);
        struct qr_frame *head = allowed ? list_pop(&at->list) : NULL;

        if (head == NULL)
            continue;
        at->free--;
        pool->free--;
        return head;
    }
    return NULL;
}

static void
pool_count(struct qr_hugetlb_pool *pool, const struct qr_frame *head, long pages, long surplus)
{
    struct huge_node *node = &pool->nodes[page_node(pool, head)];

    node->total += (size_t)pages;
    pool->total += (size_t)pages;
    node->surplus += (size_t)surplus;
    pool->surplus += (size_t)surplus;
    qr_counter_add(qr_frames_counters(pool->frames), QR_PAGES_HUGETLB,
                   pages * (1l << (pool->shift - QR_PAGE_SHIFT)));
}

/* Pages that were pinned when they were given up and are not any more: they are free. */
static void
pool_look_at_pinned(struct qr_hugetlb_pool *pool)
{
    struct qr_frame *list = pool->pinned;
    struct qr_frame *head;

    pool->pinned = NULL;
    while ((head = list_pop(&list)) != NULL) {
        if (page_is_pinned(pool, head))
            list_push(&pool->pinned, head);
        else
            pool_add_free(pool, head);
    }
}

/* A surplus page that nobody uses or was promised, out of the pool; NULL: none. */
static struct qr_frame *
pool_take_surplus(struct qr_hugetlb_pool *pool)
{
    if (pool->surplus == 0 || pool->free <= pool->reserved)
        return NULL;
    for (unsigned i = 0; i < CONFIG_MAX_NODES; i++) {
        struct huge_node *node = &pool->nodes[i];
        struct qr_frame *head = node->surplus > 0 ? list_pop(&node->list) : NULL;

        if (head == NULL)
            continue;
        node->free--;
        pool->free--;
        pool_count(pool, head, -1, -1);
        return head;
    }
    return NULL;
}

/* Give back what the pool has too much. */
static void
pool_drop_surplus(struct qr_hugetlb_pool *pool)
{
    struct qr_frame *head;

    do {
        qr_spin_lock(&pool->lock);
        head = pool_take_surplus(pool);
        qr_spin_unlock(&pool->lock);
        if (head != NULL)
            page_release(pool, head);
    } while (head != NULL);
}

/* ---- Promises ------------------------------------------------------------------- */

/* P held.  Free pages that nobody was promised, once pins are looked at. */
static size_t
pool_available(struct qr_hugetlb_pool *pool, size_t wanted)
{
    if (pool->free - pool->reserved < wanted && pool->pinned != NULL)
        pool_look_at_pinned(pool);
    return pool->free - pool->reserved;
}

/* A surplus page that is on no list yet; NULL: not allowed, or no memory. */
static struct qr_frame *
pool_obtain_surplus(struct qr_hugetlb_pool *pool, struct hugetlb_place place)
{
    qr_spin_lock(&pool->lock);
    bool allowed = pool->surplus < pool->overcommit;
    qr_spin_unlock(&pool->lock);
    if (!allowed)
        return NULL;
    struct qr_frame *head =
        page_obtain(pool, qr_frame_alloc_policy(pool->frames, place.policy, place.index,
                                                pool->order, PAGE_ALLOC_FLAGS));

    if (head == NULL)
        return NULL;
    qr_spin_lock(&pool->lock);
    allowed = pool->surplus < pool->overcommit; /* somebody else may have been faster */
    if (allowed)
        pool_count(pool, head, 1, 1);
    qr_spin_unlock(&pool->lock);
    if (allowed)
        return head;
    page_release(pool, head);
    return NULL;
}

/* Surplus pages on their way into the pool. */
struct gathered {
    struct qr_frame *list;
    size_t count;
};

/* Promise @pages, if with the gathered ones they are there.  @return how many are missing */
static size_t
pool_try_reserve(struct qr_hugetlb_pool *pool, size_t pages, struct gathered *gathered)
{
    struct qr_frame *head;

    qr_spin_lock(&pool->lock);
    size_t have = pool_available(pool, pages) + gathered->count;
    size_t missing = have < pages ? pages - have : 0;

    if (missing == 0) {
        while ((head = list_pop(&gathered->list)) != NULL)
            pool_add_free(pool, head);
        pool->reserved += pages;
    } else if (pool->surplus > pool->overcommit || missing > pool->overcommit - pool->surplus) {
        missing = SIZE_MAX; /* what would not be enough is not gathered */
    }
    qr_spin_unlock(&pool->lock);
    return missing;
}

static void
gathered_drop(struct qr_hugetlb_pool *pool, struct gathered *gathered)
{
    struct qr_frame *head;

    while ((head = list_pop(&gathered->list)) != NULL) {
        qr_spin_lock(&pool->lock);
        pool_count(pool, head, -1, -1);
        qr_spin_unlock(&pool->lock);
        page_release(pool, head);
    }
}

enum qr_status
qr_hugetlb_reserve(struct qr_hugetlb_pool *pool, size_t pages)
{
    const struct hugetlb_place anywhere = {.policy = NULL};
    struct gathered gathered = {.list = NULL};
    struct qr_frame *head = NULL;
    size_t missing;

    qr_mutex_lock(&pool->grow);
    while ((missing = pool_try_reserve(pool, pages, &gathered)) != 0) {
        head = missing == SIZE_MAX ? NULL : pool_obtain_surplus(pool, anywhere);
        if (head == NULL)
            break;
        list_push(&gathered.list, head);
        gathered.count++;
    }
    qr_mutex_unlock(&pool->grow);
    gathered_drop(pool, &gathered);
    pool_drop_surplus(pool); /* somebody may have given pages back meanwhile */
    return missing == 0 ? QR_OK : QR_ERR_NO_MEMORY;
}

void
qr_hugetlb_unreserve(struct qr_hugetlb_pool *pool, size_t pages)
{
    if (pages == 0)
        return;
    qr_spin_lock(&pool->lock);
    qr_assert(pool->reserved >= pages);
    pool->reserved -= pages;
    qr_spin_unlock(&pool->lock);
    pool_drop_surplus(pool);
}

void
qr_hugetlb_move_reserve(struct qr_hugetlb_pool *pool, size_t *from, size_t *to, size_t pages)
{
    qr_spin_lock(&pool->lock);
    if (pages > *from)
        pages = *from;
    *from -= pages;
    *to += pages;
    qr_spin_unlock(&pool->lock);
}

void
qr_hugetlb_trim_reserve(struct qr_hugetlb_pool *pool, size_t *reserved, size_t pages)
{
    size_t more = 0;

    qr_hugetlb_move_reserve(pool, reserved, &more, SIZE_MAX);
    qr_hugetlb_move_reserve(pool, &more, reserved, pages);
    qr_hugetlb_unreserve(pool, more);
}

/* ---- Pages in use ---------------------------------------------------------------- */

/* P held. */
static struct qr_frame *
pool_take(struct qr_hugetlb_pool *pool, struct hugetlb_place place, size_t *reserved)
{
    bool promised = reserved != NULL && *reserved > 0;

    if (!promised && pool_available(pool, 1) == 0)
        return NULL;
    struct qr_frame *head = pool_take_free(pool, place);

    if (head != NULL && promised) {
        qr_assert(pool->reserved > 0);
        (*reserved)--;
        pool->reserved--;
    }
    qr_assert(pool->reserved <= pool->free);
    return head;
}

struct qr_frame *
qr_hugetlb_page_alloc(struct qr_hugetlb_pool *pool, struct hugetlb_place place, size_t *reserved)
{
    qr_spin_lock(&pool->lock);
    struct qr_frame *head = pool_take(pool, place, reserved);
    qr_spin_unlock(&pool->lock);

    if (head == NULL)
        head = pool_obtain_surplus(pool, place);
    if (head != NULL)
        atomic_store_explicit(&page_info(head)->maps, 1, memory_order_relaxed);
    return head;
}

void
qr_hugetlb_page_get(struct qr_frame *head)
{
    uint32_t before = atomic_fetch_add_explicit(&page_info(head)->maps, 1, memory_order_relaxed);

    qr_assert(before != 0 && before != UINT32_MAX);
}

/* P held.  The page has no uses. */
static void
pool_put(struct qr_hugetlb_pool *pool, struct qr_frame *head, bool pinned, size_t *reserved)
{
    if (pinned) {
        list_push(&pool->pinned, head);
        return;
    }
    pool_add_free(pool, head);
    if (reserved != NULL) {
        pool->reserved++;
        (*reserved)++;
    }
}

void
qr_hugetlb_page_put(struct qr_hugetlb_pool *pool, struct qr_frame *head, size_t *reserved)
{
    uint32_t before = atomic_fetch_sub_explicit(&page_info(head)->maps, 1, memory_order_acq_rel);

    qr_assert(before != 0 && qr_frame_type(head) == QR_FRAME_HUGE);
    if (before != 1)
        return;
    qr_assert(atomic_load_explicit(&head->maps, memory_order_relaxed) == 0);
    atomic_store_explicit(&head->owner, NULL, memory_order_relaxed);
    atomic_fetch_and_explicit(&head->flags, ~(uint32_t)QR_FRAME_SHMEM, memory_order_relaxed);
    bool pinned = page_is_pinned(pool, head);

    qr_spin_lock(&pool->lock);
    pool_put(pool, head, pinned, reserved);
    qr_spin_unlock(&pool->lock);
    pool_drop_surplus(pool);
}

/* ---- Size --------------------------------------------------------------------------- */

void
qr_hugetlb_pool_stats(struct qr_hugetlb_pool *pool, int node, struct qr_hugetlb_stats *out_stats)
{
    qr_spin_lock(&pool->lock);
    if (pool->pinned != NULL)
        pool_look_at_pinned(pool);
    if (node < 0) {
        *out_stats = (struct qr_hugetlb_stats){
            .total = pool->total,
            .free = pool->free,
            .reserved = pool->reserved,
            .surplus = pool->surplus,
            .overcommit = pool->overcommit,
        };
    } else {
        const struct huge_node *at = &pool->nodes[node];

        *out_stats = (struct qr_hugetlb_stats){
            .total = at->total,
            .free = at->free,
            .surplus = at->surplus,
        };
    }
    qr_spin_unlock(&pool->lock);
}

void
qr_hugetlb_pool_set_overcommit(struct qr_hugetlb_pool *pool, size_t pages)
{
    qr_spin_lock(&pool->lock);
    pool->overcommit = pages;
    qr_spin_unlock(&pool->lock);
}

/* One node's part of a change, or with -1 the pool's. */
static size_t
pool_persistent(struct qr_hugetlb_pool *pool, int node)
{
    struct qr_hugetlb_stats stats;

    qr_hugetlb_pool_stats(pool, node, &stats);
    return stats.total - stats.surplus;
}

/* A surplus page stays for good, or the other way round; false: there is none. */
static bool
pool_turn(struct qr_hugetlb_pool *pool, int node, bool to_surplus)
{
    bool turned = false;

    qr_spin_lock(&pool->lock);
    for (unsigned i = 0; i < CONFIG_MAX_NODES && !turned; i++) {
        struct huge_node *at = &pool->nodes[i];
        size_t have = to_surplus ? at->total - at->surplus : at->surplus;

        if ((node >= 0 && (unsigned)node != i) || have == 0)
            continue;
        at->surplus += to_surplus ? 1 : (size_t)-1;
        pool->surplus += to_surplus ? 1 : (size_t)-1;
        turned = true;
    }
    qr_spin_unlock(&pool->lock);
    return turned;
}

/* One page more, on @node or on the next one in turn that has one; G held. */
static bool
pool_grow(struct qr_hugetlb_pool *pool, int node)
{
    struct qr_frame *head = NULL;

    if (node >= 0)
        head = page_obtain(pool, block_on(pool, (unsigned)node));
    for (unsigned i = 0; node < 0 && head == NULL && i < CONFIG_MAX_NODES; i++) {
        unsigned at = pool->next_node++ % CONFIG_MAX_NODES;

        if (qr_frames_node_exists(pool->frames, at))
            head = page_obtain(pool, block_on(pool, at));
    }
    if (head == NULL)
        return false;
    qr_spin_lock(&pool->lock);
    pool_count(pool, head, 1, 0);
    pool_add_free(pool, head);
    qr_spin_unlock(&pool->lock);
    return true;
}

/* One free page less that nobody was promised, on @node or the node with the most of them. */
static bool
pool_shrink(struct qr_hugetlb_pool *pool, int node)
{
    struct huge_node *from = node >= 0 ? &pool->nodes[node] : &pool->nodes[0];
    struct qr_frame *head = NULL;

    qr_spin_lock(&pool->lock);
    for (unsigned i = 1; node < 0 && i < CONFIG_MAX_NODES; i++) {
        if (pool->nodes[i].free > from->free)
            from = &pool->nodes[i];
    }
    if (pool_available(pool, 1) > 0 && (head = list_pop(&from->list)) != NULL) {
        from->free--;
        pool->free--;
        pool_count(pool, head, -1, 0);
    }
    qr_spin_unlock(&pool->lock);
    if (head != NULL)
        page_release(pool, head);
    return head != NULL;
}

void
qr_hugetlb_pool_resize(struct qr_hugetlb_pool *pool, int node, size_t pages)
{
    if (node >= (int)CONFIG_MAX_NODES)
        return;
    qr_mutex_lock(&pool->grow);
    while (pool_persistent(pool, node) < pages &&
           (pool_turn(pool, node, false) || pool_grow(pool, node)))
        ;
    while (pool_persistent(pool, node) > pages &&
           (pool_shrink(pool, node) || pool_turn(pool, node, true)))
        ;
    qr_mutex_unlock(&pool->grow);
}

/* ---- The machine's pools ---------------------------------------------------------------- */

size_t
qr_hugetlb_size(void)
{
    return sizeof(struct qr_hugetlb);
}

void
qr_hugetlb_init(struct qr_hugetlb *huge, struct qr_frames *frames)
{
    huge->frames = frames;
    huge->count = 0;
    huge->default_index = 0;
}

size_t
qr_hugetlb_fini(struct qr_hugetlb *huge)
{
    size_t left = 0;

    for (unsigned i = 0; i < huge->count; i++) {
        struct qr_hugetlb_stats stats;

        qr_hugetlb_pool_resize(&huge->pools[i], -1, 0);
        qr_hugetlb_pool_stats(&huge->pools[i], -1, &stats);
        left += stats.total;
    }
    return left;
}

/* The level of @format's leaves of that size, or of those that make a group of it; 0xff: none. */
static uint8_t
format_level(const struct qr_format *format, unsigned shift, bool grouped)
{
    struct qr_format_info info;

    qr_format_info(format, &info);
    for (unsigned level = grouped ? 0 : 1; level < info.levels; level++) {
        unsigned bits = grouped ? info.group_bits[level] : 0;

        if ((info.leaf_levels >> level & 1) != 0 && (!grouped || bits != 0) &&
            qr_format_shift(format, level) + bits == shift)
            return (uint8_t)level;
    }
    return 0xff;
}

static enum qr_status
pool_add(struct qr_hugetlb *huge, const struct qr_format *format, unsigned shift, bool grouped)
{
    if (shift <= QR_PAGE_SHIFT || shift - QR_PAGE_SHIFT > QR_ORDER_MAX ||
        format_level(format, shift, grouped) == 0xff)
        return QR_ERR_UNSUPPORTED;
    if (qr_hugetlb_find(huge, shift) != NULL)
        return QR_ERR_EXISTS;
    if (huge->count == QR_HUGETLB_SIZES_MAX)
        return QR_ERR_LIMIT;
    struct qr_hugetlb_pool *pool = &huge->pools[huge->count];

    *pool = (struct qr_hugetlb_pool){
        .frames = huge->frames,
        .shift = shift,
        .order = shift - QR_PAGE_SHIFT,
        .level = format_level(format, shift, grouped),
        .grouped = grouped,
    };
    qr_spin_init(&pool->lock, QR_RANK_REGISTRY);
    huge->count++;
    return QR_OK;
}

enum qr_status
qr_hugetlb_add(struct qr_hugetlb *huge, const struct qr_format *format, unsigned shift)
{
    return pool_add(huge, format, shift, false);
}

void
qr_hugetlb_add_all(struct qr_hugetlb *huge, const struct qr_format *format, unsigned max_shift)
{
    for (unsigned shift = QR_PAGE_SHIFT + 1; shift <= max_shift; shift++)
        (void)!pool_add(huge, format, shift, false);
}

void
qr_hugetlb_add_groups(struct qr_hugetlb *huge, const struct qr_format *format, unsigned max_shift)
{
    for (unsigned shift = QR_PAGE_SHIFT + 1; shift <= max_shift; shift++)
        (void)!pool_add(huge, format, shift, true);
}

unsigned
qr_hugetlb_count(const struct qr_hugetlb *huge)
{
    return huge->count;
}

struct qr_hugetlb_pool *
qr_hugetlb_at(struct qr_hugetlb *huge, unsigned index)
{
    qr_assert(index < huge->count);
    return &huge->pools[index];
}

struct qr_hugetlb_pool *
qr_hugetlb_find(struct qr_hugetlb *huge, unsigned shift)
{
    if (shift == 0 && huge->count > 0)
        return &huge->pools[huge->default_index];
    for (unsigned i = 0; i < huge->count; i++) {
        if (huge->pools[i].shift == shift)
            return &huge->pools[i];
    }
    return NULL;
}

bool
qr_hugetlb_set_default(struct qr_hugetlb *huge, unsigned shift)
{
    struct qr_hugetlb_pool *pool = qr_hugetlb_find(huge, shift);

    if (pool == NULL)
        return false;
    huge->default_index = (unsigned)(pool - huge->pools);
    return true;
}

unsigned
qr_hugetlb_pool_shift(const struct qr_hugetlb_pool *pool)
{
    return pool->shift;
}
