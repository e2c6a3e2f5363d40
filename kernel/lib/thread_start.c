/* SPDX-License-Identifier: MIT */
/*
 * How threads begin and end, as far as it is the same on every architecture.
 */
#include <kernel_stack.h>
#include <thread_start.h>

void
arch_thread_destroy(struct arch_thread *thread)
{
    stack_free(thread->stack);
    thread->stack = 0;
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
