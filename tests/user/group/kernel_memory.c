/* SPDX-License-Identifier: MIT */
/*
 * What the kernel needs for the processes of a group is the group's: programs that pile up pipes, page
 * tables, mappings, processes, files, sockets meet their group's limit and not the machine's memory.
 * Runs as root; on Linux where no `memory` controller of version 1 is in the way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"

#define ROOT  "/sys/fs/cgroup"
#define GROUP ROOT "/k"
#define MIB   (1l << 20)

enum { LIMIT_MIB = 8, REFUSED = 40, LIVED = 41 };

static long page;

static long
number(const char *file)
{
    char path[256], text[64];

    snprintf(path, sizeof(path), GROUP "/%s", file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    text[length < 0 ? 0 : length] = '\0';
    if (fd >= 0)
        close(fd);
    return atol(text);
}

static long
stat_of(const char *name)
{
    return line_of(GROUP "/memory.stat", name);
}

static bool
falls_to(long bytes)
{
    for (int i = 0; i < 1000; i++) {
        if (number("memory.current") <= bytes)
            return true;
        usleep(10000);
    }
    printf("memory.current stays %ld\n", number("memory.current"));
    return false;
}

static int
ends(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid ? status : -1;
}

static pid_t
child_in(int (*fn)(void))
{
    pid_t pid = fork();

    if (pid == 0) {
        struct rlimit files = {16384, 16384};

        setrlimit(RLIMIT_NOFILE, &files);
        if (put_text(GROUP "/cgroup.procs", "0") != 0)
            _exit(99);
        _exit(fn());
    }
    return pid;
}

/* ---- memory.stat --------------------------------------------------------------------- */

static void *
thread_main(void *context)
{
    pause();
    return context;
}

