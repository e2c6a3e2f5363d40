/* SPDX-License-Identifier: MIT */
/*
 * Pressure stall information.
 *
 * Who waits for memory says so (psi_stall_begin/end): reclaim and compaction before an allocation, for
 * a charge and in the background, sleeps above memory.high, reading pages again that were in use.  A domain, the machine or a group, has two clocks:
 *
 *   some   runs while at least one of its threads is in a stall
 *   full   runs while one is, and none of its others is running or ready to run
 *
 * Both advance where a stall begins or ends, exactly.  What other threads do meanwhile is looked at
 * there and on a timer while anybody is stalled, so `full` is as fine as SAMPLE_NS.
 *
 * Averages are of periods of two seconds, weighted as load averages are; while nothing happens nobody
 * computes them, and a reader makes up for the periods that went by.
 *
 * Locks: the process tree lock, then psi.lock; both are taken in the timer, too.
 */
#include "psi.h"

#include <quire/writer.h>

#include "abi_errno.h"
#include "cgroup.h"
#include "kstring.h"
#include "memory.h"
#include "proc.h"

#define SAMPLE_NS 10000000u
#define PERIOD_NS 2000000000u
#define US        1000u

enum {
    AVERAGE_SHIFT = 11, /* fraction bits */
    PERIODS_MAX = 4096, /* after which nothing is left of an average */
    CAP_SYS_RESOURCE = 24,
};

struct psi_trigger {
    struct qr_list link; /* psi.lock: of its domain */
    struct psi_domain *domain;
    struct cgroup *cgroup; /* a reference, which keeps the domain; NULL: the machine */
    enum psi_state state;
    uint64_t threshold_ns, window_ns;
    uint64_t window_start_ns, window_total_ns, previous_ns; /* psi.lock */
    uint64_t fired_at_ns;                                   /* psi.lock */
    atomic_bool fired;
    struct wait_queue queue;
};

static struct {
    struct qr_spin lock;
    struct qr_list stalls;
    struct psi_domain machine;
    struct timer timer;
    bool armed, ready;
} psi = {.stalls = QR_LIST_INIT(psi.stalls)};

void
psi_domain_init(struct psi_domain *domain)
{
    *domain = (struct psi_domain){.seen_ns = clock_monotonic_ns()};
    domain->average_at_ns = domain->seen_ns;
    qr_list_init(&domain->triggers);
}

/* ---- Clocks ----------------------------------------------------------------------- */

static void
domain_advance(struct psi_domain *domain, uint64_t now)
{
    uint64_t passed = now - domain->seen_ns;

    if (domain->stalled > 0)
        domain->total_ns[PSI_SOME] += passed;
    if (domain->full)
        domain->total_ns[PSI_FULL] += passed;
    domain->seen_ns = now;
}

/* Runnable threads of the machine that are not in a stall. */
static bool
machine_is_productive(void)
{
    unsigned running = sched_running_count(), stalled = 0;

    qr_list_for_each(link, &psi.stalls)
    {
        const struct psi_stall *stall = qr_list_entry(link, struct psi_stall, link);

        stalled += atomic_load(&stall->thread->state) == THREAD_RUNNABLE;
    }
    return running > stalled;
}

struct look {
    const struct cgroup *cgroup;
    bool productive;
};

static void
look_visit(struct process *process, void *context)
{
    struct look *look = context;

    if (look->productive || !cgroup_is_within(process->cgroup, look->cgroup))
        return;
    qr_list_for_each(link, &process->threads)
    {
        const struct thread *thread = qr_list_entry(link, struct thread, thread_link);

        if (atomic_load(&thread->state) == THREAD_RUNNABLE && !thread->stalled)
            look->productive = true;
    }
}

/* What @domain is like from now on. */
static void
domain_look(struct psi_domain *domain, struct cgroup *cgroup)
{
    struct look look = {.cgroup = cgroup};

    if (domain->stalled > 0 && cgroup == NULL)
        look.productive = machine_is_productive();
    else if (domain->stalled > 0)
        process_visit_all(look_visit, &look);
    domain->full = domain->stalled > 0 && !look.productive;
}

/* ---- Averages ----------------------------------------------------------------------- */

static uint32_t
average_step(uint32_t average, uint32_t keep, uint32_t percent)
{
    uint64_t next = (uint64_t)average * keep + (uint64_t)percent * ((1u << AVERAGE_SHIFT) - keep);

    if (percent >= average)
        next += (1u << AVERAGE_SHIFT) - 1;
    return (uint32_t)(next >> AVERAGE_SHIFT);
}

