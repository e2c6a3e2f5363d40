/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_TRACE_H
#define KERNEL_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/list.h>

#include "signal.h"

/*
 * Tracing of threads (ptrace); kernel/proc/trace.c has the theory.
 *
 * "tree" functions expect the tree lock to be held.
 */

struct arch_thread;
struct pid;
struct process;
struct thread;
struct trap_frame;

/* Bits of PTRACE_SETOPTIONS; for the events their number is the bit's. */
enum trace_option {
    TRACE_SYSGOOD = 1 << 0,
    TRACE_FORK = 1 << 1,
    TRACE_VFORK = 1 << 2,
    TRACE_CLONE = 1 << 3,
    TRACE_EXEC = 1 << 4,
    TRACE_VFORK_DONE = 1 << 5,
    TRACE_EXIT = 1 << 6,
    TRACE_EXITKILL = 1 << 20,
    TRACE_OPTIONS = (1 << 7) - 1 + (1 << 20)
};

enum trace_event {
    EVENT_FORK = 1,
    EVENT_VFORK,
    EVENT_CLONE,
    EVENT_EXEC,
    EVENT_VFORK_DONE,
    EVENT_EXIT,
    EVENT_STOP = 128
};

/** Where a traced thread stands with its system call. */
enum trace_syscall { TRACE_NOT_IN_CALL, TRACE_CALL_ENTERED, TRACE_CALL_DONE };

/** What a thread has of its tracer. */
struct tracing {
    struct process *tracer; /* tree and S to write; NULL: nobody */
    struct qr_list link;    /* tree: tracer->traced */
    uint32_t options;       /* tree to write; own, and the tracer's while it is stopped */
    bool seized;            /* tree */
    bool stopped;           /* tree: waits for the tracer */
    bool group;             /* tree: and it is for a group stop */
    bool listening;         /* tree: PTRACE_LISTEN */
    bool ended;             /* tree: the thread is gone; only its report is left */
    bool interrupted;       /* S: to stop at the next opportunity */
    bool syscalls;          /* stops at system calls; written while it is stopped */
    bool stepping;          /* the same: one instruction at a time */
    bool has_info;          /* tree: of the present stop */
    uint8_t in_call;        /* own: enum trace_syscall */
    int report;             /* tree: what wait4() has to tell; 0: nothing */
    int resume_signal;      /* tree: what the tracer wants to be taken */
    int exit_status;        /* tree: once ended */
    uint64_t message;       /* of the last event */
    struct signal_info info;
    struct pid *pid; /* tree: keeps the number of an ended thread from being used again */
};

/* ---- stops: the current thread ------------------------------------------------------------ */

/** Show a signal that was taken to the tracer. @return the one to deliver instead; 0: none */
int trace_signal(struct thread *thread, int number, struct signal_info *info);
/** Take part in the group stop as a traced thread. */
void trace_group_stop(struct thread *thread);
/** The stop that PTRACE_INTERRUPT asked for. */
void trace_interrupt_stop(struct thread *thread);
/** Before and after a system call, where the tracer asked for it. */
void trace_syscall_stop(struct thread *thread, enum trace_syscall where);
/** Stop for @event if its option is set. @return whether it is */
bool trace_event(struct thread *thread, enum trace_event event, uint64_t message);
/** After exec: the event, or the signal that stands for it. @p tid: what its number was. */
void trace_exec(struct thread *thread, int32_t tid);
/** After a handler was set up while single-stepping. */
void trace_handler(struct thread *thread);
/** The process or thread is going to end with @p status, as wait4() reports it. */
void trace_exit(struct thread *thread, int status);

/* ---- tracers and their threads: tree -------------------------------------------------------- */

/** A child of the traced @p parent that is to be traced too, if the options say so.
 *  @return the event that the parent stops for afterwards; 0: none */
int trace_clone(struct thread *parent, struct thread *child, uint64_t flags, int exit_signal);
/** @p thread leaves its process. */
void trace_thread_gone(struct thread *thread, int status);
/** An ended thread's entry, which holds a reference, leaves its tracer's list. */
void trace_forget(struct thread *thread);
/** Exec gave the leader's number to another thread: nobody is told of the old one's end. */
void trace_forget_leader(struct process *process);
/** A tracer ends: those it traces are free, or killed. Processes whose end may be announced now
 *  are collected in @p out_dead, by all_link, where nobody waits for them. */
void trace_tracer_gone(struct process *tracer, struct qr_list *out_dead);
/** SIGCONT: seized threads are to show that they go on. S, too. */
void trace_continued(struct thread *thread);
/** The number of who traces @thread, or where that is NULL the leader of @process; 0: nobody. */
int32_t trace_tracer_id(struct process *process, struct thread *thread);
/** Tell the tracer. */
void trace_notify(struct thread *thread, int code, int status);
/** Make @p tracer the tracer of @p thread, with no stop yet. */
void trace_link(struct thread *thread, struct process *tracer, uint32_t options, bool seized);
/** Let @p thread go, to take @p number. */
void trace_unlink(struct thread *thread, int number);
/** Let a stopped thread go on. */
void trace_resume(struct thread *thread, int number);

/* ---- supplied by kernel/arch/<arch>/trace.c --------------------------------------------------- */

/** Sets of registers, as ELF notes number them. */
enum {
    NOTE_GENERAL = 1,
    NOTE_FLOAT = 2,
    NOTE_X86_FXSAVE = 0x46e62b7f,
    NOTE_X86_XSTATE = 0x202,
    NOTE_ARM_TLS = 0x401,
    NOTE_ARM_SYSCALL = 0x404
};

/** Bytes of the set @p note; 0: there is none here. */
size_t arch_trace_bytes(unsigned note);
/** The registers of a thread that does not run. */
void arch_trace_get(struct arch_thread *thread, unsigned note, void *image);
/** Set them. @return false where the CPU would not take them */
bool arch_trace_set(struct arch_thread *thread, unsigned note, const void *image);
/** Turn stepping on or off, for a thread that does not run or the current one.
 *  @return false: the CPU cannot */
bool arch_trace_step(struct arch_thread *thread, bool on);
/** Bytes of PTRACE_PEEKUSER's area, which begins with the general registers; 0: none. */
size_t arch_trace_user_bytes(void);
/** PTRACE_GETREGS and its like are notes here: the note, and whether it sets. @return false: none */
bool arch_trace_request(unsigned request, unsigned *out_note, bool *out_set);
/** The AUDIT_ARCH_ number of PTRACE_GET_SYSCALL_INFO. */
uint32_t arch_trace_audit(void);

#endif
