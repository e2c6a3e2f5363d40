/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts, after entry.S: decode, and hand over.
 *
 * An exception of user code becomes a page fault for the memory layer or a
 * trap_user_fault() for the signals.  An exception of kernel code is a page
 * fault in a user copy (resolved, or sent to the copy's fix-up), or the end of
 * the machine.
 */
#include "cpu.h"

#include <interrupt.h>
#include <memory.h>
#include <symbols.h>

#include <quire/arch.h>
#include <quire_aarch64.h>

/* Classes of ESR_EL1 beside the aborts of quire_aarch64.h. */
enum {
    CLASS_BRANCH_TARGET = 0x0d,
    CLASS_ILLEGAL_STATE = 0x0e,
    CLASS_PC_ALIGNMENT = 0x22,
    CLASS_SP_ALIGNMENT = 0x26,
    CLASS_FLOAT = 0x2c,
    CLASS_BREAKPOINT = 0x30,
    CLASS_STEP = 0x32,
    CLASS_WATCHPOINT = 0x34,
    CLASS_BRK = 0x3c,
};

/** Software interrupts between CPUs are numbered by enum ipi_kind. */
#define IPI_COUNT (IPI_BARRIER + 1)

void
frame_dump(const struct trap_frame *f)
{
    printk("  pc  %016lx  sp  %016lx  pstate %08lx  esr %08lx\n", f->pc, f->sp, f->pstate, f->esr);
    for (int i = 0; i < 28; i += 4)
        printk("  x%-2d %016lx  x%-2d %016lx  x%-2d %016lx  x%-2d %016lx\n", i, f->x[i], i + 1,
               f->x[i + 1], i + 2, f->x[i + 2], i + 3, f->x[i + 3]);
    printk("  x28 %016lx  x29 %016lx  x30 %016lx  far %016lx\n", f->x[28], f->x[29], f->x[30],
           f->far);
}

static QR_NORETURN QR_COLD void
die(struct trap_frame *frame, const char *what)
{
    printk("kernel: %s, address %lx, cpu %u\n", what, frame->far, cpu_this()->index);
    frame_dump(frame);
    memory_explain_fault(frame->far);
    symbol_log("at", frame->pc);
    backtrace_log(frame->x[29]);
    panic("%s in kernel mode at %lx, address %lx", what, frame->pc, frame->far);
}

void
trap_stack_overflow(struct trap_frame *frame)
{
    printk("kernel: no room on the stack at %lx\n", frame->sp);
    frame_dump(frame);
    panic("kernel stack overflow on cpu %u", cpu_this()->index);
}

void
trap_fatal(struct trap_frame *frame, unsigned kind)
{
    static const char *const names[] = {"exception on the wrong stack pointer", "fast interrupt",
                                        "system error"};

    die(frame, names[kind]);
}

/* ---- Page faults ------------------------------------------------------------ */

static enum trap_kind
trap_kind_of(enum page_fault_result result)
{
    switch (result) {
    case PAGE_FAULT_DENIED:
        return TRAP_DENIED;
    case PAGE_FAULT_BUS:
        return TRAP_BUS;
    case PAGE_FAULT_POISON:
        return TRAP_POISON;
    case PAGE_FAULT_NO_MEMORY:
        return TRAP_NO_MEMORY;
    default:
        return TRAP_UNMAPPED;
    }
}

/** Whether the memory layer can do something about an abort. */
static bool
is_page_fault(uint64_t esr)
{
    return qr_aarch64_fault_kind(esr) <= QR_AARCH64_FAULT_PERMISSION;
}

/**
 * Where a live leaf is split (FEAT_BBM), a CPU may for a moment find the old and a new
 * entry, and may say so.  @return whether that was it
 */
static bool
conflict_settled(uint64_t esr)
{
    if (qr_aarch64_fault_kind(esr) != QR_AARCH64_FAULT_TLB_CONFLICT)
        return false;
    qr_arch_flush_all(QR_FLUSH_HERE);
    return true;
}

static void
abort_user(struct trap_frame *frame)
{
    enum page_fault_result result = PAGE_FAULT_UNMAPPED;

    if (conflict_settled(frame->esr))
        return;
    if (!is_page_fault(frame->esr)) {
        bool alignment = qr_aarch64_fault_kind(frame->esr) == QR_AARCH64_FAULT_ALIGNMENT;

        trap_user_fault(frame, alignment ? TRAP_ALIGNMENT : TRAP_BUS, frame->far);
        return;
    }
    if (frame->far < USER_LIMIT)
        result = mm_page_fault(frame, frame->far, qr_aarch64_fault_access(frame->esr));
    if (result != PAGE_FAULT_DONE)
        trap_user_fault(frame, trap_kind_of(result), frame->far);
}

static const char *
fault_text(const struct trap_frame *frame)
{
    unsigned access = qr_aarch64_fault_access(frame->esr);

    if (!is_page_fault(frame->esr))
        return "memory error";
    if (access & QR_ACCESS_EXEC)
        return "execution of memory that is not executable";
    if (qr_aarch64_fault_kind(frame->esr) == QR_AARCH64_FAULT_TRANSLATION)
        return access & QR_ACCESS_WRITE ? "write to unmapped memory" : "read of unmapped memory";
    return access & QR_ACCESS_WRITE ? "write to read-only memory" : "read of user memory";
}

static void
abort_kernel(struct trap_frame *frame)
{
    uintptr_t fixup = qr_aarch64_fixup(frame->pc);

    if (conflict_settled(frame->esr))
        return;
    if (frame->far >= USER_LIMIT || fixup == 0)
        die(frame, fault_text(frame));
    if (!(frame->pstate & PSR_IRQ_MASKED) && is_page_fault(frame->esr)) {
        irq_enable();
        if (mm_page_fault(frame, frame->far, qr_aarch64_fault_access(frame->esr)) ==
            PAGE_FAULT_DONE) {
            irq_disable();
            return;
        }
        irq_disable();
    }
    frame->pc = fixup;
}

/* ---- Other exceptions --------------------------------------------------------- */

static enum trap_kind
trap_kind_of_class(unsigned class)
{
    switch (class) {
    case CLASS_PC_ALIGNMENT:
    case CLASS_SP_ALIGNMENT:
        return TRAP_ALIGNMENT;
    case CLASS_FLOAT:
        return TRAP_FLOAT;
    case CLASS_BREAKPOINT:
    case CLASS_WATCHPOINT:
    case CLASS_BRK:
        return TRAP_BRKPT;
    case CLASS_STEP:
        return TRAP_STEP;
    default:
        return TRAP_OPCODE; /* undefined, or of an extension that is off */
    }
}

void
trap_user(struct trap_frame *frame)
{
    unsigned class = QR_AARCH64_ESR_CLASS(frame->esr);

    irq_enable();
    if (class == QR_AARCH64_CLASS_FETCH_USER || class == QR_AARCH64_CLASS_DATA_USER)
        abort_user(frame);
    else
        trap_user_fault(frame, trap_kind_of_class(class),
                        class == CLASS_PC_ALIGNMENT ? frame->far : frame->pc);
}

static const char *
exception_name(unsigned class)
{
    switch (class) {
    case CLASS_BRK:
        return "breakpoint";
    case CLASS_BRANCH_TARGET:
        return "branch to where none may arrive";
    default:
        return "exception";
    }
}

void
trap_kernel(struct trap_frame *frame)
{
    unsigned class = QR_AARCH64_ESR_CLASS(frame->esr);

    if (class == QR_AARCH64_CLASS_FETCH_KERNEL || class == QR_AARCH64_CLASS_DATA_KERNEL)
        abort_kernel(frame);
    else
        die(frame, exception_name(class));
}

/* ---- Interrupts ----------------------------------------------------------------- */

static void
software_interrupt(unsigned kind)
{
    switch (kind) {
    case IPI_TLB:
        mm_tlb_interrupt();
        break;
    case IPI_BARRIER:
        cpu_barrier_interrupt();
        break;
    case IPI_STOP:
        for (;;)
            __asm__ volatile("msr daifset, #15\n\twfi");
    default:
        break;
    }
}

void
trap_interrupt(struct trap_frame *frame)
{
    unsigned acknowledged = gic_acknowledge();
    unsigned number = gic_number(acknowledged);

    (void)frame;
    if (number < IPI_COUNT) {
        gic_end(acknowledged); /* first: the handler may take long, or not come back */
        software_interrupt(number);
    } else if (number == arm_timer_irq) {
        arm_timer_interrupt();
        gic_end(acknowledged);
        cpu_count_tick();
        memory_tick();
        sched_tick();
    } else if (number < GIC_SPECIAL) {
        if (number == pl011_irq)
            pl011_interrupt();
        else
            interrupt_dispatch(number);
        gic_end(acknowledged);
    }
}
