/* SPDX-License-Identifier: MIT */
/*
 * Threads that call at once.  In which order they do it is the machine's, so what is compared is
 * what comes out of every order:
 *
 *   page of the area   0  1  2  3  4  5  6  7 ...  last
 *   whose it is        a  b  c  a  b  c  a  b      everybody's
 *
 * A thread maps, unmaps, protects, moves and writes its own pages only, so that each of its results
 * and all that is in them follows from its own calls, while the regions and page tables in which
 * they lie belong to all.  Everybody's page is always there and may always be written: each adds to
 * the same byte of it, among forks and changes of protection, and no addition may be lost.
 *
 * In an area of private memory a child that a thread forks overwrites all it can: nobody sees that.
 */
#include "differential.h"

#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static uint64_t
rnd_of(struct racer *racer, uint64_t limit)
{
    uint64_t z = racer->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % limit;
}

static void
note(struct racer *racer, uint64_t value)
{
    racer->hash = (racer->hash ^ value) * 0x100000001b3u;
    racer->hash ^= racer->hash >> 29;
}

static uintptr_t
shared_page(const struct racer *racer)
{
    return racer->area + (racer->pages - 1) * PAGE_BYTES;
}

/* A page of the racer's own. */
static uintptr_t
own_page(struct racer *racer)
{
    unsigned mine = (racer->pages - 1 - racer->index + racer->racers - 1) / racer->racers;

    return racer->area + (racer->index + rnd_of(racer, mine) * racer->racers) * PAGE_BYTES;
}

static void
access_step(struct racer *racer, uintptr_t page, enum access access)
{
    struct fault fault = {0};
    uint8_t byte = (uint8_t)rnd_of(racer, 256);

    if (touch(page + rnd_of(racer, PAGE_BYTES), access, &byte, &fault))
        note(racer, byte);
    else
        note(racer, (uint64_t)fault.signal << 32 | (uint64_t)fault.code << 48 |
                        (fault.address - racer->area));
}

static void
map_step(struct racer *racer, uintptr_t page)
{
    static const uint64_t prots[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ,
                                     PROT_NONE};
    uint64_t flags = MAP_FIXED | (racer->is_shared ? MAP_SHARED : MAP_PRIVATE);
    bool file = rnd_of(racer, 3) == 0;
    uint64_t offset = file ? page - racer->area : 0, prot = prots[rnd_of(racer, 4)];

    note(racer,
         (uint64_t)call(CALL_MMAP, page, PAGE_BYTES, prot, flags | (file ? 0 : MAP_ANONYMOUS),
                        file ? (uint64_t)racer->file : (uint64_t)-1, offset / MMAP_UNIT) -
             racer->area);
}

/* What is moved away leaves nothing, or (DONTUNMAP, by which Linux unlocks neighbours) an empty page. */
static void
move_step(struct racer *racer, uintptr_t page)
{
    bool keeps = !racer->locks && rnd_of(racer, 3) == 0;
    uint64_t flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keeps ? 4u : 0);

    note(racer, (uint64_t)call(SYS_mremap, page, PAGE_BYTES, PAGE_BYTES, flags, own_page(racer)) -
                    racer->area);
}

static void
resident_step(struct racer *racer, uintptr_t page)
{
    /* Not what it says: others' children may have brought pages of the file in. */
    note(racer, (uint64_t)call(SYS_mincore, page, PAGE_BYTES, machine_scratch() + racer->scratch));
}

/* From one page to another by the kernel, through protections that forbid it or not. */
static void
copy_step(struct racer *racer, uintptr_t page)
{
    const uintptr_t from[] = {page + 64, 128}, to[] = {own_page(racer) + 512, 128};
    uintptr_t at = racer->scratch;

    note(racer, (uint64_t)call(SYS_process_vm_readv, (uint64_t)process_id(self),
                               pieces_put(at, to, 1), 1, pieces_put(at + 64, from, 1), 1, 0));
}

static void
advise_step(struct racer *racer, uintptr_t page)
{
    static const uint64_t advice[] = {
        MADV_DONTNEED,           MADV_DONTNEED, MADV_NORMAL, MADV_DONTDUMP,
        23 /* POPULATE_WRITE */, 20 /* COLD */, 22 /* POPULATE_READ */};

    note(racer, (uint64_t)call(SYS_madvise, page, PAGE_BYTES, advice[rnd_of(racer, 7)]));
}

/* Something that everybody's page does not mind. */
static void
shared_step(struct racer *racer)
{
    uint64_t page = shared_page(racer), prot = PROT_READ | PROT_WRITE;

    switch (rnd_of(racer, 8)) {
    case 0:
        note(racer, (uint64_t)call(SYS_mprotect, page, PAGE_BYTES, prot | PROT_EXEC));
        break;
    case 1:
        note(racer, (uint64_t)call(SYS_mprotect, page, PAGE_BYTES, prot));
        break;
    case 2:
        note(racer, (uint64_t)call(SYS_madvise, page, PAGE_BYTES, 23 /* POPULATE_WRITE */));
        break;
    default:
        machine_add(page);
        racer->added++;
        break;
    }
}

