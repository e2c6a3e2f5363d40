/* SPDX-License-Identifier: MIT */
#ifndef TESTS_DIFFERENTIAL_H
#define TESTS_DIFFERENTIAL_H

/*
 * The differential fuzzer: one static program, run on Linux and on the reference
 * kernel, which prints what each of a list of memory calls did.  The parts:
 *
 *   generate.c  seed -> program         text.c    program <-> text
 *   execute.c   running one, reports    ops.c     what each call does and reports
 *   look.c      reports of memory       race.c    threads
 *   main.c      the command line        and some calls, by subject
 *
 * and one of two machines:
 *
 *   native.c    this kernel             hosted/   the library and the reference kernel's calls,
 *                                                 on the simulated machine, in one process
 *
 * Values that differ between two machines never stand in a report: addresses are
 * relative to the arena or to the break, or "elsewhere".
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define PAGE_BYTES 4096ul

/* The arena straddles a boundary of the tables of every level but the topmost. */
enum { ARENA_PAGES = 64, BREAK_PAGES = 16, FILE_PAGES = 8, PROCESSES = 4, ARGS = 6 };
enum { SEGMENTS = 4 };
#define ARENA_BYTES (ARENA_PAGES * PAGE_BYTES)
#define BREAK_BYTES (BREAK_PAGES * PAGE_BYTES)

#if UINTPTR_MAX > 0xffffffffu
#define ARENA_BASE 0x103ffe0000ul
#else
#define ARENA_BASE 0x2ffe0000ul
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
    OP_MSEAL,
    OP_REMAP_FILE,
    OP_ADVISE_OTHER,
    OP_MBIND,
    OP_SET_POLICY,
    OP_GET_POLICY,
    OP_HOME_NODE,
    OP_MOVE_PAGES,
    OP_MIGRATE,
    OP_SHMGET,
    OP_SHMAT,
    OP_SHMDT,
    OP_SHMCTL,
    OP_SEAL,
    OP_FADVISE,
    OP_READAHEAD,
    OP_CACHESTAT,
    OP_VMSPLICE,
    OP_SPLICE,
    OP_TEE,
    OP_WATCH,
    OP_UNWATCH,
    OP_RESOLVE,
    OP_KEY_ALLOC,
    OP_KEY_FREE,
    OP_KEY_PROTECT,
    OP_KEY_RIGHTS,
    OP_KEY_SIGNAL,
    OP_OVERCOMMIT,
    OP_COMMIT,
    OP_BARRIER,
    OP_GETCPU,
    OP_MEMFD,
    OP_RACE,
    OP_TID,
    OP_REFUSED,
    OP_USER,
    OP_ASK,
    OP_SHMKEY,
    OP_SHMSET,
    OP_PIECES,
    OP_HUGE,
    /* Looking on; these are not counted as calls. */
    OP_PROBE,
    OP_RESIDENT,
    OP_MAPS,
    OP_FLAGS,
    OP_PAGEMAP,
    OP_FILES,
    OP_STATUS,
    OP_SMAPS,
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

/** Make the program of a seed: about @ops calls, and looks between and behind them.  With FOCUS_RACES
 *  every eighth is of threads, else every 500th; with FOCUS_KEYS half are of protection keys; FOCUS_MACHINE is for a machine
 *  that is nobody else's, and changes its settings. */
enum focus { FOCUS_NONE, FOCUS_RACES, FOCUS_KEYS, FOCUS_MACHINE };
void generate(struct program *program, uint64_t seed, unsigned ops, enum focus focus);

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

/** What all processes of a program see. */
struct shared {
    uint32_t turn; /* native.c: a process, the controller or the end; a futex */
    size_t next;   /* index of the call to execute */
    int pids[PROCESSES];
    unsigned waits[PROCESSES]; /* for a child by vfork: which, + 1; it has no turn meanwhile */
    unsigned ended;            /* a bit each: it came to its end */
    uintptr_t break_start;
    uint64_t bytes[2];      /* VmSize and VmData of process 0 when it began */
    bool locked_all;        /* mlockall was tried: what else there is may be locked */
    bool limited;           /* some limit was set */
    bool pools;             /* something was done to pools of huge pages */
    bool sharing;           /* some processes have their memory in common */
    int segments[SEGMENTS]; /* of System V shared memory, + 1; 0: none */
    struct program program;
    size_t report_bytes;
    char report[1 << 20];
};

