/* SPDX-License-Identifier: MIT */
/*
 * fcntl(2) as far as it is about memory: seals.
 */
#include "calls.h"

#include <sys/uio.h>

enum { SEALED = 20, UNSEALABLE, PLAIN, FOR_READING, PIPE_END }; /* descriptors */
#define ALL_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

#define SEAL(what, fd, seals, want)                        \
    {                                                      \
        what, SYS_fcntl, {fd, F_ADD_SEALS, seals}, want, 0 \
    }
#define SEALS(what, fd, want)                          \
    {                                                  \
        what, SYS_fcntl, {fd, F_GET_SEALS, 0}, want, 0 \
    }

static const struct documented documented[] = {
    {EBADF, NULL},
    {EBUSY, NULL},
    {EINVAL, NULL},
    {EPERM, NULL},
};

static void
place_at(int fd, int at)
{
    EXPECT(dup2(fd, at), at);
    close(fd);
}

static void
files(void)
{
    int ends[2];

    place_at(memfd_create("seals", MFD_ALLOW_SEALING), SEALED);
    place_at(memfd_create("no seals", 0), UNSEALABLE);
    place_at(open("/dev/shm", O_TMPFILE | O_RDWR, 0600), PLAIN);
    place_at(open("/proc/self/fd/20", O_RDONLY), FOR_READING);
    EXPECT(pipe(ends), 0);
    close(ends[0]);
    place_at(ends[1], PIPE_END);
    EXPECT(ftruncate(SEALED, 2 * page), 0);
}

static void
gone(const struct row *row, long got)
{
    (void)row;
    (void)got;
    for (int fd = SEALED; fd <= PIPE_END; fd++)
        close(fd);
}

/* A seal against writing is refused while somebody might write, and holds for mappings afterwards. */
static void
against_writing(void)
{
    const size_t bytes = (size_t)page;

    files();
    char *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, SEALED, 0);

    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_WRITE, 0, 0, 0), -EBUSY);
    EXPECT(call(SYS_fcntl, SEALED, F_GET_SEALS, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_FUTURE_WRITE, 0, 0, 0), 0);
    shared[0] = 'w'; /* it was there before */
    EXPECT(pwrite(SEALED, "x", 1, 0), -1);
    EXPECT(errno, EPERM);
    munmap(shared, bytes);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_WRITE, 0, 0, 0), 0);
    EXPECT((long)mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, SEALED, 0), -1);
    EXPECT(errno, EPERM);
    char *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, SEALED, 0);

    EXPECT(copy[0], 'w');
    copy[0] = 'c';
    munmap(copy, bytes);
    gone(NULL, 0);
}

/* A page in a pipe may be anybody's: it might be written. */
static void
against_readers(void)
{
    int ends[2];
    char byte;

    files();
    EXPECT(pwrite(SEALED, "p", 1, 0), 1);
    EXPECT(pipe(ends), 0);
    char *shared = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED, SEALED, 0);
    struct iovec piece = {shared, 1};

    EXPECT(vmsplice(ends[1], &piece, 1, 0), 1);
    munmap(shared, (size_t)page);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_WRITE, 0, 0, 0), -EBUSY);
    EXPECT(call(SYS_fcntl, SEALED, F_GET_SEALS, 0, 0, 0, 0), 0);
    EXPECT(read(ends[0], &byte, 1), 1);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_WRITE, 0, 0, 0), 0);
    close(ends[0]);
    close(ends[1]);
    gone(NULL, 0);
}

static void
of_size(void)
{
    files();
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_GROW, 0, 0, 0), 0);
    EXPECT(ftruncate(SEALED, 3 * page), -1);
    EXPECT(errno, EPERM);
    EXPECT(ftruncate(SEALED, page), 0);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL, 0, 0, 0), 0);
    EXPECT(ftruncate(SEALED, 0), -1);
    EXPECT(errno, EPERM);
    EXPECT(call(SYS_fcntl, SEALED, F_GET_SEALS, 0, 0, 0, 0),
           F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_WRITE, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_fcntl, SEALED, F_ADD_SEALS, F_SEAL_GROW, 0, 0, 0), -EPERM); /* known or not */
    gone(NULL, 0);
}

CALL(fcntl, SYS_fcntl, documented)
{
    static const struct around anew = {files, gone};
    const struct row rows[] = {
        SEAL("no file", -1, F_SEAL_GROW, -EBADF),
        SEALS("seals of no file", 1000, -EBADF),
        SEAL("seals that are none", SEALED, 0x8000, -EINVAL),
        SEAL("a file of a file system", PLAIN, F_SEAL_GROW, -EPERM),
        SEAL("a pipe", PIPE_END, F_SEAL_GROW, -EINVAL),
        SEAL("open for reading", FOR_READING, F_SEAL_GROW, -EPERM),
        SEALS("seals of a pipe", PIPE_END, -EINVAL),
        SEAL("sealed against it", UNSEALABLE, F_SEAL_GROW, -EPERM),
        SEAL("sealed against it, no seals", UNSEALABLE, 0, -EPERM),
        SEALS("seals of it", UNSEALABLE, F_SEAL_SEAL),
        SEALS("none yet", SEALED, 0),
        SEAL("no seals", SEALED, 0, 0),
        SEAL("all of them", SEALED, ALL_SEALS, 0),
        SEAL("one", SEALED, F_SEAL_GROW, 0),
    };

    RUN_AROUND(rows, &anew);
    against_writing();
    against_readers();
    of_size();
}
