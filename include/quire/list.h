/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_LIST_H
#define QUIRE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include <quire/compiler.h>

/**
 * @file
 * A circular doubly linked list through nodes embedded in its elements.  A list
 * is a node that is in no element; a node in no list points to itself.
 */

struct qr_list {
    struct qr_list *next;
    struct qr_list *prev;
};

#define QR_LIST_INIT(name) \
    {                      \
        &(name), &(name)   \
    }

static inline void
qr_list_init(struct qr_list *list)
{
    list->next = list;
    list->prev = list;
}

static inline bool
qr_list_is_empty(const struct qr_list *list)
{
    return list->next == list;
}

/** Insert @p node before @p position: at the tail where position is the list itself. */
static inline void
qr_list_insert_before(struct qr_list *position, struct qr_list *node)
{
    node->prev = position->prev;
    node->next = position;
    position->prev->next = node;
    position->prev = node;
}

static inline void
qr_list_push_back(struct qr_list *list, struct qr_list *node)
{
    qr_list_insert_before(list, node);
}

static inline void
qr_list_push_front(struct qr_list *list, struct qr_list *node)
{
    qr_list_insert_before(list->next, node);
}

/** Take @p node out of its list; it may be removed again or inserted anywhere. */
static inline void
qr_list_remove(struct qr_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    qr_list_init(node);
}

/** The first node, removed; NULL where the list is empty. */
static inline struct qr_list *
qr_list_pop_front(struct qr_list *list)
{
    struct qr_list *node = list->next;

    if (node == list)
        return NULL;
    qr_list_remove(node);
    return node;
}

#define qr_list_entry(node, type, member) qr_container_of(node, type, member)

/** Visit every node; the body must not remove @p node. */
#define qr_list_for_each(node, list) \
    for (struct qr_list *node = (list)->next; node != (list); node = node->next)

/** Visit every node; the body may remove @p node. */
#define qr_list_for_each_safe(node, list)                                                \
    for (struct qr_list *node = (list)->next, *node##_next = node->next; node != (list); \
         node = node##_next, node##_next = node->next)

#endif
