/* SPDX-License-Identifier: MIT */
/*
 * First C code: from the loader's hand-over to the kernel's own page tables.
 * boot.S has turned paging on with the boot tables; interrupts are off.
 *
 * With PAE the root has four entries and the kernel half is one table of 512.
 * Without, or with `nopae`, the root is the directory of 1024 entries.  There, and
 * on a CPU without NX, nothing can forbid execution.
 */
#include <acpi.h>
#include <boot.h>
#include <boot_pages.h>
#include <kstring.h>
#include <platform.h>

#include "../../arch/i386/window.h"
#include "../x86/loader.h"
#include "../x86/paging.h"
#include "cpu.h"

#include <quire_x86.h>

#define BOOT_WINDOW_BYTES ((uint64_t)3 << 30)
#define LOW_BYTES         ((uint64_t)4 << 20) /* what the step tables map identically */

#define CR4_PSE 0x10u
#define CR4_PAE 0x20u

#define ENTRY_LARGE_WRITE 0x83u
#define ENTRY_TABLE       0x01u

void boot_main(uint32_t magic, uint32_t information);
QR_NORETURN void kernel_main(void);

/** As boot.S reads it. */
struct paging_block {
    uint32_t cr3; /**< the tables of the step */
    uint32_t cr4; /**< PSE or PAE */
    uint32_t nx;
};

extern struct paging_block paging_block; /* at its physical address */
void paging_enter(void);

const void *
boot_window(uint64_t pa, uint64_t bytes)
{
    if (pa == 0 || pa >= BOOT_WINDOW_BYTES || bytes > BOOT_WINDOW_BYTES - pa)
        return NULL;
    return (const void *)(uintptr_t)pa;
}

static void *
low_memory(uint64_t pa)
{
    return (void *)((uintptr_t)pa + DIRECT_MAP_BASE);
}

/** A root like @p root, with the lowest memory mapped where it lies. */
static uint64_t
step_tables(uint64_t root, bool pae)
{
    uint64_t step = boot_pages_alloc(1);

    memcpy(low_memory(step), low_memory(root), QR_PAGE_SIZE);
    if (pae) {
        uint64_t directory = boot_pages_alloc(1);
        uint64_t *entries = low_memory(directory);

        for (uint64_t pa = 0; pa < LOW_BYTES; pa += (uint64_t)2 << 20)
            *entries++ = pa | ENTRY_LARGE_WRITE;
        *(uint64_t *)low_memory(step) = directory | ENTRY_TABLE;
    } else {
        *(uint32_t *)low_memory(step) = ENTRY_LARGE_WRITE;
    }
    return step;
}

/**
 * A loader puts the initial file system near the end of memory, where it can be
 * read only now: move it below the end of the direct map.
 */
static void
initrd_bring_down(void)
{
    uint64_t start = boot_info.initrd.start.v;
    uint64_t bytes = boot_info.initrd.end.v - start;
    const void *from = boot_window(start, bytes);
    uint64_t to;

    if (bytes == 0 || boot_info.initrd.end.v <= DIRECT_MAP_BYTES)
        return;
    if (from == NULL)
        panic("the initial file system at %llx cannot be reached", (unsigned long long)start);
    to = boot_pages_alloc((bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT);
    memcpy(low_memory(to), from, (size_t)bytes);
    boot_info.initrd = (struct qr_pa_range){qr_pa_of(to), qr_pa_of(to + bytes)};
}

static void
tables_init(void)
{
    bool pae = cpu_features.pae;
    const struct paging_geometry geometry = {
        .levels = pae ? 3 : 2,
        .index_bits = pae ? 9 : 10,
        .nx = cpu_features.nx,
        .root_is_bare = pae,
        .boot_window = DIRECT_MAP_BYTES,
    };
    uint64_t root = paging_init(&geometry);

    window_init(low_memory(paging_reserve_tables(WINDOWS_BASE, WINDOWS_BYTES)), pae,
                cpu_features.nx);
    initrd_bring_down();
    paging_block = (struct paging_block){
        .cr3 = (uint32_t)step_tables(root, pae),
        .cr4 = pae ? CR4_PAE : CR4_PSE,
        .nx = cpu_features.nx,
    };
    paging_enter();
    cr3_write((uintptr_t)root);
}

/** NX is a bit of PAE's entries; PAE without it still reaches all of memory. */
static void
choose_mode(void)
{
    char word[8];

    if (boot_option("nopae", word, sizeof word))
        cpu_features.pae = false;
    if (!cpu_features.pae)
        cpu_features.nx = false;
}

void
boot_main(uint32_t magic, uint32_t information)
{
    descriptors_load(&cpus[0]);
    serial_init();
    features_detect();
    features_enable();
    qr_x86_smap = cpu_features.smap;

    if (!loader_parse(magic, information, platform_physical_limit()))
        panic("boot loader not understood (magic %x): boot by PVH or Multiboot2", magic);
    acpi_init(boot_info.rsdp);
    choose_mode();
    tables_init();
    if (!cpu_features.nx)
        printk("boot: %s: what can be read can be executed\n",
               cpu_features.pae ? "PAE without NX" : "two-level page tables");
    kernel_main();
}
