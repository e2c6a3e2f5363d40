/* SPDX-License-Identifier: MIT */
/*
 * Limits where several calls meet: locked memory of all kinds, sizes of files by every way to write one,
 * address space and data, processes, open files; and whose they are where memory is shared.  (The rows of prlimit itself: tests/user/calls/limits.c.)
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "../check.h"

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static long page;

static void
in_child(void (*fn)(void))
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        check_failures = 0;
        fn();
        fflush(stdout);
        _exit(check_failures != 0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static void
limit(int which, rlim_t soft)
{
    struct rlimit value = {soft, RLIM_INFINITY};

    CHECK_EQ(setrlimit(which, &value), 0);
}

/* A line of /proc/self/status, KiB as bytes. */
static long
status_bytes(const char *name)
{
    return line_of("/proc/self/status", name) * 1024;
}

/* Error of mmap, or 0; what is mapped stays. */
static int
map_error(long pages, int prot, int flags)
{
    return mmap(NULL, (size_t)(pages * page), prot, ANON | flags, -1, 0) == MAP_FAILED ? errno : 0;
}

static int
brk_pages(long pages)
{
    uintptr_t now = (uintptr_t)syscall(SYS_brk, 0);

    return (uintptr_t)syscall(SYS_brk, now + (uintptr_t)(pages * page)) != now;
}

/* ---- RLIMIT_MEMLOCK -------------------------------------------------------------------- */

static void
locked(void)
{
    char *at = mmap(NULL, (size_t)(32 * page), RW, ANON, -1, 0);

    limit(RLIMIT_MEMLOCK, (rlim_t)(8 * page));
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    CHECK_EQ(mlock(at, (size_t)(8 * page)), 0);
    CHECK_EQ(mlock(at, (size_t)(8 * page)), 0); /* the same pages again */
    CHECK_ERRNO(mlock(at + 8 * page, (size_t)page), ENOMEM);
    CHECK_ERRNO(mlock(at, (size_t)(9 * page)), ENOMEM);
    CHECK_EQ(status_bytes("VmLck"), 8 * page);
    CHECK_EQ(map_error(1, RW, MAP_LOCKED), EAGAIN);
    CHECK_EQ(munlock(at, (size_t)(4 * page)), 0);
    CHECK_EQ(map_error(4, RW, MAP_LOCKED), 0);
    CHECK_EQ(map_error(1, RW, MAP_LOCKED), EAGAIN);
    /* A locked mapping does not grow past it, and moves within it. */
    char *four = mremap(at + 4 * page, (size_t)(4 * page), (size_t)(4 * page),
                        MREMAP_MAYMOVE | MREMAP_FIXED, at + 16 * page);

    CHECK(four == at + 16 * page);
    CHECK(mremap(four, (size_t)(4 * page), (size_t)(5 * page), MREMAP_MAYMOVE) == MAP_FAILED);
    CHECK_EQ(errno, EAGAIN);
    CHECK_ERRNO(mlockall(MCL_CURRENT), ENOMEM);
    CHECK_EQ(munlockall(), 0);
    CHECK_EQ(status_bytes("VmLck"), 0);
    CHECK_EQ(mlockall(MCL_FUTURE), 0);
    CHECK_EQ(map_error(8, RW, 0), 0);
    CHECK_EQ(map_error(1, RW, 0), EAGAIN);
    CHECK_EQ(map_error(1, PROT_NONE, 0), EAGAIN);
    CHECK_EQ(brk_pages(1), 0);
    CHECK_EQ(munlockall(), 0);
    CHECK_EQ(map_error(1, RW, 0), 0);
    limit(RLIMIT_MEMLOCK, 0);
    CHECK_ERRNO(mlock(at, (size_t)page), EPERM);
    CHECK_EQ(mlock(at, 0) == 0 || errno == EPERM, 1);
    CHECK_ERRNO(mlockall(MCL_CURRENT), EPERM);
    CHECK_EQ(munlock(at, (size_t)page), 0);
    CHECK_EQ(map_error(1, RW, MAP_LOCKED), EPERM);
}

