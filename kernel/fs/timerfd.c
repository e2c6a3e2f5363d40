/* SPDX-License-Identifier: MIT */
/*
 * timerfd: a timer whose expirations readers wait for.
 *
 * The timer goes off once and is armed again when somebody looks: a short interval that nobody
 * reads costs nothing, and what was missed is counted from the time that has passed.
 *
 * A time of the wall clock is turned into a monotonic one when it is set, so a later change of
 * the clock does not move it, and TFD_TIMER_CANCEL_ON_SET never cancels.
 *
 * Lock: timer->lock, a spin lock that the timer's function takes, too.
 */

#include "fd_table.h"
#include "fs.h"
#include "proc.h"
#include "syscall.h"

enum { CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7 };
enum { CLOCK_REALTIME_ALARM = 8, CLOCK_BOOTTIME_ALARM = 9, CAP_WAKE_ALARM = 35 };
enum { TIMER_ABSOLUTE = 1, TIMER_CANCEL_ON_SET = 2 };

struct timerfd {
    struct qr_spin lock;
    struct timer timer;
    uint64_t deadline; /* lock: of the expiration that comes or, if it has, came; 0: off */
    uint64_t interval; /* lock: 0: once */
    _Atomic uint64_t expirations; /* lock to write: not read yet */
    bool expired;                 /* lock: the timer went off and is not armed */
    bool wall;                    /* constant */
    struct wait_queue wait;
};

static void
timerfd_expire(struct timer *timer)
{
    struct timerfd *self = qr_container_of(timer, struct timerfd, timer);

    qr_spin_lock(&self->lock);
    bool due = self->deadline != 0 && self->deadline <= clock_monotonic_ns() && !self->expired;
    if (due) {
        self->expired = true;
        atomic_fetch_add(&self->expirations, 1);
    }
    qr_spin_unlock(&self->lock);
    if (due) {
        wait_wake_all(&self->wait);
    }
}

/* Count what came since it went off, and arm it again. Lock held. */
static void
timerfd_advance(struct timerfd *self)
{
    if (!self->expired || self->interval == 0) {
        return;
    }
    uint64_t now = clock_monotonic_ns();
    uint64_t missed = now > self->deadline ? (now - self->deadline) / self->interval : 0;

    atomic_fetch_add(&self->expirations, missed);
    self->deadline += (missed + 1) * self->interval;
    self->expired = false;
    timer_set_locked(&self->timer, self->deadline);
}

/* Take what a read gets. @return 0: nothing has expired */
static uint64_t
timerfd_take(struct timerfd *self)
{
    qr_spin_lock(&self->lock);
    if (atomic_load(&self->expirations) > 0) {
        timerfd_advance(self);
    }
    uint64_t count = atomic_exchange(&self->expirations, 0);
    qr_spin_unlock(&self->lock);
    return count;
}

static int64_t
timerfd_read(struct file *file, struct io *io, uint64_t *position)
{
    struct timerfd *self = file->context;
    int64_t error;

    (void)position;
    if (io->left < sizeof(uint64_t)) {
        return -EINVAL;
    }
    for (;;) {
        uint64_t count = timerfd_take(self);

        if (count > 0) {
            return io_put(io, &count, sizeof count) == sizeof count ? (int64_t)sizeof count
                                                                    : -EFAULT;
        }
        if (atomic_load(&file->flags) & O_NONBLOCK) {
            return -EAGAIN;
        }
        WAIT_EVENT(error, &self->wait, atomic_load(&self->expirations) > 0);
        if (error != 0) {
            return error;
        }
    }
}

static uint32_t
timerfd_poll(struct file *file, struct poll_table *table)
{
    struct timerfd *self = file->context;

    poll_register(table, &self->wait);
    return atomic_load(&self->expirations) > 0 ? POLLIN | POLLRDNORM : 0;
}

static void
timerfd_release(struct file *file)
{
    struct timerfd *self = file->context;

    (void)timer_cancel(&self->timer);
    kmem_charged_free(self);
}

