/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_TTY_H
#define KERNEL_TTY_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The serial terminal: input from the driver, controlling-terminal life cycle.
 * Line discipline and job control are in kernel/fs/tty*.c.
 */

/**
 * One character arrived on the console line.
 * Context: any, interrupts included; never sleeps. Drops input when its ring is full.
 */
void tty_input(char byte);

/**
 * The line went away, or the session leader @session_id ended: SIGHUP and SIGCONT to the
 * foreground group, the terminal is free for another session. A process calls it from exit when
 * it is a session leader; harmless when the session has no terminal.
 */
void tty_session_end(int32_t session_id);

/** Device number of the controlling terminal of a session (/proc/PID/stat), or 0. */
uint32_t tty_session_device(int32_t session_id);

/** Foreground process group of that terminal, or -1. */
int32_t tty_session_foreground(int32_t session_id);

#endif
