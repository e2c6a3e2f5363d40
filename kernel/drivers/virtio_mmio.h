/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_DRIVERS_VIRTIO_MMIO_H
#define KERNEL_DRIVERS_VIRTIO_MMIO_H

#include <fdt.h>

#include "virtio.h"

/**
 * Use the device whose registers are at @p range if it is a disk; boot CPU.
 * @return whether it is in use: the caller then enables @p interrupt
 */
bool virtio_mmio_probe(struct fdt_range range, unsigned interrupt);

#endif
