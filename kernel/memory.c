/* SPDX-License-Identifier: MIT */
/*
 * The kernel's instance of the library: an example of how to embed Quire.
 *
 * One after the other, each built from the one before:
 *
 *      frames   from the loader's memory map plus what the boot has taken
 *      heap     from frames
 *      tables   the tree that the boot built is adopted as the kernel's
 *      tlb      shootdown; the kernel's space takes part in it
 *      areas    large heap blocks, kernel stacks, device windows
 *      objects, vm   what user spaces are made of
 *
 * Nothing here can fail halfway and go on: a machine too small for this stops
 * with a message.
 */
#include <quire/reclaim.h>

#include <arch.h>
#include <boot.h>
#include <huge.h>
#include <hugetlb.h>
#include <kstring.h>
#include <memory.h>
#include <merge.h>
#include <platform.h>
#include <printk.h>
#include <psi.h>
#include <sched.h>

#define MAP_MAX            512
#define USER_STACK_GAP     ((size_t)128 << 20)
#define STACK_GUARD_PAGES  256
#define FAULT_AROUND_PAGES 16
#define MAX_REGIONS        65530
#define MMAP_MIN_ADDR      65536
#define RECLAIM_BATCH      32
#define MIB                ((size_t)1 << 20)

struct memory memory;

static struct qr_memory_range map[MAP_MAX + 1]; /* the last is empty */
static size_t map_count;

/* ---- The memory map ------------------------------------------------------------- */

static void
map_add(uint64_t start, uint64_t end, enum qr_memory_kind kind, unsigned node, const char *text)
{
    if (start >= end)
        return;
    if (map_count == MAP_MAX)
        panic("the memory map has more than %d entries", MAP_MAX);
    map[map_count++] = (struct qr_memory_range){
        .range = {qr_pa_of(start), qr_pa_of(end)},
        .kind = kind,
        .node = node,
        .description = text,
    };
}

static void
map_add_reserved(struct qr_pa_range range, enum qr_memory_kind kind, const char *text)
{
    map_add(range.start.v, range.end.v, kind, 0, text);
}

unsigned
memory_node_of_domain(uint32_t domain)
{
    unsigned node = 0;

    /* Domains are numbered freely; nodes in the order in which memory names them. */
    for (unsigned i = 0; i < boot_machine.memory_count; i++) {
        bool seen = false;

        if (boot_machine.memory[i].domain == domain)
            return node < CONFIG_MAX_NODES ? node : 0;
        for (unsigned j = 0; j < i; j++)
            seen |= boot_machine.memory[j].domain == boot_machine.memory[i].domain;
        node += !seen;
    }
    return 0;
}

unsigned
memory_node_of_cpu(uint64_t id)
{
    for (unsigned i = 0; i < boot_machine.cpu_count; i++) {
        if (boot_machine.cpu_ids[i] == id)
            return memory_node_of_domain(boot_machine.cpu_domains[i]);
    }
    return 0;
}

bool
memory_domain_exists(uint32_t domain)
{
    for (unsigned i = 0; i < boot_machine.memory_count; i++) {
        if (boot_machine.memory[i].domain == domain)
            return true;
    }
    return false;
}

bool
memory_domain_of_node(unsigned node, uint32_t *out_domain)
{
    for (unsigned i = 0; i < boot_machine.memory_count; i++) {
        if (memory_node_of_domain(boot_machine.memory[i].domain) != node)
            continue;
        *out_domain = boot_machine.memory[i].domain;
        return true;
    }
    return false;
}

/* Distances between nodes, from those between proximity domains; local where not given. */
static uint8_t distances[CONFIG_MAX_NODES * CONFIG_MAX_NODES];

