/* SPDX-License-Identifier: MIT */
/*
 * Booting everything: objects, spaces, faults.  Addresses are not randomised, so
 * that a seed means the same run everywhere.
 */
#include "boot.h"

#include <quire/fault.h>
#include <quire/space.h>

/* ---- Faults --------------------------------------------------------------------- */

static enum sim_signal
signal_of(enum qr_fault_outcome outcome)
{
    switch (outcome) {
    case QR_FAULT_HANDLED:
        return SIM_OK;
    case QR_FAULT_NO_REGION:
        return SIM_SEGV_MAPERR;
    case QR_FAULT_PROTECTION:
        return SIM_SEGV_ACCERR;
    case QR_FAULT_KEY:
        return SIM_SEGV_PKUERR;
    case QR_FAULT_BEYOND_END:
        return SIM_BUS_ADRERR;
    case QR_FAULT_POISON:
        return SIM_BUS_IO;
    case QR_FAULT_NO_MEMORY:
        return SIM_OOM;
    case QR_FAULT_INTERRUPTED: /* nobody interrupts here but tests, which look at this */
        return SIM_BUS_ADRERR;
    }
    sim_fail("a fault ended with outcome %u, which does not exist", (unsigned)outcome);
}

static bool
fault_to_library(struct sim *sim, struct sim_access access, unsigned code,
                 enum sim_signal *out_signal)
{
    struct qr_space *space = here()->space;
    /* What the hardware tells: without NX and SMEP a fetch looks like a read. */
    unsigned kind = (code & SIM_FAULT_WRITE) != 0   ? QR_ACCESS_WRITE
                    : (code & SIM_FAULT_FETCH) != 0 ? QR_ACCESS_EXEC
                                                    : QR_ACCESS_READ;
    struct qr_fault fault = {
        .va = access.va,
        .access = kind | (access.mode == SIM_USER ? QR_ACCESS_USER : 0u),
        .key_violation = (code & SIM_FAULT_PKEY) != 0,
    };

    *out_signal = SIM_SEGV_MAPERR;
    if (space == NULL || access.va.v >= sim->user_end)
        return false;
    *out_signal = signal_of(qr_fault_handle(space, &fault));
    return *out_signal == SIM_OK;
}

/* ---- Spaces ------------------------------------------------------------------------ */

static void
switch_space(struct sim *sim, void *space)
{
    (void)sim;
    qr_space_switch(space);
}

struct qr_space *
sim_space(struct sim *sim)
{
    (void)sim;
    return here()->space;
}

void
sim_use(struct sim *sim, struct qr_space *space)
{
    sched_set_space(sim, space);
    sched_load_space(sim, space);
}

struct qr_space *
sim_space_create(struct sim *sim)
{
    struct qr_space *space = NULL;
    enum qr_status status = qr_space_create(sim->vm, &space);

    if (status != QR_OK && status != QR_ERR_NO_MEMORY)
        sim_fail("no space: %s", qr_status_name(status));
    return space;
}

void
sim_space_destroy(struct sim *sim, struct qr_space *space)
{
    sim_unload(sim, space);
    qr_space_put(space);
}

/* ---- Booting ------------------------------------------------------------------------ */

static struct qr_layout
layout_of(const struct sim *sim)
{
    return (struct qr_layout){
        .user_start = qr_va_of(0x10000),
        .user_end = qr_va_of(sim->user_end),
        .stack_top = qr_va_of(sim->user_end),
        .stack_gap_bytes = (size_t)8 << 20,
        .mmap_random_bits = 8,
        .stack_random_bits = 8,
        .brk_random_bits = 8,
    };
}

static void
objects_start(struct sim *sim)
{
    sim->objects = sim_host_alloc(qr_objects_size());
    enum qr_status status = qr_objects_init(sim->objects, sim->frames, sim->heap);

    if (status != QR_OK)
        sim_fail("objects do not start: %s", qr_status_name(status));
}

static void
swap_start(struct sim *sim)
{
    struct qr_format_info info;

    qr_format_info(sim->format, &info);
    const struct qr_swap_config config = {
        .frames = sim->frames,
        .heap = sim->heap,
        .slot_bits = info.mark_bits - QR_SWAP_MARK_FLAGS,
    };

    sim->swap = sim_host_alloc(qr_swap_size());
    qr_swap_init(sim->swap, &config);
}

static void
vm_start(struct sim *sim)
{
    struct qr_vm_config config = {
        .frames = sim->frames,
        .heap = sim->heap,
        .objects = sim->objects,
        .swap = sim->swap,
        .epoch = sim->epoch,
        .tlb = sim->tlb,
        .format = sim->format,
        .kernel_tables = (sim->options.features & SIM_KERNEL_HALF) != 0 ? sim->kernel_tables : NULL,
        .layout = layout_of(sim),
        .max_regions = 65530,
        .stack_guard_pages = 256,
        .fault_around_pages = 16,
    };

    sim->vm = sim_host_alloc(qr_vm_size());
    enum qr_status status = qr_vm_init(sim->vm, &config);

    if (status != QR_OK)
        sim_fail("spaces do not start: %s", qr_status_name(status));
}

static void
everything_stop(struct sim *sim)
{
    size_t alive;

    sim_space_destroy(sim, sim->first_space);
    alive = qr_vm_fini(sim->vm);
    if (alive != 0)
        sim_fail("%zu spaces leaked", alive);
    alive = qr_objects_fini(sim->objects);
    if (alive != 0)
        sim_fail("%zu objects leaked", alive);
    sim_swap_stop(sim);
    sim_host_free(sim->vm);
    sim_host_free(sim->objects);
    sim->vm = NULL;
    sim->objects = NULL;
    sim->hooks.fault = NULL;
}

struct sim *
sim_boot(struct sim_options options)
{
    struct sim *sim = sim_boot_heap(options);

    sim_start_tables(sim);
    objects_start(sim);
    swap_start(sim);
    vm_start(sim);
    sim->hooks.space_switch = switch_space;
    sim->hooks.fault = fault_to_library;
    sim->first_space = sim_space_create(sim);
    if (sim->first_space == NULL)
        sim_fail("no memory for the first space: give the machine more frames");
    for (unsigned i = sim->cpu_count; i-- > 0;) {
        sim_enter(sim, i);
        sim_use(sim, sim->first_space);
    }
    sim_on_stop(sim, everything_stop);
    return sim;
}

struct qr_objects *
sim_objects(struct sim *sim)
{
    return sim->objects;
}

struct qr_vm *
sim_vm(struct sim *sim)
{
    return sim->vm;
}
