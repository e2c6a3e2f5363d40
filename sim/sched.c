/* SPDX-License-Identifier: MIT */
/*
 * Threads of the simulated machine and the order in which they run.
 *
 * Seeded: every thread is a fiber, and exactly one runs.  The port, every
 * simulated access and any hook in the core call sim_preempt(); there, and in
 * every turn of a spin loop, the scheduler may hand on to another.  All choices
 * come from one sequence, so a seed names an interleaving and replays it.
 *
 * What may run next, for each CPU:
 *
 *     interrupts off     the thread or the interrupt handler that turned them off
 *     interrupts on      its thread
 *                        the handler, where an interrupt is pending (so interrupts
 *                        are late and overtake each other as the seed says)
 *                        a thread that is on no CPU, where this one idles
 *                        now and then: such a thread although it does not
 *                        (pre-emption), or going idle (so that its thread migrates)
 *
 * And now and then one CPU gets no turn for a while, so that the others can do
 * much between two of its steps.
 *
 * A thread that comes to a CPU first loads its space there, through the
 * library, interrupts off.  A CPU that loses its thread goes lazy before that
 * thread may run elsewhere, as a kernel's idle thread does.
 *
 * Nothing to run while threads remain is a deadlock; a long time of nothing but
 * spinning is a livelock.  Both fail and say who waits for what.
 *
 * Threads: one host thread a simulated thread, each on a CPU of its own, for
 * race detectors; the host decides the order.
 */
#include "fiber.h"
#include "machine.h"

#include <string.h>

enum {
    SPIN_LIMIT = 2000000, /* turns of spin loops with nothing else between */
    EARLY_WAKE_ONE_IN = 16,
    STALL_ONE_IN = 32,
    STALL_TURNS = 64,
};

enum thread_state { THREAD_READY, THREAD_WAITING, THREAD_DONE };

struct sim_thread {
    struct sim *sim;
    const char *name;
    sim_body body;
    void *context;
    void *space; /* NULL: a kernel thread, or no spaces are booted */
    bool kernel;
    bool handler; /* a CPU's interrupt handler, not a thread */
    bool active;  /* handler: in the middle of an interrupt, or of going idle */
    bool idles;   /* handler: takes the thread off its CPU */
    unsigned only_cpu;

    enum thread_state state;
    _Atomic uint32_t *word;
    uint32_t expected;
    bool spinning;
    struct sim_cpu *cpu; /* loaded there */
    struct fiber fiber;
    pthread_t host;
    unsigned host_cpu;
};

struct sched {
    struct sim_thread **threads;
    unsigned count, capacity, alive;
    struct sim_thread *handlers; /* one a CPU */
    struct fiber main;
    struct sim_thread *running; /* NULL: the stack that called sim_run() */
    struct fiber *came_from;
    uint64_t random;
    uint64_t quiet; /* spins since anything else happened */
    unsigned hold;
    unsigned stalled;        /* a CPU that gets no turn for a while */
    unsigned stall_turns;    /* how much longer */
    unsigned migrate_one_in; /* 4 to 256, as the seed says */
    bool abandoned;
};

struct choice {
    struct sim_thread *thread;
    struct sim_cpu *cpu;
    bool idle; /* the handler, to take the CPU's thread off */
};

bool
sched_is_seeded(const struct sim *sim)
{
    return sim->sched != NULL && sim->sched->running != NULL;
}

void
sched_hold(struct sim *sim)
{
    if (sim->sched != NULL && !sim->threaded)
        sim->sched->hold++;
}

void
sched_release(struct sim *sim)
{
    if (sim->sched != NULL && !sim->threaded)
        sim->sched->hold--;
}

/* ---- Threads ------------------------------------------------------------------- */

static struct sched *
sched_of(struct sim *sim)
{
    if (sim->sched == NULL) {
        sim->sched = sim_host_alloc(sizeof(*sim->sched));
        sim->sched->random = sim->options.seed ^ 0x5eed5eed5eed5eedull;
        sim->sched->migrate_one_in = 4u << (random_next(&sim->sched->random) % 7);
    }
    return sim->sched;
}

