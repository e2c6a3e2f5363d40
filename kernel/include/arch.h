/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_ARCH_H
#define KERNEL_ARCH_H

/**
 * @file
 * What a CPU is to the kernel: the whole boundary between kernel/arch/<arch>
 * and everything else.
 *
 * The first half is supplied by kernel/arch/<arch> (and by the drivers in
 * kernel/drivers); the second half, the hooks, is supplied by the scheduler,
 * the system calls and the terminal, and called from arch code.
 *
 * `arch_types.h` is found in kernel/arch/<arch>/ and defines, for one
 * architecture: struct trap_frame, struct arch_thread, struct arch_cpu, the
 * inline forms of cpu_this() and thread_current(), and the interrupt switches;
 * `arch_port.h` those calls of the library's port that are the CPU's.
 *
 * Rules that hold everywhere:
 *  - A thread in kernel mode is never preempted: it gives the CPU up by
 *    sleeping or yielding.  A thread in user mode is preempted on the way back
 *    from any interrupt.
 *  - Interrupt handlers run with interrupts off and do not nest.
 *  - System calls, and faults that arrived with interrupts on, run with
 *    interrupts on.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <quire/cpu.h>

struct thread;

#include <arch_types.h>

/* ---- CPUs ---------------------------------------------------------------- */

/**
 * The block of one CPU.  Only its own CPU writes it, but for need_resched.
 * The first fields are known to the entry code by their offsets.
 */
struct cpu {
    struct arch_cpu arch;          /**< first: the entry code's own words */
    struct thread *current;        /**< the thread that runs; set by the scheduler only */
    _Atomic uint32_t need_resched; /**< call sched_preempt() before user mode; set by any CPU */
    uint32_t index;                /**< 0 .. cpu_count() - 1; 0 booted the machine */
    struct thread *idle;           /**< for the scheduler: the thread of an empty queue */
    void *scheduler;               /**< for the scheduler: its own block of this CPU */
    _Alignas(8) uint64_t ticks;    /**< timer interrupts taken */
    struct qr_cpu quire;           /**< the library's block; quire.index == index */
};

/** The calling CPU's block.  Stable while interrupts are off or the thread is bound. */
static inline struct cpu *cpu_this(void);

/** The running thread.  The same value however often the thread migrates. */
static inline struct thread *thread_current(void);

struct cpu *cpu_of(unsigned index);

/** How many CPUs run; grows while CPUs start, then fixed. */
unsigned cpu_count(void);
/** For kernel/arch: the calling CPU runs. */
void cpu_note_online(void);
/** For kernel/arch: whether @p count CPUs run before @p ns have passed. */
QR_MUST_USE bool cpu_wait_online(unsigned count, uint64_t ns);

/**
 * Start every other CPU that firmware reports, one after the other; each enters cpu_main().
 * The first that does not come within CPU_START_WAIT_NS ends it: what was prepared for it is
 * left alone, since it may come late.
 */
void arch_start_cpus(void);

/** Generous: an emulated CPU waits for its host's scheduler. */
#define CPU_START_WAIT_NS 5000000000u

/** The CPU's brand or model name, for /proc/cpuinfo and the boot log. */
const char *arch_cpu_name(void);

/** Feature words in the style of /proc/cpuinfo `flags`, from a static list. */
const char *arch_cpu_flags(void);

/** AT_HWCAP and AT_HWCAP2 of the auxiliary vector. */
unsigned long arch_hwcap(void);
unsigned long arch_hwcap2(void);

/* ---- Interrupts ---------------------------------------------------------- */

/** Turn interrupts off; returns what irq_restore() takes. */
static inline uintptr_t irq_save(void);
static inline void irq_restore(uintptr_t state);
static inline void irq_enable(void);
static inline void irq_disable(void);
static inline bool irq_enabled(void);

/** A pause in a spin loop. */
static inline void cpu_relax(void);

/** From here on this CPU runs no instruction that it fetched before. */
static inline void arch_core_sync(void);

