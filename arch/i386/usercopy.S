/* SPDX-License-Identifier: MIT */
/*
 * Copies between kernel and user memory.
 *
 * As on x86-64, four bytes a step: ascending, in steps of four and then single
 * ones.  A fault that the fault path cannot resolve continues at the fix-up: a step
 * of four that faulted may have had up to three good bytes in front (an unaligned
 * step over a page's end), so the rest is tried again byte by byte, and the fault
 * of that one is exact.  So what was copied is always the exact prefix, and as
 * long as the user's memory allows.
 *
 * SMAP: user access is opened by STAC for the copy alone.  An interrupt or a
 * fault in between saves AC with the flags; the host's entry code clears it.
 *
 * Every function returns the bytes that were not moved, in eax.
 */

/* A fault at label `from` that cannot be resolved continues at `to`. */
.macro FIXUP from, to
    .pushsection qr_extable, "a"
    .align 4
    .long \from - .
    .long \to - .
    .popsection
.endm

.macro USER_ACCESS_BEGIN
    cmpb $0, qr_x86_smap
    je .Lbegin\@
    stac
.Lbegin\@:
.endm

.macro USER_ACCESS_END
    cmpb $0, qr_x86_smap
    je .Lend\@
    clac
.Lend\@:
.endm

    .text

/*
 * size_t qr_arch_copy_from_user(void *to, qr_va from, size_t bytes)
 * size_t qr_arch_copy_to_user(qr_va to, const void *from, size_t bytes)
 */
    .globl qr_arch_copy_from_user, qr_arch_copy_to_user
    .type qr_arch_copy_from_user, @function
    .type qr_arch_copy_to_user, @function
    .align 16
qr_arch_copy_from_user:
qr_arch_copy_to_user:
    pushl %esi
    pushl %edi
    movl 12(%esp), %edi
    movl 16(%esp), %esi
    movl 20(%esp), %edx
    movl %edx, %ecx
    shrl $2, %ecx
    andl $3, %edx
    USER_ACCESS_BEGIN
1:  rep movsl
    movl %edx, %ecx
3:  rep movsb
4:  USER_ACCESS_END
    movl %ecx, %eax
    popl %edi
    popl %esi
    ret
5:  leal (%edx, %ecx, 4), %ecx
    jmp 3b
    FIXUP 1b, 5b
    FIXUP 3b, 4b

/* size_t qr_arch_clear_user(qr_va to, size_t bytes) */
    .globl qr_arch_clear_user
    .type qr_arch_clear_user, @function
    .align 16
qr_arch_clear_user:
    pushl %edi
    movl 8(%esp), %edi
    movl 12(%esp), %edx
    movl %edx, %ecx
    shrl $2, %ecx
    andl $3, %edx
    xorl %eax, %eax
    USER_ACCESS_BEGIN
1:  rep stosl
    movl %edx, %ecx
3:  rep stosb
4:  USER_ACCESS_END
    movl %ecx, %eax
    popl %edi
    ret
5:  leal (%edx, %ecx, 4), %ecx
    jmp 3b
    FIXUP 1b, 5b
    FIXUP 3b, 4b

/*
 * bool qr_arch_user_cas32(qr_va at, uint32_t expected, uint32_t desired, uint32_t *out_old)
 */
    .globl qr_arch_user_cas32
    .type qr_arch_user_cas32, @function
    .align 16
qr_arch_user_cas32:
    pushl %ebx
    movl 8(%esp), %ebx
    movl 12(%esp), %eax
    movl 16(%esp), %edx
    movl 20(%esp), %ecx
    USER_ACCESS_BEGIN
1:  lock cmpxchgl %edx, (%ebx)
    USER_ACCESS_END
    movl %eax, (%ecx)
    movl $1, %eax
    popl %ebx
    ret
2:  USER_ACCESS_END
    xorl %eax, %eax
    popl %ebx
    ret
    FIXUP 1b, 2b

    .section .note.GNU-stack, "", @progbits
