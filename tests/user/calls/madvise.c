/* SPDX-License-Identifier: MIT */
/*
 * madvise(2).
 */
#include "calls.h"

#include <sys/uio.h>

#ifndef MADV_COLD
#define MADV_COLD    20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#define RW (PROT_READ | PROT_WRITE)
#define MADVISE(what, address, length, advice, want, flags)                \
    {                                                                      \
        what, SYS_madvise, {address, length, advice, 0, 0, 0}, want, flags \
    }

static long
advise(long address, long length, int advice)
{
    return call(SYS_madvise, address, length, advice, 0, 0, 0);
}

static void
rows(void)
{
    const struct row rows[] = {
        MADVISE("no such advice", AT(0), page, 77, -EINVAL, 0),
        MADVISE("no such advice, no length", AT(0), 0, 77, -EINVAL, 0),
        MADVISE("not a page's start", AT(0) + 1, page, MADV_NORMAL, -EINVAL, 0),
        MADVISE("length wraps", AT(0), -1, MADV_NORMAL, -EINVAL, 0),
        MADVISE("end wraps", AT(0), -page, MADV_NORMAL, -EINVAL, 0),
        MADVISE("no length", AT(0), 0, MADV_DONTNEED, 0, 0),
        MADVISE("no length, nothing there", AT(HOLE_AT), 0, MADV_DONTNEED, 0, 0),
        MADVISE("a hole", AT(HOLE_AT), page, MADV_NORMAL, -ENOMEM, 0),
        MADVISE("runs into a hole", AT(3), 2 * page, MADV_RANDOM, -ENOMEM, PARTIAL),
        MADVISE("across a hole", AT(3), 4 * page, MADV_DONTNEED, -ENOMEM, PARTIAL),
        MADVISE("past the end", USER_END, page, MADV_NORMAL, -ENOMEM, 0),
        MADVISE("normal", AT(0), 4 * page, MADV_NORMAL, 0, 0),
        MADVISE("random", AT(0), 4 * page, MADV_RANDOM, 0, 0),
        MADVISE("sequential", AT(0), page, MADV_SEQUENTIAL, 0, 0),
        MADVISE("will need", AT(0), 4 * page, MADV_WILLNEED, 0, 0),
        MADVISE("will need, a file", AT(FILE_SHARED_AT), 4 * page, MADV_WILLNEED, 0, 0),
        MADVISE("will need, a hole", AT(HOLE_AT), page, MADV_WILLNEED, -ENOMEM, 0),
        MADVISE("do not need, a part", AT(0), 1, MADV_DONTNEED, 0, 0),
        MADVISE("do not need, all kinds", AT(SHARED_AT), 17 * page, MADV_DONTNEED, 0, 0),
        MADVISE("free", AT(0), 4 * page, MADV_FREE, 0, 0),
        MADVISE("free, shared", AT(SHARED_AT), page, MADV_FREE, -EINVAL, 0),
        MADVISE("free, a file", AT(FILE_PRIVATE_AT), page, MADV_FREE, -EINVAL, 0),
        MADVISE("remove, private", AT(0), page, MADV_REMOVE, -EINVAL, 0),
        MADVISE("remove, private of a file", AT(FILE_PRIVATE_AT), page, MADV_REMOVE, -EACCES, 0),
        MADVISE("remove, open for reading", AT(FILE_RO_AT), page, MADV_REMOVE, -EACCES, 0),
        MADVISE("remove, shared", AT(SHARED_AT), page, MADV_REMOVE, 0, 0),
        MADVISE("remove, across files, one to read", AT(FILE_SHARED_AT), 6 * page, MADV_REMOVE,
                -EACCES, PARTIAL),
        MADVISE("free, across kinds", AT(NONE_AT), 6 * page, MADV_FREE, -EINVAL, PARTIAL),
        MADVISE("free, no rights", AT(NONE_AT), page, MADV_FREE, 0, 0),
        MADVISE("do not need, no rights", AT(NONE_AT), page, MADV_DONTNEED, 0, 0),
        MADVISE("collapse, a hole", AT(HOLE_AT), page, MADV_COLLAPSE, -ENOMEM, 0),
        MADVISE("collapse, too small", AT(0), page, MADV_COLLAPSE, -EINVAL, 0),
        MADVISE("cold, all kinds", AT(SHARED_AT), 17 * page, MADV_COLD, 0, 0),
        MADVISE("page out, all kinds", AT(SHARED_AT), 17 * page, MADV_PAGEOUT, 0, 0),
        MADVISE("populate to write, shared, open for reading", AT(FILE_RO_AT), page,
                MADV_POPULATE_WRITE, -EINVAL, 0),
        MADVISE("populate, past the end", USER_END, page, MADV_POPULATE_READ, -ENOMEM, 0),
        MADVISE("not in forks", AT(0), page, MADV_DONTFORK, 0, 0),
        MADVISE("in forks", AT(0), page, MADV_DOFORK, 0, 0),
        MADVISE("wipe on fork", AT(0), page, MADV_WIPEONFORK, 0, 0),
        MADVISE("wipe on fork, shared", AT(SHARED_AT), page, MADV_WIPEONFORK, -EINVAL, 0),
        MADVISE("wipe on fork, a file", AT(FILE_PRIVATE_AT), page, MADV_WIPEONFORK, -EINVAL, 0),
        MADVISE("keep on fork", AT(0), page, MADV_KEEPONFORK, 0, 0),
        MADVISE("keep on fork, shared", AT(SHARED_AT), page, MADV_KEEPONFORK, 0, 0),
        MADVISE("not in dumps", AT(0), page, MADV_DONTDUMP, 0, 0),
        MADVISE("in dumps", AT(0), page, MADV_DODUMP, 0, 0),
        MADVISE("mergeable", AT(0), page, MADV_MERGEABLE, 0, 0),
        MADVISE("unmergeable", AT(0), page, MADV_UNMERGEABLE, 0, 0),
        MADVISE("huge", AT(0), page, MADV_HUGEPAGE, 0, 0),
        MADVISE("not huge", AT(0), page, MADV_NOHUGEPAGE, 0, 0),
        MADVISE("cold", AT(0), 4 * page, MADV_COLD, 0, 0),
        MADVISE("page out", AT(0), 4 * page, MADV_PAGEOUT, 0, 0),
        MADVISE("populate to read", AT(RO_AT), page, MADV_POPULATE_READ, 0, 0),
        MADVISE("populate to write", AT(0), 4 * page, MADV_POPULATE_WRITE, 0, 0),
        MADVISE("populate to read, no rights", AT(NONE_AT), page, MADV_POPULATE_READ, -EINVAL, 0),
        MADVISE("populate to write, read-only", AT(RO_AT), page, MADV_POPULATE_WRITE, -EINVAL, 0),
        MADVISE("populate, a hole", AT(HOLE_AT), page, MADV_POPULATE_READ, -ENOMEM, 0),
        MADVISE("populate, up to a hole", AT(3), 2 * page, MADV_POPULATE_READ, -ENOMEM, 0),
        MADVISE("populate, past the file", AT(FILE_SHARED_AT), 4 * page, MADV_POPULATE_READ,
                -EFAULT, 0),
        MADVISE("do not need, locked or not", AT(0), page, MADV_DONTNEED_LOCKED, 0, 0),
    };

    RUN(rows);
}

