/* SPDX-License-Identifier: MIT */
/*
 * shmctl(2).
 */
#include "shm.h"

#ifndef SHM_STAT_ANY
#define SHM_STAT_ANY 15
#endif
#define SHMCTL(what, id, command, status, want)                  \
    {                                                            \
        what, SYS_shmctl, {id, command, (long)(status)}, want, 0 \
    }

static struct shmid_ds status;

static const struct documented documented[] = {
    {EACCES, NULL},
    {EFAULT, NULL},
    {EIDRM, "in a race with the removal alone; afterwards it is EINVAL"},
    {EINVAL, NULL},
    {ENOMEM, NULL},
    {EOVERFLOW, "of structures with 16-bit numbers of users, which nobody has passed since 2.4"},
    {EPERM, NULL},
};

static void
stranger(void)
{
    become_nobody();
    const struct row rows[] = {
        SHMCTL("look", segment, IPC_STAT, &status, -EACCES),
        SHMCTL("remove", segment, IPC_RMID, 0, -EPERM),
        SHMCTL("change", segment, IPC_SET, &status, -EPERM),
        SHMCTL("lock", segment, SHM_LOCK, 0, -EPERM),
        SHMCTL("unlock", segment, SHM_UNLOCK, 0, -EPERM),
    };
    RUN(rows);
}

/* Who owns it may lock it, as far as one may lock memory. */
static void
owner(void)
{
    struct rlimit lock = {(rlim_t)page, (rlim_t)page};

    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    become_nobody();
    long own = shmget(IPC_PRIVATE, (size_t)(2 * page), 0600);

    EXPECT(call(SYS_shmctl, own, SHM_LOCK, 0, 0, 0, 0), -ENOMEM);
    lock.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    EXPECT(call(SYS_shmctl, own, SHM_LOCK, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_shmctl, own, IPC_RMID, 0, 0, 0, 0), 0);
}

static void
make_two(void)
{
    (void)call(SYS_shmget, free_key, page, IPC_CREAT | 0600, 0, 0, 0);
    (void)call(SYS_shmget, free_key + 1, page, IPC_CREAT | 0600, 0, 0, 0);
}

static long
by_key(long key)
{
    return call(SYS_shmget, key, 0, 0, 0, 0, 0);
}

/* kernel.shm_rmid_forced: a segment goes with its last attach, or with who made it. */
static void
forced(void)
{
    static const char path[] = "/proc/sys/kernel/shm_rmid_forced";
    char *at;

    EXPECT(in_child(make_two), 0);
    at = shmat((int)by_key(free_key), NULL, 0);
    EXPECT(set_number(path, 1), 0);
    EXPECT(is_error(by_key(free_key)), false);
    EXPECT(by_key(free_key + 1), -ENOENT); /* its maker has ended, nobody has it */
    EXPECT(is_error(by_key(segment_key)), false);
    EXPECT(shmdt(at), 0);
    EXPECT(by_key(free_key), -ENOENT);
    EXPECT(in_child(make_two), 0);
    EXPECT(by_key(free_key), -ENOENT);
    EXPECT(set_number(path, 0), 1);
}

CALL(shmctl, SYS_shmctl, documented)
{
    segment_make();
    EXPECT(shmctl(segment, IPC_STAT, &status), 0);
    const struct row rows[] = {
        SHMCTL("no such command", segment, 99, &status, -EINVAL),
        SHMCTL("a negative number", -1, IPC_STAT, &status, -EINVAL),
        SHMCTL("a negative number, no such command", -1, 99, &status, -EINVAL),
        SHMCTL("no such segment", segment + 1, IPC_STAT, &status, -EINVAL),
        SHMCTL("a segment that was", removed_segment, IPC_RMID, 0, -EINVAL),
        SHMCTL("no such index", 30000, SHM_STAT, &status, -EINVAL),
        SHMCTL("no memory for the status", segment, IPC_STAT, 8, -EFAULT),
        SHMCTL("no memory at the new", segment, IPC_SET, 8, -EFAULT),
        SHMCTL("no memory at the new of none", segment + 1, IPC_SET, 8, -EFAULT),
        SHMCTL("no memory for the limits", 0, IPC_INFO, 8, -EFAULT),
        SHMCTL("no memory for the usage", 0, SHM_INFO, 8, -EFAULT),
        SHMCTL("the status", segment, IPC_STAT, &status, 0),
        SHMCTL("change it", segment, IPC_SET, &status, 0),
        SHMCTL("unlock it", segment, SHM_UNLOCK, 0, 0),
    };

    RUN(rows);
    EXPECT(call(SYS_shmctl, segment, SHM_LOCK, 0, 0, 0, 0), 0);
    EXPECT(shmctl(segment, IPC_STAT, &status), 0);
    EXPECT(status.shm_perm.mode & 02000, 02000);
    EXPECT(call(SYS_shmctl, segment, SHM_UNLOCK, 0, 0, 0, 0), 0);
    status.shm_perm.mode = 0600;
    EXPECT(in_child(stranger), 0);
    EXPECT(in_child(owner), 0);
    if (on_own_machine())
        forced();
    segment_drop();
}
