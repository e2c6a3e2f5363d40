/* SPDX-License-Identifier: MIT */
/*
 * Faults in regions of huge pages.
 *
 *   entry           access            what is done
 *   none            any, shared       the object's page, made if need be
 *   none            read, private     the object's page read-only, else a page of one's own
 *   none            write, private    a page of one's own: cleared, or a copy of the object's
 *   leaf            it grants         somebody was faster
 *   leaf, read-only write, private    taken over where nobody else has it, else copied
 *   mark            any               what it says; one that protects: as none
 *
 * A region with a listener has it told first, where there is no page, of a page that only the object
 * has, and of a write to a page that is protected.  The fault lock of the page is held then, and whoever
 * fills it takes that lock: so a wake-up comes after the waiter was queued.
 *
 * A page is cleared or copied with no cursor open, since that takes long; the
 * fault lock of its place is held from the first look to the last store, so
 * nobody else fills the place meanwhile, and the entry is looked at again in case
 * somebody has emptied it.  Waiting for the fault lock is waiting for another
 * fault of the same page, which waits for nothing that we hold.
 *
 * Where the region has promised pages a fault cannot fail.  Else it may find
 * the pool empty, and the outcome is that of an object that cannot be read (SIGBUS).
 * One case is Linux's own: the region that was promised its pages shares one with a
 * child of fork, and there is no page for the copy.  Then the child loses the page,
 * for the parent was told that it would not fail; the child's entry says so, and
 * its next access there ends in SIGBUS.
 */
#include "fault.h"
#include "space/hugetlb.h"

struct huge_fault {
    struct fault_ctx *ctx;
    struct qr_region *region;
    struct qr_hugetlb_pool *pool;
    struct qr_va_range page;
    size_t index; /* of the object */
    bool fills;   /* a listener's answer */
};

static void
huge_open(struct huge_fault *fault)
{
    struct fault_ctx *ctx = fault->ctx;

    qr_cursor_open(&ctx->cursor, &ctx->space->tables, fault->page, &ctx->batch);
    ctx->entry = qr_cursor_query(&ctx->cursor, fault->page.start);
}

static void
huge_close(struct huge_fault *fault)
{
    struct fault_ctx *ctx = fault->ctx;

    qr_cursor_close(&ctx->cursor);
    if (ctx->batch.registered || ctx->batch.frame_count > 0)
        qr_tlb_batch_finish(&ctx->batch);
}

/* The entry maps @head now, and grants the access. */
static enum fault_step
huge_done(struct huge_fault *fault, struct qr_frame *head)
{
    struct fault_ctx *ctx = fault->ctx;
    size_t offset = (ctx->va.v - fault->page.start.v) >> QR_PAGE_SHIFT;

    ctx->frame = qr_hugetlb_part(fault->pool, head, offset);
    if (ctx->want_frame)
        qr_frame_get(ctx->frame);
    return FAULT_DONE;
}

/* Nothing stands there, or that what comes is to be protected. */
static bool
huge_is_empty(const struct fault_ctx *ctx)
{
    return ctx->entry.kind == QR_ENTRY_NONE ||
           (ctx->entry.kind == QR_ENTRY_MARK && ctx->entry.mark.kind == QR_MARK_WRITE_PROTECT);
}

/* Set the leaf for @head, whose use becomes the entry's; prepare succeeded.  ctx->protect: from
 * writes, for the region's listener. */
static enum fault_step
hugetlb_install(struct huge_fault *fault, struct qr_frame *head)
{
    struct fault_ctx *ctx = fault->ctx;
    bool write =
        !ctx->protect && (qr_region_is_shared(fault->region) || !qr_hugetlb_is_shared(head));
    struct qr_leaf leaf = {
        .pa = qr_frame_pa(ctx->vm->config.frames, head),
        .prot = qr_region_leaf_prot(fault->region) & ~(write ? 0u : (unsigned)QR_PROT_WRITE),
        .flags = QR_LEAF_ACCESSED | QR_LEAF_DIRTY | (ctx->protect ? (unsigned)QR_LEAF_SOFT_2 : 0),
        .level = fault->pool->level,
        .pkey = fault->region->pkey,
    };

    if (qr_unlikely((leaf.prot & QR_PROT_EXEC) != 0))
        (void)qr_arch_code_written(leaf.pa, hugetlb_bytes(fault->pool));
    qr_hugetlb_page_map(&ctx->cursor, fault->pool, fault->page.start, &leaf);
    qr_hugetlb_count_entry(fault->region, head, 1);
    return huge_done(fault, head);
}

