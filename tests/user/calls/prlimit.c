/* SPDX-License-Identifier: MIT */
/*
 * prlimit(2): its errors, and where the limits of memory, files and processes are felt; those of one
 * call stand with that call.
 */
#include "calls.h"

#define RW   (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

/* No stack grows past its limit, whoever made it; nor past that of all memory. */
static void
stacks(void)
{
    struct rlimit stack = {16 * (rlim_t)page, RLIM_INFINITY}, space = {0, RLIM_INFINITY};
    long top = ARENA - 0x1000000;

    EXPECT(call(NR_MMAP, top - page, page, RW, ANON | MAP_GROWSDOWN | MAP_FIXED, -1, 0),
           top - page);
    EXPECT(setrlimit(RLIMIT_STACK, &stack), 0);
    EXPECT(touch(top - 17 * page, TOUCH_WRITE), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(touch(top - 16 * page, TOUCH_WRITE), 0);
    stack.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_STACK, &stack), 0);
    space.rlim_cur = (rlim_t)(status_kib("VmSize:") * 1024 + 4 * page);
    EXPECT(setrlimit(RLIMIT_AS, &space), 0);
    EXPECT(touch(top - 21 * page, TOUCH_WRITE), RAISED(SIGSEGV, SEGV_MAPERR));
    EXPECT(touch(top - 20 * page, TOUCH_WRITE), 0);
}

static volatile int too_large;

static void
count_signal(int number)
{
    too_large += number == SIGXFSZ;
}

static void
files(void)
{
    struct rlimit size = {1000, RLIM_INFINITY};
    int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    char text[64] = {0};

    EXPECT(fd >= 0, true);
    EXPECT(ftruncate(fd, 3000), 0);
    signal(SIGXFSZ, count_signal);
    EXPECT(setrlimit(RLIMIT_FSIZE, &size), 0);
    EXPECT(pwrite(fd, text, 64, 980), 20); /* up to the limit */
    EXPECT(too_large, 0);
    EXPECT(pwrite(fd, text, 64, 1000), -1);
    EXPECT(errno == EFBIG && too_large == 1, true);
    EXPECT(pwrite(fd, text, 0, 1000), 0);
    EXPECT(ftruncate(fd, 3001), -1);
    EXPECT(errno == EFBIG && too_large == 2, true);
    EXPECT(ftruncate(fd, 2000), 0); /* what shrinks may be longer still */
    EXPECT(ftruncate(fd, 1000), 0);
    EXPECT(ftruncate(fd, 1001), -1);
    EXPECT(too_large, 3);
    signal(SIGXFSZ, SIG_DFL);
    EXPECT(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}), 0);
    (void)!pwrite(fd, text, 64, 1000);
    _exit(99);
}

/* @return the error that executing the program with so many arguments of @bytes ends in, 0 for none */
static int
arguments(int count, size_t bytes)
{
    char **list = calloc((size_t)count + 2, sizeof(*list)), *text = malloc(bytes), *none[] = {NULL};
    int status = -1;
    pid_t child;

    memset(text, 'x', bytes);
    text[bytes - 1] = '\0';
    list[0] = "true";
    for (int i = 1; i <= count; i++)
        list[i] = text;
    child = vfork();
    if (child == 0) {
        execve("/bin/true", list, none);
        _exit(errno);
    }
    EXPECT(waitpid(child, &status, 0), child);
    free(list);
    free(text);
    return WEXITSTATUS(status);
}

/* Arguments and pointers to them: a quarter of the stack's limit, but 128 KiB at least and 6 MiB at most. */
static void
strings(void)
{
    const size_t longest = (size_t)(32 * page);
    struct rlimit stack = {8 << 20, RLIM_INFINITY};

    EXPECT(setrlimit(RLIMIT_STACK, &stack), 0);
    EXPECT(arguments(20, 100000), 0);
    EXPECT(arguments(21, 100000), E2BIG);
    EXPECT(arguments(100000, 2), 0);
    stack.rlim_cur = RLIM_INFINITY;
    EXPECT(setrlimit(RLIMIT_STACK, &stack), 0);
    EXPECT(arguments(1, longest), 0);
    EXPECT(arguments(1, longest + 1), E2BIG);
    EXPECT(arguments(62, 100000), 0);
    EXPECT(arguments(63, 100000), E2BIG);
    stack.rlim_cur = 256 << 10;
    EXPECT(setrlimit(RLIMIT_STACK, &stack), 0);
    EXPECT(arguments(1, 100000), 0);
    EXPECT(arguments(1, 132000), E2BIG);
    stack.rlim_cur = 4096;
    EXPECT(setrlimit(RLIMIT_STACK, &stack), 0);
    EXPECT(arguments(1, 1000), 0);
    EXPECT(arguments(32, 4000), E2BIG);
}

