/* SPDX-License-Identifier: MIT */
#include "physical.h"

#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "kernel/boot/x86/loader.h"

#include <acpi.h>
#include <boot.h>
#include <printk.h>

static uint8_t *memory;
static size_t memory_bytes;

void
physical_reset(size_t bytes)
{
    physical_release();
    memory = calloc(1, bytes);
    memory_bytes = bytes;
    boot_info_reset(UINT64_MAX);
    memset(&acpi_info, 0, sizeof acpi_info);
}

void
physical_release(void)
{
    free(memory);
    memory = NULL;
    memory_bytes = 0;
}

size_t
physical_bytes(void)
{
    return memory_bytes;
}

uint8_t *
physical_at(uint64_t pa)
{
    return memory + pa;
}

void
physical_put(uint64_t pa, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        memory[pa + i] = (uint8_t)(value >> 8 * i);
}

void
physical_put_text(uint64_t pa, const char *text)
{
    memcpy(memory + pa, text, strlen(text));
}

/* What the code under test expects of the kernel. */

const void *
boot_window(uint64_t pa, uint64_t bytes)
{
    if (pa == 0 || pa >= memory_bytes || bytes > memory_bytes - pa)
        return NULL;
    return memory + pa;
}

void
printk(const char *format, ...)
{
    (void)format;
}

TEST(boot_window, refuses_null_and_whatever_leaves_it)
{
    physical_reset(100);
    EXPECT_TRUE(boot_window(0, 1) == NULL);
    EXPECT_TRUE(boot_window(1, 99) != NULL);
    EXPECT_TRUE(boot_window(1, 100) == NULL);
    EXPECT_TRUE(boot_window(UINT64_MAX, 2) == NULL);
    physical_release();
}
