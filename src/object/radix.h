/* SPDX-License-Identifier: MIT */
#ifndef QR_OBJECT_RADIX_H
#define QR_OBJECT_RADIX_H

/*
 * A sparse array from page index to pointer: a radix tree of 64-way nodes whose
 * height follows the largest index.  The owner's lock guards it.
 */

#include <quire/heap.h>

#define RADIX_BITS       6u
#define RADIX_SLOTS      (1u << RADIX_BITS)
#define RADIX_LEVELS_MAX 9u /* 54 bits: more pages than 64-bit offsets have */

struct radix_node {
    unsigned count; /* slots in use */
    void *slots[RADIX_SLOTS];
};

struct radix {
    struct radix_node *root; /* NULL: empty */
    unsigned levels;         /* of nodes; 0 where empty */
};

/* Nodes set aside before the lock is taken, so that an insertion cannot fail. */
struct radix_spares {
    struct radix_node *first; /* chained through slot 0 */
    unsigned count;
};

void *qr_radix_get(const struct radix *radix, size_t index);

/*
 * The places from @index on that one node holds, *out_count of them; NULL: these are empty.
 */
void *const *qr_radix_run(const struct radix *radix, size_t index, size_t *out_count);

/* How many nodes an insertion at @index needs at most, as the tree stands now. */
unsigned qr_radix_nodes_needed(const struct radix *radix, size_t index);

/* The same for an aligned run of @count places, whatever the tree is like. */
static inline unsigned
qr_radix_nodes_of_run(size_t count)
{
    unsigned nodes = 2 * RADIX_LEVELS_MAX;

    for (size_t leaves = count >> RADIX_BITS; leaves > 0; leaves >>= RADIX_BITS)
        nodes += (unsigned)leaves;
    return nodes;
}
/* Fill @spares up to @count; false when memory is exhausted (spares keep what they have). */
bool qr_radix_spares_fill(struct radix_spares *spares, unsigned count, struct qr_cache *nodes,
                          unsigned alloc_flags);
void qr_radix_spares_release(struct radix_spares *spares, struct qr_cache *nodes);

/* Set the empty slot @index; @spares holds what qr_radix_nodes_needed() said under the same lock. */
void qr_radix_insert(struct radix *radix, size_t index, void *item, struct radix_spares *spares);
/* Put @item in the place of what stands at @index, which is something. */
void qr_radix_replace(struct radix *radix, size_t index, void *item);
/* Empty slot @index, free nodes that became empty; returns what was there, or NULL. */
void *qr_radix_remove(struct radix *radix, size_t index, struct qr_cache *nodes);
/* How many nodes go when what stands at @index is removed; 0: nothing does. */
unsigned qr_radix_nodes_alone(const struct radix *radix, size_t index);
/* The first item at or after *@index; sets *@index to its place; NULL where none. */
void *qr_radix_next(const struct radix *radix, size_t *index);

#endif
