/* SPDX-License-Identifier: MIT */
/*
 * Pools of huge pages, which are the whole machine's: of eight places for a page, of 2 MiB each, behind
 * the arena, some are mapped, touched, moved and given back, by all processes of the program, from
 * memory of nobody or a file of huge pages; and the pool grows and shrinks.  After each step stands
 * what the pool says: pages in it, free ones, promised ones, surplus ones.
 */
#include "differential.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#define HUGE_BYTES (2ul << 20)
#define HUGE_BASE  (ARENA_BASE + (3ul << 30) - ARENA_BASE % (1ul << 30))
enum { PLACES = 8, FD_HUGE = 120, MOST_PAGES = 6 };

static uintptr_t
place(uintptr_t number)
{
    return HUGE_BASE + number % PLACES * HUGE_BYTES;
}

/* So many from there on that there are places for. */
static size_t
place_bytes(uintptr_t first, uintptr_t count)
{
    size_t room = PLACES - first % PLACES;

    count = 1 + count % PLACES;
    return (count < room ? count : room) * HUGE_BYTES;
}

static void
say_pool(void)
{
    static const char *const names[] = {
        "HugePages_Total:", "HugePages_Free:", "HugePages_Rsvd:", "HugePages_Surp:"};
    char *text = text_read("/proc/meminfo"), *line;

    say("; pool");
    for (unsigned i = 0; text != NULL && i < 4; i++) {
        line = strstr(text, names[i]);
        say(" %ld", line == NULL ? -1 : strtol(line + strlen(names[i]), NULL, 10));
    }
}

static void
say_mapped(long result)
{
    if (is_error(result))
        say_result(result);
    else
        say(" = place %lu", ((unsigned long)result - HUGE_BASE) / HUGE_BYTES);
}

/* arg: place, pages, how */
static void
map_execute(const uintptr_t *arg)
{
    uintptr_t how = arg[2];
    uint64_t flags = MAP_FIXED | ((how & 1) != 0 ? MAP_SHARED : MAP_PRIVATE);
    bool file = (how & 2) != 0;

    flags |= file ? 0 : MAP_ANONYMOUS | MAP_HUGETLB;
    flags |= (how & 12) == 4 ? MAP_NORESERVE : 0;
    flags |= (how & 48) == 16 ? MAP_POPULATE : 0;
    /* A shared one that lies there is a file, which Linux lets go of only after the call. */
    call(SYS_munmap, place(arg[0]), place_bytes(arg[0], arg[1]));
    say_mapped(call(CALL_MMAP, place(arg[0]), place_bytes(arg[0], arg[1]),
                    (how & 192) == 64 ? PROT_READ : PROT_READ | PROT_WRITE, flags,
                    file ? FD_HUGE : (uint64_t)-1,
                    file ? (how >> 8) % 4 * HUGE_BYTES / MMAP_UNIT : 0));
}

static void
touch_execute(const uintptr_t *arg)
{
    size_t bytes = place_bytes(arg[0], arg[1]);
    struct fault fault;

    for (size_t at = 0; at < bytes; at += HUGE_BYTES) {
        uintptr_t address = place(arg[0]) + at + arg[2] % HUGE_BYTES;
        uint8_t byte = (uint8_t)(arg[2] >> 8);

        if (!touch(address, arg[2] % 3 == 0 ? ACCESS_LOAD : ACCESS_STORE, &byte, &fault))
            say(" %d/%d%s", fault.signal, fault.code, fault.address == address ? "" : "?");
        else
            say(" %x", byte);
    }
}

static void
file_execute(const uintptr_t *arg)
{
    uint64_t offset = arg[1] % PLACES * HUGE_BYTES, bytes = (1 + arg[2] / 4 % 4) * HUGE_BYTES;
    long made;

    switch (arg[0] % 5) {
    case 0:
        scratch_put(0, "quire-H", sizeof("quire-H"));
        made = call(SYS_memfd_create, machine_scratch(), 4 | 2 /* HUGETLB, ALLOW_SEALING */);
        if (is_error(made)) {
            say_result(made);
            return;
        }
        say(" = %s", call(SYS_dup3, (uint64_t)made, FD_HUGE, 0) == FD_HUGE ? "file" : "none");
        call(SYS_close, (uint64_t)made);
        break;
    case 1:
        say_result(call(SYS_close, FD_HUGE));
        break;
    case 2:
        say_result(call(SYS_ftruncate, FD_HUGE, offset + (arg[2] % 16 == 15)));
        break;
    case 3:
        say_result(call(SYS_fallocate, FD_HUGE,
                        arg[2] % 4 == 0   ? 0
                        : arg[2] % 4 == 1 ? 1
                                          : 3,
                        offset + (arg[2] % 32 == 31 ? PAGE_BYTES : 0), bytes));
        break;
    default:
        say_result(call(SYS_pread64, FD_HUGE, machine_scratch(), PAGE_BYTES, offset));
        break;
    }
}

