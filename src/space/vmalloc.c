/* SPDX-License-Identifier: MIT */
/*
 * The kernel's virtual range, as extents.
 *
 * The range is cut into extents, used or free, which lie side by side in an AVL
 * tree by address; each node also knows the largest free extent of its subtree,
 * so the lowest one that fits is found in one walk down.
 *
 *   [ free ][G used G][G used G][ free            ][G used G]
 *
 * A used extent includes a guard page at either end (G), which is never mapped:
 * running off a block faults.  Free extents never touch: a freed block is joined
 * with its neighbours.  Freeing allocates nothing: it needs no more extents than
 * there are.
 *
 * Frames come one by one.  Where the format has groups of leaves (table/group.c) and the CPUs
 * know them, an aligned stretch gets a block of frames and is mapped as a group:
 * fewer TLB entries.  A block that is not to be had ends the attempts; single frames do.
 *
 * The lock is a sleeping mutex held only while the tree changes, or a small block
 * goes.  The owner of a used extent is alone with its addresses, so mapping, and
 * unmapping what is large, need no lock here.
 *
 * Flushes are put off.  A kernel page concerns every CPU, so to free one block at a time
 * would interrupt them all each time.  The entries of a small block are taken out at
 * once, but noted in one batch that lies open across calls: it owns the frames, and the
 * extents wait, neither free nor used.  Frames and addresses are free after the flush,
 * which comes when the batch could no longer flush page by page, when somebody finds no
 * room or no memory, or when asked for.  Nobody else has business with those addresses, so
 * nothing that may be relied upon is missing meanwhile: a CPU that goes there all the same
 * faults, or reaches the block as it was, which is still nobody else's.
 *
 * Invariants: 1 extents cover the range without hole or overlap; 2 no two free
 * extents are neighbours; 3 every summary is the maximum over its subtree; 4 what
 * waits is not free.
 */
#include <quire/assert.h>
#include <quire/vmalloc.h>
#include <quire/writer.h>

/* What a used extent is for. */
struct purpose {
    const char *owner;
    bool device;
    qr_pa pa; /* of device windows */
};

struct extent {
    struct qr_tree_node node;
    struct qr_va_range range;
    size_t largest_free; /* bytes, in this subtree */
    bool used;
    bool waits; /* ... but given back: for the flush */
    struct extent *next_waiting;
    struct purpose purpose;
};

struct qr_vmalloc {
    struct qr_frames *frames;    /* fixed */
    struct qr_tlb_space *kernel; /* fixed */
    struct qr_cache *extents;    /* fixed */
    struct qr_mutex lock;        /* E: everything below */
    struct qr_tree tree;         /* E */
    size_t used_bytes, blocks;   /* E */
    struct qr_va_range range;    /* fixed */
    unsigned group_order;        /* fixed; log2 of a group's pages; 0: no groups */
    bool flush_at_once;          /* fixed */
    struct extent *waiting;      /* E: given back, entries taken out; their flush is owed */
    struct qr_tlb_batch owed;    /* E: that flush, and the frames; in use while any waits */
};

/* A cursor keeps interrupts off: at most so much at a time. */
#define CHUNK_BYTES ((size_t)64 << QR_PAGE_SHIFT)

static struct extent *
extent_of(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct extent, node);
}

static size_t
extent_largest(struct qr_tree_node *node)
{
    return node == NULL ? 0 : extent_of(node)->largest_free;
}

static void
extent_update(struct qr_tree_node *node)
{
    struct extent *extent = extent_of(node);
    size_t largest = extent->used ? 0 : qr_va_range_bytes(extent->range);

    for (int side = 0; side < 2; side++) {
        if (extent_largest(node->child[side]) > largest)
            largest = extent_largest(node->child[side]);
    }
    extent->largest_free = largest;
}

size_t
qr_vmalloc_size(void)
{
    return sizeof(struct qr_vmalloc);
}

enum qr_status
qr_vmalloc_init(struct qr_vmalloc *area, const struct qr_vmalloc_config *config)
{
    const struct qr_cache_config extents = {
        .name = config->name,
        .object_bytes = sizeof(struct extent),
    };

    struct qr_format_info format;

    qr_format_info(config->kernel->tables->format, &format);
    if (((config->range.start.v | config->range.end.v) & QR_PAGE_MASK) != 0 ||
        config->range.start.v >= config->range.end.v)
        return QR_ERR_RANGE;
    *area = (struct qr_vmalloc){
        .frames = config->frames,
        .kernel = config->kernel,
        .tree = {.update = extent_update},
        .range = config->range,
        .group_order = config->groups ? format.group_bits[0] : 0,
        .flush_at_once = config->flush_at_once,
    };
    enum qr_status status = qr_cache_create(config->heap, &extents, &area->extents);

    if (status != QR_OK)
        return status;
    struct extent *all = qr_cache_alloc(area->extents, 0);

    if (all == NULL) {
        (void)qr_cache_destroy(area->extents);
        return QR_ERR_NO_MEMORY;
    }
    *all = (struct extent){.range = config->range};
    qr_tree_insert(&area->tree, &all->node, NULL, 0);
    return QR_OK;
}

