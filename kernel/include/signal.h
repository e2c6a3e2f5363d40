/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SIGNAL_H
#define KERNEL_SIGNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/list.h>
#include <quire/lock.h>

/*
 * Signals: numbers and layouts as Linux has them on 64-bit machines, and how
 * the kernel sends them.  kernel/proc/signal.c has the theory.
 */

struct process;
struct wait_queue;
struct signal_timer;
struct thread;
struct trap_frame;

enum {
    SIGHUP = 1,
    SIGINT,
    SIGQUIT,
    SIGILL,
    SIGTRAP,
    SIGABRT,
    SIGBUS,
    SIGFPE,
    SIGKILL,
    SIGUSR1,
    SIGSEGV,
    SIGUSR2,
    SIGPIPE,
    SIGALRM,
    SIGTERM,
    SIGSTKFLT,
    SIGCHLD,
    SIGCONT,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGURG,
    SIGXCPU,
    SIGXFSZ,
    SIGVTALRM,
    SIGPROF,
    SIGWINCH,
    SIGIO,
    SIGPWR,
    SIGSYS,
    SIGRTMIN,
    SIGRTMAX = 64
};

/* si_code */
enum {
    SI_USER = 0,
    SI_KERNEL = 0x80,
    SI_QUEUE = -1,
    SI_TIMER = -2,
    SI_MESGQ = -3,
    SI_ASYNCIO = -4,
    SI_SIGIO = -5,
    SI_TKILL = -6,
    ILL_ILLOPC = 1,
    ILL_ILLOPN = 2,
    FPE_INTDIV = 1,
    FPE_INTOVF = 2,
    FPE_FLTDIV = 3,
    FPE_FLTOVF = 4,
    FPE_FLTUND = 5,
    FPE_FLTRES = 6,
    FPE_FLTINV = 7,
    SEGV_MAPERR = 1,
    SEGV_ACCERR = 2,
    SEGV_PKUERR = 4,
    BUS_ADRALN = 1,
    BUS_ADRERR = 2,
    BUS_OBJERR = 3,
    BUS_MCEERR_AR = 4,
    CLD_EXITED = 1,
    CLD_KILLED = 2,
    CLD_DUMPED = 3,
    CLD_TRAPPED = 4,
    CLD_STOPPED = 5,
    CLD_CONTINUED = 6,
    POLL_IN = 1
};
/* The codes of SIGTRAP are 1 (breakpoint) and 2 (trace); their names belong to arch.h. */

#define SIG_DFL ((uint64_t)0)
#define SIG_IGN ((uint64_t)1)

#define SA_NOCLDSTOP 0x00000001u
#define SA_NOCLDWAIT 0x00000002u
#define SA_SIGINFO   0x00000004u
#define SA_RESTORER  0x04000000u
#define SA_ONSTACK   0x08000000u
#define SA_RESTART   0x10000000u
#define SA_NODEFER   0x40000000u
#define SA_RESETHAND 0x80000000u

#define SS_ONSTACK    1
#define SS_DISABLE    2
#define SS_AUTODISARM (1u << 31)

/** A set of signals: bit n - 1 stands for signal n. */
typedef uint64_t signal_set;

static inline signal_set
signal_bit(int number)
{
    return (signal_set)1 << (number - 1);
}

/** siginfo_t: 128 bytes. */
struct signal_info {
    int32_t number;
    int32_t error;
    int32_t code;
    int32_t pad;
    union {
        struct {
            int32_t pid;
            uint32_t uid;
            uint64_t value;
        } sent; /* kill, sigqueue */
        struct {
            int32_t id;
            int32_t overrun;
            uint64_t value;
        } timer;
        struct {
            int32_t pid;
            uint32_t uid;
            int32_t status;
            int32_t pad;
            int64_t user_ticks;
            int64_t system_ticks;
        } child;
        struct {
            uint64_t address;
            int16_t address_lsb;
            int16_t pad[3];
            uint64_t lower; /* SEGV_PKUERR: the key, 32 bits */
            uint64_t upper;
        } fault;
        uint8_t bytes[112];
    };
};

/** What sigaction() sets; programs' form of it is struct abi_sigaction of <arch_sigaction.h>. */
struct signal_action {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    signal_set mask;
};

struct signal_stack {
    uint64_t base;
    uint32_t flags;
    uint32_t pad;
    uint64_t size;
};

/** The actions of a process; CLONE_SIGHAND shares them. */
struct signal_actions {
    atomic_uint refs;
    struct qr_spin lock;
    struct signal_action action[64]; /* lock; the handler word may be read without */
};

/** One pending signal with its information. */
struct signal_queued {
    struct qr_list link; /* process->signal_lock */
    struct signal_info info;
    struct signal_timer *timer; /* POSIX timer whose slot this is, or NULL */
    bool embedded;              /* not from the heap: part of a thread or timer */
    bool in_use;                /* process->signal_lock: embedded and in a list now */
};

/** What is pending for a thread, or for a whole process. */
struct signal_pending {
    signal_set set;      /* process->signal_lock */
    struct qr_list list; /* process->signal_lock; oldest first */
};

