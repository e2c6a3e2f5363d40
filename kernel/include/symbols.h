/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SYMBOLS_H
#define KERNEL_SYMBOLS_H

/**
 * @file
 * What the kernel knows about its own code: names of functions, and who called whom.  Any context,
 * no locks, no memory.
 */

#include <quire/writer.h>

/** "name+0x1c" for an address in the kernel's text; false, and nothing written, for another. */
bool symbol_write(struct qr_writer *writer, uintptr_t pc);

/** The same for a return address, which may be one past the end of the function that called. */
bool symbol_write_caller(struct qr_writer *writer, uintptr_t return_address);

/**
 * Return addresses of the callers, innermost first, while the frames lie on the running stack.
 * @return how many: up to @p count
 */
unsigned backtrace_take(uintptr_t *out, unsigned count);

/** The callers of the frame at @p fp into the log, a line each. */
void backtrace_log(uintptr_t fp);

/** An address and its name into the log. */
void symbol_log(const char *what, uintptr_t pc);

#endif