/* What goes reads as zero, or as the file. */
static void
contents(void)
{
    arena_make();
    EXPECT(advise(AT(0), 2 * page, MADV_DONTNEED), 0);
    EXPECT(resident(AT(0)), 0);
    EXPECT(PTR(0)[0], 0);
    EXPECT(PTR(2)[0], 'C');
    EXPECT(advise(AT(3), 4 * page, MADV_DONTNEED), -ENOMEM); /* both sides of the hole went */
    EXPECT(PTR(3)[0], 0);
    EXPECT(PTR(6)[0], 'S'); /* shared memory is still there */
    PTR(FILE_PRIVATE_AT)[0] = 'p';
    EXPECT(advise(AT(FILE_PRIVATE_AT), page, MADV_DONTNEED), 0);
    EXPECT(PTR(FILE_PRIVATE_AT)[0], 'f');
    EXPECT(advise(AT(SHARED_AT), page, MADV_REMOVE), 0);
    EXPECT(PTR(SHARED_AT)[0], 0);
    EXPECT(PTR(SHARED_AT + 1)[0], 'T');

    /* A page that FREE names keeps what is written to it afterwards. */
    arena_make();
    EXPECT(advise(AT(0), 2 * page, MADV_FREE), 0);
    PTR(0)[1] = 'z';
    EXPECT(PTR(0)[1], 'z');
    EXPECT(PTR(1)[0] == 'B' || PTR(1)[0] == 0, true);

    EXPECT(advise(AT(FREE_AT), page, MADV_POPULATE_READ), -ENOMEM);
    EXPECT(call(NR_MMAP, AT(FREE_AT), 2 * page, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           AT(FREE_AT));
    EXPECT(advise(AT(FREE_AT), 2 * page, MADV_POPULATE_WRITE), 0);
    EXPECT(resident(AT(FREE_AT)) && resident(AT(FREE_AT + 1)), 1);
    EXPECT(advise(AT(0), 2 * page, MADV_PAGEOUT), 0);
    EXPECT(PTR(0)[1], 'z');
}

static void
flags(void)
{
    static const struct {
        int set, clear;
        const char *flag;
    } pairs[] = {
        {MADV_RANDOM, MADV_NORMAL, "rr"},         {MADV_SEQUENTIAL, MADV_NORMAL, "sr"},
        {MADV_DONTFORK, MADV_DOFORK, "dc"},       {MADV_WIPEONFORK, MADV_KEEPONFORK, "wf"},
        {MADV_DONTDUMP, MADV_DODUMP, "dd"},       {MADV_HUGEPAGE, MADV_NOHUGEPAGE, "hg"},
        {MADV_MERGEABLE, MADV_UNMERGEABLE, "mg"},
    };

    arena_make();
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        EXPECT(advise(AT(1), page, pairs[i].set), 0);
        EXPECT(has_flag(AT(1), pairs[i].flag), true);
        EXPECT(has_flag(AT(2), pairs[i].flag), false);
        EXPECT(advise(AT(1), page, pairs[i].clear), 0);
        EXPECT(has_flag(AT(1), pairs[i].flag), false);
    }
}

