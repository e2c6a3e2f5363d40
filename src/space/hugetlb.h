/* SPDX-License-Identifier: MIT */
#ifndef QR_SPACE_HUGETLB_H
#define QR_SPACE_HUGETLB_H

/* Regions of huge pages: what the calls do with them; see hugetlb.c. */

#include "object/hugetlb.h"
#include "region.h"

/* The pool of a region's pages; NULL: ordinary ones. */
static inline struct qr_hugetlb_pool *
qr_region_hugetlb_pool(const struct qr_region *region)
{
    return qr_region_is_hugetlb(region) ? qr_object_hugetlb_pool(region->object) : NULL;
}

/* The page of @region that holds @va. */
static inline struct qr_va_range
qr_hugetlb_page_range(const struct qr_hugetlb_pool *pool, qr_va va)
{
    uintptr_t start = va.v & ~(hugetlb_bytes(pool) - 1);

    return qr_range_of(start, start + hugetlb_bytes(pool));
}

/* The huge page of the region's object at @va. */
static inline size_t
qr_hugetlb_index(const struct qr_region *region, const struct qr_hugetlb_pool *pool, qr_va va)
{
    return qr_region_object_page(region, va) >> pool->order;
}

/* One entry of @region for the page came (+1) or went (-1): counts, not uses. */
void qr_hugetlb_count_entry(const struct qr_region *region, struct qr_frame *head, int delta);

/* May @region be cut at both ends of @piece, within it? */
bool qr_hugetlb_may_cut(const struct qr_region *region, struct qr_va_range piece);
/* The same for the ends of @range, wherever they lie.  S. */
bool qr_hugetlb_may_unmap(const struct qr_space *space, struct qr_va_range range);

/* Cut *@piece to whole pages at its end; QR_ERR_INVALID where it starts within one. */
QR_MUST_USE enum qr_status qr_hugetlb_whole_pages(const struct qr_region *region,
                                                  struct qr_va_range *piece);

/* The checks of a map request for a huge object, and its length in whole pages. */
QR_MUST_USE enum qr_status qr_hugetlb_check_map(const struct qr_map_request *request,
                                                size_t *out_bytes);
/* Promise @like, at its place, the pages that it may need; nothing else fails after this. */
QR_MUST_USE enum qr_status qr_hugetlb_prepare_map(struct qr_region *like);

/* ---- Promises of private regions.  S for writing. ------------------------------ */

/* @region is about to lose @range to @other. */
void qr_hugetlb_split_promise(struct qr_region *region, struct qr_region *other,
                              struct qr_va_range range);
/* @region has become shorter: give up what it can no longer use. */
void qr_hugetlb_shrink_promise(struct qr_region *region);
/* All of @from's promises are @to's; @from is not used any more. */
void qr_hugetlb_join_promise(struct qr_region *to, const struct qr_region *from);
/* @region is gone. */
void qr_hugetlb_drop_promise(struct qr_region *region);

/* ---- One page's entry: a leaf, or a group of them.  The cursor covers the page. --------- */

/* Make sure that the page's leaf or mark can be set. */
QR_MUST_USE enum qr_status qr_hugetlb_page_prepare(struct qr_cursor *cursor,
                                                   const struct qr_hugetlb_pool *pool, qr_va start);
/* Set it where nothing or a mark stands. */
void qr_hugetlb_page_map(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool, qr_va start,
                         const struct qr_leaf *leaf);
/* Take it out, or the mark that is there instead. */
struct qr_entry qr_hugetlb_page_unmap(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool,
                                      qr_va start);
/* Give the leaf at @start @leaf's rights and key, and its flags beside its own; notes a flush
 * where rights shrink, and a group is flushed at once. */
void qr_hugetlb_page_change(struct qr_cursor *cursor, const struct qr_hugetlb_pool *pool,
                            qr_va start, const struct qr_leaf *leaf);

/* ---- Entries ------------------------------------------------------------------- */

/* As qr_zap_range(), for a huge region. */
void qr_hugetlb_zap(struct qr_region *region, struct qr_va_range range, enum qr_zap_what what,
                    struct qr_tlb_batch *batch);
/* Give the entries of @range their new rights. */
void qr_hugetlb_protect(struct qr_region *region, struct qr_va_range range,
                        struct qr_attributes attributes, struct qr_tlb_batch *batch);
/* As qr_space_write_protect(), for whole pages of @region.  @return false without memory for marks */
bool qr_hugetlb_write_protect(const struct qr_region *region, struct qr_va_range range,
                              bool protect, struct qr_tlb_batch *batch);
/* Copy the private entries of @region to @child's tables. */
QR_MUST_USE enum qr_status qr_hugetlb_fork(const struct qr_region *region, struct qr_space *child,
                                           struct qr_tlb_batch *batch);
/* One byte a small page: 1 where it is mapped. */
void qr_hugetlb_resident(const struct qr_region *region, struct qr_va_range range, uint8_t *out);
/* Tables for the entries of @range at the same offset from @to. */
QR_MUST_USE enum qr_status qr_hugetlb_move_prepare(const struct qr_region *region,
                                                   struct qr_va_range range, qr_va to);
/* Move the entries; cannot fail. */
void qr_hugetlb_move(struct qr_region *region, struct qr_va_range range, qr_va to,
                     struct qr_tlb_batch *batch);

#endif
