/* SPDX-License-Identifier: MIT */
/*
 * Regions: runs of pages with the same properties, in a tree by address.
 *
 *   before   [ a a a a ][ b b ]        change two pages of a into b's properties:
 *   cut      [ a a ][ a a ][ b b ]     one spare descriptor
 *   set      [ a a ][ b b ][ b b ]
 *   merge    [ a a ][ b b   b b ]      one descriptor dropped
 *
 * Every change is a transaction (struct qr_change): what may fail, the
 * descriptors, is reserved first; then regions are cut, changed and joined,
 * which cannot fail; what was dropped is released after the space's lock, since
 * the last reference to a file may do anything.
 *
 * A region with an object is also a mapping of that object, and its extent is
 * what truncation computes addresses from.  So its start, end and object page
 * change together under the object's mapping lock, and at every moment each
 * page that has a table entry lies in some linked mapping: the upper part of a
 * split is linked before the lower part shrinks, and a merged region grows
 * before the other is unlinked.  An unmap that meets both takes the entry out
 * once.
 *
 * Invariants: 1 in the tree, regions do not overlap; 2 no two neighbours could
 * be merged; 3 counts of the space are the sums over its regions.
 *
 * Locks: all of this under the space's lock for writing.
 */
#include "hugetlb.h"

/* ---- The tree -------------------------------------------------------------- */

static size_t
gap_between(uintptr_t from, uintptr_t to)
{
    return to > from ? to - from : 0;
}

/* What a region knows of its subtree: the extent, and the largest gap inside. */
static void
region_update(struct qr_tree_node *node)
{
    struct qr_region *region = qr_region_of(node);
    const struct qr_region *low = qr_region_of(node->child[0]);
    const struct qr_region *high = qr_region_of(node->child[1]);
    uintptr_t floor = qr_region_floor(region);
    size_t gap = 0;

    region->subtree_start = qr_va_of(floor);
    region->subtree_end = region->end;
    if (low != NULL) {
        region->subtree_start = low->subtree_start;
        gap = qr_max_size(low->subtree_gap, gap_between(low->subtree_end.v, floor));
    }
    if (high != NULL) {
        region->subtree_end = high->subtree_end;
        gap = qr_max_size(gap, high->subtree_gap);
        gap = qr_max_size(gap, gap_between(region->end.v, high->subtree_start.v));
    }
    region->subtree_gap = gap;
}

void
qr_regions_init(struct qr_tree *tree)
{
    tree->root = NULL;
    tree->update = region_update;
}

struct qr_region *
qr_space_find(const struct qr_space *space, qr_va va)
{
    struct qr_tree_node *node = space->regions.root;
    struct qr_region *found = NULL;

    while (node != NULL) {
        struct qr_region *region = qr_region_of(node);

        if (region->end.v > va.v) {
            found = region;
            if (region->start.v <= va.v)
                break;
            node = node->child[0];
        } else {
            node = node->child[1];
        }
    }
    return found;
}

struct qr_region *
qr_space_find_below(const struct qr_space *space, qr_va va)
{
    struct qr_region *above = qr_space_find(space, va);

    if (above == NULL)
        return qr_region_of(qr_tree_last(&space->regions));
    return qr_region_previous(above);
}

struct qr_region *
qr_region_next(const struct qr_region *region)
{
    return qr_region_of(qr_tree_next(&region->node));
}

static void
region_link(struct qr_region *region)
{
    struct qr_tree *tree = &region->space->regions;
    struct qr_tree_node *parent = NULL;
    struct qr_tree_node *node = tree->root;
    int side = 0;

    while (node != NULL) {
        parent = node;
        side = region->start.v > qr_region_of(node)->start.v;
        node = node->child[side];
    }
    qr_tree_insert(tree, &region->node, parent, side);
    region->space->counts.region_count++;
}

static void
region_unlink(struct qr_region *region)
{
    qr_tree_remove(&region->space->regions, &region->node);
    region->space->counts.region_count--;
}

/* ---- Descriptors ----------------------------------------------------------- */

static void
chain_push(struct qr_region **chain, struct qr_region *region)
{
    region->node.parent = *chain == NULL ? NULL : &(*chain)->node;
    *chain = region;
}

static struct qr_region *
chain_pop(struct qr_region **chain)
{
    struct qr_region *region = *chain;

    if (region != NULL)
        *chain = qr_region_of(region->node.parent);
    return region;
}

