/* SPDX-License-Identifier: MIT */
/*
 * process_madvise(2), and pidfd_open(2), which names the process.
 */
#include "calls.h"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static struct iovec pieces[2];
static long self;

static void
unprivileged(void)
{
    become_nobody();
    EXPECT(call(SYS_process_madvise, self, (long)pieces, 1, MADV_COLD, 0, 0), -EACCES);
}

/* Another process: what drops nothing, and who has not ended. */
static void
of_another(void)
{
    pid_t child = fork();

    if (child == 0)
        for (;;)
            pause();
    long fd = call(SYS_pidfd_open, child, 0, 0, 0, 0, 0);

    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_COLD, 0, 0), 2 * page);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_PAGEOUT, 0, 0), 2 * page);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 2, MADV_WILLNEED, 0, 0), 2 * page);
    EXPECT(call(SYS_process_madvise, fd, (long)&pieces[1], 1, MADV_COLD, 0, 0), -ENOMEM);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_DONTNEED, 0, 0), -EINVAL);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_RANDOM, 0, 0), -EINVAL);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, 77, 0, 0), -EINVAL);
    EXPECT(kill(child, SIGKILL), 0);
    siginfo_t info;

    EXPECT(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_COLD, 0, 0), -ESRCH); /* a zombie */
    EXPECT(waitpid(child, NULL, 0), child);
}

/* What it may look at is not enough. */
static void
not_nice(void)
{
    become_nobody();
    EXPECT(prctl(PR_SET_DUMPABLE, 1), 0);
    pid_t child = fork();

    if (child == 0)
        for (;;)
            pause();
    long fd = call(SYS_pidfd_open, child, 0, 0, 0, 0, 0);

    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_COLD, 0, 0), -EPERM);
    EXPECT(kill(child, SIGKILL), 0);
    EXPECT(waitpid(child, NULL, 0), child);
}

/* A descriptor tells when its process has ended, and takes its status. */
static void
ends(void)
{
    siginfo_t info = {0};
    pid_t child = fork();

    if (child == 0) {
        usleep(20000);
        _exit(7);
    }
    int fd = (int)call(SYS_pidfd_open, child, 0, 0, 0, 0, 0);
    struct pollfd poll_one = {fd, POLLIN, 0};
    int quick = (int)call(SYS_pidfd_open, child, O_NONBLOCK, 0, 0, 0, 0);

    EXPECT(fd >= 0 && quick >= 0, true);
    EXPECT(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT(poll(&poll_one, 1, -1), 1);
    EXPECT(poll_one.revents, POLLIN);
    EXPECT(call(SYS_waitid, P_PIDFD, fd, (long)&info, WEXITED, 0, 0), 0);
    EXPECT(info.si_pid == child && info.si_status == 7, true);
    EXPECT(call(SYS_waitid, P_PIDFD, fd, (long)&info, WEXITED, 0, 0), -ECHILD);
    EXPECT(call(SYS_process_madvise, fd, (long)pieces, 1, MADV_COLD, 0, 0), -ESRCH);
    close(quick);
    close(fd);
}

static const struct documented documented[] = {
    {EBADF, NULL}, {EFAULT, NULL}, {EINVAL, NULL}, {ENOMEM, NULL}, {EPERM, NULL}, {ESRCH, NULL},
};

CALL(process_madvise, SYS_process_madvise, documented)
{
#define ADVISE(what, fd, pieces, count, advice, flags, want) \
    {what, SYS_process_madvise, {fd, (long)(pieces), count, advice, flags, 0}, want, 0}
    self = call(SYS_pidfd_open, getpid(), 0, 0, 0, 0, 0);
    EXPECT(self >= 0, true);
    pieces[0] = (struct iovec){(void *)AT(0), (size_t)(2 * page)};
    pieces[1] = (struct iovec){(void *)AT(HOLE_AT), (size_t)page};
    const struct iovec odd = {(void *)(AT(0) + 1), (size_t)page};
    const struct iovec mixed[] = {{(void *)AT(0), (size_t)(2 * page)}, odd};
    const struct iovec negative = {(void *)AT(0), SIZE_MAX};
    const struct iovec empty[] = {{(void *)AT(0), 0}, {(void *)AT(1), (size_t)page}};

    const struct row rows[] = {
        {"open: flags", SYS_pidfd_open, {getpid(), 1}, -EINVAL, 0},
        {"open: a negative number", SYS_pidfd_open, {-1, 0}, -EINVAL, 0},
        {"open: number 0", SYS_pidfd_open, {0, 0}, -EINVAL, 0},
        {"open: no such process", SYS_pidfd_open, {1 << 22, 0}, -ESRCH, 0},
        ADVISE("flags", self, pieces, 1, MADV_COLD, 1, -EINVAL),
        ADVISE("no descriptor", -1, pieces, 1, MADV_COLD, 0, -EBADF),
        ADVISE("a descriptor of another kind", file_rw, pieces, 1, MADV_COLD, 0, -EBADF),
        ADVISE("no memory at the pieces", self, 8, 1, MADV_COLD, 0, -EFAULT),
        ADVISE("too many pieces", self, pieces, 1025, MADV_COLD, 0, -EINVAL),
        ADVISE("a hole", self, &pieces[1], 1, MADV_COLD, 0, -ENOMEM),
        ADVISE("a piece", self, pieces, 1, MADV_COLD, 0, 2 * page),
        ADVISE("a piece and a hole", self, pieces, 2, MADV_COLD, 0, 2 * page),
        ADVISE("none", self, pieces, 0, MADV_COLD, 0, 0),
        ADVISE("a piece not at a page's start", self, &odd, 1, MADV_COLD, 0, -EINVAL),
        ADVISE("a piece, then such a one", self, mixed, 2, MADV_COLD, 0, 2 * page),
        ADVISE("a negative length", self, &negative, 1, MADV_COLD, 0, -EINVAL),
        ADVISE("an empty piece, a piece", self, empty, 2, MADV_COLD, 0, page),
        ADVISE("the future", self, pieces, 1, MADV_WILLNEED, 0, 2 * page),
        ADVISE("out of memory", self, pieces, 1, MADV_PAGEOUT, 0, 2 * page),
#if __SIZEOF_LONG__ == 8
        ADVISE("flags are an int", self, pieces, 1, MADV_COLD, 1l << 32, 2 * page),
#endif
    };
    /* To oneself any advice, since Linux 6.13. */
    static const struct iovec nothing = {NULL, 0};
    const struct iovec kernel = {(void *)-(uintptr_t)page, (size_t)page};
    const struct row own[] = {
        ADVISE("advice that drops", self, pieces, 1, MADV_DONTNEED, 0, 2 * page),
        ADVISE("no such advice", self, pieces, 1, 77, 0, -EINVAL),
        ADVISE("no such advice, nowhere", self, &nothing, 1, 77, 0, 0),
        ADVISE("the kernel's memory", self, &kernel, 1, MADV_COLD, 0, -EFAULT),
    };

    RUN(rows);
    if (is_since(6, 13))
        RUN(own);
    EXPECT(PTR(0)[0], 'A');
    EXPECT(call(SYS_waitid, P_PIDFD, file_rw, 0, WEXITED, 0, 0), -EBADF);
    EXPECT(in_child(of_another), 0);
    EXPECT(in_child(ends), 0);
    EXPECT(in_child(unprivileged), 0);
    EXPECT(in_child(not_nice), 0);
}
