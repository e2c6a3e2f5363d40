/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MM_NAP_H
#define KERNEL_MM_NAP_H

/*
 * Threads that work a little, sleep for some milliseconds, and are steered by numbers in sysfs
 * meanwhile: khugepaged, ksmd.
 */

#include <stdatomic.h>

#include "sched.h"
#include "fs/text.h"

struct nap {
    struct timer timer;
    _Atomic uint32_t wanted; /* changes that the thread is to see */
};

void nap_init(struct nap *nap);
/** Wake the thread, or keep it from sleeping if it has not seen this. Any context. */
void nap_end(struct nap *nap);

/** What the thread has seen when it looks at its numbers. */
static inline uint32_t
nap_seen(const struct nap *nap)
{
    return atomic_load(&nap->wanted);
}

/** Sleep until @ms have passed (0: without end), or there is a change since nap_seen(). */
void nap_begin(struct nap *nap, uint32_t seen, uint64_t ms);

/* A number's node: @variable, which is at most @most; @changed is called after each change. */
#define NUMBER_NODE(name, variable, most, changed)                                                 \
    static void show_##name(const struct text_target *target, struct qr_writer *writer)            \
    {                                                                                              \
        (void)target;                                                                              \
        qr_writer_printf(writer, "%u\n", (unsigned)atomic_load(&(variable)));                      \
    }                                                                                              \
    static int64_t store_##name(const struct text_target *target, const char *text, size_t length) \
    {                                                                                              \
        uint64_t value;                                                                            \
        int64_t error = text_number(text, length, (most), &value);                                 \
                                                                                                   \
        (void)target;                                                                              \
        if (error != 0)                                                                            \
            return error;                                                                          \
        atomic_store(&(variable), (uint32_t)value);                                                \
        changed();                                                                                 \
        return 0;                                                                                  \
    }

#endif
