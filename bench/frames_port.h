/* SPDX-License-Identifier: MIT */
#ifndef BENCH_FRAMES_PORT_H
#define BENCH_FRAMES_PORT_H

/*
 * The inline half of the port for the frame and heap benchmarks: what a kernel has, as
 * close as a process comes to it.  The CPU is one thread-local load (a kernel: one load
 * through %gs); turning interrupts off and back on is a load and two stores (a kernel:
 * pushf, pop, cli and push, popf); the direct map is one addition.
 */
#include <quire/cpu.h>

extern char *bench_ram;
extern _Thread_local struct qr_cpu *bench_cpu;
extern _Thread_local volatile uintptr_t bench_irq;

#define qr_port_window_open qr_port_window_open
static inline void *
qr_port_window_open(qr_pa pa)
{
    return bench_ram + pa.v;
}

#define qr_port_window_close qr_port_window_close
static inline void
qr_port_window_close(void *window)
{
    (void)window;
}

#define qr_port_direct_pa qr_port_direct_pa
static inline qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)((const char *)pointer - bench_ram));
}

#define qr_port_this_cpu qr_port_this_cpu
static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    return bench_cpu;
}

#define qr_port_irq_save qr_port_irq_save
static inline uintptr_t
qr_port_irq_save(void)
{
    uintptr_t before = bench_irq;

    bench_irq = 1;
    return before;
}

#define qr_port_irq_restore qr_port_irq_restore
static inline void
qr_port_irq_restore(uintptr_t state)
{
    bench_irq = state;
}

#define qr_port_relax qr_port_relax
static inline void
qr_port_relax(void)
{
    __builtin_ia32_pause();
}

#endif
