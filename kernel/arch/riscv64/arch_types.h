/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_TYPES_H
#define KERNEL_ARCH_TYPES_H

/*
 * RISC-V: the types of arch.h.  Include arch.h instead.
 */

#include <stdatomic.h>
#include <stdint.h>

/** Bytes of kernel stack; as many again below it are the guard. */
#define KERNEL_STACK_BYTES 16384u

/** Registers as the entry code saves them, the first 32 in the order of Linux's user_regs_struct. */
struct trap_frame {
    uint64_t pc;
    uint64_t ra, sp, gp, tp, t0, t1, t2, s0, s1;
    uint64_t a[8];
    uint64_t s2, s3, s4, s5, s6, s7, s8, s9, s10, s11;
    uint64_t t3, t4, t5, t6;
    uint64_t status;
    uint64_t cause;   /**< CAUSE_USER_ECALL only where a system call made the frame */
    uint64_t value;   /**< stval */
    uint64_t call_a0; /**< of a system call: its first argument, which the result overwrites */
};

/** Registers of floating point, as a signal frame has them. */
struct fpu_state {
    uint64_t f[32];
    uint32_t fcsr;
    uint32_t reserved;
};

struct arch_thread {
    uintptr_t sp;          /**< kernel stack pointer while not running */
    _Atomic uint32_t work; /**< not zero: thread_return_work() before user mode */
    uint32_t flags;        /**< arch-private */
    uintptr_t stack;       /**< lowest byte of the kernel stack */
    uintptr_t stack_top;   /**< just above the user frame */
    struct fpu_state *fpu; /**< NULL: a thread without user mode */
};

/** Read and written by entry.S through tp; see the offsets there. */
struct arch_cpu {
    uintptr_t kernel_sp;  /**< 0: stack_top of the running thread */
    uintptr_t stack_low;  /**< 8: lowest byte of the running stack */
    uintptr_t scratch;    /**< 16: of the entry code */
    struct qr_cpu *quire; /**< 24: the library's block of this CPU */
    uintptr_t boot_stack; /**< lowest byte of the stack that the CPU started on */
    uint64_t hart;        /**< what firmware calls this CPU */
    uint64_t next_tick;   /**< counts of the time register */
    _Atomic uint32_t ipi; /**< bits of enum ipi_kind, set by any CPU */
};

#endif
