/* SPDX-License-Identifier: MIT */
/*
 * ioctl_userfaultfd(2): what is asked of the descriptors of userfaultfd(2).  What threads see of it
 * is in tests/user/sharing/userfault.c.
 *
 * Around each row: four pages of private memory, of which the first two are watched and the second
 * is there.
 */
#include "calls.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

enum { WATCHING = 20, OTHER, FRESH }; /* descriptors; FRESH has agreed on nothing yet */
#define FIRST  ((uint64_t)AT(FREE_AT))
#define SECOND (FIRST + (uint64_t)page)
#define THIRD  (SECOND + (uint64_t)page)
#define ALL    ((uint64_t)(2 * page))
#define ONE    ((uint64_t)page)
#define SOURCE ((uint64_t)AT(RW_AT))

static long
ask(int fd, unsigned long request, void *what)
{
    return call(SYS_ioctl, fd, (long)request, (long)what, 0, 0, 0);
}

static void
open_at(int at)
{
    long fd = call(SYS_userfaultfd, O_NONBLOCK, 0, 0, 0, 0, 0);

    EXPECT(dup2((int)fd, at), at);
    close((int)fd);
}

static void
watch(void)
{
    struct uffdio_api api = {.api = UFFD_API}, again = api;
    struct uffdio_register watched = {.range = {FIRST, ALL}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    struct uffdio_zeropage zero = {.range = {SECOND, ONE}};

    EXPECT(call(NR_MMAP, AT(FREE_AT), 4 * page, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           AT(FREE_AT));
    for (int fd = WATCHING; fd <= FRESH; fd++)
        open_at(fd);
    EXPECT(ask(WATCHING, UFFDIO_API, &api), 0);
    EXPECT(ask(OTHER, UFFDIO_API, &again), 0);
    EXPECT(ask(WATCHING, UFFDIO_REGISTER, &watched), 0);
    EXPECT(ask(WATCHING, UFFDIO_ZEROPAGE, &zero), 0);
}

static void
unwatch(const struct row *row, long got)
{
    (void)row;
    (void)got;
    for (int fd = WATCHING; fd <= FRESH; fd++)
        close(fd);
}

static const struct around watching = {watch, unwatch};

#define ASK(what, fd, request, want, flags, type, ...)                                         \
    {                                                                                          \
        what, SYS_ioctl, {fd, (long)(request), (long)&(struct type){__VA_ARGS__}}, want, flags \
    }

/* A refusal clears the structure; who is not privileged gets no events of fork. */
static void
refused(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = 1ull << 60};

    watch();
    EXPECT(ask(FRESH, UFFDIO_API, &api), -EINVAL);
    EXPECT(api.api == 0 && api.features == 0, true);
    api.api = UFFD_API;
    EXPECT(ask(WATCHING, UFFDIO_API, &api), -EINVAL);
    EXPECT(api.api == 0 && api.features == 0, true);
    become_nobody();
    api = (struct uffdio_api){.api = UFFD_API, .features = UFFD_FEATURE_EVENT_FORK};
    EXPECT(ask(FRESH, UFFDIO_API, &api), -EPERM);
    api = (struct uffdio_api){.api = UFFD_API, .features = UFFD_FEATURE_EVENT_REMAP};
    EXPECT(ask(FRESH, UFFDIO_API, &api), 0);
}

static void
agreeing(void)
{
    const struct row rows[] = {
        ASK("another interface", FRESH, UFFDIO_API, -EINVAL, 0, uffdio_api, .api = UFFD_API + 1),
        ASK("features that are none", FRESH, UFFDIO_API, -EINVAL, 0, uffdio_api, .api = UFFD_API,
            .features = 1ull << 60),
        ASK("twice", WATCHING, UFFDIO_API, -EINVAL, 0, uffdio_api, .api = UFFD_API),
        {"no memory", SYS_ioctl, {FRESH, (long)UFFDIO_API, 8}, -EFAULT, 0},
        ASK("this interface", FRESH, UFFDIO_API, 0, 0, uffdio_api, .api = UFFD_API),
    };
    RUN_AROUND(rows, &watching);
    EXPECT(in_child(refused), 0);
}

#define REGISTER(what, fd, start, length, how, want) \
    ASK(what, fd, UFFDIO_REGISTER, want, 0, uffdio_register, .range = {start, length}, .mode = how)
#define UNREGISTER(what, start, length, want) \
    ASK(what, WATCHING, UFFDIO_UNREGISTER, want, 0, uffdio_range, start, length)
#define WAKE(what, start, length, want) \
    ASK(what, WATCHING, UFFDIO_WAKE, want, 0, uffdio_range, start, length)
#define MISSING UFFDIO_REGISTER_MODE_MISSING

static void
ranges(void)
{
    const struct row rows[] = {
        REGISTER("nothing agreed", FRESH, THIRD, ONE, MISSING, -EINVAL),
        REGISTER("no mode", WATCHING, THIRD, ONE, 0, -EINVAL),
        REGISTER("a mode that is none", WATCHING, THIRD, ONE, 64, -EINVAL),
        REGISTER("not a page's start", WATCHING, THIRD + 1, ONE, MISSING, -EINVAL),
        REGISTER("no length", WATCHING, THIRD, 0, MISSING, -EINVAL),
        REGISTER("part of a page", WATCHING, THIRD, 1, MISSING, -EINVAL),
        REGISTER("the end wraps", WATCHING, THIRD, -ONE, MISSING, -EINVAL),
        REGISTER("a hole", WATCHING, (uint64_t)AT(HOLE_AT), ONE, MISSING, -EINVAL),
        REGISTER("somebody else's", OTHER, FIRST, ONE, MISSING, -EBUSY),
        {"no memory", SYS_ioctl, {WATCHING, (long)UFFDIO_REGISTER, 8}, -EFAULT, 0},
        REGISTER("more of it", WATCHING, FIRST, 4 * ONE, MISSING, 0),
        REGISTER("shared memory", WATCHING, (uint64_t)AT(SHARED_AT), ONE, MISSING, 0),
        UNREGISTER("not a page's start, no more", FIRST + 1, ONE, -EINVAL),
        UNREGISTER("no length, no more", FIRST, 0, -EINVAL),
        UNREGISTER("a hole, no more", (uint64_t)AT(HOLE_AT), ONE, -EINVAL),
        UNREGISTER("no more", FIRST, ALL, 0),
        UNREGISTER("what was not, no more", THIRD, ONE, 0),
        WAKE("wake, not a page's start", FIRST + 1, ONE, -EINVAL),
        WAKE("wake, no length", FIRST, 0, -EINVAL),
        WAKE("wake nobody", FIRST, ALL, 0),
        {"no such request", SYS_ioctl, {WATCHING, 0x1234, 0}, -EINVAL, 0},
    };
    RUN_AROUND(rows, &watching);
}

#define COPY(what, to, from, length, how, want, flags)                                 \
    ASK(what, WATCHING, UFFDIO_COPY, want, flags, uffdio_copy, .dst = to, .src = from, \
        .len = length, .mode = how)
#define ZERO(what, to, length, how, want, flags)                                              \
    ASK(what, WATCHING, UFFDIO_ZEROPAGE, want, flags, uffdio_zeropage, .range = {to, length}, \
        .mode = how)
#define PROTECT(what, start, length, how, want)                            \
    ASK(what, WATCHING, UFFDIO_WRITEPROTECT, want, 0, uffdio_writeprotect, \
        .range = {start, length}, .mode = how)

static void
pages(void)
{
    const struct row rows[] = {
        COPY("copy, not a page's start", FIRST + 1, SOURCE, ONE, 0, -EINVAL, 0),
        COPY("copy, no length", FIRST, SOURCE, 0, 0, -EINVAL, 0),
        COPY("copy, a mode that is none", FIRST, SOURCE, ONE, 64, -EINVAL, 0),
        COPY("copy, not watched", THIRD, SOURCE, ONE, 0, -ENOENT, 0),
        COPY("copy, a hole", (uint64_t)AT(HOLE_AT), SOURCE, ONE, 0, -ENOENT, 0),
        COPY("copy from nowhere", FIRST, (uint64_t)AT(HOLE_AT), ONE, 0, -EFAULT, 0),
        COPY("copy over a page", SECOND, SOURCE, ONE, 0, -EEXIST, 0),
        COPY("copy, the second is there", FIRST, SOURCE, ALL, 0, -EAGAIN, PARTIAL),
        COPY("copy", FIRST, SOURCE, ONE, 0, 0, 0),
        COPY("copy, nobody woken", FIRST, SOURCE, ONE, UFFDIO_COPY_MODE_DONTWAKE, 0, 0),
        ZERO("zeros, not a page's start", FIRST + 1, ONE, 0, -EINVAL, 0),
        ZERO("zeros, a mode that is none", FIRST, ONE, 64, -EINVAL, 0),
        ZERO("zeros, not watched", THIRD, ONE, 0, -ENOENT, 0),
        ZERO("zeros over a page", SECOND, ONE, 0, -EEXIST, 0),
        ZERO("zeros, the second is there", FIRST, ALL, 0, -EAGAIN, PARTIAL),
        ZERO("zeros", FIRST, ONE, 0, 0, 0),
        PROTECT("protect, not watched for it", FIRST, ONE, UFFDIO_WRITEPROTECT_MODE_WP, -ENOENT),
        PROTECT("protect, a mode that is none", FIRST, ONE, 64, -EINVAL),
        PROTECT("protect, not a page's start", FIRST + 1, ONE, 0, -EINVAL),
    };
    RUN_AROUND(rows, &watching);
}

/* The descriptor is inherited; the memory that it is for is its maker's, who has ended. */
static void
outlives(void)
{
    int ends[2];
    char byte;
    pid_t child;

    EXPECT(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        arena_make();
        watch();
        if (fork() != 0)
            _exit(0);
        struct uffdio_copy copy = {.dst = FIRST, .src = SOURCE, .len = ONE};

        for (int i = 0; i < 5000 && ask(WATCHING, UFFDIO_COPY, &copy) != -ESRCH; i++)
            usleep(1000);
        _exit(0);
    }
    close(ends[1]);
    EXPECT(waitpid(child, NULL, 0), child);
    EXPECT(read(ends[0], &byte, 1), 0); /* until the last has gone */
    close(ends[0]);
}

static const struct documented documented[] = {
    {EAGAIN, NULL},
    {EBUSY, NULL},
    {EEXIST, NULL},
    {EFAULT, NULL},
    {EINVAL, NULL},
    {ENOENT, NULL},
    {ENOMEM, "of UFFDIO_CONTINUE: a table that cannot be had is waited for"},
    {ENOSPC, "history: ESRCH since Linux 4.13"},
    {ESRCH, NULL},
};

CALL(ioctl_userfaultfd, SYS_ioctl, documented)
{
    agreeing();
    ranges();
    pages();
    outlives();
}
