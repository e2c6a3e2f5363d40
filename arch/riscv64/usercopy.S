/* SPDX-License-Identifier: MIT */
/*
 * Copies between kernel and user memory.
 *
 * They move ascending: bytes until the destination is aligned, words of eight while
 * both sides are aligned alike, bytes for the rest.  An aligned word lies in one
 * page, so a fault that the fault path cannot resolve has moved nothing of it, and
 * the fix-up knows the exact prefix from the registers: what is left is `end - to`.
 * No load is started behind one that may fault, and a store follows its load at
 * once: a fault never loses a byte that was read, or skips one.
 *
 * Where the two sides are not aligned alike, bytes are moved: a misaligned word may
 * be emulated by the firmware at a hundred times the cost, and could cross a page.
 *
 * sstatus.SUM opens user memory to the kernel; the host's entry code clears it for
 * interrupts and faults in between.
 *
 * Every function returns the bytes that were not moved, in a0.
 */

#define SSTATUS_SUM 0x40000

/* A fault at label `from` that cannot be resolved continues at `to`. */
.macro FIXUP from, to
    .pushsection qr_extable, "a"
    .balign 4
    .word \from - .
    .word \to - .
    .popsection
.endm

/* In a process, where the tests run these, there is nothing to open. */
#ifdef QR_USERCOPY_IN_A_PROCESS
.macro USER_ACCESS_BEGIN
.endm
.macro USER_ACCESS_END
.endm
#else
.macro USER_ACCESS_BEGIN
    li t6, SSTATUS_SUM
    csrs sstatus, t6
.endm
.macro USER_ACCESS_END
    csrc sstatus, t6
.endm
#endif

    .text

/*
 * size_t qr_arch_copy_from_user(void *to, qr_va from, size_t bytes)
 * size_t qr_arch_copy_to_user(qr_va to, const void *from, size_t bytes)
 *
 * a0 to, a1 from, a3 end of the destination
 */
    .globl qr_arch_copy_from_user, qr_arch_copy_to_user
    .type qr_arch_copy_from_user, @function
    .type qr_arch_copy_to_user, @function
    .balign 16
qr_arch_copy_from_user:
qr_arch_copy_to_user:
    USER_ACCESS_BEGIN
    add a3, a0, a2
    xor t0, a0, a1
    andi t0, t0, 7
    bnez t0, 8f
1:  andi t0, a0, 7              /* bytes up to a word's boundary */
    beqz t0, 4f
    bgeu a0, a3, 9f
2:  lbu t1, 0(a1)
3:  sb t1, 0(a0)
    addi a0, a0, 1
    addi a1, a1, 1
    j 1b
4:  sub t2, a3, a0              /* what is left */
    li t3, 32
    bltu t2, t3, 6f
5:  ld t0, 0(a1)
51: sd t0, 0(a0)
52: ld t0, 8(a1)
53: sd t0, 8(a0)
54: ld t0, 16(a1)
55: sd t0, 16(a0)
56: ld t0, 24(a1)
57: sd t0, 24(a0)
    addi a0, a0, 32
    addi a1, a1, 32
    addi t2, t2, -32
    bgeu t2, t3, 5b
6:  li t3, 8
7:  bltu t2, t3, 8f
61: ld t0, 0(a1)
62: sd t0, 0(a0)
    addi a0, a0, 8
    addi a1, a1, 8
    addi t2, t2, -8
    j 7b
8:  bgeu a0, a3, 9f
81: lbu t0, 0(a1)
82: sb t0, 0(a0)
    addi a0, a0, 1
    addi a1, a1, 1
    j 8b
    /* In the middle of a long step. */
93: addi a0, a0, 8
92: addi a0, a0, 8
91: addi a0, a0, 8
9:  USER_ACCESS_END
    sub a0, a3, a0
    ret
    FIXUP 2b, 9b
    FIXUP 3b, 9b
    FIXUP 5b, 9b
    FIXUP 51b, 9b
    FIXUP 52b, 91b
    FIXUP 53b, 91b
    FIXUP 54b, 92b
    FIXUP 55b, 92b
    FIXUP 56b, 93b
    FIXUP 57b, 93b
    FIXUP 61b, 9b
    FIXUP 62b, 9b
    FIXUP 81b, 9b
    FIXUP 82b, 9b

/* size_t qr_arch_clear_user(qr_va to, size_t bytes) */
    .globl qr_arch_clear_user
    .type qr_arch_clear_user, @function
    .balign 16
qr_arch_clear_user:
    USER_ACCESS_BEGIN
    add a3, a0, a1
1:  andi t0, a0, 7
    beqz t0, 3f
    bgeu a0, a3, 9f
2:  sb zero, 0(a0)
    addi a0, a0, 1
    j 1b
3:  sub t2, a3, a0
    li t3, 8
4:  bltu t2, t3, 6f
5:  sd zero, 0(a0)
    addi a0, a0, 8
    addi t2, t2, -8
    j 4b
6:  bgeu a0, a3, 9f
7:  sb zero, 0(a0)
    addi a0, a0, 1
    j 6b
9:  USER_ACCESS_END
    sub a0, a3, a0
    ret
    FIXUP 2b, 9b
    FIXUP 5b, 9b
    FIXUP 7b, 9b

/*
 * bool qr_arch_user_cas32(qr_va at, uint32_t expected, uint32_t desired, uint32_t *out_old)
 */
    .globl qr_arch_user_cas32
    .type qr_arch_user_cas32, @function
    .balign 16
qr_arch_user_cas32:
    USER_ACCESS_BEGIN
    sext.w a1, a1
1:  lr.w.aqrl t0, (a0)
    bne t0, a1, 3f
2:  sc.w.rl t1, a2, (a0)
    bnez t1, 1b
3:  fence rw, rw
    USER_ACCESS_END
    sw t0, 0(a3)
    li a0, 1
    ret
9:  USER_ACCESS_END
    li a0, 0
    ret
    FIXUP 1b, 9b
    FIXUP 2b, 9b

    .section .note.GNU-stack, "", @progbits