extern struct shared *shared; /* the machine's */
extern unsigned self;         /* which process of the program this one is */

/** Run @program. @return its report, valid until the next run */
const char *execute(const struct program *program);

/** Of all runs: calls that were done, and processes that died of a signal nobody expected. */
struct totals {
    unsigned long calls, deaths, timeouts;
};
extern struct totals totals;

/** Files, limits, the break: what a program's first process has to begin with. */
void process_prepare(void);

/** The process that has the next call, if one that lives has; else PROCESSES. */
unsigned step_process(void);

/** After the last process ended, by whoever is left: what would outlive the program. */
void program_finish(void);

/** Do the next call, which is the current process's. */
void process_step(void);

/** The value as this process sees it.  What a program has about the end of x86-64's user memory is about this
 *  machine's; and so, where addresses have 32 bits, is what is larger: it would be cut off, or wrap. */
uintptr_t resolve(uint64_t value);

/** Is @address in the arena or the break's pages, or at their end? */
bool is_ours(uintptr_t address);

/** The process number of process @index of the program, 0 where it does not live. */
int process_id(unsigned index);

/** The descriptor that an argument names. */
int descriptor(uint64_t value);

/** Drop all capabilities but those of the first 32 that @keep has; capset's result. */
long keep_capabilities(uint32_t keep);

/** Do the call and say what came of it. */
void op_execute(const struct op *op);

/** What op_execute() leaves to others, by subject. */
void policy_execute(enum op_kind kind, const uintptr_t *arg);
void share_execute(enum op_kind kind, const uintptr_t *arg, int fd);
void watch_execute(enum op_kind kind, const uintptr_t *arg);
void key_execute(enum op_kind kind, const uintptr_t *arg);
void limit_execute(enum op_kind kind, const uintptr_t *arg);
void process_execute(enum op_kind kind, const uintptr_t *arg);
void race_execute(const uintptr_t *arg);
void huge_execute(const uintptr_t *arg);

/** Pools of huge pages are empty again. */
void huge_finish(void);

/** Write a number to a file of /proc/sys/vm. @return what write() said, or open() */
long setting_write(const char *name, unsigned long value);

/** Where @line begins with @name and a colon: what stands there goes to *sum. */
void field_add(const char *line, const char *name, unsigned long *sum);

/** No watcher tells of pages beside [@start, @start + @bytes). */
void unwatch_around(uintptr_t start, size_t bytes);

/** A line of /proc/self/status, in bytes; 0 where there is none. */
uint64_t status_bytes(const char *name);

/** What a look can see of a file of /proc: its text, valid until the next. NULL: said why */
char *text_read(const char *path);

/**
 * Whether there is swap in this comparison, which the environment's DIFFERENTIAL_SWAP says: on the
 * other side (other), or on this one (here), where what memory holds is then sent away between the
 * calls.  It changes nothing, but what is resident, which no side is asked for.
 */
enum swapping { SWAP_NONE, SWAP_OTHER, SWAP_HERE };
enum swapping swapping(void);

/** Whether the other side has another architecture, as the environment's DIFFERENTIAL_FOREIGN says: it
 *  knows no addresses that are none (x86-64's between the halves). */
bool foreign(void);

/** Send all memory of the current process away, as far as that is possible. */
void machine_swap_out(void);

/** Looks: op_execute() passes them on. */
void look(const struct op *op);

/** A descriptor of the file of that name, or a negated error. */
long path_open(const char *path, int flags);

/* ---- the machine ------------------------------------------------------------------- */

/** Before anything runs. */
void machine_init(void);

/** Where user memory ends. */
uintptr_t machine_user_end(void);

/** Run shared->program in processes of its own, to its end. */
void machine_run(void);

/** A system call of the current process, by this architecture's number; an error is negative. */
long machine_call(long number, const uint64_t args[6]);
#define call(number, ...) machine_call(number, (const uint64_t[6]){__VA_ARGS__})

/** mmap(), and what its offset is counted in. */
#ifdef SYS_mmap2
#define CALL_MMAP SYS_mmap2
enum { MMAP_UNIT = PAGE_BYTES };
#else
#define CALL_MMAP SYS_mmap
enum { MMAP_UNIT = 1 };
#endif
#ifdef SYS_fcntl64
#define CALL_FCNTL SYS_fcntl64
#else
#define CALL_FCNTL SYS_fcntl
#endif

