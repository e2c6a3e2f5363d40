/* SPDX-License-Identifier: MIT */
/* Memory between processes: System V segments, seals, advice on files, pipes that hold pages. */
#include "differential.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifdef SYS_fadvise64_64
#define CALL_FADVISE SYS_fadvise64_64
#else
#define CALL_FADVISE SYS_fadvise64
#endif
#ifdef SYS_cachestat
#define CALL_CACHESTAT SYS_cachestat
#else
#define CALL_CACHESTAT 451
#endif

/* ---- System V segments ------------------------------------------------------------- */

static void
segment_make(const uintptr_t *arg)
{
    int *segment = &shared->segments[arg[0] % SEGMENTS];
    long made;

    if (*segment != 0) {
        say(" busy");
        return;
    }
    made = call(SYS_shmget, IPC_PRIVATE, arg[1], arg[2]);
    if (made < 0) {
        say_result(made);
        return;
    }
    *segment = (int)made + 1;
    say(" = segment");
}

/* An identifier; one that never was for a segment that is not there. */
static uint64_t
segment_id(uintptr_t slot)
{
    return (uint64_t)shared->segments[slot % SEGMENTS] - 1;
}

static void
segment_attach(const uintptr_t *arg)
{
    long result = call(SYS_shmat, segment_id(arg[0]), arg[1], arg[2]);

    if (is_error(result)) {
        say_result(result);
        return;
    }
    say(" =");
    say_address((uintptr_t)result);
    if (!is_ours((uintptr_t)result))
        call(SYS_shmdt, (uintptr_t)result);
}

static void
segment_control(const uintptr_t *arg)
{
    struct shmid_ds state;
    long result = call(SYS_shmctl, segment_id(arg[0]), arg[1], machine_scratch());

    say_result(result);
    if (result == 0 && arg[1] == IPC_STAT) {
        scratch_get(&state, 0, sizeof(state));
        say(" size 0x%lx attached %lu mode %o", (unsigned long)state.shm_segsz,
            (unsigned long)state.shm_nattch, state.shm_perm.mode);
    }
}

/*
 * By a key that no other program has.  A segment that was removed keeps its number as long as it is
 * attached, and its key goes to the next one.
 */
static void
segment_find(const uintptr_t *arg)
{
    uint64_t key = 0x51000000u + (uint64_t)(unsigned)process_id(0) * SEGMENTS + arg[0] % SEGMENTS;
    int *segment = &shared->segments[arg[0] % SEGMENTS];
    long made = call(SYS_shmget, key, arg[1], arg[2]);

    if (made < 0) {
        say_result(made);
    } else if (*segment == (int)made + 1) {
        say(" = the same");
    } else if (*segment == 0) {
        *segment = (int)made + 1;
        say(" = segment");
    } else {
        say(" = another");
        call(SYS_shmctl, (uint64_t)made, IPC_RMID, 0);
    }
}

static void
segment_set(const uintptr_t *arg)
{
    struct shmid_ds state;

    memset(&state, 0, sizeof(state));
    state.shm_perm.mode = (unsigned short)(arg[1] & 01777);
    scratch_put(0, &state, sizeof(state));
    say_result(call(SYS_shmctl, segment_id(arg[0]), IPC_SET, machine_scratch()));
}

/* ---- files ---------------------------------------------------------------------------- */

static void
seal_execute(const uintptr_t *arg, int fd)
{
    say_result(call(CALL_FCNTL, (uint64_t)fd, 1033 /* F_ADD_SEALS */, arg[1]));
    say_result(call(CALL_FCNTL, (uint64_t)fd, 1034 /* F_GET_SEALS */, 0));
}

static void
cachestat_execute(const uintptr_t *arg, int fd)
{
    const uint64_t range[] = {arg[1], arg[2]};
    uint64_t stat[5] = {0};

    scratch_put(0, range, sizeof(range));
    scratch_put(64, stat, sizeof(stat));
    say_result(
        call(CALL_CACHESTAT, (uint64_t)fd, machine_scratch(), machine_scratch() + 64, arg[3]));
    scratch_get(stat, 64, sizeof(stat));
    if (swapping() == SWAP_NONE)
        say(" cached %lu", (unsigned long)stat[0]);
}

