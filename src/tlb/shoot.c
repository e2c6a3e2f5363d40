/* SPDX-License-Identifier: MIT */
/*
 * Shootdown: make other CPUs forget.
 *
 * Where hardware broadcasts its flushes (AArch64) one instruction does, and only the
 * end of a space asks for more.  Elsewhere:
 *
 *   initiator I                              target T
 *   clear entries (table lock)
 *   generation += 1                          (switching in)
 *   read active, lazy            <- SB ->    active += T; read generation
 *   fill own request; T.incoming += I
 *   interrupt T                              interrupt, or any spin loop:
 *   spin, serving own incoming               take incoming; flush; waiting -= T
 *   waiting is empty: done
 *
 * Generations.  A space counts the changes that need a flush.  Each CPU keeps,
 * for each space that it has entries of, the count up to which they are true.
 * A CPU exactly one behind a request that lists its pages flushes those; in any
 * other case it reads the count, flushes the whole space, and has then caught
 * up with what it read.  Requests may so arrive in any order, or twice.
 *
 * Who must be told?  The CPUs in `active`, which have the space loaded.  One that
 * left it keeps tagged entries but compares the generation before it uses them
 * again.  "SB": either the initiator sees the CPU active or the CPU sees the new
 * generation; all four accesses are sequentially consistent.  A lazy CPU, which
 * only borrows the space and touches no user address, compares when it stops
 * being lazy; but hardware may walk tables speculatively at any time, so when
 * tables are freed lazy CPUs are told as well.  Global entries concern all.
 *
 * Deadlock.  An initiator has interrupts off and so one request at a time: its
 * slot is preallocated.  Whoever spins, for a lock or for acknowledgements,
 * calls the poll hook and serves requests; serving takes no lock and sends
 * nothing.  So a target is either running with interrupts on, or spinning, or
 * about to do one of both: every request is served, whoever holds what.
 *
 * Changes of several spaces go as one request: every count grows before anybody's `active` is
 * read, one interrupt goes to whoever runs any of them, and who is told does what concerns the
 * space that it has loaded.  For each of the spaces that is the protocol above.
 *
 * Invariants: 1 a CPU is in space->active whenever it has the space loaded;
 * 2 slot.generation of the loaded space never exceeds the space's and grows;
 * 3 request.waiting is empty unless its CPU is in qr_tlb_shoot().
 */
#include <quire/arch.h>
#include <quire/assert.h>
#include <quire/lock.h>

#include "tlb/tlb.h"

static void
flush_pages(struct qr_tlb *tlb, const struct tlb_change *change, unsigned asid,
            enum qr_flush_reach reach)
{
    struct qr_flush flush = {.runs = change->runs,
                             .run_count = change->run_count,
                             .asid = asid,
                             .global = change->space->global,
                             .tables = change->tables_freed,
                             .reach = reach};

    qr_arch_flush_pages(&flush);
    tlb_count(tlb, QR_EVENT_FLUSH_PAGE, change->page_count);
}

static void
flush_space(struct qr_tlb *tlb, unsigned asid, enum qr_flush_reach reach)
{
    qr_arch_flush_asid(asid, reach);
    tlb_count(tlb, QR_EVENT_FLUSH_SPACE, 1);
}

static void
flush_all(struct qr_tlb *tlb, enum qr_flush_reach reach)
{
    qr_arch_flush_all(reach);
    tlb_count(tlb, QR_EVENT_FLUSH_ALL, 1);
}

/* Bring the loaded space's entries up to @change, or further. */
static void
catch_up(struct qr_tlb *tlb, struct tlb_cpu *me, const struct tlb_change *change)
{
    struct tlb_slot *slot = me->slot;

    if (slot->generation >= change->generation)
        return;
    if (change->mode == TLB_PAGES && slot->generation + 1 == change->generation) {
        flush_pages(tlb, change, me->asid, QR_FLUSH_HERE);
        slot->generation = change->generation;
        return;
    }
    uint64_t generation = atomic_load(&change->space->generation);

    flush_space(tlb, me->asid, QR_FLUSH_HERE);
    slot->generation = generation;
}

