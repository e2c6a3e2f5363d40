/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_LISTENER_H
#define QUIRE_LISTENER_H

/**
 * @file
 * Faults that a program handles: a region may have a listener, which is told of faults on
 * chosen kinds of entries and answers by filling the page.  (Linux's userfaultfd.)
 *
 * The faulting thread sleeps without any lock until it is woken, then starts its fault again: a
 * wake-up promises nothing.  What the library offers is the mechanism; the host supplies a way
 * to read waiting faults and to answer them (a file descriptor), on top of the calls below.
 */

#ifndef __cplusplus
#include <quire/hugetlb.h>
#include <quire/space.h>

/** What a region's listener is told of: bits. */
enum qr_watch {
    QR_WATCH_MISSING = 1 << 0, /**< there is no page: anonymous memory, a hole of a memory object */
    QR_WATCH_WRITE = 1 << 1,   /**< a write to a page that qr_space_write_protect() protected */
    QR_WATCH_MINOR = 1 << 2,   /**< the object has the page, but it is not mapped here */
};

struct qr_listener;

/** A fault that waits; on the faulting thread's stack. */
struct qr_waiter {
    struct qr_list link;
    qr_va va;                /**< as faulted, not rounded */
    qr_va page;              /**< where its page starts, which may be a huge one */
    unsigned access;         /**< enum qr_access bits */
    enum qr_watch kind;      /**< one bit */
    bool user_mode;          /**< user code faulted, not the kernel on its behalf */
    uint64_t tag;            /**< the host's: set by `notify` (a thread's number) */
    _Atomic uint32_t asleep; /**< 1 until it is woken */
};

struct qr_listener_ops {
    /** @p waiter is new, and its thread is about to sleep.  In that thread, interrupts off,
     *  table locks and the listener's lock held: make the reader look, no more. */
    void (*notify)(struct qr_listener *listener, struct qr_waiter *waiter);
    /**
     * Sleep while waiter->asleep is set; thread context, no lock held.  @return false where the
     * thread has to leave before it was woken (a signal): then the fault ends INTERRUPTED.
     * NULL: qr_port_wait().
     */
    bool (*wait)(struct qr_listener *listener, struct qr_waiter *waiter);
    /** Some waiters' `asleep` became 0; the listener's lock is held.  NULL: nothing to add. */
    void (*woken)(struct qr_listener *listener);
    /** The last reference is gone; a space's lock may be held. */
    void (*destroy)(struct qr_listener *listener);
};

enum qr_listener_option {
    QR_LISTENER_NO_WAIT = 1 << 0,   /**< a fault that would wait fails (BEYOND_END) */
    QR_LISTENER_USER_ONLY = 1 << 1, /**< so does one that the kernel made for a program */
    QR_LISTENER_MOVES = 1 << 2,     /**< a region that mremap moves keeps it */
};

/** Embedded in the host's own.  References: its owner's, one a region, one a waiter. */
struct qr_listener {
    const struct qr_listener_ops *ops; /* fixed */
    _Atomic uint32_t refs;
    _Atomic unsigned options;     /* enum qr_listener_option */
    _Atomic bool closed;          /* nobody answers any more: regions are as without it */
    struct qr_spin lock;          /* Q */
    struct qr_list fresh;         /* Q: waiters that nobody has taken; in order of arrival */
    struct qr_list taken;         /* Q: the others */
    _Atomic uint32_t fresh_count; /* Q to write */
};

/** With one reference. */
void qr_listener_init(struct qr_listener *listener, const struct qr_listener_ops *ops,
                      unsigned options);
void qr_listener_get(struct qr_listener *listener);
void qr_listener_put(struct qr_listener *listener);
/** Wake everybody; from now on nobody waits here. */
void qr_listener_close(struct qr_listener *listener);

/** What a reader learns of a waiter. */
struct qr_watch_event {
    qr_va va, page;
    unsigned access;
    enum qr_watch kind;
    uint64_t tag;
};
/** The oldest fault that nobody has taken. @return false where there is none.  Any context. */
bool qr_listener_take(struct qr_listener *listener, struct qr_watch_event *out_event);
static inline bool
qr_listener_has_events(const struct qr_listener *listener)
{
    return atomic_load_explicit(&listener->fresh_count, memory_order_acquire) != 0;
}
/** Threads that wait here, whether their fault was taken or not.  Any context. */
size_t qr_listener_count(struct qr_listener *listener);
/** Wake who waits for an address in [start, end), or for a page that starts there, taken or not.
 *  Any context. */
