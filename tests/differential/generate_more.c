/* SPDX-License-Identifier: MIT */
/*
 * The calls that come less often: sealed mappings, advice to others, policies, System V segments,
 * seals and advice on files, pipes that hold pages, userfaultfd, protection keys, limits.
 */
#include "generate.h"

#include <fcntl.h>
#include <sys/ipc.h>
#include <sys/shm.h>

static void
emit_mapping(struct generator *g, enum op_kind kind)
{
    struct op *op = emit(g, kind);

    op->arg[0] = address(g, true);
    op->arg[1] = length(g, op->arg[0]);
    if (kind == OP_MSEAL) {
        op->arg[1] = op->arg[1] > PAGE_BYTES && op->arg[1] >> 40 == 0 ? PAGE_BYTES : op->arg[1];
        op->arg[2] = one_in(g, g->hostile);
        g->sealed = true;
    } else {
        op->arg[2] = one_in(g, g->hostile);
        op->arg[3] = one_in(g, g->hostile) ? PICK(g, bad_lengths) : rnd(g, 10);
        op->arg[4] = rnd(g, 2) << 16;
    }
}

static void
emit_advice_other(struct generator *g)
{
    static const uint64_t advice[] = {3, 20, 25, 3, 20, 4, 0, 14, 99};
    struct op *op = emit(g, OP_ADVISE_OTHER);

    op->arg[0] = rnd(g, PROCESSES);
    op->arg[1] = address(g, true);
    op->arg[2] = length(g, op->arg[1]);
    op->arg[3] = PICK(g, advice);
    op->arg[4] = one_in(g, g->hostile);
}

static void
emit_policy(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_MBIND,     OP_MBIND,      OP_SET_POLICY, OP_GET_POLICY,
                                         OP_HOME_NODE, OP_MOVE_PAGES, OP_MIGRATE};
    static const uint64_t sets[] = {0, 1, 1, 1, 2, 3};
    static const uint64_t widths[] = {0, 1, 2, 64, 64, 64, 64, 65, 1024};
    struct op *op = emit(g, PICK(g, kinds));
    uint64_t mode = rnd(g, 8) | (one_in(g, 4) ? rnd(g, 16) << 12 : 0);

    switch (op->kind) {
    case OP_MBIND:
        op->arg[0] = address(g, true);
        op->arg[1] = length(g, op->arg[0]);
        op->arg[2] = mode;
        op->arg[3] = PICK(g, sets);
        op->arg[4] = PICK(g, widths);
        op->arg[5] = one_in(g, 2) ? rnd(g, 8) : 0;
        break;
    case OP_SET_POLICY:
        op->arg[0] = mode;
        op->arg[1] = PICK(g, sets);
        op->arg[2] = PICK(g, widths);
        break;
    case OP_GET_POLICY:
        op->arg[0] = one_in(g, 3) ? 0 : address(g, true);
        op->arg[1] = one_in(g, 6) ? rnd(g, 16) : op->arg[0] == 0 ? rnd(g, 2) * 4 : 2 + rnd(g, 2);
        op->arg[2] = PICK(g, widths);
        break;
    case OP_HOME_NODE:
        op->arg[0] = address(g, true);
        op->arg[1] = length(g, op->arg[0]);
        op->arg[2] = rnd(g, one_in(g, 4) ? 3 : 1);
        op->arg[3] = one_in(g, g->hostile);
        break;
    case OP_MOVE_PAGES:
        op->arg[0] = rnd(g, PROCESSES);
        op->arg[1] = byte_address(g);
        op->arg[2] = rnd(g, 4);
        op->arg[3] = rnd(g, 8);
        break;
    default:
        op->arg[0] = rnd(g, PROCESSES);
        op->arg[1] = PICK(g, widths);
        op->arg[2] = PICK(g, sets);
        op->arg[3] = PICK(g, sets);
        break;
    }
}

static void
emit_segment(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_SHMGET, OP_SHMAT,  OP_SHMAT,  OP_SHMAT,
                                         OP_SHMDT,  OP_SHMCTL, OP_SHMKEY, OP_SHMSET};
    static const uint64_t modes[] = {0600, 0600, 0600, 0400, 0200, 0};
    struct op *op = emit(g, PICK(g, kinds));

    op->arg[0] = rnd(g, SEGMENTS);
    switch (op->kind) {
    case OP_SHMGET:
        op->arg[1] = one_in(g, g->hostile) ? 0 : some_pages(g) * PAGE_BYTES - rnd(g, PAGE_BYTES);
        op->arg[2] = 0600 | IPC_CREAT | (one_in(g, 8) ? SHM_NORESERVE : 0);
        break;
    case OP_SHMKEY:
        op->arg[1] = one_in(g, 2) ? 0 : some_pages(g) * PAGE_BYTES;
        op->arg[2] =
            PICK(g, modes) | (one_in(g, 4) ? 0 : IPC_CREAT) | (one_in(g, 4) ? IPC_EXCL : 0);
        break;
    case OP_SHMSET:
        op->arg[1] = PICK(g, modes);
        break;
    case OP_SHMAT:
        op->arg[1] = one_in(g, 16) ? 0 : address(g, one_in(g, 2));
        op->arg[2] = (one_in(g, 2) ? SHM_REMAP : 0) | (one_in(g, 4) ? SHM_RND : 0) |
                     (one_in(g, 5) ? SHM_RDONLY : 0) | (one_in(g, 8) ? SHM_EXEC : 0);
        break;
    case OP_SHMDT:
        op->arg[0] = address(g, true);
        break;
    default:
        op->arg[1] = one_in(g, 3)   ? IPC_RMID
                     : one_in(g, 3) ? 11 + rnd(g, 2) /* lock, unlock */
                                    : IPC_STAT;
        break;
    }
}

