/* SPDX-License-Identifier: MIT */
/*
 * Running a program: up to four processes take turns.
 *
 *   controller --- clone ---> process 0 --- clone(CLONE_PARENT) ---> process 1 ...
 *
 * All are children of the controller, which therefore learns of every death.  Program,
 * position and report lie in memory that all share.  Whoever has the turn executes the
 * calls that are its own, one after the other, and gives the turn on only for the call of
 * another process; so a program of one process switches nothing.  A process that dies
 * while it has the turn (it exits, or a signal that we do not catch kills it) leaves it to
 * the controller.
 *
 * SIGSEGV and SIGBUS of user code are caught, on a stack outside the arena, and are results.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    REPORT_BYTES = 1 << 20,
    LIMIT_SECONDS = 60,
    STACK_BYTES = 65536,
    TURN_CONTROLLER = PROCESSES,
    TURN_END,
};

struct shared {
    uint32_t turn; /* a process, the controller or the end; a futex */
    size_t next;   /* index of the call to execute */
    int pids[PROCESSES];
    uintptr_t break_start;
    struct program program;
    size_t report_bytes;
    char report[REPORT_BYTES];
};

struct totals totals;

static struct shared *shared;
static unsigned self; /* which process of the program this one is */
static volatile sig_atomic_t expired;

/* Descriptors 100 to 103 are read-write A and B, read-only A, write-only A. */
enum { FD_A = 100, FD_B, FD_A_READ, FD_A_WRITE, FD_DIRECTORY, FD_BAD };

/* ---- the report --------------------------------------------------------------- */

void
say(const char *format, ...)
{
    size_t room = REPORT_BYTES - shared->report_bytes;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(shared->report + shared->report_bytes, room, format, args);
    va_end(args);
    if (n > 0)
        shared->report_bytes += (size_t)n < room ? (size_t)n : room - 1;
}

void
say_result(long result)
{
    if (result == -1)
        say(" = -%s", strerrorname_np(errno));
    else
        say(" = %ld", result);
}

void
say_address(uintptr_t address)
{
    uintptr_t start = shared->break_start;

    if (address - ARENA_BASE <= ARENA_BYTES)
        say(" p%lu+0x%lx", (address - ARENA_BASE) / PAGE_BYTES, address % PAGE_BYTES);
    else if (address - start <= BREAK_BYTES)
        say(" b%lu+0x%lx", (address - start) / PAGE_BYTES, address % PAGE_BYTES);
    else if (address < 0x10000 || address > (uintptr_t)-0x10000)
        say(" 0x%lx", address);
    else
        say(" elsewhere");
}

/* ---- what arguments mean --------------------------------------------------------- */

uintptr_t
resolve(uint64_t value)
{
    if (VALUE_TAG(value) == VALUE_ARENA)
        return ARENA_BASE + (uintptr_t)VALUE_OFFSET(value);
    if (VALUE_TAG(value) == VALUE_BREAK)
        return shared->break_start + (uintptr_t)VALUE_OFFSET(value);
    return (uintptr_t)value;
}

uintptr_t
break_start(void)
{
    return shared->break_start;
}

int
process_id(unsigned index)
{
    return index < PROCESSES ? shared->pids[index] : 0;
}

int
descriptor(uint64_t value)
{
    return value == 0 ? -1 : FD_A + (int)((value - 1) % (FD_BAD - FD_A + 1));
}

/* ---- faults of user code ------------------------------------------------------------ */

static sigjmp_buf fault_return;
static struct fault fault_last;
static volatile bool fault_expected;

static void
on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (!fault_expected)
        _exit(99);
    fault_last = (struct fault){signal, info->si_code, (uintptr_t)info->si_addr};
    siglongjmp(fault_return, 1);
}

static void
catch_faults(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};

    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
}

bool
touch(uintptr_t address, enum access access, uint8_t *byte, struct fault *fault)
{
    volatile uint8_t *at = (volatile uint8_t *)address; /* NOLINT(performance-no-int-to-ptr) */

    if (sigsetjmp(fault_return, 0) != 0) {
        fault_expected = false;
        *fault = fault_last;
        return false;
    }
    fault_expected = true;
    if (access == ACCESS_LOAD)
        *byte = *at;
    else if (access == ACCESS_STORE)
        *at = *byte;
    else
        ((void (*)(void))address)(); /* NOLINT(performance-no-int-to-ptr) */
    fault_expected = false;
    return true;
}

size_t
touch_words(const volatile uint64_t *at, size_t words, uint64_t *hash, struct fault *fault)
{
    static volatile size_t done;
    static volatile uint64_t sum;

    done = 0;
    sum = 0;
    if (sigsetjmp(fault_return, 0) == 0) {
        uint64_t mix = 0;

        fault_expected = true;
        mix = at[0];
        for (size_t i = 1; i < words; i++)
            mix = (mix << 7 | mix >> 57) ^ (at[i] * 0x9e3779b97f4a7c15u);
        done = words;
        sum = mix;
    } else {
        *fault = fault_last;
    }
    fault_expected = false;
    *hash = sum;
    return done;
}

void
say_fault(const struct fault *fault)
{
    say(" %s/%d", fault->signal == SIGSEGV ? "SEGV" : "BUS", fault->code);
    say_address(fault->address);
}

/* ---- turns ------------------------------------------------------------------------------ */

static void
turn_set(uint32_t turn)
{
    __atomic_store_n(&shared->turn, turn, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1000, NULL, NULL, 0);
}

