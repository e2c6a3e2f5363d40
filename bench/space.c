/* SPDX-License-Identifier: MIT */
/*
 * Instructions of spaces and faults, to run under callgrind, which counts what
 * happens between the two toggles of measure():
 *
 *     bench/space.sh
 *
 * One argument: the row.  Prints how often the operation ran.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <quire/arch.h>
#include <quire/fault.h>
#include <quire/port.h>
#include <quire/tlb.h>

#define RAM_BYTES ((size_t)256 << 20)
#define RAM_START ((size_t)16 << 20)
#define PAGES     ((size_t)1024)

char *bench_ram;
struct qr_cpu bench_cpu;
uintptr_t bench_irq_off;

static struct qr_frames *frames;
static struct qr_heap *heap;
static struct qr_objects *objects;
static struct qr_epoch epoch;
static struct qr_tlb *tlb;
static struct qr_tables kernel;
static struct qr_tlb_space kernel_space;
static struct qr_vm *vm;
static struct qr_space *space;
static struct qr_space *child;
static qr_va base;

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

void
qr_port_random(void *buffer, size_t bytes)
{
    memset(buffer, 7, bytes);
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

/* ---- The machine ------------------------------------------------------------ */

static void
expect(bool condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "bench: %s\n", what);
        exit(1);
    }
}

