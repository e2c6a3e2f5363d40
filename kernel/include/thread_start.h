/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_THREAD_START_H
#define KERNEL_THREAD_START_H

#include <arch.h>

/**
 * @file
 * How threads begin: what kernel/arch/<arch> supplies to kernel/lib/thread_start.c, which has
 * the same part of arch.h for all of them.
 */

/**
 * Let the first switch to @p thread continue at @p start, below the user frame of its stack.
 * @p first and @p second stand in the registers where thread_start_kernel() looks for them.
 */
void thread_prepare(struct arch_thread *thread, void (*start)(void), uintptr_t first,
                    uintptr_t second);

/* From entry.S. */

/** Call sched_switched(), then first(second). */
void thread_start_kernel(void);
/** Call sched_switched(), then leave by the user frame. */
void thread_start_user(void);
/** Leave by @p frame, which is at the top of the stack; every register is restored. */
QR_NORETURN void enter_user(struct trap_frame *frame);

#endif
