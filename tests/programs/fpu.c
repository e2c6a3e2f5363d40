/* SPDX-License-Identifier: MIT */
/*
 * Floating-point state belongs to one thread: several processes and threads keep
 * values of their own in x87, SSE and (where there) AVX registers while they are
 * pre-empted, signalled and forked; exec starts from the initial state.
 */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static int have_avx;
static volatile unsigned signals;

struct registers {
    uint64_t sse[2], avx[4];
    double x87;
};

/* Put the values into registers, spin, read them back: the compiler keeps out of the asm. */
static void
hold(const struct registers *in, struct registers *out, unsigned long spins)
{
    if (have_avx) {
        __asm__ volatile("fldl %4\n\tmovups %5, %%xmm3\n\tvmovups %6, %%ymm7\n"
                         "1:\tdec %3\n\tjnz 1b\n\t"
                         "vmovups %%ymm7, %2\n\tmovups %%xmm3, %1\n\tfstpl %0"
                         : "=m"(out->x87), "=m"(out->sse), "=m"(out->avx), "+r"(spins)
                         : "m"(in->x87), "m"(in->sse), "m"(in->avx)
                         : "xmm3", "xmm7", "st", "cc", "memory");
    } else {
        memcpy(out->avx, in->avx, sizeof out->avx);
        __asm__ volatile("fldl %3\n\tmovups %4, %%xmm3\n"
                         "1:\tdec %2\n\tjnz 1b\n\t"
                         "movups %%xmm3, %1\n\tfstpl %0"
                         : "=m"(out->x87), "=m"(out->sse), "+r"(spins)
                         : "m"(in->x87), "m"(in->sse)
                         : "xmm3", "st", "cc", "memory");
    }
}

static int
check(uint64_t seed, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        struct registers in = {.x87 = (double)seed + i};
        struct registers out = {.x87 = 0};

        for (int k = 0; k < 4; k++)
            in.avx[k] = seed * 0x9e3779b97f4a7c15u + i + (unsigned)k;
        in.sse[0] = ~in.avx[0];
        in.sse[1] = ~in.avx[1];
        hold(&in, &out, 200000);
        if (memcmp(&in, &out, sizeof in) != 0) {
            printf("registers of %lu changed in round %u\n", (unsigned long)seed, i);
            return 1;
        }
    }
    return 0;
}

static void
on_alarm(int number)
{
    struct registers in = {.x87 = -1, .sse = {1, 2}, .avx = {3, 4, 5, 6}};
    struct registers out;

    (void)number;
    hold(&in, &out, 10);
    signals++;
}

static void *
thread(void *argument)
{
    return (void *)(intptr_t)check((uint64_t)(uintptr_t)argument, 50);
}

static int
run_threads(uint64_t base)
{
    pthread_t threads[4];
    int bad = 0;

    for (uint64_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, thread, (void *)(uintptr_t)(base + i));
    for (int i = 0; i < 4; i++) {
        void *result;

        pthread_join(threads[i], &result);
        bad |= result != NULL;
    }
    return bad;
}

static unsigned
mxcsr(void)
{
    unsigned value;

    __asm__ volatile("stmxcsr %0" : "=m"(value));
    return value;
}

static void
set_mxcsr(unsigned value)
{
    __asm__ volatile("ldmxcsr %0" : : "m"(value));
}

static int
child_inherits_and_exec_resets(const char *self)
{
    int status;
    pid_t pid;

    set_mxcsr(0x9fc0);
    pid = fork();
    if (pid == 0) {
        if (mxcsr() != 0x9fc0)
            _exit(2);
        execl(self, self, "exec", (char *)NULL);
        _exit(3);
    }
    waitpid(pid, &status, 0);
    set_mxcsr(0x1f80);
    if (status != 0)
        printf("fork or exec: status %x\n", status);
    return status != 0;
}

int
main(int argc, char **argv)
{
    struct itimerval every_5_ms = {{0, 5000}, {0, 5000}};
    int bad = 0;
    int status;

    if (argc > 1)
        return mxcsr() != 0x1f80;
    have_avx = __builtin_cpu_supports("avx");
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &every_5_ms, NULL);
    for (uint64_t i = 1; i <= 3; i++) {
        if (fork() == 0)
            exit(run_threads(i * 100));
    }
    bad |= check(7, 100);
    for (int i = 0; i < 3;) {
        if (wait(&status) > 0) {
            bad |= status != 0;
            i++;
        }
    }
    signal(SIGALRM, SIG_IGN);
    bad |= child_inherits_and_exec_resets(argv[0]);
    printf("fpu: %s, avx %s, signals %s\n", bad ? "WRONG" : "ok", have_avx ? "yes" : "no",
           signals > 0 ? "yes" : "none");
    return bad || signals == 0;
}
