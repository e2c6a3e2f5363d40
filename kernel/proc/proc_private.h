/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROC_PRIVATE_H
#define KERNEL_PROC_PRIVATE_H

#include "proc.h"

/*
 * What the files of kernel/proc share about processes.  Functions that say
 * "tree" expect the tree lock to be held.
 */

struct file;

/** Where the parent of a vfork child waits; on its stack. */
struct vfork_wait {
    struct wait_queue queue;
    atomic_bool done;
};

/* process.c */
void process_init(void);
/**
 * A number nobody uses, with one reference: @wanted, or any where that is 0.
 * @return 0; -EEXIST (@wanted is in use), -EAGAIN (numbers or memory run out)
 */
int64_t pid_create(int32_t wanted, struct pid **out);
void pid_put(struct pid *pid);                                                    /* tree */
struct pid *pid_lookup(int32_t number);                                           /* tree */
void process_set_group(struct process *process, struct pid *group);               /* tree */
void process_set_session(struct process *process, struct pid *session);           /* tree */
bool process_group_would_be_orphaned(struct pid *group, struct process *leaving); /* tree */
struct process *process_alloc(void);
void process_add(struct process *process, struct process *parent);        /* tree */
void process_remove(struct process *process);                             /* tree */
void process_set_parent(struct process *process, struct process *parent); /* tree */
struct process *process_init_process(void);
void process_set_init(struct process *process);
/** CPU time of the whole process: of ended and of living threads. */
void process_usage(struct process *process, struct usage *out); /* tree */
void thread_usage(struct thread *thread, struct usage *out);

/* thread.c */
/** A thread that is in no process and on no queue yet; one reference. NULL without memory. */
struct thread *thread_alloc(void);
void thread_add(struct thread *thread, struct process *process, struct pid *pid); /* tree */
void thread_init_idle(struct thread *thread, const char *name);
extern atomic_uint thread_total;

/* exit.c */
void vfork_release(struct thread *thread);
void process_notify_parent(struct process *process, int code, int status); /* tree */
void thread_release_memory(struct thread *thread);
/** The tracer of a zombie knows: tell the parent. @return whether nobody waits for it; tree */
bool process_announce_again(struct process *process);

int64_t usage_to_user(uint64_t address, const struct usage *used);

/* shutdown.c */
/** Init has ended with @code: end everybody else, check for leaks, leave the machine. */
_Noreturn void process_shutdown(int code);

/* exec.c */
/**
 * Replace the current program. @argv and @envp are kernel arrays of kernel strings.
 * @return 0: the user frame now starts the new program; or -errno, nothing changed
 */
struct exec_strings;
int64_t exec_kernel(const char *path, const char *const *argv, const char *const *envp);

/* signal.c, signal_calls.c */
/** @thread has done its part of the group stop. Tree and S. @return whether it was the last */
bool signal_stop_count_down(struct process *process, struct thread *thread);
/** All threads have stopped: tell the parent. Tree. */
void signal_stop_report(struct process *process);
/** Drop every pending signal of @which, because they are ignored now. */
void signal_forget(struct process *process, signal_set which);
bool signal_on_altstack(const struct thread *thread, uint64_t sp);

/* futex.c */
void futex_init(void);
/** Wake one waiter on a word of the current address space that became zero at thread exit. */
void futex_wake_address(uint64_t address, unsigned count);
void futex_exit_robust_list(struct thread *thread);

/* rseq.c */
void rseq_update(struct thread *thread, struct trap_frame *frame);

/* time.c */
void process_timers_init(struct process *process);
void process_timers_destroy(struct process *process);
/** Delete the POSIX timers, as exec() does. */
void posix_timers_destroy(struct process *process);
/** The same, absolute, of CLOCK_REALTIME or CLOCK_MONOTONIC. */
int64_t deadline_from_user_absolute(uint64_t address, bool realtime, uint64_t *out_deadline);
/** A relative struct timespec of the user as an absolute monotonic deadline. 0, -EFAULT, -EINVAL */
int64_t deadline_from_user(uint64_t address, uint64_t *out_deadline);

/* syscall.c */
void syscall_log_unknown(unsigned long number);

#endif
