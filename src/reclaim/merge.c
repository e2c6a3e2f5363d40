/* SPDX-License-Identifier: MIT */
/*
 * Merging of equal pages (Linux's KSM).
 *
 *   stable     merged frames, by what their contents hash to        merge_index.c
 *   unstable   pages that did not change since the last round, likewise; thrown away each round
 *   items      one for each page that is looked at and not merged, in the order of the scan
 *
 * The scan goes through the mergeable regions of all spaces by id and address.  For each page in memory:
 *
 *   a merged frame holds the same?       the page shows that from now on
 *   not what it was the last time?       it may change again: leave it alone this round
 *   a page of the unstable tree, too?    that becomes a merged frame where it stands, then this joins it
 *   else                                 into the unstable tree
 *
 * A hash finds who may be equal.  Who is equal is said by all the bytes, compared while neither can be
 * written: a merged frame never is, and the page's entry is taken out (merge_page.c).  What the trees say
 * of pages may be out of date and is only a place to look.
 *
 * The first of two pages is merged before the second is compared.  If that was changed meanwhile, the
 * first stays a merged frame with one entry: its next store copies it, and equals find it until then.
 *
 * Because the items stand in the order in which pages come, one pointer goes along with the scan: items
 * that it passes without meeting their pages belong to pages that are gone.
 *
 * Equal pages of spaces that are not of one domain are strangers: their keys differ, and are all that
 * anything is found by.
 *
 * Memory: an item of 64 bytes (40 on i386) for a page that is not merged, a node of 56 for a merged
 * frame, which has saved at least a page unless its equals have gone.
 *
 * Locks: the caller keeps scans, undo and configure apart.  S of one space at a time, for reading.
 */
#include "merge.h"

#include <quire/assert.h>

#include <quire/writer.h>

#define STATE_MASK ((uintptr_t)3)

static enum merge_state
item_state(const struct merge_item *item)
{
    return (enum merge_state)(item->where & STATE_MASK);
}

static uintptr_t
item_va(const struct merge_item *item)
{
    return item->where & ~STATE_MASK;
}

static void
item_set_state(struct qr_merge *merge, struct merge_item *item, enum merge_state state)
{
    atomic_fetch_sub_explicit(&merge->count[item_state(item)], 1, memory_order_relaxed);
    item->where = item_va(item) | (uintptr_t)state;
    atomic_fetch_add_explicit(&merge->count[state], 1, memory_order_relaxed);
}

/* ---- The items ----------------------------------------------------------------------- */

/* The item at the cursor goes; it is not in the unstable tree. */
static void
item_drop(struct qr_merge *merge)
{
    struct merge_item *item = *merge->cursor;

    *merge->cursor = item->next;
    atomic_fetch_sub_explicit(&merge->count[item_state(item)], 1, memory_order_relaxed);
    qr_cache_free(merge->items, item);
}

/* A new item for the page, at the cursor; NULL: no memory. */
static struct merge_item *
item_add(struct qr_merge *merge, qr_va va)
{
    struct merge_item *item = qr_cache_alloc(merge->items, QR_ALLOC_NO_REPORT);

    if (item == NULL)
        return NULL;
    *item = (struct merge_item){
        .next = *merge->cursor,
        .space_id = merge->space_id,
        .where = va.v | (uintptr_t)MERGE_CHANGING,
    };
    *merge->cursor = item;
    atomic_fetch_add_explicit(&merge->count[MERGE_CHANGING], 1, memory_order_relaxed);
    return item;
}

static bool
item_is_before(const struct merge_item *item, uint64_t space_id, uintptr_t va)
{
    return item->space_id < space_id || (item->space_id == space_id && item_va(item) < va);
}

/* The item of the page at @va, where the cursor is then; NULL: it has none. */
static struct merge_item *
item_seek(struct qr_merge *merge, qr_va va)
{
    struct merge_item *item;

    while ((item = *merge->cursor) != NULL && item_is_before(item, merge->space_id, va.v))
        item_drop(merge);
    return item != NULL && item->space_id == merge->space_id && item_va(item) == va.v ? item : NULL;
}

/* All items behind the cursor go. */
static void
items_drop_rest(struct qr_merge *merge)
{
    while (*merge->cursor != NULL)
        item_drop(merge);
}

static void
round_begin(struct qr_merge *merge)
{
    merge->unstable.root = NULL;
    merge->cursor = &merge->first;
    merge->space_id = 0;
    merge->va = qr_va_of(0);
}

