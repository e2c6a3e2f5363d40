/* SPDX-License-Identifier: MIT */
/*
 * Two 16550 serial ports.
 *
 * The first is the terminal of user programs; what arrives there goes to
 * tty_input().  The second carries the kernel's log.  Where there is no second
 * port, or the command line says `log=console`, the log goes to the first one.
 *
 * The terminal's FIFO stays off: turning it on drops what was typed meanwhile, and
 * without it a byte waits in the receiver, and the sender behind it, until the
 * kernel takes input.
 *
 * Each port has a lock so that lines of two CPUs do not mix.  A CPU that panics
 * stops the others, which may hold a lock: from then on locks are ignored.
 */
#include <boot.h>
#include <kstring.h>

#include "cpu.h"

#include <quire/lock.h>

#define COM1 0x3f8
#define COM2 0x2f8

#define REG_DATA        0
#define REG_IRQ_ENABLE  1
#define REG_FIFO        2
#define REG_LINE        3
#define REG_MODEM       4
#define REG_LINE_STATUS 5
#define REG_SCRATCH     7

#define LINE_DIVISOR       0x80
#define LINE_8N1           0x03
#define FIFO_ON            0x01
#define MODEM_OUT2_RTS_DTR 0x0b
#define IRQ_RECEIVED       0x01
#define STATUS_RECEIVED    0x01
#define STATUS_ROOM        0x20
#define STATUS_EMPTY       0x40
#define FIFO_BYTES         16
#define STRETCH_BYTES      1024
#define WAIT_ROUNDS        100000

struct serial_port {
    uint16_t io;
    bool present;
    unsigned burst; /* bytes that the transmitter takes at once */
    struct qr_spin lock;
};

static struct serial_port console = {.io = COM1, .burst = 1};
static struct serial_port log_port = {.io = COM2, .burst = FIFO_BYTES};
static bool panicking;

static bool
port_probe(struct serial_port *port)
{
    outb(port->io + REG_SCRATCH, 0x5a);
    if (inb(port->io + REG_SCRATCH) != 0x5a)
        return false;
    outb(port->io + REG_IRQ_ENABLE, 0);
    outb(port->io + REG_LINE, LINE_DIVISOR);
    outb(port->io + REG_DATA, 1); /* 115200 baud */
    outb(port->io + REG_IRQ_ENABLE, 0);
    outb(port->io + REG_LINE, LINE_8N1);
    if (port->burst > 1)
        outb(port->io + REG_FIFO, FIFO_ON);
    outb(port->io + REG_MODEM, MODEM_OUT2_RTS_DTR);
    port->present = true;
    return true;
}

static bool
byte_waits(void)
{
    return inb(console.io + REG_LINE_STATUS) & STATUS_RECEIVED;
}

void
serial_init(void)
{
    port_probe(&console);
    port_probe(&log_port);
}

void
serial_enable_input(void)
{
    ioapic_route(4);
    outb(console.io + REG_IRQ_ENABLE, IRQ_RECEIVED);
}

void
serial_drain(void)
{
    const struct serial_port *ports[] = {&console, &log_port};

    for (int p = 0; p < 2; p++) {
        for (int i = 0; ports[p]->present && i < WAIT_ROUNDS; i++) {
            if (inb(ports[p]->io + REG_LINE_STATUS) & STATUS_EMPTY)
                break;
        }
    }
}

void
serial_panic(void)
{
    panicking = true;
}

/** Wait for room in the transmitter, but not for ever: nobody may be reading. */
static void
wait_room(const struct serial_port *port)
{
    for (int i = 0; i < WAIT_ROUNDS && !(inb(port->io + REG_LINE_STATUS) & STATUS_ROOM); i++)
        cpu_relax();
}

/** One stretch of bytes without another CPU's between them. */
static void
port_write_locked(struct serial_port *port, const char *bytes, size_t count)
{
    bool locked = false;

    if (!panicking) {
        qr_spin_lock(&port->lock);
        locked = true;
    }
    for (size_t i = 0; i < count; i++) {
        if (i % port->burst == 0)
            wait_room(port);
        outb(port->io + REG_DATA, (uint8_t)bytes[i]);
    }
    if (locked)
        qr_spin_unlock(&port->lock);
}

/** Interrupts are off while the lock is held: a long text goes in stretches. */
static void
port_write(struct serial_port *port, const char *bytes, size_t count)
{
    while (port->present && count > 0) {
        size_t stretch = count < STRETCH_BYTES ? count : STRETCH_BYTES;

        port_write_locked(port, bytes, stretch);
        bytes += stretch;
        count -= stretch;
    }
}

void
console_write(const char *bytes, size_t count)
{
    port_write(&console, bytes, count);
}

static bool
log_to_console(void)
{
    static int answer = -1;
    char word[16];

    if (answer < 0 && boot_info.cmdline[0] != '\0')
        answer = boot_option("log", word, sizeof word) && strcmp(word, "console") == 0;
    return answer > 0 || !log_port.present;
}

/** Terminals want a return before each newline; the log port gets plain text. */
static void
console_write_lines(const char *bytes, size_t count)
{
    while (count > 0) {
        const char *end = memchr(bytes, '\n', count);
        size_t line = end ? (size_t)(end - bytes) : count;

        console_write(bytes, line);
        if (end == NULL)
            return;
        console_write("\r\n", 2);
        bytes += line + 1;
        count -= line + 1;
    }
}

void
log_write(const char *bytes, size_t count)
{
    if (log_port.present)
        port_write(&log_port, bytes, count);
    if (log_to_console())
        console_write_lines(bytes, count);
}

void
serial_interrupt(void)
{
    for (int i = 0; i < 256 && byte_waits(); i++)
        tty_input((char)inb(console.io + REG_DATA));
}
