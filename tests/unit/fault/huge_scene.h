/* SPDX-License-Identifier: MIT */
#ifndef TESTS_HUGE_SCENE_H
#define TESTS_HUGE_SCENE_H

/* A hosted machine for tests of transparent huge pages, and looks at its tables. */

#include "harness.h"

#include <quire/fault.h>
#include <quire/reclaim.h>

#include "sim.h"
#include "space/region.h"

struct scene {
    struct sim *sim;
    struct qr_space *space;
    size_t pages; /* of a huge page */
};

static const struct qr_huge_policy always = {QR_HUGE_ALWAYS, QR_DEFRAG_NEVER, true};

/* False where the format has no huge pages that a program gets. */
static inline bool
scene_boot_with(struct scene *scene, struct sim_options options)
{
    options.frames = 24 * 1024;
    options.features |= SIM_NO_VALIDATE;
    *scene = (struct scene){.sim = sim_boot(options)};
    scene->space = sim_space(scene->sim);
    scene->pages = qr_vm_huge_bytes(sim_vm(scene->sim)) >> QR_PAGE_SHIFT;
    qr_vm_set_huge_policy(sim_vm(scene->sim), &always);
    if (scene->pages != 0)
        return true;
    sim_shutdown(scene->sim);
    return false;
}

static inline bool
scene_boot(struct scene *scene, enum sim_mmu mmu)
{
    return scene_boot_with(scene, (struct sim_options){.mmu = mmu, .seed = test_seed()});
}

static inline void
scene_end(struct scene *scene)
{
    sim_validate(scene->sim);
    sim_shutdown(scene->sim);
}

static inline long
counter(const struct scene *scene, enum qr_counter which)
{
    return qr_counter_read(qr_frames_counters(sim_frames(scene->sim)), which);
}

/* The level of the entry for @page in @space, or -1 where nothing is mapped. */
static inline int
level_of(struct qr_space *space, size_t page)
{
    struct qr_va_range range = {sim_page(page), sim_page(page + 1)};
    struct qr_cursor cursor;

    qr_cursor_open(&cursor, &space->tables, range, NULL);
    struct qr_entry entry = qr_cursor_query(&cursor, range.start);

    qr_cursor_close(&cursor);
    return entry.kind == QR_ENTRY_LEAF ? (int)entry.level : -1;
}

static inline enum qr_status
advise(struct scene *scene, size_t first, size_t last, enum qr_advice advice)
{
    return qr_space_advise(scene->space, sim_page(first), (last - first) << QR_PAGE_SHIFT, advice);
}

static inline enum qr_status
collapse(struct scene *scene, size_t first, size_t last)
{
    return qr_space_collapse(scene->space, sim_page(first), (last - first) << QR_PAGE_SHIFT);
}

#endif
