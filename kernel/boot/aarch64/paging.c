/* SPDX-License-Identifier: MIT */
/*
 * The kernel's first own page tables.
 *
 * They hold the direct map (usable memory; pages and all sizes of blocks, as
 * alignment allows, with the contiguous hint where a whole group of them fits; never executable; nothing of what firmware wants unmapped) and
 * the kernel image section by section (text executable, the rest not; only data
 * writable).  Where the direct map shows the kernel's text and constants it is
 * read-only too.  TTBR0 holds an empty table until the first user space.
 *
 * The boot tables that boot.S made live on until then: windows onto the device
 * tree and onto the memory for the new tables are added to them, from tables that
 * are part of the image.
 */
#include "paging.h"

#include <boot.h>
#include <boot_pages.h>
#include <kstring.h>
#include <platform.h>
#include <quire/table.h>

#include "cpu.h"

#include <quire_aarch64.h>

#define ENTRY_ADDRESS (0x0000ffffffffffffu & ~(uint64_t)(PAGE_BYTES - 1))
#define ENTRY_NX      (ENTRY_PXN | ENTRY_UXN)

#define TABLE_ENTRIES (1u << INDEX_BITS)
#define WINDOW_TABLES (LEVELS == 4 ? 16u : 6u)
#define BLOCK_BYTES   ((uint64_t)1 << LEVEL_SHIFT(1))
/* The highest level that may hold a leaf. */
#define BLOCK_LEVEL (LEVELS - 2u)
#define WINDOW_MAX  ((uint64_t)8 << 30)
#define EARLY_PAGES 8u
#define GIB_SHIFT   30
#define BLOCK_SHIFT 21

_Static_assert(BOOT_MAIR == QR_AARCH64_MAIR, "boot.S");

typedef uint64_t table[TABLE_ENTRIES];

extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];
extern char boot_stack_guard[], replace_root[];
extern table boot_root, empty_root;

static uint64_t image_base; /* physical */
static uint64_t root;       /* physical */
static struct qr_format_info format;

static table window_tables[WINDOW_TABLES] __attribute__((aligned(PAGE_BYTES)));
static unsigned window_tables_used;

static uint64_t early_devices[EARLY_PAGES]; /* physical pages */
static unsigned early_device_count;

void
paging_set_image(uint64_t pa)
{
    image_base = pa;
    root = image_pa(boot_root);
    qr_aarch64_empty_root = image_pa(empty_root);
}

uint64_t
image_pa(const void *pointer)
{
    return (uintptr_t)pointer - KERNEL_BASE + image_base;
}

struct qr_pa_range
paging_image(void)
{
    return (struct qr_pa_range){qr_pa_of(image_base), qr_pa_of(image_pa(data_end))};
}

uint64_t
paging_root(void)
{
    return root;
}

/** Stores to tables reach the hardware that walks. */
static void
tables_publish(void)
{
    __asm__ volatile("dsb ishst\n\tisb" : : : "memory");
}

static unsigned
level_shift(unsigned level)
{
    return LEVEL_SHIFT(level);
}

/** The root may have fewer entries than other tables. */
static unsigned
level_index(uint64_t va, unsigned level)
{
    unsigned bits = level == ROOT_LEVEL ? ROOT_BITS : INDEX_BITS;

    return (unsigned)(va >> level_shift(level)) & ((1u << bits) - 1);
}

/* ---- Boot tables ----------------------------------------------------------------- */

/** A table of the image by its physical address. */
static uint64_t *
boot_table(uint64_t pa)
{
    return (uint64_t *)(uintptr_t)(pa - image_base + KERNEL_BASE);
}

/** The table at @p level (of leaves) for @p va, made where it is missing; NULL without room. */
static uint64_t *
boot_table_for(uint64_t va, unsigned level)
{
    uint64_t *at = boot_root;

    for (unsigned l = LEVELS - 1; l > level; l--) {
        uint64_t *entry = &at[level_index(va, l)];

        if (*entry == 0) {
            if (window_tables_used == WINDOW_TABLES)
                return NULL;
            *entry = image_pa(window_tables[window_tables_used++]) | ENTRY_TABLE_BOOT;
        }
        at = boot_table(*entry & ENTRY_ADDRESS);
    }
    return at;
}

bool
paging_window(uint64_t pa, uint64_t bytes)
{
    uint64_t block = pa & ~(uint64_t)(BLOCK_BYTES - 1);

    for (; block < pa + bytes; block += BLOCK_BYTES) {
        uint64_t va = block + DIRECT_MAP_BASE;
        uint64_t *blocks = boot_table_for(va, 1);

        if (blocks == NULL)
            return false;
        blocks[level_index(va, 1)] = block | ENTRY_BLOCK_BOOT | ENTRY_NX;
    }
    tables_publish();
    return true;
}

