/* SPDX-License-Identifier: MIT */
/*
 * splice, tee and vmsplice: contents, positions, short counts, which page is whose, and errors.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../check.h"

static long page;

static void
fill(char *at, size_t n, int seed)
{
    for (size_t i = 0; i < n; i++)
        at[i] = (char)(seed + (int)(i % 97));
}

static int
memory_file(const char *content, size_t n)
{
    int fd = memfd_create("splice", 0);

    CHECK_EQ(write(fd, content, n), n);
    CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static void
pipe_open(int ends[2])
{
    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
}

static void
pipe_close(int ends[2])
{
    close(ends[0]);
    close(ends[1]);
}

/* ---- files and pipes ------------------------------------------------------------------------ */

static void
test_file(void)
{
    size_t n = (size_t)(3 * page + 100);
    char *content = malloc(n), *got = malloc(n);
    int ends[2], from, to = memfd_create("to", 0);
    loff_t at = 50, into = 7;

    fill(content, n, 1);
    from = memory_file(content, n);
    pipe_open(ends);
    CHECK_EQ(splice(from, NULL, ends[1], NULL, 100, 0), 100);
    CHECK_EQ(lseek(from, 0, SEEK_CUR), 100);
    CHECK_EQ(read(ends[0], got, 200), 100);
    CHECK(memcmp(got, content, 100) == 0);
    CHECK_EQ(splice(from, &at, ends[1], NULL, n, 0), n - 50);
    CHECK_EQ(at, (loff_t)n);
    CHECK_EQ(lseek(from, 0, SEEK_CUR), 100); /* a position of one's own leaves the file's */
    CHECK_EQ(splice(from, &at, ends[1], NULL, n, 0), 0); /* the end */
    CHECK_EQ(splice(ends[0], NULL, to, &into, n, 0), n - 50);
    CHECK_EQ(into, (loff_t)(n - 43));
    CHECK_EQ(pread(to, got, n, 7), n - 50);
    CHECK(memcmp(got, content + 50, n - 50) == 0);
    CHECK_ERRNO(splice(ends[0], NULL, to, NULL, 10, 0), EAGAIN);

    /* A hole reads as zeros, and what is in the pipe outlives the file. */
    CHECK_EQ(ftruncate(from, 0), 0);
    CHECK_EQ(ftruncate(from, 2 * page), 0);
    at = page - 3;
    CHECK_EQ(splice(from, &at, ends[1], NULL, 6, 0), 6);
    CHECK_EQ(ftruncate(from, 0), 0);
    close(from);
    CHECK_EQ(read(ends[0], got, 10), 6);
    CHECK(memcmp(got, "\0\0\0\0\0\0", 6) == 0);

    /* Somebody who only wants a little leaves the rest. */
    CHECK_EQ(write(ends[1], "abcdef", 6), 6);
    CHECK_EQ(lseek(to, 0, SEEK_SET), 0);
    CHECK_EQ(splice(ends[0], NULL, to, NULL, 2, 0), 2);
    CHECK_EQ(write(ends[1], "gh", 2), 2);
    CHECK_EQ(read(ends[0], got, 10), 6);
    CHECK(memcmp(got, "cdefgh", 6) == 0);
    close(ends[1]);
    CHECK_EQ(splice(ends[0], NULL, to, NULL, 10, 0), 0); /* no writer */
    close(ends[0]);
    close(to);
    free(content);
    free(got);
}

/* What is in a pipe by reference is not copied: a later write to the file shows. */
static void
test_reference(void)
{
    char got[8];
    int ends[2], from = memory_file("original", 8);

    pipe_open(ends);
    CHECK_EQ(splice(from, NULL, ends[1], NULL, 8, 0), 8);
    CHECK_EQ(pwrite(from, "CHANGED!", 8, 0), 8);
    CHECK_EQ(read(ends[0], got, 8), 8);
    CHECK(memcmp(got, "CHANGED!", 8) == 0);
    pipe_close(ends);
    close(from);
}

/* ---- pipes alone ------------------------------------------------------------------------------- */

