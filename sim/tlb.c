/* SPDX-License-Identifier: MIT */
/*
 * One CPU's TLB and walk caches: a set of entries that grows and, unless it is given a size,
 * never forgets.
 *
 * Entries stand in one array and are found through hash chains keyed by (kind,
 * shift, page); the ASID is compared on the chain, because a global entry
 * answers to all of them.  Removing is unlinking from a chain and pushing onto
 * the list of free slots; a flush walks the array.
 *
 * Nothing here knows what a flush of the architecture means: that is arch.c.
 */
#include "machine.h"

#define BUCKETS 1024u
#define NONE    (~0u)

struct tlb {
    unsigned buckets[BUCKETS];
    struct tlb_entry *slots;
    unsigned capacity, high; /* slots [0, high) were used at some time */
    unsigned free;           /* list of unused slots below high */
    size_t leaves;
    unsigned counts[TLB_KINDS][64]; /* entries by kind and shift */
    uint64_t shifts[TLB_KINDS];     /* bit s: counts[kind][s] is not 0 */
};

static unsigned
bucket_of(enum tlb_kind kind, unsigned shift, uint64_t page)
{
    uint64_t hash = (page * TLB_KINDS + kind) * 64 + shift;

    hash *= 0x9e3779b97f4a7c15ull;
    return (unsigned)(hash >> 32) % BUCKETS;
}

struct tlb *
tlb_create(void)
{
    struct tlb *tlb = sim_host_alloc(sizeof(*tlb));

    for (unsigned i = 0; i < BUCKETS; i++)
        tlb->buckets[i] = NONE;
    tlb->free = NONE;
    return tlb;
}

void
tlb_destroy(struct tlb *tlb)
{
    sim_host_free(tlb->slots);
    sim_host_free(tlb);
}

size_t
tlb_leaf_count(const struct tlb *tlb)
{
    return tlb->leaves;
}

struct tlb_entry *
tlb_find(struct tlb *tlb, enum tlb_kind kind, unsigned asid, unsigned shift, uintptr_t va)
{
    uint64_t page = (uint64_t)va >> shift;

    for (unsigned i = tlb->buckets[bucket_of(kind, shift, page)]; i != NONE;
         i = tlb->slots[i].next) {
        struct tlb_entry *entry = &tlb->slots[i];

        if (entry->kind == kind && entry->shift == shift && entry->page == page &&
            (entry->asid == asid || entry->global))
            return entry;
    }
    return NULL;
}

struct tlb_entry *
tlb_find_any(struct tlb *tlb, enum tlb_kind kind, unsigned asid, uintptr_t va)
{
    for (uint64_t shifts = tlb->shifts[kind]; shifts != 0; shifts &= shifts - 1) {
        struct tlb_entry *entry = tlb_find(tlb, kind, asid, (unsigned)__builtin_ctzll(shifts), va);

        if (entry != NULL)
            return entry;
    }
    return NULL;
}

static void
count_add(struct tlb *tlb, const struct tlb_entry *entry, int change)
{
    unsigned *count = &tlb->counts[entry->kind][entry->shift];

    *count += (unsigned)change;
    tlb->leaves += (size_t)(entry->kind == TLB_LEAF ? change : 0);
    if (*count == 0)
        tlb->shifts[entry->kind] &= ~(1ull << entry->shift);
    else
        tlb->shifts[entry->kind] |= 1ull << entry->shift;
}

static unsigned
slot_take(struct tlb *tlb)
{
    unsigned slot = tlb->free;

    if (slot != NONE) {
        tlb->free = tlb->slots[slot].next;
        return slot;
    }
    if (tlb->high == tlb->capacity) {
        unsigned capacity = tlb->capacity == 0 ? 64 : 2 * tlb->capacity;

        tlb->slots = sim_host_grow(tlb->slots, tlb->capacity * sizeof(tlb->slots[0]),
                                   capacity * sizeof(tlb->slots[0]));
        tlb->capacity = capacity;
    }
    return tlb->high++;
}

void
tlb_insert(struct tlb *tlb, const struct tlb_entry *entry)
{
    unsigned slot = slot_take(tlb);
    unsigned *bucket = &tlb->buckets[bucket_of(entry->kind, entry->shift, entry->page)];

    tlb->slots[slot] = *entry;
    tlb->slots[slot].used = true;
    tlb->slots[slot].next = *bucket;
    *bucket = slot;
    count_add(tlb, entry, 1);
}

void
tlb_remove(struct tlb *tlb, struct tlb_entry *entry)
{
    unsigned slot = (unsigned)(entry - tlb->slots);
    unsigned *link = &tlb->buckets[bucket_of(entry->kind, entry->shift, entry->page)];

    while (*link != slot)
        link = &tlb->slots[*link].next;
    *link = entry->next;
    count_add(tlb, entry, -1);
    entry->used = false;
    entry->next = tlb->free;
    tlb->free = slot;
}

struct tlb_entry *
tlb_next(struct tlb *tlb, struct tlb_entry *entry)
{
    unsigned slot = entry == NULL ? 0 : (unsigned)(entry - tlb->slots) + 1;

    for (; slot < tlb->high; slot++) {
        if (tlb->slots[slot].used)
            return &tlb->slots[slot];
    }
    return NULL;
}

void
tlb_drop_leaf(struct tlb *tlb, uint64_t random)
{
    for (unsigned i = 0; i < tlb->high; i++) {
        struct tlb_entry *entry = &tlb->slots[(random + i) % tlb->high];

        if (entry->used && entry->kind == TLB_LEAF) {
            tlb_remove(tlb, entry);
            return;
        }
    }
}

void
tlb_drop_fixed(struct tlb *tlb)
{
    for (struct tlb_entry *entry = tlb_next(tlb, NULL); entry != NULL;
         entry = tlb_next(tlb, entry)) {
        if (entry->fixed)
            tlb_remove(tlb, entry);
    }
}
