/* SPDX-License-Identifier: MIT */
/*
 * Every file system call with its first, second, … allocation refused, until it needs no more:
 * each time it either works or fails for want of memory, and a failure leaves no name, no
 * descriptor and no memory behind.
 *
 * usage: fs_refuse DIRECTORY   (an empty one; needs /proc/self/fail-nth)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 60 };

static int nth_file;
static int home; /* the directory that all is done in */
static char bytes[65536];

/* What a scenario may leave behind when it works; undone before the next round. */
struct scenario {
    const char *name;
    long (*run)(void);
    void (*undo)(void);
};

static long
run_open_create(void)
{
    int fd = open("made", O_CREAT | O_EXCL | O_RDWR, 0644);

    return fd < 0 ? -1 : close(fd);
}

static void
undo_made(void)
{
    unlink("made");
    rmdir("made");
}

static long
run_write(void)
{
    int fd = open("made", O_CREAT | O_RDWR, 0644);
    long result = fd < 0 ? -1 : write(fd, bytes, 10000);

    if (fd >= 0) {
        int error = errno;
        struct stat st;

        if (result != 10000 && fstat(fd, &st) == 0 && st.st_size != (result < 0 ? 0 : result)) {
            printf("FAIL write: %ld written, size %ld\n", result, (long)st.st_size);
        }
        close(fd);
        errno = error;
    }
    return result < 0 ? -1 : 0;
}

static long
run_mkdir(void)
{
    return mkdir("made", 0755);
}

static long
run_mknod(void)
{
    return mkfifo("made", 0600);
}

static long
run_symlink(void)
{
    return symlink("some/where/that/is/long/enough/to/need/memory", "made");
}

static long
run_link(void)
{
    return link("file", "made");
}

static const char long_name[] = "a-name-that-is-too-long-for-the-place-inside-a-dentry";

static long
run_rename(void)
{
    return rename("file", long_name);
}

static void
undo_rename(void)
{
    rename(long_name, "file");
}

static long
run_walk(void)
{
    struct stat st;

    return stat("link/link/link/file", &st);
}

static long
run_list(void)
{
    int fd = open(".", O_RDONLY | O_DIRECTORY);
    long result = fd < 0 ? -1 : syscall(SYS_getdents64, fd, bytes, sizeof bytes);

    if (fd >= 0) {
        int error = errno;

        close(fd);
        errno = error;
    }
    return result;
}

static long
run_pipe(void)
{
    int ends[2];

    if (pipe(ends) != 0) {
        return -1;
    }
    long result = write(ends[1], bytes, 20000);
    int error = errno;
    close(ends[0]), close(ends[1]);
    errno = error;
    return result;
}

static long
run_pipe_resize(void)
{
    int ends[2];

    if (pipe(ends) != 0) {
        return -1;
    }
    long result = write(ends[1], bytes, 9000);
    if (result > 0) {
        long size = fcntl(ends[0], F_SETPIPE_SZ, 16384);
        int error = errno;

        if (read(ends[0], bytes, sizeof bytes) != result) {
            printf("FAIL pipe resize: bytes were lost\n");
        }
        errno = error;
        result = size;
    }
    int error = errno;
    close(ends[0]), close(ends[1]);
    errno = error;
    return result;
}

static long
run_many_descriptors(void)
{
    int fd = fcntl(nth_file, F_DUPFD, 500);

    return fd < 0 ? -1 : close(fd);
}

static long
run_memfd(void)
{
    int fd = memfd_create("memory", 0);

    if (fd < 0) {
        return -1;
    }
    long result = ftruncate(fd, 100000);
    void *map = result < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    int error = errno;
    if (map != MAP_FAILED) {
        munmap(map, 4096);
    }
    close(fd);
    errno = error;
    return map == MAP_FAILED ? -1 : 0;
}

static long
run_eventfd(void)
{
    int fd = eventfd(0, 0);

    return fd < 0 ? -1 : close(fd);
}

static long
run_epoll(void)
{
    struct epoll_event event = {EPOLLOUT, {.u64 = 1}};
    int fd = epoll_create1(0), other = fd < 0 ? -1 : eventfd(0, 0);
    long result = -1;

    if (other >= 0) {
        result = epoll_ctl(fd, EPOLL_CTL_ADD, other, &event);
        if (result == 0) {
            result = epoll_wait(fd, &event, 1, 0);
        }
    }
    int error = errno;
    close(other), close(fd);
    errno = error;
    return result;
}

