/* SPDX-License-Identifier: MIT */
/*
 * Slabs: blocks of frames cut into objects of one size.
 *
 *   on-slab   [ record | bitmap | colour | object 0 | object 1 | ... ]
 *   off-slab  [ colour | object 0 | object 1 | ... ]   record in heap->slab_records
 *
 * Which objects are free is a bitmap beside the objects, not a list through them: a stray
 * write into a freed object cannot lead the allocator anywhere, a double free is a
 * bit that is already set, and free objects are taken in address order, a word of 64 at
 * a time.  Every frame of a slab names the slab in its descriptor.
 *
 * Objects are aligned to the lowest set bit of their size, up to a page.  Slabs that the
 * preferred order cannot be had for are made of the smallest order that holds an object, so
 * fragmented memory still serves.
 *
 * Every memory node has its own lists.  A slab belongs to the node that its frames are of; where
 * a CPU's own node has no memory left, what the frame layer gives it from another one
 * goes into the lists of that one.
 *
 * Slabs are made and released with no lock held, because frames may then be reclaimed.
 */
#include "heap.h"

/* ---- layout ------------------------------------------------------------- */

static size_t
round_up(size_t value, size_t align)
{
    return (value + align - 1) / align * align;
}

/* How many objects a slab of @order holds; *out_first is where they start. */
static size_t
slab_capacity(const struct qr_cache *cache, unsigned order, size_t *out_first)
{
    size_t bytes = QR_PAGE_SIZE << order;
    size_t count = bytes / cache->stride;
    size_t first = 0;

    /* The record grows with the count: take away objects until both fit. */
    while (!cache->off_slab) {
        first = sizeof(struct slab) + (count + 63) / 64 * sizeof(uint64_t);
        first = round_up(first, cache->align);
        if (first + count * cache->stride <= bytes || count == 0)
            break;
        count--;
    }
    *out_first = first;
    return cache->off_slab && count > 64 ? 64 : count; /* their records have one word */
}

/* Bytes of a slab of @order that hold no object. */
static size_t
slab_waste(const struct qr_cache *cache, unsigned order)
{
    size_t first;

    return (QR_PAGE_SIZE << order) - slab_capacity(cache, order, &first) * cache->stride;
}

/* The smallest block that holds a few objects and wastes little, or the one that wastes least. */
static unsigned
slab_order_choose(const struct qr_cache *cache)
{
    unsigned best = cache->slab_order_min;

    for (unsigned order = best; order <= SLAB_ORDER_MAX; order++) {
        size_t bytes = QR_PAGE_SIZE << order;

        if (slab_waste(cache, order) << best < slab_waste(cache, best) << order)
            best = order;
        if (bytes / cache->stride >= 4 && slab_waste(cache, order) * 10 <= bytes)
            return order;
    }
    return best;
}

void
qr_cache_layout(struct qr_cache *cache)
{
    size_t first;
    unsigned order = 0;

    cache->off_slab = cache->stride >= OFF_SLAB_BYTES;
    while ((QR_PAGE_SIZE << order) < cache->stride)
        order++;
    cache->slab_order_min = (uint8_t)order;
    cache->slab_order = (uint8_t)(cache->off_slab ? slab_order_choose(cache) : 0);
    cache->reciprocal = (uint32_t)(((uint64_t)1 << 32) / cache->stride +
                                   (((uint64_t)1 << 32) % cache->stride != 0));

    size_t count = slab_capacity(cache, cache->slab_order, &first);
    size_t left = (QR_PAGE_SIZE << cache->slab_order) - first - count * cache->stride;
    size_t step = cache->align > QR_CACHE_LINE ? cache->align : QR_CACHE_LINE;

    cache->colour_count = (uint32_t)(left / step) + 1;
    /* kfree() finds the record of an on-slab cache at the start of the object's page. */
    qr_assert(count > 0);
}

size_t
qr_cache_slab_objects(const struct qr_cache *cache)
{
    size_t first;

    return slab_capacity(cache, cache->slab_order, &first);
}

/* ---- finding ------------------------------------------------------------ */

struct slab *
qr_slab_find(struct qr_heap *heap, const void *pointer)
{
    struct qr_frame *frame = qr_heap_frame(heap, pointer);

    if (frame == NULL || qr_frame_type(frame) != QR_FRAME_SLAB)
        return NULL;
    return atomic_load_explicit(&frame->owner, memory_order_relaxed);
}