/* ---- One page -------------------------------------------------------------------------- */

/* Is there a merged frame of the same contents?  Then the page shows it. */
static enum qr_status
join_stable(struct qr_merge *merge, struct qr_space *space, const struct merge_seen *seen)
{
    struct qr_frame *frames[MERGE_TRIES];
    size_t count = qr_merge_index_find(merge, seen->key, frames);
    enum qr_status status = QR_ERR_NOT_FOUND;

    for (size_t i = 0; i < count; i++) {
        if (status == QR_ERR_NOT_FOUND) {
            status = qr_merge_join(merge, space, seen->va, frames[i]);
            if (status == QR_OK)
                continue; /* the entry has the reference */
        }
        qr_frame_put(merge->vm->config.frames, frames[i]);
    }
    return status;
}

/* A page of this round with the same key becomes a merged frame, if it is still what it was. */
static bool
raise_unstable(struct qr_merge *merge, uint64_t key)
{
    struct merge_item *item = (struct merge_item *)qr_merge_tree_find(&merge->unstable, key);
    struct qr_space *space;
    enum qr_status status = QR_ERR_BUSY;

    if (item == NULL)
        return false;
    qr_tree_remove(&merge->unstable, &item->at.node);
    space = qr_space_by_id(merge->vm, item->space_id);
    if (space != NULL) {
        status = qr_merge_found(merge, space, qr_va_of(item_va(item)), key);
        qr_space_put(space);
    }
    item_set_state(merge, item, status == QR_OK ? MERGE_DONE : MERGE_CHANGING);
    return status == QR_OK;
}

/* Has the page been as it is now for a round?  It has an item then. */
static bool
page_is_steady(struct qr_merge *merge, const struct merge_seen *seen)
{
    struct merge_item *item = item_seek(merge, seen->va);
    bool known = item != NULL && item_state(item) != MERGE_DONE;

    if (item == NULL)
        item = item_add(merge, seen->va);
    if (item == NULL)
        return false;
    bool same = known && item->at.key == seen->key;

    item->at.key = seen->key;
    item_set_state(merge, item, MERGE_CHANGING);
    if (!same)
        merge->cursor = &item->next;
    return same;
}

static void
page_scan(struct qr_merge *merge, struct qr_space *space, const struct merge_seen *seen)
{
    enum qr_status status = QR_ERR_BUSY;

    if (seen->candidate)
        status = join_stable(merge, space, seen);
    if (status == QR_ERR_NOT_FOUND) {
        if (!page_is_steady(merge, seen))
            return;
        if (seen->zero && atomic_load_explicit(&merge->use_zero_pages, memory_order_relaxed))
            status = qr_merge_join(merge, space, seen->va, NULL);
        else if (raise_unstable(merge, seen->key))
            status = join_stable(merge, space, seen);
    }
    struct merge_item *item = item_seek(merge, seen->va);

    if (item == NULL)
        return;
    if (status != QR_ERR_NOT_FOUND) { /* it is merged, or in use */
        item_drop(merge);
        return;
    }
    qr_merge_tree_insert(&merge->unstable, &item->at);
    item_set_state(merge, item, MERGE_UNSHARED);
    merge->cursor = &item->next;
}

/* ---- The scan ------------------------------------------------------------------------------ */

/* Go on in @space; false: it is done.  *@io_pages is how many pages more are to be looked at. */
static bool
merge_scan_space(struct qr_merge *merge, struct qr_space *space, size_t *io_pages)
{
    struct merge_seen seen;

    if (!qr_space_is_mergeable(space))
        return false;
    while (*io_pages > 0) {
        if (!qr_merge_look(merge, space, merge->va, &seen))
            return false;
        page_scan(merge, space, &seen);
        merge->va = qr_va_of(seen.va.v + QR_PAGE_SIZE);
        --*io_pages;
    }
    return true;
}

size_t
qr_merge_scan(struct qr_merge *merge, size_t pages)
{
    size_t left = pages;
    struct qr_space *space;

    while (left > 0 && (space = qr_space_scan(merge->vm, &merge->space_id, &merge->va)) != NULL) {
        if (!merge_scan_space(merge, space, &left))
            merge->va = qr_va_of(0);
        qr_space_put(space);
    }
    if (left > 0) {
        items_drop_rest(merge);
        round_begin(merge);
        atomic_fetch_add_explicit(&merge->full_scans, 1, memory_order_relaxed);
    }
    return pages - left;
}

