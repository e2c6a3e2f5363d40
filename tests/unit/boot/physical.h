/* SPDX-License-Identifier: MIT */
#ifndef TEST_BOOT_PHYSICAL_H
#define TEST_BOOT_PHYSICAL_H

#include <stddef.h>
#include <stdint.h>

/**
 * @file
 * Physical memory for the boot code under test: some kilobytes from address 0.
 * The buffer is exactly that long, so the address sanitizer sees any read beyond.
 */

/** Start afresh with @p bytes of zeros; forgets boot_info, boot_machine and acpi_info. */
void physical_reset(size_t bytes);
size_t physical_bytes(void);
/** Write into it, in little-endian order. */
void physical_put(uint64_t pa, uint64_t value, unsigned bytes);
void physical_put_text(uint64_t pa, const char *text);
/** A pointer to it; the caller stays inside. */
uint8_t *physical_at(uint64_t pa);
void physical_release(void);

#endif
