/* SPDX-License-Identifier: MIT */
/*
 * System calls about scheduling: policies, priorities, affinity.
 */
#include "proc_private.h"

#include "abi_errno.h"
#include "kstring.h"
#include "sched_private.h"
#include "syscall.h"

enum { CAP_SYS_NICE = 23, RESET_ON_FORK = 0x40000000 };

static bool
is_policy(int policy)
{
    return policy == SCHED_OTHER || policy == SCHED_FIFO || policy == SCHED_RR ||
           policy == SCHED_BATCH || policy == SCHED_IDLE;
}

static bool
is_realtime(int policy)
{
    return policy == SCHED_FIFO || policy == SCHED_RR;
}

/* Thread @tid, 0 for the current one, with a reference; NULL for none. */
static struct thread *
get_thread(int32_t tid)
{
    if (tid != 0)
        return tid < 0 ? NULL : thread_find(tid);
    thread_ref(thread_current());
    return thread_current();
}

static bool
may_change(const struct thread *thread)
{
    const struct credentials *mine = &process_current()->credentials;
    const struct credentials *theirs = &thread->process->credentials;

    return process_has_capability(CAP_SYS_NICE) || mine->euid == theirs->euid ||
           mine->euid == theirs->uid;
}

int64_t
sys_sched_yield(const struct syscall_args *args)
{
    (void)args;
    sched_yield();
    return 0;
}

static int64_t
set_policy(int32_t tid, int policy, int priority)
{
    struct thread *thread;
    int64_t error = 0;

    if (tid < 0)
        return -EINVAL;
    thread = get_thread(tid);
    if (thread == NULL)
        return -ESRCH;
    if (policy < 0)
        policy = thread->policy;
    policy &= ~RESET_ON_FORK;
    if (!is_policy(policy) || priority < 0 || priority > 99 ||
        is_realtime(policy) != (priority > 0))
        error = -EINVAL;
    else if (!may_change(thread) || (is_realtime(policy) && !process_has_capability(CAP_SYS_NICE) &&
                                     (uint64_t)priority > process_limit(RLIMIT_RTPRIO)))
        error = -EPERM;
    else
        sched_set_policy(thread, (unsigned)policy, (unsigned)priority, thread->nice);
    thread_put(thread);
    return error;
}

int64_t
sys_sched_setscheduler(const struct syscall_args *args)
{
    uint32_t priority;

    if ((int)args->arg[1] < 0 || args->arg[2] == 0)
        return -EINVAL;
    if (user_read_u32(&priority, args->arg[2]) != 0)
        return -EFAULT;
    return set_policy((int32_t)args->arg[0], (int)args->arg[1], (int)priority);
}

int64_t
sys_sched_setparam(const struct syscall_args *args)
{
    uint32_t priority;

    if (args->arg[1] == 0)
        return -EINVAL;
    if (user_read_u32(&priority, args->arg[1]) != 0)
        return -EFAULT;
    return set_policy((int32_t)args->arg[0], -1, (int)priority);
}

int64_t
sys_sched_getscheduler(const struct syscall_args *args)
{
    struct thread *thread;
    int64_t policy;

    if ((int32_t)args->arg[0] < 0)
        return -EINVAL;
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    policy = thread->policy;
    thread_put(thread);
    return policy;
}

int64_t
sys_sched_getparam(const struct syscall_args *args)
{
    struct thread *thread;
    uint32_t priority;

    if ((int32_t)args->arg[0] < 0 || args->arg[1] == 0)
        return -EINVAL;
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    priority = thread->priority;
    thread_put(thread);
    return user_write_u32(args->arg[1], priority);
}

int64_t
sys_sched_get_priority_max(const struct syscall_args *args)
{
    int policy = (int)args->arg[0];

    return !is_policy(policy) ? -EINVAL : is_realtime(policy) ? 99 : 0;
}

int64_t
sys_sched_get_priority_min(const struct syscall_args *args)
{
    int policy = (int)args->arg[0];

    return !is_policy(policy) ? -EINVAL : is_realtime(policy) ? 1 : 0;
}

int64_t
sys_sched_rr_get_interval(const struct syscall_args *args)
{
    struct thread *thread;
    int64_t time[2] = {0, 0};

    if ((int32_t)args->arg[0] < 0)
        return -EINVAL;
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    if (thread->policy != SCHED_FIFO)
        time[1] = thread->policy == SCHED_RR ? 100000000 : TICK_NS;
    thread_put(thread);
    return user_write(args->arg[1], time, sizeof(time));
}

