/* SPDX-License-Identifier: MIT */
/*
 * The system calls about signals, and who may send to whom.
 */
#include "proc_private.h"

#include <arch_sigaction.h>

#include "abi_errno.h"
#include "sched_private.h"
#include "syscall.h"

enum { CAP_KILL = 5, MINSIGSTKSZ_FLOOR = 2048 };
enum { SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK };

static bool
is_signal(uint64_t number)
{
    return number >= 1 && number <= SIGRTMAX;
}

/* ---- actions and masks -------------------------------------------------------- */

static void
discard_ignored(struct process *process, int number, uint64_t handler)
{
    static const signal_set ignored =
        (signal_set)1 << (SIGCHLD - 1) | (signal_set)1 << (SIGCONT - 1) |
        (signal_set)1 << (SIGURG - 1) | (signal_set)1 << (SIGWINCH - 1);

    if (handler == SIG_IGN || (handler == SIG_DFL && (ignored & signal_bit(number))))
        signal_forget(process, signal_bit(number));
}

int64_t
sys_rt_sigaction(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct signal_actions *actions = process->actions;
    int number = (int)args->arg[0];
    struct signal_action new_action, old_action;
    struct abi_sigaction user;

    if (args->arg[3] != sizeof(signal_set) || !is_signal((uint32_t)number))
        return -EINVAL;
    if (args->arg[1] != 0) {
        if (user_read(&user, args->arg[1], sizeof(user)) != 0)
            return -EFAULT;
        new_action = signal_action_of(&user);
        if (number == SIGKILL || number == SIGSTOP)
            return -EINVAL;
        new_action.mask &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    }
    qr_spin_lock(&actions->lock);
    old_action = actions->action[number - 1];
    if (args->arg[1] != 0)
        actions->action[number - 1] = new_action;
    qr_spin_unlock(&actions->lock);
    if (args->arg[1] != 0)
        discard_ignored(process, number, new_action.handler);
    user = abi_sigaction_of(&old_action);
    if (args->arg[2] != 0 && user_write(args->arg[2], &user, sizeof(user)) != 0)
        return -EFAULT;
    return 0;
}

int64_t
sys_rt_sigprocmask(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    signal_set set, old = thread->blocked;

    if (args->arg[3] != sizeof(signal_set))
        return -EINVAL;
    if (args->arg[1] != 0) {
        if (user_read_u64(&set, args->arg[1]) != 0)
            return -EFAULT;
        set &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
        switch ((int)args->arg[0]) {
        case SIG_BLOCK:
            set |= old;
            break;
        case SIG_UNBLOCK:
            set = old & ~set;
            break;
        case SIG_SETMASK:
            break;
        default:
            return -EINVAL;
        }
        if (set != old)
            signal_mask_set(set);
    }
    if (args->arg[2] != 0 && user_write_u64(args->arg[2], old) != 0)
        return -EFAULT;
    return 0;
}

int64_t
sys_rt_sigpending(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    signal_set set;

    if (args->arg[1] > sizeof(set))
        return -EINVAL;
    qr_spin_lock(&thread->process->signal_lock);
    set = (thread->pending.set | thread->process->pending.set) & thread->blocked;
    qr_spin_unlock(&thread->process->signal_lock);
    return user_write(args->arg[0], &set, args->arg[1]);
}

static int64_t
sleep_until_signal(void)
{
    do {
        wait_begin(WAIT_INTERRUPTIBLE);
    } while (wait_sleep(WAIT_FOREVER) == 0);
    return -ERESTARTNOHAND;
}

int64_t
sys_rt_sigsuspend(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    signal_set mask;

    if (args->arg[1] != sizeof(mask))
        return -EINVAL;
    if (user_read_u64(&mask, args->arg[0]) != 0)
        return -EFAULT;
    thread->saved_mask = thread->blocked;
    thread->mask_borrowed = true;
    signal_mask_set(mask);
    int64_t result = sleep_until_signal();
    signal_mask_return(true);
    return result;
}

int64_t
sys_pause(const struct syscall_args *args)
{
    (void)args;
    return sleep_until_signal();
}

/* Set what sigtimedwait waits for; it is taken out of the mask meanwhile. */
static void
set_waiting(struct thread *thread, signal_set waiting, signal_set blocked)
{
    qr_spin_lock(&thread->process->signal_lock);
    thread->waiting_for = waiting;
    thread->blocked = blocked;
    signal_update(thread);
    qr_spin_unlock(&thread->process->signal_lock);
}

