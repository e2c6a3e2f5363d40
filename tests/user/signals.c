/* SPDX-License-Identifier: MIT */
/*
 * Signals: actions, masks, information, stacks, restarting, faults, stop and continue.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static volatile sig_atomic_t hits;
static siginfo_t last;
static sigjmp_buf escape;
static volatile long last_sp;

static void
count_hit(int number)
{
    (void)number;
    hits++;
}

static void
keep_info(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    hits++;
    last = *info;
    last_sp = (long)__builtin_frame_address(0);
}

static void
keep_and_escape(int number, siginfo_t *info, void *context)
{
    keep_info(number, info, context);
    siglongjmp(escape, 1);
}

static void
handle(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | flags};

    CHECK_EQ(sigaction(number, &action, NULL), 0);
}

static void
test_kill_self(void)
{
    handle(SIGUSR1, keep_info, 0);
    hits = 0;
    CHECK_EQ(kill(getpid(), SIGUSR1), 0);
    CHECK_EQ(hits, 1);
    CHECK_EQ(last.si_signo, SIGUSR1);
    CHECK_EQ(last.si_code, SI_USER);
    CHECK_EQ(last.si_pid, getpid());
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(last.si_code, SI_TKILL);
    union sigval value = {.sival_int = 77};
    CHECK_EQ(sigqueue(getpid(), SIGUSR1, value), 0);
    CHECK_EQ(last.si_code, SI_QUEUE);
    CHECK_EQ(last.si_value.sival_int, 77);
    CHECK_EQ(hits, 3);
}

static void
test_mask(void)
{
    sigset_t set, old, pending;

    signal(SIGUSR1, count_hit);
    signal(SIGUSR2, count_hit);
    hits = 0;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    CHECK_EQ(sigprocmask(SIG_BLOCK, &set, &old), 0);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGUSR2);
    CHECK_EQ(hits, 0);
    CHECK_EQ(sigpending(&pending), 0);
    CHECK(sigismember(&pending, SIGUSR1) && sigismember(&pending, SIGUSR2));
    CHECK_EQ(sigprocmask(SIG_SETMASK, &old, NULL), 0);
    CHECK_EQ(hits, 2); /* ordinary signals are pending once */
    CHECK_ERRNO(sigprocmask(99, &set, NULL), EINVAL);
    /* KILL and STOP cannot be blocked */
    sigfillset(&set);
    sigprocmask(SIG_BLOCK, &set, &old);
    sigprocmask(SIG_SETMASK, &old, &set);
    CHECK(!sigismember(&set, SIGKILL) && !sigismember(&set, SIGSTOP));
}

static int order[16];
static int order_count;

static void
keep_order(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    if (order_count < 16)
        order[order_count++] = info->si_value.sival_int;
}

static void
test_realtime(void)
{
    sigset_t set, old;

    handle(SIGRTMIN, keep_order, 0);
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, &old);
    for (int i = 0; i < 5; i++) {
        union sigval value = {.sival_int = i};

        CHECK_EQ(sigqueue(getpid(), SIGRTMIN, value), 0);
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    CHECK_EQ(order_count, 5);
    for (int i = 0; i < 5; i++)
        CHECK_EQ(order[i], i);
}

static void
test_sigwait(void)
{
    sigset_t set, old;
    siginfo_t info;
    struct timespec soon = {.tv_nsec = 20000000};

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &old);
    CHECK_ERRNO(sigtimedwait(&set, &info, &soon), EAGAIN);
    kill(getpid(), SIGUSR1);
    CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
    CHECK_EQ(info.si_pid, getpid());
    pid_t child = fork();
    if (child == 0)
        _exit(5);
    CHECK_EQ(sigwaitinfo(&set, &info), SIGCHLD);
    CHECK_EQ(info.si_code, CLD_EXITED);
    CHECK_EQ(info.si_status, 5);
    CHECK_EQ(info.si_pid, child);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

