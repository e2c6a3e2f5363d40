/* SPDX-License-Identifier: MIT */
/*
 * The MMU of a simulated CPU: TLB, walk caches, walker.
 *
 * The walker reads the bytes that the library wrote, entry by entry, decodes
 * them through the format's own file, sets accessed and dirty bits by
 * compare-and-swap as the hardware does, and leaves behind an entry in the TLB
 * and one in the walk cache for each table that it passed.  None is ever lost
 * but by a flush (or, on x86, by a page fault at that address, which drops what
 * would translate it: SDM 4.10.4.1), unless SIM_EVICT is on.
 *
 * A hit is used as it is: its rights may be fewer than the tables' by now (a
 * spurious fault, which the library must survive) or more (a stale hit, which
 * the oracle judges).  A write through an entry that is not yet dirty walks
 * again, to set the bit.
 *
 * What the architectures do differently stands in struct mmu_ops:
 *
 *   two roots       the upper half goes through a root of its own (AArch64)
 *   registers       the root's entries are read when it is loaded (PAE): until the next
 *                   load they are what they were, absent ones too
 *   groups          neighbours that carry the contiguous hint are one entry of the TLB; a
 *                   NAPOT page is sixteen, filled all at once
 *   absent entries  may be remembered as such, with SIM_CACHE_INVALID (RISC-V)
 */
#include "machine.h"
#include "mmu.h"

#include <stdlib.h>
#include <string.h>

static const struct mmu_ops *const models[SIM_MMU_COUNT] = {
    [SIM_MMU_X86_64] = &mmu_x86_64,
    [SIM_MMU_X86_64_LA57] = &mmu_x86_64_la57,
    [SIM_MMU_X86_32] = &mmu_x86_32,
    [SIM_MMU_X86_PAE] = &mmu_x86_pae,
    [SIM_MMU_AARCH64_4K] = &mmu_aarch64_4k,
    [SIM_MMU_AARCH64_4K_39] = &mmu_aarch64_4k_39,
    [SIM_MMU_AARCH64_4K_52] = &mmu_aarch64_4k_52,
    [SIM_MMU_AARCH64_16K] = &mmu_aarch64_16k,
    [SIM_MMU_AARCH64_16K_48] = &mmu_aarch64_16k_48,
    [SIM_MMU_AARCH64_16K_52] = &mmu_aarch64_16k_52,
    [SIM_MMU_AARCH64_64K] = &mmu_aarch64_64k,
    [SIM_MMU_AARCH64_64K_42] = &mmu_aarch64_64k_42,
    [SIM_MMU_AARCH64_64K_52] = &mmu_aarch64_64k_52,
    [SIM_MMU_RISCV64_SV39] = &mmu_riscv64_sv39,
    [SIM_MMU_RISCV64_SV48] = &mmu_riscv64_sv48,
    [SIM_MMU_RISCV64_SV57] = &mmu_riscv64_sv57,
    [SIM_MMU_SCRAMBLED] = &mmu_scrambled,
};

const struct mmu_ops *
mmu_of(enum sim_mmu mmu)
{
    if (mmu >= SIM_MMU_COUNT || models[mmu] == NULL)
        sim_fail("no MMU number %u", (unsigned)mmu);
    return models[mmu];
}

const char *
sim_mmu_name(enum sim_mmu mmu)
{
    return mmu_of(mmu)->name;
}

bool
sim_mmu_fits(enum sim_mmu mmu)
{
    return mmu_of(mmu)->page_shift == QR_PAGE_SHIFT;
}

enum sim_mmu
sim_mmu_default(void)
{
    const char *name = getenv("SIM_MMU");

    for (enum sim_mmu mmu = SIM_MMU_DEFAULT + 1; mmu < SIM_MMU_COUNT; mmu++) {
        if (name != NULL ? strcmp(name, mmu_of(mmu)->name) == 0 : sim_mmu_fits(mmu))
            return mmu;
    }
    sim_fail("SIM_MMU=%s: there is no such MMU", name);
}

enum sim_mmu
sim_mmu_by_seed(uint64_t seed)
{
    enum sim_mmu fitting[SIM_MMU_COUNT];
    unsigned count = 0;

    if (getenv("SIM_MMU") != NULL)
        return sim_mmu_default();
    sim_for_each_mmu(mmu) fitting[count++] = mmu;
    return fitting[seed % count];
}

