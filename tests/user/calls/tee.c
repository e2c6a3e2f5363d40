/* SPDX-License-Identifier: MIT */
/*
 * tee(2).
 */
#include "pipes.h"

#define TEE(what, in, out, count, flags, want)          \
    {                                                   \
        what, SYS_tee, {in, out, count, flags}, want, 0 \
    }

static const struct documented documented[] = {
    {EAGAIN, NULL},
    {EINVAL, NULL},
    {ENOMEM, "pages are shared, and the slots for them are there"},
};

CALL(tee, SYS_tee, documented)
{
    const struct row rows[] = {
        TEE("no file", -1, EMPTY_IN, 1, 0, -EBADF),
        TEE("to no file", FIVE_OUT, 1000, 1, 0, -EBADF),
        TEE("out of a writing end", FIVE_IN, EMPTY_IN, 1, 0, -EBADF),
        TEE("into a reading end", FIVE_OUT, EMPTY_OUT, 1, 0, -EBADF),
        TEE("flags that are none", FIVE_OUT, EMPTY_IN, 1, 64, -EINVAL),
        TEE("the same pipe", FIVE_OUT, FIVE_IN, 1, 0, -EINVAL),
        TEE("from a file", TEN, EMPTY_IN, 1, 0, -EINVAL),
        TEE("to a file", FIVE_OUT, TEN, 1, 0, -EINVAL),
        TEE("nothing to take", EMPTY_OUT, FIVE_IN, 1, SPLICE_F_NONBLOCK, -EAGAIN),
        TEE("no room", FIVE_OUT, FULL_IN, 1, SPLICE_F_NONBLOCK, -EAGAIN),
        TEE("no reader", FIVE_OUT, BROKEN_IN, 1, 0, -EPIPE),
        TEE("nothing", FIVE_OUT, EMPTY_IN, 0, 0, 0),
        TEE("some", FIVE_OUT, EMPTY_IN, 3, 0, 3),
        TEE("all", FIVE_OUT, EMPTY_IN, 100, SPLICE_F_NONBLOCK, 5),
    };
    char got[16];

    RUN_AROUND(rows, &with_pipes);
    with_pipes.before();
    EXPECT(call(SYS_tee, FIVE_OUT, EMPTY_IN, 3, 0, 0, 0), 3);
    EXPECT(write(EMPTY_IN, "x", 1), 1);
    EXPECT(read(EMPTY_OUT, got, sizeof(got)), 4);
    EXPECT(memcmp(got, "123x", 4), 0);
    EXPECT(read(FIVE_OUT, got, sizeof(got)), 5); /* they are still there */
    with_pipes.after(NULL, 0);
}
