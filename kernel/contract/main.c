/* SPDX-License-Identifier: MIT */
/*
 * The contract tests inside the reference kernel: an image of its own, in which
 * a kernel thread runs them in the place of process 1 (the linker wraps
 * process_start_init) and stops the machine with their status.
 *
 * `filter=` and `seed=` on the command line are those of the hosted tests.
 */
#include <arch.h>
#include <boot.h>
#include <memory.h>
#include <printk.h>
#include <sched.h>

#include "contract.h"

void __wrap_process_start_init(void);

static struct contract_machine machine;

const struct contract_machine *
contract_machine_begin(void)
{
    machine = (struct contract_machine){
        .frames = memory.frames,
        .heap = memory.heap,
        .vm = memory.vm,
        .epoch = &memory.epoch,
    };
    return &machine;
}

void
contract_machine_end(void)
{
}

/* gcc's own setjmp needs no libc; the words are fp, resume address and sp. */
static void *guard_exit[5];

static void
host_write(const char *text, size_t length)
{
    console_write(text, length);
}

static QR_NOINLINE bool
host_guard(void (*body)(void))
{
    if (__builtin_setjmp(guard_exit) != 0)
        return false;
    body();
    return true;
}

static QR_NOINLINE void
host_end(void)
{
    __builtin_longjmp(guard_exit, 1);
}

static uint64_t
number_of(const char *text)
{
    uint64_t number = 0;

    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint64_t)(*text - '0');
    return number;
}

/* The tests count frames: let the rest of the start-up, on other CPUs too, end first. */
static void
settle(void)
{
    enum { LOOKS = 200, QUIET = 5, PAUSE_NS = 10000000 };
    size_t last = 0;

    for (unsigned look = 0, quiet = 0; look < LOOKS && quiet < QUIET; look++) {
        struct qr_frames_stats stats;

        sched_sleep_until(clock_monotonic_ns() + PAUSE_NS);
        qr_frames_stats(memory.frames, &stats);
        quiet = stats.free == last ? quiet + 1 : 0;
        last = stats.free;
    }
}

static void
contract_thread(void *unused)
{
    static char filter[128];
    char seed[24];
    struct test_host host = {.write = host_write, .guard = host_guard, .end = host_end, .seed = 1};
    struct test_selection selection = {.filter = NULL};
    struct test_totals totals;

    (void)unused;
    if (boot_option("filter", filter, sizeof(filter)))
        selection.filter = filter;
    if (boot_option("seed", seed, sizeof(seed)))
        host.seed = number_of(seed);
    settle();
    totals = test_run_all(&host, selection);
    kernel_exit(totals.failed > 0 || totals.passed == 0 ? 1 : 0);
}

void
__wrap_process_start_init(void)
{
    if (kernel_thread_start("contract", contract_thread, NULL) == NULL)
        panic("contract: no memory for the thread of the tests");
}
