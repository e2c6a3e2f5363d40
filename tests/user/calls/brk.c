/* SPDX-License-Identifier: MIT */
/*
 * brk(2): the raw call has no errors; it answers where the break is.
 */
#include "calls.h"

static long
move_to(long address)
{
    return call(SYS_brk, address, 0, 0, 0, 0, 0);
}

static void
limited(void)
{
    long now = move_to(0);
    struct rlimit data = {0, RLIM_INFINITY}, space = {0, RLIM_INFINITY}, lock;

    space.rlim_cur = (rlim_t)(status_kib("VmSize:") * 1024 + 2 * page);
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);
    EXPECT(move_to(now + 8 * page), now);
    space.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);

    /* Of nothing at all: not even the heap that there is may grow. */
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(move_to(now + page), now);
    data.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);

    /* So much and no byte more, of the program's own data and the heap. */
    data.rlim_cur = (rlim_t)(status_kib("VmData:") * 1024 + page);
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(move_to(((now + page - 1) & -page) + 2 * page), now);
    EXPECT(move_to(((now + page - 1) & -page) + page), ((now + page - 1) & -page) + page);
    EXPECT(move_to(now), now);
    data.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);

    EXPECT(mlockall(MCL_FUTURE), 0);
    EXPECT(move_to(now + 2 * page), now + 2 * page);
    EXPECT(resident((now + page) & -page), 1);
    lock.rlim_cur = (rlim_t)(status_kib("VmLck:") * 1024 + page);
    lock.rlim_max = lock.rlim_cur;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    become_nobody();
    EXPECT(move_to(now + 8 * page), now + 2 * page);
}

static const struct documented documented[] = {
    {0, "the call has no errors: it answers where the break is"},
};

CALL(brk, SYS_brk, documented)
{
    long now = move_to(0), base = (now + page - 1) & -page;

    EXPECT(move_to(base + 3 * page), base + 3 * page);
    memset((void *)base, 7, (size_t)(3 * page));
    EXPECT(move_to(base), base);
    EXPECT(touch(base, TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(move_to(base + 1), base + 1);
    EXPECT(*(volatile char *)base, 0); /* fresh */
    EXPECT(touch(base + page, TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(move_to(base + 5), base + 5); /* bytes count, pages are mapped */
    EXPECT(move_to(1), base + 5);
    EXPECT(move_to(-1), base + 5);
    EXPECT(move_to(USER_END), base + 5);
    /* Something in the way, and a page between. */
    EXPECT(call(NR_MMAP, base + 4 * page, page, PROT_READ,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
           base + 4 * page);
    EXPECT(move_to(base + 6 * page), base + 5);
    EXPECT(move_to(base + 4 * page), base + 5);
    EXPECT(move_to(base + 3 * page), base + 3 * page);
    EXPECT(munmap((void *)(base + 4 * page), (size_t)page), 0);
    EXPECT(strcmp(rights_at(base), "rw-p"), 0);
    EXPECT(has_flag(base, "ac"), true);
    EXPECT(move_to(now), now);
    EXPECT(in_child(limited), 0);
}
