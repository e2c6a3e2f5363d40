/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_SPACE_H
#define QUIRE_SPACE_H

/**
 * @file
 * Address spaces and their regions: what mmap, munmap, mprotect, mremap, brk,
 * madvise, mlock and fork do, in the library's own words.
 */

#ifndef __cplusplus
#include <quire/group.h>
#include <quire/heap.h>
#include <quire/object.h>
#include <quire/policy.h>
#include <quire/swap.h>
#include <quire/tlb.h>
#include <quire/tree.h>

/* ---- The machine's part -------------------------------------------------- */

struct qr_listener; /* quire/listener.h */
struct qr_vm;       /* what all spaces of a machine share; src/space/vm.h */

/** Where user addresses live; one a machine or one a space (compat, tests). */
struct qr_layout {
    qr_va user_start;           /**< lowest address of a space; see qr_vm_set_floor() */
    qr_va user_end;             /**< one past the highest user address */
    qr_va stack_top;            /**< before randomisation.  What no hint asks to be above
                                     it is placed below; FIXED may go anywhere. */
    size_t stack_gap_bytes;     /**< kept free below stack_top for the stack's growth */
    unsigned mmap_random_bits;  /**< pages; 28 on 64-bit Linux */
    unsigned stack_random_bits; /**< pages; 22 */
    unsigned brk_random_bits;   /**< pages; 13 */
};

struct qr_vm_config {
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_objects *objects;
    struct qr_groups *groups; /**< NULL: no space is ever in one */
    struct qr_swap *swap;     /**< NULL: memory of programs never leaves */
    struct qr_epoch *epoch;
    struct qr_tlb *tlb;
    const struct qr_format *format;
    const struct qr_tables *kernel_tables; /**< upper half of every space; NULL in tests */
    struct qr_layout layout;
    size_t max_regions;          /**< a space, at first; Linux: 65530 */
    size_t stack_guard_pages;    /**< gap below a growing stack; Linux: 256 */
    unsigned fault_around_pages; /**< power of two; Linux: 16; 1 turns it off */
    bool randomise;              /**< ASLR for new spaces */
};

size_t qr_vm_size(void);
QR_MUST_USE enum qr_status qr_vm_init(struct qr_vm *vm, const struct qr_vm_config *config);
/** @return spaces still alive (a leak) */
size_t qr_vm_fini(struct qr_vm *vm);

/* ---- Promised memory ----------------------------------------------------- */

/** How much memory private writable and shared anonymous mappings may promise. */
enum qr_overcommit {
    QR_OVERCOMMIT_GUESS,  /**< refuse what no machine of this size could ever give */
    QR_OVERCOMMIT_ALWAYS, /**< refuse nothing */
    QR_OVERCOMMIT_NEVER,  /**< refuse what would pass the limit; NO_RESERVE is ignored */
};

/** Linux's vm.overcommit_memory, overcommit_ratio and overcommit_kbytes. */
struct qr_commit_policy {
    enum qr_overcommit overcommit;
    unsigned ratio; /**< percent of memory, without pools of huge pages, that is the limit ... */
    size_t limit_bytes; /**< or the limit itself; 0: by ratio.  Swap comes on top of either */
    /** With NEVER: kept from each space for whoever has to end it, but not more than 1/32 of the space;
     *  kept from spaces that are not administrators'.  Linux's user_ and admin_reserve_kbytes. */
    size_t user_reserve_bytes, admin_reserve_bytes;
};

/** Mappings that exist stay.  Default: GUESS, 50 %, reserves of 128 MiB and 0.  Context: any. */
void qr_vm_set_commit_policy(struct qr_vm *vm, const struct qr_commit_policy *policy);
struct qr_commit_policy qr_vm_commit_policy(const struct qr_vm *vm);
/** The limit in pages (CommitLimit), which only QR_OVERCOMMIT_NEVER enforces. */
size_t qr_vm_commit_limit(const struct qr_vm *vm);
/** May @p pages more be promised?  For what the host promises beside mappings: segments of shared
 *  memory; then qr_object_promise().  Context: any. */
