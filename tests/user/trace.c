/* SPDX-License-Identifier: MIT */
/*
 * ptrace: one process looks into another and lets it go on step by step.
 */
#include <elf.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

#include "check.h"

enum { EVENT_EXEC = 4, EVENT_STOPPED = 128, SEIZE = 0x4206, INTERRUPT = 0x4207, LISTEN = 0x4208 };

enum { PEEKSIGINFO = 0x4209 };

static volatile long private_word = 41;
static const volatile long constant_word = 7;

/* glibc and musl declare ptrace() differently; the call is the same. */
static long
trace(long request, pid_t pid, const void *address, const void *data)
{
    return syscall(SYS_ptrace, request, (long)pid, address, data);
}

static int
wait_status(pid_t pid)
{
    int status = 0;

    CHECK_EQ(waitpid(pid, &status, __WALL), pid);
    return status;
}

#define CHECK_STOP(pid, code)                 \
    do {                                      \
        int check_status_ = wait_status(pid); \
        CHECK(WIFSTOPPED(check_status_));     \
        CHECK_EQ(check_status_ >> 8, (code)); \
    } while (0)

#define CHECK_EXIT(pid, code)                         \
    do {                                              \
        int check_status_ = wait_status(pid);         \
        CHECK(WIFEXITED(check_status_));              \
        CHECK_EQ(WEXITSTATUS(check_status_), (code)); \
    } while (0)

static void
go_on(pid_t pid, long request, long number)
{
    CHECK_EQ(trace(request, pid, NULL, (void *)number), 0);
}

static long
peek(pid_t pid, const volatile void *address)
{
    long word = 0;

    CHECK_EQ(trace(PTRACE_PEEKDATA, pid, (const void *)address, &word), 0);
    return word;
}

/* A child that is traced and has stopped by SIGSTOP. */
static pid_t
traced_child(void (*body)(void))
{
    pid_t pid = fork();

    if (pid == 0) {
        if (trace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(99);
        raise(SIGSTOP);
        body();
        _exit(98);
    }
    CHECK_STOP(pid, SIGSTOP);
    return pid;
}

/* ---- memory: reads and writes go through copy-on-write -------------------------- */

static long *shared_words, *locked_words;

static void
tell_words(void)
{
    bool good = private_word == 43 && constant_word == 8 && shared_words[0] == 5;

    _exit(good ? (int)locked_words[0] : 1);
}

static void
test_memory(void)
{
    long page = check_page();
    char name[] = "/tmp/trace-XXXXXX";
    int fd = mkstemp(name);

    CHECK_EQ(ftruncate(fd, page), 0);
    shared_words = mmap(NULL, (size_t)page, PROT_READ, MAP_SHARED, fd, 0);
    locked_words = mmap(NULL, (size_t)page, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(shared_words != MAP_FAILED && locked_words != MAP_FAILED);
    pid_t pid = traced_child(tell_words);

    CHECK_EQ(peek(pid, &private_word), 41);
    CHECK_EQ(trace(PTRACE_POKEDATA, pid, (const void *)&private_word, (void *)43), 0);
    CHECK_EQ(peek(pid, &private_word), 43);
    CHECK_EQ(private_word, 41);
    /* Text and constants of the program, which nobody may write: a copy of the page's. */
    CHECK_EQ(trace(PTRACE_POKETEXT, pid, (const void *)&constant_word, (void *)8), 0);
    CHECK_EQ(peek(pid, &constant_word), 8);
    CHECK_EQ(constant_word, 7);
    /* A private page of a file gets a copy; a shared one that may not be written is refused. */
    CHECK_EQ(trace(PTRACE_POKEDATA, pid, locked_words, (void *)77), 0);
    CHECK_EQ(locked_words[0], 0);
    CHECK_ERRNO(trace(PTRACE_POKEDATA, pid, shared_words, (void *)9), EIO);
    long five = 5;

    CHECK_EQ(pwrite(fd, &five, sizeof(five), 0), sizeof(five));
    CHECK_EQ(peek(pid, shared_words), 5);
    CHECK_EQ(peek(pid, locked_words), 77);
    CHECK_ERRNO(trace(PTRACE_PEEKDATA, pid, (void *)16, &five), EIO);
    CHECK_ERRNO(trace(PTRACE_POKEDATA, pid, (void *)16, NULL), EIO);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_EXIT(pid, 77);
    munmap(shared_words, (size_t)page);
    munmap(locked_words, (size_t)page);
    close(fd);
    unlink(name);
}

/* ---- signals -------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void
note_signal(int number)
{
    caught = caught * 100 + number;
}

static void
raise_some(void)
{
    signal(SIGUSR1, note_signal);
    signal(SIGUSR2, note_signal);
    signal(SIGURG, SIG_IGN);
    raise(SIGUSR1); /* dropped */
    raise(SIGUSR1); /* becomes SIGUSR2 */
    raise(SIGURG);  /* seen although it is ignored */
    raise(SIGUSR1); /* taken */
    _exit(caught == SIGUSR2 * 100 + SIGUSR1 ? 0 : 1);
}

static void
test_signals(void)
{
    pid_t pid = traced_child(raise_some);
    siginfo_t info;

    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGUSR1);
    CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, NULL, &info), 0);
    CHECK_EQ(info.si_signo, SIGUSR1);
    CHECK_EQ(info.si_code, SI_TKILL);
    CHECK_EQ(info.si_pid, pid);
    CHECK_ERRNO(trace(PTRACE_CONT, pid, NULL, (void *)1000), EIO);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGUSR1);
    go_on(pid, PTRACE_CONT, SIGUSR2);
    CHECK_STOP(pid, SIGURG);
    go_on(pid, PTRACE_CONT, SIGURG);
    CHECK_STOP(pid, SIGUSR1);
    go_on(pid, PTRACE_CONT, SIGUSR1);
    CHECK_EXIT(pid, 0);
}

