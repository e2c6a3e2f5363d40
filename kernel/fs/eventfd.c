/* SPDX-License-Identifier: MIT */
/*
 * eventfd: a counter that readers wait for.
 *
 * Lock: eventfd->lock, a spin lock; the queue is woken after it is released.
 */

#include <quire/writer.h>

#include "fd_table.h"
#include "fs.h"
#include "proc.h"
#include "syscall.h"

#define EFD_SEMAPHORE 1u
#define COUNTER_MAX   (UINT64_MAX - 1)

struct eventfd {
    struct qr_spin lock;
    _Atomic uint64_t counter; /* lock to write */
    bool semaphore;
    unsigned id; /* constant */
    struct wait_queue wait;
};

/* Take what a read gets. @return 0 when the counter is zero */
static uint64_t
counter_take(struct eventfd *event)
{
    qr_spin_lock(&event->lock);
    uint64_t value = atomic_load(&event->counter);
    uint64_t taken = event->semaphore && value > 0 ? 1 : value;
    atomic_store(&event->counter, value - taken);
    qr_spin_unlock(&event->lock);
    return taken;
}

static bool
counter_add(struct eventfd *event, uint64_t value)
{
    qr_spin_lock(&event->lock);
    bool fits = COUNTER_MAX - atomic_load(&event->counter) >= value;
    if (fits) {
        atomic_fetch_add(&event->counter, value);
    }
    qr_spin_unlock(&event->lock);
    return fits;
}

static int64_t
eventfd_read(struct file *file, struct io *io, uint64_t *position)
{
    struct eventfd *event = file->context;
    int64_t error;

    (void)position;
    if (io->left < sizeof(uint64_t)) {
        return -EINVAL;
    }
    for (;;) {
        uint64_t value = counter_take(event);

        if (value > 0) {
            wait_wake_all(&event->wait);
            return io_put(io, &value, sizeof value) == sizeof value ? (int64_t)sizeof value
                                                                    : -EFAULT;
        }
        if (atomic_load(&file->flags) & O_NONBLOCK) {
            return -EAGAIN;
        }
        WAIT_EVENT(error, &event->wait, atomic_load(&event->counter) > 0);
        if (error != 0) {
            return error;
        }
    }
}

static int64_t
eventfd_write(struct file *file, struct io *io, uint64_t *position)
{
    struct eventfd *event = file->context;
    uint64_t value;
    int64_t error;

    (void)position;
    if (io->left < sizeof value) {
        return -EINVAL;
    }
    if (io_take(io, &value, sizeof value) < sizeof value) {
        return -EFAULT;
    }
    if (value == UINT64_MAX) {
        return -EINVAL;
    }
    while (!counter_add(event, value)) {
        if (atomic_load(&file->flags) & O_NONBLOCK) {
            return -EAGAIN;
        }
        WAIT_EVENT(error, &event->wait, COUNTER_MAX - atomic_load(&event->counter) >= value);
        if (error != 0) {
            return error;
        }
    }
    wait_wake_all(&event->wait);
    return sizeof value;
}

/* There is no position, and Linux does not mind. */
static int64_t
eventfd_seek(struct file *file, int64_t offset, int whence)
{
    (void)file;
    (void)offset;
    (void)whence;
    return 0;
}

static uint32_t
eventfd_poll(struct file *file, struct poll_table *table)
{
    struct eventfd *event = file->context;

    poll_register(table, &event->wait);
    uint64_t value = atomic_load(&event->counter);
    return (value > 0 ? POLLIN | POLLRDNORM : 0) | (value < COUNTER_MAX ? POLLOUT | POLLWRNORM : 0);
}

static void
eventfd_describe(struct file *file, struct qr_writer *writer)
{
    struct eventfd *event = file->context;

    qr_writer_printf(writer, "eventfd-count: %16llx\neventfd-id: %u\n",
                     (unsigned long long)atomic_load(&event->counter), event->id);
}

static void
eventfd_release(struct file *file)
{
    kmem_charged_free(file->context);
}

static const struct file_ops eventfd_ops = {
    .name = "eventfd",
    .read = eventfd_read,
    .write = eventfd_write,
    .seek = eventfd_seek,
    .poll = eventfd_poll,
    .describe = eventfd_describe,
    .release = eventfd_release,
};

static int64_t
eventfd_make(uint32_t initial, uint32_t flags)
{
    static atomic_uint made;

    if (flags & ~(uint32_t)(EFD_SEMAPHORE | O_CLOEXEC | O_NONBLOCK)) {
        return -EINVAL;
    }
    struct eventfd *event = kmem_charged_zalloc(sizeof *event);
    if (event == NULL) {
        return -ENOMEM;
    }
    event->id = atomic_fetch_add(&made, 1);
    event->semaphore = (flags & EFD_SEMAPHORE) != 0;
    atomic_init(&event->counter, initial);
    wait_queue_init(&event->wait);
    struct file *file;
    int64_t error = file_create_anonymous("anon_inode:[eventfd]", &eventfd_ops,
                                          O_RDWR | (flags & O_NONBLOCK), event, &file);
    if (error != 0) {
        kmem_charged_free(event);
        return error;
    }
    int fd = fd_install(file, 0, (flags & O_CLOEXEC) != 0);
    file_put(file);
    return fd;
}

int64_t
sys_eventfd(const struct syscall_args *args)
{
    return eventfd_make((uint32_t)args->arg[0], 0);
}

int64_t
sys_eventfd2(const struct syscall_args *args)
{
    return eventfd_make((uint32_t)args->arg[0], (uint32_t)args->arg[1]);
}
