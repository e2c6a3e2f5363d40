/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_OBJECT_H
#define QUIRE_OBJECT_H

/**
 * @file
 * Memory objects: what stands behind mappings that are shared or have a backing.
 *
 * An object is a sequence of pages.  A page is absent, or a frame.  read(), write()
 * and every mapping of a file meet in the same frames: the page cache.  Private
 * anonymous memory has no object; it lives in page tables alone.
 *
 * Kinds differ in one table of operations (the pager): anonymous shared memory and
 * tmpfs files (absent pages are zero, frames stay or go to swap), files (absent pages are read,
 * dirty frames written back), devices (fixed physical addresses, no frames).
 */

#ifndef __cplusplus
#include <quire/frame.h>
#include <quire/group.h>
#include <quire/heap.h>
#include <quire/list.h>
#include <quire/lock.h>
#include <quire/swap.h>

struct qr_object;
struct qr_tlb_gather;
struct qr_objects; /* one machine's objects; src/object/objects.h */

/** Instance: one a machine.  @p heap and @p frames outlive it. */
size_t qr_objects_size(void);
QR_MUST_USE enum qr_status qr_objects_init(struct qr_objects *objects, struct qr_frames *frames,
                                           struct qr_heap *heap);
/** @return objects still alive (a leak) */
size_t qr_objects_fini(struct qr_objects *objects);

/** What a kind of backing does.  Called in thread context; may sleep. */
struct qr_pager {
    const char *name;
    /**
     * Fill @p frame (locked, not up to date, already in the object) with page @p index.
     * NULL: absent pages are zero.  Bytes past the object's size must be zero.
     */
    enum qr_status (*read_page)(void *context, size_t index, struct qr_frame *frame);
    /** Write page @p index from @p frame (locked, WRITEBACK) to the backing; NULL: frames stay. */
    enum qr_status (*write_page)(void *context, size_t index, struct qr_frame *frame);
    /** The last reference is gone; pages are freed already.  May be NULL. */
    void (*destroy)(void *context);
    /**
     * In place of read_page, for backings with requests in flight: start to fill @p count frames
     * (1 to QR_PAGER_BATCH, locked, in the object at @p index and behind it) and return.
     * qr_object_read_done() ends each, exactly once, perhaps before this returns.
     */
    void (*start_read)(void *context, size_t index, struct qr_frame *const *frames, size_t count);
    /** In place of write_page, likewise; qr_object_write_done() ends each. */
    void (*start_write)(void *context, size_t index, struct qr_frame *const *frames, size_t count);
};

/** Most pages that start_read and start_write are handed at once. */
#define QR_PAGER_BATCH 16u

/** Absent pages are zero and frames stay until truncation: shared memory and tmpfs. */
extern const struct qr_pager qr_pager_memory;

/** May so many pages more be promised?  Asked before a page comes; any context, nothing locked. */
typedef bool (*qr_may_promise_fn)(void *context, size_t pages);
void qr_objects_set_promise_check(struct qr_objects *objects, qr_may_promise_fn fn, void *context);

/** The running thread's group with a reference, or NULL: nobody is charged.  Any context. */
typedef struct qr_group *(*qr_thread_group_fn)(void);
/** A page became dirty, by the running thread.  Any context that dirties, with locks held. */
typedef void (*qr_dirtied_fn)(void);
/** At start-up. */
void qr_objects_set_dirtied(struct qr_objects *objects, qr_dirtied_fn fn);

/** A dirty page was cut off by the running thread: it will not be written.  As above. */
void qr_objects_set_cancelled(struct qr_objects *objects, qr_dirtied_fn fn);

/** Pages that objects get from now on are charged to what @p fn says (NULL: nobody). */
void qr_objects_set_thread_group(struct qr_objects *objects, struct qr_groups *groups,
                                 qr_thread_group_fn fn);

/**
 * Who waits for a page that reclaim dropped although it was in use calls this, for the host to count the
 * time: @p wait sleeps until @p frame is locked.  Context: thread; page tables and the object are not locked.
 */
typedef void (*qr_stall_fn)(void (*wait)(struct qr_frame *frame), struct qr_frame *frame);
void qr_objects_set_stall(struct qr_objects *objects, qr_stall_fn stall);

/** @param bytes  size; accesses beyond it (rounded up to a page) fail */
QR_MUST_USE enum qr_status qr_object_create(struct qr_objects *objects,
                                            const struct qr_pager *pager, void *context,
                                            uint64_t bytes, struct qr_object **out_object);