static void
range_step(struct racer *racer, uintptr_t page)
{
    static const uint64_t prots[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE,
                                     PROT_READ | PROT_WRITE | PROT_EXEC};

    switch (rnd_of(racer, 5)) {
    case 0:
        note(racer, (uint64_t)call(SYS_munmap, page, PAGE_BYTES));
        break;
    case 1:
        note(racer, (uint64_t)call(SYS_msync, page, PAGE_BYTES, MS_SYNC));
        break;
    case 2:
        if (racer->locks)
            note(racer,
                 (uint64_t)call(rnd_of(racer, 2) == 0 ? SYS_mlock : SYS_munlock, page, PAGE_BYTES));
        break;
    default:
        note(racer, (uint64_t)call(SYS_mprotect, page, PAGE_BYTES, prots[rnd_of(racer, 4)]));
        break;
    }
}

void
racer_step(struct racer *racer)
{
    uintptr_t page = own_page(racer);

    switch (rnd_of(racer, 16)) {
    case 0:
    case 1:
        map_step(racer, page);
        break;
    case 2:
    case 3:
    case 4:
        range_step(racer, page);
        break;
    case 5:
        move_step(racer, page);
        break;
    case 6:
        advise_step(racer, page);
        break;
    case 7:
        copy_step(racer, page);
        break;
    case 8:
        resident_step(racer, page);
        break;
    case 9:
    case 10:
        access_step(racer, page, ACCESS_LOAD);
        break;
    case 11:
    case 12:
    case 13:
        access_step(racer, page, ACCESS_STORE);
        break;
    case 14:
        if (rnd_of(racer, 8) == 0)
            note(racer, (uint64_t)fork_racer(racer));
        break;
    default:
        shared_step(racer);
        break;
    }
}

/* Its memory is a copy: it does with it what it likes, and nobody sees that. */
static int
racer_child(const void *argument)
{
    const struct racer *racer = argument;
    struct fault fault;
    uint8_t byte = 0xee;

    for (unsigned i = 0; i < racer->pages; i++)
        touch(racer->area + i * PAGE_BYTES, racer->is_shared ? ACCESS_LOAD : ACCESS_STORE, &byte,
              &fault);
    return 0;
}

long
fork_racer(const struct racer *racer)
{
    const struct clone_args args = {.exit_signal = SIGCHLD};
    uint32_t pid;

    return machine_child(&args, racer_child, racer, &pid);
}

/* All of the area is mapped anew, and there is as much of the file; everybody's page holds a zero. */
static bool
area_prepare(const struct racer *racer)
{
    uint64_t flags = MAP_FIXED | MAP_ANONYMOUS | (racer->is_shared ? MAP_SHARED : MAP_PRIVATE);

    call(SYS_munlockall);
    return call(CALL_MMAP, racer->area, racer->pages * PAGE_BYTES, PROT_READ | PROT_WRITE, flags,
                (uint64_t)-1, 0) == (long)racer->area &&
           call(SYS_fallocate, (uint64_t)racer->file, 0, 0, racer->pages * PAGE_BYTES) == 0;
}

/* arg: where, pages, threads, calls of each, seed, whether the memory is shared (1), is locked (2). */
void
race_execute(const uintptr_t *arg)
{
    struct racer racers[RACERS];
    unsigned count = 2 + (unsigned)arg[2] % (RACERS - 1), added = 0;
    struct fault fault = {0};
    uint8_t sum = 0;

    memset(racers, 0, sizeof(racers));
    for (unsigned i = 0; i < count; i++)
        racers[i] = (struct racer){.state = arg[4] * 0xd1342543de82ef95u + i,
                                   .index = i,
                                   .racers = count,
                                   .area = arg[0],
                                   .pages = 16 + (unsigned)arg[1] % (ARENA_PAGES - 16),
                                   .steps = (unsigned)arg[3] % 256,
                                   .file = descriptor(2),
                                   .scratch = (i + 1) * PAGE_BYTES,
                                   .is_shared = arg[5] % 2 != 0,
                                   .locks = arg[5] / 2 % 2 != 0};
    if (shared->limited || shared->sharing || !is_ours(arg[0]) || arg[0] % PAGE_BYTES != 0 ||
        !is_ours(arg[0] + racers[0].pages * PAGE_BYTES) || !area_prepare(&racers[0])) {
        say(" not tried");
        return;
    }
    machine_race(racers, count);
    call(SYS_mprotect, shared_page(&racers[0]), PAGE_BYTES, PROT_READ | PROT_WRITE);
    for (unsigned i = 0; i < count; i++) {
        say(" %08lx", (unsigned long)(uint32_t)(racers[i].hash >> 16));
        added += racers[i].added;
    }
    if (!touch(shared_page(&racers[0]), ACCESS_LOAD, &sum, &fault))
        say_fault(&fault);
    say(sum == (uint8_t)added ? " sum %u" : " lost: sum %u of %u", sum, added);
}
