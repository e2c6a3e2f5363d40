/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd on huge pages of a pool: missing ones, protected ones, and those that only the file
 * has.  Here a page is a huge one, but for `small`.  Where the pool cannot be filled, there is nothing
 * to test.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "uffd.h"

#ifndef MFD_HUGETLB
#define MFD_HUGETLB 4u
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

#define POOL "/proc/sys/vm/nr_hugepages"
#define HUGE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB)

#define MISSING UFFDIO_REGISTER_MODE_MISSING
#define WRITE   UFFDIO_REGISTER_MODE_WP
#define MINOR   UFFDIO_REGISTER_MODE_MINOR
#define PROTECT UFFDIO_WRITEPROTECT_MODE_WP

static size_t small;

/* The ioctls that registering answers with. */
static uint64_t
registered(int fd, char *at, size_t count, uint64_t mode)
{
    struct uffdio_register request = {.range = {(uintptr_t)at, count * page}, .mode = mode};

    CHECK_EQ(ioctl(fd, UFFDIO_REGISTER, &request), 0);
    return request.ioctls;
}

static int
raw_copy(int fd, char *to, char *from, size_t bytes)
{
    struct uffdio_copy copy = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = bytes};
    int result = ioctl(fd, UFFDIO_COPY, &copy);

    copied = (long)copy.copy;
    return result;
}

/* Is the page of @at protected, as /proc/self/pagemap says? */
static int
is_protected(const char *at)
{
    uint64_t word = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);

    CHECK_EQ(pread(fd, &word, sizeof(word), (off_t)((uintptr_t)at / small * sizeof(word))),
             sizeof(word));
    close(fd);
    return (int)(word >> 57 & 1);
}

/* Nothing but whole huge pages, and no zeroes without a copy. */
static void
test_borders(char *source)
{
    char *at = map_pages(4, HUGE, -1);
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_MISSING_HUGETLBFS | UFFD_FEATURE_MINOR_HUGETLBFS |
                                       UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
    struct uffdio_register part = {.range = {(uintptr_t)at + small, page - small}, .mode = MISSING};
    struct uffdio_writeprotect protect = {.range = {(uintptr_t)at, small}, .mode = PROTECT};

    CHECK_ERRNO(ioctl(fd, UFFDIO_REGISTER, &part), EINVAL);
    part.range.start = (uintptr_t)at;
    CHECK_ERRNO(ioctl(fd, UFFDIO_REGISTER, &part), EINVAL);
    CHECK_EQ(registered(fd, at, 4, MISSING), 1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY);
    CHECK_EQ(registered(fd, at, 4, MISSING | WRITE),
             1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY | 1 << _UFFDIO_WRITEPROTECT);
    CHECK_ERRNO(uffd_zero(fd, at, 1), EINVAL);
    CHECK_ERRNO(raw_copy(fd, at, source, small), EINVAL);
    CHECK_EQ(copied, -EINVAL);
    CHECK_ERRNO(raw_copy(fd, at + small, source, page), EINVAL);
    CHECK_ERRNO(ioctl(fd, UFFDIO_WRITEPROTECT, &protect), EINVAL);
    CHECK_ERRNO(uffd_copy(fd, at, (char *)8, 1, 0), EFAULT);
    CHECK_EQ(copied, -EFAULT);
    CHECK_ERRNO(raw_copy(fd, at, source, page + small), EINVAL);
    CHECK_ERRNO(uffd_copy(fd, at + 3 * page, source, 2, 0), ENOENT);
    CHECK_EQ(uffd_unregister(fd, at, 4), 0);
    close(fd);
    munmap(at, 4 * page);
}