unsigned
qr_slab_index(const struct slab *slab, const void *pointer)
{
    uint32_t offset = (uint32_t)((const char *)pointer - slab->base);
    uint32_t index = offset / slab->cache->stride;

    if (index >= slab->count || offset % slab->cache->stride != 0)
        qr_heap_inside_free(slab->cache, pointer);
    return index;
}

/* The slab of an object that is freed to @cache, which may be the wrong one. */
static struct slab *
slab_of_object(struct qr_cache *cache, void *object)
{
    struct slab *slab = NULL;

    if (FREE_BY_PAGE && !cache->off_slab) {
        struct slab *page = (struct slab *)((uintptr_t)object & ~(uintptr_t)QR_PAGE_MASK);

        if (page->magic == cache_slab_mark(cache, page))
            slab = page;
    }
    if (slab == NULL)
        slab = qr_slab_find(cache->heap, object);
    if (slab == NULL || slab->cache != cache)
        qr_heap_wrong_cache(cache, object, slab);
    return slab;
}

/* ---- taking and giving, the node's lock held ------------------------------ */

void
qr_slab_relist(struct cache_node *node, struct slab *slab)
{
    if (slab->isolated)
        return;
    qr_list_remove(&slab->link);
    if (slab->in_use == 0)
        qr_list_push_front(&node->empty, &slab->link);
    else if (slab->in_use == slab->count)
        qr_list_push_front(&node->full, &slab->link);
    else
        qr_list_push_front(&node->partial, &slab->link);
}

/* Partial slabs first: the empty ones can then be released. */
static struct slab *
slab_with_free(struct cache_node *node)
{
    struct qr_list *list = qr_list_is_empty(&node->partial) ? &node->empty : &node->partial;

    return qr_list_is_empty(list) ? NULL : qr_list_entry(list->next, struct slab, link);
}

/* Where the search in a slab's bitmap begins: 0, or somewhere. */
static unsigned
slab_turn(struct qr_cache *cache, struct cache_node *node)
{
    if (!heap_switched(cache->heap, QR_HEAP_RANDOM_ORDER))
        return 0;
    node->random ^= node->random << 13;
    node->random ^= node->random >> 7;
    node->random ^= node->random << 17;
    return (unsigned)(node->random >> 32);
}

/* A bit of @row, of which @bits are objects: the lowest from a random one on, else the lowest. */
static unsigned
row_pick(uint64_t row, unsigned bits, unsigned turn)
{
    uint64_t above = row & ~(uint64_t)0 << turn % bits;

    return (unsigned)__builtin_ctzll(above != 0 ? above : row);
}

static size_t
slab_take(struct qr_cache *cache, struct cache_node *node, struct slab *slab, size_t want,
          void **out)
{
    bool random = heap_switched(cache->heap, QR_HEAP_RANDOM_ORDER);
    unsigned w = slab_turn(cache, node) % slab->words;
    size_t got = 0;

    for (unsigned i = 0; i < slab->words && got < want; i++, w = w + 1 < slab->words ? w + 1 : 0) {
        char *base = slab->base + (size_t)w * 64 * cache->stride;
        uint64_t row = slab->free[w];

        while (row != 0 && got < want) {
            unsigned bits = slab->count - w * 64u < 64 ? slab->count - w * 64u : 64;
            unsigned bit = random ? row_pick(row, bits, slab_turn(cache, node))
                                  : (unsigned)__builtin_ctzll(row);

            row &= ~((uint64_t)1 << bit);
            out[got++] = base + (size_t)bit * cache->stride;
        }
        slab->free[w] = row;
    }
    if (slab->in_use == 0)
        node->empty_count--;
    slab->in_use = (uint16_t)(slab->in_use + got);
    return got;
}

size_t
qr_slabs_take(struct qr_cache *cache, unsigned node_index, size_t want, void **out)
{
    struct cache_node *node = &cache->nodes[node_index];
    struct slab *slab;
    size_t got = 0;

    qr_spin_lock(&node->lock);
    while (got < want && (slab = slab_with_free(node)) != NULL) {
        got += slab_take(cache, node, slab, want - got, out + got);
        qr_slab_relist(node, slab);
    }
    node->in_use += got;
    qr_spin_unlock(&node->lock);
    return got;
}

