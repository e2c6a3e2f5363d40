/* SPDX-License-Identifier: MIT */
/*
 * Making threads: kernel threads, idle threads, and fork, vfork, clone, clone3.
 *
 * A clone first prepares everything that can fail (memory, tables, a number),
 * then enters the new thread into the tree, which cannot fail, and starts it.
 * Whatever was prepared is undone by one function, whichever step failed.
 */
#include "proc_private.h"

#include <quire/assert.h>
#include <quire/policy.h>
#include <quire/space.h>

#include "abi_errno.h"
#include "arch_abi.h"
#include "cgroup.h"
#include "kstring.h"
#include "printk.h"
#include "sched_private.h"
#include "syscall.h"
#include "vfs.h"

#define CSIGNAL              0xffu
#define CLONE_VM             0x100u
#define CLONE_FS             0x200u
#define CLONE_FILES          0x400u
#define CLONE_SIGHAND        0x800u
#define CLONE_PIDFD          0x1000u
#define CLONE_VFORK          0x4000u
#define CLONE_PARENT         0x8000u
#define CLONE_THREAD         0x10000u
#define CLONE_SYSVSEM        0x40000u
#define CLONE_SETTLS         0x80000u
#define CLONE_PARENT_SETTID  0x100000u
#define CLONE_CHILD_CLEARTID 0x200000u
#define CLONE_DETACHED       0x400000u
#define CLONE_CHILD_SETTID   0x1000000u
#define CLONE_NEWNS          0x20000u /* namespaces: none here */
#define CLONE_NEWUSER        0x10000000u
#define CLONE_NEWPID         0x20000000u
#define CLONE_NEW_PRIVILEGED 0x6e020080u /* all of them but NEWUSER */
#define CLONE_CLEAR_SIGHAND  0x100000000u
#define CLONE_INTO_CGROUP    0x200000000u
#define CLONE_ALL            0x3ffffffffu

enum { CAP_SYS_ADMIN = 21, CAP_CHECKPOINT_RESTORE = 40 };

atomic_uint thread_total;
static _Atomic uint64_t fork_total;

struct clone_request {
    uint64_t flags;
    int exit_signal;
    uint64_t stack; /* 0: the parent's */
    uint64_t parent_tid, child_tid;
    uint64_t tls;
    uint64_t pidfd;        /* where CLONE_PIDFD's goes */
    int32_t set_tid;       /* the number that the child is to have; 0: any */
    struct cgroup *cgroup; /* for the child; NULL: the parent's */
};

/* What a clone has prepared so far; NULL for what it shares or has not reached. */
struct clone_parts {
    struct thread *thread;
    struct process *process; /* the new one; NULL with CLONE_THREAD */
    struct pid *pid;
    struct mm *mm;
    struct signal_actions *actions;
    int pidfd;   /* with CLONE_PIDFD; -1: none yet */
    bool settle; /* its memory is charged to another group than the one it entered */
    int event;   /* that our tracer is told of; 0: none */
};

/* ---- the structure --------------------------------------------------------- */

static bool
stack_create(struct thread *thread)
{
    if (!kmem_charge(QR_GROUP_STACK, KERNEL_STACK_BYTES, &thread->stack_charge))
        return false;
    if (arch_thread_create(&thread->arch))
        return true;
    kmem_uncharge(&thread->stack_charge);
    return false;
}

struct thread *
thread_alloc(void)
{
    if (atomic_fetch_add(&thread_total, 1) >= THREADS_LIMIT) {
        atomic_fetch_sub(&thread_total, 1);
        return NULL;
    }
    struct thread *thread = kmem_charged_zalloc(sizeof(*thread));

    if (thread != NULL && !stack_create(thread)) {
        kmem_charged_free(thread);
        thread = NULL;
    }
    if (thread == NULL) {
        atomic_fetch_sub(&thread_total, 1);
        return NULL;
    }
    atomic_store(&thread->refs, 1);
    atomic_store(&thread->state, THREAD_UNINTERRUPTIBLE);
    qr_list_init(&thread->queue_link);
    qr_list_init(&thread->thread_link);
    qr_list_init(&thread->trace.link);
    signal_pending_init(&thread->pending);
    thread->altstack.flags = SS_DISABLE;
    thread->timer_slack_ns = 50000;
    thread->start_ns = clock_monotonic_ns();
    for (unsigned cpu = 0; cpu < CONFIG_MAX_CPUS; cpu += 64)
        atomic_store(&thread->affinity.bits[cpu / 64], UINT64_MAX);
    return thread;
}