static struct sim_thread *
spawn(struct sim *sim, unsigned cpu, const char *name, sim_body body, void *context)
{
    struct sched *sched = sched_of(sim);
    struct sim_thread *thread = sim_host_alloc(sizeof(*thread));

    thread->sim = sim;
    thread->name = name;
    thread->body = body;
    thread->context = context;
    thread->only_cpu = cpu;
    if (sched->count == sched->capacity) {
        unsigned capacity = sched->capacity == 0 ? 8 : 2 * sched->capacity;

        sched->threads = sim_host_grow(sched->threads, sched->capacity * sizeof(sched->threads[0]),
                                       capacity * sizeof(sched->threads[0]));
        sched->capacity = capacity;
    }
    sched->threads[sched->count++] = thread;
    sched->alive++;
    return thread;
}

struct sim_thread *
sim_spawn(struct sim *sim, unsigned cpu, const char *name, sim_body body, void *context)
{
    struct sim_thread *thread = spawn(sim, cpu, name, body, context);

    thread->space = here() != NULL ? here()->space : NULL;
    return thread;
}

struct sim_thread *
sim_spawn_kernel(struct sim *sim, unsigned cpu, const char *name, sim_body body, void *context)
{
    struct sim_thread *thread = spawn(sim, cpu, name, body, context);

    thread->kernel = true;
    return thread;
}

static void
sched_free(struct sim *sim)
{
    struct sched *sched = sim->sched;

    for (unsigned i = 0; i < sched->count; i++) {
        fiber_destroy(&sched->threads[i]->fiber);
        sim_host_free(sched->threads[i]);
    }
    for (unsigned i = 0; sched->handlers != NULL && i < sim->cpu_count; i++)
        fiber_destroy(&sched->handlers[i].fiber);
    sim_host_free(sched->handlers);
    sim_host_free(sched->threads);
    sim_host_free(sched);
    sim->sched = NULL;
}

void
sched_set_space(struct sim *sim, void *space)
{
    if (sched_is_seeded(sim))
        sim->sched->running->space = space;
}

void
sim_use_tables(struct sim *sim, struct qr_tlb_space *space)
{
    sched_set_space(sim, space);
    sched_load_space(sim, space);
}

void
sched_load_space(struct sim *sim, void *space)
{
    struct sim_cpu *cpu = here();
    bool irq_on = cpu->irq_on;

    if (sim->hooks.space_switch == NULL || cpu->space == space)
        return;
    cpu->irq_on = false;
    cpu->space = space;
    sim->hooks.space_switch(sim, space);
    cpu->irq_on = irq_on;
}

void
sim_unload(struct sim *sim, const void *space)
{
    unsigned back = sim_here_cpu();

    if (sched_is_seeded(sim) || sim->threaded)
        return;
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        if (sim->cpus[i].space != space)
            continue;
        sim_enter(sim, i);
        sched_load_space(sim, NULL);
    }
    sim_enter(sim, back);
}

/* ---- What may run next ------------------------------------------------------------ */

static bool
thread_may_come(const struct sim_thread *thread, const struct sim_cpu *cpu)
{
    return thread->state == THREAD_READY && thread->cpu == NULL &&
           (thread->only_cpu == SIM_ANY_CPU || thread->only_cpu == cpu->qr.index);
}

static unsigned
choices_of_cpu(struct sched *sched, struct sim_cpu *cpu, bool migrate, struct choice *out)
{
    struct sim_thread *handler = &sched->handlers[cpu->qr.index];
    struct sim_thread *thread = cpu->thread;
    unsigned count = 0;

    if (handler->active) {
        out[count++] = (struct choice){handler, cpu, false};
        return count;
    }
    if (thread != NULL)
        out[count++] = (struct choice){thread, cpu, false};
    if (thread != NULL && !cpu->irq_on)
        return count;
    if (atomic_load_explicit(&cpu->pending, memory_order_relaxed) != 0)
        out[count++] = (struct choice){handler, cpu, false};
    if (cpu->window_count != 0) /* a window belongs to the CPU: its holder stays */
        return count;
    if (migrate && thread != NULL)
        out[count++] = (struct choice){handler, cpu, true};
    for (unsigned i = 0; i < sched->count && (migrate || thread == NULL); i++) {
        if (thread_may_come(sched->threads[i], cpu))
            out[count++] = (struct choice){sched->threads[i], cpu, false};
    }
    return count;
}