static void
slab_give(struct qr_cache *cache, struct cache_node *node, struct slab *slab, void *object)
{
    unsigned index = qr_slab_index(slab, object);
    uint64_t bit = (uint64_t)1 << index % 64;
    bool was_full = slab->in_use == slab->count;

    if (slab->free[index / 64] & bit)
        qr_heap_double_free(cache, object);
    slab->free[index / 64] |= bit;
    slab->in_use--;
    node->empty_count += slab->in_use == 0;
    node->in_use--;
    if (was_full || slab->in_use == 0)
        qr_slab_relist(node, slab);
}

/* As many as lie on one node, under its lock.  @return how many */
static size_t
slabs_give_run(struct qr_cache *cache, size_t count, void *const *objects, bool *out_release)
{
    struct slab *slab = slab_of_object(cache, objects[0]);
    struct cache_node *node = &cache->nodes[slab->node];
    size_t i = 0;

    qr_spin_lock(&node->lock);
    while (slab != NULL) {
        slab_give(cache, node, slab, objects[i++]);
        slab = i < count ? slab_of_object(cache, objects[i]) : NULL;
        if (slab != NULL && &cache->nodes[slab->node] != node)
            slab = NULL;
    }
    *out_release = *out_release || node->empty_count > cache->empty_limit;
    if (node->empty_count != 0)
        atomic_store_explicit(&cache->reapable, true, memory_order_relaxed);
    qr_spin_unlock(&node->lock);
    return i;
}

void
qr_slabs_give(struct qr_cache *cache, size_t count, void *const *objects)
{
    bool release = false;

    for (size_t i = 0; i < count;)
        i += slabs_give_run(cache, count - i, objects + i, &release);
    if (release)
        (void)qr_slabs_release(cache, cache->empty_limit);
}

/* ---- making and releasing ----------------------------------------------- */

/* Name @slab in every frame of its block; NULL: the block is no slab any more. */
static void
frames_label(struct qr_cache *cache, struct qr_frame *head, unsigned order, struct slab *slab)
{
    for (size_t i = 0; i < (size_t)1 << order; i++) {
        enum qr_frame_type tail = i == 0 ? QR_FRAME_KERNEL : QR_FRAME_FREE;

        atomic_store_explicit(&head[i].owner, slab, memory_order_relaxed);
        atomic_store_explicit(&head[i].index, slab == NULL ? 0 : (uintptr_t)cache,
                              memory_order_relaxed);
        qr_frame_set_type(&head[i], slab == NULL ? tail : QR_FRAME_SLAB);
    }
}

static struct qr_frame *
slab_frames(struct qr_cache *cache, unsigned alloc_flags, unsigned *out_order)
{
    unsigned flags =
        (alloc_flags | cache->alloc_flags) & ~(unsigned)(QR_ALLOC_HIGH | QR_ALLOC_ZERO);
    struct qr_frame *frame = NULL;

    *out_order = cache->slab_order;
    if (cache->slab_order > cache->slab_order_min)
        frame = qr_frame_alloc_block(cache->heap->frames, cache->slab_order,
                                     flags | QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT);
    if (frame == NULL) {
        *out_order = cache->slab_order_min;
        frame = qr_frame_alloc_block(cache->heap->frames, *out_order, flags);
    }
    return frame;
}

/* The memory node of a frame, as the heap counts them. */
static unsigned
frame_node(const struct qr_heap *heap, const struct qr_frame *frame)
{
    unsigned node = heap->frames->zones[frame->zone].node;

    return node < heap->node_count ? node : 0;
}

static void
slab_bits_fill(struct slab *slab)
{
    slab->words = (uint8_t)((slab->count + 63u) / 64);
    for (unsigned w = 0; w < slab->words; w++) {
        size_t bits = slab->count - w * 64u;

        slab->free[w] = bits >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1;
    }
}

