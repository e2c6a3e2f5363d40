/* SPDX-License-Identifier: MIT */
/*
 * The calls against a naive model: a space is an array of pages, each with its
 * properties and its value; every call is a loop over pages.  Random sequences of
 * calls, loads and stores by several processes must end alike in both.
 *
 * Under refusal, each call first meets an allocation that fails.  It must then
 * leave everything as it was (the target of a FIXED remap excepted: that may be
 * unmapped already), and succeed when it is made again.
 *
 * The model decides every status by itself.  It knows no regions: where a call
 * cares whether a range lies in one, pages are in one region where they are side
 * by side, equal, and backed by pages in a row.
 */
#include "harness.h"

#include <quire/fault.h>
#include <quire/shrink.h>

#include <string.h>

#include "drain.h"

enum {
    PAGES = 48,      /* of the arena */
    BRK_ORIGIN = 36, /* page where the break begins */
    PROCESSES = 3,
    FILES = 3, /* objects that the test makes; the rest are shared anonymous memory */
    OBJECTS = 64,
    OBJECT_PAGES = 48,
    STEPS = 40,
};

enum {
    SHARED = QR_REGION_SHARED,
    LOCKED = QR_REGION_LOCKED,
    ON_FAULT = QR_REGION_LOCKED_ON_FAULT,
    DONT_FORK = QR_REGION_DONT_FORK,
    WIPE = QR_REGION_WIPE_ON_FORK,
    RANDOM = QR_REGION_RANDOM,
    SEEN = SHARED | LOCKED | ON_FAULT | DONT_FORK | WIPE | RANDOM,
};

struct page {
    bool mapped;
    bool accounted; /* once promised, memory stays promised: part of the properties */
    unsigned prot, flags;
    int object; /* -1: none */
    size_t index;
    bool own;  /* a private copy, with this value */
    bool lazy; /* ... or zero from some moment on, unless it is written to first */
    uint64_t value;
};

struct process {
    bool alive;
    struct qr_space *space;
    struct page pages[PAGES];
    size_t brk; /* page */
};

struct file {
    size_t pages;
    uint64_t values[OBJECT_PAGES];
};

struct model {
    struct sim *sim;
    struct sim_disk *disk; /* to swap to */
    uint64_t random;
    struct process processes[PROCESSES];
    struct process *now;
    struct file files[OBJECTS];
    int file_count;
    struct qr_object *objects[FILES];
    uint64_t backing[OBJECT_PAGES]; /* of the object with a pager */
    unsigned step;
    const char *what;
    bool refusing;     /* allocations fail */
    uint64_t refusals; /* its own sequence, so that a step made again picks alike */
    bool refused;      /* the call failed for it */
    size_t target[4];  /* pages that a refused remap may have unmapped: two ranges */
};

static size_t
pick(struct model *m, size_t below)
{
    return test_random(&m->random) % below;
}

/* ---- The model ------------------------------------------------------------------- */

static bool
pages_alike(const struct page *a, const struct page *b)
{
    return a->mapped && b->mapped && a->prot == b->prot && a->flags == b->flags &&
           a->accounted == b->accounted && a->object == b->object &&
           (a->object < 0 || a->index + 1 == b->index);
}

/* How many pages from @first on lie in one region. */
static size_t
run_of(const struct process *p, size_t first)
{
    size_t n = 1;

    while (first + n < PAGES && pages_alike(&p->pages[first + n - 1], &p->pages[first + n]))
        n++;
    return n;
}

static enum sim_signal
access_page(const struct model *m, const struct page *page, unsigned access)
{
    if (!page->mapped)
        return SIM_SEGV_MAPERR;
    if (access == QR_ACCESS_WRITE ? (page->prot & QR_PROT_WRITE) == 0 : page->prot == 0)
        return SIM_SEGV_ACCERR;
    if (page->object >= 0 && page->index >= m->files[page->object].pages)
        return SIM_BUS_ADRERR;
    return SIM_OK;
}

static uint64_t
page_value(const struct model *m, const struct page *page)
{
    if (page->own)
        return page->value;
    return page->object < 0 ? 0 : m->files[page->object].values[page->index];
}

static void
page_set(struct model *m, struct page *page, uint64_t value)
{
    if ((page->flags & SHARED) != 0) {
        m->files[page->object].values[page->index] = value;
        return;
    }
    page->own = true;
    page->lazy = false;
    page->value = value;
}

