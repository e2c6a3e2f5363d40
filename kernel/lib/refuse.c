/* SPDX-License-Identifier: MIT */
/*
 * Refused allocations.
 *
 * The armed thread is named by one word, which costs every other allocation one load and one
 * branch.  Only the armed thread touches the counter, and an interrupt on its CPU counts as the
 * thread: an allocation there may be the one that fails, which is as fair as any.
 */
#include "refuse.h"

#include "memory.h"

_Atomic(struct thread *) refuse_thread;
uint32_t refuse_left;

/* Page frames count as heap blocks do. */
static bool
refuse_frame(void *context)
{
    (void)context;
    return refuse_now();
}

bool
refuse_arm(uint32_t nth)
{
    struct thread *me = thread_current(), *armed = NULL;

    if (!atomic_compare_exchange_strong(&refuse_thread, &armed, me) && armed != me)
        return false;
    refuse_left = nth;
    qr_frames_set_refusal(memory.frames, nth == 0 ? NULL : refuse_frame, NULL);
    if (nth == 0)
        atomic_store(&refuse_thread, NULL);
    return true;
}

uint32_t
refuse_remaining(void)
{
    return atomic_load(&refuse_thread) == thread_current() ? refuse_left : 0;
}

void
refuse_forget(struct thread *thread)
{
    struct thread *armed = thread;

    atomic_compare_exchange_strong(&refuse_thread, &armed, NULL);
}