bool qr_vm_may_promise(const struct qr_vm *vm, size_t pages);
/** Regions a space may have from now on (vm.max_map_count).  Context: any. */
void qr_vm_set_max_regions(struct qr_vm *vm, size_t max_regions);
size_t qr_vm_max_regions(const struct qr_vm *vm);
/**
 * The lowest address of new mappings (vm.mmap_min_addr): searches, hints and stacks that grow stay at or
 * above it, and so do fixed mappings but of spaces whose limits allow low_addresses.  Default:
 * layout.user_start, below which nothing ever is.  What is mapped stays.  Context: any.
 */
void qr_vm_set_floor(struct qr_vm *vm, qr_va floor);
qr_va qr_vm_floor(const struct qr_vm *vm);

/* ---- Transparent huge pages ---------------------------------------------- */

/** Which private anonymous regions get huge pages (Linux's transparent_hugepage/enabled). */
enum qr_huge_mode {
    QR_HUGE_NEVER,   /**< none: the default of the library */
    QR_HUGE_ADVISED, /**< those that QR_ADVICE_HUGE asked for */
    QR_HUGE_ALWAYS,  /**< all but those that QR_ADVICE_NO_HUGE excepted */
};

/** When a fault makes room for a huge page by moving frames (Linux's defrag). */
enum qr_huge_defrag {
    QR_DEFRAG_NEVER,
    QR_DEFRAG_ADVISED,       /**< in regions that QR_ADVICE_HUGE asked for (Linux's default) */
    QR_DEFRAG_DEFER,         /**< not in the fault: wake the background thread */
    QR_DEFRAG_DEFER_ADVISED, /**< as ADVISED, and as DEFER in other regions */
    QR_DEFRAG_ALWAYS,
};

/** How much trouble to take for the frames of a huge page. */
enum qr_huge_effort {
    QR_HUGE_OPPORTUNE, /**< only if they lie there */
    QR_HUGE_COMPACT,   /**< the reclaim hook may make room for them */
};

/** Why a page becomes huge. */
enum qr_huge_reason {
    QR_HUGE_POLICY, /**< the policy has it so */
    QR_HUGE_ASKED,  /**< somebody asked for this one */
};

struct qr_huge_policy {
    enum qr_huge_mode mode;
    enum qr_huge_defrag defrag;
    bool zero_page; /**< what is only read shows a huge frame of zeroes */
};

/** What is mapped stays as it is.  Default: NEVER, ADVISED, true.  Context: any. */
void qr_vm_set_huge_policy(struct qr_vm *vm, const struct qr_huge_policy *policy);
struct qr_huge_policy qr_vm_huge_policy(const struct qr_vm *vm);
/** Bytes of one: of the format's smallest large leaf; 0 where that is more than a program can be
 *  given at once (2048 pages). */
size_t qr_vm_huge_bytes(const struct qr_vm *vm);

/* ---- Regions ------------------------------------------------------------- */

