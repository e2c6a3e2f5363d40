/* SPDX-License-Identifier: MIT */
/*
 * Control groups and their memory: /sys/fs/cgroup as Linux documents it.  Runs as root; on Linux
 * where no `memory` controller of version 1 is in the way.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../cgroup.h"

static long page;

static const char *
path_of(const char *group, const char *file)
{
    static char path[4][256];
    static int turn;
    char *at = path[turn++ % 4];

    snprintf(at, 256, ROOT "%s%s%s%s", *group ? "/" : "", group, *file ? "/" : "", file);
    return at;
}

/* @return 0 or errno */
static int
put(const char *group, const char *file, const char *text)
{
    return put_text(path_of(group, file), text);
}

static int
put_number(const char *group, const char *file, long value)
{
    char text[32];

    snprintf(text, sizeof(text), "%ld", value);
    return put(group, file, text);
}

static const char *
get(const char *group, const char *file)
{
    static char text[4096];
    int fd = open(path_of(group, file), O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

    text[length < 0 ? 0 : length] = '\0';
    if (fd >= 0)
        close(fd);
    return text;
}

static long
number(const char *group, const char *file)
{
    const char *text = get(group, file);

    return strncmp(text, "max", 3) == 0 ? -1 : atol(text);
}

/* The value behind @key in a file of lines "key value"; -1: there is none. */
static long
field(const char *group, const char *file, const char *key)
{
    char *line = (char *)get(group, file);
    size_t length = strlen(key);

    for (; line != NULL && *line != '\0';
         line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        if (strncmp(line, key, length) == 0 && line[length] == ' ')
            return atol(line + length);
    }
    return -1;
}

static void
make(const char *group)
{
    CHECK(mkdir(path_of(group, ""), 0755) == 0);
}

static void
drop(const char *group)
{
    CHECK(rmdir(path_of(group, "")) == 0);
}

/* Wait for what @group is charged to be @bytes at most: what a process leaves is given back soon. */
static bool
falls_to(const char *group, long bytes)
{
    for (int i = 0; i < 500; i++) {
        if (number(group, "memory.current") <= bytes)
            return true;
        usleep(10000);
    }
    return false;
}

static int
ends(pid_t pid)
{
    int status;

    return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* A child in @group that runs @fn; its exit status is what that returns. */
static pid_t
child_in(const char *group, int (*fn)(long), long argument)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (put(group, "cgroup.procs", "0") != 0)
            _exit(99);
        _exit(fn(argument));
    }
    return pid;
}

static char *
touch_pages(long pages)
{
    char *at = mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (at == MAP_FAILED)
        return NULL;
    madvise(at, pages * page, MADV_NOHUGEPAGE);
    for (long i = 0; i < pages; i++)
        at[i * page] = 1;
    return at;
}

/* ---- The tree ---------------------------------------------------------------------- */

static void
test_tree(void)
{
    CHECK(put("", "cgroup.subtree_control", "+nonsense") == EINVAL);
    CHECK(put("", "cgroup.subtree_control", "+memory") == 0);
    make("t");
    CHECK(mkdir(path_of("t", ""), 0755) == -1 && errno == EEXIST);
    CHECK(access(path_of("t", "memory.max"), F_OK) == 0);
    CHECK(strcmp(get("t", "cgroup.controllers"), "memory\n") == 0);
    CHECK(strcmp(get("t", "cgroup.type"), "domain\n") == 0);
    make("t/u");
    CHECK(access(path_of("t/u", "memory.max"), F_OK) == -1 && errno == ENOENT);
    CHECK(strcmp(get("t/u", "cgroup.controllers"), "\n") == 0);
    CHECK(put("t/u", "cgroup.subtree_control", "+memory") == ENOENT);
    CHECK(put("t", "cgroup.subtree_control", "+memory") == 0);
    CHECK(access(path_of("t/u", "memory.max"), F_OK) == 0);
    CHECK(put("t", "cgroup.procs", "0") == EBUSY); /* only its children have members now */
    CHECK(put("t/u", "cgroup.subtree_control", "+memory") == 0);
    CHECK(put("t", "cgroup.subtree_control", "-memory") == EBUSY);
    CHECK(put("t/u", "cgroup.subtree_control", "-memory") == 0);
    CHECK(rmdir(path_of("t", "")) == -1 && errno == EBUSY);
    CHECK(field("", "cgroup.stat", "nr_descendants") >= 2);
    CHECK(put("t/u", "cgroup.procs", "999999") == ESRCH);
    CHECK(put("t/u", "cgroup.procs", "x") == EINVAL);
    CHECK(unlink(path_of("t", "memory.max")) == -1 && errno == EPERM);
    CHECK(rmdir(path_of("t", "memory.max")) == -1 && errno == ENOTDIR);
    CHECK(open(path_of("t", "new"), O_CREAT | O_WRONLY, 0644) == -1 && errno == EACCES);
    CHECK(symlink("x", path_of("t", "new")) == -1 && errno == EPERM);
    int kept = open(path_of("t/u", "memory.max"), O_RDWR);

    drop("t/u");
    CHECK(write(kept, "max", 3) == -1 && errno == ENODEV);
    close(kept);
    drop("t");
    CHECK(rmdir(path_of("t", "")) == -1 && errno == ENOENT);
}