static void
test_suspend(void)
{
    sigset_t set, old;
    pid_t child;

    signal(SIGUSR1, count_hit);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    hits = 0;
    child = fork();
    if (child == 0) {
        wait_asleep(getppid());
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    CHECK_ERRNO(sigsuspend(&old), EINTR);
    CHECK_EQ(hits, 1);
    sigprocmask(SIG_BLOCK, NULL, &set);
    CHECK(sigismember(&set, SIGUSR1)); /* the mask is back */
    sigprocmask(SIG_SETMASK, &old, NULL);
    waitpid(child, NULL, 0);
}

static void
test_restart(void)
{
    int ends[2], go[2]; /* go: the first read was interrupted, however late that was */
    char c = 0;
    struct sigaction action = {.sa_handler = count_hit};

    CHECK_EQ(pipe(ends), 0);
    CHECK_EQ(pipe(go), 0);
    for (int restart = 0; restart < 2; restart++) {
        action.sa_flags = restart ? SA_RESTART : 0;
        sigaction(SIGUSR1, &action, NULL);
        hits = 0;
        pid_t child = fork();
        if (child == 0) {
            wait_asleep(getppid());
            kill(getppid(), SIGUSR1);
            if (restart)
                usleep(20000);
            else
                (void)!read(go[0], &c, 1);
            (void)!write(ends[1], "x", 1);
            _exit(0);
        }
        errno = 0;
        long n = read(ends[0], &c, 1);
        CHECK_EQ(hits, 1);
        if (restart) {
            CHECK_EQ(n, 1);
        } else {
            CHECK(n == -1 && errno == EINTR);
            CHECK_EQ(write(go[1], "x", 1), 1);
            CHECK_EQ(read(ends[0], &c, 1), 1);
        }
        while (waitpid(child, NULL, 0) == -1 && errno == EINTR)
            ;
    }
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(go[i]);
    }
}

static void
test_nanosleep(void)
{
    struct timespec wish = {.tv_sec = 20}, left = {0};
    pid_t child;

    signal(SIGUSR1, count_hit);
    child = fork();
    if (child == 0) {
        wait_asleep(getppid());
        kill(getppid(), SIGUSR1);
        _exit(0);
    }
    CHECK_ERRNO(nanosleep(&wish, &left), EINTR);
    CHECK(left.tv_sec < 20 && (left.tv_sec > 0 || left.tv_nsec > 0));
    waitpid(child, NULL, 0);
}

/* A stop and continue in between does not end a nanosleep, nor shorten it. */
static void
test_stop_continue(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct timespec wish = {.tv_sec = 3};

        _exit(nanosleep(&wish, NULL) == 0 ? 9 : 1);
    }
    wait_asleep(child);
    CHECK_EQ(kill(child, SIGSTOP), 0);
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    CHECK_EQ(waitpid(child, &status, WNOHANG | WUNTRACED), 0);
    CHECK_EQ(kill(child, SIGCONT), 0);
    CHECK_EQ(waitpid(child, &status, WCONTINUED), child);
    CHECK(WIFCONTINUED(status));
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
}

static void
test_kill_stopped(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        for (;;)
            pause();
    }
    usleep(10000);
    kill(child, SIGSTOP);
    CHECK_EQ(waitpid(child, &status, WUNTRACED), child);
    CHECK(WIFSTOPPED(status));
    kill(child, SIGKILL);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- faults ---------------------------------------------------------------------- */

static void __attribute__((noinline)) fault_read(volatile char *address)
{
    (void)*address;
}

static void __attribute__((noinline, noipa)) fault_write(volatile char *address)
{
    *address = 1;
}

static void
expect_fault(void (*access)(volatile char *), void *address, int number, int code)
{
    hits = 0;
    memset(&last, 0, sizeof(last));
    if (sigsetjmp(escape, 1) == 0)
        access(address);
    CHECK_EQ(hits, 1);
    CHECK_EQ(last.si_signo, number);
    CHECK_EQ(last.si_code, code);
    CHECK_EQ((long)last.si_addr, (long)address);
}

