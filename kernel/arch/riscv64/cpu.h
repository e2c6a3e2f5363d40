/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_RISCV64_CPU_H
#define KERNEL_RISCV64_CPU_H

/**
 * @file
 * RISC-V control registers, what was found out about the machine, and the
 * arch-private functions.
 */

#include <arch.h>
#include <asm.h>
#include <fdt.h>
#include <kernel_stack.h>
#include <printk.h>

#define csr_read(name)                                         \
    ({                                                         \
        uint64_t csr_value;                                    \
        __asm__ volatile("csrr %0, " #name : "=r"(csr_value)); \
        csr_value;                                             \
    })
#define csr_write(name, value) \
    __asm__ volatile("csrw " #name ", %0" : : "r"((uint64_t)(value)) : "memory")
#define csr_set(name, bits) \
    __asm__ volatile("csrs " #name ", %0" : : "r"((uint64_t)(bits)) : "memory")
#define csr_clear(name, bits) \
    __asm__ volatile("csrc " #name ", %0" : : "r"((uint64_t)(bits)) : "memory")

#define CAUSE_INTERRUPT ((uint64_t)1 << 63)
#define IRQ_SOFTWARE    1u
#define IRQ_TIMER       5u
#define IRQ_EXTERNAL    9u

enum exception {
    EXCEPTION_FETCH_MISALIGNED = 0,
    EXCEPTION_FETCH_ACCESS = 1,
    EXCEPTION_ILLEGAL = 2,
    EXCEPTION_BREAKPOINT = 3,
    EXCEPTION_LOAD_MISALIGNED = 4,
    EXCEPTION_LOAD_ACCESS = 5,
    EXCEPTION_STORE_MISALIGNED = 6,
    EXCEPTION_STORE_ACCESS = 7,
};

/* ---- machine.c: what the device tree says, copied out of it -------------------- */

#define VIRTIO_SLOTS_MAX 16

struct riscv_machine {
    uint64_t timebase_hz;
    char isa[256];         /**< "riscv,isa" of the boot CPU; "" where absent */
    struct fdt_range uart; /**< 16550; bytes 0: none */
    unsigned uart_shift;   /**< log2 of the distance of its registers */
    uint32_t uart_irq;     /**< line of the PLIC; 0: none */
    struct fdt_range plic; /**< bytes 0: none */
    unsigned plic_context; /**< supervisor mode of the boot CPU */
    /** Virtio devices whose registers are memory; irq 0: none. */
    struct {
        struct fdt_range registers;
        uint32_t irq;
    } virtio[VIRTIO_SLOTS_MAX];
    unsigned virtio_count;
    struct fdt_range rtc;    /**< goldfish; bytes 0: none */
    uint64_t random_seed[4]; /**< of the boot loader; zero where it gave none */
};

extern struct riscv_machine riscv_machine;

/** Fill riscv_machine. */
void machine_parse(const struct fdt *fdt, uint64_t boot_hart);

/* ---- features.c ------------------------------------------------------------ */

struct cpu_features {
    unsigned levels;    /**< of page tables: 3, 4, 5 */
    unsigned asid_bits; /**< that satp keeps */
    bool sstc, svinval, svpbmt, svnapot;
    char name[64];
    char flags[512];
};

extern struct cpu_features cpu_features;

/** Ask satp, and read the words of riscv_machine.isa; once, on the boot tables. */
void features_detect(void);
/** Set the control registers of the calling CPU; its timer is left silent. */
void features_enable(void);
/** satp for a root without identifier. */
uint64_t satp_of(uint64_t root_pa);

/* ---- entry.S ------------------------------------------------------------------ */

void trap_entry(void);
void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp);
void fpu_registers_save(struct fpu_state *state);
/** The bits of fcsr that exist. */
#define FCSR_MASK 0xffu
void fpu_registers_load(const struct fpu_state *state);
/** From entry.S: any trap but a system call. */
void trap_dispatch(struct trap_frame *frame);
/** From entry.S: a trap of the kernel found no room on its stack. */
QR_NORETURN void trap_overflow(struct trap_frame *frame);

/* ---- thread.c -------------------------------------------------------------------- */

/** A floating-point instruction of a thread that had used none yet.  @return false: it had */
bool fpu_first_use(struct trap_frame *frame);

/* ---- smp.c ------------------------------------------------------------------ */

extern struct cpu cpus[CONFIG_MAX_CPUS];
/** First code of an application CPU, from boot.S, on its own stack. */
QR_NORETURN void ap_entry(struct cpu *cpu);
/** A software interrupt arrived. */
void ipi_interrupt(void);

/* ---- kernel/drivers ----------------------------------------------------------- */

/** The serial port's registers are seen at @p registers; prints work after this. */
void uart_init(uintptr_t registers, unsigned shift);
/** They have moved. */
void uart_moved(uintptr_t registers);
/** Turn on the receive interrupt. */
void uart_enable_input(void);
void uart_interrupt(void);

/** Map the interrupt controller; boot CPU. */
void plic_init(void);
/** Deliver line @p irq to the boot CPU. */
void plic_enable(uint32_t irq);
/** Serve what waits. */
void plic_interrupt(void);

/** Read the date; find how timers are set. */
void clock_init(void);
/** Begin this CPU's ticks. */
void clock_tick_start(void);
/** A timer interrupt: set the next one. */
void clock_tick_next(void);

#endif