/* What waits for a thread, and for its process, without being taken. */
static void
wait_with_signals(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    raise(SIGUSR1); /* for the thread */
    raise(SIGRTMIN);
    raise(SIGRTMIN);
    kill(getpid(), SIGUSR2); /* for the process */
    kill(getpid(), SIGSTOP);
    _exit(7);
}

static void
test_peek_signals(void)
{
    struct {
        uint64_t first;
        uint32_t flags;
        int32_t count;
    } peek = {0, 0, 4};
    pid_t pid = traced_child(wait_with_signals);
    siginfo_t infos[4];

    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGSTOP);
    CHECK_EQ(trace(PEEKSIGINFO, pid, &peek, infos), 3);
    CHECK_EQ(infos[0].si_signo, SIGUSR1);
    CHECK_EQ(infos[0].si_code, SI_TKILL);
    CHECK_EQ(infos[1].si_signo, SIGRTMIN);
    CHECK_EQ(infos[2].si_signo, SIGRTMIN);
    CHECK_EQ(infos[2].si_pid, pid);
    peek.first = 2;
    CHECK_EQ(trace(PEEKSIGINFO, pid, &peek, infos), 1);
    CHECK_EQ(infos[0].si_signo, SIGRTMIN);
    peek.first = 3;
    CHECK_EQ(trace(PEEKSIGINFO, pid, &peek, infos), 0);
    peek.first = UINT64_MAX;
    CHECK_EQ(trace(PEEKSIGINFO, pid, &peek, infos), 0);
    peek.first = 0;
    peek.flags = 1;
    CHECK_EQ(trace(PEEKSIGINFO, pid, &peek, infos), 1);
    CHECK_EQ(infos[0].si_signo, SIGUSR2);
    CHECK_EQ(infos[0].si_code, SI_USER);
    CHECK_ERRNO(trace(PEEKSIGINFO, pid, &peek, (void *)8), EFAULT);
    CHECK_ERRNO(trace(PEEKSIGINFO, pid, (void *)8, infos), EFAULT);
    peek.flags = 2;
    CHECK_ERRNO(trace(PEEKSIGINFO, pid, &peek, infos), EINVAL);
    peek.flags = 0;
    peek.count = -1;
    CHECK_ERRNO(trace(PEEKSIGINFO, pid, &peek, infos), EINVAL);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_EXIT(pid, 7); /* nothing was taken, and all of it is blocked */
}

/* ---- system calls and registers ---------------------------------------------------- */

static void
call_some(void)
{
    errno = 0;
    long id = syscall(SYS_getppid);

    _exit(id == 1234 ? 0 : 1);
}

/* The register that holds a call's result, as an index of longs. */
#if defined(__x86_64__)
enum { REGISTER_RESULT = 10 };
#elif defined(__i386__)
enum { REGISTER_RESULT = 6 };
#elif defined(__riscv)
enum { REGISTER_RESULT = 10 };
#else
enum { REGISTER_RESULT = 0 };
#endif

