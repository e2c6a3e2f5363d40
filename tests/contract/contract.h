/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CONTRACT_H
#define TESTS_CONTRACT_H

/**
 * @file
 * Contract tests: what every machine that carries the library may rely on, said
 * through the public headers alone.  The same files run on the hosted machine
 * and inside the reference kernel, which differ in contract_machine() only.
 *
 * After each test every frame and heap object that it took must be back, and
 * every structure must be valid.
 */

#include <quire/quire.h>

#include "harness.h"

/** What the tests run on; all of it is the caller's for the time of one test. */
struct contract_machine {
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_vm *vm;       /* NULL: no spaces here */
    struct qr_epoch *epoch; /* where releases wait; NULL: nowhere */
};

/** Supplied by the machine: begin a test, end it. */
const struct contract_machine *contract_machine_begin(void);
void contract_machine_end(void);

/** Run @body between begin and end, and look for leaks and broken structures. */
void contract_run(void (*body)(const struct contract_machine *machine));

#define CONTRACT(suite, name)                                                      \
    static void contract_##suite##_##name(const struct contract_machine *machine); \
    TEST(contract_##suite, name)                                                   \
    {                                                                              \
        contract_run(contract_##suite##_##name);                                   \
    }                                                                              \
    static void contract_##suite##_##name(const struct contract_machine *machine)

/* ---- Contents of frames -------------------------------------------------- */

/** Fill a frame with what follows from @seed. */
void contract_frame_fill(const struct contract_machine *machine, struct qr_frame *frame,
                         uint64_t seed);
/** Whether it still holds that. */
bool contract_frame_holds(const struct contract_machine *machine, struct qr_frame *frame,
                          uint64_t seed);
bool contract_frame_is_zero(const struct contract_machine *machine, struct qr_frame *frame);

#endif
