/* SPDX-License-Identifier: MIT */
/*
 * Processes as nodes of a tree and members of groups and sessions.
 *
 * Numbers are objects of their own (struct pid): a number stays taken while a
 * thread, a process, a group or a session uses it, so a group never changes
 * hands while a member lives.  They are found through a hash table.
 *
 * One spin lock, the tree lock, covers numbers, kinship, groups, sessions and
 * thread lists of the whole machine.  Its sections are short; it is taken in
 * interrupts too (terminal signals).
 */
#include "memory.h"
#include "proc_private.h"

#include <quire/assert.h>

#include "abi_errno.h"
#include "cgroup.h"
#include "kstring.h"
#include "printk.h"
#include "sched_private.h"
#include "vfs.h"

enum { PID_BUCKETS = 1024 };

static struct qr_spin tree_lock = QR_SPIN_INIT(QR_RANK_NONE);
static struct qr_list pid_hash[PID_BUCKETS];                       /* tree */
static int32_t last_number;                                        /* tree */
static struct qr_list all_processes = QR_LIST_INIT(all_processes); /* tree */
static unsigned process_total;                                     /* tree */
static unsigned pid_total;                                         /* tree */
static atomic_uint process_objects;                                /* structures in the heap */
static struct process *init_process;                               /* set once */

void
process_tree_lock(void)
{
    qr_spin_lock(&tree_lock);
}

void
process_tree_unlock(void)
{
    qr_spin_unlock(&tree_lock);
}

void
process_init(void)
{
    for (unsigned i = 0; i < PID_BUCKETS; i++)
        qr_list_init(&pid_hash[i]);
}

struct process *
process_init_process(void)
{
    return init_process;
}

void
process_set_init(struct process *process)
{
    init_process = process;
}

/* ---- numbers -------------------------------------------------------------------- */

struct pid *
pid_lookup(int32_t number)
{
    if (number <= 0)
        return NULL;
    struct qr_list *bucket = &pid_hash[(uint32_t)number % PID_BUCKETS];

    qr_list_for_each(link, bucket)
    {
        struct pid *pid = qr_list_entry(link, struct pid, hash_link);

        if (pid->number == number)
            return pid;
    }
    return NULL;
}

/* The next free number after the last one given out, or 0. */
static int32_t
pid_choose_number(void)
{
    for (int32_t tries = 0; tries < PID_LIMIT; tries++) {
        if (++last_number >= PID_LIMIT)
            last_number = 300; /* as Linux: low numbers are for the boot's daemons */
        if (pid_lookup(last_number) == NULL)
            return last_number;
    }
    return 0;
}

int64_t
pid_create(int32_t wanted, struct pid **out)
{
    struct pid *pid = kmem_charged_zalloc(sizeof(*pid));

    if (pid == NULL)
        return -EAGAIN;
    qr_list_init(&pid->group);
    qr_list_init(&pid->session);
    pid->refs = 1;
    process_tree_lock();
    if (wanted == 0)
        pid->number = pid_choose_number();
    else if (pid_lookup(wanted) == NULL)
        pid->number = wanted;
    if (pid->number != 0) {
        qr_list_push_front(&pid_hash[(uint32_t)pid->number % PID_BUCKETS], &pid->hash_link);
        pid_total++;
    }
    process_tree_unlock();
    if (pid->number == 0) {
        kmem_charged_free(pid);
        return wanted == 0 ? -EAGAIN : -EEXIST;
    }
    *out = pid;
    return 0;
}

void
pid_put(struct pid *pid)
{
    qr_assert(pid->refs > 0);
    if (--pid->refs > 0)
        return;
    qr_list_remove(&pid->hash_link);
    pid_total--;
    kmem_charged_free(pid);
}

/* ---- life of the structure --------------------------------------------------------- */