static void
emit_file_advice(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_SEAL, OP_FADVISE, OP_READAHEAD, OP_CACHESTAT};
    struct op *op = emit(g, PICK(g, kinds));

    op->arg[0] = some_file(g);
    op->arg[1] = one_in(g, g->hostile) ? PICK(g, bad_lengths) : file_offset(g);
    op->arg[2] = one_in(g, g->hostile) ? PICK(g, bad_lengths) : file_offset(g);
    op->arg[3] = op->kind == OP_FADVISE ? rnd(g, 8) : one_in(g, g->hostile);
    if (op->kind == OP_SEAL) {
        op->arg[0] = one_in(g, 6) ? op->arg[0] : 7;
        op->arg[1] = one_in(g, 3) ? (uint64_t)1 << rnd(g, 6) : (uint64_t)2 << rnd(g, 2);
    }
}

static void
emit_pages(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_VMSPLICE, OP_SPLICE, OP_TEE};
    struct op *op = emit(g, PICK(g, kinds));

    switch (op->kind) {
    case OP_VMSPLICE:
        op->arg[0] = byte_address(g);
        op->arg[1] = byte_count(g);
        op->arg[2] = one_in(g, 4) ? 8 : 0; /* GIFT */
        op->arg[3] = byte_address(g);
        op->arg[4] = byte_count(g);
        break;
    case OP_SPLICE:
        op->arg[0] = some_file(g);
        op->arg[1] = file_offset(g);
        op->arg[2] = byte_count(g);
        op->arg[3] = some_file(g);
        op->arg[4] = file_offset(g);
        break;
    default:
        op->arg[0] = byte_address(g);
        op->arg[1] = byte_count(g);
        op->arg[2] = byte_address(g);
        op->arg[3] = byte_count(g);
        break;
    }
}

static void
emit_watch(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_WATCH,   OP_WATCH,   OP_UNWATCH,
                                         OP_RESOLVE, OP_RESOLVE, OP_RESOLVE};
    struct op *op = emit(g, PICK(g, kinds));
    uint64_t start = address(g, true);

    if (op->kind != OP_RESOLVE) {
        op->arg[0] = start;
        op->arg[1] = length(g, start);
        op->arg[2] = op->kind == OP_UNWATCH ? 0 : rnd(g, one_in(g, 4) && !g->no_resident ? 9 : 4);
        return;
    }
    op->arg[0] = rnd(g, 4);
    op->arg[1] = start;
    op->arg[2] = length(g, start);
    op->arg[3] = op->arg[0] == 0 ? byte_address(g) : 0;
    op->arg[4] = one_in(g, 2) ? rnd(g, 4) : op->arg[0] == 2;
}

void
emit_key(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_KEY_ALLOC,   OP_KEY_FREE,    OP_KEY_PROTECT,
                                         OP_KEY_PROTECT, OP_KEY_PROTECT, OP_KEY_RIGHTS,
                                         OP_KEY_RIGHTS,  OP_KEY_SIGNAL};
    static const uint64_t protections[] = {0, 1, 3, 3, 3, 7, 5, 8};
    struct op *op = emit(g, PICK(g, kinds));

    switch (op->kind) {
    case OP_KEY_ALLOC:
        op->arg[0] = one_in(g, g->hostile);
        op->arg[1] = one_in(g, g->hostile) ? rnd(g, 16) : rnd(g, 4);
        if (g->key0_freed && op->arg[1] < 4)
            op->arg[1] = 0;
        break;
    case OP_KEY_FREE:
        op->arg[0] = one_in(g, g->hostile) ? rnd(g, 18) - 1 : rnd(g, 4);
        g->key0_freed |= op->arg[0] == 0;
        break;
    case OP_KEY_PROTECT:
        op->arg[0] = address(g, true);
        op->arg[1] = length(g, op->arg[0]);
        op->arg[2] = PICK(g, protections);
        op->arg[3] = one_in(g, g->hostile) ? rnd(g, 18) - 1
                     : one_in(g, 8)        ? ~(uint64_t)0
                                           : rnd(g, 4);
        break;
    default:
        op->arg[0] = one_in(g, g->hostile) ? rnd(g, 18) - 1 : rnd(g, 4);
        op->arg[1] = rnd(g, 4);
        /* Nobody does without what key 0 allows. */
        if (op->arg[0] % 16 == 0)
            op->arg[0] = 1;
        break;
    }
}

