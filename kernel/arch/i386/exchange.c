/* SPDX-License-Identifier: MIT */
/*
 * The block of a converted call (abi.h), and the smallest conversions.
 */
#include "abi.h"

int64_t
exchange_call(syscall_fn call, const struct syscall_args *args, void *block, size_t bytes)
{
    struct arch_thread *thread = (struct arch_thread *)thread_current();
    struct exchange exchange = {block, bytes};
    int64_t result;

    if (call == NULL)
        return -ENOSYS;
    thread->exchange = &exchange;
    result = call(args);
    thread->exchange = NULL;
    return result;
}

void *
arch_exchange(uint64_t address, size_t n)
{
    const struct exchange *exchange = ((struct arch_thread *)thread_current())->exchange;
    uint64_t offset;

    if (exchange == NULL || address < exchange_address(exchange->block))
        return NULL;
    offset = address - exchange_address(exchange->block);
    if (offset > exchange->bytes || n > exchange->bytes - offset)
        return NULL;
    return (char *)exchange->block + (size_t)offset;
}

int64_t
abi_times_read(struct abi_time *out, uint64_t address, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct abi_time32 time;

        if (user_read(&time, address + i * sizeof time, sizeof time) != 0)
            return -EFAULT;
        out[i] = (struct abi_time){time.seconds, time.fraction};
    }
    return 0;
}

int64_t
abi_times_write(uint64_t address, const struct abi_time *times, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct abi_time32 time = {(int32_t)times[i].seconds, (int32_t)times[i].fraction};

        if (user_write(address + i * sizeof time, &time, sizeof time) != 0)
            return -EFAULT;
    }
    return 0;
}
