/* SPDX-License-Identifier: MIT */
/*
 * Cursors of several CPUs on overlapping ranges of one tree, with real frames
 * and tables that come and go.  What can go wrong shows as a lost frame, a
 * broken tree, an assertion, or a report of the thread sanitizer.
 */
#include <pthread.h>
#include <unistd.h>

#include "tests/unit/table/rig.h"

#define CPUS   4
#define ROUNDS 1500
#define RW     (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)

struct worker {
    struct rig *rig;
    unsigned cpu;
    uint64_t random;
    uintptr_t base;
    uintptr_t pages; /* of the arena: three tables of level 0 */
    pthread_t thread;
};

static struct qr_va_range
random_range(struct worker *w)
{
    uintptr_t first = test_random(&w->random) % w->pages;
    uintptr_t limit = test_random(&w->random) % 4 == 0 ? w->pages : 16;
    uintptr_t count = 1 + test_random(&w->random) % limit;

    if (first + count > w->pages)
        count = w->pages - first;
    return rig_range(w->base + first * w->rig->page, count * w->rig->page);
}

static void
work_map(struct worker *w, struct qr_tlb_batch *batch)
{
    struct qr_va_range range = random_range(w);
    struct qr_frame *frame = qr_frame_alloc_block(w->rig->machine->frames,
                                                  w->rig->f->info.page_shift - QR_PAGE_SHIFT, 0);
    struct qr_cursor c;

    if (frame == NULL)
        return;
    struct qr_leaf leaf = rig_leaf(qr_frame_pa(w->rig->machine->frames, frame).v, RW, 0);

    qr_cursor_open(&c, &w->rig->tables, range, batch);
    if (qr_cursor_prepare(&c, range.start, 0) == QR_OK) {
        struct qr_entry old = qr_cursor_query(&c, range.start);

        if (old.kind == QR_ENTRY_LEAF) {
            old = qr_cursor_replace(&c, range.start, &leaf);
            frame = qr_frame_of(w->rig->machine->frames, qr_pa_to_pfn(old.leaf.pa));
        } else {
            qr_cursor_map(&c, range.start, &leaf);
            frame = NULL;
        }
    }
    if (frame != NULL)
        qr_tlb_batch_add_frame(batch, frame);
    qr_cursor_close(&c);
}

struct taking {
    struct worker *worker;
    struct qr_tlb_batch *batch;
};

static void
take(void *context, const struct qr_entry *entry)
{
    struct taking *taking = context;
    struct qr_frames *frames = taking->worker->rig->machine->frames;

    qr_tlb_batch_add_frame(taking->batch, qr_frame_of(frames, qr_pa_to_pfn(entry->leaf.pa)));
}

static void
work_unmap(struct worker *w, struct qr_tlb_batch *batch)
{
    struct qr_va_range range = random_range(w);
    struct taking taking = {w, batch};
    struct qr_cursor c;

    qr_cursor_open(&c, &w->rig->tables, range, batch);
    qr_cursor_unmap_range(&c, range, take, &taking);
    qr_cursor_close(&c);
}

static void
work_look(struct worker *w)
{
    struct qr_va_range range = random_range(w);
    struct qr_entry entry;
    struct qr_cursor c;

    qr_cursor_open(&c, &w->rig->tables, range, NULL);
    if (qr_cursor_find(&c, range.start, &entry)) {
        /* The entry is ours while the cursor is open: its frame is alive. */
        EXPECT_EQ(entry.kind, QR_ENTRY_LEAF);
        EXPECT_EQ(qr_cursor_query(&c, entry.start).leaf.pa.v, entry.leaf.pa.v);
    }
    qr_cursor_close(&c);
}

static void
work_protect(struct worker *w, struct qr_tlb_batch *batch)
{
    struct qr_va_range range = random_range(w);
    struct qr_cursor c;

    qr_cursor_open(&c, &w->rig->tables, range, batch);
    qr_cursor_protect_range(&c, range, QR_PROT_READ | QR_PROT_USER, 0, NULL, NULL);
    qr_cursor_close(&c);
}