struct process *
process_alloc(void)
{
    struct process *process = kmem_charged_zalloc(sizeof(*process));

    if (process == NULL)
        return NULL;
    atomic_store(&process->refs, 1);
    qr_list_init(&process->children);
    qr_list_init(&process->sibling_link);
    qr_list_init(&process->group_link);
    qr_list_init(&process->session_link);
    qr_list_init(&process->all_link);
    qr_list_init(&process->threads);
    qr_list_init(&process->cgroup_link);
    qr_list_init(&process->traced);
    wait_queue_init(&process->child_wait);
    wait_queue_init(&process->end_wait);
    wait_queue_init(&process->exec_wait);
    qr_spin_init(&process->signal_lock, QR_RANK_NONE);
    signal_pending_init(&process->pending);
    process_timers_init(process);
    process->start_ns = clock_monotonic_ns();
    atomic_fetch_add(&process_objects, 1);
    return process;
}

void
process_ref(struct process *process)
{
    atomic_fetch_add_explicit(&process->refs, 1, memory_order_relaxed);
}

void
process_put(struct process *process)
{
    if (atomic_fetch_sub_explicit(&process->refs, 1, memory_order_acq_rel) != 1)
        return;
    qr_assert(process->mm == NULL && qr_list_is_empty(&process->cgroup_link));
    cgroup_put(process->cgroup);
    if (process->actions != NULL)
        signal_actions_put(process->actions);
    signal_pending_discard(&process->pending);
    kmem_charged_free(process);
    atomic_fetch_sub(&process_objects, 1);
}

void
process_set_parent(struct process *process, struct process *parent)
{
    process->parent = parent;
    atomic_store_explicit(&process->parent_id, parent != NULL ? parent->id : 0,
                          memory_order_relaxed);
    if (parent != NULL)
        qr_list_push_back(&parent->children, &process->sibling_link);
}

/* Enter @process into the tree. Its number, group and session are set by the caller. */
void
process_add(struct process *process, struct process *parent)
{
    process_set_parent(process, parent);
    qr_list_push_back(&all_processes, &process->all_link);
    process->pid->process = process;
    process->pid->refs++;
    process_total++;
}

/* Take a zombie out of the tree; the caller drops the tree's reference afterwards. */
void
process_remove(struct process *process)
{
    process->state = PROCESS_REAPED;
    qr_list_remove(&process->sibling_link);
    qr_list_remove(&process->all_link);
    process_set_group(process, NULL);
    process_set_session(process, NULL);
    process->pid->process = NULL;
    pid_put(process->pid);
    process->pid = NULL;
    process->parent = NULL;
    process_total--;
}

/* ---- finding -------------------------------------------------------------------------- */

struct process *
process_find(int32_t id)
{
    struct process *process = NULL;

    process_tree_lock();
    struct pid *pid = pid_lookup(id);
    if (pid != NULL && pid->process != NULL) {
        process = pid->process;
        process_ref(process);
    }
    process_tree_unlock();
    return process;
}

struct process *
process_next(int32_t from)
{
    struct process *best = NULL;

    process_tree_lock();
    qr_list_for_each(link, &all_processes)
    {
        struct process *process = qr_list_entry(link, struct process, all_link);

        if (process->id >= from && (best == NULL || process->id < best->id))
            best = process;
    }
    if (best != NULL)
        process_ref(best);
    process_tree_unlock();
    return best;
}

void
process_visit_all(void (*visit)(struct process *process, void *context), void *context)
{
    qr_list_for_each(link, &all_processes)
        visit(qr_list_entry(link, struct process, all_link), context);
}

unsigned
process_user_threads(uint32_t uid)
{
    unsigned threads = 0;

    process_tree_lock();
    qr_list_for_each(link, &all_processes)
    {
        const struct process *process = qr_list_entry(link, struct process, all_link);

        /* A zombie is one still, until somebody has waited for it. */
        if (process->credentials.uid == uid)
            threads += process->thread_count + (process->thread_count == 0);
    }
    process_tree_unlock();
    return threads;
}

struct thread *
thread_find(int32_t tid)
{
    struct thread *thread = NULL;

    process_tree_lock();
    struct pid *pid = pid_lookup(tid);
    if (pid != NULL && pid->thread != NULL) {
        thread = pid->thread;
        thread_ref(thread);
    }
    process_tree_unlock();
    return thread;
}

