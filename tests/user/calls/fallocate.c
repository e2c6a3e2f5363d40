/* SPDX-License-Identifier: MIT */
/*
 * fallocate(2), of files in memory.
 */
#include "calls.h"

#include <linux/falloc.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { FILE_AT = 20, SEALED_AT }; /* descriptors */
#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define FALLOCATE(what, fd, mode, offset, length, want)                      \
    {                                                                        \
        what, SYS_fallocate, {fd, mode, WIDE(offset), WIDE(length)}, want, 0 \
    }

static const struct documented documented[] = {
    {EBADF, NULL},
    {EFBIG, NULL},
    {EINTR, "no signal can be told to come in the midst of it"},
    {EINVAL, NULL},
    {EIO, "memory has no errors of that kind"},
    {ENODEV, NULL},
    {ENOSPC, NULL},
    {ENOSYS, "of other kernels"},
    {EOPNOTSUPP, NULL},
    {EPERM, NULL},
    {ESPIPE, NULL},
    {ETXTBSY, "of modes that move bytes, which files in memory do not have"},
};

static void
files(void)
{
    int fd = memfd_create("y", 0), sealed = memfd_create("x", MFD_ALLOW_SEALING);

    EXPECT(dup2(fd, FILE_AT), FILE_AT);
    EXPECT(dup2(sealed, SEALED_AT), SEALED_AT);
    close(fd);
    close(sealed);
    EXPECT(ftruncate(FILE_AT, 4 * page) + ftruncate(SEALED_AT, 4 * page), 0);
    EXPECT(fcntl(SEALED_AT, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_WRITE), 0);
}

static void
gone(const struct row *row, long got)
{
    (void)row;
    (void)got;
    close(FILE_AT);
    close(SEALED_AT);
}

static long
allocate(int fd, int mode, long long offset, long long length)
{
    const struct row row = FALLOCATE("", fd, mode, offset, length, 0);

    return call(row.number, row.arg[0], row.arg[1], row.arg[2], row.arg[3], row.arg[4], row.arg[5]);
}

/* No more than the file system holds, and nothing of what does not fit. */
static void
full(void)
{
    struct stat status;
    char options[32];

    (void)mkdir("/tmp/small", 0700);
    snprintf(options, sizeof(options), "size=%ld", 8 * page);
    EXPECT(mount("none", "/tmp/small", "tmpfs", 0, options), 0);
    int fd = open("/tmp/small/file", O_RDWR | O_CREAT, 0600);

    EXPECT(allocate(fd, 0, 0, 4 * page), 0);
    EXPECT(allocate(fd, 0, 0, 9 * page), -ENOSPC);
    EXPECT(fstat(fd, &status), 0);
    EXPECT(status.st_size, 4 * page);
    EXPECT(status.st_blocks, 4 * page / 512);
    EXPECT(allocate(fd, 0, 4 * page, 4 * page), 0);
    close(fd);
    EXPECT(unlink("/tmp/small/file"), 0);
    EXPECT(umount("/tmp/small"), 0);
    EXPECT(rmdir("/tmp/small"), 0);
}

static void
limited(void)
{
    struct rlimit size = {(rlim_t)(6 * page), RLIM_INFINITY};

    files();
    signal(SIGXFSZ, SIG_IGN);
    EXPECT(setrlimit(RLIMIT_FSIZE, &size), 0);
    EXPECT(allocate(FILE_AT, 0, 0, 7 * page), -EFBIG);
    EXPECT(allocate(FILE_AT, 0, 0, 6 * page), 0);
}

static void
effects(void)
{
    struct stat status;
    char byte = 1;

    files();
    EXPECT(allocate(FILE_AT, 0, page, 5 * page), 0);
    EXPECT(fstat(FILE_AT, &status), 0);
    EXPECT(status.st_size, 6 * page);
    EXPECT(status.st_blocks, 5 * page / 512);
    EXPECT(pwrite(FILE_AT, "ab", 2, 2 * page - 1), 2);
    EXPECT(allocate(FILE_AT, PUNCH, 2 * page, page), 0);
    EXPECT(pread(FILE_AT, &byte, 1, 2 * page), 1);
    EXPECT(byte, 0);
    EXPECT(pread(FILE_AT, &byte, 1, 2 * page - 1), 1);
    EXPECT(byte, 'a');
    EXPECT(fstat(FILE_AT, &status), 0);
    EXPECT(status.st_blocks, 4 * page / 512);
    gone(NULL, 0);
}

