/* SPDX-License-Identifier: MIT */
/*
 * The kernel's first own page tables.
 *
 * They hold the direct map (usable memory but for what the firmware wants left
 * unmapped; leaves of 1 GiB, 2 MiB and 4 KiB as alignment allows; never executable),
 * where the CPU has Svnapot, groups of 64 KiB between the last two;
 * the kernel image section by section (text executable, the rest not; only data
 * writable), and one page of the serial port's registers, so that there is a way to
 * complain.  Where the direct map shows the kernel's text and constants it is
 * read-only too.
 *
 * The layout below the highest 256 GiB depends on how many levels the CPU walks;
 * nothing above does, so the switch moves the direct map alone.  Accessed and dirty
 * are set from the start: whether hardware would set them is unknown.
 *
 * The tables come from usable memory above the image (boot_pages.h); the library
 * adopts the finished tree.
 */
#include "paging.h"

#include <boot.h>
#include <boot_pages.h>
#include <platform.h>

#include "../../arch/riscv64/cpu.h"

#define PTE_KERNEL  (PTE_VALID | PTE_READ | PTE_GLOBAL | PTE_ACCESSED | PTE_DIRTY)
#define PTE_LEAF    (PTE_READ | PTE_WRITE | PTE_EXECUTE)
#define PTE_ADDRESS 0x003ffffffffffc00u /* of what it points to, >> 2 */

#define PTE_GROUP ((uint64_t)1 << 63 | 8u << 10) /* Svnapot, of 64 KiB */

#define GROUP_PAGES    16u
#define TABLE_ENTRIES  512u
#define LEVELS_MAX     5u
#define LEAF_LEVEL_MAX 2u

extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];
extern char boot_stack_guard[];
extern const uint64_t image_range[2];

uintptr_t direct_map_base = BOOT_WINDOW_BASE;
uintptr_t user_limit;

static uint64_t root; /* physical */

/* What depends on the number of levels. */
static const struct layout {
    uintptr_t direct_base, direct_bytes;
    uintptr_t user_bytes;
} layouts[] = {
    [3] = {0xffffffc000000000, (uintptr_t)1 << 37, (uintptr_t)1 << 38},
    [4] = {0xffff800000000000, (uintptr_t)1 << 46, (uintptr_t)1 << 47},
    [5] = {0xff00000000000000, (uintptr_t)1 << 55, (uintptr_t)1 << 56},
};

uint64_t
paging_physical_limit(void)
{
    return layouts[cpu_features.levels].direct_bytes;
}

static uint64_t *
table_at(uint64_t pa)
{
    return (uint64_t *)(pa + direct_map_base);
}

static uint64_t
entry_pa(uint64_t entry)
{
    return (entry & PTE_ADDRESS) << 2;
}

static unsigned
level_shift(unsigned level)
{
    return 12 + 9 * level;
}

static uint64_t *
entry_at(uint64_t table, unsigned level, uint64_t va)
{
    return &table_at(table)[va >> level_shift(level) & (TABLE_ENTRIES - 1)];
}

/* ---- Tables ------------------------------------------------------------------- */

static bool
leaf_fits(unsigned level, uint64_t va, uint64_t pa, uint64_t bytes)
{
    uint64_t size = (uint64_t)1 << level_shift(level);

    return level <= LEAF_LEVEL_MAX && ((va | pa) & (size - 1)) == 0 && bytes >= size;
}

/** How many leaves that begin with @p entry are mapped as one group; 1 where none fits. */
static unsigned
group_pages(const uint64_t *entry, unsigned level, uint64_t va, uint64_t pa, uint64_t bytes)
{
    uint64_t size = (uint64_t)GROUP_PAGES << QR_PAGE_SHIFT;

    if (level > 0 || !cpu_features.svnapot || ((va | pa) & (size - 1)) != 0 || bytes < size)
        return 1;
    for (unsigned i = 0; i < GROUP_PAGES; i++) {
        if (entry[i] != 0)
            return 1;
    }
    return GROUP_PAGES;
}

/**
 * Set one leaf or group for @p va, as large as fits.  What is mapped already stays: the
 * first mapping of a page counts.  @return how far the entry met reaches
 */
static uint64_t
map_leaf(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t flags)
{
    uint64_t table = root;

    for (unsigned level = cpu_features.levels - 1;; level--) {
        uint64_t size = (uint64_t)1 << level_shift(level);
        uint64_t *entry = entry_at(table, level, va);

        if (*entry & PTE_LEAF)
            return size - (va & (size - 1));
        if (*entry == 0 && leaf_fits(level, va, pa, bytes)) {
            unsigned pages = group_pages(entry, level, va, pa, bytes);

            /* The members of a group are all the same. */
            for (unsigned i = 0; i < pages; i++)
                entry[i] = pa >> 2 | flags | (pages > 1 ? PTE_GROUP : 0);
            return pages * size;
        }
        if (*entry == 0)
            *entry = boot_pages_alloc(1) >> 2 | PTE_VALID;
        table = entry_pa(*entry);
    }
}

