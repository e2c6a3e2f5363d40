/* SPDX-License-Identifier: MIT */
/*
 * The order of the boot.
 *
 * boot/<arch> has parsed what the loader left and runs on the kernel's own page
 * tables; interrupts are off.  From here on everything is the same on every
 * architecture, in the order in which one part needs the other:
 *
 *      memory      frames, heap, kernel tables: the library
 *      platform    interrupt controllers, clock
 *      processes   the scheduler, the boot CPU's idle thread
 *      CPUs        the others
 *      disks       what the buses have
 *      files       the initial file system
 *      init        process 1
 */
#include <arch.h>
#include <block.h>
#include <boot.h>
#include <memory.h>
#include <platform.h>
#include <printk.h>

QR_NORETURN void kernel_main(void);

static void
log_boot_info(void)
{
    uint64_t usable = 0;

    for (unsigned i = 0; i < boot_info.region_count; i++) {
        const struct boot_region *r = &boot_info.regions[i];

        if (r->kind == BOOT_REGION_USABLE)
            usable += r->bytes;
    }
    printk("quire: booted by %s, %u memory regions, %llu MiB usable, %u CPUs reported, %s\n",
           boot_info.protocol, boot_info.region_count, (unsigned long long)usable >> 20,
           boot_machine.cpu_count, arch_cpu_name());
    if (boot_info.regions_dropped)
        printk("boot: %u memory regions beyond %u are ignored\n", boot_info.regions_dropped,
               BOOT_REGIONS_MAX);
}

void
kernel_main(void)
{
    size_t initrd_bytes = boot_info.initrd.end.v - boot_info.initrd.start.v;

    log_boot_info();
    memory_init();
    platform_init();
    platform_audit();
    proc_init();
    arch_start_cpus();
    boot_check();
    platform_find_disks();
    fs_init(initrd_bytes ? direct_map(boot_info.initrd.start.v) : NULL, initrd_bytes);
    platform_start();
    process_start_init();
    memory_start_background();
    disks_start();
    writeback_start();
    sched_run();
}
