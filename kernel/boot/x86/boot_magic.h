/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_BOOT_MAGIC_H
#define KERNEL_X86_BOOT_MAGIC_H

/*
 * How boot.S tells loader.c which protocol the loader spoke; for C and assembly.
 */

#define BOOT_MAGIC_PVH        0x50564800
#define BOOT_MAGIC_MULTIBOOT1 0x2badb002
#define BOOT_MAGIC_MULTIBOOT2 0x36d76289

#endif
