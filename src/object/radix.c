/* SPDX-License-Identifier: MIT */
/*
 * The page index of an object.
 *
 *   levels 2:   root          slot = index bits 6..11
 *              /  |  \
 *           leaf leaf ...     slot = index bits 0..5, holds the item
 *
 * The tree is as high as its largest index needs: it grows by putting a new root
 * above the old one, and shrinks by freeing nodes that became empty.  Insertion
 * never allocates: the nodes it may need are counted beforehand and set aside,
 * so memory is asked for where it is allowed to sleep.
 *
 * Invariants: 1 every node has count > 0 and exactly count non-NULL slots;
 * 2 levels == 0 if and only if root == NULL.
 */
#include "radix.h"

#include <quire/assert.h>

static unsigned
radix_shift(unsigned level)
{
    return level * RADIX_BITS;
}

static unsigned
radix_slot(size_t index, unsigned level)
{
    return (unsigned)(index >> radix_shift(level)) & (RADIX_SLOTS - 1);
}

/* Levels that an index needs: 1 for below 64, 2 for below 4096, ... */
static unsigned
radix_levels_for(size_t index)
{
    unsigned levels = 1;

    while (levels < RADIX_LEVELS_MAX && (index >> radix_shift(levels)) != 0)
        levels++;
    return levels;
}

static bool
radix_covers(const struct radix *radix, size_t index)
{
    return radix->levels != 0 && (uint64_t)index >> radix_shift(radix->levels) == 0;
}

/* The node on level 0 where @index has its place, or NULL. */
static inline const struct radix_node *
radix_leaf(const struct radix *radix, size_t index)
{
    if (!radix_covers(radix, index))
        return NULL;
    const struct radix_node *node = radix->root;

    for (unsigned level = radix->levels - 1; level > 0 && node != NULL; level--)
        node = node->slots[radix_slot(index, level)];
    return node;
}

void *
qr_radix_get(const struct radix *radix, size_t index)
{
    const struct radix_node *leaf = radix_leaf(radix, index);

    return leaf == NULL ? NULL : leaf->slots[radix_slot(index, 0)];
}

void *const *
qr_radix_run(const struct radix *radix, size_t index, size_t *out_count)
{
    const struct radix_node *leaf = radix_leaf(radix, index);
    unsigned slot = radix_slot(index, 0);

    *out_count = RADIX_SLOTS - slot;
    return leaf == NULL ? NULL : &leaf->slots[slot];
}

unsigned
qr_radix_nodes_needed(const struct radix *radix, size_t index)
{
    unsigned levels = radix_levels_for(index);

    if (radix->levels == 0)
        return levels;
    /* New roots above the old one, and a fresh path beside it. */
    return levels > radix->levels ? 2 * levels - radix->levels : radix->levels - 1;
}

bool
qr_radix_spares_fill(struct radix_spares *spares, unsigned count, struct qr_cache *nodes,
                     unsigned alloc_flags)
{
    while (spares->count < count) {
        struct radix_node *node = qr_cache_alloc(nodes, alloc_flags);

        if (node == NULL)
            return false;
        node->slots[0] = spares->first;
        spares->first = node;
        spares->count++;
    }
    return true;
}

static struct radix_node *
spares_pop(struct radix_spares *spares)
{
    struct radix_node *node = spares->first;

    qr_assert(spares->count > 0);
    spares->first = node->slots[0];
    spares->count--;
    return node;
}

void
qr_radix_spares_release(struct radix_spares *spares, struct qr_cache *nodes)
{
    while (spares->count > 0)
        qr_cache_free(nodes, spares_pop(spares));
}

static struct radix_node *
spares_take(struct radix_spares *spares)
{
    struct radix_node *node = spares_pop(spares);

    node->count = 0;
    for (unsigned i = 0; i < RADIX_SLOTS; i++)
        node->slots[i] = NULL;
    return node;
}

static void
radix_grow(struct radix *radix, unsigned levels, struct radix_spares *spares)
{
    if (radix->levels == 0) {
        radix->root = spares_take(spares);
        radix->levels = levels;
    }
    while (radix->levels < levels) {
        struct radix_node *root = spares_take(spares);

        root->slots[0] = radix->root;
        root->count = 1;
        radix->root = root;
        radix->levels++;
    }
}

void
qr_radix_insert(struct radix *radix, size_t index, void *item, struct radix_spares *spares)
{
    radix_grow(radix, radix_levels_for(index), spares);
    struct radix_node *node = radix->root;

    for (unsigned level = radix->levels - 1; level > 0; level--) {
        void **slot = &node->slots[radix_slot(index, level)];

        if (*slot == NULL) {
            *slot = spares_take(spares);
            node->count++;
        }
        node = *slot;
    }
    void **slot = &node->slots[radix_slot(index, 0)];

    qr_assert(*slot == NULL);
    *slot = item;
    node->count++;
}

void
qr_radix_replace(struct radix *radix, size_t index, void *item)
{
    qr_assert(item != NULL && radix_covers(radix, index));
    struct radix_node *node = radix->root;

    for (unsigned level = radix->levels - 1; level > 0; level--) {
        node = node->slots[radix_slot(index, level)];
        qr_assert(node != NULL);
    }
    void **slot = &node->slots[radix_slot(index, 0)];

    qr_assert(*slot != NULL);
    *slot = item;
}

void *
qr_radix_remove(struct radix *radix, size_t index, struct qr_cache *nodes)
{
    struct radix_node *path[RADIX_LEVELS_MAX];
    void *item = qr_radix_get(radix, index);

    if (item == NULL)
        return NULL;
    path[radix->levels - 1] = radix->root;
    for (unsigned level = radix->levels - 1; level > 0; level--)
        path[level - 1] = path[level]->slots[radix_slot(index, level)];
    for (unsigned level = 0; level < radix->levels; level++) {
        path[level]->slots[radix_slot(index, level)] = NULL;
        if (--path[level]->count > 0)
            return item;
        qr_cache_free(nodes, path[level]);
    }
    radix->root = NULL;
    radix->levels = 0;
    return item;
}

unsigned
qr_radix_nodes_alone(const struct radix *radix, size_t index)
{
    const struct radix_node *node = radix->root;
    unsigned alone = 0;

    if (!radix_covers(radix, index))
        return 0;
    for (unsigned level = radix->levels - 1; node != NULL; level--) {
        alone = node->count == 1 ? alone + 1 : 0;
        if (level == 0)
            return node->slots[radix_slot(index, 0)] == NULL ? 0 : alone;
        node = node->slots[radix_slot(index, level)];
    }
    return 0;
}

/*
 * Descend towards *@index; where a slot is empty, step to the next one that is
 * not, which clears all index bits below it.  Past a node's last slot the search
 * starts again from the root with the index just behind that node.
 */
void *
qr_radix_next(const struct radix *radix, size_t *index)
{
    size_t at = *index;

    while (radix_covers(radix, at)) {
        const struct radix_node *node = radix->root;
        unsigned level = radix->levels - 1;

        for (;;) {
            unsigned slot = radix_slot(at, level);
            unsigned used = slot;

            while (used < RADIX_SLOTS && node->slots[used] == NULL)
                used++;
            if (used != slot)
                at = ((at >> radix_shift(level)) + (used - slot)) << radix_shift(level);
            if (used == RADIX_SLOTS)
                break;
            if (level == 0) {
                *index = at;
                return node->slots[used];
            }
            node = node->slots[used];
            level--;
        }
        if (level == radix->levels - 1)
            return NULL;
    }
    return NULL;
}
