/* SPDX-License-Identifier: MIT */
/* The tree against a sorted array, with a summary that counts the subtree. */
#include <string.h>

#include <quire/tree.h>

#include "harness.h"

struct item {
    struct qr_tree_node node;
    unsigned key;
    unsigned subtree;
    bool in_tree;
};

static struct item *
item_of(struct qr_tree_node *node)
{
    return qr_container_of(node, struct item, node);
}

static void
item_update(struct qr_tree_node *node)
{
    struct item *item = item_of(node);

    item->subtree = 1;
    for (int side = 0; side < 2; side++) {
        if (node->child[side] != NULL)
            item->subtree += item_of(node->child[side])->subtree;
    }
}

static void
insert(struct qr_tree *tree, struct item *item)
{
    struct qr_tree_node *parent = NULL;
    int side = 0;

    for (struct qr_tree_node *at = tree->root; at != NULL; at = at->child[side]) {
        parent = at;
        side = item->key > item_of(at)->key;
    }
    qr_tree_insert(tree, &item->node, parent, side);
}

#define ITEMS 200

static void
check(const struct qr_tree *tree, const struct item *items)
{
    unsigned count = 0;
    struct qr_tree_node *node = qr_tree_first(tree);

    ASSERT_TRUE(qr_tree_validate(tree));
    for (unsigned i = 0; i < ITEMS; i++) {
        if (!items[i].in_tree)
            continue;
        ASSERT_TRUE(node == &items[i].node);
        count++;
        node = qr_tree_next(node);
    }
    ASSERT_NULL(node);
    if (tree->root != NULL)
        ASSERT_EQ(item_of(tree->root)->subtree, count);
    node = qr_tree_last(tree);
    for (unsigned i = ITEMS; i-- > 0;) {
        if (!items[i].in_tree)
            continue;
        ASSERT_TRUE(node == &items[i].node);
        node = qr_tree_previous(node);
    }
    ASSERT_NULL(node);
}

TEST(tree, random_changes_match_a_sorted_array)
{
    static struct item items[ITEMS];
    struct qr_tree tree = {.update = item_update};
    uint64_t random = test_seed();

    memset(items, 0, sizeof(items));
    for (unsigned i = 0; i < ITEMS; i++)
        items[i].key = i;
    for (unsigned step = 0; step < 4000; step++) {
        struct item *item = &items[test_random(&random) % ITEMS];

        if (item->in_tree)
            qr_tree_remove(&tree, &item->node);
        else
            insert(&tree, item);
        item->in_tree = !item->in_tree;
        check(&tree, items);
    }
}

TEST(tree, replace_keeps_the_order)
{
    struct item items[3] = {{.key = 1}, {.key = 2}, {.key = 3}};
    struct item other = {.key = 2};
    struct qr_tree tree = {.update = item_update};

    for (unsigned i = 0; i < 3; i++)
        insert(&tree, &items[i]);
    qr_tree_replace(&tree, &items[1].node, &other.node);
    qr_tree_update(&tree, &other.node);
    EXPECT_TRUE(qr_tree_validate(&tree));
    EXPECT_TRUE(qr_tree_next(&items[0].node) == &other.node);
    EXPECT_TRUE(qr_tree_previous(&items[2].node) == &other.node);
}

TEST(tree, validate_sees_a_broken_balance)
{
    struct item items[3] = {{.key = 1}, {.key = 2}, {.key = 3}};
    struct qr_tree tree = {.update = item_update};

    for (unsigned i = 0; i < 3; i++)
        insert(&tree, &items[i]);
    items[0].node.height = 5;
    EXPECT_FALSE(qr_tree_validate(&tree));
}