static void
test_faults(void)
{
    size_t bytes = (size_t)check_page();
    char *page = mmap(NULL, 2 * bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *file_page;
    int fd = (int)syscall(SYS_memfd_create, "faults", 0);

    handle(SIGSEGV, keep_and_escape, SA_NODEFER);
    handle(SIGBUS, keep_and_escape, SA_NODEFER);
    expect_fault(fault_read, (void *)16, SIGSEGV, SEGV_MAPERR);
    expect_fault(fault_write, page + 5, SIGSEGV, SEGV_ACCERR);
    munmap(page + bytes, bytes);
    expect_fault(fault_read, page + bytes + 7, SIGSEGV, SEGV_MAPERR);
    mprotect(page, bytes, PROT_NONE);
    expect_fault(fault_read, page, SIGSEGV, SEGV_ACCERR);
    CHECK(fd >= 0);
    CHECK_EQ(ftruncate(fd, 100), 0);
    file_page = mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(file_page != MAP_FAILED);
    fault_write(file_page + 99);
    expect_fault(fault_write, file_page + bytes, SIGBUS, BUS_ADRERR);
    CHECK_EQ(ftruncate(fd, 0), 0);
    expect_fault(fault_read, file_page, SIGBUS, BUS_ADRERR);
    close(fd);
    munmap(file_page, 2 * bytes);
    munmap(page, bytes);
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
}

#ifdef __x86_64__
static void
test_cpu_faults(void)
{
    static volatile int zero;

    handle(SIGFPE, keep_and_escape, SA_NODEFER);
    handle(SIGILL, keep_and_escape, SA_NODEFER);
    handle(SIGTRAP, keep_and_escape, SA_NODEFER);
    handle(SIGSEGV, keep_and_escape, SA_NODEFER);
    hits = 0;
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("idivl %0" : : "m"(zero), "a"(1), "d"(0));
    CHECK(last.si_signo == SIGFPE && last.si_code == FPE_INTDIV);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("ud2");
    CHECK(last.si_signo == SIGILL && last.si_code == ILL_ILLOPN);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("int3");
    CHECK(last.si_signo == SIGTRAP && last.si_code == SI_KERNEL);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("hlt");
    CHECK(last.si_signo == SIGSEGV && last.si_code == SI_KERNEL);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("movq (%0), %%rax" : : "r"(0x8000000000000000ul) : "rax");
    CHECK(last.si_signo == SIGSEGV && last.si_code == SI_KERNEL);
    CHECK_EQ(hits, 5);
    signal(SIGSEGV, SIG_DFL);
}

/* A handler changes the interrupted registers, floating-point ones included. */
static void
patch_registers(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    double clobber = 3.0;

    (void)number;
    (void)info;
    user->uc_mcontext.gregs[REG_RBX] = 0x1234;
    __asm__ volatile("movsd %0, %%xmm7" : : "m"(clobber) : "xmm7");
    hits++;
}

static void
test_registers(void)
{
    double in = 1.5, out = 0;
    long rbx = 0;

    handle(SIGUSR1, patch_registers, 0);
    hits = 0;
    __asm__ volatile("movsd %[in], %%xmm7\n\t"
                     "movl $0x99, %%ebx\n\t"
                     "syscall\n\t"
                     "movq %%rbx, %[rbx]\n\t"
                     "movsd %%xmm7, %[out]"
                     : [out] "=m"(out), [rbx] "=m"(rbx)
                     : [in] "m"(in), "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)
                     : "rbx", "rcx", "r11", "xmm7", "memory");
    CHECK_EQ(hits, 1);
    CHECK_EQ(rbx, 0x1234);
    CHECK(out == 1.5);
}
#elif defined(__riscv)
static void
test_cpu_faults(void)
{
    static volatile long nowhere;

    handle(SIGILL, keep_and_escape, SA_NODEFER);
    handle(SIGTRAP, keep_and_escape, SA_NODEFER);
    hits = 0;
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("unimp");
    CHECK(last.si_signo == SIGILL && last.si_code == ILL_ILLOPC);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("csrr %0, sstatus" : "=r"(nowhere));
    CHECK(last.si_signo == SIGILL && last.si_code == ILL_ILLOPC);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("ebreak");
    CHECK(last.si_signo == SIGTRAP && last.si_code == TRAP_BRKPT);
    CHECK_EQ(hits, 3);
}

/* A handler changes the interrupted registers, floating-point ones included. */
static void
patch_registers(int number, siginfo_t *info, void *context)
{
    ucontext_t *user = context;
    double patched = 2.5, clobber = 3.0;

    (void)number;
    (void)info;
    user->uc_mcontext.__gregs[REG_S0 + 1] = 0x1234; /* s1 */
    memcpy(&user->uc_mcontext.__fpregs.__d.__f[9], &patched, sizeof(patched));
    __asm__ volatile("fld fs2, %0; fld fs1, %0" : : "m"(clobber) : "fs1", "fs2");
    hits++;
}

static void
test_registers(void)
{
    double in = 1.5, patched = 0, kept = 0;
    long s1 = 0;

    handle(SIGUSR1, patch_registers, 0);
    hits = 0;
    __asm__ volatile(
        "fld fs1, %[in]\n\t"
        "fld fs2, %[in]\n\t"
        "li s1, 0x99\n\t"
        "li a7, %[kill]\n\t"
        "mv a0, %[self]\n\t"
        "li a1, %[signal]\n\t"
        "ecall\n\t"
        "mv %[s1], s1\n\t"
        "fsd fs1, %[patched]\n\t"
        "fsd fs2, %[kept]"
        : [patched] "=m"(patched), [kept] "=m"(kept), [s1] "=r"(s1)
        : [in] "m"(in), [kill] "i"(SYS_kill), [self] "r"((long)getpid()), [signal] "i"(SIGUSR1)
        : "a0", "a1", "a7", "s1", "fs1", "fs2", "memory");
    CHECK_EQ(hits, 1);
    CHECK_EQ(s1, 0x1234);
    CHECK(patched == 2.5);
    CHECK(kept == 1.5);
}
#elif defined(__aarch64__)
static void
test_cpu_faults(void)
{
    handle(SIGILL, keep_and_escape, SA_NODEFER);
    handle(SIGTRAP, keep_and_escape, SA_NODEFER);
    handle(SIGBUS, keep_and_escape, SA_NODEFER);
    hits = 0;
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile(".inst 0"); /* udf */
    CHECK(last.si_signo == SIGILL && last.si_code == ILL_ILLOPC);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("mrs x0, sctlr_el1" : : : "x0");
    CHECK(last.si_signo == SIGILL && last.si_code == ILL_ILLOPC);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("brk #0");
    CHECK(last.si_signo == SIGTRAP && last.si_code == TRAP_BRKPT);
    if (sigsetjmp(escape, 1) == 0)
        __asm__ volatile("br %0" : : "r"(0x400002ul));
    CHECK(last.si_signo == SIGBUS && last.si_code == BUS_ADRALN);
    CHECK_EQ(last.si_addr, 0x400002);
    CHECK_EQ(hits, 4);
    signal(SIGBUS, SIG_DFL);
}

/* The floating-point record of a signal frame, with no reliance on its place. */
static struct fpsimd_context *
frame_vectors(ucontext_t *user)
{
    struct _aarch64_ctx *record = (void *)user->uc_mcontext.__reserved;

    while (record->magic != 0 && record->magic != FPSIMD_MAGIC)
        record = (void *)((char *)record + record->size);
    return record->magic == FPSIMD_MAGIC ? (struct fpsimd_context *)record : NULL;
}

/* A handler changes the interrupted registers, floating-point ones included. */
static void
patch_registers(int number, siginfo_t *info, void *context)
{
    struct fpsimd_context *vectors = frame_vectors(context);
    double patched = 2.5, clobber = 3.0;

    (void)number;
    (void)info;
    ((ucontext_t *)context)->uc_mcontext.regs[19] = 0x1234;
    if (vectors != NULL)
        memcpy(&vectors->vregs[9], &patched, sizeof(patched));
    __asm__ volatile("ldr d8, %0; ldr d9, %0" : : "m"(clobber) : "v8", "v9");
    hits++;
}

static void
test_registers(void)
{
    double in = 1.5, patched = 0, kept = 0;
    long x19 = 0;

    handle(SIGUSR1, patch_registers, 0);
    hits = 0;
    __asm__ volatile(
        "ldr d8, %[in]\n\t"
        "ldr d9, %[in]\n\t"
        "mov x19, #0x99\n\t"
        "mov x8, %[kill]\n\t"
        "mov x0, %[self]\n\t"
        "mov x1, %[signal]\n\t"
        "svc #0\n\t"
        "mov %[x19], x19\n\t"
        "str d8, %[kept]\n\t"
        "str d9, %[patched]"
        : [patched] "=m"(patched), [kept] "=m"(kept), [x19] "=&r"(x19)
        : [in] "m"(in), [kill] "i"(SYS_kill), [self] "r"((long)getpid()), [signal] "i"(SIGUSR1)
        : "x0", "x1", "x8", "x19", "v8", "v9", "memory");
    CHECK_EQ(hits, 1);
    CHECK_EQ(x19, 0x1234);
    CHECK(patched == 2.5);
    CHECK(kept == 1.5);
}
#endif

static void
test_altstack(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)}, old;

    CHECK_EQ(sigaltstack(&alternate, NULL), 0);
    handle(SIGUSR1, keep_info, SA_ONSTACK);
    hits = 0;
    raise(SIGUSR1);
    CHECK_EQ(hits, 1);
    CHECK(last_sp > (long)stack && last_sp < (long)stack + (long)sizeof(stack));
    CHECK_EQ(sigaltstack(NULL, &old), 0);
    CHECK(old.ss_sp == stack && old.ss_size == sizeof(stack) && old.ss_flags == 0);
    alternate.ss_size = 100;
    CHECK_ERRNO(syscall(SYS_sigaltstack, &alternate, NULL), ENOMEM);
    alternate.ss_flags = 77;
    CHECK_ERRNO(syscall(SYS_sigaltstack, &alternate, NULL), EINVAL);
    alternate.ss_flags = SS_DISABLE;
    CHECK_EQ(sigaltstack(&alternate, NULL), 0);
}

