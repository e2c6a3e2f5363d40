/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_HMAT_H
#define KERNEL_HMAT_H

#include <stddef.h>

/**
 * Tell boot_machine what an HMAT says.
 *
 * @param table  all of it, its checksum found right; nothing else of it is believed
 * @param bytes  at least those of an ACPI header
 */
void hmat_parse(const void *table, size_t bytes);

#endif