static size_t
registers(pid_t pid, long request, unsigned long *words, size_t count)
{
    struct iovec piece = {words, count * sizeof(*words)};

    CHECK_EQ(trace(request, pid, (void *)NT_PRSTATUS, &piece), 0);
    return piece.iov_len / sizeof(*words);
}

static void
test_system_calls(void)
{
    unsigned long words[64];
    siginfo_t info;
    pid_t pid = traced_child(call_some);

    CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_TRACESYSGOOD), 0);
    CHECK_ERRNO(trace(PTRACE_SETOPTIONS, pid, NULL, (void *)0x8000000), EINVAL);
    go_on(pid, PTRACE_SYSCALL, 0);
    /* The end of raise(), perhaps; then the call itself. */
    for (unsigned i = 0; i < 20; i++) {
        struct {
            uint8_t op, pad[3];
            uint32_t arch;
            uint64_t ip, sp, number, arguments[6];
        } call;

        CHECK_STOP(pid, SIGTRAP | 0x80);
        CHECK(trace(0x420e, pid, (void *)sizeof(call), &call) > 0);
        if (call.op == 1 && call.number == SYS_getppid)
            break;
        go_on(pid, PTRACE_SYSCALL, 0);
    }
    CHECK_EQ(trace(PTRACE_GETSIGINFO, pid, NULL, &info), 0);
    CHECK_EQ(info.si_code, SIGTRAP | 0x80);
    go_on(pid, PTRACE_SYSCALL, 0);
    CHECK_STOP(pid, SIGTRAP | 0x80);
    size_t count = registers(pid, PTRACE_GETREGSET, words, 64);

    CHECK_EQ(words[REGISTER_RESULT], getpid());
    words[REGISTER_RESULT] = 1234;
    CHECK_EQ(registers(pid, PTRACE_SETREGSET, words, count), count);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_EXIT(pid, 0);
}

/* ---- one instruction at a time ------------------------------------------------------- */

static void
spin_forever(void)
{
    for (;;)
        private_word++;
}

static void
test_stepping(void)
{
    pid_t pid = traced_child(spin_forever);
    bool steps = trace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0;

#ifdef __riscv
    CHECK(!steps);
#else
    unsigned long before[64], after[64];
    unsigned moved = 0;

    CHECK(steps);
    CHECK_STOP(pid, SIGTRAP);
    for (unsigned i = 0; i < 50; i++) {
        size_t count = registers(pid, PTRACE_GETREGSET, before, 64);

        go_on(pid, PTRACE_SINGLESTEP, 0);
        CHECK_STOP(pid, SIGTRAP);
        CHECK_EQ(registers(pid, PTRACE_GETREGSET, after, 64), count);
        moved += memcmp(before, after, count * sizeof(long)) != 0;
    }
    CHECK_EQ(moved, 50);
#endif
    CHECK_EQ(kill(pid, SIGKILL), 0);
    int status = wait_status(pid);

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- events ---------------------------------------------------------------------------- */

static void
fork_once(void)
{
    pid_t child = fork();
    int status;

    if (child == 0)
        _exit(3);
    waitpid(child, &status, 0);
    _exit(WEXITSTATUS(status));
}

static void
test_fork_events(void)
{
    pid_t pid = traced_child(fork_once);
    unsigned long child = 0, status = 0;

    CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, NULL,
                   (void *)(PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT)),
             0);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGTRAP | PTRACE_EVENT_FORK << 8);
    CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, NULL, &child), 0);
    CHECK_STOP((pid_t)child, SIGSTOP);
    go_on((pid_t)child, PTRACE_CONT, 0);
    CHECK_STOP((pid_t)child, SIGTRAP | PTRACE_EVENT_EXIT << 8);
    CHECK_EQ(trace(PTRACE_GETEVENTMSG, (pid_t)child, NULL, &status), 0);
    CHECK_EQ(status, 3 << 8);
    go_on((pid_t)child, PTRACE_CONT, 0);
    CHECK_EXIT((pid_t)child, 3); /* its tracer first, then its parent */
    go_on(pid, PTRACE_CONT, 0);
    for (int status_now = wait_status(pid);; status_now = wait_status(pid)) {
        if (WIFEXITED(status_now)) {
            CHECK_EQ(WEXITSTATUS(status_now), 3);
            break;
        }
        CHECK(WIFSTOPPED(status_now));
        if (!WIFSTOPPED(status_now))
            break;
        go_on(pid, PTRACE_CONT, status_now >> 16 ? 0 : WSTOPSIG(status_now));
    }
}

static char *self_name;

static void
exec_self(void)
{
    execl(self_name, self_name, "exit5", NULL);
    _exit(97);
}

