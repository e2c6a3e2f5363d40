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
#include <quire/group.h>

#include "table/scan.h"

/* A table is as large as a page of its format, which may be several of ours. */
static unsigned
table_order(const struct qr_tables *tables)
{
    return tables->format->traits->info.page_shift - QR_PAGE_SHIFT;
}

static struct qr_frame *
table_frame(struct qr_tables *tables)
{
    unsigned order = table_order(tables);
    struct qr_frame *frame =
        order == 0 ? qr_frame_alloc(tables->frames, QR_ALLOC_ZERO | QR_ALLOC_ATOMIC)
                   : qr_frame_alloc_block(tables->frames, order, QR_ALLOC_ZERO | QR_ALLOC_ATOMIC);

    if (qr_unlikely(frame == NULL))
        atomic_store_explicit(&tables->starved, true, memory_order_relaxed);
    return frame;
}

/* The group may change at this moment: then either is charged. */
static QR_NOINLINE bool
table_charge(struct qr_tables *tables, struct qr_frame *frame)
{
    struct qr_group *group = qr_group_get_current(tables->group);
    bool charged = group == NULL ||
                   qr_group_charge_kernel(group, frame, (size_t)1 << table_order(tables)) == QR_OK;

    qr_group_put(group);
    if (!charged)
        atomic_store_explicit(&tables->refused, true, memory_order_relaxed);
    return charged;
}

struct qr_frame *
qr_table_alloc(struct qr_tables *tables)
{
    struct qr_frame *frame = table_frame(tables);

    if (qr_likely(tables->group == NULL ||
                  atomic_load_explicit(tables->group, memory_order_relaxed) == NULL))
        return frame;
    if (frame != NULL && !table_charge(tables, frame)) {
        qr_frame_put(tables->frames, frame);
        frame = NULL;
    }
    return frame;
}

struct qr_frame *
qr_table_alloc_surely(struct qr_tables *tables)
{
    struct qr_frame *frame = table_frame(tables);

    if (frame != NULL && tables->group != NULL)
        (void)table_charge(tables, frame);
    return frame;
}

enum qr_status
qr_tables_charge_root(struct qr_tables *tables)
{
    return qr_frame_group(tables->root) != 0 || table_charge(tables, tables->root) ? QR_OK
                                                                                   : QR_ERR_LIMIT;
}

static void
table_count_pages(struct qr_tables *tables, long delta)
{
    qr_counter_add(qr_frames_counters(tables->frames), QR_PAGES_TABLE,
                   delta * (1L << table_order(tables)));
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
    uintptr_t oldest = (uintptr_t)qr_epoch_oldest(tables->epoch);

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
    uint64_t epoch = atomic_fetch_add_explicit(&tables->epoch->current, 1, memory_order_acq_rel);

    for (size_t i = 0; i < count; i++)
        retired_push(tables, list[i], epoch);
    qr_spin_unlock(&tables->retired_lock);
    (void)qr_tables_collect(tables);
}

/* ---- Trees ------------------------------------------------------------------ */

#define UINTPTR_BITS (sizeof(uintptr_t) * 8)

/* Where flat formats are split unless they are told otherwise. */
#define SPLIT_DEFAULT ((uintptr_t)3 << 30)

static unsigned
root_level(const struct qr_tables *tables)
{
    return tables->format->traits->info.levels - 1;
}

static size_t
root_entries(const struct qr_tables *tables)
{
    return (size_t)1 << tables->format->traits->index_bits(tables->format->traits,
                                                           root_level(tables));
}

/* A tree of its own has both halves where one root can; of two roots it is the users'. */
static void
tables_set_halves(struct qr_tables *tables)
{
    const struct qr_format_info *info = &tables->format->traits->info;

    switch (info->roots) {
    case QR_ROOTS_SIGNED:
        tables->lower_end = (uintptr_t)1 << (info->va_bits - 1);
        tables->upper_start = -tables->lower_end;
        break;
    case QR_ROOTS_FLAT:
        tables->lower_end = SPLIT_DEFAULT;
        tables->upper_start = SPLIT_DEFAULT;
        break;
    case QR_ROOTS_TWO:
        tables->lower_end = (uintptr_t)1 << info->va_bits;
        tables->upper_start = 0;
        break;
    }
}

/* Of two roots, this one is the kernel's. */
static void
tables_make_upper(struct qr_tables *tables)
{
    tables->lower_end = 0;
    tables->upper_start = walk_upper_bits(tables->format->traits);
}

void
qr_tables_set_split(struct qr_tables *tables, qr_va split)
{
    walk_format f = tables->format->traits;

    qr_assert(f->info.roots == QR_ROOTS_FLAT && !tables->upper_shared);
    qr_assert(split.v != 0 && (split.v & walk_entry_mask(f, root_level(tables))) == 0);
    qr_assert((uint64_t)split.v >> f->info.va_bits == 0);
    tables->lower_end = split.v;
    tables->upper_start = split.v;
}

