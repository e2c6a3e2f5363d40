/* SPDX-License-Identifier: MIT */
/*
 * The index of merged frames: a tree ordered by a hash of their contents.
 *
 * The index has no reference of its own: a merged frame goes with its last entry, like any other.
 * Its free tells us (qr_merge_index_gone()) after the count has become 0 and before the frame can be
 * anything else; so whoever finds a frame here, under the lock, and gets a reference by
 * qr_frame_try_get() has the frame that he looked for, still merged.
 *
 * Frames with equal keys hold the same, or, hardly ever, collide; a new one stands before the older ones,
 * which have all the entries that they may have.
 */
#include "merge.h"

#include <quire/assert.h>

static struct merge_key *
key_of(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct merge_key, node);
}

void
qr_merge_tree_insert(struct qr_tree *tree, struct merge_key *key)
{
    struct qr_tree_node *parent = NULL, *node = tree->root;
    int side = 0;

    while (node != NULL) {
        parent = node;
        side = key_of(node)->key < key->key;
        node = node->child[side];
    }
    qr_tree_insert(tree, &key->node, parent, side);
}

struct merge_key *
qr_merge_tree_find(const struct qr_tree *tree, uint64_t key)
{
    struct merge_key *found = NULL;

    for (struct qr_tree_node *node = tree->root; node != NULL;) {
        struct merge_key *here = key_of(node);

        if (here->key == key)
            found = here;
        node = node->child[here->key < key];
    }
    return found;
}

struct merge_key *
qr_merge_tree_next(const struct merge_key *key)
{
    struct merge_key *next = key_of(qr_tree_next(&key->node));

    return next != NULL && next->key == key->key ? next : NULL;
}

uint64_t
qr_merge_bias(const struct qr_merge *merge, const struct qr_space *space,
              const struct qr_frame *frame)
{
    uint64_t domain = atomic_load_explicit(&space->merge_domain, memory_order_relaxed);
    unsigned node = 0;

    if (!atomic_load_explicit(&merge->across_nodes, memory_order_relaxed))
        node = 1 + qr_frames_zone_node(merge->vm->config.frames, frame->zone);
    return 0x9e3779b97f4a7c15u * (domain << 16 | node); /* odd: no two products are alike */
}

size_t
qr_merge_index_find(struct qr_merge *merge, uint64_t key, struct qr_frame *out_frames[MERGE_TRIES])
{
    unsigned most = atomic_load_explicit(&merge->max_sharing, memory_order_relaxed);
    size_t found = 0;

    qr_spin_lock(&merge->lock);
    struct merge_key *at = qr_merge_tree_find(&merge->stable, key);

    for (unsigned tries = 0; at != NULL && tries < MERGE_TRIES; tries++) {
        struct qr_frame *frame = ((struct merge_node *)at)->frame;

        if (atomic_load_explicit(&frame->maps, memory_order_relaxed) < most &&
            qr_frame_try_get(frame))
            out_frames[found++] = frame;
        at = qr_merge_tree_next(at);
    }
    qr_spin_unlock(&merge->lock);
    return found;
}

/* How many beside @at have its key: 0, 1, or 2 for more. */
static unsigned
count_equals(struct merge_key *at)
{
    unsigned count = 0;
    struct merge_key *other = at;

    while (count < 2 && (other = qr_merge_tree_next(other)) != NULL)
        count++;
    other = at;
    while (count < 2 && (other = key_of(qr_tree_previous(&other->node))) != NULL &&
           other->key == at->key)
        count++;
    return count;
}

/* @at came, or is about to go: a key with two frames or more is a chain.  I. */
static void
count_chain(struct qr_merge *merge, struct merge_key *at, bool came)
{
    unsigned others = count_equals(at);
    size_t copies = others == 0 ? 0 : others == 1 ? 2 : 1;
    size_t chains = others == 1;

    atomic_fetch_add_explicit(&merge->copies, came ? copies : -copies, memory_order_relaxed);
    atomic_fetch_add_explicit(&merge->chains, came ? chains : -chains, memory_order_relaxed);
}

void
qr_merge_index_add(struct qr_merge *merge, struct merge_node *node, struct qr_frame *frame,
                   uint64_t key)
{
    node->at.key = key;
    node->frame = frame;
    atomic_fetch_and_explicit(&frame->flags, ~(uint32_t)QR_FRAME_LAZY, memory_order_relaxed);
    qr_frame_set_type(frame, QR_FRAME_MERGED);
    atomic_store_explicit(&frame->owner, node, memory_order_relaxed);
    frame->kept |= QR_FRAME_CHARGED; /* its free tells us */
    qr_spin_lock(&merge->lock);
    qr_merge_tree_insert(&merge->stable, &node->at);
    count_chain(merge, &node->at, true);
    qr_spin_unlock(&merge->lock);
}

void
qr_merge_index_gone(void *context, struct qr_frame *frame)
{
    struct qr_merge *merge = context;
    struct merge_node *node = atomic_load_explicit(&frame->owner, memory_order_relaxed);

    qr_assert(node->frame == frame);
    qr_spin_lock(&merge->lock);
    count_chain(merge, &node->at, false);
    qr_tree_remove(&merge->stable, &node->at.node);
    qr_spin_unlock(&merge->lock);
    qr_cache_free(merge->nodes, node);
}