/* A page of the region's own, its contents undefined; NULL: there is none. */
static struct qr_frame *
huge_take(const struct huge_fault *fault, size_t *promised)
{
    struct qr_mempolicy *policy = fault_policy(fault->ctx);
    struct hugetlb_place place = {
        .policy = policy == NULL ? NULL : &policy->policy,
        .index = fault->page.start.v >> fault->pool->shift,
    };

    return qr_hugetlb_page_alloc(fault->pool, place, promised);
}

/* The copy is not needed after all. */
static void
huge_give_back(struct huge_fault *fault, struct qr_frame *head, size_t *promised)
{
    if (qr_hugetlb_is_shared(head) || (fault->region->flags & QR_REGION_HUGETLB_OWNER) == 0)
        promised = NULL;
    qr_hugetlb_page_put(fault->pool, head, promised);
}

/* ---- Where nothing stands ------------------------------------------------------- */

/* The object may have lost it by now. */
static bool
huge_is_current(const struct huge_fault *fault, const struct qr_frame *head)
{
    return !qr_hugetlb_is_shared(head) ||
           qr_object_page_is_current(fault->region->object, fault->index << fault->pool->order,
                                     head);
}

/*
 * Map @head, which may be the object's, where nothing stood; takes over its use.
 * @return QR_OK; QR_ERR_EXISTS; QR_ERR_RANGE not the object's any more; QR_ERR_NO_MEMORY
 */
static enum qr_status
huge_place(struct huge_fault *fault, struct qr_frame *head)
{
    struct fault_ctx *ctx = fault->ctx;
    enum qr_status status = QR_OK;

    huge_open(fault);
    if (!huge_is_empty(ctx))
        status = QR_ERR_EXISTS;
    else if (!huge_is_current(fault, head))
        status = QR_ERR_RANGE;
    else
        status = qr_hugetlb_page_prepare(&ctx->cursor, fault->pool, fault->page.start);
    if (status == QR_OK) {
        ctx->protect |= ctx->entry.kind == QR_ENTRY_MARK && !fault->fills &&
                        (fault->region->flags & QR_REGION_WATCH_WRITE) != 0;
        (void)hugetlb_install(fault, head);
    }
    huge_close(fault);
    if (status != QR_OK)
        huge_give_back(fault, head, &fault->region->hugetlb_reserved);
    return status;
}

static enum fault_step
huge_map(struct huge_fault *fault, struct qr_frame *head)
{
    struct fault_ctx *ctx = fault->ctx;

    switch (huge_place(fault, head)) {
    case QR_OK: /* a write to what is protected: the next attempt tells the listener */
        return ctx->protect && fault_is_write(ctx) ? FAULT_RESTART : FAULT_DONE;
    case QR_ERR_NO_MEMORY:
        return FAULT_WAIT_MEMORY;
    default:
        return FAULT_RESTART;
    }
}

/* A private page: a copy of the object's page @source, or with NULL cleared. */
static enum fault_step
huge_map_private(struct huge_fault *fault, struct qr_frame *source)
{
    struct qr_frame *head = huge_take(fault, &fault->region->hugetlb_reserved);

    if (head == NULL)
        return fault_end(fault->ctx, QR_FAULT_BEYOND_END);
    if (source != NULL)
        qr_hugetlb_page_copy(fault->pool, head, source);
    else
        qr_hugetlb_page_clear(fault->pool, head);
    fault_count(fault->ctx, source != NULL ? QR_EVENT_COW : QR_EVENT_ZERO_FILL);
    return huge_map(fault, head);
}

/*
 * The object's page, made if need be where it is shared, as qr_object_hugetlb_page(); or
 * QR_ERR_INTERRUPTED: the listener is told, and *@out_step says what comes of it.
 */
