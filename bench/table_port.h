/* SPDX-License-Identifier: MIT */
#ifndef BENCH_TABLE_PORT_H
#define BENCH_TABLE_PORT_H

/*
 * A kernel-like port for counting instructions: the direct map is an addition,
 * the CPU a load, interrupts a flag, all of it inlined.
 */
#include <quire/cpu.h>

extern char *bench_ram;
extern struct qr_cpu bench_cpu;
extern uintptr_t bench_irq_off;

static inline void *
qr_port_window_open(qr_pa pa)
{
    return bench_ram + pa.v;
}
#define qr_port_window_open qr_port_window_open

static inline void
qr_port_window_close(void *window)
{
    (void)window;
}
#define qr_port_window_close qr_port_window_close

static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    return &bench_cpu;
}
#define qr_port_this_cpu qr_port_this_cpu

static inline uintptr_t
qr_port_irq_save(void)
{
    uintptr_t before = bench_irq_off;

    bench_irq_off = 1;
    return before;
}
#define qr_port_irq_save qr_port_irq_save

static inline void
qr_port_irq_restore(uintptr_t state)
{
    bench_irq_off = state;
}
#define qr_port_irq_restore qr_port_irq_restore

#endif
