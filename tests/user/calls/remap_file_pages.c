/* SPDX-License-Identifier: MIT */
/*
 * remap_file_pages(2): as Linux since 4.0, another mapping of the pages.
 */
#include "calls.h"

#include <sys/ipc.h>
#include <sys/shm.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x10
#endif

#define REMAP(what, address, length, rights, first, flags, want)                        \
    {                                                                                   \
        what, SYS_remap_file_pages, {address, length, rights, first, flags, 0}, want, 0 \
    }

static long
remap(long address, long length, long first)
{
    return call(SYS_remap_file_pages, address, length, 0, first, 0, 0);
}

/* Of a file that was sealed since it was mapped. */
static void
sealed(void)
{
    int fd = (int)call(SYS_memfd_create, (long)"sealed", MFD_ALLOW_SEALING, 0, 0, 0, 0);

    EXPECT(ftruncate(fd, 2 * page), 0);
    EXPECT(
        call(NR_MMAP, AT(FREE_AT), 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0),
        AT(FREE_AT));
    EXPECT(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
    EXPECT(remap(AT(FREE_AT), page, 1), -EPERM);
    EXPECT(has_flag(AT(FREE_AT), "sh"), true);
    EXPECT(call(NR_MMAP, AT(FREE_AT), page, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0), AT(FREE_AT));
    EXPECT(has_flag(AT(FREE_AT), "sh") && !has_flag(AT(FREE_AT), "mw"), true);
    close(fd);
}

/* A segment that was removed stays while some of it is mapped, and no longer. */
static void
removed(void)
{
    int id = shmget(IPC_PRIVATE, (size_t)(2 * page), 0600);
    long at = AT(FREE_AT);

    arena_make();
    EXPECT((long)shmat(id, (void *)at, 0), at);
    EXPECT(remap(at, 2 * page, 0), 0);
    EXPECT(shmctl(id, IPC_RMID, NULL), 0);
    PTR(FREE_AT + 1)[0] = 'r';
    EXPECT(remap(at, page, 1), 0);
    EXPECT(PTR(FREE_AT)[0], 'r');
    EXPECT(remap(at, 2 * page, 0), -EINVAL);
    EXPECT(resident(at), -1);
    EXPECT(resident(at + page), -1);
}

/* A part in the middle needs mappings that there may not be. */
static void
full(void)
{
    EXPECT(remap(AT(SHARED_AT + 1), page, 3), -ENOMEM);
    EXPECT(PTR(SHARED_AT + 1)[0], 'T');
    EXPECT(remap(AT(SHARED_AT), 4 * page, 1), -ENOMEM);
}

static const struct documented documented[] = {
    {EINVAL, NULL},
};

CALL(remap_file_pages, SYS_remap_file_pages, documented)
{
    const struct row rows[] = {
        REMAP("rights", AT(SHARED_AT), page, PROT_READ, 0, 0, -EINVAL),
        REMAP("no length", AT(SHARED_AT), 0, 0, 0, 0, -EINVAL),
        REMAP("less than a page", AT(SHARED_AT), page - 1, 0, 0, 0, -EINVAL),
        REMAP("end wraps", AT(SHARED_AT), -page, 0, 0, 0, -EINVAL),
        REMAP("a hole", AT(HOLE_AT), page, 0, 0, 0, -EINVAL),
        REMAP("private", AT(RW_AT), page, 0, 0, 0, -EINVAL),
        REMAP("private of a file", AT(FILE_PRIVATE_AT), page, 0, 0, 0, -EINVAL),
        REMAP("no rights, private", AT(NONE_AT), page, 0, 0, 0, -EINVAL),
        REMAP("runs into a hole", AT(HOLE_AT - 4), 6 * page, 0, 0, 0, -EINVAL),
        REMAP("past the end", USER_END, page, 0, 0, 0, -EINVAL),
        REMAP("runs past the mapping", AT(SHARED_AT), 6 * page, 0, 0, 0, -EINVAL),
        REMAP("page numbers wrap", AT(SHARED_AT), 2 * page, 0, -1, 0, -EINVAL),
        REMAP("flags without a meaning", AT(SHARED_AT), page, 0, 1, MAP_NONBLOCK, 0),
        REMAP("shared memory", AT(SHARED_AT), page, 0, 1, 0, 0),
        REMAP("a file", AT(FILE_SHARED_AT), page, 0, 1, 0, 0),
        REMAP("a file open for reading", AT(FILE_RO_AT), page, 0, 1, 0, -EINVAL),
        REMAP("past the file", AT(FILE_SHARED_AT), page, 0, 7, 0, 0),
    };

    RUN(rows);
    arena_make();
    EXPECT(mlock((void *)AT(SHARED_AT), (size_t)(4 * page)), 0);
    EXPECT(remap(AT(SHARED_AT), page, 1), 0); /* stays locked */
    EXPECT(has_flag(AT(SHARED_AT), "lo"), true);
    EXPECT(status_kib("VmLck:"), 4 * page / 1024);
    arena_make();
    EXPECT(remap(AT(SHARED_AT) + 5, page, 3), 0); /* the pages of the range */
    EXPECT(PTR(SHARED_AT)[0], 'V');
    EXPECT(PTR(SHARED_AT + 1)[0], 'T');
    PTR(SHARED_AT)[0] = 'x';
    EXPECT(PTR(SHARED_AT + 3)[0], 'x');
    EXPECT(remap(AT(SHARED_AT + 2), 2 * page, 0), 0);
    EXPECT(PTR(SHARED_AT + 2)[0], 'S');
    EXPECT(PTR(SHARED_AT + 3)[0], 'T');
    EXPECT(strcmp(rights_at(AT(SHARED_AT)), "rw-s"), 0);
    sealed();
    removed();
    at_map_limit(full);
}