/* Made and closed again: what the flags make of its seals and its mode. */
static void
memfd_execute(const uintptr_t *arg)
{
    struct statx stat;
    long made;

    scratch_put(0, "quire-T", sizeof("quire-T"));
    made = call(SYS_memfd_create, arg[0] == 0 ? machine_scratch() : arg[0], arg[1]);

    if (is_error(made)) {
        say_result(made);
        return;
    }
    say(" = made");
    say_result(call(CALL_FCNTL, (uint64_t)made, 1034 /* F_GET_SEALS */, 0));
    file_stat((int)made, &stat);
    say(" mode %o", stat.stx_mode);
    call(SYS_close, (uint64_t)made);
}

/* ---- pipes ------------------------------------------------------------------------------- */

/*
 * Memory into a pipe by reference, a byte of it changed, and out again.  The byte's page is the
 * process's own by then: Linux made it so where somebody copied from it by process_vm_readv.
 */
static void
vmsplice_execute(const uintptr_t *arg)
{
    const uintptr_t piece[] = {arg[0], arg[1]};
    struct fault fault;
    uint8_t byte = 0x5a;
    int ends[2];

    if (!pipe_open(ends))
        return;
    touch_own(arg[0]);
    say_result(call(SYS_vmsplice, (uint64_t)ends[1], pieces_put(0, piece, 1), 1,
                    arg[2] | 2 /* SPLICE_F_NONBLOCK */));
    if (!touch(arg[0], ACCESS_STORE, &byte, &fault))
        say_fault(&fault);
    say_result(call(SYS_read, (uint64_t)ends[0], arg[3], arg[4]));
    say(" rest %x", pipe_drain(ends[0]));
    pipe_close(ends);
}

/* Where in a file: in scratch memory, or nowhere. */
static uintptr_t
offset_put(size_t at, uint64_t offset)
{
    scratch_put(at, &offset, sizeof(offset));
    return machine_scratch() + at;
}

static bool
is_same_file(int a, int b)
{
    struct statx one, other;

    if (!file_stat(a, &one) || !file_stat(b, &other))
        return false;
    return one.stx_ino == other.stx_ino && one.stx_dev_minor == other.stx_dev_minor;
}

/* From a file through a pipe to a file. */
static void
splice_execute(const uintptr_t *arg, int from)
{
    int ends[2], to = descriptor(arg[3]);

    if (is_same_file(from, to)) { /* which byte of a page is copied first is nobody's business */
        say(" same");
        return;
    }
    if (!pipe_open(ends))
        return;
    say_result(
        call(SYS_splice, (uint64_t)from, offset_put(0, arg[1]), (uint64_t)ends[1], 0, arg[2], 2));
    say_result(
        call(SYS_splice, (uint64_t)ends[0], 0, (uint64_t)to, offset_put(64, arg[4]), arg[2], 2));
    say(" rest %x", pipe_drain(ends[0]));
    pipe_close(ends);
}

static void
tee_execute(const uintptr_t *arg)
{
    int from[2], to[2];

    if (!pipe_open(from))
        return;
    if (pipe_open(to)) {
        say_result(call(SYS_write, (uint64_t)from[1], arg[0], arg[1]));
        say_result(call(SYS_tee, (uint64_t)from[0], (uint64_t)to[1], arg[3], 2));
        say_result(call(SYS_read, (uint64_t)to[0], arg[2], arg[3]));
        say(" rest %x", pipe_drain(to[0]));
        say(" %x", pipe_drain(from[0]));
        pipe_close(to);
    }
    pipe_close(from);
}

void
share_execute(enum op_kind kind, const uintptr_t *arg, int fd)
{
    switch (kind) {
    case OP_SHMGET:
        segment_make(arg);
        break;
    case OP_SHMAT:
        segment_attach(arg);
        break;
    case OP_SHMDT:
        say_result(call(SYS_shmdt, arg[0]));
        break;
    case OP_SHMCTL:
        segment_control(arg);
        break;
    case OP_SHMKEY:
        segment_find(arg);
        break;
    case OP_SHMSET:
        segment_set(arg);
        break;
    case OP_SEAL:
        seal_execute(arg, fd);
        break;
    case OP_FADVISE:
        say_result(call(CALL_FADVISE, (uint64_t)fd, arg[1], arg[2], arg[3]));
        break;
    case OP_READAHEAD:
        say_result(call(SYS_readahead, (uint64_t)fd, arg[1], arg[2]));
        break;
    case OP_CACHESTAT:
        cachestat_execute(arg, fd);
        break;
    case OP_MEMFD:
        memfd_execute(arg);
        break;
    case OP_VMSPLICE:
        vmsplice_execute(arg);
        break;
    case OP_SPLICE:
        splice_execute(arg, fd);
        break;
    default:
        tee_execute(arg);
        break;
    }
}
