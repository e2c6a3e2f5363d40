/* SPDX-License-Identifier: MIT */
/*
 * Files in memory: seals, holes, what fallocate() and truncation do to pages that are mapped,
 * and how much memory all that is.
 */
#define _GNU_SOURCE
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../check.h"

static long page;

static char *
map(int fd, long pages, int prot, int flags)
{
    return mmap(NULL, (size_t)(pages * page), prot, flags, fd, 0);
}

static unsigned
mode(int fd)
{
    struct stat stat;

    return fstat(fd, &stat) == 0 ? stat.st_mode & 07777u : 0;
}

static int
sized(const char *name, unsigned flags, long pages)
{
    int fd = memfd_create(name, flags);

    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, pages * page), 0);
    return fd;
}

/* ---- memory that is not there ----------------------------------------------------------- */

static sigjmp_buf trap_return;
static volatile sig_atomic_t trap_signal, trap_code;
static void *volatile trap_address;

static void
trap(int number, siginfo_t *info, void *context)
{
    (void)context;
    trap_signal = number;
    trap_code = info->si_code;
    trap_address = info->si_addr;
    siglongjmp(trap_return, 1);
}

/* The signal that a load gets; 0: none. */
static int
touch(volatile char *at)
{
    trap_signal = 0;
    if (sigsetjmp(trap_return, 1) == 0)
        (void)*at;
    return trap_signal;
}

static int
store(volatile char *at)
{
    trap_signal = 0;
    if (sigsetjmp(trap_return, 1) == 0)
        *at = 'x';
    return trap_signal;
}

static long
blocks(int fd)
{
    struct stat status;

    CHECK_EQ(fstat(fd, &status), 0);
    return (long)status.st_blocks * 512 / page;
}

static long
size(int fd)
{
    struct stat status;

    CHECK_EQ(fstat(fd, &status), 0);
    return (long)status.st_size;
}

/* ---- creating ------------------------------------------------------------------------------ */

static void
test_create(void)
{
    char name[300], path[64], target[400];
    int fd;
    ssize_t n;

    CHECK_ERRNO(memfd_create("x", 0x8000), EINVAL);
    CHECK_ERRNO(memfd_create(NULL, 0), EFAULT);
    memset(name, 'n', sizeof(name));
    name[249] = '\0';
    fd = memfd_create(name, MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDWR);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    close(fd);
    name[249] = 'n';
    name[250] = '\0';
    CHECK_ERRNO(memfd_create(name, 0), EINVAL);
    fd = memfd_create("", MFD_ALLOW_SEALING);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
    CHECK_EQ(fcntl(fd, F_GETFD), 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    n = readlink(path, target, sizeof(target) - 1);
    target[n > 0 ? n : 0] = '\0';
    CHECK(strcmp(target, "/memfd: (deleted)") == 0);
    CHECK_EQ(size(fd), 0);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, 0x8000), EINVAL);
    close(fd);
    fd = open("/dev/null", O_RDWR);
    CHECK_ERRNO(fcntl(fd, F_GET_SEALS), EINVAL);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), EINVAL);
    close(fd);
}

/* As of Linux 6.3; the headers may be older. */
enum { NOEXEC_SEAL = 8, EXEC = 16, SEAL_EXEC = 0x20 };

static void
test_exec_seal(void)
{
    int fd = memfd_create("noexec", NOEXEC_SEAL);

    CHECK_EQ(fcntl(fd, F_GET_SEALS), SEAL_EXEC);
    CHECK_EQ(mode(fd), 0666);
    CHECK_ERRNO(fchmod(fd, 0777), EPERM);
    CHECK_EQ(fchmod(fd, 0600), 0);
    close(fd);
    fd = memfd_create("exec", EXEC | MFD_ALLOW_SEALING);
    CHECK_EQ(mode(fd), 0777);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, SEAL_EXEC), 0); /* what may be executed does not change */
    CHECK_EQ(fcntl(fd, F_GET_SEALS),
             SEAL_EXEC | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE);
    close(fd);
    CHECK_ERRNO(memfd_create("both", NOEXEC_SEAL | EXEC), EINVAL);
}

