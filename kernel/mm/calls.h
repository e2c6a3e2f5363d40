/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_MM_CALLS_H
#define KERNEL_MM_CALLS_H

/* What the files of memory calls share. */

#include <quire/space.h>

#include "abi_errno.h"
#include "memory.h"
#include "mm.h"
#include "proc.h"
#include "syscall.h"

enum { CAP_IPC_LOCK = 14, CAP_SYS_ADMIN = 21, CAP_SYS_NICE = 23 };

static inline struct qr_space *
current_space(void)
{
    return thread_current()->space;
}

/** The error number, negated, of a call that ended with @status. */
int64_t error_of(enum qr_status status);

/** Round a length up to pages; false where that wraps, which leaves 0, as Linux's PAGE_ALIGN. */
static inline bool
round_length(uint64_t *length)
{
    uintptr_t rounded = (uintptr_t)((*length + QR_PAGE_MASK) & ~(uint64_t)QR_PAGE_MASK);
    bool fits = rounded >= *length;

    *length = rounded;
    return fits;
}

/** Does a range of whole pages end beyond the last address? */
static inline bool
range_wraps(uint64_t start, uint64_t length)
{
    return length > UINTPTR_MAX - start;
}

static inline bool
is_in_user_half(uint64_t start, uint64_t length)
{
    return length <= mm_user_limit() && start <= mm_user_limit() - length;
}

/** The same where a range outside of the user half is not mapped, rather than nonsense. */
static inline int64_t
mapped_error_of(enum qr_status status)
{
    return status == QR_ERR_RANGE ? -ENOMEM : error_of(status);
}

/** May the process lock memory at all? */
static inline bool
may_lock(void)
{
    return process_limit(RLIMIT_MEMLOCK) != 0 || process_has_capability(CAP_IPC_LOCK);
}

/** May the process use protection key @key? */
bool key_is_allocated(int key);
/** The key of memory that may only be executed, which the thread gets no rights for; 0: none. */
unsigned key_execute_only(void);

/** One element of the user's iovec. */
struct user_piece {
    uintptr_t base;
    size_t length;
};
/**
 * The pieces of an iovec array of the user, which lie in its half of the address space, cut where
 * they are longer together than what one call moves; freed by the caller. @return 0 or -errno
 */
int64_t import_pieces(uint64_t address, uint64_t count, struct user_piece **out);

#endif
