/* SPDX-License-Identifier: MIT */
/*
 * Finding room between regions.
 *
 * Every node of the region tree knows the extent of its subtree and the largest
 * gap between two regions in it, so whole subtrees are passed over:
 *
 *        [ B ]                 gap beside B on the left:  A's extent .. B
 *       /     \                gap beside B on the right: B .. C's extent
 *     [A]     [C]
 *
 * Each gap between two neighbours is beside exactly one node: the one that is
 * the other's ancestor.  The two gaps outside all regions are looked at apart.
 *
 * The walk goes over the tree in order, from the wanted side, and enters only
 * subtrees that hold a gap of the length within their part of the window.  A
 * subtree may still disappoint at the window's edges or by alignment; then the
 * walk goes on, so that what fits is always found.
 *
 * The guard gap below a stack counts as part of it (qr_region_floor).
 */
#include "region.h"

static uintptr_t
align_down(uintptr_t value, size_t align)
{
    return value & ~(uintptr_t)(align - 1);
}

/* Does the request fit into [from, to)?  Then *out_start is its place there. */
static bool
gap_fits(const struct qr_gap_request *request, uintptr_t from, uintptr_t to, qr_va *out_start)
{
    uintptr_t low = qr_max_size(from, request->low);
    uintptr_t high = qr_min_size(to, request->high);
    uintptr_t start;

    if (high <= low || high - low < request->bytes)
        return false;
    if (request->bottom_up) {
        start = align_down(low + (request->align - 1), request->align);
        if (start < low || start > high - request->bytes)
            return false;
    } else {
        start = align_down(high - request->bytes, request->align);
        if (start < low)
            return false;
    }
    *out_start = qr_va_of(start);
    return true;
}

static bool
subtree_may_fit(const struct qr_region *region, const struct qr_gap_request *request)
{
    uintptr_t low = qr_max_size(region->subtree_start.v, request->low);
    uintptr_t high = qr_min_size(region->subtree_end.v, request->high);

    return region->subtree_gap >= request->bytes && high > low && high - low >= request->bytes;
}

/* The gap between @region and its subtree on @side (0 below, 1 above). */
static bool
gap_beside_fits(const struct qr_region *region, int side, const struct qr_gap_request *request,
                qr_va *out_start)
{
    const struct qr_region *child = qr_region_of(region->node.child[side]);

    if (child == NULL)
        return false;
    if (side == 0)
        return gap_fits(request, child->subtree_end.v, qr_region_floor(region), out_start);
    return gap_fits(request, region->end.v, child->subtree_start.v, out_start);
}

/* In order from the @near side: near subtree, the two gaps beside the node, far subtree. */
static bool
gap_find_between(const struct qr_tree *regions, const struct qr_gap_request *request,
                 qr_va *out_start)
{
    int near = request->bottom_up ? 0 : 1;
    struct qr_tree_node *node = regions->root;
    struct qr_tree_node *from = NULL;

    while (node != NULL) {
        const struct qr_region *region = qr_region_of(node);
        struct qr_tree_node *step = node->parent;
        bool arriving = from == node->parent;

        if (!arriving || subtree_may_fit(region, request)) {
            if (arriving && node->child[near] != NULL) {
                step = node->child[near];
            } else if (arriving || from == node->child[near]) {
                if (gap_beside_fits(region, near, request, out_start) ||
                    gap_beside_fits(region, 1 - near, request, out_start))
                    return true;
                if (node->child[1 - near] != NULL)
                    step = node->child[1 - near];
            }
        }
        from = node;
        node = step;
    }
    return false;
}

bool
qr_gap_find(const struct qr_tree *regions, const struct qr_gap_request *request, qr_va *out_start)
{
    const struct qr_region *root = qr_region_of(regions->root);

    qr_assert(request->bytes > 0 && request->align > 0);
    if (root == NULL)
        return gap_fits(request, 0, UINTPTR_MAX, out_start);
    if (request->bottom_up)
        return gap_fits(request, 0, root->subtree_start.v, out_start) ||
               gap_find_between(regions, request, out_start) ||
               gap_fits(request, root->subtree_end.v, UINTPTR_MAX, out_start);
    return gap_fits(request, root->subtree_end.v, UINTPTR_MAX, out_start) ||
           gap_find_between(regions, request, out_start) ||
           gap_fits(request, 0, root->subtree_start.v, out_start);
}
