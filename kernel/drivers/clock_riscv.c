/* SPDX-License-Identifier: MIT */
/*
 * Time: the time register, which all harts share, at the rate that the device tree
 * names; the tick by the timer of the firmware, or, with Sstc, by the hart's own
 * compare register; the date from the goldfish clock of the emulated board.
 *
 *      ns = (time - start) * multiplier >> 32
 */
#include <memory.h>
#include <sbi.h>

#include "../arch/riscv64/cpu.h"

#define RTC_TIME_LOW  0 /* reading it latches the other */
#define RTC_TIME_HIGH 1

#define DEFAULT_HZ 10000000u

static uint64_t start;
static uint64_t multiplier = ((uint64_t)1000000000u << 32) / DEFAULT_HZ;
static uint64_t realtime_start; /* nanoseconds since 1970 at start */
static uint64_t counts_per_tick;
static bool own_timer; /* stimecmp may be written */

static uint64_t
time_read(void)
{
    return csr_read(time);
}

uint64_t
clock_monotonic_ns(void)
{
    return (uint64_t)((unsigned __int128)(time_read() - start) * multiplier >> 32);
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

/* ---- Tick -------------------------------------------------------------------------- */

/** Write stimecmp (0x14d); false where that is illegal: the firmware has not opened it. */
static bool
stimecmp_write(uint64_t when)
{
    uint64_t ok = 1;

    __asm__ volatile("1: csrw 0x14d, %1\n"
                     "   j 3f\n"
                     "2: mv %0, zero\n"
                     "3:\n"
                     ".pushsection qr_extable, \"a\"\n"
                     ".balign 4\n"
                     ".word 1b - .\n"
                     ".word 2b - .\n"
                     ".popsection"
                     : "+r"(ok)
                     : "r"(when)
                     : "memory");
    return ok;
}

static void
timer_set(uint64_t when)
{
    if (own_timer)
        (void)stimecmp_write(when);
    else
        sbi_timer_set(when);
}

void
clock_tick_next(void)
{
    struct arch_cpu *cpu = &cpu_this()->arch;
    uint64_t now = time_read();

    /* Ticks that were missed are not made up for. */
    cpu->next_tick += counts_per_tick;
    if (cpu->next_tick <= now)
        cpu->next_tick = now + counts_per_tick;
    timer_set(cpu->next_tick);
}

void
clock_tick_start(void)
{
    cpu_this()->arch.next_tick = time_read();
    clock_tick_next();
    csr_set(sie, 1u << IRQ_TIMER);
}

/* ---- Start ------------------------------------------------------------------------- */

static uint64_t
rtc_read(void)
{
    const struct fdt_range *range = &riscv_machine.rtc;
    volatile uint32_t *rtc;
    uint64_t low;

    if (range->bytes < 8)
        return 0;
    rtc = qr_vmalloc_device(memory.areas[KERNEL_AREA_DEVICES],
                            qr_pa_of(range->start & ~(uint64_t)QR_PAGE_MASK), QR_PAGE_SIZE,
                            QR_CACHE_UNCACHED, "real-time clock");
    if (rtc == NULL)
        return 0;
    rtc += (range->start & QR_PAGE_MASK) / sizeof *rtc;
    low = rtc[RTC_TIME_LOW];
    return (uint64_t)rtc[RTC_TIME_HIGH] << 32 | low;
}

void
clock_init(void)
{
    uint64_t hz = riscv_machine.timebase_hz;

    if (hz < 1000 || hz > 10000000000u)
        panic("the device tree says that time runs at %lu Hz", hz);
    multiplier = ((uint64_t)1000000000u << 32) / hz;
    counts_per_tick = hz / TICK_HZ;
    own_timer = cpu_features.sstc && stimecmp_write(UINT64_MAX);
    start = time_read();
    realtime_start = rtc_read();
}
