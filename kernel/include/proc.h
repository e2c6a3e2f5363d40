/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PROC_H
#define KERNEL_PROC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/list.h>
#include <quire/lock.h>
#include <quire/space.h>
#include <quire/tree.h>

#include "arch.h"
#include "mm.h"
#include "sched.h"
#include "signal.h"
#include "trace.h"
#include "wait.h"

/*
 * Processes and threads.
 *
 * A `struct process` is what Linux calls a thread group: memory, signal actions,
 * parent and children, limits, credentials.  A `struct thread` is what the
 * scheduler runs.  A `struct pid` is a number in use: as a thread, a process, a
 * process group or a session; it stays as long as any of these needs it.
 *
 * Locks, outermost first:
 *
 *      tree            process_tree_lock(): numbers, parents and children, groups and sessions,
 *                      thread lists, states of exit and stop that wait4() reports
 *      S signal        process->signal_lock: pending signals, masks, stop and exit requests
 *      A actions       signal_actions.lock
 *      W wait queue    wait_queue.lock
 *      Q run queue     scheduler state of threads
 *
 * A field marked with a letter is written under that lock; "own" means by its
 * own thread only (others may read one word of it); "const" after creation.
 * Only `tree`, S and A may be held while calling the library's heap; all of them
 * are spin locks, so nothing under them sleeps or touches user memory.
 */

struct cgroup;
struct fd_table;
struct file;
struct qr_mempolicy;
struct fs_context;
struct process;
struct vfork_wait;

enum {
    PID_LIMIT = 32768,    /**< numbers are below this */
    THREADS_LIMIT = 8192, /**< threads of the whole machine */
    COMM_BYTES = 16
};

struct pid {
    int32_t number;           /* const */
    uint32_t refs;            /* tree */
    struct qr_list hash_link; /* tree */
    struct thread *thread;    /* tree; NULL when no thread has this number */
    struct process *process;  /* tree; NULL when no process has it */
    struct qr_list group;     /* tree; processes by group_link */
    struct qr_list session;   /* tree; processes by session_link */
};

/** Credentials; one set per process. */
struct credentials {
    uint32_t uid, euid, suid, fsuid;
    uint32_t gid, egid, sgid, fsgid;
    uint64_t cap_effective, cap_permitted, cap_inheritable, cap_bounding, cap_ambient;
    uint32_t securebits;
    uint32_t group_count;
    uint32_t groups[32];
};

enum {
    RLIMIT_CPU,
    RLIMIT_FSIZE,
    RLIMIT_DATA,
    RLIMIT_STACK,
    RLIMIT_CORE,
    RLIMIT_RSS,
    RLIMIT_NPROC,
    RLIMIT_NOFILE,
    RLIMIT_MEMLOCK,
    RLIMIT_AS,
    RLIMIT_LOCKS,
    RLIMIT_SIGPENDING,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_RTPRIO,
    RLIMIT_RTTIME,
    RLIMIT_COUNT
};
#define RLIM_INFINITY UINT64_MAX

struct rlimit {
    uint64_t soft, hard;
};

/** What /proc/PID/io tells: through read, write and the like, and what of it met a disk. */
struct io_usage {
    uint64_t read_chars, written_chars;
    uint64_t read_calls, write_calls;
    uint64_t read_bytes;      /* fetched from a disk */
    uint64_t written_bytes;   /* that a disk is going to get, or got */
    uint64_t cancelled_bytes; /* ... and is not going to get, since they were cut off */
};

/** What getrusage and wait4 report. Nanoseconds and counts. */
struct usage {
    uint64_t user_ns, system_ns;
    uint64_t minor_faults, major_faults;
    uint64_t voluntary_switches, involuntary_switches;
    uint64_t peak_pages;
    struct io_usage io;
};

/** @p to gets what @p more has. */
void usage_add(struct usage *to, const struct usage *more);

/** Reasons to run code before returning to user mode: bits of thread->arch.work. */
enum {
    WORK_SIGNAL = 1u << 0,       /**< look at signals; ends interruptible waits */
    WORK_RESTORE_MASK = 1u << 1, /**< a borrowed mask is to be put back */
    WORK_RSEQ = 1u << 2,         /**< tell the restartable sequence which CPU this is */
    WORK_SET_TID = 1u << 3,      /**< a new thread has to write its number */
    WORK_THROTTLE = 1u << 4,     /**< its group is above memory.high */
};

struct thread {
    struct arch_thread arch; /* first */

