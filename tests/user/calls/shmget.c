/* SPDX-License-Identifier: MIT */
/*
 * shmget(2), and the segment that the files of its family have.
 */
#include "shm.h"

int segment, removed_segment;
long segment_key, free_key;

void
segment_make(void)
{
    segment_key = 0x51554952 + 2 * getpid();
    free_key = segment_key + 1;
    removed_segment = shmget(IPC_PRIVATE, 1, 0600);
    EXPECT(shmctl(removed_segment, IPC_RMID, NULL), 0);
    segment = shmget((key_t)segment_key, (size_t)(2 * page), IPC_CREAT | IPC_EXCL | 0600);
    EXPECT(segment >= 0, true);
}

void
segment_drop(void)
{
    EXPECT(shmctl(segment, IPC_RMID, NULL), 0);
}

/* Rows of shmget: what was made goes. */
static void
drop_made(const struct row *row, long got)
{
    (void)row;
    if (!is_error(got) && got != segment)
        EXPECT(shmctl((int)got, IPC_RMID, NULL), 0);
}

#define SHMGET(what, key, bytes, flags, want)                  \
    {                                                          \
        what, SYS_shmget, {(long)(key), bytes, flags}, want, 0 \
    }
#define HUGE_FLAG 04000

static const struct documented documented[] = {
    {EACCES, NULL}, {EEXIST, NULL},       {EINVAL, NULL}, {ENFILE, NULL},
    {ENOENT, NULL}, {ENOMEM, BY_REFUSAL}, {ENOSPC, NULL}, {EPERM, NULL},
};

static void
stranger(void)
{
    become_nobody();
    EXPECT(call(SYS_shmget, segment_key, 0, 0400, 0, 0, 0), -EACCES);
    EXPECT(call(SYS_shmget, segment_key, 0, 0, 0, 0, 0), segment); /* to know it is no right */
    EXPECT(call(SYS_shmget, IPC_PRIVATE, 4 << 20, HUGE_FLAG | 0600, 0, 0, 0), -EPERM);
}

static void
limited(void)
{
    static const char most[] = "/proc/sys/kernel/shmmax", all[] = "/proc/sys/kernel/shmall",
                      count[] = "/proc/sys/kernel/shmmni";
    struct shm_info used;
    long before = set_number(most, 3 * page);

    EXPECT(call(SYS_shmget, IPC_PRIVATE, 3 * page + 1, 0600, 0, 0, 0), -EINVAL);
    EXPECT(set_number(most, before), 3 * page);
    EXPECT(shmctl(0, SHM_INFO, (struct shmid_ds *)&used) >= 0, true);
    before = set_number(all, (long)used.shm_tot + 1);
    EXPECT(call(SYS_shmget, IPC_PRIVATE, 2 * page, 0600, 0, 0, 0), -ENOSPC);
    (void)set_number(all, before);
    before = set_number(count, used.used_ids);
    EXPECT(call(SYS_shmget, IPC_PRIVATE, page, 0600, 0, 0, 0), -ENOSPC);
    EXPECT(call(SYS_shmget, segment_key, page, 0600, 0, 0, 0), segment);
    (void)set_number(count, before);
}

/* kernel.shm_next_id: once, and if its place is taken the next one. */
static void
named(void)
{
    static const char path[] = "/proc/sys/kernel/shm_next_id";
    const int round = 0x1234 << 15;
    int first, second;

    EXPECT(set_number(path, round + 300), -1);
    first = (int)call(SYS_shmget, IPC_PRIVATE, page, 0600, 0, 0, 0);
    EXPECT(first, round + 300);
    EXPECT(set_number(path, round + 0x8000 + 300), -1);
    EXPECT(call(SYS_shmget, segment_key, page, 0600, 0, 0, 0), segment); /* makes none */
    EXPECT(set_number(path, round + 0x8000 + 300), round + 0x8000 + 300);
    second = (int)call(SYS_shmget, IPC_PRIVATE, page, 0600, 0, 0, 0);
    EXPECT(second, round + 0x8000 + 301);
    EXPECT(shmctl(first, IPC_RMID, NULL), 0);
    EXPECT(shmctl(second, IPC_RMID, NULL), 0);
    first = (int)call(SYS_shmget, IPC_PRIVATE, page, 0600, 0, 0, 0);
    EXPECT(first >= 0 && first % 0x8000 < 300, true);
    EXPECT(shmctl(first, IPC_RMID, NULL), 0);
}

static void
no_files(void)
{
    EXPECT(call(SYS_shmget, IPC_PRIVATE, page, 0600, 0, 0, 0), -ENFILE);
}

CALL(shmget, SYS_shmget, documented)
{
    static const struct around dropping = {NULL, drop_made};

    segment_make();
    const struct row rows[] = {
        SHMGET("no such key", free_key, page, 0600, -ENOENT),
        SHMGET("no such key, no size", free_key, 0, 0600, -ENOENT),
        SHMGET("there already", segment_key, page, IPC_CREAT | IPC_EXCL | 0600, -EEXIST),
        SHMGET("there already, larger", segment_key, 9 * page, IPC_CREAT | IPC_EXCL | 0600,
               -EEXIST),
        SHMGET("larger than it is", segment_key, 2 * page + 1, 0600, -EINVAL),
        SHMGET("new, no size", IPC_PRIVATE, 0, 0600, -EINVAL),
        SHMGET("new by key, no size", free_key, 0, IPC_CREAT | 0600, -EINVAL),
        SHMGET("new, longer than anything", IPC_PRIVATE, -1, 0600, -EINVAL),
        SHMGET("the same", segment_key, 2 * page, 0600, segment),
        SHMGET("the same, smaller", segment_key, 1, IPC_CREAT | 0600, segment),
        SHMGET("the same, no size", segment_key, 0, 0, segment),
        SHMGET("new", IPC_PRIVATE, page, 0600, ANY_VALUE),
        SHMGET("new by key", free_key, 1, IPC_CREAT | IPC_EXCL | 0640, ANY_VALUE),
        SHMGET("new, not promised", IPC_PRIVATE, page, SHM_NORESERVE | 0600, ANY_VALUE),
    };

    RUN_AROUND(rows, &dropping);
    EXPECT(in_child(stranger), 0);
    if (on_own_machine()) {
        limited();
        named();
    }
    segment_drop();
    at_file_limit(no_files);
}
