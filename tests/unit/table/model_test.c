/* SPDX-License-Identifier: MIT */
/*
 * The cursor against a naive map of pages: random operations with random
 * refusals of memory, over every format.  The map also plays the hardware: it
 * remembers the strongest translation that a TLB could hold of each page until
 * a flush is noted, and insists after each operation that the tables still
 * grant it.
 *
 * The window of pages straddles the border of two tables of every level but
 * the root.
 */
#include <string.h>

#include "tests/unit/table/rig.h"

#define PAGES_MIN 2304
#define PAGES_MAX 36864
#define STEPS     100000

#define RW (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)

struct model_page {
    enum qr_entry_kind kind;
    unsigned level;
    unsigned first;      /* page where its entry begins */
    struct qr_leaf leaf; /* of the entry */
    struct qr_mark mark;
};

struct cached {
    uint64_t pa; /* of this page; 0 rights: nothing */
    unsigned prot;
};

struct model {
    struct rig *rig;
    uint64_t random;
    uintptr_t base;
    unsigned refuse_one_in;
    unsigned page_shift;
    unsigned pages;                      /* in the window: four and a half tables or more */
    unsigned changed_first, changed_end; /* pages that this step changed or flushed */
    struct model_page page[PAGES_MAX];
    struct cached cached[PAGES_MAX];
};

static void
note_changed(struct model *m, unsigned first, unsigned end)
{
    m->changed_first = first < m->changed_first ? first : m->changed_first;
    m->changed_end = end > m->changed_end ? end : m->changed_end;
}

static unsigned
draw(struct model *m, unsigned limit)
{
    return (unsigned)(test_random(&m->random) % limit);
}

static bool
refuse(void *context)
{
    struct model *m = context;

    return m->refuse_one_in != 0 && draw(m, m->refuse_one_in) == 0;
}

static qr_va
va_of(const struct model *m, unsigned page)
{
    return qr_va_of(m->base + ((uintptr_t)page << m->page_shift));
}

static unsigned
pages_of(const struct model *m, unsigned level)
{
    return (unsigned)(rig_size(m->rig, level) >> m->page_shift);
}

/* The first page of the entry of @level around @page; false where it leaves the window. */
static bool
entry_around(const struct model *m, unsigned page, unsigned level, unsigned *out_first)
{
    uintptr_t start = va_of(m, page).v & ~(rig_size(m->rig, level) - 1);

    if (start < m->base || start + rig_size(m->rig, level) > va_of(m, m->pages).v)
        return false;
    *out_first = (unsigned)((start - m->base) >> m->page_shift);
    return true;
}

static struct cached
granted(const struct model *m, unsigned page)
{
    const struct model_page *p = &m->page[page];
    struct cached now = {0, 0};

    if (p->kind == QR_ENTRY_LEAF &&
        (p->leaf.prot & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)) != 0) {
        now.pa = p->leaf.pa.v + ((uint64_t)(page - p->first) << m->page_shift);
        now.prot = p->leaf.prot;
    }
    return now;
}

static void
model_flushed(struct rig *rig, qr_va start, qr_va last)
{
    struct model *m = rig->context;

    for (unsigned page = 0; page < m->pages; page++) {
        if (va_of(m, page).v >= start.v && va_of(m, page).v <= last.v) {
            m->cached[page].prot = 0;
            note_changed(m, page, page + 1);
        }
    }
}

/* No cached translation says more than the tables; then hardware caches what they say. */
static void
check_cached(struct model *m)
{
    for (unsigned page = m->changed_first; page < m->changed_end; page++) {
        struct cached now = granted(m, page);
        struct cached *old = &m->cached[page];

        if (old->prot != 0) {
            ASSERT_EQ(old->pa, now.pa);
            ASSERT_EQ(old->prot & ~now.prot, 0);
        }
        *old = now;
    }
    m->changed_first = m->pages;
    m->changed_end = 0;
}

static void
check_entry(struct model *m, unsigned page, struct qr_entry entry)
{
    const struct model_page *p = &m->page[page];

    ASSERT_EQ(entry.kind, p->kind);
    if (p->kind == QR_ENTRY_NONE)
        return;
    ASSERT_EQ(entry.level, p->level);
    ASSERT_EQ(entry.start.v, va_of(m, p->first).v);
    if (p->kind == QR_ENTRY_LEAF) {
        ASSERT_EQ(entry.leaf.pa.v, p->leaf.pa.v);
        ASSERT_EQ(entry.leaf.prot, p->leaf.prot);
        ASSERT_EQ(entry.leaf.flags, p->leaf.flags);
        ASSERT_EQ(entry.leaf.pkey, p->leaf.pkey);
        ASSERT_EQ(entry.leaf.cache, p->leaf.cache);
    } else {
        ASSERT_EQ(entry.mark.kind, p->mark.kind);
        ASSERT_EQ(entry.mark.value, p->mark.value);
    }
}

