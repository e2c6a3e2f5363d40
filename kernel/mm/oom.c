/* SPDX-License-Identifier: MIT */
/*
 * Out of memory: one process ends so that the others can go on.
 *
 * A page fault that finds no frame comes here.  Of all processes the one with the
 * greatest badness is killed: resident and page-table pages, shifted by what its
 * oom_score_adj makes of all memory.  The faulting thread waits until that memory
 * has been given back, and its access is repeated.
 *
 * One victim at a time.  A process that is ending already is preferred to killing
 * another one, and whoever faults meanwhile waits for the same end.  A victim that
 * cannot end in time, because it waits for a lock that the faulting thread holds, is
 * passed over from then on; a fault inside a system call then fails its copy
 * rather than kill a second process.
 *
 * Exempt: init, kernel threads, and whoever has an oom_score_adj of -1000.
 * Processes that share their memory (vfork) die together, or none of it is freed.
 *
 * Locks: the tree lock (processes, their mm), inside it `oom.lock`.  A process that
 * has an mm under the tree lock has yet to call oom_memory_gone().
 */
#include "oom.h"

#include "abi_errno.h"
#include "arch.h"
#include "cgroup.h"
#include "memory.h"
#include "mm.h"
#include "printk.h"
#include "proc.h"
#include "sched.h"
#include "signal.h"
#include "syscall.h"
#include "wait.h"

enum {
    REPEATS = 8,           /* of a fault that failed although there is memory */
    AVAILABLE_ENOUGH = 64, /* pages beyond which that is so */
    WAIT_SECONDS = 5,      /* for a victim to end */
    REAP_MS = 100,         /* after which its memory is taken from it, and between tries */
};

static struct {
    struct qr_spin lock;
    struct process *victim; /* lock: a reference; NULL: nobody */
    atomic_uint ended;      /* lock to write: victims whose memory is gone, or who were given up */
    struct wait_queue waiters;
} oom = {.waiters = WAIT_QUEUE_INIT(oom.waiters)};

static size_t
memory_total(void)
{
    struct qr_frames_stats stats;

    qr_frames_stats(memory.frames, &stats);
    return stats.total;
}

/* Pages that a user's request could have had: above watermarks and what lower zones keep back. */
static size_t
memory_available(void)
{
    size_t available = 0;

    for (unsigned i = 0; i < qr_frames_zone_count(memory.frames); i++) {
        struct qr_zone_stats zone;
        size_t kept;

        qr_frames_zone_stats(memory.frames, i, &zone);
        kept = zone.cached + zone.watermark_min + zone.protection[QR_ZONE_HIGH];
        available += zone.free > kept ? zone.free - kept : 0;
    }
    return available;
}

/* Tree lock held. @return NEVER for one that must not be killed */
#define NEVER INT64_MIN

static int64_t
badness_of(const struct process *process, size_t total)
{
    int64_t adjustment = process->oom_adjustment;

    if (process->mm == NULL || adjustment == -OOM_ADJUSTMENT_MAX ||
        (atomic_load(&process->flags) & PROCESS_INIT) != 0)
        return NEVER;
    return atomic_load_explicit(&process->mm->space->swapped, memory_order_relaxed) +
           (int64_t)(qr_space_resident_pages(process->mm->space) +
                     qr_space_table_pages(process->mm->space)) +
           adjustment * (int64_t)total / OOM_ADJUSTMENT_MAX;
}

long
oom_score(const struct process *process)
{
    size_t total = memory_total();
    int64_t badness;

    process_tree_lock();
    badness = badness_of(process, total);
    process_tree_unlock();
    /* As Linux since 5.8: two thirds of 1000 for a process without memory, of 2000 for all of it. */
    return badness == NEVER ? 0 : (long)((1000 + badness * 1000 / (int64_t)total) * 2 / 3);
}

/* ---- choosing ------------------------------------------------------------------ */

struct search {
    const struct cgroup *scope; /* its members alone; NULL: anybody */
    size_t total;
    struct process *worst;
    int64_t badness;
    bool ending; /* `worst` is on its way out already */
};

static void
search_visit(struct process *process, void *context)
{
    struct search *search = context;
    bool ending = process->group_exit && process->mm != NULL;
    int64_t badness;

    if (search->ending || (atomic_load(&process->flags) & PROCESS_OOM_PASSED) != 0 ||
        (search->scope != NULL && !cgroup_is_within(process->cgroup, search->scope)))
        return;
    badness = badness_of(process, search->total);
    if (!ending && (badness == NEVER || badness <= search->badness))
        return;
    search->worst = process;
    search->badness = badness;
    search->ending = ending;
}