size_t
qr_vmalloc_fini(struct qr_vmalloc *area)
{
    size_t leaked = area->blocks;

    qr_vmalloc_flush(area);
    if (leaked == 0)
        qr_cache_free(area->extents, extent_of(area->tree.root));
    (void)qr_cache_destroy(area->extents);
    return leaked;
}

/* ---- The tree ------------------------------------------------------------ */

/* The lowest free extent of at least @bytes. */
static struct extent *
area_find_free(struct qr_vmalloc *area, size_t bytes)
{
    struct qr_tree_node *node = area->tree.root;

    if (extent_largest(node) < bytes)
        return NULL;
    for (;;) {
        struct extent *extent = extent_of(node);

        if (extent_largest(node->child[0]) >= bytes)
            node = node->child[0];
        else if (!extent->used && qr_va_range_bytes(extent->range) >= bytes)
            return extent;
        else
            node = node->child[1];
    }
}

static struct extent *
area_find(struct qr_vmalloc *area, qr_va va)
{
    struct qr_tree_node *node = area->tree.root;

    while (node != NULL) {
        struct extent *extent = extent_of(node);

        if (qr_va_range_contains(extent->range, va))
            return extent;
        node = node->child[va.v >= extent->range.end.v];
    }
    return NULL;
}

/* Insert @extent directly before @next in address order. */
static void
area_insert_before(struct qr_vmalloc *area, struct extent *extent, struct extent *next)
{
    struct qr_tree_node *left = next->node.child[0];

    if (left == NULL) {
        qr_tree_insert(&area->tree, &extent->node, &next->node, 0);
        return;
    }
    while (left->child[1] != NULL)
        left = left->child[1];
    qr_tree_insert(&area->tree, &extent->node, left, 1);
}

/* One used extent more, or less. */
static void
area_count(struct qr_vmalloc *area, const struct extent *extent, long more)
{
    area->used_bytes += (size_t)more * qr_va_range_bytes(extent->range);
    area->blocks += (size_t)more;
}

/* Make a used extent of @bytes, guards included; @spare is used up or freed. */
static struct extent *
area_take(struct qr_vmalloc *area, size_t bytes, struct purpose purpose, struct extent *spare)
{
    qr_mutex_lock(&area->lock);
    struct extent *taken = area_find_free(area, bytes);

    if (taken != NULL && qr_va_range_bytes(taken->range) > bytes) {
        struct extent *rest = taken;

        spare->range.start = rest->range.start;
        spare->range.end = qr_va_of(rest->range.start.v + bytes);
        spare->used = true;
        rest->range.start = spare->range.end;
        qr_tree_update(&area->tree, &rest->node);
        area_insert_before(area, spare, rest);
        taken = spare;
        spare = NULL;
    } else if (taken != NULL) {
        taken->used = true;
        qr_tree_update(&area->tree, &taken->node);
    }
    if (taken != NULL) {
        taken->purpose = purpose;
        area_count(area, taken, 1);
    }
    qr_mutex_unlock(&area->lock);
    if (spare != NULL)
        qr_cache_free(area->extents, spare);
    return taken;
}

/* Join @extent, which is free, with a free right neighbour. */
static void
area_join_next(struct qr_vmalloc *area, struct extent *extent)
{
    struct extent *next = extent_of(qr_tree_next(&extent->node));

    if (next == NULL || next->used)
        return;
    qr_tree_remove(&area->tree, &next->node);
    extent->range.end = next->range.end;
    qr_tree_update(&area->tree, &extent->node);
    qr_cache_free(area->extents, next);
}

/* @extent is free: no CPU holds anything of it.  The lock is held. */
static void
area_set_free(struct qr_vmalloc *area, struct extent *extent)
{
    extent->used = false;
    extent->waits = false;
    qr_tree_update(&area->tree, &extent->node);
    area_join_next(area, extent);
    struct extent *previous = extent_of(qr_tree_previous(&extent->node));

    if (previous != NULL && !previous->used)
        area_join_next(area, previous);
}

