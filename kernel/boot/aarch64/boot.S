/* SPDX-License-Identifier: MIT */
/*
 * From the boot loader to C.
 *
 * The image begins with the header of Linux's arm64 boot protocol and is entered
 * with the MMU off, at EL2 or EL1, with the device tree's address in x0.  The
 * other CPUs enter by PSCI at secondary_entry, with the address of a struct
 * ap_block in x0.  Both drop to EL1 and turn the MMU on with
 *
 *      TTBR0   identity: the block in which this code lies; read-only
 *      TTBR1   boot CPU: the image at KERNEL_BASE, and whatever start.c adds from
 *              DIRECT_MAP_BASE on; paging.c replaces it by the real tables
 *              other CPUs: the kernel's tables
 *
 * Memory was written with the caches off, so what the caches may have held of it
 * before is dropped.
 */
#include <asm.h>

/** Of KERNEL_BASE in a table of @p level, in bytes. */
#define KERNEL_OFFSET(level) \
    (((KERNEL_BASE >> LEVEL_SHIFT(level)) & ((1 << INDEX_BITS) - 1)) * 8)
#define KERNEL_ROOT_OFFSET \
    (((KERNEL_BASE >> LEVEL_SHIFT(ROOT_LEVEL)) & ((1 << ROOT_BITS) - 1)) * 8)

/* Store \entry at \offset, which may be large, of the table at \table. */
.macro SET_ENTRY table, offset, entry
    mov x7, #(\offset)
    str \entry, [\table, x7]
.endm

/* Where an indirect branch arrives (BTI): no operation for older CPUs. */
.macro LANDING_PAD
    hint #38                    /* bti jc */
.endm

    .section .head, "ax"
    .globl image_start
image_start:
    b boot_entry
    .long 0
    .quad 0                     /* offset from a 2 MiB boundary */
    .quad image_bytes
    .quad 8 | (PAGE_SHIFT / 2 - 5) << 1 /* little-endian, page size, anywhere in memory */
    .quad 0, 0, 0
    .ascii "ARM\x64"
    .long 0

boot_entry:
    mov x20, x0
    bl drop_to_el1
    adrp x0, bss_start
    add x0, x0, :lo12:bss_start
    adrp x1, bss_end
    add x1, x1, :lo12:bss_end
    mov x2, x0
1:  stp xzr, xzr, [x2], #16
    cmp x2, x1
    b.lo 1b

    /* Identity: one block. */
    adrp x21, image_start       /* physical; a multiple of 2 MiB */
    mov x6, #ENTRY_TABLE_BOOT
    adrp x3, idmap_root