CALL(fallocate, SYS_fallocate, documented)
{
    static const struct around anew = {files, gone};
    int ends[2], null = open("/dev/null", O_RDWR), directory = open("/tmp", O_RDONLY);
    int generated = open("/proc/self/oom_score_adj", O_RDWR), socket;

    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    socket = ends[0];
    close(ends[1]);
    EXPECT(pipe(ends), 0);
    const struct row rows[] = {
        FALLOCATE("no file", -1, 0, 0, page, -EBADF),
        FALLOCATE("open for reading", file_ro, 0, 0, page, -EBADF),
        FALLOCATE("a directory", directory, 0, 0, page, -EBADF),
        FALLOCATE("a pipe", ends[1], 0, 0, page, -ESPIPE),
        FALLOCATE("a pipe's reading end", ends[0], 0, 0, page, -EBADF),
        FALLOCATE("a device", null, 0, 0, page, -ENODEV),
        FALLOCATE("a socket", socket, 0, 0, page, -ENODEV),
        FALLOCATE("a file that the kernel makes", generated, 0, 0, page, -EOPNOTSUPP),
        FALLOCATE("modes that go alone, whatever the file", directory, 9, 0, page, -EINVAL),
        FALLOCATE("collapse and keep the size", FILE_AT, 9, 0, page, -EINVAL),
        FALLOCATE("insert and keep the size", FILE_AT, 0x21, 0, page, -EINVAL),
        FALLOCATE("unshare and make a hole", FILE_AT, 0x43, 0, page, -EINVAL),
        FALLOCATE("unshare", FILE_AT, 0x41, 0, page, -EOPNOTSUPP),
        FALLOCATE("no length", FILE_AT, 0, 0, 0, -EINVAL),
        FALLOCATE("a negative length", FILE_AT, 0, 0, -1ll, -EINVAL),
        FALLOCATE("a negative offset", FILE_AT, 0, -1ll, page, -EINVAL),
        FALLOCATE("past all files", FILE_AT, 0, INT64_MAX - 10, page, -EFBIG),
        FALLOCATE("modes that are none", FILE_AT, 0x8000, 0, page, -EOPNOTSUPP),
        FALLOCATE("no length before modes that are none", FILE_AT, 0x8000, 0, 0, -EINVAL),
        FALLOCATE("a hole that changes the size", FILE_AT, FALLOC_FL_PUNCH_HOLE, 0, page,
                  -EOPNOTSUPP),
        FALLOCATE("a hole and zeros", FILE_AT, PUNCH | FALLOC_FL_ZERO_RANGE, 0, page, -EOPNOTSUPP),
        FALLOCATE("collapse", FILE_AT, FALLOC_FL_COLLAPSE_RANGE, 0, page, -EOPNOTSUPP),
        FALLOCATE("insert", FILE_AT, FALLOC_FL_INSERT_RANGE, 0, page, -EOPNOTSUPP),
        FALLOCATE("zeros", FILE_AT, FALLOC_FL_ZERO_RANGE, 0, page, -EOPNOTSUPP),
        FALLOCATE("sealed against growing", SEALED_AT, 0, 2 * page, 4 * page, -EPERM),
        FALLOCATE("sealed against growing, which it would not", SEALED_AT, FALLOC_FL_KEEP_SIZE,
                  2 * page, 4 * page, -EPERM),
        FALLOCATE("a hole, sealed against writing", SEALED_AT, PUNCH, 0, page, -EPERM),
        FALLOCATE("pages", FILE_AT, 0, 0, 2 * page, 0),
        FALLOCATE("a part of a page", FILE_AT, 0, 17, 1, 0),
        FALLOCATE("past the end", FILE_AT, 0, 8 * page, page, 0),
        FALLOCATE("past the end, which stays", FILE_AT, FALLOC_FL_KEEP_SIZE, 8 * page, page, 0),
        FALLOCATE("a hole", FILE_AT, PUNCH, 0, 2 * page, 0),
        FALLOCATE("a hole past the end", FILE_AT, PUNCH, 99 * page, page, 0),
    };

    RUN_AROUND(rows, &anew);
    effects();
    EXPECT(in_child(limited), 0);
    if (on_own_machine())
        full();
    close(null);
    close(socket);
    close(generated);
    close(directory);
    close(ends[0]);
    close(ends[1]);
}
