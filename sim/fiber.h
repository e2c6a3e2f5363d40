/* SPDX-License-Identifier: MIT */
#ifndef SIM_FIBER_H
#define SIM_FIBER_H

/**
 * @file
 * Switching between stacks, with the sanitizers told.  A fiber with no stack of
 * its own stands for the host thread's.
 */

#include <stddef.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif

struct fiber {
    ucontext_t context;
    void *stack; /* lowest usable byte; NULL: the host thread's own */
    const void *bottom;
    size_t bytes;
    void *fake_stack; /* address sanitizer */
    void *tsan;
};

/** The calling host thread as a fiber. */
void fiber_of_thread(struct fiber *fiber);
/** A new fiber that will run @p start, which never returns. */
void fiber_create(struct fiber *fiber, void (*start)(void));
void fiber_destroy(struct fiber *fiber);
void fiber_switch(struct fiber *from, struct fiber *to);
/** The first thing that a new fiber does; @p from switched to it. */
void fiber_started(struct fiber *from);

#endif
