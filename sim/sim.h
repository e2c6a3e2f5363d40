/* SPDX-License-Identifier: MIT */
#ifndef SIM_SIM_H
#define SIM_SIM_H

/**
 * @file
 * The hosted machine: simulated memory, CPUs, MMU and TLBs inside a Linux
 * process, with the library running on them.  docs/hosted-machine.md explains it.
 *
 * A machine is booted as far up as a test needs (RAM, frames, heap, tables,
 * everything); many may live in one process.  The calling host thread acts as
 * one simulated CPU at a time; booting leaves it on CPU 0.
 *
 * A failure that the machine itself finds (a stale TLB hit, a deadlock, a
 * panic of the library, a broken invariant) prints what, where and the seed,
 * and aborts: the harness reports it as a failed test, EXPECT_PANIC() sees it,
 * and sim_catch() turns it into a return value.
 */

#include <quire/arch.h>
#include <quire/epoch.h>
#include <quire/frame.h>
#include <quire/port.h>

struct qr_heap;
struct qr_space;
struct qr_object;
struct qr_objects;
struct qr_tables;
struct qr_tlb;
struct qr_tlb_space;
struct qr_vm;
struct sim;
struct sim_thread;

/* ---- Booting ------------------------------------------------------------ */

/** One bank of simulated RAM; what lies between banks does not exist. */
struct sim_bank {
    uint64_t start; /**< physical address, page-aligned */
    uint64_t bytes; /**< page multiple; terabytes are fine: untouched memory is free */
    unsigned node;
    enum qr_memory_kind kind; /**< 0: usable */
};

enum sim_mmu {
    SIM_MMU_DEFAULT,     /**< what SIM_MMU in the environment names, else the first that fits */
    SIM_MMU_X86_64,      /**< 4 levels */
    SIM_MMU_X86_64_LA57, /**< 5 levels */
    SIM_MMU_X86_32,      /**< 2 levels of 4-byte entries, 4 MiB pages, PSE-36 */
    SIM_MMU_X86_PAE,     /**< 3 levels, the root's 4 entries in registers */
    SIM_MMU_AARCH64_4K,  /**< 48 bits; as the library's formats are named */
    SIM_MMU_AARCH64_4K_39,
    SIM_MMU_AARCH64_4K_52,
    SIM_MMU_AARCH64_16K, /**< 47 bits */
    SIM_MMU_AARCH64_16K_48,
    SIM_MMU_AARCH64_16K_52,
    SIM_MMU_AARCH64_64K, /**< 48 bits */
    SIM_MMU_AARCH64_64K_42,
    SIM_MMU_AARCH64_64K_52,
    SIM_MMU_RISCV64_SV39,
    SIM_MMU_RISCV64_SV48,
    SIM_MMU_RISCV64_SV57,
    SIM_MMU_SCRAMBLED, /**< the format of no hardware */
    SIM_MMU_COUNT,
};

/** Whether the MMU's smallest page is this build's QR_PAGE_SIZE: only then the library runs on it. */
bool sim_mmu_fits(enum sim_mmu mmu);
/** As SIM_MMU in the environment names it: "x86_64", "riscv64_sv39". */
const char *sim_mmu_name(enum sim_mmu mmu);
enum sim_mmu sim_mmu_default(void);
/** One of those that fit; where SIM_MMU names one, that. */
enum sim_mmu sim_mmu_by_seed(uint64_t seed);

/** Whether the MMU knows pages that may be read and not executed (after sim_boot_tables()). */
bool sim_can_forbid_exec(struct sim *sim);

/** How an uncached mapping looks: as memory where the platform alone knows (RISC-V, no Svpbmt). */
enum qr_cacheability sim_uncached(struct sim *sim);

/** Where the kernel's part of the addresses begins (3 GiB where these have no sign). */
qr_va sim_kernel_start(struct sim *sim);

/** Each MMU on which the library runs in this build. */
#define sim_for_each_mmu(mmu)                                                                \
    for (enum sim_mmu mmu = (enum sim_mmu)(SIM_MMU_DEFAULT + 1); mmu < SIM_MMU_COUNT; mmu++) \
        if (sim_mmu_fits(mmu))

