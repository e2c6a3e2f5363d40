/* SPDX-License-Identifier: MIT */
/*
 * What a userfaultfd is told besides faults: fork, mremap, madvise that drops pages, munmap.
 *
 * The thread that makes the change finds the listeners of the regions that it concerns, puts an event on
 * its own stack into each one's queue, and waits until the reader has taken it: so the reader never
 * answers a fault for memory that has become something else without knowing.  Until then it cannot
 * fill pages (EAGAIN).
 *
 *      munmap   found before, told after       madvise  told before
 *      mremap   told after; the region keeps its listener (QR_LISTENER_MOVES)
 *      fork     the child's regions get a listener of their own, whose descriptor the reader gets
 *
 * The descriptor that is closed, and the death of the thread, end the wait.
 *
 * Locks: regions are looked at under the space's lock; queues have the uffd's own.  `wanted` counts the
 * userfaultfds that want events at all.
 */
#include "userfault_notice.h"

#include <quire/space.h>

#include "fs/fs.h"
#include "proc.h"
#include "userfault.h"

static atomic_uint wanted;

enum {
    FEATURE_EVENTS =
        FEATURE_EVENT_FORK | FEATURE_EVENT_REMAP | FEATURE_EVENT_REMOVE | FEATURE_EVENT_UNMAP
};

struct event {
    struct qr_list link; /* uffd->lock */
    struct uffd_message message;
    struct uffd *child; /* fork: whose descriptor the reader gets; its reference */
    bool taken;         /* uffd->lock to write */
    bool claimed;       /* uffd->lock: a reader is about to take it */
};

/* A part of a region whose listener is to know. */
struct notice {
    struct qr_list link;
    struct uffd *uffd; /* a reference */
    uint64_t start, end;
    unsigned kinds; /* enum qr_watch */
};

/* ---- one event --------------------------------------------------------------------- */

static bool
event_is_over(struct uffd *uffd, const struct event *event)
{
    return __atomic_load_n(&event->taken, __ATOMIC_ACQUIRE) || atomic_load(&uffd->listener.closed);
}

static void
event_tell(struct uffd *uffd, struct event *event)
{
    int64_t result;

    qr_list_init(&event->link);
    atomic_fetch_add(&uffd->changing, 1);
    qr_spin_lock(&uffd->lock);
    qr_list_push_back(&uffd->events, &event->link);
    atomic_fetch_add(&uffd->event_count, 1);
    qr_spin_unlock(&uffd->lock);
    wait_wake_all(&uffd->readable);
    WAIT_EVENT_UNTIL(result, &uffd->sleepers, event_is_over(uffd, event), WAIT_KILLABLE,
                     WAIT_FOREVER);
    (void)result;
    qr_spin_lock(&uffd->lock);
    while (event->claimed) {
        qr_spin_unlock(&uffd->lock);
        sched_yield();
        qr_spin_lock(&uffd->lock);
    }
    if (!event->taken) {
        qr_list_remove(&event->link);
        atomic_fetch_sub(&uffd->event_count, 1);
    }
    qr_spin_unlock(&uffd->lock);
    atomic_fetch_sub(&uffd->changing, 1);
}

/* The oldest event is this reader's from here on; its thread waits until that is decided. */
static struct event *
event_claim(struct uffd *uffd)
{
    struct event *event = NULL;

    qr_spin_lock(&uffd->lock);
    if (!qr_list_is_empty(&uffd->events)) {
        event = qr_list_entry(uffd->events.next, struct event, link);
        if (event->claimed)
            event = NULL;
        else
            event->claimed = true;
    }
    qr_spin_unlock(&uffd->lock);
    return event;
}

