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

#include "../x86/loader.h"

#include <boot.h>
#include <boot_pages.h>
#include <kstring.h>
#include <printk.h>

#include "cpu.h"

#define BOOT_WINDOW_BYTES ((uint64_t)4 << 30)

#define ENTRY_PRESENT ((uint64_t)1 << 0)
#define ENTRY_WRITE   ((uint64_t)1 << 1)
#define ENTRY_USER    ((uint64_t)1 << 2)
#define ENTRY_LARGE   ((uint64_t)1 << 7)
#define ENTRY_GLOBAL  ((uint64_t)1 << 8)
#define ENTRY_NX      ((uint64_t)1 << 63)
#define ENTRY_ADDRESS 0x000ffffffffff000u

#define TABLE_ENTRIES 512u
#define LEVELS        4u

extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];
extern char boot_stack_guard[];
extern const uint64_t image_range[2];

static uint64_t root; /* physical */
static uint64_t direct_end;

const void *
boot_window(uint64_t pa, uint64_t bytes)
{
    if (pa == 0 || pa >= BOOT_WINDOW_BYTES || bytes > BOOT_WINDOW_BYTES - pa)
        return NULL;
    return (const void *)(pa + DIRECT_MAP_BASE);
}

static uint64_t *
table_at(uint64_t pa)
{
    return (uint64_t *)(pa + DIRECT_MAP_BASE);
}

/* ---- Tables ------------------------------------------------------------------- */

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
    return 12 + 9 * level;
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

    for (unsigned level = LEVELS - 1;; level--) {
        uint64_t size = (uint64_t)1 << level_shift(level);
        uint64_t *entry = &table_at(table)[va >> level_shift(level) & (TABLE_ENTRIES - 1)];

        if ((*entry & ENTRY_PRESENT) && (level == 0 || (*entry & ENTRY_LARGE)))
            return size - (va & (size - 1));
        if (!(*entry & ENTRY_PRESENT) && leaf_fits(level, va, pa, bytes)) {
            *entry = pa | flags | ENTRY_PRESENT | (level ? ENTRY_LARGE : 0);
            return size;
        }
        if (!(*entry & ENTRY_PRESENT))
            *entry = table_alloc() | ENTRY_PRESENT | ENTRY_WRITE;
        table = *entry & ENTRY_ADDRESS;
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

        if (!region_is_mapped(r))
            continue;
        map_range(start + DIRECT_MAP_BASE, start, end - start, ENTRY_NX | ENTRY_WRITE);
        direct_end = end > direct_end ? end : direct_end;
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
paging_direct_end(void)
{
    return direct_end;
}

void
paging_init(void)
{
    boot_pages_init(image_range[1], BOOT_WINDOW_BYTES);
    root = table_alloc();
    map_image();
    map_direct();
    cr3_write(root);
}

/* ---- Audit ------------------------------------------------------------------------ */

struct audit {
    unsigned leaves, executable, violations;
};

static void
audit_leaf(struct audit *audit, uint64_t va, uint64_t entry, bool write, bool user, bool execute)
{
    bool kernel_half = va >> 63;
    const char *wrong = NULL;

    audit->leaves++;
    audit->executable += execute;
    if (write && execute)
        wrong = "writable and executable";
    else if (kernel_half && user)
        wrong = "user access to a kernel page";
    else if (!kernel_half)
        wrong = "mapping in the user half";
    if (wrong == NULL)
        return;
    if (audit->violations++ < 10)
        printk("audit: %016lx: entry %016lx: %s\n", va, entry, wrong);
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

    for (unsigned l = level; l < LEVELS; l++)
        va |= (uint64_t)path[l].index << level_shift(l);
    return va >> 47 ? va | 0xffff000000000000u : va;
}

unsigned
paging_audit(uint64_t audited_root)
{
    struct audit audit = {0};
    struct audit_level path[LEVELS];
    unsigned level = LEVELS - 1;

    path[level] = (struct audit_level){audited_root, 0, true, true, true};
    while (level < LEVELS) {
        struct audit_level *at = &path[level];
        uint64_t entry;
        bool write, user, execute;

        if (at->index == TABLE_ENTRIES) {
            if (++level < LEVELS)
                path[level].index++;
            continue;
        }
        entry = table_at(at->table)[at->index];
        write = at->write && (entry & ENTRY_WRITE);
        user = at->user && (entry & ENTRY_USER);
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