static void
test_missing(char *at, char *source)
{
    int fd = uffd_open(O_NONBLOCK, 0);
    struct touch touch;

    CHECK_EQ(uffd_register(fd, at, 2, MISSING), 0);
    touch_start(&touch, at + 5 * small + 7, -1);
    expect_fault(fd, at, 0); /* the page, not the address */
    /* The source starts in the middle of a small page. */
    CHECK_EQ(raw_copy(fd, at, source + 3, page), 0);
    CHECK_EQ(copied, page);
    CHECK_EQ(touch_end(&touch), 's');
    CHECK_EQ(at[page - 4], 's');
    CHECK_EQ(at[page - 3], 't');
    CHECK_ERRNO(uffd_copy(fd, at, source, 1, 0), EEXIST);
    touch_start(&touch, at + page + 1, 'x');
    expect_fault(fd, at + page, UFFD_PAGEFAULT_FLAG_WRITE);
    CHECK_EQ(uffd_copy(fd, at + page, source, 1, UFFDIO_COPY_MODE_DONTWAKE), 0);
    CHECK_EQ(uffd_wake(fd, at + page, 1), 0);
    touch_end(&touch);
    CHECK_EQ(at[page + 1], 'x');
    CHECK_EQ(at[page + 2], 's');
    /* What is dropped is missing again; without its listener a page comes by itself. */
    CHECK_EQ(uffd_unregister(fd, at, 2), 0);
    CHECK_EQ(madvise(at, page, MADV_DONTNEED), 0);
    close(fd);
}

static void
test_exact(char *at)
{
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_EXACT_ADDRESS);
    struct touch touch;

    CHECK_EQ(uffd_register(fd, at, 1, MISSING), 0);
    touch_start(&touch, at + 5 * small + 7, -1);
    expect_fault(fd, at + 5 * small + 7, 0);
    CHECK_EQ(uffd_unregister(fd, at, 1), 0); /* wakes */
    CHECK_EQ(touch_end(&touch), 0);
    close(fd);
}

