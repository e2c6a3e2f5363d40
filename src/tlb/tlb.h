/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TLB_TLB_H
#define QUIRE_TLB_TLB_H

#include <quire/tlb.h>

/* Spaces whose entries one CPU keeps apart by identifier. */
#define TLB_SLOTS 6

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
    const struct qr_batch_run *runs;
    unsigned run_count;
};

/* One shootdown.  Its initiator waits until nobody needs it. */
struct tlb_request {
    const struct tlb_change *change;
    uint64_t generation;       /* of the space, with this change counted */
    struct qr_cpu_set waiting; /* CPUs that have not acknowledged */
};

/* Up to which generation this CPU's entries of a space are true. */
struct tlb_slot {
    uint64_t space_id; /* 0: none */
    uint64_t generation;
};

struct tlb_cpu {
    /* CPUs whose request waits for us. */
    struct qr_cpu_set incoming;
    struct tlb_request request; /* ours; one at a time */

    /* This CPU alone, interrupts off; `lazy` is read by others. */
    struct qr_tlb_space *loaded; /* NULL: the kernel's tables */
    _Atomic bool lazy;
    unsigned slot; /* of `loaded` */
    unsigned next_victim;
    struct tlb_slot slots[TLB_SLOTS];
} QR_CACHE_ALIGNED;

struct qr_tlb {
    struct qr_frames *frames; /* fixed */
    unsigned cpu_count;       /* fixed */
    unsigned slot_count;      /* fixed; slots that a CPU uses */
    bool tagged;              /* fixed; hardware has identifiers */
    _Atomic bool naive;
    struct qr_tlb_observer observer; /* fixed once CPUs run */
    struct qr_tlb_space *kernel;     /* fixed once set */
    _Atomic uint64_t next_id;
    struct qr_cpu_set online;
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
/* The identifier under which @me's loaded space is tagged. */
unsigned qr_tlb_asid(const struct qr_tlb *tlb, const struct tlb_cpu *me);

#endif
