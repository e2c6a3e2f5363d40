/* SPDX-License-Identifier: MIT */
/*
 * Terminal and log of a machine with one serial port, and leaving the machine.
 *
 * The port is the terminal of user programs.  The log goes to the same port, each
 * newline with a return, or, with `log=semihosting`, to whoever emulates the
 * machine.  The command line is known before the first message, but for those
 * that say why there is none: these go to the port.
 *
 * The lock keeps lines of two CPUs apart.  A CPU that panics stops the others,
 * which may hold it: from then on it is ignored.
 */
#include <arch.h>
#include <boot.h>
#include <console.h>
#include <kstring.h>
#include <printk.h>
#include <semihost.h>

#include <quire/lock.h>

#define STRETCH_BYTES 1024
#define EXIT_PANIC    125

static struct qr_spin port_lock = QR_SPIN_INIT(QR_RANK_NONE);
static struct qr_spin log_lock = QR_SPIN_INIT(QR_RANK_NONE);
static bool panicking;
static _Atomic bool exiting;

static void
write_locked(struct qr_spin *lock, void (*write)(const char *, size_t), const char *bytes,
             size_t count)
{
    if (panicking) {
        write(bytes, count);
        return;
    }
    qr_spin_lock(lock);
    write(bytes, count);
    qr_spin_unlock(lock);
}

/** Interrupts are off while the lock is held: a long text goes in stretches. */
void
console_write(const char *bytes, size_t count)
{
    while (count > 0) {
        size_t stretch = count < STRETCH_BYTES ? count : STRETCH_BYTES;

        write_locked(&port_lock, uart_write, bytes, stretch);
        bytes += stretch;
        count -= stretch;
    }
}

static void
uart_write_lines(const char *bytes, size_t count)
{
    while (count > 0) {
        const char *end = memchr(bytes, '\n', count);
        size_t line = end ? (size_t)(end - bytes) : count;

        uart_write(bytes, line);
        if (end == NULL)
            return;
        uart_write("\r\n", 2);
        bytes += line + 1;
        count -= line + 1;
    }
}

static bool
log_is_semihosting(void)
{
    static int answer = -1;
    char word[16];

    if (answer < 0 && boot_info.cmdline[0] != '\0')
        answer = boot_option("log", word, sizeof word) && strcmp(word, "semihosting") == 0;
    return answer > 0;
}

void
log_write(const char *bytes, size_t count)
{
    if (log_is_semihosting())
        write_locked(&log_lock, semihost_write, bytes, count);
    else
        write_locked(&port_lock, uart_write_lines, bytes, count);
}

/* ---- Leaving ---------------------------------------------------------------------- */

static void
stop_others(void)
{
    for (unsigned i = 0; i < cpu_count(); i++) {
        if (i != cpu_this()->index)
            arch_ipi_send(i, IPI_STOP);
    }
}

QR_NORETURN void
kernel_exit(int status)
{
    irq_disable();
    if (!atomic_exchange(&exiting, true)) {
        stop_others();
        panicking = true;
        printk("quire: exit %d\n", status);
        uart_drain();
        platform_power_off(status);
    }
    for (;;)
        cpu_relax();
}

void
panic(const char *format, ...)
{
    char text[512];
    va_list arguments;

    irq_disable();
    panicking = true;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    printk("quire: panic: %s\n", text);
    kernel_exit(EXIT_PANIC);
}