/* Do on this CPU what @change asks. */
static void
serve(struct qr_tlb *tlb, struct tlb_cpu *me, const struct tlb_change *change)
{
    if (change->mode == TLB_ALL) {
        flush_all(tlb, QR_FLUSH_HERE);
    } else if (change->space->global) {
        flush_pages(tlb, change, me->asid, QR_FLUSH_HERE);
    } else if (tlb_loaded(me) == change->space) {
        if (change->evict)
            qr_tlb_load_kernel(tlb, me);
        else
            catch_up(tlb, me, change);
    }
}

void
qr_tlb_poll(struct qr_cpu *cpu)
{
    struct qr_tlb *tlb = cpu->poll_context;
    struct tlb_cpu *me = &tlb->cpus[cpu->index];

    for (unsigned word = 0; word < QR_CPU_WORDS; word++) {
        if (atomic_load_explicit(&me->incoming.bits[word], memory_order_relaxed) == 0)
            continue;
        uint64_t bits = atomic_exchange(&me->incoming.bits[word], 0);

        for (; bits != 0; bits &= bits - 1) {
            unsigned from = word * 64 + (unsigned)__builtin_ctzll(bits);
            struct tlb_request *request = &tlb->cpus[from].request;

            for (unsigned i = 0; i < request->change_count; i++) {
                const struct tlb_change *change = &request->changes[i];

                qr_assert(!change->evict || tlb_loaded(me) != change->space ||
                          atomic_load_explicit(&me->lazy, memory_order_relaxed));
                serve(tlb, me, change);
            }
            qr_cpu_set_remove(&request->waiting, cpu->index);
        }
    }
}

void
qr_tlb_interrupt(void)
{
    struct qr_cpu *cpu = qr_port_this_cpu();

    if (cpu->poll != NULL)
        cpu->poll(cpu);
}

/* Of the CPUs in one word of the sets, those that must be told of @change. */
static QR_ALWAYS_INLINE uint64_t
targets_of_word(struct qr_tlb *tlb, const struct tlb_change *change, unsigned word)
{
    bool every = change->space->global || change->mode == TLB_ALL;
    uint64_t bits =
        atomic_load(every ? &tlb->online.bits[word] : &change->space->active.bits[word]);
    uint64_t lazy = 0;

    if (every || change->tables_freed || change->evict)
        return bits;
    for (uint64_t rest = bits; rest != 0; rest &= rest - 1) {
        unsigned cpu = word * 64 + (unsigned)__builtin_ctzll(rest);

        if (atomic_load(&tlb->cpus[cpu].lazy))
            lazy |= rest & -rest;
    }
    return bits & ~lazy;
}

/* Put our request into the queues of @targets, and interrupt them. */
static QR_ALWAYS_INLINE void
post(struct qr_tlb *tlb, const struct qr_cpu_set *targets, unsigned self)
{
    long count = 0;

    for (unsigned word = 0; word < QR_CPU_WORDS; word++) {
        uint64_t bits = atomic_load_explicit(&targets->bits[word], memory_order_relaxed);

        for (; bits != 0; bits &= bits - 1, count++)
            qr_cpu_set_add(&tlb->cpus[word * 64 + (unsigned)__builtin_ctzll(bits)].incoming, self);
    }
    qr_port_ipi(targets);
    tlb_count(tlb, QR_EVENT_IPI, count);
}

/* Ask the other CPUs concerned, do our own part, and wait for theirs. */
static QR_ALWAYS_INLINE void
shoot_by_request(struct qr_tlb *tlb, struct tlb_cpu *me, struct tlb_change *changes, unsigned count,
                 struct qr_cpu *cpu)
{
    struct tlb_request *request = &me->request;
    struct qr_cpu_set targets;
    uint64_t any = 0;

