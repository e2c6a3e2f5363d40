/* SPDX-License-Identifier: MIT */
/*
 * Signals: sending, choosing who takes one, and delivering on the way to user mode.
 *
 * A signal is pending for one thread or for a process as a whole.  Pending
 * means a bit in a set and, memory permitting, an entry in a list with its
 * information; a fault of the thread itself uses a slot inside the thread, so
 * that its information is never lost.  Ordinary signals are pending once,
 * real-time ones queue.
 *
 * WORK_SIGNAL in thread->arch.work says that something waits for the thread: an
 * unblocked signal, a group stop to join, or its end.  It ends interruptible
 * sleeps and brings the thread here before it returns to user mode, where one
 * loop takes signals until a handler is to run or nothing is left.
 *
 * Group stop: the thread that takes a stop signal asks all others; each stops
 * on its own way to user mode; the last one tells the parent.  SIGCONT undoes
 * this at the moment it is sent, SIGKILL too.
 *
 * Locks: tree, then signal_lock (S), then actions.  Sending to a process takes
 * the tree lock because it looks at the list of threads.
 */
#include "proc_private.h"

#include <quire/assert.h>

#include "abi_errno.h"
#include "core.h"
#include "kstring.h"
#include "sched_private.h"

#define SET(number) ((signal_set)1 << ((number)-1))

static const signal_set stop_set = SET(SIGSTOP) | SET(SIGTSTP) | SET(SIGTTIN) | SET(SIGTTOU);
static const signal_set ignored_by_default =
    SET(SIGCHLD) | SET(SIGCONT) | SET(SIGURG) | SET(SIGWINCH);
static const signal_set core_set = SET(SIGQUIT) | SET(SIGILL) | SET(SIGTRAP) | SET(SIGABRT) |
                                   SET(SIGFPE) | SET(SIGSEGV) | SET(SIGBUS) | SET(SIGSYS) |
                                   SET(SIGXCPU) | SET(SIGXFSZ);
static const signal_set synchronous_set =
    SET(SIGSEGV) | SET(SIGBUS) | SET(SIGILL) | SET(SIGTRAP) | SET(SIGFPE) | SET(SIGSYS);
static const signal_set never_blocked = SET(SIGKILL) | SET(SIGSTOP);

/* ---- actions ------------------------------------------------------------------ */

struct signal_actions *
signal_actions_create(const struct signal_actions *from)
{
    struct signal_actions *actions = kmem_charged_alloc(sizeof(*actions));

    if (actions == NULL)
        return NULL;
    if (from != NULL)
        memcpy(actions->action, from->action, sizeof(actions->action));
    else
        memset(actions->action, 0, sizeof(actions->action));
    atomic_init(&actions->refs, 1);
    qr_spin_init(&actions->lock, QR_RANK_NONE);
    return actions;
}

void
signal_actions_put(struct signal_actions *actions)
{
    if (atomic_fetch_sub(&actions->refs, 1) == 1)
        kmem_charged_free(actions);
}

void
signal_actions_reset(struct signal_actions *actions)
{
    qr_spin_lock(&actions->lock);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t handler = actions->action[i].handler;

        actions->action[i] = (struct signal_action){
            .handler = handler == SIG_IGN ? SIG_IGN : SIG_DFL,
        };
    }
    qr_spin_unlock(&actions->lock);
}

static uint64_t
handler_of(const struct process *process, int number)
{
    return process->actions->action[number - 1].handler;
}

/* ---- pending sets: S held -------------------------------------------------------- */

void
signal_pending_init(struct signal_pending *pending)
{
    pending->set = 0;
    qr_list_init(&pending->list);
}

static void
queued_free(struct signal_queued *queued)
{
    if (queued->embedded)
        queued->in_use = false;
    else
        kmem_free(queued);
}

void
signal_pending_discard(struct signal_pending *pending)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(&pending->list)) != NULL)
        queued_free(qr_list_entry(link, struct signal_queued, link));
    pending->set = 0;
}

static void
pending_remove(struct signal_pending *pending, signal_set which)
{
    if ((pending->set & which) == 0)
        return;
    pending->set &= ~which;
    qr_list_for_each_safe(link, &pending->list)
    {
        struct signal_queued *queued = qr_list_entry(link, struct signal_queued, link);

        if (signal_bit(queued->info.number) & which) {
            qr_list_remove(link);
            queued_free(queued);
        }
    }
}

