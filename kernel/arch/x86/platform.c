/* SPDX-License-Identifier: MIT */
/*
 * The PC as main.c and memory.c see it.
 */
#include <memory.h>
#include <platform.h>

#include "../../boot/x86/paging.h"
#include "cpu.h"

extern const uint64_t image_range[2];

void
platform_init(void)
{
    if (cpu_features.branch_tracking)
        printk("cpu: indirect branches tracked\n");
    if (platform_asid_count() > 1)
        printk("cpu: %u address-space identifiers%s\n", platform_asid_count(),
               cpu_features.invpcid ? ", INVPCID" : "");
    apic_init();
    clock_init();
}

void
platform_audit(void)
{
    if (paging_audit(memory.kernel_tables.root_pa.v) != 0)
        panic("the kernel's page tables break their own rules");
}

void
platform_start(void)
{
    lapic_timer_start();
    serial_enable_input();
}

void
platform_overflow_stack(void)
{
    __asm__ volatile("1: push $0; jmp 1b");
    __builtin_unreachable();
}

qr_pa
platform_root(void)
{
    return qr_pa_of(cr3_read() & ~(uintptr_t)QR_PAGE_MASK);
}

void *
platform_boot_alloc(size_t bytes)
{
    return paging_boot_alloc(bytes);
}

struct qr_pa_range
platform_table_frames(void)
{
    return paging_boot_frames();
}

static struct qr_pa_range
range_of(uint64_t start, uint64_t end)
{
    return (struct qr_pa_range){qr_pa_of(start), qr_pa_of(end)};
}

void
platform_describe_memory(void (*add)(struct qr_pa_range range, enum qr_memory_kind kind,
                                     const char *description))
{
    add(range_of(0, QR_PAGE_SIZE), QR_MEMORY_RESERVED, "BIOS data");
    add(range_of(TRAMPOLINE_PA, TRAMPOLINE_PA + QR_PAGE_SIZE), QR_MEMORY_KERNEL,
        "CPU start-up code");
    add(range_of(0x9f000, 0x100000), QR_MEMORY_RESERVED, "BIOS area");
    add(range_of(image_range[0], image_range[1]), QR_MEMORY_KERNEL, "Kernel image");
}

struct qr_va_range
platform_direct_map(void)
{
    uint64_t bytes = platform_direct_limit(), physical = platform_physical_limit();

    if (bytes == 0 || bytes > physical)
        bytes = physical;
    return (struct qr_va_range){qr_va_of(DIRECT_MAP_BASE),
                                qr_va_of(DIRECT_MAP_BASE + (uintptr_t)bytes)};
}