static void
pages_clear(struct process *p, size_t first, size_t last)
{
    for (size_t i = first; i < last; i++)
        p->pages[i] = (struct page){.object = -1};
}

/* What populating does: a private writable page gets its copy at once.  False where it fails. */
static bool
populate(struct model *m, struct process *p, size_t first, size_t last)
{
    for (size_t i = first; i < last; i++) {
        struct page *page = &p->pages[i];
        bool copies = (page->prot & QR_PROT_WRITE) != 0 && (page->flags & SHARED) == 0;

        if (!page->mapped)
            continue;
        if (access_page(m, page, copies ? QR_ACCESS_WRITE : QR_ACCESS_READ) != SIM_OK)
            return false;
        if (copies) {
            bool lazy = page->lazy;

            page_set(m, page, page_value(m, page));
            page->lazy = lazy; /* whether it was zero by then shows when it is looked at */
        }
    }
    return true;
}

/* ---- Comparing -------------------------------------------------------------------- */

/* Are the current process's pages mapped as the model says? */
static bool
looks_right(const struct model *m)
{
    for (size_t i = 0; i < PAGES; i++) {
        const struct page *page = &m->now->pages[i];
        const struct qr_region *region = qr_space_find(m->now->space, sim_page(i));
        bool mapped = region != NULL && region->start.v <= sim_page(i).v;

        if (mapped != page->mapped ||
            (mapped && (region->prot != page->prot || (region->flags & SEEN) != page->flags)))
            return false;
    }
    return true;
}

/*
 * Did the call fail because an allocation was refused?  Where it had to fail
 * anyway, at a hole, it may have come there or not: its effects tell.
 */
static bool
was_refused(struct model *m, enum qr_status got, enum qr_status want)
{
    m->refused = m->refusing && sim_refused(m->sim) > 0 &&
                 (got == QR_ERR_NO_MEMORY || got == QR_ERR_AGAIN) &&
                 (got != want || !looks_right(m));
    return m->refused;
}

static void
expect_status(struct model *m, enum qr_status got, enum qr_status want)
{
    if (!was_refused(m, got, want) && got != want)
        TEST_FAIL("step %u, %s: %s, the model says %s", m->step, m->what, qr_status_name(got),
                  qr_status_name(want));
}

static void
compare_page(struct model *m, size_t i)
{
    struct page *page = &m->now->pages[i];
    struct qr_region *region = qr_space_find(m->now->space, sim_page(i));
    bool mapped = region != NULL && region->start.v <= sim_page(i).v;

    if (mapped != page->mapped)
        TEST_FAIL("step %u, %s: page %zu is %smapped", m->step, m->what, i, mapped ? "" : "not ");
    else if (mapped && (region->prot != page->prot || (region->flags & SEEN) != page->flags))
        TEST_FAIL("step %u, %s: page %zu has prot %u flags %x, the model %u %x", m->step, m->what,
                  i, region->prot, region->flags & SEEN, page->prot, page->flags);
    uint64_t value = 0;
    enum sim_signal signal = sim_load(sim_page(i), &value, sizeof(value));

    if (signal != access_page(m, page, QR_ACCESS_READ))
        TEST_FAIL("step %u, %s: load of page %zu ends with %s", m->step, m->what, i,
                  sim_signal_name(signal));
    else if (signal == SIM_OK && page->lazy && value == 0)
        page->own = page->lazy = false; /* and it stays so */
    else if (signal == SIM_OK && value != page_value(m, page))
        TEST_FAIL("step %u, %s: page %zu holds %llu, the model %llu", m->step, m->what, i,
                  (unsigned long long)value, (unsigned long long)page_value(m, page));
}

static void
switch_to(struct model *m, struct process *p)
{
    m->now = p;
    sim_use(m->sim, p->space);
}

static void
compare_all(struct model *m)
{
    for (size_t k = 0; k < PROCESSES; k++) {
        if (!m->processes[k].alive)
            continue;
        switch_to(m, &m->processes[k]);
        for (size_t i = 0; i < PAGES; i++)
            compare_page(m, i);
        EXPECT_EQ(qr_space_brk(m->now->space, qr_va_of(0)).v, sim_page(m->now->brk).v);
    }
}

/* ---- Steps ------------------------------------------------------------------------ */

