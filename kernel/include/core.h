/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CORE_H
#define KERNEL_CORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Core files: what a process leaves behind that ends by certain signals.  kernel/proc/core.c
 * has the theory.
 */

struct signal_info;
struct thread;

/** What of a process's memory is written: bits of /proc/PID/coredump_filter, as core(5) has them. */
enum core_filter {
    CORE_ANON_PRIVATE = 1 << 0,
    CORE_ANON_SHARED = 1 << 1,
    CORE_FILE_PRIVATE = 1 << 2,
    CORE_FILE_SHARED = 1 << 3,
    CORE_ELF_HEADERS = 1 << 4, /**< the first page of a mapped program or library */
    CORE_HUGE_PRIVATE = 1 << 5,
    CORE_HUGE_SHARED = 1 << 6,
    CORE_FILTER_ALL = (1 << 9) - 1, /**< 7 and 8 are about files of persistent memory (DAX) */
    CORE_FILTER_DEFAULT = 0x33
};

/**
 * The running thread's process ends by @p number: stop its other threads and write a core file, if it is
 * to have one.  process_exit_group() comes next.  Context: thread, nothing locked; sleeps
 *
 * @return the status to end with: @p number, with the core bit where one was written; SIGKILL, where
 *         that came meanwhile
 */
int core_dump(int number, const struct signal_info *info);

/** The running thread ends from here on: wait while another one writes a core file.  Sets thread->exiting. */
void core_pass(struct thread *thread);

/** The process of @p thread ends now: those who wait in core_pass() go on, if it is the one that wrote.  S. */
void core_end(struct thread *thread);

/** As programs of this machine have siginfo_t: 128 bytes.  Where kernel/arch has none, as it is. */
void arch_core_info(const struct signal_info *info, void *out);

/* ---- names --------------------------------------------------------------------------- */

enum { CORE_PATTERN_BYTES = 128 };

/** /proc/sys/kernel/core_uses_pid. */
extern _Atomic uint64_t core_uses_pid;

/** /proc/sys/kernel/core_pattern, terminated. */
void core_pattern_get(char out[CORE_PATTERN_BYTES]);
/** Its first line is what counts.  @return 0; -EINVAL: to a program's input, which is not done here */
int64_t core_pattern_set(const char *text, size_t length);

#endif
