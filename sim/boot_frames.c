/* SPDX-License-Identifier: MIT */
/*
 * Booting as far as the frame allocator, and its share of the checks.
 */
#include "boot.h"

#include <quire/frame.h>

static enum sim_frame_state
frame_state(struct sim *sim, qr_pa pa)
{
    struct qr_frame *frame = qr_frame_find(sim->frames, qr_pa_to_pfn(pa));

    if (frame == NULL)
        return SIM_FRAME_UNKNOWN;
    switch (qr_frame_type(frame)) {
    case QR_FRAME_FREE:
        return SIM_FRAME_FREE;
    case QR_FRAME_TABLE:
        return SIM_FRAME_TABLE;
    default:
        return SIM_FRAME_OTHER;
    }
}

static void
arm_refusal(struct sim *sim, bool armed)
{
    qr_frames_set_refusal(sim->frames, armed ? sim_refuse_hook : NULL, sim);
}

static void
frames_stop(struct sim *sim)
{
    char message[256];

    if ((sim->options.features & SIM_NO_VALIDATE) == 0 &&
        !qr_frames_validate(sim->frames, message, sizeof(message)))
        sim_fail("frames, at shutdown: %s", message);
    qr_frames_fini(sim->frames);
    sim_host_free(sim->frames);
    sim->frames = NULL;
    sim->hooks.frame_state = NULL;
    sim->hooks.arm_refusal = NULL;
}

struct qr_frames_config
sim_frames_config(struct sim *sim)
{
    struct qr_frames_config config = {
        .direct_limit = sim->options.direct_limit,
        .cpu_count = sim->cpu_count,
    };

    config.map_count = sim_memory_map(sim, &config.map);
    return config;
}

struct sim *
sim_boot_frames(struct sim_options options)
{
    struct sim *sim = sim_boot_ram(options);
    struct qr_frames_config config = sim_frames_config(sim);
    enum qr_status status;

    sim->frames = sim_host_alloc(qr_frames_size(&config));
    status = qr_frames_init(sim->frames, &config);
    if (status != QR_OK)
        sim_fail("the frame allocator does not start: %s", qr_status_name(status));
    sim->hooks.arm_refusal = arm_refusal;
    sim->hooks.frame_state = frame_state;
    sim_on_stop(sim, frames_stop);
    return sim;
}

size_t
sim_frames_used(struct sim *sim)
{
    struct qr_frames_stats stats;

    qr_frames_drain(sim->frames);
    qr_frames_stats(sim->frames, &stats);
    return stats.total - stats.free;
}
