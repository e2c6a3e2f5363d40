/* SPDX-License-Identifier: MIT */
/*
 * Threads: switching, floating-point state.  On a thread's kernel stack lie:
 *
 *      guard | stack, grows down ...  | user frame | fpu | guard
 *                                     stack_top ---^
 *
 * The kernel itself uses no floating-point registers.  A thread has none either
 * until its first instruction that wants them: sstatus.FS is off, the instruction is
 * illegal, and fpu_first_use() turns it on.  From then on the registers are saved at a
 * switch where the program has changed them (FS is dirty), and loaded back always.
 * The FS that counts is that of the user frame; the kernel's own is off.
 */
#include "cpu.h"

#include <kstring.h>
#include <memory.h>
#include <thread_start.h>

/* ---- Floating-point state -------------------------------------------------------- */

static uint64_t
fs_of(struct arch_thread *thread)
{
    return arch_user_frame(thread)->status & SSTATUS_FS;
}

static void
fs_set(struct arch_thread *thread, uint64_t fs)
{
    struct trap_frame *frame = arch_user_frame(thread);

    frame->status = (frame->status & ~(uint64_t)SSTATUS_FS) | fs;
}

static void
registers_save(struct fpu_state *state)
{
    csr_set(sstatus, FS_INITIAL);
    fpu_registers_save(state);
    csr_clear(sstatus, SSTATUS_FS);
}

static void
registers_load(const struct fpu_state *state)
{
    csr_set(sstatus, FS_INITIAL);
    fpu_registers_load(state);
    csr_clear(sstatus, SSTATUS_FS);
}

/** thread->fpu is the truth from here on; interrupts off, @p thread is the running one. */
static void
fpu_sync(struct arch_thread *thread)
{
    if (fs_of(thread) == FS_DIRTY) {
        registers_save(thread->fpu);
        fs_set(thread, FS_CLEAN);
    }
}

bool
fpu_first_use(struct trap_frame *frame)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();

    if ((arch_hwcap() & 1ul << ('d' - 'a')) == 0 || (frame->status & SSTATUS_FS) != 0)
        return false;
    registers_load(thread->fpu);
    frame->status |= FS_CLEAN;
    return true;
}

size_t
arch_fpu_bytes(void)
{
    return sizeof(struct fpu_state);
}

void
arch_fpu_save(void *image)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    fpu_sync(thread);
    memcpy(image, thread->fpu, sizeof *thread->fpu);
    irq_restore(state);
}

static void
fpu_set(const struct fpu_state *image)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    uintptr_t state = irq_save();

    memcpy(thread->fpu, image, sizeof *thread->fpu);
    thread->fpu->fcsr &= FCSR_MASK;
    fs_set(thread, 0); /* loaded at the next use */
    irq_restore(state);
}

bool
arch_fpu_load(const void *image)
{
    fpu_set(image);
    return true;
}

void
arch_fpu_reset(void)
{
    static const struct fpu_state initial;

    fpu_set(&initial);
}

/** Operations that are invalid give a default result here; no trap tells of them. */
int
frame_float_code(const struct trap_frame *frame)
{
    (void)frame;
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
    fpu = (stack + KERNEL_STACK_BYTES - sizeof(struct fpu_state)) & ~(uintptr_t)63;
    *thread = (struct arch_thread){
        .stack = stack,
        .stack_top = fpu,
        .fpu = (struct fpu_state *)fpu,
    };
    memset(thread->fpu, 0, sizeof *thread->fpu);
    arch_user_frame(thread)->status = 0;
    return true;
}

/** As switch_stacks() leaves it. */
struct switch_frame {
    uint64_t ra, s[12], padding;
};

/** Let switch_stacks() return to @p start with s1 and s2 set. */
void
thread_prepare(struct arch_thread *thread, void (*start)(void), uintptr_t first, uintptr_t second)
{
    struct switch_frame *at = (struct switch_frame *)arch_user_frame(thread) - 1;

    arch_user_frame(thread)->cause = 0; /* restore every register on the way to the user */
    *at = (struct switch_frame){.ra = (uintptr_t)start, .s = {[1] = first, [2] = second}};
    thread->sp = (uintptr_t)at;
}

void
frame_init_user(struct trap_frame *frame, uintptr_t ip, uintptr_t sp)
{
    *frame = (struct trap_frame){.pc = ip, .sp = sp, .status = SSTATUS_SPIE};
}

void
frame_sanitize(struct trap_frame *frame)
{
    frame->status = SSTATUS_SPIE | (frame->status & SSTATUS_FS);
    frame->cause = 0;
}

void
arch_context_switch(struct arch_thread *previous, struct arch_thread *next)
{
    struct cpu *cpu = cpu_this();

    if (previous->fpu)
        fpu_sync(previous);
    if (next->fpu && fs_of(next) != 0) {
        registers_load(next->fpu);
        fs_set(next, FS_CLEAN);
    }
    cpu->arch.kernel_sp = next->stack_top;
    cpu->arch.stack_low = next->stack != 0 ? next->stack : cpu->arch.boot_stack;
    switch_stacks(&previous->sp, next->sp);
}

void
arch_thread_fork(struct arch_thread *child)
{
    struct arch_thread *parent = (struct arch_thread *)thread_current();

    arch_fpu_save(child->fpu);
    fs_set(child, fs_of(parent) != 0 ? FS_CLEAN : 0);
}

void
arch_thread_save(struct arch_thread *thread)
{
    uintptr_t state = irq_save();

    fpu_sync(thread);
    irq_restore(state);
}

void
arch_thread_reset(struct arch_thread *thread)
{
    (void)thread;
    arch_fpu_reset();
}

/* The thread pointer is an ordinary register. */
void
arch_thread_set_tls(struct arch_thread *thread, uintptr_t base)
{
    arch_user_frame(thread)->tp = base;
}
