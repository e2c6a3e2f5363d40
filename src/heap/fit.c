/* SPDX-License-Identifier: MIT */
/*
 * Large blocks as runs of pages in shared chunks of 2 MiB: first fit and best fit.
 *
 *   chunk  | block | free run      | block      | block | free run |
 *            ext     ext             ext          ext     ext
 *
 * Each run, given out or free, has a record (an extent) outside of the chunk, so nothing
 * that writes into freed memory can bend the lists.  The descriptors of a run's first
 * and last frame name its extent: from either end of a run one step leads to its neighbour,
 * and a run that becomes free merges with free neighbours at once.  No two free runs ever touch.
 *
 * First fit keeps the free runs in a tree by address, in which each node knows the longest run
 * below it; best fit in a tree by length, then address.  Both find their run in as
 * many steps as the tree is high.
 *
 * An allocation that may have to cut a run in two brings the second record along before it
 * takes the lock; merging sets records free.  So a free needs no memory and cannot fail.
 *
 * One chunk that is wholly free is kept, others go back to the frame layer.  Requests of
 * more than half a chunk, aligned beyond a page, or for DMA memory get frames of their own.
 *
 * Locks: fit->lock; frames and records are allocated and freed without it.
 */
#include "heap.h"

#include <quire/writer.h>

enum { CHUNK_ORDER = 9, CHUNK_PAGES = 1 << CHUNK_ORDER };

struct chunk {
    struct qr_list link;
    struct qr_frame *frame;
    char *base;
};

struct extent {
    struct qr_tree_node node; /* while free */
    uintptr_t magic;          /* the heap's key ^ this address */
    struct chunk *chunk;
    uint16_t start, pages; /* in the chunk */
    uint16_t longest;      /* first fit: of the runs of this subtree */
    uint8_t kind;
    bool free;
};

/* Chunks' records are of the same cache. */
size_t
qr_extent_bytes(void)
{
    return sizeof(struct extent) > sizeof(struct chunk) ? sizeof(struct extent)
                                                        : sizeof(struct chunk);
}

static struct extent *
extent_of(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct extent, node);
}

static void
longest_update(struct qr_tree_node *node)
{
    struct extent *extent = extent_of(node);

    extent->longest = extent->pages;
    for (unsigned side = 0; side < 2; side++) {
        struct extent *child = extent_of(node->child[side]);

        if (child != NULL && child->longest > extent->longest)
            extent->longest = child->longest;
    }
}

void
qr_fit_init(struct qr_heap *heap)
{
    for (unsigned kind = 0; kind < QR_LARGE_KINDS; kind++) {
        qr_spin_init(&heap->fit[kind].lock, QR_RANK_SLAB);
        qr_list_init(&heap->fit[kind].chunks);
    }
    heap->fit[QR_LARGE_FIRST_FIT].free.update = longest_update;
}

/* ---- records ---------------------------------------------------------------- */

static void *
record_alloc(struct qr_heap *heap, unsigned alloc_flags)
{
    return qr_cache_alloc_sized(&heap->extents, 0,
                                (alloc_flags & ~(unsigned)QR_ALLOC_DMA) | QR_ALLOC_ZERO, 0);
}

static void
record_free(struct qr_heap *heap, void *record)
{
    if (record != NULL)
        qr_cache_free_sited(&heap->extents, record, 0);
}

/* ---- the tree of free runs ---------------------------------------------------- */

static char *
extent_address(const struct extent *extent)
{
    return extent->chunk->base + ((size_t)extent->start << QR_PAGE_SHIFT);
}

static bool
extent_before(const struct extent *a, const struct extent *b)
{
    if (a->kind == QR_LARGE_BEST_FIT && a->pages != b->pages)
        return a->pages < b->pages;
    return extent_address(a) < extent_address(b);
}

/* Name @extent in the descriptors at its ends. */
static void
extent_label(struct extent *extent)
{
    struct qr_frame *first = extent->chunk->frame + extent->start;

    atomic_store_explicit(&first->owner, extent, memory_order_relaxed);
    atomic_store_explicit(&first[extent->pages - 1].owner, extent, memory_order_relaxed);
}

static void
extent_insert(struct heap_fit *fit, struct extent *extent)
{
    struct qr_tree_node *parent = NULL;
    struct qr_tree_node *at = fit->free.root;
    int side = 0;

    extent->free = true;
    extent_label(extent);
    fit->free_pages += extent->pages;
    while (at != NULL) {
        parent = at;
        side = extent_before(extent_of(at), extent);
        at = at->child[side];
    }
    qr_tree_insert(&fit->free, &extent->node, parent, side);
}

static void
extent_remove(struct heap_fit *fit, struct extent *extent)
{
    qr_tree_remove(&fit->free, &extent->node);
    extent->free = false;
    fit->free_pages -= extent->pages;
}

