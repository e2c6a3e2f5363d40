/* SPDX-License-Identifier: MIT */
/*
 * Is a space what it should be?  The machine is at rest: no call is under way.
 *
 * A space:
 *   1 regions are ordered, do not overlap, are not empty, page-aligned, in the user half
 *   2 the tree is balanced, and its summaries say what is there
 *   3 no two neighbours could be merged
 *   4 counts are the sums over the regions
 *   5 a region's mapping shows what the region shows; private anonymous ones have none
 *   6 the tables are sound (qr_tables_validate), and count themselves
 *   7 every entry lies in a region, with no right that the region lacks
 *   8 private frames are writable only where exclusive; the zero frame never
 *   9 an object's frame is the object's page there, and inside its size
 *  10 resident counts are the sums over the entries
 *  11 a large leaf lies within one region, and the space counts them
 *  12 a region of huge pages has entries for whole ones alone: its object's, or private; counted
 *
 * The machine:
 *  13 every space on the list is sound, and the list is as long as it says
 *  14 a frame's `maps` is the number of entries in all spaces that map it
 *  15 a frame has at least as many references as entries, and an object's one more
 *
 * 14 needs a count for each frame and has no memory for it: it takes each entry
 * off the frame's own count, looks whether zero is left everywhere, and puts
 * them back.
 */
#include "hugetlb.h"
#include "swap.h"

#include <quire/writer.h>

struct check {
    struct qr_space *space;
    char *message;
    size_t bytes;
    bool sound;
};

static void QR_PRINTF(2, 3) check_fail(struct check *check, const char *format, ...)
{
    struct qr_buffer_writer writer;
    va_list arguments;

    if (!check->sound)
        return;
    check->sound = false;
    qr_buffer_writer_init(&writer, check->message, check->bytes);
    va_start(arguments, format);
    qr_writer_vprintf(&writer.writer, format, arguments);
    va_end(arguments);
}

#define CHECK(check, condition, ...)        \
    do {                                    \
        if (!(condition))                   \
            check_fail(check, __VA_ARGS__); \
    } while (0)

/* ---- Regions ------------------------------------------------------------------ */

static void
check_extent(struct check *check, const struct qr_region *region)
{
    const struct qr_layout *layout = &check->space->layout;
    const struct qr_region *below = qr_region_previous(region);
    unsigned long start = region->start.v;

    CHECK(check, region->space == check->space, "region 0x%lx belongs to another space", start);
    CHECK(check, region->start.v < region->end.v, "region 0x%lx is empty", start);
    CHECK(check, ((region->start.v | region->end.v) & QR_PAGE_MASK) == 0,
          "region 0x%lx is not page-aligned", start);
    CHECK(check, region->start.v >= layout->user_start.v && region->end.v <= layout->user_end.v,
          "region 0x%lx leaves the user half", start);
    if (below == NULL)
        return;
    CHECK(check, below->end.v <= region->start.v, "region 0x%lx overlaps the one below", start);
    CHECK(check, !qr_region_can_merge(below, region), "region 0x%lx could be merged", start);
}

/* Recomputed the slow way: from the node's children alone, by their own summaries. */
static void
check_summary(struct check *check, struct qr_region *region)
{
    struct qr_region copy = *region;

    check->space->regions.update(&copy.node);
    CHECK(check,
          copy.subtree_start.v == region->subtree_start.v &&
              copy.subtree_end.v == region->subtree_end.v &&
              copy.subtree_gap == region->subtree_gap,
          "region 0x%lx has a stale summary", (unsigned long)region->start.v);
}

static void
check_mapping(struct check *check, const struct qr_region *region)
{
    unsigned long start = region->start.v;

    if (region->object == NULL) {
        CHECK(check, !qr_region_is_shared(region), "shared region 0x%lx has no object", start);
        return;
    }
    CHECK(check,
          region->mapping.first_page == region->object_page &&
              region->mapping.page_count == qr_region_pages(region) &&
              region->mapping.shared == qr_region_is_shared(region) &&
              region->mapping.locked == ((region->flags & QR_REGION_LOCKED) != 0),
          "region 0x%lx and its mapping differ", start);
    CHECK(check, qr_object_is_device(region->object) == ((region->flags & QR_REGION_DEVICE) != 0),
          "region 0x%lx is a device by half", start);
}

