/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SBI_H
#define KERNEL_SBI_H

#include <stdbool.h>
#include <stdint.h>

#include <quire/compiler.h>

/**
 * @file
 * RISC-V's firmware, as the Supervisor Binary Interface has it.
 */

/** Start a stopped hart at physical address @p entry; false where the firmware refuses. */
QR_MUST_USE bool sbi_hart_start(uint64_t hart, uint64_t entry);

/** Raise the software interrupt of the harts @p first + n for each bit n of @p mask.  Any context. */
void sbi_ipi_send(uint64_t mask, uint64_t first);

/** Have every hart make stores visible to its instruction fetches. */
void sbi_remote_fence_i(void);

/** The calling hart's timer interrupt comes when the time register reaches @p when. */
void sbi_timer_set(uint64_t when);

/** Switch the machine off; returns where the firmware cannot. */
void sbi_power_off(void);

#endif