enum { PROTS = 8 };
static const unsigned prots[PROTS] = {SIM_N, SIM_R, SIM_W,         SIM_X,
                                      SIM_W, SIM_W, QR_PROT_WRITE, QR_PROT_EXEC};

static void
pick_range(struct model *m, size_t *first, size_t *last)
{
    *first = pick(m, PAGES);
    *last = *first + 1 + pick(m, 8);
    if (*last > PAGES)
        *last = PAGES;
}

static void
step_map(struct model *m)
{
    size_t first, last;
    struct page page = {.mapped = true, .object = -1};
    struct qr_map_request request = {.flags = QR_MAP_FIXED};
    qr_va va;

    m->what = "map";
    pick_range(m, &first, &last);
    page.prot = prots[pick(m, PROTS)];
    page.flags = pick(m, 2) != 0 ? SHARED : 0;
    if (pick(m, 2) != 0) {
        page.object = (int)pick(m, FILES);
        page.index = pick(m, 8);
        request.object = m->objects[page.object];
        request.object_offset = page.index << QR_PAGE_SHIFT;
    } else if (page.flags == SHARED) {
        if (m->file_count == OBJECTS)
            return;
        page.object = m->file_count++;
        m->files[page.object] = (struct file){.pages = last - first};
    }
    page.accounted = (page.prot & QR_PROT_WRITE) != 0 && page.flags == 0;
    request.hint = sim_page(first);
    request.bytes = (last - first) << QR_PAGE_SHIFT;
    request.prot = page.prot;
    request.region_flags = page.flags;
    expect_status(m, qr_space_map(m->now->space, &request, &va), QR_OK);
    for (size_t i = first; i < last; i++, page.index++)
        m->now->pages[i] = page;
}

static void
step_unmap(struct model *m)
{
    size_t first, last;

    m->what = "unmap";
    pick_range(m, &first, &last);
    expect_status(
        m, qr_space_unmap(m->now->space, sim_page(first), (last - first) << QR_PAGE_SHIFT), QR_OK);
    pages_clear(m->now, first, last);
}

static void
step_protect(struct model *m)
{
    size_t first, last;
    unsigned prot = prots[pick(m, PROTS)];
    enum qr_status want = QR_OK;

    m->what = "protect";
    pick_range(m, &first, &last);
    for (size_t i = first; i < last; i++) {
        struct page *page = &m->now->pages[i];

        if (!page->mapped) {
            want = QR_ERR_NO_MEMORY;
            break;
        }
        page->prot = prot;
        if ((prot & QR_PROT_WRITE) != 0 && (page->flags & SHARED) == 0)
            page->accounted = true;
    }
    expect_status(
        m,
        qr_space_protect(m->now->space, sim_page(first), (last - first) << QR_PAGE_SHIFT, prot, -1),
        want);
}

/* Populating takes what memory there is: as in Linux, its failure is not undone. */
static void
dont_refuse(struct model *m)
{
    sim_refuse_nth(m->sim, 0, SIM_REFUSE_ONCE);
}

static void
step_lock(struct model *m)
{
    static const enum qr_lock_mode modes[] = {QR_UNLOCK, QR_LOCK_NOW, QR_LOCK_ON_FAULT};
    enum qr_lock_mode mode = modes[pick(m, 3)];
    enum qr_status want = QR_OK;
    size_t first, last;

    m->what = "lock";
    pick_range(m, &first, &last);
    if (mode == QR_LOCK_NOW)
        dont_refuse(m);
    for (size_t i = first; i < last && want == QR_OK; i++) {
        struct page *page = &m->now->pages[i];

        if (!page->mapped)
            want = QR_ERR_NO_MEMORY;
        else
            page->flags = (page->flags & ~(unsigned)(LOCKED | ON_FAULT)) |
                          (mode != QR_UNLOCK ? LOCKED : 0) |
                          (mode == QR_LOCK_ON_FAULT ? ON_FAULT : 0);
    }
    if (want == QR_OK && mode == QR_LOCK_NOW && !populate(m, m->now, first, last))
        want = QR_ERR_NO_MEMORY;
    expect_status(
        m,
        qr_space_lock_pages(m->now->space, sim_page(first), (last - first) << QR_PAGE_SHIFT, mode),
        want);
}

