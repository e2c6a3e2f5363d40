/* SPDX-License-Identifier: MIT */
/*
 * Runs of any length, alignment and place.
 *
 * The common request (no address limits, alignment no larger than its size) takes a
 * block of the next power of two and gives the tail straight back.  Where there is none,
 * or the request says where, a scan over the zone looks for free frames side by side,
 * across blocks.  It holds the zone lock for one section at a time and takes the run
 * under that same lock, so what it found cannot go away; a run found by the scan
 * therefore lies inside one section.
 */
#include "frames.h"

static unsigned
order_of(size_t count)
{
    unsigned order = 0;

    while (order <= QR_ORDER_MAX && ((size_t)1 << order) < count)
        order++;
    return order;
}

/* ---- scanning ----------------------------------------------------------- */

/* What a scan looks for and how far it is, in frame numbers. */
struct scan {
    size_t count, align;
    size_t end;           /* one past the last frame that may be used */
    size_t run_start, at; /* [run_start, at) is free */
};

/* [from, to) is free too: @return whether the run is now long enough, aligned. */
static bool
scan_free(struct scan *scan, size_t from, size_t to)
{
    if (scan->at != from)
        scan->run_start = from;
    scan->at = to < scan->end ? to : scan->end;
    if (scan->at <= scan->run_start)
        return false;

    size_t start = (scan->run_start + scan->align - 1) & ~(scan->align - 1);

    if (start < scan->run_start || start >= scan->at || scan->at - start < scan->count)
        return false;
    scan->run_start = start;
    return true;
}

/* The free frames of an OPEN block from @bit on. */
static bool
scan_rows(struct scan *scan, const struct frame_rows *rows, size_t first_pfn, unsigned bit)
{
    while (bit < BLOCK_FRAMES) {
        uint64_t row = rows->row[bit / ROW_FRAMES] >> (bit % ROW_FRAMES);
        unsigned left = ROW_FRAMES - bit % ROW_FRAMES;

        if (row == 0) {
            bit += left;
            continue;
        }
        unsigned skip = (unsigned)__builtin_ctzll(row);
        uint64_t used = ~(row >> skip);
        unsigned run = used == 0 ? ROW_FRAMES : (unsigned)__builtin_ctzll(used);

        run = run < left - skip ? run : left - skip;
        bit += skip;
        if (scan_free(scan, first_pfn + bit, first_pfn + bit + run))
            return true;
        bit += run;
    }
    return false;
}

/*
 * Look at what stands at frame @pfn.
 * @return where to look next; *out_found where the run is complete
 */
static size_t
scan_block(struct qr_frames *frames, const struct frame_zone *zone, struct scan *scan, size_t pfn,
           bool *out_found)
{
    uint32_t block = (uint32_t)(pfn / BLOCK_FRAMES);
    size_t first = (size_t)block * BLOCK_FRAMES;
    const struct frame_block *record = qr_block_find(frames, block);

    if (record == NULL || record->zone != zone->index || record->state == BLOCK_ABSENT)
        return first + BLOCK_FRAMES;
    if (record->state == BLOCK_OPEN) {
        if (!record->isolated)
            *out_found = scan_rows(scan, qr_rows_of(frames, block), first, (unsigned)(pfn - first));
        return first + BLOCK_FRAMES;
    }
    uint32_t head = qr_zone_head_of(frames, block);

    qr_assert(head != BLOCK_NONE);
    size_t next = (size_t)head * BLOCK_FRAMES + ((size_t)1 << qr_block_of(frames, head)->order);

    if (qr_block_of(frames, head)->state == BLOCK_FREE)
        *out_found = scan_free(scan, pfn, next);
    return next;
}

/* The run in [first, end) of one section, taken; NULL where there is none. */
static struct qr_frame *
section_scan(struct qr_frames *frames, struct frame_zone *zone, struct scan scan, size_t first,
             enum qr_zone_kind kind, unsigned alloc_flags)
{
    struct qr_frame *frame = NULL;
    bool found = false;

    if (qr_section_ready(frames, first >> frames->section_shift) == NULL)
        return NULL;
    qr_spin_lock(&zone->lock);
    if (qr_zone_allowance(zone, kind, alloc_flags) >= scan.count) {
        for (size_t pfn = first; pfn < scan.end && !found;)
            pfn = scan_block(frames, zone, &scan, pfn, &found);
    }
    if (found) {
        qr_zone_take_exact(frames, zone, scan.run_start, scan.count);
        qr_frames_used_add(frames, zone, scan.count);
        frame = qr_frame_of(frames, qr_pfn_of(scan.run_start));
    }
    qr_spin_unlock(&zone->lock);
    return frame;
}