static void
area_give_back(struct qr_vmalloc *area, struct extent *extent)
{
    qr_mutex_lock(&area->lock);
    area_count(area, extent, -1);
    area_set_free(area, extent);
    qr_mutex_unlock(&area->lock);
}

/* ---- Mapping ------------------------------------------------------------- */

/* Is it somebody's? */
static bool
extent_is_block(const struct extent *extent)
{
    return extent != NULL && extent->used && !extent->waits;
}

/* What lies between the guards. */
static struct qr_va_range
extent_inside(const struct extent *extent)
{
    struct qr_va_range inside = {
        .start = qr_va_of(extent->range.start.v + QR_PAGE_SIZE),
        .end = qr_va_of(extent->range.end.v - QR_PAGE_SIZE),
    };

    return inside;
}

static struct qr_va_range
range_chunk(struct qr_va_range range, uintptr_t at)
{
    struct qr_va_range chunk = {.start = qr_va_of(at), .end = range.end};

    if (range.end.v - at > CHUNK_BYTES)
        chunk.end = qr_va_of(at + CHUNK_BYTES);
    return chunk;
}

struct unmap_context {
    struct qr_vmalloc *area;
    struct qr_tlb_batch *batch;
    bool owns_frames;
};

static void
unmap_entry(void *argument, const struct qr_entry *entry)
{
    struct unmap_context *context = argument;

    if (!context->owns_frames)
        return;
    qr_tlb_batch_add_frame(context->batch,
                           qr_frame_of(context->area->frames, qr_pa_to_pfn(entry->leaf.pa)));
    qr_counter_add(qr_frames_counters(context->area->frames), QR_PAGES_VMALLOC, -1);
}

/* Take out the entries of @extent; @batch gets what they map, and notes them. */
static void
area_take_out(struct qr_vmalloc *area, const struct extent *extent, struct qr_tlb_batch *batch)
{
    struct qr_va_range range = extent_inside(extent);
    struct unmap_context context = {area, batch, !extent->purpose.device};

    for (uintptr_t at = range.start.v; at < range.end.v; at += CHUNK_BYTES) {
        struct qr_va_range chunk = range_chunk(range, at);
        struct qr_cursor cursor;

        qr_cursor_open(&cursor, area->kernel->tables, chunk, batch);
        qr_cursor_unmap_range(&cursor, chunk, unmap_entry, &context);
        qr_cursor_close(&cursor);
    }
}

static void
area_unmap(struct qr_vmalloc *area, const struct extent *extent)
{
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, area->kernel);
    area_take_out(area, extent, &batch);
    qr_tlb_batch_finish(&batch);
}

/* ---- Flushes put off ------------------------------------------------------------ */

/* The flush that is owed; what waited for it is free.  The lock is held. */
static void
area_pay(struct qr_vmalloc *area)
{
    if (area->waiting == NULL)
        return;
    qr_tlb_batch_finish(&area->owed);
    while (area->waiting != NULL) {
        struct extent *extent = area->waiting;

        area->waiting = extent->next_waiting;
        area_set_free(area, extent);
    }
}

void
qr_vmalloc_flush(struct qr_vmalloc *area)
{
    qr_mutex_lock(&area->lock);
    area_pay(area);
    qr_mutex_unlock(&area->lock);
}

/* Whether something was owed, and is free now. */
static bool
area_pay_up(struct qr_vmalloc *area)
{
    qr_mutex_lock(&area->lock);
    bool owed = area->waiting != NULL;

    area_pay(area);
    qr_mutex_unlock(&area->lock);
    return owed;
}

/* May the flush of @extent be put off?  A window shows a device; that goes at once. */
static bool
extent_may_wait(const struct qr_vmalloc *area, const struct extent *extent)
{
    return !area->flush_at_once && !extent->purpose.device &&
           qr_va_range_pages(extent_inside(extent)) <= QR_BATCH_PAGES;
}

/* Take out @extent; it waits, with those before it.  The lock is held. */
static void
area_owe(struct qr_vmalloc *area, struct extent *extent)
{
    size_t pages = qr_va_range_pages(extent_inside(extent));

    if (area->owed.run_count == QR_BATCH_RUNS || area->owed.page_count + pages > QR_BATCH_PAGES)
        area_pay(area);
    if (area->waiting == NULL)
        qr_tlb_batch_init(&area->owed, area->kernel);
    area_take_out(area, extent, &area->owed);
    area_count(area, extent, -1);
    extent->waits = true;
    extent->next_waiting = area->waiting;
    area->waiting = extent;
    if (area->owed.naive)
        area_pay(area);
}

/*
 * Map 1 << @order pages, one or a group; takes over the caller's reference to the frames behind
 * @pa on success.
 */