void
qr_change_begin(struct qr_change *change, struct qr_space *space)
{
    change->space = space;
    change->spares = NULL;
    change->dead = NULL;
}

static struct qr_region *
region_alloc(struct qr_space *space)
{
    struct qr_region *region = qr_cache_alloc(space->vm->regions, 0);

    if (region == NULL)
        return NULL;
    region->charged = 0;
    if (qr_unlikely(atomic_load_explicit(&space->group, memory_order_relaxed) != NULL)) {
        struct qr_charge charge = {0};

        if (!qr_space_charge(space, sizeof(*region), &charge)) {
            qr_cache_free(space->vm->regions, region);
            return NULL;
        }
        region->charged = charge.group;
    }
    return region;
}

static void
region_free(struct qr_vm *vm, struct qr_region *region)
{
    struct qr_charge charge = {sizeof(*region), region->charged, QR_GROUP_SLAB};

    qr_charge_drop(vm->config.groups, &charge);
    qr_cache_free(vm->regions, region);
}

enum qr_status
qr_change_reserve(struct qr_change *change, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct qr_region *region = region_alloc(change->space);

        if (region == NULL)
            return QR_ERR_NO_MEMORY;
        chain_push(&change->spares, region);
    }
    return QR_OK;
}

static struct qr_region *
change_take(struct qr_change *change)
{
    struct qr_region *region = chain_pop(&change->spares);

    qr_assert(region != NULL && "more descriptors used than were reserved");
    return region;
}

static void
region_get_references(const struct qr_region *region)
{
    const struct qr_file_ops *ops = &region->space->vm->file_ops;

    if (region->object != NULL)
        qr_object_get(region->object);
    if (region->file != NULL && ops->get != NULL)
        ops->get(region->file);
    qr_mempolicy_get(region->policy);
    if (region->listener != NULL)
        qr_listener_get(region->listener);
}

static void
region_put_references(struct qr_region *region)
{
    const struct qr_file_ops *ops = &region->space->vm->file_ops;

    if (qr_region_is_hugetlb(region))
        qr_hugetlb_drop_promise(region);
    if (region->object != NULL)
        qr_object_put(region->object);
    if (region->file != NULL && ops->put != NULL)
        ops->put(region->file);
    qr_mempolicy_put(region->policy);
    if (region->listener != NULL)
        qr_listener_put(region->listener);
}

void
qr_change_end(struct qr_change *change)
{
    struct qr_vm *vm = change->space->vm;
    struct qr_region *region;

    while ((region = chain_pop(&change->dead)) != NULL) {
        region_put_references(region);
        region_free(vm, region);
    }
    while ((region = chain_pop(&change->spares)) != NULL)
        region_free(vm, region);
}

/* ---- Changing one region --------------------------------------------------- */

/* Copy @like into @region and link it to its object, but not into the tree. */
static void
region_init(struct qr_region *region, const struct qr_region *like, struct qr_va_range range)
{
    qr_region_copy(region, like);
    region->start = range.start;
    region->end = range.end;
    region->object_page = 0;
    if (qr_region_has_offset(region))
        region->object_page =
            like->object_page + ((range.start.v - like->start.v) >> QR_PAGE_SHIFT);
    region_get_references(region);
    if (region->object == NULL)
        return;
    qr_list_init(&region->mapping.link);
    region->mapping.first_page = region->object_page;
    region->mapping.page_count = qr_region_pages(region);
    region->mapping.shared = qr_region_is_shared(region);
    region->mapping.may_write = (region->max_prot & QR_PROT_WRITE) != 0;
    region->mapping.locked = (region->flags & QR_REGION_LOCKED) != 0;
    qr_object_add_mapping(region->object, &region->mapping);
}

struct qr_region *
qr_region_insert(struct qr_change *change, const struct qr_region *like)
{
    struct qr_region *region = change_take(change);

    region_init(region, like, qr_region_range(like));
    region->hugetlb_reserved = like->hugetlb_reserved;
    region_link(region);
    qr_count_region(region->space, region, (long)qr_region_pages(region));
    return region;
}

/* Its references go at the change's end. */
static void
region_forget(struct qr_change *change, struct qr_region *region)
{
    if (region->object != NULL)
        qr_object_remove_mapping(region->object, &region->mapping);
    chain_push(&change->dead, region);
}

