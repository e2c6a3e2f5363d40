/* SPDX-License-Identifier: MIT */
/*
 * Protection keys: which of them a process has.
 *
 * A page has a key (pkey_mprotect), a thread has rights for each key, which it changes without
 * asking us.  Here is only who has which key.  Key 0 is everybody's from the start, and may be
 * freed and allocated like any other.
 *
 * Memory that may be executed and nothing else gets a key that nobody has rights for, since page
 * tables cannot say that: the first such mapping takes one, and the process keeps it.
 * pkey_free() and pkey_mprotect() do not know that key.
 */
#include "calls.h"

enum { PKEY_DISABLE_ACCESS = 1, PKEY_DISABLE_WRITE = 2 };

/* Take the lowest free key from @first on; -1: there is none. */
static int
key_take(struct mm *mm, unsigned first)
{
    int key = -1;

    qr_spin_lock(&mm->lock);
    for (unsigned i = first; i < arch_pkey_count() && key < 0; i++) {
        if ((mm->keys >> i & 1) == 0)
            key = (int)i;
    }
    if (key >= 0)
        mm->keys |= 1u << key;
    qr_spin_unlock(&mm->lock);
    return key;
}

bool
key_is_allocated(int key)
{
    struct mm *mm = process_current()->mm;

    return key >= 0 && key < (int)arch_pkey_count() &&
           (key == 0 || key != mm->space->execute_only_key) && (mm->keys >> key & 1) != 0;
}

unsigned
key_execute_only(void)
{
    struct mm *mm = process_current()->mm;
    struct qr_space *space = mm->space;
    int key = key_take(mm, 1); /* 0 stands for none */

    if (key < 0 && space->execute_only_key == 0)
        return 0;
    qr_rw_write_lock(&space->lock);
    bool first = key > 0 && space->execute_only_key == 0;

    if (first)
        space->execute_only_key = (uint8_t)key;
    qr_rw_write_unlock(&space->lock);
    if (!first && key > 0) {
        qr_spin_lock(&mm->lock);
        mm->keys &= ~(1u << key);
        qr_spin_unlock(&mm->lock);
    }
    arch_pkey_set_rights(space->execute_only_key, PKEY_DISABLE_ACCESS);
    return space->execute_only_key;
}

int64_t
sys_pkey_alloc(const struct syscall_args *args)
{
    int key;

    if (args->arg[0] != 0 ||
        (args->arg[1] & ~(uint64_t)(PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE)) != 0)
        return -EINVAL;
    key = key_take(process_current()->mm, 0);
    if (key < 0)
        return -ENOSPC;
    arch_pkey_set_rights((unsigned)key, (unsigned)args->arg[1]);
    return key;
}

/* Mappings that have the key keep it, as in Linux. */
int64_t
sys_pkey_free(const struct syscall_args *args)
{
    struct mm *mm = process_current()->mm;
    int key = (int)args->arg[0];
    int64_t error = -EINVAL;

    qr_spin_lock(&mm->lock);
    if (key_is_allocated(key)) {
        mm->keys &= ~(1u << key);
        error = 0;
    }
    qr_spin_unlock(&mm->lock);
    return error;
}
