/* SPDX-License-Identifier: MIT */
/*
 * The end of threads and processes, and the parents that wait for it.
 *
 * A thread gives everything back in its own context: robust futexes, its clear
 * address, files, directories and, as the last of its process, the memory.
 * Then, under the tree lock, it leaves the process; the last one turns the
 * process into a zombie, hands its children to a reaper and tells the parent.
 * Its stack is freed by the thread that runs next on the CPU.
 *
 * A wait looks at all children under the tree lock, and takes what it reports
 * (a zombie, a stop) in the same section, so two waiters never get the same.
 */
#include "proc_private.h"

#include <quire/assert.h>
#include <quire/space.h>

#include "abi_errno.h"
#include "cgroup.h"
#include "core.h"
#include "file.h"
#include "kstring.h"
#include "oom.h"
#include "printk.h"
#include "refuse.h"
#include "sched_private.h"
#include "shm.h"
#include "syscall.h"
#include "tty.h"
#include "vfs.h"

#define WNOHANG    1u
#define WUNTRACED  2u
#define WSTOPPED   2u
#define WEXITED    4u
#define WCONTINUED 8u
#define WNOWAIT    0x01000000u
#define WNOTHREAD  0x20000000u
#define WALL       0x40000000u
#define WCLONE     0x80000000u

enum { P_ALL, P_PID, P_PGID, P_PIDFD };

/* ---- giving back ------------------------------------------------------------ */

/* Has somebody else this memory, too: a thread, or another process? */
static bool
memory_is_shared(const struct thread *thread)
{
    struct process *process = thread->process;
    bool shared;

    process_tree_lock();
    shared =
        process->live_threads > 1 || (process->mm != NULL && atomic_load(&process->mm->users) > 1);
    process_tree_unlock();
    return shared;
}

/*
 * What user space asked to be told at the end of a thread or at exec. Memory still there.  Where there is
 * nobody to tell, what lies there (in memory that is shared otherwise, perhaps) stays as it is.
 */
void
thread_release_memory(struct thread *thread)
{
    if (thread->robust_list != 0)
        futex_exit_robust_list(thread);
    thread->robust_list = 0;
    if (thread->clear_tid != 0 && memory_is_shared(thread)) {
        (void)user_write_u32(thread->clear_tid, 0);
        futex_wake_address(thread->clear_tid, 1);
    }
    thread->clear_tid = 0;
    thread->rseq = 0;
}

static void
thread_leave_memory(struct thread *thread)
{
    uintptr_t flags = irq_save();

    thread->space = NULL;
    qr_space_switch(NULL);
    irq_restore(flags);
}

static void
thread_leave_files(struct thread *thread)
{
    struct fd_table *files;
    struct fs_context *fs;

    process_tree_lock();
    files = thread->files;
    fs = thread->fs;
    thread->files = NULL;
    thread->fs = NULL;
    process_tree_unlock();
    if (files != NULL)
        fd_table_put(files);
    if (fs != NULL)
        fs_context_put(fs);
}

/*
 * Count this thread out. @return whether it was the last to get here, so that
 * exactly one tears the memory down, before the process shows as a zombie.
 */
static bool
process_count_out(struct process *process, int status)
{
    bool last;

    process_tree_lock();
    last = --process->live_threads == 0;
    if (last) {
        qr_spin_lock(&process->signal_lock);
        if (!process->group_exit) {
            process->group_exit = true;
            process->exit_status = status;
        }
        qr_spin_unlock(&process->signal_lock);
    }
    process_tree_unlock();
    return last;
}

static void
process_leave_memory(struct process *process)
{
    bool clear = false;
    struct mm *mm;

    process_tree_lock();
    mm = process->mm;
    process->mm = NULL;
    if (mm != NULL) {
        struct usage peak = {.peak_pages = qr_space_peak_pages(mm->space)};

        usage_add(&process->used, &peak);
        clear = oom_was_last(process, mm);
    }
    process_tree_unlock();
    if (mm != NULL) {
        if (clear)
            qr_space_clear(mm->space);
        mm_put(mm);
        oom_memory_gone(process);
    }
    shm_process_ended(process->id);
    cgroup_leave(process);
}

