/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_AARCH64_ASM_H
#define KERNEL_AARCH64_ASM_H

/*
 * Numbers shared by C and assembly: the address layout, and the offsets that
 * arch_inline.h checks.
 */

#include <quire/config.h>

/* ---- Granule --------------------------------------------------------------- */

/*
 * The page size is the build's; levels count from the leaves, as the library's.
 *
 *      page      levels   bits of addresses   a block of level 1
 *      4 KiB     4        48                  2 MiB
 *      16 KiB    3        47                  32 MiB
 *      64 KiB    3        48                  512 MiB
 */
#define PAGE_SHIFT CONFIG_PAGE_SHIFT
#define PAGE_BYTES (1 << PAGE_SHIFT)
#if PAGE_SHIFT == 12
#define LEVELS        4
#define VA_BITS       48
#define TCR_GRANULES  (2 << 30) /* TG1, TG0 */
#define GRANULE_SHIFT 28        /* of its field in ID_AA64MMFR0_EL1 */
#define IMAGE_TABLES  4         /* of level 0, for the boot tables */
#elif PAGE_SHIFT == 14
#define LEVELS        3
#define VA_BITS       47
#define TCR_GRANULES  (1 << 30 | 2 << 14)
#define GRANULE_SHIFT 20
#define IMAGE_TABLES  1
#elif PAGE_SHIFT == 16
#define LEVELS        3
#define VA_BITS       48
#define TCR_GRANULES  (3 << 30 | 1 << 14)
#define GRANULE_SHIFT 24
#define IMAGE_TABLES  1
#else
#error "CONFIG_PAGE_SHIFT: AArch64 has pages of 4, 16 and 64 KiB"
#endif

#define INDEX_BITS         (PAGE_SHIFT - 3)
#define LEVEL_SHIFT(level) (PAGE_SHIFT + (level)*INDEX_BITS)
#define ROOT_LEVEL         (LEVELS - 1)
#define ROOT_BITS          (VA_BITS - LEVEL_SHIFT(ROOT_LEVEL))

/* ---- Address layout ------------------------------------------------------ */

/*
 *  0000000000000000 .. 0000ffffffffefff  user: TTBR0, 48 bits (47 with 16 KiB pages)
 *  ffff800000000000 .. ffff8fffffffffff  direct map of physical memory (16 TiB)
 *  ffffc00000000000 .. ffffcfffffffffff  kernel heap: blocks above the slab classes
 *  ffffe00000000000 .. ffffefffffffffff  kernel stacks
 *  fffff00000000000 .. ffffffffffffffff  device registers; the kernel image at the end
 *  ffffffff80000000 .. ffffffffbfffffff      kernel image
 *
 * The kernel's addresses are TTBR1's, of which the upper 47 bits are used.
 */
#define USER_LIMIT       ((1ul << VA_BITS) - PAGE_BYTES)
#define DIRECT_MAP_BASE  0xffff800000000000
#define DIRECT_MAP_BYTES 0x0000100000000000
#define HEAP_BASE        0xffffc00000000000
#define STACKS_BASE      0xffffe00000000000
#define DEVICES_BASE     0xfffff00000000000
#define AREA_BYTES       0x0000008000000000
#define KERNEL_BASE      0xffffffff80000000

/** Device pages that the boot code maps for good: the last 2 MiB of the image's 1 GiB. */
#define EARLY_DEVICES 0xffffffffbfe00000

/* ---- Page-table entries of the boot code ----------------------------------- */

#define ENTRY_VALID      (1 << 0)
#define ENTRY_TABLE      (1 << 1) /* at level 0 of the library's count: a page */
#define ENTRY_READ_ONLY  (1 << 7) /* AP[2] */
#define ENTRY_SHARED     (3 << 8) /* inner shareable */
#define ENTRY_ACCESSED   (1 << 10)
#define ENTRY_GUARDED    0x0004000000000000 /* BTI */
#define ENTRY_DBM        0x0008000000000000
#define ENTRY_CONTIGUOUS 0x0010000000000000
#define ENTRY_PXN        0x0020000000000000
#define ENTRY_UXN        0x0040000000000000

/* Memory type 0 is normal, write-back; 3 a device. */
#define ENTRY_DEVICE     (3 << 2)
#define ENTRY_USER       (1 << 6)
#define ENTRY_BLOCK_BOOT (ENTRY_VALID | ENTRY_SHARED | ENTRY_ACCESSED)
#define ENTRY_TABLE_BOOT (ENTRY_VALID | ENTRY_TABLE)

/* ---- System registers -------------------------------------------------------- */

/*
 * The bits that are one on the first CPUs and mean "as the first CPUs"; caches,
 * MMU and stack checks on; cache maintenance, WFI and CTR open to users; PAN at
 * every entry where the CPU has it (bit 23 cleared then).
 */
#define SCTLR_RES1  0x30d00800
#define SCTLR_MMU   0x0000101d /* I, SA0, SA, C, M */
#define SCTLR_USER  0x0405c000 /* UCI, nTWE, nTWI, UCT, DZE */
#define SCTLR_VALUE (SCTLR_RES1 | SCTLR_MMU | SCTLR_USER)
#define SCTLR_SPAN  (1 << 23)

/*
 * T0SZ, T1SZ: the bits of addresses that are not; tables in write-back, inner
 * shareable memory.  The address size and the ASID size are added from the ID
 * registers.
 */
#define TCR_VALUE     ((64 - VA_BITS) | (64 - VA_BITS) << 16 | 0x3500 | 0x35000000 | TCR_GRANULES)
#define TCR_IPS_SHIFT 32
#define TCR_AS_SHIFT  36
#define TCR_HA_SHIFT  39
#define TCR_HD_SHIFT  40

/** QR_AARCH64_MAIR, for the assembler. */
#define BOOT_MAIR 0x000000ff0444bbff

#define PSR_MODE_EL0   0
#define PSR_MODE_EL1H  5
#define PSR_IRQ_MASKED (1 << 7)
#define PSR_MASK_ALL   0x3c0

/* ---- struct cpu, struct arch_thread, struct trap_frame: checked in arch_inline.h --- */

#define CPU_QUIRE        0
#define CPU_EMERGENCY    8
#define CPU_CURRENT      48
#define CPU_NEED_RESCHED 56
#define THREAD_WORK      8

#define FRAME_BYTES   304
#define FRAME_X30     240
#define FRAME_SP      248
#define FRAME_PC      256
#define FRAME_PSTATE  264
#define FRAME_SYSCALL 272
#define FRAME_ESR     280
#define FRAME_ORIG_X0 288

#define FPU_BYTES 528
#define FPU_FPSR  512
#define FPU_FPCR  516

/** struct ap_block: what boot.S reads with the MMU off. */
#define AP_ROOT  0
#define AP_STACK 8
#define AP_CPU   16

#endif
