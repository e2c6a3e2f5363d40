/* SPDX-License-Identifier: MIT */
#ifndef SIM_MACHINE_H
#define SIM_MACHINE_H

/**
 * @file
 * The inside of a simulated machine.  Only sim/ includes this.
 *
 * Nothing here names a layer above the port: what a machine needs from the
 * frame allocator, the tlb layer or the spaces it reaches through
 * struct sim_hooks, which the boot function of that layer fills in.  So a
 * program links no more of the library than it boots.
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "sim.h"

#define SIM_BANKS_MAX 32
#define SIM_STOPS_MAX 8
#define SIM_WINDOWS   4 /* a port need not offer more */

struct mmu_ops;
struct sched;
struct tlb;

struct sim_cpu {
    struct qr_cpu qr; /* the library's block; first */
    struct sim *sim;

    atomic_bool busy; /* some host thread acts as this CPU, or serves it */
    bool irq_on;      /* of whoever acts as it */
    bool in_interrupt;
    atomic_uint pending; /* interrupts sent and not yet taken */

    qr_pa root;
    qr_pa upper_root; /* of MMUs with two; 0: none */
    unsigned asid;
    bool root_loaded;
    uint32_t pkru;
    struct tlb *tlb;
    uintptr_t last_va; /* where speculation looks around */

    void *space;               /* what the switch hook was told last */
    struct sim_thread *thread; /* seeded schedules: loaded here */
    uint64_t random;
    struct sim_stats stats;

    unsigned window_count; /* open windows to high memory */
};

enum sim_frame_state {
    SIM_FRAME_UNKNOWN, /* no allocator, or no frame there */
    SIM_FRAME_FREE,
    SIM_FRAME_TABLE,
    SIM_FRAME_OTHER,
};

/** What upper layers do for the machine; NULL where they are not booted. */
struct sim_hooks {
    void (*interrupt)(void);
    void (*space_switch)(struct sim *sim, void *space);
    void (*arm_refusal)(struct sim *sim, bool armed);
    enum sim_frame_state (*frame_state)(struct sim *sim, qr_pa pa);
    /** @return true: try again; false: *out_signal says why not. */
    bool (*fault)(struct sim *sim, struct sim_access access, unsigned code,
                  enum sim_signal *out_signal);
};

struct sim_refusals {
    uint64_t asked, refused; /* since armed */
    uint64_t nth;            /* 0: none */
    enum sim_refusal mode;
    unsigned one_in; /* 0: none */
    uint64_t random;
    pthread_mutex_t lock;
};

struct sim {
    struct sim_options options;
    struct sim_bank banks[SIM_BANKS_MAX];
    struct qr_memory_range map[SIM_BANKS_MAX];
    unsigned char *ram;     /* physical address 0, as the machine's hardware reaches it */
    unsigned char *direct;  /* and as the kernel does: below direct_limit alone */
    unsigned char *windows; /* where windows to the rest appear, four a CPU; NULL: none */
    uint64_t ram_bytes;     /* reserved in the process, holes included */
    uintptr_t user_end;

    unsigned cpu_count;
    struct sim_cpu *cpus;
    const struct mmu_ops *mmu;
    unsigned copy_chunk;
    bool log;
    bool threaded; /* host threads act as several CPUs at once now */

    atomic_ullong tickets; /* flushes begun */
    struct {
        const void *runs; /* that it names; NULL: free */
        uint64_t ticket;
    } flushes[2 * CONFIG_MAX_CPUS]; /* under way */
    atomic_ullong drop_flush;       /* countdown; 0: off */
    atomic_ullong drop_ipi;
    atomic_ullong clock; /* nanoseconds */

    struct sim_hooks hooks;
    struct sim_refusals refusals;
    struct sched *sched;
    unsigned preempt_one_in;
    size_t tlb_size; /* entries for pages that each TLB holds; 0: no limit */
    uint64_t schedule_hash;
    uint64_t steps, switches;
    uint64_t lone_spins;