/* The root's first entry of the upper half. */
static size_t
upper_index(const struct qr_tables *tables)
{
    walk_format f = tables->format->traits;

    return walk_index(f, tables->lower_end - 1, root_level(tables)) + 1;
}

/* How many of the root's entries are this tree's own. */
static size_t
root_own(const struct qr_tables *tables)
{
    return tables->upper_shared ? upper_index(tables) : root_entries(tables);
}

static void
tables_setup(struct qr_tables *tables, const struct qr_format *format, struct qr_frames *frames,
             struct qr_epoch *epoch)
{
    qr_assert(format->traits->info.levels <= QR_LEVELS_MAX);
    qr_assert(format->traits->info.page_shift >= QR_PAGE_SHIFT);
    tables->format = format;
    tables->frames = frames;
    tables->epoch = epoch;
    tables->root = NULL;
    tables->upper_shared = false;
    tables_set_halves(tables);
    atomic_init(&tables->table_count, 0);
    qr_spin_init(&tables->retired_lock, QR_RANK_TLB);
    tables->group = NULL;
    atomic_init(&tables->refused, false);
    atomic_init(&tables->starved, false);
    tables->retired_head = NULL;
    tables->retired_tail = NULL;
}

/* Share the kernel's half: its entries are fixed by now, so plain copies stay true. */
static void
copy_upper_half(struct qr_tables *tables, const struct qr_tables *kernel)
{
    walk_format f = tables->format->traits;
    size_t count = root_entries(tables);
    void *from = qr_port_window_open(kernel->root_pa);
    void *to = qr_port_window_open(tables->root_pa);

    tables->lower_end = kernel->lower_end;
    tables->upper_start = 0;
    tables->upper_shared = true;
    for (size_t i = upper_index(tables); i < count; i++) {
        if (f->entry_bytes == 8)
            ((uint64_t *)to)[i] = ((const uint64_t *)from)[i];
        else
            ((uint32_t *)to)[i] = ((const uint32_t *)from)[i];
    }
    qr_port_window_close(to);
    qr_port_window_close(from);
}

/* Make the tables under the root's entries [index, end) that are empty; they stay. */
static enum qr_status
fill_root(struct qr_tables *tables, size_t index, size_t end)
{
    walk_format f = tables->format->traits;
    unsigned level = root_level(tables);
    enum qr_status status = QR_OK;

    table_lock(tables->root);
    for (; index < end && status == QR_OK; index++) {
        void *root = qr_port_window_open(tables->root_pa);

        if (pte_load(f, root, index) == 0) {
            struct qr_frame *frame = qr_table_alloc(tables);

            if (frame != NULL) {
                qr_table_init(tables, frame, qr_scan_root_base(tables, index), level - 1);
                atomic_fetch_or_explicit(&frame->flags, QR_FRAME_PINNED, memory_order_relaxed);
                pte_store(f, root, index,
                          f->make_table(f, qr_frame_pa(tables->frames, frame), level));
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

enum qr_status
qr_tables_init(struct qr_tables *tables, const struct qr_format *format, struct qr_frames *frames,
               struct qr_epoch *epoch, const struct qr_tables *kernel)
{
    tables_setup(tables, format, frames, epoch);
    tables->root = qr_table_alloc(tables);
    if (tables->root == NULL)
        return QR_ERR_NO_MEMORY;
    tables->root_pa = qr_frame_pa(frames, tables->root);
    /* The root registers of the 32-bit formats have no more; their port has the rest as High. */
    qr_assert(format->traits->info.roots != QR_ROOTS_FLAT || tables->root_pa.v >> 32 == 0);
    qr_table_init(tables, tables->root, 0, root_level(tables));
    qr_assert(kernel == NULL || kernel->format == format);
    if (kernel != NULL && format->traits->info.roots != QR_ROOTS_TWO)
        copy_upper_half(tables, kernel);
    if (format->traits->root_is_loaded && fill_root(tables, 0, root_own(tables)) != QR_OK) {
        qr_tables_fini(tables);
        return QR_ERR_NO_MEMORY;
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
    if (format->traits->info.roots == QR_ROOTS_TWO)
        tables_make_upper(tables);
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
    if (tables->format->traits->info.roots == QR_ROOTS_TWO) {
        qr_assert(tables->lower_end == 0 || table_live(tables->root) == 0);
        tables_make_upper(tables);
        return QR_OK;
    }
    return fill_root(tables, upper_index(tables), root_entries(tables));
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
    walk_format f = tables->format->traits;
    uintptr_t start = from.v & ~walk_entry_mask(f, 0);
    /* The last page of all has no address after it, so no range ends there. */
    uintptr_t upper_end = f->info.roots == QR_ROOTS_FLAT && f->info.va_bits < UINTPTR_BITS
                              ? (uintptr_t)1 << f->info.va_bits
                              : -(walk_entry_mask(f, 0) + 1);

    if (find_in_half(tables, start, tables->lower_end, out_entry))
        return true;
    if (tables->upper_start == 0)
        return false;
    return find_in_half(tables, start > tables->upper_start ? start : tables->upper_start,
                        upper_end, out_entry);
}
