/* SPDX-License-Identifier: MIT */
/*
 * clone3(2).  What its flags share is in tests/user/sharing/clone.c.
 */
#include "clone.h"

#include <sys/mount.h>
#include <sys/stat.h>

/* As of Linux 5.7, and two words that nobody knows. */
struct request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    uint64_t set_tid, set_tid_size, cgroup;
    uint64_t more[2];
};

enum { FIRST = 64, SECOND = 80, THIRD = 88 };

#define CLONE3(what, bytes, want, flags, ...)                                        \
    {                                                                                \
        what, SYS_clone3, {(long)&(struct request){__VA_ARGS__}, bytes}, want, flags \
    }

static const struct documented documented[] = {
    {EACCES, NULL},
    {EAGAIN, NULL},
    {EBUSY, NULL},
    {EEXIST, NULL},
    {EINVAL, NULL},
    {ENOMEM, BY_REFUSAL},
    {ENOSPC, "of namespaces within namespaces, of which there are none here"},
    {EOPNOTSUPP, "of groups of threads, of which there are none here"},
    {EPERM, NULL},
    {EUSERS, "history: ENOSPC since Linux 4.9"},
};

static void
flags_and_sizes(void)
{
    const struct row rows[] = {
        CLONE3("less than there ever was", FIRST - 1, -EINVAL, 0, .exit_signal = SIGCHLD),
        CLONE3("more than a page", 1 << 20, -E2BIG, 0, .exit_signal = SIGCHLD),
        CLONE3("what nobody knows", sizeof(struct request), -E2BIG, 0, .more = {0, 1}),
        {"no memory", SYS_clone3, {8, FIRST}, -EFAULT, 0},
        CLONE3("flags that are none", FIRST, -EINVAL, 0, .flags = 1ull << 63),
        CLONE3("a signal among the flags", FIRST, -EINVAL, 0, .flags = SIGCHLD),
        CLONE3("detached", FIRST, -EINVAL, 0, .flags = DETACHED),
        CLONE3("no such signal", FIRST, -EINVAL, 0, .exit_signal = 65),
        CLONE3("handlers without memory", FIRST, -EINVAL, 0, .flags = CLONE_SIGHAND),
        CLONE3("a thread without handlers", FIRST, -EINVAL, 0, .flags = CLONE_THREAD | CLONE_VM),
        CLONE3("a thread with a signal", FIRST, -EINVAL, 0,
               .flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, .exit_signal = SIGCHLD),
        CLONE3("a sibling with a signal", FIRST, -EINVAL, 0, .flags = CLONE_PARENT,
               .exit_signal = SIGCHLD),
        CLONE3("handlers, and none", FIRST, -EINVAL, 0,
               .flags = CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM),
        CLONE3("a stack without size", FIRST, -EINVAL, 0, .stack = 4096, .exit_signal = SIGCHLD),
        CLONE3("a size without stack", FIRST, -EINVAL, 0, .stack_size = 4096,
               .exit_signal = SIGCHLD),
        CLONE3("a stack that wraps", FIRST, -EINVAL, 0, .stack = 4096,
               .stack_size = UINT64_MAX - 100, .exit_signal = SIGCHLD),
        CLONE3("no memory for the descriptor", FIRST, -EFAULT, 0, .flags = CLONE_PIDFD, .pidfd = 8,
               .exit_signal = SIGCHLD),
        CLONE3("too many numbers", SECOND, -EINVAL, 0, .set_tid = 8, .set_tid_size = 33),
        CLONE3("numbers without count", SECOND, -EINVAL, 0, .set_tid = 8),
        CLONE3("a count without numbers", SECOND, -EINVAL, 0, .set_tid_size = 1),
        CLONE3("no memory at the numbers", SECOND, -EFAULT, 0, .set_tid = 8, .set_tid_size = 1),
        CLONE3("number 0", SECOND, -EINVAL, 0, .set_tid = (uintptr_t) & (int){0},
               .set_tid_size = 1),
        CLONE3("a number past all", SECOND, -EINVAL, 0, .set_tid = (uintptr_t) & (int){1 << 30},
               .set_tid_size = 1),
        CLONE3("a number that is taken", SECOND, -EEXIST, 0,
               .set_tid = (uintptr_t) & (int){getpid()}, .set_tid_size = 1),
        CLONE3("into no group", THIRD, -EBADF, 0, .flags = INTO_CGROUP, .cgroup = 1000),
        CLONE3("into what is no group", THIRD, -EBADF, 0, .flags = INTO_CGROUP,
               .cgroup = (uint64_t)file_rw),
        CLONE3("into a group, too short", SECOND, -EINVAL, 0, .flags = INTO_CGROUP),
        CLONE3("a negative group", THIRD, -EINVAL, 0, .flags = INTO_CGROUP, .cgroup = UINT64_MAX),
        CLONE3("a copy", FIRST, ANY_VALUE, 0, .exit_signal = SIGCHLD),
        CLONE3("a copy without a signal", FIRST, ANY_VALUE, 0, .flags = 0),
        CLONE3("nothing that nobody knows", sizeof(struct request), ANY_VALUE, 0,
               .exit_signal = SIGCHLD),
        CLONE3("no handlers", FIRST, ANY_VALUE, 0, .flags = CLEAR_SIGHAND, .exit_signal = SIGCHLD),
    };
    RUN(rows);
}

