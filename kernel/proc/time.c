/* SPDX-License-Identifier: MIT */
/*
 * Clocks, sleeping, and the timers of processes.
 *
 * Every deadline inside the kernel is a monotonic time.  The time of day is the
 * monotonic time plus an offset, which clock_settime() changes; an absolute
 * sleep on it is converted when it starts.
 *
 * ITIMER_REAL and POSIX timers are kernel timers that re-arm themselves and post
 * a signal.  ITIMER_VIRTUAL, ITIMER_PROF and RLIMIT_CPU are counted down by the
 * tick.  A POSIX timer owns the slot of its signal: while that is pending,
 * further expiries only count as overruns.
 *
 * Locks: process->timer_lock guards a process's timers; a timer's function runs
 * without it and takes it.  Nothing else is taken inside but the timer queue's.
 */
#include "proc_private.h"

#include <quire/assert.h>

#include "abi_errno.h"
#include "kstring.h"
#include "sched_private.h"
#include "syscall.h"

#define NS 1000000000ull

enum {
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
    CLOCK_REALTIME_ALARM,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_TAI = 11
};
enum { TIMER_ABSTIME = 1, CAP_SYS_TIME = 25, TIMERS_LIMIT = 1024 };
enum { ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF };
enum { SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 4 };

struct timespec64 {
    int64_t seconds, ns;
};

static _Atomic uint64_t wall_offset;

/* ---- clocks -------------------------------------------------------------------- */

void
clock_init_wall(void)
{
    atomic_store(&wall_offset, clock_realtime_ns() - clock_monotonic_ns());
}

uint64_t
clock_wall_ns(void)
{
    return clock_monotonic_ns() + atomic_load_explicit(&wall_offset, memory_order_relaxed);
}

void
clock_wall_set(uint64_t ns)
{
    atomic_store(&wall_offset, ns - clock_monotonic_ns());
}

static uint64_t
process_cpu_ns(struct process *process)
{
    struct usage used;

    process_tree_lock();
    process_usage(process, &used);
    process_tree_unlock();
    return used.user_ns + used.system_ns;
}

/* @return 0, or -EINVAL for a clock that does not exist */
static int64_t
clock_read(int32_t clock, uint64_t *out)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_TAI:
        *out = clock_wall_ns();
        return 0;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
        *out = clock_monotonic_ns();
        return 0;
    case CLOCK_PROCESS_CPUTIME_ID:
        *out = process_cpu_ns(process_current());
        return 0;
    case CLOCK_THREAD_CPUTIME_ID:
        *out = sched_run_ns(thread_current());
        return 0;
    default:
        break;
    }
    if (clock >= 0)
        return -EINVAL;
    /* CPU clocks of others: ~pid << 3 | kind, bit 2 for a thread's. */
    int32_t id = ~(clock >> 3);

    if ((clock & 3) == 3)
        return -EINVAL;
    if (clock & 4) {
        struct thread *thread = id == 0 ? thread_current() : thread_find(id);

        if (thread == NULL)
            return -EINVAL;
        *out = sched_run_ns(thread);
        if (id != 0)
            thread_put(thread);
        return 0;
    }
    struct process *process = id == 0 ? process_current() : process_find(id);

    if (process == NULL)
        return -EINVAL;
    *out = process_cpu_ns(process);
    if (id != 0)
        process_put(process);
    return 0;
}

static bool
clock_is_wall(int32_t clock)
{
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM || clock == CLOCK_TAI;
}

static struct timespec64
timespec_of(uint64_t ns)
{
    return (struct timespec64){.seconds = (int64_t)(ns / NS), .ns = (int64_t)(ns % NS)};
}

static int64_t
timespec_write(uint64_t address, uint64_t ns)
{
    struct timespec64 time = timespec_of(ns);

    return user_write(address, &time, sizeof(time));
}