int64_t
uffd_event_take(struct uffd *uffd, struct uffd_message *out)
{
    struct event *event = event_claim(uffd);
    int64_t fd = 0;

    if (event == NULL)
        return -EAGAIN;
    if (event->child != NULL) {
        qr_listener_get(&event->child->listener);
        fd = uffd_install(event->child, uffd->flags);
        if (fd < 0)
            qr_listener_put(&event->child->listener);
    }
    qr_spin_lock(&uffd->lock);
    event->claimed = false;
    if (fd >= 0) {
        *out = event->message;
        if (event->child != NULL)
            out->words[0] = (uint64_t)fd;
        qr_list_remove(&event->link);
        atomic_fetch_sub(&uffd->event_count, 1);
        __atomic_store_n(&event->taken, true, __ATOMIC_RELEASE);
    }
    qr_spin_unlock(&uffd->lock);
    wait_wake_all(fd < 0 ? &uffd->readable : &uffd->sleepers);
    return fd < 0 ? fd : 0;
}

void
uffd_events_want(struct uffd *uffd)
{
    if (atomic_load(&uffd->features) & FEATURE_EVENTS)
        atomic_fetch_add(&wanted, 1);
}

void
uffd_events_end(struct uffd *uffd)
{
    if (atomic_load(&uffd->features) & FEATURE_EVENTS)
        atomic_fetch_sub(&wanted, 1);
    wait_wake_all(&uffd->sleepers);
}

/* ---- whom it concerns ------------------------------------------------------------------ */

static void
notices_discard(struct userfault_notices *notices)
{
    struct qr_list *link;

    while ((link = qr_list_pop_front(&notices->list)) != NULL) {
        struct notice *notice = qr_list_entry(link, struct notice, link);

        qr_listener_put(&notice->uffd->listener);
        kmem_free(notice);
    }
}

static unsigned
kinds_of(const struct qr_region *region)
{
    return (region->flags & QR_REGION_WATCH_MISSING ? (unsigned)QR_WATCH_MISSING : 0) |
           (region->flags & QR_REGION_WATCH_WRITE ? (unsigned)QR_WATCH_WRITE : 0) |
           (region->flags & QR_REGION_WATCH_MINOR ? (unsigned)QR_WATCH_MINOR : 0);
}

static bool
notice_add(struct userfault_notices *notices, const struct qr_region *region, uint64_t start,
           uint64_t end)
{
    struct notice *notice = kmem_zalloc(sizeof(*notice));

    if (notice == NULL)
        return false;
    notice->uffd = uffd_of(region->listener);
    qr_listener_get(region->listener);
    notice->start = region->start.v > start ? region->start.v : start;
    notice->end = region->end.v < end ? region->end.v : end;
    notice->kinds = kinds_of(region);
    qr_list_push_back(&notices->list, &notice->link);
    return true;
}

/* Listeners in [start, end) that want @feature. @return 0 or -ENOMEM */
static int64_t
notices_find(struct mm *mm, uint64_t start, uint64_t end, unsigned feature,
             struct userfault_notices *out)
{
    bool good = true;

    qr_list_init(&out->list);
    if (__builtin_expect(atomic_load(&wanted) == 0, 1))
        return 0;
    qr_rw_read_lock(&mm->space->lock);
    for (const struct qr_region *region = qr_space_find(mm->space, qr_va_of((uintptr_t)start));
         good && region != NULL && region->start.v < end; region = qr_region_next(region)) {
        if (region->listener != NULL &&
            (atomic_load(&uffd_of(region->listener)->features) & feature))
            good = notice_add(out, region, start, end);
    }
    qr_rw_read_unlock(&mm->space->lock);
    if (!good)
        notices_discard(out);
    return good ? 0 : -ENOMEM;
}

/* Tell each, one after the other, of its part. */
static void
notices_tell(struct userfault_notices *notices, enum uffd_event_number number)
{
    qr_list_for_each(link, &notices->list)
    {
        struct notice *notice = qr_list_entry(link, struct notice, link);
        struct event event = {
            .message = {.event = (uint8_t)number, .words = {notice->start, notice->end}}};

        event_tell(notice->uffd, &event);
    }
}

/* ---- what happens ------------------------------------------------------------------------ */

int64_t
userfault_unmap_prepare(struct mm *mm, uint64_t start, uint64_t bytes,
                        struct userfault_notices *out)
{
    return notices_find(mm, start, start + bytes, FEATURE_EVENT_UNMAP, out);
}

