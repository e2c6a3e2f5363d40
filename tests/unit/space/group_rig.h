/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_SPACE_GROUP_RIG_H
#define TESTS_UNIT_SPACE_GROUP_RIG_H

/* A machine with groups. */

#include "harness.h"

#include <quire/fault.h>
#include <quire/group.h>

#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "space/vm.h"

struct rig {
    struct sim *sim;
    struct qr_space *first, *space; /* the machine's own, and one that ends before the groups do */
    struct qr_groups *groups;
    void *memory;
};

static struct qr_group
    *thread_group; /* what the running thread's pages of objects are charged to */

static inline struct qr_group *
thread_group_get(void)
{
    if (thread_group != NULL)
        qr_group_get(thread_group);
    return thread_group;
}

static inline void
rig_boot(struct rig *rig, struct sim_options options)
{
    options.seed = test_seed();
    rig->sim = sim_boot(options);
    size_t bytes = (qr_groups_size(sim_cpu_count(rig->sim)) + 63) & ~(size_t)63;

    rig->memory = aligned_alloc(64, bytes);
    memset(rig->memory, 0, bytes);
    rig->groups = rig->memory;
    ASSERT_EQ(qr_groups_init(rig->groups, sim_frames(rig->sim), sim_heap(rig->sim),
                             sim_cpu_count(rig->sim)),
              QR_OK);
    thread_group = NULL;
    sim_vm(rig->sim)->config.groups = rig->groups;
    qr_objects_set_thread_group(sim_objects(rig->sim), rig->groups, thread_group_get);
    rig->first = sim_space(rig->sim);
    rig->space = sim_space_create(rig->sim);
    sim_use(rig->sim, rig->space);
}

static inline void
rig_validate(struct rig *rig)
{
    char message[200] = "";

    if (!qr_groups_validate(rig->groups, message, sizeof(message)))
        sim_fail("%s", message);
}

static inline void
rig_end(struct rig *rig)
{
    thread_group = NULL;
    qr_objects_set_thread_group(sim_objects(rig->sim), NULL, NULL);
    sim_use(rig->sim, rig->first);
    sim_space_destroy(rig->sim, rig->space);
    rig_validate(rig);
    EXPECT_EQ(qr_groups_fini(rig->groups), 0u);
    sim_shutdown(rig->sim);
    free(rig->memory);
}

static inline struct qr_group *
make(struct rig *rig, struct qr_group *parent, size_t max)
{
    struct qr_group *group = NULL;

    ASSERT_EQ(qr_group_create(rig->groups, parent, NULL, &group), QR_OK);
    qr_group_set_limit(group, QR_GROUP_MAX, max);
    return group;
}

/* Pages of @group that are not the kernel's. */
static inline size_t
user_pages(const struct qr_group *group)
{
    struct qr_group_pages pages;

    qr_group_pages(group, &pages);
    return pages.anon + pages.file + pages.shmem;
}

#endif