void
qr_region_drop(struct qr_change *change, struct qr_region *region)
{
    region_unlink(region);
    qr_count_region(region->space, region, -(long)qr_region_pages(region));
    region_forget(change, region);
}

/* Move the ends; counts and the tree's summaries are the caller's. */
static void
region_set_extent(struct qr_region *region, struct qr_va_range range)
{
    size_t moved = (range.start.v >> QR_PAGE_SHIFT) - (region->start.v >> QR_PAGE_SHIFT);

    qr_assert(range.start.v < range.end.v);
    if (region->object == NULL) {
        if (qr_unlikely(region->file != NULL))
            region->object_page += moved;
        region->start = range.start;
        region->end = range.end;
        return;
    }
    qr_object_lock_mappings(region->object);
    /* Unsigned arithmetic: also right where the start moves down. */
    region->object_page += moved;
    region->mapping.first_page = region->object_page;
    region->mapping.page_count = qr_va_range_pages(range);
    region->start = range.start;
    region->end = range.end;
    qr_object_unlock_mappings(region->object);
    if (qr_region_is_hugetlb(region))
        qr_hugetlb_shrink_promise(region);
}

void
qr_region_resize(struct qr_region *region, struct qr_va_range range)
{
    long pages = (long)qr_va_range_pages(range) - (long)qr_region_pages(region);

    region_set_extent(region, range);
    qr_tree_update(&region->space->regions, &region->node);
    qr_count_region(region->space, region, pages);
}

struct qr_region *
qr_region_split(struct qr_change *change, struct qr_region *region, qr_va va)
{
    struct qr_region *upper = change_take(change);

    qr_assert(va.v > region->start.v && va.v < region->end.v);
    region_init(upper, region, qr_range_of(va.v, region->end.v));
    if (qr_region_is_hugetlb(region))
        qr_hugetlb_split_promise(region, upper, qr_region_range(upper));
    region_set_extent(region, qr_range_of(region->start.v, va.v));
    region_link(upper); /* below @region in the tree: updates its summary too */
    return upper;
}

/* ---- Merging ----------------------------------------------------------------- */

static bool
attributes_equal(struct qr_attributes a, struct qr_attributes b)
{
    /* Whether writes are tracked keeps nothing apart: see region_join_tracking(). */
    return a.prot == b.prot && ((a.flags ^ b.flags) & ~(unsigned)QR_REGION_TRACKED) == 0 &&
           a.pkey == b.pkey && a.listener == b.listener && qr_mempolicy_equal(a.policy, b.policy);
}

/* Where a part counts as written, whole, so does what it becomes part of. */
static void
region_join_tracking(struct qr_region *whole, const struct qr_region *part)
{
    if ((part->flags & QR_REGION_TRACKED) == 0)
        whole->flags &= ~(unsigned)QR_REGION_TRACKED;
}

/* Backed by the same pages in a row, whatever may be done to them. */
static bool
backing_continues(const struct qr_region *low, const struct qr_region *high)
{
    return low->end.v == high->start.v && low->object == high->object && low->file == high->file &&
           low->max_prot == high->max_prot &&
           (!qr_region_has_offset(low) ||
            low->object_page + qr_region_pages(low) == high->object_page);
}

bool
qr_region_can_merge(const struct qr_region *low, const struct qr_region *high)
{
    return attributes_equal(qr_region_attributes(low), qr_region_attributes(high)) &&
           backing_continues(low, high);
}

/* @high goes into @low; the result is @low. */
static void
region_join(struct qr_change *change, struct qr_region *low, struct qr_region *high)
{
    region_unlink(high);
    region_join_tracking(low, high);
    region_set_extent(low, qr_range_of(low->start.v, high->end.v));
    if (qr_region_is_hugetlb(high)) {
        qr_hugetlb_join_promise(low, high);
        high->hugetlb_reserved = 0;
    }
    qr_tree_update(&low->space->regions, &low->node);
    region_forget(change, high);
}

struct qr_region *
qr_region_merge(struct qr_change *change, struct qr_region *region)
{
    struct qr_region *low = qr_region_previous(region);
    struct qr_region *high = qr_region_next(region);

    if (high != NULL && qr_region_can_merge(region, high))
        region_join(change, region, high);
    if (low != NULL && qr_region_can_merge(low, region)) {
        region_join(change, low, region);
        return low;
    }
    return region;
}