static void
check_all(struct model *m)
{
    struct qr_cursor c;
    struct qr_entry entry;
    unsigned page = 0;

    qr_cursor_open(&c, &m->rig->tables, rig_range(m->base, m->pages << m->page_shift), NULL);
    for (unsigned i = 0; i < m->pages; i++)
        check_entry(m, i, qr_cursor_query(&c, va_of(m, i)));
    while (qr_cursor_find(&c, va_of(m, page), &entry)) {
        while (m->page[page].kind == QR_ENTRY_NONE)
            page++;
        check_entry(m, page, entry);
        page = m->page[page].first + pages_of(m, entry.level);
        if (page >= m->pages)
            break;
    }
    for (; page < m->pages; page++)
        ASSERT_EQ(m->page[page].kind, QR_ENTRY_NONE);
    qr_cursor_close(&c);
    rig_validate(m->rig);
}

static struct qr_leaf
random_leaf(struct model *m, unsigned level)
{
    static const unsigned prots[] = {QR_PROT_USER, QR_PROT_READ | QR_PROT_USER, RW,
                                     QR_PROT_READ | QR_PROT_EXEC | QR_PROT_USER};
    struct qr_leaf leaf =
        rig_leaf((uint64_t)(1 + draw(m, 1000)) * rig_size(m->rig, level), prots[draw(m, 4)], level);

    leaf.prot = rig_granted(m->rig->f, leaf.prot);
    leaf.flags = draw(m, 16);
    leaf.cache = rig_cache(m->rig->f, draw(m, QR_CACHE_COUNT));
    return leaf;
}

static struct qr_mark
random_mark(struct model *m)
{
    struct qr_mark mark = {(enum qr_mark_kind)(1 + draw(m, QR_MARK_KIND_COUNT - 1)),
                           draw(m, 1u << 26)};

    return mark;
}

static void
model_set(struct model *m, unsigned first, unsigned count, struct model_page value)
{
    note_changed(m, first, first + count);
    for (unsigned i = first; i < first + count; i++)
        m->page[i] = value;
}

/* A cursor on a random range that holds [first, first + count). */
static void
open_around(struct model *m, struct qr_cursor *c, unsigned first, unsigned count)
{
    unsigned from = first - draw(m, first + 1) * (draw(m, 4) == 0);
    unsigned to = first + count + draw(m, m->pages - first - count + 1) * (draw(m, 4) == 0);

    qr_cursor_open(c, &m->rig->tables,
                   rig_range(va_of(m, from).v, (uintptr_t)(to - from) << m->page_shift),
                   &m->rig->batch);
}

static bool
is_free(const struct model *m, unsigned first, unsigned count, unsigned level)
{
    for (unsigned i = first; i < first + count; i++) {
        if (m->page[i].kind != QR_ENTRY_NONE &&
            (m->page[i].kind != QR_ENTRY_MARK || m->page[i].level != level))
            return false;
    }
    return true;
}

static void
step_set(struct model *m)
{
    unsigned level = draw(m, 8) == 0;
    unsigned first;
    struct qr_cursor c;

    if (!entry_around(m, draw(m, m->pages), level, &first))
        return;
    unsigned count = pages_of(m, level);
    bool wanted = is_free(m, first, count, level);
    struct model_page value = {.level = level, .first = first};

    open_around(m, &c, first, count);
    enum qr_status status = qr_cursor_prepare(&c, va_of(m, first), level);

    if (status == QR_OK && wanted) {
        if (draw(m, 3) == 0) {
            value.kind = QR_ENTRY_MARK;
            value.mark = random_mark(m);
            qr_cursor_mark(&c, va_of(m, first), level, value.mark);
        } else {
            value.kind = QR_ENTRY_LEAF;
            value.leaf = random_leaf(m, level);
            qr_cursor_map(&c, va_of(m, first), &value.leaf);
        }
        model_set(m, first, count, value);
    } else if (status == QR_ERR_NO_MEMORY) {
        ASSERT_NE(m->refuse_one_in, 0);
    } else if (status == QR_ERR_EXISTS) {
        /* In the way, or (level 1) a table that is empty but covers the cursor's own range. */
        ASSERT_TRUE(!wanted || level == 1);
    } else {
        ASSERT_STATUS(status, QR_OK);
        ASSERT_EQ(m->page[first].level, level);
    }
    qr_cursor_close(&c);
}

