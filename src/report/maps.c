/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/maps, smaps, smaps_rollup, statm, the memory lines of status, and
 * pagemap (Linux: fs/proc/task_mmu.c for the layouts).
 *
 * smaps looks at every entry of a region.  A frame counts as shared when more
 * than one table entry maps it; each mapping's proportional share (Pss) is the
 * page divided by their number, kept in 1/4096 of a byte so that sums round once.
 */
#include "report_internal.h"
#include "space/swap.h"

/* ---- maps ----------------------------------------------------------------- */

bool
qr_report_regions(const struct qr_report *report, struct qr_space *space, qr_va *from,
                  region_write *write, void *context, struct qr_buffer_writer *out)
{
    struct qr_region *region;

    qr_rw_read_lock(&space->lock);
    for (region = qr_space_find(space, *from); region != NULL; region = qr_region_next(region)) {
        size_t before = out->length;

        write(report, region, context, &out->writer);
        if (out->length >= out->capacity) { /* it was cut off */
            out->length = before;
            out->buffer[before] = '\0';
            break;
        }
        *from = region->end;
    }
    qr_rw_read_unlock(&space->lock);
    return region != NULL;
}

/* The name starts here on 64-bit Linux: 25 + 6 * sizeof(void *). */
#define NAME_COLUMN (25 + 6 * sizeof(void *))

static void
line_to_name(struct report_line *line)
{
    while (line->length < NAME_COLUMN)
        line_char(line, ' ');
}

static const char *
region_fixed_name(const struct qr_region *region)
{
    if ((region->flags & QR_REGION_VDSO) != 0)
        return "[vdso]";
    if (region_is_heap(region))
        return "[heap]";
    if ((region->flags & QR_REGION_STACK) != 0)
        return "[stack]";
    if (region->file == NULL && region->object != NULL && qr_object_is_memory(region->object))
        return "/dev/zero (deleted)";
    return NULL;
}

/* The name of a file, kept until the numbers before it are written. */
struct file_name {
    struct qr_buffer_writer writer;
    char text[256];
};

static void
write_region(const struct qr_report *report, const struct qr_region *region, void *context,
             struct qr_writer *writer)
{
    struct report_line line = {.length = 0};
    struct qr_report_file file = {0, 0, 0};
    struct file_name name;
    const char *fixed = region_fixed_name(region);

    (void)context;
    qr_buffer_writer_init(&name.writer, name.text, sizeof(name.text));
    if (region->file != NULL && report->describe_file != NULL)
        report->describe_file(region->file, &file, &name.writer.writer);
    if (fixed == NULL && name.writer.length > 0)
        fixed = name.text;
    line_hex(&line, region->start.v, 8);
    line_char(&line, '-');
    line_hex(&line, region->end.v, 8);
    line_char(&line, ' ');
    line_char(&line, (region->prot & QR_PROT_READ) != 0 ? 'r' : '-');
    line_char(&line, (region->prot & QR_PROT_WRITE) != 0 ? 'w' : '-');
    line_char(&line, (region->prot & QR_PROT_EXEC) != 0 ? 'x' : '-');
    line_char(&line, (region->flags & QR_REGION_SHARED) != 0 ? 's' : 'p');
    line_char(&line, ' ');
    line_hex(&line, (uint64_t)region->object_page << QR_PAGE_SHIFT, 8);
    line_char(&line, ' ');
    line_hex(&line, file.device_major, 2);
    line_char(&line, ':');
    line_hex(&line, file.device_minor, 2);
    line_char(&line, ' ');
    line_decimal(&line, file.inode, 0);
    line_char(&line, ' ');
    if (fixed == NULL)
        line_char(&line, '\n');
    else
        line_to_name(&line);
    writer->emit(writer, line.text, line.length);
    if (fixed != NULL)
        qr_writer_printf(writer, "%s\n", fixed);
}

bool
qr_report_maps(const struct qr_report *report, struct qr_space *space, qr_va *from,
               struct qr_buffer_writer *out)
{
    return qr_report_regions(report, space, from, write_region, NULL, out);
}

/* ---- smaps ---------------------------------------------------------------- */

/* Bytes, but for pss, pss_* and swap_pss: in 1/4096 bytes.  swap: of objects; swap_own: private memory. */
struct usage {
    size_t size, rss, shared_clean, shared_dirty, private_clean, private_dirty;
    size_t referenced, anonymous, lazy, huge, swap, swap_own, locked;
    size_t huge_shmem, shared_hugetlb, private_hugetlb;
    uint64_t pss, pss_dirty, pss_anon, pss_file, pss_shmem, swap_pss;
};

