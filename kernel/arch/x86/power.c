/* SPDX-License-Identifier: MIT */
/*
 * Leaving the machine.
 *
 * QEMU's isa-debug-exit (port 0xf4) ends the emulator with status 2v+1; v has
 * seven bits, so the whole status also goes to the log, as its last line.  Without
 * the device: the power-off port of QEMU's ACPI, Bochs' own, or a stopped CPU.
 */
#include "cpu.h"

#define DEBUG_EXIT_PORT 0xf4
#define QEMU_ACPI_PORT  0x604
#define BOCHS_PORT      0x8900
#define ACPI_S5         0x2000

#define EXIT_PANIC 125

static _Atomic bool exiting;

QR_NORETURN void
kernel_exit(int status)
{
    irq_disable();
    if (!atomic_exchange(&exiting, true)) {
        lapic_send_others(LAPIC_FIXED | VECTOR_IPI_STOP);
        serial_panic();
        printk("quire: exit %d\n", status);
        serial_drain();
        outb(DEBUG_EXIT_PORT, (uint8_t)status);
        for (const char *c = "Shutdown"; *c; c++)
            outb(BOCHS_PORT, (uint8_t)*c);
        outw(QEMU_ACPI_PORT, ACPI_S5);
    }
    for (;;)
        __asm__ volatile("cli; hlt");
}

void
panic(const char *format, ...)
{
    char text[512];
    va_list arguments;

    irq_disable();
    serial_panic();
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printk("quire: panic: %s\n", text);
    kernel_exit(EXIT_PANIC);
}
