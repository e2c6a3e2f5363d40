/* SPDX-License-Identifier: MIT */
/*
 * readahead(2).
 */
#include "calls.h"

#define READAHEAD(what, fd, offset, count, want)                \
    {                                                           \
        what, SYS_readahead, {fd, WIDE(offset), count}, want, 0 \
    }

static const struct documented documented[] = {
    {EBADF, NULL},
    {EINVAL, NULL},
};

CALL(readahead, SYS_readahead, documented)
{
    int ends[2], write_only, directory, name = open("/tmp", O_PATH);
    int device = open("/dev/zero", O_RDONLY);

    EXPECT(pipe(ends), 0);
    write_only = open("/tmp", O_TMPFILE | O_WRONLY, 0600);
    directory = open("/", O_RDONLY);
    const struct row rows[] = {
        READAHEAD("no file", -1, 0, page, -EBADF),
        READAHEAD("a closed descriptor", 1000, 0, page, -EBADF),
        READAHEAD("not open for reading", write_only, 0, page, -EBADF),
        READAHEAD("a pipe", ends[0], 0, page, -EINVAL),
        READAHEAD("a pipe's other end", ends[1], 0, page, -EBADF),
        READAHEAD("a directory", directory, 0, page, -EINVAL),
        READAHEAD("a name alone", name, 0, page, -EBADF),
        READAHEAD("a device", device, 0, page, -EINVAL),
        READAHEAD("a negative count", file_rw, 0, -1, sizeof(long) == 8 ? -EINVAL : 0),
        READAHEAD("a file", file_rw, 0, page, 0),
        READAHEAD("nothing", file_rw, 0, 0, 0),
        READAHEAD("past the end", file_ro, 99 * page, page, 0),
    };
    RUN(rows);
    close(ends[0]);
    close(ends[1]);
    close(write_only);
    close(directory);
    close(name);
    close(device);
}
