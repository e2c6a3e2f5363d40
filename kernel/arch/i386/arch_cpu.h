/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_CPU_H
#define KERNEL_ARCH_CPU_H

/*
 * 32-bit x86: what cpu.h has for this CPU alone.  Include cpu.h instead.
 */

#include <arch.h>

struct x86_tss {
    uint32_t link;
    uint32_t esp0, ss0, esp1, ss1, esp2, ss2;
    uint32_t cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, io_map;
};

/** Put @p descriptor into an entry of the calling CPU's GDT. */
void descriptors_set_tls(unsigned index, x86_descriptor descriptor);

#define FPU_SUFFIX ""

static inline uint32_t *
frame_flags(struct trap_frame *frame)
{
    return &frame->eflags;
}

static inline uintptr_t
frame_bp(const struct trap_frame *frame)
{
    return frame->ebp;
}

/* ---- entry.S ----------------------------------------------------------------- */

/** The task that a double fault switches to. */
void double_fault_entry(void);
/** From there, with the registers of the CPU's own task. */
QR_NORETURN void double_fault(void);

#endif