/* ---- sending ----------------------------------------------------------------- */

/**
 * Send @number to a process; @info NULL means SI_KERNEL from the kernel.
 * Never sleeps; any context. The signal is lost only if a real-time one finds no memory.
 * @return 0 or -EAGAIN (real-time signal from sigqueue, queue full)
 */
int64_t signal_send_process(struct process *process, int number, const struct signal_info *info);

/** signal_send_process() with the tree lock held already. */
int64_t signal_send_process_locked(struct process *process, int number,
                                   const struct signal_info *info);

/** The same, to one thread. */
int64_t signal_send_thread(struct thread *thread, int number, const struct signal_info *info);

/**
 * To every process of group @group, from the kernel (terminal): no permission check.
 * @return the number of processes it was sent to
 */
unsigned signal_send_group(int32_t group, int number, const struct signal_info *info);

/** To the current thread for its own fault: if blocked or ignored, it kills. */
void signal_force(int number, const struct signal_info *info);

/** SIGPIPE and the like, to the current thread. */
void signal_raise(int number);

/* ---- asking ------------------------------------------------------------------- */

/** Whether a wait of the current thread should end because of a signal. */
bool signal_is_pending(void);

/** Whether the current thread is to die. */
bool signal_is_fatal_pending(void);
/** Has @process been killed, or is it ending of itself?  For those that look at others: process tree lock held. */
bool signal_ends(const struct process *process);

/** Whether @number is blocked or ignored by the current thread (SIGTTIN, SIGTTOU rules). */
bool signal_is_blocked_or_ignored(int number);

/** Signals that are pending for the current thread or its process, blocked or not. */
signal_set signal_pending_set(void);

/** Woken at every signal, for those who wait for blocked ones (signalfd). */
extern struct wait_queue signal_arrived;

/* ---- masks for ppoll, pselect, epoll_pwait, sigsuspend ------------------------ */

/**
 * Install a temporary mask read from user memory; 0 for @user_mask leaves it alone.
 * The old one returns on the way to user mode, after handlers were set up with it.
 * @return 0, -EFAULT, -EINVAL (size)
 */
int64_t signal_mask_borrow(uint64_t user_mask, uint64_t size);

/** After the wait: if it was not ended by a signal, put the old mask back at once. */
void signal_mask_return(bool interrupted);

/* ---- inside kernel/proc --------------------------------------------------------- */

struct signal_actions *signal_actions_create(const struct signal_actions *from);
void signal_actions_put(struct signal_actions *actions);
/** exec(): handlers go back to default, ignored ones stay. */
void signal_actions_reset(struct signal_actions *actions);
void signal_pending_init(struct signal_pending *pending);
void signal_pending_discard(struct signal_pending *pending);
/** Set or clear the thread's work bit after a change of mask or queues; signal_lock held. */
void signal_update(struct thread *thread);
void signal_mask_set(signal_set mask);
/** Deliver what is pending on the way to user mode. */
void signal_deliver_pending(struct trap_frame *frame);
/** Wake a thread for a signal. signal_lock held. */
void signal_wake(struct thread *thread, bool fatal);
/** Signals of @which that the whole process has pending: let another thread take them. */
void signal_pass_on(struct thread *thread, signal_set which);
/** Take a pending signal of @set for the current thread, blocked or not; 0 when there is none. */
int signal_take(signal_set set, struct signal_info *out);
/** Queue a POSIX timer's slot; @tid 0: for the process. @return whether it was free and wanted */
bool signal_post_timer(struct process *process, struct signal_queued *slot, int32_t tid);
void signal_retract_timer(struct process *process, struct signal_queued *slot);
/** The timer's signal is taken: fill in the overrun count. signal_lock held. */
void signal_timer_taken(struct signal_timer *timer, struct signal_info *info);
/** The current thread ends: hand its share of the process's signals on, drop its own. */
void signal_thread_gone(struct thread *thread);

/* ---- supplied by kernel/arch/<arch>/signal.c -------------------------------------- */

/**
 * Write a signal frame to the user stack and point @frame at the handler.
 * @return 0 or -EFAULT: the stack is not usable
 */
int64_t arch_signal_push(struct trap_frame *frame, int number, const struct signal_action *action,
                         const struct signal_info *info, signal_set mask);

/** Undo it: registers, floating-point state, alternate stack, mask. -EFAULT when the frame is bad. */
int64_t arch_signal_pop(struct trap_frame *frame, signal_set *out_mask);

/** Back up so that the thread enters restart_syscall(2) next. */
void arch_restart_block(struct trap_frame *frame);

/**
 * Code that handlers return to, which makes the system call rt_sigreturn: for
 * architectures whose programs bring no restorer.  exec maps it, at mm->sigreturn.
 * @return the code, at most a page; NULL where programs bring their own
 */
const void *arch_sigreturn_code(size_t *out_bytes);

/** Bytes of the largest signal frame: AT_MINSIGSTKSZ. */
size_t arch_signal_frame_bytes(void);

#endif
