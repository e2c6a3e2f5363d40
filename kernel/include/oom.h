/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_OOM_H
#define KERNEL_OOM_H

#include <stdbool.h>
#include <stddef.h>

struct cgroup;
struct mm;
struct process;

/** Bounds of /proc/PID/oom_score_adj; the lower one exempts a process. */
#define OOM_ADJUSTMENT_MAX 1000

/**
 * The current thread's fault found no memory, for the @p repeats-th time: end a process, or
 * wait for one that is ending.  @p in_call: the fault is inside a system call, which can fail.
 * @return whether the access is worth repeating.  Context: thread, interrupts on, no lock.
 */
bool oom_make_room(unsigned repeats, bool in_call);

/**
 * The same where it is the group @p scope, of at most @p pages, that may have no more: one of its
 * members goes, and nobody else.
 */
bool oom_make_room_in(const struct cgroup *scope, size_t pages);

/** Is @p process, which has just left @p mm, one that was to end for its memory, and the last in it?
 *  Then who merely looks at that shall not keep it.  Process tree lock held. */
bool oom_was_last(const struct process *process, struct mm *mm);

/** The memory of @p process has just been given back.  Any context. */
void oom_memory_gone(const struct process *process);

/** What /proc/PID/oom_score shows: 0 to 2000. */
long oom_score(const struct process *process);

#endif