static void
test_values(void)
{
    static const char *const limits[] = {"memory.max", "memory.high", "memory.low", "memory.min",
                                         "memory.swap.max"};

    make("v");
    CHECK(strcmp(get("v", "memory.max"), "max\n") == 0);
    CHECK(strcmp(get("v", "memory.high"), "max\n") == 0);
    CHECK(strcmp(get("v", "memory.low"), "0\n") == 0);
    CHECK(strcmp(get("v", "memory.min"), "0\n") == 0);
    CHECK(strcmp(get("v", "memory.swap.max"), "max\n") == 0);
    CHECK(number("v", "memory.swap.current") == 0);
    CHECK(number("v", "memory.current") == 0);
    for (unsigned i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        CHECK(put("v", limits[i], "64M\n") == 0);
        CHECK(number("v", limits[i]) == 64 * MIB);
        CHECK(put_number("v", limits[i], 10 * page + 7) == 0);
        CHECK(number("v", limits[i]) == 10 * page);
        CHECK(put("v", limits[i], " max ") == 0);
        CHECK(number("v", limits[i]) == -1);
        CHECK(put("v", limits[i], "0x100000") == 0);
        CHECK(number("v", limits[i]) == MIB);
        CHECK(put("v", limits[i], "18446744073709551615") == 0); /* more than there can be */
        CHECK(number("v", limits[i]) == -1);
        CHECK(put("v", limits[i], "0x") == EINVAL);
        CHECK(put("v", limits[i], "12x") == EINVAL);
        CHECK(put("v", limits[i], "-5") == EINVAL);
    }
    CHECK(put("v", "memory.oom.group", "2") == EINVAL);
    CHECK(put("v", "memory.oom.group", "1") == 0);
    CHECK(number("v", "memory.oom.group") == 1);
    CHECK(field("v", "memory.events", "oom_kill") == 0);
    CHECK(field("v", "memory.events.local", "high") == 0);
    drop("v");
}

/* ---- Charges ---------------------------------------------------------------------------- */

static int
charge_child(long pages)
{
    long before = field("c", "memory.stat", "anon");
    char *at = touch_pages(pages);
    long with = field("c", "memory.stat", "anon");

    if (at == NULL || with - before < pages * page || with - before > (pages + 8) * page)
        return 1;
    if (number("c", "memory.current") < pages * page)
        return 2;
    pid_t pid = fork();

    if (pid == 0) { /* what is shared is charged once */
        long shared = field("c", "memory.stat", "anon");

        for (long i = 0; i < pages / 2; i++)
            at[i * page] = 2;
        long copied = field("c", "memory.stat", "anon");

        _exit(shared - with > 64 * page || copied - shared < pages / 2 * page ? 3 : 0);
    }
    if (ends(pid) != 0)
        return 3;
    munmap(at, pages * page);
    return field("c", "memory.stat", "anon") - before > 64 * page ? 4 : 0;
}

/* Moving a process moves no charge. */
static int
move_child(long pages)
{
    char *at = touch_pages(pages);

    if (at == NULL || put("d", "cgroup.procs", "0") != 0)
        return 1;
    if (number("c", "memory.current") < pages * page || number("d", "memory.current") > 64 * page)
        return 2;
    char *more = touch_pages(pages);

    return more == NULL || number("d", "memory.current") < pages * page ? 3 : 0;
}

