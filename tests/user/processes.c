/* SPDX-License-Identifier: MIT */
/*
 * Processes: fork, wait, groups and sessions, exec and hostile programs, limits,
 * credentials, timers.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "machine.h"

extern char **environ;
static volatile sig_atomic_t hits;

static void
count_hit(int number)
{
    (void)number;
    hits++;
}

static int
wait_exit(pid_t child)
{
    int status;

    if (waitpid(child, &status, 0) != child)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void
test_wait(void)
{
    siginfo_t info;
    struct rusage used;
    int status, gate[2];
    char c;
    pid_t child;

    CHECK_EQ(pipe(gate), 0);
    CHECK_ERRNO(wait(NULL), ECHILD);
    CHECK_ERRNO(waitpid(1 << 22, NULL, 0), ECHILD);
    CHECK_ERRNO(waitpid(-1, NULL, 0x12345678), EINVAL);
    child = fork();
    if (child == 0) {
        close(gate[1]);
        (void)!read(gate[0], &c, 1);
        _exit(17);
    }
    CHECK_EQ(waitpid(child, &status, WNOHANG), 0);
    close(gate[0]);
    close(gate[1]);
    CHECK_EQ(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    CHECK(info.si_pid == child && info.si_code == CLD_EXITED && info.si_status == 17);
    CHECK_EQ(wait4(child, &status, 0, &used), child);
    CHECK_EQ(WEXITSTATUS(status), 17);
    CHECK_ERRNO(waitpid(child, NULL, 0), ECHILD);
    CHECK_ERRNO(waitid(P_ALL, 0, &info, 0), EINVAL);
    CHECK_ERRNO(waitid(55, 0, &info, WEXITED), EINVAL);
}

/* A grandchild whose parent ends belongs to init, or to a subreaper. */
static void
test_reparent(void)
{
    int ends[2], got[2] = {0, 0};
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0);
    child = fork();
    if (child == 0) {
        pid_t parent = getpid();

        if (fork() == 0) {
            while (getppid() == parent)
                usleep(1000);
            got[0] = getppid();
            got[1] = getpid();
            (void)!write(ends[1], got, sizeof(got));
            _exit(3);
        }
        _exit(0);
    }
    CHECK_EQ(wait_exit(child), 0);
    CHECK_EQ(read(ends[0], got, sizeof(got)), (long)sizeof(got));
    CHECK_EQ(got[0], getpid());
    CHECK_EQ(wait_exit(got[1]), 3);
    prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0);
    close(ends[0]);
    close(ends[1]);
}

/* A parent that ignores SIGCHLD has no zombies. */
static void
test_auto_reap(void)
{
    signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 5; i++) {
        if (fork() == 0)
            _exit(0);
    }
    CHECK_ERRNO(wait(NULL), ECHILD);
    signal(SIGCHLD, SIG_DFL);
}

static void
test_groups(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        pid_t self = getpid(), other;

        if (setsid() != self || getpgrp() != self || getsid(0) != self)
            _exit(1);
        if (setsid() != -1 || errno != EPERM)
            _exit(2);
        if (setpgid(0, 0) != -1 || errno != EPERM)
            _exit(3);
        other = fork();
        if (other == 0)
            for (;;)
                pause();
        if (setpgid(other, other) != 0 || getpgid(other) != other)
            _exit(4);
        if (setpgid(other, 1 << 22) != -1 || errno != EPERM)
            _exit(5);
        if (setpgid(1 << 22, 0) != -1 || errno != ESRCH)
            _exit(6);
        if (setpgid(other, -1) != -1 || errno != EINVAL)
            _exit(7);
        if (kill(-other, SIGTERM) != 0 || waitpid(-other, &status, 0) != other)
            _exit(8);
        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGTERM)
            _exit(9);
        if (kill(-other, 0) != -1 || errno != ESRCH)
            _exit(10);
        _exit(0);
    }
    CHECK_EQ(wait_exit(child), 0);
}

static void
test_vfork(void)
{
    static volatile int shared;
    pid_t child = vfork();

    if (child == 0) {
        shared = 5;
        _exit(6);
    }
    CHECK_EQ(shared, 5); /* the child ran first, in our memory */
    CHECK_EQ(wait_exit(child), 6);
}

