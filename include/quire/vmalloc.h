/* SPDX-License-Identifier: MIT */
#ifndef QUIRE_VMALLOC_H
#define QUIRE_VMALLOC_H

/**
 * @file
 * The kernel's own virtual memory: large blocks out of scattered frames, kernel
 * stacks with guard pages, and windows onto device registers, from a range of the
 * kernel half.  A kernel may have several, one a purpose.
 */

#ifndef __cplusplus
#include <quire/heap.h>
#include <quire/tlb.h>
#include <quire/tree.h>

struct qr_vmalloc; /* src/space/vmalloc.c */

struct qr_vmalloc_config {
    const char *name; /**< of its slab cache; static text */
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_tlb_space *kernel; /**< the kernel's tables and their TLB side */
    struct qr_va_range range;    /**< of the kernel half, for this use alone */
    bool groups; /**< every CPU knows the format's groups of leaves: use them in large blocks */
    bool flush_at_once; /**< no block's flush is put off: who uses a freed one faults */
};

size_t qr_vmalloc_size(void);
QR_MUST_USE enum qr_status qr_vmalloc_init(struct qr_vmalloc *area,
                                           const struct qr_vmalloc_config *config);
/** @return blocks that were still allocated (a leak) */
size_t qr_vmalloc_fini(struct qr_vmalloc *area);

/**
 * @p bytes of writable, non-executable memory, page-aligned, an unmapped guard page on either
 * side; NULL when memory or range is exhausted.  @p owner is static text for vmallocinfo.
 * @p alloc_flags: QR_ALLOC_ZERO and friends.  Context: thread.
 */
void *qr_vmalloc(struct qr_vmalloc *area, size_t bytes, unsigned alloc_flags, const char *owner);
/** A window onto physical memory that no allocator owns (device registers); NULL as above. */
void *qr_vmalloc_device(struct qr_vmalloc *area, qr_pa pa, size_t bytes, enum qr_cacheability cache,
                        const char *owner);
/**
 * Undo either.  NULL is allowed.  A small block's entries are gone on return, but the flush is put
 * off: a CPU that used it may reach it, as it was, until its frames and addresses are
 * used again or qr_vmalloc_flush() is called.  At most QR_BATCH_PAGES pages wait.  Context: thread.
 */
void qr_vfree(struct qr_vmalloc *area, void *block);
/** Flush what was put off: frames and addresses of all freed blocks are free.  Context: thread. */
void qr_vmalloc_flush(struct qr_vmalloc *area);

struct qr_vmalloc_stats {
    size_t range_bytes, used_bytes, largest_free_bytes;
    size_t blocks;
};
void qr_vmalloc_stats(struct qr_vmalloc *area, struct qr_vmalloc_stats *out_stats);

struct qr_vmalloc_block {
    struct qr_va_range range; /**< guards not included */
    const char *owner;
    size_t pages; /**< frames it owns; 0 for device windows */
    qr_pa device; /**< where pages is 0 */
};
/** The first block at or above @p from; false where none. */
bool qr_vmalloc_next(struct qr_vmalloc *area, qr_va from, struct qr_vmalloc_block *out_block);

bool qr_vmalloc_validate(struct qr_vmalloc *area, char *out_message, size_t bytes);

#endif
#endif
