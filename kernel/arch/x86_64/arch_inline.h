/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_INLINE_H
#define KERNEL_ARCH_INLINE_H

/*
 * x86-64: the inline half of arch.h.  Include arch.h instead.
 */

#include <arch_port.h>
#include <asm.h>
#include <irq_inline.h>

/* The offsets in asm.h. */
_Static_assert(offsetof(struct cpu, arch.self) == 0, "entry.S");
_Static_assert(offsetof(struct cpu, arch.kernel_sp) == CPU_KERNEL_SP, "entry.S");
_Static_assert(offsetof(struct cpu, arch.user_sp) == CPU_USER_SP, "entry.S");
_Static_assert(offsetof(struct cpu, arch.quire) == 24, "arch_port.h");
_Static_assert(offsetof(struct cpu, current) == CPU_CURRENT, "entry.S");
_Static_assert(offsetof(struct cpu, need_resched) == CPU_NEED_RESCHED, "entry.S");
_Static_assert(offsetof(struct arch_thread, sp) == 0, "switch.S");
_Static_assert(offsetof(struct arch_thread, work) == THREAD_WORK, "entry.S");
_Static_assert(sizeof(struct trap_frame) == FRAME_BYTES, "entry.S");
_Static_assert(offsetof(struct trap_frame, rax) == FRAME_RAX, "entry.S");
_Static_assert(offsetof(struct trap_frame, vector) == FRAME_VECTOR, "entry.S");
_Static_assert(offsetof(struct trap_frame, rip) == FRAME_RIP, "entry.S");
_Static_assert(offsetof(struct trap_frame, rsp) == FRAME_RSP, "entry.S");
_Static_assert(VECTOR_SYSCALL == SYSCALL_VECTOR, "entry.S");

static inline struct cpu *
cpu_this(void)
{
    struct cpu *cpu;

    /* Volatile: a thread that slept may find itself on another CPU. */
    __asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

static inline struct thread *
thread_current(void)
{
    struct thread *thread;

    /* Not volatile: one thread reads the same value on every CPU. */
    __asm__("movq %%gs:%c1, %0" : "=r"(thread) : "i"(CPU_CURRENT));
    return thread;
}

static inline const struct frame_record *
frame_record_of(uintptr_t fp)
{
    return (const struct frame_record *)fp;
}

static inline bool
frame_from_user(const struct trap_frame *frame)
{
    return (frame->cs & 3) == 3;
}

static inline uintptr_t
frame_ip(const struct trap_frame *frame)
{
    return frame->rip;
}

static inline uintptr_t
frame_sp(const struct trap_frame *frame)
{
    return frame->rsp;
}

static inline void
frame_set_ip(struct trap_frame *frame, uintptr_t ip)
{
    frame->rip = ip;
}

static inline void
frame_set_sp(struct trap_frame *frame, uintptr_t sp)
{
    frame->rsp = sp;
}

static inline unsigned long
frame_syscall_number(const struct trap_frame *frame)
{
    return frame->code;
}

static inline unsigned long
frame_syscall_arg(const struct trap_frame *frame, unsigned i)
{
    switch (i) {
    case 0:
        return frame->rdi;
    case 1:
        return frame->rsi;
    case 2:
        return frame->rdx;
    case 3:
        return frame->r10;
    case 4:
        return frame->r8;
    default:
        return frame->r9;
    }
}

static inline void
frame_set_result(struct trap_frame *frame, long result)
{
    frame->rax = (uint64_t)result;
}

static inline long
frame_result(const struct trap_frame *frame)
{
    return (long)frame->rax;
}

/** What a tracer finds in rax before the call. */
static inline void
frame_begin_call(struct trap_frame *frame)
{
    frame->rax = (uint64_t)-38; /* ENOSYS */
}

static inline bool
frame_is_syscall(const struct trap_frame *frame)
{
    return frame->vector == VECTOR_SYSCALL;
}

static inline void
frame_restart_syscall(struct trap_frame *frame)
{
    frame->rip -= 2; /* the length of `syscall` */
    frame->rax = frame->code;
}

/** IRETQ faults in the kernel where the address is not canonical. */
static inline bool
frame_can_return(const struct trap_frame *frame)
{
    return frame->rip < user_limit + QR_PAGE_SIZE;
}

static inline struct trap_frame *
arch_user_frame(struct arch_thread *thread)
{
    return (struct trap_frame *)thread->stack_top - 1;
}

#endif