static int
file_child(long pages)
{
    int fd = open("/tmp/charged", O_CREAT | O_RDWR | O_TRUNC, 0600);
    char *bytes = calloc(1, page);

    for (long i = 0; i < pages; i++) {
        if (write(fd, bytes, page) != page)
            return 1;
    }
    return field("c", "memory.stat", "shmem") == pages * page ? 0 : 2;
}

static void
test_charges(void)
{
    make("c");
    make("d");
    CHECK(ends(child_in("c", charge_child, 512)) == 0);
    CHECK(falls_to("c", 0));
    CHECK(ends(child_in("c", move_child, 300)) == 0);
    CHECK(falls_to("c", 0) && falls_to("d", 0));
    CHECK(number("c", "memory.peak") >= 512 * page);

    /* Pages of a file stay charged to who wrote it first, also when the group is gone. */
    mkdir("/tmp", 0777);
    CHECK(mount("none", "/tmp", "tmpfs", 0, NULL) == 0);
    CHECK(ends(child_in("c", file_child, 100)) == 0);
    CHECK(falls_to("c", 104 * page)); /* and what the kernel keeps about it */
    CHECK(number("c", "memory.current") > 100 * page);
    unlink("/tmp/charged");
    CHECK(number("c", "memory.current") == 0);
    drop("c");
    make("p");
    CHECK(rename(path_of("p", ""), path_of("x", "")) == -1 && errno == EPERM);
    drop("p");
    drop("d");
    umount("/tmp");
}

/* ---- Limits -------------------------------------------------------------------------------- */

static int
hog(long pages)
{
    return touch_pages(pages) == NULL;
}

static int
idle(long pages)
{
    char *at = touch_pages(pages);
    sigset_t none;

    sigemptyset(&none);
    if (at != NULL)
        sigsuspend(&none);
    return 1;
}

static bool
waits_for(long value, const char *group, const char *file)
{
    for (int i = 0; i < 1000 && number(group, file) < value; i++)
        usleep(10000);
    return number(group, file) >= value;
}

static void
test_max(void)
{
    make("m");
    make("o");
    CHECK(put_number("m", "memory.max", 1024 * page) == 0);
    pid_t other = child_in("o", idle, 2048); /* a bystander, and a larger one */
    pid_t small = child_in("m", idle, 64);

    CHECK(waits_for(2048 * page, "o", "memory.current"));
    CHECK(waits_for(64 * page, "m", "memory.current"));
    struct pollfd told = {.fd = open(path_of("m", "memory.events"), O_RDONLY), .events = POLLPRI};

    CHECK(poll(&told, 1, 0) == 0);
    int status = ends(child_in("m", hog, 4096));

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    CHECK(poll(&told, 1, 5000) == 1 && (told.revents & POLLPRI) != 0);
    CHECK(field("m", "memory.events", "oom_kill") == 1);
    CHECK(field("m", "memory.events", "oom") >= 1);
    CHECK(field("m", "memory.events", "max") >= 1);
    CHECK(field("", "memory.events", "oom_kill") == -1);
    CHECK(field("o", "memory.events", "oom_kill") == 0);
    CHECK(number("m", "memory.peak") <= 1024 * page);
    CHECK(kill(other, 0) == 0 && waitpid(other, NULL, WNOHANG) == 0);
    CHECK(waitpid(small, NULL, WNOHANG) == 0);

    /* Lowering the limit kills whoever is left. */
    CHECK(put_number("m", "memory.max", 16 * page) == 0);
    CHECK(WIFSIGNALED(ends(small)));
    CHECK(rmdir(path_of("o", "")) == -1 && errno == EBUSY);
    CHECK(put("o", "cgroup.kill", "1") == 0);
    CHECK(WTERMSIG(ends(other)) == SIGKILL);
    close(told.fd);
    CHECK(falls_to("m", 0) && falls_to("o", 0));
    drop("m");
    drop("o");
}

/* Who must not be killed waits for room instead, and for signals. */
static int
spared(long pages)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0 || write(fd, "-1000", 5) != 5)
        return 1;
    close(fd);
    return touch_pages(pages) != NULL ? 0 : 2;
}

