/* SPDX-License-Identifier: MIT */
#ifndef TEST_BOOT_FDT_BLOB_H
#define TEST_BOOT_FDT_BLOB_H

#include <stddef.h>
#include <stdint.h>

/**
 * @file
 * Device trees made by hand, token by token.  One at a time; the blob that comes
 * out is a heap block of exactly its size, so that the address sanitizer sees any
 * read beyond.
 */

void blob_begin(void);
void blob_reserve(uint64_t start, uint64_t bytes);
void blob_node(const char *name);
void blob_end_node(void);
void blob_bytes(const char *name, const void *data, size_t bytes);
void blob_text(const char *name, const char *text);
/** Big-endian cells; the list ends with the count. */
void blob_cells(const char *name, unsigned count, ...);
/** Any word into the tree. */
void blob_token(uint32_t token);
/** Finish; the caller frees it. */
uint8_t *blob_end(size_t *out_bytes);

void blob_put32(uint8_t *at, uint32_t value);
uint32_t blob_get32(const uint8_t *at);

#endif
