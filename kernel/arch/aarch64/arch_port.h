/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_PORT_H
#define KERNEL_ARCH_PORT_H

/**
 * @file
 * AArch64: the parts of the library's port that are a few instructions each.
 */

#include <quire/types.h>

#include <asm.h>

struct qr_cpu;

static inline uintptr_t
qr_port_irq_save(void)
{
    uintptr_t flags;

    __asm__ volatile("mrs %0, daif\n\tmsr daifset, #2" : "=r"(flags) : : "memory");
    return flags;
}

static inline void
qr_port_irq_restore(uintptr_t state)
{
    __asm__ volatile("msr daif, %0" : : "r"(state) : "memory");
}

static inline void
qr_port_relax(void)
{
    __asm__ volatile("yield" : : : "memory");
}

static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    struct qr_cpu *cpu;

    __asm__ volatile("mrs %0, tpidr_el1\n\tldr %0, [%0, %1]" : "=r"(cpu) : "i"(CPU_QUIRE));
    return cpu;
}

/* The direct map covers every frame, so a window is an addition. */

static inline void *
qr_port_window_open(qr_pa pa)
{
    return (void *)(uintptr_t)(pa.v + DIRECT_MAP_BASE);
}

static inline qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)(uintptr_t)pointer - DIRECT_MAP_BASE);
}

static inline void
qr_port_window_close(void *window)
{
    (void)window;
}

#endif
