/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TLB_TLB_H
#define QUIRE_TLB_TLB_H

#include <quire/lock.h>
#include <quire/tlb.h>

/* Identifiers that are used, 0 (the kernel's tables alone) included, if hardware has so many. */
#define TLB_ASIDS 256

/* What a flush does on a CPU, cheapest first. */
enum tlb_mode {
    TLB_NOTHING,
    TLB_PAGES, /* the entries of some pages */
    TLB_SPACE, /* all entries of the space, walk caches too */
    TLB_ALL,   /* every entry, global ones too */
};

/* What every CPU concerned must forget. */
struct tlb_change {
    struct qr_tlb_space *space;
    enum tlb_mode mode;
    bool tables_freed; /* walk caches too: lazy CPUs as well */
    bool evict;        /* the space ends: leave it */
    const struct qr_flush_run *runs;
    unsigned run_count;
    unsigned page_count; /* entries in all runs */
};

/* One shootdown.  Its initiator waits until nobody needs it. */
struct tlb_request {
    const struct tlb_change *change;
    uint64_t generation;       /* of the space, with this change counted */
    struct qr_cpu_set waiting; /* CPUs that have not acknowledged */
};

/* What the entries are that this CPU holds under one identifier. */
struct tlb_slot {
    uint64_t space_id;   /* whose; 0: none */
    uint64_t generation; /* up to which they are true */
};

struct tlb_cpu {
    /* CPUs whose request waits for us. */
    struct qr_cpu_set incoming;
    struct tlb_request request; /* ours; one at a time */

    /* This CPU alone, interrupts off; `lazy` is read by others. */
    struct qr_tlb_space *loaded; /* NULL: the kernel's tables */
    _Atomic bool lazy;
    unsigned asid; /* of `loaded`; 0 for the kernel's tables */
    struct tlb_slot slots[TLB_ASIDS];
} QR_CACHE_ALIGNED;

struct qr_tlb {
    struct qr_frames *frames; /* fixed */
    unsigned cpu_count;       /* fixed */
    unsigned asid_count;      /* fixed; identifiers that are used, 0 included */
    bool tagged;              /* fixed; hardware has identifiers */
    bool broadcast;           /* fixed; its flushes reach every CPU */
    _Atomic bool naive;
    struct qr_tlb_observer observer; /* fixed once CPUs run */
    struct qr_tlb_space *kernel;     /* fixed once set */
    _Atomic uint64_t next_id;
    struct qr_cpu_set online;

    struct qr_spin asid_lock;              /* A: the two below, and every change of space->asid */
    unsigned asid_hand;                    /* A: the identifier given out last */
    struct qr_tlb_space *owner[TLB_ASIDS]; /* A: who has it; NULL: nobody */
    struct tlb_cpu cpus[];
};

static inline void
tlb_count(struct qr_tlb *tlb, enum qr_counter which, long delta)
{
    qr_counter_add(qr_frames_counters(tlb->frames), which, delta);
}

/* What a batch needs, from what it noted. */
enum tlb_mode qr_tlb_choose(const struct qr_tlb_batch *batch, bool others_pending);
/* Flush @change on every CPU that needs it; on return all have. */
void qr_tlb_shoot(struct qr_tlb *tlb, const struct tlb_change *change);
/* Go to the kernel's tables. */
void qr_tlb_load_kernel(struct qr_tlb *tlb, struct tlb_cpu *me);
/* Serve what other CPUs ask of this one. */
void qr_tlb_poll(struct qr_cpu *cpu);
/* In a space's asid: taken away; somebody else may have the number by now. */
#define TLB_ASID_TAKEN (1u << 31)
/* Give @space, in whose `active` this CPU is, a number, unless it has one after all. */
unsigned qr_asid_assign(struct qr_tlb *tlb, struct qr_tlb_space *space);

/* The number of @space, in whose `active` this CPU is. */
static inline unsigned
qr_asid_get(struct qr_tlb *tlb, struct qr_tlb_space *space)
{
    unsigned asid = atomic_load(&space->asid);

    if (qr_unlikely(asid == 0 || (asid & TLB_ASID_TAKEN) != 0))
        return qr_asid_assign(tlb, space);
    return asid;
}

/* The number under which hardware may hold entries of @space; 0: none. */
static inline unsigned
qr_asid_of(const struct qr_tlb_space *space)
{
    return atomic_load(&space->asid) & ~TLB_ASID_TAKEN;
}

/* @space ends. */
void qr_asid_release(struct qr_tlb *tlb, struct qr_tlb_space *space);

static inline bool
tlb_set_is_empty(const struct qr_cpu_set *set)
{
    uint64_t any = 0;

    for (unsigned word = 0; word < QR_CPU_WORDS; word++)
        any |= atomic_load(&set->bits[word]);
    return any == 0;
}

#endif
