/* SPDX-License-Identifier: MIT */
/*
 * vfork(2): the errors are fork's; the child has our memory, and we wait until it is gone.
 */
#include "calls.h"

#ifdef SYS_vfork
#define NR_VFORK SYS_vfork
#else
#define NR_VFORK SYS_clone
#endif

static const struct documented documented[] = {
    {EAGAIN, NULL},
    {ENOMEM, "as of fork, which is the same code; a refused call must not come back twice"},
    {ENOSYS, "of machines without page tables"},
};

static void
limited(void)
{
    become_single();
    const struct row rows[] = {{"one process too many",
                                NR_VFORK,
                                {0x4100 /* CLONE_VFORK | CLONE_VM */ | SIGCHLD},
                                -EAGAIN,
                                0}};
    RUN(rows);
}

CALL(vfork, NR_VFORK, documented)
{
    static volatile int seen;
    int status;

    arena_make();
    pid_t child = vfork();

    if (child == 0) {
        usleep(20000);
        PTR(0)[0] = 'v';
        seen = 1;
        _exit(7);
    }
    EXPECT(seen, 1);
    EXPECT(PTR(0)[0], 'v');
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(WEXITSTATUS(status), 7);
    EXPECT(in_child(limited), 0);
}