enum qr_region_flag {
    QR_REGION_SHARED = 1 << 0,
    QR_REGION_GROWS_DOWN = 1 << 1,
    QR_REGION_LOCKED = 1 << 2,
    QR_REGION_LOCKED_ON_FAULT = 1 << 3, /**< beside LOCKED: pages come on fault only */
    QR_REGION_NO_RESERVE = 1 << 4,
    QR_REGION_DONT_FORK = 1 << 5,
    QR_REGION_WIPE_ON_FORK = 1 << 6,
    QR_REGION_DONT_DUMP = 1 << 7,
    QR_REGION_RANDOM = 1 << 8, /**< advice: no fault-around, no read-ahead */
    QR_REGION_SEQUENTIAL = 1 << 9,
    QR_REGION_HUGE = 1 << 10,
    QR_REGION_NO_HUGE = 1 << 11,
    QR_REGION_MERGEABLE = 1 << 12,
    QR_REGION_STACK = 1 << 13, /**< reported as [stack] */
    QR_REGION_SEALED = 1 << 15,
    QR_REGION_ACCOUNTED = 1 << 16,     /**< counts towards committed memory; set by the library */
    QR_REGION_DEVICE = 1 << 17,        /**< its object is a device; set by the library */
    QR_REGION_VDSO = 1 << 18,          /**< reported as [vdso] */
    QR_REGION_HUGETLB = 1 << 19,       /**< its object has huge pages; set by the library */
    QR_REGION_HUGETLB_OWNER = 1 << 20, /**< ... and its private copies are promised; likewise */
    /** Which pages were written is known page by page; set by qr_space_track_writes(). */
    QR_REGION_TRACKED = 1 << 21,
    /** Private memory whose pages may go at any time, written or not, to read as zeroes then. */
    QR_REGION_DROPPABLE = 1 << 22,
    /* A listener is told of these faults (quire/listener.h); set by the library. */
    QR_REGION_WATCH_MISSING = 1 << 28,
    QR_REGION_WATCH_WRITE = 1 << 29,
    QR_REGION_WATCH_MINOR = 1 << 30,
};

/**
 * A run of pages with the same properties.  Guarded by the space's lock; @p start
 * and @p end only change with it held for writing.
 */
struct qr_region {
    struct qr_tree_node node; /* in space->regions, by start */
    qr_va start, end;
    qr_va subtree_start, subtree_end; /* extent of the subtree: for gap search */
    size_t subtree_gap;               /* largest free run between the subtree's regions */
    struct qr_space *space;
    unsigned prot;     /* READ, WRITE, EXEC */
    unsigned max_prot; /* what mprotect may ask for */
    unsigned flags;    /* enum qr_region_flag */
    uint8_t pkey;
    uint16_t charged;         /* number of the group that is charged for this structure; 0: none */
    struct qr_object *object; /* one reference; NULL: private anonymous */
    size_t object_page;       /* object's page at start */
    struct qr_mapping mapping;
    size_t hugetlb_reserved;      /* huge pages that it is promised; the pool's lock */
    void *file;                   /* the host's file, for names in reports; host's reference */
    struct qr_mempolicy *policy;  /* one reference; NULL: the thread's */
    struct qr_listener *listener; /* one reference; NULL: nobody is told of faults */
};

/** Where fixed mappings of @p space may begin: see qr_vm_set_floor(). */
qr_va qr_space_floor(const struct qr_space *space);

/** What the host does with its file pointer when regions are copied, split or dropped. */
struct qr_file_ops {
    void (*get)(void *file);
    void (*put)(void *file);
};
void qr_vm_set_file_ops(struct qr_vm *vm, const struct qr_file_ops *ops);

/**
 * Told of what was handled like a fault although nobody took one: populating, locking, reaching a page of
 * another space.  @p major: it waited for a file's backing.  Context: thread, nothing locked.
 */
typedef void (*qr_fault_hook)(struct qr_space *space, bool major);
/** At start-up. */
void qr_vm_set_fault_hook(struct qr_vm *vm, qr_fault_hook hook);

struct qr_space_limits;
/**
 * What binds the running thread, whichever space it changes: for hosts whose limits belong to processes,
 * several of which can share a space.  NULL: what the space says.  Context: any, locks are held; the
 * result stays valid for as long as the thread does not change it itself.
 */
typedef const struct qr_space_limits *(*qr_limits_hook)(void);
/** At start-up. */
void qr_vm_set_limits_hook(struct qr_vm *vm, qr_limits_hook hook);

struct qr_space_counts {
    size_t virtual_pages, peak_virtual_pages;
    size_t resident_anon, resident_file, resident_shmem, peak_resident; /* pages */
    size_t table_pages;
    size_t locked_pages, data_pages, stack_pages, exec_pages, shared_pages;
    size_t region_count;
    size_t swapped_pages;
    size_t hugetlb_pages; /* of huge page pools; not among the resident ones */
};

