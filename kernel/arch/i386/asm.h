/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_I386_ASM_H
#define KERNEL_I386_ASM_H

/*
 * Numbers shared by C and assembly: the address layout, the segment
 * selectors (those of Linux: programs can see them) and the vectors.
 */

/* ---- Address layout ------------------------------------------------------ */

/*
 *  00000000 .. bfffffff  user (from CONFIG_USER_START on)
 *  c0000000 .. f7ffffff  direct map of the first 896 MiB; the kernel image at c0100000
 *  f8000000 .. faffffff  kernel heap: blocks above the slab classes
 *  fb000000 .. fdffffff  kernel stacks
 *  fe000000 .. feffffff  device registers
 *  ff000000 .. ff3fffff  windows onto high memory, WINDOWS_PER_CPU a CPU
 *  ff400000 .. ffffffff  nothing
 *
 * With two-level tables an entry of the root maps 4 MiB, with PAE 2 MiB: every
 * border but the last is a border of both.
 */
#define USER_LIMIT       0xc0000000
#define DIRECT_MAP_BASE  0xc0000000
#define DIRECT_MAP_BYTES 0x38000000
#define HEAP_BASE        0xf8000000
#define STACKS_BASE      0xfb000000
#define DEVICES_BASE     0xfe000000
#define DEVICES_END      0xff000000
#define WINDOWS_BASE     0xff000000
#define WINDOWS_BYTES    0x00400000
#define KERNEL_BASE      0xc0000000

#define WINDOWS_PER_CPU 16

/** Where the start-up code of the other CPUs is copied: a page below 1 MiB. */
#define TRAMPOLINE_PA 0x8000

/* ---- Selectors ----------------------------------------------------------- */

#define TLS_ENTRY_FIRST 6 /* set_thread_area(): three entries */
#define TLS_ENTRIES     3

#define KERNEL_CS        0x60
#define KERNEL_DS        0x68
#define USER_CS          0x73
#define USER_DS          0x7b
#define TSS_SEL          0x80
#define KERNEL_CPU       0xd8 /* FS in the kernel: the CPU's block */
#define DOUBLE_FAULT_SEL 0xf8
#define GDT_ENTRIES      32

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
#define VECTOR_INT80         0x80
#define VECTOR_DEVICES       0x50 /* 16 for messages of devices */
#define VECTOR_SPURIOUS      0xff

/* ---- struct cpu, struct arch_thread, struct trap_frame: checked in arch_inline.h --- */

#define CPU_CURRENT      32
#define CPU_NEED_RESCHED 36
#define THREAD_WORK      4

#define FRAME_BYTES  72
#define FRAME_EAX    24
#define FRAME_GS     40
#define FRAME_VECTOR 44
#define FRAME_EIP    52
#define FRAME_CS     56
#define FRAME_SS     68

#define SYSCALL_VECTOR 256

#endif
