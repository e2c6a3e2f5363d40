/* SPDX-License-Identifier: MIT */
/*
 * mremap(2).
 */
#include "calls.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#define MOVE  MREMAP_MAYMOVE
#define FIXED (MREMAP_MAYMOVE | MREMAP_FIXED)
#define STAYS (MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
#define RW    (PROT_READ | PROT_WRITE)
#define FREE  AT(FREE_AT)
#define MREMAP(what, old, old_length, length, flags, target, want)             \
    {                                                                          \
        what, SYS_mremap, {old, old_length, length, flags, target, 0}, want, 0 \
    }

static long
remap(long old, long old_length, long length, long flags, long target)
{
    return call(SYS_mremap, old, old_length, length, flags, target, 0);
}

static void
moves(void)
{
    long got;

    arena_make();
    EXPECT(remap(AT(0), 4 * page, 4 * page, FIXED, FREE), FREE);
    for (int i = 0; i < 4; i++) {
        EXPECT(PTR(FREE_AT + i)[0], 'A' + i);
        EXPECT(touch(AT(i), TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    }
    /* Onto others; shorter than before. */
    EXPECT(remap(FREE, 4 * page, 2 * page, FIXED, AT(SHARED_AT)), AT(SHARED_AT));
    EXPECT(PTR(SHARED_AT)[0], 'A');
    EXPECT(PTR(SHARED_AT + 2)[0], 'U');
    EXPECT(resident(AT(FREE_AT + 2)), -1);

    arena_make(); /* in place, where there is room: pages 4 and 5 */
    EXPECT(remap(AT(2), 2 * page, 4 * page, 0, 0), AT(2));
    EXPECT(PTR(3)[0], 'D');
    EXPECT(PTR(5)[0], 0);
    EXPECT(remap(AT(2), 4 * page, page, 0, 0), AT(2));
    EXPECT(resident(AT(3)), -1);

    arena_make(); /* the old place stays, empty */
    got = remap(AT(0), 2 * page, 2 * page, STAYS, 0);
    EXPECT(!is_error(got) && got != AT(0), true);
    EXPECT(*(volatile unsigned char *)(got + page), 'B');
    EXPECT(resident(AT(1)), 0);
    EXPECT(PTR(1)[0], 0);
    munmap((void *)got, (size_t)(2 * page));
    got = remap(AT(0), 2 * page, 2 * page, STAYS | MREMAP_FIXED, FREE);
    EXPECT(got, FREE);
    got = remap(AT(SHARED_AT), page, page, STAYS, 0);
    EXPECT(is_error(got), false);
    EXPECT(*(volatile unsigned char *)got, 'S');
    EXPECT(PTR(SHARED_AT)[0], 'S');
    munmap((void *)got, (size_t)page);

    arena_make(); /* an old length of nothing: the pages a second time */
    got = remap(AT(SHARED_AT + 1), 0, 2 * page, MOVE, 0);
    EXPECT(is_error(got), false);
    EXPECT(*(volatile unsigned char *)got, 'T');
    *(volatile unsigned char *)(got + page) = 'x';
    EXPECT(PTR(SHARED_AT + 2)[0], 'x');
    munmap((void *)got, (size_t)(2 * page));
    EXPECT(remap(AT(FILE_SHARED_AT), 0, page, FIXED, FREE), FREE);
    EXPECT(PTR(FREE_AT)[0], 'f');
}

/* Locked pages stay locked and what is added is there. */
static void
locked(void)
{
    arena_make();
    EXPECT(mlock((void *)AT(2), (size_t)(2 * page)), 0);
    EXPECT(remap(AT(2), 2 * page, 4 * page, 0, 0), AT(2));
    EXPECT(resident(AT(5)), 1);
    EXPECT(status_kib("VmLck:"), 4 * page / 1024);
    EXPECT(remap(AT(2), 4 * page, 4 * page, STAYS | MREMAP_FIXED, FREE), FREE);
    if (on_quire()) /* Linux 6.18 forgets to take the old place off */
        EXPECT(status_kib("VmLck:"), 4 * page / 1024);
    EXPECT(has_flag(AT(2), "lo"), false);
    EXPECT(has_flag(FREE, "lo"), true);
}

static void
limited(void)
{
    struct rlimit space = {0, RLIM_INFINITY}, data, lock;

    arena_make();
    space.rlim_cur = (rlim_t)(status_kib("VmSize:") * 1024 + page);
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);
    EXPECT(remap(AT(3), page, 3 * page, 0, 0), -ENOMEM);
    EXPECT(remap(AT(3), page, 3 * page, FIXED, FREE), -ENOMEM);
    EXPECT(remap(AT(0), 2 * page, 2 * page, STAYS | MREMAP_FIXED, FREE), -ENOMEM);
    EXPECT(remap(AT(3), page, 2 * page, 0, 0), AT(3));
    space.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);

    arena_make();
    data = (struct rlimit){(rlim_t)(status_kib("VmData:") * 1024), RLIM_INFINITY};
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(remap(AT(3), page, 2 * page, 0, 0), -ENOMEM);
    EXPECT(remap(AT(SHARED_AT), 0, page, FIXED, FREE), FREE);
    data.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);

    arena_make();
    EXPECT(mlock((void *)AT(3), (size_t)page), 0);
    lock = (struct rlimit){2 * (rlim_t)page, 2 * (rlim_t)page};
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &lock), 0);
    become_nobody();
    EXPECT(remap(AT(3), page, 3 * page, 0, 0), -EAGAIN);
    EXPECT(remap(AT(3), page, 2 * page, 0, 0), AT(3));
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_mremap, AT(1), page, page, MREMAP_MAYMOVE | MREMAP_FIXED, AT(FREE_AT), 0),
           -ENOMEM);
    /* So does what makes a hole, or keeps the old place. */
    EXPECT(call(SYS_mremap, AT(1), 2 * page, page, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mremap, AT(0), 4 * page, 4 * page, STAYS | MREMAP_FIXED, AT(FREE_AT), 0),
           -ENOMEM);
    EXPECT(call(SYS_mremap, AT(2), 2 * page, page, 0, 0, 0), AT(2)); /* an end can always go */
}

