/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_SHRINK_H
#define QUIRE_SHRINK_H

/**
 * @file
 * Giving memory back: who has pages that can go, and asking them for some.
 */

#ifndef __cplusplus
#include <quire/group.h>
#include <quire/list.h>
#include <quire/swap.h>

struct qr_space;
struct qr_vm;

struct qr_reclaim_request {
    size_t pages;           /**< that are wanted; SIZE_MAX: all that can be had */
    struct qr_group *group; /**< only pages charged to it or below; NULL: any */
    bool background;        /**< nobody waits for them */
    bool first_round; /**< others can still be asked: take what goes at once, wait for nothing;
                                 qr_reclaim() sets it */
};

/** What a shrinker's pages are. */
enum qr_shrinker_kind {
    QR_SHRINKER_OTHER, /**< asked first, for everything */
    QR_SHRINKER_ANON,  /**< memory of programs */
    QR_SHRINKER_FILE,  /**< can be had again from a disk */
};

/** Somebody who has pages that can go: caches, what programs have freed lazily. */
struct qr_shrinker {
    struct qr_list link;
    const char *name;
    enum qr_shrinker_kind kind;
    /**
     * Free about as many pages as are wanted, from the coldest on.
     * Context: thread, no lock of the library held but a space's for reading; must not wait for
     * memory.  By several threads at once.
     * @return pages that are free now
     */
    size_t (*shrink)(void *context, const struct qr_reclaim_request *request);
    void *context;
};
/** At start-up; earlier ones are asked first. */
void qr_reclaim_add(struct qr_vm *vm, struct qr_shrinker *shrinker);
#define QR_SWAPPINESS_MAX 200u
/**
 * How anonymous memory weighs against pages of files, 0 to QR_SWAPPINESS_MAX (Linux's vm.swappiness):
 * of what is wanted, as many 200ths are asked of the one kind first, the others of the other.  Default: 60.
 * Without swap the anonymous memory that can go is what programs freed lazily.  Context: any.
 */
void qr_vm_set_swappiness(struct qr_vm *vm, unsigned swappiness);
unsigned qr_vm_swappiness(const struct qr_vm *vm);
/** Ask the shrinkers until @p request is met.  @return pages that are free now.  Context: thread. */
size_t qr_reclaim(struct qr_vm *vm, const struct qr_reclaim_request *request);

/**
 * Throw away pages that programs of @p space freed lazily (QR_ADVICE_FREE) and have not written to since,
 * up to request->pages.  Does not wait for the space's lock.  Context: thread, or with another
 * space's lock held.  @return how many
 */
size_t qr_space_discard(struct qr_space *space, const struct qr_reclaim_request *request);
/** Make that a shrinker, for all spaces; once, at start-up. */
void qr_lazy_attach(struct qr_vm *vm);

/* ---- Swap ------------------------------------------------------------------ */

/** What a look at a space's pages found. */
struct qr_swap_scan {
    const struct qr_reclaim_request *request; /**< set by the caller */
    size_t looked;                            /**< entries */
    bool ended;                               /**< the end of the space was reached */
    bool full;                                /**< there are no slots */
    size_t count;
    qr_slot slots[QR_SWAP_BATCH]; /**< now in the swap cache: for qr_swap_write() */
};
/**
 * Look at the next pages of @p space: those that were not used since the last look go to the swap cache, up to
 * QR_SWAP_BATCH of them.  Does not wait for the space's lock.  Context: thread, or with another space's lock held.
 */
void qr_space_swap_scan(struct qr_space *space, struct qr_swap_scan *scan);
/** Map all pages of @p space again that are in @p area; what cannot be read becomes poison.  Context: thread.
 *  @return QR_ERR_NO_MEMORY: some are left */
QR_MUST_USE enum qr_status qr_space_swap_in(struct qr_space *space, unsigned area);

/** Make swapping out a shrinker, for all spaces; once, at start-up, after qr_lazy_attach(). */
void qr_swap_attach(struct qr_vm *vm);
/**
 * Bring everything back from @p area and use it no more.  Context: thread, no lock held; one caller at a time.
 * @p stop, asked now and then, says whether to give up; NULL: never.
 * @return QR_OK; QR_ERR_NO_MEMORY, QR_ERR_INTERRUPTED: it is in use as before
 */
QR_MUST_USE enum qr_status qr_swap_off(struct qr_vm *vm, unsigned area, bool (*stop)(void));

#endif
#endif
