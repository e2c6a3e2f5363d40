/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_AARCH64_CPU_H
#define KERNEL_AARCH64_CPU_H

/**
 * @file
 * AArch64 registers and the arch-private functions.
 */

#include <arch.h>
#include <asm.h>
#include <fdt.h>
#include <kernel_stack.h>
#include <printk.h>

#define REGISTER_READ(name)                                \
    ({                                                     \
        uint64_t value_;                                   \
        __asm__ volatile("mrs %0, " #name : "=r"(value_)); \
        value_;                                            \
    })

#define REGISTER_WRITE(name, value) \
    __asm__ volatile("msr " #name ", %0" : : "r"((uint64_t)(value)) : "memory")

/** A register, or a field, takes effect before the next instruction. */
static inline void
isb(void)
{
    __asm__ volatile("isb" : : : "memory");
}

/** What the kernel uses of the CPU, from the ID registers of the boot CPU. */
struct cpu_features {
    unsigned physical_bits;
    unsigned asid_bits;
    bool pan;
    bool random;          /* RNDR */
    bool tlbi_range;      /* FEAT_TLBIRANGE */
    bool af_dbm;          /* hardware sets accessed and dirty */
    bool branch_tracking; /* FEAT_BTI, in a kernel that has landing pads */
    bool bbm2;            /* FEAT_BBM, level 2: the size of a live leaf may change */
    unsigned long hwcap, hwcap2;
    char name[64];
    char flags[512];
};

extern struct cpu_features cpu_features;

void features_detect(void);
/** On every CPU: floating point, user access to counters, PAN. */
void features_enable(void);

/** Seed for arch_random() where the CPU has no generator. */
void random_seed(const void *bytes, size_t count);

extern struct cpu cpus[CONFIG_MAX_CPUS];

/** The device tree, where it was handed over; valid after boot_main(). */
extern struct fdt boot_fdt;

/** The affinity fields of MPIDR_EL1, as the device tree's `reg` has them. */
uint64_t mpidr_affinity(void);

/* ---- entry.S ---- */

extern char exception_vectors[];
void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp);
void fpu_save(void *image);
void fpu_restore(const void *image);
/** Whether fpu_restore() may load what a user has written. */
bool fpu_image_is_valid(const void *image);

/** arch_thread.flags: its tracer lets it do one instruction at a time. */
#define THREAD_STEPPED 1u
#define PSTATE_SS      ((uint64_t)1 << 21)

/** Let the CPU step, or not, for @p thread, which is going to run here. */
static inline void
step_switch(const struct arch_thread *thread)
{
    REGISTER_WRITE(mdscr_el1, thread->flags & THREAD_STEPPED ? 1 : 0);
}

/* ---- trap.c, called by entry.S ---- */

void trap_user(struct trap_frame *frame);
void trap_kernel(struct trap_frame *frame);
void trap_interrupt(struct trap_frame *frame);
QR_NORETURN void trap_stack_overflow(struct trap_frame *frame);
QR_NORETURN void trap_fatal(struct trap_frame *frame, unsigned kind);

/* ---- smp.c ---- */

QR_NORETURN void ap_entry(struct cpu *cpu);

/* ---- drivers ---- */

/** Registers of the device at @p node, entry @p index of `reg`; panics where there are none. */
void *device_map(const struct fdt_walk *node, unsigned index, const char *name);

/** Interrupt controller: the machine's part, then each CPU's own. */
void gic_init(void);
void gic_cpu_init(void);
/** The interrupt number of entry @p index of a device; 0 where there is none. */
unsigned gic_interrupt_of(const struct fdt_walk *node, unsigned index);
/** Let interrupt @p number through to the boot CPU (a shared one) or this CPU (a private one). */
void gic_enable(unsigned number);
/** Take the pending interrupt: what gic_end() wants back, and gic_number() its number. */
unsigned gic_acknowledge(void);
void gic_end(unsigned acknowledged);
/** Software interrupt @p number (0 to 15) to one CPU. */
void gic_send(const struct cpu *cpu, unsigned number);

/** Numbers from here on stand for no interrupt. */
#define GIC_SPECIAL      1020u
#define GIC_FIRST_SHARED 32u

/** GICv2 returns the sender of a software interrupt above the number. */
static inline unsigned
gic_number(unsigned acknowledged)
{
    return acknowledged & 1023;
}

void arm_timer_init(void);
void arm_timer_cpu_start(void);
void arm_timer_interrupt(void);
extern unsigned arm_timer_irq;

void psci_init(void);
/** Start the CPU with affinity @p mpidr at physical @p entry with @p context in x0. */
QR_MUST_USE bool psci_cpu_on(uint64_t mpidr, uint64_t entry, uint64_t context);

/** Before memory_init(): the first port, mapped by the boot code at @p registers. */
void pl011_init(volatile void *registers);
void pl011_enable_input(const struct fdt_walk *node);
void pl011_interrupt(void);
extern unsigned pl011_irq;

#endif