int64_t
sys_rt_sigtimedwait(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    uint64_t deadline = WAIT_FOREVER;
    signal_set set, blocked;
    struct signal_info info;
    int number;

    if (args->arg[3] != sizeof(set))
        return -EINVAL;
    if (user_read_u64(&set, args->arg[0]) != 0)
        return -EFAULT;
    if (args->arg[2] != 0) {
        int64_t error = deadline_from_user(args->arg[2], &deadline);

        if (error != 0)
            return error;
    }
    set &= ~(signal_bit(SIGKILL) | signal_bit(SIGSTOP));
    number = signal_take(set, &info);
    if (number == 0 && deadline > clock_monotonic_ns()) {
        int64_t result = 0;

        blocked = thread->blocked;
        set_waiting(thread, set, blocked & ~set);
        wait_begin(WAIT_INTERRUPTIBLE);
        result = wait_sleep(deadline);
        number = signal_take(set, &info);
        set_waiting(thread, 0, blocked);
        if (number == 0 && result == -ERESTARTSYS)
            return -EINTR;
    }
    if (number == 0)
        return -EAGAIN;
    if (args->arg[1] != 0 && user_write(args->arg[1], &info, sizeof(info)) != 0)
        return -EFAULT;
    return number;
}

/* ---- sending ---------------------------------------------------------------------- */

/* May the current process send @number to @target? Tree. */
static bool
may_send(const struct process *target, int number)
{
    const struct process *self = process_current();
    const struct credentials *mine = &self->credentials, *theirs = &target->credentials;

    if (self == target || (mine->cap_effective >> CAP_KILL & 1))
        return true;
    if (mine->euid == theirs->suid || mine->euid == theirs->uid || mine->uid == theirs->suid ||
        mine->uid == theirs->uid)
        return true;
    return number == SIGCONT && self->session == target->session;
}

static void
info_of_sender(struct signal_info *info, int number, int code)
{
    *info = (struct signal_info){.number = number, .code = code};
    info->sent.pid = process_current()->id;
    info->sent.uid = process_current()->credentials.uid;
}

static int64_t
send_one(struct process *target, int number, const struct signal_info *info)
{
    if (!may_send(target, number))
        return -EPERM;
    return number == 0 ? 0 : signal_send_process_locked(target, number, info);
}

static int64_t
kill_group(struct pid *group, int number, const struct signal_info *info)
{
    int64_t result = -ESRCH;

    if (group == NULL)
        return -ESRCH;
    qr_list_for_each(link, &group->group)
    {
        int64_t error = send_one(qr_list_entry(link, struct process, group_link), number, info);

        if (error == 0 || result == -ESRCH)
            result = error;
    }
    return result;
}

struct kill_all {
    int number;
    const struct signal_info *info;
    int64_t result;
};

static void
kill_all_visit(struct process *target, void *context)
{
    struct kill_all *all = context;

    if (target == process_current() || target->id <= 1)
        return;
    int64_t error = send_one(target, all->number, all->info);

    if (error == 0 || all->result == -ESRCH)
        all->result = error;
}

int64_t
sys_kill(const struct syscall_args *args)
{
    int32_t id = (int32_t)args->arg[0];
    int number = (int)args->arg[1];
    struct signal_info info;
    int64_t result;

    if (number < 0 || number > SIGRTMAX)
        return -EINVAL;
    info_of_sender(&info, number, SI_USER);
    if (id == INT32_MIN)
        return -ESRCH;
    process_tree_lock();
    if (id > 0) {
        struct pid *pid = pid_lookup(id);
        struct process *target = pid == NULL            ? NULL
                                 : pid->process != NULL ? pid->process
                                 : pid->thread != NULL  ? pid->thread->process
                                                        : NULL;

        result = target == NULL ? -ESRCH : send_one(target, number, &info);
    } else if (id == -1) {
        struct kill_all all = {.number = number, .info = &info, .result = -ESRCH};

        process_visit_all(kill_all_visit, &all);
        result = all.result;
    } else {
        result = kill_group(id == 0 ? process_current()->group : pid_lookup(-id), number, &info);
    }
    process_tree_unlock();
    return result;
}

/* Send to thread @tid, of process @process_id unless that is -1. */
static int64_t
send_to_thread(int32_t process_id, int32_t tid, int number, const struct signal_info *info)
{
    struct thread *thread;
    int64_t result = 0;

    if (tid <= 0 || process_id == 0 || process_id < -1)
        return -EINVAL;
    if (number < 0 || number > SIGRTMAX)
        return -EINVAL;
    thread = thread_find(tid);
    if (thread == NULL)
        return -ESRCH;
    if (process_id != -1 && thread->process->id != process_id)
        result = -ESRCH;
    else if (!may_send(thread->process, number))
        result = -EPERM;
    else if (number != 0)
        result = signal_send_thread(thread, number, info);
    thread_put(thread);
    return result;
}