size_t
qr_report_page_bytes(const struct qr_region *region)
{
    if ((region->flags & QR_REGION_HUGETLB) == 0)
        return QR_PAGE_SIZE;
    return qr_hugetlb_pool_bytes(qr_object_hugetlb_pool(region->object));
}

static void
usage_add_page(struct usage *usage, struct qr_frames *frames, const struct qr_leaf *leaf,
               size_t offset)
{
    const size_t bytes = QR_PAGE_SIZE;
    struct qr_frame *frame = qr_frame_find(frames, qr_pa_to_pfn(qr_pa_of(leaf->pa.v + offset)));

    /* The shared zero frame and device memory belong to nobody. */
    if (frame == NULL || (!qr_frame_is_private(frame) && qr_frame_type(frame) != QR_FRAME_OBJECT))
        return;
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);
    uint32_t maps = atomic_load_explicit(&frame->maps, memory_order_relaxed);
    bool dirty = (leaf->flags & QR_LEAF_DIRTY) != 0 || frame_is_dirty(frame, flags);
    uint64_t share = ((uint64_t)bytes << 12) / (maps > 0 ? maps : 1);

    usage->rss += bytes;
    usage->pss += share;
    usage->pss_dirty += dirty ? share : 0;
    if (maps > 1)
        *(dirty ? &usage->shared_dirty : &usage->shared_clean) += bytes;
    else
        *(dirty ? &usage->private_dirty : &usage->private_clean) += bytes;
    if ((leaf->flags & QR_LEAF_ACCESSED) != 0)
        usage->referenced += bytes;
    if (qr_frame_type(frame) == QR_FRAME_OBJECT)
        *((flags & QR_FRAME_SHMEM) != 0 ? &usage->pss_shmem : &usage->pss_file) += share;
    if (qr_frame_is_private(frame)) {
        usage->pss_anon += share;
        usage->anonymous += bytes;
        usage->lazy += (flags & QR_FRAME_LAZY) != 0 && !dirty ? bytes : 0;
        usage->huge += leaf->level > 0 ? bytes : 0;
    } else {
        usage->huge_shmem += leaf->level > 0 ? bytes : 0;
    }
}

/* Huge pages of a pool are in no other sum, as in Linux. */
static void
usage_add_hugetlb(struct usage *usage, struct qr_frames *frames, const struct qr_leaf *leaf,
                  size_t bytes)
{
    const struct qr_frame *head = qr_frame_find(frames, qr_pa_to_pfn(leaf->pa));
    uint32_t maps = atomic_load_explicit(&head->maps, memory_order_relaxed);

    *(maps > 1 ? &usage->shared_hugetlb : &usage->private_hugetlb) += bytes;
}

/*
 * What of a region's object is in swap, as Linux has it: of a shared mapping, or one that cannot be written to, all that
 * it shows; else what it has no page of its own for, which is what @gap pages before an entry are asked for.
 */
static size_t
region_swapped(const struct qr_region *region, struct qr_va_range gap)
{
    size_t first = qr_region_object_page(region, gap.start);

    return qr_object_count_swapped(region->object, first, first + qr_va_range_pages(gap))
           << QR_PAGE_SHIFT;
}

static bool
region_may_be_swapped(const struct qr_region *region)
{
    return region->object != NULL &&
           (region->flags & (QR_REGION_HUGETLB | QR_REGION_DEVICE)) == 0 &&
           qr_object_swapped(region->object) != 0;
}

