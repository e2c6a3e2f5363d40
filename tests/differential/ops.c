/* SPDX-License-Identifier: MIT */
/*
 * What each call does.  A call that lets the kernel choose a place is put where both
 * machines agree at once: a mapping made elsewhere goes, one moved elsewhere is moved on to
 * the slot that its last argument names.
 */
#include "differential.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifdef SYS_mseal
#define CALL_MSEAL SYS_mseal
#else
#define CALL_MSEAL 462
#endif
#ifdef SYS_ftruncate64
#define CALL_FTRUNCATE SYS_ftruncate64
#else
#define CALL_FTRUNCATE SYS_ftruncate
#endif

/* MAP_32BIT, which only x86-64 has: the first 2 GiB, of which hints into the arena are not. */
#define MAP_LOW       0x40u
#define MAP_NOREPLACE 0x100000u

static void
say_low(long result, const uintptr_t *arg)
{
#ifdef __x86_64__
    bool low = (uintptr_t)result + arg[1] <= 0x80000000u;
#else
    /* There is no such flag: only FIXED_NOREPLACE has a place on both sides. */
    bool low = (arg[3] & MAP_NOREPLACE) == 0 || (uintptr_t)result - ARENA_BASE >= ARENA_BYTES;
#endif

    say(low ? " = low" : " = high");
    call(SYS_munmap, (uintptr_t)result, arg[1]);
}

static void
mmap_execute(const uintptr_t *arg, int fd)
{
    uintptr_t arg3 = arg[3];
    long result;

    if (arg[5] % MMAP_UNIT != 0) {
        say(" = -EINVAL");
        return;
    }
#ifndef __x86_64__
    arg3 &= ~(uintptr_t)MAP_LOW;
#endif
    result = call(CALL_MMAP, arg[0], arg[1], arg[2], arg3, (uint64_t)fd, arg[5] / MMAP_UNIT);
    if (is_error(result)) {
        say_result(result);
        return;
    }
    if ((arg[3] & MAP_LOW) != 0 && (arg[3] & MAP_FIXED) == 0) {
        say_low(result, arg);
        return;
    }
    say(" =");
    say_address((uintptr_t)result);
    if (!is_ours((uintptr_t)result))
        call(SYS_munmap, (uintptr_t)result, arg[1]);
}

/*
 * Linux's DONTUNMAP unlocks the whole region that the old range lies in, wherever that ends; so the
 * range is not locked here.  And a mapping that moves takes the watch over its new neighbours along,
 * where both were watched, and then loses it for all: so they are not.
 */
static void
mremap_execute(const uintptr_t *arg)
{
    long result, moved;

    for (uintptr_t at = arg[0] & -PAGE_BYTES;
         (arg[3] & ~(uintptr_t)MREMAP_FIXED) == (MREMAP_MAYMOVE | 4) && is_ours(at) &&
         at - arg[0] < arg[1];
         at += PAGE_BYTES)
        call(SYS_munlock, at, PAGE_BYTES);
    if ((arg[3] & MREMAP_FIXED) != 0)
        unwatch_around(arg[4], arg[2]);
    result = call(SYS_mremap, arg[0], arg[1], arg[2], arg[3], arg[4]);

    if (is_error(result)) {
        say_result(result);
        /* Linux may have unmapped the place by then. */
        for (uintptr_t at = arg[4]; result == -ENOMEM && (arg[3] & MREMAP_FIXED) != 0 &&
                                    is_ours(at + PAGE_BYTES) && at - arg[4] < arg[2];
             at += PAGE_BYTES)
            call(SYS_munmap, at, PAGE_BYTES);
        return;
    }
    say(" =");
    say_address((uintptr_t)result);
    if (is_ours((uintptr_t)result))
        return;
    unwatch_around(arg[5], arg[2]);
    moved =
        call(SYS_mremap, (uintptr_t)result, arg[2], arg[2], MREMAP_MAYMOVE | MREMAP_FIXED, arg[5]);
    if (is_error(moved)) {
        say_result(moved);
        call(SYS_munmap, (uintptr_t)result, arg[2]);
    } else {
        say(" then");
        say_address((uintptr_t)moved);
    }
}

