/* SPDX-License-Identifier: MIT */
/*
 * mprotect(2), and pkey_mprotect(2) with the key -1, which is the same.
 */
#include "calls.h"

#define RW         (PROT_READ | PROT_WRITE)
#define PROT_SEM_  0x8
#define GROWS_DOWN 0x01000000
#define GROWS_UP   0x02000000
#define MPROTECT(what, address, length, prot, want, flags)                                 \
    {what, SYS_mprotect, {address, length, prot, 0, 0, 0}, want, flags},                   \
    {                                                                                      \
        "key -1: " what, SYS_pkey_mprotect, {address, length, prot, -1, 0, 0}, want, flags \
    }

static void
limited(void)
{
    struct rlimit data;

    arena_make();
    data = (struct rlimit){(rlim_t)(status_kib("VmData:") * 1024), RLIM_INFINITY};
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(call(SYS_mprotect, AT(RO_AT), page, RW, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mprotect, AT(RO_AT), page, PROT_EXEC, 0, 0, 0), 0);
    EXPECT(call(SYS_mprotect, AT(RW_AT), page, PROT_READ, 0, 0, 0), 0);
    EXPECT(call(SYS_mprotect, AT(RO_AT), page, RW, 0, 0, 0), 0);
}

/* Of a file that is sealed against writing. */
static void
sealed(void)
{
    int fd = (int)call(SYS_memfd_create, (long)"sealed", MFD_ALLOW_SEALING, 0, 0, 0, 0);

    EXPECT(ftruncate(fd, page), 0);
    EXPECT(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), AT(FREE_AT));
    EXPECT(call(SYS_mprotect, AT(FREE_AT), page, RW, 0, 0, 0), -EACCES);
    EXPECT(munmap((void *)AT(FREE_AT), (size_t)page), 0);
    close(fd);
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_mprotect, AT(1), page, PROT_READ, 0, 0, 0), -ENOMEM);
    EXPECT(call(SYS_mprotect, AT(0), 4 * page, PROT_READ, 0, 0, 0), 0);
}

static const struct documented documented[] = {
    {EACCES, NULL},
    {EINVAL, NULL},
    {ENOMEM, NULL},
};

CALL(mprotect, SYS_mprotect, documented)
{
    long grows = AT(FREE_AT + 4);
    const struct row rows[] = {
        MPROTECT("not a page's start", AT(RW_AT) + 1, page, PROT_READ, -EINVAL, 0),
        MPROTECT("not a page's start, no length", AT(RW_AT) + 1, 0, PROT_READ, -EINVAL, 0),
        MPROTECT("rights that are none", AT(RW_AT), page, 0x10, -EINVAL, 0),
        MPROTECT("rights that are none, no length", AT(RW_AT), 0, 0x10, 0, 0),
        MPROTECT("both ways of growth", AT(RW_AT), page, PROT_READ | GROWS_DOWN | GROWS_UP, -EINVAL,
                 0),
        MPROTECT("grows down, does not", AT(RW_AT), page, PROT_READ | GROWS_DOWN, -EINVAL, 0),
        MPROTECT("grows up", AT(RW_AT), page, PROT_READ | GROWS_UP, -EINVAL, 0),
        MPROTECT("length wraps", AT(RW_AT), -page, PROT_READ, -ENOMEM, 0),
        MPROTECT("past the end", USER_END, page, PROT_READ, -ENOMEM, 0),
        MPROTECT("a hole", AT(HOLE_AT), page, PROT_READ, -ENOMEM, 0),
        MPROTECT("starts in a hole", AT(HOLE_AT), 4 * page, PROT_READ, -ENOMEM, 0),
        MPROTECT("runs into a hole", AT(RW_AT), 6 * page, PROT_READ, -ENOMEM, PARTIAL),
        MPROTECT("grows down, in a hole", AT(HOLE_AT), page, PROT_READ | GROWS_DOWN, -ENOMEM, 0),
        MPROTECT("grows down, starts in a hole", AT(HOLE_AT), 4 * page, PROT_READ | GROWS_DOWN,
                 -EINVAL, 0),
        MPROTECT("shared, open for reading", AT(FILE_RO_AT), page, RW, -EACCES, 0),
        MPROTECT("no length", AT(RW_AT), 0, PROT_NONE, 0, 0),
        MPROTECT("no length, nothing there", AT(HOLE_AT), 0, PROT_NONE, 0, 0),
        MPROTECT("part of a page", AT(RW_AT), 1, PROT_READ, 0, 0),
        MPROTECT("across kinds", AT(SHARED_AT), 8 * page, PROT_READ, 0, 0),
        MPROTECT("semaphores", AT(RW_AT), page, RW | PROT_SEM_, 0, 0),
        MPROTECT("all rights", AT(RW_AT), page, RW | PROT_EXEC, 0, 0),
        MPROTECT("shared, open for reading, no rights", AT(FILE_RO_AT), page, PROT_NONE, 0, 0),
        {"a key that is none",
         SYS_pkey_mprotect,
         {AT(RW_AT), page, PROT_READ, 77, 0, 0},
         -EINVAL,
         0},
    };
    RUN(rows);

    arena_make();
    EXPECT(call(SYS_mprotect, AT(RW_AT), 6 * page, PROT_READ, 0, 0, 0), -ENOMEM);
    EXPECT(strcmp(rights_at(AT(3)), "r--p"), 0); /* what lies before the hole was changed */
    EXPECT(PTR(3)[0], 'D');
    EXPECT(touch(AT(3), TOUCH_WRITE), RAISED(SIGSEGV, SEGV_ACCERR));
    EXPECT(call(SYS_mprotect, AT(1), page, PROT_NONE, 0, 0, 0), 0);
    EXPECT(touch(AT(1), TOUCH_READ), RAISED(SIGSEGV, SEGV_ACCERR));
    EXPECT(call(SYS_mprotect, AT(0), 4 * page, RW, 0, 0, 0), 0);
    EXPECT(PTR(1)[0], 'B');
    EXPECT(touch(AT(1), TOUCH_WRITE), 0);

    /* What lies before the refusal was changed. */
    arena_make();
    EXPECT(call(SYS_mprotect, AT(FILE_SHARED_AT), 6 * page, RW | PROT_EXEC, 0, 0, 0), -EACCES);
    EXPECT(strcmp(rights_at(AT(FILE_SHARED_AT)), "rwxs"), 0);
    EXPECT(strcmp(rights_at(AT(FILE_RO_AT)), "r--s"), 0);

    /* Down to where a growing region starts. */
    EXPECT(call(NR_MMAP, grows, 2 * page, RW,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0),
           grows);
    EXPECT(call(SYS_mprotect, grows + page, page, PROT_READ | GROWS_DOWN, 0, 0, 0), 0);
    EXPECT(strcmp(rights_at(grows), "r--p"), 0);
    EXPECT(munmap((void *)grows, (size_t)(2 * page)), 0);
    sealed();
    EXPECT(in_child(limited), 0);
    at_map_limit(full);
}
