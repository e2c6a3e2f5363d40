/* SPDX-License-Identifier: MIT */
/*
 * From a seed to a program.  A rough picture of what is mapped (which follows only the
 * calls with a fixed place that look sound) lets most addresses meet something; about one
 * argument in twelve is hostile: not aligned, zero, huge, wrapping, or in the kernel's half.
 *
 * Never made: poisoning of frames, huge lengths that could succeed, MAP_HUGETLB of a size that there
 * is: the pool is the whole machine's.
 */
#include "generate.h"

#include <string.h>
#include <sys/mman.h>

uint64_t
rnd(struct generator *g, uint64_t limit)
{
    uint64_t z = g->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return z % limit;
}

bool
one_in(struct generator *g, unsigned n)
{
    return rnd(g, n) == 0;
}

/* ---- arguments ------------------------------------------------------------------- */

static const uint64_t bad_addresses[] = {
    0, /* not its neighbours, which mmap_min_addr may allow */
    0x7ffffffff000u,
    0x7fffffffffffu,
    0xffff800000000000u,
    ~(uint64_t)0,
    -(uint64_t)PAGE_BYTES,
    -(uint64_t)PAGE_BYTES * 3,
};

const uint64_t bad_lengths[BAD_LENGTHS] = {
    0,
    1,
    PAGE_BYTES - 1,
    PAGE_BYTES + 1,
    0x7fffffffffffu,
    0x800000000000u,
    0x8000000000000000u,
    ~(uint64_t)0,
    -(uint64_t)PAGE_BYTES,
    -(uint64_t)PAGE_BYTES * 2 + 1,
};

unsigned
some_pages(struct generator *g)
{
    static const unsigned most[] = {1, 2, 4, 4, 8, 32};

    return 1 + (unsigned)rnd(g, PICK(g, most));
}

/* A page that is probably mapped, or (@mapped false) probably free. */
unsigned
some_page(struct generator *g, bool mapped)
{
    unsigned page = 0;

    for (unsigned tries = 0; tries < 12; tries++) {
        page = (unsigned)rnd(g, ARENA_PAGES);
        if (g->mapped[page] == mapped)
            break;
    }
    return page;
}

uint64_t
address(struct generator *g, bool mapped)
{
    if (one_in(g, g->hostile))
        return one_in(g, 2)
                   ? PICK(g, bad_addresses)
                   : (VALUE_ARENA | (rnd(g, ARENA_PAGES) * PAGE_BYTES + rnd(g, PAGE_BYTES)));
    if (one_in(g, 12))
        return VALUE_BREAK | (rnd(g, BREAK_PAGES) * PAGE_BYTES);
    return VALUE_ARENA | (some_page(g, mapped) * PAGE_BYTES);
}

/* A length that stays in the arena from @start on, or a hostile one. */
uint64_t
length(struct generator *g, uint64_t start)
{
    uint64_t bytes = some_pages(g) * PAGE_BYTES;
    uint64_t room = (VALUE_TAG(start) == VALUE_BREAK ? BREAK_BYTES : ARENA_BYTES) -
                    VALUE_OFFSET(start) / PAGE_BYTES * PAGE_BYTES;

    if (one_in(g, g->hostile))
        return PICK(g, bad_lengths);
    if (one_in(g, 16))
        bytes -= rnd(g, PAGE_BYTES);
    if (VALUE_TAG(start) == VALUE_ARENA || VALUE_TAG(start) == VALUE_BREAK)
        return bytes < room ? bytes : room;
    return bytes;
}

/* For accesses: any byte of a page, most often near its ends. */
uint64_t
byte_address(struct generator *g)
{
    uint64_t page = address(g, true);

    switch (rnd(g, 4)) {
    case 0:
        return page;
    case 1:
        return page + PAGE_BYTES - 1 - rnd(g, 16);
    default:
        return page + rnd(g, PAGE_BYTES);
    }
}

/* Of buffers: across page ends, so that a part of them may not be there. */
uint64_t
byte_count(struct generator *g)
{
    static const uint64_t most[] = {16, 64, 2 * PAGE_BYTES, 4 * PAGE_BYTES};

    return one_in(g, g->hostile) ? 0 : 1 + rnd(g, PICK(g, most));
}

