/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_PORT_INLINE_H
#define KERNEL_PORT_INLINE_H

/**
 * @file
 * Named by QR_PORT_INLINE_HEADER: the hot functions of the port, inlined into
 * the library.  The rest is in port.c.
 */

#include <arch_port.h>

#define qr_port_irq_save     qr_port_irq_save
#define qr_port_irq_restore  qr_port_irq_restore
#define qr_port_relax        qr_port_relax
#define qr_port_this_cpu     qr_port_this_cpu
#define qr_port_window_open  qr_port_window_open
#define qr_port_window_close qr_port_window_close
#define qr_port_direct_pa    qr_port_direct_pa

#endif
