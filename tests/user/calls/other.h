/* SPDX-License-Identifier: MIT */
#ifndef TESTS_USER_CALLS_OTHER_H
#define TESTS_USER_CALLS_OTHER_H

/* Another process, for the calls that read and write its memory: a copy of us that waits. */

#include "calls.h"

#include <sys/uio.h>

extern long other; /* its number */

void other_start(void);
void other_end(void);

/* Rows that process_vm_readv and process_vm_writev answer alike. */
void other_rows(long number);

#endif
