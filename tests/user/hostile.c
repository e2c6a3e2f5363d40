/* SPDX-License-Identifier: MIT */
/*
 * hostile [SEED [CHILDREN]]: throw random system calls with bad pointers, lengths,
 * flags and alignments at the kernel, and use up everything that can be used up.
 * The kernel passes if it is still there, this process's memory is untouched, and
 * memory is back where it was.  The same binary runs on Linux.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int failures;
static uint64_t random_state;

static uint64_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void
expect(int fine, const char *what)
{
    if (fine)
        return;
    printf("hostile: FAILED: %s (errno %d)\n", what, errno);
    failures++;
}

static long
free_kb(void)
{
    char line[128];
    long kb = -1;
    FILE *file = fopen("/proc/meminfo", "r");

    while (file != NULL && kb < 0 && fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, "MemFree: %ld", &kb);
    if (file != NULL)
        fclose(file);
    return kb;
}

/* ---- Random calls ---------------------------------------------------------- */

/* Left out: what ends the machine or this test by design, and calls that make processes. */
static const int left_out[] = {
    SYS_reboot,
    SYS_kill,
    SYS_tkill,
    SYS_tgkill,
    SYS_rt_sigqueueinfo,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
    SYS_pause,
#endif
    SYS_clone,
    SYS_clone3,
    SYS_rt_tgsigqueueinfo,
    SYS_vhangup,
    SYS_exit_group,
    SYS_exit,
    SYS_pidfd_send_signal,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_setsid,
    SYS_kexec_load,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_rt_sigsuspend,
    SYS_swapoff,
    SYS_clock_settime,
#ifdef __i386__
    SYS_clock_settime64,
    SYS_stime,
    SYS_umount,
    SYS_sigsuspend,
    SYS_sigreturn,
#endif
    SYS_settimeofday,
    SYS_prlimit64,
    SYS_execve,
    SYS_execveat,
    SYS_sched_setscheduler,
    SYS_sched_setattr,
    SYS_sched_setparam,
};

static int
is_left_out(int number)
{
    for (size_t i = 0; i < sizeof(left_out) / sizeof(left_out[0]); i++) {
        if (left_out[i] == number)
            return 1;
    }
    return 0;
}

static size_t page_bytes;
static char buffer[8192];
static char *edge; /* the last bytes before an unmapped page */
static char *readonly;

static uintptr_t
hostile_argument(void)
{
    static const uintptr_t numbers[] = {
        0,
        1,
        2,
        3,
        5,
        7,
        8,
        16,
        63,
        64,
        4095,
        4096,
        4097,
        8192,
        65536,
        0x7fffffff,
        0x80000000,
        0xffffffff,
#ifdef __LP64__
        0x100000000,
        0x7fffffffffff,
        0x7ffffffff000,
        0x800000000000,
        0xffff800000000000,
        0xffff888000000000,
        0xffffffff80000000,
        0xffffffff80100000,
        0xfffffffffffff000,
        0x7fffffffffffffff,
        0x8000000000000000,
#else
        0xbffff000,
        0xbfffffff,
        0xc0000000,
        0xc0100000,
        0xff000000,
#endif
        (uintptr_t)-1,
        (uintptr_t)-2,
        (uintptr_t)-4096,
        (uintptr_t)-100,
    };

    switch (next_random() % 8) {
    case 0:
        return (uintptr_t)buffer + next_random() % 64;
    case 1:
        return (uintptr_t)edge - next_random() % 64;
    case 2:
        return (uintptr_t)readonly + next_random() % page_bytes;
    case 3:
        return next_random();
    case 4:
        return next_random() % 64;
    case 5:
        return (uintptr_t)1 << (next_random() % 64);
    default:
        return numbers[next_random() % (sizeof(numbers) / sizeof(numbers[0]))];
    }
}

