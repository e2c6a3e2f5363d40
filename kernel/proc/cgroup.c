/* SPDX-License-Identifier: MIT */
/*
 * The tree of control groups and who is in which.
 *
 *      root ---- a (gives memory) ---- b   group: own, below a's
 *        \            group: own  \
 *         \                        c       group: own, below a's
 *          d    no group of its own where the root gives none: effective is NULL, nobody is charged
 *
 * A group has limits where its parent gives them (cgroup.subtree_control); its members are charged to
 * the nearest group above that has any.  Limits are given to children only by groups that have no
 * members themselves, the root excepted, as in Linux.
 *
 * A process belongs to one group from its birth on, which it inherits, until its memory is gone; then
 * it counts no more, so a group whose last process has ended can be removed.  Where it is and what
 * its space is charged to change one after the other: fork and exec look again (cgroup_settle()).
 *
 * What the library charges and how is src/group/group.c.
 */
#include "cgroup.h"

#include <quire/assert.h>
#include <quire/space.h>
#include <quire/writer.h>

#include "abi_errno.h"
#include "kstring.h"
#include "memory.h"
#include "proc.h"

enum { DEPTH_MAX = 64 };

static struct qr_mutex cgroups_mutex;
static char root_name[1];
static struct cgroup root = {.name = root_name, .refs = 1};
static struct qr_list all_cgroups = QR_LIST_INIT(all_cgroups); /* C */
static unsigned total = 1;                                     /* C */
static uint64_t last_id = 1;                                   /* C */

void
cgroups_lock(void)
{
    qr_mutex_lock(&cgroups_mutex);
}

void
cgroups_unlock(void)
{
    qr_mutex_unlock(&cgroups_mutex);
}

static void
cgroup_start(struct cgroup *cgroup)
{
    qr_list_init(&cgroup->children);
    qr_list_init(&cgroup->members);
    wait_queue_init(&cgroup->watchers);
    psi_domain_init(&cgroup->pressure);
    qr_list_push_back(&all_cgroups, &cgroup->all);
}

void
cgroup_init(void)
{
    root.id = 1;
    cgroup_start(&root);
}

struct cgroup *
cgroup_root(void)
{
    return &root;
}

void
cgroup_ref(struct cgroup *cgroup)
{
    atomic_fetch_add_explicit(&cgroup->refs, 1, memory_order_relaxed);
}

void
cgroup_put(struct cgroup *cgroup)
{
    while (cgroup != NULL &&
           atomic_fetch_sub_explicit(&cgroup->refs, 1, memory_order_acq_rel) == 1) {
        struct cgroup *parent = cgroup->parent;

        qr_assert(cgroup != &root && cgroup->group == NULL);
        kmem_free(cgroup->name);
        kmem_free(cgroup);
        cgroup = parent;
    }
}

/* ---- Looking --------------------------------------------------------------------- */

struct cgroup *
cgroup_find(uint64_t id)
{
    struct cgroup *found = NULL;

    cgroups_lock();
    qr_list_for_each(link, &all_cgroups)
    {
        struct cgroup *cgroup = qr_list_entry(link, struct cgroup, all);

        if (cgroup->id == id) {
            cgroup_ref(cgroup);
            found = cgroup;
            break;
        }
    }
    cgroups_unlock();
    return found;
}

bool
cgroup_is_within(const struct cgroup *cgroup, const struct cgroup *ancestor)
{
    while (cgroup != NULL && cgroup != ancestor)
        cgroup = cgroup->parent;
    return cgroup != NULL;
}

struct cgroup *
cgroup_child(const struct cgroup *cgroup, const char *name, size_t length)
{
    qr_list_for_each(link, &cgroup->children)
    {
        struct cgroup *child = qr_list_entry(link, struct cgroup, sibling);

        if (strlen(child->name) == length && memcmp(child->name, name, length) == 0)
            return child;
    }
    return NULL;
}

unsigned
cgroup_count(void)
{
    cgroups_lock();
    unsigned count = total;

    cgroups_unlock();
    return count;
}