static long
run_poll(void)
{
    struct pollfd fds[MANY];
    int fd = eventfd(0, 0);

    if (fd < 0) {
        return -1;
    }
    for (int i = 0; i < MANY; i++) {
        fds[i] = (struct pollfd){fd, POLLIN, 0};
    }
    long result = poll(fds, MANY, 1);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static long
run_select(void)
{
    struct timeval none = {0, 0};
    fd_set set;

    FD_ZERO(&set);
    FD_SET(nth_file, &set);
    return select(nth_file + 1, &set, NULL, NULL, &none);
}

static long
run_proc(void)
{
    int fd = open("/proc/self/maps", O_RDONLY);
    long result = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);

    if (fd >= 0) {
        int error = errno;

        close(fd);
        errno = error;
    }
    return result;
}

static long
run_proc_fd(void)
{
    return readlink("/proc/self/fd/2", bytes, 100);
}

static long
run_proc_list(void)
{
    int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    long result = fd < 0 ? -1 : syscall(SYS_getdents64, fd, bytes, 1000);

    if (fd >= 0) {
        int error = errno;

        close(fd);
        errno = error;
    }
    return result;
}

static long
run_mount(void)
{
    return mount("none", "dir", "tmpfs", 0, "size=1m");
}

static void
undo_mount(void)
{
    umount("dir");
}

static long
run_mount_proc(void)
{
    return mount("none", "dir", "proc", 0, NULL);
}

static long
run_mount_dev(void)
{
    return mount("none", "dir", "devtmpfs", 0, NULL);
}

static long
run_lock(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10};
    int fd = open("file", O_RDWR);
    long result = fd < 0 ? -1 : fcntl(fd, F_SETLK, &lock);

    if (result == 0) {
        lock.l_type = F_UNLCK;
        lock.l_start = 3;
        lock.l_len = 2;
        result = fcntl(fd, F_SETLK, &lock);
    }
    if (fd >= 0) {
        int error = errno;

        close(fd);
        errno = error;
    }
    return result;
}

static long
run_sendfile(void)
{
    int from = open("file", O_RDONLY), to = from < 0 ? -1 : open("/dev/null", O_WRONLY);
    long result = to < 0 ? -1 : sendfile(to, from, NULL, 100);
    int error = errno;

    if (from >= 0) {
        close(from);
    }
    if (to >= 0) {
        close(to);
    }
    errno = error;
    return result;
}