/** Bytes; SIZE_MAX: none.  Each is one word that may be changed while others read it. */
struct qr_space_limits {
    _Atomic size_t address_space, data, stack, locked;
    _Atomic bool administrator; /* may have what is reserved for those: struct qr_commit_policy */
    _Atomic bool low_addresses; /* may map below the floor: qr_vm_set_floor() */
};

struct qr_space {
    struct qr_vm *vm;              /* fixed */
    _Atomic uint32_t users;        /* threads and others that use the regions */
    struct qr_rwlock lock;         /* regions, layout, limits: S */
    struct qr_tree regions;        /* S */
    struct qr_tables tables;       /* own locks */
    struct qr_tlb_space tlb;       /* own rules */
    struct qr_list link;           /* vm's list, under its lock */
    struct qr_layout layout;       /* fixed after create */
    qr_va mmap_base;               /* fixed after create: top-down placement starts here */
    qr_va brk_start, brk_end;      /* S */
    qr_va stack_top;               /* fixed after create */
    struct qr_space_limits limits; /* S */
    struct qr_space_counts counts; /* S for the region-derived ones */
    _Atomic long resident[3];      /* anon, file, shmem; exact: changed with each entry */
    _Atomic long swapped;          /* entries that name a slot of swap */
    _Atomic long large_leaves;  /* leaves above level 0; changes with each, by its table's lock */
    _Atomic long hugetlb_pages; /* mapped, of huge page pools; in ordinary pages */
    _Atomic size_t peak_resident;
    _Atomic size_t lazy;         /* at least 1 where frames may be freed lazily; src/space/lazy.c */
    _Atomic uintptr_t lazy_at;   /* where to look for them next */
    _Atomic uintptr_t swap_at;   /* where swapping out goes on */
    size_t code_pages;           /* S: of the program's own code; the host's, for reports */
    unsigned default_lock_flags; /* S: mlockall(MCL_FUTURE) */
    bool sealed;                 /* S: some region is */
    uint8_t execute_only_key;    /* S: of regions that may only be executed; 0: none */
    _Atomic bool huge_disabled;  /* no huge pages whatever the policy says; forks inherit it */
    bool maps_hugetlb;           /* S: has had a region of huge pages */
    _Atomic bool mergeable;      /* has had a region of QR_ADVICE_MERGEABLE */
    _Atomic uint32_t merge_domain;  /* its pages merge with those of the same alone */
    struct qr_group *_Atomic group; /* S to write; one reference; NULL: in none */
    struct qr_charge charge;        /* for this structure; fixed once others see the space */
    void *host;                     /* the host's own */
};

QR_MUST_USE enum qr_status qr_space_create(struct qr_vm *vm, struct qr_space **out_space);
void qr_space_get(struct qr_space *space);
/** The last put unmaps everything and frees the space; it runs on no CPU by then. */
void qr_space_put(struct qr_space *space);
/** The same by whoever ends the last program in it: its memory is free on return, even where the
 *  background (migration, collapse) holds a reference a little longer. */
void qr_space_end(struct qr_space *space);
/**
 * The living spaces one after another, each with a reference: the one after @p previous, whose
 * reference it takes over, or the first for NULL; NULL at the end.
 */
struct qr_space *qr_space_next(struct qr_vm *vm, struct qr_space *previous);
/** Unmap everything now (exec, exit of the last thread); the space stays usable and empty.
 *  Takes the space lock for writing. */
void qr_space_clear(struct qr_space *space);

/**
 * What is faulted in from now on is charged to @p group (NULL: nobody); what is there stays charged
 * to whom it was.  Forks inherit it.  Takes a reference, and the space lock for writing.
 */
void qr_space_set_group(struct qr_space *space, struct qr_group *group);
/** Its group with a reference, or NULL.  Any context. */
struct qr_group *qr_space_group_get(struct qr_space *space);