static enum qr_status
advise_page(struct page *page, enum qr_advice advice)
{
    switch (advice) {
    case QR_ADVICE_DONT_NEED:
    case QR_ADVICE_FREE:
        if ((page->flags & LOCKED) != 0 || (advice == QR_ADVICE_FREE && page->object >= 0))
            return QR_ERR_INVALID;
        if (advice == QR_ADVICE_FREE)
            page->lazy = page->own;
        else
            page->own = page->lazy = false;
        return QR_OK;
    case QR_ADVICE_DONT_FORK:
        page->flags |= DONT_FORK;
        return QR_OK;
    case QR_ADVICE_DO_FORK:
        page->flags &= ~(unsigned)DONT_FORK;
        return QR_OK;
    case QR_ADVICE_WIPE_ON_FORK:
        if (page->object >= 0)
            return QR_ERR_INVALID;
        page->flags |= WIPE;
        return QR_OK;
    case QR_ADVICE_KEEP_ON_FORK:
        page->flags &= ~(unsigned)WIPE;
        return QR_OK;
    case QR_ADVICE_RANDOM:
        page->flags |= RANDOM;
        return QR_OK;
    default:
        page->flags &= ~(unsigned)RANDOM;
        return QR_OK;
    }
}

static void
step_advise(struct model *m)
{
    static const enum qr_advice all[] = {
        QR_ADVICE_DONT_NEED,    QR_ADVICE_FREE,         QR_ADVICE_DONT_FORK, QR_ADVICE_DO_FORK,
        QR_ADVICE_WIPE_ON_FORK, QR_ADVICE_KEEP_ON_FORK, QR_ADVICE_RANDOM,    QR_ADVICE_NORMAL};
    enum qr_advice advice = all[pick(m, 8)];
    enum qr_status want = QR_OK;
    size_t first, last;

    m->what = "advise";
    pick_range(m, &first, &last);
    for (size_t i = first; i < last; i++) {
        enum qr_status one =
            m->now->pages[i].mapped ? advise_page(&m->now->pages[i], advice) : QR_ERR_NO_MEMORY;

        if (one == QR_ERR_INVALID) {
            want = one;
            break;
        }
        want = one == QR_OK ? want : one;
    }
    expect_status(
        m, qr_space_advise(m->now->space, sim_page(first), (last - first) << QR_PAGE_SHIFT, advice),
        want);
    const struct qr_reclaim_request some = {.pages = pick(m, 6)};

    (void)qr_space_discard(m->now->space, &some);
}

/* Is any page of [first, last) mapped? */
static bool
any_mapped(const struct process *p, size_t first, size_t last)
{
    while (first < last && !p->pages[first].mapped)
        first++;
    return first < last;
}

static void
step_brk(struct model *m)
{
    struct process *p = m->now;
    size_t want = pick(m, PAGES + 2);
    bool moves = want >= BRK_ORIGIN && want < PAGES;

    m->what = "brk";
    for (size_t i = p->brk; moves && i <= want && want > p->brk; i++)
        moves = !p->pages[i].mapped;
    if (want < p->brk && !any_mapped(p, want, p->brk))
        moves = false; /* the program has unmapped this end itself */
    if (moves) {
        pages_clear(p, want, want < p->brk ? p->brk : want);
        for (size_t i = p->brk; i < want; i++)
            p->pages[i] =
                (struct page){.mapped = true, .accounted = true, .prot = SIM_W, .object = -1};
        p->brk = want;
    }
    if (want >= PAGES)
        return; /* what lies above the arena is not the model's */
    qr_va now = qr_space_brk(p->space, sim_page(want));

    if (now.v != sim_page(p->brk).v && !was_refused(m, QR_ERR_NO_MEMORY, QR_OK))
        TEST_FAIL("step %u: the break is %#llx", m->step, (unsigned long long)now.v);
}

/* @old pages of one region at @from become @new ones.  (Linux's vma_to_resize.) */
static enum qr_status
remap_check(const struct process *p, size_t from, size_t old, size_t new)
{
    (void)new;
    if (!p->pages[from].mapped)
        return QR_ERR_FAULT;
    if (old == 0 && (p->pages[from].flags & SHARED) == 0)
        return QR_ERR_INVALID;
    return old > run_of(p, from) ? QR_ERR_FAULT : QR_OK;
}

static void
remap_grow_here(struct process *p, size_t from, size_t old, size_t new)
{
    for (size_t i = from + old; i < from + new; i++) {
        p->pages[i] = p->pages[i - 1];
        p->pages[i].own = false;
        p->pages[i].index++;
    }
}