/* A group of leaves at once, which nothing but the flushes tells from as many leaves. */
static void
step_set_group(struct model *m)
{
    unsigned count = 1u << m->rig->f->info.group_bits[0];
    unsigned first = draw(m, m->pages / count) * count;
    struct model_page value = {.kind = QR_ENTRY_LEAF, .leaf = random_leaf(m, 0)};
    struct qr_cursor c;

    if (count == 1 || !is_free(m, first, count, 0) || (value.leaf.prot & QR_PROT_READ) == 0)
        return;
    value.leaf.pa.v &= ~((uint64_t)(count - 1) << m->page_shift);
    open_around(m, &c, first, count);
    if (qr_cursor_prepare(&c, va_of(m, first), 0) == QR_OK) {
        qr_cursor_map_group(&c, va_of(m, first), &value.leaf);
        for (unsigned i = first; i < first + count; i++) {
            value.first = i;
            model_set(m, i, 1, value);
            value.leaf.pa.v += (uint64_t)1 << m->page_shift;
        }
    }
    qr_cursor_close(&c);
}

static void
step_unmap(struct model *m)
{
    unsigned page = draw(m, m->pages);
    struct model_page none = {.kind = QR_ENTRY_NONE};
    struct qr_cursor c;

    if (m->page[page].kind == QR_ENTRY_NONE)
        return;
    open_around(m, &c, page, 1);
    check_entry(m, page, qr_cursor_unmap(&c, va_of(m, page)));
    qr_cursor_close(&c);
    model_set(m, m->page[page].first, pages_of(m, m->page[page].level), none);
}

static void
step_replace(struct model *m)
{
    unsigned page = draw(m, m->pages);
    struct model_page value = m->page[page];
    struct qr_cursor c;

    if (value.kind != QR_ENTRY_LEAF)
        return;
    value.leaf = random_leaf(m, value.level);
    open_around(m, &c, page, 1);
    check_entry(m, page, qr_cursor_replace(&c, va_of(m, page), &value.leaf));
    qr_cursor_close(&c);
    model_set(m, value.first, pages_of(m, value.level), value);
}

static void
step_update(struct model *m)
{
    unsigned page = draw(m, m->pages);
    struct model_page value = m->page[page];
    unsigned set = draw(m, 16), clear = draw(m, 16) & ~set;
    struct qr_cursor c;

    if (value.kind != QR_ENTRY_LEAF)
        return;
    value.leaf.prot = random_leaf(m, value.level).prot;
    value.leaf.flags = (value.leaf.flags & ~clear) | set;
    open_around(m, &c, page, 1);
    qr_cursor_update(&c, va_of(m, page), value.leaf.prot, set, clear);
    qr_cursor_close(&c);
    model_set(m, value.first, pages_of(m, value.level), value);
}

static bool
model_split(struct model *m, unsigned page)
{
    struct model_page whole = m->page[page];
    unsigned count = pages_of(m, whole.level);
    struct qr_cursor c;

    open_around(m, &c, page, 1);
    enum qr_status status = qr_cursor_split(&c, va_of(m, page));

    qr_cursor_close(&c);
    if (status == QR_ERR_NO_MEMORY) {
        ASSERT_NE(m->refuse_one_in, 0);
        return false;
    }
    ASSERT_STATUS(status, QR_OK);
    note_changed(m, whole.first, whole.first + count);
    for (unsigned i = 0; i < count; i++) {
        struct model_page part = whole;

        part.level = 0;
        part.first = whole.first + i;
        part.leaf.level = 0;
        part.leaf.pa.v += (uint64_t)i << m->page_shift;
        part.mark = decide_split_mark(whole.mark, i, 1);
        m->page[whole.first + i] = part;
    }
    return true;
}

/* A random range whose ends cut no large entry, or none where a split had no memory. */
static bool
clean_range(struct model *m, unsigned *out_first, unsigned *out_end)
{
    unsigned a = draw(m, m->pages), b = draw(m, 8) == 0 ? draw(m, m->pages) : a + draw(m, 40);
    unsigned first = a < b ? a : b, end = (a < b ? b : a) + 1;

    if (end > m->pages)
        end = m->pages;
    if (m->page[first].level > 0 && m->page[first].first != first && !model_split(m, first))
        return false;
    if (end < m->pages && m->page[end].level > 0 && m->page[end].first != end &&
        !model_split(m, end))
        return false;
    *out_first = first;
    *out_end = end;
    return true;
}

struct taking {
    struct model *m;
    unsigned next, end;
};

