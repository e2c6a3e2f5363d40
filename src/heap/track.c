/* SPDX-License-Identifier: MIT */
/*
 * Who holds what: allocation tracking, backtraces, and the leak report.
 *
 * QR_HEAP_TRACK may be switched on and off in every build, and the fast paths have no instruction for
 * it.  While it is on, lanes stay closed: each allocation and each free leaves the fast path, as
 * on a CPU that has no magazines, and the slow path enters the block into a table or takes
 * it out.  So a running kernel can be asked, and what it held before is not in the answer.
 *
 *   tracker    block → bytes, call site, backtrace       open addressing, no tombstones
 *   traces     backtrace number → return addresses       each distinct one once, never taken out
 *
 * Debug builds have a record behind each object that says the same (debug.c): theirs is the answer for
 * objects, and the table has large and guarded blocks alone.
 *
 * Both tables are as large as they were made; what does not fit in is counted.  They stay until
 * qr_heap_fini(), because a CPU may be reading them.
 *
 * Locks: LEAF, one each.
 */
#include "heap.h"

#include <quire/writer.h>

enum {
    TRACE_SKIP = 8, /* the heap's own functions, at most */
    TRACES = 1024,
    TRACKED_MIN = 1024,
    TRACKED_MAX = 1 << 20,
    LEAK_SITES = 500,
};

static uint64_t
hash_of(uint64_t value)
{
    value *= 0x9e3779b97f4a7c15u;
    return value ^ value >> 32;
}

/* ---- backtraces --------------------------------------------------------------------- */

struct trace_table {
    struct qr_spin lock; /* rank LEAF */
    unsigned depth;      /* fixed: of the deepest */
    uintptr_t word[];    /* for each trace its depth, 0: nobody here; then the addresses */
};

static uintptr_t *
trace_at(struct trace_table *table, size_t index)
{
    return table->word + index * (table->depth + 1u);
}

static bool
is_same(const uintptr_t *trace, const uintptr_t *sites, unsigned depth)
{
    for (unsigned i = 0; i < depth; i++) {
        if (trace[1 + i] != sites[i])
            return false;
    }
    return trace[0] == depth;
}

/* Its number from 1 on, entered where it is new; 0: the table is full. */
static uint32_t
trace_enter(struct trace_table *table, const uintptr_t *sites, unsigned depth)
{
    uint64_t hash = depth;
    uint32_t found = 0;

    for (unsigned i = 0; i < depth; i++)
        hash = hash_of(hash ^ sites[i]);
    qr_spin_lock(&table->lock);
    for (unsigned i = 0; i < TRACES && found == 0; i++) {
        uint32_t index = (uint32_t)((hash + i) % TRACES);
        uintptr_t *trace = trace_at(table, index);

        if (trace[0] == 0) {
            trace[0] = depth;
            for (unsigned d = 0; d < depth; d++)
                trace[1 + d] = sites[d];
        }
        if (is_same(trace, sites, depth))
            found = index + 1;
    }
    qr_spin_unlock(&table->lock);
    return found;
}

uint32_t
qr_trace_take(struct qr_heap *heap, uintptr_t site)
{
    struct trace_table *table = atomic_load_explicit(&heap->traces, memory_order_acquire);
    uintptr_t sites[QR_TRACE_DEPTH_MAX + TRACE_SKIP];
    unsigned first = 0, depth;

    if (table == NULL || !heap_switched(heap, QR_HEAP_TRACK))
        return 0;
    depth = heap->trace->backtrace(heap->trace->context, sites, table->depth + TRACE_SKIP);
    /* From the call site's caller on: what lies before it is the heap. */
    while (first < depth && sites[first] != site)
        first++;
    first = first == depth ? 0 : first + 1;
    depth = depth - first < table->depth ? depth - first : table->depth;
    return depth == 0 ? 0 : trace_enter(table, sites + first, depth);
}

static unsigned
trace_get(struct qr_heap *heap, uint32_t trace, const uintptr_t **out_sites)
{
    struct trace_table *table = atomic_load_explicit(&heap->traces, memory_order_acquire);

    if (table == NULL || trace == 0)
        return 0;
    *out_sites = trace_at(table, trace - 1) + 1;
    return (unsigned)(*out_sites)[-1];
}

