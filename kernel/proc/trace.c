/* SPDX-License-Identifier: MIT */
/*
 * Tracing: threads that stop for another process, which looks at them and lets them go on.
 *
 * A tracer is a process, a tracee one thread.  A tracee stops by itself, in kernel mode on its way to
 * or from user mode: before it takes a signal, at a system call, at an event (fork, exec, exit), for a
 * group stop, or because it was interrupted.  It then sleeps as THREAD_TRACED, which only its tracer
 * (trace_resume()) or SIGKILL ends.  Its registers stand in its user frame meanwhile.
 *
 *      tracer->traced -- tracing.link -- thread -- tracing.report: what wait4() will tell, once
 *
 * A stop of a group counts for the group as ever, and its parent is told if it is not the tracer.
 *
 * A traced thread that ends stays in its tracer's list (`ended`, with a reference and its number)
 * until the tracer has waited for it.  The leader's entry tells of the process's end; while somebody else than
 * the parent has it, process->traced_end names it, and the parent learns of the end only when the
 * tracer knows.
 *
 * Locks: who traces whom and what is stopped is the tree lock's.  A stop is entered under the tree lock
 * and S, so that neither SIGKILL nor the end of the tracer is missed.
 */
#include "trace.h"

#include <quire/assert.h>

#include "proc_private.h"
#include "sched_private.h"

#define CLONE_PTRACE   0x2000u
#define CLONE_VFORK    0x4000u
#define CLONE_UNTRACED 0x800000u

/* ---- stopping ------------------------------------------------------------------ */

/* Is the thread to die at once?  S. */
static bool
is_dying(const struct thread *thread, int code)
{
    const struct process *process = thread->process;

    if ((thread->pending.set | process->pending.set) & signal_bit(SIGKILL))
        return true;
    return (process->group_exit && code != (SIGTRAP | EVENT_EXIT << 8)) ||
           thread_is_superseded(thread);
}

void
trace_notify(struct thread *thread, int code, int status)
{
    struct process *tracer = thread->trace.tracer;
    const struct signal_action *action = &tracer->actions->action[SIGCHLD - 1];
    struct signal_info info = {.number = SIGCHLD, .code = code};

    if (tracer->state != PROCESS_ALIVE)
        return;
    info.child.pid = thread->tid;
    info.child.uid = thread->process->credentials.uid;
    info.child.status = status;
    bool stops = code == CLD_TRAPPED || code == CLD_STOPPED;

    if (action->handler != SIG_IGN && !(stops && (action->flags & SA_NOCLDSTOP)))
        (void)signal_send_process_locked(tracer, SIGCHLD, &info);
    wait_wake_all(&tracer->child_wait);
}

enum stop_kind { STOP_ALONE, STOP_GROUP };

/*
 * Stop with @code: the low bits of what wait4() reports above 0x7f.
 * @return the signal that the tracer wants; @fallback where there is no tracer
 */
static int
trace_stop(struct thread *thread, int code, const struct signal_info *info, enum stop_kind kind,
           int fallback)
{
    struct process *process = thread->process;
    struct tracing *trace = &thread->trace;
    bool last = false;

    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    if (trace->tracer == NULL || is_dying(thread, code)) {
        qr_spin_unlock(&process->signal_lock);
        process_tree_unlock();
        return fallback;
    }
    if (kind == STOP_GROUP)
        last = signal_stop_count_down(process, thread);
    trace->stopped = true;
    trace->group = kind == STOP_GROUP;
    trace->report = code << 8 | 0x7f;
    trace->resume_signal = 0;
    trace->has_info = info != NULL;
    if (info != NULL)
        trace->info = *info;
    atomic_store(&thread->state, THREAD_TRACED);
    signal_update(thread);
    qr_spin_unlock(&process->signal_lock);
    trace_notify(thread, kind == STOP_GROUP ? CLD_STOPPED : CLD_TRAPPED, code & 0xff);
    if (last)
        signal_stop_report(process);
    process_tree_unlock();
    sched_switch();
    atomic_store(&thread->state, THREAD_RUNNABLE);

    process_tree_lock();
    int signal = trace->resume_signal;

    trace->stopped = false;
    trace->listening = false;
    trace->report = 0;
    process_tree_unlock();
    return signal;
}

static struct signal_info
trap_info(int code)
{
    struct signal_info info = {.number = SIGTRAP, .code = code};

    info.sent.pid = thread_current()->tid;
    info.sent.uid = process_current()->credentials.uid;
    return info;
}

