/* SPDX-License-Identifier: MIT */
/*
 * A simulated machine: RAM, CPUs, and who acts as which CPU.
 *
 * RAM is one reservation of address space that the host fills on touch, so a
 * terabyte costs nothing until it is used and a physical address becomes a
 * pointer by one addition.  Holes between banks are unreadable: a stray access
 * stops the test at once.
 *
 * Every host thread acts as one simulated CPU at a time, or as none
 * (thread-local `acting`).  A CPU that nobody acts as idles with its interrupts
 * on; whoever waits for it acts for it (machine_serve_idle), so a test that
 * hops from CPU to CPU with sim_enter() needs no threads for shootdowns to
 * work.  `busy` is the claim: taken with compare-and-swap, so that under real
 * threads the CPU's state passes from one host thread to another in order.
 */
#include "machine.h"
#include "mmu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Thread_local struct sim_cpu *acting;

struct catcher {
    jmp_buf exit;
    char message[512];
};
static _Thread_local struct catcher *catcher;

struct sim_cpu *
here(void)
{
    return acting;
}

void
here_set(struct sim_cpu *cpu)
{
    acting = cpu;
}

uint64_t
random_next(uint64_t *state)
{
    /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

bool
cpu_chance(struct sim_cpu *cpu, unsigned one_in)
{
    return random_next(&cpu->random) % one_in == 0;
}

uint64_t
sim_random(struct sim *sim)
{
    struct sim_cpu *cpu = here();

    return random_next(cpu != NULL && cpu->sim == sim ? &cpu->random : &sim->cpus[0].random);
}

/* ---- Failures ------------------------------------------------------------ */

static void
failure_stop(const char *message)
{
    struct sim_cpu *cpu = acting;

    if (catcher != NULL) {
        snprintf(catcher->message, sizeof(catcher->message), "%s", message);
        if (cpu != NULL)
            sched_abandon(cpu->sim);
        sim_catch_resume();
    }
    fprintf(stderr, "sim: %s\n", message);
    if (cpu != NULL) {
        fprintf(stderr, "sim: on CPU %u of %u, seed %llu\n", cpu->qr.index, cpu->sim->cpu_count,
                (unsigned long long)cpu->sim->options.seed);
        sched_describe(cpu->sim, stderr);
    }
    fflush(stderr);
    abort();
}

void
sim_fail(const char *format, ...)
{
    char message[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    failure_stop(message);
    abort();
}

void
sim_catch_resume(void)
{
    acting = NULL;
    longjmp(catcher->exit, 1);
}

bool
sim_catch(void (*body)(void *context), void *context, char *out_message, size_t bytes)
{
    struct catcher mine;
    struct catcher *outer = catcher;
    struct sim_cpu *before = acting;
    uint64_t mark = sim_host_mark();

    mine.message[0] = '\0';
    catcher = &mine;
    if (setjmp(mine.exit) == 0) {
        body(context);
        catcher = outer;
        return false;
    }
    catcher = outer;
    acting = before; /* a CPU of another machine */
    sim_host_forget(mark);
    if (bytes > 0)
        snprintf(out_message, bytes, "%s", mine.message);
    return true;
}

uint64_t
sim_seeds(uint64_t usual)
{
    const char *text = getenv("SIM_SEEDS");

    return text != NULL ? strtoull(text, NULL, 0) : usual;
}

static bool
environment_says(const char *name)
{
    const char *text = getenv(name);

    return text != NULL && text[0] == '1';
}

/* SIM_FEATURES: names as below, with commas; for machines whose MMU the environment chooses. */
static unsigned
environment_features(void)
{
    static const struct {
        const char *name;
        unsigned feature;
    } names[] = {
        {"no_ad", SIM_NO_AD},
        {"no_dirty", SIM_NO_DIRTY},
        {"speculate", SIM_SPECULATE},
        {"evict", SIM_EVICT},
        {"leaf_flush", SIM_LEAF_FLUSH},
        {"cache_invalid", SIM_CACHE_INVALID},
        {"bbm2", SIM_BBM2},
        {"no_pbmt", SIM_NO_PBMT},
        {"no_nx", SIM_NO_NX},
        {"broadcast", SIM_BROADCAST},
        {"no_broadcast", SIM_NO_BROADCAST},
    };
    const char *text = getenv("SIM_FEATURES");
    unsigned features = 0;

    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ","), i = 0;

        while (i < QR_ARRAY_COUNT(names) &&
               (strlen(names[i].name) != length || strncmp(names[i].name, text, length) != 0))
            i++;
        if (i == QR_ARRAY_COUNT(names))
            sim_fail("SIM_FEATURES=%s: there is no such feature", text);
        features |= names[i].feature;
        text += length + (text[length] == ',');
    }
    return features;
}