/** How the CPUs of a machine differ from the default; a set of bits. */
enum sim_feature {
    SIM_NO_NX = 1 << 0,
    SIM_NO_SMEP = 1 << 1,
    SIM_NO_SMAP = 1 << 2,
    SIM_NO_PKU = 1 << 3,
    SIM_NO_1G = 1 << 4,
    SIM_NO_AD = 1 << 5,        /**< (AArch64, RISC-V) software sets accessed and dirty, by faults */
    SIM_NO_DIRTY = 1 << 6,     /**< (AArch64) hardware sets accessed, software dirty */
    SIM_MXR = 1 << 7,          /**< (RISC-V) what may be executed may be read */
    SIM_SPECULATE = 1 << 8,    /**< TLBs and walk caches fill by themselves, as the seed says */
    SIM_EVICT = 1 << 9,        /**< and lose entries, as the seed says; without it: never */
    SIM_LEAF_FLUSH = 1 << 10,  /**< a page flush leaves walk caches alone (RISC-V's promise) */
    SIM_NO_ORACLE = 1 << 11,   /**< stale hits are counted, not failed */
    SIM_NO_VALIDATE = 1 << 12, /**< sim_map() and friends do not validate after each operation */
    SIM_BROADCAST = 1 << 14,   /**< flushes reach every CPU (AArch64); not for SIM_RUN_THREADS */
    SIM_KERNEL_HALF = 1 << 13, /**< the kernel's half has its top-level tables from the start */
    SIM_NO_BROADCAST = 1 << 15,  /**< (AArch64) they do not: the library interrupts the others */
    SIM_BBM2 = 1 << 16,          /**< (AArch64) FEAT_BBM level 2: sizes may change while live */
    SIM_NO_PBMT = 1 << 18,       /**< (RISC-V) without Svpbmt: those bits are reserved */
    SIM_CACHE_INVALID = 1 << 17, /**< TLBs remember that nothing stood there (RISC-V may) */
};

/** All zero is a machine of one CPU and 4 MiB. */
struct sim_options {
    size_t frames;                /**< one bank of so many frames; 0: 1024 */
    uint64_t base;                /**< where that bank starts; 0: 16 MiB, just above the DMA zone */
    const struct sim_bank *banks; /**< instead of @p frames */
    size_t bank_count;
    uint64_t direct_limit;     /**< memory at or above needs windows (as 32-bit); 0: none does */
    unsigned cpus;             /**< 0: 1 */
    const unsigned *cpu_nodes; /**< node of each CPU; NULL: all 0 */
    enum sim_mmu mmu;
    unsigned asids;    /**< identifiers a CPU has; 0: enough, and few; 1: none */
    unsigned features; /**< enum sim_feature bits */
    uint64_t seed;
};

/** RAM and CPUs: enough for what needs no more than the port. */
struct sim *sim_boot_ram(struct sim_options options);
/** ... and the frame allocator over the RAM. */
struct sim *sim_boot_frames(struct sim_options options);
/** ... and a heap. */
struct sim *sim_boot_heap(struct sim_options options);
/** ... and the tlb layer, an epoch, and an empty kernel tree. */
struct sim *sim_boot_tables(struct sim_options options);
/** Everything, with one empty address space that runs on every CPU. */
struct sim *sim_boot(struct sim_options options);

/** Undo a boot, check that nothing leaked, and forget the machine. */
void sim_shutdown(struct sim *sim);

/** What the boot functions made; NULL (or 0) where the machine was booted less far. */
struct qr_frames *sim_frames(struct sim *sim);
struct qr_heap *sim_heap(struct sim *sim);
struct qr_tlb *sim_tlb(struct sim *sim);
struct qr_epoch *sim_epoch(struct sim *sim);
struct qr_tables *sim_kernel_tables(struct sim *sim);
const struct qr_format *sim_format(struct sim *sim);
struct qr_tlb_space *sim_kernel_space(struct sim *sim);
struct qr_objects *sim_objects(struct sim *sim);
struct qr_vm *sim_vm(struct sim *sim);

/** The memory map that the banks make, as a boot loader would give it. */
size_t sim_memory_map(struct sim *sim, const struct qr_memory_range **out_map);
/** Where simulated physical memory stands in the process: byte @p pa, which some bank holds. */
void *sim_ram(struct sim *sim, qr_pa pa);

/* ---- CPUs --------------------------------------------------------------- */

unsigned sim_cpu_count(struct sim *sim);
/** The calling host thread acts as CPU @p cpu from now on; it leaves the one it was. */
void sim_enter(struct sim *sim, unsigned cpu);
/** It acts as none; the CPU idles, interrupts on. */
void sim_leave(void);
/** The machine and the CPU that the caller acts as; NULL, 0 where none. */
struct sim *sim_here(void);
unsigned sim_here_cpu(void);
/** Serve the interrupts that wait for this CPU (if they are on) and for idle ones. */
void sim_poll(void);