static void
machine_start(void)
{
    static const struct qr_memory_range ram = {
        {{RAM_START}, {RAM_START + RAM_BYTES}}, QR_MEMORY_USABLE, 0, "ram"};
    const struct qr_frames_config config = {.map = &ram, .map_count = 1, .cpu_count = 1};

    bench_ram = mmap(NULL, RAM_START + RAM_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    frames = calloc(1, qr_frames_size(&config) + 64);
    frames = (void *)(((uintptr_t)frames + 63) & ~(uintptr_t)63);
    expect(qr_frames_init(frames, &config) == QR_OK, "frames");
    heap = aligned_alloc(64, (qr_heap_size(1) + 63) & ~(size_t)63);
    memset(heap, 0, qr_heap_size(1));
    expect(qr_heap_init(heap, frames, 1) == QR_OK, "heap");
    qr_epoch_init(&epoch);
    tlb = calloc(1, qr_tlb_size(1, 8));
    qr_tlb_init(tlb, frames, 1, 8);
    expect(qr_tables_init(&kernel, &qr_format_x86_64, frames, &epoch, NULL) == QR_OK, "tables");
    qr_tlb_space_init(&kernel_space, tlb, &kernel);
    qr_tlb_set_kernel(tlb, &kernel_space);
    qr_tlb_cpu_online(tlb);
    objects = calloc(1, qr_objects_size());
    expect(qr_objects_init(objects, frames, heap) == QR_OK, "objects");
}

static void
vm_start(void)
{
    struct qr_vm_config config = {
        .frames = frames,
        .heap = heap,
        .objects = objects,
        .epoch = &epoch,
        .tlb = tlb,
        .format = &qr_format_x86_64,
        .layout = {.user_start = {0x10000},
                   .user_end = {0x7ffffffff000},
                   .stack_top = {0x7ffffffff000},
                   .stack_gap_bytes = (size_t)8 << 20},
        .max_regions = 65530,
        .stack_guard_pages = 256,
        .fault_around_pages = 16,
    };

    vm = calloc(1, qr_vm_size());
    expect(qr_vm_init(vm, &config) == QR_OK, "vm");
    expect(qr_space_create(vm, &space) == QR_OK, "space");
    qr_space_switch(space);
}

/* ---- The rows ---------------------------------------------------------------- */

static qr_va
map(size_t pages, unsigned flags, struct qr_object *object)
{
    struct qr_map_request request = {.bytes = pages << QR_PAGE_SHIFT,
                                     .prot = QR_PROT_READ | QR_PROT_WRITE,
                                     .region_flags = flags,
                                     .object = object};
    qr_va va;

    expect(qr_space_map(space, &request, &va) == QR_OK, "map");
    return va;
}

static qr_va
page(size_t i)
{
    return qr_va_of(base.v + (i << QR_PAGE_SHIFT));
}

static void
touch(qr_va va, unsigned access)
{
    struct qr_fault fault = {.va = va, .access = access | QR_ACCESS_USER};

    expect(qr_fault_handle(space, &fault) == QR_FAULT_HANDLED, "fault");
}

static void
touch_all(unsigned access)
{
    for (size_t i = 0; i < PAGES; i++)
        touch(page(i), access);
}

struct row {
    const char *name;
    void (*prepare)(void);
    void (*run)(void);
    size_t count; /* operations in one run */
};

static void
prepare_mapped(void)
{
    /* Neighbours with other properties, as in a program. */
    (void)map(1, QR_REGION_RANDOM, NULL);
    base = map(PAGES, 0, NULL);
    (void)map(1, QR_REGION_SEQUENTIAL, NULL);
    touch(page(0), QR_ACCESS_WRITE);
    expect(qr_space_advise(space, base, QR_PAGE_SIZE, QR_ADVICE_DONT_NEED) == QR_OK, "advise");
}

static void
prepare_touched(void)
{
    prepare_mapped();
    touch_all(QR_ACCESS_WRITE);
}

static void
prepare_forked(void)
{
    prepare_touched();
    expect(qr_space_fork(space, &child) == QR_OK, "fork");
}

static void
prepare_child_gone(void)
{
    prepare_forked();
    qr_space_put(child);
}

static void
prepare_shared(void)
{
    prepare_mapped();
    base = map(PAGES, QR_REGION_SHARED, NULL);
}

static void
prepare_cached(void)
{
    struct qr_object *object;

    prepare_mapped();
    expect(qr_object_create(objects, &qr_pager_memory, NULL, PAGES << QR_PAGE_SHIFT, &object) ==
               QR_OK,
           "object");
    base = map(PAGES, QR_REGION_SHARED, object);
    touch_all(QR_ACCESS_WRITE);
    expect(qr_space_unmap(space, base, PAGES << QR_PAGE_SHIFT) == QR_OK, "unmap");
    base = map(PAGES, QR_REGION_SHARED, object);
}

static void
run_write(void)
{
    touch_all(QR_ACCESS_WRITE);
}

static void
run_read(void)
{
    touch_all(QR_ACCESS_READ);
}

static void
run_read_around(void)
{
    for (size_t i = 0; i < PAGES; i += 16)
        touch(page(i), QR_ACCESS_READ);
}

static void
run_populate(void)
{
    expect(qr_space_populate(space, base, PAGES << QR_PAGE_SHIFT, true) == QR_OK, "populate");
}

static void
run_unmap(void)
{
    expect(qr_space_unmap(space, base, PAGES << QR_PAGE_SHIFT) == QR_OK, "unmap");
}

static void
run_protect_all(void)
{
    expect(qr_space_protect(space, base, PAGES << QR_PAGE_SHIFT, QR_PROT_READ, -1) == QR_OK,
           "protect");
}

static void
run_protect_split(void)
{
    for (size_t i = 0; i < 100; i++) {
        expect(qr_space_protect(space, page(8), QR_PAGE_SIZE, QR_PROT_READ, -1) == QR_OK, "split");
        expect(qr_space_protect(space, page(8), QR_PAGE_SIZE, QR_PROT_READ | QR_PROT_WRITE, -1) ==
                   QR_OK,
               "merge");
    }
}

static void
run_map_unmap(void)
{
    for (size_t i = 0; i < 100; i++)
        expect(qr_space_unmap(space, map(1, 0, NULL), QR_PAGE_SIZE) == QR_OK, "unmap");
}

static void
run_map_touch_unmap(void)
{
    for (size_t i = 0; i < 100; i++) {
        qr_va va = map(1, 0, NULL);

        touch(va, QR_ACCESS_WRITE);
        expect(qr_space_unmap(space, va, QR_PAGE_SIZE) == QR_OK, "unmap");
    }
}

static void
run_dontneed_touch(void)
{
    for (size_t i = 0; i < 100; i++) {
        expect(qr_space_advise(space, page(3), QR_PAGE_SIZE, QR_ADVICE_DONT_NEED) == QR_OK,
               "advise");
        touch(page(3), QR_ACCESS_WRITE);
    }
}

static void
run_brk(void)
{
    qr_space_set_brk(space, qr_va_of(0x1000000));
    for (size_t i = 0; i < 100; i++) {
        (void)qr_space_brk(space, qr_va_of(0x1001000));
        (void)qr_space_brk(space, qr_va_of(0x1000000));
    }
}

static void
run_remap(void)
{
    struct qr_remap_request request = {.old_start = base,
                                       .old_bytes = PAGES << QR_PAGE_SHIFT,
                                       .new_bytes = PAGES << QR_PAGE_SHIFT,
                                       .flags = QR_REMAP_MAY_MOVE | QR_REMAP_FIXED,
                                       .new_start = qr_va_of(0x200000001000)};
    qr_va va;

    expect(qr_space_remap(space, &request, &va) == QR_OK, "remap");
}

static void
run_fork(void)
{
    expect(qr_space_fork(space, &child) == QR_OK, "fork");
}

static void
run_exit(void)
{
    qr_space_put(child);
}

static const struct row rows[] = {
    {"anon_write_fault", prepare_mapped, run_write, PAGES},
    {"anon_read_fault", prepare_mapped, run_read, PAGES},
    {"populate_page", prepare_mapped, run_populate, PAGES},
    {"cow_break", prepare_forked, run_write, PAGES},
    {"cow_reuse", prepare_child_gone, run_write, PAGES},
    {"shared_write_new", prepare_shared, run_write, PAGES},
    {"shared_write_cached", prepare_cached, run_write, PAGES},
    {"shared_read_around_page", prepare_cached, run_read_around, PAGES},
    {"unmap_page", prepare_touched, run_unmap, PAGES},
    {"protect_page", prepare_touched, run_protect_all, PAGES},
    {"protect_split_merge", prepare_touched, run_protect_split, 200},
    {"map_unmap", prepare_mapped, run_map_unmap, 100},
    {"map_touch_unmap", prepare_mapped, run_map_touch_unmap, 100},
    {"dontneed_touch", prepare_mapped, run_dontneed_touch, 100},
    {"brk", prepare_mapped, run_brk, 200},
    {"remap_page", prepare_touched, run_remap, PAGES},
    {"fork_page", prepare_touched, run_fork, PAGES},
    {"fork_empty", prepare_mapped, run_fork, 1},
    {"exit_page", prepare_forked, run_exit, PAGES},
};

/* Callgrind collects in here. */
__attribute__((noinline)) void
measure(const struct row *row)
{
    row->run();
}

int
main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (argc < 2) {
            printf("%s\n", rows[i].name);
        } else if (strcmp(argv[1], rows[i].name) == 0) {
            machine_start();
            vm_start();
            rows[i].prepare();
            measure(&rows[i]);
            printf("%zu\n", rows[i].count);
        }
    }
    return 0;
}
