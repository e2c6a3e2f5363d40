/* SPDX-License-Identifier: MIT */
/*
 * arch_prctl: the segment bases of the current thread.
 */
#include <arch.h>

#include "abi_errno.h"
#include "cpu.h"
#include "mm.h"
#include "syscall.h"

enum { ARCH_SET_GS = 0x1001, ARCH_SET_FS, ARCH_GET_FS, ARCH_GET_GS, ARCH_GET_CPUID = 0x1011 };

static uint64_t
fs_base_now(struct arch_thread *thread)
{
    uint64_t base = thread->fs_base;

    /* With FSGSBASE the program may have changed it itself. */
    if (cpu_features.fsgsbase)
        __asm__ volatile("rdfsbase %0" : "=r"(base));
    return base;
}

int64_t
sys_arch_prctl(const struct syscall_args *args)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    uint64_t value = args->arg[1];
    uintptr_t flags;

    switch ((uint32_t)args->arg[0]) {
    case ARCH_SET_FS:
        if (value >= mm_user_limit())
            return -EPERM;
        arch_thread_set_tls(thread, value);
        return 0;
    case ARCH_SET_GS:
        if (value >= mm_user_limit())
            return -EPERM;
        flags = irq_save();
        thread->gs_base = value;
        msr_write(MSR_KERNEL_GS_BASE, value);
        irq_restore(flags);
        return 0;
    case ARCH_GET_FS:
        return user_write_u64(value, fs_base_now(thread));
    case ARCH_GET_GS:
        flags = irq_save();
        uint64_t base = msr_read(MSR_KERNEL_GS_BASE);

        irq_restore(flags);
        return user_write_u64(value, base);
    case ARCH_GET_CPUID:
        return 1;
    default:
        return -EINVAL;
    }
}
