/* SPDX-License-Identifier: MIT */
/*
 * PL011 serial port: the terminal.  The firmware has set speed and format.
 * kernel/drivers/console.c holds the lock around writes.
 */
#include <console.h>

#include "../arch/aarch64/cpu.h"

#define REG_DATA      0x00
#define REG_FLAGS     0x18
#define REG_LINE      0x2c
#define REG_CONTROL   0x30
#define REG_IRQ_MASK  0x38
#define REG_IRQ_CLEAR 0x44

#define FLAG_BUSY          (1u << 3)
#define FLAG_RECEIVE_EMPTY (1u << 4)
#define FLAG_SEND_FULL     (1u << 5)
#define LINE_8_BITS_FIFO   0x70u
#define CONTROL_ON         0x301u              /* receive, send, port */
#define IRQ_RECEIVE        (1u << 4 | 1u << 6) /* level reached; bytes that wait */
#define IRQ_ALL            0x7ffu

#define WAIT_ROUNDS 100000
#define BYTES_MAX   256 /* taken in one interrupt */

unsigned pl011_irq;
static volatile char *port;

static uint32_t
reg_read(unsigned reg)
{
    return *(volatile uint32_t *)(port + reg);
}

static void
reg_write(unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(port + reg) = value;
}

void
pl011_init(volatile void *registers)
{
    port = registers;
    if (port == NULL)
        return;
    reg_write(REG_IRQ_MASK, 0);
    reg_write(REG_LINE, LINE_8_BITS_FIFO);
    reg_write(REG_CONTROL, CONTROL_ON);
}

void
uart_write(const char *bytes, size_t count)
{
    for (size_t i = 0; port != NULL && i < count; i++) {
        for (int round = 0; round < WAIT_ROUNDS && (reg_read(REG_FLAGS) & FLAG_SEND_FULL); round++)
            cpu_relax();
        reg_write(REG_DATA, (uint8_t)bytes[i]);
    }
}

void
uart_drain(void)
{
    for (int i = 0; port != NULL && i < WAIT_ROUNDS && (reg_read(REG_FLAGS) & FLAG_BUSY); i++)
        cpu_relax();
}

void
pl011_enable_input(const struct fdt_walk *node)
{
    pl011_irq = gic_interrupt_of(node, 0);
    if (port == NULL || pl011_irq == 0)
        return;
    gic_enable(pl011_irq);
    reg_write(REG_IRQ_MASK, IRQ_RECEIVE);
}

void
pl011_interrupt(void)
{
    reg_write(REG_IRQ_CLEAR, IRQ_ALL);
    for (int i = 0; i < BYTES_MAX && !(reg_read(REG_FLAGS) & FLAG_RECEIVE_EMPTY); i++)
        tty_input((char)reg_read(REG_DATA));
}
