/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PRINTK_H
#define KERNEL_PRINTK_H

#include <stdarg.h>
#include <stddef.h>

#include <quire/compiler.h>

/**
 * @file
 * The kernel's log and formatted text.
 *
 * Formats: %d %i %u %x %X %o %p %s %c %%, with l, ll, z, h, hh; flags 0, -, +,
 * space and #; width and precision, also as `*`.
 */

/** Log formatted text, one write to the log port; any context.  End lines with \n. */
void printk(const char *format, ...) QR_PRINTF(1, 2);

/** Stop the machine after a message; every CPU halts and the exit status is 125. */
QR_NORETURN QR_COLD void panic(const char *format, ...) QR_PRINTF(1, 2);

/** As in C: at most @p size bytes with the terminator; returns the untruncated length. */
int snprintf(char *buffer, size_t size, const char *format, ...) QR_PRINTF(3, 4);
int vsnprintf(char *buffer, size_t size, const char *format, va_list arguments) QR_PRINTF(3, 0);

#endif
