/* SPDX-License-Identifier: MIT */
/*
 * Every atomic operation of the core as a point of pre-emption.
 *
 * The core is compiled with -fsanitize=thread, which turns each of its atomic
 * operations into a call, and linked with this file in the place of the thread
 * sanitizer's own library.  So the seeded scheduler may switch before any of
 * them, and the core's source knows nothing of it.  Plain reads and writes are
 * passed over: they are protected by locks, which are atomic operations.
 *
 * The memory order is strengthened to sequential consistency: one thread runs
 * at a time, so weaker orders cannot show here.  That is what models (T7) and
 * the thread sanitizer are for.
 */
#include "sim.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define ATOMIC(bits, type)                                                                         \
    type __tsan_atomic##bits##_load(const volatile type *at, int order);                           \
    void __tsan_atomic##bits##_store(volatile type *at, type value, int order);                    \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile type *at, type *expected,           \
                                                      type value, int success, int failure);       \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile type *at, type *expected, type value, \
                                                    int success, int failure);                     \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value,  \
                                                    int success, int failure);                     \
    type __tsan_atomic##bits##_load(const volatile type *at, int order)                            \
    {                                                                                              \
        (void)order;                                                                               \
        sim_preempt();                                                                             \
        return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                              \
    }                                                                                              \
    void __tsan_atomic##bits##_store(volatile type *at, type value, int order)                     \
    {                                                                                              \
        (void)order;                                                                               \
        sim_preempt();                                                                             \
        __atomic_store_n(at, value, __ATOMIC_SEQ_CST);                                             \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile type *at, type *expected,           \
                                                      type value, int success, int failure)        \
    {                                                                                              \
        (void)success;                                                                             \
        (void)failure;                                                                             \
        sim_preempt();                                                                             \
        return __atomic_compare_exchange_n(at, expected, value, false, __ATOMIC_SEQ_CST,           \
                                           __ATOMIC_SEQ_CST);                                      \
    }                                                                                              \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile type *at, type *expected, type value, \
                                                    int success, int failure)                      \
    {                                                                                              \
        (void)success;                                                                             \
        (void)failure;                                                                             \
        sim_preempt();                                                                             \
        return __atomic_compare_exchange_n(at, expected, value, true, __ATOMIC_SEQ_CST,            \
                                           __ATOMIC_SEQ_CST);                                      \
    }                                                                                              \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value,  \
                                                    int success, int failure)                      \
    {                                                                                              \
        (void)success;                                                                             \
        (void)failure;                                                                             \
        sim_preempt();                                                                             \
        __atomic_compare_exchange_n(at, &expected, value, false, __ATOMIC_SEQ_CST,                 \
                                    __ATOMIC_SEQ_CST);                                             \
        return expected;                                                                           \
    }

#define CHANGE(bits, type, name)                                                 \
    type __tsan_atomic##bits##_##name(volatile type *at, type value, int order); \
    type __tsan_atomic##bits##_##name(volatile type *at, type value, int order)  \
    {                                                                            \
        (void)order;                                                             \
        sim_preempt();                                                           \
        return __atomic_##name(at, value, __ATOMIC_SEQ_CST);                     \
    }

#define EXCHANGE(bits, type)                                                       \
    type __tsan_atomic##bits##_exchange(volatile type *at, type value, int order); \
    type __tsan_atomic##bits##_exchange(volatile type *at, type value, int order)  \
    {                                                                              \
        (void)order;                                                               \
        sim_preempt();                                                             \
        return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST);                   \
    }

#define ALL(bits, type)           \
    ATOMIC(bits, type)            \
    EXCHANGE(bits, type)          \
    CHANGE(bits, type, fetch_add) \
    CHANGE(bits, type, fetch_sub) \
    CHANGE(bits, type, fetch_and) \
    CHANGE(bits, type, fetch_or)  \
    CHANGE(bits, type, fetch_xor)

ALL(8, uint8_t)
ALL(16, uint16_t)
ALL(32, uint32_t)
ALL(64, uint64_t)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void
__tsan_atomic_thread_fence(int order)
{
    (void)order;
    sim_preempt();
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void
__tsan_atomic_signal_fence(int order)
{
    (void)order;
}

/* ---- Plain accesses: nothing -------------------------------------------------------- */

#define PLAIN(name)               \
    void __tsan_##name(void *at); \
    void __tsan_##name(void *at)  \
    {                             \
        (void)at;                 \
    }
#define SIZES(name) \
    PLAIN(name##1)  \
    PLAIN(name##2)  \
    PLAIN(name##4)  \
    PLAIN(name##8)  \
    PLAIN(name##16)

SIZES(read)
SIZES(write)
SIZES(unaligned_read)
SIZES(unaligned_write)
SIZES(volatile_read)
SIZES(volatile_write)
SIZES(read_write)
PLAIN(func_entry)

void __tsan_init(void);
void __tsan_func_exit(void);
void __tsan_read_range(void *at, size_t bytes);
void __tsan_write_range(void *at, size_t bytes);

void
__tsan_init(void)
{
}

void
__tsan_func_exit(void)
{
}

void
__tsan_read_range(void *at, size_t bytes)
{
    (void)at;
    (void)bytes;
}

void
__tsan_write_range(void *at, size_t bytes)
{
    (void)at;
    (void)bytes;
}

/* ---- clang's, from version 15 on ------------------------------------------------------ */

void *__tsan_memcpy(void *to, const void *from, size_t bytes);
void *__tsan_memmove(void *to, const void *from, size_t bytes);
void *__tsan_memset(void *at, int value, size_t bytes);

void *
__tsan_memcpy(void *to, const void *from, size_t bytes)
{
    return memcpy(to, from, bytes);
}

void *
__tsan_memmove(void *to, const void *from, size_t bytes)
{
    return memmove(to, from, bytes);
}

void *
__tsan_memset(void *at, int value, size_t bytes)
{
    return memset(at, value, bytes);
}
