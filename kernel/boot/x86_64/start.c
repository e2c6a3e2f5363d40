/* SPDX-License-Identifier: MIT */
/*
 * First C code: from the loader's hand-over to the kernel's own page tables.
 * boot.S has turned paging on with the boot tables; interrupts are off.
 */
#include <acpi.h>
#include <boot.h>
#include <platform.h>

#include "cpu.h"
#include "../x86/loader.h"
#include "../x86/paging.h"

#include <quire_x86_64.h>

void boot_main(uint32_t magic, const void *information);
QR_NORETURN void kernel_main(void);

/* The boot tables show the first 4 GiB where the direct map will be. */
#define BOOT_WINDOW_BYTES ((uint64_t)4 << 30)

uintptr_t user_limit = USER_WINDOW_END;

const void *
boot_window(uint64_t pa, uint64_t bytes)
{
    if (pa == 0 || pa >= BOOT_WINDOW_BYTES || bytes > BOOT_WINDOW_BYTES - pa)
        return NULL;
    return (const void *)(pa + DIRECT_MAP_BASE);
}

void
boot_main(uint32_t magic, const void *information)
{
    struct paging_geometry geometry = {
        .levels = 4, .index_bits = 9, .nx = true, .boot_window = BOOT_WINDOW_BYTES};
    uint64_t pa = (uintptr_t)information - DIRECT_MAP_BASE;

    descriptors_load(&cpus[0]);
    serial_init();
    features_detect();
    if (!cpu_features.nx)
        panic("this CPU cannot forbid execution (NX): Quire's page tables need it");
    features_enable();
    if (cr4_read() & CR4_LA57) {
        geometry.levels = 5;
        user_limit = USER_LIMIT_5_LEVELS;
    }
    qr_x86_smap = cpu_features.smap;
    qr_x86_pcid = cpu_features.pcid;
    qr_x86_invpcid = cpu_features.invpcid;

    if (!loader_parse(magic, pa, platform_physical_limit()))
        panic("boot loader not understood (magic %x): boot by PVH or Multiboot2", magic);
    acpi_init(boot_info.rsdp);
    cr3_write(paging_init(&geometry));
    kernel_main();
}
