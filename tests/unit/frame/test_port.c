/* SPDX-License-Identifier: MIT */
#include "test_port.h"

#include "harness.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static _Thread_local struct machine *here;
static _Thread_local struct qr_cpu *here_cpu;
static _Thread_local uintptr_t irq_off;

/* ---- the port ----------------------------------------------------------- */

void *
qr_port_window_open(qr_pa pa)
{
    return here->ram + pa.v;
}

void
qr_port_window_close(void *window)
{
    (void)window;
}

qr_pa
qr_port_direct_pa(const void *pointer)
{
    return qr_pa_of((uint64_t)((const char *)pointer - here->ram));
}

void
qr_port_panic(const char *message)
{
    fprintf(stderr, "panic: %s\n", message);
    abort();
}

void
qr_port_log(const char *line)
{
    struct machine *machine = here;

    if (machine == NULL)
        return;
    if (__atomic_fetch_add(&machine->log_lines, 1, __ATOMIC_RELAXED) == 0)
        snprintf(machine->first_log, sizeof(machine->first_log), "%s", line);
}

struct qr_cpu *
qr_port_this_cpu(void)
{
    return here_cpu;
}

uintptr_t
qr_port_irq_save(void)
{
    uintptr_t before = irq_off;

    irq_off = 1;
    return before;
}

void
qr_port_irq_restore(uintptr_t state)
{
    irq_off = state;
}

void
qr_port_relax(void)
{
    sched_yield();
}

void
qr_port_wait(_Atomic uint32_t *word, uint32_t expected)
{
    (void)word, (void)expected;
    sched_yield();
}

void
qr_port_wake(_Atomic uint32_t *word, uint32_t count)
{
    (void)word, (void)count;
}

uint64_t
qr_port_clock_ns(void)
{
    return 0;
}

void
qr_port_random(void *buffer, size_t bytes)
{
    static _Thread_local uint64_t state = 42;

    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)buffer)[i] = (unsigned char)test_random(&state);
}

void
qr_port_ipi(const struct qr_cpu_set *cpus)
{
    (void)cpus;
}

/* ---- machines ----------------------------------------------------------- */

static void *
reserve(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        fprintf(stderr, "test machine: no %zu bytes of addresses: %s\n", bytes, strerror(errno));
        abort();
    }
    return memory;
}

/* RAM up to the highest usable address that the limit lets through. */
static uint64_t
ram_needed(const struct qr_frames_config *config)
{
    uint64_t end = config->hotplug_end;

    for (size_t i = 0; i < config->map_count; i++) {
        uint64_t to = config->map[i].range.end.v;

        if (config->physical_limit != 0 && to > config->physical_limit)
            to = config->physical_limit;
        if (config->map[i].kind == QR_MEMORY_USABLE && to > end &&
            to > config->map[i].range.start.v)
            end = to;
    }
    return end + QR_PAGE_SIZE;
}

enum qr_status
machine_try_boot(struct machine_options options, struct machine **out_machine)
{
    struct qr_memory_range only =
        RANGE(options.start, options.start + options.bytes, QR_MEMORY_USABLE, "test memory");
    struct qr_frames_config config = {
        .map = options.map != NULL ? options.map : &only,
        .map_count = options.map != NULL ? options.map_count : 1,
        .physical_limit = options.physical_limit,
        .direct_limit = options.direct_limit,
        .cpu_count = options.cpus == 0 ? 1 : options.cpus,
        .distance = options.distance,
        .node_count = options.node_count,
        .hotplug_end = options.hotplug_end,
    };
    struct machine *machine = calloc(1, sizeof(*machine) + QR_CACHE_LINE);
    enum qr_status status;

    machine->ram_bytes = ram_needed(&config);
    machine->ram = reserve(machine->ram_bytes);
    machine->frames_bytes = qr_frames_size(&config);
    machine->frames = reserve(machine->frames_bytes);
    machine->cpu_count = config.cpu_count;
    for (unsigned i = 0; i < config.cpu_count; i++)
        machine->cpus[i].index = i;
    machine_enter(machine, 0);
    status = qr_frames_init(machine->frames, &config);
    if (status != QR_OK) {
        munmap(machine->ram, machine->ram_bytes);
        munmap(machine->frames, machine->frames_bytes);
        free(machine);
        return status;
    }
    *out_machine = machine;
    return QR_OK;
}

struct machine *
machine_boot(struct machine_options options)
{
    struct machine *machine = NULL;

    ASSERT_EQ(machine_try_boot(options, &machine), QR_OK);
    return machine;
}

void
machine_shutdown(struct machine *machine)
{
    qr_frames_fini(machine->frames);
    munmap(machine->ram, machine->ram_bytes);
    munmap(machine->frames, machine->frames_bytes);
    free(machine);
    here = NULL;
}

void
machine_enter(struct machine *machine, unsigned cpu)
{
    here = machine;
    here_cpu = &machine->cpus[cpu];
    irq_off = 0;
}

void
machine_validate(struct machine *machine, const char *file, int line)
{
    char message[200] = "";

    if (!qr_frames_validate(machine->frames, message, sizeof(message))) {
        fprintf(stderr, "%s:%d: %s\n", file, line, message);
        EXPECT_STR(message, "");
    }
}

size_t
machine_free_frames(struct machine *machine)
{
    struct qr_frames_stats stats;

    qr_frames_stats(machine->frames, &stats);
    return stats.free;
}
