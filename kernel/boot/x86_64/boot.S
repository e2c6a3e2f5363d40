/* SPDX-License-Identifier: MIT */
/*
 * From the boot loader to C.
 *
 * Three ways in, all in 32-bit protected mode without paging (or, for the other
 * CPUs, in real mode): the PVH note that QEMU's -kernel follows, the Multiboot2
 * header for GRUB, and the trampoline.  They meet in enter_long_mode, which turns
 * paging on with the boot tables:
 *
 *      0 .. 4 GiB                      identity
 *      DIRECT_MAP_BASE + 0 .. 4 GiB    the same memory, so that C finds it
 *      KERNEL_BASE + 0 .. 1 GiB        the kernel image
 *
 * A CPU with 57-bit addresses gets a fifth level on top, whose first and last entry
 * lead to the same four: what has 48 bits is mapped alike under both.
 *
 * All of it is writable and executable in 2 MiB pages; paging.c replaces them by
 * the real ones at once, and they live on only for the other CPUs' first steps.
 *
 * There is no Multiboot1 header: QEMU refuses a 64-bit ELF file that has one.
 */
#include <asm.h>

#define PHYS(symbol) ((symbol) - KERNEL_BASE)

#define PAGE_PRESENT_WRITE 0x003
#define PAGE_LARGE         0x083

#define CR4_PAE  0x0020
#define CR4_LA57 0x1000

/* ---- 32 bits --------------------------------------------------------------- */

#include "../x86/boot_head.inc"

    /* A 64-bit CPU?  The answer of leaf 0x80000001 also tells about NX. */
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb no_long_mode
    movl $0x80000001, %eax
    cpuid
    btl $29, %edx
    jnc no_long_mode
    movl $0x101, %eax           /* EFER: SCE, LME */
    btl $20, %edx
    jnc 1f
    orl $0x800, %eax            /* NXE */
1:  movl %eax, boot_efer

    /* Four page directories of 2 MiB pages. */
    movl $boot_pd, %edi
    movl $PAGE_LARGE, %eax
    movl $2048, %ecx
2:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 2b

    movl $boot_pd + PAGE_PRESENT_WRITE, %eax
    movl $boot_pdpt, %edi
    movl $4, %ecx
3:  movl %eax, (%edi)
    addl $4096, %eax
    addl $8, %edi
    loop 3b

    movl $boot_pd + PAGE_PRESENT_WRITE, boot_pdpt_image + 510 * 8
    movl $boot_pdpt + PAGE_PRESENT_WRITE, boot_pml4
    movl $boot_pdpt + PAGE_PRESENT_WRITE, boot_pml4 + 256 * 8
    movl $boot_pdpt_image + PAGE_PRESENT_WRITE, boot_pml4 + 511 * 8

    /* A fifth level?  It can be turned on only now, while paging is off. */
    xorl %eax, %eax
    cpuid
    cmpl $7, %eax
    jb 6f
    movl $7, %eax
    xorl %ecx, %ecx
    cpuid
    btl $16, %ecx               /* LA57 */
    jnc 6f
    movl $boot_pml4 + PAGE_PRESENT_WRITE, boot_pml5
    movl $boot_pml4 + PAGE_PRESENT_WRITE, boot_pml5 + 511 * 8
    movl $boot_pml5, boot_root
    orl $CR4_LA57, boot_cr4
6:

    movl $start_boot_cpu, %edi
    jmp enter_long_mode

no_long_mode:
    movl $no_long_mode_text, %esi
    movw $0x3f8, %dx
4:  lodsb
    testb %al, %al
    jz 5f
    outb %al, %dx
    jmp 4b
5:  hlt
    jmp 5b

/* Turn paging and long mode on; continue at the address in boot code that %edi holds. */
enter_long_mode:
    movl %cr4, %eax
    orl boot_cr4, %eax
    movl %eax, %cr4
    movl boot_root, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    movl boot_efer, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80010033, %eax      /* CR0: PG WP NE ET MP PE */
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $KERNEL_CS, $long_mode

    .code64
long_mode:
    movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %edi, %edi
    jmp *%rdi

start_boot_cpu:
    movabsq $boot_stack_top, %rsp
    movl boot_magic, %edi
    movl boot_pointer, %esi
    movl $DIRECT_MAP_BASE >> 32, %eax
    shlq $32, %rax
    addq %rax, %rsi
    xorl %ebp, %ebp
    movabsq $boot_main, %rax
    call *%rax
    ud2

start_other_cpu:
    movq ap_block, %rax
    movq ap_block + 8, %rsp
    movq ap_block + 16, %rdi
    movabsq $1f, %rcx
    jmp *%rcx
    .text
1:  movq %rax, %cr3             /* the identity mapping ends here */
    xorl %ebp, %ebp
    call ap_entry
    ud2

/* ---- The other CPUs: copied to TRAMPOLINE_PA -------------------------------- */

    .section .boot.text
    .code16
trampoline_start:
    cli
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl TRAMPOLINE_PA + (trampoline_gdt_pointer - trampoline_start)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $trampoline32
    .align 4
trampoline_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
trampoline_end:

    .code32
trampoline32:
    movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $start_other_cpu, %edi
    jmp enter_long_mode

/* ---- Data -------------------------------------------------------------------- */

    .section .boot.data, "aw"
    .align 16
boot_gdt:
    .quad 0
    .quad 0x00cf9a000000ffff    /* 0x08: 32-bit code */
    .quad 0x00af9a000000ffff    /* KERNEL_CS */
    .quad 0x00cf92000000ffff    /* KERNEL_DS */
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt, 0
    .align 8
ap_block:                       /* struct ap_block in smp.c */
    .quad 0, 0, 0
boot_magic:
    .long 0
boot_pointer:
    .long 0
boot_efer:
    .long 0
boot_root:
    .long boot_pml4
boot_cr4:
    .long CR4_PAE
no_long_mode_text:
    .asciz "quire: this CPU has no 64-bit mode\r\n"

/* For C, which is linked too far away to name these. */
    .section .rodata
    .align 8
    .globl image_range, boot_pa_trampoline, boot_trampoline_bytes, boot_pa_ap_block
image_range:
    .quad image_start, image_end
boot_pa_trampoline:
    .quad trampoline_start
boot_trampoline_bytes:
    .quad trampoline_end - trampoline_start
boot_pa_ap_block:
    .quad ap_block

    .section .boot.bss, "aw", @nobits
    .align 4096
boot_pml5:
    .skip 4096
boot_pml4:
    .skip 4096
boot_pdpt:
    .skip 4096
boot_pdpt_image:
    .skip 4096
boot_pd:
    .skip 4 * 4096
    .skip 512
boot_stack32_top:

    .section .note.GNU-stack, "", @progbits
