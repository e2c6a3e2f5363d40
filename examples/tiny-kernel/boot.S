/* SPDX-License-Identifier: MIT */
/*
 * From QEMU's PVH entry (32-bit, paging off, the boot information in %ebx) to
 * long mode, with the first 4 GiB mapped to themselves in 2 MiB pages.
 */
    .section .note.pvh, "a", @note
    .long 4, 4, 18 /* name and value of 4 bytes, XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .bss
    .balign 4096
top:    .skip 4096
middle: .skip 4096
low:    .skip 4 * 4096
stack:  .skip 16384
stack_end:

    .data
    .balign 8
gdt:
    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word . - gdt - 1
    .long gdt, 0

    .text
    .code32
    .global start
start:
    cld
    mov $stack_end, %esp
    mov %ebx, %edi

    mov $low, %ebp
    xor %ecx, %ecx
1:  mov %ecx, %eax
    shl $21, %eax
    or $0x83, %eax /* present, writable, large */
    mov %eax, (%ebp, %ecx, 8)
    inc %ecx
    cmp $2048, %ecx
    jne 1b

    lea 3(%ebp), %eax
    xor %ecx, %ecx
2:  mov %eax, middle(, %ecx, 8)
    add $4096, %eax
    inc %ecx
    cmp $4, %ecx
    jne 2b
    movl $middle + 3, top

    mov %cr4, %eax
    or $0x20, %eax /* PAE */
    mov %eax, %cr4
    mov $top, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x900, %eax /* long mode, no-execute */
    wrmsr
    mov %cr0, %eax
    or $0x80010001, %eax /* paging, write protection, protected mode */
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $3f

    .code64
3:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %edi, %edi
    call tiny_main
4:  cli
    hlt
    jmp 4b
    .section .note.GNU-stack, "", @progbits