static void
locked(void)
{
    static const int refused[] = {MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT};

    arena_make();
    EXPECT(mlock((void *)AT(0), (size_t)page), 0);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        EXPECT(advise(AT(0), page, refused[i]), -EINVAL);
    EXPECT(mlock((void *)AT(SHARED_AT), (size_t)page), 0);
    EXPECT(advise(AT(SHARED_AT), page, MADV_REMOVE), -EINVAL);
    /* What lies before it went. */
    EXPECT(mlock((void *)AT(2), (size_t)page), 0);
    EXPECT(advise(AT(1), 3 * page, MADV_DONTNEED), -EINVAL);
    EXPECT(PTR(1)[0] == 0 && PTR(2)[0] == 'C' && PTR(3)[0] == 'D', true);
    EXPECT(munlock((void *)AT(2), (size_t)page), 0);
    EXPECT(advise(AT(0), page, MADV_DONTNEED_LOCKED), 0);
    EXPECT(PTR(0)[0], 0);
    EXPECT(status_kib("VmLck:"), 2 * page / 1024);
}

/* Nothing goes from a file that is sealed, though it is mapped to be written. */
static void
sealed(void)
{
    int fd = (int)call(SYS_memfd_create, (long)"sealed", MFD_ALLOW_SEALING, 0, 0, 0, 0);

    arena_make();
    EXPECT(ftruncate(fd, page), 0);
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, RW, MAP_SHARED | MAP_FIXED, fd, 0), AT(FREE_AT));
    PTR(FREE_AT)[0] = 'm';
    EXPECT(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    EXPECT(advise(AT(FREE_AT), page, MADV_REMOVE), -EPERM);
    EXPECT(PTR(FREE_AT)[0], 'm');
    close(fd);
}

/* A private mapping of /dev/zero: anonymous, but for what asks for a file. */
static void
zeroes(void)
{
    int fd = open("/dev/zero", O_RDWR);

    arena_make();
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, RW, MAP_PRIVATE | MAP_FIXED, fd, 0), AT(FREE_AT));
    close(fd);
    PTR(FREE_AT)[0] = 'm';
    EXPECT(advise(AT(FREE_AT), page, MADV_FREE), 0);
    EXPECT(advise(AT(FREE_AT), page, MADV_DONTNEED), 0);
    EXPECT(PTR(FREE_AT)[0], 0);
    EXPECT(advise(AT(FREE_AT), page, MADV_WIPEONFORK), -EINVAL);
    EXPECT(advise(AT(FREE_AT), page, MADV_REMOVE), -EACCES);
    EXPECT(advise(AT(FREE_AT), page, MADV_WILLNEED), 0);
}

/* What a child has: nothing where DONTFORK, zeroes where WIPEONFORK. */
static void
child_sees(void)
{
    EXPECT(resident(AT(0)), -1);
    EXPECT(PTR(1)[0], 0);
    EXPECT(has_flag(AT(1), "wf"), true); /* and so will its children */
    EXPECT(PTR(2)[0], 'C');
}

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef BUS_MCEERR_AR
#define BUS_MCEERR_AR 4
#endif

static void
unprivileged(void)
{
    become_nobody();
    EXPECT(advise(AT(0), page, MADV_HWPOISON), -EPERM);
    EXPECT(advise(AT(0), page, MADV_SOFT_OFFLINE), -EPERM);
}

