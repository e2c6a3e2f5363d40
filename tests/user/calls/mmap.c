/* SPDX-License-Identifier: MIT */
/*
 * mmap(2).  ETXTBSY is history.
 */
#include "calls.h"

#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef MAP_SHARED_VALIDATE
#define MAP_SHARED_VALIDATE 0x03
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif
#define DROPPABLE 0x08 /* a type, since Linux 6.11 */
#define ANON      (MAP_PRIVATE | MAP_ANONYMOUS)
#define RW        (PROT_READ | PROT_WRITE)
#define UNUSED    0x200000 /* a bit that no release gives a meaning to */

#define MMAP(what, address, length, prot, flags, fd, offset, want)                 \
    {                                                                              \
        what, NR_MMAP, {address, length, prot, flags, fd, OFFSET(offset)}, want, 0 \
    }

static void
errors(void)
{
    int pipe_ends[2], write_only, directory, append;

    EXPECT(pipe(pipe_ends), 0);
    write_only = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
    directory = open("/", O_RDONLY);
    append = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND, 0600);
    const struct row rows[] =
    { MMAP("no length", 0, 0, RW, ANON, -1, 0, -EINVAL),
      MMAP("no length, fixed", AT(FREE_AT), 0, RW, ANON | MAP_FIXED, -1, 0, -EINVAL),
      MMAP("no type", 0, page, RW, MAP_ANONYMOUS, -1, 0, -EINVAL),
      MMAP("a type that is none", 0, page, RW, MAP_ANONYMOUS | 0x0f, -1, 0, -EINVAL),
      MMAP("a file without type", 0, page, PROT_READ, 0, file_rw, 0, -EINVAL),
      MMAP("anonymous, validated", 0, page, RW, MAP_ANONYMOUS | MAP_SHARED_VALIDATE, -1, 0,
           -EINVAL),
      MMAP("fixed, not a page's start", AT(FREE_AT) + 1, page, RW, ANON | MAP_FIXED, -1, 0,
           -EINVAL),
      MMAP("not replacing, not a page's start", AT(FREE_AT) + 1, page, RW,
           ANON | MAP_FIXED_NOREPLACE, -1, 0, -EINVAL),
      MMAP("huge pages of 4 KiB", 0, page, RW, ANON | MAP_HUGETLB | 12l << 26, -1, 0, -EINVAL),
      MMAP("huge pages of 8 KiB", 0, page, RW, ANON | MAP_HUGETLB | 13l << 26, -1, 0, -EINVAL),
      MMAP("huge pages of 2^63 bytes", 0, page, RW, ANON | MAP_HUGETLB | 63l << 26, -1, 0, -EINVAL),
      MMAP("length wraps", 0, -1, RW, ANON, -1, 0, -ENOMEM),
      MMAP("length of everything", 0, USER_END, RW, ANON | MAP_NORESERVE, -1, 0, -ENOMEM),
      MMAP("fixed past the end", USER_END, page, RW, ANON | MAP_FIXED, -1, 0, -ENOMEM),
      MMAP("fixed across the end", USER_END - page, 2 * page, RW, ANON | MAP_FIXED, -1, 0, -ENOMEM),
      MMAP("not replacing, met", AT(SHARED_AT), page, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0,
           -EEXIST),
      MMAP("not replacing, last page met", AT(HOLE_AT), 3 * page, RW, ANON | MAP_FIXED_NOREPLACE,
           -1, 0, -EEXIST),
      MMAP("no file", 0, page, RW, MAP_PRIVATE, -1, 0, -EBADF),
      MMAP("a closed descriptor", 0, page, RW, MAP_SHARED, 1000, 0, -EBADF),
      MMAP("a pipe", 0, page, PROT_READ, MAP_PRIVATE, pipe_ends[0], 0, -ENODEV),
      MMAP("a directory", 0, page, PROT_READ, MAP_PRIVATE, directory, 0, -ENODEV),
      MMAP("a file not open for reading", 0, page, PROT_READ, MAP_PRIVATE, write_only, 0, -EACCES),
      MMAP("the same, no rights asked", 0, page, PROT_NONE, MAP_SHARED, write_only, 0, -EACCES),
      MMAP("shared and writable, open for reading", 0, page, RW, MAP_SHARED, file_ro, 0, -EACCES),
      MMAP("the same, validated", 0, page, RW, MAP_SHARED_VALIDATE, file_ro, 0, -EACCES),
      MMAP("shared and writable, append only", 0, 2 * page, RW, MAP_SHARED, append, 0, ANY_VALUE),
      MMAP("validated, a flag that is none", 0, page, RW, MAP_SHARED_VALIDATE | UNUSED, file_rw, 0,
           -EOPNOTSUPP),
#if __SIZEOF_LONG__ == 8
      MMAP("validated, a flag above all", 0, page, RW, MAP_SHARED_VALIDATE | 1l << 40, file_rw, 0,
           -EOPNOTSUPP),
#endif
      MMAP("validated, MAP_SYNC on no such file", 0, page, RW, MAP_SHARED_VALIDATE | MAP_SYNC,
           file_rw, 0, -EOPNOTSUPP),
      MMAP("validated, not replacing", AT(FREE_AT), page, RW,
           MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, file_rw, 0, -EOPNOTSUPP),
      MMAP("a huge page of a file that has none", 0, page, RW, MAP_SHARED | MAP_HUGETLB, file_rw, 0,
           -EINVAL),
      MMAP("grows down, a file", 0, page, RW, MAP_SHARED | MAP_GROWSDOWN, file_rw, 0, -EINVAL),
#ifndef SYS_mmap2
      MMAP("offset not a page's", 0, page, RW, MAP_SHARED, file_rw, 1, -EINVAL),
      MMAP("offset not a page's, anonymous", 0, page, RW, ANON, -1, 1, -EINVAL),
      MMAP("offset wraps", 0, 2 * page, RW, MAP_SHARED, file_rw, -page, -EOVERFLOW),
#else
      {"page numbers wrap", NR_MMAP, {0, 2 * page, RW, MAP_SHARED, file_rw, -1}, -EOVERFLOW, 0},
#endif
      MMAP("not a page's offset before no file", 0, 0, RW, MAP_SHARED, -1, 0, -EBADF),
    };
    RUN(rows);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(write_only);
    close(directory);
    close(append);
}

