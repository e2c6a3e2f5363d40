/* SPDX-License-Identifier: MIT */
/*
 * clone and clone3: what each flag shares, copies or writes, and the error for each combination that
 * makes no sense.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "../check.h"

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ull
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ull
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* As of Linux 5.7. */
struct request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
    uint64_t more[2];
};

enum { FIRST = 64, SECOND = 80, THIRD = 88 };

static long
clone3(struct request *request, size_t size)
{
    return syscall(SYS_clone3, request, size);
}

static int
wait_for(long child)
{
    int status = -1;

    CHECK_EQ(waitpid((pid_t)child, &status, __WALL), child);
    return status;
}

#define STACK_BYTES (64 * 1024)

static char *stack;
static volatile int word;

static int
touch_word(void *argument)
{
    word = (int)(intptr_t)argument;
    return 7;
}

static long
run(int (*function)(void *), int flags, intptr_t argument)
{
    return clone(function, stack + STACK_BYTES, flags, (void *)argument);
}

/* ---- what is shared ------------------------------------------------------------------------ */

static int
child_sharing(void *argument)
{
    (void)argument;
    word = 3;
    (void)!chdir("/");
    return close(100) != 0;
}

static void
test_sharing(void)
{
    char before[256], after[256];

    CHECK(getcwd(before, sizeof(before)) != NULL);
    CHECK_EQ(dup2(0, 100), 100);
    word = 0;
    CHECK_EQ(wait_for(run(touch_word, SIGCHLD, 1)), 7 << 8);
    CHECK_EQ(word, 0); /* a copy */
    CHECK_EQ(wait_for(run(touch_word, CLONE_VM | SIGCHLD, 2)), 7 << 8);
    CHECK_EQ(word, 2);
    word = 0;
    CHECK_EQ(wait_for(run(touch_word, CLONE_VM | CLONE_VFORK | SIGCHLD, 4)), 7 << 8);
    CHECK_EQ(word, 4);
    CHECK_EQ(wait_for(run(child_sharing, SIGCHLD, 0)), 0);
    CHECK_EQ(fcntl(100, F_GETFD), 0); /* ours is open still */
    CHECK(getcwd(after, sizeof(after)) != NULL && strcmp(before, after) == 0);
    CHECK_EQ(wait_for(run(child_sharing, CLONE_FILES | CLONE_FS | SIGCHLD, 0)), 0);
    CHECK_ERRNO(fcntl(100, F_GETFD), EBADF);
    CHECK(getcwd(after, sizeof(after)) != NULL && strcmp(after, "/") == 0);
    CHECK_EQ(chdir(before), 0);
}

/* vfork: the parent runs on only when the child is gone. */
static int
child_slow(void *argument)
{
    (void)argument;
    usleep(20000);
    word = 9;
    return 0;
}

static void
test_vfork(void)
{
    word = 0;
    long child = run(child_slow, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
    CHECK_EQ(word, 9);
    CHECK_EQ(wait_for(child), 0);
}

/* ---- numbers in memory ---------------------------------------------------------------------------- */

static void
test_tid_words(void)
{
    static volatile int parent_tid, child_tid;
    long child;

    child = syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0, &parent_tid,
#if defined(__x86_64__)
                    &child_tid, 0);
#else
                    0, &child_tid);
#endif
    if (child == 0)
        _exit(child_tid == (int)syscall(SYS_gettid) ? 0 : 1);
    CHECK_EQ(wait_for(child), 0);
    CHECK_EQ(parent_tid, child);
    CHECK_EQ(child_tid, 0); /* written in the child's memory */

    struct request request = {.flags = CLONE_VM | CLONE_VFORK | CLONE_CHILD_SETTID |
                                       CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID,
                              .exit_signal = SIGCHLD,
                              .child_tid = (uintptr_t)&child_tid,
                              .parent_tid = (uintptr_t)&parent_tid};
    parent_tid = 0;
    if (clone3(&request, FIRST) == 0) /* on our stack: it leaves nothing there that we need */
        syscall(SYS_exit, child_tid == (int)syscall(SYS_gettid) ? 0 : 1);
    CHECK(parent_tid > 0);
    CHECK_EQ(wait_for(parent_tid), 0);
    CHECK_EQ(child_tid, 0); /* cleared at the end */
}

/* ---- signals ------------------------------------------------------------------------------------------ */

static void
handler(int number)
{
    (void)number;
}

static int
signal_is(int number, void (*expected)(int))
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 && action.sa_handler == expected;
}

static void
test_signals(void)
{
    struct sigaction action = {.sa_handler = handler};
    struct request request = {.flags = CLONE_CLEAR_SIGHAND, .exit_signal = SIGCHLD};
    long child;

    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    signal(SIGUSR2, SIG_IGN);
    child = clone3(&request, FIRST);
    if (child == 0) /* handlers go, what is ignored stays so */
        _exit(signal_is(SIGUSR1, SIG_DFL) && signal_is(SIGUSR2, SIG_IGN) ? 0 : 1);
    CHECK_EQ(wait_for(child), 0);
    CHECK(signal_is(SIGUSR1, handler));
    request.flags = CLONE_CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM;
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request.flags = 0;
    request.exit_signal = 0; /* none: found with __WALL alone */
    child = clone3(&request, FIRST);
    if (child == 0)
        _exit(0);
    CHECK_ERRNO(waitpid((pid_t)child, NULL, 0), ECHILD);
    CHECK_EQ(wait_for(child), 0);
    signal(SIGUSR2, SIG_DFL);
}