static unsigned
choices_all(struct sim *sim, bool migrate, struct choice *out)
{
    struct sched *sched = sim->sched;
    unsigned count = 0;

    for (unsigned i = 0; i < sim->cpu_count; i++) {
        if (sched->stall_turns == 0 || i != sched->stalled)
            count += choices_of_cpu(sched, &sim->cpus[i], migrate, out + count);
    }
    return count;
}

void
sched_describe(struct sim *sim, FILE *out)
{
    struct sched *sched = sim->sched;

    for (unsigned i = 0; sched != NULL && i < sched->count; i++) {
        const struct sim_thread *thread = sched->threads[i];

        fprintf(out, "sim: thread %s%s", thread->name, thread == sched->running ? " (runs)" : "");
        if (thread->cpu != NULL)
            fprintf(out, ", on CPU %u, interrupts %s", thread->cpu->qr.index,
                    thread->cpu->irq_on ? "on" : "off");
        if (thread->state == THREAD_DONE)
            fprintf(out, ": has ended\n");
        else if (thread->state == THREAD_WAITING)
            fprintf(out, ": waits while %p is %u; it is %u\n", (void *)thread->word,
                    thread->expected, atomic_load(thread->word));
        else
            fprintf(out, ": %s\n", thread->spinning ? "spins" : "could run");
    }
}

static QR_NORETURN void
stuck(struct sim *sim, const char *what)
{
    char names[300] = "";
    struct sched *sched = sim->sched;

    for (unsigned i = 0; i < sched->count; i++) {
        const struct sim_thread *thread = sched->threads[i];
        size_t length = strlen(names);

        if (thread->state != THREAD_DONE)
            snprintf(names + length, sizeof(names) - length, "; %s %s", thread->name,
                     thread->state == THREAD_WAITING ? "waits"
                     : thread->spinning              ? "spins"
                                                     : "could run");
    }
    sim_fail("%s%s", what, names);
}

/* Now and then one CPU stands still, wherever it is, while the others do a lot. */
static void
stall(struct sched *sched, unsigned cpu_count)
{
    uint64_t dice;

    if (sched->stall_turns > 0) {
        sched->stall_turns--;
        return;
    }
    dice = random_next(&sched->random);
    if (dice % STALL_ONE_IN != 0)
        return;
    sched->stalled = (unsigned)(dice >> 32) % cpu_count;
    sched->stall_turns = (unsigned)(dice >> 16) % STALL_TURNS;
}

static struct choice
choose(struct sim *sim)
{
    struct sched *sched = sim->sched;
    struct choice choices[CONFIG_MAX_CPUS * 4 + 256];
    unsigned count;

    if ((size_t)(sched->count + 3) * sim->cpu_count > QR_ARRAY_COUNT(choices))
        sim_fail("%u threads on %u CPUs are too many", sched->count, sim->cpu_count);
    stall(sched, sim->cpu_count);
    count = choices_all(sim, random_next(&sched->random) % sched->migrate_one_in == 0, choices);
    if (count == 0) {
        sched->stall_turns = 0;
        count = choices_all(sim, true, choices);
    }
    if (count == 0)
        return (struct choice){NULL, NULL, false};
    return choices[random_next(&sched->random) % count];
}

/* ---- Switching ---------------------------------------------------------------------- */

static void
load_thread(struct choice next)
{
    struct sim_thread *thread = next.thread;

    if (thread->handler || thread->cpu == next.cpu)
        return;
    if (next.cpu->thread != NULL)
        next.cpu->thread->cpu = NULL;
    thread->cpu = next.cpu;
    next.cpu->thread = thread;
}

