/* SPDX-License-Identifier: MIT */
/*
 * Windows onto high memory.
 *
 * Each CPU has a row of pages in the kernel half that only it uses.  They are
 * opened and closed like a stack; an interrupt that needs one takes the next and
 * gives it back before it returns, so nothing has to be locked and interrupts may
 * be on or off.  The kernel is not preempted, so a thread that does not sleep
 * keeps its CPU.
 *
 *      WINDOWS_BASE + (cpu * WINDOWS_PER_CPU + depth) * 4096
 *
 * Closing clears the entry and flushes it on this CPU, the only one that can hold
 * it: an address used after that faults.  Opening an entry that is not present
 * needs no flush.
 */
#include <quire/assert.h>

#include "window.h"

#define ENTRY_PRESENT_WRITE 0x3u
#define ENTRY_ACCESSED      0x60u /* and dirty: spares the CPU setting them */

_Static_assert((size_t)CONFIG_MAX_CPUS *WINDOWS_PER_CPU * 4096 <= WINDOWS_BYTES,
               "CONFIG_MAX_CPUS: no room for so many CPUs' windows");

/* The entries of the range, in the direct map. */
static union {
    uint32_t *narrow;
    struct {
        volatile uint32_t low, high;
    } * wide;
} entries;
static bool is_wide;
static uint32_t high_flags; /* NX */

void
window_init(void *table, bool pae, bool nx)
{
    entries.narrow = table;
    is_wide = pae;
    high_flags = nx ? (uint32_t)1 << 31 : 0;
}

void *
window_open(qr_pa pa)
{
    uint32_t depth = 1;
    uint32_t index;
    uint32_t low = (uint32_t)pa.v & ~(uint32_t)QR_PAGE_MASK;

    /* One instruction: an interrupt comes before it or after it. */
    __asm__ volatile("xaddl %0, %%fs:%c1"
                     : "+r"(depth)
                     : "i"(offsetof(struct cpu, arch.windows))
                     : "memory", "cc");
    qr_assert(depth < WINDOWS_PER_CPU && entries.narrow != NULL);
    index = cpu_this()->index * WINDOWS_PER_CPU + depth;
    if (is_wide) {
        entries.wide[index].high = (uint32_t)(pa.v >> 32) | high_flags;
        entries.wide[index].low = low | ENTRY_PRESENT_WRITE | ENTRY_ACCESSED;
    } else {
        *(volatile uint32_t *)&entries.narrow[index] = low | ENTRY_PRESENT_WRITE | ENTRY_ACCESSED;
    }
    return (void *)(WINDOWS_BASE + index * (uintptr_t)4096 + ((uintptr_t)pa.v & QR_PAGE_MASK));
}

void
window_close(void *window)
{
    uint32_t index = (uint32_t)(((uintptr_t)window - WINDOWS_BASE) / 4096);
    struct cpu *cpu = cpu_this();

    /* In reverse order, on the CPU that opened it. */
    qr_assert(cpu->arch.windows > 0 &&
              index == cpu->index * WINDOWS_PER_CPU + cpu->arch.windows - 1);
    if (is_wide) {
        entries.wide[index].low = 0;
        entries.wide[index].high = 0;
    } else {
        *(volatile uint32_t *)&entries.narrow[index] = 0;
    }
    __asm__ volatile("invlpg (%0)" : : "r"(window) : "memory");
    __asm__ volatile("decl %%fs:%c0" : : "i"(offsetof(struct cpu, arch.windows)) : "memory", "cc");
}
