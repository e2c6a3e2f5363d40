/* SPDX-License-Identifier: MIT */
/*
 * The machine as main.c and memory.c see it.
 */
#include <block.h>
#include <boot_pages.h>
#include <console.h>
#include <memory.h>
#include <platform.h>
#include <sbi.h>

#include "../../boot/riscv64/paging.h"
#include "../../drivers/virtio_mmio.h"
#include "cpu.h"

extern const uint64_t image_range[2];

void
platform_init(void)
{
    plic_init();
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
    clock_tick_start();
    uart_enable_input();
}

void
platform_overflow_stack(void)
{
    __asm__ volatile("1: addi sp, sp, -8; sd zero, 0(sp); j 1b");
    __builtin_unreachable();
}

void
platform_power_off(int status)
{
    (void)status; /* it stands in the log */
    sbi_power_off();
}

void
platform_find_disks(void)
{
    for (unsigned i = 0; i < riscv_machine.virtio_count; i++) {
        if (virtio_mmio_probe(riscv_machine.virtio[i].registers, riscv_machine.virtio[i].irq))
            plic_enable(riscv_machine.virtio[i].irq);
    }
}

qr_pa
platform_root(void)
{
    return qr_pa_of((csr_read(satp) & (((uint64_t)1 << SATP_ASID_SHIFT) - 1)) << QR_PAGE_SHIFT);
}

void *
platform_boot_alloc(size_t bytes)
{
    return direct_map(boot_pages_alloc((bytes + QR_PAGE_MASK) >> QR_PAGE_SHIFT));
}

uintptr_t
platform_user_window(void)
{
    return user_limit < USER_WINDOW_END ? user_limit : USER_WINDOW_END;
}

const struct qr_format *
platform_format(void)
{
    static const struct qr_format *const formats[][2] = {
        [3] = {&qr_format_riscv64_sv39_basic, &qr_format_riscv64_sv39},
        [4] = {&qr_format_riscv64_sv48_basic, &qr_format_riscv64_sv48},
        [5] = {&qr_format_riscv64_sv57_basic, &qr_format_riscv64_sv57},
    };

    return formats[cpu_features.levels][cpu_features.svpbmt];
}

bool
platform_groups(void)
{
    return cpu_features.svnapot;
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
    add((struct qr_pa_range){qr_pa_of(image_range[0]), qr_pa_of(image_range[1])}, QR_MEMORY_KERNEL,
        "Kernel image");
}

uint64_t
platform_physical_limit(void)
{
    return paging_physical_limit();
}

unsigned
platform_asid_count(void)
{
    return 1u << cpu_features.asid_bits;
}

struct qr_va_range
platform_area(enum kernel_area area)
{
    static const struct {
        uintptr_t base, bytes;
    } areas[KERNEL_AREA_COUNT] = {
        [KERNEL_AREA_HEAP] = {HEAP_BASE, HEAP_BYTES},
        [KERNEL_AREA_STACKS] = {STACKS_BASE, STACKS_BYTES},
        [KERNEL_AREA_DEVICES] = {DEVICES_BASE, DEVICES_BYTES},
    };

    return (struct qr_va_range){qr_va_of(areas[area].base),
                                qr_va_of(areas[area].base + areas[area].bytes)};
}

struct qr_va_range
platform_direct_map(void)
{
    return (struct qr_va_range){qr_va_of(0), qr_va_of(0)};
}
