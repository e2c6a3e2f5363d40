/* SPDX-License-Identifier: MIT */
/*
 * timerfd_create(2), timerfd_settime(2), timerfd_gettime(2), signalfd4(2).
 */
#include "net.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>

/* On 32 bits the numbers that a C library uses have times of 64 bits. */
#ifdef SYS_timerfd_settime64
#define NR_SETTIME SYS_timerfd_settime64
#define NR_GETTIME SYS_timerfd_gettime64
#else
#define NR_SETTIME SYS_timerfd_settime
#define NR_GETTIME SYS_timerfd_gettime
#endif

static int64_t soon[4] = {0, 0, 0, 1000000}, bad_ns[4] = {0, 0, 0, 1000000000};
static int64_t before_all[4] = {0, 0, -1, 0}, report[4];
static uint64_t usr1 = 1ull << (SIGUSR1 - 1);

static const struct net_row rows[] = {
    {"timerfd_create", SYS_timerfd_create, {CLOCK_MONOTONIC, 0}, ANY_VALUE},
    {"timerfd_create: flags",
     SYS_timerfd_create,
     {CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC},
     ANY_VALUE},
    {"timerfd_create: unknown flags", SYS_timerfd_create, {CLOCK_MONOTONIC, 1}, -EINVAL},
    {"timerfd_create: a clock of CPU time",
     SYS_timerfd_create,
     {CLOCK_PROCESS_CPUTIME_ID, 0},
     -EINVAL},
    {"timerfd_create: no such clock", SYS_timerfd_create, {77, 0}, -EINVAL},
    {"timerfd_settime: no timer", NR_SETTIME, {A_FILE, 0, (long)soon, 0}, -EINVAL},
    {"timerfd_settime: no descriptor", NR_SETTIME, {NO_FD, 0, (long)soon, 0}, -EBADF},
    {"timerfd_settime: no time there", NR_SETTIME, {NO_FD, 0, BAD_PTR, 0}, -EFAULT},
    {"timerfd_settime: a second too many", NR_SETTIME, {NO_FD, 0, (long)bad_ns, 0}, -EINVAL},
    {"timerfd_settime: before all", NR_SETTIME, {NO_FD, 0, (long)before_all, 0}, -EINVAL},
    {"timerfd_settime: unknown flags", NR_SETTIME, {NO_FD, 4, (long)soon, 0}, -EINVAL},
    {"timerfd_gettime: no timer", NR_GETTIME, {A_FILE, (long)report}, -EINVAL},
    {"timerfd_gettime: no descriptor", NR_GETTIME, {NO_FD, (long)report}, -EBADF},
    {"signalfd4", SYS_signalfd4, {-1, (long)&usr1, 8, 0}, ANY_VALUE},
    {"signalfd4: size", SYS_signalfd4, {-1, (long)&usr1, 4, 0}, -EINVAL},
    {"signalfd4: unknown flags", SYS_signalfd4, {-1, (long)&usr1, 8, 1}, -EINVAL},
    {"signalfd4: no set there", SYS_signalfd4, {-1, BAD_PTR, 8, 0}, -EFAULT},
    {"signalfd4: no descriptor", SYS_signalfd4, {NO_FD, (long)&usr1, 8, 0}, -EBADF},
    {"signalfd4: none of signals", SYS_signalfd4, {A_FILE, (long)&usr1, 8, 0}, -EINVAL},
};

