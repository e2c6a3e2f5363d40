/* SPDX-License-Identifier: MIT */
#ifndef KERNEL_X86_CPU_H
#define KERNEL_X86_CPU_H

/**
 * @file
 * x86 instructions, control bits and the arch-private functions.
 */

#include <arch.h>
#include <arch_cpu.h>
#include <asm.h>
#include <kernel_stack.h>
#include <printk.h>

#define CR0_MP ((uintptr_t)1 << 1)
#define CR0_EM ((uintptr_t)1 << 2)
#define CR0_TS ((uintptr_t)1 << 3)
#define CR0_NE ((uintptr_t)1 << 5)
#define CR0_WP ((uintptr_t)1 << 16)
#define CR0_AM ((uintptr_t)1 << 18)

#define CR4_PGE        ((uintptr_t)1 << 7)
#define CR4_OSFXSR     ((uintptr_t)1 << 9)
#define CR4_OSXMMEXCPT ((uintptr_t)1 << 10)
#define CR4_UMIP       ((uintptr_t)1 << 11)
#define CR4_LA57       ((uintptr_t)1 << 12)
#define CR4_FSGSBASE   ((uintptr_t)1 << 16)
#define CR4_PCIDE      ((uintptr_t)1 << 17)
#define CR4_OSXSAVE    ((uintptr_t)1 << 18)
#define CR4_SMEP       ((uintptr_t)1 << 20)
#define CR4_SMAP       ((uintptr_t)1 << 21)
#define CR4_PKE        ((uintptr_t)1 << 22)
#define CR4_CET        ((uintptr_t)1 << 23)

#define DR6_STEP  ((uintptr_t)1 << 14)
#define DR6_CLEAR 0xffff0ff0u

#define MSR_APIC_BASE      0x1bu
#define MSR_PAT            0x277u
#define MSR_S_CET          0x6a2u
#define MSR_X2APIC         0x800u
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_CSTAR          0xc0000083u
#define MSR_FMASK          0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u

#define S_CET_ENDBR ((uint64_t)1 << 2)

#define EFER_SCE ((uint64_t)1 << 0)
#define EFER_NXE ((uint64_t)1 << 11)

#define RFLAGS_TF ((uintptr_t)1 << 8)
#define RFLAGS_DF ((uintptr_t)1 << 10)
#define RFLAGS_NT ((uintptr_t)1 << 14)
#define RFLAGS_RF ((uintptr_t)1 << 16)
#define RFLAGS_AC ((uintptr_t)1 << 18)

static inline void
outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t
inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void
outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint64_t
msr_read(uint32_t msr)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}

static inline void
msr_write(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr"
                     :
                     : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32))
                     : "memory");
}

static inline uint64_t
tsc_read(void)
{
    uint32_t low;
    uint32_t high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

#define DEFINE_CONTROL_REGISTER(name)                                   \
    static inline uintptr_t name##_read(void)                           \
    {                                                                   \
        uintptr_t value;                                                \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(value));          \
        return value;                                                   \
    }                                                                   \
    static inline void name##_write(uintptr_t value)                    \
    {                                                                   \
        __asm__ volatile("mov %0, %%" #name : : "r"(value) : "memory"); \
    }

DEFINE_CONTROL_REGISTER(cr0)
DEFINE_CONTROL_REGISTER(cr2)
DEFINE_CONTROL_REGISTER(cr3)
DEFINE_CONTROL_REGISTER(cr4)
DEFINE_CONTROL_REGISTER(dr6)

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid
cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;

    __asm__ volatile("cpuid"
                     : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                     : "a"(leaf), "c"(subleaf));
    return r;
}

/* ---- features.c ------------------------------------------------------------ */

/** What the boot CPU has; the others are expected to have it too. */
struct cpu_features {
    bool pae, pse, fxsr, sse, cx8, tsc, nx, pge, pcid, smep, smap, umip, branch_tracking, fsgsbase,
        invpcid, xsave, xsaveopt, x2apic, rdrand, gib_pages, la57, pat, pku;
    unsigned physical_bits;
    uint64_t xcr0;        /**< the state components that XSAVE keeps */
    unsigned pkru_offset; /**< of the rights of protection keys in an XSAVE image */
    unsigned fpu_bytes;
    char name[49];
    char flags[512];
};