bool
file_stat(int fd, struct statx *out)
{
    long result;

    scratch_put(0, "", 1);
    result = call(SYS_statx, (uint64_t)fd, machine_scratch(), AT_EMPTY_PATH,
                  STATX_INO | STATX_SIZE | STATX_BLOCKS, machine_scratch() + 256);
    memset(out, 0, sizeof(*out));
    if (result == 0)
        scratch_get(out, 256, sizeof(*out));
    return result == 0;
}

static uint64_t
file_size(int fd)
{
    struct statx stat;

    file_stat(fd, &stat);
    return S_ISREG(stat.stx_mode) ? stat.stx_size : 0; /* a directory's is the machine's business */
}

/* Does the buffer reach to behind the end of a file that is mapped there? */
static bool
is_behind_end(uintptr_t start, size_t bytes)
{
    struct fault fault;
    uint8_t byte;

    for (uintptr_t at = start; at - start < bytes; at = (at | (PAGE_BYTES - 1)) + 1) {
        if (!touch(at, ACCESS_LOAD, &byte, &fault))
            return fault.signal == SIGBUS;
    }
    return false;
}

/*
 * Linux 6.18's tmpfs lets a file grow up to where a write begins, and gives it a page there, though
 * nothing could be copied from the buffer; what lies behind the end is taken back, and a page that
 * the end lies in is not risked.
 */
static void
pwrite_execute(const uintptr_t *arg, int fd)
{
    uint64_t before = file_size(fd);
    bool grows = arg[3] + arg[2] > before;
    struct fault fault;
    uint8_t byte;
    long seals = call(CALL_FCNTL, (uint64_t)fd, 1034 /* F_GET_SEALS */, 0), done;

    if (seals > 0 && (seals & 2) != 0 && grows) {
        say(" may not shrink");
        return;
    }
    if (sizeof(long) < 8 &&
        arg[1] >= machine_user_end()) { /* a page may come first, to a 64-bit kernel */
        say(" unreadable");
        return;
    }
    if (before != 0 && arg[3] >= before && arg[3] / PAGE_BYTES == (before - 1) / PAGE_BYTES &&
        !touch(arg[1], ACCESS_LOAD, &byte, &fault)) {
        say(" unreadable");
        return;
    }
    if (grows && is_behind_end(arg[1], arg[2]))
        say(" behind the end");
    done = call(SYS_pwrite64, (uint64_t)fd, arg[1], arg[2], arg[3]);

    if (done != (long)arg[2]) {
        if (done >= 0)
            before = file_size(fd);
        call(CALL_FTRUNCATE, (uint64_t)fd, before);
    }
    say_result(done);
}

uint32_t
pipe_drain(int fd)
{
    static uint8_t rest[PAGE_BYTES];
    uint32_t sum = 0;
    long left;

    while ((left = call(SYS_read, (uint64_t)fd, machine_scratch(), sizeof(rest))) > 0) {
        scratch_get(rest, 0, (size_t)left);
        for (long i = 0; i < left; i++)
            sum = sum * 31 + rest[i];
    }
    return sum;
}

bool
pipe_open(int ends[2])
{
    long result = call(SYS_pipe2, machine_scratch(), O_NONBLOCK);

    if (result < 0)
        say_result(result);
    scratch_get(ends, 0, 2 * sizeof(int));
    return result == 0;
}

void
pipe_close(const int ends[2])
{
    call(SYS_close, (uint64_t)ends[0]);
    call(SYS_close, (uint64_t)ends[1]);
}

/* Write from one place, read to another, and hash what is left in the pipe. */
static void
pipe_execute(const uintptr_t *arg)
{
    int ends[2];

    if (!pipe_open(ends))
        return;
    say_result(call(SYS_write, (uint64_t)ends[1], arg[0], arg[1]));
    say_result(call(SYS_read, (uint64_t)ends[0], arg[2], arg[3]));
    say(" rest %x", pipe_drain(ends[0]));
    pipe_close(ends);
}

uintptr_t
pieces_put(size_t offset, const uintptr_t *pieces, unsigned count)
{
    scratch_put(offset, pieces, count * 2 * sizeof(*pieces));
    return machine_scratch() + offset;
}

