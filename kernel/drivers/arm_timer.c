/* SPDX-License-Identifier: MIT */
/*
 * Time: the generic timer's virtual count, which every CPU shares, for reading
 * it and for the tick; a PL031 for the date where there is one.
 *
 *      ns = (count - start) * multiplier >> 32
 */
#include "../arch/aarch64/cpu.h"

/** Entry of the timer node's `interrupts`: secure, physical, virtual, hypervisor. */
#define VIRTUAL_TIMER 2

#define CONTROL_ENABLE 1u

unsigned arm_timer_irq;

static uint64_t count_start;
static uint64_t multiplier; /* 2^32 * nanoseconds a count */
static uint64_t tick_counts;
static uint64_t realtime_start; /* nanoseconds since 1970 at count_start */

static uint64_t
count_read(void)
{
    isb(); /* not before what stands before */
    return REGISTER_READ(cntvct_el0);
}

uint64_t
clock_monotonic_ns(void)
{
    return (uint64_t)((unsigned __int128)(count_read() - count_start) * multiplier >> 32);
}

uint64_t
clock_realtime_ns(void)
{
    return realtime_start + clock_monotonic_ns();
}

void
clock_spin_ns(uint64_t ns)
{
    uint64_t end = clock_monotonic_ns() + ns;

    while (clock_monotonic_ns() < end)
        cpu_relax();
}

static uint64_t
date_seconds(void)
{
    struct fdt_walk node;

    if (!fdt_find_compatible(&boot_fdt, "arm,pl031", &node))
        return 0;
    return *(volatile uint32_t *)device_map(&node, 0, "PL031 clock");
}

void
arm_timer_init(void)
{
    uint64_t frequency = REGISTER_READ(cntfrq_el0);
    struct fdt_walk node;

    if (!fdt_find_compatible(&boot_fdt, "arm,armv8-timer", &node))
        panic("the device tree names no arm,armv8-timer");
    frequency = fdt_number(&node, "clock-frequency", frequency);
    arm_timer_irq = gic_interrupt_of(&node, VIRTUAL_TIMER);
    if (arm_timer_irq == 0 || frequency < TICK_HZ)
        panic("the timer has no interrupt, or no frequency (%lu Hz)", frequency);
    multiplier = (uint64_t)(((unsigned __int128)1000000000u << 32) / frequency);
    tick_counts = frequency / TICK_HZ;
    count_start = count_read();
    realtime_start = date_seconds() * 1000000000u;
}

void
arm_timer_cpu_start(void)
{
    struct cpu *cpu = cpu_this();

    cpu->arch.timer_next = count_read() + tick_counts;
    REGISTER_WRITE(cntv_cval_el0, cpu->arch.timer_next);
    REGISTER_WRITE(cntv_ctl_el0, CONTROL_ENABLE);
    gic_enable(arm_timer_irq);
}

/** The next tick is a tick after the last one; ticks that were missed are skipped. */
void
arm_timer_interrupt(void)
{
    struct cpu *cpu = cpu_this();
    uint64_t now = count_read();

    cpu->arch.timer_next += tick_counts;
    if ((int64_t)(cpu->arch.timer_next - now) <= 0)
        cpu->arch.timer_next = now + tick_counts;
    REGISTER_WRITE(cntv_cval_el0, cpu->arch.timer_next);
    isb();
}