/* The privileged are not bound. */
static void
locked_by_root(void)
{
    limit(RLIMIT_MEMLOCK, 0);
    CHECK_EQ(map_error(16, RW, MAP_LOCKED), 0);
    CHECK_EQ(status_bytes("VmLck"), 16 * page);
    CHECK_EQ(mlockall(MCL_CURRENT), 0);
}

static void
locked_segments(void)
{
    int small, large;

    limit(RLIMIT_MEMLOCK, (rlim_t)(8 * page));
    CHECK_EQ(setresuid(54321, 54321, 54321), 0);
    small = shmget(IPC_PRIVATE, (size_t)(8 * page), IPC_CREAT | 0600);
    large = shmget(IPC_PRIVATE, (size_t)page, IPC_CREAT | 0600);
    CHECK(small >= 0 && large >= 0);
    CHECK_EQ(shmctl(small, SHM_LOCK, NULL), 0);
    CHECK_ERRNO(shmctl(large, SHM_LOCK, NULL), ENOMEM);
    /* Of the user, not of the process: mappings do not count. */
    CHECK_EQ(status_bytes("VmLck"), 0);
    CHECK_EQ(map_error(8, RW, MAP_LOCKED), 0);
    CHECK_EQ(shmctl(small, SHM_UNLOCK, NULL), 0);
    CHECK_EQ(shmctl(large, SHM_LOCK, NULL), 0);
    limit(RLIMIT_MEMLOCK, 0);
    CHECK_ERRNO(shmctl(small, SHM_LOCK, NULL), EPERM);
    CHECK_EQ(shmctl(small, IPC_RMID, NULL), 0);
    CHECK_EQ(shmctl(large, IPC_RMID, NULL), 0);
}

/* ---- RLIMIT_AS, RLIMIT_DATA ---------------------------------------------------------------- */

static void
address_space(void)
{
    int segment = shmget(IPC_PRIVATE, (size_t)(64 * page), IPC_CREAT | 0600);
    char *at = mmap(NULL, (size_t)(16 * page), RW, ANON, -1, 0);

    limit(RLIMIT_AS, (rlim_t)(status_bytes("VmSize") + 32 * page));
    CHECK_EQ(map_error(33, RW, 0), ENOMEM);
    CHECK_EQ(map_error(33, PROT_NONE, 0), ENOMEM);
    CHECK_EQ(map_error(33, RW, MAP_NORESERVE), ENOMEM);
    CHECK(shmat(segment, NULL, 0) == (void *)-1);
    CHECK_EQ(errno, ENOMEM);
    CHECK_EQ(shmctl(segment, IPC_RMID, NULL), 0);
    CHECK(mremap(at, (size_t)(16 * page), (size_t)(49 * page), MREMAP_MAYMOVE) == MAP_FAILED);
    CHECK_EQ(errno, ENOMEM);
    CHECK_EQ(brk_pages(33), 0);
    CHECK_EQ(brk_pages(8), 1);
    CHECK_EQ(map_error(24, PROT_NONE, 0), 0);
    CHECK_EQ(map_error(1, PROT_NONE, 0), ENOMEM);
    CHECK_EQ(munmap(at, (size_t)page), 0);
    CHECK_EQ(map_error(1, PROT_NONE, 0), 0);
    /* What is over the limit already stays. */
    limit(RLIMIT_AS, (rlim_t)page);
    at[8 * page] = 1;
    CHECK_EQ(map_error(1, PROT_NONE, 0), ENOMEM);
    CHECK_EQ(munmap(at + page, (size_t)page), 0);
}

