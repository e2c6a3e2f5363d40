/* SPDX-License-Identifier: MIT */
/*
 * The kernel's first own page tables.
 *
 * They hold the direct map (usable memory and ACPI tables; 1 GiB, 2 MiB and 4 KiB
 * leaves as alignment allows; never executable) and the kernel image section by
 * section (text executable, the rest not; only data writable).  Where the direct map shows the kernel's text and constants it is
 * read-only too.  Nothing of the lower half remains.
 *
 * The tables come from usable memory above the image (boot_pages.h); the library
 * adopts the finished tree.
 */
#include "paging.h"

#include <boot.h>
#include <boot_pages.h>
#include <kstring.h>
#include <printk.h>

#include "cpu.h"

#define ENTRY_PRESENT ((uint64_t)1 << 0)
#define ENTRY_WRITE   ((uint64_t)1 << 1)
#define ENTRY_USER    ((uint64_t)1 << 2)
#define ENTRY_LARGE   ((uint64_t)1 << 7)
#define ENTRY_GLOBAL  ((uint64_t)1 << 8)
#define ENTRY_NX      ((uint64_t)1 << 63)
#define ENTRY_ADDRESS 0x000ffffffffff000u

#define LEVELS_MAX 5u

extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];
extern char boot_stack_guard[];
extern const uint64_t image_range[2];

static struct paging_geometry shape;
static uint64_t root; /* physical */

/* ---- Tables ------------------------------------------------------------------- */

static void *
table_at(uint64_t pa)
{
    return (void *)((uintptr_t)pa + DIRECT_MAP_BASE);
}

static uint64_t
entry_read(uint64_t table, unsigned index)
{
    if (shape.index_bits == 10)
        return ((const uint32_t *)table_at(table))[index];
    return ((const uint64_t *)table_at(table))[index];
}

/** Before anybody runs on the tables. */
static void
entry_write(uint64_t table, unsigned index, uint64_t entry)
{
    if (!shape.nx)
        entry &= ~ENTRY_NX;
    if (shape.index_bits == 10)
        ((uint32_t *)table_at(table))[index] = (uint32_t)entry;
    else
        ((uint64_t *)table_at(table))[index] = entry;
}

static uint64_t
table_alloc(void)
{
    return boot_pages_alloc(1);
}

