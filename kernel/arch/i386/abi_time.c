/* SPDX-License-Identifier: MIT */
/*
 * Times of 32 bits: timespec, timeval, their pairs, and what else carries a time.
 * The *_time64 calls have the kernel's own layouts and need nothing from here.
 */
#include "abi.h"

#include "wait.h"

#define NS 1000000000u

/* A call whose argument @n points to @count times that it reads. */
static int64_t
call_with_times(syscall_fn call, const struct syscall_args *args, unsigned n, unsigned count)
{
    struct abi_time times[2];
    struct syscall_args native = *args;

    if (args->arg[n] == 0)
        return call(args);
    if (abi_times_read(times, args->arg[n], count) != 0)
        return -EFAULT;
    native.arg[n] = exchange_address(times);
    return exchange_call(call, &native, times, sizeof times);
}

/* A call whose argument @n points to @count times that it writes. */
static int64_t
call_for_times(syscall_fn call, const struct syscall_args *args, unsigned n, unsigned count)
{
    struct abi_time times[2];
    struct syscall_args native = *args;
    int64_t result;

    if (args->arg[n] == 0)
        return call(args);
    native.arg[n] = exchange_address(times);
    result = exchange_call(call, &native, times, sizeof times);
    return result == 0 ? abi_times_write(args->arg[n], times, count) : result;
}

/* One timer's setting: argument @n is read, @n + 1 is where the old one goes. */
static int64_t
call_timer(syscall_fn call, const struct syscall_args *args, unsigned n)
{
    struct {
        struct abi_time new[2], old[2];
    } block;
    struct syscall_args native = *args;
    int64_t result;

    if (args->arg[n] != 0) {
        if (abi_times_read(block.new, args->arg[n], 2) != 0)
            return -EFAULT;
        native.arg[n] = exchange_address(block.new);
    }
    if (args->arg[n + 1] != 0)
        native.arg[n + 1] = exchange_address(block.old);
    result = exchange_call(call, &native, &block, sizeof block);
    if (result == 0 && args->arg[n + 1] != 0)
        result = abi_times_write(args->arg[n + 1], block.old, 2);
    return result;
}

/* A wait with a time in argument @n, which gets back what is left. */
static int64_t
call_wait(syscall_fn call, const struct syscall_args *args, unsigned n)
{
    struct abi_time time;
    struct syscall_args native = *args;
    int64_t result;

    if (args->arg[n] == 0)
        return call(args);
    if (abi_times_read(&time, args->arg[n], 1) != 0)
        return -EFAULT;
    native.arg[n] = exchange_address(&time);
    result = exchange_call(call, &native, &time, sizeof time);
    (void)abi_times_write(args->arg[n], &time, 1); /* as Linux: a failure does not matter */
    return result;
}

/* ---- Clocks ------------------------------------------------------------------------ */

int64_t
abi_time(const struct syscall_args *args)
{
    struct syscall_args native = {{0}};
    int64_t seconds = sys_time(&native);

    if (args->arg[0] != 0 && user_write_u32(args->arg[0], (uint32_t)seconds) != 0)
        return -EFAULT;
    return (int32_t)seconds;
}

int64_t
abi_stime(const struct syscall_args *args)
{
    struct abi_time time = {0};
    struct syscall_args native = {{0, exchange_address(&time)}};
    uint32_t seconds;

    if (user_read_u32(&seconds, args->arg[0]) != 0)
        return -EFAULT;
    time.seconds = (int32_t)seconds;
    return exchange_call(sys_clock_settime, &native, &time, sizeof time);
}

int64_t
abi_times(const struct syscall_args *args)
{
    uint64_t native_times[4];
    uint32_t times[4];
    struct syscall_args native = {{args->arg[0] ? exchange_address(native_times) : 0}};
    int64_t result = exchange_call(sys_times, &native, native_times, sizeof native_times);

    for (unsigned i = 0; i < 4 && args->arg[0] != 0; i++)
        times[i] = (uint32_t)native_times[i];
    if (args->arg[0] != 0 && user_write(args->arg[0], times, sizeof times) != 0)
        return -EFAULT;
    return result;
}

int64_t
abi_gettimeofday(const struct syscall_args *args)
{
    return call_for_times(sys_gettimeofday, args, 0, 1);
}

int64_t
abi_settimeofday(const struct syscall_args *args)
{
    return call_with_times(sys_settimeofday, args, 0, 1);
}

int64_t
abi_clock_gettime(const struct syscall_args *args)
{
    return call_for_times(sys_clock_gettime, args, 1, 1);
}

int64_t
abi_clock_settime(const struct syscall_args *args)
{
    return call_with_times(sys_clock_settime, args, 1, 1);
}

int64_t
abi_clock_getres(const struct syscall_args *args)
{
    return call_for_times(sys_clock_getres, args, 1, 1);
}

int64_t
abi_sched_rr_get_interval(const struct syscall_args *args)
{
    return call_for_times(sys_sched_rr_get_interval, args, 1, 1);
}

/* ---- Sleeping ---------------------------------------------------------------------- */

/*
 * The sleep may go on as restart_syscall, when this call's block is gone: so what is
 * left is worked out here.  Only of a sleep that was interrupted is it written.
 */
