/* SPDX-License-Identifier: MIT */
/*
 * Sampled guard pages: heap errors found in builds that have no other checks, at a price
 * that lets them stay on (the idea is KFENCE's).
 *
 *   | guard | object 0 | guard | object 1 | guard | ...       guard pages: never accessible
 *
 * Every so many kmallocs that leave the fast path, or by the clock, one gets a page of this pool.  The
 * object stands at one end of its page, so that a step past it (or before it) is a
 * fault at once; the rest of the page is filled with a pattern that the free checks.  After
 * the free the page cannot be touched, until its turn comes again: slots are used round about,
 * so a freed one rests as long as there are others.
 *
 * The fast paths have no instruction for this.  A kfree() of a guarded block reads the
 * first word of its page, finds no slab's mark, and arrives here by the slow path; where the
 * block was freed before, that very read is the fault that reports it.
 *
 * Locks: guard->lock; the host's protect() is called under it.
 */
#include "heap.h"

#include <quire/writer.h>

#define PATTERN 0xa5u

enum slot_state { SLOT_UNUSED, SLOT_LIVE, SLOT_FREED };

struct slot {
    enum slot_state state;
    uint32_t bytes;
    char *object;
    uintptr_t allocated_by, freed_by;
};

struct heap_guard {
    struct qr_spin lock; /* rank LEAF */
    struct qr_guard_config config;
    struct qr_frame *frame; /* NULL: the pool is the host's */
    char *base;
    size_t pages, next, samples;
    _Atomic unsigned countdown; /* 0: none is due */
    struct slot slot[];
};

static struct heap_guard *
guard_of(struct qr_heap *heap)
{
    return atomic_load_explicit(&heap->guard, memory_order_acquire);
}

static char *
slot_page(const struct heap_guard *guard, size_t index)
{
    return guard->base + ((2 * index + 1) << QR_PAGE_SHIFT);
}

/* The slot whose page @address is in, or NULL: a guard page, or no page of the pool. */
static struct slot *
slot_of(struct heap_guard *guard, uintptr_t address)
{
    size_t page = (address - (uintptr_t)guard->base) >> QR_PAGE_SHIFT;

    return page % 2 == 0 ? NULL : &guard->slot[page / 2];
}

static bool
guard_covers(const struct heap_guard *guard, uintptr_t address)
{
    return guard != NULL && address - (uintptr_t)guard->base < guard->pages << QR_PAGE_SHIFT;
}

/* ---- start and end ------------------------------------------------------------- */

static void
pages_protect(struct heap_guard *guard, bool accessible)
{
    for (size_t i = 0; i < guard->pages; i++)
        guard->config.protect(guard->config.context, guard->base + (i << QR_PAGE_SHIFT),
                              accessible);
}

enum qr_status
qr_guard_start(struct qr_heap *heap, const struct qr_guard_config *config)
{
    struct qr_contiguous_request request = {.count = 2 * config->slots + 1,
                                            .alloc_flags = QR_ALLOC_NO_REPORT};
    struct heap_guard *guard = guard_of(heap);

    if (config->slots == 0 || config->slots > 65536 || config->protect == NULL ||
        ((uintptr_t)config->pool & QR_PAGE_MASK) != 0)
        return QR_ERR_INVALID;
    if (guard != NULL) { /* the pool stays as large as it was */
        guard->config.interval = config->interval;
        atomic_store_explicit(&guard->countdown, config->interval, memory_order_relaxed);
        return QR_OK;
    }
    guard = qr_heap_own_alloc(heap, sizeof(*guard) + config->slots * sizeof(struct slot));
    if (guard == NULL)
        return QR_ERR_NO_MEMORY;
    guard->base = config->pool;
    if (config->pool == NULL) {
        guard->frame = qr_frame_alloc_contiguous(heap->frames, &request);
        if (guard->frame == NULL) {
            qr_heap_own_free(heap, guard);
            return QR_ERR_NO_MEMORY;
        }
        guard->base = qr_heap_address(heap, guard->frame);
        atomic_fetch_add_explicit(&heap->own_frames, request.count, memory_order_relaxed);
    }
    qr_spin_init(&guard->lock, QR_RANK_LEAF);
    guard->config = *config;
    guard->pages = request.count;
    atomic_init(&guard->countdown, config->interval);
    pages_protect(guard, false);
    atomic_store_explicit(&heap->guard, guard, memory_order_release);
    return QR_OK;
}

