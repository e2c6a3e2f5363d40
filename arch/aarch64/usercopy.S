/* SPDX-License-Identifier: MIT */
/*
 * Copies between kernel and user memory.
 *
 * User memory is touched by the unprivileged loads and stores (LDTR, STTR), which
 * obey the user's own rights whatever PAN says.  There are none that are
 * exclusive, so the compare-and-swap opens PAN for its two instructions; an
 * exception in between sets it for the handler and restores it afterwards.
 *
 * The copies move ascending, 32 bytes a step, then 8, then single ones.  A fault
 * that the fault path cannot resolve continues at the fix-up: a wide step that
 * faulted may have had good bytes in front, so it is done again from its start
 * byte by byte, and the fault of that one is exact.  So what was copied is always
 * the exact prefix, and as long as the user's memory allows.
 *
 * Every function returns the bytes that were not moved, in x0.
 */

/* A fault at label `from` that cannot be resolved continues at `to`. */
.macro FIXUP from, to
    .pushsection qr_extable, "a"
    .align 2
    .long \from - .
    .long \to - .
    .popsection
.endm

/* A load or store of user memory. */
.macro USER to, instruction:vararg
9998:   \instruction
    FIXUP 9998b, \to
.endm

.macro SET_PAN value
    adrp x7, qr_aarch64_pan
    ldrb w7, [x7, :lo12:qr_aarch64_pan]
    cbz w7, .Lpan\@
    .inst 0xd500409f | (\value << 8) /* msr pan, #value */
.Lpan\@:
.endm

    .text

/* size_t qr_arch_copy_from_user(void *to, qr_va from, size_t bytes) */
    .globl qr_arch_copy_from_user
    .type qr_arch_copy_from_user, %function
    .balign 16
qr_arch_copy_from_user:
    cmp x2, #32
    b.lo 2f
1:  USER 4f, ldtr x3, [x1]
    USER 4f, ldtr x4, [x1, #8]
    USER 4f, ldtr x5, [x1, #16]
    USER 4f, ldtr x6, [x1, #24]
    stp x3, x4, [x0]
    stp x5, x6, [x0, #16]
    add x1, x1, #32
    add x0, x0, #32
    sub x2, x2, #32
    cmp x2, #32
    b.hs 1b
2:  cmp x2, #8
    b.lo 4f
    USER 4f, ldtr x3, [x1]
    str x3, [x0], #8
    add x1, x1, #8
    sub x2, x2, #8
    b 2b
4:  cbz x2, 5f
    USER 5f, ldtrb w3, [x1]
    strb w3, [x0], #1
    add x1, x1, #1
    sub x2, x2, #1
    b 4b
5:  mov x0, x2
    ret

/* size_t qr_arch_copy_to_user(qr_va to, const void *from, size_t bytes) */
    .globl qr_arch_copy_to_user
    .type qr_arch_copy_to_user, %function
    .balign 16
qr_arch_copy_to_user:
    cmp x2, #32
    b.lo 2f
1:  ldp x3, x4, [x1]
    ldp x5, x6, [x1, #16]
    USER 4f, sttr x3, [x0]
    USER 4f, sttr x4, [x0, #8]
    USER 4f, sttr x5, [x0, #16]
    USER 4f, sttr x6, [x0, #24]
    add x1, x1, #32
    add x0, x0, #32
    sub x2, x2, #32
    cmp x2, #32
    b.hs 1b
2:  cmp x2, #8
    b.lo 4f
    ldr x3, [x1]
    USER 4f, sttr x3, [x0]
    add x1, x1, #8
    add x0, x0, #8
    sub x2, x2, #8
    b 2b
4:  cbz x2, 5f
    ldrb w3, [x1]
    USER 5f, sttrb w3, [x0]
    add x1, x1, #1
    add x0, x0, #1
    sub x2, x2, #1
    b 4b
5:  mov x0, x2
    ret

/* size_t qr_arch_clear_user(qr_va to, size_t bytes) */
    .globl qr_arch_clear_user
    .type qr_arch_clear_user, %function
    .balign 16
qr_arch_clear_user:
    cmp x1, #32
    b.lo 2f
1:  USER 4f, sttr xzr, [x0]
    USER 4f, sttr xzr, [x0, #8]
    USER 4f, sttr xzr, [x0, #16]
    USER 4f, sttr xzr, [x0, #24]
    add x0, x0, #32
    sub x1, x1, #32
    cmp x1, #32
    b.hs 1b
2:  cmp x1, #8
    b.lo 4f
    USER 4f, sttr xzr, [x0]
    add x0, x0, #8
    sub x1, x1, #8
    b 2b
4:  cbz x1, 5f
    USER 5f, sttrb wzr, [x0]
    add x0, x0, #1
    sub x1, x1, #1
    b 4b
5:  mov x0, x1
    ret

/*
 * bool qr_arch_user_cas32(qr_va at, uint32_t expected, uint32_t desired, uint32_t *out_old)
 */
    .globl qr_arch_user_cas32
    .type qr_arch_user_cas32, %function
    .balign 16
qr_arch_user_cas32:
    SET_PAN 0
1:  USER 3f, ldaxr w4, [x0]
    cmp w4, w1
    b.ne 2f
    USER 3f, stlxr w5, w2, [x0]
    cbnz w5, 1b
2:  SET_PAN 1
    str w4, [x3]
    mov w0, #1
    ret
3:  SET_PAN 1
    mov w0, #0
    ret

    .section .note.GNU-stack, "", %progbits
