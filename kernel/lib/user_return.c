/* SPDX-License-Identifier: MIT */
/*
 * What is done before user mode, as far as it is the same on every architecture.
 */
#include <user_return.h>

/*
 * Each round may make new work; the loop ends because a thread that always has
 * more is one that somebody keeps signalling, and it gives way in between.
 */
void
trap_return_work(struct trap_frame *frame)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();

    for (;;) {
        if (atomic_load_explicit(&cpu_this()->need_resched, memory_order_relaxed)) {
            sched_preempt();
        } else if (atomic_load_explicit(&thread->work, memory_order_relaxed)) {
            irq_enable();
            thread_return_work(frame);
            irq_disable();
        } else if (!frame_can_return(frame)) {
            irq_enable();
            trap_user_fault(frame, TRAP_PROTECTION, frame_ip(frame));
            irq_disable();
        } else {
            return;
        }
    }
}
