/* SPDX-License-Identifier: MIT */
/*
 * Exceptions and interrupts, after entry.S: decode, and hand over.
 *
 * An exception of user code becomes a page fault for the memory layer or a
 * trap_user_fault() for the signals.  An exception of kernel code is a page
 * fault in a user copy (resolved, or sent to the copy's fix-up), one of the kernel's
 * half that a hart may see because it remembers that nothing was there, or the
 * end of the machine.
 */
#include "cpu.h"

#include <memory.h>
#include <symbols.h>

#include <quire_riscv64.h>

#include "../../boot/riscv64/paging.h"

static const char *const exception_names[16] = {
    "misaligned fetch", "fetch access fault", "illegal instruction", "breakpoint",
    "misaligned load",  "load access fault",  "misaligned store",    "store access fault",
    "system call",      "system call",        "exception 10",        "exception 11",
    "fetch page fault", "load page fault",    "exception 14",        "store page fault",
};

void
frame_dump(const struct trap_frame *f)
{
    printk("  pc  %016lx  ra  %016lx  sp  %016lx  status %08lx\n", f->pc, f->ra, f->sp, f->status);
    printk("  gp  %016lx  tp  %016lx  t0  %016lx  t1  %016lx\n", f->gp, f->tp, f->t0, f->t1);
    printk("  t2  %016lx  s0  %016lx  s1  %016lx  a0  %016lx\n", f->t2, f->s0, f->s1, f->a[0]);
    printk("  a1  %016lx  a2  %016lx  a3  %016lx  a4  %016lx\n", f->a[1], f->a[2], f->a[3],
           f->a[4]);
    printk("  a5  %016lx  a6  %016lx  a7  %016lx  s2  %016lx\n", f->a[5], f->a[6], f->a[7], f->s2);
    printk("  s3  %016lx  s4  %016lx  s5  %016lx  s6  %016lx\n", f->s3, f->s4, f->s5, f->s6);
    printk("  s7  %016lx  s8  %016lx  s9  %016lx  s10 %016lx\n", f->s7, f->s8, f->s9, f->s10);
    printk("  s11 %016lx  t3  %016lx  t4  %016lx  t5  %016lx\n", f->s11, f->t3, f->t4, f->t5);
    printk("  t6  %016lx  cause %lx  value %lx\n", f->t6, f->cause, f->value);
}

static QR_NORETURN QR_COLD void
die(struct trap_frame *frame, const char *what, uintptr_t address)
{
    printk("kernel: %s, cause %lu, address %lx, cpu %u\n", what, frame->cause, address,
           cpu_this()->index);
    frame_dump(frame);
    memory_explain_fault(address);
    symbol_log("at", frame->pc);
    symbol_log("ra", frame->ra);
    backtrace_log(frame->s0);
    panic("%s in kernel mode at %lx, address %lx", what, frame->pc, address);
}

