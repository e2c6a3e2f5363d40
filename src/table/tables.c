/* SPDX-License-Identifier: MIT */
/*
 * Page tables as frames, and trees of them.
 *
 * Giving a table back takes two proofs.  The batch that unlinked it brings the
 * first: every CPU has flushed its walk caches.  The second is ours: every
 * walker that may have read the old parent entry has left its epoch section.
 * So retired tables queue up here with the epoch of their retirement, oldest
 * first, and go when no section of that epoch or an older one is left.  Mostly
 * that is at once.  Nobody waits: a CPU that retires may hold table locks, and
 * one that is in a section may spin for just those.
 *
 * The queue runs through the descriptors, because the tables themselves are
 * still being read: `owner` links, `index` holds the epoch.  A walker that gets
 * the lock of a retired table looks at TABLE_DEAD alone.
 */
#include <quire/assert.h>

#include "table/scan.h"

struct qr_frame *
qr_table_alloc(struct qr_tables *tables)
{
    return qr_frame_alloc(tables->frames, QR_ALLOC_ZERO | QR_ALLOC_ATOMIC);
}

static void
table_count_pages(struct qr_tables *tables, long delta)
{
    qr_counter_add(qr_frames_counters(tables->frames), QR_PAGES_TABLE, delta);
}

void
qr_table_init(struct qr_tables *tables, struct qr_frame *frame, uintptr_t base, unsigned level)
{
    uint32_t clear = QR_FRAME_TABLE_LOCK | QR_FRAME_TABLE_DEAD | QR_FRAME_PINNED;

    qr_frame_set_type(frame, QR_FRAME_TABLE);
    atomic_fetch_and_explicit(&frame->flags, ~clear, memory_order_relaxed);
    atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
    atomic_store_explicit(&frame->owner, tables, memory_order_relaxed);
    atomic_store_explicit(&frame->index, base | level, memory_order_relaxed);
    atomic_fetch_add_explicit(&tables->table_count, 1, memory_order_relaxed);
    table_count_pages(tables, 1);
}

void
qr_table_cancel(struct qr_tables *tables, struct qr_frame *frame)
{
    qr_frame_put(tables->frames, frame);
}

void
qr_table_free(struct qr_tables *tables, struct qr_frame *frame)
{
    uint32_t clear = QR_FRAME_TABLE_LOCK | QR_FRAME_TABLE_DEAD | QR_FRAME_PINNED;

    qr_assert(!table_has_flag(frame, QR_FRAME_TABLE_LOCK));
    atomic_fetch_and_explicit(&frame->flags, ~clear, memory_order_relaxed);
    atomic_store_explicit(&frame->maps, 0, memory_order_relaxed);
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
    atomic_store_explicit(&frame->index, 0, memory_order_relaxed);
    qr_frame_set_type(frame, QR_FRAME_KERNEL);
    table_count_pages(tables, -1);
    qr_frame_put(tables->frames, frame);
}

/* ---- Retirement ----------------------------------------------------------- */

/* The oldest epoch that some section may still be in. */
static uint64_t
oldest_section(struct qr_epoch *epoch)
{
    uint64_t oldest = atomic_load_explicit(&epoch->current, memory_order_seq_cst);

    for (unsigned i = 0; i < CONFIG_MAX_CPUS; i++) {
        uint64_t seen = atomic_load_explicit(&epoch->cpus[i].seen, memory_order_seq_cst);

        if (seen != 0 && seen < oldest)
            oldest = seen;
    }
    return oldest;
}

static struct qr_frame *
retired_next(const struct qr_frame *frame)
{
    return atomic_load_explicit(&frame->owner, memory_order_relaxed);
}

/* Cut off and return the part of the queue that nobody reads any more. */
static struct qr_frame *
retired_take_ready(struct qr_tables *tables)
{
    struct qr_frame *ready = tables->retired_head;
    struct qr_frame *last = NULL;
    uintptr_t oldest = (uintptr_t)oldest_section(tables->epoch);

    for (struct qr_frame *frame = ready; frame != NULL; frame = retired_next(frame)) {
        uintptr_t epoch = atomic_load_explicit(&frame->index, memory_order_relaxed);

        if ((intptr_t)(epoch - oldest) >= 0)
            break;
        last = frame;
    }
    if (last == NULL)
        return NULL;
    tables->retired_head = retired_next(last);
    if (tables->retired_head == NULL)
        tables->retired_tail = NULL;
    atomic_store_explicit(&last->owner, NULL, memory_order_relaxed);
    return ready;
}