/* Where the host can take backtraces and there is memory; without them sites stand alone. */
static void
traces_make(struct qr_heap *heap)
{
    unsigned depth = heap->trace == NULL ? 0 : heap->trace->depth;
    struct trace_table *table;

    if (heap->trace == NULL || atomic_load_explicit(&heap->traces, memory_order_acquire) != NULL)
        return;
    depth = depth == 0                   ? CONFIG_HEAP_TRACE_DEPTH
            : depth > QR_TRACE_DEPTH_MAX ? QR_TRACE_DEPTH_MAX
                                         : depth;
    table =
        qr_heap_own_alloc(heap, sizeof(*table) + TRACES * (depth + (size_t)1) * sizeof(uintptr_t));
    if (table == NULL)
        return;
    qr_spin_init(&table->lock, QR_RANK_LEAF);
    table->depth = depth;
    atomic_store_explicit(&heap->traces, table, memory_order_release);
}

/* ---- the tracker ---------------------------------------------------------------------- */

struct tracked {
    const void *block; /* NULL: free */
    uintptr_t site;
    size_t bytes;
    uint32_t trace;
};

/* NULL: it never began. */
static struct heap_tracker *
tracker_of(struct qr_heap *heap)
{
    struct heap_tracker *tracker = &heap->tracker;

    return atomic_load_explicit(&tracker->slot, memory_order_acquire) == NULL ? NULL : tracker;
}

/* Where @block stands, or the free slot where it would. */
static struct tracked *
tracker_find(struct heap_tracker *tracker, const void *block)
{
    struct tracked *slots = tracker->slot;
    size_t index = (size_t)hash_of((uintptr_t)block) & (tracker->slots - 1);

    while (slots[index].block != NULL && slots[index].block != block)
        index = (index + 1) & (tracker->slots - 1);
    return &slots[index];
}

/* Take @slot out, and move up those behind it that would not be found any more. */
static void
tracker_remove(struct heap_tracker *tracker, struct tracked *slot)
{
    struct tracked *slots = tracker->slot;
    size_t mask = tracker->slots - 1;
    size_t hole = (size_t)(slot - slots);

    for (size_t i = (hole + 1) & mask; slots[i].block != NULL; i = (i + 1) & mask) {
        size_t wanted = (size_t)hash_of((uintptr_t)slots[i].block) & mask;

        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            slots[hole] = slots[i];
            hole = i;
        }
    }
    slots[hole].block = NULL;
    tracker->used--;
}

void
qr_track_add(struct qr_heap *heap, const void *block, size_t bytes, uintptr_t site)
{
    struct heap_tracker *tracker = tracker_of(heap);
    uint32_t trace;

    /* Site 0 is the heap itself: magazines, records. */
    if (tracker == NULL || site == 0)
        return;
    trace = qr_trace_take(heap, site);
    qr_spin_lock(&tracker->lock);
    struct tracked *slot = tracker_find(tracker, block);

    if (slot->block == NULL && tracker->used >= tracker->slots / 8 * 7) {
        tracker->missed++;
    } else {
        tracker->used += slot->block == NULL;
        *slot = (struct tracked){.block = block, .site = site, .bytes = bytes, .trace = trace};
    }
    qr_spin_unlock(&tracker->lock);
}

void
qr_track_remove(struct qr_heap *heap, const void *block)
{
    struct heap_tracker *tracker = tracker_of(heap);
    struct tracked *slot;

    if (tracker == NULL)
        return;
    qr_spin_lock(&tracker->lock);
    slot = tracker_find(tracker, block);
    if (slot->block != NULL)
        tracker_remove(tracker, slot);
    qr_spin_unlock(&tracker->lock);
}

void
qr_track_move(struct qr_heap *heap, const void *from, const void *to)
{
    struct heap_tracker *tracker = tracker_of(heap);
    struct tracked *slot;

    if (tracker == NULL)
        return;
    qr_spin_lock(&tracker->lock);
    slot = tracker_find(tracker, from);
    if (slot->block != NULL) {
        struct tracked moved = *slot;

        moved.block = to;
        tracker_remove(tracker, slot);
        *tracker_find(tracker, to) = moved;
        tracker->used++;
    }
    qr_spin_unlock(&tracker->lock);
}

