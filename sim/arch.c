/* SPDX-License-Identifier: MIT */
/*
 * quire/arch.h for simulated CPUs: flushes drop what the architecture promises,
 * and nothing besides, so that a flush which only works by luck does not.
 *
 * x86-64 (SDM 4.10.4.1):
 *   a page (INVLPG, INVPCID type 0)  entries of any size that contain the
 *       address, of that ASID (and global ones, INVLPG alone); INVLPG also
 *       drops the walk caches of the running ASID, whatever the address; INVPCID
 *       those that would translate it
 *   an ASID (MOV CR3, INVPCID type 1) its non-global entries and walk caches
 *   everything (INVPCID type 2)       all of both
 *
 * AArch64 (D8.13): flushes reach every CPU (TLBI ...IS); one by address drops entries of
 * any size that contain it, and with `tables` the walk caches that would translate it.
 * An ASID must then mean the same everywhere: two CPUs may not run two roots under it.
 * SIM_BROADCAST makes any MMU so, SIM_NO_BROADCAST none.
 *
 * RISC-V (SFENCE.VMA): with an address only what was read from leaves goes, of every
 * size; where tables went too the whole ASID goes.  SIM_LEAF_FLUSH promises as little on
 * any MMU.  Each 4 KiB of a NAPOT page has an entry of its own and needs its own fence.
 * With SIM_CACHE_INVALID, absent entries are remembered, so that a new one is seen by a CPU
 * only after a fence there: qr_arch_publish() says so.
 *
 * x86 with PAE reads the four entries of the root when CR3 is loaded: switches and the
 * flushes that are done by loading CR3 or CR4 read them again, INVLPG does not.
 *
 * A flush that a mutation drops (sim_drop_flush) is one that mattered: it would
 * have removed an entry that is stale.  Dropping any other is no fault.
 */
#include "machine.h"
#include "mmu.h"

struct flush {
    bool by_asid;
    unsigned asid;
    bool global; /* global entries too */
    bool by_va;
    uintptr_t va;
    bool all_walks; /* by_va: walk caches of the ASID, whatever the address */
    bool no_walks;
};

static bool
flush_covers(const struct flush *flush, const struct tlb_entry *entry)
{
    if (entry->fixed || (entry->kind == TLB_WALK && flush->no_walks))
        return false;
    if (entry->global && !flush->global)
        return false;
    if (flush->by_asid && !entry->global && entry->asid != flush->asid)
        return false;
    if (!flush->by_va || (entry->kind == TLB_WALK && flush->all_walks))
        return true;
    return (uint64_t)flush->va >> entry->shift == entry->page;
}

static bool
flush_matters(struct sim_cpu *cpu, const struct flush *flush)
{
    for (struct tlb_entry *entry = tlb_next(cpu->tlb, NULL); entry != NULL;
         entry = tlb_next(cpu->tlb, entry)) {
        if (flush_covers(flush, entry) &&
            (entry->root != mmu_root(cpu, (uintptr_t)(entry->page << entry->shift)).v ||
             oracle_is_stale(cpu->sim, entry, qr_pa_of(entry->root))))
            return true;
    }
    return false;
}

static bool
flush_is_dropped(struct sim_cpu *cpu, const struct flush *flush)
{
    struct sim *sim = cpu->sim;

    if (atomic_load(&sim->drop_flush) == 0 || !flush_matters(cpu, flush))
        return false;
    if (atomic_fetch_sub(&sim->drop_flush, 1) != 1)
        return false;
    cpu->stats.flushes_dropped++;
    return true;
}

static void
flush_do(struct sim_cpu *cpu, const struct flush *flush)
{
    if (flush_is_dropped(cpu, flush))
        return;
    for (struct tlb_entry *entry = tlb_next(cpu->tlb, NULL); entry != NULL;
         entry = tlb_next(cpu->tlb, entry)) {
        if (flush_covers(flush, entry))
            tlb_remove(cpu->tlb, entry);
    }
}

static bool
broadcasts(const struct sim *sim)
{
    unsigned features = sim->options.features;

    return (features & SIM_BROADCAST) != 0 ||
           (sim->mmu->broadcasts && (features & SIM_NO_BROADCAST) == 0);
}

/* A flush by address leaves walk caches alone. */
static bool
keeps_walks(const struct sim *sim)
{
    return sim->mmu->page_flush_keeps_walks || (sim->options.features & SIM_LEAF_FLUSH) != 0;
}

/* On @cpu, or on all of them. */
static void
flush_reach(struct sim_cpu *cpu, enum qr_flush_reach reach, const struct flush *flush)
{
    struct sim *sim = cpu->sim;

    if (reach == QR_FLUSH_HERE || !broadcasts(sim)) {
        flush_do(cpu, flush);
        return;
    }
    if (sim->threaded)
        sim_fail("host threads own their TLBs; machines that broadcast run seeded");
    for (unsigned i = 0; i < sim->cpu_count; i++)
        flush_do(&sim->cpus[i], flush);
}

