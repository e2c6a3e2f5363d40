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

/** Drop the entries of one address: of @p asid, or global ones too where @p global. */
void qr_arch_flush_page(unsigned asid, qr_va va, unsigned shift, bool global);
/** Drop all non-global entries of @p asid, walk caches included. */
void qr_arch_flush_asid(unsigned asid);
/** Drop everything, global entries included. */
void qr_arch_flush_all(void);
/**
 * Translate through @p root, tagged @p asid, from the next instruction on.
 * @p keep: entries already tagged with it are still true; else they are dropped.
 */
void qr_arch_root_switch(qr_pa root, unsigned asid, bool keep);

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