/* Nanoseconds, saturated. */
static int64_t
timespec_to_ns(const struct timespec64 *time, uint64_t *out)
{
    intptr_t ns = (intptr_t)time->ns; /* a long: on 32 bits the rest is padding */

    if (time->seconds < 0 || ns < 0 || ns >= (intptr_t)NS)
        return -EINVAL;
    if ((uint64_t)time->seconds >= (UINT64_MAX >> 1) / NS)
        *out = UINT64_MAX >> 1;
    else
        *out = (uint64_t)time->seconds * NS + (uint64_t)ns;
    return 0;
}

static int64_t
timespec_read(uint64_t address, uint64_t *out)
{
    struct timespec64 time;

    if (user_read(&time, address, sizeof(time)) != 0)
        return -EFAULT;
    return timespec_to_ns(&time, out);
}

int64_t
deadline_from_user(uint64_t address, uint64_t *out_deadline)
{
    uint64_t ns;
    int64_t error = timespec_read(address, &ns);

    if (error == 0)
        *out_deadline = clock_monotonic_ns() + ns;
    return error;
}

uint64_t
wall_to_monotonic(uint64_t wall)
{
    uint64_t offset = atomic_load_explicit(&wall_offset, memory_order_relaxed);

    return wall > offset ? wall - offset : 0;
}

int64_t
deadline_from_user_absolute(uint64_t address, bool realtime, uint64_t *out_deadline)
{
    uint64_t ns;
    int64_t error = timespec_read(address, &ns);

    if (error == 0)
        *out_deadline = realtime ? wall_to_monotonic(ns) : ns;
    return error;
}

int64_t
sys_clock_gettime(const struct syscall_args *args)
{
    uint64_t ns;
    int64_t error = clock_read((int32_t)args->arg[0], &ns);

    return error != 0 ? error : timespec_write(args->arg[1], ns);
}

int64_t
sys_clock_getres(const struct syscall_args *args)
{
    int32_t clock = (int32_t)args->arg[0];
    uint64_t ns;
    int64_t error = clock_read(clock, &ns);

    if (error != 0 || args->arg[1] == 0)
        return error;
    ns = clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE ? TICK_NS : 1;
    return timespec_write(args->arg[1], ns);
}

int64_t
sys_clock_settime(const struct syscall_args *args)
{
    uint64_t ns;
    int64_t error;

    if ((int32_t)args->arg[0] != CLOCK_REALTIME)
        return -EINVAL;
    error = timespec_read(args->arg[1], &ns);
    if (error != 0)
        return error;
    if (!process_has_capability(CAP_SYS_TIME))
        return -EPERM;
    if (ns < clock_monotonic_ns())
        return -EINVAL;
    clock_wall_set(ns);
    return 0;
}

int64_t
sys_gettimeofday(const struct syscall_args *args)
{
    uint64_t now = clock_wall_ns(), zone = 0;
    int64_t time[2] = {(int64_t)(now / NS), (int64_t)(now % NS / 1000)};

    if (args->arg[0] != 0 && user_write(args->arg[0], time, sizeof(time)) != 0)
        return -EFAULT;
    if (args->arg[1] != 0 && user_write(args->arg[1], &zone, sizeof(zone)) != 0)
        return -EFAULT;
    return 0;
}

int64_t
sys_settimeofday(const struct syscall_args *args)
{
    int64_t time[2];

    if (args->arg[0] == 0)
        return 0;
    if (user_read(time, args->arg[0], sizeof(time)) != 0)
        return -EFAULT;
    if (time[0] < 0 || time[0] > INT32_MAX * (int64_t)256 || time[1] < 0 || time[1] >= 1000000)
        return -EINVAL;
    if (!process_has_capability(CAP_SYS_TIME))
        return -EPERM;
    clock_wall_set((uint64_t)time[0] * NS + (uint64_t)time[1] * 1000);
    return 0;
}

int64_t
sys_time(const struct syscall_args *args)
{
    uint64_t seconds = clock_wall_ns() / NS;

    if (args->arg[0] != 0 && user_write_u64(args->arg[0], seconds) != 0)
        return -EFAULT;
    return (int64_t)seconds;
}