void
trap_overflow(struct trap_frame *frame)
{
    frame_dump(frame);
    panic("kernel stack overflow on cpu %u", cpu_this()->index);
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

/** This hart may remember the entry as it was before the fault was resolved. */
static void
forget(uintptr_t va)
{
    __asm__ volatile("sfence.vma %0" : : "r"(va) : "memory");
}

static void
page_fault_user(struct trap_frame *frame, uintptr_t va, unsigned access)
{
    enum page_fault_result result = PAGE_FAULT_UNMAPPED;

    irq_enable();
    if (va < USER_LIMIT)
        result = mm_page_fault(frame, va, access);
    if (result == PAGE_FAULT_DONE)
        forget(va);
    else
        trap_user_fault(frame, trap_kind_of(result), va);
}

static const char *
fault_text(uintptr_t va, uint64_t cause)
{
    uint64_t entry = paging_entry(va);

    if (cause == QR_RISCV_FAULT_FETCH)
        return "execution of memory that is not executable";
    if (va < USER_LIMIT)
        return cause == QR_RISCV_FAULT_STORE ? "write to user memory" : "read of user memory";
    if (entry == 0)
        return cause == QR_RISCV_FAULT_STORE ? "write to unmapped memory"
                                             : "read of unmapped memory";
    return cause == QR_RISCV_FAULT_STORE ? "write to read-only memory" : "read of memory";
}

/** A hart may cache that an entry was invalid: look whether the table says otherwise by now. */
static bool
is_stale_miss(uintptr_t va, uint64_t cause)
{
    static const uint64_t wanted[16] = {
        [QR_RISCV_FAULT_FETCH] = PTE_EXECUTE,
        [QR_RISCV_FAULT_LOAD] = PTE_READ,
        [QR_RISCV_FAULT_STORE] = PTE_WRITE | PTE_DIRTY,
    };
    uint64_t needed = wanted[cause] | PTE_ACCESSED;

    return va >= USER_LIMIT && (paging_entry(va) & needed) == needed;
}

static void
page_fault_kernel(struct trap_frame *frame, uintptr_t va, unsigned access)
{
    uintptr_t fixup = qr_riscv_fixup(frame->pc);

    if (is_stale_miss(va, frame->cause)) {
        forget(va);
        return;
    }
    if (va >= USER_LIMIT || fixup == 0)
        die(frame, fault_text(va, frame->cause), va);
    if (frame->status & SSTATUS_SPIE) {
        irq_enable();
        if (mm_page_fault(frame, va, access) == PAGE_FAULT_DONE) {
            irq_disable();
            forget(va);
            return;
        }
        irq_disable();
    }
    frame->pc = fixup;
}

static void
page_fault(struct trap_frame *frame)
{
    bool from_user = frame_from_user(frame);
    unsigned access = qr_riscv_fault_access(frame->cause, from_user);

    if (from_user)
        page_fault_user(frame, frame->value, access);
    else
        page_fault_kernel(frame, frame->value, access);
}

/* ---- Other exceptions --------------------------------------------------------- */

static enum trap_kind
trap_kind_of_cause(uint64_t cause)
{
    switch (cause) {
    case EXCEPTION_FETCH_MISALIGNED:
    case EXCEPTION_LOAD_MISALIGNED:
    case EXCEPTION_STORE_MISALIGNED:
        return TRAP_ALIGNMENT;
    case EXCEPTION_FETCH_ACCESS:
    case EXCEPTION_LOAD_ACCESS:
    case EXCEPTION_STORE_ACCESS:
        return TRAP_BUS;
    case EXCEPTION_ILLEGAL:
        return TRAP_OPCODE;
    case EXCEPTION_BREAKPOINT:
        return TRAP_BRKPT;
    default:
        return TRAP_PROTECTION;
    }
}

static void
exception(struct trap_frame *frame)
{
    const char *name = frame->cause < 16 ? exception_names[frame->cause] : "exception";
    enum trap_kind kind = trap_kind_of_cause(frame->cause);

    if (!frame_from_user(frame)) {
        uintptr_t fixup = qr_riscv_fixup(frame->pc);

        if (fixup == 0)
            die(frame, name, frame->value);
        frame->pc = fixup;
        return;
    }
    if (frame->cause == EXCEPTION_ILLEGAL && fpu_first_use(frame))
        return;
    irq_enable();
    trap_user_fault(frame, kind,
                    kind == TRAP_ALIGNMENT || kind == TRAP_BUS ? frame->value : frame->pc);
}

/* ---- Interrupts ----------------------------------------------------------------- */

static void
interrupt(uint64_t which)
{
    switch (which) {
    case IRQ_TIMER:
        clock_tick_next();
        cpu_count_tick();
        memory_tick();
        sched_tick();
        break;
    case IRQ_SOFTWARE:
        ipi_interrupt();
        break;
    case IRQ_EXTERNAL:
        plic_interrupt();
        break;
    default:
        break;
    }
}

/** Causes 12, 13 and 15. */
static bool
is_page_fault(uint64_t cause)
{
    return cause == QR_RISCV_FAULT_FETCH || cause == QR_RISCV_FAULT_LOAD ||
           cause == QR_RISCV_FAULT_STORE;
}

void
trap_dispatch(struct trap_frame *frame)
{
    if (frame->cause & CAUSE_INTERRUPT)
        interrupt(frame->cause & ~CAUSE_INTERRUPT);
    else if (is_page_fault(frame->cause))
        page_fault(frame);
    else
        exception(frame);
}
