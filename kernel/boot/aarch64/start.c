/* SPDX-License-Identifier: MIT */
/*
 * First C code: from the loader's hand-over to the kernel's own page tables.
 * boot.S has turned the MMU on with the boot tables; interrupts are off.
 */
#include <fdt_boot.h>
#include <platform.h>

#include "cpu.h"
#include "paging.h"

#include <quire_aarch64.h>

void boot_main(uint64_t fdt_pa, uint64_t image);
QR_NORETURN void kernel_main(void);

struct fdt boot_fdt;

/* The boot CPU's, until arch_start_cpus() could allocate one: it never does. */
static char emergency_stack[4096] __attribute__((aligned(16)));

/** The device tree's header lies in the block that @p pa names, the rest behind it. */
static enum fdt_error
open_device_tree(uint64_t pa)
{
    const void *blob = (const void *)(uintptr_t)(pa + DIRECT_MAP_BASE);

    if (pa == 0 || pa >= DIRECT_MAP_BYTES || !paging_window(pa, QR_PAGE_SIZE))
        return FDT_ERR_BOUNDS;
    if (!paging_window(pa, fdt_blob_bytes(blob)))
        return FDT_ERR_BOUNDS;
    return fdt_open(&boot_fdt, blob, FDT_BYTES_MAX);
}

static void
open_console(void)
{
    struct fdt_walk uart;
    struct fdt_range range;

    if (fdt_find_compatible(&boot_fdt, "arm,pl011", &uart) && fdt_reg(&uart, 0, &range))
        pl011_init(paging_early_device(range.start));
}

static void
seed_random(void)
{
    struct fdt_walk chosen;
    struct fdt_value seed;

    if (fdt_find_path(&boot_fdt, "/chosen", &chosen) && fdt_property(&chosen, "rng-seed", &seed))
        random_seed(seed.data, seed.bytes);
}

void
boot_main(uint64_t fdt_pa, uint64_t image)
{
    enum fdt_error error;
    bool understood = false;

    cpus[0].arch.quire = &cpus[0].quire;
    cpus[0].arch.emergency_top = (uintptr_t)(emergency_stack + sizeof emergency_stack);
    REGISTER_WRITE(tpidr_el1, (uintptr_t)&cpus[0]);
    paging_set_image(image);
    features_detect();
    features_enable();
    qr_aarch64_pan = cpu_features.pan;
    qr_aarch64_tlbi_range = cpu_features.tlbi_range;

    error = open_device_tree(fdt_pa);
    if (error == FDT_OK) {
        understood = fdt_boot_parse(&boot_fdt, fdt_pa, platform_physical_limit());
        open_console();
        psci_init();
        seed_random();
    }
    if (!understood)
        panic("device tree at %lx: %s", fdt_pa, error ? fdt_error_text(error) : "names no memory");
    paging_init();
    kernel_main();
}