static int64_t
sleep_call(syscall_fn call, const struct syscall_args *args, unsigned n)
{
    struct abi_time time;
    struct syscall_args native = *args;
    uint64_t start = clock_monotonic_ns();
    uint64_t ns, slept;
    int64_t result;

    if (abi_times_read(&time, args->arg[n], 1) != 0)
        return -EFAULT;
    native.arg[n] = exchange_address(&time);
    native.arg[n + 1] = 0;
    result = exchange_call(call, &native, &time, sizeof time);
    if (result != -ERESTART_RESTARTBLOCK || args->arg[n + 1] == 0)
        return result;
    slept = clock_monotonic_ns() - start;
    ns = (uint64_t)time.seconds * NS + (uint64_t)time.fraction;
    ns = ns > slept ? ns - slept : 0;
    time = (struct abi_time){(int64_t)(ns / NS), (int64_t)(ns % NS)};
    return abi_times_write(args->arg[n + 1], &time, 1) == 0 ? result : -EFAULT;
}

int64_t
abi_nanosleep(const struct syscall_args *args)
{
    return sleep_call(sys_nanosleep, args, 0);
}

int64_t
abi_clock_nanosleep(const struct syscall_args *args)
{
    return sleep_call(sys_clock_nanosleep, args, 2);
}

/* ---- Timers ------------------------------------------------------------------------- */

int64_t
abi_getitimer(const struct syscall_args *args)
{
    return call_for_times(sys_getitimer, args, 1, 2);
}

int64_t
abi_setitimer(const struct syscall_args *args)
{
    return call_timer(sys_setitimer, args, 1);
}

/** struct sigevent: narrow value, and the kernel's. */
struct sigevent32 {
    uint32_t value;
    int32_t number, notify, tid;
};

struct sigevent64 {
    uint64_t value;
    int32_t number, notify, tid;
    uint8_t unused[44];
};

int64_t
abi_timer_create(const struct syscall_args *args)
{
    struct sigevent32 user;
    struct sigevent64 event;
    struct syscall_args native = *args;

    if (args->arg[1] == 0)
        return sys_timer_create(args);
    if (user_read(&user, args->arg[1], sizeof user) != 0)
        return -EFAULT;
    event = (struct sigevent64){user.value, user.number, user.notify, user.tid, {0}};
    native.arg[1] = exchange_address(&event);
    return exchange_call(sys_timer_create, &native, &event, sizeof event);
}

int64_t
abi_timer_settime(const struct syscall_args *args)
{
    return call_timer(sys_timer_settime, args, 2);
}

int64_t
abi_timer_gettime(const struct syscall_args *args)
{
    return call_for_times(sys_timer_gettime, args, 1, 2);
}

int64_t
abi_timerfd_settime(const struct syscall_args *args)
{
    return call_timer(sys_timerfd_settime, args, 2);
}

int64_t
abi_timerfd_gettime(const struct syscall_args *args)
{
    return call_for_times(sys_timerfd_gettime, args, 1, 2);
}

/* ---- Waiting ------------------------------------------------------------------------- */

enum {
    FUTEX_WAIT = 0,
    FUTEX_LOCK_PI = 6,
    FUTEX_WAIT_BITSET = 9,
    FUTEX_WAIT_REQUEUE_PI = 11,
    FUTEX_LOCK_PI2 = 13,
    FUTEX_COMMAND = 0x7f
};

/* For the other commands the fourth argument is a number. */
static bool
futex_has_timeout(uint32_t operation)
{
    switch (operation & FUTEX_COMMAND) {
    case FUTEX_WAIT:
    case FUTEX_LOCK_PI:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
    case FUTEX_LOCK_PI2:
        return true;
    default:
        return false;
    }
}

int64_t
abi_futex(const struct syscall_args *args)
{
    if (!futex_has_timeout((uint32_t)args->arg[1]))
        return sys_futex(args);
    return call_with_times(sys_futex, args, 3, 1);
}

int64_t
abi_ppoll(const struct syscall_args *args)
{
    return call_wait(sys_ppoll, args, 2);
}

int64_t
abi_pselect6(const struct syscall_args *args)
{
    return call_wait(sys_pselect6, args, 4);
}

int64_t
abi_select(const struct syscall_args *args)
{
    return call_wait(sys_select, args, 4);
}

int64_t
abi_old_select(const struct syscall_args *args)
{
    uint32_t words[5];
    struct syscall_args native = {{0}};

    if (user_read(words, args->arg[0], sizeof words) != 0)
        return -EFAULT;
    for (unsigned i = 0; i < 5; i++)
        native.arg[i] = words[i];
    return abi_select(&native);
}

/* ---- Times of files ------------------------------------------------------------------- */

int64_t
abi_utime(const struct syscall_args *args)
{
    uint32_t user[2];
    int64_t seconds[2];
    struct syscall_args native = *args;

    if (args->arg[1] == 0)
        return sys_utime(args);
    if (user_read(user, args->arg[1], sizeof user) != 0)
        return -EFAULT;
    seconds[0] = (int32_t)user[0];
    seconds[1] = (int32_t)user[1];
    native.arg[1] = exchange_address(seconds);
    return exchange_call(sys_utime, &native, seconds, sizeof seconds);
}

int64_t
abi_utimes(const struct syscall_args *args)
{
    return call_with_times(sys_utimes, args, 1, 2);
}

int64_t
abi_futimesat(const struct syscall_args *args)
{
    return call_with_times(sys_futimesat, args, 2, 2);
}

int64_t
abi_utimensat(const struct syscall_args *args)
{
    return call_with_times(sys_utimensat, args, 2, 2);
}
