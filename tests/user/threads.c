/* SPDX-License-Identifier: MIT */
/*
 * Threads: creation, joining, mutexes, conditions, thread-local storage, robust
 * mutexes, many at once, exec and exit while others run.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { THREADS = 8, ROUNDS = 5000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter;
static int turn;
static __thread int own;

static void *
count_up(void *argument)
{
    own = (int)(long)argument;
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        pthread_mutex_unlock(&lock);
    }
    return (void *)(long)own;
}

static void
test_mutex(void)
{
    pthread_t threads[THREADS];
    void *result;

    for (long i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, count_up, (void *)(i + 100)), 0);
    for (long i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], &result), 0);
        CHECK_EQ((long)result, i + 100);
    }
    CHECK_EQ(counter, (long)THREADS * ROUNDS);
}

static void *
take_turns(void *argument)
{
    int self = (int)(long)argument;

    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&lock);
        while (turn != self)
            pthread_cond_wait(&changed, &lock);
        turn = 1 - self;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void
test_condition(void)
{
    pthread_t a, b;

    CHECK_EQ(pthread_create(&a, NULL, take_turns, (void *)0), 0);
    CHECK_EQ(pthread_create(&b, NULL, take_turns, (void *)1), 0);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    CHECK_EQ(turn, 0);
}

static void
test_timed_wait(void)
{
    struct timespec when;

    clock_gettime(CLOCK_REALTIME, &when);
    when.tv_nsec += 20000000;
    if (when.tv_nsec >= 1000000000) {
        when.tv_nsec -= 1000000000;
        when.tv_sec++;
    }
    pthread_mutex_lock(&lock);
    CHECK_EQ(pthread_cond_timedwait(&changed, &lock, &when), ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

static void *
die_with_lock(void *argument)
{
    pthread_mutex_lock(argument);
    return NULL;
}

static void
test_robust(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutex_t robust;
    pthread_t thread;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&robust, &attributes);
    CHECK_EQ(pthread_create(&thread, NULL, die_with_lock, &robust), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(pthread_mutex_lock(&robust), EOWNERDEAD);
    CHECK_EQ(pthread_mutex_consistent(&robust), 0);
    CHECK_EQ(pthread_mutex_unlock(&robust), 0);
    CHECK_EQ(pthread_mutex_lock(&robust), 0);
    CHECK_EQ(pthread_mutex_unlock(&robust), 0);
}

/* A semaphore in shared memory wakes a process that maps it elsewhere. */
static void
test_shared_futex(void)
{
    sem_t *semaphores = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;
    pid_t child;

    CHECK(semaphores != MAP_FAILED);
    sem_init(&semaphores[0], 1, 0);
    sem_init(&semaphores[1], 1, 0);
    child = fork();
    if (child == 0) {
        for (int i = 0; i < 100; i++) {
            sem_wait(&semaphores[0]);
            sem_post(&semaphores[1]);
        }
        _exit(7);
    }
    for (int i = 0; i < 100; i++) {
        sem_post(&semaphores[0]);
        sem_wait(&semaphores[1]);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void *
sleep_for_ever(void *argument)
{
    (void)argument;
    for (;;)
        pause();
    return NULL;
}

static void *
spin_for_ever(void *argument)
{
    volatile unsigned long *count = argument;

    for (;;)
        (*count)++;
    return NULL;
}

static unsigned long spins;

/* The process ends although other threads sleep and spin. */
static void
test_exit_with_threads(void)
{
    pthread_t thread;
    int status;
    pid_t child = fork();

    if (child == 0) {
        pthread_create(&thread, NULL, sleep_for_ever, NULL);
        pthread_create(&thread, NULL, spin_for_ever, &spins);
        usleep(10000);
        exit(3);
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
}

static void *
exec_from_here(void *argument)
{
    char *argv[] = {"threads", "exec-ed", NULL}, *envp[] = {NULL};

    (void)argument;
    execve("/proc/self/exe", argv, envp);
    _exit(99);
}

/* exec in a thread that is not the first: the new program has the process's number. */
static void
test_exec_with_threads(void)
{
    pthread_t thread;
    int status;
    pid_t child = fork();

    if (child == 0) {
        pthread_create(&thread, NULL, spin_for_ever, &spins);
        pthread_create(&thread, NULL, sleep_for_ever, NULL);
        pthread_create(&thread, NULL, exec_from_here, NULL);
        for (;;)
            pause();
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void
test_kill_with_threads(void)
{
    pthread_t thread;
    int status;
    pid_t child = fork();

    if (child == 0) {
        for (int i = 0; i < 4; i++)
            pthread_create(&thread, NULL, i & 1 ? sleep_for_ever : spin_for_ever, &spins);
        for (;;)
            pause();
    }
    usleep(20000);
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static pthread_barrier_t gate;

static void *
end_together(void *argument)
{
    (void)argument;
    pthread_barrier_wait(&gate);
    syscall(SYS_exit, 0);
    return NULL;
}

/* The last thread to leave ends the memory while the others are still leaving it. */
static void
test_end_together(void)
{
    enum { CROWD = 7, TIMES = 60 };
    pthread_t thread;
    int status;

    for (int time = 0; time < TIMES; time++) {
        pid_t child = fork();

        if (child == 0) {
            pthread_barrier_init(&gate, NULL, CROWD + 1);
            for (int i = 0; i < CROWD; i++)
                pthread_create(&thread, NULL, end_together, NULL);
            end_together(NULL);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void *
return_tid(void *argument)
{
    (void)argument;
    return (void *)syscall(SYS_gettid);
}

static void
test_many(void)
{
    void *tid;

    for (int i = 0; i < 300; i++) {
        pthread_t thread;

        CHECK_EQ(pthread_create(&thread, NULL, return_tid, NULL), 0);
        pthread_join(thread, &tid);
        CHECK((long)tid != getpid());
    }
}

static pthread_barrier_t barrier;
static int on_cpu[64];

static void *
say_cpu(void *argument)
{
    cpu_set_t set;
    int self = (int)(long)argument;

    CPU_ZERO(&set);
    CPU_SET(self, &set);
    CHECK_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
    CHECK_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
    CHECK_EQ(CPU_COUNT(&set), 1);
    pthread_barrier_wait(&barrier);
    on_cpu[self] = sched_getcpu();
    return NULL;
}

static void
test_affinity(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    pthread_t threads[64];

    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (long i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, say_cpu, (void *)i);
    for (long i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    for (long i = 0; i < count; i++)
        CHECK_EQ(on_cpu[i], i);
}

/*
 * Arguments that change while the kernel looks at them: it has copied them, and what it does is what
 * one copy says.
 */
enum { SHORT_READ = 16, LONG_READ = 3000, BUFFER_BYTES = 4096 };

static struct iovec changing;
static atomic_bool changing_done;

static void *
change_length(void *argument)
{
    for (size_t i = 0; !atomic_load(&changing_done); i++)
        *(volatile size_t *)&changing.iov_len = i % 2 != 0 ? SHORT_READ : LONG_READ;
    return argument;
}

/* Bytes from @from on that are @value. */
static long
run_of(const unsigned char *bytes, long from, unsigned char value)
{
    long at = from;

    while (at < BUFFER_BYTES && bytes[at] == value)
        at++;
    return at - from;
}

static void
test_changing_arguments(void)
{
    static unsigned char buffer[BUFFER_BYTES];
    int zero = open("/dev/zero", O_RDONLY), ends[2];
    pthread_t thread;

    CHECK_EQ(pipe(ends), 0);
    changing = (struct iovec){buffer, SHORT_READ};
    CHECK_EQ(pthread_create(&thread, NULL, change_length, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        memset(buffer, 0xff, sizeof(buffer));
        long n = readv(zero, &changing, 1);

        CHECK(n == SHORT_READ || n == LONG_READ);
        CHECK_EQ(run_of(buffer, 0, 0), n);
        CHECK_EQ(run_of(buffer, n, 0xff), BUFFER_BYTES - n);
        n = writev(ends[1], &changing, 1);
        CHECK(n == SHORT_READ || n == LONG_READ);
        CHECK_EQ(read(ends[0], buffer, sizeof(buffer)), n);
    }
    atomic_store(&changing_done, true);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    close(zero);
    close(ends[0]);
    close(ends[1]);
}

/* Clone and futex called wrongly. */
static void
test_errors(void)
{
    unsigned word = 5;
    struct timespec bad = {.tv_nsec = 1000000000};

    CHECK_ERRNO(syscall(SYS_clone, 0x10000L /* THREAD alone */, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_clone, 0x800L /* SIGHAND alone */, 0, 0, 0, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_clone3, NULL, 64), EFAULT);
    CHECK_ERRNO(syscall(SYS_clone3, NULL, 8), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex, &word, 128 /* WAIT */, 4, NULL, NULL, 0), EAGAIN);
    CHECK_ERRNO(syscall(SYS_futex, (char *)&word + 1, 128, 5, NULL, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex, &word, 128, 5, &bad, NULL, 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex, (void *)8, 128, 5, NULL, NULL, 0), EFAULT);
    CHECK_ERRNO(syscall(SYS_futex, &word, 9 | 128, 5, NULL, NULL, 0 /* no bit */), EINVAL);
    CHECK_ERRNO(syscall(SYS_futex, &word, 55, 0, NULL, NULL, 0), ENOSYS);
    CHECK_EQ(syscall(SYS_futex, &word, 1 | 128, 1, NULL, NULL, 0), 0);
    CHECK_ERRNO(syscall(SYS_set_robust_list, NULL, 23), EINVAL);
    CHECK_ERRNO(syscall(SYS_tgkill, getpid(), 1 << 22, 0), ESRCH);
    CHECK_ERRNO(syscall(SYS_tgkill, 0, getpid(), 0), EINVAL);
    CHECK_ERRNO(syscall(SYS_tkill, getpid(), 65), EINVAL);
    CHECK_ERRNO(sched_setaffinity(1 << 22, sizeof(cpu_set_t), &(cpu_set_t){0}), ESRCH);
    CHECK_ERRNO(sched_setaffinity(0, sizeof(cpu_set_t), &(cpu_set_t){0}), EINVAL);
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "exec-ed") == 0)
        return syscall(SYS_gettid) == getpid() ? 42 : 1;
    test_mutex();
    test_condition();
    test_timed_wait();
    test_robust();
    test_shared_futex();
    test_exit_with_threads();
    test_exec_with_threads();
    test_kill_with_threads();
    test_end_together();
    test_many();
    test_affinity();
    test_changing_arguments();
    test_errors();
    return check_done("threads");
}
