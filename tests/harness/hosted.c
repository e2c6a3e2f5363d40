/* SPDX-License-Identifier: MIT */
/*
 * The harness in a Linux process: main(), options, death tests by fork(), a
 * time limit for each test.
 *
 * A test that crashes ends the run with its name and the closing line, so that
 * a script always finds a count; --isolate gives each test its own process and
 * goes on after a crash.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* gcc says so by a macro, clang by a feature. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#endif

enum {
    DEFAULT_LIMIT_SECONDS = 300,
    EXIT_SURVIVED = 77, /* the child of a death test that did not die */
};

struct run_options {
    struct test_selection selection;
    unsigned limit_seconds;
    bool list;
    bool isolate;
};

static jmp_buf guard_exit;
static pthread_t guard_thread;
static const struct test_case *running;
static struct test_totals totals;
static unsigned limit_seconds;
static bool in_death_child;

/* ---- the host ---------------------------------------------------------- */

static void
host_write(const char *text, size_t length)
{
    while (length > 0) {
        ssize_t done = write(STDOUT_FILENO, text, length);

        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return;
        }
        text += done;
        length -= (size_t)done;
    }
}

static bool
host_guard(void (*body)(void))
{
    guard_thread = pthread_self();
    if (setjmp(guard_exit) != 0) {
        return false;
    }
    body();
    return true;
}

static void
host_end(void)
{
    if (in_death_child) {
        _exit(EXIT_SURVIVED);
    }
    if (!pthread_equal(pthread_self(), guard_thread)) {
        test_print("  (an ASSERT failed in a thread of the test: the run ends)\n");
        test_print("FAIL %s.%s\n", running->suite, running->name);
        totals.failed++;
        test_print_totals(&totals);
        _exit(1);
    }
    longjmp(guard_exit, 1);
}

static void
signals_to_default(void)
{
    static const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGALRM, SIGTRAP};

    for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
        signal(fatal[i], SIG_DFL);
    }
}

static void
death_collect(int from, char *said, size_t said_bytes)
{
    size_t length = 0;

    for (;;) {
        char spare[256];
        bool full = length + 1 >= said_bytes;
        ssize_t got = read(from, full ? spare : said + length,
                           full ? sizeof(spare) : said_bytes - 1 - length);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            break;
        }
        if (!full) {
            length += (size_t)got;
        }
    }
    said[length] = '\0';
}

static enum test_death
host_death_begin(char *said, size_t said_bytes, bool *out_died)
{
    int pipe_ends[2];
    int status = 0;
    pid_t child;

    fflush(NULL);
    if (pipe(pipe_ends) != 0 || (child = fork()) < 0) {
        perror("death test");
        exit(1);
    }
    if (child == 0) {
        in_death_child = true;
        signals_to_default();
        dup2(pipe_ends[1], STDOUT_FILENO);
        dup2(pipe_ends[1], STDERR_FILENO);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        if (limit_seconds > 0) {
            alarm(limit_seconds);
        }
        return TEST_DEATH_CHILD;
    }
    close(pipe_ends[1]);
    death_collect(pipe_ends[0], said, said_bytes);
    close(pipe_ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    *out_died = !(WIFEXITED(status) &&
                  (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == EXIT_SURVIVED)) &&
                !(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM);
    return TEST_DEATH_PARENT;
}

static void
host_death_survived(void)
{
    _exit(EXIT_SURVIVED);
}

static struct test_host host = {
    .write = host_write,
    .guard = host_guard,
    .end = host_end,
    .death_begin = host_death_begin,
    .death_survived = host_death_survived,
    .seed = 1,
};

/* ---- crashes and the clock ---------------------------------------------- */

static void
crash_handler(int signal_number)
{
    test_print("  stopped by signal %d (%s)\n", signal_number,
               signal_number == SIGALRM ? "time limit" : strsignal(signal_number));
    test_print("FAIL %s.%s (seed %llu)\n", running->suite, running->name,
               (unsigned long long)host.seed);
    totals.failed++;
    test_print_totals(&totals);
    _exit(1);
}

static void
catch_crashes(void)
{
    static unsigned char stack[64 * 1024];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_handler = crash_handler, .sa_flags = SA_ONSTACK};

    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGABRT, &action, NULL);
