/* SPDX-License-Identifier: MIT */
/*
 * Memory runs out: one process is killed, the one that badness picks, and nobody
 * else is harmed.  It uses up the whole machine, so it is not for a Linux in use.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

enum { MIB = 1 << 20, STEP = 65536, THREADS = 4 };

static long
number_in(const char *path, const char *format)
{
    char line[128];
    long number = -1;
    FILE *file = fopen(path, "r");

    while (file != NULL && number < 0 && fgets(line, sizeof(line), file) != NULL)
        (void)sscanf(line, format, &number);
    if (file != NULL)
        fclose(file);
    return number;
}

static long
kills_so_far(void)
{
    return number_in("/proc/vmstat", "oom_kill %ld");
}

/* @return the error, 0 for none */
static int
set_adjustment(const char *value)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY), error;

    if (fd < 0)
        return errno;
    error = write(fd, value, strlen(value)) < 0 ? errno : 0;
    close(fd);
    return error;
}

static unsigned char *
more_memory(size_t bytes)
{
    unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        _exit(90);
    return memory;
}

/* ---- who uses everything up -------------------------------------------------------- */

static void *
write_for_ever(void *unused)
{
    (void)unused;
    for (;;)
        memset(more_memory(MIB), 0x5a, MIB);
    return NULL;
}

/* What is locked goes as well, while the threads that it belongs to end (CVE-2018-1000200). */
static void
write_in_threads(void)
{
    pthread_t thread;

    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0)
        _exit(94);
    for (int i = 1; i < THREADS; i++)
        pthread_create(&thread, NULL, write_for_ever, NULL);
    write_for_ever(NULL);
}

/* The kernel's own copy finds no memory. */
static void
read_for_ever(void)
{
    int zero = open("/dev/zero", O_RDONLY);

    while (read(zero, more_memory(MIB), MIB) == MIB)
        ;
    _exit(91);
}

static void
write_alone(void)
{
    write_for_ever(NULL);
}

/* It ends by SIGKILL. */
static void
check_killed(void (*use_up)(void))
{
    pid_t child = fork();
    int status;

    if (child == 0)
        use_up();
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- who only lives here ------------------------------------------------------------- */

struct bystander {
    pid_t pid;
    int stop; /* a byte ends the bystander */
};

/* Look after some memory, and go on asking for a little more, until told to stop. */
static void
live(int stop, int ready, int seed, size_t bytes)
{
    unsigned char *memory = more_memory(bytes);
    int bad = 0;
    char byte;

    memset(memory, seed, bytes);
    (void)!write(ready, "r", 1);
    fcntl(stop, F_SETFL, O_NONBLOCK);
    while (read(stop, &byte, 1) < 0 && errno == EAGAIN) {
        unsigned char *fresh = more_memory(STEP);

        memset(fresh, seed, STEP);
        munmap(fresh, STEP);
        for (size_t i = 0; i < bytes; i += 509)
            bad += memory[i] != seed;
        usleep(5000);
    }
    _exit(bad == 0 ? 0 : 92);
}

static void
bystander_start(struct bystander *one, int seed, size_t bytes, const char *adjustment)
{
    int stop[2], ready[2];
    char byte;

    CHECK_EQ(pipe2(stop, O_CLOEXEC), 0);
    CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
    one->pid = fork();
    if (one->pid == 0) {
        close(stop[1]);
        if (set_adjustment(adjustment) != 0)
            _exit(93);
        live(stop[0], ready[1], seed, bytes);
    }
    close(ready[1]);
    CHECK_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    one->stop = stop[1]; /* stop[0] stays open: the byte may come after its end */
}

/* @return how it ended, as wait() says it */
static int
bystander_end(struct bystander *one)
{
    int status = -1;

    CHECK_EQ(write(one->stop, "s", 1), 1);
    close(one->stop);
    CHECK_EQ(waitpid(one->pid, &status, 0), one->pid);
    return status;
}

/* ---- tests ------------------------------------------------------------------------------ */

static void
test_greatest_is_killed(void (*use_up)(void))
{
    enum { COUNT = 3 };
    struct bystander others[COUNT];
    long kills = kills_so_far();

    for (int i = 0; i < COUNT; i++)
        bystander_start(&others[i], 3 + i, 4 * MIB, "0");
    check_killed(use_up);
    CHECK_EQ(kills_so_far(), kills + 1);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(bystander_end(&others[i]), 0);
    CHECK_EQ(kills_so_far(), kills + 1);
}

static void
test_adjusted_is_killed_first(void)
{
    struct bystander small, other;
    long kills = kills_so_far();

    bystander_start(&small, 1, 2 * MIB, "1000");
    bystander_start(&other, 2, 2 * MIB, "0");
    check_killed(write_alone);
    CHECK_EQ(bystander_end(&other), 0);
    CHECK_EQ(bystander_end(&small), SIGKILL);
    CHECK_EQ(kills_so_far(), kills + 2);
}

static void
test_exempt_survives(void)
{
    size_t most = (size_t)number_in("/proc/meminfo", "MemFree: %ld") * 1024 / 5 * 3;
    struct bystander great;
    long kills = kills_so_far();

    bystander_start(&great, 1, most, "-1000");
    check_killed(write_alone);
    CHECK_EQ(bystander_end(&great), 0);
    CHECK_EQ(kills_so_far(), kills + 1);
}

static void
test_files(void)
{
    long score;

    CHECK_EQ(number_in("/proc/self/oom_score_adj", "%ld"), 0);
    CHECK_EQ(set_adjustment("1001"), EINVAL);
    CHECK_EQ(set_adjustment("-1001"), EINVAL);
    CHECK_EQ(set_adjustment("99999999999999999999"), EINVAL);
    CHECK_EQ(set_adjustment("x"), EINVAL);
    CHECK_EQ(set_adjustment("5 5"), EINVAL);
    CHECK_EQ(set_adjustment("-"), EINVAL);
    score = number_in("/proc/self/oom_score", "%ld");
    CHECK(score >= 600 && score < 800);
    CHECK_EQ(set_adjustment("500\n"), 0);
    CHECK(number_in("/proc/self/oom_score", "%ld") > score + 300);
    CHECK_EQ(set_adjustment("-1000"), 0);
    CHECK_EQ(number_in("/proc/self/oom_score", "%ld"), 0);
    CHECK_EQ(set_adjustment(" 10 \n"), 0);
    CHECK_EQ(number_in("/proc/self/oom_score_adj", "%ld"), 10);
}

/* In a child: it gives up its rights. */
static void
test_rights(void)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        /* What a process that was root left of itself is root's, until it says otherwise. */
        int good = set_adjustment("100") == 0 && setuid(1000) == 0 &&
                   set_adjustment("200") == EACCES && prctl(PR_SET_DUMPABLE, 1) == 0 &&
                   set_adjustment("200") == 0 && set_adjustment("100") == 0 &&
                   set_adjustment("99") == EACCES;

        _exit(good ? 0 : 1);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

int
main(void)
{
    test_files();
    test_rights();
    test_greatest_is_killed(write_alone);
    test_greatest_is_killed(read_for_ever);
    test_greatest_is_killed(write_in_threads);
    test_adjusted_is_killed_first();
    test_exempt_survives();
    return check_done("oom");
}