static void
pending_add(struct signal_pending *pending, struct signal_queued *queued)
{
    qr_list_push_back(&pending->list, &queued->link);
    pending->set |= signal_bit(queued->info.number);
}

/* Take signal @number out; its information, or a plain one where memory had been short. */
static void
pending_take(struct signal_pending *pending, int number, struct signal_info *out)
{
    struct signal_queued *found = NULL;
    bool more = false;

    qr_list_for_each(link, &pending->list)
    {
        struct signal_queued *queued = qr_list_entry(link, struct signal_queued, link);

        if (queued->info.number != number)
            continue;
        if (found == NULL)
            found = queued;
        else
            more = true;
    }
    if (!more)
        pending->set &= ~signal_bit(number);
    if (found == NULL) {
        *out = (struct signal_info){.number = number, .code = SI_USER};
        return;
    }
    qr_list_remove(&found->link);
    *out = found->info;
    if (found->timer != NULL)
        signal_timer_taken(found->timer, out);
    queued_free(found);
}

/* The most urgent signal of @set: faults first, then by number. */
static int
most_urgent(signal_set set)
{
    if (set & synchronous_set)
        set &= synchronous_set;
    return __builtin_ctzll(set) + 1;
}

/* Take the next signal of @wanted that waits for @thread. @return its number, or 0. S held. */
static int
take_next(struct thread *thread, signal_set wanted, struct signal_info *out)
{
    struct process *process = thread->process;
    struct signal_pending *pending = &thread->pending;
    int number;

    if ((pending->set & wanted) == 0)
        pending = &process->pending;
    if ((pending->set & wanted) == 0)
        return 0;
    number = most_urgent(pending->set & wanted);
    pending_take(pending, number, out);
    if (signal_bit(number) & stop_set)
        process->stop_dequeued = true;
    return number;
}

/* ---- who is told: S held ------------------------------------------------------------- */

static bool
has_work(const struct thread *thread)
{
    const struct process *process = thread->process;

    return ((thread->pending.set | process->pending.set) & ~thread->blocked) != 0 ||
           thread->stop_asked || thread->trace.interrupted || process->group_exit ||
           thread_is_superseded(thread);
}

void
signal_update(struct thread *thread)
{
    if (has_work(thread))
        atomic_fetch_or(&thread->arch.work, WORK_SIGNAL);
    else if (atomic_load_explicit(&thread->arch.work, memory_order_relaxed) & WORK_SIGNAL)
        atomic_fetch_and(&thread->arch.work, ~(uint32_t)WORK_SIGNAL);
}

/* Interrupt a thread that computes in user mode on another CPU. */
static void
kick_if_running(struct thread *thread)
{
    struct cpu *cpu = cpu_of(atomic_load(&thread->cpu));

    if (cpu != cpu_this() && cpu->current == thread)
        arch_ipi_send(cpu->index, IPI_RESCHEDULE);
}

void
signal_wake(struct thread *thread, bool fatal)
{
    atomic_fetch_or(&thread->arch.work, WORK_SIGNAL);
    if (!sched_wake(thread, fatal ? SCHED_WAKE_FATAL : SCHED_WAKE_SIGNAL))
        kick_if_running(thread);
}

static bool
wants(const struct thread *thread, int number)
{
    if (thread->exiting)
        return false;
    return number == SIGKILL || (thread->blocked & signal_bit(number)) == 0;
}

/* Wake one thread that can take @number; all of them for SIGKILL. Tree and S. */
static void
tell_process(struct process *process, int number)
{
    struct thread *first = process->leader_thread;

    if (number == SIGKILL) {
        qr_list_for_each(link, &process->threads)
            signal_wake(qr_list_entry(link, struct thread, thread_link), true);
        return;
    }
    if (first != NULL && wants(first, number)) {
        signal_wake(first, false);
        return;
    }
    qr_list_for_each(link, &process->threads)
    {
        struct thread *thread = qr_list_entry(link, struct thread, thread_link);

        if (wants(thread, number)) {
            signal_wake(thread, false);
            return;
        }
    }
}

