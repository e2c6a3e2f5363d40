/* SPDX-License-Identifier: MIT */
/*
 * Which space a CPU runs, and what its TLB may still hold of others.
 *
 * Where hardware tags entries (PCID, ASID) each space has a number (asid.c), and a CPU
 * has one slot for each number: the identity of the space whose entries it holds
 * under it, and the generation up to which they are true.  Switching to a space whose
 * slot agrees costs no flush; else the switch drops what is tagged so.  A
 * dead space's slot needs no clean-up: nobody will ever ask for its identity again.
 *
 * Lazy mode.  A kernel thread needs no user space and keeps the tables of
 * whoever ran before.  The CPU stays in the space's `active` set but is not
 * told of changes (shoot.c); when it turns back to user work it compares
 * generations.  When the space ends it is evicted: sent to the kernel's tables.
 */
#include <quire/arch.h>
#include <quire/assert.h>
#include <quire/lock.h>

#include "tlb/tlb.h"

/* Numbers that are used, 0 included: all of them, or none where there are too few. */
static unsigned
numbers_used(unsigned cpu_count, unsigned asid_count)
{
    return asid_count > 2 * cpu_count ? asid_count : 1;
}

/* Slots of one CPU, a power of two.  Where hardware broadcasts, nobody has to compare. */
static unsigned
slots_per_cpu(unsigned asid_count)
{
    unsigned slots = 1;

    while (slots < asid_count && slots < TLB_SLOTS && !qr_arch_flush_broadcasts())
        slots *= 2;
    return slots;
}

size_t
qr_tlb_size(unsigned cpu_count, unsigned asid_count)
{
    asid_count = numbers_used(cpu_count, asid_count);
    return sizeof(struct qr_tlb) + cpu_count * sizeof(struct tlb_cpu) +
           cpu_count * slots_per_cpu(asid_count) * sizeof(struct tlb_slot) +
           qr_asid_words(asid_count) * sizeof(uint64_t);
}

void
qr_tlb_init(struct qr_tlb *tlb, struct qr_frames *frames, unsigned cpu_count, unsigned asid_count)
{
    qr_assert(cpu_count > 0 && cpu_count <= CONFIG_MAX_CPUS && asid_count <= TLB_NUMBER_MASK + 1);
    __builtin_memset(tlb, 0, qr_tlb_size(cpu_count, asid_count));
    tlb->counters = qr_frames_counters(frames);
    tlb->cpu_count = cpu_count;
    tlb->asid_count = numbers_used(cpu_count, asid_count);
    tlb->tagged = tlb->asid_count > 1;
    tlb->broadcast = qr_arch_flush_broadcasts();

    unsigned slots = slots_per_cpu(tlb->asid_count);
    struct tlb_slot *slot = (struct tlb_slot *)(void *)&tlb->cpus[cpu_count];

    tlb->slot_mask = slots - 1;
    for (unsigned cpu = 0; cpu < cpu_count; cpu++, slot += slots)
        tlb->cpus[cpu].slots = slot;
    tlb->numbers = (uint64_t *)(void *)slot;
    qr_asid_init(tlb);
    atomic_init(&tlb->next_id, 1);
}

void
qr_tlb_set_kernel(struct qr_tlb *tlb, struct qr_tlb_space *kernel)
{
    qr_assert(kernel->tlb == tlb && tlb->kernel == NULL);
    kernel->global = true;
    tlb->kernel = kernel;
}

void
qr_tlb_cpu_online(struct qr_tlb *tlb)
{
    struct qr_cpu *cpu = qr_cpu_enter();

    qr_assert(cpu->index < tlb->cpu_count && !qr_cpu_set_has(&tlb->online, cpu->index));
    cpu->poll_context = tlb;
    cpu->poll = qr_tlb_poll;
    qr_cpu_set_add(&tlb->online, cpu->index);
    tlb->cpus[cpu->index].round = atomic_load(&tlb->round);
    /* Kernel mappings may have changed before we could be told. */
    qr_arch_flush_all(QR_FLUSH_HERE);
    qr_cpu_leave(cpu);
}

void
qr_tlb_set_naive(struct qr_tlb *tlb, bool naive)
{
    atomic_store(&tlb->naive, naive);
}

void
qr_tlb_set_observer(struct qr_tlb *tlb, const struct qr_tlb_observer *observer)
{
    static const struct qr_tlb_observer none;

    tlb->observer = observer != NULL ? *observer : none;
}

void
qr_tlb_space_init(struct qr_tlb_space *space, struct qr_tlb *tlb, struct qr_tables *tables)
{
    space->tlb = tlb;
    space->tables = tables;
    space->id = tlb == NULL ? 0 : atomic_fetch_add(&tlb->next_id, 1);
    atomic_init(&space->generation, 1);
    atomic_init(&space->context, 0);
    atomic_init(&space->pending, 0);
    for (unsigned word = 0; word < QR_CPU_WORDS; word++) {
        atomic_init(&space->active.bits[word], 0);
        atomic_init(&space->held.bits[word], 0);
    }
    space->global = false;
}

void
qr_tlb_space_unload(struct qr_tlb_space *space)
{
    struct tlb_change end = {.space = space, .mode = TLB_SPACE, .evict = true};

    if (space->tlb == NULL)
        return;
    if (!tlb_set_is_empty(&space->active))
        qr_tlb_shoot(space->tlb, &end);
    qr_assert(tlb_set_is_empty(&space->active));
    qr_asid_release(space->tlb, space);
}