struct thread *
thread_next(struct process *process, int32_t from)
{
    struct thread *best = NULL;

    process_tree_lock();
    qr_list_for_each(link, &process->threads)
    {
        struct thread *thread = qr_list_entry(link, struct thread, thread_link);

        if (thread->tid >= from && (best == NULL || thread->tid < best->tid))
            best = thread;
    }
    if (best != NULL)
        thread_ref(best);
    process_tree_unlock();
    return best;
}

/* ---- groups and sessions --------------------------------------------------------------------- */

void
process_set_group(struct process *process, struct pid *group)
{
    struct pid *old = process->group;

    if (group != NULL)
        group->refs++;
    if (old != NULL) {
        qr_list_remove(&process->group_link);
        pid_put(old);
    }
    process->group = group;
    if (group != NULL)
        qr_list_push_back(&group->group, &process->group_link);
}

void
process_set_session(struct process *process, struct pid *session)
{
    struct pid *old = process->session;

    if (session != NULL)
        session->refs++;
    if (old != NULL) {
        qr_list_remove(&process->session_link);
        pid_put(old);
    }
    process->session = session;
    if (session != NULL)
        qr_list_push_back(&session->session, &process->session_link);
}

int32_t
process_group_id(struct process *process)
{
    process_tree_lock();
    int32_t id = process->group != NULL ? process->group->number : 0;
    process_tree_unlock();
    return id;
}

int32_t
process_session_id(struct process *process)
{
    process_tree_lock();
    int32_t id = process->session != NULL ? process->session->number : 0;
    process_tree_unlock();
    return id;
}

int32_t
process_parent_id(struct process *process)
{
    return atomic_load_explicit(&process->parent_id, memory_order_relaxed);
}

bool
process_is_session_leader(struct process *process)
{
    return process_session_id(process) == process->id;
}

bool
process_group_in_session(int32_t group, int32_t session)
{
    bool found = false;

    process_tree_lock();
    struct pid *pid = pid_lookup(group);
    if (pid != NULL && !qr_list_is_empty(&pid->group)) {
        struct process *member = qr_list_entry(pid->group.next, struct process, group_link);

        found = member->session != NULL && member->session->number == session;
    }
    process_tree_unlock();
    return found;
}

/*
 * Orphaned: no member (but @leaving, which is about to end) has a living parent
 * in the same session and another group, who could continue it.
 */
bool
process_group_would_be_orphaned(struct pid *group, struct process *leaving)
{
    qr_list_for_each(link, &group->group)
    {
        struct process *member = qr_list_entry(link, struct process, group_link);
        struct process *parent = member->parent;

        if (member == leaving || member->state != PROCESS_ALIVE || parent == NULL ||
            parent == init_process)
            continue;
        if (parent->group != group && parent->session == member->session)
            return false;
    }
    return true;
}

bool
process_group_is_orphaned(int32_t group)
{
    process_tree_lock();
    struct pid *pid = pid_lookup(group);
    bool orphaned = pid == NULL || process_group_would_be_orphaned(pid, NULL);
    process_tree_unlock();
    return orphaned;
}

/* ---- usage --------------------------------------------------------------------------------------- */

void
usage_add(struct usage *to, const struct usage *more)
{
    to->user_ns += more->user_ns;
    to->system_ns += more->system_ns;
    to->minor_faults += more->minor_faults;
    to->major_faults += more->major_faults;
    to->voluntary_switches += more->voluntary_switches;
    to->involuntary_switches += more->involuntary_switches;
    to->io.read_chars += more->io.read_chars;
    to->io.written_chars += more->io.written_chars;
    to->io.read_calls += more->io.read_calls;
    to->io.write_calls += more->io.write_calls;
    to->io.read_bytes += more->io.read_bytes;
    to->io.written_bytes += more->io.written_bytes;
    to->io.cancelled_bytes += more->io.cancelled_bytes;
    if (more->peak_pages > to->peak_pages)
        to->peak_pages = more->peak_pages;
}

