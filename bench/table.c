/* SPDX-License-Identifier: MIT */
/*
 * Instructions of the table layer's operations, to run under callgrind, which
 * counts what happens between the two toggles of measure():
 *
 *     bench/table.sh
 *
 * One argument: the row.  Prints how often the operation ran.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <quire/port.h>
#include <quire/tlb.h>
#include <quire/arch.h>

#define RAM_BYTES ((size_t)64 << 20)
#define RAM_START ((size_t)16 << 20)
#define PAGES     4096
#define BASE      ((uintptr_t)0x7f0000000000)
#define RW        (QR_PROT_READ | QR_PROT_WRITE | QR_PROT_USER)

char *bench_ram;
struct qr_cpu bench_cpu;
uintptr_t bench_irq_off;

static struct qr_frames *frames;
static struct qr_epoch *epoch;
static struct qr_tables tables;
static struct qr_tlb *tlb;
static struct qr_tlb_space space, other;

/* ---- What a kernel supplies ------------------------------------------------ */

qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)((const char *)pointer - bench_ram));
}

void
qr_port_panic(const char *message)
{
    fprintf(stderr, "panic: %s\n", message);
    abort();
}

void
qr_port_log(const char *line)
{
    (void)line;
}

void
qr_port_relax(void)
{
}

void
qr_port_wait(_Atomic uint32_t *word, uint32_t expected)
{
    (void)word, (void)expected;
}

void
qr_port_wake(_Atomic uint32_t *word, uint32_t count)
{
    (void)word, (void)count;
}

void
qr_port_ipi(const struct qr_cpu_set *cpus)
{
    (void)cpus;
}

bool
qr_arch_flush_broadcasts(void)
{
    return false;
}

void
qr_arch_flush_pages(const struct qr_flush *flush)
{
    (void)flush;
}

void
qr_arch_flush_asid(unsigned asid, enum qr_flush_reach reach)
{
    (void)asid, (void)reach;
}

void
qr_arch_flush_all(enum qr_flush_reach reach)
{
    (void)reach;
}

bool
qr_arch_publish(void)
{
    return true;
}

bool
qr_arch_code_written(qr_pa pa, size_t bytes)
{
    (void)pa, (void)bytes;
    return false;
}

void
qr_arch_root_switch(qr_pa root, unsigned asid, bool keep)
{
    (void)root, (void)asid, (void)keep;
}

/* ---- The rows --------------------------------------------------------------- */

static struct qr_va_range
range_of(size_t first, size_t count)
{
    struct qr_va_range range = {qr_va_of(BASE + first * QR_PAGE_SIZE),
                                qr_va_of(BASE + (first + count) * QR_PAGE_SIZE)};

    return range;
}

static struct qr_leaf
leaf_of(size_t page)
{
    struct qr_leaf leaf = {.pa = qr_pa_of(RAM_START + page % 1024 * QR_PAGE_SIZE), .prot = RW};

    return leaf;
}

static void
map_page(size_t page)
{
    struct qr_va_range range = range_of(page, 1);
    struct qr_leaf leaf = leaf_of(page);
    struct qr_cursor c;

    qr_cursor_open(&c, &tables, range, NULL);
    if (qr_cursor_query(&c, range.start).kind == QR_ENTRY_NONE &&
        qr_cursor_prepare(&c, range.start, 0) == QR_OK)
        qr_cursor_map(&c, range.start, &leaf);
    qr_cursor_close(&c);
}

static void
ignore(void *context, const struct qr_entry *entry)
{
    (void)context, (void)entry;
}

static void
unmap_pages(size_t count)
{
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    qr_tlb_batch_init(&batch, &space);
    qr_cursor_open(&c, &tables, range_of(0, count), &batch);
    qr_cursor_unmap_range(&c, c.range, ignore, NULL);
    qr_cursor_close(&c);
    qr_tlb_batch_finish(&batch);
}

static void
protect_pages(size_t count, unsigned prot)
{
    struct qr_tlb_batch batch;
    struct qr_cursor c;

    qr_tlb_batch_init(&batch, &space);
    qr_cursor_open(&c, &tables, range_of(0, count), &batch);
    qr_cursor_protect_range(&c, c.range, prot, 0, NULL, NULL);
    qr_cursor_close(&c);
    qr_tlb_batch_finish(&batch);
}

