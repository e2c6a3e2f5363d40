/* SPDX-License-Identifier: MIT */
/*
 * Threads: first steps, switching, thread pointers.  On a thread's kernel stack lie:
 *
 *      guard | stack, grows down ...  | user frame | fpu | guard
 *                                     stack_top ---^
 */
#include "cpu.h"

#include <thread_start.h>

bool
arch_thread_create(struct arch_thread *thread)
{
    uintptr_t stack = stack_alloc();
    uintptr_t fpu;

    if (stack == 0)
        return false;
    fpu = (stack + KERNEL_STACK_BYTES - cpu_features.fpu_bytes) & ~(uintptr_t)63;
    *thread = (struct arch_thread){
        .stack = stack,
        .stack_top = fpu,
        .fpu = (void *)fpu,
    };
    fpu_image_init(thread->fpu);
    return true;
}

/** Lay out what switch_stacks() pops, so that it returns to @p start with rbx and r12 set. */
void
thread_prepare(struct arch_thread *thread, void (*start)(void), uintptr_t first, uintptr_t second)
{
    uintptr_t *sp = (uintptr_t *)arch_user_frame(thread);

    *--sp = (uintptr_t)start;
    *--sp = 0;      /* rbp ends the chain of frames */
    *--sp = first;  /* rbx */
    *--sp = second; /* r12 */
    *--sp = 0;
    *--sp = 0;
    *--sp = 0;
    thread->sp = (uintptr_t)sp;
}

void
frame_init_user(struct trap_frame *frame, uintptr_t ip, uintptr_t sp)
{
    *frame = (struct trap_frame){
        .rip = ip,
        .cs = USER_CS,
        .rflags = RFLAGS_IF | 2,
        .rsp = sp,
        .ss = USER_DS,
    };
}

/** What popf can change in user mode, and RF, which sigreturn restores. */
#define RFLAGS_USER 0x254dd5u

void
frame_sanitize(struct trap_frame *frame)
{
    frame->cs = USER_CS;
    frame->ss = USER_DS;
    frame->rflags = (frame->rflags & RFLAGS_USER & ~RFLAGS_NT) | RFLAGS_IF | 2;
    frame->vector = 0;
}

static uintptr_t
user_gs_read(void)
{
    return msr_read(MSR_KERNEL_GS_BASE);
}

static uintptr_t
fs_read(void)
{
    uintptr_t base;

    __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

static void
fs_write(uintptr_t base)
{
    if (cpu_features.fsgsbase)
        __asm__ volatile("wrfsbase %0" : : "r"(base));
    else
        msr_write(MSR_FS_BASE, base);
}

/** Without FSGSBASE only system calls change the bases, and they note the value. */
static void
bases_save(struct arch_thread *thread)
{
    if (cpu_features.fsgsbase) {
        thread->fs_base = fs_read();
        thread->gs_base = user_gs_read();
    }
}

void
arch_context_switch(struct arch_thread *previous, struct arch_thread *next)
{
    struct cpu *cpu = cpu_this();

    if (previous->fpu) {
        fpu_save_fast(previous->fpu);
        bases_save(previous);
    }
    if (next->fpu) {
        fpu_restore(next->fpu);
        fs_write(next->fs_base);
        msr_write(MSR_KERNEL_GS_BASE, next->gs_base);
    }
    cpu->arch.kernel_sp = next->stack_top;
    cpu->arch.tss->rsp[0] = next->stack_top;
    switch_stacks(&previous->sp, next->sp);
}

void
arch_thread_fork(struct arch_thread *child)
{
    struct arch_thread *parent = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    bases_save(parent);
    child->fs_base = parent->fs_base;
    child->gs_base = parent->gs_base;
    arch_fpu_save(child->fpu);
    irq_restore(state);
}

void
arch_thread_save(struct arch_thread *thread)
{
    uintptr_t state = irq_save();

    fpu_save_fast(thread->fpu);
    bases_save(thread);
    irq_restore(state);
}

void
arch_thread_reset(struct arch_thread *thread)
{
    uintptr_t state = irq_save();

    arch_fpu_reset();
    arch_thread_set_tls(thread, 0);
    thread->gs_base = 0;
    msr_write(MSR_KERNEL_GS_BASE, 0);
    irq_restore(state);
}

void
arch_thread_set_tls(struct arch_thread *thread, uintptr_t base)
{
    uintptr_t state = irq_save();

    thread->fs_base = base;
    if (thread == (struct arch_thread *)thread_current())
        fs_write(base);
    irq_restore(state);
}

void
frame_dump(const struct trap_frame *f)
{
    printk("  rip %016lx  cs %04lx  rflags %08lx  rsp %016lx  ss %04lx\n", f->rip, f->cs, f->rflags,
           f->rsp, f->ss);
    printk("  rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    printk("  rsi %016lx  rdi %016lx  rbp %016lx  r8  %016lx\n", f->rsi, f->rdi, f->rbp, f->r8);
    printk("  r9  %016lx  r10 %016lx  r11 %016lx  r12 %016lx\n", f->r9, f->r10, f->r11, f->r12);
    printk("  r13 %016lx  r14 %016lx  r15 %016lx  cr2 %016lx\n", f->r13, f->r14, f->r15,
           cr2_read());
}