    /* Scheduler: Q unless marked; kernel/proc/sched.c. */
    _Atomic uint32_t state; /* enum thread_state; own to sleep, Q to wake */
    _Atomic uint32_t cpu;   /* whose queue */
    bool queued;
    struct qr_tree_node queue_node;  /* ordinary policies */
    struct qr_list queue_link;       /* real-time policies */
    uint64_t virtual_ns;             /* run time, weighted by nice, relative to its queue */
    uint64_t started_ns;             /* from when the running time is not accounted yet */
    uint64_t run_ns;                 /* CPU time used */
    uint64_t slice_ns;               /* SCHED_RR: left of the slice */
    uint64_t voluntary, involuntary; /* switches */
    int16_t nice;                    /* -20 .. 19 */
    uint8_t policy;                  /* SCHED_OTHER … */
    uint8_t priority;                /* of a real-time policy, 1 .. 99; 0 for ordinary ones */
    struct qr_cpu_set affinity;
    struct qr_space *space; /* own: address space to load; NULL: keep whatever is loaded */
    struct qr_mempolicy *memory_policy; /* tree to write, own; one reference; NULL: the default */
    struct qr_charge stack_charge;      /* const: for its kernel stack */

    atomic_uint refs;
    struct process *process;             /* const; NULL for kernel threads; counts as a reference */
    struct pid *pid;                     /* tree */
    int32_t tid;                         /* tree; changes only in exec */
    struct qr_list thread_link;          /* tree: process->threads */
    char name[COMM_BYTES];               /* tree to write; readers may see half of a change */
    bool in_kernel;                      /* own: for time accounting */
    bool stalled;                        /* psi's lock: waits for memory */
    uint32_t over_high_pages;            /* own: charged above memory.high since the last sleep */
    bool group_was_full;                 /* own: a charge found one, and nobody to kill */
    uint64_t user_ticks, system_ticks;   /* own */
    uint64_t minor_faults, major_faults; /* own */
    struct io_usage io;                  /* own */

    struct fd_table *files; /* own to change; tree for readers from outside */
    struct fs_context *fs;  /* the same */

    /* Signals. */
    signal_set blocked;              /* S to write, own */
    signal_set saved_mask;           /* own: the real one, while mask_borrowed */
    bool mask_borrowed;              /* own: sigsuspend, ppoll, … replaced the mask for a wait */
    signal_set waiting_for;          /* S: sigtimedwait: pending ones of these are not ignored */
    struct signal_pending pending;   /* S */
    struct signal_queued fault_slot; /* S: the information of a forced signal needs no memory */
    uint64_t fault_address;          /* own: of the last fault that became a signal */
    struct signal_stack altstack;    /* own */
    bool stop_asked;                 /* S: is to join the group stop */
    bool exiting;                    /* own, S to write */
    bool in_core;                    /* S: its registers are saved, for a core file */

    /* User memory that the kernel keeps for the thread: addresses. */
    uint64_t clear_tid;      /* own: CLONE_CHILD_CLEARTID, set_tid_address */
    uint64_t robust_list;    /* own */
    uint64_t rseq;           /* own: 0 when not registered */
    uint32_t rseq_signature; /* own */
    uint32_t rseq_cpu;       /* own: what the user was told */

    uint64_t set_tid;         /* own: CLONE_CHILD_SETTID, written on the way to user mode */
    struct vfork_wait *vfork; /* tree: on the stack of the parent that waits; NULL for none */

    /** How to restart an interrupted call that must not start from scratch. */
    int64_t (*restart)(struct thread *thread); /* own */
    uint64_t restart_args[6];                  /* own */

    struct tracing trace;
    int parent_death_signal;              /* own */
    uint64_t timer_slack_ns;              /* own */
    uint64_t start_ns;                    /* const */
    void (*kernel_entry)(void *argument); /* const: kernel threads */
    void *kernel_argument;
};

/** How far a process is. */
enum process_state {
    PROCESS_ALIVE,
    PROCESS_ZOMBIE, /* all threads ended; wait4() may take it */
    PROCESS_REAPED
};

enum {
    PROCESS_DUMPED = 1 << 0, /* exit status has the core bit */
    PROCESS_EXECED = 1 << 1, /* has called exec since fork: setpgid refuses */
    PROCESS_SUBREAPER = 1 << 2,
    PROCESS_NO_NEW_PRIVS = 1 << 3,
    PROCESS_INIT = 1 << 4,      /* number 1: immune to signals it does not handle */
    PROCESS_OOM_PASSED = 1 << 5 /* was to be killed for its memory and could not end */
};