static int __attribute__((noinline)) eat_stack(int depth)
{
    volatile char bytes[4096];

    bytes[0] = (char)depth;
    return depth == 1 << 30 ? 0 : eat_stack(depth + 1) + bytes[0];
}

static void
leave_on_altstack(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    _exit(info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR ? 11 : 12);
}

/* A stack that overflows is told on the alternate stack; without one it kills. */
static void
test_stack_overflow(void)
{
    static char stack[65536];
    int status;

    for (int with = 0; with < 2; with++) {
        pid_t child = fork();

        if (child == 0) {
            stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};

            if (with)
                sigaltstack(&alternate, NULL);
            handle(SIGSEGV, leave_on_altstack, SA_ONSTACK);
            _exit(eat_stack(0) & 1);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        if (with)
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 11);
        else
            CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
}

/* Blocked or ignored, a fault still kills. */
static void
test_forced(void)
{
    for (int how = 0; how < 2; how++) {
        int status;
        pid_t child = fork();

        if (child == 0) {
            sigset_t set;

            sigfillset(&set);
            if (how == 0)
                sigprocmask(SIG_BLOCK, &set, NULL);
            else
                signal(SIGSEGV, SIG_IGN);
            fault_write((void *)8);
            _exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
}

static void
test_default_actions(void)
{
    static const int ends[] = {SIGHUP,  SIGINT,  SIGTERM,   SIGALRM, SIGPIPE, SIGUSR1, SIGUSR2,
                               SIGQUIT, SIGABRT, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR,  SIGSTKFLT};
    static const int goes_on[] = {SIGCHLD, SIGCONT, SIGURG, SIGWINCH};
    int status;

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        pid_t child = fork();

        if (child == 0) {
            signal(ends[i], SIG_DFL);
            raise(ends[i]);
            _exit(0);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == ends[i]);
    }
    for (size_t i = 0; i < sizeof(goes_on) / sizeof(goes_on[0]); i++)
        CHECK_EQ(raise(goes_on[i]), 0);
}

static void
test_pipe_signal(void)
{
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    close(ends[0]);
    signal(SIGPIPE, count_hit);
    hits = 0;
    CHECK_ERRNO(write(ends[1], "x", 1), EPIPE);
    CHECK_EQ(hits, 1);
    signal(SIGPIPE, SIG_IGN);
    CHECK_ERRNO(write(ends[1], "x", 1), EPIPE);
    close(ends[1]);
    signal(SIGPIPE, SIG_DFL);
}

static void
test_flags(void)
{
    struct sigaction action = {.sa_handler = count_hit, .sa_flags = SA_RESETHAND};

    sigaction(SIGUSR2, &action, NULL);
    hits = 0;
    raise(SIGUSR2);
    CHECK_EQ(hits, 1);
    sigaction(SIGUSR2, NULL, &action);
    CHECK(action.sa_handler == SIG_DFL);
    CHECK_ERRNO(sigaction(SIGKILL, &action, NULL), EINVAL);
    CHECK_ERRNO(sigaction(65, &action, NULL), EINVAL);
    CHECK_ERRNO(kill(getpid(), 65), EINVAL);
    CHECK_ERRNO(kill(1 << 22, SIGTERM), ESRCH);
    CHECK_EQ(kill(getpid(), 0), 0);
}

/* ppoll's temporary mask lets the signal in, and only there. */
static void
test_ppoll_mask(void)
{
    sigset_t set, old;

    signal(SIGUSR1, count_hit);
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, &old);
    hits = 0;
    raise(SIGUSR1);
    CHECK_EQ(hits, 0);
    CHECK_ERRNO(ppoll(NULL, 0, NULL, &old), EINTR);
    CHECK_EQ(hits, 1);
    sigprocmask(SIG_SETMASK, &old, &set);
    CHECK(sigismember(&set, SIGUSR1));
}