volatile void *
paging_early_device(uint64_t pa)
{
    uint64_t va = EARLY_DEVICES + (uint64_t)early_device_count * QR_PAGE_SIZE;
    uint64_t *pages = boot_table_for(va, 0);

    if (early_device_count == EARLY_PAGES || pages == NULL)
        return NULL;
    early_devices[early_device_count++] = pa & ~(uint64_t)QR_PAGE_MASK;
    pages[level_index(va, 0)] =
        (pa & ENTRY_ADDRESS) | ENTRY_DEVICE | ENTRY_ACCESSED | ENTRY_TABLE_BOOT | ENTRY_NX;
    tables_publish();
    return (volatile void *)(va + (pa & QR_PAGE_MASK));
}

/* ---- The kernel's tables ------------------------------------------------------------ */

static uint64_t *
table_at(uint64_t pa)
{
    return (uint64_t *)(pa + DIRECT_MAP_BASE);
}

static bool
leaf_fits(unsigned level, uint64_t va, uint64_t pa, uint64_t bytes)
{
    uint64_t size = (uint64_t)1 << level_shift(level);

    return level == 0 || (level <= BLOCK_LEVEL && ((va | pa) & (size - 1)) == 0 && bytes >= size);
}

/** How many leaves from @p entry on are mapped as one group; 1 where none fits. */
static unsigned
group_leaves(const uint64_t *entry, unsigned level, uint64_t va, uint64_t pa, uint64_t bytes)
{
    uint64_t size = (uint64_t)1 << (level_shift(level) + format.group_bits[level]);
    unsigned count = 1u << format.group_bits[level];

    if (((va | pa) & (size - 1)) != 0 || bytes < size)
        return 1;
    for (unsigned i = 0; i < count; i++) {
        if (entry[i] & ENTRY_VALID)
            return 1;
    }
    return count;
}

/**
 * Set one leaf or group for @p va, as large as fits.  What is mapped already stays: the
 * first mapping of a page counts.  @return how far the entry met reaches
 */
static uint64_t
map_leaf(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    uint64_t at = root;

    for (unsigned level = LEVELS - 1;; level--) {
        uint64_t size = (uint64_t)1 << level_shift(level);
        uint64_t *entry = &table_at(at)[level_index(va, level)];
        bool leaf = (*entry & ENTRY_VALID) && (level == 0 || !(*entry & ENTRY_TABLE));

        if (leaf)
            return size - (va & (size - 1));
        if (!(*entry & ENTRY_VALID) && leaf_fits(level, va, pa, bytes)) {
            unsigned count = group_leaves(entry, level, va, pa, bytes);

            flags |= count > 1 ? ENTRY_CONTIGUOUS : 0;
            for (unsigned i = 0; i < count; i++)
                entry[i] = (pa + i * size) | flags | ENTRY_VALID | ENTRY_ACCESSED |
                           (level ? 0 : ENTRY_TABLE);
            return count * size;
        }
        if (!(*entry & ENTRY_VALID))
            *entry = boot_pages_alloc(1) | ENTRY_TABLE_BOOT;
        at = *entry & ENTRY_ADDRESS;
    }
}

/** Map whole pages; @p flags decides about writing, execution and caching. */
static void
map_range(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    while (bytes > 0) {
        uint64_t step = map_leaf(va, pa, bytes, flags);

        step = step < bytes ? step : bytes;
        va += step;
        pa += step;
        bytes -= step;
    }
}

/* The library's format says "writable" by DBM, and by the absence of READ_ONLY "dirty". */
#define MAP_TEXT   (ENTRY_SHARED | ENTRY_UXN | ENTRY_READ_ONLY)
#define MAP_RODATA (ENTRY_SHARED | ENTRY_NX | ENTRY_READ_ONLY)
#define MAP_DATA   (ENTRY_SHARED | ENTRY_NX | ENTRY_DBM)
#define MAP_DEVICE (ENTRY_SHARED | ENTRY_NX | ENTRY_DBM | ENTRY_DEVICE)

static void
map_section(const char *start, const char *end, uint64_t flags)
{
    map_range((uintptr_t)start, image_pa(start), (uint64_t)(end - start), flags);
}

