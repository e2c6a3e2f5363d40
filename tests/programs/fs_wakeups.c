/* SPDX-License-Identifier: MIT */
/*
 * Waiting and waking through files, by many threads at once: every byte that goes in comes out, and
 * nobody sleeps for ever.  Pipes with blocking and polling readers, an eventfd, epoll, a fifo,
 * a shared file table, signals that interrupt.
 *
 * usage: fs_wakeups ROUNDS
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITERS = 4, READERS = 3 };

static long rounds;
static int ends[2];
static long sums[READERS];

static void
check(int holds, const char *what)
{
    if (!holds) {
        printf("FAIL %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* Each writes its own byte, so that a mixed message is seen. */
static void *
writer(void *argument)
{
    long id = (long)argument;
    unsigned char message[100];

    memset(message, (int)id, sizeof message);
    for (long i = 0; i < rounds; i++) {
        check(write(ends[1], message, 100) == 100, "write of a message");
    }
    return NULL;
}

static int
message_read(unsigned char *message, int how)
{
    struct pollfd poll_fd = {ends[0], POLLIN, 0};
    fd_set set;

    if (how == 1) {
        check(poll(&poll_fd, 1, -1) >= 0 || errno == EINTR, "poll");
    } else if (how == 2) {
        FD_ZERO(&set);
        FD_SET(ends[0], &set);
        check(select(ends[0] + 1, &set, NULL, NULL, NULL) >= 0 || errno == EINTR, "select");
    }
    ssize_t got = read(ends[0], message, 100);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
        return -1;
    }
    check(got == 100 || got == 0, "read of a message");
    return (int)got;
}

static void *
reader(void *argument)
{
    long id = (long)argument;
    unsigned char message[100];
    int got;

    while ((got = message_read(message, (int)id)) != 0) {
        if (got < 0) {
            continue;
        }
        for (int i = 1; i < got; i++) {
            check(message[i] == message[0], "a message in one piece");
        }
        sums[id]++;
    }
    return NULL;
}

static void
test_pipe(void)
{
    pthread_t writers[WRITERS], readers[READERS];
    long total = 0;

    memset(sums, 0, sizeof sums);
    check(pipe(ends) == 0, "pipe");
    for (long i = 0; i < READERS; i++) {
        pthread_create(&readers[i], NULL, reader, (void *)i);
    }
    for (long i = 0; i < WRITERS; i++) {
        pthread_create(&writers[i], NULL, writer, (void *)i);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(writers[i], NULL);
    }
    close(ends[1]);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
        total += sums[i];
    }
    close(ends[0]);
    check(total == WRITERS * rounds, "all messages arrive");
    printf("pipe: %ld messages\n", total);
}

/* Ping and pong over two pipes between processes, through epoll on one side. */
static void
test_ping_pong(void)
{
    int to[2], from[2];
    struct epoll_event event = {EPOLLIN | EPOLLET, {.u64 = 1}}, got;
    char c = 0;

    check(pipe(to) == 0 && pipe(from) == 0, "pipes");
    if (fork() == 0) {
        close(to[1]);
        while (read(to[0], &c, 1) == 1) {
            c++;
            check(write(from[1], &c, 1) == 1, "pong");
        }
        _exit(0);
    }
    close(to[0]), close(from[1]);
    fcntl(from[0], F_SETFL, O_NONBLOCK);
    int set = epoll_create1(0);
    check(epoll_ctl(set, EPOLL_CTL_ADD, from[0], &event) == 0, "epoll_ctl");
    for (long i = 0; i < rounds; i++) {
        c = (char)i;
        check(write(to[1], &c, 1) == 1, "ping");
        do {
            check(epoll_wait(set, &got, 1, -1) == 1, "epoll_wait");
        } while (read(from[0], &c, 1) != 1 && errno == EAGAIN);
        check(c == (char)(i + 1), "the answer");
    }
    close(to[1]);
    wait(NULL);
    close(from[0]), close(set);
    printf("epoll: %ld rounds\n", rounds);
}

static int event_fd;

static void *
event_adder(void *argument)
{
    uint64_t one = 1;

    (void)argument;
    for (long i = 0; i < rounds; i++) {
        check(write(event_fd, &one, 8) == 8, "add");
    }
    return NULL;
}

static void
test_eventfd(void)
{
    pthread_t adders[WRITERS];
    uint64_t value, total = 0;

    event_fd = eventfd(0, 0);
    for (int i = 0; i < WRITERS; i++) {
        pthread_create(&adders[i], NULL, event_adder, NULL);
    }
    while (total < (uint64_t)(WRITERS * rounds)) {
        check(read(event_fd, &value, 8) == 8, "take");
        total += value;
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(adders[i], NULL);
    }
    close(event_fd);
    check(total == (uint64_t)(WRITERS * rounds), "all events arrive");
    printf("eventfd: %llu events\n", (unsigned long long)total);
}

/* Descriptors opened and closed by all threads of one table. */
static void *
opener(void *argument)
{
    (void)argument;
    for (long i = 0; i < rounds; i++) {
        int fd = open("/dev/null", O_RDWR), copy = dup(fd);

        check(fd >= 0 && copy >= 0, "open in a shared table");
        check(write(copy, "x", 1) == 1, "write in a shared table");
        close(fd), close(copy);
    }
    return NULL;
}

static void
test_table(void)
{
    pthread_t openers[WRITERS];
    int before = dup(0), after;

    for (int i = 0; i < WRITERS; i++) {
        pthread_create(&openers[i], NULL, opener, NULL);
    }
    for (int i = 0; i < WRITERS; i++) {
        pthread_join(openers[i], NULL);
    }
    close(before);
    after = dup(0);
    check(before == after, "no descriptor is lost");
    close(after);
    printf("table: %ld opens\n", WRITERS * rounds);
}

static void
nothing(int number)
{
    (void)number;
}

/* A full pipe drained by a slow reader while signals interrupt the writer. */
static void
test_interrupted(void)
{
    struct sigaction action = {.sa_handler = nothing};
    static char bytes[100000];
    int status, pid, out[2];
    long total = 0, want = 2000000;

    check(pipe(out) == 0, "pipe");
    pid = fork();
    if (pid == 0) {
        close(out[0]);
        sigaction(SIGUSR1, &action, NULL);
        for (long sent = 0; sent < want;) {
            long left = want - sent;
            ssize_t n =
                write(out[1], bytes, left < (long)sizeof bytes ? (size_t)left : sizeof bytes);

            if (n < 0 && errno != EINTR) {
                _exit(1);
            }
            sent += n > 0 ? n : 0;
        }
        _exit(0);
    }
    close(out[1]);
    ssize_t n;
    while ((n = read(out[0], bytes, 7000)) > 0) {
        total += n;
        kill(pid, SIGUSR1);
    }
    check(waitpid(pid, &status, 0) == pid && status == 0, "the interrupted writer");
    check(total == want, "every byte of an interrupted writer");
    close(out[0]);
    printf("interrupted: %ld bytes\n", total);
}

int
main(int argc, char **argv)
{
    rounds = argc == 2 ? atol(argv[1]) : 1000;
    setvbuf(stdout, NULL, _IONBF, 0);
    test_pipe();
    test_ping_pong();
    test_eventfd();
    test_table();
    test_interrupted();
    return 0;
}