/** The next number of the machine's own sequence. */
uint64_t sim_random(struct sim *sim);

/** What the machine counted since boot. */
struct sim_stats {
    uint64_t accesses; /**< by user programs and user copies */
    uint64_t tlb_hits, tlb_misses;
    uint64_t stale_hits; /**< of the hits: the tables said less by then, a flush was pending */
    uint64_t speculative_fills, evictions;
    uint64_t flush_page, flush_asid, flush_all, root_switches, flushes_dropped;
    uint64_t ipis_sent, ipis_taken;
    uint64_t faults, spurious_faults;
    uint64_t steps, switches; /**< of the scheduler */
    uint64_t log_lines;
};
struct sim_stats sim_stats(struct sim *sim);

/* ---- The MMU and the TLBs ------------------------------------------------ */

/** What x86-64 pushes as the error code; the other MMUs use the same bits here. */
enum sim_fault_code {
    SIM_FAULT_PRESENT = 1 << 0,
    SIM_FAULT_WRITE = 1 << 1,
    SIM_FAULT_USER = 1 << 2,
    SIM_FAULT_RESERVED = 1 << 3,
    SIM_FAULT_FETCH = 1 << 4,
    SIM_FAULT_PKEY = 1 << 5,
    SIM_FAULT_STATE = 1 << 6,         /**< software must set accessed or dirty */
    SIM_FAULT_NONCANONICAL = 1 << 16, /**< a general protection fault on x86 */
};

/** Who makes an access. */
enum sim_mode {
    SIM_USER,        /**< a user program */
    SIM_KERNEL_COPY, /**< the kernel, SMAP lifted (EFLAGS.AC) */
    SIM_KERNEL,      /**< the kernel, by mistake or to its own half */
};

struct sim_access {
    qr_va va;
    unsigned access; /**< exactly one of QR_ACCESS_READ, _WRITE, _EXEC */
    enum sim_mode mode;
};

/**
 * What the current CPU makes of one access: through its TLB, else by a walk
 * that sets accessed and dirty bits and fills the TLB.
 * @return true with *out_pa; false with the hardware's *out_code
 */
bool sim_translate(struct sim_access access, qr_pa *out_pa, unsigned *out_code);

/** A walk of the tables at @p root that changes nothing, for tests and oracles. */
struct sim_mapping {
    bool present;
    qr_pa pa;       /**< of @p va itself */
    unsigned shift; /**< log2 of the page that maps it */
    unsigned prot;  /**< enum qr_prot bits as the hardware grants them, all levels combined */
    bool accessed, dirty;
    uint8_t pkey;
    uint8_t cache; /**< enum qr_cache */
};
struct sim_mapping sim_walk(struct sim *sim, qr_pa root, qr_va va);

/** Does the current CPU hold a TLB entry for @p va under its current ASID? */
bool sim_tlb_has(qr_va va);
/** Each TLB holds so many entries for pages from now on, whatever their size, and replaces one at
 *  random; 0, as at first: all that it ever saw. */
void sim_set_tlb_size(struct sim *sim, size_t entries);
/** Entries that CPU @p cpu holds, walk caches not counted. */
size_t sim_tlb_count(struct sim *sim, unsigned cpu);

/** The root of the upper half, on MMUs that have one of its own; sim_boot_tables() sets it. */
void sim_set_upper_root(qr_pa root);

/** PKRU of the current CPU: two bits a key, access-disable and write-disable. */
void sim_set_pkru(uint32_t pkru);

/** What one flush of changed translations covers, for the oracle. */
struct sim_flush {
    qr_pa root; /**< of the changed tree; 0: the kernel's, shared by all */
    bool whole; /**< all of it; else the ranges */
    bool alone; /**< no other flush of this tree is pending */
    unsigned range_count;
    struct qr_va_range ranges[8];
    unsigned table_count; /**< page tables that were unlinked */
    uint64_t tables[32];  /**< their physical addresses */
    uint64_t ticket;      /**< the machine's */
};

/**
 * A change of tables begins to be flushed, and the flush has finished: entries covered by it
 * that were stale when it began may not be used after its end.  sim_boot_tables() connects
 * these to the library's flush batches; tests that flush by hand call them themselves.
 */
void sim_flush_begin(struct sim *sim, struct sim_flush *flush);
void sim_flush_end(struct sim *sim, const struct sim_flush *flush);

