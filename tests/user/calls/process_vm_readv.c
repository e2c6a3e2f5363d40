/* SPDX-License-Identifier: MIT */
/*
 * process_vm_readv(2), and what it has in common with process_vm_writev.
 */
#include "other.h"

#include <signal.h>
#include <sys/prctl.h>

long other;

void
other_start(void)
{
    other = fork();
    if (other == 0)
        for (;;)
            pause();
    EXPECT(other > 0, true);
}

void
other_end(void)
{
    EXPECT(kill((pid_t)other, SIGKILL), 0);
    EXPECT(waitpid((pid_t)other, NULL, 0), other);
}

static long gone;
static char bytes[64];
static struct iovec local[3], remote[3], too_long, many[1025], nowhere, long_here[2], long_there[2];

#define COPY(what, pid, local, count, remote, remote_count, flags, want)                        \
    {                                                                                           \
        what, number, {pid, (long)(local), count, (long)(remote), remote_count, flags}, want, 0 \
    }

/* Who gave up rights may have read what others of the new user must not see, until it says otherwise. */
static void
former_root(void)
{
    become_nobody();
    for (int dumpable = 0; dumpable < 2; dumpable++) {
        EXPECT(prctl(PR_SET_DUMPABLE, dumpable, 0, 0, 0), 0);
        other_start();
        EXPECT(call(SYS_process_vm_readv, other, (long)local, 1, (long)remote, 1, 0),
               dumpable ? 16 : -EPERM);
        other_end();
    }
}

static void
stranger(void)
{
    become_nobody();
    EXPECT(call(SYS_process_vm_readv, other, (long)local, 1, (long)remote, 1, 0), -EPERM);
    EXPECT(call(SYS_process_vm_writev, other, (long)local, 1, (long)remote, 1, 0), -EPERM);
}

void
other_rows(long number)
{
    arena_make();
    other_start();
    gone = other;
    other_end();
    other_start();
    local[0] = (struct iovec){bytes, 16};
    local[1] = (struct iovec){bytes + 16, 16};
    local[2] = (struct iovec){(void *)AT(HOLE_AT), 16};
    remote[0] = (struct iovec){(void *)AT(0), 16};
    remote[1] = (struct iovec){(void *)AT(SHARED_AT), 16};
    remote[2] = (struct iovec){(void *)AT(HOLE_AT), 16};
    too_long = (struct iovec){(void *)AT(0), (size_t)LONG_MAX + 1};
    nowhere = (struct iovec){NULL, 0};
    /* Longer than an address space, or than half of one; and together than a count can be. */
    long_here[0] = local[0];
    long_here[1] = (struct iovec){(void *)AT(0), (size_t)LONG_MAX};
    long_there[0] = remote[0];
    long_there[1] = long_here[1];
    bool fits = sizeof(long) < 8;

    const struct row rows[] = {
        COPY("flags", other, local, 1, remote, 1, 1, -EINVAL),
        COPY("no such process", 1 << 22, local, 1, remote, 1, 0, -ESRCH),
        COPY("a negative number", -1, local, 1, remote, 1, 0, -ESRCH),
        COPY("a process that was", gone, local, 1, remote, 1, 0, -ESRCH),
        COPY("too many pieces", other, many, 1025, remote, 1, 0, -EINVAL),
        COPY("too many pieces there", other, local, 1, many, 1025, 0, -EINVAL),
        COPY("a piece too long", other, &too_long, 1, remote, 1, 0, -EINVAL),
        COPY("a piece too long there", other, local, 1, &too_long, 1, 0, -EINVAL),
        COPY("no memory at the pieces", other, 8, 1, remote, 1, 0, -EFAULT),
        COPY("no memory at the pieces there", other, local, 1, 8, 1, 0, -EFAULT),
        COPY("nothing here", other, &local[2], 1, remote, 1, 0, -EFAULT),
        COPY("nothing there", other, local, 1, &remote[2], 1, 0, -EFAULT),
        COPY("no pieces", other, local, 0, remote, 1, 0, 0),
        COPY("no pieces there", other, local, 1, remote, 0, 0, 0),
        COPY("no bytes", other, &nowhere, 1, remote, 1, 0, 0),
        COPY("no bytes there", other, local, 1, &nowhere, 1, 0, 0),
        COPY("a piece", other, local, 1, remote, 1, 0, 16),
        COPY("pieces", other, local, 2, remote, 2, 0, 32),
        COPY("more there", other, local, 1, remote, 2, 0, 16),
        COPY("more here", other, local, 2, remote, 1, 0, 16),
        COPY("more than a count there", other, local, 1, long_there, 2, 0, 16),
        COPY("more than a count here", other, long_here, 2, remote, 1, 0, fits ? 16 : -EFAULT),
        COPY("more than is copied here", other, &long_here[1], 1, remote, 1, 0,
             fits || is_since(6, 4) ? 16 : -EFAULT),
        COPY("up to nothing there", other, local, 2, &remote[1], 2, 0, 16),
    };

    RUN(rows);
    EXPECT(in_child(stranger), 0);
    EXPECT(in_child(former_root), 0);
    other_end();
}

static const struct documented documented[] = {
    {EFAULT, NULL}, {EINVAL, NULL}, {ENOMEM, BY_REFUSAL}, {EPERM, NULL}, {ESRCH, NULL},
};

CALL(process_vm_readv, SYS_process_vm_readv, documented)
{
    other_rows(SYS_process_vm_readv);
    arena_make();
    other_start();
    PTR(0)[0] = 'z'; /* ours alone */
    EXPECT(call(SYS_process_vm_readv, other, (long)local, 1, (long)remote, 1, 0), 16);
    EXPECT(bytes[0], 'A');
    other_end();
}