static struct sim_cpu *
flushing_cpu(void)
{
    sim_preempt();
    struct sim_cpu *cpu = here();

    if (cpu == NULL)
        sim_fail("a TLB flush by a host thread that acts as no CPU");
    return cpu;
}

void
sim_drop_flush(struct sim *sim, uint64_t n)
{
    atomic_store(&sim->drop_flush, n);
}

bool
qr_arch_flush_broadcasts(void)
{
    struct sim_cpu *cpu = here();

    return cpu != NULL && broadcasts(cpu->sim);
}

static void
flush_page(const struct qr_flush *request, qr_va va)
{
    struct sim_cpu *cpu = flushing_cpu();
    const struct mmu_ops *mmu = cpu->sim->mmu;
    struct flush flush = {
        .by_asid = true,
        .asid = request->asid,
        .global = request->global,
        .by_va = true,
        .va = va.v,
        .all_walks =
            request->asid == cpu->asid && mmu->page_flush_drops_walks && !broadcasts(cpu->sim),
        .no_walks = keeps_walks(cpu->sim) || (broadcasts(cpu->sim) && !request->tables),
    };

    cpu->stats.flush_page++;
    flush_reach(cpu, request->reach, &flush);
}

/* How far one flush by address reaches of an entry of 1 << @shift bytes: a group has many. */
static unsigned
flush_shift(const struct sim *sim, unsigned shift)
{
    unsigned reach = shift;

    for (unsigned level = 0; level < sim->mmu->levels && sim->mmu->shift(level) <= shift; level++)
        reach = sim->mmu->shift(level);
    return reach;
}

void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    struct sim_cpu *cpu = here();

    if (cpu != NULL && flush->tables && keeps_walks(cpu->sim)) {
        if (flush->global)
            qr_arch_flush_all(flush->reach);
        else
            qr_arch_flush_asid(flush->asid, flush->reach);
        return;
    }
    for (unsigned i = 0; i < flush->run_count; i++) {
        const struct qr_flush_run *run = &flush->runs[i];
        unsigned shift = cpu != NULL ? flush_shift(cpu->sim, run->shift) : run->shift;
        uintptr_t last_step = (run->last.v - run->start.v) >> shift;

        for (uintptr_t step = 0; step <= last_step; step++)
            flush_page(flush, qr_va_of(run->start.v + (step << shift)));
    }
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.by_asid = true, .asid = asid};

    cpu->stats.flush_asid++;
    flush_reach(cpu, reach, &flush);
    mmu_load_registers(cpu);
}

void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.global = true};

    cpu->stats.flush_all++;
    flush_reach(cpu, reach, &flush);
    mmu_load_registers(cpu);
}

/* AArch64: an ASID has the same meaning on all CPUs.  (With too few of them it cannot.) */
static void
check_asid_meaning(const struct sim_cpu *cpu, qr_pa root, unsigned asid)
{
    const struct sim *sim = cpu->sim;

    if (!broadcasts(sim) || asid == 0 || sim->options.asids <= 2 * sim->cpu_count)
        return;
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        const struct sim_cpu *other = &sim->cpus[i];

        if (other != cpu && other->root_loaded && other->asid == asid && other->root.v != root.v)
            sim_fail("ASID %u means %#llx on CPU %u and %#llx on CPU %u", asid,
                     (unsigned long long)root.v, cpu->qr.index, (unsigned long long)other->root.v,
                     i);
    }
}

void
qr_arch_root_switch(qr_pa root, unsigned asid, bool keep)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.by_asid = true, .asid = asid};

    if (asid >= cpu->sim->options.asids)
        sim_fail("ASID %u loaded; a CPU here has %u", asid, cpu->sim->options.asids);
    if (cpu->sim->options.asids == 1 && keep)
        sim_fail("a root is loaded with its entries kept, but CPUs here have no ASIDs");
    if (!bank_has(cpu->sim, root.v) || root.v % QR_PAGE_SIZE != 0)
        sim_fail("%#llx loaded as a root: there is no RAM", (unsigned long long)root.v);
    check_asid_meaning(cpu, root, asid);
    cpu->stats.root_switches++;
    cpu->root = root;
    cpu->asid = asid;
    cpu->root_loaded = true;
    if (!keep)
        flush_do(cpu, &flush);
    mmu_load_registers(cpu);
}

void
sim_set_upper_root(qr_pa root)
{
    here()->upper_root = root;
}

bool
qr_arch_publish(void)
{
    return (flushing_cpu()->sim->options.features & SIM_CACHE_INVALID) == 0;
}

bool
qr_arch_code_written(qr_pa pa, size_t bytes)
{
    (void)pa, (void)bytes;
    return false;
}
