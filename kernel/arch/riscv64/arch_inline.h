/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_INLINE_H
#define KERNEL_ARCH_INLINE_H

/*
 * RISC-V: the inline half of arch.h.  Include arch.h instead.
 */

#include <arch_port.h>

#include <asm.h>

/* The offsets in asm.h. */
_Static_assert(offsetof(struct cpu, arch.kernel_sp) == CPU_KERNEL_SP, "entry.S");
_Static_assert(offsetof(struct cpu, arch.stack_low) == CPU_STACK_LOW, "entry.S");
_Static_assert(offsetof(struct cpu, arch.scratch) == CPU_SCRATCH, "entry.S");
_Static_assert(offsetof(struct cpu, arch.quire) == CPU_QUIRE && CPU_QUIRE == 24, "arch_port.h");
_Static_assert(offsetof(struct cpu, current) == CPU_CURRENT, "entry.S");
_Static_assert(offsetof(struct cpu, need_resched) == CPU_NEED_RESCHED, "entry.S");
_Static_assert(offsetof(struct arch_thread, sp) == 0, "entry.S");
_Static_assert(offsetof(struct arch_thread, work) == THREAD_WORK, "entry.S");
_Static_assert(sizeof(struct trap_frame) == FRAME_BYTES, "entry.S");
_Static_assert(offsetof(struct trap_frame, sp) == FRAME_X(2), "entry.S");
_Static_assert(offsetof(struct trap_frame, t6) == FRAME_X(31), "entry.S");
_Static_assert(offsetof(struct trap_frame, status) == FRAME_STATUS, "entry.S");
_Static_assert(offsetof(struct trap_frame, call_a0) == FRAME_A0, "entry.S");

static inline struct cpu *
cpu_this(void)
{
    struct cpu *cpu;

    /* Volatile: a thread that slept may find itself on another CPU. */
    __asm__ volatile("mv %0, tp" : "=r"(cpu));
    return cpu;
}

static inline struct thread *
thread_current(void)
{
    struct thread *thread;

    /* Not volatile: one thread reads the same value on every CPU. */
    __asm__("ld %0, %c1(tp)" : "=r"(thread) : "i"(CPU_CURRENT));
    return thread;
}

/** Order memory that a device reads or writes against its registers. */
static inline void
arch_device_barrier(void)
{
    __asm__ volatile("fence iorw, iorw" : : : "memory");
}

static inline void
irq_enable(void)
{
    __asm__ volatile("csrsi sstatus, 2" : : : "memory");
}

static inline void
irq_disable(void)
{
    __asm__ volatile("csrci sstatus, 2" : : : "memory");
}

static inline bool
irq_enabled(void)
{
    uintptr_t status;

    __asm__ volatile("csrr %0, sstatus" : "=r"(status) : : "memory");
    return (status & SSTATUS_SIE) != 0;
}

static inline void
arch_core_sync(void)
{
    __asm__ volatile("fence rw, rw; fence.i" : : : "memory");
}

static inline void
cpu_idle(void)
{
    /* `wfi` ends when an interrupt waits, taken or not: none is lost before it. */
    __asm__ volatile("wfi; csrsi sstatus, 2; csrci sstatus, 2" : : : "memory");
}

static inline const struct frame_record *
frame_record_of(uintptr_t fp)
{
    return (const struct frame_record *)fp - 1;
}

static inline bool
frame_from_user(const struct trap_frame *frame)
{
    return (frame->status & SSTATUS_SPP) == 0;
}

static inline uintptr_t
frame_ip(const struct trap_frame *frame)
{
    return frame->pc;
}

static inline uintptr_t
frame_sp(const struct trap_frame *frame)
{
    return frame->sp;
}

static inline void
frame_set_ip(struct trap_frame *frame, uintptr_t ip)
{
    frame->pc = ip;
}

static inline void
frame_set_sp(struct trap_frame *frame, uintptr_t sp)
{
    frame->sp = sp;
}

static inline unsigned long
frame_syscall_number(const struct trap_frame *frame)
{
    return frame->a[7];
}

static inline unsigned long
frame_syscall_arg(const struct trap_frame *frame, unsigned i)
{
    return i == 0 ? frame->call_a0 : frame->a[i];
}

static inline void
frame_set_result(struct trap_frame *frame, long result)
{
    frame->a[0] = (uint64_t)result;
}

static inline long
frame_result(const struct trap_frame *frame)
{
    return (long)frame->a[0];
}

static inline void
frame_begin_call(struct trap_frame *frame)
{
    (void)frame; /* a tracer finds the arguments as they are */
}

static inline bool
frame_is_syscall(const struct trap_frame *frame)
{
    return frame->cause == CAUSE_USER_ECALL;
}

static inline void
frame_restart_syscall(struct trap_frame *frame)
{
    frame->pc -= 4; /* the length of `ecall` */
    frame->a[0] = frame->call_a0;
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