/* None at all is for the break alone, as Linux has it for programs that go by another one. */
static void
no_data(void)
{
    struct rlimit data = {0, RLIM_INFINITY};

    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(is_error(call(NR_MMAP, 0, page, RW, ANON, -1, 0)), false);
    data.rlim_max = 0;
    EXPECT(setrlimit(RLIMIT_DATA, &data), 0);
    EXPECT(call(NR_MMAP, 0, page, RW, ANON, -1, 0), -ENOMEM);
}

/* So many processes of one user, not of the machine. */
static void
processes(void)
{
    struct rlimit count = {1, 2};
    int status;

    EXPECT(syscall(SYS_setresuid, 54321, 54321, 54321), 0);
    EXPECT(setrlimit(RLIMIT_NPROC, &count), 0);
    EXPECT(fork(), -1);
    EXPECT(errno, EAGAIN);
    count.rlim_cur = 2;
    EXPECT(setrlimit(RLIMIT_NPROC, &count), 0);
    pid_t child = fork();
    if (child == 0)
        _exit(fork() == -1 && errno == EAGAIN ? 5 : 6);
    EXPECT(child > 0, true);
    EXPECT(waitpid(child, &status, 0), child);
    EXPECT(WEXITSTATUS(status), 5);
}

static void
unprivileged(void)
{
    static struct rlimit64 higher;

    EXPECT(getrlimit64(RLIMIT_NPROC, &higher), 0);
    higher.rlim_cur = higher.rlim_max = 5;
    EXPECT(setrlimit64(RLIMIT_NPROC, &higher), 0);
    become_nobody();
    higher.rlim_max = 6; /* a hard limit goes down alone */
    const struct row rows[] = {
        {"raise a hard limit", SYS_prlimit64, {0, RLIMIT_NPROC, (long)&higher, 0}, -EPERM, 0},
        {"somebody else's", SYS_prlimit64, {1, RLIMIT_DATA, 0, 0}, -EPERM, 0},
        {"change somebody else's", SYS_prlimit64, {1, RLIMIT_DATA, (long)&higher, 0}, -EPERM, 0},
    };
    RUN(rows);
}

static const struct documented documented[] = {
    {EFAULT, NULL},
    {EINVAL, NULL},
    {EPERM, NULL},
    {ESRCH, NULL},
};

CALL(prlimit, SYS_prlimit64, documented)
{
    static struct rlimit64 good, crossed = {2, 1}, much = {1ull << 40, 1ull << 40};
    int status;

    EXPECT(getrlimit64(RLIMIT_DATA, &good), 0);
    const struct row rows[] = {
        {"no such limit", SYS_prlimit64, {0, 99, 0, (long)&good}, -EINVAL, 0},
        {"no such limit, negative", SYS_prlimit64, {0, -1, 0, (long)&good}, -EINVAL, 0},
        {"no such process", SYS_prlimit64, {1 << 22, RLIMIT_DATA, 0, (long)&good}, -ESRCH, 0},
        {"no memory for the old", SYS_prlimit64, {0, RLIMIT_DATA, 0, 8}, -EFAULT, 0},
        {"no memory at the new", SYS_prlimit64, {0, RLIMIT_DATA, 8, 0}, -EFAULT, 0},
        {"soft above hard", SYS_prlimit64, {0, RLIMIT_DATA, (long)&crossed, 0}, -EINVAL, 0},
        {"more files than any", SYS_prlimit64, {0, RLIMIT_NOFILE, (long)&much, 0}, -EPERM, 0},
        {"nothing", SYS_prlimit64, {0, RLIMIT_DATA, 0, 0}, 0, 0},
        {"the same again", SYS_prlimit64, {0, RLIMIT_DATA, (long)&good, (long)&good}, 0, 0},
        {"of oneself by number", SYS_prlimit64, {getpid(), RLIMIT_AS, 0, (long)&good}, 0, 0},
    };

    RUN(rows);
    EXPECT(in_child(stacks), 0);
    EXPECT(in_child(strings), 0);
    EXPECT(in_child(no_data), 0);
    status = in_child(files);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ, true);
    EXPECT(in_child(processes), 0);
    EXPECT(in_child(unprivileged), 0);
}