static void
test_fork_tree(void)
{
    int depth = 0, status, total = 1;

    fflush(stdout);
    pid_t root = fork();
    if (root == 0) {
        for (depth = 0; depth < 5; depth++) {
            pid_t a = fork();

            if (a == 0) {
                total = 1;
                continue;
            }
            if (waitpid(a, &status, 0) != a || !WIFEXITED(status))
                _exit(0);
            total += WEXITSTATUS(status);
        }
        _exit(total);
    }
    CHECK_EQ(wait_exit(root), 32);
}

static void
test_memory_is_private(void)
{
    volatile int *page =
        mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < 256; i++)
        page[i * 1024] = i;
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 256; i++) {
            if (page[i * 1024] != i)
                _exit(1);
            page[i * 1024] = -i;
        }
        _exit(0);
    }
    CHECK_EQ(wait_exit(child), 0);
    for (int i = 0; i < 256; i++)
        CHECK_EQ(page[i * 1024], i);
    munmap((void *)page, 1 << 20);
}

/* ---- exec ---------------------------------------------------------------------------- */

static int
run_bytes(const void *bytes, size_t n, int *out_errno)
{
    char path[64];
    char *argv[] = {"program", NULL};
    int fd, ends[2], error = 0;

    snprintf(path, sizeof(path), "/tmp/program.%d", (int)getpid());
    fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0755);
    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        return -1;
    close(fd);
    chmod(path, 0755);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        execv(path, argv);
        error = errno;
        (void)!write(ends[1], &error, sizeof(error));
        _exit(99);
    }
    close(ends[1]);
    if (read(ends[0], &error, sizeof(error)) != sizeof(error))
        error = 0;
    close(ends[0]);
    *out_errno = error;
    return wait_exit(child);
}

struct tiny {
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[2];
    unsigned char code[16];
};

/* A program that exits with 55. */
static struct tiny
tiny_program(void)
{
    struct tiny tiny = {
        .header =
            {
                .e_ident = {0x7f, 'E', 'L', 'F', MACHINE_ELF_CLASS, ELFDATA2LSB, EV_CURRENT},
                .e_type = ET_EXEC,
                .e_machine = MACHINE_ELF,
                .e_version = EV_CURRENT,
                .e_entry = 0x400000 + offsetof(struct tiny, code),
                .e_phoff = offsetof(struct tiny, segments),
                .e_ehsize = sizeof(ElfW(Ehdr)),
                .e_phentsize = sizeof(ElfW(Phdr)),
                .e_phnum = 1,
            },
        .segments = {{
            .p_type = PT_LOAD,
            .p_flags = PF_R | PF_X,
            .p_vaddr = 0x400000,
            .p_filesz = sizeof(struct tiny),
            .p_memsz = sizeof(struct tiny),
            .p_align = 4096,
        }},
        .code = {MACHINE_EXIT_55},
    };

    return tiny;
}

static void
expect_exec(const char *what, const struct tiny *tiny, size_t bytes, int wanted_errno)
{
    int error, status = run_bytes(tiny, bytes, &error);

    check_count++;
    /* Linux notices some mistakes only when the old program is gone: then it kills. */
    bool refused = error == wanted_errno || status == 1000 + SIGSEGV || status == 1000 + SIGKILL;
    if (wanted_errno == 0 ? status != 55 : !refused) {
        check_failures++;
        printf("FAIL exec of %s: status %d, errno %d, expected errno %d\n", what, status, error,
               wanted_errno);
    }
}

