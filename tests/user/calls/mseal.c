/* SPDX-License-Identifier: MIT */
/*
 * mseal(2), which Linux has since 6.10, for 64-bit programs.
 */
#include "calls.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define RW (PROT_READ | PROT_WRITE)
#define MSEAL(what, address, length, flags, want)                   \
    {                                                               \
        what, SYS_mseal, {address, length, flags, 0, 0, 0}, want, 0 \
    }

static long
seal(long address, long length)
{
    return call(SYS_mseal, address, length, 0, 0, 0, 0);
}

/* In a child, since what is sealed stays until its end: at its own place. */
static void
sealed(void)
{
    long at = 0x30000000, free = at + 64 * page;

    EXPECT(call(NR_MMAP, at, 8 * page, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
    *(volatile char *)(at + 2 * page) = 's';
    EXPECT(call(SYS_mprotect, at + 3 * page, page, PROT_READ, 0, 0, 0), 0);
    EXPECT(seal(at + 2 * page, 2 * page), 0);
    EXPECT(seal(at + 2 * page, 2 * page), 0); /* twice is fine */
    EXPECT(has_flag(at + 2 * page, "sl"), true);
    EXPECT(has_flag(at + page, "sl"), false);

    EXPECT(call(SYS_munmap, at + 2 * page, page, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_munmap, at, 8 * page, 0, 0, 0, 0), -EPERM);
    EXPECT(resident(at), 0); /* nothing of it went */
    EXPECT(call(SYS_mprotect, at + 2 * page, page, PROT_READ, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_pkey_mprotect, at + 2 * page, page, PROT_READ, -1, 0, 0), -EPERM);
    EXPECT(call(NR_MMAP, at + 2 * page, page, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
           -EPERM);
    EXPECT(call(SYS_mremap, at + 2 * page, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, free, 0),
           -EPERM);
    EXPECT(call(SYS_mremap, at + 2 * page, page, 2 * page, MREMAP_MAYMOVE, 0, 0), -EPERM);
    EXPECT(call(SYS_mremap, at + 2 * page, 2 * page, page, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_mremap, at, page, page, MREMAP_MAYMOVE | MREMAP_FIXED, at + 2 * page, 0),
           -EPERM);
    /* Writable memory may still be emptied by its owner, read-only may not. */
    EXPECT(call(SYS_madvise, at + 2 * page, page, MADV_DONTNEED, 0, 0, 0), 0);
    EXPECT(*(volatile char *)(at + 2 * page), 0);
    EXPECT(call(SYS_madvise, at + 3 * page, page, MADV_DONTNEED, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_madvise, at + 3 * page, page, MADV_FREE, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_madvise, at + 3 * page, page, MADV_DONTFORK, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_madvise, at + 3 * page, page, MADV_WIPEONFORK, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_madvise, at + 3 * page, page, MADV_RANDOM, 0, 0, 0), 0);
    /* Locking is no change of the mapping; the neighbours are free. */
    EXPECT(call(SYS_mlock, at + 2 * page, 2 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munlock, at + 2 * page, 2 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munmap, at, 2 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munmap, at + 4 * page, 4 * page, 0, 0, 0, 0), 0);
}

/* A split needs one mapping more than there may be. */
static void
full(void)
{
    EXPECT(call(SYS_mseal, AT(1), page, 0, 0, 0, 0), -ENOMEM);
}

static const struct documented documented[] = {
    {EINVAL, NULL},
    {ENOMEM, NULL},
    {EPERM, "of 32-bit machines alone, which have no such call"},
};

CALL(mseal, SYS_mseal, documented)
{
    const struct row rows[] = {
        MSEAL("flags", AT(0), page, 1, -EINVAL),
        MSEAL("not a page's start", AT(0) + 1, page, 0, -EINVAL),
        MSEAL("length wraps", AT(0), -1, 0, -EINVAL),
        MSEAL("end wraps", AT(0), -page, 0, -EINVAL),
        MSEAL("a hole", AT(HOLE_AT), page, 0, -ENOMEM),
        MSEAL("runs into a hole", AT(0), 5 * page, 0, -ENOMEM),
        MSEAL("across a hole", AT(0), 8 * page, 0, -ENOMEM),
        MSEAL("past the end", USER_END, page, 0, -ENOMEM),
        MSEAL("no length", AT(0), 0, 0, 0),
    };

    if (call(SYS_mseal, AT(0), 0, 0, 0, 0, 0) == -ENOSYS) {
        EXPECT(on_quire() && sizeof(long) == 8, false);
        return;
    }
    RUN(rows);
    EXPECT(in_child(sealed), 0);
    at_map_limit(full);
}