/* ---- RAM ----------------------------------------------------------------- */

bool
bank_has(const struct sim *sim, uint64_t pa)
{
    for (size_t i = 0; i < sim->options.bank_count; i++) {
        if (pa >= sim->banks[i].start && pa - sim->banks[i].start < sim->banks[i].bytes)
            return true;
    }
    return false;
}

/* Half of the memory is high; the other is rounded up to whole blocks of the frame allocator. */
static void
ram_split(struct sim_options *options)
{
    size_t block = ((size_t)2 << 20) >> QR_PAGE_SHIFT;
    size_t low = (options->frames / 2 + block - 1) & ~(block - 1);

    options->frames += low - options->frames / 2;
    options->direct_limit = options->base + ((uint64_t)low << QR_PAGE_SHIFT);
}

static void
ram_take_banks(struct sim *sim)
{
    struct sim_options *options = &sim->options;

    if (options->banks == NULL) {
        if (options->frames == 0)
            options->frames = 1024;
        if (options->base == 0)
            options->base = 16u << 20;
        if (options->direct_limit == 0 && environment_says("SIM_WINDOWS"))
            ram_split(options);
        sim->banks[0].start = options->base;
        sim->banks[0].bytes = (uint64_t)options->frames << QR_PAGE_SHIFT;
        options->bank_count = 1;
    } else {
        if (options->bank_count > SIM_BANKS_MAX)
            sim_fail("%zu banks; a machine has at most %d", options->bank_count, SIM_BANKS_MAX);
        memcpy(sim->banks, options->banks, options->bank_count * sizeof(sim->banks[0]));
    }
    options->banks = sim->banks;
    for (size_t i = 0; i < options->bank_count; i++) {
        struct sim_bank *bank = &sim->banks[i];

        if (bank->start % QR_PAGE_SIZE != 0 || bank->bytes % QR_PAGE_SIZE != 0)
            sim_fail("bank %zu is not made of whole pages", i);
        if (bank->start + bank->bytes > sim->ram_bytes)
            sim->ram_bytes = bank->start + bank->bytes;
        sim->map[i].range.start = qr_pa_of(bank->start);
        sim->map[i].range.end = qr_pa_of(bank->start + bank->bytes);
        sim->map[i].kind = bank->kind;
        sim->map[i].node = bank->node;
        sim->map[i].description = "simulated RAM";
    }
}

/*
 * With high memory the kernel has addresses of its own: the direct map of what lies
 * below the limit, and four places a CPU for windows.  All else is inaccessible, so a
 * touch without a window, or after it was closed, stops the test at once.
 */
static void
direct_map_make(struct sim *sim)
{
    uint64_t limit = sim->options.direct_limit;

    sim->direct = sim_host_map(sim->ram_bytes, PROT_NONE, SIM_HOST_PLAIN);
    sim->windows = sim_host_map((size_t)sim->cpu_count * SIM_WINDOWS * QR_PAGE_SIZE, PROT_NONE,
                                SIM_HOST_PLAIN);
    for (size_t i = 0; i < sim->options.bank_count; i++) {
        uint64_t start = sim->banks[i].start, bytes = sim->banks[i].bytes;

        if (start >= limit)
            continue;
        sim_host_alias(sim->ram + start, limit - start < bytes ? limit - start : bytes,
                       sim->direct + start);
    }
}

