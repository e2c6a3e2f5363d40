/* SPDX-License-Identifier: MIT */
#include "frames_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

#include "frames_port.h"
#include <quire/port.h>

char *bench_ram;
_Thread_local struct qr_cpu *bench_cpu;
_Thread_local volatile uintptr_t bench_irq;
static struct qr_cpu cpus[CONFIG_MAX_CPUS];

void
qr_port_panic(const char *message)
{
    fprintf(stderr, "panic: %s\n", message);
    abort();
}

void
qr_port_log(const char *line)
{
    fprintf(stderr, "%s\n", line);
}

void
qr_port_wait(_Atomic uint32_t *word, uint32_t expected)
{
    (void)word, (void)expected;
}

void
qr_port_wake(_Atomic uint32_t *word, uint32_t count)
{
    (void)word, (void)count;
}

uint64_t
qr_port_clock_ns(void)
{
    return bench_now_ns();
}

void
qr_port_random(void *buffer, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        ((unsigned char *)buffer)[i] = (unsigned char)bench_random();
}

void
qr_port_ipi(const struct qr_cpu_set *set)
{
    (void)set;
}

uint64_t
bench_random(void)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

uint64_t
bench_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void
bench_operations(uint64_t count)
{
    printf("OPERATIONS %llu\n", (unsigned long long)count);
}

void
bench_enter(unsigned cpu)
{
    bench_cpu = &cpus[cpu];
}

static void *
reserve(uint64_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return memory;
}

struct qr_frames *
bench_boot(uint64_t bytes, unsigned count)
{
    /* Above the DMA zone, as nearly all memory is. */
    struct qr_memory_range range = {.range = {{16 * BENCH_MIB}, {16 * BENCH_MIB + bytes}}};
    struct qr_frames_config config = {.map = &range, .map_count = 1, .cpu_count = count};
    struct qr_frames *frames;

    for (unsigned i = 0; i < count; i++)
        cpus[i].index = i;
    bench_enter(0);
    bench_ram = reserve(range.range.end.v);
    frames = reserve(qr_frames_size(&config));
    if (qr_frames_init(frames, &config) != QR_OK) {
        fprintf(stderr, "frames do not start\n");
        exit(1);
    }
    return frames;
}

struct qr_frames *
bench_boot_nodes(uint64_t bytes, unsigned count, unsigned nodes, long *out_pages,
                 uint64_t *out_start)
{
    static struct qr_memory_range ranges[CONFIG_MAX_NODES];
    struct qr_frames_config config = {.map = ranges, .map_count = nodes, .cpu_count = count};
    struct rusage usage;
    struct qr_frames *frames;

    for (unsigned i = 0; i < nodes; i++)
        ranges[i] = (struct qr_memory_range){.range = {{16 * BENCH_MIB + bytes / nodes * i},
                                                       {16 * BENCH_MIB + bytes / nodes * (i + 1)}},
                                             .node = i};
    for (unsigned i = 0; i < count; i++) {
        cpus[i].index = i;
        cpus[i].node = i * nodes / count;
    }
    bench_enter(0);
    bench_ram = reserve(16 * BENCH_MIB + bytes);
    frames = reserve(qr_frames_size(&config));
    getrusage(RUSAGE_SELF, &usage);
    *out_pages = usage.ru_minflt;
    *out_start = bench_now_ns();
    if (qr_frames_init(frames, &config) != QR_OK) {
        fprintf(stderr, "frames do not start\n");
        exit(1);
    }
    return frames;
}
