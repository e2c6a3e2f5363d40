/* SPDX-License-Identifier: MIT */
/*
 * The MMU of a simulated CPU: TLB, walk caches, walker.
 *
 * The walker reads the bytes that the library wrote, entry by entry, decodes
 * them through the format's own file, sets accessed and dirty bits by
 * compare-and-swap as the hardware does, and leaves behind an entry in the TLB
 * and one in the walk cache for each table that it passed.  None is ever lost
 * but by a flush (or by a page fault at that address, which drops what would
 * translate it: SDM 4.10.4.1), unless SIM_EVICT is on.
 *
 * A hit is used as it is: its rights may be fewer than the tables' by now (a
 * spurious fault, which the library must survive) or more (a stale hit, which
 * the oracle judges).  A write through an entry that is not yet dirty walks
 * again, to set the bit.
 */
#include "machine.h"
#include "mmu.h"

#include <string.h>

const struct mmu_ops *
mmu_of(enum sim_mmu mmu)
{
    switch (mmu) {
    case SIM_MMU_X86_64:
        return &mmu_x86_64;
    case SIM_MMU_X86_64_LA57:
        return &mmu_x86_64_la57;
    case SIM_MMU_SCRAMBLED:
        return &mmu_scrambled;
    case SIM_MMU_COUNT:
        break;
    }
    sim_fail("no MMU number %u", (unsigned)mmu);
}

uintptr_t
mmu_user_end(const struct mmu_ops *ops)
{
    return ops->user_end;
}

static struct mmu_state
state_of(const struct sim_cpu *cpu)
{
    return (struct mmu_state){.features = cpu->sim->options.features, .pkru = cpu->pkru};
}

static bool
va_is_canonical(const struct mmu_ops *mmu, uintptr_t va)
{
    uintptr_t high;

    if (mmu->va_bits >= sizeof(va) * 8)
        return true;
    if (!mmu->sign_extended)
        return va >> mmu->va_bits == 0;
    high = va >> (mmu->va_bits - 1);
    return high == 0 || high == UINTPTR_MAX >> (mmu->va_bits - 1);
}

/* ---- Reading tables -------------------------------------------------------- */

static _Atomic uint64_t *
entry_at(struct sim *sim, uint64_t table, unsigned level, uintptr_t va)
{
    if (!bank_has(sim, table))
        sim_fail("the walk for %#llx meets a table at %#llx, where there is no RAM",
                 (unsigned long long)va, (unsigned long long)table);
    return (_Atomic uint64_t *)(void *)(sim->ram + table + sim->mmu->offset(level, va));
}

/* A walk that stands at an entry: what all levels so far allow together. */
struct walk {
    uint64_t table;
    unsigned level;
    unsigned prot;
    _Atomic uint64_t *at;
    uint64_t raw;
    struct mmu_entry entry;
};

static void
walk_read(struct sim *sim, const struct mmu_state *state, struct walk *walk, uintptr_t va)
{
    walk->at = entry_at(sim, walk->table, walk->level, va);
    walk->raw = atomic_load_explicit(walk->at, memory_order_acquire);
    walk->entry = sim->mmu->decode(state, walk->level, walk->raw);
}

static struct walk
walk_from_root(struct sim *sim, qr_pa root)
{
    return (struct walk){.table = root.v,
                         .level = sim->mmu->levels - 1,
                         .prot = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC | QR_PROT_USER |
                                 QR_PROT_GLOBAL};
}

struct sim_mapping
sim_walk(struct sim *sim, qr_pa root, qr_va va)
{
    struct mmu_state state = {.features = sim->options.features};
    struct walk walk = walk_from_root(sim, root);
    struct sim_mapping mapping;

    memset(&mapping, 0, sizeof(mapping));
    if (!va_is_canonical(sim->mmu, va.v))
        return mapping;
    for (;;) {
        walk_read(sim, &state, &walk, va.v);
        if (walk.entry.kind == MMU_NONE || walk.entry.kind == MMU_RESERVED)
            return mapping;
        if (walk.entry.kind == MMU_LEAF)
            break;
        walk.prot &= walk.entry.prot | QR_PROT_GLOBAL;
        walk.table = walk.entry.pa;
        walk.level--;
    }
    mapping.present = true;
    mapping.shift = sim->mmu->shift(walk.level);
    mapping.pa = qr_pa_of(walk.entry.pa + (va.v & (((uintptr_t)1 << mapping.shift) - 1)));
    mapping.prot = walk.prot & walk.entry.prot;
    mapping.accessed = walk.entry.accessed;
    mapping.dirty = walk.entry.dirty;
    mapping.pkey = walk.entry.pkey;
    mapping.cache = walk.entry.cache;
    return mapping;
}