static void
ram_reserve(struct sim *sim)
{
    ram_take_banks(sim);
    sim->ram = sim_host_map(sim->ram_bytes, PROT_NONE,
                            sim->options.direct_limit != 0 ? SIM_HOST_ALIASED : SIM_HOST_PLAIN);
    sim->direct = sim->ram;
    for (size_t i = 0; i < sim->options.bank_count; i++) {
        if (mprotect(sim->ram + sim->banks[i].start, sim->banks[i].bytes, PROT_READ | PROT_WRITE) !=
            0)
            sim_fail("the host cannot open bank %zu", i);
    }
    if (sim->options.direct_limit != 0)
        direct_map_make(sim);
}

void *
sim_ram(struct sim *sim, qr_pa pa)
{
    if (!bank_has(sim, pa.v))
        sim_fail("no RAM at physical address %#llx", (unsigned long long)pa.v);
    return sim->ram + pa.v;
}

size_t
sim_memory_map(struct sim *sim, const struct qr_memory_range **out_map)
{
    *out_map = sim->map;
    return sim->options.bank_count;
}

/* ---- Booting and stopping ------------------------------------------------- */

static void
cpus_create(struct sim *sim)
{
    uint64_t seed = sim->options.seed;

    sim->cpus = sim_host_alloc(sim->cpu_count * sizeof(sim->cpus[0]));
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        struct sim_cpu *cpu = &sim->cpus[i];

        cpu->sim = sim;
        cpu->qr.index = i;
        cpu->qr.node = sim->options.cpu_nodes != NULL ? sim->options.cpu_nodes[i] : 0;
        cpu->irq_on = true;
        cpu->random = random_next(&seed);
        cpu->tlb = tlb_create();
    }
}

struct sim *
sim_boot_ram(struct sim_options options)
{
    struct sim *sim = sim_host_alloc(sizeof(*sim));
    sim->options = options;
    sim->cpu_count = options.cpus == 0 ? 1 : options.cpus;
    if (sim->cpu_count > CONFIG_MAX_CPUS)
        sim_fail("%u CPUs; the library is built for %d", sim->cpu_count, CONFIG_MAX_CPUS);
    sim->copy_chunk = 8;
    sim->preempt_one_in = 8;
    sim->log = environment_says("SIM_LOG");
    if (sim->options.mmu == SIM_MMU_DEFAULT) {
        sim->options.mmu = sim_mmu_default();
        sim->options.features |= environment_features();
    }
    sim->mmu = mmu_of(sim->options.mmu);
    if (sim->mmu->no_asids)
        sim->options.asids = 1;
    else if (sim->options.asids == 0)
        sim->options.asids = 2 * sim->cpu_count + 8;
    sim->user_end = mmu_user_end(sim->mmu);
    pthread_mutex_init(&sim->wait_lock, NULL);
    pthread_cond_init(&sim->wait_changed, NULL);
    pthread_mutex_init(&sim->refusals.lock, NULL);
    sim->refusals.random = options.seed;
    ram_reserve(sim);
    cpus_create(sim);
    sim_enter(sim, 0);
    return sim;
}

void
sim_on_stop(struct sim *sim, void (*stop)(struct sim *sim))
{
    if (sim->stop_count == SIM_STOPS_MAX)
        sim_fail("too many stages of booting");
    sim->stops[sim->stop_count++] = stop;
}

void
sim_shutdown(struct sim *sim)
{
    sim_enter(sim, 0);
    sim_refuse_nth(sim, 0, SIM_REFUSE_ONCE);
    while (sim->stop_count > 0)
        sim->stops[--sim->stop_count](sim);
    sim_leave();
    for (unsigned i = 0; i < sim->cpu_count; i++)
        tlb_destroy(sim->cpus[i].tlb);
    sim_host_unmap(sim->ram);
    if (sim->direct != sim->ram)
        sim_host_unmap(sim->direct);
    if (sim->windows != NULL)
        sim_host_unmap(sim->windows);
    pthread_mutex_destroy(&sim->wait_lock);
    pthread_cond_destroy(&sim->wait_changed);
    pthread_mutex_destroy(&sim->refusals.lock);
    sim_host_free(sim->cpus);
    sim_host_free(sim);
}

struct qr_frames *
sim_frames(struct sim *sim)
{
    return sim->frames;
}

struct qr_heap *
sim_heap(struct sim *sim)
{
    return sim->heap;
}

struct qr_tlb *
sim_tlb(struct sim *sim)
{
    return sim->tlb;
}