/* ---- Changing attributes ------------------------------------------------------- */

unsigned
qr_region_cuts(const struct qr_region *region, struct qr_va_range range)
{
    return (unsigned)(range.start.v > region->start.v) + (unsigned)(range.end.v < region->end.v);
}

bool
qr_region_may_change(const struct qr_region *region, struct qr_va_range range,
                     struct qr_attributes attributes)
{
    size_t now = region->space->counts.region_count;
    size_t count = now + qr_region_cuts(region, range);
    size_t limit = qr_vm_max_regions(region->space->vm);

    if (qr_likely(count <= limit))
        return true;
    const struct qr_region *low = qr_region_previous(region);
    const struct qr_region *high = qr_region_next(region);

    if (range.start.v == region->start.v && low != NULL && backing_continues(low, region) &&
        attributes_equal(qr_region_attributes(low), attributes))
        count--;
    if (range.end.v == region->end.v && high != NULL && backing_continues(region, high) &&
        attributes_equal(qr_region_attributes(high), attributes))
        count--;
    return count <= limit || count <= now;
}

static void
region_set_listener(struct qr_region *region, struct qr_listener *listener)
{
    struct qr_listener *old = region->listener;

    if (old == listener)
        return;
    if (listener != NULL)
        qr_listener_get(listener);
    region->listener = listener;
    if (old != NULL)
        qr_listener_put(old);
}

struct qr_region *
qr_region_change(struct qr_change *change, struct qr_region *region, struct qr_va_range range,
                 struct qr_attributes attributes)
{
    if (attributes_equal(qr_region_attributes(region), attributes))
        return region;
    if (range.start.v > region->start.v)
        region = qr_region_split(change, region, range.start);
    if (range.end.v < region->end.v)
        (void)qr_region_split(change, region, range.end);

    long pages = (long)qr_region_pages(region);

    /* The tree's summaries depend on growth alone. */
    qr_assert(((attributes.flags ^ region->flags) & QR_REGION_GROWS_DOWN) == 0);
    qr_count_region(region->space, region, -pages);
    region->prot = attributes.prot;
    if (region->object != NULL && ((attributes.flags ^ region->flags) & QR_REGION_LOCKED) != 0)
        qr_object_lock_mapping(region->object, &region->mapping,
                               (attributes.flags & QR_REGION_LOCKED) != 0);
    region->flags = attributes.flags;
    region->pkey = attributes.pkey;
    qr_mempolicy_get(attributes.policy);
    qr_mempolicy_put(region->policy);
    region->policy = attributes.policy;
    qr_count_region(region->space, region, pages);
    region_set_listener(region, attributes.listener);
    return qr_region_merge(change, region);
}

/* ---- Mapping at a known place --------------------------------------------------- */

struct qr_neighbours
qr_space_neighbours(const struct qr_space *space, qr_va va)
{
    struct qr_region *high = qr_space_find(space, va);
    struct qr_region *low =
        high == NULL ? qr_region_of(qr_tree_last(&space->regions)) : qr_region_previous(high);

    return (struct qr_neighbours){low, high};
}

unsigned
qr_map_needs(struct qr_neighbours neighbours, const struct qr_region *like)
{
    if (neighbours.low != NULL && qr_region_can_merge(neighbours.low, like))
        return 0;
    return neighbours.high == NULL || !qr_region_can_merge(like, neighbours.high);
}

struct qr_region *
qr_map_commit(struct qr_change *change, struct qr_neighbours neighbours,
              const struct qr_region *like)
{
    struct qr_region *low = neighbours.low;
    struct qr_region *high = neighbours.high;
    bool joins_high = high != NULL && qr_region_can_merge(like, high);

    if (low != NULL && qr_region_can_merge(low, like)) {
        qr_region_resize(low, qr_range_of(low->start.v, like->end.v));
        region_join_tracking(low, like);
        if (qr_region_is_hugetlb(like))
            qr_hugetlb_join_promise(low, like);
        if (joins_high)
            region_join(change, low, high);
        return low;
    }
    if (joins_high) {
        qr_region_resize(high, qr_range_of(like->start.v, high->end.v));
        region_join_tracking(high, like);
        if (qr_region_is_hugetlb(like))
            qr_hugetlb_join_promise(high, like);
        return high;
    }
    return qr_region_insert(change, like);
}
