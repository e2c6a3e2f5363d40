/* SPDX-License-Identifier: MIT */
/*
 * clone(2), the call.  What its flags share is in tests/user/sharing/clone.c.
 */
#include "clone.h"

#define CLONE(what, clone_flags, parent_tid, want, flags)                          \
    {                                                                              \
        what, SYS_clone, {(long)(clone_flags), 0, (long)(parent_tid)}, want, flags \
    }

static const struct documented documented[] = {
    {EAGAIN, NULL},       {EINVAL, NULL},
    {ENOMEM, BY_REFUSAL}, {ENOSPC, "of namespaces within namespaces, of which there are none here"},
    {EPERM, NULL},        {EUSERS, "history: ENOSPC since Linux 4.9"},
};

static void
limited(void)
{
    become_single();
    const struct row rows[] = {CLONE("one process too many", SIGCHLD, 0, -EAGAIN, 0)};
    RUN(rows);
}

static void
unprivileged(void)
{
    become_nobody();
    const struct row rows[] = {
        CLONE("mounts of its own", CLONE_NEWNS | SIGCHLD, 0, -EPERM, 0),
        CLONE("segments of its own", CLONE_NEWIPC | SIGCHLD, 0, -EPERM, 0),
        CLONE("numbers of its own", CLONE_NEWPID | SIGCHLD, 0, -EPERM, 0),
        CLONE("a name of its own", CLONE_NEWUTS | SIGCHLD, 0, -EPERM, 0),
        CLONE("groups of its own", CLONE_NEWCGROUP | SIGCHLD, 0, -EPERM, 0),
        CLONE("a network of its own", CLONE_NEWNET | SIGCHLD, 0, -EPERM, 0),
    };
    RUN(rows);
}

CALL(clone, SYS_clone, documented)
{
    static int number;
    const struct row rows[] = {
        CLONE("handlers without memory", CLONE_SIGHAND | SIGCHLD, 0, -EINVAL, 0),
        CLONE("a thread without handlers", CLONE_THREAD | CLONE_VM | SIGCHLD, 0, -EINVAL, 0),
        CLONE("a thread without memory", CLONE_THREAD | CLONE_SIGHAND | SIGCHLD, 0, -EINVAL, 0),
        CLONE("mounts of its own and a directory of ours", CLONE_FS | CLONE_NEWNS | SIGCHLD, 0,
              -EINVAL, 0),
        CLONE("users of its own and a directory of ours", CLONE_FS | CLONE_NEWUSER | SIGCHLD, 0,
              -EINVAL, 0),
        CLONE("segments of its own and semaphores of ours", CLONE_NEWIPC | CLONE_SYSVSEM | SIGCHLD,
              0, -EINVAL, 0),
        CLONE("a thread with numbers of its own",
              CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, -EINVAL, 0),
        CLONE("a thread with users of its own",
              CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, -EINVAL, 0),
        CLONE("a descriptor, detached", CLONE_PIDFD | DETACHED | SIGCHLD, &number, -EINVAL, 0),
        CLONE("a descriptor and a number in one place", CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD,
              &number, -EINVAL, 0),
        CLONE("no memory for the descriptor", CLONE_PIDFD | SIGCHLD, 8, -EFAULT, 0),
        CLONE("a copy", SIGCHLD, 0, ANY_VALUE, 0),
        CLONE("a copy without a signal", 0, 0, ANY_VALUE, 0),
        CLONE("a copy with our files", CLONE_FILES | CLONE_FS | SIGCHLD, 0, ANY_VALUE, 0),
        CLONE("its number", CLONE_PARENT_SETTID | SIGCHLD, &number, ANY_VALUE, 0),
        CLONE("no memory for its number", CLONE_PARENT_SETTID | SIGCHLD, 8, ANY_VALUE, 0),
    };
    /* Threads have descriptors since Linux 6.9, and not here. */
    const struct row thread[] = {
        CLONE("a thread's descriptor", CLONE_PIDFD | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
              &number, -EINVAL, 0),
    };
    const struct row namespaces[] = {
        CLONE("no namespaces here", CLONE_NEWPID | SIGCHLD, 0, -EINVAL, 0),
        CLONE("no users of its own here", CLONE_NEWUSER | SIGCHLD, 0, -EINVAL, 0),
    };

    RUN(rows);
    if (on_quire() || !is_since(6, 9))
        RUN(thread);
    if (on_quire())
        RUN(namespaces);
    EXPECT(in_child(limited), 0);
    EXPECT(in_child(unprivileged), 0);
}