static void
test_hostile_programs(void)
{
    struct tiny good = tiny_program(), bad;
    static char zeros[8192];
    int error, status;

    expect_exec("a good program", &good, sizeof(good), 0);
#define BAD(text, change)                              \
    do {                                               \
        bad = good;                                    \
        change;                                        \
        expect_exec(text, &bad, sizeof(bad), ENOEXEC); \
    } while (0)
    BAD("the wrong magic", bad.header.e_ident[0] = 0);
    BAD("another machine", bad.header.e_machine = MACHINE_ELF_OTHER);
    BAD("a relocatable file", bad.header.e_type = ET_REL);
    BAD("no program headers", bad.header.e_phnum = 0);
    BAD("very many program headers", bad.header.e_phnum = 65535);
    BAD("odd program headers", bad.header.e_phentsize = 55);
    BAD("program headers beyond the file", bad.header.e_phoff = 1 << 20);
    BAD("program headers at the end of the world", bad.header.e_phoff = ~(uintptr_t)0 - 8);
    BAD("more bytes in the file than in memory", bad.segments[0].p_memsz = 1);
    BAD("a segment in the kernel's half", bad.segments[0].p_vaddr = MACHINE_KERNEL_VA & ~4095ul);
    BAD("a segment that wraps", bad.segments[0].p_memsz = ~(uintptr_t)0 - 4096);
    BAD("a segment out of step with its offset", bad.segments[0].p_vaddr = 0x400010);
    expect_exec("a truncated header", &good, 40, ENOEXEC);
    expect_exec("an empty file", &good, 0, ENOEXEC);
    /* A program that starts in the void is loaded and then dies. */
    bad = good;
    bad.header.e_entry = 0xdead0000;
    status = run_bytes(&bad, sizeof(bad), &error);
    CHECK_EQ(status, 1000 + SIGSEGV);
    bad = good;
    bad.header.e_entry = MACHINE_KERNEL_VA;
    status = run_bytes(&bad, sizeof(bad), &error);
    CHECK_EQ(status, 1000 + SIGSEGV);
    status = run_bytes(zeros, sizeof(zeros), &error);
    CHECK_EQ(error, ENOEXEC);
}

static void
test_scripts(void)
{
    static const char script[] = "#!/bin/sh -e\nexit 21\n", empty[] = "#!\n";
    static const char missing[] = "#!/no/such/interpreter\n";
    char loop[64];
    int error, n = snprintf(loop, sizeof(loop), "#!/tmp/program.%d\n", (int)getpid());

    CHECK_EQ(run_bytes(script, sizeof(script) - 1, &error), 21);
    (void)run_bytes(empty, sizeof(empty) - 1, &error);
    CHECK_EQ(error, ENOEXEC);
    (void)run_bytes(missing, sizeof(missing) - 1, &error);
    CHECK_EQ(error, ENOENT);
    (void)run_bytes(loop, (size_t)n, &error);
    CHECK_EQ(error, ELOOP);
}

static void
test_exec_errors(void)
{
    size_t most = 32 * (size_t)sysconf(_SC_PAGESIZE); /* of one string, with its end */
    char *argv[] = {"x", NULL}, *big = malloc(most + 1), *argv_big[] = {"x", big, NULL};
    static char *many[70000];

    CHECK_ERRNO(execv("/no/such/file", argv), ENOENT);
    CHECK_ERRNO(execv("/tmp", argv), EACCES);
    CHECK_ERRNO(execv("/dev/null", argv), EACCES);
    CHECK_ERRNO(syscall(SYS_execve, 8, argv, environ), EFAULT);
    CHECK_ERRNO(syscall(SYS_execve, "/bin/sh", 8, environ), EFAULT);
    memset(big, 'a', most);
    big[most] = '\0';
    CHECK_ERRNO(execv("/bin/sh", argv_big), E2BIG);
    for (size_t i = 0; i + 1 < sizeof(many) / sizeof(many[0]); i++)
        many[i] = "0123456789012345678901234567890123456789";
    CHECK_ERRNO(execv("/bin/sh", many), E2BIG);
    free(big);
    int fd = open("/tmp/noexec", O_CREAT | O_WRONLY, 0644);
    close(fd);
    CHECK_ERRNO(execv("/tmp/noexec", argv), EACCES);
}

/* What the new program finds: arguments, environment, auxiliary vector. */
static void
test_exec_arguments(void)
{
    char *argv[] = {"processes", "check-arguments", "", "with space", NULL};
    char *envp[] = {"A=1", "EMPTY=", NULL};
    pid_t child = fork();

    if (child == 0) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        if (fd != 9)
            fcntl(fd, F_DUPFD_CLOEXEC, 9);
        signal(SIGUSR1, SIG_IGN);
        signal(SIGUSR2, count_hit);
        execve("/proc/self/exe", argv, envp);
        _exit(98);
    }
    CHECK_EQ(wait_exit(child), 43);
}