static void
distances_fill(void)
{
    for (unsigned i = 0; i < CONFIG_MAX_NODES * CONFIG_MAX_NODES; i++)
        distances[i] = i / CONFIG_MAX_NODES == i % CONFIG_MAX_NODES ? 10 : 20;
    for (unsigned from = 0; from < boot_machine.distance_count; from++) {
        for (unsigned to = 0; to < boot_machine.distance_count; to++) {
            uint8_t distance = boot_machine.distances[from * BOOT_NODES_MAX + to];

            /* A domain of CPUs alone is no node. */
            if (distance != 0 && memory_domain_exists(from) && memory_domain_exists(to))
                distances[memory_node_of_domain(from) * CONFIG_MAX_NODES +
                          memory_node_of_domain(to)] = distance;
        }
    }
}

unsigned
memory_distance(unsigned from, unsigned to)
{
    return distances[from * CONFIG_MAX_NODES + to];
}

/* One past the highest address where a device may add memory; 0: none may. */
static uint64_t
hotplug_end(void)
{
    uint64_t limit = platform_physical_limit();
    uint64_t end = 0;

    for (unsigned i = 0; i < boot_machine.memory_count; i++) {
        const struct boot_memory *m = &boot_machine.memory[i];

        if (m->hotplug && m->start + m->bytes > end)
            end = m->start + m->bytes;
    }
    return end < limit ? end : limit;
}

static enum qr_memory_kind
memory_kind_of(uint32_t kind)
{
    switch (kind) {
    case BOOT_REGION_USABLE:
        return QR_MEMORY_USABLE;
    case BOOT_REGION_ACPI:
    case BOOT_REGION_ACPI_NVS:
        return QR_MEMORY_ACPI;
    case BOOT_REGION_BAD:
        return QR_MEMORY_BAD;
    case BOOT_REGION_PERSISTENT:
        return QR_MEMORY_PERSISTENT;
    default:
        return QR_MEMORY_RESERVED;
    }
}

static const char *
kind_text(enum qr_memory_kind kind)
{
    switch (kind) {
    case QR_MEMORY_USABLE:
        return "System RAM";
    case QR_MEMORY_ACPI:
        return "ACPI Tables";
    case QR_MEMORY_BAD:
        return "Unusable memory";
    case QR_MEMORY_PERSISTENT:
        return "Persistent Memory";
    default:
        return "Reserved";
    }
}

/** One region of the loader, cut where the node changes. */
static void
map_add_region(const struct boot_region *region)
{
    uint64_t start = region->start;
    uint64_t end = start + region->bytes;
    enum qr_memory_kind kind = memory_kind_of(region->kind);

    while (start < end) {
        uint64_t next = end;
        unsigned node = 0;

        for (unsigned i = 0; i < boot_machine.memory_count; i++) {
            const struct boot_memory *m = &boot_machine.memory[i];
            uint64_t m_end = m->start + m->bytes;

            if (start >= m->start && start < m_end) {
                node = memory_node_of_domain(m->domain);
                next = m_end < next ? m_end : next;
            } else if (m->start > start && m->start < next) {
                next = m->start;
            }
        }
        map_add(start, next, kind, node, kind_text(kind));
        start = next;
    }
}

static void
map_build(void)
{
    boot_add_persistent();
    for (unsigned i = 0; i < boot_info.region_count; i++)
        map_add_region(&boot_info.regions[i]);
    platform_describe_memory(map_add_reserved);
    map_add_reserved(boot_info.initrd, QR_MEMORY_BOOT, "Initial file system");
}

/* ---- Instances ------------------------------------------------------------------- */

static void
must(enum qr_status status, const char *what)
{
    if (status != QR_OK)
        panic("memory: %s: %s", what, qr_status_name(status));
}

static void *
instance_alloc(size_t bytes, const char *what)
{
    void *instance = qr_kmalloc_aligned(memory.heap, bytes, QR_CACHE_LINE, QR_ALLOC_ZERO);

    if (instance == NULL)
        panic("memory: no room for %s (%zu bytes)", what, bytes);
    return instance;
}

static unsigned
possible_cpus(void)
{
    return boot_machine.cpu_count > 0 ? boot_machine.cpu_count : 1;
}

/* For where the direct map holds all of memory; an architecture without has its own. */
__attribute__((weak)) uint64_t
platform_direct_limit(void)
{
    return 0;
}

