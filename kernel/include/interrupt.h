/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_INTERRUPT_H
#define KERNEL_INTERRUPT_H

/**
 * @file
 * Interrupts of devices that are found at start-up: who serves which number.
 *
 * A number is the interrupt controller's own: a vector on x86, an interrupt of the GIC or a
 * line of the PLIC elsewhere.
 */

#include <stdbool.h>

typedef void (*interrupt_fn)(void *context);

/**
 * Have @p fn called for interrupt @p number from now on; boot CPU, before the scheduler runs.
 * @return false where the table is full
 */
bool interrupt_attach(unsigned number, interrupt_fn fn, void *context);

/** From the interrupt controller, interrupts off: call whoever serves @p number, if anybody. */
void interrupt_dispatch(unsigned number);

#endif