/* ---- leaving the tree: all under the tree lock ----------------------------------- */

/* Who inherits the children: the nearest living subreaper, else init. */
static struct process *
find_reaper(struct process *process)
{
    struct process *ancestor = process->parent;

    for (unsigned steps = 0; ancestor != NULL && steps < PID_LIMIT; steps++) {
        if (ancestor->state == PROCESS_ALIVE && (atomic_load(&ancestor->flags) & PROCESS_SUBREAPER))
            return ancestor;
        ancestor = ancestor->parent;
    }
    return process_init_process();
}

/* A stopped group that nobody can continue any more is told so. */
static void
orphan_group_if_stopped(struct pid *group, struct process *leaving)
{
    bool stopped = false;

    if (!process_group_would_be_orphaned(group, leaving))
        return;
    qr_list_for_each(link, &group->group)
    {
        struct process *member = qr_list_entry(link, struct process, group_link);

        stopped = stopped || (member != leaving && member->group_stop);
    }
    if (!stopped)
        return;
    qr_list_for_each(link, &group->group)
    {
        struct process *member = qr_list_entry(link, struct process, group_link);

        if (member == leaving || member->state != PROCESS_ALIVE)
            continue;
        (void)signal_send_process_locked(member, SIGHUP, NULL);
        (void)signal_send_process_locked(member, SIGCONT, NULL);
    }
}

static bool
parent_ignores_children(struct process *parent)
{
    const struct signal_action *action = &parent->actions->action[SIGCHLD - 1];

    return action->handler == SIG_IGN || (action->flags & SA_NOCLDWAIT);
}

/* Tell the parent what happened to @process. */
void
process_notify_parent(struct process *process, int code, int status)
{
    struct process *parent = process->parent;
    struct signal_info info = {.number = SIGCHLD, .code = code};
    struct usage used;
    bool stop = code == CLD_STOPPED || code == CLD_CONTINUED;

    if (parent == NULL || parent->state != PROCESS_ALIVE)
        return;
    process_usage(process, &used);
    info.child.pid = process->id;
    info.child.uid = process->credentials.uid;
    info.child.status = status;
    info.child.user_ticks = (int64_t)(used.user_ns / 10000000);
    info.child.system_ticks = (int64_t)(used.system_ns / 10000000);
    if (stop) {
        if (!(parent->actions->action[SIGCHLD - 1].flags & SA_NOCLDSTOP))
            (void)signal_send_process_locked(parent, SIGCHLD, &info);
    } else if (process->exit_signal != 0) {
        info.number = process->exit_signal;
        (void)signal_send_process_locked(parent, process->exit_signal, &info);
    }
    wait_wake_all(&parent->child_wait);
}

static int
exit_code_of(int status)
{
    if ((status & 0x7f) == 0)
        return CLD_EXITED;
    return status & 0x80 ? CLD_DUMPED : CLD_KILLED;
}

/* What si_status says of an end. */
static int
status_of_child(int status)
{
    return status & 0x7f ? status & 0x7f : (status >> 8) & 0xff;
}

/*
 * Announce a zombie. @return whether it reaps itself, because its parent does
 * not want to know.
 */
static bool
zombie_announce(struct process *process)
{
    int status = process->exit_status;
    struct process *parent = process->parent;
    bool ignored =
        parent == NULL || (process->exit_signal == SIGCHLD && parent_ignores_children(parent));

    process->state = PROCESS_ZOMBIE;
    wait_wake_all(&process->end_wait);
    if (process->traced_end != NULL) { /* its tracer first; see process_announce_again() */
        trace_notify(process->traced_end, exit_code_of(status), status_of_child(status));
        return false;
    }
    process_notify_parent(process, exit_code_of(status), status_of_child(status));
    return ignored;
}

