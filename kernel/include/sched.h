/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SCHED_H
#define KERNEL_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/tree.h>

#include "arch.h"

/*
 * The scheduler as the rest of the kernel sees it; kernel/proc/sched.c has the
 * theory.  Kernel code is not preempted: the CPU changes hands when a thread
 * sleeps, ends, yields, or is about to return to user mode with its time used
 * up.  A long loop in the kernel calls sched_relax() now and then.
 */

struct process;

/** States; the letter is what /proc shows. */
enum thread_state {
    THREAD_RUNNABLE,        /* R: runs or waits for a CPU */
    THREAD_INTERRUPTIBLE,   /* S: sleeps, a signal wakes it */
    THREAD_UNINTERRUPTIBLE, /* D: sleeps, only its event wakes it */
    THREAD_KILLABLE,        /* D: sleeps, a fatal signal wakes it too */
    THREAD_STOPPED,         /* T: job control; SIGCONT or SIGKILL wake it */
    THREAD_TRACED,          /* t: waits for its tracer; SIGKILL wakes it too */
    THREAD_DEAD             /* X: never runs again */
};

/*
 * thread_current() and cpu_this() are in arch.h; sched_tick(), sched_preempt(), sched_switched()
 * and cpu_main(), which arch code calls, are declared there too.
 */

/**
 * Make @thread runnable if it sleeps in one of the states of @mask (bits 1 << enum thread_state).
 * @return whether it was asleep. Any context, spin locks may be held (not a run queue's).
 */
bool sched_wake(struct thread *thread, uint32_t mask);
enum {
    SCHED_WAKE_NORMAL =
        1 << THREAD_INTERRUPTIBLE | 1 << THREAD_UNINTERRUPTIBLE | 1 << THREAD_KILLABLE,
    SCHED_WAKE_SIGNAL = 1 << THREAD_INTERRUPTIBLE,
    SCHED_WAKE_FATAL =
        1 << THREAD_INTERRUPTIBLE | 1 << THREAD_KILLABLE | 1 << THREAD_STOPPED | 1 << THREAD_TRACED,
};

/** Start a new thread: puts it on a run queue for the first time. */
void sched_start(struct thread *thread);

/** Give the CPU away; returns when the thread is chosen again. Interrupts on, no spin lock held. */
void sched_switch(void);

/** Let others run if any wait: sched_yield(2). */
void sched_yield(void);

/** Wait until @thread, which sleeps in @state or is about to, has left its CPU.
 *  @return false where it sleeps in that state no more */
bool sched_wait_off(struct thread *thread, enum thread_state state);

/** For long kernel loops: switch only if this thread's time is used up. */
void sched_relax(void);

/** A kernel thread without user space. @return NULL without memory */
struct thread *kernel_thread_start(const char *name, void (*entry)(void *), void *argument);

/** Sleep at least until @deadline (monotonic nanoseconds), uninterrupted. Kernel threads. */
void sched_sleep_until(uint64_t deadline);

/** Runnable threads now, over all CPUs, and load averages in 1/65536 (1, 5, 15 minutes). */
unsigned sched_running_count(void);
void sched_load_averages(uint32_t out_loads[3]);

/** Context switches since boot, over all CPUs; nanoseconds that CPU @index was idle. */
uint64_t sched_switch_count(void);
uint64_t sched_idle_ns(unsigned index);
uint64_t sched_busy_ns(unsigned index);

/* ---- timers --------------------------------------------------------------- */

/** A one-shot kernel timer. The function runs in interrupt context on some CPU. */
struct timer {
    struct qr_tree_node node; /* queue's lock */
    uint64_t deadline;        /* queue's lock */
    uint64_t order;           /* queue's lock: breaks ties, first come first served */
    void (*expire)(struct timer *timer);
    unsigned cpu; /* whose queue */
    bool armed;   /* queue's lock */
};

void timer_init(struct timer *timer, void (*expire)(struct timer *timer));
/** Arm (or re-arm) for @deadline, monotonic nanoseconds. Any context. */
void timer_arm(struct timer *timer, uint64_t deadline);
/**
 * Arm, re-arm, or disarm (@deadline 0) under a lock that the timer's function takes too: does not
 * wait for a function that runs already, which must look under that lock whether it is still wanted.
 */
void timer_set_locked(struct timer *timer, uint64_t deadline);
/** Disarm. Afterwards the function is not running and will not run. @return whether it was armed.
 *  Not from the timer's own function; holds no lock that the function takes. */
bool timer_cancel(struct timer *timer);

/* ---- clocks ---------------------------------------------------------------- */

/*
 * clock_monotonic_ns() is arch.h's.  The time of day is arch.h's clock_realtime_ns(), read once
 * at boot, plus what clock_settime() changed: use clock_wall_ns().
 */
void clock_init_wall(void);
uint64_t clock_wall_ns(void);
void clock_wall_set(uint64_t ns);
/** A wall-clock time as a monotonic one. */
uint64_t wall_to_monotonic(uint64_t wall);

/** A program's itimerspec: the interval and the value, in nanoseconds. @return 0, -EFAULT, -EINVAL */
int64_t itimerspec_read(uint64_t address, uint64_t out[2]);
int64_t itimerspec_write(uint64_t address, const uint64_t value[2]);

#endif