static long
run_vector(void)
{
    struct iovec pieces[20];
    int fd = open("/dev/null", O_WRONLY);

    if (fd < 0) {
        return -1;
    }
    for (int i = 0; i < 20; i++) {
        pieces[i] = (struct iovec){bytes, 10};
    }
    long result = writev(fd, pieces, 20);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

static long
run_getcwd(void)
{
    return syscall(SYS_getcwd, bytes, sizeof bytes);
}

static long
run_chdir(void)
{
    return chdir("dir");
}

static void
undo_chdir(void)
{
    if (fchdir(home) != 0) {
        exit(1);
    }
}

static long
run_fork(void)
{
    int pid = fork();

    if (pid == 0) {
        _exit(0);
    }
    return pid < 0 ? -1 : waitpid(pid, NULL, 0);
}

static long
run_exec(void)
{
    int pid = vfork();

    if (pid == 0) {
        execl("/bin/busybox", "true", (char *)NULL);
        _exit(1); /* for want of memory */
    }
    return pid < 0 ? -1 : waitpid(pid, NULL, 0);
}

static const struct scenario scenarios[] = {
    {"open", run_open_create, undo_made},
    {"write", run_write, undo_made},
    {"mkdir", run_mkdir, undo_made},
    {"mkfifo", run_mknod, undo_made},
    {"symlink", run_symlink, undo_made},
    {"link", run_link, undo_made},
    {"rename", run_rename, undo_rename},
    {"walk", run_walk, NULL},
    {"getdents", run_list, NULL},
    {"pipe", run_pipe, NULL},
    {"pipe resize", run_pipe_resize, NULL},
    {"descriptors", run_many_descriptors, NULL},
    {"memfd", run_memfd, NULL},
    {"eventfd", run_eventfd, NULL},
    {"epoll", run_epoll, NULL},
    {"poll", run_poll, NULL},
    {"select", run_select, NULL},
    {"proc text", run_proc, NULL},
    {"proc link", run_proc_fd, NULL},
    {"proc list", run_proc_list, NULL},
    {"mount tmpfs", run_mount, undo_mount},
    {"mount proc", run_mount_proc, undo_mount},
    {"mount devtmpfs", run_mount_dev, undo_mount},
    {"record lock", run_lock, NULL},
    {"sendfile", run_sendfile, NULL},
    {"writev", run_vector, NULL},
    {"getcwd", run_getcwd, NULL},
    {"chdir", run_chdir, undo_chdir},
    {"fork", run_fork, NULL},
    {"exec", run_exec, NULL},
};

static void
arm(unsigned nth)
{
    char text[16];
    int length = snprintf(text, sizeof text, "%u", nth);

    if (pwrite(nth_file, text, (size_t)length, 0) != length) {
        perror("/proc/self/fail-nth");
        exit(1);
    }
}

static unsigned
left(void)
{
    char text[16] = "";

    return pread(nth_file, text, sizeof text - 1, 0) > 0 ? (unsigned)atoi(text) : 0;
}

static int
open_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

/* @return failures */
static int
scenario_check(const struct scenario *scenario, unsigned *out_refusals)
{
    int before = open_descriptors(), failures = 0;

    for (unsigned nth = 1; nth < 2000; nth++) {
        errno = 0;
        arm(nth);
        long result = scenario->run();
        int error = errno;
        unsigned remaining = left();
        arm(0);
        if (result < 0 && error != ENOMEM && error != EAGAIN && error != ENOLCK &&
            error != ENOSPC && error != ENFILE) {
            printf("FAIL %s: allocation %u refused: %s\n", scenario->name, nth, strerror(error));
            failures++;
        }
        if (result < 0 && scenario->undo == undo_made && strcmp(scenario->name, "write") != 0 &&
            access("made", F_OK) == 0) {
            printf("FAIL %s: allocation %u refused: a name was left\n", scenario->name, nth);
            failures++;
        }
        if (scenario->undo != NULL) {
            scenario->undo();
        }
        if (open_descriptors() != before) {
            printf("FAIL %s: allocation %u refused: a descriptor was left\n", scenario->name, nth);
            return failures + 1;
        }
        if (remaining > 0) {
            if (result < 0) {
                printf("FAIL %s: fails without a refusal: %s\n", scenario->name, strerror(error));
                failures++;
            }
            return failures;
        }
        ++*out_refusals;
    }
    printf("FAIL %s: no end\n", scenario->name);
    return failures + 1;
}

/* Bytes that the kernel's heap has given out. */
static long
heap_bytes(void)
{
    int fd = open("/sys/kernel/debug/memory", O_RDWR);
    char *found;

    memset(bytes, 0, sizeof bytes);
    if (fd < 0 || write(fd, "mem", 3) != 3 || pread(fd, bytes, sizeof bytes - 1, 0) <= 0) {
        perror("/sys/kernel/debug/memory");
        exit(1);
    }
    close(fd);
    found = strstr(bytes, "heap: ");
    found = found == NULL ? NULL : strstr(found, "frames, ");
    return found == NULL ? -1 : atol(found + 8);
}

int
main(int argc, char **argv)
{
    unsigned refusals = 0;
    int failures = 0;
    long heap[5];
    bool alike = false;

    if (argc != 2 || chdir(argv[1]) != 0) {
        return 2;
    }
    nth_file = open("/proc/self/fail-nth", O_RDWR);
    close(open("file", O_CREAT | O_RDWR, 0644));
    mkdir("dir", 0755);
    home = open(".", O_RDONLY | O_DIRECTORY);
    symlink(".", "link");
    /* The first round warms caches up; then two in a row must leave the heap alike.  What is lost is lost each time. */
    for (int round = 0; round < 5; round++) {
        refusals = 0;
        for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++) {
            failures += scenario_check(&scenarios[i], &refusals);
        }
        heap[round] = heap_bytes();
        alike |= round > 1 && heap[round] <= heap[round - 1] + 512;
        if (alike || failures != 0) {
            break;
        }
    }
    if (!alike && failures == 0) {
        printf("FAIL heap: %ld, then %ld bytes\n", heap[3], heap[4]);
        failures++;
    }
    printf("%zu scenarios, %u refusals, %d failures\n", sizeof scenarios / sizeof scenarios[0],
           refusals, failures);
    return failures != 0;
}