/**
 * Charge the structure and the root of the tables of a new @p space to its group, as forks are by themselves.
 * @return QR_OK; QR_ERR_LIMIT: the group refused
 */
QR_MUST_USE enum qr_status qr_space_charge_own(struct qr_space *space);
/**
 * A call on @p space has failed with QR_ERR_NO_MEMORY: was it because its group refused to be charged for a
 * table or a region, and has the host made room (qr_group_make_room())?  Or because there was no frame for a table,
 * and there are some now that memory was reclaimed?  @p attempt counts up from 0, so that there is an end.
 * Context: thread, no lock of the library; may reclaim.  @return whether to try again
 */
bool qr_space_make_room(struct qr_space *space, unsigned attempt);

/**
 * The same as qr_space_clear() for a space whose programs are all about to end, by somebody else: never
 * waits for its lock.  Who runs in it still faults.
 * @return false: somebody has the lock; nothing happened
 */
QR_MUST_USE bool qr_space_try_clear(struct qr_space *space);

/** Run @p space on this CPU (NULL: lazily keep what is loaded).  Interrupts off. */
void qr_space_switch(struct qr_space *space);

enum qr_map_flag {
    QR_MAP_FIXED = 1 << 0,           /**< exactly there; what stands there is replaced */
    QR_MAP_FIXED_NOREPLACE = 1 << 1, /**< exactly there, or QR_ERR_EXISTS */
    QR_MAP_POPULATE = 1 << 2,
    QR_MAP_LOW = 1 << 3,       /**< below 2 GiB (MAP_32BIT) */
    QR_MAP_BOTTOM_UP = 1 << 4, /**< lowest fitting address instead of highest */
};

struct qr_map_request {
    qr_va hint;   /**< or the address, with FIXED; 0: anywhere */
    size_t bytes; /**< rounded up to pages; not 0 */
    unsigned prot;
    unsigned max_prot;        /**< 0: all */
    unsigned flags;           /**< enum qr_map_flag */
    unsigned region_flags;    /**< enum qr_region_flag */
    struct qr_object *object; /**< NULL: anonymous (shared anonymous: made by the call) */
    uint64_t object_offset;   /**< bytes, page multiple */
    void *file;
    size_t align_bytes; /**< 0: a page */
    uint8_t pkey;
};

/**
 * Reserve a range and say what backs it.  Writes no table entry (unless POPULATE).
 *
 * Locks: space lock for writing.  Context: thread, may sleep.
 * @return QR_OK; QR_ERR_RANGE (empty, misaligned, outside); QR_ERR_EXISTS (NOREPLACE);
 *         QR_ERR_NO_MEMORY (no room, no descriptor); QR_ERR_LIMIT; QR_ERR_INVALID;
 *         QR_ERR_AGAIN (locked limit, as Linux's EAGAIN)
 */
QR_MUST_USE enum qr_status qr_space_map(struct qr_space *space,
                                        const struct qr_map_request *request, qr_va *out_va);
/**
 * Holes are fine.  A descriptor is needed only to cut a hole into one region, and a table to
 * cut a huge page: all other unmapping works with no memory left.  On return no CPU can use a translation of the range.
 *
 * @return QR_ERR_RANGE misaligned, empty or outside; QR_ERR_NO_MEMORY no descriptor or table for a
 *         split, or it would exceed the region limit (nothing changed)
 */
QR_MUST_USE enum qr_status qr_space_unmap(struct qr_space *space, qr_va start, size_t bytes);
/**
 * An empty range is fine.  @p pkey: negative leaves each region's own.
 *
 * @return QR_ERR_NO_MEMORY at a hole, or at the data limit (what lies before it is changed
 *         already, as Linux does), or with no descriptor for a split (nothing changed);
 *         QR_ERR_ACCESS beyond max_prot; QR_ERR_RANGE misaligned
 */
QR_MUST_USE enum qr_status qr_space_protect(struct qr_space *space, qr_va start, size_t bytes,
                                            unsigned prot, int pkey);