/* The region-derived counts, as qr_count_region() would have made them. */
static void
check_add(struct qr_space_counts *sum, const struct qr_region *region)
{
    size_t pages = qr_region_pages(region);

    sum->region_count++;
    sum->virtual_pages += pages;
    if (qr_region_is_stack(region->flags))
        sum->stack_pages += pages;
    else if (qr_region_is_data(region->prot, region->flags))
        sum->data_pages += pages;
    else if ((region->prot & (QR_PROT_EXEC | QR_PROT_WRITE)) == QR_PROT_EXEC)
        sum->exec_pages += pages;
    sum->shared_pages += qr_region_is_shared(region) ? pages : 0;
    sum->locked_pages += (region->flags & QR_REGION_LOCKED) != 0 ? pages : 0;
}

static void
check_regions(struct check *check)
{
    const struct qr_space_counts *counts = &check->space->counts;
    struct qr_space_counts sum = {.region_count = 0};

    CHECK(check, qr_tree_validate(&check->space->regions), "the tree is out of balance");
    for (struct qr_region *region = qr_region_of(qr_tree_first(&check->space->regions));
         region != NULL && check->sound; region = qr_region_next(region)) {
        check_extent(check, region);
        check_summary(check, region);
        check_mapping(check, region);
        check_add(&sum, region);
    }
    CHECK(check, sum.region_count == counts->region_count, "%zu regions, counted %zu",
          sum.region_count, counts->region_count);
    CHECK(check, sum.virtual_pages == counts->virtual_pages, "%zu virtual pages, counted %zu",
          sum.virtual_pages, counts->virtual_pages);
    CHECK(check, counts->virtual_pages <= counts->peak_virtual_pages, "virtual peak too low");
    CHECK(check, sum.data_pages == counts->data_pages && sum.stack_pages == counts->stack_pages,
          "%zu data and %zu stack pages, counted %zu and %zu", sum.data_pages, sum.stack_pages,
          counts->data_pages, counts->stack_pages);
    CHECK(check, sum.exec_pages == counts->exec_pages, "%zu exec pages, counted %zu",
          sum.exec_pages, counts->exec_pages);
    CHECK(check,
          sum.locked_pages == counts->locked_pages && sum.shared_pages == counts->shared_pages,
          "%zu locked and %zu shared pages, counted %zu and %zu", sum.locked_pages,
          sum.shared_pages, counts->locked_pages, counts->shared_pages);
}

/* ---- Entries -------------------------------------------------------------------- */

static void
check_private_leaf(struct check *check, const struct qr_region *region,
                   const struct qr_entry *entry, const struct qr_frame *frame)
{
    unsigned long at = entry->start.v;
    bool writable = (entry->leaf.prot & QR_PROT_WRITE) != 0;

    CHECK(check, !qr_region_is_shared(region), "private frame in shared region at 0x%lx", at);
    CHECK(check, atomic_load(&frame->maps) >= 1, "private frame at 0x%lx counts no entry", at);
    CHECK(check, !writable || atomic_load(&frame->maps) == 1,
          "writable private frame at 0x%lx is mapped %u times", at, atomic_load(&frame->maps));
    CHECK(check, !writable || qr_frame_type(frame) != QR_FRAME_SWAP,
          "the page of the swap cache at 0x%lx is writable", at);
}

static void
check_merged_leaf(struct check *check, const struct qr_region *region, const struct qr_entry *entry,
                  const struct qr_frame *frame)
{
    unsigned long at = entry->start.v;

    CHECK(check, (region->flags & QR_REGION_MERGEABLE) != 0,
          "a merged frame at 0x%lx in a region that is not mergeable", at);
    CHECK(check, atomic_load(&frame->maps) >= 1, "merged frame at 0x%lx counts no entry", at);
    CHECK(check, (entry->leaf.prot & QR_PROT_WRITE) == 0 && entry->level == 0,
          "the merged frame at 0x%lx may be written, or is large", at);
}

