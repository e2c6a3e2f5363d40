/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_SWAP_H
#define QUIRE_SWAP_H

/**
 * @file
 * Swap: areas of pages outside memory, and the swap cache, which knows of each such page whether it
 * is in memory too.  Page tables name a page there by its slot; src/space/swap.c puts those names into
 * tables and takes them out.  docs/swap.md.
 */

#ifndef __cplusplus
#include <quire/group.h>

struct qr_swap; /* one machine's swap; src/swap/swap.h */

/** Areas that can be in use at a time. */
#define QR_SWAP_AREAS_LOG 5u
#define QR_SWAP_AREAS     (1u << QR_SWAP_AREAS_LOG)
/** Pages written, or looked for, at a time. */
#define QR_SWAP_BATCH 32u

/** Bits of a mark of swap that are not the slot's. */
#define QR_SWAP_MARK_FLAGS 2u

/** A page of an area: its number there, and below it QR_SWAP_AREAS_LOG bits that say which area. */
typedef struct {
    uintptr_t v;
} qr_slot;

static inline qr_slot
qr_slot_of(uintptr_t value)
{
    return (qr_slot){value};
}

static inline unsigned
qr_slot_area(qr_slot slot)
{
    return (unsigned)(slot.v & (QR_SWAP_AREAS - 1));
}

static inline size_t
qr_slot_page(qr_slot slot)
{
    return slot.v >> QR_SWAP_AREAS_LOG;
}

/**
 * What keeps the pages of an area: @p count of them from @p page on.  Context: thread, no lock of the library
 * but spaces' held; may sleep, must not wait for memory.  What a write that failed leaves there does not matter.
 * @return QR_OK; QR_ERR_IO
 */
struct qr_swap_ops {
    enum qr_status (*read)(void *context, size_t page, struct qr_frame *const *frames,
                           size_t count);
    enum qr_status (*write)(void *context, size_t page, struct qr_frame *const *frames,
                            size_t count);
};

struct qr_swap_config {
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_groups *groups; /**< NULL: none */
    unsigned slot_bits;       /**< of a slot that page tables can keep: their mark_bits less
                                   QR_SWAP_MARK_FLAGS; 0: all */
};

size_t qr_swap_size(void);
/** @p swap is zeroed memory of qr_swap_size() bytes. */
void qr_swap_init(struct qr_swap *swap, const struct qr_swap_config *config);
/** @return areas that are still in use (a leak) */
size_t qr_swap_fini(struct qr_swap *swap);

/* ---- Areas --------------------------------------------------------------- */

struct qr_swap_area_config {
    size_t pages;      /**< page 0 among them, which is never used: it is the header's */
    const size_t *bad; /**< pages never to be used; those beyond the end do not matter */
    size_t bad_count;
    int priority; /**< higher ones are filled first; among equals in turn */
    const struct qr_swap_ops *ops;
    void *context; /**< for them */
};

/**
 * Use an area from now on.  Context: thread; one caller at a time.
 * @return QR_OK; QR_ERR_LIMIT: QR_SWAP_AREAS are in use; QR_ERR_NO_MEMORY; QR_ERR_INVALID: not a
 *         page of it can be used
 */
QR_MUST_USE enum qr_status qr_swap_add(struct qr_swap *swap,
                                       const struct qr_swap_area_config *config,
                                       unsigned *out_area);
/** Put no page more there, or (@p closed false) go on.  Context: any. */
void qr_swap_set_closed(struct qr_swap *swap, unsigned number, bool closed);
/**
 * Use a closed area no more.  Context: thread.
 * @return QR_OK; QR_ERR_BUSY: some page is still there
 */
QR_MUST_USE enum qr_status qr_swap_remove(struct qr_swap *swap, unsigned number);
/** Let go of the pages of area @p number that no entry names any more, waiting for those on their way.  Context: thread. */
void qr_swap_settle(struct qr_swap *swap, unsigned number);

/** Is there any area?  Any context; cheap. */
bool qr_swap_is_active(const struct qr_swap *swap);

struct qr_swap_area_stats {
    bool in_use, closed;
    int priority;
    size_t pages; /**< that can be used */
    size_t used;
    size_t cached; /**< of these, in memory */
};
void qr_swap_area_stats(struct qr_swap *swap, unsigned number,
                        struct qr_swap_area_stats *out_stats);

struct qr_swap_stats {
    size_t pages, used, cached;
};
/** Sums over all areas; closed ones count as far as they are used. */
void qr_swap_stats(struct qr_swap *swap, struct qr_swap_stats *out_stats);

/**
 * Which page of spaces a frame of the cache is mapped at, where it is: a hint, kept in its owner while its index is
 * its slot.
 */
static inline void
qr_swap_set_place(struct qr_frame *frame, uintptr_t page)
{
    atomic_store_explicit(&frame->owner, (void *)page, memory_order_relaxed);
}

static inline uintptr_t
qr_swap_place(const struct qr_frame *frame)
{
    return (uintptr_t)atomic_load_explicit(&frame->owner, memory_order_relaxed);
}

/* ---- Pages on their way out ------------------------------------------------ */