struct process {
    atomic_uint refs;
    struct pid *pid;          /* const while refs; the number is process->id */
    int32_t id;               /* const */
    enum process_state state; /* tree */
    atomic_uint flags;        /* PROCESS_* */

    struct process *parent;       /* tree; NULL for init */
    _Atomic int32_t parent_id;    /* tree to write: its number, 0 for init */
    struct qr_list children;      /* tree; by sibling_link */
    struct qr_list sibling_link;  /* tree */
    struct pid *group;            /* tree */
    struct qr_list group_link;    /* tree */
    struct pid *session;          /* tree */
    struct qr_list session_link;  /* tree */
    struct qr_list all_link;      /* tree: every process */
    struct qr_list threads;       /* tree; by thread_link */
    unsigned thread_count;        /* tree: threads in the list */
    unsigned live_threads;        /* tree: of these, the ones that have not begun to exit */
    struct thread *leader_thread; /* tree; NULL once it ended */
    char name[COMM_BYTES];        /* tree: of the leader, kept for the zombie */
    struct qr_list traced;        /* tree: threads that this process traces, by tracing.link */
    struct thread
        *traced_end; /* tree: the leader, ended, of which not the parent is to know first */
    struct wait_queue child_wait; /* wait4() of any of its threads */
    struct wait_queue end_wait;   /* who polls for its end: descriptors of it */
    int exit_signal;              /* tree: to the parent at the end; 0 for none */

    struct mm *mm;                  /* tree to change; own threads read freely */
    struct signal_actions *actions; /* S to change */
    struct qr_spin signal_lock;
    struct signal_pending pending; /* S: for any thread */
    bool killed;                   /* tree and S to change: SIGKILL is on its way, or taken */
    bool group_exit;               /* S: all threads are to end */
    int exit_status;               /* S until zombie, then const: as wait4() reports it */
    struct thread *exec_thread;    /* S: the only one to survive, while exec ends the others */
    struct thread *core_thread;    /* S: writes a core file; the others stop as they begin to end */
    unsigned core_others;          /* S: these; fixed once core_thread is set */
    _Atomic unsigned core_running; /* S to write: of these, the ones that have not stopped yet */
    struct wait_queue exec_wait;   /* who waits for the others, or for core_thread */
    bool group_stop;               /* S: stopping or stopped */
    unsigned stop_remaining;       /* S: threads that have not stopped yet */
    int stop_signal;               /* S */
    bool stop_dequeued;            /* S: a stop signal was taken and no SIGCONT came since */
    uint32_t stop_report;          /* tree: CLD_STOPPED or CLD_CONTINUED to report, or 0 */

    struct credentials credentials;     /* tree to write */
    struct rlimit limits[RLIMIT_COUNT]; /* tree to write, one word read freely */
    struct qr_space_limits
        space_limits;           /* the same, as the library wants them: mm_apply_limits() */
    struct usage used;          /* tree: of threads that ended */
    struct usage children_used; /* tree: of children that were waited for */
    uint64_t start_ns;          /* const: monotonic */

    struct timer alarm; /* ITIMER_REAL */
    struct qr_spin timer_lock;
    uint64_t alarm_deadline;                 /* timer_lock; 0 when off */
    uint64_t alarm_interval;                 /* timer_lock */
    uint64_t virtual_left, virtual_interval; /* timer_lock: ITIMER_VIRTUAL */
    uint64_t profile_left, profile_interval; /* timer_lock: ITIMER_PROF */
    struct qr_list posix_timers;             /* timer_lock */
    int32_t next_timer_id;                   /* timer_lock */
    unsigned posix_timer_count;              /* timer_lock */
    uint64_t cpu_limit_told;                 /* tick: RLIMIT_CPU second of the last SIGXCPU */
    bool cpu_timers_on;                      /* one word: whether the tick has to look */
    uint32_t personality;
    struct cgroup *cgroup;      /* tree and cgroups' lock to change; a reference */
    struct qr_list cgroup_link; /* tree: cgroup->members, until its memory is gone */
    int16_t oom_adjustment;     /* tree to write: oom_score_adj */
    int16_t oom_adjustment_min; /* tree: how low it may be set without CAP_SYS_RESOURCE */
};

/* ---- the current one -------------------------------------------------------------- */

/** The process of the running thread; NULL in a kernel thread. */
static inline struct process *
process_current(void)
{
    return thread_current()->process;
}