uintptr_t
mmu_user_end(const struct mmu_ops *ops)
{
    return ops->user_end;
}

qr_va
sim_kernel_start(struct sim *sim)
{
    const struct mmu_ops *mmu = sim->mmu;

    if (mmu->roots == MMU_ROOTS_FLAT)
        return qr_va_of(mmu->user_end);
    return qr_va_of(-((uintptr_t)1 << (mmu->va_bits - (mmu->roots == MMU_ROOTS_SIGNED))));
}

unsigned
mmu_code(const struct mmu_state *state, const struct sim_access *access, unsigned cause)
{
    unsigned code = cause;

    (void)state;
    if ((access->access & QR_ACCESS_WRITE) != 0)
        code |= SIM_FAULT_WRITE;
    if ((access->access & QR_ACCESS_EXEC) != 0)
        code |= SIM_FAULT_FETCH;
    if (access->mode == SIM_USER)
        code |= SIM_FAULT_USER;
    return code;
}

static struct mmu_state
state_of(const struct sim_cpu *cpu)
{
    return (struct mmu_state){.features = cpu->sim->options.features, .pkru = cpu->pkru};
}

static bool
va_is_canonical(const struct mmu_ops *mmu, uintptr_t va)
{
    unsigned same = mmu->roots == MMU_ROOTS_SIGNED ? mmu->va_bits - 1 : mmu->va_bits;
    uintptr_t high = va >> same;

    return high == 0 || (mmu->roots != MMU_ROOTS_FLAT && high == UINTPTR_MAX >> same);
}

qr_pa
mmu_root(const struct sim_cpu *cpu, uintptr_t va)
{
    return cpu->sim->mmu->roots == MMU_ROOTS_TWO && (intptr_t)va < 0 ? cpu->upper_root : cpu->root;
}

/* ---- Reading tables -------------------------------------------------------- */

/* A walk that stands at an entry: what all levels so far allow together. */
struct walk {
    uint64_t table;
    unsigned level;
    unsigned rights;
    bool global;
    uint64_t at; /* physical address of the entry */
    uint64_t raw;
    struct mmu_entry entry;
};

static void *
entry_at(struct sim *sim, uint64_t pa, uintptr_t va)
{
    if (!bank_has(sim, pa))
        sim_fail("the walk for %#llx meets a table at %#llx, where there is no RAM",
                 (unsigned long long)va, (unsigned long long)pa);
    return sim->ram + pa;
}

static uint64_t
entry_load(struct sim *sim, uint64_t pa, uintptr_t va)
{
    void *at = entry_at(sim, pa, va);

    if (sim->mmu->entry_bytes == 4)
        return atomic_load_explicit((_Atomic uint32_t *)at, memory_order_acquire);
    return atomic_load_explicit((_Atomic uint64_t *)at, memory_order_acquire);
}

/* Put @new where @old stands; false where it does not any more. */
static bool
entry_swap(struct sim *sim, uint64_t pa, uintptr_t va, uint64_t old, uint64_t new)
{
    void *at = entry_at(sim, pa, va);
    uint32_t narrow = (uint32_t)old;

    if (sim->mmu->entry_bytes == 4)
        return atomic_compare_exchange_strong((_Atomic uint32_t *)at, &narrow, (uint32_t) new);
    return atomic_compare_exchange_strong((_Atomic uint64_t *)at, &old, new);
}

static uint64_t
low_bits(unsigned count)
{
    return (1ull << count) - 1;
}

/* Read the entry for @va.  A member of a group maps its own part, whatever its address says. */
static void
walk_read(struct sim *sim, const struct mmu_state *state, struct walk *walk, uintptr_t va)
{
    const struct mmu_ops *mmu = sim->mmu;

    walk->at = walk->table + mmu->offset(walk->level, va);
    walk->raw = entry_load(sim, walk->at, va);
    walk->entry = mmu->decode(state, walk->level, walk->raw);
    if (walk->entry.kind == MMU_LEAF && walk->entry.span != 0)
        walk->entry.pa = (walk->entry.pa & ~low_bits(walk->entry.span)) |
                         (va & low_bits(walk->entry.span) & ~low_bits(mmu->shift(walk->level)));
}

static struct walk
walk_from_root(struct sim *sim, qr_pa root)
{
    return (struct walk){.table = root.v, .level = sim->mmu->levels - 1, .rights = MMU_EVERYTHING};
}