/* A slot for each four frames of the machine, or as many as there is memory for. */
static bool
tracker_make(struct qr_heap *heap)
{
    struct heap_tracker *tracker = &heap->tracker;
    size_t total = atomic_load_explicit(&heap->frames->total, memory_order_relaxed);
    struct tracked *slot = NULL;
    size_t slots = TRACKED_MIN;

    while (slots < TRACKED_MAX && slots < total / 4)
        slots *= 2;
    while (slots >= TRACKED_MIN && (slot = qr_heap_own_alloc(heap, slots * sizeof(*slot))) == NULL)
        slots /= 2;
    if (slot == NULL)
        return false;
    tracker->slots = slots;
    atomic_store_explicit(&tracker->slot, slot, memory_order_release);
    return true;
}

/* One that somebody holds in this moment is closed when it needs its slow path next. */
static void
lanes_close(struct qr_heap *heap)
{
    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
        qr_heap_lanes_drain(qr_list_entry(link, struct qr_cache, link));
    qr_spin_unlock(&heap->lock);
}

bool
qr_track_begin(struct qr_heap *heap)
{
    struct heap_tracker *tracker = &heap->tracker;

    traces_make(heap);
    if (tracker_of(heap) == NULL && !tracker_make(heap))
        return false;
    qr_spin_lock(&tracker->lock);
    for (size_t i = 0; i < tracker->slots; i++)
        tracker->slot[i].block = NULL;
    tracker->used = 0;
    tracker->missed = 0;
    qr_spin_unlock(&tracker->lock);
    (void)atomic_fetch_or_explicit(&heap->switches, QR_HEAP_TRACK, memory_order_relaxed);
    lanes_close(heap);
    return true;
}

void
qr_track_init(struct qr_heap *heap)
{
    qr_spin_init(&heap->tracker.lock, QR_RANK_LEAF);
}

void
qr_track_fini(struct qr_heap *heap)
{
    qr_heap_own_free(heap, atomic_exchange_explicit(&heap->traces, NULL, memory_order_relaxed));
    qr_heap_own_free(heap,
                     atomic_exchange_explicit(&heap->tracker.slot, NULL, memory_order_relaxed));
}

void
qr_heap_trace(struct qr_heap *heap, const struct qr_trace_ops *ops)
{
    heap->trace = ops;
}

/* ---- the report ------------------------------------------------------------------------- */

void
qr_site_write(struct qr_heap *heap, struct qr_writer *writer, uintptr_t site)
{
    qr_writer_printf(writer, "0x%lx", (unsigned long)site);
    if (heap->trace != NULL && heap->trace->symbol != NULL) {
        qr_writer_printf(writer, " ");
        heap->trace->symbol(heap->trace->context, site, writer);
    }
}

const char *
qr_site_text(struct qr_heap *heap, uintptr_t site, struct site_text *text)
{
    struct qr_buffer_writer writer;

    qr_buffer_writer_init(&writer, text->text, sizeof(text->text));
    qr_site_write(heap, &writer.writer, site);
    return text->text;
}

struct leak_table {
    size_t used, missed;
    size_t other_objects, other_bytes; /* more sites than the table holds */
    struct leak_site {
        uintptr_t site;
        uint32_t trace;
        size_t objects, bytes;
    } sites[LEAK_SITES];
};

static void
leak_add(struct leak_table *table, uintptr_t site, uint32_t trace, size_t bytes)
{
    size_t i = 0;

    while (i < table->used && (table->sites[i].site != site || table->sites[i].trace != trace))
        i++;
    if (i == LEAK_SITES) {
        table->other_objects++;
        table->other_bytes += bytes;
        return;
    }
    if (i == table->used)
        table->sites[table->used++] = (struct leak_site){.site = site, .trace = trace};
    table->sites[i].objects++;
    table->sites[i].bytes += bytes;
}