#if LEVELS == 4
    adrp x4, idmap_level2
    ubfx x7, x21, #LEVEL_SHIFT(3), #ROOT_BITS
    orr x8, x4, x6
    str x8, [x3, x7, lsl #3]
    mov x3, x4
    ubfx x7, x21, #LEVEL_SHIFT(2), #INDEX_BITS
#else
    ubfx x7, x21, #LEVEL_SHIFT(2), #ROOT_BITS
#endif
    adrp x5, idmap_level1
    orr x8, x5, x6
    str x8, [x3, x7, lsl #3]
    ubfx x7, x21, #LEVEL_SHIFT(1), #INDEX_BITS
    mov x9, #(ENTRY_BLOCK_BOOT | ENTRY_READ_ONLY)
    and x8, x21, #~((1 << LEVEL_SHIFT(1)) - 1)
    orr x8, x8, x9
    str x8, [x5, x7, lsl #3]

    /* The image, writable and executable until paging.c has built better tables. */
    adrp x3, boot_root
    adrp x5, boot_image_level1
#if LEVELS == 4
    adrp x4, boot_image_level2
    orr x8, x4, x6
    SET_ENTRY x3, KERNEL_ROOT_OFFSET, x8
    orr x8, x5, x6
    SET_ENTRY x4, KERNEL_OFFSET(2), x8
#else
    orr x8, x5, x6
    SET_ENTRY x3, KERNEL_ROOT_OFFSET, x8
#endif
    adrp x4, boot_image_level0
    mov x10, #PAGE_BYTES
    .set table, 0
.rept IMAGE_TABLES
    orr x8, x4, x6
    SET_ENTRY x5, KERNEL_OFFSET(1) + table * 8, x8
    add x4, x4, x10
    .set table, table + 1
.endr
    adrp x4, boot_image_level0
    mov x9, #(ENTRY_BLOCK_BOOT | ENTRY_TABLE) /* a page */
    orr x8, x21, x9
    adrp x9, data_end
    add x9, x9, :lo12:data_end
2:  str x8, [x4], #8
    add x8, x8, x10
    cmp x8, x9
    b.lo 2b

    /* Drop what caches held of the memory just written. */
    dmb sy
3:  dc ivac, x0
    add x0, x0, #16             /* the smallest line there is */
    cmp x0, x1
    b.lo 3b
    dsb sy

    adrp x0, boot_root
    bl mmu_on
    ldr x30, =boot_continue
    br x30

/* A CPU woken by PSCI. */
    .globl secondary_entry
secondary_entry:
    mov x20, x0
    bl drop_to_el1
    ldr x0, [x20, #AP_ROOT]
    ldr x21, [x20, #AP_STACK]
    ldr x22, [x20, #AP_CPU]
    bl mmu_on
    ldr x30, =secondary_continue
    br x30

/* From EL2: let EL1 use the timer and the interrupt controller, trap nothing, go on at EL1. */
drop_to_el1:
    mrs x9, CurrentEL
    cmp x9, #(2 << 2)
    b.eq 1f
    mov x9, #PSR_MASK_ALL       /* a loader may have left interrupts on */
    msr daif, x9
    ret
1:  mov x9, #(1 << 31)          /* HCR_EL2.RW: EL1 is 64-bit */
    msr hcr_el2, x9
    isb
    mrs x9, cnthctl_el2
    orr x9, x9, #3
    msr cnthctl_el2, x9
    msr cntvoff_el2, xzr
    mrs x9, midr_el1
    msr vpidr_el2, x9
    mrs x9, mpidr_el1
    msr vmpidr_el2, x9
    mov x9, #0x33ff             /* CPTR_EL2: no trap of floating point */
    msr cptr_el2, x9
    msr hstr_el2, xzr
    msr vttbr_el2, xzr
    mrs x9, pmcr_el0
    ubfx x9, x9, #11, #5
    msr mdcr_el2, x9            /* every counter is EL1's */
    mrs x9, id_aa64pfr0_el1
    ubfx x9, x9, #24, #4
    cbz x9, 2f
    mrs x9, S3_4_C12_C9_5       /* ICC_SRE_EL2 */
    orr x9, x9, #1              /* SRE */
    orr x9, x9, #8              /* Enable: EL1 may ask */
    msr S3_4_C12_C9_5, x9
    isb
    msr S3_4_C12_C11_0, xzr     /* ICH_HCR_EL2 */
2:  ldr x9, =SCTLR_RES1
    msr sctlr_el1, x9
    mov x9, #(PSR_MASK_ALL | PSR_MODE_EL1H)
    msr spsr_el2, x9
    msr elr_el2, x30
    eret

/*
 * Turn the MMU on with the root x0; returns still at the physical address.
 * The ID registers decide the sizes of addresses and of ASIDs.
 */
mmu_on:
    mrs x9, id_aa64mmfr0_el1
    ubfx x10, x9, #GRANULE_SHIFT, #4
#if PAGE_SHIFT == 14
    cbz x10, no_granule
#else
    cmp x10, #15
    b.eq no_granule
#endif
    ldr x11, =TCR_VALUE
    and x10, x9, #7
    cmp x10, #5                 /* 48 bits are the most without 52-bit descriptors */
    mov x12, #5
    csel x10, x10, x12, lo
    orr x11, x11, x10, lsl #TCR_IPS_SHIFT
    ubfx x10, x9, #4, #4
    cmp x10, #2                 /* 16-bit ASIDs */
    cset x10, eq
    orr x11, x11, x10, lsl #TCR_AS_SHIFT
    mrs x9, id_aa64mmfr1_el1
    and x10, x9, #15            /* hardware sets: 1 accessed, 2 dirty as well */
    cmp x10, #1
    cset x12, hs
    orr x11, x11, x12, lsl #TCR_HA_SHIFT
    cset x12, hi
    orr x11, x11, x12, lsl #TCR_HD_SHIFT
    msr tcr_el1, x11
    ldr x11, =BOOT_MAIR
    msr mair_el1, x11
    adrp x10, idmap_root
    msr ttbr0_el1, x10
    msr ttbr1_el1, x0
    isb
    tlbi vmalle1
    ic iallu
    dsb nsh
    isb
    ldr x11, =SCTLR_VALUE
    ubfx x9, x9, #20, #4
    cbz x9, 1f
    bic x11, x11, #SCTLR_SPAN   /* PAN: set at every entry */
1:  msr sctlr_el1, x11
    isb
    ret

/* A CPU without pages of this size: there is nothing to say it with. */
no_granule:
    wfe
    b no_granule

/*
 * void replace_root(uint64_t root): called at its physical address, for the tables
 * under the caller's feet go away.  No two of their translations exist at once.
 */
    .globl replace_root
replace_root:
    adrp x9, empty_root
    msr ttbr1_el1, x9
    isb
    tlbi vmalle1
    dsb nsh
    isb
    msr ttbr1_el1, x0
    isb
    ret

    .ltorg

    .text
boot_continue:
    LANDING_PAD
    ldr x9, =boot_stack_top
    mov sp, x9
    mov x29, xzr
    ldr x9, =exception_vectors
    msr vbar_el1, x9
    mov x0, x20
    mov x1, x21
    bl boot_main
    brk #0

secondary_continue:
    LANDING_PAD
    mov sp, x21
    mov x29, xzr
    ldr x9, =exception_vectors
    msr vbar_el1, x9
    msr tpidr_el1, x22
    mov x0, x22
    bl ap_entry
    brk #0

    .section .tables, "aw", @nobits
    .balign PAGE_BYTES
    .globl boot_root, empty_root
idmap_root:
    .skip PAGE_BYTES
idmap_level2:
    .skip PAGE_BYTES * (LEVELS - 3)
idmap_level1:
    .skip PAGE_BYTES
boot_root:
    .skip PAGE_BYTES
boot_image_level2:
    .skip PAGE_BYTES * (LEVELS - 3)
boot_image_level1:
    .skip PAGE_BYTES
boot_image_level0:
    .skip PAGE_BYTES * IMAGE_TABLES
empty_root:
    .skip PAGE_BYTES

/* The boot CPU's stack; paging.c leaves the page below it unmapped. */
    .section .stack, "aw", @nobits
    .balign PAGE_BYTES
    .globl boot_stack_guard, boot_stack_top
boot_stack_guard:
    .skip PAGE_BYTES
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