bool
qr_merge_wanted(struct qr_merge *merge)
{
    struct qr_space *space = NULL;

    while ((space = qr_space_next(merge->vm, space)) != NULL) {
        if (qr_space_is_mergeable(space)) {
            qr_space_put(space);
            return true;
        }
    }
    return false;
}

size_t
qr_merge_seen_pages(const struct qr_merge *merge, const struct qr_space *space)
{
    size_t count = 0;

    for (const struct merge_item *item = merge->first;
         item != NULL && item->space_id <= space->tlb.id; item = item->next)
        count += item->space_id == space->tlb.id && item_state(item) != MERGE_DONE;
    return count;
}

/* ---- Undoing ------------------------------------------------------------------------------- */

static enum qr_status
undo_space(struct qr_space *space)
{
    enum qr_status status = QR_OK;

    qr_rw_read_lock(&space->lock);
    for (const struct qr_region *region = qr_space_find(space, qr_va_of(0));
         region != NULL && status == QR_OK; region = qr_region_next(region)) {
        if ((region->flags & QR_REGION_MERGEABLE) != 0)
            status = qr_unmerge_range(region, qr_region_range(region));
    }
    qr_rw_read_unlock(&space->lock);
    return status;
}

static void
forget(struct qr_merge *merge)
{
    round_begin(merge);
    items_drop_rest(merge);
}

enum qr_status
qr_merge_undo(struct qr_merge *merge)
{
    struct qr_space *space = NULL;
    enum qr_status status = QR_OK;

    forget(merge);
    while (status == QR_OK && (space = qr_space_next(merge->vm, space)) != NULL) {
        if (qr_space_is_mergeable(space))
            status = undo_space(space);
    }
    if (space != NULL)
        qr_space_put(space);
    return status;
}

/* ---- Settings and figures ---------------------------------------------------------------------- */

struct qr_merge_settings
qr_merge_settings(const struct qr_merge *merge)
{
    return (struct qr_merge_settings){
        .max_sharing = atomic_load_explicit(&merge->max_sharing, memory_order_relaxed),
        .across_nodes = atomic_load_explicit(&merge->across_nodes, memory_order_relaxed),
        .use_zero_pages = atomic_load_explicit(&merge->use_zero_pages, memory_order_relaxed),
    };
}

enum qr_status
qr_merge_configure(struct qr_merge *merge, const struct qr_merge_settings *settings)
{
    struct qr_merge_settings now = qr_merge_settings(merge);
    struct qr_merge_stats stats;

    if (settings->max_sharing < 2)
        return QR_ERR_INVALID;
    qr_merge_stats(merge, &stats);
    if ((settings->max_sharing != now.max_sharing && stats.shared != 0) ||
        (settings->across_nodes != now.across_nodes && stats.shared != 0))
        return QR_ERR_BUSY;
    atomic_store_explicit(&merge->max_sharing, settings->max_sharing, memory_order_relaxed);
    atomic_store_explicit(&merge->across_nodes, settings->across_nodes, memory_order_relaxed);
    atomic_store_explicit(&merge->use_zero_pages, settings->use_zero_pages, memory_order_relaxed);
    if (settings->across_nodes != now.across_nodes)
        forget(merge); /* contents have other keys now */
    return QR_OK;
}

void
qr_merge_stats(struct qr_merge *merge, struct qr_merge_stats *out_stats)
{
    struct qr_counters *counters = merge->vm->counters;
    size_t shared = (size_t)qr_counter_read(counters, QR_PAGES_MERGED);
    size_t maps = (size_t)qr_counter_read(counters, QR_PAGES_MERGE_MAPS);

    *out_stats = (struct qr_merge_stats){
        .shared = shared,
        .sharing = maps > shared ? maps - shared : 0,
        .unshared = atomic_load_explicit(&merge->count[MERGE_UNSHARED], memory_order_relaxed),
        .changing = atomic_load_explicit(&merge->count[MERGE_CHANGING], memory_order_relaxed),
        .full_scans = atomic_load_explicit(&merge->full_scans, memory_order_relaxed),
        .copies = atomic_load_explicit(&merge->copies, memory_order_relaxed),
        .chains = atomic_load_explicit(&merge->chains, memory_order_relaxed),
    };
}

/* ---- Life -------------------------------------------------------------------------------------- */