static void *
worker_main(void *context)
{
    struct worker *w = context;
    struct qr_tlb_batch batch;

    machine_enter(w->rig->machine, w->cpu);
    for (unsigned round = 0; round < ROUNDS; round++) {
        rig_batch(w->rig, &batch);
        switch (test_random(&w->random) % 8) {
        case 0:
            work_unmap(w, &batch);
            break;
        case 1:
            work_look(w);
            break;
        case 2:
            work_protect(w, &batch);
            break;
        default:
            work_map(w, &batch);
            break;
        }
        batch.flush(&batch);
    }
    return NULL;
}

/* Up to the end of an entry of level 2, where there is one. */
static uintptr_t
arena(const struct rig *rig)
{
    uintptr_t span = rig_size(rig, 1);

    return rig->f->info.levels > 2 ? rig_size(rig, 2) - span : span;
}

TEST_THREADS(table, cursors_of_four_cpus_overlap)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, CPUS);
        struct worker workers[CPUS];

        for (unsigned i = 0; i < CPUS; i++) {
            workers[i] = (struct worker){.rig = rig, .cpu = i, .random = test_seed() + i};
            workers[i].base = arena(rig);
            workers[i].pages = 3 * rig_size(rig, 1) / rig->page;
            ASSERT_EQ(pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]), 0);
        }
        for (unsigned i = 0; i < CPUS; i++)
            ASSERT_EQ(pthread_join(workers[i].thread, NULL), 0);

        struct taking taking = {&workers[0], &rig->batch};
        struct qr_va_range all = rig_range(0, rig->tables.lower_end);
        struct qr_cursor c;

        rig_validate(rig);
        qr_cursor_open(&c, &rig->tables, all, &rig->batch);
        qr_cursor_unmap_range(&c, all, take, &taking);
        qr_cursor_close(&c);
        rig->batch.flush(&rig->batch);
        EXPECT_EQ(rig->tables.table_count, rig->base_tables);
        rig_shutdown(rig);
    }
}

static void *
open_same_page(void *context)
{
    struct worker *w = context;
    struct qr_cursor c;

    machine_enter(w->rig->machine, w->cpu);
    qr_cursor_open(&c, &w->rig->tables, rig_range(w->base, w->rig->page), NULL);
    qr_cursor_close(&c);
    return NULL;
}