/*
 * Visit every leaf, in order of address.  A position is one address; the walk
 * for it ends at a leaf or at the highest empty entry, whose extent is skipped.
 */
bool
mmu_next_leaf(struct sim *sim, qr_pa root, uintptr_t *va, uintptr_t end, struct sim_mapping *out)
{
    struct mmu_state state = {.features = sim->options.features};

    while (*va < end) {
        struct walk walk = walk_from_root(sim, root);

        for (walk_read(sim, &state, &walk, *va); walk.entry.kind == MMU_TABLE;
             walk_read(sim, &state, &walk, *va)) {
            walk.table = walk.entry.pa;
            walk.level--;
        }
        uintptr_t bytes = (uintptr_t)1 << sim->mmu->shift(walk.level);

        *va &= ~(bytes - 1);
        if (walk.entry.kind == MMU_RESERVED)
            sim_fail("the entry for %#llx (%#llx at level %u) has a reserved bit set",
                     (unsigned long long)*va, (unsigned long long)walk.raw, walk.level);
        if (walk.entry.kind == MMU_LEAF) {
            *out = sim_walk(sim, root, qr_va_of(*va));
            return true;
        }
        *va += bytes;
    }
    return false;
}

bool
sim_walk_reaches(struct sim *sim, qr_pa root, const struct tlb_entry *cached)
{
    struct mmu_state state = {.features = sim->options.features};
    uintptr_t va = (uintptr_t)(cached->page << cached->shift);
    struct walk walk = walk_from_root(sim, root);

    for (;;) {
        walk_read(sim, &state, &walk, va);
        if (walk.entry.kind != MMU_TABLE)
            return false;
        walk.prot &= walk.entry.prot | QR_PROT_GLOBAL;
        if (sim->mmu->shift(walk.level) == cached->shift)
            return walk.entry.pa == cached->pa && (cached->prot & ~walk.prot) == 0;
        walk.table = walk.entry.pa;
        walk.level--;
    }
}

/* ---- Filling ----------------------------------------------------------------- */

/* The lowest table that the walk cache knows for @va, else the root. */
static struct walk
walk_start(struct sim_cpu *cpu, uintptr_t va, struct tlb_entry *out_from)
{
    struct sim *sim = cpu->sim;
    struct walk walk = walk_from_root(sim, cpu->root);

    memset(out_from, 0, sizeof(*out_from));
    for (unsigned level = 1; level < sim->mmu->levels; level++) {
        struct tlb_entry *entry =
            tlb_find(cpu->tlb, TLB_WALK, cpu->asid, sim->mmu->shift(level), va);

        if (entry == NULL)
            continue;
        oracle_check_hit(cpu, entry, NULL);
        *out_from = *entry;
        walk.table = entry->pa;
        walk.level = level - 1;
        walk.prot = entry->prot;
        return walk;
    }
    return walk;
}

static void
table_is_live(struct sim_cpu *cpu, const struct walk *walk, uintptr_t va)
{
    enum sim_frame_state state = SIM_FRAME_UNKNOWN;

    if (cpu->sim->hooks.frame_state != NULL)
        state = cpu->sim->hooks.frame_state(cpu->sim, qr_pa_of(walk->table));
    if (state == SIM_FRAME_FREE || state == SIM_FRAME_OTHER)
        sim_fail("CPU %u walks for %#llx through frame %#llx, which is no page table any more",
                 cpu->qr.index, (unsigned long long)va, (unsigned long long)walk->table);
}

static void
fill(struct sim_cpu *cpu, const struct walk *walk, uintptr_t va, const struct tlb_entry *from)
{
    unsigned shift = cpu->sim->mmu->shift(walk->level);
    bool leaf = walk->entry.kind == MMU_LEAF;
    unsigned prot =
        leaf ? walk->prot & walk->entry.prot : walk->prot & (walk->entry.prot | QR_PROT_GLOBAL);
    struct tlb_entry entry = {
        .kind = leaf ? TLB_LEAF : TLB_WALK,
        .asid = cpu->asid,
        .shift = shift,
        .page = (uint64_t)va >> shift,
        .pa = walk->entry.pa,
        .root = cpu->root.v,
        .prot = prot,
        .global = leaf && (walk->entry.prot & QR_PROT_GLOBAL) != 0,
        .dirty = walk->entry.dirty,
        .pkey = walk->entry.pkey,
    };
    struct tlb_entry *old = tlb_find(cpu->tlb, entry.kind, entry.asid, shift, va);

    if (from->used) { /* what came from a stale table is as stale */
        entry.stale_ticket = from->stale_ticket;
        entry.revoked = from->revoked;
    }
    if (old != NULL)
        tlb_remove(cpu->tlb, old);
    tlb_insert(cpu->tlb, &entry);
}