void
userfault_unmap_finish(struct userfault_notices *notices, bool done)
{
    if (done)
        notices_tell(notices, EVENT_UFFD_UNMAP);
    notices_discard(notices);
}

int64_t
userfault_remove(struct mm *mm, uint64_t start, uint64_t bytes)
{
    struct userfault_notices notices;
    int64_t error = notices_find(mm, start, start + bytes, FEATURE_EVENT_REMOVE, &notices);

    if (error == 0) {
        notices_tell(&notices, EVENT_UFFD_REMOVE);
        notices_discard(&notices);
    }
    return error;
}

/* The region that went there has its listener still. */
void
userfault_remap(struct mm *mm, uint64_t from, uint64_t to, uint64_t bytes)
{
    struct userfault_notices notices;

    if (notices_find(mm, to, to + 1, FEATURE_EVENT_REMAP, &notices) != 0)
        return;
    qr_list_for_each(link, &notices.list)
    {
        struct event event = {.message = {.event = EVENT_UFFD_REMAP, .words = {from, to, bytes}}};

        event_tell(qr_list_entry(link, struct notice, link)->uffd, &event);
    }
    notices_discard(&notices);
}

/* The notice's part of the child is watched by @uffd. */
static bool
fork_watch(const struct notice *notice, struct uffd *uffd, struct mm *child)
{
    return qr_space_watch(child->space, qr_va_of((uintptr_t)notice->start),
                          (size_t)(notice->end - notice->start), &uffd->listener,
                          notice->kinds) == QR_OK;
}

static struct uffd *
fork_uffd(struct uffd *parent, struct mm *child)
{
    struct uffd *uffd = uffd_create(child, atomic_load(&parent->listener.options));

    if (uffd == NULL)
        return NULL;
    uffd->flags = parent->flags;
    atomic_store(&uffd->features, atomic_load(&parent->features));
    atomic_store(&uffd->ready, true);
    uffd_events_want(uffd);
    return uffd;
}

/* All parts of the first notice's uffd: watch them in the child and tell. @return success */
static bool
fork_tell(struct userfault_notices *notices, struct mm *child)
{
    struct uffd *parent = qr_list_entry(notices->list.next, struct notice, link)->uffd;
    struct uffd *uffd = fork_uffd(parent, child);
    bool good = uffd != NULL;

    qr_list_for_each_safe(link, &notices->list)
    {
        struct notice *notice = qr_list_entry(link, struct notice, link);

        if (notice->uffd != parent || !good)
            continue;
        good = fork_watch(notice, uffd, child);
        if (link != notices->list.next) { /* the first keeps the parent's alive until it is told */
            qr_list_remove(link);
            qr_listener_put(&parent->listener);
            kmem_free(notice);
        }
    }
    if (good) {
        struct event event = {.message = {.event = EVENT_UFFD_FORK}, .child = uffd};

        event_tell(parent, &event);
        if (!event.taken) {
            qr_listener_close(&uffd->listener); /* nobody will ever answer */
            uffd_events_end(uffd);
            qr_space_unwatch_all(child->space, &uffd->listener);
        }
    } else if (uffd != NULL) {
        uffd_events_end(uffd);
    }
    if (uffd != NULL)
        qr_listener_put(&uffd->listener);
    return good;
}

int64_t
userfault_fork(struct mm *parent, struct mm *child)
{
    struct userfault_notices notices;
    int64_t error = notices_find(parent, 0, mm_user_limit(), FEATURE_EVENT_FORK, &notices);

    while (error == 0 && !qr_list_is_empty(&notices.list)) {
        struct notice *first = qr_list_entry(notices.list.next, struct notice, link);

        if (!fork_tell(&notices, child))
            error = -ENOMEM;
        qr_list_remove(&first->link);
        qr_listener_put(&first->uffd->listener);
        kmem_free(first);
    }
    notices_discard(&notices);
    return error;
}
