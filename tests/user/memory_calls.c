/* SPDX-License-Identifier: MIT */
/*
 * Memory system calls as programs see them: results, and the error for each wrong
 * address, length and flag.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define PAGE                      check_page()
#define ANON                      (MAP_PRIVATE | MAP_ANONYMOUS)
#define MAP_FAILS(call, expected) CHECK_ERRNO((long)(call), expected)

/* The call without the C library's checks, and where the user's addresses end. */
#ifdef SYS_mmap2
#define RAW_MMAP       SYS_mmap2
#define KERNEL_ADDRESS 0xc0000000ul
#define LAST_PAGE      (0xc0000000ul - PAGE)
#else
#define RAW_MMAP       SYS_mmap
#define KERNEL_ADDRESS 0xffff800000000000ul
#define LAST_PAGE      (0x800000000000ul - PAGE)
#endif

static char *
pages(long count)
{
    char *at = mmap(NULL, (size_t)(count * PAGE), PROT_READ | PROT_WRITE, ANON, -1, 0);

    CHECK(at != MAP_FAILED);
    return at;
}

static void
test_mmap_errors(void)
{
    int fd = open("/proc/self/exe", O_RDONLY), pipe_ends[2];

    MAP_FAILS(mmap(NULL, 0, PROT_READ, ANON, -1, 0), EINVAL);
    MAP_FAILS(mmap(NULL, PAGE, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
#ifndef SYS_mmap2 /* which takes pages */
    MAP_FAILS(syscall(RAW_MMAP, NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 1), EINVAL);
#endif
    MAP_FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, -1, 0), EBADF);
    MAP_FAILS(syscall(RAW_MMAP, 1, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0), EINVAL);
    MAP_FAILS(mmap(NULL, SIZE_MAX, PROT_READ, ANON, -1, 0), ENOMEM);
    MAP_FAILS(mmap(NULL, SIZE_MAX / 8 * 7 & ~(size_t)4095, PROT_READ, ANON, -1, 0), ENOMEM);
    MAP_FAILS(syscall(RAW_MMAP, KERNEL_ADDRESS, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0), ENOMEM);
    MAP_FAILS(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0), EACCES);
    CHECK_EQ(pipe(pipe_ends), 0);
    MAP_FAILS(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, pipe_ends[0], 0), ENODEV);
    char *at = pages(3);
    MAP_FAILS(mmap(at + PAGE, PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
    CHECK(mmap(at + PAGE, PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0) == at + PAGE);
    CHECK_ERRNO(munmap(at + 1, PAGE), EINVAL);
    CHECK_ERRNO(munmap(at, 0), EINVAL);
    CHECK_ERRNO(munmap(at, SIZE_MAX - PAGE), EINVAL);
    CHECK_EQ(munmap(at, 3 * PAGE), 0);
    CHECK_EQ(munmap(at, 3 * PAGE), 0); /* a hole is fine */
    close(fd);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static void
test_mprotect(void)
{
    char *at = pages(4);
    int fd;

    CHECK_EQ(mprotect(at, 4 * PAGE, PROT_READ), 0);
    CHECK_EQ(mprotect(at, 0, PROT_READ), 0);
    CHECK_ERRNO(syscall(SYS_mprotect, at + 1, PAGE, PROT_READ), EINVAL);
    CHECK_ERRNO(mprotect(at, PAGE, 0x40), EINVAL);
    CHECK_EQ(munmap(at + 2 * PAGE, PAGE), 0);
    CHECK_ERRNO(mprotect(at, 4 * PAGE, PROT_READ | PROT_WRITE), ENOMEM);
    at[PAGE] = 1; /* what lies before the hole was changed */
    CHECK_ERRNO(syscall(SYS_mprotect, LAST_PAGE, 2 * PAGE, PROT_READ), ENOMEM);
    munmap(at, 4 * PAGE);
    fd = open("/tmp/readonly", O_CREAT | O_RDWR, 0600);
    CHECK_EQ(ftruncate(fd, PAGE), 0);
    close(fd);
    fd = open("/tmp/readonly", O_RDONLY);
    at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(at != MAP_FAILED);
    CHECK_ERRNO(mprotect(at, PAGE, PROT_READ | PROT_WRITE), EACCES);
    munmap(at, PAGE);
    close(fd);
}

static void
test_brk(void)
{
    uintptr_t now = (uintptr_t)syscall(SYS_brk, 0), wanted = now + 3 * PAGE;

    CHECK_EQ(syscall(SYS_brk, wanted), wanted);
    memset((void *)now, 7, 3 * PAGE);
    CHECK_EQ(syscall(SYS_brk, now), now);
    CHECK_EQ(syscall(SYS_brk, 1), now); /* refused: the break as it is */
    CHECK_EQ(syscall(SYS_brk, ~0ul), now);
    CHECK_EQ(syscall(SYS_brk, wanted), wanted);
    CHECK_EQ(*(char *)now == 7 && now % PAGE == 0, 0); /* fresh pages are zero */
    CHECK_EQ(syscall(SYS_brk, now), now);
}

static void
test_mremap(void)
{
    char *at = pages(4), *moved;

    for (int i = 0; i < 4; i++)
        at[i * PAGE] = (char)(i + 1);
    moved = mremap(at, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    CHECK(moved != MAP_FAILED);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(moved[i * PAGE], i + 1);
    CHECK_EQ(moved[63 * PAGE], 0);
    CHECK(mremap(moved, 64 * PAGE, 2 * PAGE, 0) == moved);
    CHECK_ERRNO((long)mremap(moved + 1, PAGE, PAGE, 0), EINVAL);
    CHECK_ERRNO((long)mremap(moved, PAGE, 0, 0), EINVAL);
    CHECK_ERRNO((long)mremap(moved, PAGE, PAGE, 0x80), EINVAL);
    CHECK_ERRNO((long)mremap(moved, PAGE, PAGE, MREMAP_FIXED, moved + PAGE), EINVAL);
    CHECK_ERRNO((long)mremap(moved + 2 * PAGE, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
    munmap(moved, 2 * PAGE);
}

static void
test_madvise(void)
{
    char *at = pages(4);

    at[0] = 5;
    CHECK_EQ(madvise(at, PAGE, MADV_DONTNEED), 0);
    CHECK_EQ(at[0], 0);
    CHECK_EQ(madvise(at, 0, MADV_DONTNEED), 0);
    CHECK_ERRNO(madvise(at + 1, PAGE, MADV_DONTNEED), EINVAL);
    CHECK_ERRNO(madvise(at, PAGE, 9999), EINVAL);
    CHECK_EQ(munmap(at + PAGE, PAGE), 0);
    CHECK_ERRNO(madvise(at, 4 * PAGE, MADV_DONTNEED), ENOMEM);
    at[0] = 9;
    CHECK_EQ(madvise(at, PAGE, MADV_WIPEONFORK), 0);
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(at[0]);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(WEXITSTATUS(status), 0);
    CHECK_EQ(madvise(at, PAGE, MADV_DONTFORK), 0);
    munmap(at, 4 * PAGE);
}

static void
test_locks_and_mincore(void)
{
    char *at = pages(4);
    unsigned char present[4] = {9, 9, 9, 9};

    at[PAGE] = 1;
    CHECK_EQ(mincore(at, 4 * PAGE, present), 0);
    CHECK(!(present[0] & 1) && (present[1] & 1) && !(present[2] & 1));
    CHECK_ERRNO(mincore(at + 1, PAGE, present), EINVAL);
    CHECK_ERRNO(mincore(at, PAGE, (void *)8), EFAULT);
    CHECK_EQ(mlock(at, 4 * PAGE), 0);
    CHECK_EQ(mincore(at, 4 * PAGE, present), 0);
    CHECK((present[0] & 1) && (present[3] & 1));
    CHECK_EQ(munlock(at, 4 * PAGE), 0);
    munmap(at + 2 * PAGE, PAGE);
    CHECK_ERRNO(mlock(at, 4 * PAGE), ENOMEM);
    CHECK_ERRNO(mincore(at, 4 * PAGE, present), ENOMEM);
    CHECK_ERRNO(mlockall(0), EINVAL);
    CHECK_ERRNO(mlockall(99), EINVAL);
    CHECK_EQ(munlockall(), 0);
    munmap(at, 4 * PAGE);
}

static void
test_shared_file(void)
{
    int fd = open("/tmp/shared", O_CREAT | O_RDWR | O_TRUNC, 0600), status;
    char byte;

    CHECK_EQ(ftruncate(fd, 2 * PAGE), 0);
    char *a = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *b = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

    a[5] = 'x';
    CHECK_EQ(b[5], 'x');
    CHECK_EQ(pread(fd, &byte, 1, 5), 1);
    CHECK_EQ(byte, 'x');
    b[5] = 'y';
    CHECK_EQ(a[5], 'x');
    CHECK_EQ(pwrite(fd, "z", 1, PAGE), 1);
    CHECK_EQ(a[PAGE], 'z');
    pid_t child = fork();
    if (child == 0) {
        a[6] = 'c';
        b[6] = 'd';
        _exit(0);
    }
    waitpid(child, &status, 0);
    CHECK_EQ(a[6], 'c');
    CHECK(b[6] != 'd');
    CHECK_EQ(msync(a, 2 * PAGE, MS_SYNC), 0);
    CHECK_ERRNO(msync(a, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
    CHECK_ERRNO(msync(a + 1, PAGE, MS_SYNC), EINVAL);
    munmap(a, 2 * PAGE);
    CHECK_ERRNO(msync(a, PAGE, MS_SYNC), ENOMEM);
    munmap(b, 2 * PAGE);
    close(fd);
}

static void
test_process_vm(void)
{
    char text[] = "other process", got[sizeof(text)] = {0};
    int ends[2], status;
    char c;

    CHECK_EQ(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        close(ends[1]);
        (void)!read(ends[0], &c, 1);
        _exit(text[0]);
    }
    struct iovec local = {got, sizeof(got)}, remote = {text, sizeof(text)};

    CHECK_EQ(process_vm_readv(child, &local, 1, &remote, 1, 0), (long)sizeof(text));
    CHECK(strcmp(got, "other process") == 0);
    got[0] = 'O';
    CHECK_EQ(process_vm_writev(child, &local, 1, &remote, 1, 0), (long)sizeof(text));
    remote.iov_base = (void *)16;
    CHECK_ERRNO(process_vm_readv(child, &local, 1, &remote, 1, 0), EFAULT);
    CHECK_ERRNO(process_vm_readv(1 << 22, &local, 1, &remote, 1, 0), ESRCH);
    CHECK_ERRNO(process_vm_readv(child, &local, 1, &remote, 1, 5), EINVAL);
    close(ends[1]);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(WEXITSTATUS(status), 'O');
    CHECK_EQ(text[0], 'o');
    close(ends[0]);
}

/* The kernel's own addresses: large heap blocks, stacks and devices have an area each. */
static void
test_kernel_areas(void)
{
    static const char *const areas[] = {"0xffffc", "0xffffe", "0xfffff"};
    struct rlimit files = {20000, 20000};
    struct utsname name;
    char line[256];
    int seen[3] = {0}, other = 0;

    CHECK_EQ(uname(&name), 0);
    if (strcmp(name.machine, "x86_64") != 0 || strstr(name.release, "quire") == NULL)
        return;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
    CHECK_EQ(dup2(0, 19000), 19000); /* a table of descriptors above the slab classes */
    FILE *info = fopen("/proc/vmallocinfo", "r");

    CHECK(info != NULL);
    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        int i = 0;

        while (i < 3 && strncmp(line, areas[i], 7) != 0)
            i++;
        if (i == 3)
            other++;
        else
            seen[i] += strstr(line, i == 0   ? "kernel heap"
                                    : i == 1 ? "kernel stack"
                                             : "ioremap") != NULL;
    }
    if (info != NULL)
        fclose(info);
    CHECK(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
    CHECK_EQ(other, 0);
    close(19000);
}

static void
write_vm(const char *name, const char *value)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
    fd = open(path, O_WRONLY);
    CHECK_EQ(write(fd, value, strlen(value)), (long)strlen(value));
    close(fd);
}

/* Committed_AS and CommitLimit, in KiB. */
static void
read_commit(long *limit, long *promised)
{
    char line[128];
    FILE *info = fopen("/proc/meminfo", "r");

    while (info != NULL && fgets(line, sizeof(line), info) != NULL) {
        (void)sscanf(line, "CommitLimit: %ld", limit);
        (void)sscanf(line, "Committed_AS: %ld", promised);
    }
    if (info != NULL)
        fclose(info);
}

/* Changes the machine's settings: only where it is ours. */
static void
test_overcommit(void)
{
    long limit = 0, promised = 0, before = 0;
    size_t great = (size_t)1 << 30;
    struct utsname name;
    char *at;

    CHECK_EQ(uname(&name), 0);
    if (strstr(name.release, "quire") == NULL)
        return;
    MAP_FAILS(mmap(NULL, great, PROT_READ | PROT_WRITE, ANON, -1, 0), ENOMEM);
    at = mmap(NULL, great, PROT_READ | PROT_WRITE, ANON | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    munmap(at, great);
    write_vm("overcommit_memory", "1");
    at = mmap(NULL, great, PROT_READ | PROT_WRITE, ANON, -1, 0);
    CHECK(at != MAP_FAILED);
    munmap(at, great);
    read_commit(&limit, &before); /* the first stream may change the heap */
    read_commit(&limit, &before);
    at = pages(64);
    read_commit(&limit, &promised);
    long wanted = 64 * PAGE / 1024;
    CHECK(promised - before >= wanted - 128 &&
          promised - before <= wanted + 128); /* others come and go */

    write_vm("overcommit_memory", "2");
    write_vm("overcommit_kbytes", "20480");
    read_commit(&limit, &promised);
    CHECK_EQ(limit, 20480);
    MAP_FAILS(mmap(NULL, 20 << 20, PROT_READ | PROT_WRITE, ANON | MAP_NORESERVE, -1, 0), ENOMEM);
    MAP_FAILS(mmap(NULL, 20 << 20, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0), ENOMEM);
    CHECK_EQ(mprotect(at, PAGE, PROT_READ), 0);
    write_vm("overcommit_ratio", "50");
    write_vm("overcommit_memory", "0");
    munmap(at, 64 * PAGE);
    CHECK_ERRNO(write(open("/proc/sys/vm/overcommit_memory", O_WRONLY), "3", 1), EINVAL);
}

/* A stack grows on touch, up to its limit. */
static void
test_stack(void)
{
    volatile char big[2 << 20];

    big[0] = 1;
    big[sizeof(big) - 1] = 2;
    CHECK_EQ(big[0] + big[sizeof(big) - 1], 3);
}

int
main(void)
{
    test_mmap_errors();
    test_mprotect();
    test_brk();
    test_mremap();
    test_madvise();
    test_locks_and_mincore();
    test_shared_file();
    test_process_vm();
    test_kernel_areas();
    test_overcommit();
    test_stack();
    return check_done("memory_calls");
}