static void
kill_visit(struct process *process, void *context)
{
    if (process->mm == context)
        (void)signal_send_process_locked(process, SIGKILL, NULL);
}

/* One is killed for memory. */
static void
count_kill(const struct process *victim)
{
    struct qr_group *group = qr_space_group_get(victim->mm->space);

    qr_counter_add(qr_frames_counters(memory.frames), QR_EVENT_OOM_KILL, 1);
    if (group != NULL)
        qr_group_count(group, QR_GROUP_EVENT_OOM_KILL);
    qr_group_put(group);
}

/* All of @cgroup, where @victim is, go with it. */
static void
count_group_kill(const struct process *victim, const struct cgroup *cgroup)
{
    struct qr_group *own = qr_space_group_get(victim->mm->space), *group = own;

    while (group != NULL && qr_group_host(group) != cgroup)
        group = qr_group_parent(group);
    if (group != NULL)
        qr_group_count(group, QR_GROUP_EVENT_OOM_GROUP_KILL);
    qr_group_put(own);
}

/* The topmost group of @victim within @scope whose members all go together; NULL: only the victim. */
static struct cgroup *
kill_group(const struct process *victim, const struct cgroup *scope)
{
    struct cgroup *found = NULL;

    for (struct cgroup *at = victim->cgroup; at != NULL && at->parent != NULL; at = at->parent) {
        if (atomic_load(&at->kill_all))
            found = at;
        if (at == scope)
            break;
    }
    return found;
}

struct kill_group {
    const struct cgroup *all;
    const struct mm *killed; /* is already */
};

static void
kill_group_visit(struct process *process, void *context)
{
    const struct kill_group *kill = context;

    if (process->oom_adjustment != -OOM_ADJUSTMENT_MAX &&
        (atomic_load(&process->flags) & PROCESS_INIT) == 0 && process->mm != NULL &&
        process->mm != kill->killed && cgroup_is_within(process->cgroup, kill->all)) {
        count_kill(process);
        (void)signal_send_process_locked(process, SIGKILL, NULL);
    }
}

static void
kill_victim(struct process *victim, const struct cgroup *scope)
{
    struct qr_space *space = victim->mm->space;
    struct cgroup *all = kill_group(victim, scope);

    printk("%s: Killed process %d (%s) rss:%zukB, UID:%u pgtables:%zukB "
           "oom_score_adj:%d\n",
           scope == NULL ? "Out of memory" : "Memory cgroup out of memory", victim->id,
           victim->name, qr_space_resident_pages(space) * (QR_PAGE_SIZE / 1024),
           victim->credentials.uid, qr_space_table_pages(space) * (QR_PAGE_SIZE / 1024),
           victim->oom_adjustment);
    count_kill(victim);
    process_visit_all(kill_visit, victim->mm);
    if (all == NULL)
        return;
    struct kill_group kill = {all, victim->mm};

    printk("Tasks in %s are going to be killed due to memory.oom.group set\n", all->name);
    count_group_kill(victim, all);
    process_visit_all(kill_group_visit, &kill);
}

/*
 * Make sure that there is a victim, in @scope alone unless that is NULL. Tree lock held.
 * @return whether there is one; @out_ended is the count to wait for
 */
static bool
victim_choose(const struct cgroup *scope, size_t total, unsigned *out_ended)
{
    struct search search = {.scope = scope, .total = total, .badness = NEVER};
    bool chosen;

    qr_spin_lock(&oom.lock);
    *out_ended = atomic_load(&oom.ended);
    chosen = oom.victim == NULL;
    if (chosen) {
        process_visit_all(search_visit, &search);
        if (search.worst != NULL)
            process_ref(search.worst);
        oom.victim = search.worst;
    }
    qr_spin_unlock(&oom.lock);
    if (!chosen)
        return true;
    if (search.worst != NULL && !search.ending)
        kill_victim(search.worst, scope);
    return search.worst != NULL;
}

/* Who uses some memory. */
struct users {
    const struct process *but; /* does not count */
    struct mm *mm;
    unsigned count;
    bool ending; /* all of them are about to end */
};

static void
users_visit(struct process *process, void *context)
{
    struct users *users = context;

    if (process->mm != users->mm || process == users->but)
        return;
    users->count++;
    if (!signal_ends(process) || (atomic_load(&process->flags) & PROCESS_INIT) != 0)
        users->ending = false;
}

/* Are all who use @mm about to end?  Tree lock held. */
static bool
mm_is_ending(struct mm *mm)
{
    struct users users = {.mm = mm, .ending = true};

    process_visit_all(users_visit, &users);
    return users.ending;
}