static enum qr_status
create_caches(struct qr_merge *merge)
{
    const struct qr_cache_config node = {.name = "merge_node",
                                         .object_bytes = sizeof(struct merge_node)};
    const struct qr_cache_config item = {.name = "merge_item",
                                         .object_bytes = sizeof(struct merge_item)};
    enum qr_status status = qr_cache_create(merge->vm->config.heap, &node, &merge->nodes);

    if (status != QR_OK)
        return status;
    status = qr_cache_create(merge->vm->config.heap, &item, &merge->items);
    if (status != QR_OK)
        (void)qr_cache_destroy(merge->nodes);
    return status;
}

enum qr_status
qr_merge_create(struct qr_vm *vm, struct qr_merge **out_merge)
{
    struct qr_merge *merge = qr_kmalloc(vm->config.heap, sizeof(*merge), QR_ALLOC_ZERO);

    if (merge == NULL)
        return QR_ERR_NO_MEMORY;
    merge->vm = vm;
    enum qr_status status = create_caches(merge);

    if (status != QR_OK) {
        qr_kfree(vm->config.heap, merge);
        return status;
    }
    qr_spin_init(&merge->lock, QR_RANK_REGISTRY);
    atomic_init(&merge->max_sharing, 256);
    atomic_init(&merge->across_nodes, true);
    merge->zero_hash = qr_frame_hash(vm->config.frames, vm->zero);
    round_begin(merge);
    qr_frames_set_merged(vm->config.frames, qr_merge_index_gone, merge);
    *out_merge = merge;
    return QR_OK;
}

size_t
qr_merge_destroy(struct qr_merge *merge)
{
    struct qr_vm *vm = merge->vm;
    size_t left = 0;

    for (struct qr_tree_node *node = qr_tree_first(&merge->stable); node != NULL;
         node = qr_tree_next(node))
        left++;
    if (left > 0)
        return left;
    forget(merge);
    qr_frames_set_merged(vm->config.frames, NULL, NULL);
    (void)qr_cache_destroy(merge->nodes);
    (void)qr_cache_destroy(merge->items);
    qr_kfree(vm->config.heap, merge);
    return 0;
}

/* ---- Validation ---------------------------------------------------------------------------------- */

/*
 * Numbered: 1 both trees are balanced and ordered; 2 a node's frame is merged, knows it, and holds what
 * its key says; 3 items stand in the order of the scan; 4 they are as many as counted.
 */
static const char *
check_tree(const struct qr_tree *tree)
{
    const struct merge_key *before = NULL;

    if (!qr_tree_validate(tree))
        return "1: a tree is out of balance";
    for (struct qr_tree_node *node = qr_tree_first(tree); node != NULL; node = qr_tree_next(node)) {
        const struct merge_key *key = qr_container_of(node, struct merge_key, node);

        if (before != NULL && before->key > key->key)
            return "1: a tree is out of order";
        before = key;
    }
    return NULL;
}

static const char *
check_nodes(const struct qr_merge *merge)
{
    for (struct qr_tree_node *at = qr_tree_first(&merge->stable); at != NULL;
         at = qr_tree_next(at)) {
        const struct merge_node *node = (const struct merge_node *)at;

        if (qr_frame_type(node->frame) != QR_FRAME_MERGED ||
            atomic_load_explicit(&node->frame->owner, memory_order_relaxed) != node)
            return "2: a node's frame is not merged, or another's";
        if (qr_frame_hash(merge->vm->config.frames, node->frame) + node->bias != node->at.key)
            return "2: a merged frame was written";
    }
    return NULL;
}

static const char *
check_items(const struct qr_merge *merge)
{
    size_t count[QR_ARRAY_COUNT(merge->count)] = {0};

    for (const struct merge_item *item = merge->first; item != NULL; item = item->next) {
        count[item_state(item)]++;
        if (item->next != NULL && !item_is_before(item, item->next->space_id, item_va(item->next)))
            return "3: items are out of order";
    }
    for (size_t i = 0; i < QR_ARRAY_COUNT(count); i++) {
        if (count[i] != atomic_load_explicit(&merge->count[i], memory_order_relaxed))
            return "4: items are not as many as counted";
    }
    return NULL;
}

bool
qr_merge_validate(struct qr_merge *merge, char *out_message, size_t bytes)
{
    const char *wrong = check_tree(&merge->stable);

    if (wrong == NULL)
        wrong = check_tree(&merge->unstable);
    if (wrong == NULL)
        wrong = check_nodes(merge);
    if (wrong == NULL)
        wrong = check_items(merge);
    if (wrong == NULL)
        return true;
    (void)qr_format(out_message, bytes, "%s", wrong);
    return false;
}
