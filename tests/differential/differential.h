/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DIFFERENTIAL_H
#define TESTS_DIFFERENTIAL_H

/*
 * The differential fuzzer: one static program, run on Linux and on the reference
 * kernel, which prints what each of a list of memory calls did.  The parts:
 *
 *   generate.c  seed -> program         text.c    program <-> text
 *   execute.c   the turns, processes    ops.c     what each call does and reports
 *   look.c      reports of memory       main.c    the command line
 *
 * Values that differ between two machines never stand in a report: addresses are
 * relative to the arena or to the break, or "elsewhere".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_BYTES 4096ul

/* The arena straddles a boundary of the tables of every level but the topmost. */
enum { ARENA_PAGES = 64, BREAK_PAGES = 16, FILE_PAGES = 8, PROCESSES = 4, ARGS = 6 };
#define ARENA_BYTES (ARENA_PAGES * PAGE_BYTES)
#define BREAK_BYTES (BREAK_PAGES * PAGE_BYTES)

#if UINTPTR_MAX > 0xffffffffu
#define ARENA_BASE 0x103ffe0000ul
#else
#define ARENA_BASE 0x4ffe0000ul
#endif

/*
 * A value in a program: a number, or an address that is known only when it runs.
 * Symbolic ones have a tag in bits 56 to 61, which no other argument needs.
 */
#define VALUE_ARENA     0x2a00000000000000ull
#define VALUE_BREAK     0x2b00000000000000ull
#define VALUE_TAG(v)    ((v)&0x3f00000000000000ull)
#define VALUE_OFFSET(v) ((v)&0x00ffffffffffffffull)

enum op_kind {
    OP_MMAP,
    OP_MUNMAP,
    OP_MPROTECT,
    OP_MREMAP,
    OP_MADVISE,
    OP_BRK,
    OP_MLOCK,
    OP_MLOCK2,
    OP_MUNLOCK,
    OP_MLOCKALL,
    OP_MUNLOCKALL,
    OP_MINCORE,
    OP_MSYNC,
    OP_FTRUNCATE,
    OP_FALLOCATE,
    OP_PREAD,
    OP_PWRITE,
    OP_READV,
    OP_PIPE,
    OP_VM_READ,
    OP_VM_WRITE,
    OP_PEEK,
    OP_POKE,
    OP_LOAD,
    OP_STORE,
    OP_FILL,
    OP_CODE,
    OP_CALL,
    OP_FORK,
    OP_EXIT,
    OP_LIMIT,
    OP_DROP,
    /* Looking on; these are not counted as calls. */
    OP_PROBE,
    OP_RESIDENT,
    OP_MAPS,
    OP_FLAGS,
    OP_PAGEMAP,
    OP_FILES,
    OP_KINDS
};

struct op {
    enum op_kind kind;
    unsigned process; /* which of the processes does it; skipped where that does not live */
    uint64_t arg[ARGS];
};

enum { PROGRAM_OPS = 400 };

struct program {
    size_t count;
    struct op ops[PROGRAM_OPS];
};

/* What text.c knows of each call. */
struct op_name {
    const char *name;
    unsigned args;
};

extern const struct op_name op_names[OP_KINDS];

/** Make the program of a seed: about @ops calls, and looks between and behind them. */
void generate(struct program *program, uint64_t seed, unsigned ops);

/**
 * Read one line: "PROCESS NAME ARGS...".  Numbers as C has them, p3+0x10 for page 3 of the
 * arena, b3 for the break's; what stands behind a # is a comment.
 * @return 1, 0 for a line without an op, -1 for a bad one
 */
int op_parse(struct op *op, const char *line);

/** Print @op so that op_parse() reads it, with a zero at the end. */
void op_print(const struct op *op, char *out, size_t bytes);

/* ---- the report --------------------------------------------------------------- */

/** Add to the report of the program that runs; printf's format. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** Say the result of a system call: "= N", or "= -ERRNO" by name. */
void say_result(long result);

/** Say an address that the kernel returned or reported. */
void say_address(uintptr_t address);

/* ---- execution ------------------------------------------------------------------ */

/** Prepare what all programs share: once, before any runs. */
void execute_init(void);

/**
 * Run @program in processes of its own.
 * @return its report, valid until the next run
 */
const char *execute(const struct program *program);

/** Of all runs: calls that were done, and processes that died of a signal nobody expected. */
struct totals {
    unsigned long calls, deaths, timeouts;
};
extern struct totals totals;

/** The value as this process sees it. */
uintptr_t resolve(uint64_t value);

/** Where the break began in this program. */
uintptr_t break_start(void);

/** The process number of process @index of the program, 0 where it does not live. */
int process_id(unsigned index);

/** The descriptor that an argument names. */
int descriptor(uint64_t value);

/* A fault in user code. */
struct fault {
    int signal, code;
    uintptr_t address;
};

enum access { ACCESS_LOAD, ACCESS_STORE, ACCESS_CALL };

/** Touch one byte; false where that faults. */
bool touch(uintptr_t address, enum access access, uint8_t *byte, struct fault *fault);

/** Touch @words 64-bit words; how many before it faulted, which *fault then describes. */
size_t touch_words(const volatile uint64_t *at, size_t words, uint64_t *hash, struct fault *fault);

void say_fault(const struct fault *fault);

/** Drop all capabilities but those of the first 32 that @keep has; capset's result. */
long keep_capabilities(uint32_t keep);

/** Do the call and say what came of it. */
void op_execute(const struct op *op);

/** Looks: op_execute() passes them on. */
void look(const struct op *op);

#endif