static enum qr_status
area_map_pages(struct qr_vmalloc *area, qr_va va, qr_pa pa, unsigned order,
               enum qr_cacheability cache)
{
    const struct qr_leaf leaf = {
        .pa = pa,
        .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_GLOBAL,
        .flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY,
        .cache = (uint8_t)cache,
    };
    struct qr_va_range pages = {va, qr_va_of(va.v + (QR_PAGE_SIZE << order))};
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, area->kernel->tables, pages, NULL);
    enum qr_status status = qr_cursor_prepare(&cursor, va, 0);

    if (status == QR_OK && order > 0)
        qr_cursor_map_group(&cursor, va, &leaf);
    else if (status == QR_OK)
        qr_cursor_map(&cursor, va, &leaf);
    qr_cursor_close(&cursor);
    return status;
}

/* Frames for 1 << @order pages at @va. */
static enum qr_status
area_map_block(struct qr_vmalloc *area, qr_va va, unsigned order, unsigned alloc_flags)
{
    struct qr_frame *head = order == 0 ? qr_frame_alloc(area->frames, alloc_flags)
                                       : qr_frame_alloc_block(area->frames, order, alloc_flags);

    if (head == NULL)
        return QR_ERR_NO_MEMORY;
    enum qr_status status =
        area_map_pages(area, va, qr_frame_pa(area->frames, head), order, QR_CACHE_WRITE_BACK);

    if (status != QR_OK) {
        qr_frame_put(area->frames, head);
        return status;
    }
    if (order > 0)
        qr_frame_split_block(area->frames, head); /* each goes by itself in the end */
    qr_counter_add(qr_frames_counters(area->frames), QR_PAGES_VMALLOC, 1l << order);
    return QR_OK;
}

/* Whether a group can begin at @at. */
static bool
group_fits(const struct qr_vmalloc *area, uintptr_t at, uintptr_t end)
{
    uintptr_t bytes = (uintptr_t)QR_PAGE_SIZE << area->group_order;

    return area->group_order > 0 && (at & (bytes - 1)) == 0 && end - at >= bytes;
}

static enum qr_status
area_map_frames(struct qr_vmalloc *area, struct qr_va_range range, unsigned alloc_flags)
{
    bool groups = true;
    uintptr_t at = range.start.v;

    alloc_flags |= QR_ALLOC_HIGH;
    while (at < range.end.v) {
        if (groups && group_fits(area, at, range.end.v)) {
            groups = area_map_block(area, qr_va_of(at), area->group_order,
                                    alloc_flags | QR_ALLOC_NO_REPORT) == QR_OK;
            if (groups) {
                at += (uintptr_t)QR_PAGE_SIZE << area->group_order;
                continue;
            }
        }
        enum qr_status status = area_map_block(area, qr_va_of(at), 0, alloc_flags);

        if (status != QR_OK)
            return status;
        at += QR_PAGE_SIZE;
    }
    return QR_OK;
}

static enum qr_status
area_map_device(struct qr_vmalloc *area, struct qr_va_range range, qr_pa pa,
                enum qr_cacheability cache)
{
    enum qr_status status = QR_OK;

    for (uintptr_t at = range.start.v; at < range.end.v && status == QR_OK; at += QR_PAGE_SIZE)
        status =
            area_map_pages(area, qr_va_of(at), qr_pa_of(pa.v + (at - range.start.v)), 0, cache);
    return status;
}

/* A used extent whose inside holds @bytes; NULL where there is no room or no descriptor. */
static struct extent *
area_reserve(struct qr_vmalloc *area, size_t bytes, struct purpose purpose)
{
    size_t most = qr_va_range_bytes(area->range);

    if (bytes == 0 || bytes > most)
        return NULL;
    struct extent *spare = qr_cache_alloc(area->extents, 0);

    if (spare == NULL)
        return NULL;
    *spare = (struct extent){.used = false};
    return area_take(area, qr_va_page_up(bytes) + 2 * QR_PAGE_SIZE, purpose, spare);
}

static void *
area_finish(struct qr_vmalloc *area, struct extent *extent, enum qr_status status)
{
    if (status == QR_OK) {
        qr_tlb_publish(area->kernel);
        return (void *)extent_inside(extent).start.v;
    }
    area_unmap(area, extent);
    area_give_back(area, extent);
    return NULL;
}

static void *
area_alloc(struct qr_vmalloc *area, size_t bytes, unsigned alloc_flags, const char *owner)
{
    struct extent *extent = area_reserve(area, bytes, (struct purpose){.owner = owner});

    if (extent == NULL)
        return NULL;
    return area_finish(area, extent, area_map_frames(area, extent_inside(extent), alloc_flags));
}

