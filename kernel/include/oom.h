/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_OOM_H
#define KERNEL_OOM_H

#include <stdbool.h>

struct process;

/** Bounds of /proc/PID/oom_score_adj; the lower one exempts a process. */
#define OOM_ADJUSTMENT_MAX 1000

/**
 * The current thread's fault found no memory, for the @p repeats-th time: end a process, or
 * wait for one that is ending.  @p in_call: the fault is inside a system call, which can fail.
 * @return whether the access is worth repeating.  Context: thread, interrupts on, no lock.
 */
bool oom_make_room(unsigned repeats, bool in_call);

/** The memory of @p process has just been given back.  Any context. */
void oom_memory_gone(const struct process *process);

/** What /proc/PID/oom_score shows: 0 to 2000. */
long oom_score(const struct process *process);

#endif