void qr_listener_wake(struct qr_listener *listener, qr_va start, qr_va end);

/**
 * Have faults in [start, start+bytes) told to @p listener: those of @p kinds, and no others from
 * now on.  Regions must be private anonymous memory, memory objects or huge pages of a pool, whose
 * borders the range then keeps to; holes are passed over.  MINOR needs an object.
 * Locks: space lock for writing.
 * @return QR_OK; QR_ERR_RANGE misaligned or outside; QR_ERR_NOT_FOUND no region at or above start;
 *         QR_ERR_INVALID none in the range, one of another kind, or a huge page in part;
 *         QR_ERR_ACCESS one that may never be written; QR_ERR_BUSY another listener's; QR_ERR_NO_MEMORY.  Nothing changed
 *         then, but for the descriptor limit in the midst of the range
 */
QR_MUST_USE enum qr_status qr_space_watch(struct qr_space *space, qr_va start, size_t bytes,
                                          struct qr_listener *listener, unsigned kinds);
/**
 * Undo it for @p listener; waiters in the range are woken.  Statuses as above; QR_ERR_INVALID, too,
 * where a region in the range is another's.
 */
QR_MUST_USE enum qr_status qr_space_unwatch(struct qr_space *space, qr_va start, size_t bytes,
                                            struct qr_listener *listener);
/** Undo it for every region of @p listener, which is closed.  Cannot fail. */
void qr_space_unwatch_all(struct qr_space *space, struct qr_listener *listener);
/**
 * Protect the pages of [start, start+bytes) from writes, or end that.  All regions there are
 * watched for WRITE.  Only pages that are there are protected, and in memory objects and among huge
 * pages of a pool absent ones.  Wakes nobody.
 * @return QR_OK; QR_ERR_RANGE; QR_ERR_NOT_FOUND; QR_ERR_INVALID a huge page in part;
 *         QR_ERR_NO_MEMORY (what lies before is done)
 */
QR_MUST_USE enum qr_status qr_space_write_protect(struct qr_space *space, qr_va start, size_t bytes,
                                                  bool protect);

enum qr_fill_flag {
    QR_FILL_WRITE_PROTECT = 1 << 0, /**< as by qr_space_write_protect(), at once */
};
/**
 * Make @p frame the page at @p va of a watched region: private memory, or the object's page.  The
 * caller's reference goes with it on success.  Wakes nobody.
 * Locks: space lock for reading.  Context: thread, may sleep.
 * @return QR_OK; QR_ERR_NOT_FOUND no watched region; QR_ERR_INVALID protected, but not watched for
 *         WRITE, or a region of huge pages; QR_ERR_EXISTS a page is there; QR_ERR_RANGE past the object's end; QR_ERR_NO_MEMORY
 */
QR_MUST_USE enum qr_status qr_space_fill(struct qr_space *space, qr_va va, struct qr_frame *frame,
                                         unsigned flags);
/**
 * Would pages of the whole range be taken: does it lie in one watched region?  Takes the space's lock
 * for reading.
 * @param out_page_bytes  size of the region's pages
 * @return QR_OK; QR_ERR_NOT_FOUND; QR_ERR_INVALID protected, but not watched for WRITE, or a huge
 *         page in part
 */
QR_MUST_USE enum qr_status qr_space_fill_check(struct qr_space *space, qr_va start, size_t bytes,
                                               unsigned flags, size_t *out_page_bytes);
/**
 * Fill the huge page at @p va of a watched region from @p source.  Otherwise as qr_space_fill().
 * @return also QR_ERR_INVALID no region of huge pages, or not where one starts; QR_ERR_AGAIN the
 *         source is not at hand: nothing happened; QR_ERR_LIMIT the pool has no page
 */
QR_MUST_USE enum qr_status qr_space_fill_huge(struct qr_space *space, qr_va va,
                                              const struct qr_page_source *source, unsigned flags);
/** As qr_space_fill(), with a page of zeroes. */
QR_MUST_USE enum qr_status qr_space_fill_zero(struct qr_space *space, qr_va va);
/** Map the page that the object has.  QR_ERR_FAULT where it has none; else as above, and
 *  QR_ERR_INVALID where the region has no object. */
QR_MUST_USE enum qr_status qr_space_fill_cached(struct qr_space *space, qr_va va, unsigned flags);

#endif
#endif
