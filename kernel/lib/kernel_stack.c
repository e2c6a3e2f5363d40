/* SPDX-License-Identifier: MIT */
/*
 * Kernel stacks.  Each is a block of the kernel's area for them, with an unmapped
 * page on either side: an overflow faults instead of overwriting something.
 *
 * Freed stacks wait in a list for the next thread; unmapping a kernel page means
 * interrupting every CPU, which fork and exit must not pay.
 */
#include <arch.h>
#include <kernel_stack.h>
#include <memory.h>

#include <quire/lock.h>

#define STACKS_KEPT 128u

/** Lies in the lowest bytes of a stack that waits in the list. */
struct free_stack {
    struct free_stack *next;
};

static struct {
    struct qr_spin lock;
    struct free_stack *kept;
    unsigned kept_count;
} stacks = {.lock = QR_SPIN_INIT(QR_RANK_NONE)};

static uintptr_t
kept_pop(void)
{
    struct free_stack *stack;

    qr_spin_lock(&stacks.lock);
    stack = stacks.kept;
    if (stack != NULL) {
        stacks.kept = stack->next;
        stacks.kept_count--;
    }
    qr_spin_unlock(&stacks.lock);
    return (uintptr_t)stack;
}

static void
stacks_count(long stacks_more)
{
    qr_counter_add(qr_frames_counters(memory.frames), QR_PAGES_STACK,
                   stacks_more * (long)(KERNEL_STACK_BYTES / QR_PAGE_SIZE));
}

/* So that a node's share of stacks can be counted from its frames. */
static void
frames_mark(uintptr_t stack, bool is_stack)
{
    struct qr_entry entry;

    for (size_t at = 0; at < KERNEL_STACK_BYTES; at += QR_PAGE_SIZE) {
        if (!qr_tables_next(&memory.kernel_tables, qr_va_of(stack + at), &entry) ||
            entry.kind != QR_ENTRY_LEAF)
            continue;
        struct qr_frame *frame = qr_frame_find(memory.frames, qr_pa_to_pfn(entry.leaf.pa));

        if (frame == NULL)
            continue;
        if (is_stack)
            atomic_fetch_or_explicit(&frame->flags, QR_FRAME_STACK, memory_order_relaxed);
        else
            atomic_fetch_and_explicit(&frame->flags, ~QR_FRAME_STACK, memory_order_relaxed);
    }
}

static uintptr_t
stack_map(void)
{
    void *stack =
        qr_vmalloc(memory.areas[KERNEL_AREA_STACKS], KERNEL_STACK_BYTES, 0, "kernel stack");

    if (stack != NULL) {
        stacks_count(1);
        frames_mark((uintptr_t)stack, true);
    }
    return (uintptr_t)stack;
}

static void
stack_unmap(uintptr_t stack)
{
    frames_mark(stack, false); /* the area may hold the frames back for a while */
    qr_vfree(memory.areas[KERNEL_AREA_STACKS], (void *)stack);
    stacks_count(-1);
}

uintptr_t
stack_alloc(void)
{
    uintptr_t stack = kept_pop();

    return stack != 0 ? stack : stack_map();
}

void
stack_free(uintptr_t stack)
{
    struct free_stack *free = (struct free_stack *)stack;
    bool may_sleep = irq_enabled();
    bool keep;

    qr_spin_lock(&stacks.lock);
    keep = stacks.kept_count < STACKS_KEPT || !may_sleep;
    if (keep) {
        free->next = stacks.kept;
        stacks.kept = free;
        stacks.kept_count++;
    }
    qr_spin_unlock(&stacks.lock);
    if (!keep)
        stack_unmap(stack);
}

size_t
arch_thread_reap_stacks(void)
{
    size_t frames = 0;
    uintptr_t stack;

    while ((stack = kept_pop()) != 0) {
        stack_unmap(stack);
        frames += KERNEL_STACK_BYTES / QR_PAGE_SIZE;
    }
    return frames;
}
