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
#include "memory.h"
#include "mm.h"
#include "printk.h"
#include "proc.h"
#include "sched.h"
#include "signal.h"
#include "wait.h"

enum {
    REPEATS = 8,           /* of a fault that failed although there is memory */
    AVAILABLE_ENOUGH = 64, /* pages beyond which that is so */
    WAIT_SECONDS = 5,      /* for a victim to end */
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
    return (int64_t)(qr_space_resident_pages(process->mm->space) +
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

    if (search->ending || (atomic_load(&process->flags) & PROCESS_OOM_PASSED) != 0)
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

static void
kill_victim(struct process *victim)
{
    struct qr_space *space = victim->mm->space;

    printk("Out of memory: Killed process %d (%s) rss:%zukB, UID:%u pgtables:%zukB "
           "oom_score_adj:%d\n",
           victim->id, victim->name, qr_space_resident_pages(space) * (QR_PAGE_SIZE / 1024),
           victim->credentials.uid, qr_space_table_pages(space) * (QR_PAGE_SIZE / 1024),
           victim->oom_adjustment);
    qr_counter_add(qr_frames_counters(memory.frames), QR_EVENT_OOM_KILL, 1);
    process_visit_all(kill_visit, victim->mm);
}

/*
 * Make sure that there is a victim. Tree lock held.
 * @return whether there is one; @out_ended is the count to wait for
 */
static bool
victim_choose(size_t total, unsigned *out_ended)
{
    struct search search = {.total = total, .badness = NEVER};
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
        kill_victim(search.worst);
    return search.worst != NULL;
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

/* @return false where the victim did not end in time */
static bool
wait_for_end(unsigned ended)
{
    uint64_t deadline = clock_monotonic_ns() + (uint64_t)WAIT_SECONDS * 1000000000;
    int64_t result;

    WAIT_EVENT_UNTIL(result, &oom.waiters, atomic_load(&oom.ended) != ended, WAIT_KILLABLE,
                     deadline);
    if (result != -ETIMEDOUT)
        return true;
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
    chosen = victim_choose(memory_total(), &ended);
    process_tree_unlock();
    if (!chosen)
        return false;
    return wait_for_end(ended) || !in_call;
}
