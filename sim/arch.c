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
 * SIM_LEAF_FLUSH promises less, as RISC-V's SFENCE.VMA with an address does: a
 * page flush leaves walk caches alone, and where tables went too the whole ASID goes.
 *
 * SIM_BROADCAST: flushes reach every CPU, as AArch64's TLBI ...IS does; one by address
 * drops leaves alone, or what would translate the address where tables went too.  An
 * ASID must then mean the same everywhere: two CPUs may not run two roots under it.
 *
 * A flush that a mutation drops (sim_drop_flush) is one that mattered: it would
 * have removed an entry that is stale.  Dropping any other is no fault.
 */
#include "machine.h"

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
    if (entry->kind == TLB_WALK && flush->no_walks)
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
            (entry->root != cpu->root.v || oracle_is_stale(cpu->sim, entry, qr_pa_of(entry->root))))
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
    return (sim->options.features & SIM_BROADCAST) != 0;
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
    bool leaf_only = (cpu->sim->options.features & SIM_LEAF_FLUSH) != 0;
    struct flush flush = {
        .by_asid = true,
        .asid = request->asid,
        .global = request->global,
        .by_va = true,
        .va = va.v,
        .all_walks = request->asid == cpu->asid && !broadcasts(cpu->sim),
        .no_walks = leaf_only || (broadcasts(cpu->sim) && !request->tables),
    };

    cpu->stats.flush_page++;
    flush_reach(cpu, request->reach, &flush);
}

void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    struct sim_cpu *cpu = here();

    if (cpu != NULL && flush->tables && (cpu->sim->options.features & SIM_LEAF_FLUSH) != 0) {
        if (flush->global)
            qr_arch_flush_all(flush->reach);
        else
            qr_arch_flush_asid(flush->asid, flush->reach);
        return;
    }
    for (unsigned i = 0; i < flush->run_count; i++) {
        const struct qr_flush_run *run = &flush->runs[i];
        uintptr_t last_step = (run->last.v - run->start.v) >> run->shift;

        for (uintptr_t step = 0; step <= last_step; step++)
            flush_page(flush, qr_va_of(run->start.v + (step << run->shift)));
    }
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.by_asid = true, .asid = asid};

    cpu->stats.flush_asid++;
    flush_reach(cpu, reach, &flush);
}

void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.global = true};

    cpu->stats.flush_all++;
    flush_reach(cpu, reach, &flush);
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
}

bool
qr_arch_publish(void)
{
    (void)flushing_cpu();
    return true;
}