/* ---- sending ---------------------------------------------------------------------------- */

struct wait_queue signal_arrived = WAIT_QUEUE_INIT(signal_arrived);

static void
remove_everywhere(struct process *process, signal_set which)
{
    pending_remove(&process->pending, which);
    qr_list_for_each(link, &process->threads)
        pending_remove(&qr_list_entry(link, struct thread, thread_link)->pending, which);
}

void
signal_forget(struct process *process, signal_set which)
{
    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    remove_everywhere(process, which);
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
}

/* End a group stop, complete or not. Tree and S. */
static void
resume_all(struct process *process)
{
    process->stop_dequeued = false;
    process->group_stop = false;
    qr_list_for_each(link, &process->threads)
    {
        struct thread *thread = qr_list_entry(link, struct thread, thread_link);

        thread->stop_asked = false;
        trace_continued(thread);
        signal_update(thread);
        (void)sched_wake(thread, 1u << THREAD_STOPPED);
    }
}

/* What stop and continue signals do at the moment they are sent. Tree and S. */
static bool
apply_job_control(struct process *process, int number)
{
    bool continued = false;

    if (signal_bit(number) & stop_set) {
        remove_everywhere(process, SET(SIGCONT));
    } else if (number == SIGCONT) {
        continued = process->group_stop && process->stop_remaining == 0;
        remove_everywhere(process, stop_set);
        resume_all(process);
    } else if (number == SIGKILL) {
        resume_all(process);
    }
    return continued;
}

/* Would @number have no effect, so that it need not be kept? S held. */
static bool
is_ignored(const struct process *process, const struct thread *thread, int number)
{
    uint64_t handler = handler_of(process, number);

    if (thread != NULL && ((thread->blocked | thread->waiting_for) & signal_bit(number)))
        return false;
    if (thread != NULL && thread->trace.tracer != NULL && number != SIGKILL)
        return false; /* its tracer is to see it */
    if (handler == SIG_IGN)
        return true;
    if (handler != SIG_DFL)
        return false;
    if (atomic_load(&process->flags) & PROCESS_INIT)
        return true;
    return (ignored_by_default & signal_bit(number)) != 0;
}

static struct signal_queued *
queued_create(struct process *process, int number, const struct signal_info *info)
{
    static const struct signal_info from_kernel = {.code = SI_KERNEL};
    struct signal_queued *queued = kmem_alloc(sizeof(*queued));

    (void)process;
    if (queued == NULL)
        return NULL;
    qr_list_init(&queued->link);
    queued->info = info != NULL ? *info : from_kernel;
    queued->info.number = number;
    queued->timer = NULL;
    queued->embedded = false;
    queued->in_use = true;
    return queued;
}

/*
 * Queue @number for @thread, or the process where NULL. Tree and S. @return 0 or -EAGAIN
 *
 * Who is killed is ending from here on, whoever looks: also between the moment that a thread has
 * taken the signal and the one that it has told the others.
 */
static int64_t
post(struct process *process, struct thread *thread, int number, const struct signal_info *info)
{
    struct signal_pending *pending = thread != NULL ? &thread->pending : &process->pending;
    struct thread *judge = thread != NULL ? thread : process->leader_thread;
    struct signal_queued *queued;

    if (is_ignored(process, judge, number))
        return 0;
    process->killed |= number == SIGKILL;
    if (number < SIGRTMIN && (pending->set & signal_bit(number)))
        return 0;
    queued = queued_create(process, number, info);
    if (queued != NULL)
        pending_add(pending, queued);
    else if (number >= SIGRTMIN && info != NULL && info->code < 0)
        return -EAGAIN;
    else
        pending->set |= signal_bit(number);
    wait_wake_all(&signal_arrived);
    if (thread == NULL)
        tell_process(process, number);
    else if (number == SIGKILL)
        tell_process(process, number);
    else if (wants(thread, number))
        signal_wake(thread, false);
    return 0;
}

static int64_t
send_locked(struct process *process, struct thread *thread, int number,
            const struct signal_info *info)
{
    int64_t result;
    bool continued;

    if (process->state != PROCESS_ALIVE)
        return 0;
    qr_spin_lock(&process->signal_lock);
    continued = apply_job_control(process, number);
    result = post(process, thread, number, info);
    qr_spin_unlock(&process->signal_lock);
    if (continued) {
        process->stop_report = CLD_CONTINUED;
        process_notify_parent(process, CLD_CONTINUED, SIGCONT);
    }
    return result;
}

