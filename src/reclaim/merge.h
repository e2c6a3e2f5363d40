/* SPDX-License-Identifier: MIT */
#ifndef QR_RECLAIM_MERGE_H
#define QR_RECLAIM_MERGE_H

/* What the files of merging share; merge.c has the theory. */

#include "space/region.h"

#include <quire/merge.h>

/* A place in a tree that is ordered by what contents hash to.  The first member of its owner. */
struct merge_key {
    struct qr_tree_node node;
    uint64_t key;
};

/* A merged frame, whose owner this is. */
struct merge_node {
    struct merge_key at; /* in qr_merge.stable: I */
    struct qr_frame *frame;
    uint64_t bias; /* what its key has beside the hash of its contents */
};

enum merge_state {
    MERGE_CHANGING, /* seen, but not yet the same twice */
    MERGE_UNSHARED, /* the same twice, and nothing was equal to it */
    MERGE_DONE,     /* merged: the next visit forgets it */
};

/* A page that is not merged. */
struct merge_item {
    struct merge_key at; /* its contents when last seen; UNSHARED: may be in qr_merge.unstable */
    struct merge_item *next;
    uint64_t space_id;
    uintptr_t where; /* its address, and its state in the low bits */
};
QR_STATIC_ASSERT(sizeof(struct merge_item) <= 64, "what a page costs while it is looked at");

struct qr_merge {
    struct qr_vm *vm;                   /* fixed */
    struct qr_cache *nodes, *items;     /* fixed */
    uint64_t zero_hash;                 /* fixed: of the frame of zeroes */
    struct qr_spin lock;                /* I: inside those of tables */
    struct qr_tree stable;              /* I: struct merge_node */
    _Atomic size_t copies, chains;      /* I to write */
    struct qr_tree unstable;            /* struct merge_item of this round */
    struct merge_item *first, **cursor; /* all of them in the order of the scan; the next one */
    uint64_t space_id;                  /* where the scan goes on */
    qr_va va;
    _Atomic size_t count[MERGE_DONE + 1]; /* items by state */
    _Atomic size_t full_scans;
    _Atomic unsigned max_sharing;
    _Atomic bool across_nodes, use_zero_pages;
};

/* ---- Trees (merge_index.c) ------------------------------------------------------- */

/* Put @key before those that are equal. */
void qr_merge_tree_insert(struct qr_tree *tree, struct merge_key *key);
/* The first of @key's equals; NULL: there is none. */
struct merge_key *qr_merge_tree_find(const struct qr_tree *tree, uint64_t key);
/* The next with the same key, or NULL. */
struct merge_key *qr_merge_tree_next(const struct merge_key *key);

/*
 * What is added to the hash of contents so that they are found beside those of the same domain, and where
 * that is asked for the same node, alone: a different sum for each of these, so that no contents have
 * equal keys in two.
 */
uint64_t qr_merge_bias(const struct qr_merge *merge, const struct qr_space *space,
                       const struct qr_frame *frame);

/* As many merged frames are tried for one page: different contents hardly ever have one key. */
#define MERGE_TRIES 8
/* Merged frames of that key that may have another entry, each with a reference.  @return how many */
size_t qr_merge_index_find(struct qr_merge *merge, uint64_t key,
                           struct qr_frame *out_frames[MERGE_TRIES]);
/* @frame, which nobody writes and the caller alone has, is merged from now on. */
void qr_merge_index_add(struct qr_merge *merge, struct merge_node *node, struct qr_frame *frame,
                        uint64_t key);
/* The frames' hook. */
void qr_merge_index_gone(void *context, struct qr_frame *frame);

/* ---- One page (merge_page.c) ------------------------------------------------------- */

/* What a scan found. */
struct merge_seen {
    qr_va va;
    bool candidate; /* it may be merged; then these are known: */
    bool zero;      /* it looks like it */
    uint64_t key;
};
/* The first page at or after @at that is in memory and in a mergeable region.  S is taken. */
bool qr_merge_look(const struct qr_merge *merge, struct qr_space *space, qr_va at,
                   struct merge_seen *out_seen);

/*
 * The page at @va, whose key is believed to be @key, becomes a merged frame.  S is taken.
 * @return QR_ERR_BUSY it is in use, or another than it was; QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_merge_found(struct qr_merge *merge, struct qr_space *space, qr_va va,
                                          uint64_t key);
/*
 * The page at @va shows @merged, whose reference by the caller passes on, or zeroes for NULL.  S is
 * taken.  @return QR_ERR_BUSY as above; QR_ERR_NOT_FOUND its contents are different; the reference is
 * the caller's
 */
QR_MUST_USE enum qr_status qr_merge_join(struct qr_merge *merge, struct qr_space *space, qr_va va,
                                         struct qr_frame *merged);

#endif
