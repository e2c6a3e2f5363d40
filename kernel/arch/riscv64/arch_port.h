/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_PORT_H
#define KERNEL_ARCH_PORT_H

/**
 * @file
 * RISC-V: the parts of the library's port that are a few instructions each.
 */

#include <quire/types.h>

#include <asm.h>

struct qr_cpu;

/** Where the direct map stands; changes once, when the boot leaves the boot tables. */
extern uintptr_t direct_map_base;
/** One past the highest user address. */
extern uintptr_t user_limit;

#define USER_LIMIT user_limit

static inline uintptr_t
qr_port_irq_save(void)
{
    uintptr_t status;

    __asm__ volatile("csrrci %0, sstatus, 2" : "=r"(status) : : "memory");
    return status & SSTATUS_SIE;
}

static inline void
qr_port_irq_restore(uintptr_t state)
{
    __asm__ volatile("csrs sstatus, %0" : : "r"(state) : "memory");
}

static inline void
qr_port_relax(void)
{
    __asm__ volatile(".insn i 0x0f, 0, x0, x0, 0x010"
                     :
                     :
                     : "memory"); /* PAUSE; a hint everywhere */
}

static inline struct qr_cpu *
qr_port_this_cpu(void)
{
    struct qr_cpu *cpu;

    __asm__ volatile("ld %0, 24(tp)" : "=r"(cpu)); /* CPU_QUIRE */
    return cpu;
}

/* The direct map covers every frame, so a window is an addition. */

static inline void *
qr_port_window_open(qr_pa pa)
{
    return (void *)(uintptr_t)(pa.v + direct_map_base);
}

static inline qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)(uintptr_t)pointer - direct_map_base);
}

static inline void
qr_port_window_close(void *window)
{
    (void)window;
}

#endif
