/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_GROUP_H
#define QUIRE_GROUP_H

/**
 * @file
 * Memory limits for groups of spaces (Linux's memory cgroups): a tree of groups, each
 * with the pages that its members and theirs were charged, and with limits.
 *
 * A page is charged to the group of whoever first needed it, and stays there until the frame is
 * free: the frame itself names its group, so no path on which it is given up can forget it.
 */

#ifndef __cplusplus
#include <quire/heap.h>

struct qr_groups; /* a machine's groups; src/group/group.h */
struct qr_group;

/** Groups that can exist at a time, counting removed ones with pages that live on. */
#define QR_GROUPS_MAX ((1u << (32 - QR_FRAME_GROUP_SHIFT)) - 1)
/** Pages that a CPU holds charged ahead of need, for one group at a time, at most. */
#define QR_GROUP_CREDIT 64u
/** No limit. */
#define QR_GROUP_UNLIMITED SIZE_MAX

/** Limits and protections, in pages. */
enum qr_group_limit {
    QR_GROUP_MIN,  /**< never reclaimed from below this */
    QR_GROUP_LOW,  /**< only where nothing else is left to reclaim */
    QR_GROUP_HIGH, /**< above it members are slowed down and their memory is reclaimed */
    QR_GROUP_MAX,  /**< never passed */
    QR_GROUP_LIMITS,
};

/** What happened, as Linux's memory.events names it. */
enum qr_group_event {
    QR_GROUP_EVENT_LOW,
    QR_GROUP_EVENT_HIGH,
    QR_GROUP_EVENT_MAX,
    QR_GROUP_EVENT_OOM,
    QR_GROUP_EVENT_OOM_KILL,
    QR_GROUP_EVENT_OOM_GROUP_KILL,
    QR_GROUP_EVENT_SWAP_HIGH, /**< Linux's memory.swap.events, from here on */
    QR_GROUP_EVENT_SWAP_MAX,
    QR_GROUP_EVENT_SWAP_FAIL,
    QR_GROUP_EVENTS,
};

/** What the host does for groups.  Members may be NULL. */
struct qr_group_ops {
    /**
     * @p full cannot be charged @p pages more: make room in it, or end one of its members.
     * Context: thread, no lock of the library held; may sleep.
     * @return whether to try again
     */
    bool (*make_room)(void *context, struct qr_group *full, size_t pages);
    /** @p pages were charged to @p group, which (or an ancestor) is above its high limit, of memory or of
     *  swap: slow the calling thread down once it holds nothing.  Any context. */
    void (*over_high)(void *context, struct qr_group *group, size_t pages);
    /** An event of @p group was counted, there and in all ancestors.  Any context. */
    void (*event)(void *context, struct qr_group *group, enum qr_group_event event);
};

size_t qr_groups_size(unsigned cpu_count);
/** @p groups is zeroed memory of qr_groups_size() bytes.  Takes over the frames' uncharge hook.
 *  @return QR_OK; QR_ERR_NO_MEMORY */
QR_MUST_USE enum qr_status qr_groups_init(struct qr_groups *groups, struct qr_frames *frames,
                                          struct qr_heap *heap, unsigned cpu_count);
/** @return groups that are still in use or charged (a leak) */
size_t qr_groups_fini(struct qr_groups *groups);
void qr_groups_set_ops(struct qr_groups *groups, const struct qr_group_ops *ops, void *context);

/**
 * A group below @p parent (NULL: at the top), without limits, with one reference.
 * @p host: the host's own, for the hooks.
 * @return QR_OK; QR_ERR_NO_MEMORY; QR_ERR_LIMIT: QR_GROUPS_MAX exist
 */
QR_MUST_USE enum qr_status qr_group_create(struct qr_groups *groups, struct qr_group *parent,
                                           void *host, struct qr_group **out_group);
/** Another reference; the caller has one.  Any context. */
void qr_group_get(struct qr_group *group);
/**
 * Drop a reference; NULL is allowed.  Pages charged to a group without references stay charged to
 * it, and so to its ancestors, until they are freed; then its place is free for another.
 */
void qr_group_put(struct qr_group *group);
/** A reference of @p group, unless it has none left: for look-ups without a lock.  A group's memory
 *  stays one of groups, but may become another one's: look again afterwards. */
QR_MUST_USE bool qr_group_try_get(struct qr_group *group);

/** The group that @p place names, with a reference, without the lock of who changes that and drops what
 *  it named; NULL where it names none. */
struct qr_group *qr_group_get_current(struct qr_group *_Atomic *place);

struct qr_group *qr_group_parent(const struct qr_group *group);
/** The host's own, which the host guards. */
void *qr_group_host(const struct qr_group *group);
void qr_group_set_host(struct qr_group *group, void *host);
/** Is @p group below @p ancestor, or that itself? */
bool qr_group_is_within(const struct qr_group *group, const struct qr_group *ancestor);