int64_t
sys_times(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct usage own, children;
    const uint64_t tick = NS / 100;

    process_tree_lock();
    process_usage(process, &own);
    children = process->children_used;
    process_tree_unlock();
    if (args->arg[0] != 0) {
        uint64_t times[4] = {own.user_ns / tick, own.system_ns / tick, children.user_ns / tick,
                             children.system_ns / tick};

        if (user_write(args->arg[0], times, sizeof(times)) != 0)
            return -EFAULT;
    }
    return (int64_t)(clock_monotonic_ns() / tick);
}

/* ---- sleeping ----------------------------------------------------------------------- */

static int64_t restart_nanosleep(struct thread *thread);

/* Sleep until @deadline; @remaining: where to tell what is left if a signal comes, or 0. */
static int64_t
sleep_restartable(uint64_t deadline, uint64_t remaining)
{
    struct thread *thread = thread_current();
    int64_t result = wait_until(deadline);

    if (result == -ETIMEDOUT)
        return 0;
    uint64_t now = clock_monotonic_ns();

    if (remaining != 0 && timespec_write(remaining, deadline > now ? deadline - now : 0) != 0)
        return -EFAULT;
    thread->restart = restart_nanosleep;
    thread->restart_args[0] = deadline;
    thread->restart_args[1] = remaining;
    return -ERESTART_RESTARTBLOCK;
}

static int64_t
restart_nanosleep(struct thread *thread)
{
    return sleep_restartable(thread->restart_args[0], thread->restart_args[1]);
}

int64_t
sys_nanosleep(const struct syscall_args *args)
{
    uint64_t deadline;
    int64_t error = deadline_from_user(args->arg[0], &deadline);

    return error != 0 ? error : sleep_restartable(deadline, args->arg[1]);
}

int64_t
sys_clock_nanosleep(const struct syscall_args *args)
{
    int32_t clock = (int32_t)args->arg[0];
    uint64_t flags = args->arg[1], ns, now;
    int64_t error;

    if (clock == CLOCK_THREAD_CPUTIME_ID || clock == CLOCK_MONOTONIC_RAW ||
        clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC_COARSE)
        return clock == CLOCK_THREAD_CPUTIME_ID ? -EINVAL : -EOPNOTSUPP;
    error = clock_read(clock, &now);
    if (error != 0)
        return error;
    error = timespec_read(args->arg[2], &ns);
    if (error != 0)
        return error;
    if (!(flags & TIMER_ABSTIME))
        return sleep_restartable(clock_monotonic_ns() + ns, args->arg[3]);
    if (wait_until(clock_is_wall(clock) ? wall_to_monotonic(ns) : ns) == -ETIMEDOUT)
        return 0;
    return -ERESTARTNOHAND;
}

/* ---- ITIMER_REAL ------------------------------------------------------------------------ */

static void
alarm_expire(struct timer *timer)
{
    struct process *process = qr_container_of(timer, struct process, alarm);

    (void)signal_send_process(process, SIGALRM, NULL);
    qr_spin_lock(&process->timer_lock);
    if (process->alarm_interval != 0 && process->alarm_deadline != 0) {
        uint64_t now = clock_monotonic_ns();

        do {
            process->alarm_deadline += process->alarm_interval;
        } while (process->alarm_deadline <= now && process->alarm_interval >= TICK_NS / 4);
        timer_arm(timer, process->alarm_deadline);
    } else {
        process->alarm_deadline = 0;
    }
    qr_spin_unlock(&process->timer_lock);
}

