/* SPDX-License-Identifier: MIT */
/*
 * /proc/meminfo in the words of Linux 6.1 (fs/proc/meminfo.c for names and order).
 *
 * A line that stands for something Quire does not do is there with 0, because
 * programs look for it; free(1) and top(1) read MemTotal to Slab.
 *
 * MemAvailable: what could be had without swapping, by Linux's estimate: free
 * pages above the reserve, plus half the page cache (or all but the low mark).
 */
#include "report_internal.h"

struct memory_facts {
    struct qr_frames_stats frames;
    size_t watermark_low;
    size_t cached;
    size_t available;
};

static struct memory_facts
memory_facts(const struct qr_report *report)
{
    struct memory_facts facts = {.watermark_low = 0};

    qr_frames_stats(report->frames, &facts.frames);
    for (unsigned i = 0; i < qr_frames_zone_count(report->frames); i++) {
        struct qr_zone_stats zone;

        qr_frames_zone_stats(report->frames, i, &zone);
        facts.watermark_low += zone.watermark_low;
    }
    size_t file = gauge(report, QR_PAGES_FILE);
    size_t kept = file / 2 < facts.watermark_low ? file / 2 : facts.watermark_low;

    facts.cached = file + gauge(report, QR_PAGES_SHMEM);
    facts.available = file - kept;
    if (facts.frames.free > facts.watermark_low)
        facts.available += facts.frames.free - facts.watermark_low;
    return facts;
}

void
qr_report_kb(struct qr_writer *writer, const char *name, uint64_t kb)
{
    enum { COLUMNS = 24 };
    struct report_line line = {.length = 0};

    line_text(&line, name);
    line_text(&line, ":");
    line_decimal(&line, kb, line.length < COLUMNS ? (unsigned)(COLUMNS - line.length) : 0);
    line_text(&line, " kB\n");
    writer->emit(writer, line.text, line.length);
}

static void
line(struct qr_writer *writer, const char *name, size_t pages)
{
    qr_report_kb(writer, name, pages_to_kb(pages));
}

/* Only where some memory needs windows, as on Linux with CONFIG_HIGHMEM. */
static void
high_lines(const struct qr_report *report, const struct memory_facts *facts,
           struct qr_writer *writer)
{
    size_t total, free;

    if (!qr_frames_high_stats(report->frames, &total, &free))
        return;
    line(writer, "HighTotal", total);
    line(writer, "HighFree", free);
    line(writer, "LowTotal", facts->frames.total - total);
    line(writer, "LowFree", facts->frames.free > free ? facts->frames.free - free : 0);
}

/* The default pool, and the memory of all pools. */
static void
write_hugetlb(const struct qr_report *report, struct qr_writer *writer)
{
    struct qr_hugetlb_stats stats = hugetlb_stats(report, -1);
    unsigned count = report->hugetlb == NULL ? 0 : qr_hugetlb_count(report->hugetlb);
    size_t pages = 0;

    for (unsigned i = 0; i < count; i++) {
        struct qr_hugetlb_pool *pool = qr_hugetlb_at(report->hugetlb, i);
        struct qr_hugetlb_stats of_pool;

        qr_hugetlb_pool_stats(pool, -1, &of_pool);
        pages += of_pool.total << (qr_hugetlb_pool_shift(pool) - QR_PAGE_SHIFT);
    }
    qr_writer_printf(writer,
                     "HugePages_Total:   %5zu\nHugePages_Free:    %5zu\nHugePages_Rsvd:    %5zu\n"
                     "HugePages_Surp:    %5zu\n",
                     stats.total, stats.free, stats.reserved, stats.surplus);
    if (count > 0)
        line(writer, "Hugepagesize",
             qr_hugetlb_pool_bytes(qr_hugetlb_find(report->hugetlb, 0)) >> QR_PAGE_SHIFT);
    line(writer, "Hugetlb", pages);
}

