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
#include "paging.h"

#include <quire_x86_64.h>

void boot_main(uint32_t magic, const void *information);
QR_NORETURN void kernel_main(void);

void
boot_main(uint32_t magic, const void *information)
{
    uint64_t pa = (uintptr_t)information - DIRECT_MAP_BASE;

    descriptors_load(&cpus[0]);
    serial_init();
    features_detect();
    if (!cpu_features.nx)
        panic("this CPU cannot forbid execution (NX): Quire's page tables need it");
    features_enable();
    qr_x86_smap = cpu_features.smap;
    qr_x86_pcid = cpu_features.pcid;
    qr_x86_invpcid = cpu_features.invpcid;

    if (!loader_parse(magic, pa, platform_physical_limit()))
        panic("boot loader not understood (magic %x): boot by PVH or Multiboot2", magic);
    acpi_init(boot_info.rsdp);
    paging_init();
    kernel_main();
}