bool
oom_was_last(const struct process *process, struct mm *mm)
{
    struct users users = {.but = process, .mm = mm};

    if (atomic_load_explicit((_Atomic(struct process *) *)&oom.victim, memory_order_relaxed) !=
        process)
        return false;
    process_visit_all(users_visit, &users);
    return users.count == 0;
}

/* The memory of the victim is gone, if @process is that, or (NULL) it is given up. */
static void
victim_end(const struct process *process)
{
    struct process *victim = NULL;

    qr_spin_lock(&oom.lock);
    if (process == NULL || oom.victim == process) {
        victim = oom.victim;
        oom.victim = NULL;
        atomic_fetch_add(&oom.ended, 1);
    }
    qr_spin_unlock(&oom.lock);
    if (victim == NULL)
        return;
    if (process == NULL)
        atomic_fetch_or(&victim->flags, PROCESS_OOM_PASSED);
    wait_wake_all(&oom.waiters);
    process_put(victim);
}

void
oom_memory_gone(const struct process *process)
{
    victim_end(process);
}

/* ---- waiting ------------------------------------------------------------------- */

/* The victim's memory, if all who use that are ending and it is not @own. */
static struct mm *
victim_mm_get(const struct mm *own)
{
    struct process *victim;
    struct mm *mm = NULL;

    process_tree_lock();
    qr_spin_lock(&oom.lock);
    victim = oom.victim;
    if (victim != NULL)
        mm = victim->mm;
    qr_spin_unlock(&oom.lock);
    if (mm != NULL && (mm == own || !mm_is_ending(mm)))
        mm = NULL;
    if (mm != NULL)
        mm_ref(mm);
    process_tree_unlock();
    return mm;
}

/*
 * The victim does not get to its end: perhaps it waits for something that we hold, or for a CPU.
 * Nobody will run in its space again, so take that apart here.
 */
static bool
victim_reap(void)
{
    const struct process *self = process_current();
    struct mm *mm = victim_mm_get(self == NULL ? NULL : self->mm);
    bool cleared = mm != NULL && qr_space_try_clear(mm->space);

    if (mm != NULL)
        mm_put(mm);
    if (cleared)
        victim_end(NULL);
    return cleared;
}

/* @return false where the victim did not end in time */
static bool
wait_for_end(unsigned ended)
{
    uint64_t end = clock_monotonic_ns() + (uint64_t)WAIT_SECONDS * 1000000000;
    int64_t result;

    do {
        uint64_t now = clock_monotonic_ns();

        WAIT_EVENT_UNTIL(result, &oom.waiters, atomic_load(&oom.ended) != ended, WAIT_KILLABLE,
                         now + (uint64_t)REAP_MS * 1000000);
        if (result != -ETIMEDOUT || victim_reap())
            return true;
    } while (clock_monotonic_ns() < end);
    victim_end(NULL);
    return false;
}

bool
oom_make_room(unsigned repeats, bool in_call)
{
    unsigned ended;
    bool chosen;

    if (signal_is_fatal_pending())
        return false;
    if (memory_available() > AVAILABLE_ENOUGH) {
        sched_yield();
        return repeats < REPEATS;
    }
    process_tree_lock();
    chosen = victim_choose(NULL, memory_total(), &ended);
    process_tree_unlock();
    if (!chosen)
        return false;
    return wait_for_end(ended) || !in_call;
}

bool
oom_make_room_in(const struct cgroup *scope, size_t pages)
{
    unsigned ended;
    bool chosen;

    process_tree_lock();
    chosen = victim_choose(scope, pages < memory_total() ? pages : memory_total(), &ended);
    process_tree_unlock();
    return chosen && wait_for_end(ended) && !signal_is_fatal_pending();
}

/* ---- process_mrelease() ----------------------------------------------------------- */

/*
 * Somebody who has killed a process does not wait for it to get to its end: its memory is given back
 * here, as a victim's.
 */
int64_t
sys_process_mrelease(const struct syscall_args *args)
{
    struct process *process;
    uint32_t flags;
    struct mm *mm;

    if ((uint32_t)args->arg[1] != 0)
        return -EINVAL;
    int64_t error = pidfd_process((int)args->arg[0], &process, &flags);

    if (error != 0)
        return error;
    process_tree_lock();
    mm = process->mm;
    if (mm == NULL)
        error = -ESRCH;
    else if (!mm_is_ending(mm))
        error = -EINVAL;
    else
        mm_ref(mm);
    process_tree_unlock();
    process_put(process);
    if (error != 0)
        return error;
    while (error == 0 && !qr_space_try_clear(mm->space)) {
        if (signal_is_fatal_pending())
            error = -EINTR;
        sched_yield();
    }
    mm_put(mm);
    return error;
}