void
qr_guard_stop(struct qr_heap *heap)
{
    struct heap_guard *guard = guard_of(heap);

    if (guard != NULL)
        atomic_store_explicit(&guard->countdown, 0, memory_order_relaxed);
}

void
qr_guard_due(struct qr_heap *heap)
{
    struct heap_guard *guard = guard_of(heap);

    if (guard != NULL)
        atomic_store_explicit(&guard->countdown, 1, memory_order_relaxed);
}

size_t
qr_guard_live(struct qr_heap *heap)
{
    struct heap_guard *guard = guard_of(heap);
    size_t live = 0;

    for (size_t i = 0; guard != NULL && i < guard->config.slots; i++)
        live += guard->slot[i].state == SLOT_LIVE;
    return live;
}

size_t
qr_guard_samples(struct qr_heap *heap)
{
    struct heap_guard *guard = guard_of(heap);

    return guard == NULL ? 0 : guard->samples;
}

void
qr_guard_fini(struct qr_heap *heap)
{
    struct heap_guard *guard = guard_of(heap);
    size_t pfn;

    if (guard == NULL)
        return;
    pages_protect(guard, true);
    if (guard->frame != NULL) {
        pfn = qr_frame_pfn(heap->frames, guard->frame).v;
        for (size_t i = 0; i < guard->pages; i++)
            qr_frame_free(heap->frames, qr_frame_of(heap->frames, qr_pfn_of(pfn + i)));
        atomic_fetch_sub_explicit(&heap->own_frames, guard->pages, memory_order_relaxed);
    }
    atomic_store_explicit(&heap->guard, NULL, memory_order_relaxed);
    qr_heap_own_free(heap, guard);
}

/* ---- allocating and freeing ------------------------------------------------------ */

/* Whether this request is the one in so many. */
static bool
sample_due(struct heap_guard *guard)
{
    unsigned left = atomic_load_explicit(&guard->countdown, memory_order_relaxed);

    if (left == 0)
        return false;
    /* Two CPUs may take the same step: a sample comes a little late then. */
    atomic_store_explicit(&guard->countdown, left == 1 ? guard->config.interval : left - 1,
                          memory_order_relaxed);
    return left == 1;
}

/* At the end of its page and, every other time, at the start. */
static char *
slot_place(const struct heap_guard *guard, char *page, size_t bytes)
{
    size_t align = (bytes & (bytes - 1)) == 0 ? bytes : 8;

    if (guard->samples % 2 != 0)
        return page;
    return page + ((QR_PAGE_SIZE - bytes) & ~(align < 8 ? (size_t)7 : align - 1));
}

/* The next slot round about that no live object is in. */
static struct slot *
slot_next(struct heap_guard *guard)
{
    for (size_t i = 0; i < guard->config.slots; i++) {
        struct slot *slot = &guard->slot[guard->next];

        guard->next = guard->next + 1 < guard->config.slots ? guard->next + 1 : 0;
        if (slot->state != SLOT_LIVE)
            return slot;
    }
    return NULL;
}

void *
qr_guard_alloc(struct qr_heap *heap, size_t bytes, unsigned alloc_flags, uintptr_t site)
{
    struct heap_guard *guard = guard_of(heap);
    struct slot *slot;
    char *page;

    if (qr_likely(guard == NULL) || bytes > QR_PAGE_SIZE || !sample_due(guard))
        return NULL;
    qr_spin_lock(&guard->lock);
    slot = slot_next(guard);
    if (slot != NULL) {
        page = slot_page(guard, (size_t)(slot - guard->slot));
        guard->config.protect(guard->config.context, page, true);
        __builtin_memset(page, PATTERN, QR_PAGE_SIZE);
        *slot = (struct slot){.state = SLOT_LIVE,
                              .bytes = (uint32_t)bytes,
                              .object = slot_place(guard, page, bytes),
                              .allocated_by = site};
        if (alloc_flags & QR_ALLOC_ZERO)
            __builtin_memset(slot->object, 0, bytes);
        guard->samples++;
    }
    qr_spin_unlock(&guard->lock);
    if (slot != NULL && heap_switched(heap, QR_HEAP_TRACK))
        qr_track_add(heap, slot->object, bytes, site);
    return slot == NULL ? NULL : slot->object;
}

