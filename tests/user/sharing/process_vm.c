/* SPDX-License-Identifier: MIT */
/*
 * process_vm_readv and process_vm_writev: pieces that do not match, ends in the midst of one, rights,
 * copy-on-write, and the error for each wrong argument.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../check.h"

static size_t page;
static pid_t child;
static char *shown; /* at the same place in parent and child; the child's content differs */

static ssize_t
peek(void *to, size_t n, void *from, size_t m)
{
    struct iovec local = {to, n}, remote = {from, m};

    return process_vm_readv(child, &local, 1, &remote, 1, 0);
}

static ssize_t
poke(void *from, size_t n, void *to, size_t m)
{
    struct iovec local = {from, n}, remote = {to, m};

    return process_vm_writev(child, &local, 1, &remote, 1, 0);
}

/*
 * page  0 private   1 private read-only   2 none   3 shared with the parent   4 hole
 */
static void
child_body(int ready)
{
    memset(shown, 'c', 2 * page);
    (void)mprotect(shown + page, page, PROT_READ);
    (void)mprotect(shown + 2 * page, page, PROT_NONE);
    (void)munmap(shown + 4 * page, page);
    (void)!write(ready, "x", 1);
    for (;;)
        pause();
}

static void
child_start(void)
{
    int ends[2];
    char byte;

    shown = mmap(NULL, 5 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(mmap(shown + 3 * page, page, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == shown + 3 * page);
    memset(shown, 'p', 3 * page);
    memset(shown + 3 * page, 's', page);
    CHECK_EQ(pipe(ends), 0);
    child = fork();
    if (child == 0)
        child_body(ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    close(ends[1]);
}

static void
test_reading(void)
{
    static char buffer[8 * 4096];

    memset(buffer, '-', sizeof(buffer));
    CHECK_EQ(peek(buffer, 10, shown + 5, 10), 10);
    CHECK(memcmp(buffer, "cccccccccc-", 11) == 0);
    CHECK_EQ(shown[5], 'p');
    CHECK_EQ(peek(buffer, 100, shown, 7), 7); /* the shorter side decides */
    CHECK_EQ(peek(buffer, 7, shown, 100), 7);
    CHECK_EQ(peek(buffer, 10, shown + page - 5, 10), 10);           /* read-only is fine */
    CHECK_EQ(peek(buffer, 2 * page, shown + page, 2 * page), page); /* up to what may not be read */
    CHECK_ERRNO(peek(buffer, 10, shown + 2 * page, 10), EFAULT);
    CHECK_EQ(peek(buffer, 2 * page, shown + 3 * page, 2 * page), page); /* up to the hole */
    CHECK_EQ(buffer[0], 's');
    CHECK_ERRNO(peek(buffer, 10, shown + 4 * page, 10), EFAULT);
    CHECK_ERRNO(peek(buffer, 10, NULL, 10), EFAULT);
    CHECK_ERRNO(peek(buffer, 10, (void *)(UINTPTR_MAX - 5), 4), EFAULT);
    CHECK_ERRNO(peek((void *)8, 10, shown, 10), EFAULT);
    CHECK_EQ(peek(buffer, 0, shown, 10), 0);
    CHECK_EQ(peek(buffer, 10, shown, 0), 0);
}

/* Where a piece of the far side fails, the ones before it count, in whole. */
static void
test_pieces(void)
{
    char a[6] = "------", b[10] = "----------";
    struct iovec local[3] = {{a, 3}, {NULL, 0}, {b, 10}};
    struct iovec remote[3] = {{shown, 5}, {shown + 3 * page, 4}, {shown + 4 * page, 4}};

    CHECK_EQ(process_vm_readv(child, local, 3, remote, 3, 0), 9);
    CHECK(memcmp(a, "ccc---", 6) == 0);
    CHECK(memcmp(b, "ccssss----", 10) == 0);
    CHECK_EQ(process_vm_readv(child, local, 1, remote, 3, 0), 3);
    CHECK_EQ(process_vm_readv(child, local, 0, remote, 3, 0), 0);
    CHECK_EQ(process_vm_readv(child, local, 3, remote, 0, 0), 0);
    remote[0].iov_base = shown + 4 * page;
    CHECK_ERRNO(process_vm_readv(child, local, 3, remote, 2, 0), EFAULT);
    remote[0] = (struct iovec){shown, 5};
    local[2].iov_base = (void *)8; /* the near side fails in its third piece */
    CHECK_EQ(process_vm_readv(child, local, 3, remote, 3, 0), 3);
}

static void
test_writing(void)
{
    char text[] = "written", buffer[8];

    CHECK_EQ(poke(text, 7, shown + 20, 7), 7);
    CHECK_EQ(peek(buffer, 8, shown + 19, 8), 8);
    CHECK(memcmp(buffer, "cwritten", 8) == 0);
    CHECK_EQ(shown[20], 'p'); /* ours is another copy */
    CHECK_EQ(poke(text, 7, shown + 3 * page + 20, 7), 7);
    CHECK(memcmp(shown + 3 * page + 20, text, 7) == 0);  /* shared memory is shared */
    CHECK_ERRNO(poke(text, 7, shown + page, 7), EFAULT); /* read-only */
    CHECK_EQ(poke(text, 7, shown + page - 3, 7), 3);
    CHECK_ERRNO(poke(text, 7, shown + 4 * page, 7), EFAULT);
    CHECK_ERRNO(poke((void *)8, 7, shown, 7), EFAULT);
}

static void
test_errors(void)
{
    char buffer[8];
    struct iovec local = {buffer, 8}, remote = {shown, 8};
    struct iovec huge = {shown, (size_t)SSIZE_MAX + 1};
    static struct iovec many[1025];
    pid_t gone = fork();
    int status;

    if (gone == 0)
        _exit(0);
    CHECK_EQ(waitpid(gone, &status, 0), gone);
    CHECK_ERRNO(process_vm_readv(gone, &local, 1, &remote, 1, 0), ESRCH);
    CHECK_ERRNO(process_vm_readv(-1, &local, 1, &remote, 1, 0), ESRCH);
    CHECK_ERRNO(process_vm_readv(child, &local, 1, &remote, 1, 1), EINVAL);
    CHECK_ERRNO(process_vm_readv(child, many, 1025, &remote, 1, 0), EINVAL);
    CHECK_ERRNO(process_vm_readv(child, &local, 1, many, 1025, 0), EINVAL);
    CHECK_ERRNO(process_vm_readv(child, &huge, 1, &remote, 1, 0), EINVAL);
    CHECK_ERRNO(process_vm_readv(child, &local, 1, &huge, 1, 0), EINVAL);
    CHECK_ERRNO(process_vm_readv(child, (struct iovec *)8, 1, &remote, 1, 0), EFAULT);
    CHECK_ERRNO(process_vm_readv(child, &local, 1, (struct iovec *)8, 1, 0), EFAULT);
    if (geteuid() != 0)
        return;
    pid_t stranger = fork();
    if (stranger == 0) {
        if (setgid(4711) != 0 || setuid(4711) != 0)
            _exit(3);
        CHECK_ERRNO(process_vm_readv(child, &local, 1, &remote, 1, 0), EPERM);
        fflush(stdout);
        _exit(check_failures != 0);
    }
    CHECK_EQ(waitpid(stranger, &status, 0), stranger);
    CHECK_EQ(status, 0);
}

/* A process that waits to be waited for has no memory. */
static void
test_zombie(void)
{
    char buffer[8];
    int status;

    CHECK_EQ(kill(child, SIGKILL), 0);
    siginfo_t info;
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    CHECK_ERRNO(peek(buffer, 8, shown, 8), ESRCH);
    CHECK_EQ(waitpid(child, &status, 0), child);
}

int
main(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    child_start();
    test_reading();
    test_pieces();
    test_writing();
    test_errors();
    test_zombie();
    return check_done("process_vm");
}
