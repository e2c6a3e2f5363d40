/* SPDX-License-Identifier: MIT */
/*
 * libquire-malloc.so: the heap behind the standard malloc interface.
 *
 *     LD_PRELOAD=.../libquire-malloc.so program
 *
 * A test by real clients: unmodified programs run on the library's frames and heap.  The
 * "machine" is a reservation of addresses, as much as the host has memory (twice), that costs nothing
 * until it is touched.
 *
 * CPUs.  A thread that allocates first takes the lowest free CPU number and gives it back when it
 * ends; what lies in that CPU's magazines is there for the next one.  Threads beyond the last
 * number share: a lane is a lock of its own, so that is slower and nothing else.  Each thread
 * has its own struct qr_cpu; only the number is shared.
 *
 * Fork.  A child has one thread, and what others were in the middle of would stay so for ever.  So
 * a fork waits until nobody is inside: each call marks its thread as inside; the forking thread
 * raises a flag, makes every running thread see it (membarrier), and waits until no mark is
 * left.  A call that finds the flag waits outside.  The marks cost two plain stores a call.
 *
 * Memory of freed blocks stays resident; malloc_trim() gives idle slabs back to the frames, for
 * blocks of any size.
 */
#include <quire/heap.h>
#include <quire/port.h>

#include <errno.h>
#include <linux/membarrier.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define EXPORT      __attribute__((visibility("default")))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TLS         __thread __attribute__((tls_model("initial-exec")))

#define ALIGN_MAX ((size_t)1 << 30) /* of a block, and so of the machine's first byte */

enum { CPUS = CONFIG_MAX_CPUS, PAGE = 4096 };

char *malloc_ram;

/* What the library and this file keep for a thread. */
struct thread {
    struct qr_cpu cpu; /* first, so that malloc_cpu points at both */
    _Atomic int inside;
    _Atomic(struct thread *) next; /* in the list of all, which only grows */
    _Atomic int used;              /* by a living thread */
    int owns_cpu;
};

TLS struct qr_cpu *malloc_cpu; /* of this thread's record; NULL: it has none yet */
static struct qr_heap *heap;
static struct qr_frames *frames;
static _Atomic(struct thread *) threads;
static _Atomic int state; /* 0 nothing, 1 starting, 2 ready */
static _Atomic int forking;
static _Atomic uint64_t cpus_used[(CPUS + 63) / 64];
static _Atomic unsigned shared_next;
static pthread_key_t thread_key;

/* ---- the port ------------------------------------------------------------------ */

static void
say(const char *text)
{
    (void)!write(2, text, strlen(text));
    (void)!write(2, "\n", 1);
}

void
qr_port_panic(const char *message)
{
    say(message);
    abort();
}

void
qr_port_log(const char *line)
{
    if (getenv("QUIRE_MALLOC_LOG") != NULL)
        say(line);
}

void
qr_port_wait(_Atomic uint32_t *word, uint32_t expected)
{
    (void)word, (void)expected;
    sched_yield();
}

void
qr_port_wake(_Atomic uint32_t *word, uint32_t count)
{
    (void)word, (void)count;
}

uint64_t
qr_port_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
qr_port_random(void *buffer, size_t bytes)
{
    static _Atomic uint64_t weak = 0x9e3779b97f4a7c15u;

    if (syscall(SYS_getrandom, buffer, bytes, 1) == (long)bytes)
        return;
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)buffer)[i] = (unsigned char)(atomic_fetch_add(&weak, 12345) >> 7);
}

void
qr_port_ipi(const struct qr_cpu_set *cpus)
{
    (void)cpus;
}

/* The lock's holder may be off its processor: let it run. */
void
qr_port_relax(void)
{
    sched_yield();
}

static inline struct thread *
this_thread(void)
{
    return (struct thread *)(void *)malloc_cpu;
}

static void
thread_become(struct thread *thread)
{
    malloc_cpu = thread == NULL ? NULL : &thread->cpu;
}

/* ---- threads ------------------------------------------------------------------- */

/* The lowest free number, or one that somebody has already. */
static int
cpu_take(struct thread *thread)
{
    for (unsigned w = 0; w < (CPUS + 63) / 64; w++) {
        uint64_t used = atomic_load(&cpus_used[w]);

        while (used != UINT64_MAX) {
            unsigned bit = (unsigned)__builtin_ctzll(~used);

            if (w * 64 + bit >= CPUS)
                break;
            if (atomic_compare_exchange_weak(&cpus_used[w], &used, used | (uint64_t)1 << bit)) {
                thread->cpu.index = w * 64 + bit;
                return 1;
            }
        }
    }
    thread->cpu.index = atomic_fetch_add(&shared_next, 1) % CPUS;
    return 0;
}