/**
 * Count @p pages as promised memory until the object ends.  Once, before anybody else has it.  Of a
 * memory object that promises nothing as a whole, each page is promised from when it comes.
 */
void qr_object_promise(struct qr_object *object, size_t pages);
/** An object over device memory: page i is @p base + i pages; no frames, never read or written. */
QR_MUST_USE enum qr_status qr_object_create_device(struct qr_objects *objects, qr_pa base,
                                                   uint64_t bytes, enum qr_cacheability cache,
                                                   struct qr_object **out_object);

void qr_object_get(struct qr_object *object);
/** The last put discards every page (dirty ones too: sync first) and frees the object.  Thread. */
void qr_object_put(struct qr_object *object);

uint64_t qr_object_bytes(const struct qr_object *object);
/** Frames that the object holds now. */
size_t qr_object_resident(const struct qr_object *object);
/** Pages of it that are in swap now. */
size_t qr_object_swapped(const struct qr_object *object);
/** Both: pages that it has. */
size_t qr_object_held(struct qr_object *object);
bool qr_object_is_memory(const struct qr_object *object);
bool qr_object_is_device(const struct qr_object *object);
/** Device objects: where page @p index is, and how it is cached. */
qr_pa qr_object_device_pa(const struct qr_object *object, size_t index);
enum qr_cacheability qr_object_device_cache(const struct qr_object *object);
void *qr_object_context(const struct qr_object *object);
struct qr_frames *qr_object_frames(const struct qr_object *object);

enum qr_object_get_page_mode {
    QR_PAGE_CACHED, /**< only if it is there and up to date; never sleeps */
    QR_PAGE_NOWAIT, /**< as CACHED, or a zero page made now (memory objects); never sleeps */
    QR_PAGE_FILL,   /**< read or make it; may sleep: nothing is locked */
};

/**
 * The frame of page @p index with a reference for the caller.
 *
 * @return QR_OK; QR_ERR_NOT_FOUND (CACHED, not there); QR_ERR_RANGE (past the end);
 *         QR_ERR_AGAIN (NOWAIT, would have to sleep; CACHED, it is in swap); QR_ERR_NO_MEMORY; QR_ERR_LIMIT (may not
 *         be promised); QR_ERR_IO (its memory failed, or it cannot be read)
 */
QR_MUST_USE enum qr_status qr_object_get_page(struct qr_object *object, size_t index,
                                              enum qr_object_get_page_mode mode,
                                              struct qr_frame **out_frame);
/**
 * Make @p frame, which nobody else has, page @p index of a memory object that has none there.  The
 * object takes a reference of its own.  Never sleeps.
 * @return QR_OK; QR_ERR_EXISTS; QR_ERR_RANGE (past the end); QR_ERR_NO_MEMORY; QR_ERR_LIMIT (may
 *         not be promised)
 */
QR_MUST_USE enum qr_status qr_object_add_page(struct qr_object *object, size_t index,
                                              struct qr_frame *frame);
/**
 * The cached, up-to-date pages among [first, first + count) in one step, never sleeping:
 * @p out_frames[i] is page first + i with a reference for the caller, or NULL.
 * @return how many are there (for fault-around)
 */
size_t qr_object_get_cached(struct qr_object *object, size_t first, size_t count,
                            struct qr_frame **out_frames);
/**
 * Is @p frame still page @p index of @p object and inside its size?  Asked under the table
 * lock before a leaf is set: truncation first cuts the size, then unmaps, then frees.
 */
bool qr_object_page_is_current(struct qr_object *object, size_t index,
                               const struct qr_frame *frame);

/**
 * The page was or will be written to.  A fault calls it under the table lock under which it
 * sets the writable leaf: write-back clears the mark first and the leaves' WRITE second.
 */
void qr_object_mark_dirty(struct qr_object *object, struct qr_frame *frame);

/**
 * Copy between the object and a kernel buffer or user memory, page by page.
 * Context: thread; takes page locks; may fault on the user side.
 * @p copy moves up to @p bytes between the page window and its context and returns how many.
 * @param out_done  bytes moved, an exact prefix; set on every return
 * @return QR_OK (done may be short at the end of the object when reading);
 *         QR_ERR_FAULT, QR_ERR_NO_MEMORY, QR_ERR_IO after @p out_done bytes
 */
