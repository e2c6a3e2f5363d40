/* SPDX-License-Identifier: MIT */
/*
 * Refuse the 1st, 2nd, ... n-th allocation that each of many scenarios causes in
 * the kernel, until none is left to refuse: each time the scenario works, or
 * fails with an error of memory, or its process dies of it; and afterwards the
 * machine has as much memory as before.
 *
 * The interface is Linux's /proc/self/fail-nth; where it is missing there is nothing to do.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define PAGE check_page()

enum { LIMIT = 3000 };
enum { WORKED = 0, REFUSED = 1, WRONG = 2, CONSUMED = 16 };

/* What a failed step means. */
static int
verdict(void)
{
    switch (errno) {
    case ENOMEM:
    case EAGAIN:
    case EFAULT: /* a user copy met a page that could not be had */
    case ENFILE:
    case EMFILE:
    case ENOSPC:
    case ENOBUFS:
    case EINTR:
    case EIO:
        return REFUSED;
    default:
        return WRONG;
    }
}

#define TRY(condition)        \
    do {                      \
        if (!(condition))     \
            return verdict(); \
    } while (0)

static int
do_fork(void)
{
    pid_t child = fork();
    int status;

    TRY(child >= 0);
    if (child == 0)
        _exit(0);
    TRY(waitpid(child, &status, 0) == child);
    return WORKED;
}

static int
do_exec(void)
{
    char *argv[] = {"true", NULL}, *envp[] = {"A=B", NULL};

    /* The refusal's count goes on in the program; it may die of it. */
    execve("/bin/true", argv, envp);
    return verdict();
}

static int
do_script(void)
{
    char *argv[] = {"script", NULL}, *envp[] = {NULL};

    execve("/tmp/refusal-script", argv, envp);
    return verdict();
}

static void *
nothing(void *argument)
{
    return argument;
}

static int
do_thread(void)
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, nothing, NULL);

    if (error != 0) {
        errno = error;
        return verdict();
    }
    pthread_join(thread, NULL);
    return WORKED;
}

static int
do_pipe(void)
{
    static char bytes[20000];
    int ends[2];

    TRY(pipe(ends) == 0);
    TRY(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    TRY(write(ends[1], bytes, sizeof(bytes)) > 0);
    TRY(read(ends[0], bytes, sizeof(bytes)) > 0);
    return WORKED;
}

static int
do_file(void)
{
    static char bytes[50000];
    int fd = open("/tmp/refusal-file", O_CREAT | O_RDWR, 0600);

    TRY(fd >= 0);
    TRY(write(fd, bytes, sizeof(bytes)) > 0);
    TRY(pread(fd, bytes, sizeof(bytes), 0) >= 0);
    TRY(ftruncate(fd, 100) == 0);
    TRY(rename("/tmp/refusal-file", "/tmp/refusal-file2") == 0);
    TRY(unlink("/tmp/refusal-file2") == 0);
    return WORKED;
}

static int
do_directory(void)
{
    struct stat info;
    DIR *directory;

    TRY(mkdir("/tmp/refusal-dir", 0700) == 0 || errno == EEXIST);
    TRY(symlink("a/b/c", "/tmp/refusal-dir/link") == 0 || errno == EEXIST);
    TRY(stat("/tmp/refusal-dir", &info) == 0);
    directory = opendir("/proc/self");
    TRY(directory != NULL);
    errno = 0;
    while (readdir(directory) != NULL)
        ;
    TRY(errno == 0);
    TRY(unlink("/tmp/refusal-dir/link") == 0);
    TRY(rmdir("/tmp/refusal-dir") == 0);
    return WORKED;
}

static int
do_proc(void)
{
    static const char *const names[] = {"/proc/self/maps", "/proc/self/status", "/proc/meminfo",
                                        "/proc/self/stat", "/proc/self/cmdline"};
    static char bytes[8192];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        int fd = open(names[i], O_RDONLY);

        TRY(fd >= 0);
        TRY(read(fd, bytes, sizeof(bytes)) >= 0);
        close(fd);
    }
    return WORKED;
}

