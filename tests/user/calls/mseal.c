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
    EXPECT(call(SYS_madvise, at + 3 * page, page, MADV_DODUMP, 0, 0, 0), 0);
    /* No other way of taking its place. */
    EXPECT(call(SYS_mremap, at + 2 * page, page, page, MREMAP_MAYMOVE | 4, 0, 0), -EPERM);
    EXPECT(call(SYS_munmap, at + 3 * page, 2 * page, 0, 0, 0, 0), -EPERM);
    EXPECT(call(SYS_mprotect, at, 8 * page, PROT_READ, 0, 0, 0), -EPERM);
    EXPECT(strcmp(rights_at(at), is_since(6, 12) ? "r--p" : "rw-p"), 0); /* what lies before it */
    /* Locking is no change of the mapping; the neighbours are free. */
    EXPECT(call(SYS_mlock, at + 2 * page, 2 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munlock, at + 2 * page, 2 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munmap, at, 2 * page, 0, 0, 0, 0), 0);
    EXPECT(call(SYS_munmap, at + 4 * page, 4 * page, 0, 0, 0, 0), 0);
}

/* Of a file nothing is kept, private pages neither. */
static void
sealed_files(void)
{
    long at = 0x30000000;

    EXPECT(call(NR_MMAP, at, page, RW, MAP_PRIVATE | MAP_FIXED, file_rw, 0), at);
    *(volatile char *)at = 'p';
    EXPECT(call(SYS_mprotect, at, page, PROT_READ, 0, 0, 0), 0);
    EXPECT(seal(at, page), 0);
    EXPECT(call(SYS_madvise, at, page, MADV_DONTNEED, 0, 0, 0), 0);
    at += 4 * page;
    EXPECT(call(NR_MMAP, at, page, PROT_READ, MAP_SHARED | MAP_FIXED, file_rw, 0), at);
    EXPECT(seal(at, page), 0);
    EXPECT(call(SYS_madvise, at, page, MADV_DONTNEED, 0, 0, 0), 0);
    EXPECT(call(SYS_madvise, at, page, MADV_DONTFORK, 0, 0, 0), 0);
    EXPECT(call(SYS_remap_file_pages, at, page, 0, 0, 0, 0), -EPERM);
}

/* The break. */
static void
sealed_heap(void)
{
    long now = (call(SYS_brk, 0, 0, 0, 0, 0, 0) + page - 1) & -page;

    EXPECT(call(SYS_brk, now + 4 * page, 0, 0, 0, 0, 0), now + 4 * page);
    EXPECT(seal(now + 2 * page, page), 0);
    EXPECT(call(SYS_brk, now + 3 * page, 0, 0, 0, 0, 0), now + 3 * page);
    EXPECT(call(SYS_brk, now, 0, 0, 0, 0, 0), now + 3 * page);
    EXPECT(resident(now + 2 * page) >= 0, true);
}

/* A child's memory is sealed as its parent's; the next program's is not. */
static void
child_is_sealed(void)
{
    EXPECT(call(SYS_munmap, AT(0), page, 0, 0, 0, 0), -EPERM);
}

static void
inherited(void)
{
    arena_make();
    EXPECT(seal(AT(0), page), 0);
    EXPECT(in_child(child_is_sealed), 0);
}

#ifdef __x86_64__
/* What a key denies may not be written, either. */
static void
sealed_by_key(void)
{
    long at = 0x30000000, key = call(SYS_pkey_alloc, 0, 2, 0, 0, 0, 0);

    if (key < 0)
        return;
    EXPECT(call(NR_MMAP, at, page, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), at);
    EXPECT(call(SYS_pkey_mprotect, at, page, RW, key, 0, 0), 0);
    EXPECT(seal(at, page), 0);
    EXPECT(call(SYS_madvise, at, page, MADV_DONTNEED, 0, 0, 0), -EPERM);
    __asm__ volatile("wrpkru" : : "a"(0), "c"(0), "d"(0) : "memory");
    EXPECT(call(SYS_madvise, at, page, MADV_DONTNEED, 0, 0, 0), 0);
}
#endif

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
    EXPECT(in_child(sealed_files), 0);
    EXPECT(in_child(sealed_heap), 0);
    EXPECT(in_child(inherited), 0);
#ifdef __x86_64__
    EXPECT(in_child(sealed_by_key), 0);
#endif
    at_map_limit(full);
}
