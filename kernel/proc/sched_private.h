/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROC_SCHED_PRIVATE_H
#define KERNEL_PROC_SCHED_PRIVATE_H

#include "proc.h"

/*
 * What the files of kernel/proc share about scheduling.
 */

enum { SCHED_OTHER = 0, SCHED_FIFO = 1, SCHED_RR = 2, SCHED_BATCH = 3, SCHED_IDLE = 5 };

/** One CPU's run queue; sched.c. Interrupts off while its lock is held. */
struct run_queue {
    struct qr_spin lock;       /* Q */
    struct cpu *cpu;           /* const */
    struct thread *idle;       /* const */
    struct thread *first;      /* Q: the ordinary thread to run next, NULL for none */
    struct qr_tree fair;       /* Q: all other ordinary threads by virtual time */
    struct qr_list realtime;   /* Q: highest priority first */
    _Atomic unsigned count;    /* Q to write: threads in fair and realtime */
    uint64_t clock_ns;         /* Q: least virtual time, never goes back */
    uint64_t switches;         /* Q */
    uint64_t idle_ns, busy_ns; /* Q */
    struct thread *dead;       /* this CPU: ended, to be released after the switch */
    struct thread *homeless;   /* this CPU: may not run here any more */
    _Atomic bool online;

    struct qr_spin timer_lock;           /* timers: sched timers of this CPU */
    struct qr_tree timers;               /* timer_lock */
    struct timer *timer_first;           /* timer_lock to write; peeked at by the tick */
    struct timer *_Atomic timer_running; /* whose function runs now */
    uint64_t timer_order;                /* timer_lock */
} QR_CACHE_ALIGNED;

struct run_queue *sched_this_queue(void);

/** Prepare the run queue of @cpu, whose idle thread is set and runs now. */
void sched_init_cpu(struct cpu *cpu);
/** The idle loop of the calling CPU. */
_Noreturn void sched_idle(void);
void sched_set_policy(struct thread *thread, unsigned policy, unsigned priority, int nice);
void sched_set_affinity(struct thread *thread, const struct qr_cpu_set *set);
/** CPU time of @thread, up to now where it is the current one. */
uint64_t sched_run_ns(const struct thread *thread);

void timer_init_cpu(struct run_queue *queue);
void timer_tick(uint64_t now);

/** Time accounting and CPU-time timers of the thread that the tick interrupted. */
void process_tick(struct thread *thread);

#endif
