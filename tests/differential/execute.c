/* SPDX-License-Identifier: MIT */
/*
 * Running a program: up to four processes take turns, each call by call.  What is the same on
 * every machine stands here: the report, what arguments mean, what a process begins with, and a
 * step.  Who runs when is the machine's.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

struct totals totals;
struct shared *shared;
unsigned self;

/* Descriptors 100 to 103 are read-write A and B, read-only A, write-only A. */
/* 104: a directory, 105: nothing, 106: a memfd that takes seals. */
enum { FD_A = 100, FD_B, FD_A_READ, FD_A_WRITE, FD_DIRECTORY, FD_BAD, FD_MEMORY };

/* ---- the report --------------------------------------------------------------- */

void
say(const char *format, ...)
{
    size_t room = sizeof(shared->report) - shared->report_bytes;
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
    if (result < 0 && result > -4096)
        say(" = -%s", strerrorname_np((int)-result));
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
        say(" 0x%lx", (unsigned long)address);
    else
        say(" elsewhere");
}

void
say_fault(const struct fault *fault)
{
    if (fault->code == SI_KERNEL && foreign()) {
        say(" SEGV/%d elsewhere", SEGV_MAPERR);
        return;
    }
    say(" %s/%d", fault->signal == SIGSEGV ? "SEGV" : "BUS", fault->code);
    say_address(fault->address);
    if (fault->signal == SIGSEGV && fault->code == SEGV_PKUERR)
        say(" key %u, handler %x", fault->key, fault->rights);
}

uint64_t
hash_words(const volatile uint64_t *words, size_t count)
{
    uint64_t sum = words[0];

    for (size_t i = 1; i < count; i++)
        sum = (sum << 7 | sum >> 57) ^ (words[i] * 0x9e3779b97f4a7c15u);
    return sum;
}

/* ---- what arguments mean --------------------------------------------------------- */

#define X86_64_USER_END 0x7ffffffff000u

uintptr_t
resolve(uint64_t value)
{
    if (VALUE_TAG(value) == VALUE_ARENA)
        return ARENA_BASE + (uintptr_t)VALUE_OFFSET(value);
    if (VALUE_TAG(value) == VALUE_BREAK)
        return shared->break_start + (uintptr_t)VALUE_OFFSET(value);
    if (value >> 21 == 0x7fffffffffff >> 21 || value >> 21 == 0x800000000000 >> 21)
        return machine_user_end() + (uintptr_t)(value - X86_64_USER_END);
    if (sizeof(uintptr_t) < sizeof(value) && value >= 0xffff800000000000)
        return machine_user_end() + (uintptr_t)(value % (2 * PAGE_BYTES));
    return (uintptr_t)value;
}

bool
is_ours(uintptr_t address)
{
    return address - ARENA_BASE <= ARENA_BYTES || address - shared->break_start <= BREAK_BYTES;
}

void
touch_own(uintptr_t address)
{
    struct fault fault;
    uint8_t byte;

    if (touch(address, ACCESS_LOAD, &byte, &fault))
        touch(address, ACCESS_STORE, &byte, &fault);
}

int
process_id(unsigned index)
{
    return index < PROCESSES ? shared->pids[index] : 0;
}

int
descriptor(uint64_t value)
{
    return value == 0 ? -1 : FD_A + (int)((value - 1) % (FD_MEMORY - FD_A + 1));
}

/* ---- the beginning ------------------------------------------------------------------ */

static void
must(long result)
{
    if (result < 0) {
        say(" cannot begin: %s\n", strerrorname_np((int)-result));
        machine_exit();
    }
}

/* Have @path as descriptor @fd. */
static void
open_as(const char *path, int flags, int fd)
{
    long made;

    scratch_put(0, path, strlen(path) + 1);
    made = call(SYS_openat, (uint64_t)AT_FDCWD, machine_scratch(), (uint64_t)flags | O_LARGEFILE,
                0600);
    must(made);
    must(call(SYS_dup3, (uint64_t)made, (uint64_t)fd, 0));
    call(SYS_close, (uint64_t)made);
}

static void
file_fill(int fd)
{
    static uint64_t page[PAGE_BYTES / sizeof(uint64_t)];

    for (unsigned i = 0; i < FILE_PAGES; i++) {
        for (size_t word = 0; word < PAGE_BYTES / sizeof(uint64_t); word++)
            page[word] = ((uint64_t)(unsigned)fd << 32 | i << 16 | word) * 0x9e3779b97f4a7c15u;
        scratch_put(0, page, sizeof(page));
        must(call(SYS_pwrite64, (uint64_t)fd, machine_scratch(), sizeof(page), i * sizeof(page)));
    }
}

static void
file_create(const char *name, int fd)
{
    char path[64];

    snprintf(path, sizeof(path), "/dev/shm/quire-%s-%d", name, process_id(0));
    open_as(path, O_RDWR | O_CREAT | O_TRUNC, fd);
    if (fd == FD_A) {
        open_as(path, O_RDONLY, FD_A_READ);
        open_as(path, O_WRONLY, FD_A_WRITE);
    }
    must(call(SYS_unlinkat, (uint64_t)AT_FDCWD, machine_scratch(), 0));
    file_fill(fd);
}

