/* SPDX-License-Identifier: MIT */
/*
 * Threads: switching, floating-point state.  On a thread's kernel stack lie:
 *
 *      guard | stack, grows down ...  | user frame | fpu | guard
 *                                     stack_top ---^
 *
 * The kernel itself uses no floating-point registers.  They are saved and
 * restored at each switch between threads that have a user mode.
 */
#include "cpu.h"

#include <quire/lock.h>

#include <kstring.h>
#include <memory.h>

#define FXSAVE_BYTES       512u
#define FXSAVE_MXCSR       24
#define MXCSR_DEFAULT      0x1f80u
#define MXCSR_MASK         0xffffu
#define FCW_DEFAULT        0x37fu
#define XSAVE_HEADER_BYTES 64u

/* ---- Floating-point state -------------------------------------------------------- */

size_t
arch_fpu_bytes(void)
{
    return cpu_features.fpu_bytes;
}

void
arch_fpu_save(void *image)
{
    uint32_t low = (uint32_t)cpu_features.xcr0;

    if (cpu_features.xsave) {
        /* XSAVE leaves the header's reserved part and XCOMP_BV as they are: clear them. */
        memset((char *)image + FXSAVE_BYTES, 0, XSAVE_HEADER_BYTES);
        __asm__ volatile("xsave64 (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    } else {
        __asm__ volatile("fxsave64 (%0)" : : "r"(image) : "memory");
    }
}

/** Save where only fpu_restore() will read it: what did not change may be skipped. */
static void
fpu_save_fast(void *image)
{
    uint32_t low = (uint32_t)cpu_features.xcr0;

    if (cpu_features.xsaveopt)
        __asm__ volatile("xsaveopt64 (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    else if (cpu_features.xsave)
        __asm__ volatile("xsave64 (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" : : "r"(image) : "memory");
}

static void
fpu_restore(const void *image)
{
    uint32_t low = (uint32_t)cpu_features.xcr0;

    if (cpu_features.xsave)
        __asm__ volatile("xrstor64 (%0)" : : "r"(image), "a"(low), "d"(0) : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" : : "r"(image) : "memory");
}

/** XRSTOR and FXRSTOR raise #GP on what this refuses. */
static bool
fpu_image_is_valid(const uint8_t *image)
{
    uint32_t mxcsr;
    uint64_t header[XSAVE_HEADER_BYTES / 8];
    uint64_t rest = 0;

    memcpy(&mxcsr, image + FXSAVE_MXCSR, sizeof mxcsr);
    if (mxcsr & ~MXCSR_MASK)
        return false;
    if (!cpu_features.xsave)
        return true;
    memcpy(header, image + FXSAVE_BYTES, sizeof header);
    for (size_t i = 1; i < XSAVE_HEADER_BYTES / 8; i++)
        rest |= header[i];
    return (header[0] & ~cpu_features.xcr0) == 0 && rest == 0;
}

bool
arch_fpu_load(const void *image)
{
    if (!fpu_image_is_valid(image))
        return false;
    fpu_restore(image);
    return true;
}

static void
fpu_image_init(void *image)
{
    static const uint16_t fcw = FCW_DEFAULT;
    static const uint32_t mxcsr = MXCSR_DEFAULT;

    memset(image, 0, cpu_features.fpu_bytes);
    memcpy(image, &fcw, sizeof fcw);
    memcpy((char *)image + FXSAVE_MXCSR, &mxcsr, sizeof mxcsr);
}

void
arch_fpu_reset(void)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    fpu_image_init(thread->fpu);
    fpu_restore(thread->fpu);
    irq_restore(state);
}

int
frame_float_code(const struct trap_frame *frame)
{
    uint32_t raised;
    uint32_t mxcsr;
    uint16_t fsw;
    uint16_t fcw;

    if (frame->vector == 16) {
        __asm__ volatile("fnstsw %0; fnstcw %1" : "=m"(fsw), "=m"(fcw));
        raised = fsw & ~fcw;
    } else {
        __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
        raised = mxcsr & ~(mxcsr >> 7);
    }
    if (raised & 0x01)
        return 7; /* FPE_FLTINV */
    if (raised & 0x04)
        return 3; /* FPE_FLTDIV */
    if (raised & 0x08)
        return 4; /* FPE_FLTOVF */
    if (raised & 0x12)
        return 5; /* FPE_FLTUND */
    if (raised & 0x20)
        return 6; /* FPE_FLTRES */
    return 0;
}

/* ---- Threads ---------------------------------------------------------------------- */

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

void
arch_thread_destroy(struct arch_thread *thread)
{
    stack_free(thread->stack);
    thread->stack = 0;
}

/** Lay out what switch_stacks() pops, so that it returns to @p start with rbx and r12 set. */
static void
thread_prepare(struct arch_thread *thread, void (*start)(void), uintptr_t rbx, uintptr_t r12)
{
    uintptr_t *sp = (uintptr_t *)arch_user_frame(thread);

    *--sp = (uintptr_t)start;
    *--sp = 0; /* rbp ends the chain of frames */
    *--sp = rbx;
    *--sp = r12;
    *--sp = 0;
    *--sp = 0;
    *--sp = 0;
    thread->sp = (uintptr_t)sp;
}

void
arch_thread_init_kernel(struct arch_thread *thread, void (*entry)(void *), void *argument)
{
    thread_prepare(thread, thread_start_kernel, (uintptr_t)entry, (uintptr_t)argument);
}

void
arch_thread_init_user(struct arch_thread *thread, const struct trap_frame *frame)
{
    *arch_user_frame(thread) = *frame;
    thread_prepare(thread, thread_start_user, 0, 0);
}

void
arch_enter_user(void)
{
    enter_user(arch_user_frame((struct arch_thread *)thread_current()));
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