static const struct file_ops timerfd_ops = {
    .name = "timerfd",
    .read = timerfd_read,
    .poll = timerfd_poll,
    .release = timerfd_release,
};

static bool
clock_is_known(int32_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
           clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM;
}

int64_t
sys_timerfd_create(const struct syscall_args *args)
{
    int32_t clock = (int32_t)args->arg[0];
    uint32_t flags = (uint32_t)args->arg[1];

    if (!clock_is_known(clock) || (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK))) {
        return -EINVAL;
    }
    if (clock >= CLOCK_REALTIME_ALARM && !process_has_capability(CAP_WAKE_ALARM)) {
        return -EPERM;
    }
    struct timerfd *self = kmem_charged_zalloc(sizeof *self);
    if (self == NULL) {
        return -ENOMEM;
    }
    self->wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
    timer_init(&self->timer, timerfd_expire);
    wait_queue_init(&self->wait);
    struct file *file;
    int64_t error = file_create_anonymous("anon_inode:[timerfd]", &timerfd_ops,
                                          O_RDWR | (flags & O_NONBLOCK), self, &file);
    if (error != 0) {
        kmem_charged_free(self);
        return error;
    }
    int fd = fd_install(file, 0, (flags & O_CLOEXEC) != 0);
    file_put(file);
    return fd;
}

/* @return 0, -EBADF, -EINVAL: no timer */
static int64_t
timerfd_get(int fd, struct file **out)
{
    struct file *file = file_get(fd);

    if (file == NULL) {
        return -EBADF;
    }
    if (file->ops != &timerfd_ops) {
        file_put(file);
        return -EINVAL;
    }
    *out = file;
    return 0;
}

/* Interval, and what is left. Lock held. */
static void
timerfd_report(struct timerfd *self, uint64_t out[2])
{
    timerfd_advance(self);
    uint64_t now = clock_monotonic_ns();
    bool runs = self->deadline != 0 && !self->expired;

    out[0] = self->interval;
    out[1] = !runs ? 0 : self->deadline > now ? self->deadline - now : 1;
}

/* Lock held. */
static void
timerfd_set(struct timerfd *self, const uint64_t wanted[2], bool absolute)
{
    self->interval = wanted[0];
    self->expired = false;
    atomic_store(&self->expirations, 0);
    if (wanted[1] == 0) {
        self->deadline = 0;
    } else if (absolute) {
        self->deadline = self->wall ? wall_to_monotonic(wanted[1]) : wanted[1];
        self->deadline = self->deadline == 0 ? 1 : self->deadline;
    } else {
        self->deadline = clock_monotonic_ns() + wanted[1];
    }
    timer_set_locked(&self->timer, self->deadline);
}

int64_t
sys_timerfd_settime(const struct syscall_args *args)
{
    uint32_t flags = (uint32_t)args->arg[1];
    uint64_t wanted[2], old[2];
    struct file *file;
    int64_t error = itimerspec_read(args->arg[2], wanted);

    if (error == 0 && (flags & ~(uint32_t)(TIMER_ABSOLUTE | TIMER_CANCEL_ON_SET))) {
        error = -EINVAL;
    }
    if (error == 0) {
        error = timerfd_get((int32_t)args->arg[0], &file);
    }
    if (error != 0) {
        return error;
    }
    struct timerfd *self = file->context;
    qr_spin_lock(&self->lock);
    timerfd_report(self, old);
    timerfd_set(self, wanted, (flags & TIMER_ABSOLUTE) != 0);
    qr_spin_unlock(&self->lock);
    file_put(file);
    return args->arg[3] == 0 ? 0 : itimerspec_write(args->arg[3], old);
}

int64_t
sys_timerfd_gettime(const struct syscall_args *args)
{
    uint64_t now[2];
    struct file *file;
    int64_t error = timerfd_get((int32_t)args->arg[0], &file);

    if (error != 0) {
        return error;
    }
    struct timerfd *self = file->context;
    qr_spin_lock(&self->lock);
    timerfd_report(self, now);
    qr_spin_unlock(&self->lock);
    file_put(file);
    return itimerspec_write(args->arg[1], now);
}
