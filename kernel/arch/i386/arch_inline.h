/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_INLINE_H
#define KERNEL_ARCH_INLINE_H

/*
 * 32-bit x86: the inline half of arch.h.  Include arch.h instead.
 */

#include <arch_port.h>
#include <asm.h>
#include <irq_inline.h>

/* The offsets in asm.h. */
_Static_assert(offsetof(struct cpu, arch.self) == 0, "entry.S");
_Static_assert(offsetof(struct cpu, arch.quire) == 4, "arch_port.h");
_Static_assert(offsetof(struct cpu, current) == CPU_CURRENT, "entry.S");
_Static_assert(offsetof(struct cpu, need_resched) == CPU_NEED_RESCHED, "entry.S");
_Static_assert(offsetof(struct arch_thread, sp) == 0, "switch.S");
_Static_assert(offsetof(struct arch_thread, work) == THREAD_WORK, "entry.S");
_Static_assert(sizeof(struct trap_frame) == FRAME_BYTES, "entry.S");
_Static_assert(offsetof(struct trap_frame, eax) == FRAME_EAX, "entry.S");
_Static_assert(offsetof(struct trap_frame, gs) == FRAME_GS, "entry.S");
_Static_assert(offsetof(struct trap_frame, vector) == FRAME_VECTOR, "entry.S");
_Static_assert(offsetof(struct trap_frame, eip) == FRAME_EIP, "entry.S");
_Static_assert(offsetof(struct trap_frame, cs) == FRAME_CS, "entry.S");
_Static_assert(offsetof(struct trap_frame, ss) == FRAME_SS, "entry.S");
_Static_assert(VECTOR_SYSCALL == SYSCALL_VECTOR, "entry.S");

static inline struct cpu *
cpu_this(void)
{
    struct cpu *cpu;

    /* Volatile: a thread that slept may find itself on another CPU. */
    __asm__ volatile("movl %%fs:0, %0" : "=r"(cpu));
    return cpu;
}

static inline struct thread *
thread_current(void)
{
    struct thread *thread;

    /* Not volatile: one thread reads the same value on every CPU. */
    __asm__("movl %%fs:%c1, %0" : "=r"(thread) : "i"(CPU_CURRENT));
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
    return frame->eip;
}

static inline uintptr_t
frame_sp(const struct trap_frame *frame)
{
    /* The CPU pushes no stack pointer for its own mode: the frame is where it was. */
    return frame_from_user(frame) ? frame->esp : (uintptr_t)&frame->esp;
}

static inline void
frame_set_ip(struct trap_frame *frame, uintptr_t ip)
{
    frame->eip = ip;
}

static inline void
frame_set_sp(struct trap_frame *frame, uintptr_t sp)
{
    frame->esp = sp;
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
        return frame->ebx;
    case 1:
        return frame->ecx;
    case 2:
        return frame->edx;
    case 3:
        return frame->esi;
    case 4:
        return frame->edi;
    default:
        return frame->ebp;
    }
}

static inline void
frame_set_result(struct trap_frame *frame, long result)
{
    frame->eax = (uint32_t)result;
}

static inline long
frame_result(const struct trap_frame *frame)
{
    return (long)frame->eax;
}

/** What a tracer finds in eax before the call. */
static inline void
frame_begin_call(struct trap_frame *frame)
{
    frame->eax = (uint32_t)-38; /* ENOSYS */
}

static inline bool
frame_is_syscall(const struct trap_frame *frame)
{
    return frame->vector == VECTOR_SYSCALL;
}

static inline void
frame_restart_syscall(struct trap_frame *frame)
{
    frame->eip -= 2; /* the length of `int $0x80` */
    frame->eax = frame->code;
}

static inline bool
frame_can_return(const struct trap_frame *frame)
{
    (void)frame; /* any address is a user's page fault at worst */
    return true;
}

static inline struct trap_frame *
arch_user_frame(struct arch_thread *thread)
{
    return (struct trap_frame *)thread->stack_top - 1;
}

#endif
