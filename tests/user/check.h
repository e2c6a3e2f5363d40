/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CHECK_H
#define TESTS_USER_CHECK_H

/*
 * For the test programs of this folder: plain C for Linux, static, which run on
 * the reference kernel and, to see that the expectation itself is right, on Linux.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int check_failures;
static int check_count;

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        check_count++;                                                                    \
        if (!(condition)) {                                                               \
            check_failures++;                                                             \
            printf("FAIL %s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
        }                                                                                 \
    } while (0)

#define CHECK_EQ(a, b)                                                                         \
    do {                                                                                       \
        long check_a_ = (long)(a), check_b_ = (long)(b);                                       \
                                                                                               \
        check_count++;                                                                         \
        if (check_a_ != check_b_) {                                                            \
            check_failures++;                                                                  \
            printf("FAIL %s:%d: %s is %ld, expected %ld (errno %d)\n", __FILE__, __LINE__, #a, \
                   check_a_, check_b_, errno);                                                 \
        }                                                                                      \
    } while (0)

/* The call fails with exactly this error. */
#define CHECK_ERRNO(call, expected)                                                                \
    do {                                                                                           \
        errno = 0;                                                                                 \
        long check_r_ = (long)(call);                                                              \
                                                                                                   \
        check_count++;                                                                             \
        if (check_r_ != -1 || errno != (expected)) {                                               \
            check_failures++;                                                                      \
            printf("FAIL %s:%d: %s is %ld with errno %d, expected errno %d\n", __FILE__, __LINE__, \
                   #call, check_r_, errno, (expected));                                            \
        }                                                                                          \
    } while (0)

/* Bytes of a page, as the kernel says. */
static inline long
check_page(void)
{
    return sysconf(_SC_PAGESIZE);
}

/* The number behind @name and a blank or a colon, in a file of /proc or /sys; -1: no such line. */
static inline long
line_of(const char *path, const char *name)
{
    FILE *file = fopen(path, "r");
    char line[256];
    long value = -1;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0 && strchr(" :", line[strlen(name)]) != NULL)
            value = atol(line + strlen(name) + 1);
    }
    if (file != NULL)
        fclose(file);
    return value;
}

/* @return 0 or errno */
static inline int
put_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC), error = 0;

    if (fd < 0)
        return errno;
    if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        error = errno;
    close(fd);
    return error;
}

/* Wait until process @pid (its first thread) sleeps: then the next signal interrupts that. */
static inline void
wait_asleep(int pid)
{
    char path[64], text[256];
    int quiet = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    for (int tries = 0; quiet < 3 && tries < 2000; tries++) {
        int fd = open(path, O_RDONLY);
        long n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
        char *state;

        if (fd >= 0)
            close(fd);
        text[n > 0 ? n : 0] = '\0';
        state = strrchr(text, ')');
        quiet = state != NULL && state[2] == 'S' ? quiet + 1 : 0;
        usleep(2000);
    }
}

static inline int
check_done(const char *name)
{
    printf("%s: %d checks, %d failures\n", name, check_count, check_failures);
    fflush(stdout);
    return check_failures == 0 ? 0 : 1;
}

#endif
