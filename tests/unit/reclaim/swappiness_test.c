/* SPDX-License-Identifier: MIT */
/*
 * In which order, and for how much, who has pages that can go is asked.
 */
#include "harness.h"

#include <quire/shrink.h>

#include "sim.h"
#include "space/vm.h"

/* A shrinker that says what it was asked for, and has so many pages. */
struct heap {
    struct qr_shrinker shrinker;
    size_t has, asked_first, asked_later;
};

static size_t
heap_shrink(void *context, const struct qr_reclaim_request *request)
{
    struct heap *heap = context;
    size_t freed = request->pages < heap->has ? request->pages : heap->has;

    *(request->first_round ? &heap->asked_first : &heap->asked_later) = request->pages;
    heap->has -= freed;
    return freed;
}

TEST(reclaim, swappiness_weighs_kinds_of_memory)
{
    static const struct {
        unsigned swappiness;
        size_t anon_has, file_has;
        size_t anon_first, file_first, anon_later, file_later, freed;
    } rows[] = {
        {60, 1000, 1000, 60, 140, 0, 0, 200}, {0, 1000, 1000, 0, 200, 0, 0, 200},
        {200, 1000, 1000, 200, 0, 0, 0, 200}, {100, 1000, 1000, 100, 100, 0, 0, 200},
        {0, 1000, 50, 0, 200, 150, 0, 200},   {200, 50, 1000, 200, 0, 150, 150, 200},
        {60, 1000, 0, 60, 140, 140, 0, 200},  {60, 10, 20, 60, 140, 170, 170, 30},
    };

    for (size_t i = 0; i < QR_ARRAY_COUNT(rows); i++) {
        struct sim *sim = sim_boot((struct sim_options){.seed = test_seed()});
        struct qr_vm *vm = sim_space(sim)->vm;
        const struct qr_reclaim_request request = {.pages = 200};
        struct heap anon = {{.kind = QR_SHRINKER_ANON, .shrink = heap_shrink, .context = &anon},
                            .has = rows[i].anon_has};
        struct heap file = {{.kind = QR_SHRINKER_FILE, .shrink = heap_shrink, .context = &file},
                            .has = rows[i].file_has};

        EXPECT_EQ(qr_vm_swappiness(vm), 60u);
        qr_reclaim_add(vm, &anon.shrinker);
        qr_reclaim_add(vm, &file.shrinker);
        qr_vm_set_swappiness(vm, rows[i].swappiness);
        EXPECT_EQ(qr_reclaim(vm, &request), rows[i].freed);
        EXPECT_EQ(anon.asked_first, rows[i].anon_first);
        EXPECT_EQ(file.asked_first, rows[i].file_first);
        EXPECT_EQ(anon.asked_later, rows[i].anon_later);
        EXPECT_EQ(file.asked_later, rows[i].file_later);
        sim_shutdown(sim);
    }
}
