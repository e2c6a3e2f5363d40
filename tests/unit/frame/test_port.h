/* SPDX-License-Identifier: MIT */
/*
 * The smallest port that frames and heap run on: physical memory is an address range of
 * the process that costs nothing until it is touched, and each thread acts as one CPU of one
 * machine.  The hosted machine in sim/ does much more; these tests need its
 * speed and its silence instead.
 */
#ifndef TEST_PORT_H
#define TEST_PORT_H

#include <quire/frame.h>
#include <quire/port.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

struct machine {
    char *ram; /* physical address 0 */
    uint64_t ram_bytes;
    struct qr_frames *frames;
    size_t frames_bytes;
    struct qr_cpu cpus[CONFIG_MAX_CPUS];
    unsigned cpu_count;
    unsigned log_lines;
    char last_log[256];
    char first_log[256];
};

struct machine_options {
    const struct qr_memory_range *map; /* else one usable range: */
    size_t map_count;
    uint64_t start, bytes;
    uint64_t direct_limit;
    uint64_t physical_limit;
    unsigned cpus; /* 0: 1 */
    const uint8_t *distance;
    unsigned node_count;
    uint64_t hotplug_end;
};

/* Boot; the calling thread is CPU 0.  Fails the test where frames do not start. */
struct machine *machine_boot(struct machine_options options);
/* The same, but return what qr_frames_init() says and keep the machine only on QR_OK. */
enum qr_status machine_try_boot(struct machine_options options, struct machine **out_machine);
void machine_shutdown(struct machine *machine);
/* The calling thread acts as CPU @cpu. */
void machine_enter(struct machine *machine, unsigned cpu);

/* One usable range. */
#define RANGE(from, to, of_kind, text)                                               \
    {                                                                                \
        .range = {{from}, {to}}, .kind = (of_kind), .node = 0, .description = (text) \
    }

void machine_validate(struct machine *machine, const char *file, int line);
#define VALIDATE(machine) machine_validate(machine, __FILE__, __LINE__)

size_t machine_free_frames(struct machine *machine);

#endif