static void
walk_down(struct walk *walk)
{
    walk->rights &= walk->entry.rights;
    walk->global |= walk->entry.global;
    walk->table = walk->entry.pa;
    walk->level--;
}

/* To the leaf, or to where the walk ends without one. */
static struct walk
walk_all(struct sim *sim, const struct mmu_state *state, qr_pa root, uintptr_t va)
{
    struct walk walk = walk_from_root(sim, root);

    for (walk_read(sim, state, &walk, va); walk.entry.kind == MMU_TABLE;
         walk_read(sim, state, &walk, va))
        walk_down(&walk);
    return walk;
}

bool
mmu_find(struct sim *sim, qr_pa root, uintptr_t va, struct mmu_found *out_found)
{
    struct mmu_state state = {.features = sim->options.features};

    memset(out_found, 0, sizeof(*out_found));
    if (root.v == 0 || !va_is_canonical(sim->mmu, va))
        return false;
    struct walk walk = walk_all(sim, &state, root, va);

    out_found->shift = sim->mmu->shift(walk.level);
    if (walk.entry.kind != MMU_LEAF)
        return false;
    out_found->extent = walk.entry.span != 0 ? walk.entry.span : out_found->shift;
    out_found->pa = walk.entry.pa + (va & low_bits(out_found->shift));
    out_found->rights = walk.rights & walk.entry.rights;
    out_found->accessed = walk.entry.accessed;
    out_found->dirty = walk.entry.dirty;
    out_found->global = walk.global || walk.entry.global;
    out_found->pkey = walk.entry.pkey;
    out_found->cache = walk.entry.cache;
    return true;
}

/* What a user's program may do where it may do anything, else what the kernel may. */
static unsigned
prot_of(const struct mmu_found *found)
{
    unsigned all = QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC;
    unsigned user = found->rights >> MMU_USER_SHIFT & all;
    unsigned prot = user != 0 ? user | QR_PROT_USER : found->rights & all;

    return prot | (found->global ? QR_PROT_GLOBAL : 0u);
}