/*
 * The run time is exact; the tick samples how it divides between user and
 * system mode.
 */
void
thread_usage(struct thread *thread, struct usage *out)
{
    uint64_t total = sched_run_ns(thread);
    uint64_t ticks = thread->user_ticks + thread->system_ticks;
    uint64_t system = ticks == 0 ? 0 : total / ticks * thread->system_ticks;

    *out = (struct usage){
        .user_ns = total - system,
        .system_ns = system,
        .minor_faults = thread->minor_faults,
        .major_faults = thread->major_faults,
        .voluntary_switches = thread->voluntary,
        .involuntary_switches = thread->involuntary,
        .io = thread->io,
    };
}

void
process_usage(struct process *process, struct usage *out)
{
    struct usage one;

    *out = process->used;
    qr_list_for_each(link, &process->threads)
    {
        thread_usage(qr_list_entry(link, struct thread, thread_link), &one);
        usage_add(out, &one);
    }
}

/* ---- looking at one --------------------------------------------------------------------------------- */

static char
state_letter(const struct thread *thread)
{
    switch (atomic_load(&thread->state)) {
    case THREAD_RUNNABLE:
        return 'R';
    case THREAD_INTERRUPTIBLE:
        return 'S';
    case THREAD_STOPPED:
        return 'T';
    case THREAD_TRACED:
        return 't';
    case THREAD_DEAD:
        return 'X';
    default:
        return 'D';
    }
}

static void
status_of_thread(struct thread *thread, struct process_status *out)
{
    memcpy(out->name, thread->name, COMM_BYTES);
    out->state = state_letter(thread);
    out->nice = thread->nice;
    out->cpu = atomic_load(&thread->cpu);
    out->pending = thread->pending.set;
    out->blocked = thread->blocked;
}

static void
status_of_actions(struct process *process, struct process_status *out)
{
    out->ignored = 0;
    out->caught = 0;
    if (process->actions == NULL)
        return;
    for (int number = 1; number <= SIGRTMAX; number++) {
        uint64_t handler = process->actions->action[number - 1].handler;

        if (handler == SIG_IGN)
            out->ignored |= signal_bit(number);
        else if (handler != SIG_DFL)
            out->caught |= signal_bit(number);
    }
}

void
process_status(struct process *process, struct thread *thread, struct process_status *out)
{
    *out = (struct process_status){.state = 'Z'};
    process_tree_lock();
    out->id = process->id;
    out->parent = process->parent != NULL ? process->parent->id : 0;
    out->group = process->group != NULL ? process->group->number : 0;
    out->session = process->session != NULL ? process->session->number : 0;
    out->threads = process->thread_count;
    out->children_used = process->children_used;
    out->credentials = process->credentials;
    out->start_ns = process->start_ns;
    out->exit_status = process->exit_status;
    out->exit_signal = process->exit_signal;
    qr_spin_lock(&process->signal_lock);
    out->shared_pending = process->pending.set;
    status_of_actions(process, out);
    qr_spin_unlock(&process->signal_lock);
    if (thread == NULL)
        process_usage(process, &out->used);
    else
        thread_usage(thread, &out->used);
    if (thread == NULL)
        thread = process->leader_thread;
    memcpy(out->name, process->name, COMM_BYTES);
    if (thread != NULL)
        status_of_thread(thread, out);
    else if (process->thread_count > 0)
        out->state = 'S';
    process_tree_unlock();
}

/* The first thread of @process that still has its files. Tree. */
static struct thread *
thread_with_files(struct process *process)
{
    qr_list_for_each(link, &process->threads)
    {
        struct thread *thread = qr_list_entry(link, struct thread, thread_link);

        if (thread->files != NULL && thread->fs != NULL)
            return thread;
    }
    return NULL;
}

struct fd_table *
process_files(struct process *process)
{
    struct fd_table *files = NULL;

    process_tree_lock();
    struct thread *thread = thread_with_files(process);
    if (thread != NULL) {
        files = thread->files;
        fd_table_ref(files);
    }
    process_tree_unlock();
    return files;
}

