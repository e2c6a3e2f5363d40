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
 * Objects of power-of-two size up to a page are naturally aligned: the first one starts
 * at a multiple of the stride.  Slabs that the preferred order cannot be had for are made
 * of the smallest order that holds an object, so fragmented memory still serves.
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
    return count > 1024 ? 1024 : count;
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
    /* Eight objects or more, as long as the block stays small. */
    while (order < SLAB_ORDER_MAX && slab_capacity(cache, order, &first) < 8 &&
           (QR_PAGE_SIZE << order) < 32768)
        order++;
    if ((QR_PAGE_SIZE << order) < 4 * (size_t)cache->stride && order < SLAB_ORDER_MAX)
        order++;
    cache->slab_order = (uint8_t)order;

    size_t count = slab_capacity(cache, order, &first);
    size_t left = (QR_PAGE_SIZE << order) - first - count * cache->stride;
    size_t step = cache->align > QR_CACHE_LINE ? cache->align : QR_CACHE_LINE;

    cache->colour_count = (uint32_t)(left / step) + 1;
    /* kfree() finds the record of an on-slab cache at the start of the object's page. */
    qr_assert(cache->off_slab || order == 0);
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
        qr_panic("heap: %p is inside an object of cache %s, not its start; free the pointer that "
                 "the allocation returned",
                 pointer, slab->cache->name);
    return index;
}

/* ---- taking and giving, cache->lock held --------------------------------- */

/* Put a slab into the list that its count says. */
static void
slab_relist(struct qr_cache *cache, struct slab *slab)
{
    qr_list_remove(&slab->link);
    if (slab->in_use == 0)
        qr_list_push_front(&cache->empty, &slab->link);
    else if (slab->in_use == slab->count)
        qr_list_push_front(&cache->full, &slab->link);
    else
        qr_list_push_front(&cache->partial, &slab->link);
}

/* Partial slabs first: the empty ones can then be released. */
static struct slab *
slab_with_free(struct qr_cache *cache)
{
    struct qr_list *list = qr_list_is_empty(&cache->partial) ? &cache->empty : &cache->partial;

    return qr_list_is_empty(list) ? NULL : qr_list_entry(list->next, struct slab, link);
}

static size_t
slab_take(struct qr_cache *cache, struct slab *slab, size_t want, void **out)
{
    size_t got = 0;

    for (unsigned w = 0; w < slab->words && got < want; w++) {
        char *base = slab->base + (size_t)w * 64 * cache->stride;

        while (slab->free[w] != 0 && got < want) {
            unsigned bit = (unsigned)__builtin_ctzll(slab->free[w]);

            slab->free[w] &= slab->free[w] - 1;
            out[got++] = base + (size_t)bit * cache->stride;
        }
    }
    if (slab->in_use == 0)
        cache->empty_count--;
    slab->in_use = (uint16_t)(slab->in_use + got);
    return got;
}

size_t
qr_slabs_take(struct qr_cache *cache, size_t want, void **out)
{
    struct slab *slab;
    size_t got = 0;

    qr_spin_lock(&cache->lock);
    while (got < want && (slab = slab_with_free(cache)) != NULL) {
        got += slab_take(cache, slab, want - got, out + got);
        slab_relist(cache, slab);
    }
    cache->in_use += got;
    qr_spin_unlock(&cache->lock);
    return got;
}

static void
slab_give(struct qr_cache *cache, void *object)
{
    struct slab *slab =
        cache->off_slab ? qr_slab_find(cache->heap, object) : slab_on_page(cache->heap, object);

    if (slab == NULL || slab->cache != cache)
        qr_panic("heap: %p was freed to cache %s but belongs to %s; free an object to the cache "
                 "it came from",
                 object, cache->name, slab == NULL ? "no cache" : slab->cache->name);
    unsigned index = qr_slab_index(slab, object);
    uint64_t bit = (uint64_t)1 << index % 64;
    bool was_full = slab->in_use == slab->count;

    if (slab->free[index / 64] & bit)
        qr_heap_double_free(cache, object);
    slab->free[index / 64] |= bit;
    slab->in_use--;
    cache->empty_count += slab->in_use == 0;
    if (was_full || slab->in_use == 0)
        slab_relist(cache, slab);
}

void
qr_slabs_give(struct qr_cache *cache, size_t count, void *const *objects)
{
    bool release;

    qr_spin_lock(&cache->lock);
    for (size_t i = 0; i < count; i++)
        slab_give(cache, objects[i]);
    cache->in_use -= count;
    release = cache->empty_count > cache->empty_limit;
    if (cache->empty_count != 0)
        atomic_store_explicit(&cache->reapable, true, memory_order_relaxed);
    qr_spin_unlock(&cache->lock);
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

    qr_list_init(&slab->link);
    slab->magic = cache->heap->key ^ (uintptr_t)slab;
    slab->cache = cache;
    slab->base = start + first + (colour <= left ? colour : 0);
    slab->frame = frame;
    slab->count = (uint16_t)count;
    slab->in_use = 0;
    slab->order = (uint8_t)order;
    slab->words = (uint8_t)((count + 63) / 64);
    for (unsigned w = 0; w < slab->words; w++) {
        size_t bits = count - w * 64u;

        slab->free[w] = bits >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1;
    }
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
qr_slabs_grow(struct qr_cache *cache, unsigned alloc_flags)
{
    struct slab *record = NULL;
    unsigned order;
    struct qr_frame *frame;
    struct slab *slab;

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
    qr_spin_lock(&cache->lock);
    slab_relist(cache, slab);
    cache->slab_count++;
    cache->empty_count++;
    cache->frame_count += (size_t)1 << order;
    cache->total_objects += slab->count;
    qr_spin_unlock(&cache->lock);
    qr_counter_add(qr_frames_counters(cache->heap->frames), QR_PAGES_SLAB, 1l << order);
    return true;
}

/* An empty slab out of its cache's books, or NULL. */
static struct slab *
slab_detach(struct qr_cache *cache, size_t keep)
{
    struct slab *slab = NULL;

    qr_spin_lock(&cache->lock);
    if (cache->empty_count > keep) {
        /* The oldest: the front was used last. */
        slab = qr_list_entry(cache->empty.prev, struct slab, link);
        qr_list_remove(&slab->link);
        cache->empty_count--;
        cache->slab_count--;
        cache->frame_count -= (size_t)1 << slab->order;
        cache->total_objects -= slab->count;
    }
    qr_spin_unlock(&cache->lock);
    return slab;
}

size_t
qr_slabs_release(struct qr_cache *cache, size_t keep)
{
    struct slab *slab;
    size_t released = 0;

    while ((slab = slab_detach(cache, keep)) != NULL) {
        struct qr_frame *frame = slab->frame;
        unsigned order = slab->order;

        slab->magic = 0;
        frames_label(cache, frame, order, NULL);
        if (cache->off_slab)
            qr_cache_free_sited(&cache->heap->slab_records, slab, 0);
        qr_frame_free(cache->heap->frames, frame);
        qr_counter_add(qr_frames_counters(cache->heap->frames), QR_PAGES_SLAB, -(1l << order));
        released += (size_t)1 << order;
    }
    return released;
}
