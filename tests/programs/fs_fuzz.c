/* SPDX-License-Identifier: MIT */
/*
 * Random file system calls with random arguments, sound and unsound, from several processes that
 * share one tree: whatever they do, the kernel goes on.  One seed names one sequence a process.
 *
 * usage: fs_fuzz DIRECTORY SEED PROCESSES CALLS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t state;
static char *memory; /* 16 pages, the last one not mapped */

enum { MEMORY_BYTES = 16 * 4096 };

static uint64_t
rnd(uint64_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit == 0 ? state : state % limit;
}

static const char *const names[] = {
    "a",
    "b",
    "c",
    "d",
    "d/a",
    "d/b",
    "d/c",
    "d/d",
    "d/d/a",
    "l",
    "l/a",
    "m",
    "m/a",
    ".",
    "..",
    "d/..",
    "d/../a",
    "./d/",
    "a/",
    "missing/x",
    "",
    "/proc/self/fd",
    "/proc/self/fd/3",
    "/proc/self/fd/5",
    "/proc/self/maps",
    "/proc/self/cwd/a",
    "/proc/self/mem",
    "/proc/meminfo",
    "/proc/self/pagemap",
    "/proc/self/task",
    "/proc/1/status",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/sys/devices/system/node/node0/meminfo",
    "f",
    "f2",
    "/proc/self/exe",
    "/proc",
    "/sys/kernel/debug/memory",
    "/proc/self/smaps",
    "/proc/sys/vm/drop_caches",
    "/proc/self/root/dev",
};

/* A pointer: mostly sound, sometimes at an edge or nonsense. */
static uint64_t
pointer(void)
{
    switch (rnd(12)) {
    case 0:
        return 0;
    case 1:
        return rnd(0);
    case 2:
        return (uint64_t)memory + MEMORY_BYTES - 4096 - rnd(64);
    case 3:
        return 0xffff800000000000u + rnd(1 << 30);
    default:
        return (uint64_t)memory + rnd(MEMORY_BYTES - 2 * 4096);
    }
}

static uint64_t
path(void)
{
    if (rnd(20) == 0) {
        return pointer();
    }
    char *at = memory + rnd(8) * 64;
    strcpy(at, names[rnd(sizeof names / sizeof names[0])]);
    return (uint64_t)at;
}

static uint64_t
fd(void)
{
    switch (rnd(16)) {
    case 0:
        return (uint64_t)-100;
    case 1:
        return rnd(0);
    default:
        return 3 + rnd(rnd(3) == 0 ? 24 : 8);
    }
}

static uint64_t
size(void)
{
    switch (rnd(8)) {
    case 0:
        return rnd(0);
    case 1:
        return rnd(1 << 20);
    case 2:
        return 0;
    default:
        return rnd(9000);
    }
}

static uint64_t
offset(void)
{
    switch (rnd(8)) {
    case 0:
        return rnd(0);
    case 1:
        return INT64_MAX - rnd(10000);
    default:
        return rnd(200000);
    }
}

static uint64_t
flags(void)
{
    return rnd(12) == 0 ? rnd(0)
                        : rnd(3) | (rnd(2) ? O_CREAT : 0) | (rnd(6) ? 0 : (uint64_t)1 << rnd(24));
}

enum kind { END, PATH, FD, PTR, SIZE, OFF, FLAGS, SMALL, WORD };