struct fs_context *
process_fs(struct process *process)
{
    struct fs_context *fs = NULL;

    process_tree_lock();
    struct thread *thread = thread_with_files(process);
    if (thread != NULL) {
        fs = thread->fs;
        fs_context_ref(fs);
    }
    process_tree_unlock();
    return fs;
}

bool
process_has_ended(struct process *process)
{
    process_tree_lock();
    bool ended = process->state != PROCESS_ALIVE;

    process_tree_unlock();
    return ended;
}

struct mm *
mm_of_process(struct process *process)
{
    struct mm *mm;

    process_tree_lock();
    mm = process->mm;
    if (mm != NULL)
        mm_ref(mm);
    process_tree_unlock();
    return mm;
}

/* ---- limits and rights of the current one ----------------------------------------------------------------- */

uint64_t
process_limit(unsigned which)
{
    struct process *process = process_current();

    if (process == NULL || which >= RLIMIT_COUNT)
        return RLIM_INFINITY;
    return process->limits[which].soft;
}

uint32_t
process_fsuid(void)
{
    struct process *process = process_current();

    return process == NULL ? 0 : process->credentials.fsuid;
}

uint32_t
process_fsgid(void)
{
    struct process *process = process_current();

    return process == NULL ? 0 : process->credentials.fsgid;
}

bool
process_has_capability(unsigned number)
{
    struct process *process = process_current();

    return process == NULL || (process->credentials.cap_effective >> number & 1) != 0;
}

/* All three numbers, so that a program that took on another's rights for a while is safe. */
static bool
has_numbers(const struct credentials *who, uint32_t uid, uint32_t gid)
{
    return uid == who->uid && uid == who->euid && uid == who->suid && gid == who->gid &&
           gid == who->egid && gid == who->sgid;
}

bool
process_may_inspect(const struct process *target, const struct mm *mm, bool as_file)
{
    enum { CAP_SYS_PTRACE = 19 };
    const struct credentials *mine = &process_current()->credentials;
    const struct credentials *theirs = &target->credentials;
    uint64_t rights = as_file ? mine->cap_effective : mine->cap_permitted;

    if (target == process_current() || process_has_capability(CAP_SYS_PTRACE))
        return true;
    return has_numbers(theirs, as_file ? mine->fsuid : mine->uid,
                       as_file ? mine->fsgid : mine->gid) &&
           (mm == NULL || mm->dumpable) && (theirs->cap_permitted & ~rights) == 0;
}

bool
process_may_look(struct process *target)
{
    struct mm *mm = mm_of_process(target);
    bool may = mm == NULL || mm == process_current()->mm || process_may_inspect(target, mm, true);

    if (mm != NULL)
        mm_put(mm);
    return may;
}

/* ---- the whole machine --------------------------------------------------------------------------------------- */

unsigned
process_count(void)
{
    return process_total;
}

unsigned
thread_count(void)
{
    return atomic_load(&thread_total);
}

int32_t
process_last_id(void)
{
    return last_number;
}

/*
 * Called by init's last thread when everybody else is gone: what exists beyond
 * init itself was forgotten by somebody.
 */
unsigned
process_leak_check(void)
{
    const struct {
        const char *what;
        unsigned count, expected;
    } rows[] = {
        {"processes in the tree", process_total, 1},
        {"process structures", atomic_load(&process_objects), 1},
        {"process numbers", pid_total, 1},
        {"threads", thread_count(), 1},
        {"address spaces", mm_count(), 0},
        {"open files", file_count(), 0},
        {"sockets", socket_count(), 0},
    };
    unsigned leaks = 0;

    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        if (rows[i].count == rows[i].expected)
            continue;
        printk("leak: %u %s, expected %u\n", rows[i].count, rows[i].what, rows[i].expected);
        leaks++;
    }
    char message[160];

    qr_groups_drain(memory.groups);
    if (!qr_groups_validate(memory.groups, message, sizeof(message))) {
        printk("leak: %s\n", message);
        leaks++;
    }
    if (leaks == 0)
        printk("leak check: every process, thread, space and file was given back\n");
    return leaks;
}
