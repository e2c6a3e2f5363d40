/* SPDX-License-Identifier: MIT */
/*
 * From the boot loader to C.
 *
 * Three ways in: the PVH note that QEMU's -kernel follows and the Multiboot2
 * header for GRUB, both in 32-bit protected mode without paging, and the
 * trampoline of the other CPUs, in real mode.
 *
 * The boot CPU first runs on a page directory of 4 MiB pages, which every CPU
 * that can run this kernel understands:
 *
 *      0 .. 3 GiB                identity: what the loader left is read there
 *      KERNEL_BASE + 0 .. 1 GiB  the same memory again, so that C finds itself
 *
 * C then builds the real tables, with PAE where the CPU has it.  That mode cannot
 * be entered while paging is on, so paging_enter turns it off for a moment, on
 * code that is mapped where it lies; the tables for that step (paging_block.cr3)
 * map the lowest memory identically beside the kernel half, and they serve
 * the other CPUs in the same way.
 */
#include <asm.h>

#define PAGE_LARGE 0x083

#define CPUID_NEEDED 0x138      /* PSE, TSC, MSR, CX8 */

/* ---- The boot CPU ----------------------------------------------------------- */

#include "../x86/boot_head.inc"

    /* CPUID exists where EFLAGS.ID can be changed. */
    pushfl
    popl %eax
    movl %eax, %ecx
    xorl $0x200000, %eax
    pushl %eax
    popfl
    pushfl
    popl %eax
    xorl %ecx, %eax
    testl $0x200000, %eax
    jz cpu_too_old
    movl $1, %eax
    cpuid
    andl $CPUID_NEEDED, %edx
    cmpl $CPUID_NEEDED, %edx
    jne cpu_too_old

    movl $boot_directory, %edi
    movl $PAGE_LARGE, %eax
    movl $768, %ecx
1:  movl %eax, (%edi)
    addl $0x400000, %eax
    addl $4, %edi
    loop 1b
    movl $PAGE_LARGE, %eax
    movl $256, %ecx
2:  movl %eax, (%edi)
    addl $0x400000, %eax
    addl $4, %edi
    loop 2b

    movl %cr4, %eax
    orl $0x10, %eax             /* PSE */
    movl %eax, %cr4
    movl $boot_directory, %eax
    movl %eax, %cr3
    movl $0x80010033, %eax      /* CR0: PG WP NE ET MP PE */
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $KERNEL_CS, $3f
3:  movl $KERNEL_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $boot_stack_top, %esp
    xorl %ebp, %ebp
    pushl boot_pointer
    pushl boot_magic
    movl $boot_main, %eax
    call *%eax
    ud2

cpu_too_old:
    movl $cpu_too_old_text, %esi
    movw $0x3f8, %dx
4:  lodsb
    testb %al, %al
    jz 5f
    outb %al, %dx
    jmp 4b
5:  hlt
    jmp 5b

/* ---- Into the mode of the real tables ----------------------------------------- */

/*
 * void paging_enter(void): what paging_block says, then return to the same address.
 * Interrupts off; called at its own, low address.  Keeps what a function must keep
 * but for EFER and CR4, which it sets.
 */
    .globl paging_enter
paging_enter:
    pushl %esi
    pushl %ebx
    movl $paging_entered, %esi
    movl %esp, %ebx             /* the stack is gone until paging is on again */
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    jmp paging_on

/* Turn paging on as paging_block says; continue at %esi.  Keeps %ebx, %edi, %ebp. */
paging_on:
    cmpl $0, paging_block + 8
    je 1f
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x800, %eax            /* EFER.NXE */
    wrmsr
1:  movl %cr4, %eax
    andl $~0x30, %eax
    orl paging_block + 4, %eax
    movl %eax, %cr4
    movl paging_block, %eax
    movl %eax, %cr3
    movl $0x80010033, %eax
    movl %eax, %cr0
    jmp *%esi

    .text
paging_entered:
    movl %ebx, %esp
    popl %ebx
    popl %esi
    ret

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
    ljmpl $KERNEL_CS, $trampoline32
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
    movl ap_block, %edi
    movl ap_block + 4, %ebx
    movl ap_block + 8, %ebp
    movl $start_other_cpu, %esi
    jmp paging_on

    .text
start_other_cpu:
    movl %edi, %cr3             /* the identity mapping ends here */
    movl %ebx, %esp
    pushl %ebp
    xorl %ebp, %ebp
    call ap_entry
    ud2

/* ---- Data -------------------------------------------------------------------- */

    .section .boot.data, "aw"
    .align 16
boot_gdt:
    .fill KERNEL_CS / 8, 8, 0
    .quad 0x00cf9a000000ffff    /* KERNEL_CS */
    .quad 0x00cf92000000ffff    /* KERNEL_DS */
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt
    .align 8
    .globl paging_block
paging_block:                   /* struct paging_block in start.c */
    .long 0, 0, 0
ap_block:                       /* struct ap_block in smp.c */
    .long 0, 0, 0
boot_magic:
    .long 0
boot_pointer:
    .long 0
cpu_too_old_text:
    .asciz "quire: this CPU is too old: needed are PSE, TSC, MSR and CMPXCHG8B\r\n"

/* For C: physical addresses. */
    .section .rodata
    .align 8
    .globl image_range, boot_pa_trampoline, boot_trampoline_bytes, boot_pa_ap_block
image_range:
    .long image_start, 0, image_end, 0
boot_pa_trampoline:
    .long trampoline_start, 0
boot_trampoline_bytes:
    .long trampoline_end - trampoline_start, 0
boot_pa_ap_block:
    .long ap_block, 0

    .section .boot.bss, "aw", @nobits
    .align 4096
boot_directory:
    .skip 4096
    .skip 512
boot_stack32_top:

    .section .note.GNU-stack, "", @progbits
