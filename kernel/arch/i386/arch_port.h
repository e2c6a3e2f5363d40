/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_PORT_H
#define KERNEL_ARCH_PORT_H

/**
 * @file
 * 32-bit x86: the parts of the library's port that are a few instructions each.
 */

#include <quire/types.h>

#include <asm.h>
#include <port_irq.h>

struct qr_cpu;

static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    struct qr_cpu *cpu;

    __asm__ volatile("movl %%fs:4, %0" : "=r"(cpu));
    return cpu;
}

/*
 * The direct map covers the first 896 MiB: there a window is an addition.  What
 * lies above is mapped for the while, by window.c.
 */

void *window_open(qr_pa pa);
void window_close(void *window);

static inline void *
qr_port_window_open(qr_pa pa)
{
    if (qr_likely(pa.v < DIRECT_MAP_BYTES))
        return (void *)((uintptr_t)pa.v + DIRECT_MAP_BASE);
    return window_open(pa);
}

static inline void
qr_port_window_close(void *window)
{
    if (qr_unlikely((uintptr_t)window >= WINDOWS_BASE))
        window_close(window);
}

static inline qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uintptr_t)pointer - DIRECT_MAP_BASE);
}

#endif