    qr_debug_assert(tlb_set_is_empty(&request->waiting));
    request->changes = changes;
    request->change_count = count;
    for (unsigned i = 0; i < count; i++)
        changes[i].generation = atomic_fetch_add(&changes[i].space->generation, 1) + 1;
    for (unsigned word = 0; word < QR_CPU_WORDS; word++) {
        uint64_t bits = 0;

        for (unsigned i = 0; i < count; i++)
            bits |= targets_of_word(tlb, &changes[i], word);
        if (word == cpu->index / 64)
            bits &= ~((uint64_t)1 << (cpu->index % 64));
        any |= bits;
        atomic_init(&targets.bits[word], bits);
        atomic_store_explicit(&request->waiting.bits[word], bits, memory_order_relaxed);
    }
    if (any != 0)
        post(tlb, &targets, cpu->index);
    for (unsigned i = 0; i < count; i++)
        serve(tlb, me, &changes[i]);
    if (any != 0) {
        while (!tlb_set_is_empty(&request->waiting))
            qr_cpu_relax(cpu);
    }
}

/* How far a broadcast has to go: no further than here where only this CPU has run the space. */
static enum qr_flush_reach
reach_of(const struct qr_tlb_space *space, unsigned self)
{
    uint64_t others = 0;

    for (unsigned word = 0; word < QR_CPU_WORDS; word++) {
        uint64_t bits = atomic_load(&space->held.bits[word]);

        others |= word == self / 64 ? bits & ~((uint64_t)1 << (self % 64)) : bits;
    }
    return others == 0 ? QR_FLUSH_HERE : QR_FLUSH_EVERYWHERE;
}

/* Hardware tells the other CPUs, lazy ones too: nobody falls behind, so no generation passes. */
static QR_ALWAYS_INLINE void
shoot_by_broadcast(struct qr_tlb *tlb, const struct tlb_change *change, unsigned self)
{
    /* The entries are cleared before we look who may hold them (asid.c). */
    atomic_thread_fence(memory_order_seq_cst);
    unsigned asid = qr_asid_of(change->space);

    if (change->mode == TLB_ALL)
        flush_all(tlb, QR_FLUSH_EVERYWHERE);
    else if (change->space->global)
        flush_pages(tlb, change, tlb->cpus[self].asid, QR_FLUSH_EVERYWHERE);
    else if (tlb->tagged && asid == 0)
        return; /* no CPU has run it */
    else if (change->mode == TLB_PAGES)
        flush_pages(tlb, change, asid, reach_of(change->space, self));
    else
        flush_space(tlb, asid, reach_of(change->space, self));
}

/* Twice: for one change, the common case, and for many. */
static QR_ALWAYS_INLINE void
shoot(struct qr_tlb *tlb, struct tlb_change *changes, unsigned count)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    qr_assert(cpu->index < tlb->cpu_count);
    if (tlb->broadcast && !changes->evict) {
        for (unsigned i = 0; i < count; i++)
            shoot_by_broadcast(tlb, &changes[i], cpu->index);
    } else {
        shoot_by_request(tlb, &tlb->cpus[cpu->index], changes, count, cpu);
    }
    qr_cpu_leave(cpu);
}

void
qr_tlb_shoot(struct qr_tlb *tlb, struct tlb_change *change)
{
    shoot(tlb, change, 1);
}

void
qr_tlb_shoot_many(struct qr_tlb *tlb, struct tlb_change *changes, unsigned count)
{
    shoot(tlb, changes, count);
}

void
qr_tlb_publish(struct qr_tlb_space *kernel)
{
    struct tlb_change nothing_there = {.space = kernel, .mode = TLB_ALL};

    qr_assert(kernel->global);
    if (!qr_arch_publish() && kernel->tlb != NULL)
        qr_tlb_shoot(kernel->tlb, &nothing_there);
}
