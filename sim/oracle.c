/* SPDX-License-Identifier: MIT */
/*
 * The TLB oracle: which stale hits break a promise.
 *
 * An entry is stale when a walk of the tables, now, grants less than it does:
 * nothing, another page, fewer rights, or a dirty bit that the next write would
 * have to set.  Between the change of the table and the end of its flush that is
 * allowed.  The library's promise is: when a flush (qr_tlb_batch_finish) has
 * returned, no CPU can use what was changed before it began.
 *
 *     change the table      begin        end
 *     ----------|-------------|-----------|---------------> time
 *       stale, allowed        : marked    : revoked: its use is a failure
 *
 * So begin marks every entry that the flush covers and that is stale at that
 * moment with a ticket; end revokes those that still carry it and are still stale.  What
 * becomes stale in between belongs to a later flush.  The rule is exact: an entry
 * is revoked only where a flush that began after its change has ended.
 *
 * Presence is no failure, use is: a CPU that runs another space or a lazy kernel
 * thread may keep what it cannot reach, and flush it on its way back.
 *
 * Three things need no ticket, because no flush in flight excuses them:
 *   - the frame behind a hit is free: frames go after flushes;
 *   - a hit was filled under another root that had the same ASID;
 *   - any stale hit while a single host thread runs the machine: between two
 *     calls of the library no flush is in flight.
 *
 * Where the architecture wants break-before-make (AArch64), an entry that the CPU
 * could use and that the tables replaced by another live one fails as well: when a flush of
 * the only pending batch begins, and at each hit while a single host thread runs
 * the machine.  (With two batches pending somebody else may have filled the gap
 * that the first of them left; the architecture wants even that to wait.)
 */
#include "machine.h"
#include "mmu.h"

/* Of a group's members any one may carry what hardware noted about all. */
static bool
is_group(const struct mmu_found *found)
{
    return found->extent > found->shift;
}

static bool
leaf_is_stale(struct sim *sim, const struct tlb_entry *entry, qr_pa root)
{
    bool any_dirty = false;
    struct mmu_found now;
    uint64_t step;

    /* An entry for what is several pages by now is as stale as the stalest of them. */
    for (uint64_t done = 0; done >> entry->shift == 0; done += step) {
        uint64_t va = (entry->page << entry->shift) + done;

        if (!mmu_find(sim, root, (uintptr_t)va, &now) || now.pa != entry->pa + done ||
            now.pkey != entry->pkey || (entry->rights & ~now.rights) != 0 ||
            (entry->dirty && !now.dirty && !is_group(&now)))
            return true;
        any_dirty |= now.dirty;
        step = 1ull << (now.shift < entry->shift ? now.shift : entry->shift);
    }
    return entry->dirty && !any_dirty;
}

bool
oracle_is_stale(struct sim *sim, const struct tlb_entry *entry, qr_pa root)
{
    if (entry->kind == TLB_NOTHING)
        return false; /* it grants nothing */
    if (sim->hooks.frame_state != NULL && sim->hooks.frame_state(sim, root) != SIM_FRAME_TABLE)
        return true;
    if (entry->kind == TLB_WALK)
        return mmu_reaches(sim, root, entry) != MMU_REACH_SAME;
    return leaf_is_stale(sim, entry, root);
}

/* ---- Break before make --------------------------------------------------------- */

/*
 * A live entry became another live one while the old one was still cached.  With
 * two translations of one address in it a TLB may do anything (Arm ARM D8.16): the
 * old entry must first be made invalid and flushed.  Rights, flags and software's bits may
 * change at once; the page, its size, its memory type and nG may not.  Level 2 of
 * FEAT_BBM lets the size change.
 */
static bool
change_was_not_broken(struct sim *sim, const struct tlb_entry *entry, qr_pa root)
{
    uintptr_t va = (uintptr_t)(entry->page << entry->shift);
    bool sizes = (sim->options.features & SIM_BBM2) == 0;
    struct mmu_found now;

    if (sim->hooks.frame_state != NULL && sim->hooks.frame_state(sim, root) != SIM_FRAME_TABLE)
        return false;
    if (entry->kind == TLB_WALK)
        return mmu_reaches(sim, root, entry) == MMU_REACH_OTHER &&
               (sizes || !mmu_find(sim, root, va, &now) || now.shift < entry->shift);
    if (entry->kind != TLB_LEAF || !mmu_find(sim, root, va, &now))
        return false;
    return now.pa != entry->pa || now.cache != entry->cache || now.global != entry->global ||
           (sizes && now.extent != entry->extent);
}

static void
break_check(struct sim_cpu *cpu, const struct tlb_entry *entry)
{
    struct sim *sim = cpu->sim;
    qr_pa root = mmu_root(cpu, (uintptr_t)(entry->page << entry->shift));

    if (!sim->mmu->break_before_make || (sim->options.features & SIM_NO_ORACLE) != 0 ||
        (!entry->global && entry->root != root.v) || !change_was_not_broken(sim, entry, root))
        return;
    sim_fail("break-before-make: CPU %u still has an entry for %#llx (%llu bytes, to %#llx, ASID "
             "%u), and another live one stands in the table",
             cpu->qr.index, (unsigned long long)(entry->page << entry->shift), 1ull << entry->shift,
             (unsigned long long)entry->pa, entry->asid);
}