static void
switch_to(struct sim *sim, struct choice next)
{
    struct sched *sched = sim->sched;
    struct sim_thread *me = sched->running;
    struct fiber *from = me != NULL ? &me->fiber : &sched->main;

    sim->steps++;
    sim->schedule_hash = (sim->schedule_hash ^ (next.cpu->qr.index + 1)) * 0x100000001b3ull;
    load_thread(next);
    next.thread->spinning = false;
    here_set(next.cpu);
    if (next.thread == me)
        return;
    sim->switches++;
    sched->running = next.thread;
    sched->came_from = from;
    if (next.thread->handler && !next.thread->active) {
        next.thread->active = true;
        next.thread->idles = next.idle;
    }
    fiber_switch(from, &next.thread->fiber);
}

static void
back_to_main(struct sim *sim)
{
    struct sched *sched = sim->sched;
    struct fiber *from = &sched->running->fiber;

    sched->running = NULL;
    here_set(NULL);
    fiber_switch(from, &sched->main);
}

static bool
handler_is_active(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        if (sim->sched->handlers[i].active)
            return true;
    }
    return false;
}

/* Hand on.  Comes back when the caller is chosen again, its space loaded. */
static void
hand_on(struct sim *sim)
{
    struct sched *sched = sim->sched;
    struct sim_thread *me = sched->running;
    struct choice next;

    if (sched->alive == 0 && !handler_is_active(sim))
        back_to_main(sim); /* for good */
    if ((sim->options.features & (SIM_SPECULATE | SIM_EVICT)) != 0) {
        sched->hold++;
        mmu_speculate(here());
        sched->hold--;
    }
    next = choose(sim);
    if (next.thread == NULL)
        stuck(sim, "a deadlock: no thread can run");
    switch_to(sim, next);
    if (!me->handler && here()->irq_on)
        sched_load_space(sim, me->space);
}

/* The CPU has no work: lazy first, then its thread is free to run elsewhere. */
static void
go_idle(struct sim_cpu *cpu)
{
    sched_load_space(cpu->sim, NULL);
    if (cpu->thread != NULL)
        cpu->thread->cpu = NULL;
    cpu->thread = NULL;
}

static struct sim_thread *
started(void)
{
    struct sched *sched = here()->sim->sched;

    fiber_started(sched->came_from);
    return sched->running;
}

static void
thread_start(void)
{
    struct sim_thread *thread = started();
    struct sim *sim = thread->sim;

    sched_load_space(sim, thread->space);
    thread->body(thread->context);
    if (!thread->cpu->irq_on || thread->cpu->qr.irq_depth != 0)
        sim_fail("thread %s ends with interrupts off: a lock is still held", thread->name);
    go_idle(here());
    thread->state = THREAD_DONE;
    sim->sched->quiet = 0;
    sim->sched->alive--;
    hand_on(sim);
    sim_fail("thread %s runs after its end", thread->name);
}

static void
handler_start(void)
{
    struct sim_thread *handler = started();

    for (;;) {
        if (handler->idles)
            go_idle(here());
        else
            cpu_take_interrupts(here());
        handler->active = false;
        hand_on(handler->sim);
    }
}

void
sim_preempt(void)
{
    struct sim_cpu *cpu = here();
    struct sched *sched = cpu != NULL ? cpu->sim->sched : NULL;

    if (sched == NULL || sched->running == NULL || sched->hold != 0)
        return;
    if (cpu->irq_on)
        sched->quiet = 0;
    if (random_next(&sched->random) % cpu->sim->preempt_one_in == 0)
        hand_on(cpu->sim);
}

void
sched_spin(struct sim *sim)
{
    struct sched *sched = sim->sched;

    if (sched->hold != 0)
        sim_fail("the machine itself waits for a lock");
    if (++sched->quiet > SPIN_LIMIT) {
        sched->running->spinning = true;
        stuck(sim, "a livelock: nothing but spinning");
    }
    sched->running->spinning = true;
    hand_on(sim);
    sched->running->spinning = false;
}

void
sched_wait(struct sim *sim, _Atomic uint32_t *word, uint32_t expected)
{
    struct sim_thread *me = sim->sched->running;

    sim_preempt();
    if (atomic_load(word) != expected || random_next(&sim->sched->random) % EARLY_WAKE_ONE_IN == 0)
        return;
    go_idle(here());
    me->state = THREAD_WAITING;
    me->word = word;
    me->expected = expected;
    if (atomic_load(word) != expected)
        me->state = THREAD_READY;
    hand_on(sim);
}

