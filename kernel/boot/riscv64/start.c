/* SPDX-License-Identifier: MIT */
/*
 * First C code: from the firmware's hand-over to the kernel's own page tables.
 * boot.S has turned translation on with the boot tables; interrupts are off.
 *
 * The device tree is all there is to know the machine from; the command line in it
 * comes first, because it decides where messages go.
 */
#include <boot.h>
#include <fdt_boot.h>

#include "../../arch/riscv64/cpu.h"
#include "paging.h"

/* Until the tree names another: where QEMU's board and others of its family have the port. */
#define UART_USUAL 0x10000000u

void boot_main(uint64_t hart, uint64_t fdt_pa);
QR_NORETURN void kernel_main(void);

static void
cpu_init(uint64_t hart)
{
    struct cpu *cpu = &cpus[0];

    cpu->arch.quire = &cpu->quire;
    cpu->arch.hart = hart;
    cpu->arch.boot_stack = cpu->arch.stack_low;
}

static void
fdt_read(struct fdt *fdt, uint64_t hart, uint64_t fdt_pa)
{
    const void *blob = (const void *)(uintptr_t)(fdt_pa + BOOT_WINDOW_BASE);
    enum fdt_error error = FDT_ERR_BOUNDS;

    if (fdt_pa < BOOT_WINDOW_BYTES - FDT_BYTES_MAX)
        error = fdt_open(fdt, blob, FDT_BYTES_MAX);
    if (error != FDT_OK)
        panic("no usable device tree at %lx: %s", fdt_pa, fdt_error_text(error));
    machine_parse(fdt, hart);
}

void
boot_main(uint64_t hart, uint64_t fdt_pa)
{
    struct fdt fdt;

    cpu_init(hart);
    uart_init(UART_USUAL + BOOT_WINDOW_BASE, 0);
    fdt_read(&fdt, hart, fdt_pa);
    if (riscv_machine.uart.bytes != 0 &&
        riscv_machine.uart.start < BOOT_WINDOW_BYTES - QR_PAGE_SIZE)
        uart_init(riscv_machine.uart.start + BOOT_WINDOW_BASE, riscv_machine.uart_shift);

    /* Twice: satp= on the command line decides how much of memory can be reached. */
    if (!fdt_boot_parse(&fdt, fdt_pa, BOOT_WINDOW_BYTES))
        panic("the device tree names no memory");
    features_detect();
    if (!fdt_boot_parse(&fdt, fdt_pa, paging_physical_limit()))
        panic("the device tree names no memory that can be reached");
    features_enable();
    paging_init();
    kernel_main();
}