bool
qr_tables_collect(struct qr_tables *tables)
{
    qr_spin_lock(&tables->retired_lock);
    struct qr_frame *ready = retired_take_ready(tables);
    bool waiting = tables->retired_head != NULL;
    qr_spin_unlock(&tables->retired_lock);

    while (ready != NULL) {
        struct qr_frame *next = retired_next(ready);

        qr_table_free(tables, ready);
        ready = next;
    }
    return waiting;
}

static void
retired_push(struct qr_tables *tables, struct qr_frame *frame, uint64_t epoch)
{
    qr_assert(table_has_flag(frame, QR_FRAME_TABLE_DEAD));
    atomic_store_explicit(&frame->index, (uintptr_t)epoch, memory_order_relaxed);
    atomic_store_explicit(&frame->owner, NULL, memory_order_relaxed);
    if (tables->retired_tail != NULL)
        atomic_store_explicit(&tables->retired_tail->owner, frame, memory_order_relaxed);
    else
        tables->retired_head = frame;
    tables->retired_tail = frame;
}

void
qr_tables_retire(struct qr_tables *tables, struct qr_frame *const *list, size_t count)
{
    qr_spin_lock(&tables->retired_lock);
    uint64_t epoch = atomic_fetch_add_explicit(&tables->epoch->current, 1, memory_order_seq_cst);

    for (size_t i = 0; i < count; i++)
        retired_push(tables, list[i], epoch);
    qr_spin_unlock(&tables->retired_lock);
    (void)qr_tables_collect(tables);
}

/* ---- Trees ------------------------------------------------------------------ */

static unsigned
root_level(const struct qr_tables *tables)
{
    return tables->format->traits->info.levels - 1;
}

static size_t
root_entries(const struct qr_tables *tables)
{
    return (size_t)1 << tables->format->traits->index_bits(root_level(tables));
}

static void
tables_setup(struct qr_tables *tables, const struct qr_format *format, struct qr_frames *frames,
             struct qr_epoch *epoch)
{
    qr_assert(format->traits->info.levels <= QR_LEVELS_MAX);
    tables->format = format;
    tables->frames = frames;
    tables->epoch = epoch;
    tables->root = NULL;
    tables->upper_shared = false;
    atomic_init(&tables->table_count, 0);
    qr_spin_init(&tables->retired_lock, QR_RANK_TLB);
    tables->retired_head = NULL;
    tables->retired_tail = NULL;
}

/* Share the kernel's half: its entries are fixed by now, so plain copies stay true. */
static void
copy_upper_half(struct qr_tables *tables, const struct qr_tables *kernel)
{
    size_t words = root_entries(tables) * tables->format->traits->entry_bytes / sizeof(uint64_t);
    uint64_t *from = qr_port_window_open(kernel->root_pa);
    uint64_t *to = qr_port_window_open(tables->root_pa);

    for (size_t i = words / 2; i < words; i++)
        to[i] = from[i];
    qr_port_window_close(to);
    qr_port_window_close(from);
}

enum qr_status
qr_tables_init(struct qr_tables *tables, const struct qr_format *format, struct qr_frames *frames,
               struct qr_epoch *epoch, const struct qr_tables *kernel)
{
    tables_setup(tables, format, frames, epoch);
    tables->root = qr_table_alloc(tables);
    if (tables->root == NULL)
        return QR_ERR_NO_MEMORY;
    tables->root_pa = qr_frame_pa(frames, tables->root);
    qr_table_init(tables, tables->root, 0, root_level(tables));
    if (kernel != NULL) {
        qr_assert(kernel->format == format);
        copy_upper_half(tables, kernel);
        tables->upper_shared = true;
    }
    return QR_OK;
}

/* Whether every table of the tree at @tables->root has a descriptor that is free to use. */
static enum qr_status
adopt_check(struct qr_tables *tables)
{
    struct table_scan scan;

    qr_scan_start(&scan, tables, SCAN_EVERYTHING);
    while (qr_scan_next(&scan)) {
        if (scan.event != SCAN_ENTER)
            continue;
        if (scan.frame == NULL || qr_frame_type(scan.frame) == QR_FRAME_TABLE ||
            qr_frame_type(scan.frame) == QR_FRAME_FREE)
            return QR_ERR_INVALID;
    }
    return QR_OK;
}