static void
test_spared(void)
{
    make("e");
    for (int round = 0; round < 2; round++) {
        CHECK(put_number("e", "memory.max", 256 * page) == 0);
        pid_t pid = child_in("e", spared, 512);

        for (int i = 0; i < 1000 && field("e", "memory.events", "oom") < 4 * (round + 1); i++)
            usleep(10000);
        CHECK(waitpid(pid, NULL, WNOHANG) == 0);
        CHECK(number("e", "memory.current") <= 256 * page);
        if (round == 0)
            CHECK(put("e", "memory.max", "max") == 0);
        else
            CHECK(kill(pid, SIGTERM) == 0);
        CHECK_EQ(ends(pid), round == 0 ? 0 : SIGTERM);
    }
    CHECK(field("e", "memory.events", "oom") >= 8);
    CHECK(field("e", "memory.events", "oom_kill") == 0);
    CHECK(falls_to("e", 0));
    drop("e");
}

/* What was freed lazily goes before anybody is killed; what was written since does not. */
static int
lazy_child(long pages)
{
    char *at = touch_pages(pages), *more;

    if (at == NULL || madvise(at, pages * page, MADV_FREE) != 0)
        return 1;
    for (long i = 0; i < pages; i++) {
        if (at[i * page] != 1)
            return 2; /* nothing presses yet */
    }
    for (long i = 0; i < pages; i += 8)
        at[i * page] = 5;
    more = touch_pages(pages);
    if (more == NULL)
        return 3;
    long zeroes = 0;

    for (long i = 0; i < pages; i++) {
        if (at[i * page] != (i % 8 == 0 ? 5 : 1) && (at[i * page] != 0 || i % 8 == 0))
            return 4;
        zeroes += at[i * page] == 0;
    }
    return zeroes > 0 ? 0 : 5;
}

static void
test_lazy(void)
{
    make("l");
    CHECK(put_number("l", "memory.max", 1024 * page) == 0);
    CHECK(ends(child_in("l", lazy_child, 640)) == 0);
    CHECK(field("l", "memory.events", "oom_kill") == 0);
    CHECK(field("l", "memory.events", "max") >= 1);
    CHECK(put("l", "memory.reclaim", "1G") == EAGAIN);
    CHECK(put("l", "memory.reclaim", "max") == EINVAL);
    int fd = open(path_of("l", "memory.reclaim"), O_RDONLY);
    char byte;

    CHECK(fd >= 0 && read(fd, &byte, 1) == -1 && errno == EINVAL);
    close(fd);
    CHECK(falls_to("l", 0));
    drop("l");
}