/* Some descriptors that the arguments above name are sockets. */
static void
open_sockets(void)
{
    int pair[2] = {-1, -1};

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        dup2(pair[0], 5);
        dup2(pair[1], 7);
    }
    dup2(socket(AF_INET, SOCK_STREAM, 0), 8);
    (void)listen(8, 5);
    dup2(socket(AF_INET6, SOCK_DGRAM, 0), 16);
    dup2(socket(AF_UNIX, SOCK_DGRAM, 0), 63);
}

static void
random_calls(unsigned count)
{
    open_sockets();
    /* Some calls wait, and some block the signal: see reap(). */
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value = {0, 200 * 1000}}, NULL);
    for (unsigned i = 0; i < count; i++) {
        int number = (int)(next_random() % 462);

        if (next_random() % 64 == 0)
            number = (int)next_random();
        if (is_left_out(number))
            continue;
        (void)syscall(number, hostile_argument(), hostile_argument(), hostile_argument(),
                      hostile_argument(), hostile_argument(), hostile_argument());
        snprintf(buffer, sizeof(buffer), "/tmp/hostile%d", (int)(next_random() % 4));
    }
}

/* Wait for @child, a second at most; then kill it. */
static int
reap(pid_t child)
{
    int status = 0;

    for (int i = 0; i < 100; i++) {
        pid_t got = waitpid(child, &status, WNOHANG | WUNTRACED);

        if (got == child && !WIFSTOPPED(status))
            return status;
        if (got == child)
            break;
        nanosleep(&(struct timespec){0, 10 * 1000 * 1000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return status;
}

static void
many_random_calls(unsigned children)
{
    for (unsigned i = 0; i < children; i++) {
        uint64_t seed = next_random();
        pid_t child = fork();

        if (child == 0) {
            random_state = seed | 1;
            setpgid(0, 0);
            close(1);
            close(2);
            random_calls(400);
            _exit(0);
        }
        expect(child > 0, "fork");
        (void)reap(child);
    }
}

/* ---- Using everything up ------------------------------------------------------ */

/* Run @body in a child; expect it to exit with 0 or, where @may_die, to be killed by SIGKILL. */
static void
in_child(const char *what, void (*body)(void), int may_die)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        body();
        _exit(0);
    }
    expect(child > 0, what);
    waitpid(child, &status, 0);
    expect(status == 0 || (may_die && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL), what);
}

static void
use_up_memory(void)
{
    for (;;) {
        char *at = mmap(NULL, 1 << 24, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (at == MAP_FAILED)
            _exit(errno == ENOMEM ? 0 : 1);
        for (size_t i = 0; i < 1 << 24; i += page_bytes)
            at[i] = 1;
    }
}

static void
use_up_tmpfs(void)
{
    static char block[65536];
    int file = open("/dev/shm/hostile", O_CREAT | O_RDWR | O_TRUNC, 0600);

    for (;;) {
        ssize_t written = write(file, block, sizeof(block));

        if (written == (ssize_t)sizeof(block))
            continue;
        if (written < 0 && errno != ENOSPC && errno != ENOMEM)
            _exit(1);
        if (written < 0)
            break;
    }
    close(file);
    unlink("/dev/shm/hostile");
}

static void
use_up_descriptors(void)
{
    int count = 0;

    while (dup(0) >= 0)
        count++;
    _exit(errno == EMFILE && count > 16 ? 0 : 1);
}

/* Every descriptor a socket, and every queue full; each end waits in the other's, too. */
static void
use_up_sockets(void)
{
    static char block[100000];
    int pair[2], count = 0;

    while (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0) {
        union {
            char bytes[CMSG_SPACE(sizeof(pair))];
            struct cmsghdr aligned;
        } control = {.aligned = {.cmsg_len = CMSG_LEN(sizeof(pair)),
                                 .cmsg_level = SOL_SOCKET,
                                 .cmsg_type = SCM_RIGHTS}};
        struct iovec piece = {block, 1};
        struct msghdr message = {.msg_iov = &piece,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof(control.bytes)};

        memcpy(CMSG_DATA(&control.aligned), pair, sizeof(pair));
        (void)sendmsg(pair[0], &message, MSG_DONTWAIT);
        (void)sendmsg(pair[1], &message, MSG_DONTWAIT);
        while (send(pair[0], block, sizeof(block), MSG_DONTWAIT) > 0)
            ;
        if (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM)
            _exit(1);
        if (count++ % 2 == 0) {
            close(pair[0]); /* what holds them now are their own queues */
            close(pair[1]);
        }
        if (count == 3000)
            break;
    }
    _exit(count > 100 ? 0 : 1);
}

/* Alternate the protection so that no two neighbours can be joined. */
static void
use_up_regions(void)
{
    size_t pages = 200000;
    char *at = mmap(NULL, pages * page_bytes, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t done = 0;

    while (done < pages && mprotect(at + done * page_bytes, page_bytes, PROT_READ) == 0)
        done += 2;
    if (done >= pages || errno != ENOMEM)
        _exit(1);
    _exit(munmap(at, pages * page_bytes) == 0 ? 0 : 1);
}

static void
use_up_processes(void)
{
    int count = 0;
    pid_t child;
    struct rlimit limit = {200, 200};

    setpgid(0, 0);
    setrlimit(RLIMIT_NPROC, &limit);
    (void)setuid(1000); /* root is above this limit */
    while ((child = fork()) > 0)
        count++;
    if (child == 0) {
        pause();
        _exit(0);
    }
    int fine = errno == EAGAIN && count > 16;

    signal(SIGTERM, SIG_IGN);
    kill(0, SIGTERM);
    while (count-- > 0)
        wait(NULL);
    _exit(fine ? 0 : 1);
}

#pragma GCC diagnostic ignored "-Winfinite-recursion"

static int
recurse(volatile char *from)
{
    volatile char here[4096];

    here[0] = from[0];
    return recurse(here) + here[0];
}

static void
overflow_stack(void)
{
    char start = 1;

    _exit(recurse(&start));
}

static void
check_stack_overflow(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct rlimit limit = {1 << 20, 1 << 20};

        setrlimit(RLIMIT_STACK, &limit);
        overflow_stack();
    }
    waitpid(child, &status, 0);
    expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "a stack overflow is SIGSEGV");
}

int
main(int argc, char **argv)
{
    static unsigned char canary[65536];
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    unsigned children = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 30;
    page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    char *pages =
        mmap(NULL, 3 * page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(canary, 0xa5, sizeof(canary));
    random_state = seed * 0x9e3779b97f4a7c15ull | 1;
    edge = pages + page_bytes;
    munmap(edge, page_bytes);
    readonly = pages + 2 * page_bytes;
    mprotect(readonly, page_bytes, PROT_READ);

    long before = free_kb();

    many_random_calls(children);
    in_child("memory is used up", use_up_memory, 1);
    in_child("a file system is filled", use_up_tmpfs, 1);
    unlink("/dev/shm/hostile");
    in_child("descriptors are used up", use_up_descriptors, 0);
    in_child("sockets are used up", use_up_sockets, 1);
    in_child("regions are used up", use_up_regions, 0);
    in_child("processes are used up", use_up_processes, 0);
    check_stack_overflow();
    for (int i = 0; i < 4; i++) {
        snprintf(buffer, sizeof(buffer), "/tmp/hostile%d", i);
        unlink(buffer);
        rmdir(buffer);
    }
    for (size_t i = 0; i < sizeof(canary); i++)
        expect(canary[i] == 0xa5, "memory of a bystander changed");

    long after = free_kb();

    printf("hostile: seed %llu, %u children, %ld kB free before, %ld kB after, %d failures\n",
           (unsigned long long)seed, children, before, after, failures);
    return failures != 0;
}