static struct qr_frame *
zone_scan(struct qr_frames *frames, struct frame_zone *zone,
          const struct qr_contiguous_request *request, enum qr_zone_kind kind)
{
    uint64_t low = (request->within.start.v >> QR_PAGE_SHIFT) +
                   ((request->within.start.v & QR_PAGE_MASK) != 0);
    uint64_t high = request->within.end.v >> QR_PAGE_SHIFT;

    if (request->within.start.v == request->within.end.v)
        high = UINT64_MAX;
    size_t pfn = low > zone->start_pfn ? (size_t)low : zone->start_pfn;
    size_t end = high < zone->end_pfn ? (size_t)high : zone->end_pfn;

    while (pfn < end) {
        size_t stop = ((pfn >> frames->section_shift) + 1) << frames->section_shift;
        struct scan scan = {
            .count = request->count,
            .align = request->align_frames > 1 ? request->align_frames : 1,
            .end = stop < end ? stop : end,
        };
        struct qr_frame *frame = section_scan(frames, zone, scan, pfn, kind, request->alloc_flags);

        if (frame != NULL)
            return frame;
        pfn = stop;
    }
    return NULL;
}

/* ---- the two ways ------------------------------------------------------- */

/* Frames [first, first + count) of OPEN blocks, taken just now, go back unused. */
static void
give_back(struct qr_frames *frames, struct frame_zone *zone, size_t first, size_t count)
{
    for (size_t pfn = first; pfn < first + count;) {
        unsigned bit = (unsigned)(pfn % BLOCK_FRAMES);
        size_t left = first + count - pfn;
        unsigned here = left < BLOCK_FRAMES - bit ? (unsigned)left : BLOCK_FRAMES - bit;

        for (unsigned r = bit / ROW_FRAMES; r <= (bit + here - 1) / ROW_FRAMES; r++)
            qr_zone_give_row(frames, zone, (uint32_t)(pfn / BLOCK_FRAMES), r,
                             qr_row_mask(r, bit, here));
        pfn += here;
    }
}

/* From a block of 2^order frames; the tail beyond the request stays with the zone. */
static struct qr_frame *
zone_cut(struct qr_frames *frames, struct frame_zone *zone,
         const struct qr_contiguous_request *request, enum qr_zone_kind kind)
{
    unsigned order = order_of(request->count);
    struct qr_frame *head = NULL;

    if (order > QR_ORDER_MAX || request->align_frames > (size_t)1 << order)
        return NULL;
    qr_spin_lock(&zone->lock);
    if (qr_zone_allowance(zone, kind, request->alloc_flags) >= request->count)
        head = qr_zone_take_run(frames, zone, qr_block_class(request->alloc_flags), order);
    if (head != NULL) {
        size_t pfn = qr_frame_pfn(frames, head).v;

        if (order >= BLOCK_ORDER)
            qr_zone_split_taken(frames, zone, (uint32_t)(pfn / BLOCK_FRAMES));
        give_back(frames, zone, pfn + request->count, ((size_t)1 << order) - request->count);
        qr_frames_used_add(frames, zone, request->count);
    }
    qr_spin_unlock(&zone->lock);
    return head;
}

static struct qr_frame *
zones_take(struct qr_frames *frames, const struct qr_contiguous_request *request)
{
    enum qr_zone_kind kind = qr_alloc_kind(frames, request->alloc_flags);
    bool anywhere = request->within.start.v == request->within.end.v;
    const struct zone_choice choice = {.node = qr_this_node()};
    struct frame_zone *zone;
    unsigned at = 0;

    while ((zone = qr_zone_next(frames, &choice, kind, &at)) != NULL) {
        struct qr_frame *head = anywhere ? zone_cut(frames, zone, request, kind) : NULL;

        if (head == NULL)
            head = zone_scan(frames, zone, request, kind);
        if (head != NULL) {
            qr_numa_note(frames, zone, &choice, kind, request->count);
            qr_background_wake(frames, zone);
            return head;
        }
    }
    return NULL;
}

struct qr_frame *
qr_frame_alloc_contiguous(struct qr_frames *frames, const struct qr_contiguous_request *request)
{
    struct qr_frame *head;
    unsigned attempt = 0;

    qr_assert((request->align_frames & (request->align_frames - 1)) == 0);
    if (request->count == 0 || qr_alloc_refused(frames))
        return NULL;
    do {
        head = zones_take(frames, request);
    } while (head == NULL &&
             qr_alloc_retry(frames, request->count, request->alloc_flags, &attempt));
    if (head == NULL) {
        qr_alloc_failed(frames, request->count, request->alloc_flags);
        return NULL;
    }
    qr_counter_add(frames->counters, QR_EVENT_ALLOC, (long)request->count);

    size_t first = qr_frame_pfn(frames, head).v;

    for (size_t i = 0; i < request->count; i++)
        (void)qr_frame_hand_out(frames, qr_frame_of(frames, qr_pfn_of(first + i)), 0,
                                request->alloc_flags);
    return head;
}