static void
alarm_set(struct process *process, uint64_t value, uint64_t interval, uint64_t *out_left,
          uint64_t *out_interval)
{
    uint64_t now = clock_monotonic_ns();

    qr_spin_lock(&process->timer_lock);
    *out_left = process->alarm_deadline == 0    ? 0
                : process->alarm_deadline > now ? process->alarm_deadline - now
                                                : 1000;
    *out_interval = process->alarm_interval;
    process->alarm_interval = interval;
    process->alarm_deadline = value == 0 ? 0 : now + value;
    timer_set_locked(&process->alarm, process->alarm_deadline);
    qr_spin_unlock(&process->timer_lock);
}

int64_t
sys_alarm(const struct syscall_args *args)
{
    uint64_t left, interval;

    alarm_set(process_current(), (uint64_t)(uint32_t)args->arg[0] * NS, 0, &left, &interval);
    /* Rounded, but never 0 while something was pending. */
    return left == 0 ? 0 : (int64_t)((left + NS / 2) / NS == 0 ? 1 : (left + NS / 2) / NS);
}

/* ---- ITIMER_VIRTUAL, ITIMER_PROF, RLIMIT_CPU: by the tick -------------------------------- */

static bool
count_down(uint64_t *left, uint64_t interval)
{
    if (*left == 0)
        return false;
    if (*left > TICK_NS) {
        *left -= TICK_NS;
        return false;
    }
    *left = interval;
    return true;
}

static void
tick_cpu_timers(struct process *process, bool user)
{
    bool virtual_due = false, profile_due;

    qr_spin_lock(&process->timer_lock);
    if (user)
        virtual_due = count_down(&process->virtual_left, process->virtual_interval);
    profile_due = count_down(&process->profile_left, process->profile_interval);
    qr_spin_unlock(&process->timer_lock);
    if (virtual_due)
        (void)signal_send_process(process, SIGVTALRM, NULL);
    if (profile_due)
        (void)signal_send_process(process, SIGPROF, NULL);
}

static void
tick_cpu_limit(struct process *process)
{
    uint64_t soft = process->limits[RLIMIT_CPU].soft, hard = process->limits[RLIMIT_CPU].hard;
    uint64_t used = process_cpu_ns(process) / NS;

    if (hard != RLIM_INFINITY && used >= hard)
        (void)signal_send_process(process, SIGKILL, NULL);
    else if (used >= soft && used != process->cpu_limit_told) {
        process->cpu_limit_told = used;
        (void)signal_send_process(process, SIGXCPU, NULL);
    }
}

void
process_tick(struct thread *thread)
{
    struct process *process = thread->process;

    if (process == NULL)
        return;
    if (thread->in_kernel)
        thread->system_ticks++;
    else
        thread->user_ticks++;
    if (process->cpu_timers_on)
        tick_cpu_timers(process, !thread->in_kernel);
    if (process->limits[RLIMIT_CPU].soft != RLIM_INFINITY)
        tick_cpu_limit(process);
}

static int64_t
itimer_swap(int which, const uint64_t *new_value, uint64_t out_old[2])
{
    struct process *process = process_current();

    if (which == ITIMER_REAL && new_value != NULL) {
        alarm_set(process, new_value[1], new_value[0], &out_old[1], &out_old[0]);
        return 0;
    }
    qr_spin_lock(&process->timer_lock);
    if (which == ITIMER_REAL) {
        uint64_t now = clock_monotonic_ns();

        out_old[0] = process->alarm_interval;
        out_old[1] = process->alarm_deadline > now ? process->alarm_deadline - now : 0;
    } else {
        uint64_t *left = which == ITIMER_VIRTUAL ? &process->virtual_left : &process->profile_left;
        uint64_t *interval =
            which == ITIMER_VIRTUAL ? &process->virtual_interval : &process->profile_interval;

        out_old[0] = *interval;
        out_old[1] = *left;
        if (new_value != NULL) {
            *interval = new_value[0];
            *left = new_value[1];
        }
        process->cpu_timers_on = process->virtual_left != 0 || process->profile_left != 0;
    }
    qr_spin_unlock(&process->timer_lock);
    return 0;
}