int64_t
signal_send_process_locked(struct process *process, int number, const struct signal_info *info)
{
    return send_locked(process, NULL, number, info);
}

int64_t
signal_send_process(struct process *process, int number, const struct signal_info *info)
{
    int64_t result;

    process_tree_lock();
    result = send_locked(process, NULL, number, info);
    process_tree_unlock();
    return result;
}

int64_t
signal_send_thread(struct thread *thread, int number, const struct signal_info *info)
{
    int64_t result;

    process_tree_lock();
    result = send_locked(thread->process, thread, number, info);
    process_tree_unlock();
    return result;
}

unsigned
signal_send_group(int32_t group, int number, const struct signal_info *info)
{
    unsigned count = 0;

    process_tree_lock();
    struct pid *pid = pid_lookup(group);
    if (pid != NULL) {
        qr_list_for_each(link, &pid->group)
        {
            (void)send_locked(qr_list_entry(link, struct process, group_link), NULL, number, info);
            count++;
        }
    }
    process_tree_unlock();
    return count;
}

bool
signal_post_timer(struct process *process, struct signal_queued *slot, int32_t tid)
{
    struct thread *thread = NULL;
    bool posted = false;

    process_tree_lock();
    if (tid != 0) {
        struct pid *pid = pid_lookup(tid);

        thread = pid != NULL ? pid->thread : NULL;
        if (thread == NULL || thread->process != process) {
            process_tree_unlock();
            return false;
        }
    }
    if (process->state == PROCESS_ALIVE) {
        qr_spin_lock(&process->signal_lock);
        if (!slot->in_use && !is_ignored(process, thread != NULL ? thread : process->leader_thread,
                                         slot->info.number)) {
            slot->in_use = true;
            pending_add(thread != NULL ? &thread->pending : &process->pending, slot);
            wait_wake_all(&signal_arrived);
            if (thread == NULL)
                tell_process(process, slot->info.number);
            else if (wants(thread, slot->info.number))
                signal_wake(thread, false);
            posted = true;
        }
        qr_spin_unlock(&process->signal_lock);
    }
    process_tree_unlock();
    return posted;
}

void
signal_retract_timer(struct process *process, struct signal_queued *slot)
{
    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    if (slot->in_use) {
        int number = slot->info.number;
        bool other = false;

        qr_list_remove(&slot->link);
        slot->in_use = false;
        qr_list_for_each(link, &process->pending.list) other =
            other || qr_list_entry(link, struct signal_queued, link)->info.number == number;
        if (!other)
            process->pending.set &= ~signal_bit(number);
    }
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
}

/*
 * A fault of the current thread.  It cannot go on without the signal being
 * taken: where it is blocked or ignored, the default action is put back, which
 * ends the process (init too).
 */
void
signal_force(int number, const struct signal_info *info)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;
    struct signal_action *action = &process->actions->action[number - 1];
    struct signal_queued *slot = &thread->fault_slot;

    qr_spin_lock(&process->signal_lock);
    qr_spin_lock(&process->actions->lock);
    if (action->handler == SIG_IGN || (thread->blocked & signal_bit(number)))
        action->handler = SIG_DFL;
    if (action->handler == SIG_DFL)
        atomic_fetch_and(&process->flags, ~(uint32_t)PROCESS_INIT);
    qr_spin_unlock(&process->actions->lock);
    thread->blocked &= ~signal_bit(number);
    if (slot->in_use) {
        thread->pending.set |= signal_bit(number);
    } else {
        qr_list_init(&slot->link);
        slot->info = *info;
        slot->info.number = number;
        slot->timer = NULL;
        slot->embedded = true;
        slot->in_use = true;
        pending_remove(&thread->pending, signal_bit(number));
        pending_add(&thread->pending, slot);
    }
    atomic_fetch_or(&thread->arch.work, WORK_SIGNAL);
    qr_spin_unlock(&process->signal_lock);
}

