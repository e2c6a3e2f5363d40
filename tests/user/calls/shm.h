/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_SHM_H
#define TESTS_USER_CALLS_SHM_H

/* What the files of System V shared memory have in common: two segments, made by root for root. */

#include "calls.h"

#include <sys/ipc.h>
#include <sys/shm.h>

extern int segment, removed_segment; /* of two pages; one that was */
extern long segment_key, free_key;

void segment_make(void);
void segment_drop(void);

#endif