unsigned
cgroup_count_below(const struct cgroup *cgroup)
{
    unsigned count = 0;

    qr_list_for_each(link, &all_cgroups)
    {
        const struct cgroup *other = qr_list_entry(link, struct cgroup, all);

        count += other != cgroup && cgroup_is_within(other, cgroup);
    }
    return count;
}

void
cgroup_changed(struct cgroup *cgroup, enum cgroup_changes which)
{
    atomic_fetch_add(&cgroup->changes[which], 1);
    wait_wake_all(&cgroup->watchers);
}

/* ---- Members ------------------------------------------------------------------------ */

/* @delta processes came to @cgroup.  Process tree lock held. */
static void
populate(struct cgroup *cgroup, int delta)
{
    for (; cgroup != NULL; cgroup = cgroup->parent) {
        unsigned before = cgroup->populated;

        cgroup->populated = (unsigned)((int)before + delta);
        if ((before == 0) != (cgroup->populated == 0))
            cgroup_changed(cgroup, CGROUP_EVENTS);
    }
}

/* Limits are for its children alone. */
static bool
is_inner(const struct cgroup *cgroup)
{
    return cgroup != &root && cgroup->gives_memory;
}

int64_t
cgroup_enter(struct process *process, struct cgroup *cgroup)
{
    if (cgroup->dead)
        return -ENODEV;
    if (is_inner(cgroup))
        return -EBUSY;
    cgroup_ref(cgroup);
    process->cgroup = cgroup;
    qr_list_push_back(&cgroup->members, &process->cgroup_link);
    populate(cgroup, 1);
    return 0;
}

void
cgroup_leave(struct process *process)
{
    process_tree_lock();
    if (!qr_list_is_empty(&process->cgroup_link)) {
        qr_list_remove(&process->cgroup_link);
        qr_list_init(&process->cgroup_link);
        populate(process->cgroup, -1);
    }
    process_tree_unlock();
}

/* C. */
static void
settle_locked(struct process *process)
{
    struct mm *mm = mm_of_process(process);
    struct qr_group *group;

    if (mm == NULL)
        return;
    group = atomic_load(&process->cgroup->effective);
    if (atomic_load(&mm->space->group) != group)
        qr_space_set_group(mm->space, group);
    mm_put(mm);
}

void
cgroup_settle(struct process *process)
{
    cgroups_lock();
    settle_locked(process);
    cgroups_unlock();
}

bool
cgroup_is_charged(const struct process *process, const struct qr_group *group)
{
    return atomic_load_explicit(&process->cgroup->effective, memory_order_relaxed) == group;
}

int64_t
cgroup_adopt(const struct process *process, struct mm *mm)
{
    process_tree_lock();
    bool nobody = cgroup_is_charged(process, NULL);

    process_tree_unlock();
    if (nobody)
        return 0;
    cgroups_lock();
    qr_space_set_group(mm->space, atomic_load(&process->cgroup->effective));
    cgroups_unlock();
    return MM_RETRY(mm->space, qr_space_charge_own(mm->space)) == QR_OK ? 0 : -ENOMEM;
}

/* The groups of processes have changed: look at each of them.  C. */
static void
settle_all(void)
{
    struct process *process;
    int32_t from = 0;

    while ((process = process_next(from)) != NULL) {
        from = process->id + 1;
        settle_locked(process);
        process_put(process);
    }
}

int64_t
cgroup_move(struct cgroup *cgroup, struct process *process)
{
    struct cgroup *before = NULL;
    int64_t error = 0;

    cgroups_lock();
    process_tree_lock();
    if (cgroup->dead)
        error = -ENODEV;
    else if (qr_list_is_empty(&process->cgroup_link))
        error = -ESRCH;
    else if (process->cgroup != cgroup && is_inner(cgroup))
        error = -EBUSY;
    if (error == 0 && process->cgroup != cgroup) {
        before = process->cgroup;
        qr_list_remove(&process->cgroup_link);
        populate(before, -1);
        (void)cgroup_enter(process, cgroup);
    }
    process_tree_unlock();
    if (before != NULL) {
        settle_locked(process);
        cgroup_put(before);
    }
    cgroups_unlock();
    return error;
}

