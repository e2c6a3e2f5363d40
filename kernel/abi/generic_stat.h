/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ABI_GENERIC_STAT_H
#define KERNEL_ABI_GENERIC_STAT_H

#include <stdint.h>

/** Linux's generic struct stat of 64-bit machines: AArch64 and RISC-V. */
struct abi_stat {
    uint64_t st_dev;
    uint64_t st_ino;
    uint32_t st_mode;
    uint32_t st_nlink;
    uint32_t st_uid;
    uint32_t st_gid;
    uint64_t st_rdev;
    uint64_t pad0;
    int64_t st_size;
    int32_t st_blksize;
    int32_t pad1;
    int64_t st_blocks;
    struct timespec st_atim, st_mtim, st_ctim;
    uint32_t unused[2];
};

_Static_assert(sizeof(struct abi_stat) == 128, "generic struct stat");

#endif
