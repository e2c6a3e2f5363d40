/* SPDX-License-Identifier: MIT */
#ifndef QR_GROUP_GROUP_H
#define QR_GROUP_GROUP_H

/* The group layer's own structures; group.c has the theory. */

#include <quire/assert.h>
#include <quire/group.h>

/* Who is charged ahead on a CPU, and how much: number << CREDIT_BITS | pages. */
#define CREDIT_BITS  8u
#define CREDIT_PAGES ((1u << CREDIT_BITS) - 1)
/* Pages taken from the counters at a time. */
#define CHARGE_BATCH 32u

struct qr_group {
    struct qr_groups *machine;             /* fixed */
    uint32_t number;                       /* fixed: 1 .. QR_GROUPS_MAX */
    _Atomic uint32_t users;                /* references */
    struct qr_group *parent;               /* fixed while in use or charged; NULL: the top */
    void *host;                            /* the host's own, and guarded by it */
    _Atomic size_t usage;                  /* pages: its own, those of groups below, credit */
    _Atomic size_t peak;                   /* of usage */
    _Atomic size_t limit[QR_GROUP_LIMITS]; /* pages */
    _Atomic size_t swap, swap_peak;        /* slots: its own and those of groups below */
    _Atomic size_t swap_max, swap_high;
    _Atomic long file, shmem, kernel;    /* of its own frames */
    _Atomic size_t bytes;                /* of the kernel, its own; their pages are in usage */
    _Atomic size_t kind[QR_GROUP_KINDS]; /* of these */
    _Atomic unsigned long stat[QR_GROUP_STATS]; /* since it began, with those below */
    _Atomic size_t clock;                       /* qr_group_tick() */
    _Atomic unsigned long local[QR_GROUP_EVENTS], below[QR_GROUP_EVENTS];
};

struct qr_groups {
    struct qr_frames *frames;                              /* fixed */
    struct qr_cache *cache;                                /* fixed: struct qr_group */
    struct qr_group_ops ops;                               /* fixed after start-up */
    void *ops_context;                                     /* fixed after start-up */
    unsigned cpu_count;                                    /* fixed */
    struct qr_spin lock;                                   /* G: which groups are in use */
    struct qr_group *_Atomic by_number[QR_GROUPS_MAX + 1]; /* G to write; once set, it stays */
    struct {
        _Atomic uint32_t credit;
    } QR_CACHE_ALIGNED cpu[];
};

#endif