void
thread_ref(struct thread *thread)
{
    atomic_fetch_add_explicit(&thread->refs, 1, memory_order_relaxed);
}

void
thread_put(struct thread *thread)
{
    if (atomic_fetch_sub_explicit(&thread->refs, 1, memory_order_acq_rel) != 1)
        return;
    qr_assert(thread->files == NULL && thread->fs == NULL);
    arch_thread_destroy(&thread->arch);
    kmem_uncharge(&thread->stack_charge);
    if (thread->process != NULL)
        process_put(thread->process);
    if (thread->kernel_entry == NULL)
        atomic_fetch_sub(&thread_total, 1);
    qr_mempolicy_put(thread->memory_policy);
    kmem_charged_free(thread);
}

void
thread_init_idle(struct thread *thread, const char *name)
{
    atomic_store(&thread->refs, 1);
    qr_list_init(&thread->queue_link);
    qr_list_init(&thread->thread_link);
    signal_pending_init(&thread->pending);
    strlcpy(thread->name, name, COMM_BYTES);
}

static void
kernel_thread_main(void *argument)
{
    struct thread *thread = argument;

    irq_enable();
    thread->kernel_entry(thread->kernel_argument);
    irq_disable();
    atomic_store(&thread->state, THREAD_DEAD);
    sched_switch();
    panic("a kernel thread came back from the dead\n");
}

struct thread *
kernel_thread_start(const char *name, void (*entry)(void *), void *argument)
{
    struct thread *thread = thread_alloc();

    if (thread == NULL)
        return NULL;
    atomic_fetch_sub(&thread_total, 1); /* the kernel's own are nobody's to count or to end */
    strlcpy(thread->name, name, COMM_BYTES);
    thread->kernel_entry = entry;
    thread->kernel_argument = argument;
    arch_thread_init_kernel(&thread->arch, kernel_thread_main, thread);
    sched_start(thread);
    return thread;
}

/* Enter @thread into @process with number @pid, whose reference it takes over. */
void
thread_add(struct thread *thread, struct process *process, struct pid *pid)
{
    thread->process = process;
    process_ref(process);
    thread->pid = pid;
    thread->tid = pid->number;
    pid->thread = thread;
    qr_list_push_back(&process->threads, &thread->thread_link);
    process->thread_count++;
    process->live_threads++;
}

uint64_t
process_fork_count(void)
{
    return atomic_load(&fork_total);
}

/* ---- clone: preparing --------------------------------------------------------- */

static void
clone_discard(struct clone_parts *parts)
{
    if (parts->pidfd >= 0)
        (void)fd_close(parts->pidfd);
    if (parts->pid != NULL) {
        process_tree_lock();
        pid_put(parts->pid);
        process_tree_unlock();
    }
    if (parts->mm != NULL)
        mm_put(parts->mm);
    if (parts->actions != NULL)
        signal_actions_put(parts->actions);
    if (parts->thread != NULL) {
        if (parts->thread->files != NULL)
            fd_table_put(parts->thread->files);
        if (parts->thread->fs != NULL)
            fs_context_put(parts->thread->fs);
        parts->thread->files = NULL;
        parts->thread->fs = NULL;
        thread_put(parts->thread);
    }
    if (parts->process != NULL)
        process_put(parts->process);
}

