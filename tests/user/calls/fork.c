/* SPDX-License-Identifier: MIT */
/*
 * fork(2), a call of its own on some machines and one of clone's uses on others.
 */
#include "calls.h"

#ifdef SYS_fork
#define NR_FORK SYS_fork
#else
#define NR_FORK SYS_clone
#endif

static const struct documented documented[] = {
    {EAGAIN, NULL},
    {ENOMEM, BY_REFUSAL},
    {ENOSYS, "of machines without page tables"},
};

static void
limited(void)
{
    become_single();
    const struct row rows[] = {{"one process too many", NR_FORK, {SIGCHLD}, -EAGAIN, 0}};
    RUN(rows);
}

static void
child_sees(void)
{
    EXPECT(PTR(0)[0], 'A');
    EXPECT(PTR(FILE_SHARED_AT)[0], 'f');
    EXPECT(touch(AT(HOLE_AT), TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(touch(AT(RO_AT), TOUCH_WRITE), RAISED(SIGSEGV, SEGV_ACCERR));
    PTR(0)[0] = 'c';
    PTR(SHARED_AT)[0] = 'c';
    EXPECT(call(SYS_munmap, AT(1), page, 0, 0, 0, 0), 0);
}

CALL(fork, NR_FORK, documented)
{
    const struct row rows[] = {{"a child", NR_FORK, {SIGCHLD}, ANY_VALUE, 0}};

    RUN(rows);
    arena_make();
    EXPECT(in_child(child_sees), 0);
    EXPECT(PTR(0)[0], 'A');
    EXPECT(PTR(1)[0], 'B');
    EXPECT(PTR(SHARED_AT)[0], 'c');
    EXPECT(in_child(limited), 0);
}