static void
poison_is_inherited(void)
{
    EXPECT(touch(AT(0), TOUCH_READ), RAISED(SIGBUS, BUS_MCEERR_AR));
}

/* What the parent has, too, is lost to both. */
static void
others_memory(void)
{
    EXPECT(advise(AT(3), page, MADV_HWPOISON), 0);
    EXPECT(touch(AT(3), TOUCH_READ), RAISED(SIGBUS, BUS_MCEERR_AR));
}

/* What somebody reads cannot be taken out of use. */
static void
memory_in_a_pipe(void)
{
    const struct iovec piece = {(void *)AT(2), (size_t)page};
    int ends[2];

    EXPECT(pipe(ends), 0);
    EXPECT(vmsplice(ends[1], &piece, 1, 0), page);
    EXPECT(advise(AT(2), page, MADV_HWPOISON), -EBUSY);
    close(ends[0]);
    close(ends[1]);
}

/* Not where the memory is somebody's: what is taken out of use is gone until the next start. */
static void
failing_memory(void)
{
    arena_make();
    EXPECT(advise(AT(0) + 1, page, MADV_HWPOISON), -EINVAL);
    EXPECT(advise(AT(0), 0, MADV_HWPOISON), 0);
    EXPECT(advise(AT(HOLE_AT), page, MADV_HWPOISON), -EFAULT);
    EXPECT(advise(AT(HOLE_AT), page, MADV_SOFT_OFFLINE), -EFAULT);
    EXPECT(advise(AT(0), page, MADV_HWPOISON), 0);
    EXPECT(touch(AT(0), TOUCH_READ), RAISED(SIGBUS, BUS_MCEERR_AR));
    EXPECT(touch(AT(0), TOUCH_WRITE), RAISED(SIGBUS, BUS_MCEERR_AR));
    EXPECT(call(SYS_write, file_rw, AT(0), 1, 0, 0, 0), -EFAULT);
    EXPECT(resident(AT(0)), 1); /* as Linux says of it */
    EXPECT(in_child(poison_is_inherited), 0);
    EXPECT(advise(AT(0), page, MADV_POPULATE_READ), -EHWPOISON);
    EXPECT(advise(AT(0), page, MADV_POPULATE_WRITE), -EHWPOISON);
    EXPECT(in_child(memory_in_a_pipe), 0);
    EXPECT(in_child(others_memory), 0);
    EXPECT(touch(AT(3), TOUCH_READ), RAISED(SIGBUS, BUS_MCEERR_AR));
    EXPECT(advise(AT(3), page, MADV_DONTNEED), 0);
    EXPECT(touch(AT(1), TOUCH_WRITE), 0);
    EXPECT(advise(AT(0), page, MADV_DONTNEED), 0); /* another page, another chance */
    EXPECT(PTR(0)[0], 0);
    EXPECT(advise(AT(1), 2 * page, MADV_SOFT_OFFLINE), 0);
    EXPECT(PTR(1)[0] == 'B' && PTR(2)[0] == 'C', true);
    EXPECT(advise(AT(SHARED_AT), page, MADV_SOFT_OFFLINE), 0);
    EXPECT(PTR(SHARED_AT)[0], 'S');
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(advise(AT(1), page, MADV_RANDOM), -EAGAIN);
    EXPECT(advise(AT(1), page, MADV_DONTFORK), -EAGAIN);
    EXPECT(advise(AT(0), 4 * page, MADV_RANDOM), 0);
    EXPECT(advise(AT(1), page, MADV_DONTNEED), 0);
}

static const struct documented documented[] = {
    {EACCES, NULL},
    {EAGAIN, NULL},
    {EBADF, "of a Linux without swap, which reads nothing ahead that is no file"},
    {EBUSY, NULL},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {EIO, "no limit of resident memory acts"},
    {ENOMEM, NULL},
    {EPERM, NULL},
    {EHWPOISON, NULL},
};

CALL(madvise, SYS_madvise, documented)
{
    rows();
    contents();
    flags();
    locked();
    sealed();
    zeroes();
    if (advise(AT(0), 0, MADV_HWPOISON) == 0) /* not everywhere on Linux */
        EXPECT(in_child(unprivileged), 0);
    arena_make();
    EXPECT(advise(AT(0), page, MADV_DONTFORK), 0);
    EXPECT(advise(AT(1), page, MADV_WIPEONFORK), 0);
    EXPECT(in_child(child_sees), 0);
    EXPECT(PTR(1)[0], 'B');
    if (on_quire())
        failing_memory();
    at_map_limit(full);
}
