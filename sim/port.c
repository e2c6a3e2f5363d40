/* SPDX-License-Identifier: MIT */
/*
 * The port of the hosted machine: quire/port.h for a Linux process.
 *
 * Three ways of running share it.  Alone: one host thread hops between CPUs.
 * Threads: one host thread a CPU.  Seeded: the scheduler (sched.c) runs one
 * thread at a time, and every entry here is a point where it may switch.
 *
 * A test of the lowest layers may run with no machine at all: a host thread
 * that acts as no CPU gets a bare one of its own, with an index and interrupts
 * and no memory.
 */
#include "machine.h"

#include <quire/user.h>

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Turns of spin loops without an end, by the only host thread there is. */
enum { LONE_SPINS = 1000000 };

static struct sim bare_machine; /* never booted: its CPUs have no RAM and no TLB */
static atomic_uint bare_count;
static _Thread_local struct sim_cpu bare;

static struct sim_cpu *
current_cpu(void)
{
    struct sim_cpu *cpu = here();

    if (cpu != NULL)
        return cpu;
    if (bare.sim == NULL) {
        bare.sim = &bare_machine;
        bare.irq_on = true;
        bare.qr.index = atomic_fetch_add(&bare_count, 1) % CONFIG_MAX_CPUS;
    }
    return &bare;
}

/* ---- Level 1 ------------------------------------------------------------- */

static bool
window_is_high(const struct sim *sim, uint64_t pa)
{
    return sim->options.direct_limit != 0 && pa >= sim->options.direct_limit;
}

static unsigned char *
window_place(const struct sim_cpu *cpu, unsigned index)
{
    size_t cpus_before = (size_t)(cpu - cpu->sim->cpus);

    return cpu->sim->windows + (cpus_before * SIM_WINDOWS + index) * QR_PAGE_SIZE;
}

void *
qr_port_window_open(qr_pa pa)
{
    struct sim_cpu *cpu = here();

    if (cpu == NULL)
        sim_fail("physical address %#llx used by a host thread that acts as no CPU",
                 (unsigned long long)pa.v);
    if (!bank_has(cpu->sim, pa.v))
        sim_fail("a window is opened to %#llx, where there is no RAM", (unsigned long long)pa.v);
    if (!window_is_high(cpu->sim, pa.v))
        return cpu->sim->direct + pa.v;
    if (cpu->window_count == SIM_WINDOWS)
        sim_fail("a fifth window is opened on CPU %u; a port need not offer more than four",
                 cpu->qr.index);
    unsigned char *window = window_place(cpu, cpu->window_count++);

    sim_host_alias(cpu->sim->ram + (pa.v & ~(uint64_t)QR_PAGE_MASK), QR_PAGE_SIZE, window);
    return window + (pa.v & QR_PAGE_MASK);
}

void
qr_port_window_close(void *window)
{
    struct sim_cpu *cpu = here();

    if (cpu == NULL || cpu->sim->windows == NULL)
        return;
    unsigned char *at = (unsigned char *)((uintptr_t)window & ~(uintptr_t)QR_PAGE_MASK);
    unsigned char *first = window_place(cpu, 0);
    size_t all = (size_t)cpu->sim->cpu_count * SIM_WINDOWS * QR_PAGE_SIZE;

    if (at < cpu->sim->windows || at >= cpu->sim->windows + all) {
        if ((uint64_t)(at - cpu->sim->direct) >= cpu->sim->options.direct_limit)
            sim_fail("%p is closed as a window, and is none", window);
        return;
    }
    if (cpu->window_count == 0 || at != first + (cpu->window_count - 1) * QR_PAGE_SIZE)
        sim_fail("windows are closed on another CPU, or in another order than the reverse of "
                 "opening");
    sim_host_hide(at, QR_PAGE_SIZE);
    cpu->window_count--;
    sim_preempt(); /* what was seen through it may be out of date when somebody acts on it */
}

void
qr_port_panic(const char *message)
{
    sim_fail("panic: %s", message);
}

void
qr_port_log(const char *line)
{
    struct sim_cpu *cpu = current_cpu();

    cpu->stats.log_lines++;
    if (cpu->sim->log)
        fprintf(stderr, "quire: %s\n", line);
}

qr_pa
qr_port_direct_pa(const void *pointer)
{
    struct sim_cpu *cpu = here();

    if (cpu == NULL)
        sim_fail("the physical address of %p asked by a host thread that acts as no CPU", pointer);
    uint64_t pa = (uint64_t)((const unsigned char *)pointer - cpu->sim->direct);

    if (!bank_has(cpu->sim, pa) || window_is_high(cpu->sim, pa))
        sim_fail("%p is not in the direct map", pointer);
    return qr_pa_of(pa);
}

/* ---- Level 2 ------------------------------------------------------------- */

struct qr_cpu *
qr_port_this_cpu(void)
{
    return &current_cpu()->qr;
}

uintptr_t
qr_port_irq_save(void)
{
    sim_preempt();
    struct sim_cpu *cpu = current_cpu();
    uintptr_t state = cpu->irq_on;

    cpu->irq_on = false;
    return state;
}

void
qr_port_irq_restore(uintptr_t state)
{
    struct sim_cpu *cpu = current_cpu();

    if (!cpu->sim->threaded && cpu != &bare)
        cpu->sim->lone_spins = 0;
    cpu->irq_on = state != 0;
    if (!cpu->irq_on)
        return;
    if (sched_is_seeded(cpu->sim))
        sim_preempt();
    else
        cpu_take_interrupts(cpu);
}