void
signal_raise(int number)
{
    struct process *process = process_current();
    struct signal_info info = {.number = number, .code = SI_USER};

    info.sent.pid = process->id;
    info.sent.uid = process->credentials.uid;
    (void)signal_send_thread(thread_current(), number, &info);
}

/* ---- asking ----------------------------------------------------------------------------- */

bool
signal_is_pending(void)
{
    return (atomic_load_explicit(&thread_current()->arch.work, memory_order_relaxed) &
            WORK_SIGNAL) != 0;
}

bool
signal_ends(const struct process *process)
{
    return process->group_exit || process->killed;
}

bool
signal_is_fatal_pending(void)
{
    struct thread *thread = thread_current();
    struct process *process = thread->process;

    if (process == NULL)
        return false;
    return signal_ends(process) || thread_is_superseded(thread);
}

bool
signal_is_blocked_or_ignored(int number)
{
    struct thread *thread = thread_current();

    return (thread->blocked & signal_bit(number)) || handler_of(thread->process, number) == SIG_IGN;
}

/* ---- masks --------------------------------------------------------------------------------- */

void
signal_mask_set(signal_set mask)
{
    struct thread *thread = thread_current();

    qr_spin_lock(&thread->process->signal_lock);
    signal_set newly_blocked = mask & ~thread->blocked;
    thread->blocked = mask & ~never_blocked;
    signal_update(thread);
    qr_spin_unlock(&thread->process->signal_lock);

    /* Signals of the process that this thread was to take and now blocks: others may. */
    if (newly_blocked & thread->process->pending.set)
        signal_pass_on(thread, newly_blocked);
}

void
signal_pass_on(struct thread *thread, signal_set which)
{
    struct process *process = thread->process;

    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    for (signal_set left = process->pending.set & which; left != 0; left &= left - 1)
        tell_process(process, __builtin_ctzll(left) + 1);
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
}

int64_t
signal_mask_borrow(uint64_t user_mask, uint64_t size)
{
    struct thread *thread = thread_current();
    signal_set mask;

    if (user_mask == 0)
        return 0;
    if (size != sizeof(signal_set))
        return -EINVAL;
    if (user_read(&mask, user_mask, sizeof(mask)) != 0)
        return -EFAULT;
    thread->saved_mask = thread->blocked;
    thread->mask_borrowed = true;
    signal_mask_set(mask);
    return 0;
}

void
signal_mask_return(bool interrupted)
{
    struct thread *thread = thread_current();

    if (!thread->mask_borrowed)
        return;
    if (interrupted) {
        atomic_fetch_or(&thread->arch.work, WORK_RESTORE_MASK);
    } else {
        thread->mask_borrowed = false;
        signal_mask_set(thread->saved_mask);
    }
}

/* ---- stopping ---------------------------------------------------------------------------------- */

/* This thread's part of the group stop is done. Tree and S. @return whether it was the last */
bool
signal_stop_count_down(struct process *process, struct thread *thread)
{
    thread->stop_asked = false;
    return process->group_stop && process->stop_remaining > 0 && --process->stop_remaining == 0;
}

void
signal_stop_report(struct process *process)
{
    process->stop_report = CLD_STOPPED;
    if (process->leader_thread != NULL && process->leader_thread->trace.tracer == process->parent &&
        process->parent != NULL)
        return; /* the parent sees it as the tracer that it is */
    process_notify_parent(process, CLD_STOPPED, process->stop_signal);
}

/* Stop here until continued or killed. */
static void
stop_here(struct process *process, struct thread *thread)
{
    bool last;

    if (thread->trace.tracer != NULL) {
        trace_group_stop(thread);
        return;
    }
    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    if (!thread->stop_asked || process->group_exit) {
        thread->stop_asked = false;
        signal_update(thread);
        qr_spin_unlock(&process->signal_lock);
        process_tree_unlock();
        return;
    }
    last = signal_stop_count_down(process, thread);
    atomic_store(&thread->state, THREAD_STOPPED);
    signal_update(thread);
    qr_spin_unlock(&process->signal_lock);
    if (last)
        signal_stop_report(process);
    process_tree_unlock();
    sched_switch();
    atomic_store(&thread->state, THREAD_RUNNABLE);
}