static void
timers(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec time = {.it_value = {0, 5000000}}, got;
    struct pollfd one = {fd, POLLIN, 0};
    uint64_t count = 0;

    EXPECT(R(read(fd, &count, 7)), -EINVAL);
    EXPECT(R(read(fd, &count, 8)), -EAGAIN);
    EXPECT(R(write(fd, &count, 8)), -EINVAL);
    EXPECT(poll_now(fd), 0);
    EXPECT(timerfd_gettime(fd, &got), 0);
    EXPECT(got.it_value.tv_sec == 0 && got.it_value.tv_nsec == 0, 1);
    /* Once. */
    EXPECT(timerfd_settime(fd, 0, &time, NULL), 0);
    EXPECT(poll(&one, 1, 10000), 1);
    EXPECT(one.revents, POLLIN);
    EXPECT(read(fd, &count, 8), 8);
    EXPECT(count, 1);
    EXPECT(R(read(fd, &count, 8)), -EAGAIN);
    /* Again and again: none is lost, however late the read. */
    time.it_interval.tv_nsec = 1000000;
    EXPECT(timerfd_settime(fd, 0, &time, NULL), 0);
    usleep(30000);
    EXPECT(read(fd, &count, 8), 8);
    EXPECT(count >= 20, 1);
    EXPECT(timerfd_gettime(fd, &got), 0);
    EXPECT(got.it_interval.tv_nsec, 1000000);
    EXPECT(got.it_value.tv_sec == 0 && got.it_value.tv_nsec <= 1000000, 1);
    fcntl(fd, F_SETFL, 0);
    EXPECT(read(fd, &count, 8), 8); /* waits */
    EXPECT(count >= 1, 1);
    /* A time that has passed; off, and what it was. */
    clock_gettime(CLOCK_MONOTONIC, &time.it_value);
    time.it_interval.tv_nsec = 0;
    EXPECT(timerfd_settime(fd, TFD_TIMER_ABSTIME, &time, NULL), 0);
    EXPECT(read(fd, &count, 8), 8);
    EXPECT(count, 1);
    time.it_value = (struct timespec){100, 0};
    EXPECT(timerfd_settime(fd, 0, &time, NULL), 0);
    memset(&time, 0, sizeof(time));
    EXPECT(timerfd_settime(fd, 0, &time, &got), 0);
    EXPECT(got.it_value.tv_sec >= 90, 1);
    EXPECT(poll_now(fd), 0);
    close(fd);
}

static void
signals(void)
{
    struct signalfd_siginfo info[3];
    struct pollfd one = {-1, POLLIN, 0};
    union sigval value = {.sival_int = 42};
    sigset_t set, old;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN);
    sigaddset(&set, SIGCHLD);
    EXPECT(sigprocmask(SIG_BLOCK, &set, &old), 0);
    int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    one.fd = fd;
    EXPECT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT(R(read(fd, info, sizeof(info[0]) - 1)), -EINVAL);
    EXPECT(R(read(fd, info, sizeof(info[0]))), -EAGAIN);
    EXPECT(poll_now(fd), 0);
    EXPECT(kill(getpid(), SIGUSR1), 0);
    EXPECT(sigqueue(getpid(), SIGRTMIN, value), 0);
    EXPECT(poll_now(fd), POLLIN);
    EXPECT(read(fd, info, sizeof(info)), 2 * (long)sizeof(info[0]));
    EXPECT(info[0].ssi_signo, SIGUSR1);
    EXPECT(info[0].ssi_pid, (unsigned)getpid());
    EXPECT(info[0].ssi_code, SI_USER);
    EXPECT(info[1].ssi_signo, (unsigned)SIGRTMIN);
    EXPECT(info[1].ssi_int, 42);
    EXPECT(info[1].ssi_code, SI_QUEUE);
    EXPECT(poll_now(fd), 0);
    /* A child's end wakes who polls. */
    pid_t child = fork();
    if (child == 0) {
        usleep(10000);
        _exit(7);
    }
    EXPECT(poll(&one, 1, 10000), 1);
    EXPECT(read(fd, info, sizeof(info)), (long)sizeof(info[0]));
    EXPECT(info[0].ssi_signo, SIGCHLD);
    EXPECT(info[0].ssi_pid, (unsigned)child);
    EXPECT(info[0].ssi_status, 7);
    EXPECT(waitpid(child, NULL, 0), child);
    /* Another set. */
    sigemptyset(&set);
    EXPECT(signalfd(fd, &set, 0), fd);
    EXPECT(kill(getpid(), SIGUSR1), 0);
    EXPECT(poll_now(fd), 0);
    sigaddset(&set, SIGUSR1);
    EXPECT(signalfd(fd, &set, 0), fd);
    EXPECT(poll_now(fd), POLLIN);
    EXPECT(read(fd, info, sizeof(info)), (long)sizeof(info[0]));
    close(fd);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

TOPIC(timers)
{
    NET_RUN(rows);
    timers();
    signals();
}