static pthread_t main_thread;

static void *
signal_main(void *argument)
{
    (void)argument;
    wait_asleep(getpid());
    pthread_kill(main_thread, SIGUSR1);
    return NULL;
}

static void
test_thread_directed(void)
{
    pthread_t thread;

    main_thread = pthread_self();
    handle(SIGUSR1, keep_info, 0);
    hits = 0;
    pthread_create(&thread, NULL, signal_main, NULL);
    CHECK_ERRNO(pause(), EINTR);
    CHECK_EQ(hits, 1);
    CHECK_EQ(last.si_code, SI_TKILL);
    pthread_join(thread, NULL);
}

static void
test_core_bit(void)
{
    struct rlimit none = {0, 0};
    int status;
    pid_t child = fork();

    if (child == 0) {
        setrlimit(RLIMIT_CORE, &none);
        abort();
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && !WCOREDUMP(status));
}

int
main(void)
{
    test_kill_self();
    test_mask();
    test_realtime();
    test_sigwait();
    test_suspend();
    test_restart();
    test_nanosleep();
    test_stop_continue();
    test_kill_stopped();
    test_faults();
#if defined(__x86_64__) || defined(__riscv) || defined(__aarch64__)
    test_cpu_faults();
    test_registers();
#endif
    test_altstack();
    test_stack_overflow();
    test_forced();
    test_default_actions();
    test_pipe_signal();
    test_flags();
    test_ppoll_mask();
    test_thread_directed();
    test_core_bit();
    return check_done("signals");
}
