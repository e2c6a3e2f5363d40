/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CGROUP_H
#define TESTS_USER_CGROUP_H

/* For programs about groups: files of one, by its name below ROOT, where a cgroup2 is mounted. */

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

#define ROOT "/sys/fs/cgroup"
#define MIB  (1l << 20)

/* @return 0 or errno */
static inline int
put_in(const char *group, const char *file, const char *text)
{
    char path[128];

    snprintf(path, sizeof(path), ROOT "/%s/%s", group, file);
    return put_text(path, text);
}

static inline long
line_in(const char *group, const char *file, const char *name)
{
    char path[128];

    snprintf(path, sizeof(path), ROOT "/%s/%s", group, file);
    return line_of(path, name);
}

static inline void
group_make(const char *group)
{
    char path[128];

    snprintf(path, sizeof(path), ROOT "/%s", group);
    CHECK_EQ(mkdir(path, 0755), 0);
}

/* What its processes leave is given back soon. */
static inline void
group_remove(const char *group)
{
    char path[128];

    snprintf(path, sizeof(path), ROOT "/%s", group);
    for (int i = 0; i < 200 && rmdir(path) != 0; i++)
        usleep(10000);
    CHECK(access(path, F_OK) != 0);
}

/* Run @fn in @group, in a child whose failures are one here. */
static inline void
run_in(const char *group, void (*fn)(const char *), const char *argument)
{
    int status = -1;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        check_failures = 0;
        CHECK_EQ(put_in(group, "cgroup.procs", "0"), 0);
        fn(argument);
        fflush(stdout);
        _exit(check_failures != 0);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
}

static inline double
seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