/* ---- Flushes ------------------------------------------------------------------- */

static bool
flush_names_table(const struct sim_flush *flush, uint64_t pa)
{
    for (unsigned i = 0; i < flush->table_count; i++) {
        if (flush->tables[i] == pa)
            return true;
    }
    return false;
}

static bool
flush_covers(const struct sim_flush *flush, const struct tlb_entry *entry)
{
    uint64_t first = entry->page << entry->shift;
    uint64_t last = first + ((1ull << entry->shift) - 1);

    if (flush->root.v != 0 && entry->root != flush->root.v && !entry->global)
        return false;
    if (entry->kind == TLB_WALK && flush_names_table(flush, entry->pa))
        return true;
    if (flush->whole)
        return true;
    for (unsigned i = 0; i < flush->range_count; i++) {
        if (first < flush->ranges[i].end.v && last >= flush->ranges[i].start.v)
            return entry->kind != TLB_WALK;
    }
    return false;
}

void
sim_flush_begin(struct sim *sim, struct sim_flush *flush)
{
    flush->ticket = atomic_fetch_add(&sim->tickets, 1) + 1;
    if (sim->threaded) /* the TLBs belong to their threads */
        return;
    sched_hold(sim);
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        struct sim_cpu *cpu = &sim->cpus[i];

        for (struct tlb_entry *entry = tlb_next(cpu->tlb, NULL); entry != NULL;
             entry = tlb_next(cpu->tlb, entry)) {
            if (!flush_covers(flush, entry))
                continue;
            if (flush->alone && cpu == here() && (entry->asid == cpu->asid || entry->global))
                break_check(cpu, entry);
            if (entry->stale_ticket == 0 && oracle_is_stale(sim, entry, qr_pa_of(entry->root)))
                entry->stale_ticket = flush->ticket;
        }
    }
    sched_release(sim);
}

void
sim_flush_end(struct sim *sim, const struct sim_flush *flush)
{
    if (sim->threaded)
        return;
    sched_hold(sim);
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        struct tlb *tlb = sim->cpus[i].tlb;

        for (struct tlb_entry *entry = tlb_next(tlb, NULL); entry != NULL;
             entry = tlb_next(tlb, entry)) {
            if (entry->stale_ticket == 0 || entry->stale_ticket > flush->ticket ||
                !flush_covers(flush, entry))
                continue;
            if (oracle_is_stale(sim, entry, qr_pa_of(entry->root)))
                entry->revoked = true;
            else
                entry->stale_ticket = 0;
        }
    }
    sched_release(sim);
}

static void
oracle_says(struct sim_cpu *cpu, const struct tlb_entry *entry, const char *why)
{
    if ((cpu->sim->options.features & SIM_NO_ORACLE) != 0)
        return;
    sim_fail("stale TLB: CPU %u uses a %s entry for %#llx (%llu bytes, to %#llx, rights %#x, "
             "ASID %u): %s",
             cpu->qr.index, entry->kind == TLB_WALK ? "walk-cache" : "TLB",
             (unsigned long long)(entry->page << entry->shift), 1ull << entry->shift,
             (unsigned long long)entry->pa, entry->rights, entry->asid, why);
}

/* Does the entry grant @access more than the tables do?  A stale read-write entry may be read. */
static bool
grants_too_much(struct sim_cpu *cpu, const struct tlb_entry *entry, const struct sim_access *access)
{
    struct mmu_found now;

    if (access == NULL)
        return true;
    if (!mmu_find(cpu->sim, mmu_root(cpu, access->va.v), access->va.v, &now) ||
        now.pkey != entry->pkey ||
        now.pa != entry->pa + (access->va.v & ((1ull << entry->shift) - 1)))
        return true;
    if ((entry->rights & MMU_USER_PAGE) != (now.rights & MMU_USER_PAGE))
        return true;
    if ((access->access & QR_ACCESS_WRITE) != 0 && !now.dirty && !is_group(&now))
        return true;
    return mmu_denies(cpu, &now, access);
}

void
oracle_check_hit(struct sim_cpu *cpu, struct tlb_entry *entry, const struct sim_access *access)
{
    struct sim *sim = cpu->sim;
    qr_pa root = mmu_root(cpu, (uintptr_t)(entry->page << entry->shift));
    bool foreign = !entry->global && entry->root != root.v;
    bool lone = !sched_is_seeded(sim) && !sim->threaded;

    if (access != NULL && sim->hooks.frame_state != NULL &&
        sim->hooks.frame_state(sim, qr_pa_of(entry->pa)) == SIM_FRAME_FREE) {
        cpu->stats.stale_hits++;
        oracle_says(cpu, entry, "its frame is free");
        return;
    }
    if (lone)
        break_check(cpu, entry);
    if (!oracle_is_stale(sim, entry, root)) {
        entry->stale_ticket = 0;
        entry->revoked = false;
        return;
    }
    if (!grants_too_much(cpu, entry, access))
        return;
    cpu->stats.stale_hits++;
    if (foreign)
        oracle_says(cpu, entry, "it was filled for another space under the same ASID");
    else if (entry->revoked)
        oracle_says(cpu, entry, "the flush that had to remove it has ended");
    else if (lone)
        oracle_says(cpu, entry, "the tables say less, and no flush is under way");
}