/* While a cursor waits for its table's lock, the table is kept from reuse by its section. */
TEST_THREADS(table, a_cursor_is_in_a_section_until_it_holds_its_table)
{
    EVERY_FORMAT(format)
    {
        struct rig *rig = rig_boot(format, 2);
        struct worker w = {.rig = rig, .cpu = 1, .base = rig_size(rig, 1)};
        struct qr_cursor c;
        bool seen = false;

        ASSERT_STATUS(rig_map(rig, w.base, rig_leaf(rig->page, RW, 0)), QR_OK);
        qr_cursor_open(&c, &rig->tables, rig_range(w.base, rig->page), NULL);
        EXPECT_EQ(atomic_load(&rig->epoch->cpus[0].seen), 0);
        ASSERT_EQ(pthread_create(&w.thread, NULL, open_same_page, &w), 0);
        for (unsigned i = 0; i < 20000 && !seen; i++) {
            seen = atomic_load(&rig->epoch->cpus[1].seen) != 0;
            usleep(100);
        }
        EXPECT_TRUE(seen);
        qr_cursor_close(&c);
        ASSERT_EQ(pthread_join(w.thread, NULL), 0);
        EXPECT_EQ(atomic_load(&rig->epoch->cpus[1].seen), 0);
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}

/* ---- Hardware ------------------------------------------------------------------ */

#define HARDWARE_PAGES  32
#define HARDWARE_ROUNDS 8000

struct hardware {
    struct rig *rig;
    void *table;
    size_t first; /* entry of page 0 */
    _Atomic bool stop;
    unsigned wrote[HARDWARE_PAGES]; /* how often a clean page became dirty */
    unsigned seen[HARDWARE_PAGES];  /* how often it was found dirty and made clean */
};

/* A CPU that writes where it may, and notes so in the entry as hardware does: atomically. */
static void *
hardware_main(void *context)
{
    struct hardware *h = context;
    walk_format f = h->rig->f;
    uint64_t random = 1;

    while (!atomic_load(&h->stop)) {
        size_t page = test_random(&random) % HARDWARE_PAGES;
        qr_pte old = pte_load(f, h->table, h->first + page);

        if (old == 0 || !f->present(f, old, 0) || !f->writable(f, old, 0))
            continue;
        qr_pte new = f->flag(f, old, 0, QR_LEAF_ACCESSED | QR_LEAF_DIRTY, 0);

        bool clean = (f->read_leaf(f, old, 0).flags & QR_LEAF_DIRTY) == 0;

        if (pte_swap(f, h->table, h->first + page, &old, new))
            h->wrote[page] += clean;
    }
    return NULL;
}

static bool
always(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
    return true;
}

/* Give all pages other rights, or one; or make one clean. */
static void
change_rights(struct hardware *h, struct qr_va_range range, uint64_t *random)
{
    unsigned prot = test_random(random) % 2 == 0 ? RW : QR_PROT_READ | QR_PROT_USER;
    size_t page = test_random(random) % HARDWARE_PAGES;
    qr_va va = qr_va_of(range.start.v + page * h->rig->page);
    struct qr_leaf clean = rig_leaf(page * h->rig->page, prot, 0);
    struct qr_cursor c;

    qr_cursor_open(&c, &h->rig->tables, range, &h->rig->batch);
    switch (test_random(random) % 4) {
    case 0:
        qr_cursor_protect_range(&c, range, prot, 0, always, NULL);
        break;
    case 1:
        qr_cursor_update(&c, va, prot, QR_LEAF_SOFT_1, 0);
        break;
    default:
        h->seen[page] += (qr_cursor_replace(&c, va, &clean).leaf.flags & QR_LEAF_DIRTY) != 0;
        break;
    }
    qr_cursor_close(&c);
    h->rig->batch.flush(&h->rig->batch);
}

/* No write is forgotten, and none is noted where the rights were taken: the entries stay sound. */
TEST_THREADS(table, hardware_notes_writes_while_rights_change)
{
    EVERY_FORMAT(format)
    {
        struct hardware h = {.rig = rig_boot(format, 1)};
        struct rig *rig = h.rig;
        struct qr_va_range range = rig_range(rig_size(rig, 1), HARDWARE_PAGES * rig->page);
        uint64_t random = test_seed();
        struct qr_cursor c;
        pthread_t thread;

        for (size_t i = 0; i < HARDWARE_PAGES; i++)
            ASSERT_STATUS(
                rig_map(rig, range.start.v + i * rig->page, rig_leaf(i * rig->page, RW, 0)), QR_OK);
        qr_cursor_open(&c, &rig->tables, rig_range(range.start.v, rig->page), NULL);
        h.table = qr_port_window_open(c.pa[0]);
        h.first = walk_index(rig->f, range.start.v, 0);
        qr_cursor_close(&c);
        ASSERT_EQ(pthread_create(&thread, NULL, hardware_main, &h), 0);
        for (unsigned round = 0; round < HARDWARE_ROUNDS; round++)
            change_rights(&h, range, &random);
        atomic_store(&h.stop, true);
        ASSERT_EQ(pthread_join(thread, NULL), 0);
        rig_validate(rig);
        for (size_t i = 0; i < HARDWARE_PAGES; i++) {
            struct qr_entry entry = rig_query(rig, range.start.v + i * rig->page);

            EXPECT_EQ(h.wrote[i], h.seen[i] + ((entry.leaf.flags & QR_LEAF_DIRTY) != 0));
        }
        rig_unmap_all(rig);
        rig_shutdown(rig);
    }
}
