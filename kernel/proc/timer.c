/* SPDX-License-Identifier: MIT */
/*
 * Kernel timers.
 *
 * Each CPU has a tree of armed timers ordered by deadline, and the tick runs
 * those that are due: the resolution is one tick.  A timer lives on the CPU
 * that armed it.  timer_cancel() waits for a function that is running on
 * another CPU, so its caller may free the timer afterwards.
 *
 * Lock: timer_lock of the queue, held neither while a function runs nor with
 * any other lock inside.
 */
#include "proc.h"
#include "sched_private.h"

#include <quire/assert.h>

static struct timer *
timer_of_node(struct qr_tree_node *node)
{
    return node == NULL ? NULL : qr_container_of(node, struct timer, node);
}

static struct run_queue *
timer_queue(unsigned cpu)
{
    return cpu_of(cpu)->scheduler;
}

void
timer_init_cpu(struct run_queue *queue)
{
    qr_spin_init(&queue->timer_lock, QR_RANK_NONE);
    queue->timer_first = NULL;
}

void
timer_init(struct timer *timer, void (*expire)(struct timer *timer))
{
    *timer = (struct timer){.expire = expire};
    timer->cpu = cpu_this()->index;
}

static bool
is_due_before(const struct timer *a, const struct timer *b)
{
    return a->deadline < b->deadline || (a->deadline == b->deadline && a->order < b->order);
}

static void
queue_insert(struct run_queue *queue, struct timer *timer)
{
    struct qr_tree_node *parent = NULL, *node = queue->timers.root;
    int side = 0;

    timer->order = queue->timer_order++;
    while (node != NULL) {
        parent = node;
        side = is_due_before(timer, timer_of_node(node)) ? 0 : 1;
        node = node->child[side];
    }
    qr_tree_insert(&queue->timers, &timer->node, parent, side);
    timer->armed = true;
    if (queue->timer_first == NULL || is_due_before(timer, queue->timer_first))
        queue->timer_first = timer;
}

static void
queue_remove(struct run_queue *queue, struct timer *timer)
{
    if (queue->timer_first == timer)
        queue->timer_first = timer_of_node(qr_tree_next(&timer->node));
    qr_tree_remove(&queue->timers, &timer->node);
    timer->armed = false;
}

/* Out of its queue, without waiting for a function that runs. */
static bool
timer_disarm(struct timer *timer)
{
    struct run_queue *queue = timer_queue(timer->cpu);
    bool was_armed;

    qr_spin_lock(&queue->timer_lock);
    was_armed = timer->armed;
    if (was_armed)
        queue_remove(queue, timer);
    qr_spin_unlock(&queue->timer_lock);
    return was_armed;
}

void
timer_arm(struct timer *timer, uint64_t deadline)
{
    struct run_queue *queue;
    uintptr_t flags;

    (void)timer_disarm(timer);
    flags = irq_save();
    queue = sched_this_queue();
    qr_spin_lock(&queue->timer_lock);
    timer->cpu = queue->cpu->index;
    timer->deadline = deadline;
    queue_insert(queue, timer);
    qr_spin_unlock(&queue->timer_lock);
    irq_restore(flags);
}

void
timer_set_locked(struct timer *timer, uint64_t deadline)
{
    if (deadline != 0)
        timer_arm(timer, deadline);
    else
        (void)timer_disarm(timer);
}

bool
timer_cancel(struct timer *timer)
{
    struct run_queue *queue = timer_queue(timer->cpu);
    bool was_armed = timer_disarm(timer);

    /* On its own CPU the function cannot be running: it runs in an interrupt. */
    while (atomic_load(&queue->timer_running) == timer && queue->cpu != cpu_this())
        cpu_relax();
    return was_armed;
}

/* Run what is due. Interrupts off, on the queue's own CPU. */
void
timer_tick(uint64_t now)
{
    struct run_queue *queue = sched_this_queue();

    if (queue->timer_first == NULL)
        return;
    qr_spin_lock(&queue->timer_lock);
    for (;;) {
        struct timer *timer = queue->timer_first;

        if (timer == NULL || timer->deadline > now)
            break;
        queue_remove(queue, timer);
        atomic_store(&queue->timer_running, timer);
        qr_spin_unlock(&queue->timer_lock);
        timer->expire(timer);
        qr_spin_lock(&queue->timer_lock);
        atomic_store(&queue->timer_running, NULL);
    }
    qr_spin_unlock(&queue->timer_lock);
}