static void
limited(void)
{
    become_single();
    const struct row rows[] = {
        CLONE3("one process too many", FIRST, -EAGAIN, 0, .exit_signal = SIGCHLD),
    };
    RUN(rows);
}

static int group; /* a descriptor */

static void
unprivileged(void)
{
    become_nobody();
    const struct row rows[] = {
        CLONE3("numbers of its own", FIRST, -EPERM, 0, .flags = CLONE_NEWPID,
               .exit_signal = SIGCHLD),
        CLONE3("a number", SECOND, -EPERM, 0, .set_tid = (uintptr_t) & (int){30000},
               .set_tid_size = 1, .exit_signal = SIGCHLD),
    };
    const struct row into[] = {
        CLONE3("into a group of others", THIRD, -EACCES, 0, .flags = INTO_CGROUP,
               .cgroup = (uint64_t)group, .exit_signal = SIGCHLD),
    };

    RUN(rows);
    if (on_own_machine())
        RUN(into);
}

/* A group whose children have limits takes no processes. */
static void
groups(void)
{
    static const char top[] = "/tmp/groups";

    (void)mkdir(top, 0700);
    EXPECT(mount("none", top, "cgroup2", 0, NULL), 0);
    int fd = open("/tmp/groups/cgroup.subtree_control", O_WRONLY);

    EXPECT(write(fd, "+memory", 7), 7);
    close(fd);
    EXPECT(mkdir("/tmp/groups/upper", 0700), 0);
    group = open("/tmp/groups/upper", O_RDONLY | O_DIRECTORY);
    const struct row free_group[] = {
        CLONE3("into a group", THIRD, ANY_VALUE, 0, .flags = INTO_CGROUP, .cgroup = (uint64_t)group,
               .exit_signal = SIGCHLD),
    };
    const struct row busy_group[] = {
        CLONE3("into a group that limits others", THIRD, -EBUSY, 0, .flags = INTO_CGROUP,
               .cgroup = (uint64_t)group, .exit_signal = SIGCHLD),
    };

    RUN(free_group);
    EXPECT(in_child(unprivileged), 0);
    /* That is one's own is not enough: the group above holds where one comes from, too. */
    EXPECT(fchown(group, 65534, 65534), 0);
    EXPECT(in_child(unprivileged), 0);
    EXPECT(fchown(group, 0, 0), 0);
    fd = open("/tmp/groups/upper/cgroup.subtree_control", O_WRONLY);
    EXPECT(write(fd, "+memory", 7), 7);
    RUN(busy_group);
    EXPECT(write(fd, "-memory", 7), 7);
    close(fd);
    close(group);
    EXPECT(rmdir("/tmp/groups/upper"), 0);
    fd = open("/tmp/groups/cgroup.subtree_control", O_WRONLY);
    EXPECT(write(fd, "-memory", 7), 7);
    close(fd);
    EXPECT(umount(top), 0);
    EXPECT(rmdir(top), 0);
}

CALL(clone3, SYS_clone3, documented)
{
    flags_and_sizes();
    EXPECT(in_child(limited), 0);
    if (on_own_machine())
        groups();
    else
        EXPECT(in_child(unprivileged), 0);
}