/* Without MAY_MOVE. */
static enum qr_status
remap_here(struct model *m, size_t from, size_t old, size_t new)
{
    struct process *p = m->now;
    enum qr_status status;

    if (!p->pages[from].mapped)
        return QR_ERR_FAULT;
    if (new <= old) {
        pages_clear(p, from + new, from + old);
        return QR_OK;
    }
    status = remap_check(p, from, old, new);
    if (status != QR_OK)
        return status;
    if (old == 0 || old != run_of(p, from))
        return QR_ERR_NO_MEMORY;
    for (size_t i = from + old; i < from + new; i++) {
        if (p->pages[i].mapped)
            return QR_ERR_NO_MEMORY;
    }
    remap_grow_here(p, from, old, new);
    return QR_OK;
}

struct remap_args {
    size_t from, old, to, new;
    bool dont_unmap;
};

static enum qr_status
remap_there(struct model *m, struct remap_args a)
{
    struct process *p = m->now;
    struct page moved[16];
    size_t kept = a.old < a.new ? a.old : a.new;
    enum qr_status status;

    if (!p->pages[a.from].mapped)
        return QR_ERR_FAULT;
    if (a.from + a.old > a.to && a.to + a.new > a.from)
        return QR_ERR_RANGE;
    status = remap_check(p, a.from, kept, a.new);
    if (status != QR_OK)
        return status;
    if (kept == 0 && a.from == a.to) {
        pages_clear(p, a.to, a.to + a.new); /* as Linux: the target goes, and the source with it */
        return QR_ERR_FAULT;
    }
    for (size_t i = 0; i < a.new; i++) {
        moved[i] = i < kept ? p->pages[a.from + i] : p->pages[a.from];
        moved[i].index = p->pages[a.from].index + i;
        if (i >= kept)
            moved[i].own = false;
    }
    pages_clear(p, a.from + kept, a.from + a.old);
    for (size_t i = a.from; i < a.from + kept; i++) {
        if (a.dont_unmap) {
            p->pages[i].own = false;
            p->pages[i].flags &= ~(unsigned)(LOCKED | ON_FAULT);
        } else {
            pages_clear(p, i, i + 1);
        }
    }
    memcpy(&p->pages[a.to], moved, a.new * sizeof(moved[0]));
    return QR_OK;
}

/* Pages of several regions keep their distances. */
static enum qr_status
remap_each(struct model *m, struct remap_args a)
{
    struct process *p = m->now;

    if (a.from + a.old > a.to && a.to + a.new > a.from)
        return QR_ERR_RANGE;
    for (size_t done = 0, piece; done < a.old; done += piece) {
        struct remap_args part = {a.from + done, 0, a.to + done, 0, a.dont_unmap};

        piece = 1;
        if (!p->pages[part.from].mapped)
            continue;
        piece = run_of(p, part.from) < a.old - done ? run_of(p, part.from) : a.old - done;
        part.old = part.new = piece;
        if (remap_there(m, part) != QR_OK)
            TEST_FAIL("step %u: the model cannot move a part", m->step);
    }
    return QR_OK;
}

static bool
remap_is_multiple(const struct process *p, struct remap_args a)
{
    return a.old == a.new && p->pages[a.from].mapped &&a.old > run_of(p, a.from);
}

static void
step_remap(struct model *m)
{
    struct remap_args a = {.from = pick(m, PAGES - 8), .old = pick(m, 6), .new = 1 + pick(m, 7)};
    bool fixed = pick(m, 2) != 0;
    struct qr_remap_request request = {0};
    enum qr_status want;
    qr_va va;

    m->what = fixed ? "remap to" : "remap here";
    if ((m->now->pages[a.from].flags & LOCKED) != 0)
        dont_refuse(m);
    a.to = pick(m, PAGES - 8);
    a.dont_unmap = fixed && pick(m, 4) == 0;
    if (a.dont_unmap)
        a.old = a.new;
    request.old_start = sim_page(a.from);
    request.old_bytes = a.old << QR_PAGE_SHIFT;
    request.new_bytes = a.new << QR_PAGE_SHIFT;
    if (fixed) {
        request.flags = QR_REMAP_FIXED | QR_REMAP_MAY_MOVE;
        request.flags |= a.dont_unmap ? (unsigned)QR_REMAP_DONT_UNMAP : 0;
        request.new_start = sim_page(a.to);
        m->target[0] = a.to;
        m->target[1] = a.to + a.new;
        m->target[2] = a.from + (a.old < a.new ? a.old : a.new);
        m->target[3] = a.from + a.old;
        if (remap_is_multiple(m->now, a)) {
            dont_refuse(m); /* what was moved before that stays moved */
            want = remap_each(m, a);
        } else {
            want = remap_there(m, a);
        }
    } else {
        a.to = a.from;
        want = remap_here(m, a.from, a.old, a.new);
    }
    if (want == QR_OK && a.new > a.old &&
        (m->now->pages[a.to].flags & (LOCKED | ON_FAULT)) == LOCKED)
        (void)populate(m, m->now, a.to, a.to + a.new);
    expect_status(m, qr_space_remap(m->now->space, &request, &va), want);
}