#ifndef UNDER_SANITIZER
    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
#else
    (void)alternate; /* the sanitizer says more about these than we could */
#endif
}

/* ---- the run ------------------------------------------------------------ */

static void
run_here(const struct test_case *test, struct test_totals *into)
{
    running = test;
    alarm(limit_seconds);
    test_run_one(test, into);
    alarm(0);
}

static void
run_isolated(const struct test_case *test, struct test_totals *shared)
{
    struct test_totals before = *shared;
    int status = 0;
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        run_here(test, shared);
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("isolate");
        exit(1);
    }
    if (shared->passed + shared->failed + shared->skipped ==
        before.passed + before.failed + before.skipped) {
        if (WIFSIGNALED(status)) {
            test_print("FAIL %s.%s: signal %d\n", test->suite, test->name, WTERMSIG(status));
        } else if (WEXITSTATUS(status) != 0) {
            test_print("FAIL %s.%s: exit status %d\n", test->suite, test->name,
                       WEXITSTATUS(status));
        }
        shared->failed++;
    }
}

static int
run_selected(const struct run_options *options)
{
    struct test_totals *into = &totals;

    if (options->isolate) {
        into = mmap(NULL, sizeof(*into), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (into == MAP_FAILED) {
            perror("mmap");
            return 1;
        }
    }
    for (size_t i = 0; i < test_count(); i++) {
        const struct test_case *test = test_at(i);

        if (!test_selected(test, options->selection)) {
            continue;
        }
        if (options->list) {
            test_print("%s.%s%s\n", test->suite, test->name,
                       test->kind == TEST_THREADED ? " (threads)" : "");
        } else if (options->isolate) {
            run_isolated(test, into);
        } else {
            run_here(test, into);
        }
    }
    if (!options->list) {
        test_print_totals(into);
    }
    return into->failed > 0 ? 1 : 0;
}

static void
usage(const char *program)
{
    printf("%s [options] [PART]    run the tests whose suite.name contains PART\n"
           "  --list           print the names and run nothing\n"
           "  --threads        only the tests that start threads\n"
           "  --isolate        each test in its own process; go on after a crash\n"
           "  --seed N|random  the seed of test_seed() (1)\n"
           "  --limit SECONDS  the longest a test may take (%d; 0: no limit)\n",
           program, DEFAULT_LIMIT_SECONDS);
}

static void
set_seed(const char *text)
{
    if (strcmp(text, "random") == 0) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        host.seed = (uint64_t)now.tv_nsec ^ ((uint64_t)now.tv_sec << 20) ^ (uint64_t)getpid();
    } else {
        host.seed = strtoull(text, NULL, 0);
    }
}

int
main(int argc, char **argv)
{
    struct run_options options = {.limit_seconds = DEFAULT_LIMIT_SECONDS};

    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;

        if (strcmp(argv[i], "--list") == 0) {
            options.list = true;
        } else if (strcmp(argv[i], "--threads") == 0) {
            options.selection.threaded_only = true;
        } else if (strcmp(argv[i], "--isolate") == 0) {
            options.isolate = true;
        } else if (strcmp(argv[i], "--seed") == 0 && value != NULL) {
            set_seed(value);
            i++;
        } else if (strcmp(argv[i], "--limit") == 0 && value != NULL) {
            options.limit_seconds = (unsigned)strtoul(value, NULL, 0);
            i++;
        } else if (argv[i][0] == '-') {
            usage(argv[0]);
            return strcmp(argv[i], "--help") == 0 ? 0 : 2;
        } else {
            options.selection.filter = argv[i];
        }
    }
    limit_seconds = options.limit_seconds;
    test_use_host(&host);
    catch_crashes();
    return run_selected(&options);
}