/* What all nodes have of @row together; -1: there is no such row. */
static long
over_nodes(const char *group, const char *row)
{
    const char *line = get(group, "memory.numa_stat");
    size_t length = strlen(row);
    long sum = -1;

    while (line != NULL && (strncmp(line, row, length) != 0 || line[length] != ' ')) {
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    for (const char *at = line; at != NULL && *at != '\n' && *at != '\0'; at++) {
        if (*at == '=')
            sum = (sum < 0 ? 0 : sum) + atol(at + 1);
    }
    return sum;
}

/* The same by node as in all, and at least as much in the root. */
static int
counted_child(long pages)
{
    char *private = touch_pages(pages);
    char *shared =
        mmap(NULL, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (private == NULL || shared == MAP_FAILED)
        return 1;
    memset(shared, 1, pages * page);
    long anon = over_nodes("s", "anon");

    if (anon < pages * page || anon > (pages + 100) * page)
        return 2;
    if (over_nodes("s", "shmem") != pages * page || over_nodes("s", "file") < pages * page)
        return 3;
    static const char *const rows[] = {"file", "kernel_stack", "pagetables", "slab_unreclaimable"};
    for (int i = 0; i < 4; i++) {
        if (over_nodes("s", rows[i]) < 0 ||
            over_nodes("s", rows[i]) != field("s", "memory.stat", rows[i]))
            return 4;
    }
    if (over_nodes("s", "workingset_nodereclaim") != 0 || over_nodes("s", "slab") != -1 ||
        over_nodes("s", "pgfault") != -1)
        return 5;
    if (field("", "memory.stat", "anon") < anon || over_nodes("", "anon") < anon)
        return 6;
    if (field("", "memory.stat", "shmem") < pages * page ||
        over_nodes("", "shmem") < pages * page || field("", "memory.stat", "pgfault") < 2 * pages)
        return 7;
    return 0;
}

static void
test_stat(void)
{
    make("s");
    CHECK_EQ(ends(child_in("s", counted_child, 200)), 0);
    CHECK(field("", "memory.stat", "slab") > 0);
    CHECK(over_nodes("", "slab_unreclaimable") > 0);
    CHECK(open(path_of("", "memory.max"), O_RDONLY) == -1 && errno == ENOENT);
    CHECK(falls_to("s", 0));
    drop("s");
}

/* The limit of a parent holds for its children together; all of a group go where it says so. */
static void
test_hierarchy(void)
{
    make("h");
    CHECK(put("h", "cgroup.subtree_control", "+memory") == 0);
    make("h/a");
    make("h/b");
    CHECK(put_number("h", "memory.max", 1000 * page) == 0);
    CHECK(put("h/a", "memory.oom.group", "1") == 0);
    pid_t a = child_in("h/a", idle, 600), with = child_in("h/a", idle, 10);

    CHECK(waits_for(610 * page, "h/a", "memory.current"));
    CHECK(ends(child_in("h/b", hog, 700)) == 0); /* a is the larger one when there is no more */
    CHECK(WTERMSIG(ends(a)) == SIGKILL);
    CHECK(WTERMSIG(ends(with)) == SIGKILL);
    CHECK(field("h/a", "memory.events", "oom_group_kill") == 1);
    CHECK(field("h", "memory.events", "oom_kill") >= 2);
    CHECK(field("h", "memory.events.local", "oom_kill") == 0);
    CHECK(number("h", "memory.peak") <= 1000 * page);
    CHECK(falls_to("h", 0));
    drop("h/a");
    drop("h/b");
    drop("h");
}

static void
test_high(void)
{
    struct pollfd pressure;
    double start;

    make("s");
    CHECK(put("s", "memory.pressure", "some 1") == EINVAL);
    CHECK(put("s", "memory.pressure", "some 2000000 1000000") == EINVAL);
    CHECK(put("s", "memory.pressure", "all 1000 1000000") == EINVAL);
    pressure.fd = open(path_of("s", "memory.pressure"), O_RDWR);
    pressure.events = POLLPRI;
    CHECK(write(pressure.fd, "some 1000 1000000", 18) == 18);
    CHECK(write(pressure.fd, "some 1000 1000000", 18) == -1 && errno == EBUSY);
    CHECK(poll(&pressure, 1, 0) == 0);
    CHECK(put_number("s", "memory.high", 1024 * page) == 0);
    start = seconds();
    CHECK(ends(child_in("s", hog, 1136)) == 0); /* slowed down, not killed */
    CHECK(seconds() - start > 0.2);
    CHECK(field("s", "memory.events", "high") >= 1);
    CHECK(field("s", "memory.events", "oom_kill") == 0);
    CHECK(poll(&pressure, 1, 0) == 1 && (pressure.revents & POLLPRI) != 0);
    CHECK(strstr(get("s", "memory.pressure"), "some avg10=") != NULL);
    CHECK(atol(strstr(get("s", "memory.pressure"), "total=") + 6) > 100000);
    close(pressure.fd);
    CHECK(falls_to("s", 0));
    drop("s");
}

/* ---- Being in one -------------------------------------------------------------------------- */

static bool
path_is(pid_t pid, const char *path)
{
    char name[64], text[256], wanted[300];
    ssize_t length;
    int fd;

    snprintf(name, sizeof(name), "/proc/%d/cgroup", (int)pid);
    fd = open(name, O_RDONLY);
    length = read(fd, text, sizeof(text) - 1);
    close(fd);
    snprintf(wanted, sizeof(wanted), "0::%s\n", path);
    return length > 0 && strncmp(text, wanted, (size_t)length) == 0;
}

static int
fork_child(long argument)
{
    pid_t pid = fork();

    (void)argument;
    if (pid == 0)
        _exit(path_is(getpid(), "/i/j") ? 0 : 1);
    return ends(pid) != 0;
}

static void *
thread_main(void *context)
{
    pause();
    return context;
}

static int
thread_child(long count)
{
    pthread_t thread;

    for (long i = 0; i < count; i++)
        pthread_create(&thread, NULL, thread_main, NULL);
    int lines = 0;

    for (const char *at = get("i/j", "cgroup.threads"); (at = strchr(at, '\n')) != NULL; at++)
        lines++;
    return lines == count + 1 ? 0 : 1;
}

static void
test_members(void)
{
    int status;

    make("i");
    make("i/j");
    CHECK(ends(child_in("i/j", fork_child, 0)) == 0);
    CHECK(ends(child_in("i/j", thread_child, 3)) == 0);
    CHECK(put("i/j", "cgroup.threads", "0") == EOPNOTSUPP);
    CHECK(strcmp(get("i", "cgroup.events"), "populated 0\nfrozen 0\n") == 0);
    struct pollfd events = {.fd = open(path_of("i", "cgroup.events"), O_RDONLY), .events = POLLPRI};
    char text[64];

    CHECK(read(events.fd, text, sizeof(text)) > 0);
    CHECK(poll(&events, 1, 0) == 0);

    int directory = open(path_of("i/j", ""), O_RDONLY | O_DIRECTORY);
    struct clone_args args = {
        .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)directory};
    long pid = syscall(SYS_clone3, &args, sizeof(args));

    if (pid == 0) {
        pause();
        _exit(0);
    }
    CHECK(pid > 0);
    CHECK(path_is((pid_t)pid, "/i/j"));
    CHECK(field("i", "cgroup.events", "populated") == 1);
    CHECK(poll(&events, 1, 5000) == 1);
    CHECK(number("i/j", "cgroup.procs") == pid);
    CHECK(rmdir(path_of("i/j", "")) == -1 && errno == EBUSY);
    kill((pid_t)pid, SIGKILL);
    for (int i = 0; i < 10000 && field("i/j", "cgroup.events", "populated") == 1; i++)
        usleep(1000);
    drop("i/j"); /* a zombie keeps no group */
    CHECK(path_is((pid_t)pid, "/i/j (deleted)"));
    CHECK(waitpid((pid_t)pid, &status, 0) == pid);
    CHECK(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == ENODEV);
    close(directory);
    args.cgroup = (uint64_t)events.fd;
    CHECK(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EBADF);
    close(events.fd);
    drop("i");
    CHECK(strstr(get("", "cgroup.procs"), "1\n") != NULL);
    CHECK(path_is(getpid(), "/"));
}

/* ---- Many at once ------------------------------------------------------------------------------ */

static int
churn(long rounds)
{
    for (long i = 0; i < rounds; i++) {
        char *at = touch_pages(40);
        pid_t pid;

        if (at == NULL)
            return 1;
        put(i % 2 != 0 ? "z/a" : "z/b", "cgroup.procs", "0");
        pid = fork();
        if (pid == 0) {
            for (long j = 0; j < 40; j += 3)
                at[j * page] = 3;
            _exit(0);
        }
        if (pid > 0)
            ends(pid);
        munmap(at, 40 * page);
    }
    return 0;
}

static void
test_race(void)
{
    pid_t pids[6];

    make("z");
    CHECK(put("z", "cgroup.subtree_control", "+memory") == 0);
    make("z/a");
    make("z/b");
    CHECK(put_number("z", "memory.max", 600 * page) == 0);
    for (int i = 0; i < 6; i++)
        pids[i] = child_in(i % 2 != 0 ? "z/a" : "z/b", churn, 12);
    for (int i = 0; i < 6; i++)
        CHECK(ends(pids[i]) >= 0);
    CHECK(number("z", "memory.peak") <= 600 * page);
    CHECK(falls_to("z", 0) && falls_to("z/a", 0) && falls_to("z/b", 0));
    drop("z/a");
    drop("z/b");
    drop("z");
}

int
main(void)
{
    page = sysconf(_SC_PAGESIZE);
    if (mount("none", ROOT, "cgroup2", 0, NULL) != 0 && errno != EBUSY) {
        printf("mount: %s\n", strerror(errno));
        return 1;
    }
    test_tree();
    test_values();
    test_charges();
    test_max();
    test_spared();
    test_lazy();
    test_stat();
    test_hierarchy();
    test_high();
    test_members();
    test_race();
    CHECK(put("", "cgroup.subtree_control", "-memory") == 0);
    return check_done("group");
}