/**
 * Wait for an interrupt.  Called with interrupts off, so that a wake-up between
 * the caller's last look at its queue and the wait is not lost; returns with
 * interrupts off after at least one interrupt was served.
 */
static inline void cpu_idle(void);

enum ipi_kind {
    IPI_RESCHEDULE, /**< look at need_resched; the sender has set it */
    IPI_TLB,        /**< serve the library's shootdown queue: mm_tlb_interrupt() */
    IPI_STOP,       /**< stop for ever: the machine panics or powers off */
    IPI_BARRIER,    /**< order memory: cpu_barrier_interrupt() */
};

/** Interrupt one CPU; never waits for it.  Sending to oneself is allowed. */
void arch_ipi_send(unsigned cpu_index, enum ipi_kind kind);

/** The same for a set of CPUs; port.c has one that sends to each, for who cannot do better. */
void arch_ipi_send_set(const struct qr_cpu_set *set, enum ipi_kind kind);

/* ---- Trap frames ---------------------------------------------------------- */

/*
 * The user's registers stand at the top of the thread's kernel stack as a
 * struct trap_frame whenever the thread is in the kernel, however it came in.
 * A system call's arguments and result are read and written there.
 */

static inline bool frame_from_user(const struct trap_frame *frame);

/** What a function keeps of its caller, where the frame pointer @p fp says. */
struct frame_record {
    uintptr_t previous; /**< the caller's frame pointer */
    uintptr_t return_address;
};
static inline const struct frame_record *frame_record_of(uintptr_t fp);
static inline uintptr_t frame_ip(const struct trap_frame *frame);
static inline uintptr_t frame_sp(const struct trap_frame *frame);
static inline void frame_set_ip(struct trap_frame *frame, uintptr_t ip);
static inline void frame_set_sp(struct trap_frame *frame, uintptr_t sp);

static inline unsigned long frame_syscall_number(const struct trap_frame *frame);
/** Argument 0 to 5 of the system call. */
static inline unsigned long frame_syscall_arg(const struct trap_frame *frame, unsigned i);
static inline void frame_set_result(struct trap_frame *frame, long result);
static inline long frame_result(const struct trap_frame *frame);
/** Make the registers what a tracer is to find in them before the system call is done. */
static inline void frame_begin_call(struct trap_frame *frame);
/** Whether the frame was made by a system call, and not by a fault or an interrupt. */
static inline bool frame_is_syscall(const struct trap_frame *frame);
/** Whether user mode can be entered by it: else trap_return_work() makes a fault of the user's. */
static inline bool frame_can_return(const struct trap_frame *frame);
/** Back up, so that returning to user mode makes the same system call again. */
static inline void frame_restart_syscall(struct trap_frame *frame);

/**
 * Make whatever a user may have put into @p frame safe to return to: user
 * segments, harmless flags; and have every register restored exactly (sigreturn).
 * An address outside the user half needs no check: it becomes a fault of the user.
 */
void frame_sanitize(struct trap_frame *frame);

/** Set @p frame up to start a program: @p ip, @p sp, every other register zero. */
void frame_init_user(struct trap_frame *frame, uintptr_t ip, uintptr_t sp);

/** Log every register of @p frame. */
void frame_dump(const struct trap_frame *frame);

/* ---- Threads -------------------------------------------------------------- */

/*
 * struct thread begins with a struct arch_thread, named `arch`:
 *
 *      struct thread { struct arch_thread arch; ... };
 *
 * arch.work is a set of bits that any CPU may set; while it is not zero, the
 * return to user mode calls thread_return_work().
 *
 * A cleared struct arch_thread describes the context that a CPU booted in: the
 * scheduler uses it for the idle threads, which never enter user mode.
 */

/**
 * Give @p thread a kernel stack with a guard page below, and space for its
 * floating-point state.  @return false where memory is short.
 */
QR_MUST_USE bool arch_thread_create(struct arch_thread *thread);

/** Release what arch_thread_create() made.  The thread must not be running on any CPU. */
void arch_thread_destroy(struct arch_thread *thread);