/* Who holds what is waited for may wait for a core behind us: now and then, really leave it. */
static void
thread_relax(void)
{
    static _Thread_local unsigned spins;
    const struct timespec moment = {.tv_nsec = 50000};

    if (++spins % 16 == 0)
        nanosleep(&moment, NULL);
    else
        sched_yield();
}

void
qr_port_relax(void)
{
    struct sim_cpu *cpu = current_cpu();

    if (sched_is_seeded(cpu->sim)) {
        sched_spin(cpu->sim);
        return;
    }
    cpu_take_interrupts(cpu);
    if (cpu != &bare)
        machine_serve_idle(cpu->sim);
    if (cpu == &bare || cpu->sim->threaded)
        thread_relax();
    else if (++cpu->sim->lone_spins > LONE_SPINS)
        sim_fail("a livelock: CPU %u spins and nobody else runs", cpu->qr.index);
}

/* ---- Level 3 ------------------------------------------------------------- */

static pthread_mutex_t bare_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t bare_changed = PTHREAD_COND_INITIALIZER;

static void
check_may_sleep(const struct sim_cpu *cpu)
{
    if (!cpu->irq_on || cpu->in_interrupt || cpu->qr.irq_depth != 0)
        sim_fail("CPU %u sleeps with its interrupts off: a spin lock is held", cpu->qr.index);
    if (cpu->window_count != 0)
        sim_fail("CPU %u sleeps with a window open", cpu->qr.index);
}

/* Threads: while it sleeps nobody acts as the CPU, so that others serve its interrupts. */
static void
thread_wait(struct sim_cpu *cpu, _Atomic uint32_t *word, uint32_t expected)
{
    bool with_machine = cpu != &bare;
    pthread_mutex_t *lock = with_machine ? &cpu->sim->wait_lock : &bare_lock;
    pthread_cond_t *changed = with_machine ? &cpu->sim->wait_changed : &bare_changed;
    struct sim *sim = cpu->sim;
    unsigned index = cpu->qr.index;

    if (with_machine)
        sim_leave();
    pthread_mutex_lock(lock);
    if (atomic_load(word) == expected) {
        struct timespec until;

        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 20;
        if (pthread_cond_timedwait(changed, lock, &until) != 0)
            sim_fail("nobody woke a sleeper on %p (value %u) for 20 seconds", (void *)word,
                     expected);
    }
    pthread_mutex_unlock(lock);
    if (with_machine)
        sim_enter(sim, index);
}

void
qr_port_wait(_Atomic uint32_t *word, uint32_t expected)
{
    struct sim_cpu *cpu = current_cpu();

    check_may_sleep(cpu);
    if (sched_is_seeded(cpu->sim)) {
        sched_wait(cpu->sim, word, expected);
        return;
    }
    if (cpu != &bare && !cpu->sim->threaded) {
        if (atomic_load(word) == expected)
            sim_fail("CPU %u sleeps on %p (value %u) and nobody else runs: a deadlock",
                     cpu->qr.index, (void *)word, expected);
        return;
    }
    thread_wait(cpu, word, expected);
}

void
qr_port_wake(_Atomic uint32_t *word, uint32_t count)
{
    struct sim_cpu *cpu = current_cpu();

    if (sched_is_seeded(cpu->sim)) {
        sched_wake(cpu->sim, word, count);
        return;
    }
    if (cpu == &bare) {
        pthread_mutex_lock(&bare_lock);
        pthread_cond_broadcast(&bare_changed);
        pthread_mutex_unlock(&bare_lock);
    } else if (cpu->sim->threaded) {
        /* More sleepers than asked for may wake: qr_port_wait() may return early. */
        pthread_mutex_lock(&cpu->sim->wait_lock);
        pthread_cond_broadcast(&cpu->sim->wait_changed);
        pthread_mutex_unlock(&cpu->sim->wait_lock);
    }
}

uint64_t
qr_port_clock_ns(void)
{
    struct sim_cpu *cpu = current_cpu();
    struct timespec now;

    /* Simulated time counts the clock's own readings: equal seeds see equal times. */
    if (cpu != &bare && !cpu->sim->threaded)
        return atomic_fetch_add(&cpu->sim->clock, 1000);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
qr_port_random(void *buffer, size_t bytes)
{
    struct sim_cpu *cpu = current_cpu();
    unsigned char *to = buffer;

    for (size_t i = 0; i < bytes; i++)
        to[i] = (unsigned char)random_next(&cpu->random);
}

uintptr_t
qr_port_user_end(void)
{
    struct sim_cpu *cpu = here();

    if (cpu == NULL)
        sim_fail("user addresses checked by a host thread that acts as no CPU");
    return cpu->sim->user_end;
}

/* ---- Level 4 ------------------------------------------------------------- */

static bool
ipi_is_lost(struct sim *sim)
{
    unsigned long long left = atomic_load(&sim->drop_ipi);

    return left != 0 && atomic_fetch_sub(&sim->drop_ipi, 1) == 1;
}

void
qr_port_ipi(const struct qr_cpu_set *cpus)
{
    struct sim_cpu *me = current_cpu();

    for (unsigned i = 0; i < me->sim->cpu_count; i++) {
        if (!qr_cpu_set_has(cpus, i))
            continue;
        me->stats.ipis_sent++;
        if (!ipi_is_lost(me->sim))
            atomic_fetch_add_explicit(&me->sim->cpus[i].pending, 1, memory_order_release);
    }
    sim_preempt();
}

void
sim_drop_ipi(struct sim *sim, uint64_t n)
{
    atomic_store(&sim->drop_ipi, n);
}
