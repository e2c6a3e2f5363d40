/* SPDX-License-Identifier: MIT */
/*
 * memcpy() and memset(): most of what a page fault costs.
 *
 * Both move 64 bytes a step and finish with a pair that ends where the memory ends
 * and may overlap what was done before.  Normal memory may be accessed unaligned.
 * memcpy() loads the last pair before it stores anything, so that it may also be
 * used for a move downwards in memory, as memmove() does.
 *
 * Clearing goes by DC ZVA, a block of the cache at a time, where the CPU allows it.
 */
    .text

/* void *memcpy(void *to, const void *from, size_t bytes) */
    .globl memcpy
    .type memcpy, %function
    .balign 16
memcpy:
    mov x11, x0
    cmp x2, #16
    b.lo 4f
    add x14, x1, x2
    ldp x12, x13, [x14, #-16]
    add x15, x0, x2
    subs x2, x2, #64
    b.lo 2f
1:  ldp x3, x4, [x1]
    ldp x5, x6, [x1, #16]
    ldp x7, x8, [x1, #32]
    ldp x9, x10, [x1, #48]
    stp x3, x4, [x11]
    stp x5, x6, [x11, #16]
    stp x7, x8, [x11, #32]
    stp x9, x10, [x11, #48]
    add x1, x1, #64
    add x11, x11, #64
    subs x2, x2, #64
    b.hs 1b
2:  add x2, x2, #64             /* what is left */
    b 8f
7:  ldp x3, x4, [x1], #16
    stp x3, x4, [x11], #16
8:  subs x2, x2, #16
    b.hs 7b
    stp x12, x13, [x15, #-16]
    ret
4:  cmp x2, #8
    b.lo 5f
    ldr x3, [x1]
    add x14, x1, x2
    ldr x4, [x14, #-8]
    add x15, x0, x2
    str x3, [x0]
    str x4, [x15, #-8]
    ret
5:  cbz x2, 6f
    ldrb w3, [x1], #1
    strb w3, [x11], #1
    sub x2, x2, #1
    b 5b
6:  ret

/* void *memset(void *to, int value, size_t bytes) */
    .globl memset
    .type memset, %function
    .balign 16
memset:
    and x1, x1, #255
    mov x3, #0x0101010101010101
    mul x1, x1, x3
    mov x4, x0
    cmp x2, #16
    b.lo 6f
    add x5, x0, x2              /* the end */
    stp x1, x1, [x5, #-16]
    cmp x2, #256
    b.lo 3f
    cbnz x1, 3f
    mrs x6, dczid_el0
    tbnz w6, #4, 3f             /* forbidden */
    and x6, x6, #15
    mov x7, #4
    lsl x6, x7, x6              /* bytes of a block */
    cmp x2, x6, lsl #1          /* room to reach a block, and one block */
    b.lo 3f
    sub x7, x6, #1
1:  tst x4, x7
    b.eq 2f
    stp x1, x1, [x4]            /* to the next pair, and from pair to pair to the block */
    add x4, x4, #16
    and x4, x4, #~15
    b 1b
2:  add x7, x4, x6
    cmp x7, x5
    b.hi 3f
    dc zva, x4
    mov x4, x7
    b 2b
3:  sub x2, x5, x4
    subs x2, x2, #64
    b.lo 5f
4:  stp x1, x1, [x4]
    stp x1, x1, [x4, #16]
    stp x1, x1, [x4, #32]
    stp x1, x1, [x4, #48]
    add x4, x4, #64
    subs x2, x2, #64
    b.hs 4b
5:  add x2, x2, #64
    b 9f
8:  stp x1, x1, [x4], #16
9:  subs x2, x2, #16
    b.hs 8b
    ret
6:  cbz x2, 7f
    strb w1, [x4], #1
    sub x2, x2, #1
    b 6b
7:  ret

    .section .note.GNU-stack, "", %progbits
