/* SPDX-License-Identifier: MIT */
/*
 * The CPUs' blocks, and how many CPUs run.
 *
 * kernel/arch/<arch>/smp.c starts them one at a time, so their number is the index of the next one; the
 * boot CPU, number 0, runs from the start.
 */
#include <arch.h>

extern struct cpu cpus[CONFIG_MAX_CPUS]; /* for kernel/arch and its entry code alone */
struct cpu cpus[CONFIG_MAX_CPUS] QR_CACHE_ALIGNED;

static _Atomic unsigned online_count = 1;

struct cpu *
cpu_of(unsigned index)
{
    return &cpus[index];
}

unsigned
cpu_count(void)
{
    return atomic_load_explicit(&online_count, memory_order_acquire);
}

void
cpu_note_online(void)
{
    atomic_fetch_add_explicit(&online_count, 1, memory_order_release);
}

bool
cpu_wait_online(unsigned count, uint64_t ns)
{
    uint64_t end = clock_monotonic_ns() + ns;

    while (cpu_count() < count) {
        if (clock_monotonic_ns() >= end)
            return false;
        cpu_relax();
    }
    return true;
}
