/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_REFUSE_H
#define KERNEL_REFUSE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sched.h"

/*
 * Refusing allocations on purpose: the n-th one from now on that the armed thread asks of
 * kmem_*() fails.  Tests arm it through /proc/self/fail-nth, as on Linux, for n = 1, 2, 3 …
 * until a call goes through without one being refused.  One thread of the machine at a time.
 */

/** The armed thread; nobody else's allocations are counted. */
extern _Atomic(struct thread *) refuse_thread;
/** Allocations until the refusal; 0 once it has happened. Written by the armed thread only. */
extern uint32_t refuse_left;

/** Arm the current thread; 0 disarms. @return false when another thread is armed */
bool refuse_arm(uint32_t nth);
/** What is left for the current thread: 0 where an allocation was refused, or none was armed. */
uint32_t refuse_remaining(void);
/** The thread ends. */
void refuse_forget(struct thread *thread);

/** Whether this allocation is the one. */
static inline bool
refuse_now(void)
{
    struct thread *armed = atomic_load_explicit(&refuse_thread, memory_order_relaxed);

    return __builtin_expect(armed != NULL, 0) && armed == thread_current() && refuse_left > 0 &&
           --refuse_left == 0;
}

#endif