typedef size_t (*qr_object_copy_fn)(void *context, void *window, size_t bytes);
enum qr_status qr_object_read(struct qr_object *object, uint64_t offset, size_t bytes,
                              qr_object_copy_fn copy, void *context, size_t *out_done);
/** Writing past the end does not grow the object: set the size first. */
enum qr_status qr_object_write(struct qr_object *object, uint64_t offset, size_t bytes,
                               qr_object_copy_fn copy, void *context, size_t *out_done);

/**
 * Change the size.  Shrinking cuts the size, unmaps pages beyond the new end everywhere (copies
 * in private mappings included), frees them, and clears the tail of the last page.  Growing clears
 * what was stored behind the old end through a mapping, unless the object is memory: as tmpfs does.
 */
void qr_object_set_bytes(struct qr_object *object, uint64_t bytes);
/** Drop pages [first, last), mapped or not: a hole (memory objects) or an invalidation (files). */
void qr_object_punch(struct qr_object *object, size_t first, size_t last);
/** Take pages [first, last) out of every mapping and drop those that are clean: the backing has
 *  changed behind them.  Faults bring them back. */
void qr_object_invalidate(struct qr_object *object, size_t first, size_t last);
/** Write dirty pages of [first, last) back and wait for them. */
QR_MUST_USE enum qr_status qr_object_sync(struct qr_object *object, size_t first, size_t last);
/** The same without waiting: at most @p pages of them.  @return pages whose write was started */
size_t qr_object_start_sync(struct qr_object *object, size_t first, size_t last, size_t pages);
/** Wait for what is being written of [first, last) now. */
void qr_object_wait_written(struct qr_object *object, size_t first, size_t last);
/** The pager's half: page @p frame of @p object was read, or could not be.  Any context. */
void qr_object_read_done(struct qr_object *object, struct qr_frame *frame, enum qr_status status);
/** The same for writing.  A page that could not be written is dirty again.  Any context. */
void qr_object_write_done(struct qr_object *object, struct qr_frame *frame, enum qr_status status);
/**
 * How many writes of its pages have failed so far.  Who keeps the number of its last look learns
 * whether one failed since: each descriptor of a file reports each failure once.
 */
uint32_t qr_object_write_errors(const struct qr_object *object);
/** Pages that are marked dirty now. */
size_t qr_object_dirty(const struct qr_object *object);
/** Start to read absent pages of [first, first + count), as far as memory is to spare. */
void qr_object_read_ahead(struct qr_object *object, size_t first, size_t count);
/** Drop clean, unmapped pages of [first, last).  @return frames freed (POSIX_FADV_DONTNEED) */
size_t qr_object_drop_clean_range(struct qr_object *object, size_t first, size_t last);
/** Drop clean, unmapped pages.  @return frames freed (drop_caches, reclaim) */
size_t qr_object_drop_clean(struct qr_object *object);
enum qr_shrink_which {
    QR_SHRINK_UNMAPPED, /**< pages that nobody maps */
    QR_SHRINK_ALL,      /**< mapped ones too, last: faults bring them back */
    QR_SHRINK_BEHIND,   /**< the same, in the background: nobody waits for it */
};
/**
 * Free about @p pages clean pages of objects with a backing; @p group: only pages
 * charged to it or below, NULL: any.  Waits for nothing.  Thread context, as a shrinker
 * (<quire/reclaim.h>).  ALL spares groups that are below their `min`, and those below `low` while there
 * are others.  @return frames freed
 */
size_t qr_objects_shrink(struct qr_objects *objects, size_t pages, enum qr_shrink_which which,
                         struct qr_group *group);
/**
 * Throw away those of pages [@p first, @p last) that are clean and that just one entry maps, or, of shared memory,
 * send them to swap: MADV_PAGEOUT.  Waits for no lock; the caller's space may be locked for reading, and no cursor is open.
 */
void qr_object_page_out(struct qr_object *object, size_t first, size_t last);
/**
 * The memory of page @p index, which is @p frame, is not to be used any more.  A page of a file is
 * read again by whoever wants it next; one of shared memory cannot be had (QR_ERR_IO) until it is punched
 * or cut off.  @p out_dirty: what was to be written to the file is lost, and qr_object_write_errors() says
 * so.  The caller's reference keeps the frame from being used again, for ever.  Thread, nothing locked.
 * @return QR_OK; QR_ERR_BUSY: it is no longer that page, and the reference is still the caller's
 */
QR_MUST_USE enum qr_status qr_object_lose_page(struct qr_object *object, size_t index,
                                               struct qr_frame *frame, bool *out_dirty);

