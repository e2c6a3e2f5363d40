/* SPDX-License-Identifier: MIT */
/*
 * Frames one by one, a 64-bit word each: /proc/kpagecount and /proc/kpageflags.
 *
 * Linux: Documentation/admin-guide/mm/pagemap.rst and include/uapi/linux/kernel-page-flags.h.
 * Bits of what Quire does not have (poison) are never set.
 */
#include "report_internal.h"

enum page_flag {
    KPF_LOCKED = 0,
    KPF_ERROR = 1,
    KPF_REFERENCED = 2,
    KPF_UPTODATE = 3,
    KPF_DIRTY = 4,
    KPF_LRU = 5,
    KPF_ACTIVE = 6,
    KPF_SLAB = 7,
    KPF_WRITEBACK = 8,
    KPF_BUDDY = 10,
    KPF_MMAP = 11,
    KPF_ANON = 12,
    KPF_SWAPCACHE = 13,
    KPF_SWAPBACKED = 14,
    KPF_COMPOUND_HEAD = 15,
    KPF_COMPOUND_TAIL = 16,
    KPF_HUGE = 17,
    KPF_UNEVICTABLE = 18,
    KPF_NOPAGE = 20,
    KPF_KSM = 21,
    KPF_PGTABLE = 26,
    KPF_RESERVED = 32,
};

#define BIT(flag) ((uint64_t)1 << (flag))

/* What a frame's own flags say, for those of users and files. */
static const struct {
    uint32_t ours;
    uint64_t theirs;
} translated[] = {
    {QR_FRAME_LOCKED, BIT(KPF_LOCKED)},         {QR_FRAME_ERROR, BIT(KPF_ERROR)},
    {QR_FRAME_REFERENCED, BIT(KPF_REFERENCED)}, {QR_FRAME_UPTODATE, BIT(KPF_UPTODATE)},
    {QR_FRAME_DIRTY, BIT(KPF_DIRTY)},           {QR_FRAME_ACTIVE, BIT(KPF_ACTIVE)},
    {QR_FRAME_WRITEBACK, BIT(KPF_WRITEBACK)},   {QR_FRAME_MLOCKED, BIT(KPF_UNEVICTABLE)},
    {QR_FRAME_SHMEM, BIT(KPF_SWAPBACKED)},
};

static uint64_t
flags_of_user_frame(const struct qr_frame *frame)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    uint64_t word = BIT(KPF_LRU);

    for (size_t i = 0; i < QR_ARRAY_COUNT(translated); i++)
        word |= (flags & translated[i].ours) != 0 ? translated[i].theirs : 0;
    word |= frame_is_dirty(frame, flags) ? BIT(KPF_DIRTY) : 0;
    if (qr_frame_is_private(frame))
        word |= BIT(KPF_ANON) | BIT(KPF_SWAPBACKED) | BIT(KPF_UPTODATE);
    if (qr_frame_type(frame) == QR_FRAME_MERGED)
        word |= BIT(KPF_KSM);
    if (qr_frame_type(frame) == QR_FRAME_SWAP)
        word |= BIT(KPF_SWAPCACHE);
    if (atomic_load_explicit(&frame->maps, memory_order_relaxed) > 0)
        word |= BIT(KPF_MMAP);
    return word;
}

/* Of a pool's page.  Transparent ones are single frames (docs/decisions/0009) and say nothing of it. */
static uint64_t
flags_of_huge_frame(const struct qr_frame *frame)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    bool head = (flags & QR_FRAME_BLOCK) != 0;

    return BIT(KPF_HUGE) | (head ? BIT(KPF_COMPOUND_HEAD) : BIT(KPF_COMPOUND_TAIL));
}

static uint64_t
flags_word(const struct qr_frame *frame)
{
    if (frame == NULL)
        return BIT(KPF_NOPAGE);
    switch (qr_frame_type(frame)) {
    case QR_FRAME_NONE:
        return BIT(KPF_NOPAGE);
    case QR_FRAME_RESERVED:
        return BIT(KPF_RESERVED);
    case QR_FRAME_FREE:
        return BIT(KPF_BUDDY);
    case QR_FRAME_SLAB:
        return BIT(KPF_SLAB);
    case QR_FRAME_TABLE:
        return BIT(KPF_PGTABLE);
    case QR_FRAME_ANON:
    case QR_FRAME_MERGED:
    case QR_FRAME_SWAP:
    case QR_FRAME_OBJECT:
        return flags_of_user_frame(frame);
    case QR_FRAME_HUGE:
        return flags_of_huge_frame(frame);
    default:
        return 0;
    }
}

static uint64_t
count_word(const struct qr_frame *frame)
{
    if (frame == NULL || (!qr_frame_is_private(frame) && qr_frame_type(frame) != QR_FRAME_OBJECT))
        return 0;
    return atomic_load_explicit(&frame->maps, memory_order_relaxed);
}

static void
fill(const struct qr_report *report, uint64_t first, size_t count, uint64_t *out,
     uint64_t (*word)(const struct qr_frame *frame))
{
    for (size_t i = 0; i < count; i++)
        out[i] = word(qr_frame_find(report->frames, (qr_pfn){(size_t)(first + i)}));
}

void
qr_report_frame_counts(const struct qr_report *report, uint64_t first, size_t count, uint64_t *out)
{
    fill(report, first, count, out, count_word);
}

void
qr_report_frame_flags(const struct qr_report *report, uint64_t first, size_t count, uint64_t *out)
{
    fill(report, first, count, out, flags_word);
}

uint64_t
qr_report_frame_end(const struct qr_report *report)
{
    struct qr_memory_range range;
    uint64_t end = 0;

    for (size_t i = 0; qr_frames_map_entry(report->frames, i, &range); i++) {
        uint64_t here = range.range.end.v >> QR_PAGE_SHIFT;

        if (range.kind == QR_MEMORY_USABLE && here > end)
            end = here;
    }
    return end;
}
