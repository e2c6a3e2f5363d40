/* SPDX-License-Identifier: MIT */
/*
 * shmdt(2).
 */
#include "shm.h"

static const struct documented documented[] = {{EINVAL, NULL}};

static void
attach(void)
{
    EXPECT((long)shmat(segment, (void *)AT(FREE_AT), 0), AT(FREE_AT));
}

CALL(shmdt, SYS_shmdt, documented)
{
    static const struct around attached = {attach, NULL};
    struct shmid_ds status;

    segment_make();
    const struct row rows[] = {
        {"nothing", SYS_shmdt, {0}, -EINVAL, 0},
        {"not a page's start", SYS_shmdt, {AT(FREE_AT) + 1}, -EINVAL, 0},
        {"not its start", SYS_shmdt, {AT(FREE_AT + 1)}, -EINVAL, 0},
        {"memory of another kind", SYS_shmdt, {AT(SHARED_AT)}, -EINVAL, 0},
        {"a hole", SYS_shmdt, {AT(HOLE_AT)}, -EINVAL, 0},
        {"past the end", SYS_shmdt, {USER_END}, -EINVAL, 0},
        {"its start", SYS_shmdt, {AT(FREE_AT)}, 0, 0},
    };

    RUN_AROUND(rows, &attached);
    arena_make();
    attach();
    PTR(FREE_AT)[0] = 's';
    EXPECT(call(SYS_shmdt, AT(FREE_AT), 0, 0, 0, 0, 0), 0);
    EXPECT(touch(AT(FREE_AT), TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(call(SYS_shmdt, AT(FREE_AT), 0, 0, 0, 0, 0), -EINVAL);
    attach();
    EXPECT(PTR(FREE_AT)[0], 's');
    EXPECT(munmap((void *)AT(FREE_AT), (size_t)page), 0); /* what is left of it goes */
    EXPECT(call(SYS_shmdt, AT(FREE_AT), 0, 0, 0, 0, 0), 0);
    EXPECT(shmctl(segment, IPC_STAT, &status), 0);
    EXPECT(status.shm_nattch, 0);
    segment_drop();
}
