/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_I386_WINDOW_H
#define KERNEL_I386_WINDOW_H

#include <arch.h>

/**
 * The boot has made the tables of the windows' range: @p table holds its entries
 * side by side, of four bytes, or of eight with @p pae.
 */
void window_init(void *table, bool pae, bool nx);

#endif
