/* SPDX-License-Identifier: MIT */
#ifndef QR_SWAP_SWAP_H
#define QR_SWAP_SWAP_H

/* The swap layer's own structures; cache.c has the theory. */

#include <quire/assert.h>
#include <quire/swap.h>

/* Slots are kept, and handed out, by so many: they fill a small page. */
#define CLUSTER_LOG 8u
#define CLUSTER     (1u << CLUSTER_LOG)

enum slot_state {
    SLOT_READING = 1 << 0, /* the frame is being filled */
    SLOT_WRITING = 1 << 1, /* the frame is being written */
    SLOT_WRITTEN = 1 << 2, /* the area has the contents */
    SLOT_BAD = 1 << 3,     /* could not be written, or was said to be bad: never given out again */
};

/* Free: no users and no frame. */
struct slot {
    struct qr_frame *frame; /* in memory, with a reference; NULL: not */
    uint32_t users;         /* entries that name it */
    uint16_t group;         /* charged for it; 0: none */
    uint8_t state;          /* enum slot_state */
};

struct cluster {
    uint16_t used; /* slots that are not free, bad ones among them */
    struct slot *slots;
};

struct area {
    struct qr_spin lock;      /* A: all that is not said to be something else */
    bool in_use;              /* A */
    _Atomic bool open;        /* slots are given out; changed under A */
    _Atomic int priority;     /* fixed while in use */
    _Atomic uint32_t turn_at; /* when it had its turn last */
    _Atomic size_t free;      /* slots; changed under A */
    size_t pages;             /* fixed while in use */
    size_t usable, used, cached;
    struct cluster *clusters; /* fixed while in use */
    size_t cluster_count;
    size_t next;   /* where to look for the next free slot */
    size_t hand;   /* where trimming goes on */
    size_t missed; /* page that was read last */
    const struct qr_swap_ops *ops;
    void *context;
    _Atomic uint32_t arrivals; /* changes as reads and writes end; who waits for one sleeps on it */
};

struct qr_swap {
    struct qr_swap_config config; /* fixed */
    struct qr_counters *counters; /* fixed */
    _Atomic unsigned area_count;  /* in use */
    _Atomic uint32_t turns;
    struct area areas[QR_SWAP_AREAS];
};

static inline qr_slot
slot_number(const struct qr_swap *swap, const struct area *area, size_t page)
{
    return qr_slot_of((uintptr_t)page << QR_SWAP_AREAS_LOG | (uintptr_t)(area - swap->areas));
}

/* Of an area in use, whose page this is.  A. */
static inline struct slot *
slot_at(const struct area *area, size_t page)
{
    return &area->clusters[page >> CLUSTER_LOG].slots[page & (CLUSTER - 1)];
}

/* The area of @number, locked; *out_slot is NULL where it has no such page. */
static inline struct area *
area_lock(struct qr_swap *swap, qr_slot number, struct slot **out_slot)
{
    struct area *area = &swap->areas[qr_slot_area(number)];
    size_t page = qr_slot_page(number);

    qr_spin_lock(&area->lock);
    *out_slot = area->in_use && page < area->pages ? slot_at(area, page) : NULL;
    return area;
}

/* A free slot of some area, for one user, charged as @frame is.  The area is locked on success. */
QR_MUST_USE enum qr_status qr_slot_alloc(struct qr_swap *swap, const struct qr_frame *frame,
                                         struct area **out_area, size_t *out_page);
/* It has neither users nor a frame: free it.  A. */
void qr_slot_free(struct qr_swap *swap, struct area *area, size_t page);

#endif
