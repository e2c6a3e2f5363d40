/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CGROUP_H
#define KERNEL_CGROUP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <quire/group.h>
#include <quire/list.h>
#include <quire/lock.h>

#include "wait.h"

/*
 * Groups of processes, as Linux's cgroup v2 has them, with the one controller `memory`.
 *
 * Locks: C (cgroups_lock(), sleeping) for the tree and its settings; the process tree lock for who
 * is in which.  C comes after the tree lock of names, and before a space's lock.
 */

struct process;
struct mm;

struct cgroup {
    atomic_uint refs;         /* the tree's, each member's, each look-up's */
    uint64_t id;              /* const; never used again */
    struct cgroup *parent;    /* const; a reference; NULL: the root */
    char *name;               /* const */
    uint32_t uid, gid;        /* const: who made it */
    struct qr_list children;  /* C */
    struct qr_list sibling;   /* C: in parent->children */
    struct qr_list all;       /* C: every one that is in the tree */
    unsigned child_count;     /* C */
    bool gives_memory;        /* C: `memory` is in subtree_control */
    struct qr_group *group;   /* C to write: its own; NULL where the parent does not give one */
    struct qr_group *_Atomic effective; /* C to write: its own or the nearest ancestor's */
    bool dead;                /* process tree, and C to write: removed */
    struct qr_list members;   /* process tree: by cgroup_link; those that have not ended */
    unsigned populated;       /* process tree: members here and below */
    atomic_bool kill_all;     /* memory.oom.group */
    _Atomic uint64_t swap_max, swap_high; /* bytes; kept for who asks */
    atomic_uint changes, memory_changes, local_changes; /* of the files *.events */
    struct wait_queue watchers; /* who polls these */
};

void cgroup_init(void);
void cgroups_lock(void);
void cgroups_unlock(void);

struct cgroup *cgroup_root(void);
void cgroup_ref(struct cgroup *cgroup);
void cgroup_put(struct cgroup *cgroup);
/** By number, with a reference; NULL: removed. */
struct cgroup *cgroup_find(uint64_t id);
/** Is @p cgroup below @p ancestor, or that itself? */
bool cgroup_is_within(const struct cgroup *cgroup, const struct cgroup *ancestor);
/** The child of that name, or NULL.  C. */
struct cgroup *cgroup_child(const struct cgroup *cgroup, const char *name, size_t length);

/** @return 0; -EEXIST, -ENOMEM, -EAGAIN (too deep or too many), -ENODEV */
int64_t cgroup_make(struct cgroup *parent, const char *name, size_t length);
/** @return 0; -EBUSY: it has members or children */
int64_t cgroup_remove(struct cgroup *cgroup);
/** Let children have, or not have, limits of their own.  @return 0; -EBUSY, -ENOENT, -ENOMEM */
int64_t cgroup_give_memory(struct cgroup *cgroup, bool give);
/** Move a process there.  @return 0; -EBUSY (its children have controllers), -ESRCH, -ENODEV */
int64_t cgroup_move(struct cgroup *cgroup, struct process *process);
/** Is @p cgroup one whose children have controllers, so that it can have no members itself? */
bool cgroup_is_inner(const struct cgroup *cgroup);
/** Kill everybody in it and below. */
void cgroup_kill(struct cgroup *cgroup);

/** Enter a new process; false: @p cgroup is gone.  Process tree lock held. */
bool cgroup_enter(struct process *process, struct cgroup *cgroup);
/** It has ended and given its memory back: it counts no more.  Takes the process tree lock. */
void cgroup_leave(struct process *process);
/** Charge its memory to where it is now.  Thread context. */
void cgroup_settle(struct process *process);
/** Charge memory that @p process will have after exec to its group from the start. */
void cgroup_adopt(const struct process *process, struct mm *mm);
/** The group behind a descriptor of its directory, with a reference; -EBADF, -ENODEV. */
int64_t cgroup_of_fd(int fd, struct cgroup **out);

/** Wait for what memory.high asks of the running thread. */
void cgroup_throttle(void);
/** Bring usage below @p pages by reclaim alone.  @return pages made free */
size_t cgroup_reclaim(struct cgroup *cgroup, size_t pages);
/** Bring usage below memory.max, by killing too. @return 0, -EINTR */
int64_t cgroup_enforce_max(struct cgroup *cgroup);
/** Something was written to the machine: usage of @p pages path for /proc: the path of its group. */
struct qr_writer;
void cgroup_write_path(struct process *process, struct qr_writer *writer);
/** Groups that exist, the root too. */
unsigned cgroup_count(void);
/** Living and removed groups below.  Dying: removed ones that memory is still charged to. */
void cgroup_count_below(struct cgroup *cgroup, unsigned *out_living);

#endif