static int
socket_of(void)
{
    return socket(AF_UNIX, SOCK_STREAM, 0);
}

static int
event_of(void)
{
    return eventfd(0, 0);
}

static int
sealed_of(int seals)
{
    int fd = (int)call(SYS_memfd_create, (long)"sealed", MFD_ALLOW_SEALING, 0, 0, 0, 0);

    EXPECT(ftruncate(fd, 2 * page), 0);
    EXPECT(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void
kinds(void)
{
    const struct {
        const char *what;
        int fd, prot, flags;
        long want;
    } rows[] = {
        {"a socket", socket_of(), PROT_READ, MAP_PRIVATE, -ENODEV},
        {"an event", event_of(), PROT_READ, MAP_PRIVATE, -ENODEV},
        {"a name alone", open("/", O_PATH), PROT_READ, MAP_PRIVATE, -EBADF},
        {"null", open("/dev/null", O_RDWR), PROT_READ, MAP_PRIVATE, -ENODEV},
        {"full", open("/dev/full", O_RDWR), PROT_READ, MAP_PRIVATE, -ENODEV},
        {"maps", open("/proc/self/maps", O_RDONLY), PROT_READ, MAP_PRIVATE, -ENODEV},
        {"zeroes", open("/dev/zero", O_RDWR), RW, MAP_PRIVATE, ANY_VALUE},
        {"zeroes, shared", open("/dev/zero", O_RDWR), RW, MAP_SHARED, ANY_VALUE},
        {"sealed against writing", sealed_of(F_SEAL_WRITE), RW, MAP_SHARED, -EPERM},
        {"the same, to read", sealed_of(F_SEAL_WRITE), PROT_READ, MAP_SHARED, ANY_VALUE},
        {"the same, a copy", sealed_of(F_SEAL_WRITE), RW, MAP_PRIVATE, ANY_VALUE},
        {"sealed against later writing", sealed_of(F_SEAL_FUTURE_WRITE), RW, MAP_SHARED, -EPERM},
        {"the same, to read", sealed_of(F_SEAL_FUTURE_WRITE), PROT_READ, MAP_SHARED, ANY_VALUE},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row one[] = {
            MMAP(rows[i].what, 0, page, rows[i].prot, rows[i].flags, rows[i].fd, 0, rows[i].want)};

        EXPECT(rows[i].fd >= 0, true);
        RUN(one);
        close(rows[i].fd);
    }
}

/* A private mapping of /dev/zero has nothing of it, and begins somewhere in it all the same. */
static void
zeroes(void)
{
    int fd = open("/dev/zero", O_RDWR);
    long at = AT(FREE_AT), how = MAP_PRIVATE | MAP_FIXED;

    arena_make();
    EXPECT(call(NR_MMAP, at, 4 * page, RW, how, fd, OFFSET(16 * page)), at);
    EXPECT(offset_at(at), 16 * page);
    EXPECT(munmap((void *)(at + page), (size_t)page), 0);
    EXPECT(offset_at(at), 16 * page);
    EXPECT(offset_at(at + 2 * page), 18 * page);
    EXPECT(call(NR_MMAP, at + page, page, RW, how, fd, OFFSET(17 * page)), at + page);
    EXPECT(offset_at(at + 3 * page), 16 * page); /* one again */
    EXPECT(call(NR_MMAP, at + page, page, RW, how, fd, 0), at + page);
    EXPECT(offset_at(at + page), 0);
    EXPECT(offset_at(at + 3 * page), 18 * page);
    EXPECT(call(NR_MMAP, at, page, RW, how, fd, OFFSET(-page)), -EOVERFLOW);
    close(fd);
}

/* What may be dropped at any time: private, wiped by fork, locked never, written back never. */
static void
child_has_none(void)
{
    EXPECT(*(volatile char *)AT(FREE_AT), 0);
    EXPECT(has_flag(AT(FREE_AT), "dp"), true);
}

static void
droppable(void)
{
    enum { ENOTSUPP_ = 524 };
    long at = AT(FREE_AT);
    const struct row rows[] = {
        MMAP("droppable", 0, page, RW, DROPPABLE | MAP_ANONYMOUS, -1, 0, ANY_VALUE),
        MMAP("droppable, a file", 0, page, RW, DROPPABLE, file_rw, 0, -EINVAL),
        MMAP("droppable, locked", 0, page, RW, DROPPABLE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0,
             -EINVAL),
        MMAP("droppable, huge", 0, page, RW, DROPPABLE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0,
             -EINVAL),
        MMAP("droppable, grows down", 0, page, RW, DROPPABLE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0,
             -EINVAL),
        MMAP("droppable and shared", 0, page, RW, DROPPABLE | MAP_SHARED | MAP_ANONYMOUS, -1, 0,
             -EINVAL),
    };

    if (sizeof(long) < 8) {
        EXPECT(call(NR_MMAP, 0, page, RW, DROPPABLE | MAP_ANONYMOUS, -1, 0), -ENOTSUPP_);
        return;
    }
    RUN(rows);
    arena_make();
    EXPECT(call(NR_MMAP, at, 2 * page, RW, DROPPABLE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
    static const char *const flags[] = {"dp", "nr", "wf", "dd"};

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        EXPECT(has_flag(at, flags[i]), true);
    EXPECT(has_flag(at, "ac"), false);
    EXPECT(call(SYS_madvise, at, page, MADV_KEEPONFORK, 0, 0, 0), -EINVAL);
    EXPECT(call(SYS_madvise, at, page, MADV_DODUMP, 0, 0, 0), -EINVAL);
    EXPECT(call(SYS_mlock, at, page, 0, 0, 0, 0), 0);
    EXPECT(has_flag(at, "lo"), false);
    EXPECT(call(SYS_mlockall, MCL_FUTURE, 0, 0, 0, 0, 0), 0);
    EXPECT(call(NR_MMAP, at, 2 * page, RW, DROPPABLE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
    EXPECT(has_flag(at, "lo"), false);
    EXPECT(resident(at + page), 1); /* and yet it is there */
    EXPECT(call(SYS_munlockall, 0, 0, 0, 0, 0, 0), 0);
    *(volatile char *)at = 'd';
    EXPECT(in_child(child_has_none), 0);
    EXPECT(*(volatile char *)at, 'd');
    EXPECT(call(SYS_madvise, at, page, MADV_PAGEOUT, 0, 0, 0), 0);
    if (on_quire()) /* Linux may be busy with the page */
        EXPECT(*(volatile char *)at, 0);
}

/* Nothing of a file system that says so is executed. */
static void
not_to_execute(void)
{
    int fd;

    EXPECT(mkdir("/tmp/noexec", 0700) == 0 || errno == EEXIST, true);
    EXPECT(mount("noexec", "/tmp/noexec", "tmpfs", MS_NOEXEC, NULL), 0);
    fd = open("/tmp/noexec/file", O_RDWR | O_CREAT, 0700);
    EXPECT(ftruncate(fd, page), 0);
    const struct row rows[] = {
        MMAP("not to execute", 0, page, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0, -EPERM),
        MMAP("the same, shared", 0, page, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0, -EPERM),
        MMAP("to read", AT(FREE_AT), page, RW, MAP_PRIVATE | MAP_FIXED, fd, 0, AT(FREE_AT)),
    };
    RUN(rows);
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), AT(FREE_AT));
    EXPECT(call(SYS_mprotect, AT(FREE_AT), page, PROT_READ | PROT_EXEC, 0, 0, 0), -EACCES);
    EXPECT(munmap((void *)AT(FREE_AT), (size_t)page), 0);
    close(fd);
    EXPECT(umount("/tmp/noexec"), 0);
    EXPECT(rmdir("/tmp/noexec"), 0);
}

static void
successes(void)
{
    const struct row rows[] = {
        MMAP("private", 0, page, RW, ANON, -1, 0, ANY_VALUE),
        MMAP("no rights", 0, page, PROT_NONE, ANON, -1, 0, ANY_VALUE),
        MMAP("rights that are none", 0, page, 0x100, ANON, -1, 0, ANY_VALUE),
        MMAP("shared", 0, page, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0, ANY_VALUE),
        MMAP("a descriptor that is not looked at", 0, page, RW, ANON, 1000, 0, ANY_VALUE),
        MMAP("an offset that is not looked at", 0, page, RW, ANON, -1, 4 * page, ANY_VALUE),
        MMAP("part of a page", AT(FREE_AT), 1, RW, ANON | MAP_FIXED, -1, 0, AT(FREE_AT)),
        MMAP("fixed", AT(FREE_AT), page, RW, ANON | MAP_FIXED, -1, 0, AT(FREE_AT)),
        MMAP("fixed, replacing", AT(2), 6 * page, RW, ANON | MAP_FIXED, -1, 0, AT(2)),
        MMAP("a hint", AT(FREE_AT), page, RW, ANON, -1, 0, AT(FREE_AT)),
        MMAP("a hint in a page", AT(FREE_AT) + 5, page, RW, ANON, -1, 0, AT(FREE_AT)),
        MMAP("a hint that is taken", AT(RW_AT), page, RW, ANON, -1, 0, ANY_VALUE),
        MMAP("not replacing", AT(FREE_AT), page, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0,
             AT(FREE_AT)),
        MMAP("not replacing, and fixed", AT(FREE_AT), page, RW,
             ANON | MAP_FIXED | MAP_FIXED_NOREPLACE, -1, 0, AT(FREE_AT)),
        MMAP("private and writable, open for reading", 0, page, RW, MAP_PRIVATE, file_ro, 0,
             ANY_VALUE),
        MMAP("validated", 0, page, RW, MAP_SHARED_VALIDATE, file_rw, 0, ANY_VALUE),
        MMAP("flags that are none", 0, page, RW, ANON | UNUSED, -1, 0, ANY_VALUE),
        MMAP("the same, shared", 0, page, RW, MAP_SHARED | UNUSED, file_rw, 0, ANY_VALUE),
        MMAP("past the file's end", 0, page, RW, MAP_SHARED, file_rw, 64 * page, ANY_VALUE),
        MMAP("all flags without effect", 0, page, RW,
             ANON | MAP_STACK | MAP_NORESERVE | MAP_NONBLOCK | MAP_DENYWRITE | MAP_EXECUTABLE, -1,
             0, ANY_VALUE),
        MMAP("validated, all flags", 0, page, RW,
             MAP_SHARED_VALIDATE | MAP_STACK | MAP_NORESERVE | MAP_NONBLOCK | MAP_DENYWRITE |
                 MAP_EXECUTABLE | MAP_POPULATE | MAP_LOCKED,
             file_rw, 0, ANY_VALUE),
        MMAP("grows down", AT(FREE_AT) + 4 * page, page, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1,
             0, AT(FREE_AT) + 4 * page),
    };
    RUN(rows);
}

/* What the flags do, beside being accepted. */
static void
effects(void)
{
    long at = AT(FREE_AT);

    arena_make();
    EXPECT(call(NR_MMAP, at, 2 * page, RW, ANON | MAP_FIXED, -1, 0), at);
    EXPECT(resident(at), 0);
    EXPECT(call(NR_MMAP, at, 2 * page, RW, ANON | MAP_FIXED | MAP_POPULATE, -1, 0), at);
    EXPECT(resident(at) && resident(at + page), 1);
    EXPECT(call(NR_MMAP, at, page, RW, ANON | MAP_FIXED | MAP_POPULATE | MAP_NONBLOCK, -1, 0), at);
    EXPECT(resident(at), 0);
    /* No rights, nothing to populate. */
    EXPECT(call(NR_MMAP, at, page, PROT_NONE, ANON | MAP_FIXED | MAP_POPULATE, -1, 0), at);
    EXPECT(resident(at), 0);

    EXPECT(call(NR_MMAP, at, 2 * page, RW, ANON | MAP_FIXED | MAP_LOCKED, -1, 0), at);
    EXPECT(resident(at), 1);
    EXPECT(status_kib("VmLck:"), 2 * page / 1024);
    EXPECT(has_flag(at, "lo"), true);

    EXPECT(call(NR_MMAP, at, page, RW, ANON | MAP_FIXED | MAP_NORESERVE, -1, 0), at);
    EXPECT(has_flag(at, "nr"), true);
    EXPECT(has_flag(at, "ac"), false);
    EXPECT(call(NR_MMAP, at, page, RW, ANON | MAP_FIXED, -1, 0), at);
    EXPECT(has_flag(at, "ac"), true);

    /* Reading past a file's end, and a page that is not in it at all. */
    EXPECT(touch(AT(FILE_SHARED_AT + 1) + page - 1, TOUCH_WRITE), 0);
    EXPECT(touch(AT(FILE_SHARED_AT + 2), TOUCH_READ), RAISED(SIGBUS, BUS_ADRERR));
    EXPECT(touch(AT(FILE_PRIVATE_AT + 2), TOUCH_WRITE), RAISED(SIGBUS, BUS_ADRERR));
    EXPECT(touch(AT(HOLE_AT), TOUCH_READ), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(touch(AT(NONE_AT), TOUCH_READ), RAISED(SIGSEGV, SEGV_ACCERR));
    EXPECT(touch(AT(RO_AT), TOUCH_WRITE), RAISED(SIGSEGV, SEGV_ACCERR));
    EXPECT(touch(AT(FILE_RO_AT), TOUCH_WRITE), RAISED(SIGSEGV, SEGV_ACCERR));
#ifdef __x86_64__
    long low = call(NR_MMAP, 0, page, RW, ANON | MAP_32BIT, -1, 0);

    EXPECT(low >= 0x40000000, true);
    munmap((void *)low, (size_t)page);
    EXPECT(call(NR_MMAP, at + 5 * page, page, RW, ANON | MAP_32BIT, -1, 0), at + 5 * page);
    low = call(NR_MMAP, 0x100000000, page, RW, ANON | MAP_32BIT, -1,
               0); /* a hint that does not fit */

    EXPECT(low > 0 && low < 0x80000000, true);
    munmap((void *)low, (size_t)page);
    /* The hint wins where it fits; MAP_FIXED is not bounded. */
    EXPECT(call(NR_MMAP, 0x100000000, page, RW, ANON | MAP_32BIT | MAP_FIXED, -1, 0), 0x100000000);
    munmap((void *)0x100000000, (size_t)page);
#endif
}

/* MAP_GROWSDOWN: a touch in reach grows it, and a gap stays below. */
static void
grows_down(void)
{
    long top = ARENA - 0x1000000;

    munmap((void *)(top - 0x1000000), 0x1000000);
    EXPECT(call(NR_MMAP, top - page, page, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0),
           top - page);
    EXPECT(touch(top - 2 * page, TOUCH_WRITE), 0);
    EXPECT(touch(top - 8 * page, TOUCH_WRITE), 0);
    EXPECT(rights_at(top - 5 * page)[0], 'r');
    EXPECT(has_flag(top - page, "gd"), true);
    /* A neighbour below keeps 256 pages clear of it. */
    EXPECT(call(NR_MMAP, top - 300 * page, page, RW, ANON | MAP_FIXED, -1, 0), top - 300 * page);
    EXPECT(touch(top - 40 * page, TOUCH_WRITE), 0);
    EXPECT(touch(top - 298 * page, TOUCH_WRITE), RAISED(SIGSEGV, SEGV_MAPERR));
    munmap((void *)(top - 0x1000000), 0x1000000);
}

static void
limited(void)
{
    struct rlimit space = {0, RLIM_INFINITY}, data, locked = {4 * (rlim_t)page, 4 * (rlim_t)page};
    long at = AT(FREE_AT);

    arena_make();
    space.rlim_cur = (rlim_t)(status_kib("VmSize:") * 1024 + 2 * page);
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);
    EXPECT(call(NR_MMAP, at, 3 * page, RW, ANON | MAP_FIXED, -1, 0), -ENOMEM);
    EXPECT(call(NR_MMAP, at, 2 * page, RW, ANON | MAP_FIXED, -1, 0), at);
    EXPECT(call(NR_MMAP, at + 2 * page, page, PROT_NONE, ANON | MAP_FIXED, -1, 0), -ENOMEM);
    /* In the place of others it is only what comes on top. */
    EXPECT(call(NR_MMAP, at, 2 * page, RW, ANON | MAP_FIXED, -1, 0), at);
    space.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);

    data = (struct rlimit){(rlim_t)(status_kib("VmData:") * 1024 + page), RLIM_INFINITY};
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(call(NR_MMAP, at + 2 * page, 2 * page, RW, ANON | MAP_FIXED, -1, 0), -ENOMEM);
    EXPECT(call(NR_MMAP, at + 2 * page, 2 * page, PROT_READ, ANON | MAP_FIXED, -1, 0),
           at + 2 * page);
    EXPECT(
        call(NR_MMAP, at + 4 * page, 2 * page, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
        at + 4 * page);
    EXPECT(call(NR_MMAP, at + 2 * page, page, RW, ANON | MAP_FIXED, -1, 0), at + 2 * page);

    /* Locked memory: EAGAIN past the limit, EPERM where it is none at all. */
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &locked), 0);
    become_nobody();
    data.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(call(NR_MMAP, at, 5 * page, RW, ANON | MAP_FIXED | MAP_LOCKED, -1, 0), -EAGAIN);
    EXPECT(call(NR_MMAP, at, 4 * page, RW, ANON | MAP_FIXED | MAP_LOCKED, -1, 0), at);
    EXPECT(call(NR_MMAP, at + 4 * page, page, RW, ANON | MAP_FIXED | MAP_LOCKED, -1, 0), -EAGAIN);
    munmap((void *)at, (size_t)(8 * page));
    locked.rlim_cur = 0;
    EXPECT(setrlimit(RLIMIT_MEMLOCK, &locked), 0);
    EXPECT(call(NR_MMAP, at, page, RW, ANON | MAP_FIXED | MAP_LOCKED, -1, 0), -EPERM);
    /* Low addresses are for the privileged. */
    EXPECT(call(NR_MMAP, 0, page, RW, ANON | MAP_FIXED, -1, 0), -EPERM);
}

/* A hole in a mapping for another needs two mappings more than there may be. */
static void
full(void)
{
    EXPECT(call(NR_MMAP, AT(1), page, PROT_READ, ANON | MAP_FIXED, -1, 0), -ENOMEM);
    EXPECT(PTR(1)[0], 'B');
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, RW, ANON | MAP_FIXED, -1, 0), -ENOMEM);
}