/* The lowest free run of @pages or more. */
static struct extent *
first_find(const struct heap_fit *fit, size_t pages)
{
    struct extent *at = extent_of(fit->free.root);

    if (at == NULL || at->longest < pages)
        return NULL;
    while (at != NULL) {
        struct extent *left = extent_of(at->node.child[0]);

        if (left != NULL && left->longest >= pages)
            at = left;
        else if (at->pages >= pages)
            return at;
        else
            at = extent_of(at->node.child[1]);
    }
    return NULL;
}

/* The shortest free run of @pages or more, the lowest of these. */
static struct extent *
best_find(const struct heap_fit *fit, size_t pages)
{
    struct extent *at = extent_of(fit->free.root);
    struct extent *best = NULL;

    while (at != NULL) {
        if (at->pages >= pages)
            best = at;
        at = extent_of(at->node.child[at->pages < pages]);
    }
    return best;
}

/* ---- chunks ------------------------------------------------------------------- */

/* Another chunk, all of it one free run. */
static bool
chunk_add(struct qr_heap *heap, enum qr_large_kind kind, unsigned alloc_flags)
{
    struct heap_fit *fit = &heap->fit[kind];
    struct chunk *chunk = record_alloc(heap, alloc_flags);
    struct extent *extent = record_alloc(heap, alloc_flags);
    unsigned flags = alloc_flags & ~(unsigned)(QR_ALLOC_HIGH | QR_ALLOC_ZERO);
    struct qr_frame *frame = NULL;

    if (chunk != NULL && extent != NULL)
        frame = qr_frame_alloc_block(heap->frames, CHUNK_ORDER, flags | QR_ALLOC_NO_REPORT);
    if (frame == NULL) {
        record_free(heap, chunk);
        record_free(heap, extent);
        return false;
    }
    chunk->frame = frame;
    chunk->base = qr_heap_address(heap, frame);
    *extent = (struct extent){.magic = heap->key ^ (uintptr_t)extent,
                              .chunk = chunk,
                              .pages = CHUNK_PAGES,
                              .kind = (uint8_t)kind};
    atomic_fetch_add_explicit(&heap->large_frames, CHUNK_PAGES, memory_order_relaxed);
    qr_spin_lock(&fit->lock);
    qr_list_push_back(&fit->chunks, &chunk->link);
    fit->chunk_count++;
    extent_insert(fit, extent);
    qr_spin_unlock(&fit->lock);
    return true;
}

/* Take a chunk that is one free run out of the books.  Locks: fit->lock. */
static void
chunk_detach(struct heap_fit *fit, struct extent *extent)
{
    extent_remove(fit, extent);
    qr_list_remove(&extent->chunk->link);
    fit->chunk_count--;
}

static size_t
chunk_release(struct qr_heap *heap, struct extent *extent)
{
    struct chunk *chunk = extent->chunk;

    atomic_store_explicit(&chunk->frame[0].owner, NULL, memory_order_relaxed);
    atomic_store_explicit(&chunk->frame[CHUNK_PAGES - 1].owner, NULL, memory_order_relaxed);
    qr_frame_free(heap->frames, chunk->frame);
    atomic_fetch_sub_explicit(&heap->large_frames, CHUNK_PAGES, memory_order_relaxed);
    extent->magic = 0;
    record_free(heap, chunk);
    record_free(heap, extent);
    return CHUNK_PAGES;
}

/* A wholly free chunk, where more than @keep pages are free; detached. */
static struct extent *
chunk_surplus(struct heap_fit *fit, size_t keep)
{
    struct extent *found = NULL;

    qr_spin_lock(&fit->lock);
    if (fit->free_pages >= keep + CHUNK_PAGES) {
        found =
            fit->free.update == NULL ? best_find(fit, CHUNK_PAGES) : first_find(fit, CHUNK_PAGES);
        if (found != NULL)
            chunk_detach(fit, found);
    }
    qr_spin_unlock(&fit->lock);
    return found;
}

size_t
qr_fit_reap(struct qr_heap *heap)
{
    size_t released = 0;

    for (unsigned kind = QR_LARGE_FIRST_FIT; kind < QR_LARGE_KINDS; kind++) {
        struct extent *surplus;

        while ((surplus = chunk_surplus(&heap->fit[kind], 0)) != NULL)
            released += chunk_release(heap, surplus);
    }
    return released;
}

/* ---- allocating and freeing ----------------------------------------------------- */

/* The type of a frame of a chunk that is no block's head: as the frame layer left it. */
static void
frame_untype(struct extent *extent)
{
    struct qr_frame *first = extent->chunk->frame + extent->start;

    qr_frame_set_type(first, extent->start == 0 ? QR_FRAME_KERNEL : QR_FRAME_FREE);
    atomic_store_explicit(&first->index, 0, memory_order_relaxed);
}