/** Mutation: ignore the n-th flush of a TLB from now (1: the next); 0: none. */
void sim_drop_flush(struct sim *sim, uint64_t n);
/** Mutation: lose the n-th interrupt from now. */
void sim_drop_ipi(struct sim *sim, uint64_t n);

/* ---- User programs ------------------------------------------------------- */

/** How an access by a user program ended. */
enum sim_signal {
    SIM_OK,
    SIM_SEGV_MAPERR,
    SIM_SEGV_ACCERR,
    SIM_SEGV_PKUERR,
    SIM_BUS_ADRERR,
    SIM_BUS_IO,
    SIM_OOM,
};
const char *sim_signal_name(enum sim_signal signal);

/**
 * The current CPU's user program reads, writes or fetches; faults go to the
 * library, and the access is tried again where it says so.  What stands before
 * a byte that faults for good has been transferred.
 */
enum sim_signal sim_load(qr_va from, void *to, size_t bytes);
enum sim_signal sim_store(qr_va to, const void *from, size_t bytes);
enum sim_signal sim_exec(qr_va at);

/** How many bytes a user copy moves in one access: 1, 2, 4 or 8 (the default), or 0: seeded. */
void sim_set_copy_chunk(struct sim *sim, unsigned bytes);

/* ---- Refusal ------------------------------------------------------------- */

enum sim_refusal { SIM_REFUSE_ONCE, SIM_REFUSE_FROM_THEN_ON };

/**
 * Refuse the n-th allocation from now (1: the next), once or from then on; 0: none.
 * Frames and blocks always; heap objects too in builds with CONFIG_MEMORY_DEBUGGING.
 */
void sim_refuse_nth(struct sim *sim, uint64_t n, enum sim_refusal mode);
/** Count up: refuse the (++*refusal)-th from now, once.  For loops that end at the first success. */
void sim_refuse_next(struct sim *sim, unsigned *refusal);
/** Refuse each allocation with probability 1 in @p one_in, by the seed; 0: none. */
void sim_refuse_randomly(struct sim *sim, unsigned one_in);
/** How many were refused since the last of the calls above. */
uint64_t sim_refused(struct sim *sim);
/** How many were asked for since then. */
uint64_t sim_asked(struct sim *sim);

/* ---- Failures ------------------------------------------------------------ */

/** The machine found something wrong: say it, with the seed, and stop. */
QR_NORETURN QR_PRINTF(1, 2) void sim_fail(const char *format, ...);

/**
 * Run @p body; where it fails by sim_fail() or a panic of the library, come
 * back with true and the message.  Machines that @p body booted are then worthless
 * and are forgotten.  Not for SIM_RUN_THREADS.
 */
bool sim_catch(void (*body)(void *context), void *context, char *out_message, size_t bytes);

/** Send the log of the library to standard error too (else only counted); also: SIM_LOG=1. */
void sim_set_log(struct sim *sim, bool on);

/** How many seeds a campaign tries: the environment's SIM_SEEDS, else @p usual. */
uint64_t sim_seeds(uint64_t usual);

/* ---- Threads and schedules ------------------------------------------------ */

#define SIM_ANY_CPU (~0u)

enum sim_run_mode {
    SIM_RUN_SEEDED,  /**< one at a time; the seed names the interleaving; replays exactly */
    SIM_RUN_THREADS, /**< one host thread a CPU, for race detectors; no more threads than CPUs */
};

typedef void (*sim_body)(void *context);

/** A thread that runs @p body in the current space; on @p cpu only, or wherever there is room. */
struct sim_thread *sim_spawn(struct sim *sim, unsigned cpu, const char *name, sim_body body,
                             void *context);
/** A kernel thread: it has no space and runs lazily on whatever was loaded. */
struct sim_thread *sim_spawn_kernel(struct sim *sim, unsigned cpu, const char *name, sim_body body,
                                    void *context);
/**
 * Run every spawned thread to its end.  Afterwards the caller is on CPU 0 again, in the space
 * that CPU 0 had before; the other CPUs idle without one.
 */
void sim_run(struct sim *sim, enum sim_run_mode mode);

/** A point where the scheduler may switch: called by the port, and by hooks in the core. */
void sim_preempt(void);
/** How often it does at such a point: one in @p one_in (default 8). */
void sim_set_preemption(struct sim *sim, unsigned one_in);
/** A number that names the interleaving so far: equal for equal seeds. */
uint64_t sim_schedule_hash(struct sim *sim);

/* ---- Spaces: short forms for tests ---------------------------------------- */