/* ---- descriptors of processes --------------------------------------------------------------------------- */

static void
test_pidfd(void)
{
    static int fd = -1;
    struct request request = {
        .flags = CLONE_PIDFD, .exit_signal = SIGCHLD, .pidfd = (uintptr_t)&fd};
    siginfo_t info;
    long child = clone3(&request, FIRST);

    if (child == 0)
        _exit(fd == -1 ? 5 : 6); /* the child has not got it */
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    CHECK_EQ(poll(&wait, 1, -1), 1);
    memset(&info, 0, sizeof(info));
    CHECK_EQ(waitid((idtype_t)P_PIDFD, (id_t)fd, &info, WEXITED), 0);
    CHECK_EQ(info.si_pid, child);
    CHECK_EQ(info.si_status, 5);
    close(fd);

    fd = -1;
    child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &fd, 0, 0); /* in parent_tid's place */
    if (child == 0)
        _exit(0);
    CHECK(fd >= 0);
    CHECK_EQ(wait_for(child), 0);
    close(fd);
    CHECK_ERRNO(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, &fd, 0, 0),
                EINVAL);
    CHECK_ERRNO(syscall(SYS_clone, CLONE_PIDFD | 0x400000 | SIGCHLD, 0, &fd, 0, 0), EINVAL);
    request.pidfd = 8;
    CHECK_ERRNO(clone3(&request, FIRST), EFAULT);
    int next = dup(0);
    CHECK(next >= 0 && next <= fd); /* and no descriptor was lost */
    close(next);
    struct rlimit limit, none;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 3;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    request.pidfd = (uintptr_t)&fd;
    CHECK_ERRNO(clone3(&request, FIRST), EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* ---- chosen numbers ------------------------------------------------------------------------------------- */

static void
test_set_tid(void)
{
    int wanted[2] = {getpid(), 1}, free_number;
    struct request request = {
        .exit_signal = SIGCHLD, .set_tid = (uintptr_t)wanted, .set_tid_size = 1};
    long child;

    CHECK_EQ(wait_for(free_number = fork() ?: (_exit(0), 0)), 0);
    if (geteuid() == 0) {
        CHECK_ERRNO(clone3(&request, SECOND), EEXIST);
        wanted[0] = free_number;
        child = clone3(&request, SECOND);
        if (child == 0)
            _exit(0);
        CHECK_EQ(child, free_number);
        CHECK_EQ(wait_for(child), 0);
    }
    wanted[0] = 0;
    CHECK_ERRNO(clone3(&request, SECOND), EINVAL);
    wanted[0] = 1 << 30;
    CHECK_ERRNO(clone3(&request, SECOND), EINVAL);
    request.set_tid_size = 33;
    CHECK_ERRNO(clone3(&request, SECOND), EINVAL);
    request.set_tid_size = 0;
    CHECK_ERRNO(clone3(&request, SECOND), EINVAL);
    request.set_tid = 0;
    request.set_tid_size = 1;
    CHECK_ERRNO(clone3(&request, SECOND), EINVAL);
    request.set_tid = 8;
    CHECK_ERRNO(clone3(&request, SECOND), EFAULT);
}

/* ---- errors ------------------------------------------------------------------------------------------------ */

static void
test_errors(void)
{
    static const uint64_t flags[] = {
        CLONE_SIGHAND,     CLONE_THREAD,      CLONE_THREAD | CLONE_VM,
        0x400000, /* CLONE_DETACHED */
        SIGCHLD,  /* goes elsewhere here */
        (uint64_t)1 << 40, (uint64_t)1 << 63, CLONE_PIDFD | CLONE_DETACHED,
    };
    struct request request;

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        request = (struct request){.flags = flags[i]};
        CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    }
    request =
        (struct request){.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){.flags = CLONE_PARENT, .exit_signal = SIGCHLD};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){.exit_signal = 65};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){.exit_signal = 1 << 20};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){.exit_signal = SIGCHLD, .stack = (uintptr_t)stack};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){.exit_signal = SIGCHLD, .stack_size = 4096};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){
        .exit_signal = SIGCHLD, .stack = (uintptr_t)stack, .stack_size = UINT64_MAX - 100};
    CHECK_ERRNO(clone3(&request, FIRST), EINVAL);
    request = (struct request){.exit_signal = SIGCHLD, .more = {0, 1}};
    CHECK_ERRNO(clone3(&request, sizeof(request)), E2BIG);
    CHECK_ERRNO(clone3(&request, FIRST - 1), EINVAL);
    CHECK_ERRNO(clone3(&request, 1 << 20), E2BIG);
    CHECK_ERRNO(clone3((struct request *)8, FIRST), EFAULT);
    request =
        (struct request){.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = 1 << 20};
    CHECK_ERRNO(clone3(&request, THIRD), EBADF);
    CHECK_ERRNO(clone3(&request, SECOND), EINVAL); /* too short for it */
    request.cgroup = UINT64_MAX;
    CHECK_ERRNO(clone3(&request, THIRD), EINVAL);
    request = (struct request){.exit_signal = SIGCHLD};
    long child = clone3(&request, sizeof(request)); /* zeros behind what is known */
    if (child == 0)
        _exit(0);
    CHECK_EQ(wait_for(child), 0);
}

int
main(void)
{
    stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(stack != MAP_FAILED);
    test_sharing();
    test_vfork();
    test_tid_words();
    test_signals();
    test_pidfd();
    test_set_tid();
    test_errors();
    return check_done("clone");
}
