/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_USER_RETURN_H
#define KERNEL_USER_RETURN_H

#include <arch.h>

/**
 * From entry.S, where need_resched or the thread's work is set, or the frame may not be
 * returned to: do what is to be done before user mode.  Interrupts off, and on return too.
 */
void trap_return_work(struct trap_frame *frame);

#endif