static enum qr_status
huge_find(struct huge_fault *fault, struct qr_frame **out_head, enum fault_step *out_step)
{
    struct qr_object *object = fault->region->object;
    enum qr_status status = qr_object_hugetlb_page(object, fault->index, false, out_head);

    if (status == QR_ERR_NOT_FOUND) {
        if (fault_is_watched(fault->ctx, QR_REGION_WATCH_MISSING) &&
            qr_fault_tell(fault->ctx, QR_WATCH_MISSING, out_step))
            return QR_ERR_INTERRUPTED;
        return qr_region_is_shared(fault->region)
                   ? qr_object_hugetlb_page(object, fault->index, true, out_head)
                   : status;
    }
    if (status == QR_OK && fault_is_watched(fault->ctx, QR_REGION_WATCH_MINOR) &&
        qr_fault_tell(fault->ctx, QR_WATCH_MINOR, out_step)) {
        qr_hugetlb_page_put(fault->pool, *out_head, NULL);
        return QR_ERR_INTERRUPTED;
    }
    return status;
}

static enum fault_step
huge_fill(struct huge_fault *fault)
{
    bool shared = qr_region_is_shared(fault->region);
    struct qr_frame *head = NULL;
    enum fault_step step = FAULT_RESTART;

    switch (huge_find(fault, &head, &step)) {
    case QR_ERR_INTERRUPTED:
        return step;
    case QR_OK:
        if (shared || !fault_is_write(fault->ctx))
            return huge_map(fault, head);
        step = huge_map_private(fault, head);
        qr_hugetlb_page_put(fault->pool, head, NULL);
        return step;
    case QR_ERR_NOT_FOUND:
        return huge_map_private(fault, NULL);
    case QR_ERR_NO_MEMORY:
        return FAULT_WAIT_MEMORY; /* for the index */
    default:
        return fault_end(fault->ctx, QR_FAULT_BEYOND_END); /* past the end, or an empty pool */
    }
}

/* ---- A write to what may not be written in place ------------------------------------ */

/* What the owner of a page takes from others. */
struct huge_taking {
    struct huge_fault *fault;
    struct qr_frame *head;
};

/* One other mapping of the page's place: if it has the page by way of fork, it loses it. */
static void
huge_take_from(void *context, struct qr_mapping *mapping, size_t page)
{
    const struct huge_taking *taking = context;
    struct qr_hugetlb_pool *pool = taking->fault->pool;
    struct qr_region *region = qr_container_of(mapping, struct qr_region, mapping);
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;
    bool taken = false;

    if (qr_region_is_shared(region) || (region->flags & QR_REGION_HUGETLB_OWNER) != 0)
        return;
    uintptr_t offset = (page - mapping->first_page) << QR_PAGE_SHIFT;
    struct qr_va_range range = qr_hugetlb_page_range(pool, qr_va_of(region->start.v + offset));

    qr_tlb_batch_init(&batch, &region->space->tlb);
    qr_cursor_open(&cursor, &region->space->tables, range, &batch);
    struct qr_entry entry = qr_cursor_query(&cursor, range.start);

    if (entry.kind == QR_ENTRY_LEAF && qr_leaf_frame(region, &entry.leaf) == taking->head) {
        (void)qr_hugetlb_page_unmap(&cursor, pool, range.start);
        qr_cursor_mark(&cursor, range.start, pool->level, (struct qr_mark){.kind = QR_MARK_POISON});
        qr_hugetlb_count_entry(region, taking->head, -1);
        taken = true;
    }
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    if (taken)
        qr_hugetlb_page_put(pool, taking->head, NULL);
}

/* No page for a copy of @head: who was promised not to fail takes it from those who were not. */
static enum fault_step
huge_take_over(struct huge_fault *fault, struct qr_frame *head)
{
    struct huge_taking taking = {.fault = fault, .head = head};

    if ((fault->region->flags & QR_REGION_HUGETLB_OWNER) == 0)
        return fault_end(fault->ctx, QR_FAULT_BEYOND_END);
    qr_object_each_mapping(fault->region->object, fault->index << fault->pool->order,
                           huge_take_from, &taking);
    /* The entry's use and ours are left, unless something else has it: then nothing helps. */
    if (atomic_load_explicit(&head->maps, memory_order_acquire) == 1)
        return FAULT_RESTART;
    return fault_end(fault->ctx, QR_FAULT_BEYOND_END);
}

