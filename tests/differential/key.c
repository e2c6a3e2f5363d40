/* SPDX-License-Identifier: MIT */
/*
 * Protection keys.  Where the CPU has none they cannot be had, and one side is as good as the
 * other; where it has some, what a thread may do with a key is a register of its own.
 */
#include "differential.h"

#include <sys/syscall.h>

/* Without any, x86's Linux says EINVAL, where pkey_alloc(2) promises ENOSPC, which is Quire's. */
static void
alloc_execute(const uintptr_t *arg)
{
    if (machine_has_keys() || arg[0] != 0 || arg[1] > 3)
        say_result(call(SYS_pkey_alloc, arg[0], arg[1]));
    else
        say(call(SYS_pkey_alloc, arg[0], arg[1]) < 0 ? " none" : " one");
}

/* A handler begins with the rights that every program begins with; what it had comes back. */
static void
signal_execute(const uintptr_t *arg)
{
    uint32_t seen[2];

    if (!machine_has_keys()) {
        say(" none");
        return;
    }
    machine_signal_rights((unsigned)arg[0] % 16, (unsigned)arg[1] % 4, seen);
    say(" in %x after %x", seen[0], seen[1]);
}

void
key_execute(enum op_kind kind, const uintptr_t *arg)
{
    switch (kind) {
    case OP_KEY_ALLOC:
        alloc_execute(arg);
        break;
    case OP_KEY_FREE:
        say_result(call(SYS_pkey_free, arg[0]));
        break;
    case OP_KEY_PROTECT:
        say_result(call(SYS_pkey_mprotect, arg[0], arg[1], arg[2], arg[3]));
        break;
    case OP_KEY_SIGNAL:
        signal_execute(arg);
        break;
    default:
        if (machine_has_keys())
            machine_set_rights((unsigned)arg[0] % 16, (unsigned)arg[1] % 4);
        say(machine_has_keys() ? " ok" : " none");
        break;
    }
}