static void
memory_file_create(int fd)
{
    long made;

    scratch_put(0, "quire-M", sizeof("quire-M"));
    made = call(SYS_memfd_create, machine_scratch(), 2 /* MFD_ALLOW_SEALING */);
    must(made);
    must(call(SYS_dup3, (uint64_t)made, (uint64_t)fd, 0));
    call(SYS_close, (uint64_t)made);
    file_fill(fd);
}

long
keep_capabilities(uint32_t keep)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    memset(data, 0, sizeof(data));
    data[0].effective = data[0].permitted = keep;
    scratch_put(0, &header, sizeof(header));
    scratch_put(64, data, sizeof(data));
    return call(SYS_capset, machine_scratch(), machine_scratch() + 64);
}

void
process_prepare(void)
{
    uint64_t locked[2] = {64 * PAGE_BYTES, 64 * PAGE_BYTES};
    uintptr_t start;

    file_create("A", FD_A);
    file_create("B", FD_B);
    memory_file_create(FD_MEMORY);
    open_as("/dev/shm", O_RDONLY | O_DIRECTORY, FD_DIRECTORY);
    scratch_put(0, locked, sizeof(locked));
    must(call(SYS_prlimit64, 0, RLIMIT_MEMLOCK, machine_scratch(), 0));
    keep_capabilities(1u << CAP_IPC_LOCK | 1u << CAP_SETUID); /* and no mapping of page 0 */
    start = (uintptr_t)call(SYS_brk, 0);
    start = (start + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    call(SYS_brk, start);
    shared->break_start = start;
    shared->bytes[0] = status_bytes("VmSize");
    shared->bytes[1] = status_bytes("VmData");
}

void
program_finish(void)
{
    for (unsigned i = 0; i < SEGMENTS; i++) {
        if (shared->segments[i] != 0)
            call(SYS_shmctl, (uint64_t)shared->segments[i] - 1, 0 /* IPC_RMID */, 0);
        shared->segments[i] = 0;
    }
    huge_finish();
}

/* ---- steps ------------------------------------------------------------------------------ */

unsigned
step_process(void)
{
    while (shared->next < shared->program.count) {
        unsigned process = shared->program.ops[shared->next].process;

        if (shared->pids[process] != 0 && shared->waits[process] == 0)
            return process;
        shared->next++;
    }
    return PROCESSES;
}

void
process_born(unsigned parent, unsigned child, int pid, enum birth birth)
{
    shared->pids[child] = pid;
    shared->sharing |= birth >= BIRTH_SHARING;
    if (birth >= BIRTH_VFORK)
        shared->waits[parent] = child + 1;
    say(" = child");
}

void
process_gone(unsigned index)
{
    shared->pids[index] = 0;
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (shared->waits[i] == index + 1)
            shared->waits[i] = 0;
    }
}

enum swapping
swapping(void)
{
    const char *where = getenv("DIFFERENTIAL_SWAP");

    if (where == NULL)
        return SWAP_NONE;
    return strcmp(where, "here") == 0 ? SWAP_HERE : SWAP_OTHER;
}

bool
foreign(void)
{
    return getenv("DIFFERENTIAL_FOREIGN") != NULL;
}

/* @return whether something was said */
static bool
fork_execute(const struct op *op)
{
    enum birth birth = (enum birth)(op->arg[1] % BIRTHS);
    unsigned child = (unsigned)op->arg[0] % PROCESSES;
    long pid;

    if (shared->pids[child] != 0) {
        say(" busy");
        return true;
    }
    shared->ended &= ~(1u << child);
    pid = machine_fork(birth, child);
    if (pid == BIRTH_TOLD)
        return false;
    if (pid > 0) {
        process_born(op->process, child, (int)pid, birth);
    } else if (pid < 0) {
        say_result(pid);
    } else {
        self = child;
    }
    return op->process == self; /* else it is the child */
}

void
process_step(void)
{
    const struct op *op = &shared->program.ops[shared->next];
    char text[256];

    /* Before each call, or every second or third one. */
    if (swapping() == SWAP_HERE && shared->next % (1 + shared->program.count % 3) == 0)
        machine_swap_out();
    op_print(op, text, sizeof(text));
    say("%s", text);
    shared->next++; /* a death leaves the controller at the next one */
    if (op->kind == OP_EXIT) {
        say("\n");
        machine_exit();
        return;
    }
    if (op->kind != OP_FORK)
        op_execute(op);
    else if (!fork_execute(op))
        return;
    say("\n");
}

const char *
execute(const struct program *program)
{
    shared->program = *program;
    shared->next = 0;
    shared->report_bytes = 0;
    shared->locked_all = shared->limited = shared->sharing = shared->pools = false;
    shared->report[0] = '\0';
    memset(shared->pids, 0, sizeof(shared->pids));
    memset(shared->waits, 0, sizeof(shared->waits));
    machine_run();
    for (size_t i = 0; i < program->count; i++)
        totals.calls += program->ops[i].kind < OP_PROBE;
    return shared->report;
}