static void
state_average(struct psi_domain *domain, enum psi_state state, uint64_t periods)
{
    /* e^(-2/10), e^(-2/60), e^(-2/300) */
    static const uint32_t keep[3] = {1677, 1981, 2034};
    uint64_t sample = domain->total_ns[state] - domain->average_total_ns[state];

    domain->average_total_ns[state] = domain->total_ns[state];
    if (sample > PERIOD_NS)
        sample = PERIOD_NS;
    for (int i = 0; i < 3; i++) {
        uint32_t *average = &domain->average[state][i];

        *average = average_step(*average, keep[i],
                                (uint32_t)((sample * 100 << AVERAGE_SHIFT) / PERIOD_NS));
        for (uint64_t period = 1; period < periods && period<PERIODS_MAX && * average> 0; period++)
            *average = average_step(*average, keep[i], 0);
    }
}

static void
domain_average(struct psi_domain *domain, uint64_t now)
{
    uint64_t periods = (now - domain->average_at_ns) / PERIOD_NS;

    if (periods == 0)
        return;
    domain->average_at_ns += periods * PERIOD_NS;
    for (enum psi_state state = PSI_SOME; state < PSI_STATES; state++)
        state_average(domain, state, periods);
}

/* ---- Triggers -------------------------------------------------------------------------- */

/* How much the state's clock ran in the window that ends now; the part before is estimated. */
static uint64_t
trigger_growth(struct psi_trigger *trigger, uint64_t now)
{
    uint64_t total = trigger->domain->total_ns[trigger->state];
    uint64_t passed = now - trigger->window_start_ns, growth = total - trigger->window_total_ns;

    if (passed <= trigger->window_ns)
        return growth + trigger->previous_ns / 1024 *
                            ((trigger->window_ns - passed) * 1024 / trigger->window_ns);
    trigger->window_start_ns = now;
    trigger->window_total_ns = total;
    trigger->previous_ns = growth;
    return growth;
}

static void
domain_trigger(struct psi_domain *domain, uint64_t now)
{
    qr_list_for_each(link, &domain->triggers)
    {
        struct psi_trigger *trigger = qr_list_entry(link, struct psi_trigger, link);

        if (trigger_growth(trigger, now) < trigger->threshold_ns ||
            (trigger->fired_at_ns != 0 && now < trigger->fired_at_ns + trigger->window_ns))
            continue;
        trigger->fired_at_ns = now;
        atomic_store(&trigger->fired, true);
        wait_wake_all(&trigger->queue);
    }
}

/* Bring @domain up to date and say what it is like from now on. */
static void
domain_update(struct psi_domain *domain, struct cgroup *cgroup, int change)
{
    uint64_t now = clock_monotonic_ns();

    domain_advance(domain, now);
    domain->stalled = (unsigned)((int)domain->stalled + change);
    domain_look(domain, cgroup);
    domain_average(domain, now);
    domain_trigger(domain, now);
}

/* ---- Stalls --------------------------------------------------------------------------------- */

/* In every domain that @cgroup is in. */
static void
domains_update(struct cgroup *cgroup, int change)
{
    domain_update(&psi.machine, NULL, change);
    for (; cgroup != NULL && cgroup->parent != NULL; cgroup = cgroup->parent)
        domain_update(&cgroup->pressure, cgroup, change);
}

static void
psi_tick(struct timer *timer)
{
    bool again;

    process_tree_lock();
    qr_spin_lock(&psi.lock);
    qr_list_for_each(link, &psi.stalls)
        domains_update(qr_list_entry(link, struct psi_stall, link)->cgroup, 0);
    again = !qr_list_is_empty(&psi.stalls);
    psi.armed = again;
    qr_spin_unlock(&psi.lock);
    process_tree_unlock();
    if (again)
        timer_arm(timer, clock_monotonic_ns() + SAMPLE_NS);
}

void
psi_stall_begin(struct psi_stall *stall)
{
    struct thread *thread = thread_current();
    bool arm;

    *stall = (struct psi_stall){.thread = NULL};
    if (!psi.ready || thread->stalled)
        return;
    process_tree_lock();
    if (thread->process != NULL) {
        stall->cgroup = thread->process->cgroup;
        cgroup_ref(stall->cgroup);
    }
    qr_spin_lock(&psi.lock);
    arm = !psi.armed;
    psi.armed = true;
    stall->thread = thread;
    thread->stalled = true;
    qr_list_push_back(&psi.stalls, &stall->link);
    domains_update(stall->cgroup, 1);
    qr_spin_unlock(&psi.lock);
    process_tree_unlock();
    if (arm)
        timer_arm(&psi.timer, clock_monotonic_ns() + SAMPLE_NS);
}

void
psi_stall_end(struct psi_stall *stall)
{
    if (stall->thread == NULL)
        return;
    process_tree_lock();
    qr_spin_lock(&psi.lock);
    stall->thread->stalled = false;
    qr_list_remove(&stall->link);
    domains_update(stall->cgroup, -1);
    qr_spin_unlock(&psi.lock);
    process_tree_unlock();
    cgroup_put(stall->cgroup);
}

