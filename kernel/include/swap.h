/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_SWAP_H
#define KERNEL_SWAP_H

#include <quire/writer.h>

/** @file kernel/mm/swap.c: swapon(2), swapoff(2). */

/** The machine stops, and no process is left: give back what is swapped to. */
void swaps_end(void);

/** /proc/swaps below its header. */
void swaps_write(struct qr_writer *writer);

#endif