/* Whether something was written into the page beside the object. */
static bool
is_harmed(const struct slot *slot, const char *page)
{
    for (const char *at = page; at < page + QR_PAGE_SIZE; at++) {
        if (at == slot->object)
            at += slot->bytes;
        if (at < page + QR_PAGE_SIZE && (unsigned char)*at != PATTERN)
            return true;
    }
    return false;
}

bool
qr_guard_free(struct qr_heap *heap, void *block, uintptr_t site)
{
    struct heap_guard *guard = guard_of(heap);
    struct site_text now, before;
    struct slot *slot;
    char *page;

    if (qr_likely(!guard_covers(guard, (uintptr_t)block)))
        return false;
    slot = slot_of(guard, (uintptr_t)block);
    if (slot == NULL || slot->state == SLOT_UNUSED)
        qr_panic("heap: free of %p, which is no block; it lies in the pool of guarded objects",
                 block);
    if (slot->state == SLOT_FREED)
        qr_panic("heap: guarded object %p is freed twice, now at %s, before at %s", block,
                 qr_site_text(heap, site, &now), qr_site_text(heap, slot->freed_by, &before));
    if (slot->object != block)
        qr_panic("heap: %p is inside the guarded object %p, not its start", block,
                 (void *)slot->object);
    page = slot_page(guard, (size_t)(slot - guard->slot));
    if (is_harmed(slot, page))
        qr_panic("heap: guarded object %p (%u bytes, allocated at %s): something wrote past its "
                 "end or before its start",
                 block, (unsigned)slot->bytes, qr_site_text(heap, slot->allocated_by, &before));
    qr_spin_lock(&guard->lock);
    slot->state = SLOT_FREED;
    slot->freed_by = site;
    guard->config.protect(guard->config.context, page, false);
    qr_spin_unlock(&guard->lock);
    return true;
}

size_t
qr_guard_bytes(struct qr_heap *heap, const void *block)
{
    struct heap_guard *guard = guard_of(heap);
    struct slot *slot;

    if (qr_likely(!guard_covers(guard, (uintptr_t)block)))
        return 0;
    slot = slot_of(guard, (uintptr_t)block);
    return slot != NULL && slot->state == SLOT_LIVE && slot->object == block ? slot->bytes : 0;
}

/* ---- faults ----------------------------------------------------------------------- */

/* The slot that a fault in a guard page is about: the live one beside it. */
static struct slot *
slot_beside(struct heap_guard *guard, uintptr_t address)
{
    size_t page = (address - (uintptr_t)guard->base) >> QR_PAGE_SHIFT;
    struct slot *below = page == 0 ? NULL : &guard->slot[page / 2 - 1];
    struct slot *above = page / 2 == guard->config.slots ? NULL : &guard->slot[page / 2];

    if (below != NULL && below->state == SLOT_LIVE)
        return below;
    return above != NULL && above->state == SLOT_LIVE ? above : NULL;
}

bool
qr_guard_fault(struct qr_heap *heap, uintptr_t address, struct qr_writer *writer)
{
    struct heap_guard *guard = guard_of(heap);
    struct slot *slot;
    const char *what = "use after free";

    if (!guard_covers(guard, address))
        return false;
    slot = slot_of(guard, address);
    if (slot == NULL) {
        slot = slot_beside(guard, address);
        what = "access out of bounds";
    }
    if (slot == NULL || slot->state == SLOT_UNUSED) {
        qr_writer_printf(writer, "heap: stray access to 0x%lx among guarded objects\n",
                         (unsigned long)address);
        return true;
    }
    qr_writer_printf(writer, "heap: %s at 0x%lx: object %p of %u bytes\n  allocated at ", what,
                     (unsigned long)address, (void *)slot->object, (unsigned)slot->bytes);
    qr_site_write(heap, writer, slot->allocated_by);
    if (slot->state == SLOT_FREED) {
        qr_writer_printf(writer, "\n  freed at ");
        qr_site_write(heap, writer, slot->freed_by);
    }
    qr_writer_printf(writer, "\n");
    return true;
}