/* struct sched_attr, first version. */
struct sched_attr_user {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

int64_t
sys_sched_setattr(const struct syscall_args *args)
{
    struct sched_attr_user attr;
    struct thread *thread;
    int64_t error;

    if ((int32_t)args->arg[0] < 0 || args->arg[1] == 0 || args->arg[2] != 0)
        return -EINVAL;
    if (user_read(&attr, args->arg[1], sizeof(attr)) != 0)
        return -EFAULT;
    if (attr.size != 0 && attr.size < sizeof(attr))
        return -E2BIG;
    if (attr.flags & ~(uint64_t)1)
        return -EINVAL;
    error = set_policy((int32_t)args->arg[0], (int)attr.policy, (int)attr.priority);
    if (error != 0 || is_realtime((int)attr.policy))
        return error;
    if (attr.nice < -20 || attr.nice > 19)
        return -EINVAL;
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    if (attr.nice < thread->nice && !process_has_capability(CAP_SYS_NICE))
        error = -EPERM;
    else
        sched_set_policy(thread, thread->policy, thread->priority, attr.nice);
    thread_put(thread);
    return error;
}

int64_t
sys_sched_getattr(const struct syscall_args *args)
{
    struct sched_attr_user attr = {.size = sizeof(attr)};
    struct thread *thread;

    if ((int32_t)args->arg[0] < 0 || args->arg[1] == 0 || args->arg[3] != 0 ||
        (uint32_t)args->arg[2] < sizeof(attr))
        return -EINVAL;
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    attr.policy = thread->policy;
    attr.nice = thread->nice;
    attr.priority = thread->priority;
    thread_put(thread);
    return user_write(args->arg[1], &attr, sizeof(attr));
}

/* ---- nice ---------------------------------------------------------------------- */

enum { PRIO_PROCESS, PRIO_PGRP, PRIO_USER };

struct nice_visit {
    int which;
    int32_t who;
    int new_nice; /* INT32_MIN: only look */
    int64_t result;
};

static bool
nice_matches(const struct process *process, const struct nice_visit *visit)
{
    switch (visit->which) {
    case PRIO_PGRP:
        return process->group != NULL && process->group->number == visit->who;
    case PRIO_USER:
        return process->credentials.uid == (uint32_t)visit->who;
    default:
        return process->id == visit->who;
    }
}

static void
nice_one(struct thread *thread, struct nice_visit *visit)
{
    if (visit->new_nice == INT32_MIN) {
        int64_t value = 20 - thread->nice;

        visit->result = value > visit->result ? value : visit->result;
        return;
    }
    if (!may_change(thread)) {
        visit->result = -EPERM;
    } else if (visit->new_nice < thread->nice && !process_has_capability(CAP_SYS_NICE)) {
        visit->result = -EACCES;
    } else {
        sched_set_policy(thread, thread->policy, thread->priority, visit->new_nice);
        if (visit->result == -ESRCH)
            visit->result = 0;
    }
}

static void
nice_visit(struct process *process, void *context)
{
    struct nice_visit *visit = context;

    if (!nice_matches(process, visit))
        return;
    qr_list_for_each(link, &process->threads)
        nice_one(qr_list_entry(link, struct thread, thread_link), visit);
}

static int64_t
nice_run(int which, int32_t who, int new_nice)
{
    struct process *self = process_current();
    struct nice_visit visit = {.which = which, .who = who, .new_nice = new_nice, .result = -ESRCH};

    if (which < PRIO_PROCESS || which > PRIO_USER)
        return -EINVAL;
    if (who == 0)
        visit.who = which == PRIO_PROCESS ? self->id
                    : which == PRIO_PGRP  ? process_group_id(self)
                                          : (int32_t)self->credentials.uid;
    process_tree_lock();
    if (which == PRIO_PROCESS) {
        /* One thread: Linux's nice values belong to threads. */
        struct pid *pid = pid_lookup(who == 0 ? thread_current()->tid : who);

        if (pid != NULL && pid->thread != NULL)
            nice_one(pid->thread, &visit);
    } else {
        process_visit_all(nice_visit, &visit);
    }
    process_tree_unlock();
    return visit.result;
}

int64_t
sys_getpriority(const struct syscall_args *args)
{
    return nice_run((int)args->arg[0], (int32_t)args->arg[1], INT32_MIN);
}

int64_t
sys_setpriority(const struct syscall_args *args)
{
    int nice = (int)args->arg[2];

    nice = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    return nice_run((int)args->arg[0], (int32_t)args->arg[1], nice);
}

/* ---- affinity -------------------------------------------------------------------- */

int64_t
sys_sched_setaffinity(const struct syscall_args *args)
{
    struct qr_cpu_set set = {0};
    uint64_t words[QR_CPU_WORDS] = {0};
    size_t bytes = args->arg[1] < sizeof(words) ? (size_t)args->arg[1] : sizeof(words);
    struct thread *thread;
    bool any = false;
    int64_t error = 0;

    if (user_read(words, args->arg[2], bytes) != 0)
        return -EFAULT;
    for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
        if (words[cpu / 64] >> (cpu % 64) & 1) {
            qr_cpu_set_add(&set, cpu);
            any = true;
        }
    }
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    if (!may_change(thread))
        error = -EPERM;
    else if (!any)
        error = -EINVAL;
    else
        sched_set_affinity(thread, &set);
    thread_put(thread);
    return error;
}

int64_t
sys_sched_getaffinity(const struct syscall_args *args)
{
    uint64_t words[QR_CPU_WORDS] = {0};
    const size_t word = sizeof(uintptr_t);
    size_t used = (cpu_count() + 8 * word - 1) / (8 * word) * word;
    struct thread *thread;

    if (args->arg[1] * 8 < cpu_count() || args->arg[1] % word != 0)
        return -EINVAL;
    thread = get_thread((int32_t)args->arg[0]);
    if (thread == NULL)
        return -ESRCH;
    for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
        if (qr_cpu_set_has(&thread->affinity, cpu))
            words[cpu / 64] |= (uint64_t)1 << (cpu % 64);
    }
    thread_put(thread);
    return user_write(args->arg[2], words, used) != 0 ? -EFAULT : (int64_t)used;
}

int64_t
sys_getcpu(const struct syscall_args *args)
{
    uintptr_t flags = irq_save();
    uint32_t cpu = cpu_this()->index, node = cpu_this()->quire.node;

    irq_restore(flags);
    /* Both are tried. */
    bool cpu_told = args->arg[0] == 0 || user_write_u32(args->arg[0], cpu) == 0;
    bool node_told = args->arg[1] == 0 || user_write_u32(args->arg[1], node) == 0;

    return cpu_told && node_told ? 0 : -EFAULT;
}