/** Map whole pages; @p rights: PTE_WRITE, PTE_EXECUTE. */
static void
map_range(uint64_t va, uint64_t pa, uint64_t bytes, uint64_t rights)
{
    while (bytes > 0) {
        uint64_t step = map_leaf(va, pa, bytes, rights | PTE_KERNEL);

        step = step < bytes ? step : bytes;
        va += step;
        pa += step;
        bytes -= step;
    }
}

/* ---- What is mapped -------------------------------------------------------------- */

static void
map_image_part(const char *start, const char *end, uint64_t rights)
{
    map_range((uintptr_t)start, (uintptr_t)start - KERNEL_OFFSET, (uint64_t)(end - start), rights);
}

static void
map_image(uintptr_t direct)
{
    uint64_t constant_bytes = (uint64_t)(rodata_end - text_start);

    map_image_part(text_start, text_end, PTE_EXECUTE);
    map_image_part(rodata_start, rodata_end, 0);
    map_image_part(data_start, boot_stack_guard, PTE_WRITE);
    map_image_part(boot_stack_guard + QR_PAGE_SIZE, data_end, PTE_WRITE);
    /* The same frames in the direct map. */
    map_range(direct + image_range[0], image_range[0], constant_bytes, 0);
}

static void
map_direct(uintptr_t direct)
{
    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *r = &boot_info.regions[i];
        uint64_t at = (r->start + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK;
        uint64_t end = (r->start + r->bytes) & ~(uint64_t)QR_PAGE_MASK;

        while (r->kind == BOOT_REGION_USABLE && at < end) {
            struct qr_pa_range part = boot_mappable(at, end);

            map_range(direct + part.start.v, part.start.v, part.end.v - part.start.v, PTE_WRITE);
            at = part.end.v > at ? part.end.v : end;
        }
    }
}

static void
map_uart(void)
{
    const struct fdt_range *uart = &riscv_machine.uart;
    uint64_t pa = uart->start & ~(uint64_t)QR_PAGE_MASK;

    if (uart->bytes == 0)
        return;
    map_range(FIXED_BASE, pa, QR_PAGE_SIZE, PTE_WRITE);
}

void
paging_init(void)
{
    const struct layout *layout = &layouts[cpu_features.levels];

    boot_pages_init(image_range[1], BOOT_WINDOW_BYTES);
    root = boot_pages_alloc(1);
    map_image(layout->direct_base);
    map_direct(layout->direct_base);
    map_uart();
    user_limit = layout->user_bytes - QR_PAGE_SIZE;
    csr_write(satp, satp_of(root));
    __asm__ volatile("sfence.vma" : : : "memory");
    direct_map_base = layout->direct_base;
    uart_moved(FIXED_BASE + (riscv_machine.uart.start & QR_PAGE_MASK));
}

uint64_t
paging_entry(uintptr_t va)
{
    uint64_t table = (csr_read(satp) & (((uint64_t)1 << SATP_ASID_SHIFT) - 1)) << QR_PAGE_SHIFT;

    for (unsigned level = cpu_features.levels; level-- > 0;) {
        uint64_t entry = *entry_at(table, level, va);

        if (!(entry & PTE_VALID))
            return 0;
        if (entry & PTE_LEAF)
            return entry;
        table = entry_pa(entry);
    }
    return 0;
}

/* ---- Audit ------------------------------------------------------------------------ */

struct audit {
    unsigned leaves, grouped, executable, violations;
};

static void
audit_leaf(struct audit *audit, uint64_t va, uint64_t entry)
{
    bool kernel_half = va >> 63;
    const char *wrong = NULL;

    audit->leaves++;
    audit->grouped += entry >> 63;
    audit->executable += (entry & PTE_EXECUTE) != 0;
    if ((entry & PTE_WRITE) && (entry & PTE_EXECUTE))
        wrong = "writable and executable";
    else if (kernel_half && (entry & PTE_USER))
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
};

static uint64_t
audit_va(const struct audit_level *path, unsigned level)
{
    unsigned bits = level_shift(cpu_features.levels);
    uint64_t va = 0;

    for (unsigned l = level; l < cpu_features.levels; l++)
        va |= (uint64_t)path[l].index << level_shift(l);
    return (uint64_t)((int64_t)(va << (64 - bits)) >> (64 - bits));
}

unsigned
paging_audit(uint64_t audited_root)
{
    struct audit audit = {0};
    struct audit_level path[LEVELS_MAX + 1];
    unsigned level = cpu_features.levels - 1;

    path[level] = (struct audit_level){audited_root, 0};
    while (level < cpu_features.levels) {
        struct audit_level *at = &path[level];
        uint64_t entry;

        if (at->index == TABLE_ENTRIES) {
            path[++level].index++;
            continue;
        }
        entry = table_at(at->table)[at->index];
        if ((entry & PTE_VALID) && !(entry & PTE_LEAF) && level > 0) {
            path[--level] = (struct audit_level){entry_pa(entry), 0};
            continue;
        }
        if (entry & PTE_VALID)
            audit_leaf(&audit, audit_va(path, level), entry);
        at->index++;
    }
    printk("audit: %u kernel mappings, %u of them in groups, %u executable, %u violations\n",
           audit.leaves, audit.grouped, audit.executable, audit.violations);
    return audit.violations;
}