#ifdef CONFIG_MEMORY_DEBUGGING
static void
leak_add_object(void *context, struct qr_cache *cache, void *object, bool in_bitmap)
{
    const struct object_record *record = qr_heap_record(cache, object);

    if (!in_bitmap && qr_heap_object_live(cache, object) && record->site != 0)
        leak_add(context, record->site, record->trace, qr_heap_requested(cache, object));
}

static void
leaks_from_records(struct qr_heap *heap, struct leak_table *table)
{
    qr_spin_lock(&heap->lock);
    qr_list_for_each(link, &heap->caches)
        qr_heap_objects_visit(qr_list_entry(link, struct qr_cache, link), leak_add_object, table);
    qr_spin_unlock(&heap->lock);
}
#else
static void
leaks_from_records(struct qr_heap *heap, struct leak_table *table)
{
    (void)heap, (void)table;
}
#endif

static void
leaks_from_tracker(struct qr_heap *heap, struct leak_table *table)
{
    struct heap_tracker *tracker = tracker_of(heap);

    if (tracker == NULL || !heap_switched(heap, QR_HEAP_TRACK))
        return;
    qr_spin_lock(&tracker->lock);
    for (size_t i = 0; i < tracker->slots; i++) {
        const struct tracked *slot = &tracker->slot[i];

        if (slot->block != NULL)
            leak_add(table, slot->site, slot->trace, slot->bytes);
    }
    table->missed = tracker->missed;
    qr_spin_unlock(&tracker->lock);
}

/* The site with the most bytes that was not written yet, or NULL. */
static struct leak_site *
leak_largest(struct leak_table *table)
{
    struct leak_site *largest = NULL;

    for (size_t i = 0; i < table->used; i++) {
        struct leak_site *site = &table->sites[i];

        if (site->objects != 0 && (largest == NULL || site->bytes > largest->bytes))
            largest = site;
    }
    return largest;
}

static void
leak_write(struct qr_heap *heap, struct qr_writer *writer, const struct leak_site *leak)
{
    const uintptr_t *sites = NULL;
    unsigned depth = trace_get(heap, leak->trace, &sites);

    qr_writer_printf(writer, "%zu objects, %zu bytes, allocated at ", leak->objects, leak->bytes);
    qr_site_write(heap, writer, leak->site);
    qr_writer_printf(writer, "\n");
    for (unsigned i = 0; i < depth; i++) {
        qr_writer_printf(writer, "    ");
        qr_site_write(heap, writer, sites[i]);
        qr_writer_printf(writer, "\n");
    }
}

static void
table_write(struct qr_heap *heap, struct qr_writer *writer, struct leak_table *table)
{
    struct leak_site *leak;

    while ((leak = leak_largest(table)) != NULL) {
        leak_write(heap, writer, leak);
        leak->objects = 0;
    }
    if (table->other_objects != 0)
        qr_writer_printf(writer, "%zu objects, %zu bytes at other sites\n", table->other_objects,
                         table->other_bytes);
    if (table->missed != 0)
        qr_writer_printf(writer, "%zu allocations found no room in the table\n", table->missed);
}

void
qr_heap_report_leaks(struct qr_heap *heap, struct qr_writer *writer)
{
    struct leak_table *table = qr_heap_own_alloc(heap, sizeof(*table));
    size_t large = atomic_load_explicit(&heap->large_blocks, memory_order_relaxed);
    struct qr_heap_stats stats;

    if (table == NULL) {
        qr_writer_printf(writer, "no memory for the report\n");
        return;
    }
    leaks_from_records(heap, table);
    leaks_from_tracker(heap, table);
    table_write(heap, writer, table);
    qr_heap_own_free(heap, table);
    if (large != 0)
        qr_writer_printf(writer, "%zu large blocks, %zu bytes\n", large,
                         atomic_load_explicit(&heap->large_bytes, memory_order_relaxed));
    if (!RECORDS && !heap_switched(heap, QR_HEAP_TRACK)) {
        qr_heap_stats(heap, &stats);
        qr_writer_printf(writer,
                         "%zu bytes in use; call sites are recorded while QR_HEAP_TRACK is on\n",
                         stats.active_bytes);
    }
}