    /* What the boot functions made, and how each is undone, last first. */
    struct qr_frames *frames;
    struct qr_heap *heap;
    struct qr_tlb *tlb;
    struct qr_epoch *epoch;
    struct qr_tables *kernel_tables;
    struct sim_kernel *kernel;
    const struct qr_format *format;
    size_t frames_before_heap;
    struct qr_objects *objects;
    struct qr_swap *swap;
    struct sim_disk *disks;
    struct qr_vm *vm;
    struct qr_space *first_space;
    void (*stops[SIM_STOPS_MAX])(struct sim *sim);
    unsigned stop_count;

    pthread_mutex_t wait_lock; /* threaded: sleepers of qr_port_wait */
    pthread_cond_t wait_changed;
    char layout[4096];
};

/** Which CPU the calling host thread acts as; NULL: none. */
struct sim_cpu *here(void);
void here_set(struct sim_cpu *cpu);

/** Register what sim_shutdown() undoes. */
void sim_on_stop(struct sim *sim, void (*stop)(struct sim *sim));
/** Memory of the host, zeroed, cache-line aligned; never fails. */
void *sim_host_alloc(size_t bytes);
void sim_host_free(void *memory);
void *sim_host_grow(void *memory, size_t old_bytes, size_t new_bytes);
/** Addresses that the host fills on touch; @p protection as of mmap(). */
enum sim_host_sharing { SIM_HOST_PLAIN, SIM_HOST_ALIASED };
void *sim_host_map(size_t bytes, int protection, enum sim_host_sharing sharing);
/** Show memory of an aliased mapping at another place, which some mapping holds, too. */
void sim_host_alias(void *from, size_t bytes, void *at);
/** Make a part of a mapping inaccessible. */
void sim_host_hide(void *at, size_t bytes);
void sim_host_unmap(void *mapping);
/** Release everything that was taken after the mark. */
uint64_t sim_host_mark(void);
void sim_host_forget(uint64_t mark);

/** Take what interrupts wait, if they are on. */
void cpu_take_interrupts(struct sim_cpu *cpu);
/** Act for every CPU that nobody acts as and that has interrupts waiting. */
void machine_serve_idle(struct sim *sim);
uint64_t random_next(uint64_t *state);
/** True with probability 1 in @p one_in, by the CPU's own sequence. */
bool cpu_chance(struct sim_cpu *cpu, unsigned one_in);
bool bank_has(const struct sim *sim, uint64_t pa);

/** port.c asks the scheduler; both do nothing outside a seeded run. */
bool sched_is_seeded(const struct sim *sim);
void sched_spin(struct sim *sim);
void sched_wait(struct sim *sim, _Atomic uint32_t *word, uint32_t expected);
void sched_wake(struct sim *sim, _Atomic uint32_t *word, uint32_t count);
/** While the machine itself calls into the library, nobody else runs. */
void sched_hold(struct sim *sim);
void sched_release(struct sim *sim);
/** Run @p space (NULL: none, lazily) on the CPU that the caller acts as, if it does not yet. */
void sched_load_space(struct sim *sim, void *space);
/** The running thread's space from now on. */
void sched_set_space(struct sim *sim, void *space);
/** After sched_abandon(): on to the sim_catch() that waits for the failure. */
QR_NORETURN void sim_catch_resume(void);
/** Leave a failed run: back to the stack that called sim_run(); returns where it is there already. */
void sched_abandon(struct sim *sim);
/** For the message of a failure: who runs and who waits. */
void sched_describe(struct sim *sim, FILE *out);

/* ---- tlb.c --------------------------------------------------------------- */

enum tlb_kind {
    TLB_LEAF,    /* maps a page */
    TLB_WALK,    /* points to the table that translates what the entry covers */
    TLB_NOTHING, /* remembers that nothing stands there */
    TLB_KINDS,
};