/* Protected pages that are there, and absent ones; mprotect and fork do not help. */
static void
test_protect(char *at, char *source)
{
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_PAGEFAULT_FLAG_WP);
    struct touch touch;

    at[0] = 'a';
    CHECK_EQ(uffd_register(fd, at, 3, WRITE), 0);
    CHECK_EQ(uffd_protect(fd, at, 2, PROTECT), 0);
    CHECK_EQ(is_protected(at), 1);
    CHECK_EQ(at[0], 'a'); /* reading is free */
    CHECK_EQ(mprotect(at, page, PROT_READ), 0);
    CHECK_EQ(mprotect(at, page, PROT_READ | PROT_WRITE), 0);
    touch_start(&touch, at + small, 'b');
    expect_fault(fd, at, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(touch.done, 0);
    CHECK_EQ(uffd_protect(fd, at, 1, 0), 0);
    touch_end(&touch);
    CHECK_EQ(is_protected(at), 0);
    CHECK_EQ(at[small], 'b');
    /* The second came after it was protected. */
    CHECK_EQ(at[page], 0);
    touch_start(&touch, at + page, 'c');
    expect_fault(fd, at + page, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(uffd_protect(fd, at + page, 1, 0), 0);
    touch_end(&touch);
    at[2 * page] = 'd'; /* not protected */
    /* A copy may be protected from the start. */
    CHECK_EQ(uffd_unregister(fd, at, 3), 0);
    CHECK_EQ(uffd_register(fd, at + 3 * page, 1, MISSING | WRITE), 0);
    CHECK_EQ(uffd_copy(fd, at + 3 * page, source, 1, UFFDIO_COPY_MODE_WP), 0);
    CHECK_EQ(at[3 * page], 's');
    touch_start(&touch, at + 3 * page, 'e');
    expect_fault(fd, at + 3 * page, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    close(fd); /* wakes, and nobody is told any more */
    touch_end(&touch);
    CHECK_EQ(at[3 * page], 'e');
}

/* A page that a child shares is told of before it is copied.  (The child only reads: its write would
 * fault for ever in Linux 6.1, which copies the page's protection and not who is told of it.) */
static void
test_fork(void)
{
    char *at = map_pages(1, HUGE, -1);
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_PAGEFAULT_FLAG_WP), status = -1;
    struct touch touch;

    at[0] = 'a';
    CHECK_EQ(uffd_register(fd, at, 1, WRITE), 0);
    CHECK_EQ(uffd_protect(fd, at, 1, PROTECT), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(at[0] == 'a' ? 0 : 1);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    touch_start(&touch, at, 'b');
    expect_fault(fd, at, UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP);
    CHECK_EQ(uffd_protect(fd, at, 1, 0), 0);
    touch_end(&touch);
    CHECK_EQ(at[0], 'b');
    close(fd);
    munmap(at, page);
}

/* Pages that the file has are mapped where another mapping of it made them. */
static void
test_minor(void)
{
    int file = memfd_create("huge", MFD_HUGETLB), fd = uffd_open(O_NONBLOCK, 0);
    struct touch touch;

    CHECK_EQ(ftruncate(file, (off_t)(3 * page)), 0);
    char *maker = map_pages(3, MAP_SHARED, file), *at = map_pages(3, MAP_SHARED, file);

    CHECK_EQ(registered(fd, at, 3, MINOR),
             1 << _UFFDIO_WAKE | 1 << _UFFDIO_COPY | 1 << _UFFDIO_CONTINUE);
    memset(maker, 'm', page);
    touch_start(&touch, at + small, -1);
    expect_fault(fd, at, UFFD_PAGEFAULT_FLAG_MINOR);
    maker[small] = 'n';
    CHECK_EQ(uffd_continue(fd, at, 1), 0);
    CHECK_EQ(touch_end(&touch), 'n');
    CHECK_ERRNO(uffd_continue(fd, at, 1), EEXIST);
    CHECK_ERRNO(uffd_continue(fd, at + page, 1), EFAULT); /* there is none */
    at[page] = 'o';                                       /* missing ones are not told of */
    CHECK_EQ(maker[page], 'o');
    CHECK_EQ(uffd_unregister(fd, at, 3), 0);
    /* Behind the end there is no page to be had. */
    CHECK_EQ(uffd_register(fd, at, 3, MISSING), 0);
    CHECK_EQ(ftruncate(file, (off_t)(2 * page)), 0);
    CHECK_ERRNO(uffd_copy(fd, at + 2 * page, maker, 1, 0), EFAULT);
    CHECK_ERRNO(uffd_copy(fd, at, maker, 1, 0), EEXIST);
    munmap(maker, 3 * page);
    munmap(at, 3 * page);
    close(file);
    close(fd);
}

static volatile sig_atomic_t stopped;
static sigjmp_buf *after;

static void
on_bus(int number)
{
    (void)number;
    stopped++;
    siglongjmp(*after, 1);
}

static void
test_sigbus(char *at)
{
    struct sigaction action = {.sa_handler = on_bus}, old;
    sigjmp_buf here;
    int fd = uffd_open(O_NONBLOCK, UFFD_FEATURE_SIGBUS);

    sigaction(SIGBUS, &action, &old);
    CHECK_EQ(uffd_register(fd, at, 1, MISSING), 0);
    after = &here;
    if (sigsetjmp(here, 1) == 0)
        at[small] = 1;
    CHECK_EQ(stopped, 1);
    sigaction(SIGBUS, &old, NULL);
    close(fd);
}

static void
test_both(char *source)
{
    const int kinds[] = {HUGE, MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB};

    for (int i = 0; i < 2; i++) {
        char *at = map_pages(4, kinds[i], -1);

        test_missing(at, source);
        munmap(at, 4 * page);
        at = map_pages(4, kinds[i], -1);
        test_exact(at);
        munmap(at, 4 * page);
        at = map_pages(4, kinds[i], -1);
        test_protect(at, source);
        munmap(at, 4 * page);
        at = map_pages(1, kinds[i], -1);
        test_sigbus(at);
        stopped = 0;
        munmap(at, page);
    }
}

int
main(void)
{
    char *source;

    setvbuf(stdout, NULL, _IOLBF, 0);
    small = (size_t)sysconf(_SC_PAGESIZE);
    page = (size_t)line_of("/proc/meminfo", "Hugepagesize") * 1024;
    /* In turn, since the first test wants them all. */
    if (put_text(POOL, "8") != 0 || line_of("/proc/meminfo", "HugePages_Free") < 8 ||
        (syscall(SYS_userfaultfd, O_CLOEXEC) < 0 && errno == EPERM)) {
        printf("userfault_huge: not here: 0 checks, 0 failures\n");
        return 0;
    }
    source = malloc(2 * page);
    CHECK(source != NULL);
    memset(source, 's', page);
    memset(source + page, 't', page);
    test_borders(source);
    test_both(source);
    test_fork();
    test_minor();
    free(source);
    CHECK_EQ(line_of("/proc/meminfo", "HugePages_Free"), 8);
    CHECK_EQ(line_of("/proc/meminfo", "HugePages_Rsvd"), 0);
    CHECK_EQ(put_text(POOL, "0"), 0);
    return check_done("userfault_huge");
}
