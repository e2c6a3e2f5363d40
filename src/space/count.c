/* SPDX-License-Identifier: MIT */
/*
 * What a space owns, counted exactly.
 *
 * Counts of address space (virtual, data, stack, exec, locked, shared) follow
 * the regions: every change of a region goes through qr_count_region() with the
 * properties that it has at that moment, under the space's lock for writing.
 *
 * Counts of memory (resident) follow the table entries, which also change under
 * the lock for reading and under no space lock at all (truncation): they are
 * atomic, and change in the same cursor as the entry.  Their peak is sampled
 * before they shrink and when read, so that faults need not look at it.
 *
 * The three kinds of address space are Linux's: stack is what grows down, data
 * is private and writable, exec is executable and not writable.
 */
#include "region.h"

static void
count_add(size_t *count, long pages)
{
    qr_assert(pages >= 0 || *count >= (size_t)-pages);
    *count += (size_t)pages;
}

void
qr_count_region(struct qr_space *space, const struct qr_region *region, long pages)
{
    struct qr_space_counts *counts = &space->counts;
    struct qr_counters *machine = space->vm->counters;
    unsigned flags = region->flags;

    count_add(&counts->virtual_pages, pages);
    counts->peak_virtual_pages = qr_max_size(counts->peak_virtual_pages, counts->virtual_pages);
    if (qr_region_is_stack(flags))
        count_add(&counts->stack_pages, pages);
    else if (qr_region_is_data(region->prot, flags))
        count_add(&counts->data_pages, pages);
    else if ((region->prot & (QR_PROT_EXEC | QR_PROT_WRITE)) == QR_PROT_EXEC)
        count_add(&counts->exec_pages, pages);
    if ((flags & QR_REGION_SHARED) != 0)
        count_add(&counts->shared_pages, pages);
    if ((flags & QR_REGION_LOCKED) != 0) {
        count_add(&counts->locked_pages, pages);
        qr_counter_add(machine, QR_PAGES_LOCKED, pages);
    }
    if ((flags & QR_REGION_ACCOUNTED) != 0)
        qr_counter_add(machine, QR_PAGES_COMMITTED, pages);
}

/* Would @have pages and @more stay within @limit bytes? */
static bool
within_limit(size_t have, size_t more, size_t limit)
{
    size_t pages = limit >> QR_PAGE_SHIFT;

    return limit == SIZE_MAX || (more <= pages && have <= pages - more);
}

static bool
may_grow_data(const struct qr_space *space, const struct qr_space_limits *limits, unsigned prot,
              unsigned flags, size_t pages)
{
    return !qr_region_is_data(prot, flags) ||
           within_limit(space->counts.data_pages, pages, limits->data);
}

bool
qr_count_may_grow_data(const struct qr_space *space, unsigned prot, unsigned flags, size_t pages)
{
    return may_grow_data(space, qr_space_limits(space), prot, flags, pages);
}

bool
qr_count_may_grow(const struct qr_space *space, unsigned prot, unsigned flags, size_t pages)
{
    const struct qr_space_limits *limits = qr_space_limits(space);

    return within_limit(space->counts.virtual_pages, pages, limits->address_space) &&
           may_grow_data(space, limits, prot, flags, pages);
}

bool
qr_count_may_lock(const struct qr_space *space, size_t pages)
{
    return within_limit(space->counts.locked_pages, pages, qr_space_limits(space)->locked);
}

size_t
qr_space_resident_pages(const struct qr_space *space)
{
    long sum = 0;

    for (int kind = 0; kind < 3; kind++)
        sum += atomic_load_explicit(&space->resident[kind], memory_order_relaxed);
    return sum < 0 ? 0 : (size_t)sum;
}

void
qr_space_note_peak(struct qr_space *space)
{
    size_t now = qr_space_resident_pages(space);
    size_t peak = atomic_load_explicit(&space->peak_resident, memory_order_relaxed);

    while (now > peak &&
           !atomic_compare_exchange_weak_explicit(&space->peak_resident, &peak, now,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

size_t
qr_space_peak_pages(struct qr_space *space)
{
    qr_space_note_peak(space);
    return atomic_load_explicit(&space->peak_resident, memory_order_relaxed);
}

void
qr_space_reset_peak(struct qr_space *space)
{
    atomic_store_explicit(&space->peak_resident, qr_space_resident_pages(space),
                          memory_order_relaxed);
}

size_t
qr_space_table_pages(const struct qr_space *space)
{
    return atomic_load_explicit(&space->tables.table_count, memory_order_relaxed);
}

static size_t
resident_of(const struct qr_space *space, int kind)
{
    long pages = atomic_load_explicit(&space->resident[kind], memory_order_relaxed);

    return pages < 0 ? 0 : (size_t)pages;
}

void
qr_space_counts(struct qr_space *space, struct qr_space_counts *out_counts)
{
    qr_rw_read_lock(&space->lock);
    *out_counts = space->counts;
    qr_rw_read_unlock(&space->lock);
    out_counts->resident_anon = resident_of(space, QR_RESIDENT_ANON);
    out_counts->resident_file = resident_of(space, QR_RESIDENT_FILE);
    out_counts->resident_shmem = resident_of(space, QR_RESIDENT_SHMEM);
    out_counts->peak_resident = qr_space_peak_pages(space);
    out_counts->table_pages = qr_space_table_pages(space);
    out_counts->hugetlb_pages =
        (size_t)atomic_load_explicit(&space->hugetlb_pages, memory_order_relaxed);
    out_counts->swapped_pages = (size_t)atomic_load_explicit(&space->swapped, memory_order_relaxed);
}
