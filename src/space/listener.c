/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom: the queue of a listener.
 *
 *   fault:   a  lock the table, see no page        filler:  1  lock the table, set the entry
 *            b  queue the waiter                            2  unlock
 *            c  unlock, sleep while `asleep`                3  wake the range
 *
 * The waiter is queued under the very table lock that showed the page missing.  So either the entry
 * was set before a, and there is nothing to wait for, or 3 comes after b and finds the waiter:
 * no wake-up is lost, and nobody has to look twice.
 *
 * A waiter lives on its thread's stack.  Whoever wakes it takes it off its list and clears `asleep`
 * under Q; the thread leaves only after it has held Q itself, so nobody still touches it then.
 *
 * Lock: Q, inside table locks.
 */
#include "region.h"

#include <quire/listener.h>

void
qr_listener_init(struct qr_listener *listener, const struct qr_listener_ops *ops, unsigned options)
{
    listener->ops = ops;
    atomic_init(&listener->refs, 1);
    atomic_init(&listener->options, options);
    atomic_init(&listener->closed, false);
    atomic_init(&listener->fresh_count, 0);
    qr_spin_init(&listener->lock, QR_RANK_TLB);
    qr_list_init(&listener->fresh);
    qr_list_init(&listener->taken);
}

void
qr_listener_get(struct qr_listener *listener)
{
    uint32_t before = atomic_fetch_add_explicit(&listener->refs, 1, memory_order_relaxed);

    qr_assert(before != 0 && before != UINT32_MAX);
}

void
qr_listener_put(struct qr_listener *listener)
{
    uint32_t before = atomic_fetch_sub_explicit(&listener->refs, 1, memory_order_acq_rel);

    qr_assert(before != 0);
    if (before != 1)
        return;
    qr_assert(qr_list_is_empty(&listener->fresh) && qr_list_is_empty(&listener->taken));
    if (listener->ops->destroy != NULL)
        listener->ops->destroy(listener);
}

/* ---- Waiting --------------------------------------------------------------------- */

bool
qr_listener_queue(struct qr_listener *listener, struct qr_waiter *waiter)
{
    qr_spin_lock(&listener->lock);
    bool open = !atomic_load_explicit(&listener->closed, memory_order_relaxed);

    if (open) {
        atomic_init(&waiter->asleep, 1);
        qr_list_push_back(&listener->fresh, &waiter->link);
        atomic_fetch_add_explicit(&listener->fresh_count, 1, memory_order_release);
        if (listener->ops->notify != NULL)
            listener->ops->notify(listener, waiter);
    }
    qr_spin_unlock(&listener->lock);
    return open;
}

/* Take @waiter off its list.  Q. */
static void
waiter_leave(struct qr_listener *listener, struct qr_waiter *waiter, bool fresh)
{
    qr_list_remove(&waiter->link);
    if (fresh)
        atomic_fetch_sub_explicit(&listener->fresh_count, 1, memory_order_release);
    atomic_store_explicit(&waiter->asleep, 0, memory_order_release);
}

static bool
list_has(struct qr_list *list, const struct qr_waiter *waiter)
{
    qr_list_for_each(node, list)
    {
        if (node == &waiter->link)
            return true;
    }
    return false;
}

bool
qr_listener_wait(struct qr_listener *listener, struct qr_waiter *waiter)
{
    bool woken = true;

    while (woken && atomic_load_explicit(&waiter->asleep, memory_order_acquire) != 0) {
        if (listener->ops->wait != NULL)
            woken = listener->ops->wait(listener, waiter);
        else
            qr_port_wait(&waiter->asleep, 1);
    }
    qr_spin_lock(&listener->lock);
    woken = atomic_load_explicit(&waiter->asleep, memory_order_relaxed) == 0;
    if (!woken)
        waiter_leave(listener, waiter, list_has(&listener->fresh, waiter));
    qr_spin_unlock(&listener->lock);
    return woken;
}

/* ---- Waking ------------------------------------------------------------------------ */

static bool
wakes(qr_va start, qr_va end, qr_va at)
{
    return at.v >= start.v && at.v < end.v;
}

/* Q. @return whether somebody was woken */
static bool
list_wake(struct qr_listener *listener, struct qr_list *list, qr_va start, qr_va end)
{
    bool fresh = list == &listener->fresh, any = false;
    struct qr_list *next;

    for (struct qr_list *node = list->next; node != list; node = next) {
        struct qr_waiter *waiter = qr_list_entry(node, struct qr_waiter, link);

        next = node->next;
        if (!wakes(start, end, waiter->va) && !wakes(start, end, waiter->page))
            continue;
        waiter_leave(listener, waiter, fresh);
        qr_port_wake(&waiter->asleep, 1);
        any = true;
    }
    return any;
}

void
qr_listener_wake(struct qr_listener *listener, qr_va start, qr_va end)
{
    qr_spin_lock(&listener->lock);
    bool taken = list_wake(listener, &listener->taken, start, end);
    bool fresh = list_wake(listener, &listener->fresh, start, end);

    if ((taken || fresh) && listener->ops->woken != NULL)
        listener->ops->woken(listener);
    qr_spin_unlock(&listener->lock);
}

void
qr_listener_close(struct qr_listener *listener)
{
    qr_spin_lock(&listener->lock);
    atomic_store_explicit(&listener->closed, true, memory_order_relaxed);
    qr_spin_unlock(&listener->lock);
    qr_listener_wake(listener, qr_va_of(0), qr_va_of(UINTPTR_MAX));
}

size_t
qr_listener_count(struct qr_listener *listener)
{
    size_t count;

    qr_spin_lock(&listener->lock);
    count = atomic_load_explicit(&listener->fresh_count, memory_order_relaxed);
    qr_list_for_each(node, &listener->taken)
    {
        count++;
    }
    qr_spin_unlock(&listener->lock);
    return count;
}

bool
qr_listener_take(struct qr_listener *listener, struct qr_watch_event *out_event)
{
    qr_spin_lock(&listener->lock);
    bool found = !qr_list_is_empty(&listener->fresh);

    if (found) {
        struct qr_waiter *waiter = qr_list_entry(listener->fresh.next, struct qr_waiter, link);

        *out_event = (struct qr_watch_event){.va = waiter->va,
                                             .page = waiter->page,
                                             .access = waiter->access,
                                             .kind = waiter->kind,
                                             .tag = waiter->tag};
        qr_list_remove(&waiter->link);
        qr_list_push_back(&listener->taken, &waiter->link);
        atomic_fetch_sub_explicit(&listener->fresh_count, 1, memory_order_release);
    }
    qr_spin_unlock(&listener->lock);
    return found;
}
