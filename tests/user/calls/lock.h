/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_LOCK_H
#define TESTS_USER_CALLS_LOCK_H

/* What mlock, mlock2 and munlock have in common. */

#include "calls.h"

#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#define LOCKED()   status_kib("VmLck:")
#define KIB(pages) ((pages)*page / 1024)

#define LOCK(what, number, address, length, flag, want, flags) \
    {                                                          \
        what, number, {address, length, flag}, want, flags     \
    }

/* Rows that all three answer alike; @flag: of mlock2. */
#define LOCK_ROWS(number, flag)                                                    \
    LOCK("no length", number, AT(0), 0, flag, 0, 0),                               \
        LOCK("no length, nothing there", number, AT(HOLE_AT), 0, flag, 0, 0),      \
        LOCK("length wraps", number, AT(0), -page, flag, -EINVAL, 0),              \
        LOCK("a hole", number, AT(HOLE_AT), page, flag, -ENOMEM, 0),               \
        LOCK("starts in a hole", number, AT(HOLE_AT), 4 * page, flag, -ENOMEM, 0), \
        LOCK("runs into a hole", number, AT(3), 2 * page, flag, -ENOMEM, PARTIAL), \
        LOCK("past the end", number, USER_END, page, flag, -ENOMEM, 0),            \
        LOCK("a byte", number, AT(0) + 5, 1, flag, 0, PARTIAL),                    \
        LOCK("four pages", number, AT(0), 4 * page, flag, 0, PARTIAL),             \
        LOCK("shared", number, AT(SHARED_AT), 4 * page, flag, 0, PARTIAL),         \
        LOCK("a file", number, AT(FILE_SHARED_AT), 2 * page, flag, 0, PARTIAL)

#endif