/* ---- seals ----------------------------------------------------------------------------------- */

static void
test_size_seals(void)
{
    int fd = sized("size", MFD_ALLOW_SEALING, 2);

    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
    CHECK_ERRNO(ftruncate(fd, page), EPERM);
    CHECK_EQ(ftruncate(fd, 3 * page), 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), 0);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_GROW | F_SEAL_SHRINK);
    CHECK_ERRNO(ftruncate(fd, 4 * page), EPERM);
    CHECK_EQ(ftruncate(fd, 3 * page), 0);
    CHECK_EQ(pwrite(fd, "abc", 3, 3 * page - 3), 3);
    CHECK_ERRNO(pwrite(fd, "abc", 3, 3 * page), EPERM);
    CHECK_ERRNO(fallocate(fd, 0, 2 * page, 2 * page), EPERM);
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page), 0);
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
    close(fd);
}

static void
test_write_seal(void)
{
    int fd = sized("write", MFD_ALLOW_SEALING, 2);
    char *shared = map(fd, 2, PROT_READ | PROT_WRITE, MAP_SHARED), *private;

    CHECK(shared != MAP_FAILED);
    shared[0] = 'a';
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
    CHECK_EQ(munmap(shared, (size_t)(2 * page)), 0);
    private = map(fd, 2, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    CHECK(private != MAP_FAILED);
    private[1] = 'p';
    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    CHECK_ERRNO(write(fd, "b", 1), EPERM);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page), EPERM);
    CHECK_ERRNO((long)map(fd, 2, PROT_READ | PROT_WRITE, MAP_SHARED), EPERM);
    shared = map(fd, 2, PROT_READ, MAP_SHARED);
    if (shared != MAP_FAILED) { /* Linux 6.7 */
        CHECK_EQ(shared[0], 'a');
        CHECK_ERRNO(mprotect(shared, (size_t)page, PROT_READ | PROT_WRITE), EACCES);
        munmap(shared, (size_t)(2 * page));
    } else {
        CHECK_EQ(errno, EPERM);
    }
    private[2] = 'q'; /* its own copy still may be */
    CHECK_EQ(private[0], 'a');
    CHECK_EQ(ftruncate(fd, page), 0); /* not what it seals */
    close(fd);
    munmap(private, (size_t)(2 * page));
}

static void
test_future_write_seal(void)
{
    int fd = sized("future", MFD_ALLOW_SEALING, 2);
    char *before = map(fd, 2, PROT_READ | PROT_WRITE, MAP_SHARED), *after;

    CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    before[0] = 'f'; /* this one may go on */
    CHECK_ERRNO(write(fd, "b", 1), EPERM);
    CHECK_ERRNO((long)map(fd, 2, PROT_READ | PROT_WRITE, MAP_SHARED), EPERM);
    after = map(fd, 2, PROT_READ, MAP_SHARED);
    CHECK(after != MAP_FAILED);
    CHECK_EQ(after[0], 'f');
    CHECK_ERRNO(mprotect(after, (size_t)page, PROT_READ | PROT_WRITE), EACCES);
    CHECK(map(fd, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE) != MAP_FAILED);
    munmap(before, (size_t)(2 * page));
    munmap(after, (size_t)(2 * page));
    close(fd);
}

/* ---- holes -------------------------------------------------------------------------------------- */