static void
thread_end(void *argument)
{
    struct thread *thread = argument;

    /* Destructors that run after this one may allocate: they start it again. */
    if (thread->owns_cpu)
        atomic_fetch_and(&cpus_used[thread->cpu.index / 64],
                         ~((uint64_t)1 << thread->cpu.index % 64));
    thread->owns_cpu = 0;
    thread_become(NULL);
    atomic_store(&thread->used, 0);
}

/* A record that nobody uses any more, or a new one. */
static struct thread *
thread_record(void)
{
    struct thread *thread;

    for (thread = atomic_load(&threads); thread != NULL; thread = atomic_load(&thread->next)) {
        int unused = 0;

        if (atomic_compare_exchange_strong(&thread->used, &unused, 1))
            return thread;
    }
    thread = mmap(NULL, (sizeof(*thread) + PAGE - 1) & ~(size_t)(PAGE - 1), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (thread == MAP_FAILED)
        qr_port_panic("libquire-malloc: no memory for a thread");
    atomic_store(&thread->used, 1);
    struct thread *head = atomic_load(&threads);

    do
        atomic_store(&thread->next, head);
    while (!atomic_compare_exchange_weak(&threads, &head, thread));
    return thread;
}

static void machine_start(void);

/* First call of this thread: of all, perhaps. */
static __attribute__((noinline)) void
thread_start(void)
{
    struct thread *thread;
    int nothing = 0;

    if (atomic_load(&state) != 2) {
        if (atomic_compare_exchange_strong(&state, &nothing, 1))
            machine_start();
        while (atomic_load(&state) != 2)
            sched_yield();
        if (malloc_cpu != NULL)
            return;
    }
    thread = thread_record();
    thread->owns_cpu = cpu_take(thread);
    thread_become(thread);
    /* glibc keeps the first 32 keys in the thread itself: this allocates nothing. */
    pthread_setspecific(thread_key, thread);
}

/* ---- start ---------------------------------------------------------------------- */

static void *
reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        qr_port_panic("libquire-malloc: no addresses for the machine");
    return memory;
}

static void fork_prepare(void);
static void fork_done(void);
static void fork_child(void);

/* From 16 MiB on: a DMA zone is of no use here. */
static void
machine_start(void)
{
    struct sysinfo host = {0};
    struct qr_memory_range range = {.kind = QR_MEMORY_USABLE};
    struct qr_frames_config config = {.map = &range, .map_count = 1, .cpu_count = CPUS};
    uint64_t bytes;

    sysinfo(&host);
    bytes = (uint64_t)host.totalram * host.mem_unit * 2;
    bytes = (bytes < (uint64_t)4 << 30 ? (uint64_t)4 << 30 : bytes) & ~(uint64_t)0x1fffff;
    malloc_ram = reserve(bytes + ALIGN_MAX);
    malloc_ram = (char *)(((uintptr_t)malloc_ram + ALIGN_MAX - 1) & ~(uintptr_t)(ALIGN_MAX - 1));
    range.range.start = qr_pa_of((uint64_t)16 << 20);
    range.range.end = qr_pa_of(bytes);

    thread_become(thread_record());
    this_thread()->owns_cpu = cpu_take(this_thread());
    frames = reserve(qr_frames_size(&config));
    if (qr_frames_init(frames, &config) != QR_OK)
        qr_port_panic("libquire-malloc: the frames do not start");
    heap = reserve(qr_heap_size(CPUS));
    if (qr_heap_init(heap, frames, CPUS) != QR_OK)
        qr_port_panic("libquire-malloc: the heap does not start");
    qr_heap_large_select(heap, QR_LARGE_BEST_FIT);
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    atomic_store(&state, 2);
    pthread_key_create(&thread_key, thread_end);
    pthread_setspecific(thread_key, this_thread());
    pthread_atfork(fork_prepare, fork_done, fork_child);
}

/* Before main(): so that what follows has the library's own start behind it. */
static __attribute__((constructor)) void
library_start(void)
{
    if (malloc_cpu == NULL)
        thread_start();
}

/* ---- inside and outside ------------------------------------------------------------- */

static __attribute__((noinline)) void
wait_for_fork(struct thread *thread)
{
    do {
        atomic_store(&thread->inside, 0);
        while (atomic_load(&forking))
            sched_yield();
        atomic_store(&thread->inside, 1);
    } while (atomic_load(&forking));
}

/*
 * The store of the mark may be seen after the load of the flag: fork_prepare()'s membarrier
 * is what orders the two.
 */
static inline struct thread *
enter(void)
{
    struct thread *thread = this_thread();

    if (UNLIKELY(thread == NULL)) {
        thread_start();
        thread = this_thread();
    }
    atomic_store_explicit(&thread->inside, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (UNLIKELY(atomic_load_explicit(&forking, memory_order_relaxed)))
        wait_for_fork(thread);
    return thread;
}

static inline void
leave(struct thread *thread)
{
    atomic_store_explicit(&thread->inside, 0, memory_order_release);
}

static pthread_mutex_t fork_mutex = PTHREAD_MUTEX_INITIALIZER;

static void
fork_prepare(void)
{
    pthread_mutex_lock(&fork_mutex);
    atomic_store(&forking, 1);
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) != 0)
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
    for (struct thread *t = atomic_load(&threads); t != NULL; t = atomic_load(&t->next)) {
        while (t != this_thread() && atomic_load(&t->inside))
            sched_yield();
    }
}

