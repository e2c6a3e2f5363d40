/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TREE_H
#define QUIRE_TREE_H

#include <quire/compiler.h>

#include <stdbool.h>
#include <stddef.h>

/**
 * @file
 * An intrusive balanced binary search tree (AVL) with augmentation.
 *
 * The tree knows no keys: the owner walks down from the root, finds the empty
 * link where a node belongs, and hands it over.  @p update recomputes what a
 * node stores about its subtree from its two children; it is called bottom-up
 * for every node whose subtree changed.  No recursion, no allocation.
 */

QR_BEGIN_DECLS

struct qr_tree_node {
    struct qr_tree_node *parent;
    struct qr_tree_node *child[2]; /* 0 left, 1 right */
    int height;
};

struct qr_tree {
    struct qr_tree_node *root;
    /** Recompute @p node's summary of its subtree; NULL where there is none. */
    void (*update)(struct qr_tree_node *node);
};

/**
 * Insert @p node as the child of @p parent on @p side (0 left, 1 right), where
 * nothing is; @p parent is NULL for the first node of a tree.
 */
void qr_tree_insert(struct qr_tree *tree, struct qr_tree_node *node, struct qr_tree_node *parent,
                    int side);
void qr_tree_remove(struct qr_tree *tree, struct qr_tree_node *node);
/** Put @p node in the place of @p old; the order of keys stays. */
void qr_tree_replace(struct qr_tree *tree, struct qr_tree_node *old, struct qr_tree_node *node);
/** Recompute the summaries from @p node up to the root, after its own data changed. */
void qr_tree_update(struct qr_tree *tree, struct qr_tree_node *node);

/** In order; NULL past either end or in an empty tree. */
struct qr_tree_node *qr_tree_first(const struct qr_tree *tree);
struct qr_tree_node *qr_tree_last(const struct qr_tree *tree);
struct qr_tree_node *qr_tree_next(const struct qr_tree_node *node);
struct qr_tree_node *qr_tree_previous(const struct qr_tree_node *node);

/** Whether heights, parents and balance are right; for validators. */
bool qr_tree_validate(const struct qr_tree *tree);

QR_END_DECLS

#endif
