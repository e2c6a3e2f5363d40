/* SPDX-License-Identifier: MIT */
/*
 * A machine described by a device tree, as main.c and memory.c see it.
 */
#include <block.h>
#include <boot_pages.h>
#include <memory.h>
#include <platform.h>
#include <semihost.h>

#include "../../boot/aarch64/paging.h"
#include "../../drivers/virtio_mmio.h"
#include "cpu.h"

void *
device_map(const struct fdt_walk *node, unsigned index, const char *name)
{
    struct fdt_range range;
    void *window = NULL;
    uint64_t offset;

    if (!fdt_reg(node, index, &range) || range.bytes == 0 ||
        range.start + range.bytes > (uint64_t)1 << cpu_features.physical_bits)
        panic("the device tree does not tell where the %s is", name);
    offset = range.start & QR_PAGE_MASK;
    window = qr_vmalloc_device(memory.areas[KERNEL_AREA_DEVICES], qr_pa_of(range.start - offset),
                               qr_va_page_up((uintptr_t)(offset + range.bytes)), QR_CACHE_UNCACHED,
                               name);
    if (window == NULL)
        panic("no memory to map the %s", name);
    return (char *)window + offset;
}

void
platform_init(void)
{
    printk("cpu: %u-bit addresses, %u-bit identifiers%s%s%s%s%s\n", cpu_features.physical_bits,
           cpu_features.asid_bits, cpu_features.pan ? ", PAN" : "",
           cpu_features.af_dbm ? ", accessed and dirty by hardware" : "",
           cpu_features.tlbi_range ? ", flushes by range" : "",
           cpu_features.bbm2 ? ", leaves split live" : "",
           cpu_features.branch_tracking ? ", indirect branches tracked" : "");
    gic_init();
    arm_timer_init();
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
    struct fdt_walk uart;

    arm_timer_cpu_start();
    if (fdt_find_compatible(&boot_fdt, "arm,pl011", &uart))
        pl011_enable_input(&uart);
}

void
platform_overflow_stack(void)
{
    __asm__ volatile("1: str xzr, [sp, #-16]!\n\tb 1b");
    __builtin_unreachable();
}

void
platform_find_disks(void)
{
    struct fdt_walk node;
    struct fdt_range range;

    if (!fdt_find_compatible(&boot_fdt, "virtio,mmio", &node))
        return;
    do {
        unsigned number = gic_interrupt_of(&node, 0);

        if (number != 0 && fdt_reg(&node, 0, &range) && virtio_mmio_probe(range, number))
            gic_enable(number);
    } while (fdt_next_compatible(&node, "virtio,mmio"));
}

qr_pa
platform_root(void)
{
    return qr_pa_of(paging_root());
}

void *
platform_boot_alloc(size_t bytes)
{
    uint64_t pa = boot_pages_alloc((bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT);

    return qr_port_window_open(qr_pa_of(pa));
}

struct qr_pa_range
platform_table_frames(void)
{
    return boot_pages_taken();
}

void
platform_describe_memory(void (*add)(struct qr_pa_range range, enum qr_memory_kind kind,
                                     const char *description))
{
    add(paging_image(), QR_MEMORY_KERNEL, "Kernel image");
}

uint64_t
platform_physical_limit(void)
{
    uint64_t limit = (uint64_t)1 << cpu_features.physical_bits;

    return limit < DIRECT_MAP_BYTES ? limit : DIRECT_MAP_BYTES;
}

unsigned
platform_asid_count(void)
{
    return 1u << cpu_features.asid_bits;
}

uintptr_t
platform_user_window(void)
{
    return USER_LIMIT;
}

const struct qr_format *
platform_format(void)
{
#if CONFIG_PAGE_SHIFT == 12
    return cpu_features.bbm2 ? &qr_format_aarch64_4k_bbm2 : &qr_format_aarch64_4k;
#elif CONFIG_PAGE_SHIFT == 14
    return cpu_features.bbm2 ? &qr_format_aarch64_16k_bbm2 : &qr_format_aarch64_16k;
#else
    return cpu_features.bbm2 ? &qr_format_aarch64_64k_bbm2 : &qr_format_aarch64_64k;
#endif
}

/* The contiguous hint is part of the architecture; a CPU may ignore it. */
bool
platform_groups(void)
{
    return true;
}

struct qr_va_range
platform_area(enum kernel_area area)
{
    static const uint64_t base[KERNEL_AREA_COUNT] = {
        [KERNEL_AREA_HEAP] = HEAP_BASE,
        [KERNEL_AREA_STACKS] = STACKS_BASE,
        [KERNEL_AREA_DEVICES] = DEVICES_BASE,
    };

    return (struct qr_va_range){qr_va_of(base[area]), qr_va_of(base[area] + AREA_BYTES)};
}

uintptr_t
semihost_call(uintptr_t operation, uintptr_t argument)
{
    register uintptr_t x0 __asm__("x0") = operation;
    register uintptr_t x1 __asm__("x1") = argument;

    __asm__ volatile("hlt #0xf000" : "+r"(x0) : "r"(x1) : "memory");
    return x0;
}

struct qr_va_range
platform_direct_map(void)
{
    return (struct qr_va_range){qr_va_of(0), qr_va_of(0)};
}
