/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_CLONE_H
#define TESTS_USER_CALLS_CLONE_H

/* Flags of clone and clone3, newer ones too. */

#include "calls.h"

#include <sched.h>

#define DETACHED      0x400000
#define CLEAR_SIGHAND 0x100000000ull
#define INTO_CGROUP   0x200000000ull

#endif
