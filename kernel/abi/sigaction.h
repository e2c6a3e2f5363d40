/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ABI_SIGACTION_H
#define KERNEL_ABI_SIGACTION_H

#include <signal.h>

/** struct sigaction as the kernel sees it, with a restorer: x86-64 and AArch64. */
struct abi_sigaction {
    uint64_t handler;
    uint64_t flags;
    uint64_t restorer;
    signal_set mask;
};

static inline struct signal_action
signal_action_of(const struct abi_sigaction *action)
{
    return (struct signal_action){action->handler, action->flags, action->restorer, action->mask};
}

static inline struct abi_sigaction
abi_sigaction_of(const struct signal_action *action)
{
    return (struct abi_sigaction){action->handler, action->flags, action->restorer, action->mask};
}

#endif
