/* SPDX-License-Identifier: MIT */
#include "fdt_blob.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define ROOM 16384

static struct {
    uint8_t reservations[256], tree[ROOM], strings[2048];
    size_t reservations_bytes, tree_bytes, strings_bytes;
} blob;

void
blob_put32(uint8_t *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

uint32_t
blob_get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

void
blob_begin(void)
{
    memset(&blob, 0, sizeof blob);
}

void
blob_reserve(uint64_t start, uint64_t bytes)
{
    uint8_t *at = blob.reservations + blob.reservations_bytes;

    blob_put32(at, (uint32_t)(start >> 32));
    blob_put32(at + 4, (uint32_t)start);
    blob_put32(at + 8, (uint32_t)(bytes >> 32));
    blob_put32(at + 12, (uint32_t)bytes);
    blob.reservations_bytes += 16;
}

void
blob_token(uint32_t token)
{
    blob_put32(blob.tree + blob.tree_bytes, token);
    blob.tree_bytes += 4;
}

static void
tree_append(const void *data, size_t bytes)
{
    memcpy(blob.tree + blob.tree_bytes, data, bytes);
    blob.tree_bytes += (bytes + 3) & ~(size_t)3;
}

void
blob_node(const char *name)
{
    blob_token(1);
    tree_append(name, strlen(name) + 1);
}

void
blob_end_node(void)
{
    blob_token(2);
}

void
blob_bytes(const char *name, const void *data, size_t bytes)
{
    blob_token(3);
    blob_token((uint32_t)bytes);
    blob_token((uint32_t)blob.strings_bytes);
    strcpy((char *)blob.strings + blob.strings_bytes, name);
    blob.strings_bytes += strlen(name) + 1;
    tree_append(data, bytes);
}

void
blob_text(const char *name, const char *text)
{
    blob_bytes(name, text, strlen(text) + 1);
}

void
blob_cells(const char *name, unsigned count, ...)
{
    uint8_t data[256];
    va_list cells;

    va_start(cells, count);
    for (unsigned i = 0; i < count; i++)
        blob_put32(data + i * 4, va_arg(cells, uint32_t));
    va_end(cells);
    blob_bytes(name, data, count * 4);
}

uint8_t *
blob_end(size_t *out_bytes)
{
    size_t reservations = 40;
    size_t tree;
    size_t strings;
    size_t total;
    uint8_t *out;

    blob_reserve(0, 0);
    blob_token(9);
    tree = reservations + blob.reservations_bytes;
    strings = tree + blob.tree_bytes;
    total = strings + blob.strings_bytes;
    out = calloc(1, total);
    blob_put32(out, 0xd00dfeed);
    blob_put32(out + 4, (uint32_t)total);
    blob_put32(out + 8, (uint32_t)tree);
    blob_put32(out + 12, (uint32_t)strings);
    blob_put32(out + 16, (uint32_t)reservations);
    blob_put32(out + 20, 17);
    blob_put32(out + 24, 16);
    blob_put32(out + 32, (uint32_t)blob.strings_bytes);
    blob_put32(out + 36, (uint32_t)blob.tree_bytes);
    memcpy(out + reservations, blob.reservations, blob.reservations_bytes);
    memcpy(out + tree, blob.tree, blob.tree_bytes);
    memcpy(out + strings, blob.strings, blob.strings_bytes);
    *out_bytes = total;
    return out;
}
