/* SPDX-License-Identifier: MIT */
/*
 * process_mrelease(2).  That memory is really given back is seen by Linux's own mrelease_test
 * (tests/selftests/linux).
 */
#include "calls.h"

#include <poll.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

enum { PAGES = 2000 };

static long
release(long fd)
{
    return call(SYS_process_mrelease, fd, 0, 0, 0, 0, 0);
}

/* Nobody but who is about to end; nothing where there is no memory any more. */
static void
ends(void)
{
    int ready[2];
    char byte;

    EXPECT(pipe(ready), 0);
    pid_t child = fork();

    if (child == 0) {
        char *at = mmap(NULL, (size_t)(PAGES * page), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        for (long i = 0; i < PAGES; i++)
            at[i * page] = 1;
        (void)!write(ready[1], "", 1);
        for (;;)
            pause();
    }
    int fd = (int)call(SYS_pidfd_open, child, 0, 0, 0, 0, 0);
    struct pollfd poll_one = {fd, POLLIN, 0};

    EXPECT(read(ready[0], &byte, 1), 1);
    EXPECT(release(fd), -EINVAL);
    EXPECT(kill(child, SIGKILL), 0);
    long result = release(fd);
    EXPECT(result == 0 || result == -ESRCH, true); /* it may have ended by then */
    EXPECT(poll(&poll_one, 1, -1), 1);
    EXPECT(release(fd), -ESRCH);
    EXPECT(waitpid(child, NULL, 0), child);
    EXPECT(release(fd), -ESRCH);
    close(fd);
    close(ready[0]);
    close(ready[1]);
}

static const struct documented documented[] = {
    {EAGAIN, "of devices that look at the memory, of which there are none here"},
    {EBADF, NULL},
    {EINTR, "only a thread that is being killed is interrupted, and sees no error"},
    {EINVAL, NULL},
    {ENOSYS, "of machines without page tables"},
    {ESRCH, NULL},
};

CALL(process_mrelease, SYS_process_mrelease, documented)
{
    long self = call(SYS_pidfd_open, getpid(), 0, 0, 0, 0, 0);
    const struct row rows[] = {
        {"flags", SYS_process_mrelease, {self, 1}, -EINVAL, 0},
        {"flags come first", SYS_process_mrelease, {-1, 1}, -EINVAL, 0},
        {"no descriptor", SYS_process_mrelease, {-1, 0}, -EBADF, 0},
        {"a descriptor of another kind", SYS_process_mrelease, {file_rw, 0}, -EBADF, 0},
        {"who goes on living", SYS_process_mrelease, {self, 0}, -EINVAL, 0},
    };

    RUN(rows);
    EXPECT(in_child(ends), 0);
    close((int)self);
}