uint64_t
file_offset(struct generator *g)
{
    uint64_t pages = rnd(g, FILE_PAGES + 3) * PAGE_BYTES;

    return one_in(g, 3) ? pages + rnd(g, PAGE_BYTES) : pages;
}

/* As descriptor() has them. */
uint64_t
some_file(struct generator *g)
{
    return one_in(g, 4) ? 7 : 1 + rnd(g, one_in(g, 4) ? 6 : 2);
}

static uint64_t
protection(struct generator *g)
{
    static const uint64_t common[] = {
        PROT_NONE,
        PROT_READ,
        PROT_READ | PROT_WRITE,
        PROT_READ | PROT_WRITE,
        PROT_READ | PROT_WRITE,
        PROT_READ | PROT_WRITE | PROT_EXEC,
        PROT_READ | PROT_EXEC,
    };
    static const uint64_t odd[] = {8, 0x10, 0x20, 0x01000000, 0x02000000, 0x03000000, 0x80000000};

    return one_in(g, g->hostile * 3) ? PICK(g, common) | PICK(g, odd) : PICK(g, common);
}

/* ---- calls ------------------------------------------------------------------------ */

struct op *
emit(struct generator *g, enum op_kind kind)
{
    static struct op spare;
    struct op *op = &spare;

    if (g->program->count < PROGRAM_OPS)
        op = &g->program->ops[g->program->count++];
    *op = (struct op){.kind = kind};
    do
        op->process = (unsigned)(one_in(g, 3) ? rnd(g, PROCESSES) : 0);
    while (!g->alive[op->process]);
    return op;
}

void
note_mapped(struct generator *g, uint64_t start, uint64_t bytes, bool mapped)
{
    if (VALUE_TAG(start) != VALUE_ARENA || bytes > ARENA_BYTES)
        return;
    for (uint64_t at = VALUE_OFFSET(start); at < VALUE_OFFSET(start) + bytes; at += PAGE_BYTES) {
        if (at < ARENA_BYTES)
            g->mapped[at / PAGE_BYTES] = mapped;
    }
}

static void
emit_mmap(struct generator *g)
{
    static const uint64_t kinds[] = {
        MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED, MAP_SHARED, 3 /* SHARED_VALIDATE */,
    };
    static const uint64_t
        extra[] = {MAP_NORESERVE, MAP_POPULATE,     MAP_STACK,       MAP_LOCKED,
                   MAP_GROWSDOWN, 0x10000,          0x800 | 0x1000u, 0x80000,
                   1u << 30,      0x40 /* 32BIT */, 0x30040000 /* HUGETLB, a size there is not */};
    struct op *op = emit(g, OP_MMAP);
    bool file = one_in(g, 3);

    op->arg[3] = PICK(g, kinds) | (file ? 0 : MAP_ANONYMOUS);
    op->arg[2] = protection(g);
    op->arg[0] = address(g, one_in(g, 3));
    if (op->arg[0] == ~(uint64_t)0) /* taken for an error number, with MAP_FIXED and tmpfs */
        op->arg[0] = -(uint64_t)PAGE_BYTES;
    op->arg[1] = length(g, op->arg[0]);
    switch (rnd(g, 8)) {
    case 0:
        break; /* a hint */
    case 1:
        op->arg[3] |= 0x100000; /* FIXED_NOREPLACE */
        break;
    default:
        op->arg[3] |= MAP_FIXED;
        note_mapped(g, op->arg[0], op->arg[1], true);
        break;
    }
    if (one_in(g, 5))
        op->arg[3] |= one_in(g, 4) ? (uint64_t)1 << rnd(g, 32) : PICK(g, extra);
    if (one_in(g, g->hostile * 4))
        op->arg[3] = (op->arg[3] & ~(uint64_t)0xf) | rnd(g, 16);
    if (!g->stacks)
        op->arg[3] &= ~(uint64_t)MAP_GROWSDOWN;
    if ((op->arg[3] & 0xf) == 8) /* MAP_DROPPABLE: pages that go */
        op->arg[3] ^= 8;
    if ((op->arg[3] & 0xfc040000) == MAP_HUGETLB) /* of a size that there is */
        op->arg[3] |= 0x30000000;
    op->arg[4] = file ? 1 + rnd(g, one_in(g, 2) ? 7 : 2) : 0;
    op->arg[5] = file ? file_offset(g) / PAGE_BYTES * PAGE_BYTES : 0;
    if (one_in(g, g->hostile * 4))
        op->arg[5] = one_in(g, 2) ? 17 : 0x7ffffffffffff000u;
}

