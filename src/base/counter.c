/* SPDX-License-Identifier: MIT */
/*
 * Counters: a slot a CPU, added to without a lock, summed on reading.
 *
 * The slot is found without turning interrupts off: should the thread migrate
 * between finding and adding, it adds to a slot that another CPU uses too, which
 * is why the addition is atomic.  Gauges may go negative in one slot (allocated
 * here, freed there); only the sum means something.
 */
#include <quire/counter.h>
#include <quire/port.h>

size_t
qr_counters_size(unsigned cpu_count)
{
    return sizeof(struct qr_counters) + cpu_count * sizeof(((struct qr_counters *)NULL)->cpu[0]);
}

void
qr_counters_init(struct qr_counters *counters, unsigned cpu_count)
{
    counters->cpu_count = cpu_count;
}

void
qr_counter_add(struct qr_counters *counters, enum qr_counter which, long delta)
{
    unsigned cpu = qr_port_this_cpu()->index;

    atomic_fetch_add_explicit(&counters->cpu[cpu].value[which], delta, memory_order_relaxed);
}

long
qr_counter_read(const struct qr_counters *counters, enum qr_counter which)
{
    long sum = 0;

    for (unsigned cpu = 0; cpu < counters->cpu_count; cpu++)
        sum += atomic_load_explicit(&counters->cpu[cpu].value[which], memory_order_relaxed);
    return sum < 0 ? 0 : sum;
}