void qr_group_set_limit(struct qr_group *group, enum qr_group_limit which, size_t pages);
size_t qr_group_limit(const struct qr_group *group, enum qr_group_limit which);

/** Pages charged to it and to groups below it, without what CPUs hold ahead.  Exact at rest. */
size_t qr_group_usage(const struct qr_group *group);
/** The most that were charged, with what CPUs held ahead. */
size_t qr_group_peak(const struct qr_group *group);
void qr_group_reset_peak(struct qr_group *group);

/** What the kernel's memory is that is charged by the byte, in parts of pages. */
enum qr_group_kind {
    QR_GROUP_SLAB,
    QR_GROUP_STACK, /**< of threads in the kernel */
    QR_GROUP_SOCKETS, /**< what is on its way over a network; Linux does not count it as the kernel's */
    QR_GROUP_VMALLOC,
    QR_GROUP_KINDS,
};

/** What the pages of a group and those below it are. */
struct qr_group_pages {
    size_t anon, file, shmem;     /**< file: without shmem */
    size_t kernel;                /**< frames of the kernel (tables, pipes) and QR_GROUP_KINDS */
    size_t bytes[QR_GROUP_KINDS]; /**< of each kind */
};
void qr_group_pages(const struct qr_group *group, struct qr_group_pages *out_pages);

/** Count an event, in @p group and all ancestors. */
void qr_group_count(struct qr_group *group, enum qr_group_event event);
/** How often it happened to @p group itself, or (@p below) to it and all groups below. */
unsigned long qr_group_events(const struct qr_group *group, enum qr_group_event event, bool below);
/** What happened to the members of a group and to its pages, as Linux's memory.stat names it. */
enum qr_group_stat {
    QR_GROUP_STAT_FAULT,        /**< pgfault */
    QR_GROUP_STAT_MAJOR_FAULT,  /**< pgmajfault: that needed the backing store */
    QR_GROUP_STAT_REFAULT,      /**< workingset_refault_file */
    QR_GROUP_STAT_ACTIVATE,     /**< workingset_activate_file */
    QR_GROUP_STAT_RESTORE,      /**< workingset_restore_file */
    QR_GROUP_STAT_SCAN_BEHIND,  /**< pgscan_kswapd */
    QR_GROUP_STAT_SCAN_DIRECT,  /**< pgscan_direct */
    QR_GROUP_STAT_STEAL_BEHIND, /**< pgsteal_kswapd */
    QR_GROUP_STAT_STEAL_DIRECT, /**< pgsteal_direct */
    QR_GROUP_STAT_REFILL,       /**< pgrefill, pgdeactivate */
    QR_GROUP_STAT_LAZY_FREE,    /**< pglazyfree */
    QR_GROUP_STAT_LAZY_FREED,   /**< pglazyfreed */
    QR_GROUP_STAT_THP_FAULT,    /**< thp_fault_alloc */
    QR_GROUP_STAT_THP_COLLAPSE, /**< thp_collapse_alloc */
    QR_GROUP_STATS,
};
/** Count it, in @p group (NULL: nobody) and all ancestors.  Any context. */
void qr_group_add_stat(struct qr_group *group, enum qr_group_stat stat, unsigned long count);
/** Since the group was made: of its own and of groups below it, gone ones too. */
unsigned long qr_group_stat(const struct qr_group *group, enum qr_group_stat stat);
/** What the frames are that are charged to @p group or below, on @p node or (-1) on any.  Looks at every
 *  descriptor. */
void qr_group_use(const struct qr_group *group, int node, struct qr_node_use *out_use);

/** A clock that ticks in a group and its ancestors: for who measures time by it (pages that went). */
void qr_group_tick(struct qr_group *group);
size_t qr_group_clock(const struct qr_group *group);

/**
 * Charge @p group and its ancestors @p pages.  Never sleeps; any context.  The caller has a
 * reference, or a lock that keeps one alive.
 * @return QR_OK; QR_ERR_LIMIT: some group is at its limit, nothing was charged
 */
QR_MUST_USE enum qr_status qr_group_charge(struct qr_group *group, size_t pages);
/** Take it back, for what was not tied to a frame.  Any context. */
void qr_group_uncharge(struct qr_group *group, size_t pages);
/** Charge @p group for @p frame, which the caller alone holds; what frees it takes the charge back.
 *  A frame that somebody is charged for already stays theirs. */
QR_MUST_USE enum qr_status qr_group_charge_frame(struct qr_group *group, struct qr_frame *frame);
/** The same for @p count frames side by side, each with a reference. */
QR_MUST_USE enum qr_status qr_group_charge_run(struct qr_group *group, struct qr_frames *frames,
                                               struct qr_frame *first, size_t count);
