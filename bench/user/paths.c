/* SPDX-License-Identifier: MIT */
/*
 * The hot paths of a kernel's memory half, seen from a user program: the same
 * static binary runs on Quire and on Linux.
 *
 * Under `-icount shift=0` the time-stamp counter ticks once an instruction (RISC-V
 * counts them by name; AArch64's generic timer ticks once in 16, and a row has
 * thousands), so the difference of two readings is the number of instructions that
 * user and kernel executed together.  The reading itself and the loop cost a few; they are
 * measured with an empty body and taken off.
 *
 * One row a line: `ROW <name> <instructions an operation>`.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define MIB  (1024ul * 1024)

static uint64_t
now(void)
{
#if defined(__riscv)
    uint64_t count;

    __asm__ volatile("fence; rdinstret %0" : "=r"(count)::"memory");
    return count;
#elif defined(__aarch64__)
    uint64_t count, frequency;

    __asm__ volatile("isb; mrs %0, cntvct_el0; mrs %1, cntfrq_el0"
                     : "=r"(count), "=r"(frequency)::"memory");
    return count * (1000000000 / frequency);
#else
    uint32_t low, high;

    __asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high)::"memory");
    return (uint64_t)high << 32 | low;
#endif
}

static void
row(const char *name, uint64_t ticks, uint64_t operations)
{
    printf("ROW %s %llu\n", name, (unsigned long long)((ticks + operations / 2) / operations));
    fflush(stdout);
}

static void
must(int ok, const char *what)
{
    if (ok)
        return;
    perror(what);
    exit(1);
}

static char *
map(size_t bytes, int flags)
{
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

    must(at != MAP_FAILED, "mmap");
    return at;
}

static char *
map_private(size_t bytes)
{
    return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS);
}

static void
write_pages(char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += PAGE)
        *(volatile char *)(at + i) = 1;
}

static void
read_pages(const char *at, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += PAGE)
        (void)*(const volatile char *)(at + i);
}

/* ---- One row each -------------------------------------------------------- */

static void
null_call(void)
{
    uint64_t start = now();

    for (int i = 0; i < 2000; i++)
        (void)syscall(SYS_getppid);
    row("null_syscall", now() - start, 2000);
}

static void
anonymous(void)
{
    char *at = map_private(64 * MIB);
    uint64_t start = now();

    read_pages(at, 16 * MIB);
    row("anon_read_fault", now() - start, 16 * MIB / PAGE);
    start = now();
    write_pages(at + 16 * MIB, 32 * MIB);
    row("anon_write_fault", now() - start, 32 * MIB / PAGE);
    write_pages(at, 64 * MIB);
    start = now();
    must(munmap(at, 64 * MIB) == 0, "munmap");
    row("munmap_64mib_page", now() - start, 64 * MIB / PAGE);

    start = now();
    at = map(16 * MIB, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE);
    row("populate_page", now() - start, 16 * MIB / PAGE);
    munmap(at, 16 * MIB);
}

static void
map_and_unmap(void)
{
    uint64_t start = now();

    for (int i = 0; i < 500; i++) {
        char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        munmap(at, PAGE);
    }
    row("mmap_munmap", now() - start, 500);
    start = now();
    for (int i = 0; i < 500; i++) {
        char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        *(volatile char *)at = 1;
        munmap(at, PAGE);
    }
    row("mmap_touch_munmap", now() - start, 500);
}

static void
protect(void)
{
    char *at = map_private(8 * MIB);
    uint64_t start;

    write_pages(at, 8 * MIB);
    /* A one-page region of its own, so that neither splits nor merges are measured. */
    mprotect(at, PAGE, PROT_READ);
    mprotect(at + PAGE, PAGE, PROT_NONE);
    start = now();
    for (int i = 0; i < 500; i++)
        mprotect(at, PAGE, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ | PROT_EXEC);
    row("mprotect_1", now() - start, 500);

    char *wide = at + 2 * MIB;

    mprotect(wide - PAGE, PAGE, PROT_NONE);
    mprotect(wide + 1024 * PAGE, PAGE, PROT_NONE);
    start = now();
    for (int i = 0; i < 20; i++)
        mprotect(wide, 1024 * PAGE, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ);
    row("mprotect_1024", now() - start, 20);

    start = now();
    for (int i = 0; i < 200; i++) {
        mprotect(wide + 16 * PAGE, PAGE, PROT_READ);
        mprotect(wide + 16 * PAGE, PAGE, PROT_READ | PROT_WRITE);
    }
    row("mprotect_split_merge", now() - start, 400);
    munmap(at, 8 * MIB);
}

static void
fork_row(const char *name, size_t resident)
{
    char *at = resident != 0 ? map_private(resident) : NULL;
    int rounds = resident > 16 * MIB ? 5 : 20;

    write_pages(at, resident);
    uint64_t start = now();

    for (int i = 0; i < rounds; i++) {
        pid_t child = fork();

        if (child == 0)
            _exit(0);
        must(child > 0, "fork");
        waitpid(child, NULL, 0);
    }
    row(name, now() - start, (uint64_t)rounds);
    if (resident != 0)
        munmap(at, resident);
}

static void
fork_exec(const char *self)
{
    uint64_t start = now();

    for (int i = 0; i < 20; i++) {
        pid_t child = fork();

        if (child == 0) {
            execl(self, self, "exit", (char *)NULL);
            _exit(127);
        }
        must(child > 0, "fork");
        waitpid(child, NULL, 0);
    }
    row("fork_exec_wait", now() - start, 20);
}