static void
frames_init(void)
{
    struct qr_frames_config config = {
        .map = map,
        .physical_limit = platform_physical_limit(),
        .direct_limit = platform_direct_limit(),
        .cpu_count = possible_cpus(),
        .distance = distances,
        .node_count = CONFIG_MAX_NODES,
        .hotplug_end = hotplug_end(),
    };

    distances_fill();
    map_build();
    /* The instance is itself a boot allocation: the entry of those, empty now, comes after it. */
    config.map_count = map_count + 1;
    memory.frames = platform_boot_alloc(qr_frames_size(&config));
    map_add_reserved(platform_table_frames(), QR_MEMORY_KERNEL, "Boot allocations");
    config.map_count = map_count;
    must(qr_frames_init(memory.frames, &config), "the memory map");
}

static void
heap_init(void)
{
    size_t bytes = qr_heap_size(possible_cpus());
    unsigned order = 0;
    struct qr_frame *block;

    while ((QR_PAGE_SIZE << order) < bytes)
        order++;
    block = qr_frame_alloc_block(memory.frames, order, QR_ALLOC_ZERO);
    if (block == NULL)
        panic("memory: no room for the heap");
    memory.heap = direct_map(qr_frame_pa(memory.frames, block).v);
    must(qr_heap_init(memory.heap, memory.frames, possible_cpus()), "heap");
}

size_t
memory_give_back_idle(void)
{
    return qr_heap_reap(memory.heap) + arch_thread_reap_stacks();
}

/* The frame allocator is about to refuse: the calling thread may sleep. */
static size_t
reclaim(void *context, size_t frames_wanted, unsigned alloc_flags)
{
    struct qr_compact_request request = {.node = -1, .min_free = 64};
    struct qr_compact_result result = {.made = 0};
    /* Some at a time, so that several kinds of memory give their share. */
    const struct qr_reclaim_request wanted = {
        .pages = frames_wanted < RECLAIM_BATCH ? RECLAIM_BATCH : frames_wanted};
    size_t given = memory_give_back_idle();
    struct psi_stall stall;

    (void)context;
    psi_stall_begin(&stall);
    qr_counter_add(qr_frames_counters(memory.frames), QR_EVENT_ALLOC_STALL, 1);
    if (memory.vm != NULL)
        given += qr_reclaim(memory.vm, &wanted);
    (void)alloc_flags;
    while (((size_t)1 << request.order) < frames_wanted && request.order < QR_ORDER_MAX)
        request.order++;
    /* Free memory in small pieces does not help a large request: move what lies between. */
    if (request.order > 0 && memory.vm != NULL)
        qr_compact(memory.vm, &request, &result);
    psi_stall_end(&stall);
    return given + result.moved;
}

/* ---- In the background ------------------------------------------------------------ */

static _Atomic uint32_t background_wanted;

/* A zone is low; from any context. */
static void
background_wake(void *context, unsigned node)
{
    (void)context;
    (void)node;
    atomic_store(&background_wanted, 1);
    qr_port_wake(&background_wanted, 1);
}

/* Free memory of which more than half is too scattered for a block of 2 MiB. */
static bool
is_fragmented(void)
{
    for (unsigned i = 0; i < qr_frames_zone_count(memory.frames); i++) {
        struct qr_zone_stats zone;

        if (qr_frames_zone_managed(memory.frames, i) == 0)
            continue;
        qr_frames_zone_stats(memory.frames, i, &zone);
        if (zone.free > zone.managed / 16 && qr_zone_unusable(&zone, 9) > 500)
            return true;
    }
    return false;
}

/* Free pages that zones lack to be at ease. */
static size_t
pages_short(void)
{
    size_t pages = 0;

    for (unsigned i = 0; i < qr_frames_zone_count(memory.frames); i++) {
        struct qr_zone_stats zone;

        if (qr_frames_zone_managed(memory.frames, i) == 0)
            continue;
        qr_frames_zone_stats(memory.frames, i, &zone);
        pages += zone.free < zone.watermark_high ? zone.watermark_high - zone.free : 0;
    }
    return pages;
}