/* The pages of @extent beyond @pages become @tail. */
static void
extent_cut(struct extent *extent, struct extent *tail, size_t pages)
{
    *tail = *extent;
    tail->magic = extent->magic ^ (uintptr_t)extent ^ (uintptr_t)tail;
    tail->start = (uint16_t)(extent->start + pages);
    tail->pages = (uint16_t)(extent->pages - pages);
    extent->pages = (uint16_t)pages;
    extent_label(extent);
    extent_label(tail);
}

/* A run of @pages out of the tree; *spare is used up where it had to be cut. */
static struct extent *
run_take(struct heap_fit *fit, struct extent *(*find)(const struct heap_fit *, size_t),
         size_t pages, struct extent **spare)
{
    struct extent *extent;

    qr_spin_lock(&fit->lock);
    extent = find(fit, pages);
    if (extent != NULL) {
        extent_remove(fit, extent);
        if (extent->pages > pages) {
            extent_cut(extent, *spare, pages);
            extent_insert(fit, *spare);
            *spare = NULL;
        }
    }
    qr_spin_unlock(&fit->lock);
    return extent;
}

static void *
fit_alloc(struct qr_heap *heap, enum qr_large_kind kind,
          struct extent *(*find)(const struct heap_fit *, size_t), size_t pages,
          unsigned alloc_flags)
{
    struct heap_fit *fit = &heap->fit[kind];
    struct extent *spare = record_alloc(heap, alloc_flags);
    struct extent *extent = NULL;

    for (unsigned attempt = 0; spare != NULL && extent == NULL && attempt < 8; attempt++) {
        extent = run_take(fit, find, pages, &spare);
        if (extent == NULL && !chunk_add(heap, kind, alloc_flags))
            break;
    }
    record_free(heap, spare);
    if (extent == NULL)
        return NULL;
    struct qr_frame *first = extent->chunk->frame + extent->start;
    char *block = extent_address(extent);

    qr_frame_set_type(first, QR_FRAME_LARGE);
    atomic_store_explicit(&first->index, pages, memory_order_relaxed);
    if (alloc_flags & QR_ALLOC_ZERO)
        __builtin_memset(block, 0, pages << QR_PAGE_SHIFT);
    return block;
}

/* Whether the back ends of this file serve the request. */
static bool
fits_chunk(size_t pages, size_t align_pages, unsigned alloc_flags)
{
    return pages <= CHUNK_PAGES / 2 && align_pages <= 1 && (alloc_flags & QR_ALLOC_DMA) == 0;
}

static void *
first_alloc(struct qr_heap *heap, size_t pages, size_t align_pages, unsigned alloc_flags)
{
    if (!fits_chunk(pages, align_pages, alloc_flags))
        return qr_large_frames_ops.alloc(heap, pages, align_pages, alloc_flags);
    return fit_alloc(heap, QR_LARGE_FIRST_FIT, first_find, pages, alloc_flags);
}

static void *
best_alloc(struct qr_heap *heap, size_t pages, size_t align_pages, unsigned alloc_flags)
{
    if (!fits_chunk(pages, align_pages, alloc_flags))
        return qr_large_frames_ops.alloc(heap, pages, align_pages, alloc_flags);
    return fit_alloc(heap, QR_LARGE_BEST_FIT, best_find, pages, alloc_flags);
}

/* The extent that ends before @extent (@step -1) or begins behind it, where it is free. */
static struct extent *
free_neighbour(const struct extent *extent, int step)
{
    long at = step < 0 ? (long)extent->start - 1 : (long)extent->start + extent->pages;

    if (at < 0 || at >= CHUNK_PAGES)
        return NULL;
    struct extent *other =
        atomic_load_explicit(&extent->chunk->frame[at].owner, memory_order_relaxed);

    return other->free ? other : NULL;
}

/* @extent is free from now on, one with free neighbours; their records are done with. */
static void
run_give(struct heap_fit *fit, struct extent *extent, struct extent *done[2])
{
    for (int side = 0; side < 2; side++) {
        struct extent *other = free_neighbour(extent, side == 0 ? -1 : 1);

        done[side] = other;
        if (other == NULL)
            continue;
        extent_remove(fit, other);
        if (side == 0)
            extent->start = other->start;
        extent->pages = (uint16_t)(extent->pages + other->pages);
        other->magic = 0;
    }
    extent_insert(fit, extent);
}

