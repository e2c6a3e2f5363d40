/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PSI_H
#define KERNEL_PSI_H

#include <stdbool.h>
#include <stdint.h>

#include <quire/list.h>

#include "sched.h"
#include "wait.h"

/*
 * Pressure stall information, of memory alone: how long some thread, or all that could do something,
 * waited for memory.
 */

struct cgroup;
struct qr_writer;
struct thread;

enum psi_state { PSI_SOME, PSI_FULL, PSI_STATES };

/** Of the machine or of one group.  All under psi's lock. */
struct psi_domain {
    unsigned stalled; /* threads */
    bool full;        /* and nobody of it ran when it was last looked at */
    uint64_t seen_ns; /* up to when the totals are counted */
    uint64_t total_ns[PSI_STATES];
    uint64_t average_total_ns[PSI_STATES]; /* that the averages contain */
    uint64_t average_at_ns;                /* up to when */
    uint32_t average[PSI_STATES][3];       /* percent, in 1/2048 */
    struct qr_list triggers;
};

/** One stall of the running thread; on its stack.  They nest: the outermost counts. */
struct psi_stall {
    struct qr_list link;   /* psi's lock */
    struct thread *thread; /* NULL: within another stall */
    struct cgroup *cgroup; /* a reference */
};

/** Before anybody may stall. */
void psi_init(void);
void psi_domain_init(struct psi_domain *domain);
/** The running thread waits for memory from now on, asleep or at work for it.  Thread context. */
void psi_stall_begin(struct psi_stall *stall);
void psi_stall_end(struct psi_stall *stall);

/** The text of a pressure file: of @p cgroup, or (NULL) of the machine. */
void psi_show(struct cgroup *cgroup, struct qr_writer *writer);

/** What somebody wants to be told of. */
struct psi_trigger;
/** From the text that was written. @return 0; -EINVAL, -ENOMEM, -EPERM */
int64_t psi_trigger_create(struct cgroup *cgroup, const char *text, struct psi_trigger **out);
void psi_trigger_destroy(struct psi_trigger *trigger);
/** Whether it has fired since this was last asked. */
bool psi_trigger_take(struct psi_trigger *trigger);
struct wait_queue *psi_trigger_queue(struct psi_trigger *trigger);

#endif