bool
process_announce_again(struct process *process)
{
    return zombie_announce(process);
}

static void
children_give_away(struct process *process, struct qr_list *out_dead)
{
    struct process *reaper = find_reaper(process);

    qr_list_for_each_safe(link, &process->children)
    {
        struct process *child = qr_list_entry(link, struct process, sibling_link);
        struct process *heir = reaper == process ? NULL : reaper;

        qr_list_remove(&child->sibling_link);
        process_set_parent(child, heir);
        child->exit_signal = SIGCHLD;
        if (child->leader_thread != NULL && child->leader_thread->parent_death_signal != 0)
            (void)signal_send_process_locked(child, child->leader_thread->parent_death_signal,
                                             NULL);
        if (child->state == PROCESS_ZOMBIE) {
            if (zombie_announce(child)) {
                process_remove(child);
                qr_list_push_back(out_dead, &child->all_link);
            }
        } else if (child->group != process->group && child->session == process->session) {
            orphan_group_if_stopped(child->group, NULL);
        }
    }
}

/* The last thread has left. @return whether nobody waits for the zombie */
static bool
process_become_zombie(struct process *process, struct qr_list *out_dead)
{
    struct process *parent = process->parent;

    /* Only a parent in another group of the session kept the group from being orphaned. */
    if (parent != NULL && parent->group != process->group && parent->session == process->session)
        orphan_group_if_stopped(process->group, process);
    trace_tracer_gone(process, out_dead);
    children_give_away(process, out_dead);
    if (process->parent == NULL) {
        process->state = PROCESS_ZOMBIE;
        wait_wake_all(&process->end_wait);
        return true;
    }
    return zombie_announce(process);
}

static void
put_dead(struct qr_list *dead)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(dead)) != NULL)
        process_put(qr_list_entry(link, struct process, all_link));
}

static void
process_detach_thread(struct process *process, struct thread *thread, int status)
{
    struct usage used;
    struct qr_list dead;
    bool reap = false;

    qr_list_init(&dead);
    process_tree_lock();
    thread_usage(thread, &used);
    usage_add(&process->used, &used);
    trace_thread_gone(thread, status);
    qr_list_remove(&thread->thread_link);
    process->thread_count--;
    thread->pid->thread = NULL;
    if (process->leader_thread == thread)
        process->leader_thread = NULL;
    pid_put(thread->pid);
    thread->pid = NULL;
    wait_wake_all(&process->exec_wait);
    if (process->thread_count == 0) {
        reap = process_become_zombie(process, &dead);
        if (reap) {
            process_remove(process);
            qr_list_push_back(&dead, &process->all_link);
        }
    }
    process_tree_unlock();
    put_dead(&dead);
}

/* Init has ended: so does the machine, with its status. */
static _Noreturn void
machine_end(int status)
{
    int code = (status & 0x7f) != 0 ? 128 + (status & 0x7f) : (status >> 8) & 0xff;

    process_shutdown(code);
}

_Noreturn void
thread_exit(int status)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;
    bool last;

    qr_assert(process != NULL && !thread->exiting);
    core_pass(thread);
    refuse_forget(thread);
    thread_release_memory(thread);
    vfork_release(thread);
    thread_leave_memory(thread); /* before it is counted out: the last one ends the space */
    last = process_count_out(process, status);
    if (last)
        process_leave_memory(process);
    thread_leave_files(thread);
    if (last) {
        process_timers_destroy(process);
        if (process_is_session_leader(process))
            tty_session_end(process->id);
    }
    signal_thread_gone(thread);
    if (last && process == process_init_process())
        machine_end(process->exit_status);
    process_detach_thread(process, thread, process->group_exit ? process->exit_status : status);
    irq_disable();
    atomic_store(&thread->state, THREAD_DEAD);
    sched_switch();
    panic("thread %d came back from the dead\n", thread->tid);
}

