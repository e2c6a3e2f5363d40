/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_POLICY_H
#define QUIRE_POLICY_H

/**
 * @file
 * Memory policies as regions, objects and threads hold them.
 *
 * A page that is touched goes where the first of these says: the object's policy for that page
 * (shared memory: all who map it agree), the region's, the running thread's, or, where there
 * is none, the node of the CPU.
 */

#ifndef __cplusplus
#include <quire/frame.h>
#include <quire/heap.h>
#include <quire/object.h>

/** How the nodes of a policy were named: for who asks what was said. */
enum qr_node_naming {
    QR_NODES_ALLOWED,  /**< as they are, within what is allowed */
    QR_NODES_STATIC,   /**< these alone, whatever is allowed */
    QR_NODES_RELATIVE, /**< counted among the allowed ones */
};

/** A policy with references.  Constant once made, but for the turn of its interleaving. */
struct qr_mempolicy {
    struct qr_heap *heap;
    _Atomic uint32_t refs;
    uint8_t naming;           /**< enum qr_node_naming */
    bool balance;             /**< pages may follow their users: told again, not acted upon */
    struct qr_node_set named; /**< the nodes as they were given */
    struct qr_policy policy;
};

/** @p policy is copied; one reference.  @return NULL without memory */
struct qr_mempolicy *qr_mempolicy_create(struct qr_heap *heap, const struct qr_policy *policy,
                                         enum qr_node_naming naming,
                                         const struct qr_node_set *named);
/** NULL, the default, is fine for all of these.  Context: any. */
void qr_mempolicy_get(struct qr_mempolicy *policy);
void qr_mempolicy_put(struct qr_mempolicy *policy);
/** Do both say the same? */
bool qr_mempolicy_equal(const struct qr_mempolicy *a, const struct qr_mempolicy *b);

/**
 * The policy of pages [first, last) of @p object from now on; NULL: none.  Pages that are there
 * stay where they are.
 * @return QR_ERR_NO_MEMORY: nothing changed
 */
QR_MUST_USE enum qr_status qr_object_set_policy(struct qr_object *object, size_t first, size_t last,
                                                struct qr_mempolicy *policy);
/** The policy of page @p index with a reference; NULL: none. */
struct qr_mempolicy *qr_object_get_policy(struct qr_object *object, size_t index);

/**
 * Where the policy of the running thread comes from: borrowed, as long as the thread runs;
 * NULL: it has none.  Called in the context of faults and of pages that are made.
 */
typedef struct qr_mempolicy *(*qr_thread_policy_fn)(void);
void qr_objects_set_thread_policy(struct qr_objects *objects, qr_thread_policy_fn fn);

#endif
#endif