int
trace_signal(struct thread *thread, int number, struct signal_info *info)
{
    int wanted = trace_stop(thread, number, info, STOP_ALONE, number);

    if (wanted == 0)
        return 0;
    if (thread->trace.has_info)
        *info = thread->trace.info; /* the tracer may have changed it */
    if (wanted != info->number) {
        *info = (struct signal_info){.number = wanted, .code = SI_USER};
        process_tree_lock();
        if (thread->trace.tracer != NULL) {
            info->sent.pid = thread->trace.tracer->id;
            info->sent.uid = thread->trace.tracer->credentials.uid;
        }
        process_tree_unlock();
    }
    if (thread->blocked & signal_bit(wanted) & ~signal_bit(SIGKILL)) {
        (void)signal_send_thread(thread, wanted, info);
        return 0;
    }
    return wanted;
}

void
trace_group_stop(struct thread *thread)
{
    int number = thread->process->stop_signal;
    struct signal_info info = trap_info(number | EVENT_STOP << 8);

    if (thread->trace.seized)
        (void)trace_stop(thread, number | EVENT_STOP << 8, &info, STOP_GROUP, 0);
    else
        (void)trace_stop(thread, number, NULL, STOP_GROUP, 0);
}

void
trace_interrupt_stop(struct thread *thread)
{
    struct process *process = thread->process;
    int number = process->group_stop ? process->stop_signal : SIGTRAP;
    struct signal_info info = trap_info(number | EVENT_STOP << 8);

    (void)trace_stop(thread, number | EVENT_STOP << 8, &info,
                     process->group_stop ? STOP_GROUP : STOP_ALONE, 0);
}

void
trace_syscall_stop(struct thread *thread, enum trace_syscall where)
{
    int code = SIGTRAP | (thread->trace.options & TRACE_SYSGOOD ? 0x80 : 0);
    struct signal_info info = trap_info(code);

    thread->trace.in_call = (uint8_t)where;
    thread->trace.message = (uint64_t)where;
    int wanted = trace_stop(thread, code, &info, STOP_ALONE, 0);

    thread->trace.in_call = TRACE_NOT_IN_CALL;
    if (wanted != 0) {
        struct signal_info sent = {.number = wanted, .code = SI_USER};

        sent.sent.pid = process_current()->id;
        (void)signal_send_thread(thread, wanted, &sent);
    }
}

bool
trace_event(struct thread *thread, enum trace_event event, uint64_t message)
{
    if (thread->trace.tracer == NULL || !(thread->trace.options & 1u << event))
        return false;
    struct signal_info info = trap_info(SIGTRAP | (int)event << 8);

    thread->trace.message = message;
    (void)trace_stop(thread, SIGTRAP | (int)event << 8, &info, STOP_ALONE, 0);
    return true;
}

void
trace_exec(struct thread *thread, int32_t tid)
{
    if (thread->trace.tracer == NULL || trace_event(thread, EVENT_EXEC, (uint64_t)tid))
        return;
    if (!thread->trace.seized)
        signal_raise(SIGTRAP);
}

void
trace_handler(struct thread *thread)
{
    struct signal_info info = trap_info(SI_USER);

    (void)trace_stop(thread, SIGTRAP, &info, STOP_ALONE, 0);
}

void
trace_exit(struct thread *thread, int status)
{
    if ((status & 0x7f) != SIGKILL)
        (void)trace_event(thread, EVENT_EXIT, (uint64_t)status);
}

/* ---- who traces whom: tree ---------------------------------------------------------- */

void
trace_link(struct thread *thread, struct process *tracer, uint32_t options, bool seized)
{
    struct tracing *trace = &thread->trace;

    qr_spin_lock(&thread->process->signal_lock);
    trace->tracer = tracer;
    trace->options = options;
    trace->seized = seized;
    trace->syscalls = false;
    trace->stepping = false;
    trace->interrupted = false;
    trace->message = 0;
    trace->report = 0;
    qr_list_push_back(&tracer->traced, &trace->link);
    qr_spin_unlock(&thread->process->signal_lock);
}

void
trace_resume(struct thread *thread, int number)
{
    thread->trace.stopped = false;
    thread->trace.listening = false;
    thread->trace.report = 0;
    thread->trace.resume_signal = number;
    (void)sched_wake(thread, 1u << THREAD_TRACED);
}