/* Gives back what is idle and compacts, when memory runs low. */
static void
background_main(void *argument)
{
    const struct qr_compact_request request = {.node = -1, .min_free = 128};
    struct qr_reclaim_request wanted = {.background = true};
    struct qr_compact_result result;
    struct psi_stall stall;

    (void)argument;
    for (;;) {
        while (atomic_exchange(&background_wanted, 0) == 0)
            qr_port_wait(&background_wanted, 0);
        psi_stall_begin(&stall);
        (void)memory_give_back_idle();
        wanted.pages = pages_short();
        if (wanted.pages != 0)
            (void)qr_reclaim(memory.vm, &wanted);
        if (is_fragmented())
            qr_compact(memory.vm, &request, &result);
        psi_stall_end(&stall);
        sched_sleep_until(qr_port_clock_ns() + 100000000u);
    }
}

void
memory_start_background(void)
{
    if (kernel_thread_start("kcompactd", background_main, NULL) == NULL)
        panic("memory: no room for the background thread");
    qr_frames_set_background(memory.frames, background_wake, NULL);
    huge_start();
    merge_start();
    platform_start_hotplug();
}

/* For formats without groups of leaves. */
__attribute__((weak)) bool
platform_groups(void)
{
    return false;
}

/* For where memory does not come and go. */
__attribute__((weak)) void
platform_start_hotplug(void)
{
}

static void
areas_init(void)
{
    static const char *const names[KERNEL_AREA_COUNT] = {
        [KERNEL_AREA_HEAP] = "heap_area",
        [KERNEL_AREA_STACKS] = "stacks_area",
        [KERNEL_AREA_DEVICES] = "devices_area",
    };

    for (enum kernel_area i = 0; i < KERNEL_AREA_COUNT; i++) {
        struct qr_vmalloc_config config = {
            .name = names[i],
            .frames = memory.frames,
            .heap = memory.heap,
            .kernel = &memory.kernel_space,
            .range = platform_area(i),
            .groups = platform_groups(),
#ifdef CONFIG_MEMORY_DEBUGGING
            .flush_at_once = true,
#endif
        };

        memory.areas[i] = instance_alloc(qr_vmalloc_size(), "kernel areas");
        must(qr_vmalloc_init(memory.areas[i], &config), "kernel areas");
    }
}

static void
kernel_tables_init(void)
{
    char word[8];

    qr_epoch_init(&memory.epoch);
    must(qr_tables_adopt(&memory.kernel_tables, platform_format(), memory.frames, &memory.epoch,
                         platform_root()),
         "kernel tables");
    must(qr_tables_fill_upper_half(&memory.kernel_tables), "upper half");

    memory.tlb = instance_alloc(qr_tlb_size(possible_cpus(), platform_asid_count()), "shootdown");
    qr_tlb_init(memory.tlb, memory.frames, possible_cpus(), platform_asid_count());
    qr_tlb_space_init(&memory.kernel_space, memory.tlb, &memory.kernel_tables);
    memory.kernel_space.global = true;
    qr_tlb_set_kernel(memory.tlb, &memory.kernel_space);
    /* For comparison (bench/tlb.sh): every change flushes everything, everywhere. */
    qr_tlb_set_naive(memory.tlb,
                     boot_option("tlb", word, sizeof word) && strcmp(word, "naive") == 0);
    memory_cpu_online();
}

/** @p wanted bits of pages, or as many as leave 2^-@p share of the user's window as their range. */
static unsigned
random_bits(unsigned wanted, unsigned share)
{
    unsigned half = 63u - (unsigned)__builtin_clzll(platform_user_window());
    unsigned most = half - QR_PAGE_SHIFT - share;

    return wanted < most ? wanted : most;
}