static int64_t
clone_check(const struct clone_request *request)
{
    uint64_t flags = request->flags;
    struct process *self = process_current();

    if ((flags & CLONE_FS) && (flags & (CLONE_NEWNS | CLONE_NEWUSER)))
        return -EINVAL;
    if ((flags & CLONE_PIDFD) && (flags & (CLONE_DETACHED | CLONE_THREAD)))
        return -EINVAL;
    if ((flags & CLONE_PIDFD) && (flags & CLONE_PARENT_SETTID) &&
        request->pidfd == request->parent_tid)
        return -EINVAL; /* one place for two numbers */
    if ((flags & CLONE_SIGHAND) && !(flags & CLONE_VM))
        return -EINVAL;
    if ((flags & CLONE_THREAD) && !(flags & CLONE_SIGHAND))
        return -EINVAL;
    if ((flags & CLONE_CLEAR_SIGHAND) && (flags & CLONE_SIGHAND))
        return -EINVAL;
    if ((flags & CLONE_PARENT) && self->parent == NULL)
        return -EINVAL;
    if ((flags & CLONE_THREAD) && (flags & (CLONE_NEWUSER | CLONE_NEWPID)))
        return -EINVAL;
    if (request->exit_signal < 0 || request->exit_signal > SIGRTMAX)
        return -EINVAL;
    if (flags & CLONE_NEWUSER)
        return -EINVAL;
    if (flags & CLONE_NEW_PRIVILEGED)
        return process_has_capability(CAP_SYS_ADMIN) ? -EINVAL : -EPERM;
    return 0;
}

enum { CAP_SYS_RESOURCE = 24 };

static bool
too_many_processes(const struct process *process)
{
    uint64_t limit = process->limits[RLIMIT_NPROC].soft;

    if (process->credentials.uid == 0 || limit == RLIM_INFINITY ||
        process_has_capability(CAP_SYS_ADMIN) || process_has_capability(CAP_SYS_RESOURCE))
        return false;
    return process_user_threads(process->credentials.uid) >= limit;
}

static bool
clone_files(struct thread *child, const struct thread *self, uint64_t flags)
{
    if (flags & CLONE_FILES) {
        fd_table_ref(self->files);
        child->files = self->files;
    } else {
        child->files = fd_table_clone(self->files);
    }
    if (flags & CLONE_FS) {
        fs_context_ref(self->fs);
        child->fs = self->fs;
    } else {
        child->fs = fs_context_clone(self->fs);
    }
    return child->files != NULL && child->fs != NULL;
}

static int64_t
clone_memory(struct clone_parts *parts, struct process *self, uint64_t flags)
{
    if (flags & CLONE_VM) {
        mm_ref(self->mm);
        parts->mm = self->mm;
        return 0;
    }
    return mm_fork(self->mm, &parts->mm);
}

static bool
clone_actions(struct clone_parts *parts, struct process *self, uint64_t flags)
{
    if (flags & CLONE_SIGHAND) {
        atomic_fetch_add(&self->actions->refs, 1);
        parts->actions = self->actions;
    } else {
        parts->actions = signal_actions_create(self->actions);
        if (parts->actions != NULL && (flags & CLONE_CLEAR_SIGHAND))
            signal_actions_reset(parts->actions);
    }
    return parts->actions != NULL;
}

/* The fields that a new thread takes from the one that makes it. */
static void
clone_thread_fields(struct thread *child, const struct thread *self,
                    const struct clone_request *request)
{
    memcpy(child->name, self->name, COMM_BYTES);
    child->nice = self->nice;
    child->policy = self->policy;
    child->priority = self->priority;
    child->affinity = self->affinity;
    child->blocked = self->blocked;
    child->timer_slack_ns = self->timer_slack_ns;
    qr_mempolicy_get(self->memory_policy);
    child->memory_policy = self->memory_policy;
    if (!(request->flags & CLONE_VM) || (request->flags & CLONE_VFORK))
        child->altstack = self->altstack;
    if (!(request->flags & CLONE_VM)) {
        child->rseq = self->rseq;
        child->rseq_signature = self->rseq_signature;
    }
    if (request->flags & CLONE_CHILD_CLEARTID)
        child->clear_tid = request->child_tid;
    if (request->flags & CLONE_CHILD_SETTID) {
        child->set_tid = request->child_tid;
        atomic_fetch_or(&child->arch.work, WORK_SET_TID);
    }
    if (child->rseq != 0)
        atomic_fetch_or(&child->arch.work, WORK_RSEQ);
}

static void
clone_frame(struct thread *child, struct thread *self, const struct clone_request *request)
{
    struct trap_frame frame = *arch_user_frame(&self->arch);

    frame_set_result(&frame, 0);
    if (request->stack != 0)
        frame_set_sp(&frame, request->stack);
    arch_thread_init_user(&child->arch, &frame);
    arch_thread_fork(&child->arch);
    if (request->flags & CLONE_SETTLS)
        arch_thread_set_tls(&child->arch, request->tls);
    if (self->trace.stepping)
        (void)arch_trace_step(&child->arch, false);
}

