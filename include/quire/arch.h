/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_ARCH_H
#define QUIRE_ARCH_H

/**
 * @file
 * What only the CPU can do.  `arch/<arch>/` implements these for real CPUs, the
 * hosted machine for simulated ones.  All act on the calling CPU.
 */

#ifndef __cplusplus
#include <quire/types.h>

/**
 * Which CPUs a flush has to reach.  CPUs that cannot reach others flush here in any case, and
 * the tlb layer interrupts the others; see qr_arch_flush_broadcasts().
 */
enum qr_flush_reach {
    QR_FLUSH_HERE,
    QR_FLUSH_EVERYWHERE,
};

/** Neighbouring entries of one size. */
struct qr_flush_run {
    qr_va start;
    qr_va last;     /**< last byte */
    unsigned shift; /**< log2 of the bytes of one entry */
};

/** What qr_arch_flush_pages() drops. */
struct qr_flush {
    const struct qr_flush_run *runs;
    unsigned run_count;
    unsigned asid; /**< whose entries; with @p global that of the tables that run here */
    bool global;   /**< the kernel's half: global entries, whatever their identifier */
    /** What points to tables went too: walk caches for these addresses; else leaves alone. */
    bool tables;
    enum qr_flush_reach reach;
};

/** Whether flushes reach every CPU by themselves (AArch64).  Constant from the first call on. */
bool qr_arch_flush_broadcasts(void);

/*
 * Each of the flushes begins after every store to a table that this CPU has made or seen is
 * visible to hardware that walks, and on return no CPU in reach uses what was dropped: its
 * accesses through it are complete.
 */

/** Drop the entries of some addresses; the hardware's cheapest way that drops at least these. */
void qr_arch_flush_pages(const struct qr_flush *flush);
/** Drop all non-global entries of @p asid, walk caches included. */
void qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach);
/** Drop everything, global entries included. */
void qr_arch_flush_all(enum qr_flush_reach reach);

/**
 * Translate through @p root, tagged @p asid, from the next instruction on.
 * @p keep: entries already tagged with it are still true; else they are dropped, here.
 * What this CPU stored before is visible to every CPU before the first walk from @p root.
 */
void qr_arch_root_switch(qr_pa root, unsigned asid, bool keep);

/**
 * This CPU has made entries of the kernel's half valid: hardware on every CPU finds them from now on.
 * @return false: hardware on other CPUs may still remember that nothing was there (RISC-V), and
 *         each has to flush before it goes there
 */
QR_MUST_USE bool qr_arch_publish(void);

/**
 * The kernel has written memory that users may execute: every CPU's instruction fetches see it
 * from now on.  Users who write code themselves do as their architecture says.
 * @return false: fetches always see what was written (x86), and no call does anything
 */
bool qr_arch_code_written(qr_pa pa, size_t bytes);

/**
 * Copy between kernel and user memory.  Faults on the user side are handled by
 * the fault path; one that cannot be ends the copy.  Lengths and addresses were checked.
 * @return bytes that were not copied; the ones copied are an exact prefix, and at least one
 *         byte is where the first byte is accessible (reliability target T3)
 */
size_t qr_arch_copy_from_user(void *to, qr_va from, size_t bytes);
size_t qr_arch_copy_to_user(qr_va to, const void *from, size_t bytes);
size_t qr_arch_clear_user(qr_va to, size_t bytes);
/** Aligned 32-bit compare-and-swap in user memory. @return false on a fault; else *out_old. */
bool qr_arch_user_cas32(qr_va at, uint32_t expected, uint32_t desired, uint32_t *out_old);

#endif
#endif
