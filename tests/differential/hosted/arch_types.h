/* SPDX-License-Identifier: MIT */
#ifndef HOSTED_ARCH_TYPES_H
#define HOSTED_ARCH_TYPES_H

/*
 * The types of arch.h for kernel code inside a Linux process: see kernel.c.  Programs are none
 * that a CPU runs, so a frame is the call that is under way, and a thread has no stack.
 */

#include <stdatomic.h>
#include <stdint.h>

#define KERNEL_STACK_BYTES 4096u

struct trap_frame {
    uint64_t arg[6];
    uint64_t number, result;
    uint64_t ip, sp;
};

struct arch_thread {
    _Atomic uint32_t work;
    uintptr_t tls;
    uint32_t rights; /* two bits a protection key: no access, no writes */
    struct trap_frame frame;
};

struct arch_cpu {
    char none;
};

#endif
