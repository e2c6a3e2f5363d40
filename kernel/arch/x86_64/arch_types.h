/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_TYPES_H
#define KERNEL_ARCH_TYPES_H

/*
 * x86-64: the types of arch.h.  Include arch.h instead.
 */

#include <stdatomic.h>
#include <stdint.h>

/** Bytes of kernel stack; as many again below it are the guard. */
#define KERNEL_STACK_BYTES 16384u

/** trap_frame.vector of a system call. */
#define VECTOR_SYSCALL 256u

/**
 * Registers as the entry code pushes them, lowest address first.  For a system
 * call `code` is its number (rax is both number and result), rcx and r11 are
 * what the `syscall` instruction made of them: rip and rflags.
 */
struct trap_frame {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
    uint64_t rax, rcx, rdx, rsi, rdi;
    uint64_t vector;
    uint64_t code; /**< error code, or the number of the system call */
    uint64_t rip, cs, rflags, rsp, ss;
};

struct arch_thread {
    uintptr_t sp;          /**< kernel stack pointer while not running */
    _Atomic uint32_t work; /**< not zero: thread_return_work() before user mode */
    uint32_t flags;        /**< arch-private */
    uintptr_t stack;       /**< lowest byte of the kernel stack */
    uintptr_t stack_top;   /**< just above the user frame */
    void *fpu;             /**< saved floating-point state, 64-byte aligned */
    uintptr_t fs_base;     /**< valid while not running */
    uintptr_t gs_base;
};

/** Read and written by entry.S through GS; see the offsets there. */
struct arch_cpu {
    struct cpu *self;     /**< 0 */
    uintptr_t kernel_sp;  /**< 8: stack_top of the running thread */
    uintptr_t user_sp;    /**< 16: scratch of the system-call entry */
    struct qr_cpu *quire; /**< 24: the library's block of this CPU */
    struct x86_tss *tss;
    uint32_t apic_id;
    uint32_t lapic_ticks; /**< timer counts a tick */
};

#endif