static long
vm_copy(long number, int pid, const uintptr_t *local, const uintptr_t *remote)
{
    return call(number, (uint64_t)pid, pieces_put(0, local, 1), 1, pieces_put(64, remote, 1), 1, 0);
}

/*
 * Not asked for: what comes of it where both sides are the same memory, by whatever mappings, and
 * which side is looked at first, and so brought in.
 */
static void
vm_execute(bool write, const uintptr_t *arg)
{
    uintptr_t local[] = {arg[1], arg[2]}, remote[] = {arg[3], arg[2]};
    uintptr_t bounce[] = {machine_scratch() + PAGE_BYTES, arg[2]};
    int pid = process_id((unsigned)arg[0]), own = process_id(self);
    struct fault fault;
    bool there = true, fits = arg[2] <= SCRATCH_BYTES - PAGE_BYTES;
    uint8_t byte;

    for (uintptr_t at = arg[1]; write && at - arg[1] < arg[2]; at = (at | (PAGE_BYTES - 1)) + 1)
        there = there && touch(at, ACCESS_LOAD, &byte, &fault);
    if (pid == 0 || !there) {
        say(there ? " nobody" : " unreadable");
    } else if (write) {
        if (fits)
            vm_copy(SYS_process_vm_readv, own, bounce, local);
        say_result(vm_copy(SYS_process_vm_writev, pid, fits ? bounce : local, remote));
    } else {
        long got = fits ? vm_copy(SYS_process_vm_readv, pid, bounce, remote) : 0;

        say_result(got);
        bounce[1] = got > 0 ? (uintptr_t)got : 0;
        if (got > 0)
            say_result(vm_copy(SYS_process_vm_writev, own, bounce, local));
    }
}

/* arg: who, two pieces, flags, also too many pieces: what is read from another one, in one call. */
static void
pieces_execute(const uintptr_t *arg)
{
    static const uint64_t counts[] = {2, 2, 2, 2, 2, 1, 0, 1025};
    const uintptr_t pieces[] = {arg[1], arg[2], arg[3], arg[4]};
    uintptr_t bounce[] = {machine_scratch() + PAGE_BYTES, SCRATCH_BYTES - PAGE_BYTES};
    static uint8_t bytes[4 * PAGE_BYTES];
    int pid = process_id((unsigned)arg[0]);
    uint32_t sum = 0;
    long done;

    if (pid == 0) {
        say(" nobody");
        return;
    }
    done = call(SYS_process_vm_readv, (uint64_t)pid, pieces_put(0, bounce, 1), 1,
                pieces_put(64, pieces, 2), counts[arg[5] % 8], arg[5] / 8);
    say_result(done);
    for (long at = 0; at < done; at += (long)sizeof(bytes)) {
        size_t some = (size_t)(done - at) < sizeof(bytes) ? (size_t)(done - at) : sizeof(bytes);

        scratch_get(bytes, PAGE_BYTES + (size_t)at, some);
        for (size_t i = 0; i < some; i++)
            sum = sum * 31 + bytes[i];
    }
    say(" %x", sum);
}