/* ---- Shared memory in swap ------------------------------------------------- */

/** Where pages of memory objects go when memory is short; at start-up.  NULL, the default: nowhere. */
void qr_objects_set_swap(struct qr_objects *objects, struct qr_swap *swap);
/** All pages of @p object stay in memory from now on (SHM_LOCK), or may leave it again. */
void qr_object_set_kept(struct qr_object *object, bool kept);
/**
 * Send about @p pages pages of shared memory to swap that nobody used since the last call; others are looked at next
 * time.  @p group as in qr_objects_shrink(); @p heeded: LOW or MIN, which of these protect.  *@p out_full: no slot
 * is left.  Context: as qr_objects_shrink().  @return frames freed
 */
size_t qr_objects_swap_out(struct qr_objects *objects, size_t pages, struct qr_group *group,
                           enum qr_group_limit heeded, bool *out_full);
/**
 * Bring all pages back from area @p area; those that cannot be read are lost (QR_ERR_IO for who wants them).
 * @p stop, asked now and then, says whether to give up; NULL: never.  Context: thread, nothing locked.
 * @return QR_OK; QR_ERR_NO_MEMORY, QR_ERR_INTERRUPTED: some are left
 */
QR_MUST_USE enum qr_status qr_objects_swap_in(struct qr_objects *objects, unsigned area,
                                              bool (*stop)(void));
/** The same for pages [@p first, @p last) of @p object, wherever they are.  @return also QR_ERR_IO */
QR_MUST_USE enum qr_status qr_object_bring_back(struct qr_object *object, size_t first,
                                                size_t last);
/** Have [@p first, @p last) read into the swap cache, as far as there is memory to spare.  Context: the same. */
void qr_object_swap_ahead(struct qr_object *object, size_t first, size_t last);
/** How many of [@p first, @p last) are in swap. */
size_t qr_object_count_swapped(struct qr_object *object, size_t first, size_t last);

enum qr_object_where {
    QR_PAGE_ABSENT,
    QR_PAGE_IN_MEMORY, /**< the swap cache is memory */
    QR_PAGE_IN_SWAP,
};
/** Where page @p index of @p object, which has small pages, is just now.  Any context. */
enum qr_object_where qr_object_where(struct qr_object *object, size_t index);

/** As qr_swap_recount(), for all marks of all objects.  @return false: a slot has not counted one */
bool qr_objects_recount(struct qr_objects *objects, int delta);

/* ---- Figures ---------------------------------------------------------------- */

struct qr_object_cached {
    size_t pages, dirty, writeback;
};
/** Counts the pages among [first, last) that are in memory (cachestat). */
void qr_object_count_cached(struct qr_object *object, size_t first, size_t last,
                            struct qr_object_cached *out_cached);
struct qr_object_evicted {
    size_t pages, recently;
};
/** Counts those that reclaim has dropped, and of them those that would be active if they came back now. */
void qr_object_count_evicted(struct qr_object *object, size_t first, size_t last,
                             struct qr_object_evicted *out_evicted);
/** First page at or after @p index that is present; false where none (SEEK_DATA). */
bool qr_object_next_present(struct qr_object *object, size_t index, size_t *out_index);

/**
 * Give page @p index, which is @p frame, the frame @p target instead: contents, marks and
 * place move, every mapping is taken out and comes back by faults.  Thread context; waits for no
 * page.  The caller's reference to @p target becomes the object's; that to @p frame, which was
 * the object's, becomes the caller's.
 * @return QR_OK; QR_ERR_BUSY somebody uses the page, or it is not that page: nothing changed
 */
QR_MUST_USE enum qr_status qr_object_move_page(struct qr_object *object, size_t index,
                                               struct qr_frame *frame, struct qr_frame *target);
/** The live object at that address, with a reference, or NULL: for what a frame calls its owner. */
struct qr_object *qr_objects_find(struct qr_objects *objects, const void *address);

/* ---- Huge pages of shared memory ------------------------------------------ */

/** Which memory objects are given huge pages by faults and in the background. */
enum qr_shared_huge {
    QR_SHARED_HUGE_DEFAULT, /**< of an object: as qr_objects_set_huge() says */
    QR_SHARED_HUGE_NEVER,   /**< none: the default for all */
    QR_SHARED_HUGE_ADVISED, /**< where QR_ADVICE_HUGE was given for the mapping */
    QR_SHARED_HUGE_ALWAYS,
    QR_SHARED_HUGE_DENY,  /**< for all: none, whatever an object or a caller says */
    QR_SHARED_HUGE_FORCE, /**< for all: always, whatever an object says */
};

