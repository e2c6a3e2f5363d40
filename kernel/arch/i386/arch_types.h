/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_TYPES_H
#define KERNEL_ARCH_TYPES_H

/*
 * 32-bit x86: the types of arch.h.  Include arch.h instead.
 */

#include <stdatomic.h>
#include <stdint.h>

/** Bytes of kernel stack; as many again below it are the guard. */
#define KERNEL_STACK_BYTES 16384u

/** trap_frame.vector of a system call. */
#define VECTOR_SYSCALL 256u

/**
 * Registers as the entry code pushes them, lowest address first.  For a system
 * call `code` is its number (eax is both number and result).  esp and ss are
 * there only where the frame is a user's.
 */
struct trap_frame {
    uint32_t ebx, ecx, edx, esi, edi, ebp, eax;
    uint32_t ds, es, fs, gs;
    uint32_t vector;
    uint32_t code; /**< error code, or the number of the system call */
    uint32_t eip, cs, eflags, esp, ss;
};

/** A segment descriptor as the CPU reads it; zero: none. */
typedef uint64_t x86_descriptor;

struct exchange;

struct arch_thread {
    uintptr_t sp;              /**< kernel stack pointer while not running */
    _Atomic uint32_t work;     /**< not zero: thread_return_work() before user mode */
    uint32_t flags;            /**< arch-private */
    uintptr_t stack;           /**< lowest byte of the kernel stack */
    uintptr_t stack_top;       /**< just above the user frame */
    void *fpu;                 /**< saved floating-point state, 64-byte aligned */
    struct exchange *exchange; /**< abi.h: what a converted call reads and writes */
    x86_descriptor tls[3];     /**< set_thread_area(): this thread's entries of the GDT */
};

/** Read and written by entry.S through FS; see the offsets there. */
struct arch_cpu {
    struct cpu *self;     /**< 0 */
    struct qr_cpu *quire; /**< 4: the library's block of this CPU */
    uint32_t windows;     /**< 8: how many windows are open */
    struct x86_tss *tss;
    x86_descriptor *gdt;
    uint32_t apic_id;
    uint32_t lapic_ticks; /**< timer counts a tick */
    uint32_t reserved;
};

#endif
