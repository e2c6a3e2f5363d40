/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MM_USERFAULT_H
#define KERNEL_MM_USERFAULT_H

#include <quire/listener.h>

#include "memory.h"
#include "wait.h"

/*
 * A userfaultfd, shared by userfault.c (faults and the descriptor) and userfault_events.c (what else
 * happens to the memory).
 */

enum uffd_feature {
    FEATURE_PAGEFAULT_FLAG_WP = 1 << 0,
    FEATURE_EVENT_FORK = 1 << 1,
    FEATURE_EVENT_REMAP = 1 << 2,
    FEATURE_EVENT_REMOVE = 1 << 3,
    FEATURE_MISSING_HUGETLBFS = 1 << 4,
    FEATURE_MISSING_SHMEM = 1 << 5,
    FEATURE_EVENT_UNMAP = 1 << 6,
    FEATURE_SIGBUS = 1 << 7,
    FEATURE_THREAD_ID = 1 << 8,
    FEATURE_MINOR_HUGETLBFS = 1 << 9,
    FEATURE_MINOR_SHMEM = 1 << 10,
    FEATURE_EXACT_ADDRESS = 1 << 11,
    FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12
};

enum uffd_event_number {
    EVENT_PAGEFAULT = 0x12,
    EVENT_UFFD_FORK,
    EVENT_UFFD_REMAP,
    EVENT_UFFD_REMOVE,
    EVENT_UFFD_UNMAP
};

/** Linux's struct uffd_msg. */
struct uffd_message {
    uint8_t event, pad[7];
    uint64_t words[3];
};
_Static_assert(sizeof(struct uffd_message) == 32, "Linux ABI");

struct uffd {
    struct qr_listener listener;
    struct mm *mm;              /* held */
    uint32_t flags;             /* constant: of userfaultfd(2) */
    atomic_bool ready;          /* UFFDIO_API was answered */
    atomic_uint features;       /* constant once ready */
    struct wait_queue readable; /* readers and pollers */
    struct wait_queue sleepers; /* threads that faulted, or wait for their event to be read */
    struct qr_spin lock;
    struct qr_list events;   /* lock: nobody has read them */
    atomic_uint event_count; /* lock to write */
    atomic_uint changing;    /* threads that wait for theirs to be read */
};

static inline struct uffd *
uffd_of(struct qr_listener *listener)
{
    return qr_container_of(listener, struct uffd, listener);
}

/** With one reference to its listener, and @mm held. NULL without memory. */
struct uffd *uffd_create(struct mm *mm, unsigned options);
/** A descriptor, which takes the caller's reference over. @return it, or -errno: then not */
int64_t uffd_install(struct uffd *uffd, uint32_t flags);

/* ---- userfault_events.c ---- */

/** Its features are known. */
void uffd_events_want(struct uffd *uffd);
/** The descriptor is closed: nobody waits for a reader. */
void uffd_events_end(struct uffd *uffd);
/** Hand the oldest event out. @return 0; -EAGAIN: there is none; -EMFILE, -ENOMEM (fork) */
int64_t uffd_event_take(struct uffd *uffd, struct uffd_message *out);

static inline bool
uffd_has_events(struct uffd *uffd)
{
    return atomic_load(&uffd->event_count) != 0;
}

/** Does somebody wait for the reader to learn that addresses have changed? */
static inline bool
uffd_is_changing(struct uffd *uffd)
{
    return atomic_load(&uffd->changing) != 0;
}

#endif