static void
kill_member(struct process *process, void *context)
{
    if (!qr_list_is_empty(&process->cgroup_link) && cgroup_is_within(process->cgroup, context) &&
        (atomic_load(&process->flags) & PROCESS_INIT) == 0)
        (void)signal_send_process_locked(process, SIGKILL, NULL);
}

void
cgroup_kill(struct cgroup *cgroup)
{
    process_tree_lock();
    process_visit_all(kill_member, cgroup);
    process_tree_unlock();
}

/* ---- The tree ---------------------------------------------------------------------------- */

/* The library's own part of @cgroup begins or ends.  C. */
static int64_t
group_begin(struct cgroup *cgroup)
{
    struct qr_group *above = atomic_load(&cgroup->parent->effective);
    enum qr_status status;

    status = qr_group_create(memory.groups, above, NULL, &cgroup->group);
    if (status != QR_OK)
        return status == QR_ERR_LIMIT ? -EAGAIN : -ENOMEM;
    group_set_host(cgroup->group, cgroup);
    atomic_store(&cgroup->effective, cgroup->group);
    return 0;
}

static void
group_end(struct cgroup *cgroup)
{
    struct qr_group *group = cgroup->group;

    cgroup->group = NULL;
    atomic_store(&cgroup->effective, cgroup->parent->effective);
    group_set_host(group, NULL);
    qr_group_put(group);
}

struct qr_group *
group_of_cgroup(struct cgroup *cgroup)
{
    cgroups_lock();
    struct qr_group *group = cgroup->group;

    if (group != NULL)
        qr_group_get(group);
    cgroups_unlock();
    return group;
}

static struct cgroup *
cgroup_alloc(struct cgroup *parent, const char *name, size_t length)
{
    struct cgroup *cgroup = kmem_zalloc(sizeof(*cgroup));
    char *copy = kmem_alloc(length + 1);

    if (cgroup == NULL || copy == NULL) {
        kmem_free(cgroup);
        kmem_free(copy);
        return NULL;
    }
    memcpy(copy, name, length);
    copy[length] = '\0';
    atomic_init(&cgroup->refs, 1);
    cgroup->name = copy;
    cgroup->parent = parent;
    cgroup->depth = parent->depth + 1;
    cgroup->uid = process_fsuid();
    cgroup->gid = process_fsgid();
    return cgroup;
}

static int64_t
make_locked(struct cgroup *parent, struct cgroup *cgroup)
{
    int64_t error = 0;

    if (parent->dead)
        return -ENODEV;
    if (cgroup_child(parent, cgroup->name, strlen(cgroup->name)) != NULL)
        return -EEXIST;
    if (cgroup->depth > DEPTH_MAX)
        return -EAGAIN;
    atomic_store(&cgroup->effective, atomic_load(&parent->effective));
    if (parent->gives_memory)
        error = group_begin(cgroup);
    if (error != 0)
        return error;
    cgroup->id = ++last_id;
    cgroup_start(cgroup);
    qr_list_push_back(&parent->children, &cgroup->sibling);
    cgroup_ref(parent);
    total++;
    return 0;
}

int64_t
cgroup_make(struct cgroup *parent, const char *name, size_t length)
{
    struct cgroup *cgroup = cgroup_alloc(parent, name, length);
    int64_t error;

    if (cgroup == NULL)
        return -ENOMEM;
    cgroups_lock();
    error = make_locked(parent, cgroup);
    cgroups_unlock();
    if (error != 0) {
        kmem_free(cgroup->name);
        kmem_free(cgroup);
    }
    return error;
}