static struct usage
region_usage(const struct qr_region *region)
{
    struct qr_tables *tables = &region->space->tables;
    struct usage usage = {.size = region->end.v - region->start.v};
    struct qr_entry entry;
    qr_va at = region->start;
    bool whole = (region->flags & QR_REGION_SHARED) != 0 || (region->prot & QR_PROT_WRITE) == 0;
    bool gaps = region_may_be_swapped(region);

    while (at.v < region->end.v && qr_tables_next(tables, at, &entry) &&
           entry.start.v < region->end.v) {
        if (gaps && !whole && entry.start.v > at.v)
            usage.swap += region_swapped(region, qr_range_of(at.v, entry.start.v));
        size_t bytes = (size_t)1 << qr_format_shift(tables->format, entry.level);

        /* The pages of a large leaf may have different numbers of sharers. */
        bool hugetlb = (region->flags & QR_REGION_HUGETLB) != 0;

        if (hugetlb) /* which may take several leaves */
            bytes = qr_report_page_bytes(region);
        if (entry.kind == QR_ENTRY_LEAF && hugetlb)
            usage_add_hugetlb(&usage, tables->frames, &entry.leaf, bytes);
        for (size_t at_page = 0; entry.kind == QR_ENTRY_LEAF && !hugetlb && at_page < bytes;
             at_page += QR_PAGE_SIZE)
            usage_add_page(&usage, tables->frames, &entry.leaf, at_page);
        if (qr_entry_is_swap(&entry)) {
            usage.swap_own += bytes;
            usage.swap_pss += ((uint64_t)bytes << 12) / qr_swap_sharers(region->space, &entry);
        }
        at = qr_va_of(entry.start.v + bytes);
    }
    if (gaps && (whole || at.v < region->end.v))
        usage.swap +=
            region_swapped(region, qr_range_of(whole ? region->start.v : at.v, region->end.v));
    if ((region->flags & QR_REGION_LOCKED) != 0)
        usage.locked = (size_t)(usage.pss >> 12);
    return usage;
}

static void
usage_add(struct usage *sum, const struct usage *usage)
{
    sum->size += usage->size;
    sum->rss += usage->rss;
    sum->shared_clean += usage->shared_clean;
    sum->shared_dirty += usage->shared_dirty;
    sum->private_clean += usage->private_clean;
    sum->private_dirty += usage->private_dirty;
    sum->referenced += usage->referenced;
    sum->anonymous += usage->anonymous;
    sum->lazy += usage->lazy;
    sum->huge += usage->huge;
    sum->huge_shmem += usage->huge_shmem;
    sum->swap += usage->swap;
    sum->swap_own += usage->swap_own;
    sum->swap_pss += usage->swap_pss;
    sum->locked += usage->locked;
    sum->shared_hugetlb += usage->shared_hugetlb;
    sum->private_hugetlb += usage->private_hugetlb;
    sum->pss += usage->pss;
    sum->pss_dirty += usage->pss_dirty;
    sum->pss_anon += usage->pss_anon;
    sum->pss_file += usage->pss_file;
    sum->pss_shmem += usage->pss_shmem;
}

static void
kb_line(struct qr_writer *writer, const char *name, uint64_t bytes)
{
    qr_report_kb(writer, name, bytes >> 10);
}

/* @sum: of several regions; then Linux says of which kinds. */
static void
write_usage(struct qr_writer *writer, const struct usage *usage, bool sum)
{
    kb_line(writer, "Rss", usage->rss);
    kb_line(writer, "Pss", usage->pss >> 12);
    kb_line(writer, "Pss_Dirty", usage->pss_dirty >> 12);
    if (sum) {
        kb_line(writer, "Pss_Anon", usage->pss_anon >> 12);
        kb_line(writer, "Pss_File", usage->pss_file >> 12);
        kb_line(writer, "Pss_Shmem", usage->pss_shmem >> 12);
    }
    kb_line(writer, "Shared_Clean", usage->shared_clean);
    kb_line(writer, "Shared_Dirty", usage->shared_dirty);
    kb_line(writer, "Private_Clean", usage->private_clean);
    kb_line(writer, "Private_Dirty", usage->private_dirty);
    kb_line(writer, "Referenced", usage->referenced);
    kb_line(writer, "Anonymous", usage->anonymous);
    kb_line(writer, "LazyFree", usage->lazy);
    kb_line(writer, "AnonHugePages", usage->huge);
    kb_line(writer, "ShmemPmdMapped", usage->huge_shmem);
    kb_line(writer, "FilePmdMapped", 0);
    kb_line(writer, "Shared_Hugetlb", usage->shared_hugetlb);
    kb_line(writer, "Private_Hugetlb", usage->private_hugetlb);
    kb_line(writer, "Swap", usage->swap + usage->swap_own);
    kb_line(writer, "SwapPss", usage->swap_pss >> 12); /* without shared memory's, as in Linux */
    kb_line(writer, "Locked", usage->locked);
}