/* Put @copy in the place of @source, which was read-only there all the time. */
static enum fault_step
huge_replace(struct huge_fault *fault, struct qr_frame *source, struct qr_frame *copy)
{
    struct fault_ctx *ctx = fault->ctx;
    enum fault_step step = FAULT_RESTART;

    huge_open(fault);
    bool same = ctx->entry.kind == QR_ENTRY_LEAF &&
                qr_leaf_frame(fault->region, &ctx->entry.leaf) == source &&
                (ctx->entry.leaf.prot & QR_PROT_WRITE) == 0 &&
                !qr_leaf_is_write_watched(fault->region, &ctx->entry.leaf);

    if (same) {
        (void)qr_hugetlb_page_unmap(&ctx->cursor, fault->pool, fault->page.start);
        qr_hugetlb_count_entry(fault->region, source, -1);
        qr_tlb_batch_finish(&ctx->batch); /* nobody reads the old page once the new is written */
        step = hugetlb_install(fault, copy);
    }
    huge_close(fault);
    if (same)
        qr_hugetlb_page_put(fault->pool, source, NULL);
    return step;
}

/* @source is in our entry, read-only, and we have a use of it beside the entry's. */
static enum fault_step
huge_copy(struct huge_fault *fault, struct qr_frame *source)
{
    /* Where @source is private, the promise for this place has been used up for it. */
    size_t *promised = qr_hugetlb_is_shared(source) ? &fault->region->hugetlb_reserved : NULL;
    struct qr_frame *copy = huge_take(fault, promised);

    if (copy == NULL && promised == NULL)
        return huge_take_over(fault, source);
    if (copy == NULL)
        return fault_end(fault->ctx, QR_FAULT_BEYOND_END);
    qr_hugetlb_page_copy(fault->pool, copy, source);
    enum fault_step step = huge_replace(fault, source, copy);

    if (step != FAULT_DONE)
        huge_give_back(fault, copy, promised);
    else
        fault_count(fault->ctx, QR_EVENT_COW);
    return step;
}

/* ---- The entry -------------------------------------------------------------------------- */

/*
 * A leaf stands there.  @return FAULT_DONE, or FAULT_NEED_PAGE: it must be copied, and a use of
 * *@out_source is the caller's
 */
static enum fault_step
huge_leaf(struct huge_fault *fault, struct qr_frame **out_source)
{
    struct fault_ctx *ctx = fault->ctx;
    struct qr_leaf *leaf = &ctx->entry.leaf;
    struct qr_frame *head = qr_leaf_frame(fault->region, leaf);
    unsigned prot = qr_region_leaf_prot(fault->region);
    bool write = fault_is_write(ctx);
    enum fault_step step;

    if (write && qr_leaf_is_write_watched(fault->region, leaf) &&
        qr_fault_tell(ctx, QR_WATCH_WRITE, &step))
        return step;
    if (!write)
        prot = (prot & ~(unsigned)QR_PROT_WRITE) | (leaf->prot & QR_PROT_WRITE);
    if (write && (leaf->prot & QR_PROT_WRITE) == 0 && !qr_region_is_shared(fault->region)) {
        if (qr_hugetlb_is_shared(head) || !qr_hugetlb_page_is_exclusive(fault->pool, head)) {
            qr_hugetlb_page_get(head);
            *out_source = head;
            return FAULT_NEED_PAGE;
        }
        fault_count(ctx, QR_EVENT_COW_REUSE);
    }
    ctx->spurious = leaf->prot == prot;
    leaf->prot = prot;
    leaf->flags |= QR_LEAF_ACCESSED | (write ? (unsigned)QR_LEAF_DIRTY : 0);
    qr_hugetlb_page_change(&ctx->cursor, fault->pool, fault->page.start, leaf);
    /* A CPU that caches the lack of a right must forget it. */
    if (!ctx->probe)
        qr_tlb_batch_note(&ctx->batch, fault->page.start, fault->pool->shift);
    return huge_done(fault, head);
}