static void
check_object_leaf(struct check *check, const struct qr_region *region, const struct qr_entry *entry,
                  const struct qr_frame *frame)
{
    unsigned long at = entry->start.v;
    bool writable = (entry->leaf.prot & QR_PROT_WRITE) != 0;

    CHECK(check, region->object != NULL, "an object's frame in an anonymous region at 0x%lx", at);
    if (region->object == NULL)
        return;
    CHECK(check,
          qr_object_page_is_current(region->object, qr_region_object_page(region, entry->start),
                                    frame),
          "the frame at 0x%lx is not the object's page, or past its end", at);
    CHECK(check, !writable || qr_region_is_shared(region),
          "a private mapping may write the object's frame at 0x%lx", at);
}

static void
check_page(struct check *check, const struct qr_region *region, const struct qr_entry *entry,
           long *resident)
{
    unsigned long at = entry->start.v;
    unsigned extra = entry->leaf.prot & QR_PROT_RWX & ~region->prot;
    struct qr_frame *frame = qr_leaf_frame(region, &entry->leaf);

    /* Formats grant READ with anything. */
    if ((region->prot & QR_PROT_RWX) != 0)
        extra &= ~(unsigned)QR_PROT_READ;
    CHECK(check, (extra & (QR_PROT_READ | QR_PROT_WRITE)) == 0,
          "the entry at 0x%lx has rights 0x%x of a region with 0x%x", at, entry->leaf.prot,
          region->prot);
    if (frame == NULL) {
        CHECK(check,
              (region->flags & QR_REGION_DEVICE) != 0 || (entry->leaf.prot & QR_PROT_WRITE) == 0,
              "the zero frame is writable at 0x%lx", at);
        return;
    }
    if (qr_frame_is_merged(frame)) {
        resident[QR_RESIDENT_ANON]++;
        check_merged_leaf(check, region, entry, frame);
    } else if (qr_frame_is_private(frame)) {
        resident[QR_RESIDENT_ANON]++;
        check_private_leaf(check, region, entry, frame);
    } else if (qr_frame_type(frame) == QR_FRAME_OBJECT) {
        bool memory = region->object != NULL && qr_object_is_memory(region->object);

        resident[memory ? QR_RESIDENT_SHMEM : QR_RESIDENT_FILE]++;
        check_object_leaf(check, region, entry, frame);
    } else {
        check_fail(check, "the entry at 0x%lx maps a frame of type %d", at,
                   (int)qr_frame_type(frame));
    }
}

/* The page of a large leaf at @offset as the small leaf that would say the same. */
static struct qr_entry
page_of_large(const struct qr_entry *entry, uintptr_t offset)
{
    struct qr_entry page = *entry;

    page.level = 0;
    page.start.v += offset;
    page.leaf.level = 0;
    page.leaf.pa.v += offset;
    return page;
}

struct check_sums {
    long resident[3];
    long swapped;
    long large;
};

static void
check_leaf(struct check *check, const struct qr_region *region, const struct qr_entry *entry,
           struct check_sums *sums)
{
    uintptr_t end = qr_entry_end(&check->space->tables, entry);

    if (entry->level == 0) {
        check_page(check, region, entry, sums->resident);
        return;
    }
    sums->large++;
    CHECK(check, end <= region->end.v, "the large leaf at 0x%lx leaves its region",
          (unsigned long)entry->start.v);
    if (qr_leaf_is_zero(check->space->vm, &entry->leaf)) {
        CHECK(check, (entry->leaf.prot & QR_PROT_WRITE) == 0,
              "the huge frame of zeroes is writable at 0x%lx", (unsigned long)entry->start.v);
        return;
    }
    for (uintptr_t at = entry->start.v; at < end && check->sound; at += QR_PAGE_SIZE) {
        struct qr_entry page = page_of_large(entry, at - entry->start.v);

        check_page(check, region, &page, sums->resident);
    }
}

/*
 * A huge page in one entry, or in a group's: the object's own, or a copy that is writable only
 * where exclusive.  @return its end
 */