void *
paging_boot_alloc(size_t bytes)
{
    return table_at(boot_pages_alloc((bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT));
}

static unsigned
level_shift(unsigned level)
{
    return 12 + shape.index_bits * level;
}

static unsigned
entry_index(uint64_t va, unsigned level)
{
    return (unsigned)(va >> level_shift(level)) & ((1u << shape.index_bits) - 1);
}

static uint64_t
table_entry(uint64_t table, unsigned level)
{
    bool bare = shape.root_is_bare && level == shape.levels - 1;

    return table | ENTRY_PRESENT | (bare ? 0 : ENTRY_WRITE);
}

static bool
leaf_fits(unsigned level, uint64_t va, uint64_t pa, uint64_t bytes)
{
    uint64_t size = (uint64_t)1 << level_shift(level);

    if (level == 0)
        return true;
    if (level > 2 || (level == 2 && !cpu_features.gib_pages))
        return false;
    return ((va | pa) & (size - 1)) == 0 && bytes >= size;
}

/**
 * Set one leaf for @p va, as large as fits.  What is mapped already stays: the
 * first mapping of a page counts.  @return how far the entry met reaches
 */
static uint64_t
map_leaf(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    uint64_t table = root;

    for (unsigned level = shape.levels - 1;; level--) {
        uint64_t size = (uint64_t)1 << level_shift(level);
        unsigned index = entry_index(va, level);
        uint64_t entry = entry_read(table, index);

        if ((entry & ENTRY_PRESENT) && (level == 0 || (entry & ENTRY_LARGE)))
            return size - (va & (size - 1));
        if (!(entry & ENTRY_PRESENT) && leaf_fits(level, va, pa, bytes)) {
            entry_write(table, index, pa | flags | ENTRY_PRESENT | (level ? ENTRY_LARGE : 0));
            return size;
        }
        if (!(entry & ENTRY_PRESENT)) {
            entry = table_entry(table_alloc(), level);
            entry_write(table, index, entry);
        }
        table = entry & ENTRY_ADDRESS;
    }
}

/** Map whole pages; @p flags decides about writing and execution. */
static void
map_range(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    flags |= cpu_features.pge ? ENTRY_GLOBAL : 0;
    while (bytes > 0) {
        uint64_t step = map_leaf(va, pa, bytes, flags);

        step = step < bytes ? step : bytes;
        va += step;
        pa += step;
        bytes -= step;
    }
}

/** Take the leaf of four KiB at @p va out again, where there is one. */
static void
unmap_page(uint64_t va)
{
    uint64_t table = root;

    for (unsigned level = shape.levels - 1; level > 0; level--)
        table = entry_read(table, entry_index(va, level)) & ENTRY_ADDRESS;
    entry_write(table, entry_index(va, 0), 0);
}

uint64_t
paging_top_table(uintptr_t va)
{
    return entry_read(root, entry_index(va, shape.levels - 1)) & ENTRY_ADDRESS;
}

uint64_t
paging_reserve_tables(uintptr_t va, size_t bytes)
{
    uint64_t count = bytes >> level_shift(1);
    uint64_t first = boot_pages_alloc(count);
    uint64_t above = shape.levels > 2 ? paging_top_table(va) : root;

    for (uint64_t i = 0; i < count; i++)
        entry_write(above, entry_index(va, 1) + (unsigned)i,
                    table_entry(first + i * QR_PAGE_SIZE, 1));
    return first;
}

/* ---- What is mapped -------------------------------------------------------------- */

static void
map_image(void)
{
    uint64_t guard = (uintptr_t)boot_stack_guard;
    uint64_t text_bytes = (uint64_t)(text_end - text_start);
    uint64_t rodata_bytes = (uint64_t)(rodata_end - rodata_start);

    map_range((uintptr_t)text_start, (uintptr_t)text_start - KERNEL_BASE, text_bytes, 0);
    map_range((uintptr_t)rodata_start, (uintptr_t)rodata_start - KERNEL_BASE, rodata_bytes,
              ENTRY_NX);
    map_range((uintptr_t)data_start, (uintptr_t)data_start - KERNEL_BASE,
              guard - (uintptr_t)data_start, ENTRY_NX | ENTRY_WRITE);
    guard += QR_PAGE_SIZE;
    map_range(guard, guard - KERNEL_BASE, (uintptr_t)data_end - guard, ENTRY_NX | ENTRY_WRITE);
    /* The same frames in the direct map. */
    map_range((uintptr_t)text_start - KERNEL_BASE + DIRECT_MAP_BASE,
              (uintptr_t)text_start - KERNEL_BASE, text_bytes + rodata_bytes, ENTRY_NX);
}

static bool
region_is_mapped(const struct boot_region *region)
{
    return region->kind == BOOT_REGION_USABLE || region->kind == BOOT_REGION_ACPI ||
           region->kind == BOOT_REGION_ACPI_NVS || region->kind == BOOT_REGION_PERSISTENT;
}

static void
map_direct(void)
{
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *r = &boot_info.regions[i];
        uint64_t start = r->start & ~(uint64_t)QR_PAGE_MASK;
        uint64_t end = (r->start + r->bytes + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;

        if (end > DIRECT_MAP_BYTES)
            end = DIRECT_MAP_BYTES;
        if (region_is_mapped(r) && start < end)
            map_range(start + DIRECT_MAP_BASE, start, end - start, ENTRY_NX | ENTRY_WRITE);
    }
    /* The first MiB whole: the trampoline and the BIOS area lie there. */
    map_range(DIRECT_MAP_BASE, 0, 0x100000, ENTRY_NX | ENTRY_WRITE);
}

struct qr_pa_range
paging_boot_frames(void)
{
    return boot_pages_taken();
}

uint64_t
paging_init(const struct paging_geometry *geometry)
{
    shape = *geometry;
    boot_pages_init(image_range[1], geometry->boot_window);
    root = table_alloc();
    map_image();
    map_direct();
    /* On 32 bits the image lies in the direct map, and with it the guard. */
    unmap_page((uintptr_t)boot_stack_guard);
    return root;
}

/* ---- Audit ------------------------------------------------------------------------ */

struct audit {
    unsigned leaves, executable, violations;
};

static void
audit_leaf(struct audit *audit, uint64_t va, uint64_t entry, bool write, bool user, bool execute)
{
    bool kernel_half = va >= USER_LIMIT;
    const char *wrong = NULL;

    audit->leaves++;
    audit->executable += execute;
    if (write && execute && shape.nx)
        wrong = "writable and executable";
    else if (kernel_half && user)
        wrong = "user access to a kernel page";
    else if (!kernel_half)
        wrong = "mapping in the user half";
    if (wrong == NULL)
        return;
    if (audit->violations++ < 10)
        printk("audit: %016llx: entry %016llx: %s\n", (unsigned long long)va,
               (unsigned long long)entry, wrong);
}

/* One frame of the walk a level: the depth of the tree is fixed, so no recursion. */
struct audit_level {
    uint64_t table;
    unsigned index;
    bool write, user, execute; /* what the levels above allow */
};

static uint64_t
audit_va(const struct audit_level *path, unsigned level)
{
    uint64_t va = 0;

    for (unsigned l = level; l < shape.levels; l++)
        va |= (uint64_t)path[l].index << level_shift(l);
    if (shape.levels >= 4 && va >> (level_shift(shape.levels) - 1))
        va |= ~(uint64_t)0 << level_shift(shape.levels);
    return va;
}

unsigned
paging_audit(uint64_t audited_root)
{
    struct audit audit = {0};
    struct audit_level path[LEVELS_MAX];
    unsigned level = shape.levels - 1;

    path[level] = (struct audit_level){audited_root, 0, true, true, true};
    while (level < shape.levels) {
        struct audit_level *at = &path[level];
        uint64_t entry;
        bool bare = shape.root_is_bare && level == shape.levels - 1;
        bool write, user, execute;

        if (at->index == 1u << shape.index_bits) {
            if (++level < shape.levels)
                path[level].index++;
            continue;
        }
        entry = entry_read(at->table, at->index);
        write = at->write && (bare || (entry & ENTRY_WRITE));
        user = at->user && (bare || (entry & ENTRY_USER));
        execute = at->execute && !(entry & ENTRY_NX);
        if (!(entry & ENTRY_PRESENT)) {
            at->index++;
        } else if (level == 0 || (entry & ENTRY_LARGE)) {
            audit_leaf(&audit, audit_va(path, level), entry, write, user, execute);
            at->index++;
        } else {
            level--;
            path[level] = (struct audit_level){entry & ENTRY_ADDRESS, 0, write, user, execute};
        }
    }
    printk("audit: %u kernel mappings, %u executable, %u violations\n", audit.leaves,
           audit.executable, audit.violations);
    return audit.violations;
}