static void
data(void)
{
    char *none = mmap(NULL, (size_t)(64 * page), PROT_READ, ANON, -1, 0);

    limit(RLIMIT_DATA, (rlim_t)(status_bytes("VmData") + 16 * page));
    CHECK_EQ(map_error(17, RW, 0), ENOMEM);
    CHECK_EQ(map_error(64, PROT_READ, 0), 0);
    CHECK_EQ(mmap(NULL, (size_t)(64 * page), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED,
             0);
    CHECK_ERRNO(mprotect(none, (size_t)(17 * page), RW), ENOMEM);
    CHECK_EQ(mprotect(none, (size_t)(8 * page), RW), 0);
    CHECK_EQ(brk_pages(9), 0);
    CHECK_EQ(brk_pages(8), 1);
    CHECK_EQ(map_error(1, RW, 0), ENOMEM);
    CHECK_EQ(mprotect(none, (size_t)(8 * page), PROT_READ), 0);
    CHECK_EQ(map_error(8, RW, 0), 0);
    CHECK_EQ(map_error(1, RW, 0), ENOMEM);
}

/* ---- RLIMIT_FSIZE ------------------------------------------------------------------------------ */

static volatile int signals;

static void
on_signal(int number)
{
    signals += number == SIGXFSZ;
}

/* The call fails with EFBIG and one signal. */
#define TOO_LARGE(call)                   \
    do {                                  \
        signals = 0;                      \
        CHECK_ERRNO((long)(call), EFBIG); \
        CHECK_EQ(signals, 1);             \
    } while (0)

static void
file_size(void)
{
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600), memory = memfd_create("limits", 0);
    int source = open("/tmp", O_TMPFILE | O_RDWR, 0600), ends[2];
    char text[256] = {0};
    struct iovec pieces[2] = {{text, 100}, {text, 100}};
    off_t zero = 0;
    loff_t from = 0, to = 1000;

    CHECK(fd >= 0 && memory >= 0 && source >= 0);
    CHECK_EQ(ftruncate(source, 4096), 0);
    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(write(ends[1], text, 200), 200);
    signal(SIGXFSZ, on_signal);
    limit(RLIMIT_FSIZE, 1000);
    CHECK_EQ(pwrite(fd, text, 1, 999), 1);
    TOO_LARGE(pwrite(fd, text, 1, 1000));
    TOO_LARGE(pwrite(fd, text, 1, 1l << 40));
    CHECK_EQ(pwritev(fd, pieces, 2, 900), 100);
    TOO_LARGE(pwritev(fd, pieces, 2, 1000));
    TOO_LARGE(ftruncate(fd, 1001));
    TOO_LARGE(ftruncate(memory, 1001));
    TOO_LARGE(fallocate(memory, 0, 0, 4096));
    TOO_LARGE(fallocate(memory, FALLOC_FL_KEEP_SIZE, 0, 4096)); /* although it gets no longer */
    CHECK_EQ(fallocate(memory, 0, 0, 1000), 0);
    CHECK_EQ(lseek(fd, 950, SEEK_SET), 950);
    zero = 0;
    CHECK_EQ(sendfile(fd, source, &zero, 100), 50);
    zero = 0;
    TOO_LARGE(sendfile(fd, source, &zero, 100));
    TOO_LARGE(copy_file_range(source, &from, fd, &to, 100, 0));
    to = 900;
    CHECK_EQ(copy_file_range(source, &from, fd, &to, 200, 0), 100);
    loff_t place = 1000;
    TOO_LARGE(splice(ends[0], NULL, fd, &place, 100, 0));
    CHECK_EQ(lseek(fd, 0, SEEK_END), 1000);
    /* Not files. */
    CHECK_EQ(write(ends[1], text, 200), 200);
    /* Past the limit already: shrinking and writing within what is allowed go on. */
    limit(RLIMIT_FSIZE, 100);
    CHECK_EQ(ftruncate(fd, 500), 0);
    CHECK_EQ(pwrite(fd, text, 50, 50), 50);
    TOO_LARGE(pwrite(fd, text, 50, 200));
    /* Mappings are not bound. */
    char *mapped = mmap(NULL, 500, RW, MAP_SHARED, fd, 0);

    mapped[400] = 1;
    signal(SIGXFSZ, SIG_IGN);
    CHECK_ERRNO(pwrite(fd, text, 50, 200), EFBIG);
}