/* struct itimerval: interval, value; each seconds and microseconds. */
static int64_t
itimer_read(uint64_t address, uint64_t out[2])
{
    int64_t raw[4];

    if (user_read(raw, address, sizeof(raw)) != 0)
        return -EFAULT;
    for (unsigned i = 0; i < 2; i++) {
        struct timespec64 time = {.seconds = raw[i * 2], .ns = raw[i * 2 + 1] * 1000};

        if (raw[i * 2 + 1] < 0 || raw[i * 2 + 1] >= 1000000 || timespec_to_ns(&time, &out[i]) != 0)
            return -EINVAL;
    }
    return 0;
}

static int64_t
itimer_write(uint64_t address, const uint64_t value[2])
{
    int64_t raw[4] = {(int64_t)(value[0] / NS), (int64_t)(value[0] % NS / 1000),
                      (int64_t)(value[1] / NS), (int64_t)(value[1] % NS / 1000)};

    return user_write(address, raw, sizeof(raw));
}

int64_t
sys_getitimer(const struct syscall_args *args)
{
    int which = (int)args->arg[0];
    uint64_t old[2];

    if (which < ITIMER_REAL || which > ITIMER_PROF)
        return -EINVAL;
    (void)itimer_swap(which, NULL, old);
    return itimer_write(args->arg[1], old);
}

int64_t
sys_setitimer(const struct syscall_args *args)
{
    int which = (int)args->arg[0];
    uint64_t value[2] = {0, 0}, old[2];
    int64_t error = 0;

    if (which < ITIMER_REAL || which > ITIMER_PROF)
        return -EINVAL;
    if (args->arg[1] != 0)
        error = itimer_read(args->arg[1], value);
    if (error != 0)
        return error;
    (void)itimer_swap(which, value, old);
    return args->arg[2] == 0 ? 0 : itimer_write(args->arg[2], old);
}

/* ---- POSIX timers ------------------------------------------------------------------------- */

struct signal_timer {
    struct timer timer;
    struct qr_list link;         /* timer_lock: process->posix_timers */
    struct process *process;     /* const; the timer ends before the process does */
    int32_t id;                  /* const */
    int32_t clock;               /* const */
    int notify;                  /* const: SIGEV_* */
    int32_t tid;                 /* const: SIGEV_THREAD_ID, else 0 */
    uint64_t deadline, interval; /* timer_lock; deadline 0: off */
    uint32_t overruns;           /* signal_lock: expiries since the signal was queued */
    uint32_t reported;           /* signal_lock: of the last one that was taken */
    struct signal_queued slot;
};

static void
posix_expire(struct timer *timer)
{
    struct signal_timer *posix = qr_container_of(timer, struct signal_timer, timer);
    struct process *process = posix->process;
    uint32_t missed = 0;

    qr_spin_lock(&process->timer_lock);
    if (posix->interval != 0 && posix->deadline != 0) {
        uint64_t now = clock_monotonic_ns(), late = now - posix->deadline;

        missed = (uint32_t)(late / posix->interval);
        posix->deadline += (uint64_t)(missed + 1) * posix->interval;
        timer_arm(timer, posix->deadline);
    } else {
        posix->deadline = 0;
    }
    qr_spin_unlock(&process->timer_lock);
    if (posix->notify == SIGEV_NONE)
        return;
    if (signal_post_timer(process, &posix->slot, posix->tid))
        posix->overruns = missed;
    else
        posix->overruns += missed + 1;
}

void
signal_timer_taken(struct signal_timer *timer, struct signal_info *info)
{
    timer->reported = timer->overruns;
    info->timer.overrun = (int32_t)timer->overruns;
    timer->overruns = 0;
}

static struct signal_timer *
posix_find(struct process *process, int32_t id)
{
    qr_list_for_each(link, &process->posix_timers)
    {
        struct signal_timer *posix = qr_list_entry(link, struct signal_timer, link);

        if (posix->id == id)
            return posix;
    }
    return NULL;
}