static void
step_store(struct model *m)
{
    size_t i = pick(m, PAGES);
    struct page *page = &m->now->pages[i];
    uint64_t value = 1 + pick(m, 1000);
    enum sim_signal want = access_page(m, page, QR_ACCESS_WRITE);

    m->what = "store";
    enum sim_signal got = sim_store(sim_page(i), &value, sizeof(value));

    if (got == SIM_OOM && was_refused(m, QR_ERR_NO_MEMORY, QR_OK))
        return;
    EXPECT_EQ(got, want);
    if (want == SIM_OK)
        page_set(m, page, value);
}

static void
step_load(struct model *m)
{
    m->what = "load";
    dont_refuse(m);
    compare_page(m, pick(m, PAGES));
}

/* A debugger's write: past missing rights, never into the object of a private mapping. */
static void
step_poke(struct model *m)
{
    size_t i = pick(m, PAGES);
    struct page *page = &m->now->pages[i];
    uint64_t value = 1 + pick(m, 1000);
    struct qr_frame *frame;
    bool works = page->mapped && ((page->flags & SHARED) == 0 || (page->prot & QR_PROT_WRITE) != 0);

    m->what = "poke";
    if (page->object >= 0 && page->index >= m->files[page->object].pages)
        works = false;
    enum qr_status got =
        qr_space_get_frame(m->now->space, sim_page(i), QR_ACCESS_WRITE, true, &frame);

    expect_status(m, got, works ? QR_OK : QR_ERR_FAULT);
    if (got != QR_OK || !works)
        return;
    memcpy(sim_ram(m->sim, qr_frame_pa(sim_frames(m->sim), frame)), &value, sizeof(value));
    qr_frame_put(sim_frames(m->sim), frame);
    page_set(m, page, value);
}

static void
step_fork(struct model *m)
{
    struct process *child = &m->processes[pick(m, PROCESSES)];

    m->what = "fork";
    if (child->alive)
        return;
    enum qr_status status = qr_space_fork(m->now->space, &child->space);

    expect_status(m, status, QR_OK);
    if (status != QR_OK)
        return;
    child->alive = true;
    child->brk = m->now->brk;
    for (size_t i = 0; i < PAGES; i++) {
        struct page page = m->now->pages[i];

        page.flags &= ~(unsigned)(LOCKED | ON_FAULT);
        if ((page.flags & WIPE) != 0)
            page.own = false;
        if ((page.flags & DONT_FORK) != 0)
            page = (struct page){.object = -1};
        child->pages[i] = page;
    }
}

static void
step_exit(struct model *m)
{
    struct process *p = &m->processes[pick(m, PROCESSES)];

    m->what = "exit";
    if (!p->alive || p == m->now)
        return;
    qr_space_put(p->space);
    p->alive = false;
}

static void
step_switch(struct model *m)
{
    struct process *p = &m->processes[pick(m, PROCESSES)];

    if (p->alive)
        switch_to(m, p);
}

static void
step_truncate(struct model *m)
{
    int k = (int)pick(m, FILES);
    struct file *file = &m->files[k];
    size_t pages = pick(m, 14);

    m->what = "truncate";
    qr_object_set_bytes(m->objects[k], (uint64_t)pages << QR_PAGE_SHIFT);
    for (size_t i = pages; i < file->pages; i++) {
        file->values[i] = 0;
        if (k == 0)
            m->backing[i] = 0;
    }
    for (size_t p = 0; p < PROCESSES && pages < file->pages; p++) {
        for (size_t i = 0; i < PAGES; i++) {
            struct page *page = &m->processes[p].pages[i];

            if (page->mapped && page->object == k && page->index >= pages)
                page->own = false;
        }
    }
    file->pages = pages;
}