int64_t
cgroup_remove(struct cgroup *cgroup)
{
    int64_t error = 0;

    cgroups_lock();
    process_tree_lock();
    if (cgroup->dead)
        error = -ENODEV;
    else if (cgroup == &root || cgroup->populated != 0 || !qr_list_is_empty(&cgroup->children))
        error = -EBUSY;
    else
        cgroup->dead = true;
    process_tree_unlock();
    if (error == 0) {
        qr_list_remove(&cgroup->sibling);
        qr_list_remove(&cgroup->all);
        total--;
        if (cgroup->group != NULL)
            group_end(cgroup);
        for (int which = 0; which < 3; which++)
            cgroup_changed(cgroup, which);
        cgroup_put(cgroup);
    }
    cgroups_unlock();
    return error;
}

static struct qr_group *
thread_group_get(void)
{
    const struct process *process = process_current();

    return process == NULL || process->mm == NULL ? NULL : qr_space_group_get(process->mm->space);
}

/* What is below @cgroup without a group of its own has what @cgroup has.  C. */
static void
effective_spread(void)
{
    /* Parents stand before their children in the list. */
    qr_list_for_each(link, &all_cgroups)
    {
        struct cgroup *cgroup = qr_list_entry(link, struct cgroup, all);

        if (cgroup->group == NULL && cgroup->parent != NULL)
            atomic_store(&cgroup->effective, atomic_load(&cgroup->parent->effective));
    }
}

static int64_t
give_to_children(struct cgroup *cgroup)
{
    int64_t error = 0;

    qr_objects_set_thread_group(memory.objects, memory.groups, thread_group_get);
    qr_list_for_each(link, &cgroup->children)
    {
        error = group_begin(qr_list_entry(link, struct cgroup, sibling));
        if (error != 0)
            break;
    }
    return error;
}

static void
take_from_children(struct cgroup *cgroup)
{
    qr_list_for_each(link, &cgroup->children)
    {
        struct cgroup *child = qr_list_entry(link, struct cgroup, sibling);

        if (child->group != NULL)
            group_end(child);
    }
}

/* May limits be given or taken?  Whoever gives them on to others keeps them. */
static int64_t
give_check(const struct cgroup *cgroup, bool give)
{
    bool has_members;

    if (cgroup->dead)
        return -ENODEV;
    if (give && cgroup != &root && cgroup->group == NULL)
        return -ENOENT;
    process_tree_lock();
    has_members = !qr_list_is_empty(&cgroup->members);
    process_tree_unlock();
    if (give)
        return has_members && cgroup != &root ? -EBUSY : 0;
    qr_list_for_each(link, &cgroup->children)
    {
        if (qr_list_entry(link, struct cgroup, sibling)->gives_memory)
            return -EBUSY;
    }
    return 0;
}

int64_t
cgroup_give_memory(struct cgroup *cgroup, bool give)
{
    int64_t error = 0;

    cgroups_lock();
    if (cgroup->gives_memory != give) {
        error = give_check(cgroup, give);
        if (error == 0) {
            process_tree_lock();
            cgroup->gives_memory = give; /* from now on nobody enters */
            process_tree_unlock();
            if (give)
                error = give_to_children(cgroup);
            if (!give || error != 0) {
                take_from_children(cgroup);
                cgroup->gives_memory = false;
            }
            effective_spread();
            settle_all();
        }
    }
    cgroups_unlock();
    return error;
}

/* ---- For /proc --------------------------------------------------------------------------------- */

void
cgroup_write_path(struct process *process, struct qr_writer *writer)
{
    const struct cgroup *path[DEPTH_MAX + 1];
    unsigned depth = 0;

    cgroups_lock();
    const struct cgroup *cgroup = process->cgroup; /* moves under C alone */

    for (const struct cgroup *at = cgroup; at != NULL && at->parent != NULL; at = at->parent)
        path[depth++] = at;
    if (depth == 0)
        qr_writer_printf(writer, "/");
    while (depth > 0)
        qr_writer_printf(writer, "/%s", path[--depth]->name);
    if (cgroup != NULL && cgroup->dead)
        qr_writer_printf(writer, " (deleted)");
    cgroups_unlock();
}
