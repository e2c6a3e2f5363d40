/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_IRQ_INLINE_H
#define KERNEL_X86_IRQ_INLINE_H

/*
 * x86: the interrupt switches of arch.h.  Include arch.h instead.
 */

#include <arch_port.h>

static inline void
irq_enable(void)
{
    __asm__ volatile("sti" : : : "memory");
}

static inline void
irq_disable(void)
{
    __asm__ volatile("cli" : : : "memory");
}

static inline bool
irq_enabled(void)
{
    return (flags_read() & RFLAGS_IF) != 0;
}

/* CPUID serializes. */
static inline void
arch_core_sync(void)
{
    uint32_t a = 0, b, c = 0, d;

    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static inline void
cpu_idle(void)
{
    /* `sti` holds interrupts off for one more instruction: none is lost before `hlt`. */
    __asm__ volatile("sti; hlt; cli" : : : "memory");
}

#endif