/* Waiting for a page that was in use when it went: the library's hook. */
static void
psi_wait_page(void (*wait)(struct qr_frame *frame), struct qr_frame *frame)
{
    struct psi_stall stall;

    psi_stall_begin(&stall);
    wait(frame);
    psi_stall_end(&stall);
}

void
psi_init(void)
{
    psi_domain_init(&psi.machine);
    timer_init(&psi.timer, psi_tick);
    psi.ready = true;
    qr_objects_set_stall(memory.objects, psi_wait_page);
}

/* ---- For files ------------------------------------------------------------------------------------ */

static struct psi_domain *
domain_of(struct cgroup *cgroup)
{
    return cgroup == NULL || cgroup->parent == NULL ? &psi.machine : &cgroup->pressure;
}

static void
average_write(struct qr_writer *writer, const char *name, uint32_t average)
{
    qr_writer_printf(writer, " %s=%u.%02u", name, average >> AVERAGE_SHIFT,
                     (average & ((1u << AVERAGE_SHIFT) - 1)) * 100 >> AVERAGE_SHIFT);
}

void
psi_show(struct cgroup *cgroup, struct qr_writer *writer)
{
    static const char *const names[PSI_STATES] = {"some", "full"};
    struct psi_domain *domain = domain_of(cgroup), now;

    qr_spin_lock(&psi.lock);
    domain_advance(domain, clock_monotonic_ns());
    domain_average(domain, domain->seen_ns);
    now = *domain;
    qr_spin_unlock(&psi.lock);
    for (enum psi_state state = PSI_SOME; state < PSI_STATES; state++) {
        qr_writer_printf(writer, "%s", names[state]);
        average_write(writer, "avg10", now.average[state][0]);
        average_write(writer, "avg60", now.average[state][1]);
        average_write(writer, "avg300", now.average[state][2]);
        qr_writer_printf(writer, " total=%llu\n", (unsigned long long)(now.total_ns[state] / US));
    }
}

/* A number at *@io_text, which is moved past it; false where there is none. */
static bool
number_parse(const char **io_text, uint64_t *out)
{
    const char *at = *io_text;

    while (*at == ' ')
        at++;
    if (*at < '0' || *at > '9')
        return false;
    for (*out = 0; *at >= '0' && *at <= '9' && *out < UINT32_MAX; at++)
        *out = *out * 10 + (uint64_t)(*at - '0');
    *io_text = at;
    return true;
}

static bool
trigger_parse(struct psi_trigger *trigger, const char *text)
{
    uint64_t threshold, window;

    if (strncmp(text, "some ", 5) != 0 && strncmp(text, "full ", 5) != 0)
        return false;
    trigger->state = text[0] == 's' ? PSI_SOME : PSI_FULL;
    text += 5;
    if (!number_parse(&text, &threshold) || !number_parse(&text, &window) ||
        (*text != '\0' && *text != '\n' && *text != ' ') || window < 500000 || window > 10000000 ||
        threshold == 0 || threshold > window)
        return false;
    trigger->threshold_ns = threshold * US;
    trigger->window_ns = window * US;
    return true;
}

int64_t
psi_trigger_create(struct cgroup *cgroup, const char *text, struct psi_trigger **out)
{
    struct psi_trigger *trigger;

    if (cgroup == NULL && !process_has_capability(CAP_SYS_RESOURCE))
        return -EPERM;
    trigger = kmem_zalloc(sizeof(*trigger));
    if (trigger == NULL)
        return -ENOMEM;
    if (!trigger_parse(trigger, text)) {
        kmem_free(trigger);
        return -EINVAL;
    }
    wait_queue_init(&trigger->queue);
    trigger->domain = domain_of(cgroup);
    trigger->cgroup = cgroup;
    if (cgroup != NULL)
        cgroup_ref(cgroup);
    qr_spin_lock(&psi.lock);
    trigger->window_start_ns = clock_monotonic_ns();
    trigger->window_total_ns = trigger->domain->total_ns[trigger->state];
    qr_list_push_back(&trigger->domain->triggers, &trigger->link);
    qr_spin_unlock(&psi.lock);
    *out = trigger;
    return 0;
}

void
psi_trigger_destroy(struct psi_trigger *trigger)
{
    qr_spin_lock(&psi.lock);
    qr_list_remove(&trigger->link);
    qr_spin_unlock(&psi.lock);
    cgroup_put(trigger->cgroup);
    kmem_free(trigger);
}

bool
psi_trigger_take(struct psi_trigger *trigger)
{
    return atomic_exchange(&trigger->fired, false);
}

struct wait_queue *
psi_trigger_queue(struct psi_trigger *trigger)
{
    return &trigger->queue;
}