static int
check_arguments(int argc, char **argv)
{
    struct sigaction action;

    if (argc != 4 || strcmp(argv[2], "") != 0 || strcmp(argv[3], "with space") != 0)
        return 1;
    if (getenv("A") == NULL || strcmp(getenv("A"), "1") != 0 || getenv("EMPTY") == NULL ||
        getenv("HOME") != NULL)
        return 2;
    if (fcntl(9, F_GETFD) != -1)
        return 3;
    sigaction(SIGUSR1, NULL, &action);
    if (action.sa_handler != SIG_IGN)
        return 4;
    sigaction(SIGUSR2, NULL, &action);
    if (action.sa_handler != SIG_DFL)
        return 5;
    return 43;
}

/* ---- limits, clocks, timers ------------------------------------------------------------ */

static void
test_limits(void)
{
    struct rlimit limit, old;
    pid_t child;

    CHECK_EQ(getrlimit(RLIMIT_STACK, &limit), 0);
    CHECK_EQ(limit.rlim_cur, 8 << 20);
    CHECK_ERRNO(syscall(SYS_prlimit64, 0, 99, NULL, &limit), EINVAL);
    CHECK_ERRNO(syscall(SYS_prlimit64, 1 << 22, 0, NULL, &limit), ESRCH);
    limit.rlim_cur = 2;
    limit.rlim_max = 1;
    CHECK_ERRNO(setrlimit(RLIMIT_CPU, &limit), EINVAL);
    child = fork();
    if (child == 0) {
        getrlimit(RLIMIT_AS, &old);
        limit = (struct rlimit){64 << 20, old.rlim_max};
        if (setrlimit(RLIMIT_AS, &limit) != 0)
            _exit(1);
        if (mmap(NULL, 256 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED ||
            errno != ENOMEM)
            _exit(2);
        limit = (struct rlimit){5, 5};
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            _exit(3);
        while (dup(0) >= 0)
            ;
        _exit(errno == EMFILE ? 0 : 4);
    }
    CHECK_EQ(wait_exit(child), 0);
    child = fork();
    if (child == 0) {
        limit = (struct rlimit){1, 60};
        setrlimit(RLIMIT_CPU, &limit);
        for (;;)
            ;
    }
    CHECK_EQ(wait_exit(child), 1000 + SIGXCPU);
}

static void
test_clocks(void)
{
    struct timespec a, b, wish = {.tv_nsec = 30000000};
    struct timeval day;
    struct tms ticks;

    CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &a), 0);
    CHECK_EQ(nanosleep(&wish, NULL), 0);
    CHECK_EQ(clock_gettime(CLOCK_MONOTONIC, &b), 0);
    long passed = (b.tv_sec - a.tv_sec) * 1000000000L + b.tv_nsec - a.tv_nsec;
    CHECK(passed >= 30000000 && passed < 2000000000L);
    CHECK_ERRNO(syscall(SYS_clock_gettime, 77, &a), EINVAL);
    CHECK_ERRNO(syscall(SYS_clock_gettime, 0, (void *)8), EFAULT);
    wish.tv_nsec = 1000000000;
    CHECK_ERRNO(syscall(SYS_nanosleep, &wish, NULL), EINVAL);
    CHECK_EQ(gettimeofday(&day, NULL), 0);
    CHECK(day.tv_sec > 1600000000);
    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a), 0);
    for (volatile int i = 0; i < 3000000; i++)
        ;
    CHECK_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b), 0);
    CHECK(b.tv_sec > a.tv_sec || b.tv_nsec > a.tv_nsec);
    CHECK(times(&ticks) != (clock_t)-1);
    clock_gettime(CLOCK_MONOTONIC, &a);
    a.tv_nsec += 10000000;
    a.tv_sec += a.tv_nsec / 1000000000;
    a.tv_nsec %= 1000000000;
    CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &a, NULL), 0);
    CHECK_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &a, NULL), EINVAL);
}