/* The child writes what the parent shares with it: a copy a page, then a take-over. */
static void
copy_on_write(void)
{
    char *at = map_private(8 * MIB);

    write_pages(at, 8 * MIB);
    pid_t child = fork();

    if (child == 0) {
        uint64_t start = now();

        write_pages(at, 8 * MIB);
        row("cow_break", now() - start, 8 * MIB / PAGE);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    uint64_t start = now();

    write_pages(at, 8 * MIB);
    row("cow_reuse", now() - start, 8 * MIB / PAGE);
    munmap(at, 8 * MIB);
}

static void
shared_file(void)
{
    int file = memfd_create("paths", 0);
    size_t bytes = 8 * MIB;

    must(file >= 0, "memfd_create");
    must(ftruncate(file, (off_t)bytes) == 0, "ftruncate");
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint64_t start = now();

    write_pages(at, bytes);
    row("tmpfs_shared_write_new", now() - start, bytes / PAGE);
    munmap(at, bytes);

    at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    start = now();
    write_pages(at, bytes);
    row("tmpfs_shared_write_cached", now() - start, bytes / PAGE);
    munmap(at, bytes);

    at = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    start = now();
    read_pages(at, bytes);
    row("tmpfs_read_cached", now() - start, bytes / PAGE);
    munmap(at, bytes);

    at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    start = now();
    write_pages(at, bytes);
    row("tmpfs_private_write", now() - start, bytes / PAGE);
    munmap(at, bytes);
    close(file);
}

static void
program_break(void)
{
    long base = syscall(SYS_brk, 0);
    uint64_t start;

    base = (base + 4095) & ~4095l;
    syscall(SYS_brk, base + 4096);
    start = now();
    for (int i = 0; i < 500; i++) {
        syscall(SYS_brk, base + 8192);
        syscall(SYS_brk, base + 4096);
    }
    row("brk_page", now() - start, 1000);
    syscall(SYS_brk, base);
}

static void
advise(void)
{
    char *at = map_private(PAGE);
    uint64_t start = now();

    for (int i = 0; i < 500; i++) {
        madvise(at, PAGE, MADV_DONTNEED);
        *(volatile char *)at = 1;
    }
    row("dontneed_touch", now() - start, 500);
    munmap(at, PAGE);
}

static void
remap_row(const char *name, size_t pages, size_t skew)
{
    size_t bytes = pages * PAGE;
    char *arena = map(16 * MIB, MAP_PRIVATE | MAP_ANONYMOUS);
    char *from = (char *)(((uintptr_t)arena + 2 * MIB - 1) & ~(2 * MIB - 1)) + skew;
    char *to = from + 6 * MIB;
    uint64_t start;

    munmap(to, bytes);
    write_pages(from, bytes);
    start = now();
    for (int i = 0; i < 20; i++) {
        char *moved = mremap(i & 1 ? to : from, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                             i & 1 ? from : to);

        must(moved != MAP_FAILED, "mremap");
    }
    row(name, now() - start, 20);
    munmap(arena, 16 * MIB);
}

static char *fault_page;

static void
on_fault(int number)
{
    (void)number;
    mprotect(fault_page, PAGE, PROT_READ | PROT_WRITE);
}

static void
fault_signal(void)
{
    struct sigaction action = {.sa_handler = on_fault};
    uint64_t start;

    fault_page = map_private(PAGE);
    *fault_page = 1;
    sigaction(SIGSEGV, &action, NULL);
    start = now();
    for (int i = 0; i < 200; i++) {
        mprotect(fault_page, PAGE, PROT_READ);
        *(volatile char *)fault_page = 1;
    }
    row("sigsegv_two_mprotect", now() - start, 200);
    signal(SIGSEGV, SIG_DFL);
    munmap(fault_page, PAGE);
}

static void
pipe_switch(void)
{
    int there[2], back[2];
    char token = 'x';

    must(pipe(there) == 0 && pipe(back) == 0, "pipe");
    pid_t child = fork();

    if (child == 0) {
        for (int i = 0; i < 500; i++) {
            if (read(there[0], &token, 1) != 1 || write(back[1], &token, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    uint64_t start = now();

    for (int i = 0; i < 500; i++) {
        must(write(there[1], &token, 1) == 1, "write");
        must(read(back[0], &token, 1) == 1, "read");
    }
    row("pipe_round_trip", now() - start, 500);
    waitpid(child, NULL, 0);
}

/* Both sides count their calls: not every call of the one is followed by one of the other. */
static void
yield_switch(void)
{
    volatile uint64_t *calls = (uint64_t *)map(PAGE, MAP_SHARED | MAP_ANONYMOUS);
    pid_t child = fork();

    if (child == 0) {
        for (;;) {
            sched_yield();
            ++*calls;
        }
    }
    for (int i = 0; i < 10; i++)
        sched_yield();
    uint64_t before = *calls;
    uint64_t start = now();

    for (int i = 0; i < 1000; i++)
        sched_yield();
    row("sched_yield", now() - start, 1000 + *calls - before);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "exit") == 0)
        return 0;
    /* Large pages have rows of their own elsewhere. */
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    null_call();
    anonymous();
    map_and_unmap();
    protect();
    fork_row("fork_exit_wait_0", 0);
    fork_row("fork_exit_wait_16mib", 16 * MIB);
    fork_row("fork_exit_wait_64mib", 64 * MIB);
    fork_exec(argv[0]);
    copy_on_write();
    shared_file();
    program_break();
    advise();
    remap_row("mremap_1", 1, 0);
    remap_row("mremap_1024_unaligned", 1024, PAGE);
    remap_row("mremap_1024_aligned", 1024, 0);
    fault_signal();
    pipe_switch();
    yield_switch();
    return 0;
}
