/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_PORT_H
#define QUIRE_PORT_H

/**
 * @file
 * The porting contract: everything that the host kernel supplies.
 *
 * The functions are bound at link time, as in any kernel.  A host that wants the
 * hot ones inlined names a header in QR_PORT_INLINE_HEADER; for each function
 * that it defines `static inline` it also writes `#define qr_port_x qr_port_x`.
 *
 * Levels: a host supplies what it needs.  1 tables, 2 memory, 3 spaces,
 * 4 machine; the level stands at each entry.  Unless it says otherwise, an
 * entry is called in any context, interrupts on or off, with spin locks held,
 * and must neither sleep nor call back into the library.
 */

#include <quire/types.h>

#ifndef __cplusplus
#include <quire/cpu.h>

#ifdef QR_PORT_INLINE_HEADER
#include QR_PORT_INLINE_HEADER
#endif

/* ---- Level 1: tables ---------------------------------------------------- */

/**
 * A window through which the kernel reads and writes the page frame at @p pa.
 *
 * On a 64-bit host: the direct map, one addition.  On a 32-bit host with high
 * memory: a per-CPU temporary mapping; at least four may be open at once, they
 * are closed in reverse order, and the holder neither sleeps nor migrates.
 *
 * Memory below qr_frames_config.direct_limit (all of it where that is 0) has one
 * permanent window, the direct map: the same address at every call, valid whether
 * closed or not, and contiguous where the memory is.  Frame descriptors and the
 * heap live there.
 */
#ifndef qr_port_window_open
void *qr_port_window_open(qr_pa pa);
#endif

/** Close what qr_port_window_open() returned.  Nothing to do on 64-bit hosts. */
#ifndef qr_port_window_close
void qr_port_window_close(void *window);
#endif

/** Stop the machine: @p message says what went wrong and what to do about it. */
QR_NORETURN void qr_port_panic(const char *message);

/** One line of log, without a newline. */
void qr_port_log(const char *line);

/* ---- Level 2: memory ---------------------------------------------------- */

/** The physical address behind @p pointer, which lies in the direct map. */
#ifndef qr_port_direct_pa
qr_pa qr_port_direct_pa(const void *pointer);
#endif

/** The calling CPU's block.  Stable while interrupts are off. */
#ifndef qr_port_this_cpu
struct qr_cpu *qr_port_this_cpu(void);
#endif

/** Turn interrupts off on this CPU; returns what restores the former state. */
#ifndef qr_port_irq_save
uintptr_t qr_port_irq_save(void);
#endif

/** Restore what qr_port_irq_save() returned. */
#ifndef qr_port_irq_restore
void qr_port_irq_restore(uintptr_t state);
#endif

/** A pause in a spin loop (`pause`, `yield`). */
#ifndef qr_port_relax
void qr_port_relax(void);
#endif

/* ---- Level 3: spaces ---------------------------------------------------- */

/**
 * Sleep while *@p word == @p expected; may return early for no reason.
 * The test and the sleep are one step as seen by qr_port_wake().
 * Context: thread, interrupts on, no spin lock held.
 */
void qr_port_wait(_Atomic uint32_t *word, uint32_t expected);

/** Wake up to @p count threads that wait on @p word; any context, locks may be held. */
void qr_port_wake(_Atomic uint32_t *word, uint32_t count);

/** Monotonic nanoseconds since an arbitrary start. */
uint64_t qr_port_clock_ns(void);

/** Fill @p buffer with @p bytes of unpredictable data (ASLR, free-list keys). */
void qr_port_random(void *buffer, size_t bytes);

/* ---- Level 4: machine --------------------------------------------------- */

/**
 * Interrupt every CPU in @p cpus; each calls qr_tlb_interrupt() soon.
 * Never waits; sending to a CPU that has one pending already is allowed.  What this CPU
 * stored before is visible to it when it gets there (AArch64: DSB before the SGI is sent).
 */
void qr_port_ipi(const struct qr_cpu_set *cpus);

#endif
#endif
