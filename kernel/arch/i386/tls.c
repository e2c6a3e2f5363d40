/* SPDX-License-Identifier: MIT */
/*
 * Thread pointers: three entries of the GDT that belong to the running thread, for
 * GS or FS to name.  Only flat 32-bit data segments are granted, as by Linux.
 */
#include "abi.h"
#include "arch_abi.h"
#include "cpu.h"
#include "proc.h"

/** struct user_desc */
struct user_descriptor {
    uint32_t entry, base, limit;
    uint32_t seg_32bit : 1;
    uint32_t contents : 2;
    uint32_t read_exec_only : 1;
    uint32_t limit_in_pages : 1;
    uint32_t seg_not_present : 1;
    uint32_t useable : 1;
    uint32_t unused : 25;
};

_Static_assert(sizeof(struct user_descriptor) == 16, "Linux ABI");

#define ENTRY_ANY UINT32_MAX

/* Both ways of saying "none". */
static bool
is_empty(const struct user_descriptor *d)
{
    bool zero =
        d->base == 0 && d->limit == 0 && d->contents == 0 && !d->limit_in_pages && !d->useable;

    return zero && ((d->read_exec_only && d->seg_not_present && !d->seg_32bit) ||
                    (!d->read_exec_only && !d->seg_not_present && !d->seg_32bit));
}

/* Data that grows up or down, 32-bit and present: nothing that the kernel could trip over. */
static bool
is_acceptable(const struct user_descriptor *d)
{
    return is_empty(d) || (d->seg_32bit && d->contents <= 1 && !d->seg_not_present);
}

static x86_descriptor
descriptor_of(const struct user_descriptor *d)
{
    /* Accessed, S, DPL 3, present. */
    uint32_t high = 0xf100;

    if (is_empty(d))
        return 0;
    high |= (d->base >> 16 & 0xff) | (d->base & 0xff000000) | (d->limit & 0xf0000);
    high |= (uint32_t)!d->read_exec_only << 9 | (uint32_t)d->contents << 10;
    high |= (uint32_t)d->useable << 20 | (uint32_t)d->seg_32bit << 22;
    high |= (uint32_t)d->limit_in_pages << 23;
    return (uint64_t)high << 32 | d->base << 16 | (d->limit & 0xffff);
}

static struct user_descriptor
user_descriptor_of(x86_descriptor descriptor, uint32_t entry)
{
    uint32_t low = (uint32_t)descriptor;
    uint32_t high = (uint32_t)(descriptor >> 32);

    if (descriptor == 0)
        return (struct user_descriptor){.entry = entry, .read_exec_only = 1, .seg_not_present = 1};
    return (struct user_descriptor){
        .entry = entry,
        .base = low >> 16 | (high & 0xff) << 16 | (high & 0xff000000),
        .limit = (low & 0xffff) | (high & 0xf0000),
        .seg_32bit = high >> 22 & 1,
        .contents = high >> 10 & 3,
        .read_exec_only = !(high >> 9 & 1),
        .limit_in_pages = high >> 23 & 1,
        .useable = high >> 20 & 1,
    };
}

static bool
is_tls_entry(uint32_t entry)
{
    return entry >= TLS_ENTRY_FIRST && entry < TLS_ENTRY_FIRST + TLS_ENTRIES;
}

static void
tls_set(struct arch_thread *thread, uint32_t entry, x86_descriptor descriptor)
{
    uintptr_t state = irq_save();

    thread->tls[entry - TLS_ENTRY_FIRST] = descriptor;
    if (thread == (struct arch_thread *)thread_current())
        descriptors_set_tls(entry - TLS_ENTRY_FIRST, descriptor);
    irq_restore(state);
}

int64_t
abi_set_thread_area(const struct syscall_args *args)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    struct user_descriptor user;

    if (user_read(&user, args->arg[0], sizeof user) != 0)
        return -EFAULT;
    if (!is_acceptable(&user))
        return -EINVAL;
    if (user.entry == ENTRY_ANY) {
        unsigned i = 0;

        while (i < TLS_ENTRIES && thread->tls[i] != 0)
            i++;
        if (i == TLS_ENTRIES)
            return -ESRCH;
        user.entry = TLS_ENTRY_FIRST + i;
        if (user_write_u32(args->arg[0], user.entry) != 0)
            return -EFAULT;
    }
    if (!is_tls_entry(user.entry))
        return -EINVAL;
    tls_set(thread, user.entry, descriptor_of(&user));
    return 0;
}

int64_t
abi_get_thread_area(const struct syscall_args *args)
{
    const struct arch_thread *thread = (struct arch_thread *)thread_current();
    struct user_descriptor user;
    uint32_t entry;

    if (user_read_u32(&entry, args->arg[0]) != 0)
        return -EFAULT;
    if (!is_tls_entry(entry))
        return -EINVAL;
    user = user_descriptor_of(thread->tls[entry - TLS_ENTRY_FIRST], entry);
    return user_write(args->arg[0], &user, sizeof user);
}

/* ---- clone --------------------------------------------------------------------------------- */

/*
 * The thread pointer of a new thread is a descriptor in memory.  It is checked before
 * anything is made; a program that changes it meanwhile gets the thread without.
 */
static int64_t
tls_check(uint64_t address)
{
    struct user_descriptor user;

    if (user_read(&user, address, sizeof user) != 0)
        return -EFAULT;
    return is_acceptable(&user) && is_tls_entry(user.entry) ? 0 : -EINVAL;
}

void
arch_thread_set_tls(struct arch_thread *thread, uintptr_t base)
{
    struct user_descriptor user;

    if (user_read(&user, base, sizeof user) == 0 && is_acceptable(&user) &&
        is_tls_entry(user.entry))
        tls_set(thread, user.entry, descriptor_of(&user));
}

#define CLONE_SETTLS 0x80000u

int64_t
abi_clone(const struct syscall_args *args)
{
    int64_t error = args->arg[0] & CLONE_SETTLS ? tls_check(args->arg[ARCH_CLONE_TLS]) : 0;

    return error != 0 ? error : sys_clone(args);
}

/* Of its structure only the flags and the thread pointer matter here. */
enum { CLONE3_TLS_OFFSET = 56, CLONE3_TLS_END = 64 };

int64_t
abi_clone3(const struct syscall_args *args)
{
    uint64_t flags;
    uint64_t tls;
    int64_t error = 0;

    if (args->arg[1] >= CLONE3_TLS_END) {
        if (user_read_u64(&flags, args->arg[0]) != 0 ||
            user_read_u64(&tls, args->arg[0] + CLONE3_TLS_OFFSET) != 0)
            return -EFAULT;
        if (flags & CLONE_SETTLS)
            error = tls_check(tls);
    }
    return error != 0 ? error : sys_clone3(args);
}
