/* SPDX-License-Identifier: MIT */
/*
 * Limits.  How large a program is when it begins differs from machine to machine, so those on the
 * size and the data are set so many pages above what there is now.
 */
#include "differential.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#ifdef SYS_mmap2
#define CALL_MMAP SYS_mmap2
#else
#define CALL_MMAP SYS_mmap
#endif

static void
rlimit_execute(const uintptr_t *arg)
{
    static const struct {
        int resource;
        const char *now;
    } limits[] = {{RLIMIT_MEMLOCK, NULL},  {RLIMIT_FSIZE, NULL}, {RLIMIT_AS, "VmSize"},
                  {RLIMIT_DATA, "VmData"}, {RLIMIT_STACK, NULL}, {RLIMIT_NPROC, NULL}};
    size_t which = arg[0] % (sizeof(limits) / sizeof(limits[0]));
    uint64_t resource = (uint64_t)limits[which].resource, limit[2], wanted = arg[1] * PAGE_BYTES;

    if (resource == RLIMIT_NPROC)
        wanted = arg[1] % 8;

    shared->limited = true;
    if (limits[which].now != NULL)
        wanted += status_bytes(limits[which].now);
    call(SYS_prlimit64, 0, resource, 0, machine_scratch());
    scratch_get(limit, 0, sizeof(limit));
    limit[0] = wanted < limit[1] ? wanted : limit[1];
    scratch_put(0, limit, sizeof(limit));
    say_result(call(SYS_prlimit64, 0, resource, machine_scratch(), 0));
}

/*
 * So many quarters of all memory and swap at once, which is never touched: the heuristic of
 * vm.overcommit_memory 0 lets one mapping be as large as both are.
 */
static void
overcommit_execute(const uintptr_t *arg)
{
    uint64_t bytes;
    struct sysinfo info;
    long result;

    call(SYS_sysinfo, machine_scratch());
    scratch_get(&info, 0, sizeof(info));
    bytes = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit / 4 * arg[0];
    /* Where addresses have 32 bits they run out first, on the machine that has more memory. */
    if (shared->locked_all || sizeof(uintptr_t) < sizeof(bytes)) {
        say(" not tried");
        return;
    }
    result = call(CALL_MMAP, 0, bytes & -PAGE_BYTES, arg[1],
                  (arg[2] & MAP_NORESERVE) | MAP_ANONYMOUS |
                      ((arg[2] & 1) != 0 ? MAP_SHARED : MAP_PRIVATE),
                  (uint64_t)-1, 0);
    if (is_error(result)) {
        say_result(result);
        return;
    }
    say(" = elsewhere");
    call(SYS_munmap, (uint64_t)result, bytes & -PAGE_BYTES);
}

/* ---- vm.overcommit_memory -------------------------------------------------------------- */

/* Large against what a kernel counts by CPU, and what a program has. */
#define UNIT_BYTES (16ul << 20)
enum { PLACES = 6, COMMIT_STEPS = 12 };

long
setting_write(const char *name, unsigned long value)
{
    char text[32], path[64];
    long fd, done;

    snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
    fd = path_open(path, O_WRONLY);
    if (fd < 0)
        return fd;
    snprintf(text, sizeof(text), "%lu\n", value);
    scratch_put(0, text, strlen(text));
    done = call(SYS_write, (uint64_t)fd, machine_scratch(), strlen(text));
    call(SYS_close, (uint64_t)fd);
    return done;
}

static unsigned long
committed_kilobytes(void)
{
    const char *line = text_read("/proc/meminfo");

    line = line == NULL ? NULL : strstr(line, "Committed_AS:");
    return line == NULL ? 0 : strtoul(line + 13, NULL, 10);
}

struct place {
    uintptr_t start;
    size_t units;
};

static long
map_units(size_t units, unsigned kind)
{
    static const struct {
        uint64_t prot, flags;
    } kinds[] = {{PROT_READ | PROT_WRITE, MAP_PRIVATE},
                 {PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE},
                 {PROT_READ | PROT_WRITE, MAP_SHARED},
                 {PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE},
                 {PROT_READ, MAP_PRIVATE}};

    return call(CALL_MMAP, 0, units * UNIT_BYTES, kinds[kind].prot,
                kinds[kind].flags | MAP_ANONYMOUS, (uint64_t)-1, 0);
}

static long
commit_step(struct place *place, uint32_t dice)
{
    const struct racer nobody = {.pages = 0};
    size_t units = 1 + dice / 16 % 4;
    long result;

    if (dice % 16 == 15)
        return fork_racer(&nobody); /* promises all that is private once more */
    if (place->units == 0) {
        result = map_units(units, dice % 5);
        if (!is_error(result))
            *place = (struct place){(uintptr_t)result, units};
        return is_error(result) ? result : 0;
    }
    switch (dice % 4) {
    case 0:
        result = call(SYS_mremap, place->start, place->units * UNIT_BYTES, units * UNIT_BYTES,
                      MREMAP_MAYMOVE);
        if (!is_error(result))
            *place = (struct place){(uintptr_t)result, units};
        return is_error(result) ? result : 1;
    case 1:
        result = call(SYS_munmap, place->start, place->units * UNIT_BYTES);
        place->units = 0;
        return result;
    default:
        return call(SYS_mprotect, place->start, place->units * UNIT_BYTES,
                    dice / 4 % 4 == 0 ? PROT_READ : PROT_READ | PROT_WRITE);
    }
}

/*
 * arg: mode, units that may be promised in mode 2, seed.  The limit is set above what all have
 * promised by then, with half a unit for what a program has beside this.
 */
static void
commit_execute(const uintptr_t *arg)
{
    struct place places[PLACES] = {{0, 0}};
    uint64_t state = arg[2];
    unsigned long room = arg[1] % 16 * UNIT_BYTES + UNIT_BYTES / 2;

    if (shared->limited || shared->locked_all || sizeof(void *) < 8) {
        say(" not tried");
        return;
    }
    setting_write("user_reserve_kbytes", 0);
    setting_write("admin_reserve_kbytes", 0);
    if (setting_write("overcommit_memory", arg[0] % 3) < 0) {
        say(" may not");
        return;
    }
    if (arg[0] % 3 == 2)
        setting_write("overcommit_kbytes", committed_kilobytes() + room / 1024);
    for (unsigned i = 0; i < COMMIT_STEPS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        say_result(commit_step(&places[(state >> 33) % PLACES], (uint32_t)(state >> 40)));
    }
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i].units != 0)
            call(SYS_munmap, places[i].start, places[i].units * UNIT_BYTES);
    }
    setting_write("overcommit_memory", 0);
    setting_write("overcommit_ratio", 50);
}

void
limit_execute(enum op_kind kind, const uintptr_t *arg)
{
    if (kind == OP_LIMIT)
        rlimit_execute(arg);
    else if (kind == OP_COMMIT)
        commit_execute(arg);
    else
        overcommit_execute(arg);
}