static void
test_pipes(void)
{
    char got[16];
    int a[2], b[2];

    pipe_open(a);
    pipe_open(b);
    CHECK_EQ(write(a[1], "0123456789", 10), 10);
    CHECK_EQ(tee(a[0], b[1], 4, 0), 4);
    CHECK_EQ(tee(a[0], b[1], 100, 0), 10);
    CHECK_EQ(write(a[1], "X", 1), 1); /* behind what was shared */
    CHECK_EQ(write(b[1], "Y", 1), 1);
    CHECK_EQ(read(b[0], got, 16), 15);
    CHECK(memcmp(got, "01230123456789Y", 15) == 0);
    CHECK_EQ(read(a[0], got, 3), 3);
    CHECK_EQ(splice(a[0], NULL, b[1], NULL, 5, 0), 5);
    CHECK_EQ(write(b[1], "Z", 1), 1);
    CHECK_EQ(read(b[0], got, 16), 6);
    CHECK(memcmp(got, "34567Z", 6) == 0);
    CHECK_EQ(read(a[0], got, 16), 3);
    CHECK(memcmp(got, "89X", 3) == 0);
    CHECK_ERRNO(tee(a[0], b[1], 1, 0), EAGAIN);
    CHECK_ERRNO(splice(a[0], NULL, b[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
    CHECK_EQ(tee(a[0], b[1], 0, 0), 0);
    close(a[1]);
    CHECK_EQ(tee(a[0], b[1], 1, 0), 0);
    CHECK_EQ(splice(a[0], NULL, b[1], NULL, 1, 0), 0);
    close(a[0]);
    pipe_close(b);
}

/* A full pipe takes no more, and a slot is enough to go on. */
static void
test_full(void)
{
    char *content = malloc((size_t)page), *got = malloc((size_t)page);
    int a[2], b[2], slots;

    pipe_open(a);
    pipe_open(b);
    slots = fcntl(b[1], F_SETPIPE_SZ, 4 * page) / (int)page;
    CHECK_EQ(slots, 4);
    fill(content, (size_t)page, 3);
    CHECK_EQ(write(a[1], content, (size_t)page), page);
    for (int i = 0; i < slots; i++)
        CHECK_EQ(tee(a[0], b[1], (size_t)page, 0), page);
    CHECK_ERRNO(tee(a[0], b[1], (size_t)page, 0), EAGAIN);
    CHECK_ERRNO(write(b[1], "x", 1), EAGAIN);
    CHECK_ERRNO(fcntl(b[1], F_SETPIPE_SZ, page), EBUSY);
    CHECK_EQ(read(b[0], got, (size_t)page), page);
    CHECK(memcmp(got, content, (size_t)page) == 0);
    CHECK_EQ(tee(a[0], b[1], 1, 0), 1);
    CHECK_EQ(fcntl(b[1], F_SETPIPE_SZ, 8 * page), 8 * page);
    CHECK_EQ(write(b[1], "end", 3), 3);
    for (int i = 0; i < slots - 1; i++)
        CHECK_EQ(read(b[0], got, (size_t)page), page);
    CHECK_EQ(read(b[0], got, (size_t)page), 4);
    CHECK(got[0] == content[0] && memcmp(got + 1, "end", 3) == 0);
    pipe_close(a);
    pipe_close(b);
    free(content);
    free(got);
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void
test_memory(void)
{
    char *at = mmap(NULL, (size_t)(3 * page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                    -1, 0),
         got[300];
    struct iovec pieces[3] = {{at + 10, 20}, {at + page - 5, 10}, {at, 0}};
    int ends[2];

    pipe_open(ends);
    fill(at, (size_t)(2 * page), 5);
    CHECK_EQ(vmsplice(ends[1], pieces, 3, 0), 30);
    CHECK_EQ(read(ends[0], got, 300), 30);
    CHECK(memcmp(got, at + 10, 20) == 0 && memcmp(got + 20, at + page - 5, 10) == 0);

    CHECK_EQ(vmsplice(ends[1], pieces, 1, SPLICE_F_GIFT), 20);
    char expected = at[10];
    CHECK_EQ(munmap(at, (size_t)page), 0); /* the page lives on in the pipe */
    memset(got, 0, sizeof(got));
    pieces[0] = (struct iovec){got, 8};
    pieces[1] = (struct iovec){got + 100, 50};
    CHECK_EQ(vmsplice(ends[0], pieces, 2, 0), 20); /* the other way: copied */
    CHECK_EQ(got[0], expected);
    CHECK_EQ(got[111], (char)(expected + 19));

    pieces[0] = (struct iovec){at + 2 * page - 10, 20}; /* runs into untouched memory: zeros */
    CHECK_EQ(vmsplice(ends[1], pieces, 1, 0), 20);
    CHECK_EQ(read(ends[0], got, 300), 20);
    CHECK_EQ(got[19], 0);
    CHECK_EQ(munmap(at + 2 * page, (size_t)page), 0);
    CHECK_EQ(vmsplice(ends[1], pieces, 1, 0), 10); /* up to what is not there */
    CHECK_EQ(read(ends[0], got, 300), 10);
    pieces[0].iov_base = at;
    CHECK_ERRNO(vmsplice(ends[1], pieces, 1, 0), EFAULT);
    CHECK_ERRNO(vmsplice(ends[0], pieces, 1, SPLICE_F_NONBLOCK), EAGAIN);
    munmap(at + page, (size_t)page);
    pipe_close(ends);
}

/* What a child put into a pipe and unmapped is not what the parent writes afterwards. */
static void
test_secret(void)
{
    char *at = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char got[8];
    int ends[2], done[2], status;

    strcpy(at, "before");
    pipe_open(ends);
    CHECK_EQ(pipe(done), 0);
    pid_t child = fork();
    if (child == 0) {
        struct iovec piece = {at, 7};

        if (vmsplice(ends[1], &piece, 1, 0) != 7 || munmap(at, (size_t)page) != 0)
            _exit(1);
        (void)!write(done[1], "x", 1);
        pause();
    }
    CHECK_EQ(read(done[0], got, 1), 1);
    strcpy(at, "secret");
    CHECK_EQ(read(ends[0], got, 7), 7);
    CHECK(strcmp(got, "before") == 0);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    munmap(at, (size_t)page);
    pipe_close(ends);
    pipe_close(done);
}

/* ---- errors --------------------------------------------------------------------------------------------- */

static void
test_errors(void)
{
    int ends[2], other[2], file = memory_file("content", 7);
    struct iovec piece = {(char *)"abc", 3};
    loff_t at = 0, negative = -1;

    pipe_open(ends);
    pipe_open(other);
    CHECK_EQ(splice(file, NULL, ends[1], NULL, 0, 0), 0);
    CHECK_ERRNO(splice(file, NULL, ends[1], NULL, 1, 64), EINVAL);
    CHECK_ERRNO(splice(-1, NULL, ends[1], NULL, 1, 0), EBADF);
    CHECK_ERRNO(splice(file, NULL, 999, NULL, 1, 0), EBADF);
    CHECK_ERRNO(splice(file, NULL, ends[0], NULL, 1, 0), EBADF); /* the reading end */
    CHECK_ERRNO(splice(ends[1], NULL, file, NULL, 1, 0), EBADF);
    CHECK_ERRNO(splice(file, NULL, file, NULL, 1, 0), EINVAL);
    CHECK_ERRNO(splice(file, &at, ends[1], &at, 1, 0), ESPIPE);
    CHECK_ERRNO(splice(ends[0], &at, file, NULL, 1, 0), ESPIPE);
    CHECK_ERRNO(splice(file, (loff_t *)8, ends[1], NULL, 1, 0), EFAULT);
    CHECK_ERRNO(splice(file, &negative, ends[1], NULL, 1, 0), EINVAL);
    CHECK_ERRNO(splice(ends[0], NULL, ends[1], NULL, 1, 0), EINVAL); /* itself */
    CHECK_ERRNO(tee(ends[0], ends[1], 1, 0), EINVAL);
    CHECK_ERRNO(tee(ends[0], file, 1, 0), EINVAL);
    CHECK_ERRNO(tee(file, ends[1], 1, 0), EINVAL);
    CHECK_ERRNO(tee(ends[0], other[1], 1, 64), EINVAL);
    CHECK_ERRNO(tee(-1, other[1], 1, 0), EBADF);
    CHECK_ERRNO(vmsplice(file, &piece, 1, 0), EBADF);
    CHECK_ERRNO(vmsplice(-1, &piece, 1, 0), EBADF);
    CHECK_ERRNO(vmsplice(ends[1], &piece, 1, 64), EINVAL);
    CHECK_ERRNO(vmsplice(ends[1], &piece, 1025, 0), EINVAL);
    CHECK_ERRNO(vmsplice(ends[1], (struct iovec *)8, 1, 0), EFAULT);
    CHECK_EQ(vmsplice(ends[1], &piece, 0, 0), 0);
    CHECK_EQ(fcntl(file, F_SETFL, O_APPEND), 0);
    CHECK_EQ(write(ends[1], "x", 1), 1);
    CHECK_ERRNO(splice(ends[0], NULL, file, NULL, 1, 0), EINVAL);
    signal(SIGPIPE, SIG_IGN);
    close(other[0]);
    CHECK_ERRNO(tee(ends[0], other[1], 1, 0), EPIPE);
    CHECK_ERRNO(splice(ends[0], NULL, other[1], NULL, 1, 0), EPIPE);
    CHECK_ERRNO(splice(file, &at, other[1], NULL, 1, 0), EPIPE);
    CHECK_ERRNO(vmsplice(other[1], &piece, 1, 0), EPIPE);
    close(other[1]);
    pipe_close(ends);
    close(file);
}

/* Blocking: a reader waits for what comes through two pipes. */
static void
test_blocking(void)
{
    int a[2], b[2], status;
    char got[16];

    CHECK_EQ(pipe(a), 0);
    CHECK_EQ(pipe(b), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(splice(a[0], NULL, b[1], NULL, 100, 0) == 5 ? 0 : 1);
    wait_asleep(child);
    CHECK_EQ(write(a[1], "hello", 5), 5);
    CHECK_EQ(read(b[0], got, 16), 5);
    CHECK(memcmp(got, "hello", 5) == 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    pipe_close(a);
    pipe_close(b);
}

int
main(void)
{
    page = sysconf(_SC_PAGESIZE);
    test_file();
    test_reference();
    test_pipes();
    test_full();
    test_memory();
    test_secret();
    test_errors();
    test_blocking();
    return check_done("splice");
}
