/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_KERNEL_STACK_H
#define KERNEL_KERNEL_STACK_H

#include <stdint.h>

/** A kernel stack of KERNEL_STACK_BYTES with its guards: the lowest byte; 0 where memory is short. */
uintptr_t stack_alloc(void);

/** Any context; with interrupts off the stack is kept for reuse. */
void stack_free(uintptr_t stack);

#endif