enum qr_remap_flag {
    QR_REMAP_MAY_MOVE = 1 << 0,
    QR_REMAP_FIXED = 1 << 1,
    QR_REMAP_DONT_UNMAP = 1 << 2,
};
struct qr_remap_request {
    qr_va old_start;
    size_t old_bytes; /**< 0 with a shared mapping: map it a second time */
    size_t new_bytes;
    unsigned flags;
    qr_va new_start; /**< FIXED, or a hint with DONT_UNMAP */
};
/**
 * Resize or move, as mremap.  Pages move without being copied.
 *
 * @return QR_ERR_FAULT where the old range is not mapped or not in one region; QR_ERR_NO_MEMORY
 *         without room or memory (with FIXED the target may be unmapped by then, as in Linux);
 *         QR_ERR_LIMIT, QR_ERR_AGAIN (locked limit); QR_ERR_RANGE (a target outside or
 *         overlapping), QR_ERR_INVALID (flags, lengths)
 */
QR_MUST_USE enum qr_status qr_space_remap(struct qr_space *space,
                                          const struct qr_remap_request *request, qr_va *out_va);

/** Set the program break's origin (exec): @p start rounded up to a page, randomised where
 *  the machine randomises.  qr_space_brk(space, 0) tells the outcome. */
void qr_space_set_brk(struct qr_space *space, qr_va start);
/** Move the break; @return the break now, moved or not, as Linux's brk. */
qr_va qr_space_brk(struct qr_space *space, qr_va new_end);

enum qr_advice {
    QR_ADVICE_NORMAL,
    QR_ADVICE_RANDOM,
    QR_ADVICE_SEQUENTIAL,
    QR_ADVICE_WILL_NEED,
    QR_ADVICE_DONT_NEED,
    QR_ADVICE_DONT_NEED_LOCKED, /**< the same, locked pages too: they come back on the next fault */
    QR_ADVICE_FREE,
    QR_ADVICE_REMOVE,
    QR_ADVICE_DONT_FORK,
    QR_ADVICE_DO_FORK,
    QR_ADVICE_WIPE_ON_FORK,
    QR_ADVICE_KEEP_ON_FORK,
    QR_ADVICE_DONT_DUMP,
    QR_ADVICE_DO_DUMP,
    QR_ADVICE_COLD,
    QR_ADVICE_PAGE_OUT,
    QR_ADVICE_POPULATE_READ,
    QR_ADVICE_POPULATE_WRITE,
    QR_ADVICE_HUGE,
    QR_ADVICE_NO_HUGE,
    QR_ADVICE_MERGEABLE,
    QR_ADVICE_UNMERGEABLE,
};
/**
 * As madvise.  Holes are passed over and reported in the end (QR_ERR_NO_MEMORY); any other error
 * ends the call: QR_ERR_INVALID (locked or device pages, FREE or WIPE_ON_FORK on what is not
 * private anonymous memory), QR_ERR_ACCESS and QR_ERR_UNSUPPORTED (REMOVE), QR_ERR_RANGE
 * (misaligned or wrapping), QR_ERR_AGAIN (no memory to split a region, or too many of them).
 * POPULATE_*: as qr_space_populate().
 */
QR_MUST_USE enum qr_status qr_space_advise(struct qr_space *space, qr_va start, size_t bytes,
                                           enum qr_advice advice);

enum qr_lock_mode { QR_UNLOCK, QR_LOCK_NOW, QR_LOCK_ON_FAULT };
/**
 * The pages that hold any byte of the range, as mlock; the space is then populated.
 * @return QR_ERR_NO_MEMORY at a hole or where a page cannot be had (past an object's end, no
 *         rights); QR_ERR_LIMIT; QR_ERR_AGAIN no memory while populating (flags stay set)
 */
QR_MUST_USE enum qr_status qr_space_lock_pages(struct qr_space *space, qr_va start, size_t bytes,
                                               enum qr_lock_mode mode);
