/* SPDX-License-Identifier: MIT */
/*
 * The scheduler.
 *
 * Every CPU has a run queue: runnable threads of ordinary policies in a tree
 * ordered by virtual time (CPU time divided by the weight of the nice value),
 * real-time threads in a list ordered by priority.  The thread that runs is in
 * neither.  The real-time list goes first; then the thread with the least
 * virtual time; then a thread taken from another CPU; then the idle thread.
 * (The idea of fair queueing by virtual time is old; Linux's CFS made it known.)
 *
 * A thread that wakes gets at most WAKE_CREDIT_NS of advantage over those that
 * did not sleep, so sleepers are served soon and cannot save time up.
 *
 * Sleeping without lost wake-ups.  A thread stores its sleeping state, then
 * looks at its condition, then calls sched_switch().  A waker makes the
 * condition true, then calls sched_wake(), which takes the queue lock of the
 * sleeper's CPU.  Whether a thread really goes off the queue is decided under
 * that same lock: so either the waker finds the sleeping state, or the sleeper
 * finds itself runnable again.  For signals the condition is a bit of
 * thread->arch.work, looked at under the lock too.
 *
 * The queue lock is held across arch_context_switch() and released by
 * whichever thread comes out of it.  Hence whoever holds the lock of a
 * thread's CPU knows: a thread that is not `current` there has its registers
 * saved, and may be moved to another CPU.
 *
 * Kernel code is never preempted.  need_resched is obeyed before user mode and
 * by the idle loop.
 */
#include "proc.h"

#include <quire/assert.h>
#include <quire/space.h>

#include "kstring.h"
#include "printk.h"
#include "sched_private.h"

enum {
    WAKE_CREDIT_NS = 4000000,
    WAKE_PREEMPT_NS = 1000000, /* a waking thread preempts one that is ahead by this much */
    ROUND_ROBIN_NS = 100000000,
    BALANCE_TICKS = 16,
    NICE_0_WEIGHT = 1024
};

/* 1024 / 1.25^nice, nice -20 .. 19: each step is worth a quarter of the CPU time. */
static const uint32_t nice_weights[40] = {
    88818, 71054, 56843, 45475, 36380, 29104, 23283, 18626, 14901, 11921, 9537, 7629, 6104, 4883,
    3906,  3125,  2500,  2000,  1600,  1280,  1024,  819,   655,   524,   419,  336,  268,  215,
    172,   137,   110,   88,    70,    56,    45,    36,    29,    23,    18,   15,
};

static struct run_queue queues[CONFIG_MAX_CPUS];
static uint32_t load_average[3]; /* 16.16; CPU 0's tick */

static struct run_queue *
queue_of(unsigned cpu)
{
    return &queues[cpu];
}

struct run_queue *
sched_this_queue(void)
{
    return cpu_this()->scheduler;
}

/* ---- queueing ------------------------------------------------------------ */

static struct thread *
thread_of_node(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct thread, queue_node);
}

static bool
runs_before(const struct thread *a, const struct thread *b)
{
    return (int64_t)(a->virtual_ns - b->virtual_ns) < 0;
}

static void
tree_insert(struct run_queue *queue, struct thread *thread)
{
    struct qr_tree_node *parent = NULL, *node = queue->fair.root;
    int side = 0;

    while (node != NULL) {
        parent = node;
        side = runs_before(thread, thread_of_node(node)) ? 0 : 1;
        node = node->child[side];
    }
    qr_tree_insert(&queue->fair, &thread->queue_node, parent, side);
}

/* The first of the ordinary threads stands apart: most queues hold no other. */
static void
queue_insert_fair(struct run_queue *queue, struct thread *thread)
{
    if (queue->first == NULL) {
        queue->first = thread;
    } else if (runs_before(thread, queue->first)) {
        tree_insert(queue, queue->first);
        queue->first = thread;
    } else {
        tree_insert(queue, thread);
    }
}

static void
queue_remove_fair(struct run_queue *queue, struct thread *thread)
{
    if (queue->first != thread) {
        qr_tree_remove(&queue->fair, &thread->queue_node);
        return;
    }
    queue->first = queue->fair.root == NULL ? NULL : thread_of_node(qr_tree_first(&queue->fair));
    if (queue->first != NULL)
        qr_tree_remove(&queue->fair, &queue->first->queue_node);
}

