/* SPDX-License-Identifier: MIT */
/*
 * Compaction: slabs that hold little are emptied into others, object by object, and given
 * back (the idea is that of illumos's slab consolidator).
 *
 * The slab that holds least is isolated: it leaves the lists, so nothing more is taken from it,
 * while frees still find it.  For each of its objects that is out, another one is
 * taken from a partial slab and the cache's move callback asked to make it the same.  Only the
 * owner knows what points at an object and whether it is free in this moment (it may lie in
 * a magazine): that is the callback's part.  Where it agrees, the old object is free; where not,
 * the new one goes back.
 *
 * It ends where no slab is less than half full, or the rest has no room for another's.  At
 * most as many slabs are tried as there were.  Locks: the node's, never during a callback.
 */
#include "heap.h"

/* The partial slab with the fewest objects, isolated; NULL where none is worth it. */
static struct slab *
slab_isolate(struct cache_node *node)
{
    struct slab *sparse = NULL;
    size_t room = 0;

    qr_spin_lock(&node->lock);
    qr_list_for_each(link, &node->partial)
    {
        struct slab *slab = qr_list_entry(link, struct slab, link);

        room += (size_t)(slab->count - slab->in_use);
        if (!slab->isolated && (sparse == NULL || slab->in_use < sparse->in_use))
            sparse = slab;
    }
    if (sparse != NULL && (sparse->in_use * 2 > sparse->count ||
                           room - (size_t)(sparse->count - sparse->in_use) < sparse->in_use))
        sparse = NULL;
    if (sparse != NULL) {
        qr_list_remove(&sparse->link);
        qr_list_init(&sparse->link);
        sparse->isolated = true;
    }
    qr_spin_unlock(&node->lock);
    return sparse;
}

static bool
is_out(struct cache_node *node, const struct slab *slab, unsigned index)
{
    bool out;

    qr_spin_lock(&node->lock);
    out = (slab->free[index / 64] >> index % 64 & 1) == 0;
    qr_spin_unlock(&node->lock);
    return out;
}

/* @return false where there is nowhere to move it to */
static bool
object_move(struct qr_cache *cache, unsigned node, void *from)
{
    void *to;

    if (qr_slabs_take(cache, node, 1, &to) == 0)
        return false;
    qr_heap_mark_used(cache, to, cache->object_bytes, CALLER());
    if (cache->move(cache->move_context, from, to)) {
        if (heap_tracks_objects(cache->heap))
            qr_track_move(cache->heap, from, to);
        qr_heap_mark_free(cache, from, CALLER());
        qr_slabs_give(cache, 1, &from);
    } else {
        qr_heap_mark_free(cache, to, CALLER());
        qr_slabs_give(cache, 1, &to);
    }
    return true;
}

/* Back into the lists, or out of the books where it is empty.  @return frames freed */
static size_t
slab_reinstate(struct qr_cache *cache, struct cache_node *node, struct slab *slab)
{
    bool empty;

    qr_spin_lock(&node->lock);
    slab->isolated = false;
    empty = slab->in_use == 0;
    if (empty) {
        node->empty_count--;
        node->slab_count--;
        node->frame_count -= (size_t)1 << slab->order;
        node->total_objects -= slab->count;
    } else {
        qr_slab_relist(node, slab);
    }
    qr_spin_unlock(&node->lock);
    return empty ? qr_slab_release(cache, slab) : 0;
}

size_t
qr_slabs_compact(struct qr_cache *cache)
{
    size_t released = 0;

    for (unsigned n = 0; n < cache->heap->node_count; n++) {
        struct cache_node *node = &cache->nodes[n];

        for (size_t left = node->slab_count; left > 0; left--) {
            struct slab *slab = slab_isolate(node);
            size_t freed;

            if (slab == NULL)
                break;
            for (unsigned i = 0; i < slab->count; i++) {
                if (is_out(node, slab, i) &&
                    !object_move(cache, n, slab->base + (size_t)i * cache->stride))
                    break;
            }
            freed = slab_reinstate(cache, node, slab);
            if (freed == 0)
                break; /* its owner will not let go: the next sparsest is the same one */
            released += freed;
        }
    }
    return released;
}