static enum fault_step
huge_locked(struct huge_fault *fault)
{
    struct qr_frame *source = NULL;
    enum fault_step step = FAULT_NEXT;

    huge_open(fault);
    if (fault->ctx->entry.kind == QR_ENTRY_LEAF)
        step = huge_leaf(fault, &source);
    else if (!huge_is_empty(fault->ctx))
        step = qr_fault_mark(fault->ctx);
    huge_close(fault);
    if (step == FAULT_NEXT)
        return huge_fill(fault);
    if (step != FAULT_NEED_PAGE)
        return step;
    step = huge_copy(fault, source);
    qr_hugetlb_page_put(fault->pool, source, NULL);
    return step;
}

static struct huge_fault
huge_fault_of(struct fault_ctx *ctx)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(ctx->region);

    return (struct huge_fault){
        .ctx = ctx,
        .region = ctx->region,
        .pool = pool,
        .page = qr_hugetlb_page_range(pool, ctx->va),
        .index = qr_hugetlb_index(ctx->region, pool, ctx->va),
    };
}

enum fault_step
qr_fault_hugetlb(struct fault_ctx *ctx)
{
    struct huge_fault fault = huge_fault_of(ctx);
    struct qr_mutex *lock = qr_object_fault_lock(ctx->region->object, fault.index);

    ctx->protect = false;
    qr_mutex_lock(lock);
    enum fault_step step = huge_locked(&fault);

    qr_mutex_unlock(lock);
    return step;
}

/* ---- What a listener answers with -------------------------------------------------------- */

/* Can a page come, and its entry be set? */
static enum qr_status
huge_fill_prepare(struct huge_fault *fault)
{
    struct fault_ctx *ctx = fault->ctx;

    huge_open(fault);
    enum qr_status status =
        huge_is_empty(ctx) ? qr_hugetlb_page_prepare(&ctx->cursor, fault->pool, fault->page.start)
                           : QR_ERR_EXISTS;

    huge_close(fault);
    return status;
}

/* A page of the region's own with the contents of @source. */
static enum qr_status
huge_fill_private(struct huge_fault *fault, const struct qr_page_source *source)
{
    size_t *promised = &fault->region->hugetlb_reserved;
    struct qr_frame *head = huge_take(fault, promised);

    if (head == NULL)
        return QR_ERR_LIMIT;
    if (qr_hugetlb_page_fill(fault->pool, head, source))
        return huge_place(fault, head);
    huge_give_back(fault, head, promised);
    return QR_ERR_AGAIN;
}

/* The object's page: with the contents of @source, or with NULL the one that it has. */
static enum qr_status
huge_fill_object(struct huge_fault *fault, const struct qr_page_source *source)
{
    struct qr_object *object = fault->region->object;
    struct qr_frame *head;
    enum qr_status status = source == NULL
                                ? qr_object_hugetlb_page(object, fault->index, false, &head)
                                : qr_object_hugetlb_add(object, fault->index, source, &head);

    if (status == QR_OK)
        return huge_place(fault, head);
    if (source == NULL && (status == QR_ERR_NOT_FOUND || status == QR_ERR_RANGE))
        return QR_ERR_FAULT;
    return status;
}

static enum qr_status
huge_fill_locked(struct huge_fault *fault, const struct qr_page_source *source)
{
    enum qr_status status = huge_fill_prepare(fault);

    if (status != QR_OK)
        return status;
    if (source != NULL && !qr_region_is_shared(fault->region))
        return huge_fill_private(fault, source);
    return huge_fill_object(fault, source);
}

enum qr_status
qr_fault_fill_hugetlb(struct fault_ctx *ctx, const struct qr_page_source *source, unsigned flags)
{
    struct huge_fault fault = huge_fault_of(ctx);
    struct qr_mutex *lock = qr_object_fault_lock(ctx->region->object, fault.index);

    if (ctx->va.v != fault.page.start.v)
        return QR_ERR_INVALID;
    fault.fills = true;
    ctx->protect = (flags & QR_FILL_WRITE_PROTECT) != 0;
    qr_mutex_lock(lock);
    enum qr_status status = huge_fill_locked(&fault, source);

    qr_mutex_unlock(lock);
    return status;
}