void *
qr_vmalloc(struct qr_vmalloc *area, size_t bytes, unsigned alloc_flags, const char *owner)
{
    void *block = area_alloc(area, bytes, alloc_flags, owner);

    if (block == NULL && area_pay_up(area))
        block = area_alloc(area, bytes, alloc_flags, owner);
    return block;
}

void *
qr_vmalloc_device(struct qr_vmalloc *area, qr_pa pa, size_t bytes, enum qr_cacheability cache,
                  const char *owner)
{
    size_t within = (size_t)(pa.v & QR_PAGE_MASK);
    qr_pa first = qr_pa_of(pa.v - within);

    if (bytes > SIZE_MAX - QR_PAGE_SIZE)
        return NULL;
    struct purpose purpose = {.owner = owner, .device = true, .pa = first};
    struct extent *extent = area_reserve(area, bytes + within, purpose);

    if (extent == NULL && area_pay_up(area))
        extent = area_reserve(area, bytes + within, purpose);
    if (extent == NULL)
        return NULL;
    char *window =
        area_finish(area, extent, area_map_device(area, extent_inside(extent), first, cache));

    return window == NULL ? NULL : window + within;
}

void
qr_vfree(struct qr_vmalloc *area, void *block)
{
    if (block == NULL)
        return;
    qr_va va = qr_va_of(qr_va_page_down((uintptr_t)block));

    qr_mutex_lock(&area->lock);
    struct extent *extent = area_find(area, va);
    bool valid = extent_is_block(extent) && extent_inside(extent).start.v == va.v;
    bool done = valid && extent_may_wait(area, extent);

    if (done)
        area_owe(area, extent);
    qr_mutex_unlock(&area->lock);
    if (!valid)
        qr_panic("qr_vfree(%p): not the start of a block; free what qr_vmalloc returned, once",
                 block);
    if (done)
        return;
    area_unmap(area, extent);
    area_give_back(area, extent);
}

/* ---- Reports ------------------------------------------------------------- */

void
qr_vmalloc_stats(struct qr_vmalloc *area, struct qr_vmalloc_stats *out_stats)
{
    qr_mutex_lock(&area->lock);
    out_stats->range_bytes = qr_va_range_bytes(area->range);
    out_stats->used_bytes = area->used_bytes;
    out_stats->largest_free_bytes = extent_largest(area->tree.root);
    out_stats->blocks = area->blocks;
    qr_mutex_unlock(&area->lock);
}

bool
qr_vmalloc_next(struct qr_vmalloc *area, qr_va from, struct qr_vmalloc_block *out_block)
{
    if (from.v < area->range.start.v)
        from = area->range.start;
    qr_mutex_lock(&area->lock);
    struct extent *extent = area_find(area, from);

    while (extent != NULL && (!extent_is_block(extent) || extent_inside(extent).start.v < from.v))
        extent = extent_of(qr_tree_next(&extent->node));
    if (extent != NULL) {
        out_block->range = extent_inside(extent);
        out_block->owner = extent->purpose.owner;
        out_block->pages = extent->purpose.device ? 0 : qr_va_range_pages(out_block->range);
        out_block->device = extent->purpose.pa;
    }
    qr_mutex_unlock(&area->lock);
    return extent != NULL;
}

bool
qr_vmalloc_validate(struct qr_vmalloc *area, char *out_message, size_t bytes)
{
    const char *broken = NULL;
    uintptr_t at = area->range.start.v;
    bool free_before = false;

    qr_mutex_lock(&area->lock);
    if (!qr_tree_validate(&area->tree))
        broken = "the tree is out of balance";
    for (struct qr_tree_node *node = qr_tree_first(&area->tree); node != NULL && broken == NULL;
         node = qr_tree_next(node)) {
        struct extent *extent = extent_of(node);
        size_t largest = extent->largest_free;

        extent_update(node);
        if (extent->range.start.v != at || extent->range.end.v <= at)
            broken = "1: extents leave a hole or overlap";
        else if (free_before && !extent->used)
            broken = "2: two free extents are neighbours";
        else if (extent->largest_free != largest)
            broken = "3: a summary is wrong";
        else if (extent->waits && !extent->used)
            broken = "4: what waits for its flush is free";
        at = extent->range.end.v;
        free_before = !extent->used;
    }
    if (broken == NULL && at != area->range.end.v)
        broken = "1: extents end before the range";
    qr_mutex_unlock(&area->lock);
    if (broken != NULL)
        qr_format(out_message, bytes, "vmalloc at %p: invariant %s", (void *)at, broken);
    return broken == NULL;
}
