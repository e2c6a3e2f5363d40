/* SPDX-License-Identifier: MIT */
/*
 * The machine that this program runs on: Linux, or the reference kernel.
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
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LIMIT_SECONDS = 60, STACK_BYTES = 65536, TURN_CONTROLLER = PROCESSES, TURN_END };

static volatile sig_atomic_t expired;

/* ---- calls ------------------------------------------------------------------------ */

/* Where registers have 32 bits, offsets in files take two. */
static long
call_raw(long number, const uint64_t args[6])
{
    uintptr_t a[6];

    for (unsigned i = 0; i < 6; i++)
        a[i] = (uintptr_t)args[i];
#ifdef __i386__
    switch (number) {
    case SYS_pread64:
    case SYS_pwrite64:
    case SYS_preadv:
    case SYS_pwritev:
        return syscall(number, a[0], a[1], a[2], a[3], (uintptr_t)(args[3] >> 32));
    case SYS_ftruncate64:
        return syscall(number, a[0], a[1], (uintptr_t)(args[1] >> 32));
    case SYS_fallocate:
        return syscall(number, a[0], a[1], a[2], (uintptr_t)(args[2] >> 32), a[3],
                       (uintptr_t)(args[3] >> 32));
    case SYS_readahead:
        return syscall(number, a[0], a[1], (uintptr_t)(args[1] >> 32), a[2]);
    case SYS_fadvise64_64:
        return syscall(number, a[0], a[1], (uintptr_t)(args[1] >> 32), a[2],
                       (uintptr_t)(args[2] >> 32), a[3]);
    default:
        break;
    }
#endif
    return syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

long
machine_call(long number, const uint64_t args[6])
{
    long result = call_raw(number, args);

    return result == -1 ? -errno : result;
}

static uintptr_t user_end;

/* The highest page that anything may be mapped at. */
static void
user_end_find(void)
{
    uintptr_t low = ARENA_BASE / PAGE_BYTES, high = UINTPTR_MAX / PAGE_BYTES;

    while (low < high) {
        uintptr_t page = low + (high - low + 1) / 2;
        long result = call(CALL_MMAP, page * PAGE_BYTES, PAGE_BYTES, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, (uint64_t)-1, 0);

        if (!is_error(result))
            munmap((void *)result, PAGE_BYTES); /* NOLINT(performance-no-int-to-ptr) */
        if (is_error(result) && result != -EEXIST)
            high = page - 1;
        else
            low = page;
    }
    user_end = (low + 1) * PAGE_BYTES;
}

uintptr_t
machine_user_end(void)
{
    return user_end;
}

static uint8_t scratch[SCRATCH_BYTES] __attribute__((aligned(65536)));

uintptr_t
machine_scratch(void)
{
    return (uintptr_t)scratch;
}

void
scratch_put(size_t offset, const void *from, size_t bytes)
{
    memcpy(scratch + offset, from, bytes);
}

void
scratch_get(void *to, size_t offset, size_t bytes)
{
    memcpy(to, scratch + offset, bytes);
}

void
machine_code_written(uintptr_t address, size_t bytes)
{
    char *start = (char *)address; /* NOLINT(performance-no-int-to-ptr) */

    __builtin___clear_cache(start, start + bytes);
}

void
machine_swap_out(void)
{
    const uintptr_t areas[][2] = {{ARENA_BASE, ARENA_PAGES}, {shared->break_start, BREAK_PAGES}};

    for (unsigned i = 0; i < 2; i++) {
        for (uintptr_t page = 0; page < areas[i][1]; page++)
            call(SYS_madvise, areas[i][0] + page * PAGE_BYTES, PAGE_BYTES, MADV_PAGEOUT);
    }
}

/* ---- protection keys ------------------------------------------------------------------ */

static bool keys; /* there are some */

#ifdef __x86_64__
static void
keys_find(void)
{
    unsigned a = 7, b, c = 0, d;

    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    keys = (c >> 4 & 1) != 0; /* OSPKE */
}

static uint32_t
rights_get(void)
{
    uint32_t rights = 0, high;

    if (keys)
        __asm__ volatile("rdpkru" : "=a"(rights), "=d"(high) : "c"(0));
    return rights;
}

static void
rights_set(uint32_t rights)
{
    if (keys)
        __asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}
#else
static void
keys_find(void)
{
}

static uint32_t
rights_get(void)
{
    return 0;
}

static void
rights_set(uint32_t rights)
{
    (void)rights;
}
#endif

bool
machine_has_keys(void)
{
    return keys;
}

void
machine_set_rights(unsigned key, unsigned rights)
{
    rights_set((rights_get() & ~(3u << 2 * key)) | rights << 2 * key);
}

static volatile uint32_t rights_seen;
static volatile unsigned rights_key, rights_new;

static void
on_rights(int signal)
{
    (void)signal;
    rights_seen = rights_get();
    machine_set_rights(rights_key, rights_new);
}

void
machine_signal_rights(unsigned key, unsigned rights, uint32_t out[2])
{
    rights_key = key;
    rights_new = rights;
    signal(SIGUSR1, on_rights);
    raise(SIGUSR1);
    out[0] = rights_seen;
    out[1] = rights_get();
}

/* ---- faults of user code ------------------------------------------------------------ */

/* Each thread's. */
static __thread sigjmp_buf fault_return;
static __thread struct fault fault_last;
static __thread volatile bool fault_expected;
static __thread uint32_t fault_rights; /* a handler begins without any */

static void
on_fault(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (!fault_expected)
        _exit(99);
    fault_last = (struct fault){
        .signal = signal, .code = info->si_code, .address = (uintptr_t)info->si_addr};
    if (signal == SIGSEGV && info->si_code == SEGV_PKUERR)
        fault_last.key = info->si_pkey, fault_last.rights = rights_get();
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

    fault_rights = rights_get();
    if (sigsetjmp(fault_return, 0) != 0) {
        rights_set(fault_rights);
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

bool
touch_page(uintptr_t address, uint64_t *hash, struct fault *fault)
{
    const volatile uint64_t *words = (void *)address; /* NOLINT(performance-no-int-to-ptr) */
    static volatile uint64_t sum;

    fault_rights = rights_get();
    if (sigsetjmp(fault_return, 0) != 0) {
        rights_set(fault_rights);
        fault_expected = false;
        *fault = fault_last;
        return false;
    }
    fault_expected = true;
    sum = hash_words(words, PAGE_BYTES / sizeof(uint64_t));
    fault_expected = false;
    *hash = sum;
    return true;
}

/* ---- threads --------------------------------------------------------------------------- */

static uint8_t racer_stacks[RACERS][STACK_BYTES] __attribute__((aligned(4096)));
static uint32_t racers_waiting;

static void *
racer_run(void *argument)
{
    struct racer *racer = argument;

    __atomic_fetch_sub(&racers_waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&racers_waiting, __ATOMIC_SEQ_CST) != 0)
        syscall(SYS_sched_yield);
    for (unsigned i = 0; i < racer->steps; i++)
        racer_step(racer);
    return NULL;
}

static void
racer_start(pthread_t *thread, void *stack, void *(*run)(void *), void *argument)
{
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK_BYTES);
    if (pthread_create(thread, &attributes, run, argument) != 0)
        _exit(98);
    pthread_attr_destroy(&attributes);
}

void
machine_race(struct racer *racers, unsigned count)
{
    pthread_t threads[RACERS];

    racers_waiting = count;
    for (unsigned i = 0; i < count; i++)
        racer_start(&threads[i], racer_stacks[i], racer_run, &racers[i]);
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

long
machine_child(const struct clone_args *args, int (*run)(const void *), const void *argument,
              uint32_t *out_pid)
{
    int status = 0;
    long pid = syscall(SYS_clone3, args, sizeof(*args));

    if (pid == 0)
        _exit(run(argument));
    if (pid < 0)
        return -errno;
    *out_pid = (uint32_t)pid;
    while (waitpid((pid_t)pid, &status, __WALL) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + status;
}

void
machine_add(uintptr_t address)
{
    /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
    __atomic_fetch_add((uint8_t *)address, 1, __ATOMIC_SEQ_CST);
}

static void *
nothing_run(void *argument)
{
    return argument;
}

/* The C library allocates something for each thread: let that be there before the break matters. */
static void
threads_prepare(void)
{
    pthread_t threads[RACERS];

    for (unsigned i = 0; i < RACERS; i++)
        racer_start(&threads[i], racer_stacks[i], nothing_run, NULL);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- turns ------------------------------------------------------------------------------ */

static uint32_t
turn_next(void)
{
    unsigned next = step_process();

    return next == PROCESSES ? (uint32_t)TURN_END : next;
}

static void
turn_set(uint32_t turn)
{
    __atomic_store_n(&shared->turn, turn, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &shared->turn, FUTEX_WAKE, 1000, NULL, NULL, 0);
}

/*
 * Where processes share memory, all that is not on their stacks is whose turn it is; a call that
 * cannot fail leaves errno alone.
 */
static bool sharing;

static void
turn_wait(unsigned me)
{
    for (;;) {
        uint32_t turn = __atomic_load_n(&shared->turn, __ATOMIC_SEQ_CST);

        if (turn == TURN_END) {
            __atomic_fetch_or(&shared->ended, 1u << me, __ATOMIC_SEQ_CST);
            _exit(0);
        }
        if (turn == me)
            break;
        if (sharing)
            syscall(SYS_sched_yield);
        else
            syscall(SYS_futex, &shared->turn, FUTEX_WAIT, turn, NULL, NULL, 0);
    }
    self = me;
}

static void
process_run(void)
{
    for (;;) {
        uint32_t turn = turn_next();
        unsigned me = self;

        if (turn == me) {
            process_step();
            if (self != me)
                turn_wait(self); /* a child is born, and waits for its first turn */
            continue;
        }
        turn_set(turn);
        turn_wait(me);
    }
}

static int
sharer_run(void *number)
{
    turn_wait((unsigned)(uintptr_t)number);
    process_run();
    return 0;
}

static uint8_t stacks[PROCESSES][STACK_BYTES] __attribute__((aligned(64)));

/*
 * vfork: the parent waits in the call until the child has ended, and so cannot say that it has one:
 * the child says that itself, has the turn, and gives it to the next one when it ends.
 */
static unsigned vfork_child, vfork_parent;

static _Noreturn void
vforker_begin(void)
{
    self = vfork_child;
    process_born(vfork_parent, self, (int)syscall(SYS_getpid), BIRTH_VFORK);
    say("\n");
    turn_set(self);
    process_run();
    _exit(0);
}

static int
vforker_run(void *none)
{
    (void)none;
    vforker_begin();
}

static long
vfork_call(enum birth birth, uint8_t *stack)
{
    const int flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT;
    long pid;

#ifdef __x86_64__
    /* The C library's syscall() returns to what stands on top of the child's stack. */
    if (birth == BIRTH_VFORK3) {
        struct clone_args args = {
            .flags = (unsigned)flags, .stack = (uintptr_t)stack, .stack_size = STACK_BYTES - 64};

        *(void (**)(void))(stack + STACK_BYTES - 64) = vforker_begin;
        scratch_put(0, &args, sizeof(args));
        return call(SYS_clone3, machine_scratch(), sizeof(args));
    }
#else
    (void)birth;
#endif
    pid = clone(vforker_run, stack + STACK_BYTES, flags | SIGCHLD, NULL);
    return pid < 0 ? -errno : pid;
}

static long
vfork_child_of(enum birth birth, unsigned index)
{
    const unsigned me = self;
    long pid;

    sharing = true;
    vfork_parent = me;
    vfork_child = index;
    pid = vfork_call(birth, stacks[index]);
    if (pid < 0)
        return pid;
    if ((__atomic_load_n(&shared->ended, __ATOMIC_SEQ_CST) & 1u << index) == 0)
        say(" went on before the child had ended\n");
    turn_wait(me);
    return BIRTH_TOLD;
}

long
machine_fork(enum birth birth, unsigned index)
{
    struct clone_args args = {.flags = CLONE_PARENT};
    long pid;

    if (birth == BIRTH_CLONE)
        return machine_call(SYS_clone, (const uint64_t[6]){CLONE_PARENT | SIGCHLD});
    if (birth == BIRTH_CLONE3) {
        scratch_put(0, &args, sizeof(args));
        return call(SYS_clone3, machine_scratch(), sizeof(args));
    }
    if (birth >= BIRTH_VFORK)
        return vfork_child_of(birth, index);
    sharing = true;
    pid = clone(sharer_run, stacks[index] + STACK_BYTES, CLONE_VM | CLONE_PARENT | SIGCHLD,
                (void *)(uintptr_t)index); /* NOLINT(performance-no-int-to-ptr) */
    return pid < 0 ? -errno : pid;
}

void
machine_exit(void)
{
    __atomic_fetch_or(&shared->ended, 1u << self, __ATOMIC_SEQ_CST);
    _exit(0);
}

/* ---- the controller ------------------------------------------------------------------------ */

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
    self = 0;
    stack_grow();
    signal(SIGXFSZ, SIG_IGN);
    catch_faults();
    turn_wait(0); /* its number is known then */
    process_prepare();
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
        process_gone(i);
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

void
machine_run(void)
{
    int status;
    long pid;

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
    program_finish();
    if (expired) {
        totals.timeouts++;
        say(" timeout\n");
    }
}

void
machine_init(void)
{
    struct sigaction action = {.sa_handler = on_alarm};

    user_end_find();
    keys_find();
    threads_prepare();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        _exit(2);
    sigaction(SIGALRM, &action, NULL);
}