_Noreturn void
process_exit_group(int status)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;

    if (!process->group_exit)
        trace_exit(thread, status);
    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    if (!process->group_exit && (process->core_thread == NULL || process->core_thread == thread)) {
        process->group_exit = true;
        process->exit_status = status;
        qr_list_for_each(link, &process->threads)
            signal_wake(qr_list_entry(link, struct thread, thread_link), true);
    }
    core_end(thread);
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
    thread_exit(status);
}

int64_t
sys_exit(const struct syscall_args *args)
{
    int status = (int)(args->arg[0] & 0xff) << 8;

    trace_exit(thread_current(), status);
    thread_exit(status);
}

int64_t
sys_exit_group(const struct syscall_args *args)
{
    process_exit_group((int)(args->arg[0] & 0xff) << 8);
}

/* ---- waiting ------------------------------------------------------------------------ */

struct wait_request {
    int kind; /* P_ALL, P_PID, P_PGID */
    int32_t id;
    uint32_t options;
    bool nonblocking; /* by a descriptor's flag */
};

struct wait_result {
    int32_t pid;
    uint32_t uid;
    int code;   /* CLD_* */
    int status; /* as wait4() reports it */
    struct usage used;
};

static bool
child_matches(const struct process *child, const struct wait_request *request)
{
    if (request->kind == P_PID && child->id != request->id)
        return false;
    if (request->kind == P_PGID && (child->group == NULL || child->group->number != request->id))
        return false;
    if (request->options & WALL)
        return true;
    return (child->exit_signal != SIGCHLD) == ((request->options & WCLONE) != 0);
}

static void
result_fill(struct wait_result *result, struct process *child, int code, int status)
{
    result->pid = child->id;
    result->uid = child->credentials.uid;
    result->code = code;
    result->status = status;
    process_usage(child, &result->used);
    usage_add(&result->used, &child->children_used);
}

/* Take the zombie @child, unless it is only looked at. Tree. */
static bool
reap(struct process *parent, struct process *child, uint32_t options)
{
    struct usage used;

    if (options & WNOWAIT)
        return false;
    process_usage(child, &used);
    usage_add(&parent->children_used, &used);
    usage_add(&parent->children_used, &child->children_used);
    process_remove(child);
    return true;
}

/* Stops of a child that one traces are reported as the tracer is told. */
static bool
is_traced_by(const struct process *child, const struct process *parent)
{
    return child->leader_thread != NULL && child->leader_thread->trace.tracer == parent;
}

static bool
tracee_matches(const struct thread *thread, const struct wait_request *request)
{
    const struct process *process = thread->process;

    if (request->kind == P_PID)
        return thread->tid == request->id;
    return request->kind != P_PGID ||
           (process->group != NULL && process->group->number == request->id);
}

/* The end of a thread, or of a process that is not our child. Tree. */
static bool
tracee_end_report(struct thread *thread, const struct wait_request *request,
                  struct wait_result *result, struct qr_list *out_dead)
{
    struct process *process = thread->process;
    bool leader = process->traced_end == thread;
    int status = leader ? process->exit_status : thread->trace.exit_status;

    if (!(request->options & WEXITED) || (leader && process->state != PROCESS_ZOMBIE))
        return false;
    result_fill(result, process, exit_code_of(status), status);
    result->pid = thread->tid;
    if (request->options & WNOWAIT)
        return true;
    trace_forget(thread);
    if (leader && zombie_announce(process)) {
        process_remove(process);
        qr_list_push_back(out_dead, &process->all_link);
    }
    thread_put(thread);
    return true;
}

/* Does @thread, which we trace, have something to report? Tree. */
static bool
tracee_report(struct thread *thread, const struct wait_request *request, struct wait_result *result,
              struct qr_list *out_dead)
{
    if (thread->trace.ended)
        return tracee_end_report(thread, request, result, out_dead);
    if (thread->trace.report == 0)
        return false;
    result_fill(result, thread->process, CLD_TRAPPED, thread->trace.report);
    result->pid = thread->tid;
    if (!(request->options & WNOWAIT))
        thread->trace.report = 0;
    return true;
}