static void
queue_insert_realtime(struct run_queue *queue, struct thread *thread, bool at_head)
{
    struct qr_list *position = &queue->realtime;

    qr_list_for_each(link, &queue->realtime)
    {
        struct thread *other = qr_list_entry(link, struct thread, queue_link);

        if (other->priority < thread->priority ||
            (at_head && other->priority == thread->priority)) {
            position = link;
            break;
        }
    }
    qr_list_insert_before(position, &thread->queue_link);
}

static void
queue_insert(struct run_queue *queue, struct thread *thread)
{
    qr_assert(!thread->queued);
    thread->queued = true;
    queue->count++;
    if (thread->priority > 0)
        queue_insert_realtime(queue, thread, false);
    else
        queue_insert_fair(queue, thread);
}

static void
queue_remove(struct run_queue *queue, struct thread *thread)
{
    qr_assert(thread->queued);
    thread->queued = false;
    queue->count--;
    if (thread->priority > 0)
        qr_list_remove(&thread->queue_link);
    else
        queue_remove_fair(queue, thread);
}

/* The queue's clock follows the least virtual time in it and never goes back. */
static void
queue_advance_clock(struct run_queue *queue, const struct thread *running)
{
    uint64_t least = running->virtual_ns;

    if (running == queue->idle) {
        if (queue->first == NULL)
            return;
        least = queue->first->virtual_ns;
    } else if (queue->first != NULL && runs_before(queue->first, running)) {
        least = queue->first->virtual_ns;
    }
    if ((int64_t)(least - queue->clock_ns) > 0)
        queue->clock_ns = least;
}

/* Charge the running thread for the time since the last charge. */
static void
queue_account(struct run_queue *queue, struct thread *thread, uint64_t now)
{
    uint64_t used = now - thread->started_ns;

    if ((int64_t)used <= 0)
        return;
    thread->started_ns = now;
    thread->run_ns += used;
    if (thread == queue->idle) {
        queue->idle_ns += used;
        return;
    }
    queue->busy_ns += used;
    if (thread->priority > 0) {
        thread->slice_ns = thread->slice_ns > used ? thread->slice_ns - used : 0;
        return;
    }
    if (thread->nice != 0)
        used = used * NICE_0_WEIGHT / nice_weights[thread->nice + 20];
    thread->virtual_ns += used;
}

/* ---- choosing a CPU --------------------------------------------------------- */

static bool
cpu_looks_idle(unsigned cpu)
{
    return queues[cpu].online && cpu_of(cpu)->current == queues[cpu].idle && queues[cpu].count == 0;
}

/* Where a thread that becomes runnable should go: hints only, no lock. */
static unsigned
choose_cpu(const struct thread *thread)
{
    unsigned last = atomic_load_explicit(&thread->cpu, memory_order_relaxed);
    unsigned count = cpu_count(), fallback = last;

    if (count == 1)
        return 0;
    bool allowed = qr_cpu_set_has(&thread->affinity, last) && queues[last].online;
    if (allowed && cpu_looks_idle(last))
        return last;
    for (unsigned cpu = 0; cpu < count; cpu++) {
        if (!queues[cpu].online || !qr_cpu_set_has(&thread->affinity, cpu))
            continue;
        if (cpu_looks_idle(cpu))
            return cpu;
        if (!allowed || queues[cpu].count < queues[fallback].count) {
            fallback = cpu;
            allowed = true;
        }
    }
    return fallback;
}

static void
cpu_kick(unsigned cpu)
{
    struct cpu *target = cpu_of(cpu);

    atomic_store(&target->need_resched, 1);
    if (target != cpu_this())
        arch_ipi_send(cpu, IPI_RESCHEDULE);
}

/* Put a runnable thread on @queue and see whether it should run at once. Lock held. */
static void
queue_add(struct run_queue *queue, struct thread *thread)
{
    struct thread *running = queue->cpu->current;

    queue_insert(queue, thread);
    if (running == queue->idle || thread->priority > running->priority ||
        (running->priority == 0 &&
         (int64_t)(running->virtual_ns - thread->virtual_ns) > WAKE_PREEMPT_NS))
        cpu_kick(queue->cpu->index);
}