/**
 * mlockall and munlockall: existing regions per @p current, new ones per @p future.  QR_UNLOCK for
 * the existing ones leaves them as they are where @p future locks (MCL_FUTURE alone), and unlocks
 * them where it does not (munlockall).
 */
QR_MUST_USE enum qr_status qr_space_lock_all(struct qr_space *space, enum qr_lock_mode current,
                                             enum qr_lock_mode future);
/** One byte a page into @p out: 1 where present.  QR_ERR_NO_MEMORY at a hole. */
QR_MUST_USE enum qr_status qr_space_resident(struct qr_space *space, qr_va start, size_t pages,
                                             uint8_t *out);
/**
 * The first page of @p range that reading would find rather than make: mapped, in swap, or its object's.
 * Any page of a file counts, wherever it is now; where a listener waits for missing pages, what is mapped
 * alone.  The answer may be old at once.  Takes the space's lock for reading.
 *
 * @return false: none; @p out_va is untouched
 */
bool qr_space_next_data(struct qr_space *space, struct qr_va_range range, qr_va *out_va);
/** Has @p region pages that are its own: written to, of a private mapping?  Its space's lock is held. */
bool qr_region_has_copies(const struct qr_region *region);
/** As msync: QR_ERR_BUSY to invalidate locked pages; QR_ERR_NO_MEMORY, in the end, where there
 *  were holes; QR_ERR_IO. */
QR_MUST_USE enum qr_status qr_space_sync(struct qr_space *space, qr_va start, size_t bytes,
                                         bool write, bool invalidate);
/**
 * Fault in [start, start+bytes) as a read or a write would, up to the first page that fails.
 * @return QR_ERR_NO_MEMORY not mapped; QR_ERR_INVALID no such right; QR_ERR_FAULT past an
 *         object's end or unreadable; QR_ERR_IO poisoned; QR_ERR_AGAIN no memory
 */
QR_MUST_USE enum qr_status qr_space_populate(struct qr_space *space, qr_va start, size_t bytes,
                                             bool write);

/**
 * Let all mappings of the range stay as they are, as mseal: what would unmap, replace, move, resize
 * or protect one of them is QR_ERR_SEALED and changes nothing.
 * @return QR_ERR_NO_MEMORY a hole (nothing changed), too many regions; QR_ERR_RANGE misaligned
 */
QR_MUST_USE enum qr_status qr_space_seal(struct qr_space *space, qr_va start, size_t bytes);

/** What qr_space_set_policy() minds. */
enum qr_policy_flag {
    QR_POLICY_HOLES = 1 << 0,  /**< holes are fine */
    QR_POLICY_STRICT = 1 << 1, /**< pages that are elsewhere are an error */
};
/**
 * The policy of a range from now on, as mbind; of the objects of shared memory there, too.
 * Pages that are there stay: qr_space_move_pages().
 * @param policy  NULL: the thread's again; references are taken
 * @return QR_ERR_FAULT a hole; QR_ERR_IO STRICT met a page on none of @p allowed; QR_ERR_RANGE
 *         misaligned: nothing changed; QR_ERR_LIMIT too many regions, no memory: what lies before
 *         is changed
 */
QR_MUST_USE enum qr_status qr_space_set_policy(struct qr_space *space, qr_va start, size_t bytes,
                                               struct qr_mempolicy *policy,
                                               const struct qr_node_set *allowed, unsigned flags);
/**
 * The node from which BIND and PREFERRED_MANY start in a range, as set_mempolicy_home_node.
 * @return QR_ERR_NOT_FOUND no region with a policy; QR_ERR_UNSUPPORTED a policy of another mode
 *         (what lies before is changed); QR_ERR_LIMIT; QR_ERR_RANGE misaligned
 */
QR_MUST_USE enum qr_status qr_space_set_home_node(struct qr_space *space, qr_va start, size_t bytes,
                                                  unsigned node);