static struct slab *
slab_make(struct qr_cache *cache, struct qr_frame *frame, unsigned order, struct slab *record)
{
    size_t first;
    size_t count = slab_capacity(cache, order, &first);
    char *start = qr_heap_address(cache->heap, frame);
    struct slab *slab = cache->off_slab ? record : (struct slab *)(void *)start;
    size_t left = (QR_PAGE_SIZE << order) - first - count * cache->stride;
    size_t step = cache->align > QR_CACHE_LINE ? cache->align : QR_CACHE_LINE;
    /* Slabs differ in where they start, so that their first objects share no cache set. */
    uint32_t turn = atomic_fetch_add_explicit(&cache->colour, 1, memory_order_relaxed);
    size_t colour = turn % cache->colour_count * step;

    *slab = (struct slab){
        .cache = cache,
        .base = start + first + (colour <= left ? colour : 0),
        .frame = frame,
        .reciprocal = cache->reciprocal,
        .limit = cache->reciprocal,
        .count = (uint16_t)count,
        .order = (uint8_t)order,
        .node = (uint8_t)frame_node(cache->heap, frame),
    };
    slab->magic = cache_slab_mark(cache, slab);
    if (cache->class_index != CACHE_NO_CLASS)
        slab->lane =
            ((size_t)slab->node * CLASS_LANES + cache->class_index) * sizeof(struct heap_lane);
    qr_list_init(&slab->link);
    slab_bits_fill(slab);
    for (size_t i = 0; i < count; i++) {
        void *object = slab->base + i * cache->stride;

        if (cache->construct != NULL)
            cache->construct(object);
        qr_heap_object_made(cache, object);
    }
    frames_label(cache, frame, order, slab);
    return slab;
}

bool
qr_slabs_grow(struct qr_cache *cache, unsigned alloc_flags, unsigned *out_node)
{
    struct slab *record = NULL;
    unsigned order;
    struct qr_frame *frame;
    struct slab *slab;
    struct cache_node *node;

    if (cache->off_slab) {
        record = qr_cache_alloc_sized(&cache->heap->slab_records, 0,
                                      alloc_flags & ~(unsigned)(QR_ALLOC_ZERO | QR_ALLOC_DMA), 0);
        if (record == NULL)
            return false;
    }
    frame = slab_frames(cache, alloc_flags, &order);
    if (frame == NULL) {
        if (record != NULL)
            qr_cache_free_sited(&cache->heap->slab_records, record, 0);
        return false;
    }
    slab = slab_make(cache, frame, order, record);
    *out_node = slab->node;
    node = &cache->nodes[slab->node];
    qr_spin_lock(&node->lock);
    qr_slab_relist(node, slab);
    node->slab_count++;
    node->empty_count++;
    node->frame_count += (size_t)1 << order;
    node->total_objects += slab->count;
    qr_spin_unlock(&node->lock);
    qr_counter_add(qr_frames_counters(cache->heap->frames), QR_PAGES_SLAB, 1l << order);
    return true;
}

/* An empty slab out of its node's books, or NULL. */
static struct slab *
slab_detach(struct cache_node *node, size_t keep)
{
    struct slab *slab = NULL;

    qr_spin_lock(&node->lock);
    if (node->empty_count > keep && !qr_list_is_empty(&node->empty)) {
        /* The oldest: the front was used last. */
        slab = qr_list_entry(node->empty.prev, struct slab, link);
        qr_list_remove(&slab->link);
        node->empty_count--;
        node->slab_count--;
        node->frame_count -= (size_t)1 << slab->order;
        node->total_objects -= slab->count;
    }
    qr_spin_unlock(&node->lock);
    return slab;
}

size_t
qr_slab_release(struct qr_cache *cache, struct slab *slab)
{
    struct qr_frame *frame = slab->frame;
    unsigned order = slab->order;

    slab->magic = 0;
    frames_label(cache, frame, order, NULL);
    if (cache->off_slab)
        qr_cache_free_sited(&cache->heap->slab_records, slab, 0);
    qr_frame_free(cache->heap->frames, frame);
    qr_counter_add(qr_frames_counters(cache->heap->frames), QR_PAGES_SLAB, -(1l << order));
    return (size_t)1 << order;
}

size_t
qr_slabs_release(struct qr_cache *cache, size_t keep)
{
    struct slab *slab;
    size_t released = 0;

    for (unsigned n = 0; n < cache->heap->node_count; n++) {
        while ((slab = slab_detach(&cache->nodes[n], keep)) != NULL)
            released += qr_slab_release(cache, slab);
    }
    return released;
}
