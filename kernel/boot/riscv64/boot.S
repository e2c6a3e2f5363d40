/* SPDX-License-Identifier: MIT */
/*
 * From the firmware to C.
 *
 * All harts come in at the image's first byte, in supervisor mode without translation: the
 * first with its number and the device tree, the others when smp.c has the firmware start
 * them and has left a block for the one that comes next.  An entry of their own would
 * not do: OpenSBI before 1.3 says "start" before it says where, and a hart that looks at
 * that moment comes in where the first one did.  They meet in enter_virtual, which turns
 * Sv39 on with the boot tables:
 *
 *      BOOT_WINDOW_BASE + 0 .. 128 GiB    the same physical memory, so that C finds it
 *      KERNEL_BASE + 0 .. 1 GiB           the kernel image
 *
 * all of it in leaves of 1 GiB; paging.c replaces them by the real ones at once, and
 * they live on only for the other harts' first steps.  There is no identity mapping: the
 * instruction behind the write to satp faults, and stvec already names the one to go
 * on with.  The tables of Sv48 and Sv57 have those of Sv39 below their last entry, so
 * that features.c can try either from where it runs.
 */
#include <asm.h>

#define PTE_TABLE       0x01
#define PTE_READ_WRITE  0xe7    /* D A G W R V */
#define PTE_ALL         0xef    /* and X */
#define GIB_STEP        0x10000000

    .section .head, "ax"
    .globl boot_entry
boot_entry:
    mv s0, a0
    mv s1, a1
    la t0, boot_taken
    li t1, 1
    amoswap.w t1, t1, (t0)
    bnez t1, other_entry

    la t0, bss_start
    la t1, bss_end
1:  sd zero, 0(t0)
    addi t0, t0, 8
    bltu t0, t1, 1b

    la t0, boot_sv39 + 256 * 8
    li t1, PTE_READ_WRITE
    li t2, GIB_STEP
    li t3, 128
2:  sd t1, 0(t0)
    add t1, t1, t2
    addi t0, t0, 8
    addi t3, t3, -1
    bnez t3, 2b
    la t0, boot_sv39
    li t1, 2 * GIB_STEP + PTE_ALL
    li t2, 510 * 8
    add t2, t0, t2
    sd t1, 0(t2)
    srli t1, t0, 2
    addi t1, t1, PTE_TABLE
    la t0, boot_sv48
    li t2, 511 * 8
    add t3, t0, t2
    sd t1, 0(t3)
    srli t1, t0, 2
    addi t1, t1, PTE_TABLE
    la t0, boot_sv57
    add t3, t0, t2
    sd t1, 0(t3)

    la s2, start_boot_cpu
    j enter_virtual

other_entry:
    la s1, ap_block
    la s2, start_other_cpu

/* Turn Sv39 on; continue at the virtual address of what s2 holds the physical one of. */
enter_virtual:
    csrw sie, zero
    csrw sscratch, zero
    li t0, KERNEL_OFFSET
    add s2, s2, t0
    csrw stvec, s2
    la t0, boot_sv39
    srli t0, t0, 12
    li t1, SATP_SV39 << SATP_MODE_SHIFT
    or t0, t0, t1
    sfence.vma
    csrw satp, t0
    csrr t1, satp
    /* A hart without Sv39 arrives here: say so by the firmware's oldest call. */
    la s2, no_sv39_text
3:  lbu a0, 0(s2)
    beqz a0, 4f
    li a7, 1
    ecall
    addi s2, s2, 1
    j 3b
4:  wfi
    j 4b

no_sv39_text:
    .asciz "quire: this CPU has no Sv39 translation\r\n"

/* ---- Virtual addresses ------------------------------------------------------- */

    .text
    .balign 4
start_boot_cpu:
    la t0, trap_entry
    csrw stvec, t0
    la tp, cpus
    la sp, boot_stack_top
    la t0, boot_stack
    sd t0, CPU_STACK_LOW(tp)
    mv a0, s0
    mv a1, s1
    mv s0, zero
    call boot_main
    unimp

/* s1: the physical address of struct ap_block in smp.c: satp, stack, CPU. */
    .balign 4
start_other_cpu:
    li t0, BOOT_WINDOW_BASE
    add s1, s1, t0
    ld t0, 0(s1)
    ld t1, 8(s1)
    ld tp, 16(s1)
    la t2, trap_entry
    csrw stvec, t2
    sfence.vma
    csrw satp, t0
    sfence.vma
    mv sp, t1
    mv s0, zero
    call ap_entry
    unimp

    .section .rodata
    .balign 8
    .globl image_range
image_range:
    .quad image_start, image_end

    .data
    .balign 4
boot_taken:                     /* somebody is the boot CPU; not in .bss, which it clears */
    .word 0

    .bss
    .balign 4096
    .globl boot_sv39, boot_sv48, boot_sv57
boot_sv39:
    .skip 4096
boot_sv48:
    .skip 4096
boot_sv57:
    .skip 4096

/* The boot CPU's stack; paging.c leaves the page below it unmapped. */
    .section .stack, "aw", @nobits
    .balign 4096
    .globl boot_stack_guard, boot_stack, boot_stack_top
boot_stack_guard:
    .skip 4096
boot_stack:
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