static const struct {
    long number;
    enum kind kinds[6];
} calls[] = {
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_open, {PATH, FLAGS, SMALL}},
    {SYS_openat, {FD, PATH, FLAGS, SMALL}},
    {SYS_close, {FD}},
    {SYS_read, {FD, PTR, SIZE}},
    {SYS_read, {FD, PTR, SIZE}},
    {SYS_write, {FD, PTR, SIZE}},
    {SYS_write, {FD, PTR, SIZE}},
    {SYS_pread64, {FD, PTR, SIZE, OFF}},
    {SYS_pwrite64, {FD, PTR, SIZE, OFF}},
    {SYS_readv, {FD, PTR, SMALL}},
    {SYS_writev, {FD, PTR, SMALL}},
    {SYS_lseek, {FD, OFF, SMALL}},
    {SYS_ftruncate, {FD, OFF}},
    {SYS_truncate, {PATH, OFF}},
    {SYS_fallocate, {FD, SMALL, OFF, SIZE}},
    {SYS_stat, {PATH, PTR}},
    {SYS_fstat, {FD, PTR}},
    {SYS_newfstatat, {FD, PATH, PTR, FLAGS}},
    {SYS_statx, {FD, PATH, SMALL, WORD, PTR}},
    {SYS_access, {PATH, SMALL}},
    {SYS_mkdir, {PATH, WORD}},
    {SYS_rmdir, {PATH}},
    {SYS_unlink, {PATH}},
    {SYS_unlinkat, {FD, PATH, SMALL}},
    {SYS_rename, {PATH, PATH}},
    {SYS_renameat2, {FD, PATH, FD, PATH, SMALL}},
    {SYS_link, {PATH, PATH}},
    {SYS_linkat, {FD, PATH, FD, PATH, FLAGS}},
    {SYS_symlink, {PATH, PATH}},
    {SYS_readlink, {PATH, PTR, SIZE}},
    {SYS_mknod, {PATH, WORD, WORD}},
    {SYS_chmod, {PATH, WORD}},
    {SYS_chown, {PATH, SMALL, SMALL}},
    {SYS_utimensat, {FD, PATH, PTR, SMALL}},
    {SYS_getdents64, {FD, PTR, SIZE}},
    {SYS_getdents64, {FD, PTR, SIZE}},
    {SYS_getcwd, {PTR, SIZE}},
    {SYS_fchdir, {FD}},
    {SYS_dup, {FD}},
    {SYS_dup2, {FD, FD}},
    {SYS_dup3, {FD, FD, FLAGS}},
    {SYS_fcntl, {FD, SMALL, WORD}},
    {SYS_fcntl, {FD, WORD, PTR}},
    {SYS_ioctl, {FD, WORD, PTR}},
    {SYS_pipe2, {PTR, FLAGS}},
    {SYS_poll, {PTR, SMALL, SMALL}},
    {SYS_epoll_create1, {SMALL}},
    {SYS_epoll_ctl, {FD, SMALL, FD, PTR}},
    {SYS_eventfd2, {WORD, SMALL}},
    {SYS_memfd_create, {PATH, SMALL}},
    {SYS_sendfile, {FD, FD, PTR, SIZE}},
    {SYS_copy_file_range, {FD, PTR, FD, PTR, SIZE, SMALL}},
    {SYS_splice, {FD, PTR, FD, PTR, SIZE, SMALL}},
    {SYS_statfs, {PATH, PTR}},
    {SYS_fstatfs, {FD, PTR}},
    {SYS_flock, {FD, SMALL}},
    {SYS_close_range, {FD, FD, SMALL}},
    {SYS_mount, {PATH, PATH, PATH, SMALL, PTR}},
    {SYS_umount2, {PATH, SMALL}},
    {SYS_select, {SMALL, PTR, PTR, PTR, PTR}},
};

static uint64_t
argument(enum kind kind)
{
    switch (kind) {
    case PATH:
        return path();
    case FD:
        return fd();
    case PTR:
        return pointer();
    case SIZE:
        return size();
    case OFF:
        return offset();
    case FLAGS:
        return flags();
    case SMALL:
        return rnd(16) == 0 ? rnd(0) : rnd(rnd(2) ? 2 : 8);
    case WORD:
        return rnd(4) == 0 ? rnd(0) : rnd(1 << 16);
    case END:
        break;
    }
    return 0;
}

/* Calls that could wait for ever are cut short by a timer. */
static void
tick(int number)
{
    (void)number;
}

static void
play(uint64_t seed, long count)
{
    struct itimerval every = {{0, 20000}, {0, 20000}};
    struct rlimit files = {40, 40}, bytes = {1 << 20, 1 << 20};
    struct sigaction action = {.sa_handler = tick};

    long done = 0;

    state = seed * 0x9e3779b97f4a7c15u + 1;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    sigaction(SIGALRM, &action, NULL);
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_FSIZE, &bytes);
    setitimer(ITIMER_REAL, &every, NULL);
    memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(memory + MEMORY_BYTES - 4096, 4096);
    for (long i = 0; i < count; i++) {
        size_t which = rnd(sizeof calls / sizeof calls[0]);
        uint64_t args[6];

        if (rnd(4) == 0) {
            memset(memory + rnd(MEMORY_BYTES - 4096), (int)rnd(256), 1);
        }
        for (unsigned j = 0; j < 6; j++) {
            args[j] = argument(calls[which].kinds[j]);
        }
        if (calls[which].number == SYS_close_range && rnd(16) != 0) {
            continue; /* it leaves little to play with */
        }
        done +=
            0 <= syscall(calls[which].number, args[0], args[1], args[2], args[3], args[4], args[5]);
        if (i % 64 == 0) {
            close(0), close(1); /* standard error stays for the test */
            if (chdir("/tmp/fuzz") != 0 && mkdir("/tmp/fuzz", 0777) == 0) {
                chdir("/tmp/fuzz");
            }
        }
    }
    /* Calls that all fail would test little: at least one in eight has to succeed. */
    _exit(done * 8 < count);
}

int
main(int argc, char **argv)
{
    if (argc != 5 || chdir(argv[1]) != 0) {
        return 2;
    }
    uint64_t seed = strtoull(argv[2], NULL, 0);
    long processes = atol(argv[3]), count = atol(argv[4]);

    for (long i = 0; i < processes; i++) {
        if (fork() == 0) {
            play(seed * 1000 + (uint64_t)i, count);
        }
    }
    int status, bad = 0;
    while (wait(&status) > 0) {
        bad |= status;
    }
    printf("fuzz: seed %llu, %ld processes, %ld calls each: status %x\n", (unsigned long long)seed,
           processes, count, bad);
    return bad != 0;
}