/* ---- RLIMIT_NPROC ------------------------------------------------------------------------------ */

static void *
thread_main(void *argument)
{
    return argument;
}

static void
processes(void)
{
    pthread_t thread;
    int status;

    limit(RLIMIT_NPROC, 1);
    CHECK_EQ(fork() == 0 ? (_exit(0), 0) : 0, 0); /* root is not bound */
    CHECK(wait(&status) > 0);
    CHECK_EQ(setresuid(54323, 54323, 54323), 0);
    CHECK_EQ(fork() == -1 ? errno : 0, EAGAIN);
    CHECK_EQ(vfork() == -1 ? errno : 0, EAGAIN);
    CHECK_EQ(pthread_create(&thread, NULL, thread_main, NULL), EAGAIN);
    limit(RLIMIT_NPROC, 2);
    CHECK_EQ(pthread_create(&thread, NULL, thread_main, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Who becomes a user that has too many processes finds out when it executes. */
static void
exec_of_too_many(void)
{
    char *const arguments[] = {"true", NULL};
    pid_t sleeper;
    int status;

    sleeper = fork();
    if (sleeper == 0) {
        (void)!setresuid(54324, 54324, 54324);
        pause();
        _exit(0);
    }
    for (int i = 0; i < 500; i++) {
        char path[64], text[1024] = "";
        int fd;

        snprintf(path, sizeof(path), "/proc/%d/status", sleeper);
        fd = open(path, O_RDONLY);
        (void)!read(fd, text, sizeof(text) - 1);
        close(fd);
        if (strstr(text, "Uid:\t54324") != NULL)
            break;
        usleep(10000);
    }
    limit(RLIMIT_NPROC, 1);
    CHECK_EQ(setresuid(54324, 54324, 54324), 0);
    execv("/bin/busybox", arguments);
    CHECK_EQ(errno, EAGAIN);
    kill(sleeper, SIGKILL);
    CHECK_EQ(waitpid(sleeper, &status, 0), sleeper);
}

/* ---- whose they are ---------------------------------------------------------------------------- */

static int child_errors[2];

/* Has the memory in common with its parent, and limits of its own. */
static int
sharer(void *argument)
{
    (void)argument;
    child_errors[0] = map_error(1, RW, 0);
    limit(RLIMIT_AS, (rlim_t)page);
    limit(RLIMIT_MEMLOCK, 0);
    child_errors[1] = map_error(1, RW, 0);
    return 0;
}

static void *
limiter(void *argument)
{
    limit(RLIMIT_AS, (rlim_t)page);
    return argument;
}

static void
of_a_process(void)
{
    static char stack[65536];
    struct rlimit now;
    pthread_t thread;
    int status, pid;

    limit(RLIMIT_AS, RLIM_INFINITY);
    pid = clone(sharer, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(child_errors[0], 0);
    CHECK_EQ(child_errors[1], ENOMEM);
    CHECK_EQ(map_error(1, RW, 0), 0);
    CHECK_EQ(getrlimit(RLIMIT_AS, &now), 0);
    CHECK(now.rlim_cur == RLIM_INFINITY);
    /* A copy: what the parent sets later does not bind the child. */
    limit(RLIMIT_AS, (rlim_t)page);
    pid = fork();
    if (pid == 0) {
        limit(RLIMIT_AS, RLIM_INFINITY);
        _exit(map_error(1, RW, 0));
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    CHECK_EQ(map_error(1, RW, 0), ENOMEM);
    /* Threads have them in common. */
    limit(RLIMIT_AS, RLIM_INFINITY);
    CHECK_EQ(pthread_create(&thread, NULL, limiter, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(map_error(1, RW, 0), ENOMEM);
}

/* ---- open files ---------------------------------------------------------------------------------- */

static int
opened(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void
no_more_files(void)
{
    int ends[2], fd;

    CHECK_EQ(setresuid(54325, 54325, 54325), 0);
    CHECK_ERRNO(opened(), ENFILE);
    CHECK_ERRNO(open("/no such file", O_RDONLY), ENFILE); /* it is not even looked for */
    CHECK_ERRNO(pipe(ends), ENFILE);
    CHECK_ERRNO(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), ENFILE);
    CHECK_ERRNO(socket(AF_UNIX, SOCK_STREAM, 0), ENFILE);
    CHECK_ERRNO(eventfd(0, 0), ENFILE);
    CHECK_ERRNO(epoll_create1(0), ENFILE);
    CHECK_ERRNO(memfd_create("limits", 0), ENFILE);
    fd = dup(0);
    CHECK(fd >= 0); /* no new one */
    close(fd);
}

/* So many are left; Linux counts on each CPU by itself and may find some more. */
static void
some_more_files(void)
{
    int count = 0;

    CHECK_EQ(setresuid(54325, 54325, 54325), 0);
    while (count < 900 && opened() >= 0)
        count++;
    CHECK_EQ(errno, ENFILE);
    CHECK(count >= 1 && count <= 150 + 64 * sysconf(_SC_NPROCESSORS_ONLN));
}

static long
first_number(const char *path)
{
    FILE *file = fopen(path, "r");
    long value = -1;

    CHECK(file != NULL && fscanf(file, "%ld", &value) == 1);
    fclose(file);
    return value;
}

static void
open_files(void)
{
    long most = first_number("/proc/sys/fs/file-max"), used = -1, none = -1, again = -1;
    FILE *file = fopen("/proc/sys/fs/file-nr", "r");
    char text[32];
    int fd;

    CHECK(most >= 8192);
    CHECK(file != NULL && fscanf(file, "%ld\t%ld\t%ld", &used, &none, &again) == 3);
    fclose(file);
    CHECK(used >= 0 && none == 0 && again == most); /* Linux's may be some 32 less */
    CHECK_EQ(put_text("/proc/sys/fs/file-max", "no"), EINVAL);
    CHECK_EQ(put_text("/proc/sys/fs/file-max", "0"), 0);
    in_child(no_more_files);
    fd = opened();
    CHECK(fd >= 0); /* the privileged are not bound */
    close(fd);
    snprintf(text, sizeof(text), "%ld", first_number("/proc/sys/fs/file-nr") + 100);
    CHECK_EQ(put_text("/proc/sys/fs/file-max", text), 0);
    in_child(some_more_files);
    snprintf(text, sizeof(text), "%ld", most);
    CHECK_EQ(put_text("/proc/sys/fs/file-max", text), 0);
}

static void
descriptors(void)
{
    long most = first_number("/proc/sys/fs/nr_open");
    struct rlimit more = {128, 128}, now;
    char text[32];
    int fd = 0;

    CHECK_EQ(most, 1048576);
    CHECK_EQ(put_text("/proc/sys/fs/nr_open", "8"), EINVAL);
    CHECK_EQ(put_text("/proc/sys/fs/nr_open", "64"), 0);
    CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &more), EPERM);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &now), 0);
    CHECK(now.rlim_cur >= 256);
    CHECK_ERRNO(dup2(0, 64), EBADF);
    while (fd >= 0 && fd < 64)
        fd = opened();
    CHECK_EQ(fd, -1);
    CHECK_EQ(errno, EMFILE);
    CHECK_EQ(close(63), 0);
    snprintf(text, sizeof(text), "%ld", most);
    CHECK_EQ(put_text("/proc/sys/fs/nr_open", text), 0);
    more.rlim_max = (rlim_t)most + 1;
    CHECK_ERRNO(setrlimit(RLIMIT_NOFILE, &more), EPERM);
}

int
main(void)
{
    page = check_page();
    in_child(locked);
    in_child(locked_by_root);
    in_child(locked_segments);
    in_child(address_space);
    in_child(data);
    in_child(file_size);
    in_child(processes);
    in_child(exec_of_too_many);
    in_child(of_a_process);
    in_child(open_files);
    in_child(descriptors);
    return check_done("limits");
}