/**
 * Give @p frame a slot, or another use of the one that it has: an entry that maps it is about to name the slot
 * instead.  From now on the swap cache has a reference of its own, so nobody takes the frame over.
 * The entry's table is locked, and nobody writes the frame once its entries have been flushed.  Any context.
 * @return QR_OK; QR_ERR_NO_MEMORY: no slot; QR_ERR_LIMIT: its group may have no more; QR_ERR_BUSY: try later
 */
QR_MUST_USE enum qr_status qr_swap_assign(struct qr_swap *swap, struct qr_frame *frame,
                                          qr_slot *out_slot);
/**
 * The same for a page of an object, to whose index alone it belongs, and which the caller keeps from everybody else: what
 * was the index's reference is the cache's from now on, and the one use of the slot the object's.
 */
QR_MUST_USE enum qr_status qr_swap_assign_object(struct qr_swap *swap, struct qr_frame *frame,
                                                 qr_slot *out_slot);
/**
 * Write what of these pages nobody but the cache has, and free the frames.  What cannot be written stays
 * in memory.  Context: thread; spaces' locks may be held.  @return frames freed
 */
size_t qr_swap_write(struct qr_swap *swap, const qr_slot *slots, size_t count);
/**
 * The same for pages that are found in the cache: those that nobody maps any more.  @p group: only
 * what is charged to it or below; NULL: any.
 */
size_t qr_swap_trim(struct qr_swap *swap, size_t pages, const struct qr_group *group);

/* ---- Uses of a slot, and the way back -------------------------------------- */

/** An entry that names slot @p number was copied. */
void qr_swap_get(struct qr_swap *swap, qr_slot number);
/** One is gone.  Any context. */
void qr_swap_put(struct qr_swap *swap, qr_slot number);
/**
 * The page of slot @p number is going to be read into @p frame: charge that to the group whose slot it is, as it was
 * charged before it went, whoever needs it now.  Any context.
 * @return true: it is charged, or was charged to nobody; false: that group is gone or has no room, so it is for the
 *         caller to charge who needs the page
 */
QR_MUST_USE bool qr_swap_charge_owner(struct qr_swap *swap, qr_slot number, struct qr_frame *frame);
/** The frame of slot @p number with a reference, if it is in memory and up to date.  Any context. */
struct qr_frame *qr_swap_lookup(struct qr_swap *swap, qr_slot number);
/**
 * The same, reading it where need be, however many ask for it at once; *io_fresh, a frame of the caller's of
 * type KERNEL (or NULL), becomes NULL where it was used.  Context: thread, nothing locked.
 * @return QR_OK; QR_ERR_AGAIN it is to be read, and there is no fresh frame; QR_ERR_NOT_FOUND nobody uses the slot
 *         any more; QR_ERR_IO
 */
QR_MUST_USE enum qr_status qr_swap_fetch(struct qr_swap *swap, qr_slot number,
                                         struct qr_frame **io_fresh, struct qr_frame **out_frame);
/**
 * @p frame is mapped by one read-only entry, whose table is locked: let go of its slot, if that entry is
 * all that it is there for.  @return whether the frame is private memory like any other now, with one reference
 */
QR_MUST_USE bool qr_swap_take(struct qr_swap *swap, struct qr_frame *frame);
/**
 * @p frame, of which the caller has a reference, is to be the object's again whose use is the only one of slot
 * @p number: it leaves the cache, whose reference is the object's, and the slot is free.  Any context.
 * @return QR_OK; QR_ERR_BUSY: it is being written, see qr_swap_wait(); QR_ERR_AGAIN: the cache does not have it there
 */
QR_MUST_USE enum qr_status qr_swap_take_object(struct qr_swap *swap, qr_slot number,
                                               struct qr_frame *frame);
/** Wait until slot @p number is not being read or written.  Context: thread, nothing locked. */
void qr_swap_wait(struct qr_swap *swap, qr_slot number);
/** Get a reference to @p frame, whatever it is by now, if the cache has it and no I/O is under way.  Any context. */
QR_MUST_USE bool qr_swap_get_frame(struct qr_swap *swap, struct qr_frame *frame);
/**
 * Have @p target, which holds the same, in the cache in place of @p frame, if nobody has that but entries and the
 * caller, who has a reference to it: private memory from now on.  The cache takes a reference to @p target over.
 */
QR_MUST_USE bool qr_swap_replace(struct qr_swap *swap, struct qr_frame *frame,
                                 struct qr_frame *target);
/** No entry maps @p frame any more; the caller still has a reference.  Any context. */
void qr_swap_unmapped(struct qr_swap *swap, struct qr_frame *frame);

/* ---- Validation ------------------------------------------------------------- */

/**
 * Change how many entries name slot @p number without any of what follows from it: a validator that counts them
 * puts it back.  @return how many there were
 */
uint32_t qr_swap_recount(struct qr_swap *swap, qr_slot number, int delta);
/** Entries that name any slot. */
size_t qr_swap_users(struct qr_swap *swap);
/** The machine is at rest.  @return true; else the first violation is in @p out_message */
bool qr_swap_validate(struct qr_swap *swap, char *out_message, size_t bytes);

#endif
#endif