/** Free the stacks kept for reuse; returns how many frames went back. */
size_t arch_thread_reap_stacks(void);

/** The first switch to @p thread calls sched_switched(), then @p entry(@p argument). */
void arch_thread_init_kernel(struct arch_thread *thread, void (*entry)(void *), void *argument);

/** The first switch to @p thread calls sched_switched(), then enters user mode by @p frame. */
void arch_thread_init_user(struct arch_thread *thread, const struct trap_frame *frame);

/** The user frame at the top of the kernel stack. */
static inline struct trap_frame *arch_user_frame(struct arch_thread *thread);

/**
 * For the running thread: enter user mode through its user frame now, dropping
 * whatever is on its kernel stack.  For a kernel thread that becomes a process.
 */
QR_NORETURN void arch_enter_user(void);

/**
 * Leave @p previous, continue @p next: callee-saved registers, kernel stack,
 * floating-point state, thread pointers.  Interrupts off.  The caller has set
 * cpu->current; switching the address space is the library's.  Returns when
 * somebody switches back.
 */
void arch_context_switch(struct arch_thread *previous, struct arch_thread *next);

/** Copy the running thread's floating-point state and thread pointer into a new thread,
 *  after arch_thread_init_user(). */
void arch_thread_fork(struct arch_thread *child);

/** Have all that the CPU holds of the running thread's user state in memory, as when it is switched from. */
void arch_thread_save(struct arch_thread *thread);

/** Reset the running thread's floating-point state and thread pointer: exec. */
void arch_thread_reset(struct arch_thread *thread);

/** Set the user's thread pointer (FS base, TPIDR_EL0, tp). */
void arch_thread_set_tls(struct arch_thread *thread, uintptr_t base);

/** Floating-point state as the signal frame wants it: size in bytes, at most 4096. */
size_t arch_fpu_bytes(void);
/** Write the running thread's state to @p image: arch_fpu_bytes() bytes, 64-byte aligned. */
void arch_fpu_save(void *image);
/** Give the running thread the state that a program starts with. */
void arch_fpu_reset(void);
/** Load state that a user may have tampered with; false where it is not acceptable. */
QR_MUST_USE bool arch_fpu_load(const void *image);

/* ---- Clock ---------------------------------------------------------------- */

#define TICK_HZ 250u
#define TICK_NS (1000000000u / TICK_HZ)

/** Nanoseconds since boot, never backwards on one CPU. */
uint64_t clock_monotonic_ns(void);
/** Nanoseconds since 1970-01-01 UTC. */
uint64_t clock_realtime_ns(void);
/** Spin for at least @p ns nanoseconds. */
void clock_spin_ns(uint64_t ns);

/** 64 bits that are hard to guess: the hardware's generator where there is one. */
uint64_t arch_random(void);

/* ---- Console and power ----------------------------------------------------- */

/** Write to the terminal (first serial port); any context.  No newline translation. */
void console_write(const char *bytes, size_t count);

/** Write to the log port (second serial port, or the first with `log=console`). */
void log_write(const char *bytes, size_t count);

/** Stop every CPU and leave the machine: `quire: exit N` on the log, then power off. */
QR_NORETURN void kernel_exit(int status);

/* ======================================================================== */
/* Hooks: called by arch code, supplied by the rest of the kernel.           */

/** Timer interrupt on this CPU, TICK_HZ times a second; interrupts off. */
void sched_tick(void);

/** This CPU's need_resched is set and it is about to enter user mode; interrupts off. */
void sched_preempt(void);

/**
 * First code of a new thread, in the place where arch_context_switch() returns
 * in an old one (release the queue's lock there); interrupts off.
 */
void sched_switched(void);

/** An application CPU is ready: make its idle thread and never return; interrupts off. */
QR_NORETURN void cpu_main(void);

/** A system call; interrupts on.  Sets the result in @p frame. */
void syscall_dispatch(struct trap_frame *frame);

/** thread->arch.work is not zero and user mode is next; interrupts on. */
void thread_return_work(struct trap_frame *frame);

