/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CGROUP_H
#define KERNEL_CGROUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <quire/group.h>
#include <quire/list.h>
#include <quire/lock.h>

#include "psi.h"
#include "wait.h"

/*
 * Groups of processes, as Linux's cgroup v2 has them, with the one controller `memory`.
 *
 * Locks: C (cgroups_lock(), sleeping) for the tree and its settings; the process tree lock for who
 * is in which.  C comes after the tree lock of names, and before a space's lock.
 */

struct process;
struct mm;
struct qr_space;
struct qr_writer;

struct cgroup {
    atomic_uint refs;                   /* the tree's, each member's, each look-up's */
    uint64_t id;                        /* const; never used again */
    struct cgroup *parent;              /* const; a reference; NULL: the root */
    char *name;                         /* const; terminated */
    uint32_t uid, gid;                  /* const: who made it */
    unsigned depth;                     /* const: 0 for the root */
    struct qr_list children;            /* C */
    struct qr_list sibling;             /* C: in parent->children */
    struct qr_list all;                 /* C: in the list of all that are in the tree */
    bool gives_memory;                  /* C: `memory` is in subtree_control */
    struct qr_group *group;             /* C to write: its own; NULL: the parent gives none */
    struct qr_group *_Atomic effective; /* C to write: its own or the nearest ancestor's */
    bool dead;                          /* C and process tree to write: removed */
    struct qr_list members;             /* process tree: by cgroup_link; who has not ended */
    unsigned populated;                 /* process tree: members here and below */
    atomic_bool kill_all;               /* memory.oom.group */
    atomic_uint changes[3];             /* by enum cgroup_changes */
    struct wait_queue watchers;         /* who polls for those */
    struct psi_domain pressure;         /* psi's lock */
};

/** Files whose changes wake who polls them. */
enum cgroup_changes { CGROUP_EVENTS, CGROUP_MEMORY_EVENTS, CGROUP_MEMORY_EVENTS_LOCAL };

/** Before the first process. */
void cgroup_init(void);
void cgroups_lock(void);
void cgroups_unlock(void);

struct cgroup *cgroup_root(void);
void cgroup_ref(struct cgroup *cgroup);
void cgroup_put(struct cgroup *cgroup);
/** By number, with a reference; NULL: removed.  Takes C. */
struct cgroup *cgroup_find(uint64_t id);
/** Is @p cgroup below @p ancestor, or that itself? */
bool cgroup_is_within(const struct cgroup *cgroup, const struct cgroup *ancestor);
/** The child of that name, or NULL.  C. */
struct cgroup *cgroup_child(const struct cgroup *cgroup, const char *name, size_t length);
/** Groups in the tree, the root too.  Takes C. */
unsigned cgroup_count(void);
/** Groups below @p cgroup: in the tree, and removed ones that memory is charged to.  C. */
unsigned cgroup_count_below(const struct cgroup *cgroup);

/** All take C. @return 0; -EEXIST, -ENOMEM, -EAGAIN (too deep or too many), -ENODEV */
int64_t cgroup_make(struct cgroup *parent, const char *name, size_t length);
/** @return 0; -EBUSY: it has members or children; -ENODEV */
int64_t cgroup_remove(struct cgroup *cgroup);
/** Let children have limits of their own, or not. @return 0; -EBUSY, -ENOENT, -ENOMEM, -ENODEV */
int64_t cgroup_give_memory(struct cgroup *cgroup, bool give);
/** Move a process. @return 0; -EBUSY (limits are for its children alone), -ESRCH, -ENODEV */
int64_t cgroup_move(struct cgroup *cgroup, struct process *process);
/** Kill everybody in it and below. */
void cgroup_kill(struct cgroup *cgroup);

/** Enter a new process. @return 0; -ENODEV, -EBUSY.  Process tree lock held. */
int64_t cgroup_enter(struct process *process, struct cgroup *cgroup);
/** It has ended and given its memory back: it counts no more.  Takes the process tree lock. */
void cgroup_leave(struct process *process);
/** Have its memory charged to where it is now.  Takes C. */
void cgroup_settle(struct process *process);
/** Is @p group what its memory is to be charged to?  Process tree lock held. */
bool cgroup_is_charged(const struct process *process, const struct qr_group *group);
/** Charge what @p process will have after exec to its group from the start. @return 0; -ENOMEM */
int64_t cgroup_adopt(const struct process *process, struct mm *mm);
/** The group behind a descriptor of its directory, with a reference. @return 0; -EBADF, -ENODEV, -EACCES */
int64_t cgroup_of_fd(int fd, struct cgroup **out);

/** What memory.high asks of the running thread: waits.  Nothing locked. */
void cgroup_throttle(void);
/** Bring usage down to memory.max or memory.high, the former by killing too.  Nothing locked.
 *  @return 0; -EINTR */
int64_t cgroup_enforce(struct cgroup *cgroup, enum qr_group_limit which);

/** Somebody may poll for @p which.  Any context. */
void cgroup_changed(struct cgroup *cgroup, enum cgroup_changes which);
/** Its own group in the library with a reference, or NULL.  Takes C. */
struct qr_group *group_of_cgroup(struct cgroup *cgroup);

/* kernel/mm/group.c */
/** Install the hooks of the library's groups. */
void group_init(void);
/** Say whose it is, for the hooks; NULL: nobody's any more. */
void group_set_host(struct qr_group *group, struct cgroup *cgroup);
/** Have the shrinkers free pages of @p group.  Nothing locked.  @return pages that are free now */
size_t group_reclaim(struct qr_group *group, size_t pages);

/** A program's access found its group full and nobody to kill: wait a little, or for a signal, before
 *  it is repeated.  Context: thread, no lock. */
void group_wait_for_room(void);

/** The path of its group, as /proc/PID/cgroup has it.  Takes C. */
void cgroup_write_path(struct process *process, struct qr_writer *writer);
/** A fault in @p space, for memory.stat. */
void cgroup_count_fault(struct qr_space *space, bool major);

#endif
