/* SPDX-License-Identifier: MIT */
/*
 * What objects ask of the regions that map them: take entries out (truncation,
 * holes, eviction), make them read-only (write-back), and tell what was used (swap).  The flush is the object's to
 * finish, once for all mappings and under the same lock (src/tlb/gather.c).
 *
 * Called under the object's mapping lock, which keeps the region and its extent;
 * the space's lock is not taken, because whoever holds it may wait for the
 * object.  Faults go on meanwhile: they ask under the table lock whether the
 * object still has the page (qr_object_page_is_current), and we come after the
 * object has let go of it.
 */
#include "region.h"

static struct qr_region *
region_of_mapping(struct qr_mapping *mapping)
{
    return qr_container_of(mapping, struct qr_region, mapping);
}

/* Where pages [first, last) of the object, which the mapping shows, are mapped. */
static struct qr_va_range
mapping_range(const struct qr_region *region, size_t first, size_t last)
{
    const struct qr_mapping *mapping = &region->mapping;
    uintptr_t base = region->start.v;

    qr_assert(first >= mapping->first_page && first < last &&
              last <= mapping->first_page + mapping->page_count);
    return qr_range_of(base + ((first - mapping->first_page) << QR_PAGE_SHIFT),
                       base + ((last - mapping->first_page) << QR_PAGE_SHIFT));
}

static void
mapping_unmap(struct qr_mapping *mapping, size_t first, size_t last, bool private_copies,
              struct qr_tlb_gather *gather)
{
    struct qr_region *region = region_of_mapping(mapping);
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &region->space->tlb);
    enum qr_status status = qr_zap_range(region, mapping_range(region, first, last),
                                         private_copies ? QR_ZAP_ALL : QR_ZAP_OBJECT, &batch);

    qr_assert(status == QR_OK); /* to cut a large leaf of an object takes no memory */
    qr_tlb_gather_add(gather, &batch);
}

static void
clean_leaves(struct qr_cursor *cursor, struct qr_va_range range)
{
    struct qr_entry entry;
    qr_va at = range.start;

    while (at.v < range.end.v && qr_cursor_find(cursor, at, &entry)) {
        if (entry.kind == QR_ENTRY_LEAF && (entry.leaf.prot & QR_PROT_WRITE) != 0)
            qr_cursor_update(cursor, entry.start, entry.leaf.prot & ~(unsigned)QR_PROT_WRITE, 0,
                             QR_LEAF_DIRTY);
        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
    }
}

static void
mapping_clean(struct qr_mapping *mapping, size_t first, size_t last, struct qr_tlb_gather *gather)
{
    struct qr_region *region = region_of_mapping(mapping);
    struct qr_va_range rest = mapping_range(region, first, last);
    struct qr_va_range chunk;
    struct qr_cursor cursor;
    struct qr_tlb_batch batch;

    qr_tlb_batch_init(&batch, &region->space->tlb);
    while (qr_chunk_open(&cursor, region->space, &rest, &chunk, &batch)) {
        clean_leaves(&cursor, chunk);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(&batch);
    qr_tlb_gather_add(gather, &batch);
}

/*
 * The entries of @chunk, in @range: which of its pages they say were used, and they say so no more.  A large leaf
 * speaks for all of its pages, until the last of them has been asked about.
 */
static uint32_t
age_leaves(struct qr_cursor *cursor, struct qr_va_range chunk, struct qr_va_range range)
{
    struct qr_entry entry;
    qr_va at = chunk.start;
    uint32_t used = 0;

    while (at.v < chunk.end.v && qr_cursor_find(cursor, at, &entry)) {
        uintptr_t va = qr_max_size(at.v, entry.start.v);

        at = qr_va_of(qr_entry_end(cursor->tables, &entry));
        if (entry.kind != QR_ENTRY_LEAF || (entry.leaf.flags & QR_LEAF_ACCESSED) == 0)
            continue;
        if (at.v <= range.end.v)
            qr_cursor_update(cursor, qr_va_of(va), entry.leaf.prot, 0, QR_LEAF_ACCESSED);
        for (; va < qr_min_size(at.v, range.end.v); va += QR_PAGE_SIZE)
            used |= (uint32_t)1 << ((va - range.start.v) >> QR_PAGE_SHIFT);
    }
    return used;
}

static uint32_t
mapping_age(struct qr_mapping *mapping, size_t first, size_t last, struct qr_tlb_gather *gather)
{
    struct qr_region *region = region_of_mapping(mapping);
    struct qr_va_range range = mapping_range(region, first, last);
    struct qr_va_range rest = range;
    struct qr_va_range chunk;
    struct qr_cursor cursor;
    struct qr_tlb_batch batch;
    uint32_t used = 0;

    qr_assert(last - first <= 32);
    qr_tlb_batch_init(&batch, &region->space->tlb);
    while (qr_chunk_open(&cursor, region->space, &rest, &chunk, &batch)) {
        used |= age_leaves(&cursor, chunk, range);
        qr_cursor_close(&cursor);
    }
    qr_tlb_batch_cover(&batch);
    qr_tlb_gather_add(gather, &batch);
    return used;
}

const struct qr_mapping_ops qr_region_mapping_ops = {
    .unmap = mapping_unmap,
    .clean = mapping_clean,
    .age = mapping_age,
};