static void
map_all(void)
{
    for (size_t page = 0; page < PAGES; page++)
        map_page(page);
}

static size_t
open_close(void)
{
    struct qr_cursor c;

    for (size_t page = 0; page < PAGES; page++) {
        qr_cursor_open(&c, &tables, range_of(page, 1), NULL);
        qr_cursor_close(&c);
    }
    return PAGES;
}

static size_t
open_query_map_close(void)
{
    for (size_t page = 0; page < PAGES; page += 8)
        map_page(page);
    return PAGES / 8;
}

static size_t
unmap_one_page(void)
{
    unmap_pages(1);
    return 1;
}

static size_t
unmap_page_of_range(void)
{
    unmap_pages(PAGES);
    return PAGES;
}

static size_t
protect_one_page(void)
{
    protect_pages(1, QR_PROT_READ | QR_PROT_USER);
    return 1;
}

static size_t
protect_page_of_range(void)
{
    protect_pages(PAGES, QR_PROT_READ | QR_PROT_USER);
    return PAGES;
}

static size_t
switch_and_back(void)
{
    for (unsigned i = 0; i < 100; i++) {
        qr_tlb_switch(&other);
        qr_tlb_switch(&space);
    }
    return 200;
}

static const struct row {
    const char *name;
    size_t (*run)(void);
} rows[] = {
    {"open_close", open_close},
    {"open_query_map_close", open_query_map_close},
    {"unmap_one_page", unmap_one_page},
    {"unmap_page_of_range", unmap_page_of_range},
    {"protect_one_page", protect_one_page},
    {"protect_page_of_range", protect_page_of_range},
    {"switch_and_back", switch_and_back},
};

/* Callgrind collects inside this function only. */
__attribute__((noinline)) static size_t
measure(const struct row *row)
{
    size_t count = row->run();

    __asm__ volatile("" : "+r"(count)); /* a call, not a jump: callgrind sees the return */
    return count;
}

static void
boot(void)
{
    static const struct qr_memory_range memory = {
        .range = {{RAM_START}, {RAM_BYTES}}, .kind = QR_MEMORY_USABLE, .description = "RAM"};
    struct qr_frames_config config = {.map = &memory, .map_count = 1, .cpu_count = 1};

    bench_ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    frames = aligned_alloc(64, (qr_frames_size(&config) + 63) & ~(size_t)63);
    memset(frames, 0, qr_frames_size(&config));
    epoch = aligned_alloc(64, sizeof(*epoch));
    tlb = aligned_alloc(64, (qr_tlb_size(1, 8) + 63) & ~(size_t)63);
    qr_epoch_init(epoch);
    if (qr_frames_init(frames, &config) != QR_OK ||
        qr_tables_init(&tables, &qr_format_x86_64, frames, epoch, NULL) != QR_OK)
        abort();
    qr_tlb_init(tlb, frames, 1, 8);
    qr_tlb_cpu_online(tlb);
    qr_tlb_space_init(&space, tlb, &tables);
    qr_tlb_space_init(&other, tlb, &tables);
    qr_tlb_switch(&other);
    qr_tlb_switch(&space);
}

int
main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    boot();
    map_all();
    /* The tables stay; of every eighth page's neighbours something must stay, too. */
    if (strcmp(argv[1], "open_query_map_close") == 0) {
        for (size_t page = 0; page < PAGES; page += 8) {
            struct qr_tlb_batch batch;
            struct qr_cursor c;

            qr_tlb_batch_init(&batch, &space);
            qr_cursor_open(&c, &tables, range_of(page, 1), &batch);
            (void)qr_cursor_unmap(&c, c.range.start);
            qr_cursor_close(&c);
            qr_tlb_batch_finish(&batch);
        }
    }
    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        if (strcmp(rows[i].name, argv[1]) == 0) {
            printf("%zu\n", measure(&rows[i]));
            return 0;
        }
    }
    return 2;
}
