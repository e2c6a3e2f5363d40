/* SPDX-License-Identifier: MIT */
/*
 * Threads: first steps, switching, thread pointers.  On a thread's kernel stack lie:
 *
 *      guard | stack, grows down ...  | user frame | fpu | guard
 *                                     stack_top ---^
 *
 * A thread pointer is a segment descriptor of the thread's choice (tls.c); its
 * three entries go into the CPU's GDT with every switch, before FS and GS are
 * loaded on the way to user mode.
 */
#include "cpu.h"

#include <kstring.h>
#include <thread_start.h>

#include <quire/assert.h>

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

/** Lay out what switch_stacks() pops, so that it returns to @p start with ebx and esi set. */
void
thread_prepare(struct arch_thread *thread, void (*start)(void), uintptr_t first, uintptr_t second)
{
    uintptr_t *sp = (uintptr_t *)arch_user_frame(thread);

    *--sp = (uintptr_t)start;
    *--sp = 0;      /* ebp ends the chain of frames */
    *--sp = first;  /* ebx */
    *--sp = second; /* esi */
    *--sp = 0;
    thread->sp = (uintptr_t)sp;
}

void
frame_init_user(struct trap_frame *frame, uintptr_t ip, uintptr_t sp)
{
    *frame = (struct trap_frame){
        .ds = USER_DS,
        .es = USER_DS,
        .eip = ip,
        .cs = USER_CS,
        .eflags = RFLAGS_IF | 2,
        .esp = sp,
        .ss = USER_DS,
    };
}

/** What popf can change in user mode, and RF, which sigreturn restores. */
#define EFLAGS_USER 0x254dd5u

/** Null, or one of the segments that a program may load. */
static uint32_t
user_selector(uint32_t selector)
{
    return selector & 0xffff ? (selector & 0xffff) | 3 : 0;
}

void
frame_sanitize(struct trap_frame *frame)
{
    frame->cs = USER_CS;
    frame->ss = USER_DS;
    frame->ds = user_selector(frame->ds);
    frame->es = user_selector(frame->es);
    frame->fs = user_selector(frame->fs);
    frame->gs = user_selector(frame->gs);
    frame->eflags = (frame->eflags & EFLAGS_USER & ~RFLAGS_NT) | RFLAGS_IF | 2;
    frame->vector = 0;
    frame->code = 0;
}

static void
tls_load(const struct arch_thread *thread)
{
    for (unsigned i = 0; i < TLS_ENTRIES; i++)
        descriptors_set_tls(i, thread->tls[i]);
}

void
arch_context_switch(struct arch_thread *previous, struct arch_thread *next)
{
    struct cpu *cpu = cpu_this();

    qr_assert(cpu->arch.windows == 0); /* its holder does not sleep */
    if (previous->fpu)
        fpu_save_fast(previous->fpu);
    if (next->fpu) {
        fpu_restore(next->fpu);
        tls_load(next);
    }
    cpu->arch.tss->esp0 = next->stack_top;
    switch_stacks(&previous->sp, next->sp);
}

void
arch_thread_fork(struct arch_thread *child)
{
    const struct arch_thread *parent = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    memcpy(child->tls, parent->tls, sizeof child->tls);
    arch_fpu_save(child->fpu);
    irq_restore(state);
}

void
arch_thread_save(struct arch_thread *thread)
{
    uintptr_t state = irq_save();

    fpu_save_fast(thread->fpu);
    irq_restore(state);
}

void
arch_thread_reset(struct arch_thread *thread)
{
    uintptr_t state = irq_save();

    arch_fpu_reset();
    memset(thread->tls, 0, sizeof thread->tls);
    tls_load(thread);
    irq_restore(state);
}

void
frame_dump(const struct trap_frame *f)
{
    printk("  eip %08x  cs %04x  eflags %08x  esp %08lx\n", f->eip, f->cs & 0xffff, f->eflags,
           (unsigned long)frame_sp(f));
    printk("  eax %08x  ebx %08x  ecx %08x  edx %08x\n", f->eax, f->ebx, f->ecx, f->edx);
    printk("  esi %08x  edi %08x  ebp %08x  cr2 %08lx\n", f->esi, f->edi, f->ebp,
           (unsigned long)cr2_read());
    printk("  ds %04x  es %04x  fs %04x  gs %04x\n", f->ds & 0xffff, f->es & 0xffff, f->fs & 0xffff,
           f->gs & 0xffff);
}
