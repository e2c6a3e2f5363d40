/* SPDX-License-Identifier: MIT */
/*
 * High memory: what the direct map does not cover.  The machine hides it, so that
 * only the hardware and open windows reach it; SIM_WINDOWS=1 runs any other test
 * that way.
 */
#include "harness.h"
#include "sim.h"

#include <quire/object.h>
#include <quire/space.h>

#include <string.h>

#define MIB   ((uint64_t)1 << 20)
#define LIMIT (64 * MIB)
#define HIGH  ((uint64_t)5 << 30) /* above what 32 bits reach */

static struct sim *
boot(enum sim_mmu mmu, unsigned features)
{
    static const struct sim_bank banks[] = {{.start = 16 * MIB, .bytes = 4 * MIB},
                                            {.start = HIGH, .bytes = 8 * MIB}};

    return sim_boot((struct sim_options){.mmu = mmu,
                                         .features = features,
                                         .banks = banks,
                                         .bank_count = 2,
                                         .direct_limit = LIMIT,
                                         .cpus = 2});
}

static uint64_t
pa_of_page(struct sim *sim, size_t page)
{
    struct sim_mapping mapping = sim_walk(sim, sim_space(sim)->tables.root_pa, sim_page(page));

    return mapping.present ? mapping.pa.v : 0;
}

/* PAE is what has both: windows, and addresses of more than 32 bits. */
TEST(windows, user_memory_comes_from_above_four_gibibytes)
{
    struct sim *sim = boot(SIM_MMU_X86_PAE, 0);
    struct qr_space *parent = sim_space(sim), *child;

    ASSERT_STATUS(sim_map(sim, 0, 8, SIM_W), QR_OK);
    ASSERT_STATUS(sim_map_shared(sim, 8, 8, SIM_W), QR_OK);
    for (size_t page = 0; page < 16; page++) {
        sim_write(sim, page, 1000 + page);
        EXPECT_GE(pa_of_page(sim, page), HIGH);
    }
    child = sim_fork(sim);
    ASSERT_NOT_NULL(child);
    for (size_t page = 0; page < 8; page++) {
        uint64_t before = pa_of_page(sim, page);

        sim_write(sim, page, 2000 + page); /* a copy from one high frame to another */
        EXPECT_NE(pa_of_page(sim, page), before);
        EXPECT_GE(pa_of_page(sim, page), HIGH);
    }
    sim_use(sim, child);
    for (size_t page = 0; page < 16; page++)
        EXPECT_EQ(sim_read(sim, page), 1000 + page);
    sim_use(sim, parent);
    sim_space_destroy(sim, child);
    sim_shutdown(sim);
}

/* ---- Objects ------------------------------------------------------------------- */

struct mover {
    struct sim *sim;
    unsigned char *memory;
    size_t done, limit; /* bytes until it refuses */
    bool out;           /* from the object */
};

/* As a copy to or from user memory: it faults, and so may sleep. */
static size_t
move(void *context, void *frame_bytes, size_t bytes)
{
    struct mover *mover = context;
    size_t room = mover->limit - mover->done;
    size_t some = bytes < room ? bytes : room;

    sim_write(mover->sim, 0, mover->done);
    if (mover->out)
        memcpy(mover->memory + mover->done, frame_bytes, some);
    else
        memcpy(frame_bytes, mover->memory + mover->done, some);
    mover->done += some;
    return some;
}

static size_t
transfer(struct mover mover, struct qr_object *object, uint64_t offset, size_t bytes,
         enum qr_status wanted)
{
    size_t done = 0;
    enum qr_status status = mover.out ? qr_object_read(object, offset, bytes, move, &mover, &done)
                                      : qr_object_write(object, offset, bytes, move, &mover, &done);

    EXPECT_EQ(status, wanted);
    return done;
}

enum { BYTES = 3 * 4096 };

TEST(windows, objects_are_read_and_written_without_a_window_over_a_sleep)
{
    static unsigned char in[BYTES], out[BYTES];
    struct sim *sim = boot(SIM_MMU_X86_PAE, SIM_NO_VALIDATE);
    struct qr_object *object = NULL;

    ASSERT_STATUS(sim_map(sim, 0, 1, SIM_W), QR_OK);
    ASSERT_STATUS(qr_object_create(sim_objects(sim), &qr_pager_memory, NULL, BYTES, &object),
                  QR_OK);
    for (size_t i = 0; i < BYTES; i++)
        in[i] = (unsigned char)(i * 7 + i / 256);
    /* Every end of a piece: aligned, one off, over pages. */
    for (size_t bytes = 0; bytes < 2 * 4096; bytes += bytes < 520 ? 1 : 509) {
        size_t offset = 4096 - bytes % 300;
        struct mover writer = {.sim = sim, .memory = in, .limit = BYTES};
        struct mover reader = {.sim = sim, .memory = out, .limit = BYTES, .out = true};

        EXPECT_EQ(transfer(writer, object, offset, bytes, QR_OK), bytes);
        memset(out, 0, sizeof(out));
        EXPECT_EQ(transfer(reader, object, offset, bytes, QR_OK), bytes);
        EXPECT_MEM(out, in, bytes);
    }
    /* A copy that stops ends the transfer where it stopped, and nothing past it is written. */
    for (size_t limit = 0; limit < 600; limit += 37) {
        struct mover writer = {.sim = sim, .memory = in, .limit = limit};
        struct mover reader = {.sim = sim, .memory = out, .limit = BYTES, .out = true};
        struct mover eraser = {.sim = sim, .memory = out, .limit = BYTES};

        memset(out, 0xee, sizeof(out));
        EXPECT_EQ(transfer(eraser, object, 0, 1000, QR_OK), 1000);
        EXPECT_EQ(transfer(writer, object, 0, 1000, QR_ERR_FAULT), limit);
        EXPECT_EQ(transfer(reader, object, 0, 1000, QR_OK), 1000);
        EXPECT_MEM(out, in, limit);
        for (size_t i = limit; i < 1000; i++)
            ASSERT_EQ(out[i], 0xee);
    }
    sim_validate(sim);
    qr_object_put(object);
    sim_shutdown(sim);
}

/* ---- The machine's side ---------------------------------------------------------- */

TEST(windows, high_memory_is_hidden_but_for_open_windows)
{
    struct sim *sim = boot(SIM_MMU_DEFAULT, 0);
    unsigned char *window = qr_port_window_open(qr_pa_of(HIGH + 0x5000));
    unsigned char *second = qr_port_window_open(qr_pa_of(HIGH + 0x5000));

    window[17] = 99;
    EXPECT_EQ(second[17], 99);
    EXPECT_NE((uintptr_t)window, (uintptr_t)second);
    EXPECT_EQ(*((unsigned char *)sim_ram(sim, qr_pa_of(HIGH + 0x5000)) + 17), 99);
    qr_port_window_close(second);
    EXPECT_PANIC(second[17] = 1, "");
    qr_port_window_close(window);
    EXPECT_PANIC(window[17] = 1, "");
    sim_shutdown(sim);
}