/* The current thread took stop signal @number: ask everybody, itself included. */
static void
stop_begin(struct process *process, int number)
{
    process_tree_lock();
    if (number != SIGSTOP && process_group_would_be_orphaned(process->group, NULL)) {
        process_tree_unlock();
        return;
    }
    qr_spin_lock(&process->signal_lock);
    if (process->stop_dequeued && !process->group_exit && !process->group_stop) {
        process->group_stop = true;
        process->stop_signal = number;
        process->stop_remaining = 0;
        qr_list_for_each(link, &process->threads)
        {
            struct thread *thread = qr_list_entry(link, struct thread, thread_link);

            if (thread->exiting)
                continue;
            thread->stop_asked = true;
            process->stop_remaining++;
            signal_wake(thread, false);
        }
    }
    qr_spin_unlock(&process->signal_lock);
    process_tree_unlock();
}

void
signal_thread_gone(struct thread *thread)
{
    struct process *process = thread->process;
    bool last = false;

    process_tree_lock();
    qr_spin_lock(&process->signal_lock);
    if (thread->stop_asked)
        last = signal_stop_count_down(process, thread);
    signal_pending_discard(&thread->pending);
    for (signal_set left = process->pending.set & ~thread->blocked; left != 0; left &= left - 1)
        tell_process(process, __builtin_ctzll(left) + 1);
    qr_spin_unlock(&process->signal_lock);
    if (last)
        signal_stop_report(process);
    process_tree_unlock();
}

/* ---- delivering ---------------------------------------------------------------------------------- */

struct delivery {
    int number;
    struct signal_info info;
    struct signal_action action;
};

/* Copy the action of a signal that was taken, and reset it if it asks for that. */
static void
delivery_take_action(struct delivery *delivery, struct process *process)
{
    struct signal_action *action = &process->actions->action[delivery->number - 1];

    qr_spin_lock(&process->actions->lock);
    delivery->action = *action;
    if ((action->flags & SA_RESETHAND) && action->handler > SIG_IGN)
        action->handler = SIG_DFL;
    qr_spin_unlock(&process->actions->lock);
}

static _Noreturn void
default_end(const struct delivery *delivery)
{
    int status = delivery->number;

    if (signal_bit(status) & core_set)
        status = core_dump(status, &delivery->info);
    process_exit_group(status);
}

/* Let the tracer see the signal, and change or drop it. @return whether there still is one */
static bool
delivery_show(struct delivery *delivery, struct thread *thread)
{
    if (delivery->number != SIGKILL)
        delivery->number = trace_signal(thread, delivery->number, &delivery->info);
    if (delivery->number == 0)
        return false;
    qr_spin_lock(&thread->process->signal_lock);
    delivery_take_action(delivery, thread->process);
    qr_spin_unlock(&thread->process->signal_lock);
    return true;
}

/*
 * Take signals until one has a handler. Everything with a default action
 * happens in here.
 *
 * @return whether @delivery holds a signal to be handled
 */
static bool
next_delivery(struct thread *thread, struct delivery *delivery)
{
    struct process *process = thread->process;

    for (;;) {
        qr_spin_lock(&process->signal_lock);
        if (process->group_exit || thread_is_superseded(thread)) {
            qr_spin_unlock(&process->signal_lock);
            thread_exit(0);
        }
        bool traced = thread->trace.tracer != NULL;
        bool interrupted = traced && thread->trace.interrupted;
        bool stop = thread->stop_asked;
        thread->trace.interrupted = false;
        delivery->number =
            stop || interrupted ? 0 : take_next(thread, ~thread->blocked, &delivery->info);
        if (delivery->number == 0)
            signal_update(thread);
        else if (!traced)
            delivery_take_action(delivery, process);
        qr_spin_unlock(&process->signal_lock);

        if (interrupted) {
            trace_interrupt_stop(thread);
            continue;
        }
        if (stop) {
            stop_here(process, thread);
            continue;
        }
        if (delivery->number == 0)
            return false;
        if (traced && !delivery_show(delivery, thread))
            continue;
        if (delivery->action.handler == SIG_IGN)
            continue;
        if (delivery->action.handler != SIG_DFL)
            return true;
        signal_set bit = signal_bit(delivery->number);
        if (bit & ignored_by_default)
            continue;
        if ((atomic_load(&process->flags) & PROCESS_INIT))
            continue;
        if (bit & stop_set)
            stop_begin(process, delivery->number);
        else
            default_end(delivery);
    }
}