enum { WALK_TRIES = 1000 };

/* A kernel read of nothing has the hardware's code 0, which here means success. */
#define NOT_PRESENT 0x80000000u

/*
 * Set accessed (and dirty, for a write to a leaf) unless they are set.  False
 * where the entry changed under us: read it again.
 */
static bool
walk_mark(struct sim_cpu *cpu, struct walk *walk, bool write)
{
    bool dirty = write && walk->entry.kind == MMU_LEAF;
    uint64_t marked = cpu->sim->mmu->mark(walk->level, walk->raw, dirty);

    if (marked == walk->raw)
        return true;
    if (!atomic_compare_exchange_strong(walk->at, &walk->raw, marked))
        return false;
    walk->raw = marked;
    walk->entry.accessed = true;
    walk->entry.dirty |= dirty;
    return true;
}

/*
 * Walk for @access.  0 where it is allowed: the leaf is then in the TLB and in
 * *out_walk.  Else the fault code.
 */
static unsigned
mmu_walk(struct sim_cpu *cpu, const struct sim_access *access, struct walk *out_walk)
{
    struct sim *sim = cpu->sim;
    struct mmu_state state = state_of(cpu);
    bool write = (access->access & QR_ACCESS_WRITE) != 0;
    uintptr_t va = access->va.v;
    struct tlb_entry from;
    struct walk walk = walk_start(cpu, va, &from);

    for (unsigned tries = 0; tries < WALK_TRIES; tries++) {
        table_is_live(cpu, &walk, va);
        walk_read(sim, &state, &walk, va);
        if (walk.entry.kind == MMU_NONE)
            return sim->mmu->code(&state, access, 0) | NOT_PRESENT;
        if (walk.entry.kind == MMU_RESERVED)
            return sim->mmu->code(&state, access, SIM_FAULT_PRESENT | SIM_FAULT_RESERVED);
        if (walk.entry.kind == MMU_LEAF) {
            unsigned code =
                sim->mmu->check(&state, access, walk.prot & walk.entry.prot, walk.entry.pkey);

            if (code != 0)
                return code;
        }
        if (!walk_mark(cpu, &walk, write))
            continue;
        fill(cpu, &walk, va, &from);
        if (walk.entry.kind == MMU_LEAF) {
            *out_walk = walk;
            return 0;
        }
        walk.prot &= walk.entry.prot | QR_PROT_GLOBAL;
        walk.table = walk.entry.pa;
        walk.level--;
    }
    sim_fail("the entry for %#llx changed %d times during one walk", (unsigned long long)va,
             WALK_TRIES);
}

/* ---- Translating --------------------------------------------------------------- */

static struct tlb_entry *
tlb_look_up(struct sim_cpu *cpu, uintptr_t va)
{
    const struct mmu_ops *mmu = cpu->sim->mmu;

    for (unsigned level = 0; level < mmu->levels; level++) {
        struct tlb_entry *entry = tlb_find(cpu->tlb, TLB_LEAF, cpu->asid, mmu->shift(level), va);

        if (entry != NULL)
            return entry;
    }
    return NULL;
}

bool
sim_tlb_has(qr_va va)
{
    return tlb_look_up(here(), va.v) != NULL;
}

size_t
sim_tlb_count(struct sim *sim, unsigned cpu)
{
    return tlb_leaf_count(sim->cpus[cpu].tlb);
}

/* A page fault drops every entry that would translate its address. */
void
mmu_forget(struct sim_cpu *cpu, uintptr_t va)
{
    const struct mmu_ops *mmu = cpu->sim->mmu;

    for (unsigned level = 0; level < mmu->levels; level++) {
        for (unsigned kind = TLB_LEAF; kind <= TLB_WALK; kind++) {
            struct tlb_entry *entry;

            while ((entry = tlb_find(cpu->tlb, (enum tlb_kind)kind, cpu->asid, mmu->shift(level),
                                     va)) != NULL)
                tlb_remove(cpu->tlb, entry);
        }
    }
}