struct qr_epoch *
sim_epoch(struct sim *sim)
{
    return sim->epoch;
}

struct qr_tables *
sim_kernel_tables(struct sim *sim)
{
    return sim->kernel_tables;
}

const struct qr_format *
sim_format(struct sim *sim)
{
    return sim->format;
}

/* ---- CPUs ---------------------------------------------------------------- */

unsigned
sim_cpu_count(struct sim *sim)
{
    return sim->cpu_count;
}

void
sim_leave(void)
{
    struct sim_cpu *cpu = acting;

    if (cpu == NULL)
        return;
    if (!cpu->irq_on || cpu->qr.irq_depth != 0)
        sim_fail("CPU %u is left with its interrupts off: a lock is still held", cpu->qr.index);
    cpu_take_interrupts(cpu);
    acting = NULL;
    atomic_store_explicit(&cpu->busy, false, memory_order_release);
}

/* Wait until nobody acts for the CPU; under real threads somebody may for a moment. */
static void
cpu_claim(struct sim_cpu *cpu)
{
    for (uint64_t tries = 0;; tries++) {
        bool busy = false;

        if (atomic_compare_exchange_weak_explicit(&cpu->busy, &busy, true, memory_order_acquire,
                                                  memory_order_relaxed))
            return;
        if (!cpu->sim->threaded && tries > 100)
            sim_fail("CPU %u is entered by two host threads at once", cpu->qr.index);
        sched_yield();
    }
}

void
sim_enter(struct sim *sim, unsigned cpu)
{
    if (cpu >= sim->cpu_count)
        sim_fail("CPU %u of %u entered", cpu, sim->cpu_count);
    if (acting == &sim->cpus[cpu])
        return;
    sim_leave();
    cpu_claim(&sim->cpus[cpu]);
    acting = &sim->cpus[cpu];
    sim_poll();
}

struct sim *
sim_here(void)
{
    return acting != NULL ? acting->sim : NULL;
}

unsigned
sim_here_cpu(void)
{
    return acting != NULL ? acting->qr.index : 0;
}

void
cpu_take_interrupts(struct sim_cpu *cpu)
{
    while (cpu->irq_on && atomic_exchange_explicit(&cpu->pending, 0, memory_order_acquire) != 0) {
        cpu->irq_on = false;
        cpu->in_interrupt = true;
        cpu->stats.ipis_taken++;
        if (cpu->sim->hooks.interrupt != NULL)
            cpu->sim->hooks.interrupt();
        cpu->in_interrupt = false;
        cpu->irq_on = true;
    }
}

void
machine_serve_idle(struct sim *sim)
{
    struct sim_cpu *me = acting;

    for (unsigned i = 0; i < sim->cpu_count; i++) {
        struct sim_cpu *cpu = &sim->cpus[i];
        bool busy = false;

        if (atomic_load_explicit(&cpu->pending, memory_order_relaxed) == 0)
            continue;
        if (!atomic_compare_exchange_strong_explicit(&cpu->busy, &busy, true, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        acting = cpu;
        cpu_take_interrupts(cpu);
        acting = me;
        atomic_store_explicit(&cpu->busy, false, memory_order_release);
    }
}

void
sim_poll(void)
{
    struct sim_cpu *cpu = acting;

    if (cpu == NULL)
        return;
    if (sched_is_seeded(cpu->sim)) {
        sim_preempt();
        return;
    }
    cpu_take_interrupts(cpu);
    machine_serve_idle(cpu->sim);
}

void
sim_set_pkru(uint32_t pkru)
{
    acting->pkru = pkru;
}

void
sim_set_log(struct sim *sim, bool on)
{
    sim->log = on;
}

struct sim_stats
sim_stats(struct sim *sim)
{
    struct sim_stats sum;
    uint64_t *to = (uint64_t *)&sum;

    memset(&sum, 0, sizeof(sum));
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        const uint64_t *from = (const uint64_t *)&sim->cpus[i].stats;

        for (size_t word = 0; word < sizeof(sum) / sizeof(*to); word++)
            to[word] += from[word];
    }
    sum.steps = sim->steps;
    sum.switches = sim->switches;
    return sum;
}