/** Current soft limit, e.g. RLIMIT_NOFILE, RLIMIT_FSIZE; RLIM_INFINITY for kernel threads. */
uint64_t process_limit(unsigned which);

/** Effective user and group for files; 0 in kernel threads. */
uint32_t process_fsuid(void);
uint32_t process_fsgid(void);
/** Whether the current process has a capability (CAP_* number). */
bool process_has_capability(unsigned number);
/**
 * May the current process look into the memory @mm of @target, change it, and trace it?  By its real numbers, or
 * (@as_file) by those that files are opened with.  What Linux's ptrace(2) says of PTRACE_MODE_ATTACH.
 */
bool process_may_inspect(const struct process *target, const struct mm *mm, bool as_file);
/** The same of the memory that @target has, for a file of /proc; of none there is nothing to see. */
bool process_may_look(struct process *target);

/* ---- numbers, groups, sessions ------------------------------------------------------- */

void process_tree_lock(void);
void process_tree_unlock(void);

/** With a reference, or NULL. Zombies are found. */
struct process *process_find(int32_t id);
/** The first process whose number is >= @from, with a reference, or NULL: to list them all. */
struct process *process_next(int32_t from);
/** Call @visit for every one, zombies too. Tree lock held. */
void process_visit_all(void (*visit)(struct process *process, void *context), void *context);
void process_ref(struct process *process);
void process_put(struct process *process);

/** Thread by number, with a reference, or NULL. */
struct thread *thread_find(int32_t tid);
/** The first thread of @process whose number is >= @from, with a reference, or NULL. */
struct thread *thread_next(struct process *process, int32_t from);
void thread_ref(struct thread *thread);
void thread_put(struct thread *thread);

/** Whether all its threads have ended. */
bool process_has_ended(struct process *process);
/** The process behind descriptor @fd, with a reference, and the flags it was opened with;
 *  -EBADF: it is none of a process. */
int64_t pidfd_process(int fd, struct process **out, uint32_t *out_flags);
/** A descriptor of @process, whose reference it takes over, whatever comes of it.
 *  @return the descriptor, close-on-exec; -EMFILE, -ENOMEM */
int64_t pidfd_make(struct process *process, uint32_t flags);

int32_t process_group_id(struct process *process);
int32_t process_session_id(struct process *process);
/** Number of the parent; 0 for init. */
int32_t process_parent_id(struct process *process);
bool process_is_session_leader(struct process *process);

/** Whether group @group exists in session @session: tcsetpgrp(). */
bool process_group_in_session(int32_t group, int32_t session);
/** Whether no member has a parent in another group of the same session: POSIX "orphaned". */
bool process_group_is_orphaned(int32_t group);

/* ---- looking at one (for /proc) ----------------------------------------------------------- */

struct process_status {
    char name[COMM_BYTES];
    char state; /* R S D T Z X */
    int32_t id, parent, group, session;
    unsigned threads;
    int16_t nice;
    unsigned cpu;
    struct usage used, children_used;
    uint64_t start_ns;
    struct credentials credentials;
    signal_set pending, shared_pending, blocked, ignored, caught;
    int exit_status, exit_signal;
};

/** A snapshot of @process, or of one of its threads where @thread is not NULL. */
void process_status(struct process *process, struct thread *thread, struct process_status *out);

/** File table, directory context of the process's first living thread, with a reference, or NULL. */
struct fd_table *process_files(struct process *process);
struct fs_context *process_fs(struct process *process);

/** Is @thread to end because another one executes a program, or writes a core file? */
static inline bool
thread_is_superseded(const struct thread *thread)
{
    const struct process *process = thread->process;

    return (process->exec_thread != NULL && process->exec_thread != thread) ||
           (process->core_thread != NULL && process->core_thread != thread);
}

/* ---- whole machine ---------------------------------------------------------------------- */

unsigned process_count(void);
/** Threads of all processes of user @uid: what RLIMIT_NPROC bounds. */
unsigned process_user_threads(uint32_t uid);
unsigned thread_count(void);
int32_t process_last_id(void);
uint64_t process_fork_count(void);
/** The node name of uname(2), terminated. */
void machine_host_name(char out[65]);

/**
 * After all processes but init have ended: what is left over beyond init. Logs each such kind.
 * @return the number of kinds that leak
 */
unsigned process_leak_check(void);

/* ---- inside kernel/proc ------------------------------------------------------------------- */

/** End the current thread; the last one of a process gives it @status (as wait4() reports it). */
_Noreturn void thread_exit(int status);
/** End the whole process. */
_Noreturn void process_exit_group(int status);

#endif