/* In the order of Linux's bits. */
static const struct {
    unsigned bit;
    char name[3];
} flag_names[] = {
    {QR_REGION_GROWS_DOWN, "gd"},  {QR_REGION_WATCH_MISSING, "um"},
    {QR_REGION_DEVICE, "pf"},      {QR_REGION_WATCH_WRITE, "uw"},
    {QR_REGION_LOCKED, "lo"},      {QR_REGION_SEQUENTIAL, "sr"},
    {QR_REGION_RANDOM, "rr"},      {QR_REGION_DONT_FORK, "dc"},
    {QR_REGION_HUGETLB, "de"},     {QR_REGION_LOCKED_ON_FAULT, "lf"},
    {QR_REGION_ACCOUNTED, "ac"},   {QR_REGION_NO_RESERVE, "nr"},
    {QR_REGION_HUGETLB, "ht"},     {QR_REGION_WIPE_ON_FORK, "wf"},
    {QR_REGION_DONT_DUMP, "dd"},   {QR_REGION_HUGE, "hg"},
    {QR_REGION_NO_HUGE, "nh"},     {QR_REGION_MERGEABLE, "mg"},
    {QR_REGION_WATCH_MINOR, "ui"}, {QR_REGION_DROPPABLE, "dp"},
    {QR_REGION_SEALED, "sl"},
};

static void
add_flag(struct report_line *line, const char *name, bool set)
{
    if (!set)
        return;
    line_text(line, name);
    line_char(line, ' ');
}

static void
write_flags(const struct qr_report *report, struct qr_writer *writer,
            const struct qr_region *region)
{
    bool shared = (region->flags & QR_REGION_SHARED) != 0;
    bool may_write = (region->max_prot & QR_PROT_WRITE) != 0;
    bool open_to_write = may_write || (region->file != NULL && report->file_is_writable != NULL &&
                                       report->file_is_writable(region->file));

    struct report_line line = {.length = 0};

    line_text(&line, "VmFlags: ");
    add_flag(&line, "rd", (region->prot & QR_PROT_READ) != 0);
    add_flag(&line, "wr", (region->prot & QR_PROT_WRITE) != 0);
    add_flag(&line, "ex", (region->prot & QR_PROT_EXEC) != 0);
    add_flag(&line, "sh", shared && open_to_write);
    add_flag(&line, "mr", (region->max_prot & QR_PROT_READ) != 0);
    add_flag(&line, "mw", may_write);
    add_flag(&line, "me", (region->max_prot & QR_PROT_EXEC) != 0);
    add_flag(&line, "ms", shared);
    for (size_t i = 0; i < QR_ARRAY_COUNT(flag_names); i++) {
        add_flag(&line, flag_names[i].name, (region->flags & flag_names[i].bit) != 0);
        if (flag_names[i].bit == QR_REGION_DONT_DUMP)
            add_flag(&line, "sd", (region->flags & QR_REGION_TRACKED) == 0);
    }
    line_char(&line, '\n');
    writer->emit(writer, line.text, line.length);
}

static void
write_region_usage(const struct qr_report *report, const struct qr_region *region, void *context,
                   struct qr_writer *writer)
{
    struct usage usage = region_usage(region);

    write_region(report, region, context, writer);
    kb_line(writer, "Size", usage.size);
    kb_line(writer, "KernelPageSize", qr_report_page_bytes(region));
    kb_line(writer, "MMUPageSize", qr_report_page_bytes(region));
    write_usage(writer, &usage, false);
    qr_writer_printf(writer, "THPeligible:    %d\n", qr_region_is_huge_eligible(region));
    if (report->protection_keys)
        qr_writer_printf(writer, "ProtectionKey:  %8u\n", region->pkey);
    write_flags(report, writer, region);
}

bool
qr_report_smaps(const struct qr_report *report, struct qr_space *space, qr_va *from,
                struct qr_buffer_writer *out)
{
    return qr_report_regions(report, space, from, write_region_usage, NULL, out);
}

void
qr_report_smaps_rollup(const struct qr_report *report, struct qr_space *space,
                       struct qr_writer *writer)
{
    struct usage sum = {.size = 0};
    struct qr_va_range extent = {{0}, {0}};

    (void)report;
    qr_rw_read_lock(&space->lock);
    for (struct qr_region *region = qr_space_find(space, qr_va_of(0)); region != NULL;
         region = qr_region_next(region)) {
        struct usage usage = region_usage(region);

        usage_add(&sum, &usage);
        if (extent.end.v == 0)
            extent.start = region->start;
        extent.end = region->end;
    }
    qr_rw_read_unlock(&space->lock);

    struct report_line line = {.length = 0};