/* After the child's table was made: the descriptor is the parent's alone. */
static int64_t
clone_pidfd(struct clone_parts *parts, const struct clone_request *request)
{
    process_ref(parts->process);
    int64_t fd = pidfd_make(parts->process, 0);

    if (fd < 0)
        return fd;
    parts->pidfd = (int)fd;
    return user_write_u32(request->pidfd, (uint32_t)fd);
}

static int64_t
clone_prepare(struct clone_parts *parts, struct thread *self, const struct clone_request *request)
{
    struct process *process = self->process;
    int64_t error;

    if (too_many_processes(process))
        return -EAGAIN;
    parts->thread = thread_alloc();
    if (parts->thread == NULL)
        return thread_count() >= THREADS_LIMIT ? -EAGAIN : -ENOMEM;
    if (!clone_files(parts->thread, self, request->flags))
        return -ENOMEM;
    if (!(request->flags & CLONE_THREAD)) {
        parts->process = process_alloc();
        if (parts->process == NULL || !clone_actions(parts, process, request->flags))
            return -ENOMEM;
        error = clone_memory(parts, process, request->flags);
        if (error != 0)
            return error;
    }
    error = pid_create(request->set_tid, &parts->pid);
    if (error == 0 && (request->flags & CLONE_PIDFD))
        error = clone_pidfd(parts, request);
    if (error != 0)
        return error;
    clone_thread_fields(parts->thread, self, request);
    clone_frame(parts->thread, self, request);
    return 0;
}

/* ---- clone: entering the tree ------------------------------------------------------ */

static void
clone_process_fields(struct process *child, struct process *self, struct clone_parts *parts,
                     const struct clone_request *request)
{
    uint32_t kept = PROCESS_NO_NEW_PRIVS;

    child->id = parts->pid->number;
    child->pid = parts->pid;
    child->mm = parts->mm;
    child->actions = parts->actions;
    child->exit_signal = request->exit_signal;
    child->credentials = self->credentials;
    child->personality = self->personality;
    child->oom_adjustment = self->oom_adjustment;
    child->oom_adjustment_min = self->oom_adjustment_min;
    memcpy(child->limits, self->limits, sizeof(child->limits));
    child->space_limits = self->space_limits;
    memcpy(child->name, parts->thread->name, COMM_BYTES);
    atomic_store(&child->flags, atomic_load(&self->flags) & kept);
    parts->mm = NULL;
    parts->actions = NULL;
}

/* The last thing that may fail.  Tree lock held. */
static int64_t
clone_enter_cgroup(struct clone_parts *parts, const struct process *self,
                   const struct clone_request *request)
{
    struct process *child = parts->process;
    int64_t error = cgroup_enter(child, request->cgroup != NULL ? request->cgroup : self->cgroup);

    /* What it shares stays charged as it is; a copy was made before we knew where it goes. */
    if (error == 0 && (request->flags & CLONE_VM) == 0)
        parts->settle = !cgroup_is_charged(child, atomic_load(&parts->mm->space->group));
    return error;
}

/*
 * Commit, unless a signal or the end of the process came in between: a signal to
 * a group either reaches the child too or makes fork start again.
 */
static int64_t
clone_commit(struct clone_parts *parts, struct thread *self, const struct clone_request *request)
{
    struct process *process = self->process, *parent = process;
    struct thread *thread = parts->thread;
    int64_t error = 0;

    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    signal_update(self);
    if (signal_is_pending() || process->group_exit || thread_is_superseded(self))
        error = -ERESTARTNOINTR;
    qr_spin_unlock(&process->signal_lock);
    if (error == 0 && parts->process != NULL)
        error = clone_enter_cgroup(parts, process, request);
    if (error != 0) {
        process_tree_unlock();
        return error;
    }
    if (parts->process != NULL) {
        struct process *child = parts->process;

        clone_process_fields(child, process, parts, request);
        if (request->flags & CLONE_PARENT) {
            parent = process->parent;
            child->exit_signal = process->exit_signal;
        }
        process_add(child, parent);
        process_set_group(child, process->group);
        process_set_session(child, process->session);
        child->leader_thread = thread;
        process = child;
    }
    thread_add(thread, process, parts->pid);
    thread->space = process->mm->space;
    parts->event = trace_clone(self, thread, request->flags, request->exit_signal);
    thread_ref(thread); /* ours, until the start and vfork's wait are over */
    process_tree_unlock();
    if (parts->process != NULL)
        atomic_fetch_add_explicit(&fork_total, 1, memory_order_relaxed);
    return 0;
}

