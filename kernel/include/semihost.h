/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SEMIHOST_H
#define KERNEL_SEMIHOST_H

#include <stddef.h>
#include <stdint.h>

/**
 * @file
 * Calls to whoever emulates or debugs the machine (ARM's and RISC-V's semihosting
 * agree but for the instruction).  Only where the command line says that somebody
 * answers: else the instruction is a fault.
 */

/** kernel/arch/<arch>: the instruction.  @p argument is a pointer or a number. */
uintptr_t semihost_call(uintptr_t operation, uintptr_t argument);

/** Text to the debugger's console, QEMU's `-semihosting-config chardev=`.  Any context. */
void semihost_write(const char *bytes, size_t count);

#endif
