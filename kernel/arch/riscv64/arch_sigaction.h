/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_RISCV64_ARCH_SIGACTION_H
#define KERNEL_RISCV64_ARCH_SIGACTION_H

#include <signal.h>

/** struct sigaction of RISC-V, which has no restorer: see arch_sigreturn_code(). */
struct abi_sigaction {
    uint64_t handler;
    uint64_t flags;
    signal_set mask;
};

static inline struct signal_action
signal_action_of(const struct abi_sigaction *action)
{
    return (struct signal_action){action->handler, action->flags, 0, action->mask};
}

static inline struct abi_sigaction
abi_sigaction_of(const struct signal_action *action)
{
    return (struct abi_sigaction){action->handler, action->flags, action->mask};
}

#endif
