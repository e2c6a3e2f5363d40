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
 * page flush leaves walk caches alone.
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

void
qr_arch_flush_page(unsigned asid, qr_va va, unsigned shift, bool global)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {
        .by_asid = true,
        .asid = asid,
        .global = global,
        .by_va = true,
        .va = va.v,
        .all_walks = asid == cpu->asid,
        .no_walks = (cpu->sim->options.features & SIM_LEAF_FLUSH) != 0,
    };

    (void)shift; /* x86 needs none: whatever size contains the address goes */
    cpu->stats.flush_page++;
    flush_do(cpu, &flush);
}

void
qr_arch_flush_asid(unsigned asid)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.by_asid = true, .asid = asid};

    cpu->stats.flush_asid++;
    flush_do(cpu, &flush);
}

void
qr_arch_flush_all(void)
{
    struct sim_cpu *cpu = flushing_cpu();
    struct flush flush = {.global = true};

    cpu->stats.flush_all++;
    flush_do(cpu, &flush);
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
    cpu->stats.root_switches++;
    cpu->root = root;
    cpu->asid = asid;
    cpu->root_loaded = true;
    if (!keep)
        flush_do(cpu, &flush);
}