static void
extent_free(struct qr_heap *heap, struct extent *extent)
{
    struct heap_fit *fit = &heap->fit[extent->kind];
    struct extent *done[2];
    bool whole;

    qr_spin_lock(&fit->lock);
    run_give(fit, extent, done);
    whole = extent->pages == CHUNK_PAGES;
    qr_spin_unlock(&fit->lock);
    record_free(heap, done[0]);
    record_free(heap, done[1]);
    if (whole && (extent = chunk_surplus(fit, CHUNK_PAGES)) != NULL)
        (void)chunk_release(heap, extent);
}

static void
fit_free(struct qr_heap *heap, void *block, struct qr_frame *head)
{
    struct extent *extent = atomic_load_explicit(&head->owner, memory_order_relaxed);

    (void)block;
    frame_untype(extent);
    extent_free(heap, extent);
}

/* Without memory for a record the block stays as long as it is. */
static void
fit_shrink(struct qr_heap *heap, struct qr_frame *head, size_t pages)
{
    struct extent *extent = atomic_load_explicit(&head->owner, memory_order_relaxed);
    struct extent *tail = record_alloc(heap, QR_ALLOC_ATOMIC | QR_ALLOC_NO_REPORT);

    if (tail == NULL)
        return;
    qr_spin_lock(&heap->fit[extent->kind].lock);
    extent_cut(extent, tail, pages);
    qr_spin_unlock(&heap->fit[extent->kind].lock);
    atomic_store_explicit(&head->index, pages, memory_order_relaxed);
    extent_free(heap, tail);
}

const struct large_ops qr_large_first_ops = {
    .alloc = first_alloc,
    .free = fit_free,
    .shrink = fit_shrink,
};

const struct large_ops qr_large_best_ops = {
    .alloc = best_alloc,
    .free = fit_free,
    .shrink = fit_shrink,
};

bool
qr_fit_owns(struct qr_heap *heap, const void *owner, enum qr_large_kind *out_kind)
{
    const struct extent *extent = owner;

    if (extent == NULL || extent->magic != (heap->key ^ (uintptr_t)extent))
        return false;
    *out_kind = extent->kind;
    return true;
}

/* ---- the validator ---------------------------------------------------------------- */

/*
 * 1. The runs of a chunk follow one another without a gap and fill it.
 * 2. No two free runs touch.
 * 3. The free runs in the tree are those of the chunks, in order.
 */
static bool
chunk_validate(const struct chunk *chunk, size_t *free_pages, char *out_message, size_t bytes)
{
    const struct extent *before = NULL;

    for (size_t at = 0; at < CHUNK_PAGES;) {
        const struct extent *extent =
            atomic_load_explicit(&chunk->frame[at].owner, memory_order_relaxed);

        if (extent == NULL || extent->chunk != chunk || extent->start != at || extent->pages == 0 ||
            at + extent->pages > CHUNK_PAGES ||
            chunk->frame[at + extent->pages - 1].owner != extent) {
            (void)qr_format(out_message, bytes, "chunk %p: page %zu is of no run",
                            (const void *)chunk->base, at);
            return false;
        }
        if (before != NULL && before->free && extent->free) {
            (void)qr_format(out_message, bytes, "chunk %p: free runs touch at page %zu",
                            (const void *)chunk->base, at);
            return false;
        }
        *free_pages += extent->free ? extent->pages : 0;
        before = extent;
        at += extent->pages;
    }
    return true;
}

static bool
fit_validate(struct heap_fit *fit, char *out_message, size_t bytes)
{
    size_t free_pages = 0;
    size_t in_tree = 0;
    const struct extent *before = NULL;

    qr_list_for_each(link, &fit->chunks)
    {
        if (!chunk_validate(qr_list_entry(link, struct chunk, link), &free_pages, out_message,
                            bytes))
            return false;
    }
    for (struct qr_tree_node *n = qr_tree_first(&fit->free); n != NULL; n = qr_tree_next(n)) {
        in_tree += extent_of(n)->pages;
        if (before != NULL && !extent_before(before, extent_of(n))) {
            (void)qr_format(out_message, bytes, "the free runs are out of order");
            return false;
        }
        before = extent_of(n);
    }
    if (free_pages == in_tree && free_pages == fit->free_pages && qr_tree_validate(&fit->free))
        return true;
    (void)qr_format(out_message, bytes,
                    "%zu pages are free in chunks, %zu in the tree, %zu counted", free_pages,
                    in_tree, fit->free_pages);
    return false;
}

bool
qr_fit_validate(struct qr_heap *heap, char *out_message, size_t bytes)
{
    bool ok = true;

    for (unsigned kind = QR_LARGE_FIRST_FIT; ok && kind < QR_LARGE_KINDS; kind++) {
        qr_spin_lock(&heap->fit[kind].lock);
        ok = fit_validate(&heap->fit[kind], out_message, bytes);
        qr_spin_unlock(&heap->fit[kind].lock);
    }
    return ok;
}