static void
fork_done(void)
{
    atomic_store(&forking, 0);
    pthread_mutex_unlock(&fork_mutex);
}

/* The other threads do not exist here: their numbers and records are free. */
static void
fork_child(void)
{
    struct thread *self = this_thread();

    for (struct thread *t = atomic_load(&threads); t != NULL; t = atomic_load(&t->next)) {
        if (t == self)
            continue;
        t->owns_cpu = 0;
        atomic_store(&t->inside, 0);
        atomic_store(&t->used, 0);
    }
    for (unsigned w = 0; w < (CPUS + 63) / 64; w++)
        atomic_store(&cpus_used[w], 0);
    if (self->owns_cpu)
        atomic_fetch_or(&cpus_used[self->cpu.index / 64], (uint64_t)1 << self->cpu.index % 64);
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    fork_done();
}

/* ---- the interface ------------------------------------------------------------------ */

/* malloc(0) is a block that can be freed; everything is aligned to 16, as the ABI says. */
static inline size_t
rounded(size_t bytes)
{
    return bytes <= 16 ? 16 : (bytes + 15) & ~(size_t)15;
}

static void *
no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

EXPORT void *
malloc(size_t bytes)
{
    struct thread *thread;
    void *block;

    if (UNLIKELY(bytes > PTRDIFF_MAX))
        return no_memory();
    thread = enter();
    block = qr_kmalloc_plain(heap, rounded(bytes));
    leave(thread);
    return block != NULL ? block : no_memory();
}

EXPORT void
free(void *block)
{
    int error = errno;

    if (block == NULL)
        return;
    struct thread *thread = enter();

    qr_kfree(heap, block);
    leave(thread);
    errno = error;
}

EXPORT void *
calloc(size_t count, size_t bytes)
{
    struct thread *thread;
    size_t total;
    void *block;

    if (__builtin_mul_overflow(count, bytes, &total) || total > PTRDIFF_MAX)
        return no_memory();
    thread = enter();
    block = qr_kmalloc(heap, rounded(total), QR_ALLOC_ZERO);
    leave(thread);
    return block != NULL ? block : no_memory();
}

EXPORT void *
realloc(void *old, size_t bytes)
{
    struct thread *thread;
    void *block;

    if (old == NULL)
        return malloc(bytes);
    if (bytes == 0) {
        free(old);
        return NULL;
    }
    if (bytes > PTRDIFF_MAX)
        return no_memory();
    thread = enter();
    block = qr_krealloc(heap, old, rounded(bytes), 0);
    leave(thread);
    return block != NULL ? block : no_memory();
}

EXPORT void *
reallocarray(void *old, size_t count, size_t bytes)
{
    size_t total;

    if (__builtin_mul_overflow(count, bytes, &total))
        return no_memory();
    return realloc(old, total);
}

static void *
aligned(size_t align, size_t bytes)
{
    struct thread *thread;
    void *block;

    if (align > ALIGN_MAX || bytes > PTRDIFF_MAX - align)
        return NULL;
    thread = enter();
    block = qr_kmalloc_aligned(heap, rounded(bytes), align < 16 ? 16 : align, 0);
    leave(thread);
    return block;
}

static int
is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

EXPORT int
posix_memalign(void **out, size_t align, size_t bytes)
{
    void *block;

    if (!is_power_of_two(align) || align % sizeof(void *) != 0)
        return EINVAL;
    block = aligned(align, bytes);
    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

EXPORT void *
memalign(size_t align, size_t bytes)
{
    void *block;

    if (!is_power_of_two(align)) {
        errno = EINVAL;
        return NULL;
    }
    block = aligned(align, bytes);
    return block != NULL ? block : no_memory();
}

EXPORT void *
aligned_alloc(size_t align, size_t bytes)
{
    return memalign(align, bytes);
}

EXPORT void *
valloc(size_t bytes)
{
    return memalign(PAGE, bytes);
}

EXPORT void *
pvalloc(size_t bytes)
{
    return bytes > PTRDIFF_MAX ? no_memory()
                               : memalign(PAGE, (bytes + PAGE - 1) & ~(size_t)(PAGE - 1));
}

EXPORT size_t
malloc_usable_size(void *block)
{
    struct thread *thread;
    size_t bytes;

    if (block == NULL)
        return 0;
    thread = enter();
    bytes = qr_ksize(heap, block);
    leave(thread);
    return bytes;
}

EXPORT int
malloc_trim(size_t pad)
{
    struct thread *thread = enter();
    size_t released;

    (void)pad;
    released = qr_heap_reap(heap);
    leave(thread);
    return released != 0;
}