static qr_va
check_hugetlb_leaf(struct check *check, const struct qr_region *region,
                   const struct qr_entry *entry, long *pages)
{
    struct qr_hugetlb_pool *pool = qr_region_hugetlb_pool(region);
    struct qr_frame *head = qr_leaf_frame(region, &entry->leaf);
    unsigned long at = entry->start.v;
    bool writable = (entry->leaf.prot & QR_PROT_WRITE) != 0;

    CHECK(check, entry->level == pool->level && (at & (hugetlb_bytes(pool) - 1)) == 0,
          "the entry at 0x%lx is not for a huge page", at);
    CHECK(check, qr_frame_type(head) == QR_FRAME_HUGE, "no huge page at 0x%lx", at);
    CHECK(check, !writable || (region->prot & QR_PROT_WRITE) != 0,
          "the huge page at 0x%lx is writable and its region is not", at);
    *pages += (long)hugetlb_frames(pool);
    if (!check->sound)
        return entry->start;
    if (qr_hugetlb_is_shared(head)) {
        CHECK(check, !writable || qr_region_is_shared(region),
              "a private mapping may write the object's huge page at 0x%lx", at);
        CHECK(check,
              qr_object_page_is_current(region->object, qr_region_object_page(region, entry->start),
                                        head),
              "the huge page at 0x%lx is not the object's, or past its end", at);
    } else {
        CHECK(check, !qr_region_is_shared(region), "private huge page in a shared region at 0x%lx",
              at);
        CHECK(check, !writable || atomic_load(&head->maps) == 1,
              "the writable private huge page at 0x%lx is mapped %u times", at,
              atomic_load(&head->maps));
    }
    return qr_hugetlb_page_range(pool, entry->start).end;
}

/* The next entry of the user half at or after *va. */
static bool
next_entry(struct qr_space *space, qr_va *va, struct qr_entry *out_entry)
{
    if (va->v >= space->layout.user_end.v || !qr_tables_next(&space->tables, *va, out_entry) ||
        out_entry->start.v >= space->layout.user_end.v)
        return false;
    va->v = qr_entry_end(&space->tables, out_entry);
    return true;
}

static void
check_entries(struct check *check)
{
    struct qr_space *space = check->space;
    struct check_sums sums = {.large = 0};
    long hugetlb = 0;
    struct qr_entry entry;
    qr_va va = qr_va_of(0);

    while (check->sound && next_entry(space, &va, &entry)) {
        const struct qr_region *region = qr_space_find(space, entry.start);

        if (region == NULL || region->start.v > entry.start.v)
            check_fail(check, "the entry at 0x%lx lies in no region", (unsigned long)entry.start.v);
        else if (entry.kind == QR_ENTRY_LEAF && qr_region_is_hugetlb(region))
            va = check_hugetlb_leaf(check, region, &entry, &hugetlb);
        else if (entry.kind == QR_ENTRY_LEAF)
            check_leaf(check, region, &entry, &sums);
        else
            sums.swapped += qr_entry_is_swap(&entry);
    }
    CHECK(check, sums.large == atomic_load(&space->large_leaves), "%ld large leaves, counted %ld",
          sums.large, atomic_load(&space->large_leaves));
    CHECK(check, sums.swapped == atomic_load(&space->swapped),
          "%ld entries name slots of swap, counted %ld", sums.swapped,
          atomic_load(&space->swapped));
    CHECK(check, hugetlb == atomic_load(&space->hugetlb_pages),
          "%ld pages in huge pages of pools, counted %ld", hugetlb,
          atomic_load(&space->hugetlb_pages));
    for (int kind = 0; kind < 3; kind++)
        CHECK(check, sums.resident[kind] == atomic_load(&space->resident[kind]),
              "%ld resident pages of kind %d, counted %ld", sums.resident[kind], kind,
              atomic_load(&space->resident[kind]));
}

bool
qr_space_validate(struct qr_space *space, char *out_message, size_t bytes)
{
    struct check check = {.space = space, .message = out_message, .bytes = bytes, .sound = true};

    check_regions(&check);
    if (check.sound && !qr_tables_validate(&space->tables, out_message, bytes))
        return false;
    if (check.sound)
        check_entries(&check);
    return check.sound;
}

/* ---- The machine ------------------------------------------------------------------- */

