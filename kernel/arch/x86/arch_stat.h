/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_ARCH_STAT_H
#define KERNEL_X86_ARCH_STAT_H

#include <stdint.h>

/** struct stat of x86-64, which has an order of its own; 32-bit layouts are made from it. */
struct abi_stat {
    uint64_t st_dev;
    uint64_t st_ino;
    uint64_t st_nlink;
    uint32_t st_mode;
    uint32_t st_uid;
    uint32_t st_gid;
    uint32_t pad0;
    uint64_t st_rdev;
    int64_t st_size;
    int64_t st_blksize;
    int64_t st_blocks;
    struct timespec st_atim, st_mtim, st_ctim;
    int64_t unused[3];
};

_Static_assert(sizeof(struct abi_stat) == 144, "struct stat of x86-64");

#endif
