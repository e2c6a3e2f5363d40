/* SPDX-License-Identifier: MIT */
/*
 * vmsplice(2).
 */
#include "pipes.h"

#define VMSPLICE(what, fd, pieces, count, flags, want)                  \
    {                                                                   \
        what, SYS_vmsplice, {fd, (long)(pieces), count, flags}, want, 0 \
    }
#define NO_WAIT SPLICE_F_NONBLOCK

static const struct documented documented[] = {
    {EAGAIN, NULL},
    {EBADF, NULL},
    {EINVAL, NULL},
    {ENOMEM, BY_REFUSAL},
};

CALL(vmsplice, SYS_vmsplice, documented)
{
    static struct iovec one, three[3], hole, into_hole, many[1025];
    char got[16];

    one = (struct iovec){(void *)AT(0), 3};
    for (int i = 0; i < 3; i++)
        three[i] = (struct iovec){(void *)(AT(i) + 10), 5};
    hole = (struct iovec){(void *)AT(HOLE_AT), 3};
    into_hole = (struct iovec){(void *)(AT(HOLE_AT) - 7), 20};
    const struct row rows[] = {
        VMSPLICE("no file", -1, &one, 1, 0, -EBADF),
        VMSPLICE("no pipe", TEN, &one, 1, 0, -EBADF),
        VMSPLICE("flags that are none", EMPTY_IN, &one, 1, 64, -EINVAL),
        VMSPLICE("too many pieces", EMPTY_IN, many, 1025, 0, -EINVAL),
        VMSPLICE("no memory at the pieces", EMPTY_IN, 8, 1, 0, -EFAULT),
        VMSPLICE("a hole", EMPTY_IN, &hole, 1, 0, -EFAULT),
        VMSPLICE("no room", FULL_IN, &one, 1, NO_WAIT, -EAGAIN),
        VMSPLICE("nothing to take", EMPTY_OUT, &one, 1, NO_WAIT, -EAGAIN),
        VMSPLICE("no reader", BROKEN_IN, &one, 1, 0, -EPIPE),
        VMSPLICE("no pieces", EMPTY_IN, &one, 0, 0, 0),
        VMSPLICE("a piece", EMPTY_IN, &one, 1, 0, 3),
        VMSPLICE("pieces", EMPTY_IN, three, 3, 0, 15),
        VMSPLICE("a gift", EMPTY_IN, &one, 1, SPLICE_F_GIFT, 3),
        VMSPLICE("up to a hole", EMPTY_IN, &into_hole, 1, 0, 7),
        VMSPLICE("the other way", FIVE_OUT, &one, 1, 0, 3),
        VMSPLICE("the other way, all", FIVE_OUT, three, 3, 0, 5),
    };

    RUN_AROUND(rows, &with_pipes);
    arena_make();
    with_pipes.before();
    EXPECT(call(SYS_vmsplice, EMPTY_IN, (long)&one, 1, 0, 0, 0), 3);
    EXPECT(munmap((void *)AT(0), (size_t)page), 0); /* the page lives on in the pipe */
    EXPECT(read(EMPTY_OUT, got, sizeof(got)), 3);
    EXPECT(got[0], 'A');
    with_pipes.after(NULL, 0);
}