/* Do @fn for the frame of every entry that holds a reference. */
static void
each_leaf_frame(struct qr_vm *vm, void (*fn)(struct check *, struct qr_frame *),
                struct check *check)
{
    qr_list_for_each(link, &vm->all)
    {
        struct qr_space *space = qr_space_of_link(link);
        struct qr_entry entry;
        qr_va va = qr_va_of(0);

        while (next_entry(space, &va, &entry)) {
            const struct qr_region *region = qr_space_find(space, entry.start);
            bool leaf = entry.kind == QR_ENTRY_LEAF && !qr_leaf_is_zero(vm, &entry.leaf);
            size_t pages = leaf ? qr_large_pages(&space->tables, entry.level) : 0;

            if (leaf && qr_region_is_hugetlb(region)) {
                pages = 1; /* counted in its first frame */
                va = qr_hugetlb_page_range(qr_region_hugetlb_pool(region), entry.start).end;
            }
            for (size_t i = 0; i < pages; i++) {
                struct qr_entry page = page_of_large(&entry, i << QR_PAGE_SHIFT);
                struct qr_frame *frame = qr_leaf_frame(region, &page.leaf);

                if (frame != NULL)
                    fn(check, frame);
            }
        }
    }
}

static void
frame_check_references(struct check *check, struct qr_frame *frame)
{
    uint32_t refs = atomic_load(&frame->refs);
    uint32_t own = qr_frame_type(frame) == QR_FRAME_OBJECT || qr_frame_type(frame) == QR_FRAME_SWAP;

    if (qr_frame_type(frame) == QR_FRAME_HUGE)
        return; /* whose uses are counted elsewhere */
    CHECK(check, refs >= atomic_load(&frame->maps) + own,
          "a frame with %u entries has %u references", atomic_load(&frame->maps), refs);
}

static void
frame_take_entry(struct check *check, struct qr_frame *frame)
{
    (void)check;
    atomic_fetch_sub(&frame->maps, 1);
}

static void
frame_check_none_left(struct check *check, struct qr_frame *frame)
{
    CHECK(check, atomic_load(&frame->maps) == 0, "a frame counts %d entries too many",
          (int)atomic_load(&frame->maps));
}

static void
frame_return_entry(struct check *check, struct qr_frame *frame)
{
    (void)check;
    atomic_fetch_add(&frame->maps, 1);
}

/* Add @delta to the uses of the slot that each mark of swap names, objects' among them.  False: one has none left. */
static bool
recount_marks(struct qr_vm *vm, int delta)
{
    bool enough = qr_objects_recount(vm->config.objects, delta);

    qr_list_for_each(link, &vm->all)
    {
        struct qr_space *space = qr_space_of_link(link);
        struct qr_entry entry;
        qr_va va = qr_va_of(0);

        while (atomic_load(&space->swapped) != 0 && next_entry(space, &va, &entry)) {
            if (qr_entry_is_swap(&entry) &&
                qr_swap_recount(vm->config.swap, qr_mark_slot(&entry.mark), delta) == 0 &&
                delta < 0)
                enough = false;
        }
    }
    return enough;
}

/* Every slot has as many uses as entries and indexes of objects name it. */
static void
check_swap(struct check *check, struct qr_vm *vm)
{
    if (!qr_swap_validate(vm->config.swap, check->message, check->bytes)) {
        check->sound = false;
        return;
    }
    CHECK(check, recount_marks(vm, -1), "an entry names a slot of swap that does not count it");
    CHECK(check, qr_swap_users(vm->config.swap) == 0, "a slot of swap counts %zu entries too many",
          qr_swap_users(vm->config.swap));
    (void)recount_marks(vm, 1);
}

bool
qr_vm_validate(struct qr_vm *vm, char *out_message, size_t bytes)
{
    struct check check = {.message = out_message, .bytes = bytes, .sound = true};
    size_t count = 0;

    qr_list_for_each(link, &vm->all)
    {
        count++;
        if (!qr_space_validate(qr_space_of_link(link), out_message, bytes))
            return false;
    }
    CHECK(&check, count == vm->space_count, "%zu spaces on the list, counted %zu", count,
          vm->space_count);
    each_leaf_frame(vm, frame_check_references, &check);
    each_leaf_frame(vm, frame_take_entry, &check);
    each_leaf_frame(vm, frame_check_none_left, &check);
    each_leaf_frame(vm, frame_return_entry, &check);
    if (check.sound && vm->config.swap != NULL)
        check_swap(&check, vm);
    return check.sound;
}