void
trace_unlink(struct thread *thread, int number)
{
    struct process *process = thread->process;
    struct tracing *trace = &thread->trace;

    qr_spin_lock(&process->signal_lock);
    qr_list_remove(&trace->link);
    trace->tracer = NULL;
    trace->syscalls = false;
    trace->interrupted = false;
    thread->stop_asked = process->group_stop; /* the group's stop is the thread's again */
    if (trace->stopped && trace->stepping)
        (void)arch_trace_step(&thread->arch, false);
    trace->stepping = false;
    signal_update(thread);
    qr_spin_unlock(&process->signal_lock);
    if (trace->stopped)
        trace_resume(thread, number);
}

int
trace_clone(struct thread *parent, struct thread *child, uint64_t flags, int exit_signal)
{
    const struct tracing *trace = &parent->trace;
    int event = flags & CLONE_VFORK      ? EVENT_VFORK
                : exit_signal != SIGCHLD ? EVENT_CLONE
                                         : EVENT_FORK;
    bool told = (trace->options & 1u << event) != 0;

    if (trace->tracer == NULL || (flags & CLONE_UNTRACED))
        return 0;
    if (!told && !(flags & CLONE_PTRACE))
        return 0;
    trace_link(child, trace->tracer, trace->options, trace->seized);
    qr_spin_lock(&child->process->signal_lock);
    if (trace->seized)
        child->trace.interrupted = true;
    else
        child->pending.set |= signal_bit(SIGSTOP);
    signal_update(child);
    qr_spin_unlock(&child->process->signal_lock);
    return told ? event : 0;
}

int32_t
trace_tracer_id(struct process *process, struct thread *thread)
{
    int32_t id = 0;

    process_tree_lock();
    thread = thread != NULL ? thread : process->leader_thread;
    if (thread != NULL && thread->trace.tracer != NULL)
        id = thread->trace.tracer->id;
    process_tree_unlock();
    return id;
}

void
trace_continued(struct thread *thread)
{
    struct tracing *trace = &thread->trace;

    if (trace->tracer == NULL || !trace->seized)
        return;
    trace->interrupted = true;
    if (trace->stopped && trace->listening)
        trace_resume(thread, 0);
}

/* ---- ends: tree --------------------------------------------------------------------- */

void
trace_thread_gone(struct thread *thread, int status)
{
    struct process *process = thread->process;
    struct tracing *trace = &thread->trace;
    bool leader = process->leader_thread == thread;

    if (trace->tracer == NULL)
        return;
    if (leader && trace->tracer == process->parent) {
        trace_unlink(thread, 0); /* the parent learns of the process's end */
        return;
    }
    trace->ended = true;
    trace->stopped = false;
    trace->exit_status = status;
    trace->pid = thread->pid;
    trace->pid->refs++;
    thread_ref(thread);
    if (leader)
        process->traced_end = thread;
    else
        trace_notify(thread, status & 0x7f ? CLD_KILLED : CLD_EXITED,
                     status & 0x7f ? status & 0x7f : status >> 8);
}

void
trace_forget(struct thread *thread)
{
    struct tracing *trace = &thread->trace;

    qr_assert(trace->ended);
    qr_list_remove(&trace->link);
    trace->tracer = NULL;
    if (thread->process->traced_end == thread)
        thread->process->traced_end = NULL;
    pid_put(trace->pid);
    trace->pid = NULL;
}

void
trace_forget_leader(struct process *process)
{
    struct thread *leader = process->traced_end;

    if (leader == NULL)
        return;
    trace_forget(leader);
    thread_put(leader);
}

/* One whose tracer ends. */
static void
trace_abandon(struct thread *thread, struct qr_list *out_dead)
{
    struct process *process = thread->process;

    if (!thread->trace.ended) {
        bool kill = (thread->trace.options & TRACE_EXITKILL) != 0;

        trace_unlink(thread, 0);
        if (kill)
            (void)signal_send_process_locked(process, SIGKILL, NULL);
        return;
    }
    bool leader = process->traced_end == thread;

    trace_forget(thread);
    if (leader && process->state == PROCESS_ZOMBIE && process_announce_again(process)) {
        process_remove(process);
        qr_list_push_back(out_dead, &process->all_link);
    }
    thread_put(thread);
}

void
trace_tracer_gone(struct process *tracer, struct qr_list *out_dead)
{
    qr_list_for_each_safe(link, &tracer->traced)
        trace_abandon(qr_list_entry(link, struct thread, trace.link), out_dead);
}