/* A region that grows, nothing in its way, and an access below it, by the program or a call. */
static void
emit_stack(struct generator *g)
{
    unsigned page = 8 + (unsigned)rnd(g, ARENA_PAGES - 16), below = 1 + (unsigned)rnd(g, 6);
    struct op *op = emit(g, OP_MUNMAP);
    unsigned process = op->process;

    op->arg[0] = VALUE_ARENA;
    op->arg[1] = page * PAGE_BYTES;
    op = emit(g, OP_MMAP);
    *op = (struct op){.kind = OP_MMAP, .process = process};
    op->arg[0] = VALUE_ARENA | (page * PAGE_BYTES);
    op->arg[1] = (1 + rnd(g, 4)) * PAGE_BYTES;
    op->arg[2] = PROT_READ | PROT_WRITE;
    op->arg[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
    op = emit(g, one_in(g, 2) ? OP_STORE : one_in(g, 2) ? OP_LOAD : OP_PREAD);
    op->process = process;
    op->arg[0] = VALUE_ARENA | ((page - below) * PAGE_BYTES + rnd(g, PAGE_BYTES));
    op->arg[1] = 1 + rnd(g, 24);
    op->arg[2] = rnd(g, 256);
    if (op->kind == OP_PREAD) {
        op->arg[1] = op->arg[0];
        op->arg[0] = 1;
        op->arg[3] = file_offset(g);
    }
    for (unsigned i = 0; i < ARENA_PAGES; i++)
        g->mapped[i] = g->mapped[i] ? i + below >= page : i + below >= page && i < page + 1;
}

static void
emit_mremap(struct generator *g)
{
    struct op *op = emit(g, OP_MREMAP);

    op->arg[0] = address(g, true);
    op->arg[1] = length(g, op->arg[0]);
    op->arg[2] = one_in(g, 2) ? op->arg[1] : length(g, op->arg[0]);
    if (one_in(g, 10))
        op->arg[1] = 0;
    op->arg[4] = address(g, one_in(g, 3));
    op->arg[5] = VALUE_ARENA | (some_page(g, false) * PAGE_BYTES);
    switch (rnd(g, 8)) {
    case 0:
        break;
    case 1:
        op->arg[3] = MREMAP_MAYMOVE;
        break;
    case 2:
        op->arg[3] = MREMAP_MAYMOVE | 4; /* DONTUNMAP */
        break;
    case 3:
        op->arg[3] = MREMAP_MAYMOVE | MREMAP_FIXED | 4;
        break;
    case 4:
        op->arg[3] = rnd(g, 16);
        break;
    default:
        op->arg[3] = MREMAP_MAYMOVE | MREMAP_FIXED;
        break;
    }
    /* Refused in the middle, having unmapped the target: for what is dropped may be sealed. */
    if ((op->arg[3] & MREMAP_FIXED) && (op->arg[1] >> 40 != 0 || g->sealed))
        op->arg[1] = op->arg[2] >> 40 != 0 ? PAGE_BYTES : op->arg[2];
    if (op->arg[3] & MREMAP_FIXED)
        note_mapped(g, op->arg[4], op->arg[2], true);
}

static void
emit_advice(struct generator *g)
{
    static const uint64_t common[] = {4, 4, 4, 9, 10, 11, 18, 19, 22, 23, 23};
    struct op *op = emit(g, OP_MADVISE);

    op->arg[0] = address(g, true);
    op->arg[1] = length(g, op->arg[0]);
    op->arg[2] = one_in(g, 3) ? rnd(g, 27) : PICK(g, common);
    /* A huge range would reach the program's own memory, holes or not; unless it wraps. */
    if (op->arg[1] >> 40 != 0 && VALUE_TAG(op->arg[0]) == VALUE_ARENA)
        op->arg[1] = -(uint64_t)PAGE_BYTES;
    else if (op->arg[1] >> 40 != 0)
        op->arg[1] = PAGE_BYTES;
}

static void
emit_range(struct generator *g, enum op_kind kind)
{
    struct op *op = emit(g, kind);

    op->arg[0] = address(g, true);
    op->arg[1] = length(g, op->arg[0]);
    if (kind == OP_MINCORE && g->no_resident)
        op->kind = OP_MSYNC;
    switch (kind) {
    case OP_MUNMAP:
        note_mapped(g, op->arg[0], op->arg[1], false);
        break;
    case OP_MPROTECT:
        op->arg[2] = protection(g);
        break;
    case OP_MLOCK2:
        op->arg[2] = rnd(g, one_in(g, 6) ? 4 : 2);
        break;
    case OP_MINCORE:
        op->arg[2] = byte_address(g);
        op->process = 0; /* whether a child has the page of zeroes is nobody's business */
        break;
    case OP_MSYNC:
        op->arg[2] = one_in(g, 2) ? rnd(g, 8) : MS_SYNC;
        break;
    default:
        break;
    }
}

static void
emit_file(struct generator *g, enum op_kind kind)
{
    static const uint64_t modes[] = {0, 0, 3, 3, 3, 2, 8, 0x10, 0x11, 0x20};
    struct op *op = emit(g, kind);

    op->arg[0] = some_file(g);
    switch (kind) {
    case OP_FTRUNCATE:
        op->arg[1] = one_in(g, g->hostile * 2) ? PICK(g, bad_lengths) : file_offset(g);
        if (op->arg[1] >> 40 && op->arg[1] >> 63 == 0)
            op->arg[1] = 0;
        break;
    case OP_FALLOCATE:
        op->arg[1] = PICK(g, modes);
        g->no_resident |= op->arg[1] == 0;
        op->arg[2] = file_offset(g);
        op->arg[3] = one_in(g, g->hostile * 2) ? 0 : 1 + file_offset(g);
        break;
    case OP_READV:
        op->arg[1] = byte_address(g);
        op->arg[2] = byte_count(g);
        op->arg[3] = byte_address(g);
        op->arg[4] = byte_count(g);
        op->arg[5] = file_offset(g);
        break;
    default:
        op->arg[1] = byte_address(g);
        op->arg[2] = byte_count(g);
        op->arg[3] = file_offset(g);
        break;
    }
}

static void
emit_copy(struct generator *g, enum op_kind kind)
{
    struct op *op = emit(g, kind);
    uint64_t peer = rnd(g, PROCESSES);

    switch (kind) {
    case OP_PIPE:
        op->arg[0] = byte_address(g);
        op->arg[1] = byte_count(g);
        op->arg[2] = byte_address(g);
        op->arg[3] = byte_count(g);
        break;
    case OP_VM_READ:
    case OP_VM_WRITE:
        op->arg[0] = peer;
        op->arg[1] = byte_address(g);
        op->arg[2] = byte_count(g);
        op->arg[3] = byte_address(g);
        break;
    default:
        op->arg[0] = peer;
        op->arg[1] = byte_address(g);
        op->arg[2] = byte_count(g);
        break;
    }
}

static void
emit_access(struct generator *g, enum op_kind kind)
{
    struct op *op = emit(g, kind);

    op->arg[0] = kind == OP_FILL ? address(g, true) : byte_address(g);
    op->arg[1] = kind == OP_FILL ? some_pages(g) : 1 + rnd(g, 24);
    op->arg[2] = rnd(g, 256);
}

static void
emit_brk(struct generator *g)
{
    struct op *op = emit(g, OP_BRK);
    uint64_t to = rnd(g, BREAK_PAGES + 1) * PAGE_BYTES;

    if (one_in(g, 4) && to != 0)
        to -= rnd(g, PAGE_BYTES);
    op->arg[0] = one_in(g, g->hostile * 2) ? PICK(g, bad_addresses) : (VALUE_BREAK | to);
}

static void
emit_fork(struct generator *g)
{
    struct op *op = emit(g, OP_FORK);

    unsigned child = 1 + (unsigned)rnd(g, PROCESSES - 1);

    op->arg[0] = child;
    op->arg[1] = one_in(g, 2) ? BIRTH_CLONE : rnd(g, BIRTHS);
    if (g->alive[child] || g->waits[child] != 0)
        return; /* busy */
    g->alive[child] = true;
    if (op->arg[1] >= BIRTH_VFORK) {
        g->waits[op->process] = child + 1;
        g->alive[op->process] = false;
    }
}

static void
note_ended(struct generator *g, unsigned process)
{
    g->alive[process] = false;
    for (unsigned i = 0; i < PROCESSES; i++) {
        if (g->waits[i] == process + 1) {
            g->waits[i] = 0;
            g->alive[i] = true;
        }
    }
}

static void
emit_end(struct generator *g)
{
    struct op *op = emit(g, OP_EXIT);

    if (op->process == 0) /* which stays, so that somebody is left to look */
        op->kind = OP_MAPS;
    else
        note_ended(g, op->process);
}

/* Those that others wait for. */
static void
end_waits(struct generator *g)
{
    for (unsigned turn = 0; turn < PROCESSES; turn++) {
        for (unsigned i = 0; i < PROCESSES; i++) {
            unsigned child = g->waits[i] - 1;

            if (g->waits[i] == 0 || !g->alive[child])
                continue;
            emit(g, OP_EXIT)->process = child;
            note_ended(g, child);
        }
    }
}

static void
emit_limit(struct generator *g)
{
    struct op *op = emit(g, OP_LIMIT);

    op->arg[0] = one_in(g, 3) ? 0 : 1 + rnd(g, 5);
    if (op->arg[0] == 4 && g->stacks)
        op->arg[0] = 5;
    op->arg[1] = rnd(g, one_in(g, 2) ? 16 : 64);
}

static void
emit_look(struct generator *g)
{
    static const enum op_kind looks[] = {OP_PROBE,   OP_RESIDENT, OP_MAPS,   OP_MAPS,
                                         OP_PAGEMAP, OP_FILES,    OP_STATUS, OP_SMAPS};

    enum op_kind kind = PICK(g, looks);
    struct op *op = emit(g, kind == OP_RESIDENT && g->no_resident ? OP_PROBE : kind);

    if (kind == OP_RESIDENT || kind == OP_PAGEMAP || kind == OP_SMAPS)
        op->process = 0;
}

/* How often each call comes, of their sum. */
static const struct {
    enum op_kind kind;
    unsigned weight;
} weights[] = {
    {OP_MMAP, 14},      {OP_MUNMAP, 6},  {OP_MPROTECT, 9}, {OP_MREMAP, 10},   {OP_MADVISE, 10},
    {OP_BRK, 2},        {OP_MLOCK, 3},   {OP_MLOCK2, 2},   {OP_MUNLOCK, 2},   {OP_MLOCKALL, 1},
    {OP_MUNLOCKALL, 1}, {OP_MINCORE, 2}, {OP_MSYNC, 2},    {OP_FTRUNCATE, 2}, {OP_FALLOCATE, 2},
    {OP_PREAD, 4},      {OP_PWRITE, 4},  {OP_READV, 1},    {OP_PIPE, 3},      {OP_VM_READ, 2},
    {OP_VM_WRITE, 2},   {OP_PEEK, 1},    {OP_POKE, 2},     {OP_LOAD, 6},      {OP_STORE, 8},
    {OP_FILL, 6},       {OP_CODE, 1},    {OP_CALL, 2},     {OP_FORK, 2},      {OP_EXIT, 1},
    {OP_LIMIT, 1},      {OP_MAPS, 3},    {OP_KINDS, 22}, /* the calls of generate_more.c */
};

static enum op_kind
some_kind(struct generator *g)
{
    static const enum op_kind plain[] = {OP_MMAP, OP_MPROTECT, OP_LOAD,   OP_STORE,
                                         OP_FILL, OP_CALL,     OP_MUNMAP, OP_FORK,
                                         OP_EXIT, OP_MAPS,     OP_STORE,  OP_LOAD};
    unsigned sum = 0, at;

    for (size_t i = 0; i < sizeof(weights) / sizeof(weights[0]); i++)
        sum += weights[i].weight;
    if (g->focus == FOCUS_KEYS || g->focus == FOCUS_MACHINE)
        return PICK(g, plain);
    at = (unsigned)rnd(g, sum);
    for (size_t i = 0;; i++) {
        if (at < weights[i].weight)
            return weights[i].kind;
        at -= weights[i].weight;
    }
}

static void
emit_call(struct generator *g)
{
    enum op_kind kind = some_kind(g);

    switch (kind) {
    case OP_KINDS:
        emit_other(g);
        break;
    case OP_MMAP:
        if (g->stacks && one_in(g, 8))
            emit_stack(g);
        else
            emit_mmap(g);
        break;
    case OP_MREMAP:
        emit_mremap(g);
        break;
    case OP_MADVISE:
        emit_advice(g);
        break;
    case OP_BRK:
        emit_brk(g);
        break;
    case OP_MLOCKALL:
        emit(g, kind)->arg[0] = rnd(g, one_in(g, 3) ? 9 : 3);
        break;
    case OP_MUNLOCKALL:
        emit(g, kind);
        break;
    case OP_FTRUNCATE:
    case OP_FALLOCATE:
    case OP_PREAD:
    case OP_PWRITE:
    case OP_READV:
        emit_file(g, kind);
        break;
    case OP_PIPE:
    case OP_VM_READ:
    case OP_VM_WRITE:
    case OP_PEEK:
    case OP_POKE:
        emit_copy(g, kind);
        break;
    case OP_LOAD:
    case OP_STORE:
    case OP_FILL:
    case OP_CODE:
    case OP_CALL:
        emit_access(g, kind);
        break;
    case OP_FORK:
        emit_fork(g);
        break;
    case OP_EXIT:
        emit_end(g);
        break;
    case OP_LIMIT:
        emit_limit(g);
        break;
    case OP_MAPS:
        emit_look(g);
        break;
    default:
        emit_range(g, kind);
        break;
    }
}

void
generate(struct program *program, uint64_t seed, unsigned ops, enum focus focus)
{
    static const enum op_kind last[] = {OP_PAGEMAP, OP_RESIDENT, OP_MAPS,  OP_FLAGS,
                                        OP_FILES,   OP_STATUS,   OP_SMAPS, OP_PROBE};
    struct generator g = {.state = seed * 0xd1342543de82ef95u, .program = program, .focus = focus};

    program->count = 0;
    g.alive[0] = true;
    g.stacks = one_in(&g, 2);
    g.hostile = 4 + (unsigned)rnd(&g, 30);
    if (one_in(&g, 2))
        emit(&g, OP_DROP);
    for (unsigned i = 0; i < ops; i++) {
        if (focus != FOCUS_KEYS && one_in(&g, focus == FOCUS_RACES ? 8 : 500))
            emit_race(&g);
        else if (focus == FOCUS_MACHINE && one_in(&g, 2))
            emit_machine(&g);
        else if (focus == FOCUS_KEYS && one_in(&g, 2))
            emit_key(&g);
        else
            emit_call(&g);
    }
    end_waits(&g);
    for (unsigned process = 0; process < PROCESSES; process++) {
        for (size_t i = 0; i < sizeof(last) / sizeof(last[0]); i++) {
            if (last[i] == OP_RESIDENT && g.no_resident)
                continue;
            if (g.alive[process] && (process == 0 || last[i] == OP_MAPS || last[i] == OP_PROBE))
                emit(&g, last[i])->process = process;
        }
    }
}
