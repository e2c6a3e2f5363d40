/* SPDX-License-Identifier: MIT */
/*
 * Limits.  How large a program is when it begins differs from machine to machine, so those on the
 * size and the data are set so many pages above what there is now.
 */
#include "differential.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

static void
rlimit_execute(const uintptr_t *arg)
{
    static const struct {
        int resource;
        const char *now;
    } limits[] = {{RLIMIT_MEMLOCK, NULL},
                  {RLIMIT_FSIZE, NULL},
                  {RLIMIT_AS, "VmSize"},
                  {RLIMIT_DATA, "VmData"},
                  {RLIMIT_STACK, NULL}};
    size_t which = arg[0] % (sizeof(limits) / sizeof(limits[0]));
    uint64_t resource = (uint64_t)limits[which].resource, limit[2], wanted = arg[1] * PAGE_BYTES;

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
#ifdef SYS_mmap2
    const long number = SYS_mmap2;
#else
    const long number = SYS_mmap;
#endif
    uint64_t bytes;
    struct sysinfo info;
    long result;

    call(SYS_sysinfo, machine_scratch());
    scratch_get(&info, 0, sizeof(info));
    bytes = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit / 4 * arg[0];
    if (shared->locked_all || bytes > UINTPTR_MAX / 8) {
        say(" not tried");
        return;
    }
    result = call(number, 0, bytes & -PAGE_BYTES, arg[1],
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

void
limit_execute(enum op_kind kind, const uintptr_t *arg)
{
    if (kind == OP_LIMIT)
        rlimit_execute(arg);
    else
        overcommit_execute(arg);
}
