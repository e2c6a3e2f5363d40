/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_CPU_H
#define KERNEL_ARCH_CPU_H

/*
 * x86-64: what cpu.h has for this CPU alone.  Include cpu.h instead.
 */

#include <arch.h>

struct __attribute__((packed)) x86_tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t io_map;
};

/** FXSAVE and XSAVE have forms that keep 64-bit instruction pointers. */
#define FPU_SUFFIX "64"

static inline uint64_t *
frame_flags(struct trap_frame *frame)
{
    return &frame->rflags;
}

static inline uintptr_t
frame_bp(const struct trap_frame *frame)
{
    return frame->rbp;
}

/* ---- entry.S ----------------------------------------------------------------- */

void syscall_entry(void);
void syscall_entry32(void);

#endif