/* Lock the queue of the CPU that @thread belongs to. */
static struct run_queue *
queue_lock_of(const struct thread *thread)
{
    for (;;) {
        unsigned cpu = atomic_load(&thread->cpu);
        struct run_queue *queue = queue_of(cpu);

        qr_spin_lock(&queue->lock);
        if (atomic_load(&thread->cpu) == cpu)
            return queue;
        qr_spin_unlock(&queue->lock);
    }
}

/*
 * Give a runnable, unqueued thread whose queue lock we hold to @to; returns with
 * no lock held.  In between the thread is runnable on no queue, which nobody
 * else touches: a wake finds it awake.
 */
static void
queue_transfer(struct run_queue *from, struct thread *thread, unsigned to)
{
    struct run_queue *target = queue_of(to);
    uint64_t lag = thread->virtual_ns - from->clock_ns;

    if (from == target) {
        queue_add(from, thread);
        qr_spin_unlock(&from->lock);
        return;
    }
    qr_spin_unlock(&from->lock);
    qr_spin_lock(&target->lock);
    thread->virtual_ns = target->clock_ns + lag;
    atomic_store(&thread->cpu, to);
    queue_add(target, thread);
    qr_spin_unlock(&target->lock);
}

static void
thread_limit_credit(const struct run_queue *queue, struct thread *thread)
{
    uint64_t floor = queue->clock_ns - WAKE_CREDIT_NS;

    if ((int64_t)(thread->virtual_ns - floor) < 0)
        thread->virtual_ns = floor;
}

bool
sched_wake(struct thread *thread, uint32_t mask)
{
    /* The barrier pairs with wait_begin(): condition before state. */
    atomic_thread_fence(memory_order_seq_cst);
    if (((1u << atomic_load(&thread->state)) & mask) == 0)
        return false;

    struct run_queue *queue = queue_lock_of(thread);

    if (((1u << atomic_load(&thread->state)) & mask) == 0) {
        qr_spin_unlock(&queue->lock);
        return false;
    }
    atomic_store(&thread->state, THREAD_RUNNABLE);
    if (thread == queue->cpu->current || thread->queued) {
        qr_spin_unlock(&queue->lock);
        return true;
    }
    thread_limit_credit(queue, thread);
    queue_transfer(queue, thread, choose_cpu(thread));
    return true;
}

bool
sched_wait_off(struct thread *thread, enum thread_state state)
{
    for (;;) {
        uintptr_t flags = irq_save();
        struct run_queue *queue = queue_lock_of(thread);
        bool running = queue->cpu->current == thread;

        qr_spin_unlock(&queue->lock);
        irq_restore(flags);
        if (atomic_load(&thread->state) != (uint32_t)state)
            return false;
        if (!running)
            return true;
        sched_yield();
    }
}

void
sched_start(struct thread *thread)
{
    uintptr_t flags = irq_save();
    struct run_queue *queue = sched_this_queue();

    atomic_store(&thread->state, THREAD_RUNNABLE);
    atomic_store(&thread->cpu, queue->cpu->index);
    qr_spin_lock(&queue->lock);
    thread->virtual_ns = queue->clock_ns;
    thread->slice_ns = ROUND_ROBIN_NS;
    queue_transfer(queue, thread, choose_cpu(thread));
    irq_restore(flags);
}

/* ---- taking work from other CPUs ------------------------------------------------ */

/* A queued thread of @from that may run on @cpu, or NULL. Lock of @from held. */
static struct thread *
find_movable(struct run_queue *from, unsigned cpu)
{
    qr_list_for_each(link, &from->realtime)
    {
        struct thread *thread = qr_list_entry(link, struct thread, queue_link);

        if (qr_cpu_set_has(&thread->affinity, cpu))
            return thread;
    }
    if (from->first != NULL && qr_cpu_set_has(&from->first->affinity, cpu))
        return from->first;
    for (struct qr_tree_node *node = qr_tree_first(&from->fair); node != NULL;
         node = qr_tree_next(node)) {
        if (qr_cpu_set_has(&thread_of_node(node)->affinity, cpu))
            return thread_of_node(node);
    }
    return NULL;
}

