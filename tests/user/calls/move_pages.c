/* SPDX-License-Identifier: MIT */
/*
 * move_pages(2).
 */
#include "calls.h"
#include "policy.h"

#include <signal.h>
#include <sys/time.h>

static long pages[4];
static int nodes[4], status[4];

#define MOVE(what, pid, count, pages, nodes, status, flags, want)                                \
    {                                                                                            \
        what, SYS_move_pages, {pid, count, (long)(pages), (long)(nodes), (long)(status), flags}, \
            want, 0                                                                              \
    }

static void
unprivileged(void)
{
    become_nobody();
    EXPECT(call(SYS_move_pages, 0, 0, 0, 0, 0, MPOL_MF_MOVE_ALL), -EPERM);
    EXPECT(call(SYS_move_pages, 1, 0, 0, 0, 0, MPOL_MF_MOVE), -EPERM);
}

static volatile sig_atomic_t alarms;

static void
on_alarm(int number)
{
    (void)number;
    alarms++;
}

/* A signal waits until all the pages have been looked at. */
static void
with_signals(void)
{
    enum { COUNT = 4096 };
    static long many[COUNT];
    static int where[COUNT];
    const struct itimerval often = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
    struct sigaction handler = {.sa_handler = on_alarm}, before;

    for (int i = 0; i < COUNT; i++)
        many[i] = AT(0);
    sigaction(SIGALRM, &handler, &before);
    setitimer(ITIMER_REAL, &often, NULL);
    for (int i = 0; i < 2000 && alarms < 20; i++)
        EXPECT(call(SYS_move_pages, 0, COUNT, (long)many, 0, (long)where, 0), 0);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &before, NULL);
}

static const struct documented documented[] = {
    {E2BIG, "history: since 2.6.29 no number of pages is too many"},
    {EACCES, "needs a set of CPUs and nodes, of which there are none here"},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {ENODEV, NULL},
    {EPERM, NULL},
    {ESRCH, NULL},
};

CALL(move_pages, SYS_move_pages, documented)
{
    for (int i = 0; i < 4; i++)
        pages[i] = AT(i);
    const struct row rows[] = {
        MOVE("flags that are none", 0, 1, pages, nodes, status, 1, -EINVAL),
        MOVE("no such process", 1 << 22, 1, pages, nodes, status, 0, -ESRCH),
        MOVE("no memory at the pages", 0, 1, 8, 0, status, 0, -EFAULT),
        MOVE("no memory at the nodes", 0, 1, pages, 8, status, 0, -EFAULT),
        MOVE("no memory at the status", 0, 1, pages, 0, 8, 0, -EFAULT),
        MOVE("nothing", 0, 0, 0, 0, 0, 0, 0),
        MOVE("ask", 0, 4, pages, 0, status, 0, 0),
        MOVE("to where they are", 0, 4, pages, nodes, status, MPOL_MF_MOVE, 0),
    };
    int far[1] = {31}, negative[1] = {-1};

    RUN(rows);
    arena_make();
    pages[0] = AT(0) + 17; /* any byte of it */
    pages[1] = AT(HOLE_AT);
    pages[2] = AT(NONE_AT);
    pages[3] = AT(RO_AT);
    EXPECT(touch(AT(RO_AT), TOUCH_READ), 0); /* the page of zeroes is nobody's */
    EXPECT(call(SYS_move_pages, 0, 4, (long)pages, 0, (long)status, 0), 0);
    EXPECT(status[0], 0);
    EXPECT(status[1], -EFAULT);
    EXPECT(status[2], is_since(6, 10) ? -ENOENT : -EFAULT);
    EXPECT(status[3], -EFAULT);
    EXPECT(call(SYS_move_pages, 0, 1, (long)pages, (long)far, (long)status, 0), -ENODEV);
    EXPECT(call(SYS_move_pages, 0, 1, (long)pages, (long)negative, (long)status, 0), -ENODEV);
    with_signals();
    EXPECT(in_child(unprivileged), 0);
}
