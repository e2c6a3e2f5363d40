/* SPDX-License-Identifier: MIT */
#include "tests/unit/table/rig.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT_ADDRESS(name) &qr_format_##name,

const struct qr_format *const rig_formats[] = {QR_FORMATS(FORMAT_ADDRESS)};
const size_t rig_format_count = QR_ARRAY_COUNT(rig_formats);

static void
flush(struct qr_tlb_batch *batch)
{
    struct rig *rig = qr_container_of(batch->space, struct rig, space);

    rig->flushes++;
    if (rig->flushed != NULL && batch->whole)
        rig->flushed(rig, qr_va_of(0), qr_va_of(UINTPTR_MAX));
    for (unsigned i = 0; i < batch->run_count && rig->flushed != NULL; i++)
        rig->flushed(rig, batch->runs[i].start, batch->runs[i].last);
    for (unsigned i = 0; i < batch->frame_count; i++)
        qr_frame_put(rig->machine->frames, batch->frames[i]);
    if (batch->table_count > 0)
        qr_tables_retire(&rig->tables, batch->tables, batch->table_count);
    if (batch->registered)
        atomic_fetch_sub(&rig->space.pending, 1);
    rig_batch(rig, batch);
}

void
rig_batch(struct rig *rig, struct qr_tlb_batch *batch)
{
    batch->space = &rig->space;
    batch->flush = flush;
    batch->run_count = 0;
    batch->page_count = 0;
    batch->frame_count = 0;
    batch->table_count = 0;
    batch->whole = false;
    batch->naive = false;
    batch->tables_freed = false;
    batch->gaps = false;
    batch->registered = false;
}

struct rig *
rig_boot(const struct qr_format *format, unsigned cpus)
{
    struct machine_options options = {.start = 16 * MIB, .bytes = 32 * MIB, .cpus = cpus};
    struct rig *rig = calloc(1, sizeof(*rig));

    rig->format = format;
    rig->f = format->traits;
    rig->page = rig_size(rig, 0);
    if (rig->page > QR_PAGE_SIZE)
        options.bytes = 64 * MIB;
    rig->machine = machine_boot(options);
    rig->epoch = aligned_alloc(QR_CACHE_LINE, sizeof(*rig->epoch));
    qr_epoch_init(rig->epoch);
    rig->free_frames = machine_free_frames(rig->machine);
    rig->space.tables = &rig->tables;
    rig_batch(rig, &rig->batch);
    ASSERT_EQ(qr_tables_init(&rig->tables, format, rig->machine->frames, rig->epoch, NULL), QR_OK);
    rig->base_tables = rig->tables.table_count;
    return rig;
}

void
rig_shutdown(struct rig *rig)
{
    rig_validate(rig);
    qr_tables_fini(&rig->tables);
    EXPECT_EQ(machine_free_frames(rig->machine), rig->free_frames);
    machine_shutdown(rig->machine);
    free(rig->epoch);
    free(rig);
}

void
rig_validate(struct rig *rig)
{
    char message[200] = "";

    (void)qr_tables_validate(&rig->tables, message, sizeof(message));
    ASSERT_STR(message, "");
}

bool
rig_has_leaf(const struct rig *rig, unsigned level)
{
    return (rig->f->info.leaf_levels >> level & 1) != 0;
}

unsigned
rig_granted(walk_format f, unsigned prot)
{
    const char *name = f->info.name;

    prot &= f->info.prot_mask;
    if ((prot & (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_EXEC)) == 0)
        return prot;
    if (name[0] == 'x' || name[0] == 'a')
        prot |= QR_PROT_READ; /* nothing withholds reading alone */
    if (name[0] == 'r' && (prot & QR_PROT_WRITE) != 0)
        prot |= QR_PROT_READ; /* write-only is reserved */
    if (!f->info.no_execute)
        prot |= QR_PROT_EXEC;
    return prot;
}

uint8_t
rig_cache(walk_format f, unsigned cache)
{
    if ((f->info.cache_mask >> cache & 1) != 0)
        return (uint8_t)cache;
    if (cache == QR_CACHE_WRITE_THROUGH && f->info.cache_mask != 1 << QR_CACHE_WRITE_BACK)
        return QR_CACHE_WRITE_COMBINING;
    return QR_CACHE_WRITE_BACK;
}

uint8_t
rig_key(walk_format f, unsigned pkey)
{
    return f->info.protection_keys ? (uint8_t)pkey : 0;
}

size_t
rig_tables(const struct rig *rig, unsigned level)
{
    size_t below_root = rig->f->info.levels - 1 - level;

    return rig->base_tables + below_root - (rig->base_tables > 1 && below_root > 0);
}

uintptr_t
rig_size(const struct rig *rig, unsigned level)
{
    return (uintptr_t)1 << qr_format_shift(rig->format, level);
}

struct qr_va_range
rig_range(uintptr_t start, uintptr_t bytes)
{
    struct qr_va_range range = {qr_va_of(start), qr_va_of(start + bytes)};

    return range;
}

struct qr_leaf
rig_leaf(uint64_t pa, unsigned prot, unsigned level)
{
    struct qr_leaf leaf = {.pa = qr_pa_of(pa), .prot = prot, .level = (uint8_t)level};

    return leaf;
}

struct qr_entry
rig_query(struct rig *rig, uintptr_t va)
{
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, &rig->tables, rig_range(va, rig->page), NULL);
    struct qr_entry entry = qr_cursor_query(&cursor, qr_va_of(va));
    qr_cursor_close(&cursor);
    return entry;
}

enum qr_status
rig_map(struct rig *rig, uintptr_t va, struct qr_leaf leaf)
{
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, &rig->tables, rig_range(va, rig_size(rig, leaf.level)), &rig->batch);
    enum qr_status status = qr_cursor_prepare(&cursor, qr_va_of(va), leaf.level);
    if (status == QR_OK)
        qr_cursor_map(&cursor, qr_va_of(va), &leaf);
    qr_cursor_close(&cursor);
    rig->batch.flush(&rig->batch);
    return status;
}

void
rig_ignore(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
}

void
rig_unmap(struct rig *rig, struct qr_va_range range)
{
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, &rig->tables, range, &rig->batch);
    qr_cursor_unmap_range(&cursor, range, rig_ignore, NULL);
    qr_cursor_close(&cursor);
    rig->batch.flush(&rig->batch);
}

void
rig_unmap_all(struct rig *rig)
{
    rig_unmap(rig, rig_range(0, rig->tables.lower_end));
}