void
sched_wake(struct sim *sim, _Atomic uint32_t *word, uint32_t count)
{
    struct sched *sched = sim->sched;
    unsigned first = (unsigned)(random_next(&sched->random) % sched->count);

    for (unsigned i = 0; i < sched->count && count > 0; i++) {
        struct sim_thread *thread = sched->threads[(first + i) % sched->count];

        if (thread->state != THREAD_WAITING || thread->word != word)
            continue;
        thread->state = THREAD_READY;
        count--;
    }
    sim_preempt();
}

void
sched_abandon(struct sim *sim)
{
    if (sim->sched == NULL || sim->sched->running == NULL)
        return;
    sim->sched->abandoned = true;
    back_to_main(sim);
}

/* ---- Running ------------------------------------------------------------------------- */

static void
run_seeded(struct sim *sim)
{
    struct sched *sched = sim->sched;
    struct choice first;

    fiber_of_thread(&sched->main);
    sched->handlers = sim_host_alloc(sim->cpu_count * sizeof(sched->handlers[0]));
    for (unsigned i = 0; i < sim->cpu_count; i++) {
        sched->handlers[i].sim = sim;
        sched->handlers[i].handler = true;
        sched->handlers[i].cpu = &sim->cpus[i];
        fiber_create(&sched->handlers[i].fiber, handler_start);
    }
    for (unsigned i = 0; i < sched->count; i++)
        fiber_create(&sched->threads[i]->fiber, thread_start);
    first = choose(sim);
    if (first.thread == NULL)
        stuck(sim, "no CPU for any thread");
    switch_to(sim, first);
}

static void *
host_thread(void *context)
{
    struct sim_thread *thread = context;

    sim_enter(thread->sim, thread->host_cpu);
    sched_load_space(thread->sim, thread->space);
    thread->body(thread->context);
    sim_leave();
    return NULL;
}

static void
place_host_threads(struct sim *sim)
{
    bool taken[CONFIG_MAX_CPUS] = {false};
    struct sched *sched = sim->sched;

    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned i = 0; i < sched->count; i++) {
            struct sim_thread *thread = sched->threads[i];
            unsigned cpu = thread->only_cpu;

            if ((cpu == SIM_ANY_CPU) != (pass == 1))
                continue;
            for (unsigned free = 0; cpu == SIM_ANY_CPU && free < sim->cpu_count; free++) {
                if (!taken[free])
                    cpu = free;
            }
            if (cpu >= sim->cpu_count || taken[cpu])
                sim_fail("no CPU of its own for thread %s", thread->name);
            taken[cpu] = true;
            thread->host_cpu = cpu;
        }
    }
}

static void
run_threads(struct sim *sim)
{
    struct sched *sched = sim->sched;

    place_host_threads(sim);
    sim->threaded = true;
    for (unsigned i = 0; i < sched->count; i++) {
        if (pthread_create(&sched->threads[i]->host, NULL, host_thread, sched->threads[i]) != 0)
            sim_fail("the host cannot start a thread");
    }
    for (unsigned i = 0; i < sched->count; i++)
        pthread_join(sched->threads[i]->host, NULL);
    sim->threaded = false;
}

void
sim_run(struct sim *sim, enum sim_run_mode mode)
{
    void *space = NULL;
    bool abandoned;

    if (sim->sched == NULL)
        return;
    for (unsigned i = sim->cpu_count; i-- > 0;) {
        sim_enter(sim, i);
        space = here()->space;
        sched_load_space(sim, NULL);
    }
    sim_leave();
    if (mode == SIM_RUN_SEEDED)
        run_seeded(sim);
    else
        run_threads(sim);
    abandoned = sim->sched->abandoned;
    sched_free(sim);
    if (abandoned)
        sim_catch_resume();
    here_set(NULL);
    sim_enter(sim, 0);
    sched_load_space(sim, space);
}

void
sim_set_preemption(struct sim *sim, unsigned one_in)
{
    sim->preempt_one_in = one_in == 0 ? 1 : one_in;
}

uint64_t
sim_schedule_hash(struct sim *sim)
{
    return sim->schedule_hash;
}
