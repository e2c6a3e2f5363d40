/* SPDX-License-Identifier: MIT */
/*
 * What RISC-V's part of the kernel wants from the device tree beyond memory and
 * CPUs.  All of it is copied: the tree is not mapped later.
 *
 * What is missing costs what hangs on it (no input, no date); only the rate of time
 * has no substitute, and clock_init() says so.
 */
#include "../../arch/riscv64/cpu.h"

#include <kstring.h>

#define CAUSE_SUPERVISOR_EXTERNAL 9u

struct riscv_machine riscv_machine;

/** The boot CPU's words, and the handle of its own interrupt controller. */
static uint32_t
parse_cpus(const struct fdt *fdt, uint64_t boot_hart)
{
    struct fdt_walk node;
    bool is_boot = false;
    uint32_t handle = 0;

    if (!fdt_find_path(fdt, "/cpus", &node))
        return 0;
    riscv_machine.timebase_hz = fdt_number(&node, "timebase-frequency", 0);
    while (fdt_walk_next_below(&node, 2)) {
        const char *isa = fdt_string(&node, "riscv,isa");
        struct fdt_range number;
        struct fdt_value value;

        if (fdt_string_is(&node, "device_type", "cpu")) {
            is_boot = fdt_reg_raw(&node, 0, &number) && number.start == boot_hart;
            if (is_boot && isa != NULL)
                strlcpy(riscv_machine.isa, isa, sizeof riscv_machine.isa);
        } else if (is_boot && fdt_property(&node, "interrupt-controller", &value)) {
            handle = (uint32_t)fdt_number(&node, "phandle", 0);
        }
    }
    return handle;
}

static void
parse_uart(const struct fdt *fdt)
{
    struct fdt_walk node;
    struct fdt_interrupt interrupt;

    if (!fdt_find_compatible(fdt, "ns16550a", &node) && !fdt_find_compatible(fdt, "ns16550", &node))
        return;
    if (!fdt_reg(&node, 0, &riscv_machine.uart) || riscv_machine.uart.bytes < 8) {
        riscv_machine.uart = (struct fdt_range){0};
        return;
    }
    riscv_machine.uart_shift = (unsigned)(fdt_number(&node, "reg-shift", 0) & 3);
    if (fdt_interrupt(&node, 0, &interrupt))
        riscv_machine.uart_irq = interrupt.cells[0];
}

/** The controller numbers contexts in the order of its interrupts. */
static void
parse_plic(const struct fdt *fdt, uint32_t boot_handle)
{
    struct fdt_walk node;
    struct fdt_interrupt interrupt;

    if (!fdt_find_compatible(fdt, "sifive,plic-1.0.0", &node) &&
        !fdt_find_compatible(fdt, "riscv,plic0", &node))
        return;
    for (unsigned i = 0; fdt_interrupt(&node, i, &interrupt); i++) {
        if (interrupt.controller == boot_handle && interrupt.count > 0 &&
            interrupt.cells[0] == CAUSE_SUPERVISOR_EXTERNAL &&
            fdt_reg(&node, 0, &riscv_machine.plic)) {
            riscv_machine.plic_context = i;
            return;
        }
    }
}

static void
parse_seed(const struct fdt *fdt)
{
    struct fdt_walk node;
    struct fdt_value value;

    if (!fdt_find_path(fdt, "/chosen", &node) || !fdt_property(&node, "rng-seed", &value))
        return;
    if (value.bytes > sizeof riscv_machine.random_seed)
        value.bytes = sizeof riscv_machine.random_seed;
    memcpy(riscv_machine.random_seed, value.data, value.bytes);
}

static void
parse_virtio(const struct fdt *fdt)
{
    struct fdt_walk node;
    struct fdt_interrupt interrupt;

    if (!fdt_find_compatible(fdt, "virtio,mmio", &node))
        return;
    do {
        unsigned i = riscv_machine.virtio_count;

        if (fdt_reg(&node, 0, &riscv_machine.virtio[i].registers) &&
            fdt_interrupt(&node, 0, &interrupt) && interrupt.count > 0) {
            riscv_machine.virtio[i].irq = interrupt.cells[0];
            riscv_machine.virtio_count++;
        }
    } while (riscv_machine.virtio_count < VIRTIO_SLOTS_MAX &&
             fdt_next_compatible(&node, "virtio,mmio"));
}

void
machine_parse(const struct fdt *fdt, uint64_t boot_hart)
{
    uint32_t handle = parse_cpus(fdt, boot_hart);
    struct fdt_walk node;

    parse_uart(fdt);
    parse_plic(fdt, handle);
    parse_seed(fdt);
    parse_virtio(fdt);
    if (fdt_find_compatible(fdt, "google,goldfish-rtc", &node) &&
        !fdt_reg(&node, 0, &riscv_machine.rtc))
        riscv_machine.rtc = (struct fdt_range){0};
}