int64_t
sys_tkill(const struct syscall_args *args)
{
    struct signal_info info;

    info_of_sender(&info, (int)args->arg[1], SI_TKILL);
    return send_to_thread(-1, (int32_t)args->arg[0], (int)args->arg[1], &info);
}

int64_t
sys_tgkill(const struct syscall_args *args)
{
    struct signal_info info;

    if ((int32_t)args->arg[0] <= 0)
        return -EINVAL;
    info_of_sender(&info, (int)args->arg[2], SI_TKILL);
    return send_to_thread((int32_t)args->arg[0], (int32_t)args->arg[1], (int)args->arg[2], &info);
}

/* Information made up by a program must not look as if the kernel or kill() had sent it. */
static int64_t
info_from_user(struct signal_info *info, uint64_t address, int number, bool to_self)
{
    if (user_read(info, address, sizeof(*info)) != 0)
        return -EFAULT;
    info->number = number;
    if ((info->code >= 0 || info->code == SI_TKILL) && !to_self)
        return -EPERM;
    return 0;
}

int64_t
sys_rt_sigqueueinfo(const struct syscall_args *args)
{
    int32_t id = (int32_t)args->arg[0];
    int number = (int)args->arg[1];
    struct signal_info info;
    int64_t result = info_from_user(&info, args->arg[2], number, id == process_current()->id);

    if (result != 0)
        return result;
    if (number < 0 || number > SIGRTMAX)
        return -EINVAL;
    process_tree_lock();
    struct pid *pid = pid_lookup(id);

    if (pid == NULL || pid->process == NULL)
        result = -ESRCH;
    else
        result = send_one(pid->process, number, &info);
    process_tree_unlock();
    return result;
}

int64_t
sys_rt_tgsigqueueinfo(const struct syscall_args *args)
{
    struct signal_info info;
    int64_t result = info_from_user(&info, args->arg[3], (int)args->arg[2],
                                    (int32_t)args->arg[0] == process_current()->id);

    if (result != 0)
        return result;
    if ((int32_t)args->arg[0] <= 0)
        return -EINVAL;
    return send_to_thread((int32_t)args->arg[0], (int32_t)args->arg[1], (int)args->arg[2], &info);
}

/* ---- handlers' stacks and returns ------------------------------------------------------ */

bool
signal_on_altstack(const struct thread *thread, uint64_t sp)
{
    const struct signal_stack *stack = &thread->altstack;

    return !(stack->flags & SS_AUTODISARM) && sp > stack->base && sp - stack->base <= stack->size;
}

int64_t
sys_sigaltstack(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    bool on_stack = signal_on_altstack(thread, frame_sp(arch_user_frame(&thread->arch)));
    struct signal_stack new_stack, old_stack = thread->altstack;
    uint32_t mode;

    if (args->arg[0] != 0) {
        if (user_read(&new_stack, args->arg[0], sizeof(new_stack)) != 0)
            return -EFAULT;
        if (on_stack)
            return -EPERM;
        mode = new_stack.flags & ~SS_AUTODISARM;
        if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
            return -EINVAL;
        if (mode == SS_DISABLE) {
            new_stack.base = 0;
            new_stack.size = 0;
        } else if (new_stack.size < MINSIGSTKSZ_FLOOR) {
            return -ENOMEM;
        }
        thread->altstack = new_stack;
    }
    if (args->arg[1] != 0) {
        old_stack.pad = 0;
        old_stack.flags = old_stack.size == 0 ? SS_DISABLE : on_stack ? SS_ONSTACK : 0;
        old_stack.flags |= thread->altstack.flags & SS_AUTODISARM;
        if (user_write(args->arg[1], &old_stack, sizeof(old_stack)) != 0)
            return -EFAULT;
    }
    return 0;
}

int64_t
sys_rt_sigreturn(const struct syscall_args *args)
{
    struct trap_frame *frame = arch_user_frame(&thread_current()->arch);
    struct signal_info info = {.number = SIGSEGV, .code = SI_KERNEL};
    signal_set mask;

    (void)args;
    if (arch_signal_pop(frame, &mask) != 0) {
        signal_force(SIGSEGV, &info);
        return 0;
    }
    signal_mask_set(mask);
    return frame_result(frame);
}

int64_t
sys_restart_syscall(const struct syscall_args *args)
{
    struct thread *thread = thread_current();
    int64_t (*restart)(struct thread *) = thread->restart;

    (void)args;
    thread->restart = NULL;
    return restart == NULL ? -EINTR : restart(thread);
}