#ifdef CONFIG_PAGING
/* How large the leaves are by which the kernel reaches all memory: DirectMap4k, DirectMap2M, DirectMap1G. */
static void
direct_lines(const struct qr_report *report, struct qr_writer *writer)
{
    struct qr_tables *tables = report->kernel_tables;
    size_t pages[QR_LEVELS_MAX] = {0};
    qr_va at = report->direct_map.start;
    struct qr_format_info info;
    struct qr_entry entry;
    char name[24];

    if (at.v == report->direct_map.end.v)
        return;
    while (at.v < report->direct_map.end.v && qr_tables_next(tables, at, &entry) &&
           entry.start.v < report->direct_map.end.v) {
        size_t bytes = (size_t)1 << qr_format_shift(tables->format, entry.level);

        if (entry.kind == QR_ENTRY_LEAF)
            pages[entry.level] += bytes >> QR_PAGE_SHIFT;
        at = qr_va_of(entry.start.v + bytes);
    }
    qr_format_info(tables->format, &info);
    for (unsigned level = 0; level < info.levels; level++) {
        unsigned shift = qr_format_shift(tables->format, level);

        if ((info.leaf_levels >> level & 1) == 0)
            continue;
        qr_format(name, sizeof(name), "DirectMap%lu%c", 1ul << shift % 10,
                  shift < 20   ? 'k'
                  : shift < 30 ? 'M'
                               : 'G');
        line(writer, name, pages[level]);
    }
}
#else
static void
direct_lines(const struct qr_report *report, struct qr_writer *writer)
{
    (void)report, (void)writer;
}
#endif

void
qr_report_meminfo(const struct qr_report *report, struct qr_writer *writer)
{
    struct memory_facts facts = memory_facts(report);
    size_t vmalloc_bytes = 0;
    size_t anon = gauge(report, QR_PAGES_ANON);
    size_t shmem = gauge(report, QR_PAGES_SHMEM);
    size_t file = gauge(report, QR_PAGES_FILE);
    size_t active = active_of(report, file);
    size_t slab = gauge(report, QR_PAGES_SLAB);
    size_t locked = gauge(report, QR_PAGES_LOCKED);
    struct qr_swap_stats swap = {.pages = 0};

    if (report->swap != NULL)
        qr_swap_stats(report->swap, &swap);

    for (unsigned i = 0; i < QR_REPORT_VMALLOC_MAX && report->vmalloc[i] != NULL; i++) {
        struct qr_vmalloc_stats area;

        qr_vmalloc_stats(report->vmalloc[i], &area);
        vmalloc_bytes += area.range_bytes;
    }
    line(writer, "MemTotal", facts.frames.total);
    line(writer, "MemFree", facts.frames.free);
    line(writer, "MemAvailable", facts.available);
    line(writer, "Buffers", 0);
    line(writer, "Cached", facts.cached);
    line(writer, "SwapCached", gauge(report, QR_PAGES_SWAP_CACHED));
    line(writer, "Active", anon + shmem + active);
    line(writer, "Inactive", file - active);
    line(writer, "Active(anon)", anon + shmem);
    line(writer, "Inactive(anon)", 0);
    line(writer, "Active(file)", active);
    line(writer, "Inactive(file)", file - active);
    line(writer, "Unevictable", locked);
    line(writer, "Mlocked", locked);
    high_lines(report, &facts, writer);
    line(writer, "SwapTotal", swap.pages);
    line(writer, "SwapFree", swap.pages - swap.used);
    line(writer, "Dirty", gauge(report, QR_PAGES_DIRTY));
    line(writer, "Writeback", gauge(report, QR_PAGES_WRITEBACK));
    line(writer, "AnonPages", anon);
    line(writer, "Mapped", gauge(report, QR_PAGES_MAPPED));
    line(writer, "Shmem", shmem);
    line(writer, "KReclaimable", 0);
    line(writer, "Slab", slab);
    line(writer, "SReclaimable", 0);
    line(writer, "SUnreclaim", slab);
    line(writer, "KernelStack", gauge(report, QR_PAGES_STACK));
    line(writer, "PageTables", user_tables(report, gauge(report, QR_PAGES_TABLE)));
    line(writer, "SecPageTables", 0);
    line(writer, "NFS_Unstable", 0);
    line(writer, "Bounce", 0);
    line(writer, "WritebackTmp", 0);
    line(writer, "CommitLimit", report->vm == NULL ? 0 : qr_vm_commit_limit(report->vm));
    line(writer, "Committed_AS", gauge(report, QR_PAGES_COMMITTED));
    line(writer, "VmallocTotal", vmalloc_bytes >> QR_PAGE_SHIFT);
    line(writer, "VmallocUsed", gauge(report, QR_PAGES_VMALLOC));
    line(writer, "VmallocChunk", 0);
    line(writer, "Percpu", 0);
    line(writer, "HardwareCorrupted", gauge(report, QR_PAGES_CORRUPTED));
    line(writer, "AnonHugePages", gauge(report, QR_PAGES_HUGE_ANON));
    line(writer, "ShmemHugePages", gauge(report, QR_PAGES_THP_SHMEM));
    line(writer, "ShmemPmdMapped", gauge(report, QR_PAGES_THP_MAPS));
    line(writer, "FileHugePages", 0);
    line(writer, "FilePmdMapped", 0);
    write_hugetlb(report, writer);
    direct_lines(report, writer);
}