/* /proc/PID/mem, which reads and writes through protections. */
static void
mem_execute(bool write, const uintptr_t *arg)
{
    static uint8_t bytes[2 * PAGE_BYTES];
    char path[32];
    int pid = process_id((unsigned)arg[0]);
    size_t length = arg[2] % sizeof(bytes);
    uint32_t sum = 0;
    long fd, done;

    if (pid == 0) {
        say(" nobody");
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    fd = path_open(path, O_RDWR);
    if (fd < 0) {
        say_result(fd);
        return;
    }
    memset(bytes, (int)(arg[2] % 251), sizeof(bytes));
    scratch_put(0, bytes, length);
    done =
        call(write ? SYS_pwrite64 : SYS_pread64, (uint64_t)fd, machine_scratch(), length, arg[1]);
    say_result(done);
    if (!write && done > 0)
        scratch_get(bytes, 0, (size_t)done);
    for (long i = 0; !write && i < done; i++)
        sum = sum * 31 + bytes[i];
    say(" %x", sum);
    call(SYS_close, (uint64_t)fd);
}

static void
bytes_execute(enum access access, const uintptr_t *arg)
{
    struct fault fault = {0};
    uint8_t byte = (uint8_t)arg[2];
    uint32_t sum = 0;

    for (size_t i = 0; i < arg[1]; i++) {
        if (!touch(arg[0] + i, access, &byte, &fault)) {
            say(" after %zu", i);
            say_fault(&fault);
            return;
        }
        sum = sum * 31 + byte;
        byte = access == ACCESS_STORE ? (uint8_t)(byte * 5 + 1) : byte;
    }
    say(" ok %x", sum);
}

/* One byte in each page; all pages are tried. */
static void
fill_execute(const uintptr_t *arg)
{
    struct fault fault = {0};
    unsigned done = 0, failed = 0;

    for (size_t i = 0; i < arg[1]; i++) {
        uint8_t byte = (uint8_t)(arg[2] + i);

        if (touch(arg[0] + i * PAGE_BYTES, ACCESS_STORE, &byte, &fault))
            done++;
        else
            failed++;
    }
    say(" ok %u", done);
    if (failed != 0) {
        say(" failed %u", failed);
        say_fault(&fault);
    }
}

/* A return instruction of each architecture, so that pages hold the same everywhere. */
static const uint8_t return_code[] = {0xc3, 0, 0, 0, 0xc0, 0x03, 0x5f, 0xd6, 0x67, 0x80, 0, 0};
#if defined(__x86_64__) || defined(__i386__)
enum { RETURN_OFFSET = 0 };
#elif defined(__aarch64__)
enum { RETURN_OFFSET = 4 };
#elif defined(__riscv)
enum { RETURN_OFFSET = 8 };
#endif

static void
code_execute(uintptr_t address)
{
    struct fault fault = {0};

    address &= ~(uintptr_t)15;
    for (size_t i = 0; i < sizeof(return_code); i++) {
        uint8_t byte = return_code[i];

        if (!touch(address + i, ACCESS_STORE, &byte, &fault)) {
            say_fault(&fault);
            return;
        }
    }
    machine_code_written(address, sizeof(return_code));
    say(" ok");
}

/* Jump there, where return instructions stand or nothing can be executed. */
static void
call_execute(uintptr_t address)
{
    struct fault fault = {0};
    uint8_t byte;

    address &= ~(uintptr_t)15;
    for (size_t i = 0; i < sizeof(return_code); i++) {
        bool there = touch(address + i, ACCESS_LOAD, &byte, &fault);

        /* x86's Linux looks whether a page may be executed only once it is there. */
        if (there ? byte != return_code[i] : fault.signal == SIGBUS) {
            say(" other");
            return;
        }
    }
    if (touch(address + RETURN_OFFSET, ACCESS_CALL, &byte, &fault)) {
        say(" ok");
    } else {
        fault.address -= RETURN_OFFSET;
        say_fault(&fault);
    }
}

static void
file_execute(enum op_kind kind, const uintptr_t *arg, int fd)
{
    switch (kind) {
    case OP_FTRUNCATE:
        if (sizeof(long) < 8 && arg[1] > UINTPTR_MAX / 2) { /* not negative: too long to look at */
            say(" not tried");
            break;
        }
        say_result(call(CALL_FTRUNCATE, (uint64_t)fd, arg[1]));
        break;
    case OP_FALLOCATE:
        say_result(call(SYS_fallocate, (uint64_t)fd, arg[1], arg[2], arg[3]));
        break;
    case OP_PREAD:
        say_result(call(SYS_pread64, (uint64_t)fd, arg[1], arg[2], arg[3]));
        break;
    case OP_PWRITE:
        pwrite_execute(arg, fd);
        break;
    default:
        say_result(call(SYS_preadv, (uint64_t)fd, pieces_put(0, arg + 1, 2), 2, arg[5]));
        break;
    }
}

/* Linux takes a page of a file that nobody wrote away, now or later: are there none? */
static bool
all_written(uintptr_t start, size_t bytes)
{
    struct fault fault;
    uint8_t byte;

    for (uintptr_t at = start & -PAGE_BYTES; at - start < bytes && is_ours(at); at += PAGE_BYTES) {
        touch_own(at);
        if (touch(at, ACCESS_LOAD, &byte, &fault)
                ? !touch(at, ACCESS_STORE, &byte, &fault)
                : fault.signal != SIGSEGV || fault.code != SEGV_MAPERR)
            return false;
    }
    return true;
}

/* What MADV_FREE leaves may be old or zero, there or not: then let it be gone. */
static long
advise_execute(const uintptr_t *arg)
{
    long result;

    if (arg[2] == MADV_PAGEOUT && !all_written(arg[0], arg[1])) {
        say(" not tried");
        return 0;
    }
    result = call(SYS_madvise, arg[0], arg[1], arg[2]);

    for (uintptr_t at = arg[0]; arg[2] == MADV_FREE && at - arg[0] < arg[1] && is_ours(at);
         at += PAGE_BYTES) {
        if (call(SYS_madvise, at, PAGE_BYTES, MADV_FREE) == 0)
            call(SYS_madvise, at, PAGE_BYTES, MADV_DONTNEED);
    }
    return result;
}

/*
 * The answer may lie in pages that are asked about; whether those are there yet follows how the
 * regions were split, each of which Linux answers before it looks at the next.
 */
static void
mincore_execute(const uintptr_t *arg)
{
    touch_own(arg[2]);
    touch_own(arg[2] + ARENA_PAGES + BREAK_PAGES);
    say_result(
        call(SYS_mincore, arg[0], arg[1], swapping() == SWAP_NONE ? arg[2] : machine_scratch()));
}

/* Whoever asks which commands there are hears of those that Linux 6.3 had. */
static void
barrier_execute(const uintptr_t *arg)
{
    long result = call(SYS_membarrier, arg[0], arg[1], 0);

    say_result(arg[0] == 0 && result > 0 ? result & 0x3ff : result);
}

/* Every side has one node, and more CPUs than one. */
static void
getcpu_execute(void)
{
    uint32_t node = 99;
    long result;

    scratch_put(64, &node, sizeof(node));
    result = call(SYS_getcpu, machine_scratch(), machine_scratch() + 64, 0);
    scratch_get(&node, 64, sizeof(node));
    say_result(result);
    say(" node %u", node);
}

static void
memory_execute(enum op_kind kind, const uintptr_t *arg)
{
    switch (kind) {
    case OP_MUNMAP:
        say_result(call(SYS_munmap, arg[0], arg[1]));
        break;
    case OP_MPROTECT:
        say_result(call(SYS_mprotect, arg[0], arg[1], arg[2]));
        break;
    case OP_MADVISE:
        if (sizeof(long) < 8 &&
            arg[1] > ARENA_BYTES) /* does not wrap there, and reaches the program */
            say(" not tried");
        else
            say_result(advise_execute(arg));
        break;
    case OP_BRK:
        say_address((uintptr_t)call(SYS_brk, arg[0]));
        break;
    case OP_MLOCK:
        say_result(call(SYS_mlock, arg[0], arg[1]));
        break;
    case OP_MLOCK2:
        say_result(call(SYS_mlock2, arg[0], arg[1], arg[2]));
        break;
    case OP_MUNLOCK:
        say_result(call(SYS_munlock, arg[0], arg[1]));
        break;
    case OP_MLOCKALL:
        shared->locked_all = true;
        say_result(call(SYS_mlockall, arg[0]));
        break;
    case OP_MUNLOCKALL:
        say_result(call(SYS_munlockall));
        break;
    case OP_MINCORE:
        if (sizeof(long) < 8 && arg[1] > ARENA_BYTES) /* is there, to a 64-bit kernel */
            say(" not tried");
        else
            mincore_execute(arg);
        break;
    case OP_MSEAL:
        if (sizeof(long) <
            8) /* 32-bit kernels have none, and 64-bit ones have it for 32-bit programs */
            say(" none");
        else
            say_result(call(CALL_MSEAL, arg[0], arg[1], arg[2]));
        break;
    case OP_BARRIER:
        barrier_execute(arg);
        break;
    case OP_GETCPU:
        getcpu_execute();
        break;
    case OP_REMAP_FILE:
        say_result(call(SYS_remap_file_pages, arg[0], arg[1], arg[2], arg[3], arg[4]));
        break;
    default:
        say_result(call(SYS_msync, arg[0], arg[1], arg[2]));
        break;
    }
}

/* Advice to a process, by a descriptor of it. */
static void
advise_other_execute(const uintptr_t *arg)
{
    const uintptr_t piece[] = {arg[1], arg[2]};
    int pid = process_id((unsigned)arg[0]);
    long fd;

    if (pid == 0) {
        say(" nobody");
        return;
    }
    fd = call(SYS_pidfd_open, (uint64_t)pid, 0);
    if (is_error(fd)) {
        say_result(fd);
        return;
    }
    say_result(call(SYS_process_madvise, (uint64_t)fd, pieces_put(0, piece, 1), 1, arg[3], arg[4]));
    call(SYS_close, (uint64_t)fd);
}

void
op_execute(const struct op *op)
{
    uintptr_t arg[ARGS];

    for (unsigned i = 0; i < ARGS; i++)
        arg[i] = resolve(op->arg[i]);
    if (op->kind == OP_REMAP_FILE)
        arg[3] = (uintptr_t)op->arg[3]; /* counts pages of a file */
    switch (op->kind) {
    case OP_MMAP:
        mmap_execute(arg, descriptor(op->arg[4]));
        break;
    case OP_MREMAP:
        mremap_execute(arg);
        break;
    case OP_FTRUNCATE:
    case OP_FALLOCATE:
    case OP_PREAD:
    case OP_PWRITE:
    case OP_READV:
        file_execute(op->kind, arg, descriptor(op->arg[0]));
        break;
    case OP_PIPE:
        pipe_execute(arg);
        break;
    case OP_VM_READ:
    case OP_VM_WRITE:
        vm_execute(op->kind == OP_VM_WRITE, arg);
        break;
    case OP_PEEK:
    case OP_POKE:
        mem_execute(op->kind == OP_POKE, arg);
        break;
    case OP_LOAD:
    case OP_STORE:
        bytes_execute(op->kind == OP_LOAD ? ACCESS_LOAD : ACCESS_STORE, arg);
        break;
    case OP_FILL:
        fill_execute(arg);
        break;
    case OP_CODE:
        code_execute(arg[0]);
        break;
    case OP_CALL:
        call_execute(arg[0]);
        break;
    case OP_LIMIT:
    case OP_OVERCOMMIT:
    case OP_COMMIT:
        limit_execute(op->kind, arg);
        break;
    case OP_KEY_ALLOC:
    case OP_KEY_FREE:
    case OP_KEY_PROTECT:
    case OP_KEY_RIGHTS:
    case OP_KEY_SIGNAL:
        key_execute(op->kind, arg);
        break;
    case OP_RACE:
        race_execute(arg);
        break;
    case OP_TID:
    case OP_REFUSED:
    case OP_USER:
    case OP_ASK:
        process_execute(op->kind, arg);
        break;
    case OP_HUGE:
        huge_execute(arg);
        break;
    case OP_PIECES:
        pieces_execute(arg);
        break;
    case OP_DROP:
        say_result(keep_capabilities(0));
        break;
    case OP_ADVISE_OTHER:
        advise_other_execute(arg);
        break;
    case OP_MBIND:
    case OP_SET_POLICY:
    case OP_GET_POLICY:
    case OP_HOME_NODE:
    case OP_MOVE_PAGES:
    case OP_MIGRATE:
        policy_execute(op->kind, arg);
        break;
    case OP_SHMGET:
    case OP_SHMAT:
    case OP_SHMDT:
    case OP_SHMCTL:
    case OP_SHMKEY:
    case OP_SHMSET:
    case OP_SEAL:
    case OP_FADVISE:
    case OP_READAHEAD:
    case OP_CACHESTAT:
    case OP_VMSPLICE:
    case OP_SPLICE:
    case OP_TEE:
    case OP_MEMFD:
        share_execute(op->kind, arg, descriptor(op->arg[0]));
        break;
    case OP_WATCH:
    case OP_UNWATCH:
    case OP_RESOLVE:
        watch_execute(op->kind, arg);
        break;
    default:
        if (op->kind >= OP_PROBE)
            look(op);
        else
            memory_execute(op->kind, arg);
        break;
    }
}