/* @return as wait_scan() */
static int64_t
wait_scan_traced(struct process *tracer, const struct wait_request *request,
                 struct wait_result *result, struct qr_list *out_dead)
{
    int64_t answer = -ECHILD;

    qr_list_for_each_safe(link, &tracer->traced)
    {
        struct thread *thread = qr_list_entry(link, struct thread, trace.link);

        if (!tracee_matches(thread, request))
            continue;
        answer = 0;
        if (tracee_report(thread, request, result, out_dead))
            return 1;
    }
    return answer;
}

/* Does @child have something to report? Tree. @out_reaped: to be put after unlocking. */
static bool
child_report(struct process *parent, struct process *child, const struct wait_request *request,
             struct wait_result *result, struct process **out_reaped)
{
    uint32_t options = request->options;

    if (child->state == PROCESS_ZOMBIE) {
        if (!(options & WEXITED) || child->traced_end != NULL)
            return false;
        result_fill(result, child, exit_code_of(child->exit_status), child->exit_status);
        if (reap(parent, child, options))
            *out_reaped = child;
        return true;
    }
    if (child->stop_report == CLD_STOPPED && (options & WSTOPPED) && !is_traced_by(child, parent)) {
        result_fill(result, child, CLD_STOPPED, child->stop_signal << 8 | 0x7f);
    } else if (child->stop_report == CLD_CONTINUED && (options & WCONTINUED)) {
        result_fill(result, child, CLD_CONTINUED, 0xffff);
    } else {
        return false;
    }
    if (!(options & WNOWAIT))
        child->stop_report = 0;
    return true;
}

/* @return 1: @result filled; 0: children, but nothing to report; -ECHILD */
static int64_t
wait_scan(struct process *parent, const struct wait_request *request, struct wait_result *result)
{
    struct process *reaped = NULL;
    int64_t answer = -ECHILD;
    struct qr_list dead;

    qr_list_init(&dead);
    process_tree_lock();
    qr_list_for_each(link, &parent->children)
    {
        struct process *child = qr_list_entry(link, struct process, sibling_link);

        if (!child_matches(child, request))
            continue;
        answer = 0;
        if (child_report(parent, child, request, result, &reaped)) {
            answer = 1;
            break;
        }
    }
    if (answer != 1) {
        int64_t traced = wait_scan_traced(parent, request, result, &dead);

        answer = traced != -ECHILD ? traced : answer;
    }
    process_tree_unlock();
    put_dead(&dead);
    if (reaped != NULL)
        process_put(reaped);
    return answer;
}

/* @return as wait_scan(), or -ERESTARTSYS */
static int64_t
wait_run(const struct wait_request *request, struct wait_result *result)
{
    struct process *parent = process_current();
    int64_t interrupted, answer = wait_scan(parent, request, result);

    if (answer != 0 || (request->options & WNOHANG))
        return answer;
    WAIT_EVENT(interrupted, &parent->child_wait,
               (answer = wait_scan(parent, request, result)) != 0);
    return answer != 0 ? answer : interrupted;
}

struct rusage_user {
    int64_t user_seconds, user_us, system_seconds, system_us;
    int64_t max_rss, ixrss, idrss, isrss, minor, major, swaps, in_blocks, out_blocks;
    int64_t sent, received, signals, voluntary, involuntary;
};

int64_t
usage_to_user(uint64_t address, const struct usage *used)
{
    struct rusage_user user = {
        .user_seconds = (int64_t)(used->user_ns / 1000000000),
        .user_us = (int64_t)(used->user_ns % 1000000000 / 1000),
        .system_seconds = (int64_t)(used->system_ns / 1000000000),
        .system_us = (int64_t)(used->system_ns % 1000000000 / 1000),
        .max_rss = (int64_t)(used->peak_pages * (QR_PAGE_SIZE / 1024)),
        .minor = (int64_t)used->minor_faults,
        .major = (int64_t)used->major_faults,
        .in_blocks = (int64_t)(used->io.read_bytes / 512),
        .out_blocks = (int64_t)(used->io.written_bytes / 512),
        .voluntary = (int64_t)used->voluntary_switches,
        .involuntary = (int64_t)used->involuntary_switches,
    };

    return user_write(address, &user, sizeof(user));
}