static void
step_punch(struct model *m)
{
    int k = 1 + (int)pick(m, FILES - 1);
    size_t first = pick(m, 12), last = first + pick(m, 4);

    m->what = "punch";
    qr_object_punch(m->objects[k], first, last);
    for (size_t i = first; i < last; i++)
        m->files[k].values[i] = 0;
}

static void
step_sync(struct model *m)
{
    m->what = "sync";
    EXPECT_EQ(qr_object_sync(m->objects[0], 0, SIZE_MAX), QR_OK);
    for (size_t i = 0; i < m->files[0].pages; i++)
        EXPECT_EQ(m->backing[i], m->files[0].values[i]);
    if (pick(m, 2) != 0)
        (void)qr_object_drop_clean(m->objects[0]);
}

/* What was used lately or not: nobody is to see that it was away. */
static void
step_swap(struct model *m)
{
    m->what = "swap";
    switch (pick(m, 4)) {
    case 0:
        (void)sim_swap_out(m->sim, 1 + pick(m, 40));
        break;
    case 1:
        (void)qr_swap_trim(sim_swap(m->sim), SIZE_MAX, NULL);
        break;
    case 2: /* pages that stay with nobody for a while */
        (void)!qr_space_advise(m->now->space, sim_page(pick(m, PAGES)), 8 << QR_PAGE_SHIFT,
                               pick(m, 2) != 0 ? QR_ADVICE_PAGE_OUT : QR_ADVICE_WILL_NEED);
        break;
    default:
        if (pick(m, 4) != 0)
            break;
        dont_refuse(m);
        if (qr_swap_off(sim_vm(m->sim), sim_disk_area(m->disk), NULL) != QR_OK)
            TEST_FAIL("step %u: swapoff finds no memory", m->step);
        sim_swap_again(m->disk);
        break;
    }
}

typedef void (*step_fn)(struct model *m);

static const step_fn steps[] = {
    step_map,      step_map,   step_map,   step_unmap, step_protect, step_protect, step_lock,
    step_advise,   step_brk,   step_remap, step_remap, step_store,   step_store,   step_store,
    step_store,    step_load,  step_poke,  step_fork,  step_exit,    step_switch,  step_switch,
    step_truncate, step_punch, step_sync,  step_swap,  step_swap,    step_swap,
};

/* A remap that was refused late has unmapped its target: does it look like that? */
static void
adopt_partial_remap(struct model *m)
{
    for (size_t k = 0; k < 4; k += 2) {
        for (size_t i = m->target[k]; i < m->target[k + 1]; i++) {
            struct qr_region *region = qr_space_find(m->now->space, sim_page(i));

            if (region == NULL || region->start.v > sim_page(i).v)
                pages_clear(m->now, i, i + 1);
        }
    }
}

static void compare_all(struct model *m);

/* One step; under refusal again and again until it is not refused. */
static void
run_step(struct model *m)
{
    static struct model before;
    static struct drain drain;
    unsigned tries = 0;

    do {
        uint64_t luck = m->refusing ? test_random(&m->refusals) : 0;

        before = *m;
        m->refused = false;
        drain.count = 0;
        memset(m->target, 0, sizeof(m->target));
        if (m->refusing && luck % 2 == 0)
            sim_refuse_nth(m->sim, 1 + luck / 2 % (6 + tries), SIM_REFUSE_ONCE);
        else if (m->refusing)
            drain_begin(&drain, m->sim, luck / 2 % (5 + tries));
        steps[pick(m, sizeof(steps) / sizeof(steps[0]))](m);
        if (m->refusing)
            drain_end(&drain, m->sim);
        if (!m->refused)
            return;
        before.refusals = m->refusals;
        memcpy(before.target, m->target, sizeof(m->target));
        *m = before;
        adopt_partial_remap(m);
        sim_validate(m->sim);
        compare_all(m);
        switch_to(m, before.now);
    } while (++tries < 100);
    TEST_FAIL("step %u is refused for ever", m->step);
}

/* ---- Sequences --------------------------------------------------------------------- */

static enum qr_status
backing_read(void *context, size_t index, struct qr_frame *frame)
{
    struct model *m = context;
    char *window = sim_ram(m->sim, qr_frame_pa(sim_frames(m->sim), frame));

    memset(window, 0, QR_PAGE_SIZE);
    memcpy(window, &m->backing[index], sizeof(uint64_t));
    return QR_OK;
}