/* Below the floor is nobody's. */
static void
low(void)
{
    become_nobody();
    EXPECT(remap(AT(0), page, page, FIXED, 0), -EPERM);
}

static const struct documented documented[] = {
    {EAGAIN, NULL},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

CALL(mremap, SYS_mremap, documented)
{
    const struct row rows[] = {
        MREMAP("flags that are none", AT(0), page, page, 8, 0, -EINVAL),
        MREMAP("fixed, may not move", AT(0), page, page, MREMAP_FIXED, FREE, -EINVAL),
        MREMAP("stays, may not move", AT(0), page, page, MREMAP_DONTUNMAP, FREE, -EINVAL),
        MREMAP("stays, another length", AT(0), page, 2 * page, STAYS, 0, -EINVAL),
        MREMAP("not a page's start", AT(0) + 1, page, page, MOVE, 0, -EINVAL),
        MREMAP("to nothing", AT(0), page, 0, MOVE, 0, -EINVAL),
        MREMAP("fixed, target not a page's start", AT(0), page, page, FIXED, FREE + 1, -EINVAL),
        MREMAP("fixed, target past the end", AT(0), page, page, FIXED, USER_END, -EINVAL),
        MREMAP("fixed, longer than memory", AT(0), page, USER_END + page, FIXED, FREE, -EINVAL),
        MREMAP("fixed, target overlaps", AT(0), 2 * page, 2 * page, FIXED, AT(1), -EINVAL),
        MREMAP("fixed, target is the source", AT(0), page, page, FIXED, AT(0), -EINVAL),
        MREMAP("stays, target overlaps", AT(0), 2 * page, 2 * page, STAYS, AT(1), -EINVAL),
        MREMAP("no old length, private", AT(0), 0, page, MOVE, 0, -EINVAL),
        MREMAP("a hole", AT(HOLE_AT), page, 2 * page, MOVE, 0, -EFAULT),
        MREMAP("a hole, fixed", AT(HOLE_AT), page, page, FIXED, FREE, -EFAULT),
        MREMAP("a hole, shorter", AT(HOLE_AT), 2 * page, page, 0, 0, -EFAULT),
        MREMAP("runs into a hole", AT(3), 2 * page, 3 * page, MOVE, 0, -EFAULT),
        MREMAP("two mappings, longer", AT(RW_AT + 8), 4 * page, 5 * page, MOVE, 0, -EFAULT),
        MREMAP("no room, may not move", AT(0), page, 2 * page, 0, 0, -ENOMEM),
        MREMAP("no room above, may not move", AT(SHARED_AT), 4 * page, 5 * page, 0, 0, -ENOMEM),
        MREMAP("the same", AT(0), page, page, 0, 0, AT(0)),
        MREMAP("the same, part of a page", AT(0), 1, page, 0, 0, AT(0)),
        MREMAP("shorter", AT(0), 4 * page, page, 0, 0, AT(0)),
        MREMAP("longer in place", AT(3), page, 3 * page, 0, 0, AT(3)),
        MREMAP("longer, moved", AT(0), page, 2 * page, MOVE, 0, ANY_VALUE),
        MREMAP("shared, longer, moved", AT(SHARED_AT), page, 2 * page, MOVE, 0, ANY_VALUE),
        MREMAP("fixed", AT(0), page, page, FIXED, FREE, FREE),
        MREMAP("fixed, longer", AT(0), page, 3 * page, FIXED, FREE, FREE),
        MREMAP("fixed, shorter", AT(0), 3 * page, page, FIXED, FREE, FREE),
        MREMAP("a file, longer than it", AT(FILE_SHARED_AT), 4 * page, 6 * page, MOVE, 0,
               ANY_VALUE),
        MREMAP("no rights", AT(NONE_AT), page, 3 * page, MOVE, 0, ANY_VALUE),
        MREMAP("stays, no rights", AT(NONE_AT), page, page, STAYS, 0, ANY_VALUE),
        MREMAP("stays, shared", AT(SHARED_AT), page, page, STAYS, FREE, FREE),
        MREMAP("stays, private of a file", AT(FILE_PRIVATE_AT), page, page, STAYS, FREE, FREE),
        MREMAP("stays, a file", AT(FILE_SHARED_AT), page, page, STAYS, FREE, FREE),
        MREMAP("stays, no length", AT(SHARED_AT), 0, 0, STAYS, 0, -EINVAL),
        MREMAP("stays, a hole", AT(HOLE_AT), page, page, STAYS, 0, -EFAULT),
        MREMAP("stays, two mappings", AT(NONE_AT), 4 * page, 4 * page, STAYS, 0, -EFAULT),
        MREMAP("no old length, private of a file", AT(FILE_PRIVATE_AT), 0, page, MOVE, 0, -EINVAL),
        MREMAP("no old length, in place", AT(SHARED_AT), 0, page, 0, 0, -ENOMEM),
        MREMAP("as long as memory", AT(0), page, USER_END - 2 * page, MOVE, 0, -ENOMEM),
        MREMAP("length wraps", AT(0), page, -1, MOVE, 0, -EINVAL),
        MREMAP("fixed, target wraps", AT(0), page, page, FIXED, -page, -EINVAL),
#if __SIZEOF_LONG__ == 8
        MREMAP("flags are a long", AT(0), page, page, 1l << 32, 0, -EINVAL),
#endif
        MREMAP("stays, to a hint", AT(0), page, page, STAYS, FREE, FREE),
    };
    /* Linux before 6.17 looks at the source after it has unmapped the target. */
    const struct row target_stays[] = {
        MREMAP("longer than memory", AT(0), page, USER_END + page, MOVE, 0,
               -EINVAL), /* or ENOMEM */
        MREMAP("onto a mapping, runs into a hole", AT(3), 2 * page, 3 * page, FIXED, AT(SHARED_AT),
               -EFAULT),
        MREMAP("onto a mapping, no old length", AT(0), 0, page, FIXED, AT(SHARED_AT), -EINVAL),
    };

    RUN(rows);
    if (is_since(6, 17))
        RUN(target_stays);
    moves();
    locked();
    EXPECT(in_child(limited), 0);
    arena_make();
    EXPECT(in_child(low), 0);
    at_map_limit(full);
}
