/* SPDX-License-Identifier: MIT */
/*
 * splice(2), and the pipes that the files of its family have.
 */
#include "pipes.h"

static void
pipes_make(void)
{
    static char text[65536];

    for (int out = FIVE_OUT; out <= BROKEN_OUT; out += 2) {
        int ends[2];

        EXPECT(pipe(ends), 0);
        EXPECT(dup2(ends[0], out) + dup2(ends[1], out + 1), 2 * out + 1);
        close(ends[0]);
        close(ends[1]);
    }
    EXPECT(write(FIVE_IN, "12345", 5), 5);
    EXPECT(fcntl(FULL_IN, F_SETPIPE_SZ, page), page);
    EXPECT(write(FULL_IN, text, (size_t)page), page);
    close(BROKEN_OUT);
    for (int at = TEN; at <= APPENDED; at++) {
        int file = memfd_create("x", 0);

        EXPECT(dup2(file, at), at);
        close(file);
        EXPECT(pwrite(at, "0123456789", 10, 0), 10);
    }
    EXPECT(fcntl(APPENDED, F_SETFL, O_APPEND), 0);
    signal(SIGPIPE, SIG_IGN);
}

static void
pipes_drop(const struct row *row, long got)
{
    (void)row;
    (void)got;
    for (int fd = FIVE_OUT; fd <= APPENDED; fd++)
        close(fd);
}

const struct around with_pipes = {pipes_make, pipes_drop};

#define SPLICE(what, in, in_at, out, out_at, count, flags, want)                          \
    {                                                                                     \
        what, SYS_splice, {in, (long)(in_at), out, (long)(out_at), count, flags}, want, 0 \
    }
#define NO_WAIT SPLICE_F_NONBLOCK

static const struct documented documented[] = {
    {EAGAIN, NULL}, {EBADF, NULL}, {EINVAL, NULL}, {ENOMEM, BY_REFUSAL}, {ESPIPE, NULL},
};

CALL(splice, SYS_splice, documented)
{
    static long long zero, negative = -1, nine = 9;
    int directory = open("/tmp", O_RDONLY);
    const struct row rows[] = {
        SPLICE("no file", -1, 0, FIVE_IN, 0, 1, 0, -EBADF),
        SPLICE("to no file", FIVE_OUT, 0, 1000, 0, 1, 0, -EBADF),
        SPLICE("into a reading end", TEN, 0, EMPTY_OUT, 0, 1, 0, -EBADF),
        SPLICE("out of a writing end", FIVE_IN, 0, TEN, 0, 1, 0, -EBADF),
        SPLICE("into a file open for reading", FIVE_OUT, 0, file_ro, 0, 1, 0, -EBADF),
        SPLICE("flags that are none", TEN, 0, EMPTY_IN, 0, 1, 64, -EINVAL),
        SPLICE("no pipe", TEN, 0, file_rw, 0, 1, 0, -EINVAL),
        SPLICE("the same pipe", FIVE_OUT, 0, FIVE_IN, 0, 1, 0, -EINVAL),
        SPLICE("appending", FIVE_OUT, 0, APPENDED, 0, 1, 0, -EINVAL),
        SPLICE("a directory", directory, 0, EMPTY_IN, 0, 1, 0, -EINVAL),
        SPLICE("from before the start", TEN, &negative, EMPTY_IN, 0, 1, 0, -EINVAL),
        SPLICE("to before the start", FIVE_OUT, 0, TEN, &negative, 1, 0, -EINVAL),
        SPLICE("a place in a pipe", FIVE_OUT, &zero, TEN, 0, 1, 0, -ESPIPE),
        SPLICE("a place in the other pipe", TEN, 0, EMPTY_IN, &zero, 1, 0, -ESPIPE),
        SPLICE("places in pipes", FIVE_OUT, &zero, EMPTY_IN, &zero, 1, 0, -ESPIPE),
        SPLICE("no memory at the place", TEN, 8, EMPTY_IN, 0, 1, 0, -EFAULT),
        SPLICE("nothing to take", EMPTY_OUT, 0, TEN, 0, 1, NO_WAIT, -EAGAIN),
        SPLICE("nothing to take, pipes", EMPTY_OUT, 0, FIVE_IN, 0, 1, NO_WAIT, -EAGAIN),
        SPLICE("no room", TEN, 0, FULL_IN, 0, 1, NO_WAIT, -EAGAIN),
        SPLICE("no room, pipes", FIVE_OUT, 0, FULL_IN, 0, 1, NO_WAIT, -EAGAIN),
        SPLICE("no reader", TEN, &zero, BROKEN_IN, 0, 1, 0, -EPIPE),
        SPLICE("no reader, pipes", FIVE_OUT, 0, BROKEN_IN, 0, 1, 0, -EPIPE),
        SPLICE("nothing", TEN, 0, EMPTY_IN, 0, 0, 0, 0),
        SPLICE("nothing of nothing", -1, 0, -1, 0, 0, 0, 0),
        SPLICE("out of a file", TEN, 0, EMPTY_IN, 0, 10, 0, 10),
        SPLICE("more than there is", TEN, 0, EMPTY_IN, 0, 100, 0, 10),
        SPLICE("from a place", TEN, &nine, EMPTY_IN, 0, 100, 0, 1),
        SPLICE("at the end", TEN, &(long long){10}, EMPTY_IN, 0, 100, 0, 0),
        SPLICE("into a file", FIVE_OUT, 0, TEN, 0, 3, 0, 3),
        SPLICE("into a file, all", FIVE_OUT, 0, TEN, &(long long){16 * page}, 100, 0, 5),
        SPLICE("between pipes", FIVE_OUT, 0, EMPTY_IN, 0, 4, 0, 4),
        SPLICE("between pipes, all", FIVE_OUT, 0, EMPTY_IN, 0, 100, NO_WAIT, 5),
    };
    char got[16];

    RUN_AROUND(rows, &with_pipes);
    pipes_make();
    EXPECT(call(SYS_splice, TEN, (long)&(long long){7}, FIVE_IN, 0, 2, 0), 2);
    EXPECT(read(FIVE_OUT, got, sizeof(got)), 7);
    EXPECT(memcmp(got, "1234578", 7), 0);
    pipes_drop(NULL, 0);
    close(directory);
}