static void
test_holes(int fd)
{
    char buffer[3] = "???";
    long end = 10 * page;

    CHECK_EQ(ftruncate(fd, end), 0);
    CHECK_EQ(blocks(fd), 0);
    CHECK_EQ(lseek(fd, 0, SEEK_HOLE), 0);
    CHECK_ERRNO(lseek(fd, 0, SEEK_DATA), ENXIO);
    CHECK_EQ(pwrite(fd, "x", 1, 3 * page + 7), 1);
    CHECK_EQ(pwrite(fd, "y", 1, 6 * page), 1);
    CHECK_EQ(blocks(fd), 2);
    CHECK_EQ(lseek(fd, 0, SEEK_DATA), 3 * page);
    CHECK_EQ(lseek(fd, 3 * page + 9, SEEK_DATA), 3 * page + 9);
    CHECK_EQ(lseek(fd, 3 * page, SEEK_HOLE), 4 * page);
    CHECK_EQ(lseek(fd, 4 * page, SEEK_DATA), 6 * page);
    CHECK_EQ(lseek(fd, 6 * page, SEEK_HOLE), 7 * page);
    CHECK_ERRNO(lseek(fd, 7 * page, SEEK_DATA), ENXIO);
    CHECK_ERRNO(lseek(fd, end, SEEK_HOLE), ENXIO);
    CHECK_ERRNO(lseek(fd, -1, SEEK_DATA), ENXIO);
    CHECK_EQ(pread(fd, buffer, 3, 3 * page + 6), 3);
    CHECK(memcmp(buffer, "\0x\0", 3) == 0);

    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * page + 7, page), 0);
    CHECK_EQ(pread(fd, buffer, 1, 3 * page + 7), 1);
    CHECK_EQ(buffer[0], 0);
    CHECK_EQ(blocks(fd), 2); /* no whole page in it */
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * page, page), 0);
    CHECK_EQ(blocks(fd), 1);
    CHECK_EQ(fallocate(fd, 0, 8 * page, 4 * page), 0); /* past the end */
    CHECK_EQ(size(fd), 12 * page);
    CHECK_EQ(blocks(fd), 5);
    CHECK_EQ(fallocate(fd, FALLOC_FL_KEEP_SIZE, 12 * page, page), 0);
    CHECK_EQ(size(fd), 12 * page);
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 20 * page), 0);
    CHECK_EQ(size(fd), 12 * page);

    CHECK_ERRNO(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, page), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, page), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_INSERT_RANGE, 0, page), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, page), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, 0x8000, 0, page), EOPNOTSUPP);
    CHECK_ERRNO(fallocate(fd, 0, 0, 0), EINVAL);
    CHECK_ERRNO(fallocate(fd, 0, -1, page), EINVAL);
    CHECK_ERRNO(fallocate(fd, 0, INT64_MAX - 10, page), EFBIG);
    CHECK_EQ(ftruncate(fd, 0), 0);
    CHECK_EQ(blocks(fd), 0);
}

/* ---- pages that truncation takes away -------------------------------------------------------------- */

static void
test_truncation(int fd)
{
    char *shared, *private, buffer[2] = "?";
    struct iovec local = {buffer, 1}, remote;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);

    CHECK_EQ(ftruncate(fd, 4 * page), 0);
    shared = map(fd, 6, PROT_READ | PROT_WRITE, MAP_SHARED);
    private = map(fd, 6, PROT_READ | PROT_WRITE, MAP_PRIVATE);
    memset(shared, 's', (size_t)(4 * page));
    memset(private, 'p', (size_t)(2 * page));
    CHECK_EQ(touch(shared + 4 * page), SIGBUS);
    CHECK_EQ(trap_code, BUS_ADRERR);
    CHECK(trap_address == shared + 4 * page);
    CHECK_EQ(touch(private + 5 * page), SIGBUS);
    CHECK_EQ(ftruncate(fd, page + 10), 0);
    CHECK_EQ(shared[page + 9], 's');
    CHECK_EQ(shared[page + 10], 0);    /* the rest of the last page is cleared */
    CHECK_EQ(private[page + 10], 'p'); /* a copy is a copy */
    CHECK_EQ(touch(shared + 2 * page), SIGBUS);
    CHECK_EQ(store(private + 2 * page), SIGBUS);
    CHECK_EQ(ftruncate(fd, 4 * page), 0);
    CHECK_EQ(shared[2 * page], 0);
    CHECK_EQ(ftruncate(fd, 0), 0);
    CHECK_EQ(touch(private), SIGBUS); /* copies go, too */
    CHECK_EQ(touch(shared), SIGBUS);

    /* The kernel's own accesses fail as such. */
    CHECK_ERRNO(write(ends[1], shared, 1), EFAULT);
    close(ends[0]);
    close(ends[1]);
    remote.iov_base = shared;
    remote.iov_len = 1;
    CHECK_ERRNO(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), EFAULT);
    CHECK_EQ(ftruncate(fd, 2 * page), 0);
    CHECK_EQ(touch(shared), 0);
    shared[0] = 'h';
    private[0] = 'c';
    CHECK_EQ(madvise(shared, (size_t)page, MADV_REMOVE), 0);
    CHECK_EQ(shared[0], 0);
    CHECK_EQ(private[0], 'c'); /* a hole leaves copies */
    munmap(shared, (size_t)(6 * page));
    munmap(private, (size_t)(6 * page));
}

