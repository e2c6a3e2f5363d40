/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_INLINE_H
#define KERNEL_ARCH_INLINE_H

/*
 * AArch64: the inline half of arch.h.  Include arch.h instead.
 */

#include <arch_port.h>

#include <asm.h>

/* The offsets in asm.h. */
_Static_assert(offsetof(struct cpu, arch.quire) == CPU_QUIRE, "arch_port.h");
_Static_assert(offsetof(struct cpu, arch.emergency_top) == CPU_EMERGENCY, "entry.S");
_Static_assert(offsetof(struct cpu, current) == CPU_CURRENT, "entry.S");
_Static_assert(offsetof(struct cpu, need_resched) == CPU_NEED_RESCHED, "entry.S");
_Static_assert(offsetof(struct arch_thread, sp) == 0, "switch_stacks");
_Static_assert(offsetof(struct arch_thread, work) == THREAD_WORK, "entry.S");
_Static_assert(sizeof(struct trap_frame) == FRAME_BYTES, "entry.S");
_Static_assert(offsetof(struct trap_frame, sp) == FRAME_SP, "entry.S");
_Static_assert(offsetof(struct trap_frame, pc) == FRAME_PC, "entry.S");
_Static_assert(offsetof(struct trap_frame, syscall) == FRAME_SYSCALL, "entry.S");
_Static_assert(offsetof(struct trap_frame, orig_x0) == FRAME_ORIG_X0, "entry.S");

static inline struct cpu *
cpu_this(void)
{
    struct cpu *cpu;

    /* Volatile: a thread that slept may find itself on another CPU. */
    __asm__ volatile("mrs %0, tpidr_el1" : "=r"(cpu));
    return cpu;
}

static inline struct thread *
thread_current(void)
{
    struct thread *thread;

    /*
     * Kernel code is not preempted, so both instructions run on one CPU.  Not
     * volatile: one thread reads the same value on every CPU.
     */
    __asm__("mrs %0, tpidr_el1\n\tldr %0, [%0, %1]" : "=r"(thread) : "i"(CPU_CURRENT));
    return thread;
}

/** Order memory that a device reads or writes against its registers. */
static inline void
arch_device_barrier(void)
{
    __asm__ volatile("dsb sy" : : : "memory");
}

static inline void
irq_enable(void)
{
    __asm__ volatile("msr daifclr, #2" : : : "memory");
}

static inline void
irq_disable(void)
{
    __asm__ volatile("msr daifset, #2" : : : "memory");
}

static inline bool
irq_enabled(void)
{
    uintptr_t flags;

    __asm__ volatile("mrs %0, daif" : "=r"(flags) : : "memory");
    return (flags & PSR_IRQ_MASKED) == 0;
}

static inline void
arch_core_sync(void)
{
    __asm__ volatile("isb" : : : "memory");
}

static inline void
cpu_idle(void)
{
    /* A masked interrupt ends `wfi` too, so none is lost before it. */
    __asm__ volatile("dsb sy\n\twfi\n\tmsr daifclr, #2\n\tisb\n\tmsr daifset, #2" : : : "memory");
}

static inline const struct frame_record *
frame_record_of(uintptr_t fp)
{
    return (const struct frame_record *)fp;
}

static inline bool
frame_from_user(const struct trap_frame *frame)
{
    return (frame->pstate & 0xf) == PSR_MODE_EL0;
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
    return frame->syscall;
}

static inline unsigned long
frame_syscall_arg(const struct trap_frame *frame, unsigned i)
{
    return i == 0 ? frame->orig_x0 : frame->x[i];
}

static inline void
frame_set_result(struct trap_frame *frame, long result)
{
    frame->x[0] = (uint64_t)result;
}

static inline long
frame_result(const struct trap_frame *frame)
{
    return (long)frame->x[0];
}

static inline void
frame_begin_call(struct trap_frame *frame)
{
    (void)frame; /* a tracer finds the arguments as they are */
}

static inline bool
frame_is_syscall(const struct trap_frame *frame)
{
    return frame->syscall != NO_SYSCALL;
}

static inline void
frame_restart_syscall(struct trap_frame *frame)
{
    frame->pc -= 4; /* the length of `svc` */
    frame->x[0] = frame->orig_x0;
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
