/* SPDX-License-Identifier: MIT */
/*
 * A 16550 serial port in memory.
 *
 * The receive FIFO stays off: turning it on drops what was typed meanwhile, and
 * without it a byte waits in the receiver, and the sender behind it, until the
 * kernel takes input.
 */
#include <console.h>

#include "../arch/riscv64/cpu.h"

#define REG_DATA        0
#define REG_IRQ_ENABLE  1
#define REG_FIFO        2
#define REG_LINE        3
#define REG_MODEM       4
#define REG_LINE_STATUS 5

#define LINE_8N1        0x03
#define MODEM_RTS_DTR   0x0b
#define IRQ_RECEIVED    0x01
#define STATUS_RECEIVED 0x01
#define STATUS_ROOM     0x20
#define STATUS_EMPTY    0x40
#define WAIT_ROUNDS     100000
#define BYTES_AT_ONCE   256

static volatile uint8_t *port;
static unsigned shift;

static uint8_t
reg_read(unsigned reg)
{
    return port[reg << shift];
}

static void
reg_write(unsigned reg, uint8_t value)
{
    port[reg << shift] = value;
}

void
uart_init(uintptr_t registers, unsigned register_shift)
{
    port = (volatile uint8_t *)registers;
    shift = register_shift;
    reg_write(REG_IRQ_ENABLE, 0);
    reg_write(REG_LINE, LINE_8N1); /* the firmware has set the speed */
    reg_write(REG_MODEM, MODEM_RTS_DTR);
}

void
uart_moved(uintptr_t registers)
{
    if (port != NULL)
        port = (volatile uint8_t *)registers;
}

void
uart_enable_input(void)
{
    if (port == NULL || riscv_machine.uart_irq == 0)
        return;
    plic_enable(riscv_machine.uart_irq);
    reg_write(REG_IRQ_ENABLE, IRQ_RECEIVED);
}

/** Wait for room in the transmitter, but not for ever: nobody may be reading. */
void
uart_write(const char *bytes, size_t count)
{
    for (size_t i = 0; port != NULL && i < count; i++) {
        for (int j = 0; j < WAIT_ROUNDS && !(reg_read(REG_LINE_STATUS) & STATUS_ROOM); j++)
            cpu_relax();
        reg_write(REG_DATA, (uint8_t)bytes[i]);
    }
}

void
uart_drain(void)
{
    for (int i = 0; port != NULL && i < WAIT_ROUNDS; i++) {
        if (reg_read(REG_LINE_STATUS) & STATUS_EMPTY)
            break;
    }
}

void
uart_interrupt(void)
{
    for (int i = 0; i < BYTES_AT_ONCE && reg_read(REG_LINE_STATUS) & STATUS_RECEIVED; i++)
        tty_input((char)reg_read(REG_DATA));
}
