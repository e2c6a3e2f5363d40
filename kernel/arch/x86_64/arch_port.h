/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_PORT_H
#define KERNEL_ARCH_PORT_H

/**
 * @file
 * x86-64: the parts of the library's port that are a few instructions each.
 */

#include <quire/types.h>

#include <port_irq.h>

struct qr_cpu;

/** One past the highest user address. */
extern uintptr_t user_limit;

#define USER_LIMIT user_limit

static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    struct qr_cpu *cpu;

    __asm__ volatile("movq %%gs:24, %0" : "=r"(cpu));
    return cpu;
}

/* The direct map covers every frame, so a window is an addition. */

static inline void *
qr_port_window_open(qr_pa pa)
{
    return (void *)(uintptr_t)(pa.v + 0xffff800000000000u);
}

static inline qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)(uintptr_t)pointer - 0xffff800000000000u);
}

static inline void
qr_port_window_close(void *window)
{
    (void)window;
}

#endif