/** The same for a frame, or the block of @p pages that begins there, which the kernel needs for a member: a
 *  table, a pipe's page.  It is of type KERNEL when it is freed. */
QR_MUST_USE enum qr_status qr_group_charge_kernel(struct qr_group *group, struct qr_frame *frame,
                                                  size_t pages);

/** Who is charged for a piece of the kernel's memory; part of what lies there.  Zero: nobody. */
struct qr_charge {
    uint32_t bytes;
    uint16_t group; /**< its number */
    uint8_t kind;   /**< enum qr_group_kind */
};
/**
 * Charge @p group and its ancestors @p bytes: the pages that all bytes of @p group fill together, rounded up,
 * are part of its usage.  As qr_group_charge().  @p out_charge is written on success alone.
 */
QR_MUST_USE enum qr_status qr_charge_take(struct qr_group *group, enum qr_group_kind kind,
                                          size_t bytes, struct qr_charge *out_charge);
void qr_charge_drop_slowly(struct qr_groups *groups, struct qr_charge *charge);
/** Take it back, and leave @p charge empty.  Any context. */
static QR_ALWAYS_INLINE void
qr_charge_drop(struct qr_groups *groups, struct qr_charge *charge)
{
    if (qr_unlikely(charge->group != 0))
        qr_charge_drop_slowly(groups, charge);
}

/** @p frame, charged, has become a page of an object: shared memory, or a file's. */
void qr_group_note_object(struct qr_groups *groups, const struct qr_frame *frame, bool shared);
/** @p frame, charged, is a page of shared memory no more. */
void qr_group_forget_object(struct qr_groups *groups, const struct qr_frame *frame);
/** The charge of @p from goes to @p to, which has none and takes its place. */
void qr_group_move_frame(struct qr_frame *from, struct qr_frame *to);

/**
 * A charge of @p pages failed: have the host make room.  Context: thread, no lock of the library.
 * @return whether to try again
 */
bool qr_group_make_room(struct qr_group *group, size_t pages);
/** The group, @p group or an ancestor, that has no room for @p pages more; NULL: there is room. */
struct qr_group *qr_group_full(struct qr_group *group, size_t pages);
/** The group, @p group or an ancestor, that is above its high limit by most; NULL: none. */
struct qr_group *qr_group_over_high(const struct qr_group *group, size_t *out_pages);
/**
 * Is memory of @p group (NULL: no) to be left alone, as @p which (MIN or LOW) of it and of all groups
 * between it and @p root says?  @p root (NULL: the machine) is what needs memory.
 */
bool qr_group_is_protected(const struct qr_group *group, enum qr_group_limit which,
                           const struct qr_group *root);

/** The group that @p frame is charged to, or NULL; without a reference. */
struct qr_group *qr_group_of_frame(struct qr_groups *groups, const struct qr_frame *frame);
/** The number by which frames name @p group, and the group of @p number, without a reference: it may be
 *  another one by now.  NULL for 0. */
unsigned qr_group_number(const struct qr_group *group);
struct qr_group *qr_group_of_number(struct qr_groups *groups, unsigned number);
/**
 * Charge the group of @p number, which is charged for a page that goes to swap, and its ancestors a slot.
 * Where one may have no more, that is counted.  Any context.
 */
QR_MUST_USE bool qr_group_charge_swap(struct qr_groups *groups, unsigned number);
void qr_group_uncharge_swap(struct qr_groups *groups, unsigned number);
/** Slots charged to it and to groups below it: now, and the most so far. */
size_t qr_group_swap(const struct qr_group *group);
size_t qr_group_swap_peak(const struct qr_group *group);
/** The most it may have, in pages.  Default: QR_GROUP_UNLIMITED. */
void qr_group_set_swap_max(struct qr_group *group, size_t pages);
size_t qr_group_swap_max(const struct qr_group *group);
/** Above so many, who charges memory to it or to a group below it is slowed down (over_high). Default: the same. */
void qr_group_set_swap_high(struct qr_group *group, size_t pages);
size_t qr_group_swap_high(const struct qr_group *group);
/** How many more its members may have: the least of what its limits and its ancestors' leave. */
size_t qr_group_swap_room(const struct qr_group *group);
/** Give back what CPUs hold ahead.  Any context. */
void qr_groups_drain(struct qr_groups *groups);

/**
 * Check what every group is charged against the frames that name it.  The machine is at rest.
 * @return true where all is well; else the first violation is in @p out_message
 */
bool qr_groups_validate(struct qr_groups *groups, char *out_message, size_t bytes);

#endif
#endif