extern struct cpu_features cpu_features;

/** Read CPUID into cpu_features; once, on the boot CPU. */
void features_detect(void);
/** Set CR0, CR4, EFER, XCR0 and PAT of the calling CPU accordingly. */
void features_enable(void);

/* ---- descriptors.c ---------------------------------------------------------- */

/** Load GDT, TSS, IDT and the way of system calls of the calling CPU, which is @p cpu. */
void descriptors_load(struct cpu *cpu);
/** Give the exceptions that cannot use the thread's stack the one at @p stack. */
void descriptors_set_fault_stack(struct cpu *cpu, uintptr_t stack);

/* ---- entry.S, switch.S ------------------------------------------------------ */

extern const uintptr_t vector_stubs[256];
void switch_stacks(uintptr_t *save_sp, uintptr_t next_sp);
/** From entry.S: any vector. */
void trap_dispatch(struct trap_frame *frame);

/* ---- smp.c ------------------------------------------------------------------ */

extern struct cpu cpus[CONFIG_MAX_CPUS];
/** First code of an application CPU, from boot.S, on its own stack. */
QR_NORETURN void ap_entry(struct cpu *cpu);

/* ---- fpu.c -------------------------------------------------------------------- */

/** For a switch of threads, interrupts off; only fpu_restore() reads what this saves. */
void fpu_save_fast(void *image);
void fpu_restore(const void *image);
/** The state that a program starts with. */
void fpu_image_init(void *image);
/** The parts of a saved state that tracers see, by the number of their note; fpu.c. */
size_t fpu_note_bytes(unsigned note);
void fpu_note_get(const void *from, unsigned note, void *image);
bool fpu_note_set(void *to, unsigned note, const void *image);
/** arch_thread.flags: its tracer lets it do one instruction at a time. */
#define THREAD_STEPPED 1u
/** Let an XSAVE image load these rights of protection keys. */
void fpu_image_set_pkru(void *image, uint32_t rights);
/** The rights of the running thread; only with PKU. */
uint32_t pkru_read(void);

/* ---- trap.c ------------------------------------------------------------------- */

/** A double fault whose registers are in @p frame, with the stack pointer at @p sp. */
QR_NORETURN void trap_double_fault(struct trap_frame *frame, uintptr_t sp);

/* ---- devices ------------------------------------------------------------------- */

/** Set up the first and second serial port; prints work after this. */
void serial_init(void);
/** Turn on the receive interrupt of the terminal. */
void serial_enable_input(void);
void serial_interrupt(void);
/** Wait until everything has left the transmitters, but not for ever. */
void serial_drain(void);
/** Break whatever lock a stopped CPU may hold, and send the log to the terminal too. */
void serial_panic(void);

/** Map and enable the interrupt controllers; boot CPU. */
void apic_init(void);
/** Enable the calling CPU's own controller. */
void lapic_init(void);
void lapic_eoi(void);
uint32_t lapic_id(void);
void lapic_send(uint32_t apic_id, uint32_t command);
/** Send to every CPU but the caller. */
void lapic_send_others(uint32_t command);
void lapic_timer_start(void);
/** The running count of a timer set to its longest period: for calibration. */
void lapic_timer_calibrate_start(void);
uint32_t lapic_timer_calibrate_read(void);
void lapic_timer_calibrated(uint64_t counts_per_tick);
/** Deliver legacy line @p irq to the boot CPU as VECTOR_IRQ_BASE + irq. */
void ioapic_route(unsigned irq);

/** What a device writes, and where, to interrupt. */
struct msi_message {
    uint32_t address, data;
};
/**
 * A vector of the boot CPU for a device that interrupts by messages; boot CPU, at start-up.
 * @param out_number  for interrupt_attach(); @return false where there is none left
 */
bool msi_allocate(struct msi_message *out_message, unsigned *out_number);

/** Calibrate the time-stamp counter and the timer, read the date. */
void clock_init(void);

#define LAPIC_INIT    0x00004500u
#define LAPIC_STARTUP 0x00004600u
#define LAPIC_FIXED   0x00004000u

#endif