/* Processes and who they are; answers through pointers. */
static void
emit_process(struct generator *g)
{
    static const enum op_kind kinds[] = {OP_TID,     OP_TID,    OP_ASK,    OP_ASK,  OP_ASK,
                                         OP_REFUSED, OP_PIECES, OP_PIECES, OP_USER, OP_DROP};
    struct op *op = emit(g, PICK(g, kinds));

    switch (op->kind) {
    case OP_TID:
        op->arg[0] = one_in(g, 2) ? address(g, true) : byte_address(g);
        op->arg[1] = rnd(g, 8);
        break;
    case OP_ASK:
        op->arg[0] = rnd(g, 9 * 20);
        op->arg[1] = byte_address(g);
        break;
    case OP_REFUSED:
        op->arg[0] = rnd(g, 20);
        break;
    case OP_PIECES:
        op->arg[0] = rnd(g, PROCESSES);
        op->arg[1] = byte_address(g);
        op->arg[2] = byte_count(g);
        op->arg[3] = byte_address(g);
        op->arg[4] = byte_count(g);
        op->arg[5] = one_in(g, g->hostile) ? rnd(g, 16) : rnd(g, 5);
        break;
    default:
        break;
    }
}

static void
emit_state(struct generator *g)
{
    /* 4: of huge pages, 12 << 26: of a size that there is not. */
    static const uint64_t flags[] = {0,    1,    2,    3,    4,          6,         8,
                                     0x10, 0x18, 0x20, 0x40, 0x30000004, 0x54000000};
    static const enum op_kind kinds[] = {OP_OVERCOMMIT, OP_BARRIER, OP_BARRIER, OP_GETCPU,
                                         OP_MEMFD};
    struct op *op = emit(g, PICK(g, kinds));

    switch (op->kind) {
    case OP_OVERCOMMIT:
        op->arg[0] = 1 + rnd(g, 8);
        if (op->arg[0] == 4) /* as much as there is, more or less */
            op->arg[0] = 6;
        op->arg[1] = rnd(g, 4);
        op->arg[2] = (one_in(g, 3) ? 0x4000u : 0) | (one_in(g, 3) ? 1 : 0);
        break;
    case OP_BARRIER:
        op->arg[0] = one_in(g, g->hostile) ? rnd(g, 1024) & ~(uint64_t)1 : (uint64_t)2 << rnd(g, 9);
        if (one_in(g, 8))
            op->arg[0] = 0;
        op->arg[1] = one_in(g, g->hostile);
        break;
    case OP_MEMFD:
        op->arg[0] = one_in(g, g->hostile) ? address(g, true) : 0;
        op->arg[1] = PICK(g, flags);
        break;
    default:
        break;
    }
}

/* Threads, and what they left. */
void
emit_race(struct generator *g)
{
    static const enum op_kind looks[] = {OP_MAPS, OP_FLAGS, OP_PROBE, OP_PAGEMAP};
    struct op *op = emit(g, OP_RACE);
    unsigned process = op->process;

    op->arg[1] = rnd(g, 24);
    op->arg[0] = VALUE_ARENA | (rnd(g, ARENA_PAGES - 40) * PAGE_BYTES);
    op->arg[2] = rnd(g, RACERS - 1);
    op->arg[3] = g->focus == FOCUS_RACES ? 20 + rnd(g, 200) : 10 + rnd(g, 30);
    op->arg[4] = rnd(g, 1u << 30);
    op->arg[5] = rnd(g, 4);
    g->no_resident = true;
    note_mapped(g, op->arg[0], (16 + op->arg[1]) * PAGE_BYTES, true);
    for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]) - (process != 0); i++)
        emit(g, looks[i])->process = process;
}

void
emit_machine(struct generator *g)
{
    struct op *op = emit(g, one_in(g, 8) ? OP_COMMIT : OP_HUGE);

    if (op->kind == OP_HUGE) {
        op->arg[0] = one_in(g, 8) ? 0 : 1 + rnd(g, 7);
        for (unsigned i = 1; i < 4; i++)
            op->arg[i] = rnd(g, 4096);
        return;
    }
    op->arg[0] = one_in(g, 3) ? rnd(g, 3) : 2;
    op->arg[1] = rnd(g, 12);
    op->arg[2] = rnd(g, 1u << 30);
}

void
emit_other(struct generator *g)
{
    switch (rnd(g, 16)) {
    case 14:
    case 15:
        emit_process(g);
        break;
    case 0:
        emit_mapping(g, one_in(g, 3) ? OP_MSEAL : OP_REMAP_FILE);
        break;
    case 1:
        emit_advice_other(g);
        break;
    case 2:
    case 3:
        emit_policy(g);
        break;
    case 4:
    case 5:
    case 6:
        emit_segment(g);
        break;
    case 7:
        emit_file_advice(g);
        break;
    case 8:
    case 9:
        emit_pages(g);
        break;
    case 10:
        emit_key(g);
        break;
    case 11:
        emit_state(g);
        break;
    default:
        emit_watch(g);
        break;
    }
}