static enum qr_status
backing_write(void *context, size_t index, struct qr_frame *frame)
{
    struct model *m = context;

    memcpy(&m->backing[index], sim_ram(m->sim, qr_frame_pa(sim_frames(m->sim), frame)),
           sizeof(uint64_t));
    return QR_OK;
}

static const struct qr_pager backing_pager = {
    .name = "test", .read_page = backing_read, .write_page = backing_write};

static void
model_begin(struct model *m, struct sim *sim, uint64_t seed)
{
    memset(m, 0, sizeof(*m));
    m->sim = sim;
    m->random = seed;
    m->file_count = FILES;
    for (int k = 0; k < FILES; k++) {
        m->files[k].pages = 10;
        ASSERT_EQ(qr_object_create(sim_objects(sim), k == 0 ? &backing_pager : &qr_pager_memory, m,
                                   (uint64_t)10 << QR_PAGE_SHIFT, &m->objects[k]),
                  QR_OK);
    }
    for (size_t i = 0; i < 10; i++)
        m->backing[i] = m->files[0].values[i] = 5000 + i;
    for (size_t k = 0; k < PROCESSES; k++)
        pages_clear(&m->processes[k], 0, PAGES);
    m->processes[0].alive = true;
    m->processes[0].brk = BRK_ORIGIN;
    m->processes[0].space = sim_space_create(sim);
    qr_space_set_brk(m->processes[0].space, sim_page(BRK_ORIGIN));
    switch_to(m, &m->processes[0]);
}

static void
model_end(struct model *m, struct qr_space *idle)
{
    compare_all(m);
    sim_validate(m->sim);
    sim_use(m->sim, idle);
    for (size_t k = 0; k < PROCESSES; k++) {
        if (m->processes[k].alive)
            qr_space_put(m->processes[k].space);
    }
    for (int k = 0; k < FILES; k++)
        qr_object_put(m->objects[k]);
}

enum campaign { PLAIN, VALIDATE, REFUSE };

static void
run_sequence(struct sim *sim, struct sim_disk *disk, uint64_t seed, enum campaign campaign)
{
    static struct model model;
    struct model *m = &model;
    struct qr_space *idle = sim_space(sim);

    model_begin(m, sim, seed);
    m->disk = disk;
    m->refusing = campaign == REFUSE;
    m->refusals = seed;
    for (m->step = 0; m->step < STEPS; m->step++) {
        run_step(m);
        if (campaign == VALIDATE) {
            sim_validate(sim);
            compare_all(m);
        }
    }
    m->what = "end";
    model_end(m, idle);
}

static void
run_campaign(struct sim_options options, uint64_t count, enum campaign campaign)
{
    struct sim *sim = sim_boot(options);
    struct sim_disk *disk = sim_swap_on(sim, 400, 0);
    size_t heap_bytes = 0;

    for (uint64_t i = 0; i < count; i++) {
        run_sequence(sim, disk, test_seed() + i * 7919, campaign);
        /* The first sequence may leave the heap's own structures behind; no later one may. */
        if (i == 0)
            heap_bytes = sim_usage(sim).heap_bytes;
        if (campaign != REFUSE) /* draining moves objects between magazines */
            EXPECT_EQ(sim_usage(sim).heap_bytes, heap_bytes);
    }
    sim_shutdown(sim);
}

TEST(space, random_calls_agree_with_a_naive_model)
{
    run_campaign((struct sim_options){.seed = test_seed(), .features = SIM_NO_VALIDATE},
                 sim_seeds(500), PLAIN);
}

TEST(space, random_calls_agree_step_by_step)
{
    run_campaign((struct sim_options){.seed = test_seed(), .features = SIM_NO_VALIDATE}, 20,
                 VALIDATE);
}

TEST(space, random_calls_agree_on_every_format)
{
    sim_for_each_mmu(mmu)
        run_campaign((struct sim_options){.seed = test_seed(),
                                          .mmu = mmu,
                                          .asids = 3,
                                          .features = SIM_NO_VALIDATE | SIM_SPECULATE | SIM_EVICT},
                     50, PLAIN);
}

TEST(space, calls_that_are_refused_memory_change_nothing)
{
    run_campaign((struct sim_options){.seed = test_seed(), .features = SIM_NO_VALIDATE},
                 sim_seeds(200), REFUSE);
}