/** Why a user's instruction could not complete. */
enum trap_kind {
    TRAP_UNMAPPED,   /**< SIGSEGV SEGV_MAPERR */
    TRAP_DENIED,     /**< SIGSEGV SEGV_ACCERR */
    TRAP_PKEY,       /**< SIGSEGV SEGV_PKUERR */
    TRAP_BUS,        /**< SIGBUS BUS_ADRERR: mapped, nothing behind it */
    TRAP_POISON,     /**< SIGBUS BUS_MCEERR_AR: memory that failed */
    TRAP_NO_MEMORY,  /**< the fault needed memory and there is none: SIGKILL */
    TRAP_PROTECTION, /**< SIGSEGV SI_KERNEL: general protection, no address */
    TRAP_ALIGNMENT,  /**< SIGBUS BUS_ADRALN */
    TRAP_STACK,      /**< SIGBUS SI_KERNEL: stack segment, non-canonical */
    TRAP_ILLEGAL,    /**< SIGILL ILL_ILLOPN */
    TRAP_OPCODE,     /**< SIGILL ILL_ILLOPC */
    TRAP_DIVIDE,     /**< SIGFPE FPE_INTDIV */
    TRAP_OVERFLOW,   /**< SIGSEGV SI_KERNEL: INTO, BOUND */
    TRAP_FLOAT,      /**< SIGFPE; the code is in the state: frame_float_code() */
    TRAP_BREAKPOINT, /**< SIGTRAP SI_KERNEL */
    TRAP_BRKPT,      /**< SIGTRAP TRAP_BRKPT */
    TRAP_STEP,       /**< SIGTRAP TRAP_TRACE */
};

/** A fault of user code; interrupts on.  Posts the signal; @p va is meaningful for memory. */
void trap_user_fault(struct trap_frame *frame, enum trap_kind kind, uintptr_t va);

/** The si_code of a TRAP_FLOAT, from the running thread's floating-point state. */
int frame_float_code(const struct trap_frame *frame);

/** What mm_page_fault() found. */
enum page_fault_result {
    PAGE_FAULT_DONE, /**< run the instruction again */
    PAGE_FAULT_UNMAPPED,
    PAGE_FAULT_DENIED,
    PAGE_FAULT_KEY, /**< denied by a protection key */
    PAGE_FAULT_BUS,
    PAGE_FAULT_POISON,
    PAGE_FAULT_NO_MEMORY,
};

/**
 * A page fault at @p va, which lies in the user half; @p access holds QR_ACCESS_*
 * with USER where user code made it.  Interrupts are on and it may sleep, unless
 * the fault came out of a region with interrupts off.  For user code the arch
 * layer turns any other result than DONE into trap_user_fault(); for a kernel
 * copy it takes the copy's fix-up.
 */
enum page_fault_result mm_page_fault(struct trap_frame *frame, uintptr_t va, unsigned access);

/** Protection keys that user code has, key 0 included; 0: the machine has none. */
unsigned arch_pkey_count(void);
/** Let the running thread access memory with @p key only as far as @p rights, PKEY_DISABLE_*. */
void arch_pkey_set_rights(unsigned key, unsigned rights);
/** What of PKEY_DISABLE_* the running thread has for @p key. */
unsigned arch_pkey_rights(unsigned key);

/** IPI_TLB arrived; interrupts off. */
void mm_tlb_interrupt(void);

/** IPI_BARRIER arrived; interrupts off. */
void cpu_barrier_interrupt(void);

/** A byte arrived on the terminal; interrupts off. */
void tty_input(char byte);

#include <arch_inline.h>

static inline uintptr_t
irq_save(void)
{
    return qr_port_irq_save();
}

static inline void
irq_restore(uintptr_t state)
{
    qr_port_irq_restore(state);
}

static inline void
cpu_relax(void)
{
    qr_port_relax();
}

/** Count a tick of this CPU. */
static inline void
cpu_count_tick(void)
{
    struct cpu *cpu = cpu_this();

    __atomic_store_n(&cpu->ticks, cpu->ticks + 1, __ATOMIC_RELAXED);
}

#endif