static void
take(void *context, const struct qr_entry *entry)
{
    struct taking *taking = context;
    struct model *m = taking->m;

    while (taking->next < taking->end && m->page[taking->next].kind == QR_ENTRY_NONE)
        taking->next++;
    ASSERT_LT(taking->next, taking->end);
    check_entry(m, taking->next, *entry);
    taking->next += pages_of(m, entry->level);
}

static void
step_unmap_range(struct model *m)
{
    struct model_page none = {.kind = QR_ENTRY_NONE};
    unsigned first, end;
    struct qr_cursor c;

    if (!clean_range(m, &first, &end))
        return;
    struct taking taking = {m, first, end};

    open_around(m, &c, first, end - first);
    qr_cursor_unmap_range(
        &c, rig_range(va_of(m, first).v, (uintptr_t)(end - first) << m->page_shift), take, &taking);
    qr_cursor_close(&c);
    while (taking.next < end)
        ASSERT_EQ(m->page[taking.next++].kind, QR_ENTRY_NONE);
    model_set(m, first, end - first, none);
}

static bool
may_write(void *context, const struct qr_entry *entry)
{
    const struct model *m = context;

    return (entry->start.v >> m->page_shift) % 3 != 0;
}

static void
step_protect_range(struct model *m)
{
    unsigned first, end;
    unsigned prot = random_leaf(m, 0).prot;
    uint8_t pkey = (uint8_t)draw(m, 16);
    struct qr_cursor c;

    if (!clean_range(m, &first, &end))
        return;
    open_around(m, &c, first, end - first);
    qr_cursor_protect_range(&c,
                            rig_range(va_of(m, first).v, (uintptr_t)(end - first) << m->page_shift),
                            prot, pkey, may_write, m);
    qr_cursor_close(&c);
    note_changed(m, first, end);
    for (unsigned i = first; i < end; i++) {
        struct model_page *p = &m->page[i];
        struct qr_entry entry = {.start = va_of(m, p->first)};

        if (p->kind != QR_ENTRY_LEAF)
            continue;
        p->leaf.prot =
            rig_granted(m->rig->f, decide_protect(prot, (p->leaf.prot & QR_PROT_WRITE) != 0,
                                                  may_write(m, &entry)));
        p->leaf.pkey = rig_key(m->rig->f, pkey);
    }
}

static void
model_step(struct model *m)
{
    switch (draw(m, 16)) {
    case 0:
        step_unmap_range(m);
        break;
    case 1:
        step_protect_range(m);
        break;
    case 2:
    case 3:
        step_unmap(m);
        break;
    case 4:
        step_replace(m);
        break;
    case 5:
    case 6:
        step_update(m);
        break;
    case 7: {
        unsigned page = draw(m, m->pages);

        if (m->page[page].level > 0)
            (void)model_split(m, page);
        break;
    }
    case 8:
        step_set_group(m);
        break;
    default:
        step_set(m);
        break;
    }
}

/* The window's middle is the end of a top-level entry. */
static uintptr_t
window_base(const struct model *m)
{
    uintptr_t half = (uintptr_t)m->pages / 2 << m->page_shift;
    uintptr_t span = rig_size(m->rig, m->rig->f->info.levels - 1);

    return (span > half ? span : 4 * span) - half;
}

TEST(model, a_hundred_thousand_steps_agree_with_a_naive_map)
{
    static struct model model;
    struct model *m = &model;

    EVERY_FORMAT(format)
    {
        memset(m, 0, sizeof(*m));
        m->rig = rig_boot(format, 1);
        m->page_shift = m->rig->f->info.page_shift;
        m->pages = pages_of(m, 1) * 9 / 2;
        m->pages = m->pages < PAGES_MIN ? PAGES_MIN : m->pages;
        m->rig->flushed = model_flushed;
        m->rig->context = m;
        m->random = test_seed();
        m->base = window_base(m);
        qr_frames_set_refusal(m->rig->machine->frames, refuse, m);
        for (unsigned step = 0; step < STEPS / (m->pages / PAGES_MIN); step++) {
            if (step % 5000 == 0) {
                check_all(m);
                m->refuse_one_in = draw(m, 3) == 0 ? 2 : 0;
            }
            model_step(m);
            m->rig->batch.flush(&m->rig->batch);
            check_cached(m);
        }
        m->refuse_one_in = 0;
        check_all(m);
        qr_frames_set_refusal(m->rig->machine->frames, NULL, NULL);
        rig_unmap_all(m->rig);
        EXPECT_EQ(m->rig->tables.table_count, m->rig->base_tables);
        rig_shutdown(m->rig);
    }
}