/* Shared memory is a file that nobody sees. */
static void
no_files(void)
{
    EXPECT(call(NR_MMAP, 0, page, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0), -ENFILE);
    EXPECT(is_error(call(NR_MMAP, 0, page, RW, ANON, -1, 0)), false);
}

/* More mappings than vm.max_map_count. */
static void
too_many(void)
{
    static const char path[] = "/proc/sys/vm/max_map_count";
    long got = 0, before = set_number(path, 200);
    int made = 0;

    munmap((void *)AT(0), (size_t)(ARENA_PAGES * page));
    while (made < 400 && got >= 0) {
        got = call(NR_MMAP, AT(2 * made), page, RW, ANON | MAP_FIXED, -1, 0);
        made++;
    }
    EXPECT(got, -ENOMEM);
    EXPECT(made > 100 && made <= 201, true);
    (void)set_number(path, before);
    munmap((void *)AT(0), (size_t)(800 * page));
}

static const struct documented documented[] = {
    {EACCES, NULL},    {EAGAIN, NULL}, {EBADF, NULL},
    {EEXIST, NULL},    {EINVAL, NULL}, {ENFILE, NULL},
    {ENODEV, NULL},    {ENOMEM, NULL}, {EOPNOTSUPP, NULL},
    {EOVERFLOW, NULL}, {EPERM, NULL},  {ETXTBSY, "history: MAP_DENYWRITE is ignored"},
};

CALL(mmap, NR_MMAP, documented)
{
    errors();
    kinds();
    zeroes();
    if (is_since(6, 11))
        droppable();
    successes();
    effects();
    grows_down();
    EXPECT(in_child(limited), 0);
    at_map_limit(full);
    at_file_limit(no_files);
    if (on_own_machine()) {
        EXPECT(in_child(too_many), 0);
        EXPECT(in_child(not_to_execute), 0);
    }
}
