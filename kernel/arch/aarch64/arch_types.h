/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_TYPES_H
#define KERNEL_ARCH_TYPES_H

/*
 * AArch64: the types of arch.h.  Include arch.h instead.
 */

#include <stdatomic.h>
#include <stdint.h>

#include <quire/config.h>

/** Bytes of kernel stack, at least a page; a guard page lies on either side. */
#define KERNEL_STACK_BYTES (1u << (CONFIG_PAGE_SHIFT > 14 ? CONFIG_PAGE_SHIFT : 14))

/** trap_frame.syscall where no system call made the frame; no number equals it. */
#define NO_SYSCALL UINT64_MAX

/** Registers as the entry code stores them, lowest address first. */
struct trap_frame {
    uint64_t x[31];
    uint64_t sp, pc, pstate;
    uint64_t syscall; /**< number, 32 bits, or NO_SYSCALL */
    uint64_t esr;     /**< why, of an exception */
    uint64_t orig_x0; /**< argument 0 of a system call, which the result overwrites */
    uint64_t far;     /**< fault address, of an abort */
};

struct arch_thread {
    uintptr_t sp;          /**< kernel stack pointer while not running */
    _Atomic uint32_t work; /**< not zero: thread_return_work() before user mode */
    uint32_t flags;        /**< arch-private */
    uintptr_t stack;       /**< lowest byte of the kernel stack */
    uintptr_t stack_top;   /**< just above the user frame */
    void *fpu;             /**< saved floating-point state */
    uintptr_t tls;         /**< TPIDR_EL0; valid while not running */
};

/** Read by entry.S through TPIDR_EL1; see the offsets in asm.h. */
struct arch_cpu {
    struct qr_cpu *quire;    /**< 0: the library's block of this CPU */
    uintptr_t emergency_top; /**< 8: a stack for reporting that a stack overflowed */
    uint64_t mpidr;          /**< affinity fields */
    void *redistributor;     /**< GICv3: its registers */
    uint64_t gic_target;     /**< GICv2: its bit in the distributor's masks */
    uint64_t timer_next;     /**< count at which the next tick is due */
};

#endif