static void
test_exec(void)
{
    pid_t pid = traced_child(exec_self);
    unsigned long number = 0;

    CHECK_EQ(trace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_TRACEEXEC), 0);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGTRAP | EVENT_EXEC << 8);
    CHECK_EQ(trace(PTRACE_GETEVENTMSG, pid, NULL, &number), 0);
    CHECK_EQ(number, pid);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_EXIT(pid, 5);
    pid = traced_child(exec_self); /* without the option: a signal */
    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGTRAP);
    CHECK_EQ(trace(PTRACE_DETACH, pid, NULL, NULL), 0);
    CHECK_EXIT(pid, 5);
}

/* ---- coming and going -------------------------------------------------------------------- */

static pid_t
plain_child(void)
{
    pid_t pid = fork();

    if (pid == 0) {
        for (;;)
            pause();
    }
    return pid;
}

static void
end_child(pid_t pid)
{
    CHECK_EQ(kill(pid, SIGKILL), 0);
    int status = wait_status(pid);

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void
test_attach(void)
{
    pid_t pid = plain_child();
    long word;

    CHECK_ERRNO(trace(PTRACE_PEEKDATA, pid, (const void *)&private_word, &word), ESRCH);
    CHECK_ERRNO(trace(PTRACE_ATTACH, getpid(), NULL, NULL), EPERM);
    CHECK_ERRNO(trace(PTRACE_ATTACH, 32000, NULL, NULL), ESRCH);
    CHECK_EQ(trace(PTRACE_ATTACH, pid, NULL, NULL), 0);
    CHECK_ERRNO(trace(PTRACE_ATTACH, pid, NULL, NULL), EPERM);
    CHECK_STOP(pid, SIGSTOP);
    CHECK_EQ(peek(pid, &private_word), 41);
    CHECK_ERRNO(trace(INTERRUPT, pid, NULL, NULL), EIO);
    CHECK_EQ(trace(PTRACE_DETACH, pid, NULL, NULL), 0);
    CHECK_ERRNO(trace(PTRACE_PEEKDATA, pid, (const void *)&private_word, &word), ESRCH);
    end_child(pid);
}

static void
test_seize(void)
{
    pid_t pid = plain_child();

    CHECK_ERRNO(trace(SEIZE, pid, (void *)8, NULL), EIO);
    CHECK_EQ(trace(SEIZE, pid, NULL, NULL), 0);
    CHECK_EQ(trace(INTERRUPT, pid, NULL, NULL), 0);
    CHECK_STOP(pid, SIGTRAP | EVENT_STOPPED << 8);
    CHECK_ERRNO(trace(0x9999, pid, NULL, NULL), EIO);
    go_on(pid, PTRACE_CONT, 0);
    /* A group stop is seen as one, and listening leaves it as it is. */
    CHECK_EQ(kill(pid, SIGSTOP), 0);
    CHECK_STOP(pid, SIGSTOP);
    go_on(pid, PTRACE_CONT, SIGSTOP);
    CHECK_STOP(pid, SIGSTOP | EVENT_STOPPED << 8);
    go_on(pid, LISTEN, 0);
    CHECK_EQ(kill(pid, SIGCONT), 0);
    CHECK_STOP(pid, SIGTRAP | EVENT_STOPPED << 8);
    go_on(pid, PTRACE_CONT, 0);
    CHECK_STOP(pid, SIGCONT);
    CHECK_EQ(trace(PTRACE_DETACH, pid, NULL, (void *)SIGCONT), 0);
    end_child(pid);
}

/* A tracer that ends lets its children go, or takes them along. */
static void
test_exitkill(void)
{
    pid_t pid = plain_child(), tracer = fork();

    if (tracer == 0) {
        int status;

        if (trace(SEIZE, pid, NULL, (void *)PTRACE_O_EXITKILL) != 0)
            _exit(1);
        if (trace(INTERRUPT, pid, NULL, NULL) != 0 || waitpid(pid, &status, __WALL) != pid)
            _exit(2);
        _exit(0);
    }
    CHECK_EXIT(tracer, 0);
    int status = wait_status(pid);

    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int
main(int argc, char **argv)
{
    if (argc > 1)
        return 5;
    self_name = argv[0];
    setvbuf(stdout, NULL, _IONBF, 0);
    test_memory();
    test_signals();
    test_peek_signals();
    test_system_calls();
    test_stepping();
    test_fork_events();
    test_exec();
    test_attach();
    test_seize();
    test_exitkill();
    return check_done("trace");
}
