/* SPDX-License-Identifier: MIT */
#ifndef SIM_BOOT_H
#define SIM_BOOT_H

/**
 * @file
 * What the boot_*.c files share.  Each knows one layer more than the one before,
 * so that a program links no layer that it does not boot.
 */

#include "machine.h"

#include <quire/tlb.h>

/** The kernel's own tree. */
struct sim_kernel {
    struct qr_tables tables;
    struct qr_tlb_space space;
    size_t frames_before;
};

bool sim_refuse_hook(void *context);
struct qr_frames_config sim_frames_config(struct sim *sim);
/** Frames in use, caches returned first. */
size_t sim_frames_used(struct sim *sim);
/** The tlb layer, the kernel's tables, every CPU online. */
void sim_start_tables(struct sim *sim);

/** Every disk is let go of, and swap ends; its spaces are gone. */
void sim_swap_stop(struct sim *sim);

#endif
