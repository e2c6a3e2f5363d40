/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_64_ASM_H
#define KERNEL_X86_64_ASM_H

/*
 * Numbers shared by C and assembly: the address layout, the segment
 * selectors (those of Linux: programs can see them) and the vectors.
 */

/* ---- Address layout ------------------------------------------------------ */

/*
 *  0000000000000000 .. user_limit - 1    user: 2^47 bytes less a page; 2^56 with 5 levels, of
 *                                        which programs get what is above 2^47 by asking for it
 *  ffff800000000000 .. ffff8fffffffffff  direct map of physical memory (16 TiB)
 *  ffffc00000000000 .. ffffcfffffffffff  kernel heap: blocks above the slab classes
 *  ffffe00000000000 .. ffffefffffffffff  kernel stacks
 *  fffff00000000000 .. ffffffffffffffff  device registers; the kernel image at the end
 *  ffffffff80000000 .. ffffffffbfffffff      kernel image
 *
 * Of each mapped area the first 512 GiB, one top-level entry, are in use.
 */
#define USER_WINDOW_END     0x00007ffffffff000
#define USER_LIMIT_5_LEVELS 0x00fffffffffff000
#define DIRECT_MAP_BASE     0xffff800000000000
#define DIRECT_MAP_BYTES    0x0000100000000000
#define HEAP_BASE           0xffffc00000000000
#define STACKS_BASE         0xffffe00000000000
#define DEVICES_BASE        0xfffff00000000000
#define AREA_BYTES          0x0000008000000000
#define KERNEL_BASE         0xffffffff80000000

/** Where the start-up code of the other CPUs is copied: a page below 1 MiB. */
#define TRAMPOLINE_PA 0x8000

/* ---- Selectors ----------------------------------------------------------- */

#define KERNEL_CS   0x10
#define KERNEL_DS   0x18
#define USER_CS32   0x23
#define USER_DS     0x2b
#define USER_CS     0x33
#define TSS_SEL     0x40
#define GDT_ENTRIES 10

/* ---- Vectors ------------------------------------------------------------- */

#define VECTOR_DEBUG         1
#define VECTOR_NMI           2
#define VECTOR_DOUBLE_FAULT  8
#define VECTOR_TSS           10
#define VECTOR_PROTECTION    13
#define VECTOR_PAGE_FAULT    14
#define VECTOR_ALIGNMENT     17
#define VECTOR_MACHINE_CHECK 18
#define VECTOR_IRQ_BASE      0x20 /* 16 legacy lines */
#define VECTOR_TIMER         0x40
#define VECTOR_IPI_RESCHED   0x41
#define VECTOR_IPI_TLB       0x42
#define VECTOR_IPI_STOP      0x43
#define VECTOR_IPI_BARRIER   0x44
#define VECTOR_DEVICES       0x50 /* 16 for messages of devices */
#define VECTOR_SPURIOUS      0xff

/* Interrupt stack table slots, 1-based. */
#define IST_DOUBLE_FAULT  1
#define IST_NMI           2
#define IST_DEBUG         3
#define IST_MACHINE_CHECK 4
#define IST_COUNT         4

/* ---- struct cpu, struct arch_thread, struct trap_frame: checked in arch_inline.h --- */

#define CPU_KERNEL_SP    8
#define CPU_USER_SP      16
#define CPU_CURRENT      48
#define CPU_NEED_RESCHED 56
#define THREAD_WORK      8

#define FRAME_BYTES  176
#define FRAME_RAX    80
#define FRAME_VECTOR 120
#define FRAME_RIP    136
#define FRAME_CS     144
#define FRAME_RFLAGS 152
#define FRAME_RSP    160

#define SYSCALL_VECTOR 256

#endif