static unsigned
busiest_cpu(unsigned self)
{
    unsigned busiest = self, most = 0;

    for (unsigned i = 1; i < cpu_count(); i++) {
        unsigned cpu = (self + i) % cpu_count();

        if (queues[cpu].online && queues[cpu].count > most) {
            most = queues[cpu].count;
            busiest = cpu;
        }
    }
    return busiest;
}

/*
 * Pull one thread from the busiest CPU into this queue.  No queue lock is held
 * on entry or exit; interrupts are off.
 */
static bool
queue_pull(struct run_queue *queue)
{
    unsigned self = queue->cpu->index, other = busiest_cpu(self);
    struct run_queue *from = queue_of(other);
    struct thread *thread;
    uint64_t lag;

    if (other == self || !qr_spin_try_lock(&from->lock))
        return false;
    thread = find_movable(from, self);
    if (thread != NULL) {
        queue_remove(from, thread);
        lag = thread->virtual_ns - from->clock_ns;
    }
    qr_spin_unlock(&from->lock);
    if (thread == NULL)
        return false;

    qr_spin_lock(&queue->lock);
    thread->virtual_ns = queue->clock_ns + lag;
    atomic_store(&thread->cpu, self);
    queue_insert(queue, thread);
    qr_spin_unlock(&queue->lock);
    return true;
}

/* ---- switching -------------------------------------------------------------------- */

/* Does the sleep that @thread announced stand? Queue lock held. */
static bool
sleep_is_cancelled(struct thread *thread, uint32_t state)
{
    if (state == THREAD_INTERRUPTIBLE)
        return (atomic_load(&thread->arch.work) & WORK_SIGNAL) != 0;
    if (state == THREAD_KILLABLE)
        return thread->process != NULL && signal_is_fatal_pending();
    return false;
}

static struct thread *
queue_pick(struct run_queue *queue)
{
    if (!qr_list_is_empty(&queue->realtime))
        return qr_list_entry(queue->realtime.next, struct thread, queue_link);
    return queue->first != NULL ? queue->first : queue->idle;
}

enum switch_reason { SWITCH_SLEEP, SWITCH_PREEMPTED, SWITCH_YIELD };

/* The next thread to run; @previous goes back to the queue if it still wants to run. */
static struct thread *
queue_choose(struct run_queue *queue, struct thread *previous, enum switch_reason reason)
{
    uint32_t state = atomic_load(&previous->state);
    struct thread *next;

    if (state != THREAD_RUNNABLE && state != THREAD_DEAD && sleep_is_cancelled(previous, state)) {
        atomic_store(&previous->state, THREAD_RUNNABLE);
        state = THREAD_RUNNABLE;
    }
    bool stays = state == THREAD_RUNNABLE && previous != queue->idle &&
                 qr_cpu_set_has(&previous->affinity, queue->cpu->index);

    next = queue_pick(queue);
    if (stays) {
        bool keep = next == queue->idle || next->priority < previous->priority ||
                    (reason == SWITCH_SLEEP && next->priority == previous->priority) ||
                    (reason == SWITCH_PREEMPTED && next->priority == 0 && previous->priority == 0 &&
                     runs_before(previous, next)) ||
                    (reason == SWITCH_PREEMPTED && next->priority == previous->priority &&
                     previous->priority > 0 && previous->slice_ns > 0);
        if (keep)
            return previous;
    }
    if (next != queue->idle)
        queue_remove(queue, next);
    if (stays) {
        previous->slice_ns = ROUND_ROBIN_NS;
        queue_insert(queue, previous);
    }
    if (reason == SWITCH_SLEEP)
        previous->voluntary++;
    else
        previous->involuntary++;
    return next;
}

void
sched_switched(void)
{
    struct run_queue *queue = sched_this_queue();
    struct thread *dead = queue->dead, *homeless = queue->homeless;

    queue->dead = NULL;
    queue->homeless = NULL;
    qr_spin_unlock(&queue->lock);
    if (dead != NULL)
        thread_put(dead);
    if (homeless != NULL) {
        struct run_queue *home = queue_lock_of(homeless);

        queue_transfer(home, homeless, choose_cpu(homeless));
    }
}

