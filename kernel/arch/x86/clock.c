/* SPDX-License-Identifier: MIT */
/*
 * Time: the time-stamp counter for reading it, the local APIC's timer for the
 * tick, the PIT once to find out how fast both run, the CMOS clock for the date.
 *
 * The calibration counts both against the PIT's 1.193182 MHz over a few
 * milliseconds: as long as needed for an error below a tenth of a percent, as
 * short as the boot time asks for.
 *
 *      ns = (tsc - start) * multiplier >> 32
 */
#include "cpu.h"

#define PIT_HZ           1193182u
#define PIT_CHANNEL2     0x42
#define PIT_COMMAND      0x43
#define PIT_GATE         0x61
#define CALIBRATE_COUNTS 4772u /* 4 ms */

#define CMOS_INDEX 0x70
#define CMOS_DATA  0x71

static uint64_t tsc_start;
static uint64_t tsc_multiplier; /* 2^32 * nanoseconds a count */
static uint64_t realtime_start; /* nanoseconds since 1970 at tsc_start */

uint64_t
clock_monotonic_ns(void)
{
    uint64_t counts = tsc_read() - tsc_start;

    /* The product has up to 128 bits; the multiplier has 36 at most (a counter of 62 MHz). */
    return (counts >> 32) * tsc_multiplier + ((counts & UINT32_MAX) * (tsc_multiplier >> 32)) +
           ((counts & UINT32_MAX) * (tsc_multiplier & UINT32_MAX) >> 32);
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

/* ---- Calibration -------------------------------------------------------------------- */

static void
pit_start(void)
{
    outb(PIT_GATE, (inb(PIT_GATE) & ~2u) | 1); /* gate on, speaker off */
    outb(PIT_COMMAND, 0xb0);                   /* channel 2, count down once */
    outb(PIT_CHANNEL2, 0xff);
    outb(PIT_CHANNEL2, 0xff);
}

static uint32_t
pit_elapsed(void)
{
    uint32_t count;

    outb(PIT_COMMAND, 0x80);
    count = inb(PIT_CHANNEL2);
    count |= (uint32_t)inb(PIT_CHANNEL2) << 8;
    return 0xffff - count;
}

struct sample {
    uint64_t tsc;
    uint32_t lapic;
    uint32_t pit;
};

/** Of three readings the quickest, so that an interruption of the machine does not count. */
static struct sample
sample_take(void)
{
    struct sample best = {0};
    uint64_t best_span = UINT64_MAX;

    for (int i = 0; i < 3; i++) {
        struct sample s;
        uint64_t span;

        s.tsc = tsc_read();
        s.lapic = lapic_timer_calibrate_read();
        s.pit = pit_elapsed();
        span = tsc_read() - s.tsc;
        if (span < best_span) {
            best_span = span;
            best = s;
        }
    }
    return best;
}

static void
calibrate(void)
{
    struct sample from;
    struct sample to;
    uint64_t ns;

    lapic_timer_calibrate_start();
    pit_start();
    from = sample_take();
    /* Bounded: a machine without a PIT must not hang here. */
    for (int i = 0; i < 1000000 && pit_elapsed() - from.pit < CALIBRATE_COUNTS; i++)
        cpu_relax();
    to = sample_take();
    ns = (uint64_t)(to.pit - from.pit) * 1000000000u / PIT_HZ;
    if (ns == 0 || to.tsc == from.tsc)
        panic("the interval timer does not count: cannot calibrate the clock");
    tsc_multiplier = (ns << 32) / (to.tsc - from.tsc); /* ns is below 2^26: 16 bits of PIT */
    lapic_timer_calibrated((uint64_t)(to.lapic - from.lapic) * TICK_NS / ns);
}

/* ---- Date ------------------------------------------------------------------------------ */

static uint8_t
cmos_read(uint8_t reg)
{
    outb(CMOS_INDEX, reg);
    return inb(CMOS_DATA);
}

static uint64_t
days_since_1970(uint64_t year, uint64_t month, uint64_t day)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    uint64_t past = year - 1;
    uint64_t days = past * 365 + past / 4 - past / 100 + past / 400 - 719162;
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days + before[(month - 1) % 12] + (leap && month > 2) + day - 1;
}

static uint64_t
cmos_seconds(void)
{
    static const uint8_t registers[6] = {0, 2, 4, 7, 8, 9}; /* s, min, h, day, month, year */
    uint64_t v[6];
    bool binary = cmos_read(0xb) & 4;

    for (int i = 0; i < 10000 && (cmos_read(0xa) & 0x80); i++)
        cpu_relax();
    for (int i = 0; i < 6; i++) {
        uint8_t raw = cmos_read(registers[i]);

        v[i] = binary ? raw : (raw & 0xfu) + (raw >> 4) * 10u;
    }
    return days_since_1970(2000 + v[5], v[4], v[3]) * 86400 + v[2] * 3600 + v[1] * 60 + v[0];
}

void
clock_init(void)
{
    calibrate();
    tsc_start = tsc_read();
    realtime_start = cmos_seconds() * 1000000000u;
}