/* Wait for a vfork child to let go of our memory; only our own death ends this early. */
static void
vfork_wait(struct thread *child, struct vfork_wait *vfork)
{
    int64_t result;

    WAIT_EVENT_UNTIL(result, &vfork->queue, atomic_load(&vfork->done), WAIT_KILLABLE, WAIT_FOREVER);
    (void)result;
    process_tree_lock();
    child->vfork = NULL;
    process_tree_unlock();
}

/* The child's end of it: at exec or exit. */
void
vfork_release(struct thread *thread)
{
    if (thread->vfork == NULL)
        return;
    process_tree_lock();
    struct vfork_wait *vfork = thread->vfork;

    if (vfork != NULL) {
        thread->vfork = NULL;
        atomic_store(&vfork->done, true);
        wait_wake_all(&vfork->queue);
    }
    process_tree_unlock();
}

static int64_t
clone_run(const struct clone_request *request)
{
    struct clone_parts parts = {.pidfd = -1};
    struct thread *self = thread_current(), *child;
    struct vfork_wait vfork;
    int64_t tid, error = clone_check(request);

    if (error == 0)
        error = clone_prepare(&parts, self, request);
    if (error == 0)
        error = clone_commit(&parts, self, request);
    if (error != 0) {
        clone_discard(&parts);
        return error;
    }
    child = parts.thread;
    tid = parts.pid->number;
    if (parts.settle)
        cgroup_settle(child->process);
    if (request->flags & CLONE_VFORK) {
        wait_queue_init(&vfork.queue);
        atomic_init(&vfork.done, false);
        child->vfork = &vfork;
    }
    if (request->flags & CLONE_PARENT_SETTID)
        (void)user_write_u32(request->parent_tid, (uint32_t)tid);
    sched_start(child);
    if (parts.event != 0)
        (void)trace_event(self, (enum trace_event)parts.event, (uint64_t)tid);
    if (request->flags & CLONE_VFORK) {
        vfork_wait(child, &vfork);
        (void)trace_event(self, EVENT_VFORK_DONE, (uint64_t)tid);
    }
    thread_put(child);
    return tid;
}

/* ---- system calls ------------------------------------------------------------------------ */

int64_t
sys_fork(const struct syscall_args *args)
{
    struct clone_request request = {.exit_signal = SIGCHLD};

    (void)args;
    return clone_run(&request);
}

int64_t
sys_vfork(const struct syscall_args *args)
{
    struct clone_request request = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD};

    (void)args;
    return clone_run(&request);
}

/* flags, stack, parent_tid, and then child_tid and tls in the architecture's order. */
int64_t
sys_clone(const struct syscall_args *args)
{
    struct clone_request request = {
        .flags = (uint32_t)args->arg[0] & ~CSIGNAL,
        .exit_signal = (int)(args->arg[0] & CSIGNAL),
        .stack = args->arg[1],
        .parent_tid = args->arg[2],
        .pidfd = args->arg[2],
        .child_tid = args->arg[ARCH_CLONE_CHILD_TID],
        .tls = args->arg[ARCH_CLONE_TLS],
    };

    return clone_run(&request);
}

struct clone_args_user {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
};

enum { CLONE_ARGS_FIRST = 64, TID_LEVELS = 32 };

/* A structure that may be shorter or longer than ours, zero in what we do not know. */
static int64_t
clone_args_read(struct clone_args_user *user, uint64_t address, uint64_t size)
{
    if (size > QR_PAGE_SIZE)
        return -E2BIG;
    if (size < CLONE_ARGS_FIRST)
        return -EINVAL;
    if (user_read(user, address, size < sizeof(*user) ? size : sizeof(*user)) != 0)
        return -EFAULT;
    for (uint64_t at = sizeof(*user); at < size; at++) {
        uint8_t byte;

        if (user_read(&byte, address + at, 1) != 0)
            return -EFAULT;
        if (byte != 0)
            return -E2BIG;
    }
    return 0;
}

