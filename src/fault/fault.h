/* SPDX-License-Identifier: MIT */
#ifndef QR_FAULT_FAULT_H
#define QR_FAULT_FAULT_H

/* The stages of a fault and what they share; driver.c has the theory. */

#include "object/objects.h"
#include "space/region.h"

#include <quire/arch.h>
#include <quire/fault.h>
#include <quire/hugetlb.h>

/* What a stage asks of the driver. */
enum fault_step {
    FAULT_NEXT,        /* go on with the next stage */
    FAULT_DONE,        /* ctx->outcome stands */
    FAULT_RESTART,     /* drop everything and start again (ctx->want_write: with the other lock) */
    FAULT_WAIT_MEMORY, /* drop everything, find a frame, start again */
    FAULT_WAIT_PAGE,   /* drop everything, have the object read the page, start again */
    FAULT_WAIT_HUGE,   /* drop everything, find the frames of a huge page, start again */
    FAULT_WAIT_BLOCK,  /* drop everything, have the object make a huge page, start again */
    FAULT_WAIT_SWAP,   /* drop everything, have ctx->slot in memory, start again */
    FAULT_WAIT_LISTENER, /* drop everything, sleep until ctx->waiter is woken, start again */
    FAULT_NEED_PAGE,     /* within resolve: the object's page first, without the cursor */
};

#define FAULT_AROUND_MAX 16

struct fault_ctx {
    /* What is asked; fixed. */
    struct qr_space *space;
    struct qr_vm *vm;
    qr_va va;        /* of the page */
    unsigned access; /* READ, WRITE, EXEC */
    bool key_violation;
    bool probe;      /* no hardware fault behind it: populate, get_frame */
    bool user_mode;  /* user code did it */
    size_t offset;   /* of the address in its page */
    bool force;      /* past missing rights, as a debugger */
    bool want_frame; /* ... with a reference, in @frame */

    /* What the driver holds. */
    bool lock_for_write; /* the lock is held for writing */
    bool want_write;     /* a restart needs it so */
    bool want_huge;      /* the cursor is to cover the block around va */
    bool no_huge;        /* there was none: a small page will do */
    bool full;           /* the space's group may have no page more */
    bool major;          /* it waited for the object's backing */
    bool spurious;       /* everything was there already */
    bool has_swapped;    /* @swapped is set, with a reference */
    struct qr_region *region;
    struct qr_frame *spare;          /* from a wait for memory */
    enum qr_huge_effort huge_effort; /* where a huge page is waited for */
    struct qr_frame *huge;           /* from a wait for a huge page: cleared single frames */
    qr_slot slot;                    /* of swap, that is waited for */
    struct qr_frame *swapped;        /* its page, kept from leaving again */
    struct qr_frame *page;           /* the object's page, with a reference; to be re-validated */
    struct qr_frame *around[FAULT_AROUND_MAX]; /* its cached neighbours, with references */
    size_t around_count;
    qr_va around_va;          /* of around[0] */
    bool page_absent;         /* the object had none, and a listener may want to know */
    bool protect;             /* the entry said: not to be written unseen */
    struct qr_listener *told; /* where ctx->waiter is queued, with a reference */
    struct qr_waiter waiter;

    /* The open transaction. */
    struct qr_cursor cursor;
    struct qr_entry entry;
    struct qr_tlb_batch batch;

    /* The result. */
    enum qr_fault_outcome outcome;
    struct qr_frame *frame; /* that the entry maps now; NULL: a device's page */
};

/* Prepare @ctx for one page of @space; nothing is locked. */
void qr_fault_begin(struct fault_ctx *ctx, struct qr_space *space, qr_va va, unsigned access);
/* Run the stages to an outcome, waiting where they ask for it. */
enum qr_fault_outcome qr_fault_run(struct fault_ctx *ctx);

/* Stages, in order.  The space's lock is held; they neither unlock nor wait. */
enum fault_step qr_fault_find_region(struct fault_ctx *ctx);
enum fault_step qr_fault_check_access(struct fault_ctx *ctx);
enum fault_step qr_fault_resolve(struct fault_ctx *ctx);

/* Pieces of resolve: one for each thing that the entry may be.  The cursor is open. */
enum fault_step qr_fault_anonymous(struct fault_ctx *ctx);
enum fault_step qr_fault_object(struct fault_ctx *ctx);
enum fault_step qr_fault_leaf(struct fault_ctx *ctx);
enum fault_step qr_fault_large_leaf(struct fault_ctx *ctx);
enum fault_step qr_fault_mark(struct fault_ctx *ctx);
enum fault_step qr_fault_break_cow(struct fault_ctx *ctx);
enum fault_step qr_fault_swap(struct fault_ctx *ctx);

/* Nothing is locked: have ctx->slot in memory.  RESTART, DONE (an outcome), or WAIT_MEMORY for it. */
enum fault_step qr_fault_wait_swap(struct fault_ctx *ctx);
/* Give back what that brought. */
void qr_fault_drop_swapped(struct fault_ctx *ctx);

/* Nothing stands at va and no table below: may a huge page come?  The cursor is open. */
bool qr_fault_wants_huge(const struct fault_ctx *ctx);
/* Map one; FAULT_NEXT: it cannot be, map a small one. */
enum fault_step qr_fault_huge(struct fault_ctx *ctx);
/* How hard the driver is to look for frames (Linux's defrag).  DEFER leaves it to collapse. */
enum qr_huge_effort qr_fault_huge_effort(const struct fault_ctx *ctx);