static void
test_timers(void)
{
    struct itimerval every = {.it_interval = {.tv_usec = 10000}, .it_value = {.tv_usec = 10000}};
    struct itimerval off = {0}, seen;
    struct itimerspec soon = {.it_value = {.tv_nsec = 10000000},
                              .it_interval = {.tv_nsec = 5000000}};
    struct sigevent event = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value = {.sival_int = 31}};
    timer_t timer;
    sigset_t set, old;
    siginfo_t info;

    signal(SIGALRM, count_hit);
    hits = 0;
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
    while (hits < 3)
        pause();
    CHECK_EQ(setitimer(ITIMER_REAL, &off, &seen), 0);
    CHECK_EQ(seen.it_interval.tv_usec, 10000);
    CHECK_EQ(alarm(100), 0);
    CHECK_EQ(alarm(0), 100);
    CHECK_ERRNO(setitimer(7, &every, NULL), EINVAL);

    signal(SIGVTALRM, count_hit);
    hits = 0;
    setitimer(ITIMER_VIRTUAL, &every, NULL);
    while (hits < 2)
        ;
    setitimer(ITIMER_VIRTUAL, &off, NULL);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    CHECK_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQ(timer_settime(timer, 0, &soon, NULL), 0);
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_EQ(info.si_code, SI_TIMER);
    CHECK_EQ(info.si_value.sival_int, 31);
    usleep(40000);
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK(timer_getoverrun(timer) >= 2);
    CHECK_EQ(timer_gettime(timer, &soon), 0);
    CHECK_EQ(timer_delete(timer), 0);
    CHECK(timer_delete(timer) != 0);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void
test_identity(void)
{
    struct utsname name;
    char comm[16] = {0};
    pid_t child;

    CHECK_EQ(uname(&name), 0);
    CHECK(strcmp(name.sysname, "Linux") == 0 && strcmp(name.machine, MACHINE_NAME) == 0);
    CHECK_EQ(prctl(PR_SET_NAME, "new-name", 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_GET_NAME, comm, 0, 0, 0), 0);
    CHECK(strcmp(comm, "new-name") == 0);
    CHECK_ERRNO(prctl(12345, 0, 0, 0, 0), EINVAL);
    CHECK_EQ(getuid(), 0);
    child = fork();
    if (child == 0) {
        uid_t r, e, s;

        if (setresuid(1000, 1000, 1000) != 0 || getresuid(&r, &e, &s) != 0 || r != 1000 ||
            e != 1000)
            _exit(1);
        if (setuid(0) != -1 || errno != EPERM)
            _exit(2);
        if (kill(1, SIGTERM) != -1 || errno != EPERM)
            _exit(3);
        if (setpriority(PRIO_PROCESS, 0, -5) != -1 || errno != EACCES)
            _exit(4);
        _exit(0);
    }
    CHECK_EQ(wait_exit(child), 0);
    CHECK_EQ(setpriority(PRIO_PROCESS, 0, 5), 0);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
    CHECK_EQ(setpriority(PRIO_PROCESS, 0, 0), 0);
}

static void
test_death_signal(void)
{
    int ends[2];
    char c;
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            (void)!write(ends[1], "x", 1);
            for (;;)
                pause();
        }
        (void)!read(ends[0], &c, 1);
        _exit(0);
    }
    CHECK_EQ(wait_exit(child), 0);
    close(ends[1]);
    CHECK_EQ(read(ends[0], &c, 1), 0); /* the grandchild's end is closed: it died */
    close(ends[0]);
}

static void
test_many_forks(void)
{
    for (int i = 0; i < 300; i++) {
        pid_t child = fork();

        if (child == 0)
            _exit(i & 127);
        if (child < 0 || wait_exit(child) != (i & 127)) {
            CHECK(!"fork");
            break;
        }
    }
    pid_t children[100];
    for (int i = 0; i < 100; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            usleep(5000);
            _exit(i);
        }
    }
    for (int i = 99; i >= 0; i--)
        CHECK_EQ(wait_exit(children[i]), i);
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "check-arguments") == 0)
        return check_arguments(argc, argv);
    test_wait();
    test_reparent();
    test_auto_reap();
    test_groups();
    test_vfork();
    test_fork_tree();
    test_memory_is_private();
    test_hostile_programs();
    test_scripts();
    test_exec_errors();
    test_exec_arguments();
    test_limits();
    test_clocks();
    test_timers();
    test_identity();
    test_death_signal();
    test_many_forks();
    return check_done("processes");
}
