/* SPDX-License-Identifier: MIT */
/*
 * Memory policies: life, comparison, and the policies of an object's pages.
 *
 *   pages   0       4         9    12
 *           |  none |   bind  |none|  interleave ...
 *
 * Runs of pages with a policy stand in a tree by their first page; they do not overlap.
 * Setting one cuts what it meets: at most one run more than before at either end.  Both new
 * runs are made first, so that nothing has changed where memory is short.
 *
 * Most objects have none, and are asked without a lock: a page that is made while a policy is
 * being set may come from before it.
 */
#include "objects.h"

#include <quire/assert.h>

/* ---- life -------------------------------------------------------------------- */

struct qr_mempolicy *
qr_mempolicy_create(struct qr_heap *heap, const struct qr_policy *policy,
                    enum qr_node_naming naming, const struct qr_node_set *named)
{
    struct qr_mempolicy *created = qr_kmalloc(heap, sizeof(*created), 0);

    if (created == NULL)
        return NULL;
    *created = (struct qr_mempolicy){
        .heap = heap,
        .naming = (uint8_t)naming,
        .named = *named,
        .policy = *policy,
    };
    atomic_init(&created->refs, 1);
    return created;
}

void
qr_mempolicy_get(struct qr_mempolicy *policy)
{
    if (policy != NULL)
        atomic_fetch_add_explicit(&policy->refs, 1, memory_order_relaxed);
}

void
qr_mempolicy_put(struct qr_mempolicy *policy)
{
    if (policy == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&policy->refs, 1, memory_order_acq_rel);

    qr_assert(before != 0);
    if (before == 1)
        qr_kfree(policy->heap, policy);
}

static bool
sets_equal(const struct qr_node_set *a, const struct qr_node_set *b)
{
    for (size_t i = 0; i < QR_ARRAY_COUNT(a->bits); i++) {
        if (a->bits[i] != b->bits[i])
            return false;
    }
    return true;
}

bool
qr_mempolicy_equal(const struct qr_mempolicy *a, const struct qr_mempolicy *b)
{
    if (a == b)
        return true;
    return a != NULL && b != NULL && a->policy.mode == b->policy.mode && a->naming == b->naming &&
           a->balance == b->balance && a->policy.home == b->policy.home &&
           sets_equal(&a->named, &b->named) && sets_equal(&a->policy.nodes, &b->policy.nodes);
}

void
qr_objects_set_thread_policy(struct qr_objects *objects, qr_thread_policy_fn fn)
{
    atomic_store_explicit(&objects->thread_policy, fn, memory_order_release);
}

/* ---- runs of pages --------------------------------------------------------------- */

struct policy_run {
    struct qr_tree_node node; /* object->policies, by first; L */
    size_t first, last;
    struct qr_mempolicy *policy; /* one reference */
};

static struct policy_run *
run_of(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct policy_run, node);
}

/* The run that holds @index, or the first one above it; or NULL. */
static struct policy_run *
run_find(const struct qr_object *object, size_t index)
{
    struct qr_tree_node *node = object->policies.root;
    struct policy_run *found = NULL;

    while (node != NULL) {
        struct policy_run *run = run_of(node);

        if (run->last > index) {
            found = run;
            node = node->child[0];
        } else {
            node = node->child[1];
        }
    }
    return found;
}

static void
run_insert(struct qr_object *object, struct policy_run *run)
{
    struct qr_tree_node *parent = NULL;
    struct qr_tree_node *node = object->policies.root;
    int side = 0;

    while (node != NULL) {
        parent = node;
        side = run->first > run_of(node)->first;
        node = node->child[side];
    }
    qr_tree_insert(&object->policies, &run->node, parent, side);
}

/*
 * Make room for [first, last).  @spare is used, and then NULL, where one run is cut in two.
 * @return the runs that were dropped, chained through node.parent
 */
static struct qr_tree_node *
runs_clear(struct qr_object *object, size_t first, size_t last, struct policy_run **spare)
{
    struct qr_tree_node *dropped = NULL;
    struct policy_run *run = run_find(object, first);

    while (run != NULL && run->first < last) {
        struct policy_run *next = run_of(qr_tree_next(&run->node));

        if (run->first < first && run->last > last) {
            qr_assert(*spare != NULL); /* only one run can reach across both ends */
            **spare = (struct policy_run){.first = last, .last = run->last, .policy = run->policy};
            qr_mempolicy_get(run->policy);
            run->last = first;
            run_insert(object, *spare);
            *spare = NULL;
        } else if (run->first < first) {
            run->last = first;
        } else if (run->last > last) {
            run->first = last;
        } else {
            qr_tree_remove(&object->policies, &run->node);
            run->node.parent = dropped;
            dropped = &run->node;
        }
        run = next;
    }
    return dropped;
}

static void
runs_free(struct qr_heap *heap, struct qr_tree_node *dropped)
{
    while (dropped != NULL) {
        struct policy_run *run = run_of(dropped);

        dropped = dropped->parent;
        qr_mempolicy_put(run->policy);
        qr_kfree(heap, run);
    }
}

enum qr_status
qr_object_set_policy(struct qr_object *object, size_t first, size_t last,
                     struct qr_mempolicy *policy)
{
    struct qr_heap *heap = object->machine->heap;
    struct policy_run *run = policy == NULL ? NULL : qr_kmalloc(heap, sizeof(*run), 0);
    struct policy_run *spare = qr_kmalloc(heap, sizeof(*spare), 0);

    if (spare == NULL || (policy != NULL && run == NULL)) {
        qr_kfree(heap, run);
        qr_kfree(heap, spare);
        return QR_ERR_NO_MEMORY;
    }
    qr_spin_lock(&object->policy_lock);
    struct qr_tree_node *dropped = runs_clear(object, first, last, &spare);

    if (run != NULL) {
        *run = (struct policy_run){.first = first, .last = last, .policy = policy};
        qr_mempolicy_get(policy);
        run_insert(object, run);
    }
    qr_spin_unlock(&object->policy_lock);
    runs_free(heap, dropped);
    qr_kfree(heap, spare);
    return QR_OK;
}

struct qr_mempolicy *
qr_object_get_policy(struct qr_object *object, size_t index)
{
    struct qr_mempolicy *policy = NULL;

    if (qr_likely(__atomic_load_n(&object->policies.root, __ATOMIC_RELAXED) == NULL))
        return NULL;
    qr_spin_lock(&object->policy_lock);
    const struct policy_run *run = run_find(object, index);

    if (run != NULL && run->first <= index) {
        policy = run->policy;
        qr_mempolicy_get(policy);
    }
    qr_spin_unlock(&object->policy_lock);
    return policy;
}

void
qr_object_drop_policies(struct qr_object *object)
{
    struct policy_run *spare = NULL;

    runs_free(object->machine->heap, runs_clear(object, 0, SIZE_MAX, &spare));
}

/* ---- frames ------------------------------------------------------------------------ */

struct qr_frame *
qr_object_alloc_frame(struct qr_object *object, size_t index, unsigned alloc_flags)
{
    struct qr_frames *frames = object->machine->frames;
    struct qr_mempolicy *shared = qr_object_get_policy(object, index);
    struct qr_mempolicy *policy =
        shared != NULL ? shared : qr_objects_thread_policy(object->machine);

    if (qr_likely(policy == NULL))
        return qr_frame_alloc(frames, alloc_flags);
    struct qr_frame *frame = qr_frame_alloc_policy(frames, &policy->policy, index, 0, alloc_flags);

    qr_mempolicy_put(shared);
    return frame;
}
