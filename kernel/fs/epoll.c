/* SPDX-License-Identifier: MIT */
/*
 * epoll: a set of files to wait for that outlives the call.
 *
 * Each item stands on the wait queues of its file with a wake function that marks the item and
 * wakes the set's own queue.  epoll_wait() asks every item: level-triggered ones always,
 * edge-triggered ones only when marked.  The set does not hold its files: the last close of a
 * file takes its items out (epoll_file_closed).
 *
 * A set cannot hold another set: EINVAL, where Linux allows it to a depth of five.
 *
 * Lock: one sleeping lock for all sets, their items and the lists that hang on files.  Wake
 * functions run without it and touch only item->marked and the set's wait queue, which stay
 * valid while the item is on a queue.
 */

#include <quire/assert.h>
#include <quire/writer.h>

#include "arch_abi.h"
#include "fd_table.h"
#include "fs.h"
#include "poll.h"
#include "proc.h"
#include "syscall.h"

#define EPOLLONESHOT   (1u << 30)
#define EPOLLET        (1u << 31)
#define EPOLLEXCLUSIVE (1u << 28)
#define EPOLLWAKEUP    (1u << 29)

enum {
    EPOLL_CTL_ADD = 1,
    EPOLL_CTL_DEL = 2,
    EPOLL_CTL_MOD = 3,
    ITEM_QUEUES = 2,
    EVENTS_MAX = 4096,
    EVENTS_INLINE = 16
};

/* As programs see it. */
struct epoll_event {
    uint32_t events;
    uint64_t data;
} ARCH_EPOLL_EVENT_ATTRIBUTE;

struct epoll {
    struct wait_queue wait;
    _Atomic uint32_t wakes; /* events so far: what a sleeper compares */
    struct qr_list items;
    _Atomic size_t count; /* of items */
};

struct epoll_item {
    struct poll_table table; /* first: used while registering */
    struct qr_list link;     /* in epoll->items */
    struct epoll_item *next_of_file;
    struct epoll *epoll;
    struct file *file; /* no reference */
    int fd;
    struct epoll_event event;
    atomic_bool marked; /* woken since it was last reported */
    bool disabled;      /* EPOLLONESHOT was used up */
    unsigned queue_count;
    struct item_entry {
        struct wait_entry entry; /* first */
        struct epoll_item *item;
    } queues[ITEM_QUEUES];
};

static struct qr_mutex epoll_lock;
static const struct file_ops epoll_file_ops;

static void
epoll_wake(struct epoll *epoll)
{
    atomic_fetch_add(&epoll->wakes, 1);
    wait_wake_all(&epoll->wait);
}

static bool
item_wake(struct wait_entry *entry, uint32_t events)
{
    struct epoll_item *item = ((struct item_entry *)entry)->item;

    (void)events;
    atomic_store(&item->marked, true);
    epoll_wake(item->epoll);
    return false;
}

static void
item_register(struct poll_table *table, struct wait_queue *queue)
{
    struct epoll_item *item = (struct epoll_item *)table;

    qr_assert(item->queue_count < ITEM_QUEUES);
    struct item_entry *slot = &item->queues[item->queue_count++];
    slot->item = item;
    wait_entry_init(&slot->entry, item_wake);
    wait_add(queue, &slot->entry);
}

static void
item_destroy(struct epoll_item *item)
{
    struct epoll_item **link = (struct epoll_item **)&item->file->watchers;

    for (unsigned i = 0; i < item->queue_count; i++) {
        wait_remove(&item->queues[i].entry);
    }
    while (*link != item) {
        link = &(*link)->next_of_file;
    }
    *link = item->next_of_file;
    qr_list_remove(&item->link);
    item->epoll->count--;
    kmem_charged_free(item);
}

void
epoll_file_closed(struct file *file)
{
    if (file->watchers == NULL) {
        return;
    }
    qr_mutex_lock(&epoll_lock);
    while (file->watchers != NULL) {
        item_destroy(file->watchers);
    }
    qr_mutex_unlock(&epoll_lock);
}

static void
epoll_release(struct file *file)
{
    struct epoll *epoll = file->context;

    qr_mutex_lock(&epoll_lock);
    while (!qr_list_is_empty(&epoll->items)) {
        item_destroy(qr_list_entry(epoll->items.next, struct epoll_item, link));
    }
    qr_mutex_unlock(&epoll_lock);
    kmem_charged_free(epoll);
}

/* What was asked for, and what nobody need ask for; after EPOLLONESHOT only the manner is left. */
static uint32_t
item_told_events(const struct epoll_item *item)
{
    const uint32_t manner = EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE | EPOLLWAKEUP;

    return item->disabled ? item->event.events & manner : item->event.events | POLLERR | POLLHUP;
}