static void
turn_wait(void)
{
    for (;;) {
        uint32_t turn = __atomic_load_n(&shared->turn, __ATOMIC_SEQ_CST);

        if (turn == TURN_END)
            _exit(0);
        if (turn == self)
            return;
        syscall(SYS_futex, &shared->turn, FUTEX_WAIT, turn, NULL, NULL, 0);
    }
}

/* Who has the next call: a process that lives, or the end. */
static uint32_t
turn_next(void)
{
    while (shared->next < shared->program.count) {
        unsigned process = shared->program.ops[shared->next].process;

        if (shared->pids[process] != 0)
            return process;
        shared->next++;
    }
    return TURN_END;
}

static void
fork_execute(const struct op *op)
{
    unsigned child = (unsigned)op->arg[0] % PROCESSES;
    long pid;

    if (shared->pids[child] != 0) {
        say(" busy");
        return;
    }
    pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        self = child;
        turn_wait();
        return;
    }
    if (pid > 0) {
        shared->pids[child] = (int)pid;
        say(" = child");
    } else {
        say_result(pid);
    }
}

static void
process_step(void)
{
    const struct op *op = &shared->program.ops[shared->next];
    char text[256];

    op_print(op, text, sizeof(text));
    say("%s", text);
    shared->next++; /* a death leaves the controller at the next one */
    if (op->kind == OP_EXIT) {
        say("\n");
        _exit(0);
    }
    if (op->kind != OP_FORK) {
        op_execute(op);
    } else {
        fork_execute(op);
        if (op->process != self)
            return; /* the child, when it has its first turn */
    }
    say("\n");
}

static void
process_run(void)
{
    for (;;) {
        uint32_t turn = turn_next();

        if (turn == self) {
            process_step();
            continue;
        }
        turn_set(turn);
        turn_wait();
    }
}

/* ---- the controller ------------------------------------------------------------------------ */

static void
file_create(const char *name, int fd)
{
    static uint64_t page[PAGE_BYTES / sizeof(uint64_t)];
    char path[64];
    int made;

    snprintf(path, sizeof(path), "/dev/shm/quire-%s-%d", name, (int)getpid());
    made = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (made < 0 || dup2(made, fd) != fd)
        _exit(2);
    close(made);
    if (fd == FD_A) {
        dup2(made = open(path, O_RDONLY), FD_A_READ);
        close(made);
        dup2(made = open(path, O_WRONLY), FD_A_WRITE);
        close(made);
    }
    unlink(path);
    for (unsigned i = 0; i < FILE_PAGES; i++) {
        for (size_t word = 0; word < PAGE_BYTES / sizeof(uint64_t); word++)
            page[word] = ((uint64_t)(unsigned)fd << 32 | i << 16 | word) * 0x9e3779b97f4a7c15u;
        if (pwrite(fd, page, sizeof(page), (off_t)i * (off_t)sizeof(page)) != sizeof(page))
            _exit(2);
    }
}

/* A stack that no longer grows: locked memory and its limit may forbid that later. */
static void
stack_grow(void)
{
    volatile char room[STACK_BYTES];

    for (size_t i = 0; i < sizeof(room); i += 1024)
        room[i] = 0;
}

static void
process_start(void)
{
    struct rlimit locked = {64 * PAGE_BYTES, 64 * PAGE_BYTES};
    uintptr_t start;

    self = 0;
    stack_grow();
    file_create("A", FD_A);
    file_create("B", FD_B);
    setrlimit(RLIMIT_MEMLOCK, &locked);
    keep_capabilities(1u << CAP_IPC_LOCK); /* and no mapping of page 0 */
    signal(SIGXFSZ, SIG_IGN);
    catch_faults();
    start = (uintptr_t)syscall(SYS_brk, 0);
    start = (start + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    syscall(SYS_brk, start);
    shared->break_start = start;
    turn_wait();
    process_run();
}

static void
on_alarm(int signal)
{
    (void)signal;
    expired = 1;
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (shared->pids[i] > 0)
            kill(shared->pids[i], SIGKILL);
    }
}

static void
process_died(int pid, int status)
{
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (shared->pids[i] != pid)
            continue;
        shared->pids[i] = 0;
        if (shared->turn != i)
            return; /* at the end */
        if (status != 0 && !expired) {
            totals.deaths++;
            say(" died 0x%x\n", (unsigned)status);
        }
        turn_set(expired ? (uint32_t)TURN_END : turn_next());
        return;
    }
}

const char *
execute(const struct program *program)
{
    int status;
    long pid;

    shared->program = *program;
    shared->next = 0;
    shared->report_bytes = 0;
    shared->report[0] = '\0';
    memset(shared->pids, 0, sizeof(shared->pids));
    shared->turn = TURN_CONTROLLER;
    expired = 0;
    pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0)
        process_start();
    if (pid < 0)
        _exit(2);
    shared->pids[0] = (int)pid;
    alarm(LIMIT_SECONDS);
    turn_set(0);
    while ((pid = waitpid(-1, &status, 0)) > 0 || errno == EINTR) {
        if (pid > 0)
            process_died((int)pid, status);
    }
    alarm(0);
    if (expired) {
        totals.timeouts++;
        say(" timeout\n");
    }
    for (size_t i = 0; i < program->count; i++)
        totals.calls += program->ops[i].kind < OP_PROBE;
    return shared->report;
}

void
execute_init(void)
{
    struct sigaction action = {.sa_handler = on_alarm};

    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        _exit(2);
    sigaction(SIGALRM, &action, NULL);
    if (dup2(open("/dev/shm", O_RDONLY | O_DIRECTORY), FD_DIRECTORY) < 0)
        _exit(2);
}
