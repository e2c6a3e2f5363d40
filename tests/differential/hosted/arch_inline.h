/* SPDX-License-Identifier: MIT */
#ifndef HOSTED_ARCH_INLINE_H
#define HOSTED_ARCH_INLINE_H

/* The inline half of arch.h for kernel code inside a Linux process.  Interrupts are the
 * simulated machine's: quire/port.h. */

#include <quire/port.h>

extern struct cpu hosted_cpu;

static inline struct cpu *
cpu_this(void)
{
    return &hosted_cpu;
}

static inline struct thread *
thread_current(void)
{
    return hosted_cpu.current;
}

static inline const struct frame_record *
frame_record_of(uintptr_t fp)
{
    return (const struct frame_record *)fp;
}

static inline bool
frame_from_user(const struct trap_frame *frame)
{
    (void)frame;
    return true;
}

static inline uintptr_t
frame_ip(const struct trap_frame *frame)
{
    return frame->ip;
}

static inline uintptr_t
frame_sp(const struct trap_frame *frame)
{
    return frame->sp;
}

static inline void
frame_set_ip(struct trap_frame *frame, uintptr_t ip)
{
    frame->ip = ip;
}

static inline void
frame_set_sp(struct trap_frame *frame, uintptr_t sp)
{
    frame->sp = sp;
}

static inline unsigned long
frame_syscall_number(const struct trap_frame *frame)
{
    return frame->number;
}

static inline unsigned long
frame_syscall_arg(const struct trap_frame *frame, unsigned i)
{
    return frame->arg[i];
}

static inline void
frame_set_result(struct trap_frame *frame, long result)
{
    frame->result = (uint64_t)result;
}

static inline long
frame_result(const struct trap_frame *frame)
{
    return (long)frame->result;
}

static inline void
frame_begin_call(struct trap_frame *frame)
{
    (void)frame;
}

static inline bool
frame_is_syscall(const struct trap_frame *frame)
{
    (void)frame;
    return true;
}

static inline void
frame_restart_syscall(struct trap_frame *frame)
{
    (void)frame;
}

static inline bool
frame_can_return(const struct trap_frame *frame)
{
    (void)frame;
    return true;
}

static inline struct trap_frame *
arch_user_frame(struct arch_thread *thread)
{
    return &thread->frame;
}

static inline void
irq_enable(void)
{
}

static inline void
irq_disable(void)
{
}

static inline bool
irq_enabled(void)
{
    return true;
}

static inline void
arch_core_sync(void)
{
}

static inline void
cpu_idle(void)
{
}

#endif