static void
epoll_describe(struct file *file, struct qr_writer *writer)
{
    const struct epoll *epoll = file->context;

    qr_mutex_lock(&epoll_lock);
    qr_list_for_each(node, &epoll->items)
    {
        const struct epoll_item *item = qr_list_entry(node, struct epoll_item, link);
        const struct inode *inode = item->file->inode;

        qr_writer_printf(writer, "tfd: %8d events: %8x data: %16llx  pos:%llu ino:%llx sdev:%x\n",
                         item->fd, item_told_events(item), (unsigned long long)item->event.data,
                         (unsigned long long)item->file->position,
                         (unsigned long long)inode->number, (unsigned)inode->superblock->device);
    }
    qr_mutex_unlock(&epoll_lock);
}

static const struct file_ops epoll_file_ops = {
    .name = "epoll", .describe = epoll_describe, .release = epoll_release};

static int64_t
epoll_make(uint32_t flags)
{
    if (flags & ~(uint32_t)O_CLOEXEC) {
        return -EINVAL;
    }
    struct epoll *epoll = kmem_charged_zalloc(sizeof *epoll);
    if (epoll == NULL) {
        return -ENOMEM;
    }
    wait_queue_init(&epoll->wait);
    qr_list_init(&epoll->items);
    struct file *file;
    int64_t error =
        file_create_anonymous("anon_inode:[eventpoll]", &epoll_file_ops, O_RDWR, epoll, &file);
    if (error != 0) {
        kmem_charged_free(epoll);
        return error;
    }
    int fd = fd_install(file, 0, (flags & O_CLOEXEC) != 0);
    file_put(file);
    return fd;
}

int64_t
sys_epoll_create(const struct syscall_args *args)
{
    return (int32_t)args->arg[0] <= 0 ? -EINVAL : epoll_make(0);
}

int64_t
sys_epoll_create1(const struct syscall_args *args)
{
    return epoll_make((uint32_t)args->arg[0]);
}

/* ---- control ------------------------------------------------------------------------ */

static struct epoll_item *
item_find(struct epoll *epoll, const struct file *file, int fd)
{
    qr_list_for_each(node, &epoll->items)
    {
        struct epoll_item *item = qr_list_entry(node, struct epoll_item, link);

        if (item->file == file && item->fd == fd) {
            return item;
        }
    }
    return NULL;
}

static int64_t
item_add(struct epoll *epoll, struct file *file, int fd, const struct epoll_event *event)
{
    struct epoll_item *item = kmem_charged_zalloc(sizeof *item);

    if (item == NULL) {
        return -ENOMEM;
    }
    item->table.add = item_register;
    item->epoll = epoll;
    item->file = file;
    item->fd = fd;
    item->event = *event;
    atomic_store(&item->marked, true);
    item->next_of_file = file->watchers;
    file->watchers = item;
    qr_list_push_back(&epoll->items, &item->link);
    epoll->count++;
    file_poll(file, &item->table);
    epoll_wake(epoll);
    return 0;
}

/* EPOLLEXCLUSIVE goes with few flags, from the start, for good. */
static bool
exclusive_is_right(const struct epoll_item *item, int operation, uint32_t events)
{
    const uint32_t allowed =
        POLLIN | POLLOUT | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

    if (operation == EPOLL_CTL_MOD) {
        return !(events & EPOLLEXCLUSIVE) &&
               (item == NULL || !(item->event.events & EPOLLEXCLUSIVE));
    }
    return operation != EPOLL_CTL_ADD || !(events & EPOLLEXCLUSIVE) || !(events & ~allowed);
}

static int64_t
control_locked(struct epoll *epoll, struct file *file, int fd, int operation,
               const struct epoll_event *event)
{
    struct epoll_item *item = item_find(epoll, file, fd);

    if (!exclusive_is_right(item, operation, event->events)) {
        return -EINVAL;
    }
    switch (operation) {
    case EPOLL_CTL_ADD:
        return item != NULL ? -EEXIST : item_add(epoll, file, fd, event);
    case EPOLL_CTL_MOD:
        if (item == NULL) {
            return -ENOENT;
        }
        item->event = *event;
        item->disabled = false;
        atomic_store(&item->marked, true);
        epoll_wake(epoll);
        return 0;
    case EPOLL_CTL_DEL:
        if (item == NULL) {
            return -ENOENT;
        }
        item_destroy(item);
        return 0;
    default:
        return -EINVAL;
    }
}

int64_t
sys_epoll_ctl(const struct syscall_args *args)
{
    int operation = (int32_t)args->arg[1];
    int fd = (int32_t)args->arg[2];
    struct epoll_event event = {0, 0};
    int64_t result = -EBADF;

    if (operation != EPOLL_CTL_DEL && user_read(&event, args->arg[3], sizeof event) != 0) {
        return -EFAULT;
    }
    struct file *set = file_get((int32_t)args->arg[0]);
    struct file *file = file_get(fd);
    if (set != NULL && file != NULL) {
        if (set->ops != &epoll_file_ops || file->ops == &epoll_file_ops) {
            result = -EINVAL;
        } else if (file->ops->poll == NULL) {
            result = -EPERM; /* regular files and directories */
        } else {
            qr_mutex_lock(&epoll_lock);
            result = control_locked(set->context, file, fd, operation, &event);
            qr_mutex_unlock(&epoll_lock);
        }
    }
    if (file != NULL) {
        file_put(file);
    }
    if (set != NULL) {
        file_put(set);
    }
    return result;
}