/* In Linux's order. */
static int64_t
clone_args_check(const struct clone_args_user *user, uint64_t size)
{
    if (user->set_tid_size > TID_LEVELS || (user->set_tid == 0) != (user->set_tid_size == 0))
        return -EINVAL;
    if (user->exit_signal > SIGRTMAX)
        return -EINVAL;
    if ((user->flags & CLONE_INTO_CGROUP) && (user->cgroup > INT32_MAX || size < sizeof(*user)))
        return -EINVAL;
    if ((user->flags & ~(uint64_t)CLONE_ALL) || (user->flags & (CSIGNAL | CLONE_DETACHED)))
        return -EINVAL;
    if ((user->flags & (CLONE_THREAD | CLONE_PARENT)) && user->exit_signal != 0)
        return -EINVAL;
    if ((user->stack == 0) != (user->stack_size == 0))
        return -EINVAL;
    if (user->stack > mm_user_limit() || user->stack_size > mm_user_limit() - user->stack)
        return -EINVAL;
    return 0;
}

/* The number that the child is to have, in the one namespace there is. */
static int64_t
clone_args_tid(const struct clone_args_user *user, int32_t *out)
{
    uint32_t tid;

    if (user->set_tid_size == 0)
        return 0;
    if (user->set_tid_size > 1)
        return -EINVAL;
    if (user_read_u32(&tid, user->set_tid) != 0)
        return -EFAULT;
    if (tid < 1 || tid >= PID_LIMIT)
        return -EINVAL;
    if (!process_has_capability(CAP_SYS_ADMIN) && !process_has_capability(CAP_CHECKPOINT_RESTORE))
        return -EPERM;
    *out = (int32_t)tid;
    return 0;
}

int64_t
sys_clone3(const struct syscall_args *args)
{
    struct clone_args_user user = {0};
    int64_t error = clone_args_read(&user, args->arg[0], args->arg[1]);

    if (error == 0)
        error = clone_args_check(&user, args->arg[1]);
    if (error != 0)
        return error;

    struct clone_request request = {
        .flags = user.flags,
        .exit_signal = (int)user.exit_signal,
        .stack = user.stack == 0 ? 0 : user.stack + user.stack_size,
        .parent_tid = user.parent_tid,
        .child_tid = user.child_tid,
        .tls = user.tls,
        .pidfd = user.pidfd,
    };
    error = clone_args_tid(&user, &request.set_tid);
    if (error == 0)
        error = clone_check(&request);
    if (error == 0 && (user.flags & CLONE_INTO_CGROUP))
        error = cgroup_of_fd((int)user.cgroup, &request.cgroup);
    if (error == 0)
        error = clone_run(&request);
    cgroup_put(request.cgroup);
    return error;
}

/* Only what needs no namespaces: stop sharing files or directories with other threads. */
int64_t
sys_unshare(const struct syscall_args *args)
{
    struct thread *self = thread_current();
    uint64_t flags = args->arg[0];
    struct fd_table *files = NULL, *old_files = NULL;
    struct fs_context *fs = NULL, *old_fs = NULL;

    if (flags & ~(uint64_t)(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM))
        return -EINVAL;
    if (flags & CLONE_FILES) {
        files = fd_table_clone(self->files);
        if (files == NULL)
            return -ENOMEM;
    }
    if (flags & CLONE_FS) {
        fs = fs_context_clone(self->fs);
        if (fs == NULL) {
            if (files != NULL)
                fd_table_put(files);
            return -ENOMEM;
        }
    }
    process_tree_lock();
    if (files != NULL) {
        old_files = self->files;
        self->files = files;
    }
    if (fs != NULL) {
        old_fs = self->fs;
        self->fs = fs;
    }
    process_tree_unlock();
    if (old_files != NULL)
        fd_table_put(old_files);
    if (old_fs != NULL)
        fs_context_put(old_fs);
    return 0;
}