static unsigned
translate(struct sim_cpu *cpu, const struct sim_access *access, uint64_t *out_pa)
{
    struct mmu_state state = state_of(cpu);
    struct tlb_entry *hit = tlb_look_up(cpu, access->va.v);
    struct walk walk;
    unsigned code;

    if (hit != NULL) {
        code = cpu->sim->mmu->check(&state, access, hit->prot, hit->pkey);
        if (code != 0)
            return code;
        if (hit->dirty || (access->access & QR_ACCESS_WRITE) == 0) {
            cpu->stats.tlb_hits++;
            oracle_check_hit(cpu, hit, access);
            *out_pa = hit->pa + (access->va.v & ((1ull << hit->shift) - 1));
            return 0;
        }
    }
    cpu->stats.tlb_misses++;
    code = mmu_walk(cpu, access, &walk);
    if (code == 0)
        *out_pa = walk.entry.pa + (access->va.v & ((1ull << cpu->sim->mmu->shift(walk.level)) - 1));
    return code;
}

struct sim_cpu *
cpu_with_root(uintptr_t va)
{
    struct sim_cpu *cpu = here();

    if (cpu == NULL || !cpu->root_loaded)
        sim_fail("an access to %#llx with no page table loaded", (unsigned long long)va);
    return cpu;
}

bool
cpu_translate(struct sim_cpu *cpu, struct sim_access access, uint64_t *out_pa, unsigned *out_code)
{
    unsigned code;

    cpu->stats.accesses++;
    cpu->last_va = access.va.v;
    if (!va_is_canonical(cpu->sim->mmu, access.va.v)) {
        *out_code = SIM_FAULT_NONCANONICAL;
        return false;
    }
    sched_hold(cpu->sim);
    if ((cpu->sim->options.features & (SIM_SPECULATE | SIM_EVICT)) != 0)
        mmu_speculate(cpu);
    code = translate(cpu, &access, out_pa);
    if (code != 0)
        mmu_forget(cpu, access.va.v);
    sched_release(cpu->sim);
    *out_code = code & ~NOT_PRESENT;
    return code == 0;
}

bool
sim_translate(struct sim_access access, qr_pa *out_pa, unsigned *out_code)
{
    uint64_t pa;

    sim_poll();
    if (!cpu_translate(cpu_with_root(access.va.v), access, &pa, out_code))
        return false;
    *out_pa = qr_pa_of(pa);
    return true;
}

/* ---- What nobody asked for ------------------------------------------------------- */

static void
speculate_fill(struct sim_cpu *cpu)
{
    struct sim *sim = cpu->sim;
    uintptr_t near = (uintptr_t)(random_next(&cpu->random) % 33) - 16;
    struct sim_access access = {
        .va = qr_va_of(cpu->last_va + (near << QR_PAGE_SHIFT)),
        .access = QR_ACCESS_READ,
        .mode = SIM_USER,
    };
    struct walk walk;

    if (!cpu->root_loaded || !va_is_canonical(sim->mmu, access.va.v) ||
        tlb_look_up(cpu, access.va.v) != NULL)
        return;
    /* No fault, whatever comes of it: speculation fails in silence. */
    if (mmu_walk(cpu, &access, &walk) == 0)
        cpu->stats.speculative_fills++;
}

static void
evict_one(struct sim_cpu *cpu)
{
    uint64_t skip = random_next(&cpu->random) % 16;
    struct tlb_entry *entry = tlb_next(cpu->tlb, NULL);

    while (entry != NULL && skip-- > 0)
        entry = tlb_next(cpu->tlb, entry);
    if (entry == NULL)
        return;
    tlb_remove(cpu->tlb, entry);
    cpu->stats.evictions++;
}

void
mmu_speculate(struct sim_cpu *cpu)
{
    struct sim *sim = cpu->sim;
    struct sim_cpu *other = cpu;

    /* Any CPU may do it at any time; host threads keep to their own. */
    if (!sim->threaded)
        other = &sim->cpus[random_next(&cpu->random) % sim->cpu_count];
    if ((sim->options.features & SIM_SPECULATE) != 0 && cpu_chance(cpu, 4))
        speculate_fill(other);
    if ((sim->options.features & SIM_EVICT) != 0 && cpu_chance(cpu, 16))
        evict_one(other);
}