static int
tables_tell(void)
{
    enum { TABLES = 64 };
    long before = stat_of("pagetables"), span = page / 8 * page;
    char *at =
        mmap(NULL, TABLES * span, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    madvise(at, TABLES * span, MADV_NOHUGEPAGE);
    for (long i = 0; i < TABLES; i++)
        (void)*(volatile char *)(at + i * span);
    long with = stat_of("pagetables");

    munmap(at, TABLES * span);
    return with - before >= (TABLES - 1) * page && with - before <= (TABLES + 8) * page &&
                   stat_of("pagetables") <= before + 8 * page
               ? 0
               : 1;
}

static int
stacks_tell(void)
{
    long before = stat_of("kernel_stack");
    pthread_t thread;

    for (int i = 0; i < 10; i++)
        pthread_create(&thread, NULL, thread_main, NULL);
    long more = stat_of("kernel_stack") - before;

    return more >= 10 * 4096 && more % 10 == 0 ? 0 : 2;
}

static int
pipes_tell(void)
{
    static char bytes[65536];
    long kernel = stat_of("kernel"), anon = stat_of("anon"), slab = stat_of("slab");
    int ends_of[2];

    for (int i = 0; i < 16; i++) {
        if (pipe(ends_of) != 0 || write(ends_of[1], bytes, sizeof(bytes)) != sizeof(bytes))
            return 3;
    }
    if (stat_of("kernel") - kernel < MIB || stat_of("kernel") - kernel > 2 * MIB)
        return 4;
    if (stat_of("anon") - anon > 64 * page)
        return 5;
    return stat_of("slab") > slab && stat_of("slab") >= stat_of("slab_unreclaimable") &&
                   number("memory.current") >= stat_of("kernel")
               ? 0
               : 6;
}

static int
sockets_tell(void)
{
    static char bytes[200000];
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(name);
    int listener = socket(AF_INET, SOCK_STREAM, 0), from = socket(AF_INET, SOCK_STREAM, 0);

    if (bind(listener, (struct sockaddr *)&name, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&name, &length) != 0 ||
        connect(from, (struct sockaddr *)&name, length) != 0)
        return 7;
    long sent = send(from, bytes, sizeof(bytes), MSG_DONTWAIT);

    return sent > 0 && stat_of("sock") >= sent / page * page / 2 ? 0 : 8;
}

static int
all_tell(void)
{
    int result = tables_tell();

    if (result == 0)
        result = pipes_tell();
    if (result == 0)
        result = sockets_tell();
    return result != 0 ? result : stacks_tell();
}

/* A process that moves leaves what was charged where it was. */
static int
moves(void)
{
    static char bytes[65536];
    int ends_of[2];

    for (int i = 0; i < 16; i++) {
        if (pipe(ends_of) != 0 || write(ends_of[1], bytes, sizeof(bytes)) != sizeof(bytes))
            return 1;
    }
    if (put_text(ROOT "/l/cgroup.procs", "0") != 0)
        return 2;
    return stat_of("kernel") >= MIB ? 0 : 3;
}

/* ---- programs without measure ----------------------------------------------------------- */

static char filler[65536];

static int
pile_pipes(void)
{
    int ends_of[2];

    while (pipe(ends_of) == 0) {
        fcntl(ends_of[1], F_SETFL, O_NONBLOCK);
        if (write(ends_of[1], filler, sizeof(filler)) < 0)
            return REFUSED;
    }
    return REFUSED;
}

/* The page of zeroes at many places: nothing but page tables. */
static int
pile_tables(void)
{
    long span = page / 8 * page, count = 4 * LIMIT_MIB * MIB / page;

    for (long left = count; left > 0;) {
        long some = left < 256 ? left : 256;
        char *at =
            mmap(NULL, some * span, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (at == MAP_FAILED)
            return sizeof(long) == 4 ? LIVED : REFUSED; /* few tables cover all of 32 bits */
        madvise(at, some * span, MADV_NOHUGEPAGE);
        for (long i = 0; i < some; i++)
            (void)*(volatile char *)(at + i * span);
        left -= some;
    }
    return LIVED;
}

static int
pile_processes(void)
{
    for (int i = 0; i < 2000; i++) {
        pid_t pid = fork();

        if (pid < 0)
            return REFUSED;
        if (pid == 0) {
            pause();
            _exit(0);
        }
        if (line_of(GROUP "/memory.events", "oom_kill") > 0)
            return REFUSED;
    }
    return LIVED;
}

static int
pile_threads(void)
{
    static char stacks[4096 * 16];
    pthread_attr_t attributes;
    pthread_t thread;

    (void)stacks;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    for (int i = 0; i < 2000; i++) {
        if (pthread_create(&thread, &attributes, thread_main, NULL) != 0)
            return REFUSED;
    }
    return LIVED;
}

/* Neighbours that differ: a structure each.  Several processes, since one may have 65,530. */
static int
pile_mappings(void)
{
    for (int i = 0; i < 8; i++) {
        long count = 65000;
        char *at =
            mmap(NULL, count * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (at == MAP_FAILED)
            return sizeof(long) == 4 ? LIVED : REFUSED;
        for (long j = 0; j < count; j += 2) {
            if (mprotect(at + j * page, page, PROT_READ) != 0)
                break;
        }
        if (fork() != 0) {
            pause();
            return LIVED;
        }
    }
    return LIVED;
}

static int
pile_files(void)
{
    char name[64];

    for (int i = 0; i < 200000; i++) {
        snprintf(name, sizeof(name), "/tmp/a-rather-long-name-of-a-file-%d", i);
        if (mkdir(name, 0700) != 0)
            return REFUSED;
    }
    return LIVED;
}

static int
pile_memory_files(void)
{
    while (memfd_create("m", 0) >= 0 && eventfd(0, 0) >= 0 && epoll_create1(0) >= 0) {
    }
    return errno == EMFILE ? LIVED : REFUSED;
}

static int
pile_messages(void)
{
    int pair[2], room = 1 << 20;

    while (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair) == 0) {
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
        while (send(pair[0], filler, 16000, 0) > 0) {
        }
        if (errno != EAGAIN)
            return REFUSED;
    }
    return errno == EMFILE ? LIVED : REFUSED;
}

/* ---- and their limits ---------------------------------------------------------------------- */

static void
empty_directory(void)
{
    umount("/tmp");
    CHECK(mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
}

/* @must: it cannot pile up so much that it lives on. */
static void
test_hostile(const char *name, int (*fn)(void), bool must)
{
    long before = line_of("/proc/meminfo", "MemFree"), lowest = before;
    int status;
    pid_t pid;

    CHECK(mkdir(GROUP, 0755) == 0);
    CHECK(put_text(GROUP "/memory.max", "8M") == 0);
    pid = child_in(fn);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        long now = line_of("/proc/meminfo", "MemFree");

        if (fn == pile_mappings && line_of(GROUP "/memory.events", "oom_kill") > 0)
            put_text(GROUP "/cgroup.kill", "1");
        lowest = now < lowest ? now : lowest;
        usleep(3000);
    }
    put_text(GROUP "/cgroup.kill", "1");
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    bool refused = WIFEXITED(status) && WEXITSTATUS(status) == REFUSED;
    bool lived = WIFEXITED(status) && WEXITSTATUS(status) == LIVED;

    if (!killed && !refused && (must || !lived))
        printf("%s ended with %x\n", name, status);
    CHECK(killed || refused || (lived && !must));
    CHECK(number("memory.peak") <= LIMIT_MIB * MIB);
    CHECK(!must || line_of(GROUP "/memory.events", "max") > 0);
    if (before - lowest > 2 * LIMIT_MIB * 1024)
        printf("%s took %ld KiB of the machine\n", name, before - lowest);
    CHECK(before - lowest <= 2 * LIMIT_MIB * 1024);
    empty_directory();
    CHECK(falls_to(0));
    CHECK(rmdir(GROUP) == 0);
}

/* Who is not to be killed is told. */
static int
is_told(void)
{
    int fds[4096], count = 0, pair[2];
    bool full = false;

    if (put_text("/proc/self/oom_score_adj", "-1000") != 0)
        return 1;
    /* Nothing is to be written for the first time when all is full: that would wait for ever. */
    memset(fds, 0xff, sizeof(fds));
    pid_t first = fork();

    if (first == 0)
        _exit(0);
    if (first < 0 || ends(first) != 0)
        return 7;
    while (count < 4096 && pipe(pair) == 0) {
        fcntl(pair[1], F_SETFL, O_NONBLOCK);
        fds[count++] = pair[0];
        fds[count++] = pair[1];
        if (write(pair[1], filler, sizeof(filler)) < 0) {
            if (errno != ENOMEM)
                return 2;
            full = true;
            break;
        }
    }
    if (!full && errno != ENOMEM && errno != ENFILE)
        return 3;
    /* Smaller things until those do not fit either. */
    while (count < 4096 && (fds[count] = eventfd(0, 0)) >= 0)
        count++;
    if (errno != ENOMEM && errno != ENFILE)
        return 4;
    if (fork() != -1 || errno != ENOMEM)
        return 5;
    while (count > 0)
        close(fds[--count]);
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return pid > 0 && ends(pid) == 0 ? 0 : 6;
}

static void
test_told(void)
{
    CHECK(mkdir(GROUP, 0755) == 0);
    CHECK(put_text(GROUP "/memory.max", "4M") == 0);
    CHECK_EQ(ends(child_in(is_told)), 0);
    CHECK(line_of(GROUP "/memory.events", "oom_kill") == 0);
    CHECK(falls_to(0));
    CHECK(rmdir(GROUP) == 0);
}

static void
test_stat(void)
{
    CHECK(mkdir(GROUP, 0755) == 0);
    CHECK(mkdir(ROOT "/l", 0755) == 0);
    CHECK_EQ(ends(child_in(all_tell)), 0);
    CHECK(falls_to(0));
    CHECK_EQ(ends(child_in(moves)), 0);
    CHECK(falls_to(0));
    CHECK(stat_of("kernel") == 0 && stat_of("slab") == 0 && stat_of("kernel_stack") == 0);
    CHECK(stat_of("pagetables") == 0 && stat_of("sock") == 0 && stat_of("vmalloc") == 0);
    CHECK(rmdir(ROOT "/l") == 0);
    CHECK(rmdir(GROUP) == 0);
}

static const struct {
    const char *name;
    int (*fn)(void);
    bool must;
} hostile[] = {
    {"pipes", pile_pipes, true},
    {"tables", pile_tables, sizeof(long) == 8},
    {"processes", pile_processes, true},
    {"threads", pile_threads, true},
    {"mappings", pile_mappings, sizeof(long) == 8},
    {"files", pile_files, true},
    {"memory files", pile_memory_files, false},
    {"messages", pile_messages, true},
};

int
main(int count, char **arguments)
{
    page = sysconf(_SC_PAGESIZE);
    mkdir("/tmp", 0777);
    CHECK(mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
    if (mount("none", ROOT, "cgroup2", 0, NULL) != 0 && errno != EBUSY) {
        printf("mount: %s\n", strerror(errno));
        return 1;
    }
    CHECK(put_text(ROOT "/cgroup.subtree_control", "+memory") == 0);
    if (count < 2) {
        test_stat();
        test_told();
    }
    for (size_t i = 0; i < sizeof(hostile) / sizeof(*hostile); i++) {
        if (count < 2 || strcmp(arguments[1], hostile[i].name) == 0)
            test_hostile(hostile[i].name, hostile[i].fn, hostile[i].must);
    }
    umount("/tmp");
    CHECK(put_text(ROOT "/cgroup.subtree_control", "-memory") == 0);
    return check_done("kernel_memory");
}