static int
do_mmap(void)
{
    char *at = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    TRY(at != MAP_FAILED);
    TRY(mprotect(at + PAGE, PAGE, PROT_READ) == 0);
    TRY(madvise(at, 8 * PAGE, MADV_DONTNEED) == 0);
    TRY(mlock(at + 8 * PAGE, 8 * PAGE) == 0);
    at = mremap(at + 16 * PAGE, 16 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
    TRY(at != MAP_FAILED);
    TRY(munmap(at + PAGE, PAGE) == 0);
    return WORKED;
}

static int
do_shared(void)
{
    int fd = (int)syscall(SYS_memfd_create, "refusal", 0);
    volatile char *at;

    TRY(fd >= 0);
    TRY(ftruncate(fd, 16 * PAGE) == 0);
    at = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRY(at != MAP_FAILED);
    for (int i = 0; i < 16; i++)
        at[i * PAGE] = 1;
    at = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    TRY(at != MAP_FAILED);
    for (int i = 0; i < 16; i++)
        at[i * PAGE] = 2;
    TRY(fork() != -1 || errno == ENOMEM || errno == EAGAIN);
    return WORKED;
}

static int
do_descriptors(void)
{
    for (int i = 0; i < 200; i++)
        TRY(dup(0) >= 0);
    return WORKED;
}

static void
on_signal(int number)
{
    (void)number;
}

static int
do_signals(void)
{
    union sigval value = {.sival_int = 1};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec soon = {.it_value = {.tv_nsec = 1000000}};
    timer_t timer;

    signal(SIGUSR1, on_signal);
    signal(SIGRTMIN, on_signal);
    TRY(kill(getpid(), SIGUSR1) == 0);
    TRY(sigqueue(getpid(), SIGRTMIN, value) == 0);
    TRY(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    TRY(timer_settime(timer, 0, &soon, NULL) == 0);
    usleep(5000);
    return WORKED;
}

static int
do_poll(void)
{
    struct pollfd many[100];
    struct epoll_event event = {.events = EPOLLIN}, got;
    int ends[2], poller;

    TRY(pipe(ends) == 0);
    for (int i = 0; i < 100; i++)
        many[i] = (struct pollfd){.fd = ends[0], .events = POLLIN};
    TRY(poll(many, 100, 1) >= 0);
    poller = epoll_create1(0);
    TRY(poller >= 0);
    TRY(epoll_ctl(poller, EPOLL_CTL_ADD, ends[0], &event) == 0);
    TRY(epoll_wait(poller, &got, 1, 0) >= 0);
    return WORKED;
}

static int
do_process_vm(void)
{
    char from[64] = "x", to[64];
    struct iovec local = {to, sizeof(to)}, remote = {from, sizeof(from)};

    TRY(process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == sizeof(to));
    return WORKED;
}

static int
do_heap(void)
{
    char *now = sbrk(0);

    TRY((char *)syscall(SYS_brk, now + 300000) == now + 300000);
    for (int i = 0; i < 300000; i += PAGE)
        now[i] = 1;
    return WORKED;
}

/* Send @fd and a byte from @from to @to. */
static int
pass_descriptor(int from, int to, int fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control;
    char byte = 'x';
    struct iovec piece = {&byte, 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(int));
    TRY(sendmsg(from, &message, 0) == 1);
    message.msg_controllen = sizeof(control.bytes);
    TRY(recvmsg(to, &message, MSG_PEEK) == 1);
    message.msg_controllen = sizeof(control.bytes);
    TRY(recvmsg(to, &message, 0) == 1);
    return WORKED;
}

static int
do_sockets(void)
{
    static char bytes[20000];
    struct sockaddr_un address = {AF_UNIX, "/tmp/refusal-socket"};
    int pair[2], listener, client, server;

    TRY(unlink(address.sun_path) == 0 || errno == ENOENT);
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    TRY(listener >= 0);
    TRY(bind(listener, (struct sockaddr *)&address, sizeof(address)) == 0);
    TRY(listen(listener, 1) == 0);
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    TRY(client >= 0);
    TRY(connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
    server = accept(listener, NULL, NULL);
    TRY(server >= 0);
    TRY(send(client, bytes, sizeof(bytes), MSG_DONTWAIT) > 0);
    TRY(recv(server, bytes, sizeof(bytes), MSG_DONTWAIT) > 0);
    TRY(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0);
    TRY(send(pair[0], bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(bytes));
    TRY(recv(pair[1], bytes, sizeof(bytes), MSG_DONTWAIT) == sizeof(bytes));
    return pass_descriptor(pair[0], pair[1], listener);
}

static const struct {
    const char *name;
    int (*run)(void);
    int at_least; /* for what cannot say whether an allocation was refused: so many runs */
} scenarios[] = {
    {"fork", do_fork, 0},
    {"exec", do_exec, 100},
    {"script", do_script, 100},
    {"thread", do_thread, 0},
    {"pipe", do_pipe, 0},
    {"file", do_file, 0},
    {"directory", do_directory, 0},
    {"proc", do_proc, 0},
    {"mmap", do_mmap, 0},
    {"shared", do_shared, 0},
    {"descriptors", do_descriptors, 0},
    {"signals", do_signals, 0},
    {"poll", do_poll, 0},
    {"sockets", do_sockets, 0},
    {"process_vm", do_process_vm, 0},
    {"heap", do_heap, 0},
};

/* One run with the @nth allocation refused. @return whether there was one to refuse */
static bool
run_once(const char *name, int (*run)(void), int nth)
{
    int status;
    pid_t child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        char text[16];
        int fd = open("/proc/self/fail-nth", O_RDWR), n = sprintf(text, "%d", nth);

        if (fd < 0 || write(fd, text, (size_t)n) != n)
            _exit(WRONG);
        int result = run();
        n = (int)pread(fd, text, sizeof(text), 0);
        _exit(result | (n > 0 && text[0] == '0' ? CONSUMED : 0));
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        /* A page fault that finds no memory kills, as does a program that cannot be started. */
        CHECK(WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGSEGV);
        return true;
    }
    int code = WEXITSTATUS(status);
    check_count++;
    if ((code & 15) == WRONG || ((code & 15) == REFUSED && !(code & CONSUMED))) {
        check_failures++;
        printf("FAIL %s with allocation %d refused: code %d\n", name, nth, code);
    }
    return (code & CONSUMED) != 0;
}

static long
free_kib(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    long value = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "MemFree: %ld", &value) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    return value;
}

static void
run_all(const char *only)
{
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        int nth = 1;

        if (only != NULL && strcmp(only, scenarios[i].name) != 0)
            continue;
        while (nth < LIMIT &&
               (run_once(scenarios[i].name, scenarios[i].run, nth) || nth < scenarios[i].at_least))
            nth++;
        CHECK(nth < LIMIT);
        printf("%s: %d allocations refused\n", scenarios[i].name, nth - 1);
        fflush(stdout);
    }
}

int
main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    FILE *script;
    long before, after;

    if (access("/proc/self/fail-nth", W_OK) != 0) {
        printf("this kernel refuses no allocations: nothing to do\n");
        return 0;
    }
    script = fopen("/tmp/refusal-script", "w");
    fputs("#!/bin/true\n", script);
    fclose(script);
    chmod("/tmp/refusal-script", 0755);
    run_all(only); /* caches fill */
    before = free_kib();
    run_all(only);
    after = free_kib();
    /* Each CPU's caches fill a little more in the second round. */
    if (after < before - 512)
        printf("free memory: %ld KiB before, %ld KiB after\n", before, after);
    CHECK(after >= before - 512);
    return check_done("refusal");
}
