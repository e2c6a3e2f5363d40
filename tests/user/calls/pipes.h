/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_PIPES_H
#define TESTS_USER_CALLS_PIPES_H

/*
 * For the calls that move pages through pipes, around each row: one pipe with five bytes, one empty,
 * one full, one whose reader is gone; a file of ten bytes, and one that is only appended to.
 */

#include "calls.h"

#include <sys/uio.h>

enum {
    FIVE_OUT = 16,
    FIVE_IN,
    EMPTY_OUT,
    EMPTY_IN,
    FULL_OUT,
    FULL_IN,
    BROKEN_OUT,
    BROKEN_IN,
    TEN,
    APPENDED
};

#ifndef SPLICE_F_GIFT
#define SPLICE_F_NONBLOCK 2
#define SPLICE_F_GIFT     8
#endif

extern const struct around with_pipes;

#endif
