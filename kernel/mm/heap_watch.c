/* SPDX-License-Identifier: MIT */
/*
 * What the kernel lends its heap for finding mistakes: names and backtraces for the leak report, and
 * pages that can be made untouchable for guarded blocks.
 *
 * Guarded blocks are always on.  Ten times a second the tick makes the next block that leaves the
 * heap's fast path a guarded one; so the price does not grow with the load.  A fault in their pages
 * is explained by the trap handlers before the machine stops.
 *
 * Their pages come from the area of the kernel stacks, because the direct map has large pages.
 * A page is protected by exchanging its table entry for a mark, and only this CPU forgets it: others
 * may go on for a while, which misses a mistake but makes none.  Both words are read from the
 * table once, after the cursor has written them; then no lock and no memory is needed.
 */
#include <arch.h>
#include <memory.h>
#include <printk.h>
#include <symbols.h>

#include <quire/arch.h>

enum { SLOTS_MAX = 31, PAGES_MAX = 2 * SLOTS_MAX + 1, TICKS = TICK_HZ / 10 };

static struct {
    char *pool; /* fixed; NULL: no guarded blocks */
    size_t entry_bytes;
    uint64_t mark; /* an entry that lets nobody in */
    struct {
        qr_pa entry;
        uint64_t leaf;
    } page[PAGES_MAX];
} guard;

/* ---- entries ------------------------------------------------------------------------------- */

static uint64_t
entry_read(qr_pa pa)
{
    void *entry = qr_port_window_open(pa);
    uint64_t value = guard.entry_bytes == 4 ? *(const volatile uint32_t *)entry
                                            : *(const volatile uint64_t *)entry;

    qr_port_window_close(entry);
    return value;
}

/* Where it takes two stores, the entry is not valid between them. */
static void
entry_write(qr_pa pa, uint64_t value)
{
    void *entry = qr_port_window_open(pa);

    if (guard.entry_bytes > sizeof(uintptr_t)) {
        volatile uint32_t *half = entry;

        half[0] = 0;
        half[1] = (uint32_t)(value >> 32);
        half[0] = (uint32_t)value;
    } else if (guard.entry_bytes == 4) {
        *(volatile uint32_t *)entry = (uint32_t)value;
    } else {
        *(volatile uint64_t *)entry = value;
    }
    qr_port_window_close(entry);
}

static struct qr_va_range
page_range(const char *page)
{
    qr_va start = qr_va_of((uintptr_t)page);

    return (struct qr_va_range){start, qr_va_of(start.v + QR_PAGE_SIZE)};
}

/*
 * Find the entry of a page, have a leaf of its own there even where it was one of a group, and put
 * a mark in its place; keep both.
 */
static bool
page_prepare(const char *page, size_t index)
{
    const struct qr_format *format = memory.kernel_tables.format;
    unsigned bits = qr_format_shift(format, 1) - qr_format_shift(format, 0);
    struct qr_va_range range = page_range(page);
    struct qr_tlb_batch batch;
    struct qr_cursor cursor;
    struct qr_entry entry;
    bool done;

    guard.entry_bytes = QR_PAGE_SIZE >> bits;
    qr_tlb_batch_init(&batch, &memory.kernel_space);
    qr_cursor_open(&cursor, &memory.kernel_tables, range, &batch);
    entry = qr_cursor_query(&cursor, range.start);
    done = entry.kind == QR_ENTRY_LEAF && cursor.level == 0 &&
           qr_cursor_prepare(&cursor, range.start, 0) == QR_OK;
    if (done) {
        size_t slot = range.start.v >> QR_PAGE_SHIFT & (((size_t)1 << bits) - 1);
        qr_pa at = qr_pa_of(cursor.pa[0].v + slot * guard.entry_bytes);

        (void)qr_cursor_unmap(&cursor, range.start);
        qr_cursor_map(&cursor, range.start, &entry.leaf);
        guard.page[index].entry = at;
        guard.page[index].leaf = entry_read(at);
        (void)qr_cursor_unmap(&cursor, range.start);
        qr_cursor_mark(&cursor, range.start, 0, (struct qr_mark){.kind = QR_MARK_GUARD});
        guard.mark = entry_read(at);
    }
    qr_cursor_close(&cursor);
    qr_tlb_batch_finish(&batch);
    return done;
}

static bool
pool_prepare(char *pool, size_t pages)
{
    for (size_t i = 0; i < pages; i++) {
        if (!page_prepare(pool + (i << QR_PAGE_SHIFT), i))
            return false;
    }
    guard.pool = pool;
    return true;
}

/* ---- guarded blocks ---------------------------------------------------------------------------- */

static void
page_protect(void *context, void *page, bool accessible)
{
    size_t index = (size_t)((char *)page - guard.pool) >> QR_PAGE_SHIFT;
    qr_va start = qr_va_of((uintptr_t)page);
    const struct qr_flush_run run = {
        .start = start, .last = qr_va_of(start.v + QR_PAGE_MASK), .shift = QR_PAGE_SHIFT};
    const struct qr_flush flush = {
        .runs = &run, .run_count = 1, .global = true, .reach = QR_FLUSH_EVERYWHERE};

    bool published;

    (void)context;
    entry_write(guard.page[index].entry, accessible ? guard.page[index].leaf : guard.mark);
    published = qr_arch_publish();
    (void)published; /* a hart that remembers the mark looks again (trap.c) */
    qr_arch_flush_pages(&flush);
}

/* A sixty-fourth of a small machine's memory at most: the pool is two pages a slot. */
static void
guard_start(void)
{
    struct qr_guard_config config = {.protect = page_protect};
    struct qr_frames_stats stats;
    size_t bytes;

    qr_frames_stats(memory.frames, &stats);
    config.slots = stats.total / 1024 < SLOTS_MAX ? stats.total / 1024 : SLOTS_MAX;
    if (config.slots == 0)
        return;
    bytes = (2 * config.slots + 1) << QR_PAGE_SHIFT;
    config.pool = qr_vmalloc(memory.areas[KERNEL_AREA_STACKS], bytes, 0, "guarded blocks");
    if (config.pool == NULL || !pool_prepare(config.pool, 2 * config.slots + 1) ||
        qr_guard_start(memory.heap, &config) != QR_OK)
        printk("memory: no guarded blocks\n");
}

void
memory_tick_heap(void)
{
    if (cpu_this()->ticks % TICKS == 0)
        qr_guard_due(memory.heap);
}

/* ---- words about mistakes ------------------------------------------------------------------------ */

static unsigned
backtrace(void *context, uintptr_t *out, unsigned count)
{
    (void)context;
    return backtrace_take(out, count);
}

static void
symbol(void *context, uintptr_t pc, struct qr_writer *writer)
{
    (void)context;
    (void)symbol_write_caller(writer, pc);
}

void
memory_explain_fault(uintptr_t va)
{
    char text[400];
    struct qr_buffer_writer writer;

    if (memory.heap == NULL)
        return;
    qr_buffer_writer_init(&writer, text, sizeof text);
    if (qr_guard_fault(memory.heap, va, &writer.writer))
        printk("%s", text);
}

void
memory_watch_heap(void)
{
    static const struct qr_trace_ops ops = {.backtrace = backtrace, .symbol = symbol};

    qr_heap_trace(memory.heap, &ops);
    guard_start();
}
