/* SPDX-License-Identifier: MIT */
/*
 * AVL trees (Adelson-Velsky and Landis, 1962) with parent links.
 *
 * AVL rather than red-black: lookups outnumber changes by far, and the rule is
 * short enough to be seen to hold: at every node the heights of the two sides
 * differ by at most one.
 *
 * After a change, tree_repair() climbs from the lowest changed node to the root.
 * At each node it rotates if the sides differ by two, then recomputes height
 * and the owner's summary.  It always climbs to the root, because the summaries
 * above change even where the heights do not.
 */
#include <stdbool.h>

#include <quire/assert.h>
#include <quire/tree.h>

static int
node_height(const struct qr_tree_node *node)
{
    return node == NULL ? 0 : node->height;
}

static void
node_refresh(const struct qr_tree *tree, struct qr_tree_node *node)
{
    int left = node_height(node->child[0]);
    int right = node_height(node->child[1]);

    node->height = 1 + (left > right ? left : right);
    if (tree->update != NULL)
        tree->update(node);
}

/* Make @replacement (or nothing) stand where @node hangs below its parent. */
static void
tree_relink(struct qr_tree *tree, const struct qr_tree_node *node, struct qr_tree_node *replacement)
{
    struct qr_tree_node *parent = node->parent;

    if (parent == NULL)
        tree->root = replacement;
    else
        parent->child[parent->child[1] == node] = replacement;
    if (replacement != NULL)
        replacement->parent = parent;
}

/*
 * Rotate so that @node's child on @side takes its place (drawn for side 1):
 *
 *      node                 up
 *     /    \              /    \
 *    a      up    =>   node     c
 *          /  \        /  \
 *         b    c      a    b
 */
static struct qr_tree_node *
tree_rotate(struct qr_tree *tree, struct qr_tree_node *node, int side)
{
    struct qr_tree_node *up = node->child[side];
    struct qr_tree_node *middle = up->child[1 - side];

    tree_relink(tree, node, up);
    node->child[side] = middle;
    if (middle != NULL)
        middle->parent = node;
    up->child[1 - side] = node;
    node->parent = up;
    node_refresh(tree, node);
    node_refresh(tree, up);
    return up;
}

static struct qr_tree_node *
tree_balance(struct qr_tree *tree, struct qr_tree_node *node)
{
    int lean = node_height(node->child[1]) - node_height(node->child[0]);

    if (lean >= -1 && lean <= 1) {
        node_refresh(tree, node);
        return node;
    }
    int side = lean > 0;
    struct qr_tree_node *heavy = node->child[side];

    if (node_height(heavy->child[1 - side]) > node_height(heavy->child[side]))
        tree_rotate(tree, heavy, 1 - side);
    return tree_rotate(tree, node, side);
}

static void
tree_repair(struct qr_tree *tree, struct qr_tree_node *node)
{
    while (node != NULL)
        node = tree_balance(tree, node)->parent;
}

void
qr_tree_insert(struct qr_tree *tree, struct qr_tree_node *node, struct qr_tree_node *parent,
               int side)
{
    node->parent = parent;
    node->child[0] = NULL;
    node->child[1] = NULL;
    if (parent == NULL) {
        qr_assert(tree->root == NULL);
        tree->root = node;
    } else {
        qr_assert(parent->child[side] == NULL);
        parent->child[side] = node;
    }
    tree_repair(tree, node);
}

void
qr_tree_remove(struct qr_tree *tree, struct qr_tree_node *node)
{
    struct qr_tree_node *lowest;

    if (node->child[0] != NULL && node->child[1] != NULL) {
        /* Two children: the next node in order, which has no left child, moves here. */
        struct qr_tree_node *next = qr_tree_next(node);

        lowest = next->parent == node ? next : next->parent;
        tree_relink(tree, next, next->child[1]);
        qr_tree_replace(tree, node, next);
    } else {
        lowest = node->parent;
        tree_relink(tree, node, node->child[node->child[0] == NULL]);
    }
    node->parent = NULL;
    tree_repair(tree, lowest);
}

void
qr_tree_replace(struct qr_tree *tree, struct qr_tree_node *old, struct qr_tree_node *node)
{
    tree_relink(tree, old, node);
    node->height = old->height;
    for (int side = 0; side < 2; side++) {
        node->child[side] = old->child[side];
        if (node->child[side] != NULL)
            node->child[side]->parent = node;
    }
}

void
qr_tree_update(struct qr_tree *tree, struct qr_tree_node *node)
{
    for (; node != NULL; node = node->parent)
        tree->update(node);
}

static struct qr_tree_node *
node_extreme(struct qr_tree_node *node, int side)
{
    while (node != NULL && node->child[side] != NULL)
        node = node->child[side];
    return node;
}

struct qr_tree_node *
qr_tree_first(const struct qr_tree *tree)
{
    return node_extreme(tree->root, 0);
}

struct qr_tree_node *
qr_tree_last(const struct qr_tree *tree)
{
    return node_extreme(tree->root, 1);
}

static struct qr_tree_node *
node_step(const struct qr_tree_node *node, int side)
{
    if (node->child[side] != NULL)
        return node_extreme(node->child[side], 1 - side);
    while (node->parent != NULL && node->parent->child[side] == node)
        node = node->parent;
    return node->parent;
}

struct qr_tree_node *
qr_tree_next(const struct qr_tree_node *node)
{
    return node_step(node, 1);
}

struct qr_tree_node *
qr_tree_previous(const struct qr_tree_node *node)
{
    return node_step(node, 0);
}

static bool
node_is_sound(const struct qr_tree_node *node)
{
    int left = node_height(node->child[0]);
    int right = node_height(node->child[1]);

    for (int side = 0; side < 2; side++) {
        if (node->child[side] != NULL && node->child[side]->parent != node)
            return false;
    }
    return left - right >= -1 && left - right <= 1 &&
           node->height == 1 + (left > right ? left : right);
}

bool
qr_tree_validate(const struct qr_tree *tree)
{
    if (tree->root != NULL && tree->root->parent != NULL)
        return false;
    for (const struct qr_tree_node *node = qr_tree_first(tree); node != NULL;
         node = qr_tree_next(node)) {
        if (!node_is_sound(node))
            return false;
    }
    return true;
}