/* Restartable sequences: a preempted one must be left, and the CPU's number kept right. */
static void
note_for_rseq(struct thread *previous, struct thread *next, unsigned cpu, enum switch_reason reason)
{
    if (previous->rseq != 0 && reason == SWITCH_PREEMPTED)
        atomic_fetch_or_explicit(&previous->arch.work, WORK_RSEQ, memory_order_relaxed);
    if (next->rseq != 0 && next->rseq_cpu != cpu)
        atomic_fetch_or_explicit(&next->arch.work, WORK_RSEQ, memory_order_relaxed);
}

/* Interrupts off. */
static void
switch_to_next(enum switch_reason reason)
{
    struct run_queue *queue = sched_this_queue();
    struct cpu *cpu = queue->cpu;
    struct thread *previous = cpu->current, *next;
    uint64_t now = clock_monotonic_ns();

    qr_spin_lock(&queue->lock);
    atomic_store_explicit(&cpu->need_resched, 0, memory_order_relaxed);
    queue_account(queue, previous, now);
    queue_advance_clock(queue, previous);
    next = queue_choose(queue, previous, reason);
    if (next == previous) {
        qr_spin_unlock(&queue->lock);
        return;
    }
    uint32_t state = atomic_load(&previous->state);
    if (state == THREAD_DEAD)
        queue->dead = previous;
    else if (state == THREAD_RUNNABLE && !previous->queued && previous != queue->idle)
        queue->homeless = previous; /* not allowed here any more */
    next->started_ns = now;
    queue->switches++;
    note_for_rseq(previous, next, cpu->index, reason);
    if (previous->space != next->space)
        qr_space_switch(next->space);
    cpu->current = next;
    arch_context_switch(&previous->arch, &next->arch);
    sched_switched();
}

void
sched_switch(void)
{
    uintptr_t flags = irq_save();

    switch_to_next(SWITCH_SLEEP);
    irq_restore(flags);
}

void
sched_yield(void)
{
    uintptr_t flags = irq_save();
    struct run_queue *queue = sched_this_queue();

    if (queue->count > 0)
        switch_to_next(SWITCH_YIELD);
    irq_restore(flags);
}

void
sched_preempt(void)
{
    switch_to_next(SWITCH_PREEMPTED);
}

void
sched_relax(void)
{
    if (atomic_load_explicit(&cpu_this()->need_resched, memory_order_relaxed) != 0) {
        uintptr_t flags = irq_save();

        switch_to_next(SWITCH_PREEMPTED);
        irq_restore(flags);
    }
}

/* ---- the tick -------------------------------------------------------------------------- */

/* Every 5 seconds: average = average * e + running * (1 - e), e = exp(-5 s / window). */
static void
update_load_averages(void)
{
    static const uint32_t decay[3] = {60297, 64453, 65173}; /* 16.16 */
    uint64_t running = (uint64_t)sched_running_count() << 16;

    for (unsigned i = 0; i < 3; i++)
        load_average[i] =
            (uint32_t)((load_average[i] * (uint64_t)decay[i] + running * (65536 - decay[i])) >> 16);
}

static void
tick_running_thread(struct run_queue *queue)
{
    struct thread *running = queue->cpu->current;

    qr_spin_lock(&queue->lock);
    queue_account(queue, running, clock_monotonic_ns());
    queue_advance_clock(queue, running);
    if (queue->count > 0) {
        struct thread *next = queue_pick(queue);
        bool expired = running->priority > 0 && running->policy == SCHED_RR &&
                       running->slice_ns == 0 && next->priority == running->priority;

        if (running == queue->idle || next->priority > running->priority || expired ||
            (running->priority == 0 && runs_before(next, running)))
            atomic_store(&queue->cpu->need_resched, 1);
    }
    qr_spin_unlock(&queue->lock);
}

void
sched_tick(void)
{
    struct run_queue *queue = sched_this_queue();
    struct cpu *cpu;

    if (queue == NULL)
        return;
    cpu = queue->cpu;
    tick_running_thread(queue);
    timer_tick(clock_monotonic_ns());
    process_tick(cpu->current);
    if (cpu->index == 0 && cpu->ticks % (5 * TICK_HZ) == 0)
        update_load_averages();
    if (cpu_count() > 1 && cpu->current != queue->idle && cpu->ticks % BALANCE_TICKS == 0) {
        unsigned other = busiest_cpu(cpu->index);

        if (queues[other].count > queue->count + 1)
            (void)queue_pull(queue);
    }
}