/** How a process is made. */
enum birth {
    BIRTH_CLONE,
    BIRTH_CLONE3,
    BIRTH_SHARING, /* the parent's memory */
    BIRTH_VFORK,   /* too, and the parent waits */
    BIRTH_VFORK3,  /* the same by clone3 */
    BIRTHS
};

/** Make process @index of the program. @return its id, an error, or 0 in the child where that is
 *  another process of this machine's; BIRTH_TOLD: who waited for a child goes on, which is no more */
long machine_fork(enum birth birth, unsigned index);
enum { BIRTH_TOLD = 0x7fffffff };

/** Process @parent has got a child, and waits for it or not. */
void process_born(unsigned parent, unsigned child, int pid, enum birth birth);

/** Process @index is no more: who waited for it goes on. */
void process_gone(unsigned index);

/** Whether the CPU has protection keys; then the rights of the running process to memory with
 *  @key may be set, 1: no access, 2: no writes. */
bool machine_has_keys(void);
void machine_set_rights(unsigned key, unsigned rights);

/** A signal whose handler sets the rights to memory with @key: what it finds in the register, and what
 *  the process has when it came back. */
void machine_signal_rights(unsigned key, unsigned rights, uint32_t out[2]);

/* ---- threads: race.c -------------------------------------------------------------- */

enum { RACERS = 4 };

/** A thread that calls while others do. */
struct clone_args; /* linux/sched.h */
struct racer {
    uint64_t state;                /* of its random numbers */
    unsigned index, racers, steps; /* which of how many, and how many calls it makes */
    uintptr_t area;
    unsigned pages;
    int file;
    size_t scratch; /* what it has of scratch memory: a page from there on */
    bool is_shared, locks;
    unsigned added; /* to everybody's byte */
    uint64_t hash;  /* of all results */
};

/** Do one call. */
void racer_step(struct racer *racer);

/** Let all of @racers make their calls at once, and wait for them. */
void machine_race(struct racer *racers, unsigned count);

/**
 * Make a child by clone3(@args) that does @run, and wait until it has ended.  Threads may at once.
 * @return what @run did, a small number, or a negative error; *out_pid is the child's
 */
long machine_child(const struct clone_args *args, int (*run)(const void *), const void *argument,
                   uint32_t *out_pid);

/** Fork a child from a racer, and wait until it has ended. @return 0, or an error */
long fork_racer(const struct racer *racer);

/** Add one to a byte, all at once. */
void machine_add(uintptr_t address);

/** The current process ends; returns where another one is current then. */
void machine_exit(void);

/** Scratch memory of each process, not in the arena, and copies to and from there. */
enum { SCRATCH_BYTES = 1 << 18 };
uintptr_t machine_scratch(void);
void scratch_put(size_t offset, const void *from, size_t bytes);
void scratch_get(void *to, size_t offset, size_t bytes);

/** Instructions were written there: from now on they may be executed. */
void machine_code_written(uintptr_t address, size_t bytes);

/** Inode, size and blocks of a file, or zeroes. */
bool file_stat(int fd, struct statx *out);

/** Whether a system call answered an error. */
static inline bool
is_error(long result)
{
    return (unsigned long)result > -4096ul;
}

/** Put an array of @count pieces of memory, start and length each, into scratch memory.
 *  @return its address */
uintptr_t pieces_put(size_t offset, const uintptr_t *pieces, unsigned count);

/** A pipe that does not block; says why where there is none. */
bool pipe_open(int ends[2]);
void pipe_close(const int ends[2]);
/** Read what is left in a pipe: a hash. */
uint32_t pipe_drain(int fd);

/* A fault in user code. */
struct fault {
    int signal, code;
    unsigned key;    /* with SEGV_PKUERR */
    uint32_t rights; /* then, too: what the handler may do */
    uintptr_t address;
};

enum access { ACCESS_LOAD, ACCESS_STORE, ACCESS_CALL };

/** Touch one byte; false where that faults. */
bool touch(uintptr_t address, enum access access, uint8_t *byte, struct fault *fault);

/** Store what is there already, where that may be: the page is there then, and the process's own. */
void touch_own(uintptr_t address);

/** Hash the page at @address; false where that faults at its first byte, which *fault describes. */
bool touch_page(uintptr_t address, uint64_t *hash, struct fault *fault);

void say_fault(const struct fault *fault);

/** A hash of @bytes, for contents; the same on every machine. */
uint64_t hash_words(const volatile uint64_t *words, size_t count);

#endif