static void
map_image(void)
{
    map_section(text_start, text_end,
                MAP_TEXT | (cpu_features.branch_tracking ? ENTRY_GUARDED : 0));
    map_section(rodata_start, rodata_end, MAP_RODATA);
    map_section(data_start, boot_stack_guard, MAP_DATA);
    map_section(boot_stack_guard + QR_PAGE_SIZE, data_end, MAP_DATA);
    /* The same frames in the direct map. */
    map_range(image_base + DIRECT_MAP_BASE, image_base, (uint64_t)(rodata_end - text_start),
              MAP_RODATA);
    for (unsigned i = 0; i < early_device_count; i++)
        map_range(EARLY_DEVICES + (uint64_t)i * QR_PAGE_SIZE, early_devices[i], QR_PAGE_SIZE,
                  MAP_DEVICE);
}

static void
map_region(const struct boot_region *region)
{
    uint64_t at = region->start & ~(uint64_t)QR_PAGE_MASK;
    uint64_t end = (region->start + region->bytes + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;

    while (at < end) {
        struct qr_pa_range range = boot_mappable(at, end);

        map_range(range.start.v + DIRECT_MAP_BASE, range.start.v, range.end.v - range.start.v,
                  MAP_DATA);
        at = range.end.v > at ? range.end.v : end;
    }
}

/** Windows onto memory for tables: from the image up, as far as the boot tables reach. */
static void
open_windows(void)
{
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *r = &boot_info.regions[i];
        uint64_t end = r->start + r->bytes;
        uint64_t start = r->start > image_base ? r->start : image_base;

        if (r->kind != BOOT_REGION_USABLE || end <= start)
            continue;
        if (!paging_window(start, end - start < WINDOW_MAX ? end - start : WINDOW_MAX))
            return;
    }
}

/** Continue on @p new_root; the code that does it runs in the identity map of TTBR0. */
static void
run_on(uint64_t new_root)
{
    void (*replace)(uint64_t) = (void (*)(uint64_t))(uintptr_t)image_pa(replace_root);

    tables_publish();
    replace(new_root);
    REGISTER_WRITE(ttbr0_el1, qr_aarch64_empty_root);
    __asm__ volatile("isb\n\ttlbi vmalle1\n\tdsb nsh\n\tisb" : : : "memory");
}

void
paging_init(void)
{
    qr_format_info(platform_format(), &format);
    open_windows();
    boot_pages_init(image_pa(data_end), DIRECT_MAP_BYTES);
    root = boot_pages_alloc(1);
    map_image();
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        if (boot_info.regions[i].kind == BOOT_REGION_USABLE)
            map_region(&boot_info.regions[i]);
    }
    run_on(root);
}

/* ---- Audit ------------------------------------------------------------------------ */

struct audit {
    unsigned leaves, grouped, executable, violations;
};

static void
audit_leaf(struct audit *audit, uint64_t va, uint64_t entry)
{
    bool write = !(entry & ENTRY_READ_ONLY) || (entry & ENTRY_DBM);
    bool execute = (entry & ENTRY_NX) != ENTRY_NX;
    const char *wrong = NULL;

    audit->leaves++;
    audit->grouped += (entry & ENTRY_CONTIGUOUS) != 0;
    audit->executable += execute;
    if (write && execute)
        wrong = "writable and executable";
    else if ((entry & ENTRY_USER) || !(entry & ENTRY_UXN))
        wrong = "user access to a kernel page";
    if (wrong == NULL)
        return;
    if (audit->violations++ < 10)
        printk("audit: %016lx: entry %016lx: %s\n", va, entry, wrong);
}

/* One frame of the walk a level: the depth of the tree is fixed, so no recursion. */
struct audit_level {
    uint64_t table;
    unsigned index;
};

static uint64_t
audit_va(const struct audit_level *path, unsigned level)
{
    uint64_t va = ~(uint64_t)0 << VA_BITS;

    for (unsigned l = level; l < LEVELS; l++)
        va |= (uint64_t)path[l].index << level_shift(l);
    return va;
}

unsigned
paging_audit(uint64_t audited_root)
{
    struct audit audit = {0};
    struct audit_level path[LEVELS];
    unsigned level = LEVELS - 1;

    path[level] = (struct audit_level){audited_root, 0};
    while (level < LEVELS) {
        struct audit_level *at = &path[level];
        uint64_t entry;

        if (at->index == TABLE_ENTRIES) {
            if (++level < LEVELS)
                path[level].index++;
            continue;
        }
        entry = table_at(at->table)[at->index];
        if (!(entry & ENTRY_VALID)) {
            at->index++;
        } else if (level == 0 || !(entry & ENTRY_TABLE)) {
            audit_leaf(&audit, audit_va(path, level), entry);
            at->index++;
        } else {
            level--;
            path[level] = (struct audit_level){entry & ENTRY_ADDRESS, 0};
        }
    }
    printk("audit: %u kernel mappings, %u of them in groups, %u executable, %u violations\n",
           audit.leaves, audit.grouped, audit.executable, audit.violations);
    return audit.violations;
}
