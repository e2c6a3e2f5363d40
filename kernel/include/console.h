/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_CONSOLE_H
#define KERNEL_CONSOLE_H

#include <stddef.h>

/**
 * @file
 * Terminal and log of machines with one serial port: kernel/drivers/console.c
 * supplies console_write(), log_write(), kernel_exit() and panic() of arch.h and
 * printk.h from what stands here.
 */

/** The driver of the port: send bytes, waiting for room but not for ever; locked by the caller. */
void uart_write(const char *bytes, size_t count);

/** The driver of the port: wait until all has left, but not for ever. */
void uart_drain(void);

/** kernel/arch/<arch>: power off.  @p status goes out too where the machine can carry it. */
void platform_power_off(int status);

#endif
