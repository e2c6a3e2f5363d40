/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_PORT_IRQ_H
#define KERNEL_X86_PORT_IRQ_H

/*
 * x86: the interrupt switches of the library's port.  Include arch_port.h instead.
 */

#include <stdint.h>

#define RFLAGS_IF ((uintptr_t)1 << 9)

static inline uintptr_t
flags_read(void)
{
    uintptr_t flags;

    __asm__ volatile("pushf; pop %0" : "=r"(flags) : : "memory");
    return flags;
}

static inline uintptr_t
qr_port_irq_save(void)
{
    uintptr_t flags = flags_read();

    __asm__ volatile("cli" : : : "memory");
    return flags;
}

static inline void
qr_port_irq_restore(uintptr_t state)
{
    if (state & RFLAGS_IF)
        __asm__ volatile("sti" : : : "memory");
}

static inline void
qr_port_relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

#endif