/* Might shared memory show a huge page here?  No cursor is open, neither for the next two. */
bool qr_fault_wants_block(const struct fault_ctx *ctx);
/* All of resolve where it can; FAULT_NEXT: it cannot, map a small one. */
enum fault_step qr_fault_block(struct fault_ctx *ctx);
/* Nothing is locked: have @object, whose reference is given up, make the one around @page. */
void qr_fault_wait_block(struct fault_ctx *ctx, struct qr_object *object, size_t page);

/* Nothing is locked: get what the next attempt needs for one. */
void qr_fault_wait_huge(struct fault_ctx *ctx, struct qr_mempolicy *policy, size_t place);

/*
 * Is the fault one of @kind that the region's listener is told of?  Then the waiter is queued, or the
 * outcome stands, and *out_step says so.  The cursor that showed the entry is open.
 */
bool qr_fault_tell(struct fault_ctx *ctx, enum qr_watch kind, enum fault_step *out_step);
/* Sleep until woken; nothing is locked.  @return whether to try again */
bool qr_fault_wait_listener(struct fault_ctx *ctx);

/* All of resolve where the region has huge pages; no cursor is open.  Sleeps while another
 * fault handles the same page. */
enum fault_step qr_fault_hugetlb(struct fault_ctx *ctx);

/* A listener's answer for the page at ctx->va of ctx->region, which has huge ones: as
 * qr_space_fill_huge(), or with @source NULL as qr_space_fill_cached().  S. */
QR_MUST_USE enum qr_status qr_fault_fill_hugetlb(struct fault_ctx *ctx,
                                                 const struct qr_page_source *source,
                                                 unsigned flags);

/* Get the object's page without sleeping; the cursor is closed. */
enum fault_step qr_fault_fetch_page(struct fault_ctx *ctx);
void qr_fault_drop_pages(struct fault_ctx *ctx);

/* The policy under which the fault's private page is placed, borrowed; NULL: the default.  S. */
static inline struct qr_mempolicy *
fault_policy(const struct fault_ctx *ctx)
{
    struct qr_mempolicy *policy = ctx->region->policy;

    return policy != NULL ? policy : qr_objects_thread_policy(ctx->vm->config.objects);
}

/* A page's place in its mapping, for interleaving: in the object, or by address. */
static inline size_t
fault_place(const struct fault_ctx *ctx)
{
    return qr_region_is_anonymous(ctx->region) ? ctx->va.v >> QR_PAGE_SHIFT
                                               : qr_region_object_page(ctx->region, ctx->va);
}

/* A frame of our own, without sleeping; NULL: the stage returns FAULT_WAIT_MEMORY. */
struct qr_frame *qr_fault_take_frame(struct fault_ctx *ctx, unsigned alloc_flags);
/* Set a leaf for the private frame @frame, which is ours alone; prepare succeeded. */
void qr_fault_install_private(struct fault_ctx *ctx, struct qr_frame *frame);
/* The same, protected from writes for the region's listener: never writable in between. */
void qr_fault_install_protected(struct fault_ctx *ctx, struct qr_frame *frame);
/* Set a read-only leaf for the frame of zeroes; prepare succeeded. */
void qr_fault_install_zero(struct fault_ctx *ctx);

static inline enum fault_step
fault_end(struct fault_ctx *ctx, enum qr_fault_outcome outcome)
{
    ctx->outcome = outcome;
    return FAULT_DONE;
}

/* The leaf's page was filled by the kernel: where it may be executed, fetches are to see that. */
static inline void
fault_publish_code(const struct qr_leaf *leaf)
{
    if (qr_unlikely((leaf->prot & QR_PROT_EXEC) != 0))
        (void)qr_arch_code_written(leaf->pa, QR_PAGE_SIZE);
}

/*
 * Before a frame of our own comes where one of an object's may have stood: who took that out
 * (reclaim, migration) may not have flushed it yet, and nobody may read the old page once somebody
 * has written the new one.  We saw the empty entry under its table's lock, so we see the flush pending, or
 * it is over.  The cursor is open.
 */
static inline void
fault_settle(struct fault_ctx *ctx)
{
    if (qr_likely(atomic_load_explicit(&ctx->space->tlb.pending, memory_order_acquire) == 0))
        return;
    qr_tlb_batch_note(&ctx->batch, ctx->va, QR_PAGE_SHIFT);
    ctx->batch.flush(&ctx->batch);
}

/* The rights of a leaf for the object's own frame when this access does not write. */
static inline unsigned
fault_read_prot(const struct qr_region *region)
{
    unsigned prot = qr_region_leaf_prot(region);

    if (qr_region_is_shared(region) && qr_object_is_memory(region->object) &&
        (region->flags & QR_REGION_TRACKED) == 0)
        return prot; /* nothing has to be noticed */
    return prot & ~(unsigned)QR_PROT_WRITE;
}

static inline bool
fault_is_watched(const struct fault_ctx *ctx, unsigned region_flag)
{
    return qr_unlikely((ctx->region->flags & region_flag) != 0);
}

static inline bool
fault_is_write(const struct fault_ctx *ctx)
{
    return (ctx->access & QR_ACCESS_WRITE) != 0;
}

static inline void
fault_count(const struct fault_ctx *ctx, enum qr_counter event)
{
    qr_counter_add(ctx->vm->counters, event, 1);
}

#endif
