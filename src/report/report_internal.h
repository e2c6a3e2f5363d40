/* SPDX-License-Identifier: MIT */
#ifndef QR_REPORT_INTERNAL_H
#define QR_REPORT_INTERNAL_H

#include <quire/report.h>

static inline unsigned long
pages_to_kb(size_t pages)
{
    return (unsigned long)(pages << (QR_PAGE_SHIFT - 10));
}

static inline size_t
gauge(const struct qr_report *report, enum qr_counter which)
{
    return (size_t)qr_counter_read(qr_frames_counters(report->frames), which);
}

/* Of @file pages of files, the active ones: never more, whoever counts meanwhile. */
static inline size_t
active_of(const struct qr_report *report, size_t file)
{
    size_t active = gauge(report, QR_PAGES_ACTIVE_FILE);

    return active < file ? active : file;
}

/* Tables of users: those of the kernel belong to nobody. */
static inline size_t
user_tables(const struct qr_report *report, size_t tables)
{
#ifdef CONFIG_PAGING
    size_t kernel =
        report->kernel_tables == NULL
            ? 0
            : atomic_load_explicit(&report->kernel_tables->table_count, memory_order_relaxed);

    return tables > kernel ? tables - kernel : 0;
#else
    (void)report;
    return tables;
#endif
}

/* So many transparent huge pages are @pages. */
static inline size_t
pages_in_huge(const struct qr_report *report, size_t pages)
{
#ifdef CONFIG_PAGING
    size_t bytes = report->vm == NULL ? 0 : qr_vm_huge_bytes(report->vm);

    return bytes == 0 ? 0 : pages / (bytes / QR_PAGE_SIZE);
#else
    (void)report, (void)pages;
    return 0;
#endif
}

/* The other way round: pages in @count of them. */
static inline size_t
huge_to_pages(const struct qr_report *report, size_t count)
{
#ifdef CONFIG_PAGING
    return report->vm == NULL ? 0 : count * (qr_vm_huge_bytes(report->vm) / QR_PAGE_SIZE);
#else
    (void)report, (void)count;
    return 0;
#endif
}

/* The default pool of huge pages, on one node or (-1) all; zeroes where there is none. */
static inline struct qr_hugetlb_stats
hugetlb_stats(const struct qr_report *report, int node)
{
    struct qr_hugetlb_stats stats = {.total = 0};

#ifdef CONFIG_PAGING
    struct qr_hugetlb_pool *pool =
        report->hugetlb == NULL ? NULL : qr_hugetlb_find(report->hugetlb, 0);

    if (pool != NULL)
        qr_hugetlb_pool_stats(pool, node, &stats);
#else
    (void)report, (void)node;
#endif
    return stats;
}

/*
 * One line of a text of thousands: printf would cost several times as much.  What does not fit is
 * cut off; its callers know how much there can be.
 */
struct report_line {
    size_t length;
    char text[160];
};

static inline void
line_char(struct report_line *line, char c)
{
    if (line->length < sizeof(line->text))
        line->text[line->length++] = c;
}

static inline void
line_text(struct report_line *line, const char *text)
{
    while (*text != '\0')
        line_char(line, *text++);
}

/* @value in @columns, or as many as it takes; @base is a constant. */
static inline void
line_number(struct report_line *line, uint64_t value, unsigned base, unsigned columns, char fill)
{
    char digits[20];
    unsigned count = 0;

    do {
        digits[count++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    for (; columns > count; columns--)
        line_char(line, fill);
    while (count > 0)
        line_char(line, digits[--count]);
}

static inline void
line_decimal(struct report_line *line, uint64_t value, unsigned columns)
{
    line_number(line, value, 10, columns, ' ');
}

static inline void
line_hex(struct report_line *line, uint64_t value, unsigned columns)
{
    line_number(line, value, 16, columns, '0');
}

/* "NAME:", the number in 8 columns or more from the 17th on, " kB": the lines of meminfo and smaps. */
void qr_report_kb(struct qr_writer *writer, const char *name, uint64_t kb);

/* Writes one region; @context is whatever qr_report_regions() was given. */
typedef void region_write(const struct qr_report *report, const struct qr_region *region,
                          void *context, struct qr_writer *writer);

/* The regions of @space from @from on that fit into @out (report.h). */
bool qr_report_regions(const struct qr_report *report, struct qr_space *space, qr_va *from,
                       region_write *write, void *context, struct qr_buffer_writer *out);

/* Bytes of one page of @region: of its pool's, where it has one. */
size_t qr_report_page_bytes(const struct qr_region *region);

/* Pages of one node, by what they are used for. */
struct node_gauges {
    size_t anon, file, shmem, mapped, dirty, writeback, tables, slab, locked, huge, stacks;
    size_t huge_shmem, huge_mapped, active_file;
};
/*
 * Of the only node: the machine's gauges.  With several, frames are counted where they are, and
 * locked and huge pages by what the spaces map.
 */
void qr_report_node_gauges(const struct qr_report *report, unsigned node,
                           struct node_gauges *out_gauges);

/* Count the locked and huge pages that spaces map on @node (node_spaces.c). */
#ifdef CONFIG_PAGING
void qr_report_spaces_use(const struct qr_report *report, unsigned node,
                          struct node_gauges *gauges);
#else
static inline void
qr_report_spaces_use(const struct qr_report *report, unsigned node, struct node_gauges *gauges)
{
    (void)report, (void)node, (void)gauges;
}
#endif

/* The per-node lines of zoneinfo. */
void qr_report_node_stats(const struct qr_report *report, unsigned node, struct qr_writer *writer);

/* Pages of shared memory that hold something are dirty for ever. */
static inline bool
frame_is_dirty(const struct qr_frame *frame, uint32_t flags)
{
    const uint32_t stored = QR_FRAME_SHMEM | QR_FRAME_STORED;

    return (flags & QR_FRAME_DIRTY) != 0 ||
           (qr_frame_type(frame) == QR_FRAME_OBJECT && (flags & stored) == stored);
}

/* Whoever mapped it: as in Linux, it is a matter of place. */
static inline bool
region_is_heap(const struct qr_region *region)
{
    return region->object == NULL && region->start.v < region->space->brk_end.v &&
           region->end.v > region->space->brk_start.v;
}

#endif