/** Where page 0 of the calls below lies. */
#define SIM_BASE ((uintptr_t)0x10000000)

enum {
    SIM_R = QR_PROT_READ,
    SIM_W = QR_PROT_READ | QR_PROT_WRITE,
    SIM_X = QR_PROT_READ | QR_PROT_EXEC,
    SIM_N = QR_PROT_NONE,
};

qr_va sim_page(size_t page);

/** The space that the current CPU runs. */
struct qr_space *sim_space(struct sim *sim);
/** Run tables that belong to no struct qr_space on the current CPU (after sim_boot_tables()). */
void sim_use_tables(struct sim *sim, struct qr_tlb_space *space);
/** Run @p space on the current CPU. */
void sim_use(struct sim *sim, struct qr_space *space);
/** Every CPU that runs @p space (either kind) becomes lazy: before it is destroyed. */
void sim_unload(struct sim *sim, const void *space);
/** Another empty space. */
struct qr_space *sim_space_create(struct sim *sim);
void sim_space_destroy(struct sim *sim, struct qr_space *space);

/** Private anonymous memory at fixed pages; validates the machine afterwards. */
enum qr_status sim_map(struct sim *sim, size_t page, size_t count, unsigned prot);
/** Shared anonymous memory. */
enum qr_status sim_map_shared(struct sim *sim, size_t page, size_t count, unsigned prot);
/** An object from its page @p first, shared or private (copy-on-write). */
enum qr_status sim_map_object(struct sim *sim, size_t page, size_t count, unsigned prot,
                              struct qr_object *object, size_t first);
enum qr_status sim_map_private(struct sim *sim, size_t page, size_t count, unsigned prot,
                               struct qr_object *object, size_t first);
/** These name the pages [first, last), as the drawings in the tests do. */
enum qr_status sim_protect(struct sim *sim, size_t first, size_t last, unsigned prot);
enum qr_status sim_unmap(struct sim *sim, size_t first, size_t last);
/** Returns the child, or NULL with no memory; both go on on their own CPUs. */
struct qr_space *sim_fork(struct sim *sim);

/**
 * The regions from SIM_BASE on as text: one letter a page (N R W X), brackets
 * around a region, one '.' for each unmapped page between: "[W][RR]..[W]".
 * A lower-case letter marks a shared region.  Valid until the next call.
 */
const char *sim_layout(struct sim *sim);

/**
 * A disk of so many pages to swap to, and the area on it; it lasts as long as the machine, or until qr_swap_off().
 * Its requests fail and take their time as the seed says.
 */
struct sim_disk;
struct sim_disk *sim_swap_on(struct sim *sim, size_t pages, int priority);
/** Swap to it again after qr_swap_off(). */
void sim_swap_again(struct sim_disk *disk);
unsigned sim_disk_area(const struct sim_disk *disk);
/** Fail each page read or written with probability 1 in so many; 0, as at first: none. */
void sim_disk_set_failing(struct sim_disk *disk, unsigned reads_one_in, unsigned writes_one_in);
struct sim_disk_stats {
    uint64_t reads, writes; /**< requests */
    uint64_t pages_read, pages_written;
    uint64_t failed;
};
struct sim_disk_stats sim_disk_stats(const struct sim_disk *disk);
/** Swap out @p pages of whatever has not been used lately; twice asked it takes what was.  @return freed */
size_t sim_swap_out(struct sim *sim, size_t pages);
struct qr_swap *sim_swap(struct sim *sim);

/** Write and read the first eight bytes of a page as the user program; a fault fails the test. */
void sim_write(struct sim *sim, size_t page, uint64_t value);
uint64_t sim_read(struct sim *sim, size_t page);
/** One byte-access of @p access at the page's start. */
enum sim_signal sim_touch(struct sim *sim, size_t page, unsigned access);

/* ---- The global invariants (T5) ------------------------------------------- */

/**
 * Every layer's validator, then what holds between layers: references, exclusive
 * writable pages, entries within regions and objects, counters.  The machine is
 * at rest: no thread is inside the library.  Fails with the first violation.
 */
void sim_validate(struct sim *sim);

/** Memory in use, in frames and heap bytes: equal before and after what must not leak. */
struct sim_usage {
    size_t frames;
    size_t heap_bytes;
};
struct sim_usage sim_usage(struct sim *sim);

/** A hash of what user programs can see: regions, sizes, and contents of all spaces. */
uint64_t sim_state_hash(struct sim *sim);

#endif
