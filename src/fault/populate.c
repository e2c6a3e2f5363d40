/* SPDX-License-Identifier: MIT */
/*
 * Faults that nobody took: populating a range, and reaching a page of another
 * space by its frame.  Both run the same stages as a real fault, so the same
 * rules hold; get_frame() takes its reference under the very cursor that found
 * or made the entry, so nothing can come in between (invariants 1, 33).
 */
#include "fault.h"

static enum qr_status
outcome_status(enum qr_fault_outcome outcome)
{
    switch (outcome) {
    case QR_FAULT_HANDLED:
        return QR_OK;
    case QR_FAULT_NO_MEMORY:
        return QR_ERR_AGAIN;
    case QR_FAULT_NO_REGION:
        return QR_ERR_NO_MEMORY;
    case QR_FAULT_PROTECTION:
    case QR_FAULT_KEY:
        return QR_ERR_INVALID;
    case QR_FAULT_POISON:
        return QR_ERR_IO;
    case QR_FAULT_BEYOND_END:
    case QR_FAULT_INTERRUPTED:
        break;
    }
    return QR_ERR_FAULT;
}

static enum qr_fault_outcome
run_probe(struct fault_ctx *ctx)
{
    ctx->probe = true;
    enum qr_fault_outcome outcome = qr_fault_run(ctx);

    if (outcome == QR_FAULT_HANDLED && !ctx->spurious) {
        fault_count(ctx, QR_EVENT_FAULT);
        if (ctx->vm->fault_hook != NULL)
            ctx->vm->fault_hook(ctx->space, ctx->major);
    }
    return outcome;
}

static enum qr_fault_outcome
populate_page(struct qr_space *space, qr_va va, unsigned access)
{
    struct fault_ctx ctx;

    qr_fault_begin(&ctx, space, va, access);
    return run_probe(&ctx);
}

/*
 * Where the region at @va may be read; *out_end: how far that holds.  Hardware lets whoever writes
 * read, but who asks for pages to be read must have been given that right.
 */
static bool
populate_may_read(struct qr_space *space, qr_va va, uintptr_t *out_end)
{
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, va);
    bool inside = region != NULL && region->start.v <= va.v;
    bool may = !inside || (region->prot & QR_PROT_READ) != 0; /* a hole: the fault says so */

    *out_end = inside ? region->end.v : va.v + QR_PAGE_SIZE;
    qr_rw_read_unlock(&space->lock);
    return may;
}

enum qr_status
qr_space_populate(struct qr_space *space, qr_va start, size_t bytes, bool write)
{
    unsigned access = write ? QR_ACCESS_WRITE : QR_ACCESS_READ;
    enum qr_fault_outcome outcome = QR_FAULT_HANDLED;
    struct qr_va_range range;
    enum qr_status status = qr_change_range(start, bytes, &range);

    uintptr_t checked = write ? range.end.v : range.start.v;

    if (status != QR_OK)
        return status;
    for (uintptr_t at = range.start.v; at < range.end.v && outcome == QR_FAULT_HANDLED;
         at += QR_PAGE_SIZE) {
        if (at >= checked && !populate_may_read(space, qr_va_of(at), &checked))
            return QR_ERR_INVALID;
        outcome = populate_page(space, qr_va_of(at), access);
    }
    return outcome_status(outcome);
}

/*
 * The part of @range that its first region covers, and the access that makes its
 * pages what they are going to be: a private writable page is copied at once.  None where
 * pages shall come by faults, populated or not.
 */
static bool
populate_piece(struct qr_space *space, struct qr_va_range range, struct qr_va_range *out_piece,
               unsigned *out_access)
{
    qr_rw_read_lock(&space->lock);
    const struct qr_region *region = qr_space_find(space, range.start);
    bool found = region != NULL && region->start.v < range.end.v;

    if (found) {
        *out_piece = qr_region_clip(region, range);
        *out_access = (region->prot & QR_PROT_WRITE) != 0 && !qr_region_is_shared(region)
                          ? QR_ACCESS_WRITE
                          : QR_ACCESS_READ;
        if ((region->flags & QR_REGION_LOCKED_ON_FAULT) != 0)
            *out_access = 0;
    }
    qr_rw_read_unlock(&space->lock);
    return found;
}

enum qr_status
qr_space_populate_mapped(struct qr_space *space, struct qr_va_range range,
                         enum qr_populate_failure failure)
{
    enum qr_fault_outcome outcome = QR_FAULT_HANDLED;
    struct qr_va_range piece;
    unsigned access;

    while (range.start.v < range.end.v && populate_piece(space, range, &piece, &access)) {
        outcome = QR_FAULT_HANDLED;
        if (access == 0) {
            range.start = piece.end;
            continue;
        }
        for (uintptr_t at = piece.start.v; at < piece.end.v && outcome == QR_FAULT_HANDLED;
             at += QR_PAGE_SIZE)
            outcome = populate_page(space, qr_va_of(at), access);
        range.start = piece.end;
        if (outcome == QR_FAULT_NO_MEMORY ||
            (outcome != QR_FAULT_HANDLED && failure == QR_POPULATE_STOP))
            break;
    }
    /* As mlock(2) has it: what cannot be there is no memory, what might be later is EAGAIN. */
    if (outcome == QR_FAULT_HANDLED)
        return QR_OK;
    return outcome == QR_FAULT_NO_MEMORY ? QR_ERR_AGAIN : QR_ERR_NO_MEMORY;
}

enum qr_status
qr_space_get_frame(struct qr_space *space, qr_va va, unsigned access, bool force,
                   struct qr_frame **out_frame)
{
    struct fault_ctx ctx;

    qr_fault_begin(&ctx, space, va, access);
    ctx.force = force;
    ctx.want_frame = true;
    switch (run_probe(&ctx)) {
    case QR_FAULT_HANDLED:
        if (ctx.frame == NULL)
            return QR_ERR_FAULT; /* a device's page, or too many restarts */
        *out_frame = ctx.frame;
        return QR_OK;
    case QR_FAULT_NO_MEMORY:
        return QR_ERR_NO_MEMORY;
    default:
        return QR_ERR_FAULT;
    }
}
