/* SPDX-License-Identifier: MIT */
#ifndef BENCH_FRAMES_MACHINE_H
#define BENCH_FRAMES_MACHINE_H

/* A machine for the benchmarks: memory that costs nothing until it is touched. */
#include <quire/frame.h>

#define BENCH_MIB ((uint64_t)1 << 20)
#define BENCH_GIB ((uint64_t)1 << 30)

/* What callgrind counts: functions of this name prefix, and no others. */
#define MEASURED(name) static __attribute__((noinline)) void measured_##name

struct qr_frames *bench_boot(uint64_t bytes, unsigned cpus);
/* Memory and CPUs spread over @nodes; @out_pages and @out_start are what stood when it began. */
struct qr_frames *bench_boot_nodes(uint64_t bytes, unsigned cpus, unsigned nodes, long *out_pages,
                                   uint64_t *out_start);
void bench_enter(unsigned cpu);
uint64_t bench_random(void);
/* Print how many operations the measured function did: callgrind's count is divided by it. */
void bench_operations(uint64_t count);
uint64_t bench_now_ns(void);

#endif
