/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_TLB_TLB_H
#define QUIRE_TLB_TLB_H

#include <quire/lock.h>
#include <quire/tlb.h>

/*
 * A space's identifier: the round in which it was given out, and the number that hardware knows
 * (asid.c).  It is never given out again.  0: none.
 */
#define TLB_NUMBER_BITS 16
#define TLB_NUMBER_MASK (((uint64_t)1 << TLB_NUMBER_BITS) - 1)

/* Of how many spaces a CPU knows how true its entries are: more than a TLB holds entries of. */
#define TLB_SLOTS 512

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
    uint64_t generation; /* of the space, with this change counted; the shootdown sets it */
};

/* One shootdown.  Its initiator waits until nobody needs it. */
struct tlb_request {
    const struct tlb_change *changes;
    unsigned change_count;     /* of different spaces */
    struct qr_cpu_set waiting; /* CPUs that have not acknowledged */
};

/* What this CPU knows of the entries that it holds under one number. */
struct tlb_slot {
    uint64_t context;    /* whose: the space's identifier; 0: nobody's */
    uint64_t generation; /* up to which they are true */
};

struct tlb_cpu {
    /* CPUs whose request waits for us. */
    struct qr_cpu_set incoming;
    struct tlb_request request; /* ours; one at a time */

    /* This CPU alone, interrupts off; the first three are read by others. */
    _Atomic(struct qr_tlb_space *) loaded; /* NULL: the kernel's tables */
    _Atomic(struct qr_tlb_space *) coming; /* the same, but while it switches: where to */
    _Atomic bool lazy;
    unsigned asid;         /* the number of `loaded`; 0 for the kernel's tables */
    uint64_t round;        /* no entries are left of an earlier one, but those of carried numbers */
    struct tlb_slot *slot; /* of `loaded` */
    struct tlb_slot *slots; /* fixed; that of a number: its remainder */
} QR_CACHE_ALIGNED;

struct qr_tlb {
    struct qr_counters *counters; /* fixed */
    unsigned cpu_count;           /* fixed */
    unsigned asid_count;          /* fixed; numbers that are used, 0 included */
    unsigned slot_mask;           /* fixed */
    bool tagged;                  /* fixed; hardware has identifiers, and enough */
    bool broadcast;               /* fixed; its flushes reach every CPU */
    _Atomic bool naive;
    struct qr_tlb_observer observer; /* fixed once CPUs run */
    struct qr_tlb_space *kernel;     /* fixed once set */
    struct qr_cpu_set online;
    _Atomic uint64_t round; /* A; of identifiers; 0: there are none */
    uint64_t *numbers;      /* pointer fixed; A: bits of those that this round has given out */

    /* A: every change of a space's identifier, and of the two above. */
    struct qr_spin asid_lock QR_CACHE_ALIGNED;
    unsigned asid_word; /* A: below this word all numbers are given out */
    _Atomic uint64_t next_id;
    struct tlb_cpu cpus[];
};

static inline void
tlb_count(struct qr_tlb *tlb, enum qr_counter which, long delta)
{
    qr_counter_add(tlb->counters, which, delta);
}

/* A member of an observer. */
typedef void (*tlb_observe_fn)(void *context, const struct qr_tlb_flush *flush);

/* What a batch needs, from what it noted. */
enum tlb_mode qr_tlb_choose(const struct qr_tlb_batch *batch, bool others_pending);
/* Empty @batch, whose notes and frames are somebody else's now. */
void qr_tlb_batch_forget(struct qr_tlb_batch *batch);
/* Flush @change on every CPU that needs it; on return all have. */
void qr_tlb_shoot(struct qr_tlb *tlb, struct tlb_change *change);
/* The same for @count changes, each of another user space: nobody is interrupted twice. */
void qr_tlb_shoot_many(struct qr_tlb *tlb, struct tlb_change *changes, unsigned count);
/* Go to the kernel's tables. */
void qr_tlb_load_kernel(struct qr_tlb *tlb, struct tlb_cpu *me);
/* Serve what other CPUs ask of this one. */
void qr_tlb_poll(struct qr_cpu *cpu);
/*
 * This round's identifier of @space, to which this CPU is coming: one of the two is not of this
 * round yet.
 */
uint64_t qr_asid_renew(struct qr_tlb *tlb, struct tlb_cpu *me, struct qr_tlb_space *space);

/* This CPU, @me, is coming to @space: the identifier under which it runs it.  May wait, serving. */
static inline uint64_t
qr_asid_get(struct qr_tlb *tlb, struct tlb_cpu *me, struct qr_tlb_space *space)
{
    atomic_store(&me->coming, space);

    uint64_t context = atomic_load(&space->context);
    uint64_t round = atomic_load(&tlb->round);

    if (qr_unlikely(context >> TLB_NUMBER_BITS != round || me->round != round))
        return qr_asid_renew(tlb, me, space);
    return context;
}

/* The number under which hardware may hold entries of @space; 0: none. */
static inline unsigned
qr_asid_of(const struct qr_tlb_space *space)
{
    return (unsigned)(atomic_load(&space->context) & TLB_NUMBER_MASK);
}

/* @space ends, and no CPU has it loaded. */
void qr_asid_release(struct qr_tlb *tlb, struct qr_tlb_space *space);
/* Words of qr_tlb.numbers; qr_asid_init() makes them. */
size_t qr_asid_words(unsigned asid_count);
void qr_asid_init(struct qr_tlb *tlb);

/* What @me, this CPU, has loaded. */
static inline struct qr_tlb_space *
tlb_loaded(const struct tlb_cpu *me)
{
    return atomic_load_explicit(&me->loaded, memory_order_relaxed);
}

static inline bool
tlb_set_is_empty(const struct qr_cpu_set *set)
{
    uint64_t any = 0;

    for (unsigned word = 0; word < QR_CPU_WORDS; word++)
        any |= atomic_load(&set->bits[word]);
    return any == 0;
}

#endif
