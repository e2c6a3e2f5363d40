/* SPDX-License-Identifier: MIT */
/*
 * RISC-V's platform-level interrupt controller.
 *
 * Every line goes to the boot CPU's supervisor context, at one priority.  Reading
 * the claim register takes the line; writing it back ends the interrupt.
 */
#include <interrupt.h>
#include <memory.h>

#include "../arch/riscv64/cpu.h"

/* In words. */
#define PRIORITY(line)     (line)
#define ENABLE(context)    (0x2000 / 4 + (context) * (0x80 / 4))
#define THRESHOLD(context) (0x200000 / 4 + (context) * (0x1000 / 4))
#define CLAIM(context)     (THRESHOLD(context) + 1)
#define LINES              1024u
#define CLAIMS_AT_ONCE     64

static volatile uint32_t *plic;

void
plic_init(void)
{
    const struct fdt_range *range = &riscv_machine.plic;
    uint64_t needed = (CLAIM((uint64_t)riscv_machine.plic_context) + 1) * sizeof *plic;

    if (range->bytes < needed) {
        printk("plic: none that this kernel can use: no input from the terminal\n");
        return;
    }
    plic = qr_vmalloc_device(memory.areas[KERNEL_AREA_DEVICES], qr_pa_of(range->start),
                             (size_t)range->bytes, QR_CACHE_UNCACHED, "interrupt controller");
    if (plic == NULL)
        panic("no memory to map the interrupt controller");
    for (unsigned i = 0; i < LINES / 32; i++)
        plic[ENABLE(riscv_machine.plic_context) + i] = 0;
    plic[THRESHOLD(riscv_machine.plic_context)] = 0;
}

void
plic_enable(uint32_t irq)
{
    if (plic == NULL || irq >= LINES)
        return;
    plic[PRIORITY(irq)] = 1;
    plic[ENABLE(riscv_machine.plic_context) + irq / 32] |= 1u << irq % 32;
}

void
plic_interrupt(void)
{
    for (int i = 0; plic != NULL && i < CLAIMS_AT_ONCE; i++) {
        uint32_t line = plic[CLAIM(riscv_machine.plic_context)];

        if (line == 0)
            return;
        if (line == riscv_machine.uart_irq)
            uart_interrupt();
        else
            interrupt_dispatch(line);
        plic[CLAIM(riscv_machine.plic_context)] = line;
    }
}