/* ---- wait ------------------------------------------------------------------------------ */

/* What to report of @item now; 0 for nothing. */
static uint32_t
item_events(struct epoll_item *item)
{
    uint32_t wanted = item->event.events;

    if (item->disabled) {
        return 0;
    }
    if (!atomic_exchange(&item->marked, false) && (wanted & EPOLLET)) {
        return 0;
    }
    return file_poll(item->file, NULL) & (wanted | POLLERR | POLLHUP);
}

/* Collect ready items, the set's order turning so that all get their turn. Lock held. */
static unsigned
collect(struct epoll *epoll, struct epoll_event *events, unsigned limit)
{
    unsigned found = 0;

    for (size_t i = epoll->count; i > 0 && found < limit; i--) {
        struct qr_list *node = epoll->items.next;
        struct epoll_item *item = qr_list_entry(node, struct epoll_item, link);
        uint32_t ready = item_events(item);

        qr_list_remove(node);
        qr_list_push_back(&epoll->items, node);
        if (ready == 0) {
            continue;
        }
        events[found++] = (struct epoll_event){.events = ready, .data = item->event.data};
        item->disabled = (item->event.events & EPOLLONESHOT) != 0;
    }
    return found;
}

static int64_t
epoll_collect(struct epoll *epoll, struct epoll_event *events, unsigned limit, uint64_t deadline)
{
    int64_t result = 0;

    for (;;) {
        /* First: what becomes ready after it was looked at ends the sleep. */
        uint32_t seen = atomic_load(&epoll->wakes);

        qr_mutex_lock(&epoll_lock);
        unsigned found = collect(epoll, events, limit);
        qr_mutex_unlock(&epoll_lock);
        if (found > 0) {
            return found;
        }
        if (result == -ETIMEDOUT || deadline == 0) {
            return 0;
        }
        if (result != 0) {
            return result == -ERESTARTSYS ? -EINTR : result;
        }
        WAIT_EVENT_UNTIL(result, &epoll->wait, atomic_load(&epoll->wakes) != seen,
                         WAIT_INTERRUPTIBLE, deadline);
    }
}

/* Room for as many events as there are items, whatever room the program has. */
static unsigned
events_limit(struct epoll *epoll, unsigned maximum)
{
    size_t count = atomic_load(&epoll->count);
    unsigned limit = maximum < EVENTS_MAX ? maximum : EVENTS_MAX;

    return limit <= EVENTS_INLINE || count >= limit ? limit
           : count < EVENTS_INLINE                  ? EVENTS_INLINE
                                                    : (unsigned)count;
}

static int64_t
epoll_wait_user(int fd, uint64_t user_events, int32_t maximum, uint64_t deadline)
{
    int64_t result = -EINVAL;

    if (maximum <= 0 || maximum > (int32_t)(INT32_MAX / sizeof(struct epoll_event))) {
        return result;
    }
    struct file *file = file_get(fd);
    if (file == NULL) {
        return -EBADF;
    }
    if (file->ops == &epoll_file_ops) {
        struct epoll_event few[EVENTS_INLINE], *events = few;
        unsigned limit = events_limit(file->context, (unsigned)maximum);

        if (limit > EVENTS_INLINE) {
            events = kmem_calloc(limit, sizeof *events);
        }
        result = events == NULL ? -ENOMEM : epoll_collect(file->context, events, limit, deadline);
        if (result > 0 && user_write(user_events, events, (size_t)result * sizeof *events) != 0) {
            result = -EFAULT;
        }
        if (events != few) {
            kmem_free(events);
        }
    }
    file_put(file);
    return result;
}

static uint64_t
deadline_from_ms(int32_t timeout)
{
    return timeout < 0    ? WAIT_FOREVER
           : timeout == 0 ? 0
                          : deadline_after((uint64_t)timeout * 1000000u);
}

int64_t
sys_epoll_wait(const struct syscall_args *args)
{
    return epoll_wait_user((int32_t)args->arg[0], args->arg[1], (int32_t)args->arg[2],
                           deadline_from_ms((int32_t)args->arg[3]));
}

static int64_t
epoll_pwait_user(const struct syscall_args *args, uint64_t deadline)
{
    int64_t result = signal_mask_borrow(args->arg[4], args->arg[5]);

    if (result != 0) {
        return result;
    }
    result = epoll_wait_user((int32_t)args->arg[0], args->arg[1], (int32_t)args->arg[2], deadline);
    signal_mask_return(result == -EINTR);
    return result;
}

int64_t
sys_epoll_pwait(const struct syscall_args *args)
{
    return epoll_pwait_user(args, deadline_from_ms((int32_t)args->arg[3]));
}

int64_t
sys_epoll_pwait2(const struct syscall_args *args)
{
    uint64_t deadline;
    int64_t error = deadline_from_timespec(args->arg[3], &deadline);

    return error != 0 ? error : epoll_pwait_user(args, deadline);
}