struct tlb_entry {
    enum tlb_kind kind;
    unsigned asid;
    unsigned shift;  /* log2 of the bytes that it covers */
    uint64_t page;   /* va >> shift */
    uint64_t pa;     /* of the page, or of the table */
    uint64_t root;   /* under which it was filled; no hardware knows it, the oracle does */
    unsigned rights; /* enum mmu_right, combined over the levels above and including */
    bool global, dirty;
    bool global_below; /* of a table: what it holds is global */
    bool fixed;        /* a register: only loading the root changes it */
    uint8_t pkey, cache;
    uint8_t extent;        /* log2 of the page's or group's bytes, as the tables had it */
    uint64_t stale_ticket; /* first flush that found it stale; 0: none */
    bool revoked;          /* that flush has ended */
    /* The table's own links. */
    bool used;
    unsigned next;
};

struct tlb *tlb_create(void);
void tlb_destroy(struct tlb *tlb);
size_t tlb_leaf_count(const struct tlb *tlb);
struct tlb_entry *tlb_find(struct tlb *tlb, enum tlb_kind kind, unsigned asid, unsigned shift,
                           uintptr_t va);
/** The entry of any size that covers @p va, the smallest first. */
struct tlb_entry *tlb_find_any(struct tlb *tlb, enum tlb_kind kind, unsigned asid, uintptr_t va);
void tlb_insert(struct tlb *tlb, const struct tlb_entry *entry);
void tlb_remove(struct tlb *tlb, struct tlb_entry *entry);
/** The next entry after @p entry (NULL: the first) or NULL; the current one may be removed. */
struct tlb_entry *tlb_next(struct tlb *tlb, struct tlb_entry *entry);
void tlb_drop_fixed(struct tlb *tlb);
/** Forget one entry that maps a page: the first from a place that @p random names. */
void tlb_drop_leaf(struct tlb *tlb, uint64_t random);

/* ---- mmu.c and oracle.c ---------------------------------------------------- */

/** The CPU that the caller acts as, which has tables loaded. */
struct sim_cpu *cpu_with_root(uintptr_t va);
/** sim_translate() without its point of pre-emption. */
bool cpu_translate(struct sim_cpu *cpu, struct sim_access access, uint64_t *out_pa,
                   unsigned *out_code);
/** Fill something that nobody asked for. */
void mmu_speculate(struct sim_cpu *cpu);
/** The first leaf at or after *va and before @p end, as hardware sees it; *va becomes its start. */
bool mmu_next_leaf(struct sim *sim, qr_pa root, uintptr_t *va, uintptr_t end,
                   struct sim_mapping *out);
/** The root through which @p cpu translates @p va. */
qr_pa mmu_root(const struct sim_cpu *cpu, uintptr_t va);
/** After the root was loaded, or loaded again by a flush: the entries that CPUs keep of it. */
void mmu_load_registers(struct sim_cpu *cpu);

/** What a walk finds, in the format's own terms. */
struct mmu_found {
    uint64_t pa;     /* of the address itself */
    unsigned shift;  /* of the entry where the walk ended */
    unsigned extent; /* of the page, or of the group that it is in */
    unsigned rights; /* enum mmu_right */
    bool accessed, dirty, global;
    uint8_t pkey, cache;
};
/** Walk the tables at @p root, changing nothing; false where no page stands. */
bool mmu_find(struct sim *sim, qr_pa root, uintptr_t va, struct mmu_found *out_found);

/** Does a walk under @p root still come by the table that @p cached (TLB_WALK) names? */
enum mmu_reach {
    MMU_REACH_SAME,
    MMU_REACH_LESS,    /* yes, with fewer rights */
    MMU_REACH_OTHER,   /* another table or a page stands there */
    MMU_REACH_NOTHING, /* nothing stands there */
};
enum mmu_reach mmu_reaches(struct sim *sim, qr_pa root, const struct tlb_entry *cached);
/** Would the tables, now, deny @p access, whatever the TLB says? */
bool mmu_denies(struct sim_cpu *cpu, const struct mmu_found *found,
                const struct sim_access *access);
/** Does the hit @p entry, about to be used on @p cpu for @p access, break a promise?  Then fail. */
void oracle_check_hit(struct sim_cpu *cpu, struct tlb_entry *entry,
                      const struct sim_access *access);
/** Do the tables under @p root grant less than @p entry? */
bool oracle_is_stale(struct sim *sim, const struct tlb_entry *entry, qr_pa root);

#endif
