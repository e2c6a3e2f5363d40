/* SPDX-License-Identifier: MIT */
/*
 * shmat(2).
 */
#include "shm.h"

#ifndef SHM_EXEC
#define SHM_EXEC 0100000
#endif
#define SHMAT(what, id, address, flags, want)          \
    {                                                  \
        what, SYS_shmat, {id, address, flags}, want, 0 \
    }

static const struct documented documented[] = {
    {EACCES, NULL},
    {EIDRM, "in a race with the removal alone; afterwards it is EINVAL"},
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

static void
detach(const struct row *row, long got)
{
    (void)row;
    if (!is_error(got))
        EXPECT(shmdt((void *)got), 0);
}

static void
stranger(void)
{
    struct shmid_ds set;

    EXPECT(shmctl(segment, IPC_STAT, &set), 0);
    set.shm_perm.mode = 0604; /* others may read */
    EXPECT(shmctl(segment, IPC_SET, &set), 0);
    become_nobody();
    EXPECT(call(SYS_shmat, segment, 0, 0, 0, 0, 0), -EACCES);
    EXPECT(call(SYS_shmat, segment, 0, SHM_RDONLY | SHM_EXEC, 0, 0, 0), -EACCES);
    long at = call(SYS_shmat, segment, 0, SHM_RDONLY, 0, 0, 0);

    EXPECT(is_error(at), false);
    EXPECT(touch(at, TOUCH_READ), 0);
    EXPECT(touch(at, TOUCH_WRITE), RAISED(SIGSEGV, SEGV_ACCERR));
    EXPECT(mprotect((void *)at, (size_t)page, PROT_READ | PROT_WRITE), -1);
    EXPECT(errno, EACCES);
}

static void
full(void)
{
    EXPECT(call(SYS_shmat, segment, 0, 0, 0, 0, 0), -ENOMEM);
}

static void
limited(void)
{
    struct rlimit space = {(rlim_t)(status_kib("VmSize:") * 1024 + page), RLIM_INFINITY};

    EXPECT(setrlimit(RLIMIT_AS, &space), 0);
    EXPECT(call(SYS_shmat, segment, 0, 0, 0, 0, 0), -ENOMEM);
}

CALL(shmat, SYS_shmat, documented)
{
    static const struct around detaching = {NULL, detach};

    segment_make();
    const struct row rows[] = {
        SHMAT("a negative number", -1, 0, 0, -EINVAL),
        SHMAT("no such segment", segment + 1, 0, 0, -EINVAL),
        SHMAT("a segment that was", removed_segment, 0, 0, -EINVAL),
        SHMAT("not a page's start", segment, AT(FREE_AT) + 1, 0, -EINVAL),
        SHMAT("something is there", segment, AT(RW_AT), 0, -EINVAL),
        SHMAT("something is at its end", segment, AT(SHARED_AT - 1), 0, -EINVAL),
        SHMAT("replacing, anywhere", segment, 0, SHM_REMAP, -EINVAL),
        SHMAT("replacing, not a page's start", segment, AT(RW_AT) + 1, SHM_REMAP, -EINVAL),
        SHMAT("past the end", segment, USER_END, 0, -ENOMEM),
        SHMAT("anywhere", segment, 0, 0, ANY_VALUE),
        SHMAT("for reading", segment, 0, SHM_RDONLY, ANY_VALUE),
        SHMAT("there", segment, AT(FREE_AT), 0, AT(FREE_AT)),
        SHMAT("rounded", segment, AT(FREE_AT) + 17, SHM_RND, AT(FREE_AT)),
        SHMAT("replacing", segment, AT(RW_AT), SHM_REMAP, AT(RW_AT)),
    };

    RUN_AROUND(rows, &detaching);
    EXPECT(in_child(stranger), 0);
    EXPECT(in_child(limited), 0);
    at_map_limit(full);
    segment_drop();
}
