/* SPDX-License-Identifier: MIT */
/*
 * Included before everything else in the kernel's sources: names of theirs that the simulated
 * machine or the C library has, too.
 */
#define qr_port_wait kernel_port_wait
#define qr_port_wake kernel_port_wake
#define sched_wake   kernel_sched_wake
#define sched_yield  kernel_sched_yield
#define vsnprintf    kernel_vsnprintf
#define snprintf     kernel_snprintf
#define strlcpy      kernel_strlcpy