/* ---- how much memory that is ---------------------------------------------------------------------- */

static long
meminfo(const char *name)
{
    return line_of("/proc/meminfo", name);
}

/* Only where nobody else changes the numbers meanwhile: argument "exact". */
static void
test_counters(void)
{
    enum { PAGES = 600 };
    long shmem = meminfo("Shmem"), promised = meminfo("Committed_AS"), kib = page / 1024;
    int fd = sized("counted", 0, PAGES);
    char *at;

    CHECK_EQ(meminfo("Shmem"), shmem);
    CHECK_EQ(fallocate(fd, 0, 0, PAGES * page), 0);
    CHECK_EQ(meminfo("Shmem"), shmem + PAGES * kib);
    CHECK_EQ(meminfo("Committed_AS"), promised + PAGES * kib); /* as the pages come */
    CHECK_EQ(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 100 * page), 0);
    CHECK_EQ(meminfo("Committed_AS"), promised + (PAGES - 100) * kib);
    CHECK_EQ(meminfo("Shmem"), shmem + (PAGES - 100) * kib);
    close(fd);
    CHECK_EQ(meminfo("Shmem"), shmem);
    CHECK_EQ(meminfo("Committed_AS"), promised);
    at = mmap(NULL, (size_t)(PAGES * page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
              0);
    CHECK_EQ(meminfo("Committed_AS"), promised + PAGES * kib); /* all at once */
    memset(at, 1, (size_t)(10 * page));
    CHECK_EQ(meminfo("Shmem"), shmem + 10 * kib);
    CHECK_EQ(meminfo("Committed_AS"), promised + PAGES * kib);
    munmap(at, (size_t)(PAGES * page));
    CHECK_EQ(meminfo("Committed_AS"), promised);
    CHECK_EQ(meminfo("Shmem"), shmem);
}

/* ---- POSIX shared memory ----------------------------------------------------------------------------- */

static void
test_posix(void)
{
    char name[32];
    int fd, again, status = -1;

    snprintf(name, sizeof(name), "/quire-%d", getpid());
    CHECK_ERRNO(shm_open(name, O_RDWR, 0600), ENOENT);
    fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK_ERRNO(shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
    CHECK_EQ(ftruncate(fd, page), 0);
    volatile char *at = map(fd, 1, PROT_READ | PROT_WRITE, MAP_SHARED);
    pid_t child = fork();
    if (child == 0) {
        again = shm_open(name, O_RDWR, 0);
        char *mine = map(again, 1, PROT_READ | PROT_WRITE, MAP_SHARED);

        mine[0] = 'm';
        _exit(again < 0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(at[0], 'm');
    CHECK_EQ(shm_unlink(name), 0);
    CHECK_ERRNO(shm_unlink(name), ENOENT);
    CHECK_ERRNO(shm_open(name, O_RDWR, 0), ENOENT);
    CHECK_EQ(at[0], 'm');
    CHECK_ERRNO(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM); /* not a memfd */
    munmap((void *)at, (size_t)page);
    CHECK_EQ(ftruncate(fd, 0), 0);
    test_holes(fd);
    test_truncation(fd);
    close(fd);
}

int
main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = trap, .sa_flags = SA_SIGINFO};
    int fd;

    page = sysconf(_SC_PAGESIZE);
    CHECK_EQ(sigaction(SIGBUS, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    test_create();
    test_exec_seal();
    test_size_seals();
    test_write_seal();
    test_future_write_seal();
    fd = memfd_create("holes", 0);
    test_holes(fd);
    test_truncation(fd);
    close(fd);
    test_posix();
    if (argc > 1 && strcmp(argv[1], "exact") == 0)
        test_counters();
    return check_done("memfd");
}