/** The policy at @p va with a reference (NULL: the thread's); QR_ERR_FAULT nothing is mapped. */
QR_MUST_USE enum qr_status qr_space_get_policy(struct qr_space *space, qr_va va,
                                               struct qr_mempolicy **out_policy);

/** A copy-on-write copy with the same layout.  On failure nothing remains and nothing changed. */
QR_MUST_USE enum qr_status qr_space_fork(struct qr_space *space, struct qr_space **out_child);

/**
 * Merge pages (quire/merge.h) of this space with those of the same @p domain alone, 0 at first; forks
 * inherit it.  How long a store takes tells who else has the page, so owners who must not know of each
 * other belong into different domains.  Pages that are merged stay so.  Context: any.
 */
void qr_space_set_merge_domain(struct qr_space *space, uint32_t domain);

/** No transparent huge pages here from now on (prctl PR_SET_THP_DISABLE).  Context: any. */
void qr_space_set_huge_disabled(struct qr_space *space, bool disabled);
bool qr_space_huge_disabled(const struct qr_space *space);
/** Would a fault in @p region map huge pages, were there memory?  Its space's lock is held. */
bool qr_region_is_huge_eligible(const struct qr_region *region);

/** The region that holds @p va, or the first one above it; NULL past the last.  Lock held. */
struct qr_region *qr_space_find(const struct qr_space *space, qr_va va);
struct qr_region *qr_region_next(const struct qr_region *region);

/**
 * The frame behind @p va with a reference, faulting it in if need be: for other
 * processes' accesses (process_vm_readv, ptrace, futex keys of shared memory).
 * @p force: as a debugger, past missing rights; a write to private memory then goes to a copy.
 *
 * The page is marked dirty here, and by write-back's grace may be clean again before the caller
 * writes: who writes to a frame of type OBJECT calls qr_object_mark_dirty() afterwards.
 *
 * @return QR_ERR_FAULT not mapped, not allowed, or without a frame (devices); QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_space_get_frame(struct qr_space *space, qr_va va, unsigned access,
                                              bool force, struct qr_frame **out_frame);

/** Regions by what is behind them. */
enum qr_references {
    QR_REFERENCES_ALL,
    QR_REFERENCES_ANON, /**< without an object */
    QR_REFERENCES_FILE, /**< with one */
};

/**
 * Clear the accessed flags of every entry of such regions: what is used from now on is marked
 * again.  Takes the space's lock for reading.  Context: thread.
 */
void qr_space_forget_references(struct qr_space *space, enum qr_references which);

/**
 * From now on every page says by QR_LEAF_SOFT_1 whether it was written: that flag is cleared, and
 * with it the right to write, so that the next store faults.  What is mapped later counts
 * as written, whole, until the next call (QR_REGION_TRACKED is not set there).  Pages of pools and
 * devices are left alone.  Takes the space's lock for writing.  Context: thread.
 */
void qr_space_track_writes(struct qr_space *space);

/** Sizes, exact at rest.  Takes the space's lock for reading. */
void qr_space_counts(struct qr_space *space, struct qr_space_counts *out_counts);
/** Pages resident now, of all kinds, and at most so far.  Any context. */
size_t qr_space_resident_pages(const struct qr_space *space);
size_t qr_space_peak_pages(struct qr_space *space);
/** The peak starts again from what is resident now. */
void qr_space_reset_peak(struct qr_space *space);
/** Pages that are merged with others (quire/merge.h).  Takes the space's lock for reading. */
size_t qr_space_merged_pages(struct qr_space *space);
/** Frames of its page tables.  Any context. */
size_t qr_space_table_pages(const struct qr_space *space);
/** Its structure, counts and entries (src/space/validate.c).  The machine is at rest. */
bool qr_space_validate(struct qr_space *space, char *out_message, size_t bytes);
/** Every structure of every space, and the frames' references against all tables. */
bool qr_vm_validate(struct qr_vm *vm, char *out_message, size_t bytes);

#endif
#endif