    line_hex(&line, extent.start.v, 8);
    line_char(&line, '-');
    line_hex(&line, extent.end.v, 8);
    line_text(&line, " ---p 00000000 00:00 0 ");
    line_to_name(&line);
    line_text(&line, "[rollup]\n");
    writer->emit(writer, line.text, line.length);
    write_usage(writer, &sum, true);
}

/* ---- statm, status --------------------------------------------------------- */

/* Of what may be executed, the program's own; the rest is libraries'. */
static size_t
code_pages(const struct qr_space *space, const struct qr_space_counts *counts)
{
    return space->code_pages < counts->exec_pages ? space->code_pages : counts->exec_pages;
}

void
qr_report_statm(struct qr_space *space, struct qr_writer *writer)
{
    struct qr_space_counts counts;

    qr_space_counts(space, &counts);
    size_t shared = counts.resident_file + counts.resident_shmem;
    size_t code = code_pages(space, &counts);

    qr_writer_printf(writer, "%zu %zu %zu %zu 0 %zu 0\n", counts.virtual_pages,
                     counts.resident_anon + shared, shared, code,
                     counts.data_pages + counts.stack_pages);
}

static void
status_line(struct qr_writer *writer, const char *name, size_t pages)
{
    qr_writer_printf(writer, "%s:\t%8lu kB\n", name, pages_to_kb(pages));
}

void
qr_report_status(struct qr_space *space, struct qr_writer *writer)
{
    struct qr_space_counts counts;

    qr_space_counts(space, &counts);
    size_t code = code_pages(space, &counts);

    status_line(writer, "VmPeak", counts.peak_virtual_pages);
    status_line(writer, "VmSize", counts.virtual_pages);
    status_line(writer, "VmLck", counts.locked_pages);
    status_line(writer, "VmPin", 0);
    status_line(writer, "VmHWM", counts.peak_resident);
    status_line(writer, "VmRSS",
                counts.resident_anon + counts.resident_file + counts.resident_shmem);
    status_line(writer, "RssAnon", counts.resident_anon);
    status_line(writer, "RssFile", counts.resident_file);
    status_line(writer, "RssShmem", counts.resident_shmem);
    status_line(writer, "VmData", counts.data_pages);
    status_line(writer, "VmStk", counts.stack_pages);
    status_line(writer, "VmExe", code);
    status_line(writer, "VmLib", counts.exec_pages - code);
    status_line(writer, "VmPTE", counts.table_pages);
    status_line(writer, "VmSwap", counts.swapped_pages);
    status_line(writer, "HugetlbPages", counts.hugetlb_pages);
}

/* ---- pagemap --------------------------------------------------------------- */

#define PAGEMAP_SOFT_DIRTY ((uint64_t)1 << 55)
#define PAGEMAP_EXCLUSIVE  ((uint64_t)1 << 56)
#define PAGEMAP_WATCHED    ((uint64_t)1 << 57)
#define PAGEMAP_FILE       ((uint64_t)1 << 61)
#define PAGEMAP_SWAPPED    ((uint64_t)1 << 62)
#define PAGEMAP_PRESENT    ((uint64_t)1 << 63)
#define PAGEMAP_FRAME      (((uint64_t)1 << 55) - 1)

static bool
frame_is_objects(const struct qr_frame *frame)
{
    uint32_t flags = atomic_load_explicit(&frame->flags, memory_order_relaxed);

    return qr_frame_type(frame) == QR_FRAME_OBJECT ||
           (qr_frame_type(frame) == QR_FRAME_HUGE && (flags & QR_FRAME_SHMEM) != 0);
}

/* The first frame of the huge page that @entry maps, or a part of. */
static struct qr_frame *
huge_head(struct qr_space *space, const struct qr_entry *entry)
{
    size_t bytes = qr_report_page_bytes(qr_space_find(space, entry->start));
    qr_pa pa = qr_pa_of(entry->leaf.pa.v - (entry->start.v & (bytes - 1)));

    return qr_frame_find(space->tables.frames, qr_pa_to_pfn(pa));
}