struct sim_mapping
sim_walk(struct sim *sim, qr_pa root, qr_va va)
{
    struct sim_mapping mapping;
    struct mmu_found found;

    memset(&mapping, 0, sizeof(mapping));
    if (!mmu_find(sim, root, va.v, &found))
        return mapping;
    mapping.present = true;
    mapping.shift = found.shift;
    mapping.pa = qr_pa_of(found.pa);
    mapping.prot = prot_of(&found);
    mapping.accessed = found.accessed;
    mapping.dirty = found.dirty;
    mapping.pkey = found.pkey;
    mapping.cache = found.cache;
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
        struct walk walk = walk_all(sim, &state, root, *va);
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

/* The entry that the walk for @va meets where one entry covers 1 << @shift bytes. */
static struct walk
walk_to_shift(struct sim *sim, qr_pa root, uintptr_t va, unsigned shift)
{
    struct mmu_state state = {.features = sim->options.features};
    struct walk walk = walk_from_root(sim, root);

    for (walk_read(sim, &state, &walk, va);
         walk.entry.kind == MMU_TABLE && sim->mmu->shift(walk.level) > shift;
         walk_read(sim, &state, &walk, va))
        walk_down(&walk);
    return walk;
}

enum mmu_reach
mmu_reaches(struct sim *sim, qr_pa root, const struct tlb_entry *cached)
{
    struct walk walk =
        walk_to_shift(sim, root, (uintptr_t)(cached->page << cached->shift), cached->shift);

    if (walk.entry.kind == MMU_NONE)
        return MMU_REACH_NOTHING;
    if (walk.entry.kind != MMU_TABLE || sim->mmu->shift(walk.level) != cached->shift ||
        walk.entry.pa != cached->pa)
        return MMU_REACH_OTHER;
    return (cached->rights & ~(walk.rights & walk.entry.rights)) == 0 ? MMU_REACH_SAME
                                                                      : MMU_REACH_LESS;
}

/* ---- Filling ----------------------------------------------------------------- */

/* The lowest table that the walk cache knows for @va, else the root.  False: it has none. */
static bool
walk_start(struct sim_cpu *cpu, uintptr_t va, struct tlb_entry *out_from, struct walk *out_walk)
{
    struct sim *sim = cpu->sim;
    unsigned highest = sim->mmu->levels - 1;

    *out_walk = walk_from_root(sim, mmu_root(cpu, va));
    memset(out_from, 0, sizeof(*out_from));
    for (unsigned level = 1; level <= highest; level++) {
        struct tlb_entry *entry =
            tlb_find(cpu->tlb, TLB_WALK, cpu->asid, sim->mmu->shift(level), va);

        if (entry == NULL)
            continue;
        oracle_check_hit(cpu, entry, NULL);
        *out_from = *entry;
        out_walk->table = entry->pa;
        out_walk->level = level - 1;
        out_walk->rights = entry->rights;
        out_walk->global = entry->global_below;
        return true;
    }
    return out_walk->table != 0 && sim->mmu->register_level == 0;
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
fill_one(struct sim_cpu *cpu, const struct tlb_entry *entry)
{
    struct tlb_entry *old;

    while ((old = tlb_find(cpu->tlb, entry->kind, entry->asid, entry->shift,
                           (uintptr_t)(entry->page << entry->shift))) != NULL)
        tlb_remove(cpu->tlb, old);
    if (cpu->sim->tlb_size != 0 && entry->kind == TLB_LEAF &&
        tlb_leaf_count(cpu->tlb) >= cpu->sim->tlb_size)
        tlb_drop_leaf(cpu->tlb, random_next(&cpu->random));
    tlb_insert(cpu->tlb, entry);
}

void
sim_set_tlb_size(struct sim *sim, size_t entries)
{
    sim->tlb_size = entries;
}

/*
 * The members of a group must agree but for their accessed and dirty state; one
 * that is not valid is on its way out, and the entry may cover it all the same.
 */
static void
group_check(struct sim_cpu *cpu, const struct walk *walk, uintptr_t va)
{
    struct sim *sim = cpu->sim;
    struct mmu_state state = state_of(cpu);
    unsigned shift = sim->mmu->shift(walk->level);
    uintptr_t start = va & ~low_bits(walk->entry.span);

    for (uintptr_t at = start; at - start <= low_bits(walk->entry.span); at += 1ull << shift) {
        uint64_t raw = entry_load(sim, walk->table + sim->mmu->offset(walk->level, at), at);
        struct mmu_entry entry = sim->mmu->decode(&state, walk->level, raw);
        uint64_t wanted = (walk->entry.pa & ~low_bits(walk->entry.span)) + (at - start);

        if (entry.kind == MMU_NONE)
            continue;
        if (entry.kind != MMU_LEAF || entry.span != walk->entry.span ||
            (sim->mmu->span_whole && entry.pa != wanted) || entry.cache != walk->entry.cache ||
            entry.global != walk->entry.global ||
            ((entry.rights ^ walk->entry.rights) & ~(MMU_USER_WRITE | MMU_KERNEL_WRITE)) != 0)
            sim_fail("a group of contiguous entries at %#llx disagrees: %#llx at %#llx, %#llx at "
                     "%#llx",
                     (unsigned long long)start, (unsigned long long)walk->raw,
                     (unsigned long long)va, (unsigned long long)raw, (unsigned long long)at);
    }
}

/* A group in the TLB: one entry for all of it, or all its parts at once. */
static void
fill_group(struct sim_cpu *cpu, const struct walk *walk, uintptr_t va, struct tlb_entry *entry)
{
    unsigned span = walk->entry.span;
    unsigned shift = entry->shift;
    uint64_t start = va & ~low_bits(span);
    bool whole = cpu->sim->mmu->span_whole;

    group_check(cpu, walk, va);
    if (whole && (cpu->sim->options.features & SIM_SPECULATE) != 0)
        whole = cpu_chance(cpu, 2);
    if (whole)
        entry->shift = span;
    for (uint64_t at = start; at - start <= low_bits(span); at += 1ull << entry->shift) {
        entry->page = at >> entry->shift;
        entry->pa = (walk->entry.pa & ~low_bits(span)) + (at - start);
        fill_one(cpu, entry);
    }
    entry->shift = shift;
}

static void
fill(struct sim_cpu *cpu, const struct walk *walk, uintptr_t va, const struct tlb_entry *from)
{
    unsigned shift = cpu->sim->mmu->shift(walk->level);
    bool leaf = walk->entry.kind == MMU_LEAF;
    bool global = walk->global || walk->entry.global;
    struct tlb_entry entry = {
        .kind = leaf ? TLB_LEAF : TLB_WALK,
        .asid = cpu->asid,
        .shift = shift,
        .page = (uint64_t)va >> shift,
        .pa = walk->entry.pa,
        .root = mmu_root(cpu, va).v,
        .rights = walk->rights & walk->entry.rights,
        .global = leaf && global,
        .global_below = global,
        .dirty = walk->entry.dirty,
        .pkey = walk->entry.pkey,
        .cache = walk->entry.cache,
        .extent = (uint8_t)(walk->entry.span != 0 ? walk->entry.span : shift),
    };

    if (from->used) { /* what came from a stale table is as stale */
        entry.stale_ticket = from->stale_ticket;
        entry.revoked = from->revoked;
    }
    if (leaf && walk->entry.span != 0)
        fill_group(cpu, walk, va, &entry);
    else
        fill_one(cpu, &entry);
}

/* Remember that nothing stands there. */
static void
fill_nothing(struct sim_cpu *cpu, const struct walk *walk, uintptr_t va)
{
    unsigned shift = cpu->sim->mmu->shift(walk->level);
    struct tlb_entry entry = {
        .kind = TLB_NOTHING,
        .asid = cpu->asid,
        .shift = shift,
        .page = (uint64_t)va >> shift,
        .root = mmu_root(cpu, va).v,
    };

    if ((cpu->sim->options.features & SIM_CACHE_INVALID) != 0)
        fill_one(cpu, &entry);
}

void
mmu_load_registers(struct sim_cpu *cpu)
{
    struct sim *sim = cpu->sim;
    unsigned level = sim->mmu->register_level;
    struct mmu_state state = state_of(cpu);
    struct walk walk = walk_from_root(sim, cpu->root);
    uintptr_t step;

    if (level == 0)
        return;
    tlb_drop_fixed(cpu->tlb);
    step = (uintptr_t)1 << sim->mmu->shift(level);
    for (uintptr_t va = 0; va >> sim->mmu->va_bits == 0; va += step) {
        walk_read(sim, &state, &walk, va);
        if (walk.entry.kind == MMU_RESERVED)
            sim_fail("a root is loaded whose entry %#llx for %#llx has a reserved bit set",
                     (unsigned long long)walk.raw, (unsigned long long)va);
        if (walk.entry.kind != MMU_TABLE)
            continue;
        struct tlb_entry entry = {
            .kind = TLB_WALK,
            .fixed = true,
            .asid = cpu->asid,
            .shift = sim->mmu->shift(level),
            .page = (uint64_t)va >> sim->mmu->shift(level),
            .pa = walk.entry.pa,
            .root = cpu->root.v,
            .rights = walk.entry.rights,
        };

        tlb_insert(cpu->tlb, &entry);
    }
}

enum { WALK_TRIES = 1000 };

/* A kernel read of nothing has the hardware's code 0, which here means success. */
#define NOT_PRESENT 0x80000000u

/*
 * Set accessed (and dirty, for a write to a leaf) unless they are set.  False
 * where the entry changed under us: read it again.
 */
static bool
walk_mark(struct sim_cpu *cpu, struct walk *walk, uintptr_t va, bool write)
{
    struct mmu_state state = state_of(cpu);
    bool dirty = write && walk->entry.kind == MMU_LEAF;
    uint64_t marked = cpu->sim->mmu->mark(&state, walk->level, walk->raw, dirty);

    if (marked == walk->raw)
        return true;
    if (!entry_swap(cpu->sim, walk->at, va, walk->raw, marked))
        return false;
    walk->raw = marked;
    walk->entry.accessed = true;
    walk->entry.dirty |= dirty;
    return true;
}

/* The fault that the entry at which @walk stands is for @access; 0: none. */
static unsigned
walk_fault(struct sim_cpu *cpu, const struct walk *walk, const struct sim_access *access)
{
    const struct mmu_ops *mmu = cpu->sim->mmu;
    struct mmu_state state = state_of(cpu);
    unsigned code = 0;

    if (walk->entry.kind == MMU_NONE)
        return mmu->code(&state, access, 0) | NOT_PRESENT;
    if (walk->entry.kind == MMU_RESERVED)
        return mmu->code(&state, access, SIM_FAULT_PRESENT | SIM_FAULT_RESERVED);
    if (walk->entry.kind != MMU_LEAF)
        return 0;
    if (mmu->check_state != NULL)
        code = mmu->check_state(&state, access, &walk->entry);
    if (code != 0)
        return code;
    return mmu->check(&state, access, walk->rights & walk->entry.rights, walk->entry.pkey);
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
    struct walk walk;

    if (!walk_start(cpu, va, &from, &walk))
        return sim->mmu->code(&state, access, 0) | NOT_PRESENT;
    for (unsigned tries = 0; tries < WALK_TRIES; tries++) {
        unsigned code;

        table_is_live(cpu, &walk, va);
        walk_read(sim, &state, &walk, va);
        code = walk_fault(cpu, &walk, access);
        if (walk.entry.kind == MMU_NONE)
            fill_nothing(cpu, &walk, va);
        if (code != 0)
            return code;
        if (!walk_mark(cpu, &walk, va, write))
            continue;
        fill(cpu, &walk, va, &from);
        if (walk.entry.kind == MMU_LEAF) {
            *out_walk = walk;
            return 0;
        }
        walk_down(&walk);
    }
    sim_fail("the entry for %#llx changed %d times during one walk", (unsigned long long)va,
             WALK_TRIES);
}

/* ---- Translating --------------------------------------------------------------- */

bool
sim_tlb_has(qr_va va)
{
    return tlb_find_any(here()->tlb, TLB_LEAF, here()->asid, va.v) != NULL;
}

size_t
sim_tlb_count(struct sim *sim, unsigned cpu)
{
    return tlb_leaf_count(sim->cpus[cpu].tlb);
}

/* A page fault drops every entry that would translate its address, where it does. */
static void
mmu_forget(struct sim_cpu *cpu, uintptr_t va)
{
    const struct mmu_ops *mmu = cpu->sim->mmu;

    if (!mmu->fault_forgets)
        return;
    for (unsigned level = 0; level < mmu->levels; level++) {
        for (unsigned kind = TLB_LEAF; kind <= TLB_WALK; kind++) {
            struct tlb_entry *entry;

            if (kind == TLB_WALK && level != 0 && level == mmu->register_level)
                continue;
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
    struct tlb_entry *hit = tlb_find_any(cpu->tlb, TLB_LEAF, cpu->asid, access->va.v);
    struct walk walk;
    unsigned code;

    if (hit == NULL && tlb_find_any(cpu->tlb, TLB_NOTHING, cpu->asid, access->va.v) != NULL) {
        cpu->stats.tlb_hits++;
        return cpu->sim->mmu->code(&state, access, 0) | NOT_PRESENT;
    }
    if (hit != NULL) {
        code = cpu->sim->mmu->check(&state, access, hit->rights, hit->pkey);
        if (code != 0)
            return code;
        if (hit->dirty || (access->access & QR_ACCESS_WRITE) == 0) {
            cpu->stats.tlb_hits++;
            oracle_check_hit(cpu, hit, access);
            *out_pa = hit->pa + (access->va.v & low_bits(hit->shift));
            return 0;
        }
    }
    cpu->stats.tlb_misses++;
    code = mmu_walk(cpu, access, &walk);
    if (code == 0)
        *out_pa = walk.entry.pa + (access->va.v & low_bits(cpu->sim->mmu->shift(walk.level)));
    return code;
}

bool
mmu_denies(struct sim_cpu *cpu, const struct mmu_found *found, const struct sim_access *access)
{
    struct mmu_state state = state_of(cpu);

    return cpu->sim->mmu->check(&state, access, found->rights, found->pkey) != 0;
}

struct sim_cpu *
cpu_with_root(uintptr_t va)
{
    struct sim_cpu *cpu = here();

    if (cpu == NULL || !cpu->root_loaded)
        sim_fail("an access to %#llx with no page table loaded", (unsigned long long)va);
    return cpu;
}

static unsigned
noncanonical_code(struct sim_cpu *cpu, const struct sim_access *access)
{
    struct mmu_state state = state_of(cpu);
    unsigned code = cpu->sim->mmu->canonical_code;

    return code != 0 ? code : cpu->sim->mmu->code(&state, access, 0);
}

bool
cpu_translate(struct sim_cpu *cpu, struct sim_access access, uint64_t *out_pa, unsigned *out_code)
{
    unsigned code;

    cpu->stats.accesses++;
    cpu->last_va = access.va.v;
    if (!va_is_canonical(cpu->sim->mmu, access.va.v)) {
        *out_code = noncanonical_code(cpu, &access);
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
        tlb_find_any(cpu->tlb, TLB_LEAF, cpu->asid, access.va.v) != NULL)
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

    while (entry != NULL && (entry->fixed || skip-- > 0))
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