/* ---- idle and start-up ------------------------------------------------------------------- */

_Noreturn void
sched_idle(void)
{
    for (;;) {
        irq_disable();
        struct run_queue *queue = sched_this_queue();

        if (queue->count > 0 || queue_pull(queue))
            switch_to_next(SWITCH_YIELD);
        else
            cpu_idle();
        irq_enable();
    }
}

void
sched_init_cpu(struct cpu *cpu)
{
    struct run_queue *queue = queue_of(cpu->index);
    struct thread *idle = cpu->idle;

    qr_assert(idle != NULL);
    qr_spin_init(&queue->lock, QR_RANK_NONE);
    qr_list_init(&queue->realtime);
    queue->cpu = cpu;
    queue->idle = idle;
    timer_init_cpu(queue);
    idle->priority = 0;
    atomic_store(&idle->cpu, cpu->index);
    atomic_store(&idle->state, THREAD_RUNNABLE);
    idle->started_ns = clock_monotonic_ns();
    qr_cpu_set_add(&idle->affinity, cpu->index);
    cpu->current = idle;
    cpu->scheduler = queue;
    atomic_store(&queue->online, true);
}

/* ---- figures ---------------------------------------------------------------------------------- */

unsigned
sched_running_count(void)
{
    unsigned total = 0;

    for (unsigned cpu = 0; cpu < cpu_count(); cpu++) {
        if (!queues[cpu].online)
            continue;
        total += queues[cpu].count + (cpu_of(cpu)->current != queues[cpu].idle ? 1 : 0);
    }
    return total;
}

void
sched_load_averages(uint32_t out_loads[3])
{
    memcpy(out_loads, load_average, sizeof(load_average));
}

uint64_t
sched_switch_count(void)
{
    uint64_t total = 0;

    for (unsigned cpu = 0; cpu < cpu_count(); cpu++)
        total += queues[cpu].switches;
    return total;
}

uint64_t
sched_idle_ns(unsigned index)
{
    return index < CONFIG_MAX_CPUS ? queues[index].idle_ns : 0;
}

uint64_t
sched_busy_ns(unsigned index)
{
    return index < CONFIG_MAX_CPUS ? queues[index].busy_ns : 0;
}

/* ---- changing a thread's rights ---------------------------------------------------------------- */

void
sched_set_policy(struct thread *thread, unsigned policy, unsigned priority, int nice)
{
    uintptr_t flags = irq_save();
    struct run_queue *queue = queue_lock_of(thread);
    bool queued = thread->queued;

    if (queued)
        queue_remove(queue, thread);
    thread->policy = (uint8_t)policy;
    thread->priority = (uint8_t)priority;
    thread->nice = (int16_t)nice;
    thread->slice_ns = ROUND_ROBIN_NS;
    if (queued)
        queue_insert(queue, thread);
    atomic_store(&queue->cpu->need_resched, 1);
    qr_spin_unlock(&queue->lock);
    irq_restore(flags);
}

void
sched_set_affinity(struct thread *thread, const struct qr_cpu_set *set)
{
    uintptr_t flags = irq_save();
    struct run_queue *queue = queue_lock_of(thread);
    unsigned cpu = queue->cpu->index;

    for (unsigned i = 0; i < QR_CPU_WORDS; i++)
        atomic_store(&thread->affinity.bits[i], atomic_load(&set->bits[i]));
    if (qr_cpu_set_has(&thread->affinity, cpu)) {
        qr_spin_unlock(&queue->lock);
    } else if (thread->queued) {
        queue_remove(queue, thread);
        queue_transfer(queue, thread, choose_cpu(thread));
    } else {
        bool running = thread == queue->cpu->current;

        qr_spin_unlock(&queue->lock);
        if (running)
            cpu_kick(cpu); /* it leaves on its way to user mode */
    }
    irq_restore(flags);
}

uint64_t
sched_run_ns(const struct thread *thread)
{
    uint64_t used = thread->run_ns;

    if (thread == thread_current()) {
        uint64_t now = clock_monotonic_ns();

        if (now > thread->started_ns)
            used += now - thread->started_ns;
    }
    return used;
}