void
qr_tlb_space_fini(struct qr_tlb_space *space)
{
    qr_assert(atomic_load(&space->pending) == 0);
    qr_tlb_space_unload(space);
}

/* This CPU's place in @tlb; interrupts are off. */
static struct tlb_cpu *
tlb_me(struct qr_tlb *tlb, struct qr_cpu *cpu)
{
    qr_debug_assert(cpu->poll_context == tlb);
    return &tlb->cpus[cpu->index];
}

/* From now on entries under the number of @context are those of @space; are the ones held true? */
static bool
slot_enter(struct qr_tlb *tlb, struct tlb_cpu *me, struct qr_tlb_space *space, uint64_t context)
{
    struct tlb_slot *slot = &me->slots[context & tlb->slot_mask];
    uint64_t generation = atomic_load(&space->generation);
    unsigned self = (unsigned)(me - tlb->cpus);

    me->slot = slot;
    if (slot->context == context && slot->generation == generation)
        return tlb->tagged;
    slot->context = context;
    slot->generation = generation;
    if (tlb->broadcast && !qr_cpu_set_has(&space->held, self))
        qr_cpu_set_add(&space->held, self);
    /* What is broadcast keeps a number's entries true on every CPU from the round's beginning on. */
    return tlb->tagged & tlb->broadcast;
}

void
qr_tlb_load_kernel(struct qr_tlb *tlb, struct tlb_cpu *me)
{
    struct qr_tlb_space *previous = tlb_loaded(me);
    unsigned self = (unsigned)(me - tlb->cpus);

    qr_assert(tlb->kernel != NULL);
    if (previous == NULL)
        return;
    qr_arch_root_switch(tlb->kernel->tables->root_pa, 0, tlb->tagged);
    me->asid = 0;
    atomic_store_explicit(&me->loaded, NULL, memory_order_release);
    /* Evicted while we wait for another's number, we are still coming to that. */
    if (atomic_load_explicit(&me->coming, memory_order_relaxed) == previous)
        atomic_store_explicit(&me->coming, NULL, memory_order_release);
    atomic_store(&me->lazy, false);
    qr_cpu_set_remove(&previous->active, self);
    tlb_count(tlb, QR_EVENT_SWITCH, 1);
}

/* Compare with the space's generation, and flush what was missed. */
static void
stop_being_lazy(struct qr_tlb *tlb, struct tlb_cpu *me)
{
    atomic_store(&me->lazy, false);

    uint64_t generation = atomic_load(&tlb_loaded(me)->generation);

    if (me->slot->generation == generation)
        return;
    qr_arch_flush_asid(me->asid, QR_FLUSH_HERE);
    tlb_count(tlb, QR_EVENT_FLUSH_SPACE, 1);
    me->slot->generation = generation;
}

static inline void
switch_space(struct qr_tlb *tlb, struct tlb_cpu *me, struct qr_tlb_space *next, unsigned self)
{
    /* Without identifiers: number 0, and somebody whom the slot does not know. */
    uint64_t context = tlb->tagged ? qr_asid_get(tlb, me, next) : next->id << TLB_NUMBER_BITS;

    /* Whoever finds us in next->active has to tell us. */
    if (atomic_load_explicit(&me->lazy, memory_order_relaxed))
        atomic_store(&me->lazy, false);
    qr_cpu_set_add(&next->active, self);

    bool keep = slot_enter(tlb, me, next, context);
    struct qr_tlb_space *previous =
        tlb_loaded(me); /* waiting for a number, we may have been evicted */

    me->asid = (unsigned)(context & TLB_NUMBER_MASK);
    qr_arch_root_switch(next->tables->root_pa, (unsigned)(context & TLB_NUMBER_MASK), keep);
    atomic_store_explicit(&me->loaded, next, memory_order_release);
    if (previous != NULL)
        qr_cpu_set_remove(&previous->active, self);
    tlb_count(tlb, QR_EVENT_SWITCH, 1);
    if (keep)
        tlb_count(tlb, QR_EVENT_SWITCH_NO_FLUSH, 1);
}

void
qr_tlb_switch(struct qr_tlb_space *next)
{
    struct qr_tlb *tlb = next->tlb;
    struct qr_cpu *cpu = qr_cpu_enter();
    struct tlb_cpu *me = tlb_me(tlb, cpu);

    if (next == tlb->kernel)
        qr_tlb_load_kernel(tlb, me);
    else if (next != tlb_loaded(me))
        switch_space(tlb, me, next, cpu->index);
    else if (atomic_load_explicit(&me->lazy, memory_order_relaxed))
        stop_being_lazy(tlb, me);
    qr_cpu_leave(cpu);
}

void
qr_tlb_enter_lazy(void)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct qr_tlb *tlb = cpu->poll_context;
    struct tlb_cpu *me = &tlb->cpus[cpu->index];

    if (tlb_loaded(me) != NULL)
        atomic_store_explicit(&me->lazy, true, memory_order_release);
    qr_cpu_leave(cpu);
}

void
qr_tlb_leave_lazy(void)
{
    struct qr_cpu *cpu = qr_cpu_enter();
    struct qr_tlb *tlb = cpu->poll_context;
    struct tlb_cpu *me = &tlb->cpus[cpu->index];

    if (tlb_loaded(me) != NULL && atomic_load_explicit(&me->lazy, memory_order_relaxed))
        stop_being_lazy(tlb, me);
    qr_cpu_leave(cpu);
}