/* How an interrupted system call goes on when a handler runs. */
static void
restart_with_handler(struct trap_frame *frame, const struct signal_action *action)
{
    if (!frame_is_syscall(frame))
        return;
    switch (frame_result(frame)) {
    case -ERESTART_RESTARTBLOCK:
    case -ERESTARTNOHAND:
        frame_set_result(frame, -EINTR);
        break;
    case -ERESTARTSYS:
        if (action->flags & SA_RESTART)
            frame_restart_syscall(frame);
        else
            frame_set_result(frame, -EINTR);
        break;
    case -ERESTARTNOINTR:
        frame_restart_syscall(frame);
        break;
    default:
        break;
    }
}

static void
restart_without_handler(struct trap_frame *frame)
{
    if (!frame_is_syscall(frame))
        return;
    switch (frame_result(frame)) {
    case -ERESTARTSYS:
    case -ERESTARTNOHAND:
    case -ERESTARTNOINTR:
        frame_restart_syscall(frame);
        break;
    case -ERESTART_RESTARTBLOCK:
        arch_restart_block(frame);
        break;
    default:
        break;
    }
}

static void
run_handler(struct thread *thread, struct trap_frame *frame, const struct delivery *delivery)
{
    signal_set mask = thread->mask_borrowed ? thread->saved_mask : thread->blocked;
    signal_set during = thread->blocked | delivery->action.mask;

    restart_with_handler(frame, &delivery->action);
    if (thread->rseq != 0)
        rseq_update(thread, frame);
    if (thread->trace.stepping)
        (void)arch_trace_step(&thread->arch, false); /* not in the frame that is saved */
    if (arch_signal_push(frame, delivery->number, &delivery->action, &delivery->info, mask) != 0) {
        struct signal_info info = {.number = SIGSEGV, .code = SI_KERNEL};

        /* No stack to run any handler on: the process ends, whatever it wanted. */
        qr_spin_lock(&thread->process->actions->lock);
        thread->process->actions->action[SIGSEGV - 1].handler = SIG_DFL;
        qr_spin_unlock(&thread->process->actions->lock);
        signal_force(SIGSEGV, &info);
        return;
    }
    if (!(delivery->action.flags & SA_NODEFER))
        during |= signal_bit(delivery->number);
    thread->mask_borrowed = false;
    atomic_fetch_and(&thread->arch.work, ~(uint32_t)WORK_RESTORE_MASK);
    signal_mask_set(during);
    if (thread->trace.stepping)
        trace_handler(thread);
}

void
signal_deliver_pending(struct trap_frame *frame)
{
    struct thread *thread = thread_current();
    struct delivery delivery;
    bool handled = false;

    while (atomic_load_explicit(&thread->arch.work, memory_order_relaxed) & WORK_SIGNAL) {
        if (!next_delivery(thread, &delivery))
            break;
        run_handler(thread, frame, &delivery);
        handled = true;
    }
    if (!handled)
        restart_without_handler(frame);
    if (atomic_load_explicit(&thread->arch.work, memory_order_relaxed) & WORK_RESTORE_MASK) {
        atomic_fetch_and(&thread->arch.work, ~(uint32_t)WORK_RESTORE_MASK);
        if (thread->mask_borrowed) {
            thread->mask_borrowed = false;
            signal_mask_set(thread->saved_mask);
        }
    }
}

/* For sigtimedwait: take a pending signal of @set without delivering it. */
signal_set
signal_pending_set(void)
{
    struct thread *thread = thread_current();

    qr_spin_lock(&thread->process->signal_lock);
    signal_set set = thread->pending.set | thread->process->pending.set;
    qr_spin_unlock(&thread->process->signal_lock);
    return set;
}

int
signal_take(signal_set set, struct signal_info *out)
{
    struct thread *thread = thread_current();
    int number;

    qr_spin_lock(&thread->process->signal_lock);
    number = take_next(thread, set, out);
    signal_update(thread);
    qr_spin_unlock(&thread->process->signal_lock);
    return number;
}