static void
posix_destroy(struct signal_timer *posix)
{
    (void)timer_cancel(&posix->timer);
    signal_retract_timer(posix->process, &posix->slot);
    kmem_charged_free(posix);
}

struct sigevent_user {
    uint64_t value;
    int32_t number;
    int32_t notify;
    int32_t tid;
    int32_t pad[11];
};

static int64_t
sigevent_check(const struct sigevent_user *event)
{
    if (event->notify == SIGEV_NONE)
        return 0;
    if (event->notify != SIGEV_SIGNAL && event->notify != SIGEV_THREAD &&
        event->notify != (SIGEV_SIGNAL | SIGEV_THREAD_ID))
        return -EINVAL;
    if (event->number < 1 || event->number > SIGRTMAX)
        return -EINVAL;
    if (event->notify & SIGEV_THREAD_ID) {
        struct thread *thread = thread_find(event->tid);
        bool ours = thread != NULL && thread->process == process_current();

        if (thread != NULL)
            thread_put(thread);
        return ours ? 0 : -EINVAL;
    }
    return 0;
}

int64_t
sys_timer_create(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct sigevent_user event = {.number = SIGALRM, .notify = SIGEV_SIGNAL};
    struct signal_timer *posix;
    uint64_t now;
    int64_t error = clock_read((int32_t)args->arg[0], &now);

    if (error != 0)
        return error;
    if ((int32_t)args->arg[0] == CLOCK_THREAD_CPUTIME_ID ||
        (int32_t)args->arg[0] == CLOCK_PROCESS_CPUTIME_ID || (int32_t)args->arg[0] < 0)
        return -EOPNOTSUPP; /* timers count real time only */
    if (args->arg[1] != 0 && user_read(&event, args->arg[1], sizeof(event)) != 0)
        return -EFAULT;
    error = sigevent_check(&event);
    if (error != 0)
        return error;
    posix = kmem_charged_zalloc(sizeof(*posix));
    if (posix == NULL)
        return -EAGAIN;
    timer_init(&posix->timer, posix_expire);
    qr_list_init(&posix->slot.link);
    posix->process = process;
    posix->clock = (int32_t)args->arg[0];
    posix->notify = event.notify;
    posix->tid = event.notify & SIGEV_THREAD_ID ? event.tid : 0;
    posix->slot.embedded = true;
    posix->slot.timer = posix;
    posix->slot.info.number = event.number;
    posix->slot.info.code = SI_TIMER;

    qr_spin_lock(&process->timer_lock);
    if (process->posix_timer_count >= TIMERS_LIMIT) {
        qr_spin_unlock(&process->timer_lock);
        kmem_charged_free(posix);
        return -EAGAIN;
    }
    posix->id = process->next_timer_id++;
    posix->slot.info.timer.id = posix->id;
    posix->slot.info.timer.value = args->arg[1] != 0 ? event.value : (uint64_t)posix->id;
    process->posix_timer_count++;
    qr_list_push_back(&process->posix_timers, &posix->link);
    int32_t id = posix->id;
    qr_spin_unlock(&process->timer_lock);

    if (user_write_u32(args->arg[2], (uint32_t)id) != 0) {
        struct syscall_args undo = {{(uint64_t)id}};

        (void)sys_timer_delete(&undo);
        return -EFAULT;
    }
    return 0;
}

/* timer_lock held. */
static void
posix_report(const struct signal_timer *posix, uint64_t out[2])
{
    uint64_t now = clock_monotonic_ns();

    out[0] = posix->interval;
    out[1] = posix->deadline == 0 ? 0 : posix->deadline > now ? posix->deadline - now : 1;
}

int64_t
itimerspec_write(uint64_t address, const uint64_t value[2])
{
    struct timespec64 raw[2] = {timespec_of(value[0]), timespec_of(value[1])};

    return user_write(address, raw, sizeof(raw));
}