static void
change_execute(const uintptr_t *arg)
{
    static const uint64_t advice[] = {
        MADV_DONTNEED, MADV_DONTNEED, MADV_REMOVE, MADV_FREE, 22, 23, MADV_DONTFORK, 18, 24,
        MADV_PAGEOUT,  MADV_MERGEABLE};
    uintptr_t start = place(arg[1]), how = arg[0] / 8;
    size_t bytes = place_bytes(arg[1], arg[2]);

    switch (arg[0] % 8) {
    case 0:
        say_result(call(SYS_munmap, start, bytes - (how % 16 == 15 ? PAGE_BYTES : 0)));
        break;
    case 1:
        say_result(call(SYS_mprotect, start, bytes - (how % 16 == 15 ? PAGE_BYTES : 0),
                        how % 3 == 0 ? PROT_READ : PROT_READ | PROT_WRITE));
        break;
    case 2:
    case 3:
        say_result(call(SYS_madvise, start, bytes - (how % 16 == 15 ? PAGE_BYTES : 0),
                        advice[how % (sizeof(advice) / sizeof(advice[0]))]));
        break;
    case 4:
        /* One place: what comes of several regions depends on Linux's version, and which error is first. */
        say_mapped(call(SYS_mremap, start, HUGE_BYTES, HUGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
                        place(arg[1] + 1 + how % (PLACES - 1))));
        break;
    case 5:
        say_result(call(how % 2 == 0 ? SYS_mlock : SYS_munlock, start, bytes));
        break;
    case 6:
        say_mapped(call(SYS_mremap, start, bytes, bytes - HUGE_BYTES * (how % 2), 0));
        break;
    default:
        say_result(call(SYS_msync, start, bytes, MS_SYNC));
        break;
    }
}

/* What stands in maps, place by place, and how much of each kind is there. */
static void
look_execute(void)
{
    unsigned long private = 0, shared_there = 0, start = 0, end = 0, offset;
    char prot[5], *text = text_read("/proc/self/smaps");

    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (sscanf(line, "%lx-%lx %4s %lx", &start, &end, prot, &offset) == 4) {
            for (uintptr_t at = 0; at < PLACES * HUGE_BYTES; at += HUGE_BYTES) {
                if (HUGE_BASE + at >= start && HUGE_BASE + at < end)
                    say(" %lu:%s", at / HUGE_BYTES, prot);
            }
        } else if (start - HUGE_BASE < PLACES * HUGE_BYTES) {
            field_add(line, "Private_Hugetlb", &private);
            field_add(line, "Shared_Hugetlb", &shared_there);
        }
    }
    say(" private %lu shared %lu", private, shared_there);
}

/* arg: what, and what of it */
void
huge_execute(const uintptr_t *arg)
{
    if (sizeof(void *) < 8) {
        say(" not tried");
        return;
    }
    shared->pools = true;
    switch (arg[0] % 8) {
    case 0:
        say_result(setting_write(arg[1] % 8 == 0 ? "nr_overcommit_hugepages" : "nr_hugepages",
                                 arg[2] % (MOST_PAGES + 1)));
        break;
    case 1:
    case 2:
        map_execute(arg + 1);
        break;
    case 3:
    case 4:
        touch_execute(arg + 1);
        break;
    case 5:
        file_execute(arg + 1);
        break;
    case 6:
        change_execute(arg + 1);
        break;
    default:
        look_execute();
        break;
    }
    say_pool();
}

/* The pool is as it was. */
void
huge_finish(void)
{
    if (!shared->pools)
        return;
    setting_write("nr_overcommit_hugepages", 0);
    setting_write("nr_hugepages", 0);
    shared->pools = false;
}