/** For all that have no word of their own; what is there stays as it is.  Context: any. */
void qr_objects_set_huge(struct qr_objects *objects, enum qr_shared_huge mode);
enum qr_shared_huge qr_objects_huge(const struct qr_objects *objects);
/** For @p object: DEFAULT to ALWAYS.  Context: any. */
void qr_object_set_huge(struct qr_object *object, enum qr_shared_huge mode);
/** May it have huge pages when somebody asks? */
bool qr_object_may_be_huge(const struct qr_object *object);
/** Is it to have them by itself, in a mapping that was advised or not? */
bool qr_object_wants_huge(const struct qr_object *object, bool advised);
/**
 * Make pages [@p first, @p first + @p pages) one huge page: they move into frames side by side, and
 * absent ones come, at most @p max_none.  Mappings lose them and get them back by faults.  Thread
 * context, nothing locked; waits for what is in swap, and for no other page.
 * @return QR_OK; QR_ERR_EXISTS it is one; QR_ERR_RANGE past the end, or too few pages are there;
 *         QR_ERR_NO_MEMORY; QR_ERR_BUSY somebody uses a page: some may have moved
 */
QR_MUST_USE enum qr_status qr_object_collapse(struct qr_object *object, size_t first, size_t pages,
                                              size_t max_none, unsigned alloc_flags);

/* ---- Mappings: how an object finds who maps it --------------------------- */

/**
 * One mapping of a run of the object's pages.  Embedded in a region; linked
 * into the object while the region exists.  Guarded by the object's mapping lock.
 */
struct qr_mapping {
    struct qr_list link;
    size_t first_page; /**< of the object */
    size_t page_count;
    bool shared;    /**< writes go to the object */
    bool may_write; /**< the region's max_prot has WRITE */
    bool
        locked; /**< what it maps stays in memory (mlock); of a linked one, qr_object_lock_mapping() */
};

/** What an object asks of the space layer. */
struct qr_mapping_ops {
    /**
     * Unmap pages [first, last) of the object from @p mapping; @p gather owes the flush.
     * @p private_copies: copies in a private mapping go too (truncation).
     * Called with the object's mapping lock held (sleeping); must not take a space lock.
     */
    void (*unmap)(struct qr_mapping *mapping, size_t first, size_t last, bool private_copies,
                  struct qr_tlb_gather *gather);
    /** Make pages read-only (before write-back). */
    void (*clean)(struct qr_mapping *mapping, size_t first, size_t last,
                  struct qr_tlb_gather *gather);
    /** Which of pages [first, last), at most 32, were used through it since the last call: bit i for first + i. */
    uint32_t (*age)(struct qr_mapping *mapping, size_t first, size_t last,
                    struct qr_tlb_gather *gather);
};
void qr_objects_set_mapping_ops(struct qr_objects *objects, const struct qr_mapping_ops *ops);

void qr_object_add_mapping(struct qr_object *object, struct qr_mapping *mapping);
void qr_object_remove_mapping(struct qr_object *object, struct qr_mapping *mapping);
/** Change a linked mapping's extent (split, trim) under the mapping lock. */
void qr_object_resize_mapping(struct qr_object *object, struct qr_mapping *mapping,
                              size_t first_page, size_t page_count);
/** Set `locked` of a linked mapping: whoever takes pages out sees it, or is done before this returns. */
void qr_object_lock_mapping(struct qr_object *object, struct qr_mapping *mapping, bool locked);
/** The mapping lock: while held for moving page-table entries, no unmap runs (mremap). */
void qr_object_lock_mappings(struct qr_object *object);
void qr_object_unlock_mappings(struct qr_object *object);
/** Call @p fn for every mapping that shows @p page, under the mapping lock. */
typedef void (*qr_mapping_fn)(void *context, struct qr_mapping *mapping, size_t page);
void qr_object_each_mapping(struct qr_object *object, size_t page, qr_mapping_fn fn, void *context);
/** Writable shared mappings that exist now (memfd seals). */
size_t qr_object_writable_mappings(struct qr_object *object);
/** Does anybody refer to a page of it beside its mappings: a pipe, a transfer?  Takes the object's lock. */
bool qr_object_is_held(struct qr_object *object);

bool qr_objects_validate(struct qr_objects *objects, char *out_message, size_t bytes);

#endif
#endif