int64_t
sys_wait4(const struct syscall_args *args)
{
    int32_t id = (int32_t)args->arg[0];
    uint32_t options = (uint32_t)args->arg[2];
    struct wait_request request = {.options = options | WEXITED};
    struct wait_result result;

    if (options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WALL | WCLONE))
        return -EINVAL;
    if (id == INT32_MIN)
        return -ESRCH;
    if (id > 0) {
        request.kind = P_PID;
        request.id = id;
    } else if (id < -1) {
        request.kind = P_PGID;
        request.id = -id;
    } else if (id == 0) {
        request.kind = P_PGID;
        request.id = process_group_id(process_current());
    }

    int64_t answer = wait_run(&request, &result);

    if (answer <= 0)
        return answer;
    if (args->arg[1] != 0 && user_write_u32(args->arg[1], (uint32_t)result.status) != 0)
        return -EFAULT;
    if (args->arg[3] != 0 && usage_to_user(args->arg[3], &result.used) != 0)
        return -EFAULT;
    return result.pid;
}

static int
waitid_status(const struct wait_result *result)
{
    switch (result->code) {
    case CLD_EXITED:
    case CLD_STOPPED:
    case CLD_TRAPPED:
        return (result->status >> 8) & 0xff;
    case CLD_CONTINUED:
        return SIGCONT;
    default:
        return result->status & 0x7f;
    }
}

/* A descriptor names the child; one that does not block asks instead of waiting. */
static int64_t
wait_request_pidfd(struct wait_request *request)
{
    struct process *process;
    uint32_t flags;
    int64_t error;

    if (request->id < 0)
        return -EINVAL;
    error = pidfd_process(request->id, &process, &flags);
    if (error != 0)
        return error;
    request->kind = P_PID;
    request->id = process->id;
    request->nonblocking = (flags & O_NONBLOCK) != 0 && !(request->options & WNOHANG);
    if (request->nonblocking)
        request->options |= WNOHANG;
    process_put(process);
    return 0;
}

int64_t
sys_waitid(const struct syscall_args *args)
{
    struct wait_request request = {
        .kind = (int)args->arg[0], .id = (int32_t)args->arg[1], .options = (uint32_t)args->arg[3]};
    struct wait_result result = {0};
    struct signal_info info = {0};

    if (request.options &
        ~(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | WNOTHREAD | WALL | WCLONE))
        return -EINVAL;
    if (!(request.options & (WEXITED | WSTOPPED | WCONTINUED)))
        return -EINVAL;
    if (request.kind == P_PIDFD) {
        int64_t error = wait_request_pidfd(&request);

        if (error != 0)
            return error;
    }
    if (request.kind < P_ALL || request.kind > P_PGID)
        return -EINVAL;
    if (request.kind == P_PID && request.id <= 0)
        return -EINVAL;
    if (request.kind == P_PGID && request.id < 0)
        return -EINVAL;
    if (request.kind == P_PGID && request.id == 0)
        request.id = process_group_id(process_current());

    int64_t answer = wait_run(&request, &result);

    if (answer < 0)
        return answer;
    if (answer == 0 && request.nonblocking)
        return -EAGAIN;
    if (answer > 0) {
        info.number = SIGCHLD;
        info.code = result.code;
        info.child.pid = result.pid;
        info.child.uid = result.uid;
        info.child.status = waitid_status(&result);
        if (args->arg[4] != 0 && usage_to_user(args->arg[4], &result.used) != 0)
            return -EFAULT;
    }
    /* Linux writes these fields only, one by one; the rest of the caller's structure stays. */
    if (args->arg[2] != 0 && user_write(args->arg[2], &info, 28) != 0)
        return -EFAULT;
    return 0;
}