/* Linux's reserves: a 32nd of what is free now, up to 128 and 8 MiB. */
static void
commit_init(void)
{
    struct qr_commit_policy policy = qr_vm_commit_policy(memory.vm);
    struct qr_frames_stats stats;

    qr_frames_stats(memory.frames, &stats);
    uint64_t reserve = (uint64_t)stats.free << QR_PAGE_SHIFT >> 5;

    policy.user_reserve_bytes = (size_t)(reserve < 128 * MIB ? reserve : 128 * MIB);
    policy.admin_reserve_bytes = (size_t)(reserve < 8 * MIB ? reserve : 8 * MIB);
    qr_vm_set_commit_policy(memory.vm, &policy);
}

static void
swap_init(void)
{
    struct qr_format_info info;

    qr_format_info(platform_format(), &info);
    const struct qr_swap_config config = {
        .frames = memory.frames,
        .heap = memory.heap,
        .groups = memory.groups,
        .slot_bits = info.mark_bits - QR_SWAP_MARK_FLAGS,
    };

    memory.swap = instance_alloc(qr_swap_size(), "swap");
    qr_swap_init(memory.swap, &config);
}

static void
vm_init(void)
{
    char word[8];
    struct qr_vm_config config = {
        .frames = memory.frames,
        .heap = memory.heap,
        .epoch = &memory.epoch,
        .tlb = memory.tlb,
        .format = platform_format(),
        .kernel_tables = &memory.kernel_tables,
        .layout =
            {
                .user_start = qr_va_of(CONFIG_USER_START > MMAP_MIN_ADDR ? CONFIG_USER_START : 0),
                .user_end = qr_va_of(qr_port_user_end()),
                .stack_top = qr_va_of(platform_user_window()),
                .stack_gap_bytes = USER_STACK_GAP,
                .mmap_random_bits = random_bits(28, 2),
                .stack_random_bits = random_bits(22, 4),
                .brk_random_bits = random_bits(13, 6),
            },
        .max_regions = MAX_REGIONS,
        .stack_guard_pages = STACK_GUARD_PAGES,
        .fault_around_pages = FAULT_AROUND_PAGES,
        .randomise = !boot_option("norandmaps", word, sizeof word),
    };

    memory.objects = instance_alloc(qr_objects_size(), "objects");
    must(qr_objects_init(memory.objects, memory.frames, memory.heap), "objects");
    config.objects = memory.objects;
    memory.groups = instance_alloc(qr_groups_size(possible_cpus()), "groups");
    must(qr_groups_init(memory.groups, memory.frames, memory.heap, possible_cpus()), "groups");
    config.groups = memory.groups;
    swap_init();
    config.swap = memory.swap;
    memory.vm = instance_alloc(qr_vm_size(), "address spaces");
    must(qr_vm_init(memory.vm, &config), "address spaces");
    qr_vm_set_floor(memory.vm, qr_va_of(CONFIG_USER_START));
    commit_init();
    hugetlb_init();
}

void
memory_cpu_online(void)
{
    qr_tlb_cpu_online(memory.tlb);
}

void
memory_tick(void)
{
    if (qr_port_this_cpu()->index != 0)
        return;
    /* One CPU is enough: whatever was retired anywhere is in one queue.  A hint, not a lock. */
    if (__atomic_load_n(&memory.epoch.head, __ATOMIC_RELAXED))
        (void)qr_epoch_collect(&memory.epoch);
    memory_tick_heap();
}

void
memory_init(void)
{
    struct qr_frames_stats stats;

    frames_init();
    heap_init();
    kernel_tables_init();
    areas_init();
    memory_watch_heap();
    vm_init();
    qr_frames_set_reclaim(memory.frames, reclaim, NULL);
    qr_reclaim_attach(memory.vm);
    qr_lazy_attach(memory.vm);
    qr_swap_attach(memory.vm);
    hugetlb_fill();
    qr_frames_stats(memory.frames, &stats);
    printk("memory: %zu frames, %zu free, %zu reserved, %zu KiB of descriptors\n", stats.total,
           stats.free, stats.reserved, stats.metadata_bytes >> 10);
}