static uint64_t
pagemap_word(struct qr_space *space, const struct qr_entry *entry, qr_va va)
{
    if (qr_entry_is_swap(entry)) /* the area below, the page above, as in a slot */
        return PAGEMAP_SWAPPED | (qr_mark_slot(&entry->mark).v & PAGEMAP_FRAME) |
               ((qr_mark_leaf_flags(&entry->mark) & QR_LEAF_SOFT_1) != 0 ? PAGEMAP_SOFT_DIRTY : 0);
    if (entry->kind ==
        QR_ENTRY_MARK) /* as in Linux: a place where no page is to be, for a reason */
        return PAGEMAP_SWAPPED;
    qr_pfn pfn = qr_pa_to_pfn(qr_pa_of(entry->leaf.pa.v + (va.v - entry->start.v)));
    struct qr_frame *frame = qr_frame_find(space->tables.frames, pfn);
    uint64_t word = PAGEMAP_PRESENT | ((uint64_t)pfn.v & PAGEMAP_FRAME);

    if (frame != NULL && qr_frame_type(frame) == QR_FRAME_HUGE)
        frame = huge_head(space, entry); /* counts for all */
    if (frame != NULL && frame_is_objects(frame))
        word |= PAGEMAP_FILE;
    if (frame != NULL && atomic_load_explicit(&frame->maps, memory_order_relaxed) == 1)
        word |= PAGEMAP_EXCLUSIVE;
    if ((entry->leaf.flags & QR_LEAF_SOFT_1) != 0)
        word |= PAGEMAP_SOFT_DIRTY;
    return word;
}

/* Pages that a listener is to be told of when they are written. */
static void
pagemap_watched(const struct qr_region *region, uintptr_t from, uintptr_t to, uint64_t *out)
{
    const struct qr_format *format = region->space->tables.format;
    struct qr_entry entry;
    uintptr_t end;

    for (uintptr_t at = from; at < to; at = end) {
        if (!qr_tables_next(&region->space->tables, qr_va_of(at), &entry) || entry.start.v >= to)
            return;
        end = entry.start.v + ((uintptr_t)1 << qr_format_shift(format, entry.level));
        bool watched = qr_entry_is_swap(&entry)
                           ? (qr_mark_leaf_flags(&entry.mark) & QR_LEAF_SOFT_2) != 0
                       : entry.kind == QR_ENTRY_MARK ? entry.mark.kind == QR_MARK_WRITE_PROTECT
                                                     : (entry.leaf.flags & QR_LEAF_SOFT_2) != 0;

        for (at = entry.start.v > at ? entry.start.v : at; watched && at < end && at < to;
             at += QR_PAGE_SIZE)
            out[(at - from) >> QR_PAGE_SHIFT] |= PAGEMAP_WATCHED;
    }
}

/* Pages of regions whose writes are not tracked count as written, mapped or not. */
static void
pagemap_regions(struct qr_space *space, uintptr_t start, uintptr_t end, uint64_t *out)
{
    for (const struct qr_region *region = qr_space_find(space, qr_va_of(start));
         region != NULL && region->start.v < end; region = qr_region_next(region)) {
        uintptr_t from = region->start.v > start ? region->start.v : start;
        uintptr_t to = region->end.v < end ? region->end.v : end;

        if ((region->flags & QR_REGION_WATCH_WRITE) != 0)
            pagemap_watched(region, from, to, out + ((from - start) >> QR_PAGE_SHIFT));
        if ((region->flags & QR_REGION_TRACKED) != 0)
            continue;
        for (uintptr_t va = from; va < to; va += QR_PAGE_SIZE)
            out[(va - start) >> QR_PAGE_SHIFT] |= PAGEMAP_SOFT_DIRTY;
    }
}

void
qr_report_pagemap(struct qr_space *space, size_t first_page, size_t count, uint64_t *out)
{
    const uintptr_t start = first_page << QR_PAGE_SHIFT;
    uintptr_t end = start + (count << QR_PAGE_SHIFT);
    struct qr_entry entry;
    qr_va at = qr_va_of(start);

    for (size_t i = 0; i < count; i++)
        out[i] = 0;
    qr_rw_read_lock(&space->lock);
    if (end > space->layout.user_end.v || end < start)
        end = space->layout.user_end.v;
    while (at.v < end && qr_tables_next(&space->tables, at, &entry) && entry.start.v < end) {
        size_t bytes = (size_t)1 << qr_format_shift(space->tables.format, entry.level);
        uintptr_t stop = entry.start.v + bytes < end ? entry.start.v + bytes : end;
        uintptr_t va = entry.start.v > at.v ? entry.start.v : at.v;

        for (; va < stop; va += QR_PAGE_SIZE)
            out[(va - start) >> QR_PAGE_SHIFT] = pagemap_word(space, &entry, qr_va_of(va));
        at = qr_va_of(stop);
    }
    pagemap_regions(space, start, end, out);
    qr_rw_read_unlock(&space->lock);
}
