/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_RISCV64_ASM_H
#define KERNEL_RISCV64_ASM_H

/*
 * Numbers shared by C and assembly: the address layout, control bits, offsets.
 */

/* ---- Address layout ------------------------------------------------------ */

/*
 * The kernel's own parts lie in the highest 256 GiB, which Sv39, Sv48 and Sv57 all have,
 * so that they stand still while the boot looks for the widest of these:
 *
 *  0000000000000000 .. user_limit - 1    user: 2^38, 2^47 or 2^56 bytes
 *  direct_map_base  ..                   direct map: ffffffc000000000, 128 GiB (Sv39),
 *                                        ffff800000000000, 64 TiB (Sv48),
 *                                        ff00000000000000, 32 PiB (Sv57)
 *  ffffffe000000000 .. ffffffefffffffff  large heap blocks
 *  fffffff000000000 .. fffffff7ffffffff  kernel stacks
 *  fffffff800000000 .. fffffffbffffffff  device registers
 *  fffffffc00000000 .. fffffffc3fffffff  fixed mappings
 *  ffffffff80000000 .. ffffffffbfffffff  kernel image
 */
/** Programs get what is above by asking for it. */
#define USER_WINDOW_END   0x00007ffffffff000
#define BOOT_WINDOW_BASE  0xffffffc000000000 /* the boot tables' direct map */
#define BOOT_WINDOW_BYTES 0x0000002000000000
#define HEAP_BASE         0xffffffe000000000
#define HEAP_BYTES        0x0000001000000000
#define STACKS_BASE       0xfffffff000000000
#define STACKS_BYTES      0x0000000800000000
#define DEVICES_BASE      0xfffffff800000000
#define DEVICES_BYTES     0x0000000400000000
#define FIXED_BASE        0xfffffffc00000000
#define KERNEL_BASE       0xffffffff80000000

/** The image's virtual addresses less its physical ones: it is loaded at 2 GiB. */
#define KERNEL_OFFSET 0xffffffff00000000
#define LOAD_PA       0x80200000

/* ---- Control registers ----------------------------------------------------- */

#define SSTATUS_SIE  0x00000002
#define SSTATUS_SPIE 0x00000020
#define SSTATUS_SPP  0x00000100
#define SSTATUS_FS   0x00006000
#define SSTATUS_SUM  0x00040000

#define FS_INITIAL 0x00002000
#define FS_CLEAN   0x00004000
#define FS_DIRTY   0x00006000

#define SATP_SV39       8
#define SATP_SV48       9
#define SATP_SV57       10
#define SATP_MODE_SHIFT 60
#define SATP_ASID_SHIFT 44

#define CAUSE_USER_ECALL 8

/* ---- struct cpu, struct arch_thread, struct trap_frame: checked in arch_inline.h --- */

#define CPU_KERNEL_SP    0
#define CPU_STACK_LOW    8
#define CPU_SCRATCH      16
#define CPU_QUIRE        24
#define CPU_CURRENT      64
#define CPU_NEED_RESCHED 72
#define THREAD_WORK      8

#define FRAME_BYTES  288
#define FRAME_PC     0
#define FRAME_X(n)   (8 * (n))
#define FRAME_STATUS 256
#define FRAME_CAUSE  264
#define FRAME_VALUE  272
#define FRAME_A0     280

#endif