static void
adopt_mark(struct qr_tables *tables)
{
    struct table_scan scan;

    qr_scan_start(&scan, tables, SCAN_EVERYTHING);
    while (qr_scan_next(&scan)) {
        switch (scan.event) {
        case SCAN_ENTER:
            if (qr_frame_type(scan.frame) == QR_FRAME_TABLE)
                qr_panic("boot code linked one page table twice; give each range its own");
            qr_table_init(tables, scan.frame, scan.va, scan.level);
            atomic_fetch_or_explicit(&scan.frame->flags, QR_FRAME_PINNED, memory_order_relaxed);
            break;
        case SCAN_ENTRY:
            table_live_add(scan.frame, 1);
            break;
        case SCAN_LEAVE:
            if (scan.level < root_level(tables))
                table_live_add(scan_parent(&scan), 1);
            break;
        }
    }
}

enum qr_status
qr_tables_adopt(struct qr_tables *tables, const struct qr_format *format, struct qr_frames *frames,
                struct qr_epoch *epoch, qr_pa root)
{
    tables_setup(tables, format, frames, epoch);
    tables->root = qr_frame_find(frames, qr_pa_to_pfn(root));
    tables->root_pa = root;

    enum qr_status status = adopt_check(tables);

    if (status == QR_OK)
        adopt_mark(tables);
    return status;
}

enum qr_status
qr_tables_fill_upper_half(struct qr_tables *tables)
{
    walk_format f = tables->format->traits;
    unsigned level = root_level(tables);
    size_t count = root_entries(tables);
    enum qr_status status = QR_OK;

    table_lock(tables->root);
    for (size_t i = count / 2; i < count && status == QR_OK; i++) {
        void *root = qr_port_window_open(tables->root_pa);

        if (pte_load(f, root, i) == 0) {
            struct qr_frame *frame = qr_table_alloc(tables);

            if (frame != NULL) {
                qr_table_init(tables, frame, scan_root_base(f, i), level - 1);
                atomic_fetch_or_explicit(&frame->flags, QR_FRAME_PINNED, memory_order_relaxed);
                pte_store(f, root, i, f->make_table(qr_frame_pa(tables->frames, frame), level));
                table_live_add(tables->root, 1);
            } else {
                status = QR_ERR_NO_MEMORY;
            }
        }
        qr_port_window_close(root);
    }
    table_unlock(tables->root);
    return status;
}

void
qr_tables_fini(struct qr_tables *tables)
{
    struct table_scan scan;

    /*
     * Nobody walks this tree any more, but the epoch is the machine's: a section of
     * another tree holds our retired tables up too.  Sections are short and wait
     * for nothing that the caller could hold.
     */
    while (qr_tables_collect(tables)) {
        struct qr_cpu *cpu = qr_cpu_enter();

        qr_cpu_relax(cpu);
        qr_cpu_leave(cpu);
    }
    qr_scan_start(&scan, tables, SCAN_COUNTED);
    while (qr_scan_next(&scan)) {
        if (scan.event == SCAN_ENTRY)
            qr_panic("a page-table tree ends with an entry at %p; unmap everything first",
                     (void *)scan.va);
        if (scan.event == SCAN_LEAVE)
            qr_table_free(tables, scan.frame);
    }
    atomic_store_explicit(&tables->table_count, 0, memory_order_relaxed);
}

/* The first entry in [from, end) of one half. */
static bool
find_in_half(struct qr_tables *tables, uintptr_t from, uintptr_t end, struct qr_entry *out_entry)
{
    struct qr_va_range range = {qr_va_of(from), qr_va_of(end)};
    struct qr_cursor cursor;

    if (from >= end)
        return false;
    qr_cursor_open(&cursor, tables, range, NULL);
    bool found = qr_cursor_find(&cursor, range.start, out_entry);
    qr_cursor_close(&cursor);
    return found;
}

bool
qr_tables_next(struct qr_tables *tables, qr_va from, struct qr_entry *out_entry)
{
    uintptr_t lower_end = (uintptr_t)1 << (tables->format->traits->info.va_bits - 1);
    uintptr_t upper_start = -lower_end;
    uintptr_t start = qr_va_page_down(from.v);

    if (find_in_half(tables, start, lower_end, out_entry))
        return true;
    if (tables->upper_shared)
        return false;
    /* The last page of all has no address after it, so no range ends there. */
    return find_in_half(tables, start > upper_start ? start : upper_start, -(uintptr_t)QR_PAGE_SIZE,
                        out_entry);
}