int64_t
itimerspec_read(uint64_t address, uint64_t out[2])
{
    struct timespec64 raw[2];

    if (user_read(raw, address, sizeof(raw)) != 0)
        return -EFAULT;
    if (timespec_to_ns(&raw[0], &out[0]) != 0 || timespec_to_ns(&raw[1], &out[1]) != 0)
        return -EINVAL;
    return 0;
}

int64_t
sys_timer_settime(const struct syscall_args *args)
{
    struct process *process = process_current();
    uint64_t wanted[2], old[2];
    struct signal_timer *posix;
    int64_t error = itimerspec_read(args->arg[2], wanted);

    if (error != 0)
        return error;
    qr_spin_lock(&process->timer_lock);
    posix = posix_find(process, (int32_t)args->arg[0]);
    if (posix == NULL) {
        qr_spin_unlock(&process->timer_lock);
        return -EINVAL;
    }
    posix_report(posix, old);
    posix->interval = wanted[0];
    if (wanted[1] == 0) {
        posix->deadline = 0;
    } else if (args->arg[1] & TIMER_ABSTIME) {
        posix->deadline = clock_is_wall(posix->clock) ? wall_to_monotonic(wanted[1]) : wanted[1];
        posix->deadline = posix->deadline == 0 ? 1 : posix->deadline;
    } else {
        posix->deadline = clock_monotonic_ns() + wanted[1];
    }
    timer_set_locked(&posix->timer, posix->deadline);
    qr_spin_unlock(&process->timer_lock);
    return args->arg[3] == 0 ? 0 : itimerspec_write(args->arg[3], old);
}

int64_t
sys_timer_gettime(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct signal_timer *posix;
    uint64_t now[2];

    qr_spin_lock(&process->timer_lock);
    posix = posix_find(process, (int32_t)args->arg[0]);
    if (posix != NULL)
        posix_report(posix, now);
    qr_spin_unlock(&process->timer_lock);
    return posix == NULL ? -EINVAL : itimerspec_write(args->arg[1], now);
}

int64_t
sys_timer_getoverrun(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct signal_timer *posix;
    int64_t result = -EINVAL;

    qr_spin_lock(&process->timer_lock);
    posix = posix_find(process, (int32_t)args->arg[0]);
    if (posix != NULL)
        result = posix->reported;
    qr_spin_unlock(&process->timer_lock);
    return result;
}

int64_t
sys_timer_delete(const struct syscall_args *args)
{
    struct process *process = process_current();
    struct signal_timer *posix;

    qr_spin_lock(&process->timer_lock);
    posix = posix_find(process, (int32_t)args->arg[0]);
    if (posix != NULL) {
        qr_list_remove(&posix->link);
        process->posix_timer_count--;
        posix->deadline = 0;
        posix->interval = 0;
    }
    qr_spin_unlock(&process->timer_lock);
    if (posix == NULL)
        return -EINVAL;
    posix_destroy(posix);
    return 0;
}

/* ---- a process's timers come and go ------------------------------------------------------------ */

void
process_timers_init(struct process *process)
{
    qr_spin_init(&process->timer_lock, QR_RANK_NONE);
    qr_list_init(&process->posix_timers);
    timer_init(&process->alarm, alarm_expire);
}

void
posix_timers_destroy(struct process *process)
{
    for (;;) {
        struct qr_list *link;
        struct signal_timer *posix = NULL;

        qr_spin_lock(&process->timer_lock);
        link = qr_list_pop_front(&process->posix_timers);
        if (link != NULL) {
            posix = qr_list_entry(link, struct signal_timer, link);
            process->posix_timer_count--;
            posix->deadline = 0;
            posix->interval = 0;
        }
        qr_spin_unlock(&process->timer_lock);
        if (posix == NULL)
            return;
        posix_destroy(posix);
    }
}

void
process_timers_destroy(struct process *process)
{
    uint64_t left, interval;

    alarm_set(process, 0, 0, &left, &interval);
    (void)timer_cancel(&process->alarm);
    posix_timers_destroy(process);
}
